//! CSV text to rows.
//!
//! A chunk of complete records is cut into fields once and then parsed column by column. A value that does not fit its
//! column marks its record as bad; the other records are rows. So a broken line costs nothing to find and hides nothing.

use std::sync::Arc;

use crate::connector::Wanted;
use crate::error::{Error, Result};
use crate::format::csv_tokens::{Cell, Cells, Dialect, Row, Tokens, UNWANTED, tokenize};
use crate::format::infer::Guess;
use crate::format::record::{Bad, Decoded, check_encoding, excerpt, line_ends, not_utf8};
use crate::format::typed::{self, Texts, wrong};
use crate::format::types::sql_name;
use crate::format::values::Epoch;
use crate::options::nearest;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// The columns of a file: how many, and where each goes.
#[derive(Debug)]
struct Layout {
    width: usize,
    /// For each field of a record, its column in the schema, or [`UNWANTED`].
    slots: Vec<u32>,
}

/// Decodes one CSV file. Clones share what its head said.
#[derive(Clone)]
pub(crate) struct CsvDecoder {
    dialect: Arc<Dialect>,
    epoch: Epoch,
    wanted: Arc<Wanted>,
    /// What the file is called, for messages.
    name: Arc<str>,
    /// Known once the head is read.
    layout: Option<Arc<Layout>>,
}

impl CsvDecoder {
    /// A decoder for the file `name` into rows of the `wanted` columns.
    pub(crate) fn new(dialect: Dialect, epoch: Epoch, wanted: Wanted, name: &str) -> Result<Self> {
        for field in wanted.all.fields() {
            if field.data_type().is_nested() {
                return Err(Error::User(format!(
                    "column '{}' is a {}, which CSV has no way to write; declare it as VARCHAR, or use json or parquet",
                    field.name(),
                    sql_name(field.data_type())
                )));
            }
        }
        let (dialect, wanted) = (Arc::new(dialect), Arc::new(wanted));
        Ok(CsvDecoder { dialect, epoch, wanted, name: name.into(), layout: None })
    }

    /// The same for another file, whose head is still to be read.
    pub(crate) fn named(&self, name: &str) -> CsvDecoder {
        CsvDecoder { name: name.into(), layout: None, ..self.clone() }
    }

    /// See [`crate::format::text::TextDecoder::head`].
    pub(crate) fn head(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        if self.layout.is_some() {
            return Ok(Some(0));
        }
        if bytes.len() < 3 && !last {
            return Ok(None);
        }
        check_encoding(bytes, &self.name)?;
        let mark = mark(bytes);
        if !self.dialect.header {
            check_line_ends(&bytes[mark..], self.dialect.quote, &self.name)?;
            let slots: Vec<u32> = (0..self.wanted.all.fields().len() as u32).collect();
            self.layout = Some(Arc::new(Layout { width: slots.len(), slots }));
            return Ok(Some(mark));
        }
        let Some((names, taken)) = header(&self.dialect, &bytes[mark..], last, &self.name)? else {
            return Ok(None);
        };
        self.layout = Some(Arc::new(layout(&names, &self.wanted.all, &self.name)?));
        Ok(Some(mark + taken))
    }

    fn layout(&self) -> Result<&Layout> {
        self.layout.as_deref().ok_or_else(|| internal("the head was not read"))
    }

    /// See [`crate::format::text::TextDecoder::records`].
    pub(crate) fn records(&self, bytes: &[u8], last: bool, max: usize) -> Result<Decoded> {
        let layout = self.layout()?;
        let mut tokens = tokenize(&self.dialect, bytes, last, max, Some(layout.width), &layout.slots);
        let mut bad = std::mem::take(&mut tokens.bad);
        let rows = self.rows(&tokens, bytes, &mut bad)?;
        Ok(Decoded { consumed: tokens.consumed, records: tokens.records, rows, bad })
    }

    /// See [`crate::format::text::TextDecoder::skip`].
    pub(crate) fn skip(&self, bytes: &[u8], last: bool, max: usize) -> Result<(usize, usize)> {
        let tokens = tokenize(&self.dialect, bytes, last, max, Some(self.layout()?.width), &[]);
        Ok((tokens.consumed, tokens.records))
    }

