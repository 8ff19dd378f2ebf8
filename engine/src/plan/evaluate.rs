//! Evaluating an expression on a batch, whatever it does.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use crate::shield;

/// Levels that any stack has room for.
const SHALLOW: usize = 64;

/// The value of an expression on a batch. What panics is an error, as what fails is.
pub(crate) fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ColumnarValue> {
    shield::caught(|| expr.evaluate(batch))
        .unwrap_or_else(|message| Err(DataFusionError::Execution(format!("the evaluation failed: {message}"))))
}

/// Whether evaluating goes so deep that it needs a stack of its own.
pub(crate) fn is_deep(expr: &Arc<dyn PhysicalExpr>) -> bool {
    fn within(expr: &Arc<dyn PhysicalExpr>, left: usize) -> bool {
        left > 0 && expr.children().into_iter().all(|child| within(child, left - 1))
    }
    !within(expr, SHALLOW)
}
