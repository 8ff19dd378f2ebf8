//! Joins of arrangements, in total order of time.
//!
//! [`join`] is the inner equijoin: at each time its output accumulates to all pairs of a left and a right row with one
//! key. It keeps nothing of its own: a batch that arrives on one side is matched against what has arrived on the
//! other, in steps. It yields after some milliseconds of work, whether that produced rows or not, serves both sides in
//! turn, and holds its capability meanwhile. Both arrangements may be compacted up to the frontier of the other input.
//! The cross join is the join of arrangements by one key, the empty one.
//!
//! [`semi`] keeps the left rows whose key the right side has, [`anti`] those whose key it lacks. They follow time
//! order, so that at each time the output changes only by what differs: a row that gets its first match at `t` leaves the
//! antijoin at `t`, when it enters the join. [`left_outer`] and [`full_outer`] are the join with the antijoins: no time
//! shows a row both with a match and without one.

use std::collections::VecDeque;

use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::PartialOrder;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use crate::arrange::{Arranged, QUANTUM, RowTrace, SharedBatch};
use crate::guard::Guard;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::time::{SINCE_EVER, Time};
use crate::turn::{Turn, Turns};
use crate::updates::{Payload, UpdateStream, Updates};

mod presence;
#[cfg(test)]
pub(crate) mod tests;
mod work;

pub use presence::{anti, semi};
use work::{LOOKS, Work};

/// Pairs of matching rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The keys.
    pub keys: Rows,
    /// The left values.
    pub lefts: Rows,
    /// The right values.
    pub rights: Rows,
}

impl Payload for Joined {
    fn len(&self) -> usize {
        self.keys.len()
    }
    fn gather(&self, indices: &[u32]) -> Self {
        Joined {
            keys: self.keys.gather(indices),
            lefts: self.lefts.gather(indices),
            rights: self.rights.gather(indices),
        }
    }
    fn concat(parts: &[&Self]) -> Self {
        Joined {
            keys: Rows::concat(&parts.iter().map(|p| &p.keys).collect::<Vec<_>>()),
            lefts: Rows::concat(&parts.iter().map(|p| &p.lefts).collect::<Vec<_>>()),
            rights: Rows::concat(&parts.iter().map(|p| &p.rights).collect::<Vec<_>>()),
        }
    }
    fn encode(&self, out: &mut Vec<u8>) {
        for rows in [&self.keys, &self.lefts, &self.rights] {
            let start = out.len();
            out.extend_from_slice(&[0; 8]);
            rows.encode(out);
            let len = (out.len() - start - 8) as u64;
            out[start..start + 8].copy_from_slice(&len.to_le_bytes());
        }
    }
    fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let mut rows = || {
            let short = || "a batch of pairs ends early".to_string();
            let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
            let (own, rest) = rest.split_at_checked(u64::from_le_bytes(*head) as usize).ok_or_else(short)?;
            bytes = rest;
            Rows::decode(own)
        };
        Ok(Joined { keys: rows()?, lefts: rows()?, rights: rows()? })
    }
}

/// A side of a join: what of its input has been taken up.
struct Side {
    /// Kept as long as the other input may bring something.
    trace: Option<RowTrace>,
    /// Batches before this frontier are what the other side's fresh batches are matched against.
    acknowledged: Antichain<Time>,
    /// Batches before this frontier were there at the start.
    preloaded: Antichain<Time>,
    /// Fresh batches of this side, with what they are matched against.
    work: VecDeque<(Capability<Time>, Work)>,
}

impl Side {
    fn new(trace: RowTrace) -> Self {
        let start = Antichain::from_elem(SINCE_EVER);
        Side { trace: Some(trace), acknowledged: start.clone(), preloaded: start, work: VecDeque::new() }
    }

    /// Takes up what the trace holds.
    fn preload(&mut self) -> Vec<SharedBatch> {
        let mut batches = Vec::new();
        if let Some(trace) = &self.trace {
            trace.map_batches(|batch| {
                self.acknowledged.clone_from(batch.upper());
                batches.push(batch.clone());
            });
        }
        self.preloaded.clone_from(&self.acknowledged);
        batches
    }

    /// The batches taken up so far.
    fn taken(&mut self) -> Vec<SharedBatch> {
        let Some(trace) = &mut self.trace else { return Vec::new() };
        let batches = trace.batches_through(self.acknowledged.borrow());
        assert!(batches.is_some(), "the trace keeps batches apart from the acknowledged frontier on");
        batches.unwrap_or_default()
    }

    /// Takes up a batch that arrived, to be matched against the other side's.
    fn accept(&mut self, batch: SharedBatch, capability: &Capability<Time>, other: &mut Side, left: bool) {
        if PartialOrder::less_equal(batch.upper(), &self.preloaded) {
            return;
        }
        // A batch is matched even when `acknowledged` has passed it over an empty stretch: the trace may have found its
        // updates to cancel, which holds only for readers of later times.
        let lower = batch.lower().clone();
        let upper = batch.upper().clone();
        if !batch.is_empty() {
            let against = other.taken();
            if !against.is_empty() {
                self.work.push_back((capability.clone(), Work::new(batch, against, left)));
            }
        }
        if PartialOrder::less_equal(&self.acknowledged, &lower) {
            self.acknowledged = upper;
        }
    }

