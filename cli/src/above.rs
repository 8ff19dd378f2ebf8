//! What sinks print while someone types: it stands above the line that is being typed, which stays as it is.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater::connectors::Board;
use rustyline::ExternalPrinter;

/// A sink waits while more bytes than this are to be shown. While a statement runs it does not: that may be the one
/// which drops the sink.
const MOST: usize = 1 << 20;

/// The terminal is given what there is at most this often, so that keys come through.
const PAUSE: Duration = Duration::from_millis(50);

enum Piece {
    Lines(String),
    Table { owner: u64, text: String },
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Piece>,
    bytes: usize,
    /// Whether a line is being typed; tables wait for that.
    typing: bool,
    /// The table that stands right above the line, with how many lines it has.
    last: Option<(u64, usize)>,
    /// Nobody types any more.
    ended: bool,
}

/// The part of the terminal above the line that is being typed.
#[derive(Default)]
pub struct Above {
    state: Mutex<State>,
    changed: Condvar,
}

impl Above {
    /// Shows what comes by `printer`, which knows the line.
    pub fn begin(self: &Arc<Self>, mut printer: impl ExternalPrinter + Send + 'static) -> io::Result<()> {
        let above = self.clone();
        let show = move || {
            while let Some(text) = above.next() {
                // Nobody can be told that the terminal is gone.
                let _ = printer.print(text);
                above.pause();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the one thread that the program starts itself")]
        std::thread::Builder::new().name("headwater-above".to_owned()).spawn(show).map(drop)
    }

    /// A line begins to be typed.
    pub fn typing_begins(&self) {
        self.lock().typing = true;
        self.changed.notify_all();
    }

    /// The line is there: what follows it is not its sinks' to draw over.
    pub fn typing_ends(&self) {
        let mut state = self.lock();
        (state.typing, state.last) = (false, None);
        self.changed.notify_all();
    }

    /// Nobody will type any more: what comes is printed as it is.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.last = None;
        let rest = state.take(true);
        self.changed.notify_all();
        let _ = io::stdout().write_all(rest.as_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be shown next; `None` at the end.
    fn next(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let tables = state.typing;
            let text = state.take(tables);
            if !text.is_empty() {
                self.changed.notify_all();
                return Some(text);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pause(&self) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, PAUSE, |state| !state.ended));
    }

    fn put(&self, piece: Piece) -> io::Result<()> {
        let mut state = self.lock();
        while state.bytes > MOST && state.typing && !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.add(piece);
        if state.ended {
            let text = state.take(true);
            return io::stdout().write_all(text.as_bytes());
        }
        self.changed.notify_all();
        Ok(())
    }
}

impl State {
    fn add(&mut self, piece: Piece) {
        // Only the latest of a table is of interest.
        if let (Piece::Table { owner, .. }, Some(Piece::Table { owner: before, text })) = (&piece, self.waiting.back())
            && owner == before
        {
            self.bytes -= text.len();
            self.waiting.pop_back();
        }
        self.bytes += match &piece {
            Piece::Lines(text) | Piece::Table { text, .. } => text.len(),
        };
        self.waiting.push_back(piece);
    }

    /// Takes what can be shown now as one text.
    fn take(&mut self, tables: bool) -> String {
        let mut all = String::new();
        let mut kept = VecDeque::new();
        for piece in std::mem::take(&mut self.waiting) {
            match piece {
                Piece::Table { .. } if !tables => kept.push_back(piece),
                Piece::Table { owner, text } => {
                    if let Some((_, lines)) = self.last.filter(|(last, _)| *last == owner) {
                        // To the first line of the table before, and clear from there.
                        let _ = write!(all, "\x1b[{lines}A\x1b[J");
                    }
                    self.last = Some((owner, text.lines().count()));
                    all.push_str(&text);
                }
                Piece::Lines(text) => {
                    self.last = None;
                    all.push_str(&text);
                }
            }
        }
        self.bytes = kept.iter().map(|piece| if let Piece::Table { text, .. } = piece { text.len() } else { 0 }).sum();
        self.waiting = kept;
        all
    }
}

impl Board for Above {
    fn lines(&self, text: &str) -> io::Result<()> {
        self.put(Piece::Lines(text.to_owned()))
    }

    fn table(&self, owner: u64, text: &str) -> io::Result<()> {
        self.put(Piece::Table { owner, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before_unless_something_stands_between() {
        let above = Above::default();
        let shown = || above.lock().take(true);
        above.table(1, "a\nb\n").unwrap();
        above.table(1, "c\nd\n").unwrap();
        assert_eq!(shown(), "c\nd\n");
        above.table(1, "e\n").unwrap();
        assert_eq!(shown(), "\x1b[2A\x1b[Je\n");
        above.lines("+I[1]\n").unwrap();
        above.table(1, "f\n").unwrap();
        assert_eq!(shown(), "+I[1]\nf\n");
        above.typing_ends();
        above.table(1, "g\n").unwrap();
        assert_eq!(above.lock().take(false), "");
        assert_eq!((shown(), above.lock().bytes), ("g\n".to_owned(), 0));
    }

    #[test]
    fn what_is_printed_never_waits_for_a_statement() {
        let above = Above::default();
        let much = "x".repeat(MOST);
        above.lines(&much).unwrap();
        above.lines(&much).unwrap();
        above.lines(&much).unwrap();
        assert_eq!(above.lock().bytes, 3 * MOST);
    }
}