    /// See [`crate::format::text::TextDecoder::whole`].
    pub(crate) fn whole(&self, bytes: &[u8]) -> Result<usize> {
        // A line end between quotes ends no record. Where there are none, the last line end is the last record's.
        match self.dialect.quote.is_some_and(|quote| memchr::memchr(quote, bytes).is_some()) {
            true => Ok(self.skip(bytes, false, usize::MAX)?.0),
            false => Ok(memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1)),
        }
    }

    fn rows(&self, tokens: &Tokens, body: &[u8], bad: &mut Vec<Bad>) -> Result<RecordBatch> {
        let cells = Cells::new(tokens, body, &self.dialect);
        let mut faults = Faults { reasons: Vec::new(), epoch: self.epoch };
        let mut columns = vec![None; self.wanted.places.len()];
        for (slot, field) in self.wanted.all.fields().iter().enumerate() {
            let place = self.wanted.places.iter().position(|place| *place == slot);
            let mut column = Column { cells: &cells, slot, field, faults: &mut faults };
            let values = typed::read(&mut column, field.data_type(), self.epoch, place.is_some())?;
            if let Some(place) = place {
                columns[place] = values;
            }
        }
        let columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
        if faults.reasons.is_empty() {
            return batch(self.wanted.schema.clone(), columns, cells.rows());
        }

        let mut keep = vec![true; cells.rows()];
        faults.reasons.sort_by_key(|(row, slot, _)| (*row, *slot));
        faults.reasons.dedup_by_key(|(row, _, _)| *row);
        let mut lines_before = (0, 0);
        for (row, slot, reason) in faults.reasons {
            keep[row] = false;
            let Row { record, start, end } = tokens.row(row);
            let lines = lines_before.1 + line_ends(&body[lines_before.0..start]);
            lines_before = (start, lines);
            let column = Some(self.wanted.all.field(slot).name().clone());
            let reason = if reason.is_empty() { not_utf8(&body[start..end]) } else { reason };
            bad.push(Bad { record, lines, column, input: excerpt(&body[start..end]), reason });
        }
        bad.sort_by_key(|bad| bad.record);
        // Bad rows may be null where the schema says that nothing is, until they are filtered out.
        let loose: Vec<Field> =
            self.wanted.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let all = batch(Arc::new(Schema::new(loose)), columns, cells.rows())?;
        let good = filter_record_batch(&all, &BooleanArray::from(keep)).map_err(internal)?;
        batch(self.wanted.schema.clone(), good.columns().to_vec(), good.num_rows())
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a batch of rows could not be made: {error}"))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(internal)
}

/// Refuses text whose first line ends with CR alone, as those of old Macs do.
fn check_line_ends(bytes: &[u8], quote: Option<u8>, file: &str) -> Result<()> {
    let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let quoted = quote.is_some_and(|quote| line.contains(&quote));
    if quoted || !line.contains(&b'\r') {
        return Ok(());
    }
    Err(Error::Data(format!(
        "{file}: its lines end with CR alone; write LF or CR LF at the end of each (tr '\\r' '\\n' does)"
    )))
}

/// The length of the byte order mark at the front.
fn mark(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 }
}

/// The names in the first record, and the bytes it takes; `None` if it is not complete.
fn header(dialect: &Dialect, bytes: &[u8], last: bool, file: &str) -> Result<Option<(Vec<String>, usize)>> {
    let plain = Dialect { null: None, ..dialect.clone() };
    let tokens = tokenize(&plain, bytes, last, 1, None, &[]);
    if let Some(bad) = tokens.bad.first() {
        return Err(Error::Data(format!("{file} line {}: the header can't be read: {}", bad.lines + 1, bad.reason)));
    }
    if tokens.records == 0 {
        return Ok(None);
    }
    check_line_ends(&bytes[..tokens.consumed], dialect.quote, file)?;
    let cells = Cells::new(&tokens, bytes, &plain);
    let mut names: Vec<String> = Vec::new();
    for slot in 0..cells.slots() {
        let name = match cells.get(0, slot) {
            Cell::Text(text) if !text.trim().is_empty() => text.trim().to_string(),
            Cell::Text(_) | Cell::Null => format!("column_{}", slot + 1),
            Cell::NotUtf8 => {
                let reason = not_utf8(&bytes[..tokens.consumed]);
                return Err(Error::Data(format!("{file} line 1: the header can't be read: {reason}")));
            }
        };
        if names.contains(&name) {
            return Err(Error::Data(format!(
                "{file}: the header names the column '{name}' twice; rename one, or set header = 'false' and declare \
                 the columns"
            )));
        }
        names.push(name);
    }
    Ok(Some((names, tokens.consumed)))
}

