//! A list that DataFusion's rules don't look into, made one again by lowering. They take two lists over one value together as
//! if that were never NULL: `k IN (1) AND k IN (2)` would be false, and `k NOT IN (1) OR k NOT IN (2)` true.

use std::any::Any;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{not, or_kleene};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Whether its first argument is one of the others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneOf {
    negated: bool,
    signature: Signature,
}

impl ScalarUDFImpl for OneOf {
    fn name(&self) -> &str {
        if self.negated { "not_in" } else { "in" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    // Called on constants only.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mut found = BooleanArray::from(vec![false; arrays[0].len()]);
        for value in &arrays[1..] {
            found = or_kleene(&found, &eq(&arrays[0], value)?)?;
        }
        let found = if self.negated { not(&found)? } else { found };
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// The test, closed.
pub(crate) fn closed(test: InList) -> Expr {
    let signature = Signature::any(test.list.len() + 1, Volatility::Immutable);
    let function = ScalarUDF::from(OneOf { negated: test.negated, signature });
    let args = std::iter::once(*test.expr).chain(test.list).collect();
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
}

/// Where a function is such a test, whether it is negated.
pub(crate) fn is_closed(function: &ScalarUDF) -> Option<bool> {
    (function.inner().as_ref() as &dyn Any).downcast_ref::<OneOf>().map(|test| test.negated)
}
