//! Each record once.
//!
//! The output at `t` holds each key whose copies, accumulated through `t`, are more than none: once. State is a hash
//! table of keys with their number of copies; a key without copies has no state, and the state of a bucket is dropped
//! when the frontier reaches it, without retractions (see [`Keyed::buckets`]). Updates whose time has reached their
//! bucket are ignored. A key with a negative number of copies is not in the output but among the errors.
//!
//! A key that comes is given when it comes; what a retraction changes is given when its time is closed. So a key that comes
//! and goes within one time may be given and taken back at that time.

use crate::buckets::Buckets;
use crate::counts::{Counts, Marks};
use crate::keyed::{KEEP, Keyed, NoValue};
use crate::reduction::{Errors, Fault, KeyError, Reduction, STEP, reduce};
use crate::saved::{Export, Homes, KeyStates};
use crate::table::KeyTable;
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// The distinct keys of a collection, and the keys whose copies are negative.
///
/// ```
/// use headwater_operators::{Keyed, Rows, Updates, distinct::distinct, keyed::NoValue};
/// use timely::dataflow::operators::{Capture, Input, capture::Event};
///
/// let changes = timely::execute_directly(|worker| {
///     let (mut input, changes) = worker.dataflow::<u64, _, _>(|scope| {
///         let (input, stream) = scope.new_input::<Updates<Keyed<NoValue>>>();
///         let (keys, _errors) = distinct(stream, "visitors");
///         (input, keys.capture())
///     });
///     let mut keys = Rows::default();
///     [b"ann", b"bob", b"ann"].iter().for_each(|k| keys.push(*k));
///     let keyed = Keyed::new(keys, NoValue(3));
///     input.send_batch(&mut Updates { data: keyed, times: vec![1, 1, 2], diffs: vec![1, 1, 1] });
///     changes
/// });
/// let mut seen = Vec::new();
/// for event in changes {
///     if let Event::Messages(_, batch) = event {
///         seen.extend((0..batch.len()).map(|i| (batch.data.keys.get(i).to_vec(), batch.times[i], batch.diffs[i])));
///     }
/// }
/// assert_eq!(seen, [(b"ann".to_vec(), 1, 1), (b"bob".to_vec(), 1, 1)]);
/// ```
pub fn distinct<'scope>(
    stream: UpdateStream<'scope, Keyed<NoValue>>,
    name: &str,
) -> (UpdateStream<'scope, Keyed<NoValue>>, UpdateStream<'scope, Vec<KeyError>>) {
    distinct_into(stream, name, Keys::default())
}

/// The same, with the keys as an emitter makes them of them.
pub fn distinct_into<'scope, E: Emitter>(
    stream: UpdateStream<'scope, Keyed<NoValue>>,
    name: &str,
    emitter: E,
) -> (UpdateStream<'scope, E::Output>, UpdateStream<'scope, Vec<KeyError>>) {
    reduce(stream, name, Distinct::new(emitter))
}

/// A key that is in the output from a time on, or no longer.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The key's hash.
    pub hash: u64,
    /// The key.
    pub key: &'a [u8],
    /// When its state can be released; see [`Keyed::buckets`].
    pub bucket: u64,
    /// When it comes or goes.
    pub time: Time,
    /// 1 or -1.
    pub diff: i64,
}

/// Gathers the changes of distinct keys as the updates that their consumer takes.
pub trait Emitter: 'static {
    /// The updates' records.
    type Output: Payload;

    /// Room for as many changes, of so many bytes in all, would be used.
    fn reserve(&mut self, _changes: usize, _bytes: usize) {}

    /// Takes a change.
    fn push(&mut self, change: Change<'_>);

    /// How many changes were taken since updates were.
    fn len(&self) -> usize;

    /// Whether none was.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the changes come to.
    fn take(&mut self) -> Updates<Self::Output>;
}

/// The keys as they are.
#[derive(Default)]
pub struct Keys(Updates<Keyed<NoValue>>);

