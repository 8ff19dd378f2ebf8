//! Rows on which an expression fails: in error, NULL or left out, as a query asks (semantics 22). The model is DataFusion
//! asked with guards in the query: over the rows that don't fail, or with what is NULL written down.

use std::time::Instant;

use headwater::arrow::array::{AsArray, RecordBatch};
use headwater::arrow::datatypes::{Int64Type, SchemaRef};
use headwater::{Error, Input, OnError, OutputMode, Session, Trigger, View};
use rand::Rng;

use crate::oracle::{self, Batch, Multiset, PATIENCE, Row, batch, row};

fn says(error: impl ToString, what: &[&str]) {
    let error = error.to_string();
    what.iter().for_each(|what| assert!(error.contains(what), "'{what}' is not in: {error}"));
}

fn refused(session: &Session, text: &str) -> Error {
    session.execute(text).err().unwrap_or_else(|| panic!("this was taken: {text}"))
}

fn content(view: &View) -> Multiset {
    oracle::multiset(&view.snapshot().unwrap_or_else(|e| panic!("{}: {e}", view.name())), None)
}

fn left_out(view: &View, wanted: u64) {
    let begin = Instant::now();
    while view.status().left_out != wanted {
        assert!(begin.elapsed() < PATIENCE, "{} leaves out {}, not {wanted}", view.name(), view.status().left_out);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A query, and three for the model: with NULL for what fails, without the rows that fail, and for how many fail.
struct Case {
    ours: &'static str,
    null: &'static str,
    without: &'static str,
    failing: &'static str,
}

/// `a / b` fails where `a` is there and `b` is 0; `s` is a number or not.
const CASES: &[Case] = &[
    Case {
        ours: "SELECT id, a / b AS q, CAST(s AS BIGINT) AS n, k FROM t",
        null: "SELECT id, a / nullif(b, 0) AS q, TRY_CAST(s AS BIGINT) AS n, k FROM t",
        without: "SELECT id, a / nullif(b, 0) AS q, TRY_CAST(s AS BIGINT) AS n, k FROM t \
                  WHERE (a IS NULL OR b IS DISTINCT FROM 0) AND (s IS NULL OR TRY_CAST(s AS BIGINT) IS NOT NULL)",
        failing: "SELECT count(*) FROM t \
                  WHERE a IS NOT NULL AND b = 0 OR s IS NOT NULL AND TRY_CAST(s AS BIGINT) IS NULL",
    },
    // A predicate before guards those that can fail.
    Case {
        ours: "SELECT id, k FROM t WHERE k > 1 AND a % b = 0",
        null: "SELECT id, k FROM t WHERE k > 1 AND a % nullif(b, 0) = 0",
        without: "SELECT id, k FROM t WHERE k > 1 AND a % nullif(b, 0) = 0",
        failing: "SELECT count(*) FROM t WHERE k > 1 AND a IS NOT NULL AND b = 0",
    },
    // It is the whole column that fails, and the whole predicate; what is not reached does not.
    Case {
        ours: "SELECT id, coalesce(a / b, -1) AS q, k = 1 OR a / b > 1 AS r FROM t",
        null: "SELECT id, CASE WHEN a IS NULL OR b IS DISTINCT FROM 0 THEN coalesce(a / nullif(b, 0), -1) END AS q, \
               k = 1 OR a / nullif(b, 0) > 1 AS r FROM t",
        without: "SELECT id, coalesce(a / nullif(b, 0), -1) AS q, k = 1 OR a / nullif(b, 0) > 1 AS r FROM t \
                  WHERE a IS NULL OR b IS DISTINCT FROM 0",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT id FROM t WHERE a / b > 1 OR k = 1",
        null: "SELECT id FROM t WHERE (a IS NULL OR b IS DISTINCT FROM 0) AND (a / nullif(b, 0) > 1 OR k = 1)",
        without: "SELECT id FROM t WHERE (a IS NULL OR b IS DISTINCT FROM 0) AND (a / nullif(b, 0) > 1 OR k = 1)",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    // What a subquery made NULL is NULL above it, whatever is moved or merged.
    Case {
        ours: "SELECT id, coalesce(q, -1) AS q FROM (SELECT id, a / b AS q FROM t) AS x WHERE q IS NULL OR q > 2",
        null: "SELECT id, coalesce(q, -1) AS q FROM (SELECT id, a / nullif(b, 0) AS q FROM t) AS x WHERE q IS NULL OR q > 2",
        without: "SELECT id, coalesce(q, -1) AS q FROM (SELECT id, a / nullif(b, 0) AS q FROM t \
                  WHERE a IS NULL OR b IS DISTINCT FROM 0) AS x WHERE q IS NULL OR q > 2",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT k, sum(a / b) AS s, count(*) AS n, min(a / b) FILTER (WHERE a / b > 1) AS lo FROM t GROUP BY k",
        null: "SELECT k, sum(a / nullif(b, 0)) AS s, count(*) AS n, \
               min(a / nullif(b, 0)) FILTER (WHERE a / nullif(b, 0) > 1) AS lo FROM t GROUP BY k",
        without: "SELECT k, sum(a / nullif(b, 0)) AS s, count(*) AS n, \
                  min(a / nullif(b, 0)) FILTER (WHERE a / nullif(b, 0) > 1) AS lo \
                  FROM t WHERE a IS NULL OR b IS DISTINCT FROM 0 GROUP BY k",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT a / b AS q, count(*) AS n FROM t GROUP BY a / b",
        null: "SELECT a / nullif(b, 0) AS q, count(*) AS n FROM t GROUP BY 1",
        without: "SELECT a / nullif(b, 0) AS q, count(*) AS n FROM t WHERE a IS NULL OR b IS DISTINCT FROM 0 GROUP BY 1",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    // A sum that overflows, beside an aggregate that does not.
    Case {
        ours: "SELECT k, sum(big) AS s, count(*) AS n FROM t GROUP BY k",
        null: "SELECT k, CASE WHEN s <= 9223372036854775807 THEN s END AS s, n FROM \
               (SELECT k, sum(CAST(big AS DECIMAL(38, 0))) AS s, count(*) AS n FROM t GROUP BY k) AS x",
        without: "SELECT k, s, n FROM (SELECT k, sum(CAST(big AS DECIMAL(38, 0))) AS s, count(*) AS n FROM t GROUP BY k) \
                  AS x WHERE s IS NULL OR s <= 9223372036854775807",
        failing: "SELECT count(*) FROM (SELECT k, sum(CAST(big AS DECIMAL(38, 0))) AS s FROM t GROUP BY k) AS x \
                  WHERE s > 9223372036854775807",
    },
    // Above an aggregate.
    Case {
        ours: "SELECT k, sum(a) / count(b) AS r FROM t GROUP BY k",
        null: "SELECT k, sum(a) / nullif(count(b), 0) AS r FROM t GROUP BY k",
        without: "SELECT k, sum(a) / nullif(count(b), 0) AS r FROM t GROUP BY k HAVING sum(a) IS NULL OR count(b) > 0",
        failing: "SELECT count(*) FROM (SELECT k FROM t GROUP BY k HAVING sum(a) IS NOT NULL AND count(b) = 0) AS x",
    },
    // Below, in and above joins.
    Case {
        ours: "SELECT x.id, u.d FROM (SELECT id, a / b AS q FROM t) AS x JOIN u ON x.q = u.k",
        null: "SELECT t.id, u.d FROM t JOIN u ON a / nullif(b, 0) = u.k",
        without: "SELECT t.id, u.d FROM t JOIN u ON a / nullif(b, 0) = u.k",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT x.id, x.q, u.d FROM (SELECT id, a / b AS q FROM t) AS x LEFT JOIN u ON x.q = u.k",
        null: "SELECT x.id, x.q, u.d FROM (SELECT id, a / nullif(b, 0) AS q FROM t) AS x LEFT JOIN u ON x.q = u.k",
        without: "SELECT x.id, x.q, u.d FROM (SELECT id, a / nullif(b, 0) AS q FROM t \
                  WHERE a IS NULL OR b IS DISTINCT FROM 0) AS x LEFT JOIN u ON x.q = u.k",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT t.id, t.a / u.d AS q FROM t JOIN u ON t.k = u.k",
        null: "SELECT t.id, t.a / nullif(u.d, 0) AS q FROM t JOIN u ON t.k = u.k",
        without: "SELECT t.id, t.a / nullif(u.d, 0) AS q FROM t JOIN u ON t.k = u.k WHERE t.a IS NULL OR u.d IS DISTINCT \
                  FROM 0",
        failing: "SELECT count(*) FROM t JOIN u ON t.k = u.k WHERE t.a IS NOT NULL AND u.d = 0",
    },
    Case {
        ours: "SELECT t.id, u.d FROM t JOIN u ON t.k = u.k AND t.a / u.d > 1",
        null: "SELECT t.id, u.d FROM t JOIN u ON t.k = u.k AND t.a / nullif(u.d, 0) > 1",
        without: "SELECT t.id, u.d FROM t JOIN u ON t.k = u.k AND t.a / nullif(u.d, 0) > 1",
        failing: "SELECT count(*) FROM t JOIN u ON t.k = u.k WHERE t.a IS NOT NULL AND u.d = 0",
    },
    Case {
        ours: "SELECT id FROM t WHERE a / b IN (SELECT k FROM u)",
        null: "SELECT id FROM t WHERE a / nullif(b, 0) IN (SELECT k FROM u)",
        without: "SELECT id FROM t WHERE a / nullif(b, 0) IN (SELECT k FROM u)",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT DISTINCT a / b AS q FROM t",
        null: "SELECT DISTINCT a / nullif(b, 0) AS q FROM t",
        without: "SELECT DISTINCT a / nullif(b, 0) AS q FROM t WHERE a IS NULL OR b IS DISTINCT FROM 0",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT a / b AS q FROM t UNION ALL SELECT k FROM u",
        null: "SELECT a / nullif(b, 0) AS q FROM t UNION ALL SELECT k FROM u",
        without: "SELECT a / nullif(b, 0) AS q FROM t WHERE a IS NULL OR b IS DISTINCT FROM 0 UNION ALL SELECT k FROM u",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
    Case {
        ours: "SELECT id, a / b AS q FROM t ORDER BY a / b DESC, id LIMIT 4",
        null: "SELECT id, a / nullif(b, 0) AS q FROM t ORDER BY 2 DESC, 1 LIMIT 4",
        without: "SELECT id, a / nullif(b, 0) AS q FROM t WHERE a IS NULL OR b IS DISTINCT FROM 0 ORDER BY 2 DESC, 1 LIMIT 4",
        failing: "SELECT count(*) FROM t WHERE a IS NOT NULL AND b = 0",
    },
];

/// Changes both tables at random, and knows what is in them.
struct Writer {
    random: rand::rngs::SmallRng,
    inputs: [Input; 2],
    there: [Vec<Row>; 2],
    schemas: [SchemaRef; 2],
    id: usize,
}

impl Writer {
    fn new(session: &Session, seed: u64) -> Self {
        let names = ["t", "u"];
        Writer {
            random: oracle::random(seed),
            inputs: names.map(|name| session.input(name).unwrap()),
            there: Default::default(),
            schemas: names.map(|name| session.table(name).unwrap().schema()),
            id: 0,
        }
    }

    /// Changes of a few rows each; without rows that come there are only ones that leave.
    fn write(&mut self, changes: usize, comes: f64) {
        for _ in 0..changes {
            let table = usize::from(self.random.random_bool(0.2));
            let (mut rows, mut diffs) = (Vec::new(), Vec::new());
            for _ in 0..self.random.random_range(1..6) {
                let there = &mut self.there[table];
                if !self.random.random_bool(comes) {
                    if !there.is_empty() {
                        rows.push(there.swap_remove(self.random.random_range(0..there.len())));
                        diffs.push(-1);
                    }
                    continue;
                }
                let random = &mut self.random;
                self.id += 1;
                let key = oracle::one_of(random, &["-", "1", "2", "3"]);
                let number = oracle::one_of(random, &["-", "0", "1", "2", "2", "3"]);
                let row = match table {
                    0 => vec![
                        Some(self.id.to_string()),
                        key,
                        oracle::one_of(random, &["-", "1", "2", "6", "9"]),
                        number,
                        oracle::one_of(random, &["-", "7", "12", "1", "x"]),
                        oracle::one_of(random, &["-", "5", "9223372036854775800"]),
                    ],
                    _ => vec![key, number],
                };
                there.push(row.clone());
                rows.push(row);
                diffs.push(1);
            }
            if !rows.is_empty() {
                self.inputs[table].push_atomic(batch(&self.schemas[table], &rows), diffs).unwrap();
            }
        }
    }

    /// Takes out the rows that could fail.
    fn heal(&mut self) {
        let zero = Some("0".to_owned());
        for table in 0..2 {
            let fails = |row: &Row| match table {
                0 => {
                    row[3] != Some("1".into())
                        || row[4] == Some("x".into())
                        || row[5].as_ref().is_some_and(|b| b.len() > 3)
                }
                _ => row[1] == zero,
            };
            let (leave, stay): (Vec<Row>, Vec<Row>) =
                std::mem::take(&mut self.there[table]).into_iter().partition(fails);
            self.there[table] = stay;
            if !leave.is_empty() {
                let diffs = vec![-1; leave.len()];
                self.inputs[table].push_atomic(batch(&self.schemas[table], &leave), diffs).unwrap();
            }
        }
    }

    fn model(&self) -> Batch {
        let of = |table: usize| batch(&self.schemas[table], &self.there[table]);
        Batch::over(&[("t", of(0)), ("u", of(1))])
    }
}

fn number(rows: &RecordBatch) -> i64 {
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

fn session(workers: usize) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    session
        .execute(
            "CREATE TABLE t (id BIGINT, k BIGINT, a BIGINT, b BIGINT, s TEXT, big BIGINT); CREATE TABLE u (k BIGINT, d BIGINT)",
        )
        .unwrap();
    session
}

/// The views of a case: one in each mode, and one over the rows that are left out.
struct Views {
    fail: View,
    null: View,
    without: View,
    errors: View,
}

fn views(session: &Session, name: &str, sql: &str) -> Views {
    let create = |mode: &str| {
        let name = format!("{name}_{mode}");
        let with = if mode == "fail" { String::new() } else { format!("WITH (on_error = '{mode}')") };
        session.execute(&format!("CREATE MATERIALIZED VIEW {name} {with} AS {sql}")).unwrap();
        session.view(&name).unwrap()
    };
    let (fail, null, without) = (create("fail"), create("null"), create("dead_letter"));
    let over = format!("SELECT row, error FROM {name}_dead_letter.errors");
    let errors = session.sql(&over).unwrap().create_view(&format!("{name}_errors")).unwrap();
    Views { fail, null, without, errors }
}

fn compare(session: &Session, case: &Case, views: &Views, model: &Batch, context: &str) {
    let Case { ours, null, without, failing } = case;
    let expected = |sql: &str| oracle::multiset(&model.answer(sql), None);
    assert_eq!(content(&views.null), expected(null), "null, {context}: {ours}");
    assert_eq!(content(&views.without), expected(without), "dead_letter, {context}: {ours}");
    let failing = number(&model.answer(failing));
    assert_eq!(content(&views.errors).values().sum::<i64>(), failing, "errors, {context}: {ours}");
    left_out(&views.without, failing as u64);
    let counted = format!("SELECT count(*) AS n FROM {}.errors", views.without.name());
    assert_eq!(number(&session.sql(&counted).unwrap().collect().unwrap()), failing, "{context}: {ours}");
    match failing {
        0 => assert_eq!(content(&views.fail), expected(without), "fail, {context}: {ours}"),
        _ => {
            says(views.fail.snapshot().err().unwrap_or_else(|| panic!("no error, {context}: {ours}")), &["on the row"])
        }
    }
}

#[test]
fn each_mode_is_what_the_model_says() {
    for seed in oracle::seeds() {
        for workers in [1, 2, 4] {
            let session = session(workers);
            let early: Vec<_> =
                CASES.iter().enumerate().map(|(i, case)| views(&session, &format!("early_{i}"), case.ours)).collect();
            let mut writer = Writer::new(&session, seed + workers as u64);
            let mut late = Vec::new();
            for (round, comes) in [0.8, 0.7, 0.4, 0.7].into_iter().enumerate() {
                writer.write(12, comes);
                if round == 1 {
                    let views = |(i, case): (usize, &Case)| views(&session, &format!("late_{i}"), case.ours);
                    late.extend(CASES.iter().enumerate().map(views));
                }
                let model = writer.model();
                for views in [&early, &late] {
                    for (case, views) in CASES.iter().zip(views) {
                        let context = format!("seed {seed}, {workers} workers, round {round}, {}", views.null.name());
                        compare(&session, case, views, &model, &context);
                    }
                }
            }
            writer.heal();
            let model = writer.model();
            for (case, views) in CASES.iter().zip(&early).chain(CASES.iter().zip(&late)) {
                let context = format!("seed {seed}, {workers} workers, healed, {}", views.null.name());
                assert_eq!(number(&model.answer(case.failing)), 0, "{context}: {}", case.ours);
                compare(&session, case, views, &model, &context);
            }
        }
    }
}

#[test]
fn rows_that_are_left_out_are_a_relation() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session
            .execute(
                "CREATE TABLE t (id BIGINT, a BIGINT, b BIGINT);
                 CREATE MATERIALIZED VIEW v WITH (on_error = 'dead_letter') AS SELECT id, a / b AS q FROM t;
                 CREATE MATERIALIZED VIEW w AS SELECT l.row, v.id FROM v.errors AS l LEFT JOIN v ON v.q = 3",
            )
            .unwrap();
        let errors = session.table("v.errors").unwrap();
        let columns: Vec<_> = errors.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(columns, ["row", "expression", "error"]);
        let mut changes = errors.write_stream().output_mode(OutputMode::Changelog).subscribe().unwrap();
        session.execute("INSERT INTO t VALUES (1, 6, 2), (2, 5, 0), (3, 1, 0)").unwrap();
        let rows = oracle::texts(&session.sql("SELECT * FROM v.errors ORDER BY row").unwrap().collect().unwrap(), None);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0][0], "id = 2, a = 5, b = 0");
        assert!(rows[0][1].contains('/') && rows[0][2].contains("zero"), "{rows:?}");
        let view = session.view("v").unwrap();
        assert_eq!(oracle::texts(&view.snapshot().unwrap(), None), [["1", "3"]]);
        assert_eq!((view.status().left_out, view.status().error), (2, None));
        let joined = session.view("w").unwrap();
        assert_eq!(content(&joined).keys().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1", "1"]);
        session.execute("UPDATE t SET b = 1 WHERE id = 2; DELETE FROM t WHERE id = 3").unwrap();
        assert_eq!(content(&view).len(), 2);
        assert!(content(&joined).is_empty());
        left_out(&view, 0);
        says(refused(&session, "DROP VIEW v"), &["still read", "view 'w'"]);
        session.input("t").unwrap().close();
        let log = oracle::to_the_end(&mut changes, None);
        assert_eq!((log.0.len(), log.at(i64::MAX).len()), (4, 0));
    }
}

#[test]
fn errors_of_rows_that_never_leave_can_be_appended_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.csv"), dir.path().join("out"));
    std::fs::write(&from, "id,text\n1,7\n2,x\n3,8\n4,y\n").unwrap();
    let session = Session::builder().workers(2).build().unwrap();
    let script = format!(
        "CREATE TABLE t (id BIGINT, text TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'channel');
         CREATE TABLE f (id BIGINT, text TEXT) WITH (connector = 'filesystem', path = '{}');
         CREATE MATERIALIZED VIEW v WITH (on_error = 'dead_letter') AS SELECT id, CAST(text AS BIGINT) AS n FROM f;
         CREATE SINK s AS SELECT row, error FROM v.errors WITH (connector = 'filesystem', path = '{}', format = 'csv');
         CREATE SINK r WITH (connector = 'blackhole', on_error = 'dead_letter') AS SELECT CAST(text AS BIGINT) AS n FROM f;
         CREATE SINK n AS SELECT CAST(text AS BIGINT) AS n FROM f WITH (connector = 'blackhole', on_error = 'null')",
        from.display(),
        to.display()
    );
    let script = session.run_script(&script).unwrap();
    script.await_termination().unwrap();
    let mut written = String::new();
    for file in std::fs::read_dir(&to).unwrap() {
        written.push_str(&std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
    }
    says(&written, &["id = 2, text = x", "id = 4, text = y", "'y'"]);
    assert!(!written.contains("id = 1"), "{written}");
    let counts: Vec<_> = script.sinks().iter().map(|s| (s.rows_written(), s.status().left_out)).collect();
    assert_eq!(counts, [(2, 0), (2, 2), (4, 0)]);

    // A stream's errors are final as well; those of what is retracted are not.
    let stream = "SELECT id, CAST(text AS BIGINT) AS n FROM t";
    let of = |sql: &str, name: &str| {
        session.sql(sql).unwrap().on_error(OnError::DeadLetter).create_view(name).unwrap();
        session.table(&format!("{name}.errors")).unwrap().write_stream().subscribe()
    };
    of(stream, "stream").unwrap();
    let sums = "SELECT id, sum(CAST(text AS BIGINT)) AS n FROM t GROUP BY id";
    says(of(sums, "sums").err().unwrap(), &["append", "GROUP BY"]);
}

#[test]
fn a_query_that_is_no_view_counts() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute("CREATE TABLE t (a BIGINT, b BIGINT); INSERT INTO t VALUES (6, 2), (5, 0), (1, 0)").unwrap();
    let query = session.sql("SELECT a / b AS q FROM t").unwrap();
    let answer = |mode| query.clone().on_error(mode).collect().map(|rows| oracle::multiset(&rows, None));
    let counts = |rows: &[(&str, i64)]| rows.iter().map(|(q, n)| (vec![(*q).to_owned()], *n)).collect::<Multiset>();
    says(answer(OnError::Fail).err().unwrap(), &["zero", "b = 0"]);
    assert_eq!(answer(OnError::Null).unwrap(), counts(&[("3", 1), ("NULL", 2)]));
    assert_eq!(answer(OnError::DeadLetter).unwrap(), counts(&[("3", 1)]));
    // A step after it keeps the mode: it is the whole query's.
    let frame = query.clone().on_error(OnError::DeadLetter).distinct().unwrap();
    let mut changes = frame.write_stream().output_mode(OutputMode::Changelog).subscribe().unwrap();
    session.execute("DELETE FROM t WHERE a = 1").unwrap();
    session.input("t").unwrap().close();
    let log = oracle::to_the_end(&mut changes, None);
    assert_eq!(log.at(i64::MAX), counts(&[("3", 1)]));
    assert_eq!((changes.status().left_out, changes.error()), (1, None));
}

/// Two queries that arrange the same rows: what failed on the way is in error in both.
#[test]
fn what_is_shared_does_not_lose_errors() {
    let sql = "SELECT x.id, u.d FROM (SELECT id, a / b AS q FROM t) AS x JOIN u ON x.q = u.k";
    for workers in [1, 2] {
        let session = session(workers);
        let modes = [OnError::Fail, OnError::DeadLetter, OnError::Null, OnError::DeadLetter, OnError::Fail];
        let frame = |i: usize| session.sql(&sql.replace("u.d", &format!("u.d + {i} AS d"))).unwrap().on_error(modes[i]);
        let views: Vec<_> = (0..modes.len()).map(|i| frame(i).create_view(&format!("v{i}")).unwrap()).collect();
        session.execute("INSERT INTO u VALUES (3, 4); INSERT INTO t (id, a, b) VALUES (1, 6, 2), (2, 5, 0)").unwrap();
        for (i, (view, mode)) in views.iter().zip(modes).enumerate() {
            match mode {
                OnError::Fail => says(view.snapshot().err().unwrap(), &["zero"]),
                _ => {
                    assert_eq!(oracle::texts(&view.snapshot().unwrap(), None), [["1".to_owned(), (4 + i).to_string()]])
                }
            }
            left_out(view, u64::from(mode == OnError::DeadLetter));
        }
    }
}

#[test]
fn a_negative_multiplicity_is_an_error_in_every_mode() {
    for workers in [1, 2] {
        let session = session(workers);
        session.execute("CREATE TABLE c (k BIGINT, big BIGINT) WITH (connector = 'channel')").unwrap();
        let sql = "SELECT k, count(*) AS n, sum(big) AS s FROM c GROUP BY k";
        let views = views(&session, "v", sql);
        let schema = session.table("c").unwrap().schema();
        let mut input = session.input("c").unwrap();
        input.push_atomic(batch(&schema, &[row(&["1", "-"])]), vec![-1]).unwrap();
        for view in [&views.fail, &views.null, &views.without, &views.errors] {
            says(view.snapshot().err().unwrap(), &["retracted that was not there"]);
        }
        assert_eq!(views.without.status().left_out, 0);
        input.push_atomic(batch(&schema, &[row(&["1", "-"])]), vec![2]).unwrap();
        for view in [&views.fail, &views.null, &views.without] {
            assert_eq!(oracle::texts(&view.snapshot().unwrap(), None), [["1", "1", "NULL"]]);
        }
        assert!(content(&views.errors).is_empty());
    }
}

#[test]
fn what_may_become_null_is_nullable() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (a BIGINT NOT NULL, b BIGINT NOT NULL)").unwrap();
    let nullable = |mode: OnError, name: &str| {
        let frame = session.sql("SELECT a, a / b AS q, q2 FROM (SELECT a, b, a % b AS q2 FROM t) AS x").unwrap();
        let view = frame.on_error(mode).create_view(name).unwrap();
        let nullable: Vec<_> = view.schema().fields().iter().map(|f| f.is_nullable()).collect();
        let scanned: Vec<_> = session.table(name).unwrap().schema().fields().iter().map(|f| f.is_nullable()).collect();
        assert_eq!(nullable, scanned);
        nullable
    };
    assert_eq!(nullable(OnError::Fail, "f"), [false, false, false]);
    assert_eq!(nullable(OnError::DeadLetter, "d"), [false, false, false]);
    assert_eq!(nullable(OnError::Null, "n"), [false, true, true]);
    session.execute("INSERT INTO t VALUES (1, 0), (4, 2)").unwrap();
    // Nobody takes the column for one that has no NULL.
    let rows = session.sql("SELECT a FROM n WHERE q IS NULL").unwrap().collect().unwrap();
    assert_eq!(oracle::texts(&rows, None), [["1"]]);
    let inline = session.sql("SELECT a FROM (SELECT a, a / b AS q FROM t) AS x WHERE q IS NULL").unwrap();
    assert_eq!(oracle::texts(&inline.on_error(OnError::Null).collect().unwrap(), None), [["1"]]);
}

