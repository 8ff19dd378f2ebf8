//! Statements, names, types, changes to tables and windows.

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use headwater_connectors::OutputMode;
use std::sync::Arc;
use std::time::Duration;

use super::golden::planner;
use super::*;
use crate::plan::{OnError, Op, Purpose};

fn one(text: &str) -> Statement {
    let mut parsed = parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(parsed.len(), 1, "{text}");
    parsed.remove(0).statement
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(parsed) => panic!("{text} is {parsed:?}"),
        Err(error) => error.to_string(),
    }
}

fn place(text: &str) -> (usize, usize) {
    let error = parse(text).unwrap_err();
    let position = error.position().unwrap_or_else(|| panic!("no place in {error}"));
    (position.line, position.column)
}

#[test]
fn a_file_is_split_into_statements() {
    let text = "\u{feff}-- first; not a statement\nSELECT 'a;b' AS x; /* ; */\n\n  SHOW TABLES;;\nSELECT $$;$$ -- end";
    let parsed = parse(text).unwrap();
    let places: Vec<_> = parsed.iter().map(|p| (p.text.as_str(), p.line, p.column)).collect();
    assert_eq!(places, [("SELECT 'a;b' AS x", 2, 1), ("SHOW TABLES", 4, 3), ("SELECT $$;$$", 5, 1)]);
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ;\n -- nothing\n").unwrap().is_empty());
}

#[test]
fn tables_are_declared_as_in_flink() {
    let Statement::CreateTable(table) = one(
        "CREATE TABLE IF NOT EXISTS Flights (\n  carrier STRING NOT NULL,\n  \"Tail\" VARCHAR(10), n BIGINT, d DOUBLE, \
         p DECIMAL(10, 2), ts TIMESTAMP(3), day DATE, ok BOOLEAN, b BYTES, tags ARRAY<STRING>, i INT, \
         z TIMESTAMP WITH TIME ZONE,\n  WATERMARK FOR ts AS ts - INTERVAL '10' SECOND,\n  \
         PRIMARY KEY (carrier, n) NOT ENFORCED\n) \
         WITH ('connector' = 'filesystem', path = '/x', csv.delimiter = ';', rows-per-second = 10, header = true)",
    ) else {
        panic!("no table")
    };
    assert_eq!(table.name, "flights");
    assert!(table.if_not_exists && !table.or_replace);
    let schema = table.schema.unwrap();
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let item = |name: &str| schema.field_with_name(name).unwrap().clone();
    assert!(!item("carrier").is_nullable() && item("n").is_nullable());
    for (name, expected) in [
        ("carrier", DataType::Utf8),
        ("Tail", DataType::Utf8),
        ("n", DataType::Int64),
        ("d", DataType::Float64),
        ("p", DataType::Decimal128(10, 2)),
        ("ts", micros(None)),
        ("day", DataType::Date32),
        ("ok", DataType::Boolean),
        ("b", DataType::Binary),
        ("i", DataType::Int32),
        ("z", micros(Some("+00:00"))),
    ] {
        assert_eq!(*item(name).data_type(), expected, "{name}");
    }
    assert!(matches!(item("tags").data_type(), DataType::List(f) if *f.data_type() == DataType::Utf8));
    assert_eq!(table.watermark, Some(WatermarkClause { column: "ts".into(), delay_us: 10_000_000 }));
    assert_eq!(table.primary_key, ["carrier", "n"]);
    assert_eq!(table.connector.as_deref(), Some("filesystem"));
    let options: Vec<_> = table.options.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(options, [("csv.delimiter", ";"), ("header", "true"), ("path", "/x"), ("rows-per-second", "10")]);
}

