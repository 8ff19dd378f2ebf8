//! Arithmetic: a quotient of decimals has the digits that Spark and SQL Server give it, rounded, where Arrow's has four more than
//! the dividend, cut off; and intervals are multiplied by integers.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::logical::{interval_of_parts, interval_parts};

/// The most digits of a decimal.
const DIGITS: u8 = 38;

/// The digits that a quotient has at least behind the point.
const LEAST_SCALE: i16 = 6;

/// Plans so many times an interval, for which DataFusion has no type.
#[derive(Debug)]
pub(in crate::sql) struct TimesInterval;

impl ExprPlanner for TimesInterval {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let of = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
        let is_interval = |of: &DataType| matches!(of, DataType::Interval(_));
        let (interval, times) = match (of(&expr.left), of(&expr.right)) {
            (left, right) if is_interval(&left) && right.is_integer() => (&expr.left, &expr.right),
            (left, right) if left.is_integer() && is_interval(&right) => (&expr.right, &expr.left),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        if !matches!(expr.op, BinaryOperator::Multiply) {
            return Ok(PlannerResult::Original(expr));
        }
        let times = cast(times.clone(), DataType::Int64);
        let parts = interval_parts(interval).map(|part| part * times.clone());
        Ok(PlannerResult::Planned(interval_of_parts(parts)))
    }
}

/// A division of decimals, or of one by an integer or the other way, with its digits; others as they are.
pub(super) fn divided(binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let quotient = match binary.op {
        Operator::Divide => operands(&binary, schema).map(|(left, right)| digits(left, right)),
        _ => None,
    };
    let Some(((precision, scale), divisor_scale)) = quotient else {
        return Transformed::no(Expr::BinaryExpr(binary));
    };
    let BinaryExpr { left, op, right } = binary;
    // Wide enough for all digits; arrow gives four more behind the point than the dividend has, which then are rounded away.
    let wide = |expr: Expr, scale: i8| Box::new(cast(expr, DataType::Decimal256(76, scale)));
    let quotient = BinaryExpr::new(wide(*left, scale), op, wide(*right, divisor_scale));
    Transformed::yes(cast(Expr::BinaryExpr(quotient), DataType::Decimal128(precision, scale)))
}

/// Precision and scale of both operands, where one is a decimal and the other too, or an integer.
fn operands(binary: &BinaryExpr, schema: &DFSchema) -> Option<((u8, i8), (u8, i8))> {
    let (left, right) = (&binary.left, &binary.right);
    let is_decimal = |expr: &Expr| expr.get_type(schema).is_ok_and(|of| of.is_decimal());
    if !is_decimal(left) && !is_decimal(right) {
        return None;
    }
    Some((decimal(left, schema)?, decimal(right, schema)?))
}

fn decimal(expr: &Expr, schema: &DFSchema) -> Option<(u8, i8)> {
    // A constant has as many digits as it is written with.
    if let Expr::Literal(ScalarValue::Int64(Some(value)), _) = expr {
        return Some((value.unsigned_abs().max(1).ilog10() as u8 + 1, 0));
    }
    Some(match expr.get_type(schema).ok()? {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => (precision, scale),
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 | DataType::UInt64 => (20, 0),
        _ => return None,
    })
}

/// Precision and scale of a quotient, and the scale of its divisor.
fn digits((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> ((u8, i8), i8) {
    let [p1, s1, p2, scale_of_divisor] = [i16::from(p1), i16::from(s1), i16::from(p2), i16::from(s2)];
    let whole = p1 - s1 + scale_of_divisor;
    let scale = LEAST_SCALE.max(s1 + p2 + 1);
    let most = i16::from(DIGITS);
    // Digits before the point go first, but for the few that are always there behind it.
    let scale = if whole + scale > most { scale.min(LEAST_SCALE).max(most - whole) } else { scale };
    let precision = (whole + scale).min(most);
    ((precision as u8, scale as i8), s2)
}

#[cfg(test)]
mod tests {
    use super::digits;

    /// The figures of Spark's `DecimalPrecision`.
    #[test]
    fn digits_of_quotients() {
        let of = |left, right| digits(left, right).0;
        assert_eq!(of((10, 2), (5, 1)), (17, 8));
        assert_eq!(of((1, 0), (2, 1)), (8, 6));
        assert_eq!(of((38, 2), (20, 0)), (38, 6));
        assert_eq!(of((20, 2), (20, 0)), (38, 20));
        assert_eq!(of((38, 0), (38, 30)), (38, 6));
    }
}
