//! What is wrong is said with its place, harms nobody else, and heals.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater::{Error, Event, Outcome, OutputMode, Session, Trigger, View};

use crate::oracle::{self, PATIENCE, batch, row};

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn declare(path: &str, more: &str) -> String {
    format!(
        "CREATE TABLE t (id BIGINT, name TEXT) WITH (connector = 'filesystem', path = '{path}', format = 'csv'{more})"
    )
}

fn refused(session: &Session, text: &str) -> Error {
    match session.execute(text) {
        Ok(_) => panic!("this was taken: {text}"),
        Err(error) => error,
    }
}

fn says(error: impl ToString, what: &[&str]) {
    let error = error.to_string();
    for what in what {
        assert!(error.to_lowercase().contains(&what.to_lowercase()), "'{what}' is not in: {error}");
    }
}

pub fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing came for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn failure(view: &View) -> String {
    wait(|| view.status().failure)
}

#[test]
fn a_broken_line_is_named_with_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, wanted) in [
        ("type.csv", "id,name\n1,a\nx2,b\n", ["line 3", "'id'", "x2"]),
        ("few.csv", "id,name\n1,a\n2,b\n3\n", ["line 4", "few.csv", "1"]),
        ("many.csv", "id,name\n1,a,b\n", ["line 2", "many.csv", "3"]),
        ("quote.csv", "id,name\n1,a\n2,\"open\n", ["line 3", "quote.csv", "quote"]),
        ("large.csv", "id,name\n99999999999999999999,a\n", ["line 2", "'id'", "99999999999999999999"]),
    ] {
        let path = file(dir.path(), name, text);
        let session = Session::new().unwrap();
        session.execute(&declare(&path, "")).unwrap();
        let error = session.sql("SELECT * FROM t").unwrap().collect().err().unwrap();
        says(&error, &[name, "'t'"]);
        says(&error, &wanted);
        // A view over it says so, too, and so does its sink.
        let view = session.sql("SELECT count(*) AS n FROM t").unwrap().create_view("v").unwrap();
        says(failure(&view), &[name]);
        says(view.snapshot().err().unwrap(), &wanted);
        let written = session.table("t").unwrap().write_stream().format("blackhole").start().unwrap();
        says(written.await_termination().err().unwrap(), &wanted);
        // Other tables go on.
        session.execute("CREATE TABLE other (a BIGINT); INSERT INTO other VALUES (1)").unwrap();
        assert_eq!(session.sql("SELECT * FROM other").unwrap().collect().unwrap().num_rows(), 1);
    }
}

#[test]
fn broken_lines_can_be_skipped_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "t.csv", "id,name\n1,a\nx,b\n3,c\n4\n5,e\n");
    let session = Session::new().unwrap();
    session.execute(&declare(&path, ", on_error = 'skip'")).unwrap();
    let view = session.sql("SELECT count(*) AS n FROM t").unwrap().create_view("v").unwrap();
    wait(|| view.frontier().is_none().then_some(()));
    assert_eq!(oracle::texts(&view.snapshot().unwrap(), None), [["3"]]);
    assert_eq!(session.tables()[0].counts.rejected, 2);
}

