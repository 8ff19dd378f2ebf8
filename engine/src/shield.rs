//! What keeps work that may go deep, or panic, from ending the host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use headwater_operators::guard;

/// Stack that must be left before more is taken: more than anything between two calls of [`ample`] uses.
const LEFT: usize = 64 << 20;
/// Stack that is taken then. It is mapped, not touched: what is not used costs nothing.
const TAKEN: usize = 128 << 20;

/// Runs work that goes as deep as its input is nested, with stack for all that the limits on statements let through.
pub(crate) fn ample<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(LEFT, TAKEN, work)
}

/// Runs work of a library or of the user's; what a panic in it says is the error.
///
/// Nothing that the work changes may be used after a panic.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| guard::message(&*panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_work_has_room_and_a_panic_is_an_error() {
        fn depth(left: usize) -> usize {
            // Keeps the frame from being folded away.
            let frame = std::hint::black_box([left; 32]);
            if left == 0 { 0 } else { depth(left - 1) + frame[0].min(1) }
        }
        assert_eq!(ample(|| depth(100_000)), 100_000);
        assert_eq!(caught(|| guard::raise("no")).map(|()| 0), Err("no".to_owned()));
    }
}
