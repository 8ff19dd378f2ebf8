//! The usual aggregates of typed values: count, sum, minimum and maximum.
//!
//! ```
//! use headwater_operators::{accumulators::count, encode, Updates};
//! use timely::dataflow::operators::{Capture, Input, capture::Event};
//!
//! let changes = timely::execute_directly(|worker| {
//!     let (mut input, changes) = worker.dataflow::<u64, _, _>(|scope| {
//!         let (input, words) = scope.new_input::<Updates<Vec<String>>>();
//!         let (counts, _errors) = count(encode::key_by(words, |word| (word.clone(), ())), "count words");
//!         (input, encode::pairs::<String, i64>(counts).capture())
//!     });
//!     let data = vec!["so".to_string(), "much".to_string(), "so".to_string()];
//!     input.send_batch(&mut Updates { data, times: vec![1, 1, 2], diffs: vec![1, 1, 1] });
//!     changes
//! });
//! let mut seen = Vec::new();
//! for event in changes {
//!     if let Event::Messages(_, batch) = event {
//!         seen.extend((0..batch.len()).map(|i| (batch.times[i], batch.data[i].clone(), batch.diffs[i])));
//!     }
//! }
//! seen.sort();
//! let word = |word: &str, count| (word.to_string(), count);
//! assert_eq!(seen, [(1, word("much", 1), 1), (1, word("so", 1), 1), (2, word("so", 1), -1), (2, word("so", 2), 1)]);
//! ```

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::KeyError;
use crate::accumulate::{Accumulators, Evaluated, accumulate};
use crate::encode::Encode;
use crate::exact_sum::ExactSum;
use crate::grow;
use crate::keyed::Keyed;
use crate::ordered::Ordered;
use crate::saved::Place;
use crate::updates::{Payload, UpdateStream};
use crate::varint;

/// A reduction's results and the groups in error.
pub type Results<'scope, V> = (UpdateStream<'scope, Keyed<V>>, UpdateStream<'scope, Vec<KeyError>>);

/// The number of records of each key.
pub fn count<'scope, V: Payload>(stream: UpdateStream<'scope, Keyed<V>>, name: &str) -> Results<'scope, Vec<i64>> {
    accumulate(stream, name, Count::default, false)
}

/// The sum of each key's integers. A sum outside their type is an error until it is back in it.
pub fn sum<'scope, T: Integer>(stream: UpdateStream<'scope, Keyed<Vec<T>>>, name: &str) -> Results<'scope, Vec<T>> {
    accumulate(stream, name, Sum::default, false)
}

/// The exactly rounded sum of each key's floats. See [`crate::exact_sum`].
pub fn float_sum<'scope>(stream: UpdateStream<'scope, Keyed<Vec<f64>>>, name: &str) -> Results<'scope, Vec<f64>> {
    accumulate(stream, name, FloatSum::default, false)
}

/// The least value of each key.
pub fn min<'scope, T: Value>(stream: UpdateStream<'scope, Keyed<Vec<T>>>, name: &str) -> Results<'scope, Vec<T>> {
    accumulate(stream, name, Extreme::<T, false>::default, false)
}

/// The greatest value of each key.
pub fn max<'scope, T: Value>(stream: UpdateStream<'scope, Keyed<Vec<T>>>, name: &str) -> Results<'scope, Vec<T>> {
    accumulate(stream, name, Extreme::<T, true>::default, false)
}

/// Integers that can be summed: all up to 64 bits, signed or not.
pub trait Integer:
    Copy + Default + PartialEq + Send + Sync + Serialize + DeserializeOwned + Into<i128> + TryFrom<i128> + 'static
{
}
impl<T> Integer for T where
    T: Copy + Default + PartialEq + Send + Sync + Serialize + DeserializeOwned + Into<i128> + TryFrom<i128> + 'static
{
}

/// Values that have an order as bytes.
pub trait Value: Encode + Clone + Default + Send + Sync + Serialize + DeserializeOwned + 'static {}
impl<T: Encode + Clone + Default + Send + Sync + Serialize + DeserializeOwned + 'static> Value for T {}

/// Counts records, whatever they are.
pub struct Count<V> {
    counts: Vec<i64>,
    input: PhantomData<fn(V)>,
}

impl<V> Default for Count<V> {
    fn default() -> Self {
        Count { counts: Vec::new(), input: PhantomData }
    }
}

