//! Emissions as rows to write down: a row for each copy, and what happens to it as columns or as JSON envelopes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::format::types::TIMESTAMP;
use crate::sink::{Emission, Op, OutputMode};

/// The first instant that calendars have, in microseconds: times before it are of what has no event time, and say in which
/// order it changed.
const CALENDAR: i64 = chrono::DateTime::<chrono::Utc>::MIN_UTC.timestamp_micros();

/// The event time at which a change took effect, microseconds since the epoch; `None` where it has none.
pub(crate) fn event_time(time: i64) -> Option<i64> {
    (time >= CALENDAR).then_some(time)
}

/// The place of a change without event time in the order of those: 0 for what is there since ever, then ever larger.
pub(crate) fn order(time: i64) -> Option<i64> {
    (time < CALENDAR).then(|| time - i64::MIN)
}

/// The rows of an emission, one for each copy.
pub(crate) struct Copies<'a> {
    pub(crate) rows: Cow<'a, RecordBatch>,
    pub(crate) ops: Cow<'a, [Op]>,
    /// Microseconds, or an order: see [`event_time`] and [`order`].
    pub(crate) times: Cow<'a, [i64]>,
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("rows can't be prepared for writing: {error}"))
}

impl<'a> Copies<'a> {
    pub(crate) fn of(emission: &'a Emission) -> Result<Copies<'a>> {
        let rows = emission.rows.num_rows();
        if emission.ops.len() != rows || emission.counts.len() != rows || emission.times.len() != rows {
            return Err(Error::Internal("an emission with more rows than ops, counts or times".to_string()));
        }
        if emission.counts.iter().all(|count| *count == 1) {
            return Ok(Copies {
                rows: Cow::Borrowed(&emission.rows),
                ops: Cow::Borrowed(&emission.ops),
                times: Cow::Borrowed(&emission.times),
            });
        }
        let mut indices: Vec<u32> = Vec::new();
        for (row, count) in emission.counts.iter().enumerate() {
            let count = usize::try_from(*count).map_err(internal)?;
            indices.extend(std::iter::repeat_n(row as u32, count));
        }
        let ops = indices.iter().map(|row| emission.ops[*row as usize]).collect();
        let times = indices.iter().map(|row| emission.times[*row as usize]).collect();
        let rows = take_record_batch(&emission.rows, &UInt32Array::from(indices)).map_err(internal)?;
        Ok(Copies { rows: Cow::Owned(rows), ops: Cow::Owned(ops), times: Cow::Owned(times) })
    }
}

/// The short name of an operation, as Flink writes it.
pub(crate) fn op_name(op: Op) -> &'static str {
    match op {
        Op::Insert => "+I",
        Op::Delete => "-D",
        Op::Upsert => "+U",
    }
}

/// Whether rows are written with what happens to them.
pub(crate) fn has_ops(mode: OutputMode) -> bool {
    match mode {
        OutputMode::Append | OutputMode::Complete => false,
        OutputMode::Update | OutputMode::Changelog => true,
    }
}

/// The columns `op`, `time` and `seq` before those of the rows; underscores keep their names apart.
pub(crate) fn schema_with_ops(rows: &Schema) -> SchemaRef {
    let free = |name: &str| {
        let mut name = name.to_string();
        while rows.field_with_name(&name).is_ok() {
            name.insert(0, '_');
        }
        name
    };
    let head = [
        Field::new(free("op"), DataType::Utf8, false),
        Field::new(free("time"), TIMESTAMP, true),
        Field::new(free("seq"), DataType::Int64, true),
    ];
    let fields: Vec<Field> = head.into_iter().chain(rows.fields().iter().map(|field| field.as_ref().clone())).collect();
    Arc::new(Schema::new(fields))
}

/// The rows under [`schema_with_ops`].
pub(crate) fn with_ops(copies: &Copies<'_>) -> Result<RecordBatch> {
    let ops: StringArray = copies.ops.iter().map(|op| Some(op_name(*op))).collect();
    let times: arrow::array::TimestampMicrosecondArray = copies.times.iter().map(|time| event_time(*time)).collect();
    let orders: Int64Array = copies.times.iter().map(|time| order(*time)).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(ops), Arc::new(times), Arc::new(orders)];
    columns.extend(copies.rows.columns().iter().cloned());
    RecordBatch::try_new(schema_with_ops(&copies.rows.schema()), columns).map_err(internal)
}

/// The rows in Debezium's shape: `before`, `after`, `op` (`c`, `u`, `d`) and `ts_us`; and `seq`.
pub(crate) fn envelopes(copies: &Copies<'_>) -> Result<RecordBatch> {
    let fields: Fields = copies
        .rows
        .schema()
        .fields()
        .iter()
        .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
        .collect();
    let rows = copies.rows.num_rows();
    let side = |deleted: bool| -> Result<ArrayRef> {
        let there: NullBuffer = copies.ops.iter().map(|op| (*op == Op::Delete) == deleted).collect();
        let values = match fields.is_empty() {
            true => StructArray::new_empty_fields(rows, Some(there)),
            false => {
                StructArray::try_new(fields.clone(), copies.rows.columns().to_vec(), Some(there)).map_err(internal)?
            }
        };
        Ok(Arc::new(values))
    };
    let op: StringArray = copies
        .ops
        .iter()
        .map(|op| match op {
            Op::Insert => Some("c"),
            Op::Upsert => Some("u"),
            Op::Delete => Some("d"),
        })
        .collect();
    let times: Int64Array = copies.times.iter().map(|time| event_time(*time)).collect();
    let orders: Int64Array = copies.times.iter().map(|time| order(*time)).collect();
    let schema = Schema::new(vec![
        Field::new("before", DataType::Struct(fields.clone()), true),
        Field::new("after", DataType::Struct(fields.clone()), true),
        Field::new("op", DataType::Utf8, false),
        Field::new("ts_us", DataType::Int64, true),
        Field::new("seq", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![side(true)?, side(false)?, Arc::new(op), Arc::new(times), Arc::new(orders)];
    RecordBatch::try_new(Arc::new(schema), columns).map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_event_time_has_an_order() {
        assert_eq!(
            [i64::MIN, i64::MIN + 7].map(|time| (event_time(time), order(time))),
            [(None, Some(0)), (None, Some(7))]
        );
        for time in [CALENDAR, -1, 0, i64::MAX] {
            assert_eq!((event_time(time), order(time)), (Some(time), None));
        }
    }
}
