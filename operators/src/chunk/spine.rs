//! The trace of an arrangement: batches in order of time, merged as they age, in short steps.
//!
//! Of two neighbours, the older is kept at more than the size of the newer by merging them where it is not, so that there
//! are logarithmically many. Differential's own spine also does so, but pays for a batch when it arrives, by merges of
//! eight times its length on each level: a large batch stalls its worker. Here a batch is only put in its place, and each
//! activation of the operator that owns the trace merges a bounded number of rows, the most recent batches first; while
//! there is more to merge it asks to be activated again. Merges that lag behind cost readers some more batches
//! to look into, until they catch up.
//!
//! Where rows were retracted and nothing more comes, sizes alone would never bring a retraction to the row that it
//! cancels. So a trace at rest is made one batch now and then, at a pace that costs about a hundredth of a core.

use std::rc::Rc;
use std::time::{Duration, Instant};

use differential_dataflow::logging::Logger;
use differential_dataflow::trace::{Batch, BatchReader, Description, ExertionLogic, Merger, Trace, TraceReader};
use timely::PartialOrder;
use timely::dataflow::operators::generic::OperatorInfo;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;
use timely::scheduling::Activator;

use super::{RowBatch, RowChunk, RowTime};
use crate::turn::Turns;

/// Rows merged in an activation, at least.
const LEAST: usize = 8 * 1024;
/// Rows merged in an activation, at most, while merges don't lag.
const MOST: usize = 64 * 1024;
/// Rows merged between two looks at the clock.
const PIECE: usize = 2 * 1024;
/// How long an activation merges, at most, where turns are not shared.
const TURN: Duration = Duration::from_millis(5);
/// With more batches than this, merges lag.
const MANY: usize = 24;
/// Levels of merges that a row goes through before it rests, about.
const LEVELS: usize = 8;
/// The least time between two rounds of tidying, and what each row of the trace adds to it.
const TIDY_PAUSE: Duration = Duration::from_millis(50);
const TIDY_PAUSE_PER_ROW: Duration = Duration::from_micros(10);

type Shared<T> = Rc<RowBatch<T>>;

/// One batch, or two that are being merged.
enum Slot<T: RowTime> {
    One(Shared<T>),
    Two(Shared<T>, Shared<T>, <Shared<T> as Batch>::Merger),
}

/// The trace of an arrangement of row chunks.
pub struct RowSpine<T: RowTime> {
    /// From the oldest to the newest.
    slots: Vec<Slot<T>>,
    /// Times before this frontier need not be told apart.
    logical: Antichain<T>,
    /// Batches before this frontier need not be kept apart.
    physical: Antichain<T>,
    upper: Antichain<T>,
    /// Rows to merge soon, so that merges keep pace with what comes: a row is merged once on each level.
    debt: usize,
    /// Whether rows were retracted that may be here still, with the rows that they cancel.
    retracted: bool,
    /// The upper bound of the times of all rows.
    newest: Antichain<T>,
    /// Whether batches are merged whatever their sizes.
    tidying: bool,
    /// Not to be tidied before this time.
    tidy_at: Instant,
    turns: Turns,
    activator: Option<Activator>,
}

impl<T: RowTime> RowSpine<T> {
    fn merging(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Two(..)))
    }

    /// Whether tidying may free something now.
    fn is_untidy(&self) -> bool {
        let behind = |slot: &Slot<T>| match slot {
            Slot::One(batch) => !batch.is_empty() && *batch.description.since() != self.logical,
            Slot::Two(..) => true,
        };
        self.retracted
            && self.slots.iter().any(behind)
            && PartialOrder::less_equal(&self.upper, &self.physical)
            && Instant::now() >= self.tidy_at
    }

    /// Begins the next merge of those that make the trace one batch without what has been cancelled; false when it is.
    fn tidy(&mut self) -> bool {
        // Nobody must tell apart the batches that are made one.
        self.tidying &= PartialOrder::less_equal(&self.upper, &self.physical);
        self.tidying |= self.is_untidy();
        if !self.tidying {
            return false;
        }
        let done = match self.slots.as_slice() {
            [] => true,
            [Slot::One(batch)] => batch.is_empty() || *batch.description.since() == self.logical,
            _ => false,
        };
        if done {
            self.tidying = false;
            self.rest();
            self.retracted = !PartialOrder::less_equal(&self.newest, &self.logical);
            return false;
        }
        let Some(Slot::One(b)) = self.slots.pop() else { return true };
        let (a, b) = match self.slots.pop() {
            Some(Slot::One(a)) => (a, b),
            Some(two) => {
                self.slots.extend([two, Slot::One(b)]);
                return true;
            }
            None => {
                let lower = b.lower().clone();
                let nothing = Description::new(lower.clone(), lower, self.logical.clone());
                (Rc::new(RowBatch::new(Vec::new(), nothing)), b)
            }
        };
        let merger = a.begin_merge(&b, self.logical.borrow());
        self.slots.push(Slot::Two(a, b, merger));
        true
    }

    /// Not to be tidied for a while.
    fn rest(&mut self) {
        let mut rows = 0;
        self.map_batches(|batch| rows += batch.len());
        self.tidy_at = Instant::now() + TIDY_PAUSE + TIDY_PAUSE_PER_ROW * u32::try_from(rows).unwrap_or(u32::MAX);
    }

    /// The two as one batch where one of them is empty.
    fn fold(a: &Shared<T>, b: &Shared<T>) -> Option<Shared<T>> {
        let (chunks, since) = match (a.is_empty(), b.is_empty()) {
            (_, true) => (a.chunks.clone(), a.description.since()),
            (true, _) => (b.chunks.clone(), b.description.since()),
            _ => return None,
        };
        let description = Description::new(a.lower().clone(), b.upper().clone(), since.clone());
        Some(Rc::new(RowBatch::new(chunks, description)))
    }

    /// Begins what merges there should be; true when some are under way.
    fn consider(&mut self) -> bool {
        let mut at = self.slots.len();
        while at >= 2 {
            at -= 1;
            let (Slot::One(a), Slot::One(b)) = (&self.slots[at - 1], &self.slots[at]) else { continue };
            if !PartialOrder::less_equal(b.upper(), &self.physical) {
                continue;
            }
            if let Some(both) = Self::fold(a, b) {
                self.slots[at] = Slot::One(both);
                self.slots.remove(at - 1);
            } else if a.len() <= b.len() {
                let merger = a.begin_merge(b, self.logical.borrow());
                self.slots[at] = Slot::Two(a.clone(), b.clone(), merger);
                self.slots.remove(at - 1);
            }
            at = at.min(self.slots.len());
        }
        self.merging()
    }

    /// Merges about `fuel` rows.
    fn work(&mut self, fuel: usize) {
        let mut fuel = fuel as isize;
        while fuel > 0 {
            let Some(at) = self.slots.iter().rposition(|slot| matches!(slot, Slot::Two(..))) else { return };
            let Slot::Two(a, b, mut merger) = self.slots.remove(at) else { return };
            merger.work(&a, &b, &mut fuel);
            if fuel > 0 {
                self.slots.insert(at, Slot::One(merger.done()));
                self.consider();
            } else {
                self.slots.insert(at, Slot::Two(a, b, merger));
            }
        }
    }
}

