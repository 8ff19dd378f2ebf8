//! Queries over random changes, at every time against DataFusion; errors that heal.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use headwater_operators::Updates;
use headwater_operators::time::Time;
use timely::dataflow::operators::core::Input;

use super::render;
use super::testing::{
    Collected, Output, Shared, Streams, Table, Tables, check, check_as, collect, consolidate, plan, rows, run,
};
use crate::columns::Columns;
use crate::plan::catalog::EventTime;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

/// `t(k, x, y, b, d, ts)`.
fn t_rows(rng: &mut StdRng, rows: usize) -> RecordBatch {
    let words = ["red", "green", "", "blue"];
    let mut maybe = |p: f64| rng.random_bool(p);
    let nulls: Vec<[bool; 6]> = (0..rows).map(|_| std::array::from_fn(|_| maybe(0.85))).collect();
    let k: StringArray = nulls.iter().map(|n| n[0].then(|| words[rng.random_range(0..4)])).collect();
    let x: Int64Array = nulls.iter().map(|n| n[1].then(|| rng.random_range(-3..4))).collect();
    let y: Float64Array = nulls.iter().map(|n| n[2].then(|| rng.random_range(-4..5) as f64 / 2.0 + 0.0)).collect();
    let b: BooleanArray = nulls.iter().map(|n| n[3].then(|| rng.random_bool(0.5))).collect();
    let d: Decimal128Array = nulls.iter().map(|n| n[4].then(|| rng.random_range(-500..500i128))).collect();
    let d = d.with_precision_and_scale(10, 2).unwrap();
    let ts: TimestampMicrosecondArray =
        nulls.iter().map(|n| n[5].then(|| rng.random_range(-3_000_000..3_000_000))).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(k), Arc::new(x), Arc::new(y), Arc::new(b), Arc::new(d), Arc::new(ts)];
    RecordBatch::try_new(t_schema(), columns).unwrap()
}

fn t_schema() -> SchemaRef {
    schema(&[
        ("k", DataType::Utf8),
        ("x", DataType::Int64),
        ("y", DataType::Float64),
        ("b", DataType::Boolean),
        ("d", DataType::Decimal128(10, 2)),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ])
}

/// `u(k, z)`.
fn u_rows(rng: &mut StdRng, rows: usize) -> RecordBatch {
    let words = ["red", "green", "blue", "black"];
    let k: StringArray = (0..rows).map(|_| rng.random_bool(0.9).then(|| words[rng.random_range(0..4)])).collect();
    let z: Int32Array = (0..rows).map(|_| rng.random_bool(0.9).then(|| rng.random_range(0..4))).collect();
    RecordBatch::try_new(u_schema(), vec![Arc::new(k), Arc::new(z)]).unwrap()
}

fn u_schema() -> SchemaRef {
    schema(&[("k", DataType::Utf8), ("z", DataType::Int32)])
}

/// Random rows that come and, if `leave`, go again, all of them in the end.
fn tables(seed: u64, leave: bool) -> Tables {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut out = Tables::new();
    for (name, schema) in [("t", t_schema()), ("u", u_schema())] {
        let mut table = Table::new(schema);
        let mut there: Vec<RecordBatch> = Vec::new();
        for time in 1..6u64 {
            let rows = rng.random_range(0..12);
            let batch = if name == "t" { t_rows(&mut rng, rows) } else { u_rows(&mut rng, rows) };
            table.push(&batch, time * 10, 1);
            there.extend((0..rows).map(|row| batch.slice(row, 1)));
            while leave && !there.is_empty() && rng.random_bool(0.8) {
                table.push(&there.swap_remove(rng.random_range(0..there.len())), time * 10, -1);
            }
        }
        for batch in there.iter().filter(|_| leave) {
            table.push(batch, 100, -1);
        }
        out.insert(name.to_string(), table);
    }
    out
}

