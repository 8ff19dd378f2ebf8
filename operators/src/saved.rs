//! The state of reductions by key, to be saved and taken up again: by another process, and by any number of workers.
//!
//! Between two times a [`Reduction`](crate::reduction::Reduction) gives what it keeps as [`KeyStates`], in bounded steps,
//! and another takes it up. Nothing in them means anything to one process only: keys are bytes, an aggregate's values stand
//! under the key of their group, never under its number. Who owns a key is a matter of its hash
//! ([`owner`]), so the states of any number of workers can be dealt out to any other number.

use crate::keyed::{Keyed, hash, owner};
use crate::rows::Rows;
use crate::updates::Payload;

/// The version of what [`KeyStates::encode`] writes and of all states in it, the accumulators' included. States of another
/// version are not taken up.
pub const STATE_FORMAT: u32 = 1;

/// What reductions keep of keys: for each record a key with its hash and bucket, copies, and bytes that the reduction
/// gives a meaning. A key may come several times; then its copies add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyStates {
    /// The keys, and the bytes as values.
    pub keys: Keyed<Rows>,
    /// Each record's copies.
    pub counts: Vec<i64>,
}

impl KeyStates {
    /// The number of records.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, bucket: u64, key: &[u8], count: i64, state: &[u8]) {
        self.keys.hashes.push(hash(key));
        self.keys.keys.push(key);
        self.keys.buckets.push(bucket);
        self.keys.vals.push(state);
        self.counts.push(count);
    }

    /// The records whose keys a worker of `peers` owns.
    pub fn owned(&self, worker: usize, peers: usize) -> Self {
        let hashes = (0..).zip(&self.keys.hashes);
        let rows: Vec<u32> = hashes.filter(|(_, hash)| owner(**hash, peers) == worker).map(|(row, _)| row).collect();
        let counts = rows.iter().map(|&row| self.counts[row as usize]).collect();
        KeyStates { keys: self.keys.gather(&rows), counts }
    }

    /// Appends an encoding that [`KeyStates::decode`] reads, now and in later versions.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&STATE_FORMAT.to_le_bytes());
        out.extend_from_slice(&(self.len() as u64).to_le_bytes());
        crate::bytes::write(out, self.counts.iter().map(|count| count.to_le_bytes()));
        self.keys.encode(out);
    }

    /// Reads what [`KeyStates::encode`] wrote; an error says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = || "saved state ends early".to_string();
        let (format, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let format = u32::from_le_bytes(*format);
        if format != STATE_FORMAT {
            return Err(format!("state was saved in format {format}; this version reads {STATE_FORMAT}"));
        }
        let (len, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let len =
            usize::try_from(u64::from_le_bytes(*len)).ok().and_then(|len| len.checked_mul(8)).ok_or_else(short)?;
        let (counts, rest) = rest.split_at_checked(len).ok_or_else(short)?;
        let (counts, _) = counts.as_chunks::<8>();
        let counts: Vec<i64> = counts.iter().map(|count| i64::from_le_bytes(*count)).collect();
        let keys = Keyed::<Rows>::decode(rest)?;
        if keys.len() != counts.len() || keys.vals.len() != counts.len() || keys.buckets.len() != counts.len() {
            return Err("the parts of saved state are of different lengths".to_string());
        }
        Ok(KeyStates { keys, counts })
    }
}

/// Where an export goes on. The state must not change meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// The slot of buckets, and the group in it.
    pub(crate) slot: usize,
    pub(crate) group: u32,
    pub(crate) values: Place,
}

/// Where the saving of an accumulator's values goes on; all zero at the beginning. What the fields count is the
/// accumulator's own matter.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Which of several accumulators.
    pub part: usize,
    /// A group or a number of its own.
    pub number: u32,
    /// The value given last, of that group; none where none of it was.
    pub value: Option<Vec<u8>>,
}

/// The bucket of each group of one table. Where buckets are few each has a table of its own, and this is one number.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    one: Option<u64>,
    /// By group, once there are several.
    many: Vec<u64>,
}

impl Homes {
    /// Notes the bucket of a group, one of `groups`.
    #[inline]
    pub(crate) fn set(&mut self, group: u32, bucket: u64, groups: usize) {
        if self.one != Some(bucket) {
            self.set_other(group as usize, bucket, groups);
        }
    }

    fn set_other(&mut self, group: usize, bucket: u64, groups: usize) {
        if self.many.is_empty() {
            let Some(one) = self.one.take() else {
                self.one = Some(bucket);
                return;
            };
            self.many.resize(groups, one);
        }
        if self.many.len() <= group {
            self.many.resize(groups.max(group + 1), bucket);
        }
        self.many[group] = bucket;
    }

