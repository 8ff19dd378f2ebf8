//! What a text is in a column of each type, in CSV and JSON; and that what is written is read back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch, StringArray,
    StructArray, Time64NanosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit, i256};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::connector::Wanted;
use crate::format::csv::CsvDecoder;
use crate::format::csv_tokens::Dialect;
use crate::format::json::{JsonDecoder, Lines};
use crate::format::parquet::ParquetReader;
use crate::format::record::Decoded;
use crate::format::types::{TIMESTAMP, sql_name};
use crate::format::values::Epoch;
use crate::format::{csv, csv_write, infer, json_write};

fn dialect() -> Dialect {
    Dialect { header: true, delimiter: b',', quote: Some(b'"'), escape: None, null: None }
}

fn wanted(fields: &[Field]) -> Wanted {
    Wanted::all(Arc::new(Schema::new(fields.to_vec())))
}

fn read_csv(text: &[u8], fields: &[Field], epoch: Epoch) -> Decoded {
    let mut decoder = CsvDecoder::new(dialect(), epoch, wanted(fields), "t.csv").expect("a decoder");
    let head = decoder.head(text, true).expect("a head").expect("a whole head");
    decoder.records(&text[head..], true, usize::MAX).expect("records")
}

fn read_json(text: &[u8], fields: &[Field], epoch: Epoch) -> Decoded {
    let decoder = JsonDecoder::new(epoch, wanted(fields)).expect("a decoder");
    decoder.records(text, true, usize::MAX).expect("records")
}

/// Values as text; NULL is `None`.
fn shown(values: &ArrayRef) -> Vec<Option<String>> {
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(values.as_ref(), &options).expect("a formatter");
    let text = |row| formatter.value(row).try_to_string().expect("a text");
    (0..values.len()).map(|row| (!values.is_null(row)).then(|| text(row))).collect()
}

/// The value of the only row, or what is wrong with it.
fn only(decoded: &Decoded) -> Result<Option<String>, String> {
    match &decoded.bad[..] {
        [] => Ok(shown(decoded.rows.column(0)).remove(0)),
        [bad] => {
            assert_eq!((bad.column.as_deref(), decoded.rows.num_rows()), (Some("v"), 0));
            Err(bad.reason.clone())
        }
        more => panic!("{more:?}"),
    }
}

/// What a text is as a field of CSV, as a string of JSON, and bare where JSON can have it so.
fn ways(text: &str, of: &DataType, epoch: Epoch) -> Vec<(&'static str, Result<Option<String>, String>)> {
    let fields = [Field::new("v", of.clone(), true)];
    let quoted = format!("v,w\n\"{}\",\n", text.replace('"', "\"\""));
    let string = serde_json::Value::from(text).to_string();
    let mut ways = vec![
        ("quoted", only(&read_csv(quoted.as_bytes(), &fields, epoch))),
        ("string", only(&read_json(format!("{{\"v\":{string}}}\n").as_bytes(), &fields, epoch))),
    ];
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        ways.push(("plain", only(&read_csv(format!("v,w\n{text},\n").as_bytes(), &fields, epoch))));
    }
    if serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_number() || value.is_boolean()) {
        ways.push(("bare", only(&read_json(format!("{{\"v\":{text}}}\n").as_bytes(), &fields, epoch))));
    }
    ways
}

const MICROS_IN_UTC: fn() -> DataType = || DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
const NANOS: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// A text, and the value that it is, as it is shown; `Err` if it is none.
type Expected = (&'static str, Result<&'static str, ()>);

