//! Functions that can't end the host: what panics is an error of the row, and a value that would be too large is one
//! before memory is taken for it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, FieldRef, Int64Type, IntervalMonthDayNanoType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};

use crate::shield;

/// DataFusion's functions whose values may be larger than their arguments without bound.
pub(super) const MAKES_LARGE: &[&str] =
    &["lpad", "rpad", "repeat", "range", "generate_series", "array_repeat", "array_resize"];

/// The most bytes that a value may have.
const LARGEST: u128 = 256 << 20;

/// The most bytes that the values of one batch may have. Whoever evaluates cuts a batch on which this fails in two, so
/// that it never fails for good: one value is smaller.
const LARGEST_BATCH: u128 = 1 << 30;

/// The function, guarded.
pub(super) fn guarded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Guarded { inner: function }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Guarded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.inner.name();
        refuse_large(name, &args)?;
        let declared = args.return_field.data_type().clone();
        let value = shield::caught(|| self.inner.inner().invoke_with_args(args)).unwrap_or_else(|message| {
            Err(DataFusionError::Execution(format!("the function {name} failed: {message}")))
        })?;
        // Those of DataFusion may differ in the names of nested fields.
        match value.data_type() == declared || MAKES_LARGE.contains(&name) {
            true => Ok(value),
            false => Err(DataFusionError::Execution(format!(
                "the function {name} gave {} where it says that it gives {declared}",
                value.data_type()
            ))),
        }
    }

    // All else is the function's own.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, context)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, context: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, literal, context)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// Refuses calls whose values would be too large.
fn refuse_large(name: &str, args: &ScalarFunctionArgs) -> Result<()> {
    if !MAKES_LARGE.contains(&name) {
        return Ok(());
    }
    let arguments = args.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
    let rows =
        if arguments.iter().all(|argument| argument.single) { args.number_rows.min(1) } else { args.number_rows };
    let mut all: u128 = 0;
    for row in 0..rows {
        let bytes = value_bytes(name, &arguments, row).unwrap_or(0);
        if bytes > LARGEST {
            return Err(DataFusionError::Execution(format!(
                "the function {name} would make a value of {bytes} bytes; at most {LARGEST} bytes (256 MiB) are made"
            )));
        }
        all += bytes;
    }
    match all > LARGEST_BATCH {
        true => Err(DataFusionError::Execution(format!("the function {name} would make {all} bytes in one batch"))),
        false => Ok(()),
    }
}

/// An argument: one value for all rows, or one each.
struct Argument {
    values: ArrayRef,
    single: bool,
}

impl Argument {
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => Argument { values: scalar.to_array()?, single: true },
            ColumnarValue::Array(array) => Argument { values: array.clone(), single: false },
        })
    }

    fn place(&self, row: usize) -> Option<usize> {
        let row = if self.single { 0 } else { row };
        self.values.is_valid(row).then_some(row)
    }

    /// The bytes of a text, or of any other value.
    fn bytes(&self, row: usize) -> u128 {
        let Some(row) = self.place(row) else { return 1 };
        let bytes = match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value_length(row) as usize,
            DataType::LargeUtf8 => self.values.as_string::<i64>().value_length(row) as usize,
            DataType::Utf8View => self.values.as_string_view().value(row).len(),
            DataType::Binary => self.values.as_binary::<i32>().value_length(row) as usize,
            t => match t.primitive_width() {
                Some(width) => width,
                None => self.values.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(0),
            },
        };
        bytes as u128
    }

    /// Whether a text has characters of one byte only.
    fn is_ascii(&self, row: usize) -> bool {
        self.place(row).is_none_or(|row| match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value(row).is_ascii(),
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(row).is_ascii(),
            DataType::Utf8View => self.values.as_string_view().value(row).is_ascii(),
            _ => false,
        })
    }

    fn integer(&self, row: usize) -> Option<i128> {
        let row = self.place(row)?;
        let integers = self.values.as_primitive_opt::<Int64Type>()?;
        Some(integers.value(row).into())
    }

    /// A date or time, nanoseconds.
    fn nanos(&self, row: usize) -> Option<i128> {
        let row = self.place(row)?;
        let (value, scale) = match self.values.data_type() {
            DataType::Date32 => (i64::from(self.values.as_primitive::<Date32Type>().value(row)), 86_400_000_000_000),
            DataType::Date64 => (self.values.as_primitive::<Date64Type>().value(row), 1_000_000),
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => (self.values.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => (self.values.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000),
                TimeUnit::Microsecond => (self.values.as_primitive::<TimestampMicrosecondType>().value(row), 1_000),
                TimeUnit::Nanosecond => (self.values.as_primitive::<TimestampNanosecondType>().value(row), 1),
            },
            _ => return None,
        };
        Some(i128::from(value) * scale)
    }

    /// The least length of an interval, nanoseconds, without its sign.
    fn length(&self, row: usize) -> Option<i128> {
        let row = self.place(row)?;
        let interval = self.values.as_primitive_opt::<IntervalMonthDayNanoType>()?.value(row);
        let days = i128::from(interval.months) * 28 + i128::from(interval.days);
        Some((days * 86_400_000_000_000 + i128::from(interval.nanoseconds)).abs())
    }
}

/// The bytes of the value that a call gives on a row, or more; `None` where it gives none.
fn value_bytes(name: &str, args: &[Argument], row: usize) -> Option<u128> {
    let times = |argument: usize| args.get(argument)?.integer(row).map(|n| u128::try_from(n).unwrap_or(0));
    match name {
        "lpad" | "rpad" => {
            let fill = if args.get(2).is_none_or(|fill| fill.is_ascii(row)) { 1 } else { 4 };
            let characters = times(1)?;
            Some(args[0].bytes(row).min(4 * characters) + characters * fill)
        }
        "repeat" => Some(args[0].bytes(row) * times(1)?),
        "array_repeat" => Some(args[0].bytes(row).max(1) * times(1)?),
        "array_resize" => {
            let fill = args.get(2).map_or(8, |fill| fill.bytes(row)).max(1);
            Some(args[0].bytes(row) + times(1)? * fill)
        }
        _ => {
            let (start, stop, step) = match args {
                [stop] => (0, stop.integer(row)?, 1),
                [start, stop] => (start.integer(row)?, stop.integer(row)?, 1),
                [start, stop, step] => match start.integer(row) {
                    Some(first) => (first, stop.integer(row)?, step.integer(row)?),
                    None => (start.nanos(row)?, stop.nanos(row)?, step.length(row)?),
                },
                _ => return None,
            };
            // A step of zero is the function's to refuse, and so is one that leads away.
            let elements = (stop - start).unsigned_abs() / step.unsigned_abs().max(1) + 1;
            let away = step.signum() * (stop - start).signum() < 0 && args[0].integer(row).is_some();
            Some(if away || step == 0 { 0 } else { 8 * elements })
        }
    }
}