    /// The bucket of a group, which was noted.
    #[inline]
    pub(crate) fn get(&self, group: u32) -> u64 {
        self.one.unwrap_or_else(|| self.many[group as usize])
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        8 * self.many.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::accumulate::Accumulate;
    use crate::accumulators::{Count, Extreme, FloatSum, Sum};
    use crate::distinct::{Distinct, Keys};
    use crate::keyed::{KEEP, NoValue};
    use crate::reduction::{Errors, Reduction};
    use crate::time::Time;
    use crate::top_k::TopK;
    use crate::updates::Updates;

    /// A key, its bucket and a value.
    type Record = (u8, u64, i64);

    /// What came out: records by time, key, bucket and value, and errors, each with its copies.
    type Output = BTreeMap<(Time, String), i64>;

    fn keyed<V>(records: &[Record], vals: V) -> Keyed<V> {
        let mut keys = Rows::default();
        records.iter().for_each(|(key, _, _)| keys.push(&vec![*key; *key as usize]));
        Keyed { buckets: records.iter().map(|(_, bucket, _)| *bucket).collect(), ..Keyed::new(keys, vals) }
    }

    /// Applies a time's updates on the workers that own their keys.
    fn step<R: Reduction<Output = Keyed<V>>, V: Payload>(
        workers: &mut [R],
        time: Time,
        batch: &Updates<Keyed<R::Input>>,
        show: fn(&V, usize) -> String,
        output: &mut Output,
    ) {
        let peers = workers.len();
        for (index, worker) in workers.iter_mut().enumerate() {
            let hashes = (0u32..).zip(&batch.data.hashes);
            let rows: Vec<u32> = hashes.filter(|(_, h)| owner(**h, peers) == index).map(|(row, _)| row).collect();
            worker.apply(time, batch, &rows);
            let mut errors = Errors::default();
            while !worker.emit(time, &mut errors) {}
            let Updates { data, times, diffs } = worker.take();
            for row in 0..times.len() {
                let text = format!("{:?} {} {}", data.keys.get(row), data.bucket(row), show(&data.vals, row));
                *output.entry((times[row], text)).or_default() += diffs[row];
            }
            for row in 0..errors.len() {
                *output.entry((errors.times[row], format!("{:?}", errors.data[row]))).or_default() += errors.diffs[row];
            }
            worker.release(Some(time + 1));
        }
        output.retain(|_, diff| *diff != 0);
    }

    /// A run that is saved at a time and taken up by other workers gives what one gives that goes on.
    fn goes_on<R: Reduction<Output = Keyed<V>>, V: Payload>(
        make: impl Fn(usize, usize) -> R,
        vals: fn(&[Record]) -> R::Input,
        show: fn(&V, usize) -> String,
    ) {
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (before, after) = (rng.random_range(1..5), rng.random_range(1..5));
            let make_all = |peers: usize| -> Vec<R> { (0..peers).map(|worker| make(worker, peers)).collect() };
            let mut workers = make_all(before);
            let mut again = Vec::new();
            let (mut output, mut output_again) = (Output::new(), Output::new());
            let end = rng.random_range(2..30);
            let saved_at = rng.random_range(0..end);
            let mut held: Vec<Record> = Vec::new();
            // Now and then more buckets than have a table of their own.
            let far = if seed % 4 == 0 { 2_000 } else { 40 };
            for time in 0..end {
                let (mut records, mut diffs) = (Vec::new(), Vec::new());
                for _ in 0..rng.random_range(0..if seed % 4 == 0 { 60 } else { 12 }) {
                    if !held.is_empty() && rng.random_bool(0.4) {
                        records.push(held.swap_remove(rng.random_range(0..held.len())));
                        diffs.push(-1);
                        continue;
                    }
                    let key = rng.random_range(0..60);
                    let bucket = if key % 3 == 0 { KEEP } else { 3 + u64::from(key) * far / 60 };
                    let record = (key, bucket, rng.random_range(-5..5));
                    // Also what was never there is retracted.
                    let missing = rng.random_bool(0.03);
                    if !missing {
                        held.push(record);
                    }
                    records.push(record);
                    diffs.push(if missing { -1 } else { 1 });
                }
                let times = vec![time; records.len()];
                let batch = Updates { data: keyed(&records, vals(&records)), times, diffs };
                step(&mut workers, time, &batch, show, &mut output);
                if time > saved_at {
                    step(&mut again, time, &batch, show, &mut output_again);
                }
                if time == saved_at {
                    output_again = output.clone();
                    again = make_all(after);
                    let limit = [1, 7, 1_000][seed as usize % 3];
                    for worker in &workers {
                        let mut from = Export::default();
                        loop {
                            let mut states = KeyStates::default();
                            let done = worker.export(&mut from, limit, &mut states);
                            let mut bytes = Vec::new();
                            states.encode(&mut bytes);
                            let states = KeyStates::decode(&bytes).unwrap();
                            for (index, worker) in again.iter_mut().enumerate() {
                                worker.import(&states.owned(index, after)).unwrap();
                            }
                            if done {
                                break;
                            }
                        }
                    }
                    let records = |workers: &[R]| workers.iter().map(|worker| worker.held().1).sum::<usize>();
                    assert_eq!(records(&workers), records(&again), "seed {seed}");
                }
            }
            assert_eq!(output, output_again, "seed {seed}: {before} and {after} workers, saved at {saved_at}");
        }
    }

