//! Views that come and go while others run: one created late says what one created at the start says.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headwater::{Emission, ForEach, Input, Op, OutputMode, Session, Subscription, Trigger, View};
use rand::Rng;

use crate::oracle::{self, Changelog, Multiset, PATIENCE, Row};

const QUERIES: [&str; 6] = [
    "SELECT * FROM t",
    "SELECT k, count(*) AS n, sum(v) AS s, max(v) AS hi FROM t GROUP BY k",
    "SELECT t.id, u.name FROM t JOIN u ON t.k = u.k",
    "SELECT t.id, t.v, u.name FROM t LEFT JOIN u ON t.k = u.k AND t.v > 1",
    "SELECT u.name, count(DISTINCT t.v) AS n FROM u FULL JOIN t ON t.k = u.k GROUP BY u.name",
    "SELECT id, v FROM t ORDER BY v DESC, id LIMIT 3",
];

fn memory(workers: usize) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT); CREATE TABLE u (k BIGINT, name TEXT)").unwrap();
    session
}

fn changelog(session: &Session, sql: &str) -> Subscription {
    let writer = session.sql(sql).unwrap_or_else(|e| panic!("{e}\n{sql}")).write_stream();
    writer.output_mode(OutputMode::Changelog).subscribe().unwrap()
}

/// Pushes random changes into both tables.
struct Writer {
    random: rand::rngs::SmallRng,
    inputs: [Input; 2],
    there: [Vec<Row>; 2],
    schemas: [headwater::arrow::datatypes::SchemaRef; 2],
}

impl Writer {
    fn new(session: &Session, seed: u64) -> Self {
        let names = ["t", "u"];
        Writer {
            random: oracle::random(seed),
            inputs: names.map(|name| session.input(name).unwrap()),
            there: Default::default(),
            schemas: names.map(|name| session.table(name).unwrap().schema()),
        }
    }

    /// The time of the last change.
    fn write(&mut self, changes: usize) -> i64 {
        let mut time = i64::MIN;
        for _ in 0..changes {
            let table = usize::from(self.random.random_bool(0.3));
            let (mut rows, mut diffs) = (Vec::new(), Vec::new());
            for _ in 0..self.random.random_range(1..4) {
                let there = &mut self.there[table];
                if !there.is_empty() && self.random.random_bool(0.35) {
                    rows.push(there.swap_remove(self.random.random_range(0..there.len())));
                    diffs.push(-1);
                } else {
                    let random = &mut self.random;
                    let id = Some(random.random_range(0..50).to_string());
                    let key = oracle::one_of(random, &["-", "1", "2", "3"]);
                    let row = match table {
                        0 => vec![id, key, oracle::one_of(random, &["-", "1", "2", "3"])],
                        _ => vec![key, oracle::one_of(random, &["-", "x", "y"])],
                    };
                    there.push(row.clone());
                    rows.push(row);
                    diffs.push(1);
                }
            }
            let rows = oracle::batch(&self.schemas[table], &rows);
            time = self.inputs[table].push_atomic(rows, diffs).unwrap().frontier.unwrap() - 1;
        }
        time
    }

    fn close(self) {
        self.inputs.into_iter().for_each(Input::close);
    }
}

fn content(view: &View) -> Multiset {
    oracle::multiset(&view.snapshot().unwrap(), None)
}

#[test]
fn a_query_over_memory_sees_all_of_the_past() {
    for workers in [1, 2, 4] {
        let session = memory(workers);
        let mut early: Vec<_> = QUERIES.iter().map(|sql| changelog(&session, sql)).collect();
        let early_views: Vec<_> = (QUERIES.iter().enumerate())
            .map(|(i, sql)| session.sql(sql).unwrap().create_view(&format!("early_{i}")).unwrap())
            .collect();
        let mut writer = Writer::new(&session, 41);
        writer.write(25);
        let mut late: Vec<_> = QUERIES.iter().map(|sql| changelog(&session, sql)).collect();
        let late_views: Vec<_> = (QUERIES.iter().enumerate())
            .map(|(i, sql)| session.sql(sql).unwrap().create_view(&format!("late_{i}")).unwrap())
            .collect();
        for (early, late) in early_views.iter().zip(&late_views) {
            assert_eq!(content(early), content(late), "{} with {workers} workers, as created", late.name());
        }
        writer.write(25);
        for (early, late) in early_views.iter().zip(&late_views) {
            assert_eq!(content(early), content(late), "{} with {workers} workers, later", late.name());
        }
        writer.close();
        for (i, (early, late)) in early.iter_mut().zip(&mut late).enumerate() {
            // What starts from an arrangement begins with the content there was then.
            let from = late.as_of().unwrap_or(i64::MIN);
            let (early, late) = (oracle::to_the_end(early, None), oracle::to_the_end(late, None));
            let after = |log: &Changelog| log.times().into_iter().filter(|time| *time > from).collect::<Vec<_>>();
            assert_eq!(after(&early), after(&late), "{} after {from}", QUERIES[i]);
            assert!(late.times().iter().all(|time| *time >= from), "{}", QUERIES[i]);
            assert_eq!(early.at(from), late.at(from), "{} with {workers} workers at {from}", QUERIES[i]);
            for time in after(&early) {
                assert_eq!(early.at(time), late.at(time), "{} with {workers} workers at {time}", QUERIES[i]);
            }
            assert_eq!(early.at(i64::MAX), content(&early_views[i]), "{}", QUERIES[i]);
        }
    }
}

