//! Updates that take effect in the future, in buckets whose width grows with their distance.
//!
//! Times are read as 16 digits of 4 bits. An update lies at the level of the first digit in which its time differs from
//! the frontier, in the bucket of that digit. When the frontier moves, all levels below the first digit that changes
//! are due without a look, and one bucket is opened and spread over the levels below. So an update is touched
//! once a level at most, not once a step of the frontier.

use crate::time::{SINCE_EVER, Time};
use crate::updates::{Payload, Updates};

const BITS: u32 = 4;
const DIGITS: usize = 1 << BITS;
const LEVELS: usize = (Time::BITS / BITS) as usize;
/// Batches below this size are merged with their neighbours, so that single updates don't stay single.
const SMALL: usize = 1 << 13;

/// Updates waiting for their time.
///
/// ```
/// use headwater_operators::{Updates, schedule::Schedule};
/// let mut schedule = Schedule::<Vec<String>>::default();
/// schedule.insert(Updates::uniform(vec!["expires".to_string()], 3_600, -1));
/// let mut due = Vec::new();
/// schedule.advance(3_600, &mut due);
/// assert!(schedule.work(1_000, &mut due) && due.is_empty()); // not before the frontier has passed its time
/// schedule.advance(3_601, &mut due);
/// assert!(schedule.work(1_000, &mut due));
/// assert_eq!(due[0].times, [3_600]);
/// ```
pub struct Schedule<D> {
    frontier: Time,
    buckets: Vec<Bucket<D>>,
    /// Batches of an opened bucket, yet to be spread.
    opened: Bucket<D>,
    /// The rows of each bucket, while a batch is spread.
    lists: Vec<Vec<u32>>,
    len: usize,
}

struct Bucket<D> {
    batches: Vec<Updates<D>>,
    /// No update in the bucket is earlier.
    earliest: Time,
}

impl<D> Default for Bucket<D> {
    fn default() -> Self {
        Bucket { batches: Vec::new(), earliest: Time::MAX }
    }
}

impl<D> Default for Schedule<D> {
    fn default() -> Self {
        Schedule {
            frontier: SINCE_EVER,
            buckets: (0..LEVELS * DIGITS).map(|_| Bucket::default()).collect(),
            opened: Bucket::default(),
            lists: vec![Vec::new(); LEVELS * DIGITS],
            len: 0,
        }
    }
}

impl<D: Payload> Schedule<D> {
    /// How many updates wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no update waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A time that no waiting update is before; `None` when none waits.
    pub fn earliest(&self) -> Option<Time> {
        let buckets = self.buckets.iter().chain([&self.opened]).filter(|bucket| !bucket.batches.is_empty());
        buckets.map(|bucket| bucket.earliest).min()
    }

    /// Adds updates. Those before the frontier are due at the next [`Schedule::work`].
    pub fn insert(&mut self, updates: Updates<D>) {
        if updates.is_empty() {
            return;
        }
        self.len += updates.len();
        self.spread(updates, None);
    }

    /// The batches that wait, from a place on: each place with what lies there, one after another. To take them up, insert
    /// them into a schedule at the same frontier or an earlier one.
    pub fn export(&self, from: &mut (usize, usize)) -> Option<&Updates<D>> {
        loop {
            let bucket = if from.0 == self.buckets.len() { &self.opened } else { self.buckets.get(from.0)? };
            if let Some(batch) = bucket.batches.get(from.1) {
                from.1 += 1;
                return Some(batch);
            }
            *from = (from.0 + 1, 0);
        }
    }

    /// Moves the frontier on: updates before it are due. What needs no look is appended to `due`; the rest comes from
    /// [`Schedule::work`].
    pub fn advance(&mut self, frontier: Time, due: &mut Vec<Updates<D>>) {
        if frontier <= self.frontier {
            return;
        }
        let level = level(frontier ^ self.frontier);
        let digit = digit(frontier, level);
        for bucket in &mut self.buckets[..level * DIGITS + digit] {
            self.len -= bucket.batches.iter().map(Updates::len).sum::<usize>();
            due.append(&mut bucket.batches);
            bucket.earliest = Time::MAX;
        }
        let bucket = std::mem::take(&mut self.buckets[level * DIGITS + digit]);
        self.opened.earliest = self.opened.earliest.min(bucket.earliest);
        self.opened.batches.extend(bucket.batches);
        self.frontier = frontier;
    }

    /// Spreads about `budget` updates of opened buckets; appends what is due to `due`. Returns whether all are spread.
    pub fn work(&mut self, budget: usize, due: &mut Vec<Updates<D>>) -> bool {
        let mut done = 0;
        while done < budget {
            let Some(batch) = self.opened.batches.pop() else { break };
            done += batch.len();
            self.spread(batch, Some(due));
        }
        if self.opened.batches.is_empty() {
            self.opened.earliest = Time::MAX;
        }
        self.opened.batches.is_empty()
    }

