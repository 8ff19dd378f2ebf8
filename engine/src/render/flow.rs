//! A collection on its way: what the last stateful operator gave, and the stateless steps since.

use std::rc::Rc;

use headwater_operators::join::Joined;
use headwater_operators::keyed::NoValue;
use headwater_operators::{Keyed, Payload, Rows, UpdateStream, Updates};

use super::chain::{ErrorStream, Step, Steps, run};
use super::codec::Codec;
use super::join::{Arranging, JoinedColumns};
use super::top_k::RankedRows;
use crate::columns::Columns;

/// A collection that one consumer will take: its steps are fused with the consumer's own encoding.
pub(super) struct Flow<'scope> {
    source: Source<'scope>,
    steps: Steps,
}

/// The forms in which operators give collections.
pub(super) enum Source<'scope> {
    /// Columns.
    Columns(UpdateStream<'scope, Columns>),
    /// Rows as keys.
    Keys(UpdateStream<'scope, Keyed<NoValue>>, Rc<Codec>),
    /// Key columns, then results.
    Groups(UpdateStream<'scope, Keyed<Columns>>, Rc<Codec>),
    /// Ordered rows of groups.
    Ranked(UpdateStream<'scope, Keyed<Rows>>, RankedRows),
    /// Rows as an arrangement has them.
    Arranged(UpdateStream<'scope, Keyed<Rows>>, Arranging),
    /// Pairs of a join.
    Joined(UpdateStream<'scope, Joined>, JoinedColumns),
}

impl<'scope> Flow<'scope> {
    pub(super) fn new(source: Source<'scope>) -> Self {
        Flow { source, steps: Vec::new() }
    }

    /// The collection after one more step.
    pub(super) fn step(mut self, step: impl Step) -> Self {
        self.steps.push(Box::new(step));
        self
    }

    /// The collection as columns.
    pub(super) fn columns(self, name: &str, errors: &mut Vec<ErrorStream<'scope>>) -> UpdateStream<'scope, Columns> {
        match self {
            Flow { source: Source::Columns(stream), steps } if steps.is_empty() => stream,
            flow => flow.close(name, errors, |updates| updates),
        }
    }

    /// The collection as its consumer takes it.
    pub(super) fn close<O: Payload>(
        self,
        name: &str,
        errors: &mut Vec<ErrorStream<'scope>>,
        close: impl FnMut(Updates<Columns>) -> Updates<O> + 'static,
    ) -> UpdateStream<'scope, O> {
        let Flow { source, steps } = self;
        match source {
            Source::Columns(stream) => run(stream, name, steps, |updates| updates, close, errors),
            Source::Keys(stream, codec) => {
                let open =
                    move |keyed: Keyed<NoValue>| Columns { arrays: codec.decode(&keyed.keys), rows: keyed.len() };
                run(stream, name, steps, move |u| with(u, &open), close, errors)
            }
            Source::Groups(stream, codec) => {
                let open = move |keyed: Keyed<Columns>| {
                    let mut arrays = codec.decode(&keyed.keys);
                    arrays.extend(keyed.vals.arrays);
                    Columns { arrays, rows: keyed.hashes.len() }
                };
                run(stream, name, steps, move |u| with(u, &open), close, errors)
            }
            Source::Ranked(stream, rows) => {
                run(stream, name, steps, move |u| with(u, |keyed| rows.decode(&keyed)), close, errors)
            }
            Source::Arranged(stream, rows) => {
                run(stream, name, steps, move |u| with(u, |keyed| rows.decode(&keyed)), close, errors)
            }
            Source::Joined(stream, pairs) => {
                run(stream, name, steps, move |u| with(u, |joined| pairs.decode(&joined)), close, errors)
            }
        }
    }
}

/// The updates with other data for the same records.
fn with<C, D>(updates: Updates<C>, open: impl Fn(C) -> D) -> Updates<D> {
    Updates { data: open(updates.data), times: updates.times, diffs: updates.diffs }
}
