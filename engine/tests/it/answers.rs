//! Answers that were once wrong, each for a kind.

use headwater::Session;

use crate::oracle;

/// Runs statements; the rows of the queries among them, a line a row, in order of the text.
fn answers(script: &str) -> Vec<Vec<String>> {
    let session = Session::builder().workers(2).build().unwrap();
    let mut all = Vec::new();
    for statement in script.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        if !statement.starts_with("SELECT") {
            session.execute(statement).unwrap_or_else(|e| panic!("{e}\n{statement}"));
            continue;
        }
        let rows =
            session.sql(statement).and_then(|query| query.collect()).unwrap_or_else(|e| panic!("{e}\n{statement}"));
        let mut rows: Vec<String> = oracle::texts(&rows, None).into_iter().map(|row| row.join(" ")).collect();
        rows.sort();
        all.push(rows);
    }
    all
}

#[test]
fn an_aggregate_without_groups_has_a_row_wherever_it_stands() {
    let script = "CREATE TABLE shops (id BIGINT);
        CREATE TABLE sales (shop BIGINT, euro BIGINT);
        CREATE VIEW totals AS SELECT 'sales' AS what, count(*) AS n, sum(euro) AS euro FROM sales
            UNION ALL SELECT 'shops', count(*), sum(id) FROM shops;
        CREATE MATERIALIZED VIEW one AS SELECT * FROM totals WHERE what = 'sales';
        CREATE MATERIALIZED VIEW long AS SELECT what FROM totals WHERE length(what) > 20;
        CREATE MATERIALIZED VIEW any_row AS SELECT id FROM shops WHERE EXISTS (SELECT count(*) FROM sales WHERE sales.shop = shops.id);
        CREATE MATERIALIZED VIEW none AS SELECT id FROM shops WHERE 0 IN (SELECT count(*) FROM sales WHERE sales.shop = shops.id);
        INSERT INTO shops VALUES (1), (2), (3), (NULL);
        INSERT INTO sales VALUES (2, 10), (2, 20), (3, 5);
        SELECT * FROM one; SELECT * FROM long; SELECT * FROM any_row; SELECT * FROM none;
        SELECT * FROM (SELECT max(euro) AS m, 1 AS k FROM sales) AS q WHERE k = 2;
        DELETE FROM sales;
        SELECT * FROM one; SELECT * FROM none;";
    let shops: &[&str] = &["1", "2", "3", "NULL"];
    let expected: [&[&str]; 7] = [&["sales 3 35"], &[], shops, &["1", "NULL"], &[], &["sales 0 NULL"], shops];
    assert_eq!(answers(script), expected);
}

#[test]
fn what_holds_without_rows_is_there_before_any_came() {
    for event_time in ["", ", ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"] {
        let script = format!(
            "CREATE TABLE t (a BIGINT{event_time});
            CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(a) AS s FROM t;
            CREATE MATERIALIZED VIEW m AS SELECT n + 1 AS m FROM n;
            CREATE MATERIALIZED VIEW u AS SELECT 1 AS one UNION ALL SELECT a FROM t;
            CREATE MATERIALIZED VIEW l AS SELECT x.b, t.a FROM (VALUES (1), (2)) AS x(b) LEFT JOIN t ON x.b = t.a;
            SELECT * FROM n; SELECT * FROM m; SELECT * FROM u; SELECT * FROM l; SELECT count(*) AS n, sum(a) AS s FROM t"
        );
        let empty: [&[&str]; 5] = [&["0 NULL"], &["1"], &["1"], &["1 NULL", "2 NULL"], &["0 NULL"]];
        assert_eq!(answers(&script), empty, "{script}");
    }
    let script = "CREATE TABLE t (a BIGINT);
        CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(a) AS s FROM t;
        CREATE MATERIALIZED VIEW l AS SELECT x.b, t.a FROM (VALUES (1), (2)) AS x(b) LEFT JOIN t ON x.b = t.a;
        SELECT * FROM n;
        INSERT INTO t VALUES (2);
        SELECT * FROM n; SELECT * FROM l;
        DELETE FROM t WHERE a = 2;
        SELECT * FROM n; SELECT * FROM l";
    let expected: [&[&str]; 5] = [&["0 NULL"], &["1 2"], &["1 NULL", "2 2"], &["0 NULL"], &["1 NULL", "2 NULL"]];
    assert_eq!(answers(script), expected);
}

