//! What keeps a query running, and what it reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_operators::time::Time;

use super::attach::Arrangements;
use super::sinks::Query;
use crate::catalog::News;
use crate::error::{Error, Result};
use crate::intake::{Run, RunContext};
use crate::worker::{Command, Published, describe};

/// What a node of the catalog is made of.
#[derive(Clone)]
pub(crate) enum Body {
    /// A table, with the run that its queries share.
    Table(Arc<Run>),
    /// A view whose readers are planned over its inputs.
    Plain,
    /// A materialized view, a subscription, an answer.
    Query(Arc<Running>),
    Sink(Query),
}

/// What all queries of a session share.
pub(crate) struct Fabric {
    pub context: RunContext,
    /// The arrangements that there are. The order of all locks: this one, the intakes of tables that lead, of those that
    /// follow, the sequencer.
    pub arrangements: Mutex<Arrangements>,
}

impl Fabric {
    pub fn arrangements(&self) -> MutexGuard<'_, Arrangements> {
        self.arrangements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query that was sent to the workers. It runs until it is retired, at the latest when nobody has it any more.
pub(crate) struct Running {
    pub published: Arc<Published>,
    /// The runs of the tables that it reads, shared with other queries.
    tables: Vec<Arc<Run>>,
    /// The stored views that it reads.
    upstream: Vec<Arc<Running>>,
    /// Runs that read for it alone.
    private: Mutex<Vec<Arc<Run>>>,
    /// Whether the tables below it move each other on.
    accompanied: AtomicBool,
    retired: AtomicBool,
    fabric: Arc<Fabric>,
}

impl Running {
    pub fn new(
        published: Arc<Published>,
        tables: Vec<Arc<Run>>,
        upstream: Vec<Arc<Running>>,
        fabric: Arc<Fabric>,
    ) -> Arc<Self> {
        let (private, accompanied, retired) = Default::default();
        Arc::new(Running { published, tables, upstream, private, accompanied, retired, fabric })
    }

    /// Has a run end with it.
    pub fn owns(&self, run: Arc<Run>) {
        self.private.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    }

    /// The runs that read for it alone.
    pub fn private(&self) -> Vec<Arc<Run>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stored views that it reads.
    pub fn upstream(&self) -> &[Arc<Running>] {
        &self.upstream
    }

    /// All tables below it, each once.
    pub fn all_tables(&self) -> Vec<Arc<Run>> {
        let mut all: HashMap<*const Run, Arc<Run>> = HashMap::new();
        let mut queries = vec![self];
        while let Some(query) = queries.pop() {
            all.extend(query.tables.iter().map(|run| (Arc::as_ptr(run), run.clone())));
            queries.extend(query.upstream.iter().map(|below| &**below));
        }
        all.into_values().collect()
    }

    fn each_pair(&self, together: bool) {
        let all = self.all_tables();
        for follower in all.iter().filter(|run| run.follows()) {
            for leader in all.iter().filter(|run| !Arc::ptr_eq(run, follower)) {
                leader.accompany(follower, together);
            }
        }
    }

    /// Lets the tables that it reads together move those on that follow event time, from where the furthest is now.
    pub fn accompany(&self) {
        if !self.accompanied.swap(true, Ordering::AcqRel) {
            self.each_pair(true);
            self.all_tables().iter().filter(|run| run.follows()).for_each(|run| {
                run.frontier();
            });
        }
    }

    /// Takes it away from the workers, and ends what reads for it alone.
    pub fn retire(&self) {
        if self.retired.swap(true, Ordering::AcqRel) {
            return;
        }
        self.private().iter().for_each(|run| run.abandon());
        if self.accompanied.swap(false, Ordering::AcqRel) {
            self.each_pair(false);
        }
        let id = self.published.id();
        let mut arrangements = self.fabric.arrangements();
        arrangements.forget(id);
        self.fabric.context.sequencer.lock().command(|| Command::DropQuery(id));
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Up to where its tables are closed now: the frontier that it will have once it has worked that through.
    pub fn reachable(&self) -> Option<Time> {
        // A batch that is being read is closed once it is read: whoever asks for its view wants the whole.
        let frontier = |run: &Arc<Run>| run.frontier().filter(|_| !(run.declaration.is_static && run.has_started()));
        let tables = self.tables.iter().map(frontier);
        let views = self.upstream.iter().map(|query| query.reachable());
        tables.chain(views).flatten().min()
    }

    /// Whether all that there was in the sources of the tables below its views has been read.
    pub fn upstream_caught_up(&self) -> bool {
        self.upstream.iter().flat_map(|view| view.all_tables()).all(|run| run.has_caught_up())
    }

    /// Whether what it reads has ended or is being read to an end.
    fn inputs_end(&self) -> bool {
        self.tables.iter().all(|run| run.is_ending()) && self.upstream.iter().all(|q| q.inputs_end())
    }

    /// Waits for the last answer, if the inputs have an end. Errors: why the query can't go on; a row in error; that it
    /// was cancelled.
    pub fn check(&self, news: &News) -> Result<()> {
        let ended = || {
            let open = self.published.frontier().is_some() && self.inputs_end() && !self.is_retired();
            (self.published.failure().is_some() || !open).then_some(())
        };
        news.wait(news.cancels(), ended)?;
        match (self.published.failure(), self.published.error()) {
            (Some(failure), _) => Err(failure),
            (None, Some(error)) => Err(Error::data(describe(error))),
            (None, None) => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.retire();
    }
}
