//! How a run ends: closing is not stopping.
//!
//! When every input is closed, all windows are final and the answer is the view at the largest stamp of its inputs.
//! Stopping finalises nothing. A dataflow sees the same in both cases, an empty frontier, so it is told.

use std::sync::{Arc, OnceLock};

use crate::time::Time;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every input was closed; the time is the largest stamp of all of them.
    Finished(Time),
    /// It was stopped: what the watermark had not made final is not.
    Stopped,
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
pub struct RunEnd {
    end: Arc<OnceLock<End>>,
}

impl RunEnd {
    /// Says that every input is about to be closed, with the largest stamp of all of them.
    pub fn finish(&self, largest: Time) {
        self.end.get_or_init(|| End::Finished(largest));
    }

    /// Says that the run is stopped.
    pub fn stop(&self) {
        self.end.get_or_init(|| End::Stopped);
    }

    /// How the run ended, if that was told.
    pub fn get(&self) -> Option<End> {
        self.end.get().copied()
    }
}
