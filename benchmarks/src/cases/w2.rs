//! W2: exact distinct users per region and one-minute window from a disordered feed, with the state of closed windows
//! released.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::by_hand;
use crate::case::{Better, Case, Failure, Line, Measured, Params, percentiles};
use crate::ours::{Feed, Live, session};
use crate::workload::{DELAY, Event, MINUTE, SECOND, differs, events, visitors, window_start};
use crate::{memory, peers};

/// Rows a round when the feed is busy.
pub const ROUND: usize = 40_000;
/// Rows a round when latency is measured.
const SMALL_ROUND: usize = 1_000;

/// Rows a second in 40,000-row rounds.
pub const THROUGHPUT: Case = Case {
    name: "w2",
    about: "distinct users per region and minute, 40,000-row rounds",
    against: "the same by hand on dbsp (feature peers)",
    rows: 10_000_000,
    lines: &[Line { case: "w2", unit: "rows/s", better: Better::More, reach: 2.1, aim: 4.0 }],
    ours: |params| Ok(run(params, ROUND)?.throughput(params.rows)),
    baseline: |params| {
        let peer = peers::dbsp_w2(params.rows, params.seed, ROUND, params.workers)?;
        let values = vec![params.rows as f64 / peer.seconds];
        Ok(Measured { values, answer: peer.answer, peak_rss_mib: peer.peak_rss_mib, notes: Vec::new() })
    },
};

/// Time from push to answer in 1,000-row rounds.
pub const LATENCY: Case = Case {
    name: "w2-latency",
    about: "w2 in 1,000-row rounds, push to closed answer",
    against: "a step of dbsp (feature peers)",
    rows: 3_000_000,
    lines: &[
        Line { case: "w2-latency-p50", unit: "us", better: Better::Less, reach: 3.0, aim: 5.0 },
        Line { case: "w2-latency-p99", unit: "us", better: Better::Less, reach: 0.5, aim: 1.0 },
    ],
    ours: |params| Ok(run(params, SMALL_ROUND)?.latency()),
    baseline: |params| {
        let peer = peers::dbsp_w2(params.rows, params.seed, SMALL_ROUND, params.workers)?;
        let values = vec![peer.p50_us, peer.p99_us];
        Ok(Measured { values, answer: peer.answer, peak_rss_mib: peer.peak_rss_mib, notes: Vec::new() })
    },
};

/// All of the input at once, against a loop by hand.
pub const LIMIT: Case = Case {
    name: "w2-limit",
    about: "w2 with all input waiting in memory, 2 workers",
    against: "a loop by hand on one core: an open-addressing set of u64 for each window and region",
    rows: 10_000_000,
    lines: &[Line { case: "w2-limit", unit: "rows/s", better: Better::More, reach: 0.6, aim: 1.2 }],
    ours: waiting,
    baseline: |params| {
        let events = events(params.seed, params.rows);
        let begin = memory::start();
        let counts = by_hand::distinct(&events, false);
        let seconds = begin.elapsed().as_secs_f64();
        let mut measured = Measured::new(vec![params.rows as f64 / seconds]);
        let begin = Instant::now();
        by_hand::distinct(&events, true);
        let rate = params.rows as f64 / begin.elapsed().as_secs_f64() / 1e6;
        measured.notes.push(format!("{rate:.1} M rows/s where sets of final windows are used again"));
        Ok(measured.checked(differs(&counts, &visitors(&events))))
    },
};

/// Live bytes for each row of state.
pub const STATE_BYTES: Case = Case {
    name: "state-bytes-w2",
    about: "live bytes for each row held in w2",
    against: "twice the bytes of the row's columns + 32",
    rows: 3_000_000,
    lines: &[Line { case: "state-bytes-w2", unit: "bytes/row", better: Better::Less, reach: 1.2, aim: 1.5 }],
    ours: state_bytes,
    // A timestamp, a region of 9 characters and a user's number.
    baseline: |_| Ok(Measured::new(vec![2.0 * (8.0 + 9.0 + 8.0) + 32.0])),
};

