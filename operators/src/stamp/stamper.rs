//! Stamping of a table: its splits and its frontier.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use crate::stamp::split::{Rest, Rules, Split};
use crate::stamp::{
    Arrival, Counts, CutBy, Cuts, Rejected, SplitCuts, SplitState, StampConfig, Stamped, StamperState, Standing,
};
use crate::time::{SINCE_EVER, STREAM_START, Time, from_micros};
use crate::updates::{Payload, Updates};

/// Batches smaller than this are joined with their neighbours before they are given out.
const SMALL_BATCH: usize = 4096;

/// Stamps a table with an event-time column; see the [module](crate::stamp) for the rule.
///
/// It knows no threads and no dataflow: one thread pushes rows, ends rounds, and drains what is stamped. Times `now` are
/// microseconds since the UTC epoch, from one [`crate::clock::Clock`]. A call costs what it concerns, however many splits
/// there are or have been.
///
/// ```
/// use headwater_operators::stamp::{Arrival, Changes, StampConfig, Stamper};
/// use headwater_operators::time::to_micros;
///
/// let mut stamper = Stamper::new(StampConfig { resolution: 10, ..StampConfig::new(100).by_round() });
/// let split = stamper.add_split("clicks-0", 0, None);
/// let times = [1_000, 950, 1_005, 800];
/// let data: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
/// stamper.push(split, Arrival { data, event_times: &times, diffs: None, changes: Changes::Each, offset: 4 }, 0);
/// stamper.close_round();
///
/// let stamped = stamper.drain();
/// let on_time: Vec<_> = stamped.on_time.iter().flat_map(|batch| &batch.data).collect();
/// assert_eq!(on_time, ["a", "b", "c"]); // "b" is out of order, not late
/// assert_eq!(stamped.late[0].data, ["d"]);
/// assert!(stamped.on_time[0].times.iter().all(|&t| to_micros(t) == 1_005));
/// assert_eq!(stamped.frontier.map(to_micros), Some(1_006));
/// ```
pub struct Stamper<D> {
    config: StampConfig,
    rules: Rules,
    splits: Vec<Member<D>>,
    /// The number of each split by its name.
    numbers: HashMap<Arc<str>, u32>,
    rejected: Vec<Rejected<D>>,
    counts: Counts,
    closed: bool,
    /// The splits that hold the frontier back, by how far they are: as lateness sees it, and as stamps do.
    highs: BTreeSet<(Time, u32)>,
    bounds: BTreeSet<(Time, u32)>,
    /// The furthest that any split has ever been, likewise, just past its stamps.
    top: (Time, Time),
    largest: Option<Time>,
    /// The frontier given out last.
    shown: Time,
    /// Splits with rows that are not given out.
    waiting: BTreeSet<u32>,
    /// Splits that have spoken since they were cut.
    uncut: BTreeSet<u32>,
    /// Splits with something to record.
    recorded: BTreeSet<u32>,
    /// Active splits by the last time at which each was known to speak, one entry each, the longest ago first.
    watched: BinaryHeap<Reverse<(i64, u32)>>,
}

/// A split as a member of its table.
struct Member<D> {
    name: Arc<str>,
    split: Body<D>,
    standing: Standing,
    /// When it last spoke, us since the UTC epoch.
    spoke: i64,
    /// Its places in `highs` and `bounds`.
    held: Option<(Time, Time)>,
    /// Whether it has an entry in `watched`.
    watched: bool,
}

/// Of the many splits that have ended there is only a little to keep.
enum Body<D> {
    Whole(Box<Split<D>>),
    Rest(Rest),
}

impl<D: Payload> Body<D> {
    fn new(split: Split<D>) -> Self {
        Body::Whole(Box::new(split))
    }

    /// The whole split, built up again where it rests.
    fn whole(&mut self) -> &mut Split<D> {
        if let Body::Rest(rest) = self {
            *self = Body::new(Split::from_rest(*rest));
        }
        match self {
            Body::Whole(split) => split,
            Body::Rest(_) => unreachable!("it was made whole"),
        }
    }

    fn get(&self) -> Option<&Split<D>> {
        match self {
            Body::Whole(split) => Some(split),
            Body::Rest(_) => None,
        }
    }

    fn is_replaying(&self) -> bool {
        self.get().is_some_and(Split::is_replaying)
    }
}

