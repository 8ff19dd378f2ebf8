//! The command from outside: what it prints where, and how it ends.

use std::io::{Result, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn headwater(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn run(arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = headwater(arguments).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const ORDERS: &str = "
    CREATE TABLE orders (item VARCHAR, amount BIGINT);
    INSERT INTO orders VALUES ('tea', 3), ('milk', 1), ('tea', 4), (NULL, NULL);
    SELECT item, sum(amount) AS total FROM orders GROUP BY item ORDER BY item;
";

#[test]
fn the_answer_stands_alone_on_standard_output() {
    let output = run(&["run", "--format", "csv", "-"], ORDERS).unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "item,total\nmilk,1\ntea,7\n,\n");
    assert!(err(&output).contains("created table 'orders'"));
}

#[test]
fn formats_and_modes_give_one_answer() {
    for arguments in [&["run", "--batch", "-"][..], &["run", "--stream", "--workers", "2", "-"], &["sql"]] {
        let arguments = [arguments, &["--format", "json"]].concat();
        let output = run(&arguments, ORDERS).unwrap();
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(
            out(&output),
            "{\"item\":\"milk\",\"total\":1}\n{\"item\":\"tea\",\"total\":7}\n{\"item\":null,\"total\":null}\n"
        );
    }
    let output = run(&["sql", "-c", "SELECT 1 + 1 AS two"], "").unwrap();
    assert!(out(&output).contains("| two |") && out(&output).contains("| 2   |"), "{}", out(&output));
}

#[test]
fn a_file_can_stand_where_a_table_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's.csv");
    std::fs::write(&path, "a,b\n1,x\n2,y\n").unwrap();
    let text = path.display().to_string().replace('\'', "''");
    let query = format!("SELECT sum(a) AS a FROM '{text}'");
    for arguments in [&["sql", "--format", "csv", "-c", &query][..], &["run", "--format", "csv", "-"]] {
        let output = run(arguments, &query).unwrap();
        assert_eq!(out(&output), "a\n3\n", "{}", err(&output));
    }
    let output = run(&["sql", "-c", "SELECT * FROM 'nowhere.csv'"], "").unwrap();
    assert!(!output.status.success() && err(&output).contains("nowhere.csv"), "{}", err(&output));
}

#[test]
fn failures_point_at_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let wrong = [
        ("syntax.sql", "CREATE TABLE t (a INT);\nSELEC a FROM t;", "line 2, column 1"),
        ("column.sql", "CREATE TABLE t (a INT);\nSELECT a,\n  b FROM t;", "line 3, column 3"),
        ("type.sql", "CREATE TABLE t (\n  a WHAT\n);", "line 2, column 5"),
        ("option.sql", "CREATE TABLE t (a INT)\nWITH (connector = 'datagen', speed = '3');", "speed"),
        ("table.sql", "SELECT * FROM missing;", "missing"),
    ];
    for (name, text, place) in wrong {
        let path = file(name, text).unwrap();
        let output = run(&["run", &path], "").unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(err(&output).contains(place) && err(&output).contains(name), "{name}: {}", err(&output));
        assert_eq!(out(&output), "", "{name}");
    }
    let output = run(&["run", "no such file.sql"], "").unwrap();
    assert!(output.status.code() == Some(1) && err(&output).contains("no such file.sql"), "{}", err(&output));
    assert_eq!(run(&["run", "--batch", "--stream", "x.sql"], "").unwrap().status.code(), Some(2));
}

#[test]
fn a_row_in_error_is_an_error() {
    let text = "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (0); SELECT 1 / a AS x FROM t;";
    let output = run(&["run", "-"], text).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(err(&output).to_lowercase().contains("divi"), "{}", err(&output));
}

#[test]
fn a_view_in_error_fails_the_run_beside_an_answer() {
    let text = "CREATE TABLE m (a BIGINT); INSERT INTO m VALUES (0);
                CREATE MATERIALIZED VIEW v AS SELECT 1 / a AS b FROM m; SELECT count(*) AS n FROM m";
    let output = run(&["run", "--format", "csv", "-"], text).unwrap();
    assert_eq!((out(&output).as_str(), output.status.code()), ("n\n1\n", Some(1)));
    assert!(err(&output).contains("line 2"), "{}", err(&output));
}

