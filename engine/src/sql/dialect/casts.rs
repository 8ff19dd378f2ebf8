//! Casts between numbers and times: engines count different units, so the unit is to be said.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, TryCast};

/// Refuses an expression that is such a cast.
pub(super) fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let (Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field })) = expr else {
        return Ok(());
    };
    let (Ok(from), to) = (inner.get_type(schema), field.data_type()) else { return Ok(()) };
    let write = match (&from, to) {
        (DataType::Timestamp(..), to) if to.is_numeric() => {
            "extract(epoch FROM t) for seconds, or arrow_cast(t, 'Int64') for the microseconds"
        }
        (DataType::Date32 | DataType::Date64, to) if to.is_numeric() => {
            "d - DATE '1970-01-01' for days, or extract(epoch FROM d) for seconds"
        }
        (DataType::Time32(_) | DataType::Time64(_), to) if to.is_numeric() => "extract(epoch FROM t) for seconds",
        (from, DataType::Timestamp(..)) if from.is_numeric() => {
            "to_timestamp_seconds(n), to_timestamp_millis(n) or to_timestamp_micros(n)"
        }
        (from, DataType::Date32 | DataType::Date64) if from.is_numeric() => {
            "DATE '1970-01-01' + n for days, or CAST(to_timestamp_seconds(n) AS DATE) for seconds"
        }
        (from, DataType::Time32(_) | DataType::Time64(_)) if from.is_numeric() => {
            "CAST(to_timestamp_seconds(n) AS TIME)"
        }
        _ => return Ok(()),
    };
    Err(DataFusionError::Plan(format!(
        "{} is {}, which is no {}: engines take different units for it; write {write}",
        inner.human_display(),
        if from.is_numeric() { "a number" } else { "a time" },
        if to.is_numeric() { "number" } else { "time" },
    )))
}
