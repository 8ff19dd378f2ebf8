//! Ctrl-C.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for signals for as long as it lives.
pub struct Interrupts {
    runtime: Runtime,
}

impl Interrupts {
    /// Listens for Ctrl-C and SIGTERM: the first asks for a clean end by calling `first`, the second ends at once.
    pub fn listen(first: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        Self::on(&[SignalKind::interrupt(), SignalKind::terminate()], move |earlier| match earlier {
            0 => first(),
            _ => end_at_once(),
        })
    }

    /// Listens for Ctrl-C alone and calls `act` each time.
    pub fn each(act: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        Self::on(&[SignalKind::interrupt()], move |_| act())
    }

    /// Calls `act` on another thread for each signal, with how many came before.
    fn on(kinds: &[SignalKind], act: impl Fn(usize) + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("signals").enable_all().build()?;
        let seen = Arc::new(AtomicUsize::new(0));
        let act = Arc::new(act);
        let context = runtime.enter();
        for kind in kinds {
            let mut signals = signal(*kind)?;
            let (seen, act) = (seen.clone(), act.clone());
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    act(seen.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        drop(context);
        Ok(Interrupts { runtime })
    }

    /// Where other things can run beside the work.
    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }
}

/// Ends the program as a shell reports one that Ctrl-C has ended.
pub fn end_at_once() {
    std::process::exit(130)
}
