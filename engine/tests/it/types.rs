//! What types mean: numbers, times and lengths of time, in expressions and under aggregates.

use headwater::{Outcome, Session};

use crate::oracle;

/// The rows of a query, values joined by a blank.
fn rows(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    let rows = session.sql(sql).and_then(|query| query.collect()).map_err(|error| error.to_string())?;
    let mut rows: Vec<String> = oracle::texts(&rows, None).into_iter().map(|row| row.join(" ")).collect();
    rows.sort();
    Ok(rows)
}

/// The one row of `SELECT <exprs>`, or what is wrong.
fn value(exprs: &str) -> Result<String, String> {
    let session = Session::builder().workers(1).build().unwrap();
    rows(&session, &format!("SELECT {exprs}")).map(|mut rows| rows.remove(0))
}

fn are(cases: &[(&str, &str)]) {
    for (exprs, expected) in cases {
        assert_eq!(value(exprs).as_deref(), Ok(*expected), "{exprs}");
    }
}

fn are_refused(cases: &[(&str, &str)]) {
    for (exprs, says) in cases {
        let error = value(exprs).unwrap_err();
        assert!(error.contains(says), "{exprs}: {error}");
    }
}

#[test]
fn numbers_with_a_point_are_decimals() {
    are(&[
        ("0.1 + 0.2, 0.1 * 0.2, 10.0 % 3", "0.3 0.02 1.0"),
        ("123456789012345678.91", "123456789012345678.91"),
        ("CAST(1.55 AS DECIMAL(10, 1)), CAST(1.5 AS INT)", "1.6 1"),
        ("1.5 = 1.50, 2 BETWEEN 1.5 AND 2.5, 1.5 IN (1.5, 2)", "true true true"),
        // As Spark: at least six digits, rounded.
        ("1.0 / 3.0, 2.0 / 3, 1 / 1.5, -2.0 / 3", "0.333333 0.666667 0.666667 -0.666667"),
        // With an exponent, or beside a float, they are floats.
        ("1e3, 1e0 / 4, 0.5 + 1e0", "1000.0 0.25 1.5"),
        ("coalesce(NULL, 1.5, 1e0)", "1.5"),
    ]);
    are_refused(&[
        ("1e400", "larger than any DOUBLE"),
        ("12345678901234567890123456789012345678.9", "has 39 digits, and a DECIMAL has 38 at most"),
        ("1.0 / 0", "ivi"),
    ]);
    let session = Session::builder().workers(2).build().unwrap();
    session
        .execute(
            "CREATE TABLE d (id BIGINT, a DECIMAL(20, 2));
             INSERT INTO d VALUES (1, 123456789012345678.90), (2, 123456789012345678.91), (3, 0.10);
             CREATE TABLE f (x DOUBLE);
             INSERT INTO f VALUES (0.1), (1e300), (-2.5)",
        )
        .unwrap();
    assert_eq!(
        rows(&session, "SELECT a FROM d WHERE id < 3").unwrap(),
        ["123456789012345678.90", "123456789012345678.91"]
    );
    assert_eq!(rows(&session, "SELECT id FROM d WHERE a = 123456789012345678.91").unwrap(), ["2"]);
    assert_eq!(rows(&session, "SELECT a + 0.01 FROM d WHERE id = 2").unwrap(), ["123456789012345678.92"]);
    session.execute("UPDATE d SET a = a + 0.01 WHERE id = 1").unwrap();
    assert_eq!(rows(&session, "SELECT a FROM d WHERE id = 1").unwrap(), ["123456789012345678.91"]);
    assert_eq!(
        rows(&session, "SELECT sum(a), avg(a) FROM d WHERE id > 1").unwrap(),
        ["123456789012345679.01 61728394506172839.505000"]
    );
    assert_eq!(rows(&session, "SELECT x FROM f").unwrap(), ["-2.5", "0.1", "1e300"]);
}

#[test]
fn zero_divides_nothing() {
    let session = Session::builder().workers(1).build().unwrap();
    session
        .execute(
            "CREATE TABLE t (id INT, i INT, f DOUBLE, d DECIMAL(10, 2));
             INSERT INTO t VALUES (1, 0, 0, 0), (2, 4, 4, 4), (3, NULL, NULL, NULL)",
        )
        .unwrap();
    for column in ["i", "f", "d"] {
        for op in ["/", "%"] {
            let error = rows(&session, &format!("SELECT 1 {op} {column} FROM t")).unwrap_err();
            assert!(error.to_lowercase().contains("divide by zero"), "{op} {column}: {error}");
            let guarded =
                rows(&session, &format!("SELECT id FROM t WHERE {column} <> 0 AND 8 {op} {column} >= 0")).unwrap();
            assert_eq!(guarded, ["2"], "{op} {column}");
            session
                .execute(&format!(
                    "CREATE OR REPLACE MATERIALIZED VIEW v WITH (on_error = 'null') AS SELECT id, 8 {op} {column} AS x FROM t"
                ))
                .unwrap();
            let nulls = rows(&session, "SELECT id FROM v WHERE x IS NULL").unwrap();
            assert_eq!(nulls, ["1", "3"], "{op} {column}");
        }
    }
    are_refused(&[("1 / 0", "ivi"), ("1e0 / 0", "ivision by zero"), ("1e0 % 0", "ivision by zero")]);
}

