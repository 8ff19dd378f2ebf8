//! How answers are shown, and through what.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};

use arrow::array::RecordBatch;

use crate::args::Format;
use crate::output;
use crate::table::{self, Room};

/// How many rows are shown on a terminal, unless something else is said.
pub const ROWS: usize = 40;

/// Whether rows are shown as records, a line a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expanded {
    /// As a table.
    #[default]
    Off,
    /// As records.
    On,
    /// As a table where that is no wider than the screen, else as records.
    Auto,
}

/// How answers are shown.
#[derive(Clone, Debug)]
pub struct Look {
    /// As what.
    pub format: Format,
    /// Whether tables are written as records.
    pub expanded: Expanded,
    /// The most rows to show on a terminal; all if not given.
    pub rows: Option<usize>,
    /// Whether answers go through a pager.
    pub pager: bool,
    /// Whether answers are read on a terminal, by someone who can ask for the rest.
    on_terminal: bool,
}

impl Look {
    /// Everything, wherever it goes.
    pub fn whole(format: Format) -> Self {
        Look { format, expanded: Expanded::Off, rows: None, pager: false, on_terminal: false }
    }

    /// What has room on the terminal, if answers go there.
    pub fn of_prompt(format: Format) -> Self {
        Look { rows: Some(ROWS), on_terminal: io::stdout().is_terminal(), ..Look::whole(format) }
    }

    /// Shows an answer.
    pub fn show(&self, out: &mut dyn Write, rows: &RecordBatch) -> io::Result<()> {
        self.show_in(out, rows, self.room())
    }

    /// Shows a list of what there is, all of it.
    pub fn list(&self, out: &mut dyn Write, rows: &RecordBatch) -> io::Result<()> {
        self.show_in(out, rows, Room { rows: None, is_list: true, ..self.room() })
    }

    fn show_in(&self, out: &mut dyn Write, rows: &RecordBatch, room: Room) -> io::Result<()> {
        if !(self.pager && self.on_terminal) {
            return self.write(out, rows, room);
        }
        out.flush()?;
        let mut pager = pager()?;
        let written = match pager.stdin.take() {
            Some(stdin) => {
                let mut page = io::BufWriter::new(stdin);
                self.write(&mut page, rows, Room { rows: None, width: None, ..room }).and_then(|()| page.flush())
            }
            None => Ok(()),
        };
        pager.wait()?;
        // Who leaves the pager has seen enough.
        written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }

    /// What has room on the terminal.
    fn room(&self) -> Room {
        match self.on_terminal {
            true => Room { rows: self.rows, width: Some(width()), is_list: false },
            false => Room::default(),
        }
    }

    fn write(&self, out: &mut dyn Write, rows: &RecordBatch, room: Room) -> io::Result<()> {
        match (self.format, self.expanded) {
            (Format::Table, Expanded::On) => table::expand(out, rows, room),
            (Format::Table, Expanded::Auto) if table::is_wider(rows, Room { width: Some(width()), ..room })? => {
                table::expand(out, rows, room)
            }
            (Format::Table, _) => table::draw(out, rows, room),
            (Format::Csv, _) => output::csv(out, rows),
            (Format::Json, _) => output::json(out, rows),
        }
    }
}

/// The width of the terminal, or a usual one.
fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(1))
}

/// `$PAGER`, or `less` for lines that are not folded.
fn pager() -> io::Result<std::process::Child> {
    let own = std::env::var_os("PAGER").filter(|pager| !pager.is_empty());
    let command = own.unwrap_or_else(|| OsString::from("less -S"));
    let started = Command::new("sh").arg("-c").arg(&command).stdin(Stdio::piped()).spawn();
    started.map_err(|error| io::Error::other(format!("can't start the pager {}: {error}", command.display())))
}