impl<D: Payload> Stamper<D> {
    /// A table without splits.
    pub fn new(config: StampConfig) -> Self {
        let rules = Rules {
            delay: config.delay,
            resolution: config.resolution.max(1),
            max_ahead: config.max_ahead,
            record: config.record,
        };
        let config = StampConfig { resolution: rules.resolution, ..config };
        Stamper {
            config,
            rules,
            splits: Vec::new(),
            numbers: HashMap::new(),
            rejected: Vec::new(),
            counts: Counts::default(),
            closed: false,
            highs: BTreeSet::new(),
            bounds: BTreeSet::new(),
            top: (SINCE_EVER, STREAM_START),
            largest: None,
            shown: STREAM_START,
            waiting: BTreeSet::new(),
            uncut: BTreeSet::new(),
            recorded: BTreeSet::new(),
            watched: BinaryHeap::new(),
        }
    }

    /// A table whose splits are read again: as far as `cuts` reach they are stamped as they were, however the rows
    /// are batched now; after that stamping goes on by `config`.
    ///
    /// The recorded splits hold the frontier back until they are pushed or ended; [`Stamper::add_split`] finds them
    /// by name. Each must deliver its rows from its beginning.
    pub fn replay(config: StampConfig, cuts: Cuts) -> Self {
        let mut stamper = Stamper::new(config);
        stamper.go_by(cuts);
        stamper
    }

    /// A table that goes on from what [`Stamper::state`] gave: first by `cuts` as far as they reach, which may begin at the
    /// state or before it, then by `config`.
    ///
    /// Each split must deliver its rows from where the state says that it is. An error says what is wrong with the state.
    pub fn resume(config: StampConfig, state: StamperState, cuts: Cuts, now: i64) -> Result<Self, String> {
        let mut stamper = Stamper::new(config);
        stamper.counts = state.counts;
        for split in state.splits {
            let (name, standing) = (split.name.clone(), split.standing);
            let number = stamper.enter(&name, Split::restored(split)?, standing, now);
            stamper.refresh(number);
        }
        stamper.shown = stamper.frontier();
        stamper.go_by(cuts);
        Ok(stamper)
    }

    fn go_by(&mut self, cuts: Cuts) {
        for cuts in cuts {
            let number = match self.numbers.get(&*cuts.split) {
                Some(number) => *number,
                None => self.enter(&cuts.split, Split::new(), Standing::Active, 0),
            };
            let member = &mut self.splits[number as usize];
            member.split.whole().replay(cuts);
            if member.split.is_replaying() {
                // What it will say by the record has its place, also where it was silent before.
                member.standing = Standing::Active;
            }
            self.refresh(number);
        }
    }

    /// What there is to save. All that is stamped must have been drained; none while a record is being gone by.
    pub fn state(&self) -> Option<StamperState> {
        let mut splits = Vec::with_capacity(self.splits.len());
        for Member { name, split, standing, .. } in &self.splits {
            let (rest, open) = match split {
                Body::Rest(rest) => (*rest, None),
                Body::Whole(split) if split.is_replaying() => return None,
                Body::Whole(split) => (split.here(), split.open_segment()),
            };
            let Rest { high, next, largest, rows, offset } = rest;
            let (name, standing) = (name.to_string(), *standing);
            splits.push(SplitState { name, high, next, largest, rows, offset, standing, open });
        }
        Some(StamperState { splits, counts: self.counts })
    }

    /// The configuration.
    pub fn config(&self) -> &StampConfig {
        &self.config
    }

    /// Adds a split by its stable name and returns its number; splits are numbered from 0. It begins at the table's
    /// frontier. A name that is known gives the number of that split.
    ///
    /// With `begins`, the event time of its first row in us since the UTC epoch, the split is announced: until it speaks it
    /// holds the table's frontier at that time (or where [`Stamper::drain`] has shown it, if that is further), without ever
    /// being taken for idle, and its stamps are not before. Whether its rows are late does not depend on it. So splits that
    /// are found together are announced in any order, and then drained.
    pub fn add_split(&mut self, name: &str, now: i64, begins: Option<i64>) -> u32 {
        if let Some(&known) = self.numbers.get(name) {
            self.splits[known as usize].spoke = now;
            return known;
        }
        let (high, next) = self.level();
        let limit = self.rules.max_ahead.map_or(Time::MAX, |ahead| from_micros(now).saturating_add(ahead));
        // A first row too far ahead will be rejected.
        let begin = begins.map(from_micros).filter(|begin| *begin <= limit).unwrap_or(SINCE_EVER);
        let (standing, next) = match begins {
            Some(_) => (Standing::Announced, begin.max(self.shown)),
            None => (Standing::Active, next),
        };
        let mut split = Split::new();
        split.raise(&self.rules, high, next);
        let number = self.enter(name, split, standing, now);
        self.refresh(number);
        number
    }

