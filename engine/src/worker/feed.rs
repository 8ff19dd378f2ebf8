//! What a table's intake sends, on its way to the queries of this worker: a log with a cursor for each of them.
//!
//! Who rests holds up nobody else: the log keeps what it has not taken. How long the log may become is for the intake to
//! say, which counts what is in it (see [`Gauge`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use headwater_operators::time::Time;
use headwater_operators::{Payload, Updates};

use super::gauge::{Gauge, Load};
use super::published::Published;
use super::tap::Tap;
use crate::columns::Columns;

/// A feed rests while its query's reader has more unread output than this, and always reads on.
const UNREAD: Load = Load { rows: 1 << 20, bytes: 1 << 28 };
/// A feed rests while its query has this many rounds and rows that it has not worked through.
const ROUNDS_AHEAD: usize = 8;
const ROWS_AHEAD: usize = 1 << 20;
/// The same where rows are large.
const FEW_ROUNDS_AHEAD: usize = 2;
const BYTES_AHEAD: usize = 1 << 27;

enum Event {
    /// Updates, how much they were, and where they count while they are here.
    Data(Updates<Columns>, Load, Arc<Gauge>),
    Frontier(Option<Time>),
}

/// Why a query takes nothing now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It has enough to work on, or to write.
    Busy,
    /// It is ahead of the query's other inputs, and nothing that is here would change that.
    Ahead,
}

/// How far the feeds of a query were handed over to it, on this worker.
pub(super) type Handed = Rc<RefCell<Vec<Option<Time>>>>;

/// A feed as an input of a query.
pub(super) struct Input {
    pub published: Arc<Published>,
    pub tap: Tap,
    /// Which of the tap's feeds it is.
    pub slot: usize,
    pub handed: Handed,
    /// Which of the query's feeds it is.
    pub number: usize,
}

/// A query's cursor in the log.
struct Cursor {
    input: Input,
    /// The number of the next event, and how many of its rows were handed over.
    next: u64,
    rows: usize,
    /// Frontiers of this feed handed over and not yet worked through by the query, each with what came before it.
    ///
    /// Kept by feed: one that is ahead of the query's others rests, and those that it waits for do not.
    ahead: VecDeque<(Time, Load)>,
    load_ahead: Load,
    load_since: Load,
}

impl Cursor {
    fn rest(&mut self, worker: usize) -> Option<Rest> {
        let done = self.input.published.worker_frontier(worker);
        while let Some(&(time, load)) = self.ahead.front() {
            if done.is_some_and(|done| done < time) {
                break;
            }
            self.ahead.pop_front();
            self.load_ahead -= load;
        }
        if self.input.published.output.as_ref().is_some_and(|output| output.is_full(UNREAD)) {
            return Some(Rest::Busy);
        }
        let full = self.ahead.len() >= ROUNDS_AHEAD && self.load_ahead.rows > ROWS_AHEAD
            || self.ahead.len() >= FEW_ROUNDS_AHEAD && self.load_ahead.bytes > BYTES_AHEAD;
        full.then(|| if self.waits_for_others(worker, done) { Rest::Ahead } else { Rest::Busy })
    }

    /// Whether the query has worked through all that its other inputs let it.
    fn waits_for_others(&self, worker: usize, done: Option<Time>) -> bool {
        let handed = self.input.handed.borrow();
        let feeds = handed.iter().enumerate().filter(|(number, _)| *number != self.input.number);
        let views = self.input.published.upstream.iter().filter_map(|view| view.worker_frontier(worker));
        let least = feeds.filter_map(|(_, frontier)| *frontier).chain(views).min();
        least.is_some_and(|least| done.is_some_and(|done| done >= least))
    }

    fn data(&mut self, updates: Updates<Columns>, load: Load) {
        self.load_since += load;
        self.input.tap.data(updates);
    }

    fn frontier(&mut self, frontier: Option<Time>) {
        if let Some(time) = frontier.filter(|_| self.load_since.rows > 0) {
            self.ahead.push_back((time, self.load_since));
            self.load_ahead += std::mem::take(&mut self.load_since);
        }
        self.input.handed.borrow_mut()[self.input.number] = frontier;
        self.input.tap.frontier(self.input.slot, frontier);
    }
}

/// The log of one feed.
#[derive(Default)]
pub(super) struct Feed {
    events: VecDeque<Event>,
    /// The number of the first event in `events`.
    first: u64,
    cursors: Vec<Cursor>,
    /// Where it says that it is ahead.
    ahead_in: Option<Arc<Gauge>>,
}

impl Feed {
    pub fn data(&mut self, updates: Updates<Columns>, load: Load, in_flight: Arc<Gauge>) {
        self.events.push_back(Event::Data(updates, load, in_flight));
    }

