//! Rows to JSON lines: one object on each line, with every column, NULL as `null`.
//!
//! JSON has no word for what is no number, or infinite: they are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, which
//! are read back as numbers.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder};

use crate::error::{Error, Result};

/// Appends the rows to `out`.
pub(crate) fn write(out: &mut Vec<u8>, rows: &RecordBatch) -> Result<()> {
    let wrong = |error| Error::User(format!("these columns can't be written as JSON: {error}"));
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(NotFinite));
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(rows).map_err(wrong)?;
    writer.finish().map_err(wrong)
}

/// Writes columns of floats that are not all finite.
#[derive(Debug)]
struct NotFinite;

impl EncoderFactory for NotFinite {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Float32 => encoder(array.as_primitive::<Float32Type>()),
            DataType::Float64 => encoder(array.as_primitive::<Float64Type>()),
            _ => None,
        })
    }
}

fn encoder<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>) -> Option<NullableEncoder<'_>>
where
    T::Native: Into<f64>,
{
    let finite = values.iter().flatten().all(|value| value.into().is_finite());
    (!finite).then(|| NullableEncoder::new(Box::new(Floats { values }), values.nulls().cloned()))
}

struct Floats<'a, T: ArrowPrimitiveType> {
    values: &'a PrimitiveArray<T>,
}

impl<T: ArrowPrimitiveType> Encoder for Floats<'_, T>
where
    T::Native: Into<f64>,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.values.value(row);
        let double: f64 = value.into();
        let written = match double {
            _ if double.is_nan() => write!(out, "\"NaN\""),
            f64::INFINITY => write!(out, "\"Infinity\""),
            f64::NEG_INFINITY => write!(out, "\"-Infinity\""),
            _ => write!(out, "{value:?}"),
        };
        // Memory takes all that is written to it.
        debug_assert!(written.is_ok());
    }
}
