//! A hash table from byte keys to dense group numbers.

use crate::arena::{Arena, NOWHERE};
use crate::grow;
use crate::rows::Rows;

/// A slot without a group.
const VACANT: u64 = u64::MAX;

/// Rows looked up together: their cache misses overlap.
const BATCH: usize = 32;

/// Below this many slots the table lives in the cache and looking ahead costs more than it saves.
const SMALL: usize = 1 << 11;

/// Numbers byte keys `0, 1, 2, ..`: the group of each key, for use as an index into arrays of accumulators.
///
/// Open addressing with linear probing. A slot holds the group and 32 bits of the key's hash, from which growth and
/// removal compute where it belongs, so they never touch the keys. The overhead is about 17 to 27 bytes a key. A group
/// number is used again after its key was removed.
///
/// ```
/// use headwater_operators::{keyed::hash, table::KeyTable};
/// let mut table = KeyTable::default();
/// let group = table.insert(hash(b"amber"), b"amber");
/// assert_eq!(table.find(hash(b"amber"), b"amber"), Some(group));
/// assert_eq!(table.key(group), b"amber");
/// ```
#[derive(Default)]
pub struct KeyTable {
    /// The hash's low half above, the group below; a power of two of them, or none.
    slots: Vec<u64>,
    /// The address of each group's key; `NOWHERE` for a number that is not in use.
    places: Vec<u32>,
    /// Group numbers not in use.
    free: Vec<u32>,
    arena: Arena,
}

impl KeyTable {
    /// The number of keys.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A bound on group numbers: all are below it.
    #[inline]
    pub fn groups(&self) -> usize {
        self.places.len()
    }

    /// The key of a group that is in use.
    #[inline]
    pub fn key(&self, group: u32) -> &[u8] {
        self.arena.get(self.places[group as usize])
    }

    /// Appends the keys of `groups`, which are in use, to `out`.
    pub fn copy_keys(&self, groups: &[u32], out: &mut Rows) {
        out.reserve(groups.len(), groups.len() * self.arena.used() / self.len().max(1));
        for groups in groups.chunks(BATCH) {
            let mut places = [NOWHERE; BATCH];
            for (place, &group) in places.iter_mut().zip(groups) {
                *place = self.places[group as usize];
            }
            let places = &places[..groups.len()];
            std::hint::black_box(places.iter().fold(0, |touched, &place| touched ^ self.arena.touch(place)));
            places.iter().for_each(|&place| out.push(self.arena.get(place)));
        }
    }

    /// Whether a group number below [`KeyTable::groups`] is in use.
    #[inline]
    pub fn is_used(&self, group: u32) -> bool {
        self.places[group as usize] != NOWHERE
    }

