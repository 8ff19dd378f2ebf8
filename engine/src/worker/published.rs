//! What a running query shares between its workers and whoever reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use headwater_operators::run_end::End;
use headwater_operators::time::{SINCE_EVER, Time};

use super::outbox::Outbox;
use crate::catalog::Node;
use crate::error::Error;
use crate::render::RowError;

/// How an ended frontier is written where a plain number is shared.
const CLOSED: u64 = u64::MAX;

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

struct Holds {
    /// Reads before this time are no longer possible.
    since: Time,
    /// Times that readers asked to keep, with how many did.
    held: BTreeMap<Time, usize>,
}

/// Keeps the times from one on readable in what a query stores and shares.
pub(crate) struct Hold {
    query: Arc<Published>,
    time: Time,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.query.release(self.time);
    }
}

/// A running query, as seen by all threads.
pub(crate) struct Published {
    /// Its place in the catalog; the number of its dataflow.
    pub node: Arc<Node>,
    pub schema: SchemaRef,
    as_of: AtomicU64,
    /// Where the output goes, if somebody reads it as it comes.
    pub output: Option<Arc<Outbox>>,
    frontiers: Vec<AtomicU64>,
    /// The last frontier of each worker before the end.
    finite: Vec<AtomicU64>,
    state_bytes: Vec<AtomicUsize>,
    holds: Mutex<Holds>,
    errors: Mutex<BTreeMap<RowError, i64>>,
    /// Rows that are left out now because an expression fails on them.
    left_out: AtomicI64,
    /// Stored queries that it reads: their errors are its own.
    pub upstream: Vec<Arc<Published>>,
}

impl Published {
    /// Of a query that is to be rendered on so many workers.
    pub fn new(
        node: Arc<Node>,
        schema: SchemaRef,
        workers: usize,
        output: Option<Arc<Outbox>>,
        upstream: Vec<Arc<Published>>,
    ) -> Arc<Self> {
        if let Some(output) = output.clone() {
            node.when_failed(move |error| output.fail(error.clone()));
        }
        Arc::new(Published {
            node,
            schema,
            as_of: AtomicU64::new(SINCE_EVER),
            output,
            frontiers: (0..workers).map(|_| AtomicU64::new(SINCE_EVER)).collect(),
            finite: (0..workers).map(|_| AtomicU64::new(SINCE_EVER)).collect(),
            state_bytes: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            holds: Mutex::new(Holds { since: SINCE_EVER, held: BTreeMap::new() }),
            errors: Mutex::default(),
            left_out: AtomicI64::new(0),
            upstream,
        })
    }

    /// The number of its dataflow.
    pub fn id(&self) -> u64 {
        self.node.id
    }

    /// All times before this are closed on all workers; `None` when the query's inputs have ended.
    pub fn frontier(&self) -> Option<Time> {
        let least = self.frontiers.iter().map(|f| f.load(Ordering::Acquire)).min().unwrap_or(CLOSED);
        (least != CLOSED).then_some(least)
    }

    /// The last frontier that there was before the end.
    pub fn last_frontier(&self) -> Time {
        self.finite.iter().map(|f| f.load(Ordering::Acquire)).min().unwrap_or(SINCE_EVER)
    }

    /// What one worker has published.
    pub fn worker_frontier(&self, worker: usize) -> Option<Time> {
        let frontier = self.frontiers[worker].load(Ordering::Relaxed);
        (frontier != CLOSED).then_some(frontier)
    }

    pub fn publish(&self, worker: usize, frontier: Option<Time>) {
        // A stop may close what was complete in the same step.
        let finite = frontier.or_else(|| match self.node.run_end().get() {
            Some(End::Stopped(complete)) => Some(complete),
            Some(End::Finished(_)) | None => None,
        });
        if let Some(finite) = finite {
            self.finite[worker].fetch_max(finite, Ordering::AcqRel);
        }
        self.frontiers[worker].store(frontier.unwrap_or(CLOSED), Ordering::Release);
        // What a sink gets is at its end when the sink is.
        let awaited = self.output.as_ref().is_some_and(|output| output.is_awaited());
        if frontier.is_none() && !awaited && self.frontier().is_none() {
            self.node.finished();
        }
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
        let closed = self.last_frontier().saturating_sub(1);
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

    /// Rows and groups that are left out now.
    pub fn left_out(&self) -> u64 {
        u64::try_from(self.left_out.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Why it can't go on, if it can't.
    pub fn failure(&self) -> Option<Error> {
        self.node.failure()
    }
}
