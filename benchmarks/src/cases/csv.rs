//! A large CSV file: its first rows, and a group by over all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::prelude::{CsvReadOptions, SessionConfig, SessionContext};

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::memory;
use crate::ours::{self, Session};
use crate::workload::{EPOCH, REGIONS, Random, SECOND, USERS, differs};

/// The first rows that there are.
pub const LIMIT: Case = Case {
    name: "limit",
    about: "SELECT .. LIMIT 5 of a CSV file of 1 GB",
    against: "a scan of all of it",
    rows: ROWS,
    lines: &[Line { case: "limit", unit: "ms", better: Better::Less, reach: 30.0, aim: 300.0 }],
    ours: limit,
    baseline: scan,
};

/// Counts and sums by region.
pub const GROUP_BY: Case = Case {
    name: "csv",
    about: "count and sum by region of a CSV file of 1 GB, 2 workers",
    against: "DataFusion on 2 threads",
    rows: ROWS,
    lines: &[Line { case: "csv", unit: "rows/s", better: Better::More, reach: 0.8, aim: 1.2 }],
    ours: |params| group_by(params, |path| Ok(vec![declare(THREADS, path)?.sql(QUERY)?.collect()?])),
    baseline: |params| group_by(params, datafusion),
};

/// Rows of 1 GB.
const ROWS: usize = 21_000_000;
const THREADS: usize = 2;
const QUERY: &str = "SELECT region, count(*) AS n, sum(amount) AS total FROM visits GROUP BY region";

/// A row of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Visit {
    /// Microseconds since the UTC epoch.
    ts: i64,
    region: u8,
    user: u64,
    amount: u64,
}

/// The rows of the file: 10,000 a second of event time, in its order.
fn visits(seed: u64, rows: usize) -> impl Iterator<Item = Visit> {
    let mut random = Random::new(seed);
    (0..rows as i64).map(move |i| Visit {
        ts: EPOCH + i * 100,
        region: random.below(u64::from(REGIONS)) as u8,
        user: random.below(USERS),
        amount: random.below(1000),
    })
}