    /// The groups in use, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.places.iter().enumerate().filter(|(_, p)| **p != NOWHERE).map(|(g, _)| g as u32)
    }

    /// The group of a key, if it has one.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.probe(hash as u32, key).ok()
    }

    /// The group of a key, a new one if it has none.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        self.reserve(1);
        self.insert_reserved(hash as u32, key)
    }

    /// Appends to `out` the group of the key of each of `rows`, which index `hashes` and `keys`; a key without a group
    /// gets one.
    pub fn lookup_or_insert(&mut self, hashes: &[u64], keys: &Rows, rows: &[u32], out: &mut Vec<u32>) {
        out.reserve(rows.len());
        for rows in rows.chunks(BATCH) {
            self.reserve(rows.len());
            if self.slots.len() > SMALL {
                self.look_ahead(hashes, rows);
            }
            for &row in rows {
                out.push(self.insert_reserved(hashes[row as usize] as u32, keys.get(row as usize)));
            }
        }
    }

    /// Reads what probing for `rows` will read, in loops of independent loads that the processor overlaps.
    #[inline]
    fn look_ahead(&self, hashes: &[u64], rows: &[u32]) {
        let mask = self.slots.len() - 1;
        let mut groups = [u32::MAX; BATCH];
        for (group, &row) in groups.iter_mut().zip(rows) {
            let fragment = hashes[row as usize] as u32;
            let slot = self.slots[fragment as usize & mask];
            if (slot >> 32) as u32 == fragment {
                *group = slot as u32;
            }
        }
        let mut places = [NOWHERE; BATCH];
        for (place, &group) in places.iter_mut().zip(&groups) {
            *place = self.places.get(group as usize).copied().unwrap_or(NOWHERE);
        }
        let mut touched = 0;
        for &place in &places {
            if place != NOWHERE {
                touched ^= self.arena.touch(place);
            }
        }
        std::hint::black_box(touched);
    }

    /// The group of a key, or the vacant slot where it would go.
    #[inline]
    fn probe(&self, fragment: u32, key: &[u8]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = fragment as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == VACANT {
                return Err(at);
            }
            if (slot >> 32) as u32 == fragment && self.key(slot as u32) == key {
                return Ok(slot as u32);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(always)]
    fn insert_reserved(&mut self, fragment: u32, key: &[u8]) -> u32 {
        match self.probe(fragment, key) {
            Ok(group) => group,
            Err(at) => {
                let place = self.arena.push(key);
                let group = match self.free.pop() {
                    Some(group) => {
                        self.places[group as usize] = place;
                        group
                    }
                    None => {
                        grow::reserve(&mut self.places, 1);
                        self.places.push(place);
                        (self.places.len() - 1) as u32
                    }
                };
                self.slots[at] = u64::from(fragment) << 32 | u64::from(group);
                group
            }
        }
    }

    /// Removes the key of a group that is in use; its number may be given to another key. `hash` is the key's.
    pub fn remove(&mut self, hash: u64, group: u32) {
        let fragment = hash as u32;
        let wanted = u64::from(fragment) << 32 | u64::from(group);
        let mask = self.slots.len() - 1;
        let mut hole = fragment as usize & mask;
        while self.slots[hole] != wanted {
            debug_assert!(self.slots[hole] != VACANT, "group {group} is not in use");
            hole = (hole + 1) & mask;
        }
        // Each later slot of the run that may move back fills the hole, so that no probe stops short.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == VACANT {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = VACANT;
        self.arena.forget(self.places[group as usize]);
        self.places[group as usize] = NOWHERE;
        self.free.push(group);
        if self.is_empty() && self.slots.len() > SMALL {
            *self = KeyTable::default();
        } else if self.arena.wasteful() {
            self.compact();
        }
    }

    /// Copies the keys in use to a new arena and shrinks the slots to fit.
    fn compact(&mut self) {
        let mut arena = Arena::default();
        for place in self.places.iter_mut().filter(|p| **p != NOWHERE) {
            *place = arena.push(self.arena.get(*place));
        }
        self.arena = arena;
        let wanted = slots_for(self.len());
        if wanted * 4 <= self.slots.len() {
            self.resize(wanted * 2);
        }
    }

    #[inline]
    fn reserve(&mut self, more: usize) {
        let keys = self.len() + more;
        if keys * 4 > self.slots.len() * 3 {
            self.resize(slots_for(keys));
        }
    }

    #[cold]
    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![VACANT; slots]);
        let mask = slots - 1;
        for slot in old.into_iter().filter(|s| *s != VACANT) {
            let mut at = (slot >> 32) as usize & mask;
            while self.slots[at] != VACANT {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    /// Forgets all keys, keeping small buffers.
    pub fn clear(&mut self) {
        if self.slots.len() > SMALL {
            *self = KeyTable::default();
        } else {
            self.slots.fill(VACANT);
            self.places.clear();
            self.free.clear();
            self.arena = Arena::default();
        }
    }

    /// Bytes held, spare capacity included.
    pub fn bytes(&self) -> usize {
        8 * self.slots.capacity() + 4 * (self.places.capacity() + self.free.capacity()) + self.arena.bytes()
    }
}

/// The least power of two of slots that hold `keys` keys at most three quarters full.
fn slots_for(keys: usize) -> usize {
    (keys * 4).div_ceil(3).next_power_of_two().max(8)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::keyed;

    /// A hash that collides much, so that runs wrap and shift.
    fn poor(key: &[u8]) -> u64 {
        keyed::hash(key) % 97 * 0x1_0000_0001 * 7
    }

    fn agrees_with_a_map(seed: u64, keys: u64, steps: usize, hash: fn(&[u8]) -> u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut table = KeyTable::default();
        let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
        for step in 0..steps {
            let number = rng.random_range(0..keys);
            let key = number.to_string().repeat(1 + number as usize % 40).into_bytes();
            // Mostly inserts for the first half, then mostly removals.
            if rng.random_bool(if step * 2 < steps { 0.7 } else { 0.2 }) {
                let group = table.insert(hash(&key), &key);
                assert_eq!(*model.entry(key).or_insert(group), group);
            } else if let Some(group) = model.remove(&key) {
                assert_eq!(table.find(hash(&key), &key), Some(group));
                table.remove(hash(&key), group);
            } else {
                assert_eq!(table.find(hash(&key), &key), None);
            }
        }
        assert_eq!(table.len(), model.len());
        let mut groups: Vec<u32> = model.values().copied().collect();
        groups.sort();
        groups.dedup();
        assert_eq!(groups, table.iter().collect::<Vec<_>>());
        for (key, &group) in &model {
            assert_eq!(table.key(group), &key[..]);
            table.remove(hash(key), group);
        }
        assert!(table.is_empty() && table.bytes() < 1 << 18);
    }

    #[test]
    fn agrees_with_a_map_under_inserts_and_removals() {
        for seed in 0..4 {
            agrees_with_a_map(seed, 30, 2_000, keyed::hash);
            agrees_with_a_map(seed, 30_000, 60_000, keyed::hash);
            agrees_with_a_map(seed, 2_000, 6_000, poor);
        }
    }

    #[test]
    fn a_batch_gives_equal_keys_one_group() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut table = KeyTable::default();
        for _ in 0..20 {
            let mut keys = Rows::default();
            (0..1_000).for_each(|_| keys.push(&rng.random_range(0..9_000u64).to_le_bytes()));
            let hashes: Vec<u64> = keys.iter().map(keyed::hash).collect();
            let rows: Vec<u32> = (0..1_000).filter(|i| i % 3 != 0).collect();
            let mut groups = Vec::new();
            table.lookup_or_insert(&hashes, &keys, &rows, &mut groups);
            for (&row, &group) in rows.iter().zip(&groups) {
                assert_eq!(table.key(group), keys.get(row as usize));
                assert_eq!(table.find(hashes[row as usize], keys.get(row as usize)), Some(group));
            }
        }
        assert_eq!(table.iter().count(), table.len());
    }
}