#[test]
fn a_view_over_a_view_begins_with_its_content() {
    for workers in [1, 2] {
        let session = memory(workers);
        let base = session.sql(QUERIES[1]).unwrap().create_view("base").unwrap();
        let over = "SELECT n, count(*) AS m FROM base GROUP BY n";
        let whole = format!("SELECT n, count(*) AS m FROM ({}) AS x GROUP BY n", QUERIES[1]);
        let mut whole = changelog(&session, &whole);
        let mut writer = Writer::new(&session, 43);
        writer.write(20);
        // Two late readers of one arrangement, and a reader of theirs.
        let mut late = changelog(&session, over);
        let stored = session.sql(over).unwrap().create_view("over").unwrap();
        let again = session.sql("SELECT l.n, r.m FROM over l JOIN over r ON l.m = r.m").unwrap();
        let again = again.create_view("again").unwrap();
        let since = writer.write(1);
        let mut later_times = vec![since];
        later_times.extend((0..15).map(|_| writer.write(1)));
        let pairs: i64 = content(&stored)
            .keys()
            .fold(std::collections::BTreeMap::new(), |mut by, row| {
                *by.entry(row[1].clone()).or_insert(0) += 1;
                by
            })
            .values()
            .map(|n| n * n)
            .sum();
        assert_eq!(content(&again).values().sum::<i64>(), pairs);
        writer.close();
        let (whole, late) = (oracle::to_the_end(&mut whole, None), oracle::to_the_end(&mut late, None));
        for time in later_times {
            assert_eq!(whole.at(time), late.at(time), "{workers} workers at {time}");
        }
        assert_eq!(content(&stored), late.at(i64::MAX));
        assert_eq!(content(&base).values().sum::<i64>(), content(&base).len() as i64);
    }
}

#[test]
fn views_are_dropped_while_others_share_with_them() {
    for workers in [1, 2] {
        let session = memory(workers);
        // The same joins, so that arrangements of both inputs are shared.
        let sql = QUERIES[3];
        let mut reference = changelog(&session, sql);
        let mut views: Vec<_> =
            (0..3).map(|i| session.sql(sql).unwrap().create_view(&format!("v{i}")).unwrap()).collect();
        let mut writer = Writer::new(&session, 47);
        writer.write(15);
        // The first, whose arrangements the others may use.
        views.remove(0).drop().unwrap();
        writer.write(15);
        assert_eq!(content(&views[0]), content(&views[1]));
        views.remove(0).drop().unwrap();
        let late = session.sql(sql).unwrap().create_view("v0").unwrap();
        writer.write(15);
        let (kept, late) = (content(&views[0]), content(&late));
        writer.close();
        let reference = oracle::to_the_end(&mut reference, None).at(i64::MAX);
        assert_eq!(kept, reference, "{workers} workers");
        assert_eq!(late, reference, "{workers} workers");
        // What is read can't go.
        session.execute("CREATE MATERIALIZED VIEW top AS SELECT count(*) AS n FROM v2").unwrap();
        let error = session.execute("DROP VIEW v2").err().unwrap().to_string();
        assert!(error.contains("'v2'") && error.contains("view 'top'"), "{error}");
        session.execute("DROP VIEW top; DROP VIEW v2; DROP VIEW v0; DROP TABLE t; DROP TABLE u").unwrap();
        let error = session.sql(sql).err().unwrap().to_string();
        assert!(error.contains("'t'"), "{error}");
    }
}

