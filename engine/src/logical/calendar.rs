//! `date_trunc` and `date_bin` over all times that a timestamp can be. DataFusion's count in nanoseconds, which reach from 1677
//! to 2262: beyond, the one fails and the other is NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};
use chrono::{DateTime, Datelike, Months, NaiveDate};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::window::start_of;

const DAY: i64 = 24 * 3_600 * 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Does {
    Trunc,
    Bin,
}

/// DataFusion's function, and where it can't reach our own.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfCalendar {
    does: Does,
    inner: Arc<ScalarUDF>,
}

/// `date_trunc` of DataFusion, over all times.
pub(crate) fn date_trunc(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(OfCalendar { does: Does::Trunc, inner }))
}

/// `date_bin` of DataFusion, over all times.
pub(crate) fn date_bin(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(OfCalendar { does: Does::Bin, inner }))
}

impl ScalarUDFImpl for OfCalendar {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(step) = Step::of(self.does, &args.args) else { return self.inner.inner().invoke_with_args(args) };
        let times = args.args[1].to_array(args.number_rows)?;
        let stepped: ArrayRef = match times.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Arc::new(each::<TimestampMicrosecondType>(&times, 1, &step)?)
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Arc::new(each::<TimestampMillisecondType>(&times, 1_000, &step)?)
            }
            _ => Arc::new(each::<TimestampSecondType>(&times, 1_000_000, &step)?),
        };
        let scalar = matches!(args.args[1], ColumnarValue::Scalar(_)) && stepped.len() == 1;
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&stepped, 0)?),
            false => ColumnarValue::Array(stepped),
        })
    }
}

/// Times in units of so many microseconds, each at the start of its step.
fn each<T: ArrowPrimitiveType<Native = i64>>(times: &dyn Array, unit: i64, step: &Step) -> Result<PrimitiveArray<T>> {
    let start = |time: i64| {
        let micros = time.checked_mul(unit).and_then(|micros| step.start(micros));
        micros
            .map(|micros| micros.div_euclid(unit))
            .ok_or_else(|| DataFusionError::Execution("the start lies before or after all times that there are".into()))
    };
    let times = times.as_primitive::<T>();
    Ok(times.try_unary::<_, T, _>(start)?.with_data_type(times.data_type().clone()))
}

/// What times are cut down to; times are microseconds since the epoch.
enum Step {
    /// Multiples of so many microseconds from an origin in microseconds on.
    Micros(i64, i64),
    /// Multiples of so many nanoseconds from an origin in nanoseconds on, where microseconds don't say it.
    Nanos(i128, i64),
    /// Mondays.
    Week,
    /// So many months from January of year 0 on.
    Months(i32),
    /// So many months from an origin in nanoseconds on.
    MonthsFrom(i64, i64),
}

