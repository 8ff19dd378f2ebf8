//! Values of JSON to columns: fields by their names, lists and objects by what is in them, anything else by its text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeListArray, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use crate::error::{Error, Result};
use crate::format::json_scan::{Cell, Fault, Kind, Scanner, unescaped};
use crate::format::record::excerpt;
use crate::format::typed::{self, Texts};
use crate::format::types::sql_name;
use crate::format::values::Epoch;

/// The bytes of some lines, and the same as text if all of them are.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) text: Option<&'a str>,
    pub(crate) epoch: Epoch,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8], epoch: Epoch) -> Source<'a> {
        Source { bytes, text: std::str::from_utf8(bytes).ok(), epoch }
    }

    /// The text of a cell as it is written. Lines that are not UTF-8 have no cells.
    #[inline]
    fn raw(&self, cell: Cell) -> &'a str {
        let range = cell.start as usize..cell.end as usize;
        match self.text {
            Some(text) => text.get(range),
            None => std::str::from_utf8(&self.bytes[range]).ok(),
        }
        .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn text(&self, cell: Cell) -> Cow<'a, str> {
        let raw = self.raw(cell);
        match cell.kind {
            Kind::Escaped => Cow::Owned(unescaped(raw)),
            _ => Cow::Borrowed(raw),
        }
    }

    fn scanner(&self, cell: Cell) -> Scanner<'a> {
        Scanner::new(self.bytes, cell.start as usize, cell.end as usize)
    }
}

/// What is wrong with rows: row, column (with the way to it where it is nested), reason.
pub(crate) type Wrong = (usize, String, String);

/// Which of some fields a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Exactly(usize),
    /// But for upper and lower case.
    Nearly(usize),
    Nothing,
}

/// The fields of an object, to be found by name: by its exact name, else by its name in any case if only one field has it.
pub(crate) struct Names<'a> {
    fields: &'a Fields,
    known: HashMap<String, Meaning>,
    /// For the object under way: which fields were found, by what.
    found: Vec<Meaning>,
}

/// How many names that are not those of fields are remembered.
const MOST_KNOWN: usize = 10_000;

impl<'a> Names<'a> {
    pub(crate) fn new(fields: &'a Fields) -> Names<'a> {
        let known = fields.iter().enumerate().map(|(slot, field)| (field.name().clone(), Meaning::Exactly(slot)));
        Names { fields, known: known.collect(), found: vec![Meaning::Nothing; fields.len()] }
    }

    #[inline]
    fn meaning(&mut self, name: &str, expected: usize) -> Meaning {
        // Objects mostly have the same fields in the same order.
        if self.fields.get(expected).is_some_and(|field| field.name() == name) {
            return Meaning::Exactly(expected);
        }
        if let Some(meaning) = self.known.get(name) {
            return *meaning;
        }
        let mut near = self.fields.iter().enumerate().filter(|(_, field)| field.name().eq_ignore_ascii_case(name));
        let meaning = match (near.next(), near.next()) {
            (Some((slot, _)), None) => Meaning::Nearly(slot),
            _ => Meaning::Nothing,
        };
        if self.known.len() < MOST_KNOWN + self.fields.len() {
            self.known.insert(name.to_string(), meaning);
        }
        meaning
    }

    /// The cells of the object that begins where the scanner is: one for each field.
    pub(crate) fn object(
        &mut self,
        source: &Source<'_>,
        scanner: &mut Scanner<'_>,
        cells: &mut [Cell],
    ) -> std::result::Result<(), Fault> {
        self.found.fill(Meaning::Nothing);
        let mut expected = 0;
        scanner.object(|scanner, key| {
            let name = source.text(key);
            let meaning = self.meaning(&name, expected);
            let value = scanner.value()?;
            let (Meaning::Exactly(slot) | Meaning::Nearly(slot)) = meaning else { return Ok(()) };
            match (self.found[slot], meaning) {
                (Meaning::Exactly(_), Meaning::Exactly(_)) => {
                    let what = format!("the name '{name}' comes twice");
                    return Err(Fault { at: key.start as usize - 1, what: what.into() });
                }
                (Meaning::Nearly(_), Meaning::Nearly(_)) => {
                    let what = format!("the name '{name}' comes twice, but for upper and lower case");
                    return Err(Fault { at: key.start as usize - 1, what: what.into() });
                }
                (Meaning::Exactly(_), _) => return Ok(()),
                _ => {}
            }
            self.found[slot] = meaning;
            cells[slot] = value;
            expected = slot + 1;
            Ok(())
        })
    }
}

/// Cells of rows, `slots` for each.
pub(crate) struct Table<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) slots: usize,
    pub(crate) rows: usize,
}