impl<T: RowTime> TraceReader for RowSpine<T> {
    type Time = T;
    type Batch = Shared<T>;

    fn batches_through(&mut self, upper: AntichainRef<'_, T>) -> Option<Vec<Shared<T>>> {
        let mut batches = Vec::new();
        let mut whole = true;
        self.map_batches(|batch| {
            if PartialOrder::less_equal(&batch.upper().borrow(), &upper) {
                if !batch.is_empty() {
                    batches.push(batch.clone());
                }
            } else if !batch.is_empty() && !PartialOrder::less_equal(&upper, &batch.lower().borrow()) {
                whole = false;
            }
        });
        whole.then_some(batches)
    }

    fn set_logical_compaction(&mut self, frontier: AntichainRef<'_, T>) {
        self.logical = frontier.to_owned();
    }

    fn get_logical_compaction(&mut self) -> AntichainRef<'_, T> {
        self.logical.borrow()
    }

    fn set_physical_compaction(&mut self, frontier: AntichainRef<'_, T>) {
        let moved = self.physical.borrow() != frontier;
        if moved {
            self.physical = frontier.to_owned();
        }
        if (moved && self.consider() || self.is_untidy())
            && let Some(activator) = &self.activator
        {
            activator.activate();
        }
    }

    fn get_physical_compaction(&mut self) -> AntichainRef<'_, T> {
        self.physical.borrow()
    }

    fn map_batches<F: FnMut(&Shared<T>)>(&self, mut f: F) {
        for slot in &self.slots {
            match slot {
                Slot::One(batch) => f(batch),
                Slot::Two(a, b, _) => {
                    f(a);
                    f(b);
                }
            }
        }
    }
}

impl<T: RowTime> Trace for RowSpine<T> {
    fn new(_info: OperatorInfo, _logging: Option<Logger>, activator: Option<Activator>) -> Self {
        let start = Antichain::from_elem(T::minimum());
        RowSpine {
            slots: Vec::new(),
            logical: start.clone(),
            physical: start.clone(),
            upper: start,
            debt: 0,
            retracted: false,
            newest: Antichain::from_elem(T::minimum()),
            tidying: false,
            tidy_at: Instant::now(),
            turns: Turns::default(),
            activator,
        }
    }

    fn exert(&mut self) {
        if !self.merging() && !self.tidy() {
            self.debt = 0;
            return;
        }
        let fuel = self.debt.clamp(LEAST, MOST);
        let fuel = if self.slots.len() > MANY { 4 * fuel } else { fuel };
        if let Some(turn) = self.turns.take(TURN) {
            let mut done = 0;
            while done < fuel && self.merging() {
                self.work(PIECE);
                done += PIECE;
                if turn.is_over() {
                    break;
                }
            }
            self.debt = self.debt.saturating_sub(done);
        }
        if (self.consider() || self.tidying)
            && let Some(activator) = &self.activator
        {
            activator.activate();
        }
    }

    /// Merging follows the sizes of batches alone.
    fn set_exert_logic(&mut self, _logic: ExertionLogic) {}

    fn insert(&mut self, batch: Shared<T>) {
        assert!(batch.lower() != batch.upper() && batch.lower() == &self.upper, "batches follow one another");
        self.upper.clone_from(batch.upper());
        self.debt = self.debt.saturating_add(LEVELS * batch.len());
        if !batch.is_empty() {
            self.newest.clone_from(batch.upper());
            self.retracted |= batch.chunks.iter().any(RowChunk::retracts);
            if std::mem::take(&mut self.tidying) {
                self.rest();
            }
        }
        self.slots.push(Slot::One(batch));
        if self.consider()
            && let Some(activator) = &self.activator
        {
            activator.activate();
        }
    }

    fn close(&mut self) {
        if !self.upper.is_empty() {
            self.insert(Shared::empty(self.upper.clone(), Antichain::new()));
        }
    }
}
