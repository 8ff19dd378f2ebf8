//! Rows that come and go by event time: rolling windows and `now()` in a maintained view.
//!
//! `WHERE ts > now() - INTERVAL '1 hour'` makes a row valid until its own `ts` plus one hour: its retraction is
//! scheduled there when the row arrives. The output at time `t` is the rows of the input through `t` whose validity
//! holds `t`. So replaying history gives the answers of living it.
//!
//! State: what is scheduled and not yet due, in a [`Schedule`]; it is freed as the frontier passes it. The retraction of
//! a row schedules the opposite of what the row had scheduled; the two cancel downstream. What is scheduled after the
//! largest stamp of a finished run's inputs is not applied, nor what was not due when a run was stopped (see [`RunEnd`]).

use std::collections::VecDeque;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use crate::guard::Guard;
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
/// use headwater_operators::{Updates, encode::to_collection, run_end::RunEnd};
/// use headwater_operators::temporal::{Validity, temporal_filter};
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
///
/// let captured = timely::example(|scope| {
///     // Clicks at their times; each counts for 60.
///     let (mut input, clicks) = scope.new_input();
///     let last_minute = |clicks: &Vec<u64>| Validity::of(clicks, |click| (0, click + 60));
///     let captured = to_collection(temporal_filter(clicks, &RunEnd::default(), last_minute)).inner.capture();
///     input.send_batch(&mut Updates { data: vec![100, 170], times: vec![100, 170], diffs: vec![1, 1] });
///     captured
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
        let guard = Guard::new(name);
        move |(input, frontier), output| {
            guard.step(|| {
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
                        Some(End::Stopped(closed)) => Some(closed),
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
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use timely::dataflow::operators::{Input, InspectCore, Probe};

    use super::*;

    /// A row, valid from its first to before its second time.
    type Row = (u64, Time, Time);
    type Changes = BTreeMap<(Row, Time), i64>;

    /// What the filter makes of `changes`, fed in order of time with the frontier at random moments.
    fn run(seed: u64, changes: &[(Row, Time, i64)], end: &RunEnd) -> Changes {
        let seen = Arc::new(Mutex::new(Changes::new()));
        let (result, end, mut changes) = (seen.clone(), end.clone(), changes.to_vec());
        changes.sort_by_key(|change| change.1);
        timely::execute_directly(move |worker| {
            let (mut input, probe) = worker.dataflow(|scope| {
                let (input, stream) = scope.new_input();
                let validity = |rows: &Vec<Row>| Validity::of(rows, |row| (row.1, row.2));
                let output = temporal_filter(stream, &end, validity).inspect_container(move |event| {
                    if let Ok((held, batch)) = event {
                        for ((row, time), diff) in batch.data.iter().zip(&batch.times).zip(&batch.diffs) {
                            assert!(time >= held);
                            *seen.lock().unwrap().entry((*row, *time)).or_default() += diff;
                        }
                    }
                });
                (input, output.probe().0)
            });
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut rest = &changes[..];
            while !rest.is_empty() {
                let (now, then) = rest.split_at(rng.random_range(1..=rest.len().min(20)));
                rest = then;
                input.send_batch(&mut Updates {
                    data: now.iter().map(|change| change.0).collect(),
                    times: now.iter().map(|change| change.1).collect(),
                    diffs: now.iter().map(|change| change.2).collect(),
                });
                if let Some(next) = rest.first() {
                    input.advance_to(next.1);
                }
                (0..rng.random_range(0..3)).for_each(|_| _ = worker.step());
                // All that is scheduled before the frontier comes out in the end.
                if rng.random_bool(0.2) {
                    let before = *input.time();
                    while probe.less_than(&before) {
                        worker.step();
                    }
                }
            }
            drop(input);
            while !probe.done() {
                worker.step();
            }
        });
        let mut seen = std::mem::take(&mut *result.lock().unwrap());
        seen.retain(|_, diff| *diff != 0);
        seen
    }

    fn changes(seed: u64) -> Vec<(Row, Time, i64)> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut changes = Vec::new();
        for number in 0..100 {
            let time = rng.random_range(0..1_000);
            let from = rng.random_range(0..1_500);
            let until = if rng.random_bool(0.2) { NEVER } else { rng.random_range(0..2_000) };
            let row = (number % 40, from, until);
            changes.push((row, time, 1));
            if rng.random_bool(0.5) {
                changes.push((row, rng.random_range(time..1_000), -1));
            }
        }
        changes
    }

    #[test]
    fn a_row_is_there_while_it_is_valid() {
        for seed in 0..40 {
            let changes = changes(seed);
            let last = changes.iter().map(|change| change.1).max().unwrap();
            // At each time the rows of the input through it that are valid then; nothing happens after the last input.
            let mut expected = Changes::new();
            let mut before: BTreeMap<Row, i64> = BTreeMap::new();
            for time in 0..=last {
                let mut now = BTreeMap::new();
                for (row, at, diff) in &changes {
                    if *at <= time && row.1 <= time && time < row.2 {
                        *now.entry(*row).or_default() += diff;
                    }
                }
                for (row, sign) in now.iter().map(|row| (row, 1)).chain(before.iter().map(|row| (row, -1))) {
                    *expected.entry((*row.0, time)).or_default() += sign * row.1;
                }
                before = now;
            }
            expected.retain(|_, diff| *diff != 0);
            assert_eq!(run(seed, &changes, &RunEnd::default()), expected, "seed {seed}");

            // Another input of the run went on to 1,400.
            let end = RunEnd::default();
            end.finish(1_400);
            let longer = run(seed, &changes, &end);
            assert!(longer.keys().all(|(_, time)| *time <= 1_400));
            let mut at_end: BTreeMap<Row, i64> = BTreeMap::new();
            longer.iter().for_each(|((row, _), diff)| *at_end.entry(*row).or_default() += diff);
            let mut expected: BTreeMap<Row, i64> = BTreeMap::new();
            for (row, _, diff) in changes.iter().filter(|change| change.0.1 <= 1_400 && 1_400 < change.0.2) {
                *expected.entry(*row).or_default() += diff;
            }
            at_end.retain(|_, count| *count != 0);
            expected.retain(|_, count| *count != 0);
            assert_eq!(at_end, expected, "seed {seed}");
        }
    }

    #[test]
    fn a_stopped_run_applies_nothing_more() {
        let end = RunEnd::default();
        end.stop();
        let row = (1, 0, 20);
        let given = run(0, &[(row, 10, 1), ((2, 0, NEVER), 15, 1), ((3, 15, NEVER), 12, 1)], &end);
        assert_eq!(given.keys().map(|((row, ..), time)| (*row, *time)).collect::<Vec<_>>(), [(1, 10), (2, 15)]);
        // All before 20 was complete when the input was closed.
        end.close(20);
        let given = run(0, &[(row, 10, 1), ((3, 15, NEVER), 12, 1), ((4, 20, NEVER), 12, 1)], &end);
        assert_eq!(given.keys().map(|((row, ..), time)| (*row, *time)).collect::<Vec<_>>(), [(1, 10), (3, 15)]);
    }
}