#[test]
fn constants_are_counted_once() {
    let script = "CREATE TABLE t (g BIGINT, a BIGINT);
        CREATE MATERIALIZED VIEW v AS SELECT g, count(DISTINCT 'x') AS one, sum(a) AS s FROM t GROUP BY g;
        CREATE MATERIALIZED VIEW w AS SELECT count(DISTINCT 1) AS one, count(*) AS n FROM t;
        CREATE MATERIALIZED VIEW x AS SELECT count(DISTINCT 1) AS one FROM t;
        INSERT INTO t VALUES (1, 1), (1, 2), (2, NULL);
        SELECT * FROM v; SELECT * FROM w; SELECT * FROM x;
        DELETE FROM t WHERE g > 0;
        SELECT * FROM v; SELECT * FROM w; SELECT * FROM x;";
    let expected: [&[&str]; 6] = [&["1 1 3", "2 1 NULL"], &["1 3"], &["1"], &[], &["0 0"], &["0"]];
    assert_eq!(answers(script), expected);
}

#[test]
fn what_follows_is_distinct_from_is_not_part_of_it() {
    let script = "CREATE TABLE t (id BIGINT, p BOOLEAN, q BOOLEAN, r BOOLEAN);
        INSERT INTO t VALUES (1, true, true, false), (2, NULL, NULL, false), (3, false, true, false), (4, true, true, true);
        SELECT true IS DISTINCT FROM true AND false AS x, false IS NOT DISTINCT FROM true OR true AS y;
        SELECT id FROM t WHERE p IS NOT DISTINCT FROM q AND r;
        SELECT id FROM t WHERE p IS DISTINCT FROM q OR r;
        SELECT x.id FROM t AS x JOIN t AS y ON x.id IS NOT DISTINCT FROM y.id AND x.p IS NOT DISTINCT FROM y.p;";
    let expected: [&[&str]; 4] = [&["false true"], &["4"], &["3", "4"], &["1", "2", "3", "4"]];
    assert_eq!(answers(script), expected);
}

#[test]
fn a_view_has_the_types_of_its_rows() {
    let script = "CREATE TABLE a (x INT);
        CREATE TABLE b (x BIGINT);
        CREATE MATERIALIZED VIEW u AS SELECT x FROM a UNION ALL SELECT x FROM b;
        CREATE MATERIALIZED VIEW c AS SELECT CASE WHEN a.x > 1 THEN a.x ELSE b.x END AS x FROM a JOIN b ON a.x <> b.x;
        CREATE MATERIALIZED VIEW su AS SELECT sum(x) AS s FROM u;
        CREATE MATERIALIZED VIEW sc AS SELECT sum(x) AS s, max(x) AS m FROM c;
        CREATE MATERIALIZED VIEW e AS SELECT x FROM u WHERE EXISTS (SELECT 1 FROM a WHERE a.x <> u.x);
        INSERT INTO a VALUES (1), (2);
        INSERT INTO b VALUES (5000000000), (7);
        SELECT * FROM u; SELECT * FROM su; SELECT * FROM sc; SELECT * FROM e;";
    let all: &[&str] = &["1", "2", "5000000000", "7"];
    let expected: [&[&str]; 4] = [all, &["5000000010"], &["5000000011 5000000000"], all];
    assert_eq!(answers(script), expected);
}

#[test]
fn so_has_a_frame() {
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE a (x INT); CREATE TABLE b (x BIGINT); INSERT INTO b VALUES (5000000000)").unwrap();
    let both = session.table("a").unwrap().union_all(&session.table("b").unwrap()).unwrap();
    assert_eq!(*both.schema().field(0).data_type(), headwater::arrow::datatypes::DataType::Int64);
    both.create_view("u").unwrap();
    session.execute("INSERT INTO a VALUES (1)").unwrap();
    let sum = session.sql("SELECT sum(x) AS s FROM u").unwrap().collect().unwrap();
    assert_eq!(oracle::texts(&sum, None), [["5000000001"]]);
}

