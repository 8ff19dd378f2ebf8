//! A position in a batch.

use std::cmp::Ordering;

use super::SharedBatch;
use crate::bytes;
use crate::chunk::RowChunk;
use crate::chunk::search::seek;
use crate::time::Time;

/// Reads the rows of a batch in order.
pub(crate) struct Reader {
    batch: SharedBatch,
    chunk: usize,
    row: usize,
}

impl Reader {
    pub(crate) fn new(batch: SharedBatch) -> Self {
        Reader { batch, chunk: 0, row: 0 }
    }

    /// The row at hand: its chunk and its index there. None at the end.
    #[inline]
    pub(crate) fn at(&self) -> Option<(&RowChunk<Time>, usize)> {
        self.batch.chunks().get(self.chunk).map(|chunk| (chunk, self.row))
    }

    /// Moves to a position; to the end where there is none.
    pub(crate) fn place(&mut self, position: Option<(usize, usize)>) {
        (self.chunk, self.row) = position.unwrap_or((usize::MAX, 0));
    }

    /// The time of the row at hand, as the reader's as-of has it; the largest at the end.
    #[inline]
    pub(crate) fn time(&self) -> Time {
        self.at().map_or(Time::MAX, |(chunk, row)| (*chunk.time(row)).max(self.batch.as_of()))
    }

    /// Moves to the next row.
    #[inline]
    pub(crate) fn step(&mut self) {
        self.row += 1;
        if self.batch.chunks().get(self.chunk).is_some_and(|chunk| self.row >= chunk.len()) {
            self.chunk += 1;
            self.row = 0;
        }
    }

    /// Moves on to the first row whose hash is at least `hash`.
    pub(crate) fn seek(&mut self, hash: u64) {
        let chunks = self.batch.chunks();
        let ends_before = |chunk: &RowChunk<Time>| chunk.last_hash() < hash;
        if chunks.get(self.chunk).is_some_and(ends_before) {
            self.chunk += chunks[self.chunk..].partition_point(ends_before);
            self.row = 0;
        }
        if let Some(chunk) = chunks.get(self.chunk) {
            self.row = seek(chunk.hashes(), self.row, hash);
        }
    }

    /// From a row of this hash, moves on to the first row whose key is at least `key`.
    #[inline]
    pub(crate) fn seek_key(&mut self, hash: u64, key: &[u8]) {
        while self.at().is_some_and(|(chunk, row)| chunk.hashes()[row] == hash && chunk.key(row) < key) {
            self.step();
        }
    }

    /// The order of the rows at hand by hash, key and value; the end comes last.
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        match (self.at(), other.at()) {
            (Some((a, i)), Some((b, j))) => a.hashes()[i].cmp(&b.hashes()[j]).then_with(|| a.cmp_row(i, b, j)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }

    /// Whether the row at hand has this key.
    #[inline]
    pub(crate) fn is_at(&self, hash: u64, key: &[u8]) -> bool {
        self.at().is_some_and(|(chunk, row)| chunk.hashes()[row] == hash && bytes::equal(chunk.key(row), key))
    }
}
