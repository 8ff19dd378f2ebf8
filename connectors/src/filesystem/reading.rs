//! Which files a table reads, and how; what their columns are.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::connector::{Reach, TableSpec, Wanted};
use crate::error::{Error, Result};
use crate::filesystem::blocks::beginning;
use crate::filesystem::paths::{Found, Place};
use crate::format::BATCH_ROWS;
use crate::format::infer::{self, Guesses};
use crate::format::json::{self, Lines};
use crate::format::kind::{FORMATS, Format};
use crate::format::parquet::{self, ParquetReader};
use crate::format::text::TextReading;
use crate::options::Checked;

/// Which files a table reads, and how.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) place: Place,
    pub(crate) format: Format,
    pub(crate) text: TextReading,
    pub(crate) monitor: Duration,
    /// Whether the table is one to be followed: it may have no files yet, also when it is read as it is now.
    pub(crate) followed: bool,
    pub(crate) reach: Reach,
    /// Whether each file is sorted by event time.
    pub(crate) sorted: bool,
    /// The most bytes of rows of a sorted run, and of sorted rows that stay in memory.
    pub(crate) max_sorted: usize,
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
        let sorted = options.choice("scan.order", &["event-time"])?.is_some();
        if sorted && table.reach == Reach::Follow {
            return Err(Error::User(format!(
                "{} is followed, and rows that are still to come can't be sorted: leave out scan.order, or leave out \
                 source.monitor-interval to read what is there",
                options.subject()
            )));
        }
        Ok(Reading {
            sorted,
            place,
            format,
            text,
            monitor: monitor.max(Duration::from_millis(1)),
            followed: options.given("source.monitor-interval").is_some(),
            reach: table.reach,
            max_sorted: 64 << 20,
            max_rows: BATCH_ROWS,
        })
    }

    /// The order in which the rows are read, with event time or without.
    pub(crate) fn order(&self, timed: bool) -> &'static str {
        match (timed, self.sorted, self.reach.is_bounded()) {
            (true, true, _) => "the file furthest behind first, the rows of each sorted by event time",
            (true, false, _) => "the file furthest behind in event time first",
            (false, _, true) => "file by file, by name",
            (false, _, false) => "file by file, by time of modification",
        }
    }

    /// The files there are, by name.
    pub(crate) fn list(&self) -> Result<Vec<Found>> {
        self.place.list(self.format)
    }

    /// A bounded run wants at least one file.
    pub(crate) fn wanted(&self, files: &[Found]) -> Result<()> {
        if !self.reach.is_bounded() || !files.is_empty() {
            return Ok(());
        }
        Err(Error::User(match &self.place {
            Place::Pattern(pattern) => format!("no file fits the pattern '{pattern}'"),
            Place::File(path) => format!("the file {} is gone", path.display()),
            Place::Folder(path) => format!("there is no {} file in the folder {}", self.format.name(), path.display()),
        }))
    }

    /// The types of the columns, from the files that are there.
    pub(crate) fn infer(&self) -> Result<SchemaRef> {
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
                if let Some(file) = complete(&found.path, self.reach.is_growing())? {
                    return parquet::schema(file, &found.name());
                }
            }
            return Err(Error::User(format!("no file of {what} is complete yet to tell the columns; declare them")));
        }
        let (guesses, first) = self.sample(&files)?;
        if guesses.columns.is_empty() {
            return Err(guesses.no_columns(&what, &first));
        }
        Ok(Arc::new(infer::schema(&guesses.columns)))
    }

    /// What the columns of text files are, judged by rows from files all over the list; and the file that its first bad
    /// record is of.
    fn sample(&self, files: &[Found]) -> Result<(Guesses, String)> {
        const FILES: usize = 100;
        let step = files.len().div_ceil(FILES);
        let rows = (self.text.infer_rows / files.len().div_ceil(step)).max(1000).min(self.text.infer_rows);
        let (mut all, mut first) = (Guesses::default(), String::new());
        for found in files.iter().step_by(step) {
            let (text, last) = beginning(&found.path, rows, self.reach.is_growing())?;
            if let Some(guesses) = self.text.guess(self.format, &text, last, rows, &found.name())? {
                all.columns = infer::merge(all.columns, guesses.columns);
                if all.bad.is_none() && guesses.bad.is_some() {
                    (all.bad, first) = (guesses.bad, found.name());
                }
            }
        }
        Ok((all, first))
    }

    /// Checks declared columns against the first file, if there is one.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<()> {
        let files = self.list()?;
        if self.format != Format::Parquet {
            // The types must be ones that the format can give, whether or not there is a file.
            self.text.decoder(self.format, &Wanted::all(schema.clone()), &self.place.text())?;
        }
        let Some(found) = files.first() else { return Ok(()) };
        match self.format {
            Format::Parquet => {
                if let Some(file) = complete(&found.path, self.reach.is_growing())? {
                    ParquetReader::open(file, &found.name(), Wanted::all(schema.clone()), 0, self.max_rows)?;
                }
            }
            Format::Csv => {
                let (text, last) = beginning(&found.path, 1, self.reach.is_growing())?;
                self.text.decoder(self.format, &Wanted::all(schema.clone()), &found.name())?.head(&text, last)?;
            }
            Format::Json => {
                let (text, last) = beginning(&found.path, 1000, self.reach.is_growing())?;
                let guesses = infer::json(&text, &Lines::of(&text, last, 1000));
                json::check_names(schema, &infer::schema(&guesses.columns), &found.name())?;
            }
        }
        Ok(())
    }
}

/// Opens a Parquet file; `None` if it is not complete yet, which is an error unless the table is `growing`.
pub(crate) fn complete(path: &Path, growing: bool) -> Result<Option<File>> {
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
