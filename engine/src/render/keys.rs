//! What the columns of a collection become where it is keyed.

use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use headwater_operators::keyed::KEEP;
use headwater_operators::time::{Time, from_micros};
use headwater_operators::{Keyed, Rows};

use super::codec::Codec;
use super::hop::micros;
use crate::columns::{Columns, sound};
use crate::plan::{Node, NodeId, Watermark, column_size};

/// The encoding of some columns of a schema as keys.
pub(super) fn codec(schema: &SchemaRef, columns: &[usize]) -> Rc<Codec> {
    Rc::new(sound(Codec::new(types(schema, columns))))
}

/// The encoding of some columns of a node as keys that only this plan's operators see.
pub(super) fn private(nodes: &[Node], node: NodeId, columns: &[usize]) -> Rc<Codec> {
    let sizes = columns.iter().map(|&column| column_size(node, column, nodes));
    Rc::new(sound(Codec::windowed(types(&nodes[node].schema, columns).zip(sizes))))
}

/// The encoding of some columns of a schema as values.
pub(super) fn verbatim(schema: &SchemaRef, columns: &[usize]) -> Rc<Codec> {
    Rc::new(sound(Codec::verbatim(types(schema, columns))))
}

fn types(schema: &SchemaRef, columns: &[usize]) -> impl Iterator<Item = DataType> {
    columns.iter().map(|&c| schema.field(c).data_type().clone())
}

/// Some of the columns.
pub(super) fn pick(columns: &Columns, indices: &[usize]) -> Vec<ArrayRef> {
    indices.iter().map(|&c| columns.arrays[c].clone()).collect()
}

/// Whether equal keys of this type may look different: floats, for `-0.0` equals `0.0`. Then the value is kept beside
/// the key.
pub(super) fn blurred(data_type: &DataType) -> bool {
    match data_type {
        t if t.is_floating() => true,
        DataType::Struct(fields) => fields.iter().any(|f| blurred(f.data_type())),
        DataType::Dictionary(_, t) => blurred(t),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => {
            blurred(f.data_type())
        }
        _ => false,
    }
}

/// When the state of each row's key can be released: the first time at which the watermark has passed it. What the query
/// finds where it begins, at `as_of`, is there however long ago that was.
pub(super) fn buckets(columns: &Columns, retain: Option<Watermark>, as_of: Time) -> Vec<u64> {
    let Some(Watermark { column, delay }) = retain else { return Vec::new() };
    let column = &columns.arrays[column];
    let ends = match column.data_type() {
        DataType::Struct(_) => {
            let windows = column.as_struct();
            // The field by its place: a window is a struct of `start` and `end`.
            micros(windows.column(1))
        }
        _ => micros(column),
    };
    let first = as_of.saturating_add(1);
    let release = |end: i64| from_micros(end).saturating_add(delay).max(first);
    match column.nulls().or(ends.nulls()) {
        None => ends.values().iter().map(|&end| release(end)).collect(),
        Some(_) => {
            let valid = |row: usize| column.is_valid(row) && ends.is_valid(row);
            (0..columns.rows).map(|row| if valid(row) { release(ends.value(row)) } else { KEEP }).collect()
        }
    }
}

/// Keyed records with their buckets.
pub(super) fn keyed<V>(keys: Rows, buckets: Vec<u64>, vals: V) -> Keyed<V> {
    Keyed { buckets, ..Keyed::new(keys, vals) }
}