/// Two workers against one.
pub const SCALE: Case = Case {
    name: "scale-w2",
    about: "w2 on 2 workers",
    against: "w2 on 1 worker",
    rows: 10_000_000,
    lines: &[Line { case: "scale-w2", unit: "rows/s", better: Better::More, reach: 1.6, aim: 1.8 }],
    ours: |params| Ok(run(&Params { workers: 2, pinned: true, ..params.clone() }, ROUND)?.throughput(params.rows)),
    baseline: |params| Ok(run(&Params { workers: 1, pinned: true, ..params.clone() }, ROUND)?.throughput(params.rows)),
};

const DDL: &str = "CREATE TABLE visits (ts TIMESTAMP, region VARCHAR, user_id BIGINT, \
     WATERMARK FOR ts AS ts - INTERVAL '10' SECOND) WITH (connector = 'channel', cut = 'round')";
const QUERY: &str = "SELECT window(ts, '1 minute') AS minute, region, count(DISTINCT user_id) AS users \
     FROM visits GROUP BY window(ts, '1 minute'), region";

fn batch(events: &[Event]) -> Result<RecordBatch, Failure> {
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.ts)))),
        ("region", Arc::new(StringArray::from_iter_values(events.iter().map(|e| format!("region-{:02}", e.region))))),
        ("user_id", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.user as i64)))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The answer as its changes arrive.
#[derive(Default)]
struct Answer {
    counts: BTreeMap<(i64, u8), BTreeMap<i64, i64>>,
}

impl Answer {
    fn take(&mut self, changes: &RecordBatch, diffs: &[i64]) -> Result<(), Failure> {
        let window: &StructArray = changes.column(0).as_struct();
        let start = arrow::compute::cast(window.column(0), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let start = start.as_primitive::<TimestampMicrosecondType>();
        let regions = crate::ours::strings(changes.column(1))?;
        let users = changes.column(2).as_primitive::<Int64Type>();
        for (row, diff) in diffs.iter().enumerate() {
            let region: u8 = regions.value(row).trim_start_matches("region-").parse()?;
            let counts = self.counts.entry((start.value(row), region)).or_default();
            let rows = counts.entry(users.value(row)).or_default();
            *rows += diff;
            if *rows == 0 {
                counts.remove(&users.value(row));
            }
        }
        Ok(())
    }

    /// What differs from the true answer: each key has one row, once, and it is right.
    fn check(self, events: &[Event]) -> Option<String> {
        let mut got = BTreeMap::new();
        for (key, counts) in &self.counts {
            match counts.iter().next() {
                Some((users, 1)) if counts.len() == 1 => got.insert(*key, *users),
                None => continue,
                _ => return Some(format!("{key:?} has {counts:?}")),
            };
        }
        differs(&got, &visitors(events))
    }
}

struct Run {
    seconds: f64,
    latencies: Vec<f64>,
    measured: Measured,
}

impl Run {
    fn throughput(self, rows: usize) -> Measured {
        let mut measured = Measured { values: vec![rows as f64 / self.seconds], ..self.measured };
        let [p50, p99] = percentiles(self.latencies);
        measured.notes.push(format!("a round in {p50:.0} us, p99 {p99:.0}"));
        measured
    }

