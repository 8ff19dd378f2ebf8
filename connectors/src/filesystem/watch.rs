//! When to look for new files, and which of the known ones to ask whether they have changed.
//!
//! Thousands of files are followed at next to no cost: a folder whose time of modification stands still has no new files, and
//! of the files a bounded share is asked in each tick, one after another. Those that have grown lately are asked in every one.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How often followed files are asked for their length.
const TICK: Duration = Duration::from_millis(100);
/// For how long a file that has grown is asked in every tick, and kept open.
const ACTIVE: Duration = Duration::from_secs(30);
/// How many files are asked in a tick besides, at least; and at most one in so many.
const SHARE: usize = 100;
const ONE_IN: usize = 200;
/// How long a folder's time of modification must have stood still to be believed: it moves in steps.
const STEADY: Duration = Duration::from_secs(1);
/// Looking for changes takes at most one part in so many of the time, however many files there are.
const PART: u32 = 10;
/// The most files that are asked in every tick.
const MOST_ACTIVE: usize = 4096;
/// How often the folder is listed all the same.
const LIST_ALWAYS: Duration = Duration::from_secs(60);

/// When was looked for what.
pub(crate) struct Watch {
    monitor: Duration,
    folder: Option<PathBuf>,
    /// The last time that there was reason to list, and the last time that it was done.
    looked: Option<Instant>,
    listed: Option<Instant>,
    /// How often was listed.
    listing: u64,
    /// The folder's time of modification, and when it was first seen.
    modified: Option<(SystemTime, Instant)>,
    /// Whether to list as soon as can be, and whether to list when it is time whatever the folder says.
    soon: bool,
    surely: bool,
    checked: Option<Instant>,
    /// How long the last listing took, and the last asking.
    listing_took: Duration,
    asking_took: Duration,
    /// Files that grow, the latest last.
    active: VecDeque<usize>,
    /// Where the share of the next tick begins.
    cursor: usize,
}

impl Watch {
    pub(crate) fn new(monitor: Duration, folder: Option<PathBuf>) -> Watch {
        Watch {
            monitor,
            folder,
            looked: None,
            listed: None,
            listing: 0,
            modified: None,
            soon: false,
            surely: false,
            checked: None,
            listing_took: Duration::ZERO,
            asking_took: Duration::ZERO,
            active: VecDeque::new(),
            cursor: 0,
        }
    }

    /// How long there may be nothing to do.
    pub(crate) fn tick(&self) -> Duration {
        TICK.min(self.monitor)
    }

    /// How long a file may be in no listing before it is taken for gone: a listing can miss one that is being renamed.
    pub(crate) fn grace(&self) -> Duration {
        self.monitor
    }

    pub(crate) fn has_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// The number of the listing under way.
    pub(crate) fn listing(&self) -> u64 {
        self.listing
    }

    /// There is reason to list.
    pub(crate) fn list_soon(&mut self) {
        self.soon = true;
    }

    /// There is reason to list again when it is time, though the folder may not have changed.
    pub(crate) fn list_again(&mut self) {
        self.surely = true;
    }

    /// Whether it is time to list.
    pub(crate) fn is_list_due(&mut self, now: Instant) -> bool {
        let Some(listed) = self.listed else {
            self.note_folder(now);
            return true;
        };
        let passed = |since: Option<Instant>, interval| since.is_none_or(|since| now.duration_since(since) >= interval);
        if self.soon && passed(self.looked, self.tick().max(self.listing_took * PART)) {
            self.note_folder(now);
            return true;
        }
        if !passed(self.looked, self.monitor.max(self.listing_took * PART)) {
            return false;
        }
        self.looked = Some(now);
        let before = self.modified;
        self.note_folder(now);
        // Unchanged since well before the last listing, there is nothing new in it.
        let steady = before.is_some_and(|(_, first)| listed.duration_since(first) >= STEADY) && self.modified == before;
        !steady || self.surely || now.duration_since(listed) >= LIST_ALWAYS
    }

