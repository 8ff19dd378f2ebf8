//! What is in a file comes out of a query as it is, or there is an error with its place.

use std::path::Path;

use headwater::Session;

use crate::oracle::texts;

/// What a query over a file gives: its rows as text, columns separated by `|`, or parts of what its error says.
enum Gives {
    Rows(&'static [&'static str]),
    Error(&'static [&'static str]),
}
use Gives::{Error, Rows};

/// The rows of a query over the table `t`, declared over a file with this content.
fn ask(
    folder: &Path,
    name: &str,
    content: &[u8],
    declared: &str,
    options: &str,
    query: &str,
) -> Result<Vec<String>, String> {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    let session = Session::new().unwrap();
    let path = path.display();
    let table = format!("CREATE TABLE t {declared} WITH (connector = 'filesystem', path = '{path}'{options})");
    session.execute(&table).map_err(|error| error.to_string())?;
    let frame = session.sql(query).map_err(|error| error.to_string())?;
    let rows = frame.collect().map_err(|error| error.to_string())?;
    let mut rows: Vec<String> = texts(&rows, None).iter().map(|row| row.join("|")).collect();
    rows.sort();
    Ok(rows)
}

fn check(name: &str, content: &[u8], declared: &str, options: &str, query: &str, gives: &Gives) {
    let folder = tempfile::tempdir().unwrap();
    let got = ask(folder.path(), name, content, declared, options, query);
    let what =
        format!("{:?} {declared}{options}: {query}", String::from_utf8_lossy(&content[..content.len().min(200)]));
    match (gives, got) {
        (Rows(rows), Ok(got)) => {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            assert_eq!(got, rows, "{what}");
        }
        (Error(parts), Err(error)) => {
            for part in *parts {
                assert!(error.contains(part), "'{part}' is not in: {error}\n{what}");
            }
        }
        (_, got) => panic!("{what}\n{got:?}"),
    }
}

