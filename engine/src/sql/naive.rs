//! Plans evaluated naively, row by row and all at once: what lowering means, held against DataFusion's own executor on
//! random tables with NULLs and duplicates.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::golden::planner;
use super::window_udf;
use crate::plan::{Aggregate, AggregateFunction, OnError, Op, Plan, Purpose};

type Row = Vec<ScalarValue>;

fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let column = |i: usize| -> ArrayRef {
        match rows.is_empty() {
            true => arrow::array::new_empty_array(schema.field(i).data_type()),
            false => ScalarValue::iter_to_array(rows.iter().map(|row| row[i].clone())).unwrap(),
        }
    };
    let columns: Vec<_> = (0..schema.fields().len()).map(column).collect();
    let fields = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(f, c)| arrow::datatypes::Field::new(f.name(), c.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema, columns, &options).unwrap()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let row = |i| batch.columns().iter().map(|c| ScalarValue::try_from_array(c, i).unwrap()).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn pick(row: &Row, columns: &[usize]) -> Row {
    columns.iter().map(|column| row[*column].clone()).collect()
}

fn text(row: &Row) -> String {
    format!("{row:?}")
}

/// The rows of the plan's root, visible columns only.
fn evaluate(plan: &Plan, tables: &BTreeMap<String, RecordBatch>) -> Vec<Row> {
    let mut results: Vec<Vec<Row>> = Vec::new();
    for node in &plan.nodes {
        let input = |i: usize| &results[i];
        let found: Vec<Row> = match &node.op {
            Op::Get { relation, projection } => {
                let name = relation.name();
                rows(&tables[name]).iter().map(|row| pick(row, projection)).collect()
            }
            Op::Constant { rows: constant } => rows(constant),
            Op::Mfp { input: i, predicates, exprs } => {
                let mut kept = input(*i).clone();
                for predicate in predicates {
                    let now = batch(&plan.nodes[*i].schema, &kept);
                    let passes = predicate.evaluate(&now).unwrap().into_array(kept.len()).unwrap();
                    let passes: &BooleanArray = passes.as_boolean();
                    kept = kept.into_iter().zip(passes).filter(|(_, p)| *p == Some(true)).map(|(row, _)| row).collect();
                }
                let now = batch(&plan.nodes[*i].schema, &kept);
                let columns: Vec<_> =
                    exprs.iter().map(|e| e.evaluate(&now).unwrap().into_array(kept.len()).unwrap()).collect();
                let row = |r| columns.iter().map(|c| ScalarValue::try_from_array(c, r).unwrap()).collect();
                (0..kept.len()).map(row).collect()
            }
            Op::Hop { input: i, time, size, slide, offset } => {
                let mut out = Vec::new();
                for row in input(*i) {
                    let ScalarValue::TimestampMicrosecond(Some(t), _) = &row[*time] else { continue };
                    let first = (t - offset - size).div_euclid(*slide);
                    for start in (first..).map(|n| offset + n * slide).take_while(|s| s <= t).filter(|s| *t < s + size)
                    {
                        let time = |us| ScalarValue::TimestampMicrosecond(Some(us), None).to_array().unwrap();
                        let DataType::Struct(fields) = node.schema.field(row.len()).data_type().clone() else {
                            panic!()
                        };
                        let window =
                            arrow::array::StructArray::new(fields, vec![time(start), time(start + size)], None);
                        out.push(row.iter().cloned().chain([ScalarValue::Struct(Arc::new(window))]).collect());
                    }
                }
                out
            }
            Op::Unnest { input: i, column } => {
                let mut out = Vec::new();
                for row in input(*i) {
                    let ScalarValue::List(list) = &row[*column] else { panic!() };
                    if list.is_null(0) {
                        continue;
                    }
                    let items = list.value(0);
                    for item in 0..items.len() {
                        let mut row = row.clone();
                        row[*column] = ScalarValue::try_from_array(&items, item).unwrap();
                        out.push(row);
                    }
                }
                out
            }
            Op::Join { left, right, left_keys, right_keys } => {
                let mut out = Vec::new();
                for l in input(*left) {
                    for r in input(*right) {
                        if pick(l, left_keys) == pick(r, right_keys) {
                            out.push(l.iter().chain(r).cloned().collect());
                        }
                    }
                }
                out
            }
            Op::Semi { left, right, left_keys, right_keys, anti } => {
                let there = |l: &Row| input(*right).iter().any(|r| pick(l, left_keys) == pick(r, right_keys));
                input(*left).iter().filter(|l| there(l) != *anti).cloned().collect()
            }
            Op::Distinct { input: i, .. } => {
                input(*i).iter().map(|row| (text(row), row.clone())).collect::<BTreeMap<_, _>>().into_values().collect()
            }
            Op::Reduce { input: i, keys, aggregates, global, .. } => {
                let mut groups: BTreeMap<String, (Row, Vec<&Row>)> = BTreeMap::new();
                if *global {
                    groups.insert(text(&vec![]), (vec![], vec![]));
                }
                for row in input(*i) {
                    let key = pick(row, keys);
                    groups.entry(text(&key)).or_insert((key, vec![])).1.push(row);
                }
                groups
                    .into_values()
                    .map(|(key, rows)| key.into_iter().chain(aggregates.iter().map(|a| aggregate(a, &rows))).collect())
                    .collect()
            }
            Op::TopK { input: i, group, order, offset, limit } => {
                assert!(group.is_empty());
                let all = batch(&plan.nodes[*i].schema, input(*i));
                let ties = (0..all.num_columns()).map(|column| (column, arrow::compute::SortOptions::default()));
                let columns: Vec<_> = order
                    .iter()
                    .map(|o| (o.column, o.options))
                    .chain(ties)
                    .map(|(c, options)| arrow::compute::SortColumn {
                        values: all.column(c).clone(),
                        options: Some(options),
                    })
                    .collect();
                let sorted = arrow::compute::lexsort_to_indices(&columns, None).unwrap();
                let kept = sorted.values().iter().skip(*offset).take(limit.unwrap_or(usize::MAX));
                kept.map(|index| input(*i)[*index as usize].clone()).collect()
            }
            Op::Union { inputs } => inputs.iter().flat_map(|i| input(*i).clone()).collect(),
            Op::Limit { input: i, rows } => input(*i).iter().take(*rows).cloned().collect(),
            Op::EmitFinal { input: i, .. } => input(*i).clone(),
            Op::Negate { .. } => panic!("lowering makes no negation"),
        };
        results.push(found);
    }
    results[plan.root].iter().map(|row| row[..plan.visible()].to_vec()).collect()
}

