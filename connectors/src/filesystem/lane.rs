//! One file on its way to rows: steps that are asked for, worked off here or on another thread, and taken in order.
//!
//! Only what must be is done one after another, under the lock of the file: reading a block of text, or a batch of Parquet.
//! Decoding is done beside it. A step that ends the file stops those that were asked for behind it.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connector::Reach;
use crate::error::{Error, Result};
use crate::filesystem::blocks::{Blocks, Piece, Stat};
use crate::filesystem::content::Verdict;
use crate::filesystem::reading::complete;
use crate::filesystem::sorted::Sorted;
use crate::format::event_time;
use crate::format::parquet::ParquetReader;
use crate::format::record::Decoded;

/// How many bytes of text the first step of a file reads: enough to tell when it begins, and quick.
const FIRST: usize = 64 << 10;

/// Rows that were decoded together.
pub(crate) struct Lot {
    pub(crate) decoded: Decoded,
    /// How many lines of text, or rows of Parquet, come before them in the file.
    pub(crate) line: u64,
    /// The least and the greatest event time in them.
    pub(crate) times: Option<(i64, i64)>,
}

/// What a step gives.
pub(crate) enum Step {
    Rows(Vec<Lot>),
    /// Nothing yet, but it went on.
    Working,
    /// All that there is has been read; a growing file may have more later.
    End,
    /// The file ends in the middle: it is still being written, or it is cut off.
    Incomplete(String),
    /// A followed file is not what it was.
    Other(Verdict),
    /// Another file has taken its name.
    Replaced,
}

impl Step {
    /// Whether another step can follow.
    fn goes_on(&self) -> bool {
        matches!(self, Step::Rows(_) | Step::Working)
    }
}

/// How a file is read.
pub(crate) enum Reader {
    Text(Box<Blocks>),
    Parquet(Box<ParquetFile>),
    Sorted(Box<Sorted>),
}

impl Reader {
    /// Whether more can be added to the file.
    pub(crate) fn can_grow(&self) -> bool {
        matches!(self, Reader::Text(blocks) if blocks.can_grow())
    }

    /// Length and time of modification before the last reading.
    pub(crate) fn seen(&self) -> Stat {
        match self {
            Reader::Text(blocks) => blocks.seen(),
            Reader::Parquet(parquet) => parquet.seen,
            Reader::Sorted(_) => (0, None),
        }
    }

    /// The file has another name now.
    pub(crate) fn rename(&mut self, path: &Path) {
        match self {
            Reader::Text(blocks) => blocks.rename(path),
            Reader::Parquet(parquet) => parquet.path = path.to_path_buf(),
            Reader::Sorted(_) => {}
        }
    }

    /// Closes the file; it is opened again to read on.
    pub(crate) fn close(&mut self) {
        match self {
            Reader::Text(blocks) => blocks.close(),
            Reader::Parquet(parquet) => parquet.reader = None,
            Reader::Sorted(_) => {}
        }
    }
}

/// A Parquet file, opened when it is read.
pub(crate) struct ParquetFile {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) schema: arrow::datatypes::SchemaRef,
    pub(crate) reach: Reach,
    pub(crate) max_rows: usize,
    /// The next row.
    pub(crate) position: u64,
    pub(crate) bytes_read: Arc<AtomicU64>,
    pub(crate) reader: Option<ParquetReader>,
    pub(crate) seen: Stat,
}

impl ParquetFile {
    fn open(&mut self) -> Result<Option<&mut ParquetReader>> {
        if self.reader.is_none() {
            let Some(file) = complete(&self.path, self.reach.is_growing())? else {
                let metadata = std::fs::metadata(&self.path).ok();
                self.seen = metadata.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
                return Ok(None);
            };
            self.seen = stat(&file);
            let reader = ParquetReader::open(file, &self.name, self.schema.clone(), self.position, self.max_rows)?;
            if reader.rows < self.position {
                return Err(Error::Data(format!(
                    "{} has {} rows, but {} were read from it before: it was replaced; start without the saved position",
                    self.name, reader.rows, self.position
                )));
            }
            self.reader = Some(reader);
        }
        Ok(self.reader.as_mut())
    }

    /// The least event time that it can begin at, by its statistics.
    pub(crate) fn begins(&mut self, column: usize) -> Result<Option<i64>> {
        let begins = match self.open()? {
            Some(reader) => reader.begins(column),
            None => None,
        };
        self.reader = None;
        Ok(begins)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Step>> {
        let (length, name) = (self.seen.0, self.name.clone());
        let Some(reader) = self.open()? else { return Ok(Some(Step::Incomplete(name))) };
        let Some(decoded) = reader.next()? else {
            self.reader = None;
            return Ok(None);
        };
        let share = length.max(1) as f64 * decoded.records as f64 / reader.rows.max(1) as f64;
        self.bytes_read.fetch_add(share as u64, Ordering::Relaxed);
        let line = self.position;
        self.position += decoded.records as u64;
        Ok(Some(Step::Rows(vec![Lot { decoded, line, times: None }])))
    }
}

fn stat(file: &File) -> Stat {
    file.metadata().map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()))
}

/// What is locked while a step reads.
struct Held {
    reader: Reader,
    /// The number of the next step.
    next: u64,
    /// Whether a step has ended the file, or failed.
    stopped: bool,
    /// What steps must have been asked for under; others are void.
    turn: u64,
}

