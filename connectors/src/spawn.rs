//! The one place of this crate where threads start.

use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// Starts a thread with a name; that none can be started is an error.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let name = format!("headwater-{name}");
    #[expect(clippy::disallowed_methods, reason = "this is the spawn helper")]
    let thread = std::thread::Builder::new().name(name.clone()).spawn(body);
    thread.map_err(|error| Error::io("start the thread", name, &error))
}
