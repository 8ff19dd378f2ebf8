//! Files as a source: each file is a split, and a position in it counts its records.
//!
//! Without event time, files are read one after another: in a bounded run by name; when following, by time of modification
//! and then by name. With it, the file that is furthest behind is read next, batch by batch; what one listing finds is looked
//! at first, so that all of it is made known, with the times at which it begins, before any row. A file that is not complete
//! is made known when its first rows are there, so that it holds nobody back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::connector::{Reach, Wanted};
use crate::error::{Error, Result};
use crate::filesystem::blocks::{Blocks, changed, incomplete};
use crate::filesystem::content::{Content, Verdict};
use crate::filesystem::lane::{Lane, Outcome, Rows};
use crate::filesystem::names::SharedNames;
use crate::filesystem::one_file::OneFile;
use crate::filesystem::paths::{Found, found};
use crate::filesystem::pool::Pool;
use crate::filesystem::reader::{ParquetFile, Reader};
use crate::filesystem::reading::Reading;
use crate::filesystem::sorted::{Sorted, Sorting};
use crate::filesystem::step::{Lot, Making, Step};
use crate::filesystem::watch::Watch;
use crate::format::kind::Format;
use crate::format::text::TextDecoder;
use crate::source::{Poll, Progress, Source};

/// A file of fewer bytes is decoded by who polls: handing it to another thread costs more than it saves.
const SMALL: u64 = 32 << 10;
/// How many followed files that grow are kept open.
const MOST_OPEN: usize = 64;
/// The most bytes of rows that first looks keep, so that what was decoded for them is not decoded again.
const MOST_KEPT: usize = 64 << 20;

/// A source of files.
pub(crate) struct Files {
    pub(crate) reading: Reading,
    wanted: Wanted,
    making: Making,
    /// What decoders of text are made from.
    decoder: Option<TextDecoder>,
    /// If files are to be sorted.
    sorting: Option<Arc<Sorting>>,
    pub(crate) names: SharedNames,
    resume: BTreeMap<String, u64>,
    pub(crate) files: BTreeMap<usize, OneFile>,
    next_file: usize,
    pub(crate) known: HashMap<PathBuf, usize>,
    /// Files that are to be looked at before any is read.
    looks: VecDeque<usize>,
    /// Files with something to read, by the event time reached and then by rank.
    due: BTreeSet<(i64, u64, usize)>,
    ranks: u64,
    /// What to say before reading on.
    pub(crate) news: VecDeque<Poll>,
    splits: u32,
    pool: Option<Pool>,
    /// Files of which steps are under way in the pool, or worked off and not taken.
    ahead: BTreeSet<usize>,
    pub(crate) watch: Watch,
    /// Files that grow and are kept open, the latest last.
    open: VecDeque<usize>,
    kept: usize,
    rows: u64,
    total_bytes: u64,
    bytes_read: Arc<AtomicU64>,
}

impl Files {
    pub(crate) fn new(
        reading: Reading,
        wanted: Wanted,
        event_time: Option<usize>,
        names: SharedNames,
    ) -> Result<Files> {
        let decoder = match reading.format {
            Format::Parquet => None,
            format => Some(reading.text.decoder(format, &wanted, &reading.place.text())?),
        };
        let sorting = reading.sorted.then_some(event_time).flatten();
        let sorting = sorting
            .map(|column| Sorting::new(wanted.schema.clone(), column, reading.text.tolerant, reading.max_sorted));
        Ok(Files {
            making: Making { max_rows: reading.max_rows, event_time },
            watch: Watch::new(reading.monitor, reading.place.folder()),
            reading,
            wanted,
            decoder,
            sorting: sorting.map(Arc::new),
            names,
            resume: BTreeMap::new(),
            files: BTreeMap::new(),
            next_file: 0,
            known: HashMap::new(),
            looks: VecDeque::new(),
            due: BTreeSet::new(),
            ranks: 0,
            news: VecDeque::new(),
            splits: 0,
            pool: None,
            ahead: BTreeSet::new(),
            open: VecDeque::new(),
            kept: 0,
            rows: 0,
            total_bytes: 0,
            bytes_read: Arc::new(AtomicU64::new(0)),
        })
    }

