//! What type a column has, judged by a sample of its values.
//!
//! Whole numbers are BIGINT, other numbers DOUBLE, `true` and `false` BOOLEAN, `2013-01-31` DATE, points in time in
//! ISO 8601 (`2013-01-01T10:00:00Z`, `2013-01-01 10:00:00.5+02:00`) TIMESTAMP in UTC, anything else VARCHAR. Values of
//! several types take the type that holds them all.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::format::csv_tokens::{Cell, Cells};
use crate::format::json::Lines;
use crate::format::types::TIMESTAMP;
use crate::format::values::timestamp;

/// What a column may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Guess {
    /// No value but NULL was seen.
    #[default]
    Nothing,
    Boolean,
    Integer,
    Float,
    Date,
    Timestamp,
    Text,
    List(Box<Guess>),
    Struct(Vec<(String, Guess)>),
}

impl Guess {
    /// The type of a field of CSV text.
    pub(crate) fn of_text(text: &str) -> Guess {
        let text = text.trim();
        let number = match text.as_bytes() {
            [b'+' | b'-', rest @ ..] => rest,
            all => all,
        };
        match number.first() {
            Some(byte) if byte.is_ascii_digit() || *byte == b'.' => {
                if number.iter().all(u8::is_ascii_digit) {
                    // More digits than a BIGINT holds are an identifier rather than a quantity.
                    return if text.parse::<i64>().is_ok() { Guess::Integer } else { Guess::Text };
                }
                if number.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
                    && text.parse::<f64>().is_ok()
                {
                    return Guess::Float;
                }
                Guess::of_string(text)
            }
            _ if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => Guess::Boolean,
            _ if matches!(text, "NaN" | "inf" | "-inf" | "Infinity" | "-Infinity") => Guess::Float,
            _ => Guess::Text,
        }
    }

    /// The type of a JSON string.
    fn of_string(text: &str) -> Guess {
        if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) || timestamp(text).is_none() {
            return Guess::Text;
        }
        if text.len() == 10 { Guess::Date } else { Guess::Timestamp }
    }

    /// The type that holds the values of both.
    pub(crate) fn or(self, other: Guess) -> Guess {
        use Guess::{Date, Float, Integer, List, Nothing, Struct, Text, Timestamp};
        match (self, other) {
            (Nothing, guess) | (guess, Nothing) => guess,
            (Integer, Float) | (Float, Integer) => Float,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            (List(a), List(b)) => List(Box::new(a.or(*b))),
            (Struct(a), Struct(b)) => Struct(merge(a, b)),
            (a, b) if a == b => a,
            _ => Text,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Guess::Nothing | Guess::Text => DataType::Utf8,
            Guess::Boolean => DataType::Boolean,
            Guess::Integer => DataType::Int64,
            Guess::Float => DataType::Float64,
            Guess::Date => DataType::Date32,
            Guess::Timestamp => TIMESTAMP,
            Guess::List(inner) => DataType::List(Arc::new(Field::new("item", inner.data_type(), true))),
            Guess::Struct(fields) => DataType::Struct(fields_of(fields)),
        }
    }
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
pub(crate) fn csv(names: &[String], cells: &Cells<'_>) -> Vec<(String, Guess)> {
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
    names.iter().enumerate().map(column).collect()
}

/// What the fields of JSON objects are. Lines that are no objects are left out: reading them tells what is wrong.
pub(crate) fn json(bytes: &[u8], lines: &Lines) -> Vec<(String, Guess)> {
    let mut all = Vec::new();
    for (line, _) in &lines.records {
        if let Ok(Guess::Struct(fields)) = serde_json::from_slice(&bytes[line.clone()]) {
            all = merge(all, fields);
        }
    }
    all
}

impl<'de> Deserialize<'de> for Guess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Guess, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Guess;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Guess, E> {
        Ok(Guess::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Guess, E> {
        Ok(Guess::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Guess, E> {
        Ok(Guess::Integer)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Guess, E> {
        Ok(if value <= i64::MAX as u64 { Guess::Integer } else { Guess::Text })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Guess, E> {
        Ok(Guess::Float)
    }

    fn visit_str<E>(self, text: &str) -> Result<Guess, E> {
        Ok(Guess::of_string(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Guess, A::Error> {
        let mut all = Guess::Nothing;
        while let Some(item) = items.next_element::<Guess>()? {
            all = all.or(item);
        }
        Ok(Guess::List(Box::new(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Guess, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry::<String, Guess>()? {
            fields = merge(fields, vec![entry]);
        }
        Ok(Guess::Struct(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, guess) in [
            ("12", Guess::Integer),
            ("-3", Guess::Integer),
            ("1.5", Guess::Float),
            ("1e3", Guess::Float),
            ("12345678901234567890", Guess::Text),
            ("true", Guess::Boolean),
            ("2013-01-01", Guess::Date),
            ("2013-01-01T10:00:00Z", Guess::Timestamp),
            ("2013-01-01 10:00:00.123+02:00", Guess::Timestamp),
            ("10:00", Guess::Text),
            ("1-2", Guess::Text),
            ("N123", Guess::Text),
            ("-", Guess::Text),
        ] {
            assert_eq!(Guess::of_text(text), guess, "{text}");
        }
        assert_eq!(Guess::Integer.or(Guess::Float), Guess::Float);
        assert_eq!(Guess::Integer.or(Guess::Date), Guess::Text);
    }

    #[test]
    fn nested_json() {
        let text = b"{\"b\":1,\"a\":{\"x\":null,\"y\":[1]},\"t\":\"2013-01-01T10:00:00Z\"}\nbroken\n{\"b\":1.5,\"a\":{\"y\":[2.5],\"x\":\"s\"},\"c\":null}\n";
        let guesses = json(text, &Lines::of(text, true, 100));
        let schema = schema(&guesses);
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
