//! Storage cores side by side: what decision 0001 rests on.
//!
//! ```text
//! cargo run --release -p headwater-benchmarks --bin storage -- [ROWS] [ROUNDS] [ONLY]
//! ```
//!
//! One worker. Two jobs, each by every storage, in one run: a count per 24-byte key in rounds of 40,000 updates, each
//! round's changes emitted before the next; and a join of two tables of `(u64, u64)` rows, read at once and then changed by
//! rounds of 1,000 rows. Prints times, the longest single step of the worker, and the bytes allocated that live on
//! when the tables are read. ONLY is a part of the name of the storages to run.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use differential_dataflow::columnar::trace as columnar;
use differential_dataflow::difference::Semigroup;
use differential_dataflow::operators::CountTotal;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::trace::chunk::vec as vec_chunk;
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::chunker::ContainerChunker;
use differential_dataflow::trace::implementations::{
    KeyBatcher, KeyBuilder, KeySpine, ValBatcher, ValBuilder, ValSpine,
};
use differential_dataflow::trace::{BatchCursor, BatchDiff, BatchKey, BatchReader, Cursor, Navigable, TraceReader};
use headwater_operators::arrange::{Arrangement, arrange};
use headwater_operators::join::join;
use headwater_operators::table::KeyTable;
use headwater_operators::{Keyed, Rows, Updates};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Input, InspectCore, Probe};
use timely::dataflow::{ProbeHandle, Scope, Stream};
use timely::progress::Antichain;

/// The allocator of the benchmarks, with a count of the bytes that live.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static INNER: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(unsafe_code, reason = "an allocator can't be written without; every call is passed on as it came")]
// SAFETY: the calls go to the inner allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { INNER.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { INNER.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { INNER.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// The `index`-th of a sequence of numbers that looks random and repeats nothing.
fn scrambled(index: u64) -> u64 {
    let mut x = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key24(key: u64) -> [u8; 24] {
    let mut bytes = *b"customer-0000-..........";
    bytes[14..22].copy_from_slice(&scrambled(key).to_be_bytes());
    bytes
}

/// A value as the engine encodes it: a byte that says it is there, and its bytes.
fn encoded(value: u64) -> [u8; 9] {
    let mut bytes = [1; 9];
    bytes[1..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// What a run measured.
#[derive(Clone, Default)]
struct Measured {
    hydrate: Duration,
    stall: Duration,
    bytes: usize,
    rounds: Vec<Duration>,
    changes: usize,
}

impl Measured {
    fn quantile(&self, part: f64) -> Duration {
        let mut rounds = self.rounds.clone();
        rounds.sort_unstable();
        rounds.get(((rounds.len() as f64 - 1.0) * part) as usize).copied().unwrap_or_default()
    }
}

type Table<C> = Handle<u64, CapacityContainerBuilder<C>>;

/// Feeds two tables, closes time 0, and then feeds rounds into the first.
fn drive<C: timely::Container + Clone>(
    hydration: impl FnOnce() -> [Vec<C>; 2] + Send + Sync + 'static,
    rounds: u64,
    round: impl Fn(u64) -> C + Send + Sync + 'static,
    build: impl for<'s> FnOnce(Scope<'s, u64>, Stream<'s, u64, C>, Stream<'s, u64, C>, Rc<Cell<usize>>) -> ProbeHandle<u64>
    + Send
    + Sync
    + 'static,
    finish: impl Fn(&mut C) + Send + Sync + 'static,
) -> Measured {
    timely::execute_directly(move |worker| {
        let changes = Rc::new(Cell::new(0));
        let counter = changes.clone();
        let mut measured = Measured::default();
        let (mut inputs, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (one, left) = scope.new_input();
            let (two, right) = scope.new_input();
            ([one, two], build(scope, left, right, counter))
        });
        let held = live();
        let hydration = hydration();
        let start = Instant::now();
        let step = |worker: &mut timely::worker::Worker, stall: &mut Duration| {
            let start = Instant::now();
            worker.step();
            *stall = (*stall).max(start.elapsed());
        };
        for (input, batches) in inputs.iter_mut().zip(hydration) {
            for mut batch in batches {
                finish(&mut batch);
                input.send_batch(&mut batch);
                drop(batch);
                step(worker, &mut measured.stall);
            }
        }
        let advance =
            |inputs: &mut [Table<C>; 2], time: u64| inputs.iter_mut().for_each(|input| input.advance_to(time));
        advance(&mut inputs, 1);
        while probe.less_than(&1) {
            step(worker, &mut measured.stall);
        }
        measured.hydrate = start.elapsed();
        // Let what is still merging settle.
        for _ in 0..50 {
            worker.step();
        }
        measured.bytes = live().saturating_sub(held);
        for number in 0..rounds {
            let mut batch = round(number);
            let start = Instant::now();
            finish(&mut batch);
            inputs[0].send_batch(&mut batch);
            let time = number + 2;
            advance(&mut inputs, time);
            while probe.less_than(&time) {
                worker.step();
            }
            measured.rounds.push(start.elapsed());
        }
        measured.changes = changes.get();
        measured
    })
}

fn count_changes<'s, C: timely::Container>(stream: Stream<'s, u64, C>, counter: Rc<Cell<usize>>) -> ProbeHandle<u64> {
    let (probe, _) = stream
        .inspect_container(move |event| {
            if let Ok((_, batch)) = event {
                counter.set(counter.get() + batch.record_count() as usize);
            }
        })
        .probe();
    probe
}

