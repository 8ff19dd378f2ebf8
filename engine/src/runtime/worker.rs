//! A timely worker's loop: takes messages, feeds dataflows, steps them. It never blocks on anything but having nothing
//! to do.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, StringArray};
use crossbeam_channel::Receiver;
use headwater_operators::arrange::{self, Arranged, Arrangement};
use headwater_operators::run_end::RunEnd;
use headwater_operators::time::{SINCE_EVER, Time};
use headwater_operators::{Keyed, Payload, Rows, UpdateStream, Updates, turn};
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::Concat;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::progress::frontier::MutableAntichain;
use timely::worker::Worker;

use super::awake::Awake;
use super::message::{Command, FeedId, Gauge, Message, QuerySpec};
use super::query::{Output, QueryShared};
use super::tap::Tap;
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::plan::Relation;
use crate::render::codec::Codec;
use crate::render::{self, ArrangementId, Inputs, RowError};

/// Rows of a feed handed to dataflows before they are stepped.
const ROWS_PER_STEP: usize = 1 << 16;
/// The same where queries with work of their own share the worker.
const ROWS_PER_SHARED_STEP: usize = 1 << 9;
/// How long the operators of several queries work in a step on what was left over.
const SHARED_STEP: Duration = Duration::from_micros(50);
/// Rows at open times that are sent to a query's reader at once.
const ROWS_PER_MESSAGE: usize = 1 << 14;
/// For so long a feed that brought rows counts as one whose queries have work.
const LATELY: Duration = Duration::from_secs(10);
/// A feed rests while one of its queries has more unread output rows than this.
const UNREAD_ROWS: usize = 1 << 21;
/// A feed rests while one of its queries has this many rounds and rows that it has not worked through.
const ROUNDS_AHEAD: usize = 8;
const ROWS_AHEAD: usize = 1 << 21;
/// How long a worker sleeps when there is nothing to do and nobody wakes it.
const PARK: Duration = Duration::from_millis(100);
/// How long a worker stays awake after work.
const LINGER: Duration = Duration::from_micros(200);
/// How often stored output is compacted and measured.
const MAINTENANCE: Duration = Duration::from_millis(5);

enum FeedEvent {
    /// Updates, and where they count until they are taken up.
    Data(Updates<Columns>, Arc<Gauge>),
    Frontier(Option<Time>),
}

struct Subscriber {
    query: u64,
    tap: Tap,
    slot: usize,
    /// The first event that it gets.
    from: u64,
    /// Frontiers of this feed handed over and not yet worked through by the query, each with the rows before it.
    ///
    /// Kept by feed: one that is ahead of the query's others rests, and those that it waits for do not.
    ahead: VecDeque<(Time, usize)>,
    rows_ahead: usize,
    rows_since: usize,
}

impl Subscriber {
    fn new(query: u64, tap: Tap, slot: usize, from: u64) -> Self {
        Subscriber { query, tap, slot, from, ahead: VecDeque::new(), rows_ahead: 0, rows_since: 0 }
    }

    /// Whether the feed has to wait for its query.
    fn rests(&mut self, query: &QueryShared, worker: usize) -> bool {
        let done = query.worker_frontier(worker);
        while let Some(&(time, rows)) = self.ahead.front() {
            if done.is_some_and(|done| done < time) {
                break;
            }
            self.ahead.pop_front();
            self.rows_ahead -= rows;
        }
        query.unread.get() > UNREAD_ROWS || (self.ahead.len() >= ROUNDS_AHEAD && self.rows_ahead > ROWS_AHEAD)
    }

    fn handed(&mut self, event: &FeedEvent) {
        match event {
            FeedEvent::Data(updates, _) => self.rows_since += updates.len(),
            FeedEvent::Frontier(Some(time)) if self.rows_since > 0 => {
                self.ahead.push_back((*time, self.rows_since));
                self.rows_ahead += std::mem::take(&mut self.rows_since);
            }
            FeedEvent::Frontier(_) => {}
        }
    }
}

#[derive(Default)]
struct Feed {
    events: VecDeque<FeedEvent>,
    /// The number of the first event in `events`.
    first: u64,
    subscribers: Vec<Subscriber>,
    /// When rows were last handed over.
    rows_at: Option<Instant>,
}