#[test]
fn what_engines_disagree_on_is_refused() {
    are_refused(&[
        ("2 ^ 3", "write power(2, 3), or 2 XOR 3"),
        ("CAST(1 AS TIMESTAMP)", "write to_timestamp_seconds(n), to_timestamp_millis(n)"),
        ("CAST(1.5 AS DATE)", "DATE '1970-01-01' + n"),
        ("TRY_CAST(1 AS TIME)", "CAST(to_timestamp_seconds(n) AS TIME)"),
        ("CAST(TIMESTAMP '2024-01-01 00:00:00' AS BIGINT)", "extract(epoch FROM t) for seconds"),
        ("CAST(DATE '2024-01-01' AS INT)", "d - DATE '1970-01-01'"),
        ("date_format(DATE '2024-01-02', 'YYYY-MM')", "'YYYY' in the pattern 'YYYY-MM' of date_format"),
        ("to_char(DATE '2024-01-02', 'Month')", "is not known here"),
        ("'a' SIMILAR TO 'a('", "a ( without its )"),
    ]);
    are(&[
        ("power(2, 3), 2 XOR 3, DATE '1970-01-01' + 1", "8.0 1 1970-01-02"),
        (
            "date_format(TIMESTAMP '2024-01-02 03:04:05', 'yyyy-MM'), to_char(DATE '2024-01-02', 'YYYY/MM')",
            "2024-01 2024/01",
        ),
        ("to_char(DATE '2024-01-02', '%d.%m.')", "02.01."),
        (
            "'abc' SIMILAR TO 'abc', 'xabcx' SIMILAR TO 'abc', 'abcb' SIMILAR TO 'a(b|c)*', 'ab' NOT SIMILAR TO 'a_'",
            "true false true false",
        ),
    ]);
}

/// A day is 24 hours, a month 30 days.
#[test]
fn intervals_go_by_length() {
    are(&[
        ("INTERVAL '1 day' = INTERVAL '24 hours', INTERVAL '30 days' = INTERVAL '1 month'", "true true"),
        ("INTERVAL '1 day' < INTERVAL '25 hours', INTERVAL '1 month' > INTERVAL '29 days'", "true true"),
        ("INTERVAL '24 hours' IN (INTERVAL '1 hour', INTERVAL '1 day')", "true"),
        ("INTERVAL '1 day' BETWEEN INTERVAL '23 hours' AND INTERVAL '25 hours'", "true"),
        ("2 * INTERVAL '1 day' = INTERVAL '48 hours', DATE '2024-01-31' + INTERVAL '1 day' * 2", "true 2024-02-02"),
    ]);
    let session = Session::builder().workers(2).build().unwrap();
    session
        .execute(
            "CREATE TABLE d (id INT, i INTERVAL);
             CREATE MATERIALIZED VIEW totals AS SELECT sum(i) AS s, min(i) AS least, max(i) AS most, count(DISTINCT i) AS n FROM d;
             CREATE MATERIALIZED VIEW keys AS SELECT i, count(*) AS n FROM d GROUP BY i;
             CREATE MATERIALIZED VIEW first AS SELECT id FROM d ORDER BY i, id LIMIT 1;
             CREATE MATERIALIZED VIEW pairs AS SELECT a.id AS a, b.id AS b FROM d AS a JOIN d AS b ON a.i = b.i AND a.id < b.id;
             INSERT INTO d VALUES (1, INTERVAL '90 minutes'), (2, INTERVAL '1 day'), (3, INTERVAL '23 hours'), (4, INTERVAL '24 hours')",
        )
        .unwrap();
    assert_eq!(rows(&session, "SELECT id FROM d WHERE i < INTERVAL '24 hours'").unwrap(), ["1", "3"]);
    assert_eq!(rows(&session, "SELECT * FROM totals").unwrap(), ["1 days 48 hours 30 mins 1 hours 30 mins 1 days 3"]);
    assert_eq!(rows(&session, "SELECT n FROM keys").unwrap(), ["1", "1", "2"]);
    assert_eq!(rows(&session, "SELECT * FROM first").unwrap(), ["1"]);
    assert_eq!(rows(&session, "SELECT * FROM pairs").unwrap(), ["2 4"]);
    assert_eq!(rows(&session, "SELECT DISTINCT i FROM d WHERE id IN (2, 4)").unwrap(), ["1 days"]);
    assert_eq!(
        rows(&session, "SELECT i FROM d WHERE id = 2 INTERSECT SELECT i FROM d WHERE id = 4").unwrap(),
        ["1 days"]
    );
    session.execute("DELETE FROM d WHERE id <> 1").unwrap();
    assert_eq!(rows(&session, "SELECT * FROM totals").unwrap(), ["1 hours 30 mins 1 hours 30 mins 1 hours 30 mins 1"]);
    session.execute("DELETE FROM d").unwrap();
    assert_eq!(rows(&session, "SELECT * FROM totals").unwrap(), ["NULL NULL NULL 0"]);
    assert!(rows(&session, "SELECT avg(i) FROM d").unwrap_err().contains("avg"));
    assert!(
        rows(&session, "SELECT sum(DISTINCT i) FROM d")
            .unwrap_err()
            .contains("of intervals; there are count, min, max")
    );
}