#[test]
fn a_wrong_file_column_type_or_option_is_an_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "t.csv", "id,name\n1,a\n");
    let session = Session::new().unwrap();
    let error = refused(&session, &declare(&dir.path().join("none.csv").display().to_string(), ""));
    says(&error, &["none.csv"]);
    assert_eq!(error.position().map(|p| p.line), Some(1));
    let missing = declare(&dir.path().join("none.parquet").display().to_string(), "");
    let error = refused(&session, &format!("SHOW TABLES;\n{missing}"));
    says(&error, &["none.parquet"]);
    assert_eq!(error.position().map(|p| p.line), Some(2));
    says(refused(&session, &declare(&path, ", hedaer = 'true'")), &["hedaer", "header"]);
    says(refused(&session, &declare(&path, ", header = 'maybe'")), &["header", "maybe"]);
    says(refused(&session, "CREATE TABLE t (a INT) WITH (connector = 'kafak')"), &["kafak", "filesystem"]);
    says(refused(&session, "CREATE TABLE t (a INT) WITH (path = 'x.csv')"), &["path", "connector"]);
    let error = refused(&session, "CREATE TABLE t (a NUMBERR)");
    assert_eq!(error.message(), "the type NUMBERR is not supported");
    let error = session.sql("SELECT CAST(1 AS NUMBERR)").err().unwrap();
    assert_eq!(error.message(), "not supported: SQL type NUMBERR");
    says(refused(&session, "CREATE TABLE t (a INT, WATERMARK FOR b AS b)"), &["'b'"]);
    says(refused(&session, "CREATE TABLE t (a INT, WATERMARK FOR a AS a)"), &["a", "timestamp"]);
    let absent = format!("CREATE TABLE t (id BIGINT, nmae TEXT) WITH (connector = 'filesystem', path = '{path}')");
    says(refused(&session, &absent), &["nmae", "name", "t.csv"]);
    says(refused(&session, "CREATE TABLE t (a INT) WITH (connector = 'print')"), &["print", "sink"]);
    // Nothing of these was created.
    assert!(session.tables().is_empty());

    // What is read once wants a file, as a batch and as a stream; what is followed may find its files later.
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    for path in ["nowhere/*.csv", &empty] {
        for more in ["", ", mode = 'stream'"] {
            let error = refused(&session, &format!("SHOW TABLES;\n{}", declare(path, more)));
            says(&error, &[path]);
            assert_eq!(error.position().map(|p| p.line), Some(2));
        }
        session.execute(&declare(path, ", 'source.monitor-interval' = '1 s'")).unwrap();
        assert_eq!(session.sql("SELECT * FROM t").unwrap().collect().unwrap().num_rows(), 0);
        session.execute("DROP TABLE t").unwrap();
    }

    session.execute(&declare(&path, "")).unwrap();
    let error = session.sql("SELECT id,\n       nmae FROM t").err().unwrap();
    says(&error, &["nmae"]);
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((2, 8)));
    let error = session.sql("SELECT id\nFROM tt").err().unwrap();
    says(&error, &["tt"]);
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((2, 6)));
    let error = session.sql("SELECT id FROM\nWHERE id = 1").err().unwrap();
    assert_eq!(error.position().map(|p| p.line), Some(2));
    says(session.sql("SELECT name + id FROM t WHERE name > INTERVAL '1' DAY").err().unwrap(), &["interval"]);
    says(session.sql("SELECT nosuch(id) FROM t").err().unwrap(), &["nosuch"]);
    says(session.execute("INSERT INTO t VALUES (1, 'a')").err().unwrap(), &["'t'", "memory"]);
    let writer = || session.table("t").unwrap().write_stream();
    says(writer().format("csvv").start().err().unwrap(), &["csvv"]);
    says(writer().format("blackhole").option("pth", "x").start().err().unwrap(), &["pth"]);
}

#[test]
fn what_cannot_be_maintained_is_refused_by_name() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE t (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'channel')",
        )
        .unwrap();
    for (sql, what) in [
        ("SELECT k, count(*) AS n FROM t GROUP BY k", "GROUP BY"),
        ("SELECT count(*) AS n FROM t", "aggregate without GROUP BY"),
        ("SELECT k FROM t ORDER BY v LIMIT 3", "LIMIT"),
        ("SELECT l.k FROM t l LEFT JOIN t r ON l.k = r.v", "LEFT JOIN"),
        ("SELECT k FROM t WHERE k NOT IN (SELECT v FROM t WHERE v IS NOT NULL)", "anti join"),
    ] {
        let error = session.sql(sql).unwrap().write_stream().subscribe().err().unwrap();
        says(&error, &["append", what, "'update'", "'complete'", "'changelog'"]);
        for mode in [OutputMode::Update, OutputMode::Complete, OutputMode::Changelog] {
            session.sql(sql).unwrap().write_stream().output_mode(mode).subscribe().unwrap();
        }
    }
    for (sql, what) in [
        ("SELECT row_number() OVER (ORDER BY v) AS n FROM t", "OVER"),
        ("SELECT random() AS r FROM t", "random"),
        ("SELECT now() AS n FROM t", "now"),
        ("SELECT k FROM t FOR UPDATE", "FOR UPDATE"),
        ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 5) SELECT * FROM r", "RECURSIVE"),
        ("SELECT median(v) AS m FROM t", "median"),
        ("SELECT k, count(*) AS n FROM t GROUP BY ROLLUP (k)", "ROLLUP"),
        ("SELECT window(ts, '10 days', '1 us') AS w FROM t", "864000000000 windows"),
        ("SELECT sum(CAST(k AS VARCHAR)) AS s FROM t", "'sum' does not take VARCHAR"),
        ("SELECT (SELECT v FROM t u WHERE u.ts = t.ts ORDER BY v LIMIT 1) AS x FROM t", "LIMIT in a subquery"),
        ("SELECT (SELECT v FROM t u WHERE u.ts = t.ts) AS x FROM t", "must give one row"),
        ("SELECT t.k FROM t LEFT JOIN t AS u ON EXISTS (SELECT 1 FROM t AS w WHERE w.k = t.k + u.k)", "both sides"),
        ("SELECT * FROM t PIVOT (sum(v) FOR k IN (1, 2))", "Pivot"),
    ] {
        let error = session.sql(sql).and_then(|frame| frame.create_view("v")).err();
        says(error.unwrap_or_else(|| panic!("this was taken: {sql}")), &[what]);
    }
}

