//! Semijoin and antijoin: left rows by whether the right side has their key.
//!
//! When a stretch of time `[done, f)` is closed on both sides, each key that changed in it is looked at once: the times at
//! which the right side's count of it turns positive or back, and the left rows. A left row enters at its own time
//! if the key is wanted then, and enters or leaves at each later turn.

use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use crate::arrange::{Arranged, QUANTUM, Reader, RowTrace, SharedBatch};
use crate::guard::Guard;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::time::{SINCE_EVER, Time};
use crate::turn::{Turn, Turns};
use crate::updates::{UpdateStream, Updates};

/// Updates in a batch of output, about, where turns are not shared.
const ROWS: usize = 8 * 1024;

/// The left rows whose key the right side has (a positive number of times).
pub fn semi<'scope>(left: Arranged<'scope>, right: Arranged<'scope>, name: &str) -> UpdateStream<'scope, Keyed<Rows>> {
    by_presence(left, right, name, true)
}

/// The left rows whose key the right side lacks.
pub fn anti<'scope>(left: Arranged<'scope>, right: Arranged<'scope>, name: &str) -> UpdateStream<'scope, Keyed<Rows>> {
    by_presence(left, right, name, false)
}

/// A batch that arrived, as far as it is not processed.
struct Fresh {
    batch: SharedBatch,
    /// The rows left, by time, where the batch reaches beyond what was closed: time, chunk and row.
    later: Option<Vec<(Time, u32, u32)>>,
}

/// Rows of a fresh batch in order: all of them, or those at the listed positions.
struct Touched {
    reader: Reader,
    only: Option<std::iter::Peekable<std::vec::IntoIter<(u32, u32)>>>,
}

impl Touched {
    fn new(batch: &SharedBatch, only: Option<Vec<(u32, u32)>>) -> Self {
        let mut touched =
            Touched { reader: Reader::new(batch.clone()), only: only.map(|only| only.into_iter().peekable()) };
        touched.settle();
        touched
    }

    fn settle(&mut self) {
        if let Some(only) = &mut self.only {
            self.reader.place(only.next().map(|(chunk, row)| (chunk as usize, row as usize)));
        }
    }

    fn step(&mut self) {
        if self.only.is_some() { self.settle() } else { self.reader.step() }
    }
}

/// One input: its trace, and the batches that are not processed.
struct Side {
    trace: Option<RowTrace>,
    fresh: Vec<Fresh>,
}

impl Side {
    fn new(trace: RowTrace) -> Self {
        Side { trace: Some(trace), fresh: Vec::new() }
    }

    /// Readers of all that the trace holds.
    fn history(&self) -> Vec<Reader> {
        let mut readers = Vec::new();
        if let Some(trace) = &self.trace {
            trace.map_batches(|batch| {
                if !batch.is_empty() {
                    readers.push(Reader::new(batch.clone()));
                }
            });
        }
        readers
    }

    /// Takes the fresh rows with times before `to`.
    fn take(&mut self, to: Option<Time>) -> Vec<Touched> {
        let mut taken = Vec::new();
        self.fresh.retain_mut(|fresh| {
            let Some(to) = to else {
                taken.push(Touched::new(&fresh.batch, fresh.later.take().map(positions)));
                return false;
            };
            if fresh.later.is_none() {
                let later = rows_from(&fresh.batch, to);
                if later.is_empty() {
                    taken.push(Touched::new(&fresh.batch, None));
                    return false;
                }
                let mut all = rows_from(&fresh.batch, SINCE_EVER);
                all.sort_unstable();
                fresh.later = Some(all);
            }
            let Some(later) = &mut fresh.later else { return false };
            let rest = later.split_off(later.partition_point(|&(time, ..)| time < to));
            let now = std::mem::replace(later, rest);
            if !now.is_empty() {
                taken.push(Touched::new(&fresh.batch, Some(positions(now))));
            }
            !later.is_empty()
        });
        taken
    }

    /// The least time that is not processed, among the batches that were cut.
    fn least_later(&self) -> Option<Time> {
        self.fresh.iter().filter_map(|fresh| fresh.later.as_ref()?.first().map(|&(time, ..)| time)).min()
    }

    /// Lets the trace forget what lies before `done`.
    fn compact(&mut self, done: Time) {
        if let Some(trace) = &mut self.trace {
            // What was processed must stay apart from what comes at `done`.
            let since = Antichain::from_elem(done.saturating_sub(1));
            let mut upper = Antichain::new();
            trace.read_upper(&mut upper);
            trace.set_logical_compaction(since.borrow());
            trace.set_physical_compaction(upper.borrow());
        }
    }
}

