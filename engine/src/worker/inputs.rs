//! A query's dataflow on one worker: what it takes its relations from, and its end.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use headwater_operators::arrange::Arrangement;
use headwater_operators::guard::Guard;
use headwater_operators::run_end::RunEnd;
use headwater_operators::time::{SINCE_EVER, Time};
use headwater_operators::{UpdateStream, Updates};
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::progress::frontier::MutableAntichain;

use super::feed::{Handed, Input};
use super::installed::{Installed, Shared, SharedArrangements};
use super::message::{FeedId, QuerySpec};
use super::outbox::Changes;
use super::published::Published;
use super::tap::Tap;
use crate::columns::Columns;
use crate::error::Error;
use crate::plan::{Plan, Relation};
use crate::render::{ArrangementId, Inputs, RowError};

/// Rows at open times that are sent to a query's reader at once.
const ROWS_PER_MESSAGE: usize = 1 << 14;

/// What a query's dataflow was connected to.
#[derive(Default)]
pub(super) struct Wiring {
    /// Its feeds, each with what takes it.
    pub feeds: Vec<(FeedId, Input)>,
    handed: Handed,
    /// Queries whose arrangements and rows it reads.
    pub uses: HashSet<u64>,
    /// The arrangements that it offers.
    pub offers: Vec<ArrangementId>,
}

/// A query's relations on this worker.
pub(super) struct QueryInputs<'a, 'scope> {
    pub scope: Scope<'scope, Time>,
    pub spec: &'a QuerySpec,
    pub published: &'a Arc<Published>,
    pub queries: &'a mut HashMap<u64, Installed>,
    pub shared: &'a mut SharedArrangements,
    pub wiring: &'a mut Wiring,
}

impl<'scope> QueryInputs<'_, 'scope> {
    /// A relation of which nothing comes: what it was is gone.
    fn gone(&self, relation: &Relation, error: Error) -> UpdateStream<'scope, Columns> {
        self.published.node.fail(error);
        Tap::new(self.scope, relation.name(), self.spec.as_of, Vec::new(), None).1
    }
}

impl<'scope> Inputs<'scope> for QueryInputs<'_, 'scope> {
    fn relation(&mut self, relation: &Relation) -> UpdateStream<'scope, Columns> {
        let scope = self.scope;
        if let Some((_, query)) = self.spec.views.iter().find(|(view, _)| view == relation) {
            let Some(store) = self.queries.get_mut(query).and_then(|q| q.stored(relation)) else {
                return self.gone(relation, Error::user(format!("the view '{}' is gone", relation.name())));
            };
            if !self.spec.once {
                self.wiring.uses.insert(*query);
                return store.import(scope, relation.name(), self.spec.as_of);
            }
            let as_of = self.spec.shown_at;
            let (tap, stream) = Tap::new(scope, relation.name(), as_of, vec![Some(as_of)], None);
            // It is there whole at that time.
            self.published.node.run_end().close(as_of.saturating_add(1));
            let contents = self.spec.views_at.map_or(Ok(Vec::new()), |at| store.contents(at));
            match contents {
                Ok(parts) => parts.into_iter().for_each(|(data, diffs)| {
                    tap.data(Updates { times: vec![as_of; data.rows], data, diffs });
                }),
                Err(error) => return self.gone(relation, error),
            }
            tap.frontier(0, None);
            return stream;
        }
        let table = self.spec.tables.iter().find(|t| t.relation == *relation);
        let feeds = table.map_or(&[][..], |t| &t.feeds);
        let frontiers = feeds.iter().map(|(_, frontier)| *frontier).collect();
        let end = table.is_some_and(|table| table.has_times).then(|| self.run_end());
        let (tap, stream) = Tap::new(scope, &format!("{relation:?}"), self.spec.as_of, frontiers, end);
        for (slot, (feed, frontier)) in feeds.iter().enumerate() {
            let handed = self.wiring.handed.clone();
            let number = handed.borrow().len();
            handed.borrow_mut().push(*frontier);
            let input = Input { published: self.published.clone(), tap: tap.clone(), slot, handed, number };
            self.wiring.feeds.push((*feed, input));
        }
        stream
    }

    fn places(&self, relation: &Relation, columns: &[usize]) -> Vec<usize> {
        let there = self.spec.tables.iter().find(|t| t.relation == *relation).and_then(|t| t.columns.as_deref());
        let place = |column: &usize| there.and_then(|there| there.binary_search(column).ok()).unwrap_or(*column);
        columns.iter().map(place).collect()
    }

    fn errors(&mut self, relation: &Relation) -> Option<UpdateStream<'scope, Vec<RowError>>> {
        let (_, query) = self.spec.views.iter().find(|(view, _)| view == relation)?;
        if self.spec.once || !matches!(relation, Relation::View { .. }) {
            return None;
        }
        let faults = self.queries.get_mut(query)?.faults.as_ref()?;
        self.wiring.uses.insert(*query);
        let rows = faults.import(self.scope, "Faults", self.spec.as_of);
        Some(rows.unary::<CapacityContainerBuilder<Updates<Vec<RowError>>>, _, _, _>(Pipeline, "Faults", |_, _| {
            let guard = Guard::new("Faults");
            move |input, output| {
                input.for_each(|capability, batch| {
                    guard.message(capability, |capability| {
                        let Updates { data, times, diffs } = std::mem::take(batch);
                        let texts: Vec<_> = data.arrays.iter().map(|array| array.as_string::<i32>()).collect();
                        let text = |column: usize, row: usize| texts[column].value(row).to_owned();
                        let error = |row| RowError {
                            row: text(0, row),
                            expression: text(1, row),
                            message: text(2, row),
                            // The view is in error whatever its readers do with their own.
                            negative: true,
                        };
                        let data: Vec<_> = (0..data.rows).map(error).collect();
                        output.session_with_builder(capability).give_container(&mut Updates { data, times, diffs });
                    });
                });
            }
        }))
    }

    fn as_of(&self) -> Time {
        self.spec.as_of.max(self.spec.shown_at)
    }

    fn run_end(&self) -> RunEnd {
        self.published.node.run_end().clone()
    }

    fn arrangement(&mut self, collection: u64, key: &[usize]) -> Option<Arrangement> {
        let id = (collection, key.to_vec());
        if !self.spec.imports.contains(&id) {
            return None;
        }
        let Some(shared) = self.shared.get(&id) else {
            self.published.node.fail(Error::user("a query that it shares work with has failed; run it again"));
            return None;
        };
        self.wiring.uses.insert(shared.owner);
        Some(shared.arrangement.clone())
    }

    fn offer(&mut self, collection: u64, key: &[usize], arrangement: Arrangement) {
        if self.spec.offers {
            let id = (collection, key.to_vec());
            self.wiring.offers.push(id.clone());
            let old = self.shared.insert(id.clone(), Shared { owner: self.spec.id, arrangement });
            // One that was dropped and is still read offers it no longer.
            if let Some(old) = old.and_then(|old| self.queries.get_mut(&old.owner)) {
                old.offers.retain(|offer| *offer != id);
            }
        }
    }
}

