//! How things start, stop, fail and go away.

#![allow(clippy::disallowed_methods, reason = "tests end with their threads")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headwater::arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headwater::{Emission, Error, Event, ForEach, OutputMode, Session, Subscription, Trigger, View};

use crate::oracle::{self, PATIENCE, multiset};

const SECOND: i64 = 1_000_000;
/// 2024-01-01T00:00:00.
const Y2024: i64 = 1_704_067_200 * SECOND;
/// Anything can be dropped, cancelled or stopped within a second; more here, for the machine has other work.
const AT_ONCE: Duration = Duration::from_secs(5);

fn pairs(session: &Session, table: &str, rows: &[(i64, i64)]) -> RecordBatch {
    let (a, b): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let columns = vec![Arc::new(Int64Array::from(a)) as _, Arc::new(Int64Array::from(b)) as _];
    RecordBatch::try_new(session.table(table).unwrap().schema(), columns).unwrap()
}

fn events(session: &Session, table: &str, rows: &[(i64, i64)]) -> RecordBatch {
    let (a, b): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let columns = vec![Arc::new(TimestampMicrosecondArray::from(a)) as _, Arc::new(Int64Array::from(b)) as _];
    RecordBatch::try_new(session.table(table).unwrap().schema(), columns).unwrap()
}

fn says(error: impl ToString, what: &[&str]) {
    let text = error.to_string();
    what.iter().for_each(|wanted| assert!(text.contains(wanted), "not in it: {wanted}\n{text}"));
}

fn fails<T>(outcome: Result<T, Error>, what: &[&str]) {
    match outcome {
        Ok(_) => panic!("it was not refused: {what:?}"),
        Err(error) => says(error, what),
    }
}

