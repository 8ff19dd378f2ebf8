//! Parquet files to rows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use std::sync::Arc;

use crate::connector::Wanted;
use crate::error::{Error, Result};
use crate::format::csv::{find, missing};
use crate::format::event_time;
use crate::format::record::{Bad, Decoded};
use crate::format::types::{always_fits, convert, convertible, normalized_schema, sql_name};
use crate::format::{BATCH_BYTES, BATCH_ROWS};

/// An open Parquet file.
pub(crate) struct ParquetReader {
    reader: ParquetRecordBatchReader,
    name: String,
    wanted: Wanted,
    /// The declared columns that are looked at, each with its position among those read.
    columns: Vec<(usize, usize)>,
    /// Rows of the whole file.
    pub(crate) rows: u64,
    metadata: Arc<ParquetMetaData>,
    /// The columns of the file.
    there: SchemaRef,
    /// The row that it begins at.
    first: u64,
}

/// Whether the file has its last bytes: until then it is still being written.
pub(crate) fn is_complete(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() < 12 {
        return Ok(false);
    }
    let mut magic = [0; 4];
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(&magic == b"PAR1" || &magic == b"PARE")
}

fn broken(name: &str, error: impl std::fmt::Display) -> Error {
    Error::Data(format!("{name} can't be read as Parquet: {error}"))
}

/// Refuses columns that Parquet has no way to write.
pub(crate) fn check_writing(schema: &Schema) -> Result<()> {
    fn writes(of: &DataType) -> bool {
        match of {
            DataType::Interval(IntervalUnit::MonthDayNano) => false,
            DataType::Struct(fields) => fields.iter().all(|field| writes(field.data_type())),
            DataType::List(item) | DataType::LargeList(item) => writes(item.data_type()),
            _ => true,
        }
    }
    match schema.fields().iter().find(|field| !writes(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(Error::User(format!(
            "column '{}' has intervals, which Parquet has no way to write; cast it to VARCHAR, or use format json",
            field.name()
        ))),
    }
}

/// The columns of a file, as a table has them.
pub(crate) fn schema(file: File, name: &str) -> Result<SchemaRef> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| broken(name, error))?;
    Ok(normalized_schema(builder.schema()))
}

impl ParquetReader {
    /// Opens a complete file to read rows of the `wanted` columns from row `offset` on.
    pub(crate) fn open(file: File, name: &str, wanted: Wanted, offset: u64, max_rows: usize) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| broken(name, error))?;
        let there = builder.schema().clone();
        let names = there.fields().iter().map(|field| field.name().as_str());
        let mut roots = Vec::new();
        for (place, field) in wanted.all.fields().iter().enumerate() {
            let root =
                find(names.clone(), field.name()).ok_or_else(|| missing(name, field.name(), names.clone(), ""))?;
            let from = there.field(root).data_type();
            if !convertible(from, field.data_type()) {
                return Err(Error::Data(format!(
                    "{name}: column '{}' is {}, which can't be read as the declared {}; declare it as {} and cast it in \
                     the query",
                    field.name(),
                    sql_name(from),
                    sql_name(field.data_type()),
                    sql_name(from)
                )));
            }
            if wanted.places.contains(&place) || !always_fits(there.field(root), field) {
                roots.push((place, root));
            }
        }
        let mut read: Vec<usize> = roots.iter().map(|(_, root)| *root).collect();
        read.sort_unstable();
        read.dedup();
        let position = |(place, root)| Some((place, read.binary_search(&root).ok()?));
        let columns = roots.into_iter().filter_map(position).collect();

        let metadata = builder.metadata().clone();
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let bytes: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size()).sum();
        let row_bytes = u64::try_from(bytes).unwrap_or(0) / rows.max(1) + 1;
        let batch_rows = (4 * BATCH_BYTES as u64 / row_bytes).clamp(1024, BATCH_ROWS as u64) as usize;
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_rows.min(max_rows))
            .with_offset(usize::try_from(offset).unwrap_or(usize::MAX))
            .build()
            .map_err(|error| broken(name, error))?;
        let name = name.to_string();
        Ok(ParquetReader { reader, name, wanted, columns, rows, metadata, there, first: offset })
    }

    /// A time that the first row's, in a column of the rows, is not before; `None` if the statistics do not say.
    pub(crate) fn begins(&self, column: usize) -> Option<i64> {
        let name = self.wanted.schema.field(column).name();
        let names = self.there.fields().iter().map(|field| field.name().as_str());
        let root = find(names, name)?;
        let parquet = self.metadata.file_metadata().schema_descr();
        let statistics = StatisticsConverter::try_new(self.there.field(root).name(), &self.there, parquet).ok()?;
        let mut before = 0;
        let group = self.metadata.row_groups().iter().find(|group| {
            before += u64::try_from(group.num_rows()).unwrap_or(0);
            before > self.first
        })?;
        let least = statistics.row_group_mins(std::iter::once(group)).ok()?;
        event_time::range(&least).ok()?.map(|(least, _)| least)
    }

    /// The next rows; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Decoded>> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|error| broken(&self.name, error))?;
        let records = batch.num_rows();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.wanted.places.len()];
        let mut faults: Vec<(usize, usize, String)> = Vec::new();
        for (slot, position) in self.columns.iter().copied() {
            let (field, from) = (self.wanted.all.field(slot), batch.column(position));
            let (values, lost) = convert(from, field.data_type())?;
            for row in lost {
                let value = array_value_to_string(from, row).unwrap_or_default();
                faults.push((row, slot, format!("'{value}' is not of type {}", sql_name(field.data_type()))));
            }
            if !field.is_nullable() && from.null_count() > 0 {
                for row in (0..records).filter(|row| from.is_null(*row)) {
                    faults.push((row, slot, "it is NULL, but the column is NOT NULL".to_string()));
                }
            }
            if let Some(place) = self.wanted.places.iter().position(|place| *place == slot) {
                columns[place] = Some(values);
            }
        }
        let columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
        let schema = &self.wanted.schema;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(records));
        let made = |schema: SchemaRef, columns| {
            RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| broken(&self.name, error))
        };
        if faults.is_empty() {
            return Ok(Some(Decoded { consumed: 0, records, rows: made(schema.clone(), columns)?, bad: vec![] }));
        }

        faults.sort_by_key(|(row, slot, _)| (*row, *slot));
        faults.dedup_by_key(|(row, _, _)| *row);
        let mut keep = vec![true; records];
        let mut bad = Vec::new();
        for (row, slot, reason) in faults {
            keep[row] = false;
            let text = |column: &ArrayRef| array_value_to_string(column, row).unwrap_or_default();
            let input = batch.columns().iter().map(text).collect::<Vec<_>>().join(", ");
            let column = Some(self.wanted.all.field(slot).name().clone());
            let input = crate::format::record::excerpt(input.as_bytes());
            bad.push(Bad { record: row, lines: 0, column, input, reason });
        }
        let loose: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let all = made(Arc::new(Schema::new(loose)), columns)?;
        let good = filter_record_batch(&all, &BooleanArray::from(keep)).map_err(|error| broken(&self.name, error))?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), good.columns().to_vec(), &options)
            .map_err(|error| broken(&self.name, error))?;
        Ok(Some(Decoded { consumed: 0, records, rows, bad }))
    }
}
