//! A folder of many small files that is followed.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::case::{Better, Case, Failure, Line, Measured, Params};
use crate::machine::processor_seconds;
use crate::ours::{numbers, session, until};

/// What a file costs, and what it costs to look for more.
pub const MANY_FILES: Case = Case {
    name: "many-files",
    about: "processor time a file of 20,000 one-row CSV files that are followed; a core's share once nothing comes",
    against: "2,500 files; 5 % of a core",
    rows: 20_000,
    lines: &[
        Line { case: "many-files", unit: "us/file", better: Better::Less, reach: 0.7, aim: 0.95 },
        Line { case: "many-files-idle", unit: "% core", better: Better::Less, reach: 1.0, aim: 5.0 },
    ],
    ours: |params| measure(params, params.rows),
    baseline: |params| {
        let mut measured = measure(params, (params.rows / 8).max(1))?;
        measured.values = vec![measured.values[0], 5.0];
        Ok(measured)
    },
};

/// How often it is looked whether all is there: seldom, for looking is on the clock.
const LOOK: Duration = Duration::from_millis(20);
/// How long it settles before it counts as idle, and how long it is watched then.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);
/// The least share that can be told from none, percent of a core.
const LEAST_SHARE: f64 = 0.1;

/// The content of file number `i`: a row, a second after the one in the file before.
fn content(i: usize) -> String {
    let (day, second) = (1 + i / 86_400, i % 86_400);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("ts,k\n2024-01-{day:02}T{hour:02}:{minute:02}:{:02},{i}\n", second % 60)
}

fn write(folder: &Path, files: usize) -> Result<(), Failure> {
    for i in 0..files {
        std::fs::write(folder.join(format!("f{i:07}.csv")), content(i))?;
    }
    Ok(())
}

fn measure(params: &Params, files: usize) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), files)?;
    let (used, begin) = (processor_seconds(), Instant::now());
    let session = session(
        params,
        &format!(
            "CREATE TABLE t (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
             WITH (connector = 'filesystem', path = '{}', format = 'csv', 'source.monitor-interval' = '1 s',
                 idle_timeout = '1 s');
             CREATE MATERIALIZED VIEW read AS SELECT count(*) AS n, sum(k) AS s FROM t",
            folder.path().display()
        ),
    )?;
    until("every file", LOOK, || {
        let read: u64 = session.tables().iter().map(|table| table.counts.rows).sum();
        Ok((read >= files as u64).then_some(()))
    })?;
    let view = session.view("read")?;
    // A file that is followed may grow, so the last of the answer comes once all are idle.
    let want = vec![vec![files as i64, (0..files as i64).sum()]];
    let answer = until("the answer", LOOK, || {
        let answer = numbers(&view)?;
        Ok((answer.first().is_some_and(|row| row[0] >= files as i64)).then_some(answer))
    })?;
    let (used, seconds) = (processor_seconds() - used, begin.elapsed().as_secs_f64());
    std::thread::sleep(SETTLE);
    let (idle, begin) = (processor_seconds(), Instant::now());
    std::thread::sleep(IDLE);
    let share = (processor_seconds() - idle) / begin.elapsed().as_secs_f64() * 100.0;
    let mut measured = Measured::new(vec![used / files as f64 * 1e6, share.max(LEAST_SHARE)]);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    measured.notes.push(format!(
        "{files} files read in {seconds:.2} s with {used:.2} s of processor; then {share:.1} % of a core, {open} files open"
    ));
    Ok(measured.checked((answer != want).then(|| format!("{answer:?} instead of {want:?}"))))
}

#[cfg(test)]
mod tests {
    use super::content;

    #[test]
    fn each_file_is_a_second_after_the_one_before() {
        assert_eq!(content(0), "ts,k\n2024-01-01T00:00:00,0\n");
        assert_eq!(content(3_661), "ts,k\n2024-01-01T01:01:01,3661\n");
        assert_eq!(content(86_400), "ts,k\n2024-01-02T00:00:00,86400\n");
    }
}
