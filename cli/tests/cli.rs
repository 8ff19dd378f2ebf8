//! The command from outside: what it prints where, and how it ends.

mod terminal;

use std::io::{BufRead, Result, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use terminal::Terminal;

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
    assert_eq!(out(&output), "+--------+\n|    two |\n| BIGINT |\n+--------+\n|      2 |\n+--------+\n1 row\n");
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
        (sink(""), "+I[7] @ #1\n"),
        (sink("") + answer, "a\n7\n"),
        (sink(", standard-error = 'false'") + answer, "+I[7] @ #1\na\n7\n"),
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
        assert!(err(&output).contains("note: table 't': 1 row rejected"), "{}", err(&output));
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

#[test]
fn the_prompt_knows_the_words_of_other_shells() {
    let mut terminal = Terminal::open().unwrap();
    terminal.line("help", "Ctrl-C cancels");
    terminal.line("\\timing", "timing is on");
    let text = terminal.line("SELECT 42 AS a, 'x' AS b;", "Time: ");
    let answer = "+--------+---------+\r\n|      a | b       |\r\n| BIGINT | VARCHAR |\r\n+--------+---------+\r\n|     42 | x       \
                  |\r\n+--------+---------+\r\n1 row\r\nTime: ";
    assert!(text.contains(answer), "{text}");
    // A statement that was begun is not left by a word that may belong to it.
    terminal.put("SELECT 1,\r");
    terminal.until("headwater-> ");
    terminal.put("exit\r");
    terminal.until("Ctrl-C clears it");
    terminal.put("\x03");
    terminal.until("headwater> ");
    terminal.put("exit\r");
    assert!(terminal.end().success());
}

#[test]
fn what_a_name_means_is_shown_at_once_and_in_order() {
    let mut terminal = Terminal::open().unwrap();
    terminal.line("CREATE TABLE orders (item VARCHAR, n BIGINT);", "created table");
    terminal.line("INSERT INTO orders VALUES ('tea', 3), ('milk', 1), ('rum', 2);", "3 rows changed");
    terminal.line("UPDATE orders SET n = 4 WHERE item = 'tea';", "1 row changed");
    terminal.line("CREATE MATERIALIZED VIEW totals AS SELECT sum(n) AS n FROM orders;", "created materialized view");
    let text = terminal.line("\\d orders", "CREATE TABLE orders (");
    let places = ["| item   | VARCHAR |", "rows: 3 held", "CREATE TABLE orders ("].map(|part| text.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    let text = terminal.line("\\d totals", "AS SELECT sum(n)");
    assert!(!text.contains("orders (") && text.contains("materialized view 'totals' (query): running"), "{text}");
    let text = terminal.line("\\d", "2 rows");
    assert!(text.contains("| orders | table             | memory  | running | 3    |"), "{text}");
}

#[test]
fn long_and_wide_answers_are_cut_on_a_terminal_alone() {
    let text = "SELECT unnest(range(0, 1000)) AS n";
    let wide = (0..40).map(|n| format!("{n} AS column_{n}")).collect::<Vec<_>>().join(", ");
    let mut terminal = Terminal::open().unwrap();
    let shown = terminal.line(&format!("{text};"), "1000 rows (40 shown, \\rows all shows all)");
    assert!(shown.contains("|    999 |") && !shown.contains("|    500 |"), "{shown}");
    terminal.line("\\rows all", "all rows are shown");
    assert!(terminal.line(&format!("{text};"), "1000 rows\r\n").contains("|    500 |"));
    terminal.line(&format!("SELECT {wide};"), "of 40 columns shown, \\x shows all)");
    terminal.line("\\x auto", "rows are shown as records where");
    terminal.line(&format!("SELECT {wide};"), "column_39 | 39\r\n1 row\r\n");
    let output = run(&["sql", "-c", &format!("{text}; SELECT {wide}")], "").unwrap();
    assert!(out(&output).contains("\n1000 rows\n") && out(&output).ends_with("\n1 row\n"));
    assert_eq!(out(&output).lines().count(), 1000 + 6 + 7);
    assert!(out(&output).contains(" column_20 |"));
}

#[test]
fn typing_goes_on_beside_a_sink_that_prints() {
    for mode in ["complete", "changelog"] {
        let mut terminal = Terminal::open().unwrap();
        terminal.line(
            "CREATE TABLE dg (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (connector = \
             'datagen', rows-per-second = 1000);",
            "created table",
        );
        terminal.line("CREATE MATERIALIZED VIEW v AS SELECT id % 3 AS k, count(*) AS n FROM dg GROUP BY 1;", "created");
        let sink = format!("CREATE SINK live FROM v WITH (connector = 'print', mode = '{mode}');");
        terminal.line(&sink, "started sink");
        terminal.put("DROP SI");
        // What is printed stands above, and what was typed is there again behind it.
        for _ in 0..3 {
            terminal.until("headwater> DROP SI");
        }
        terminal.line("NK live;", "dropped sink 'live'");
        terminal.line("SELECT 41 + 1 AS n;", "|     42 |");
    }
}

#[test]
fn what_is_typed_ahead_and_pasted_is_not_lost() {
    let mut terminal = Terminal::open().unwrap();
    let lines: Vec<String> = (0..2_000).map(|n| format!("({n}, 'a; b -- c'),\r")).collect();
    terminal.put("CREATE TABLE t (n BIGINT, s VARCHAR);\rINSERT INTO t VALUES\r");
    terminal.put(&lines.concat());
    terminal.put("(-1, '');\rSELECT count(*) AS many FROM t;\rSELECT 'the ' || 'end';\r");
    let shown = terminal.wait("| the end");
    assert!(shown.contains("2001 rows changed") && shown.contains("|   2001 |"), "{shown}");
    // In one piece, as terminals give what is pasted.
    let values = (0..20_000).map(|n| format!("({n}, 'x')")).collect::<Vec<_>>().join(",\n");
    terminal.put(&format!(
        "\x1b[200~DELETE FROM t;\nINSERT INTO t VALUES\n{values};\nSELECT sum(n) AS n FROM t;\x1b[201~\r"
    ));
    let shown = terminal.wait("| 199990000 |");
    assert!(shown.contains("20000 rows changed"));
}

#[test]
fn an_interrupt_ends_the_statement_and_not_the_session() {
    let mut terminal = Terminal::open().unwrap();
    let endless = "CREATE TABLE n (i BIGINT) WITH (connector = 'datagen', number-of-rows = 100000000000, 'fields.i.kind' = 'sequence');";
    terminal.line(endless, "created table");
    terminal.put("SELECT count(*) AS n FROM n; SELECT 'behind';\r");
    // The line that shows how far the table is.
    terminal.wait("n: ");
    terminal.wait(" rows, ");
    assert!(Command::new("kill").args(["-INT", &terminal.id().to_string()]).status().unwrap().success());
    terminal.until("cancelled");
    let shown = terminal.line("SELECT 'still ' || 'here';", "| still here");
    assert!(!shown.contains("behind"), "{shown}");
}

#[test]
fn tab_completes_names_and_files() {
    let mut terminal = Terminal::open().unwrap();
    std::fs::write(terminal.folder().join("flights.csv"), "origin,n\nJFK,1\n").unwrap();
    terminal.line("CREATE TABLE measurements (temperature BIGINT);", "created table");
    terminal.line("SELECT 1 AS t FROM measu\t;", "0 rows");
    terminal.line("FROM 'fli\t;", "| JFK     |      1 |");
}

#[test]
fn columns_of_a_file_are_those_that_it_has_now() {
    let mut terminal = Terminal::open().unwrap();
    let file = terminal.folder().join("s.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    terminal.line("DESCRIBE 's.csv';", "2 rows");
    terminal.line("FROM 's.csv';", "1 row");
    std::fs::write(&file, "a,b,c\n7,8,9\n").unwrap();
    let shown = terminal.line("FROM 's.csv';", "1 row");
    assert!(shown.contains("|      7 |      8 |      9 |"), "{shown}");
}

#[test]
fn who_reads_a_part_hears_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let rows: String = (0..200_000).map(|n| format!("{n},some text\n")).collect();
    std::fs::write(at("x.csv"), format!("id,s\n{rows}")).unwrap();
    std::fs::write(at("q.sql"), format!("SELECT * FROM '{}';", at("x.csv"))).unwrap();
    let sink =
        "CREATE TABLE t (i BIGINT) WITH (connector = 'datagen', rows-per-second = 20000, 'fields.i.kind' = 'sequence');
                CREATE SINK p WITH (connector = 'print', mode = 'changelog') AS SELECT i FROM t;";
    std::fs::write(at("s.sql"), sink).unwrap();
    let query = format!("SELECT * FROM '{}'", at("x.csv"));
    for arguments in [
        &["sql", "--format", "csv", "-c", &query][..],
        &["sql", "--format", "json", "-c", &query],
        &["sql", "--format", "table", "-c", &query],
        &["run", &at("q.sql")],
        &["run", &at("s.sql")],
    ] {
        let mut child = headwater(arguments).spawn().unwrap();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut String::new()).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let said =
            err(&output).lines().filter(|line| !line.starts_with("created") && !line.starts_with("started")).count();
        assert!(output.status.success() && said == 0, "{arguments:?}: {} {}", output.status, err(&output));
    }
    for arguments in [&["sql", "-c", &query][..], &["run", &at("s.sql")]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = headwater(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).contains("No space left"), "{}", err(&output));
    }
}

