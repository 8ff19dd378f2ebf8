//! Catching up: input that is there faster than it can be worked off.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use headwater::{Event, OutputMode};
use serde_json::Value;

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::memory;
use crate::ours::{PATIENCE, Session};
use crate::workload::{SECOND, differs};

/// Memory that must not follow the length of the backlog.
pub const MEMORY: Case = Case {
    name: "backlog",
    about: "peak memory of windowed distinct counts that catch up with 40M generated rows",
    against: "5M rows, with as much live state",
    rows: ROWS,
    lines: &[Line { case: "backlog", unit: "MiB", better: Better::Less, reach: 0.8, aim: 0.95 }],
    ours: |params| peak(params, params.rows),
    baseline: |params| peak(params, params.rows / 8),
};

/// The rate, which a bound on memory must not cost.
pub const RATE: Case = Case {
    name: "backlog-rate",
    about: "rows a second of that catching up",
    against: "the build that --before names, on the same script",
    rows: ROWS,
    lines: &[Line { case: "backlog-rate", unit: "rows/s", better: Better::More, reach: 0.95, aim: 1.2 }],
    ours: |params| {
        let (seconds, measured) = run(params, params.rows, in_process)?;
        Ok(Measured { values: vec![params.rows as f64 / seconds], ..measured })
    },
    baseline: |params| {
        let before = params.before.clone().ok_or("no baseline: run with --before BINARY, an earlier headwater")?;
        let (seconds, measured) = run(params, params.rows, |params, script| command(&before, params, script))?;
        Ok(Measured { values: vec![params.rows as f64 / seconds], ..measured })
    },
};

const ROWS: usize = 40_000_000;
/// The width of the windows, microseconds.
const WINDOW: i64 = 5 * SECOND;

fn peak(params: &Params, rows: usize) -> Result<Measured, Failure> {
    let (seconds, mut measured) = run(params, rows, in_process)?;
    let peak = measured.peak_rss_mib;
    measured.values = vec![peak];
    measured.notes.push(format!("{rows} rows: peak {peak:.0} MiB, {:.2} M rows/s", rows as f64 / seconds / 1e6));
    Ok(measured)
}

/// The table: 100,000 rows a second of event time, so that the live state is 15 s of them however many there are.
fn table(rows: usize, seed: u64) -> String {
    format!(
        "CREATE TABLE e (event_time TIMESTAMP, user_id BIGINT, region INT,
             WATERMARK FOR event_time AS event_time - INTERVAL '10' SECOND)
         WITH (connector = 'datagen', 'events-per-second' = 100000, 'number-of-rows' = {rows}, seed = {seed},
             mode = 'stream', 'fields.user_id.distinct' = 1000000, 'fields.region.distinct' = 50);"
    )
}

/// Runs the script by `how` and checks the file that it leaves.
fn run(
    params: &Params,
    rows: usize,
    how: impl FnOnce(&Params, &Path) -> Result<(), Failure>,
) -> Result<(f64, Measured), Failure> {
    let folder = tempfile::tempdir()?;
    let (script, out) = (folder.path().join("script.sql"), folder.path().join("out"));
    let text = format!(
        "{}
         CREATE SINK s WITH (connector = 'filesystem', path = '{}', format = 'json') AS
         SELECT window(event_time, '5 seconds')['start'] AS start, region, count(DISTINCT user_id) AS users
         FROM e GROUP BY window(event_time, '5 seconds'), region;",
        table(rows, params.seed),
        out.display()
    );
    std::fs::write(&script, text)?;
    let begin = memory::start();
    how(params, &script)?;
    let seconds = begin.elapsed().as_secs_f64();
    let measured = Measured::new(Vec::new());
    Ok((seconds, measured.checked(differs(&written(&out)?, &expected(params, rows)?))))
}

fn in_process(params: &Params, script: &Path) -> Result<(), Failure> {
    let session = Session::builder().workers(params.workers).build()?;
    session.run_script(&std::fs::read_to_string(script)?)?.await_termination()?;
    Ok(())
}

/// Runs the script by a command.
fn command(program: &Path, params: &Params, script: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg("run").arg(script).args(["--workers", &params.workers.to_string()]);
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ended with {}: {said}", program.display(), output.status).into());
    }
    Ok(())
}

/// Microseconds of a time as the JSON format writes it.
fn micros(text: &str) -> Result<i64, Failure> {
    let column = arrow::array::StringArray::from(vec![text.trim_end_matches('Z')]);
    let times = arrow::compute::cast(&column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().value(0))
}

/// What the sink wrote: users by window and region.
fn written(folder: &Path) -> Result<BTreeMap<(i64, i64), i64>, Failure> {
    let mut got = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for line in std::fs::read_to_string(&path)?.lines() {
            let row: Value = serde_json::from_str(line)?;
            let start = micros(row["start"].as_str().ok_or("no start")?)?;
            let number = |name: &str| row[name].as_i64().ok_or_else(|| format!("no {name} in {line}"));
            if got.insert((start, number("region")?), number("users")?).is_some() {
                return Err(format!("a second row of a window and region: {line}").into());
            }
        }
    }
    Ok(got)
}

/// The same by sorting the rows as the generator gives them.
fn expected(params: &Params, rows: usize) -> Result<BTreeMap<(i64, i64), i64>, Failure> {
    let session = Session::new()?;
    session.execute(&table(rows, params.seed))?;
    let all = session.sql("SELECT event_time, region, user_id FROM e")?;
    let mut all = all.write_stream().output_mode(OutputMode::Append).subscribe()?;
    let mut packed: Vec<(i64, i64, i64)> = Vec::with_capacity(rows);
    loop {
        match all.next(PATIENCE)? {
            Event::Emission(emission) => {
                let times = emission.rows.column(0).as_primitive::<TimestampMicrosecondType>();
                let regions = arrow::compute::cast(emission.rows.column(1), &DataType::Int64)?;
                let regions = regions.as_primitive::<Int64Type>();
                let users = emission.rows.column(2).as_primitive::<Int64Type>();
                packed.extend((0..emission.rows.num_rows()).map(|row| {
                    let time = times.value(row);
                    (time - time.rem_euclid(WINDOW), regions.value(row), users.value(row))
                }));
            }
            Event::End => break,
            Event::Idle => return Err("the generator's rows did not come".into()),
        }
    }
    if packed.len() != rows {
        return Err(format!("{} rows of the generator, not {rows}", packed.len()).into());
    }
    packed.sort_unstable();
    packed.dedup();
    let mut want = BTreeMap::new();
    for (start, region, _) in packed {
        *want.entry((start, region)).or_insert(0) += 1;
    }
    Ok(want)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["2024-01-01T00:00:05Z", "2024-01-01T00:00:05.000000", "2024-01-01T00:00:05"] {
            assert_eq!(micros(text).unwrap(), 1_704_067_205_000_000);
        }
    }
}
