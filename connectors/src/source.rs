//! Where rows come from.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// How the rows of a batch are cut into atomic changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Changes {
    /// Each row is a change of its own: plain events.
    #[default]
    Each,
    /// The whole batch is one change.
    One,
    /// Change `i` ends before row `ends[i]`; the last end is the number of rows.
    Ends(Vec<u32>),
}

/// Rows read from one split.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The split (file, partition, connection), numbered by [`Poll::Split`].
    pub split: u32,
    /// The rows, in the table's schema.
    pub rows: RecordBatch,
    /// A diff for each row; `None` means that all rows arrive.
    pub diffs: Option<Vec<i64>>,
    /// Which rows change together.
    pub changes: Changes,
    /// The split's position after these rows, opaque and ascending. Files and the generator count: the rows and the
    /// rejected pieces of input from the start of the split to here, so that the rows between two offsets are known.
    pub offset: u64,
    /// Input that could not be read as rows, by the table's `on_error` policy.
    pub rejected: Vec<Rejected>,
}

/// A piece of input that is not a row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The split's position after it.
    pub offset: u64,
    /// The input as text, cut to a bounded length.
    pub input: String,
    /// Where it stood, e.g. `flights.csv line 12`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Poll {
    /// A new split, numbered from 0 in the order of discovery.
    Split {
        /// Its number.
        split: u32,
        /// Its stable name: a path, a partition.
        name: String,
    },
    /// Rows.
    Batch(SourceBatch),
    /// No more rows from this split, ever.
    SplitEnd(u32),
    /// Nothing right now: all that there is has been read.
    Idle,
    /// No more rows, ever.
    End,
}

/// What a source promises about reading again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// The same split gives the same rows at the same offsets, any time.
    Replayable,
    /// What was read is gone.
    Once,
}

/// How far a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows read.
    pub rows: u64,
    /// Bytes read from storage.
    pub bytes: u64,
    /// Bytes there are to read, where known.
    pub total_bytes: Option<u64>,
}

/// A stream of rows, read by one thread at a time. Blocking calls are fine.
pub trait Source: Send {
    /// The next news, waiting at most `wait` for it; [`Poll::Idle`] when there is none.
    ///
    /// Batches are bounded (tens of thousands of rows, a few MiB), so that a reader can pause between two.
    fn poll(&mut self, wait: Duration) -> Result<Poll>;

    /// Positions to begin at, by split name; splits not named begin at their start. Called before the first poll.
    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()>;

    /// How far it is.
    fn progress(&self) -> Progress;
}
