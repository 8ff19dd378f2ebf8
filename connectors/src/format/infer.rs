//! What type a column has, judged by a sample of its values. It keeps the value of each of them, to the last digit.
//!
//! Whole numbers are BIGINT, other numbers DOUBLE; where one of them has digits that such a column would not keep, DECIMAL
//! of 38 digits, and VARCHAR if that does not hold them. `true` and `false` are BOOLEAN, `2013-01-31` is a DATE, points in
//! time in ISO 8601 (`2013-01-01T10:00:00Z`, `2013-01-01 10:00:00.5+02:00`) are TIMESTAMP in UTC, anything else is VARCHAR.
//! Values of several types take the type that holds them all.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema};

use crate::error::Error;
use crate::format::csv_tokens::{Cell, Cells};
use crate::format::json::{Lines, explain, no_object};
use crate::format::json_scan::{self, Fault, Kind, Scanner, unescaped};
use crate::format::numbers::Exact;
use crate::format::record::{Bad, Stand, not_utf8, rejection};
use crate::format::types::TIMESTAMP;
use crate::format::values::timestamp;

/// What is known of columns.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    pub(crate) columns: Vec<(String, Guess)>,
    /// The first record that is none.
    pub(crate) bad: Option<Bad>,
}

impl Guesses {
    /// The error for `what` that shows no columns; the bad record is of the file `bad_in`.
    pub(crate) fn no_columns(&self, what: &str, bad_in: &str) -> Error {
        match &self.bad {
            Some(bad) => rejection(Stand { source: bad_in, unit: "line", number: bad.lines as u64 + 1 }, bad),
            None => Error::User(format!("there are no rows in {what} to tell the columns; declare them")),
        }
    }
}

/// What a column may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Guess {
    /// No value but NULL was seen.
    #[default]
    Nothing,
    Boolean,
    Number(Numbers),
    /// `NaN` and the like as JSON has to write it, in quotes: a number if there are others.
    NotFinite,
    Date,
    Timestamp,
    Text,
    List(Box<Guess>),
    Struct(Vec<(String, Guess)>),
}

/// What is known of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Whether all are written as whole numbers.
    whole: bool,
    /// Whether a BIGINT holds all of them.
    narrow: bool,
    /// Whether a DOUBLE keeps all of them.
    kept: bool,
    /// Whether some are no number, or infinite.
    special: bool,
    /// The most digits before the point and behind it.
    before: u64,
    behind: u64,
}

impl Numbers {
    const SPECIAL: Numbers = Numbers { whole: false, narrow: false, kept: true, special: true, before: 1, behind: 0 };

    fn of(number: &Exact<'_>, text: &str) -> Numbers {
        let (before, behind) = number.extent();
        Numbers {
            whole: number.plain,
            narrow: number.plain && text.parse::<i64>().is_ok(),
            kept: number.kept_by_double(text),
            special: false,
            before,
            behind,
        }
    }

    fn or(self, other: Numbers) -> Numbers {
        Numbers {
            whole: self.whole && other.whole,
            narrow: self.narrow && other.narrow,
            kept: self.kept && other.kept,
            special: self.special || other.special,
            before: self.before.max(other.before),
            behind: self.behind.max(other.behind),
        }
    }

    fn data_type(self) -> DataType {
        if self.whole && self.narrow {
            return DataType::Int64;
        }
        if !self.whole && self.kept {
            return DataType::Float64;
        }
        let fits = self.before + self.behind <= u64::from(DECIMAL128_MAX_PRECISION) && !self.special;
        match i8::try_from(self.behind) {
            Ok(scale) if fits => DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale),
            _ => DataType::Utf8,
        }
    }
}

impl Guess {
    /// The type of a field of CSV text.
    pub(crate) fn of_text(text: &str) -> Guess {
        let text = text.trim();
        let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
        match digits {
            // A number that begins with a zero, or with a plus, is a code: its digits count, not its value.
            [b'0', b'0'..=b'9', ..] | [b'+', ..] => Guess::of_string(text),
            [b'0'..=b'9' | b'.', ..] => Guess::of_number(text).unwrap_or_else(|| Guess::of_string(text)),
            _ if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => Guess::Boolean,
            _ if is_not_finite(text) => Guess::Number(Numbers::SPECIAL),
            _ => Guess::Text,
        }
    }

    fn of_number(text: &str) -> Option<Guess> {
        Some(Guess::Number(Numbers::of(&Exact::of(text)?, text)))
    }

