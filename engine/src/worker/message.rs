//! What the session says to its workers: one ordered sequence, the same for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;

use crossbeam_channel::Sender;
use headwater_operators::Updates;
use headwater_operators::time::Time;

use super::gauge::{Gauge, Load};
use super::published::{Hold, Published};
use crate::columns::Columns;
use crate::error::Result;
use crate::plan::{Plan, Relation};
use crate::render::ArrangementId;
use crate::render::codec::Codec;

/// Identifies a stream of stamped updates with a frontier: a run of a table's intake, or its late rows.
pub(crate) type FeedId = u64;

/// A message to one worker.
pub(crate) enum Message {
    /// This worker's share of a feed's updates, how much that is, and where it counts until it is taken up.
    Data(FeedId, Updates<Columns>, Load, Arc<Gauge>),
    /// No more updates before this time; `None` when the feed has ended.
    Frontier(FeedId, Option<Time>),
    /// Something to do, at this place in the sequence on every worker.
    Command(Command),
}

/// Rows of a view, in batches, with how often each is there.
pub(crate) type Contents = Vec<(Columns, Vec<i64>)>;

/// What workers do besides taking data.
pub(crate) enum Command {
    /// Builds a query's dataflow and attaches it to its feeds from here on.
    AddQuery {
        /// The query: data, with which a log of commands could build it again.
        spec: Arc<QuerySpec>,
        /// What this process has of it.
        local: Arc<Local>,
    },
    /// Takes a query's dataflow away, once nothing reads its arrangements.
    DropQuery(u64),
    /// Reads a stored view as of a time that is closed everywhere.
    Peek {
        /// The query that stores the view.
        query: u64,
        /// The time.
        as_of: Time,
        /// Where this worker's rows go.
        reply: Sender<Result<Contents>>,
    },
    /// Ends the worker's loop.
    Shutdown,
}

/// How far the workers are with building one dataflow, by the number that each gives next to an operator or a channel: the
/// numbers must stay the same on all, also where one of them fails in the middle.
pub(crate) struct Building(Vec<AtomicUsize>);

impl Building {
    pub fn new(workers: usize) -> Self {
        Building((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// A worker has built its part, or has failed to.
    pub fn done(&self, worker: usize, next: usize) {
        self.0[worker].store(next + 1, Ordering::Release);
    }

    /// The largest number that any worker gives next, once all are done. Each of them gets to it by itself.
    pub fn next(&self) -> usize {
        loop {
            let done: Option<Vec<usize>> =
                self.0.iter().map(|next| next.load(Ordering::Acquire).checked_sub(1)).collect();
            if let Some(next) = done.and_then(|next| next.into_iter().max()) {
                return next;
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }
}

/// A query in this process: where its output goes, and what must stay readable until all workers have rendered it.
pub(crate) struct Local {
    pub published: Arc<Published>,
    pub building: Building,
    pub _holds: Vec<Hold>,
    /// How the output is stored, where it is.
    pub stores: Option<Stores>,
}

/// How a query's output is stored, for snapshots and other queries.
pub(crate) struct Stores {
    /// The rows.
    pub rows: Arc<Codec>,
    /// The rows in error, where they are left out.
    pub errors: Option<Arc<Codec>>,
    /// The errors that the query is in, for its readers.
    pub faults: Option<Arc<Codec>>,
}

/// A relation of a query and the feeds that make it up.
pub(crate) struct RelationFeeds {
    /// The relation as the plan names it.
    pub relation: Relation,
    /// Its feeds, each with its frontier at this place in the sequence; none where only shared arrangements read it.
    pub feeds: Vec<(FeedId, Option<Time>)>,
    /// Whether its rows come in the order of their times, so that a stop finds it complete up to one.
    pub has_times: bool,
    /// Which of the relation's columns their rows have, in their order; `None` for all.
    pub columns: Option<Vec<usize>>,
}

/// A query to render.
pub(crate) struct QuerySpec {
    /// The query's number.
    pub id: u64,
    /// Its name, for logs and metrics.
    pub name: String,
    /// What it computes.
    pub plan: Plan,
    /// Feeds of its tables.
    pub tables: Vec<RelationFeeds>,
    /// Stored views that it reads: the relation, and the query that stores it.
    pub views: Vec<(Relation, u64)>,
    /// Its answers hold from this time on.
    pub as_of: Time,
    /// The time at which stored views are read, if something is closed in them.
    pub views_at: Option<Time>,
    /// The time at which what is read of stored views once is shown: not after what was closed before their end.
    pub shown_at: Time,
    /// Arrangements of other queries that it reads.
    pub imports: Vec<ArrangementId>,
    /// Whether others may read its own.
    pub offers: bool,
    /// Whether its input views are read at `as_of` only, and end there.
    pub once: bool,
}

/// The way to one worker.
pub(crate) struct WorkerLink {
    sender: Sender<Message>,
    thread: Thread,
}

/// The only writer of the workers' channels: whoever holds its lock decides the order for all.
pub(crate) struct Sequencer {
    links: std::sync::Mutex<Vec<WorkerLink>>,
    next: AtomicU64,
}

/// The sequence, held: messages sent through one guard stand together on every worker.
pub(crate) struct Sequence<'a> {
    links: std::sync::MutexGuard<'a, Vec<WorkerLink>>,
}

impl Sequencer {
    pub fn new(links: Vec<(Sender<Message>, Thread)>) -> Self {
        let links = links.into_iter().map(|(sender, thread)| WorkerLink { sender, thread }).collect();
        Sequencer { links: std::sync::Mutex::new(links), next: AtomicU64::new(1) }
    }

    /// A number not given before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn lock(&self) -> Sequence<'_> {
        let links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Sequence { links }
    }
}

impl Sequence<'_> {
    pub fn workers(&self) -> usize {
        self.links.len()
    }

    /// Sends a batch to one worker. A worker that is gone takes nothing: the process is ending.
    pub fn data(&mut self, worker: usize, feed: FeedId, updates: Updates<Columns>, in_flight: &Arc<Gauge>) {
        let load = Load::of(&updates);
        if load.rows > 0 {
            in_flight.add(load);
            let _ = self.links[worker].sender.send(Message::Data(feed, updates, load, in_flight.clone()));
        }
    }

    pub fn frontier(&mut self, feed: FeedId, frontier: Option<Time>) {
        for link in self.links.iter() {
            let _ = link.sender.send(Message::Frontier(feed, frontier));
        }
    }

    pub fn command(&mut self, command: impl Fn() -> Command) {
        for link in self.links.iter() {
            let _ = link.sender.send(Message::Command(command()));
        }
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.thread.unpark());
    }
}