#[test]
fn texts_of_declared_types() {
    use DataType::*;
    let none = Err::<&str, ()>(());
    let table: Vec<(DataType, Vec<Expected>)> = vec![
        (
            Boolean,
            vec![
                ("true", Ok("true")),
                ("FALSE", Ok("false")),
                ("t", Ok("true")),
                ("no", Ok("false")),
                ("1", Ok("true")),
                ("0", Ok("false")),
                (" true ", Ok("true")),
                ("2", none),
                ("x", none),
                ("", none),
                ("on", none),
            ],
        ),
        (
            Int8,
            vec![
                ("127", Ok("127")),
                ("-128", Ok("-128")),
                ("128", none),
                ("-129", none),
                ("300", none),
                ("1.0", Ok("1")),
                ("1e2", Ok("100")),
                ("1e3", none),
                ("1.5", none),
                ("", none),
            ],
        ),
        (Int16, vec![("32767", Ok("32767")), ("32768", none), ("-32769", none), ("3.2e4", Ok("32000"))]),
        (Int32, vec![("2147483647", Ok("2147483647")), ("2147483648", none), ("99999999999", none), ("007", Ok("7"))]),
        (
            Int64,
            vec![
                ("0", Ok("0")),
                ("-0", Ok("0")),
                ("12", Ok("12")),
                ("+12", Ok("12")),
                ("007", Ok("7")),
                (" 12 ", Ok("12")),
                ("9223372036854775807", Ok("9223372036854775807")),
                ("-9223372036854775808", Ok("-9223372036854775808")),
                ("9223372036854775808", none),
                ("99999999999999999999", none),
                ("1.0", Ok("1")),
                ("1e3", Ok("1000")),
                ("9007199254740993.0", Ok("9007199254740993")),
                ("2.7", none),
                ("0.1e1", Ok("1")),
                ("1e400", none),
                ("1_000", none),
                ("1,000", none),
                ("0x10", none),
                ("1 2", none),
                ("--1", none),
                ("-", none),
                ("x", none),
                ("NaN", none),
                ("true", none),
                ("", none),
                (" ", none),
                ("½", none),
                ("１", none),
                ("1-2", none),
            ],
        ),
        (UInt8, vec![("255", Ok("255")), ("256", none), ("-1", none), ("-0", Ok("0"))]),
        (UInt16, vec![("65535", Ok("65535")), ("65536", none), ("-1", none)]),
        (UInt32, vec![("4294967295", Ok("4294967295")), ("4294967296", none), ("-1.0", none)]),
        (
            UInt64,
            vec![
                ("18446744073709551615", Ok("18446744073709551615")),
                ("18446744073709551616", none),
                ("-1", none),
                ("1.8446744073709551615e19", Ok("18446744073709551615")),
            ],
        ),
        (Float32, vec![("1.5", Ok("1.5")), ("1e39", none), ("-inf", Ok("-inf")), ("0.1", Ok("0.1")), ("x", none)]),
        (
            Float64,
            vec![
                ("1.5", Ok("1.5")),
                ("-0.0", Ok("-0.0")),
                ("1", Ok("1.0")),
                ("1e3", Ok("1000.0")),
                (".5", Ok("0.5")),
                ("0.30000000000000004", Ok("0.30000000000000004")),
                ("1.7976931348623157e308", Ok("1.7976931348623157e308")),
                ("1e400", none),
                ("-1e400", none),
                ("NaN", Ok("NaN")),
                ("Infinity", Ok("inf")),
                ("-inf", Ok("-inf")),
                ("1.2.3", none),
                ("1,5", none),
                ("1e", none),
                ("x", none),
                ("", none),
                ("0x10", none),
                ("true", none),
            ],
        ),
        (
            Decimal128(10, 2),
            vec![
                ("1.50", Ok("1.50")),
                ("1.5", Ok("1.50")),
                ("-0.01", Ok("-0.01")),
                ("7", Ok("7.00")),
                ("1e2", Ok("100.00")),
                ("99999999.99", Ok("99999999.99")),
                ("100000000", none),
                ("0.125", none),
                ("1.500", Ok("1.50")),
                ("1e-2", Ok("0.01")),
                ("1e-3", none),
                ("NaN", none),
                ("1,5", none),
                ("x", none),
                ("", none),
                ("true", none),
            ],
        ),
        (
            Decimal128(38, 0),
            vec![
                ("123456789012345678901234567890", Ok("123456789012345678901234567890")),
                ("99999999999999999999999999999999999999", Ok("99999999999999999999999999999999999999")),
                ("100000000000000000000000000000000000000", none),
                ("1.5", none),
                ("1.0", Ok("1")),
            ],
        ),
        (Decimal128(20, 2), vec![("12345678901234567.89", Ok("12345678901234567.89")), ("0.1", Ok("0.10"))]),
        (
            Decimal256(50, 2),
            vec![
                (
                    "123456789012345678901234567890123456789012345678.25",
                    Ok("123456789012345678901234567890123456789012345678.25"),
                ),
                ("1234567890123456789012345678901234567890123456789", none),
                ("0.125", none),
                ("-1", Ok("-1.00")),
                ("x", none),
            ],
        ),
        (
            Utf8,
            vec![
                ("", Ok("")),
                (" a ", Ok(" a ")),
                ("007", Ok("007")),
                ("1.50", Ok("1.50")),
                ("true", Ok("true")),
                ("1e400", Ok("1e400")),
                ("123456789012345678901234567890", Ok("123456789012345678901234567890")),
                ("NULL", Ok("NULL")),
                ("\\N", Ok("\\N")),
                ("a\u{0}b", Ok("a\u{0}b")),
                ("a\nb\rc", Ok("a\nb\rc")),
                ("\"q\"", Ok("\"q\"")),
                ("é😀", Ok("é😀")),
                ("\u{feff}x", Ok("\u{feff}x")),
            ],
        ),
        (
            Binary,
            vec![
                ("00ff", Ok("00ff")),
                ("\\x00FF", Ok("00ff")),
                ("0x00ff", Ok("00ff")),
                ("", Ok("")),
                ("f", none),
                ("xy", none),
            ],
        ),
        (
            Date32,
            vec![
                ("2024-02-29", Ok("2024-02-29")),
                ("2023-02-29", none),
                ("2024-02-30", none),
                ("2024-13-45", none),
                ("0001-01-01", Ok("0001-01-01")),
                ("1969-12-31", Ok("1969-12-31")),
                (" 2024-01-31 ", Ok("2024-01-31")),
                ("2024-01-31T00:00:00", Ok("2024-01-31")),
                ("2024-01-31 00:00:00Z", Ok("2024-01-31")),
                ("2024-01-31T10:00:00", none),
                ("2024-01-31T00:00:00+01:00", none),
                ("-0044-03-15", Ok("-0044-03-15")),
                ("+12345-01-01", Ok("+12345-01-01")),
                ("31.01.2024", none),
                ("01/31/2024", none),
                ("19753", none),
                ("x", none),
                ("", none),
                ("12345", none),
            ],
        ),
        (
            Time64(TimeUnit::Nanosecond),
            vec![
                ("10:00", Ok("10:00:00")),
                ("23:59:59.999999999", Ok("23:59:59.999999999")),
                ("24:00:00", none),
                ("10:60", none),
                ("36000000", none),
                ("10", none),
                ("x", none),
                ("", none),
            ],
        ),
        (
            TIMESTAMP,
            vec![
                ("2024-03-01T12:00:01Z", Ok("2024-03-01T12:00:01")),
                ("2024-03-01 12:00:01", Ok("2024-03-01T12:00:01")),
                ("2024-03-01T12:00:01.5+02:00", Ok("2024-03-01T10:00:01.500")),
                ("2024-03-01", Ok("2024-03-01T00:00:00")),
                ("1969-12-31T23:59:59.999999", Ok("1969-12-31T23:59:59.999999")),
                // What is finer than microseconds is cut.
                ("2024-03-01T12:00:01.123456789Z", Ok("2024-03-01T12:00:01.123456")),
                ("2024-02-30T00:00:00", none),
                ("2024-13-01T00:00:00", none),
                ("2024-03-01T25:00:00", none),
                ("1709294403", none),
                ("1709294404123", none),
                ("1709294404.5", none),
                ("0", none),
                ("x", none),
                ("", none),
                ("01/03/2024 12:00", none),
                ("-0044-03-15T12:00:00", Ok("-0044-03-15T12:00:00")),
                ("+12345-12-31T23:59:59.5Z", Ok("+12345-12-31T23:59:59.500")),
                ("+1234567-01-01T00:00:00", none),
                ("-2023-02-29T00:00:00", none),
                ("-12:00", none),
            ],
        ),
        (
            MICROS_IN_UTC(),
            vec![
                ("2024-03-01T12:00:01+02:00", Ok("2024-03-01T10:00:01Z")),
                ("2024-03-01 12:00:01", Ok("2024-03-01T12:00:01Z")),
                ("1709294403", none),
            ],
        ),
        (
            NANOS,
            vec![
                ("2024-03-01T12:00:01.123456789Z", Ok("2024-03-01T12:00:01.123456789")),
                ("1709294403", none),
                ("2500-01-01T00:00:00", none),
            ],
        ),
        (Interval(IntervalUnit::MonthDayNano), vec![("1 day", Ok("1 days")), ("12", none), ("x", none)]),
    ];
    for (of, texts) in &table {
        for (text, value) in texts {
            for (way, got) in ways(text, of, Epoch::Refused) {
                let expected = value.map(|value| Some(value.to_string()));
                let got_value = got.clone().map_err(|_| ());
                assert_eq!(got_value, expected, "{way} {text:?} as {}: {got:?}", sql_name(of));
                if let Err(reason) = got {
                    let said = format!("'{}' is not of type {}", text.trim_end_matches('\n'), sql_name(of));
                    assert!(reason.starts_with(&said), "{reason}");
                }
            }
        }
    }
}

