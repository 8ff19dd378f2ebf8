//! Output mode append: each row once, when it can't be retracted any more, however the query is put; and what an answer
//! of which any rows will do may leave unread.

use std::fmt::Write;
use std::time::{Duration, Instant};

use headwater::{Event, OutputMode, Session, Subscription};
use rand::Rng;

use crate::oracle::{self, Multiset, PATIENCE, next, row};

const WINDOWS: &str = "SELECT window(ts, '1 minute') AS w, k, count(*) AS n, max(v) AS hi \
                       FROM t GROUP BY window(ts, '1 minute'), k";

fn session(workers: usize, with: &str) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    session
        .execute(&format!(
            "CREATE TABLE t (ts TIMESTAMP, k TEXT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND) {with};
             CREATE VIEW plain AS {WINDOWS};
             CREATE MATERIALIZED VIEW stored AS {WINDOWS};
             CREATE MATERIALIZED VIEW above AS SELECT w, k, n, hi FROM stored WHERE n > 0;
             CREATE MATERIALIZED VIEW top AS SELECT * FROM above"
        ))
        .unwrap();
    session
}

fn append(session: &Session, sql: &str) -> Subscription {
    let query = session.sql(sql).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    query.write_stream().output_mode(OutputMode::Append).subscribe().unwrap_or_else(|e| panic!("{e}\n{sql}"))
}

fn add(rows: &mut Multiset, emission: &headwater::Emission) {
    for (i, row) in oracle::texts(&emission.rows, None).into_iter().enumerate() {
        *rows.entry(row).or_default() += i64::try_from(emission.counts[i]).unwrap();
    }
}

/// Reads until everything before `frontier` is closed.
fn read_until(subscription: &mut Subscription, rows: &mut Multiset, frontier: i64) {
    let begin = Instant::now();
    while subscription.frontier().is_some_and(|at| at < frontier) {
        assert!(begin.elapsed() < PATIENCE, "the frontier is {:?}, not {frontier}", subscription.frontier());
        if let Event::Emission(emission) = subscription.next(Duration::from_millis(50)).unwrap() {
            add(rows, &emission);
        }
    }
    while let Event::Emission(emission) = subscription.next(Duration::from_millis(20)).unwrap() {
        add(rows, &emission);
    }
}

#[test]
fn append_says_the_same_over_a_query_and_over_views_of_it() {
    let queries = [
        WINDOWS,
        "SELECT * FROM plain",
        "SELECT * FROM stored",
        "SELECT * FROM above",
        "SELECT w, k, n, hi FROM top WHERE n < 1000",
        "SELECT w, k, sum(n) AS n, max(hi) AS hi FROM stored GROUP BY w, k",
    ];
    for (workers, seed, stopped) in [(1, 1, false), (1, 2, true), (2, 3, false), (2, 4, true)] {
        for with in ["", "WITH (connector = 'channel')"] {
            let session = session(workers, with);
            let mut readers: Vec<_> = queries.iter().map(|sql| (append(&session, sql), Multiset::new())).collect();
            let schema = session.table("t").unwrap().schema();
            let mut input = session.input("t").unwrap();
            let mut random = oracle::random(seed);
            let mut frontier = None;
            for second in 0..400 {
                let second = second - random.random_range(0..9).min(second);
                let ts = format!("2024-01-01T00:{:02}:{:02}", second / 60, second % 60);
                let cells = [Some(ts), oracle::one_of(&mut random, &["-", "a", "b"]), Some(second.to_string())];
                frontier = input.push(oracle::batch(&schema, &[cells.to_vec()])).unwrap().frontier;
            }
            readers.iter_mut().for_each(|(reader, rows)| read_until(reader, rows, frontier.unwrap()));
            // The clock stands at 06:40 less the disorder: six windows are final, 11 s after their end.
            let windows =
                |rows: &Multiset| rows.keys().map(|row| row[0].clone()).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(windows(&readers[0].1).len(), 6);
            match stopped {
                true => session.stop(),
                false => input.close(),
            }
            for (reader, rows) in &mut readers {
                while let Some(emission) = next(reader) {
                    add(rows, &emission);
                }
            }
            for ((_, rows), sql) in readers.iter().zip(queries) {
                assert_eq!(rows, &readers[0].1, "{workers} workers, stopped: {stopped}, {with}: {sql}");
                assert!(rows.values().all(|count| *count == 1));
            }
            assert_eq!(windows(&readers[0].1).len(), if stopped { 6 } else { 7 });
        }
    }
}

#[test]
fn what_was_final_before_is_appended_at_the_beginning() {
    for workers in [1, 2] {
        let session = session(workers, "WITH (connector = 'channel')");
        let schema = session.table("t").unwrap().schema();
        let mut input = session.input("t").unwrap();
        let mut push = |minute: usize| {
            let ts = format!("2024-01-01T00:{minute:02}:00");
            input.push(oracle::batch(&schema, &[row(&[&ts, "a", "1"])])).unwrap().frontier.unwrap()
        };
        let frontier = (0..5).map(&mut push).last().unwrap();
        let view = session.view("stored").unwrap();
        assert_eq!(view.snapshot().unwrap().num_rows(), 5);
        let (mut late, mut rows) = (append(&session, "SELECT * FROM stored"), Multiset::new());
        read_until(&mut late, &mut rows, frontier);
        assert_eq!(rows.len(), 3, "{}", oracle::show(&rows));
        let frontier = push(6);
        read_until(&mut late, &mut rows, frontier);
        assert_eq!(rows.len(), 5, "{}", oracle::show(&rows));
        input.close();
        while let Some(emission) = next(&mut late) {
            add(&mut rows, &emission);
        }
        assert_eq!(rows, oracle::multiset(&view.snapshot().unwrap(), None));
    }
}

