//! The way from the workers to a query's reader.
//!
//! Common channels yield to other threads a few times before they sleep. Linux takes a thread that yields for one that
//! has had its turn: where cores are scarce it then waits milliseconds beside a busy one, and an answer with it. This
//! one sleeps at once; the scheduler prefers who was asleep.
//!
//! What waits here follows what there is to say, not how many rounds there were: a frontier that moves without rows takes
//! the place of the one before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use headwater_operators::Updates;
use headwater_operators::time::Time;

use super::gauge::{Gauge, Load};
use crate::columns::Columns;
use crate::error::Error;
use crate::render::RowError;

/// What the end of a query's dataflow sends to its reader: changes of one worker, and its frontier after them.
pub(crate) struct Changes {
    pub worker: usize,
    /// Changes of rows, at any times not before the worker's last frontier.
    pub updates: Vec<Updates<Columns>>,
    /// Changes of the errors.
    pub errors: Vec<(RowError, Time, i64)>,
    /// The frontier; `None` when the dataflow has ended.
    pub frontier: Option<Time>,
}

impl Changes {
    fn is_silent(&self) -> bool {
        self.updates.is_empty() && self.errors.is_empty()
    }

    /// Its rows, and their bytes with times and diffs.
    fn load(&self) -> Load {
        self.updates.iter().fold(Load::default(), |mut all, updates| {
            all += Load::of(updates);
            all += Load { rows: 0, bytes: 16 * updates.len() };
            all
        })
    }
}

/// Output that was not yet taken.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Messages in the queue, to be looked at without a lock.
    waiting: AtomicUsize,
    came: Condvar,
    /// What was sent and not yet taken.
    pub unread: Gauge,
    /// The most bytes that wait for a reader that may rest; `None` for one that always reads on, for which its feeds wait.
    most: Option<usize>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Changes>,
    /// Why there will be no more.
    failure: Option<Error>,
    /// Whether the reader sleeps.
    asleep: bool,
    /// Whether the reader is gone.
    closed: bool,
}

impl Outbox {
    /// For a reader that always reads on, as a sink's writer does: what it reads waits for it.
    pub fn awaited() -> Self {
        Outbox::new(None)
    }

    /// For a reader that may rest: nobody waits for it, and it has failed when more than `most` bytes wait for it.
    pub fn bounded(most: usize) -> Self {
        Outbox::new(Some(most))
    }

    fn new(most: Option<usize>) -> Self {
        let (queue, waiting, came, unread) = Default::default();
        Outbox { queue, waiting, came, unread, most }
    }

    /// Whether the reader always reads on, and has something to do with it before the query is at its end.
    pub fn is_awaited(&self) -> bool {
        self.most.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what feeds the query has to wait for its reader.
    pub fn is_full(&self, most: Load) -> bool {
        self.most.is_none() && self.unread.get().exceeds(most)
    }

    /// Adds changes, unless the reader is gone. Errors: more wait for the reader than may.
    pub fn send(&self, changes: Changes) -> Result<(), Error> {
        let mut queue = self.lock();
        if queue.closed || queue.failure.is_some() {
            return Ok(());
        }
        match queue.messages.iter_mut().rev().find(|last| last.worker == changes.worker) {
            Some(last) if changes.is_silent() => last.frontier = changes.frontier,
            _ => {
                self.unread.add(changes.load());
                queue.messages.push_back(changes);
            }
        }
        let Load { rows, bytes } = self.unread.get();
        if self.most.is_some_and(|most| bytes > most) {
            let bytes = bytes >> 20;
            return Err(Error::user(format!(
                "its reader rests: {rows} rows ({bytes} MiB) wait to be read; read them as they come, or allow more by \
                 SET max_unread"
            )));
        }
        self.waiting.store(queue.messages.len(), Ordering::Release);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Says that there will be no more, and why.
    pub fn fail(&self, error: Error) {
        let mut queue = self.lock();
        queue.failure = Some(error);
        self.clear(&mut queue);
        self.waiting.store(1, Ordering::Release);
        drop(queue);
        self.came.notify_all();
    }

    /// Whether there is nothing to take now.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    fn clear(&self, queue: &mut Queue) -> VecDeque<Changes> {
        let messages = std::mem::take(&mut queue.messages);
        messages.iter().for_each(|changes| self.unread.sub(changes.load()));
        messages
    }

    /// The changes there are, for the one reader. Errors: why there will be no more.
    pub fn take(&self) -> Result<VecDeque<Changes>, Error> {
        self.taken(&mut self.lock())
    }

    fn taken(&self, queue: &mut Queue) -> Result<VecDeque<Changes>, Error> {
        if let Some(error) = &queue.failure {
            return Err(error.clone());
        }
        self.waiting.store(0, Ordering::Release);
        Ok(self.clear(queue))
    }

    /// Sleeps until there are changes, and takes them; nothing where none came in time.
    pub fn wait(&self, until: Instant) -> Result<VecDeque<Changes>, Error> {
        let mut queue = self.lock();
        while queue.messages.is_empty() && queue.failure.is_none() {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            queue.asleep = true;
            (queue, _) = self.came.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
        queue.asleep = false;
        self.taken(&mut queue)
    }

    /// Says that the reader is gone: there is nobody to keep anything for.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        drop(self.clear(&mut queue));
    }
}
