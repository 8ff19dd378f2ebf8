//! Merging, splitting by time, advancing times and packing: a [`RowChunk`] as differential's [`Chunk`].

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use differential_dataflow::trace::chunk::Chunk;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use super::search::seek;
use super::{Diffs, MAX_BYTES, MAX_ROWS, RowBuffer, RowChunk, RowTime, Times};

/// Rows written in a step of a merge: fewer than make a chunk, so that the steps are appended to one.
pub(super) const STEP: usize = MAX_ROWS / 8;

impl<T: RowTime> Chunk for RowChunk<T> {
    type Time = T;

    const TARGET: usize = MAX_ROWS;

    fn len(&self) -> usize {
        self.len()
    }

    /// Writes some thousand rows and returns, so that a step of a merge is short.
    fn merge(in1: &mut VecDeque<Self>, in2: &mut VecDeque<Self>, out: &mut VecDeque<Self>) {
        let (Some(mut a), Some(mut b)) = (in1.pop_front(), in2.pop_front()) else { return };
        let (mut i, mut j) = (0, 0);
        let wider = if a.row_bytes() * b.len() > b.row_bytes() * a.len() { &a } else { &b };
        let mut merged = RowBuffer::like(wider, (a.len() + b.len()).min(STEP));
        loop {
            let (ha, hb) = (a.hashes(), b.hashes());
            while i < ha.len() && j < hb.len() && !merged.is_step() {
                match ha[i].cmp(&hb[j]) {
                    Ordering::Less => {
                        let end = seek(ha, i + 1, hb[j]).min(i + merged.room());
                        merged.extend(&a, i, end);
                        i = end;
                    }
                    Ordering::Greater => {
                        let end = seek(hb, j + 1, ha[i]).min(j + merged.room());
                        merged.extend(&b, j, end);
                        j = end;
                    }
                    Ordering::Equal => match a.cmp_row(i, &b, j).then_with(|| a.time(i).cmp(b.time(j))) {
                        Ordering::Less => {
                            merged.extend(&a, i, i + 1);
                            i += 1;
                        }
                        Ordering::Greater => {
                            merged.extend(&b, j, j + 1);
                            j += 1;
                        }
                        Ordering::Equal => {
                            let diff = a.diff(i) + b.diff(j);
                            if diff != 0 {
                                merged.push_from(&a, i, a.time(i), diff);
                            }
                            i += 1;
                            j += 1;
                        }
                    },
                }
            }
            if merged.is_step() {
                break;
            }
            if i == a.len() {
                let Some(next) = in1.pop_front() else { break };
                (a, i) = (next, 0);
            }
            if j == b.len() {
                let Some(next) = in2.pop_front() else { break };
                (b, j) = (next, 0);
            }
        }
        merged.flush(out);
        if i < a.len() {
            in1.push_front(a.slice(i, a.len()));
        }
        if j < b.len() {
            in2.push_front(b.slice(j, b.len()));
        }
    }

    fn extract(
        input: &mut VecDeque<Self>,
        frontier: AntichainRef<T>,
        residual: &mut Antichain<T>,
        keep: &mut VecDeque<Self>,
        ship: &mut VecDeque<Self>,
    ) {
        let Some(chunk) = input.pop_front() else { return };
        if let Some(time) = chunk.one_time() {
            if frontier.less_equal(time) {
                residual.insert_ref(time);
                keep.push_back(chunk);
            } else {
                ship.push_back(chunk);
            }
            return;
        }
        let mut kept = RowBuffer::with_capacity(0, 0);
        let mut shipped = RowBuffer::with_capacity(0, 0);
        let mut from = 0;
        while from < chunk.len() {
            let keeps = frontier.less_equal(chunk.time(from));
            let mut to = from;
            while to < chunk.len() && frontier.less_equal(chunk.time(to)) == keeps {
                if keeps {
                    residual.insert_ref(chunk.time(to));
                }
                to += 1;
            }
            if keeps {
                kept.extend(&chunk, from, to)
            } else {
                shipped.extend(&chunk, from, to)
            }
            from = to;
        }
        kept.flush(keep);
        shipped.flush(ship);
    }

    fn advance(input: &mut VecDeque<Self>, frontier: AntichainRef<T>, done: bool, out: &mut VecDeque<Self>) {
        while let Some(chunk) = input.pop_front() {
            let last = chunk.len() - 1;
            let spills = match input.front() {
                Some(next) => chunk.same_row(last, next, 0),
                None => !done,
            };
            if !spills {
                chunk.advanced(frontier, out);
                continue;
            }
            // The last row's group may go on: everything before it is complete.
            let mut group = last;
            while group > 0 && chunk.same_row(group - 1, &chunk, last) {
                group -= 1;
            }
            if group > 0 {
                chunk.slice(0, group).advanced(frontier, out);
            }
            if input.is_empty() {
                input.push_front(if group > 0 { chunk.slice(group, last + 1) } else { chunk });
                return;
            }
            let mut whole = if group > 0 { chunk.slice(group, last + 1) } else { chunk };
            let mut complete = done;
            while let Some(next) = input.pop_front() {
                let end = (0..next.len()).find(|&i| !whole.same_row(0, &next, i)).unwrap_or(next.len());
                let mut longer = RowBuffer::from_chunk(whole);
                longer.extend(&next, 0, end);
                whole = longer.into_chunk();
                if end < next.len() {
                    input.push_front(next.slice(end, next.len()));
                    complete = true;
                    break;
                }
            }
            if !complete {
                input.push_front(whole);
                return;
            }
            whole.advanced(frontier, out);
        }
    }

