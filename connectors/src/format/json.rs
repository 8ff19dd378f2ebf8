//! JSON lines to rows: one object on each line; blank lines are nothing.
//!
//! A chunk of lines is decoded at once. When that fails, it is halved until the lines at fault stand alone.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use serde_json::Value;

use crate::connector::Wanted;
use crate::error::{Error, Result};
use crate::format::record::{Bad, Decoded, excerpt};
use crate::format::types::sql_name;
use crate::options::nearest;

/// Decodes JSON lines.
#[derive(Clone)]
pub(crate) struct JsonDecoder {
    wanted: Arc<Wanted>,
}

impl JsonDecoder {
    /// A decoder into rows of the `wanted` columns; a type that JSON can't give is an error.
    pub(crate) fn new(wanted: Wanted) -> Result<Self> {
        builder(&wanted.all, 1).build_decoder().map_err(|error| {
            Error::User(format!("these columns can't be read from JSON: {error}; declare another type"))
        })?;
        Ok(JsonDecoder { wanted: Arc::new(wanted) })
    }

    /// See [`crate::format::text::TextDecoder::records`].
    pub(crate) fn records(&self, bytes: &[u8], last: bool, max: usize) -> Result<Decoded> {
        let lines = Lines::of(bytes, last, max);
        let all = &self.wanted.all;
        let mut found = Found { schema: all, bytes, lines: &lines.records, batches: Vec::new(), bad: Vec::new() };
        found.read(0..lines.records.len())?;
        let (batches, bad) = (found.batches, found.bad);
        let internal = |error| Error::Internal(format!("rows of JSON can't be joined: {error}"));
        let rows = match batches.len() {
            0 => RecordBatch::new_empty(all.clone()),
            1 => batches[0].clone(),
            _ => concat_batches(all, &batches).map_err(internal)?,
        };
        let rows = rows.project(&self.wanted.places).map_err(internal)?;
        Ok(Decoded { consumed: lines.consumed, records: lines.records.len(), rows, bad })
    }
}

/// See [`crate::format::text::TextDecoder::skip`].
pub(crate) fn skip(bytes: &[u8], last: bool, max: usize) -> (usize, usize) {
    let lines = Lines::of(bytes, last, max);
    (lines.consumed, lines.records.len())
}

/// The complete lines at the front of some bytes, blank ones left out.
pub(crate) struct Lines {
    /// Where each stands, and the number of line ends before it.
    pub(crate) records: Vec<(Range<usize>, usize)>,
    pub(crate) consumed: usize,
}

impl Lines {
    pub(crate) fn of(bytes: &[u8], last: bool, max: usize) -> Lines {
        let mut lines = Lines { records: Vec::new(), consumed: 0 };
        let mut start = 0;
        for (number, end) in memchr::memchr_iter(b'\n', bytes).enumerate() {
            if lines.records.len() == max {
                return lines;
            }
            lines.add(bytes, start..end, number);
            start = end + 1;
            lines.consumed = start;
        }
        if last && lines.records.len() < max && start < bytes.len() {
            let number = crate::format::record::line_ends(&bytes[..start]);
            lines.add(bytes, start..bytes.len(), number);
            lines.consumed = bytes.len();
        }
        lines
    }

    fn add(&mut self, bytes: &[u8], line: Range<usize>, number: usize) {
        let line = match bytes[line.clone()].starts_with(b"\xEF\xBB\xBF") {
            true => line.start + 3..line.end,
            false => line,
        };
        if bytes[line.clone()].iter().any(|byte| !byte.is_ascii_whitespace()) {
            self.records.push((line, number));
        }
    }
}

fn builder(schema: &SchemaRef, rows: usize) -> ReaderBuilder {
    // One row more, so that the decoder never stops before the end of the lines.
    ReaderBuilder::new(schema.clone()).with_batch_size(rows + 1).with_coerce_primitive(true)
}

struct Found<'a> {
    schema: &'a SchemaRef,
    bytes: &'a [u8],
    lines: &'a [(Range<usize>, usize)],
    batches: Vec<RecordBatch>,
    bad: Vec<Bad>,
}

impl Found<'_> {
    fn read(&mut self, lines: Range<usize>) -> Result<()> {
        let Some(((first, _), (last, _))) = self.lines[lines.clone()].first().zip(self.lines[lines.clone()].last())
        else {
            return Ok(());
        };
        match rows(self.schema, &self.bytes[first.start..last.end], lines.len()) {
            Ok(batch) => self.batches.push(batch),
            Err(reason) if lines.len() == 1 => {
                let (column, reason) = explain(self.schema, &self.bytes[first.clone()], reason);
                let input = excerpt(&self.bytes[first.clone()]);
                let number = self.lines[lines.start].1;
                self.bad.push(Bad { record: lines.start, lines: number, column, input, reason });
            }
            Err(_) => {
                let middle = lines.start + lines.len() / 2;
                self.read(lines.start..middle)?;
                self.read(middle..lines.end)?;
            }
        }
        Ok(())
    }
}

