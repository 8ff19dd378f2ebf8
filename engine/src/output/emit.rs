//! From a query's changes to emissions: only closed times, consolidated, in the words of an output mode.
//!
//! Input: the changes that the workers send, at any times not before their frontiers. An emission at frontier `f` holds
//! everything that changed at times before `f` and after the last emission. While an error row is in the view nothing is
//! emitted; what changed meanwhile follows once the view has healed.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, lexsort_to_indices};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use headwater_connectors::{Emission, Op, OutputMode};
use headwater_operators::time::{SINCE_EVER, STREAM_START, Time, to_micros};
use headwater_operators::{Updates, keyed};

use crate::columns::{Columns, FULL};
use crate::error::{Error, Result};
use crate::plan::{AnyRows, Order, Plan};
use crate::render::RowError;
use crate::worker::Changes;

/// What an emitter must know of a plan.
#[derive(Clone)]
pub(crate) struct Shape {
    /// The columns of the dataflow's rows: those of the answer, then ones that only order it or say when it is final.
    rows: SchemaRef,
    /// The columns of the answer.
    schema: SchemaRef,
    /// Whether the changes at one time are already consolidated.
    consolidated: bool,
    /// Columns that identify a row.
    key: Option<Vec<usize>>,
    /// The order of a whole result.
    presentation: Vec<Order>,
    /// Where any rows will do: which.
    any: Option<AnyRows>,
}

impl Shape {
    /// The shape of a plan's answer.
    pub fn of(plan: &Plan) -> Self {
        let root = &plan.nodes[plan.root];
        let visible = plan.visible();
        Shape {
            rows: root.schema.clone(),
            schema: plan.schema.clone(),
            consolidated: plan.root_is_consolidated() && visible == root.schema.fields().len(),
            key: root.properties.key.clone().filter(|key| key.iter().all(|column| *column < visible)),
            presentation: plan.presentation.clone(),
            any: plan.any,
        }
    }
}

/// Rows to give out, before they become an emission.
#[derive(Default)]
struct Given {
    rows: Vec<Columns>,
    ops: Vec<Op>,
    counts: Vec<u64>,
    times: Vec<i64>,
}

/// Turns a query's output into emissions of one mode.
pub(crate) struct Emitter {
    mode: OutputMode,
    shape: Shape,
    /// How many columns rows have in here.
    width: usize,
    converter: RowConverter,
    keys: RowConverter,
    frontiers: Vec<Option<Time>>,
    emitted: Option<Time>,
    /// The frontier at which an error held everything back.
    held: Option<Time>,
    /// Emissions so far.
    steps: u64,
    pending: Vec<Updates<Columns>>,
    pending_errors: Vec<(RowError, Time, i64)>,
    errors: BTreeMap<RowError, i64>,
    /// Complete mode: the whole result.
    result: BTreeMap<Vec<u8>, i64>,
}

fn converter(schema: &SchemaRef, columns: impl Iterator<Item = usize>) -> Result<RowConverter> {
    let fields = columns.map(|c| SortField::new(schema.field(c).data_type().clone())).collect();
    RowConverter::new(fields).map_err(Error::from)
}

impl Emitter {
    /// An emitter for the output of `workers` workers.
    pub fn new(mode: OutputMode, shape: Shape, workers: usize) -> Result<Self> {
        // What tells rows apart: where the hidden columns are of no use they are dropped at once.
        let width = match mode {
            OutputMode::Append | OutputMode::Complete => shape.rows.fields().len(),
            OutputMode::Update | OutputMode::Changelog => shape.schema.fields().len(),
        };
        let key: Vec<usize> = shape.key.clone().unwrap_or_else(|| (0..width).collect());
        Ok(Emitter {
            mode,
            width,
            converter: converter(&shape.rows, 0..width)?,
            keys: converter(&shape.rows, key.iter().copied())?,
            shape,
            frontiers: vec![Some(SINCE_EVER); workers],
            emitted: Some(SINCE_EVER),
            held: None,
            steps: 0,
            pending: Vec::new(),
            pending_errors: Vec::new(),
            errors: BTreeMap::new(),
            result: BTreeMap::new(),
        })
    }

    /// Says from when on the answers hold; nothing is emitted before.
    pub fn begin(&mut self, as_of: Time) {
        self.frontiers.fill(Some(as_of));
        self.emitted = Some(as_of);
    }

    /// Takes changes that a worker sent.
    pub fn absorb(&mut self, changes: Changes) {
        let Changes { worker, updates, errors, frontier } = changes;
        self.pending.extend(updates.into_iter().filter(|u| !u.is_empty()).map(|mut u| {
            u.data.arrays.truncate(self.width);
            u
        }));
        self.pending_errors.extend(errors);
        self.frontiers[worker] = frontier;
    }

