//! Where the records and fields of CSV text begin and end (RFC 4180, with an optional escape character).
//!
//! A field is quoted if its first character is the quote; inside, two quotes are one, and delimiters and line ends are
//! text. A record ends at `\n` or `\r\n` outside of quotes. Blank lines are no records, but where records have one field.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::format::csv_marks::Marks;
use crate::format::record::{Bad, excerpt, line_ends};

/// How CSV text is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Whether the first record names the columns.
    pub(crate) header: bool,
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    /// The text of an unquoted field that is NULL, besides the empty one.
    pub(crate) null: Option<String>,
}

/// A field that is not wanted has this slot.
pub(crate) const UNWANTED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Plain,
    Quoted,
    /// Quoted, with doubled quotes or escapes inside.
    Escaped,
}

/// The text of a field, without its quotes.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    start: u32,
    end: u32,
    kind: Kind,
}

/// Records found in some bytes.
#[derive(Debug)]
pub(crate) struct Tokens {
    good: Good,
    pub(crate) bad: Vec<Bad>,
    /// Records, good and bad.
    pub(crate) records: usize,
    pub(crate) consumed: usize,
}

/// The fields of good records.
#[derive(Debug)]
enum Good {
    /// Of plain text, where all records are good; for each slot the field that it has.
    Plain(Marks, Vec<usize>),
    /// `slots` fields for each record, and the records.
    Any { fields: Vec<Field>, slots: usize, rows: Vec<Row> },
}

/// A good record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Its number among all.
    pub(crate) record: usize,
    /// Where it begins and ends.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Tokens {
    /// How many good records there are.
    pub(crate) fn rows(&self) -> usize {
        match &self.good {
            Good::Plain(marks, _) => marks.records(),
            Good::Any { rows, .. } => rows.len(),
        }
    }

    /// A good record.
    pub(crate) fn row(&self, row: usize) -> Row {
        match &self.good {
            Good::Plain(marks, _) => {
                let (start, end) = marks.record(row);
                Row { record: row, start: start as usize, end: end as usize }
            }
            Good::Any { rows, .. } => rows[row],
        }
    }
}

/// A field's value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    NotUtf8,
}

/// What stands at the end of a field.
enum End {
    Field,
    Record,
    /// The bytes end before the field does.
    Missing,
}

/// The fields of at most `max` complete records at the front of `bytes`. `width` is how many fields a record has
/// (`None`: any number, all of them wanted, which only makes sense for one record) and `slots[i]` the place of field `i`
/// among those wanted. If this is the `last` of the file, its end ends a record.
pub(crate) fn tokenize(
    dialect: &Dialect,
    bytes: &[u8],
    last: bool,
    max: usize,
    width: Option<usize>,
    slots: &[u32],
) -> Tokens {
    // Positions are kept as u32; what lies beyond is for the next call.
    let (bytes, last) = match bytes.len() > u32::MAX as usize {
        true => (&bytes[..u32::MAX as usize], false),
        false => (bytes, last),
    };
    let wanted = slots.iter().filter(|slot| **slot != UNWANTED).count();
    if let Some(marks) = width.and_then(|width| Marks::of(dialect.delimiter, dialect.quote, bytes, width, max)) {
        let mut fields = vec![0; wanted];
        for (field, slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != UNWANTED) {
            fields[*slot as usize] = field;
        }
        let (records, consumed) = (marks.records(), marks.consumed());
        return Tokens { good: Good::Plain(marks, fields), bad: Vec::new(), records, consumed };
    }
    let (mut fields, mut rows) = (Vec::new(), Vec::new());
    let (mut bad, mut records, mut consumed) = (Vec::new(), 0, 0);
    let mut position = 0;
    let mut lines_before = (0, 0);
    while records < max && position < bytes.len() {
        // Of a record of one field, a blank line may well be all: it is NULL.
        match bytes[position] {
            _ if width == Some(1) => {}
            b'\n' => {
                position += 1;
                consumed = position;
                continue;
            }
            b'\r' if bytes.get(position + 1).map_or(last, |next| *next == b'\n') => {
                position = (position + 2).min(bytes.len());
                consumed = position;
                continue;
            }
            _ => {}
        }
        let start = position;
        let base = fields.len();
        fields.resize(base + wanted, Field::default());
        let mut count = 0;
        let mut fault = None;
        let complete = loop {
            let (field, end, next) = field(dialect, bytes, position, last, &mut fault);
            match end {
                End::Missing => break false,
                End::Field | End::Record => {
                    match width {
                        None => fields.push(field),
                        Some(_) => {
                            if let Some(slot) = slots.get(count).filter(|slot| **slot != UNWANTED) {
                                fields[base + *slot as usize] = field;
                            }
                        }
                    }
                    count += 1;
                    position = next;
                    if matches!(end, End::Record) {
                        break true;
                    }
                }
            }
        };
        if !complete {
            fields.truncate(base);
            break;
        }
        if let Some(width) = width
            && width != count
            && fault.is_none()
        {
            let fields = if count == 1 { "field" } else { "fields" };
            fault = Some(format!("it has {count} {fields}, not {width}"));
        }
        match fault {
            Some(reason) => {
                fields.truncate(base);
                let lines = lines_before.1 + line_ends(&bytes[lines_before.0..start]);
                lines_before = (start, lines);
                let input = excerpt(&bytes[start..position]);
                bad.push(Bad { record: records, lines, column: None, input, reason });
            }
            None => rows.push(Row { record: records, start, end: position }),
        }
        records += 1;
        consumed = position;
    }
    let slots = if width.is_none() { fields.len() } else { wanted };
    Tokens { good: Good::Any { fields, slots, rows }, bad, records, consumed }
}

