//! The values of one generated column.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringBuilder, TimestampMicrosecondArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, Field};

use crate::datagen::Shared;
use crate::error::{Error, Result};
use crate::format::types::{convert, sql_name};
use crate::format::values::timestamp;
use crate::options::Checked;

/// One column: a pure function of the row's number.
pub(crate) struct Column {
    made: Made,
    to: DataType,
    seed: u64,
    /// Of 2^32 rows, how many are NULL.
    nulls: u64,
}

enum Made {
    Whole(Numbers),
    Decimal(Numbers),
    Day(Numbers),
    Instant(Numbers),
    EventTime {
        start: i64,
        per_second: u64,
        disorder: u64,
    },
    Fraction {
        min: f64,
        span: f64,
    },
    Truth,
    /// The text of a number after a prefix.
    Numbered {
        prefix: String,
        numbers: Numbers,
    },
    /// One of these.
    Choice(Vec<String>),
    /// Hexadecimal digits.
    Noise(usize),
}

/// Whole numbers from `min` on.
#[derive(Clone, Copy)]
enum Numbers {
    /// The greatest is `min + last`.
    Random {
        min: i64,
        last: u64,
    },
    Sequence {
        start: i64,
        end: Option<i64>,
    },
}

impl Numbers {
    fn at(self, seed: u64, row: u64) -> i64 {
        match self {
            Numbers::Random { min, last } => min.wrapping_add(below(random(seed, row), last) as i64),
            Numbers::Sequence { start, .. } => start.wrapping_add(row as i64),
        }
    }
}

