//! Nothing that a query asks for ends the program that asks: it is an error of the row, the view or the statement, and
//! all others go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::arrow::array::{AsArray, Int64Array, StringArray};
use headwater::arrow::datatypes::{DataType, Int64Type};
use headwater::datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use headwater::{OnError, Session, View};

use crate::oracle::{self, Multiset};

fn says(error: impl ToString, what: &[&str]) {
    let error = error.to_string();
    what.iter().for_each(|what| assert!(error.contains(what), "'{what}' is not in: {error}"));
}

/// A function that has a fault: it panics where it is given a 13.
fn boom() -> ScalarUDF {
    let body = |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let checked = |n: Option<i64>| {
            assert!(n != Some(13), "thirteen is a mistake of the user's");
            n
        };
        let numbers: Int64Array = arrays[0].as_primitive::<Int64Type>().iter().map(checked).collect();
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    };
    create_udf("boom", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(body))
}

fn content(view: &View) -> Multiset {
    oracle::multiset(&view.snapshot().unwrap_or_else(|e| panic!("{}: {e}", view.name())), None)
}

fn rows(rows: &[&[&str]]) -> Multiset {
    let mut all = Multiset::new();
    rows.iter().for_each(|row| *all.entry(row.iter().map(|text| (*text).to_owned()).collect()).or_default() += 1);
    all
}

#[test]
fn a_function_that_panics_is_an_error_of_the_row() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.register_udf(boom());
        session.execute("CREATE TABLE t (id BIGINT, n BIGINT); CREATE TABLE u (n BIGINT)").unwrap();
        let query = session.sql("SELECT id, boom(n) AS b FROM t WHERE boom(n + 0) > 0").unwrap();
        let view = |name: &str, on_error| query.clone().on_error(on_error).create_view(name).unwrap();
        let (fail, null, left) =
            (view("fail", OnError::Fail), view("null", OnError::Null), view("left", OnError::DeadLetter));
        let other = session.sql("SELECT count(*) AS n FROM u").unwrap().create_view("other").unwrap();
        session.execute("INSERT INTO t VALUES (1, 5), (2, 13), (3, 7); INSERT INTO u VALUES (1)").unwrap();
        says(fail.snapshot().unwrap_err(), &["the function boom failed", "thirteen is a mistake", "id = 2, n = 13"]);
        let good = rows(&[&["1", "5"], &["3", "7"]]);
        assert_eq!(content(&null), good);
        assert_eq!(content(&left), good);
        assert_eq!(left.status().left_out, 1);
        let errors = session.sql("SELECT error FROM left.errors").unwrap().collect().unwrap();
        says(errors.column(0).as_string::<i32>().value(0), &["the function boom failed"]);
        session.execute("INSERT INTO u VALUES (2)").unwrap();
        assert_eq!(content(&other), rows(&[&["2"]]));
        // It heals when the row leaves.
        session.execute("DELETE FROM t WHERE id = 2").unwrap();
        assert_eq!(content(&fail), good);
        // A constant is no row; the statement has the error.
        says(session.sql("SELECT boom(13) AS b").unwrap().collect().unwrap_err(), &["the function boom failed"]);
        says(session.execute("INSERT INTO u VALUES (boom(13))").err().unwrap(), &["the function boom failed"]);
    }
}

#[test]
fn a_function_that_gives_something_else_is_an_error_of_the_row() {
    let session = Session::new().unwrap();
    let text = |_: &[ColumnarValue]| Ok(ColumnarValue::Array(Arc::new(StringArray::from(vec!["a", "b"]))));
    session.register_udf(create_udf(
        "odd",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(text),
    ));
    session.execute("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (1), (2)").unwrap();
    let error = session.sql("SELECT odd(n) AS o FROM t").unwrap().collect().unwrap_err();
    says(error, &["the function odd gave Utf8 where it says that it gives Int64"]);
}