/// The rows of a batch with times from `from` on. Chunks of one time are skipped or taken at a glance.
fn rows_from(batch: &SharedBatch, from: Time) -> Vec<(Time, u32, u32)> {
    let mut rows = Vec::new();
    for (number, chunk) in batch.chunks().iter().enumerate() {
        if chunk.one_time().is_some_and(|&time| time.max(batch.as_of()) < from) {
            continue;
        }
        for row in 0..chunk.len() {
            let time = (*chunk.time(row)).max(batch.as_of());
            if time >= from {
                rows.push((time, number as u32, row as u32));
            }
        }
    }
    rows
}

/// The positions alone, in order.
fn positions(rows: Vec<(Time, u32, u32)>) -> Vec<(u32, u32)> {
    let mut positions: Vec<_> = rows.into_iter().map(|(_, chunk, row)| (chunk, row)).collect();
    positions.sort_unstable();
    positions
}

/// The stretch of time being processed, key by key.
struct Stretch {
    capability: Capability<Time>,
    from: Time,
    to: Option<Time>,
    lefts: Vec<Touched>,
    rights: Vec<Touched>,
    left_history: Vec<Reader>,
    right_history: Vec<Reader>,
    key: Vec<u8>,
    /// Left values of the key: one buffer, and for each its span, time and diff.
    vals: Rows,
    rows: Vec<(u32, Time, i64)>,
    counts: Vec<(Time, i64)>,
    turns: Vec<(Time, bool)>,
    out: Vec<(u32, Time, i64)>,
}

impl Stretch {
    /// Processes the next key into `output`; false when there is none.
    fn step(&mut self, wanted: bool, output: &mut Updates<Keyed<Rows>>) -> bool {
        let least = self
            .lefts
            .iter()
            .chain(&self.rights)
            .filter_map(|touched| touched.reader.at().map(|(chunk, row)| (chunk.hashes()[row], chunk.key(row))))
            .min();
        let Some((hash, key)) = least else { return false };
        self.key.clear();
        self.key.extend_from_slice(key);
        let key = &self.key[..];
        self.vals.clear();
        self.rows.clear();
        self.counts.clear();
        self.turns.clear();
        self.out.clear();

        for right in &mut self.rights {
            while right.reader.is_at(hash, key) {
                if let Some((chunk, row)) = right.reader.at() {
                    self.counts.push((right.reader.time(), chunk.diff(row)));
                }
                right.step();
            }
        }
        let mut count = 0;
        for reader in &mut self.right_history {
            reader.seek(hash);
            reader.seek_key(hash, key);
            while reader.is_at(hash, key) {
                if let Some((chunk, row)) = reader.at()
                    && reader.time() < self.from
                {
                    count += chunk.diff(row);
                }
                reader.step();
            }
        }
        self.counts.sort_unstable();
        let before = (count > 0) == wanted;
        let mut is = before;
        let mut next = 0;
        while next < self.counts.len() {
            let time = self.counts[next].0;
            while next < self.counts.len() && self.counts[next].0 == time {
                count += self.counts[next].1;
                next += 1;
            }
            if ((count > 0) == wanted) != is {
                is = !is;
                self.turns.push((time, is));
            }
        }

        for left in &mut self.lefts {
            while left.reader.is_at(hash, key) {
                if let Some((chunk, row)) = left.reader.at() {
                    let val = self.vals.len() as u32;
                    self.vals.push(chunk.val(row));
                    self.rows.push((val, left.reader.time(), chunk.diff(row)));
                }
                left.step();
            }
        }
        let fresh = self.rows.len();
        if !self.turns.is_empty() {
            for reader in &mut self.left_history {
                reader.seek(hash);
                reader.seek_key(hash, key);
                while reader.is_at(hash, key) {
                    if let Some((chunk, row)) = reader.at()
                        && reader.time() < self.from
                    {
                        let val = self.vals.len() as u32;
                        self.vals.push(chunk.val(row));
                        self.rows.push((val, reader.time(), chunk.diff(row)));
                    }
                    reader.step();
                }
            }
        }
        for (index, &(val, time, diff)) in self.rows.iter().enumerate() {
            let later = self.turns.partition_point(|turn| turn.0 <= time);
            let is = if later == 0 { before } else { self.turns[later - 1].1 };
            if index < fresh && is {
                self.out.push((val, time, diff));
            }
            self.out.extend(self.turns[later..].iter().map(|&(time, is)| (val, time, if is { diff } else { -diff })));
        }
        let vals = &self.vals;
        if self.out.len() > 1 {
            self.out.sort_unstable_by(|a, b| (vals.get(a.0 as usize), a.1).cmp(&(vals.get(b.0 as usize), b.1)));
        }
        let mut next = 0;
        while next < self.out.len() {
            let (val, time, mut diff) = self.out[next];
            let bytes = vals.get(val as usize);
            next += 1;
            while next < self.out.len() && self.out[next].1 == time && vals.get(self.out[next].0 as usize) == bytes {
                diff += self.out[next].2;
                next += 1;
            }
            if diff != 0 {
                output.data.hashes.push(hash);
                output.data.keys.push(key);
                output.data.vals.push(bytes);
                output.times.push(time);
                output.diffs.push(diff);
            }
        }
        true
    }
}

