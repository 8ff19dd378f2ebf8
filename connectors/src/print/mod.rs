//! `print` (also `console`): rows on standard output, as lines or as a table that is redrawn in place.

mod live;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::changes::{Copies, envelopes, has_ops, op_name, order};
use crate::connector::{Connector, TableSpec};
use crate::error::{Error, Result};
use crate::format::json_write;
use crate::options::OptionSpec;
use crate::print::live::Live;
use crate::sink::{Emission, OutputMode, Sink};

/// A terminal on which someone types while sinks print. What is shown there stands above what is being typed.
pub trait Board: Send + Sync {
    /// Shows lines, each with its end.
    fn lines(&self, text: &str) -> io::Result<()>;

    /// Shows a table of whole lines, in the place of the one that its `owner` has shown before if that can be.
    fn table(&self, owner: u64, text: &str) -> io::Result<()>;
}

/// The connector `print`.
#[derive(Clone)]
pub struct Print {
    name: &'static str,
    board: Option<Arc<dyn Board>>,
}

impl Print {
    /// The connector under a name.
    pub fn named(name: &'static str) -> Self {
        Print { name, board: None }
    }

    /// The same, printing to a board wherever it would print to a terminal.
    #[must_use]
    pub fn on(self, board: Arc<dyn Board>) -> Self {
        Print { board: Some(board), ..self }
    }
}

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Print").field(&self.name).finish()
    }
}

const FORMS: &[&str] = &["auto", "table", "lines", "json"];

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "format",
        aliases: &[],
        takes: "'auto', 'table', 'lines' or 'json'",
        default: Some("auto"),
        help: "auto: on a terminal, in complete and update mode, a table redrawn in place; else lines",
    },
    OptionSpec {
        name: "print-identifier",
        aliases: &[],
        takes: "a text",
        default: Some(""),
        help: "what each line begins with, or the title of the table",
    },
    OptionSpec {
        name: "standard-error",
        aliases: &[],
        takes: "true or false",
        default: Some("false"),
        help: "whether to write to standard error instead of standard output",
    },
];

impl Connector for Print {
    fn name(&self) -> &'static str {
        self.name
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn sink(&self, table: &TableSpec, mode: OutputMode) -> Result<Box<dyn Sink>> {
        let options = table.checked(self)?;
        let (out, terminal, place): (Box<dyn Write + Send>, bool, _) = match options.bool("standard-error")? {
            true => (Box::new(std::io::stderr()), std::io::stderr().is_terminal(), "standard error"),
            false => (Box::new(std::io::stdout()), std::io::stdout().is_terminal(), "standard output"),
        };
        // Update mode is a table only if it is known which rows replace which.
        let tabular = mode == OutputMode::Complete || (mode == OutputMode::Update && !table.key.is_empty());
        let form = match options.choice("format", FORMS)? {
            Some(1) if !tabular => {
                return Err(Error::User(format!(
                    "{}: format 'table' shows a whole result, so it needs mode complete, or mode update of a query with \
                     a key; use format 'lines' or 'auto'",
                    options.subject()
                )));
            }
            Some(1) => Form::Table,
            Some(2) => Form::Lines,
            Some(3) => Form::Json,
            _ if terminal && tabular => Form::Table,
            _ => Form::Lines,
        };
        let identifier = options.given("print-identifier").unwrap_or_default().to_string();
        let live = Live::new(table.columns()?, table.key.clone(), identifier.clone());
        let board =
            self.board.clone().filter(|_| terminal).map(|board| (board, OWNERS.fetch_add(1, Ordering::Relaxed)));
        Ok(Box::new(Printer { out, board, place, form, terminal, identifier, mode, live }))
    }
}

/// How the error of a sink ends that prints into a pipe which nobody reads any more, as after `| head`.
pub const READER_GONE: &str = "whoever read it has gone";

/// Tells the tables on a board apart.
static OWNERS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Lines,
    Json,
}

