//! What a file's name tells: its format, and how it is compressed.

use std::path::Path;

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