    /// Joins chunks that are much smaller than they could be; passes all others on.
    fn settle(input: &mut VecDeque<Self>, done: bool, out: &mut VecDeque<Self>) {
        let mut carry: Option<Self> = None;
        while let Some(chunk) = input.pop_front() {
            carry = Some(match carry.take() {
                None => chunk,
                Some(before) => match before.rejoin(&chunk) {
                    Some(joined) => joined,
                    None if (before.is_small() || chunk.is_small())
                        && before.len() + chunk.len() <= MAX_ROWS
                        && before.row_bytes() + chunk.row_bytes() <= MAX_BYTES =>
                    {
                        let mut longer = RowBuffer::from_chunk(before);
                        longer.extend(&chunk, 0, chunk.len());
                        longer.into_chunk()
                    }
                    None => {
                        out.push_back(before.sealed());
                        chunk
                    }
                },
            });
        }
        if let Some(last) = carry {
            if done {
                out.push_back(last.sealed());
            } else {
                input.push_front(last);
            }
        }
    }
}

impl<T: RowTime> RowChunk<T> {
    /// Whether the chunk is worth a copy to make it larger.
    fn is_small(&self) -> bool {
        self.len() < MAX_ROWS / 4 && self.row_bytes() < MAX_BYTES / 4
    }

    /// Advances the times by `frontier` and consolidates, knowing that no row continues in another chunk.
    fn advanced(mut self, frontier: AntichainRef<T>, out: &mut VecDeque<Self>) {
        let advance = |time: &T| {
            let mut time = time.clone();
            time.advance_by(frontier);
            time
        };
        match &self.times {
            Times::One(time) => {
                // One time and no doubles before: no doubles after.
                self.times = Times::One(advance(time));
                out.push_back(self);
                return;
            }
            Times::Each { .. } => {}
        }
        let times: Vec<T> = (0..self.len()).map(|i| advance(self.time(i))).collect();
        let hashes = self.hashes();
        let repeats = (1..self.len()).any(|i| hashes[i - 1] == hashes[i] && self.same_row(i - 1, &self, i));
        if !repeats {
            self.times = if times.windows(2).all(|w| w[0] == w[1]) {
                Times::One(times[0].clone())
            } else {
                Times::Each { times: Arc::new(times), at: 0 }
            };
            out.push_back(self);
            return;
        }
        let mut buffer = RowBuffer::like(&self, self.len());
        let mut group: Vec<(&T, i64)> = Vec::new();
        let mut from = 0;
        while from < self.len() {
            let mut to = from + 1;
            while to < self.len() && self.same_row(to - 1, &self, to) {
                to += 1;
            }
            if to - from == 1 {
                buffer.push_from(&self, from, &times[from], self.diff(from));
            } else {
                group.clear();
                group.extend((from..to).map(|i| (&times[i], self.diff(i))));
                group.sort_by(|a, b| a.0.cmp(b.0));
                let mut next = 0;
                while next < group.len() {
                    let (time, mut diff) = group[next];
                    next += 1;
                    while next < group.len() && group[next].0 == time {
                        diff += group[next].1;
                        next += 1;
                    }
                    if diff != 0 {
                        buffer.push_from(&self, from, time, diff);
                        if buffer.is_full() {
                            buffer.flush(out);
                        }
                    }
                }
            }
            from = to;
        }
        buffer.flush(out);
    }

    /// This chunk and the next as one without a copy of rows, where they were cut from one body.
    fn rejoin(&self, next: &Self) -> Option<Self> {
        if !Arc::ptr_eq(&self.body, &next.body) || self.hi != next.lo {
            return None;
        }
        let times = match (&self.times, &next.times) {
            (Times::One(a), Times::One(b)) if a == b => Times::One(a.clone()),
            (Times::Each { times: a, at }, Times::Each { times: b, at: bt })
                if Arc::ptr_eq(a, b) && *at as usize + self.len() == *bt as usize =>
            {
                self.times.clone()
            }
            _ => {
                let all = (0..self.len()).map(|i| self.time(i)).chain((0..next.len()).map(|i| next.time(i)));
                Times::Each { times: Arc::new(all.cloned().collect()), at: 0 }
            }
        };
        let diffs = match (&self.diffs, &next.diffs) {
            (Diffs::Ones, Diffs::Ones) => Diffs::Ones,
            (Diffs::Each { diffs: a, at }, Diffs::Each { diffs: b, at: bt })
                if Arc::ptr_eq(a, b) && *at as usize + self.len() == *bt as usize =>
            {
                self.diffs.clone()
            }
            _ => {
                let all = (0..self.len()).map(|i| self.diff(i)).chain((0..next.len()).map(|i| next.diff(i)));
                Diffs::Each { diffs: Arc::new(all.collect()), at: 0 }
            }
        };
        Some(RowChunk { body: Arc::clone(&self.body), lo: self.lo, hi: next.hi, last: next.last, times, diffs })
    }

    /// The chunk as it will be kept: copied where it would keep a much larger body alive.
    fn sealed(self) -> Self {
        if Arc::strong_count(&self.body) == 1 && self.len() == self.body.len() {
            return RowBuffer::from_chunk(self).finish();
        }
        if self.len() >= self.body.len() - self.body.len() / 4 {
            return self;
        }
        let mut own = RowBuffer::like(&self, self.len());
        own.extend(&self, 0, self.len());
        own.finish()
    }
}