const BATCH: u64 = 40_000;

fn batches<C>(rows: u64, make: impl Fn(std::ops::Range<u64>) -> C) -> Vec<C> {
    (0..rows.div_ceil(BATCH)).map(|b| make(b * BATCH..rows.min((b + 1) * BATCH))).collect()
}

fn rows_of(range: std::ops::Range<u64>, time: u64, row: impl Fn(u64) -> (Vec<u8>, Vec<u8>)) -> Updates<Keyed<Rows>> {
    let (mut keys, mut vals) = (Rows::default(), Rows::default());
    for index in range {
        let (key, val) = row(index);
        keys.push(&key);
        vals.push(&val);
    }
    let len = keys.len();
    // Hashed when it is fed: a part of the job.
    let data = Keyed { hashes: vec![0; len], keys, buckets: Vec::new(), vals };
    Updates { data, times: vec![time; len], diffs: vec![1; len] }
}

fn hash_keys(batch: &mut Updates<Keyed<Rows>>) {
    let keys = std::mem::take(&mut batch.data.keys);
    let vals = std::mem::take(&mut batch.data.vals);
    batch.data = Keyed::new(keys, vals);
}

// Rows of the join's tables: both hold each key once.
fn left(index: u64) -> (u64, u64) {
    (scrambled(index), index)
}
fn right(rows: u64) -> impl Fn(u64) -> (u64, u64) + Copy {
    move |index| (scrambled((index * 7919 + 13) % rows), index)
}
/// A row of a round: a key that is there, a new value.
fn fresh(rows: u64, round: u64, index: u64) -> (u64, u64) {
    (scrambled(scrambled(round * 1_000_003 + index) % rows), rows + round * 1000 + index)
}

type VecUpdates<K, V> = Vec<((K, V), u64, isize)>;

fn typed<K, V>(rows: u64, make: impl Fn((u64, u64)) -> (K, V)) -> [Vec<VecUpdates<K, V>>; 2] {
    let table = |row: &dyn Fn(u64) -> (u64, u64)| batches(rows, |range| range.map(|i| (make(row(i)), 0, 1)).collect());
    [table(&left), table(&right(rows))]
}

macro_rules! typed_join {
    ($rows:expr, $rounds:expr, $make:expr, $chunker:ty, $batcher:ty, $builder:ty, $spine:ty, $emit:expr) => {{
        let rows = $rows;
        drive(
            move || typed(rows, $make),
            $rounds,
            move |round| (0..1000).map(|i| ($make(fresh(rows, round, i)), round + 1, 1)).collect(),
            |_, left, right, counter| {
                let left = arrange_core::<_, _, $chunker, $batcher, $builder, $spine>(left, Pipeline, "left");
                let right = arrange_core::<_, _, $chunker, $batcher, $builder, $spine>(right, Pipeline, "right");
                count_changes(left.join_core(right, $emit).inner, counter)
            },
            |_| {},
        )
    }};
}

