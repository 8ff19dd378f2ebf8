//! Columns of texts to columns of values, whatever the texts come from: one text is the same value in CSV and JSON.
//!
//! A text is exactly a value of its column's type, or none; the only digits that are cut are those of a second's fraction
//! that the type has no room for.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::Result;
use crate::format::numbers::{Exact, decimal, double, float, long_decimal, uncommon_whole};
use crate::format::record::excerpt;
use crate::format::types::{convert, sql_name};
use crate::format::values::{self, Epoch, Timestamps};

/// A column as text.
pub(crate) trait Texts {
    /// How many there are.
    fn rows(&self) -> usize;

    /// Calls `put` with each text, or `None` for NULL; those for which it gives false are no values.
    fn each(&mut self, put: impl FnMut(Option<&str>) -> bool);

    /// Whether any of them is a VARCHAR.
    fn are_text(&self) -> bool {
        false
    }
}

/// The values of a type, if they are `wanted`; whether the texts are values is looked at in any case.
pub(crate) fn read(texts: &mut impl Texts, of: &DataType, epoch: Epoch, wanted: bool) -> Result<Option<ArrayRef>> {
    Ok(match of {
        DataType::Utf8 => text(texts, wanted),
        DataType::Boolean => boolean(texts, wanted),
        DataType::Int8 => parsed::<Int8Type>(texts, of, wanted, whole::<Int8Type>),
        DataType::Int16 => parsed::<Int16Type>(texts, of, wanted, whole::<Int16Type>),
        DataType::Int32 => parsed::<Int32Type>(texts, of, wanted, whole::<Int32Type>),
        DataType::Int64 => {
            parsed::<Int64Type>(texts, of, wanted, |text| values::whole(text).or_else(|| uncommon_whole(text)))
        }
        DataType::UInt8 => parsed::<UInt8Type>(texts, of, wanted, whole::<UInt8Type>),
        DataType::UInt16 => parsed::<UInt16Type>(texts, of, wanted, whole::<UInt16Type>),
        DataType::UInt32 => parsed::<UInt32Type>(texts, of, wanted, whole::<UInt32Type>),
        DataType::UInt64 => parsed::<UInt64Type>(texts, of, wanted, whole::<UInt64Type>),
        DataType::Float32 => parsed::<Float32Type>(texts, of, wanted, float),
        DataType::Float64 => parsed::<Float64Type>(texts, of, wanted, double),
        DataType::Decimal128(precision, scale) => {
            parsed::<Decimal128Type>(texts, of, wanted, |text| decimal(text, *precision, *scale))
        }
        DataType::Decimal256(precision, scale) => {
            parsed::<Decimal256Type>(texts, of, wanted, |text| long_decimal(text, *precision, *scale))
        }
        DataType::Date32 => parsed::<Date32Type>(texts, of, wanted, values::date),
        DataType::Time64(TimeUnit::Nanosecond) => {
            parsed::<Time64NanosecondType>(texts, of, wanted, values::time_of_day)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) if is_utc(zone.as_deref()) => {
            let mut times = Timestamps::default();
            match epoch {
                Epoch::Refused => parsed::<TimestampMicrosecondType>(texts, of, wanted, |text| times.read(text)),
                _ => parsed::<TimestampMicrosecondType>(texts, of, wanted, |text| {
                    epoch.micros(text).or_else(|| times.read(text))
                }),
            }
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) if is_utc(zone.as_deref()) => {
            parsed::<TimestampNanosecondType>(texts, of, wanted, |text| {
                epoch.nanos(text).or_else(|| values::nanos(text))
            })
        }
        DataType::Binary => binary(texts),
        _ => Some(converted(texts, of)?),
    })
}

/// What is wrong with a text that is no value of a type.
pub(crate) fn wrong(text: &str, of: &DataType, epoch: Epoch) -> String {
    let said = format!("'{}' is not of type {}", excerpt(text.as_bytes()), sql_name(of));
    let advice = match of {
        DataType::Timestamp(..) => epoch.advice(text),
        DataType::Decimal128(precision, scale) if decimal(text, 38, *scale).is_none() => {
            let rounds = text.parse::<f64>().is_ok_and(|value| value.abs() < 10_f64.powi(i32::from(*precision)));
            rounds.then(|| format!(": it has more than {scale} digits behind the point"))
        }
        _ => None,
    };
    said + &advice.unwrap_or_default()
}

/// Whether points in time are shown in UTC, so that one written without an offset is of UTC.
fn is_utc(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| matches!(zone, "+00:00" | "UTC" | "Z"))
}

#[inline]
fn whole<T: Parser>(text: &str) -> Option<T::Native>
where
    T::Native: TryFrom<i128>,
{
    T::parse(text).or_else(|| uncommon_whole(text))
}

fn text(texts: &mut impl Texts, wanted: bool) -> Option<ArrayRef> {
    if wanted {
        return Some(Arc::new(strings(texts)));
    }
    if !texts.are_text() {
        texts.each(|_| true);
    }
    None
}

fn strings(texts: &mut impl Texts) -> StringArray {
    let mut builder = StringBuilder::with_capacity(texts.rows(), texts.rows() * 8);
    texts.each(|text| {
        builder.append_option(text);
        true
    });
    builder.finish()
}

fn boolean(texts: &mut impl Texts, wanted: bool) -> Option<ArrayRef> {
    let mut builder = BooleanBuilder::with_capacity(texts.rows());
    texts.each(|text| {
        let value = text.map(values::boolean);
        builder.append_option(value.flatten());
        value != Some(None)
    });
    wanted.then(|| Arc::new(builder.finish()) as ArrayRef)
}

#[inline]
fn parsed<T: ArrowPrimitiveType>(
    texts: &mut impl Texts,
    of: &DataType,
    wanted: bool,
    mut parse: impl FnMut(&str) -> Option<T::Native>,
) -> Option<ArrayRef> {
    if !wanted {
        texts.each(|text| text.is_none_or(|text| parse(values::trimmed(text)).is_some()));
        return None;
    }
    let mut builder = PrimitiveBuilder::<T>::with_capacity(texts.rows()).with_data_type(of.clone());
    texts.each(|text| {
        let Some(text) = text else {
            builder.append_null();
            return true;
        };
        let value = parse(values::trimmed(text));
        builder.append_option(value);
        value.is_some()
    });
    Some(Arc::new(builder.finish()))
}

fn binary(texts: &mut impl Texts) -> Option<ArrayRef> {
    let mut builder = BinaryBuilder::with_capacity(texts.rows(), texts.rows() * 8);
    texts.each(|text| {
        let bytes = text.map(|text| values::bytes(values::trimmed(text)));
        let fits = bytes != Some(None);
        builder.append_option(bytes.flatten());
        fits
    });
    Some(Arc::new(builder.finish()))
}

/// Any other type, as arrow reads it.
fn converted(texts: &mut impl Texts, of: &DataType) -> Result<ArrayRef> {
    let text: ArrayRef = Arc::new(strings(texts));
    let (converted, lost) = convert(&text, of)?;
    let (mut lost, mut row) = (lost.into_iter().peekable(), 0);
    // A number without a unit would be so many months.
    let unitless = |text: &str| matches!(of, DataType::Interval(_)) && Exact::of(values::trimmed(text)).is_some();
    texts.each(|text| {
        row += 1;
        lost.next_if_eq(&(row - 1)).is_none() && !text.is_some_and(unitless)
    });
    Ok(converted)
}