#[test]
fn json_inferred() {
    let deep = format!("{}1{}\n", "{\"a\":".repeat(200), "}".repeat(200));
    let late = "{\"a\":1}\n".repeat(2001);
    let (wrong_late, new_field) = (format!("{late}{{\"a\":1.5}}\n"), format!("{late}{{\"a\":1,\"b\":7}}\n"));
    let cases: Vec<(&[u8], &str, Gives)> = vec![
        (b"{\"o\":null}\n{\"o\":{\"x\":1}}\n", "SELECT o['x'] FROM t", Rows(&["NULL", "1"])),
        (b"{\"l\":[]}\n{\"l\":[1,2]}\n", "SELECT l FROM t", Rows(&["[]", "[1, 2]"])),
        (b"{\"l\":[],\"n\":1}\n", "SELECT l, n FROM t", Rows(&["[]|1"])),
        (b"{\"o\":{},\"n\":1}\n", "SELECT n FROM t", Rows(&["1"])),
        (
            b"{\"v\":1}\n{\"v\":\"x\"}\n{\"v\":true}\n{\"v\":1.50}\n{\"v\":null}\n",
            "SELECT v FROM t",
            Rows(&["1", "x", "true", "1.50", "NULL"]),
        ),
        (b"{\"v\":{\"a\": 1}}\n{\"v\":\"x\"}\n", "SELECT v FROM t", Rows(&["{\"a\": 1}", "x"])),
        (b"{\"v\":[1, 2.0]}\n{\"v\":2}\n", "SELECT v FROM t", Rows(&["[1, 2.0]", "2"])),
        (
            b"{\"o\":{\"x\":1}}\n{\"o\":{\"x\":\"s\",\"y\":2}}\n{\"o\":{\"y\":3.5}}\n",
            "SELECT o['x'], o['y'] FROM t",
            Rows(&["1|NULL", "s|2.0", "NULL|3.5"]),
        ),
        (
            wrong_late.as_bytes(),
            "SELECT sum(a) FROM t",
            Error(&["t.json line 2002", "'a'", "'1.5' is not of type BIGINT", "declare"]),
        ),
        (new_field.as_bytes(), "SELECT count(*) FROM t", Rows(&["2002"])),
        (b"{\"a\":1,\"a\":2}\n", "SELECT a FROM t", Error(&["t.json line 1", "'a' comes twice", "character 8"])),
        (b"{\"a\":1,\"A\":2}\n", "SELECT a, \"A\" FROM t", Rows(&["1|2"])),
        (b"{\"s\":\"\\ud83d\\ude00 \\u00e9 \\n\\t\\\"\",\"k\\\"q\":1}\n", "SELECT s FROM t", Rows(&["😀 é \n\t\""])),
        (b"{\"s\":\"\\ud83d\"}\n", "SELECT s FROM t", Error(&["t.json line 1", "character 7", "surrogate"])),
        (deep.as_bytes(), "SELECT count(*) FROM t", Error(&["t.json line 1", "more than 128 deep"])),
        (b"[{\"a\":1},\n{\"a\":2}]\n", "SELECT a FROM t", Error(&["t.json line 1", "one object on each line"])),
        (b"{\n  \"a\": 1\n}\n", "SELECT a FROM t", Error(&["t.json line 1", "one object on each line"])),
        (b"{\"a\":1} {\"a\":2}\n", "SELECT a FROM t", Error(&["t.json line 1", "one object on each line"])),
        (b"", "SELECT * FROM t", Error(&["no rows in", "t.json", "declare"])),
        (b"\n\n  \n", "SELECT * FROM t", Error(&["no rows in", "t.json", "declare"])),
        (b"{\"a\":1}\r\n{\"a\":2}\r\n", "SELECT sum(a) FROM t", Rows(&["3"])),
        (b"\xef\xbb\xbf{\"a\":1}\n{\"a\":2}\n", "SELECT sum(a) FROM t", Rows(&["3"])),
        (b"{\"s\":\"caf\xe9\"}\n", "SELECT s FROM t", Error(&["t.json line 1", "byte 10 is 0xE9", "Latin-1"])),
        (b"\xff\xfe{\0\"\0a\0", "SELECT * FROM t", Error(&["t.json", "UTF-16"])),
        (b"{\"s\":\"a\\u0000b\"}\n", "SELECT length(s) FROM t", Rows(&["3"])),
        (b"{\"d\":\"2024-01-31\"}\n{\"d\":\"n/a\"}\n", "SELECT d FROM t", Rows(&["2024-01-31", "n/a"])),
        (b"{\"a\":1}\n{}\n{\"a\":null}\n", "SELECT count(*), count(a) FROM t", Rows(&["3|1"])),
        (b"{\"n\":18446744073709551615}\n{\"n\":1}\n", "SELECT n FROM t", Rows(&["18446744073709551615", "1"])),
        (
            b"{\"n\":1}\n{\"n\":123456789012345678901234567890}\n",
            "SELECT n FROM t",
            Rows(&["1", "123456789012345678901234567890"]),
        ),
        (
            b"{\"n\":9007199254740993}\n{\"n\":9007199254740992.5}\n",
            "SELECT n FROM t",
            Rows(&["9007199254740993.0", "9007199254740992.5"]),
        ),
        (b"{\"n\":1e400}\n{\"n\":1}\n", "SELECT n FROM t", Rows(&["1e400", "1"])),
        (b"{\"n\":007}\n", "SELECT n FROM t", Error(&["t.json line 1", "begins with a zero", "character 6"])),
        (b"{\"n\":NaN}\n", "SELECT n FROM t", Error(&["t.json line 1", "character 6"])),
        (b"{\"n\":1.5}\n{\"n\":\"NaN\"}\n", "SELECT n FROM t", Rows(&["1.5", "NaN"])),
    ];
    for (content, query, gives) in cases {
        check("t.json", content, "", ", infer-rows = 1000", query, &gives);
    }
}

