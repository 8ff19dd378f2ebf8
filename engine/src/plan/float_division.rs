//! Division of floats in which a divisor of zero is an error of the row, as it is with integers and decimals. Arrow gives
//! an infinity or no number.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};

type PExpr = Arc<dyn PhysicalExpr>;

/// `left / right` or `left % right` of floats.
#[derive(Debug, Eq)]
pub(crate) struct FloatDivision(BinaryExpr);

/// A division of floats so; other expressions as they are.
pub(super) fn divided(expr: PExpr, schema: &Schema) -> Result<PExpr> {
    let any: &dyn Any = expr.as_ref();
    let Some(binary) = any.downcast_ref::<BinaryExpr>() else { return Ok(expr) };
    let divides = matches!(binary.op(), Operator::Divide | Operator::Modulo);
    if !divides || is_nonzero(binary.right()) || !binary.data_type(schema)?.is_floating() {
        return Ok(expr);
    }
    Ok(Arc::new(FloatDivision(binary.clone())))
}

fn is_nonzero(expr: &PExpr) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|literal| match literal.value() {
        ScalarValue::Float64(Some(value)) => *value != 0.0,
        ScalarValue::Float32(Some(value)) => *value != 0.0,
        other => other.is_null(),
    })
}

/// Whether a zero divides something on some row.
fn divides_by_zero(left: &dyn Array, right: &dyn Array) -> bool {
    let zero = |row: usize| match right.data_type() {
        DataType::Float64 => right.as_primitive::<Float64Type>().value(row) == 0.0,
        DataType::Float32 => right.as_primitive::<Float32Type>().value(row) == 0.0,
        _ => false,
    };
    (0..right.len()).any(|row| zero(row) && right.is_valid(row) && left.is_valid(row))
}

// Derived, it would move the expression: https://github.com/rust-lang/rust/issues/78808.
impl PartialEq for FloatDivision {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for FloatDivision {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for FloatDivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for FloatDivision {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let side = |expr: &PExpr| expr.evaluate(batch)?.into_array(rows);
        let (left, right) = (side(self.0.left())?, side(self.0.right())?);
        if divides_by_zero(&left, &right) {
            return Err(ArrowError::DivideByZero.into());
        }
        Ok(ColumnarValue::Array(match self.0.op() {
            Operator::Modulo => arrow::compute::kernels::numeric::rem(&left, &right)?,
            _ => arrow::compute::kernels::numeric::div(&left, &right)?,
        }))
    }

    fn children(&self) -> Vec<&PExpr> {
        vec![self.0.left(), self.0.right()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<PExpr>) -> Result<PExpr> {
        match <[PExpr; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(FloatDivision(BinaryExpr::new(left, *self.0.op(), right)))),
            Err(_) => Err(DataFusionError::Internal("a division has two operands".into())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array};
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::col;

    use super::*;

    #[test]
    fn zero_divides_nothing() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Float64, true),
            Field::new("b", DataType::Float64, true),
        ]));
        let binary = BinaryExpr::new(col("a", &schema).unwrap(), Operator::Divide, col("b", &schema).unwrap());
        let expr = divided(Arc::new(binary), &schema).unwrap();
        let of = |a: Vec<Option<f64>>, b: Vec<Option<f64>>| {
            let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(a)), Arc::new(Float64Array::from(b))];
            let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
            let array = expr.evaluate(&batch)?.into_array(batch.num_rows())?;
            Ok::<_, DataFusionError>(array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>())
        };
        assert_eq!(of(vec![Some(1.0), None], vec![Some(4.0), Some(0.0)]).unwrap(), [Some(0.25), None]);
        for zero in [0.0, -0.0] {
            let error = of(vec![Some(1.0)], vec![Some(zero)]).unwrap_err();
            assert!(error.to_string().contains("Divide by zero"), "{error}");
        }
    }
}