#[test]
fn values_that_are_too_large_are_errors_of_their_row() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE t (id INT, n BIGINT, s VARCHAR);
             INSERT INTO t VALUES (1, 3, 'a'), (2, 9223372036854775807, 'b'), (3, -1, 'c'), (4, 1000000000, 'é')",
        )
        .unwrap();
    for (call, good) in [
        ("lpad(s, n)", "  a"),
        ("rpad(s, n)", "a  "),
        ("lpad(s, n, 'ü')", "üüa"),
        ("repeat(s, n)", "aaa"),
        ("cast(range(1, n) AS VARCHAR)", "[1, 2]"),
        ("cast(generate_series(1, n) AS VARCHAR)", "[1, 2, 3]"),
        ("cast(generate_series(0, n, 2) AS VARCHAR)", "[0, 2]"),
        ("cast(array_repeat(id, n) AS VARCHAR)", "[1, 1, 1]"),
    ] {
        let query = session.sql(&format!("SELECT {call} AS y FROM t WHERE id <> 3 AND id <> 4")).unwrap();
        let begin = Instant::now();
        says(query.collect().unwrap_err(), &["the function", "would make a value of", "id = 2"]);
        let left = query.on_error(OnError::Null).collect().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{call}");
        assert_eq!(oracle::multiset(&left, None), rows(&[&[good], &["NULL"]]), "{call}");
    }
    let times = "SELECT generate_series(TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2400-01-01 00:00:00', \
                 INTERVAL '1' MICROSECOND) AS y FROM t";
    assert!(session.sql(times).and_then(|query| query.collect()).is_err());
    assert_eq!(session.sql("SELECT count(*) AS n FROM t").unwrap().collect().unwrap().num_rows(), 1);
}

/// A batch of values that are each within bounds, and together more than memory has.
#[test]
fn a_batch_that_is_too_large_as_a_whole_is_cut() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (n BIGINT)").unwrap();
    let numbers: Vec<_> = (0..40).map(|n| format!("({n})")).collect();
    session.execute(&format!("INSERT INTO t VALUES {}", numbers.join(", "))).unwrap();
    let sum = session.sql("SELECT sum(length(repeat('x', 50000000 + n))) AS n FROM t").unwrap().collect().unwrap();
    assert_eq!(sum.column(0).as_primitive::<Int64Type>().value(0), 40 * 50_000_000 + 780);
}

#[test]
fn long_and_deep_statements_are_planned_or_refused() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, s VARCHAR); INSERT INTO t VALUES (1, 'a'), (2999, 'b')").unwrap();
    let answer = |sql: &str| {
        let begin = Instant::now();
        let rows = session.sql(sql).and_then(|query| query.collect());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?} for {}", begin.elapsed(), &sql[..60]);
        rows.map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec())
    };
    let chain = |n: usize| format!("SELECT id{} AS y FROM t WHERE id = 1", " + 1".repeat(n));
    assert_eq!(answer(&chain(900)).unwrap(), [901]);
    says(answer(&chain(3_000)).unwrap_err(), &["more than 1000 operators follow each other here"]);
    let any: Vec<_> = (0..3_000).map(|n| format!("id = {n}")).collect();
    assert_eq!(answer(&format!("SELECT count(*) AS n FROM t WHERE {}", any.join(" OR "))).unwrap(), [2]);
    let mixed: Vec<_> = (0..1_000).map(|n| format!("(id = {n} AND s <> 'x')")).collect();
    assert_eq!(answer(&format!("SELECT count(*) AS n FROM t WHERE {}", mixed.join(" OR "))).unwrap(), [1]);
    let all: Vec<_> = (10..3_000).map(|n| format!("id <> {n} + 1")).collect();
    assert_eq!(answer(&format!("SELECT count(*) AS n FROM t WHERE {}", all.join(" AND "))).unwrap(), [1]);
    let list: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    assert_eq!(answer(&format!("SELECT count(*) AS n FROM t WHERE id IN ({})", list.join(", "))).unwrap(), [2]);
    let nested = |n: usize| format!("SELECT {}id{} AS y FROM t WHERE id = 1", "(".repeat(n), ")".repeat(n));
    assert_eq!(answer(&nested(40)).unwrap(), [1]);
    says(answer(&nested(5_000)).unwrap_err(), &["nested too deeply", "at most 100 levels"]);
    let mut call = "s".to_owned();
    (0..45).for_each(|_| call = format!("upper({call})"));
    assert_eq!(answer(&format!("SELECT id FROM t WHERE {call} = 'A'")).unwrap(), [1]);
    // Statements go on.
    assert_eq!(answer("SELECT count(*) AS n FROM t").unwrap(), [2]);
}

#[test]
fn a_query_has_columns() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k INT, s TEXT); INSERT INTO t VALUES (1, 'a')").unwrap();
    let all = session.sql("FROM t").unwrap().collect().unwrap();
    assert_eq!(oracle::multiset(&all, None), rows(&[&["1", "a"]]));
    for text in ["SELECT FROM t", "SELECT FROM t WHERE k = 1"] {
        says(session.sql(text).err().unwrap(), &["has no columns"]);
    }
    let none: [headwater::datafusion::logical_expr::Expr; 0] = [];
    says(session.table("t").unwrap().select(none).unwrap().collect().unwrap_err(), &["has no columns"]);
}