    fn follows(&self) -> bool {
        self.reading.reach == Reach::Follow
    }

    /// Looks for files not known yet.
    fn list(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut there = self.reading.list()?;
        if self.follows() {
            there = self.settle(there, now);
            there.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        } else if !self.reading.followed {
            self.reading.wanted(&there)?;
        }
        // What comes up while others are followed is being written, most likely.
        let active = self.watch.has_listed() && there.len() <= MOST_OPEN;
        for found in there {
            let (path, identity) = (found.name(), found.identity);
            let name = match self.reading.reach {
                Reach::Follow => self.names.lock().keep(path, identity),
                Reach::Again if self.reading.followed => self.names.lock().of(path, identity),
                Reach::Again | Reach::Once { .. } => path,
            };
            self.add(found, name, active, now);
        }
        self.watch.listed(now);
        Ok(())
    }

    /// A file that was not known, and may be one that grows.
    pub(crate) fn add(&mut self, found: Found, name: String, active: bool, now: Instant) {
        let id = self.next_file;
        self.next_file += 1;
        let records = self.resume.get(&name).copied().unwrap_or(0);
        let active_until = active.then(|| self.watch.activate(id, now));
        self.total_bytes += found.bytes;
        self.known.insert(found.path.clone(), id);
        let file = OneFile {
            path: found.path,
            name,
            identity: found.identity,
            split: None,
            records,
            lane: None,
            ended: false,
            seen: (found.bytes, Some(found.modified)),
            bytes: found.bytes,
            rank: 0,
            reached: i64::MIN,
            queued: false,
            kept: 0,
            active_until,
            missing: None,
            listing: self.watch.listing(),
            leaving: false,
            whole: None,
        };
        self.files.insert(id, file);
        self.queue(id);
    }