#[test]
fn groups_of_a_stream_that_ends_are_appended_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    for rows in [10, 1_000, 30_000] {
        let path = folder.path().join(format!("{rows}.csv"));
        let mut text = "ts,k\n".to_owned();
        for i in 0..rows {
            writeln!(text, "2024-01-01T{:02}:{:02}:{:02},{}", i / 3600, i / 60 % 60, i % 60, i % 5).unwrap();
        }
        std::fs::write(&path, text).unwrap();
        for workers in [1, 2] {
            let session = Session::builder().workers(workers).build().unwrap();
            session
                .execute(&format!(
                    "CREATE TABLE t (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
                     WITH (connector = 'filesystem', path = '{}')",
                    path.display()
                ))
                .unwrap();
            let mut groups = append(&session, "SELECT k, count(*) AS n FROM t GROUP BY k");
            let mut found = Multiset::new();
            while let Some(emission) = next(&mut groups) {
                add(&mut found, &emission);
            }
            let each = (rows / 5).to_string();
            let expected = (0..5).map(|k| (vec![k.to_string(), each.clone()], 1)).collect::<Multiset>();
            assert_eq!(found, expected, "{rows} rows, {workers} workers");
        }
    }
}

#[test]
fn what_a_program_takes_back_leaves_every_view() {
    for workers in [1, 2] {
        for (with, taken_back) in [
            ("", true),
            ("WITH (connector = 'channel')", true),
            ("WITH (connector = 'channel', append_only = 'true')", false),
        ] {
            let session = Session::builder().workers(workers).build().unwrap();
            session.execute(&format!("CREATE TABLE t (k BIGINT, v BIGINT) {with}")).unwrap();
            let view = |name: &str, sql: &str| session.sql(sql).unwrap().create_view(name).unwrap();
            let views = [
                view("groups", "SELECT k, min(v) AS lo, max(v) AS hi, count(*) AS n, sum(v) AS s FROM t GROUP BY k"),
                view("first", "SELECT k, v FROM t ORDER BY v DESC LIMIT 1"),
                view("kinds", "SELECT DISTINCT v FROM t"),
            ];
            let schema = session.table("t").unwrap().schema();
            let mut input = session.input("t").unwrap();
            input.push(oracle::batch(&schema, &[row(&["1", "10"]), row(&["1", "20"]), row(&["1", "5"])])).unwrap();
            let back = input.push_atomic(oracle::batch(&schema, &[row(&["1", "20"]), row(&["1", "5"])]), vec![-1, -1]);
            if !taken_back {
                let error = back.unwrap_err().to_string();
                assert!(error.contains("'t'") && error.contains("append_only"), "{error}");
                continue;
            }
            back.unwrap();
            let expected = [vec!["1", "10", "10", "1", "10"], vec!["1", "10"], vec!["10"]];
            for (view, expected) in views.iter().zip(expected) {
                let found = oracle::texts(&view.snapshot().unwrap(), None);
                assert_eq!(found, [expected], "{} {with}", view.name());
            }
        }
    }
    let error = Session::new().unwrap().execute("CREATE TABLE t (k BIGINT) WITH (append_only = 'true')").err().unwrap();
    assert!(error.to_string().contains("channel"), "{error}");
}

#[test]
fn an_answer_of_any_rows_reads_no_more_than_it_needs() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session
            .execute(
                "CREATE TABLE endless (id BIGINT, x BIGINT) WITH (connector = 'datagen', 'number-of-rows' = '2000000000');
                 CREATE TABLE memory (id BIGINT); INSERT INTO memory VALUES (3), (1), (2), (1)",
            )
            .unwrap();
        for (sql, rows) in [
            ("SELECT * FROM endless LIMIT 5", 5),
            ("SELECT id + 1 AS i FROM endless WHERE id >= 0 LIMIT 3 OFFSET 2", 3),
            ("SELECT * FROM (SELECT id FROM endless LIMIT 4) ORDER BY id DESC", 4),
            ("SELECT * FROM memory LIMIT 3", 3),
            ("SELECT * FROM memory LIMIT 3 OFFSET 3", 1),
        ] {
            let begin = Instant::now();
            let answer = session.sql(sql).unwrap().collect().unwrap();
            assert_eq!(answer.num_rows(), rows, "{sql}");
            assert!(begin.elapsed() < PATIENCE, "{sql}");
        }
        // With an order it is the first rows, and those of a view are always the same.
        let first = session.sql("SELECT id FROM memory ORDER BY id LIMIT 2").unwrap().collect().unwrap();
        assert_eq!(oracle::texts(&first, None), [["1"], ["1"]]);
        let view = session.sql("SELECT id FROM memory LIMIT 2").unwrap().create_view("v").unwrap();
        assert_eq!(oracle::texts(&view.snapshot().unwrap(), None), [["1"], ["1"]]);
    }
    // A file: whatever rows, but rows of it, each as often as it is there at most.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, format!("id\n{}", (0..200_000).map(|n| format!("{}\n", n / 2)).collect::<String>())).unwrap();
    let session = Session::builder().workers(2).build().unwrap();
    let table = session.read().format("csv").load(path.to_str().unwrap()).unwrap();
    for (offset, limit, rows) in [(0, 7, 7), (5, 3, 3), (199_998, 10, 2)] {
        let answer = table.limit(offset, limit).unwrap().collect().unwrap();
        assert_eq!(answer.num_rows(), rows);
        let found = oracle::multiset(&answer, None);
        assert!(found.iter().all(|(row, count)| row[0].parse::<u32>().unwrap() < 100_000 && *count <= 2));
    }
}
