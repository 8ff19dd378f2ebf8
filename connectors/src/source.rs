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

/// Where rows stand in their split. The offset of a row is the split's position after it, so that reading again from there
/// gives the rows behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Offsets {
    /// Rows and rejected pieces of input are counted together: the last of them stands at the batch's offset, and there are
    /// no gaps before it.
    #[default]
    Dense,
    /// The offset of each row, ascending, with gaps or without.
    Each(Vec<u64>),
}

/// Rows read from one split.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The split (file, partition, connection), numbered by [`Poll::Split`].
    pub split: u32,
    /// The rows, in the columns that were asked for.
    pub rows: RecordBatch,
    /// A diff for each row; `None` means that all rows arrive.
    pub diffs: Option<Vec<i64>>,
    /// Which rows change together.
    pub changes: Changes,
    /// The split's position after all of this, ascending from batch to batch.
    pub offset: u64,
    /// Where each row stands.
    pub offsets: Offsets,
    /// Input that could not be read as rows, by the table's `on_error` policy, in the order of its offsets.
    pub rejected: Vec<Rejected>,
}

impl SourceBatch {
    /// How many of the rows stand at `offset` or before it.
    pub fn rows_through(&self, offset: u64) -> usize {
        let rows = self.rows.num_rows();
        if offset >= self.offset {
            return rows;
        }
        match &self.offsets {
            Offsets::Each(offsets) => offsets.partition_point(|there| *there <= offset).min(rows),
            Offsets::Dense => {
                let begin = self.offset.saturating_sub((rows + self.rejected.len()) as u64);
                let through = offset.saturating_sub(begin);
                let rejected = self.rejected.iter().filter(|rejected| rejected.offset <= offset).count();
                usize::try_from(through).unwrap_or(usize::MAX).saturating_sub(rejected).min(rows)
            }
        }
    }

    /// Leaves out what stands behind `offset`. A change that goes on behind it is left out whole, for changes are not cut.
    pub fn cut_off(&mut self, offset: u64) {
        if offset >= self.offset {
            return;
        }
        let mut kept = self.rows_through(offset);
        match &mut self.changes {
            Changes::Each => {}
            Changes::One if kept < self.rows.num_rows() => kept = 0,
            Changes::One => {}
            Changes::Ends(ends) => {
                ends.retain(|end| *end as usize <= kept);
                kept = ends.last().map_or(0, |end| *end as usize);
            }
        }
        self.rejected.retain(|rejected| rejected.offset <= offset);
        self.rows = self.rows.slice(0, kept);
        if let Some(diffs) = &mut self.diffs {
            diffs.truncate(kept);
        }
        if let Offsets::Each(offsets) = &mut self.offsets {
            offsets.truncate(kept);
        }
        self.offset = offset;
    }
}

/// A piece of input that is not a row of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// The split's position after it.
    pub offset: u64,
    /// What it was read from: the name of a file, standard input. Empty if that is not known.
    pub source: String,
    /// The number of its line there, or of its row where there are no lines, from 1.
    pub line: Option<u64>,
    /// The column whose value is wrong, if it is one; `o.x` and `l[2]` lead to what is nested.
    pub column: Option<String>,
    /// The input as text, cut to a bounded length (1000 bytes).
    pub input: String,
    /// Where it stood, for people: `flights.csv line 12`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Poll {
    /// A new split, numbered from 0 in the order of discovery. Splits that are found together and begin at known event
    /// times are made known together, before any rows of theirs.
    Split {
        /// Its number.
        split: u32,
        /// Its stable name: a path, a partition.
        name: String,
        /// The event time at which it begins (microseconds since the epoch), if the table has one and the source knows: its
        /// first row is no earlier. Until the split is read, its reader can hold the table's frontier there.
        begins: Option<i64>,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: i64, offset: u64, offsets: Offsets, rejected: &[u64]) -> SourceBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let reject = |offset: &u64| Rejected { offset: *offset, ..Rejected::default() };
        SourceBatch {
            split: 0,
            rows: RecordBatch::try_from_iter([("n", numbers)]).expect("rows"),
            diffs: Some(vec![1; rows as usize]),
            changes: Changes::Each,
            offset,
            offsets,
            rejected: rejected.iter().map(reject).collect(),
        }
    }

    /// A batch cut at every offset, against the offsets written out one by one.
    #[test]
    fn rows_through_any_offset() {
        // Records 101 to 107, of which the second, third and last are no rows.
        let dense = batch(4, 107, Offsets::Dense, &[102, 103, 107]);
        // A log with gaps: markers at 55 and 58 are no rows, and the batch ends behind another at 60.
        let gaps = batch(4, 60, Offsets::Each(vec![53, 54, 56, 59]), &[57]);
        for (batch, at) in [(dense, [101, 104, 105, 106]), (gaps, [53, 54, 56, 59])] {
            for limit in 0..120 {
                let mut cut = batch.clone();
                cut.cut_off(limit);
                let kept = at.iter().filter(|offset| **offset <= limit).count();
                assert_eq!(batch.rows_through(limit), kept, "through {limit}");
                assert_eq!(cut.rows.num_rows(), kept, "cut at {limit}");
                assert_eq!(cut.diffs.as_ref().map(Vec::len), Some(kept));
                assert_eq!(cut.offset, limit.min(batch.offset));
                assert!(cut.rejected.iter().all(|rejected| rejected.offset <= limit));
                if let Offsets::Each(offsets) = &cut.offsets {
                    assert_eq!(offsets[..], at[..kept]);
                }
                // What was cut can be cut again.
                for again in 0..limit {
                    let mut twice = cut.clone();
                    twice.cut_off(again);
                    assert_eq!(twice.rows.num_rows(), at.iter().filter(|offset| **offset <= again).count());
                }
                let numbers = cut.rows.column(0).as_primitive::<Int64Type>();
                assert!(numbers.values().iter().copied().eq(0..kept as i64));
            }
        }
    }

    #[test]
    fn changes_are_not_cut() {
        let mut ends = batch(5, 5, Offsets::Dense, &[]);
        ends.changes = Changes::Ends(vec![2, 4, 5]);
        ends.cut_off(3);
        assert_eq!((ends.rows.num_rows(), &ends.changes), (2, &Changes::Ends(vec![2])));
        let mut one = batch(5, 5, Offsets::Dense, &[]);
        one.changes = Changes::One;
        one.cut_off(4);
        assert_eq!(one.rows.num_rows(), 0);
    }
}