#[test]
fn functions_of_times_take_the_years_1_to_9999() {
    let session = Session::builder().workers(1).build().unwrap();
    session.execute("CREATE TABLE t (ts TIMESTAMP, d DATE, s VARCHAR)").unwrap();
    let cases = [
        ("date_trunc('month', ts)", "{y}-08-01T00:00:00"),
        ("date_trunc('day', d)", "{y}-08-19T00:00:00"),
        ("date_trunc('quarter', ts), date_trunc('year', ts)", "{y}-07-01T00:00:00 {y}-01-01T00:00:00"),
        ("date_bin(INTERVAL '1 hour', ts)", "{y}-08-19T13:00:00"),
        ("date_bin(INTERVAL '3 months', ts)", "{y}-07-01T00:00:00"),
        ("to_timestamp(s), to_timestamp_micros(s)", "{y}-08-19T13:14:15 {y}-08-19T13:14:15"),
        ("to_timestamp(d), CAST(d AS TIMESTAMP), CAST(ts AS DATE)", "{y}-08-19T00:00:00 {y}-08-19T00:00:00 {y}-08-19"),
        ("to_timestamp(to_unixtime(ts)), from_unixtime(to_unixtime(s))", "{y}-08-19T13:14:15 {y}-08-19T13:14:15"),
        ("extract(year FROM ts), extract(month FROM d), extract(day FROM ts)", "{n} 8 19"),
        ("extract(hour FROM ts), extract(minute FROM ts), extract(second FROM ts)", "13 14 15"),
        ("make_date(CAST({n} AS INT), 8, 19), to_date('{y}-08-19')", "{y}-08-19 {y}-08-19"),
        ("to_char(ts, 'YYYY-MM-DD HH24:MI'), date_format(d, 'dd.MM.yyyy')", "{y}-08-19 13:14 19.08.{y}"),
        ("d < ts, ts = s, d = CAST(s AS DATE), ts BETWEEN d AND d + INTERVAL '1 day'", "true true true true"),
        ("ts IN ('{y}-08-19 13:14:15'), d IN (TIMESTAMP '{y}-08-19 00:00:00')", "true true"),
        ("coalesce(NULL, d, ts), CASE WHEN true THEN d ELSE ts END", "{y}-08-19T00:00:00 {y}-08-19T00:00:00"),
        ("ts + INTERVAL '1 month' - INTERVAL '1 day', d - DATE '{y}-08-01'", "{y}-09-18T13:14:15 18"),
        ("(ts - TIMESTAMP '{y}-08-19 13:00:00') = INTERVAL '14 minutes 15 seconds'", "true"),
        ("window(ts, '1 hour')['start']", "{y}-08-19T13:00:00"),
        ("(ts AT TIME ZONE 'UTC') = CAST('{y}-08-19T13:14:15Z' AS TIMESTAMP WITH TIME ZONE)", "true"),
    ];
    for year in [1, 1582, 1677, 1969, 2024, 2262, 2263, 9999] {
        let y = format!("{year:04}");
        let text = format!("{y}-08-19 13:14:15");
        session.execute(&format!("DELETE FROM t; INSERT INTO t VALUES ('{text}', '{y}-08-19', '{text}')")).unwrap();
        for (exprs, expected) in &cases {
            let filled = |text: &str| text.replace("{y}", &y).replace("{n}", &year.to_string());
            let exprs = filled(exprs);
            let got = rows(&session, &format!("SELECT {exprs} FROM t"));
            assert_eq!(got, Ok(vec![filled(expected)]), "year {year}: {exprs}");
        }
    }
}