#[test]
fn a_wrong_value_in_a_statement_is_placed() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE m (a INT NOT NULL); INSERT INTO m VALUES (0)").unwrap();
    for statement in [
        "INSERT INTO m VALUES (1 / 0)",
        "INSERT INTO m VALUES (CAST('x' AS INT))",
        "INSERT INTO m VALUES ('x')",
        "INSERT INTO m VALUES (99999999999)",
        "INSERT INTO m VALUES (NULL)",
        "INSERT INTO m SELECT 1 / a FROM m",
        "UPDATE m SET a = 1 / a",
        "UPDATE m SET a = NULL",
        "DELETE FROM m WHERE 1 / a = 1",
    ] {
        let error = refused(&session, &format!("SHOW TABLES;\n  {statement};"));
        assert_eq!(error.position().map(|p| (p.line, p.column >= 3)), Some((2, true)), "{statement}: {error}");
    }
    assert_eq!(oracle::texts(&session.table("m").unwrap().collect().unwrap(), None), [["0"]]);
}

#[test]
fn what_somebody_waits_for_can_be_cancelled() {
    let session = Session::builder().workers(2).build().unwrap();
    let numbers = |name: &str, more: &str| {
        session.execute(&format!(
            "CREATE TABLE {name} (i BIGINT) WITH (connector = 'datagen', number-of-rows = '1000000000000'{more})"
        ))
    };
    numbers("n", "").unwrap();
    numbers("batch", ", mode = 'batch'").unwrap();
    session.execute("CREATE TABLE m (i BIGINT)").unwrap();
    session.sql("SELECT count(*) AS n FROM batch").unwrap().create_view("v").unwrap();
    let cancelled = |wait: &(dyn Fn() -> Result<(), Error> + Sync)| {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(wait);
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waiting.is_finished());
            session.cancel();
            let error = waiting.join().unwrap().err();
            assert!(matches!(error, Some(Error::Cancelled)), "{error:?}");
        });
    };
    cancelled(&|| session.sql("SELECT count(*) FROM n")?.collect().map(drop));
    cancelled(&|| session.execute("INSERT INTO m SELECT i FROM n").map(drop));
    cancelled(&|| session.sql("SELECT * FROM v")?.collect().map(drop));
    cancelled(&|| session.view("v")?.snapshot().map(drop));
    // What comes after is not cancelled.
    session.execute("INSERT INTO m VALUES (1)").unwrap();
    assert_eq!(oracle::texts(&session.table("m").unwrap().collect().unwrap(), None), [["1"]]);
}

#[test]
fn answers_come_while_other_tables_are_read() {
    let session = Session::new().unwrap();
    let table = |name: &str, rows: u64| {
        let options = format!("connector = 'datagen', number-of-rows = '{rows}'");
        session.execute(&format!("CREATE TABLE {name} (i BIGINT) WITH ({options})")).unwrap();
    };
    table("n", 1);
    table("long", 1_000_000_000_000);
    session.sql("SELECT count(*) AS n FROM long WHERE i = 0").unwrap().create_view("v").unwrap();
    for _ in 0..300 {
        assert_eq!(session.table("n").unwrap().collect().unwrap().num_rows(), 1);
    }
}

#[test]
fn a_view_in_error_holds_all_that_reads_it() {
    const OVER: &str = "CREATE TABLE m (a BIGINT); CREATE MATERIALIZED VIEW v AS SELECT 1 / a AS b FROM m;
                        CREATE MATERIALIZED VIEW w AS SELECT b FROM v WHERE b < 10;";
    for workers in [1, 2] {
        let new = || Session::builder().workers(workers).build().unwrap();
        let mut script = new().run_script(&format!("{OVER} INSERT INTO m VALUES (0), (1); SELECT b FROM w")).unwrap();
        says(script.answers().err().unwrap(), &["zero", "a = 0", "line 2"]);
        let sink = "CREATE SINK s FROM w WITH (connector = 'blackhole', mode = 'changelog')";
        let script = new().run_script(&format!("{OVER} {sink}; INSERT INTO m VALUES (0), (1)")).unwrap();
        says(script.await_termination().err().unwrap(), &["zero", "a = 0", "line 2"]);

        let session = new();
        session.execute(OVER).unwrap();
        let mut changes =
            session.table("w").unwrap().write_stream().output_mode(OutputMode::Changelog).subscribe().unwrap();
        session.execute("INSERT INTO m VALUES (1), (0)").unwrap();
        says(session.table("w").unwrap().collect().err().unwrap(), &["zero", "a = 0"]);
        let soon = Duration::from_millis(100);
        while let Event::Emission(emission) = changes.next(soon).unwrap() {
            assert_eq!(emission.rows.num_rows(), 0, "nothing is shown while the view below is in error");
        }
        says(changes.error().unwrap(), &["zero"]);
        session.execute("DELETE FROM m WHERE a = 0").unwrap();
        let rows = wait(|| match changes.next(soon).unwrap() {
            Event::Emission(emission) if emission.rows.num_rows() > 0 => Some(emission.rows),
            _ => None,
        });
        assert_eq!(oracle::texts(&rows, None), [["1"]]);
    }
}

