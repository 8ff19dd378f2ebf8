//! Turns: how the operators of a worker share it.
//!
//! An operator that has much to do works for a turn, keeps its capability, and asks to be activated again. Left to
//! itself a turn is some milliseconds, of each operator. Whoever steps a worker for several dataflows can make all
//! operators share one turn of a [`share`]: those that come too late pass, with what they had left over from before,
//! and are sure of a little after some steps. What just arrived is begun at once in any case, so that a small round goes
//! through beside large ones.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static STEP_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The least that something new is worked on.
const FRESH: Duration = Duration::from_micros(50);
/// An operator that has passed this often goes on for a little.
const PASSES: u8 = 8;
/// By how much less is done between two looks at the clock while turns are shared.
const FINER: usize = 16;

/// From here on all operators of this thread share one turn of this length; with none, each has its own.
pub fn share(length: Option<Duration>) {
    STEP_ENDS.set(length.map(|length| Instant::now() + length));
}

/// An operator's turn.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    ends: Instant,
    shared: bool,
}

impl Turn {
    /// A turn for what has just arrived: of `own`, where turns are not shared.
    pub(crate) fn fresh(own: Duration) -> Turn {
        let now = Instant::now();
        match STEP_ENDS.get() {
            Some(ends) => Turn { ends: ends.max(now + FRESH), shared: true },
            None => Turn { ends: now + own, shared: false },
        }
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// How much to do between two looks at the clock, where `alone` is right for an operator that shares with none.
    pub(crate) fn piece(&self, alone: usize) -> usize {
        if self.shared { alone / FINER } else { alone }
    }
}

/// Gives an operator its turns for what was left over.
#[derive(Default)]
pub(crate) struct Turns {
    passed: u8,
}

impl Turns {
    /// A turn: of `own`, where turns are not shared. None where it has to pass.
    pub(crate) fn take(&mut self, own: Duration) -> Option<Turn> {
        let now = Instant::now();
        let turn = match STEP_ENDS.get() {
            None => Turn { ends: now + own, shared: false },
            Some(ends) if now < ends || self.passed >= PASSES => Turn { ends, shared: true },
            Some(_) => {
                self.passed += 1;
                return None;
            }
        };
        self.passed = 0;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_late_passes_and_is_not_forgotten() {
        let own = Duration::from_secs(1000);
        let mut turns = Turns::default();
        assert!(turns.take(own).is_some_and(|turn| !turn.is_over() && turn.piece(800) == 800));
        share(Some(Duration::from_secs(1000)));
        assert!(turns.take(own).is_some_and(|turn| !turn.is_over() && turn.piece(800) == 50));
        share(Some(Duration::ZERO));
        for _ in 0..3 {
            for _ in 0..PASSES {
                assert!(turns.take(own).is_none());
            }
            assert!(turns.take(own).is_some_and(|turn| turn.is_over()));
        }
        share(Some(Duration::ZERO));
        assert!(!Turn::fresh(Duration::ZERO).is_over());
        share(None);
        assert!(Turn::fresh(Duration::ZERO).is_over());
    }
}
