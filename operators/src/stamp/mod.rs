//! Stamping: the time at which each row of a table takes effect.
//!
//! # The rule
//!
//! A table's rows come in *splits* (a file, a partition, a connection). Each split has a frontier `f`, the largest
//! stamp that it has given. A row with event time `e` gets `max(e, f)`: disorder can only delay when a row takes
//! effect. What was written as one change gets one stamp, the largest of its rows and `f`. A row is **late** iff
//! `e < f - delay`, or if the stamp of its own change would carry it to a window that is final by then, that is if
//! `e < stamp - delay - resolution`.
//!
//! Consecutive rows share the largest of their stamps when these fall into one cell of a grid of `resolution`. A cell
//! closes when a row of a later cell arrives ([`CutBy::Data`]), or also at the end of a round ([`CutBy::Round`]). After a
//! segment has been closed at `s` by a round, later stamps are at least `s + 1`, so that all that is at `s` can be
//! shown at once. Lateness does not depend on where the cuts fall: `f` is taken row by row.
//!
//! The table's frontier is the smallest of its active splits'. An idle split holds nothing back; when it speaks again,
//! its `f` is raised to the table's frontier. When all are idle the frontier rests just past the largest stamp.
//!
//! Splits found together begin together: one that says at which event time it begins ([`Stamper::add_split`]) holds the
//! frontier there until it speaks, however long that takes, and its stamps are not before that time. So whoever reads the
//! split that is furthest behind next makes no row late that is in order in its own split.
//!
//! # What is guaranteed
//!
//! With the watermark at frontier `t` being `t - delay - resolution` (see [`crate::time::watermark`]), no row in
//! [`Stamped::on_time`] with stamp `t` has an event time before the watermark at `t`: none reaches a final window.
//!
//! # Decisions
//!
//! * The stamp that a round adds to tell itself from the one before (`s + 1`) does not count into `f` when lateness is
//!   judged: rows of one event time would otherwise become late by sheer number of rounds. Only when more rounds than
//!   `resolution` microseconds close at one event time can a row that is at the very end of its delay be late by it;
//!   for this room the default resolution is at least a millisecond.
//! * A change that spans more than the delay, so that its stamp is further than `delay` from an own row that is not
//!   late, closes its segment: nothing after it can add to its stamp, and lateness stays a function of the change.
//! * Rows without an event time and rows ahead of the clock are rejected one by one, also inside a change; they move
//!   nothing.

mod cuts;
mod follow;
mod split;
mod stamper;
mod state;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::updates::Updates;

pub use cuts::{Cut, CutLog, Cuts, SplitCuts};
pub use follow::{Follow, Follower, SessionTime};
pub use stamper::Stamper;
pub use state::{FollowerSplit, FollowerState, OpenSegment, SplitState, StamperState, Standing};

/// The event time of a row that has none (its column is NULL), in a slice of microseconds.
pub const NO_TIME: i64 = i64::MIN;

/// Where rows that could share a stamp are cut, besides the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutBy {
    /// Nowhere: stamps are a function of each split's content and order. A row takes effect when its cell closes.
    #[default]
    Data,
    /// At the end of each round, for latency. The cuts are then input: record them to replay.
    Round,
}

/// How a table is stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampConfig {
    /// The declared disorder, us.
    pub delay: u64,
    /// How far apart (exclusive) stamps can be that are made one, us; at least 1. Also the width of the grid.
    pub resolution: u64,
    /// How far ahead of the clock an event time can be, us; rows beyond are rejected.
    pub max_ahead: Option<u64>,
    /// After how long without rows a split holds nothing back.
    pub idle_timeout: Option<Duration>,
    /// How segments are cut.
    pub cut: CutBy,
    /// Whether cuts are recorded, for [`Stamper::take_cuts`].
    pub record: bool,
}

impl StampConfig {
    /// Stamping with `delay` us of disorder, the default resolution, cut by data.
    ///
    /// The default resolution is a second or a tenth of the delay, whichever is smaller, but at least a millisecond.
    ///
    /// ```
    /// use headwater_operators::stamp::StampConfig;
    /// assert_eq!(StampConfig::new(60_000_000).resolution, 1_000_000);
    /// assert_eq!(StampConfig::new(3_000_000).resolution, 300_000);
    /// assert_eq!(StampConfig::new(0).resolution, 1_000);
    /// ```
    pub fn new(delay: u64) -> Self {
        let resolution = (delay / 10).clamp(1_000, 1_000_000);
        StampConfig { delay, resolution, max_ahead: None, idle_timeout: None, cut: CutBy::Data, record: false }
    }

    /// The same, cut by round.
    pub fn by_round(self) -> Self {
        StampConfig { cut: CutBy::Round, ..self }
    }
}

/// How rows are bound into changes: one change is stamped as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Changes<'a> {
    /// Each row is a change of its own.
    #[default]
    Each,
    /// All rows are one change.
    One,
    /// Change `i` ends before row `ends[i]`; ascending, the last is the number of rows.
    Ends(&'a [u32]),
}

/// Rows of one split, as they arrive.
#[derive(Clone, Debug)]
pub struct Arrival<'a, D> {
    /// The rows.
    pub data: D,
    /// Each row's event time, microseconds since the UTC epoch, or [`NO_TIME`].
    pub event_times: &'a [i64],
    /// Each row's diff; `None` means that all arrive once.
    pub diffs: Option<Vec<i64>>,
    /// Which rows change together.
    pub changes: Changes<'a>,
    /// The source's position after these rows.
    pub offset: u64,
}

/// Why a row was not taken into its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its event time is NULL.
    NoEventTime,
    /// Its event time is too far ahead of the clock.
    Ahead {
        /// The row's event time, us since the UTC epoch.
        event_time: i64,
        /// The clock when it came, us since the UTC epoch; `None` in a replay, which goes by the record.
        now: Option<i64>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoEventTime => write!(out, "its event time is NULL"),
            Reason::Ahead { event_time, now: Some(now) } => {
                let ahead = event_time.saturating_sub(*now) as f64 / 1e6;
                write!(out, "its event time is {ahead} s ahead of the clock, more than max_ahead allows")
            }
            Reason::Ahead { now: None, .. } => write!(out, "its event time was ahead of the clock when it first came"),
        }
    }
}

/// Rows that were not taken into their table.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected<D> {
    /// The split that they came from.
    pub split: u32,
    /// The rows.
    pub data: D,
    /// Each row's diff.
    pub diffs: Vec<i64>,
    /// Why, for each row.
    pub reasons: Vec<Reason>,
}

/// What is stamped since the last time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped<D> {
    /// The rows that are not late. Batches of bounded size; stamps ascend within a split.
    pub on_time: Vec<Updates<D>>,
    /// The late rows, stamped too: a view that releases nothing reads them as well.
    pub late: Vec<Updates<D>>,
    /// The rejected rows.
    pub rejected: Vec<Rejected<D>>,
    /// All later stamps are at least this; `None` when there will be no more rows.
    pub frontier: Option<Time>,
}

/// How many rows came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All rows, also late and rejected ones.
    pub rows: u64,
    /// Late rows.
    pub late: u64,
    /// Rejected rows.
    pub rejected: u64,
}