/// Where the fields called `names` go. Every column of the schema must be there; other fields are not read.
fn layout(names: &[String], schema: &Schema, file: &str) -> Result<Layout> {
    let mut slots = vec![UNWANTED; names.len()];
    for (slot, field) in schema.fields().iter().enumerate() {
        let position = find(names.iter().map(String::as_str), field.name()).ok_or_else(|| {
            let hint = "; if the file has no header, set header = 'false'";
            missing(file, field.name(), names.iter().map(String::as_str), hint)
        })?;
        slots[position] = slot as u32;
    }
    Ok(Layout { width: names.len(), slots })
}

/// The position of a column: by its exact name, else by its name in any case if only one fits.
pub(crate) fn find<'a>(names: impl Iterator<Item = &'a str> + Clone, name: &str) -> Option<usize> {
    names.clone().position(|there| there == name).or_else(|| {
        let mut fitting = names.enumerate().filter(|(_, there)| there.eq_ignore_ascii_case(name));
        match (fitting.next(), fitting.next()) {
            (Some((position, _)), None) => Some(position),
            _ => None,
        }
    })
}

/// The error for a declared column that a file does not have.
pub(crate) fn missing<'a>(file: &str, column: &str, names: impl Iterator<Item = &'a str> + Clone, hint: &str) -> Error {
    let meant = nearest(column, names.clone()).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
    let names: Vec<_> = names.collect();
    Error::Data(format!("{file} has no column '{column}'{meant} (it has {}{hint})", names.join(", ")))
}

/// What is wrong: (row, slot, reason).
struct Faults {
    reasons: Vec<(usize, usize, String)>,
    epoch: Epoch,
}

impl Faults {
    /// The reason is left open: the record tells it.
    fn not_utf8(&mut self, row: usize, slot: usize) {
        self.reasons.push((row, slot, String::new()));
    }

    fn null(&mut self, row: usize, slot: usize) {
        self.reasons.push((row, slot, "it is empty, but the column is NOT NULL".to_string()));
    }

    fn wrong(&mut self, row: usize, slot: usize, text: &str, to: &DataType) {
        self.reasons.push((row, slot, wrong(text, to, self.epoch)));
    }
}

/// One column of the good records. Bad values are named in the faults.
struct Column<'a, 'b> {
    cells: &'a Cells<'b>,
    slot: usize,
    field: &'a Field,
    faults: &'a mut Faults,
}

impl Texts for Column<'_, '_> {
    fn rows(&self) -> usize {
        self.cells.rows()
    }

    #[inline(always)]
    fn each(&mut self, mut put: impl FnMut(Option<&str>) -> bool) {
        let (slot, field, faults) = (self.slot, self.field, &mut *self.faults);
        self.cells.each(slot, |row, cell| match cell {
            Cell::Text(text) => {
                if !put(Some(&text)) {
                    faults.wrong(row, slot, &text, field.data_type());
                }
            }
            Cell::Null => {
                put(None);
                if !field.is_nullable() {
                    faults.null(row, slot);
                }
            }
            Cell::NotUtf8 => {
                put(None);
                faults.not_utf8(row, slot);
            }
        });
    }

    fn are_text(&self) -> bool {
        self.cells.is_text() && self.field.is_nullable()
    }
}

