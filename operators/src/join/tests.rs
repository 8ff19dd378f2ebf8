use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use timely::dataflow::operators::{Input, InspectCore, Probe};

use super::{anti, full_outer, join, left_outer, semi};
use crate::arrange::arrange;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::testing::{Change, History, changes, expected};
use crate::time::Time;
use crate::updates::Updates;

/// A row of either side: whether it is a left one, its key, its value.
type Row = (bool, Vec<u8>, Vec<u8>);
/// A key, a left value, a right value; a value that is not there is empty, none of the tests' values is.
type Pair = (Vec<u8>, Vec<u8>, Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Inner,
    Semi,
    Anti,
    LeftOuter,
    FullOuter,
    /// The left side joined with itself.
    OfItself,
}

pub(crate) fn pack<'a>(rows: impl Iterator<Item = (&'a [u8], &'a [u8], Time, i64)>) -> Updates<Keyed<Rows>> {
    let (mut keys, mut vals, mut times, mut diffs) = (Rows::default(), Rows::default(), Vec::new(), Vec::new());
    for (key, val, time, diff) in rows {
        keys.push(key);
        vals.push(val);
        times.push(time);
        diffs.push(diff);
    }
    Updates { data: Keyed::new(keys, vals), times, diffs }
}

/// Runs a join with the frontiers of the two sides moving on their own.
fn run(workers: usize, seed: u64, kind: Kind, changes: &[Change<Row>]) -> History<Pair> {
    let changes = Arc::new(changes.to_vec());
    let seen = Arc::new(Mutex::new(BTreeMap::<(Time, Pair), i64>::new()));
    let result = seen.clone();
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let index = worker.index();
        let (mut inputs, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let (one, left) = scope.new_input::<Updates<Keyed<Rows>>>();
            let (two, right) = scope.new_input::<Updates<Keyed<Rows>>>();
            let (left, right) = (arrange(left, "left"), arrange(right, "right"));
            let probe = timely::dataflow::ProbeHandle::new();
            let (pairs, lefts, rights) = match kind {
                Kind::Inner => (Some(join(left, right, "join")), None, None),
                Kind::OfItself => (Some(join(left.clone(), left, "join")), None, None),
                Kind::Semi => (None, Some(semi(left, right, "semi")), None),
                Kind::Anti => (None, Some(anti(left, right, "anti")), None),
                Kind::LeftOuter => {
                    let (pairs, lefts) = left_outer(left, right, "outer");
                    (Some(pairs), Some(lefts), None)
                }
                Kind::FullOuter => {
                    let (pairs, lefts, rights) = full_outer(left, right, "outer");
                    (Some(pairs), Some(lefts), Some(rights))
                }
            };
            if let Some(pairs) = pairs {
                let seen = seen.clone();
                pairs
                    .inspect_container(move |event| {
                        if let Ok((held, batch)) = event {
                            let mut seen = seen.lock().unwrap();
                            for i in 0..batch.times.len() {
                                assert!(*held <= batch.times[i]);
                                let data = &batch.data;
                                let get = |rows: &Rows| rows.get(i).to_vec();
                                let pair = (get(&data.keys), get(&data.lefts), get(&data.rights));
                                *seen.entry((batch.times[i], pair)).or_default() += batch.diffs[i];
                            }
                        }
                    })
                    .probe_with(&probe);
            }
            for (alone, is_left) in [(lefts, true), (rights, false)] {
                let Some(alone) = alone else { continue };
                let seen = seen.clone();
                alone
                    .inspect_container(move |event| {
                        if let Ok((held, batch)) = event {
                            let mut seen = seen.lock().unwrap();
                            for i in 0..batch.times.len() {
                                assert!(*held <= batch.times[i]);
                                let (key, val) = (batch.data.keys.get(i).to_vec(), batch.data.vals.get(i).to_vec());
                                let pair = if is_left { (key, val, vec![]) } else { (key, vec![], val) };
                                *seen.entry((batch.times[i], pair)).or_default() += batch.diffs[i];
                            }
                        }
                    })
                    .probe_with(&probe);
            }
            ([one, two], probe)
        });
        let mut shares = SmallRng::seed_from_u64(seed);
        let mut mine: Vec<_> = changes.iter().filter(|_| shares.random_range(0..workers) == index).cloned().collect();
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(31) + index as u64);
        let end = changes.iter().map(|(_, t, _)| *t + 1).max().unwrap_or(0);
        let mut frontiers = [0, 0];
        while frontiers != [end, end] {
            let side = rng.random_range(0..2);
            let next = (frontiers[side] + rng.random_range(0..=end.div_ceil(3))).min(end);
            let mut open: Vec<_> = mine
                .extract_if(.., |((left, ..), time, _)| *left == (side == 0) && (*time < next || rng.random_bool(0.1)))
                .collect();
            open.shuffle(&mut rng);
            for part in open.chunks(rng.random_range(1..40)) {
                let rows = part.iter().map(|((_, key, val), time, diff)| (&key[..], &val[..], *time, *diff));
                inputs[side].send_batch(&mut pack(rows));
            }
            frontiers[side] = next;
            inputs[side].advance_to(next);
            for _ in 0..rng.random_range(0..4) {
                worker.step();
            }
        }
        drop(inputs);
        while !probe.done() {
            worker.step();
        }
    });
    guards.unwrap().join().into_iter().for_each(|result| result.unwrap());
    let mut history = History::new();
    for ((time, pair), diff) in std::mem::take(&mut *result.lock().unwrap()) {
        if diff != 0 {
            history.entry(time).or_insert_with(BTreeMap::new).insert(pair, diff);
        }
    }
    history
}

