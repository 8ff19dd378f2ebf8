//! What the two sides of a join keep, and how their pairs become columns.

use std::rc::Rc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use headwater_operators::join::Joined;
use headwater_operators::{Keyed, Payload, Rows};

use super::codec::Codec;
use super::keys::{blurred, codec, pick, verbatim};
use crate::columns::Columns;

/// How a collection is arranged by some columns: those as key, as value what the key doesn't tell. Depends only on the
/// collection's schema and the key's columns, so that every user of a shared arrangement reads it alike.
#[derive(Clone)]
pub(super) struct Arranging {
    key: Vec<usize>,
    val: Vec<usize>,
    keys: Rc<Codec>,
    vals: Rc<Codec>,
    /// For each column whether it is in the value, and its place there or in the key.
    places: Rc<[(bool, usize)]>,
}

impl Arranging {
    pub(super) fn new(schema: &SchemaRef, key: &[usize]) -> Self {
        let columns = schema.fields().len();
        let val: Vec<usize> =
            (0..columns).filter(|c| !key.contains(c) || blurred(schema.field(*c).data_type())).collect();
        let place = |column: usize| match val.iter().position(|c| *c == column) {
            Some(place) => (true, place),
            None => (false, key.iter().position(|c| *c == column).unwrap_or_default()),
        };
        let places = (0..columns).map(place).collect();
        Arranging { keys: codec(schema, key), vals: verbatim(schema, &val), key: key.to_vec(), val, places }
    }

    pub(super) fn encode(&self, columns: &Columns) -> Keyed<Rows> {
        let keys = self.keys.encode(&pick(columns, &self.key), columns.rows);
        Keyed::new(keys, self.vals.encode(&pick(columns, &self.val), columns.rows))
    }

    pub(super) fn decode(&self, keyed: &Keyed<Rows>) -> Columns {
        let arrays = self.columns(&self.keys.decode(&keyed.keys), &keyed.vals);
        Columns { arrays, rows: keyed.len() }
    }

    fn columns(&self, keys: &[ArrayRef], vals: &Rows) -> Vec<ArrayRef> {
        let vals = self.vals.decode(vals);
        let column = |&(val, place): &(bool, usize)| if val { vals[place].clone() } else { keys[place].clone() };
        self.places.iter().map(column).collect()
    }
}

/// Makes columns of pairs: the left columns, then the right ones.
pub(super) struct JoinedColumns {
    left: Arranging,
    right: Arranging,
}

impl JoinedColumns {
    pub(super) fn new(left: Arranging, right: Arranging) -> Self {
        JoinedColumns { left, right }
    }

    pub(super) fn decode(&self, joined: &Joined) -> Columns {
        let keys = self.left.keys.decode(&joined.keys);
        let mut arrays = self.left.columns(&keys, &joined.lefts);
        arrays.extend(self.right.columns(&keys, &joined.rights));
        Columns { arrays, rows: joined.len() }
    }
}
