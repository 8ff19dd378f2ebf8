//! Building chunks: appending in order, or collecting in any order and sorting.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use super::merge::STEP;
use super::{Body, Diffs, MAX_BYTES, MAX_ROWS, RowChunk, Times};
use crate::bytes;
use crate::keyed::Keyed;
use crate::rows::Rows;

/// Updates in one buffer, in any order or in a chunk's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowBuffer<T> {
    body: Body,
    /// The time of the first row; the time of all of them while `times` is empty.
    time: T,
    times: Vec<T>,
    /// Empty while all diffs are 1.
    diffs: Vec<i64>,
}

impl<T: Ord + Clone + Default> RowBuffer<T> {
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        RowBuffer { body: Body::with_capacity(rows, bytes), time: T::default(), times: Vec::new(), diffs: Vec::new() }
    }

    /// Room for a chunk's worth of rows like those of `like`, at most `rows`.
    pub(super) fn like(like: &RowChunk<T>, rows: usize) -> Self {
        let rows = rows.min(MAX_ROWS);
        let width = like.row_bytes() / like.len().max(1) + 1;
        RowBuffer::with_capacity(rows, (rows * width).min(MAX_BYTES + 4096))
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a chunk's worth.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_ROWS || self.body.bytes_len() >= MAX_BYTES
    }

    /// Whether this is a step's worth of a merge.
    #[inline]
    pub(super) fn is_step(&self) -> bool {
        self.len() >= STEP || self.body.bytes_len() >= MAX_BYTES / 8
    }

    /// Room for rows before it is a step's worth.
    pub(super) fn room(&self) -> usize {
        STEP.saturating_sub(self.len())
    }

    #[inline]
    pub(crate) fn push(&mut self, hash: u64, key: &[u8], val: &[u8], time: &T, diff: i64) {
        self.note(time, diff);
        self.body.push(hash, key, val);
    }

    /// Appends the update of a key and a value in their buffers.
    #[inline]
    pub(crate) fn push_row(&mut self, rows: &Keyed<Rows>, index: usize, time: &T, diff: i64) {
        self.note(time, diff);
        self.body.push_row(rows.hashes[index], &rows.keys, &rows.vals, index);
    }

    /// Appends update `index` of a chunk, with another time and diff.
    #[inline]
    pub(super) fn push_from(&mut self, chunk: &RowChunk<T>, index: usize, time: &T, diff: i64) {
        self.note(time, diff);
        self.body.push_from(&chunk.body, chunk.lo as usize + index);
    }

    /// Appends the updates `from..to` of a chunk.
    #[inline]
    pub(super) fn extend(&mut self, chunk: &RowChunk<T>, from: usize, to: usize) {
        if from == to {
            return;
        }
        let len = self.len();
        match &chunk.times {
            Times::One(time) => {
                if len == 0 {
                    self.time = time.clone();
                } else if !self.times.is_empty() || *time != self.time {
                    self.each_time();
                    self.times.resize(len + to - from, time.clone());
                }
            }
            Times::Each { times, at } => {
                if len == 0 {
                    self.time = times[*at as usize + from].clone();
                }
                self.each_time();
                self.times.extend_from_slice(&times[*at as usize + from..*at as usize + to]);
            }
        }
        match &chunk.diffs {
            Diffs::Ones => {
                if !self.diffs.is_empty() {
                    self.diffs.resize(len + to - from, 1);
                }
            }
            Diffs::Each { diffs, at } => {
                self.each_diff();
                self.diffs.extend_from_slice(&diffs[*at as usize + from..*at as usize + to]);
            }
        }
        self.body.extend_from(&chunk.body, chunk.lo as usize + from, chunk.lo as usize + to);
    }

    /// Records the time and diff of a row about to be appended.
    #[inline]
    fn note(&mut self, time: &T, diff: i64) {
        if self.body.len() == 0 {
            self.time = time.clone();
        } else if !self.times.is_empty() || *time != self.time {
            self.each_time();
            self.times.push(time.clone());
        }
        if diff != 1 || !self.diffs.is_empty() {
            self.each_diff();
            self.diffs.push(diff);
        }
    }

    #[inline]
    fn each_time(&mut self) {
        if self.times.is_empty() {
            self.times.reserve(self.body.hashes.capacity());
            self.times.resize(self.len(), self.time.clone());
        }
    }

    #[inline]
    fn each_diff(&mut self) {
        if self.diffs.is_empty() {
            self.diffs.reserve(self.body.hashes.capacity());
            self.diffs.resize(self.len(), 1);
        }
    }

    #[inline]
    fn time(&self, index: usize) -> &T {
        self.times.get(index).unwrap_or(&self.time)
    }

    #[inline]
    fn diff(&self, index: usize) -> i64 {
        self.diffs.get(index).copied().unwrap_or(1)
    }

    /// The updates as a chunk to be kept; they must be sorted and consolidated. Gives back spare room.
    pub(crate) fn finish(mut self) -> RowChunk<T> {
        self.body.shrink();
        if self.times.iter().all(|t| *t == self.time) {
            self.times = Vec::new();
        }
        if self.diffs.iter().all(|d| *d == 1) {
            self.diffs = Vec::new();
        }
        self.times.shrink_to_fit();
        self.diffs.shrink_to_fit();
        self.into_chunk()
    }

    /// The updates as a chunk that will be appended to; they must be sorted and consolidated.
    pub(super) fn into_chunk(self) -> RowChunk<T> {
        let hi = self.len() as u32;
        let times = match self.times.is_empty() {
            true => Times::One(self.time),
            false => Times::Each { times: Arc::new(self.times), at: 0 },
        };
        let diffs = match self.diffs.is_empty() {
            true => Diffs::Ones,
            false => Diffs::Each { diffs: Arc::new(self.diffs), at: 0 },
        };
        let last = self.body.hashes.last().copied().unwrap_or(0);
        RowChunk { body: Arc::new(self.body), lo: 0, hi, last, times, diffs }
    }

    /// Finishes into `out` what there is, leaving an empty buffer.
    pub(super) fn flush(&mut self, out: &mut VecDeque<RowChunk<T>>) {
        if !self.is_empty() {
            let full = std::mem::take(self);
            out.push_back(full.finish());
        }
    }

    /// Sorts and consolidates the updates into chunks.
    pub(crate) fn sort(self, out: &mut VecDeque<RowChunk<T>>) {
        let mut sort = self.begin_sort();
        while !sort.step(usize::MAX, out) {}
    }

    /// Puts the updates in order, to be consolidated into chunks in steps.
    pub(crate) fn begin_sort(self) -> Sort<T> {
        let mut order = by_hash(&self.body.hashes);
        let body = &self.body;
        body.touch();
        let row = |index: u32| (body.key(index as usize), body.val(index as usize), self.time(index as usize));
        // Only equal hashes leave anything to be decided.
        let mut doubles = false;
        let mut from = 0;
        while from < order.len() {
            let hash = order[from].0;
            let mut to = from + 1;
            while to < order.len() && order[to].0 == hash {
                to += 1;
            }
            if to - from > 1 {
                order[from..to].sort_unstable_by(|a, b| {
                    let ((key, val, time), (other_key, other_val, other_time)) = (row(a.1), row(b.1));
                    let keys = if bytes::equal(key, other_key) { Ordering::Equal } else { key.cmp(other_key) };
                    keys.then_with(|| bytes::compare(val, other_val)).then_with(|| time.cmp(other_time))
                });
                doubles = doubles || order[from..to].windows(2).any(|w| row(w[0].1) == row(w[1].1));
            }
            from = to;
        }
        Sort { rows: self, order, doubles, next: 0, sorted: RowBuffer::default() }
    }
}

