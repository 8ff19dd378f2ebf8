//! Tables: what was declared, and the runs that read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::{Changes, Connector, Guarantee, Poll, Progress, Source, SourceBatch, TableSpec};
use headwater_operators::stamp::{Cuts, Follow, Follower, SessionTime, Stamper};

use super::history::History;
use super::intake::{Intake, IntakeCounts, Stamping, stamp_config};
use super::message::{Gauge, Sequencer};
use super::query::QueryShared;
use super::session::Reading;
use super::spawn::spawn;
use crate::error::{Error, Result};
use crate::plan::catalog::{self, TableMeta};

/// How long a reader waits for news before it lets time pass.
const POLL: Duration = Duration::from_millis(20);
/// A table's reader rests while this many of its rows are on their way to operators.
const IN_FLIGHT_ROWS: usize = 1 << 20;
/// While this many rows are on their way, rounds stay open: work arrives in larger pieces when there is more of it.
const BUSY_ROWS: usize = 1 << 17;

/// Where a table's rows come from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// `INSERT`, `UPDATE`, `DELETE` and pushes; the table keeps what it has.
    Memory,
    /// Pushes from Rust, not kept.
    Channel,
    /// A connector.
    Connector(Arc<dyn Connector>, TableSpec),
}

/// The event-time column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventTime {
    /// The column.
    pub column: usize,
    /// Declared disorder.
    pub delay: Duration,
    /// Width of a segment, if declared.
    pub resolution: Option<Duration>,
    /// How far ahead of the clock a row may be.
    pub max_ahead: Option<Duration>,
    /// After how long a silent split holds nothing back.
    pub idle_timeout: Option<Duration>,
    /// Whether rounds are cut by the data alone.
    pub by_data: bool,
}

/// A table as declared.
#[derive(Clone)]
pub(crate) struct Declaration {
    pub name: String,
    pub schema: SchemaRef,
    pub origin: Origin,
    /// How it is stamped as a stream; `None` where it has no event time.
    pub event_time: Option<EventTime>,
    /// Whether it is a batch: every row at the smallest time.
    pub is_static: bool,
    /// Whether a table without event time goes by the wall clock instead of the session's event time.
    pub by_clock: bool,
    /// Whether rows that were pushed into a channel can't be taken back.
    pub append_only: bool,
    /// The statement that declared it, for `SHOW CREATE`.
    pub text: String,
    /// What the last reading for a single answer has counted.
    pub read: Arc<Mutex<IntakeCounts>>,
}

impl Declaration {
    fn follow(&self, session: &SessionTime) -> Follow {
        if self.by_clock { Follow::Clock(Arc::new(*super::clock())) } else { Follow::Session(session.clone()) }
    }

    fn stamping(&self, session: &SessionTime) -> Stamping {
        match (&self.event_time, self.is_static) {
            (_, true) => Stamping::Static,
            (Some(event), false) => Stamping::Event {
                column: event.column,
                stamper: Box::new(Stamper::new(self.config(event))),
                cuts: Cuts::default(),
            },
            (None, false) => Stamping::Follow {
                follower: Box::new(Follower::new(self.follow(session), self.is_replayed())),
                cuts: Cuts::default(),
            },
        }
    }

    fn config(&self, event: &EventTime) -> headwater_operators::stamp::StampConfig {
        let config = stamp_config(event.delay, event.resolution, event.max_ahead, event.idle_timeout, event.by_data);
        headwater_operators::stamp::StampConfig { record: self.is_replayed(), ..config }
    }

    /// Whether later queries read the source again, by the recorded cuts.
    fn is_replayed(&self) -> bool {
        matches!(&self.origin, Origin::Connector(connector, _) if connector.guarantee() != Guarantee::Once)
    }

    /// What the planner must know.
    pub fn meta(&self) -> TableMeta {
        let bounded = match &self.origin {
            Origin::Memory | Origin::Channel => false,
            Origin::Connector(_, spec) => spec.bounded,
        };
        TableMeta {
            name: self.name.clone(),
            schema: self.schema.clone(),
            event_time: self.event_time.as_ref().map(|event| {
                let config = self.config(event);
                catalog::EventTime { column: event.column, delay_us: config.delay, resolution_us: config.resolution }
            }),
            bounded,
            is_static: self.is_static,
            append_only: !matches!(self.origin, Origin::Memory),
            taken_back: matches!(self.origin, Origin::Channel) && !self.append_only,
        }
    }
}

/// Leaves out what a batch holds behind an offset, where offsets count rows and rejected input.
fn cut_off(batch: &mut SourceBatch, limit: u64) {
    let Some(behind) = batch.offset.checked_sub(limit).filter(|behind| *behind > 0) else { return };
    let rejected = batch.rejected.len();
    batch.rejected.retain(|rejected| rejected.offset <= limit);
    let behind = usize::try_from(behind).unwrap_or(usize::MAX).saturating_sub(rejected - batch.rejected.len());
    let kept = batch.rows.num_rows().saturating_sub(behind);
    batch.rows = batch.rows.slice(0, kept);
    if let Some(diffs) = &mut batch.diffs {
        diffs.truncate(kept);
    }
    if let Changes::Ends(ends) = &mut batch.changes {
        ends.retain(|end| *end as usize <= kept);
    }
    batch.offset = limit;
}