#[test]
fn the_session_has_a_default() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (a BIGINT, b BIGINT); INSERT INTO t VALUES (1, 0), (4, 2)").unwrap();
    session.execute("SET on_error = 'null'; CREATE MATERIALIZED VIEW n AS SELECT a / b AS q FROM t").unwrap();
    session.execute("CREATE MATERIALIZED VIEW f WITH (on_error = fail) AS SELECT a / b AS q FROM t").unwrap();
    assert_eq!(content(&session.view("n").unwrap()).len(), 2);
    says(session.view("f").unwrap().snapshot().err().unwrap(), &["zero"]);
    assert_eq!(session.sql("SELECT a / b AS q FROM t").unwrap().collect().unwrap().num_rows(), 2);
    let shown = |text: &str| match session.execute(text).unwrap().remove(0) {
        headwater::Outcome::Rows(rows) => oracle::texts(&rows, None),
        headwater::Outcome::Text(text) => vec![vec![text]],
        _ => panic!("nothing was shown"),
    };
    assert_eq!(shown("SHOW execution.on-error"), [["execution.on-error", "null"]]);
    assert!(shown("SHOW ALL").contains(&vec!["execution.on-error".to_owned(), "null".to_owned()]));
    says(&shown("EXPLAIN SELECT a / b AS q FROM t")[0][0], &["On error NULL", "or_null(a@0 / b@1)"]);
    session.execute("SET on_error = 'dead_letter'").unwrap();
    says(&shown("EXPLAIN SELECT a / b AS q FROM t")[0][0], &["On error leave the row out"]);
    // What changes a table is not a query: its rows come and go whole.
    for statement in ["UPDATE t SET a = 1 / b", "DELETE FROM t WHERE 1 / b > 0", "INSERT INTO t SELECT a / b, 1 FROM t"]
    {
        says(refused(&session, statement), &["zero"]);
    }
    assert_eq!(session.sql("SELECT * FROM t").unwrap().collect().unwrap().num_rows(), 2);
}