impl Feed {
    /// Whether rows came lately, so that they may be worked on still, or others wait for.
    fn is_busy(&self) -> bool {
        self.rows_at.is_some_and(|at| at.elapsed() < LATELY)
    }
}

/// An arrangement that queries share: of one collection, by some of its columns. The session knows which there are.
struct Shared {
    /// The query whose dataflow keeps it.
    owner: u64,
    arrangement: Arrangement,
}

type SharedArrangements = HashMap<ArrangementId, Shared>;

/// The output of a query, arranged by the whole row.
struct Store {
    arrangement: Arrangement,
    codec: Arc<Codec>,
}

/// Updates of an arrangement that a snapshot reads at a time.
const READ_STEP: usize = 1 << 16;

impl Store {
    fn new<'scope>(rows: UpdateStream<'scope, Columns>, codec: Arc<Codec>, name: &str) -> (Store, Arranged<'scope>) {
        let encoder = codec.clone();
        let keyed = rows.unary::<CapacityContainerBuilder<Updates<Keyed<Rows>>>, _, _, _>(Pipeline, "Store", |_, _| {
            move |input, output| {
                input.for_each(|capability, batch| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let vals = Rows::from_parts(Vec::new(), vec![0; data.rows]);
                    let data = Keyed::new(encoder.encode(&data.arrays, data.rows), vals);
                    output.session_with_builder(&capability).give_container(&mut Updates { data, times, diffs });
                });
            }
        });
        let arranged = arrange::arrange(keyed, name);
        (Store { arrangement: Arrangement::new(&arranged), codec }, arranged)
    }

    /// The rows at a time that is closed, with how often each is there.
    fn contents(&mut self, as_of: Time) -> Result<Vec<(Columns, Vec<i64>)>> {
        let mut contents = self.arrangement.contents(as_of).map_err(|e| Error::internal(e.to_string()))?;
        let mut parts = Vec::new();
        while let Some(content) = contents.next(READ_STEP) {
            if let Some(row) = content.diffs.iter().position(|count| *count < 0) {
                let shown = self.decode(&content.keys.slice(row..row + 1)).show_row(0);
                let count = content.diffs[row];
                return Err(Error::data(format!("a row was retracted that was not there ({count} copies): {shown}")));
            }
            let ranges = render::fitting(&content.keys);
            if ranges.len() == 1 {
                parts.push((self.decode(&content.keys), content.diffs));
                continue;
            }
            for range in ranges {
                let (keys, diffs) = (content.keys.slice(range.clone()), content.diffs[range].to_vec());
                parts.push((self.decode(&keys), diffs));
            }
        }
        Ok(parts)
    }

    fn decode(&self, keys: &Rows) -> Columns {
        Columns { arrays: self.codec.decode(keys), rows: keys.len() }
    }

    /// Reads the store in another dataflow, from a time on.
    fn import<'scope>(&self, scope: Scope<'scope, Time>, name: &str, as_of: Time) -> UpdateStream<'scope, Columns> {
        let mut arrangement = self.arrangement.clone();
        let arranged = match arrangement.import_as_of(scope, name, as_of) {
            Ok(arranged) => arranged,
            // The time is held by whoever attaches the query.
            Err(error) => unreachable!("a held time can't be read: {error}"),
        };
        render::decoded(arrange::updates(&arranged, name), self.codec.clone(), name)
    }
}

struct Installed {
    shared: Arc<QueryShared>,
    taps: Vec<Tap>,
    store: Option<Store>,
    /// Rows that are left out because an expression fails on them.
    errors: Option<Store>,
    /// The errors that the query is in.
    faults: Option<Store>,
    /// Queries whose arrangements it reads.
    uses: HashSet<u64>,
    /// Whether nobody wants its output any more.
    dropped: bool,
}

impl Installed {
    /// The store that holds a relation of this query.
    fn stored(&mut self, relation: &Relation) -> Option<&mut Store> {
        match relation {
            Relation::Errors { .. } => self.errors.as_mut(),
            Relation::View { .. } | Relation::Table { .. } | Relation::Late { .. } => self.store.as_mut(),
        }
    }
}

