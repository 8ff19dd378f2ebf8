//! The peers' side of the cases of `headwater-benchmarks`, which runs this program when its feature `peers` is on.
//!
//! A package of its own, with its own lock file, so that the engine's dependencies don't change with the peers'.
//! `headwater-benchmark-peers w2 --rows N --seed N --round N --workers N [--region text]` prints one JSON line.
//!
//! W2 as one would write it by hand on dbsp: the events as an indexed Z-set `(window, region) -> user`, `distinct` on it,
//! the linear count, the watermark computed beside the loop and given as a stream, and the three traces (of `distinct`,
//! of the count's input and of its output) cut behind it.

#[path = "../../src/workload.rs"]
#[allow(dead_code, reason = "the other cases use the rest")]
mod workload;

use std::collections::BTreeMap;
use std::time::Instant;

use dbsp::circuit::{CircuitConfig, StepSize};
use dbsp::typed_batch::IndexedZSetReader;
use dbsp::utils::Tup2;
use dbsp::{DBData, Runtime, ZWeight};
use workload::{DELAY, Event, MINUTE, differs, events, peak_rss_mib, quantile, visitors, window_start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Args {
    rows: usize,
    seed: u64,
    round: usize,
    workers: usize,
    text: bool,
}

fn args() -> Result<Args, String> {
    let mut args = Args { rows: 10_000_000, seed: 42, round: 40_000, workers: 1, text: false };
    let mut given = std::env::args().skip(1);
    match given.next().as_deref() {
        Some("w2") => {}
        other => return Err(format!("the one job here is w2, not {other:?}")),
    }
    while let Some(flag) = given.next() {
        let value = given.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|e| format!("{flag} {value}: {e}"));
        match flag.as_str() {
            "--rows" => args.rows = number()?,
            "--seed" => args.seed = number()? as u64,
            "--round" => args.round = number()?,
            "--workers" => args.workers = number()?,
            "--region" => args.text = value == "text",
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    Ok(args)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = args()?;
    if args.text {
        w2(&args, |r| format!("region-{r:02}"), |r| r[7..].parse().unwrap_or(u8::MAX))
    } else {
        w2(&args, |r| r, |r| *r)
    }
}

/// Runs W2 with regions as `encode` gives them.
fn w2<R: DBData + Eq>(
    args: &Args,
    encode: impl Fn(u8) -> R,
    decode: impl Fn(&R) -> u8,
) -> Result<(), Box<dyn std::error::Error>> {
    let config = CircuitConfig::with_workers(args.workers)
        .with_step_size(StepSize::FullSteps)
        .with_allow_input_during_commit(false);
    let (mut dbsp, (input, waterline, output)) = Runtime::init_circuit(config, |circuit| {
        let (visits, input) = circuit.add_input_indexed_zset::<Tup2<i64, R>, u64>();
        let (waterline, waterline_input) = circuit.add_input_stream::<i64>();
        let live = |key: &Tup2<i64, R>, waterline: &i64| key.0 + MINUTE > *waterline;
        let visits = visits.shard();
        visits.accumulate_integrate_trace_retain_keys(&waterline.typed_box(), live);
        let counts = visits.distinct().aggregate_linear_retain_keys(&waterline.typed_box(), live, |_| 1i64);
        counts.accumulate_integrate_trace_retain_keys(&waterline.typed_box(), live);
        Ok((input, waterline_input, counts.accumulate_output()))
    })?;

    // Outside of the time: the rows as a program would have them, with the regions in its own type.
    let generated = events(args.seed, args.rows);
    let rows: Vec<(i64, R, u64)> =
        generated.iter().map(|&Event { ts, region, user }| (ts, encode(region), user)).collect();
    let mut answer: BTreeMap<(i64, R), ZWeight> = BTreeMap::new();
    let mut latencies = Vec::with_capacity(args.rows / args.round + 1);
    let mut newest = i64::MIN;
    // As the sides of the harness do.
    if let Some(program) = std::env::var_os("WARM_BY") {
        std::process::Command::new(program).args(["--side", "warm"]).status()?;
    }
    let begin = Instant::now();
    for round in rows.chunks(args.round) {
        let pushed = Instant::now();
        let late = newest.saturating_sub(DELAY);
        newest = round.iter().fold(newest, |newest, row| newest.max(row.0));
        let mut batch: Vec<_> = round
            .iter()
            .filter(|(ts, _, _)| *ts >= late)
            .map(|(ts, region, user)| Tup2(Tup2(window_start(*ts), region.clone()), Tup2(*user, 1)))
            .collect();
        input.append(&mut batch);
        waterline.set_for_all(newest - DELAY);
        dbsp.transaction()?;
        for (Tup2(window, region), count, weight) in output.concat().iter() {
            if weight > 0 {
                answer.insert((window, region), count);
            }
        }
        latencies.push(pushed.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = begin.elapsed().as_secs_f64();
    dbsp.kill().map_err(|_| "a worker of dbsp failed")?;

    let peak = peak_rss_mib();
    let answer = answer.into_iter().map(|((window, region), count)| ((window, decode(&region)), count)).collect();
    let verdict = differs(&answer, &visitors(&generated)).unwrap_or_else(|| "ok".to_string());
    latencies.sort_by(f64::total_cmp);
    println!(
        "{{\"seconds\":{seconds},\"p50_us\":{},\"p99_us\":{},\"answer\":{verdict:?},\"peak_rss_mib\":{peak}}}",
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
    );
    Ok(())
}
