//! A table's way in: rows get their stamps here, once for all views, and go to the workers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use headwater_connectors::{Changes, Rejected};
use headwater_operators::Updates;
use headwater_operators::clock::Clock;
use headwater_operators::stamp::{self, Arrival, CutBy, Cuts, Follower, NO_TIME, SessionTime, StampConfig, Stamper};
use headwater_operators::time::{SINCE_EVER, STREAM_START, Time, from_micros};

use super::history::{FeedKind, History};
use crate::columns::{Columns, event_times};
use crate::error::{Error, Result};
use crate::worker::{FeedId, Gauge, Sequencer};

/// Batches of at least this many rows are shared out among the workers; smaller ones go to one.
const SHARE_ROWS: usize = 1024;

/// How rows of a table get their times.
pub(crate) enum Stamping {
    /// All rows are there since ever; the table ends when they are read.
    Static,
    /// By the event time in a column.
    Event {
        /// The column.
        column: usize,
        /// The rule.
        stamper: Box<Stamper<Columns>>,
        /// The cuts so far, where they are recorded.
        cuts: Cuts,
    },
    /// After the session's event time, or the clock.
    Follow {
        /// The rule.
        follower: Box<Follower<Columns>>,
        /// The cuts so far.
        cuts: Cuts,
    },
}

/// What a table has taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Rows that came, also those that are late or have no usable event time.
    pub rows: u64,
    /// Rows that were late.
    pub late: u64,
    /// How far the latest of them was behind the time at which it took effect, microseconds.
    pub behind_us: u64,
    /// Pieces of input that were no rows, or had no usable event time.
    pub rejected: u64,
}

/// The state behind a table's lock.
pub(crate) struct Intake {
    table: String,
    stamping: Stamping,
    sequencer: Arc<Sequencer>,
    session: SessionTime,
    pub feed: FeedId,
    pub late_feed: FeedId,
    rejected_feed: FeedId,
    /// Rows of the table on their way to operators: whoever brings more waits for them, not for those of other tables.
    pub in_flight: Arc<Gauge>,
    frontier: Option<Time>,
    splits: HashMap<u32, (String, u32)>,
    /// Rows taken from each split, by name, for a reader that must read them again.
    pub positions: HashMap<String, u64>,
    pub counts: IntakeCounts,
    /// Late rows by split, of the first splits that had some.
    pub late: BTreeMap<String, u64>,
    /// What was rejected since the last flush.
    rejected: Vec<Rejected>,
    /// What was stamped so far, where the table keeps it for views created later.
    pub history: Option<History>,
    turn: usize,
}

/// Of how many splits late rows are counted.
const LATE_SPLITS: usize = 100;

impl Intake {
    pub fn new(
        table: &str,
        stamping: Stamping,
        sequencer: Arc<Sequencer>,
        session: SessionTime,
        history: Option<History>,
    ) -> Self {
        let [feed, late_feed, rejected_feed] = std::array::from_fn(|_| sequencer.number());
        let begins = if matches!(stamping, Stamping::Static) { SINCE_EVER } else { STREAM_START };
        Intake {
            table: table.to_owned(),
            stamping,
            sequencer,
            session,
            feed,
            late_feed,
            rejected_feed,
            in_flight: Arc::default(),
            frontier: Some(begins),
            splits: HashMap::new(),
            positions: HashMap::new(),
            counts: IntakeCounts::default(),
            late: BTreeMap::new(),
            rejected: Vec::new(),
            history,
            turn: 0,
        }
    }

    /// No more updates before this time; `None` when the table has ended.
    pub fn frontier(&self) -> Option<Time> {
        self.frontier
    }

    fn feed_of(&self, kind: FeedKind) -> FeedId {
        match kind {
            FeedKind::OnTime => self.feed,
            FeedKind::Late => self.late_feed,
            FeedKind::Rejected => self.rejected_feed,
        }
    }

