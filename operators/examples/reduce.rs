//! How fast the reductions are. `cargo run --release -p headwater-operators --example reduce [ROWS]` prints a line for
//! each case: one worker, rounds of 40,000 updates unless it says otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::type_complexity,
    reason = "an experiment ends where it fails"
)]

use std::collections::HashMap;

use headwater_operators::accumulators::count;
use headwater_operators::distinct::distinct;
use headwater_operators::exact_sum::{ExactSquares, ExactSum};
use headwater_operators::keyed::{Keyed, NoValue, hash};
use headwater_operators::ordered::Ordered;
use headwater_operators::table::KeyTable;
use headwater_operators::top_k::top_k;
use headwater_operators::{Payload, Rows, UpdateStream, Updates, state};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use timely::dataflow::operators::{Input, InspectCore, Probe};

const ROUND: usize = 40_000;

fn main() {
    let rows = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(4_000_000);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let cases: [(&str, fn(usize)); 9] = [
        ("table", table),
        ("distinct", distinct_windows),
        ("count", count_keys),
        ("map", count_in_a_map),
        ("small", small_rounds),
        ("single", single_rounds),
        ("sums", sums),
        ("ordered", ordered),
        ("top", top),
    ];
    for (name, case) in cases {
        if name.contains(&wanted) {
            case(rows);
        }
    }
}

/// When this thread began something, in nanoseconds that it ran: on a busy machine more telling than the time of day.
#[derive(Clone, Copy)]
struct Start(u64);

impl Start {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Start(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
    }

    fn nanos(self) -> u64 {
        Start::now().0 - self.0
    }
}

fn report(case: &str, rows: usize, start: Start, note: &str) {
    let seconds = start.nanos() as f64 / 1e9;
    println!("{case:40} {:8.2} M/s {:8.1} ns each  {note}", rows as f64 / seconds / 1e6, seconds * 1e9 / rows as f64);
}

/// A key of 24 bytes.
fn key(number: u64) -> [u8; 24] {
    let mut key = *b"a key of        24 bytes";
    key[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn keyed(numbers: impl Iterator<Item = u64>) -> Keyed<NoValue> {
    let mut keys = Rows::default();
    numbers.for_each(|number| keys.push(&key(number)));
    let len = keys.len();
    Keyed::new(keys, NoValue(len))
}

fn table(rows: usize) {
    let mut rng = SmallRng::seed_from_u64(0);
    let mut table = KeyTable::default();
    let mut groups = Vec::new();
    let all: Vec<u32> = (0..ROUND as u32).collect();
    let start = Start::now();
    for round in 0..25 {
        let batch = keyed((0..ROUND as u64).map(|i| round * ROUND as u64 + i));
        table.lookup_or_insert(&batch.hashes, &batch.keys, &all, &mut groups);
    }
    report("table: insert 1M, making keys", 1_000_000, start, &format!("{} bytes a key", table.bytes() / table.len()));
    let rounds: Vec<_> = (0..rows / ROUND).map(|_| keyed((0..ROUND).map(|_| rng.random_range(0..1_000_000)))).collect();
    let start = Start::now();
    for batch in &rounds {
        groups.clear();
        table.lookup_or_insert(&batch.hashes, &batch.keys, &all, &mut groups);
    }
    report("table: look up among 1M", rows, start, "");
}

/// Feeds rounds to an operator, each until its changes are out. Gives the changes' number.
fn run<D: Payload, O: Payload>(
    rounds: Vec<Updates<D>>,
    build: impl for<'s> Fn(UpdateStream<'s, D>) -> UpdateStream<'s, O> + Send + Sync + 'static,
) -> (usize, u64, Vec<u64>) {
    let rounds = std::sync::Mutex::new(rounds);
    timely::execute_directly(move |worker| {
        let rounds = std::mem::take(&mut *rounds.lock().unwrap());
        let changes = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = changes.clone();
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Updates<D>>();
            let output = build(stream).inspect_container(move |event| {
                if let Ok((_, batch)) = event {
                    seen.set(seen.get() + batch.len());
                }
            });
            (input, output.probe().0)
        });
        let mut latencies = Vec::with_capacity(rounds.len());
        let start = Start::now();
        for mut round in rounds {
            let frontier = round.times.iter().max().map_or(0, |t| t + 1);
            let began = std::time::Instant::now();
            input.send_batch(&mut round);
            input.advance_to(frontier);
            while probe.less_than(&frontier) {
                worker.step();
            }
            latencies.push(began.elapsed().as_nanos() as u64);
        }
        let took = start.nanos();
        for held in state::held() {
            println!("    {} holds {} bytes for {} records", held.name, held.bytes, held.records);
        }
        latencies.sort();
        (changes.get(), took, latencies)
    })
}

