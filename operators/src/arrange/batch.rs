//! What readers of an arrangement see: its batches, and its trace, from an as-of time on.

use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::cursor::{Cursor, Navigable};
use differential_dataflow::trace::implementations::SliceContainer;
use differential_dataflow::trace::{BatchReader, Description, TraceReader};
use timely::progress::frontier::AntichainRef;

use crate::chunk::{KeyContainer, RowBatch, RowChunk, RowKey, RowSpine};
use crate::time::Time;

/// A batch of an arrangement, with the times before the reader's as-of advanced to it.
#[derive(Clone)]
pub struct SharedBatch {
    batch: Rc<RowBatch<Time>>,
    as_of: Time,
}

impl SharedBatch {
    pub(super) fn new(batch: Rc<RowBatch<Time>>, as_of: Time) -> Self {
        SharedBatch { batch, as_of }
    }

    /// The batch's rows in order. Their times are to be read with [`SharedBatch::as_of`].
    pub fn chunks(&self) -> &[RowChunk<Time>] {
        &self.batch.chunks
    }

    /// The reader's as-of: an earlier time of a row reads as this time.
    #[inline]
    pub fn as_of(&self) -> Time {
        self.as_of
    }
}

impl BatchReader for SharedBatch {
    type Time = Time;
    fn len(&self) -> usize {
        self.batch.len()
    }
    fn description(&self) -> &Description<Time> {
        self.batch.description()
    }
}

/// The trace of an arrangement, read from an as-of time on. Each clone holds back compaction on its own account.
#[derive(Clone)]
pub struct RowTrace {
    pub(super) agent: TraceAgent<RowSpine<Time>>,
    pub(super) as_of: Time,
}

impl RowTrace {
    /// The as-of from which the trace is read; the smallest time where it is read from its beginning.
    pub fn as_of(&self) -> Time {
        self.as_of
    }
}

impl TraceReader for RowTrace {
    type Time = Time;
    type Batch = SharedBatch;

    fn batches_through(&mut self, upper: AntichainRef<Time>) -> Option<Vec<SharedBatch>> {
        let batches = self.agent.batches_through(upper)?;
        Some(batches.into_iter().map(|batch| SharedBatch::new(batch, self.as_of)).collect())
    }
    fn set_logical_compaction(&mut self, frontier: AntichainRef<Time>) {
        self.agent.set_logical_compaction(frontier);
    }
    fn get_logical_compaction(&mut self) -> AntichainRef<'_, Time> {
        self.agent.get_logical_compaction()
    }
    fn set_physical_compaction(&mut self, frontier: AntichainRef<'_, Time>) {
        self.agent.set_physical_compaction(frontier);
    }
    fn get_physical_compaction(&mut self) -> AntichainRef<'_, Time> {
        self.agent.get_physical_compaction()
    }
    fn map_batches<F: FnMut(&SharedBatch)>(&self, mut f: F) {
        self.agent.map_batches(|batch| f(&SharedBatch::new(Rc::clone(batch), self.as_of)));
    }
}

/// A position in a [`SharedBatch`].
pub struct SharedCursor {
    inner: <Rc<RowBatch<Time>> as Navigable>::Cursor,
}

impl Navigable for SharedBatch {
    type Cursor = SharedCursor;
    fn cursor(&self) -> SharedCursor {
        SharedCursor { inner: self.batch.cursor() }
    }
}

impl Cursor for SharedCursor {
    type Storage = SharedBatch;
    type Key<'a> = RowKey<'a>;
    type ValOwn = Vec<u8>;
    type Val<'a> = &'a [u8];
    type Time = Time;
    type TimeGat<'a> = &'a Time;
    type Diff = i64;
    type DiffGat<'a> = &'a i64;
    type KeyContainer = KeyContainer;
    type ValContainer = SliceContainer<u8>;
    type TimeContainer = Vec<Time>;
    type DiffContainer = Vec<i64>;

    fn key_valid(&self, s: &SharedBatch) -> bool {
        self.inner.key_valid(&s.batch)
    }
    fn val_valid(&self, s: &SharedBatch) -> bool {
        self.inner.val_valid(&s.batch)
    }
    fn key<'a>(&self, s: &'a SharedBatch) -> RowKey<'a> {
        self.inner.key(&s.batch)
    }
    fn val<'a>(&self, s: &'a SharedBatch) -> &'a [u8] {
        self.inner.val(&s.batch)
    }
    fn get_key<'a>(&self, s: &'a SharedBatch) -> Option<RowKey<'a>> {
        self.inner.get_key(&s.batch)
    }
    fn get_val<'a>(&self, s: &'a SharedBatch) -> Option<&'a [u8]> {
        self.inner.get_val(&s.batch)
    }
    fn map_times<L: FnMut(&Time, &i64)>(&mut self, s: &SharedBatch, mut logic: L) {
        self.inner.map_times(&s.batch, |time, diff| logic(time.max(&s.as_of), diff));
    }
    fn step_key(&mut self, s: &SharedBatch) {
        self.inner.step_key(&s.batch);
    }
    fn seek_key(&mut self, s: &SharedBatch, key: RowKey<'_>) {
        self.inner.seek_key(&s.batch, key);
    }
    fn step_val(&mut self, s: &SharedBatch) {
        self.inner.step_val(&s.batch);
    }
    fn seek_val(&mut self, s: &SharedBatch, val: &[u8]) {
        self.inner.seek_val(&s.batch, val);
    }
    fn rewind_keys(&mut self, s: &SharedBatch) {
        self.inner.rewind_keys(&s.batch);
    }
    fn rewind_vals(&mut self, s: &SharedBatch) {
        self.inner.rewind_vals(&s.batch);
    }
}