impl Emitter for Keys {
    type Output = Keyed<NoValue>;

    fn reserve(&mut self, changes: usize, bytes: usize) {
        self.0.data.hashes.reserve(changes);
        self.0.data.keys.reserve(changes, bytes);
        self.0.times.reserve(changes);
        self.0.diffs.reserve(changes);
    }

    #[inline]
    fn push(&mut self, Change { hash, key, bucket, time, diff }: Change<'_>) {
        let Updates { data: keyed, times, diffs } = &mut self.0;
        keyed.hashes.push(hash);
        keyed.keys.push(key);
        push_bucket(&mut keyed.buckets, keyed.hashes.len(), bucket);
        keyed.vals.0 += 1;
        times.push(time);
        diffs.push(diff);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self) -> Updates<Keyed<NoValue>> {
        std::mem::take(&mut self.0)
    }
}

/// The keys of some buckets.
#[derive(Default)]
struct Segment {
    table: KeyTable,
    counts: Counts,
    homes: Homes,
    touched: Marks,
}

/// A key of which the current time has retracted copies, or that is in error.
struct Touched {
    hash: u64,
    /// Its copies before, as the output has them.
    old: i64,
    slot: u32,
    group: u32,
}

/// Room for as many touched keys is kept from one time to the next.
const TOUCHED: usize = 1 << 18;

/// The reduction of [`distinct`].
pub struct Distinct<E> {
    buckets: Buckets<Segment>,
    touched: Vec<Touched>,
    /// How many of `touched` were emitted.
    emitted: usize,
    groups: Vec<u32>,
    emitter: E,
}

impl<E> Distinct<E> {
    /// No keys yet.
    pub fn new(emitter: E) -> Self {
        Distinct { buckets: Buckets::default(), touched: Vec::new(), emitted: 0, groups: Vec::new(), emitter }
    }
}

impl<E: Emitter> Reduction for Distinct<E> {
    type Input = NoValue;
    type Output = E::Output;

    fn apply(&mut self, time: Time, batch: &Updates<Keyed<NoValue>>, rows: &[u32]) {
        let Distinct { buckets, touched, groups, emitter, .. } = self;
        let data = &batch.data;
        let width = data.keys.bytes().len() / data.keys.len().max(1) + 1;
        emitter.reserve(rows.len(), rows.len() * width);
        buckets.split(data, time, rows, &Segment::default, |slot, segment, rows| {
            groups.clear();
            segment.table.lookup_or_insert(&data.hashes, &data.keys, rows, groups);
            let all = segment.table.groups();
            segment.counts.reserve(all);
            segment.touched.reserve(all);
            for (&row, &group) in rows.iter().zip(groups.iter()) {
                let row = row as usize;
                let (hash, bucket, diff) = (data.hashes[row], data.bucket(row), batch.diffs[row]);
                let old = segment.counts.add(group, diff);
                if old == 0 {
                    segment.homes.set(group, bucket, all);
                }
                if diff > 0 && old >= 0 && !segment.touched.has(group) {
                    if old == 0 {
                        emitter.push(Change { hash, key: data.keys.get(row), bucket, time, diff: 1 });
                    }
                } else if segment.touched.add(group) {
                    touched.push(Touched { hash, old, slot, group });
                }
            }
        });
    }

    fn emit(&mut self, time: Time, errors: &mut Errors) -> bool {
        let Distinct { buckets, touched, emitter, .. } = self;
        let end = touched.len().min(self.emitted + STEP);
        for &Touched { hash, old, slot, group } in &touched[self.emitted..end] {
            let segment = buckets.get(slot);
            segment.touched.remove(group);
            let new = segment.counts.get(group);
            let key = segment.table.key(group);
            if (old > 0) != (new > 0) {
                let diff = if new > 0 { 1 } else { -1 };
                emitter.push(Change { hash, key, bucket: segment.homes.get(group), time, diff });
            }
            if old < 0 || new < 0 {
                push_negative(errors, time, key, &[], old, new);
            }
            if new == 0 {
                segment.table.remove(hash, group);
            }
        }
        self.emitted = end;
        let done = end == touched.len();
        if done {
            touched.clear();
            touched.shrink_to(TOUCHED);
            self.emitted = 0;
        }
        done
    }

