//! A connector in the hands of the test: sources that wait, fail, come back and end, and sinks that keep what they get and
//! can refuse it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use headwater::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use headwater::arrow::compute::cast;
use headwater::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use headwater::connectors::{
    Changes, Connector, Emission, Error, Guarantee, Offsets, Op, OptionSpec, OutputMode, Poll, Progress, Result, Sink,
    Source, SourceBatch, TableSpec,
};

use super::model::Rows;

/// The rows that a batch has at most, so that a stream takes several polls.
const BATCH: usize = 7;

/// A stream that can be read again from its beginning by any number of readers.
#[derive(Default)]
pub struct Stream {
    /// `ts, k, v`.
    pub rows: Vec<[i64; 3]>,
    pub ended: bool,
    /// It can't be opened.
    pub closed: bool,
    /// Reading it fails.
    pub failing: bool,
    /// Readers find nothing, and no end either.
    pub stalled: bool,
    /// Readers that go on, and those that end with what there is.
    pub following: usize,
    pub ending: usize,
}

/// What a sink got.
#[derive(Default)]
pub struct Record {
    /// The sum of a changelog, the last of complete results, or what was appended.
    pub rows: Rows,
    /// The row of each key, in update mode.
    keyed: BTreeMap<i64, Vec<i64>>,
    /// The next write is refused.
    pub refuse: bool,
    /// A write was refused.
    pub refused: bool,
    /// How many sinks are open.
    pub open: usize,
    pub writes: usize,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<u64, Stream>,
    records: BTreeMap<u64, Record>,
    sinks_closed: bool,
}

/// The connector `rig`. Clones are handles of one.
#[derive(Clone, Default)]
pub struct Rig(Arc<(Mutex<State>, Condvar)>);

impl Rig {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let out = act(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        out
    }

    /// Looks at or changes a stream.
    pub fn stream<T>(&self, id: u64, act: impl FnOnce(&mut Stream) -> T) -> T {
        self.with(|state| act(state.streams.entry(id).or_default()))
    }

    /// Looks at or changes what a sink got.
    pub fn record<T>(&self, id: u64, act: impl FnOnce(&mut Record) -> T) -> T {
        self.with(|state| act(state.records.entry(id).or_default()))
    }

    /// Whether sinks can't be opened.
    pub fn close_sinks(&self, closed: bool) {
        self.with(|state| state.sinks_closed = closed);
    }

    /// Sources and sinks that are open.
    pub fn open(&self) -> usize {
        self.with(|state| {
            let sources: usize = state.streams.values().map(|stream| stream.following + stream.ending).sum();
            sources + state.records.values().map(|record| record.open).sum::<usize>()
        })
    }

    /// Forgets everything that was read and written.
    pub fn clear(&self) {
        self.with(|state| *state = State::default());
    }
}

fn external(what: &str) -> Error {
    Error::External { message: what.to_owned(), retry: false }
}

fn id(spec: &TableSpec) -> u64 {
    spec.options.get("id").unwrap().parse().unwrap()
}

fn schema() -> SchemaRef {
    let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
    let numbers = ["k", "v"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new([vec![Field::new("ts", ts, true)], numbers.to_vec()].concat()))
}

