//! What the reductions share: one distinct time after another, in bounded steps.
//!
//! A reduction keeps private state as of its frontier. Its input is buffered until the frontier reaches its time; then the
//! updates at that time are applied, and once it is closed what it changed is emitted at that very time, as retractions and
//! new records. In a total order that is all there is to it: no history is kept.
//!
//! What a reduction keeps between two times can be exported by key and imported by another; see [`crate::saved`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::InputCapability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::exchange::{Share, by_owner, shares};
use crate::guard::Guard;
use crate::keyed::Keyed;
use crate::pending::Pending;
use crate::saved::{Export, KeyStates};
use crate::state::Gauge;
use crate::time::{SINCE_EVER, Time};
use crate::turn::{Turn, Turns};
use crate::updates::{Payload, UpdateStream, Updates};

/// Updates applied at once.
pub(crate) const STEP: usize = 1 << 14;
/// Records in an output batch, about.
const OUTPUT: usize = 1 << 16;
/// How many updates and activations pass between two looks at the size of the state.
const GAUGE: usize = 1 << 14;
/// How long an operator works before it lets the others of its worker run, where turns are not shared.
const TURN: Duration = Duration::from_millis(5);

/// Why a key has no result: data like any other, retracted when it no longer holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyError {
    /// The key.
    pub key: Vec<u8>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// More copies left than had arrived.
    Negative {
        /// The record, where an operator tells the records of a key apart; otherwise empty.
        row: Vec<u8>,
        /// How many copies there are. 0 where the copies of a key's records sum to 0 although some are negative.
        count: i64,
    },
    /// The result can't be computed: such as an integer sum outside its type.
    Evaluation(String),
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.fault {
            Fault::Negative { row, count } => {
                write!(f, "a record was retracted that was not there: key {:02x?}", self.key)?;
                if !row.is_empty() {
                    write!(f, ", record {row:02x?}")?;
                }
                write!(f, ", {count} copies")
            }
            Fault::Evaluation(message) => write!(f, "{message} (key {:02x?})", self.key),
        }
    }
}

/// Updates of errors, as a reduction gathers them.
pub type Errors = Updates<Vec<KeyError>>;

/// The state of a reduction and its logic at one time.
pub trait Reduction: 'static {
    /// The values taken.
    type Input: Payload;
    /// The batches given.
    type Output: Payload;

    /// Applies updates of one time: `rows` of `batch`. A time's updates may come in several calls. What they change for good
    /// may be buffered at once.
    fn apply(&mut self, time: Time, batch: &Updates<Keyed<Self::Input>>, rows: &[u32]);

    /// Buffers what the time changed, or some thousand records of it, and says whether that was all. Called after all of a
    /// time's updates were applied, again until it gives true.
    fn emit(&mut self, time: Time, errors: &mut Errors) -> bool;

    /// The number of buffered records.
    fn buffered(&self) -> usize;

    /// Takes the buffered records.
    fn take(&mut self) -> Updates<Self::Output>;

    /// Drops state behind the frontier; `None` when the input is closed.
    fn release(&mut self, frontier: Option<Time>);

    /// The bytes and the records of state.
    fn held(&self) -> (usize, usize);

    /// Appends to `out` about `limit` records of what is kept, from a place on, and moves the place; true when there are no
    /// more. Only between two times: after all that the last one changed was emitted.
    fn export(&self, from: &mut Export, limit: usize, out: &mut KeyStates) -> bool;

    /// Takes up what another exported, before the first update; in any number of calls, of any part of the keys. An error
    /// says what is wrong with the states.
    fn import(&mut self, states: &KeyStates) -> Result<(), String>;

    /// Whether there is something to emit at [`SINCE_EVER`] without any update.
    fn starts(&self) -> bool {
        false
    }
}

