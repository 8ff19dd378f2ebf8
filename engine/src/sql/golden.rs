//! Golden plans: `golden/*.txt` hold queries and the plans that they must give. `HEADWATER_COMPLETE=1` writes what the
//! queries give now, to be read before it is committed.
//!
//! A case is a query, `----`, what `EXPLAIN` shows or the error, and a line `====`. A first line `-- append` (update,
//! complete, changelog, answer, logical) says what the plan is for; `-- canonical` asks for its text that lasts.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::{ExplainKind, Planner, output_mode};
use crate::plan::catalog::{EventTime, TableMeta};
use crate::plan::{OnError, Purpose, explain};

fn table(name: &str, columns: &[(&str, DataType)]) -> TableMeta {
    let fields: Vec<_> = columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    TableMeta {
        id: 0,
        name: name.into(),
        schema: Arc::new(Schema::new(fields)),
        event_time: None,
        bounded: false,
        reading_order: None,
        is_static: false,
        append_only: true,
        taken_back: false,
    }
}

/// A planner that knows a few tables of every kind.
pub(crate) fn planner() -> Planner {
    use DataType::*;
    let time = || Timestamp(TimeUnit::Microsecond, None);
    let second = 1_000_000;
    let watermark = |column, delay_us| Some(EventTime { column, delay_us, resolution_us: second });
    let mut planner = Planner::new();
    planner.register_table(TableMeta {
        event_time: watermark(0, 10 * second),
        ..table("events", &[("ts", time()), ("user_id", Int64), ("region", Utf8), ("amount", Float64)])
    });
    planner.register_table(TableMeta {
        event_time: watermark(0, 5 * second),
        ..table(
            "clicks",
            &[
                ("ts", time()),
                ("user_id", Int64),
                ("page", Utf8),
                ("tags", List(Arc::new(Field::new("item", Utf8, true)))),
            ],
        )
    });
    planner.register_table(TableMeta {
        append_only: false,
        ..table("users", &[("id", Int64), ("name", Utf8), ("region", Utf8), ("age", Int32)])
    });
    planner.register_table(TableMeta {
        is_static: true,
        bounded: true,
        ..table("airlines", &[("carrier", Utf8), ("name", Utf8)])
    });
    planner.register_table(table("log", &[("a", Int64), ("b", Int64), ("s", Utf8)]));
    planner.register_table(TableMeta { bounded: true, ..table("past", &[("a", Int64), ("b", Int64), ("s", Utf8)]) });
    planner
}

fn outcome(planner: &Planner, text: &str) -> String {
    let (header, query) = match text.strip_prefix("-- ") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("view", text),
    };
    let plan = match planner.logical_from_sql(query) {
        Ok(plan) => plan,
        Err(error) => return format!("error: {error}"),
    };
    let (header, on_error) = match header.parse() {
        Ok(on_error) => ("view", on_error),
        Err(_) => (header, OnError::Fail),
    };
    let purpose = match header {
        "view" => Purpose::View,
        "answer" => Purpose::Answer,
        "canonical" => {
            return planner
                .physical(&plan, Purpose::View, on_error)
                .map_or_else(|error| format!("error: {error}"), |plan| plan.canonical().trim_end().to_string());
        }
        "logical" => {
            return planner
                .explain(&plan, ExplainKind::Logical, on_error)
                .unwrap_or_else(|error| format!("error: {error}"));
        }
        mode => Purpose::Output(output_mode(mode).unwrap()),
    };
    match planner.physical(&plan, purpose, on_error) {
        Ok(plan) => {
            check(&plan);
            explain::explain(&plan, &|_| None).trim_end().to_string()
        }
        Err(error) => format!("error: {error}"),
    }
}

/// What rendering relies on.
fn check(plan: &crate::plan::Plan) {
    use crate::plan::{Op, exprs};
    for (id, node) in plan.nodes.iter().enumerate() {
        let width = |input: usize| plan.nodes[input].schema.fields().len();
        let of = |input: usize, column: usize| plan.nodes[input].schema.field(column).data_type().clone();
        assert!(node.op.inputs().iter().all(|input| *input < id));
        match &node.op {
            Op::Mfp { input, predicates, exprs } => {
                assert_eq!(exprs.len(), node.schema.fields().len());
                for expr in predicates.iter().chain(exprs) {
                    exprs::each_column(expr, |column| assert!(column < width(*input)));
                }
                for predicate in predicates {
                    assert_eq!(predicate.data_type(&plan.nodes[*input].schema).unwrap(), DataType::Boolean);
                }
            }
            Op::Join { left, right, left_keys, right_keys } | Op::Semi { left, right, left_keys, right_keys, .. } => {
                assert_eq!(left_keys.len(), right_keys.len());
                for (l, r) in left_keys.iter().zip(right_keys) {
                    assert_eq!(of(*left, *l), of(*right, *r), "key types of node {id}");
                }
            }
            Op::Reduce { input, keys, aggregates, .. } => {
                assert_eq!(node.schema.fields().len(), keys.len() + aggregates.len());
                for aggregate in aggregates {
                    assert!(aggregate.argument.is_none_or(|column| column < width(*input)));
                    assert!(aggregate.filter.is_none_or(|column| of(*input, column) == DataType::Boolean));
                }
            }
            _ => {}
        }
    }
    let root = &plan.nodes[plan.root];
    for (own, named) in root.schema.fields().iter().zip(plan.schema.fields()) {
        assert_eq!(own.data_type(), named.data_type(), "column {}", named.name());
    }
}

#[test]
fn plans_are_as_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sql/golden");
    let complete = std::env::var_os("HEADWATER_COMPLETE").is_some();
    let planner = planner();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut completed = String::new();
        for case in text.split("\n====\n").map(str::trim).filter(|case| !case.is_empty()) {
            let (query, expected) = case.split_once("\n----").unwrap_or((case, ""));
            let (query, expected) = (query.trim(), expected.trim());
            let found = outcome(&planner, query);
            completed.push_str(&format!("{query}\n----\n{found}\n====\n\n"));
            if found != expected {
                wrong.push(format!("{}\n{query}\n---- expected\n{expected}\n---- found\n{found}\n", file.display()));
            }
        }
        if complete {
            std::fs::write(&file, completed.trim_end().to_string() + "\n").unwrap();
        }
    }
    assert!(complete || wrong.is_empty(), "{} plans differ:\n{}", wrong.len(), wrong.join("\n"));
}
