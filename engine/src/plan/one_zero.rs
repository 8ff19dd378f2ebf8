//! An operand of a comparison in which `-0.0` is `0.0`, as keys have it and SQL says. Arrow's comparisons tell them apart.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

type PExpr = Arc<dyn PhysicalExpr>;

/// The value, `0.0` for `-0.0`.
#[derive(Debug, Eq)]
pub(crate) struct OneZero(pub(crate) PExpr);

/// An expression that compares, with its operands so.
pub(super) fn compared(expr: PExpr, schema: &Schema) -> Result<PExpr> {
    let any: &dyn Any = expr.as_ref();
    let compares = any.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
        use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
        matches!(binary.op(), Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
    });
    let compares = compares
        || any.is::<InListExpr>()
        || any.downcast_ref::<CaseExpr>().is_some_and(|case| case.expr().is_some())
        || any.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| call.fun().name() == "nullif");
    if !compares {
        return Ok(expr);
    }
    let mut changed = false;
    let mut operands = Vec::new();
    for operand in expr.children() {
        let float = operand.data_type(schema)?.is_floating();
        let wrap = float && !operand.is::<OneZero>() && !is_constant(operand);
        changed |= wrap;
        operands.push(if wrap { Arc::new(OneZero(operand.clone())) } else { operand.clone() });
    }
    if changed { expr.with_new_children(operands) } else { Ok(expr) }
}

/// Whether it is a constant that is no `-0.0`.
fn is_constant(expr: &PExpr) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|literal| match literal.value() {
        ScalarValue::Float64(Some(value)) => value.to_bits() != (-0.0f64).to_bits(),
        ScalarValue::Float32(Some(value)) => value.to_bits() != (-0.0f32).to_bits(),
        other => other.is_null(),
    })
}

fn one_zero(array: &ArrayRef) -> ArrayRef {
    // The sum is `0.0` for both.
    match array.data_type() {
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + 0.0)),
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| value + 0.0)),
        _ => array.clone(),
    }
}

// Derived, it would move the expression: https://github.com/rust-lang/rust/issues/78808.
impl PartialEq for OneZero {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for OneZero {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for OneZero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for OneZero {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(match self.0.evaluate(batch)? {
            ColumnarValue::Array(array) => ColumnarValue::Array(one_zero(&array)),
            ColumnarValue::Scalar(scalar) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&one_zero(&scalar.to_array()?), 0)?)
            }
        })
    }

    fn children(&self) -> Vec<&PExpr> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<PExpr>) -> Result<PExpr> {
        match <[PExpr; 1]>::try_from(children) {
            Ok([inner]) => Ok(Arc::new(OneZero(inner))),
            Err(_) => Err(DataFusionError::Internal("an operand is one expression".into())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array};

    use super::*;

    #[test]
    fn there_is_one_zero() {
        let array: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(0.0), None, Some(-1.5), Some(f64::MIN)]));
        let bits = |array: &ArrayRef| -> Vec<_> {
            array.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect()
        };
        let expected: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(0.0), None, Some(-1.5), Some(f64::MIN)]));
        assert_eq!(bits(&one_zero(&array)), bits(&expected));
        let array: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, 2.0]));
        assert_eq!(one_zero(&array).as_primitive::<Float32Type>().value(0).to_bits(), 0);
    }
}