#[test]
fn columns_may_be_left_out() {
    let Statement::CreateTable(table) =
        one("CREATE OR REPLACE TABLE t (WATERMARK FOR ts AS ts) WITH (connector = 'x')")
    else {
        panic!("no table")
    };
    assert!(table.or_replace && table.schema.is_none());
    assert_eq!(table.watermark, Some(WatermarkClause { column: "ts".into(), delay_us: 0 }));
    let Statement::CreateTable(table) = one("CREATE TABLE t WITH ('connector' = 'x')") else { panic!("no table") };
    assert!(table.schema.is_none() && table.watermark.is_none());
    let Statement::CreateTable(table) = one("CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED)") else {
        panic!("no table")
    };
    assert_eq!((table.connector, table.primary_key), (None, vec!["a".to_string()]));
}

#[test]
fn views_and_sinks() {
    let Statement::CreateView(view) = one("CREATE MATERIALIZED VIEW v (x, \"Y\") AS SELECT a, b FROM log") else {
        panic!("no view")
    };
    assert!(view.materialized);
    let plan = planner().logical(&view.query).unwrap();
    assert_eq!(plan.schema().field_names(), ["v.x", "v.Y"]);

    let Statement::CreateSink(sink) =
        one("CREATE SINK s FROM v WITH (connector = 'print', mode = 'update', trigger = '100 ms')")
    else {
        panic!("no sink")
    };
    assert_eq!((sink.from.as_deref(), sink.mode), (Some("v"), OutputMode::Update));
    assert_eq!(sink.trigger, Trigger::Within(Duration::from_millis(100)));
    assert_eq!(sink.query.ast.to_string(), "SELECT * FROM \"v\"");
    assert!(sink.options.0.is_empty());

    for text in [
        "CREATE SINK s AS SELECT a FROM log WITH (connector = 'print')",
        "CREATE SINK s FROM (SELECT a FROM log) WITH (connector = 'print')",
        "CREATE SINK s AS WITH w AS (SELECT a FROM log) SELECT a FROM w WITH (connector = 'print')",
    ] {
        let Statement::CreateSink(sink) = one(text) else { panic!("no sink") };
        assert_eq!((sink.from, sink.mode, sink.trigger), (None, OutputMode::Append, Trigger::Continuous));
        assert_eq!(sink.connector.as_deref(), Some("print"), "{text}");
        planner().logical(&sink.query).unwrap();
    }
}

#[test]
fn triggers_by_name() {
    for (text, expected) in [
        ("continuous", Trigger::Continuous),
        ("100 ms", Trigger::Within(Duration::from_millis(100))),
        ("continuous 1 s", Trigger::Within(Duration::from_secs(1))),
        ("interval 1 s", Trigger::Every(Duration::from_secs(1))),
        ("Available-Now", Trigger::AvailableNow),
        ("available_now", Trigger::AvailableNow),
    ] {
        assert_eq!(trigger(text).unwrap(), expected, "{text}");
    }
    for text in ["", "sometimes", "0 s", "interval"] {
        assert!(trigger(text).is_err(), "{text}");
    }
}