fn aggregate(aggregate: &Aggregate, rows: &[&Row]) -> ScalarValue {
    let passes = |row: &&&Row| aggregate.filter.is_none_or(|f| row[f] == ScalarValue::Boolean(Some(true)));
    let rows: Vec<_> = rows.iter().filter(passes).collect();
    let Some(argument) = aggregate.argument else {
        return ScalarValue::Int64(Some(rows.len() as i64));
    };
    let mut values: Vec<ScalarValue> = rows.iter().map(|row| row[argument].clone()).filter(|v| !v.is_null()).collect();
    if aggregate.distinct {
        values = values.into_iter().map(|v| (format!("{v:?}"), v)).collect::<BTreeMap<_, _>>().into_values().collect();
    }
    let floats = || -> Vec<f64> {
        let float = |v: &ScalarValue| match v.cast_to(&DataType::Float64).unwrap() {
            ScalarValue::Float64(Some(f)) => f,
            other => panic!("{other:?}"),
        };
        values.iter().map(float).collect()
    };
    let none = || ScalarValue::try_from(&aggregate.output).unwrap();
    if values.is_empty() && aggregate.function != AggregateFunction::Count {
        return none();
    }
    match aggregate.function {
        AggregateFunction::Count => ScalarValue::Int64(Some(values.len() as i64)),
        AggregateFunction::Sum => ScalarValue::Float64(Some(floats().iter().sum())).cast_to(&aggregate.output).unwrap(),
        AggregateFunction::Avg => ScalarValue::Float64(Some(floats().iter().sum::<f64>() / values.len() as f64)),
        AggregateFunction::Min => values.iter().min_by(|a, b| a.partial_cmp(b).unwrap()).unwrap().clone(),
        AggregateFunction::Max => values.iter().max_by(|a, b| a.partial_cmp(b).unwrap()).unwrap().clone(),
        AggregateFunction::BoolAnd => ScalarValue::Boolean(Some(values.iter().all(|v| *v == ScalarValue::from(true)))),
        AggregateFunction::BoolOr => ScalarValue::Boolean(Some(values.iter().any(|v| *v == ScalarValue::from(true)))),
        AggregateFunction::VarSample
        | AggregateFunction::VarPopulation
        | AggregateFunction::StddevSample
        | AggregateFunction::StddevPopulation => panic!("not compared here"),
    }
}