#[test]
fn a_table_that_fails_ends_what_reads_views_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "t.csv", "id,name\n1,a\nx,b\n");
    let text = format!(
        "{}; CREATE MATERIALIZED VIEW v AS SELECT * FROM t;
         CREATE SINK s FROM v WITH (connector = 'blackhole', mode = 'changelog')",
        declare(&path, "")
    );
    let script = Session::new().unwrap().run_script(&text).unwrap();
    says(script.await_termination().err().unwrap(), &["t.csv", "line 3", "'id'"]);
    let session = Session::new().unwrap();
    let script =
        session.run_script(&text.replace("SINK s FROM v WITH", "SINK s AS SELECT count(*) FROM v WITH")).unwrap();
    says(script.await_termination().err().unwrap(), &["t.csv", "line 3"]);
    // One that comes later hears of it too.
    says(session.table("v").unwrap().collect().err().unwrap(), &["t.csv", "line 3"]);
}

#[test]
fn a_view_of_a_script_that_nobody_reads_does_not_fail_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough for the answer to be there long before the broken line is read.
    let path = file(dir.path(), "t.csv", &format!("id,name\n{}x,b\n", "1,a\n".repeat(100_000)));
    let broken = format!("{}; CREATE MATERIALIZED VIEW v AS SELECT * FROM t;", declare(&path, ""));
    let zero = "CREATE TABLE m (a BIGINT); INSERT INTO m VALUES (0), (1);
                CREATE MATERIALIZED VIEW v AS SELECT 1 / a AS b FROM m;";
    for (text, wanted) in [(broken.as_str(), ["t.csv", "line 100002"]), (zero, ["zero", "line 2"])] {
        let mut script = Session::new().unwrap().run_script(&format!("{text} SELECT 1 AS one")).unwrap();
        assert_eq!(oracle::texts(&script.answers().unwrap()[0], None), [["1"]]);
        says(script.check_views().err().unwrap(), &wanted);
        let dropped = Session::new().unwrap().run_script(&format!("{text} DROP VIEW v; SELECT 1 AS one")).unwrap();
        dropped.check_views().unwrap();
    }
    let endless = "CREATE TABLE g (a BIGINT) WITH (connector = 'datagen', 'rows-per-second' = '10');
                   CREATE MATERIALIZED VIEW v AS SELECT a FROM g";
    let session = Session::new().unwrap();
    session.run_script(endless).unwrap().check_views().unwrap();
    session.stop();
}

#[test]
fn constants_do_not_overflow_in_silence() {
    let session = Session::new().unwrap();
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT 1 FROM (VALUES (1)) t (a) WHERE a < 9223372036854775807 * 2",
        "SELECT x - 1 FROM (SELECT -9223372036854775807 - 1 AS x)",
    ] {
        let error = refused(&session, &format!("\n {sql}"));
        says(&error, &["overflow"]);
        assert_eq!(error.position().map(|p| (p.line, p.column)), Some((2, 2)), "{sql}");
    }
}

#[test]
fn what_was_set_apart_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(dir.path(), "t.csv", "ts,k\n2024-01-01 00:00:00,1\n,2\n2024-01-01 00:01:00,3\n2024-01-01 00:00:01,4\n");
    let session = Session::new().unwrap();
    session
        .execute(&format!(
            "CREATE TABLE t (ts TIMESTAMP, k INT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
             WITH (connector = 'filesystem', path = '{path}')"
        ))
        .unwrap();
    assert_eq!(session.table("t").unwrap().collect().unwrap().num_rows(), 3);
    let counts = session.tables()[0].counts;
    assert_eq!((counts.late, counts.rejected), (1, 1));
}

#[test]
fn an_answer_is_of_what_there_is_now() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "a.csv", "id,name\n1,a\n2,b\n");
    let session = Session::new().unwrap();
    session.execute(&declare(&dir.path().display().to_string(), ", 'source.monitor-interval' = '5 ms'")).unwrap();
    let count = || oracle::texts(&session.sql("SELECT count(*) FROM t").unwrap().collect().unwrap(), None);
    assert_eq!(count(), [["2"]]);
    file(dir.path(), "b.csv", "id,name\n3,c\n");
    assert_eq!(count(), [["3"]]);
    session.execute("CREATE TABLE endless (i BIGINT) WITH (connector = 'datagen')").unwrap();
    says(session.table("endless").unwrap().collect().err().unwrap(), &["endless", "never ends"]);
}

