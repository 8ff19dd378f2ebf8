//! What a running query shares between its workers and whoever reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use headwater_operators::Updates;
use headwater_operators::run_end::{End, RunEnd};
use headwater_operators::time::{SINCE_EVER, Time, to_micros};

use super::message::Gauge;
use super::outbox::Outbox;
use super::table::Run;
use super::view::Status;
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::render::RowError;

/// How an ended frontier is written where a plain number is shared.
const CLOSED: u64 = u64::MAX;

/// How often to look whether a query has come to its end.
const LOOK: Duration = Duration::from_millis(2);

/// An error and how many there are, as one message.
pub(crate) fn describe((error, count): (RowError, usize)) -> String {
    match count {
        1 => error.to_string(),
        _ => format!("{error} (and {} more rows in error)", count - 1),
    }
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} on the row ({})", self.message, self.expression, self.row)
    }
}

/// What the end of a query's dataflow sends to its reader.
pub(crate) enum Output {
    /// Changes of one worker, and its frontier after them.
    Changes {
        /// The worker.
        worker: usize,
        /// Changes of rows, at any times not before the worker's last frontier.
        updates: Vec<Updates<Columns>>,
        /// Changes of the errors.
        errors: Vec<(RowError, Time, i64)>,
        /// The frontier; `None` when the dataflow has ended.
        frontier: Option<Time>,
    },
    /// The query can't go on.
    Failed(Error),
}

struct Holds {
    /// Reads before this time are no longer possible.
    since: Time,
    /// Times that readers asked to keep, with how many did.
    held: BTreeMap<Time, usize>,
}

/// Keeps the times from one on readable in what a query stores and shares.
pub(crate) struct Hold {
    query: Arc<QueryShared>,
    time: Time,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.query.release(self.time);
    }
}

/// A running query, as seen by all threads.
pub(crate) struct QueryShared {
    pub id: u64,
    pub name: String,
    pub schema: SchemaRef,
    as_of: AtomicU64,
    /// Where the output goes, if somebody reads it as it comes.
    pub output: Option<Arc<Outbox>>,
    /// Rows sent to `output` and not yet taken.
    pub unread: Gauge,
    /// How it ends: stopped, nothing more of it is final.
    pub end: RunEnd,
    frontiers: Vec<AtomicU64>,
    /// The last frontier of each worker before the end.
    finite: Vec<AtomicU64>,
    state_bytes: Vec<AtomicUsize>,
    holds: Mutex<Holds>,
    errors: Mutex<BTreeMap<RowError, i64>>,
    /// Rows that are left out now because an expression fails on them.
    left_out: AtomicI64,
    failure: Mutex<Option<Error>>,
    /// Stored queries that it reads: their errors are its own.
    upstream: Vec<Arc<QueryShared>>,
    /// Queries that read it: its failure is theirs.
    downstream: Mutex<Vec<Weak<QueryShared>>>,
    /// Tables that it reads.
    tables: Vec<Arc<Run>>,
}

