//! Rows that come and go by event time: rolling windows and `now()` in a maintained view.
//!
//! `WHERE ts > now() - INTERVAL '1 hour'` makes a row valid until its own `ts` plus one hour: its retraction is
//! scheduled there when the row arrives. The output at time `t` is the rows of the input through `t` whose validity
//! holds `t`. So replaying history gives the answers of living it.
//!
//! State: what is scheduled and not yet due, in a [`Schedule`]; it is freed as the frontier passes it. The retraction of
//! a row schedules the opposite of what the row had scheduled; the two cancel downstream. What is scheduled after the
//! largest stamp of a finished run's inputs is not applied, nor is anything when a run is stopped (see [`RunEnd`]).

use std::collections::VecDeque;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use crate::run_end::{End, RunEnd};
use crate::schedule::Schedule;
use crate::time::{SINCE_EVER, Time};
use crate::updates::{Payload, UpdateStream, Updates};

/// A time that never comes.
pub const NEVER: Time = Time::MAX;

/// Updates handled before others get their turn.
const TURN: usize = 1 << 16;

/// When each record of a batch is valid: at times `from <= t < until`.
///
/// ```
/// use headwater_operators::temporal::{NEVER, Validity};
/// let sessions = [(10, Some(20)), (15, None)];
/// let validity = Validity::of(&sessions, |(login, logout)| (*login, logout.unwrap_or(NEVER)));
/// assert_eq!(validity.until, Some(vec![20, NEVER]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first time of each record; `None` for since ever.
    pub from: Option<Vec<Time>>,
    /// The time at which each record leaves; [`NEVER`], or `None` for all, when it stays.
    pub until: Option<Vec<Time>>,
}

impl Validity {
    /// The validity of each of `records`, as `(from, until)`.
    pub fn of<T>(records: &[T], validity: impl Fn(&T) -> (Time, Time)) -> Self {
        let (from, until) = records.iter().map(validity).unzip();
        Validity { from: Some(from), until: Some(until) }
    }
}

/// Keeps each record for as long as it is valid.
///
/// `validity` gives for a batch when its records are valid; equal records must have equal validity.
///
/// ```
/// use headwater_operators::{Updates, interop::to_collection, run_end::RunEnd};
/// use headwater_operators::temporal::{Validity, temporal_filter};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     // Clicks at their times; each counts for 60.
///     let (mut input, clicks) = scope.new_input();
///     input.send_batch(&mut Updates { data: vec![100u64, 170], times: vec![100, 170], diffs: vec![1, 1] });
///     let last_minute = |clicks: &Vec<u64>| Validity::of(clicks, |click| (0, click + 60));
///     to_collection(temporal_filter(clicks, &RunEnd::default(), last_minute)).inner.capture()
/// });
/// let mut changes: Vec<_> = captured.extract().into_iter().flat_map(|(_, changes)| changes).collect();
/// changes.sort_by_key(|change| change.1);
/// // The second click would leave at 230; the run ends with the last input, at 170.
/// assert_eq!(changes, [(100, 100, 1), (100, 160, -1), (170, 170, 1)]);
/// ```
pub fn temporal_filter<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    end: &RunEnd,
    mut validity: impl FnMut(&D) -> Validity + 'static,
) -> UpdateStream<'scope, D> {
    scheduled(stream, "TemporalFilter", end, move |batch| {
        let Validity { from, until } = validity(&batch.data);
        let (mut now, mut later) = (Vec::new(), Changes::default());
        for (row, (&time, &diff)) in batch.times.iter().zip(&batch.diffs).enumerate() {
            let start = from.as_ref().map_or(SINCE_EVER, |from| from[row]).max(time);
            let stop = until.as_ref().map_or(NEVER, |until| until[row]);
            if start >= stop {
                continue;
            }
            if start == time {
                now.push(row as u32);
            } else {
                later.push(row, start, diff);
            }
            if stop != NEVER {
                later.push(row, stop, -diff);
            }
        }
        (now, later)
    })
}

/// Lets each update take effect not before a time of its own; [`NEVER`] drops it.
///
/// `until` gives that time for each record of a batch; equal records must have equal times. See [`temporal_filter`].
pub fn delay_until<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    end: &RunEnd,
    mut until: impl FnMut(&D) -> Vec<Time> + 'static,
) -> UpdateStream<'scope, D> {
    temporal_filter(stream, end, move |data| Validity { from: Some(until(data)), until: None })
}

/// Changes of records of a batch at future times.
#[derive(Default)]
struct Changes {
    rows: Vec<u32>,
    times: Vec<Time>,
    diffs: Vec<i64>,
}

impl Changes {
    fn push(&mut self, row: usize, time: Time, diff: i64) {
        self.rows.push(row as u32);
        self.times.push(time);
        self.diffs.push(diff);
    }
}

/// Passes on the records that `split` lets through at their time, and the changes that it schedules when they are due.
fn scheduled<'scope, D: Payload>(
    stream: UpdateStream<'scope, D>,
    name: &str,
    end: &RunEnd,
    mut split: impl FnMut(&Updates<D>) -> (Vec<u32>, Changes) + 'static,
) -> UpdateStream<'scope, D> {
    let scope = stream.scope();
    let end = end.clone();
    stream.unary_frontier::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, name, move |_, info| {
        let activator = scope.activator_for(info.address);
        let mut schedule = Schedule::default();
        // What is due and not yet sent; the capability is for it and for what is scheduled.
        let (mut ready, mut due) = (VecDeque::new(), Vec::new());
        let mut held: Option<Capability<Time>> = None;
        let mut largest = None;
        move |(input, frontier), output| {
            input.for_each(|capability, batch| {
                let batch = std::mem::take(batch);
                largest = largest.max(batch.times.iter().copied().max());
                let (now, later) = split(&batch);
                if let Some(first) = later.times.iter().copied().min() {
                    if held.as_ref().is_none_or(|held| first < *held.time()) {
                        held = Some(capability.delayed(&first, 0));
                    }
                    let Changes { rows, times, diffs } = later;
                    schedule.insert(Updates { data: batch.data.gather(&rows), times, diffs });
                }
                if !now.is_empty() {
                    let mut now = if now.len() == batch.len() { batch } else { batch.gather(&now) };
                    output.session(&capability).give_container(&mut now);
                }
            });
            let is_closed = frontier.frontier().is_empty();
            let frontier = match frontier.frontier().first() {
                Some(frontier) => Some(*frontier),
                None => match end.get() {
                    Some(End::Finished(last)) => Some(last.saturating_add(1)),
                    Some(End::Stopped) => None,
                    None => largest.map(|largest: Time| largest.saturating_add(1)),
                },
            };
            if let Some(frontier) = frontier {
                schedule.advance(frontier, &mut due);
            }
            let spread = schedule.work(TURN, &mut due);
            ready.extend(due.drain(..));
            let mut sent = 0;
            while sent < TURN
                && let (Some(held), Some(mut batch)) = (&held, ready.pop_front())
            {
                sent += batch.len();
                output.session(held).give_container(&mut batch);
            }
            if !spread || !ready.is_empty() {
                activator.activate();
                return;
            }
            match schedule.earliest() {
                Some(earliest) if !is_closed => {
                    if let Some(held) = &mut held
                        && *held.time() < earliest
                    {
                        held.downgrade(&earliest);
                    }
                }
                _ => {
                    held = None;
                    if is_closed {
                        schedule = Schedule::default();
                    }
                }
            }
        }
    })
}