/// Rows of small values, so that keys meet, with NULLs.
fn random(schema: &SchemaRef, rng: &mut SmallRng) -> RecordBatch {
    let count = rng.random_range(0..12);
    let value = |data_type: &DataType, rng: &mut SmallRng| -> ScalarValue {
        let n: i64 = rng.random_range(0..4);
        match data_type {
            _ if rng.random_bool(0.2) => ScalarValue::try_from(data_type).unwrap(),
            DataType::Int64 => ScalarValue::Int64(Some(n)),
            DataType::Int32 => ScalarValue::Int32(Some(n as i32)),
            DataType::Float64 => ScalarValue::Float64(Some(n as f64 / 4.0)),
            DataType::Utf8 => ScalarValue::Utf8(Some(["x", "y", "z", ""][n as usize].into())),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                ScalarValue::TimestampMicrosecond(Some((n - 2) * 40_000_000), None)
            }
            DataType::List(_) => {
                let items = [ScalarValue::from("x"), ScalarValue::from("y")];
                ScalarValue::List(ScalarValue::new_list(&items[..(n % 3) as usize], &DataType::Utf8, true))
            }
            other => panic!("{other}"),
        }
    };
    let rows: Vec<Row> =
        (0..count).map(|_| schema.fields().iter().map(|f| value(f.data_type(), rng)).collect()).collect();
    let found = batch(schema, &rows);
    RecordBatch::try_new(schema.clone(), found.columns().to_vec()).unwrap()
}

/// Queries whose answer DataFusion gives as well.
const QUERIES: &[&str] = &[
    "SELECT s, a + b AS c FROM log WHERE a > 1 AND b >= 1",
    "SELECT a, count(*) AS n, sum(b), avg(b), min(s), max(s) FROM log GROUP BY a",
    "SELECT count(*), sum(a), min(s) FROM log WHERE a > 2",
    "SELECT a + 1 AS k, sum(b) FILTER (WHERE b > 1) FROM log GROUP BY a + 1 HAVING count(*) > 1",
    "SELECT s, count(DISTINCT a), sum(b), count(DISTINCT b) FILTER (WHERE a > 1) FROM log GROUP BY s",
    "SELECT s, count(DISTINCT a) FROM log GROUP BY s",
    "SELECT s, bool_and(a > 1), bool_or(b > 2), max(DISTINCT a) FROM log GROUP BY s",
    "SELECT DISTINCT a, s FROM log",
    "SELECT a FROM log UNION SELECT b FROM past",
    "SELECT a FROM log UNION ALL SELECT amount FROM events",
    "SELECT a, s FROM log INTERSECT SELECT b, s FROM past",
    "SELECT a, s FROM log EXCEPT SELECT b, s FROM past",
    "SELECT a, b, s FROM log ORDER BY b DESC, a NULLS FIRST, s LIMIT 3 OFFSET 1",
    "SELECT a FROM (SELECT a, b, s FROM log ORDER BY b DESC, a, s LIMIT 3) WHERE a > 0",
    "SELECT l.a, p.s FROM log l JOIN past p ON l.a = p.b",
    "SELECT l.a, p.s FROM log l, past p WHERE l.a = p.b AND l.b > p.a AND l.s = 'x'",
    "SELECT l.a, u.name FROM log l JOIN users u ON l.a = u.age",
    "SELECT l.*, p.* FROM log l LEFT JOIN past p ON l.a = p.b",
    "SELECT l.*, p.* FROM log l LEFT JOIN past p ON l.a = p.b AND l.b > p.a",
    "SELECT l.*, p.* FROM log l LEFT JOIN past p ON l.a = p.b AND l.s = 'x'",
    "SELECT l.*, p.* FROM log l LEFT JOIN past p ON l.b > p.a + 1",
    "SELECT l.*, p.* FROM log l RIGHT JOIN past p ON l.a = p.b AND l.b > p.a",
    "SELECT l.*, p.* FROM log l RIGHT JOIN past p ON l.a + 1 = p.b",
    "SELECT l.*, p.* FROM log l FULL JOIN past p ON l.a = p.b",
    "SELECT l.*, p.* FROM log l FULL JOIN past p ON l.a = p.b AND l.b < p.a + 1",
    "SELECT l.*, p.* FROM log l FULL JOIN past p ON l.a + p.a = 4",
    "SELECT l.a, p.s FROM log l CROSS JOIN past p",
    "SELECT l.a, p.a FROM log l JOIN past p ON l.a < p.a",
    "SELECT l.a, p.a FROM log l JOIN past p ON (l.a IS NOT DISTINCT FROM p.a) AND l.b = p.b",
    "SELECT * FROM log WHERE a IN (SELECT b FROM past)",
    "SELECT * FROM log WHERE a NOT IN (SELECT b FROM past)",
    "SELECT * FROM log WHERE a NOT IN (SELECT b FROM past WHERE b IS NOT NULL)",
    "SELECT * FROM log WHERE a NOT IN (SELECT b FROM past WHERE b > 100)",
    "SELECT * FROM log l WHERE EXISTS (SELECT 1 FROM past p WHERE p.a = l.a AND p.b > l.b)",
    "SELECT * FROM log l WHERE NOT EXISTS (SELECT 1 FROM past p WHERE p.a = l.a AND p.b > l.b)",
    "SELECT * FROM log l WHERE NOT EXISTS (SELECT 1 FROM past p WHERE p.a = l.a)",
    "SELECT * FROM log WHERE NOT EXISTS (SELECT 1 FROM past WHERE a > 2)",
    "SELECT * FROM log l WHERE a IN (SELECT b FROM past) OR s = 'x'",
    "SELECT * FROM log l WHERE EXISTS (SELECT 1 FROM past p WHERE p.a = l.a) OR b = 1",
    "SELECT a, (SELECT max(p.b) FROM past p WHERE p.a = l.a) AS m FROM log l",
    "SELECT a, (SELECT count(*) FROM past p WHERE p.a = l.a) AS m FROM log l",
    "SELECT * FROM log WHERE b > (SELECT avg(b) FROM past)",
    "SELECT * FROM log l LEFT JOIN past p ON l.a = p.b WHERE p.s = 'x' OR l.b = 1",
    "SELECT l.a, p.b, u.name FROM log l JOIN past p USING (a) LEFT JOIN users u ON u.id = l.a AND u.age > p.b",
    "SELECT x.a, y.n FROM (SELECT a, count(*) AS n FROM log GROUP BY a) x JOIN (SELECT a, count(*) AS n FROM past GROUP BY a) y ON x.a = y.n",
    "WITH t AS (SELECT a, sum(b) AS b FROM log GROUP BY a) SELECT x.a, y.b FROM t x LEFT JOIN t y ON x.b = y.a",
    "SELECT window(ts, '1 minute') AS w, region, count(*) FROM events WHERE ts IS NOT NULL GROUP BY 1, 2",
    "SELECT window(ts, '1 minute', '1 minute', '5 seconds')['start'] AS w, sum(amount) FROM events WHERE ts IS NOT NULL GROUP BY 1",
    "SELECT date_trunc('minute', ts) AS m, count(DISTINCT user_id) FROM events GROUP BY 1",
    "SELECT user_id, unnest(tags) AS tag FROM clicks",
    "SELECT CASE WHEN b <> 0 THEN a / b ELSE -1 END AS q, coalesce(s, 'none') FROM log",
    "SELECT x.user_id FROM users u JOIN LATERAL (SELECT user_id FROM events e WHERE e.user_id = u.id) x ON true",
    "SELECT sum(x), y FROM (VALUES (1, 'a'), (2, NULL), (3, 'a')) AS t(x, y) GROUP BY y",
    "SELECT a, a AS again, count(*) FROM log GROUP BY a, a",
    "SELECT count(*) FROM log l JOIN past p ON l.a = p.a WHERE l.s LIKE 'x%' AND p.b BETWEEN 1 AND 2",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM log)",
    "SELECT a FROM log WHERE a IN (1, 2, NULL) AND s NOT IN ('x', 'y')",
];

