//! How long a worker's steps are while a large join hydrates. `cargo run --release -p headwater-operators --example turns
//! [ROWS]` prints, with and without shared turns, the time of the hydration and of its longest steps.

#![allow(clippy::unwrap_used, reason = "an experiment ends where it fails")]

use std::time::{Duration, Instant};

use headwater_operators::arrange::arrange;
use headwater_operators::join::join;
use headwater_operators::{Keyed, Rows, Updates, turn};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::SmallRng};
use timely::dataflow::operators::{Input, Probe};

fn main() {
    let rows = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2_000_000);
    for share in [None, Some(Duration::from_micros(100))] {
        run(rows, share);
    }
}

/// Rows with each key once, in random order.
fn table(rows: usize, seed: u64) -> Vec<u64> {
    let mut keys: Vec<u64> = (0..rows as u64).collect();
    keys.shuffle(&mut SmallRng::seed_from_u64(seed));
    keys
}

fn batch(keys: &[u64]) -> Updates<Keyed<Rows>> {
    let (mut rows, mut vals) = (Rows::default(), Rows::default());
    for key in keys {
        rows.push(&key.to_be_bytes());
        vals.push(&key.rotate_left(7).to_be_bytes());
    }
    Updates { data: Keyed::new(rows, vals), times: vec![0; keys.len()], diffs: vec![1; keys.len()] }
}

fn run(rows: usize, share: Option<Duration>) {
    timely::execute_directly(move |worker| {
        let (mut lefts, mut rights, probe) = worker.dataflow(|scope| {
            let (lefts, left) = scope.new_input();
            let (rights, right) = scope.new_input();
            let (probe, _) = join(arrange(left, "left"), arrange(right, "right"), "join").probe();
            (lefts, rights, probe)
        });
        let tables = [table(rows, 1), table(rows, 2)];
        let begin = Instant::now();
        let mut steps: Vec<(Duration, Duration)> = Vec::new();
        let mut step = |worker: &mut timely::worker::Worker| {
            turn::share(share);
            let start = Instant::now();
            worker.step();
            steps.push((start.elapsed(), begin.elapsed()));
        };
        let piece = if share.is_some() { 1 << 10 } else { 1 << 16 };
        for (left, right) in tables[0].chunks(piece).zip(tables[1].chunks(piece)) {
            lefts.send_batch(&mut batch(left));
            rights.send_batch(&mut batch(right));
            step(worker);
        }
        drop((lefts, rights));
        while !probe.done() {
            step(worker);
        }
        let total = begin.elapsed();
        // A round that comes at any moment waits for the step that runs: of all moments, not of all steps.
        steps.sort();
        let mut waits: Vec<(Duration, Duration)> = Vec::new();
        let mut passed = Duration::ZERO;
        for share in [0.5, 0.9, 0.99, 0.999] {
            waits.push((Duration::from_secs_f64(total.as_secs_f64() * share), Duration::ZERO));
        }
        for (length, _) in &steps {
            passed += *length;
            waits
                .iter_mut()
                .filter(|(until, wait)| passed >= *until && wait.is_zero())
                .for_each(|(_, wait)| *wait = *length);
        }
        let waits: Vec<_> = waits.iter().map(|(_, wait)| wait).collect();
        println!(
            "{share:?}: {} steps in {total:?}; at 50, 90, 99, 99.9 % of the time a step of {waits:?}",
            steps.len()
        );
        println!("  longest (length, when): {:?}", steps.iter().rev().take(12).collect::<Vec<_>>());
    });
}
