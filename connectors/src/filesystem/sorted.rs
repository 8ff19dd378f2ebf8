//! A file in the order of its event times, whatever the order of its rows: sorted runs, put aside on the disk, and merged.
//!
//! Rows of one event time keep their order, and rows without one come first. Positions count what is given: first the input
//! that is no row, in the order of the file, then the rows in the order of time. So they mean the same at every reading.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::filesystem::reader::Reader;
use crate::filesystem::spill::{Place, Spill};
use crate::filesystem::step::{Lot, Making, Step};
use crate::format::record::{Bad, Decoded};
use crate::format::{BATCH_BYTES, event_time};

/// What the files of a source share to be sorted.
pub(crate) struct Sorting {
    spill: Mutex<Spill>,
    /// Bytes of sorted rows that are kept in memory.
    kept: AtomicUsize,
    /// The most bytes of a run, and of all that is kept in memory.
    most: usize,
    schema: SchemaRef,
    /// The place of the event time in it.
    column: usize,
    /// Whether bad records are set apart.
    tolerant: bool,
}

impl Sorting {
    /// Sorting rows of a schema by one of its columns, in runs of about `most` bytes.
    pub(crate) fn new(schema: SchemaRef, column: usize, tolerant: bool, most: usize) -> Sorting {
        Sorting { spill: Mutex::default(), kept: AtomicUsize::new(0), most, schema, column, tolerant }
    }

    fn put(&self, rows: &RecordBatch) -> Result<Place> {
        self.spill.lock().unwrap_or_else(PoisonError::into_inner).put(rows)
    }

    fn get(&self, place: Place) -> Result<RecordBatch> {
        self.spill.lock().unwrap_or_else(PoisonError::into_inner).get(place)
    }
}

/// A file being sorted, or read in order.
pub(crate) struct Sorted {
    reader: Reader,
    sorting: Arc<Sorting>,
    /// Rows that are in no run yet, and how many bytes they have.
    unsorted: Vec<RecordBatch>,
    bytes: usize,
    bad: Vec<Bad>,
    runs: Vec<VecDeque<Part>>,
    merge: Option<Merge>,
    /// Records still to be passed over.
    skip: u64,
    /// Bytes that it keeps in memory.
    kept: usize,
}

/// Sorted rows, here or on the disk.
enum Part {
    Here(RecordBatch),
    There(Place),
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("rows can't be sorted: {error}"))
}

impl Sorted {
    /// The file that `reader` reads, in order, from record `skip` of that order on.
    pub(crate) fn new(reader: Reader, sorting: Arc<Sorting>, skip: u64) -> Sorted {
        let (unsorted, bad, runs) = (Vec::new(), Vec::new(), Vec::new());
        Sorted { reader, sorting, unsorted, bytes: 0, bad, runs, merge: None, skip, kept: 0 }
    }

    /// What reads the file.
    pub(crate) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Goes on: first reading and sorting, then giving.
    pub(crate) fn next(&mut self, making: Making) -> Result<Step> {
        if self.merge.is_none() {
            return self.collect(making);
        }
        loop {
            let Some(mut decoded) = self.merged(making.max_rows)? else {
                return Ok(Step::End);
            };
            let passed = self.skip.min(decoded.records as u64);
            self.skip -= passed;
            let rows = usize::try_from(passed).unwrap_or(usize::MAX);
            decoded.rows = decoded.rows.slice(rows, decoded.records - rows);
            decoded.records -= rows;
            if decoded.records > 0 {
                return Ok(Step::Rows(vec![Lot { decoded, line: 0, times: None }]));
            }
        }
    }

    /// Reads a little more. At the end of the file, or at a bad record where those are errors, gives the bad ones.
    fn collect(&mut self, making: Making) -> Result<Step> {
        let by_record = matches!(self.reader, Reader::Parquet(_));
        let step = match self.reader.next(BATCH_BYTES)? {
            Ok(step) => step,
            Err(block) => making.decode(block)?,
        };
        match step {
            Step::Rows(lots) => {
                for lot in lots {
                    self.add(lot, by_record)?;
                }
                if self.bad.is_empty() || self.sorting.tolerant {
                    return Ok(Step::Working);
                }
            }
            Step::End => {
                self.run(true)?;
                self.merge = Some(Merge::new(std::mem::take(&mut self.runs), &self.sorting)?);
            }
            other => return Ok(other),
        }
        let passed = self.skip.min(self.bad.len() as u64);
        self.skip -= passed;
        let mut bad = std::mem::take(&mut self.bad);
        bad.drain(..usize::try_from(passed).unwrap_or(0));
        if bad.is_empty() {
            return Ok(Step::Working);
        }
        for (record, bad) in bad.iter_mut().enumerate() {
            bad.record = record;
        }
        let rows = RecordBatch::new_empty(self.sorting.schema.clone());
        let decoded = Decoded { consumed: 0, records: bad.len(), rows, bad };
        Ok(Step::Rows(vec![Lot { decoded, line: 0, times: None }]))
    }

    fn add(&mut self, lot: Lot, by_record: bool) -> Result<()> {
        for mut bad in lot.decoded.bad {
            // From here on its number in the whole file, whatever it counts.
            bad.lines =
                usize::try_from(lot.line).unwrap_or(usize::MAX) + if by_record { bad.record } else { bad.lines };
            self.bad.push(bad);
        }
        self.bytes += lot.decoded.rows.get_array_memory_size();
        self.unsorted.push(lot.decoded.rows);
        if self.bytes >= self.sorting.most {
            self.run(false)?;
        }
        Ok(())
    }