    /// Gives a file its turn: to be looked at, if its split is to be made known with the time at which it begins.
    pub(crate) fn queue(&mut self, id: usize) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if std::mem::replace(&mut file.queued, true) {
            return;
        }
        file.rank = self.ranks;
        self.ranks += 1;
        if self.making.event_time.is_some() && file.split.is_none() {
            self.looks.push_back(id);
        } else {
            self.due.insert((file.reached, file.rank, id));
        }
    }

    fn unqueue(&mut self, id: usize) {
        if let Some(file) = self.files.get_mut(&id) {
            file.queued = false;
            self.due.remove(&(file.reached, file.rank, id));
            self.kept -= std::mem::take(&mut file.kept);
        }
    }

    /// The split of a file, made known before what comes from it.
    fn announce(&mut self, id: usize, begins: Option<i64>) -> u32 {
        let Some(file) = self.files.get_mut(&id) else { return 0 };
        *file.split.get_or_insert_with(|| {
            let split = self.splits;
            self.splits += 1;
            self.news.push_back(Poll::Split { split, name: file.name.clone(), begins });
            split
        })
    }

    /// No more comes from a file.
    pub(crate) fn end(&mut self, id: usize) {
        self.unqueue(id);
        let Some(file) = self.files.get_mut(&id) else { return };
        file.lane = None;
        if !std::mem::replace(&mut file.ended, true) {
            self.news.extend(file.split.map(Poll::SplitEnd));
        }
    }

    /// Ends a file that is not one of the table's any more.
    pub(crate) fn forget(&mut self, id: usize) {
        self.end(id);
        let Some(file) = self.files.remove(&id) else { return };
        if self.known.get(&file.path) == Some(&id) {
            self.known.remove(&file.path);
        }
        self.names.lock().forget(file.identity);
        self.looks.retain(|look| *look != id);
    }

    /// A file has so many bytes more than it had.
    pub(crate) fn grown(&mut self, bytes: u64) {
        self.total_bytes += bytes;
    }

    /// A file holds another content than before, which is another split.
    pub(crate) fn begin_anew(&mut self, id: usize) -> Result<()> {
        let Some(file) = self.files.get(&id) else { return Ok(()) };
        let (path, leaving) = (file.path.clone(), file.leaving);
        self.forget(id);
        if leaving {
            return Ok(());
        }
        if let Some(found) = found(&path)? {
            let now = Instant::now();
            let name = self.names.lock().give(found.name(), found.identity);
            self.add(found, name, true, now);
        }
        Ok(())
    }

    /// The reader of a file.
    fn lane(&mut self, id: usize) -> Result<&mut Lane> {
        let Some(file) = self.files.get_mut(&id) else {
            return Err(Error::Internal("a file that is not known is to be read".to_string()));
        };
        let lane = match file.lane.take() {
            Some(lane) => lane,
            None => {
                let skip = if self.sorting.is_some() { 0 } else { file.records };
                let reach = self.reading.reach;
                let bytes_read = self.bytes_read.clone();
                let reader = match &self.decoder {
                    None => Reader::Parquet(Box::new(ParquetFile {
                        path: file.path.clone(),
                        name: file.name.clone(),
                        wanted: self.wanted.clone(),
                        reach,
                        max_rows: self.making.max_rows,
                        position: skip,
                        bytes_read,
                        reader: None,
                        seen: (0, None),
                    })),
                    Some(decoder) => {
                        let decoder = decoder.named(&file.name);
                        let tolerant = self.reading.text.tolerant;
                        let blocks = Blocks::new(&file.path, file.identity, decoder, skip, reach, tolerant, bytes_read);
                        Reader::Text(Box::new(blocks))
                    }
                };
                let rows = match &self.sorting {
                    Some(sorting) => Rows::Sorted(Box::new(Sorted::new(reader, sorting.clone(), file.records))),
                    None => Rows::AsTheyStand(reader),
                };
                Lane::new(rows, self.making)
            }
        };
        Ok(file.lane.insert(lane))
    }

    /// Looks when a file begins, and makes its split known. Whether it is done with that.
    fn look(&mut self, id: usize, until: Instant) -> Result<bool> {
        // Statistics say where the rows as they stand begin.
        let event_time = self.making.event_time.filter(|_| self.sorting.is_none());
        let Some(bytes) = self.files.get(&id).map(|file| file.bytes) else { return Ok(true) };
        let lane = self.lane(id)?;
        let begins = match event_time {
            Some(column) => lane.reader(|reader| match reader {
                Reader::Parquet(parquet) => parquet.begins(column),
                Reader::Text(_) => Ok(None),
            })?,
            None => None,
        };
        if begins.is_some() {
            self.begin(id, begins);
            return Ok(true);
        }
        loop {
            let outcome = lane.ask(id).run();
            lane.put(outcome);
            match lane.peek().last() {
                Some(Ok(Step::Working)) => {
                    lane.take();
                    if Instant::now() >= until {
                        return Ok(false);
                    }
                }
                // So that a small file need not be opened twice.
                Some(Ok(Step::Rows(_))) if bytes < SMALL && lane.ahead() == 1 => {}
                _ => break,
            }
        }
        let (mut begins, mut size, mut rows) = (None, 0, false);
        for step in lane.peek() {
            if let Ok(Step::Rows(lots)) = step {
                rows = true;
                begins = lots.iter().filter_map(|lot| lot.times).map(|(least, _)| least).chain(begins).min();
                size += lots.iter().map(|lot| lot.decoded.rows.get_array_memory_size()).sum::<usize>();
            }
        }
        if !rows {
            // It has nothing yet, or never will.
            if let Some(step) = lane.take() {
                self.took(id, step)?;
            }
            return Ok(true);
        }
        let keep = self.kept + size <= MOST_KEPT || self.sorting.is_some();
        if let Some(file) = self.files.get_mut(&id) {
            if keep {
                file.kept = size;
                self.kept += size;
                file.close();
            } else {
                file.lane = None;
            }
        }
        self.begin(id, begins);
        Ok(true)
    }

    fn begin(&mut self, id: usize, begins: Option<i64>) {
        self.announce(id, begins);
        if let Some(file) = self.files.get_mut(&id) {
            file.reached = begins.unwrap_or(i64::MIN);
            self.due.insert((file.reached, file.rank, id));
        }
    }

    /// What a file has to say goes to the news.
    fn took(&mut self, id: usize, step: Result<Step>) -> Result<()> {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                self.retract(id);
                return Err(error);
            }
        };
        match step {
            Step::Working => {}
            Step::Rows(lots) => return self.give(id, lots),
            Step::End => self.at_end(id)?,
            Step::Incomplete(why) if !self.reading.reach.is_growing() => {
                self.retract(id);
                return Err(incomplete(&why));
            }
            Step::Incomplete(_) if self.reading.reach == Reach::Again => self.end(id),
            Step::Incomplete(_) => self.rest(id),
            Step::Other(Verdict::Begun) => self.begin_anew(id)?,
            Step::Other(verdict) => {
                let Some(file) = self.files.get(&id) else { return Ok(()) };
                let position = file.content().unwrap_or_default().position();
                return Err(changed(&file.path, verdict, position));
            }
            Step::Replaced => {
                self.unqueue(id);
                self.watch.list_soon();
            }
        }
        Ok(())
    }

    /// Rows of a file are given, up to the first that is an error. Those before it come first, and it is met again then.
    fn give(&mut self, id: usize, lots: Vec<Lot>) -> Result<()> {
        let (text, tolerant) = (self.reading.format != Format::Parquet, self.reading.text.tolerant);
        let by_record = !text && self.sorting.is_none();
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        self.kept -= std::mem::take(&mut file.kept);
        let before = (file.reached, file.rank, id);
        let (mut batches, mut failed) = (Vec::new(), None);
        for lot in lots {
            let greatest = lot.times.map_or(i64::MIN, |(_, greatest)| greatest);
            match file.batch(lot, by_record, text, tolerant) {
                Ok(batch) => batches.push(batch),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            file.reached = file.reached.max(greatest);
        }
        if self.due.remove(&before) {
            self.due.insert((file.reached, file.rank, id));
        }
        if failed.is_some() {
            self.retract(id);
        }
        if let Some(error) = failed.filter(|_| batches.is_empty()) {
            return Err(error);
        }
        let split = self.announce(id, None);
        for mut batch in batches {
            batch.split = split;
            self.rows += batch.rows.num_rows() as u64;
            self.news.push_back(Poll::Batch(batch));
        }
        Ok(())
    }

    /// Polled again after an error, it must not go on behind the rows that it failed to give.
    fn retract(&mut self, id: usize) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.lane = None;
        self.kept -= std::mem::take(&mut file.kept);
        file.queued = true;
        let place = (file.reached, file.rank, id);
        if self.making.event_time.is_some() && file.split.is_none() {
            self.due.remove(&place);
            if !self.looks.contains(&id) {
                self.looks.push_front(id);
            }
        } else {
            self.due.insert(place);
        }
    }

    /// A file was read to its end.
    fn at_end(&mut self, id: usize) -> Result<()> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let grows = file.lane.as_ref().is_some_and(|lane| lane.reader(|reader| reader.can_grow()));
        if grows && !file.leaving {
            self.rest(id);
            return Ok(());
        }
        if file.leaving {
            self.forget(id);
            return Ok(());
        }
        if self.reading.reach == Reach::Follow {
            if let Ok(mut open) = std::fs::File::open(&file.path) {
                file.whole = Content::whole(&mut open).ok();
            }
            file.seen = file.lane.as_ref().map_or(file.seen, |lane| lane.reader(|reader| reader.seen()));
        }
        self.announce(id, None);
        self.end(id);
        Ok(())
    }

    /// A file has nothing more for now.
    fn rest(&mut self, id: usize) {
        self.unqueue(id);
        let Some(file) = self.files.get_mut(&id) else { return };
        if let Some(lane) = &file.lane {
            file.seen = lane.reader(|reader| reader.seen());
        }
        if file.active_until.is_none() {
            file.close();
            return;
        }
        // What grows stays open, so that what is written to it is read even when its name is gone.
        self.open.retain(|open| *open != id);
        self.open.push_back(id);
        if self.open.len() > MOST_OPEN
            && let Some(file) = self.open.pop_front().and_then(|id| self.files.get_mut(&id))
            && !file.queued
        {
            file.close();
        }
    }

    /// Gives the pool what is to be read next, and a little of what may be after that.
    fn feed(&mut self) -> Result<()> {
        let files = &self.files;
        let ahead_of = |id: &usize| files.get(id).and_then(|file| file.lane.as_ref()).map_or(0, Lane::ahead);
        self.ahead.retain(|id| ahead_of(id) > 0);
        let mut ahead: usize = self.ahead.iter().map(ahead_of).sum();
        let threads = match &self.pool {
            Some(pool) => pool.threads(),
            None => self.pool.insert(Pool::start()?).threads(),
        };
        let most = 2 * threads + 2;
        let next: Vec<usize> = self.due.iter().take(threads + 1).map(|(_, _, id)| *id).collect();
        for (place, id) in next.into_iter().enumerate() {
            if self.files.get(&id).is_none_or(|file| file.bytes < SMALL) {
                continue;
            }
            let sorted = self.sorting.is_some();
            let most_of_it = if place == 0 && !sorted { threads + 2 } else { 1 };
            loop {
                let lane = self.lane(id)?;
                if lane.ahead() >= most_of_it || (ahead >= most && (place > 0 || lane.ahead() > 0)) {
                    break;
                }
                let job = lane.ask(id);
                if let Some(pool) = &mut self.pool {
                    pool.give(job);
                }
                self.ahead.insert(id);
                ahead += 1;
            }
        }
        Ok(())
    }

    fn put(&mut self, outcome: Outcome) {
        if let Some(lane) = self.files.get_mut(&outcome.file).and_then(|file| file.lane.as_mut()) {
            lane.put(outcome);
        }
    }

    /// The next step of the file whose turn it is.
    fn advance(&mut self, id: usize) -> Result<()> {
        let small = self.files.get(&id).is_none_or(|file| file.bytes < SMALL || file.leaving);
        if !small {
            self.feed()?;
            while let Some(outcome) = self.pool.as_mut().and_then(Pool::try_take) {
                self.put(outcome);
            }
        }
        loop {
            let lane = self.lane(id)?;
            if let Some(step) = lane.take() {
                return self.took(id, step);
            }
            if lane.ahead() == 0 {
                let outcome = lane.ask(id).run();
                lane.put(outcome);
                continue;
            }
            match self.pool.as_mut().and_then(Pool::take) {
                Some(outcome) => self.put(outcome),
                None => return Err(Error::Internal("a step of a file was asked for and never came".to_string())),
            }
        }
    }
}

