//! The master test: at every closed time a query's changelog, summed up, is what DataFusion answers over the tables as of
//! that time, for random changes with retractions and any number of workers; and nothing is left when all was
//! retracted.
//!
//! `HEADWATER_SEED` says where to begin, `HEADWATER_ROUNDS` how many seeds to try, `HEADWATER_CHANGES` how many changes
//! each makes.

use std::collections::BTreeMap;

use headwater::arrow::array::RecordBatch;
use headwater::arrow::datatypes::{DataType, SchemaRef};
use headwater::{OutputMode, Session, Trigger};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::oracle::{self, Batch, Changelog, Multiset, PATIENCE, Row, one_of, show};

const TABLES: &str = "
    CREATE TABLE a (id BIGINT, k BIGINT, x INT, f DOUBLE, d DECIMAL(10, 2), s TEXT, b BOOLEAN, day DATE);
    CREATE TABLE b (k BIGINT, y BIGINT, t TEXT);
    CREATE TABLE e (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1000' DAY);
";

/// A query, and how DataFusion is asked the same where it has no such function.
struct Query {
    ours: &'static str,
    theirs: &'static str,
    /// Digits to compare of floats that DataFusion rounds more than once.
    digits: Option<usize>,
}

fn same(sql: &'static str) -> Query {
    Query { ours: sql, theirs: sql, digits: None }
}

fn pair(ours: &'static str, theirs: &'static str) -> Query {
    Query { ours, theirs, digits: None }
}

fn rounded(sql: &'static str) -> Query {
    Query { ours: sql, theirs: sql, digits: Some(9) }
}

#[derive(Clone)]
struct Change {
    table: usize,
    rows: Vec<Row>,
    diffs: Vec<i64>,
}

const NAMES: [&str; 3] = ["a", "b", "e"];

/// Random changes to the three tables, and at last the retraction of everything.
struct Changes {
    random: SmallRng,
    contents: [Vec<Row>; 3],
    clock: i64,
}

impl Changes {
    fn row(&mut self, table: usize) -> Row {
        let random = &mut self.random;
        let key = one_of(random, &["-", "0", "1", "2", "3"]);
        match table {
            0 => vec![
                Some(random.random_range(0..30).to_string()),
                key,
                one_of(random, &["-", "-4", "-1", "0", "1", "2", "3", "7"]),
                one_of(random, &["-", "-2.5", "0", "0.25", "1", "3.75", "4"]),
                one_of(random, &["-", "-1.05", "0.00", "2.50", "10.99"]),
                one_of(random, &["-", "", "north", "nord", "süd", "a%"]),
                one_of(random, &["-", "true", "false"]),
                one_of(random, &["-", "1969-12-31", "2024-02-29", "2024-03-01"]),
            ],
            1 => vec![key, one_of(random, &["-", "-1", "0", "1", "2", "5"]), one_of(random, &["-", "north", "x", "y"])],
            _ => {
                self.clock += random.random_range(0..40);
                let seconds = self.clock - random.random_range(0..30);
                let ts = format!("1969-12-31T23:{:02}:{:02}", 50 + seconds / 60 % 10, seconds % 60);
                vec![Some(ts), key, one_of(random, &["-", "1", "2", "3"])]
            }
        }
    }

    fn change(&mut self) -> Change {
        let table = self.random.random_range(0..3);
        let (mut rows, mut diffs) = (Vec::new(), Vec::new());
        for _ in 0..self.random.random_range(1..7) {
            let there = self.contents[table].len();
            if there > 0 && self.random.random_bool(0.4) {
                let place = self.random.random_range(0..there);
                rows.push(self.contents[table].swap_remove(place));
                diffs.push(-1);
            } else {
                let row = self.row(table);
                self.contents[table].push(row.clone());
                rows.push(row);
                diffs.push(1);
            }
        }
        Change { table, rows, diffs }
    }

    fn generate(seed: u64, count: u64) -> Vec<Change> {
        let mut changes = Changes { random: oracle::random(seed), contents: Default::default(), clock: 40 };
        let mut all: Vec<Change> = (0..count).map(|_| changes.change()).collect();
        for (table, rows) in changes.contents.into_iter().enumerate() {
            let diffs = vec![-1; rows.len()];
            all.push(Change { table, rows, diffs });
        }
        all.retain(|change| !change.rows.is_empty());
        all
    }
}

/// The three tables' contents as of each change's time.
type History = Vec<(i64, [RecordBatch; 3])>;

fn history(changes: &[Change], stamps: &[i64], schemas: &[SchemaRef]) -> History {
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by_key(|&i| stamps[i]);
    let mut contents: [BTreeMap<Row, i64>; 3] = Default::default();
    let nothing = || [0, 1, 2].map(|t: usize| RecordBatch::new_empty(schemas[t].clone()));
    let mut history = History::from([(i64::MIN, nothing())]);
    for (n, &i) in order.iter().enumerate() {
        for (row, diff) in changes[i].rows.iter().zip(&changes[i].diffs) {
            *contents[changes[i].table].entry(row.clone()).or_default() += diff;
        }
        if order.get(n + 1).is_some_and(|&next| stamps[next] == stamps[i]) {
            continue;
        }
        let table = |t: usize| {
            let rows = contents[t].iter();
            let rows: Vec<Row> = rows
                .flat_map(|(row, count)| std::iter::repeat_n(row.clone(), usize::try_from(*count).unwrap()))
                .collect();
            oracle::batch(&schemas[t], &rows)
        };
        if stamps[i] == i64::MIN {
            history.clear();
        }
        history.push((stamps[i], [table(0), table(1), table(2)]));
    }
    history
}

/// Types that mean the same.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
    }
}

