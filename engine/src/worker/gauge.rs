//! How much is on its way.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_operators::{Payload, Updates};

use crate::columns::Columns;

/// Rows, and the bytes of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub rows: usize,
    pub bytes: usize,
}

impl Load {
    pub fn of(updates: &Updates<Columns>) -> Self {
        Load { rows: updates.data.len(), bytes: updates.data.weight() }
    }

    /// Whether it is more than `most`, in rows or in bytes.
    pub fn exceeds(self, most: Load) -> bool {
        self.rows > most.rows || self.bytes > most.bytes
    }

    /// The share that `rows` of its rows have.
    pub fn share(self, rows: usize) -> Load {
        let bytes = self.bytes as u128 * rows as u128 / self.rows.max(1) as u128;
        Load { rows, bytes: bytes as usize }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, more: Load) {
        self.rows += more.rows;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, less: Load) {
        self.rows -= less.rows;
        self.bytes -= less.bytes;
    }
}

/// What may be on its way of a table before its source waits.
pub(crate) struct Limits {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Limits {
    pub fn new(most: Load) -> Self {
        Limits { rows: AtomicUsize::new(most.rows), bytes: AtomicUsize::new(most.bytes) }
    }

    pub fn set(&self, most: Load) {
        self.rows.store(most.rows, Ordering::Relaxed);
        self.bytes.store(most.bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> Load {
        Load { rows: self.rows.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What is on its way to operators, so that whoever sends can wait.
#[derive(Default)]
pub(crate) struct Gauge {
    rows: AtomicUsize,
    bytes: AtomicUsize,
    /// How many logs hold rows for queries that wait for their other inputs: no wait of who sends would end that.
    held_up: AtomicUsize,
}

impl Gauge {
    pub fn add(&self, load: Load) {
        self.rows.fetch_add(load.rows, Ordering::Relaxed);
        self.bytes.fetch_add(load.bytes, Ordering::Relaxed);
    }

    pub fn sub(&self, load: Load) {
        self.rows.fetch_sub(load.rows, Ordering::Relaxed);
        self.bytes.fetch_sub(load.bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> Load {
        Load { rows: self.rows.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
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
