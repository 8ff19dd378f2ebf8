//! Text as rows, wherever it comes from: its options, and decoders for CSV and JSON lines.

use crate::connector::Wanted;
use crate::error::Result;
use crate::format::csv::{self, CsvDecoder};
use crate::format::csv_tokens::Dialect;
use crate::format::infer::{self, Guesses};
use crate::format::json::{self, JsonDecoder, Lines};
use crate::format::kind::Format;
use crate::format::record::{Decoded, check_encoding};
use crate::format::values::Epoch;
use crate::options::Checked;

/// The options of the text formats, which standard input takes too.
macro_rules! text_options {
    ($($more:expr),* $(,)?) => {
        &[
            OptionSpec {
                name: "format",
                aliases: &[],
                takes: "'csv', 'json' or 'parquet'",
                default: Some(""),
                help: "how rows are written; told by the name of a file if not given",
            },
            OptionSpec {
                name: "header",
                aliases: &["csv.header"],
                takes: "true or false",
                default: Some("true"),
                help: "whether the first line of a CSV file names the columns",
            },
            OptionSpec {
                name: "csv.field-delimiter",
                aliases: &["field-delimiter", "delimiter", "sep"],
                takes: "one character, or '\\t' for a tab",
                default: Some(""),
                help: "what separates the fields of CSV: a comma, in .tsv files a tab",
            },
            OptionSpec {
                name: "csv.quote-character",
                aliases: &["quote-character", "quote"],
                takes: "one character, or 'none'",
                default: Some("\""),
                help: "what encloses a field of CSV with delimiters or line ends in it",
            },
            OptionSpec {
                name: "csv.escape-character",
                aliases: &["escape-character", "escape"],
                takes: "one character",
                default: Some(""),
                help: "what goes before a quote inside a quoted field, if not a second quote",
            },
            OptionSpec {
                name: "csv.null-literal",
                aliases: &["null-literal", "nullvalue"],
                takes: "a text such as 'NA'",
                default: Some(""),
                help: "the unquoted text that stands for NULL, besides nothing at all",
            },
            OptionSpec {
                name: "timestamp-format",
                aliases: &["json.timestamp-format", "json.timestamp-format.standard", "csv.timestamp-format"],
                takes: "'iso', 'epoch-seconds', 'epoch-millis' or 'epoch-micros'",
                default: Some("iso"),
                help: "what a plain number in a TIMESTAMP column counts since 1970; by default it is no time",
            },
            OptionSpec {
                name: "infer-rows",
                aliases: &[],
                takes: "a number of rows",
                default: Some("100000"),
                help: "how many rows to look at, over all files, to find the types of columns not declared",
            },
            OptionSpec {
                name: "on_error",
                aliases: &["on-error"],
                takes: "'fail', 'skip' or 'dead_letter'",
                default: Some("fail"),
                help: "what to do with input that is no row: stop, or set it apart and go on",
            },
            $($more),*
        ]
    };
}
pub(crate) use text_options;

/// The values of `timestamp-format`; the last ones, Flink's, are all ISO 8601.
const TIMESTAMP_FORMATS: &[&str] = &["epoch-seconds", "epoch-millis", "epoch-micros", "iso", "iso-8601", "sql"];

/// How text is read, whatever it comes from.
#[derive(Clone, Debug)]
pub(crate) struct TextReading {
    pub(crate) dialect: Dialect,
    /// Whether somebody has said that the first line names the columns.
    header_given: bool,
    /// What plain numbers are in columns of times.
    epoch: Epoch,
    /// Whether rejected input is set apart rather than an error.
    pub(crate) tolerant: bool,
    pub(crate) infer_rows: usize,
}

