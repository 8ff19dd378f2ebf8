//! Stamping of a table: its splits and its frontier.

use crate::stamp::split::{Rules, Split};
use crate::stamp::{Arrival, Counts, CutBy, Cuts, Rejected, StampConfig, Stamped};
use crate::time::{SINCE_EVER, Time};
use crate::updates::{Payload, Updates};

/// Batches smaller than this are joined with their neighbours before they are given out.
const SMALL_BATCH: usize = 4096;

/// Stamps a table with an event-time column; see the [module](crate::stamp) for the rule.
///
/// It knows no threads and no dataflow: one thread pushes rows, ends rounds, and drains what is stamped. Times `now` are
/// microseconds since the UTC epoch, from one [`crate::clock::Clock`].
///
/// ```
/// use headwater_operators::stamp::{Arrival, Changes, StampConfig, Stamper};
/// use headwater_operators::time::to_micros;
///
/// let mut stamper = Stamper::new(StampConfig { resolution: 10, ..StampConfig::new(100).by_round() });
/// let split = stamper.add_split("clicks-0", 0);
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
    rejected: Vec<Rejected<D>>,
    counts: Counts,
    closed: bool,
}

/// A split as a member of its table.
struct Member<D> {
    split: Split<D>,
    state: State,
    /// When it last spoke, us since the UTC epoch.
    spoke: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Idle,
    Ended,
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
        Stamper { config, rules, splits: Vec::new(), rejected: Vec::new(), counts: Counts::default(), closed: false }
    }

    /// A table whose splits are read again: as far as `cuts` reach they are stamped as they were, however the rows
    /// are batched now; after that stamping goes on by `config`.
    ///
    /// The recorded splits hold the frontier back until they are pushed or ended; [`Stamper::add_split`] finds them
    /// by name. Each must deliver its rows from its beginning.
    pub fn replay(config: StampConfig, cuts: Cuts) -> Self {
        let mut stamper = Stamper::new(config);
        for split in cuts.splits {
            let split = Split::replaying(split);
            stamper.splits.push(Member { split, state: State::Active, spoke: 0 });
        }
        stamper
    }

    /// The configuration.
    pub fn config(&self) -> &StampConfig {
        &self.config
    }

    /// Adds a split by its stable name and returns its number; splits are numbered from 0. It begins at the table's
    /// frontier. A name that is known gives the number of that split.
    pub fn add_split(&mut self, name: &str, now: i64) -> u32 {
        if let Some(known) = self.splits.iter().position(|member| member.split.name == name) {
            self.splits[known].spoke = now;
            return known as u32;
        }
        let (high, next) = self.level();
        let mut split = Split::new(name.to_string());
        split.raise(&self.rules, high, next);
        self.splits.push(Member { split, state: State::Active, spoke: now });
        self.splits.len() as u32 - 1
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
        if member.state != State::Active {
            member.state = State::Active;
            if !member.split.is_replaying() {
                member.split.raise(&self.rules, level.0, level.1);
            }
        }
        let (late, rejected) = member.split.push(&self.rules, arrival, now);
        self.counts.rows += rows as u64;
        self.counts.late += late;
        if let Some(rejected) = rejected {
            self.counts.rejected += rejected.diffs.len() as u64;
            self.rejected.push(Rejected { split, ..rejected });
        }
    }

    /// Says that a split has no more rows.
    ///
    /// # Panics
    /// When `split` is not a number that [`Stamper::add_split`] gave.
    pub fn end_split(&mut self, split: u32) {
        let member = &mut self.splits[split as usize];
        member.split.cut(&self.rules);
        member.state = State::Ended;
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
        for member in self.splits.iter_mut().filter(|member| !member.split.is_replaying()) {
            member.split.cut(&self.rules);
        }
    }

    /// Looks for splits that have been silent for longer than the idle timeout.
    pub fn tick(&mut self, now: i64) {
        let Some(timeout) = self.config.idle_timeout else { return };
        let timeout = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
        for member in self.splits.iter_mut().filter(|member| member.state == State::Active) {
            if now.saturating_sub(member.spoke) > timeout && !member.split.is_replaying() {
                member.split.cut(&self.rules);
                member.state = State::Idle;
            }
        }
    }

    /// Gives out what is stamped, and the frontier.
    pub fn drain(&mut self) -> Stamped<D> {
        let (mut on_time, mut late) = (Vec::new(), Vec::new());
        self.splits.iter_mut().for_each(|member| member.split.take(&mut on_time, &mut late));
        Stamped {
            on_time: join_small(on_time),
            late: join_small(late),
            rejected: std::mem::take(&mut self.rejected),
            frontier: (!self.closed).then(|| self.frontier()),
        }
    }

    /// The table's frontier: all later stamps are at least this. Just past the largest stamp when all splits are
    /// idle or ended, also after [`Stamper::close`].
    pub fn frontier(&self) -> Time {
        self.level().1
    }

    /// The largest stamp so far: the time of the answer of a finished run.
    pub fn largest(&self) -> Option<Time> {
        self.splits.iter().filter_map(|member| member.split.largest).max()
    }

    /// How many rows wait for their segment to close, or for [`Stamper::drain`].
    pub fn waiting(&self) -> usize {
        self.splits.iter().map(|member| member.split.waiting()).sum()
    }

    /// How many rows came, how many were late or rejected.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was recorded since the last call; [`Cuts::append`] puts the pieces together. Empty unless
    /// [`StampConfig::record`] is set.
    pub fn take_cuts(&mut self) -> Cuts {
        if !self.rules.record {
            return Cuts::default();
        }
        Cuts { splits: self.splits.iter_mut().map(|member| member.split.take_record()).collect() }
    }

    /// The table's frontier, as lateness and as stamps see it.
    fn level(&self) -> (Time, Time) {
        let active = || self.splits.iter().filter(|member| member.state == State::Active).map(|member| &member.split);
        match (active().map(|split| split.high).min(), active().map(Split::bound).min()) {
            (Some(high), Some(next)) => (high, next),
            _ => {
                let high = self.splits.iter().map(|member| member.split.high).max().unwrap_or(SINCE_EVER);
                let next = self.splits.iter().map(|member| member.split.bound().max(member.split.past_largest())).max();
                let next = next.unwrap_or(SINCE_EVER);
                (high, next)
            }
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
