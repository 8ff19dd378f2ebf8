//! State that is dropped whole when the watermark has passed it.

use std::collections::BTreeMap;

use crate::keyed::{KEEP, Keyed};
use crate::saved::Export;
use crate::time::Time;

/// More segments than this are not opened; their neighbours then take further buckets.
const SEGMENTS: usize = 256;

/// One state `S` for each range of buckets. See [`Keyed::buckets`].
///
/// Few buckets are alive at a time, and each has a segment of its own. Where many are (a static table's windows), a
/// segment takes several and is dropped with the last of them: nothing shows the difference, because
/// [`Buckets::split`] leaves out expired updates row by row.
pub(crate) struct Buckets<S> {
    slots: Vec<Option<S>>,
    vacant: Vec<u32>,
    /// By the last bucket of each segment: its first bucket and its slot.
    ranges: BTreeMap<u64, (u64, u32)>,
    /// The slot of [`KEEP`].
    keep: Option<u32>,
    /// The rows of each slot, while a batch is split.
    lists: Vec<Vec<u32>>,
    /// The slots with rows.
    split: Vec<u32>,
}

impl<S> Default for Buckets<S> {
    fn default() -> Self {
        Buckets {
            slots: Vec::new(),
            vacant: Vec::new(),
            ranges: BTreeMap::new(),
            keep: None,
            lists: Vec::new(),
            split: Vec::new(),
        }
    }
}

impl<S> Buckets<S> {
    /// The state in a slot that [`Buckets::slot`] or [`Buckets::split`] gave and that was not released since.
    #[inline]
    pub(crate) fn get(&mut self, slot: u32) -> &mut S {
        match &mut self.slots[slot as usize] {
            Some(state) => state,
            None => unreachable!("slot {slot} was released"),
        }
    }

    /// The slot that keeps a bucket's state.
    pub(crate) fn slot(&mut self, bucket: u64, make: &impl Fn() -> S) -> u32 {
        if bucket == KEEP {
            return match self.keep {
                Some(slot) => slot,
                None => *self.keep.insert(open(&mut self.slots, &mut self.vacant, make)),
            };
        }
        if let Some((_, (first, slot))) = self.ranges.range_mut(bucket..).next() {
            let slot = *slot;
            if *first <= bucket {
                return slot;
            }
            if self.ranges.len() >= SEGMENTS {
                // No bucket between was seen yet, so none of their keys is elsewhere.
                if let Some((_, (first, _))) = self.ranges.range_mut(bucket..).next() {
                    *first = bucket;
                }
                return slot;
            }
        } else if self.ranges.len() >= SEGMENTS
            && let Some((_, range)) = self.ranges.pop_last()
        {
            self.ranges.insert(bucket, range);
            return range.1;
        }
        let slot = open(&mut self.slots, &mut self.vacant, make);
        self.ranges.insert(bucket, (bucket, slot));
        slot
    }

    /// Calls `logic` for each slot with those of `rows` whose state it keeps, without the rows whose bucket `time`
    /// has reached.
    pub(crate) fn split<V>(
        &mut self,
        data: &Keyed<V>,
        time: Time,
        rows: &[u32],
        make: &impl Fn() -> S,
        mut logic: impl FnMut(u32, &mut S, &[u32]),
    ) {
        let Some(&first) = rows.first() else { return };
        let bucket = data.bucket(first as usize);
        if bucket > time && (data.buckets.is_empty() || rows.iter().all(|&row| data.buckets[row as usize] == bucket)) {
            let slot = self.slot(bucket, make);
            logic(slot, self.get(slot), rows);
            return;
        }
        let mut lists = std::mem::take(&mut self.lists);
        let mut split = std::mem::take(&mut self.split);
        // The slot of the last bucket seen: neighbouring rows are mostly of few buckets.
        let mut last = None;
        for &row in rows {
            let bucket = data.bucket(row as usize);
            if bucket <= time {
                continue;
            }
            let slot = match last {
                Some((seen, slot)) if seen == bucket => slot,
                _ => self.slot(bucket, make),
            };
            last = Some((bucket, slot));
            if lists.len() <= slot as usize {
                lists.resize_with(slot as usize + 1, Vec::new);
            }
            if lists[slot as usize].is_empty() {
                split.push(slot);
            }
            lists[slot as usize].push(row);
        }
        for slot in split.drain(..) {
            logic(slot, self.get(slot), &lists[slot as usize]);
            lists[slot as usize].clear();
        }
        self.lists = lists;
        self.split = split;
    }

    /// Drops the state of all buckets that `frontier` has reached; with `None`, for a closed input, of all.
    pub(crate) fn release(&mut self, frontier: Option<Time>) {
        let Some(frontier) = frontier else {
            *self = Buckets::default();
            return;
        };
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > frontier {
                break;
            }
            let (_, slot) = entry.remove();
            self.slots[slot as usize] = None;
            self.vacant.push(slot);
        }
    }

    /// Calls `logic` for the states alive from a place on, until it gives false; says whether it never did.
    pub(crate) fn export(&self, from: &mut Export, mut logic: impl FnMut(&S, &mut Export) -> bool) -> bool {
        while let Some(slot) = self.slots.get(from.slot) {
            if let Some(state) = slot
                && !logic(state, from)
            {
                return false;
            }
            *from = Export { slot: from.slot + 1, ..Export::default() };
        }
        true
    }

    /// The states alive.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().flatten()
    }
}

fn open<S>(slots: &mut Vec<Option<S>>, vacant: &mut Vec<u32>, make: &impl Fn() -> S) -> u32 {
    match vacant.pop() {
        Some(slot) => {
            slots[slot as usize] = Some(make());
            slot
        }
        None => {
            slots.push(Some(make()));
            (slots.len() - 1) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn a_bucket_keeps_its_slot_until_it_is_released() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut buckets: Buckets<u32> = Buckets::default();
        let mut homes: HashMap<u64, u32> = HashMap::new();
        for frontier in 0..200 {
            for _ in 0..50 {
                let bucket = if rng.random_bool(0.1) { KEEP } else { frontier + rng.random_range(1..2_000) };
                let slot = buckets.slot(bucket, &|| 0);
                assert_eq!(*homes.entry(bucket).or_insert(slot), slot);
                buckets.get(slot);
            }
            buckets.release(Some(frontier));
            homes.retain(|bucket, _| *bucket > frontier);
        }
        assert!(buckets.iter().count() <= SEGMENTS + 1);
        buckets.release(Some(3_000));
        assert_eq!(buckets.iter().count(), 1);
        buckets.release(None);
        assert_eq!(buckets.iter().count(), 0);
    }
}
