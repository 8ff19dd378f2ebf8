//! Lengths of time as SQL writes them.

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::logical::parse_duration;

/// Microseconds of `INTERVAL '10' SECOND`, `INTERVAL '10 seconds'` or `'10 seconds'`.
pub(super) fn interval_micros(expr: &ast::Expr) -> Result<i64> {
    let wrong = || Error::user(format!("'{expr}' is not a length of time; write INTERVAL '10' SECOND"));
    match expr {
        ast::Expr::Interval(interval) => {
            let text = match interval.value.as_ref() {
                ast::Expr::Value(value) => match &value.value {
                    ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => text.to_string(),
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            };
            if interval.last_field.is_some() {
                return Err(Error::user(format!(
                    "'{expr}': give the interval in one unit, as in INTERVAL '90' SECOND"
                )));
            }
            match &interval.leading_field {
                Some(field) => parse_duration(&format!("{text} {field}")),
                None => parse_duration(&text),
            }
        }
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => parse_duration(text),
            _ => Err(wrong()),
        },
        ast::Expr::Nested(inner) => interval_micros(inner),
        _ => Err(wrong()),
    }
}