/// One reading of a table, with its stamps.
pub(crate) struct Run {
    pub declaration: Arc<Declaration>,
    intake: Mutex<Intake>,
    started: AtomicBool,
    stop: Arc<AtomicBool>,
    in_flight: Arc<Gauge>,
    dependents: Mutex<Vec<Weak<QueryShared>>>,
    progress: Mutex<Progress>,
    /// Where to stop, by split; `None` to read to the end.
    limit: Option<HashMap<String, u64>>,
    followers: Arc<Followers>,
    /// Whether it reads for the queries that it began with only, and ends with them.
    private: bool,
}

/// The tables of a session that follow its event time.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Vec<Weak<Run>>>);

impl Followers {
    pub fn add(&self, run: &Arc<Run>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(run));
    }

    /// Tells them that the session's event time has moved.
    pub fn follow(&self) {
        let runs: Vec<_> = {
            let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            runs.retain(|run| run.strong_count() > 0);
            runs.iter().filter_map(Weak::upgrade).collect()
        };
        // Not under the lock of the list: runs are added while the lock of another run is held.
        runs.iter().for_each(|run| run.lock().flush());
    }
}

/// What runs share in a session.
#[derive(Clone)]
pub(crate) struct RunContext {
    pub sequencer: Arc<Sequencer>,
    pub session: SessionTime,
    pub followers: Arc<Followers>,
}

impl Run {
    pub fn new(declaration: Arc<Declaration>, context: &RunContext, private: bool) -> Arc<Self> {
        let stamping = declaration.stamping(&context.session);
        Self::with(declaration, stamping, None, context, private)
    }

    /// A run that reads again what another has read, with the same stamps, and ends there.
    pub fn replay(
        declaration: Arc<Declaration>,
        cuts: Cuts,
        limit: HashMap<String, u64>,
        context: &RunContext,
    ) -> Arc<Self> {
        let stamping = match &declaration.event_time {
            Some(event) => Stamping::Event {
                column: event.column,
                stamper: Box::new(Stamper::replay(declaration.config(event), cuts)),
                cuts: Cuts::default(),
            },
            None => Stamping::Follow {
                follower: Box::new(Follower::replay(declaration.follow(&context.session), false, cuts)),
                cuts: Cuts::default(),
            },
        };
        Self::with(declaration, stamping, Some(limit), context, true)
    }

    fn with(
        declaration: Arc<Declaration>,
        stamping: Stamping,
        limit: Option<HashMap<String, u64>>,
        context: &RunContext,
        private: bool,
    ) -> Arc<Self> {
        let follows = matches!(stamping, Stamping::Follow { .. });
        let history = matches!(declaration.origin, Origin::Memory).then(|| History::new(&declaration.schema));
        let intake =
            Intake::new(&declaration.name, stamping, context.sequencer.clone(), context.session.clone(), history);
        let in_flight = intake.in_flight.clone();
        let run = Arc::new(Run {
            declaration,
            intake: Mutex::new(intake),
            started: AtomicBool::new(false),
            stop: Arc::new(AtomicBool::new(false)),
            in_flight,
            dependents: Mutex::default(),
            progress: Mutex::default(),
            limit,
            followers: context.followers.clone(),
            private,
        });
        if follows {
            context.followers.add(&run);
            run.lock().flush();
        }
        run
    }

