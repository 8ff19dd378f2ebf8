//! Arrangements outside their scope: shared with other dataflows, read, and measured.

use std::collections::HashSet;

use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::dataflow::Scope;
use timely::progress::Antichain;

use super::import::import;
use super::reader::Reader;
use super::{Arranged, RowTrace};
use crate::rows::Rows;
use crate::time::Time;

/// Why an arrangement can't be read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Compaction was allowed up to the given time: earlier ones are no longer told apart.
    Compacted(Time),
    /// The times from the given one on are not closed.
    Open(Time),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Compacted(since) => write!(f, "the arrangement is compacted up to time {since}"),
            ReadError::Open(upper) => write!(f, "the arrangement is not closed from time {upper} on"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A handle on an arrangement of this worker, for as long as its contents are wanted.
///
/// It holds back compaction at its own frontier, which is the smallest time at first: whoever keeps a handle must
/// call [`Arrangement::allow_compaction`] as time goes on, or the arrangement keeps its whole history. Clones count
/// separately.
#[derive(Clone)]
pub struct Arrangement {
    trace: RowTrace,
}

impl Arrangement {
    /// A handle on an arrangement.
    pub fn new(arranged: &Arranged<'_>) -> Self {
        Arrangement { trace: arranged.trace.clone() }
    }

    /// The earliest time at which the arrangement can be read.
    pub fn since(&mut self) -> Option<Time> {
        let since = self.trace.get_logical_compaction().first().copied();
        since.map(|since| since.max(self.trace.as_of))
    }

    /// All times before this one are closed; none when the collection is complete.
    pub fn upper(&mut self) -> Option<Time> {
        let mut upper = Antichain::new();
        self.trace.read_upper(&mut upper);
        upper.as_option().copied()
    }

    /// Gives up reading at times before `since`, so that updates at them can be added up. Also lets all batches that
    /// exist be merged, so it is worth calling without a change.
    pub fn allow_compaction(&mut self, since: Time) {
        let mut upper = Antichain::new();
        self.trace.read_upper(&mut upper);
        self.trace.set_logical_compaction(Antichain::from_elem(since).borrow());
        self.trace.set_physical_compaction(upper.borrow());
    }

    /// Imports the arrangement into a dataflow of the same worker: everything accumulated at `as_of` arrives at that
    /// time, then the later updates at theirs. `as_of` before [`Arrangement::since`] is an error.
    pub fn import_as_of<'scope>(
        &mut self,
        scope: Scope<'scope, Time>,
        name: &str,
        as_of: Time,
    ) -> Result<Arranged<'scope>, ReadError> {
        self.readable(as_of)?;
        // Whoever reads the import tells apart the times from `as_of` on, and the batches that come.
        let mut reader = self.clone();
        reader.allow_compaction(as_of);
        reader.trace.as_of = as_of;
        Ok(import(scope, reader.trace, name))
    }

    /// The contents accumulated at `as_of`, which must be closed and not before [`Arrangement::since`]. They are read in
    /// steps, and stay as they are while the arrangement moves on.
    pub fn contents(&mut self, as_of: Time) -> Result<Contents, ReadError> {
        self.readable(as_of)?;
        if let Some(upper) = self.upper()
            && upper <= as_of
        {
            return Err(ReadError::Open(upper));
        }
        let mut readers = Vec::new();
        self.trace.map_batches(|batch| {
            if !batch.is_empty() {
                readers.push(Reader::new(batch.clone()));
            }
        });
        Ok(Contents { readers, as_of })
    }

    /// The number of updates held on this worker.
    pub fn rows(&self) -> usize {
        let mut rows = 0;
        self.trace.map_batches(|batch| rows += batch.len());
        rows
    }

    /// The number of batches held on this worker.
    pub fn batches(&self) -> usize {
        let mut batches = 0;
        self.trace.map_batches(|batch| batches += usize::from(!batch.is_empty()));
        batches
    }

    /// The bytes of the arrangement's chunks on this worker; what chunks share counts once.
    pub fn state_bytes(&self) -> usize {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        self.trace.map_batches(|batch| {
            for chunk in batch.chunks() {
                if seen.insert(chunk.body_id()) {
                    bytes += chunk.heap_size();
                }
            }
        });
        bytes
    }

    fn readable(&mut self, as_of: Time) -> Result<(), ReadError> {
        match self.since() {
            Some(since) if since <= as_of => Ok(()),
            since => Err(ReadError::Compacted(since.unwrap_or(Time::MAX))),
        }
    }
}

/// The bytes of contents that are read in one step, and a row more.
const STEP_BYTES: usize = 1 << 26;

/// The contents of an arrangement at a time, in order of key hash: an iterator in steps.
pub struct Contents {
    readers: Vec<Reader>,
    as_of: Time,
}

/// Some of the contents of an arrangement, consolidated.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The keys.
    pub keys: Rows,
    /// The values.
    pub vals: Rows,
    /// How often each is there; negative only where the collection is not a multiset.
    pub diffs: Vec<i64>,
}

impl Contents {
    /// Reads about `updates` updates of the arrangement, fewer where they are large; none when all are read. The answer may be
    /// empty before.
    pub fn next(&mut self, updates: usize) -> Option<Content> {
        self.readers.retain(|reader| reader.at().is_some());
        if self.readers.is_empty() {
            return None;
        }
        let mut content = Content::default();
        let mut read = 0;
        while read < updates && content.keys.bytes().len() + content.vals.bytes().len() < STEP_BYTES {
            let least = (0..self.readers.len()).min_by(|&a, &b| self.readers[a].cmp(&self.readers[b]));
            let Some(least) = least else { break };
            let Some((chunk, row)) = self.readers[least].at() else { break };
            let (chunk, hash) = (chunk.clone(), chunk.hashes()[row]);
            let (key, val) = (chunk.key(row), chunk.val(row));
            let mut sum = 0;
            for reader in &mut self.readers {
                while let Some((chunk, row)) = reader.at()
                    && chunk.hashes()[row] == hash
                    && chunk.key(row) == key
                    && chunk.val(row) == val
                {
                    if *chunk.time(row) <= self.as_of {
                        sum += chunk.diff(row);
                    }
                    reader.step();
                    read += 1;
                }
            }
            if sum != 0 {
                content.keys.push(key);
                content.vals.push(val);
                content.diffs.push(sum);
            }
        }
        Some(content)
    }
}
