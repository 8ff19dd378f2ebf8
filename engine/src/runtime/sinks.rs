//! Queries that write to a sink.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use headwater_connectors::{Emission, Op, OutputMode, Sink};

use super::query::QueryShared;
use super::spawn::spawn;
use super::subscription::{Event, Subscription};
use super::view::Status;
use crate::error::{Error, Result};

/// How often a writer looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// A sink by name.
pub(crate) struct SinkEntry {
    /// The statement, for `SHOW CREATE`.
    pub text: String,
    pub query: Query,
    /// The relations that it reads.
    pub reads: std::collections::BTreeSet<String>,
}

#[derive(Default)]
struct Written {
    rows: AtomicU64,
    emissions: AtomicU64,
}

/// A running query with a sink. Clones are handles of one query.
#[derive(Clone)]
pub struct Query {
    shared: Arc<QueryShared>,
    ended: Arc<(Mutex<Option<Result<()>>>, Condvar)>,
    stop: Arc<AtomicBool>,
    written: Arc<Written>,
}

impl Query {
    /// Writes a subscription's emissions to a sink, on a thread of its own.
    pub(crate) fn start(mut subscription: Subscription, mut sink: Box<dyn Sink>) -> Result<Self> {
        let query = Query {
            shared: subscription.shared().clone(),
            ended: Arc::default(),
            stop: Arc::default(),
            written: Arc::default(),
        };
        let writer = query.clone();
        spawn(format!("write {}", query.shared.name), move || {
            let result = writer.write(&mut subscription, sink.as_mut());
            if let Err(error) = &result {
                writer.shared.fail(error.clone());
            }
            drop(subscription);
            let (ended, changed) = &*writer.ended;
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            changed.notify_all();
        })?;
        Ok(query)
    }

    fn write(&self, subscription: &mut Subscription, sink: &mut dyn Sink) -> Result<()> {
        loop {
            match subscription.next(LOOK)? {
                Event::Emission(emission) => {
                    if says_something(&emission) {
                        sink.write(&emission)?;
                        sink.commit()?;
                        self.written.rows.fetch_add(emission.counts.iter().sum(), Ordering::Relaxed);
                        self.written.emissions.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Event::Idle if self.stop.load(Ordering::Acquire) => break,
                Event::Idle => {}
                Event::End => break,
            }
        }
        Ok(sink.close()?)
    }

    /// The query's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Rows written so far.
    pub fn rows_written(&self) -> u64 {
        self.written.rows.load(Ordering::Relaxed)
    }

    /// Waits until the query has ended, because its input has or because it was stopped.
    ///
    /// Errors: whatever ended it: a table, a row in error, the sink.
    pub fn await_termination(&self) -> Result<()> {
        let (ended, changed) = &*self.ended;
        let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = ended.as_ref() {
                return result.clone();
            }
            ended = changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Stops the query once what is closed is written, and waits for that. Nothing more becomes final.
    pub fn stop(&self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        self.await_termination()
    }
}

/// Whether an emission is worth a write: an empty one tells a sink nothing, except that a whole result is empty.
fn says_something(emission: &Emission) -> bool {
    !emission.ops.is_empty() || emission.mode == OutputMode::Complete
}

/// A sink made of a function, called with each emission.
pub struct ForEach<F>(pub F);

impl<F: FnMut(&Emission) -> Result<()> + Send> Sink for ForEach<F> {
    fn write(&mut self, emission: &Emission) -> headwater_connectors::Result<()> {
        (self.0)(emission)
            .map_err(|e: Error| headwater_connectors::Error::External { message: e.to_string(), retry: false })
    }
    fn commit(&mut self) -> headwater_connectors::Result<()> {
        Ok(())
    }
    fn close(&mut self) -> headwater_connectors::Result<()> {
        Ok(())
    }
}

/// How an operation is written in a line: `+I`, `-D`, `+U`.
pub fn op_name(op: Op) -> &'static str {
    match op {
        Op::Insert => "+I",
        Op::Delete => "-D",
        Op::Upsert => "+U",
    }
}
