//! Reading a query's output as it comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::Emission;
use headwater_operators::time::to_micros;

use super::awake::Awake;
use super::emit::Emitter;
use super::outbox::Outbox;
use super::query::{Output, QueryShared, describe};
use super::session::Inner;
use super::view::Status;
use crate::error::{Error, Result};
use crate::sql::Trigger;

/// How long a reader stays awake for the next emission.
const AWAKE: Duration = Duration::from_micros(50);

/// How often a reader looks whether its answer is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// What waiting for an emission gave.
#[derive(Clone, Debug)]
pub enum Event {
    /// Changes through a closed time; perhaps none, where only the frontier moved.
    Emission(Emission),
    /// Nothing happened in time.
    Idle,
    /// The query has ended; there will be no more.
    End,
}

/// A reader of a query's output. Dropping it drops the query.
pub struct Subscription {
    session: Arc<Inner>,
    shared: Arc<QueryShared>,
    outbox: Arc<Outbox>,
    emitter: Emitter,
    interval: Option<Duration>,
    last: Instant,
    /// The session's cancels when it began.
    cancels: u64,
    awake: Awake,
    /// Whether it goes on with the views that it reads.
    live: bool,
}

impl Subscription {
    pub(crate) fn new(
        session: Arc<Inner>,
        shared: Arc<QueryShared>,
        outbox: Arc<Outbox>,
        emitter: Emitter,
        trigger: Trigger,
        cancels: u64,
        live: bool,
    ) -> Self {
        let interval = match trigger {
            Trigger::Continuous | Trigger::AvailableNow => None,
            Trigger::Within(interval) | Trigger::Every(interval) => Some(interval),
        };
        let awake = Awake::new(AWAKE, session.workers);
        Subscription { session, shared, outbox, emitter, interval, last: Instant::now(), awake, cancels, live }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.shared.schema
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
        let deadline = Instant::now() + wait;
        loop {
            if self.emitter.done() {
                return Ok(Event::End);
            }
            if !self.outbox.is_empty() {
                self.absorb(self.outbox.take())?;
            }
            let due = self.interval.map_or(self.last, |interval| self.last + interval);
            let ended = self.emitter.frontier().is_none();
            let ready = self.emitter.ready();
            if ready && (ended || Instant::now() >= due) {
                self.check_below()?;
                self.last = Instant::now();
                if let Some(emission) = self.emitter.emit()? {
                    return Ok(Event::Emission(emission));
                }
            }
            let until = if ready && !ended { deadline.min(due.max(Instant::now())) } else { deadline };
            // An answer that is about to come is met awake: to sleep and be woken costs more than it.
            self.awake.begin();
            while self.awake.has_room() && self.outbox.is_empty() && self.awake.waits() && Instant::now() < until {
                self.awake.pause();
            }
            let messages = self.outbox.wait(until);
            self.awake.end();
            if messages.is_empty() && Instant::now() >= deadline {
                return Ok(Event::Idle);
            }
            self.absorb(messages)?;
        }
    }

    /// Waits for the end of the input and gives the whole final answer, in the order that the query asks for.
    /// For subscriptions in complete mode. Errors as [`Subscription::recv`], and that it was cancelled.
    pub fn finish(mut self) -> Result<RecordBatch> {
        while self.emitter.frontier().is_some() && !self.emitter.has_enough() {
            self.session.check(self.cancels)?;
            self.absorb(self.outbox.wait(Instant::now() + LOOK))?;
        }
        self.check_below()?;
        match self.emitter.emit()? {
            Some(emission) => repeated(emission),
            None => Ok(RecordBatch::new_empty(self.shared.schema.clone())),
        }
    }

    /// Errors: a row in error in a view that is read as it is now. What goes on with a view has its errors from there.
    fn check_below(&self) -> Result<()> {
        match self.shared.error_below().filter(|_| !self.live) {
            Some(error) => Err(Error::data(describe(error))),
            None => Ok(()),
        }
    }

    fn absorb(&mut self, messages: VecDeque<Output>) -> Result<()> {
        for message in messages {
            let rows = self.emitter.absorb(message)?;
            self.shared.unread.sub(rows);
        }
        Ok(())
    }

    /// The answers hold from this time on, microseconds since the epoch; `None` where they hold since ever.
    pub fn as_of(&self) -> Option<i64> {
        self.shared.status().as_of
    }

    /// All times before this one, microseconds since the epoch, are closed and were received; `None` at the end.
    pub fn frontier(&self) -> Option<i64> {
        self.emitter.frontier().map(to_micros)
    }

    /// The error row that holds the view, if any: nothing is emitted while it is there.
    pub fn error(&self) -> Option<String> {
        self.emitter.error().map(ToString::to_string).or_else(|| self.shared.error_below().map(describe))
    }

    /// How the query is doing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    pub(crate) fn shared(&self) -> &Arc<QueryShared> {
        &self.shared
    }
}

/// An emission's rows, each as often as it counts.
pub(crate) fn repeated(emission: Emission) -> Result<RecordBatch> {
    if emission.counts.iter().all(|count| *count == 1) {
        return Ok(emission.rows);
    }
    let indices: arrow::array::UInt32Array = emission
        .counts
        .iter()
        .enumerate()
        .flat_map(|(row, count)| std::iter::repeat_n(row as u32, *count as usize))
        .collect();
    Ok(arrow::compute::take_record_batch(&emission.rows, &indices)?)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.outbox.close();
        self.session.drop_query(self.shared.id);
    }
}