/// The field at `position`, what ends it, and where the next one begins.
#[inline]
fn field(
    dialect: &Dialect,
    bytes: &[u8],
    position: usize,
    last: bool,
    fault: &mut Option<String>,
) -> (Field, End, usize) {
    if let Some(quote) = dialect.quote
        && bytes.get(position) == Some(&quote)
    {
        return quoted(dialect, quote, bytes, position, last, fault);
    }
    plain(dialect.delimiter, bytes, position, last)
}

/// The place of the first delimiter or line end from `from` on; the length if there is none. Eight bytes are looked at
/// together: most fields are short, so setting out for a longer stride would not pay.
#[inline]
fn field_end(delimiter: u8, bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (delimiters, line_ends) = (ONES * u64::from(delimiter), ONES * u64::from(b'\n'));
    // The lowest bit that is set stands for the first byte that is zero; those above it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = from;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let found = zeros(word ^ delimiters) | zeros(word ^ line_ends);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != delimiter && bytes[at] != b'\n' {
        at += 1;
    }
    at
}

#[inline]
fn plain(delimiter: u8, bytes: &[u8], position: usize, last: bool) -> (Field, End, usize) {
    let end = field_end(delimiter, bytes, position);
    let (stop, next) = match bytes.get(end) {
        Some(b'\n') => (End::Record, end + 1),
        Some(_) => (End::Field, end + 1),
        None if last => (End::Record, end),
        None => (End::Missing, end),
    };
    let text_end = match stop {
        End::Record if end > position && bytes[end - 1] == b'\r' => end - 1,
        _ => end,
    };
    (Field { start: position as u32, end: text_end as u32, kind: Kind::Plain }, stop, next)
}