#[test]
fn a_channel_that_has_gone_by_is_refused() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (id BIGINT) WITH (connector = 'channel')").unwrap();
    let view = session.sql("SELECT count(*) AS n FROM t").unwrap().create_view("v").unwrap();
    let schema = session.table("t").unwrap().schema();
    let mut input = session.input("t").unwrap();
    input.push(oracle::batch(&schema, &[oracle::row(&["1"])])).unwrap();
    let error = session.sql("SELECT * FROM t").unwrap().create_view("w").err().unwrap().to_string();
    assert!(error.contains("'t'") && error.contains("already been read"), "{error}");
    // The refusal leaves nothing behind, and what a view holds can be read.
    let late = session.sql("SELECT n + 1 AS m FROM v").unwrap().create_view("w").unwrap();
    input.push(oracle::batch(&schema, &[oracle::row(&["2"])])).unwrap();
    assert_eq!(content(&view), Multiset::from([(vec!["2".to_owned()], 1)]));
    assert_eq!(content(&late), Multiset::from([(vec!["3".to_owned()], 1)]));
}

/// Rows of a channel are nowhere but in the arrangements of the views that were there.
#[test]
fn a_view_that_comes_late_starts_from_what_others_have_arranged() {
    for (workers, seed) in [(1, 3), (2, 4), (4, 5)] {
        let session = Session::builder().workers(workers).build().unwrap();
        let channel = "WITH (connector = 'channel')";
        session
            .execute(&format!(
                "CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT) {channel}; CREATE TABLE u (k BIGINT, name TEXT) {channel}"
            ))
            .unwrap();
        let early = session.sql("SELECT t.*, u.name FROM t JOIN u ON t.k = u.k").unwrap().create_view("early");
        let mut early = Some(early.unwrap());
        let mut writer = Writer::new(&session, seed);
        let late_queries = [
            (
                "SELECT u.name, sum(t.v * u.k + t.id) AS s FROM t JOIN u ON t.k = u.k GROUP BY u.name",
                "SELECT name, sum(v * k + id) AS s FROM early GROUP BY name",
            ),
            // Of other columns nothing is arranged.
            ("SELECT t.id FROM t WHERE k NOT IN (SELECT k FROM u WHERE k IS NOT NULL)", ""),
            ("SELECT t.*, u.name || u.k AS n FROM t JOIN u ON t.k = u.k", "SELECT id, k, v, name || k AS n FROM early"),
        ];
        let mut late: Vec<(View, View)> = Vec::new();
        for round in 0..12 {
            writer.write(15);
            for (i, (sql, same)) in late_queries.iter().enumerate().filter(|_| round < 9) {
                match session.sql(sql).unwrap().create_view(&format!("late_{i}_{round}")) {
                    Ok(view) if round < 8 => {
                        let same = session.sql(same).unwrap().create_view(&format!("same_{i}_{round}")).unwrap();
                        late.push((view, same));
                    }
                    Ok(view) => view.drop().unwrap(),
                    Err(error) => {
                        assert!(i == 1 && error.to_string().contains("already been read"), "{sql}: {error}");
                    }
                }
            }
            for (view, same) in &late {
                assert_eq!(content(view), content(same), "{} in round {round}, {workers} workers", view.name());
            }
            if round == 9 {
                assert!(late.iter().any(|(view, _)| view.status().as_of.is_some()));
                // What it arranged goes on for those that read it.
                let last = late.iter().map(|(view, same)| (view.clone(), content(same))).collect::<Vec<_>>();
                late.drain(..).for_each(|(_, same)| same.drop().unwrap());
                early.take().unwrap().drop().unwrap();
                for (view, content_before) in last {
                    assert_eq!(content(&view), content_before, "{}", view.name());
                }
            }
        }
        writer.close();
    }
}

