//! A line on the terminal that shows how far the tables are.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater::operators::clock::{Clock, SystemClock};
use headwater::{Session, TableStatus};
use tokio::runtime::Handle;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// A frontier further behind the clock than this is a replay: its own time says more than how long ago that was.
const LIVE: i64 = 24 * 3_600 * 1_000_000;

/// How long an answer may take before the line is drawn.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line, drawn on standard error until it is dropped. Nothing where that is no terminal.
pub struct Progress {
    line: Arc<Mutex<Line>>,
}

/// What there is of the line.
#[derive(Default)]
struct Line {
    ended: bool,
    drawn: bool,
}

impl Progress {
    /// Begins to draw how the tables of `session` are doing.
    pub fn show(session: &Session, handle: &Handle) -> Self {
        Self::draw(session, handle, Duration::ZERO, Session::tables)
    }

    /// Draws how far the tables are that are read for an answer, once that takes long.
    pub fn of_answers(session: &Session, handle: &Handle) -> Self {
        Self::draw(session, handle, PATIENCE, Session::reading)
    }

    fn draw(session: &Session, handle: &Handle, patience: Duration, tables: fn(&Session) -> Vec<TableStatus>) -> Self {
        let line = Arc::new(Mutex::new(Line::default()));
        if std::io::stderr().is_terminal() {
            let (session, shared) = (session.clone(), line.clone());
            handle.spawn(async move {
                let clock = SystemClock::default();
                let started = Instant::now();
                tokio::time::sleep(patience).await;
                let mut before: Vec<TableStatus> = Vec::new();
                let mut ticks = tokio::time::interval(EVERY);
                ticks.tick().await;
                let mut last = started;
                loop {
                    ticks.tick().await;
                    // An answer that waits for something else has nothing to be drawn.
                    let now = if lock(&shared).ended { break } else { tables(&session) };
                    let text = line_of(&before, &now, last.elapsed(), clock.now_micros());
                    last = Instant::now();
                    before = now;
                    let mut line = lock(&shared);
                    if line.ended {
                        break;
                    }
                    if text.is_empty() && patience > Duration::ZERO {
                        continue;
                    }
                    line.drawn = true;
                    // Nobody can be told that the terminal is gone.
                    let _ = write!(std::io::stderr(), "\r\x1b[2K{}", fitting(started.elapsed(), &text));
                }
            });
        }
        Progress { line }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut line = lock(&self.line);
        line.ended = true;
        if line.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line in one line of the screen: what is longer could not be drawn over.
fn fitting(elapsed: Duration, text: &str) -> String {
    let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    let line = format!("{:>4} s  {text}", elapsed.as_secs());
    line.chars().take(width.saturating_sub(1)).collect()
}

/// How each table is doing `now` (microseconds since the epoch), `elapsed` after it was as in `before`.
fn line_of(before: &[TableStatus], tables: &[TableStatus], elapsed: Duration, now: i64) -> String {
    let one = |table: &TableStatus| {
        let earlier = before.iter().find(|b| b.name == table.name).map_or(0, |b| b.counts.rows);
        let rate = (table.counts.rows - earlier.min(table.counts.rows)) as f64 / elapsed.as_secs_f64().max(1e-6);
        let mut text = format!("{}: {} rows, {}/s", table.name, grouped(table.counts.rows), grouped(rate as u64));
        if let Some(total) = table.progress.total_bytes.filter(|total| *total > 0) {
            text.push_str(&format!(", {} %", (100 * table.progress.bytes / total).min(100)));
        }
        for (count, what) in [(table.counts.late, "late"), (table.counts.rejected, "rejected")] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", grouped(count)));
            }
        }
        match table.frontier {
            None => text.push_str(", ended"),
            Some(frontier) if (0..LIVE).contains(&now.saturating_sub(frontier)) => {
                text.push_str(&format!(", {:.1} s behind", (now - frontier) as f64 / 1e6));
            }
            Some(_) => {}
        }
        text
    };
    tables.iter().filter(|t| t.counts.rows > 0 || t.progress.rows > 0).map(one).collect::<Vec<_>>().join("   ")
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 12, 999, 1_000, 1_234_567].map(grouped),
            ["0", "12", "999", "1,000", "1,234,567"].map(String::from)
        );
    }

    #[test]
    fn the_line_tells_rate_share_and_lag() {
        let status = |rows, frontier| TableStatus {
            name: "visits".into(),
            state: "running",
            counts: headwater::IntakeCounts { rows, late: 2, behind_us: 0, rejected: 0 },
            late_splits: Vec::new(),
            progress: headwater::connectors::Progress { rows, bytes: 50, total_bytes: Some(200) },
            frontier,
        };
        let now = 10_000_000;
        let text = line_of(&[status(1_000, None)], &[status(3_000, Some(8_500_000))], Duration::from_secs(2), now);
        assert_eq!(text, "visits: 3,000 rows, 1,000/s, 25 %, 2 late, 1.5 s behind");
        assert!(line_of(&[], &[status(5, None)], Duration::from_secs(1), now).ends_with("ended"));
    }
}