    pub fn lock(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it reads again what another run has read.
    pub fn is_replay(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether it has ended, or is being read to an end that its source has.
    pub fn is_ending(&self) -> bool {
        let bounded = matches!(&self.declaration.origin, Origin::Connector(_, spec) if spec.bounded);
        bounded && self.started.load(Ordering::Acquire) || self.lock().frontier().is_none()
    }

    /// Waits while the engine is behind with what was sent to it.
    pub fn wait_for_room(&self) {
        while self.in_flight.get() > IN_FLIGHT_ROWS && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Rows that are pushed must have the table's columns.
    pub fn check(&self, rows: &RecordBatch) -> Result<()> {
        let declared = &self.declaration.schema;
        let fits = rows.num_columns() == declared.fields().len()
            && rows
                .columns()
                .iter()
                .zip(declared.fields())
                .all(|(array, field)| array.data_type() == field.data_type());
        if fits {
            return Ok(());
        }
        let show = |schema: &SchemaRef| {
            let fields = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
            fields.collect::<Vec<_>>().join(", ")
        };
        Err(Error::user(format!(
            "table '{}' has the columns ({}), the rows pushed have ({})",
            self.declaration.name,
            show(declared),
            show(&rows.schema())
        )))
    }

    /// Whether rows may have gone by.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub fn depend(&self, query: &Arc<QueryShared>) {
        self.dependents.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(query));
    }

    /// Whether a running query still reads it.
    pub fn is_used(&self) -> bool {
        self.dependents.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|q| q.strong_count() > 0)
    }

    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the feeds without saying that the table ends: what was read is worked through, nothing more is final.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // A reader does it itself, between two batches.
        if !(self.has_started() && matches!(self.declaration.origin, Origin::Connector(..))) {
            self.each_dependent(QueryShared::stop);
            self.lock().stop(true);
        }
    }

    fn fail(&self, error: Error) {
        let error = error.within(&format!("table '{}'", self.declaration.name));
        self.each_dependent(|query| query.fail(error.clone()));
    }

    fn each_dependent(&self, act: impl Fn(&QueryShared)) {
        let dependents = self.dependents.lock().unwrap_or_else(PoisonError::into_inner);
        dependents.iter().filter_map(Weak::upgrade).for_each(|query| act(&query));
    }

    /// Starts reading, once: as declared, or what there is now. Tables that are pushed into need no reader.
    pub fn start(self: &Arc<Self>, reading: Reading) -> Result<()> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let Origin::Connector(connector, spec) = &self.declaration.origin else { return Ok(()) };
        let mut spec = spec.clone();
        spec.bounded |= self.declaration.is_static || reading != Reading::Live || self.limit.is_some();
        spec.schema = Some(self.declaration.schema.clone());
        let source = connector.source(&spec)?;
        let run = self.clone();
        spawn(format!("read {}", self.declaration.name), move || {
            if let Err(error) = run.read(source, reading == Reading::AvailableNow) {
                run.fail(error);
            }
        })?;
        Ok(())
    }

    fn read(&self, mut source: Box<dyn Source>, available_now: bool) -> Result<()> {
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut left: Option<BTreeMap<String, u64>> = self.limit.as_ref().map(|l| l.clone().into_iter().collect());
        while !self.stop.load(Ordering::Acquire) {
            if self.private && !self.is_used() {
                break;
            }
            if left.as_ref().is_some_and(BTreeMap::is_empty) {
                break;
            }
            self.wait_for_room();
            let poll = source.poll(POLL)?;
            *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = source.progress();
            let mut intake = self.lock();
            match poll {
                // What has come up since is read by the live run alone.
                Poll::Split { name, .. } if self.limit.as_ref().is_some_and(|limit| !limit.contains_key(&name)) => {}
                Poll::Split { split, name } => {
                    names.insert(split, name.clone());
                    intake.add_split(split, name);
                }
                Poll::SplitEnd(split) => {
                    if let (Some(left), Some(name)) = (&mut left, names.get(&split)) {
                        left.remove(name);
                    }
                    intake.end_split(split);
                }
                Poll::Batch(batch) if self.limit.is_some() && !names.contains_key(&batch.split) => {}
                Poll::Batch(mut batch) => {
                    let limit = names.get(&batch.split).and_then(|name| self.limit.as_ref()?.get(name));
                    if let Some(limit) = limit {
                        cut_off(&mut batch, *limit);
                    }
                    intake.reject(batch.rejected);
                    intake.push(batch.split, &batch.rows, batch.diffs, &batch.changes, batch.offset)?;
                    if let (Some(left), Some(name)) = (&mut left, names.get(&batch.split))
                        && left.get(name).is_some_and(|limit| batch.offset >= *limit)
                    {
                        left.remove(name);
                    }
                    if self.limit.is_none() && self.in_flight.get() < BUSY_ROWS {
                        intake.close_round();
                    } else {
                        intake.flush();
                    }
                }
                // A replay is cut as it was, and at no other place.
                Poll::Idle if self.limit.is_some() => intake.flush(),
                Poll::Idle => intake.tick(),
                Poll::End => break,
            }
            drop(intake);
            self.followers.follow();
        }
        let stopped = self.stop.load(Ordering::Acquire);
        if stopped || available_now {
            self.each_dependent(QueryShared::stop);
        }
        if self.private && self.limit.is_none() {
            *self.declaration.read.lock().unwrap_or_else(PoisonError::into_inner) = self.lock().counts;
        }
        match (self.limit.is_some(), stopped || available_now) {
            // The rows that the live run still holds back come from there.
            (true, _) => self.lock().stop(false),
            (false, true) => self.lock().stop(true),
            (false, false) => self.lock().end(),
        }
        self.followers.follow();
        Ok(())
    }

    /// What was taken in; if nothing is, what the last reading for a single answer has counted.
    pub fn counts(&self) -> IntakeCounts {
        let counts = self.lock().counts;
        match counts == IntakeCounts::default() {
            true => *self.declaration.read.lock().unwrap_or_else(PoisonError::into_inner),
            false => counts,
        }
    }

    /// Whether a later query can read again what has gone by.
    pub fn guarantee(&self) -> Guarantee {
        match &self.declaration.origin {
            Origin::Memory => Guarantee::Replayable,
            Origin::Channel => Guarantee::Once,
            Origin::Connector(connector, _) => connector.guarantee(),
        }
    }
}