#[test]
fn from_now_on_a_view_holds_what_comes() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        let ddl = "CREATE TABLE t (ts TIMESTAMP, id BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
                   WITH (connector = 'channel'); CREATE TABLE names (id BIGINT, name TEXT)";
        session.execute(ddl).unwrap();
        session.execute("INSERT INTO names VALUES (1, 'one'), (2, 'two')").unwrap();
        let all = session.sql("SELECT id, count(*) AS n FROM t GROUP BY id").unwrap().create_view("all").unwrap();
        let schema = session.table("t").unwrap().schema();
        let mut input = session.input("t").unwrap();
        let mut push = |second: i64, id: i64| {
            let ts = format!("2024-01-01T00:00:{second:02}");
            input.push(oracle::batch(&schema, &[oracle::row(&[&ts, &id.to_string()])])).unwrap();
        };
        push(1, 1);
        push(2, 2);
        assert_eq!(content(&all).len(), 2);
        let counts = "SELECT name, count(*) AS n FROM t JOIN names ON t.id = names.id GROUP BY name";
        let error = session.execute(&format!("CREATE MATERIALIZED VIEW v AS {counts}")).err().unwrap().to_string();
        assert!(error.contains("FROM NOW"), "{error}");
        let error = session.execute(&format!("CREATE VIEW v FROM NOW AS {counts}")).err().unwrap().to_string();
        assert!(error.contains("MATERIALIZED") && error.contains("line 1, column 15"), "{error}");
        session.execute(&format!("CREATE MATERIALIZED VIEW v FROM NOW AS {counts}")).unwrap();
        let view = session.view("v").unwrap();
        assert!(content(&view).is_empty());
        assert!(view.status().as_of.is_some() && all.status().as_of.is_none());
        let mut changes = session.sql(counts).unwrap().from_now().write_stream();
        changes = changes.output_mode(OutputMode::Changelog);
        let mut changes = changes.subscribe().unwrap();
        push(3, 1);
        push(4, 1);
        let want = Multiset::from([(vec!["one".to_owned(), "2".to_owned()], 1)]);
        assert_eq!(content(&view), want, "{workers} workers");
        assert_eq!(content(&all).len(), 2);
        let mut log = Changelog::default();
        oracle::until(&mut changes, &mut log, view.frontier().unwrap());
        assert_eq!(log.at(i64::MAX), want);
    }
}

/// What is shared must be of the same table, and go on as long as its readers.
#[test]
fn only_what_is_the_same_is_shared() {
    for workers in [1, 2] {
        let session = memory(workers);
        let join = QUERIES[2];
        // A query that ends with what there is now, still unread.
        let writer = session.sql(join).unwrap().write_stream().output_mode(OutputMode::Changelog);
        let mut once = writer.trigger(Trigger::AvailableNow).subscribe().unwrap();
        let live = session.sql(join).unwrap().create_view("live").unwrap();
        // And the other way round.
        assert_eq!(session.sql(join).unwrap().collect().unwrap().num_rows(), 0);
        session.execute("INSERT INTO t VALUES (1, 1, 1); INSERT INTO u VALUES (1, 'x')").unwrap();
        assert_eq!(content(&live).len(), 1, "{workers} workers");
        assert!(oracle::to_the_end(&mut once, None).0.is_empty());
        // What is read goes only with what reads it, and its name to something else.
        session.execute("DROP VIEW live").unwrap();
        let mut reader = changelog(&session, join);
        let refused = session.execute("DROP TABLE t").map(|_| ()).err().unwrap().to_string();
        assert!(refused.contains("still read by subscription"), "{refused}");
        session.execute("DROP TABLE t CASCADE; CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT)").unwrap();
        session.execute("DROP TABLE u; CREATE TABLE u (k BIGINT, name TEXT)").unwrap();
        assert!(reader.recv().is_err());
        let mut first = changelog(&session, join);
        session.execute("DROP TABLE t CASCADE; CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT)").unwrap();
        assert!(first.recv().is_err());
        let again = session.sql(join).unwrap().create_view("live").unwrap();
        session.execute("INSERT INTO t VALUES (2, 2, 2); INSERT INTO u VALUES (2, 'y')").unwrap();
        assert_eq!(content(&again), Multiset::from([(vec!["2".to_owned(), "y".to_owned()], 1)]), "{workers} workers");
        drop(first);
    }
}

/// A changelog summed up as it comes, for comparing sinks.
fn summing() -> (Arc<Mutex<Multiset>>, Box<ForEach<impl FnMut(&Emission) -> headwater::Result<()> + Send>>) {
    let rows = Arc::new(Mutex::new(Multiset::new()));
    let into = rows.clone();
    let sink = ForEach(move |emission: &Emission| {
        let mut rows = into.lock().unwrap();
        for (i, row) in oracle::texts(&emission.rows, None).into_iter().enumerate() {
            let sign = if emission.ops[i] == Op::Delete { -1 } else { 1 };
            *rows.entry(row).or_default() += sign * emission.counts[i] as i64;
        }
        rows.retain(|_, count| *count != 0);
        Ok(())
    });
    (rows, Box::new(sink))
}

#[test]
fn several_sinks_on_one_view_write_the_same() {
    let session = memory(2);
    let view = session.sql(QUERIES[3]).unwrap().create_view("v").unwrap();
    let mut writer = Writer::new(&session, 53);
    let mut sinks = Vec::new();
    for _ in 0..3 {
        let (rows, sink) = summing();
        let writer_of = session.table("v").unwrap().write_stream().output_mode(OutputMode::Changelog);
        sinks.push((writer_of.start_into(sink).unwrap(), rows));
        writer.write(10);
    }
    // One is stopped early; the others don't mind.
    let (stopped, _) = sinks.remove(1);
    stopped.stop().unwrap();
    writer.write(10);
    let expected = content(&view);
    writer.close();
    for (query, rows) in sinks {
        query.await_termination().unwrap();
        assert_eq!(*rows.lock().unwrap(), expected);
    }
}

