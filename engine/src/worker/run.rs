//! A timely worker's loop: takes messages, feeds dataflows, steps them. It never blocks on anything but having nothing
//! to do. What a turn of the loop costs follows what there is to do, not how many queries and feeds there are.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use headwater_operators::guard::{self, Supervisor};
use headwater_operators::time::Time;
use headwater_operators::turn;
use timely::dataflow::operators::core::Concat;
use timely::worker::Worker;

use super::awake::{Awake, Peers};
use super::feed::Feed;
use super::inputs::{QueryInputs, Wiring, end, error_rows};
use super::installed::{Installed, SharedArrangements};
use super::message::{Command, FeedId, Local, Message, QuerySpec};
use super::store::Store;
use crate::error::Error;
use crate::render;
use crate::render::codec::Codec;
use crate::shield::caught;

/// Rows of a feed handed to dataflows before they are stepped.
const ROWS_PER_STEP: usize = 1 << 16;
/// The same where queries with work of their own share the worker.
const ROWS_PER_SHARED_STEP: usize = 1 << 9;
/// How long the operators of several queries work in a step on what was left over.
const SHARED_STEP: Duration = Duration::from_micros(30);
/// For so long a feed that brought rows counts as one whose queries have work.
const LATELY: Duration = Duration::from_secs(10);
/// How long a worker sleeps when there is nothing to do and nobody wakes it.
const PARK: Duration = Duration::from_millis(100);
/// The same while something rests.
const REST: Duration = Duration::from_millis(1);
/// How long a worker stays awake after work.
const LINGER: Duration = Duration::from_micros(200);
/// How often stored output is compacted and measured.
const MAINTENANCE: Duration = Duration::from_millis(5);
/// How often that is done with a query after its frontier has moved: merges go on for a while.
const SETTLING: u8 = 20;
/// With how many others it is done each time, in turn.
const IN_TURN: usize = 4;

/// Everything that one worker keeps.
pub(crate) struct WorkerState {
    receiver: Receiver<Message>,
    peers: Arc<Peers>,
    feeds: HashMap<FeedId, Feed>,
    /// The feeds with something to hand over.
    active: Vec<FeedId>,
    /// The feeds that brought rows last, the latest first.
    lately: Vec<(FeedId, Instant)>,
    queries: HashMap<u64, Installed>,
    shared: SharedArrangements,
    /// Queries whose frontiers have moved since they were last looked after.
    moved: Rc<RefCell<Vec<u64>>>,
    settling: Vec<u64>,
    /// The others, in turn.
    in_turn: VecDeque<u64>,
}

impl WorkerState {
    pub fn new(receiver: Receiver<Message>, peers: Arc<Peers>) -> Self {
        WorkerState {
            receiver,
            peers,
            feeds: HashMap::new(),
            active: Vec::new(),
            lately: Vec::new(),
            queries: HashMap::new(),
            shared: SharedArrangements::default(),
            moved: Rc::default(),
            settling: Vec::new(),
            in_turn: VecDeque::new(),
        }
    }