    /// Puts updates where they belong; with `due`, those before the frontier go there.
    fn spread(&mut self, updates: Updates<D>, due: Option<&mut Vec<Updates<D>>>) {
        let mut used = Vec::new();
        let mut early = Vec::new();
        for (row, &time) in updates.times.iter().enumerate() {
            if time < self.frontier {
                early.push(row as u32);
                continue;
            }
            let level = level(time ^ self.frontier);
            let bucket = level * DIGITS + digit(time, level);
            if self.lists[bucket].is_empty() {
                used.push(bucket);
            }
            self.lists[bucket].push(row as u32);
        }
        let mut whole = Some(updates);
        let mut part = |rows: &[u32]| match &whole {
            Some(updates) if rows.len() < updates.len() => updates.gather(rows),
            _ => whole.take().unwrap_or_default(),
        };
        if !early.is_empty() {
            let early = part(&early);
            match due {
                Some(due) => {
                    self.len -= early.len();
                    due.push(early);
                }
                None => self.opened.push(early),
            }
        }
        for bucket in used {
            let part = part(&self.lists[bucket]);
            self.lists[bucket].clear();
            self.buckets[bucket].push(part);
        }
    }
}

impl<D: Payload> Bucket<D> {
    fn push(&mut self, updates: Updates<D>) {
        let earliest = updates.times.iter().copied().min().unwrap_or(Time::MAX);
        self.earliest = self.earliest.min(earliest);
        self.batches.push(updates);
        // Merging only what is of a size keeps the copies logarithmic.
        while let [.., before, last] = &self.batches[..]
            && last.len() < SMALL
            && before.len() <= 2 * last.len()
        {
            let merged = Updates::concat(&[before, last]);
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(merged);
        }
    }
}

/// The level of the highest digit that is not 0.
fn level(difference: u64) -> usize {
    ((Time::BITS - 1 - (difference | 1).leading_zeros()) / BITS) as usize
}

fn digit(time: Time, level: usize) -> usize {
    (time >> (level as u32 * BITS)) as usize % DIGITS
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn each_update_is_due_when_the_frontier_has_passed_it() {
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut schedule = Schedule::<Vec<u64>>::default();
            let mut model: Vec<(u64, Time)> = Vec::new();
            let mut frontier = if seed % 2 == 0 { 0 } else { crate::time::from_micros(-300) };
            let (mut due, mut number) = (Vec::new(), 0);
            schedule.advance(frontier, &mut due);
            for _ in 0..40 {
                for _ in 0..rng.random_range(0..4) {
                    let mut batch = Updates::<Vec<u64>>::default();
                    for _ in 0..rng.random_range(0..12) {
                        let reach = 1u64 << rng.random_range(0..40);
                        let time = frontier + rng.random_range(0..reach);
                        batch.data.push(number);
                        batch.times.push(time);
                        batch.diffs.push(1);
                        model.push((number, time));
                        number += 1;
                    }
                    schedule.insert(batch);
                }
                let reach = 1u64 << rng.random_range(0..38);
                frontier += rng.random_range(0..reach);
                schedule.advance(frontier, &mut due);
                if rng.random_bool(0.2) {
                    // Saved and taken up, now and then at an earlier frontier.
                    let mut again = Schedule::default();
                    let mut early = Vec::new();
                    again.advance(frontier.saturating_sub(rng.random_range(0..2) << 9), &mut early);
                    let mut from = (0, 0);
                    while let Some(batch) = schedule.export(&mut from) {
                        again.insert(batch.clone());
                    }
                    again.advance(frontier, &mut due);
                    schedule = again;
                }
                while !schedule.work(rng.random_range(1..20), &mut due) {}
                let mut got: Vec<(u64, Time)> = Vec::new();
                for batch in due.drain(..) {
                    got.extend(batch.data.iter().copied().zip(batch.times));
                }
                got.sort();
                let expected: Vec<_> = model.extract_if(.., |(_, time)| *time < frontier).collect();
                assert_eq!(got, expected);
                assert_eq!(schedule.len(), model.len());
                let earliest = model.iter().map(|(_, time)| *time).min();
                assert!(schedule.earliest() <= earliest);
                assert_eq!(schedule.earliest().is_some(), earliest.is_some());
            }
        }
    }

    #[test]
    fn small_batches_merge_and_are_rarely_touched() {
        let mut schedule = Schedule::<Vec<u64>>::default();
        let base = crate::time::from_micros(0);
        let mut due = Vec::new();
        schedule.advance(base, &mut due);
        let hour = 3_600_000_000;
        for i in 0..20_000 {
            schedule.insert(Updates::uniform(vec![i], base + hour + i, 1));
        }
        let batches: usize = schedule.buckets.iter().map(|bucket| bucket.batches.len()).sum();
        assert!(batches < 100, "{batches} batches");
        // The frontier moves in 3,600 steps; what is pending is opened in a few of them.
        let mut opened = 0;
        for second in 1..=3_601 {
            schedule.advance(base + second * 1_000_000, &mut due);
            opened += schedule.opened.batches.iter().map(Updates::len).sum::<usize>();
            schedule.work(usize::MAX, &mut due);
        }
        assert!(schedule.is_empty());
        assert_eq!(due.iter().map(Updates::len).sum::<usize>(), 20_000);
        assert!(opened <= 20_000 * 9, "{opened} touches");
    }
}