    fn note_folder(&mut self, now: Instant) {
        let modified = self.folder.as_ref().and_then(|folder| std::fs::metadata(folder).ok()?.modified().ok());
        self.modified = modified.map(|modified| match self.modified {
            Some((before, first)) if before == modified => (modified, first),
            _ => (modified, now),
        });
    }

    /// A listing begins.
    pub(crate) fn begin_listing(&mut self) {
        self.listing += 1;
        (self.soon, self.surely) = (false, false);
    }

    /// A listing that began at `now` is done.
    pub(crate) fn listed(&mut self, now: Instant) {
        (self.listed, self.looked, self.listing_took) = (Some(now), Some(now), now.elapsed());
    }

    /// Whether it is time to ask files.
    pub(crate) fn is_check_due(&self, now: Instant) -> bool {
        let interval = self.tick().max(self.asking_took * PART);
        self.checked.is_none_or(|checked| now.duration_since(checked) >= interval)
    }

    /// Asking files, begun at `now`, is done.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.asking_took = now.elapsed();
    }

    /// A file has grown, or is new: until when it counts as one that grows.
    pub(crate) fn activate(&mut self, file: usize, now: Instant) -> Instant {
        self.active.push_back(file);
        now + ACTIVE
    }

    /// The files to be asked now: those that grow, and a share of all. `until` tells until when a file counts as one that
    /// grows, `close` is called for those that need not be open any more.
    pub(crate) fn ask<T>(
        &mut self,
        files: &mut BTreeMap<usize, T>,
        now: Instant,
        until: impl Fn(&mut T) -> &mut Option<Instant>,
        mut close: impl FnMut(&mut T),
    ) -> Vec<usize> {
        self.checked = Some(now);
        let mut listed: VecDeque<usize> = VecDeque::with_capacity(self.active.len());
        // A file that has grown again is in the list twice; its last place counts.
        let mut seen = std::collections::HashSet::new();
        for id in self.active.drain(..).rev() {
            let Some(file) = files.get_mut(&id).filter(|_| seen.insert(id)) else { continue };
            if until(file).is_none_or(|until| now >= until) {
                *until(file) = None;
                close(file);
                continue;
            }
            if listed.len() < MOST_ACTIVE {
                listed.push_front(id);
            }
        }
        self.active = listed;
        let mut ask: Vec<usize> = self.active.iter().copied().collect();
        let share = SHARE.max(files.len() / ONE_IN).min(files.len());
        let from = self.cursor;
        let ring = files.range(from..).chain(files.range(..from)).map(|(id, _)| *id);
        let ring: Vec<usize> = ring.take(share).collect();
        self.cursor = ring.last().map_or(0, |last| last + 1);
        ask.extend(ring.into_iter().filter(|id| !seen.contains(id)));
        ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_in_turn_and_those_that_grow_always() {
        let mut files: BTreeMap<usize, Option<Instant>> = (0..1000).map(|id| (id, None)).collect();
        let mut watch = Watch::new(Duration::from_secs(1), None);
        let start = Instant::now();
        let until = watch.activate(777, start);
        files.insert(777, Some(until));
        let mut times = vec![0; 1000];
        for tick in 0..20 {
            let ask = watch.ask(&mut files, start + TICK * tick, |file| file, |_| {});
            assert!(ask.len() <= SHARE + 1, "a bounded share");
            ask.into_iter().for_each(|id| times[id] += 1);
        }
        assert_eq!(times[777], 20);
        assert!(times.iter().enumerate().all(|(id, times)| id == 777 || *times == 2), "each once in ten ticks");

        let mut closed = Vec::new();
        watch.ask(&mut files, until, |file| file, |file| closed.push(file.is_none()));
        assert_eq!(closed, [true], "it has not grown for long");
    }
}
