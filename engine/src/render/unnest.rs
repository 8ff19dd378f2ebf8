//! Unnests a list column in place: one row for each element.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, NullArray, OffsetSizeTrait, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use headwater_operators::Updates;

use super::chain::{Errors, Step, spread};
use crate::columns::{Columns, sound};

/// One row for each element of a list column; none for NULL or an empty list.
pub(crate) struct Unnest {
    pub(crate) column: usize,
}

/// For each element its row, and its place in the list's values.
fn elements<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> (Vec<u32>, Vec<u32>) {
    let mut rows = Vec::with_capacity(list.values().len());
    let mut places = Vec::with_capacity(list.values().len());
    for row in 0..list.len() {
        if list.is_valid(row) {
            for place in list.offsets()[row].as_usize()..list.offsets()[row + 1].as_usize() {
                rows.push(row as u32);
                places.push(place as u32);
            }
        }
    }
    (rows, places)
}

impl Step for Unnest {
    fn apply(&mut self, updates: Updates<Columns>, _errors: &mut Errors, out: &mut Vec<Updates<Columns>>) {
        let mut updates = updates;
        // The list itself is not repeated.
        let place = Arc::new(NullArray::new(updates.len()));
        let list = std::mem::replace(&mut updates.data.arrays[self.column], place);
        let list: ArrayRef = match list.data_type() {
            DataType::List(_) | DataType::LargeList(_) => list,
            DataType::FixedSizeList(field, _) | DataType::ListView(field) => {
                sound(cast(&list, &DataType::List(field.clone())))
            }
            DataType::LargeListView(field) => sound(cast(&list, &DataType::LargeList(field.clone()))),
            other => sound(Err(arrow::error::ArrowError::SchemaError(format!("can't unnest {other}")))),
        };
        let (rows, places, values) = match list.data_type() {
            DataType::LargeList(_) => {
                let (rows, places) = elements(list.as_list::<i64>());
                (rows, places, list.as_list::<i64>().values().clone())
            }
            _ => {
                let (rows, places) = elements(list.as_list::<i32>());
                (rows, places, list.as_list::<i32>().values().clone())
            }
        };
        spread(&updates, &rows, |mut part, range| {
            let places = UInt32Array::from(places[range].to_vec());
            part.data.arrays[self.column] = sound(take(&values, &places, None));
            out.push(part);
        });
    }

    fn fallible(&self) -> bool {
        false
    }
}