#[test]
fn other_statements() {
    assert!(matches!(one("SHOW TABLES"), Statement::Show(Show::Tables)));
    assert!(matches!(one("show create table \"T\""), Statement::Show(Show::Create(name)) if name == "T"));
    assert!(matches!(one("SHOW COLUMNS FROM t"), Statement::Show(Show::Columns(name)) if name == "t"));
    assert!(matches!(one("SHOW ALL"), Statement::Show(Show::All)));
    assert!(matches!(one("SHOW workers"), Statement::Show(Show::Setting(key)) if key == "workers"));
    assert!(matches!(one("DESCRIBE T"), Statement::Describe(name) if name == "t"));
    let drop = Drop { kind: DropKind::View, name: "v".into(), if_exists: true, cascade: false };
    assert!(matches!(one("DROP MATERIALIZED VIEW IF EXISTS v"), Statement::Drop(d) if d == drop));
    for text in ["SET execution.runtime-mode = batch", "SET 'execution.runtime-mode' = 'batch'"] {
        let Statement::Set { key, value } = one(text) else { panic!("no SET") };
        assert_eq!((key.as_str(), value.as_str()), ("execution.runtime-mode", "batch"));
    }
    assert!(matches!(one("SET trigger = available-now"), Statement::Set { value, .. } if value == "available-now"));
    assert!(matches!(one("(SELECT 1)"), Statement::Query(_)));
    assert!(matches!(one("VALUES (1)"), Statement::Query(_)));
    assert!(matches!(one("EXPLAIN PHYSICAL SELECT 1"), Statement::Explain(e) if e.kind == ExplainKind::Physical));
    assert!(matches!(one("EXPLAIN v"), Statement::Explain(e) if e.view.as_deref() == Some("v")));
    let Statement::Update(update) = one("UPDATE t SET a = a + 1, b = 'x' WHERE a > 2") else { panic!("no update") };
    assert_eq!(update.assignments.iter().map(|(column, _)| column.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let Statement::Insert(insert) = one("INSERT INTO t (b, a) VALUES (1, 2), (3, 4)") else { panic!("no insert") };
    assert_eq!(insert.columns, ["b", "a"]);
    let Statement::Insert(insert) = one("INSERT INTO t (SELECT 1)") else { panic!("no insert") };
    assert!(insert.columns.is_empty());
}

#[test]
fn errors_point_at_their_place() {
    assert_eq!(place("SELECT 1;\nSELCT 2"), (2, 1));
    assert_eq!(place("SELECT a FROM\n  t WHERE = 1"), (2, 11));
    assert_eq!(place("SELECT (1"), (1, 10));
    assert_eq!(place("CREATE TABLE t (a INT,\n  b NOTYPE)"), (2, 5));
    assert_eq!(place("CREATE TABLE t (a INT, WATERMARK FOR x AS x)"), (1, 24));
    assert_eq!(place("CREATE TABLE t (a INT, a INT)"), (1, 26));
    assert_eq!(place("CREATE SINK s FROM v\nWITH (mode = 'sometimes')"), (2, 1));
    assert_eq!(place("CREATE TABLE t WITH (path 'x')"), (1, 27));
    assert_eq!(place("CREATE TABLE t WITH (path = 'x', path = 'y')"), (1, 34));
    assert_eq!(place("SELECT 'open"), (1, 8));
    assert_eq!(place("CREATE TABLE a.b WITH (x = 1)"), (1, 14));
    assert_eq!(place("SELECT a b c"), (1, 12));
    assert!(error("CREATE WHAT x").contains("TABLE, VIEW"), "{}", error("CREATE WHAT x"));
    assert!(error("CREATE STREAM x").contains("write CREATE TABLE"), "{}", error("CREATE STREAM x"));
    assert!(error("CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts + 1)").contains("INTERVAL '10' SECOND"));
    assert!(
        error("CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MONTH)").contains("no fixed length")
    );
    assert!(error("CREATE OR REPLACE TABLE IF NOT EXISTS t WITH (a = 1)").contains("exclude each other"));
}

#[test]
fn changes_to_a_table_have_its_columns() {
    let planner = planner();
    let names = |plan: &datafusion::logical_expr::LogicalPlan| -> Vec<(String, DataType)> {
        plan.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    };
    let users = names(&planner.table_scan("users").unwrap().build().unwrap());
    let Statement::Insert(insert) = one("INSERT INTO users (age, id) VALUES (30, 1), (40, 2)") else { panic!() };
    let changes = planner.insert(&insert).unwrap();
    assert!(changes.retract.is_none());
    assert_eq!(names(changes.insert.as_ref().unwrap()), users);
    let Statement::Update(update) = one("UPDATE users SET age = age + 1 WHERE name = 'x'") else { panic!() };
    let changes = planner.update(&update).unwrap();
    assert_eq!(names(changes.retract.as_ref().unwrap()), users);
    assert_eq!(names(changes.insert.as_ref().unwrap()), users);
    let Statement::Delete(delete) = one("DELETE FROM users WHERE users.age > 3") else { panic!() };
    assert_eq!(names(planner.delete(&delete).unwrap().retract.as_ref().unwrap()), users);
    for plan in [changes.retract.unwrap(), changes.insert.unwrap()] {
        planner.physical(&plan, Purpose::Answer, OnError::Fail).unwrap();
    }
    for text in [
        "INSERT INTO users VALUES (1)",
        "INSERT INTO users (id, nothing) VALUES (1, 2)",
        "INSERT INTO users (id, id) VALUES (1, 2)",
        "INSERT INTO missing VALUES (1)",
    ] {
        let Statement::Insert(insert) = one(text) else { panic!() };
        assert!(planner.insert(&insert).is_err(), "{text}");
    }
}

#[test]
fn expressions_and_scans_for_builders() {
    let planner = planner();
    let scan = planner.table_scan("events.late").unwrap().build().unwrap();
    let expr = planner.parse_expr("amount * 2 AS twice", scan.schema()).unwrap();
    assert_eq!(expr.schema_name().to_string(), "twice");
    let error = planner.parse_expr("amount +", scan.schema()).unwrap_err();
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((1, 9)));
    let error = planner.parse_expr("1 + nothing", scan.schema()).unwrap_err();
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((1, 5)), "{error}");
    let plan = planner.table_scan("events").unwrap();
    let window = window_expr(datafusion::prelude::col("ts"), "5 minutes", Some("1 minute"));
    let plan = plan
        .aggregate(vec![window], vec![datafusion::functions_aggregate::expr_fn::count(datafusion::prelude::lit(1))]);
    let physical =
        planner.physical(&plan.unwrap().build().unwrap(), Purpose::Output(OutputMode::Append), OnError::Fail).unwrap();
    assert!(physical.nodes.iter().any(|node| matches!(node.op, Op::Hop { .. })));
    assert!(physical.releases());
}