/// A number that no other turn has.
fn new_turn() -> u64 {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    TURNS.fetch_add(1, Ordering::Relaxed)
}

/// How rows are made of what a reader gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) max_rows: usize,
    /// The place of the event time.
    pub(crate) event_time: Option<usize>,
}

/// A step to be worked off.
pub(crate) struct Job {
    /// The number of the file.
    pub(crate) file: usize,
    held: Arc<Mutex<Held>>,
    turn: u64,
    making: Making,
}

/// A step that was worked off.
pub(crate) struct Outcome {
    pub(crate) file: usize,
    turn: u64,
    /// `None` if there was nothing to do any more.
    step: Option<(u64, Result<Step>)>,
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// Works it off. A panic of a decoder is an error of the file.
    pub(crate) fn run(self) -> Outcome {
        let mut number = None;
        let step = catch_unwind(AssertUnwindSafe(|| self.step(&mut number))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(Error::Internal(format!("reading a file failed: {}", text.unwrap_or("for a reason unknown"))))
        });
        if step.is_err() {
            lock(&self.held).stopped = true;
        }
        Outcome { file: self.file, turn: self.turn, step: number.map(|number| (number, step)) }
    }

    fn step(&self, number: &mut Option<u64>) -> Result<Step> {
        let block = {
            let mut held = lock(&self.held);
            if held.stopped || held.turn != self.turn {
                return Ok(Step::End);
            }
            let first = held.next == 0;
            *number = Some(held.next);
            held.next += 1;
            let step = match &mut held.reader {
                Reader::Text(blocks) => match blocks.next(if first { FIRST } else { crate::format::BATCH_BYTES })? {
                    Piece::Block(block) => Err(block),
                    Piece::End => Ok(Step::End),
                    Piece::Incomplete(why) => Ok(Step::Incomplete(why)),
                    Piece::Other(verdict) => Ok(Step::Other(verdict)),
                    Piece::Replaced => Ok(Step::Replaced),
                },
                Reader::Parquet(parquet) => Ok(parquet.next()?.unwrap_or(Step::End)),
                Reader::Sorted(sorted) => Ok(sorted.next(self.making)?),
            };
            match step {
                Ok(step) => {
                    held.stopped = !step.goes_on();
                    drop(held);
                    return match step {
                        Step::Rows(mut lots) => {
                            lots.iter_mut().try_for_each(|lot| self.making.time(lot))?;
                            Ok(Step::Rows(lots))
                        }
                        other => Ok(other),
                    };
                }
                Err(block) => block,
            }
        };
        self.making.decode(block)
    }
}

impl Making {
    /// The records of a block.
    pub(crate) fn decode(self, block: crate::filesystem::blocks::Block) -> Result<Step> {
        let mut lots = Vec::new();
        for (decoded, line) in block.decode(self.max_rows)? {
            let mut lot = Lot { decoded, line, times: None };
            self.time(&mut lot)?;
            lots.push(lot);
        }
        Ok(Step::Rows(lots))
    }

    fn time(self, lot: &mut Lot) -> Result<()> {
        if let Some(column) = self.event_time {
            lot.times = event_time::range(lot.decoded.rows.column(column))?;
        }
        Ok(())
    }
}

/// The steps of one file.
pub(crate) struct Lane {
    held: Arc<Mutex<Held>>,
    making: Making,
    turn: u64,
    asked: u64,
    taken: u64,
    ready: BTreeMap<u64, Result<Step>>,
}

impl Lane {
    pub(crate) fn new(reader: Reader, making: Making) -> Lane {
        let turn = new_turn();
        let held = Arc::new(Mutex::new(Held { reader, next: 0, stopped: false, turn }));
        Lane { held, making, turn, asked: 0, taken: 0, ready: BTreeMap::new() }
    }

    /// Asks for one step more.
    pub(crate) fn ask(&mut self, file: usize) -> Job {
        self.asked += 1;
        Job { file, held: self.held.clone(), turn: self.turn, making: self.making }
    }

    /// How many steps were asked for and are not taken yet.
    pub(crate) fn ahead(&self) -> usize {
        usize::try_from(self.asked - self.taken).unwrap_or(usize::MAX)
    }

    /// A step was worked off.
    pub(crate) fn put(&mut self, outcome: Outcome) {
        if let (Some((number, step)), true) = (outcome.step, outcome.turn == self.turn) {
            self.ready.insert(number, step);
        }
    }

    /// The next step, if it is worked off.
    pub(crate) fn take(&mut self) -> Option<Result<Step>> {
        let step = self.ready.remove(&self.taken)?;
        self.taken += 1;
        if !matches!(&step, Ok(step) if step.goes_on()) {
            self.again();
        }
        Some(step)
    }

    /// The steps that are worked off, to look at.
    pub(crate) fn peek(&self) -> impl Iterator<Item = &Result<Step>> {
        self.ready.values()
    }

    /// Makes void what was asked for, so that steps can be asked for anew. A step may not have been worked off and not taken.
    fn again(&mut self) {
        let mut held = lock(&self.held);
        self.turn = new_turn();
        (held.turn, held.stopped, held.next) = (self.turn, false, 0);
        (self.asked, self.taken) = (0, 0);
        self.ready.clear();
    }

    /// The reader, while no step reads.
    pub(crate) fn reader<T>(&self, act: impl FnOnce(&mut Reader) -> T) -> T {
        act(&mut lock(&self.held).reader)
    }
}
