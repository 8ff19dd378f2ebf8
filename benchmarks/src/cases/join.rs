//! A join of two tables: its hydration, and rounds after it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use differential_dataflow::input::Input;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Inspect, Probe};

use crate::case::{Better, Case, Failure, Line, Measured, Params, percentiles};
use crate::memory;
use crate::ours::{Feed, Live, Session, session};
use crate::workload::{Random, mix};

/// From two tables to their join.
pub const HYDRATION: Case = Case {
    name: "join",
    about: "hydration of a join of two tables of 5M rows",
    against: "raw differential on (u64, u64)",
    rows: 5_000_000,
    lines: &[Line { case: "join", unit: "rows/s", better: Better::More, reach: 2.3, aim: 3.0 }],
    ours: |params| {
        let run = run(params, 0)?;
        Ok(Measured { values: vec![2.0 * params.rows as f64 / run.hydration], ..run.measured })
    },
    baseline: |params| {
        let run = raw(params, 0);
        Ok(Measured { values: vec![2.0 * params.rows as f64 / run.hydration], ..run.measured })
    },
};

/// Rounds after the hydration.
pub const ROUNDS: Case = Case {
    name: "join-rounds",
    about: "1,000-row rounds after that hydration",
    against: "raw differential on (u64, u64)",
    rows: 5_000_000,
    lines: &[
        Line { case: "join-rounds-p50", unit: "us", better: Better::Less, reach: 0.5, aim: 1.0 },
        Line { case: "join-rounds-p99", unit: "us", better: Better::Less, reach: 0.5, aim: 1.0 },
    ],
    ours: |params| {
        let run = run(params, ROUNDS_AFTER)?;
        Ok(Measured { values: percentiles(run.latencies).to_vec(), ..run.measured })
    },
    baseline: |params| {
        let run = raw(params, ROUNDS_AFTER);
        Ok(Measured { values: percentiles(run.latencies).to_vec(), ..run.measured })
    },
};

/// Live bytes for each row of the two tables.
pub const STATE_BYTES: Case = Case {
    name: "state-bytes-join",
    about: "live bytes for each row held in the join",
    against: "twice the bytes of the row's columns + 32",
    rows: 5_000_000,
    lines: &[Line { case: "state-bytes-join", unit: "bytes/row", better: Better::Less, reach: 1.0, aim: 1.5 }],
    ours: |params| {
        memory::start_counting();
        let run = run(params, 0)?;
        Ok(Measured { values: vec![run.bytes / (2.0 * params.rows as f64)], ..run.measured })
    },
    baseline: |_| Ok(Measured::new(vec![2.0 * 16.0 + 32.0])),
};

/// Two workers against one.
pub const SCALE: Case = Case {
    name: "scale-join",
    about: "hydration of the join on 2 workers",
    against: "hydration on 1 worker",
    rows: 5_000_000,
    lines: &[Line { case: "scale-join", unit: "rows/s", better: Better::More, reach: 1.4, aim: 1.8 }],
    ours: |params| (HYDRATION.ours)(&Params { workers: 2, pinned: true, ..params.clone() }),
    baseline: |params| (HYDRATION.ours)(&Params { workers: 1, pinned: true, ..params.clone() }),
};

/// Rounds measured after the hydration.
const ROUNDS_AFTER: usize = 1_000;
/// Rows in each of them, half for either table.
const ROUND: usize = 1_000;

/// Key and value.
pub type Row = (u64, u64);

/// Two tables that have each key once, in random order.
pub fn tables(seed: u64, rows: usize) -> [Vec<Row>; 2] {
    [0, 1].map(|side| {
        let mut random = Random::new(mix(seed) + side);
        let mut keys: Vec<u64> = (0..rows as u64).collect();
        random.shuffle(&mut keys);
        keys.into_iter().map(|k| (k, random.below(1 << 40))).collect()
    })
}

