//! How much state the operators of this process hold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

static GAUGES: Mutex<Vec<Weak<Gauge>>> = Mutex::new(Vec::new());

/// The state of one operator on one worker.
#[derive(Debug)]
pub struct Gauge {
    name: String,
    worker: usize,
    bytes: AtomicUsize,
    records: AtomicUsize,
}

impl Gauge {
    /// A gauge that [`held`] reports as long as it is kept.
    pub fn new(name: &str, worker: usize) -> Arc<Self> {
        let (bytes, records) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let gauge = Arc::new(Gauge { name: name.to_owned(), worker, bytes, records });
        let mut gauges = gauges();
        gauges.retain(|gauge| gauge.strong_count() > 0);
        gauges.push(Arc::downgrade(&gauge));
        gauge
    }

    /// Sets what the operator holds.
    pub fn set(&self, bytes: usize, records: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.records.store(records, Ordering::Relaxed);
    }
}

/// What an operator holds on a worker. Operators refresh it every few thousand updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The operator's name.
    pub name: String,
    /// The worker.
    pub worker: usize,
    /// Bytes of state, spare capacity included.
    pub bytes: usize,
    /// Records of state: keys or rows.
    pub records: usize,
}

/// What each operator of this process holds.
pub fn held() -> Vec<Held> {
    let gauges = gauges();
    let alive = gauges.iter().filter_map(Weak::upgrade);
    alive
        .map(|gauge| Held {
            name: gauge.name.clone(),
            worker: gauge.worker,
            bytes: gauge.bytes.load(Ordering::Relaxed),
            records: gauge.records.load(Ordering::Relaxed),
        })
        .collect()
}

fn gauges() -> MutexGuard<'static, Vec<Weak<Gauge>>> {
    // The list is whole whatever panicked while it was locked.
    GAUGES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_reported_while_it_is_kept() {
        let gauge = Gauge::new("a gauge of this test", 3);
        gauge.set(10, 2);
        let mine = || held().into_iter().filter(|held| held.name == "a gauge of this test").collect::<Vec<_>>();
        assert_eq!(mine(), [Held { name: "a gauge of this test".into(), worker: 3, bytes: 10, records: 2 }]);
        drop(gauge);
        assert_eq!(mine(), []);
    }
}