#[test]
fn queries_over_changes() {
    let queries = [
        "select k, x from t where x > 0 and y is not null",
        "select x + 1, upper(k), y * 2 from t",
        "select distinct k, b from t",
        "select distinct y from t",
        "select k, count(*), count(x), sum(x), avg(x), min(x), max(x) from t group by k",
        "select k, sum(y), avg(y), min(y), max(y), sum(d), avg(d), min(d), max(d) from t group by k",
        "select x, min(k), max(k), bool_and(b), bool_or(b), min(ts), max(ts), min(b) from t group by x",
        "select k, round(var_samp(x), 6), round(var_pop(y), 6), round(stddev(x), 6), round(stddev_pop(y), 6) from t group by k",
        "select count(distinct x), count(distinct k), sum(distinct x), count(*) filter (where b) from t",
        "select k, count(distinct x) from t group by k",
        "select k, b, count(distinct x) from t group by k, b",
        "select count(distinct k) from t",
        "select b, count(*), count(x), count(k) from (select distinct b, x, k from t) s group by b",
        "select k, count(*) from (select distinct k, b, x, d from t) s group by k",
        "select x, count(*) from (select distinct k, x, d from t) s group by x",
        "select k, sum(x) filter (where b), count(distinct x) filter (where y > 0) from t group by k",
        "select k, count(*) from t group by k having count(*) > 2",
        "select max(n) from (select k, count(*) as n from t group by k) s",
        "select t.k, x, z from t join u on t.k = u.k",
        "select t.k, x, z from t left join u on t.k = u.k and x > 0",
        "select t.k, x, z from t right join u on t.k = u.k",
        "select t.k, x, u.k, z from t full join u on t.k = u.k",
        "select x, z from t join u on t.x < u.z",
        "select x, z from t cross join u where x = 1",
        "select a.x, b.y from t a join t b on a.k = b.k",
        "select k, x from t where k in (select k from u)",
        "select k, x from t where k not in (select k from u where k is not null)",
        "select k, x from t where exists (select 1 from u where u.k = t.k and u.z = 1)",
        "select k, x from t where not exists (select 1 from u where u.k = t.k)",
        "select k from t union select k from u",
        "select k from t union all select k from u",
        "select k from t except select k from u",
        "select k from t intersect select k from u",
        "select k, x, y, b, d, ts from t order by x desc nulls last, k, y, b, d, ts limit 5",
        "select k, x, y, b, d, ts from t order by k, x, y, b, d, ts limit 3 offset 2",
        "with c as (select k, count(*) n from t group by k) select a.k, a.n, b.n from c a join c b on a.n = b.n",
        "select case when x = 0 then null else 10 / x end from t",
        "select k, sum(x) from (select k, x from t union all select k, z from u) s group by k",
        "select * from (values (1, 'a'), (2, 'b')) v(n, s)",
        "select k, unnest(make_array(x, x + 1)) from t where x is not null",
        "select z, s from u join (values (1, 'a'), (2, 'b')) v(n, s) on u.z = v.n",
    ];
    for (seed, sql) in queries.iter().enumerate() {
        check(sql, &tables(seed as u64, true));
    }
}

#[test]
fn large_batches_are_combined_before_they_move() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut table = Table::new(t_schema());
    let batch = t_rows(&mut rng, 400);
    table.push(&batch, 1, 1);
    table.push(&batch.slice(0, 150), 2, -1);
    table.push(&t_rows(&mut rng, 200), 2, 2);
    let tables = Tables::from([("t".to_string(), table)]);
    check("select k, count(*), count(x), count(*) filter (where b) from t group by k", &tables);
    check("select x, count(*) from t group by x", &tables);
    check("select distinct k, x from t", &tables);
    check("select k, count(distinct x) from t group by k", &tables);
}

#[test]
fn append_only_queries() {
    for sql in [
        "select k, min(x), max(x), min(y), max(y), min(k), max(b), max(d) from t group by k",
        "select min(ts), max(k) from t",
    ] {
        check_as(sql, sql, &tables(7, false), |meta| meta.append_only = true);
    }
}

#[test]
fn windows() {
    let tables = tables(3, true);
    check_as(
        "select w['start'], k, count(*) from (select window(ts, '1 second') as w, k from t) s group by w, k",
        "select date_bin(interval '1 second', ts), k, count(*) from t where ts is not null group by 1, 2",
        &tables,
        |_| {},
    );
    check_as(
        "select w['start'], w['end'], k, count(distinct x) from (select window(ts, '1 second') as w, k, x from t) s group by w, k",
        "select date_bin(interval '1 second', ts), date_bin(interval '1 second', ts) + interval '1 second', k, count(distinct x)
            from t where ts is not null group by 1, 2, 3",
        &tables,
        |_| {},
    );
    // Windows that begin together may be of two sizes.
    check_as(
        "select w['start'], w['end'], count(distinct x), count(*) from (
            select window(ts, '1 second') as w, x from t union all select window(ts, '2 seconds'), x from t) s group by w",
        "select s, e, count(distinct x), count(*) from (
            select date_bin(interval '1 second', ts) as s, date_bin(interval '1 second', ts) + interval '1 second' as e, x
                from t where ts is not null
            union all
            select date_bin(interval '2 seconds', ts), date_bin(interval '2 seconds', ts) + interval '2 seconds', x
                from t where ts is not null) s group by s, e",
        &tables,
        |_| {},
    );
    check_as(
        "select w['end'], count(*) from (select window(ts, '2 seconds', '1 second') as w from t) s group by w",
        "select e, count(*) from (
            select date_bin(interval '1 second', ts) + interval '1 second' as e from t where ts is not null
            union all
            select date_bin(interval '1 second', ts) + interval '2 second' from t where ts is not null) s group by e",
        &tables,
        |_| {},
    );
}

