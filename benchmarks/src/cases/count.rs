//! Counting by key: one row at a time over many keys, and by string key in rounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use differential_dataflow::input::Input;
use differential_dataflow::operators::CountTotal;
use timely::dataflow::operators::probe::Handle;

use crate::case::{Better, Case, Failure, Line, Measured, Params, percentiles};
use crate::memory;
use crate::ours::{Feed, Live, session, strings, until};
use crate::workload::{Random, mix};

/// One row a round.
pub const ONE_ROW: Case = Case {
    name: "one-row",
    about: "count per key over 1M keys, one row a round, p50 push to answer",
    against: "raw differential count_total on u64",
    rows: 20_000,
    lines: &[Line { case: "one-row", unit: "us", better: Better::Less, reach: 0.5, aim: 1.0 }],
    ours: one_row,
    baseline: raw_one_row,
};

/// String keys in rounds.
pub const STRING: Case = Case {
    name: "count-string",
    about: "count per 24-byte string key, 1M keys, 40,000-row rounds, changes emitted",
    against: "std HashMap<Vec<u8>, u64>",
    rows: 10_000_000,
    lines: &[Line { case: "count-string", unit: "rows/s", better: Better::More, reach: 0.9, aim: 2.0 }],
    ours: string,
    baseline: raw_string,
};

/// Live bytes for each key of a view.
pub const STATE_BYTES: Case = Case {
    name: "state-count",
    about: "peak of live bytes for each of 10M keys of count and sum by key as a materialized view",
    against: "3 times the bytes of the view's row + 32",
    rows: 10_000_000,
    lines: &[Line { case: "state-count", unit: "bytes/key", better: Better::Less, reach: 0.8, aim: 1.5 }],
    ours: state_bytes,
    // A key, a count and a sum.
    baseline: |_| Ok(Measured::new(vec![3.0 * 24.0 + 32.0])),
};

const KEYS: u64 = 1_000_000;
const ROUND: usize = 40_000;

/// The keys of the one-row rounds.
fn single_keys(params: &Params) -> Vec<u64> {
    let mut random = Random::new(params.seed);
    (0..params.rows).map(|_| random.below(KEYS)).collect()
}

/// What differs between counted keys and what they must be: each key once, and once more for each time in `extra`.
fn check(counts: &HashMap<u64, u64>, extra: &[u64]) -> Option<String> {
    let mut want: HashMap<u64, u64> = (0..KEYS).map(|k| (k, 1)).collect();
    extra.iter().for_each(|k| *want.entry(*k).or_default() += 1);
    if counts.len() != want.len() {
        return Some(format!("{} keys, not {}", counts.len(), want.len()));
    }
    let wrong = want.iter().find(|(k, n)| counts.get(k) != Some(n));
    wrong.map(|(k, n)| format!("key {k} has {:?}, not {n}", counts.get(k)))
}

fn one_row(params: &Params) -> Result<Measured, Failure> {
    let ddl = "CREATE TABLE facts (k BIGINT) WITH (connector = 'channel')";
    let query = "SELECT k, count(*) AS n FROM facts GROUP BY k";
    let batch = |keys: &[u64]| -> Result<RecordBatch, Failure> {
        let keys = Int64Array::from_iter_values(keys.iter().map(|&k| k as i64));
        Ok(RecordBatch::try_from_iter([("k", Arc::new(keys) as _)])?)
    };
    let session = session(params, ddl)?;
    let mut facts = Feed::new(&session, "facts")?;
    let mut live = Live::follow(&session, query)?;
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let mut take = |changes: &RecordBatch, diffs: &[i64]| {
        let keys = changes.column(0).as_primitive::<Int64Type>();
        let ns = changes.column(1).as_primitive::<Int64Type>();
        for (row, diff) in diffs.iter().enumerate() {
            if *diff > 0 {
                counts.insert(keys.value(row) as u64, ns.value(row) as u64);
            }
        }
        Ok(())
    };
    let all: Vec<u64> = (0..KEYS).collect();
    for keys in all.chunks(ROUND) {
        let rows = facts.fit(batch(keys)?)?;
        live.round(&mut facts, rows, &mut take)?;
    }
    let keys = single_keys(params);
    let mut latencies = Vec::with_capacity(keys.len());
    for key in &keys {
        let row = facts.fit(batch(&[*key])?)?;
        let pushed = Instant::now();
        live.round(&mut facts, row, &mut take)?;
        latencies.push(pushed.elapsed().as_secs_f64() * 1e6);
    }
    let [p50, p99] = percentiles(latencies);
    let mut measured = Measured::new(vec![p50]);
    measured.notes.push(format!("ours p99 {p99:.0} us"));
    facts.close();
    live.wait(None, &mut take)?;
    Ok(measured.checked(check(&counts, &keys)))
}