/// Updates put in order, on their way into chunks.
pub(crate) struct Sort<T> {
    rows: RowBuffer<T>,
    /// The rows' hashes and indices in order.
    order: Vec<(u64, u32)>,
    /// Whether updates may have to be added up.
    doubles: bool,
    next: usize,
    sorted: RowBuffer<T>,
}

impl<T: Ord + Clone + Default> Sort<T> {
    /// Takes the next `count` rows or some more; true when there are no others.
    pub(crate) fn step(&mut self, count: usize, out: &mut VecDeque<RowChunk<T>>) -> bool {
        let Sort { rows, order, doubles, next, sorted } = self;
        let body = &rows.body;
        let row = |index: u32| (body.key(index as usize), body.val(index as usize), rows.time(index as usize));
        let width = body.bytes_len() / rows.len().max(1) + 1;
        let until = next.saturating_add(count).min(order.len());
        while *next < until {
            if sorted.body.hashes.capacity() == 0 {
                let left = (order.len() - *next).min(MAX_ROWS);
                *sorted = RowBuffer::with_capacity(left, (left * width).min(MAX_BYTES + 4096));
            }
            let index = order[*next].1;
            let mut diff = rows.diff(index as usize);
            *next += 1;
            while *doubles && *next < order.len() && row(order[*next].1) == row(index) {
                diff += rows.diff(order[*next].1 as usize);
                *next += 1;
            }
            if diff != 0 {
                sorted.note(rows.time(index as usize), diff);
                sorted.body.push_from(body, index as usize);
                if sorted.is_full() {
                    sorted.flush(out);
                }
            }
        }
        let done = *next >= order.len();
        if done {
            sorted.flush(out);
        }
        done
    }
}