#[test]
fn wrong_values_and_missing_files_are_placed() {
    for (text, place) in [
        ("CREATE TABLE t (a INT);\n INSERT INTO t VALUES ('x');", "line 2, column 2"),
        ("CREATE TABLE t (a INT); INSERT INTO t VALUES (0);\nSELECT 1 / a AS x FROM t;", "line 2, column 1"),
        ("\nCREATE TABLE t (a INT) WITH (connector = 'filesystem', path = 'none*.csv');", "line 2, column 1"),
    ] {
        for arguments in [["run", "-"], ["sql", "-c"]] {
            let arguments = if arguments[0] == "sql" { vec!["sql", "-c", text] } else { arguments.to_vec() };
            let output = run(&arguments, text).unwrap();
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(err(&output).contains(place), "{}", err(&output));
        }
    }
}

#[test]
fn what_a_sink_prints_leaves_the_answer_alone() {
    let sink = |more: &str| {
        format!(
            "CREATE TABLE t (a INT); CREATE SINK p FROM t WITH (connector = 'print', mode = 'changelog'{more});
             INSERT INTO t VALUES (7);"
        )
    };
    let answer = "SELECT sum(a) AS a FROM t;";
    for (text, wanted) in [
        (sink(""), "+I[7]\n"),
        (sink("") + answer, "a\n7\n"),
        (sink(", standard-error = 'false'") + answer, "+I[7]\na\n7\n"),
    ] {
        let output = run(&["run", "--format", "csv", "-"], &text).unwrap();
        assert_eq!(out(&output), wanted, "{text}");
        assert_eq!(err(&output).contains("+I[7]"), !wanted.contains("+I[7]"), "{text}");
    }
}

#[test]
fn standard_input_can_be_asked_once() {
    let text = "CREATE TABLE s (a INT) WITH (connector = 'stdin', format = 'csv'); SELECT sum(a) AS a FROM s";
    let output = run(&["sql", "--format", "csv", "-c", text], "a\n1\n2\n").unwrap();
    assert_eq!(out(&output), "a\n3\n", "{}", err(&output));
    let output = run(&["sql", "-c", &format!("{text}; SELECT a FROM s")], "a\n1\n2\n").unwrap();
    assert!(!output.status.success() && err(&output).contains("'s' has already been read"), "{}", err(&output));
}

#[test]
fn what_was_set_apart_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, "a\n1\nx\n").unwrap();
    let path = path.display();
    let text = format!(
        "CREATE TABLE t (a INT) WITH (connector = 'filesystem', path = '{path}', on_error = 'skip'); SELECT * FROM t"
    );
    for arguments in [&["run", "-"][..], &["sql", "-c", &text]] {
        let output = run(arguments, &text).unwrap();
        assert!(output.status.success());
        assert!(err(&output).contains("note: table 't': 1 rows rejected"), "{}", err(&output));
    }
    // A text may begin with a comment.
    assert!(run(&["sql", "-c", "-- nothing"], "").unwrap().status.success());
}

#[test]
fn sinks_are_written_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let text = format!(
        "CREATE TABLE n (i BIGINT) WITH (connector = 'datagen', 'number-of-rows' = '1000', 'fields.i.kind' = 'sequence');
         CREATE SINK s FROM n WITH (connector = 'filesystem', path = '{path}', format = 'csv');"
    );
    let output = run(&["run", "-"], &text).unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let text = format!("SELECT count(*) AS n, sum(i) AS total FROM '{path}/*.csv'");
    let output = run(&["sql", "--format", "csv", "-c", &text], "").unwrap();
    assert_eq!(out(&output), "n,total\n1000,499500\n", "{}", err(&output));
}

#[test]
fn an_interrupt_answers_from_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endless.sql");
    let text = "CREATE TABLE n (i BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
                WITH (connector = 'datagen', 'rows-per-second' = '1000');
                SELECT count(*) AS n FROM n;";
    std::fs::write(&path, text).unwrap();
    let child = headwater(&["run", "--format", "csv", &path.display().to_string()]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let rows: u64 = out(&output).strip_prefix("n\n").unwrap().trim().parse().unwrap();
    assert!(rows > 100, "{rows} rows");
}

#[test]
fn help_teaches_by_examples() {
    for arguments in [&["--help"][..], &["run", "--help"]] {
        let output = run(arguments, "").unwrap();
        assert!(output.status.success() && out(&output).contains("Examples:"));
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sql/visitors.sql").exists());
}
