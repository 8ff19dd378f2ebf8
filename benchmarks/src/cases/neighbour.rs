//! What a view notices of another view's hydration on the same worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::join;
use crate::case::{Better, Case, Failure, Line, Measured, Params, percentiles};
use crate::ours::{Feed, Hydration, Live, session};
use crate::workload::Random;

/// A small view's p99 while a join hydrates beside it.
pub const NEIGHBOUR: Case = Case {
    name: "hydration-neighbour",
    about: "p99 of a small view's 1,000-row rounds while a join of two tables of 5M rows hydrates",
    against: "the same view alone",
    rows: 5_000_000,
    lines: &[Line { case: "hydration-neighbour", unit: "us", better: Better::Less, reach: 0.3, aim: 0.6 }],
    ours: |params| measure(params, true),
    baseline: |params| measure(params, false),
};

/// Rounds measured when the view is alone.
const ALONE: usize = 2_000;
const ROUND: usize = 1_000;
const KEYS: u64 = 100;

fn measure(params: &Params, hydrate: bool) -> Result<Measured, Failure> {
    let session =
        session(params, &format!("{} CREATE TABLE facts (k BIGINT) WITH (connector = 'channel')", join::DDL))?;
    let query = "SELECT k, count(*) AS n FROM facts GROUP BY k";
    let (tables, filled) = join::fill(&session, params.seed, params.rows)?;
    let mut facts = Feed::new(&session, "facts")?;
    let mut live = Live::follow(&session, query)?;
    let mut random = Random::new(params.seed);
    let (mut got, mut want) = (BTreeMap::new(), BTreeMap::new());
    let mut round = |live: &mut Live| -> Result<f64, Failure> {
        let keys: Vec<i64> = (0..ROUND).map(|_| random.below(KEYS) as i64).collect();
        keys.iter().for_each(|k| *want.entry(*k).or_insert(0i64) += 1);
        let batch = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(keys)) as _)])?;
        let pushed = Instant::now();
        live.round(&mut facts, batch, |changes, diffs| {
            let keys = changes.column(0).as_primitive::<Int64Type>();
            let ns = changes.column(1).as_primitive::<Int64Type>();
            for (row, diff) in diffs.iter().enumerate() {
                if *diff > 0 {
                    got.insert(keys.value(row), ns.value(row));
                }
            }
            Ok(())
        })?;
        Ok(pushed.elapsed().as_secs_f64() * 1e6)
    };
    for _ in 0..100 {
        round(&mut live)?;
    }
    let mut latencies = Vec::new();
    let mut notes = Vec::new();
    let mut differs = None;
    if hydrate {
        let take = |sum: &mut join::Checksum, rows: &RecordBatch, diffs: &[i64]| sum.add_batch(rows, diffs);
        // Memory that the process touches for the first time can cost milliseconds a page, on a virtual machine above
        // all: that is not the engine's, and a process that has lived for a while has it.
        Hydration::start(&session, join::QUERY, filled, join::Checksum::default(), take).finish()?;
        let hydration = Hydration::start(&session, join::QUERY, filled, join::Checksum::default(), take);
        while !hydration.is_done() {
            latencies.push(round(&mut live)?);
        }
        let (seconds, sum) = hydration.finish()?;
        let [left, right] = join::tables(params.seed, params.rows);
        let want = join::expected(left, right);
        differs = (sum != want).then(|| format!("the join gave {sum:?} instead of {want:?}"));
        notes.push(format!("{} rounds in the {seconds:.2} s of the hydration", latencies.len()));
    } else {
        for _ in 0..ALONE {
            latencies.push(round(&mut live)?);
        }
    }
    drop(tables);
    let [p50, p99] = percentiles(latencies);
    notes.push(format!("p50 {p50:.0} us, p99 {p99:.0} us {}", if hydrate { "beside the hydration" } else { "alone" }));
    let measured = Measured { notes, ..Measured::new(vec![p99]) };
    Ok(measured.checked(differs.or_else(|| crate::workload::differs(&got, &want))))
}