#[test]
fn wrong_modes_and_names_are_refused() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (a BIGINT, b BIGINT)").unwrap();
    let names = ["'fail'", "'null'", "'dead_letter'"];
    let query = "AS SELECT a / b AS q FROM t";
    let error = refused(&session, &format!("CREATE MATERIALIZED VIEW v\nWITH (on_error = 'skip') {query}"));
    says(&error, &names);
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((2, 1)));
    says(refused(&session, &format!("CREATE SINK s {query} WITH (connector = 'print', on_error = '')")), &names);
    says(refused(&session, "SET on_error = 'ignore'"), &names);
    says("skip".parse::<OnError>().err().unwrap(), &names);
    says(refused(&session, &format!("CREATE VIEW v WITH (on_error = 'null') {query}")), &["MATERIALIZED"]);
    says(
        refused(&session, &format!("CREATE MATERIALIZED VIEW v WITH (on_eror = 'null') {query}")),
        &["on_eror", "on_error"],
    );
    says(refused(&session, "SET no_error = 'null'"), &["execution.runtime-mode", "execution.on-error"]);
    session.execute(&format!("CREATE MATERIALIZED VIEW v {query}; CREATE VIEW p {query}")).unwrap();
    says(session.sql("SELECT * FROM v.errors").err().unwrap(), &["'v'", "WITH (on_error = 'dead_letter')"]);
    says(session.sql("SELECT * FROM p.errors").err().unwrap(), &["'p'", "MATERIALIZED"]);
    says(session.sql("SELECT * FROM t.errors").err().unwrap(), &["'t' is a table"]);
    says(session.sql("SELECT * FROM x.errors").err().unwrap(), &["'x'"]);
    says(session.sql("SELECT * FROM x.y").err().unwrap(), &["<table>.late", "<view>.errors"]);
    says(session.sql("SELECT or_null(a) FROM t").err().unwrap(), &["or_null"]);
    // A plain view is a part of the query that reads it.
    session.execute("INSERT INTO t VALUES (1, 0)").unwrap();
    let over = session.sql("SELECT * FROM p").unwrap().on_error(OnError::Null).create_view("over").unwrap();
    assert_eq!(oracle::texts(&over.snapshot().unwrap(), None), [["NULL"]]);
    // A view that is in error is so for all who read it, whatever they ask.
    let over = session.sql("SELECT * FROM v").unwrap().on_error(OnError::DeadLetter).create_view("left").unwrap();
    says(over.snapshot().err().unwrap(), &["zero"]);
    let mut changes = over.subscribe(OutputMode::Changelog, Trigger::Continuous).unwrap();
    session.execute("DELETE FROM t").unwrap();
    session.input("t").unwrap().close();
    assert!(oracle::to_the_end(&mut changes, None).at(i64::MAX).is_empty());
}

