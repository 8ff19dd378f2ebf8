//! Stamping of tables without an event-time column: they follow the session, or the clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::stamp::cuts::Replay;
use crate::stamp::{Counts, Cut, CutLog, Cuts, FollowerSplit, FollowerState, SplitCuts, Stamped};
use crate::time::{STREAM_START, Time, from_micros};
use crate::updates::{Payload, Updates};

/// A session's largest event-time frontier, shared by its tables. Clones are one.
///
/// ```
/// use headwater_operators::stamp::SessionTime;
/// let session = SessionTime::default();
/// session.raise(7);
/// session.raise(3);
/// assert_eq!(session.get(), 7);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionTime {
    largest: Arc<AtomicU64>,
}

impl SessionTime {
    /// Reports the frontier of a table with event time.
    pub fn raise(&self, frontier: Time) {
        self.largest.fetch_max(frontier, Ordering::SeqCst);
    }

    /// The largest frontier reported; [`SINCE_EVER`](crate::time::SINCE_EVER) before there is one.
    pub fn get(&self) -> Time {
        self.largest.load(Ordering::SeqCst)
    }
}

/// What a table without event time goes by.
#[derive(Clone)]
pub enum Follow {
    /// The session's largest event-time frontier.
    Session(SessionTime),
    /// The wall clock (`time = 'clock'`).
    Clock(Arc<dyn Clock>),
}

impl Follow {
    fn now(&self) -> Time {
        match self {
            Follow::Session(session) => session.get(),
            Follow::Clock(clock) => from_micros(clock.now_micros()),
        }
    }
}

/// Stamps a table that has no event-time column.
///
/// The rows of a round, which are whole changes, are stamped when the round closes: with the session's largest
/// event-time frontier (or the clock), and always later than the round before. So a dimension row inserted while 2013
/// is replayed is there in 2013. The frontier moves with the session's: such a table never holds others back. It has
/// no late and no rejected rows.
///
/// ```
/// use headwater_operators::stamp::{Follow, Follower, SessionTime};
/// let session = SessionTime::default();
/// let mut follower = Follower::new(Follow::Session(session.clone()), false);
/// let split = follower.add_split("airlines");
/// session.raise(1_000);
/// follower.push(split, vec!["AA".to_string()], vec![1], 1);
/// follower.close_round();
/// let stamped = follower.drain();
/// assert_eq!(stamped.on_time[0].times, [1_000]);
/// assert_eq!(stamped.frontier, Some(1_001));
/// ```
pub struct Follower<D> {
    follow: Follow,
    record: bool,
    splits: Vec<Split<D>>,
    /// The number of each split by its name.
    numbers: HashMap<Arc<str>, u32>,
    /// Splits with rows in the open round.
    waiting: BTreeSet<u32>,
    /// Splits that go by a record.
    replaying: BTreeSet<u32>,
    /// Splits with something to record.
    recorded: BTreeSet<u32>,
    done: Vec<Updates<D>>,
    /// All later stamps are at least this.
    next: Time,
    largest: Option<Time>,
    counts: Counts,
    closed: bool,
}

struct Split<D> {
    name: Arc<str>,
    /// Rows of the open round.
    pending: Vec<(D, Vec<i64>)>,
    rows: u64,
    offset: u64,
    cuts: CutLog,
    /// None where nothing is left to be replayed.
    replay: Option<Box<Replay>>,
    ended: bool,
}

impl<D> Split<D> {
    /// The cut to be made again next.
    fn recorded(&self) -> Option<&Cut> {
        self.replay.as_ref()?.front()
    }
}

impl<D: Payload> Follower<D> {
    /// A table without splits. `record` says whether cuts are recorded, for [`Follower::take_cuts`].
    pub fn new(follow: Follow, record: bool) -> Self {
        Follower {
            follow,
            record,
            splits: Vec::new(),
            numbers: HashMap::new(),
            waiting: BTreeSet::new(),
            replaying: BTreeSet::new(),
            recorded: BTreeSet::new(),
            done: Vec::new(),
            next: STREAM_START,
            largest: None,
            counts: Counts::default(),
            closed: false,
        }
    }

    /// A table whose splits are read again: as far as `cuts` reach, rows are stamped as they were.
    pub fn replay(follow: Follow, record: bool, cuts: Cuts) -> Self {
        Follower::resume(follow, record, FollowerState::default(), cuts)
    }

    /// A table that goes on from what [`Follower::state`] gave, first by `cuts` as far as they reach. Each split must
    /// deliver its rows from where the state says that it is.
    pub fn resume(follow: Follow, record: bool, state: FollowerState, cuts: Cuts) -> Self {
        let mut follower = Follower::new(follow, record);
        let FollowerState { splits, next, largest, counts } = state;
        (follower.next, follower.largest, follower.counts) = (next.max(STREAM_START), largest, counts);
        for FollowerSplit { name, rows, offset, ended } in splits {
            let number = follower.add_split(&name);
            let split = &mut follower.splits[number as usize];
            (split.rows, split.offset, split.ended) = (rows, offset, ended);
        }
        for mut cuts in cuts {
            let number = follower.add_split(&cuts.split);
            let split = &mut follower.splits[number as usize];
            // A cut at the very place stamps nothing any more.
            cuts.cuts.truncate(split.rows.saturating_add(1));
            if !cuts.cuts.is_empty() {
                split.replay = Some(Box::new(Replay::new(cuts.cuts)));
                follower.replaying.insert(number);
            }
        }
        follower
    }