fn subscribe(session: &Session, sql: &str, mode: OutputMode) -> Subscription {
    let query = session.sql(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    query.write_stream().output_mode(mode).subscribe().unwrap()
}

/// What comes within `wait`: the rows, and whether it has ended.
fn drain(changes: &mut Subscription, wait: Duration) -> (usize, bool) {
    let until = Instant::now() + wait;
    let mut rows = 0;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match changes.next(left.min(PATIENCE)).unwrap() {
            Event::Emission(emission) => rows += emission.ops.len(),
            Event::Idle => {}
            Event::End => return (rows, true),
        }
    }
    (rows, false)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `act` on a thread of its own, which must return at once.
fn at_once<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let since = Instant::now();
    let thread = std::thread::spawn(act);
    while !thread.is_finished() {
        assert!(since.elapsed() < AT_ONCE, "it has not returned after {AT_ONCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.join().unwrap()
}

fn watermarked(name: &str, with: &str) -> String {
    format!("CREATE TABLE {name} (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ({with})")
}

fn number(view: &View) -> usize {
    view.snapshot().unwrap().num_rows()
}

const HOURS: &str = "SELECT window(ts, '1 hour') AS w, k, count(*) AS n FROM c GROUP BY window(ts, '1 hour'), k";

#[test]
fn a_stop_makes_nothing_final_through_any_chain_of_views() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute(&watermarked("c", "connector = 'channel'")).unwrap();
    session.execute(&format!("CREATE VIEW p AS {HOURS}; CREATE MATERIALIZED VIEW v AS SELECT * FROM p")).unwrap();
    session.execute("CREATE MATERIALIZED VIEW w AS SELECT w, k, n + 1 AS n FROM v").unwrap();
    let all = |from: &str| format!("SELECT w, sum(n) AS n FROM {from} GROUP BY w");
    let from = [all(&format!("({HOURS}) AS q")), all("p"), all("v"), all("w")];
    let mut changes = from.map(|sql| subscribe(&session, &sql, OutputMode::Append));
    let mut input = session.input("c").unwrap();
    input.push(events(&session, "c", &[(Y2024, 1), (Y2024 + SECOND, 2)])).unwrap();
    eventually("the rows are there", || number(&session.view("w").unwrap()) == 2);
    session.stop();
    for changes in &mut changes {
        assert_eq!(drain(changes, PATIENCE), (0, true));
        assert_eq!(changes.status().state, "stopped");
    }
    // Whereas an end makes all of it final.
    let session = Session::new().unwrap();
    session.execute(&watermarked("c", "connector = 'channel'")).unwrap();
    session.execute(&format!("CREATE MATERIALIZED VIEW v AS {HOURS}")).unwrap();
    let mut changes = subscribe(&session, &all("v"), OutputMode::Append);
    let mut input = session.input("c").unwrap();
    input.push(events(&session, "c", &[(Y2024, 1), (Y2024 + SECOND, 2)])).unwrap();
    input.close();
    assert_eq!(drain(&mut changes, PATIENCE), (1, true));
    assert_eq!(changes.status().state, "ended");
}

#[test]
fn what_is_read_is_dropped_only_with_its_readers_and_makes_nothing_final() {
    let session = Session::new().unwrap();
    session.execute(&watermarked("c", "connector = 'channel'")).unwrap();
    session.execute(&format!("CREATE MATERIALIZED VIEW v AS {HOURS}")).unwrap();
    let mut changes = subscribe(&session, "SELECT w, sum(n) AS n FROM v GROUP BY w", OutputMode::Append);
    let mut input = session.input("c").unwrap();
    let rows = events(&session, "c", &[(Y2024, 1), (Y2024 + SECOND, 2)]);
    input.push(rows.clone()).unwrap();
    fails(session.execute("DROP VIEW v"), &["'v' is still read by subscription", "CASCADE"]);
    fails(session.execute("DROP TABLE c"), &["'c' is still read by view 'v'"]);
    assert_eq!(drain(&mut changes, Duration::from_millis(50)), (0, false));
    session.execute("DROP TABLE c CASCADE").unwrap();
    fails(changes.recv(), &["dropped"]);
    fails(session.view("v"), &["there is no view 'v'"]);
    fails(input.push(rows), &["table 'c' is closed"]);
}

#[test]
fn available_now_makes_nothing_final_and_sees_what_its_views_tables_have() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.csv");
    std::fs::write(&file, "ts,k\n2024-01-01T00:00:00,1\n2024-01-01T00:00:05,1\n2024-01-01T00:00:06,2\n").unwrap();
    let path = format!("connector = 'filesystem', path = '{}'", file.display());
    for followed in [true, false] {
        let with = if followed { format!("{path}, source.monitor-interval = '50 ms'") } else { path.clone() };
        let session = Session::new().unwrap();
        session.execute(&watermarked("c", &with)).unwrap();
        session.execute(&format!("CREATE MATERIALIZED VIEW v AS {HOURS}")).unwrap();
        for from in [&format!("({HOURS}) AS q"), "v"] {
            let now = |mode| {
                let query = session.sql(&format!("SELECT w, sum(n) AS n FROM {from} GROUP BY w")).unwrap();
                let writer = query.write_stream().output_mode(mode).trigger(Trigger::AvailableNow);
                drain(&mut writer.subscribe().unwrap(), PATIENCE)
            };
            assert_eq!(now(OutputMode::Complete), (1, true), "{from}, followed: {followed}");
            assert_eq!(now(OutputMode::Append), (0, true), "{from}, followed: {followed}");
        }
        // In a script tables start only once all is planned.
        let session = Session::new().unwrap();
        let out = dir.path().join(format!("out-{followed}"));
        let script = format!(
            "{}; CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM c GROUP BY k;
             CREATE SINK s FROM v WITH (connector = 'filesystem', path = '{}', format = 'csv', mode = 'complete', \
             trigger = 'available-now')",
            watermarked("c", &with),
            out.display()
        );
        let script = session.run_script(&script).unwrap();
        script.await_termination().unwrap();
        assert_eq!(script.sinks()[0].rows_written(), 2);
        assert_eq!(script.sinks()[0].status().state, "stopped");
    }
}

#[test]
fn a_name_used_again_is_another_view() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE t (k BIGINT, x BIGINT); CREATE TABLE u (k BIGINT, y BIGINT);
             INSERT INTO t VALUES (1, 1), (2, -2); INSERT INTO u VALUES (1, 10), (2, 20);
             CREATE MATERIALIZED VIEW v AS SELECT k, x FROM t WHERE x > 0",
        )
        .unwrap();
    let join = "SELECT v.k, v.x, u.y FROM v JOIN u ON v.k = u.k";
    let before = session.sql(join).unwrap();
    let live = subscribe(&session, join, OutputMode::Changelog);
    drop(live);
    session.execute("DROP VIEW v; CREATE MATERIALIZED VIEW v AS SELECT k, x FROM t WHERE x < 0").unwrap();
    let joined = session.sql(join).unwrap().create_view("joined").unwrap();
    let rows = multiset(&joined.snapshot().unwrap(), None);
    assert_eq!(rows.into_keys().collect::<Vec<_>>(), [["2", "-2", "20"].map(str::to_owned)]);
    // A query that was built over the old one does not mean the new one.
    fails(before.create_view("old"), &["'v' was dropped or replaced"]);
}

