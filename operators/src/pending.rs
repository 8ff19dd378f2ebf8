//! Updates whose times have not closed yet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::exchange::Share;
use crate::time::Time;
use crate::updates::{Payload, Updates};

/// Batches of updates, handed out in order of time without copying a record.
///
/// A batch is cut into runs of one time; what is sorted are the runs. Batches arrive mostly in order of time, so most
/// runs only join the end of a queue; the others go to a heap. A batch is freed with its last run.
pub struct Pending<D> {
    batches: Vec<Batch<D>>,
    vacant: Vec<u32>,
    /// Runs in order of time.
    queue: VecDeque<Run>,
    /// Runs that arrived behind the end of the queue.
    late: BinaryHeap<Reverse<Run>>,
}

struct Batch<D> {
    share: Share<D>,
    /// The rows in order of time, where they are not in it.
    order: Vec<u32>,
    /// Runs not handed out yet.
    runs: usize,
}

/// Rows of one time in one batch: `start..end` of the batch, or of its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    time: Time,
    batch: u32,
    start: u32,
    end: u32,
}

impl<D: Payload> Batch<D> {
    /// The updates, and which of them in order of time; `None` for all as they are.
    fn parts(&self) -> (&Updates<D>, Option<&[u32]>) {
        let (updates, rows) = self.share.parts();
        (updates, if self.order.is_empty() { rows } else { Some(&self.order) })
    }
}

impl<D> Default for Pending<D> {
    fn default() -> Self {
        Pending { batches: Vec::new(), vacant: Vec::new(), queue: VecDeque::new(), late: BinaryHeap::new() }
    }
}

impl<D: Payload> Pending<D> {
    /// Takes a batch; gives its earliest time, or `None` when it is empty.
    pub fn push(&mut self, share: Share<D>) -> Option<Time> {
        let (Updates { times, .. }, rows) = share.parts();
        let slot = self.vacant.last().copied().unwrap_or(self.batches.len() as u32);
        let mut order = Vec::new();
        if !times.is_sorted() {
            order = rows.map_or_else(|| (0..times.len() as u32).collect(), <[u32]>::to_vec);
            order.sort_by_key(|&row| times[row as usize]);
        }
        let mut batch = Batch { share, order, runs: 0 };
        let (Updates { times, .. }, rows) = batch.parts();
        let len = rows.map_or(times.len(), <[u32]>::len);
        let time_at = |at: usize| times[rows.map_or(at, |rows| rows[at] as usize)];
        let earliest = (len > 0).then(|| time_at(0))?;
        let (mut start, mut runs) = (0, 0);
        while start < len {
            let time = time_at(start);
            let mut end = start + 1;
            while end < len && time_at(end) == time {
                end += 1;
            }
            let run = Run { time, batch: slot, start: start as u32, end: end as u32 };
            if self.queue.back().is_none_or(|last| last.time <= time) {
                self.queue.push_back(run);
            } else {
                self.late.push(Reverse(run));
            }
            runs += 1;
            start = end;
        }
        batch.runs = runs;
        if self.vacant.pop().is_some() {
            self.batches[slot as usize] = batch;
        } else {
            self.batches.push(batch);
        }
        Some(earliest)
    }

    /// The earliest time that has updates.
    pub fn first(&self) -> Option<Time> {
        let queued = self.queue.front().map(|run| run.time);
        let late = self.late.peek().map(|run| run.0.time);
        match (queued, late) {
            (Some(queued), Some(late)) => Some(queued.min(late)),
            (queued, late) => queued.or(late),
        }
    }

    /// Whether there are no updates.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.late.is_empty()
    }

    /// Calls `logic` with up to `limit` updates (at least one) at `time`, which must not be after [`Pending::first`]:
    /// with their batch and their rows in it. Returns how many there were, 0 when none are left at `time`.
    pub fn take(
        &mut self,
        time: Time,
        limit: usize,
        rows: &mut Vec<u32>,
        logic: impl FnOnce(&Updates<D>, &[u32]),
    ) -> usize {
        let mut run = match (self.queue.front().copied(), self.late.peek().copied()) {
            (Some(run), _) if run.time == time => run,
            (_, Some(Reverse(run))) if run.time == time => run,
            _ => return 0,
        };
        let queued = self.queue.front() == Some(&run);
        let end = run.end.min(run.start.saturating_add(limit.max(1) as u32));
        let batch = &mut self.batches[run.batch as usize];
        let taken = (end - run.start) as usize;
        match batch.parts() {
            (updates, Some(rows)) => logic(updates, &rows[run.start as usize..end as usize]),
            (updates, None) => {
                rows.clear();
                rows.extend(run.start..end);
                logic(updates, rows);
            }
        }
        run.start = end;
        let finished = run.start == run.end;
        if queued {
            match (finished, self.queue.front_mut()) {
                (false, Some(front)) => *front = run,
                _ => drop(self.queue.pop_front()),
            }
        } else {
            self.late.pop();
            if !finished {
                self.late.push(Reverse(run));
            }
        }
        if finished {
            batch.runs -= 1;
            if batch.runs == 0 {
                *batch = Batch { share: Share::default(), order: Vec::new(), runs: 0 };
                self.vacant.push(run.batch);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn hands_out_every_update_once_in_order_of_time() {
        for seed in 0..50 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut pending = Pending::<Vec<u64>>::default();
            let mut model: BTreeMap<Time, Vec<u64>> = BTreeMap::new();
            let (mut frontier, mut number, mut rows) = (0, 0, Vec::new());
            for _ in 0..30 {
                for _ in 0..rng.random_range(0..4) {
                    let mut batch = Updates::<Vec<u64>>::default();
                    for _ in 0..rng.random_range(0..20) {
                        let time = frontier + rng.random_range(0..8);
                        batch.data.push(number);
                        batch.times.push(time);
                        batch.diffs.push(1);
                        model.entry(time).or_default().push(number);
                        number += 1;
                    }
                    if rng.random_bool(0.5) {
                        let mut order: Vec<u32> = (0..batch.len() as u32).collect();
                        order.sort_by_key(|&i| batch.times[i as usize]);
                        batch = batch.gather(&order);
                    }
                    // A share of a larger batch is as good as a batch.
                    let share = if rng.random_bool(0.5) {
                        let others = Updates::uniform(vec![u64::MAX; batch.len()], 0, 1);
                        let rows = (0..batch.len() as u32).map(|row| 2 * row + 1).collect();
                        let mixed = (0..2 * batch.len() as u32).map(|i| (i % 2) * batch.len() as u32 + i / 2);
                        Share::Part(Updates::concat(&[&others, &batch]).gather(&mixed.collect::<Vec<_>>()).into(), rows)
                    } else {
                        Share::Whole(batch.clone())
                    };
                    let earliest = batch.times.iter().min().copied();
                    assert_eq!(pending.push(share), earliest);
                }
                frontier += rng.random_range(0..5);
                while let Some(time) = pending.first().filter(|t| *t < frontier) {
                    let mut got = Vec::new();
                    while pending.take(time, 3, &mut rows, |batch, rows| {
                        assert!(rows.len() <= 3);
                        got.extend(rows.iter().map(|&row| batch.data[row as usize]));
                    }) > 0
                    {}
                    got.sort();
                    assert_eq!(model.pop_first(), Some((time, got)));
                }
                assert!(model.first_key_value().is_none_or(|(t, _)| *t >= frontier));
                assert_eq!(pending.is_empty(), model.is_empty());
            }
            assert!(pending.batches.len() < 130);
        }
    }
}
