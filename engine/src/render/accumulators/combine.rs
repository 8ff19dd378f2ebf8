//! Combining the input of counts before it moves to another worker: equal keys of a batch become one record.

use arrow::array::{AsArray, BooleanArray};
use headwater_operators::combine::{Combiner, SumDiffs};
use headwater_operators::{Keyed, Updates};

use crate::columns::Columns;

/// Combines records whose values are at most flags: whether the row counts for each aggregate.
#[derive(Default)]
pub(in crate::render) struct CombineCounts {
    sums: SumDiffs,
}

impl Combiner<Keyed<Columns>> for CombineCounts {
    fn combine(&mut self, updates: Updates<Keyed<Columns>>) -> Updates<Keyed<Columns>> {
        let rows = updates.len();
        let flags = updates.data.vals.arrays.iter().map(|a| a.as_boolean().clone());
        // What is the same for all rows of the batch tells none apart.
        let flags: Vec<BooleanArray> = flags.filter(|flag| ![0, rows].contains(&flag.true_count())).collect();
        match flags.len() {
            0 => self.sums.combine_by(updates, |_| 0),
            // A bit each.
            1..=64 => self.sums.combine_by(updates, |row| {
                flags.iter().enumerate().fold(0, |word, (bit, flag)| word | u64::from(flag.value(row)) << bit)
            }),
            _ => updates,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use headwater_operators::Rows;
    use headwater_operators::keyed::hash;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn sums(updates: &Updates<Keyed<Columns>>) -> BTreeMap<(Vec<u8>, u64, Vec<bool>, u64), i64> {
        let mut out = BTreeMap::new();
        for row in 0..updates.len() {
            let Keyed { keys, vals, .. } = &updates.data;
            let flags = vals.arrays.iter().map(|a| a.as_boolean().value(row)).collect();
            let key = (keys.get(row).to_vec(), updates.data.bucket(row), flags, updates.times[row]);
            *out.entry(key).or_default() += updates.diffs[row];
        }
        out.retain(|_, diff| *diff != 0);
        out
    }

    #[test]
    fn combined_records_mean_the_same() {
        let mut rng = StdRng::seed_from_u64(2);
        for flags in [0, 1, 9] {
            let rows = 500;
            let mut keys = Rows::default();
            let mut buckets = Vec::new();
            for _ in 0..rows {
                let key = rng.random_range(0..5u8);
                keys.push(&[key; 3]);
                buckets.push(u64::from(key));
            }
            let mut flag =
                || -> ArrayRef { Arc::new((0..rows).map(|_| Some(rng.random_bool(0.7))).collect::<BooleanArray>()) };
            let vals = Columns { arrays: (0..flags).map(|_| flag()).collect(), rows };
            let times = (0..rows).map(|_| rng.random_range(0..3)).collect();
            let diffs = (0..rows).map(|_| rng.random_range(-1..3)).collect();
            let updates = Updates { data: Keyed { buckets, ..Keyed::new(keys, vals) }, times, diffs };
            let expected = sums(&updates);
            let combined = CombineCounts::default().combine(updates);
            assert_eq!(sums(&combined), expected);
            assert!(flags > 1 || combined.len() < 50, "{} records", combined.len());
            assert!(combined.data.hashes.iter().zip(combined.data.keys.iter()).all(|(h, key)| *h == hash(key)));
        }
    }
}
