//! Runs: one reading of a table, with its stamps.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::{Guarantee, Poll, Progress, Reach, Source};
use headwater_operators::stamp::{Cuts, Follower, SessionTime, Stamper};
use headwater_operators::time::Time;

use super::declaration::{Declaration, Origin};
use super::history::History;
use super::stamping::{Intake, IntakeCounts, Stamping};
use crate::catalog::Node;
use crate::error::{Error, Result};
use crate::worker::{Gauge, Limits, Sequencer, spawn};

/// How long a reader waits for news before it lets time pass.
const POLL: Duration = Duration::from_millis(20);
/// While this many rows are on their way, rounds stay open: work arrives in larger pieces when there is more of it.
const BUSY_ROWS: usize = 1 << 17;

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

/// What runs share in a session.
#[derive(Clone)]
pub(crate) struct RunContext {
    pub sequencer: Arc<Sequencer>,
    pub session: SessionTime,
    /// How much of a table may be on its way to operators.
    pub max_in_flight: Arc<Limits>,
}

/// One reading of a table, with its stamps.
pub(crate) struct Run {
    pub declaration: Arc<Declaration>,
    /// Whose life it is: the table's; of a run that reads for one query, the query's.
    pub node: Arc<Node>,
    intake: Mutex<Intake>,
    /// Held by whoever changes what the table holds, from what it reads to what it writes.
    pub writing: Mutex<()>,
    started: AtomicBool,
    stop: AtomicBool,
    /// Whether all that was there when it began has been read.
    caught_up: AtomicBool,
    in_flight: Arc<Gauge>,
    max_in_flight: Arc<Limits>,
    progress: Mutex<Progress>,
    /// Where to stop, by split; `None` to read to the end.
    limit: Option<HashMap<String, u64>>,
    /// The tables that follow event time and are read together with this one: they move on when it does.
    companions: Mutex<Companions>,
    /// Whether it reads for one query only, and ends with it.
    private: bool,
    /// The declared columns that it reads, in their order; `None` for all.
    pub columns: Option<Vec<usize>>,
}

/// Whom a run reads for.
enum Reader {
    /// All queries of the table.
    All,
    /// One, and which columns it needs; `None` for all.
    One(Option<Vec<usize>>),
}

/// Runs, each with how many queries read it together with another.
#[derive(Default)]
struct Companions(Vec<(Weak<Run>, usize)>);

impl Companions {
    fn add(&mut self, run: &Arc<Run>) {
        self.0.retain(|(known, _)| known.strong_count() > 0);
        match self.0.iter_mut().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(run))) {
            Some((_, queries)) => *queries += 1,
            None => self.0.push((Arc::downgrade(run), 1)),
        }
    }

    fn remove(&mut self, run: &Arc<Run>) {
        for (known, queries) in &mut self.0 {
            if std::ptr::eq(known.as_ptr(), Arc::as_ptr(run)) {
                *queries -= 1;
            }
        }
        self.0.retain(|(_, queries)| *queries > 0);
    }
}

impl Run {
    /// The run that all queries of a table share.
    pub fn new(declaration: Arc<Declaration>, node: Arc<Node>, context: &RunContext) -> Arc<Self> {
        let stamping = declaration.stamping(&context.session, None);
        Self::with(declaration, node, stamping, None, context, &context.session, Reader::All)
    }

    /// A run that reads for one query those columns that it needs, by an event time of that query's own.
    pub fn private(
        declaration: Arc<Declaration>,
        node: Arc<Node>,
        context: &RunContext,
        session: &SessionTime,
        columns: Vec<usize>,
    ) -> Arc<Self> {
        let columns = declaration.needed(columns);
        let stamping = declaration.stamping(session, columns.as_deref());
        Self::with(declaration, node, stamping, None, context, session, Reader::One(columns))
    }

    /// A run that reads again what another has read, with the same stamps, and ends there.
    pub fn replay(
        declaration: Arc<Declaration>,
        node: Arc<Node>,
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
        Self::with(declaration, node, stamping, Some(limit), context, &context.session, Reader::One(None))
    }