    /// What there is to save, after a round was closed and drained; none while a record is being gone by.
    pub fn state(&self) -> Option<FollowerState> {
        let splits = self.splits.iter().map(|split| {
            let Split { rows, offset, ended, .. } = *split;
            FollowerSplit { name: split.name.to_string(), rows, offset, ended }
        });
        let (next, largest, counts) = (self.next, self.largest, self.counts);
        self.replaying.is_empty().then(|| FollowerState { splits: splits.collect(), next, largest, counts })
    }

    /// Adds a split by its stable name and returns its number; splits are numbered from 0. A name that is known gives
    /// the number of that split.
    pub fn add_split(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.numbers.get(name) {
            return known;
        }
        let number = self.splits.len() as u32;
        let name: Arc<str> = name.into();
        self.numbers.insert(name.clone(), number);
        let (pending, cuts) = (Vec::new(), CutLog::default());
        self.splits.push(Split { name, pending, rows: 0, offset: 0, cuts, replay: None, ended: false });
        number
    }

    /// Takes rows of a split, whole changes, with a diff each; `offset` is the source's position after them.
    ///
    /// # Panics
    /// When `split` is not a number that [`Follower::add_split`] gave.
    pub fn push(&mut self, split: u32, data: D, diffs: Vec<i64>, offset: u64) {
        let number = split;
        let split = &mut self.splits[number as usize];
        let len = diffs.len();
        debug_assert_eq!(data.len(), len);
        self.counts.rows += len as u64;
        let mut at = 0;
        // Rows before a recorded cut were stamped by it.
        while at < len
            && let Some(replay) = &mut split.replay
            && let Some(cut) = replay.front().cloned()
        {
            let stop = len.min(at + cut.rows.saturating_sub(split.rows) as usize);
            let stamp = cut.stamp.unwrap_or(cut.frontier);
            if stop > at {
                let times = vec![stamp; stop - at];
                self.done.push(Updates { data: data.slice(at..stop), times, diffs: diffs[at..stop].to_vec() });
                self.largest = self.largest.max(Some(stamp));
            }
            split.rows += (stop - at) as u64;
            at = stop;
            if split.rows >= cut.rows {
                self.next = self.next.max(cut.next);
                replay.pop();
            }
        }
        if split.replay.is_some() && split.recorded().is_none() {
            split.replay = None;
            self.replaying.remove(&number);
        }
        split.offset = offset;
        if at < len {
            split.rows += (len - at) as u64;
            split.pending.push(if at == 0 { (data, diffs) } else { (data.slice(at..len), diffs[at..].to_vec()) });
            self.waiting.insert(number);
        }
        if self.record {
            self.recorded.insert(number);
        }
    }

    /// Says that a split has no more rows.
    ///
    /// # Panics
    /// When `split` is not a number that [`Follower::add_split`] gave.
    pub fn end_split(&mut self, split: u32) {
        self.replaying.remove(&split);
        let split = &mut self.splits[split as usize];
        split.replay = None;
        split.ended = true;
    }

    /// Ends the open round and the table: the next [`Follower::drain`] has no frontier.
    pub fn close(&mut self) {
        (0..self.splits.len() as u32).for_each(|split| self.end_split(split));
        self.close_round();
        self.closed = true;
    }

    /// Ends a round: all rows pushed so far are stamped.
    pub fn close_round(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let stamp = self.frontier_of_new();
        for number in std::mem::take(&mut self.waiting) {
            let split = &mut self.splits[number as usize];
            for (data, diffs) in std::mem::take(&mut split.pending) {
                self.done.push(Updates { data, times: vec![stamp; diffs.len()], diffs });
            }
            if self.record {
                let (rows, offset, next) = (split.rows, split.offset, stamp.saturating_add(1));
                split.cuts.push(Cut { rows, offset, stamp: Some(stamp), frontier: stamp, next });
                self.recorded.insert(number);
            }
        }
        self.next = stamp.saturating_add(1);
        self.largest = self.largest.max(Some(stamp));
    }

    /// Gives out what is stamped, and the frontier, which is the session's where that is further.
    pub fn drain(&mut self) -> Stamped<D> {
        let frontier = self.frontier();
        Stamped {
            on_time: std::mem::take(&mut self.done),
            late: Vec::new(),
            rejected: Vec::new(),
            frontier: (!self.closed).then_some(frontier),
        }
    }

    /// The table's frontier: all later stamps are at least this.
    pub fn frontier(&mut self) -> Time {
        let recorded = self.replaying.iter().filter_map(|&number| self.splits[number as usize].recorded());
        match recorded.map(|cut| cut.stamp.unwrap_or(cut.frontier)).min() {
            Some(recorded) => recorded,
            None => {
                self.next = self.frontier_of_new();
                self.next
            }
        }
    }

    /// The largest stamp so far.
    pub fn largest(&self) -> Option<Time> {
        self.largest
    }

    /// How many rows came so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was recorded since the last call; [`Cuts::append`] puts the pieces together.
    pub fn take_cuts(&mut self) -> Cuts {
        let numbers = std::mem::take(&mut self.recorded).into_iter();
        let splits = numbers.map(|number| {
            let split = &mut self.splits[number as usize];
            let (name, rows) = (split.name.to_string(), split.rows);
            SplitCuts { split: name, rows, cuts: std::mem::take(&mut split.cuts), ahead: Vec::new() }
        });
        splits.collect()
    }

    fn frontier_of_new(&self) -> Time {
        self.next.max(self.follow.now())
    }
}
