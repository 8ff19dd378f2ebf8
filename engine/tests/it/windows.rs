//! Windows over streams with a watermark: what is final when, what is late, and that a batch says the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use headwater::arrow::datatypes::SchemaRef;
use headwater::{Emission, ForEach, OutputMode, Session, Subscription, Trigger};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::oracle::{self, Batch, Changelog, Multiset, Row, next};

const DELAY: i64 = 10;
/// The default: a tenth of the delay.
const RESOLUTION: i64 = 1;

/// A minute's windows, and hopping ones; as asked of DataFusion over the rows that are on time.
const TUMBLING: [&str; 2] = [
    "SELECT w['end'] AS e, k, count(*) AS n, sum(v) AS total, count(DISTINCT v) AS d \
     FROM (SELECT window(ts, '1 minute') AS w, k, v FROM t) AS x GROUP BY w, k",
    "SELECT date_bin(INTERVAL '1 minute', ts) + INTERVAL '1 minute' AS e, k, count(*) AS n, sum(v) AS total, \
     count(DISTINCT v) AS d FROM t GROUP BY 1, k",
];
const HOPPING: [&str; 2] = [
    "SELECT w['end'] AS e, k, min(v) AS lo, max(v) AS hi \
     FROM (SELECT window(ts, '1 minute', '20 seconds') AS w, k, v FROM t) AS x GROUP BY w, k",
    "SELECT e, k, min(v) AS lo, max(v) AS hi FROM (\
     SELECT date_bin(INTERVAL '20 seconds', ts) + INTERVAL '20 seconds' AS e, k, v FROM t UNION ALL \
     SELECT date_bin(INTERVAL '20 seconds', ts) + INTERVAL '40 seconds' AS e, k, v FROM t UNION ALL \
     SELECT date_bin(INTERVAL '20 seconds', ts) + INTERVAL '60 seconds' AS e, k, v FROM t) AS x GROUP BY e, k",
];

fn session(workers: usize) -> (Session, SchemaRef) {
    let session = Session::builder().workers(workers).build().unwrap();
    session
        .execute(
            "CREATE TABLE t (ts TIMESTAMP, k TEXT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
             WITH (connector = 'channel')",
        )
        .unwrap();
    let schema = session.table("t").unwrap().schema();
    (session, schema)
}

fn subscribe(session: &Session, sql: &str, mode: OutputMode) -> Subscription {
    let frame = session.sql(sql).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    frame.write_stream().output_mode(mode).trigger(Trigger::Continuous).subscribe().unwrap()
}