    /// Runs until [`Command::Shutdown`], or until the session is gone.
    pub fn run(mut self, worker: &mut Worker) {
        let mut awake = Awake::new(LINGER, worker.peers());
        let mut maintained = Instant::now();
        loop {
            loop {
                match self.receiver.try_recv() {
                    Ok(Message::Data(feed, updates, load, in_flight)) => self.feed(feed).data(updates, load, in_flight),
                    Ok(Message::Frontier(feed, frontier)) => self.feed(feed).frontier(frontier),
                    Ok(Message::Command(Command::Shutdown)) => return self.end(worker),
                    Ok(Message::Command(command)) => self.command(worker, command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.end(worker),
                }
            }
            // One query's rounds don't wait for another's long work.
            let shares = self.lately.len() > 1 && self.queries.len() > 1;
            let handed = self.hand_over(worker.index(), if shares { ROWS_PER_SHARED_STEP } else { ROWS_PER_STEP });
            turn::share(shares.then_some(SHARED_STEP));
            if handed {
                awake.end();
                worker.step();
                awake.begin();
            } else if self.receiver.is_empty() {
                // Rounds follow each other closely: what comes next is met awake, also from others in the midst of one.
                let waits = awake.waits(|| worker.peers() > 1 && self.is_in_a_round(worker.index()));
                worker.step();
                match (awake.has_worked(), waits) {
                    (true, _) => {}
                    (false, true) => awake.pause(),
                    (false, false) => {
                        worker.step_or_park(Some(if self.active.is_empty() { PARK } else { REST }));
                    }
                }
            }
            if maintained.elapsed() >= MAINTENANCE {
                self.maintain(worker.index());
                maintained = Instant::now();
            }
        }
    }

    /// Ends all dataflows.
    fn end(mut self, worker: &mut Worker) {
        let all: Vec<u64> = self.queries.keys().copied().collect();
        all.into_iter().for_each(|id| self.drop_query(worker, id));
    }

    fn feed(&mut self, id: FeedId) -> &mut Feed {
        let feed = self.feeds.entry(id).or_default();
        if feed.is_empty() {
            self.active.push(id);
        }
        feed
    }

    /// Hands events to the taps, of each feed up to about `most` rows; whether there were any.
    fn hand_over(&mut self, index: usize, most: usize) -> bool {
        let (feeds, lately, peers) = (&mut self.feeds, &mut self.lately, &self.peers);
        let mut any = false;
        self.active.retain(|id| {
            let Some(feed) = feeds.get_mut(id) else { return false };
            let (handed, rows) = feed.hand_over(index, most);
            any |= handed;
            if rows {
                // Who brought them may have lost its core to this worker before it could wake the others.
                peers.wake(index);
                lately.retain(|(other, _)| other != id);
                lately.insert(0, (*id, Instant::now()));
                lately.truncate(2);
            }
            if feed.is_unused() {
                feeds.remove(id);
                return false;
            }
            !feed.is_empty()
        });
        if self.lately.len() > 1 {
            self.lately.retain(|(_, at)| at.elapsed() < LATELY);
        }
        any
    }

    /// Whether something that was handed over has still to come through, which the other workers are working on as well.
    fn is_in_a_round(&self, index: usize) -> bool {
        self.lately.iter().filter_map(|(id, _)| self.feeds.get(id)).any(|feed| feed.is_in_a_round(index))
    }

    /// Lets stored views forget what nobody can read any more.
    fn maintain(&mut self, index: usize) {
        for id in self.moved.borrow_mut().drain(..) {
            if let Some(query) = self.queries.get_mut(&id) {
                if query.settling == 0 {
                    self.settling.push(id);
                }
                query.settling = SETTLING;
            }
        }
        let (queries, shared) = (&mut self.queries, &mut self.shared);
        self.settling.retain(|id| {
            let Some(query) = queries.get_mut(id) else { return false };
            query.look_after(shared, index);
            query.settling -= 1;
            query.settling > 0
        });
        for _ in 0..IN_TURN.min(self.in_turn.len()) {
            let Some(id) = self.in_turn.pop_front() else { break };
            if let Some(query) = self.queries.get_mut(&id) {
                query.look_after(&mut self.shared, index);
                self.in_turn.push_back(id);
            }
        }
    }

    fn command(&mut self, worker: &mut Worker, command: Command) {
        match command {
            Command::AddQuery { spec, local } => self.add(worker, &spec, &local),
            Command::DropQuery(id) => self.drop_query(worker, id),
            Command::Peek { query, as_of, reply } => {
                let store = self.queries.get_mut(&query).and_then(|q| q.store.as_mut());
                let gone = || Err(Error::user("the view was dropped"));
                let read = store.map_or_else(gone, |store| {
                    let contents = caught(|| store.contents(as_of));
                    contents
                        .unwrap_or_else(|message| Err(Error::internal(format!("reading the view failed: {message}"))))
                });
                let _ = reply.send(read);
            }
            Command::Shutdown => {}
        }
    }

    /// Takes a query away once nobody reads its arrangements any more, and then those that only it kept.
    fn drop_query(&mut self, worker: &mut Worker, id: u64) {
        let mut unwanted = vec![id];
        if let Some(query) = self.queries.get_mut(&id) {
            query.dropped = true;
        }
        while let Some(id) = unwanted.pop() {
            if self.queries.get(&id).is_none_or(|query| !query.dropped || query.users > 0) {
                continue;
            }
            let Some(query) = self.queries.remove(&id) else { continue };
            query.offers.iter().for_each(|offer| {
                self.shared.remove(offer);
            });
            for id in query.feeds {
                if let Some(feed) = self.feeds.get_mut(&id) {
                    feed.unsubscribe(query.published.id());
                    if feed.is_unused() {
                        self.feeds.remove(&id);
                    }
                }
            }
            worker.drop_dataflow(query.dataflow);
            for used in query.uses {
                if let Some(other) = self.queries.get_mut(&used) {
                    other.users -= 1;
                    unwanted.push(used);
                }
            }
        }
    }

    fn add(&mut self, worker: &mut Worker, spec: &Arc<QuerySpec>, local: &Local) {
        let index = worker.index();
        let published = &local.published;
        let mut wiring = Wiring::default();
        let dataflow = worker.next_dataflow_index();
        let supervisor = {
            let node = published.node.clone();
            Supervisor::new(move |fault| {
                let title = node.title();
                node.fail(Error::internal(format!("{title} can't go on: {}: {}", fault.operator, fault.message)));
            })
        };
        let build = || {
            worker.dataflow_named::<Time, _, _>(&spec.name, |scope| {
                let mut inputs = QueryInputs {
                    scope,
                    spec,
                    published,
                    queries: &mut self.queries,
                    shared: &mut self.shared,
                    wiring: &mut wiring,
                };
                let rendered = render::render(&spec.plan, scope, &mut inputs);
                let mode = spec.plan.on_error;
                let Some(codecs) = &local.stores else {
                    let take = |updates: &mut _| Some(std::mem::take(updates));
                    end(rendered.ok, rendered.errors, index, &spec.plan, published, &self.moved, take);
                    return None;
                };
                let (store, arranged) = Store::new(rendered.ok, codecs.rows.clone(), &spec.name);
                // What is read at a closed time must be closed in all of them.
                let mut stored = arranged.stream;
                let mut store_errors = |codec: &Option<Arc<Codec>>, name: &str, left_out: bool| {
                    let rows = error_rows(rendered.errors.clone(), move |error| error.is_left_out(mode) == left_out);
                    let (errors, arranged) = Store::new(rows, codec.clone()?, &format!("{}.{name}", spec.name));
                    stored = stored.clone().concat(arranged.stream);
                    Some(errors)
                };
                let errors = store_errors(&codecs.errors, "errors", true);
                let faults = store_errors(&codecs.faults, "faults", false);
                end(stored, rendered.errors, index, &spec.plan, published, &self.moved, |_| None);
                Some((store, errors, faults))
            })
        };
        let stores = catch_unwind(AssertUnwindSafe(|| supervisor.supervise(build)));
        local.building.done(index, worker.peek_identifier());
        let (store, errors, faults) = match stores {
            Ok(Some((store, errors, faults))) => (Some(store), errors, faults),
            Ok(None) => (None, None, None),
            Err(panic) => {
                let next = local.building.next();
                while worker.peek_identifier() < next {
                    worker.new_identifier();
                }
                wiring.offers.iter().for_each(|offer| {
                    self.shared.remove(offer);
                });
                let (node, message) = (&published.node, guard::message(&*panic));
                return node.fail(Error::internal(format!("{} can't be run: {message}", node.title())));
            }
        };
        let mut feeds = Vec::new();
        for (feed, input) in wiring.feeds {
            self.feeds.entry(feed).or_default().subscribe(input);
            feeds.push(feed);
        }
        let (uses, offers) = (wiring.uses, wiring.offers);
        for used in &uses {
            if let Some(other) = self.queries.get_mut(used) {
                other.users += 1;
            }
        }
        let published = published.clone();
        let (dropped, users, settling) = (false, 0, 0);
        let installed =
            Installed { published, dataflow, feeds, store, errors, faults, uses, users, offers, dropped, settling };
        self.queries.insert(spec.id, installed);
        self.in_turn.push_back(spec.id);
    }
}