    fn ints(records: &[Record]) -> Vec<i64> {
        records.iter().map(|record| record.2).collect()
    }

    #[expect(clippy::ptr_arg, reason = "the payload is the vector")]
    fn show<T: std::fmt::Debug>(vals: &Vec<T>, row: usize) -> String {
        format!("{:?}", vals[row])
    }

    #[test]
    fn reductions_go_on_with_other_workers() {
        let global = |worker, peers| owner(hash(b""), peers) == worker;
        goes_on(
            |_, _| Distinct::new(Keys::default()),
            |records| NoValue(records.len()),
            |_: &NoValue, _| String::new(),
        );
        goes_on(|_, _| Accumulate::new(Count::default, false), ints, show);
        goes_on(|worker, peers| Accumulate::new(Count::default, global(worker, peers)), ints, show);
        goes_on(|_, _| Accumulate::new(Sum::<i64>::default, false), ints, show);
        let floats = |records: &[Record]| records.iter().map(|r| r.2 as f64 * 1e10f64.powi(r.2 as i32)).collect();
        goes_on(|_, _| Accumulate::new(FloatSum::default, false), floats, show);
        let texts =
            |records: &[Record]| -> Vec<String> { records.iter().map(|r| "long ".repeat(r.2 as usize % 7)).collect() };
        goes_on(|_, _| Accumulate::new(Extreme::<String, false>::default, false), texts, show);
        goes_on(|_, _| Accumulate::new(Extreme::<i64, true>::default, false), ints, show);
        let rows = |records: &[Record]| {
            let mut rows = Rows::default();
            records.iter().for_each(|record| rows.push(format!("row {}", record.2).as_bytes()));
            rows
        };
        for (offset, limit) in [(0, Some(1)), (1, Some(2)), (1, None)] {
            goes_on(
                move |_, _| TopK::new(offset, limit),
                rows,
                |rows: &Rows, row| String::from_utf8_lossy(rows.get(row)).into_owned(),
            );
        }
    }

    #[test]
    fn what_nobody_saved_is_refused() {
        let mut states = KeyStates::default();
        states.push(KEEP, b"key", 3, &[0, 200]);
        let mut bytes = Vec::new();
        states.encode(&mut bytes);
        assert_eq!(KeyStates::decode(&bytes), Ok(states.clone()));
        (0..bytes.len()).for_each(|end| assert!(KeyStates::decode(&bytes[..end]).is_err()));
        bytes[0] = 9;
        assert!(KeyStates::decode(&bytes).is_err_and(|error| error.contains("format 9")));
        assert!(Accumulate::new(Count::<NoValue>::default, false).import(&states).is_err());
    }

    /// Files rest on these bytes: they never change.
    #[test]
    fn the_format_never_changes() {
        let mut states = KeyStates::default();
        states.push(77, b"k", 2, b"xy");
        let mut bytes = Vec::new();
        states.encode(&mut bytes);
        let golden = [
            &[1, 0, 0, 0][..],                           // the format
            &[1, 0, 0, 0, 0, 0, 0, 0],                   // records
            &[2, 0, 0, 0, 0, 0, 0, 0],                   // copies
            &[13, 0, 0, 0, 0, 0, 0, 0],                  // bytes of the keys:
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'k'], // how many, their ends, themselves
            &[1, 0, 0, 0, 0, 0, 0, 0],                   // buckets
            &[77, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'x', b'y'], // states, as the keys
        ];
        assert_eq!(bytes, golden.concat());
    }
}