    fn enter(&mut self, name: &str, split: Split<D>, standing: Standing, now: i64) -> u32 {
        let number = self.splits.len() as u32;
        let name: Arc<str> = name.into();
        self.numbers.insert(name.clone(), number);
        let split = Body::new(split);
        self.splits.push(Member { name, split, standing, spoke: now, held: None, watched: false });
        number
    }

    /// Notes what has become of a split. Whatever changes one calls it.
    fn refresh(&mut self, number: u32) {
        let member = &mut self.splits[number as usize];
        let split = member.split.whole();
        let (high, bound) = (split.high, split.bound());
        self.top = (self.top.0.max(high), self.top.1.max(bound).max(split.past_largest()));
        self.largest = self.largest.max(split.largest);
        let holds = matches!(member.standing, Standing::Active | Standing::Announced);
        let held = holds.then_some((high, bound));
        if held != member.held {
            if let Some((high, bound)) = member.held {
                self.highs.remove(&(high, number));
                self.bounds.remove(&(bound, number));
            }
            if let Some((high, bound)) = held {
                self.highs.insert((high, number));
                self.bounds.insert((bound, number));
            }
            member.held = held;
        }
        if split.is_waiting() {
            self.waiting.insert(number);
        }
        if split.is_uncut() {
            self.uncut.insert(number);
        }
        if self.rules.record {
            self.recorded.insert(number);
        }
        if member.standing == Standing::Active && !member.watched && self.config.idle_timeout.is_some() {
            member.watched = true;
            self.watched.push(Reverse((member.spoke, number)));
        }
        self.settle(number);
    }

    /// Keeps only a little of a split that has ended, once it has given everything out.
    fn settle(&mut self, number: u32) {
        let member = &mut self.splits[number as usize];
        if member.standing == Standing::Ended
            && !self.recorded.contains(&number)
            && let Some(rest) = member.split.get().and_then(Split::rest)
        {
            member.split = Body::Rest(rest);
        }
    }

    /// How many splits there have been.
    pub fn splits(&self) -> usize {
        self.splits.len()
    }

    /// Takes rows of a split. Rows are stamped at once, or when their segment closes.
    ///
    /// # Panics
    /// When `split` is not a number that [`Stamper::add_split`] gave.
    pub fn push(&mut self, split: u32, arrival: Arrival<'_, D>, now: i64) {
        let rows = arrival.event_times.len();
        if rows == 0 {
            return;
        }
        let level = self.level();
        let member = &mut self.splits[split as usize];
        member.spoke = now;
        let rested = matches!(member.standing, Standing::Idle | Standing::Ended);
        member.standing = Standing::Active;
        let body = member.split.whole();
        if rested && !body.is_replaying() {
            body.raise(&self.rules, level.0, level.1);
        }
        let (late, rejected) = body.push(&self.rules, arrival, now);
        self.counts.rows += rows as u64;
        self.counts.late += late;
        if let Some(rejected) = rejected {
            self.counts.rejected += rejected.diffs.len() as u64;
            self.rejected.push(Rejected { split, ..rejected });
        }
        self.refresh(split);
    }

    /// Says that a split has no more rows.
    ///
    /// # Panics
    /// When `split` is not a number that [`Stamper::add_split`] gave.
    pub fn end_split(&mut self, split: u32) {
        let member = &mut self.splits[split as usize];
        if member.standing == Standing::Ended {
            return;
        }
        member.split.whole().cut(&self.rules);
        member.standing = Standing::Ended;
        self.refresh(split);
    }

    /// Ends all splits and the table: the next [`Stamper::drain`] has no frontier.
    pub fn close(&mut self) {
        (0..self.splits.len() as u32).for_each(|split| self.end_split(split));
        self.closed = true;
    }

    /// Ends a round: with [`CutBy::Round`] all rows pushed so far are stamped.
    pub fn close_round(&mut self) {
        if self.config.cut == CutBy::Round {
            self.cut();
        }
    }

