//! Reading a query's output as it comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use headwater_connectors::Emission;
use headwater_operators::time::{Time, to_micros};

use super::emit::Emitter;
use crate::catalog::News;
use crate::error::{Error, Result};
use crate::worker::{Awake, Changes, Outbox, Published, describe};

/// How long a reader stays awake for the next emission.
const AWAKE: Duration = Duration::from_micros(50);

/// How often a reader looks whether its answer is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// When what is closed is given out.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as it is.
    AtOnce,
    /// At most once in this time.
    Every(Duration),
    /// All of it when the query ends.
    AtEnd,
}

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

/// The one reader of a query's output.
pub(crate) struct Reader {
    published: Arc<Published>,
    outbox: Arc<Outbox>,
    emitter: Emitter,
    pace: Pace,
    last: Instant,
    awake: Awake,
    /// Whether it goes on with the views that it reads.
    live: bool,
    news: Arc<News>,
    /// The session's cancels when it began.
    cancels: u64,
}

impl Reader {
    /// A reader that emits at a `pace`, for `live` queries and for ones over what there was at a moment. There were so many
    /// `cancels` when its call began.
    #[expect(clippy::too_many_arguments, reason = "what a reader is, and what it waits for")]
    pub fn new(
        published: Arc<Published>,
        outbox: Arc<Outbox>,
        emitter: Emitter,
        pace: Pace,
        live: bool,
        news: Arc<News>,
        cancels: u64,
        workers: usize,
    ) -> Self {
        let awake = Awake::new(AWAKE, workers);
        Reader { published, outbox, emitter, pace, last: Instant::now(), awake, live, news, cancels }
    }

    /// The next emission, waiting for at most `wait`.
    pub fn next(&mut self, wait: Duration) -> Result<Event> {
        let deadline = Instant::now() + wait;
        loop {
            if self.emitter.done() {
                return Ok(Event::End);
            }
            if !self.outbox.is_empty() {
                let changes = self.outbox.take();
                self.absorb(changes)?;
            }
            // When what is closed is to be given out, if something is.
            let due = self.emitter.ready().then(|| match self.pace {
                _ if self.emitter.frontier().is_none() => Some(self.last),
                Pace::AtOnce => Some(self.last),
                Pace::Every(interval) => Some(self.last + interval),
                Pace::AtEnd => None,
            });
            let due = due.flatten();
            if due.is_some_and(|due| Instant::now() >= due)
                && let Some(emission) = self.emit()?
            {
                return Ok(Event::Emission(emission));
            }
            let until = due.map_or(deadline, |due| deadline.min(due));
            // An answer that is about to come is met awake: to sleep and be woken costs more than it.
            self.awake.begin();
            while self.awake.has_room()
                && self.outbox.is_empty()
                && self.awake.waits(|| false)
                && Instant::now() < until
            {
                self.awake.pause();
            }
            let changes = self.outbox.wait(until);
            self.awake.end();
            if changes.as_ref().is_ok_and(VecDeque::is_empty) && Instant::now() >= deadline {
                return Ok(Event::Idle);
            }
            self.absorb(changes)?;
        }
    }

    fn emit(&mut self) -> Result<Option<Emission>> {
        self.check_below()?;
        self.last = Instant::now();
        self.emitter.emit()
    }

    /// What is closed now, if it was not given out: for a reader that stops.
    pub fn rest(&mut self) -> Result<Option<Emission>> {
        let changes = self.outbox.take();
        self.absorb(changes)?;
        if self.emitter.ready() { self.emit() } else { Ok(None) }
    }

    /// Waits for the end of the input and gives the whole answer, in the order that the query asks for.
    ///
    /// Errors: a row in error; why the query can't go on; that it was cancelled.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        while self.emitter.frontier().is_some() && !self.emitter.has_enough() {
            self.news.check(self.cancels)?;
            let changes = self.outbox.wait(Instant::now() + LOOK);
            self.absorb(changes)?;
        }
        self.check_below()?;
        match self.emitter.emit()? {
            Some(emission) => repeated(emission),
            None => Ok(RecordBatch::new_empty(self.published.schema.clone())),
        }
    }

    /// Errors: a row in error in a view that is read as it is now. What goes on with a view has its errors from there.
    fn check_below(&self) -> Result<()> {
        match self.published.error_below().filter(|_| !self.live) {
            Some(error) => Err(Error::data(describe(error))),
            None => Ok(()),
        }
    }

    fn absorb(&mut self, changes: Result<VecDeque<Changes>>) -> Result<()> {
        changes?.into_iter().for_each(|changes| self.emitter.absorb(changes));
        Ok(())
    }

    /// All times before this one are closed and were received; `None` at the end.
    pub fn frontier(&self) -> Option<Time> {
        self.emitter.frontier()
    }

    /// The same in microseconds since the epoch.
    pub fn frontier_us(&self) -> Option<i64> {
        self.frontier().map(to_micros)
    }

    /// The error row that holds the answer, if any: nothing is emitted while it is there.
    pub fn error(&self) -> Option<String> {
        self.emitter.error().map(ToString::to_string).or_else(|| self.published.error_below().map(describe))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// An emission's rows, each as often as it counts.
fn repeated(emission: Emission) -> Result<RecordBatch> {
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
