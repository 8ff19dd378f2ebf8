//! W2 as a loop by hand: one open-addressing set of numbers for each window and region.

use std::collections::{BTreeMap, VecDeque};

use crate::workload::{DELAY, Event, MINUTE, REGIONS, SECOND, window_start};

/// The slots that a set begins with.
const FIRST: usize = 1 << 10;
/// An odd number that spreads a product over the high bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A set of numbers: linear probing, at most half full, 0 for an empty slot.
struct Set {
    slots: Vec<u64>,
    len: usize,
    /// Of a product, so that its high bits number a slot.
    shift: u32,
}

impl Set {
    fn new() -> Self {
        Set::with(FIRST)
    }

    fn with(slots: usize) -> Self {
        Set { slots: vec![0; slots], len: 0, shift: 64 - slots.trailing_zeros() }
    }

    /// Adds a number; whether it was not there.
    #[inline]
    fn insert(&mut self, number: u64) -> bool {
        let stored = number + 1;
        let mask = self.slots.len() - 1;
        let mut at = (stored.wrapping_mul(SPREAD) >> self.shift) as usize;
        loop {
            let slot = &mut self.slots[at & mask];
            if *slot == stored {
                return false;
            }
            if *slot == 0 {
                *slot = stored;
                self.len += 1;
                if self.len * 2 > self.slots.len() {
                    self.grow();
                }
                return true;
            }
            at += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = Set::with(self.slots.len() * 2);
        self.slots.iter().filter(|stored| **stored != 0).for_each(|stored| {
            larger.insert(stored - 1);
        });
        *self = larger;
    }

    /// Empties it, for another window of about as many.
    fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }
}

/// One window's sets, by region.
type Window = Vec<Set>;

/// Distinct users of each window and region, windows released behind the watermark as in W2. A window has sets of its own, or
/// where they are `used_again` those of a final one, which are large enough already.
pub fn distinct(events: &[Event], used_again: bool) -> BTreeMap<(i64, u8), i64> {
    let mut answer = BTreeMap::new();
    let Some(first) = events.first() else { return answer };
    // The first event may be later than those after it, by less than a window.
    let mut base = window_start(first.ts) - MINUTE;
    let mut windows: VecDeque<Window> = VecDeque::new();
    let mut spare: Vec<Window> = Vec::new();
    let mut newest = i64::MIN;
    for event in events {
        let Ok(index) = usize::try_from((event.ts - base).div_euclid(MINUTE)) else { continue };
        while windows.len() <= index {
            windows.push_back(spare.pop().unwrap_or_else(|| (0..REGIONS).map(|_| Set::new()).collect()));
        }
        windows[index][usize::from(event.region)].insert(event.user);
        if event.ts > newest {
            newest = event.ts;
            while base + MINUTE <= newest - DELAY - SECOND && !windows.is_empty() {
                let finished = windows.pop_front().map(|window| finish(window, base, &mut answer));
                spare.extend(finished.filter(|_| used_again));
                base += MINUTE;
            }
        }
    }
    for window in windows {
        finish(window, base, &mut answer);
        base += MINUTE;
    }
    answer
}

/// Notes a final window's counts, and empties its sets.
fn finish(mut window: Window, start: i64, answer: &mut BTreeMap<(i64, u8), i64>) -> Window {
    for (region, set) in (0u8..).zip(&mut window) {
        if set.len > 0 {
            answer.insert((start, region), set.len as i64);
            set.clear();
        }
    }
    window
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::workload::{differs, events, visitors};

    #[test]
    fn the_loop_counts_what_sorting_counts() {
        // Some minutes of event time, so that windows end and their sets are used again.
        let events = events(11, 3_000_000);
        for used_again in [false, true] {
            assert_eq!(differs(&distinct(&events, used_again), &visitors(&events)), None);
            assert!(distinct(&[], used_again).is_empty());
        }
    }

    #[test]
    fn a_set_has_each_number_once() {
        let (mut set, mut model) = (Set::new(), HashSet::new());
        for i in 0..50_000u64 {
            let number = crate::workload::mix(i % 20_000) >> 40;
            assert_eq!(set.insert(number), model.insert(number));
            assert_eq!(set.len, model.len());
        }
        set.clear();
        assert!(set.insert(0) && !set.insert(0));
    }
}
