//! Distinct visitors by region, exactly, live from a feed of 100,000 visits a second; and the same queries in batch.
//!
//! The feed's event times are up to 3 s out of order; the watermark allows for 10 s. While it runs, its answers stand on
//! the terminal with the rate and how far they are behind, and its rows are archived as Parquet. When it has ended, a
//! second session answers the same SQL over the archive, and the answers are compared.
//!
//! ```sh
//! cargo run --release -p headwater-examples --bin visitors
//! ```

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use clap::Parser;
use headwater::{Emission, Event, Op, Outcome, OutputMode, RuntimeMode, Session, Trigger, View};
use headwater_examples::{Done, definitions, queries, rows, table};
use headwater_operators::clock::{Clock, SystemClock};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SQL: &str = include_str!("../../sql/visitors.sql");

/// Exact distinct visitors by region, live from a feed and in batch from its archive.
#[derive(Parser)]
struct Args {
    /// How long the feed runs, seconds
    #[arg(long, default_value_t = 75)]
    seconds: u64,
    /// Visits a second
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A short run that makes sure of its answers
    #[arg(long)]
    check: bool,
}

fn main() -> Done {
    let args = Args::parse();
    let (rate, rows_in_all, events) = match args.check {
        // Two and a half minutes of event time in three seconds.
        true => (50_000, 150_000, 1_000),
        false => (args.rate, args.rate * args.seconds, args.rate),
    };
    let archive = tempfile::tempdir()?;
    let archive = archive.path().display();
    let clock = SystemClock::new();
    let start = clock.now_micros();

    let (columns, _) = SQL.split_once("WITH (").ok_or("the file declares no table")?;
    let views = definitions(queries(SQL)?);
    let live = Session::builder().workers(args.workers).build()?;
    live.execute(&format!(
        "{columns} WITH (
             connector = 'datagen', 'rows-per-second' = '{rate}', 'number-of-rows' = '{rows_in_all}',
             'events-per-second' = '{events}', start = '{}', disorder = '3 s',
             'fields.user_id.distinct' = '1000000',
             'fields.region.values' = 'Africa,Asia,Europe,North America,Oceania,South America'
         )",
        instant(start)
    ))?;
    live.execute(&views)?;
    let outcomes = live.execute(&format!(
        "CREATE SINK archive FROM visits WITH (
             connector = 'filesystem', path = '{archive}', format = 'parquet', trigger = '2 s'
         )"
    ))?;
    let sink = outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Sink(sink) => Some(sink),
        _ => None,
    });
    let latency = follow(&live, &clock, !args.check)?;
    let status = live.tables().into_iter().find(|table| table.name == "visits").ok_or("no table")?;
    if !args.check {
        println!("behind the feed: {} ms median, {} ms 99th percentile", at(&latency, 50), at(&latency, 99));
    }
    println!("live: {} visits, {} late", status.counts.rows, status.counts.late);
    let (total, minutes) = answers(&live)?;
    sink.ok_or("no sink")?.await_termination()?;
    live.stop();

    let started = Instant::now();
    let batch = Session::builder().workers(args.workers).runtime_mode(RuntimeMode::Batch).build()?;
    batch.execute(&format!("{columns} WITH (connector = 'filesystem', path = '{archive}', format = 'parquet')"))?;
    batch.execute(&views)?;
    let (batch_total, batch_minutes) = answers(&batch)?;
    println!("batch: the same SQL over the Parquet archive in {:.2} s", started.elapsed().as_secs_f64());

    println!("{}", table(&batch_total)?);
    assert_eq!(status.counts.rows, rows_in_all, "the feed gives what was asked for");
    assert_eq!(status.counts.late, 0, "3 s of disorder are within the watermark's 10 s");
    assert_eq!(rows(&total)?, rows(&batch_total)?, "over all time, live and batch agree");
    assert_eq!(rows(&minutes)?, rows(&batch_minutes)?, "by the minute, live and batch agree");
    println!("live and batch agree: {} regions, {} regions and minutes", total.num_rows(), minutes.num_rows());
    Ok(())
}

