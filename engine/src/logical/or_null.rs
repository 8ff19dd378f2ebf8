//! The mark of an expression that is NULL on the rows where it fails: put there for `on_error = 'null'`, and made an
//! expression of its own by lowering.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Marks its argument for lowering, which makes it an expression of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull {
    signature: Signature,
}

impl ScalarUDFImpl for OrNull {
    fn name(&self) -> &str {
        "or_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    // Called on constants only: these did not fail.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args.into_iter().next().unwrap_or(ColumnarValue::Scalar(ScalarValue::Null)))
    }
}

/// Whether a function is that marker: queries can't call it, so it was put there here.
pub(crate) fn is_or_null(function: &ScalarUDF) -> bool {
    (function.inner().as_ref() as &dyn Any).is::<OrNull>()
}

/// The expression, marked.
pub(crate) fn or_null(expr: Expr) -> Expr {
    static UDF: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    let udf = UDF.get_or_init(|| {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(ScalarUDF::from(OrNull { signature }))
    });
    Expr::ScalarFunction(ScalarFunction::new_udf(udf.clone(), vec![expr]))
}