fn write_events(path: &Path, header: bool, from: i64, count: i64) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let mut text = if header { "ts,k,v\n".to_owned() } else { String::new() };
    for i in from..from + count {
        // Disorder within the watermark.
        let second = i - i * 7 % 5;
        text.push_str(&format!("2024-01-01T00:{:02}:{:02},{},{}\n", second / 60, second.rem_euclid(60), i % 3, i));
    }
    file.write_all(text.as_bytes()).unwrap();
}

fn declare_file(session: &Session, path: &Path, options: &str) {
    session
        .execute(&format!(
            "CREATE TABLE t (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
             WITH (connector = 'filesystem', path = '{}', format = 'csv'{options})",
            path.display()
        ))
        .unwrap();
}

const FILE_QUERIES: [&str; 3] = [
    "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
    "SELECT w['start'] AS s, k, count(*) AS n FROM (SELECT window(ts, '1 minute') AS w, k FROM t) AS x GROUP BY w, k",
    "SELECT l.v, r.v AS other FROM t l JOIN t r ON l.v = r.v + 3",
];

#[test]
fn a_file_is_read_again_for_a_view_that_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    write_events(&path, true, 60, 300);
    for options in [", mode = 'batch'", ", mode = 'stream'"] {
        for workers in [1, 2] {
            let session = Session::builder().workers(workers).build().unwrap();
            declare_file(&session, &path, options);
            let create = |name: &str| {
                FILE_QUERIES
                    .iter()
                    .enumerate()
                    .map(|(i, sql)| session.sql(sql).unwrap().create_view(&format!("{name}_{i}")).unwrap())
                    .collect::<Vec<_>>()
            };
            let early = create("early");
            wait(|| early.iter().all(|view| view.frontier().is_none()));
            let late = create("late");
            wait(|| late.iter().all(|view| view.frontier().is_none()));
            for (early, late) in early.iter().zip(&late) {
                assert!(!content(early).is_empty());
                assert_eq!(content(early), content(late), "{options}, {workers} workers, {}", late.name());
            }
        }
    }
}

fn wait(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "nothing came for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn rows_in(view: &View) -> i64 {
    content(view).keys().map(|row| row[1].parse::<i64>().unwrap()).sum()
}

#[test]
fn a_followed_file_is_replayed_with_its_stamps() {
    for workers in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        write_events(&path, true, 60, 100);
        let session = Session::builder().workers(workers).build().unwrap();
        declare_file(&session, &path, ", 'source.monitor-interval' = '5 ms', idle_timeout = '100 ms'");
        let mut early: Vec<_> = FILE_QUERIES.iter().map(|sql| changelog(&session, sql)).collect();
        let counts = session.sql(FILE_QUERIES[0]).unwrap().create_view("counts").unwrap();
        wait(|| rows_in(&counts) == 100);
        write_events(&path, false, 160, 50);
        wait(|| rows_in(&counts) == 150);
        // Before it has closed something there is nothing to start from.
        wait(|| early[2].status().frontier.is_some_and(|frontier| frontier > 0));
        let mut late: Vec<_> = FILE_QUERIES.iter().map(|sql| changelog(&session, sql)).collect();
        let late_counts = session.sql(FILE_QUERIES[0]).unwrap().create_view("late").unwrap();
        write_events(&path, false, 210, 50);
        // The replay can find these lines as well, and leaves them to the live run.
        wait(|| rows_in(&counts) == 200);
        wait(|| rows_in(&late_counts) == 200);
        let last = counts.frontier().unwrap() - 1;
        for (i, (early, late)) in early.iter_mut().zip(&mut late).enumerate() {
            let mut logs = [Changelog::default(), Changelog::default()];
            oracle::until(early, &mut logs[0], last + 1);
            oracle::until(late, &mut logs[1], last + 1);
            // The join starts from what the early one has arranged, the others from the file.
            assert_eq!(late.as_of().is_some(), i == 2, "{}", FILE_QUERIES[i]);
            let from = late.as_of().unwrap_or(i64::MIN);
            let times: Vec<_> = logs[0].times().into_iter().filter(|t| (from..=last).contains(t)).collect();
            assert!(!times.is_empty());
            for time in times {
                assert_eq!(logs[0].at(time), logs[1].at(time), "{} with {workers} workers at {time}", FILE_QUERIES[i]);
            }
        }
        session.stop();
    }
}