    /// The feeds of such updates, at their present frontiers.
    pub fn feeds(&self, kinds: &[FeedKind]) -> Vec<(FeedId, Option<Time>)> {
        // Where no row is late nobody needs to follow those that are.
        let none_late = !matches!(self.stamping, Stamping::Event { .. }) && kinds.contains(&FeedKind::OnTime);
        let kinds = kinds.iter().filter(|kind| !(none_late && **kind == FeedKind::Late));
        kinds.map(|kind| (self.feed_of(*kind), self.frontier)).collect()
    }

    /// The recorded cuts, for stamping the same input again.
    pub fn cuts(&mut self) -> Cuts {
        match &mut self.stamping {
            Stamping::Event { stamper, cuts, .. } => {
                cuts.append(stamper.take_cuts());
                cuts.clone()
            }
            Stamping::Follow { follower, cuts } => {
                cuts.append(follower.take_cuts());
                cuts.clone()
            }
            Stamping::Static => Cuts::default(),
        }
    }

    /// Takes note of a split, which begins at an event time (microseconds since the epoch) if that is known.
    pub fn add_split(&mut self, split: u32, name: String, begins: Option<i64>) {
        let id = match &mut self.stamping {
            Stamping::Event { stamper, .. } => stamper.add_split(&name, super::clock().now_micros(), begins),
            Stamping::Follow { follower, .. } => follower.add_split(&name),
            Stamping::Static => split,
        };
        self.splits.insert(split, (name, id));
    }

    pub fn end_split(&mut self, split: u32) {
        let Some((_, id)) = self.splits.get(&split) else { return };
        match &mut self.stamping {
            Stamping::Event { stamper, .. } => stamper.end_split(*id),
            Stamping::Follow { follower, .. } => follower.end_split(*id),
            Stamping::Static => {}
        }
    }