#[test]
fn released_windows_keep_their_results() {
    // All rows arrive before their window is final, so that nothing is ignored.
    let mut rng = StdRng::seed_from_u64(5);
    let mut table = Table::new(t_schema());
    let base = headwater_operators::time::from_micros(0);
    for second in 0..20i64 {
        let rows = t_rows(&mut rng, 30);
        let stamp = second * 1_000_000;
        let times: TimestampMicrosecondArray = (0..30).map(|_| Some(stamp - rng.random_range(0..1_500_000))).collect();
        let mut columns = rows.columns().to_vec();
        columns[5] = Arc::new(times);
        let batch = RecordBatch::try_new(t_schema(), columns).unwrap();
        table.push(&batch, (base as i128 + i128::from(stamp)) as u64, 1);
    }
    let tables = Tables::from([("t".to_string(), table)]);
    for aggregates in ["count(distinct x), max(y)", "count(distinct x)"] {
        check_as(
            &format!(
                "select w['start'], k, {aggregates} from (select window(ts, '1 second') as w, k, x, y from t) s group by w, k"
            ),
            &format!("select date_bin(interval '1 second', ts), k, {aggregates} from t group by 1, 2"),
            &tables,
            |meta| {
                meta.append_only = true;
                meta.event_time = Some(EventTime { column: 5, delay_us: 1_500_000, resolution_us: 0 });
            },
        );
    }
}

fn ints(schema: &SchemaRef, rows: &[(i64, i64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
    ];
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

#[test]
fn errors_are_rows_that_heal() {
    let schema = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let mut table = Table::new(schema.clone());
    table.push(&ints(&schema, &[(1, 1), (6, 0), (8, 2), (5, 0)]), 1, 1);
    table.push(&ints(&schema, &[(6, 0)]), 2, -1);
    table.push(&ints(&schema, &[(5, 0)]), 3, -1);
    let tables = Tables::from([("t".to_string(), table)]);
    let there = |rows: &[&str]| rows.iter().map(|r| (r.to_string(), 1)).collect::<BTreeMap<_, _>>();
    for workers in [1, 2] {
        let output = run(&plan("select a / b from t", &tables), &tables, workers);
        assert_eq!(output.at(3), there(&["1", "4"]));
        let rows = |time: u64, diff: i64| -> Vec<&str> {
            output.errors[&time].iter().filter(|(_, d)| **d == diff).map(|(e, _)| e.row.as_str()).collect()
        };
        assert_eq!(rows(1, 1), ["a = 5, b = 0", "a = 6, b = 0"]);
        assert_eq!(rows(2, -1), ["a = 6, b = 0"]);
        assert_eq!(rows(3, -1), ["a = 5, b = 0"]);
        let error = output.errors[&1].keys().next().unwrap();
        assert_eq!(error.message, "Divide by zero error");
        assert!(error.expression.contains('/'), "{error:?}");
    }
}

#[test]
fn arithmetic_fails_on_overflow() {
    let schema = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let mut table = Table::new(schema.clone());
    table.push(&ints(&schema, &[(i64::MAX, 1), (i64::MIN, 1), (3, 4)]), 1, 1);
    let tables = Tables::from([("t".to_string(), table)]);
    for (sql, failing, passing) in [
        ("select a + b from t", 1, 2),
        ("select a - b from t", 1, 2),
        ("select a * 2 from t", 2, 1),
        ("select -a from t", 1, 2),
    ] {
        let output = run(&plan(sql, &tables), &tables, 1);
        assert_eq!(output.errors[&1].len(), failing, "{sql}");
        assert_eq!(output.at(1).len(), passing, "{sql}");
    }
}

#[test]
fn sums_that_overflow_heal() {
    let schema = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let mut table = Table::new(schema.clone());
    table.push(&ints(&schema, &[(1, i64::MAX), (2, 5)]), 1, 1);
    table.push(&ints(&schema, &[(1, 7)]), 2, 1);
    table.push(&ints(&schema, &[(1, i64::MAX)]), 3, -1);
    let tables = Tables::from([("t".to_string(), table)]);
    let output = run(&plan("select a, sum(b) from t group by a", &tables), &tables, 1);
    assert_eq!(output.at(1).into_keys().collect::<Vec<_>>(), [format!("1,{}", i64::MAX), "2,5".to_string()]);
    assert_eq!(output.at(2).into_keys().collect::<Vec<_>>(), ["2,5"]);
    assert_eq!(output.at(3).into_keys().collect::<Vec<_>>(), ["1,7", "2,5"]);
    let (error, diff) = output.errors[&2].iter().next().unwrap();
    assert_eq!((error.row.as_str(), *diff), ("a = 1", 1));
    assert!(error.message.contains("overflow"), "{error:?}");
    assert_eq!(output.errors[&3].values().sum::<i64>(), -1);
}

#[test]
fn a_retraction_of_nothing_is_an_error() {
    let schema = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let mut table = Table::new(schema.clone());
    table.push(&ints(&schema, &[(1, 2)]), 1, -1);
    table.push(&ints(&schema, &[(1, 2)]), 2, 1);
    let tables = Tables::from([("t".to_string(), table)]);
    for sql in
        ["select distinct a, b from t", "select a, count(*) from t group by a", "select a, b from t order by a limit 1"]
    {
        let output = run(&plan(sql, &tables), &tables, 1);
        assert_eq!(output.errors[&1].values().sum::<i64>(), 1, "{sql}");
        assert_eq!(output.errors[&2].values().sum::<i64>(), -1, "{sql}");
        assert!(output.rows.is_empty(), "{sql}");
    }
}

#[test]
fn zeros_and_nans_are_one_key_each() {
    let schema = schema(&[("y", DataType::Float64), ("s", DataType::Utf8)]);
    let ys = Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5]);
    let words = StringArray::from(vec!["a", "b", "c", "d", "e"]);
    let mut table = Table::new(schema.clone());
    table.push(&RecordBatch::try_new(schema, vec![Arc::new(ys), Arc::new(words)]).unwrap(), 1, 1);
    let tables = Tables::from([("t".to_string(), table)]);
    let rows = |sql: &str| run(&plan(sql, &tables), &tables, 2).at(1).into_keys().collect::<Vec<_>>();
    assert_eq!(rows("select y, count(*) from t group by y"), ["0.0,2", "1.5,1", "NaN,2"]);
    assert_eq!(rows("select distinct y from t"), ["0.0", "1.5", "NaN"]);
    // A join pairs them and shows each as it is.
    let pairs = rows("select a.y, a.s, b.s from t a join t b on a.y = b.y where a.s in ('a', 'b')");
    assert_eq!(pairs, ["-0.0,b,a", "-0.0,b,b", "0.0,a,a", "0.0,a,b"]);
}