    /// The type of a JSON string.
    fn of_string(text: &str) -> Guess {
        if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) || timestamp(text).is_none() {
            return if is_not_finite(text) { Guess::NotFinite } else { Guess::Text };
        }
        if text.len() == 10 { Guess::Date } else { Guess::Timestamp }
    }

    /// The type of a JSON value, which was looked through before.
    fn of_json(bytes: &[u8], cell: json_scan::Cell) -> Guess {
        let (start, end) = (cell.start as usize, cell.end as usize);
        let text = || std::str::from_utf8(&bytes[start..end]).unwrap_or_default();
        match cell.kind {
            Kind::Null => Guess::Nothing,
            Kind::Bare if matches!(bytes[start], b't' | b'f') => Guess::Boolean,
            Kind::Bare => Guess::of_number(text()).unwrap_or(Guess::Text),
            Kind::Text => Guess::of_string(text()),
            Kind::Escaped => Guess::of_string(&unescaped(text())),
            Kind::List => {
                let mut all = Guess::Nothing;
                let items = Scanner::new(bytes, start, end).list(|item| {
                    all = std::mem::take(&mut all).or(Guess::of_json(bytes, item));
                });
                items.map_or(Guess::Text, |()| Guess::List(Box::new(all)))
            }
            Kind::Object => {
                let fields = fields(bytes, &mut Scanner::new(bytes, start, end));
                fields.map_or(Guess::Text, Guess::Struct)
            }
        }
    }

    /// The type that holds the values of both.
    pub(crate) fn or(self, other: Guess) -> Guess {
        use Guess::{Date, List, NotFinite, Nothing, Number, Struct, Text, Timestamp};
        match (self, other) {
            (Nothing, guess) | (guess, Nothing) => guess,
            (Number(a), Number(b)) => Number(a.or(b)),
            (Number(a), NotFinite) | (NotFinite, Number(a)) => Number(a.or(Numbers::SPECIAL)),
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (List(a), List(b)) => List(Box::new(a.or(*b))),
            (Struct(a), Struct(b)) => Struct(merge(a, b)),
            (a, b) if a == b => a,
            _ => Text,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Guess::Nothing | Guess::NotFinite | Guess::Text => DataType::Utf8,
            Guess::Boolean => DataType::Boolean,
            Guess::Number(numbers) => numbers.data_type(),
            Guess::Date => DataType::Date32,
            Guess::Timestamp => TIMESTAMP,
            Guess::List(inner) => DataType::List(Arc::new(Field::new("item", inner.data_type(), true))),
            Guess::Struct(fields) => DataType::Struct(fields_of(fields)),
        }
    }
}

fn is_not_finite(text: &str) -> bool {
    matches!(text, "NaN" | "inf" | "-inf" | "Infinity" | "-Infinity")
}

/// The fields of both, in the order in which they appeared.
pub(crate) fn merge(mut a: Vec<(String, Guess)>, b: Vec<(String, Guess)>) -> Vec<(String, Guess)> {
    for (position, (name, guess)) in b.into_iter().enumerate() {
        // Records mostly have the same fields in the same order.
        let there = match a.get(position).is_some_and(|(there, _)| *there == name) {
            true => Some(position),
            false => a.iter().position(|(there, _)| *there == name),
        };
        match there {
            Some(there) => {
                let before = std::mem::take(&mut a[there].1);
                a[there].1 = before.or(guess);
            }
            None => a.push((name, guess)),
        }
    }
    a
}

fn fields_of(guesses: &[(String, Guess)]) -> Fields {
    guesses.iter().map(|(name, guess)| Field::new(name, guess.data_type(), true)).collect()
}

/// The schema of columns so judged; every column may be NULL.
pub(crate) fn schema(guesses: &[(String, Guess)]) -> Schema {
    Schema::new(fields_of(guesses))
}

/// What the fields of CSV records are.
pub(crate) fn csv(names: &[String], cells: &Cells<'_>) -> Guesses {
    let column = |(slot, name): (usize, &String)| {
        let mut guess = Guess::Nothing;
        for row in 0..cells.rows() {
            match cells.get(row, slot) {
                Cell::Null => continue,
                Cell::Text(text) => guess = guess.or(Guess::of_text(&text)),
                Cell::NotUtf8 => guess = Guess::Text,
            }
            if guess == Guess::Text {
                break;
            }
        }
        (name.clone(), guess)
    };
    Guesses { columns: names.iter().enumerate().map(column).collect(), bad: None }
}