#[test]
fn a_half_written_file_waits_until_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "a.csv", "id,name\n1,a\n2,hal");
    let session = Session::builder().workers(2).build().unwrap();
    let folder = dir.path().display().to_string();
    session.execute(&declare(&folder, ", 'source.monitor-interval' = '5 ms'")).unwrap();
    let view = session.table("t").unwrap().create_view("v").unwrap();
    let names =
        || oracle::texts(&view.snapshot().unwrap(), None).into_iter().map(|row| row[1].clone()).collect::<Vec<_>>();
    wait(|| (names() == ["a"]).then_some(()));
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(names(), ["a"], "half of a line is no row");
    // A writer appends: to write a file anew would cut it first, and a reader may see that.
    let append = |name: &str, text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    append("a.csv", "f\n");
    file(dir.path(), "b.csv", "id,na");
    wait(|| (names().len() == 2).then_some(()));
    append("b.csv", "me\n3,c\n");
    wait(|| (names().len() == 3).then_some(()));
    let mut found = names();
    found.sort();
    assert_eq!(found, ["a", "c", "half"]);
    assert_eq!(view.status().failure, None);
}

#[test]
fn an_error_in_a_row_stays_as_long_as_the_row() {
    for workers in [1, 2, 4] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute("CREATE TABLE t (id BIGINT, a BIGINT, b BIGINT)").unwrap();
        let view = session.sql("SELECT id, a / b AS q FROM t").unwrap().create_view("v").unwrap();
        // What reads a view in error is in error as well; what does not divide is not.
        let over = session.sql("SELECT sum(q) AS s FROM v").unwrap().create_view("over").unwrap();
        let beside = session.sql("SELECT count(*) AS n FROM t").unwrap().create_view("beside").unwrap();
        let mut changes = view.subscribe(OutputMode::Changelog, Trigger::Continuous).unwrap();
        session.execute("INSERT INTO t VALUES (1, 6, 2), (2, 5, 0)").unwrap();
        session.execute("INSERT INTO t VALUES (3, 9, 3), (4, 1, 0)").unwrap();
        assert_eq!(oracle::texts(&beside.snapshot().unwrap(), None), [["4"]]);
        let error = wait(|| view.status().error.filter(|e| e.contains("1 more")));
        says(&error, &["zero", "/", "1 more"]);
        says(wait(|| view.snapshot().err()), &["zero"]);
        says(wait(|| over.snapshot().err()), &["zero"]);
        says(session.sql("SELECT a / b AS q FROM t").unwrap().collect().err().unwrap(), &["zero"]);
        session.execute("UPDATE t SET b = 1 WHERE id = 2").unwrap();
        assert!(view.status().error.is_some() || wait(|| view.status().error).contains("zero"));
        session.execute("DELETE FROM t WHERE id = 4").unwrap();
        let healed = wait(|| view.snapshot().ok().filter(|rows| rows.num_rows() == 3));
        let mut rows = oracle::texts(&healed, None);
        rows.sort();
        assert_eq!(rows, [["1", "3"], ["2", "5"], ["3", "3"]]);
        assert_eq!(oracle::texts(&wait(|| over.snapshot().ok()), None), [["11"]]);
        assert_eq!(view.status().error, None);
        session.input("t").unwrap().close();
        let log = oracle::to_the_end(&mut changes, None);
        assert_eq!(log.at(i64::MAX).len(), 3);
    }
}

/// Two queries that arrange the same rows: what failed on the way is in error in both.
/// Whoever reads a view that is in error is in error as well.
#[test]
fn nothing_is_given_out_of_a_view_in_error() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute("CREATE TABLE t (a BIGINT, b BIGINT)").unwrap();
        session.execute("CREATE MATERIALIZED VIEW v AS SELECT a, a / b AS q FROM t").unwrap();
        session
            .execute("CREATE MATERIALIZED VIEW w WITH (on_error = 'dead_letter') AS SELECT sum(q) AS s FROM v")
            .unwrap();
        session.execute("INSERT INTO t VALUES (6, 2)").unwrap();
        let changes = |sql: &str| {
            let writer = session.sql(sql).unwrap().write_stream().output_mode(OutputMode::Changelog);
            writer.subscribe().unwrap()
        };
        let mut both = [changes("SELECT * FROM v"), changes("SELECT * FROM w")];
        let mut logs = [oracle::Changelog::default(), oracle::Changelog::default()];
        let rows = |log: &oracle::Changelog| log.at(i64::MAX).into_keys().collect::<Vec<_>>();
        let end = |session: &Session| session.view("v").unwrap().frontier().unwrap();
        session.view("w").unwrap().snapshot().unwrap();
        let before = end(&session);
        both.iter_mut().zip(&mut logs).for_each(|(sub, log)| oracle::until(sub, log, before));
        assert_eq!([rows(&logs[0]), rows(&logs[1])], [vec![row_of(&["6", "3"])], vec![row_of(&["3"])]]);
        session.execute("INSERT INTO t VALUES (1, 0), (4, 2)").unwrap();
        says(session.view("v").unwrap().snapshot().err().unwrap(), &["divide by zero", "a = 1"]);
        says(session.view("w").unwrap().snapshot().err().unwrap(), &["divide by zero", "a = 1"]);
        for (sub, log) in both.iter_mut().zip(&mut logs) {
            while sub.error().is_none() {
                if let headwater::Event::Emission(emission) = sub.next(Duration::from_millis(5)).unwrap() {
                    log.add(&emission, None);
                }
            }
            says(sub.error().unwrap(), &["divide by zero", "a = 1"]);
        }
        assert_eq!([rows(&logs[0]), rows(&logs[1])], [vec![row_of(&["6", "3"])], vec![row_of(&["3"])]]);
        session.execute("DELETE FROM t WHERE b = 0").unwrap();
        session.view("w").unwrap().snapshot().unwrap();
        let after = end(&session);
        both.iter_mut().zip(&mut logs).for_each(|(sub, log)| oracle::until(sub, log, after));
        let v = vec![row_of(&["4", "2"]), row_of(&["6", "3"])];
        assert_eq!([rows(&logs[0]), rows(&logs[1])], [v, vec![row_of(&["5"])]], "{workers} workers");
    }
}