#[test]
fn windows_are_final_without_what_failed() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session
            .execute(
                "CREATE TABLE t (ts TIMESTAMP, a BIGINT, b BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'channel')",
            )
            .unwrap();
        let sql = "SELECT window(ts, '1 minute')['start'] AS w, sum(a / b) AS s, count(*) AS n FROM t \
                   WHERE 10 / b < 10 GROUP BY window(ts, '1 minute')";
        let query = |mode| session.sql(sql).unwrap().on_error(mode).write_stream().subscribe().unwrap();
        let mut answers = [OnError::Null, OnError::DeadLetter].map(query);
        let view = session.sql(sql).unwrap().on_error(OnError::DeadLetter).create_view("v").unwrap();
        let schema = session.table("t").unwrap().schema();
        let most = i64::MAX.to_string();
        let mut input = session.input("t").unwrap();
        let mut push = |rows: &[[&str; 3]]| {
            let rows: Vec<_> = rows.iter().map(|cells| row(cells)).collect();
            input.push(batch(&schema, &rows)).unwrap();
        };
        push(&[["2024-01-01T00:00:10", "4", "2"], ["2024-01-01T00:00:20", "4", "0"]]);
        push(&[["2024-01-01T00:01:10", &most, "-2"], ["2024-01-01T00:01:20", &most, "-2"]]);
        // An overflow that stays, beyond the range by the third.
        push(&[["2024-01-01T00:01:30", &most, "-2"], ["2024-01-01T00:02:10", "9", "3"]]);
        input.close();
        let mut found: Vec<Multiset> = Vec::new();
        for answer in &mut answers {
            let mut rows = Multiset::new();
            while let Some(emission) = oracle::next(answer) {
                rows.extend(oracle::multiset(&emission.rows, None));
            }
            found.push(rows);
        }
        let rows = |rows: &[[&str; 3]]| -> Multiset {
            rows.iter().map(|row| (row.iter().map(|cell| (*cell).to_owned()).collect(), 1)).collect()
        };
        let (first, last) = (["2024-01-01T00:00:00", "2", "1"], ["2024-01-01T00:02:00", "3", "1"]);
        assert_eq!(found[0], rows(&[first, ["2024-01-01T00:01:00", "NULL", "3"], last]));
        assert_eq!(found[1], rows(&[first, last]));
        // The row that the predicate failed on, and the window that overflowed.
        assert_eq!(answers.each_ref().map(|answer| answer.status().left_out), [0, 2]);
        assert_eq!(content(&view), found[1]);
        let errors = session.sql("SELECT row FROM v.errors").unwrap().collect().unwrap();
        assert_eq!(errors.num_rows(), 2);
    }
}
