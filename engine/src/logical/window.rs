//! `window(ts, size [, slide [, offset]])`: the windows `[start, end)` that hold a time.
//!
//! Starts are at `offset` plus multiples of `slide` since the UTC epoch, also before it. Without `slide` windows
//! tumble: each time is in one, which a scalar function can say. A hopping window is more than one row, so a call is
//! taken out of the expression that holds it and becomes a node below ([`HopNode`]). A row without a time is in no
//! window: where a window is selected or grouped by, such rows are left out, as in Spark.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, FunctionalDependencies, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    UserDefinedLogicalNodeCore, Volatility,
};

use headwater_operators::window::Windows;

use super::duration::parse_duration;

/// The function's name.
pub(crate) const WINDOW: &str = "window";

/// The most windows that a row can be in: each is a row of its own.
const MOST_WINDOWS: i64 = 100_000;

/// The function `window`.
pub fn window_udf() -> Arc<ScalarUDF> {
    static UDF: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    UDF.get_or_init(|| Arc::new(ScalarUDF::from(Window { signature: Signature::user_defined(Volatility::Immutable) })))
        .clone()
}

/// The call `window(time, '<size>' [, '<slide>'])`.
pub fn window_expr(time: Expr, size: &str, slide: Option<&str>) -> Expr {
    let text = |text: &str| Expr::Literal(ScalarValue::Utf8(Some(text.into())), None);
    let mut args = vec![time, text(size)];
    args.extend(slide.map(text));
    Expr::ScalarFunction(ScalarFunction::new_udf(window_udf(), args))
}

/// The fields of a window over times of a zone.
fn window_fields(zone: Option<Arc<str>>) -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, zone);
    Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time, true)])
}

/// The type of a window over times of a zone.
fn window_type(zone: Option<Arc<str>>) -> DataType {
    DataType::Struct(window_fields(zone))
}

/// The start of the last window that begins at or before `time`.
pub(super) fn start_of(time: i64, slide: i64, offset: i64) -> Option<i64> {
    // Almost always all of it fits 64 bits, where a division costs a fraction.
    if let Some(since) = time.checked_sub(offset) {
        return time.checked_sub(since.rem_euclid(slide));
    }
    let start = i128::from(time) - (i128::from(time) - i128::from(offset)).rem_euclid(i128::from(slide));
    i64::try_from(start).ok()
}

/// Width, distance and offset of a window, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Shape {
    pub size: i64,
    pub slide: i64,
    pub offset: i64,
}

impl Shape {
    /// Of the arguments after the time.
    pub(crate) fn new(lengths: &[ScalarValue]) -> Result<Self> {
        let micros = lengths.iter().map(micros).collect::<Result<Vec<_>>>()?;
        let (size, slide, offset) = match micros[..] {
            [size] => (size, size, 0),
            [size, slide] => (size, slide, 0),
            [size, slide, offset] => (size, slide, offset),
            _ => return Err(usage("it takes a time and one to three lengths")),
        };
        if size <= 0 || slide <= 0 {
            return Err(usage("size and slide must be longer than nothing"));
        }
        if slide > size {
            return Err(usage("the slide is longer than the size, so that rows between windows would be lost"));
        }
        if size / slide > MOST_WINDOWS {
            return Err(usage(&format!("a row would be in {} windows; at most {MOST_WINDOWS} are kept", size / slide)));
        }
        Ok(Shape { size, slide, offset })
    }

    pub(crate) fn tumbles(&self) -> bool {
        self.size == self.slide
    }
}

/// The size that the arguments after the time say, microseconds.
pub(crate) fn window_size(lengths: &[ScalarValue]) -> Option<i64> {
    Shape::new(lengths).ok().map(|shape| shape.size)
}

fn usage(why: &str) -> DataFusionError {
    DataFusionError::Plan(format!("window(ts, '5 minutes' [, slide [, offset]]): {why}"))
}

