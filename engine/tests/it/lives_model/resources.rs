//! What a process holds: bytes, threads, open files. And a clock for waits that must not be for ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that were asked for and not given back, by the size of the piece: the n-th counts pieces of up to 2^n bytes.
static LIVE: [AtomicI64; SIZES] = [const { AtomicI64::new(0) }; SIZES];
const SIZES: usize = 64;

/// The system's allocator with a count of the bytes that are held.
struct Counting;

fn count(size: usize, sign: i64) {
    let class = size.next_power_of_two().trailing_zeros() as usize;
    LIVE[class].fetch_add(sign * size as i64, Ordering::Relaxed);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator can't be written without")]
// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory that is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as it came.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as it came.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as it came.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What this process holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub bytes: i64,
    /// Bytes in pieces of up to 2^n bytes.
    by_size: Vec<i64>,
    /// How many threads there are of each name.
    pub threads: BTreeMap<String, usize>,
    pub files: usize,
}

impl Held {
    pub fn now() -> Self {
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            // A thread may end while it is looked at.
            if let Ok(name) = std::fs::read_to_string(task.path().join("comm")) {
                *threads.entry(name.trim().to_owned()).or_default() += 1;
            }
        }
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let by_size: Vec<i64> = LIVE.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
        Held { bytes: by_size.iter().sum(), by_size, threads, files }
    }

    /// What there is more of than in `before`.
    pub fn beyond(&self, before: &Held) -> String {
        let mut more: Vec<String> = Vec::new();
        for (size, (now, then)) in
            self.by_size.iter().zip(&before.by_size).enumerate().filter(|(_, (now, then))| now > then)
        {
            more.push(format!("{} bytes in pieces of up to {}", now - then, 1u64 << size));
        }
        for (name, now) in &self.threads {
            let then = before.threads.get(name).copied().unwrap_or(0);
            if *now > then {
                more.push(format!("{} threads '{name}'", now - then));
            }
        }
        if self.files > before.files {
            more.push(format!("{} files", self.files - before.files));
        }
        more.join(", ")
    }

    /// Whether `now` holds no more than this, but for `slack` bytes.
    pub fn covers(&self, now: &Held, slack: i64) -> bool {
        let threads = now.threads.iter().all(|(name, n)| self.threads.get(name).is_some_and(|there| n <= there));
        threads && now.files <= self.files && now.bytes <= self.bytes + slack
    }
}

/// What is being done, and since when.
static DOING: Mutex<Option<(Instant, String)>> = Mutex::new(None);
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Says what is done next: a step that hangs is named by [`watch`].
pub fn doing(what: impl Into<String>) {
    STEPS.fetch_add(1, Ordering::Relaxed);
    *DOING.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), what.into()));
}

/// Ends the process, with the reason, when a step takes longer than `patience`: no wait may be for ever.
pub fn watch(patience: Duration) {
    #[expect(clippy::disallowed_methods, reason = "it must outlive a test that hangs")]
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let doing = DOING.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, what)) = doing.as_ref().filter(|(since, _)| since.elapsed() > patience) {
                let step = STEPS.load(Ordering::Relaxed);
                eprintln!("step {step} has not come back for {:?}: {what}", since.elapsed());
                std::process::exit(70);
            }
        }
    });
}