    /// The frontier of the output: all times before it are closed; `None` at the end.
    pub fn frontier(&self) -> Option<Time> {
        self.frontiers.iter().flatten().min().copied()
    }

    /// Whether the frontier has moved since the last emission, and since an error held it back.
    pub fn ready(&self) -> bool {
        let frontier = self.frontier();
        frontier != self.emitted && (frontier.is_none() || frontier != self.held) && !self.has_nothing_yet()
    }

    /// Whether no row of a stream can have come and nothing is there without one.
    fn has_nothing_yet(&self) -> bool {
        let since_ever = |time: &Time| *time == SINCE_EVER;
        self.frontier() == Some(STREAM_START)
            && !self.pending.iter().any(|updates| updates.times.iter().any(since_ever))
            && !self.pending_errors.iter().any(|(_, time, _)| since_ever(time))
    }

    /// Whether everything there will ever be was emitted.
    pub fn done(&self) -> bool {
        self.emitted.is_none()
    }

    /// The error that holds the view, if any.
    pub fn error(&self) -> Option<&RowError> {
        self.errors.keys().next()
    }

    /// Whether rows enough have come for an answer of which any will do.
    pub fn has_enough(&self) -> bool {
        let rows = || self.pending.iter().flat_map(|updates| &updates.diffs).sum::<i64>();
        self.shape.any.is_some_and(|any| usize::try_from(rows()).unwrap_or(0) >= any.offset.saturating_add(any.limit))
    }

    /// Everything closed and not yet emitted. `None` while the view is in error.
    ///
    /// Errors: the end of the input with errors in the view; a negative multiplicity; a retraction in append mode; more
    /// text than one batch holds.
    pub fn emit(&mut self) -> Result<Option<Emission>> {
        let mut frontier = self.frontier();
        if self.has_enough() {
            // Nothing that comes takes back what is here, and a row in error that was read beside it is not of it.
            self.pending_errors.clear();
            frontier = None;
        }
        self.apply_errors(frontier);
        if let Some(error) = self.errors.keys().next() {
            if frontier.is_none() {
                return Err(Error::data(format!("{error}")));
            }
            self.held = frontier;
            return Ok(None);
        }
        let closed = self.take_closed(frontier);
        self.emitted = frontier;
        let given = match self.mode {
            OutputMode::Changelog => self.changelog(closed)?,
            OutputMode::Append => self.appended(closed)?,
            OutputMode::Update => self.upserts(closed)?,
            OutputMode::Complete => self.complete(closed, frontier)?,
        };
        let mut rows = Columns::answer(&given.rows.iter().collect::<Vec<_>>(), &self.shape.rows)?;
        rows.arrays.truncate(self.shape.schema.fields().len());
        let rows = if given.ops.is_empty() {
            RecordBatch::new_empty(self.shape.schema.clone())
        } else {
            rows.to_batch(&self.shape.schema)?
        };
        let step = self.steps;
        self.steps += 1;
        Ok(Some(Emission {
            step,
            mode: self.mode,
            frontier: frontier.map(to_micros),
            rows,
            ops: given.ops,
            counts: given.counts,
            times: given.times,
        }))
    }

    fn apply_errors(&mut self, frontier: Option<Time>) {
        let open = |time: &Time| frontier.is_some_and(|f| *time >= f);
        let (kept, closed): (Vec<_>, Vec<_>) = self.pending_errors.drain(..).partition(|(_, time, _)| open(time));
        self.pending_errors = kept;
        for (error, _, diff) in closed {
            let count = self.errors.entry(error).or_default();
            *count += diff;
        }
        self.errors.retain(|_, count| *count != 0);
    }

    fn take_closed(&mut self, frontier: Option<Time>) -> Vec<Updates<Columns>> {
        let Some(frontier) = frontier else { return std::mem::take(&mut self.pending) };
        let mut closed = Vec::new();
        for updates in std::mem::take(&mut self.pending) {
            let open = updates.times.iter().filter(|t| **t >= frontier).count();
            if open == 0 {
                closed.push(updates);
            } else if open == updates.len() {
                self.pending.push(updates);
            } else {
                let (later, now): (Vec<u32>, Vec<u32>) =
                    (0..updates.len() as u32).partition(|&i| updates.times[i as usize] >= frontier);
                closed.push(updates.gather(&now));
                self.pending.push(updates.gather(&later));
            }
        }
        closed
    }

