//! What grows with every round though nothing is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use headwater::connectors::{
    Changes, Connector, Emission, Guarantee, Offsets, OptionSpec, OutputMode, Poll, Progress, Registry, Result, Sink,
    Source, SourceBatch, TableSpec,
};
use headwater::{Session, Subscription};

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::memory;
use crate::ours::{numbers, until};
use crate::workload::EPOCH;

/// A long life at a steady pace.
pub const SOAK: Case = Case {
    name: "soak",
    about: "bytes kept a round, of 300,000 at 1,000 a second, with an append sink, an unread subscription, a view in \
            error, and views that come and go",
    against: "16 bytes",
    rows: 300_000,
    lines: &[Line { case: "soak", unit: "bytes/round", better: Better::Less, reach: 1.0, aim: 16.0 }],
    ours: soak,
    baseline: |_| Ok(Measured::new(vec![16.0])),
};

/// Rounds a second.
const PACE: u64 = 1_000;
/// Event time from one round to the next, microseconds: that of the pace.
const STEP: i64 = 1_000_000 / PACE as i64;
/// How long views that come and go stay away.
const PAUSE: Duration = Duration::from_millis(10);
/// Growth that is none, bytes a round.
const LEAST_GROWTH: f64 = 0.01;

/// A connector that gives a row a poll, at [`PACE`] once it may begin, and whose sinks count.
struct Rounds {
    rounds: u64,
    begin: Arc<AtomicBool>,
    /// The sum of the counts that sinks got.
    counted: Arc<AtomicU64>,
}

fn columns() -> SchemaRef {
    let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![Field::new("ts", ts, true), Field::new("k", DataType::Int64, true)]))
}

impl Connector for Rounds {
    fn name(&self) -> &'static str {
        "rounds"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn guarantee(&self) -> Guarantee {
        // What can be read again has its cuts recorded: that is a part of what must not grow.
        Guarantee::Replayable
    }

    fn is_stream(&self, _: &TableSpec) -> bool {
        true
    }

    fn schema(&self, _: &TableSpec) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn source(&self, _: &TableSpec) -> Result<Box<dyn Source>> {
        let (rounds, begin) = (self.rounds, self.begin.clone());
        Ok(Box::new(Reader { next: 0, rounds, begin, since: None, announced: false, closed: false }))
    }

    fn sink(&self, _: &TableSpec, _: OutputMode) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Counter(self.counted.clone())))
    }
}

struct Reader {
    next: u64,
    rounds: u64,
    begin: Arc<AtomicBool>,
    since: Option<(Instant, u64)>,
    announced: bool,
    closed: bool,
}

impl Source for Reader {
    fn poll(&mut self, wait: Duration) -> Result<Poll> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(Poll::Split { split: 0, name: "rounds".to_string(), begins: None });
        }
        if !self.begin.load(Ordering::Acquire) {
            std::thread::sleep(wait.min(Duration::from_millis(1)));
            return Ok(Poll::Idle);
        }
        if self.next == self.rounds {
            let closed = std::mem::replace(&mut self.closed, true);
            return Ok(if closed { Poll::End } else { Poll::SplitEnd(0) });
        }
        let (since, first) = *self.since.get_or_insert((Instant::now(), self.next));
        let due = since + Duration::from_micros((self.next - first) * 1_000_000 / PACE);
        let ahead = due.saturating_duration_since(Instant::now());
        std::thread::sleep(ahead.min(wait));
        if ahead > wait {
            return Ok(Poll::Idle);
        }
        let round = self.next as i64;
        let ts = TimestampMicrosecondArray::from(vec![EPOCH + round * STEP]);
        let k = Int64Array::from(vec![round % 10]);
        self.next += 1;
        let rows = RecordBatch::try_new(columns(), vec![Arc::new(ts), Arc::new(k)])
            .map_err(|error| headwater::connectors::Error::Internal(error.to_string()))?;
        let offset = self.next;
        Ok(Poll::Batch(SourceBatch {
            split: 0,
            rows,
            diffs: None,
            changes: Changes::Each,
            offset,
            offsets: Offsets::Dense,
            rejected: Vec::new(),
        }))
    }

    fn resume(&mut self, positions: &[(String, u64)]) -> Result<()> {
        if let Some((_, position)) = positions.first() {
            self.next = *position;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { rows: self.next, ..Progress::default() }
    }
}