fn quoted(
    dialect: &Dialect,
    quote: u8,
    bytes: &[u8],
    position: usize,
    last: bool,
    fault: &mut Option<String>,
) -> (Field, End, usize) {
    let start = position + 1;
    let mut kind = Kind::Quoted;
    let mut at = start;
    let end = loop {
        let rest = &bytes[at..];
        let found = match dialect.escape.filter(|escape| *escape != quote) {
            Some(escape) => memchr2(quote, escape, rest),
            None => memchr(quote, rest),
        };
        match found.map(|offset| at + offset) {
            None if last => {
                fault.get_or_insert_with(|| "a quoted field is never closed".to_string());
                let field = Field { start: start as u32, end: bytes.len() as u32, kind };
                return (field, End::Record, bytes.len());
            }
            None => return (Field::default(), End::Missing, bytes.len()),
            Some(here) if bytes[here] != quote || bytes.get(here + 1) == Some(&quote) => {
                if here + 1 >= bytes.len() && !last {
                    return (Field::default(), End::Missing, bytes.len());
                }
                kind = Kind::Escaped;
                at = (here + 2).min(bytes.len());
            }
            // Whether another quote follows is not known yet.
            Some(here) if here + 1 == bytes.len() && !last => return (Field::default(), End::Missing, bytes.len()),
            Some(here) => break here,
        }
    };
    let (rest, stop, next) = plain(dialect.delimiter, bytes, end + 1, last);
    let after = rest.end as usize;
    if matches!(stop, End::Field | End::Record) && after > end + 1 {
        fault.get_or_insert_with(|| {
            format!("text follows a closing quote: {}", excerpt(&bytes[position..after.min(position + 80)]))
        });
    }
    (Field { start: start as u32, end: end as u32, kind }, stop, next)
}