    /// Sorts what there is into a run. The only run of a file may stay in memory, as long as there is room.
    fn run(&mut self, last: bool) -> Result<()> {
        let all = concat_batches(&self.sorting.schema, &self.unsorted).map_err(internal)?;
        self.unsorted.clear();
        self.bytes = 0;
        if all.num_rows() == 0 {
            return Ok(());
        }
        let times = event_time::times(all.column(self.sorting.column))?;
        let sorted = match times.iter().is_sorted() {
            true => all,
            false => take_record_batch(&all, &order(&times)).map_err(internal)?,
        };
        let bytes = sorted.get_array_memory_size();
        if last && self.runs.is_empty() {
            if self.sorting.kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.sorting.most {
                self.kept = bytes;
                self.runs.push(VecDeque::from([Part::Here(sorted)]));
                return Ok(());
            }
            self.sorting.kept.fetch_sub(bytes, Ordering::Relaxed);
        }
        // Parts of bounded size, one of each run in memory while they are merged.
        const PART: usize = 512 << 10;
        let rows = (PART * sorted.num_rows() / bytes.max(1)).clamp(64, 32 << 10);
        let mut parts = VecDeque::new();
        let mut from = 0;
        while from < sorted.num_rows() {
            let part = sorted.slice(from, rows.min(sorted.num_rows() - from));
            from += part.num_rows();
            parts.push_back(Part::There(self.sorting.put(&part)?));
        }
        self.runs.push(parts);
        Ok(())
    }

    fn merged(&mut self, most: usize) -> Result<Option<Decoded>> {
        let Some(merge) = &mut self.merge else { return Ok(None) };
        let rows = merge.next(most, &self.sorting)?;
        Ok(rows.map(|rows| Decoded { consumed: 0, records: rows.num_rows(), rows, bad: Vec::new() }))
    }
}

impl Drop for Sorted {
    fn drop(&mut self) {
        self.sorting.kept.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

/// The places of the rows in the order of their times; of equal ones the earlier first, and those without one before all.
fn order(times: &TimestampMicrosecondArray) -> UInt32Array {
    let mut places: Vec<u32> = (0..times.len() as u32).collect();
    places.sort_by_key(|place| {
        let place = *place as usize;
        times.is_valid(place).then(|| times.value(place))
    });
    places.into()
}

/// Runs on their way into one order.
struct Merge {
    runs: Vec<Run>,
    /// The next time of each run that has one, the least on top; of equal ones that of the earlier run.
    next: BinaryHeap<Reverse<(Option<i64>, usize)>>,
}

struct Run {
    parts: VecDeque<Part>,
    rows: RecordBatch,
    times: TimestampMicrosecondArray,
    row: usize,
}

impl Run {
    fn time(&self) -> Option<i64> {
        self.times.is_valid(self.row).then(|| self.times.value(self.row))
    }

    /// Goes to the next part; whether there is one.
    fn turn(&mut self, sorting: &Sorting) -> Result<bool> {
        let rows = match self.parts.pop_front() {
            None => return Ok(false),
            Some(Part::Here(rows)) => rows,
            Some(Part::There(place)) => sorting.get(place)?,
        };
        self.times = event_time::times(rows.column(sorting.column))?;
        self.rows = rows;
        self.row = 0;
        Ok(true)
    }
}

impl Merge {
    fn new(runs: Vec<VecDeque<Part>>, sorting: &Sorting) -> Result<Merge> {
        let mut merge = Merge { runs: Vec::new(), next: BinaryHeap::new() };
        for parts in runs {
            let rows = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
            let times = TimestampMicrosecondArray::from(Vec::<i64>::new());
            let mut run = Run { parts, rows, times, row: 0 };
            if run.turn(sorting)? && run.rows.num_rows() > 0 {
                merge.next.push(Reverse((run.time(), merge.runs.len())));
            }
            merge.runs.push(run);
        }
        Ok(merge)
    }

    /// At most `most` rows more.
    fn next(&mut self, most: usize, sorting: &Sorting) -> Result<Option<RecordBatch>> {
        let mut parts: Vec<RecordBatch> = self.runs.iter().map(|run| run.rows.clone()).collect();
        // Which of the parts each run is in.
        let mut places: Vec<usize> = (0..parts.len()).collect();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        while taken.len() < most {
            let Some(Reverse((_, number))) = self.next.pop() else { break };
            let run = &mut self.runs[number];
            // As long as no other run has an earlier row.
            loop {
                taken.push((places[number], run.row));
                run.row += 1;
                if run.row == run.rows.num_rows() {
                    if !run.turn(sorting)? {
                        break;
                    }
                    places[number] = parts.len();
                    parts.push(run.rows.clone());
                }
                let next = (run.time(), number);
                if taken.len() >= most || self.next.peek().is_some_and(|Reverse(other)| *other < next) {
                    self.next.push(Reverse(next));
                    break;
                }
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let parts: Vec<&RecordBatch> = parts.iter().collect();
        interleave_record_batch(&parts, &taken).map(Some).map_err(internal)
    }
}