/// What one run with some number of workers gave.
struct Run {
    stamps: Vec<i64>,
    changelogs: Vec<Changelog>,
}

fn run(queries: &[Query], changes: &[Change], workers: usize) -> Run {
    let session = Session::builder().workers(workers).build().unwrap();
    session.execute(TABLES).unwrap();
    let mut subscriptions: Vec<_> = queries
        .iter()
        .map(|query| {
            let frame = session.sql(query.ours).unwrap_or_else(|e| panic!("{e}\n{}", query.ours));
            let writer = frame.write_stream().output_mode(OutputMode::Changelog).trigger(Trigger::Continuous);
            writer.subscribe().unwrap_or_else(|e| panic!("{e}\n{}", query.ours))
        })
        .collect();
    let mut inputs: Vec<_> = NAMES.iter().map(|name| session.input(name).unwrap()).collect();
    let schemas: Vec<_> = NAMES.iter().map(|name| session.table(name).unwrap().schema()).collect();
    let mut stamps = Vec::new();
    for change in changes {
        let rows = oracle::batch(&schemas[change.table], &change.rows);
        let pushed = inputs[change.table].push_atomic(rows, change.diffs.clone()).unwrap();
        // A round of its own: it is closed just past its stamp.
        stamps.push(pushed.frontier.unwrap() - 1);
    }
    inputs.into_iter().for_each(headwater::Input::close);
    let changelogs = subscriptions.iter_mut().zip(queries).map(|(s, q)| oracle::to_the_end(s, q.digits)).collect();
    Run { stamps, changelogs }
}

/// The first time at which a changelog and the expected contents differ.
fn difference(changelog: &Changelog, expected: &[(i64, Multiset)]) -> Option<String> {
    if let Some(time) = changelog.times().into_iter().find(|t| expected.iter().all(|(time, _)| time != t)) {
        return Some(format!("it changes at {time}, where no table does:\n{}", show(&changelog.at(time))));
    }
    expected.iter().enumerate().find_map(|(i, (time, expected))| {
        let found = changelog.at(*time);
        (found != *expected).then(|| {
            let (found, expected) = (show(&found), show(expected));
            format!("at change {i}, time {time}, it is\n{found}and should be\n{expected}")
        })
    })
}