#[test]
fn a_view_made_in_rust_takes_no_name_that_is_taken() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k BIGINT, x BIGINT); INSERT INTO t VALUES (1, 1), (2, -2)").unwrap();
    let query = session.sql("SELECT x FROM t WHERE x < 0").unwrap();
    fails(query.create_view("t"), &["there is already a table 't'"]);
    let view = query.create_view("v").unwrap();
    fails(query.create_view("v"), &["there is already a view 'v'"]);
    session.execute("UPDATE t SET x = -5 WHERE k = 1").unwrap();
    assert_eq!(number(&view), 2);
    session.execute("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT x FROM t WHERE x < -4").unwrap();
    assert_eq!(number(&session.view("v").unwrap()), 1);
    fails(view.drop(), &["dropped already"]);
}

#[test]
fn a_late_view_over_what_is_gone_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "ts,k\n2024-01-01T00:00:00,1\n2024-01-01T00:00:01,2\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "ts,k\n2024-01-01T00:00:02,3\n").unwrap();
    let session = Session::new().unwrap();
    let with = format!(
        "connector = 'filesystem', path = '{}', format = 'csv', source.monitor-interval = '50 ms', idle_timeout = '50 ms'",
        dir.path().display()
    );
    session
        .execute(&format!("{}; CREATE MATERIALIZED VIEW early AS SELECT k FROM t", watermarked("t", &with)))
        .unwrap();
    let early = session.view("early").unwrap();
    eventually("three rows", || number(&early) == 3);
    std::fs::remove_file(dir.path().join("a.csv")).unwrap();
    session.execute("CREATE MATERIALIZED VIEW late AS SELECT k FROM t").unwrap();
    let late = session.view("late").unwrap();
    eventually("the late view fails", || late.status().failure.is_some());
    says(late.snapshot().err().unwrap(), &["'t'", "a.csv", "row 2", "no longer there"]);
    assert_eq!(number(&early), 3);
}

#[test]
fn a_source_that_fails_once_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (file, aside) = (dir.path().join("a.csv"), dir.path().join("aside"));
    std::fs::write(&file, "ts,k\n2024-01-01T00:00:00,1\n2024-01-01T00:00:09,2\n").unwrap();
    let session = Session::new().unwrap();
    let with = format!("connector = 'filesystem', path = '{}', format = 'csv'", file.display());
    session.execute(&watermarked("t", &with)).unwrap();
    let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t";
    let counts = |view: &View, rows: &str| {
        let rows = [rows.to_owned()];
        eventually("it is read", || {
            multiset(&view.snapshot().unwrap(), None).keys().next().is_some_and(|n| *n == rows)
        });
    };
    std::fs::rename(&file, &aside).unwrap();
    // Opened at once or met while it is read: the view is refused, or has failed.
    if session.execute(create).is_ok() {
        let view = session.view("v").unwrap();
        eventually("it fails", || view.status().failure.is_some());
        session.execute("DROP VIEW v").unwrap();
    }
    fails(session.view("v"), &["there is no view"]);
    std::fs::rename(&aside, &file).unwrap();
    session.execute(create).unwrap();
    counts(&session.view("v").unwrap(), "2");
    // It fails while it is read, and is mended.
    std::fs::write(&file, "ts,k\n2024-01-01T00:00:00,1\nbroken\n").unwrap();
    let session = Session::new().unwrap();
    session.execute(&format!("{}; {create}", watermarked("t", &with))).unwrap();
    let broken = session.view("v").unwrap();
    eventually("it fails", || broken.status().failure.is_some());
    std::fs::write(&file, "ts,k\n2024-01-01T00:00:00,1\n2024-01-01T00:00:03,3\n2024-01-01T00:00:04,3\n").unwrap();
    session.execute("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM t").unwrap();
    counts(&session.view("w").unwrap(), "3");
    // What has failed stays so until it is made again.
    says(broken.snapshot().err().unwrap(), &["'t'"]);
    session.execute("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t").unwrap();
    counts(&session.view("v").unwrap(), "3");
}

