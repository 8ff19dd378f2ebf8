//! A node of the graph: a table, a view, a sink, a reader; and its life.
//!
//! ```text
//!            begin            finished, not stopped
//! starting ---------> running ----------------------> ended
//!     |  stop            | stop
//!     +----> draining <--+
//!                |  finished
//!                +---------> stopped          any of the living --- fail ---> failed(why)
//! ```
//!
//! The transitions are the functions of [`Node`], and each goes downstream as what it is: *stopped* makes nothing final
//! in whatever reads it, through any chain; *ended* makes everything final, which the dataflows do by themselves once
//! their inputs close; *failed* carries its error. What a node reads must be there for as long as it is.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use headwater_operators::run_end::RunEnd;

use crate::error::{Error, Result};

/// Identifies a node of a session; never used twice.
pub(crate) type NodeId = u64;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    /// A view whose readers are planned over its inputs.
    View,
    MaterializedView,
    Sink,
    /// A reader of changes.
    Subscription,
    /// A single answer that is being computed.
    Answer,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::View | Kind::MaterializedView => "view",
            Kind::Sink => "sink",
            Kind::Subscription => "subscription",
            Kind::Answer => "query",
        }
    }

    /// Whether it has its name for itself.
    pub fn is_named(self) -> bool {
        !matches!(self, Kind::Subscription | Kind::Answer)
    }
}

/// Where a node is in its life.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It is there, and waits to be read or rendered.
    Starting,
    Running,
    /// It was stopped, and works through what it has.
    Draining,
    /// It was stopped and has worked through what it had: nothing was made final by that.
    Stopped,
    /// It can't go on.
    Failed(Error),
    /// Its inputs have ended, and everything is final.
    Ended,
}

impl State {
    /// Whether more may come.
    pub fn is_living(&self) -> bool {
        matches!(self, State::Starting | State::Running | State::Draining)
    }

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Draining => "draining",
            State::Stopped => "stopped",
            State::Failed(_) => "failed",
            State::Ended => "ended",
        }
    }
}

/// News of a session's nodes, for whoever waits; and how often the session's waits were cancelled.
#[derive(Default)]
pub(crate) struct News {
    /// How much there was.
    told: Mutex<u64>,
    came: Condvar,
    cancels: AtomicU64,
}

/// How long a wait lasts before its condition is looked at again, come news or not.
const LOOK: Duration = Duration::from_millis(20);

impl News {
    /// For [`News::check`], when a call begins that may wait.
    pub fn cancels(&self) -> u64 {
        self.cancels.load(Ordering::Acquire)
    }

    /// Ends what waits now.
    pub fn cancel(&self) {
        self.cancels.fetch_add(1, Ordering::AcqRel);
        self.tell();
    }