#[test]
fn numbers_as_times() {
    for (epoch, text, value) in [
        (Epoch::Seconds, "1709294403", Some("2024-03-01T12:00:03")),
        (Epoch::Seconds, "1709294403.25", Some("2024-03-01T12:00:03.250")),
        (Epoch::Seconds, "1.709294403e9", Some("2024-03-01T12:00:03")),
        (Epoch::Seconds, "-1", Some("1969-12-31T23:59:59")),
        (Epoch::Millis, "1709294404123", Some("2024-03-01T12:00:04.123")),
        (Epoch::Micros, "1709294404123456", Some("2024-03-01T12:00:04.123456")),
        (Epoch::Seconds, "99999999999999999", None),
        (Epoch::Millis, "2024-03-01T12:00:01Z", Some("2024-03-01T12:00:01")),
        (Epoch::Millis, "x", None),
    ] {
        for (way, got) in ways(text, &TIMESTAMP, epoch) {
            assert_eq!(got.ok().flatten().as_deref(), value, "{way} {text:?} as {epoch:?}");
        }
        for (_, got) in ways(text, &NANOS, epoch) {
            assert_eq!(got.ok().flatten().as_deref(), value, "{text:?} as {epoch:?} in nanoseconds");
        }
    }
    for (text, advice) in [
        ("1709294403", "if a number counts seconds since 1970, set timestamp-format = 'epoch-seconds'"),
        ("1709294404123", "milliseconds since 1970, set timestamp-format = 'epoch-millis'"),
        ("1709294404123456", "microseconds since 1970, set timestamp-format = 'epoch-micros'"),
    ] {
        for (_, got) in ways(text, &TIMESTAMP, Epoch::Refused) {
            assert!(got.as_ref().is_err_and(|reason| reason.contains(advice)), "{got:?}");
        }
    }
    let (_, reason) = ways("0.125", &DataType::Decimal128(10, 2), Epoch::Refused).remove(0);
    assert_eq!(
        reason.expect_err("no value"),
        "'0.125' is not of type DECIMAL(10, 2): it has more than 2 digits behind the point"
    );
}

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = self.0 >> 32;
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        half << 32 | self.0 >> 32
    }

    fn below(&mut self, most: u64) -> u64 {
        self.bits() % most
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// Epoch of any length, those at the ends of their range among them.
    fn wide(&mut self) -> i128 {
        let bits = u128::from(self.bits()) << 64 | u128::from(self.bits());
        (bits as i128) >> self.below(128)
    }

    fn int<T: TryFrom<i128> + Copy>(&mut self, ends: &[T]) -> T {
        loop {
            let number = self.wide();
            if self.below(8) == 0 {
                return self.one(ends);
            }
            if let Ok(number) = T::try_from(number) {
                return number;
            }
        }
    }

    fn double(&mut self) -> f64 {
        match self.below(4) {
            0 => self.one(&[0.0, -0.0, 0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324, 1e23]),
            1 => self.below(100_000) as f64 / 100.0,
            _ => Some(f64::from_bits(self.bits())).filter(|value| !value.is_nan()).unwrap_or(f64::NAN),
        }
    }

    fn text(&mut self) -> String {
        const PIECES: &[&str] = &[
            "a", "word", ",", "\"", "\n", "\r\n", "\r", " ", "\t", "é", "😀", "\u{0}", "\u{1}", "\u{7f}", "\\", "\\n",
            "'", ";", "1", "007", "NULL", "\u{feff}", "{", "}", ":", "\u{2028}", "/",
        ];
        (0..self.below(6)).map(|_| self.one(PIECES)).collect()
    }

    fn rows<T>(&mut self, rows: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<Option<T>> {
        (0..rows).map(|_| (self.below(5) > 0).then(|| one(self))).collect()
    }

    /// A column of each type.
    fn columns(&mut self, rows: usize) -> Vec<(&'static str, ArrayRef)> {
        let decimal = |random: &mut Self, digits: u32| random.wide() % 10_i128.pow(digits);
        let long = |random: &mut Self| {
            let (high, low) = (random.wide() % 10_i128.pow(24), random.wide() % 10_i128.pow(24));
            i256::from_i128(high) * i256::from_i128(10_i128.pow(25)) + i256::from_i128(low)
        };
        let micros = |random: &mut Self| {
            let most = random.one(&[1_000_000, 4_000_000_000_000_000, 8_000_000_000_000_000_000]);
            random.wide() as i64 % most
        };
        let interval = |random: &mut Self| {
            let part = |random: &mut Self| random.below(2000) as i32 - 1000;
            IntervalMonthDayNano::new(part(random), part(random), i64::from(part(random)) * 1_000_000_001)
        };
        vec![
            ("boolean", Arc::new(BooleanArray::from(self.rows(rows, |r| r.below(2) == 0)))),
            ("i8", Arc::new(Int8Array::from(self.rows(rows, |r| r.int(&[i8::MIN, i8::MAX]))))),
            ("i16", Arc::new(Int16Array::from(self.rows(rows, |r| r.int(&[i16::MIN, i16::MAX]))))),
            ("i32", Arc::new(Int32Array::from(self.rows(rows, |r| r.int(&[i32::MIN, i32::MAX]))))),
            ("i64", Arc::new(Int64Array::from(self.rows(rows, |r| r.int(&[i64::MIN, i64::MAX]))))),
            ("u8", Arc::new(UInt8Array::from(self.rows(rows, |r| r.int(&[0, u8::MAX]))))),
            ("u16", Arc::new(UInt16Array::from(self.rows(rows, |r| r.int(&[0, u16::MAX]))))),
            ("u32", Arc::new(UInt32Array::from(self.rows(rows, |r| r.int(&[0, u32::MAX]))))),
            ("u64", Arc::new(UInt64Array::from(self.rows(rows, |r| r.int(&[0, u64::MAX]))))),
            ("f32", Arc::new(Float32Array::from(self.rows(rows, |r| r.double() as f32)))),
            ("f64", Arc::new(Float64Array::from(self.rows(rows, Self::double)))),
            (
                "money",
                Arc::new(
                    Decimal128Array::from(self.rows(rows, |r| decimal(r, 10)))
                        .with_precision_and_scale(10, 2)
                        .expect("a decimal"),
                ),
            ),
            (
                "whole",
                Arc::new(
                    Decimal128Array::from(self.rows(rows, |r| decimal(r, 38)))
                        .with_precision_and_scale(38, 0)
                        .expect("a decimal"),
                ),
            ),
            (
                "fine",
                Arc::new(
                    Decimal128Array::from(self.rows(rows, |r| decimal(r, 38)))
                        .with_precision_and_scale(38, 20)
                        .expect("a decimal"),
                ),
            ),
            (
                "long",
                Arc::new(
                    Decimal256Array::from(self.rows(rows, long)).with_precision_and_scale(50, 5).expect("a decimal"),
                ),
            ),
            ("text", Arc::new(StringArray::from(self.rows(rows, Self::text)))),
            ("binary", Arc::new(BinaryArray::from_iter(self.rows(rows, |r| r.text().into_bytes())))),
            ("date", Arc::new(Date32Array::from(self.rows(rows, |r| r.wide() as i32 % 2_000_000)))),
            ("time", Arc::new(Time64NanosecondArray::from(self.rows(rows, |r| r.below(86_400_000_000_000) as i64)))),
            ("stamp", Arc::new(TimestampMicrosecondArray::from(self.rows(rows, micros)))),
            ("stamp_utc", Arc::new(TimestampMicrosecondArray::from(self.rows(rows, micros)).with_timezone("+00:00"))),
            ("stamp_ns", Arc::new(TimestampNanosecondArray::from(self.rows(rows, |r| r.bits() as i64)))),
            ("interval", Arc::new(IntervalMonthDayNanoArray::from(self.rows(rows, interval)))),
        ]
    }

    /// Columns of lists and structs.
    fn nested(&mut self, rows: usize) -> Vec<(&'static str, ArrayRef)> {
        let lengths: Vec<usize> = (0..rows).map(|_| self.below(4) as usize).collect();
        let items = lengths.iter().sum();
        let there = |random: &mut Self| -> Vec<bool> { (0..rows).map(|_| random.below(5) > 0).collect() };
        let inner = Arc::new(StringArray::from(self.rows(items, Self::text)));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let field = Arc::new(Field::new("item", DataType::Utf8, true));
        let list = ListArray::new(field, offsets, inner, Some(there(self).into()));
        let fields = vec![
            Field::new("a b", DataType::Float64, true),
            Field::new("\"q\"", TIMESTAMP, true),
            Field::new("l", arrow::array::Array::data_type(&list).clone(), true),
        ];
        let micros = self.rows(rows, |r| r.wide() as i64 % 4_000_000_000_000_000);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(self.rows(rows, Self::double))),
            Arc::new(TimestampMicrosecondArray::from(micros)),
            Arc::new(list.clone()),
        ];
        let object = StructArray::new(Fields::from(fields), columns, Some(there(self).into()));
        vec![("list", Arc::new(list)), ("object", Arc::new(object))]
    }
}

