//! What the tests of files share: opening a table, and listening to what it says.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ::parquet::arrow::ArrowWriter;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::names::SharedNames;
use super::source::Files;
use super::*;
use crate::connector::{Reach, Wanted};
use crate::options::Options;
use crate::source::{Poll, Rejected};

pub(super) fn spec(path: &Path, options: &[(&str, &str)], schema: Option<SchemaRef>, bounded: bool) -> TableSpec {
    let mut options: Options = options.iter().copied().collect();
    options.set("path", path.display());
    let reach = if bounded { Reach::Once { growing: false } } else { Reach::Follow };
    TableSpec { name: "t".into(), options, schema, reach, ..TableSpec::default() }
}

/// A table with the schema inferred, if none is given.
pub(super) fn open(
    path: &Path,
    options: &[(&str, &str)],
    schema: Option<SchemaRef>,
    bounded: bool,
) -> Result<Box<dyn Source>> {
    let mut table = spec(path, options, schema, bounded);
    table.schema = Some(Filesystem::default().schema(&table)?);
    Filesystem::default().source(&table)
}

/// A source whose batches have at most `max_rows`.
pub(super) fn small(
    path: &Path,
    options: &[(&str, &str)],
    schema: &SchemaRef,
    bounded: bool,
    max_rows: usize,
) -> Files {
    let table = spec(path, options, Some(schema.clone()), bounded);
    let mut reading = Reading::of(&table, &table.checked(&Filesystem::default()).expect("known")).expect("a reading");
    reading.max_rows = max_rows;
    Files::new(reading, Wanted::all(schema.clone()), None, SharedNames::default()).expect("a source")
}

/// What a source has said.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) rows: Vec<String>,
    /// (split, position, rows so far) after each batch.
    pub(super) positions: Vec<(String, u64, usize)>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) splits: Vec<String>,
    pub(super) ended: Vec<u32>,
}

impl Heard {
    pub(super) fn hear(&mut self, poll: Poll) -> bool {
        match poll {
            Poll::Split { split, name, .. } => {
                assert_eq!(split as usize, self.splits.len());
                self.splits.push(name);
            }
            Poll::Batch(batch) => {
                self.rows.extend(texts(&batch.rows));
                let name = self.splits[batch.split as usize].clone();
                self.positions.push((name, batch.offset, self.rows.len()));
                self.rejected.extend(batch.rejected);
            }
            Poll::SplitEnd(split) => self.ended.push(split),
            Poll::Idle => return false,
            Poll::End => return false,
        }
        true
    }
}

pub(super) fn texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let columns: Vec<_> =
        rows.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("a format")).collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..rows.num_rows()).map(row).collect()
}

/// All that a source says until it has nothing more.
pub(super) fn listen(source: &mut dyn Source) -> Result<Heard> {
    let mut heard = Heard::default();
    while heard.hear(source.poll(Duration::ZERO)?) {}
    Ok(heard)
}

/// Listens until `rows` rows were heard in all, and a moment longer for those that should not come.
pub(super) fn follow(source: &mut dyn Source, heard: &mut Heard, rows: usize) {
    let until = Instant::now() + Duration::from_secs(10);
    while heard.rows.len() < rows && Instant::now() < until {
        heard.hear(source.poll(Duration::from_millis(5)).expect("a poll"));
    }
    let until = Instant::now() + Duration::from_millis(40);
    while Instant::now() < until {
        heard.hear(source.poll(Duration::from_millis(5)).expect("a poll"));
    }
    assert_eq!(heard.rows.len(), rows, "{:?}", heard.rows);
}

pub(super) fn append(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    file.write_all(bytes.as_ref()).expect("written");
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

pub(super) fn parquet_bytes(rows: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).expect("a writer");
    writer.write(rows).expect("written");
    writer.close().expect("closed");
    bytes
}

pub(super) fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("should fail"),
        Err(error) => error.to_string(),
    }
}