/// Follows the totals until the feed ends, showing them if `shown`, and gives how far each answer was behind the feed, in
/// milliseconds, ascending.
fn follow(session: &Session, clock: &SystemClock, shown: bool) -> Result<Vec<i64>, Box<dyn std::error::Error>> {
    let mut changes = session.view("visitors")?.subscribe(OutputMode::Changelog, Trigger::Continuous)?;
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    let mut latency = Vec::new();
    let mut screen = Screen { started: Instant::now(), drawn: None, rows: 0, lines: 0 };
    loop {
        match changes.next(Duration::from_millis(100))? {
            Event::Emission(emission) => {
                if let Some(frontier) = emission.frontier {
                    latency.push((clock.now_micros() - frontier) / 1_000);
                }
                apply(&emission, &mut totals);
            }
            Event::Idle => {}
            Event::End => break,
        }
        if shown && screen.is_due() {
            let rows = session.tables().iter().map(|table| table.counts.rows).sum();
            screen.draw(&totals, rows, latency.last().copied().unwrap_or(0))?;
        }
    }
    latency.sort_unstable();
    Ok(latency)
}

/// Applies changes of (region, visitors) to the totals.
fn apply(emission: &Emission, totals: &mut BTreeMap<String, i64>) {
    let regions = emission.rows.column(0).as_string::<i32>();
    let counts = emission.rows.column(1).as_primitive::<Int64Type>();
    // Retractions first: a region's old count must not take away its new one.
    for wanted in [Op::Delete, Op::Insert] {
        for (row, op) in emission.ops.iter().enumerate().filter(|(_, op)| **op == wanted) {
            match op {
                Op::Delete => totals.remove(regions.value(row)),
                Op::Insert | Op::Upsert => totals.insert(regions.value(row).to_owned(), counts.value(row)),
            };
        }
    }
}

/// The answers at the end of the input: over all time, and by the minute.
fn answers(session: &Session) -> Result<(RecordBatch, RecordBatch), Box<dyn std::error::Error>> {
    let end = |view: View| {
        while view.frontier().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        view.snapshot()
    };
    Ok((end(session.view("visitors")?)?, end(session.view("visitors_per_minute")?)?))
}

/// The totals on the terminal, drawn over themselves.
struct Screen {
    started: Instant,
    drawn: Option<Instant>,
    rows: u64,
    lines: usize,
}

impl Screen {
    fn is_due(&self) -> bool {
        self.drawn.is_none_or(|drawn| drawn.elapsed() > Duration::from_millis(500))
    }

    fn draw(&mut self, totals: &BTreeMap<String, i64>, rows: u64, behind: i64) -> std::io::Result<()> {
        let elapsed = self.drawn.unwrap_or(self.started).elapsed().as_secs_f64();
        let rate = (rows - self.rows) as f64 / elapsed;
        let mut text = format!(
            "{:>4.0} s  {rows} visits, {rate:.0} a second, answers {behind} ms behind\n",
            self.started.elapsed().as_secs_f64()
        );
        for (region, visitors) in totals {
            text.push_str(&format!("        {region:<14} {visitors:>9} visitors\n"));
        }
        let mut out = std::io::stdout().lock();
        if self.lines > 0 && out.is_terminal() {
            // Up to the first line of the last drawing, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        (self.drawn, self.rows, self.lines) = (Some(Instant::now()), rows, text.lines().count());
        Ok(())
    }
}

/// The value below which `percent` of the sorted `values` lie; 0 if there are none.
fn at(values: &[i64], percent: usize) -> i64 {
    let index = values.len() * percent / 100;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// An instant, microseconds since the epoch, as text without a zone.
fn instant(micros: i64) -> String {
    arrow::temporal_conversions::timestamp_us_to_datetime(micros)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}
