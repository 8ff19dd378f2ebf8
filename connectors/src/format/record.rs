//! Records, good and bad: what decoders of any format give.

use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::source::Rejected;

/// A record that is not a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Its number among the records decoded together.
    pub(crate) record: usize,
    /// Line ends before it in the bytes decoded together; 0 where a format has no lines.
    pub(crate) lines: usize,
    /// The column that is wrong, if it is one.
    pub(crate) column: Option<String>,
    /// The record as text, cut to a bounded length.
    pub(crate) input: String,
    /// What is wrong.
    pub(crate) reason: String,
}

/// Complete records, decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Bytes of the input that are done with.
    pub(crate) consumed: usize,
    /// Records in them, good and bad.
    pub(crate) records: usize,
    /// The good ones, in order.
    pub(crate) rows: RecordBatch,
    /// The bad ones, in order.
    pub(crate) bad: Vec<Bad>,
}

/// Where a bad record stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand<'a> {
    /// The name of its split, or of its file.
    pub(crate) source: &'a str,
    /// What is counted there: lines or rows.
    pub(crate) unit: &'static str,
    /// The number of its line or row, from 1.
    pub(crate) number: u64,
}

impl Stand<'_> {
    fn text(&self) -> String {
        format!("{} {} {}", self.source, self.unit, self.number)
    }
}

/// A bad record set apart; `before` records came before those decoded with it.
pub(crate) fn rejected(before: u64, stand: Stand<'_>, bad: &Bad) -> Rejected {
    Rejected {
        offset: before + bad.record as u64 + 1,
        source: stand.source.to_string(),
        line: Some(stand.number),
        column: bad.column.clone(),
        input: bad.input.clone(),
        place: stand.text(),
        reason: bad.reason.clone(),
    }
}

/// The error for a bad record, with what to do.
pub(crate) fn rejection(stand: Stand<'_>, bad: &Bad) -> Error {
    let place = stand.text();
    let skip = "set on_error = 'skip' to read on without such rows";
    Error::Data(match &bad.column {
        Some(column) => format!(
            "{place}, column '{column}': {}; correct it, declare the column with another type, or {skip}",
            bad.reason
        ),
        None => format!("{place}: {}; correct it, or {skip}", bad.reason),
    })
}

/// A piece of input for a message, cut to a bounded length.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 1000;
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let mut text = String::from_utf8_lossy(cut).trim_end_matches(['\n', '\r']).to_string();
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}

/// What is wrong with a record that is not UTF-8 text.
pub(crate) fn not_utf8(record: &[u8]) -> String {
    if is_utf16(record) {
        return "it is not UTF-8 text, but UTF-16; convert the file (iconv -f utf16 -t utf8)".to_string();
    }
    let place = std::str::from_utf8(record).map_or_else(|error| error.valid_up_to(), |_| 0);
    let byte = record.get(place).copied().unwrap_or_default();
    format!(
        "it is not UTF-8 text: its byte {} is 0x{byte:02X}; if it is Latin-1, convert the file (iconv -f latin1 -t utf8)",
        place + 1
    )
}

/// Refuses text that begins like UTF-16.
pub(crate) fn check_encoding(bytes: &[u8], name: &str) -> Result<()> {
    match is_utf16(bytes) {
        true => Err(Error::Data(format!(
            "{name} is not UTF-8 text: it begins like UTF-16; convert it (iconv -f utf16 -t utf8)"
        ))),
        false => Ok(()),
    }
}

/// Whether text begins like UTF-16: with its mark, or with a zero byte in its first character.
fn is_utf16(text: &[u8]) -> bool {
    text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") || text.get(..2).is_some_and(|two| two.contains(&0))
}

/// How many line ends.
pub(crate) fn line_ends(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}
