//! A distinct aggregate: each value of a group is fed once to the aggregate inside.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use headwater_operators::keyed::hash;
use headwater_operators::saved::Place;
use headwater_operators::table::KeyTable;
use headwater_operators::{Rows, grow, varint};

use super::Accumulator;
use crate::columns::sound;
use crate::render::codec::Codec;

/// Copies of each value of each group, and an accumulator of the values that there are.
pub(super) struct Distinct {
    inner: Box<dyn Accumulator>,
    codec: Codec,
    /// Values behind the number of their group.
    table: KeyTable,
    /// Copies of each value.
    counts: Vec<i64>,
    /// How many values of each group have copies, of either sign.
    values: Vec<u32>,
}

impl Distinct {
    pub(super) fn new(inner: Box<dyn Accumulator>, argument: &DataType) -> Self {
        let codec = sound(Codec::new([argument.clone()]));
        Distinct { inner, codec, table: KeyTable::default(), counts: Vec::new(), values: Vec::new() }
    }
}

impl Accumulator for Distinct {
    fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.values, groups, 0);
        self.inner.reserve(groups);
    }

    fn update(&mut self, argument: Option<&ArrayRef>, groups: &[u32], rows: &[u32], diffs: &[i64]) {
        let Some(argument) = argument else { return };
        let indices = arrow::array::UInt32Array::from(rows.to_vec());
        let taken = sound(arrow::compute::take(argument, &indices, None));
        let encoded = self.codec.encode(&[taken], rows.len());
        let mut keys = Rows::with_capacity(rows.len(), encoded.bytes().len() + 4 * rows.len());
        for (value, group) in encoded.iter().zip(groups) {
            keys.push_pair(&group.to_le_bytes(), value);
        }
        let hashes: Vec<u64> = keys.iter().map(hash).collect();
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let mut places = Vec::new();
        self.table.lookup_or_insert(&hashes, &keys, &all, &mut places);
        grow::extend(&mut self.counts, self.table.groups(), 0);

        let (mut inner_groups, mut inner_rows, mut inner_diffs) = (Vec::new(), Vec::new(), Vec::new());
        let mut gone = Vec::new();
        for (index, (&place, &diff)) in places.iter().zip(diffs).enumerate() {
            let old = self.counts[place as usize];
            let new = old + diff;
            self.counts[place as usize] = new;
            let values = &mut self.values[groups[index] as usize];
            *values += u32::from(old == 0);
            *values -= u32::from(new == 0);
            if new == 0 {
                gone.push((hashes[index], place));
            }
            if (old > 0) != (new > 0) {
                inner_groups.push(groups[index]);
                inner_rows.push(rows[index]);
                inner_diffs.push(if new > 0 { 1 } else { -1 });
            }
        }
        // Only now, for a value may have come back.
        gone.sort_unstable();
        gone.dedup();
        for (hash, place) in gone {
            if self.counts[place as usize] == 0 {
                self.table.remove(hash, place);
            }
        }
        self.inner.update(Some(argument), &inner_groups, &inner_rows, &inner_diffs);
    }

    fn evaluate(&mut self, groups: &[u32], fail: &mut dyn FnMut(usize, String)) -> ArrayRef {
        self.inner.evaluate(groups, fail)
    }

    fn is_empty(&self, group: u32) -> bool {
        self.values[group as usize] == 0
    }

    fn clear(&mut self, groups: &[u32]) {
        // A group is cleared only when no value is left in it, so the table has nothing of it.
        self.inner.clear(groups);
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        self.inner.save(group, out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Option<()> {
        self.inner.load(group, bytes)
    }

    /// Values in the order of the table, each behind its copies.
    fn save_values(&self, from: &mut Place, limit: usize, give: &mut dyn FnMut(u32, &[u8])) -> bool {
        let mut saved = Vec::new();
        let mut given = 0;
        while (from.number as usize) < self.table.groups() {
            if given >= limit {
                return false;
            }
            let place = from.number;
            from.number += 1;
            if self.table.is_used(place)
                && let Some((group, value)) = self.table.key(place).split_first_chunk()
            {
                saved.clear();
                varint::put_signed(&mut saved, self.counts[place as usize]);
                saved.extend_from_slice(value);
                given += 1;
                give(u32::from_le_bytes(*group), &saved);
            }
        }
        true
    }

    /// The aggregate inside has been fed with the value before it was saved.
    fn load_value(&mut self, group: u32, mut bytes: &[u8]) -> Option<()> {
        let copies = varint::take_signed(&mut bytes)?;
        let key = [&group.to_le_bytes(), bytes].concat();
        let place = self.table.insert(hash(&key), &key) as usize;
        grow::extend(&mut self.counts, self.table.groups(), 0);
        let values = &mut self.values[group as usize];
        *values += u32::from(self.counts[place] == 0);
        self.counts[place] += copies;
        *values -= u32::from(self.counts[place] == 0);
        Some(())
    }

    fn bytes(&self) -> usize {
        self.table.bytes() + 8 * self.counts.capacity() + 4 * self.values.capacity() + self.inner.bytes()
    }
}