/// Everything that one worker keeps.
pub(crate) struct WorkerState {
    receiver: Receiver<Message>,
    feeds: HashMap<FeedId, Feed>,
    queries: HashMap<u64, Installed>,
    shared: SharedArrangements,
}

impl WorkerState {
    pub fn new(receiver: Receiver<Message>) -> Self {
        WorkerState { receiver, feeds: HashMap::new(), queries: HashMap::new(), shared: SharedArrangements::default() }
    }

    /// Runs until [`Command::Shutdown`], or until the session is gone.
    pub fn run(mut self, worker: &mut Worker) {
        let mut awake = Awake::new(LINGER, worker.peers());
        let mut maintained = Instant::now();
        loop {
            loop {
                match self.receiver.try_recv() {
                    Ok(Message::Data(feed, updates, in_flight)) => {
                        self.feed(feed).events.push_back(FeedEvent::Data(updates, in_flight));
                    }
                    Ok(Message::Frontier(feed, frontier)) => {
                        self.feed(feed).events.push_back(FeedEvent::Frontier(frontier));
                    }
                    Ok(Message::Command(Command::Shutdown)) => return self.end(),
                    Ok(Message::Command(command)) => self.command(worker, command),
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return self.end(),
                }
            }
            // One query's rounds don't wait for another's long work.
            let shares = self.queries.len() > 1 && self.feeds.values().filter(|feed| feed.is_busy()).count() > 1;
            let handed = self.hand_over(worker.index(), if shares { ROWS_PER_SHARED_STEP } else { ROWS_PER_STEP });
            turn::share(shares.then_some(SHARED_STEP));
            if handed {
                awake.end();
                awake.begin();
                worker.step();
            } else if awake.waits() && self.receiver.is_empty() {
                // Rounds follow each other closely: what comes next is met awake.
                worker.step();
                awake.pause();
            } else if self.receiver.is_empty() {
                worker.step_or_park(Some(PARK));
            }
            if maintained.elapsed() >= MAINTENANCE {
                self.maintain(worker.index());
                maintained = Instant::now();
            }
        }
    }

    /// Ends all dataflows: timely steps them until they have drained.
    fn end(mut self) {
        self.queries.values_mut().for_each(|query| query.dropped = true);
        self.sweep();
    }

    fn feed(&mut self, id: FeedId) -> &mut Feed {
        self.feeds.entry(id).or_default()
    }

    /// Hands events to the taps, of each feed up to about `most` rows; whether there were any.
    fn hand_over(&mut self, index: usize, most: usize) -> bool {
        let mut any = false;
        for feed in self.feeds.values_mut() {
            let mut rows = 0;
            while rows < most && !feed.events.is_empty() {
                let (queries, first) = (&self.queries, feed.first);
                let mut takers = feed.subscribers.iter_mut().filter(|s| s.from <= first);
                if takers.any(|s| queries.get(&s.query).is_some_and(|query| s.rests(&query.shared, index))) {
                    break;
                }
                let Some(mut event) = feed.events.pop_front() else { break };
                let mut rest = None;
                if let FeedEvent::Data(updates, in_flight) = &mut event {
                    if updates.len() > 2 * most {
                        let last = updates.split_off(updates.len() - most);
                        rest = Some(FeedEvent::Data(std::mem::replace(updates, last), in_flight.clone()));
                    }
                    rows += updates.len();
                    feed.rows_at = Some(Instant::now());
                    in_flight.sub(updates.len());
                }
                let mut takers: Vec<_> = feed.subscribers.iter_mut().filter(|s| s.from <= first).collect();
                takers.iter_mut().for_each(|taker| taker.handed(&event));
                match event {
                    FeedEvent::Data(updates, _) => {
                        if let Some((last, others)) = takers.split_last() {
                            others.iter().for_each(|taker| taker.tap.data(updates.clone()));
                            last.tap.data(updates);
                        }
                    }
                    FeedEvent::Frontier(frontier) => {
                        takers.iter().for_each(|taker| taker.tap.frontier(taker.slot, frontier));
                    }
                }
                match rest {
                    Some(rest) => feed.events.push_front(rest),
                    None => feed.first += 1,
                }
                any = true;
            }
        }
        any
    }