fn row_of(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

#[test]
fn what_is_shared_does_not_lose_errors() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, a BIGINT, b BIGINT); CREATE TABLE u (k BIGINT, d BIGINT)").unwrap();
    let sql = "SELECT x.id, u.d FROM (SELECT id, a / b AS q FROM t) AS x JOIN u ON x.q = u.k";
    let view =
        |name: &str| session.sql(&sql.replace("u.d", &format!("u.d AS {name}"))).unwrap().create_view(name).unwrap();
    let views = [view("one"), view("two")];
    session.execute("INSERT INTO u VALUES (3, 4); INSERT INTO t VALUES (1, 6, 2), (2, 5, 0)").unwrap();
    views.iter().for_each(|view| says(view.snapshot().err().unwrap(), &["zero"]));
}

#[test]
fn an_overflow_heals_and_a_sum_is_wider_than_its_type() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, a BIGINT)").unwrap();
    let view = session.sql("SELECT sum(a) AS s FROM t").unwrap().create_view("v").unwrap();
    let most = i64::MAX;
    session.execute(&format!("INSERT INTO t VALUES (1, {most}), (2, 5)")).unwrap();
    says(wait(|| view.snapshot().err()), &["sum"]);
    session.execute("INSERT INTO t VALUES (3, -7)").unwrap();
    wait(|| view.snapshot().ok().filter(|rows| oracle::texts(rows, None) == [[(most - 2).to_string()]]));
    session.execute("DELETE FROM t WHERE id = 3").unwrap();
    says(wait(|| view.snapshot().err()), &["sum"]);
    session.execute("DELETE FROM t WHERE id = 1").unwrap();
    wait(|| view.snapshot().ok().filter(|rows| oracle::texts(rows, None) == [["5"]]));
    // On rows arithmetic fails, too.
    let rows = session.sql("SELECT id, a + 9223372036854775806 AS b FROM t").unwrap();
    says(rows.collect().err().unwrap(), &["overflow"]);
}

/// Floats leave nothing behind: what is left is summed exactly.
#[test]
fn float_sums_do_not_drift() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute("CREATE TABLE t (id BIGINT, f DOUBLE)").unwrap();
        let view = session.sql("SELECT sum(f) AS s, avg(f) AS a, count(f) AS n FROM t").unwrap();
        let view = view.create_view("v").unwrap();
        session.execute("INSERT INTO t VALUES (1, 0.1), (2, 0.2), (3, 1e300), (4, 0.3), (5, 1e-300)").unwrap();
        session.execute("INSERT INTO t VALUES (6, 1e16), (7, 1.0), (8, -1e16)").unwrap();
        let now = || oracle::texts(&view.snapshot().unwrap(), None).remove(0);
        assert_eq!(now()[0].parse::<f64>().unwrap(), 1e300);
        session.execute("DELETE FROM t WHERE id IN (1, 2, 3, 4)").unwrap();
        // 1e16 + 1 - 1e16 + 1e-300.
        assert_eq!(now()[0].parse::<f64>().unwrap(), 1.0);
        session.execute("INSERT INTO t VALUES (9, CAST('NaN' AS DOUBLE)), (10, CAST('inf' AS DOUBLE))").unwrap();
        assert!(now()[0].parse::<f64>().unwrap().is_nan());
        session.execute("DELETE FROM t WHERE id = 9").unwrap();
        assert_eq!(now()[0].parse::<f64>().unwrap(), f64::INFINITY);
        session.execute("DELETE FROM t WHERE id = 10 OR id = 7").unwrap();
        assert_eq!(now()[0].parse::<f64>().unwrap(), 1e-300);
        session.execute("DELETE FROM t").unwrap();
        assert_eq!(now(), ["NULL", "NULL", "0"]);
    }
}