fn join_ours(rows: u64, rounds: u64) -> (Measured, String) {
    let bytes = |(key, val): (u64, u64)| (encoded(key).to_vec(), encoded(val).to_vec());
    let tables = move || {
        [
            batches(rows, |range| rows_of(range, 0, |i| bytes(left(i)))),
            batches(rows, |range| rows_of(range, 0, |i| bytes(right(rows)(i)))),
        ]
    };
    let state = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let measured = drive(
        tables,
        rounds,
        move |round| rows_of(0..1000, round + 1, |i| bytes(fresh(rows, round, i))),
        |_, left, right, counter| {
            let (left, right) = (arrange(left, "left"), arrange(right, "right"));
            count_changes(join(left, right, "join"), counter)
        },
        hash_keys,
    );
    // The arrangement on its own, to measure its state.
    let slot = state.clone();
    timely::execute_directly(move |worker| {
        let (mut input, mut handle, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input();
            let arranged = arrange(stream, "rows");
            let (probe, _) = arranged.stream.clone().probe();
            (input, Arrangement::new(&arranged), probe)
        });
        for mut batch in batches(rows, |range| rows_of(range, 0, |i| bytes(left(i)))) {
            hash_keys(&mut batch);
            input.send_batch(&mut batch);
        }
        input.advance_to(1);
        worker.step_while(|| probe.less_than(&1));
        handle.allow_compaction(0);
        if let Ok(mut state) = slot.lock() {
            *state = format!("{:.1} bytes a row", handle.state_bytes() as f64 / handle.rows() as f64);
        }
    });
    let state = state.lock().map(|state| state.clone()).unwrap_or_default();
    (measured, state)
}

/// A count per key over any arrangement of unit values, in total order: what `count_total` does, without its demands
/// on the key.
fn count<'s, Tr, KC>(
    arranged: Arranged<'s, Tr>,
    mut emit: impl FnMut(BatchKey<'_, Tr>, i64, &mut Vec<u8>) + 'static,
) -> Stream<'s, u64, Vec<(u64, i64, isize)>>
where
    Tr: TraceReader<Time = u64, Batch: Navigable> + Clone + 'static,
    BatchCursor<Tr>: Cursor<Time = u64, KeyContainer = KC>,
    BatchDiff<Tr>: Semigroup + Into<i64>,
{
    let mut trace = arranged.trace.clone();
    arranged.stream.unary_frontier::<CapacityContainerBuilder<Vec<(u64, i64, isize)>>, _, _, _>(
        Pipeline,
        "Count",
        move |_, _| {
            let mut upper = Antichain::from_elem(0);
            let mut keys = Vec::new();
            move |(input, _), output| {
                input.for_each(|capability, batches| {
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        let lower = upper.clone();
                        upper.clone_from(batch.upper());
                        let (mut cursor, storage) = cursor_list(vec![batch]);
                        let Some((mut old, old_storage)) = trace.cursor_through(lower.borrow()) else { continue };
                        while let Some(key) = cursor.get_key(&storage) {
                            let mut sum = 0;
                            old.seek_key(&old_storage, key);
                            if old.get_key(&old_storage) == Some(key) {
                                while old.val_valid(&old_storage) {
                                    old.map_times(&old_storage, |_, diff| {
                                        sum += BatchCursor::<Tr>::owned_diff(diff).into();
                                    });
                                    old.step_val(&old_storage);
                                }
                            }
                            while cursor.val_valid(&storage) {
                                cursor.map_times(&storage, |time, diff| {
                                    let time = BatchCursor::<Tr>::owned_time(time);
                                    if sum != 0 {
                                        session.give((time, sum, -1));
                                    }
                                    sum += BatchCursor::<Tr>::owned_diff(diff).into();
                                    session.give((time, sum, 1));
                                });
                                cursor.step_val(&storage);
                            }
                            emit(key, sum, &mut keys);
                            cursor.step_key(&storage);
                        }
                        keys.clear();
                    }
                });
                trace.advance_upper(&mut upper);
                trace.set_logical_compaction(upper.borrow());
                trace.set_physical_compaction(upper.borrow());
            }
        },
    )
}

/// The count by [`count`] over row chunks.
fn count_rows(rows: u64, keys: u64) -> Duration {
    let key_of = move |index: u64| (key24(scrambled(index) % keys).to_vec(), Vec::new());
    let measured = drive(
        || [vec![], vec![]],
        rows / BATCH,
        move |r| rows_of(r * BATCH..(r + 1) * BATCH, r + 1, key_of),
        |_, left, _, counter| {
            let arranged = arrange(left, "rows");
            count_changes(count(arranged, |key, _, out| out.extend_from_slice(key.bytes)), counter)
        },
        hash_keys,
    );
    measured.rounds.iter().sum()
}