struct Printer {
    out: Box<dyn Write + Send>,
    board: Option<(Arc<dyn Board>, u64)>,
    place: &'static str,
    form: Form,
    terminal: bool,
    identifier: String,
    mode: OutputMode,
    live: Live,
}

impl Printer {
    fn put(&mut self, text: &[u8]) -> Result<()> {
        let written = match &self.board {
            Some((board, _)) => board.lines(&String::from_utf8_lossy(text)),
            None => self.out.write_all(text).and_then(|()| self.out.flush()),
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => {
                Error::External { message: format!("{}: {READER_GONE}", self.place), retry: false }
            }
            _ => Error::io("write to", self.place, &error),
        })
    }

    fn lines(&self, emission: &Emission) -> Result<String> {
        let prefix = if self.identifier.is_empty() { String::new() } else { format!("{}> ", self.identifier) };
        let mut text = String::new();
        if self.mode == OutputMode::Complete {
            let rows: u64 = emission.counts.iter().sum();
            let at = emission.frontier.map_or("the end".to_string(), instant);
            let _ = writeln!(text, "{prefix}-- the result at {at}: {rows} rows");
        }
        let copies = Copies::of(emission)?;
        let cells = texts(&copies.rows)?;
        for (row, cells) in cells.iter().enumerate() {
            let _ = write!(text, "{prefix}{}[{}]", op_name(copies.ops[row]), cells.join(", "));
            if self.mode == OutputMode::Changelog && copies.times[row] != i64::MIN {
                let _ = write!(text, " @ {}", instant(copies.times[row]));
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// A point in time, microseconds since the epoch, as text; of what has no event time, its place in the order of changes.
fn instant(micros: i64) -> String {
    if let Some(order) = order(micros) {
        return format!("#{order}");
    }
    match chrono::DateTime::from_timestamp_micros(micros) {
        Some(instant) => instant.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
        None => format!("{micros} us"),
    }
}

/// The values of rows as text.
fn texts(rows: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::User(format!("these columns can't be printed: {error}")))?;
    Ok((0..rows.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}

impl Sink for Printer {
    fn write(&mut self, emission: &Emission) -> Result<()> {
        match self.form {
            Form::Table => self.live.take(emission),
            Form::Lines => {
                let text = self.lines(emission)?;
                self.put(text.as_bytes())
            }
            Form::Json => {
                let copies = Copies::of(emission)?;
                let mut text = Vec::new();
                match has_ops(self.mode) {
                    true => json_write::write(&mut text, &envelopes(&copies)?)?,
                    false => json_write::write(&mut text, &copies.rows)?,
                }
                self.put(&text)
            }
        }
    }

    fn commit(&mut self) -> Result<()> {
        if self.form != Form::Table {
            return Ok(());
        }
        let screen = if self.terminal { live::screen() } else { None };
        if let Some((board, owner)) = &self.board {
            let drawn = self.live.draw_anew(screen).map_or(Ok(()), |text| board.table(*owner, &text));
            return drawn.map_err(|error| Error::io("write to", self.place, &error));
        }
        match self.live.draw(screen) {
            Some(text) => self.put(text.as_bytes()),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        self.commit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::sink::Op;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().expect("a lock"))).expect("text")
        }
    }

    fn emission(mode: OutputMode, rows: &[(Op, &str, i64, u64)]) -> Emission {
        let regions: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
        Emission {
            mode,
            step: 0,
            frontier: Some(1_357_034_400_000_000),
            rows: RecordBatch::try_from_iter([("region", regions), ("n", counts)]).expect("rows"),
            ops: rows.iter().map(|row| row.0).collect(),
            counts: rows.iter().map(|row| row.3).collect(),
            times: vec![1_357_034_400_500_000; rows.len()],
        }
    }

    fn printer(form: Form, mode: OutputMode) -> (Printer, Paper) {
        let paper = Paper::default();
        let schema = emission(mode, &[]).rows.schema();
        let live = Live::new(schema, vec![0], "regions".into());
        let out = Box::new(paper.clone());
        (
            Printer { out, board: None, place: "paper", form, terminal: false, identifier: String::new(), mode, live },
            paper,
        )
    }

    #[test]
    fn lines_say_what_happens() {
        let (mut sink, paper) = printer(Form::Lines, OutputMode::Changelog);
        let rows = [(Op::Insert, "eu", 2, 2), (Op::Delete, "us", 1, 1)];
        sink.write(&emission(OutputMode::Changelog, &rows)).expect("written");
        assert_eq!(
            paper.take(),
            "+I[eu, 2] @ 2013-01-01T10:00:00.500Z\n+I[eu, 2] @ 2013-01-01T10:00:00.500Z\n-D[us, 1] @ \
             2013-01-01T10:00:00.500Z\n"
        );
        let (mut sink, paper) = printer(Form::Lines, OutputMode::Changelog);
        let mut untimed = emission(OutputMode::Changelog, &rows);
        untimed.times = vec![i64::MIN, i64::MIN + 3];
        sink.write(&untimed).expect("written");
        assert_eq!(paper.take(), "+I[eu, 2]\n+I[eu, 2]\n-D[us, 1] @ #3\n");
        let (mut sink, paper) = printer(Form::Json, OutputMode::Update);
        sink.write(&emission(OutputMode::Update, &[(Op::Upsert, "eu", 2, 1), (Op::Delete, "us", 1, 1)]))
            .expect("written");
        assert_eq!(
            paper.take(),
            "{\"before\":null,\"after\":{\"region\":\"eu\",\"n\":2},\"op\":\"u\",\"ts_us\":1357034400500000,\"seq\":null}\n\
             {\"before\":{\"region\":\"us\",\"n\":1},\"after\":null,\"op\":\"d\",\"ts_us\":1357034400500000,\"seq\":null}\n"
        );
    }

    #[test]
    fn a_board_gets_lines_and_whole_tables() {
        #[derive(Default)]
        struct Shown(Mutex<Vec<String>>);
        impl Board for Shown {
            fn lines(&self, text: &str) -> io::Result<()> {
                self.0.lock().expect("a lock").push(text.to_string());
                Ok(())
            }
            fn table(&self, owner: u64, text: &str) -> io::Result<()> {
                self.lines(&format!("{owner}: {text}"))
            }
        }
        let board = Arc::new(Shown::default());
        let (mut sink, paper) = printer(Form::Lines, OutputMode::Changelog);
        sink.board = Some((board.clone(), 1));
        sink.write(&emission(OutputMode::Changelog, &[(Op::Insert, "eu", 2, 1)])).expect("written");
        let (mut table, _) = printer(Form::Table, OutputMode::Update);
        table.board = Some((board.clone(), 2));
        for n in [2, 3] {
            table.write(&emission(OutputMode::Update, &[(Op::Upsert, "eu", n, 1)])).expect("written");
            table.commit().expect("committed");
        }
        let shown = board.0.lock().expect("a lock");
        assert!(shown[0].starts_with("+I[eu, 2]") && paper.take().is_empty());
        assert!(shown[2].starts_with("2: regions") && shown[2].ends_with(" eu     | 3 \n"), "{shown:?}");
    }

    #[test]
    fn a_table_is_kept() {
        let (mut sink, paper) = printer(Form::Table, OutputMode::Update);
        sink.write(&emission(OutputMode::Update, &[(Op::Upsert, "us", 10, 1), (Op::Upsert, "eu", 2, 1)]))
            .expect("written");
        sink.write(&emission(OutputMode::Update, &[(Op::Delete, "us", 10, 1), (Op::Upsert, "eu", 3, 1)]))
            .expect("written");
        sink.write(&emission(OutputMode::Update, &[(Op::Upsert, "asia", 7, 1)])).expect("written");
        sink.commit().expect("committed");
        assert_eq!(
            paper.take(),
            "regions  2013-01-01T10:00:00Z  2 rows\n region | n \n--------+---\n asia   | 7 \n eu     | 3 \n"
        );
        sink.commit().expect("committed");
        assert_eq!(paper.take(), "");
    }
}
