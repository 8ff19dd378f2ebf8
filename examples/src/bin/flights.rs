//! A week of flights as a stream and as a batch: the same queries, the same answers.
//!
//! The file is read once as a batch. Then its rows are replayed in the order of their scheduled hour into a session where
//! `flights` is a stream, and five views are kept up to date while it runs. When the stream has ended, both sessions'
//! answers are compared.
//!
//! ```sh
//! cargo run --release -p headwater-examples --bin flights
//! cargo run --release -p headwater-examples --bin flights -- --data DIR    # the whole year, or any files of that form
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use clap::Parser;
use headwater::{RuntimeMode, Session};
use headwater_examples::{Done, definitions, queries, rows, table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SQL: &str = include_str!("../../sql/flights.sql");
const VIEWS: [&str; 5] = ["carrier_days", "makers", "six_hours", "worst_routes", "cancelled"];

/// Replays flights as a stream, keeps five views up to date, and compares them with a batch run.
#[derive(Parser)]
struct Args {
    /// A folder with flights.csv.gz, airlines.csv and planes.csv; a week that comes with the example if not given
    #[arg(long)]
    data: Option<PathBuf>,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// No pauses between the days of the replay
    #[arg(long)]
    check: bool,
}

/// The file's statements with its tables in `data`.
fn statements(data: &Path) -> String {
    SQL.replace("examples/data/nycflights13", &data.display().to_string().replace('\'', "''"))
}

fn main() -> Done {
    let args = Args::parse();
    let whole_week = args.data.is_none();
    let data = args.data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nycflights13"));
    let text = statements(&data);
    let views = definitions(queries(&text)?);

    let started = Instant::now();
    let batch = Session::builder().workers(args.workers).runtime_mode(RuntimeMode::Batch).build()?;
    batch.execute(&definitions(&text))?;
    let expected = answers(&batch)?;
    let flights = batch.sql("SELECT * FROM flights ORDER BY time_hour")?.collect()?;
    println!("batch: {} flights in {:.2} s", flights.num_rows(), started.elapsed().as_secs_f64());

    let stream = Session::builder().workers(args.workers).build()?;
    let (tables, _) = text.split_once("-- The queries.").ok_or("no queries")?;
    let dimensions = tables.find("CREATE TABLE airlines").ok_or("no airlines")?;
    stream.execute(&tables[dimensions..])?;
    let schema = flights.schema();
    let reader = stream.read_stream().format("channel").schema(schema).load("flights")?;
    reader.with_watermark("time_hour", Duration::from_secs(3600))?;
    stream.execute(&views)?;

    let started = Instant::now();
    let mut input = stream.input("flights")?;
    let mut day = 0;
    for hour in hours(&flights)? {
        let rows = flights.slice(hour.start, hour.end - hour.start);
        input.push(rows)?;
        if hour.time / DAY > day {
            day = hour.time / DAY;
            if !args.check {
                show(&stream, hour.start)?;
                std::thread::sleep(Duration::from_millis(300));
            }
        }
    }
    input.close();
    let answers = answers(&stream)?;
    println!("stream: {} flights in {:.2} s", flights.num_rows(), started.elapsed().as_secs_f64());

    for ((view, answer), expected) in VIEWS.iter().zip(&answers).zip(&expected) {
        let equal = rows(answer)? == rows(expected)?;
        println!("{view}: {} rows as a stream, {} as a batch, {}", answer.num_rows(), expected.num_rows(), {
            if equal { "equal" } else { "DIFFERENT" }
        });
        assert!(equal && answer.num_rows() > 0, "the two answers of {view} must be equal");
    }
    println!("\nThe ten worst routes:\n{}", table(&stream.sql(WORST_FIRST)?.collect()?)?);
    if whole_week {
        let flights = answers[4].column_by_name("flights").ok_or("no column")?.as_primitive::<Int64Type>();
        assert_eq!(flights.values().iter().sum::<i64>(), 929, "the week's cancelled flights");
    }
    Ok(())
}

/// The view has no order of its own.
const WORST_FIRST: &str = "SELECT * FROM worst_routes ORDER BY mean_arr_delay DESC, origin, dest";

/// The views when their inputs have ended.
fn answers(session: &Session) -> Result<Vec<RecordBatch>, headwater::Error> {
    let end = |name: &&str| {
        let view = session.view(name)?;
        while view.frontier().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        view.snapshot()
    };
    VIEWS.iter().map(end).collect()
}

const DAY: i64 = 24 * 3600 * 1_000_000;

/// The rows of one scheduled hour, which stand together.
struct Hour {
    /// Microseconds since the epoch.
    time: i64,
    start: usize,
    end: usize,
}

/// The hours of flights that are sorted by `time_hour`.
fn hours(flights: &RecordBatch) -> Result<Vec<Hour>, Box<dyn std::error::Error>> {
    let column = flights.column_by_name("time_hour").ok_or("flights have no time_hour")?;
    let times: Vec<i64> = match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => times.values().to_vec(),
        None => column.as_primitive::<TimestampNanosecondType>().values().iter().map(|t| t / 1000).collect(),
    };
    let mut hours: Vec<Hour> = Vec::new();
    for (row, &time) in times.iter().enumerate() {
        match hours.last_mut() {
            Some(hour) if hour.time == time => hour.end = row + 1,
            _ => hours.push(Hour { time, start: row, end: row + 1 }),
        }
    }
    Ok(hours)
}

/// Prints how the replay is doing: the worst route so far.
fn show(session: &Session, flights: usize) -> Done {
    let worst = session.sql(WORST_FIRST)?.collect()?;
    let cancelled = session.view("cancelled")?.snapshot()?;
    let worst = match worst.num_rows() {
        0 => "none yet".to_owned(),
        _ => {
            let text = |column: &str| -> Result<String, Box<dyn std::error::Error>> {
                let column = worst.column_by_name(column).ok_or("no such column")?;
                Ok(array_value_to_string(column, 0)?)
            };
            let delay: f64 = text("mean_arr_delay")?.parse()?;
            format!("{} to {}, {delay:.0} minutes late", text("origin")?, text("dest")?)
        }
    };
    let cancelled = cancelled.num_rows();
    println!("{flights:>6} flights replayed; {cancelled} days and airports with cancellations; worst route {worst}");
    Ok(())
}
