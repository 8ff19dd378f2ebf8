//! Runs plans on given updates and compares them with what DataFusion computes at each time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_operators::arrange::Arrangement;
use headwater_operators::run_end::RunEnd;
use headwater_operators::time::Time;
use headwater_operators::{Payload, UpdateStream, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::{Input, Probe};
use timely::dataflow::operators::generic::Operator;

use super::{Inputs, RowError, render};
use crate::columns::Columns;
use crate::plan::catalog::TableMeta;
use crate::plan::{OnError, Plan, Purpose, Relation};
use crate::sql::Planner;

/// A table's schema and updates, in batches of ascending times.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<Updates<Columns>>,
}

impl Table {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Table { schema, batches: Vec::new() }
    }

    /// Adds the rows of a batch at one time.
    pub(crate) fn push(&mut self, batch: &RecordBatch, time: Time, diff: i64) {
        self.batches.push(Updates::uniform(Columns::from_batch(batch), time, diff));
    }

    /// The rows that are there at a time.
    fn at(&self, time: Time) -> RecordBatch {
        let mut counts: BTreeMap<String, (i64, RecordBatch)> = BTreeMap::new();
        for updates in &self.batches {
            let batch = updates.data.to_batch(&self.schema).unwrap();
            for (row, text) in rows(&updates.data).into_iter().enumerate() {
                if updates.times[row] <= time {
                    counts.entry(text).or_insert_with(|| (0, batch.slice(row, 1))).0 += updates.diffs[row];
                }
            }
        }
        let batches: Vec<_> =
            counts.into_values().flat_map(|(n, batch)| vec![batch; usize::try_from(n).unwrap()]).collect();
        concat_batches(&self.schema, &batches).unwrap()
    }
}

pub(crate) type Tables = BTreeMap<String, Table>;

/// The rows as text, comma-separated.
pub(crate) fn rows(data: &Columns) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = data.arrays.iter().map(|a| ArrayFormatter::try_new(a.as_ref(), &options).unwrap()).collect();
    (0..data.rows).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(",")).collect()
}

/// What a run gave: updates by time, consolidated.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Output {
    pub(crate) rows: BTreeMap<Time, BTreeMap<String, i64>>,
    pub(crate) errors: BTreeMap<Time, BTreeMap<RowError, i64>>,
}

pub(crate) fn consolidate<R: Ord>(updates: Vec<(Time, R, i64)>) -> BTreeMap<Time, BTreeMap<R, i64>> {
    let mut out: BTreeMap<Time, BTreeMap<R, i64>> = BTreeMap::new();
    for (time, row, diff) in updates {
        *out.entry(time).or_default().entry(row).or_default() += diff;
    }
    for rows in out.values_mut() {
        rows.retain(|_, diff| *diff != 0);
    }
    out.retain(|_, rows| !rows.is_empty());
    out
}

impl Output {
    /// The rows that are there at a time.
    pub(crate) fn at(&self, time: Time) -> BTreeMap<String, i64> {
        let mut out: BTreeMap<String, i64> = BTreeMap::new();
        for (row, diff) in self.rows.range(..=time).flat_map(|(_, rows)| rows) {
            *out.entry(row.clone()).or_default() += diff;
        }
        out.retain(|_, n| *n != 0);
        out
    }
}

/// Arrangements that dataflows of a worker share.
pub(crate) type Shared = Rc<RefCell<BTreeMap<(u64, Vec<usize>), Arrangement>>>;

/// Streams for relations, and arrangements.
pub(crate) struct Streams<'scope> {
    pub(crate) relations: BTreeMap<String, UpdateStream<'scope, Columns>>,
    pub(crate) as_of: Time,
    pub(crate) shared: Shared,
}

impl<'scope> Inputs<'scope> for Streams<'scope> {
    fn relation(&mut self, relation: &Relation) -> UpdateStream<'scope, Columns> {
        self.relations[relation.name()].clone()
    }
    fn as_of(&self) -> Time {
        self.as_of
    }
    fn run_end(&self) -> RunEnd {
        RunEnd::default()
    }
    fn arrangement(&mut self, collection: u64, key: &[usize]) -> Option<Arrangement> {
        self.shared.borrow().get(&(collection, key.to_vec())).cloned()
    }
    fn offer(&mut self, collection: u64, key: &[usize], arrangement: Arrangement) {
        self.shared.borrow_mut().insert((collection, key.to_vec()), arrangement);
    }
}

pub(crate) type Collected<R> = Rc<RefCell<Vec<(Time, R, i64)>>>;

/// Collects what a stream gives.
pub(crate) fn collect<'scope, D: Payload, R: Clone + 'static>(
    stream: UpdateStream<'scope, D>,
    into: Collected<R>,
    read: impl Fn(&D) -> Vec<R> + 'static,
) -> UpdateStream<'scope, D> {
    stream.unary::<CapacityContainerBuilder<Updates<D>>, _, _, _>(Pipeline, "collect", move |_, _| {
        move |input, _output| {
            input.for_each(|capability, updates| {
                assert!(updates.times.iter().all(|t| t >= capability.time()), "a record before its message's time");
                assert_eq!(updates.times.len(), updates.data.len());
                assert_eq!(updates.times.len(), updates.diffs.len());
                for (row, record) in read(&updates.data).into_iter().enumerate() {
                    into.borrow_mut().push((updates.times[row], record, updates.diffs[row]));
                }
            });
        }
    })
}