#[test]
fn json_declared() {
    let cases: Vec<(&[u8], &str, &str, Gives)> = vec![
        (
            b"{\"n\":123456789012345678901234567890}\n",
            "(n DECIMAL(38, 0))",
            "",
            Rows(&["123456789012345678901234567890"]),
        ),
        (
            b"{\"n\":0.1}\n{\"n\":12345678901234567.89}\n{\"n\":\"3.30\"}\n",
            "(n DECIMAL(20, 2))",
            "",
            Rows(&["0.10", "12345678901234567.89", "3.30"]),
        ),
        (
            b"{\"n\":1}\n{\"n\":0.125}\n",
            "(n DECIMAL(20, 2))",
            "",
            Error(&["line 2", "'n'", "0.125", "more than 2 digits"]),
        ),
        (b"{\"n\":1.0}\n{\"n\":1e3}\n", "(n BIGINT)", "", Rows(&["1", "1000"])),
        (b"{\"n\":1.0}\n{\"n\":2.7}\n", "(n BIGINT)", "", Error(&["line 2", "'n'", "'2.7' is not of type BIGINT"])),
        (b"{\"n\":9007199254740993.0}\n", "(n BIGINT)", "", Rows(&["9007199254740993"])),
        (b"{\"n\":300}\n", "(n TINYINT)", "", Error(&["line 1", "'n'", "'300' is not of type TINYINT"])),
        (b"{\"n\":1e400}\n", "(n DOUBLE)", "", Error(&["line 1", "'n'", "1e400"])),
        (b"{\"n\":\"12\"}\n{\"n\":\" 13 \"}\n{\"n\":\"x\"}\n", "(n BIGINT)", "", Error(&["line 3", "'x'"])),
        (b"{\"userId\":1,\"o\":{\"Key\":2}}\n", "(userid INT, o STRUCT<key INT>)", "", Rows(&["1|{key: 2}"])),
        (b"{\"userId\":1,\"userID\":2}\n", "(userid INT)", "", Error(&["line 1", "userID", "upper and lower case"])),
        (
            b"{\"o\":{\"l\":[1,2]}}\n{\"o\":{\"l\":[1,\"x\"]}}\n",
            "(o STRUCT<l ARRAY<INT>>)",
            "",
            Error(&["line 2", "column 'o.l[2]'", "'x' is not of type INT"]),
        ),
        (b"{\"l\":{\"a\":1}}\n", "(l ARRAY<INT>)", "", Error(&["line 1", "'l'", "{\"a\":1}"])),
        (
            b"{\"ts\":\"2024-03-01T12:00:01Z\"}\n{\"ts\":1709294403}\n",
            "(ts TIMESTAMP)",
            "",
            Error(&["line 2", "'ts'", "1709294403", "timestamp-format = 'epoch-seconds'"]),
        ),
        (b"{\"ts\":1}\n{\"ts\":1709294404123}\n", "(ts TIMESTAMP)", "", Error(&["line 1", "'ts'"])),
        (
            b"{\"ts\":\"2024-03-01T12:00:01Z\"}\n{\"ts\":1709294403}\n{\"ts\":1709294403.5}\n",
            "(ts TIMESTAMP)",
            ", 'timestamp-format' = 'epoch-seconds'",
            Rows(&["2024-03-01T12:00:01", "2024-03-01T12:00:03", "2024-03-01T12:00:03.500"]),
        ),
        (
            b"{\"ts\":1709294404123}\n",
            "(ts TIMESTAMP)",
            ", 'json.timestamp-format' = 'epoch-millis'",
            Rows(&["2024-03-01T12:00:04.123"]),
        ),
        (
            b"{\"ts\":1}\n",
            "(ts TIMESTAMP)",
            ", timestamp-format = 'unix'",
            Error(&["timestamp-format", "epoch-seconds", "unix"]),
        ),
        (b"{\"d\":20240131}\n{\"d\":\"2024-01-31\"}\n", "(d DATE)", "", Rows(&["2024-01-31", "2024-01-31"])),
        (b"{\"d\":19753}\n", "(d DATE)", "", Error(&["line 1", "'d'", "'19753' is not of type DATE"])),
        (b"{\"n\":1}\n{\"n\":2.7}\n{\"n\":3}\n", "(n BIGINT)", ", on_error = 'skip'", Rows(&["1", "3"])),
    ];
    for (content, declared, options, gives) in cases {
        check("t.json", content, declared, options, "SELECT * FROM t", &gives);
    }
}