fn result(case: &str, rows: usize, (changes, took, latencies): (usize, u64, Vec<u64>)) {
    let percentile = |p: usize| latencies[(latencies.len() * p / 100).min(latencies.len() - 1)] as f64 / 1e3;
    println!(
        "{case:40} {:8.2} M/s {:8.1} ns each  {changes} changes, p50 {:.1} us, p99 {:.1} us",
        rows as f64 / took as f64 * 1e3,
        took as f64 / rows as f64,
        percentile(50),
        percentile(99)
    );
}

/// Nearly all distinct keys of 24 to 48 bytes in windows of 60 ticks, 10 rounds a window, released after two.
fn distinct_windows(rows: usize) {
    let mut rng = SmallRng::seed_from_u64(1);
    for width in [24usize, 32, 48] {
        let rounds = (0..rows / ROUND).map(|round| {
            let mut keys = Rows::default();
            let mut buckets = Vec::new();
            let times: Vec<u64> = (0..ROUND).map(|i| (round * 4 + i * 4 / ROUND) as u64).collect();
            for time in &times {
                let window = time.saturating_sub(rng.random_range(0..4)) / 60;
                let mut key = [7; 48];
                key[..8].copy_from_slice(&window.to_be_bytes());
                key[8] = rng.random_range(0..50);
                key[16..24].copy_from_slice(&rng.random_range(0..1_000_000u64).to_be_bytes());
                keys.push(&key[..width]);
                buckets.push(window * 60 + 60 + 10);
            }
            let data = Keyed { buckets, ..Keyed::new(keys, NoValue(ROUND)) };
            Updates { data, times, diffs: vec![1; ROUND] }
        });
        let rounds: Vec<_> = rounds.collect();
        result(
            &format!("distinct: {width} bytes, in windows"),
            rows,
            run(rounds, |stream| distinct(stream, "distinct").0),
        );
    }
}

fn count_rounds(rows: usize, round: usize) -> Vec<Updates<Keyed<NoValue>>> {
    let mut rng = SmallRng::seed_from_u64(2);
    let rounds = (0..rows / round).map(|time| {
        let data = keyed((0..round).map(|_| rng.random_range(0..1_000_000)));
        Updates::uniform(data, time as u64, 1)
    });
    rounds.collect()
}

fn count_keys(rows: usize) {
    result("count: 1M keys of 24 bytes", rows, run(count_rounds(rows, ROUND), |stream| count(stream, "count").0));
}

fn small_rounds(rows: usize) {
    let mut rounds = count_rounds(rows / 4 / ROUND * ROUND, 1_000);
    rounds.truncate(1_000);
    let rows = rounds.len() * 1_000;
    result("count: 1M keys, rounds of 1,000", rows, run(rounds, |stream| count(stream, "count").0));
}

/// One-row rounds after a first that makes all keys.
fn single_rounds(_rows: usize) {
    let mut rounds = vec![Updates::uniform(keyed(0..1_000_000), 0, 1)];
    let single = count_rounds(50_000, 1).into_iter().map(|mut round| {
        round.times[0] += 1;
        round
    });
    rounds.extend(single);
    let rows = rounds.len();
    result("count: 1M keys, rounds of 1", rows, run(rounds, |stream| count(stream, "count").0));
}