impl Source for Files {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        let until = Instant::now() + wait;
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            let now = Instant::now();
            if self.follows() {
                if self.watch.is_check_due(now) {
                    self.check(now)?;
                }
                if self.watch.is_list_due(now) {
                    self.list()?;
                    continue;
                }
            } else if !self.watch.has_listed() {
                self.list()?;
                continue;
            }
            let busy = if let Some(id) = self.looks.pop_front() {
                match self.look(id, until) {
                    Ok(true) => {}
                    Ok(false) => self.looks.push_front(id),
                    Err(error) => {
                        self.retract(id);
                        return Err(error);
                    }
                }
                true
            } else if let Some((_, _, id)) = self.due.first().copied() {
                self.advance(id)?;
                true
            } else {
                false
            };
            if !self.news.is_empty() {
                continue;
            }
            match busy {
                true if now >= until && !wait.is_zero() => return Ok(Poll::Idle),
                true => {}
                false if !self.follows() => return Ok(Poll::End),
                false => {
                    let left = until.saturating_duration_since(now);
                    if left.is_zero() {
                        return Ok(Poll::Idle);
                    }
                    std::thread::sleep(left.min(self.watch.tick()));
                }
            }
        }
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        self.resume = positions.iter().cloned().collect();
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            rows: self.rows,
            bytes: self.bytes_read.load(Ordering::Relaxed),
            total_bytes: self.watch.has_listed().then_some(self.total_bytes),
        }
    }
}