#[test]
fn csv_inferred() {
    let utf16: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&[u8], &str, Gives)> = vec![
        (b"zip,phone,n\n01067,+49351,1\n80331,+4989,2\n", "", Rows(&["01067|+49351|1", "80331|+4989|2"])),
        (b"n,m\n1_000,0x10\n2_000,0x20\n", "", Rows(&["1_000|0x10", "2_000|0x20"])),
        (b"n,m\n 12 ,1e5\n13,-0\n", "", Rows(&["12|100000.0", "13|-0.0"])),
        (b"n,m\nNaN,inf\n1.5,2\n", "", Rows(&["NaN|inf", "1.5|2.0"])),
        (b"d,e\n2024-13-45,2024-02-30\n", "", Rows(&["2024-13-45|2024-02-30"])),
        (b"n,m\n1,x\nNULL,null\n\\N,\n,y\n", "", Rows(&["1|x", "NULL|null", "\\N|NULL", "NULL|y"])),
        (b"n,m\n1,x\nNA,\"NA\"\n", ", null-literal = 'NA'", Rows(&["1|x", "NULL|NA"])),
        (b"b,c,d\nyes,t,1\nno,f,0\n", "", Rows(&["yes|t|1", "no|f|0"])),
        (b"b,n\ntrue,1\nFALSE,2\n", "", Rows(&["true|1", "false|2"])),
        (
            b"t,n\n2024-03-01T12:00:00,1\n2024-03-01T12:00:00+02:00,2\n",
            "",
            Rows(&["2024-03-01T12:00:00|1", "2024-03-01T10:00:00|2"]),
        ),
        (b"n,m\n18446744073709551615,1\n2,2\n", "", Rows(&["18446744073709551615|1", "2|2"])),
        (b"n,m\n12345678901234567.89,1\n0.1,2\n", "", Rows(&["12345678901234567.89|1", "0.10|2"])),
        (b"n,m\n0.30000000000000004,1\n", "", Rows(&["0.30000000000000004|1"])),
        (
            b"n,m\n1234567890123456789012345678901234567890,1\n",
            "",
            Rows(&["1234567890123456789012345678901234567890|1"]),
        ),
        (b"a,,c\n1,2,3\n", "", Rows(&["1|2|3"])),
        (b"a,A\n1,2\n", "", Rows(&["1|2"])),
        (b"a,a\n1,2\n", "", Error(&["t.csv", "'a' twice"])),
        (b"\"a\nb\",\"c\"\"d\"\n1,2\n", "", Rows(&["1|2"])),
        (b"a,b\n1,2\n3\n", "", Error(&["t.csv line 3", "1 field, not 2"])),
        (b"a,b\n1,2\n3,4,5\n", "", Error(&["t.csv line 3", "3 fields, not 2"])),
        (b"a,b\n1,\"x\ny\"\n2,\"z\n", "", Error(&["t.csv line 4", "never closed"])),
        (b"a,b\r\n1,\"x\r\ny\"\r\n", "", Rows(&["1|x\r\ny"])),
        (b"a,b\r1,2\r3,4\r", "", Error(&["t.csv", "CR alone"])),
        (b"1,2\r3,4\r", ", header = 'false'", Error(&["t.csv", "CR alone"])),
        (b"a,b\n1,x\0y\n", "", Rows(&["1|x\0y"])),
        (&utf16, "", Error(&["t.csv", "UTF-16"])),
        (b"\xff\xfea\0", "", Error(&["t.csv", "UTF-16"])),
        (b"a,b\n1,caf\xe9\n", "", Error(&["t.csv line 2", "'b'", "byte 6 is 0xE9", "Latin-1"])),
        (b"a,caf\xe9\n1,2\n", "", Error(&["t.csv line 1", "header", "byte 6 is 0xE9"])),
        (b"1,2\n3,4\n", "", Error(&["t.csv", "'1'", "header = 'false'", "header = 'true'"])),
        (b"1,2\n3,4\n", ", header = 'false'", Rows(&["1|2", "3|4"])),
        (b"1,2\n3,4\n", ", header = 'true'", Rows(&["3|4"])),
        (b"2024-01-01,2\n3,4\n", "", Error(&["t.csv", "2024-01-01", "header = 'false'"])),
        (b"region,2020,2021\neu,3,4\n", "", Rows(&["eu|3|4"])),
        // Of one column, a blank line is NULL: there is no other way to write it.
        (b"a\n1\n\n2\n", "", Rows(&["1", "NULL", "2"])),
        (b"a,b\n1,2\n\n3,4\n", "", Rows(&["1|2", "3|4"])),
        (b"", "", Error(&["t.csv"])),
        (b"a,b\n", "", Rows(&[])),
    ];
    for (content, options, gives) in cases {
        check("t.csv", content, "", options, "SELECT * FROM t", &gives);
    }
}

