//! What a source knows of one of its files.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use crate::error::Result;
use crate::filesystem::blocks::Stat;
use crate::filesystem::content::{Content, Identity, Verdict};
use crate::filesystem::lane::Lane;
use crate::filesystem::reader::Reader;
use crate::filesystem::step::Lot;
use crate::format::kind::{Compression, Format};
use crate::format::record::{Bad, Stand, rejected, rejection};
use crate::source::{Changes, Offsets, SourceBatch};

/// A file that is read, was read, or waits for it.
pub(crate) struct OneFile {
    pub(crate) path: PathBuf,
    /// The name of its split.
    pub(crate) name: String,
    pub(crate) identity: Option<Identity>,
    /// Its split, once it is made known.
    pub(crate) split: Option<u32>,
    /// Records given, or to be skipped.
    pub(crate) records: u64,
    pub(crate) lane: Option<Lane>,
    /// Whether all of it was read and no more can come.
    pub(crate) ended: bool,
    /// Length and time of modification when it was last read to its end.
    pub(crate) seen: Stat,
    pub(crate) bytes: u64,
    /// Its place among files that are equally far.
    pub(crate) rank: u64,
    /// How far it is in event time.
    pub(crate) reached: i64,
    /// Whether it has its turn to be looked at or read.
    pub(crate) queued: bool,
    /// Bytes of rows that the first look at it has kept.
    pub(crate) kept: usize,
    /// Until when it counts as one that grows.
    pub(crate) active_until: Option<Instant>,
    /// Since when it is in no listing.
    pub(crate) missing: Option<Instant>,
    /// The last listing that it was in.
    pub(crate) listing: u64,
    /// Whether it has gone, and only what is left of it is read through the open file.
    pub(crate) leaving: bool,
    /// What it held when it had been read, where it can't grow.
    pub(crate) whole: Option<Content>,
}

impl OneFile {
    /// Whether it is text, not compressed.
    pub(crate) fn is_plain(&self, format: Format) -> bool {
        format != Format::Parquet && Compression::of(&self.path) == Compression::None
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        let open = |reader: &mut Reader| matches!(reader, Reader::Text(blocks) if blocks.is_open());
        self.lane.as_ref().is_some_and(|lane| lane.reader(open))
    }

    /// Closes it; it is opened again to read on.
    pub(crate) fn close(&mut self) {
        if let Some(lane) = &self.lane {
            lane.reader(Reader::close);
        }
    }

    /// What is known of the bytes read so far.
    pub(crate) fn content(&self) -> Option<Content> {
        if self.whole.is_some() {
            return self.whole.clone();
        }
        let content = |reader: &mut Reader| match reader {
            Reader::Text(blocks) => Some(blocks.content().clone()),
            Reader::Parquet(_) => None,
        };
        self.lane.as_ref().and_then(|lane| lane.reader(content))
    }

    /// Whether the file at a path holds what was read of this one.
    pub(crate) fn is_in(&self, path: &std::path::Path) -> bool {
        let Some(content) = self.content() else { return true };
        let verdict = File::open(path).and_then(|mut file| content.verify(&mut file));
        matches!(verdict, Ok(Verdict::Same))
    }

    /// Records as a batch, of a split that its caller knows; bad ones are set apart, or an error if the table is not
    /// `tolerant`.
    pub(crate) fn batch(&mut self, lot: Lot, by_record: bool, text: bool, tolerant: bool) -> Result<SourceBatch> {
        let decoded = lot.decoded;
        let (name, unit) = (self.name.as_str(), if text { "line" } else { "row" });
        let stand = |bad: &Bad| {
            let number = lot.line + if by_record { bad.record } else { bad.lines } as u64 + 1;
            Stand { source: name, unit, number }
        };
        if let Some(bad) = decoded.bad.first().filter(|_| !tolerant) {
            return Err(rejection(stand(bad), bad));
        }
        let before = self.records;
        let rejected = decoded.bad.iter().map(|bad| rejected(before, stand(bad), bad)).collect();
        self.records += decoded.records as u64;
        Ok(SourceBatch {
            split: 0,
            rows: decoded.rows,
            diffs: None,
            changes: Changes::Each,
            offset: self.records,
            offsets: Offsets::Dense,
            rejected,
        })
    }
}