    fn with(
        declaration: Arc<Declaration>,
        node: Arc<Node>,
        stamping: Stamping,
        limit: Option<HashMap<String, u64>>,
        context: &RunContext,
        session: &SessionTime,
        reader: Reader,
    ) -> Arc<Self> {
        let (private, columns) = match reader {
            Reader::All => (false, None),
            Reader::One(columns) => (true, columns),
        };
        let follows = matches!(stamping, Stamping::Follow { .. });
        let by_data = declaration.event_time.as_ref().is_some_and(|event| event.by_data);
        let history = matches!(declaration.origin, Origin::Memory).then(|| History::new(&declaration.schema, by_data));
        let intake = Intake::new(&declaration.name, stamping, context.sequencer.clone(), session.clone(), history);
        let in_flight = intake.in_flight.clone();
        let run = Arc::new(Run {
            declaration,
            node,
            intake: Mutex::new(intake),
            writing: Mutex::default(),
            started: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            in_flight,
            max_in_flight: context.max_in_flight.clone(),
            progress: Mutex::default(),
            limit,
            companions: Mutex::default(),
            private,
            columns,
        });
        if follows {
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

    /// Whether it goes by the session's event time or the clock instead of one of its own.
    pub fn follows(&self) -> bool {
        self.declaration.event_time.is_none() && !self.declaration.is_static
    }

    /// No more updates before this time; `None` when the table has ended. A table that follows is moved on first.
    pub fn frontier(&self) -> Option<Time> {
        let mut intake = self.lock();
        if self.follows() && intake.frontier().is_some() {
            intake.flush();
        }
        intake.frontier()
    }

    /// Whether it has ended, or is being read to an end that its source has.
    pub fn is_ending(&self) -> bool {
        self.is_bounded() && self.started.load(Ordering::Acquire) || self.lock().frontier().is_none()
    }

    /// Whether its source has an end.
    pub fn is_bounded(&self) -> bool {
        matches!(&self.declaration.origin, Origin::Connector(_, spec) if spec.reach.is_bounded())
    }

    /// Whether all that was there when it began has been read; at once where rows are pushed.
    pub fn has_caught_up(&self) -> bool {
        let pushed = !matches!(self.declaration.origin, Origin::Connector(..));
        pushed || self.caught_up.load(Ordering::Acquire) || self.lock().frontier().is_none()
    }

    /// Waits while the engine is behind with what was sent to it; `pushing` does not wait for what only another push
    /// would end.
    pub fn wait_for_room(&self, pushing: bool, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        while self.in_flight.get().exceeds(self.max_in_flight.get())
            && !self.stop.load(Ordering::Acquire)
            && !(pushing && self.in_flight.is_held_up())
        {
            check()?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
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

    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn companions(&self) -> MutexGuard<'_, Companions> {
        self.companions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a query reads `other` together with it, or no longer.
    pub fn accompany(&self, other: &Arc<Run>, together: bool) {
        let mut companions = self.companions();
        if together { companions.add(other) } else { companions.remove(other) }
    }

    /// Moves on the tables that follow event time and are read together with this one.
    pub fn lead(&self) {
        let runs: Vec<_> = self.companions().0.iter().filter_map(|(run, _)| run.upgrade()).collect();
        // Not under the lock of the list, nor of this run's intake.
        runs.iter().for_each(|run| run.lock().flush());
    }

    /// Ends the feeds without saying that the table ends: what was read is worked through, nothing more is final.
    pub fn stop(&self) {
        self.node.stop();
        self.stop.store(true, Ordering::Release);
        // A reader ends the feeds itself, between two batches.
        if !(self.has_started() && matches!(self.declaration.origin, Origin::Connector(..))) {
            self.lock().stop(true);
            if !self.private {
                self.node.finished();
            }
        }
    }

    /// Ends a table that rows are pushed into: its views become final.
    pub fn end(&self) {
        self.lock().end();
        if !self.private {
            self.node.finished();
        }
        self.lead();
    }

    /// Stops reading: nobody wants the rows any more.
    pub fn abandon(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Starts reading, once: as declared, or what there is now. Tables that are pushed into need no reader.
    ///
    /// Errors: the source can't be opened; it can be tried again.
    pub fn start(self: &Arc<Self>, reading: Reading) -> Result<()> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let begun = self.open(reading);
        match begun {
            Ok(()) if !self.private => self.node.begin(),
            Ok(()) => {}
            Err(_) => self.started.store(false, Ordering::Release),
        }
        begun
    }

    fn open(self: &Arc<Self>, reading: Reading) -> Result<()> {
        let Origin::Connector(connector, spec) = &self.declaration.origin else { return Ok(()) };
        let mut spec = spec.clone();
        if self.limit.is_some() {
            spec.reach = Reach::Again;
        } else if self.declaration.is_static || reading != Reading::Live {
            spec.reach = Reach::Once { growing: spec.reach.is_growing() };
        }
        spec.schema = Some(self.declaration.schema.clone());
        spec.event_time = self.declaration.read_by();
        spec.projection = self.columns.clone();
        let source = connector.source(&spec)?;
        let run = self.clone();
        spawn(format!("read {}", self.declaration.name), move || {
            let read = std::panic::AssertUnwindSafe(|| run.read(source, reading == Reading::AvailableNow));
            let read = std::panic::catch_unwind(read);
            let failed = match read {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(panic) => Some(Error::internal(headwater_operators::guard::message(&*panic))),
            };
            if let Some(error) = failed.filter(|_| !run.stop.load(Ordering::Acquire)) {
                run.node.fail(error.within(&format!("table '{}'", run.declaration.name)));
            }
        })?;
        Ok(())
    }

    fn read(&self, mut source: Box<dyn Source>, available_now: bool) -> Result<()> {
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut left: Option<BTreeMap<String, u64>> = self.limit.as_ref().map(|l| l.clone().into_iter().collect());
        while !self.stop.load(Ordering::Acquire) {
            if left.as_ref().is_some_and(BTreeMap::is_empty) {
                break;
            }
            self.wait_for_room(false, || Ok(()))?;
            let poll = source.poll(POLL)?;
            *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = source.progress();
            let mut intake = self.lock();
            match poll {
                // What has come up since is read by the live run alone.
                Poll::Split { name, .. } if self.limit.as_ref().is_some_and(|limit| !limit.contains_key(&name)) => {}
                Poll::Split { split, name, begins } => {
                    names.insert(split, name.clone());
                    // What is found later than another reader found it has begun by the record.
                    intake.add_split(split, name, begins.filter(|_| self.limit.is_none()));
                }
                Poll::SplitEnd(split) => {
                    if let (Some(left), Some(name)) = (&mut left, names.get(&split))
                        && let Some(limit) = left.get(name)
                    {
                        return Err(self.missing(name, *limit));
                    }
                    intake.end_split(split);
                }
                Poll::Batch(batch) if self.limit.is_some() && !names.contains_key(&batch.split) => {}
                Poll::Batch(mut batch) => {
                    let limit = names.get(&batch.split).and_then(|name| self.limit.as_ref()?.get(name));
                    if let Some(limit) = limit {
                        batch.cut_off(*limit);
                    }
                    if let Some(wanted) = self.columns.as_ref().filter(|wanted| wanted.len() < batch.rows.num_columns())
                    {
                        batch.rows = batch.rows.project(wanted)?;
                    }
                    intake.reject(batch.rejected);
                    intake.push(batch.split, &batch.rows, batch.diffs, &batch.changes, batch.offset)?;
                    if let (Some(left), Some(name)) = (&mut left, names.get(&batch.split))
                        && left.get(name).is_some_and(|limit| batch.offset >= *limit)
                    {
                        left.remove(name);
                    }
                    if self.limit.is_none() && self.in_flight.get().rows < BUSY_ROWS {
                        intake.close_round();
                    } else {
                        intake.flush();
                    }
                }
                // A replay is cut as it was, and at no other place.
                Poll::Idle if self.limit.is_some() => intake.flush(),
                Poll::Idle => {
                    intake.tick();
                    self.caught_up.store(true, Ordering::Release);
                }
                Poll::End => break,
            }
            drop(intake);
            self.lead();
        }
        let stopped = self.stop.load(Ordering::Acquire);
        if let Some((name, limit)) = left.as_ref().and_then(BTreeMap::first_key_value).filter(|_| !stopped) {
            return Err(self.missing(name, *limit));
        }
        if available_now {
            self.node.forgo_end();
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
        self.caught_up.store(true, Ordering::Release);
        if !self.private {
            self.node.finished();
        }
        self.lead();
        Ok(())
    }

    /// What was read before, and is to be read again, is not there.
    fn missing(&self, split: &str, limit: u64) -> Error {
        let table = &self.declaration.name;
        Error::data(format!(
            "table '{table}' was read as far as row {limit} of {split}, and that is no longer there to be read \
             again: put it back, or create the query FROM NOW"
        ))
    }

    /// What was taken in; if nothing is, what the last reading for a single answer has counted.
    pub fn counts(&self) -> IntakeCounts {
        let counts = self.lock().counts;
        match counts == IntakeCounts::default() {
            true => *self.declaration.read.lock().unwrap_or_else(PoisonError::into_inner),
            false => counts,
        }
    }

    /// How many rows the table holds now, if it keeps them.
    pub fn held(&self) -> Option<i64> {
        self.lock().history.as_ref().map(History::held)
    }

    /// Late rows by split, the most first.
    pub fn late_splits(&self) -> Vec<(String, u64)> {
        let mut late: Vec<_> = self.lock().late.iter().map(|(split, rows)| (split.clone(), *rows)).collect();
        late.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        late
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
