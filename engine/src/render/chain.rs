//! Stateless operators, fused: one timely operator for a whole run of them.
//!
//! Each [`Step`] turns a batch into a batch. A run of steps ends where state begins (keys are encoded there) or where a
//! collection is used more than once. Fewer timely operators make single-row rounds cheaper; nothing else changes.

use headwater_operators::{Payload, UpdateStream, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::RowError;
use super::mfp::slice;
use crate::columns::Columns;

/// Rows that one batch may grow to before it is cut.
const BATCH: usize = 1 << 16;

/// A stateless operator on batches.
pub(crate) trait Step: 'static {
    /// The batch's output; rows that fail go to `errors` with their time and diff.
    fn apply(&mut self, updates: Updates<Columns>, errors: &mut Errors) -> Updates<Columns>;

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
    fn apply(&mut self, mut updates: Updates<Columns>, _errors: &mut Errors) -> Updates<Columns> {
        updates.diffs.iter_mut().for_each(|d| *d = -*d);
        updates
    }

    fn fallible(&self) -> bool {
        false
    }
}

/// One operator that opens its input as columns, takes the steps and closes the result for its consumer. Errors are added
/// to `errors` if a step may fail.
pub(crate) fn run<'scope, C: Payload, O: Payload>(
    stream: UpdateStream<'scope, C>,
    name: &str,
    mut steps: Steps,
    mut open: impl FnMut(Updates<C>) -> Updates<Columns> + 'static,
    mut close: impl FnMut(Updates<Columns>) -> Updates<O> + 'static,
    errors: &mut Vec<ErrorStream<'scope>>,
) -> UpdateStream<'scope, O> {
    let fallible = steps.iter().any(|s| s.fallible());
    let limit = (BATCH / steps.iter().map(|s| s.expansion()).product::<usize>().max(1)).max(1);
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
    builder.build(move |_capabilities| {
        let mut failed = Errors::default();
        move |_frontiers| {
            let mut output = output.activate();
            input.for_each(|capability, container| {
                let updates = open(std::mem::take(container));
                let mut step = |updates: Updates<Columns>| {
                    let mut updates = updates;
                    for step in &mut steps {
                        if updates.is_empty() {
                            return;
                        }
                        updates = step.apply(updates, &mut failed);
                    }
                    if !updates.is_empty() {
                        output.session_with_builder(&capability).give_container(&mut close(updates));
                    }
                };
                if updates.len() <= limit || limit == BATCH {
                    step(updates);
                } else {
                    for start in (0..updates.len()).step_by(limit) {
                        step(slice(&updates, start..updates.len().min(start + limit)));
                    }
                }
                if let Some(failed_output) = failed_output.as_mut().filter(|_| !failed.0.is_empty()) {
                    let mut failed_output = failed_output.activate();
                    failed_output.session_with_builder(&capability).give_container(&mut std::mem::take(&mut failed.0));
                }
            });
        }
    });
    ok
}
