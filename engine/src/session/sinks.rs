//! Queries that write to a sink.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use headwater_connectors::{Emission, Op, Sink, SinkGuarantee};
use headwater_operators::guard;

use super::running::Running;
use super::session::Inner;
use super::view::Status;
use crate::catalog::{News, Node, State};
use crate::error::{Error, Result};
use crate::intake::Run;
use crate::output::{Reader, Writing, write};
use crate::worker::spawn;

/// A running query with a sink. Clones are handles of one query.
#[derive(Clone)]
pub struct Query {
    node: Arc<Node>,
    news: Arc<News>,
    running: Arc<OnceLock<Arc<Running>>>,
    writing: Arc<Writing>,
    promise: Arc<str>,
}

/// What a sink is promised, in words.
pub(super) fn promise(sink: SinkGuarantee, gone: &[String]) -> String {
    let again = match sink {
        SinkGuarantee::AtLeastOnce => "writes everything once more",
        SinkGuarantee::Idempotent => "replaces what is there",
        SinkGuarantee::ExactlyOnce => "passes over what is there",
    };
    let gone = match gone {
        [] => String::new(),
        names => format!("; what was read of {} can't be read again", names.join(", ")),
    };
    format!(
        "each change is written once; no state is kept on disk, so after a restart it begins anew and {again}{gone}"
    )
}

impl Query {
    pub(super) fn new(node: Arc<Node>, news: Arc<News>, promise: &str) -> Self {
        Query { node, news, running: Arc::default(), writing: Arc::default(), promise: promise.into() }
    }

    /// What this combination of sources and sink promises, as a sentence.
    pub fn promise(&self) -> &str {
        &self.promise
    }

    /// Says what runs for it.
    pub(super) fn runs(&self, running: Arc<Running>) {
        self.running.get_or_init(|| running);
    }

    /// The runs that read for it alone.
    pub(super) fn private(&self) -> Vec<Arc<Run>> {
        self.running.get().map(|running| running.private()).unwrap_or_default()
    }

    /// Writes to a sink what the reader that `start` gives has to say, on a thread of its own.
    pub(super) fn write(
        &self,
        session: Arc<Inner>,
        start: impl FnOnce(&Query) -> Result<Reader> + Send + 'static,
        mut sink: Box<dyn Sink>,
    ) -> Result<()> {
        let query = self.clone();
        spawn(format!("write {}", self.node.name), move || {
            let all = AssertUnwindSafe(|| {
                let mut reader = start(&query)?;
                write(&mut reader, sink.as_mut(), &query.writing)
            });
            let result = catch_unwind(all).unwrap_or_else(|panic| {
                Err(Error::internal(format!("{}: {}", query.node.title(), guard::message(&*panic))))
            });
            match result {
                Ok(()) => query.node.finished(),
                Err(error) => query.node.fail(error),
            }
            if let Some(running) = query.running.get() {
                running.retire();
            }
            drop(sink);
            if !query.node.kind.is_named() {
                session.catalog.remove(query.node.id);
            }
            query.writing.done.store(true, Ordering::Release);
            query.news.tell();
        })?;
        Ok(())
    }

    /// The query's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        match self.running.get() {
            Some(running) => Status::of(&running.published),
            None => Status::starting(&self.node),
        }
    }

    /// Rows written so far.
    pub fn rows_written(&self) -> u64 {
        self.writing.rows.load(Ordering::Relaxed)
    }

    /// Waits until the query has ended, because its input has or because it was stopped.
    ///
    /// Errors: whatever ended it: a table, a row in error, the sink. That the wait was cancelled.
    pub fn await_termination(&self) -> Result<()> {
        self.news.wait(self.news.cancels(), || self.has_ended().then_some(()))?;
        match self.node.state() {
            State::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.writing.done.load(Ordering::Acquire)
    }

    /// Stops the query once what is closed is written, and waits for that. Nothing more becomes final.
    ///
    /// Errors as [`Query::await_termination`].
    pub fn stop(&self) -> Result<()> {
        self.node.stop();
        self.writing.stop.store(true, Ordering::Release);
        self.await_termination()
    }

    /// Stops it for good; what it fails of, if it does, is no reason to keep it. Errors: the wait was cancelled.
    pub(super) fn end(&self) -> Result<Option<Error>> {
        match (self.has_ended(), self.stop()) {
            (_, Err(Error::Cancelled)) => Err(Error::Cancelled),
            // It had failed before, and said so.
            (true, _) | (false, Ok(())) => Ok(None),
            (false, Err(error)) => Ok(Some(error)),
        }
    }
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
