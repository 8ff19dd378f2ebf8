//! Arrow columns as the payload of updates.

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use headwater_operators::Payload;

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

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        let bytes = |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or(0);
        self.arrays.iter().map(bytes).sum()
    }

    /// Row `row` as text, for messages.
    pub fn show_row(&self, row: usize) -> String {
        let show = |array: &ArrayRef| {
            arrow::util::display::array_value_to_string(array, row).unwrap_or_else(|e| format!("({e})"))
        };
        self.arrays.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    /// A batch with these columns under `schema`, which must fit them.
    pub fn to_batch(&self, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema.clone(), self.arrays.clone(), &options)
    }
}

/// The kernels below fail only when columns of one plan node differ in type or exceed 4 GiB: a fault of ours that
/// must end the process rather than lose rows.
pub(crate) fn sound<T>(result: Result<T, arrow::error::ArrowError>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("headwater: columns of one collection don't fit together: {error}");
        std::process::abort()
    })
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

    fn slice(&self, range: std::ops::Range<usize>) -> Self {
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