impl QueryShared {
    pub fn new(
        id: u64,
        name: String,
        schema: SchemaRef,
        workers: usize,
        output: Option<Arc<Outbox>>,
        upstream: Vec<Arc<QueryShared>>,
        tables: Vec<Arc<Run>>,
    ) -> Arc<Self> {
        let query = Arc::new(QueryShared {
            id,
            name,
            schema,
            as_of: AtomicU64::new(SINCE_EVER),
            output,
            unread: Gauge::default(),
            end: RunEnd::default(),
            frontiers: (0..workers).map(|_| AtomicU64::new(SINCE_EVER)).collect(),
            finite: (0..workers).map(|_| AtomicU64::new(SINCE_EVER)).collect(),
            state_bytes: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            holds: Mutex::new(Holds { since: SINCE_EVER, held: BTreeMap::new() }),
            errors: Mutex::default(),
            left_out: AtomicI64::new(0),
            failure: Mutex::default(),
            upstream,
            downstream: Mutex::default(),
            tables,
        });
        for below in &query.upstream {
            let mut readers = below.downstream.lock().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|reader| reader.strong_count() > 0);
            readers.push(Arc::downgrade(&query));
            drop(readers);
            if let Some(failure) = below.failure() {
                query.fail(failure);
            }
        }
        query
    }

    /// All times before this are closed on all workers; `None` when the query's inputs have ended.
    pub fn frontier(&self) -> Option<Time> {
        let least = self.frontiers.iter().map(|f| f.load(Ordering::Acquire)).min().unwrap_or(CLOSED);
        (least != CLOSED).then_some(least)
    }

    /// Up to where its tables are closed now: the frontier that it will have once it has worked that through.
    pub fn reachable(&self) -> Option<Time> {
        // A batch that is being read is closed once it is read: whoever asks for its view wants the whole.
        let frontier =
            |run: &Arc<Run>| run.lock().frontier().filter(|_| !(run.declaration.is_static && run.has_started()));
        let tables = self.tables.iter().map(frontier);
        let views = self.upstream.iter().map(|query| query.reachable());
        tables.chain(views).flatten().min()
    }

    /// What one worker has published.
    pub fn worker_frontier(&self, worker: usize) -> Option<Time> {
        let frontier = self.frontiers[worker].load(Ordering::Relaxed);
        (frontier != CLOSED).then_some(frontier)
    }

    pub fn publish(&self, worker: usize, frontier: Option<Time>) {
        if let Some(frontier) = frontier {
            self.finite[worker].store(frontier, Ordering::Release);
        }
        self.frontiers[worker].store(frontier.unwrap_or(CLOSED), Ordering::Release);
    }

    pub fn publish_state(&self, worker: usize, bytes: usize) {
        self.state_bytes[worker].store(bytes, Ordering::Relaxed);
    }

    /// Bytes of stored output, over all workers.
    pub fn state_bytes(&self) -> usize {
        self.state_bytes.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// Its answers hold from this time on.
    pub fn as_of(&self) -> Time {
        self.as_of.load(Ordering::Acquire)
    }

    /// Says from when on its answers hold, before it is rendered.
    pub fn begin(&self, as_of: Time) {
        self.as_of.store(as_of, Ordering::Release);
        self.frontiers.iter().chain(&self.finite).for_each(|frontier| frontier.store(as_of, Ordering::Release));
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).since = as_of;
    }

    /// Keeps `time` readable if it still is, and is closed.
    pub fn hold_at(self: &Arc<Self>, time: Time) -> Option<Hold> {
        if self.frontier().is_some_and(|frontier| time >= frontier) { None } else { self.hold_from(time) }
    }

    /// Keeps the times from `time` on readable if they still are.
    pub fn hold_from(self: &Arc<Self>, time: Time) -> Option<Hold> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if time < holds.since {
            return None;
        }
        *holds.held.entry(time).or_default() += 1;
        Some(Hold { query: self.clone(), time })
    }

    fn release(&self, time: Time) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = holds.held.get_mut(&time) {
            *count -= 1;
            if *count == 0 {
                holds.held.remove(&time);
            }
        }
    }

    /// The earliest time at which it can be read.
    pub fn since(&self) -> Time {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).since
    }

    /// Up to where the stored output may forget its history: reads at later times, and at this one, stay possible.
    pub fn compaction(&self) -> Time {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let finite = self.finite.iter().map(|f| f.load(Ordering::Acquire)).min().unwrap_or(SINCE_EVER);
        let closed = finite.saturating_sub(1);
        let held = holds.held.keys().next().copied().unwrap_or(Time::MAX);
        holds.since = holds.since.max(closed.min(held));
        holds.since
    }

    /// Applies changes of the errors that are in the view; they count from the moment that they are known.
    pub fn change_errors(&self, changes: &[(RowError, Time, i64)]) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        for (error, _, diff) in changes {
            let count = errors.entry(error.clone()).or_default();
            *count += diff;
            if *count == 0 {
                errors.remove(error);
            }
        }
    }

    /// Counts rows that are left out, or no longer.
    pub fn change_left_out(&self, rows: i64) {
        self.left_out.fetch_add(rows, Ordering::AcqRel);
    }

    /// An error that is in the view now, and how many there are.
    pub fn error(&self) -> Option<(RowError, usize)> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        match errors.keys().next() {
            Some(first) => Some((first.clone(), errors.len())),
            None => self.error_below(),
        }
    }

    /// An error that is in a view that it reads, and how many there are.
    pub fn error_below(&self) -> Option<(RowError, usize)> {
        self.upstream.iter().find_map(|query| query.error())
    }

    /// Whether what it reads has ended or is being read to an end.
    fn inputs_end(&self) -> bool {
        self.tables.iter().all(|run| run.is_ending()) && self.upstream.iter().all(|q| q.inputs_end())
    }

    /// Waits for the last answer, if the inputs have an end. Errors: why the query can't go on; a row in error.
    pub fn check(&self) -> Result<()> {
        while self.failure().is_none() && self.frontier().is_some() && self.inputs_end() {
            std::thread::sleep(LOOK);
        }
        match (self.failure(), self.error()) {
            (Some(failure), _) => Err(failure),
            (None, Some(error)) => Err(Error::data(describe(error))),
            (None, None) => Ok(()),
        }
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        Status {
            as_of: Some(self.as_of()).filter(|as_of| *as_of > SINCE_EVER).map(to_micros),
            frontier: self.frontier().map(to_micros),
            error: self.error().map(|(error, count)| match count {
                1 => error.to_string(),
                _ => format!("{error} (and {} more)", count - 1),
            }),
            failure: self.failure().map(|e| e.to_string()),
            left_out: u64::try_from(self.left_out.load(Ordering::Acquire)).unwrap_or(0),
            state_bytes: self.state_bytes(),
        }
    }

    /// Says that it is stopped, and what reads it with it, before its inputs are closed.
    pub fn stop(&self) {
        self.end.stop();
        let readers: Vec<_> = {
            let readers = self.downstream.lock().unwrap_or_else(PoisonError::into_inner);
            readers.iter().filter_map(Weak::upgrade).collect()
        };
        readers.iter().for_each(|reader| reader.stop());
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.end.get() == Some(End::Stopped)
    }

    /// Ends the query with an error, once.
    pub fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() {
            return;
        }
        if let Some(output) = &self.output {
            output.send(Output::Failed(error.clone()));
        }
        *failure = Some(error.clone());
        drop(failure);
        let readers: Vec<_> = {
            let readers = self.downstream.lock().unwrap_or_else(PoisonError::into_inner);
            readers.iter().filter_map(Weak::upgrade).collect()
        };
        readers.iter().for_each(|reader| reader.fail(error.clone()));
    }

    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
