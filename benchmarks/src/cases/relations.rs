//! What an INSERT costs beside many other relations, and with many views over its table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::case::{Better, Case, Failure, Line, Measured, Params, percentiles};
use crate::ours::{Feed, Live, Session, numbers, session, until};
use crate::workload::differs;

/// An INSERT into one of many tables.
pub const NEIGHBOURS: Case = Case {
    name: "neighbours",
    about: "p50 of a one-row INSERT, through its answer, beside 1,000 other tables with a view each",
    against: "the same alone",
    rows: 1_000,
    lines: &[Line { case: "neighbours", unit: "us", better: Better::Less, reach: 0.3, aim: 0.8 }],
    ours: |params| neighbours(params, params.rows),
    baseline: |params| neighbours(params, 0),
};

/// INSERTs into a table that all views read.
pub const MANY_VIEWS: Case = Case {
    name: "many-views",
    about: "one-row INSERTs a second into a table with 1,000 materialized views that all change",
    against: "14 a second, as it was on 26 November 2026",
    rows: 1_000,
    lines: &[Line { case: "many-views", unit: "INSERTs/s", better: Better::More, reach: 5.0, aim: 30.0 }],
    ours: many_views,
    baseline: |_| Ok(Measured::new(vec![14.0])),
};

const KEYS: i64 = 10;
/// INSERTs before the clock starts.
const WARM_UP: i64 = 50;
/// INSERTs that are measured among neighbours.
const MEASURED: i64 = 500;
/// INSERTs that many views are given.
const FANNED_OUT: i64 = 500;

fn insert(session: &Session, table: &str, row: i64) -> Result<(), Failure> {
    session.execute(&format!("INSERT INTO {table} VALUES ({}, {row})", row % KEYS))?;
    Ok(())
}

/// The sum of `v + plus` by key over the first `rows` rows.
fn sums(rows: i64, plus: i64) -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    (0..rows).for_each(|row| *sums.entry(row % KEYS).or_insert(0) += row + plus);
    sums
}

/// A view of keys and sums.
fn content(session: &Session, name: &str) -> Result<BTreeMap<i64, i64>, Failure> {
    Ok(numbers(&session.view(name)?)?.into_iter().map(|row| (row[0], row[1])).collect())
}

fn neighbours(params: &Params, others: usize) -> Result<Measured, Failure> {
    let view = |name: &str, table: &str| {
        format!("CREATE MATERIALIZED VIEW {name} AS SELECT k, sum(v) AS s FROM {table} GROUP BY k;")
    };
    let ddl = format!("CREATE TABLE t (k BIGINT, v BIGINT); {}", view("sums", "t"));
    let session = session(params, &ddl)?;
    let began = Instant::now();
    for i in 0..others {
        session.execute(&format!(
            "CREATE TABLE other_{i} (k BIGINT, v BIGINT); {}",
            view(&format!("sums_{i}"), &format!("other_{i}"))
        ))?;
        insert(&session, &format!("other_{i}"), 1)?;
    }
    let made = began.elapsed().as_secs_f64();
    let mut live = Live::follow(&session, "SELECT k, s FROM sums")?;
    let mut got = BTreeMap::new();
    let (mut latencies, mut statements) = (Vec::new(), Vec::new());
    for row in 0..WARM_UP + MEASURED {
        let begin = Instant::now();
        insert(&session, "t", row)?;
        let returned = begin.elapsed();
        live.changes(|changes, diffs| {
            let [keys, sums] = [0, 1].map(|column| changes.column(column).as_primitive::<Int64Type>().values());
            (0..diffs.len()).filter(|i| diffs[*i] > 0).for_each(|i| {
                got.insert(keys[i], sums[i]);
            });
            Ok(())
        })?;
        if row >= WARM_UP {
            latencies.push(begin.elapsed().as_secs_f64() * 1e6);
            statements.push(returned.as_secs_f64() * 1e6);
        }
    }
    let ([p50, p99], [statement, _]) = (percentiles(latencies), percentiles(statements));
    let mut measured = Measured::new(vec![p50]);
    measured.notes.push(format!(
        "beside {others}: p50 {p50:.0} us, p99 {p99:.0} us, {statement:.0} us of it until the statement returned; \
         the others were made in {made:.1} s"
    ));
    let mut differs = differs(&got, &sums(WARM_UP + MEASURED, 0));
    // The others still follow their own tables.
    if let Some(last) = others.checked_sub(1) {
        insert(&session, &format!("other_{last}"), 1)?;
        let got = content(&session, &format!("sums_{last}"))?;
        differs = differs.or_else(|| crate::workload::differs(&got, &BTreeMap::from([(1, 2)])));
    }
    Ok(measured.checked(differs))
}

fn many_views(params: &Params) -> Result<Measured, Failure> {
    let session = session(params, "CREATE TABLE t (k BIGINT, v BIGINT)")?;
    let views = (0..params.rows).map(|i| {
        let name = format!("sums_{i}");
        session
            .execute(&format!("CREATE MATERIALIZED VIEW {name} AS SELECT k, sum(v + {i}) AS s FROM t GROUP BY k"))?;
        Ok(session.view(&name)?)
    });
    let views = views.collect::<Result<Vec<_>, Failure>>()?;
    let (mut rows, begin) = (FANNED_OUT, Instant::now());
    (0..FANNED_OUT).try_for_each(|row| insert(&session, "t", row))?;
    // A row that is pushed says which frontier answers all rows before it.
    let mut feed = Feed::new(&session, "t")?;
    let last = [rows % KEYS, rows].map(|value| Arc::new(Int64Array::from(vec![value])) as _);
    let [key, value] = last;
    let last = feed.fit(RecordBatch::try_from_iter([("k", key), ("v", value)])?)?;
    rows += 1;
    let frontier = feed.push(last)?.frontier;
    for view in &views {
        until("the answer of a view", Duration::from_micros(50), || {
            let closed = view.frontier();
            Ok(closed.is_none_or(|closed| frontier.is_some_and(|frontier| closed >= frontier)).then_some(()))
        })?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut measured = Measured::new(vec![rows as f64 / seconds]);
    measured.notes.push(format!("{rows} rows into {} views in {seconds:.1} s", views.len()));
    let mut differ = None;
    for (i, view) in views.iter().enumerate() {
        differ = differ.or(differs(&content(&session, view.name())?, &sums(rows, i as i64)));
    }
    Ok(measured.checked(differ))
}
