//! The one place where threads start.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use crossbeam_channel::{Sender, unbounded};
use timely::communication::WorkerGuards;

use super::awake::Peers;
use super::message::Message;
use super::run::WorkerState;
use crate::error::{Error, Result};

/// Starts a named thread; a failure to start is an error, not a panic.
pub(crate) fn spawn(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let name = name.into();
    #[expect(clippy::disallowed_methods, reason = "this is the spawn helper")]
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(body)
        .map_err(|e| Error::external(format!("can't start the thread '{name}': {e}"), true))
}

type Links = Vec<(Sender<Message>, Thread)>;

/// Starts the timely workers of a session, each on a core of its own if they are `pinned`.
pub(crate) fn start_workers(workers: usize, pinned: bool) -> Result<(Links, WorkerGuards<()>)> {
    let cores = if pinned { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
    if pinned && cores.len() < workers {
        let cores = cores.len();
        return Err(Error::user(format!("can't pin {workers} workers: this process has {cores} cores")));
    }
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded::<Message>()).unzip();
    let receivers: Vec<_> = receivers.into_iter().map(|receiver| Mutex::new(Some(receiver))).collect();
    let peers = Arc::new(Peers::new(workers));
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        // A worker that is gone would leave the others waiting for its progress: the process ends with the reason.
        let _end = EndOnPanic;
        if let Some(core) = cores.get(worker.index()) {
            // Some systems take it as a wish only.
            core_affinity::set_for_current(*core);
        }
        peers.join(worker.index());
        let slot = &receivers[worker.index()];
        let receiver = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(receiver) = receiver {
            WorkerState::new(receiver, peers.clone()).run(worker);
        }
    })
    .map_err(|e| Error::external(format!("can't start the workers: {e}"), true))?;
    let threads = guards.guards().iter().map(|guard| guard.thread().clone());
    Ok((senders.into_iter().zip(threads).collect(), guards))
}

struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("headwater: a worker failed (the reason stands above); the process ends");
            std::process::abort();
        }
    }
}