    /// Sums the diffs of equal rows at equal times (at all times, if not `by_time`), in order of time, then row.
    fn consolidate(&self, closed: Vec<Updates<Columns>>, by_time: bool) -> Result<Updates<Columns>> {
        let all = self.joined(&closed)?;
        if all.is_empty() {
            return Ok(all);
        }
        let rows = self.converter.convert_columns(&all.data.arrays)?;
        let time = |i: usize| if by_time { all.times[i] } else { 0 };
        let hashes: Vec<u64> = (0..all.len()).map(|i| keyed::hash(rows.row(i).data())).collect();
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            (time(a), hashes[a]).cmp(&(time(b), hashes[b])).then_with(|| rows.row(a).cmp(&rows.row(b)))
        });
        let mut kept = Vec::new();
        let mut diffs = Vec::new();
        let mut start = 0;
        while start < order.len() {
            let first = order[start] as usize;
            let mut sum = 0;
            let mut end = start;
            while end < order.len() {
                let i = order[end] as usize;
                if time(i) != time(first) || hashes[i] != hashes[first] || rows.row(i) != rows.row(first) {
                    break;
                }
                sum += all.diffs[i];
                end += 1;
            }
            if sum != 0 {
                kept.push(first as u32);
                diffs.push(sum);
            }
            start = end;
        }
        Ok(Updates { diffs, ..all.gather(&kept) })
    }

    fn joined(&self, closed: &[Updates<Columns>]) -> Result<Updates<Columns>> {
        Ok(Updates {
            data: Columns::answer(&closed.iter().map(|updates| &updates.data).collect::<Vec<_>>(), &self.shape.rows)?,
            times: closed.iter().flat_map(|updates| updates.times.iter().copied()).collect(),
            diffs: closed.iter().flat_map(|updates| updates.diffs.iter().copied()).collect(),
        })
    }

    /// Changes in order of time, and at each time first the rows that leave: applied one after another they are right.
    fn changelog(&self, closed: Vec<Updates<Columns>>) -> Result<Given> {
        let closed = self.changes(closed)?;
        let place = |updates: &Updates<Columns>, row: usize| (updates.times[row], updates.diffs[row] > 0);
        let places = closed.iter().flat_map(|updates| (0..updates.len()).map(move |row| place(updates, row)));
        if places.is_sorted() {
            return Ok(Self::given(closed));
        }
        let all = self.joined(&closed)?;
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.sort_by_key(|row| place(&all, *row as usize));
        Ok(Self::given(vec![all.gather(&order)]))
    }

    /// What changed at each time, in any order.
    fn changes(&self, closed: Vec<Updates<Columns>>) -> Result<Vec<Updates<Columns>>> {
        let plain = self.shape.consolidated || closed.iter().all(|u| u.diffs.iter().all(|d| *d > 0));
        if plain { Ok(closed) } else { Ok(vec![self.consolidate(closed, true)?]) }
    }

    fn given(closed: Vec<Updates<Columns>>) -> Given {
        let mut given = Given::default();
        for updates in closed {
            given.ops.extend(updates.diffs.iter().map(|d| if *d > 0 { Op::Insert } else { Op::Delete }));
            given.counts.extend(updates.diffs.iter().map(|d| d.unsigned_abs()));
            given.times.extend(updates.times.iter().map(|t| to_micros(*t)));
            given.rows.push(updates.data);
        }
        given
    }

    fn appended(&self, closed: Vec<Updates<Columns>>) -> Result<Given> {
        let given = Self::given(self.changes(closed)?);
        if given.ops.contains(&Op::Delete) {
            return Err(Error::data(
                "a row that append mode has already written was retracted: the source deletes or updates rows; \
                 use the output mode 'update', 'complete' or 'changelog'",
            ));
        }
        Ok(given)
    }

    fn upserts(&mut self, closed: Vec<Updates<Columns>>) -> Result<Given> {
        let last = closed.iter().flat_map(|u| u.times.iter().copied()).max().unwrap_or(SINCE_EVER);
        let net = self.consolidate(closed, false)?;
        if net.is_empty() {
            return Ok(Given::default());
        }
        let key: Vec<ArrayRef> = match &self.shape.key {
            Some(key) => key.iter().map(|&c| net.data.arrays[c].clone()).collect(),
            None => net.data.arrays.clone(),
        };
        let keys = self.keys.convert_columns(&key)?;
        let mut by_key: BTreeMap<&[u8], (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for i in 0..net.len() {
            // The only row of a global aggregate has no key columns.
            let key = if key.is_empty() { &[] } else { keys.row(i).data() };
            let (arrived, left) = by_key.entry(key).or_default();
            if net.diffs[i] > 0 { arrived.push(i as u32) } else { left.push(i as u32) }
        }
        let mut given = Given::default();
        let mut indices = Vec::new();
        for (arrived, left) in by_key.into_values() {
            let (op, rows) = match (arrived.is_empty(), left.is_empty()) {
                (true, _) => (Op::Delete, left),
                (false, true) => (Op::Insert, arrived),
                (false, false) => (Op::Upsert, arrived),
            };
            for i in rows {
                given.ops.push(op);
                given.counts.push(net.diffs[i as usize].unsigned_abs());
                given.times.push(to_micros(last));
                indices.push(i);
            }
        }
        given.rows = vec![net.data.pick(&indices, &self.shape.rows)?];
        Ok(given)
    }

    fn complete(&mut self, closed: Vec<Updates<Columns>>, frontier: Option<Time>) -> Result<Given> {
        for updates in &closed {
            let rows = self.converter.convert_columns(&updates.data.arrays)?;
            for i in 0..updates.len() {
                let row = rows.row(i).data();
                match self.result.get_mut(row) {
                    Some(count) => *count += updates.diffs[i],
                    None => {
                        self.result.insert(row.to_vec(), updates.diffs[i]);
                    }
                }
            }
        }
        self.result.retain(|_, count| *count != 0);
        if self.result.values().any(|count| *count < 0) {
            return Err(Error::data("a row was retracted more often than it was inserted"));
        }
        let (rows, counts): (Vec<_>, Vec<u64>) = match self.shape.any {
            None => self.result.iter().map(|(row, count)| (row.clone(), count.unsigned_abs())).unzip(),
            Some(any) => cut(&self.result, any),
        };
        let columns = self.decode(&rows)?;
        let order = presentation_order(&columns, &self.shape.presentation)?;
        let time = to_micros(frontier.map_or(Time::MAX, |f| f.saturating_sub(1)));
        let given = match order {
            None => Given { rows: vec![columns], counts, ..Given::default() },
            Some(order) => Given {
                counts: order.iter().map(|&i| counts[i as usize]).collect(),
                rows: vec![columns.pick(&order, &self.shape.rows)?],
                ..Given::default()
            },
        };
        Ok(Given { ops: vec![Op::Insert; rows.len()], times: vec![time; rows.len()], ..given })
    }

    fn decode(&self, rows: &[Vec<u8>]) -> Result<Columns> {
        let parser = self.converter.parser();
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (place, row) in rows.iter().enumerate() {
            // The columns of text in a batch have offsets of 32 bits.
            if place > start && bytes + row.len() > FULL {
                parts.push(start..place);
                (start, bytes) = (place, 0);
            }
            bytes += row.len();
        }
        parts.push(start..rows.len());
        let decode = |part: std::ops::Range<usize>| -> Result<Columns> {
            let count = part.len();
            let arrays = self.converter.convert_rows(rows[part].iter().map(|row| parser.parse(row)))?;
            Ok(Columns { arrays, rows: count })
        };
        let parts = parts.into_iter().map(decode).collect::<Result<Vec<_>>>()?;
        match <[Columns; 1]>::try_from(parts) {
            Ok([whole]) => Ok(whole),
            Err(parts) => Columns::answer(&parts.iter().collect::<Vec<_>>(), &self.shape.rows),
        }
    }
}