impl Table<'_> {
    fn column(&self, slot: usize) -> impl Iterator<Item = Cell> + '_ {
        (0..self.rows).map(move |row| self.cells[row * self.slots + slot])
    }

    /// A column, if it is wanted and no row is wrong. What is wrong is put down in any case; `way` leads to the column.
    pub(crate) fn read(
        &self,
        slot: usize,
        field: &Field,
        way: &str,
        wanted: bool,
        wrong: &mut Vec<Wrong>,
    ) -> Result<Option<ArrayRef>> {
        let way = if way.is_empty() { field.name().clone() } else { format!("{way}.{}", field.name()) };
        if !field.is_nullable() {
            for (row, cell) in self.column(slot).enumerate() {
                // What is nested in nothing may be nothing.
                if cell.kind == Kind::Null && cell.end != NOWHERE {
                    wrong.push((row, way.clone(), "it is null or missing, but the column is NOT NULL".to_string()));
                }
            }
        }
        self.values(slot, field.data_type(), &way, wanted, wrong)
    }

    fn values(
        &self,
        slot: usize,
        of: &DataType,
        way: &str,
        wanted: bool,
        wrong: &mut Vec<Wrong>,
    ) -> Result<Option<ArrayRef>> {
        match of {
            DataType::Struct(fields) => self.objects(slot, fields, way, wanted, wrong),
            DataType::List(item) | DataType::LargeList(item) => self.lists(slot, of, item, way, wanted, wrong),
            _ => {
                let (source, before) = (self.source, wrong.len());
                let values = typed::read(&mut Column { table: self, slot, of, way, wrong }, of, source.epoch, wanted)?;
                Ok(values.filter(|_| wrong.len() == before))
            }
        }
    }

    fn not_of_type(&self, cell: Cell, of: &DataType) -> String {
        format!("'{}' is not of type {}", excerpt(self.source.text(cell).as_bytes()), sql_name(of))
    }

    fn objects(
        &self,
        slot: usize,
        fields: &Fields,
        way: &str,
        wanted: bool,
        wrong: &mut Vec<Wrong>,
    ) -> Result<Option<ArrayRef>> {
        let before = wrong.len();
        let mut names = Names::new(fields);
        let nowhere = Cell { start: 0, end: NOWHERE, kind: Kind::Null };
        let mut cells = vec![Cell::default(); self.rows * fields.len()];
        for (row, cell) in self.column(slot).enumerate() {
            let cells = &mut cells[row * fields.len()..(row + 1) * fields.len()];
            match cell.kind {
                Kind::Object => {
                    if let Err(fault) = names.object(&self.source, &mut self.source.scanner(cell), cells) {
                        wrong.push((row, way.to_string(), fault.what.into_owned()));
                    }
                }
                Kind::Null => cells.fill(nowhere),
                _ => {
                    let of = DataType::Struct(fields.clone());
                    wrong.push((row, way.to_string(), self.not_of_type(cell, &of)));
                    cells.fill(nowhere);
                }
            }
        }
        let inner = Table { source: self.source, cells, slots: fields.len(), rows: self.rows };
        let mut columns = Vec::with_capacity(fields.len());
        for (slot, field) in fields.iter().enumerate() {
            columns.extend(inner.read(slot, field, way, wanted, wrong)?);
        }
        if !wanted || wrong.len() > before {
            return Ok(None);
        }
        let there: NullBuffer = self.column(slot).map(|cell| cell.kind != Kind::Null).collect();
        let values = match fields.is_empty() {
            true => StructArray::new_empty_fields(self.rows, Some(there)),
            false => StructArray::try_new(fields.clone(), columns, Some(there)).map_err(internal)?,
        };
        Ok(Some(Arc::new(values)))
    }

    fn lists(
        &self,
        slot: usize,
        of: &DataType,
        item: &Arc<Field>,
        way: &str,
        wanted: bool,
        wrong: &mut Vec<Wrong>,
    ) -> Result<Option<ArrayRef>> {
        let before = wrong.len();
        let (mut cells, mut ends) = (Vec::new(), Vec::with_capacity(self.rows));
        for (row, cell) in self.column(slot).enumerate() {
            match cell.kind {
                // It was looked through before.
                Kind::List => drop(self.source.scanner(cell).list(|cell| cells.push(cell))),
                Kind::Null => {}
                _ => wrong.push((row, way.to_string(), self.not_of_type(cell, of))),
            }
            ends.push(cells.len());
        }
        let lengths = ends.iter().scan(0, |from, end| Some(end - std::mem::replace(from, *end)));
        let offsets = OffsetBuffer::<i64>::from_lengths(lengths);
        let inner = Table { source: self.source, rows: cells.len(), cells, slots: 1 };
        let mut wrong_items = Vec::new();
        if !item.is_nullable() {
            for (place, _) in inner.column(0).enumerate().filter(|(_, cell)| cell.kind == Kind::Null) {
                wrong_items.push((place, String::new(), "it is null, but what is in the list is NOT NULL".to_string()));
            }
        }
        // The way goes on behind the place in the list, which is not known yet.
        let items = inner.values(0, item.data_type(), "", wanted, &mut wrong_items)?;
        for (place, inside, reason) in wrong_items {
            let row = ends.partition_point(|end| *end <= place);
            let first = row.checked_sub(1).map_or(0, |before| ends[before]);
            let dot = if inside.is_empty() || inside.starts_with('[') { "" } else { "." };
            wrong.push((row, format!("{way}[{}]{dot}{inside}", place - first + 1), reason));
        }
        let Some(items) = items.filter(|_| wrong.len() == before) else { return Ok(None) };
        let there: NullBuffer = self.column(slot).map(|cell| cell.kind != Kind::Null).collect();
        Ok(Some(match of {
            DataType::LargeList(_) => {
                Arc::new(LargeListArray::try_new(item.clone(), offsets, items, Some(there)).map_err(internal)?)
            }
            _ => {
                let narrow: Vec<i32> =
                    offsets.iter().map(|end| i32::try_from(*end).map_err(internal)).collect::<Result<_>>()?;
                let offsets = OffsetBuffer::new(narrow.into());
                Arc::new(ListArray::try_new(item.clone(), offsets, items, Some(there)).map_err(internal)?)
            }
        }))
    }
}

