//! From updates in any order to the sorted chunks of a batch, in short steps.
//!
//! A seal of many rows deals them into parts by where their hash lies in the worker's range, a chunk's worth each, and then sorts one
//! part after another: two passes over the rows, each within the caches, however many there are. A part that fills up
//! because keys repeat is sorted in runs, and these are merged.

use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::trace::chunk::Chunk;

use crate::chunk::{MAX_BYTES, MAX_ROWS, RowBuffer, RowChunk, Sort};
use crate::hash::place;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::time::Time;
use crate::turn::Turn;
use crate::updates::Updates;

/// Rows dealt between two looks at the clock, where turns are not shared.
const STEP: usize = 8 * 1024;

/// Updates received and not yet sealed.
struct Pending {
    updates: Rc<Updates<Keyed<Rows>>>,
    /// The updates before this one are sealed.
    from: usize,
    /// Whether the updates are in order of time, so that a seal takes a prefix.
    sorted: bool,
    min: Time,
    max: Time,
}

/// A range of updates that a seal takes.
struct Source {
    updates: Rc<Updates<Keyed<Rows>>>,
    from: usize,
    to: usize,
}

/// Rows whose hashes lie in one stretch of what their worker owns.
#[derive(Default)]
struct Part {
    rows: RowBuffer<Time>,
    /// The rows being sorted, and the run that they become.
    sorting: Option<(Sort<Time>, VecDeque<RowChunk<Time>>)>,
    runs: VecDeque<VecDeque<RowChunk<Time>>>,
}

impl Part {
    /// Sorts all rows.
    fn sort(&mut self) {
        while !self.sort_some(usize::MAX) {}
    }

    /// Sorts some rows, or only begins to; true when all are sorted.
    fn sort_some(&mut self, rows: usize) -> bool {
        match &mut self.sorting {
            Some((sort, run)) => {
                if sort.step(rows, run) {
                    self.runs.push_back(std::mem::take(run));
                    self.sorting = None;
                }
                false
            }
            None if self.rows.is_empty() => true,
            None => {
                self.sorting = Some((std::mem::take(&mut self.rows).begin_sort(), VecDeque::new()));
                false
            }
        }
    }
}

/// A merge of two runs of the part at hand.
struct Merge {
    a: VecDeque<RowChunk<Time>>,
    b: VecDeque<RowChunk<Time>>,
    out: VecDeque<RowChunk<Time>>,
}

/// A seal under way.
pub(super) struct Seal {
    /// The least time of the updates.
    pub(super) min: Time,
    sources: VecDeque<Source>,
    peers: usize,
    bits: u32,
    parts: VecDeque<Part>,
    merge: Option<Merge>,
    out: VecDeque<RowChunk<Time>>,
}

/// The updates that wait for their time to close.
pub(super) struct Buffer {
    pending: Vec<Pending>,
    /// How many workers share the hashes out.
    peers: usize,
}

impl Buffer {
    pub(super) fn new(peers: usize) -> Self {
        Buffer { pending: Vec::new(), peers }
    }

    pub(super) fn push(&mut self, updates: Updates<Keyed<Rows>>) {
        let (Some(&min), Some(&max)) = (updates.times.iter().min(), updates.times.iter().max()) else { return };
        self.pending.push(Pending { updates: Rc::new(updates), from: 0, sorted: min == max, min, max });
    }

    /// The least time that waits.
    pub(super) fn min(&self) -> Option<Time> {
        self.pending.iter().map(|p| p.min).min()
    }