impl Step {
    /// Of the arguments of a call; `None` where DataFusion's function does it.
    fn of(does: Does, args: &[ColumnarValue]) -> Option<Self> {
        let DataType::Timestamp(unit, zone) = args.get(1)?.data_type() else { return None };
        if unit == TimeUnit::Nanosecond {
            return None;
        }
        let ColumnarValue::Scalar(first) = &args[0] else { return None };
        match does {
            // A day of a zone is as long as that zone says.
            Does::Trunc if zone.is_some_and(|zone| !is_utc(&zone)) => None,
            Does::Trunc => Step::named(first.try_as_str()??),
            Does::Bin => {
                let origin = match args.get(2) {
                    None => 0,
                    Some(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin), _))) => *origin,
                    Some(_) => return None,
                };
                let ScalarValue::IntervalMonthDayNano(Some(width)) = first else { return None };
                let length = i128::from(width.days) * i128::from(DAY) * 1_000 + i128::from(width.nanoseconds);
                match (width.months, length) {
                    (0, length) if length > 0 => Some(Step::of_length(length, origin)),
                    (months, 0) if months > 0 => Some(Step::MonthsFrom(months.into(), origin)),
                    // Refused there.
                    _ => None,
                }
            }
        }
    }

    /// Multiples of so many nanoseconds, from an origin in nanoseconds on.
    fn of_length(length: i128, origin: i64) -> Self {
        match i64::try_from(length / 1_000) {
            Ok(micros) if length % 1_000 == 0 && origin % 1_000 == 0 => Step::Micros(micros, origin / 1_000),
            _ => Step::Nanos(length, origin),
        }
    }

    fn named(unit: &str) -> Option<Self> {
        let micros = |micros: i64| Step::Micros(micros, 0);
        Some(match unit.to_lowercase().as_str() {
            "microsecond" => micros(1),
            "millisecond" => micros(1_000),
            "second" => micros(1_000_000),
            "minute" => micros(60_000_000),
            "hour" => micros(3_600_000_000),
            "day" => micros(DAY),
            "week" => Step::Week,
            "month" => Step::Months(1),
            "quarter" => Step::Months(3),
            "year" => Step::Months(12),
            _ => return None,
        })
    }

    fn start(&self, time: i64) -> Option<i64> {
        match *self {
            Step::Micros(length, origin) => start_of(time, length, origin),
            Step::Nanos(length, origin) => {
                let since = i128::from(time) * 1_000 - i128::from(origin);
                let start = i128::from(origin) + since.div_euclid(length) * length;
                i64::try_from(start.div_euclid(1_000)).ok()
            }
            Step::Week => {
                let day = time.div_euclid(DAY);
                // The epoch is a Thursday.
                (day - (day + 3).rem_euclid(7)).checked_mul(DAY)
            }
            Step::Months(width) => {
                let date = DateTime::from_timestamp_micros(time)?.date_naive();
                let month = date.year() * 12 + date.month0() as i32;
                let month = month - month.rem_euclid(width);
                let first = NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1)?;
                let days = first.signed_duration_since(NaiveDate::default()).num_days();
                days.checked_mul(DAY)
            }
            Step::MonthsFrom(width, origin) => {
                let from = DateTime::from_timestamp_nanos(origin);
                let until = DateTime::from_timestamp_micros(time)?;
                let months =
                    i64::from(until.year() - from.year()) * 12 + i64::from(until.month0()) - i64::from(from.month0());
                let shifted = |months: i64| {
                    let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
                    if months < 0 { from.checked_sub_months(by) } else { from.checked_add_months(by) }
                };
                let at = months.div_euclid(width) * width;
                let start = match shifted(at)? {
                    // The origin may be later in its month.
                    later if later > until => shifted(at - width)?,
                    start => start,
                };
                Some(start.timestamp_micros())
            }
        }
    }
}

pub(crate) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp_micros()
    }

    #[test]
    fn units_of_all_years() {
        let of = |unit: &str, time: &str| Step::named(unit).unwrap().start(micros(time));
        for (unit, time, start) in [
            ("year", "0001-07-15T12:00:00", "0001-01-01T00:00:00"),
            ("quarter", "9999-12-31T23:59:59", "9999-10-01T00:00:00"),
            ("month", "1969-12-31T23:59:59", "1969-12-01T00:00:00"),
            ("month", "-0001-02-03T00:00:00", "-0001-02-01T00:00:00"),
            ("week", "2024-05-15T10:30:00", "2024-05-13T00:00:00"),
            ("week", "0001-01-01T10:30:00", "0001-01-01T00:00:00"),
            ("week", "1969-12-31T10:30:00", "1969-12-29T00:00:00"),
            ("day", "0001-01-01T10:30:00", "0001-01-01T00:00:00"),
            ("hour", "1969-12-31T23:30:00", "1969-12-31T23:00:00"),
            ("millisecond", "1500-01-01T00:00:00.123456", "1500-01-01T00:00:00.123"),
        ] {
            assert_eq!(of(unit, time), Some(micros(start)), "{unit} of {time}");
        }
        assert_eq!(Step::Week.start(i64::MIN), None);
    }

    #[test]
    fn bins_of_all_years() {
        let hour = Step::of_length(3_600_000_000_000, 0);
        // Times are whole microseconds, whatever the steps are.
        let odd = Step::of_length(1_500, 0);
        assert_eq!([0, 1, 2, 3, 4].map(|time| odd.start(time)), [0, 0, 1, 3, 3].map(Some));
        assert_eq!(hour.start(micros("0001-01-15T00:10:00")), Some(micros("0001-01-15T00:00:00")));
        let quarters = Step::MonthsFrom(3, micros("2000-02-10T00:00:00") * 1_000);
        assert_eq!(quarters.start(micros("1000-05-09T00:00:00")), Some(micros("1000-02-10T00:00:00")));
        assert_eq!(quarters.start(micros("2000-05-10T00:00:00")), Some(micros("2000-05-10T00:00:00")));
        assert_eq!(quarters.start(micros("9999-11-09T00:00:00")), Some(micros("9999-08-10T00:00:00")));
    }
}