    pub fn frontier(&mut self, frontier: Option<Time>) {
        // Frontiers that nobody has taken yet are as good as the last of them; but an end tells not how far it went.
        let after = self.first + self.events.len() as u64;
        if frontier.is_some()
            && let Some(Event::Frontier(last)) = self.events.back_mut()
            && self.cursors.iter().all(|cursor| cursor.next < after)
        {
            *last = frontier;
        } else {
            self.events.push_back(Event::Frontier(frontier));
        }
    }

    /// Adds a query, which gets what comes from here on.
    pub fn subscribe(&mut self, input: Input) {
        let next = self.first + self.events.len() as u64;
        let (load_ahead, load_since) = (Load::default(), Load::default());
        self.cursors.push(Cursor { input, next, rows: 0, ahead: VecDeque::new(), load_ahead, load_since });
    }

    /// Removes a query.
    pub fn unsubscribe(&mut self, query: u64) {
        self.cursors.retain(|cursor| cursor.input.published.id() != query);
        self.trim(false);
    }

    /// Whether a query has not come to the end of what it was handed.
    pub fn is_in_a_round(&self, worker: usize) -> bool {
        self.cursors.iter().any(|cursor| {
            let done = cursor.input.published.worker_frontier(worker);
            cursor.ahead.back().is_some_and(|(time, _)| done.is_some_and(|done| done < *time))
        })
    }

    /// Whether nobody reads it and nothing is in it.
    pub fn is_unused(&self) -> bool {
        self.cursors.is_empty() && self.events.is_empty()
    }

    /// Whether there is something that somebody has not taken.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Hands up to about `most` rows to each query that does not rest: whether there was anything, and any rows.
    pub fn hand_over(&mut self, worker: usize, most: usize) -> (bool, bool) {
        let end = self.first + self.events.len() as u64;
        let (mut any, mut any_rows, mut ahead) = (false, false, false);
        // Where all before have got to: the last cursor takes what nobody else needs, without a copy.
        let mut behind = end;
        let last = self.cursors.len().saturating_sub(1);
        for (index, cursor) in self.cursors.iter_mut().enumerate() {
            let mut rows = 0;
            while cursor.next < end && rows < most {
                if let Some(rest) = cursor.rest(worker) {
                    ahead |= rest == Rest::Ahead;
                    break;
                }
                any = true;
                let moves = index == last && cursor.next < behind;
                match &mut self.events[(cursor.next - self.first) as usize] {
                    Event::Frontier(frontier) => {
                        cursor.frontier(*frontier);
                        cursor.next += 1;
                    }
                    Event::Data(updates, load, _) => {
                        any_rows = true;
                        let left = load.rows - cursor.rows;
                        let taken = if left > 2 * most { most } else { left };
                        let piece = match (moves, cursor.rows == 0 && taken == left) {
                            (true, true) => std::mem::take(updates),
                            (false, true) => updates.clone(),
                            _ => piece(updates, cursor.rows..cursor.rows + taken),
                        };
                        rows += taken;
                        cursor.data(piece, load.share(taken));
                        if taken == left {
                            cursor.next += 1;
                            cursor.rows = 0;
                        } else {
                            cursor.rows += taken;
                        }
                    }
                }
            }
            behind = behind.min(cursor.next);
        }
        self.trim(ahead);
        (any, any_rows)
    }

    /// Forgets what all have taken, and says whether somebody is ahead of its other inputs.
    fn trim(&mut self, ahead: bool) {
        let end = self.first + self.events.len() as u64;
        let taken = self.cursors.iter().map(|cursor| cursor.next).min().unwrap_or(end);
        while self.first < taken {
            if let Some(Event::Data(_, load, in_flight)) = self.events.pop_front() {
                in_flight.sub(load);
            }
            self.first += 1;
        }
        match (&self.ahead_in, ahead) {
            (None, true) => {
                let gauge = self.events.iter().find_map(|event| match event {
                    Event::Data(_, _, gauge) => Some(gauge.clone()),
                    Event::Frontier(_) => None,
                });
                if let Some(gauge) = &gauge {
                    gauge.hold_up(true);
                }
                self.ahead_in = gauge;
            }
            (Some(gauge), false) => {
                gauge.hold_up(false);
                self.ahead_in = None;
            }
            _ => {}
        }
    }
}

fn piece(updates: &Updates<Columns>, rows: std::ops::Range<usize>) -> Updates<Columns> {
    Updates {
        data: Payload::slice(&updates.data, rows.clone()),
        times: updates.times[rows.clone()].to_vec(),
        diffs: updates.diffs[rows].to_vec(),
    }
}