/// A well-mixed number for a row (SplitMix64 at a position of its stream).
fn random(seed: u64, row: u64) -> u64 {
    let mut z = seed.wrapping_add(row.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A random number made to lie in `0..=last`.
fn below(random: u64, last: u64) -> u64 {
    ((u128::from(random) * (u128::from(last) + 1)) >> 64) as u64
}

impl Column {
    pub(crate) fn new(options: &Checked<'_>, shared: &Shared, number: usize, field: &Field) -> Result<Column> {
        let of = |what: &str| format!("fields.{}.{what}", field.name().to_lowercase());
        let to = field.data_type().clone();
        let instant = matches!(to, DataType::Timestamp(_, _));
        let kind = match options.choice(&of("kind"), &["random", "sequence", "event-time"])? {
            Some(kind) => kind,
            None if instant && options.given(&of("min")).is_none() => 2,
            None => 0,
        };
        let unfit = |kind: &str| {
            Error::User(format!(
                "column '{}' is {}, which connector 'datagen' can't make as '{kind}'",
                field.name(),
                sql_name(field.data_type())
            ))
        };
        let sequence = kind == 1;
        let distinct = options.count(&of("distinct"))?;
        let whole = |min: i64, max: i64, read: &dyn Fn(&str) -> Option<i64>| -> Result<Numbers> {
            if sequence {
                let start = options.value(&of("start"), read)?.unwrap_or(0);
                return Ok(Numbers::Sequence { start, end: options.value(&of("end"), read)? });
            }
            let min = options.value(&of("min"), read)?.unwrap_or(if distinct.is_some() { min.max(0) } else { min });
            let max = options.value(&of("max"), read)?.unwrap_or(max);
            if max < min {
                return Err(Error::User(format!(
                    "column '{}': option '{}' is less than '{}'",
                    field.name(),
                    of("max"),
                    of("min")
                )));
            }
            let last = max.wrapping_sub(min) as u64;
            Ok(Numbers::Random { min, last: distinct.map_or(last, |distinct| last.min(distinct.saturating_sub(1))) })
        };
        let made = match &to {
            _ if kind == 2 && !(instant || matches!(to, DataType::Date32)) => return Err(unfit("event-time")),
            _ if kind == 2 => {
                Made::EventTime { start: shared.start, per_second: shared.events_per_second, disorder: shared.disorder }
            }
            DataType::Timestamp(_, _) if sequence => return Err(unfit("sequence")),
            DataType::Timestamp(_, _) => Made::Instant(whole(shared.start, shared.start + 86_399_999_999, &timestamp)?),
            DataType::Date32 => {
                let day = (shared.start / 86_400_000_000) as i32;
                let read = |text: &str| Date32Type::parse(text).map(i64::from);
                Made::Day(whole(i64::from(day), i64::from(day) + 364, &read)?)
            }
            DataType::Boolean => Made::Truth,
            DataType::Float32 | DataType::Float64 if sequence => Made::Whole(whole(0, 0, &|text| text.parse().ok())?),
            DataType::Float32 | DataType::Float64 => {
                let read = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
                let min = options.value(&of("min"), read)?.unwrap_or(0.0);
                let max = options.value(&of("max"), read)?.unwrap_or(1.0f64.max(min));
                if max < min {
                    return Err(Error::User(format!("option '{}' is less than '{}'", of("max"), of("min"))));
                }
                Made::Fraction { min, span: max - min }
            }
            DataType::Decimal128(precision, scale) if *scale >= 0 && *scale < 18 => {
                let unit = 10_i64.pow(*scale as u32);
                let most = 10_i64.pow(u32::from(*precision).min(18)) - 1;
                let read = |text: &str| {
                    let number: f64 = text.parse().ok()?;
                    let scaled = (number * unit as f64).round();
                    (scaled.abs() <= most as f64).then_some(scaled as i64)
                };
                Made::Decimal(whole(0, most, &read)?)
            }
            _ if to.is_integer() => {
                let (min, max) = bounds(&to);
                let read = |text: &str| {
                    let digits: String = text.chars().filter(|c| *c != '_').collect();
                    digits.parse::<i64>().ok().filter(|number| (min..=max).contains(number))
                };
                Made::Whole(whole(min, max, &read)?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let prefix = options.given(&of("prefix")).unwrap_or_default().to_string();
                let read = |text: &str| text.parse::<i64>().ok();
                match (options.given(&of("values")), distinct) {
                    (Some(values), _) => Made::Choice(values.split(',').map(|v| v.trim().to_string()).collect()),
                    // As ready texts, where there are not too many of them.
                    (None, Some(distinct)) if !sequence && distinct <= 100_000 => {
                        Made::Choice((0..distinct.max(1)).map(|number| format!("{prefix}{number}")).collect())
                    }
                    (None, Some(_)) => Made::Numbered { prefix, numbers: whole(0, i64::MAX, &read)? },
                    (None, None) if sequence => Made::Numbered { prefix, numbers: whole(0, 0, &read)? },
                    (None, None) if !prefix.is_empty() => {
                        Made::Numbered { prefix, numbers: whole(0, i64::MAX, &read)? }
                    }
                    (None, None) => Made::Noise(options.count(&of("length"))?.unwrap_or(16).clamp(1, 1 << 20) as usize),
                }
            }
            _ => {
                return Err(Error::User(format!(
                    "column '{}' is {}, which connector 'datagen' can't make; it makes numbers, BOOLEAN, VARCHAR, DATE \
                     and TIMESTAMP",
                    field.name(),
                    sql_name(&to)
                )));
            }
        };
        let rate = |text: &str| text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
        let nulls = (options.value(&of("null-rate"), rate)?.unwrap_or(0.0) * 4_294_967_296.0) as u64;
        if nulls > 0 && !field.is_nullable() {
            return Err(Error::User(format!("column '{}' is NOT NULL, so its null-rate must be 0", field.name())));
        }
        let seed = random(random(0, shared.seed), number as u64);
        Ok(Column { made, to, seed, nulls })
    }

    /// How many rows there are, if the column ends.
    pub(crate) fn rows(&self) -> Option<u64> {
        match &self.made {
            Made::Whole(numbers) | Made::Decimal(numbers) | Made::Day(numbers) | Made::Numbered { numbers, .. } => {
                match numbers {
                    Numbers::Sequence { start, end: Some(end) } => Some(end.saturating_sub(*start).max(-1) as u64 + 1),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// About how many bytes a value takes.
    pub(crate) fn width(&self) -> usize {
        match &self.made {
            Made::Noise(length) => *length + 4,
            Made::Choice(values) => values.iter().map(String::len).max().unwrap_or(0) + 4,
            Made::Numbered { prefix, .. } => prefix.len() + 12,
            _ => 8,
        }
    }

    /// The values of some rows.
    pub(crate) fn values(&self, rows: Range<u64>) -> Result<ArrayRef> {
        let count = (rows.end - rows.start) as usize;
        let seed = self.seed;
        let whole = |numbers: Numbers| rows.clone().map(move |row| numbers.at(seed, row));
        let made: ArrayRef = match &self.made {
            Made::Whole(numbers) => Arc::new(Int64Array::from_iter_values(whole(*numbers))),
            Made::Decimal(numbers) => {
                let values = Decimal128Array::from_iter_values(whole(*numbers).map(i128::from));
                let DataType::Decimal128(precision, scale) = self.to else {
                    return Err(Error::Internal("a decimal column of another type".into()));
                };
                let values = values.with_precision_and_scale(precision, scale);
                Arc::new(values.map_err(|error| Error::Internal(format!("a generated decimal: {error}")))?)
            }
            Made::Day(numbers) => Arc::new(Date32Array::from_iter_values(whole(*numbers).map(|day| day as i32))),
            Made::Instant(numbers) => Arc::new(TimestampMicrosecondArray::from_iter_values(whole(*numbers))),
            Made::EventTime { start, per_second, disorder } => {
                let (start, per_second, disorder) = (*start, *per_second, *disorder);
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.clone().map(|row| {
                    let passed = row / per_second * 1_000_000 + row % per_second * 1_000_000 / per_second;
                    let back = if disorder == 0 { 0 } else { below(random(seed, row), disorder) };
                    start.wrapping_add(passed as i64).wrapping_sub(back as i64)
                })))
            }
            Made::Fraction { min, span } => Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| {
                let unit = (random(seed, row) >> 11) as f64 / (1_u64 << 53) as f64;
                min + span * unit
            }))),
            Made::Truth => {
                Arc::new(BooleanArray::from_iter(rows.clone().map(|row| Some(random(seed, row) >> 63 == 1))))
            }
            Made::Numbered { prefix, numbers } => {
                let mut builder = StringBuilder::with_capacity(count, count * self.width());
                let mut text = String::new();
                for row in rows.clone() {
                    text.clear();
                    let _ = write!(text, "{prefix}{}", numbers.at(seed, row));
                    builder.append_value(&text);
                }
                Arc::new(builder.finish())
            }
            Made::Choice(values) => {
                let mut builder = StringBuilder::with_capacity(count, count * self.width());
                for row in rows.clone() {
                    builder.append_value(&values[below(random(seed, row), values.len() as u64 - 1) as usize]);
                }
                Arc::new(builder.finish())
            }
            Made::Noise(length) => {
                let mut builder = StringBuilder::with_capacity(count, count * length);
                let mut text = String::new();
                for row in rows.clone() {
                    text.clear();
                    let mut part = random(seed, row);
                    while text.len() < *length {
                        let _ = write!(text, "{part:016x}");
                        part = random(part, row);
                    }
                    builder.append_value(&text[..*length]);
                }
                Arc::new(builder.finish())
            }
        };
        let (made, lost) = convert(&made, &self.to)?;
        if !lost.is_empty() {
            return Err(Error::User(format!("a generated value does not fit {}; set min and max", sql_name(&self.to))));
        }
        if self.nulls == 0 {
            return Ok(made);
        }
        let mut valid = BooleanBufferBuilder::new(count);
        for row in rows {
            valid.append(random(!seed, row) >> 32 >= self.nulls);
        }
        let data = made.to_data().into_builder().nulls(Some(NullBuffer::new(valid.finish()))).build();
        Ok(make_array(data.map_err(|error| Error::Internal(format!("generated nulls: {error}")))?))
    }
}

/// The least and the greatest value of an integer type that fit into an `i64`.
fn bounds(of: &DataType) -> (i64, i64) {
    match of {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}
