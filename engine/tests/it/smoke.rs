//! Each way in and out of a session, once.

use headwater::arrow::array::{AsArray, RecordBatch};
use headwater::arrow::datatypes::Int64Type;
use headwater::arrow::util::pretty::pretty_format_batches;
use headwater::{Outcome, OutputMode, Session, Trigger};

fn show(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

#[test]
fn a_view_follows_statements() {
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute("CREATE TABLE sales (shop TEXT, amount BIGINT)").unwrap();
        let view = session
            .sql("SELECT shop, sum(amount) AS total, count(*) AS n FROM sales GROUP BY shop")
            .unwrap()
            .create_view("totals")
            .unwrap();
        session.execute("INSERT INTO sales VALUES ('north', 3), ('south', 4), ('north', 5)").unwrap();
        session.execute("DELETE FROM sales WHERE amount = 3").unwrap();
        session.execute("UPDATE sales SET amount = amount + 1 WHERE shop = 'south'").unwrap();
        let rows = session.sql("SELECT shop, total FROM totals ORDER BY shop").unwrap().collect().unwrap();
        assert_eq!(rows.num_rows(), 2, "{}", show(&rows));
        assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[5, 5], "{}", show(&rows));
        let rows = view.snapshot().unwrap();
        assert_eq!(rows.num_rows(), 2);
    }
}

#[test]
fn a_join_with_an_outer_side() {
    let session = Session::new().unwrap();
    session
        .execute(
            "CREATE TABLE a (k BIGINT, x TEXT); CREATE TABLE b (k BIGINT, y TEXT);
             CREATE MATERIALIZED VIEW v AS SELECT a.k, x, y FROM a LEFT JOIN b ON a.k = b.k;
             INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (2, 'zwei')",
        )
        .unwrap();
    let rows = session.sql("SELECT * FROM v ORDER BY k").unwrap().collect().unwrap();
    assert_eq!(rows.num_rows(), 2, "{}", show(&rows));
    assert!(rows.column(2).is_null(0), "{}", show(&rows));
    session.execute("DELETE FROM b").unwrap();
    let rows = session.view("v").unwrap().snapshot().unwrap();
    assert_eq!(rows.column(2).null_count(), 2, "{}", show(&rows));
}

#[test]
fn a_script_over_files_runs_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.csv");
    std::fs::write(
        &path,
        "ts,region,amount\n2024-01-01T00:00:01,north,1\n2024-01-01T00:00:03,south,2\n2024-01-01T00:01:00,north,4\n",
    )
    .unwrap();
    for mode in ["batch", "streaming"] {
        let session = Session::new().unwrap();
        let mut script = session
            .run_script(&format!(
                "SET execution.runtime-mode = '{mode}';
                 CREATE TABLE events (WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
                 WITH (connector = 'filesystem', path = '{}', format = 'csv', header = 'true');
                 SELECT region, window(ts, '1 minute') AS w, sum(amount) AS total FROM events GROUP BY region, w
                 ORDER BY region, w",
                path.display()
            ))
            .unwrap();
        let answers = script.answers().unwrap();
        assert_eq!(answers[0].num_rows(), 3, "{mode}\n{}", show(&answers[0]));
        assert_eq!(answers[0].column(2).as_primitive::<Int64Type>().values(), &[1, 4, 2]);
    }
}

#[test]
fn a_subscription_sees_changes() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE t (k BIGINT)").unwrap();
    let query = session.sql("SELECT k, count(*) AS n FROM t GROUP BY k").unwrap();
    let mut changes =
        query.write_stream().output_mode(OutputMode::Changelog).trigger(Trigger::Continuous).subscribe().unwrap();
    session.execute("INSERT INTO t VALUES (7)").unwrap();
    let mut seen = Vec::new();
    while seen.is_empty() {
        let emission = changes.recv().unwrap().unwrap();
        seen.extend(emission.ops.iter().copied());
    }
    session.execute("INSERT INTO t VALUES (7)").unwrap();
    while seen.len() < 3 {
        let emission = changes.recv().unwrap().unwrap();
        seen.extend(emission.ops.iter().copied());
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn an_error_heals() {
    let session = Session::new().unwrap();
    session
        .execute("CREATE TABLE t (a BIGINT, b BIGINT); CREATE MATERIALIZED VIEW v AS SELECT a / b AS q FROM t")
        .unwrap();
    session.execute("INSERT INTO t VALUES (4, 2), (1, 0)").unwrap();
    let view = session.view("v").unwrap();
    // The statement is closed once the view has taken it in.
    let error = loop {
        match view.snapshot() {
            Err(error) => break error.to_string(),
            Ok(_) => std::thread::yield_now(),
        }
    };
    assert!(error.to_lowercase().contains("zero"), "{error}");
    session.execute("DELETE FROM t WHERE b = 0").unwrap();
    loop {
        if let Ok(rows) = view.snapshot() {
            assert_eq!(rows.num_rows(), 1);
            break;
        }
    }
    let outcomes = session.execute("EXPLAIN SELECT a / b FROM t; SHOW TABLES").unwrap();
    assert!(matches!(&outcomes[0], Outcome::Text(text) if text.contains('/')));
}

#[test]
fn a_stop_ends_what_would_go_on() {
    let session = Session::new().unwrap();
    let mut script = session
        .run_script(
            "CREATE TABLE feed (ts TIMESTAMP, user_id BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
             WITH (connector = 'datagen', 'rows-per-second' = '10000', 'fields.ts.kind' = 'event-time');
             CREATE SINK nowhere FROM (SELECT user_id FROM feed) WITH (connector = 'blackhole');
             SELECT count(*) AS n FROM feed",
        )
        .unwrap();
    while session.tables()[0].counts.rows == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    session.stop();
    let answers = script.answers().unwrap();
    assert!(answers[0].column(0).as_primitive::<Int64Type>().value(0) > 0);
    script.await_termination().unwrap();
}

#[test]
fn a_view_of_a_file_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.csv");
    let text: String =
        std::iter::once("n".to_owned()).chain((0..200_000).map(|n| n.to_string())).collect::<Vec<_>>().join("\n");
    std::fs::write(&path, text).unwrap();
    let session = Session::new().unwrap();
    session
        .execute(&format!(
            "CREATE TABLE numbers WITH (connector = 'filesystem', path = '{}', format = 'csv', header = 'true');
             CREATE MATERIALIZED VIEW evens AS SELECT n FROM numbers WHERE n % 2 = 0",
            path.display()
        ))
        .unwrap();
    let rows = session.sql("SELECT count(*) AS n FROM evens").unwrap().collect().unwrap();
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 100_000);
}
