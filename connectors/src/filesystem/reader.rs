//! How a file is read, by its format.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::connector::{Reach, Wanted};
use crate::error::{Error, Result};
use crate::filesystem::blocks::{Block, Blocks, Piece, Stat};
use crate::filesystem::reading::complete;
use crate::filesystem::step::{Lot, Step};
use crate::format::parquet::ParquetReader;

/// How a file is read.
pub(crate) enum Reader {
    Text(Box<Blocks>),
    Parquet(Box<ParquetFile>),
}

impl Reader {
    /// Whether more can be added to the file.
    pub(crate) fn can_grow(&self) -> bool {
        matches!(self, Reader::Text(blocks) if blocks.can_grow())
    }

    /// Length and time of modification before the last reading.
    pub(crate) fn seen(&self) -> Stat {
        match self {
            Reader::Text(blocks) => blocks.seen(),
            Reader::Parquet(parquet) => parquet.seen,
        }
    }

    /// Reads on, about `bytes` of text: a block that is still to be decoded, or a step.
    pub(crate) fn next(&mut self, bytes: usize) -> Result<Result<Step, Block>> {
        Ok(match self {
            Reader::Text(blocks) => match blocks.next(bytes)? {
                Piece::Block(block) => Err(block),
                Piece::End => Ok(Step::End),
                Piece::Incomplete(why) => Ok(Step::Incomplete(why)),
                Piece::Other(verdict) => Ok(Step::Other(verdict)),
                Piece::Replaced => Ok(Step::Replaced),
            },
            Reader::Parquet(parquet) => Ok(parquet.next()?.unwrap_or(Step::End)),
        })
    }

    /// The file has another name now.
    pub(crate) fn rename(&mut self, path: &Path) {
        match self {
            Reader::Text(blocks) => blocks.rename(path),
            Reader::Parquet(parquet) => parquet.path = path.to_path_buf(),
        }
    }

    /// Closes the file; it is opened again to read on.
    pub(crate) fn close(&mut self) {
        match self {
            Reader::Text(blocks) => blocks.close(),
            Reader::Parquet(parquet) => parquet.reader = None,
        }
    }
}

/// A Parquet file, opened when it is read.
pub(crate) struct ParquetFile {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) wanted: Wanted,
    pub(crate) reach: Reach,
    pub(crate) max_rows: usize,
    /// The next row.
    pub(crate) position: u64,
    pub(crate) bytes_read: Arc<AtomicU64>,
    pub(crate) reader: Option<ParquetReader>,
    pub(crate) seen: Stat,
}

impl ParquetFile {
    fn open(&mut self) -> Result<Option<&mut ParquetReader>> {
        if self.reader.is_none() {
            let Some(file) = complete(&self.path, self.reach.is_growing())? else {
                let metadata = std::fs::metadata(&self.path).ok();
                self.seen = metadata.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
                return Ok(None);
            };
            self.seen = stat(&file);
            let reader = ParquetReader::open(file, &self.name, self.wanted.clone(), self.position, self.max_rows)?;
            if reader.rows < self.position {
                return Err(Error::Data(format!(
                    "{} has {} rows, but {} were read from it before: it was replaced; start without the saved position",
                    self.name, reader.rows, self.position
                )));
            }
            self.reader = Some(reader);
        }
        Ok(self.reader.as_mut())
    }

    /// Whether a followed file has gone since it was seen: the next listing says what became of it.
    fn is_gone(&self) -> bool {
        self.reach == Reach::Follow && self.reader.is_none() && !self.path.exists()
    }

    /// The least event time that it can begin at, by its statistics.
    pub(crate) fn begins(&mut self, column: usize) -> Result<Option<i64>> {
        if self.is_gone() {
            return Ok(None);
        }
        let begins = match self.open()? {
            Some(reader) => reader.begins(column),
            None => None,
        };
        self.reader = None;
        Ok(begins)
    }

    fn next(&mut self) -> Result<Option<Step>> {
        if self.is_gone() {
            return Ok(Some(Step::Replaced));
        }
        let (length, name) = (self.seen.0, self.name.clone());
        let Some(reader) = self.open()? else { return Ok(Some(Step::Incomplete(name))) };
        let Some(decoded) = reader.next()? else {
            self.reader = None;
            return Ok(None);
        };
        let share = length.max(1) as f64 * decoded.records as f64 / reader.rows.max(1) as f64;
        self.bytes_read.fetch_add(share as u64, Ordering::Relaxed);
        let line = self.position;
        self.position += decoded.records as u64;
        Ok(Some(Step::Rows(vec![Lot { decoded, line, times: None }])))
    }
}

fn stat(file: &File) -> Stat {
    file.metadata().map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()))
}
