//! Combining updates before they move to another worker.

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::guard::Guard;
use crate::keyed::{Keyed, NoValue};
use crate::updates::{Payload, UpdateStream, Updates};

/// Replaces the updates of a batch by fewer that mean the same.
///
/// A reduction must give the same for both: [`SumDiffs`] suits every operator; an engine that knows that its
/// accumulators are sums can add up numeric columns.
pub trait Combiner<D>: 'static {
    /// Fewer updates, or the same ones.
    fn combine(&mut self, batch: Updates<D>) -> Updates<D>;
}

/// Combines the updates of each batch: before an exchange, where many have one key.
pub fn combine<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    name: &str,
    mut combiner: impl Combiner<D>,
) -> UpdateStream<'scope, D> {
    stream.unary(Pipeline, name, move |_, _| {
        let guard = Guard::new(name);
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let mut combined = combiner.combine(std::mem::take(batch));
                    if !combined.is_empty() {
                        output.session(capability).give_container(&mut combined);
                    }
                });
            });
        }
    })
}

/// Sums the diffs of equal keys at equal times. Where few are equal it looks only now and then.
#[derive(Default)]
pub struct SumDiffs {
    slots: Vec<u32>,
    sums: Vec<i64>,
    rows: Vec<u32>,
    /// The group of each record.
    groups: Vec<u32>,
    /// Batches to let pass before looking again.
    rest: u32,
}

/// Batches that pass after one that had few equal keys.
const REST: u32 = 31;
/// Smaller batches aren't worth it.
const LEAST: usize = 32;

impl Combiner<Keyed<NoValue>> for SumDiffs {
    fn combine(&mut self, batch: Updates<Keyed<NoValue>>) -> Updates<Keyed<NoValue>> {
        self.combine_by(batch, |_| 0)
    }
}

impl SumDiffs {
    /// Sums the diffs of records with equal keys and times whose values are the same: `word` tells values apart.
    pub fn combine_by<V: Payload>(&mut self, batch: Updates<Keyed<V>>, word: impl Fn(usize) -> u64) -> Updates<Keyed<V>>
    where
        Keyed<V>: Payload,
    {
        if !self.group(&batch, word) || self.rows.len() == batch.len() {
            return batch;
        }
        let mut kept = 0;
        for index in 0..self.rows.len() {
            if self.sums[index] != 0 {
                self.rows[kept] = self.rows[index];
                self.sums[kept] = self.sums[index];
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        self.sums.truncate(kept);
        let mut combined = batch.gather(&self.rows);
        combined.diffs.copy_from_slice(&self.sums);
        combined
    }

    /// Groups the records of equal keys, times and words; false where it does not look, for that would not pay.
    pub fn group<V: Payload>(&mut self, batch: &Updates<Keyed<V>>, word: impl Fn(usize) -> u64) -> bool
    where
        Keyed<V>: Payload,
    {
        if batch.len() < LEAST {
            return false;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let slots = (batch.len() * 2).next_power_of_two();
        self.slots.clear();
        self.slots.resize(slots, u32::MAX);
        self.sums.clear();
        self.rows.clear();
        self.groups.clear();
        let data = &batch.data;
        for row in 0..batch.len() {
            let (hash, time, value) = (data.hashes[row], batch.times[row], word(row));
            let mixed = time.wrapping_add(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut at = (hash ^ mixed) as usize & (slots - 1);
            loop {
                let index = self.slots[at] as usize;
                let Some(&first) = self.rows.get(index) else {
                    self.slots[at] = self.rows.len() as u32;
                    self.groups.push(self.rows.len() as u32);
                    self.rows.push(row as u32);
                    self.sums.push(batch.diffs[row]);
                    break;
                };
                let first = first as usize;
                if data.hashes[first] == hash
                    && batch.times[first] == time
                    && word(first) == value
                    && data.keys.get(first) == data.keys.get(row)
                {
                    self.groups.push(index as u32);
                    self.sums[index] += batch.diffs[row];
                    break;
                }
                at = (at + 1) & (slots - 1);
            }
        }
        if self.rows.len() * 4 > batch.len() * 3 {
            self.rest = REST;
        }
        true
    }

    /// What [`SumDiffs::group`] has found: the first record of each group, the sum of its diffs, and the group of each record.
    pub fn grouped(&self) -> (&[u32], &[i64], &[u32]) {
        (&self.rows, &self.sums, &self.groups)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::rows::Rows;

    #[test]
    fn a_combined_batch_means_the_same() {
        let mut rng = SmallRng::seed_from_u64(0);
        let mut combiner = SumDiffs::default();
        let mut fewer = 0;
        for round in 0..200 {
            let mut batch = Updates::<Keyed<NoValue>>::default();
            let mut keys = Rows::default();
            let range = [5, 40, 5_000][round % 3];
            for _ in 0..rng.random_range(0..200) {
                keys.push(&rng.random_range(0..range).to_string().into_bytes());
                batch.times.push(rng.random_range(0..3));
                batch.diffs.push(rng.random_range(-1..2));
            }
            batch.data = Keyed::new(keys, NoValue(batch.len()));
            let total = |batch: &Updates<Keyed<NoValue>>| {
                let mut total: BTreeMap<_, i64> = BTreeMap::new();
                for i in 0..batch.len() {
                    *total.entry((batch.data.keys.get(i).to_vec(), batch.times[i])).or_default() += batch.diffs[i];
                }
                total.retain(|_, diff| *diff != 0);
                total
            };
            let combined = combiner.combine(batch.clone());
            assert_eq!(combined.data.len(), combined.len());
            assert_eq!(total(&combined), total(&batch));
            fewer += usize::from(combined.len() < batch.len() / 2);
        }
        assert!(fewer > 0);
    }
}
