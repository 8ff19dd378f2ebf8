//! A session: tables, views and sinks, and the workers that keep them up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use crossbeam_channel::unbounded;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use headwater_connectors::{OutputMode, Registry};
use headwater_operators::stamp::SessionTime;
use headwater_operators::time::{SINCE_EVER, Time};
use timely::communication::WorkerGuards;

use super::attach::{Arrangements, Attach};
use super::emit::{Emitter, Shape};
use super::input::Input;
use super::message::{Command, Contents, Sequencer};
use super::outbox::Outbox;
use super::query::{Hold, QueryShared, describe};
use super::settings::RuntimeMode;
use super::spawn::start_workers;
use super::subscription::Subscription;
use super::table::{Declaration, Followers, Origin, Run, RunContext};
use super::view::View;
use crate::dataframe::DataFrame;
use crate::error::{Error, Result};
use crate::plan::catalog::ViewMeta;
use crate::plan::{OnError, Op, Plan, Purpose, Relation};
use crate::render::codec::Codec;
use crate::sql::{Planner, Trigger};

/// Builds a [`Session`].
#[derive(Default)]
pub struct SessionBuilder {
    workers: Option<usize>,
    pinned: bool,
    mode: RuntimeMode,
    registry: Option<Registry>,
}

impl SessionBuilder {
    /// How many worker threads; 1 if not given.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Whether each worker keeps to a core of its own, so that the system never puts two on one. For a process that has
    /// the machine to itself: two that pin their workers pin them to the same cores.
    #[must_use]
    pub fn pin_workers(mut self, pinned: bool) -> Self {
        self.pinned = pinned;
        self
    }

    /// How tables are read.
    #[must_use]
    pub fn runtime_mode(mut self, mode: RuntimeMode) -> Self {
        self.mode = mode;
        self
    }

    /// The connectors; the standard ones if not given.
    #[must_use]
    pub fn connectors(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Starts the workers.
    ///
    /// Errors: no worker; threads that can't be started; pinned workers that are more than the cores.
    pub fn build(self) -> Result<Session> {
        let workers = self.workers.unwrap_or(1);
        if workers == 0 {
            return Err(Error::user("a session needs at least one worker"));
        }
        let (links, guards) = start_workers(workers, self.pinned)?;
        let sequencer = Arc::new(Sequencer::new(links));
        let context =
            RunContext { sequencer, session: SessionTime::default(), followers: Arc::new(Followers::default()) };
        let inner = Inner {
            context,
            workers,
            guards: Mutex::new(Some(guards)),
            planner: RwLock::new(Planner::new()),
            registry: self.registry.unwrap_or_else(Registry::standard),
            catalog: Mutex::default(),
            mode: Mutex::new(self.mode),
            on_error: Mutex::default(),
            deferred: AtomicBool::new(false),
            arrangements: Mutex::default(),
            inputs: AtomicU32::new(0),
            cancels: AtomicU64::new(0),
            private: Mutex::default(),
            changing: Mutex::new(()),
        };
        Ok(Session(Arc::new(inner)))
    }
}

/// What a session knows by name.
#[derive(Default)]
pub(crate) struct Catalog {
    pub tables: BTreeMap<String, Arc<Run>>,
    pub views: BTreeMap<String, ViewEntry>,
    pub sinks: BTreeMap<String, super::sinks::SinkEntry>,
}

/// A view by name.
pub(crate) struct ViewEntry {
    /// The statement, for `SHOW CREATE`.
    pub text: String,
    /// The query that keeps it, where it is materialized.
    pub query: Option<Stored>,
    /// What it reads.
    pub reads: BTreeSet<String>,
}

/// A view that is kept up to date.
#[derive(Clone)]
pub(crate) struct Stored {
    pub shared: Arc<QueryShared>,
}

/// How a query reads its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The session's runs, shared with all other queries.
    Live,
    /// All that there is now, to the end.
    Bounded,
    /// All that there is now, without an end.
    AvailableNow,
}

/// The parts of a session, shared by its handles.
pub(crate) struct Inner {
    context: RunContext,
    pub(super) workers: usize,
    guards: Mutex<Option<WorkerGuards<()>>>,
    planner: RwLock<Planner>,
    pub registry: Registry,
    catalog: Mutex<Catalog>,
    mode: Mutex<RuntimeMode>,
    /// What queries do with rows that fail, unless they say.
    on_error: Mutex<OnError>,
    /// Whether tables wait to be started, so that all queries of a script see them from the beginning.
    pub(super) deferred: AtomicBool,
    /// What queries share.
    pub(super) arrangements: Mutex<Arrangements>,
    inputs: AtomicU32,
    /// How often [`Session::cancel`] was called.
    cancels: AtomicU64,
    /// Runs that read for one query.
    private: Mutex<Vec<Weak<Run>>>,
    /// Held while a statement changes tables.
    pub changing: Mutex<()>,
}

