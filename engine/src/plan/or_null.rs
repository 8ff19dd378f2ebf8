//! An expression that is NULL on the rows where another one fails.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::evaluate::evaluate;

type PExpr = Arc<dyn PhysicalExpr>;

/// The expression, or NULL where it fails. A row's value is what it would be in a batch of its own: a batch on which the
/// expression fails is cut in two until the rows that fail stand alone.
#[derive(Debug, Eq)]
pub(crate) struct OrNull(pub(crate) PExpr);

// Derived, it would move the expression: https://github.com/rust-lang/rust/issues/78808.
impl PartialEq for OrNull {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for OrNull {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for OrNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "or_null({})", self.0)
    }
}

impl PhysicalExpr for OrNull {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, _schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if let Ok(value) = evaluate(&self.0, batch) {
            return Ok(value);
        }
        let rows = batch.num_rows();
        if rows < 2 {
            return Ok(ColumnarValue::Array(new_null_array(&self.data_type(&batch.schema())?, rows)));
        }
        let middle = rows / 2;
        let head = self.evaluate(&batch.slice(0, middle))?.into_array(middle)?;
        let tail = self.evaluate(&batch.slice(middle, rows - middle))?.into_array(rows - middle)?;
        Ok(ColumnarValue::Array(concat(&[head.as_ref(), tail.as_ref()])?))
    }

    fn children(&self) -> Vec<&PExpr> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<PExpr>) -> Result<PExpr> {
        match <[PExpr; 1]>::try_from(children) {
            Ok([inner]) => Ok(Arc::new(OrNull(inner))),
            Err(_) => Err(DataFusionError::Internal("or_null takes one expression".into())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
