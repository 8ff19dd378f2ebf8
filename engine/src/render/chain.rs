//! Stateless operators, fused: one timely operator for a whole run of them.
//!
//! Each [`Step`] turns a batch into a batch. A run of steps ends where state begins (keys are encoded there) or where a
//! collection is used more than once. Fewer timely operators make single-row rounds cheaper; nothing else changes.

use headwater_operators::guard::{Guard, raise};
use headwater_operators::{Payload, UpdateStream, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::RowError;
use crate::columns::{Columns, FULL};

/// Rows that one batch may grow to before it is cut.
const BATCH: usize = 1 << 16;

/// A stateless operator on batches.
pub(crate) trait Step: 'static {
    /// Adds the batch's output to `out`, in parts where it would not fit one batch; rows that fail go to `errors` with
    /// their time and diff.
    fn apply(&mut self, updates: Updates<Columns>, errors: &mut Errors, out: &mut Vec<Updates<Columns>>);

    /// Whether some row may fail.
    fn fallible(&self) -> bool;

    /// Output rows per input row, roughly: batches are cut so that the output stays small.
    fn expansion(&self) -> usize {
        1
    }
}

/// The steps of a run, in order.
pub(crate) type Steps = Vec<Box<dyn Step>>;

/// A stream of errors as updates.
pub(crate) type ErrorStream<'scope> = UpdateStream<'scope, Vec<RowError>>;

/// Collects the errors of a batch.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Updates<Vec<RowError>>);

impl Errors {
    pub(crate) fn push(&mut self, error: RowError, time: u64, diff: i64) {
        self.0.data.push(error);
        self.0.times.push(time);
        self.0.diffs.push(diff);
    }
}

/// Negates diffs.
pub(crate) struct Negate;

impl Step for Negate {
    fn apply(&mut self, mut updates: Updates<Columns>, _errors: &mut Errors, out: &mut Vec<Updates<Columns>>) {
        updates.diffs.iter_mut().for_each(|d| *d = -*d);
        out.push(updates);
    }

    fn fallible(&self) -> bool {
        false
    }
}

/// Updates in a range, without copying columns.
pub(crate) fn slice(updates: &Updates<Columns>, range: std::ops::Range<usize>) -> Updates<Columns> {
    let arrays = updates.data.arrays.iter().map(|a| a.slice(range.start, range.len())).collect();
    Updates {
        data: Columns { arrays, rows: range.len() },
        times: updates.times[range.clone()].to_vec(),
        diffs: updates.diffs[range].to_vec(),
    }
}

/// Copies each row as often as `rows` has it, in that order, in parts that fit a batch; `rows` is sorted. `each` gets a
/// part and the range of `rows` that it is.
pub(crate) fn spread(
    updates: &Updates<Columns>,
    rows: &[u32],
    mut each: impl FnMut(Updates<Columns>, std::ops::Range<usize>),
) {
    let most = rows.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0);
    if updates.data.weight().saturating_mul(most) <= FULL {
        return each(updates.gather(rows), 0..rows.len());
    }
    let weights: Vec<usize> = (0..updates.len()).map(|row| Columns::slice(&updates.data, row, 1).weight()).collect();
    let (mut start, mut weight) = (0, 0usize);
    for (place, row) in rows.iter().enumerate() {
        let own = weights[*row as usize];
        if place > start && weight.saturating_add(own) > FULL {
            each(updates.gather(&rows[start..place]), start..place);
            (start, weight) = (place, 0);
        }
        weight = weight.saturating_add(own);
    }
    each(updates.gather(&rows[start..]), start..rows.len());
}

/// How a consumer of rows takes them up: as columns, of batches that weigh so much.
pub(crate) struct Open<F, W> {
    /// The columns of a batch.
    pub(crate) open: F,
    /// The bytes that its text has at most.
    pub(crate) weigh: W,
}

