//! A line on the terminal that says how far long work is.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How far some work is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Rows done.
    pub rows: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes there are, where known.
    pub total_bytes: Option<u64>,
    /// How far the answers are behind the newest input.
    pub lag: Option<Duration>,
}

/// Shows reports on standard error, at most four times a second, on one line that is overwritten. Shows nothing if
/// standard error is not a terminal.
#[derive(Debug)]
pub struct Reporter {
    label: String,
    shown: bool,
    last: Option<Instant>,
    /// The time and rows of about a second ago, for the rate.
    since: Option<(Instant, u64)>,
    rate: f64,
    dirty: bool,
}

impl Reporter {
    /// A reporter whose line begins with `label`.
    pub fn new(label: impl Into<String>) -> Reporter {
        Reporter {
            label: label.into(),
            shown: std::io::stderr().is_terminal(),
            last: None,
            since: None,
            rate: 0.0,
            dirty: false,
        }
    }

    /// Shows `report` if it is time to.
    pub fn update(&mut self, report: &Report) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < Duration::from_millis(250)) {
            return;
        }
        let now = Instant::now();
        self.last = Some(now);
        let line = self.line(report, now);
        self.put(&format!("\r{line}\x1b[K"));
        self.dirty = true;
    }

    /// Removes the line, so that something else can be printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.put("\r\x1b[K");
        }
    }

    fn put(&self, text: &str) {
        // A terminal that is gone is no reason to stop the work.
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn line(&mut self, report: &Report, now: Instant) -> String {
        let (since, rows) = *self.since.get_or_insert((now, report.rows));
        let passed = now.duration_since(since);
        if passed >= Duration::from_millis(200) {
            self.rate = report.rows.saturating_sub(rows) as f64 / passed.as_secs_f64();
        }
        if passed >= Duration::from_secs(1) {
            self.since = Some((now, report.rows));
        }
        let mut line = format!("{}: {} rows", self.label, grouped(report.rows));
        let _ = write!(line, ", {}/s", grouped(self.rate as u64));
        if let Some(total) = report.total_bytes.filter(|total| *total > 0) {
            let _ = write!(line, ", {:.0}%", (report.bytes as f64 / total as f64 * 100.0).min(100.0));
        }
        if let Some(lag) = report.lag {
            let _ = write!(line, ", {} behind", short(lag));
        }
        let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
        line.chars().take(width.saturating_sub(1)).collect()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A number with its digits in groups of three, e.g. `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in the unit that suits it, e.g. `12 ms`, `3.4 s`, `5 min`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rows_rate_percent_and_lag() {
        let mut reporter = Reporter::new("events");
        let start = Instant::now();
        reporter.line(&Report::default(), start);
        let report =
            Report { rows: 1_500_000, bytes: 50, total_bytes: Some(200), lag: Some(Duration::from_millis(12)) };
        let line = reporter.line(&report, start + Duration::from_millis(500));
        assert_eq!(line, "events: 1,500,000 rows, 3,000,000/s, 25%, 12 ms behind");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(short(Duration::from_micros(7)), "7 us");
        assert_eq!(short(Duration::from_secs(300)), "5 min");
    }
}