    /// Takes rows of a split; they wait for their segment to close, or go on at the next [`Intake::flush`].
    pub fn push(
        &mut self,
        split: u32,
        rows: &RecordBatch,
        diffs: Option<Vec<i64>>,
        changes: &Changes,
        offset: u64,
    ) -> Result<()> {
        let columns = Columns::from_batch(rows);
        let count = columns.rows;
        self.counts.rows += count as u64;
        if let Some((name, _)) = self.splits.get(&split) {
            self.positions.insert(name.clone(), offset);
        }
        let uniform = |diffs: Option<Vec<i64>>| diffs.unwrap_or_else(|| vec![1; count]);
        let id = self.splits.get(&split).map(|(_, id)| *id);
        let unknown = || Error::internal(format!("table '{}': rows of an unknown split {split}", self.table));
        match &mut self.stamping {
            Stamping::Static => {
                let updates = Updates { data: columns, times: vec![SINCE_EVER; count], diffs: uniform(diffs) };
                self.send(FeedKind::OnTime, updates);
            }
            Stamping::Event { column, stamper, .. } => {
                let times = event_times(&columns.arrays[*column])?;
                let changes = match changes {
                    Changes::Each => stamp::Changes::Each,
                    Changes::One => stamp::Changes::One,
                    Changes::Ends(ends) => stamp::Changes::Ends(ends),
                };
                let times: Cow<'_, [i64]> = match times.null_count() {
                    0 => times.values().as_ref().into(),
                    _ => times.iter().map(|time| time.unwrap_or(NO_TIME)).collect(),
                };
                let arrival = Arrival { data: columns, event_times: &times, diffs, changes, offset };
                let before = stamper.counts().late;
                stamper.push(id.ok_or_else(unknown)?, arrival, super::clock().now_micros());
                let late = stamper.counts().late - before;
                if late > 0
                    && let Some((name, _)) = self.splits.get(&split)
                {
                    let room = self.late.len() < LATE_SPLITS;
                    match self.late.get_mut(name) {
                        Some(count) => *count += late,
                        None if room => {
                            self.late.insert(name.clone(), late);
                        }
                        None => {}
                    }
                }
            }
            Stamping::Follow { follower, .. } => {
                follower.push(id.ok_or_else(unknown)?, columns, uniform(diffs), offset);
            }
        }
        Ok(())
    }

    /// Counts rows that are about to be pushed into a table that keeps its rows; `chosen` says that those that leave were
    /// found in it. Errors: a row that would leave more often than it is there.
    pub fn count(&mut self, rows: &RecordBatch, diffs: Option<&[i64]>, chosen: bool) -> Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let rows = Columns::from_batch(rows);
        history.count(&rows, diffs, chosen).map_err(|row| {
            let (table, row) = (&self.table, rows.show_row(row));
            Error::data(format!(
                "table '{table}': the row ({row}) is taken back more often than it is there; nothing was changed"
            ))
        })
    }

    /// Counts input that was no row; it goes on at the next [`Intake::flush`].
    pub fn reject(&mut self, rejected: Vec<Rejected>) {
        self.counts.rejected += rejected.len() as u64;
        self.rejected.extend(rejected);
    }

    /// Closes the open round where rounds are cut by arrival, and sends on what is stamped.
    pub fn close_round(&mut self) {
        match &mut self.stamping {
            Stamping::Event { stamper, .. } => stamper.close_round(),
            Stamping::Follow { follower, .. } => follower.close_round(),
            Stamping::Static => {}
        }
        self.flush();
    }

    /// Lets time pass: splits that have been silent for too long hold nothing back any more.
    pub fn tick(&mut self) {
        if let Stamping::Event { stamper, .. } = &mut self.stamping {
            stamper.tick(super::clock().now_micros());
        }
        self.close_round();
    }

    /// Ends the table: everything is stamped, there will be no more, and all windows are final.
    pub fn end(&mut self) {
        match &mut self.stamping {
            Stamping::Event { stamper, .. } => stamper.close(),
            Stamping::Follow { follower, .. } => follower.close(),
            Stamping::Static => {}
        }
        self.flush();
        self.advance(None);
    }

    /// Ends the feeds where a reader stops, without saying that the table ends: what is stamped is sent, rows whose
    /// segment is open are cut off there if `cut`, and the readers' queries are told that nothing more is final.
    pub fn stop(&mut self, cut: bool) {
        match &mut self.stamping {
            Stamping::Event { stamper, .. } if cut => stamper.cut(),
            Stamping::Follow { follower, .. } if cut => follower.close_round(),
            _ => {}
        }
        self.flush();
        self.advance(None);
    }

    /// Sends on everything that is stamped, then the frontier.
    pub fn flush(&mut self) {
        let (frontier, stamped) = match &mut self.stamping {
            Stamping::Static => (self.frontier, None),
            Stamping::Event { stamper, .. } => {
                let stamped = stamper.drain();
                self.counts.late = stamper.counts().late;
                (stamped.frontier, Some(stamped))
            }
            Stamping::Follow { follower, .. } => {
                let stamped = follower.drain();
                (stamped.frontier, Some(stamped))
            }
        };
        if let Some(stamped) = stamped {
            stamped.on_time.into_iter().for_each(|updates| self.send(FeedKind::OnTime, updates));
            for updates in stamped.late {
                self.note_behind(&updates);
                self.send(FeedKind::Late, updates);
            }
            for rejected in stamped.rejected {
                let place = format!("table '{}'", self.table);
                let rows = rejected.reasons.iter().enumerate().map(|(row, reason)| Rejected {
                    input: rejected.data.show_row(row),
                    place: place.clone(),
                    reason: reason.to_string(),
                    ..Rejected::default()
                });
                self.reject(rows.collect());
            }
        }
        self.send_rejected();
        if self.frontier.is_some() {
            self.advance(frontier);
        }
    }

    /// Sends on what was rejected; it takes effect at the table's frontier, for it has no time of its own.
    fn send_rejected(&mut self) {
        let rejected = std::mem::take(&mut self.rejected);
        let Some(time) = self.frontier.filter(|_| !rejected.is_empty()) else { return };
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let texts = |text: &dyn Fn(&Rejected) -> Option<String>| -> ArrayRef {
            Arc::new(rejected.iter().map(text).collect::<StringArray>())
        };
        let lines = rejected.iter().map(|one| one.line.and_then(|line| i64::try_from(line).ok()));
        let arrays = vec![
            texts(&|one| known(&one.source)),
            Arc::new(lines.collect::<Int64Array>()),
            texts(&|one| one.column.clone()),
            texts(&|one| Some(one.input.clone())),
            texts(&|one| Some(one.reason.clone())),
        ];
        self.send(FeedKind::Rejected, Updates::uniform(Columns { arrays, rows: rejected.len() }, time, 1));
    }

    fn note_behind(&mut self, late: &Updates<Columns>) {
        let Stamping::Event { column, .. } = &self.stamping else { return };
        let Ok(times) = event_times(&late.data.arrays[*column]) else { return };
        let behind =
            times.iter().zip(&late.times).filter_map(|(time, stamp)| Some(stamp.saturating_sub(from_micros(time?))));
        self.counts.behind_us = self.counts.behind_us.max(behind.max().unwrap_or(0));
    }

    fn advance(&mut self, frontier: Option<Time>) {
        if frontier == self.frontier {
            return;
        }
        self.frontier = frontier;
        if let (Some(history), Some(closed)) =
            (&mut self.history, frontier.and_then(|frontier| frontier.checked_sub(1)))
        {
            history.close(closed);
        }
        // Tables that follow move each other on, too: a change of one is closed only when all have passed it.
        if let (Stamping::Event { .. } | Stamping::Follow { .. }, Some(time)) = (&self.stamping, frontier) {
            self.session.raise(time);
        }
        let mut sequence = self.sequencer.lock();
        sequence.frontier(self.feed, frontier);
        sequence.frontier(self.late_feed, frontier);
        sequence.frontier(self.rejected_feed, frontier);
    }

    fn send(&mut self, kind: FeedKind, updates: Updates<Columns>) {
        if updates.is_empty() {
            return;
        }
        if let Some(history) = &mut self.history {
            history.push(kind, updates.clone());
        }
        let feed = self.feed_of(kind);
        share_out(&self.sequencer, feed, updates, &mut self.turn, &self.in_flight);
    }
}

