//! One file on its way to rows: steps that are asked for, worked off here or on another thread, and taken in order.
//!
//! Only what must be is done one after another, under the lock of the file: reading a block of text, or a batch of Parquet.
//! Decoding is done beside it. A step that ends the file stops those that were asked for behind it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::filesystem::reader::Reader;
use crate::filesystem::sorted::Sorted;
use crate::filesystem::step::{Making, Step};
use crate::format::BATCH_BYTES;

/// How many bytes of text the first step of a file reads: enough to tell when it begins, and quick.
const FIRST: usize = 64 << 10;

/// The rows of a file, in their order or in that of time.
pub(crate) enum Rows {
    AsTheyStand(Reader),
    Sorted(Box<Sorted>),
}

/// What is locked while a step reads.
struct Held {
    rows: Rows,
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
            let step = match &mut held.rows {
                Rows::AsTheyStand(reader) => reader.next(if first { FIRST } else { BATCH_BYTES })?,
                Rows::Sorted(sorted) => Ok(sorted.next(self.making)?),
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
    pub(crate) fn new(rows: Rows, making: Making) -> Lane {
        let turn = new_turn();
        let held = Arc::new(Mutex::new(Held { rows, next: 0, stopped: false, turn }));
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
        match &mut lock(&self.held).rows {
            Rows::AsTheyStand(reader) => act(reader),
            Rows::Sorted(sorted) => act(sorted.reader()),
        }
    }
}