/// The fields of good records as text.
pub(crate) struct Cells<'a> {
    tokens: &'a Tokens,
    bytes: &'a [u8],
    /// The bytes as text, if all of them are.
    text: Option<&'a str>,
    dialect: &'a Dialect,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(tokens: &'a Tokens, bytes: &'a [u8], dialect: &'a Dialect) -> Self {
        let bytes = &bytes[..tokens.consumed];
        Cells { tokens, bytes, text: std::str::from_utf8(bytes).ok(), dialect }
    }

    /// Good records.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.rows()
    }

    /// Wanted fields of a record.
    pub(crate) fn slots(&self) -> usize {
        match &self.tokens.good {
            Good::Plain(_, fields) => fields.len(),
            Good::Any { slots, .. } => *slots,
        }
    }

    /// Whether all of it is text.
    pub(crate) fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// A field of a good record.
    pub(crate) fn get(&self, row: usize, slot: usize) -> Cell<'a> {
        match &self.tokens.good {
            Good::Plain(marks, fields) => {
                let (start, end) = marks.field(self.bytes, row, fields[slot]);
                self.cell(start, end, Kind::Plain)
            }
            Good::Any { fields, slots, .. } => {
                let field = fields[row * slots + slot];
                self.cell(field.start as usize, field.end as usize, field.kind)
            }
        }
    }

    /// Calls `put` with a field of each good record, one after another.
    #[inline(always)]
    pub(crate) fn each(&self, slot: usize, mut put: impl FnMut(usize, Cell<'a>)) {
        match &self.tokens.good {
            Good::Plain(marks, fields) => {
                for row in 0..marks.records() {
                    let (start, end) = marks.field(self.bytes, row, fields[slot]);
                    put(row, self.cell(start, end, Kind::Plain));
                }
            }
            Good::Any { rows, .. } => (0..rows.len()).for_each(|row| put(row, self.get(row, slot))),
        }
    }

    #[inline(always)]
    fn cell(&self, start: usize, end: usize, kind: Kind) -> Cell<'a> {
        let text = match self.text {
            Some(text) => text.get(start..end),
            None => std::str::from_utf8(&self.bytes[start..end]).ok(),
        };
        let Some(text) = text else { return Cell::NotUtf8 };
        match kind {
            Kind::Plain if text.is_empty() || self.dialect.null.as_deref() == Some(text) => Cell::Null,
            Kind::Plain | Kind::Quoted => Cell::Text(Cow::Borrowed(text)),
            Kind::Escaped => Cell::Text(Cow::Owned(self.unescape(text))),
        }
    }

    fn unescape(&self, text: &str) -> String {
        let quote = self.dialect.quote.map(char::from);
        let escape = self.dialect.escape.map(char::from);
        let mut plain = String::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if Some(character) == escape || (Some(character) == quote && characters.peek().copied() == quote) {
                plain.extend(characters.next());
            } else {
                plain.push(character);
            }
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect() -> Dialect {
        Dialect { header: false, delimiter: b',', quote: Some(b'"'), escape: None, null: Some("NA".into()) }
    }

    fn read(text: &str, width: usize, last: bool) -> (Vec<Vec<Option<String>>>, Tokens) {
        let slots: Vec<u32> = (0..width as u32).collect();
        let dialect = dialect();
        let tokens = tokenize(&dialect, text.as_bytes(), last, usize::MAX, Some(width), &slots);
        let cells = Cells::new(&tokens, text.as_bytes(), &dialect);
        let rows = (0..cells.rows())
            .map(|row| {
                (0..width)
                    .map(|slot| match cells.get(row, slot) {
                        Cell::Text(text) => Some(text.into_owned()),
                        Cell::Null => None,
                        Cell::NotUtf8 => panic!("not utf-8"),
                    })
                    .collect()
            })
            .collect();
        (rows, tokens)
    }

    fn some(fields: &[&str]) -> Vec<Option<String>> {
        fields.iter().map(|field| Some(field.to_string())).collect()
    }

    #[test]
    fn quotes_line_ends_and_nulls() {
        let (rows, tokens) = read("a,b\r\n\"x,\ny\",\"he said \"\"hi\"\"\"\n\n,NA\n\"\",\"NA\"\ntail,z", 2, true);
        assert_eq!(
            rows,
            vec![
                some(&["a", "b"]),
                some(&["x,\ny", "he said \"hi\""]),
                vec![None, None],
                some(&["", "NA"]),
                some(&["tail", "z"])
            ]
        );
        assert!(tokens.bad.is_empty());
    }

    #[test]
    fn an_unfinished_record_waits() {
        for text in ["a,b\nc,d", "a,b\n\"c,d\n", "a,b\n\"c\"", "a,b\nc", "a,b\n\"c\",d\r"] {
            let (rows, tokens) = read(text, 2, false);
            assert_eq!((rows.len(), tokens.consumed), (1, 4), "{text:?}");
        }
    }

    #[test]
    fn faults_name_the_line() {
        let (rows, tokens) = read("a,b\n\"1\n\",2\nonly\nx,y,z\n\"q\"r,s\nlast,one\n\"open,t", 2, true);
        assert_eq!(rows, vec![some(&["a", "b"]), some(&["1\n", "2"]), some(&["last", "one"])]);
        let faults: Vec<_> = tokens.bad.iter().map(|bad| (bad.record, bad.lines, bad.reason.as_str())).collect();
        assert_eq!(
            faults,
            vec![
                (2, 3, "it has 1 field, not 2"),
                (3, 4, "it has 3 fields, not 2"),
                (4, 5, "text follows a closing quote: \"q\"r"),
                (6, 7, "a quoted field is never closed"),
            ]
        );
    }

    #[test]
    fn the_end_of_a_field_is_found() {
        let text: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for delimiter in [b',', b'\t', b';', 0x0b, 0x80, 0xff, 0] {
            for from in 0..text.len() {
                let rest = &text[from..];
                let slowly = rest.iter().position(|byte| *byte == delimiter || *byte == b'\n');
                assert_eq!(field_end(delimiter, &text, from), slowly.map_or(text.len(), |place| from + place));
            }
        }
    }

    /// Cutting text anywhere and going on with the rest gives the same records as reading it at once.
    #[test]
    fn any_cut_gives_the_same_records() {
        let text = "a,b\r\n\"x,\r\ny\",\"\"\"q\"\"\"\n\n,NA\r\n\"\",\"\"\nv,\"w\"\r\nlong text,and more\n";
        let (whole, _) = read(text, 2, true);
        for cut in 0..=text.len() {
            let (mut rows, tokens) = read(&text[..cut], 2, false);
            let (rest, _) = read(&text[tokens.consumed..], 2, true);
            rows.extend(rest);
            assert_eq!(rows, whole, "cut at {cut}");
        }
    }
}