#[test]
fn any_and_all_over_the_same_table() {
    let script = "CREATE TABLE t (id INT, v INT);
        INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, NULL);
        SELECT id FROM t WHERE v >= ALL (SELECT v FROM t WHERE v IS NOT NULL);
        SELECT id FROM t WHERE v > ANY (SELECT v FROM t);
        SELECT id FROM t WHERE v < ALL (SELECT v FROM t WHERE id = 3);
        SELECT id FROM t WHERE v <> ALL (SELECT v FROM t AS o WHERE o.id <> t.id AND o.v IS NOT NULL)";
    let expected: [&[&str]; 4] = [&["3"], &["2", "3"], &["1", "2"], &["1", "2", "3"]];
    assert_eq!(answers(script), expected);
}

#[test]
fn using_and_natural_share_a_column() {
    let script = "CREATE TABLE l (k INT, a VARCHAR);
        CREATE TABLE r (k BIGINT, b VARCHAR);
        CREATE TABLE o (k INT);
        INSERT INTO l VALUES (1, 'l1'), (2, 'l2');
        INSERT INTO r VALUES (2, 'r2'), (3, 'r3');
        INSERT INTO o VALUES (2), (9);
        SELECT k, a, b FROM l FULL JOIN r USING (k);
        SELECT k, a, b FROM l RIGHT JOIN r USING (k);
        SELECT * FROM l NATURAL FULL JOIN r;
        SELECT k, count(*) AS n FROM l FULL JOIN r USING (k) GROUP BY k;
        SELECT k FROM l JOIN r USING (k) WHERE k IN (1, 2);
        SELECT k FROM l LEFT JOIN r USING (k) WHERE r.k IS NULL;
        SELECT l.k AS lk, r.k AS rk FROM l FULL JOIN r USING (k) WHERE k > 1;
        SELECT * FROM l JOIN r USING (k) JOIN o USING (k);
        SELECT k, b FROM l JOIN o USING (k) RIGHT JOIN r USING (k);
        SELECT k FROM o WHERE EXISTS (SELECT 1 FROM l JOIN r USING (k) WHERE k = 2)";
    let full: &[&str] = &["1 l1 NULL", "2 l2 r2", "3 NULL r3"];
    let expected: [&[&str]; 10] = [
        full,
        &["2 l2 r2", "3 NULL r3"],
        full,
        &["1 1", "2 1", "3 1"],
        &["2"],
        &["1"],
        &["2 2", "NULL 3"],
        &["2 l2 r2"],
        &["2 r2", "3 r3"],
        &["2", "9"],
    ];
    assert_eq!(answers(script), expected);
    let session = Session::new().unwrap();
    session.execute("CREATE TABLE l (k INT); CREATE TABLE r (k INT)").unwrap();
    let error = session.sql("SELECT *, r.k FROM l LEFT JOIN r USING (k)").err().unwrap().to_string();
    assert!(error.contains("r.k beside *"), "{error}");
}

#[test]
fn exists_in_the_condition_of_an_outer_join() {
    let script = "CREATE TABLE o (id INT, g INT);
        CREATE TABLE p (id INT, g INT);
        CREATE TABLE q (g INT);
        INSERT INTO o VALUES (1, 1), (2, 2), (3, NULL);
        INSERT INTO p VALUES (10, 1), (20, 2), (30, 3);
        INSERT INTO q VALUES (1);
        SELECT o.id, p.id AS pid FROM o LEFT JOIN p ON o.g = p.g AND EXISTS (SELECT 1 FROM q WHERE q.g = o.g);
        SELECT o.id, p.id AS pid FROM o LEFT JOIN p ON o.g = p.g AND EXISTS (SELECT 1 FROM q WHERE q.g = p.g);";
    let rows: &[&str] = &["1 10", "2 NULL", "3 NULL"];
    assert_eq!(answers(script), [rows, rows]);
}

