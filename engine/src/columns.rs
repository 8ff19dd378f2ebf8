//! Arrow columns as the payload of updates.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericByteArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{
    ArrowNativeType, ByteArrayType, DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use headwater_operators::Payload;
use headwater_operators::guard::raise;

use crate::error::Error;

/// Columns of equal length; the schema stands in the plan, not in the data.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The arrays.
    pub arrays: Vec<ArrayRef>,
    /// The number of rows, also where there are no arrays.
    pub rows: usize,
}

impl Columns {
    /// The columns of a batch.
    pub fn from_batch(batch: &RecordBatch) -> Self {
        Columns { arrays: batch.columns().to_vec(), rows: batch.num_rows() }
    }

    /// `len` rows from `start` on, without a copy.
    pub fn slice(&self, start: usize, len: usize) -> Self {
        Columns { arrays: self.arrays.iter().map(|a| a.slice(start, len)).collect(), rows: len }
    }

    /// Row `row` as text, for messages.
    pub fn show_row(&self, row: usize) -> String {
        let show = |array: &ArrayRef| {
            arrow::util::display::array_value_to_string(array, row).unwrap_or_else(|e| format!("({e})"))
        };
        self.arrays.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    /// The bytes of the values, roughly; at least those of all text.
    pub(crate) fn weight(&self) -> usize {
        self.arrays.iter().map(weight).sum()
    }

    /// Ranges of rows that weigh no more than [`FULL`] each, or are one row.
    pub(crate) fn fitting(&self) -> Vec<Range<usize>> {
        let mut open = vec![(0, self.rows)];
        let mut fitting = Vec::with_capacity(1);
        while let Some((start, end)) = open.pop() {
            let rows = end - start;
            if rows < 2 || Columns::slice(self, start, rows).weight() <= FULL {
                fitting.push(start..end);
            } else {
                let middle = start + rows / 2;
                open.extend([(middle, end), (start, middle)]);
            }
        }
        fitting
    }

    /// The rows of all `parts` as one answer with the columns of `schema`.
    ///
    /// Errors: a column whose text would be more than a batch can have.
    pub(crate) fn answer(parts: &[&Columns], schema: &SchemaRef) -> Result<Columns, Error> {
        let parts: Vec<_> = parts.iter().filter(|part| part.rows > 0).collect();
        let width = parts.first().map_or(0, |part| part.arrays.len());
        let column = |column: usize| {
            let arrays: Vec<_> = parts.iter().map(|part| part.arrays[column].as_ref()).collect();
            arrow::compute::concat(&arrays).map_err(|error| too_much(&error, schema, column))
        };
        let arrays = (0..width).map(column).collect::<Result<_, Error>>()?;
        Ok(Columns { arrays, rows: parts.iter().map(|part| part.rows).sum() })
    }

    /// The rows at `indices` of an answer. Errors as [`Columns::answer`].
    pub(crate) fn pick(&self, indices: &[u32], schema: &SchemaRef) -> Result<Columns, Error> {
        let take = UInt32Array::from(indices.to_vec());
        let column = |(column, array): (usize, &ArrayRef)| {
            arrow::compute::take(array, &take, None).map_err(|error| too_much(&error, schema, column))
        };
        let arrays = self.arrays.iter().enumerate().map(column).collect::<Result<_, Error>>()?;
        Ok(Columns { arrays, rows: indices.len() })
    }

    /// A batch with these columns under `schema`, which must fit them.
    pub fn to_batch(&self, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema.clone(), self.arrays.clone(), &options)
    }
}

/// An answer that does not fit.
fn too_much(error: &ArrowError, schema: &SchemaRef, column: usize) -> Error {
    let name = schema.fields().get(column).map_or("", |field| field.name().as_str());
    match error {
        ArrowError::OffsetOverflowError(_) => Error::data(format!(
            "the column '{name}' of the answer has more than 2 GiB of text, which one answer can't hold; read it in \
             parts: with WHERE or LIMIT, without that column, or follow its changes"
        )),
        error => Error::internal(format!("the column '{name}': {error}")),
    }
}

/// What can't be otherwise by the plan, or is a fault of ours that ends the step, and with it its dataflow: rows are
/// never lost in silence. More text than a batch can have is cut before, by whoever makes batches ([`Columns::weight`]).
pub(crate) fn sound<T>(result: Result<T, ArrowError>) -> T {
    result.unwrap_or_else(|error| raise(format!("columns of one collection don't fit together: {error}")))
}

/// The bytes that a batch should not exceed: the columns of text in it have offsets of 32 bits.
pub(crate) const FULL: usize = 1 << 30;

