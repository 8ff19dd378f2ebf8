//! Windows as rows: a row appears once in each window that holds its time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Fields, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use headwater_operators::Updates;
use headwater_operators::window::Windows;

use super::chain::{Errors, Step, spread};
use crate::columns::{Columns, sound};

/// Microseconds since the epoch of a timestamp or date column, rounded down; NULL where the value is NULL.
pub(crate) fn micros(array: &ArrayRef) -> Int64Array {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            Int64Array::new(times.values().clone(), times.nulls().cloned())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().unary(|v| v.div_euclid(1000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().unary(|v| v.saturating_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().unary(|v| v.saturating_mul(1_000_000))
        }
        _ => micros(&sound(cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None)))),
    }
}

/// Appends a window column, one output row for each window `[start, start + size)` that holds the row's time.
pub(crate) struct Hop {
    time: usize,
    windows: Windows,
    /// The fields of the window column: `start` and `end`.
    fields: Fields,
}

impl Hop {
    /// `schema` is that of the output.
    pub(crate) fn new(schema: &SchemaRef, time: usize, size: i64, slide: i64, offset: i64) -> Self {
        let fields = match schema.fields().last().map(|f| f.data_type()) {
            Some(DataType::Struct(fields)) => fields.clone(),
            _ => Fields::empty(),
        };
        let windows = Windows::hopping(size.max(1), slide.max(1)).map(|w| w.with_offset(offset));
        Hop { time, windows: sound(windows.map_err(|e| ArrowError::InvalidArgumentError(e.to_string()))), fields }
    }

    fn column(&self, starts: &[i64]) -> ArrayRef {
        let ends: Int64Array = starts.iter().map(|s| self.windows.end(*s)).collect::<Vec<_>>().into();
        let columns = [Int64Array::from(starts.to_vec()), ends]
            .into_iter()
            .zip(&self.fields)
            .map(|(column, field)| {
                let micros: ArrayRef = Arc::new(column.reinterpret_cast::<TimestampMicrosecondType>());
                if micros.data_type() == field.data_type() { micros } else { sound(cast(&micros, field.data_type())) }
            })
            .collect();
        Arc::new(sound(StructArray::try_new(self.fields.clone(), columns, None)))
    }
}

impl Step for Hop {
    fn apply(&mut self, updates: Updates<Columns>, _errors: &mut Errors, out: &mut Vec<Updates<Columns>>) {
        let mut updates = updates;
        let times = micros(&updates.data.arrays[self.time]);
        let mut starts = Vec::new();
        if self.windows.size() == self.windows.slide() && times.null_count() == 0 {
            self.windows.last_starts(times.values(), &mut starts);
            updates.data.arrays.push(self.column(&starts));
            return out.push(updates);
        }
        let mut rows = Vec::with_capacity(updates.len() * self.expansion());
        if times.null_count() == 0 {
            self.windows.hop(times.values(), &mut rows, &mut starts);
        } else {
            for (row, time) in times.iter().enumerate() {
                starts.extend(time.into_iter().flat_map(|time| self.windows.starts(time)));
                rows.resize(starts.len(), row as u32);
            }
        }
        spread(&updates, &rows, |mut part, range| {
            part.data.arrays.push(self.column(&starts[range]));
            out.push(part);
        });
    }

    fn fallible(&self) -> bool {
        false
    }

    fn expansion(&self) -> usize {
        (self.windows.size() / self.windows.slide()).max(1) as usize
    }
}
