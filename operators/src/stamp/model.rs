//! The rule of stamping in its plainest form: one change after another, no batches.

use std::collections::BTreeMap;

use crate::stamp::{NO_TIME, StampConfig};
use crate::time::{SINCE_EVER, STREAM_START, Time, from_micros, to_micros};

/// A table, by the rule.
pub(super) struct Model {
    pub config: StampConfig,
    pub splits: Vec<Split>,
    /// The stamp of each row that has one, and whether it is late.
    pub stamps: BTreeMap<u64, (Time, bool)>,
    pub rejected: Vec<u64>,
    /// The frontier that was shown last.
    pub shown: Time,
}

#[derive(Default)]
pub(super) struct Split {
    frontier: Time,
    next: Time,
    largest: Option<Time>,
    /// The cell of the open segment, with its rows and whether they are late.
    open: Option<(i64, Vec<(u64, bool)>)>,
    pub resting: bool,
    /// Whether it was announced and has not spoken.
    announced: bool,
    pub spoke: i64,
}

impl Model {
    pub fn new(config: StampConfig) -> Self {
        Model { config, splits: Vec::new(), stamps: BTreeMap::new(), rejected: Vec::new(), shown: STREAM_START }
    }

    /// The table's frontier, for lateness and for stamps.
    pub fn frontier(&self) -> (Time, Time) {
        let active = || self.splits.iter().filter(|split| !split.resting);
        if active().count() > 0 {
            let frontiers = active().map(|split| (split.frontier, split.frontier.max(split.next)));
            return frontiers.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap();
        }
        let ends = self.splits.iter().map(|s| (s.frontier, s.next.max(s.frontier).max(s.largest.map_or(0, |l| l + 1))));
        ends.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).unwrap_or((SINCE_EVER, STREAM_START))
    }

    pub fn add_split(&mut self, now: i64, begins: Option<i64>) {
        let (frontier, next) = self.frontier();
        let taken = |begins: &i64| self.config.max_ahead.is_none_or(|ahead| *begins <= now + ahead as i64);
        let next = if begins.is_some() { self.shown.max(begins.filter(taken).map_or(0, from_micros)) } else { next };
        self.splits.push(Split { frontier, next, spoke: now, announced: begins.is_some(), ..Split::default() });
    }

    /// One change of rows, each with its event time.
    pub fn change(&mut self, split: usize, rows: &[(u64, i64)], now: i64) {
        let level = self.frontier();
        let StampConfig { delay, resolution, max_ahead, .. } = self.config;
        let at = &mut self.splits[split];
        at.spoke = now;
        at.announced = false;
        if at.resting {
            at.resting = false;
            (at.frontier, at.next) = (at.frontier.max(level.0), at.next.max(level.1));
        }
        let taken = |e: i64| e != NO_TIME && max_ahead.is_none_or(|ahead| e <= now + ahead as i64);
        self.rejected.extend(rows.iter().filter(|row| !taken(row.1)).map(|row| row.0));
        let rows: Vec<_> = rows.iter().filter(|row| taken(row.1)).map(|row| (row.0, from_micros(row.1))).collect();
        let Some(top) = rows.iter().map(|row| row.1).max() else { return };
        let stamp = top.max(at.frontier).max(at.next);
        let cell = to_micros(stamp).div_euclid(resolution as i64);
        if at.open.as_ref().is_some_and(|(open, _)| *open != cell) {
            self.close(split);
        }
        let at = &mut self.splits[split];
        let is_late = |e: Time| e + delay < at.frontier || e + delay + resolution < stamp;
        let wide = rows.iter().any(|row| !is_late(row.1) && row.1 + delay < stamp);
        let open = at.open.get_or_insert((cell, Vec::new()));
        open.1.extend(rows.iter().map(|row| (row.0, is_late(row.1))));
        at.frontier = at.frontier.max(top);
        if wide {
            self.close(split);
        }
    }

    fn close(&mut self, split: usize) {
        let split = &mut self.splits[split];
        if let Some((_, rows)) = split.open.take() {
            let stamp = split.frontier.max(split.next);
            split.largest = split.largest.max(Some(stamp));
            self.stamps.extend(rows.into_iter().map(|(row, late)| (row, (stamp, late))));
        }
    }

    pub fn cut(&mut self, split: usize) {
        self.close(split);
        let split = &mut self.splits[split];
        split.next = split.next.max(split.largest.map_or(0, |largest| largest + 1));
    }

    pub fn tick(&mut self, now: i64) {
        let Some(timeout) = self.config.idle_timeout else { return };
        for split in 0..self.splits.len() {
            let Split { resting, announced, .. } = self.splits[split];
            if !resting && !announced && now - self.splits[split].spoke > timeout.as_micros() as i64 {
                self.cut(split);
                self.splits[split].resting = true;
            }
        }
    }
}
