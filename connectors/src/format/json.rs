//! JSON lines to rows: one object on each line; blank lines are nothing.
//!
//! Each line is looked through once, which tells whether it is JSON and where the values of its columns are; then they are
//! read column by column. If a value does not fit its column, its line is set apart and the others are read once more.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;

use crate::connector::Wanted;
use crate::error::{Error, Result};
use crate::format::json_columns::{self, Names, Source, Table, Wrong};
use crate::format::json_scan::{Cell, Fault, Scanner};
use crate::format::record::{Bad, Decoded, excerpt, not_utf8};
use crate::format::values::Epoch;
use crate::options::nearest;

/// Decodes JSON lines.
#[derive(Clone)]
pub(crate) struct JsonDecoder {
    wanted: Arc<Wanted>,
    epoch: Epoch,
}

impl JsonDecoder {
    /// A decoder into rows of the `wanted` columns; a type that JSON can't give is an error.
    pub(crate) fn new(epoch: Epoch, wanted: Wanted) -> Result<Self> {
        wanted.all.fields().iter().try_for_each(|field| json_columns::check(field))?;
        Ok(JsonDecoder { wanted: Arc::new(wanted), epoch })
    }

    /// See [`crate::format::text::TextDecoder::records`].
    pub(crate) fn records(&self, bytes: &[u8], last: bool, max: usize) -> Result<Decoded> {
        // Places are kept as u32; what lies beyond is for the next call.
        let (bytes, last) = match bytes.len() > u32::MAX as usize {
            true => (&bytes[..u32::MAX as usize], false),
            false => (bytes, last),
        };
        let lines = Lines::of(bytes, last, max);
        let fields = self.wanted.all.fields();
        let source = Source::new(&bytes[..lines.consumed], self.epoch);
        let (mut names, mut bad) = (Names::new(fields), Vec::new());
        let (mut cells, mut good) = (Vec::with_capacity(lines.records.len() * fields.len()), Vec::new());
        for (record, (line, _)) in lines.records.iter().enumerate() {
            let from = cells.len();
            cells.resize(from + fields.len(), Cell::default());
            match scan(&source, line, &mut names, &mut cells[from..]) {
                Ok(()) => good.push(record),
                Err(reason) => {
                    cells.truncate(from);
                    bad.push(lines.bad(bytes, record, None, reason));
                }
            }
        }
        let mut table = Table { source, cells, slots: fields.len(), rows: good.len() };
        let mut wrong = Vec::new();
        let mut columns = self.columns(&table, &mut wrong)?;
        if !wrong.is_empty() {
            wrong.sort_by_key(|(row, ..)| *row);
            wrong.dedup_by_key(|(row, ..)| *row);
            let mut keep = vec![true; table.rows];
            for (row, column, reason) in wrong.drain(..) {
                keep[row] = false;
                bad.push(lines.bad(bytes, good[row], Some(column), reason));
            }
            bad.sort_by_key(|bad| bad.record);
            let rows = (0..table.rows).filter(|row| keep[*row]);
            let slots = table.slots;
            let cells: Vec<Cell> = rows.flat_map(|row| &table.cells[row * slots..(row + 1) * slots]).copied().collect();
            table = Table { rows: keep.iter().filter(|keep| **keep).count(), cells, ..table };
            columns = self.columns(&table, &mut wrong)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(table.rows));
        let rows = RecordBatch::try_new_with_options(self.wanted.schema.clone(), columns, &options)
            .map_err(|error| Error::Internal(format!("rows of JSON can't be made: {error}")))?;
        Ok(Decoded { consumed: lines.consumed, records: lines.records.len(), rows, bad })
    }

    /// The wanted columns, and what is wrong with any.
    fn columns(&self, table: &Table<'_>, wrong: &mut Vec<Wrong>) -> Result<Vec<ArrayRef>> {
        let mut columns = vec![None; self.wanted.places.len()];
        for (slot, field) in self.wanted.all.fields().iter().enumerate() {
            let place = self.wanted.places.iter().position(|place| *place == slot);
            let values = table.read(slot, field, "", place.is_some(), wrong)?;
            if let Some(place) = place {
                columns[place] = values;
            }
        }
        Ok(columns.into_iter().flatten().collect())
    }
}

/// The cells of the object on a line, or why it is none.
fn scan(source: &Source<'_>, line: &Range<usize>, names: &mut Names<'_>, cells: &mut [Cell]) -> Result<(), String> {
    let bytes = &source.bytes[line.clone()];
    if source.text.is_none() && std::str::from_utf8(bytes).is_err() {
        return Err(not_utf8(bytes));
    }
    let mut scanner = Scanner::new(source.bytes, line.start, line.end);
    scanner.space();
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(no_object(bytes));
    }
    names
        .object(source, &mut scanner, cells)
        .and_then(|()| scanner.end())
        .map_err(|fault| explain(bytes, line.start, fault))
}

/// What is wrong with a line that does not begin with an object.
pub(crate) fn no_object(line: &[u8]) -> String {
    let mut scanner = Scanner::new(line, 0, line.len());
    let whole = scanner.value().and_then(|_| scanner.end());
    match line.trim_ascii().first() {
        Some(b'[') => {
            "it is a list, not an object; write one object on each line, without brackets around all of them and \
                       commas between them (jq -c '.[]' does)"
                .to_string()
        }
        _ => match whole {
            Ok(()) => "it is JSON, but not an object; write one object on each line".to_string(),
            Err(fault) => explain(line, 0, fault),
        },
    }
}

/// What is wrong with a line that is not JSON, and at which character.
pub(crate) fn explain(line: &[u8], start: usize, fault: Fault) -> String {
    let place = (fault.at - start).min(line.len());
    let character = String::from_utf8_lossy(&line[..place]).chars().count() + 1;
    let cut = fault.at - start >= line.trim_ascii_end().len();
    let advice = match cut || fault.what.starts_with("something follows") {
        true => "; write one object on each line (jq -c . does)",
        false => "",
    };
    format!("it is not a JSON object: {} at character {character}{advice}", fault.what)
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

    /// A line that is no row.
    pub(crate) fn bad(&self, bytes: &[u8], record: usize, column: Option<String>, reason: String) -> Bad {
        let (line, lines) = self.records[record].clone();
        Bad { record, lines, column, input: excerpt(&bytes[line]), reason }
    }
}

/// Refuses columns that no line of a sample has, where a field of nearly the same name is: a slip of the pen would give
/// nothing but NULL. A column may be missing otherwise; JSON leaves out what is null.
pub(crate) fn check_names(schema: &Schema, sample: &Schema, file: &str) -> Result<()> {
    for field in schema.fields() {
        let there = sample.fields().iter().any(|there| there.name().eq_ignore_ascii_case(field.name()));
        if sample.fields().is_empty() || there {
            continue;
        }
        let taken = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let free = sample.fields().iter().map(|f| f.name().as_str()).filter(|name| !taken(name));
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
        JsonDecoder::new(Epoch::Refused, Wanted::all(Arc::new(Schema::new(fields)))).expect("a decoder")
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
