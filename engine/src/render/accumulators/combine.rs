//! Combining the input of counts and sums before it moves to another worker: the records of equal keys of a batch become one
//! record, or two.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use headwater_operators::combine::{Combiner, SumDiffs};
use headwater_operators::{Keyed, Updates};

use crate::columns::Columns;

/// Combines records whose values are flags (whether the row counts for each aggregate) and whole numbers to be added up.
///
/// Records of equal keys, times and flags become a record with the sums of the numbers, once, and where they were not one in
/// all, a record of zeros as often as it takes to be as many.
#[derive(Default)]
pub(in crate::render) struct CombineSums {
    sums: SumDiffs,
}

impl Combiner<Keyed<Columns>> for CombineSums {
    fn combine(&mut self, updates: Updates<Keyed<Columns>>) -> Updates<Keyed<Columns>> {
        let rows = updates.len();
        let arrays = &updates.data.vals.arrays;
        // What is the same for all rows of the batch tells none apart.
        let flags: Vec<BooleanBuffer> = arrays
            .iter()
            .filter_map(|array| match array.data_type() {
                DataType::Boolean => Some(array.as_boolean().values().clone()),
                _ => array.nulls().map(|nulls| nulls.inner().clone()),
            })
            .filter(|flag| ![0, rows].contains(&flag.count_set_bits()))
            .collect();
        if flags.len() > 64 {
            return updates;
        }
        // A bit each.
        let word = |row| {
            flags
                .iter()
                .enumerate()
                .fold(0, |word, (bit, flag): (usize, &BooleanBuffer)| word | u64::from(flag.value(row)) << bit)
        };
        let is_number = |array: &ArrayRef| *array.data_type() != DataType::Boolean;
        match (flags.is_empty(), arrays.iter().any(is_number)) {
            (true, false) => self.sums.combine_by(updates, |_| 0),
            (false, false) => self.sums.combine_by(updates, word),
            (true, true) => self.add_up(updates, |_| 0),
            (false, true) => self.add_up(updates, word),
        }
    }
}

impl CombineSums {
    fn add_up(&mut self, updates: Updates<Keyed<Columns>>, word: impl Fn(usize) -> u64) -> Updates<Keyed<Columns>> {
        if !self.sums.group(&updates, word) {
            return updates;
        }
        let (firsts, counts, groups) = self.sums.grouped();
        let zeros: Vec<usize> = (0..firsts.len()).filter(|group| counts[*group] != 1).collect();
        let records = firsts.len() + zeros.len();
        if records * 2 > updates.len() {
            return updates;
        }
        let added = updates.data.vals.arrays.iter().map(|array| match array.data_type() {
            DataType::Int64 => added::<Int64Type>(array, &updates.diffs, groups, firsts, &zeros),
            DataType::UInt64 => added::<UInt64Type>(array, &updates.diffs, groups, firsts, &zeros),
            _ => Some(None),
        });
        // A sum that the type can't hold is for the accumulator.
        let Some(added) = added.collect::<Option<Vec<Option<ArrayRef>>>>() else { return updates };
        let kept: Vec<u32> = firsts.iter().copied().chain(zeros.iter().map(|group| firsts[*group])).collect();
        let mut combined = updates.gather(&kept);
        for (array, added) in combined.data.vals.arrays.iter_mut().zip(added) {
            if let Some(added) = added {
                *array = added;
            }
        }
        combined.diffs =
            std::iter::repeat_n(1, firsts.len()).chain(zeros.iter().map(|group| counts[*group] - 1)).collect();
        debug_assert_eq!(combined.len(), records);
        combined
    }
}