impl TextReading {
    pub(crate) fn of(options: &Checked<'_>, tsv: bool) -> Result<TextReading> {
        let quote = match options.text("csv.quote-character") {
            Some("none") => None,
            _ => options.char("csv.quote-character")?,
        };
        let dialect = Dialect {
            header: options.bool("header")?,
            delimiter: options.char("csv.field-delimiter")?.unwrap_or(if tsv { b'\t' } else { b',' }),
            quote,
            escape: options.char("csv.escape-character")?,
            null: options.text("csv.null-literal").map(str::to_string),
        };
        let tolerant = options.choice("on_error", &["fail", "skip", "dead_letter"])?.unwrap_or(0) > 0;
        let infer_rows = options.count("infer-rows")?.unwrap_or(0).clamp(1, 10_000_000) as usize;
        let header_given = options.given("header").is_some();
        let epoch = match options.choice("timestamp-format", TIMESTAMP_FORMATS)? {
            Some(0) => Epoch::Seconds,
            Some(1) => Epoch::Millis,
            Some(2) => Epoch::Micros,
            _ => Epoch::Refused,
        };
        Ok(TextReading { dialect, header_given, epoch, tolerant, infer_rows })
    }

    /// A decoder of a file called `name` of a format other than Parquet.
    pub(crate) fn decoder(&self, format: Format, wanted: &Wanted, name: &str) -> Result<TextDecoder> {
        Ok(match format {
            Format::Json => TextDecoder::Json(JsonDecoder::new(self.epoch, wanted.clone())?),
            _ => TextDecoder::Csv(CsvDecoder::new(self.dialect.clone(), self.epoch, wanted.clone(), name)?),
        })
    }

    /// What the columns of the text are, judged by its first `rows` records; `None` if its head is not complete.
    pub(crate) fn guess(
        &self,
        format: Format,
        text: &[u8],
        last: bool,
        rows: usize,
        name: &str,
    ) -> Result<Option<Guesses>> {
        check_encoding(text, name)?;
        match format {
            Format::Json => Ok(Some(infer::json(text, &Lines::of(text, last, rows)))),
            _ => csv::sample(&self.dialect, self.header_given, text, last, rows, name, infer::csv),
        }
    }
}

/// A decoder of one text file (or stream), which keeps what its head said.
#[derive(Clone)]
pub(crate) enum TextDecoder {
    Csv(csv::CsvDecoder),
    Json(json::JsonDecoder),
}

impl TextDecoder {
    /// The same for another file.
    pub(crate) fn named(&self, name: &str) -> TextDecoder {
        match self {
            TextDecoder::Csv(csv) => TextDecoder::Csv(csv.named(name)),
            TextDecoder::Json(json) => TextDecoder::Json(json.clone()),
        }
    }

    /// Reads the head of the file, if it is still to be read: how many bytes it takes, or `None` if they are not all there.
    /// It comes before anything else.
    pub(crate) fn head(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        match self {
            TextDecoder::Csv(csv) => csv.head(bytes, last),
            TextDecoder::Json(_) => Ok(Some(0)),
        }
    }

    /// Decodes at most `max` complete records from the front of `bytes`. What follows the last line end is a record only
    /// if this is the `last` of the file.
    pub(crate) fn records(&self, bytes: &[u8], last: bool, max: usize) -> Result<Decoded> {
        match self {
            TextDecoder::Csv(csv) => csv.records(bytes, last, max),
            TextDecoder::Json(json) => json.records(bytes, last, max),
        }
    }

    /// Like [`TextDecoder::records`], without making rows: (bytes, records).
    pub(crate) fn skip(&self, bytes: &[u8], last: bool, max: usize) -> Result<(usize, usize)> {
        match self {
            TextDecoder::Csv(csv) => csv.skip(bytes, last, max),
            TextDecoder::Json(_) => Ok(json::skip(bytes, last, max)),
        }
    }

    /// How many bytes at the front of `bytes` are complete records.
    pub(crate) fn whole(&self, bytes: &[u8]) -> Result<usize> {
        match self {
            TextDecoder::Csv(csv) => csv.whole(bytes),
            TextDecoder::Json(_) => Ok(memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1)),
        }
    }
}