/// Processor time of the calling thread, in clock ticks of 10 ms.
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn who_reads_a_view_in_error_waits() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (a BIGINT, b BIGINT); INSERT INTO t VALUES (1, 0)").unwrap();
    let mut changes = subscribe(&session, "SELECT a / b AS q FROM t", OutputMode::Changelog);
    eventually("the error is known", || {
        assert!(matches!(changes.next(Duration::from_millis(20)).unwrap(), Event::Idle));
        changes.error().is_some()
    });
    let before = ticks();
    assert!(matches!(changes.next(Duration::from_millis(600)).unwrap(), Event::Idle));
    assert!(ticks() - before < 20, "{} ticks of 10 ms in 600 ms", ticks() - before);
    session.execute("DELETE FROM t WHERE b = 0; INSERT INTO t VALUES (4, 2)").unwrap();
    let healed = std::iter::from_fn(|| oracle::next(&mut changes)).find(|emission| !emission.ops.is_empty());
    assert_eq!(healed.unwrap().ops.len(), 1);
}

#[test]
fn a_sink_is_dropped_at_once_whatever_its_feed_does() {
    for pace in [5, 20, 1000] {
        let session = Session::new().unwrap();
        let with = format!("connector = 'datagen', rows-per-second = {pace}");
        session
            .execute(&format!(
                "{}; CREATE SINK s AS SELECT k FROM t WITH (connector = 'blackhole'); CREATE MATERIALIZED VIEW v AS \
                 SELECT k FROM t; CREATE SINK w WITH (connector = 'blackhole', mode = 'complete') AS SELECT count(*) FROM v",
                watermarked("t", &with)
            ))
            .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let other = session.clone();
        at_once(move || other.execute("DROP SINK s; DROP SINK w; DROP VIEW v; DROP TABLE t").map(|_| ())).unwrap();
    }
}

/// What is on its way is bounded in bytes too: who pushes large rows waits for a sink that does not write.
#[test]
fn few_large_rows_are_not_many_on_their_way() {
    let session = Session::new().unwrap();
    session
        .execute("SET max_in_flight_bytes = 1000000; CREATE TABLE t (s VARCHAR) WITH (connector = 'channel')")
        .unwrap();
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let (written, pushed, enough) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let told = written.clone();
    let sink = ForEach(move |emission: &Emission| {
        let _ = opened.recv();
        told.fetch_add(emission.rows.num_rows(), Ordering::Relaxed);
        Ok(())
    });
    let query = session.sql("SELECT s FROM t").unwrap().write_stream().output_mode(OutputMode::Append);
    let query = query.start_into(Box::new(sink)).unwrap();
    // 16 MiB a push.
    let row = "x".repeat(1 << 16);
    let rows = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(row, 256)));
    let rows = RecordBatch::try_new(session.table("t").unwrap().schema(), vec![rows]).unwrap();
    let mut input = session.input("t").unwrap();
    let (count, over) = (pushed.clone(), enough.clone());
    let pushing = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) && input.push(rows.clone()).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        input.close();
    });
    let mut before = 0;
    eventually("pushing rests", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = pushed.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    // A million bytes wait for the worker, 128 MiB for the operators and 256 MiB for the sink, and of each a push more.
    assert!(before < 40, "{before} pushes of 16 MiB");
    enough.store(true, Ordering::Relaxed);
    drop(gate);
    eventually("all is pushed", || pushing.is_finished());
    pushing.join().unwrap();
    query.await_termination().unwrap();
    assert_eq!(written.load(Ordering::Relaxed), 256 * pushed.load(Ordering::Relaxed));
}

#[test]
fn planning_ends_in_time() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k BIGINT); SET max_planning_time = '1 us'").unwrap();
    let query = "SELECT a.k FROM t AS a JOIN t AS b ON a.k = b.k WHERE a.k > 1";
    fails(session.execute(query), &["planning takes longer than 1µs", "SET max_planning_time"]);
    fails(session.execute("SET max_planning_time = '0 s'"), &["above 0"]);
    session.execute(&format!("SET max_planning_time = '1 minute'; {query}")).unwrap();
}