    /// Lets stored views forget what nobody can read any more.
    fn maintain(&mut self, index: usize) {
        for shared in self.shared.values_mut() {
            if let Some(owner) = self.queries.get(&shared.owner) {
                shared.arrangement.allow_compaction(owner.shared.compaction());
            }
        }
        for query in self.queries.values_mut() {
            if query.store.is_some() {
                let compaction = query.shared.compaction();
                let stores = query.store.iter_mut().chain(&mut query.errors).chain(&mut query.faults);
                let bytes = stores.map(|store| {
                    store.arrangement.allow_compaction(compaction);
                    store.arrangement.state_bytes()
                });
                query.shared.publish_state(index, bytes.sum());
            }
        }
    }

    fn command(&mut self, worker: &mut Worker, command: Command) {
        match command {
            Command::AddQuery { spec, _holds } => self.add(worker, &spec),
            Command::DropQuery(id) => {
                if let Some(query) = self.queries.get_mut(&id) {
                    query.dropped = true;
                }
                self.sweep();
            }
            Command::Peek { query, as_of, reply } => {
                let store = self.queries.get_mut(&query).and_then(|q| q.store.as_mut());
                let gone = || Err(Error::user("the view was dropped"));
                let _ = reply.send(store.map_or_else(gone, |store| store.contents(as_of)));
            }
            Command::Shutdown => {}
        }
    }

    /// Ends dropped queries, except those whose arrangements others still read.
    fn sweep(&mut self) {
        loop {
            let used: HashSet<u64> = self.queries.values().flat_map(|q| q.uses.iter().copied()).collect();
            let ended = self.queries.iter().find(|(id, query)| query.dropped && !used.contains(id)).map(|(id, _)| *id);
            let Some(id) = ended else { break };
            self.shared.retain(|_, shared| shared.owner != id);
            if let Some(query) = self.queries.remove(&id) {
                query.taps.iter().for_each(Tap::detach);
            }
            self.feeds.values_mut().for_each(|feed| feed.subscribers.retain(|s| s.query != id));
        }
        self.feeds.retain(|_, feed| !feed.subscribers.is_empty() || !feed.events.is_empty());
    }

    fn add(&mut self, worker: &mut Worker, spec: &Arc<QuerySpec>) {
        let index = worker.index();
        let mut wiring = Wiring::default();
        let stores = worker.dataflow_named::<Time, _, _>(&spec.name, |scope| {
            let mut inputs =
                QueryInputs { scope, spec, queries: &mut self.queries, shared: &mut self.shared, wiring: &mut wiring };
            let rendered = render::render(&spec.plan, scope, &mut inputs);
            if spec.store.is_none() {
                end(rendered.ok, rendered.errors, index, spec, |updates| Some(std::mem::take(updates)));
                return None;
            }
            let (store, arranged) = Store::new(rendered.ok, spec.store.clone()?, &spec.name);
            // What is read at a closed time must be closed in all of them.
            let mut stored = arranged.stream;
            let mode = spec.plan.on_error;
            let mut store_errors = |codec: &Option<Arc<Codec>>, name: &str, left_out: bool| {
                let rows = error_rows(rendered.errors.clone(), move |error| error.is_left_out(mode) == left_out);
                let (errors, arranged) = Store::new(rows, codec.clone()?, &format!("{}.{name}", spec.name));
                stored = stored.clone().concat(arranged.stream);
                Some(errors)
            };
            let errors = store_errors(&spec.errors, "errors", true);
            let faults = store_errors(&spec.faults, "faults", false);
            end(stored, rendered.errors, index, spec, |_| None);
            Some((store, errors, faults))
        });
        let (store, errors, faults) = match stores {
            Some((store, errors, faults)) => (Some(store), errors, faults),
            None => (None, None, None),
        };
        for (feed, tap, slot) in wiring.subscribers {
            let feed = self.feed(feed);
            let from = feed.first + feed.events.len() as u64;
            feed.subscribers.push(Subscriber::new(spec.id, tap, slot, from));
        }
        let shared = spec.shared.clone();
        let taps = wiring.taps;
        let installed = Installed { shared, taps, store, errors, faults, uses: wiring.uses, dropped: false };
        self.queries.insert(spec.id, installed);
    }
}

