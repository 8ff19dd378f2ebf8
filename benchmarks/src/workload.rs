//! The data of the cases: a pure function of a seed. Without dependencies, for the peers' package reads it too.

use std::collections::BTreeMap;

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a minute, the width of W2's windows.
pub const MINUTE: i64 = 60 * SECOND;
/// Event times begin here: 2026-01-01 00:00:00 UTC, microseconds.
pub const EPOCH: i64 = 1_767_225_600 * SECOND;
/// How far behind the newest event a W2 event may be, microseconds.
pub const DISORDER: i64 = 3 * SECOND;
/// The disorder that W2's watermark allows for, microseconds.
pub const DELAY: i64 = 10 * SECOND;
/// Regions in W1 and W2.
pub const REGIONS: u8 = 50;
/// Users in W1 and W2.
pub const USERS: u64 = 1_000_000;

/// A small, fast and good generator of random numbers (splitmix64).
pub struct Random(u64);

impl Random {
    /// A generator whose numbers are a function of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A random number below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Spreads the bits of `x` over all 64, reversibly.
#[inline]
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One visit: who was where and when.
#[derive(Clone, Copy)]
pub struct Event {
    /// Event time, microseconds since the UTC epoch.
    pub ts: i64,
    /// The region's number, below [`REGIONS`].
    pub region: u8,
    /// The user, below [`USERS`].
    pub user: u64,
}

/// `rows` events in order of arrival: 10,000 a second of event time, each up to [`DISORDER`] late.
pub fn events(seed: u64, rows: usize) -> Vec<Event> {
    let mut random = Random::new(seed);
    (0..rows as i64)
        .map(|i| Event {
            ts: EPOCH + i * 100 - random.below(DISORDER as u64) as i64,
            region: random.below(u64::from(REGIONS)) as u8,
            user: random.below(USERS),
        })
        .collect()
}

/// The start of the one-minute window that holds `ts`.
#[inline]
pub fn window_start(ts: i64) -> i64 {
    ts - ts.rem_euclid(MINUTE)
}

/// W2 by brute force: distinct users by window start and region, by sorting.
pub fn visitors(events: &[Event]) -> BTreeMap<(i64, u8), i64> {
    let first = events.iter().map(|e| e.ts).min().map_or(0, window_start);
    let packed = events.iter().map(|e| {
        let window = ((window_start(e.ts) - first) / MINUTE) as u64;
        (window << 40) | (u64::from(e.region) << 32) | e.user
    });
    let mut packed: Vec<u64> = packed.collect();
    packed.sort_unstable();
    packed.dedup();
    let mut counts = BTreeMap::new();
    for key in packed {
        let window = first + (key >> 40) as i64 * MINUTE;
        *counts.entry((window, (key >> 32) as u8)).or_insert(0) += 1;
    }
    counts
}

/// What differs between an answer and what it must be; `None` when nothing does.
pub fn differs<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    got: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} rows, not {}", got.len(), want.len()));
    }
    got.iter().zip(want).find(|(g, w)| g != w).map(|(g, w)| format!("{g:?} instead of {w:?}"))
}

/// The value at quantile `q` of `sorted` values.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Peak resident memory of this process, MiB.
pub fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib: f64 = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_the_distinct_users_of_each_window_and_region() {
        let events = events(7, 50_000);
        let mut sets: BTreeMap<(i64, u8), std::collections::BTreeSet<u64>> = BTreeMap::new();
        for event in &events {
            sets.entry((window_start(event.ts), event.region)).or_default().insert(event.user);
        }
        let want = sets.iter().map(|(key, users)| (*key, users.len() as i64)).collect();
        assert_eq!(differs(&visitors(&events), &want), None);
    }

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn events_are_at_most_three_seconds_late() {
        let mut newest = i64::MIN;
        for event in events(3, 20_000) {
            newest = newest.max(event.ts);
            assert!(event.ts > newest - DISORDER - 100);
            assert!(event.region < REGIONS && event.user < USERS);
        }
    }
}
