//! The command on a terminal, and someone who types.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first thing that is wrong")]

use std::fs::File;
use std::io::{Read, Result, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// `headwater sql` on a terminal of 30 lines and 100 columns.
pub struct Terminal {
    child: Child,
    screen: File,
    /// All that was shown so far.
    pub shown: String,
    /// Up to where of it was waited for.
    seen: usize,
    pending: Vec<u8>,
    _folder: tempfile::TempDir,
}

impl Terminal {
    /// Starts the prompt and waits for it.
    pub fn open() -> Result<Self> {
        Self::open_with(|_| ())
    }

    /// Starts the prompt as `configured` and waits for it.
    pub fn open_with(configured: impl FnOnce(&mut Command)) -> Result<Self> {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None)?;
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.arg("sql").env("TERM", "xterm").env("HEADWATER_HISTORY", folder.path().join("history"));
        command.current_dir(folder.path());
        command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
        configured(&mut command);
        let child = command.spawn()?;
        // The ends that the command keeps open for itself.
        drop(command);
        let screen = File::from(pair.master);
        let mut terminal =
            Terminal { child, screen, shown: String::new(), seen: 0, pending: Vec::new(), _folder: folder };
        terminal.wait("headwater> ");
        Ok(terminal)
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &std::path::Path {
        self._folder.path()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads what is there within `time`; whether something was.
    fn read(&mut self, time: Duration) -> bool {
        let mut watched = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        let millis = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        if !matches!(poll(&mut watched, millis), Ok(ready) if ready > 0) {
            return false;
        }
        let mut bytes = [0; 1 << 16];
        let Ok(length) = self.screen.read(&mut bytes) else { return false };
        self.pending.extend_from_slice(&bytes[..length]);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        self.shown.push_str(&String::from_utf8_lossy(&self.pending[..whole]));
        self.pending.drain(..whole);
        length > 0
    }

    /// Types without waiting for an answer; what is shown meanwhile is read.
    pub fn put(&mut self, text: &str) {
        // What is shown while it is typed may be what is waited for.
        self.seen = self.shown.len();
        let mut keys = self.screen.try_clone().unwrap();
        std::thread::scope(|scope| {
            // Who does not read what is shown can't type on.
            let typing = scope.spawn(move || keys.write_all(text.as_bytes()));
            while !typing.is_finished() {
                self.read(Duration::from_millis(5));
            }
            typing.join().unwrap().unwrap();
        });
    }

    /// Waits until `wanted` is shown, behind what was shown when it was called for last; gives what came.
    pub fn wait(&mut self, wanted: &str) -> String {
        self.wait_from(0, wanted)
    }

    fn wait_from(&mut self, from: usize, wanted: &str) -> String {
        let started = Instant::now();
        while !self.shown[from..].contains(wanted) {
            assert!(started.elapsed() < PATIENCE, "no {wanted:?} in {}", &self.shown[from..]);
            self.read(Duration::from_millis(20));
        }
        self.shown[from..].to_owned()
    }

    /// Types a line and waits until `wanted` is shown and the prompt behind it: what came.
    pub fn line(&mut self, line: &str, wanted: &str) -> String {
        let from = self.shown.len();
        self.put(line);
        self.put("\r");
        self.wait_from(from, wanted);
        let at = from + self.shown[from..].find(wanted).unwrap_or(0) + wanted.len();
        self.wait_from(at, "headwater> ");
        self.shown[from..].to_owned()
    }

    /// Waits until `wanted` is shown since something was typed, or since it was waited for like this.
    pub fn until(&mut self, wanted: &str) {
        let from = self.seen;
        self.wait_from(from, wanted);
        self.seen = from + self.shown[from..].find(wanted).unwrap_or(0) + wanted.len();
    }

    /// Waits for the end.
    pub fn end(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end: {}", self.shown);
            self.read(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