/// An engine: statements and queries go in, answers are kept up to date. Clones are handles of one session.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>);

impl Session {
    /// A session with one worker.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// A session to be configured.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.0.workers
    }

    /// A query in SQL.
    ///
    /// Errors point at the place in `text`.
    pub fn sql(&self, text: &str) -> Result<DataFrame> {
        let query = crate::sql::parse_query(text)?;
        let plan = self.0.planner().logical(&query)?;
        Ok(DataFrame::new(self.0.clone(), plan).on_error(self.0.on_error()))
    }

    /// A table or view as a query.
    pub fn table(&self, name: &str) -> Result<DataFrame> {
        let plan = self.0.scan(name)?;
        Ok(DataFrame::new(self.0.clone(), plan).on_error(self.0.on_error()))
    }

    /// A way to push rows into a table that is in memory or has `connector = 'channel'`.
    pub fn input(&self, table: &str) -> Result<Input> {
        let run = self.0.run(table)?;
        match run.declaration.origin {
            Origin::Memory | Origin::Channel => {
                let number = self.0.inputs.fetch_add(1, Ordering::Relaxed);
                Ok(Input::new(self.0.clone(), run, number))
            }
            Origin::Connector(..) => Err(Error::user(format!(
                "table '{table}' is read by a connector; rows can be pushed into tables in memory and into those with \
                 connector = 'channel'"
            ))),
        }
    }

    /// Starts to maintain a query under a name, for snapshots, subscriptions and other queries.
    pub fn create_view(&self, name: &str, query: &DataFrame) -> Result<View> {
        self.0.create_view(name, query, true, String::new())
    }

    /// A materialized view by name.
    pub fn view(&self, name: &str) -> Result<View> {
        let catalog = self.0.catalog();
        let entry = catalog.views.get(name).ok_or_else(|| Error::user(format!("there is no view '{name}'")))?;
        let stored = entry.query.clone().ok_or_else(|| {
            Error::user(format!("view '{name}' is not materialized: select from it, or create it MATERIALIZED"))
        })?;
        Ok(View::new(self.0.clone(), name, stored))
    }

    /// Makes a Rust function callable in queries.
    pub fn register_udf(&self, function: ScalarUDF) {
        self.0.planner_mut().register_udf(function);
    }

    /// Stops reading and ends all queries: what was read is worked through, nothing more becomes final.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Ends what other threads are waiting for in this session: answers that are collected, statements that change
    /// tables, views that are still being read. They get [`Error::Cancelled`]; views and sinks go on.
    pub fn cancel(&self) {
        self.0.cancels.fetch_add(1, Ordering::AcqRel);
    }
}