impl<T: Clone + Default + Ord> RowBuffer<T> {
    /// The updates of a chunk, to be appended to: without a copy where nobody shares it.
    pub(super) fn from_chunk(chunk: RowChunk<T>) -> Self {
        let whole = chunk.lo == 0 && chunk.hi as usize == chunk.body.len();
        if !whole || Arc::strong_count(&chunk.body) > 1 {
            let mut buffer = RowBuffer::like(&chunk, 2 * chunk.len());
            buffer.extend(&chunk, 0, chunk.len());
            return buffer;
        }
        let len = chunk.len();
        let (time, times) = match chunk.times {
            Times::One(time) => (time, Vec::new()),
            Times::Each { times, at } => {
                let times = if at == 0 && times.len() == len {
                    Arc::unwrap_or_clone(times)
                } else {
                    times[at as usize..at as usize + len].to_vec()
                };
                (times.first().cloned().unwrap_or_default(), times)
            }
        };
        let diffs = match chunk.diffs {
            Diffs::Ones => Vec::new(),
            Diffs::Each { diffs, at } if at == 0 && diffs.len() == len => Arc::unwrap_or_clone(diffs),
            Diffs::Each { diffs, at } => diffs[at as usize..at as usize + len].to_vec(),
        };
        RowBuffer { body: Arc::unwrap_or_clone(chunk.body), time, times, diffs }
    }
}

/// The indices of `hashes` in ascending order of hash: dealt into buckets by their leading bits, of a few rows each where
/// hashes are spread evenly, and each bucket sorted.
fn by_hash(hashes: &[u64]) -> Vec<(u64, u32)> {
    let numbered = || hashes.iter().copied().zip(0u32..);
    let (Some(&low), Some(&high)) = (hashes.iter().min(), hashes.iter().max()) else { return Vec::new() };
    if hashes.len() < 64 || low == high {
        let mut order: Vec<_> = numbered().collect();
        order.sort_unstable();
        return order;
    }
    let bits = (hashes.len() / 4).ilog2();
    let shift = (high - low).ilog2().saturating_sub(bits - 1);
    let bucket = |hash: u64| ((hash - low) >> shift) as usize;
    let mut starts = vec![0u32; bucket(high) + 2];
    hashes.iter().for_each(|&h| starts[bucket(h) + 1] += 1);
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut order = vec![(0, 0); hashes.len()];
    let mut next = starts.clone();
    for (hash, index) in numbered() {
        let at = &mut next[bucket(hash)];
        order[*at as usize] = (hash, index);
        *at += 1;
    }
    for bounds in starts.windows(2) {
        let slice = &mut order[bounds[0] as usize..bounds[1] as usize];
        if slice.len() > 1 {
            slice.sort_unstable();
        }
    }
    order
}

impl<T: super::RowTime> RowChunk<T> {
    /// Appends an update, which must come after all others in a chunk's order; for builders of differential's
    /// operators.
    pub fn push(&mut self, key: super::RowKey<'_>, val: &[u8], time: &T, diff: i64) {
        let mut buffer = RowBuffer::from_chunk(std::mem::take(self));
        buffer.push(key.hash, key.bytes, val, time, diff);
        *self = buffer.into_chunk();
    }
}