    /// Cuts now, whatever the configuration: all rows pushed so far are stamped.
    pub fn cut(&mut self) {
        for number in std::mem::take(&mut self.uncut) {
            let body = &mut self.splits[number as usize].split;
            if body.is_replaying() {
                self.uncut.insert(number);
            } else {
                body.whole().cut(&self.rules);
                self.refresh(number);
            }
        }
    }

    /// Looks for splits that have been silent for longer than the idle timeout.
    pub fn tick(&mut self, now: i64) {
        let Some(timeout) = self.config.idle_timeout else { return };
        let timeout = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
        let mut stay = Vec::new();
        while let Some(&Reverse((spoke, number))) = self.watched.peek()
            && now.saturating_sub(spoke) > timeout
        {
            self.watched.pop();
            let member = &mut self.splits[number as usize];
            if member.standing != Standing::Active {
                member.watched = false;
            } else if now.saturating_sub(member.spoke) <= timeout {
                self.watched.push(Reverse((member.spoke, number)));
            } else if member.split.is_replaying() {
                stay.push(Reverse((spoke, number)));
            } else {
                member.split.whole().cut(&self.rules);
                member.standing = Standing::Idle;
                member.watched = false;
                self.refresh(number);
            }
        }
        self.watched.extend(stay);
    }

    /// Gives out what is stamped, and the frontier.
    pub fn drain(&mut self) -> Stamped<D> {
        let (mut on_time, mut late) = (Vec::new(), Vec::new());
        for number in std::mem::take(&mut self.waiting) {
            let split = self.splits[number as usize].split.whole();
            split.take(&mut on_time, &mut late);
            if split.is_waiting() {
                self.waiting.insert(number);
            }
            self.settle(number);
        }
        self.shown = self.frontier();
        Stamped {
            on_time: join_small(on_time),
            late: join_small(late),
            rejected: std::mem::take(&mut self.rejected),
            frontier: (!self.closed).then_some(self.shown),
        }
    }

    /// The table's frontier: all later stamps are at least this. Just past the largest stamp when all splits are
    /// idle or ended, also after [`Stamper::close`].
    pub fn frontier(&self) -> Time {
        self.level().1
    }

    /// The largest stamp so far: the time of the answer of a finished run.
    pub fn largest(&self) -> Option<Time> {
        self.largest
    }

    /// How many rows wait for their segment to close, or for [`Stamper::drain`].
    pub fn waiting(&self) -> usize {
        let splits = self.waiting.iter().filter_map(|&number| self.splits[number as usize].split.get());
        splits.map(Split::waiting).sum()
    }

    /// How many rows came, how many were late or rejected.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was recorded since the last call; [`Cuts::append`] puts the pieces together. Empty unless
    /// [`StampConfig::record`] is set.
    pub fn take_cuts(&mut self) -> Cuts {
        let numbers = std::mem::take(&mut self.recorded);
        let mut cuts = Vec::with_capacity(numbers.len());
        for number in numbers {
            let member = &mut self.splits[number as usize];
            cuts.push(SplitCuts { split: member.name.to_string(), ..member.split.whole().take_record() });
            self.settle(number);
        }
        cuts.into()
    }

    /// The table's frontier, as lateness and as stamps see it.
    fn level(&self) -> (Time, Time) {
        match (self.highs.first(), self.bounds.first()) {
            (Some((high, _)), Some((next, _))) => (*high, *next),
            _ => self.top,
        }
    }
}

/// Joins runs of small batches, so that many small pushes do not become many messages.
fn join_small<D: Payload>(batches: Vec<Updates<D>>) -> Vec<Updates<D>> {
    if batches.len() < 2 {
        return batches;
    }
    let mut joined = Vec::new();
    let mut run: Vec<Updates<D>> = Vec::new();
    let mut rows = 0;
    let mut flush = |run: &mut Vec<Updates<D>>| match run.len() {
        0 => {}
        1 => joined.append(run),
        _ => {
            joined.push(Updates::concat(&run.iter().collect::<Vec<_>>()));
            run.clear();
        }
    };
    for batch in batches {
        if rows >= SMALL_BATCH || batch.len() >= SMALL_BATCH {
            flush(&mut run);
            rows = 0;
        }
        rows += batch.len();
        run.push(batch);
    }
    flush(&mut run);
    joined
}