/// Adds up the last column of what it gets.
struct Counter(Arc<AtomicU64>);

impl Sink for Counter {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        let Some(counts) = emission.rows.columns().last() else { return Ok(()) };
        let sum: i64 = counts.as_primitive::<Int64Type>().values().iter().sum();
        self.0.fetch_add(sum as u64, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What runs all the time. `broken` is in error in every round, each time with another row.
const RUNNING: &str = "
    CREATE TABLE feed (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (connector = 'rounds');
    CREATE TABLE steady (k BIGINT, v BIGINT);
    INSERT INTO steady VALUES (1, 0), (2, 2);
    CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM feed;
    CREATE MATERIALIZED VIEW broken AS
    SELECT f.n / s.v AS q FROM (SELECT count(*) AS n FROM feed) AS f CROSS JOIN steady AS s WHERE s.k = 1;
    CREATE SINK waiting WITH (connector = 'blackhole', mode = 'changelog') AS SELECT q FROM broken;
    CREATE SINK finals WITH (connector = 'rounds', mode = 'append') AS
    SELECT window(ts, '1 second') AS w, k, count(*) AS n FROM feed GROUP BY window(ts, '1 second'), k";

/// Views that come and go.
const PASSING: [&str; 2] = [
    "CREATE MATERIALIZED VIEW passing AS SELECT k, sum(v) AS s FROM steady GROUP BY k",
    "CREATE MATERIALIZED VIEW passing FROM NOW AS SELECT k, count(*) AS n FROM feed GROUP BY k",
];

/// The memory at a moment of the run.
#[derive(Clone, Copy)]
struct Sample {
    round: u64,
    bytes: i64,
}

/// The median of `bytes`, and the mean round, of the samples from one part of `rounds` to another.
fn middle(samples: &[Sample], rounds: u64, from: f64, to: f64) -> Option<(f64, f64)> {
    let within = |sample: &&Sample| (from..to).contains(&(sample.round as f64 / rounds as f64));
    let (mut bytes, mut sum) = (Vec::new(), 0.0);
    for sample in samples.iter().filter(within) {
        bytes.push(sample.bytes as f64);
        sum += sample.round as f64;
    }
    bytes.sort_by(f64::total_cmp);
    let median = *bytes.get(bytes.len() / 2)?;
    Some((sum / bytes.len() as f64, median))
}

/// Bytes kept a round: of the last tenth of the run against the tenth after the warm-up, which is a fifth of it.
fn growth(samples: &[Sample], rounds: u64) -> Option<f64> {
    let (early, late) = (middle(samples, rounds, 0.2, 0.3)?, middle(samples, rounds, 0.9, 1.0)?);
    Some((late.1 - early.1) / (late.0 - early.0))
}

fn start(params: &Params, connector: Rounds) -> Result<(Session, Subscription), Failure> {
    let mut registry = Registry::standard();
    registry.register(Arc::new(connector));
    let session = Session::builder().workers(params.workers).connectors(registry).build()?;
    session.execute(RUNNING)?;
    let unread = session.sql("SELECT k FROM feed WHERE k < 0")?.write_stream().subscribe()?;
    Ok((session, unread))
}

fn soak(params: &Params) -> Result<Measured, Failure> {
    memory::start_counting();
    let rounds = params.rows as u64;
    let (begin, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let connector = Rounds { rounds, begin: begin.clone(), counted: counted.clone() };
    let (session, _unread) = start(params, connector)?;
    let total = session.view("total")?;
    let mut samples = Vec::with_capacity(params.rows);
    let mut passed = 0;
    let started = Instant::now();
    begin.store(true, Ordering::Release);
    let round = || session.tables().iter().find(|table| table.name == "feed").map_or(0, |table| table.counts.rows);
    // What comes and goes is gone before the feed ends, which would make it another kind of view.
    while round() < rounds * 99 / 100 {
        session.execute(PASSING[passed % PASSING.len()])?;
        session.execute("DROP VIEW passing")?;
        passed += 1;
        std::thread::sleep(PAUSE);
        if samples.len() < samples.capacity() {
            samples.push(Sample { round: round(), bytes: memory::live_bytes() });
        }
    }
    let pace = round() as f64 / started.elapsed().as_secs_f64();
    let kept = growth(&samples, rounds).ok_or("too few rounds to compare the memory of")?;
    let mut measured = Measured::new(vec![kept.max(LEAST_GROWTH)]);
    let (least, most) = (samples.iter().map(|s| s.bytes).min(), samples.iter().map(|s| s.bytes).max());
    measured.notes.push(format!(
        "{pace:.0} rounds a second, {passed} views came and went, {kept:.2} bytes a round; live between {} and {} KiB",
        least.unwrap_or(0) / 1024,
        most.unwrap_or(0) / 1024
    ));
    until("the end of the feed", Duration::from_millis(5), || Ok(total.frontier().is_none().then_some(())))?;
    let answer = numbers(&total)?;
    let differs = (answer != [[rounds as i64]]).then(|| format!("{answer:?} rows instead of {rounds}"));
    let in_windows = until("the last window", Duration::from_millis(5), || {
        let counted = counted.load(Ordering::Relaxed);
        Ok((counted >= rounds).then_some(counted))
    })?;
    let differs = differs
        .or_else(|| (in_windows != rounds).then(|| format!("{in_windows} rows in final windows instead of {rounds}")));
    let error = session.view("broken")?.status().error;
    Ok(measured.checked(differs.or_else(|| error.is_none().then(|| "the broken view is not in error".to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_is_kept_a_round_after_the_warm_up() {
        // Much at the beginning, then 3 bytes a round, and a peak now and then.
        let sample = |round: u64| {
            let warm = 1_000_000.min(10_000 * round as i64);
            let peak = if round.is_multiple_of(7) { 50_000 } else { 0 };
            Sample { round, bytes: warm + 3 * round as i64 + peak }
        };
        let samples: Vec<Sample> = (0..10_000).map(sample).collect();
        let growth = growth(&samples, 10_000).unwrap();
        assert!((growth - 3.0).abs() < 0.01, "{growth}");
    }

    #[test]
    fn growth_needs_samples_at_both_ends() {
        let samples: Vec<Sample> = (0..250).map(|round| Sample { round, bytes: 0 }).collect();
        assert!(growth(&samples, 1_000).is_none());
    }

    #[test]
    fn the_reader_waits_for_its_begin_and_ends() {
        let begin = Arc::new(AtomicBool::new(false));
        let connector = Rounds { rounds: 3, begin: begin.clone(), counted: Arc::default() };
        let spec = TableSpec { name: "t".into(), schema: Some(columns()), ..TableSpec::default() };
        let mut source = connector.source(&spec).unwrap();
        let wait = Duration::from_millis(20);
        assert!(matches!(source.poll(wait).unwrap(), Poll::Split { .. }));
        assert!(matches!(source.poll(wait).unwrap(), Poll::Idle));
        begin.store(true, Ordering::Release);
        let offsets: Vec<u64> = (0..3)
            .map(|_| match source.poll(wait).unwrap() {
                Poll::Batch(batch) => batch.offset,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(offsets, [1, 2, 3]);
        assert!(matches!(source.poll(wait).unwrap(), Poll::SplitEnd(0)));
        assert!(matches!(source.poll(wait).unwrap(), Poll::End));
    }
}
