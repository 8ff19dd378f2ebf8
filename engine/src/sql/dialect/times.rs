//! Times are microseconds: where DataFusion would count nanoseconds, which end in 2262, the unit is said before.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::functions::datetime;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast, lit};

use super::together::{is_date, is_text};

/// A timestamp without a zone.
const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A call of a function of times that takes and gives microseconds.
pub(super) fn called(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let of = |expr: &Expr| expr.get_type(schema).ok();
    let name = call.func.name();
    let at = match name {
        "to_timestamp" | "to_timestamp_seconds" | "to_timestamp_millis" | "to_timestamp_micros" | "to_unixtime" => 0,
        "date_trunc" | "date_bin" => 1,
        _ => return Transformed::no(Expr::ScalarFunction(call)),
    };
    let Some(argument) = call.args.get(at) else { return Transformed::no(Expr::ScalarFunction(call)) };
    let alone = call.args.len() == 1;
    match of(argument) {
        Some(of) if is_text(&of) && (at == 1 || alone) || is_date(&of) => {
            let argument = cast(argument.clone(), MICROS);
            if name == "to_timestamp" {
                return Transformed::yes(argument);
            }
            call.args[at] = argument;
            Transformed::yes(Expr::ScalarFunction(call))
        }
        // With formats by which the text is read.
        Some(_) if name == "to_timestamp" && !alone => {
            call.func = datetime::to_timestamp_micros(&ConfigOptions::default());
            Transformed::yes(Expr::ScalarFunction(call))
        }
        Some(DataType::Timestamp(_, zone)) if name == "to_timestamp" => {
            Transformed::yes(cast(argument.clone(), DataType::Timestamp(TimeUnit::Microsecond, zone)))
        }
        Some(of) if name == "to_timestamp" && of.is_numeric() => {
            let seconds = argument.clone();
            let micros = match of.is_integer() {
                true => cast(seconds, DataType::Int64) * lit(1_000_000i64),
                false => {
                    let micros = seconds * lit(1_000_000i64);
                    cast(round(micros), DataType::Int64)
                }
            };
            let args = vec![micros];
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
                datetime::to_timestamp_micros(&ConfigOptions::default()),
                args,
            )))
        }
        _ => Transformed::no(Expr::ScalarFunction(call)),
    }
}

fn round(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(datafusion::functions::math::round(), vec![expr]))
}

/// `AT TIME ZONE` in the unit of its time, as far as that is coarser than the nanoseconds that DataFusion casts to.
pub(super) fn in_zone(cast: Cast, schema: &DFSchema) -> Transformed<Expr> {
    let zone = match cast.field.data_type() {
        // What is cast to `TIMESTAMP(9) WITH TIME ZONE` is to be that.
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if zone.as_ref() != "+00:00" => zone.clone(),
        _ => return Transformed::no(Expr::Cast(cast)),
    };
    match cast.expr.get_type(schema) {
        Ok(DataType::Timestamp(TimeUnit::Nanosecond, _)) | Err(_) => Transformed::no(Expr::Cast(cast)),
        Ok(_) => {
            let to = DataType::Timestamp(TimeUnit::Microsecond, Some(zone));
            Transformed::yes(Expr::Cast(Cast::new(cast.expr, to)))
        }
    }
}