/// Runs a plan on `workers` workers, a round for each distinct time, each worker with its share of the rows.
pub(crate) fn run(plan: &Plan, tables: &Tables, workers: usize) -> Output {
    let (plan, tables) = (Arc::new(plan.clone()), Arc::new(tables.clone()));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let collected = Collected::default();
        let failed = Collected::default();
        let (mut handles, probe) = worker.dataflow::<Time, _, _>(|scope| {
            let mut handles = BTreeMap::new();
            let mut relations = BTreeMap::new();
            for name in tables.keys() {
                let (handle, stream) = scope.new_input::<Updates<Columns>>();
                handles.insert(name.clone(), handle);
                relations.insert(name.clone(), stream);
            }
            let rendered = render(&plan, scope, &mut Streams { relations, as_of: 0, shared: Shared::default() });
            let visible = plan.visible();
            let ok = collect(rendered.ok, collected.clone(), move |data: &Columns| {
                rows(&Columns { arrays: data.arrays[..visible.min(data.arrays.len())].to_vec(), rows: data.rows })
            });
            let errors = collect(rendered.errors, failed.clone(), |errors: &Vec<RowError>| errors.clone());
            let (probe, _) = ok.probe();
            errors.probe_with(&probe);
            (handles, probe)
        });
        let mut times: Vec<Time> =
            tables.values().flat_map(|t| t.batches.iter().flat_map(|b| b.times.clone())).collect();
        times.sort_unstable();
        times.dedup();
        for time in times {
            for (name, handle) in &mut handles {
                handle.advance_to(time);
                for updates in &tables[name].batches {
                    let mine: Vec<u32> = (0..updates.len() as u32)
                        .filter(|&row| updates.times[row as usize] == time && row as usize % peers == index)
                        .collect();
                    if !mine.is_empty() {
                        handle.send_batch(&mut updates.gather(&mine));
                    }
                }
            }
            handles.values_mut().for_each(|h| h.advance_to(time + 1));
            worker.step_while(|| probe.less_than(&(time + 1)));
        }
        drop(handles);
        worker.step_while(|| !probe.done());
        (collected.take(), failed.take())
    });
    let (mut collected, mut failed) = (Vec::new(), Vec::new());
    for result in guards.unwrap().join() {
        let (rows, errors) = result.unwrap();
        collected.extend(rows);
        failed.extend(errors);
    }
    Output { rows: consolidate(collected), errors: consolidate(failed) }
}

/// Plans a query over tables of which nothing is known but their columns.
pub(crate) fn plan(sql: &str, tables: &Tables) -> Plan {
    plan_with(sql, tables, |_| {})
}

/// Plans a query; `know` adds what is known of the tables.
pub(crate) fn plan_with(sql: &str, tables: &Tables, know: impl Fn(&mut TableMeta)) -> Plan {
    let mut planner = Planner::new();
    for (name, table) in tables {
        let mut meta = TableMeta {
            id: 0,
            name: name.clone(),
            schema: table.schema.clone(),
            event_time: None,
            bounded: false,
            reading_order: None,
            is_static: false,
            append_only: false,
            taken_back: false,
        };
        know(&mut meta);
        planner.register_table(meta);
    }
    let logical = planner.logical_from_sql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    planner.physical(&logical, Purpose::View, OnError::Fail).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// DataFusion's answers over the tables as they are at each of some times.
fn oracle(sql: &str, tables: &Tables, times: &[Time]) -> Vec<BTreeMap<String, i64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let answer = |&time: &Time| {
        for (name, table) in tables {
            let table = MemTable::try_new(table.schema.clone(), vec![vec![table.at(time)]]).unwrap();
            context.deregister_table(name.as_str()).unwrap();
            context.register_table(name.as_str(), Arc::new(table)).unwrap();
        }
        let batches = runtime.block_on(async { context.sql(sql).await.unwrap().collect().await }).unwrap();
        let mut out: BTreeMap<String, i64> = BTreeMap::new();
        for row in batches.iter().flat_map(|b| rows(&Columns::from_batch(b))) {
            *out.entry(row).or_default() += 1;
        }
        out
    };
    times.iter().map(answer).collect()
}

/// Runs a query on several numbers of workers and compares it with DataFusion (asked `expected`) at every time.
pub(crate) fn check_as(sql: &str, expected: &str, tables: &Tables, know: impl Fn(&mut TableMeta)) {
    let plan = plan_with(sql, tables, know);
    let output = run(&plan, tables, 1);
    assert_eq!(output.errors, BTreeMap::new(), "{sql}");
    let mut times: Vec<Time> = tables.values().flat_map(|t| t.batches.iter().flat_map(|b| b.times.clone())).collect();
    times.sort_unstable();
    times.dedup();
    for (time, expected) in times.iter().zip(oracle(expected, tables, &times)) {
        assert_eq!(output.at(*time), expected, "at {time}: {sql}");
    }
    for workers in [2, 3] {
        assert_eq!(run(&plan, tables, workers), output, "{workers} workers: {sql}");
    }
}

pub(crate) fn check(sql: &str, tables: &Tables) {
    check_as(sql, sql, tables, |_| {});
}