fn raw_one_row(params: &Params) -> Result<Measured, Failure> {
    let keys = single_keys(params);
    let given = keys.clone();
    let (latencies, counts) = timely::execute_directly(move |worker| {
        let changes = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let sink = changes.clone();
        let probe = Handle::new();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, facts) = scope.new_collection::<u64, isize>();
            facts.count_total().inspect(move |change| sink.borrow_mut().push(*change)).probe_with(&probe);
            input
        });
        let mut counts: HashMap<u64, u64> = HashMap::new();
        let mut latencies = Vec::with_capacity(given.len());
        let mut time = 0;
        let mut round = |keys: &[u64], counts: &mut HashMap<u64, u64>| {
            let pushed = Instant::now();
            keys.iter().for_each(|k| input.insert(*k));
            time += 1;
            input.advance_to(time);
            input.flush();
            worker.step_while(|| probe.less_than(&time));
            let micros = pushed.elapsed().as_secs_f64() * 1e6;
            for ((key, n), _, diff) in changes.borrow_mut().drain(..) {
                if diff > 0 {
                    counts.insert(key, n as u64);
                }
            }
            micros
        };
        let all: Vec<u64> = (0..KEYS).collect();
        all.chunks(ROUND).for_each(|keys| {
            round(keys, &mut counts);
        });
        latencies.extend(given.iter().map(|key| round(&[*key], &mut counts)));
        (latencies, counts)
    });
    let [p50, p99] = percentiles(latencies);
    let mut measured = Measured::new(vec![p50]);
    measured.notes.push(format!("differential p99 {p99:.0} us"));
    Ok(measured.checked(check(&counts, &keys)))
}

/// The rounds of string keys, 24 bytes each.
fn string_rounds(params: &Params) -> Result<Vec<RecordBatch>, Failure> {
    let mut random = Random::new(params.seed);
    let rounds = (0..params.rows.div_ceil(ROUND)).map(|round| {
        let rows = ROUND.min(params.rows - round * ROUND);
        let keys = StringArray::from_iter_values((0..rows).map(|_| {
            let key = random.below(KEYS);
            format!("{:016x}{key:08x}", mix(key + 1))
        }));
        Ok(RecordBatch::try_from_iter([("k", Arc::new(keys) as _)])?)
    });
    rounds.collect()
}

/// What differs between counted strings and what they must be, by sorting.
fn check_strings<K: AsRef<[u8]>>(
    counts: impl Iterator<Item = (K, u64)>,
    params: &Params,
) -> Result<Option<String>, Failure> {
    let mut random = Random::new(params.seed);
    let mut want = vec![0u64; KEYS as usize];
    (0..params.rows).for_each(|_| want[random.below(KEYS) as usize] += 1);
    for (key, n) in counts {
        let key = std::str::from_utf8(key.as_ref())?;
        let index = u64::from_str_radix(&key[16..], 16)? as usize;
        if n != std::mem::take(&mut want[index]) {
            return Ok(Some(format!("{key} was counted {n} times")));
        }
    }
    Ok(want.iter().position(|n| *n != 0).map(|k| format!("key {k} is not there")))
}