/// What the fields of JSON objects are. Lines that are no objects are left out: reading them tells what is wrong.
pub(crate) fn json(bytes: &[u8], lines: &Lines) -> Guesses {
    let mut all = Guesses::default();
    for (record, (line, _)) in lines.records.iter().enumerate() {
        let text = &bytes[line.clone()];
        let found = match std::str::from_utf8(text) {
            Err(_) => Err(not_utf8(text)),
            Ok(_) if !text.trim_ascii_start().starts_with(b"{") => Err(no_object(text)),
            Ok(_) => {
                let mut scanner = Scanner::new(text, 0, text.len());
                scanner.space();
                let fields = fields(text, &mut scanner).and_then(|fields| scanner.end().map(|()| fields));
                fields.map_err(|fault| explain(text, 0, fault))
            }
        };
        match found {
            Ok(fields) => all.columns = merge(all.columns, fields),
            Err(reason) if all.bad.is_none() => all.bad = Some(lines.bad(bytes, record, None, reason)),
            Err(_) => {}
        }
    }
    all
}

/// The fields of the object that begins where the scanner is.
fn fields(bytes: &[u8], scanner: &mut Scanner<'_>) -> Result<Vec<(String, Guess)>, Fault> {
    let mut fields = Vec::new();
    scanner.object(|scanner, key| {
        let value = scanner.value()?;
        let name = std::str::from_utf8(&bytes[key.start as usize..key.end as usize]).unwrap_or_default();
        let name = if key.kind == Kind::Escaped { Cow::Owned(unescaped(name)) } else { Cow::Borrowed(name) };
        fields.push((name.into_owned(), Guess::of_json(bytes, value)));
        Ok(())
    })?;
    Ok(merge(Vec::new(), fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The type that each of some texts alone has, and all of them together.
    fn together(texts: &[&str]) -> String {
        let all = texts.iter().fold(Guess::Nothing, |all, text| all.or(Guess::of_text(text)));
        crate::format::types::sql_name(&all.data_type())
    }

    #[test]
    fn texts() {
        for (text, name) in [
            ("12", "BIGINT"),
            ("-3", "BIGINT"),
            ("0", "BIGINT"),
            ("-0", "BIGINT"),
            (" 12 ", "BIGINT"),
            ("9223372036854775807", "BIGINT"),
            ("9223372036854775808", "DECIMAL(38, 0)"),
            ("18446744073709551615", "DECIMAL(38, 0)"),
            ("99999999999999999999999999999999999999", "DECIMAL(38, 0)"),
            ("100000000000000000000000000000000000000", "VARCHAR"),
            ("1.5", "DOUBLE"),
            ("0.5", "DOUBLE"),
            (".5", "DOUBLE"),
            ("1e3", "DOUBLE"),
            ("NaN", "DOUBLE"),
            ("inf", "DOUBLE"),
            ("nan", "VARCHAR"),
            ("0.30000000000000004", "DOUBLE"),
            ("0.1234567890123456789", "DECIMAL(38, 19)"),
            ("12345678901234567.89", "DECIMAL(38, 2)"),
            ("1e400", "VARCHAR"),
            ("1e-400", "VARCHAR"),
            // Codes: their digits count.
            ("007", "VARCHAR"),
            ("-007", "VARCHAR"),
            ("00", "VARCHAR"),
            ("00.5", "VARCHAR"),
            ("+1", "VARCHAR"),
            ("+4915112345678", "VARCHAR"),
            ("01067", "VARCHAR"),
            ("1_000", "VARCHAR"),
            ("1,000", "VARCHAR"),
            ("0x10", "VARCHAR"),
            ("1-2", "VARCHAR"),
            ("1.2.3", "VARCHAR"),
            ("-", "VARCHAR"),
            ("--1", "VARCHAR"),
            ("1e", "VARCHAR"),
            ("N123", "VARCHAR"),
            ("true", "BOOLEAN"),
            ("FALSE", "BOOLEAN"),
            ("yes", "VARCHAR"),
            ("t", "VARCHAR"),
            ("NULL", "VARCHAR"),
            ("null", "VARCHAR"),
            ("\\N", "VARCHAR"),
            ("2013-01-01", "DATE"),
            ("2024-02-29", "DATE"),
            ("2024-02-30", "VARCHAR"),
            ("2024-13-45", "VARCHAR"),
            ("2013-01-01T10:00:00Z", "TIMESTAMP"),
            ("2013-01-01 10:00:00.123+02:00", "TIMESTAMP"),
            ("2013-01-01T25:00:00", "VARCHAR"),
            ("10:00", "VARCHAR"),
            ("20240131", "BIGINT"),
        ] {
            assert_eq!(together(&[text]), name, "{text}");
        }
        for (texts, name) in [
            (&["1", "1.5"][..], "DOUBLE"),
            (&["9007199254740992", "1.0"], "DOUBLE"),
            (&["9007199254740993", "1.0"], "DECIMAL(38, 0)"),
            (&["9007199254740993", "1.25"], "DECIMAL(38, 2)"),
            (&["1", "18446744073709551615"], "DECIMAL(38, 0)"),
            (&["18446744073709551615", "NaN"], "VARCHAR"),
            (&["12345678901234567890123456789012345", "0.00001"], "VARCHAR"),
            (&["1", "007"], "VARCHAR"),
            (&["1", "x", "true", "1.5"], "VARCHAR"),
            (&["1", "true"], "VARCHAR"),
            (&["2013-01-01", "2013-01-01 10:00:00"], "TIMESTAMP"),
            (&["2013-01-01", "n/a"], "VARCHAR"),
            (&["1", "2013-01-01"], "VARCHAR"),
            (&["2013-01-01 10:00:00", "2013-01-01T10:00:00+01:00"], "TIMESTAMP"),
            (&[], "VARCHAR"),
        ] {
            assert_eq!(together(texts), name, "{texts:?}");
        }
    }

    #[test]
    fn json_values() {
        for (lines, name) in [
            (&["null"][..], "VARCHAR"),
            (&["1", "null"], "BIGINT"),
            (&["1", "1.5"], "DOUBLE"),
            (&["1.0"], "DOUBLE"),
            (&["1e3"], "DOUBLE"),
            (&["1e400"], "VARCHAR"),
            (&["18446744073709551615"], "DECIMAL(38, 0)"),
            (&["9007199254740993", "1.0"], "DECIMAL(38, 0)"),
            (&["123456789012345678901234567890", "1"], "DECIMAL(38, 0)"),
            (&["\"1\""], "VARCHAR"),
            (&["1", "\"1\""], "VARCHAR"),
            (&["1.5", "\"NaN\"", "\"-Infinity\""], "DOUBLE"),
            (&["\"NaN\""], "VARCHAR"),
            (&["true", "false"], "BOOLEAN"),
            (&["true", "1"], "VARCHAR"),
            (&["\"2024-01-31\""], "DATE"),
            (&["\"2024\\u002d01-31\""], "DATE"),
            (&["\"2024-01-31\"", "\"n/a\""], "VARCHAR"),
            (&["{\"a\":1}", "\"x\""], "VARCHAR"),
            (&["[1]", "2"], "VARCHAR"),
            (&["[]", "{}"], "VARCHAR"),
        ] {
            let text: String = lines.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect();
            let schema = schema(&json(text.as_bytes(), &Lines::of(text.as_bytes(), true, 100)).columns);
            assert_eq!(crate::format::types::sql_name(schema.field(0).data_type()), name, "{lines:?}");
        }
    }

    #[test]
    fn nested_json() {
        let text = b"{\"b\":1,\"a\":{\"x\":null,\"y\":[1]},\"t\":\"2013-01-01T10:00:00Z\"}\nbroken\n{\"b\":1.5,\"a\":{\"y\":[2.5],\"x\":\"s\"},\"c\":null}\n";
        let guesses = json(text, &Lines::of(text, true, 100));
        assert_eq!(guesses.bad.map(|bad| bad.lines), Some(1));
        let schema = schema(&guesses.columns);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["b", "a", "t", "c"]);
        assert_eq!(schema.field(0).data_type(), &DataType::Float64);
        assert_eq!(schema.field(2).data_type(), &TIMESTAMP);
        assert_eq!(schema.field(3).data_type(), &DataType::Utf8);
        let DataType::Struct(inner) = schema.field(1).data_type() else { panic!("a struct") };
        assert_eq!(inner[0].data_type(), &DataType::Utf8);
        assert!(matches!(inner[1].data_type(), DataType::List(item) if item.data_type() == &DataType::Float64));
    }
}
