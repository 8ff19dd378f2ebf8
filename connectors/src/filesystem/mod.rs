//! `filesystem`: local files as tables, and folders that take rows.

mod paths;
mod sink;
#[cfg(test)]
mod sink_tests;
mod source;
#[cfg(test)]
mod source_tests;
mod text;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::filesystem::paths::{Found, Place};
use crate::format::csv::CsvDecoder;
use crate::format::csv_tokens::Dialect;
use crate::format::infer::Guess;
use crate::format::json::{JsonDecoder, Lines};
use crate::format::parquet::ParquetReader;
use crate::format::{BATCH_ROWS, FORMATS, Format, TextDecoder, csv, infer, json, parquet};
use crate::options::{Checked, OptionSpec};
use crate::registry::{Connector, TableSpec};
use crate::sink::{OutputMode, Sink};
use crate::source::{Guarantee, Source};

pub(crate) use crate::filesystem::source::{rejected, rejection};

/// The connector `filesystem`.
#[derive(Clone, Copy, Debug)]
pub struct Filesystem;

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

const OPTIONS: &[OptionSpec] = text_options!(
    OptionSpec {
        name: "path",
        aliases: &[],
        takes: "a file, a folder or a pattern such as 'data/*.csv'",
        default: None,
        help: "where the files are; for a sink, the folder to write into",
    },
    OptionSpec {
        name: "source.monitor-interval",
        aliases: &[],
        takes: "a duration such as '1 s'",
        default: Some("1 s"),
        help: "how often to look for new files when following",
    },
    OptionSpec {
        name: "sink.rolling-policy.rows",
        aliases: &[],
        takes: "a number of rows",
        default: Some("1000000"),
        help: "how many rows a written file holds at most",
    },
    OptionSpec {
        name: "parquet.compression",
        aliases: &["compression"],
        takes: "'snappy', 'zstd', 'gzip' or 'none'",
        default: Some("snappy"),
        help: "how written Parquet files are compressed",
    },
);

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn schema(&self, table: &TableSpec) -> Result<SchemaRef> {
        let reading = Reading::of(table, &table.checked(self)?)?;
        reading.wanted(&reading.list()?)?;
        match &table.schema {
            Some(schema) => {
                reading.check(schema)?;
                Ok(schema.clone())
            }
            None => reading.infer(),
        }
    }

    fn is_stream(&self, table: &TableSpec) -> bool {
        table.options.0.contains_key("source.monitor-interval")
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Replayable
    }

    fn source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let reading = Reading::of(table, &table.checked(self)?)?;
        Ok(Box::new(source::Files::new(reading, table.columns()?, table.bounded)))
    }

    fn sink(&self, table: &TableSpec, mode: OutputMode) -> Result<Box<dyn Sink>> {
        sink::open(table, &table.checked(self)?, mode)
    }
}

/// How text is read, whatever it comes from.
#[derive(Clone, Debug)]
pub(crate) struct TextReading {
    pub(crate) dialect: Dialect,
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
        Ok(TextReading { dialect, tolerant, infer_rows })
    }

    /// A decoder for text of a format other than Parquet.
    pub(crate) fn decoder(&self, format: Format, schema: &SchemaRef, name: &str) -> Result<TextDecoder> {
        Ok(match format {
            Format::Json => TextDecoder::Json(JsonDecoder::new(schema.clone())?),
            _ => TextDecoder::Csv(CsvDecoder::new(self.dialect.clone(), schema.clone(), name.to_string())?),
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
    ) -> Result<Option<Vec<(String, Guess)>>> {
        match format {
            Format::Json => Ok(Some(infer::json(text, &Lines::of(text, last, rows)))),
            _ => csv::sample(&self.dialect, text, last, rows, name, infer::csv),
        }
    }
}

/// Which files a table reads, and how.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) place: Place,
    pub(crate) format: Format,
    pub(crate) text: TextReading,
    pub(crate) monitor: Duration,
    /// Whether the table is one to be followed: it may have no files yet, also when it is read as it is now.
    pub(crate) followed: bool,
    pub(crate) bounded: bool,
    /// Whether what is half-written waits, or is an error.
    pub(crate) growing: bool,
    /// The most rows of a batch.
    pub(crate) max_rows: usize,
}