/// The join of everything with everything.
fn model(kind: Kind, rows: &BTreeMap<Row, i64>) -> BTreeMap<Pair, i64> {
    let mut out = BTreeMap::new();
    for ((_, key, left), n) in rows.iter().filter(|((left, ..), _)| *left) {
        let itself = kind == Kind::OfItself;
        let matches: Vec<_> = rows.iter().filter(|((side, k, _), _)| *side == itself && k == key).collect();
        if !matches!(kind, Kind::Semi | Kind::Anti) {
            for ((_, _, right), m) in &matches {
                *out.entry((key.clone(), left.clone(), right.clone())).or_default() += n * **m;
            }
        }
        let has = matches.iter().map(|(_, m)| **m).sum::<i64>() > 0;
        let alone = matches!(kind, Kind::Anti | Kind::LeftOuter | Kind::FullOuter);
        if (kind == Kind::Semi && has) || (alone && !has) {
            *out.entry((key.clone(), left.clone(), vec![])).or_default() += n;
        }
    }
    if kind == Kind::FullOuter {
        for ((_, key, right), n) in rows.iter().filter(|((left, ..), _)| !*left) {
            let has = rows.iter().filter(|((left, k, _), _)| *left && k == key).map(|(_, n)| *n).sum::<i64>() > 0;
            if !has {
                *out.entry((key.clone(), vec![], right.clone())).or_default() += n;
            }
        }
    }
    out.retain(|_, n| *n != 0);
    out
}

fn check(seed: u64, kind: Kind, workers: usize, steps: usize, keys: u8, times: Time) {
    let changes = changes(seed, steps, times, false, |rng| {
        (
            rng.random(),
            vec![rng.random_range(0..keys)],
            vec![rng.random_range(1..4), 9][..rng.random_range(1..3)].to_vec(),
        )
    });
    let got = run(workers, seed, kind, &changes);
    assert_eq!(got, expected(&changes, |_, rows| model(kind, rows)), "{kind:?}, seed {seed}, {workers} workers");
}

#[test]
fn joins_like_the_model() {
    for seed in 0..60 {
        for kind in [Kind::Inner, Kind::Semi, Kind::Anti, Kind::LeftOuter, Kind::FullOuter, Kind::OfItself] {
            let times = [1, 10, 1000][seed as usize % 3];
            check(seed, kind, [1, 1, 2, 4][seed as usize % 4], 60, 1 + (seed % 7) as u8, times);
        }
    }
}

#[test]
fn joins_many_rows_in_steps() {
    // Beyond a chunk and beyond a step, with groups that straddle chunks.
    let rows = |left: bool, n: u32, keys: u32| {
        (0..n).map(move |i| ((left, (i % keys).to_be_bytes().to_vec(), i.to_be_bytes().to_vec()), u64::from(i % 3), 1))
    };
    for (lefts, rights, keys) in [(90_000, 80_000, 70_000), (70_000, 3, 1), (1000, 90_000, 50_000)] {
        let changes: Vec<Change<Row>> = rows(true, lefts, keys).chain(rows(false, rights, keys)).collect();
        let count = |n: u32| {
            let mut counts = vec![[0i64; 3]; keys as usize];
            (0..n).for_each(|i| counts[(i % keys) as usize][(i % 3) as usize] += 1);
            counts
        };
        let mut totals = [0i64; 3];
        for (l, r) in count(lefts).iter().zip(count(rights)) {
            for (i, l) in l.iter().enumerate() {
                r.iter().enumerate().for_each(|(j, r)| totals[i.max(j)] += l * r);
            }
        }
        let got = run(1, u64::from(keys), Kind::Inner, &changes);
        let got: Vec<i64> = (0..3).map(|t| got.get(&t).map_or(0, |rows| rows.values().sum())).collect();
        assert_eq!(got, totals);
    }
}