/// The same by hand: a map of vectors, its changes written out.
fn count_in_a_map(rows: usize) {
    let rounds = count_rounds(rows, ROUND);
    let start = Start::now();
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut changes = 0;
    for round in &rounds {
        let mut old: HashMap<&[u8], u64> = HashMap::new();
        for key in round.data.keys.iter() {
            let count = match counts.get_mut(key) {
                Some(count) => count,
                None => counts.entry(key.to_vec()).or_default(),
            };
            old.entry(key).or_insert(*count);
            *count += 1;
        }
        let mut out: Vec<(Vec<u8>, u64, i64)> = Vec::new();
        for (key, old) in old {
            if old > 0 {
                out.push((key.to_vec(), old, -1));
            }
            out.push((key.to_vec(), counts[key], 1));
        }
        changes += out.len();
    }
    report("count: std map with changes", rows, start, &format!("{changes} changes"));
    let start = Start::now();
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    for round in &rounds {
        for key in round.data.keys.iter() {
            *counts.entry(key.to_vec()).or_default() += 1;
        }
    }
    report("count: std map without changes", rows, start, &format!("{} keys", counts.len()));
}

fn sums(rows: usize) {
    let mut rng = SmallRng::seed_from_u64(3);
    let data: Vec<f64> = (0..1 << 16).map(|_| rng.random_range(-1_000_000..1_000_000) as f64 / 100.0).collect();
    let start = Start::now();
    let mut plain = 0.0;
    (0..rows).for_each(|i| plain += data[i % (1 << 16)]);
    report("sums: plain", rows, start, &format!("{plain}"));
    let start = Start::now();
    let mut sum = ExactSum::default();
    (0..rows).for_each(|i| sum.add(data[i % (1 << 16)], 1));
    report("sums: exact", rows, start, &format!("{}", sum.value()));
    let start = Start::now();
    let mut squares = ExactSquares::default();
    (0..rows).for_each(|i| squares.add_square(data[i % (1 << 16)], 1));
    report("sums: exact squares", rows, start, &format!("{}", squares.value()));
    let start = Start::now();
    let mut sums = vec![ExactSum::default(); 100_000];
    (0..rows).for_each(|i| sums[hash(&i.to_le_bytes()) as usize % 100_000].add(data[i % (1 << 16)], 1));
    report("sums: exact, 100,000 groups", rows, start, &format!("{}", sums[0].value()));
    let start = Start::now();
    let total: f64 = (0..rows).map(|i| sums[i % 100_000].value()).sum();
    report("sums: rounding", rows, start, &format!("{total}"));
}

fn ordered(_rows: usize) {
    let mut rng = SmallRng::seed_from_u64(4);
    for (name, groups) in [("1 group", 1), ("100,000 groups", 100_000)] {
        let mut values = Ordered::default();
        let all: Vec<(u32, [u8; 8])> =
            (0..1_000_000).map(|_| (rng.random_range(0..groups), rng.random::<u64>().to_be_bytes())).collect();
        let start = Start::now();
        all.iter().for_each(|(group, value)| {
            values.add(*group, value, 1);
        });
        report(
            &format!("ordered: 1M inserts, {name}"),
            all.len(),
            start,
            &format!("{} bytes each", values.bytes() / values.len()),
        );
        let start = Start::now();
        all.iter().for_each(|(group, value)| {
            values.add(*group, value, -1);
        });
        report(&format!("ordered: 1M removals, {name}"), all.len(), start, "");
    }
}

fn top(rows: usize) {
    let mut rng = SmallRng::seed_from_u64(5);
    let rounds = (0..rows / 4 / ROUND).map(|time| {
        let (mut keys, mut vals) = (Rows::default(), Rows::default());
        for _ in 0..ROUND {
            keys.push(&[rng.random_range(0..100)]);
            let mut row = [1; 40];
            row[..8].copy_from_slice(&rng.random::<u64>().to_be_bytes());
            vals.push(&row);
        }
        Updates::uniform(Keyed::new(keys, vals), time as u64, 1)
    });
    let rounds: Vec<_> = rounds.collect();
    result("top-k: 10 of each of 100 groups", rows / 4, run(rounds, |stream| top_k(stream, "top", 0, Some(10)).0));
}