/// What each round adds to either table: rows whose keys are there already.
fn rounds(seed: u64, rows: usize, count: usize) -> Vec<[Vec<Row>; 2]> {
    let mut random = Random::new(mix(seed) + 2);
    let mut half = || (0..ROUND / 2).map(|_| (random.below(rows as u64), random.below(1 << 40))).collect();
    (0..count).map(|_| [half(), half()]).collect()
}

/// Joined rows, summed up so that order doesn't matter and each row does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Checksum {
    rows: i64,
    sum: u64,
}

impl Checksum {
    /// Adds `diff` copies of a joined row.
    #[inline]
    pub fn add(&mut self, key: u64, left: u64, right: u64, diff: i64) {
        self.rows += diff;
        let hash = mix(key ^ mix(left ^ mix(right)));
        self.sum = self.sum.wrapping_add(hash.wrapping_mul(diff as u64));
    }

    /// Adds a batch of joined rows `k, l, r`.
    pub fn add_batch(&mut self, changes: &RecordBatch, diffs: &[i64]) {
        let [k, l, r] = [0, 1, 2].map(|c| changes.column(c).as_primitive::<Int64Type>().values());
        for (row, diff) in diffs.iter().enumerate() {
            self.add(k[row] as u64, l[row] as u64, r[row] as u64, *diff);
        }
    }
}

/// The join by brute force: both sides sorted and merged.
pub fn expected(mut left: Vec<Row>, mut right: Vec<Row>) -> Checksum {
    left.sort_unstable();
    right.sort_unstable();
    let mut sum = Checksum::default();
    let mut from = 0;
    for &(key, l) in &left {
        while right.get(from).is_some_and(|r| r.0 < key) {
            from += 1;
        }
        right[from..].iter().take_while(|r| r.0 == key).for_each(|&(_, r)| sum.add(key, l, r, 1));
    }
    sum
}

fn differs(got: Checksum, params: &Params, after: usize) -> Option<String> {
    let [mut left, mut right] = tables(params.seed, params.rows);
    for [l, r] in rounds(params.seed, params.rows, after) {
        left.extend(l);
        right.extend(r);
    }
    let want = expected(left, right);
    (got != want).then(|| format!("{got:?} instead of {want:?}"))
}

struct Run {
    /// Seconds to hydrate.
    hydration: f64,
    /// Microseconds of each round after it.
    latencies: Vec<f64>,
    /// Live bytes after the hydration.
    bytes: f64,
    measured: Measured,
}

/// The two tables, kept in memory, read by [`QUERY`].
pub const DDL: &str = "CREATE TABLE lefts (k BIGINT, l BIGINT); CREATE TABLE rights (k BIGINT, r BIGINT);";
/// The join.
pub const QUERY: &str = "SELECT lefts.k, l, r FROM lefts JOIN rights ON lefts.k = rights.k";

/// Rows as a batch of columns `k` and `value`.
fn batch(rows: &[Row], value: &str) -> Result<RecordBatch, Failure> {
    let keys = Int64Array::from_iter_values(rows.iter().map(|r| r.0 as i64));
    let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1 as i64));
    Ok(RecordBatch::try_from_iter([("k", Arc::new(keys) as _), (value, Arc::new(values) as _)])?)
}

/// Fills the two tables; gives their inputs and the frontier behind what is in both.
pub fn fill(session: &Session, seed: u64, rows: usize) -> Result<([Feed; 2], Option<i64>), Failure> {
    let mut inputs = [Feed::new(session, "lefts")?, Feed::new(session, "rights")?];
    let mut frontier = None;
    for ((input, table), value) in inputs.iter_mut().zip(tables(seed, rows)).zip(["l", "r"]) {
        frontier = frontier.max(input.push(batch(&table, value)?)?.frontier);
    }
    Ok((inputs, frontier))
}

