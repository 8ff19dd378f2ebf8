//! Arrangements: a collection's updates, indexed by key and shared by all who read them.
//!
//! [`arrange`] moves each update to the worker that owns its key and, when a time closes, makes all updates before it
//! into one sorted batch. The batch goes downstream and into a trace, where batches are merged as they age and the times
//! that no reader tells apart any more become one. The contents at `t` are the sum of all updates with times up to `t`.
//! State is freed where diffs cancel at times that all readers have left behind
//! ([`Arrangement::allow_compaction`]), and when the last reader is gone.
//!
//! No activation of the operator takes longer than some milliseconds, however many rows there are to be sorted: it keeps
//! its capability and continues later.
//!
//! An [`Arrangement`] is a handle that outlives the scope. Other dataflows of the same worker
//! [import](Arrangement::import_as_of) it at an as-of time: they see all that is accumulated at that time as updates at
//! that time, and then the later ones, and so never a state that the collection did not have.

use std::time::Duration;

use differential_dataflow::logging::DifferentialEventBuilder;
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::{Description, Trace};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use crate::chunk::{RowBatch, RowSpine};
use crate::exchange::by_hash;
use crate::guard::Guard;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::time::{SINCE_EVER, Time};
use crate::turn::{Turn, Turns};
use crate::updates::UpdateStream;

mod batch;
mod handle;
mod import;
mod reader;
mod seal;
#[cfg(test)]
mod tests;

pub use batch::{RowTrace, SharedBatch, SharedCursor};
pub use handle::{Arrangement, Content, Contents, ReadError};
pub use import::updates;
pub(crate) use reader::Reader;

/// An arrangement in a scope: the stream of its batches, and its trace.
pub type Arranged<'scope> = differential_dataflow::operators::arrange::Arranged<'scope, RowTrace>;

/// About how long an activation works before it yields to others on the worker, where turns are not shared.
pub(crate) const QUANTUM: Duration = Duration::from_millis(1);

/// Arranges keyed updates by key. See the [module](self) for what is kept and when it is freed; buckets are not used.
pub fn arrange<'scope>(stream: UpdateStream<'scope, Keyed<Rows>>, name: &str) -> Arranged<'scope> {
    let scope = stream.scope();
    let mut reader = None;
    let reader_slot = &mut reader;
    let stream = stream.unary_frontier::<CapacityContainerBuilder<Vec<SharedBatch>>, _, _, _>(
        by_hash(),
        name,
        move |_initial, info| {
            let logger = scope.worker().logger_for::<DifferentialEventBuilder>("differential/arrange").map(Into::into);
            let activator = scope.activator_for(info.address.clone());
            let spine =
                RowSpine::<Time>::new(info.clone(), logger.clone(), Some(scope.activator_for(info.address.clone())));
            let (agent, mut writer) = TraceAgent::new(spine, info, logger);
            *reader_slot = Some(RowTrace { agent, as_of: SINCE_EVER });

            let mut buffer = seal::Buffer::new(scope.peers());
            let mut sealing: Option<(Antichain<Time>, seal::Seal)> = None;
            // No later than any update that waits or is being sealed.
            let mut held: Option<Capability<Time>> = None;
            let mut upper = Antichain::from_elem(SINCE_EVER);
            let mut turns = Turns::default();

            let guard = Guard::new(name);
            move |(input, frontier), output| {
                guard.step(|| {
                    input.for_each(|capability, data| {
                        if held.as_ref().is_none_or(|held| capability.time() < held.time()) {
                            held = Some(capability.retain(0));
                        }
                        buffer.push(std::mem::take(data));
                    });
                    let turn = match &sealing {
                        Some(_) => turns.take(QUANTUM),
                        None => Some(Turn::fresh(QUANTUM)),
                    };
                    while let Some(turn) = &turn {
                        if sealing.is_none() && upper.borrow() != frontier.frontier() {
                            let next = frontier.frontier().to_owned();
                            match buffer.seal(next.as_option().copied()) {
                                Some(seal) => sealing = Some((next, seal)),
                                None => {
                                    writer.seal(next.clone());
                                    upper = next;
                                    held = later(held.take(), &buffer);
                                }
                            }
                        }
                        let Some((next, seal)) = &mut sealing else { break };
                        let Some(chunks) = seal.work(turn) else {
                            activator.activate();
                            break;
                        };
                        if chunks.is_empty() {
                            writer.seal(next.clone());
                        } else if let Some(held) = &held {
                            let since = Antichain::from_elem(SINCE_EVER);
                            let description = Description::new(upper.clone(), next.clone(), since);
                            let batch = std::rc::Rc::new(RowBatch::new(chunks, description));
                            let capability = held.delayed(&seal.min);
                            writer.insert(batch.clone(), Some(seal.min));
                            output.session(&capability).give(SharedBatch::new(batch, SINCE_EVER));
                        }
                        upper.clone_from(next);
                        sealing = None;
                        held = later(held.take(), &buffer);
                    }
                    if turn.is_none() {
                        activator.activate();
                    }
                    writer.exert();
                });
            }
        },
    );
    // The constructor above has run.
    let Some(trace) = reader else { unreachable!("an operator is constructed when it is built") };
    Arranged { stream, trace }
}

/// The capability for what still waits.
fn later(held: Option<Capability<Time>>, buffer: &seal::Buffer) -> Option<Capability<Time>> {
    Some(held?.delayed(&buffer.min()?))
}
