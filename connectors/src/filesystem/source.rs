//! Files as a source: each file is a split, and a position in it counts its records.
//!
//! Files are read one after another: in a bounded run by name; when following, by time of modification and then by name.
//! A file becomes a split when its first rows are there, so that one that is not complete holds nobody back.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::filesystem::paths::found;
use crate::filesystem::text::{Step, TextFile, incomplete};
use crate::filesystem::{Reading, complete};
use crate::format::parquet::ParquetReader;
use crate::format::{Bad, Decoded, Format};
use crate::source::{Changes, Poll, Progress, Rejected, Source, SourceBatch};

/// How often a followed file is asked for its length.
const GROWTH_CHECK: Duration = Duration::from_millis(100);

/// A source of files.
pub(crate) struct Files {
    reading: Reading,
    schema: SchemaRef,
    bounded: bool,
    resume: BTreeMap<String, u64>,
    files: Vec<OneFile>,
    known: BTreeMap<PathBuf, usize>,
    /// Files with something to read, in order.
    queue: VecDeque<usize>,
    current: Option<usize>,
    /// What to say before reading on.
    news: VecDeque<Poll>,
    splits: u32,
    listed: Option<Instant>,
    checked: Option<Instant>,
    rows: u64,
    bytes_read: Arc<AtomicU64>,
}

struct OneFile {
    path: PathBuf,
    name: String,
    /// Its split, once it has one.
    split: Option<u32>,
    /// Records read, or to be skipped.
    records: u64,
    reader: Option<Reader>,
    ended: bool,
    /// Length and time of modification when it was last read to its end.
    seen: (u64, Option<SystemTime>),
    bytes: u64,
}

enum Reader {
    Text(TextFile),
    Parquet(ParquetReader),
}

impl Files {
    pub(crate) fn new(reading: Reading, schema: SchemaRef, bounded: bool) -> Files {
        Files {
            reading,
            schema,
            bounded,
            resume: BTreeMap::new(),
            files: Vec::new(),
            known: BTreeMap::new(),
            queue: VecDeque::new(),
            current: None,
            news: VecDeque::new(),
            splits: 0,
            listed: None,
            checked: None,
            rows: 0,
            bytes_read: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Looks for files not known yet.
    fn list(&mut self) -> Result<()> {
        let mut there = self.reading.list()?;
        if !self.reading.followed {
            self.reading.wanted(&there)?;
        }
        if !self.bounded {
            there.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        }
        for found in there {
            if self.known.contains_key(&found.path) {
                continue;
            }
            let name = found.name();
            let records = self.resume.get(&name).copied().unwrap_or(0);
            self.known.insert(found.path.clone(), self.files.len());
            self.queue.push_back(self.files.len());
            self.files.push(OneFile {
                path: found.path,
                name,
                split: None,
                records,
                reader: None,
                ended: false,
                seen: (0, None),
                bytes: found.bytes,
            });
        }
        self.listed = Some(Instant::now());
        Ok(())
    }

    /// Looks for files that have changed since they were read to their end.
    fn check(&mut self) -> Result<()> {
        let mut changed = Vec::new();
        for (index, file) in self.files.iter_mut().enumerate().filter(|(_, file)| !file.ended) {
            match found(&file.path)? {
                Some(now) => {
                    if (now.bytes, Some(now.modified)) != file.seen && !self.queue.contains(&index) {
                        file.bytes = now.bytes;
                        changed.push((now.modified, now.path, index));
                    }
                }
                // It was removed: nothing more will come.
                None => {
                    file.ended = true;
                    file.reader = None;
                    self.news.extend(file.split.map(Poll::SplitEnd));
                }
            }
        }
        changed.sort();
        self.queue.extend(changed.into_iter().map(|(_, _, index)| index));
        self.checked = Some(Instant::now());
        Ok(())
    }

    /// The split of a file, made known before what comes from it.
    fn announce(&mut self, index: usize) -> u32 {
        let file = &mut self.files[index];
        if let Some(split) = file.split {
            return split;
        }
        let split = self.splits;
        self.splits += 1;
        file.split = Some(split);
        self.news.push_back(Poll::Split { split, name: file.name.clone() });
        split
    }

    /// Reads on in a file; what it has to say goes to the news.
    fn read(&mut self, index: usize) -> Result<()> {
        let file = &mut self.files[index];
        // Before reading, so that what is added meanwhile is a change.
        let now = match self.bounded {
            true => None,
            false => found(&file.path)?,
        };
        if !self.bounded && now.is_none() {
            // It was removed since it was seen; the next check ends its split.
            self.current = None;
            return Ok(());
        }
        match file.step(&self.reading, &self.schema, &self.bytes_read)? {
            Step::Rows(decoded, line) => {
                let mut batch = match file.batch(decoded, line, self.reading.text.tolerant) {
                    Ok(batch) => batch,
                    Err(error) => {
                        // Polled again, it must not go on behind the rows that it failed to give.
                        file.reader = None;
                        return Err(error);
                    }
                };
                batch.split = self.announce(index);
                self.rows += batch.rows.num_rows() as u64;
                self.news.push_back(Poll::Batch(batch));
            }
            Step::End => {
                self.current = None;
                let growing = match &file.reader {
                    Some(Reader::Text(text)) => !self.bounded && text.can_grow(),
                    _ => false,
                };
                if growing {
                    file.seen = now.map_or((0, None), |now| (now.bytes, Some(now.modified)));
                    return Ok(());
                }
                file.ended = true;
                file.reader = None;
                let split = self.announce(index);
                self.news.push_back(Poll::SplitEnd(split));
            }
            Step::Incomplete(why) if !self.reading.growing => return Err(incomplete(&why)),
            Step::Incomplete(_) => {
                self.current = None;
                file.seen = now.map_or((0, None), |now| (now.bytes, Some(now.modified)));
            }
        }
        Ok(())
    }
}

impl OneFile {
    fn step(&mut self, reading: &Reading, schema: &SchemaRef, bytes_read: &Arc<AtomicU64>) -> Result<Step> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let reader = match reading.format {
                    Format::Parquet => {
                        let Some(file) = complete(&self.path, reading.growing)? else {
                            return Ok(Step::Incomplete(self.name.clone()));
                        };
                        let reader =
                            ParquetReader::open(file, &self.name, schema.clone(), self.records, reading.max_rows)?;
                        if reader.rows < self.records {
                            return Err(Error::Data(format!(
                                "{} has {} rows, but {} were read from it before: it was replaced; start without the \
                                 saved position",
                                self.name, reader.rows, self.records
                            )));
                        }
                        Reader::Parquet(reader)
                    }
                    format => {
                        let decoder = reading.text.decoder(format, schema, &self.name)?;
                        let bytes = bytes_read.clone();
                        Reader::Text(TextFile::new(&self.path, decoder, self.records, reading.max_rows, bytes))
                    }
                };
                none.insert(reader)
            }
        };
        match reader {
            Reader::Text(text) => text.step(reading.growing),
            Reader::Parquet(parquet) => {
                let before = self.records;
                match parquet.next()? {
                    Some(decoded) => {
                        let share = self.bytes as f64 * decoded.records as f64 / parquet.rows.max(1) as f64;
                        bytes_read.fetch_add(share as u64, Ordering::Relaxed);
                        Ok(Step::Rows(decoded, before))
                    }
                    None => Ok(Step::End),
                }
            }
        }
    }

    /// Decoded records as a batch; bad ones are set apart, or an error if the table is not `tolerant`.
    fn batch(&mut self, decoded: Decoded, line: u64, tolerant: bool) -> Result<SourceBatch> {
        let text = matches!(self.reader, Some(Reader::Text(_)));
        let place = |bad: &Bad| match text {
            true => format!("{} line {}", self.name, line + bad.lines as u64 + 1),
            false => format!("{} row {}", self.name, line + bad.record as u64 + 1),
        };
        if let Some(bad) = decoded.bad.first().filter(|_| !tolerant) {
            return Err(rejection(&place(bad), bad));
        }
        let before = self.records;
        let rejected = decoded.bad.iter().map(|bad| rejected(before, place(bad), bad)).collect();
        self.records += decoded.records as u64;
        Ok(SourceBatch {
            // The caller knows better, once it has made the split known.
            split: self.split.unwrap_or_default(),
            rows: decoded.rows,
            diffs: None,
            changes: Changes::Each,
            offset: self.records,
            rejected,
        })
    }
}