async fn oracle(query: &str, tables: &BTreeMap<String, RecordBatch>) -> Vec<Row> {
    let context = SessionContext::new();
    context.register_udf(window_udf().as_ref().clone());
    for (name, rows) in tables {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
        context.register_table(name.as_str(), Arc::new(table)).unwrap();
    }
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(rows).collect()
}

fn sorted(rows: Vec<Row>, types: &SchemaRef) -> Vec<String> {
    let cast = |row: Row| -> Row {
        row.iter().zip(types.fields()).map(|(value, f)| value.cast_to(f.data_type()).unwrap()).collect()
    };
    let mut texts: Vec<_> = rows.into_iter().map(|row| text(&cast(row))).collect();
    texts.sort();
    texts
}

#[test]
fn plans_mean_what_datafusion_answers() {
    let mut wrong = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let planner = planner();
    let mut rng = SmallRng::seed_from_u64(7);
    for round in 0..6 {
        let mut tables = BTreeMap::new();
        for name in ["events", "clicks", "users", "airlines", "log", "past"] {
            let schema = planner.table(name).unwrap().schema.clone();
            tables.insert(name.to_string(), random(&schema, &mut rng));
        }
        for query in QUERIES {
            let logical = planner.logical_from_sql(query).unwrap_or_else(|error| panic!("{query}\n{error}"));
            let expected = runtime.block_on(oracle(query, &tables));
            // Where nothing fails NULL for what fails changes nothing.
            for on_error in [OnError::Fail, OnError::Null] {
                let plan = planner.physical(&logical, Purpose::View, on_error);
                let plan = plan.unwrap_or_else(|error| panic!("{query}\n{error}"));
                let expected = sorted(expected.clone(), &plan.schema);
                let found = sorted(evaluate(&plan, &tables), &plan.schema);
                if found != expected {
                    wrong.push(format!(
                        "round {round}: {query}\nfound {found:#?}\nexpected {expected:#?}\n{}",
                        crate::plan::explain::explain(&plan, &|_| None)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers differ, first {}", wrong.len(), wrong.join("\n\n"));
}
