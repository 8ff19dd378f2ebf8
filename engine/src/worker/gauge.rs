//! How many rows are on their way.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows on their way to operators, so that whoever sends can wait.
#[derive(Default)]
pub(crate) struct Gauge {
    rows: AtomicUsize,
    /// How many logs hold rows for queries that wait for their other inputs: no wait of who sends would end that.
    held_up: AtomicUsize,
}

impl Gauge {
    pub fn add(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn sub(&self, rows: usize) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
    }

    pub fn get(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Says that a log of these rows waits for other inputs, or no longer.
    pub fn hold_up(&self, waits: bool) {
        match waits {
            true => self.held_up.fetch_add(1, Ordering::Relaxed),
            false => self.held_up.fetch_sub(1, Ordering::Relaxed),
        };
    }

    pub fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed) > 0
    }
}