/// A bad record set apart; `before` records came before those decoded with it.
pub(crate) fn rejected(before: u64, place: String, bad: &Bad) -> Rejected {
    let reason = match &bad.column {
        Some(column) => format!("column '{column}': {}", bad.reason),
        None => bad.reason.clone(),
    };
    Rejected { offset: before + bad.record as u64 + 1, input: bad.input.clone(), place, reason }
}

/// The error for a bad record, with what to do.
pub(crate) fn rejection(place: &str, bad: &Bad) -> Error {
    let skip = "set on_error = 'skip' to read on without such rows";
    Error::Data(match &bad.column {
        Some(column) => format!(
            "{place}, column '{column}': {}; correct it, declare the column with another type, or {skip}",
            bad.reason
        ),
        None => format!("{place}: {}; correct it, or {skip}", bad.reason),
    })
}

impl Source for Files {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        let until = Instant::now() + wait;
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            if let Some(index) = self.current {
                self.read(index)?;
                continue;
            }
            if let Some(index) = self.queue.pop_front() {
                self.current = Some(index);
                continue;
            }
            let passed = |since: Option<Instant>, interval| since.is_none_or(|since| since.elapsed() >= interval);
            if self.bounded {
                if self.listed.is_some() {
                    return Ok(Poll::End);
                }
                self.list()?;
                continue;
            }
            let growth = GROWTH_CHECK.min(self.reading.monitor);
            if passed(self.checked, growth) {
                self.check()?;
            }
            if passed(self.listed, self.reading.monitor) {
                self.list()?;
            }
            if self.queue.is_empty() && self.news.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Poll::Idle);
                }
                std::thread::sleep(left.min(growth));
            }
        }
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        self.resume = positions.iter().cloned().collect();
        Ok(())
    }

    fn progress(&self) -> Progress {
        let total = self.files.iter().map(|file| file.bytes).sum();
        Progress {
            rows: self.rows,
            bytes: self.bytes_read.load(Ordering::Relaxed),
            total_bytes: self.listed.map(|_| total),
        }
    }
}
