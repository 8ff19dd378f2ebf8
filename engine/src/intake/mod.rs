//! From a source to stamped batches: tables as declared, the runs that read them, and what they keep of their past.

mod declaration;
mod history;
mod options;
mod run;
mod stamping;

use std::sync::LazyLock;

use headwater_operators::clock::SystemClock;

pub(crate) use declaration::{Declaration, EventTime, Origin};
pub(crate) use history::FeedKind;
pub(crate) use options::split;
pub(crate) use run::{Reading, Run, RunContext};
pub use stamping::IntakeCounts;
pub(crate) use stamping::{Intake, share_out};

/// The wall clock of all sessions.
fn clock() -> &'static SystemClock {
    static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::default);
    &CLOCK
}
