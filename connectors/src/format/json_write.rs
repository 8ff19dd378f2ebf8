//! Rows to JSON lines: one object on each line, with every column, NULL as `null`.

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

use crate::error::{Error, Result};

/// Appends the rows to `out`.
pub(crate) fn write(out: &mut Vec<u8>, rows: &RecordBatch) -> Result<()> {
    let wrong = |error| Error::User(format!("these columns can't be written as JSON: {error}"));
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
    writer.write(rows).map_err(wrong)?;
    writer.finish().map_err(wrong)
}