    /// Errors: waits were cancelled since there were `before` cancels.
    pub fn check(&self, before: u64) -> Result<()> {
        if self.cancels() == before { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// Wakes all who wait.
    pub fn tell(&self) {
        *lock(&self.told) += 1;
        self.came.notify_all();
    }

    /// Waits until `found` finds something; it is asked without a lock. Errors: it was cancelled since there were `cancels`.
    pub fn wait<T>(&self, cancels: u64, mut found: impl FnMut() -> Option<T>) -> Result<T> {
        loop {
            let before = *lock(&self.told);
            if let Some(found) = found() {
                return Ok(found);
            }
            self.check(cancels)?;
            let told = lock(&self.told);
            if *told == before {
                drop(self.came.wait_timeout(told, LOOK).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

type Notice = Box<dyn Fn(&Error) + Send + Sync>;

/// A node of the graph.
pub(crate) struct Node {
    pub id: NodeId,
    pub kind: Kind,
    pub name: String,
    reads: OnceLock<Vec<Arc<Node>>>,
    readers: Mutex<Vec<Weak<Node>>>,
    state: Mutex<State>,
    /// Tells its dataflow that nothing more becomes final.
    end: RunEnd,
    /// Is told why it failed.
    notice: Mutex<Option<Notice>>,
    news: Arc<News>,
}

impl Node {
    /// A node that starts and reads nothing yet.
    pub(super) fn new(id: NodeId, kind: Kind, name: String, news: Arc<News>) -> Arc<Self> {
        Arc::new(Node {
            id,
            kind,
            name,
            reads: OnceLock::new(),
            readers: Mutex::default(),
            state: Mutex::new(State::Starting),
            end: RunEnd::default(),
            notice: Mutex::default(),
            news,
        })
    }

    /// Says, once, what it reads, and makes it known there.
    pub(super) fn read(self: &Arc<Self>, reads: Vec<Arc<Node>>) {
        for below in self.reads.get_or_init(|| reads) {
            let mut readers = lock(&below.readers);
            readers.retain(|reader| reader.strong_count() > 0);
            readers.push(Arc::downgrade(self));
        }
    }

    /// What it reads.
    pub fn reads(&self) -> &[Arc<Node>] {
        self.reads.get().map_or(&[], Vec::as_slice)
    }

    /// As messages call it.
    pub fn title(&self) -> String {
        format!("{} '{}'", self.kind.word(), self.name)
    }

    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Why it can't go on, if it can't.
    pub fn failure(&self) -> Option<Error> {
        match &*lock(&self.state) {
            State::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Whether nothing more becomes final by its end.
    pub fn is_stopped(&self) -> bool {
        self.end.is_stopped()
    }

    /// What its dataflow is told of its end.
    pub fn run_end(&self) -> &RunEnd {
        &self.end
    }

    /// Those that read it and are there.
    pub fn readers(&self) -> Vec<Arc<Node>> {
        lock(&self.readers).iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether it comes to its end by itself, if it has not: no table below it is read on.
    pub fn comes_to_its_end(&self) -> bool {
        let mut known = HashSet::new();
        let mut below: Vec<&Node> = vec![self];
        while let Some(node) = below.pop() {
            match node.kind {
                _ if !node.state().is_living() => {}
                Kind::Table => return false,
                _ => below.extend(node.reads().iter().filter(|read| known.insert(read.id)).map(Arc::as_ref)),
            }
        }
        true
    }

    /// Says whom to tell when it fails; at once if it has.
    pub fn when_failed(&self, notice: impl Fn(&Error) + Send + Sync + 'static) {
        if let Some(error) = self.failure() {
            notice(&error);
        }
        *lock(&self.notice) = Some(Box::new(notice));
    }

    fn change(&self, to: impl FnOnce(&State) -> Option<State>) -> bool {
        let changed = {
            let mut state = lock(&self.state);
            let next = to(&state);
            let changed = next.is_some();
            if let Some(next) = next {
                *state = next;
            }
            changed
        };
        if changed {
            self.news.tell();
        }
        changed
    }

    /// It has what it needs and runs.
    pub fn begin(&self) {
        self.change(|state| matches!(state, State::Starting).then_some(State::Running));
    }

    /// It begins anew, after it failed or ended: for a table that is read again.
    pub fn again(&self) {
        self.change(|state| (!state.is_living()).then_some(State::Starting));
    }

    /// From here on its end makes nothing final, nor that of what reads it. A plain view has none.
    pub fn forgo_end(&self) {
        if self.kind == Kind::View {
            return;
        }
        self.end.stop();
        self.readers().iter().for_each(|reader| reader.forgo_end());
    }

    /// Stops it: what it has is worked through, and nothing more becomes final, in it and in all that reads it.
    pub fn stop(&self) {
        self.forgo_end();
        self.change(|state| matches!(state, State::Starting | State::Running).then_some(State::Draining));
    }

    /// It has worked through all that it will ever get.
    pub fn finished(&self) {
        let last = if self.is_stopped() { State::Stopped } else { State::Ended };
        self.change(|state| state.is_living().then_some(last));
    }

    /// It can't go on, and so can't what reads it. A plain view is but a name: who reads by it reads what it reads.
    pub fn fail(&self, error: Error) {
        if self.kind == Kind::View || !self.change(|state| state.is_living().then(|| State::Failed(error.clone()))) {
            return;
        }
        if let Some(notice) = &*lock(&self.notice) {
            notice(&error);
        }
        self.readers().iter().for_each(|reader| reader.fail(error.clone()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> [Arc<Node>; 3] {
        let news = Arc::new(News::default());
        let node = |id, kind, reads: &[&Arc<Node>]| {
            let node = Node::new(id, kind, format!("n{id}"), news.clone());
            node.read(reads.iter().map(|node| (*node).clone()).collect());
            node
        };
        let table = node(1, Kind::Table, &[]);
        let view = node(2, Kind::MaterializedView, &[&table]);
        let sink = node(3, Kind::Sink, &[&view]);
        [table, view, sink]
    }

    #[test]
    fn a_stop_goes_downstream_and_makes_nothing_final() {
        let [table, view, sink] = chain();
        [&table, &view, &sink].iter().for_each(|node| node.begin());
        table.stop();
        assert!(matches!(table.state(), State::Draining));
        assert!(view.is_stopped() && sink.is_stopped());
        sink.finished();
        assert!(matches!(sink.state(), State::Stopped));
    }

    #[test]
    fn a_failure_goes_downstream_with_its_error_and_an_end_does_not_hide_it() {
        let [table, view, sink] = chain();
        let told = Arc::new(AtomicU64::new(0));
        let count = told.clone();
        sink.when_failed(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        table.fail(Error::user("gone"));
        table.fail(Error::user("again"));
        view.finished();
        assert_eq!(sink.failure().map(|error| error.to_string()), Some("gone".to_owned()));
        assert!(matches!(view.state(), State::Failed(_)) && told.load(Ordering::Relaxed) == 1);
        table.again();
        assert!(matches!(table.state(), State::Starting) && table.failure().is_none());
    }

    #[test]
    fn who_has_ended_is_not_stopped() {
        let [table, view, sink] = chain();
        table.finished();
        view.stop();
        view.finished();
        sink.finished();
        assert!(matches!(table.state(), State::Ended));
        assert!(matches!((view.state(), sink.state()), (State::Stopped, State::Stopped)));
    }

    #[test]
    fn a_wait_can_be_cancelled() {
        let news = Arc::new(News::default());
        let (other, cancels) = (news.clone(), news.cancels());
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(move || other.wait(cancels, || None::<()>));
            news.cancel();
            waiting.join()
        });
        assert!(matches!(waiting, Ok(Err(Error::Cancelled))));
    }
}
