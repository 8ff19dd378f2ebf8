//! Numbers as they are written: with a point they are decimals, with an exponent floats.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, ExactNumberInfo, Expr, Value, ValueWithSpan, Values};
use datafusion::sql::sqlparser::tokenizer::Span;

/// The digits that a decimal has at most.
const DIGITS: usize = 38;

/// A number as the planner is to see it. Errors: what is wrong with it, and what to write.
pub(in crate::sql) fn number(value: &ValueWithSpan) -> Result<Option<Expr>, String> {
    let Value::Number(text, _) = &value.value else { return Ok(None) };
    if text.contains(['e', 'E']) {
        if text.replace('_', "").parse().is_ok_and(f64::is_infinite) {
            return Err(format!("{text} is larger than any DOUBLE, which ends at 1.8e308"));
        }
        return Ok(Some(float(text, value.span)));
    }
    let digits = text.trim_start_matches('0').bytes().filter(u8::is_ascii_digit).count();
    match digits > DIGITS {
        true => Err(format!(
            "{text} has {digits} digits, and a DECIMAL has {DIGITS} at most; with an exponent, as in 1.5e40, it is a DOUBLE"
        )),
        false => Ok(None),
    }
}

fn float(text: &str, span: Span) -> Expr {
    let text = Value::SingleQuotedString(text.replace('_', ""));
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(text.with_span(span))),
        data_type: DataType::Double(ExactNumberInfo::None),
        format: None,
        array: false,
    }
}

/// Makes numbers with a point floats where one of their column in `VALUES` is: DataFusion would make decimals of the floats.
pub(in crate::sql) fn floats_in_columns(values: &mut Values) {
    let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
    for column in 0..width {
        if !values.rows.iter().filter_map(|row| row.content.get(column)).any(is_float) {
            continue;
        }
        for expr in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            let mut inner = expr;
            while let Expr::UnaryOp { expr, .. } | Expr::Nested(expr) = inner {
                inner = expr;
            }
            if let Expr::Value(value) = inner
                && let Value::Number(text, _) = &value.value
                && text.contains('.')
            {
                *inner = float(text, value.span);
            }
        }
    }
}

fn is_float(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(&value.value, Value::Number(text, _) if text.contains(['e', 'E'])),
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) => is_float(expr),
        Expr::Cast { data_type, .. } => matches!(
            data_type,
            DataType::Double(_) | DataType::DoublePrecision | DataType::Float(_) | DataType::Real | DataType::Float8
        ),
        _ => false,
    }
}
