//! Distinct rows counted by their leading columns, as in `SELECT a, count(DISTINCT b) .. GROUP BY a`: the rows' bytes say
//! to which group each belongs, so they never become columns in between.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use headwater_operators::distinct::{Change, Emitter};
use headwater_operators::keyed::{KEEP, hash};
use headwater_operators::table::KeyTable;
use headwater_operators::time::Time;
use headwater_operators::{Keyed, Rows, Updates};

use super::codec::{Codec, Leading, Packed};
use crate::columns::Columns;

/// Adds up the changes of distinct rows that are of one group and one time, and in which the same columns are NULL.
pub(super) struct Counted {
    leading: Leading,
    /// The NULL bits of the columns that are counted.
    nulls: Vec<(usize, u8)>,
    /// All of them, where one byte has them.
    flags: Option<(usize, u8)>,
    sums: Vec<Sum>,
    /// Where the sums of the last time are, by a hash of what they are of: at most a quarter full, a power of two. Changes come
    /// time by time, and one time's sums are mostly few enough for the fastest cache.
    slots: Vec<u32>,
    /// The first sum of that time. A slot of an earlier one is vacant.
    first: usize,
    /// Long keys by number.
    long: KeyTable,
    /// How many changes are in `sums`.
    changes: usize,
    /// Room to put a long key together.
    buffer: Vec<u8>,
}

/// A slot without a sum.
const VACANT: u32 = u32::MAX;
/// The slots there are at first.
const LEAST: usize = 512;
/// As many are kept when the sums are taken.
const KEPT: usize = 1 << 12;

/// Where the NULL flags of a row are in what it is counted with.
const FLAGS: u32 = 112;
/// The second number where the first is that of a long key.
const LONG: u128 = u128::MAX;

struct Sum {
    /// A short key, packed, with its NULL flags; or the number of a long one.
    of: Packed,
    time: Time,
    bucket: u64,
    sum: i64,
}

impl Counted {
    /// For rows of `rows` that are grouped by the columns of `keys`, which are the first ones. The `counted` columns are those
    /// whose values count.
    pub(super) fn new(rows: &Codec, keys: &Codec, leading: usize, counted: &[usize]) -> Self {
        let nulls: Vec<(usize, u8)> = counted.iter().map(|&column| rows.null(column)).collect();
        let byte = nulls.first().map_or(0, |(byte, _)| *byte);
        let flags = (byte, nulls.iter().fold(0, |flags, (_, bit)| flags | bit));
        Counted {
            leading: rows.leading(leading, keys),
            flags: nulls.iter().all(|(other, _)| *other == byte).then_some(flags),
            nulls,
            sums: Vec::new(),
            slots: vec![VACANT; LEAST],
            first: 0,
            long: KeyTable::default(),
            changes: 0,
            buffer: Vec::new(),
        }
    }

    /// What a row is counted with.
    #[inline]
    fn of(&mut self, row: &[u8]) -> Packed {
        if let (Some((byte, bits)), Some([first, second])) = (self.flags, self.leading.packed(row)) {
            let nulls = row.get(byte).map_or(0, |byte| byte & bits);
            return [first, second | u128::from(nulls) << FLAGS];
        }
        self.buffer.clear();
        self.leading.append(row, &mut self.buffer);
        self.buffer.extend(self.nulls.iter().map(|(byte, bit)| u8::from(row[*byte] & bit != 0)));
        [u128::from(self.long.insert(hash(&self.buffer), &self.buffer)), LONG]
    }

    /// Appends a key to `keys`, and to each of `counts` whether its column's value counts.
    fn take_key(&self, [first, second]: Packed, keys: &mut Rows, counts: &mut [Vec<bool>]) {
        if second == LONG {
            let bytes = self.long.key(first as u32);
            let (key, flags) = bytes.split_at(bytes.len() - counts.len());
            keys.push(key);
            counts.iter_mut().zip(flags).for_each(|(counts, flag)| counts.push(*flag == 0));
            return;
        }
        let mut key = Vec::new();
        self.leading.unpack([first, second], &mut key);
        keys.push(&key);
        let flags = (second >> FLAGS) as u8;
        counts.iter_mut().zip(&self.nulls).for_each(|(counts, (_, bit))| counts.push(flags & bit == 0));
    }

