//! The allocator of all sides: mimalloc, counting live bytes when asked to.

use std::alloc::{GlobalAlloc, Layout};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use mimalloc::MiMalloc;

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// mimalloc with a count of the bytes asked for and not yet given back.
pub struct Counting;

#[inline]
fn count(bytes: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator can't be written without")]
// SAFETY: every call is passed on to mimalloc as it came; counting touches no memory that is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as it came.
        unsafe { MiMalloc.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as it came.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as it came.
        unsafe { MiMalloc.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as it came.
        unsafe { MiMalloc.realloc(at, layout, size) }
    }
}

/// Begins to count; the other cases don't pay for it.
pub fn start_counting() {
    COUNTING.store(true, Ordering::SeqCst);
}

/// Bytes asked for and not given back since [`start_counting`]. Without what the allocator keeps for itself.
pub fn live_bytes() -> i64 {
    LIVE.load(Ordering::SeqCst)
}

/// The side of a case that only sees to it that the machine has memory at hand.
pub const WARM: &str = "warm";
/// Bytes that it touches: more than any side needs.
const TOUCHED: usize = 2 << 30;

/// Starts a side's clock, with memory at hand.
///
/// A virtual machine gives free pages back to its host within seconds, and a page that the host took costs many times
/// more at its first touch than another one: without this the figures would be the host's. Another process touches the
/// pages, so that they are free and the side's own peak stays its own.
pub fn start() -> Instant {
    let touched = std::env::current_exe()
        .and_then(|program| Command::new(program).args(["--side", WARM]).stdout(Stdio::null()).status());
    if let Err(error) = touched {
        eprintln!("note: memory was not warmed: {error}");
    }
    Instant::now()
}

/// Touches much memory and gives it back.
pub fn touch() {
    let mut memory = vec![0u8; TOUCHED];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}