fn by_presence<'scope>(
    left: Arranged<'scope>,
    right: Arranged<'scope>,
    name: &str,
    wanted: bool,
) -> UpdateStream<'scope, Keyed<Rows>> {
    let scope = left.stream.scope();
    let mut lefts = Side::new(left.trace);
    let mut rights = Side::new(right.trace);
    left.stream.binary_frontier::<_, NoopBuilder<Updates<Keyed<Rows>>>, _, _, _, _>(
        right.stream,
        Pipeline,
        Pipeline,
        name,
        move |_initial, info| {
            let activator = scope.activator_for(info.address);
            // All times before it are processed.
            let mut done = SINCE_EVER;
            let mut closed = false;
            // No later than any time that is not processed.
            let mut held: Option<Capability<Time>> = None;
            let mut stretch: Option<Stretch> = None;
            let mut turns = Turns::default();
            let guard = Guard::new(name);
            move |(input1, frontier1), (input2, frontier2), output| {
                guard.step(|| {
                    let mut keep = |capability: Capability<Time>| {
                        if held.as_ref().is_none_or(|held| capability.time() < held.time()) {
                            held = Some(capability);
                        }
                    };
                    input1.for_each(|capability, batches| {
                        keep(capability.retain(0));
                        lefts.fresh.extend(batches.drain(..).map(|batch| Fresh { batch, later: None }));
                    });
                    input2.for_each(|capability, batches| {
                        keep(capability.retain(0));
                        rights.fresh.extend(batches.drain(..).map(|batch| Fresh { batch, later: None }));
                    });
                    let end = |frontier: &Antichain<Time>| frontier.as_option().copied();
                    let (end1, end2) = (end(&frontier1.frontier().to_owned()), end(&frontier2.frontier().to_owned()));
                    let turn = match &stretch {
                        Some(_) => turns.take(QUANTUM),
                        None => Some(Turn::fresh(QUANTUM)),
                    };
                    if turn.is_none() {
                        activator.activate();
                    }
                    while let Some(turn) = &turn {
                        let to = match (end1, end2) {
                            (Some(one), Some(two)) => Some(one.min(two)),
                            (one, two) => one.or(two),
                        };
                        if stretch.is_none() && !closed && to.is_none_or(|to| to > done) {
                            let capability = held.take();
                            let (left, right) = (lefts.take(to), rights.take(to));
                            held = match (
                                &capability,
                                lefts.least_later().into_iter().chain(rights.least_later()).min(),
                            ) {
                                (Some(capability), Some(later)) => Some(capability.delayed(&later)),
                                _ => None,
                            };
                            let waits = lefts.fresh.len() + rights.fresh.len();
                            debug_assert!(waits == 0 || held.is_some(), "what waits holds a capability");
                            if let Some(capability) = capability
                                && left.len() + right.len() > 0
                            {
                                let left_history = if right.is_empty() { Vec::new() } else { lefts.history() };
                                stretch = Some(Stretch {
                                    capability,
                                    from: done,
                                    to,
                                    lefts: left,
                                    rights: right,
                                    left_history,
                                    right_history: rights.history(),
                                    key: Vec::new(),
                                    vals: Rows::default(),
                                    rows: Vec::new(),
                                    counts: Vec::new(),
                                    turns: Vec::new(),
                                    out: Vec::new(),
                                });
                            } else {
                                closed = to.is_none();
                                done = to.unwrap_or(done);
                            }
                        }
                        let Some(work) = &mut stretch else { break };
                        let mut updates = Updates::default();
                        let mut keys = 0;
                        let mut more = true;
                        let piece = turn.piece(ROWS);
                        while more && updates.len() < piece && keys < piece {
                            more = work.step(wanted, &mut updates);
                            keys += 1;
                        }
                        if !updates.is_empty() {
                            output.session_with_builder(&work.capability).give_container(&mut updates);
                        }
                        if !more {
                            closed = work.to.is_none();
                            done = work.to.unwrap_or(done);
                            stretch = None;
                        }
                        if turn.is_over() {
                            activator.activate();
                            break;
                        }
                    }
                    if stretch.is_none() {
                        lefts.compact(done);
                        rights.compact(done);
                        if end2.is_none() && rights.fresh.is_empty() {
                            // No key will turn any more.
                            lefts.trace = None;
                        }
                        if closed {
                            rights.trace = None;
                        }
                    }
                });
            }
        },
    )
}