impl Inner {
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    pub fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn planner(&self) -> std::sync::RwLockReadGuard<'_, Planner> {
        self.planner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn planner_mut(&self) -> std::sync::RwLockWriteGuard<'_, Planner> {
        self.planner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mode(&self) -> RuntimeMode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_mode(&self, mode: RuntimeMode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    pub fn on_error(&self) -> OnError {
        *self.on_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_on_error(&self, mode: OnError) {
        *self.on_error.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// All of a table or view, to build on.
    pub fn scan(&self, name: &str) -> Result<LogicalPlan> {
        Ok(self.planner().table_scan(name)?.build()?)
    }

    /// The run of a table.
    pub fn run(&self, table: &str) -> Result<Arc<Run>> {
        self.catalog().tables.get(table).cloned().ok_or_else(|| Error::user(format!("there is no table '{table}'")))
    }

    /// Adds a declared table; it is read once a query needs it.
    pub fn add_table(&self, declaration: Declaration) -> Result<()> {
        let meta = declaration.meta();
        let name = declaration.name.clone();
        let run = Run::new(Arc::new(declaration), &self.context, false);
        self.planner_mut().register_table(meta);
        self.catalog().tables.insert(name, run);
        Ok(())
    }

    /// Holds back the start of tables until [`Inner::begin`].
    pub fn defer(&self) {
        self.deferred.store(true, Ordering::Release);
    }

    /// Starts the tables that queries read.
    pub fn begin(&self) -> Result<()> {
        self.deferred.store(false, Ordering::Release);
        let runs: Vec<_> = self.catalog().tables.values().filter(|run| run.is_used()).cloned().collect();
        runs.iter().try_for_each(|run| run.start(Reading::Live))
    }

    /// Ends the tables that are in memory: nobody will push any more.
    pub fn close_memory(&self) {
        let runs: Vec<_> = self.catalog().tables.values().cloned().collect();
        for run in runs.iter().filter(|run| matches!(run.declaration.origin, Origin::Memory | Origin::Channel)) {
            run.lock().end();
        }
    }

    pub fn stop(&self) {
        let mut runs: Vec<_> = self.catalog().tables.values().cloned().collect();
        runs.extend(self.private().iter().filter_map(Weak::upgrade));
        runs.iter().for_each(|run| run.stop());
    }

    fn private(&self) -> MutexGuard<'_, Vec<Weak<Run>>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of a table that reads for one query.
    pub fn private_run(&self, declaration: &Arc<Declaration>) -> Arc<Run> {
        let run = Run::new(declaration.clone(), &self.context, true);
        let mut private = self.private();
        private.retain(|run| run.strong_count() > 0);
        private.push(Arc::downgrade(&run));
        run
    }

    /// For [`Inner::check`], when a call begins that may wait.
    pub fn cancels(&self) -> u64 {
        self.cancels.load(Ordering::Acquire)
    }

    /// Errors: [`Session::cancel`] was called since there were `before` cancels.
    pub fn check(&self, before: u64) -> Result<()> {
        if self.cancels() == before { Ok(()) } else { Err(Error::Cancelled) }
    }

    pub fn create_view(self: &Arc<Self>, name: &str, query: &DataFrame, store: bool, text: String) -> Result<View> {
        let physical = self.planner().physical(&query.plan, Purpose::View, query.on_error)?;
        self.create_planned_view(name, query, physical, store, text)
    }

    /// Creates a view from the plan that its query has.
    pub fn create_planned_view(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        physical: Plan,
        store: bool,
        text: String,
    ) -> Result<View> {
        let properties = physical.nodes[physical.root].properties.clone();
        let schema = self.planner().view_schema(&query.plan, &physical)?;
        let errors = (query.on_error == OnError::DeadLetter).then(|| physical.errors());
        let reads = relations(&physical).into_iter().map(|r| r.name().to_owned()).collect();
        let shared = self.install(name, physical, Reading::Live, store, None, query.from_now, self.cancels())?;
        let bounded = properties.is_static;
        let meta = ViewMeta { name: name.to_owned(), schema, properties, bounded, errors, definition: None };
        self.planner_mut().register_view(meta);
        let stored = Stored { shared };
        let entry = ViewEntry { text, query: Some(stored.clone()), reads };
        self.catalog().views.insert(name.to_owned(), entry);
        Ok(View::new(self.clone(), name, stored))
    }

    /// Starts a query whose output is read as it comes.
    pub fn subscribe(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        mode: OutputMode,
        trigger: Trigger,
        reading: Reading,
    ) -> Result<Subscription> {
        let purpose = if reading == Reading::Bounded { Purpose::Answer } else { Purpose::Output(mode) };
        let physical = self.planner().physical(&query.plan, purpose, query.on_error)?;
        self.subscribe_plan(name, physical, mode, trigger, reading, query.from_now)
    }

    pub fn subscribe_plan(
        self: &Arc<Self>,
        name: &str,
        plan: Plan,
        mode: OutputMode,
        trigger: Trigger,
        reading: Reading,
        from_now: bool,
    ) -> Result<Subscription> {
        let cancels = self.cancels();
        let mut emitter = Emitter::new(mode, Shape::of(&plan), self.workers)?;
        let outbox = Arc::new(Outbox::default());
        let reading = if trigger == Trigger::AvailableNow { Reading::AvailableNow } else { reading };
        let shared = self.install(name, plan, reading, false, Some(outbox.clone()), from_now, cancels)?;
        emitter.begin(shared.as_of());
        let live = reading == Reading::Live;
        Ok(Subscription::new(self.clone(), shared, outbox, emitter, trigger, cancels, live))
    }

    /// Renders a plan on all workers and connects it to its relations.
    #[expect(clippy::too_many_arguments, reason = "what a query is, and how it is read")]
    fn install(
        self: &Arc<Self>,
        name: &str,
        plan: Plan,
        reading: Reading,
        store: bool,
        output: Option<Arc<Outbox>>,
        from_now: bool,
        cancels: u64,
    ) -> Result<Arc<QueryShared>> {
        let id = self.context.sequencer.number();
        let schema = plan.schema.clone();
        let relations = relations(&plan);
        let mut upstream = Vec::new();
        let mut views = Vec::new();
        let mut tables: Vec<(Relation, Arc<Run>)> = Vec::new();
        {
            let catalog = self.catalog();
            for relation in relations {
                match &relation {
                    Relation::View { name } | Relation::Errors { name } => {
                        let stored = catalog.views.get(name).and_then(|v| v.query.as_ref());
                        let stored = stored.ok_or_else(|| Error::user(format!("there is no view '{name}'")))?;
                        upstream.push(stored.shared.clone());
                        views.push((relation, stored.shared.clone()));
                    }
                    Relation::Table { name, .. } | Relation::Late { name } => {
                        let run = catalog.tables.get(name).cloned();
                        let run = run.ok_or_else(|| Error::user(format!("there is no table '{name}'")))?;
                        tables.push((relation, run));
                    }
                }
            }
        }
        let runs = tables.iter().map(|(_, run)| run.clone()).collect();
        let store = if store {
            Some(Arc::new(Codec::verbatim(schema.fields().iter().map(|f| f.data_type().clone()))?))
        } else {
            None
        };
        let shared = QueryShared::new(id, name.to_owned(), schema, self.workers, output, upstream, runs);
        let read: Vec<_> = views.iter().map(|(_, shared)| shared.clone()).collect();
        let (views_at, holds) = self.hold_all(&read, reading == Reading::Live, cancels)?;
        let attach = Attach { shared: shared.clone(), plan, reading, from_now, store, tables, views, views_at, holds };
        attach.run(self)?;
        Ok(shared)
    }

    pub fn drop_query(&self, id: u64) {
        let mut arrangements = self.arrangements.lock().unwrap_or_else(PoisonError::into_inner);
        arrangements.forget(id);
        self.context.sequencer.lock().command(|| Command::DropQuery(id));
    }

    /// Reads a stored view at its last closed time.
    pub fn peek(&self, stored: &Stored) -> Result<(Time, Contents)> {
        let (as_of, _hold) = self.hold_all(std::slice::from_ref(&stored.shared), false, self.cancels())?;
        // What is closed now has been worked through, and its errors are known.
        let errors = stored.shared.error().map(|error| Error::data(describe(error)));
        if let Some(error) = errors.or_else(|| stored.shared.failure()) {
            return Err(error);
        }
        let Some(as_of) = as_of else { return Ok((SINCE_EVER, Vec::new())) };
        let (sender, receiver) = unbounded();
        let query = stored.shared.id;
        self.context.sequencer.lock().command(|| Command::Peek { query, as_of, reply: sender.clone() });
        drop(sender);
        let mut rows = Vec::new();
        for _ in 0..self.workers {
            let part = receiver.recv().map_err(|_| Error::internal("a worker is gone"))?;
            rows.extend(part?);
        }
        Ok((as_of, rows))
    }

    /// A time at which all views can be read, held in each of them; `None` when nothing is closed yet.
    ///
    /// Everything that is closed in the views' tables now is seen: it waits until the views have worked that through. The
    /// time is the last that is closed in all of them. Views that have ended are read at the largest time, or, by a query
    /// that goes on (`live`), from the earliest time on that they still tell apart.
    fn hold_all(&self, views: &[Arc<QueryShared>], live: bool, cancels: u64) -> Result<(Option<Time>, Vec<Hold>)> {
        // Before its as-of a view has no answer.
        let begun = |view: &Arc<QueryShared>, goal: Time| match view.as_of() {
            SINCE_EVER => goal,
            as_of => goal.max(as_of + 1),
        };
        let goals: Vec<_> = views.iter().map(|view| view.reachable().map(|goal| begun(view, goal))).collect();
        loop {
            if let Some(failed) = views.iter().find_map(|view| view.failure()) {
                return Err(failed);
            }
            let behind = |(view, goal): (&Arc<QueryShared>, &Option<Time>)| match (view.frontier(), goal) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(frontier), Some(goal)) => frontier < *goal,
            };
            if views.iter().zip(&goals).any(behind) {
                if let Some(stopped) = views.iter().find(|view| view.is_stopped()) {
                    return Err(Error::user(format!("view '{}' was stopped", stopped.name)));
                }
                self.check(cancels)?;
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let time = match views.iter().filter_map(|view| view.frontier()).min() {
                Some(frontier) => frontier.checked_sub(1),
                None if live => views.iter().map(|view| view.since()).max(),
                None => Some(Time::MAX - 1),
            };
            let Some(time) = time else { return Ok((None, Vec::new())) };
            if let Some(holds) = views.iter().map(|view| view.hold_at(time)).collect() {
                return Ok((Some(time), holds));
            }
        }
    }
}

/// The relations that a plan reads, each once.
pub(crate) fn relations(plan: &Plan) -> Vec<Relation> {
    let mut relations = Vec::new();
    for node in &plan.nodes {
        if let Op::Get { relation, .. } = &node.op
            && !relations.contains(relation)
        {
            relations.push(relation.clone());
        }
    }
    relations
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.context.sequencer.lock().command(|| Command::Shutdown);
        // Joins the workers; a panic of one has already ended the process.
        drop(self.guards.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
