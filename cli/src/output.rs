//! Answers as text for programs.

use std::io::{self, Write};

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::json::{LineDelimitedWriter, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Writes an object a row, a line each.
pub fn json(out: &mut dyn Write, rows: &RecordBatch) -> io::Result<()> {
    let failed = |error| match error {
        // As it came: a reader that has gone is no failure.
        ArrowError::IoError(_, error) => error,
        error => io::Error::other(error),
    };
    let mut writer: LineDelimitedWriter<_> = WriterBuilder::new().with_explicit_nulls(true).build(out);
    writer.write(rows).and_then(|()| writer.finish()).map_err(failed)
}

/// Writes a header and the rows; NULL is an empty field.
pub fn csv(out: &mut dyn Write, rows: &RecordBatch) -> io::Result<()> {
    let schema = rows.schema();
    let names: Vec<_> = schema.fields().iter().map(|f| quoted(f.name())).collect();
    writeln!(out, "{}", names.join(","))?;
    let options = FormatOptions::default();
    let columns: Vec<_> = rows.columns().iter().map(flat).collect::<Result<_, _>>().map_err(io::Error::other)?;
    let cells: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    for row in 0..rows.num_rows() {
        for (index, (column, cell)) in columns.iter().zip(&cells).enumerate() {
            if index > 0 {
                out.write_all(b",")?;
            }
            if column.is_valid(row) {
                out.write_all(quoted(&cell.value(row).try_to_string().map_err(io::Error::other)?).as_bytes())?;
            }
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A CSV field; an empty string is quoted, since nothing at all is NULL.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

/// The column itself, or each of its values as JSON where a value has parts.
fn flat(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let nested = matches!(
        column.data_type(),
        DataType::Struct(_)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::Map(..)
    );
    if !nested {
        return Ok(column.clone());
    }
    let field = std::sync::Arc::new(arrow::datatypes::Field::new("value", column.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, column, &options)?;
    let texts: Vec<Option<String>> = (0..column.len())
        .map(|row| {
            column.is_valid(row).then(|| {
                let mut text = Vec::new();
                encoder.encode(row, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        })
        .collect();
    Ok(std::sync::Arc::new(StringArray::from(texts)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StructArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema, TimeUnit};

    use super::*;

    fn sample() -> RecordBatch {
        let start = TimestampMicrosecondArray::from(vec![Some(0), Some(60_000_000), None]);
        let parts = vec![(
            Arc::new(Field::new("start", DataType::Timestamp(TimeUnit::Microsecond, None), true)),
            Arc::new(start) as ArrayRef,
        )];
        let window: ArrayRef = Arc::new(StructArray::from(parts));
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\""), Some(""), None]));
        let count: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]));
        let schema = Schema::new(vec![
            Field::new("window", window.data_type().clone(), true),
            Field::new("name", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![window, name, count]).unwrap()
    }

    fn written(write: impl Fn(&mut dyn Write, &RecordBatch) -> io::Result<()>, rows: &RecordBatch) -> String {
        let mut out = Vec::new();
        write(&mut out, rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_tells_null_from_empty_and_keeps_nested_values() {
        assert_eq!(
            written(csv, &sample()),
            "window,name,count\n\
             \"{\"\"start\"\":\"\"1970-01-01T00:00:00\"\"}\",\"a,\"\"b\"\"\",1\n\
             \"{\"\"start\"\":\"\"1970-01-01T00:01:00\"\"}\",\"\",\n\
             \"{\"\"start\"\":null}\",,-3\n"
        );
        assert_eq!(written(csv, &sample().slice(0, 0)), "window,name,count\n");
    }

    #[test]
    fn json_is_an_object_a_row_with_nulls() {
        let text = written(json, &sample());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], r#"{"window":{"start":"1970-01-01T00:01:00"},"name":"","count":null}"#);
        assert_eq!(written(json, &sample().slice(0, 0)), "");
    }

    #[test]
    fn a_reader_that_has_gone_is_known_as_that() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        for write in
            [json, csv, |out: &mut dyn Write, rows: &RecordBatch| crate::table::draw(out, rows, Default::default())]
        {
            let error = write(&mut Gone, &sample()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