fn run(params: &Params, after: usize) -> Result<Run, Failure> {
    let session = session(params, DDL)?;
    let (mut inputs, filled) = fill(&session, params.seed, params.rows)?;
    let rounds = rounds(params.seed, params.rows, after);
    let mut sum = Checksum::default();
    let mut take = |changes: &RecordBatch, diffs: &[i64]| {
        sum.add_batch(changes, diffs);
        Ok(())
    };
    let before = memory::live_bytes();
    let begin = memory::start();
    let mut live = Live::follow(&session, QUERY)?;
    live.wait(filled, &mut take)?;
    let hydration = begin.elapsed().as_secs_f64();
    let bytes = (memory::live_bytes() - before) as f64;
    let mut latencies = Vec::with_capacity(after);
    for [l, r] in &rounds {
        let (l, r) = (batch(l, "l")?, batch(r, "r")?);
        let pushed = Instant::now();
        let left = inputs[0].push(l)?.frontier;
        let right = inputs[1].push(r)?.frontier;
        live.wait(left.max(right), &mut take)?;
        latencies.push(pushed.elapsed().as_secs_f64() * 1e6);
    }
    let measured = Measured::new(Vec::new());
    inputs.into_iter().for_each(Feed::close);
    live.wait(None, &mut take)?;
    Ok(Run { hydration, latencies, bytes, measured: measured.checked(differs(sum, params, after)) })
}

fn raw(params: &Params, after: usize) -> Run {
    let (seed, rows) = (params.seed, params.rows);
    let (run, sum) = timely::execute_directly(move |worker| {
        let [left, right] = tables(seed, rows);
        let rounds = rounds(seed, rows, after);
        let sum = Rc::new(Cell::new(Checksum::default()));
        let emitted = Rc::new(RefCell::new(Vec::new()));
        let probe = Handle::new();
        let (adder, sink) = (sum.clone(), emitted.clone());
        let (mut lefts, mut rights) = worker.dataflow::<u64, _, _>(|scope| {
            let (left_input, left) = scope.new_collection::<Row, isize>();
            let (right_input, right) = scope.new_collection::<Row, isize>();
            let joined = left.arrange_by_key().join_core(right.arrange_by_key(), |k, l, r| Some((*k, *l, *r)));
            joined
                .inner
                .inspect_batch(move |_, changes| {
                    let mut total = adder.get();
                    changes.iter().for_each(|((k, l, r), _, diff)| total.add(*k, *l, *r, *diff as i64));
                    adder.set(total);
                    // Rounds hand their changes out; a hydration's would only be memory.
                    if after > 0 && changes.len() < 2 * ROUND {
                        sink.borrow_mut().extend_from_slice(changes);
                    }
                })
                .probe_with(&probe);
            (left_input, right_input)
        });
        let mut time = 0;
        let begin = memory::start();
        for (l, r) in left.chunks(1 << 16).zip(right.chunks(1 << 16)) {
            l.iter().for_each(|row| lefts.insert(*row));
            r.iter().for_each(|row| rights.insert(*row));
            worker.step();
        }
        let mut close = |lefts: &mut differential_dataflow::input::InputSession<_, _, _>,
                         rights: &mut differential_dataflow::input::InputSession<_, _, _>,
                         worker: &mut timely::worker::Worker| {
            time += 1;
            lefts.advance_to(time);
            rights.advance_to(time);
            lefts.flush();
            rights.flush();
            worker.step_while(|| probe.less_than(&time));
        };
        close(&mut lefts, &mut rights, worker);
        let hydration = begin.elapsed().as_secs_f64();
        emitted.borrow_mut().clear();
        let mut latencies = Vec::with_capacity(after);
        for [l, r] in &rounds {
            let pushed = Instant::now();
            l.iter().for_each(|row| lefts.insert(*row));
            r.iter().for_each(|row| rights.insert(*row));
            close(&mut lefts, &mut rights, worker);
            latencies.push(pushed.elapsed().as_secs_f64() * 1e6);
            emitted.borrow_mut().clear();
        }
        (Run { hydration, latencies, bytes: 0.0, measured: Measured::new(Vec::new()) }, sum.get())
    });
    Run { measured: run.measured.checked(differs(sum, params, after)), ..run }
}