    fn buffered(&self) -> usize {
        self.emitter.len()
    }

    fn take(&mut self) -> Updates<E::Output> {
        self.emitter.take()
    }

    fn release(&mut self, frontier: Option<Time>) {
        self.buckets.release(frontier);
    }

    fn export(&self, from: &mut Export, limit: usize, out: &mut KeyStates) -> bool {
        let until = out.len() + limit;
        self.buckets.export(from, |Segment { table, counts, homes, .. }, from| {
            while (from.group as usize) < table.groups() {
                if out.len() >= until {
                    return false;
                }
                let group = from.group;
                from.group += 1;
                if table.is_used(group) {
                    out.push(homes.get(group), table.key(group), counts.get(group), &[]);
                }
            }
            true
        })
    }

    fn import(&mut self, KeyStates { keys, counts }: &KeyStates) -> Result<(), String> {
        for (row, &count) in counts.iter().enumerate() {
            let slot = self.buckets.slot(keys.bucket(row), &Segment::default);
            let segment = self.buckets.get(slot);
            let group = segment.table.insert(keys.hashes[row], keys.keys.get(row));
            segment.counts.reserve(segment.table.groups());
            segment.counts.add(group, count);
            segment.homes.set(group, keys.bucket(row), segment.table.groups());
        }
        Ok(())
    }

