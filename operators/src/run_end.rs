//! How a run ends: closing is not stopping.
//!
//! When every input is closed, all windows are final and the answer is the view at the largest stamp of its inputs.
//! Stopping finalises nothing. A dataflow sees the same in both cases, an empty frontier, so it is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::time::{SINCE_EVER, Time};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every input was closed; the time is the largest stamp of all of them.
    Finished(Time),
    /// It was stopped, when all before this time was complete: what that had not made final is not. Operators may see an input
    /// reach this time and close in one step.
    Stopped(Time),
}

/// Tells the operators of a dataflow, on all workers, how its run ended. Clones are one.
///
/// It must be told before the inputs are closed. Untold, an empty frontier means that every input was closed, and each
/// operator takes the largest time that it has seen for the largest stamp.
///
/// ```
/// use headwater_operators::run_end::{End, RunEnd};
/// let end = RunEnd::default();
/// end.finish(7);
/// end.stop(); // too late: the first word holds
/// assert_eq!(end.get(), Some(End::Finished(7)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunEnd(Arc<Told>);

#[derive(Debug)]
struct Told {
    /// With the largest stamp, or stopped.
    end: OnceLock<Option<Time>>,
    /// The least frontier of the inputs that a stop has closed.
    closed: AtomicU64,
    /// Of the dataflows that this one reads.
    upstream: Mutex<Vec<RunEnd>>,
}

/// No input is closed yet.
const OPEN: Time = Time::MAX;

impl Default for Told {
    fn default() -> Self {
        Told { end: OnceLock::new(), closed: AtomicU64::new(OPEN), upstream: Mutex::default() }
    }
}

impl RunEnd {
    /// Says that every input is about to be closed, with the largest stamp of all of them.
    pub fn finish(&self, largest: Time) {
        self.0.end.get_or_init(|| Some(largest));
    }

    /// Says that the run is stopped.
    pub fn stop(&self) {
        self.0.end.get_or_init(|| None);
    }

    /// Whether it was told that it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.end.get() == Some(&None)
    }

    /// Says that an input is about to be closed whose frontier is at `frontier`. It counts if that is because of a stop.
    pub fn close(&self, frontier: Time) {
        if self.is_stopped() {
            self.0.closed.fetch_min(frontier, Ordering::AcqRel);
        }
    }

    /// Says that the dataflow reads the output of another, which a stop closes as well.
    pub fn reads(&self, upstream: &RunEnd) {
        self.0.upstream.lock().unwrap_or_else(PoisonError::into_inner).push(upstream.clone());
    }

    /// How the run ended, if that was told.
    pub fn get(&self) -> Option<End> {
        self.0.end.get().map(|end| match (end, self.closed()) {
            (Some(largest), _) => End::Finished(*largest),
            (None, OPEN) => End::Stopped(SINCE_EVER),
            (None, closed) => End::Stopped(closed),
        })
    }

    fn closed(&self) -> Time {
        let upstream = self.0.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.0.closed.load(Ordering::Acquire);
        upstream.iter().map(RunEnd::closed).fold(own, Time::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_where_the_first_input_was() {
        let (end, upstream) = (RunEnd::default(), RunEnd::default());
        end.reads(&upstream);
        // It ended by itself.
        end.close(3);
        assert_eq!(end.get(), None);
        end.stop();
        assert_eq!(end.get(), Some(End::Stopped(SINCE_EVER)));
        end.close(9);
        end.close(12);
        assert_eq!(end.get(), Some(End::Stopped(9)));
        upstream.close(4);
        upstream.stop();
        upstream.close(7);
        assert_eq!(end.get(), Some(End::Stopped(7)));
    }
}