#[test]
fn columns_of_a_view_have_names_of_their_own() {
    let planner = planner();
    let plan = planner.logical_from_sql("SELECT l.a, p.a AS b FROM log l, past p").unwrap();
    let physical = planner.physical(&plan, Purpose::View, OnError::Fail).unwrap();
    assert_eq!(planner.view_schema(&plan, &physical).unwrap().fields().len(), 2);
    let plan = planner.logical_from_sql("SELECT l.a, p.a FROM log l, past p").unwrap();
    let physical = planner.physical(&plan, Purpose::View, OnError::Fail).unwrap();
    assert!(planner.view_schema(&plan, &physical).is_err());
}

#[test]
fn a_view_is_planned_over_its_inputs_or_its_output() {
    use crate::plan::catalog::ViewMeta;
    let mut planner = planner();
    let definition = planner.logical_from_sql("SELECT ts, user_id FROM events WHERE region = 'x'").unwrap();
    let plan = planner.physical(&definition, Purpose::View, OnError::Fail).unwrap();
    let mut view = ViewMeta {
        id: 0,
        name: "v".into(),
        schema: planner.view_schema(&definition, &plan).unwrap(),
        properties: plan.nodes[plan.root].properties.clone(),
        bounded: plan.bounded,
        errors: None,
        definition: Some(definition),
    };
    let query = "SELECT window(ts, '1 minute') AS w, count(*) FROM v GROUP BY 1";
    planner.register_view(view.clone());
    let expanded = planner.physical(&planner.logical_from_sql(query).unwrap(), Purpose::View, OnError::Fail).unwrap();
    assert!(expanded.releases());
    assert_eq!(expanded.relations(), [&crate::plan::Relation::Table { name: "events".into(), drop_late: true }]);
    // The view's own output has the late rows in it, so nothing over it can be released.
    view.definition = None;
    planner.register_view(view);
    let reading = planner.physical(&planner.logical_from_sql(query).unwrap(), Purpose::View, OnError::Fail).unwrap();
    assert!(!reading.releases());
    assert_eq!(reading.relations(), [&crate::plan::Relation::View { name: "v".into() }]);
    assert!(planner.drop("v") && planner.logical_from_sql(query).is_err());
}