/// The errors that are wanted, as a relation has them.
pub(super) fn error_rows<'scope>(
    errors: UpdateStream<'scope, Vec<RowError>>,
    wanted: impl Fn(&RowError) -> bool + 'static,
) -> UpdateStream<'scope, Columns> {
    errors.unary::<CapacityContainerBuilder<Updates<Columns>>, _, _, _>(Pipeline, "Errors", |_, _| {
        let guard = Guard::new("Errors");
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    let Updates { data, times, diffs } = std::mem::take(batch);
                    let kept: Vec<usize> = (0..data.len()).filter(|&i| wanted(&data[i])).collect();
                    let column = |text: fn(&RowError) -> &str| -> ArrayRef {
                        Arc::new(StringArray::from_iter_values(kept.iter().map(|&i| text(&data[i]))))
                    };
                    let arrays = vec![column(|e| &e.row), column(|e| &e.expression), column(|e| &e.message)];
                    let mut updates = Updates {
                        data: Columns { arrays, rows: kept.len() },
                        times: kept.iter().map(|&i| times[i]).collect(),
                        diffs: kept.iter().map(|&i| diffs[i]).collect(),
                    };
                    output.session_with_builder(capability).give_container(&mut updates);
                });
            });
        }
    })
}

/// Ends a dataflow: sends what `take` keeps of each batch, and the errors, to the query's reader, publishes the frontier
/// and notes that it has moved. Rows that are left out are counted.
pub(super) fn end<'scope, C: timely::Container + Clone>(
    ok: timely::dataflow::Stream<'scope, Time, C>,
    errors: UpdateStream<'scope, Vec<RowError>>,
    index: usize,
    plan: &Plan,
    published: &Arc<Published>,
    moved: &Rc<RefCell<Vec<u64>>>,
    mut take: impl FnMut(&mut C) -> Option<Updates<Columns>> + 'static,
) {
    let (published, moved, mode) = (published.clone(), moved.clone(), plan.on_error);
    // A reader that has enough ends the query: it gets what there is.
    let at_once = if plan.enough().is_some() { 1 } else { ROWS_PER_MESSAGE };
    let _: timely::dataflow::Stream<'scope, Time, Vec<()>> =
        ok.binary_frontier(errors, Pipeline, Pipeline, "Output", move |_, _| {
            let guard = Guard::new("Output");
            let mut sent = Some(SINCE_EVER);
            // What has not been sent: nothing of it is shown before its time is closed.
            let (mut updates, mut rows) = (Vec::new(), 0);
            move |(ok, ok_frontier),
                  (errors, errors_frontier),
                  _output: &mut OutputBuilderSession<'_, Time, NoopBuilder<Vec<()>>>| {
                guard.step(|| {
                    ok.for_each(|_, batch| {
                        if let Some(taken) = take(batch) {
                            rows += taken.len();
                            updates.push(taken);
                        }
                    });
                    let mut error_changes = Vec::new();
                    let mut left_out = 0;
                    errors.for_each(|_, batch| {
                        let batch = std::mem::take(batch);
                        for ((error, time), diff) in batch.data.into_iter().zip(batch.times).zip(batch.diffs) {
                            match error.is_left_out(mode) {
                                true => left_out += diff,
                                false => error_changes.push((error, time, diff)),
                            }
                        }
                    });
                    if left_out != 0 {
                        published.change_left_out(left_out);
                    }
                    let least = |frontier: &MutableAntichain<Time>| frontier.frontier().first().copied();
                    let frontier = match (least(ok_frontier), least(errors_frontier)) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                    if rows < at_once && error_changes.is_empty() && frontier == sent {
                        return;
                    }
                    if !error_changes.is_empty() {
                        published.change_errors(&error_changes);
                    }
                    // Who reads the end finds the query at its end.
                    if frontier != sent {
                        sent = frontier;
                        published.publish(index, frontier);
                        moved.borrow_mut().push(published.id());
                    }
                    if let Some(output) = &published.output {
                        let (updates, errors) = (std::mem::take(&mut updates), error_changes);
                        rows = 0;
                        if let Err(error) = output.send(Changes { worker: index, updates, errors, frontier }) {
                            published.node.fail(error.within(&published.node.title()));
                        }
                    }
                });
            }
        });
}
