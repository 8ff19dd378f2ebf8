//! What became no row of a table, as a relation.

use std::io::Write;

use headwater::{OutputMode, Session};

use crate::oracle;

fn rows(session: &Session, sql: &str) -> Vec<String> {
    let rows = session.sql(sql).and_then(|query| query.collect()).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    let mut rows: Vec<String> = oracle::texts(&rows, None).into_iter().map(|row| row.join(" | ")).collect();
    rows.sort();
    rows
}

#[test]
fn broken_lines_are_a_relation_with_the_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.csv");
    std::fs::write(&path, "a,b\n1,x\n2,3\n4\n5,6\n").unwrap();
    let declared = |more: &str| {
        let path = path.display();
        format!("WITH (connector = 'filesystem', path = '{path}', on_error = 'dead_letter'{more})")
    };
    for workers in [1, 2] {
        let session = Session::builder().workers(workers).build().unwrap();
        session.execute(&format!("CREATE TABLE logs (a INT, b INT) {}", declared(""))).unwrap();
        assert_eq!(rows(&session, "SELECT * FROM logs"), ["2 | 3", "5 | 6"]);
        let rejected = rows(&session, "SELECT line, \"column\", input FROM logs.rejected");
        assert_eq!(rejected, ["2 | b | 1,x", "4 | NULL | 4"]);
        let reasons = rows(&session, "SELECT reason FROM logs.rejected WHERE line = 2");
        assert!(reasons[0].contains("'x'") && reasons[0].contains("INT"), "{reasons:?}");
        assert!(rows(&session, "SELECT source FROM logs.rejected")[0].ends_with("logs.csv"));
        // Wherever a table can stand.
        let both = "SELECT l.a, r.line FROM logs AS l JOIN logs.rejected AS r ON l.a = r.line";
        assert_eq!(rows(&session, both), ["2 | 2"]);
        session.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM logs.rejected").unwrap();
        assert_eq!(rows(&session, "SELECT * FROM v"), ["2"]);
        session
            .execute("CREATE SINK s FROM logs.rejected WITH (connector = 'blackhole'); DESCRIBE logs.rejected")
            .unwrap();
        assert_eq!(session.table("logs.rejected").unwrap().collect().unwrap().num_rows(), 2);
    }
}

#[test]
fn what_is_rejected_later_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.csv");
    std::fs::write(&path, "a,at\n1,2024-01-01T00:00:00Z\nx,2024-01-01T00:00:01Z\n2,\n").unwrap();
    let session = Session::builder().workers(2).build().unwrap();
    session
        .execute(&format!(
            "CREATE TABLE logs (a INT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1' SECOND)
             WITH (connector = 'filesystem', path = '{}', on_error = 'dead_letter', source.monitor-interval = '100 ms');
             CREATE MATERIALIZED VIEW good AS SELECT a FROM logs;
             CREATE MATERIALIZED VIEW bad AS SELECT input FROM logs.rejected",
            path.display()
        ))
        .unwrap();
    let until = |sql: &str, expected: &[&str]| {
        let begin = std::time::Instant::now();
        while rows(&session, sql) != expected {
            assert!(begin.elapsed() < oracle::PATIENCE, "{sql}: {:?}", rows(&session, sql));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    // A broken line, and a row without a time.
    until("SELECT count(*) FROM bad", &["2"]);
    until("SELECT a FROM good", &["1"]);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"y,2024-01-01T00:00:02Z\n3,2024-01-01T00:00:03Z\n").unwrap();
    until("SELECT count(*) FROM bad", &["3"]);
    until("SELECT a FROM good", &["1", "3"]);
    // A view that is made later reads them again.
    session.execute("CREATE MATERIALIZED VIEW later AS SELECT count(*) AS n FROM logs.rejected").unwrap();
    until("SELECT n FROM later", &["3"]);
}

#[test]
fn pushed_rows_without_a_time_are_kept_with_their_reason() {
    let session = Session::builder().workers(1).build().unwrap();
    session.execute("CREATE TABLE t (a INT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1' SECOND)").unwrap();
    let query = session.sql("SELECT reason FROM t.rejected").unwrap().write_stream();
    let mut changes = query.output_mode(OutputMode::Append).subscribe().unwrap();
    session.execute("INSERT INTO t VALUES (1, NULL), (2, '2024-01-01 00:00:00')").unwrap();
    let emission = loop {
        let emission = changes.recv().unwrap().unwrap();
        if emission.rows.num_rows() > 0 {
            break emission;
        }
    };
    assert_eq!(emission.rows.num_rows(), 1);
    assert_eq!(rows(&session, "SELECT count(*) FROM t.rejected"), ["1"]);
    session.execute("CREATE MATERIALIZED VIEW v AS SELECT reason FROM t.rejected").unwrap();
    assert_eq!(rows(&session, "SELECT count(*) FROM v"), ["1"]);
    assert!(session.sql("SELECT * FROM v.rejected").is_err());
}
