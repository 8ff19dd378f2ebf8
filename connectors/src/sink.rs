//! Where changes go.

use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// How a view's changes are written; the words are Spark's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// Rows that will never be retracted, each once.
    #[default]
    Append,
    /// For each key that changed since the last emission its new row, or its deletion.
    Update,
    /// The whole result at each emission.
    Complete,
    /// Every insert and retraction with its time.
    Changelog,
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It arrives; in update mode it is the first of its key.
    Insert,
    /// It leaves (changelog, and update for a key without a row).
    Delete,
    /// It replaces the row of its key (update).
    Upsert,
}

/// What a sink promises about an emission that it gets twice, as a restart after a crash gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkGuarantee {
    /// Its rows are there twice: every change arrives, some of them more than once.
    AtLeastOnce,
    /// It replaces what the first left behind: what is there in the end is right.
    Idempotent,
    /// The sink knows which step it has committed and passes over what it has: every change arrives exactly once.
    ExactlyOnce,
}

/// What a sink gets at one emission: consolidated changes through a closed time.
#[derive(Clone, Debug)]
pub struct Emission {
    /// The number of this emission: from 0 on, consecutive as long as the sink is open.
    pub step: u64,
    /// The mode of the sink.
    pub mode: OutputMode,
    /// All times before this one are closed, in microseconds since the epoch; `None` when the input has ended.
    pub frontier: Option<i64>,
    /// The rows.
    pub rows: RecordBatch,
    /// What happens to each row.
    pub ops: Vec<Op>,
    /// How many copies of each row; positive.
    pub counts: Vec<u64>,
    /// When each row's change took effect, microseconds since the epoch; `i64::MIN` is since ever. Changes of tables without
    /// event time have times right behind that, which say nothing but their order.
    pub times: Vec<i64>,
}

/// A place that takes emissions, written by one thread at a time. Blocking calls are fine.
pub trait Sink: Send {
    /// Takes an emission. It may stay invisible until [`Sink::commit`].
    fn write(&mut self, emission: &Emission) -> Result<()>;

    /// Makes all that was written visible and durable.
    fn commit(&mut self) -> Result<()>;

    /// Commits and releases everything; the last call.
    fn close(&mut self) -> Result<()>;
}
