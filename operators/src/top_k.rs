//! The first rows of each group.
//!
//! The output at `t` holds, for each key, the rows `offset .. offset + limit` of its rows among the input accumulated
//! through `t`, in the order of their bytes, each as often as it is there. Rows are order-preserving encodings, so that
//! is the wanted order, and ties are broken by the whole row. State is the rows of each key; it is dropped with its bucket,
//! without retractions (see [`Keyed::buckets`]). A row with negative copies counts as not there and is among the errors.

use std::collections::BTreeMap;

use crate::buckets::Buckets;
use crate::distinct::{push_bucket, push_negative};
use crate::keyed::Keyed;
use crate::reduction::{Errors, KeyError, Reduction, reduce};
use crate::rows::Rows;
use crate::time::Time;
use crate::updates::{UpdateStream, Updates};

/// The rows `offset .. offset + limit` of each key, without a limit all from `offset` on; and the rows whose copies are
/// negative.
pub fn top_k<'scope>(
    stream: UpdateStream<'scope, Keyed<Rows>>,
    name: &str,
    offset: usize,
    limit: Option<usize>,
) -> (UpdateStream<'scope, Keyed<Rows>>, UpdateStream<'scope, Vec<KeyError>>) {
    let end = limit.map_or(i64::MAX, |limit| i64::try_from(offset.saturating_add(limit)).unwrap_or(i64::MAX));
    reduce(stream, name, TopK { offset: offset as i64, end, ..TopK::default() })
}

type Group = BTreeMap<Vec<u8>, i64>;

#[derive(Default)]
struct TopK {
    offset: i64,
    end: i64,
    buckets: Buckets<BTreeMap<Vec<u8>, Group>>,
    touched: BTreeMap<(u32, Vec<u8>), (u64, u64, Group)>,
    output: Updates<Keyed<Rows>>,
}

impl TopK {
    fn rows(&self, group: &Group) -> Group {
        let mut seen = 0;
        let mut out = Group::new();
        for (row, &count) in group.iter().filter(|(_, c)| **c > 0) {
            let taken = (seen + count).min(self.end) - seen.max(self.offset);
            if taken > 0 {
                out.insert(row.clone(), taken);
            }
            seen += count;
        }
        out
    }
}

impl Reduction for TopK {
    type Input = Rows;
    type Output = Keyed<Rows>;

    fn apply(&mut self, time: Time, batch: &Updates<Keyed<Rows>>, rows: &[u32]) {
        let data = &batch.data;
        let touched = &mut self.touched;
        self.buckets.split(data, time, rows, &BTreeMap::new, |slot, groups, rows| {
            for &row in rows {
                let row = row as usize;
                let group = groups.entry(data.keys.get(row).to_vec()).or_default();
                touched
                    .entry((slot, data.keys.get(row).to_vec()))
                    .or_insert_with(|| (data.hashes[row], data.bucket(row), group.clone()));
                *group.entry(data.vals.get(row).to_vec()).or_default() += batch.diffs[row];
            }
        });
    }

    fn emit(&mut self, time: Time, errors: &mut Errors) -> bool {
        for ((slot, key), (hash, bucket, old)) in std::mem::take(&mut self.touched) {
            let group = self.buckets.get(slot).entry(key.clone()).or_default();
            group.retain(|_, count| *count != 0);
            let new = group.clone();
            if new.is_empty() {
                self.buckets.get(slot).remove(&key);
            }
            for row in old.keys().chain(new.keys().filter(|row| !old.contains_key(*row))) {
                let count = |g: &Group| g.get(row).copied().unwrap_or(0);
                push_negative(errors, time, &key, row, count(&old), count(&new));
            }
            let mut changes = self.rows(&new);
            for (row, count) in self.rows(&old) {
                *changes.entry(row).or_default() -= count;
            }
            for (row, diff) in changes.into_iter().filter(|(_, diff)| *diff != 0) {
                let keyed = &mut self.output.data;
                keyed.hashes.push(hash);
                keyed.keys.push(&key);
                push_bucket(&mut keyed.buckets, keyed.hashes.len(), bucket);
                keyed.vals.push(&row);
                self.output.times.push(time);
                self.output.diffs.push(diff);
            }
        }
        true
    }

    fn buffered(&self) -> usize {
        self.output.len()
    }

    fn take(&mut self) -> Updates<Keyed<Rows>> {
        std::mem::take(&mut self.output)
    }

    fn release(&mut self, frontier: Option<Time>) {
        self.buckets.release(frontier);
    }
}
