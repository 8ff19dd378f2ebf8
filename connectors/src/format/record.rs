//! Records, good and bad: what decoders of any format give.

use arrow::record_batch::RecordBatch;

use crate::error::Error;
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

/// A bad record set apart; `before` records came before those decoded with it.
pub(crate) fn rejected(before: u64, place: String, bad: &Bad) -> Rejected {
    let reason = match &bad.column {
        Some(column) => format!("column '{column}': {}", bad.reason),
        None => bad.reason.clone(),
    };
    Rejected { offset: before + bad.record as u64 + 1, input: bad.input.clone(), place, reason }
}

/// The error for a bad record, with what to do.
pub(crate) fn rejection(place: &str, bad: &Bad) -> Error {
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

/// How many line ends.
pub(crate) fn line_ends(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}