#[test]
fn who_pushes_does_not_wait_for_its_own_next_step() {
    for case in ["join", "unread"] {
        for with in ["connector = 'channel'", ""] {
            let session = Session::new().unwrap();
            for name in ["a", "b"] {
                session.execute(watermarked(name, with).trim_end_matches(" WITH ()")).unwrap();
            }
            session.execute("SET max_in_flight = 100000").unwrap();
            let view = session.sql("SELECT a.k, b.ts FROM a JOIN b ON a.k = b.k").unwrap().create_view("v").unwrap();
            let unread = (case == "unread").then(|| subscribe(&session, "SELECT k FROM a", OutputMode::Changelog));
            let (mut a, mut b) = (session.input("a").unwrap(), session.input("b").unwrap());
            let pushing = session.clone();
            // More than any buffer on the way holds.
            let pushed = std::thread::spawn(move || {
                for round in 0..60i64 {
                    let rows: Vec<_> =
                        (0..50_000).map(|i| (Y2024 + (round * 50_000 + i) * 1000, round * 50_000 + i)).collect();
                    a.push(events(&pushing, "a", &rows)).unwrap();
                }
                b.push(events(&pushing, "b", &[(Y2024, 1)])).unwrap();
                (a, b)
            });
            eventually("all is pushed", || pushed.is_finished());
            let (a, b) = pushed.join().unwrap();
            a.close();
            b.close();
            assert_eq!(number(&view), 1, "{case}, {with}");
            if let Some(mut unread) = unread {
                assert_eq!(drain(&mut unread, PATIENCE), (3_000_000, true));
            }
        }
    }
}

#[test]
fn a_reader_that_rests_holds_up_nobody_and_fails_in_the_end() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k BIGINT, v BIGINT); SET max_unread = 100000").unwrap();
    let mut resting = subscribe(&session, "SELECT k FROM t", OutputMode::Changelog);
    let view = session.sql("SELECT count(*) AS n FROM t").unwrap().create_view("n").unwrap();
    let mut input = session.input("t").unwrap();
    for round in 0..20 {
        let rows: Vec<_> = (0..1_000).map(|i| (round, i)).collect();
        input.push(pairs(&session, "t", &rows)).unwrap();
    }
    assert_eq!(multiset(&view.snapshot().unwrap(), None).keys().next().unwrap(), &["20000"]);
    fails(resting.recv(), &["subscription", "max_unread"]);
    session.execute("SET max_unread = 0").map(|_| ()).unwrap_err();
}

#[test]
fn statements_and_pushes_move_time_alike() {
    let session = Session::new().unwrap();
    session.execute(watermarked("t", "").trim_end_matches(" WITH ()")).unwrap();
    let windows = "SELECT window(ts, '10 seconds') AS w, count(*) AS n FROM t GROUP BY window(ts, '10 seconds')";
    let mut finals = subscribe(&session, windows, OutputMode::Append);
    session.execute("INSERT INTO t VALUES ('2024-01-01T00:00:00', 1)").unwrap();
    let mut input = session.input("t").unwrap();
    for i in 0..60 {
        input.push(events(&session, "t", &[(Y2024 + i * SECOND, i)])).unwrap();
    }
    assert_eq!(session.tables()[0].frontier, Some(Y2024 + 59 * SECOND + 1));
    assert_eq!(drain(&mut finals, Duration::from_millis(300)).0, 5);
    // Statements alone do as well.
    drop(input);
    for i in 60..90 {
        session.execute(&format!("INSERT INTO t VALUES (TIMESTAMP '2024-01-01T00:01:{:02}', {i})", i - 60)).unwrap();
    }
    assert_eq!(session.tables()[0].frontier, Some(Y2024 + 89 * SECOND + 1));
    for with in ["connector = 'channel', idle_timeout = '200 ms'", "idle_timeout = '200 ms'"] {
        fails(session.execute(&watermarked("c", with)), &["idle_timeout"]);
    }
    for keyed in ["k BIGINT PRIMARY KEY", "k BIGINT, PRIMARY KEY (k) NOT ENFORCED"] {
        fails(session.execute(&format!("CREATE TABLE p ({keyed})")), &["PRIMARY KEY"]);
    }
}

