//! Types: their SQL names for messages, the ones that tables have, and conversions that never lose a value silently.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::util::display::FormatOptions;

use crate::error::{Error, Result};

/// The type of inferred points in time: microseconds, UTC, whether written with `Z`, with an offset or without.
pub(crate) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The SQL name of a type.
pub fn sql_name(of: &DataType) -> String {
    match of {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => "(0)",
                TimeUnit::Millisecond => "(3)",
                TimeUnit::Microsecond => "",
                TimeUnit::Nanosecond => "(9)",
            };
            let zone = if zone.is_some() { " WITH TIME ZONE" } else { "" };
            format!("TIMESTAMP{digits}{zone}")
        }
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Dictionary(_, value) => sql_name(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("{}[]", sql_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The type that a table has for a type of a file: microseconds for points in time, plain text for views and
/// dictionaries.
pub(crate) fn normalized(of: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), normalized(field.data_type()), field.is_nullable()))
    };
    match of {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => normalized(value),
        DataType::List(inner) => DataType::List(field(inner)),
        DataType::LargeList(inner) => DataType::LargeList(field(inner)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// The schema that a table has for the schema of a file.
pub(crate) fn normalized_schema(of: &Schema) -> SchemaRef {
    let fields: Vec<Field> = of
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), normalized(field.data_type()), field.is_nullable()))
        .collect();
    Arc::new(Schema::new(fields))
}

/// Whether values of `from` can be read into a column declared as `to`, each one exactly or not at all.
pub(crate) fn convertible(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Date32, Date64, LargeBinary, LargeUtf8, Timestamp, Utf8, Utf8View};
    let text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let binary = |t: &DataType| matches!(t, Binary | LargeBinary | BinaryView);
    let date = |t: &DataType| matches!(t, Date32 | Date64);
    match (from, to) {
        _ if from == to || normalized(from) == normalized(to) => true,
        (DataType::Dictionary(_, value), _) => convertible(value, to),
        (DataType::List(a), DataType::List(b)) => convertible(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|(a, b)| a.name() == b.name() && convertible(a.data_type(), b.data_type()))
        }
        _ => {
            (text(from) && text(to))
                || (binary(from) && binary(to))
                || (from.is_integer() && to.is_numeric())
                || (from.is_floating() && to.is_floating())
                || (decimal_scale(from).is_some() && to.is_floating())
                || matches!((decimal_scale(from), decimal_scale(to)), (Some(from), Some(to)) if from <= to)
                || (date(from) && (date(to) || matches!(to, Timestamp(_, _))))
                || matches!((from, to), (Timestamp(_, _), Timestamp(_, _)))
        }
    }
}

/// Whether every value of the column `from` of a file is one of the column `to` as declared.
pub(crate) fn always_fits(from: &Field, to: &Field) -> bool {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let (from_type, to_type) = (from.data_type(), to.data_type());
    (from_type == to_type || text(from_type) && text(to_type)) && (to.is_nullable() || !from.is_nullable())
}

fn decimal_scale(of: &DataType) -> Option<i8> {
    match of {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

/// Converts a column; where a value does not fit, the result is null, and its row is in the list.
pub(crate) fn convert(values: &ArrayRef, to: &DataType) -> Result<(ArrayRef, Vec<usize>)> {
    if values.data_type() == to {
        return Ok((values.clone(), Vec::new()));
    }
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    let converted = cast_with_options(values, to, &options).map_err(|error| {
        let from = sql_name(values.data_type());
        Error::User(format!("{from} can't be read as {}: {error}", sql_name(to)))
    })?;
    let lost = match converted.null_count() > values.null_count() {
        false => Vec::new(),
        true => (0..values.len()).filter(|row| converted.is_null(*row) && !values.is_null(*row)).collect(),
    };
    Ok((converted, lost))
}