/// Runs a reduction on the worker that owns each key: gives its output and its errors.
pub fn reduce<'scope, R: Reduction>(
    stream: UpdateStream<'scope, Keyed<R::Input>>,
    name: &str,
    mut reduction: R,
) -> (UpdateStream<'scope, R::Output>, UpdateStream<'scope, Vec<KeyError>>) {
    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut arrived = arrivals(&mut builder, stream);
    let (output, results) = builder.new_output();
    let mut output = OutputBuilder::<Time, CapacityContainerBuilder<Updates<R::Output>>>::from(output);
    let (error_output, error_results) = builder.new_output();
    let mut error_output = OutputBuilder::<Time, CapacityContainerBuilder<Errors>>::from(error_output);
    let activator = scope.activator_for(builder.operator_info().address);
    let gauge = Gauge::new(name, scope.index());

    builder.build(move |capabilities| {
        let starts = reduction.starts();
        let mut held = <[_; 2]>::try_from(capabilities).ok().filter(|_| starts);
        // The time whose updates are being applied or whose changes are being emitted.
        let mut current = starts.then_some(SINCE_EVER);
        let mut pending = Pending::default();
        let mut errors = Errors::default();
        let mut rows = Vec::new();
        let mut released = Some(SINCE_EVER);
        let mut unmeasured = 0;
        let mut suspended = false;
        let mut turns = Turns::default();

        let guard = Guard::new(name);
        move |frontiers| {
            guard.step(|| {
                arrived(&mut |capability, share| {
                    if let Some(first) = pending.push(share)
                        && held.as_ref().is_none_or(|[held, _]| first < *held.time())
                    {
                        held = Some([capability.delayed(&first, 0), capability.delayed(&first, 1)]);
                    }
                });
                let frontier = frontiers[0].frontier().first().copied();
                let closed = |time: Time| frontier.is_none_or(|frontier| time < frontier);
                // All before the frontier is there, so what comes at it can be applied at once; it is shown when it is
                // closed. So a static table's rows never wait here.
                let begun = |time: Time| frontier.is_none_or(|frontier| time <= frontier);

                let mut output = output.activate();
                let mut error_output = error_output.activate();
                let mut flush = |reduction: &mut R, errors: &mut Errors, held: &Option<[_; 2]>| {
                    if let Some([held, error_held]) = held {
                        if reduction.buffered() > 0 {
                            output.session(held).give_container(&mut reduction.take());
                        }
                        if !errors.is_empty() {
                            error_output.session(error_held).give_container(&mut std::mem::take(errors));
                        }
                    }
                };

                let turn = if suspended { turns.take(TURN) } else { Some(Turn::fresh(TURN)) };
                let Some(turn) = turn else {
                    activator.activate();
                    return;
                };
                let mut work = Work { turn, done: 0 };
                suspended = false;
                'times: while let Some(time) = current.or_else(|| pending.first()).filter(|time| begun(*time)) {
                    current = Some(time);
                    loop {
                        let taken = pending
                            .take(time, turn.piece(STEP), &mut rows, |batch, rows| reduction.apply(time, batch, rows));
                        if reduction.buffered() >= OUTPUT {
                            flush(&mut reduction, &mut errors, &held);
                        }
                        if taken == 0 {
                            break;
                        }
                        unmeasured += taken;
                        if work.is_over(taken) {
                            suspended = true;
                            break 'times;
                        }
                    }
                    if !closed(time) {
                        break;
                    }
                    loop {
                        let before = reduction.buffered();
                        if reduction.emit(time, &mut errors) {
                            current = None;
                        }
                        let emitted = reduction.buffered() - before;
                        if reduction.buffered() >= OUTPUT {
                            flush(&mut reduction, &mut errors, &held);
                        }
                        if work.is_over(emitted) && (current.is_some() || pending.first().is_some_and(begun)) {
                            suspended = true;
                            break 'times;
                        }
                        if current.is_none() {
                            break;
                        }
                    }
                }
                flush(&mut reduction, &mut errors, &held);

                let next = current.or_else(|| pending.first());
                match next {
                    Some(time) => {
                        if let Some([held, error_held]) = &mut held
                            && *held.time() < time
                        {
                            held.downgrade(&time);
                            error_held.downgrade(&time);
                        }
                    }
                    None => held = None,
                }
                // Where the work is behind the frontier, also for long, state goes as far as the work is.
                let reached = next.filter(|time| closed(*time)).or(frontier);
                if released != reached {
                    reduction.release(reached);
                    released = reached;
                }
                if suspended {
                    activator.activate();
                }
                unmeasured += 1;
                if unmeasured >= GAUGE || frontier.is_none() {
                    unmeasured = 0;
                    let (bytes, records) = reduction.held();
                    gauge.set(bytes, records);
                }
            });
        }
    });
    (results, error_results)
}

/// Calls for each share that has arrived.
type Arrivals<V> = Box<dyn FnMut(&mut dyn FnMut(InputCapability<Time>, Share<Keyed<V>>))>;

/// An input that brings a worker what it owns. A worker by itself owns all.
fn arrivals<'scope, V: Payload>(
    builder: &mut OperatorBuilder<'scope, Time>,
    stream: UpdateStream<'scope, Keyed<V>>,
) -> Arrivals<V> {
    if stream.scope().peers() == 1 {
        let mut input = builder.new_input(stream, Pipeline);
        return Box::new(move |take| {
            input.for_each(|capability, batch| take(capability, Share::Whole(std::mem::take(batch))));
        });
    }
    let mut input = builder.new_input(shares(stream), by_owner());
    Box::new(move |take| input.for_each(|capability, share| take(capability, std::mem::take(share))))
}

/// What was done in a turn.
struct Work {
    turn: Turn,
    /// Records since the last look at the clock.
    done: usize,
}

impl Work {
    /// Counts work, in records, and says whether the turn is over.
    fn is_over(&mut self, records: usize) -> bool {
        self.done += records + 1;
        if self.done < self.turn.piece(STEP) / 4 {
            return false;
        }
        self.done = 0;
        self.turn.is_over()
    }
}
