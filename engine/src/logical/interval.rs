//! Functions of intervals that plans put in: queries can't call them.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

/// The type of intervals that have all three parts.
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

const DAY: i128 = 24 * 3_600 * 1_000_000_000;
const MONTH: i128 = 30 * DAY;

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Does {
    /// The interval with days of 24 hours and months of 30 days: equal lengths are equal, and their order is that of lengths.
    Justify,
    Months,
    Days,
    Nanos,
    /// An interval of its parts.
    Assemble,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfIntervals {
    does: Does,
    signature: Signature,
}

fn call(does: Does, args: Vec<Expr>) -> Expr {
    let signature = Signature::any(args.len(), Volatility::Immutable);
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(OfIntervals { does, signature })), args))
}

/// The interval as the one that stands for all of equal length; ordered by length.
pub(crate) fn justified(interval: Expr) -> Expr {
    call(Does::Justify, vec![cast(interval, INTERVAL)])
}

/// Whether it is [`justified`].
pub(crate) fn is_justified(expr: &Expr) -> bool {
    let justify = |inner: &dyn Any| inner.downcast_ref::<OfIntervals>().is_some_and(|of| of.does == Does::Justify);
    matches!(expr, Expr::ScalarFunction(call) if justify(call.func.inner().as_ref()))
}

/// Months, days and nanoseconds of an interval, BIGINTs.
pub(crate) fn interval_parts(interval: &Expr) -> [Expr; 3] {
    [Does::Months, Does::Days, Does::Nanos].map(|part| call(part, vec![cast(interval.clone(), INTERVAL)]))
}

/// The interval of so many months, days and nanoseconds, BIGINTs.
pub(crate) fn interval_of_parts(parts: [Expr; 3]) -> Expr {
    call(Does::Assemble, parts.into())
}

impl ScalarUDFImpl for OfIntervals {
    fn name(&self) -> &str {
        match self.does {
            Does::Justify => "justify_interval",
            Does::Months => "interval_months",
            Does::Days => "interval_days",
            Does::Nanos => "interval_nanoseconds",
            Does::Assemble => "interval_of_parts",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.does {
            Does::Justify | Does::Assemble => INTERVAL,
            Does::Months | Does::Days | Does::Nanos => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let part = |part: fn(IntervalMonthDayNano) -> i64| -> ArrayRef {
            Arc::new(arrays[0].as_primitive::<IntervalMonthDayNanoType>().unary::<_, Int64Type>(part))
        };
        let array: ArrayRef = match self.does {
            Does::Justify => {
                let intervals = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
                Arc::new(intervals.try_unary::<_, IntervalMonthDayNanoType, _>(justify)?)
            }
            Does::Months => part(|interval| interval.months.into()),
            Does::Days => part(|interval| interval.days.into()),
            Does::Nanos => part(|interval| interval.nanoseconds),
            Does::Assemble => {
                let parts: Vec<&Int64Array> = arrays.iter().map(|array| array.as_primitive::<Int64Type>()).collect();
                let assembled = |row: usize| {
                    if parts.iter().any(|part| part.is_null(row)) {
                        return Ok(None);
                    }
                    let narrow = |value: i64| i32::try_from(value).map_err(|_| too_long());
                    let (months, days) = (narrow(parts[0].value(row))?, narrow(parts[1].value(row))?);
                    Ok(Some(IntervalMonthDayNano::new(months, days, parts[2].value(row))))
                };
                let all: Result<IntervalMonthDayNanoArray, ArrowError> = (0..arrays[0].len()).map(assembled).collect();
                Arc::new(all?)
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

fn too_long() -> ArrowError {
    ArrowError::ComputeError("an interval is too long".into())
}

fn justify(interval: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, ArrowError> {
    let length =
        i128::from(interval.months) * MONTH + i128::from(interval.days) * DAY + i128::from(interval.nanoseconds);
    let months = i32::try_from(length / MONTH).map_err(|_| too_long())?;
    let rest = length % MONTH;
    // Less than a month and than a day.
    Ok(IntervalMonthDayNano::new(months, (rest / DAY) as i32, (rest % DAY) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lengths_are_one_and_the_order_is_theirs() {
        let of = |months, days, nanos| justify(IntervalMonthDayNano::new(months, days, nanos)).unwrap();
        let day = DAY as i64;
        assert_eq!(of(0, 0, day), of(0, 1, 0));
        assert_eq!(of(0, 30, 0), of(1, 0, 0));
        assert_eq!(of(1, -30, 0), of(0, 0, 0));
        assert_eq!(of(0, 61, day), of(2, 2, 0));
        let ordered = [
            of(-1, 0, 0),
            of(0, -1, 1),
            of(0, 0, -1),
            of(0, 0, 0),
            of(0, 0, day - 1),
            of(0, 1, 0),
            of(1, -1, 0),
            of(1, 0, 0),
        ];
        assert!(ordered.is_sorted());
        assert!(justify(IntervalMonthDayNano::new(i32::MAX, i32::MAX, 0)).is_err());
    }
}