    /// The slot of a sum of the last time, or where it would be; and the sum's number.
    #[inline]
    fn slot(&self, of: Packed) -> (usize, Option<usize>) {
        let mask = self.slots.len() - 1;
        let mut at = mixed(of) as usize & mask;
        loop {
            let number = self.slots[at] as usize;
            match self.sums.get(number) {
                // In registers: numbers that were just stored in halves would be slow to read whole.
                Some(sum) if number >= self.first => match (sum.of[0] ^ of[0]) | (sum.of[1] ^ of[1]) {
                    0 => return (at, Some(number)),
                    _ => at = (at + 1) & mask,
                },
                _ => return (at, None),
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.slots = vec![VACANT; self.slots.len() * 2];
        for number in self.first..self.sums.len() {
            let (slot, _) = self.slot(self.sums[number].of);
            self.slots[slot] = number as u32;
        }
    }
}

/// Spreads what a sum is of over the low bits.
#[inline]
fn mixed([first, second]: Packed) -> u64 {
    let folded = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    // Odd numbers without a pattern, so that no factor is 0 for the keys there are.
    let first = folded(first as u64 ^ 0x2d35_8dcc_aa6c_78a5, (first >> 64) as u64 ^ 0x8bb8_4b93_962e_acc9);
    first ^ folded(second as u64 ^ 0x4b33_a62e_d433_d4a3, (second >> 64) as u64 ^ 0x4d5a_2da5_1de1_aa47)
}

impl Emitter for Counted {
    type Output = Keyed<Columns>;

    #[inline]
    fn push(&mut self, Change { key, bucket, time, diff, .. }: Change<'_>) {
        let of = self.of(key);
        if self.sums.last().is_some_and(|last| last.time != time) {
            self.first = self.sums.len();
        }
        self.changes += 1;
        match self.slot(of) {
            (_, Some(number)) => self.sums[number].sum += diff,
            (slot, None) => {
                self.slots[slot] = self.sums.len() as u32;
                self.sums.push(Sum { of, time, bucket, sum: diff });
                if (self.sums.len() - self.first) * 4 > self.slots.len() {
                    self.grow();
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.changes
    }

    fn take(&mut self) -> Updates<Keyed<Columns>> {
        let sums = std::mem::take(&mut self.sums);
        let kept = || sums.iter().filter(|sum| sum.sum != 0);
        let mut keys = Rows::default();
        let mut counts = vec![Vec::new(); self.nulls.len()];
        kept().for_each(|sum| self.take_key(sum.of, &mut keys, &mut counts));
        let rows = keys.len();
        let arrays = counts.into_iter().map(|counts| Arc::new(BooleanArray::from(counts)) as ArrayRef).collect();
        let mut buckets: Vec<u64> = kept().map(|sum| sum.bucket).collect();
        if buckets.iter().all(|bucket| *bucket == KEEP) {
            buckets.clear();
        }
        if self.slots.len() > KEPT {
            self.slots = vec![VACANT; LEAST];
        } else {
            self.slots.fill(VACANT);
        }
        self.first = 0;
        self.long.clear();
        self.changes = 0;
        Updates {
            times: kept().map(|sum| sum.time).collect(),
            diffs: kept().map(|sum| sum.sum).collect(),
            data: Keyed { buckets, ..Keyed::new(keys, Columns { arrays, rows }) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Short keys and long ones, few sums and many, taken up again and again.
    #[test]
    fn sums_are_what_the_changes_come_to() {
        let mut rng = StdRng::seed_from_u64(4);
        let rows = Codec::new([DataType::Int64, DataType::Utf8, DataType::Int64, DataType::Utf8]).unwrap();
        let keys = Codec::new([DataType::Int64, DataType::Utf8]).unwrap();
        let mut counted = Counted::new(&rows, &keys, 2, &[2, 3]);
        for round in 0..40 {
            let (groups, len) = ([3, 2_000][round % 2], [0, 9, 60][round % 3]);
            let count = rng.random_range(0..3_000);
            let mut some = |p: f64| rng.random_bool(p);
            let nulls: Vec<[bool; 3]> = (0..count).map(|_| [some(0.1), some(0.3), some(0.3)]).collect();
            let numbers: Vec<i64> = (0..count).map(|_| rng.random_range(0..groups)).collect();
            let text = |n: &i64| format!("{n:0len$}");
            let columns: [ArrayRef; 4] = [
                Arc::new(numbers.iter().zip(&nulls).map(|(n, null)| (!null[0]).then_some(*n)).collect::<Int64Array>()),
                Arc::new(numbers.iter().map(|n| Some(text(&(n / 3)))).collect::<StringArray>()),
                Arc::new(numbers.iter().zip(&nulls).map(|(n, null)| (!null[1]).then_some(*n)).collect::<Int64Array>()),
                Arc::new(nulls.iter().map(|null| (!null[2]).then(|| "some value".repeat(9))).collect::<StringArray>()),
            ];
            let encoded = rows.encode(&columns, count);
            let grouped = keys.encode(&columns[..2], count);
            let mut model: BTreeMap<(Vec<u8>, Time, [bool; 2]), i64> = BTreeMap::new();
            for (row, null) in nulls.iter().enumerate() {
                // Time by time, as they come, and also across.
                let time = if round % 4 < 2 { (row * 3 / count) as Time } else { rng.random_range(0..3) };
                let diff = [1, 1, -1][rng.random_range(0..3)];
                let key = encoded.get(row);
                counted.push(Change { hash: hash(key), key, bucket: time + 9, time, diff });
                let group = (grouped.get(row).to_vec(), time, [!null[1], !null[2]]);
                *model.entry(group).or_default() += diff;
            }
            model.retain(|_, sum| *sum != 0);
            assert_eq!(counted.len(), count);
            let Updates { data, times, diffs } = counted.take();
            let flags: Vec<_> = data.vals.arrays.iter().map(|array| array.as_boolean()).collect();
            let sum = |row| {
                assert_eq!((data.bucket(row), data.hashes[row]), (times[row] + 9, hash(data.keys.get(row))));
                let flags = [flags[0].value(row), flags[1].value(row)];
                ((data.keys.get(row).to_vec(), times[row], flags), diffs[row])
            };
            let mut sums = BTreeMap::new();
            (0..times.len()).map(sum).for_each(|(of, diff)| *sums.entry(of).or_default() += diff);
            sums.retain(|_, sum| *sum != 0);
            assert_eq!(sums, model);
            assert_eq!(data.vals.rows, times.len());
            assert!(round % 4 >= 2 || times.len() == sums.len());
            assert!(counted.is_empty());
        }
    }
}