#[test]
fn to_look_at_a_file_changes_nothing_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.csv");
    std::fs::write(&file, "ts,k\n2030-01-01T00:00:00,1\n2030-01-01T00:00:05,1\n").unwrap();
    let session = Session::new().unwrap();
    session
        .execute(&format!(
            "{}; CREATE TABLE dim (k BIGINT, name BIGINT); {};
             CREATE MATERIALIZED VIEW v AS SELECT c.ts, c.k, dim.name FROM c JOIN dim ON c.k = dim.k",
            watermarked("c", "connector = 'channel'"),
            watermarked("f", &format!("connector = 'filesystem', path = '{}'", file.display()))
        ))
        .unwrap();
    let mut input = session.input("c").unwrap();
    input.push(events(&session, "c", &[(Y2024, 1)])).unwrap();
    assert_eq!(session.sql("SELECT * FROM f").unwrap().collect().unwrap().num_rows(), 2);
    session.execute("INSERT INTO dim VALUES (1, 100)").unwrap();
    for i in 1..4 {
        input.push(events(&session, "c", &[(Y2024 + i * SECOND, 1)])).unwrap();
    }
    assert_eq!(number(&session.view("v").unwrap()), 4);
}

#[test]
fn a_script_that_fails_leaves_nothing_waiting() {
    let session = Session::new().unwrap();
    fails(session.run_script("CREATE TABLE a (k BIGINT); SELECT nothing FROM nowhere;"), &["nowhere"]);
    session
        .execute(&format!(
            "{}; CREATE MATERIALIZED VIEW v AS SELECT k FROM t",
            watermarked("t", "connector = 'datagen', number-of-rows = 100")
        ))
        .unwrap();
    eventually("it is read", || number(&session.view("v").unwrap()) == 100);
}

#[test]
fn no_push_comes_between_what_a_statement_reads_and_writes() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE t (k BIGINT, v BIGINT);
             CREATE MATERIALIZED VIEW w AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k;
             CREATE MATERIALIZED VIEW all_rows AS SELECT * FROM t",
        )
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (other, stopped) = (session.clone(), stop.clone());
    let updates = std::thread::spawn(move || {
        let mut updated = 0;
        while !stopped.load(Ordering::Relaxed) {
            other.execute("UPDATE t SET v = v + 1000").unwrap();
            updated += 1;
        }
        updated
    });
    let mut input = session.input("t").unwrap();
    for i in 0..200 {
        input.push(pairs(&session, "t", &[(1, i)])).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    updates.join().unwrap();
    let all = session.view("all_rows").unwrap();
    assert_eq!(number(&all), 200);
    let sums = multiset(&session.sql("SELECT count(*) AS n, sum(v) AS s FROM t").unwrap().collect().unwrap(), None);
    let view = multiset(&session.sql("SELECT n, s FROM w").unwrap().collect().unwrap(), None);
    assert_eq!(sums, view);
}

#[test]
fn a_second_view_over_an_endless_feed_reads_it_again() {
    let session = Session::new().unwrap();
    session
        .execute(&format!(
            "{}; CREATE TABLE u (k BIGINT, y BIGINT); INSERT INTO u VALUES (0, 10), (1, 11), (2, 12);
             CREATE MATERIALIZED VIEW one AS SELECT k, count(*) AS n FROM d GROUP BY k",
            watermarked("d", "connector = 'datagen', rows-per-second = 500, fields.k.distinct = 3")
        ))
        .unwrap();
    eventually("there are rows", || number(&session.view("one").unwrap()) == 3);
    session.execute("CREATE MATERIALIZED VIEW j AS SELECT d.k, u.y, d.ts FROM d JOIN u ON d.k = u.k").unwrap();
    session.execute("CREATE MATERIALIZED VIEW m AS SELECT k, max(ts) AS m, count(*) AS n FROM d GROUP BY k").unwrap();
    let count = |sql: &str| multiset(&session.sql(sql).unwrap().collect().unwrap(), None);
    let both = count("SELECT one.k, one.n - m.n FROM one JOIN m ON one.k = m.k");
    assert!(both.len() == 3 && both.keys().all(|row| row[1] == "0"), "{both:?}");
    assert_eq!(count("SELECT sum(n) - (SELECT count(*) FROM j) FROM one").keys().next().unwrap(), &["0"]);
}

#[test]
fn a_refused_view_leaves_nothing_behind() {
    let session = Session::new().unwrap();
    session.execute(&watermarked("c", "connector = 'channel'")).unwrap();
    session.input("c").unwrap().push(events(&session, "c", &[(Y2024, 1)])).unwrap();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..20 {
        fails(session.execute("CREATE MATERIALIZED VIEW v AS SELECT k FROM c"), &["can't be read again"]);
        fails(session.sql("SELECT k FROM c").unwrap().write_stream().subscribe(), &["can't be read again"]);
    }
    assert!(threads() < before + 15);
    session.execute("CREATE MATERIALIZED VIEW v FROM NOW AS SELECT k FROM c; DROP VIEW v; DROP TABLE c").unwrap();
}