    /// Passes over times that are closed without a batch.
    fn pass_empty(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.advance_upper(&mut self.acknowledged);
        }
    }

    /// Gives up what the other input's frontier says is not needed any more.
    fn release(&mut self, other: &Antichain<Time>) {
        if other.is_empty() {
            self.trace = None;
        } else if let Some(trace) = &mut self.trace {
            trace.set_logical_compaction(other.borrow());
            trace.set_physical_compaction(self.acknowledged.borrow());
        }
    }

    /// Does a step of the oldest work; false when there is none.
    fn step(&mut self, turn: &Turn, out: &mut impl FnMut(&Capability<Time>, Updates<Joined>)) -> bool {
        let Some((capability, work)) = self.work.front_mut() else { return false };
        let mut joined = Updates::default();
        let done = work.step(turn.piece(LOOKS), &mut joined);
        if !joined.is_empty() {
            out(capability, joined);
        }
        if done {
            self.work.pop_front();
        }
        true
    }
}

/// The left outer join: the pairs, and the left rows without a match.
pub fn left_outer<'scope>(
    left: Arranged<'scope>,
    right: Arranged<'scope>,
    name: &str,
) -> (UpdateStream<'scope, Joined>, UpdateStream<'scope, Keyed<Rows>>) {
    let unmatched = anti(left.clone(), right.clone(), &format!("{name}: left without match"));
    (join(left, right, name), unmatched)
}

/// The full outer join: the pairs, the left rows without a match, and the right rows without one.
pub fn full_outer<'scope>(
    left: Arranged<'scope>,
    right: Arranged<'scope>,
    name: &str,
) -> (UpdateStream<'scope, Joined>, UpdateStream<'scope, Keyed<Rows>>, UpdateStream<'scope, Keyed<Rows>>) {
    let unmatched = anti(right.clone(), left.clone(), &format!("{name}: right without match"));
    let (pairs, lefts) = left_outer(left, right, name);
    (pairs, lefts, unmatched)
}

/// The inner join of two arrangements by key. See the [module](self).
pub fn join<'scope>(left: Arranged<'scope>, right: Arranged<'scope>, name: &str) -> UpdateStream<'scope, Joined> {
    let scope = left.stream.scope();
    let mut sides = [Side::new(left.trace), Side::new(right.trace)];
    left.stream.binary_frontier::<_, NoopBuilder<Updates<Joined>>, _, _, _, _>(
        right.stream,
        Pipeline,
        Pipeline,
        name,
        move |initial, info| {
            let activator = scope.activator_for(info.address);
            let [left, right] = &mut sides;
            let as_of = [&*left, &*right].iter().filter_map(|s| s.trace.as_ref()).map(RowTrace::as_of).max();
            let lefts: Vec<_> = left.preload().into_iter().filter(|batch| !batch.is_empty()).collect();
            for batch in right.preload() {
                if !batch.is_empty() && !lefts.is_empty() {
                    let capability = initial.delayed(&as_of.unwrap_or(SINCE_EVER));
                    right.work.push_back((capability, Work::new(batch, lefts.clone(), false)));
                }
            }
            drop(initial);
            let mut turns = Turns::default();
            let guard = Guard::new(name);
            move |(input1, frontier1), (input2, frontier2), output| {
                guard.step(|| {
                    let [left, right] = &mut sides;
                    let suspended = !left.work.is_empty() || !right.work.is_empty();
                    input1.for_each(|capability, batches| {
                        let capability = capability.retain(0);
                        batches.drain(..).for_each(|batch| left.accept(batch, &capability, right, true));
                    });
                    input2.for_each(|capability, batches| {
                        let capability = capability.retain(0);
                        batches.drain(..).for_each(|batch| right.accept(batch, &capability, left, false));
                    });
                    left.pass_empty();
                    right.pass_empty();
                    let mut give = |capability: &Capability<Time>, mut joined: Updates<Joined>| {
                        output.session_with_builder(capability).give_container(&mut joined);
                    };
                    let turn = if suspended { turns.take(QUANTUM) } else { Some(Turn::fresh(QUANTUM)) };
                    while let Some(turn) = &turn {
                        let (one, two) = (left.step(turn, &mut give), right.step(turn, &mut give));
                        if !one && !two {
                            break;
                        }
                        if turn.is_over() {
                            activator.activate();
                            break;
                        }
                    }
                    if turn.is_none() {
                        activator.activate();
                    }
                    left.release(&frontier2.frontier().to_owned());
                    right.release(&frontier1.frontier().to_owned());
                });
            }
        },
    )
}
