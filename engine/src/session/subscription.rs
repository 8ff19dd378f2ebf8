//! Reading a query's output as it comes.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::Emission;

use super::running::Running;
use super::session::Inner;
use super::view::Status;
use crate::error::Result;
use crate::output::{Event, Reader};

/// A reader of a query's output. Dropping it drops the query.
///
/// One that is not read holds up nobody. What waits for it is bounded by `SET max_unread`: beyond that it has failed.
pub struct Subscription {
    session: Arc<Inner>,
    reader: Reader,
    running: Arc<Running>,
}

impl Subscription {
    pub(super) fn new(session: Arc<Inner>, reader: Reader, running: Arc<Running>) -> Self {
        Subscription { session, reader, running }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.running.published.schema
    }

    /// The next emission, waiting for as long as it takes; `None` at the end.
    ///
    /// Errors: those of the query's tables; a row in error at the end of the input; a retraction in append mode.
    pub fn recv(&mut self) -> Result<Option<Emission>> {
        loop {
            match self.next(Duration::from_secs(3600))? {
                Event::Emission(emission) => return Ok(Some(emission)),
                Event::Idle => {}
                Event::End => return Ok(None),
            }
        }
    }

    /// The next emission, waiting for at most `wait`. Errors as [`Subscription::recv`].
    pub fn next(&mut self, wait: Duration) -> Result<Event> {
        self.reader.next(wait)
    }

    /// Waits for the end of the input and gives the whole final answer, in the order that the query asks for.
    /// For subscriptions in complete mode. Errors as [`Subscription::recv`], and that it was cancelled.
    pub fn finish(mut self) -> Result<RecordBatch> {
        self.reader.finish()
    }

    /// The answers hold from this time on, microseconds since the epoch; `None` where they hold since ever.
    pub fn as_of(&self) -> Option<i64> {
        self.status().as_of
    }

    /// All times before this one, microseconds since the epoch, are closed and were received; `None` at the end.
    pub fn frontier(&self) -> Option<i64> {
        self.reader.frontier_us()
    }

    /// The error row that holds the view, if any: nothing is emitted while it is there.
    pub fn error(&self) -> Option<String> {
        self.reader.error()
    }

    /// How the query is doing.
    pub fn status(&self) -> Status {
        Status::of(&self.running.published)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.running.retire();
        self.session.catalog.remove(self.running.published.id());
    }
}