impl<V: Payload> Accumulators for Count<V> {
    type Input = V;
    type Output = Vec<i64>;

    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.counts, groups, 0);
    }

    fn update(&mut self, groups: &[u32], _input: &V, _rows: &[u32], diffs: &[i64]) {
        for (&group, &diff) in groups.iter().zip(diffs) {
            self.counts[group as usize] += diff;
        }
    }

    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Vec<i64>> {
        groups.iter().map(|&group| self.counts[group as usize]).collect::<Vec<_>>().into()
    }

    fn changed(old: &Vec<i64>, new: &Vec<i64>, changed: &mut Vec<bool>) {
        changed.extend(old.iter().zip(new).map(|(old, new)| old != new));
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.counts[group as usize] = 0);
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_signed(out, self.counts[group as usize]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[group as usize] += varint::take_signed(bytes)?;
        Some(())
    }

    fn bytes(&self) -> usize {
        8 * self.counts.capacity()
    }
}

/// Sums integers in 128 bits.
pub struct Sum<T> {
    sums: Vec<i128>,
    input: PhantomData<fn(T)>,
}

impl<T> Default for Sum<T> {
    fn default() -> Self {
        Sum { sums: Vec::new(), input: PhantomData }
    }
}

impl<T: Integer> Accumulators for Sum<T> {
    type Input = Vec<T>;
    type Output = Vec<T>;

    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.sums, groups, 0);
    }

    fn update(&mut self, groups: &[u32], input: &Vec<T>, rows: &[u32], diffs: &[i64]) {
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            let value: i128 = input[row as usize].into();
            self.sums[group as usize] += value * i128::from(diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Vec<T>> {
        let mut failures = Vec::new();
        let sums = groups.iter().enumerate().map(|(index, &group)| {
            let sum = self.sums[group as usize];
            T::try_from(sum).unwrap_or_else(|_| {
                failures.push((index as u32, format!("the sum {sum} is out of range")));
                T::default()
            })
        });
        let output = sums.collect();
        Evaluated { output, failures }
    }

    fn changed(old: &Vec<T>, new: &Vec<T>, changed: &mut Vec<bool>) {
        changed.extend(old.iter().zip(new).map(|(old, new)| old != new));
    }

    fn is_empty(&self, group: u32) -> bool {
        self.sums[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.sums[group as usize] = 0);
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        varint::put_wide_signed(out, self.sums[group as usize]);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums[group as usize] += varint::take_wide_signed(bytes)?;
        Some(())
    }

    fn bytes(&self) -> usize {
        16 * self.sums.capacity()
    }
}

/// Sums floats exactly.
#[derive(Default)]
pub struct FloatSum {
    sums: Vec<ExactSum>,
}

impl Accumulators for FloatSum {
    type Input = Vec<f64>;
    type Output = Vec<f64>;

    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.sums, groups, ExactSum::default());
    }

    fn update(&mut self, groups: &[u32], input: &Vec<f64>, rows: &[u32], diffs: &[i64]) {
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.sums[group as usize].add(input[row as usize], diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Vec<f64>> {
        groups.iter().map(|&group| self.sums[group as usize].value()).collect::<Vec<_>>().into()
    }

    fn changed(old: &Vec<f64>, new: &Vec<f64>, changed: &mut Vec<bool>) {
        changed.extend(old.iter().zip(new).map(|(old, new)| old.to_bits() != new.to_bits()));
    }

    fn is_empty(&self, group: u32) -> bool {
        self.sums[group as usize].is_empty()
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.sums[group as usize] = ExactSum::default());
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        self.sums[group as usize].save(out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums[group as usize].merge(&ExactSum::load(bytes)?);
        Some(())
    }

    fn bytes(&self) -> usize {
        let heap: usize = self.sums.iter().map(ExactSum::heap_size).sum();
        heap + size_of::<ExactSum>() * self.sums.capacity()
    }
}

/// Keeps all values, for the least of each group or, if `GREATEST`, the greatest.
pub struct Extreme<T, const GREATEST: bool> {
    values: Ordered,
    encoded: Vec<u8>,
    input: PhantomData<fn(T)>,
}

impl<T, const GREATEST: bool> Default for Extreme<T, GREATEST> {
    fn default() -> Self {
        Extreme { values: Ordered::default(), encoded: Vec::new(), input: PhantomData }
    }
}

impl<T: Value, const GREATEST: bool> Accumulators for Extreme<T, GREATEST> {
    type Input = Vec<T>;
    type Output = Vec<T>;

    fn reserve(&mut self, _groups: usize) {}

    fn update(&mut self, groups: &[u32], input: &Vec<T>, rows: &[u32], diffs: &[i64]) {
        for ((&group, &row), &diff) in groups.iter().zip(rows).zip(diffs) {
            self.encoded.clear();
            input[row as usize].encode(&mut self.encoded);
            self.values.add(group, &self.encoded, diff);
        }
    }

    fn evaluate(&mut self, groups: &[u32]) -> Evaluated<Vec<T>> {
        let mut failures = Vec::new();
        let values = groups.iter().enumerate().map(|(index, &group)| {
            let extreme = if GREATEST { self.values.last(group) } else { self.values.first(group) };
            extreme.and_then(|(mut value, _)| T::decode(&mut value)).unwrap_or_else(|| {
                failures.push((index as u32, "there is no value".to_string()));
                T::default()
            })
        });
        let output = values.collect();
        Evaluated { output, failures }
    }

    fn changed(old: &Vec<T>, new: &Vec<T>, changed: &mut Vec<bool>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        changed.extend(old.iter().zip(new).map(|(old, new)| {
            left.clear();
            right.clear();
            old.encode(&mut left);
            new.encode(&mut right);
            left != right
        }));
    }

    fn is_empty(&self, group: u32) -> bool {
        !self.values.has(group)
    }

    fn clear(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.values.clear(group));
    }

    fn save(&self, _group: u32, _out: &mut Vec<u8>) {}

    fn load(&mut self, _group: u32, _bytes: &mut &[u8]) -> Option<()> {
        Some(())
    }

    fn save_values(&self, from: &mut Place, limit: usize, give: &mut dyn FnMut(u32, &[u8])) -> bool {
        self.values.save(from, limit, give)
    }

    fn load_value(&mut self, group: u32, bytes: &[u8]) -> Option<()> {
        self.values.load(group, bytes)
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::Rng;

    use super::*;
    use crate::Fault;
    use crate::keyed::{KEEP, hash};
    use crate::rows::Rows;
    use crate::testing::{History, changes, expected, run};

    /// A key, its bucket and a value.
    type Record = (u8, u64, i64);

    fn pack<V>(records: &[Record], value: fn(i64) -> V) -> Keyed<Vec<V>> {
        let mut keys = Rows::default();
        records.iter().for_each(|(key, _, _)| keys.push(&vec![*key; *key as usize]));
        let mut keyed = Keyed::new(keys, records.iter().map(|(_, _, v)| value(*v)).collect());
        if records.iter().any(|(_, bucket, _)| *bucket != KEEP) {
            keyed.buckets = records.iter().map(|(_, bucket, _)| *bucket).collect();
        }
        keyed
    }

    fn unpack<V: Clone>(data: &Keyed<Vec<V>>, index: usize) -> (u8, u64, V) {
        assert_eq!(data.hashes[index], hash(data.keys.get(index)));
        (data.keys.get(index).len() as u8, data.bucket(index), data.vals[index].clone())
    }

    /// The groups of the accumulated records: of each key and bucket, its values with their copies.
    fn groups(accumulated: &BTreeMap<Record, i64>) -> BTreeMap<(u8, u64), Vec<(i64, i64)>> {
        let mut groups = BTreeMap::new();
        for ((key, bucket, value), count) in accumulated {
            groups.entry((*key, *bucket)).or_insert_with(Vec::new).push((*value, *count));
        }
        groups
    }

    /// The history of `evaluate` over each group's values and copies; a group's error is `Err`.
    fn model<V: Ord + Clone>(
        all: &[(Record, u64, i64)],
        always: Option<(u8, u64)>,
        evaluate: impl Fn(&[(i64, i64)]) -> Result<V, Fault>,
    ) -> (History<(u8, u64, V)>, History<KeyError>) {
        let all: Vec<_> = all.iter().filter(|((_, bucket, _), time, _)| time < bucket).cloned().collect();
        let results = |accumulated: &BTreeMap<Record, i64>| {
            let mut groups = groups(accumulated);
            if let Some(always) = always {
                groups.entry(always).or_default();
            }
            groups
                .into_iter()
                .map(|(group, values)| {
                    let count = values.iter().map(|(_, count)| count).sum();
                    let absent = count < 0 || (count == 0 && always != Some(group));
                    let negative = Fault::Negative { row: Vec::new(), count };
                    (group, if absent { Err(negative) } else { evaluate(&values) })
                })
                .collect::<Vec<_>>()
        };
        let ok = expected(&all, |_, accumulated| {
            let results = results(accumulated).into_iter();
            results.filter_map(|((key, bucket), result)| Some(((key, bucket, result.ok()?), 1))).collect()
        });
        let errors = expected(&all, |_, accumulated| {
            let mut errors = BTreeMap::new();
            for ((key, _), result) in results(accumulated) {
                if let Err(fault) = result {
                    *errors.entry(KeyError { key: vec![key; key as usize], fault }).or_default() += 1;
                }
            }
            errors
        });
        (ok, errors)
    }

    fn records(seed: u64) -> Vec<(Record, u64, i64)> {
        let times = [3, 30][seed as usize % 2];
        changes(seed, 150, times, seed.is_multiple_of(5), |rng| {
            let key = rng.random_range(0..12);
            // One key always has one bucket.
            let bucket = if seed.is_multiple_of(3) { KEEP } else { [KEEP, 20, 2, 25][key as usize % 4] };
            (key, bucket, rng.random_range(-6..6))
        })
    }

    fn workers(seed: u64) -> usize {
        [1, 2, 4][seed as usize % 3]
    }

    #[test]
    fn counts() {
        for seed in 0..18 {
            let all = records(seed);
            let got =
                run(workers(seed), seed, &all, |r| pack(r, |v| v), unpack, |stream| count(stream, "count")).once();
            let counts = |values: &[(i64, i64)]| Ok(values.iter().map(|(_, count)| count).sum::<i64>());
            // A count doesn't tell records apart, so records that sum to none are none.
            let (ok, mut errors) = model(&all, None, counts);
            errors.values_mut().for_each(|at| at.retain(|e, _| !matches!(e.fault, Fault::Negative { count: 0, .. })));
            errors.retain(|_, at| !at.is_empty());
            assert_eq!(got, (ok, errors), "seed {seed}");
        }
    }

    #[test]
    fn sums_are_errors_while_out_of_range() {
        for seed in 0..18 {
            let all = records(seed);
            let pack = |r: &[Record]| pack(r, |v| v as i8 * 20);
            let got = run(workers(seed), seed, &all, pack, unpack, |stream| sum::<i8>(stream, "sum")).once();
            let sum = |values: &[(i64, i64)]| {
                let sum = values.iter().map(|(value, count)| value * 20 * count).sum::<i64>();
                i8::try_from(sum).map_err(|_| Fault::Evaluation(format!("the sum {sum} is out of range")))
            };
            let (ok, errors) = model(&all, None, sum);
            assert_eq!(got.0, ok, "seed {seed}");
            // Whether records that sum to none are noticed depends on the sum of their values.
            if !seed.is_multiple_of(5) {
                assert_eq!(got.1, errors, "seed {seed}");
            }
        }
    }

    #[test]
    fn float_sums_leave_no_drift() {
        for seed in (1..18u64).filter(|seed| !seed.is_multiple_of(5)) {
            let all = records(seed);
            let pack = |r: &[Record]| pack(r, |v| v as f64 * 0.1 * 10f64.powi(v as i32 * 3));
            let unpack = |data: &Keyed<Vec<f64>>, i| {
                let (key, bucket, sum) = unpack(data, i);
                (key, bucket, sum.to_bits())
            };
            let got = run(workers(seed), seed, &all, pack, unpack, |stream| float_sum(stream, "sum")).once();
            let sum = |values: &[(i64, i64)]| {
                let mut sum = ExactSum::default();
                values.iter().for_each(|(v, count)| sum.add(*v as f64 * 0.1 * 10f64.powi(*v as i32 * 3), *count));
                Ok(sum.value().to_bits())
            };
            assert_eq!(got, model(&all, None, sum), "seed {seed}");
        }
    }

    #[test]
    fn extremes_come_back_when_others_leave() {
        for seed in 0..18 {
            let all = records(seed);
            let pack = |r: &[Record]| pack(r, |v| v);
            let got_min = run(workers(seed), seed, &all, pack, unpack, |stream| min(stream, "min")).once();
            let got_max = run(workers(seed), seed, &all, pack, unpack, |stream| max(stream, "max")).once();
            let there =
                |values: &[(i64, i64)]| values.iter().filter(|(_, c)| *c > 0).map(|(v, _)| *v).collect::<Vec<_>>();
            let none = || Fault::Evaluation("there is no value".to_string());
            assert_eq!(
                got_min,
                model(&all, None, |values| there(values).into_iter().min().ok_or_else(none)),
                "seed {seed}"
            );
            assert_eq!(
                got_max,
                model(&all, None, |values| there(values).into_iter().max().ok_or_else(none)),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn the_global_group_is_always_there() {
        for seed in (0..18u64).filter(|seed| !seed.is_multiple_of(5)) {
            let mut all: Vec<_> = records(seed).into_iter().map(|((_, _, v), t, d)| ((0, KEEP, v), t, d)).collect();
            all.truncate(seed as usize * 4);
            let pack = |r: &[Record]| pack(r, |v| v);
            let got = run(workers(seed), seed, &all, pack, unpack, |stream| {
                accumulate(stream, "sum", Sum::<i64>::default, true)
            })
            .once();
            let sum = |values: &[(i64, i64)]| Ok(values.iter().map(|(value, count)| value * count).sum::<i64>());
            // The model's first time is the first change's: the empty result is there before.
            let mut with_start = all.clone();
            with_start.extend([((0, KEEP, 0), 0, 1), ((0, KEEP, 0), 0, -1)]);
            assert_eq!(got.0, model(&with_start, Some((0, KEEP)), sum).0, "seed {seed}");
        }
    }
}
