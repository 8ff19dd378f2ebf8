//! Threads that decode ahead of whoever polls.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::Result;
use crate::filesystem::lane::{Job, Outcome};
use crate::spawn::spawn;

/// The most threads of a source.
const MOST_THREADS: usize = 4;

/// A few threads that work off jobs, and end when the pool is dropped. How many jobs are under way is for the caller to
/// bound.
pub(crate) struct Pool {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
}

impl Pool {
    /// As many threads as there are processors, within reason.
    pub(crate) fn start() -> Result<Pool> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let (jobs, to_do) = unbounded::<Job>();
        let (done, outcomes) = unbounded();
        let mut pool = Pool { jobs: Some(jobs), outcomes, threads: Vec::new(), under_way: 0 };
        for _ in 0..count {
            let (to_do, done) = (to_do.clone(), done.clone());
            pool.threads.push(spawn("decode", move || {
                // It ends when nobody gives jobs or takes outcomes any more.
                for job in to_do {
                    if done.send(job.run()).is_err() {
                        return;
                    }
                }
            })?);
        }
        Ok(pool)
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    pub(crate) fn give(&mut self, job: Job) {
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok()) {
            self.under_way += 1;
        }
    }

    /// An outcome that is there.
    pub(crate) fn try_take(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.under_way -= 1;
        Some(outcome)
    }

    /// Waits for an outcome; `None` if no job is under way.
    pub(crate) fn take(&mut self) -> Option<Outcome> {
        if self.under_way == 0 {
            return None;
        }
        let outcome = self.outcomes.recv().ok()?;
        self.under_way -= 1;
        Some(outcome)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        // What is not begun is not wanted any more, and what is takes no longer than a block.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
