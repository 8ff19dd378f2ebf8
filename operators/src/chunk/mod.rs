//! Sorted runs of updates as flat bytes: what arrangements are made of.
//!
//! A [`RowChunk`] is a run of `(key, value, time, diff)` updates sorted by the key's hash, the key's bytes, the
//! value's bytes, and time, without two updates of one key, value and time. A sequence of chunks is sorted and free of
//! such doubles as well. Most comparisons are of two integers, the hashes; the bytes decide only between equal hashes.
//!
//! A chunk is a window onto a shared body, so a chunk can be cut in two, or its times advanced, without copying a row.
//! Where all rows of a body have one width no offsets are kept; one time for all rows, and diffs that are all 1, take
//! no room either. A row with a 9-byte key and a 9-byte value so takes 26 bytes.
//!
//! [`RowChunk`] implements differential's [`Chunk`](differential_dataflow::trace::chunk::Chunk), from which follow
//! the batches and the merging of the trace ([`RowSpine`]), and
//! [`NavigableChunk`](differential_dataflow::trace::chunk::NavigableChunk), with which differential's own operators
//! work on it, as recursion needs.

use std::cmp::Ordering;
use std::sync::Arc;

use differential_dataflow::lattice::Lattice;
use differential_dataflow::trace::chunk::{ChunkBatch, ChunkBatcher, ChunkBuilder};
use timely::container::Accountable;
use timely::progress::Timestamp;

use crate::bytes;

mod body;
mod build;
mod chunker;
mod cursor;
mod merge;
pub(crate) mod search;
mod spine;
#[cfg(test)]
mod tests;

use body::Body;
pub(crate) use build::{RowBuffer, Sort};
pub use chunker::RowChunker;
pub use cursor::{KeyContainer, RowKey, RowKeyBuf};
pub use spine::RowSpine;

/// The times that rows can have: event times in flat plans, with a round counter in recursive ones.
pub trait RowTime: Timestamp + Lattice + Ord + Default {}
impl<T: Timestamp + Lattice + Ord + Default> RowTime for T {}

/// A batch of an arrangement: chunks, and the interval of times that they cover.
pub type RowBatch<T> = ChunkBatch<RowChunk<T>>;
/// Sorts updates for [`arrange_core`](differential_dataflow::operators::arrange::arrangement::arrange_core), in
/// recursive scopes.
pub type RowBatcher<T> = ChunkBatcher<RowChunk<T>>;
/// Builds batches for differential's own operators, in recursive scopes.
pub type RowBuilder<T> = ChunkBuilder<RowChunk<T>>;

/// At most this many rows in a chunk: a step of work on one takes about a millisecond.
pub(crate) const MAX_ROWS: usize = 32 * 1024;
/// A chunk with this many bytes is full, whatever its rows.
pub(crate) const MAX_BYTES: usize = 2 << 20;

/// A time for each row.
#[derive(Clone, Debug)]
enum Times<T> {
    /// All rows have one time.
    One(T),
    /// Row `i` has the time `at + i`.
    Each { times: Arc<Vec<T>>, at: u32 },
}

/// A diff for each row.
#[derive(Clone, Debug)]
enum Diffs {
    /// All diffs are 1.
    Ones,
    /// Row `i` has the diff `at + i`.
    Each { diffs: Arc<Vec<i64>>, at: u32 },
}

static ONE: i64 = 1;

/// A sorted, consolidated run of updates; cloning shares it.
#[derive(Clone, Debug)]
pub struct RowChunk<T> {
    body: Arc<Body>,
    /// The rows `lo..hi` of the body are the chunk's.
    lo: u32,
    hi: u32,
    /// The largest hash, to pass over a chunk without a look at its body.
    last: u64,
    times: Times<T>,
    diffs: Diffs,
}

impl<T: Default> Default for RowChunk<T> {
    fn default() -> Self {
        RowChunk { body: Arc::default(), lo: 0, hi: 0, last: 0, times: Times::One(T::default()), diffs: Diffs::Ones }
    }
}

impl<T> RowChunk<T> {
    /// The number of updates.
    #[inline]
    pub fn len(&self) -> usize {
        (self.hi - self.lo) as usize
    }

