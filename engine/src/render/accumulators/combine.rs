//! Combining the input of counts before it moves to another worker: equal keys of a batch become one record.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use headwater_operators::combine::{Combiner, SumDiffs};
use headwater_operators::keyed::{NoValue, hash};
use headwater_operators::{Keyed, Payload, Rows, Updates};

use crate::columns::Columns;

/// Combines records whose values are at most flags: whether the row counts for each aggregate.
#[derive(Default)]
pub(in crate::render) struct CombineCounts {
    sums: SumDiffs,
}

impl Combiner<Keyed<Columns>> for CombineCounts {
    fn combine(&mut self, updates: Updates<Keyed<Columns>>) -> Updates<Keyed<Columns>> {
        let rows = updates.len();
        let flags: Vec<&BooleanArray> = updates.data.vals.arrays.iter().map(|a| a.as_boolean()).collect();
        let width = flags.len().div_ceil(8);
        // The flags stand behind the key while equal records are summed.
        let Keyed { hashes, keys, buckets, .. } = &updates.data;
        let mut flagged = Rows::with_capacity(rows, keys.bytes().len() + width * rows);
        let mut flagged_hashes = Vec::with_capacity(rows);
        let mut bytes = vec![0u8; width];
        for (row, (key, hash)) in keys.iter().zip(hashes).enumerate() {
            bytes.fill(0);
            for (index, flag) in flags.iter().enumerate() {
                bytes[index / 8] |= u8::from(flag.value(row)) << (index % 8);
            }
            flagged.push_pair(key, &bytes);
            flagged_hashes.push(bytes.iter().fold(*hash, |hash, &byte| hash ^ u64::from(byte)));
        }
        let data = Keyed { hashes: flagged_hashes, keys: flagged, buckets: buckets.clone(), vals: NoValue(rows) };
        let flagged = Updates { data, times: updates.times.clone(), diffs: updates.diffs.clone() };
        let Updates { data, times, diffs } = self.sums.combine(flagged);
        if data.len() == rows {
            return updates;
        }
        let (mut keys, mut flags) = (Rows::with_capacity(data.len(), data.keys.bytes().len()), Vec::new());
        for row in data.keys.iter() {
            let (key, bytes) = row.split_at(row.len() - width);
            keys.push(key);
            flags.push(bytes);
        }
        let arrays = (0..updates.data.vals.arrays.len()).map(|index| {
            let flag = |bytes: &&[u8]| Some(bytes[index / 8] >> (index % 8) & 1 == 1);
            Arc::new(flags.iter().map(flag).collect::<BooleanArray>()) as ArrayRef
        });
        let vals = Columns { arrays: arrays.collect(), rows: data.len() };
        let hashes = keys.iter().map(hash).collect();
        Updates { data: Keyed { hashes, keys, buckets: data.buckets, vals }, times, diffs }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
