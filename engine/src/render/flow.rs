//! A collection on its way: what the last stateful operator gave, and the stateless steps since.

use std::rc::Rc;

use headwater_operators::join::Joined;
use headwater_operators::keyed::NoValue;
use headwater_operators::{Keyed, Payload, Rows, UpdateStream, Updates};

use super::chain::{ErrorStream, Open, Step, Steps, run};
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
    /// Rows as bytes.
    Rows(UpdateStream<'scope, Rows>, Rc<Codec>),
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
            Source::Columns(stream) => {
                let source = Open { open: |updates| updates, weigh: |_: &Columns| 0 };
                run(stream, name, steps, source, close, errors)
            }
            Source::Rows(stream, codec) => {
                let columns = move |rows: Rows| Columns { arrays: codec.decode(&rows), rows: rows.len() };
                let weigh = |rows: &Rows| rows.bytes().len();
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh }, close, errors)
            }
            Source::Keys(stream, codec) => {
                let columns =
                    move |keyed: Keyed<NoValue>| Columns { arrays: codec.decode(&keyed.keys), rows: keyed.len() };
                let weigh = |keyed: &Keyed<NoValue>| keyed.keys.bytes().len();
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh }, close, errors)
            }
            Source::Groups(stream, codec) => {
                let columns = move |keyed: Keyed<Columns>| {
                    let mut arrays = codec.decode(&keyed.keys);
                    arrays.extend(keyed.vals.arrays);
                    Columns { arrays, rows: keyed.hashes.len() }
                };
                let weigh = |keyed: &Keyed<Columns>| keyed.keys.bytes().len();
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh }, close, errors)
            }
            Source::Ranked(stream, rows) => {
                let columns = move |keyed: Keyed<Rows>| rows.decode(&keyed);
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh: bytes }, close, errors)
            }
            Source::Arranged(stream, rows) => {
                let columns = move |keyed: Keyed<Rows>| rows.decode(&keyed);
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh: bytes }, close, errors)
            }
            Source::Joined(stream, pairs) => {
                let columns = move |joined: Joined| pairs.decode(&joined);
                let weigh = |joined: &Joined| {
                    joined.keys.bytes().len() + joined.lefts.bytes().len() + joined.rights.bytes().len()
                };
                run(stream, name, steps, Open { open: move |u| with(u, &columns), weigh }, close, errors)
            }
        }
    }
}

fn bytes(keyed: &Keyed<Rows>) -> usize {
    keyed.keys.bytes().len() + keyed.vals.bytes().len()
}

/// The updates with other data for the same records.
fn with<C, D>(updates: Updates<C>, open: impl Fn(C) -> D) -> Updates<D> {
    Updates { data: open(updates.data), times: updates.times, diffs: updates.diffs }
}
