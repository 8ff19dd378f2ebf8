//! How bytes are rows: CSV, JSON lines and Parquet, apart from where the bytes come from.

pub(crate) mod csv;
pub(crate) mod csv_tokens;
pub(crate) mod csv_write;
pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod json_write;
pub(crate) mod parquet;
pub(crate) mod types;

use std::path::Path;

use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// The most rows of a batch.
pub(crate) const BATCH_ROWS: usize = 32 * 1024;

/// About how many bytes of text or columns make a batch.
pub(crate) const BATCH_BYTES: usize = 2 << 20;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Csv,
    Json,
    Parquet,
}

/// The names of the formats, in the order of [`Format`].
pub(crate) const FORMATS: &[&str] = &["csv", "json", "parquet"];

impl Format {
    /// The format at a position of [`FORMATS`].
    pub(crate) fn at(position: usize) -> Format {
        [Format::Csv, Format::Json, Format::Parquet][position]
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        FORMATS[self as usize]
    }

    /// The format that a file's name tells, e.g. `flights.csv.gz`.
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match extension(path).as_str() {
            "csv" | "tsv" => Some(Format::Csv),
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            "parquet" | "parq" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }
}

/// Whether a file's name says that tabs separate its fields.
pub(crate) fn is_tsv(path: &Path) -> bool {
    extension(path) == "tsv"
}

/// The extension in lower case, without that of a compression.
fn extension(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let name = match Compression::of(path) {
        Compression::None => name.as_str(),
        _ => name.rsplit_once('.').map_or("", |(stem, _)| stem),
    };
    name.rsplit_once('.').map(|(_, extension)| extension.to_string()).unwrap_or_default()
}

/// How a text file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The compression that a file's name tells.
    pub(crate) fn of(path: &Path) -> Compression {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
        match extension.as_str() {
            "gz" | "gzip" => Compression::Gzip,
            "zst" | "zstd" => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

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

/// A decoder of one text file (or stream), which keeps what its head said.
pub(crate) enum TextDecoder {
    Csv(csv::CsvDecoder),
    Json(json::JsonDecoder),
}

impl TextDecoder {
    /// Decodes at most `max` complete records from the front of `bytes`. What follows the last line end is a record only
    /// if this is the `last` of the file.
    pub(crate) fn decode(&mut self, bytes: &[u8], last: bool, max: usize) -> Result<Decoded> {
        match self {
            TextDecoder::Csv(csv) => csv.decode(bytes, last, max),
            TextDecoder::Json(json) => json.decode(bytes, last, max),
        }
    }

    /// Like [`TextDecoder::decode`], without making rows: (bytes, records).
    pub(crate) fn skip(&mut self, bytes: &[u8], last: bool, max: usize) -> Result<(usize, usize)> {
        match self {
            TextDecoder::Csv(csv) => csv.skip(bytes, last, max),
            TextDecoder::Json(_) => Ok(json::skip(bytes, last, max)),
        }
    }
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