#[test]
fn every_wait_can_be_cancelled() {
    let session = Session::new().unwrap();
    session
        .execute(&format!(
            "{}; CREATE MATERIALIZED VIEW v AS SELECT k FROM d; CREATE SINK s FROM v WITH (connector = 'blackhole')",
            watermarked("d", "connector = 'datagen', rows-per-second = 10")
        ))
        .unwrap();
    let sink = session.sql("SELECT k FROM d").unwrap().write_stream().format("blackhole").start().unwrap();
    let (first, second) = (session.clone(), session.clone());
    let waiting = [
        std::thread::spawn(move || sink.await_termination()),
        std::thread::spawn(move || {
            let query = first.sql("SELECT count(*) FROM d").unwrap();
            query.collect().map(|_| ())
        }),
    ];
    std::thread::sleep(Duration::from_millis(100));
    at_once(move || {
        for waiting in waiting {
            while !waiting.is_finished() {
                second.cancel();
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(waiting.join().unwrap().is_err());
        }
    });
    at_once(move || session.execute("DROP TABLE d CASCADE").map(|_| ())).unwrap();
}

#[test]
fn late_rows_and_the_order_of_reading_are_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "ts,k\n2024-01-01T00:00:00,1\n2024-01-01T01:00:00,2\n").unwrap();
    std::fs::write(
        dir.path().join("b.csv"),
        "ts,k\n2024-01-01T00:00:02,3\n2024-01-01T02:00:00,4\n2024-01-01T00:00:30,5\n2024-01-01T00:01:00,6\n",
    )
    .unwrap();
    let session = Session::new().unwrap();
    let with = format!("connector = 'filesystem', path = '{}', format = 'csv'", dir.path().display());
    session.execute(&watermarked("t", &with)).unwrap();
    session.execute(&watermarked("sorted", &format!("{with}, 'scan.order' = 'event-time'"))).unwrap();
    let explained = |from: &str| match &session.execute(&format!("EXPLAIN SELECT count(*) FROM {from}")).unwrap()[0] {
        headwater::Outcome::Text(text) => text.clone(),
        _ => panic!("EXPLAIN gives text"),
    };
    says(explained("t"), &["Get t", "reading the file furthest behind in event time first"]);
    says(explained("sorted"), &["the rows of each sorted by event time"]);
    session.execute(&format!("CREATE MATERIALIZED VIEW v AS {}", HOURS.replace(" c ", " t "))).unwrap();
    eventually("it is read", || session.view("v").unwrap().frontier().is_none());
    let headwater::Outcome::Rows(shown) = session.execute("SHOW TABLES").unwrap().remove(0) else { panic!("rows") };
    assert_eq!(
        multiset(&shown, None).into_keys().collect::<Vec<_>>(),
        [
            ["sorted", "stream", "starting", "0", "0", ""].map(str::to_owned),
            ["t", "stream", "ended", "6", "2", &format!("up to 7170 s behind (2 of {}/b.csv)", dir.path().display())]
                .map(str::to_owned)
        ]
    );
}

#[test]
fn who_begins_to_read_tables_together_sees_what_all_of_them_have() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k BIGINT, x BIGINT); CREATE TABLE u (k BIGINT, y BIGINT)").unwrap();
    let mut inputs = ["t", "u"].map(|name| session.input(name).unwrap());
    let mut frontier = None;
    for (input, table) in inputs.iter_mut().zip(["t", "u"]) {
        frontier = input.push(pairs(&session, table, &[(1, 10), (2, 20)])).unwrap().frontier;
    }
    // What was pushed last is closed for it though nothing more is pushed into the other.
    let mut joined = subscribe(&session, "SELECT t.k, x + y AS s FROM t JOIN u ON t.k = u.k", OutputMode::Changelog);
    let mut rows = 0;
    eventually("all that is there is closed", || {
        if let Event::Emission(emission) = joined.next(Duration::from_millis(5)).unwrap() {
            rows += emission.ops.len();
        }
        joined.frontier() >= frontier
    });
    assert_eq!(rows, 2);
}