#[test]
fn a_late_dataflow_reads_a_shared_arrangement() {
    let tables = tables(11, true);
    let plan = plan("select t.k, x, z from t join u on t.k = u.k", &tables);
    let expected = run(&plan, &tables, 1);
    let output = timely::execute_directly(move |worker| {
        let shared = Shared::default();
        let mut handles = worker.dataflow::<Time, _, _>(|scope| {
            let (mut handles, mut relations) = (BTreeMap::new(), BTreeMap::new());
            for name in tables.keys() {
                let (handle, stream) = scope.new_input::<Updates<Columns>>();
                handles.insert(name.clone(), handle);
                relations.insert(name.clone(), stream);
            }
            render(&plan, scope, &mut Streams { relations, as_of: 0, shared: shared.clone() });
            handles
        });
        let mut feed = |worker: &mut timely::worker::Worker, times: std::ops::Range<Time>| {
            for time in times.clone() {
                for (name, handle) in &mut handles {
                    handle.advance_to(time);
                    for updates in tables[name].batches.iter().filter(|b| b.times.first() == Some(&time)) {
                        handle.send_batch(&mut updates.clone());
                    }
                }
            }
            handles.values_mut().for_each(|handle| handle.advance_to(times.end));
            for _ in 0..100 {
                worker.step();
            }
        };
        feed(worker, 0..31);
        let collected = Collected::default();
        worker.dataflow::<Time, _, _>(|scope| {
            // It has no relations to read.
            let mut inputs = Streams { relations: BTreeMap::new(), as_of: 30, shared: shared.clone() };
            let rendered = render(&plan, scope, &mut inputs);
            collect(rendered.ok, collected.clone(), rows);
        });
        feed(worker, 31..101);
        drop(handles);
        shared.borrow_mut().clear();
        while worker.step() {}
        collected.take()
    });
    let output = Output { rows: consolidate(output), errors: BTreeMap::new() };
    assert_eq!(output.rows.keys().next(), Some(&30));
    for time in [30, 40, 50, 100] {
        assert_eq!(output.at(time), expected.at(time), "at {time}");
    }
}