/// Sends updates to the workers: large batches in equal parts, small ones to one worker after another.
pub(crate) fn share_out(
    sequencer: &Sequencer,
    feed: FeedId,
    mut updates: Updates<Columns>,
    turn: &mut usize,
    in_flight: &Arc<Gauge>,
) {
    let mut sequence = sequencer.lock();
    let workers = sequence.workers();
    let rows = updates.len();
    if workers == 1 || rows < SHARE_ROWS {
        sequence.data(*turn % workers, feed, updates, in_flight);
        *turn += 1;
        return;
    }
    for worker in (1..workers).rev() {
        let part = updates.split_off(rows * worker / workers);
        sequence.data(worker, feed, part, in_flight);
    }
    sequence.data(0, feed, updates, in_flight);
}

/// How a table with an event-time column is stamped.
pub(crate) fn stamp_config(
    delay: Duration,
    resolution: Option<Duration>,
    max_ahead: Option<Duration>,
    idle_timeout: Option<Duration>,
    by_data: bool,
) -> StampConfig {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let mut config = StampConfig::new(micros(delay));
    if let Some(resolution) = resolution {
        config.resolution = micros(resolution).max(1);
    }
    config.max_ahead = max_ahead.map(micros);
    config.idle_timeout = idle_timeout;
    config.cut = if by_data { CutBy::Data } else { CutBy::Round };
    config
}