    /// Whether there are no updates. Chunks in batches are never empty.
    pub fn is_empty(&self) -> bool {
        self.lo == self.hi
    }

    /// The hashes of the keys, ascending.
    #[inline]
    pub fn hashes(&self) -> &[u64] {
        &self.body.hashes[self.lo as usize..self.hi as usize]
    }

    /// The largest hash.
    #[inline]
    pub(crate) fn last_hash(&self) -> u64 {
        self.last
    }

    /// The key of update `index`.
    #[inline]
    pub fn key(&self, index: usize) -> &[u8] {
        self.body.key(self.lo as usize + index)
    }

    /// The value of update `index`.
    #[inline]
    pub fn val(&self, index: usize) -> &[u8] {
        self.body.val(self.lo as usize + index)
    }

    /// The time of update `index`.
    #[inline]
    pub fn time(&self, index: usize) -> &T {
        match &self.times {
            Times::One(time) => time,
            Times::Each { times, at } => &times[*at as usize + index],
        }
    }

    /// The time of all updates, where they have one.
    #[inline]
    pub fn one_time(&self) -> Option<&T> {
        match &self.times {
            Times::One(time) => Some(time),
            Times::Each { .. } => None,
        }
    }

    /// The diff of update `index`.
    #[inline]
    pub fn diff(&self, index: usize) -> i64 {
        *self.diff_ref(index)
    }

    #[inline]
    fn diff_ref(&self, index: usize) -> &i64 {
        match &self.diffs {
            Diffs::Ones => &ONE,
            Diffs::Each { diffs, at } => &diffs[*at as usize + index],
        }
    }

    /// Whether some diff is negative.
    pub(crate) fn retracts(&self) -> bool {
        match &self.diffs {
            Diffs::Ones => false,
            Diffs::Each { diffs, at } => diffs[*at as usize..][..self.len()].iter().any(|diff| *diff < 0),
        }
    }

    /// Whether the updates `this` and `that` have one key and one value.
    #[inline]
    fn same_row(&self, this: usize, other: &Self, that: usize) -> bool {
        self.hashes()[this] == other.hashes()[that]
            && bytes::equal(self.key(this), other.key(that))
            && bytes::equal(self.val(this), other.val(that))
    }

    /// The order of two updates, whose hashes are equal, by key and value.
    #[inline]
    pub(crate) fn cmp_row(&self, this: usize, other: &Self, that: usize) -> Ordering {
        if bytes::equal(self.key(this), other.key(that)) {
            bytes::compare(self.val(this), other.val(that))
        } else {
            self.key(this).cmp(other.key(that))
        }
    }

    /// Bytes held by the body, shared with the chunks cut from it, and by the times and diffs.
    pub fn heap_size(&self) -> usize {
        let times = match &self.times {
            Times::One(_) => 0,
            Times::Each { times, .. } => times.capacity() * size_of::<T>(),
        };
        let diffs = match &self.diffs {
            Diffs::Ones => 0,
            Diffs::Each { diffs, .. } => diffs.capacity() * size_of::<i64>(),
        };
        self.body.heap_size() + times + diffs
    }

    /// The bytes of the rows of this chunk, without what is shared but outside it.
    fn row_bytes(&self) -> usize {
        self.body.bytes_between(self.lo as usize, self.hi as usize)
    }

    /// Identifies the body, so that sharers are counted once.
    pub(crate) fn body_id(&self) -> usize {
        Arc::as_ptr(&self.body) as usize
    }
}

impl<T: Clone> RowChunk<T> {
    /// The updates `from..to`, sharing the body.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        debug_assert!(from <= to && to <= self.len());
        let mut times = self.times.clone();
        if let Times::Each { at, .. } = &mut times {
            *at += from as u32;
        }
        let mut diffs = self.diffs.clone();
        if let Diffs::Each { at, .. } = &mut diffs {
            *at += from as u32;
        }
        let last = if to == self.len() { self.last } else { self.hashes()[..to].last().copied().unwrap_or(0) };
        let (lo, hi) = (self.lo + from as u32, self.lo + to as u32);
        RowChunk { body: Arc::clone(&self.body), lo, hi, last, times, diffs }
    }
}

impl<T> Accountable for RowChunk<T> {
    fn record_count(&self) -> i64 {
        self.len() as i64
    }
}