/// Seconds around the beginning of 1970 as a timestamp.
fn timestamp(seconds: i64) -> String {
    assert!((-86_400..86_400).contains(&seconds));
    let (day, second) = if seconds < 0 { ("1969-12-31", seconds + 86_400) } else { ("1970-01-01", seconds) };
    format!("{day}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn event(random: &mut SmallRng, seconds: i64) -> Row {
    let v = random.random_range(0..5).to_string();
    vec![Some(timestamp(seconds)), oracle::one_of(random, &["-", "a", "b"]), Some(v)]
}

/// Events in order of arrival with their time in seconds: time goes on from before 1970, with `disorder`.
fn events(seed: u64, count: usize, disorder: i64) -> Vec<(i64, Row)> {
    let mut random = oracle::random(seed);
    let mut clock = -150;
    let mut all = Vec::new();
    for _ in 0..count {
        clock += random.random_range(0..5);
        let seconds = clock - random.random_range(0..=disorder);
        all.push((seconds, event(&mut random, seconds)));
    }
    all
}

/// Which events are late: behind the largest time before them by more than the delay.
fn late(events: &[(i64, Row)]) -> Vec<bool> {
    let mut frontier = i64::MIN / 2;
    let judge = |(seconds, _): &(i64, Row)| {
        let late = *seconds < frontier - DELAY;
        frontier = frontier.max(*seconds);
        late
    };
    events.iter().map(judge).collect()
}

/// What DataFusion says of the events that are wanted.
fn expected(schema: &SchemaRef, events: &[(i64, Row)], wanted: impl Fn(usize) -> bool, sql: &str) -> Multiset {
    let rows: Vec<Row> = (0..events.len()).filter(|i| wanted(*i)).map(|i| events[i].1.clone()).collect();
    oracle::multiset(&Batch::over(&[("t", oracle::batch(schema, &rows))]).answer(sql), None)
}

/// The finite frontiers at which final rows were seen, and the rows.
struct Finals {
    rows: Multiset,
    /// The last frontier before the end.
    frontier: i64,
}

/// Reads an append subscription of rows whose first column is a window's end, checking that each row comes with the
/// first emission whose watermark has reached its end.
fn finals(subscription: &mut Subscription) -> Finals {
    let mut finals = Finals { rows: Multiset::new(), frontier: i64::MIN };
    let mut before = i64::MIN;
    while let Some(emission) = next(subscription) {
        let watermark = emission.frontier.map_or(i64::MAX, |f| f.saturating_sub((DELAY + RESOLUTION) * 1_000_000));
        for (row, count) in oracle::texts(&emission.rows, None).into_iter().zip(&emission.counts) {
            let end = seconds(&row[0]) * 1_000_000;
            assert!(end <= watermark, "{row:?} came before it was final, at watermark {watermark}");
            assert!(end > before, "{row:?} came late: it was final at watermark {before}");
            let copies = finals.rows.entry(row).or_default();
            *copies += *count as i64;
            assert_eq!(*copies, 1);
        }
        before = watermark;
        finals.frontier = emission.frontier.unwrap_or(finals.frontier);
    }
    finals
}

fn seconds(timestamp: &str) -> i64 {
    let (day, time) = timestamp.split_once('T').unwrap();
    let parts: Vec<i64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    let of_day = parts[0] * 3600 + parts[1] * 60 + parts[2];
    match day {
        "1969-12-31" => of_day - 86_400,
        "1970-01-01" => of_day,
        other => panic!("{other}"),
    }
}

#[test]
fn final_windows_are_those_of_a_batch_without_the_late_rows() {
    for (workers, disorder, seed) in [(1, DELAY, 1), (2, DELAY, 2), (1, 40, 3), (2, 40, 4), (4, 40, 5)] {
        let (session, schema) = session(workers);
        let events = events(seed, 300, disorder);
        let late = late(&events);
        assert_eq!(late.contains(&true), disorder > DELAY);
        let mut tumbling = subscribe(&session, TUMBLING[0], OutputMode::Append);
        let mut hopping = subscribe(&session, HOPPING[0], OutputMode::Append);
        let mut late_rows = subscribe(&session, "SELECT * FROM t.late", OutputMode::Append);
        let mut all = subscribe(&session, "SELECT k, count(*) AS n FROM t GROUP BY k", OutputMode::Changelog);
        let mut input = session.input("t").unwrap();
        let mut random = oracle::random(seed + 100);
        let mut left = &events[..];
        while !left.is_empty() {
            let (round, rest) = left.split_at(random.random_range(1..=left.len().min(20)));
            let rows: Vec<Row> = round.iter().map(|(_, row)| row.clone()).collect();
            input.push(oracle::batch(&schema, &rows)).unwrap();
            left = rest;
        }
        assert_eq!(session.tables()[0].counts.late, late.iter().filter(|late| **late).count() as u64);
        input.close();
        let what = format!("{workers} workers, disorder {disorder}, seed {seed}");
        for (subscription, theirs) in [(&mut tumbling, TUMBLING[1]), (&mut hopping, HOPPING[1])] {
            let finals = finals(subscription);
            let expected = expected(&schema, &events, |i| !late[i], theirs);
            let (found, wanted) = (oracle::show(&finals.rows), oracle::show(&expected));
            assert_eq!(finals.rows, expected, "{what}: {theirs}\nfound\n{found}\nexpected\n{wanted}");
        }
        let mut found = Multiset::new();
        while let Some(emission) = next(&mut late_rows) {
            for (row, count) in oracle::texts(&emission.rows, None).into_iter().zip(emission.counts) {
                *found.entry(row).or_default() += count as i64;
            }
        }
        assert_eq!(found, expected(&schema, &events, |i| late[i], "SELECT * FROM t"), "{what}");
        // What releases nothing sees every row.
        let counts = oracle::to_the_end(&mut all, None).at(i64::MAX);
        assert_eq!(counts, expected(&schema, &events, |_| true, "SELECT k, count(*) AS n FROM t GROUP BY k"), "{what}");
    }
}

/// Before a window is final it is as right as any answer: it holds what has arrived.
#[test]
fn open_windows_follow_their_rows() {
    for workers in [1, 2] {
        let (session, schema) = session(workers);
        let events = events(8, 120, DELAY);
        let mut changelog = subscribe(&session, TUMBLING[0], OutputMode::Changelog);
        let mut input = session.input("t").unwrap();
        let mut stamps = Vec::new();
        for round in events.chunks(7) {
            let rows: Vec<Row> = round.iter().map(|(_, row)| row.clone()).collect();
            stamps.push(input.push(oracle::batch(&schema, &rows)).unwrap().frontier.unwrap() - 1);
        }
        input.close();
        let changelog = oracle::to_the_end(&mut changelog, None);
        for (n, stamp) in stamps.iter().enumerate() {
            let expected = expected(&schema, &events, |i| i / 7 <= n, TUMBLING[1]);
            assert_eq!(changelog.at(*stamp), expected, "after round {n} with {workers} workers");
        }
    }
}

fn into_list() -> (Arc<Mutex<Vec<Emission>>>, Box<ForEach<impl FnMut(&Emission) -> headwater::Result<()> + Send>>) {
    let list = Arc::new(Mutex::new(Vec::new()));
    let into = list.clone();
    let sink = ForEach(move |emission: &Emission| {
        into.lock().unwrap().push(emission.clone());
        Ok(())
    });
    (list, Box::new(sink))
}

fn ends(list: &Mutex<Vec<Emission>>) -> Vec<i64> {
    let emissions = list.lock().unwrap();
    let mut ends: Vec<i64> =
        emissions.iter().flat_map(|e| oracle::texts(&e.rows, None)).map(|row| seconds(&row[0])).collect();
    ends.sort_unstable();
    ends
}

#[test]
fn stopping_finalises_nothing_and_closing_everything() {
    for close in [false, true] {
        let (session, schema) = session(2);
        let sql =
            "SELECT w['end'] AS e, count(*) AS n FROM (SELECT window(ts, '1 minute') AS w FROM t) AS x GROUP BY w";
        let (list, sink) = into_list();
        let query = session.sql(sql).unwrap().write_stream().start_into(sink).unwrap();
        // The same into a view, to know that all is worked through.
        let mut input = session.input("t").unwrap();
        let mut random = oracle::random(1);
        for second in [0, 30, 59, 61, 100, 130, 140] {
            input.push(oracle::batch(&schema, &[event(&mut random, second)])).unwrap();
        }
        // At 140 s the watermark is behind 129 s: the windows that end at 60 and at 120 are final.
        while ends(&list).len() < 2 {
            assert!(!query.has_ended());
            std::thread::yield_now();
        }
        if close {
            input.close();
            query.await_termination().unwrap();
            assert_eq!(ends(&list), [60, 120, 180]);
        } else {
            query.stop().unwrap();
            assert_eq!(ends(&list), [60, 120]);
            // The table goes on without it.
            input.push(oracle::batch(&schema, &[event(&mut random, 500)])).unwrap();
            input.close();
            assert_eq!(ends(&list), [60, 120]);
        }
    }
}

/// What the watermark had made final when a reader stopped is given, also where both come at once.
#[test]
fn what_was_final_before_a_stop_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    let seconds = [0, 30, 59, 61, 100, 130, 140];
    let lines = seconds.map(|second| format!("{},1\n", timestamp(second)));
    std::fs::write(&path, format!("ts,k\n{}", lines.concat())).unwrap();
    for (workers, times) in [(1, 10), (2, 10)] {
        let session = Session::builder().workers(workers).build().unwrap();
        let minutes = "SELECT window(ts, '1 minute') AS w, count(*) AS n FROM t GROUP BY window(ts, '1 minute')";
        session
            .execute(&format!(
                "CREATE TABLE t (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
                 WITH (connector = 'filesystem', path = '{}', source.monitor-interval = '20 ms');
                 CREATE MATERIALIZED VIEW v AS {minutes}",
                path.display()
            ))
            .unwrap();
        for from in [format!("({minutes}) AS q"), "v".to_owned()] {
            for _ in 0..times {
                let query = session.sql(&format!("SELECT w['end'] AS e, n FROM {from}")).unwrap();
                let (list, sink) = into_list();
                let writer = query.write_stream().output_mode(OutputMode::Append).trigger(Trigger::AvailableNow);
                writer.start_into(sink).unwrap().await_termination().unwrap();
                assert_eq!(ends(&list), [60, 120], "{from}, {workers} workers");
            }
        }
    }
}