#[test]
fn zeros_and_nans_are_one_key_each() {
    let session = Session::builder().workers(2).build().unwrap();
    session.execute("CREATE TABLE t (f DOUBLE)").unwrap();
    session
        .execute(
            "INSERT INTO t VALUES (0e0), (-0e0), (CAST('NaN' AS DOUBLE)), (-CAST('NaN' AS DOUBLE)), (NULL), (NULL)",
        )
        .unwrap();
    let counts = |sql: &str| {
        let rows = oracle::texts(&session.sql(sql).unwrap().collect().unwrap(), None);
        let mut counts: Vec<_> = rows.iter().map(|row| row.last().unwrap().clone()).collect();
        counts.sort();
        counts
    };
    assert_eq!(counts("SELECT f, count(*) AS n FROM t GROUP BY f"), ["2", "2", "2"]);
    assert_eq!(counts("SELECT count(*) AS n FROM (SELECT DISTINCT f FROM t) AS x"), ["3"]);
    assert_eq!(counts("SELECT count(DISTINCT f) AS n FROM t"), ["2"]);
    // NULL = NULL is not true in a join.
    assert_eq!(counts("SELECT count(*) AS n FROM t l JOIN t r ON l.f = r.f"), ["8"]);
}

#[test]
fn a_negative_multiplicity_is_an_error_until_it_is_none() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        // A channel keeps no rows: what was never there is found where rows are counted.
        session.execute("CREATE TABLE t (id BIGINT, name TEXT) WITH (connector = 'channel')").unwrap();
        let queries = [
            "SELECT DISTINCT name FROM t",
            "SELECT name, count(*) AS n FROM t GROUP BY name",
            "SELECT max(id) AS m FROM t",
        ];
        let views: Vec<_> = queries
            .iter()
            .enumerate()
            .map(|(i, sql)| session.sql(sql).unwrap().create_view(&format!("v{i}")).unwrap())
            .collect();
        let schema = session.table("t").unwrap().schema();
        let mut input = session.input("t").unwrap();
        input.push_atomic(batch(&schema, &[row(&["1", "a"])]), vec![-1]).unwrap();
        for (view, sql) in views.iter().zip(queries) {
            let error = wait(|| view.snapshot().err());
            says(error, &["retracted that was not there", "-1 copies"]);
            assert!(view.status().failure.is_none(), "{sql}");
        }
        input.push_atomic(batch(&schema, &[row(&["1", "a"])]), vec![2]).unwrap();
        for view in &views {
            let rows = wait(|| view.snapshot().ok());
            assert_eq!(rows.num_rows(), 1);
        }
    }
}

#[test]
fn a_row_that_is_not_there_is_refused_where_it_is_taken_back() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, name TEXT); INSERT INTO t VALUES (1, 'a')").unwrap();
    let queries = ["SELECT * FROM t", "SELECT name FROM t WHERE id > 0", "SELECT t.id FROM t JOIN t u ON t.id = u.id"];
    let views: Vec<_> =
        (0..3).map(|i| session.sql(queries[i]).unwrap().create_view(&format!("v{i}")).unwrap()).collect();
    let schema = session.table("t").unwrap().schema();
    let mut input = session.input("t").unwrap();
    let mut push = |id: &str, diff| input.push_atomic(batch(&schema, &[row(&[id, "a"])]), vec![diff]);
    says(push("2", -1).err().unwrap(), &["table 't'", "(2, a)", "nothing was changed"]);
    says(push("1", -2).err().unwrap(), &["(1, a)"]);
    push("1", -1).unwrap();
    says(push("1", -1).err().unwrap(), &["(1, a)"]);
    push("3", 1).unwrap();
    for view in views {
        assert_eq!(view.snapshot().unwrap().num_rows(), 1);
    }
}

#[test]
fn pushes_are_checked() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (id BIGINT, name TEXT); CREATE TABLE u (id BIGINT)").unwrap();
    let [t, u] = ["t", "u"].map(|name| session.table(name).unwrap().schema());
    let mut input = session.input("t").unwrap();
    says(input.push(batch(&u, &[row(&["1"])])).err().unwrap(), &["'t'", "name", "id"]);
    says(input.push_atomic(batch(&t, &[row(&["1", "a"])]), vec![1, 1]).err().unwrap(), &["1 rows", "2 diffs"]);
    input.push(batch(&t, &[row(&["1", "a"])])).unwrap();
    let mut other = session.input("t").unwrap();
    input.close();
    says(other.push(batch(&t, &[row(&["1", "a"])])).err().unwrap(), &["'t'", "closed"]);
    says(session.execute("INSERT INTO t VALUES (2, 'b')").err().unwrap(), &["'t'", "closed"]);
    says(session.input("nosuch").err().unwrap(), &["nosuch"]);
    says(session.view("nosuch").err().unwrap(), &["nosuch"]);
    assert_eq!(session.sql("SELECT * FROM t").unwrap().collect().unwrap().num_rows(), 1);
    says(
        session.execute("CREATE TABLE n (a BIGINT NOT NULL); INSERT INTO n VALUES (NULL)").err().unwrap(),
        &["'a'", "NULL"],
    );
}