#[test]
fn a_query_may_begin_with_from() {
    let text = "CREATE TABLE t (k INT); INSERT INTO t VALUES (1); CREATE VIEW v AS FROM t; FROM t; FROM v; SELECT * FROM (FROM t)";
    let output = run(&["sql", "--format", "csv", "-c", text], "").unwrap();
    assert_eq!(out(&output), "k\n1\nk\n1\nk\n1\n", "{}", err(&output));
    let output = run(&["sql", "-c", "CREATE TABLE t (k INT); SELECT FROM t"], "").unwrap();
    assert!(err(&output).contains("write SELECT *"), "{}", err(&output));
}

#[test]
fn changes_without_event_time_have_an_order_and_no_time() {
    let text = "CREATE TABLE t (k INT, v INT); CREATE MATERIALIZED VIEW m AS SELECT k, sum(v) AS s FROM t GROUP BY k;
                CREATE SINK j FROM m WITH (connector = 'print', format = 'json', mode = 'changelog');
                CREATE SINK l FROM m WITH (connector = 'print', format = 'lines', mode = 'changelog', standard-error = 'true');
                INSERT INTO t VALUES (1, 10); UPDATE t SET v = 11; DELETE FROM t";
    let output = run(&["run", "-"], text).unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let lines: Vec<_> = out(&output).lines().map(str::to_owned).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("\"ts_us\":null,\"seq\":")), "{lines:?}");
    let order = |line: &String| line.rsplit_once(':').unwrap().1.trim_end_matches('}').parse::<i64>().unwrap();
    assert!(lines.is_sorted_by_key(order) && order(lines.last().unwrap()) > order(&lines[0]), "{lines:?}");
    assert!(err(&output).contains("+I[1, 11] @ #") && !err(&output).contains(" us"), "{}", err(&output));
}