fn file(dir: &std::path::Path, seed: u64, disorder: i64) -> (std::path::PathBuf, Vec<(i64, Row)>) {
    let events = events(seed, 400, disorder);
    let path = dir.join("t.csv");
    let mut text = "ts,k,v\n".to_owned();
    for (_, row) in &events {
        let cells: Vec<_> = row.iter().map(|cell| cell.as_deref().unwrap_or("")).collect();
        text.push_str(&format!("{}\n", cells.join(",")));
    }
    std::fs::write(&path, text).unwrap();
    (path, events)
}

#[test]
fn a_file_gives_the_same_as_batch_and_as_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (path, events) = file(dir.path(), 21, DELAY);
    let (_, schema) = session(1);
    let mut answers: BTreeMap<String, Vec<Multiset>> = BTreeMap::new();
    for mode in ["batch", "streaming"] {
        for workers in [1, 2] {
            let session = Session::builder().workers(workers).build().unwrap();
            let table = format!(
                "SET execution.runtime-mode = '{mode}';
                 CREATE TABLE t (ts TIMESTAMP, k TEXT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
                 WITH (connector = 'filesystem', path = '{}', format = 'csv');",
                path.display()
            );
            let mut script = session.run_script(&format!("{table} {}; {}", TUMBLING[0], HOPPING[0])).unwrap();
            let shown = script.answers().unwrap();
            let answers = answers.entry(mode.to_owned()).or_default();
            answers.extend(shown.iter().map(|rows| oracle::multiset(rows, None)));
            // What append mode has written at the end is the same.
            let session = Session::builder().workers(workers).build().unwrap();
            session.execute(&table).unwrap();
            for sql in [TUMBLING[0], HOPPING[0]] {
                let mut written = Multiset::new();
                let mut append = subscribe(&session, sql, OutputMode::Append);
                while let Some(emission) = next(&mut append) {
                    for row in oracle::texts(&emission.rows, None) {
                        *written.entry(row).or_default() += 1;
                    }
                }
                answers.push(written);
            }
        }
    }
    let wanted = [TUMBLING[1], HOPPING[1]].map(|sql| expected(&schema, &events, |_| true, sql));
    for (mode, found) in answers {
        assert_eq!(found.len(), 8);
        for (i, found) in found.iter().enumerate() {
            let (shown, expected) = (oracle::show(found), oracle::show(&wanted[i % 2]));
            assert_eq!(*found, wanted[i % 2], "{mode}, answer {i}\n{shown}\nexpected\n{expected}");
        }
    }
}