/// A row as a line. Times within 31 days of [`EPOCH`], the beginning of a January.
fn line(out: &mut Vec<u8>, visit: &Visit) -> std::io::Result<()> {
    let micros = visit.ts - EPOCH;
    let seconds = micros / SECOND;
    let (day, hour, minute, second) = (1 + seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = micros % SECOND;
    write!(out, "2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06},")?;
    writeln!(out, "region-{:02},{},{}", visit.region, visit.user, visit.amount)
}

/// The file, written by the first side that needs it.
fn file(params: &Params) -> Result<PathBuf, Failure> {
    let path = params.folder.join(format!("visits-{}-{}.csv", params.rows, params.seed));
    if path.exists() {
        return Ok(path);
    }
    let begun = path.with_extension("begun");
    let mut file = std::fs::File::create(&begun)?;
    let mut text = b"ts,region,user_id,amount\n".to_vec();
    for visit in visits(params.seed, params.rows) {
        line(&mut text, &visit)?;
        if text.len() > 1 << 20 {
            file.write_all(&text)?;
            text.clear();
        }
    }
    file.write_all(&text)?;
    // What still had to be written would be on the clock of whoever comes next.
    file.sync_all()?;
    std::fs::rename(begun, &path)?;
    Ok(path)
}

fn declare(workers: usize, path: &Path) -> Result<Session, Failure> {
    let session = Session::builder().workers(workers).build()?;
    session.execute(&format!(
        "CREATE TABLE visits (ts TIMESTAMP, region VARCHAR, user_id BIGINT, amount BIGINT)
         WITH (connector = 'filesystem', path = '{}', format = 'csv')",
        path.display()
    ))?;
    Ok(session)
}

fn limit(params: &Params) -> Result<Measured, Failure> {
    let session = declare(params.workers, &file(params)?)?;
    let begin = Instant::now();
    let rows = session.sql("SELECT * FROM visits LIMIT 5")?.collect()?;
    let measured = Measured::new(vec![begin.elapsed().as_secs_f64() * 1e3]);
    let ts = arrow::compute::cast(rows.column(0), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let ts = ts.as_primitive::<TimestampMicrosecondType>().values();
    let regions = ours::strings(rows.column(1))?;
    let [users, amounts] = [2, 3].map(|column| rows.column(column).as_primitive::<Int64Type>().values());
    let mut left = BTreeSet::new();
    for row in 0..rows.num_rows() {
        let region = regions.value(row).trim_start_matches("region-").parse()?;
        left.insert(Visit { ts: ts[row], region, user: users[row] as u64, amount: amounts[row] as u64 });
    }
    if left.len() != params.rows.min(5) {
        return Ok(measured.checked(Some(format!("{} different rows", left.len()))));
    }
    // Any five will do, but they must be rows of the file.
    visits(params.seed, params.rows).for_each(|visit| {
        left.remove(&visit);
    });
    Ok(measured.checked(left.first().map(|visit| format!("{visit:?} is not in the file"))))
}

fn scan(params: &Params) -> Result<Measured, Failure> {
    let session = declare(params.workers, &file(params)?)?;
    let begin = Instant::now();
    let rows = session.sql("SELECT count(*) AS n, sum(amount) AS total FROM visits")?.collect()?;
    let measured = Measured::new(vec![begin.elapsed().as_secs_f64() * 1e3]);
    let got = [0, 1].map(|column| rows.column(column).as_primitive::<Int64Type>().value(0));
    let total: u64 = visits(params.seed, params.rows).map(|visit| visit.amount).sum();
    let want = [params.rows as i64, total as i64];
    Ok(measured.checked((got != want).then(|| format!("{got:?} instead of {want:?}"))))
}

fn group_by(params: &Params, query: impl Fn(&Path) -> Result<Vec<RecordBatch>, Failure>) -> Result<Measured, Failure> {
    let path = file(params)?;
    let begin = memory::start();
    let answer = query(&path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut measured = Measured::new(vec![params.rows as f64 / seconds]);
    measured.notes.push(format!("{:.2} GB in {seconds:.2} s", std::fs::metadata(&path)?.len() as f64 / 1e9));
    let mut want = BTreeMap::new();
    for visit in visits(params.seed, params.rows) {
        let (n, total) = want.entry(format!("region-{:02}", visit.region)).or_insert((0, 0));
        *n += 1;
        *total += visit.amount as i64;
    }
    let mut got = BTreeMap::new();
    for batch in &answer {
        let regions = ours::strings(batch.column(0))?;
        let [n, total] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            got.insert(regions.value(row).to_string(), (n.value(row), total.value(row)));
        }
    }
    Ok(measured.checked(differs(&got, &want)))
}

fn datafusion(path: &Path) -> Result<Vec<RecordBatch>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("region", DataType::Utf8, true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("amount", DataType::Int64, true),
    ]);
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(THREADS));
        let options = CsvReadOptions::new().has_header(true).schema(&schema);
        context.register_csv("visits", path.to_string_lossy(), options).await?;
        Ok(context.sql(QUERY).await?.collect().await?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_columns_in_order() {
        let mut text = Vec::new();
        let ts = EPOCH + 86_400 * SECOND + 3_723 * SECOND + 45;
        line(&mut text, &Visit { ts, region: 7, user: 12_345, amount: 6 }).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "2026-01-02T01:02:03.000045,region-07,12345,6\n");
    }

    #[test]
    fn the_file_is_made_once_and_is_about_a_gigabyte_at_full_size() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_path_buf();
        let params = Params { rows: 10_000, seed: 1, workers: 1, pinned: false, folder, before: None };
        let path = file(&params).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let gigabytes = size as f64 / 10_000.0 * ROWS as f64 / 1e9;
        assert!((0.95..1.05).contains(&gigabytes), "{gigabytes}");
        let made = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(std::fs::metadata(file(&params).unwrap()).unwrap().modified().unwrap(), made);
        assert_eq!(std::fs::read_dir(&params.folder).unwrap().count(), 1);
    }
}