/// The sum of each group's values, then a zero for each group of `zeros`; NULL where its values are, which is told by the first.
/// The outer `None` is where a sum does not fit its type.
fn added<T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>>(
    array: &ArrayRef,
    diffs: &[i64],
    groups: &[u32],
    firsts: &[u32],
    zeros: &[usize],
) -> Option<Option<ArrayRef>> {
    let array = array.as_primitive::<T>();
    let mut sums = vec![0_i128; firsts.len()];
    for ((group, value), diff) in groups.iter().zip(array.values()).zip(diffs) {
        let value: i128 = (*value).into();
        sums[*group as usize] += value * i128::from(*diff);
    }
    let is_valid = |group: usize| array.is_valid(firsts[group] as usize);
    let sum = |(group, sum)| match is_valid(group) {
        true => T::Native::try_from(sum).ok().map(Some),
        false => Some(None),
    };
    let sums: Option<Vec<Option<T::Native>>> = sums.into_iter().enumerate().map(sum).collect();
    let zeros = zeros.iter().map(|group| is_valid(*group).then(T::default_value));
    Some(Some(Arc::new(sums?.into_iter().chain(zeros).collect::<PrimitiveArray<T>>())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{BooleanArray, Int64Array, UInt64Array};
    use headwater_operators::Rows;
    use headwater_operators::keyed::hash;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Of each key and time: the diffs, those where each flag is set, and for each number those where it is and its sum.
    fn sums(updates: &Updates<Keyed<Columns>>) -> BTreeMap<(Vec<u8>, u64, u64), Vec<i128>> {
        let mut out: BTreeMap<_, Vec<i128>> = BTreeMap::new();
        let Keyed { keys, vals, .. } = &updates.data;
        for row in 0..updates.len() {
            let key = (keys.get(row).to_vec(), updates.data.bucket(row), updates.times[row]);
            let all = out.entry(key).or_insert_with(|| vec![0; 1 + 2 * vals.arrays.len()]);
            let diff = i128::from(updates.diffs[row]);
            all[0] += diff;
            for (array, place) in vals.arrays.iter().zip((1..).step_by(2)) {
                let number: Option<i128> = match array.data_type() {
                    DataType::Boolean => array.as_boolean().value(row).then_some(0),
                    DataType::Int64 => {
                        array.is_valid(row).then(|| i128::from(array.as_primitive::<Int64Type>().value(row)))
                    }
                    _ => array.is_valid(row).then(|| i128::from(array.as_primitive::<UInt64Type>().value(row))),
                };
                if let Some(number) = number {
                    all[place] += diff;
                    all[place + 1] += number * diff;
                }
            }
        }
        out.retain(|_, sums| sums.iter().any(|sum| *sum != 0));
        out
    }

    #[test]
    fn combined_records_mean_the_same() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut fewer = 0;
        for round in 0..200 {
            let (flags, numbers) = (rng.random_range(0..4), rng.random_range(0..4));
            let (rows, keys_there) = (500, if round % 5 == 0 { 200 } else { 5u8 });
            let mut keys = Rows::default();
            let mut buckets = Vec::new();
            for _ in 0..rows {
                let key = rng.random_range(0..keys_there);
                keys.push(&[key; 3]);
                buckets.push(u64::from(key));
            }
            // Some are so large that a sum of two does not fit.
            let (large, nulls, retracts) = (round % 7 == 0, round % 3 == 0, round % 2 == 0);
            let mut arrays: Vec<ArrayRef> = Vec::new();
            for _ in 0..flags {
                arrays.push(Arc::new((0..rows).map(|_| Some(rng.random_bool(0.7))).collect::<BooleanArray>()));
            }
            for number in 0..numbers {
                let mut value = |most: i64| {
                    let value = if large && rng.random_bool(0.01) { most } else { rng.random_range(0..1000) };
                    (!nulls || rng.random_bool(0.9)).then_some(value)
                };
                arrays.push(match number {
                    0 => Arc::new((0..rows).map(|_| value(i64::MAX).map(|v| v as u64)).collect::<UInt64Array>()),
                    _ => Arc::new((0..rows).map(|_| value(i64::MIN + 500).map(|v| v - 500)).collect::<Int64Array>()),
                });
            }
            let vals = Columns { arrays, rows };
            let times = (0..rows).map(|_| rng.random_range(0..3)).collect();
            let diffs = (0..rows).map(|_| if retracts { rng.random_range(-1..3) } else { 1 }).collect();
            let updates = Updates { data: Keyed { buckets, ..Keyed::new(keys, vals) }, times, diffs };
            let expected = sums(&updates);
            let combined = CombineSums::default().combine(updates);
            assert_eq!(sums(&combined), expected);
            assert_eq!(combined.data.vals.rows, combined.len());
            fewer += usize::from(combined.len() < 100);
            assert!(combined.data.hashes.iter().zip(combined.data.keys.iter()).all(|(h, key)| *h == hash(key)));
        }
        assert!(fewer > 20, "{fewer}");
    }
}