/// A batch and a stream differ by exactly the late rows.
#[test]
fn what_a_batch_has_more_is_late() {
    let dir = tempfile::tempdir().unwrap();
    let (path, events) = file(dir.path(), 22, 35);
    let late = late(&events);
    let (_, schema) = session(1);
    let declare = |mode: &str| {
        let session = Session::builder().workers(2).build().unwrap();
        let text = format!(
            "SET execution.runtime-mode = '{mode}';
             CREATE TABLE t (ts TIMESTAMP, k TEXT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
             WITH (connector = 'filesystem', path = '{}', format = 'csv')",
            path.display()
        );
        session.execute(&text).unwrap();
        session
    };
    let (batch, stream) = (declare("batch"), declare("streaming"));
    let finals = |session: &Session, sql: &str| {
        let mut append = subscribe(session, sql, OutputMode::Append);
        let mut written = Multiset::new();
        while let Some(emission) = next(&mut append) {
            for (row, count) in oracle::texts(&emission.rows, None).into_iter().zip(emission.counts) {
                *written.entry(row).or_default() += count as i64;
            }
        }
        written
    };
    assert_eq!(finals(&batch, TUMBLING[0]), expected(&schema, &events, |_| true, TUMBLING[1]));
    assert_eq!(finals(&stream, TUMBLING[0]), expected(&schema, &events, |i| !late[i], TUMBLING[1]));
    assert_eq!(finals(&stream, "SELECT * FROM t.late"), expected(&schema, &events, |i| late[i], "SELECT * FROM t"));
    assert_eq!(finals(&batch, "SELECT * FROM t.late"), Multiset::new());
}

/// State of windows that are final is released, so an endless stream does not grow.
#[test]
fn the_stored_windows_do_not_hold_the_rows() {
    let (session, schema) = session(2);
    let view = session.sql(TUMBLING[0]).unwrap().create_view("v").unwrap();
    let mut input = session.input("t").unwrap();
    let events = events(30, 200, DELAY);
    for round in events.chunks(10) {
        let rows: Vec<Row> = round.iter().map(|(_, row)| row.clone()).collect();
        input.push(oracle::batch(&schema, &rows)).unwrap();
    }
    let snapshot = oracle::multiset(&view.snapshot().unwrap(), None);
    assert_eq!(snapshot, expected(&schema, &events, |_| true, TUMBLING[1]));
    // A row for a window long final is late and changes nothing.
    let mut random = oracle::random(3);
    input.push(oracle::batch(&schema, &[event(&mut random, -150)])).unwrap();
    assert_eq!(oracle::multiset(&view.snapshot().unwrap(), None), snapshot);
    assert_eq!(session.tables()[0].counts.late, 1);
}

/// Two splits: the slower one holds results back, and its rows are not late by the other's time.
#[test]
fn a_slow_split_holds_back_and_is_not_late() {
    let (session, schema) = session(2);
    let mut changelog = Changelog::default();
    let mut subscription = subscribe(&session, TUMBLING[0], OutputMode::Changelog);
    let (mut fast, mut slow) = (session.input("t").unwrap(), session.input("t").unwrap());
    let mut random = oracle::random(4);
    let mut push = |input: &mut headwater::Input, second: i64| {
        let row = event(&mut random, second);
        let frontier = input.push(oracle::batch(&schema, std::slice::from_ref(&row))).unwrap().frontier;
        (frontier, (second, row))
    };
    let mut events = Vec::new();
    for second in [0, 100, 300] {
        let (frontier, event) = push(&mut fast, second);
        events.push(event);
        assert!(frontier.unwrap() <= 1, "the slow split has not spoken: {frontier:?}");
    }
    for second in [5, 50, 200] {
        let (frontier, event) = push(&mut slow, second);
        events.push(event);
        assert_eq!(frontier, Some(second * 1_000_000 + 1));
    }
    oracle::until(&mut subscription, &mut changelog, 200_000_001);
    let seen = expected(&schema, &events, |i| events[i].0 <= 200, TUMBLING[1]);
    assert_eq!(changelog.at(200_000_000), seen);
    drop(slow);
    fast.close();
    let rest = oracle::to_the_end(&mut subscription, None);
    changelog.0.extend(rest.0);
    assert_eq!(changelog.at(i64::MAX), expected(&schema, &events, |_| true, TUMBLING[1]));
    assert_eq!(session.tables()[0].counts.late, 0);
}
