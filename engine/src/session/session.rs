//! A session: what users hold.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use headwater_connectors::Registry;
use headwater_operators::stamp::SessionTime;
use timely::communication::WorkerGuards;

use super::dataframe::DataFrame;
use super::input::Input;
use super::running::{Body, Fabric};
use super::settings::{RuntimeMode, Settings};
use super::view::View;
use crate::catalog::{Catalog, News};
use crate::error::{Error, Result};
use crate::intake::{Origin, Reading, Run, RunContext};
use crate::sql::Planner;
use crate::worker::{Command, Limits, Sequencer, start_workers};

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
        let settings = Settings { mode: self.mode, ..Settings::default() };
        let max_in_flight = Arc::new(Limits::new(settings.max_in_flight));
        let context = RunContext { sequencer, session: SessionTime::default(), max_in_flight };
        let inner = Inner {
            fabric: Arc::new(Fabric { context, arrangements: Mutex::default() }),
            workers,
            guards: Mutex::new(Some(guards)),
            planner: RwLock::new(Planner::new()),
            registry: self.registry.unwrap_or_else(Registry::standard),
            catalog: Arc::default(),
            settings: Mutex::new(settings),
            deferred: AtomicUsize::new(0),
            inputs: AtomicU32::new(0),
            restarting: Mutex::default(),
        };
        Ok(Session(Arc::new(inner)))
    }
}

/// The parts of a session, shared by its handles.
pub(crate) struct Inner {
    pub fabric: Arc<Fabric>,
    pub workers: usize,
    guards: Mutex<Option<WorkerGuards<()>>>,
    planner: RwLock<Planner>,
    pub registry: Registry,
    pub catalog: Arc<Catalog<Body>>,
    settings: Mutex<Settings>,
    /// How many scripts are being read whose tables wait to be started, so that all their queries see them from the
    /// beginning.
    pub deferred: AtomicUsize,
    inputs: AtomicU32,
    /// Held while a table that has failed gets a new run.
    pub restarting: Mutex<()>,
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
        Ok(DataFrame::new(self.0.clone(), plan).on_error(self.0.settings().on_error))
    }

    /// A table or view as a query.
    pub fn table(&self, name: &str) -> Result<DataFrame> {
        let plan = self.0.scan(name)?;
        Ok(DataFrame::new(self.0.clone(), plan).on_error(self.0.settings().on_error))
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
        self.0.create_view(name, query)
    }

    /// A materialized view by name.
    pub fn view(&self, name: &str) -> Result<View> {
        match self.0.catalog.find(name) {
            Some((_, Body::Query(running))) => Ok(View::new(self.0.clone(), name, running)),
            Some((_, Body::Plain)) => Err(Error::user(format!(
                "view '{name}' is not materialized: select from it, or create it MATERIALIZED"
            ))),
            _ => Err(Error::user(format!("there is no view '{name}'"))),
        }
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
        self.0.news().cancel();
    }
}

impl Inner {
    pub fn news(&self) -> &Arc<News> {
        &self.catalog.news
    }

    pub fn planner(&self) -> std::sync::RwLockReadGuard<'_, Planner> {
        self.planner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn planner_mut(&self) -> std::sync::RwLockWriteGuard<'_, Planner> {
        self.planner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> Settings {
        self.change_settings().clone()
    }

    pub fn change_settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of a table or view, to build on.
    pub fn scan(&self, name: &str) -> Result<LogicalPlan> {
        Ok(self.planner().table_scan(name)?.build()?)
    }

    /// The run of a table.
    pub fn run(&self, table: &str) -> Result<Arc<Run>> {
        match self.catalog.find(table) {
            Some((_, Body::Table(run))) => Ok(run),
            Some((node, _)) => Err(Error::user(format!(
                "{} is no table: it changes when the tables that it reads do, so change those",
                node.title()
            ))),
            None => Err(Error::user(format!("there is no table '{table}'; SHOW TABLES lists those that there are"))),
        }
    }

    /// The runs of all tables, by name.
    pub fn runs(&self) -> Vec<Arc<Run>> {
        let named = self.catalog.named().into_iter();
        named.filter_map(|(_, body)| if let Body::Table(run) = body { Some(run) } else { None }).collect()
    }

    /// Holds back the start of tables until [`Inner::begin`].
    pub fn defer(&self) {
        self.deferred.fetch_add(1, Ordering::AcqRel);
    }

    /// Starts the tables that queries read, unless they wait for another script.
    pub fn begin(&self) -> Result<()> {
        if self.deferred.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let read = self.runs().into_iter().filter(|run| self.catalog.is_read(&run.node));
        let started = read.map(|run| run.start(Reading::Live)).fold(Ok(()), Result::and);
        self.news().tell();
        started
    }

    /// Ends the tables that are in memory: nobody will push any more.
    pub fn close_memory(&self) {
        let pushed = |run: &Arc<Run>| matches!(run.declaration.origin, Origin::Memory | Origin::Channel);
        for run in self.runs().into_iter().filter(pushed) {
            run.end();
        }
    }

    pub fn stop(&self) {
        for (node, body) in self.catalog.all() {
            match body {
                Body::Table(run) => run.stop(),
                Body::Query(running) => running.private().iter().for_each(|run| run.stop()),
                Body::Sink(sink) => sink.private().iter().for_each(|run| run.stop()),
                Body::Plain => node.stop(),
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.fabric.context.sequencer.lock().command(|| Command::Shutdown);
        // Joins the workers; a panic of one has already ended the process.
        drop(self.guards.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