/// Rows `ts, k, v` as the columns of `schema`, which may be without the time.
pub fn batch(schema: &SchemaRef, rows: &[[i64; 3]]) -> RecordBatch {
    let column = |i: usize| -> ArrayRef {
        match i {
            0 => Arc::new(rows.iter().map(|row| Some(row[0])).collect::<TimestampMicrosecondArray>()),
            _ => Arc::new(rows.iter().map(|row| Some(row[i])).collect::<Int64Array>()),
        }
    };
    let columns = (3 - schema.fields().len()..3).map(column).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// Rows as whole numbers: a window is its start, a time its microseconds.
pub fn numbers(batch: &RecordBatch) -> Vec<Vec<i64>> {
    let column = |array: &ArrayRef| {
        let array = match array.data_type() {
            DataType::Struct(_) => array.as_struct().column(0).clone(),
            _ => array.clone(),
        };
        let array = match array.data_type() {
            DataType::Timestamp(_, zone) => cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
            _ => Ok(array),
        };
        let array = cast(&array.unwrap(), &DataType::Int64).unwrap();
        assert_eq!(array.null_count(), 0, "a NULL that no query gives");
        array.as_primitive::<Int64Type>().values().to_vec()
    };
    let columns: Vec<_> = batch.columns().iter().map(column).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

/// Adds an emission's changes to what was there.
pub fn add(rows: &mut Rows, emission: &Emission) {
    for ((row, op), copies) in numbers(&emission.rows).into_iter().zip(&emission.ops).zip(&emission.counts) {
        let copies = i64::try_from(*copies).unwrap();
        let there = rows.entry(row.clone()).or_default();
        *there += if *op == Op::Delete { -copies } else { copies };
        if *there == 0 {
            rows.remove(&row);
        }
    }
}

impl Connector for Rig {
    fn name(&self) -> &'static str {
        "rig"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[OptionSpec { name: "id", aliases: &[], takes: "a number", default: None, help: "the stream or the record" }]
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Replayable
    }

    fn is_stream(&self, _: &TableSpec) -> bool {
        true
    }

    fn schema(&self, _: &TableSpec) -> Result<SchemaRef> {
        Ok(schema())
    }

    fn source(&self, spec: &TableSpec) -> Result<Box<dyn Source>> {
        let (id, bounded) = (id(spec), spec.reach.is_bounded());
        self.stream(id, |stream| {
            if stream.closed {
                return Err(external("the stream can't be opened"));
            }
            *(if bounded { &mut stream.ending } else { &mut stream.following }) += 1;
            Ok(())
        })?;
        Ok(Box::new(Reader { rig: self.clone(), id, bounded, at: 0, announced: false, split_ended: false }))
    }

    fn sink(&self, spec: &TableSpec, _: OutputMode) -> Result<Box<dyn Sink>> {
        let id = id(spec);
        if self.with(|state| state.sinks_closed) {
            return Err(external("the sink can't be opened"));
        }
        self.record(id, |record| record.open += 1);
        Ok(Box::new(Writer { rig: self.clone(), id }))
    }
}

struct Reader {
    rig: Rig,
    id: u64,
    bounded: bool,
    at: usize,
    announced: bool,
    split_ended: bool,
}

enum Found {
    Rows(Vec<[i64; 3]>),
    Nothing,
    End,
}

impl Reader {
    fn look(&self) -> Result<Found> {
        self.rig.stream(self.id, |stream| {
            if stream.failing {
                return Err(external("the stream fails"));
            }
            if stream.stalled {
                return Ok(Found::Nothing);
            }
            let rows: Vec<_> = stream.rows.iter().skip(self.at).take(BATCH).copied().collect();
            Ok(match rows.is_empty() {
                false => Found::Rows(rows),
                true if stream.ended || self.bounded => Found::End,
                true => Found::Nothing,
            })
        })
    }
}

impl Source for Reader {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(Poll::Split { split: 0, name: format!("stream {}", self.id), begins: None });
        }
        let until = Instant::now() + wait;
        loop {
            match self.look()? {
                Found::Rows(rows) => {
                    self.at += rows.len();
                    let (rows, offset) = (batch(&schema(), &rows), self.at as u64);
                    let changes = Changes::Each;
                    return Ok(Poll::Batch(SourceBatch {
                        split: 0,
                        rows,
                        diffs: None,
                        changes,
                        offset,
                        offsets: Offsets::Dense,
                        rejected: vec![],
                    }));
                }
                Found::End if std::mem::replace(&mut self.split_ended, true) => return Ok(Poll::End),
                Found::End => return Ok(Poll::SplitEnd(0)),
                Found::Nothing => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Poll::Idle);
            }
            let (state, changed) = &*self.rig.0;
            drop(changed.wait_timeout(state.lock().unwrap(), left).unwrap());
        }
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        self.at = positions.first().map_or(0, |(_, position)| *position as usize);
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.at as u64, ..Progress::default() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let bounded = self.bounded;
        self.rig.stream(self.id, |stream| *(if bounded { &mut stream.ending } else { &mut stream.following }) -= 1);
    }
}

struct Writer {
    rig: Rig,
    id: u64,
}

impl Sink for Writer {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        self.rig.record(self.id, |record| {
            if record.refuse {
                record.refused = true;
                return Err(external("the sink refuses"));
            }
            record.writes += 1;
            match emission.mode {
                OutputMode::Append | OutputMode::Changelog => add(&mut record.rows, emission),
                OutputMode::Complete => {
                    record.rows.clear();
                    add(&mut record.rows, emission);
                }
                OutputMode::Update => {
                    for (row, op) in numbers(&emission.rows).into_iter().zip(&emission.ops) {
                        match op {
                            Op::Delete => record.keyed.remove(&row[0]),
                            Op::Insert | Op::Upsert => record.keyed.insert(row[0], row),
                        };
                    }
                    record.rows = record.keyed.values().map(|row| (row.clone(), 1)).collect();
                }
            }
            Ok(())
        })
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.rig.record(self.id, |record| record.open -= 1);
    }
}