fn micros(value: &ScalarValue) -> Result<i64> {
    let fixed = |months: i32| match months {
        0 => Ok(()),
        _ => Err(usage("months and years have no fixed length")),
    };
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            parse_duration(text).map_err(|error| DataFusionError::Plan(error.message().to_string()))
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            fixed(interval.months)?;
            let nanos = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
            i64::try_from(nanos / 1_000).map_err(|_| usage("the length is out of range"))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Ok(i64::from(interval.days) * 86_400_000_000 + i64::from(interval.milliseconds) * 1_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => fixed(*months).map(|()| 0),
        ScalarValue::DurationSecond(Some(n)) => Ok(n * 1_000_000),
        ScalarValue::DurationMillisecond(Some(n)) => Ok(n * 1_000),
        ScalarValue::DurationMicrosecond(Some(n)) => Ok(*n),
        ScalarValue::DurationNanosecond(Some(n)) => Ok(n / 1_000),
        _ => Err(usage("lengths are constants such as '5 minutes' or INTERVAL '5' MINUTE")),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Window {
    signature: Signature,
}

impl ScalarUDFImpl for Window {
    fn name(&self) -> &str {
        WINDOW
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (time, lengths) = match types.split_first() {
            Some((time, lengths)) if matches!(lengths.len(), 1..=3) => (time, lengths),
            _ => return Err(usage("it takes a time and one to three lengths")),
        };
        let zone = match time {
            DataType::Timestamp(_, zone) => zone.clone(),
            DataType::Date32 | DataType::Date64 | DataType::Null => None,
            other => return Err(usage(&format!("the time must be a timestamp, not {other}"))),
        };
        let mut coerced = vec![DataType::Timestamp(TimeUnit::Microsecond, zone)];
        coerced.extend(lengths.iter().cloned());
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(DataType::Timestamp(_, zone)) => Ok(window_type(zone.clone())),
            _ => Ok(window_type(None)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lengths = args.args[1..]
            .iter()
            .map(|length| match length {
                ColumnarValue::Scalar(scalar) => Ok(scalar.clone()),
                ColumnarValue::Array(_) => Err(usage("lengths are constants")),
            })
            .collect::<Result<Vec<_>>>()?;
        let shape = Shape::new(&lengths)?;
        if !shape.tumbles() {
            return Err(DataFusionError::Plan(HOP_PLACE.into()));
        }
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let times = args.args[0].clone().into_array(if is_scalar { 1 } else { args.number_rows })?;
        let zone = match times.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let windows: ArrayRef = Arc::new(tumble(&times, shape, zone));
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&windows, 0)?)),
            false => Ok(ColumnarValue::Array(windows)),
        }
    }
}

/// Where a hopping window may stand.
pub(crate) const HOP_PLACE: &str =
    "a hopping window() stands in SELECT or GROUP BY; compute it in a subquery and use its column";

/// The one window of each time; NULL for NULL and where a bound leaves the range of timestamps.
fn tumble(times: &ArrayRef, shape: Shape, zone: Option<Arc<str>>) -> StructArray {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let start_of = |time| start_of(time, shape.slide, shape.offset).filter(|s| s.checked_add(shape.size).is_some());
    let mut together = Vec::new();
    if let Ok(windows) = Windows::hopping(shape.size, shape.slide) {
        windows.with_offset(shape.offset).last_starts(times.values(), &mut together);
    }
    // A start that saturated is none.
    let in_range = |start: &i64| *start > i64::MIN && start.checked_add(shape.size).is_some();
    let starts: TimestampMicrosecondArray = match together.len() == times.len() && together.iter().all(in_range) {
        true => TimestampMicrosecondArray::new(together.into(), times.nulls().cloned()),
        false => times.iter().map(|time| start_of(time?)).collect(),
    };
    let ends: TimestampMicrosecondArray = starts.unary(|start| start.wrapping_add(shape.size));
    let nulls = starts.nulls().cloned();
    let (starts, ends) = (starts.with_timezone_opt(zone.clone()), ends.with_timezone_opt(zone.clone()));
    let fields = window_fields(zone);
    StructArray::new(fields, vec![Arc::new(starts), Arc::new(ends)], nulls)
}