#[test]
fn csv_declared() {
    let cases: Vec<(&[u8], &str, &str, Gives)> = vec![
        (b"n\n0.125\n", "(n DECIMAL(10, 2))", "", Error(&["t.csv line 2", "'n'", "more than 2 digits"])),
        (b"n\n1.0\n1e3\n", "(n BIGINT)", "", Rows(&["1", "1000"])),
        (b"n\n1.0\n2.7\n", "(n BIGINT)", "", Error(&["t.csv line 3", "'2.7' is not of type BIGINT"])),
        (b"n\n1e400\n", "(n DOUBLE)", "", Error(&["t.csv line 2", "1e400"])),
        (b"d\n2024-02-30\n", "(d DATE)", "", Error(&["t.csv line 2", "2024-02-30"])),
        (b"d\n2024-02-28T10:00:00\n", "(d DATE)", "", Error(&["t.csv line 2", "2024-02-28T10:00:00"])),
        (b"t\n1709294403\n", "(t TIMESTAMP)", "", Error(&["t.csv line 2", "epoch-seconds"])),
        (
            b"t\n1709294404123\n",
            "(t TIMESTAMP)",
            ", 'csv.timestamp-format' = 'epoch-millis'",
            Rows(&["2024-03-01T12:00:04.123"]),
        ),
        (b"a,A\n1,2\n", "(a INT)", "", Rows(&["1"])),
        (b"Id,b\n1,2\n", "(id INT)", "", Rows(&["1"])),
        (b"Id,ID\n1,2\n", "(id INT)", "", Error(&["t.csv", "'id'"])),
        (b"1,2\n", "(a INT, b INT)", "", Error(&["t.csv", "'a'", "header = 'false'"])),
    ];
    for (content, declared, options, gives) in cases {
        check("t.csv", content, declared, options, "SELECT * FROM t", &gives);
    }
}

/// What a sink has written is what its query gave, with the columns declared or not.
#[test]
fn written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let query = "SELECT * FROM (VALUES
        (9223372036854775807, CAST(0.1 AS DOUBLE) + 0.2, CAST(12345678901234567.89 AS DECIMAL(20, 2)),
            TIMESTAMP '2024-03-01 12:00:04.123456', '007'),
        (NULL, CAST('NaN' AS DOUBLE), NULL, NULL, ' a,\"b\" '),
        (-1, CAST('-inf' AS DOUBLE), CAST(0.10 AS DECIMAL(20, 2)), TIMESTAMP '1969-12-31 23:59:59', ''))
        AS v(i, d, m, ts, s)";
    let session = Session::new().unwrap();
    let rows = |table: &str| -> Vec<Vec<String>> {
        let mut rows = texts(&session.sql(table).unwrap().collect().unwrap(), None);
        rows.sort();
        rows
    };
    let expected = rows(query);
    assert_eq!(expected.len(), 3);
    for format in ["csv", "json", "parquet"] {
        let path = folder.path().join(format).display().to_string();
        let sink = format!(
            "CREATE SINK s_{format} WITH (connector = 'filesystem', path = '{path}', format = '{format}') AS {query}"
        );
        session.execute(&sink).unwrap();
        crate::bad_input::wait(|| {
            std::fs::read_dir(&path)
                .ok()?
                .flatten()
                .find(|file| file.file_name().to_string_lossy().starts_with("part-"))
        });
        for (kind, columns) in
            [("declared", "(i BIGINT, d DOUBLE, m DECIMAL(20, 2), ts TIMESTAMP, s VARCHAR)"), ("inferred", "")]
        {
            let table = format!("{format}_{kind}");
            session
                .execute(&format!("CREATE TABLE {table} {columns} WITH (connector = 'filesystem', path = '{path}')"))
                .unwrap();
            assert_eq!(rows(&format!("SELECT * FROM {table}")), expected, "{table}");
        }
    }
}

/// A table that is declared anew has the columns that its file has by then.
#[test]
fn declared_anew_with_other_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.csv");
    let session = Session::new().unwrap();
    for (content, rows) in [("a,b\n1,2\n", [["1", "2"].as_slice()]), ("a,b,c\n7,8,x\n", [&["7", "8", "x"]])] {
        std::fs::write(&path, content).unwrap();
        let path = path.display();
        session
            .execute(&format!("CREATE OR REPLACE TABLE s WITH (connector = 'filesystem', path = '{path}')"))
            .unwrap();
        assert_eq!(texts(&session.sql("SELECT * FROM s").unwrap().collect().unwrap(), None), rows);
    }
}
