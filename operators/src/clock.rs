//! The one source of wall-clock time, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the wall-clock time. It never steps back.
///
/// ```
/// use headwater_operators::clock::{Clock, SystemClock};
/// let clock = SystemClock::new();
/// let before = clock.now_micros();
/// assert!(clock.now_micros() >= before);
/// ```
pub trait Clock: Send + Sync {
    /// Microseconds since the UTC epoch.
    fn now_micros(&self) -> i64;
}

/// The system's time at construction, moved on by the monotonic clock: it never steps back, and does not follow
/// corrections of the system's time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    started_micros: i64,
}

impl SystemClock {
    /// A clock that starts at the system's time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are told to use")]
    pub fn new() -> Self {
        let started_micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_micros() as i64,
            Err(before) => -(before.duration().as_micros() as i64),
        };
        SystemClock { started: Instant::now(), started_micros }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        self.started_micros.saturating_add(self.started.elapsed().as_micros() as i64)
    }
}

/// A clock that is set by hand. Clones show the same time.
///
/// ```
/// use headwater_operators::clock::{Clock, ManualClock};
/// let clock = ManualClock::new(5);
/// let other = clock.clone();
/// other.advance(10);
/// assert_eq!(clock.now_micros(), 15);
/// other.set(3); // a clock never steps back
/// assert_eq!(clock.now_micros(), 15);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    micros: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock at `micros` since the UTC epoch.
    pub fn new(micros: i64) -> Self {
        ManualClock { micros: Arc::new(AtomicI64::new(micros)) }
    }

    /// Sets the time to `micros` since the UTC epoch; an earlier time than now is ignored.
    pub fn set(&self, micros: i64) {
        self.micros.fetch_max(micros, Ordering::SeqCst);
    }

    /// Moves the time on by `micros`.
    pub fn advance(&self, micros: u32) {
        self.micros.fetch_add(i64::from(micros), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.micros.load(Ordering::SeqCst)
    }
}
