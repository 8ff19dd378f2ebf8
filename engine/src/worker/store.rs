//! The output of a query, kept for snapshots and other queries.

use std::sync::Arc;

use headwater_operators::arrange::{self, Arranged, Arrangement};
use headwater_operators::guard::{Guard, raise};
use headwater_operators::time::Time;
use headwater_operators::{Keyed, Payload, Rows, UpdateStream, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::render;
use crate::render::codec::Codec;

/// The output of a query, arranged by the whole row.
pub(super) struct Store {
    pub arrangement: Arrangement,
    codec: Arc<Codec>,
}

/// Updates of an arrangement that a snapshot reads at a time.
const READ_STEP: usize = 1 << 16;

impl Store {
    pub fn new<'scope>(
        rows: UpdateStream<'scope, Columns>,
        codec: Arc<Codec>,
        name: &str,
    ) -> (Store, Arranged<'scope>) {
        let encoder = codec.clone();
        let keyed = rows.unary::<CapacityContainerBuilder<Updates<Keyed<Rows>>>, _, _, _>(Pipeline, "Store", |_, _| {
            let guard = Guard::new("Store");
            move |input, output| {
                input.for_each(|capability, batch| {
                    guard.message(capability, |capability| {
                        let Updates { data, times, diffs } = std::mem::take(batch);
                        let vals = Rows::from_parts(Vec::new(), vec![0; data.rows]);
                        let data = Keyed::new(encoder.encode(&data.arrays, data.rows), vals);
                        output.session_with_builder(capability).give_container(&mut Updates { data, times, diffs });
                    });
                });
            }
        });
        let arranged = arrange::arrange(keyed, name);
        (Store { arrangement: Arrangement::new(&arranged), codec }, arranged)
    }

    /// The rows at a time that is closed, with how often each is there.
    pub fn contents(&mut self, as_of: Time) -> Result<Vec<(Columns, Vec<i64>)>> {
        let mut contents = self.arrangement.contents(as_of).map_err(|e| Error::internal(e.to_string()))?;
        let mut parts = Vec::new();
        while let Some(content) = contents.next(READ_STEP) {
            if let Some(row) = content.diffs.iter().position(|count| *count < 0) {
                let shown = self.decode(&content.keys.slice(row..row + 1)).show_row(0);
                let count = content.diffs[row];
                return Err(Error::data(format!("a row was retracted that was not there ({count} copies): {shown}")));
            }
            let ranges = render::fitting(&content.keys);
            if ranges.len() == 1 {
                parts.push((self.decode(&content.keys), content.diffs));
                continue;
            }
            for range in ranges {
                let (keys, diffs) = (content.keys.slice(range.clone()), content.diffs[range].to_vec());
                parts.push((self.decode(&keys), diffs));
            }
        }
        Ok(parts)
    }

    fn decode(&self, keys: &Rows) -> Columns {
        Columns { arrays: self.codec.decode(keys), rows: keys.len() }
    }

    /// Reads the store in another dataflow, from a time on.
    pub fn import<'scope>(&self, scope: Scope<'scope, Time>, name: &str, as_of: Time) -> UpdateStream<'scope, Columns> {
        let mut arrangement = self.arrangement.clone();
        let arranged = match arrangement.import_as_of(scope, name, as_of) {
            Ok(arranged) => arranged,
            // The time is held by whoever attaches the query.
            Err(error) => raise(format!("a held time can't be read: {error}")),
        };
        render::decoded(arrange::updates(&arranged, name), self.codec.clone(), name)
    }
}
