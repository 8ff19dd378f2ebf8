//! Rows to CSV text, so that reading it again gives the same rows: an empty text is quoted, NULL is not.

use std::fmt::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::format::csv_tokens::Dialect;
use crate::format::types::sql_name;

/// Refuses columns that CSV has no way to write.
pub(crate) fn check(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(field) => Err(Error::User(format!(
            "column '{}' is a {}, which CSV has no way to write; use format json or parquet",
            field.name(),
            sql_name(field.data_type())
        ))),
    }
}

/// Appends the line that names the columns.
pub(crate) fn write_header(out: &mut Vec<u8>, schema: &Schema, dialect: &Dialect) -> Result<()> {
    for (position, field) in schema.fields().iter().enumerate() {
        separate(out, position, dialect);
        put(out, field.name(), true, dialect)?;
    }
    out.push(b'\n');
    Ok(())
}

/// Appends the rows.
pub(crate) fn write(out: &mut Vec<u8>, rows: &RecordBatch, dialect: &Dialect) -> Result<()> {
    let options = FormatOptions::default().with_display_error(false);
    let columns = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::User(format!("these columns can't be written as CSV: {error}")))?;
    let mut text = String::new();
    for row in 0..rows.num_rows() {
        for (position, column) in columns.iter().enumerate() {
            separate(out, position, dialect);
            let values = rows.column(position);
            if values.is_null(row) {
                out.extend_from_slice(dialect.null.as_deref().unwrap_or_default().as_bytes());
                continue;
            }
            text.clear();
            write!(text, "{}", column.value(row)).map_err(|_| {
                Error::Data(format!("a value of column '{}' can't be written", rows.schema().field(position).name()))
            })?;
            let is_text = matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            put(out, &text, is_text, dialect)?;
        }
        out.push(b'\n');
    }
    Ok(())
}

fn separate(out: &mut Vec<u8>, position: usize, dialect: &Dialect) {
    if position > 0 {
        out.push(dialect.delimiter);
    }
}

fn put(out: &mut Vec<u8>, text: &str, is_text: bool, dialect: &Dialect) -> Result<()> {
    let special = |byte: u8| byte == dialect.delimiter || byte == b'\n' || byte == b'\r' || Some(byte) == dialect.quote;
    let like_null = text.is_empty() || is_text && dialect.null.as_deref() == Some(text);
    if !like_null && !text.bytes().any(special) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let Some(quote) = dialect.quote else {
        return Err(Error::Data(format!("'{text}' can't be written to CSV without quotes; set csv.quote-character")));
    };
    out.push(quote);
    for byte in text.bytes() {
        if byte == quote || Some(byte) == dialect.escape {
            out.push(dialect.escape.unwrap_or(quote));
        }
        out.push(byte);
    }
    out.push(quote);
    Ok(())
}