    /// Takes out all updates with times before `upper`, or all where it is none. None if there are none.
    pub(super) fn seal(&mut self, upper: Option<Time>) -> Option<Seal> {
        let mut sources = VecDeque::new();
        let (mut rows, mut bytes, mut min) = (0, 0, Time::MAX);
        self.pending.retain_mut(|pending| {
            if upper.is_some_and(|upper| pending.min >= upper) {
                return true;
            }
            min = min.min(pending.min);
            let len = pending.updates.len();
            let whole = upper.is_none_or(|upper| pending.max < upper);
            if !whole && !pending.sorted {
                let mut order: Vec<u32> = (0..len as u32).collect();
                order.sort_by_key(|&i| pending.updates.times[i as usize]);
                pending.updates = Rc::new(pending.updates.gather(&order));
                pending.sorted = true;
            }
            let from = pending.from;
            let to = match upper {
                Some(upper) if !whole => from + pending.updates.times[from..].partition_point(|&t| t < upper),
                _ => len,
            };
            let data = &pending.updates.data;
            bytes += (data.keys.bytes().len() + data.vals.bytes().len()) / len.max(1) * (to - from);
            rows += to - from;
            sources.push_back(Source { updates: Rc::clone(&pending.updates), from, to });
            pending.from = to;
            if to < len {
                pending.min = pending.updates.times[to];
            }
            to < len
        });
        if rows == 0 {
            return None;
        }
        let parts = (rows / (MAX_ROWS * 3 / 4)).max(bytes / (MAX_BYTES * 3 / 4)) + 1;
        let bits = parts.next_power_of_two().ilog2();
        let parts = 1usize << bits;
        let part = || Part {
            rows: RowBuffer::with_capacity(
                rows / parts + rows / parts / 16 + 16,
                bytes / parts + bytes / parts / 16 + 64,
            ),
            ..Part::default()
        };
        let parts = (0..parts).map(|_| part()).collect();
        Some(Seal { min, sources, peers: self.peers, bits, parts, merge: None, out: VecDeque::new() })
    }
}

impl Seal {
    /// Works for a turn; the sorted chunks when done.
    pub(super) fn work(&mut self, turn: &Turn) -> Option<Vec<RowChunk<Time>>> {
        loop {
            if !self.deal(turn.piece(STEP)) && !self.merge() && !self.sort(turn.piece(STEP)) {
                let mut chunks = VecDeque::new();
                RowChunk::settle(&mut self.out, true, &mut chunks);
                return Some(chunks.into());
            }
            if turn.is_over() {
                return None;
            }
        }
    }

    /// Deals some rows to their parts; false when all are.
    fn deal(&mut self, rows: usize) -> bool {
        let Some(source) = self.sources.front_mut() else { return false };
        let end = source.to.min(source.from + rows);
        let Updates { data, times, diffs } = &*source.updates;
        for index in source.from..end {
            let hash = data.hashes[index];
            let part = &mut self.parts[place(hash, self.peers).checked_shr(64 - self.bits).unwrap_or(0) as usize];
            part.rows.push_row(data, index, &times[index], diffs[index]);
            if part.rows.is_full() {
                part.sort();
            }
        }
        source.from = end;
        if source.from == source.to {
            self.sources.pop_front();
        }
        true
    }

    /// Works on the merge of two runs; false when there is none.
    fn merge(&mut self) -> bool {
        let Some(merge) = &mut self.merge else { return false };
        if !merge.a.is_empty() && !merge.b.is_empty() {
            RowChunk::merge(&mut merge.a, &mut merge.b, &mut merge.out);
        } else if let Some(mut merge) = self.merge.take() {
            merge.out.append(&mut merge.a);
            merge.out.append(&mut merge.b);
            if let Some(part) = self.parts.front_mut() {
                part.runs.push_back(merge.out);
            }
        }
        true
    }

    /// Sorts some rows of the next part, or begins to merge its runs; false when all parts are done.
    fn sort(&mut self, rows: usize) -> bool {
        let Some(part) = self.parts.front_mut() else { return false };
        if !part.sort_some(rows) {
        } else if part.runs.len() > 1 {
            let (a, b) = (part.runs.pop_front().unwrap_or_default(), part.runs.pop_front().unwrap_or_default());
            self.merge = Some(Merge { a, b, out: VecDeque::new() });
        } else {
            part.runs.drain(..).for_each(|mut run| self.out.append(&mut run));
            self.parts.pop_front();
        }
        true
    }
}