#[test]
fn refusals_say_what_to_write() {
    let made = "CREATE TABLE t (k INT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
                CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM t; CREATE TABLE c (\"UserName\" INT);";
    for (text, advice) in [
        ("DROP TABLE mv", "write DROP VIEW mv"),
        ("DROP VIEW t", "write DROP TABLE t"),
        ("INSERT INTO mv VALUES (1)", "view 'mv' is no table"),
        ("DELETE FROM mv", "view 'mv' is no table"),
        ("SHOW DATABASES", "SHOW TABLES"),
        ("SHOW SCHEMAS", "SHOW TABLES"),
        ("SHOW TABLES LIKE 't%'", "takes no LIKE"),
        ("TRUNCATE TABLE t", "write DELETE FROM"),
        ("BEGIN", "each statement is one change"),
        ("COPY t TO 'x.csv'", "write CREATE SINK"),
        ("CREATE INDEX i ON t (k)", "arranged by itself"),
        ("CREATE TEMP VIEW z AS SELECT 1", "write CREATE VIEW"),
        ("CREATE TABLE public.x (k INT)", "write x"),
        ("SELECT * FROM public.t", "write t"),
        (
            "SELECT * FROM t JOIN t AS u FOR SYSTEM_TIME AS OF t.ts ON t.k = u.k",
            "FOR SYSTEM_TIME AS OF is not supported yet",
        ),
        ("SELECT * FROM t ASOF JOIN t AS u ON t.k >= u.k", "ASOF JOIN is not supported yet"),
        ("SELECT * FROM t ASOF JOIN t AS u MATCH_CONDITION (t.k >= u.k)", "ASOF JOIN is not supported yet"),
        ("SELECT substr(k) FROM t", "substr(s, 1, 3)"),
        ("SELECT date_trunc('day') FROM t", "'date_trunc' expects 2 arguments but received 1"),
        ("SELECT date_trunc(ts, 'day') FROM t", "'date_trunc' does not take TIMESTAMP"),
        ("SELECT sum(s) FROM t", "'sum' does not take VARCHAR"),
        ("SELECT s + 1 FROM t", "VARCHAR + BIGINT"),
        ("SELECT k DIV 2 FROM t", "a / b"),
        ("SELECT year(ts) FROM t", "extract(year FROM ts)"),
        ("SELECT variance(k) FROM t", "var(x)"),
        ("SELECT iff(k > 1, 1, 2) FROM t", "CASE WHEN"),
        ("SELECT time_bucket(INTERVAL '1 minute', ts) FROM t", "date_bin("),
        ("SELECT * FROM read_csv('x.csv')", "FROM 'some.csv'"),
        ("SELECT UserName FROM c", "write \"UserName\""),
        ("SELECT userNam FROM c", "did you mean \"UserName\"?"),
        ("SELECT * FROM mvv", "did you mean mv?"),
        ("CREATE TABLE p (k INT PRIMARY KEY)", "PRIMARY KEY is not supported yet"),
    ] {
        let output = run(&["sql", "-c", &format!("{made} {text}")], "").unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(err(&output).contains(advice), "{text}: {}", err(&output));
        assert!(!err(&output).contains("Span(") && !err(&output).contains("Utf8"), "{}", err(&output));
    }
    for text in [
        "CREATE SINK late FROM t.late WITH (connector = 'blackhole', mode = 'changelog')",
        "SELECT * FROM t a SEMI JOIN t b ON a.k = b.k",
        "SELECT * FROM t a ANTI JOIN t b ON a.k = b.k",
        "EXPLAIN t.late",
        // With or without rows that are final: a materialized view over windows can be appended from.
        "CREATE MATERIALIZED VIEW w AS SELECT window(ts, '5 s') AS w, count(*) AS c FROM t GROUP BY 1;
         CREATE SINK live FROM w WITH (connector = 'blackhole', mode = 'append')",
    ] {
        let output = run(&["sql", "-c", &format!("{made} {text}")], "").unwrap();
        assert!(output.status.success(), "{text}: {}", err(&output));
    }
}