#[test]
fn null_meets_null_only_where_it_is_asked_to() {
    let script = "CREATE TABLE b (k INT, y INT);
        CREATE TABLE c (k INT, e INT);
        INSERT INTO b VALUES (1, 1), (NULL, NULL);
        INSERT INTO c VALUES (1, 7), (NULL, 8);
        SELECT c.e FROM b JOIN c ON b.y IS NOT DISTINCT FROM c.k;
        SELECT c.e FROM b JOIN c ON b.y IS NOT DISTINCT FROM c.k WHERE b.k = c.k;
        SELECT c.e, (SELECT count(*) FROM b) AS n FROM b JOIN c ON b.y IS NOT DISTINCT FROM c.k;
        SELECT c.e FROM b AS a CROSS JOIN b JOIN c ON b.y IS NOT DISTINCT FROM c.k WHERE a.k = b.k;
        SELECT b.k, c.e FROM b FULL JOIN c ON b.y IS NOT DISTINCT FROM c.k AND b.k = c.k";
    let full: &[&str] = &["1 7", "NULL 8", "NULL NULL"];
    let expected: [&[&str]; 5] = [&["7", "8"], &["7"], &["7 2", "8 2"], &["7"], full];
    assert_eq!(answers(script), expected);
}

#[test]
fn floats_beside_decimals_keep_their_digits() {
    let script = "CREATE TABLE t (x INT, c DECIMAL(10, 2));
        CREATE MATERIALIZED VIEW v AS SELECT avg(x) AS a FROM t UNION ALL SELECT c FROM t WHERE x = 1;
        INSERT INTO t VALUES (1, 0.25), (0, 1), (0, 1);
        SELECT CAST(a AS VARCHAR) AS a FROM v;
        SELECT CAST(coalesce(avg(x), sum(c)) AS VARCHAR) AS a FROM t;
        SELECT CAST(CASE WHEN count(*) > 1 THEN avg(x) ELSE sum(c) END AS VARCHAR) AS a FROM t GROUP BY x > 5;";
    let third: &[&str] = &["0.3333333333333333"];
    let expected: [&[&str]; 3] = [&["0.25", "0.3333333333333333"], third, third];
    assert_eq!(answers(script), expected);
}

#[test]
fn there_is_one_zero() {
    let script = "CREATE TABLE t (id INT, d DOUBLE);
        INSERT INTO t VALUES (1, 0.0), (2, '-0'), (3, 1.5);
        SELECT id FROM t WHERE d = 0;
        SELECT id FROM t WHERE d < 0;
        SELECT id FROM t WHERE d IN (0.0, 7.5);
        SELECT id, nullif(d, 0) AS n FROM t;
        SELECT id FROM t WHERE (d * -1) >= 0;
        SELECT id, CASE d WHEN 0 THEN 'none' ELSE 'some' END AS s FROM t;";
    let zeros: &[&str] = &["1", "2"];
    let expected: [&[&str]; 6] =
        [zeros, &[], zeros, &["1 NULL", "2 NULL", "3 1.5"], zeros, &["1 none", "2 none", "3 some"]];
    assert_eq!(answers(script), expected);
}

#[test]
fn tests_over_lists_are_null_where_the_value_is() {
    let script = "CREATE TABLE t (k BIGINT);
        INSERT INTO t VALUES (1), (9), (NULL);
        SELECT k FROM t WHERE k NOT IN (1, 2, 3, 4) OR k NOT IN (5, 6, 7, 8);
        SELECT k FROM t WHERE NOT (k IN (1, 2, 3, 4) AND k IN (5, 6, 7, 8));
        SELECT k, k IN (1, 2, 3, 4) AND k IN (5, 6, 7, 8) AS x, k NOT IN (1) OR k NOT IN (9) AS y FROM t;
        SELECT k, p AND q AS x FROM (SELECT k, k IN (1, 2, 3, 4) AS p, k IN (5, 6, 7, 8) AS q FROM t) AS s;
        SELECT k FROM t WHERE k IN (1, 2, 3, 4) AND k IN (1, 9, 7, 8);
        SELECT k FROM t WHERE NOT (k IN (1, NULL, 3, 4) AND k NOT IN (1, 5, 6, 7))";
    let mixed: &[&str] = &["1 false true", "9 false true", "NULL NULL NULL"];
    let expected: [&[&str]; 6] =
        [&["1", "9"], &["1", "9"], mixed, &["1 false", "9 false", "NULL NULL"], &["1"], &["1"]];
    assert_eq!(answers(script), expected);
}