fn string(params: &Params) -> Result<Measured, Failure> {
    let ddl = "CREATE TABLE facts (k VARCHAR) WITH (connector = 'channel')";
    let query = "SELECT k, count(*) AS n FROM facts GROUP BY k";
    let session = session(params, ddl)?;
    let mut facts = Feed::new(&session, "facts")?;
    let rounds = string_rounds(params)?.into_iter().map(|r| facts.fit(r)).collect::<Result<Vec<_>, _>>()?;
    let mut live = Live::follow(&session, query)?;
    let mut changes = Vec::new();
    let mut emitted = 0;
    let begin = memory::start();
    for round in rounds {
        live.round(&mut facts, round, |batch, diffs| {
            emitted += diffs.len();
            changes.push((batch.clone(), diffs.to_vec()));
            Ok(())
        })?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut measured = Measured::new(vec![params.rows as f64 / seconds]);
    measured.notes.push(format!("ours emitted {emitted} changes"));
    facts.close();
    live.wait(None, |_, _| Ok(()))?;
    let mut counts: HashMap<Vec<u8>, (u64, i64)> = HashMap::new();
    for (batch, diffs) in &changes {
        let keys = strings(batch.column(0))?;
        let ns = batch.column(1).as_primitive::<Int64Type>();
        for (row, diff) in diffs.iter().enumerate() {
            let count = counts.entry(keys.value(row).as_bytes().to_vec()).or_default();
            *count = (count.0.max(ns.value(row) as u64), count.1 + diff);
        }
    }
    let answer = match counts.iter().find(|(_, (_, rows))| *rows != 1) {
        Some((key, (_, rows))) => Some(format!("{} has {rows} rows", String::from_utf8_lossy(key))),
        None => check_strings(counts.iter().map(|(k, (n, _))| (k, *n)), params)?,
    };
    Ok(measured.checked(answer))
}

fn raw_string(params: &Params) -> Result<Measured, Failure> {
    let rounds = string_rounds(params)?;
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut emitted = 0;
    let begin = memory::start();
    for round in &rounds {
        let keys = strings(round.column(0))?;
        let mut changes: Vec<(Vec<u8>, u64, u64)> = Vec::with_capacity(keys.len());
        for key in keys.iter().flatten() {
            let key = key.as_bytes();
            let old = match counts.get_mut(key) {
                Some(count) => {
                    *count += 1;
                    *count - 1
                }
                None => {
                    counts.insert(key.to_vec(), 1);
                    0
                }
            };
            changes.push((key.to_vec(), old, old + 1));
        }
        emitted += std::hint::black_box(&changes).len();
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut measured = Measured::new(vec![params.rows as f64 / seconds]);
    measured.notes.push(format!("the hash map emitted {emitted} changes"));
    Ok(measured.checked(check_strings(counts.iter().map(|(k, n)| (k, *n)), params)?))
}

/// The row number `i` of the table behind the view: each key once, in no order.
fn state_row(i: u64) -> (i64, i64) {
    (mix(i + 1) as i64, (i % 1_000) as i64)
}

/// A number that depends on each row of keys and sums, and not on their order.
fn state_checksum(rows: impl Iterator<Item = (i64, i64)>) -> u64 {
    rows.fold(0, |sum, (key, total)| sum.wrapping_add(mix(key as u64 ^ mix(total as u64))))
}

fn state_bytes(params: &Params) -> Result<Measured, Failure> {
    memory::start_counting();
    let rows = params.rows as u64;
    let ddl = "CREATE TABLE facts (k BIGINT, v BIGINT) WITH (connector = 'channel');
        CREATE MATERIALIZED VIEW totals AS SELECT k, count(*) AS n, sum(v) AS s FROM facts GROUP BY k";
    let session = session(params, ddl)?;
    let mut facts = Feed::new(&session, "facts")?;
    let view = session.view("totals")?;
    let mut push = |rows: std::ops::Range<u64>| -> Result<(), Failure> {
        let (keys, values): (Vec<i64>, Vec<i64>) = rows.map(state_row).unzip();
        let [keys, values] = [keys, values].map(|values| Arc::new(Int64Array::from(values)) as _);
        let batch = facts.fit(RecordBatch::try_from_iter([("k", keys), ("v", values)])?)?;
        let frontier = facts.push(batch)?.frontier;
        until("the answer of a round", Duration::from_micros(20), || {
            let closed = view.frontier();
            Ok(closed.is_none_or(|closed| frontier.is_some_and(|frontier| closed >= frontier)).then_some(()))
        })
    };
    // One row so that everything that is built once is there.
    push(0..1)?;
    let before = memory::live_bytes();
    let mut peak = 0;
    for first in (1..rows).step_by(ROUND) {
        push(first..(first + ROUND as u64).min(rows))?;
        peak = peak.max(memory::live_bytes() - before);
    }
    // What is merged in the background is merged by then.
    std::thread::sleep(Duration::from_secs(1));
    let rest = memory::live_bytes() - before;
    let bytes = |live: i64| live as f64 / rows as f64;
    let mut measured = Measured::new(vec![bytes(peak)]);
    measured.notes.push(format!("{:.0} bytes a key at rest, {:.0} at the peak", bytes(rest), bytes(peak)));
    let answer = view.snapshot()?;
    let [keys, ns, sums] = [0, 1, 2].map(|column| answer.column(column).as_primitive::<Int64Type>().values());
    let wrong = ns.iter().find(|n| **n != 1).map(|n| format!("a key was counted {n} times"));
    let got = (keys.len() as u64, state_checksum(keys.iter().copied().zip(sums.iter().copied())));
    let want = (rows, state_checksum((0..rows).map(state_row)));
    Ok(measured.checked(wrong.or_else(|| (got != want).then(|| format!("{got:?} instead of {want:?}")))))
}
