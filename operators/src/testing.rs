//! What the operators' tests share: a run over several workers in random batches, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use timely::dataflow::operators::{Input, InspectCore, Probe};

use crate::KeyError;
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// A change of a record.
pub(crate) type Change<R> = (R, Time, i64);

/// Records by time, each with its change: what an operator emitted or should have.
pub(crate) type History<R> = BTreeMap<Time, BTreeMap<R, i64>>;

/// What an operator emitted, in the order of each worker.
pub(crate) struct Seen<R> {
    pub(crate) output: Vec<Change<R>>,
    pub(crate) errors: Vec<Change<KeyError>>,
}

impl<R: Ord + std::fmt::Debug> Seen<R> {
    /// Checks that no record came twice at one time.
    pub(crate) fn once(self) -> (History<R>, History<KeyError>) {
        (history(self.output), history(self.errors))
    }
}

/// Runs the operator that `build` makes on `workers` workers over `changes`, in random batches and steps, with times
/// closed at random moments. Gives the operator's output and its errors. Checks that every batch came while its times were
/// open.
pub(crate) fn run<R, D, O, S>(
    workers: usize,
    seed: u64,
    changes: &[Change<R>],
    pack: fn(&[R]) -> D,
    unpack: fn(&O, usize) -> S,
    build: impl for<'s> Fn(UpdateStream<'s, D>) -> (UpdateStream<'s, O>, UpdateStream<'s, Vec<KeyError>>)
    + Send
    + Sync
    + 'static,
) -> Seen<S>
where
    R: Clone + Send + Sync + 'static,
    S: Ord + Send + std::fmt::Debug + 'static,
    D: Payload,
    O: Payload,
{
    let changes = Arc::new(changes.to_vec());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let errors = Arc::new(Mutex::new(Vec::new()));
    let results = (seen.clone(), errors.clone());
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let (seen, errors) = (seen.clone(), errors.clone());
        let index = worker.index();
        let (mut input, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Updates<D>>();
            let (output, faults) = build(stream);
            let output = output.inspect_container(move |event| {
                if let Ok((held, batch)) = event {
                    assert!(batch.times.iter().all(|time| time >= held), "{:?} at {held}", batch.times);
                    let records = (0..batch.len()).map(|i| (unpack(&batch.data, i), batch.times[i], batch.diffs[i]));
                    seen.lock().unwrap().extend(records);
                }
            });
            let faults = faults.inspect_container(move |event| {
                if let Ok((held, batch)) = event {
                    assert!(batch.times.iter().all(|time| time >= held), "{:?} at {held}", batch.times);
                    let records = (0..batch.len()).map(|i| (batch.data[i].clone(), batch.times[i], batch.diffs[i]));
                    errors.lock().unwrap().extend(records);
                }
            });
            let (probe, _) = output.probe();
            let (_, _) = faults.probe();
            (input, probe)
        });

        // Each worker gets a share, the same for all, in batches of its own.
        let mut shares = SmallRng::seed_from_u64(seed);
        let mut mine: Vec<_> = changes.iter().filter(|_| shares.random_range(0..workers) == index).cloned().collect();
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(31) + index as u64);
        let end = changes.iter().map(|(_, t, _)| *t + 1).max().unwrap_or(0);
        let mut frontier = 0;
        while frontier < end {
            let next = (frontier + rng.random_range(1..=end.div_ceil(4))).min(end);
            let mut open: Vec<_> = mine.extract_if(.., |(_, time, _)| *time < next).collect();
            open.shuffle(&mut rng);
            if rng.random() {
                open.sort_by_key(|(_, time, _)| *time);
            }
            while !open.is_empty() {
                let rest = open.split_off(rng.random_range(1..=open.len()));
                let records: Vec<R> = open.iter().map(|(record, _, _)| record.clone()).collect();
                let times = open.iter().map(|(_, time, _)| *time).collect();
                let diffs = open.iter().map(|(_, _, diff)| *diff).collect();
                input.send_batch(&mut Updates { data: pack(&records), times, diffs });
                open = rest;
                if rng.random_bool(0.3) {
                    worker.step();
                }
            }
            frontier = next;
            input.advance_to(frontier);
            for _ in 0..rng.random_range(0..4) {
                worker.step();
            }
        }
        drop(input);
        while !probe.done() {
            worker.step();
        }
    });
    guards.unwrap().join().into_iter().for_each(|result| result.unwrap());
    let seen = std::mem::take(&mut *results.0.lock().unwrap());
    let errors = std::mem::take(&mut *results.1.lock().unwrap());
    Seen { output: seen, errors }
}

/// What changes come to.
pub(crate) fn summed<R: Ord>(records: Vec<Change<R>>) -> History<R> {
    let mut history = History::new();
    for (record, time, diff) in records {
        *history.entry(time).or_insert_with(BTreeMap::new).entry(record).or_default() += diff;
    }
    history.values_mut().for_each(|at| at.retain(|_, diff| *diff != 0));
    history.retain(|_, at| !at.is_empty());
    history
}

/// Changes of which each comes once.
pub(crate) fn history<R: Ord + std::fmt::Debug>(records: Vec<Change<R>>) -> History<R> {
    let mut history = History::new();
    for (record, time, diff) in records {
        let at = history.entry(time).or_insert_with(BTreeMap::new);
        assert!(diff != 0 && !at.contains_key(&record), "{record:?} again at {time}");
        at.insert(record, diff);
    }
    history
}

/// The history of the collection that `view` makes of the input accumulated through each time. `view` is given the
/// time and the records with their copies, none of them 0.
pub(crate) fn expected<R: Ord + Clone, S: Ord + Clone>(
    changes: &[Change<R>],
    view: impl Fn(Time, &BTreeMap<R, i64>) -> BTreeMap<S, i64>,
) -> History<S> {
    let times: BTreeSet<Time> = changes.iter().map(|(_, time, _)| *time).collect();
    let mut accumulated: BTreeMap<R, i64> = BTreeMap::new();
    let mut before = BTreeMap::new();
    let mut history = History::new();
    for time in times {
        for (record, _, diff) in changes.iter().filter(|(_, t, _)| *t == time) {
            *accumulated.entry(record.clone()).or_default() += diff;
        }
        accumulated.retain(|_, count| *count != 0);
        let now = view(time, &accumulated);
        let mut change: BTreeMap<S, i64> = now.clone();
        before.iter().for_each(|(record, count): (&S, &i64)| *change.entry(record.clone()).or_default() -= count);
        change.retain(|_, diff| *diff != 0);
        if !change.is_empty() {
            history.insert(time, change);
        }
        before = now;
    }
    history
}

/// Random changes of records: inserted, mostly retracted later, now and then retracted without having been there.
pub(crate) fn changes<R: Clone>(
    seed: u64,
    steps: usize,
    times: Time,
    faults: bool,
    mut record: impl FnMut(&mut SmallRng) -> R,
) -> Vec<Change<R>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut changes: Vec<Change<R>> = Vec::new();
    for _ in 0..steps {
        let (record, time, diff) = (record(&mut rng), rng.random_range(0..times), rng.random_range(1..3));
        changes.push((record.clone(), time, diff));
        if rng.random_bool(0.6) {
            changes.push((record.clone(), rng.random_range(time..times), -diff));
        }
        if faults && rng.random_bool(0.1) {
            let time = rng.random_range(0..times);
            changes.push((record.clone(), time, -1));
            changes.push((record, rng.random_range(time..times), 1));
        }
    }
    changes.shuffle(&mut rng);
    changes
}
