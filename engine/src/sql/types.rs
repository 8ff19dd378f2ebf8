//! Column types as SQL writes them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;

/// SQL's types that DataFusion maps otherwise or not at all. Times are microseconds everywhere, as event time is.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let data_type = match sql_type {
            ast::DataType::Timestamp(precision, zone) => {
                let utc = matches!(zone, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz);
                Some(timestamp(*precision, utc)?)
            }
            ast::DataType::Datetime(precision) => Some(timestamp(*precision, false)?),
            ast::DataType::Bytes(_) | ast::DataType::Bytea => Some(DataType::Binary),
            ast::DataType::Custom(name, arguments) => match name.to_string().to_uppercase().as_str() {
                "TIMESTAMP_LTZ" => Some(timestamp(arguments.first().and_then(|a| a.parse().ok()), true)?),
                _ => None,
            },
            _ => None,
        };
        Ok(data_type.map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}

fn timestamp(precision: Option<u64>, utc: bool) -> Result<DataType> {
    let unit = match precision {
        None | Some(0..=6) => TimeUnit::Microsecond,
        Some(9) => TimeUnit::Nanosecond,
        Some(other) => {
            return Err(DataFusionError::Plan(format!(
                "a timestamp has 0 to 6 digits (microseconds) or 9, not {other}"
            )));
        }
    };
    Ok(DataType::Timestamp(unit, utc.then(|| "+00:00".into())))
}