/// One operator that opens its input as columns, takes the steps and closes the result for its consumer. Errors are added
/// to `errors` if a step may fail.
pub(crate) fn run<'scope, C: Payload, O: Payload>(
    stream: UpdateStream<'scope, C>,
    name: &str,
    steps: Steps,
    source: Open<impl FnMut(Updates<C>) -> Updates<Columns> + 'static, impl Fn(&C) -> usize + 'static>,
    close: impl FnMut(Updates<Columns>) -> Updates<O> + 'static,
    errors: &mut Vec<ErrorStream<'scope>>,
) -> UpdateStream<'scope, O> {
    let fallible = steps.iter().any(|s| s.fallible());
    let limit = (BATCH / steps.iter().map(|s| s.expansion()).product::<usize>().max(1)).max(1);
    let guard = Guard::new(name);
    let mut builder = OperatorBuilder::new(name.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (output, ok) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Updates<O>>>::from(output);
    let mut failed_output = fallible.then(|| {
        let (output, failed) = builder.new_output();
        errors.push(failed);
        OutputBuilder::<_, CapacityContainerBuilder<Updates<Vec<RowError>>>>::from(output)
    });
    let Open { mut open, weigh } = source;
    let mut chain = Chain { steps, close, failed: Errors::default(), current: Vec::new(), next: Vec::new() };
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut output = output.activate();
            input.for_each(|capability, container| {
                guard.message(capability, |capability| {
                    let mut closed = |updates| {
                        output.session_with_builder(capability).give_container(&mut { updates });
                    };
                    let mut waiting = vec![std::mem::take(container)];
                    while let Some(mut updates) = waiting.pop() {
                        // Columns of text have offsets of 32 bits.
                        if updates.len() > 1 && weigh(&updates.data) > FULL {
                            let behind = updates.split_off(updates.len() / 2);
                            waiting.extend([behind, updates]);
                            continue;
                        }
                        let updates = open(updates);
                        if updates.len() <= limit || limit == BATCH {
                            chain.run(updates, &mut closed);
                        } else {
                            for start in (0..updates.len()).step_by(limit) {
                                let end = updates.len().min(start + limit);
                                chain.run(slice(&updates, start..end), &mut closed);
                            }
                        }
                    }
                    if chain.failed.0.is_empty() {
                        return;
                    }
                    let mut failed = std::mem::take(&mut chain.failed.0);
                    match &mut failed_output {
                        Some(output) => {
                            output.activate().session_with_builder(capability).give_container(&mut failed);
                        }
                        // The plan knows of nothing here that fails: to go on would lose the rows.
                        None => raise(format!("{}", failed.data[0])),
                    }
                });
            });
        }
    });
    ok
}

/// The steps of an operator and its consumer's encoding.
struct Chain<F> {
    steps: Steps,
    close: F,
    failed: Errors,
    /// The batches before and after a step, here for their buffers.
    current: Vec<Updates<Columns>>,
    next: Vec<Updates<Columns>>,
}

impl<O: Payload, F: FnMut(Updates<Columns>) -> Updates<O>> Chain<F> {
    fn run(&mut self, updates: Updates<Columns>, closed: &mut impl FnMut(Updates<O>)) {
        self.current.push(updates);
        for step in &mut self.steps {
            for updates in self.current.drain(..).filter(|updates| !updates.is_empty()) {
                step.apply(updates, &mut self.failed, &mut self.next);
            }
            std::mem::swap(&mut self.current, &mut self.next);
        }
        for updates in self.current.drain(..).filter(|updates| !updates.is_empty()) {
            if updates.data.weight() <= FULL {
                closed((self.close)(updates));
                continue;
            }
            for range in updates.data.fitting() {
                closed((self.close)(slice(&updates, range)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use headwater_operators::guard::Supervisor;
    use timely::dataflow::operators::{Input, Probe};

    use super::*;

    struct Breaks;

    impl Step for Breaks {
        fn apply(&mut self, _: Updates<Columns>, _: &mut Errors, _: &mut Vec<Updates<Columns>>) {
            raise("a fault of ours")
        }
        fn fallible(&self) -> bool {
            false
        }
    }

    /// A panic in a step is told to whoever supervises the dataflow, and nothing is shown as closed that was not worked off.
    #[test]
    fn a_step_that_panics_fails_its_dataflow_alone() {
        timely::execute_directly(|worker| {
            let faults = Rc::new(RefCell::new(Vec::new()));
            let mut built = Vec::new();
            for steps in [vec![Box::new(Breaks) as Box<dyn Step>], vec![Box::new(Negate)]] {
                let told = faults.clone();
                let supervisor = Supervisor::new(move |fault| told.borrow_mut().push((fault.operator, fault.message)));
                built.push(supervisor.supervise(|| {
                    worker.dataflow(|scope| {
                        let (input, stream) = scope.new_input::<Updates<Columns>>();
                        let source = Open { open: |updates| updates, weigh: |_: &Columns| 0 };
                        let closed = run(stream, "steps", steps, source, |updates| updates, &mut Vec::new());
                        (input, closed.probe().0)
                    })
                }));
            }
            for (input, _) in &mut built {
                let data = Columns { arrays: vec![Arc::new(Int64Array::from(vec![1]))], rows: 1 };
                input.send_batch(&mut Updates { data, times: vec![0], diffs: vec![1] });
                input.advance_to(1);
            }
            (0..10).for_each(|_| _ = worker.step());
            assert_eq!(*faults.borrow(), [("steps".to_owned(), "a fault of ours".to_owned())]);
            assert_eq!(built.iter().map(|(_, probe)| probe.less_than(&1)).collect::<Vec<_>>(), [true, false]);
            let all = worker.installed_dataflows();
            all.into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
        });
    }
}
