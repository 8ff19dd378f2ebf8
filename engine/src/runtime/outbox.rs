//! The way from the workers to a query's reader.
//!
//! Common channels yield to other threads a few times before they sleep. Linux takes a thread that yields for one that
//! has had its turn: where cores are scarce it then waits milliseconds beside a busy one, and an answer with it. This
//! one sleeps at once; the scheduler prefers who was asleep.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::query::Output;

/// Output that was not yet taken.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Messages in the queue, to be looked at without a lock.
    waiting: AtomicUsize,
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Output>,
    /// Whether the reader sleeps.
    asleep: bool,
    /// Whether the reader is gone.
    closed: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, unless the reader is gone.
    pub fn send(&self, message: Output) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.messages.push_back(message);
        self.waiting.store(queue.messages.len(), Ordering::Release);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.came.notify_one();
        }
    }

    /// Whether there is no message now.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// The messages there are, for the one reader.
    pub fn take(&self) -> VecDeque<Output> {
        self.taken(&mut self.lock())
    }

    fn taken(&self, queue: &mut Queue) -> VecDeque<Output> {
        self.waiting.store(0, Ordering::Release);
        std::mem::take(&mut queue.messages)
    }

    /// Sleeps until there are messages, and takes them; nothing where none came in time.
    pub fn wait(&self, until: Instant) -> VecDeque<Output> {
        let mut queue = self.lock();
        while queue.messages.is_empty() {
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
        self.taken(&mut queue);
    }
}
