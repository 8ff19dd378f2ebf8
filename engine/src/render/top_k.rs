//! The first rows of each group, as order-preserving bytes.

use std::rc::Rc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use headwater_operators::{Keyed, Rows};

use super::codec::Codec;
use super::keys::{blurred, codec, pick};
use super::ordered::Ordered;
use crate::columns::{Columns, sound};
use crate::plan::Order;

/// How rows are encoded: the group as key; the order's columns, then all others as tie-breakers, as value.
#[derive(Clone)]
pub(super) struct RankedRows {
    group: Vec<usize>,
    keys: Rc<Codec>,
    /// The columns of the value in order.
    ranked: Vec<usize>,
    rows: Rc<Ordered>,
    /// For each output column its place among the decoded ones: the value's, then the key's.
    places: Vec<usize>,
}

impl RankedRows {
    pub(super) fn new(schema: &SchemaRef, group: &[usize], order: &[Order]) -> Self {
        let mut ranked: Vec<(usize, SortOptions)> = Vec::new();
        let rest = (0..schema.fields().len()).map(|column| (column, SortOptions::default()));
        // A group's column is the same in all its rows, unless equal keys may look different.
        let rest = rest.filter(|(c, _)| !group.contains(c) || blurred(schema.field(*c).data_type()));
        for (column, options) in order.iter().map(|o| (o.column, o.options)).chain(rest) {
            if !ranked.iter().any(|(c, _)| *c == column) {
                ranked.push((column, options));
            }
        }
        let rows = Ordered::new(ranked.iter().map(|(c, options)| (schema.field(*c).data_type().clone(), *options)));
        let ranked: Vec<usize> = ranked.into_iter().map(|(column, _)| column).collect();
        let all: Vec<usize> = ranked.iter().chain(group).copied().collect();
        let places = (0..schema.fields().len()).filter_map(|column| all.iter().position(|c| *c == column));
        RankedRows {
            keys: codec(schema, group),
            places: places.collect(),
            group: group.to_vec(),
            ranked,
            rows: Rc::new(sound(rows)),
        }
    }

    pub(super) fn encode(&self, columns: &Columns) -> Keyed<Rows> {
        let keys = self.keys.encode(&pick(columns, &self.group), columns.rows);
        Keyed::new(keys, self.rows.encode(&pick(columns, &self.ranked), columns.rows))
    }

    pub(super) fn decode(&self, keyed: &Keyed<Rows>) -> Columns {
        let mut arrays = self.rows.decode(keyed.vals.iter());
        if self.places.iter().any(|&p| p >= arrays.len()) {
            arrays.extend(self.keys.decode(&keyed.keys));
        }
        Columns { arrays: self.places.iter().map(|&p| arrays[p].clone()).collect(), rows: keyed.hashes.len() }
    }
}
