//! What there is to save of a table's stamping, so that another process can go on with it.

use serde::{Deserialize, Serialize};

use crate::stamp::Counts;
use crate::time::Time;

/// The state of a [`Stamper`](super::Stamper).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StamperState {
    /// The splits, by number.
    pub splits: Vec<SplitState>,
    /// What came so far.
    pub counts: Counts,
}

/// The state of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    /// The split's stable name.
    pub name: String,
    /// The largest stamp by the data: by it rows are late.
    pub high: Time,
    /// The smallest stamp that can still be given, where that is larger.
    pub next: Time,
    /// The largest stamp given.
    pub largest: Option<Time>,
    /// How many rows came.
    pub rows: u64,
    /// The source's position behind them.
    pub offset: u64,
    /// How the split stands in its table.
    pub standing: Standing,
    /// The rows that came and have no stamp yet.
    pub open: Option<OpenSegment>,
}

/// How a split stands in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It holds the table's frontier at the time of its first row, which has not come.
    Announced,
    /// It holds the table's frontier.
    Active,
    /// It was silent for too long and holds nothing back.
    Idle,
    /// It has no more rows.
    Ended,
}

/// The rows of a segment that is still open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSegment {
    /// The end of the cell that the segment lies in.
    pub end: Time,
    /// The rows, as [`Payload::encode`](crate::Payload::encode) writes them.
    pub rows: Vec<u8>,
    /// Each row's diff.
    pub diffs: Vec<i64>,
    /// Which rows are late, ascending.
    pub late: Vec<u32>,
}

/// The state of a [`Follower`](super::Follower).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerState {
    /// The splits, by number.
    pub splits: Vec<FollowerSplit>,
    /// All later stamps are at least this.
    pub next: Time,
    /// The largest stamp given.
    pub largest: Option<Time>,
    /// What came so far.
    pub counts: Counts,
}

/// The state of one split of a [`Follower`](super::Follower).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerSplit {
    /// The split's stable name.
    pub name: String,
    /// How many rows came.
    pub rows: u64,
    /// The source's position behind them.
    pub offset: u64,
    /// Whether there are no more.
    pub ended: bool,
}
