//! What goes on beside the work: Ctrl-C, and the line that shows progress.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for Ctrl-C and SIGTERM for as long as it lives: the first asks for a clean end, the second ends at once.
pub struct Interrupts {
    runtime: Runtime,
}

impl Interrupts {
    /// Begins to listen; `first` is called on the first signal, on another thread.
    pub fn listen(first: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("signals").enable_all().build()?;
        let seen = Arc::new(AtomicUsize::new(0));
        let first = Arc::new(first);
        let context = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind)?;
            let (seen, first) = (seen.clone(), first.clone());
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    match seen.fetch_add(1, Ordering::Relaxed) {
                        0 => first(),
                        // As a shell reports a program that Ctrl-C has ended.
                        _ => std::process::exit(130),
                    }
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