#[test]
fn fingerprints_tell_collections_apart() {
    let planner = planner();
    let of = |query: &str| {
        let plan = planner.physical(&planner.logical_from_sql(query).unwrap(), Purpose::View, OnError::Fail).unwrap();
        plan.nodes[plan.root].fingerprint
    };
    assert_eq!(of("SELECT a + 1 AS x FROM log"), of("SELECT l.a + 1 AS y FROM log l"));
    let different = [
        "SELECT a FROM log",
        "SELECT b FROM log",
        "SELECT a FROM past",
        "SELECT a + 1 FROM log",
        "SELECT a + 2 FROM log",
        "SELECT a FROM log WHERE s = '1'",
        "SELECT a FROM log WHERE b = 1",
        "SELECT a, count(*) FROM log GROUP BY a",
        "SELECT a, count(b) FROM log GROUP BY a",
        "SELECT a FROM log ORDER BY a LIMIT 1",
        "SELECT a FROM log ORDER BY a DESC LIMIT 1",
    ];
    let mut prints: Vec<_> = different.iter().map(|query| of(query)).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), different.len());
}

#[test]
fn arithmetic_fails_on_overflow() {
    let planner = planner();
    let plan = planner.logical_from_sql("SELECT column1 + column2 FROM (VALUES (9223372036854775807, 1))").unwrap();
    let plan = planner.physical(&plan, Purpose::Answer, OnError::Fail).unwrap();
    let Op::Mfp { input, exprs, .. } = &plan.nodes[plan.root].op else { panic!("{plan:?}") };
    let Op::Constant { rows } = &plan.nodes[*input].op else { panic!("{plan:?}") };
    assert!(exprs[0].evaluate(rows).is_err());
}

/// The windows that hold a time, by looking at all that could.
fn windows(time: i64, size: i64, slide: i64, offset: i64) -> Vec<(i64, i64)> {
    let first = (time - size - offset) / slide - 2;
    let starts = (first..).map(|n| offset + n * slide).take_while(|start| *start <= time);
    starts.filter(|start| time < start + size).map(|start| (start, start + size)).collect()
}

#[test]
fn a_tumbling_window_is_a_function_of_the_time() {
    let udf = window_udf();
    let times: Vec<i64> = (-200..200).map(|i| i * 7_000_001).chain([i64::from(i32::MIN), 0, -1, 60_000_000]).collect();
    for (size, offset) in [(60_000_000, 0), (1, 0), (7, 3), (60_000_000, -5_000_000)] {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.clone()));
        let length = |us: i64| {
            let text = ScalarValue::Utf8(Some(format!("{us} us")));
            datafusion::logical_expr::ColumnarValue::Scalar(text)
        };
        let args =
            vec![datafusion::logical_expr::ColumnarValue::Array(array), length(size), length(size), length(offset)];
        let types: Vec<_> = args.iter().map(|a| a.data_type()).collect();
        let fields = types.iter().map(|t| Arc::new(arrow::datatypes::Field::new("", t.clone(), true))).collect();
        let return_type = udf.inner().return_type(&types).unwrap();
        let result = udf
            .invoke_with_args(datafusion::logical_expr::ScalarFunctionArgs {
                args,
                arg_fields: fields,
                number_rows: times.len(),
                return_field: Arc::new(arrow::datatypes::Field::new("", return_type, true)),
                config_options: Arc::default(),
            })
            .unwrap();
        let array = result.into_array(times.len()).unwrap();
        let found: &StructArray = array.as_struct();
        assert_eq!(found.null_count(), 0);
        for (i, time) in times.iter().enumerate() {
            let bound = |field: usize| found.column(field).as_primitive::<TimestampMicrosecondType>().value(i);
            assert_eq!(vec![(bound(0), bound(1))], windows(*time, size, size, offset), "{time}");
        }
    }
}