#[test]
fn times_that_a_zone_does_not_have_are_errors_of_the_row() {
    let session = Session::builder().workers(1).build().unwrap();
    session
        .execute(
            "CREATE TABLE l (id INT, ts TIMESTAMP);
             INSERT INTO l VALUES (1, '2024-03-31 02:30:00'), (3, '2024-06-01 12:00:00');
             CREATE TABLE g (id INT); INSERT INTO g VALUES (2), (3);
             CREATE MATERIALIZED VIEW n WITH (on_error = 'null') AS SELECT id, ts AT TIME ZONE 'Europe/Berlin' AS z FROM l;
             CREATE MATERIALIZED VIEW s WITH (on_error = 'dead_letter') AS SELECT id, ts AT TIME ZONE 'Europe/Berlin' AS z FROM l;
             CREATE MATERIALIZED VIEW v AS SELECT id, ts AT TIME ZONE 'Europe/Berlin' AS z FROM l",
        )
        .unwrap();
    assert!(rows(&session, "SELECT * FROM v").is_err());
    assert_eq!(rows(&session, "SELECT id, z IS NULL FROM n").unwrap(), ["1 true", "3 false"]);
    assert_eq!(rows(&session, "SELECT id FROM s").unwrap(), ["3"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM s.errors").unwrap(), ["1"]);
    let guarded = "SELECT id FROM l WHERE id > 1 AND ts AT TIME ZONE 'Europe/Berlin' > '2024-01-01T00:00:00Z'";
    assert_eq!(rows(&session, guarded).unwrap(), ["3"]);
    let joined = "SELECT l.id FROM l JOIN g ON l.id = g.id WHERE l.ts AT TIME ZONE 'Europe/Berlin' IS NOT NULL";
    assert_eq!(rows(&session, joined).unwrap(), ["3"]);
    session.execute("DELETE FROM l WHERE id = 1").unwrap();
    assert_eq!(rows(&session, "SELECT id FROM v").unwrap(), ["3"]);
}

/// Every aggregate of every type, over rows that come and go, is what it is over the rows themselves, or it is refused when
/// it is asked for.
#[test]
fn aggregates_take_every_type_or_refuse_it() {
    let columns = [
        ("b", "BOOLEAN", "true", "false"),
        ("i1", "TINYINT", "-128", "127"),
        ("i4", "INT", "-2147483648", "2147483647"),
        ("i8", "BIGINT", "-9223372036854775808", "9223372036854775807"),
        ("u8", "BIGINT UNSIGNED", "0", "18446744073709551615"),
        ("f4", "REAL", "1.5", "-2.5"),
        ("f8", "DOUBLE", "1e300", "-1e-300"),
        ("d", "DECIMAL(38, 10)", "1234567890123456789012345678.1", "-0.0000000001"),
        ("s", "VARCHAR", "'x'", "''"),
        ("y", "BYTEA", "X'00FF'", "X''"),
        ("da", "DATE", "DATE '0001-01-01'", "DATE '9999-12-31'"),
        ("ti", "TIME", "TIME '00:00:00'", "TIME '23:59:59.999999'"),
        ("ts", "TIMESTAMP", "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59'"),
        ("tz", "TIMESTAMP WITH TIME ZONE", "'0001-01-01T00:00:00Z'", "'9999-12-31T23:59:59Z'"),
        ("iv", "INTERVAL", "INTERVAL '1 month'", "INTERVAL '30 days'"),
        ("li", "INT[]", "[1, NULL]", "[]"),
    ];
    let aggregates = ["count", "sum", "avg", "min", "max", "var", "stddev_pop", "bool_and", "bool_or"];
    let session = Session::builder().workers(2).build().unwrap();
    let fields: Vec<String> = columns.iter().map(|(name, of, ..)| format!("{name} {of}")).collect();
    session.execute(&format!("CREATE TABLE t (id INT, g INT, {})", fields.join(", "))).unwrap();
    let mut views = Vec::new();
    for (column, of, ..) in &columns {
        for aggregate in aggregates {
            for distinct in ["", "DISTINCT "] {
                let query = format!("SELECT g, {aggregate}({distinct}{column}) AS a FROM t GROUP BY g");
                let name = format!("v{}", views.len());
                match session.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")) {
                    Ok(_) => views.push((name, query)),
                    Err(error) => assert!(!error.to_string().contains("internal"), "{query} ({of}): {error}"),
                }
            }
        }
    }
    assert!(views.len() > 100, "{}", views.len());
    let row = |id: usize, value: &dyn Fn(&(&str, &str, &str, &str)) -> String| {
        let values: Vec<String> = columns.iter().map(value).collect();
        format!("INSERT INTO t VALUES ({id}, {}, {})", id % 2, values.join(", "))
    };
    let agree = |when: &str| {
        for (name, query) in &views {
            let maintained = rows(&session, &format!("SELECT * FROM {name}"));
            let anew = rows(&session, query);
            match (&maintained, &anew) {
                (Err(_), Err(_)) => {}
                _ => assert_eq!(maintained, anew, "{when}: {query}"),
            }
        }
    };
    for id in 0..6 {
        session.execute(&row(id, &|column| [column.2, column.3, "NULL"][id % 3].to_owned())).unwrap();
    }
    agree("inserted");
    session.execute("DELETE FROM t WHERE id IN (1, 2)").unwrap();
    agree("deleted");
    session.execute("UPDATE t SET g = 1 - g").unwrap();
    agree("moved");
    session.execute("DELETE FROM t").unwrap();
    agree("emptied");
}

/// Columns of any two types that can stand together, in views over views: each has the type of its rows.
#[test]
fn mixed_types_have_one_type_in_views_over_views() {
    let columns = [
        ("i1", "TINYINT", "7"),
        ("i4", "INT", "-70000"),
        ("i8", "BIGINT", "9007199254740993"),
        ("u4", "INT UNSIGNED", "4000000000"),
        ("f4", "REAL", "1.5"),
        ("f8", "DOUBLE", "0.1"),
        ("d2", "DECIMAL(10, 2)", "12.34"),
        ("d9", "DECIMAL(38, 9)", "0.000000001"),
        ("s", "VARCHAR", "'12'"),
        ("b", "BOOLEAN", "true"),
        ("da", "DATE", "'2024-02-29'"),
        ("ts", "TIMESTAMP", "'1500-02-28 01:02:03'"),
        ("tz", "TIMESTAMP WITH TIME ZONE", "'2024-02-29T01:02:03Z'"),
        ("iv", "INTERVAL", "INTERVAL '90 minutes'"),
    ];
    let session = Session::builder().workers(1).build().unwrap();
    let fields: Vec<String> = columns.iter().map(|(name, of, _)| format!("{name} {of}")).collect();
    let values: Vec<&str> = columns.iter().map(|column| column.2).collect();
    let nulls = vec!["NULL"; columns.len()].join(", ");
    session
        .execute(&format!(
            "CREATE TABLE t (id INT, {}); INSERT INTO t VALUES (1, {}), (2, {nulls})",
            fields.join(", "),
            values.join(", ")
        ))
        .unwrap();
    let mut made = 0;
    for (one, ..) in &columns {
        for (two, ..) in &columns {
            for query in [
                format!("SELECT {one} AS x FROM t UNION ALL SELECT {two} FROM t"),
                format!("SELECT {one} AS x FROM t INTERSECT SELECT {two} FROM t"),
                format!("SELECT CASE WHEN id = 1 THEN {one} ELSE {two} END AS x FROM t"),
                format!("SELECT coalesce({one}, {two}) AS x FROM t"),
                format!("SELECT a.id AS x FROM t AS a LEFT JOIN t AS b ON a.{one} = b.{two}"),
                format!("SELECT id AS x FROM t WHERE {one} IN (SELECT {two} FROM t)"),
            ] {
                let made_it = session.execute(&format!(
                    "CREATE VIEW v AS {query}; CREATE MATERIALIZED VIEW w AS SELECT x, count(*) AS n FROM v GROUP BY x"
                ));
                let fine = |error: &str| !["internal", "panick", "failed:"].iter().any(|word| error.contains(word));
                match made_it {
                    Err(error) => assert!(fine(&error.to_string()), "{query}: {error}"),
                    Ok(_) => {
                        made += 1;
                        let declared = session.execute("DESCRIBE w").unwrap();
                        assert!(matches!(declared[..], [Outcome::Rows(_)]));
                        match rows(&session, "SELECT * FROM w") {
                            Ok(maintained) => {
                                let anew = rows(&session, "SELECT x, count(*) AS n FROM v GROUP BY x");
                                assert_eq!(Ok(maintained), anew, "{query}");
                            }
                            Err(error) => assert!(fine(&error), "{query}: {error}"),
                        }
                    }
                }
                let _ = session.execute("DROP VIEW w");
                let _ = session.execute("DROP VIEW v");
            }
        }
    }
    assert!(made > 400, "{made}");
}