fn check(queries: &[Query]) {
    let count = oracle::setting("HEADWATER_CHANGES", 10);
    let mut wrong = Vec::new();
    for seed in oracle::seeds() {
        let changes = Changes::generate(seed, count);
        let schemas: Vec<_> = {
            let session = Session::new().unwrap();
            session.execute(TABLES).unwrap();
            NAMES.iter().map(|name| session.table(name).unwrap().schema()).collect()
        };
        let mut expected: Option<(Vec<i64>, Vec<Vec<(i64, Multiset)>>)> = None;
        for workers in [1, 2, 4] {
            let run = run(queries, &changes, workers);
            // The stamps are those of the changes, not of the workers: one oracle does for all.
            let (stamps, answers) = expected.get_or_insert_with(|| {
                let mut answers: Vec<Vec<(i64, Multiset)>> = queries.iter().map(|_| Vec::new()).collect();
                for (time, [a, b, e]) in history(&changes, &run.stamps, &schemas) {
                    let batch = Batch::over(&[("a", a), ("b", b), ("e", e)]);
                    for (query, answers) in queries.iter().zip(&mut answers) {
                        answers.push((time, oracle::multiset(&batch.answer(query.theirs), query.digits)));
                    }
                }
                (run.stamps.clone(), answers)
            });
            assert_eq!(*stamps, run.stamps, "the stamps depend on the workers");
            for ((query, changelog), answers) in queries.iter().zip(&run.changelogs).zip(answers.iter()) {
                if let Some(difference) = difference(changelog, answers) {
                    wrong.push(format!("seed {seed}, {workers} workers: {}\n{difference}", query.ours));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers differ\n{}", wrong.len(), wrong.join("\n"));
}

/// A query's columns have the names and types that DataFusion gives them.
fn check_types(queries: &[Query]) {
    let session = Session::new().unwrap();
    session.execute(TABLES).unwrap();
    let tables: Vec<_> =
        NAMES.iter().map(|name| (*name, RecordBatch::new_empty(session.table(name).unwrap().schema()))).collect();
    let batch = Batch::over(&tables);
    for query in queries {
        let types = |schema: SchemaRef| schema.fields().iter().map(|f| plain(f.data_type())).collect::<Vec<_>>();
        let ours = types(session.sql(query.ours).unwrap().schema());
        assert_eq!(ours, types(batch.answer(query.theirs).schema()), "{}", query.ours);
    }
}

#[test]
fn filters_and_functions() {
    let queries = [
        same("SELECT * FROM a"),
        same("SELECT id, x + 1 AS x1, f * 2 AS f2, upper(s) AS u FROM a WHERE x > 0 AND s IS NOT NULL"),
        same(
            "SELECT id, CASE WHEN x > 2 THEN 'big' WHEN x IS NULL THEN 'none' ELSE 'small' END AS c, \
             coalesce(s, '-') AS s2, length(s) AS l FROM a",
        ),
        same("SELECT id, CAST(x AS TEXT) || '/' || coalesce(s, '') AS t, substr(s, 1, 2) AS p FROM a"),
        same("SELECT id FROM a WHERE s LIKE 'n%' OR b"),
        same("SELECT id, f FROM a WHERE k IN (1, 2) AND f BETWEEN -2 AND 4"),
        same("SELECT id, CAST(d AS DOUBLE) AS dd, d * 2 AS d2, abs(x) AS ax FROM a WHERE NOT b"),
        same("SELECT x / 2 AS h, x % 3 AS m, day + INTERVAL '1' DAY AS next, date_part('year', day) AS y FROM a"),
        same("SELECT id FROM a WHERE (x > 1) IS NOT TRUE"),
        same("SELECT 1 AS one FROM a WHERE x = 1 OR k IS NULL"),
        same("SELECT date_trunc('minute', ts) AS m, v FROM e WHERE ts < TIMESTAMP '1969-12-31T23:55:00'"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn inner_joins() {
    let queries = [
        same("SELECT a.id, b.y FROM a JOIN b ON a.k = b.k"),
        same("SELECT a.id, b.y FROM a JOIN b ON a.k = b.k AND a.x < b.y"),
        same("SELECT a.id, b.y FROM a JOIN b ON a.k = b.k AND a.s = b.t"),
        same("SELECT a.id, b.y FROM a CROSS JOIN b WHERE a.b"),
        same("SELECT a.id, b.y FROM a JOIN b ON a.x < b.y"),
        same("SELECT l.id, r.id AS other FROM a l JOIN a r ON l.k = r.k AND l.id < r.id"),
        same("SELECT a.id, b.t, e.v FROM a JOIN b ON a.k = b.k JOIN e ON b.y = e.v"),
        same("SELECT a.id, b.y FROM a JOIN b ON a.x + 1 = b.y"),
        same("SELECT a.id, b.y FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k"),
        same("SELECT a.s, sum(b.y) AS total, count(*) AS n FROM a JOIN b ON a.k = b.k GROUP BY a.s"),
        same("SELECT a.id, w.name FROM a JOIN (VALUES (1, 'one'), (2, 'two')) AS w (n, name) ON a.x = w.n"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn outer_joins() {
    let queries = [
        same("SELECT a.id, b.y FROM a LEFT JOIN b ON a.k = b.k"),
        same("SELECT a.id, b.y FROM a LEFT JOIN b ON a.k = b.k AND a.x < b.y"),
        same("SELECT a.id, b.y FROM a RIGHT JOIN b ON a.k = b.k"),
        same("SELECT a.id, b.y FROM a RIGHT JOIN b ON a.k = b.k AND a.x > b.y"),
        same("SELECT a.id, a.k, b.k AS bk, b.y FROM a FULL JOIN b ON a.k = b.k"),
        same("SELECT a.id, b.y, b.t FROM a FULL JOIN b ON a.k = b.k AND a.s = b.t AND a.x <> b.y"),
        same("SELECT a.id, b.y FROM a LEFT JOIN b ON a.k = b.k AND b.y > 0 WHERE b.y IS NULL OR a.x > 0"),
        same("SELECT a.id, b.t, e.v FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN e ON b.y = e.v"),
        same("SELECT l.id, r.id AS other FROM a l FULL JOIN a r ON l.x = r.k"),
        same("SELECT a.s, count(b.y) AS n FROM a LEFT JOIN b ON a.k = b.k GROUP BY a.s"),
        same("SELECT a.id, b.y FROM a LEFT JOIN b ON a.k = b.k AND a.b"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn semi_and_anti_joins() {
    let queries = [
        same("SELECT id, k FROM a WHERE k IN (SELECT k FROM b)"),
        same("SELECT id, k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.y > a.x)"),
        same("SELECT id, k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k)"),
        same("SELECT id, k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.y > a.x)"),
        same("SELECT id, k FROM a WHERE k NOT IN (SELECT k FROM b)"),
        same("SELECT id, k FROM a WHERE k NOT IN (SELECT k FROM b WHERE k IS NOT NULL)"),
        same("SELECT a.id FROM a LEFT SEMI JOIN b ON a.k = b.k AND a.s = b.t"),
        same("SELECT a.id FROM a LEFT ANTI JOIN b ON a.k = b.k AND a.s = b.t"),
        same("SELECT id FROM a WHERE x > 1 OR k IN (SELECT k FROM b)"),
        same("SELECT id FROM a WHERE x > 2 OR EXISTS (SELECT 1 FROM b WHERE b.k = a.k)"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn aggregates() {
    let queries = [
        same("SELECT k, count(*) AS n, count(x) AS nx, sum(x) AS sx, min(x) AS lo, max(x) AS hi FROM a GROUP BY k"),
        same("SELECT s, sum(f) AS sf, avg(f) AS af, min(f) AS lo, max(f) AS hi FROM a GROUP BY s"),
        same("SELECT b, sum(d) AS sd, min(d) AS lo, max(d) AS hi, min(s) AS ls, max(day) AS hd FROM a GROUP BY b"),
        same(
            "SELECT k, s, avg(x) AS ax, count(*) FILTER (WHERE b) AS nb, sum(x) FILTER (WHERE f > 0) AS sx FROM a GROUP BY k, s",
        ),
        same("SELECT k, sum(x) AS sx FROM a GROUP BY k HAVING count(*) > 1 AND sum(x) > 0"),
        same("SELECT k, count(DISTINCT s) AS n FROM a GROUP BY k"),
        same(
            "SELECT k, count(DISTINCT s) AS ns, count(DISTINCT x) AS nx, count(*) AS n, sum(x) AS sx FROM a GROUP BY k",
        ),
        same("SELECT k, sum(DISTINCT x) AS sx FROM a GROUP BY k"),
        same("SELECT count(*) AS n, sum(x) AS sx, avg(f) AS af, min(s) AS ls, max(ts) AS hi FROM a CROSS JOIN e"),
        same("SELECT count(*) AS n, sum(x) AS sx, count(DISTINCT k) AS nk FROM a WHERE b"),
        same("SELECT count(*) AS n FROM b HAVING count(*) > 2"),
        rounded("SELECT k, stddev(x) AS dx, var_pop(f) AS vf, stddev_pop(x) AS px, var(f) AS v FROM a GROUP BY k"),
        same("SELECT k, bool_and(b) AS every, bool_or(b) AS some FROM a GROUP BY k"),
        same("SELECT x % 2 AS odd, upper(s) AS u, count(*) AS n FROM a GROUP BY x % 2, upper(s)"),
        same("SELECT n, count(*) AS m FROM (SELECT k, count(*) AS n FROM a GROUP BY k) AS c GROUP BY n"),
        same("SELECT k FROM a GROUP BY k"),
        same("SELECT k, avg(d) AS ad FROM a GROUP BY k"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn sets() {
    let queries = [
        same("SELECT DISTINCT k, s FROM a"),
        same("SELECT DISTINCT x FROM a WHERE b"),
        same("SELECT k FROM a UNION ALL SELECT k FROM b"),
        same("SELECT k FROM a UNION SELECT y FROM b"),
        same("SELECT k FROM a INTERSECT SELECT k FROM b"),
        same("SELECT k FROM a EXCEPT SELECT k FROM b"),
        same("SELECT k, s FROM a EXCEPT SELECT k, t FROM b"),
        same("SELECT k, count(*) AS n FROM (SELECT k FROM a UNION ALL SELECT k FROM b) AS u GROUP BY k"),
        same("SELECT k FROM a WHERE x > 0 UNION ALL SELECT k FROM a WHERE x > 1 UNION ALL SELECT v FROM e"),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn first_rows_and_subqueries() {
    let queries = [
        pair(
            "SELECT id, x, f FROM a ORDER BY x DESC LIMIT 3",
            "SELECT id, x, f FROM a ORDER BY x DESC NULLS FIRST, id NULLS FIRST, f NULLS FIRST LIMIT 3",
        ),
        same("SELECT id, x FROM a ORDER BY x NULLS LAST, id LIMIT 2 OFFSET 2"),
        same("SELECT id FROM a ORDER BY id OFFSET 3"),
        same("SELECT k, count(*) AS n FROM a GROUP BY k ORDER BY n DESC, k LIMIT 2"),
        same("SELECT y, t FROM b ORDER BY t DESC NULLS LAST, y LIMIT 4"),
        same("WITH big AS (SELECT * FROM a WHERE x > 0) SELECT big.id, b.y FROM big JOIN b ON big.k = b.k"),
        same(
            "WITH t AS (SELECT k, count(*) AS n FROM a GROUP BY k) \
             SELECT l.k, l.n, r.n AS other FROM t l JOIN t r ON l.n = r.n WHERE l.k < r.k",
        ),
        same("SELECT id FROM a WHERE x > (SELECT avg(y) FROM b)"),
        same("SELECT id, (SELECT count(*) FROM b) AS n FROM a"),
        same("SELECT id, (SELECT max(y) FROM b WHERE b.k = a.k) AS hi FROM a"),
        same("SELECT id, x FROM a WHERE x = (SELECT min(y) FROM b WHERE b.k = a.k)"),
        same(
            "SELECT k, n FROM (SELECT k, count(*) AS n FROM (SELECT DISTINCT k, s FROM a) AS d GROUP BY k) AS c WHERE n > 1",
        ),
        same(
            "SELECT a.id FROM a JOIN (SELECT k, y FROM b ORDER BY y DESC NULLS LAST, k LIMIT 3) AS top ON a.k = top.k",
        ),
    ];
    check_types(&queries);
    check(&queries);
}

#[test]
fn windows() {
    let queries = [
        pair(
            "SELECT w['start'] AS s, k, count(*) AS n, sum(v) AS total \
             FROM (SELECT window(ts, '1 minute') AS w, k, v FROM e) AS x GROUP BY w, k",
            "SELECT date_bin(INTERVAL '1 minute', ts) AS s, k, count(*) AS n, sum(v) AS total \
             FROM e GROUP BY date_bin(INTERVAL '1 minute', ts), k",
        ),
        pair(
            "SELECT w['end'] AS s, count(DISTINCT k) AS n, max(v) AS hi \
             FROM (SELECT window(ts, '1 minute') AS w, k, v FROM e) AS x GROUP BY w",
            "SELECT date_bin(INTERVAL '1 minute', ts) + INTERVAL '1 minute' AS s, count(DISTINCT k) AS n, max(v) AS hi \
             FROM e GROUP BY 1",
        ),
        pair(
            "SELECT w['start'] AS s, k, count(*) AS n \
             FROM (SELECT window(ts, '2 minutes', '1 minute') AS w, k FROM e) AS x GROUP BY w, k",
            "SELECT s, k, count(*) AS n FROM (\
             SELECT date_bin(INTERVAL '1 minute', ts) AS s, k FROM e UNION ALL \
             SELECT date_bin(INTERVAL '1 minute', ts) - INTERVAL '1 minute' AS s, k FROM e) AS x GROUP BY s, k",
        ),
        pair(
            "SELECT x.w['start'] AS s, b.t, sum(x.v) AS total \
             FROM (SELECT window(ts, '1 minute') AS w, k, v FROM e) AS x JOIN b ON x.k = b.k GROUP BY x.w, b.t",
            "SELECT date_bin(INTERVAL '1 minute', ts) AS s, b.t, sum(v) AS total FROM e JOIN b ON e.k = b.k GROUP BY 1, 2",
        ),
        pair(
            "SELECT w['start'] AS s, count(*) AS n \
             FROM (SELECT window(ts, '1 minute') AS w FROM e) AS x GROUP BY w HAVING count(*) > 1 \
             ORDER BY n DESC, s LIMIT 2",
            "SELECT date_bin(INTERVAL '1 minute', ts) AS s, count(*) AS n FROM e GROUP BY 1 HAVING count(*) > 1 \
             ORDER BY n DESC, s LIMIT 2",
        ),
        pair(
            "SELECT window(ts, '30 seconds')['start'] AS s, v FROM e",
            "SELECT date_bin(INTERVAL '30 seconds', ts) AS s, v FROM e",
        ),
    ];
    check(&queries);
}

/// What was retracted is forgotten as other rows come, so that coming and going takes no more room than being there.
#[test]
fn rows_that_come_and_go_do_not_pile_up() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute(TABLES).unwrap();
        let queries = ["SELECT * FROM a", "SELECT id, count(*) AS n, max(f) AS hi FROM a GROUP BY id, s"];
        let views: Vec<_> = (queries.iter().enumerate())
            .map(|(i, sql)| session.sql(sql).unwrap().create_view(&format!("v{i}")).unwrap())
            .collect();
        let schema = session.table("a").unwrap().schema();
        let mut input = session.input("a").unwrap();
        let mut changes = Changes { random: oracle::random(1), contents: Default::default(), clock: 0 };
        let rows: Vec<Row> = (0..1000).map(|_| changes.row(0)).collect();
        let batch = oracle::batch(&schema, &rows);
        for round in 0..30 {
            for sign in [1, -1] {
                input.push_atomic(batch.clone(), vec![sign; rows.len()]).unwrap();
                for view in &views {
                    assert_eq!(view.snapshot().unwrap().num_rows() > 0, sign > 0, "{} in round {round}", view.name());
                }
                // The workers let go of closed times every few milliseconds.
                std::thread::sleep(std::time::Duration::from_millis(6));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        for (view, sql) in views.iter().zip(queries) {
            let bytes = || view.status().state_bytes;
            // Sixty times the rows would take some megabytes.
            assert!(bytes() < 1_000_000, "{sql} keeps {} bytes, with {workers} workers", bytes());
            // At rest nothing is left of what was retracted.
            let begin = std::time::Instant::now();
            while bytes() > 0 {
                assert!(begin.elapsed() < PATIENCE, "{sql} keeps {} bytes, with {workers} workers", bytes());
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}