/// Where cells end that are in no object: there is nothing to be missing from.
const NOWHERE: u32 = u32::MAX;

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("rows of JSON can't be made: {error}"))
}

/// One column, of values that have no parts. A VARCHAR takes what has parts, too, as it is written.
struct Column<'a, 'b> {
    table: &'a Table<'b>,
    slot: usize,
    of: &'a DataType,
    way: &'a str,
    wrong: &'a mut Vec<Wrong>,
}

impl Texts for Column<'_, '_> {
    fn rows(&self) -> usize {
        self.table.rows
    }

    #[inline(always)]
    fn each(&mut self, mut put: impl FnMut(Option<&str>) -> bool) {
        let source = &self.table.source;
        for (row, cell) in self.table.column(self.slot).enumerate() {
            if cell.kind == Kind::Null {
                put(None);
                continue;
            }
            let text = source.text(cell);
            if !put(Some(&text)) {
                let reason = match cell.kind {
                    Kind::Bare | Kind::Text | Kind::Escaped => typed::wrong(&text, self.of, source.epoch),
                    _ => self.table.not_of_type(cell, self.of),
                };
                self.wrong.push((row, self.way.to_string(), reason));
            }
        }
    }

    fn are_text(&self) -> bool {
        true
    }
}

/// Refuses types that no JSON is read into.
pub(crate) fn check(field: &Field) -> Result<()> {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field)),
        DataType::List(item) | DataType::LargeList(item) => check(item),
        of if of.is_nested() => Err(Error::User(format!(
            "column '{}' is a {}, which can't be read from JSON; declare another type",
            field.name(),
            sql_name(of)
        ))),
        of => {
            let none: Vec<Cell> = Vec::new();
            let table = Table { source: Source::new(b"", Epoch::Refused), cells: none, slots: 1, rows: 0 };
            let read = table.values(0, of, field.name(), true, &mut Vec::new());
            read.map(drop).map_err(|error| {
                Error::User(format!("column '{}' can't be read from JSON: {error}; declare another type", field.name()))
            })
        }
    }
}