/// The count in a private hash table, each round's changed keys emitted with their old and new count.
fn count_table(rows: u64, keys: u64) -> Duration {
    let key_of = move |index: u64| (key24(scrambled(index) % keys).to_vec(), Vec::new());
    let rounds: Vec<_> = (0..rows / BATCH).map(|r| rows_of(r * BATCH..(r + 1) * BATCH, r + 1, key_of)).collect();
    let mut table = KeyTable::default();
    let (mut counts, mut touched, mut groups) = (Vec::<i64>::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    for mut round in rounds {
        hash_keys(&mut round);
        groups.clear();
        let all: Vec<u32> = (0..round.len() as u32).collect();
        table.lookup_or_insert(&round.data.hashes, &round.data.keys, &all, &mut groups);
        counts.resize(table.groups(), 0);
        let before = counts.clone();
        touched.clear();
        for &group in &groups {
            if counts[group as usize] == before[group as usize] {
                touched.push(group);
            }
            counts[group as usize] += 1;
        }
        let mut out = (Rows::default(), Vec::new());
        for &group in &touched {
            out.0.push(table.key(group));
            out.1.push((before[group as usize], counts[group as usize]));
        }
        std::hint::black_box(out);
    }
    start.elapsed()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|a| a.replace('_', "").parse::<u64>().ok());
    let rows = number().unwrap_or(2_000_000);
    let rounds = number().unwrap_or(300);
    let only = arguments.next().unwrap_or_default();
    println!("{rows} rows; one worker; {} cores", std::thread::available_parallelism().map_or(0, usize::from));
    println!("\njoin of two tables of (u64, u64), then {rounds} rounds of 1,000 rows");
    joins(rows, rounds, &only);
    println!("\ncount per 24-byte key, {} keys, rounds of {BATCH} updates", rows / 10);
    counts(rows, rows / 10, &only);
}

fn joins(rows: u64, rounds: u64, only: &str) {
    let mut results: Vec<(&str, Measured, String)> = Vec::new();
    macro_rules! case {
        ($name:expr, $run:expr) => {
            if $name.contains(only) {
                results.push(($name, $run, String::new()));
            }
        };
    }
    let u64s = |row: (u64, u64)| row;
    case!(
        "differential, OrdVal spine, u64",
        typed_join!(
            rows,
            rounds,
            u64s,
            ContainerChunker<VecUpdates<u64, u64>>,
            ValBatcher<u64, u64, u64, isize>,
            ValBuilder<u64, u64, u64, isize>,
            ValSpine<u64, u64, u64, isize>,
            |k: &u64, a: &u64, b: &u64| Some((*k, *a, *b))
        )
    );
    let heap = |(key, val): (u64, u64)| (encoded(key).to_vec(), encoded(val).to_vec());
    case!(
        "differential, OrdVal spine, Vec<u8>",
        typed_join!(
            rows,
            rounds,
            heap,
            ContainerChunker<VecUpdates<Vec<u8>, Vec<u8>>>,
            ValBatcher<Vec<u8>, Vec<u8>, u64, isize>,
            ValBuilder<Vec<u8>, Vec<u8>, u64, isize>,
            ValSpine<Vec<u8>, Vec<u8>, u64, isize>,
            |k: &Vec<u8>, a: &Vec<u8>, b: &Vec<u8>| Some((k.clone(), a.clone(), b.clone()))
        )
    );
    case!(
        "differential, vec chunks, u64",
        typed_join!(
            rows,
            rounds,
            u64s,
            ContainerChunker<vec_chunk::VecChunk<u64, u64, u64, isize>>,
            vec_chunk::ChunkBatcher<u64, u64, u64, isize>,
            vec_chunk::ChunkBuilder<u64, u64, u64, isize>,
            vec_chunk::ChunkSpine<u64, u64, u64, isize>,
            |k: &u64, a: &u64, b: &u64| Some((*k, *a, *b))
        )
    );
    case!(
        "differential, columnar chunks, u64",
        typed_join!(
            rows,
            rounds,
            u64s,
            ContainerChunker<columnar::ColChunk<(u64, u64, u64, isize)>>,
            columnar::Batcher<u64, u64, u64, isize>,
            columnar::Builder<u64, u64, u64, isize>,
            columnar::Spine<u64, u64, u64, isize>,
            |k, a, b| Some((*k, *a, *b))
        )
    );
    if "row chunks, own join".contains(only) {
        let (ours, state) = join_ours(rows, rounds);
        results.push(("row chunks, own join", ours, state));
    }
    print_join(&results, rows);
}