/// What a query's dataflow was connected to.
#[derive(Default)]
struct Wiring {
    taps: Vec<Tap>,
    subscribers: Vec<(FeedId, Tap, usize)>,
    /// Queries whose arrangements it reads.
    uses: HashSet<u64>,
}

/// A query's relations on this worker.
struct QueryInputs<'a, 'scope> {
    scope: Scope<'scope, Time>,
    spec: &'a QuerySpec,
    queries: &'a mut HashMap<u64, Installed>,
    shared: &'a mut SharedArrangements,
    wiring: &'a mut Wiring,
}

impl<'scope> Inputs<'scope> for QueryInputs<'_, 'scope> {
    fn relation(&mut self, relation: &Relation) -> UpdateStream<'scope, Columns> {
        let scope = self.scope;
        if let Some((_, query)) = self.spec.views.iter().find(|(view, _)| view == relation)
            && let Some(store) = self.queries.get_mut(query).and_then(|q| q.stored(relation))
        {
            if !self.spec.once {
                return store.import(scope, relation.name(), self.spec.as_of);
            }
            let as_of = self.spec.views_at.unwrap_or(SINCE_EVER);
            let (tap, stream) = Tap::new(scope, relation.name(), as_of, vec![Some(as_of)]);
            let contents = self.spec.views_at.map_or(Ok(Vec::new()), |at| store.contents(at));
            match contents {
                Ok(parts) => parts.into_iter().for_each(|(data, diffs)| {
                    tap.data(Updates { times: vec![as_of; data.rows], data, diffs });
                }),
                Err(error) => self.spec.shared.fail(error),
            }
            tap.frontier(0, None);
            return stream;
        }
        let feeds = self.spec.tables.iter().find(|t| t.relation == *relation).map_or(&[][..], |t| &t.feeds);
        let frontiers = feeds.iter().map(|(_, frontier)| *frontier).collect();
        let (tap, stream) = Tap::new(scope, &format!("{relation:?}"), self.spec.as_of, frontiers);
        let slots = feeds.iter().enumerate().map(|(slot, (feed, _))| (*feed, tap.clone(), slot));
        self.wiring.subscribers.extend(slots);
        self.wiring.taps.push(tap);
        stream
    }

    fn errors(&mut self, relation: &Relation) -> Option<UpdateStream<'scope, Vec<RowError>>> {
        let (_, query) = self.spec.views.iter().find(|(view, _)| view == relation)?;
        if self.spec.once || !matches!(relation, Relation::View { .. }) {
            return None;
        }
        let faults = self.queries.get_mut(query)?.faults.as_ref()?;
        let rows = faults.import(self.scope, "Faults", self.spec.as_of);
        Some(rows.unary::<CapacityContainerBuilder<Updates<Vec<RowError>>>, _, _, _>(Pipeline, "Faults", |_, _| {
            move |input, output| {
                input.for_each(|capability, batch| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let texts: Vec<_> = data.arrays.iter().map(|array| array.as_string::<i32>()).collect();
                    let text = |column: usize, row: usize| texts[column].value(row).to_owned();
                    let error = |row| RowError {
                        row: text(0, row),
                        expression: text(1, row),
                        message: text(2, row),
                        // The view is in error whatever its readers do with their own.
                        negative: true,
                    };
                    let data: Vec<_> = (0..data.rows).map(error).collect();
                    output.session_with_builder(&capability).give_container(&mut Updates { data, times, diffs });
                });
            }
        }))
    }

    fn as_of(&self) -> Time {
        self.spec.as_of
    }

    fn run_end(&self) -> RunEnd {
        self.spec.shared.end.clone()
    }

    fn arrangement(&mut self, collection: u64, key: &[usize]) -> Option<Arrangement> {
        let id = (collection, key.to_vec());
        if !self.spec.imports.contains(&id) {
            return None;
        }
        let shared = self.shared.get(&id)?;
        self.wiring.uses.insert(shared.owner);
        Some(shared.arrangement.clone())
    }

    fn offer(&mut self, collection: u64, key: &[usize], arrangement: Arrangement) {
        if self.spec.offers {
            self.shared.insert((collection, key.to_vec()), Shared { owner: self.spec.id, arrangement });
        }
    }
}

