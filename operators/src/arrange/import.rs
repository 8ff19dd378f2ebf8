//! Bringing an arrangement into another dataflow, and turning one back into updates.

use std::collections::VecDeque;

use differential_dataflow::operators::arrange::TraceReplayInstruction;
use differential_dataflow::trace::BatchReader;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::{Operator, source};
use timely::dataflow::operators::{Capability, CapabilitySet};

use super::{Arranged, QUANTUM, RowTrace, SharedBatch};
use crate::guard::Guard;
use crate::keyed::Keyed;
use crate::rows::Rows;
use crate::time::Time;
use crate::turn::Turns;
use crate::updates::{UpdateStream, Updates};

/// Imports the arrangement that `trace` reads, from `as_of` on.
pub(super) fn import<'scope>(scope: Scope<'scope, Time>, mut trace: RowTrace, name: &str) -> Arranged<'scope> {
    let as_of = trace.as_of;
    let agent = &mut trace.agent;
    let stream = source::<_, CapacityContainerBuilder<Vec<SharedBatch>>, _, _>(scope, name, move |capability, info| {
        let queue = agent.new_listener(scope.activator_for(info.address));
        let mut capabilities = CapabilitySet::from_elem(capability);
        let guard = Guard::new(name);
        move |output| {
            guard.step(|| {
                for instruction in queue.1.borrow_mut().drain(..) {
                    match instruction {
                        TraceReplayInstruction::Frontier(frontier) => {
                            capabilities.downgrade(frontier.iter().map(|&time| time.max(as_of)));
                        }
                        TraceReplayInstruction::Batch(batch, Some(hint)) if !batch.is_empty() => {
                            let capability = capabilities.delayed(&hint.max(as_of));
                            output.session(&capability).give(SharedBatch::new(batch, as_of));
                        }
                        TraceReplayInstruction::Batch(..) => {}
                    }
                }
                if !capabilities.is_empty() && capabilities.first().is_some_and(|c| *c.time() < as_of) {
                    capabilities.downgrade([as_of]);
                }
            });
        }
    });
    Arranged { stream, trace }
}

/// The updates of an arrangement, in bounded steps.
pub fn updates<'scope>(arranged: &Arranged<'scope>, name: &str) -> UpdateStream<'scope, Keyed<Rows>> {
    let stream = arranged.stream.clone();
    let scope = stream.scope();
    stream.unary::<NoopBuilder<Updates<Keyed<Rows>>>, _, _, _>(Pipeline, name, move |_, info| {
        let activator = scope.activator_for(info.address);
        let mut queue: VecDeque<(Capability<Time>, SharedBatch, usize)> = VecDeque::new();
        let mut turns = Turns::default();
        let guard = Guard::new(name);
        move |input, output| {
            guard.step(|| {
                input.for_each(|capability, batches| {
                    let capability = capability.retain(0);
                    queue.extend(batches.drain(..).map(|batch| (capability.clone(), batch, 0)));
                });
                let turn = turns.take(QUANTUM);
                while let Some(turn) = &turn
                    && let Some((capability, batch, next)) = queue.front_mut()
                {
                    if let Some(chunk) = batch.chunks().get(*next) {
                        let mut all = Updates::<Keyed<Rows>>::default();
                        all.data.hashes = chunk.hashes().to_vec();
                        for index in 0..chunk.len() {
                            all.data.keys.push(chunk.key(index));
                            all.data.vals.push(chunk.val(index));
                            all.times.push((*chunk.time(index)).max(batch.as_of()));
                            all.diffs.push(chunk.diff(index));
                        }
                        output.session_with_builder(&*capability).give_container(&mut all);
                        *next += 1;
                    }
                    if *next >= batch.chunks().len() {
                        queue.pop_front();
                    }
                    if turn.is_over() {
                        break;
                    }
                }
                if !queue.is_empty() {
                    activator.activate();
                }
            });
        }
    })
}
