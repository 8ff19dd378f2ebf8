//! Waiting awake: to sleep and be woken costs more than many an answer does, as long as there is a core to spare and
//! waits are short.

use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Who gets no turn for so long while awake shares its core.
const GAP: Duration = Duration::from_millis(1);
/// For so long it sleeps then.
const SLEEP: Duration = Duration::from_millis(20);

/// For so long one stays awake for others that are at work.
const STEP: Duration = Duration::from_millis(2);

/// What takes so long is work.
const WORK: Duration = Duration::from_micros(20);

/// How long a thread stays awake that waits for something to do.
pub(crate) struct Awake {
    length: Duration,
    since: Instant,
    looked: Instant,
    asleep_until: Instant,
    /// Whether the last wait was one to stay awake for.
    was_short: bool,
    /// Whether there are more cores than workers.
    has_room: bool,
}

impl Awake {
    /// In a session of so many workers.
    pub fn new(length: Duration, workers: usize) -> Self {
        let now = Instant::now();
        let has_room = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > workers);
        Awake { length, since: now, looked: now, asleep_until: now, was_short: true, has_room }
    }

    /// A wait begins.
    pub fn begin(&mut self) {
        self.since = Instant::now();
        self.looked = self.since;
    }

    /// Whether there are more cores than workers, for somebody who is no worker to stay awake.
    pub fn has_room(&self) -> bool {
        self.has_room
    }

    /// A moment awake. Where cores are scarce others go first.
    pub fn pause(&self) {
        if self.has_room {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }

    /// Whether to look once more instead of falling asleep. Called in a loop that does next to nothing else. Whoever is
    /// `awaited` is at work.
    pub fn waits(&mut self, awaited: impl FnOnce() -> bool) -> bool {
        let now = Instant::now();
        if now - self.looked > GAP {
            self.asleep_until = now + SLEEP;
        }
        self.looked = now;
        let waited = now - self.since;
        let waits = self.was_short && waited < self.length || waited < STEP && awaited();
        waits && now >= self.asleep_until
    }

    /// Whether there was work since the last look: then a wait has ended with it and another begins.
    pub fn has_worked(&mut self) -> bool {
        let worked = self.looked.elapsed() > WORK;
        if worked {
            self.was_short = self.looked - self.since < 2 * self.length;
            self.begin();
        }
        worked
    }

    /// A wait has ended. Being woken takes time as well: a wait that was a little too long could be short awake.
    pub fn end(&mut self) {
        self.was_short = self.since.elapsed() < 2 * self.length;
    }
}

/// The threads of a session's workers, once they run.
pub(super) struct Peers(Vec<OnceLock<Thread>>);

impl Peers {
    /// Of so many workers, none of which runs yet.
    pub fn new(workers: usize) -> Self {
        Peers((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The thread that says so is that of a worker.
    pub fn join(&self, worker: usize) {
        self.0[worker].get_or_init(std::thread::current);
    }

    /// Wakes all but the one that says so.
    pub fn wake(&self, worker: usize) {
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != worker);
        others.filter_map(|(_, thread)| thread.get()).for_each(Thread::unpark);
    }
}