/// The errors that are wanted, as a relation has them.
fn error_rows<'scope>(
    errors: UpdateStream<'scope, Vec<RowError>>,
    wanted: impl Fn(&RowError) -> bool + 'static,
) -> UpdateStream<'scope, Columns> {
    errors.unary::<CapacityContainerBuilder<Updates<Columns>>, _, _, _>(Pipeline, "Errors", |_, _| {
        move |input, output| {
            input.for_each(|capability, batch| {
                let Updates { data, times, diffs } = std::mem::take(batch);
                let kept: Vec<usize> = (0..data.len()).filter(|&i| wanted(&data[i])).collect();
                let column = |text: fn(&RowError) -> &str| -> ArrayRef {
                    Arc::new(StringArray::from_iter_values(kept.iter().map(|&i| text(&data[i]))))
                };
                let arrays = vec![column(|e| &e.row), column(|e| &e.expression), column(|e| &e.message)];
                let mut updates = Updates {
                    data: Columns { arrays, rows: kept.len() },
                    times: kept.iter().map(|&i| times[i]).collect(),
                    diffs: kept.iter().map(|&i| diffs[i]).collect(),
                };
                output.session_with_builder(&capability).give_container(&mut updates);
            });
        }
    })
}

/// Ends a dataflow: sends what `take` keeps of each batch, and the errors, to the query's reader, and publishes the
/// frontier. Rows that are left out are counted.
fn end<'scope, C: timely::Container + Clone>(
    ok: timely::dataflow::Stream<'scope, Time, C>,
    errors: UpdateStream<'scope, Vec<RowError>>,
    index: usize,
    spec: &QuerySpec,
    mut take: impl FnMut(&mut C) -> Option<Updates<Columns>> + 'static,
) {
    let shared = spec.shared.clone();
    let mode = spec.plan.on_error;
    // A reader that has enough ends the query: it gets what there is.
    let at_once = if spec.plan.enough().is_some() { 1 } else { ROWS_PER_MESSAGE };
    let _: timely::dataflow::Stream<'scope, Time, Vec<()>> =
        ok.binary_frontier(errors, Pipeline, Pipeline, "Output", move |_, _| {
            let mut sent = Some(SINCE_EVER);
            // What has not been sent: nothing of it is shown before its time is closed.
            let (mut updates, mut rows) = (Vec::new(), 0);
            move |(ok, ok_frontier),
                  (errors, errors_frontier),
                  _output: &mut OutputBuilderSession<'_, Time, NoopBuilder<Vec<()>>>| {
                ok.for_each(|_, batch| {
                    if let Some(taken) = take(batch) {
                        rows += taken.len();
                        shared.unread.add(taken.len());
                        updates.push(taken);
                    }
                });
                let mut error_changes = Vec::new();
                let mut left_out = 0;
                errors.for_each(|_, batch| {
                    let batch = std::mem::take(batch);
                    for ((error, time), diff) in batch.data.into_iter().zip(batch.times).zip(batch.diffs) {
                        match error.is_left_out(mode) {
                            true => left_out += diff,
                            false => error_changes.push((error, time, diff)),
                        }
                    }
                });
                shared.change_left_out(left_out);
                let least = |frontier: &MutableAntichain<Time>| frontier.frontier().first().copied();
                let frontier = match (least(ok_frontier), least(errors_frontier)) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                if rows < at_once && error_changes.is_empty() && frontier == sent {
                    return;
                }
                shared.change_errors(&error_changes);
                if let Some(output) = &shared.output {
                    let (updates, errors) = (std::mem::take(&mut updates), error_changes);
                    rows = 0;
                    output.send(Output::Changes { worker: index, updates, errors, frontier });
                }
                if frontier != sent {
                    sent = frontier;
                    shared.publish(index, frontier);
                }
            }
        });
}