/// Appends a hopping window's column: one row for each window that holds `time`, none where it is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopNode {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) time: Expr,
    pub(crate) shape: Shape,
    pub(crate) column: String,
    schema: DFSchemaRef,
}

impl HopNode {
    pub(crate) fn try_new(input: Arc<LogicalPlan>, time: Expr, shape: Shape, column: String) -> Result<Self> {
        let zone = match time.get_type(input.schema())? {
            DataType::Timestamp(_, zone) => zone,
            other => return Err(usage(&format!("the time must be a timestamp, not {other}"))),
        };
        let own = DFSchema::from_unqualified_fields(
            vec![Field::new(&column, window_type(zone), false)].into(),
            Default::default(),
        )?;
        // A row comes once for each of its windows, so what was unique below is not above.
        let schema = input.schema().join(&own)?.with_functional_dependencies(FunctionalDependencies::empty())?;
        let schema = Arc::new(schema);
        Ok(HopNode { input, time, shape, column, schema })
    }
}

impl Hash for HopNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.time, self.shape, &self.column).hash(state);
    }
}

impl PartialOrd for HopNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.time, self.shape).partial_cmp(&(&other.input, &other.time, other.shape))
    }
}

impl UserDefinedLogicalNodeCore for HopNode {
    fn name(&self) -> &str {
        "Hop"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::from([self.column.clone()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { size, slide, offset } = self.shape;
        write!(f, "Hop: {} AS {}, size={size}us, slide={slide}us", self.time, self.column)?;
        if offset != 0 {
            write!(f, ", offset={offset}us")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(time), Some(input)) = (exprs.into_iter().next(), inputs.into_iter().next()) else {
            return Err(DataFusionError::Internal("a hop has one time and one input".into()));
        };
        HopNode::try_new(Arc::new(input), time, self.shape, self.column.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|column| *column < width).collect();
        for column in self.time.column_refs() {
            needed.push(self.input.schema().index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// The `window` call that `expr` is, with its time and shape.
pub(crate) fn as_window(expr: &Expr) -> Option<(&Expr, Result<Shape>)> {
    match expr {
        Expr::ScalarFunction(call) if (call.func.inner().as_ref() as &dyn Any).is::<Window>() => {
            let (time, lengths) = call.args.split_first()?;
            let lengths: Option<Vec<_>> = lengths.iter().map(literal).collect();
            let shape = match lengths {
                Some(lengths) => Shape::new(&lengths),
                None => Err(usage("lengths are constants such as '5 minutes' or INTERVAL '5' MINUTE")),
            };
            Some((time, shape))
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => literal(&cast.expr),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_where_it_should_up_to_the_ends_of_time() {
        let edges = [i64::MIN, i64::MIN + 1, -61, -60, -1, 0, 1, 59, 60, i64::MAX - 1, i64::MAX];
        for time in edges {
            for slide in [1, 7, 60, i64::MAX] {
                for offset in edges {
                    let (t, s, o) = (i128::from(time), i128::from(slide), i128::from(offset));
                    let want = i64::try_from(t - (t - o).rem_euclid(s)).ok();
                    assert_eq!(start_of(time, slide, offset), want, "{time} {slide} {offset}");
                }
            }
        }
    }

    #[test]
    fn neighbours_are_in_the_windows_that_they_would_be_in_alone() {
        let shape = Shape { size: 60, slide: 60, offset: 7 };
        let near = [Some(100), Some(66), Some(67), None, Some(126), Some(127), Some(-54), Some(-53), None, Some(127)];
        let far = [Some(i64::MIN), Some(5), None, Some(i64::MAX), Some(5)];
        for times in [&near[..], &far[..], &[]] {
            let times: ArrayRef = Arc::new(times.iter().copied().collect::<TimestampMicrosecondArray>());
            let together = tumble(&times, shape, None);
            for row in 0..times.len() {
                assert_eq!(together.slice(row, 1), tumble(&times.slice(row, 1), shape, None));
            }
        }
        assert_eq!(
            tumble(&(Arc::new(TimestampMicrosecondArray::from(far.to_vec())) as ArrayRef), shape, None).null_count(),
            3
        );
    }
}