/// The bytes of an array's values, roughly; at least those of its text.
fn weight(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8 => text_bytes(array.as_string::<i32>()),
        DataType::Binary => text_bytes(array.as_binary::<i32>()),
        DataType::LargeUtf8 => text_bytes(array.as_string::<i64>()),
        DataType::LargeBinary => text_bytes(array.as_binary::<i64>()),
        other => match other.primitive_width() {
            Some(width) => width * array.len(),
            None => array.to_data().get_slice_memory_size().unwrap_or(0),
        },
    }
}

fn text_bytes<T: ByteArrayType>(array: &GenericByteArray<T>) -> usize {
    let offsets = array.value_offsets();
    offsets[array.len()].as_usize() - offsets[0].as_usize()
}

impl Payload for Columns {
    fn len(&self) -> usize {
        self.rows
    }

    fn gather(&self, indices: &[u32]) -> Self {
        let take = UInt32Array::from(indices.to_vec());
        let arrays = self.arrays.iter().map(|a| sound(arrow::compute::take(a, &take, None))).collect();
        Columns { arrays, rows: indices.len() }
    }

    fn slice(&self, range: Range<usize>) -> Self {
        let arrays = self.arrays.iter().map(|a| a.slice(range.start, range.len())).collect();
        Columns { arrays, rows: range.len() }
    }

    fn concat(parts: &[&Self]) -> Self {
        let parts: Vec<_> = parts.iter().filter(|p| p.rows > 0).collect();
        let Some(first) = parts.first() else { return Columns::default() };
        let arrays = (0..first.arrays.len())
            .map(|column| {
                let arrays: Vec<_> = parts.iter().map(|p| p.arrays[column].as_ref()).collect();
                sound(arrow::compute::concat(&arrays))
            })
            .collect();
        Columns { arrays, rows: parts.iter().map(|p| p.rows).sum() }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let fields: Vec<_> = self
            .arrays
            .iter()
            .enumerate()
            .map(|(i, a)| arrow::datatypes::Field::new(i.to_string(), a.data_type().clone(), true))
            .collect();
        let schema = SchemaRef::new(Schema::new(fields));
        let batch = sound(self.to_batch(&schema));
        let mut writer = sound(arrow::ipc::writer::StreamWriter::try_new(out, &schema));
        sound(writer.write(&batch));
        sound(writer.finish());
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = arrow::ipc::reader::StreamReader::try_new(bytes, None).map_err(|e| e.to_string())?;
        let batch = reader.next().ok_or("no batch in the message")?.map_err(|e| e.to_string())?;
        Ok(Columns::from_batch(&batch))
    }
}

/// Event times of a watermark column, microseconds: a timestamp, or a window's end.
pub(crate) fn event_times(array: &ArrayRef) -> Result<TimestampMicrosecondArray, Error> {
    let array = match array.data_type() {
        DataType::Struct(_) => array
            .as_struct()
            .column_by_name("end")
            .cloned()
            .ok_or_else(|| Error::internal("a window without an end"))?,
        _ => array.clone(),
    };
    let timestamps = arrow::compute::cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(timestamps.as_primitive::<TimestampMicrosecondType>().clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, StringArray};
    use arrow::buffer::{Buffer, OffsetBuffer};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn text_beyond_what_a_column_can_hold_is_an_error_that_names_it() {
        // Pages that are never touched.
        let zeros = Buffer::from_vec(vec![0u8; FULL]);
        let text: ArrayRef = Arc::new(BinaryArray::new(OffsetBuffer::from_lengths([FULL]), zeros, None));
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let fields = [("id", DataType::Int64), ("body", DataType::Binary)];
        let fields: Vec<_> = fields.into_iter().map(|(name, t)| Field::new(name, t, true)).collect();
        let schema = SchemaRef::new(Schema::new(fields));
        let row = Columns { arrays: vec![id, text], rows: 1 };
        let error = row.pick(&[0; 3], &schema).unwrap_err().to_string();
        assert!(error.contains("'body'") && error.contains("2 GiB") && error.contains("LIMIT"), "{error}");
    }

    #[test]
    fn what_is_too_heavy_for_a_batch_is_cut() {
        let third = FULL / 3 + 1;
        let zeros = Buffer::from_vec(vec![0u8; 5 * third]);
        let text: ArrayRef = Arc::new(BinaryArray::new(OffsetBuffer::from_lengths([third; 5]), zeros, None));
        let columns = Columns { arrays: vec![text], rows: 5 };
        assert_eq!(columns.weight(), 5 * third);
        let ranges = columns.fitting();
        assert!(ranges.iter().all(|range| Columns::slice(&columns, range.start, range.len()).weight() <= FULL));
        assert_eq!(ranges.iter().flat_map(|range| range.clone()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let short = Columns { arrays: vec![Arc::new(StringArray::from(vec!["a", "bcd"])) as ArrayRef], rows: 2 };
        assert_eq!((short.weight(), short.fitting().len()), (4, 1));
    }
}
