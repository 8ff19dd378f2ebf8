//! Sessions at work: intake, workers, views, emission.

mod attach;
mod awake;
mod emit;
mod history;
mod input;
mod intake;
mod message;
mod options;
mod outbox;
mod query;
mod session;
mod settings;
mod sinks;
mod spawn;
mod statements;
mod subscription;
mod table;
mod tap;
mod view;
mod worker;

use std::sync::LazyLock;

use headwater_operators::clock::SystemClock;

pub use input::{Input, Pushed};
pub use intake::IntakeCounts;
pub(crate) use session::{Inner, Reading};
pub use session::{Session, SessionBuilder};
pub use settings::RuntimeMode;
pub use sinks::{ForEach, Query, op_name};
pub use statements::{Outcome, Script, TableStatus};
pub use subscription::{Event, Subscription};
pub use view::{Status, View};

/// The wall clock of all sessions.
fn clock() -> &'static SystemClock {
    static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::default);
    &CLOCK
}