/// The names of a file's columns and up to `max` of its first records, for inference. `None`: the head is not complete.
pub(crate) fn sample<T>(
    dialect: &Dialect,
    header_given: bool,
    bytes: &[u8],
    last: bool,
    max: usize,
    file: &str,
    look: impl FnOnce(&[String], &Cells<'_>) -> T,
) -> Result<Option<T>> {
    let body = &bytes[mark(bytes)..];
    let (names, body) = if dialect.header {
        let Some((names, taken)) = header(dialect, body, last, file)? else { return Ok(None) };
        if let (Some(name), false) = (names.first(), header_given)
            && !matches!(Guess::of_text(name), Guess::Text | Guess::Boolean)
        {
            return Err(Error::Data(format!(
                "{file}: its first line should name the columns, but begins with the value '{name}'; declare the table \
                 with header = 'false', or with header = 'true' if that is a name"
            )));
        }
        (names, &body[taken..])
    } else {
        check_line_ends(body, dialect.quote, file)?;
        let first = tokenize(dialect, body, last, 1, None, &[]);
        if first.records == 0 {
            return Ok(None);
        }
        let width = Cells::new(&first, body, dialect).slots();
        ((1..=width).map(|number| format!("column_{number}")).collect(), body)
    };
    let slots: Vec<u32> = (0..names.len() as u32).collect();
    let tokens = tokenize(dialect, body, last, max, Some(names.len()), &slots);
    Ok(Some(look(&names, &Cells::new(&tokens, body, dialect))))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    fn decoder(fields: Vec<Field>, header: bool) -> CsvDecoder {
        let dialect = Dialect { header, delimiter: b',', quote: Some(b'"'), escape: None, null: Some("NA".into()) };
        let wanted = Wanted::all(Arc::new(Schema::new(fields)));
        CsvDecoder::new(dialect, Epoch::Refused, wanted, "t.csv").expect("a decoder")
    }

    fn decode(mut decoder: CsvDecoder, text: &[u8]) -> Result<Decoded> {
        let head = decoder.head(text, true)?.expect("a whole head");
        let mut decoded = decoder.records(&text[head..], true, 100)?;
        decoded.consumed += head;
        decoded.bad.iter_mut().for_each(|bad| bad.lines += line_ends(&text[..head]));
        Ok(decoded)
    }

    fn field(name: &str, of: DataType) -> Field {
        Field::new(name, of, true)
    }

    #[test]
    fn columns_go_by_name_and_null_text_is_null() {
        let fields = vec![
            field("b", DataType::Int64),
            field("t", crate::format::types::TIMESTAMP),
            field("d", DataType::Decimal128(10, 2)),
        ];
        let text = "\u{feff}a,B,d,t\nx,1,1.50,2013-01-01T10:00:00Z\ny,NA,,2013-01-01 12:00:00+02:00\n";
        let decoded = decode(decoder(fields, true), text.as_bytes()).expect("rows");
        assert_eq!((decoded.records, decoded.consumed, decoded.bad.len()), (2, text.len(), 0));
        assert_eq!(decoded.rows.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        let times = decoded.rows.column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values()[..], [1_357_034_400_000_000, 1_357_034_400_000_000]);
        assert!(decoded.rows.column(2).is_null(1));
    }

    #[test]
    fn bad_values_are_found_and_the_rest_is_read() {
        let fields = vec![field("n", DataType::Int32), Field::new("s", DataType::Utf8, false)];
        let text = b"n,s\n1,a\nx,b\n\"2\",\"c\nc\"\n3,\n4,d\xff\n99999999999,e\n5,f\n";
        let decoded = decode(decoder(fields, true), text).expect("rows");
        assert_eq!(decoded.rows.column(0).as_primitive::<Int32Type>().values()[..], [1, 2, 5]);
        assert_eq!(decoded.records, 7);
        let bad: Vec<_> =
            decoded.bad.iter().map(|b| (b.record, b.lines + 1, b.column.as_deref(), b.reason.as_str())).collect();
        assert_eq!(
            bad,
            vec![
                (1, 3, Some("n"), "'x' is not of type INT"),
                (3, 6, Some("s"), "it is empty, but the column is NOT NULL"),
                (4, 7, Some("s"), &not_utf8(b"4,d\xff")),
                (5, 8, Some("n"), "'99999999999' is not of type INT"),
            ]
        );
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = decode(decoder(vec![field("dep_dely", DataType::Int64)], true), b"carrier,dep_delay\nUA,2\n")
            .expect_err("no such column");
        assert_eq!(
            error.to_string(),
            "t.csv has no column 'dep_dely'; did you mean 'dep_delay'? (it has carrier, dep_delay; if the file has no \
             header, set header = 'false')"
        );
    }
}