/// The rows of `count` lines, or why there are not so many.
fn rows(schema: &SchemaRef, bytes: &[u8], count: usize) -> Result<RecordBatch, String> {
    let text = |error: arrow::error::ArrowError| error.to_string();
    let mut decoder = builder(schema, count).build_decoder().map_err(text)?;
    let taken = decoder.decode(bytes).map_err(text)?;
    if taken < bytes.len() || decoder.len() != count || decoder.has_partial_record() {
        return Err("a line must hold one JSON object".to_string());
    }
    let batch = decoder.flush().map_err(text)?;
    batch.filter(|batch| batch.num_rows() == count).ok_or_else(|| "a line must hold one JSON object".to_string())
}

/// The column at fault in a line that can't be read, and why.
fn explain(schema: &Schema, line: &[u8], reason: String) -> (Option<String>, String) {
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            return (None, format!("it is not a JSON object: {error}").replace(" at line 1 column", " at character"));
        }
    };
    let Value::Object(object) = &value else {
        let advice = match value {
            Value::Array(_) => "; write one object on each line",
            _ => "",
        };
        return (None, format!("it is JSON, but not an object{advice}"));
    };
    for field in schema.fields() {
        let alone = Arc::new(Schema::new(vec![field.clone()]));
        if rows(&alone, line, 1).is_err() {
            let reason = match object.get(field.name()) {
                None | Some(Value::Null) => "it is missing, but the column is NOT NULL".to_string(),
                Some(value) => {
                    let text = value.to_string();
                    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(&text);
                    format!("'{}' is not of type {}", excerpt(text.as_bytes()), sql_name(field.data_type()))
                }
            };
            return (Some(field.name().clone()), reason);
        }
    }
    (None, reason)
}

/// Refuses columns that no line of a sample has, where a field of nearly the same name is: a slip of the pen would give
/// nothing but NULL. A column may be missing otherwise; JSON leaves out what is null.
pub(crate) fn check_names(schema: &Schema, sample: &Schema, file: &str) -> Result<()> {
    for field in schema.fields() {
        if sample.fields().is_empty() || sample.field_with_name(field.name()).is_ok() {
            continue;
        }
        let free = sample.fields().iter().map(|f| f.name().as_str()).filter(|f| schema.field_with_name(f).is_err());
        if let Some(near) = nearest(field.name(), free) {
            return Err(Error::Data(format!(
                "{file} has no field '{}' in its first lines; did you mean '{near}'?",
                field.name()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    fn decoder() -> JsonDecoder {
        let fields = vec![
            Field::new("n", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("t", crate::format::types::TIMESTAMP, true),
        ];
        JsonDecoder::new(Wanted::all(Arc::new(Schema::new(fields)))).expect("a decoder")
    }

    #[test]
    fn bad_lines_are_found() {
        let text = "{\"n\":1}\n\n{\"n\":\"x\"}\r\n[1]\n{\"n\":2,\"s\":7,\"t\":\"2013-01-01T10:00:00Z\"}\n{\"n\":\n{\"n\":3} {\"n\":4}\n{\"n\":5}";
        let decoded = decoder().records(text.as_bytes(), true, 100).expect("rows");
        assert_eq!(decoded.rows.column(0).as_primitive::<Int64Type>().values()[..], [1, 2, 5]);
        assert_eq!(decoded.rows.column(1).as_string::<i32>().value(1), "7");
        assert_eq!((decoded.records, decoded.consumed), (7, text.len()));
        let bad: Vec<_> = decoded.bad.iter().map(|b| (b.record, b.lines + 1, b.column.as_deref())).collect();
        assert_eq!(bad, vec![(1, 3, Some("n")), (2, 4, None), (4, 6, None), (5, 7, None)]);
        assert_eq!(decoded.bad[0].reason, "'x' is not of type BIGINT");
    }

    #[test]
    fn an_unfinished_line_waits() {
        let decoded = decoder().records(b"{\"n\":1}\n{\"n\":2}", false, 100).expect("rows");
        assert_eq!((decoded.records, decoded.consumed), (1, 8));
        let decoded = decoder().records(b"{\"n\":1}\n{\"n\":2}\n", false, 1).expect("rows");
        assert_eq!((decoded.records, decoded.consumed), (1, 8));
    }
}