/// The rows of an answer of which any will do, with how often each is there.
fn cut(result: &BTreeMap<Vec<u8>, i64>, any: AnyRows) -> (Vec<Vec<u8>>, Vec<u64>) {
    let (mut skip, mut left) = (any.offset as u64, any.limit as u64);
    let kept = result.iter().map(|(row, count)| {
        let skipped = count.unsigned_abs().min(skip);
        let copies = (count.unsigned_abs() - skipped).min(left);
        (skip, left) = (skip - skipped, left - copies);
        (row.clone(), copies)
    });
    kept.filter(|(_, copies)| *copies > 0).unzip()
}

/// The order in which to show rows: the plan's, ties by all columns; `None` to leave them.
fn presentation_order(columns: &Columns, presentation: &[Order]) -> Result<Option<Vec<u32>>> {
    if presentation.is_empty() || columns.rows == 0 {
        return Ok(None);
    }
    let given =
        presentation.iter().map(|o| SortColumn { values: columns.arrays[o.column].clone(), options: Some(o.options) });
    let rest = columns.arrays.iter().filter(|a| sortable(a.data_type()));
    let sort: Vec<_> = given.chain(rest.map(|a| SortColumn { values: a.clone(), options: None })).collect();
    Ok(Some(lexsort_to_indices(&sort, None)?.values().to_vec()))
}

fn sortable(data_type: &DataType) -> bool {
    !data_type.is_nested()
}
