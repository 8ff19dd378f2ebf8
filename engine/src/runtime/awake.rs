//! Waiting awake: to sleep and be woken costs more than many an answer does, as long as there is a core to spare.

use std::time::{Duration, Instant};

/// Who gets no turn for so long while awake shares its core.
const GAP: Duration = Duration::from_millis(1);
/// For so long it sleeps then.
const SLEEP: Duration = Duration::from_millis(20);

/// How long a thread stays awake after it had something to do.
pub(crate) struct Awake {
    length: Duration,
    since: Instant,
    looked: Instant,
    asleep_until: Instant,
}

impl Awake {
    pub fn new(length: Duration) -> Self {
        let now = Instant::now();
        Awake { length, since: now, looked: now, asleep_until: now }
    }

    /// There was something to do.
    pub fn begin(&mut self) {
        self.since = Instant::now();
        self.looked = self.since;
    }

    /// Whether to look once more instead of falling asleep. Called in a loop that does next to nothing else.
    pub fn waits(&mut self) -> bool {
        let now = Instant::now();
        if now - self.looked > GAP {
            self.asleep_until = now + SLEEP;
        }
        self.looked = now;
        now - self.since < self.length && now >= self.asleep_until
    }
}