impl Reading {
    /// What the options of a table say.
    pub(crate) fn of(table: &TableSpec, options: &Checked<'_>) -> Result<Reading> {
        let place = Place::of(options.text("path").unwrap_or_default())?;
        let format = match options.choice("format", FORMATS)? {
            Some(position) => Format::at(position),
            None => place.format()?,
        };
        let monitor = options.duration("source.monitor-interval")?.unwrap_or(Duration::from_secs(1));
        let text = TextReading::of(options, place.is_tsv())?;
        Ok(Reading {
            place,
            format,
            text,
            monitor: monitor.max(Duration::from_millis(1)),
            followed: options.given("source.monitor-interval").is_some(),
            bounded: table.bounded,
            growing: table.growing || !table.bounded,
            max_rows: BATCH_ROWS,
        })
    }

    /// The files there are, by name.
    fn list(&self) -> Result<Vec<Found>> {
        self.place.list(self.format)
    }

    /// A bounded run wants at least one file.
    fn wanted(&self, files: &[Found]) -> Result<()> {
        if !self.bounded || !files.is_empty() {
            return Ok(());
        }
        Err(Error::User(match &self.place {
            Place::Pattern(pattern) => format!("no file fits the pattern '{pattern}'"),
            Place::File(path) => format!("the file {} is gone", path.display()),
            Place::Folder(path) => format!("there is no {} file in the folder {}", self.format.name(), path.display()),
        }))
    }

    /// The types of the columns, from the files that are there.
    fn infer(&self) -> Result<SchemaRef> {
        let files = self.list()?;
        let what = self.place.text();
        if files.is_empty() {
            return Err(Error::User(format!(
                "there is no {} file in {what} yet to tell the columns; declare them",
                self.format.name()
            )));
        }
        if self.format == Format::Parquet {
            for found in &files {
                if let Some(file) = complete(&found.path, self.growing)? {
                    return parquet::schema(file, &found.name());
                }
            }
            return Err(Error::User(format!("no file of {what} is complete yet to tell the columns; declare them")));
        }
        let guesses = self.sample(&files)?;
        if guesses.is_empty() {
            return Err(Error::User(format!("there are no rows in {what} to tell the columns; declare them")));
        }
        Ok(Arc::new(infer::schema(&guesses)))
    }

    /// What the columns of text files are, judged by rows from files all over the list.
    fn sample(&self, files: &[Found]) -> Result<Vec<(String, Guess)>> {
        const FILES: usize = 100;
        let step = files.len().div_ceil(FILES);
        let rows = (self.text.infer_rows / files.len().div_ceil(step)).max(1000).min(self.text.infer_rows);
        let mut all = Vec::new();
        for found in files.iter().step_by(step) {
            let (text, last) = text::beginning(&found.path, rows, self.growing)?;
            if let Some(guesses) = self.text.guess(self.format, &text, last, rows, &found.name())? {
                all = infer::merge(all, guesses);
            }
        }
        Ok(all)
    }

    /// Checks declared columns against the first file, if there is one.
    fn check(&self, schema: &SchemaRef) -> Result<()> {
        let files = self.list()?;
        if self.format != Format::Parquet {
            // The types must be ones that the format can give, whether or not there is a file.
            self.text.decoder(self.format, schema, &self.place.text())?;
        }
        let Some(found) = files.first() else { return Ok(()) };
        match self.format {
            Format::Parquet => {
                if let Some(file) = complete(&found.path, self.growing)? {
                    ParquetReader::open(file, &found.name(), schema.clone(), 0, self.max_rows)?;
                }
            }
            Format::Csv => {
                let (text, last) = text::beginning(&found.path, 1, self.growing)?;
                self.text.decoder(self.format, schema, &found.name())?.skip(&text, last, 1)?;
            }
            Format::Json => {
                let (text, last) = text::beginning(&found.path, 1000, self.growing)?;
                let guesses = infer::json(&text, &Lines::of(&text, last, 1000));
                json::check_names(schema, &infer::schema(&guesses), &found.name())?;
            }
        }
        Ok(())
    }
}

/// Opens a Parquet file; `None` if it is not complete yet, which is an error unless the table is `growing`.
fn complete(path: &Path, growing: bool) -> Result<Option<File>> {
    let io = |error: std::io::Error| Error::io("read", path.display(), &error);
    let mut file = File::open(path).map_err(io)?;
    match parquet::is_complete(&mut file).map_err(io)? {
        true => Ok(Some(file)),
        false if !growing => Err(Error::Data(format!(
            "{} is not a complete Parquet file: its footer is missing; is it still being written?",
            path.display()
        ))),
        false => Ok(None),
    }
}