fn counts(rows: u64, keys: u64, only: &str) {
    let key_of = move |index: u64| scrambled(index) % keys;
    let mut results: Vec<(&str, Duration)> = Vec::new();
    macro_rules! case {
        ($name:expr, $run:expr) => {
            if $name.contains(only) {
                results.push(($name, $run));
            }
        };
    }
    macro_rules! typed_count {
        ($make:expr, $chunker:ty, $batcher:ty, $builder:ty, $spine:ty) => {{
            let measured = drive(
                || [vec![], vec![]],
                rows / BATCH,
                move |r| (r * BATCH..(r + 1) * BATCH).map(|i| (($make(key_of(i)), ()), r + 1, 1)).collect(),
                |_, left: Stream<'_, u64, VecUpdates<_, ()>>, _, counter| {
                    let arranged = arrange_core::<_, _, $chunker, $batcher, $builder, $spine>(left, Pipeline, "rows");
                    count_changes(arranged.count_total().inner, counter)
                },
                |_| {},
            );
            measured.rounds.iter().sum()
        }};
    }
    case!(
        "differential, OrdKey spine, u64",
        typed_count!(
            |k: u64| k,
            ContainerChunker<VecUpdates<u64, ()>>,
            KeyBatcher<u64, u64, isize>,
            KeyBuilder<u64, u64, isize>,
            KeySpine<u64, u64, isize>
        )
    );
    case!(
        "differential, OrdKey spine, Vec<u8>",
        typed_count!(
            |k: u64| key24(k).to_vec(),
            ContainerChunker<VecUpdates<Vec<u8>, ()>>,
            KeyBatcher<Vec<u8>, u64, isize>,
            KeyBuilder<Vec<u8>, u64, isize>,
            KeySpine<Vec<u8>, u64, isize>
        )
    );
    case!("row chunks, by cursor", count_rows(rows, keys));
    case!("private hash table of flat bytes", count_table(rows, keys));
    let base = count_map(rows, keys);
    results.push(("std HashMap<Vec<u8>, u64>", base));
    println!("{:38} {:>9} {:>12} {:>14}", "", "seconds", "Mrows/s", "of the std map");
    for (name, time) in &results {
        let seconds = time.as_secs_f64();
        let rate = rows as f64 / seconds / 1e6;
        println!("{name:38} {seconds:9.3} {rate:12.2} {:14.2}", base.as_secs_f64() / seconds);
    }
}

/// The count in a map of the standard library, without its changes.
fn count_map(rows: u64, keys: u64) -> Duration {
    let input: Vec<[u8; 24]> = (0..rows).map(|i| key24(scrambled(i) % keys)).collect();
    let mut map = HashMap::<Vec<u8>, u64>::new();
    let start = Instant::now();
    let mut sum = 0;
    for key in &input {
        match map.get_mut(&key[..]) {
            Some(count) => {
                *count += 1;
                sum += *count;
            }
            None => drop(map.insert(key.to_vec(), 1)),
        }
    }
    std::hint::black_box(sum);
    start.elapsed()
}

fn print_join(results: &[(&str, Measured, String)], rows: u64) {
    println!(
        "{:38} {:>9} {:>6} {:>9} {:>10} {:>6} {:>10} {:>6} {:>10}",
        "", "hydrate s", "ratio", "stall ms", "p50 us", "ratio", "p99 us", "ratio", "bytes/row"
    );
    let Some((_, base, _)) = results.first() else { return };
    for (name, run, state) in results {
        let ratio = |of: fn(&Measured) -> f64| of(base) / of(run);
        println!(
            "{name:38} {:9.3} {:6.2} {:9.1} {:10.0} {:6.2} {:10.0} {:6.2} {:10.1}  {state}",
            run.hydrate.as_secs_f64(),
            ratio(|m| m.hydrate.as_secs_f64()),
            run.stall.as_secs_f64() * 1e3,
            run.quantile(0.5).as_secs_f64() * 1e6,
            ratio(|m| m.quantile(0.5).as_secs_f64()),
            run.quantile(0.99).as_secs_f64() * 1e6,
            ratio(|m| m.quantile(0.99).as_secs_f64()),
            run.bytes as f64 / (2 * rows) as f64,
        );
        if run.changes != base.changes {
            println!("  {} changes instead of {}", run.changes, base.changes);
        }
    }
}
