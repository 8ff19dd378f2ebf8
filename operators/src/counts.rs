//! Small arrays indexed by group.

use std::collections::HashMap;

use crate::grow;

/// How many records each group has: 4 bytes a group, and more only for counts that need it.
#[derive(Default)]
pub(crate) struct Counts {
    small: Vec<i32>,
    large: HashMap<u32, i64>,
}

/// Stands for a count in `large`.
const LARGE: i32 = i32::MIN;

impl Counts {
    /// Makes room for groups below `groups`.
    #[inline]
    pub(crate) fn reserve(&mut self, groups: usize) {
        grow::extend(&mut self.small, groups, 0);
    }

    /// A group's count.
    #[inline]
    pub(crate) fn get(&self, group: u32) -> i64 {
        match self.small[group as usize] {
            LARGE => self.large.get(&group).copied().unwrap_or(0),
            small => i64::from(small),
        }
    }

    /// Adds to a group's count and gives what it was.
    #[inline]
    pub(crate) fn add(&mut self, group: u32, diff: i64) -> i64 {
        let small = &mut self.small[group as usize];
        let old = i64::from(*small);
        match old.checked_add(diff).and_then(|sum| i32::try_from(sum).ok()) {
            Some(sum) if *small != LARGE && sum != LARGE => {
                *small = sum;
                old
            }
            _ => self.add_large(group, diff),
        }
    }

    #[cold]
    fn add_large(&mut self, group: u32, diff: i64) -> i64 {
        let old = self.get(group);
        let sum = old.saturating_add(diff);
        match i32::try_from(sum) {
            Ok(small) if small != LARGE => {
                self.large.remove(&group);
                self.small[group as usize] = small;
            }
            _ => {
                self.large.insert(group, sum);
                self.small[group as usize] = LARGE;
            }
        }
        old
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        4 * self.small.capacity() + 20 * self.large.capacity()
    }
}

/// A set of groups: one bit a group.
#[derive(Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    /// Makes room for groups below `groups`.
    #[inline]
    pub(crate) fn reserve(&mut self, groups: usize) {
        if self.0.len() * 64 < groups {
            self.0.resize(groups.div_ceil(64), 0);
        }
    }

    /// Adds a group and says whether it is new.
    #[inline]
    pub(crate) fn add(&mut self, group: u32) -> bool {
        let word = &mut self.0[group as usize / 64];
        let bit = 1 << (group % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether a group is in.
    #[inline]
    pub(crate) fn has(&self, group: u32) -> bool {
        self.0[group as usize / 64] & 1 << (group % 64) != 0
    }

    /// Takes a group out.
    #[inline]
    pub(crate) fn remove(&mut self, group: u32) {
        self.0[group as usize / 64] &= !(1 << (group % 64));
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        8 * self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_any_size_come_back() {
        let mut counts = Counts::default();
        counts.reserve(2);
        let mut model = 0i64;
        let big = i64::from(i32::MAX);
        for diff in [1, -1, big, 1, big, -big, -big, -2, -big - 1, big, i64::MIN / 2, i64::MAX / 2, big] {
            assert_eq!(counts.add(1, diff), model);
            model += diff;
            assert_eq!(counts.get(1), model);
            assert_eq!(counts.get(0), 0);
        }
    }
}