    fn latency(self) -> Measured {
        Measured { values: percentiles(self.latencies).to_vec(), ..self.measured }
    }
}

fn run(params: &Params, round: usize) -> Result<Run, Failure> {
    let session = session(params, DDL)?;
    let mut visits = Feed::new(&session, "visits")?;
    let events = events(params.seed, params.rows);
    let batches: Vec<_> = events.chunks(round).map(|r| visits.fit(batch(r)?)).collect::<Result<_, _>>()?;
    drop(events);
    let mut live = Live::follow(&session, QUERY)?;
    let mut answer = Answer::default();
    let mut latencies = Vec::with_capacity(batches.len());
    let begin = memory::start();
    for batch in batches {
        let pushed = Instant::now();
        live.round(&mut visits, batch, |changes, diffs| answer.take(changes, diffs))?;
        latencies.push(pushed.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let measured = Measured::new(Vec::new());
    visits.close();
    live.wait(None, |changes, diffs| answer.take(changes, diffs))?;
    Ok(Run {
        seconds,
        latencies,
        measured: measured.checked(answer.check(&crate::workload::events(params.seed, params.rows))),
    })
}

/// Pushes everything without waiting for an answer: another thread reads them.
fn waiting(params: &Params) -> Result<Measured, Failure> {
    let session = session(&Params { workers: 2, pinned: true, ..params.clone() }, DDL)?;
    let mut visits = Feed::new(&session, "visits")?;
    let events = events(params.seed, params.rows);
    let batches: Vec<_> = events.chunks(ROUND).map(|r| visits.fit(batch(r)?)).collect::<Result<_, _>>()?;
    let mut live = Live::follow(&session, QUERY)?;
    let mut answer = Answer::default();
    let begin = memory::start();
    std::thread::scope(|scope| {
        let pushed = scope.spawn(move || {
            let pushed = batches.into_iter().try_for_each(|batch| visits.push(batch).map(|_| ()));
            visits.close();
            pushed
        });
        live.wait(None, |changes, diffs| answer.take(changes, diffs))?;
        pushed.join().map_err(|_| "the pushing thread failed")?
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let measured = Measured::new(vec![params.rows as f64 / seconds]);
    Ok(measured.checked(answer.check(&events)))
}

/// The mean over the run of live bytes, divided by the mean of the rows whose windows are not final.
fn state_bytes(params: &Params) -> Result<Measured, Failure> {
    memory::start_counting();
    let events = events(params.seed, params.rows);
    let session = session(params, DDL)?;
    let mut visits = Feed::new(&session, "visits")?;
    let mut live = Live::follow(&session, QUERY)?;
    let mut answer = Answer::default();
    // One row so that everything that is built once is there.
    let first = visits.fit(batch(&events[..1])?)?;
    live.round(&mut visits, first, |changes, diffs| answer.take(changes, diffs))?;
    let before = memory::live_bytes();
    let (mut bytes, mut rows) = (0.0, 0.0);
    let mut samples = Vec::new();
    let mut distinct: BTreeMap<i64, std::collections::HashSet<(u8, u64)>> = BTreeMap::new();
    let mut newest = i64::MIN;
    let mut held = 0;
    for (index, round) in events[1..].chunks(ROUND).enumerate() {
        let pushed = visits.fit(batch(round)?)?;
        live.round(&mut visits, pushed, |changes, diffs| answer.take(changes, diffs))?;
        let sampled = memory::live_bytes() - before - held;
        let model = memory::live_bytes();
        for event in round {
            newest = newest.max(event.ts);
            distinct.entry(window_start(event.ts)).or_default().insert((event.region, event.user));
        }
        // The segments' width, by default a tenth of the delay, holds windows as long again.
        distinct.retain(|window, _| window + MINUTE + DELAY + SECOND > newest);
        held += memory::live_bytes() - model;
        // The first window fills up from nothing: the mean is over what comes after it.
        if index * ROUND > 600_000 {
            let kept: usize = distinct.values().map(|users| users.len()).sum();
            bytes += sampled as f64;
            rows += kept as f64;
            samples.push(sampled as f64 / kept as f64);
        }
    }
    let mut measured = Measured::new(vec![bytes / rows]);
    samples.sort_by(f64::total_cmp);
    if let [least, .., most] = samples[..] {
        measured.notes.push(format!("between {least:.0} and {most:.0} live bytes a row over time"));
    }
    visits.close();
    live.wait(None, |changes, diffs| answer.take(changes, diffs))?;
    Ok(measured.checked(answer.check(&events)))
}