#[test]
fn a_script_with_an_error_says_where_and_stops_there() {
    let session = Session::new().unwrap();
    let error = refused(&session, "CREATE TABLE t (a INT);\nINSERT INTO t VALUES (1);\nSELEC 1;");
    assert_eq!(error.position().map(|p| p.line), Some(3));
    // What can't be parsed runs not at all.
    assert!(session.tables().is_empty());
    let error = refused(&session, "CREATE TABLE t (a INT);\n  INSERT INTO t VALUES ('x1');");
    says(&error, &["x1"]);
    assert_eq!(session.tables().len(), 1);
}

#[test]
fn workers_are_pinned_to_cores_that_there_are() {
    let session = Session::builder().workers(1).pin_workers(true).build().unwrap();
    assert_eq!(oracle::texts(&session.sql("SELECT 1 AS one").unwrap().collect().unwrap(), None), [["1"]]);
    let error = Session::builder().workers(5000).pin_workers(true).build().err().unwrap();
    says(error, &["can't pin 5000 workers", "cores"]);
}

#[test]
fn a_replacement_that_is_refused_leaves_what_was_there() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE t (a BIGINT); INSERT INTO t VALUES (7);
             CREATE VIEW plain AS SELECT a FROM t; CREATE MATERIALIZED VIEW v AS SELECT a FROM t;
             CREATE SINK s FROM t WITH (connector = 'blackhole', mode = 'changelog')",
        )
        .unwrap();
    for (statement, wanted) in [
        ("VIEW plain AS SELECT count(*) OVER () FROM t", "OVER"),
        ("MATERIALIZED VIEW v AS SELECT count(*) OVER () FROM t", "OVER"),
        ("MATERIALIZED VIEW v AS SELECT a + 1 AS a FROM v", "replaces"),
        ("VIEW v AS SELECT nothing FROM t", "nothing"),
        ("VIEW t AS SELECT 1 AS a", "'t' is a table"),
        ("TABLE v (a BIGINT)", "'v' is a view"),
        ("SINK s FROM t WITH (connector = 'blackhole', modus = 'changelog')", "modus"),
        ("SINK s FROM t WITH (connector = 'blackhoel', mode = 'changelog')", "blackhoel"),
        ("SINK s AS SELECT nothing FROM t WITH (connector = 'blackhole')", "nothing"),
        ("SINK t FROM v WITH (connector = 'blackhole', mode = 'changelog')", "'t' is a table"),
    ] {
        says(refused(&session, &format!("CREATE OR REPLACE {statement}")), &[wanted]);
    }
    for name in ["t", "plain", "v"] {
        assert_eq!(oracle::texts(&session.table(name).unwrap().collect().unwrap(), None), [["7"]], "{name}");
    }
    let Outcome::Rows(sinks) = session.execute("SHOW SINKS").unwrap().remove(0) else { panic!("no rows") };
    assert!(sinks.num_rows() == 1 && format!("{sinks:?}").contains("running"), "{sinks:?}");
    // What is possible does replace.
    session.execute("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT a + 1 AS a FROM t").unwrap();
    session.execute("CREATE OR REPLACE SINK s FROM v WITH (connector = 'blackhole', mode = 'changelog')").unwrap();
    assert_eq!(oracle::texts(&session.table("v").unwrap().collect().unwrap(), None), [["8"]]);
}

/// Answers read the columns that they need; what is a row does not depend on that.
#[test]
fn answers_and_views_agree_on_what_is_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        dir.path(),
        "t.csv",
        "ts,a,b,s\n2024-01-01T00:00:00,1,10,x\n2024-01-01T00:00:01,2,late,y\nsoon,4,40,z\n2024-01-01T00:00:02,8,80,u\n",
    );
    for watermark in ["", ", WATERMARK FOR ts AS ts - INTERVAL '1' SECOND"] {
        let session = Session::builder().workers(2).build().unwrap();
        let columns = format!("ts TIMESTAMP, a BIGINT, b BIGINT, s TEXT{watermark}");
        let with = format!("connector = 'filesystem', path = '{path}', on_error = 'skip'");
        session.execute(&format!("CREATE TABLE t ({columns}) WITH ({with})")).unwrap();
        for query in [
            "SELECT count(*) AS n FROM t",
            "SELECT sum(a) AS n, avg(a) AS mean FROM t",
            "SELECT s, a FROM t",
            "SELECT x.s, y.b FROM t AS x JOIN t AS y ON x.a = y.a",
            "SELECT count(*) FILTER (WHERE s = 'x') AS x, max(ts) AS last FROM t",
        ] {
            let answer = oracle::multiset(&session.sql(query).unwrap().collect().unwrap(), None);
            let view = session.sql(query).unwrap().create_view("v").unwrap();
            // With a watermark it is a stream, which comes a moment later.
            wait(|| (oracle::multiset(&view.snapshot().unwrap(), None) == answer).then_some(()));
            view.drop().unwrap();
        }
        let answer = session.sql("SELECT count(*) AS n, sum(a) AS a FROM t").unwrap().collect().unwrap();
        assert_eq!(oracle::texts(&answer, None), [["2", "9"]]);
    }
}