    fn held(&self) -> (usize, usize) {
        let bytes = |s: &Segment| s.table.bytes() + s.counts.bytes() + s.homes.bytes() + s.touched.bytes();
        self.buckets.iter().map(|s| (bytes(s), s.table.len())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// Appends the bucket of record `len - 1`; `buckets` stays empty as long as all are [`KEEP`].
#[inline]
pub(crate) fn push_bucket(buckets: &mut Vec<u64>, len: usize, bucket: u64) {
    if bucket != KEEP || !buckets.is_empty() {
        buckets.resize(len - 1, KEEP);
        buckets.push(bucket);
    }
}

/// Updates the error of a key or of one of its rows whose copies went from `old` to `new`.
pub(crate) fn push_negative(errors: &mut Errors, time: Time, key: &[u8], row: &[u8], old: i64, new: i64) {
    if old == new {
        return;
    }
    for (count, diff) in [(old, -1), (new, 1)] {
        if count < 0 {
            let fault = Fault::Negative { row: row.to_vec(), count };
            errors.data.push(KeyError { key: key.to_vec(), fault });
            errors.times.push(time);
            errors.diffs.push(diff);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rows::Rows;
    use crate::testing::{Seen, changes, expected, history, run, summed};
    use rand::Rng;

    /// A key and its bucket.
    type Record = (u64, u64);

    fn pack(records: &[Record]) -> Keyed<NoValue> {
        let mut keys = Rows::default();
        records.iter().for_each(|(key, bucket)| keys.push(format!("{bucket} key {key}").as_bytes()));
        let mut keyed = Keyed::new(keys, NoValue(records.len()));
        if records.iter().any(|(_, bucket)| *bucket != KEEP) {
            keyed.buckets = records.iter().map(|(_, bucket)| *bucket).collect();
        }
        keyed
    }

    fn unpack(data: &Keyed<NoValue>, index: usize) -> (Vec<u8>, u64) {
        assert_eq!(data.hashes[index], crate::keyed::hash(data.keys.get(index)));
        assert_eq!(data.vals.len(), data.len());
        (data.keys.get(index).to_vec(), data.bucket(index))
    }

    #[test]
    fn each_key_is_there_once_while_it_has_copies() {
        for seed in 0..30 {
            let workers = [1, 2, 4][seed as usize % 3];
            let times = [3, 40][seed as usize % 2];
            // Without buckets, with many of them, and with both.
            let all = changes(seed, 200, times, seed.is_multiple_of(5), |rng| match seed % 4 {
                0 => (rng.random_range(0..30), KEEP),
                1 => (rng.random_range(0..30), rng.random_range(0..times + 10)),
                2 => (rng.random_range(0..30), [20, 30, KEEP][rng.random_range(0..3)]),
                _ => (rng.random_range(0..300), rng.random_range(0..5)),
            });
            let Seen { output: seen, errors } =
                run(workers, seed, &all, pack, unpack, |stream| distinct(stream, "distinct"));
            // A key may be given and taken back within a time, but never be there twice.
            let mut copies = BTreeMap::new();
            for ((key, _), _, diff) in &seen {
                let copies = copies.entry(key).or_insert(0);
                *copies += diff;
                assert!((0..=1).contains(copies), "seed {seed}: {copies} copies");
            }
            let (seen, errors) = (summed(seen), history(errors));
            let all: Vec<_> = all.into_iter().filter(|((_, bucket), time, _)| time < bucket).collect();
            let count = |accumulated: &BTreeMap<Record, i64>, wanted: fn(i64) -> bool| -> Vec<(Vec<u8>, u64, i64)> {
                let keys = accumulated.iter().filter(|(_, count)| wanted(**count));
                keys.map(|((key, bucket), count)| (format!("{bucket} key {key}").into_bytes(), *bucket, *count))
                    .collect()
            };
            let model = expected(&all, |_, accumulated| {
                count(accumulated, |c| c > 0).into_iter().map(|(key, bucket, _)| ((key, bucket), 1)).collect()
            });
            assert_eq!(seen, model, "seed {seed}");
            let model = expected(&all, |_, accumulated| {
                let negative = count(accumulated, |c| c < 0).into_iter();
                negative
                    .map(|(key, _, count)| (KeyError { key, fault: Fault::Negative { row: Vec::new(), count } }, 1))
                    .collect()
            });
            assert_eq!(errors, model, "seed {seed}");
        }
    }

    #[test]
    fn large_times_are_worked_off_in_turns() {
        let mut all: Vec<_> = (0..60_000).map(|key| ((key, KEEP), 0, 1)).collect();
        all.extend((0..60_000).step_by(2).map(|key| ((key, KEEP), 1, -1)));
        let Seen { output: seen, errors } = run(1, 0, &all, pack, unpack, |stream| distinct(stream, "distinct"));
        let seen = history(seen);
        assert_eq!(seen[&0].len(), 60_000);
        assert_eq!(seen[&1].len(), 30_000);
        assert!(seen[&1].values().all(|diff| *diff == -1) && seen.len() == 2 && errors.is_empty());
    }

    /// A backlog: all is there and closed before the first of it is worked off.
    #[test]
    fn state_goes_as_far_as_the_work_is_also_while_there_is_more() {
        use timely::dataflow::operators::{Input, Probe};
        const TIMES: u64 = 400;
        const KEYS: u64 = 1_000;
        let most = timely::execute_directly(|worker| {
            let name = "distinct of a backlog";
            let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
                let (input, stream) = scope.new_input::<Updates<Keyed<NoValue>>>();
                let (probe, _stream) = distinct(stream, name).0.probe();
                (input, probe)
            });
            for time in 1..=TIMES {
                let data = pack(&(0..KEYS).map(|key| (time * KEYS + key, time + 2)).collect::<Vec<_>>());
                let (times, diffs) = (vec![time; KEYS as usize], vec![1; KEYS as usize]);
                input.advance_to(time);
                input.send_batch(&mut Updates { data, times, diffs });
            }
            input.close();
            let mut most = 0;
            while !probe.done() {
                worker.step();
                let held = crate::state::held().into_iter().filter(|held| held.name == name);
                most = held.map(|held| held.records).max().unwrap_or(0).max(most);
            }
            most
        });
        let all = (TIMES * KEYS) as usize;
        assert!(most > 0 && most < all / 8, "{most} of {all} keys are held at a time");
    }
}