fn batch(columns: Vec<(&'static str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, values)| values).collect())
        .expect("a batch")
}

fn assert_same(got: &RecordBatch, rows: &RecordBatch, way: &str) {
    assert_eq!(got.num_rows(), rows.num_rows(), "{way}");
    for (number, field) in rows.schema().fields().iter().enumerate() {
        let (got, values) = (got.column(number), rows.column(number));
        assert_eq!(got.data_type(), values.data_type(), "{way} {}", field.name());
        for (row, (got, value)) in shown(got).iter().zip(shown(values)).enumerate() {
            assert_eq!(got, &value, "{way} {} row {row}", field.name());
        }
    }
}

fn fields(rows: &RecordBatch) -> Vec<Field> {
    rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect()
}

fn csv_of(rows: &RecordBatch) -> Vec<u8> {
    let mut text = Vec::new();
    csv_write::write_header(&mut text, &rows.schema(), &dialect()).expect("a header");
    csv_write::write(&mut text, rows, &dialect()).expect("rows");
    text
}

/// Rows read as a type that holds them, back in their own.
fn in_own_types(got: &RecordBatch, rows: &RecordBatch) -> RecordBatch {
    let columns = rows.columns().iter().zip(got.columns());
    let columns = columns.map(|(own, got)| cast(got, own.data_type()).expect("a cast")).collect();
    RecordBatch::try_new(rows.schema(), columns).expect("a batch")
}

#[test]
fn what_is_written_is_read_back() {
    let mut random = Random(7);
    for _ in 0..60 {
        let rows = 1 + random.below(60) as usize;
        let flat = batch(random.columns(rows));
        let text = csv_of(&flat);
        let decoded = read_csv(&text, &fields(&flat), Epoch::Refused);
        assert_eq!(decoded.bad, [], "{}", String::from_utf8_lossy(&text));
        assert_same(&decoded.rows, &flat, "csv");

        let mut columns = random.columns(rows);
        columns.extend(random.nested(rows));
        let all = batch(columns);
        let mut text = Vec::new();
        json_write::write(&mut text, &all).expect("rows");
        let decoded = read_json(&text, &fields(&all), Epoch::Refused);
        assert_eq!(decoded.bad, [], "{}", String::from_utf8_lossy(&text));
        assert_same(&decoded.rows, &all, "json");

        // Parquet has no way to write intervals.
        let flat = (0..all.num_columns()).filter(|column| all.schema().field(*column).name() != "interval");
        let all = all.project(&flat.collect::<Vec<_>>()).expect("columns");
        let mut file = tempfile::tempfile().expect("a file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, all.schema(), None).expect("a writer");
        writer.write(&all).expect("rows");
        writer.close().expect("a whole file");
        let mut reader = ParquetReader::open(file, "t", Wanted::all(all.schema()), 0, 1000).expect("a reader");
        assert_same(&reader.next().expect("rows").expect("rows").rows, &all, "parquet");
    }
}

/// A column of its own is read back too: where a line is all of a record, none is lost.
#[test]
fn a_column_alone_is_read_back() {
    let mut random = Random(8);
    for _ in 0..20 {
        for column in random.columns(20) {
            let rows = batch(vec![column]);
            let decoded = read_csv(&csv_of(&rows), &fields(&rows), Epoch::Refused);
            assert_eq!(decoded.bad, []);
            assert_same(&decoded.rows, &rows, "csv");
        }
    }
}

#[test]
fn inferred_types_hold_what_was_written() {
    let mut random = Random(9);
    for _ in 0..40 {
        let rows = 1 + random.below(40) as usize;
        let mut columns = random.columns(rows);
        // Bytes and intervals are no more than text to who does not know; and a text may look like anything.
        columns.retain(|(name, _)| !["binary", "interval", "text", "stamp_utc", "stamp_ns", "time"].contains(name));
        // So are years before 0 and after 9999.
        columns.retain(|(name, _)| !["date", "stamp"].contains(name));
        let day = |random: &mut Random| random.below(3_000_000) as i32 - 700_000;
        columns.push(("date", Arc::new(Date32Array::from(random.rows(rows, day)))));
        let micros =
            |random: &mut Random| i64::from(day(random)) * 86_400_000_000 + random.below(86_400_000_000) as i64;
        columns.push(("stamp", Arc::new(TimestampMicrosecondArray::from(random.rows(rows, micros)))));
        let words = random.rows(rows, |r| format!("w{}", r.text()));
        columns.push(("words", Arc::new(StringArray::from(words))));
        let all = batch(columns);

        let text = csv_of(&all);
        let guesses = csv::sample(&dialect(), false, &text, true, 1000, "t.csv", infer::csv);
        let schema = infer::schema(&guesses.expect("guesses").expect("a whole head").columns);
        let inferred: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let decoded = read_csv(&text, &inferred, Epoch::Refused);
        assert_eq!(decoded.bad, [], "{}", String::from_utf8_lossy(&text));
        assert_same(&in_own_types(&decoded.rows, &all), &all, "csv");

        let mut text = Vec::new();
        json_write::write(&mut text, &all).expect("rows");
        let schema = infer::schema(&infer::json(&text, &Lines::of(&text, true, 1000)).columns);
        let inferred: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let decoded = read_json(&text, &inferred, Epoch::Refused);
        assert_eq!(decoded.bad, [], "{}", String::from_utf8_lossy(&text));
        assert_same(&in_own_types(&decoded.rows, &all), &all, "json");
    }
}
