//! `headwater sql`: statements typed one after another, or given at once.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use headwater::sql::Parsed;
use headwater::{Outcome, Query, Session};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use crate::args::{Format, Sql};
use crate::failure::Failure;
use crate::interrupt::{Interrupts, end_at_once};
use crate::{files, output, run, scan};

const HELP: &str = "\
Statements end with a semicolon and may take several lines.

  \\d             the tables, views and sinks
  \\d NAME        the columns of one, how it is doing and how it was made
  \\i FILE        run a file of statements
  \\format F      how answers are written: table, csv or json
  \\timing        show how long each statement takes, or no longer
  \\?             this help
  \\q             leave (as does Ctrl-D)

Ctrl-C cancels the statement that runs, or clears the line.

  CREATE TABLE t (a INT, b TEXT);
  CREATE MATERIALIZED VIEW v AS SELECT b, sum(a) AS total FROM t GROUP BY b;
  INSERT INTO t VALUES (1, 'x'), (2, 'x');
  SELECT * FROM v;
  SELECT * FROM 'some.csv' LIMIT 10;
";

/// Runs `headwater sql`; answers go to `out`.
pub fn sql(args: &Sql, out: &mut dyn Write) -> Result<(), Failure> {
    let session = args.common.session().build().map_err(Failure::of(""))?;
    let format = args.common.format;
    let mut shell = Shell { session, format, timing: false, sinks: Vec::new(), cancelled: Arc::default() };
    match &args.command {
        Some(text) => shell.once("", text, out),
        None if io::stdin().is_terminal() => shell.converse(out),
        None => {
            let (source, text) = run::read(Path::new("-"))?;
            shell.once(&source, &text, out)
        }
    }
}

/// A session with how its answers are shown.
struct Shell {
    session: Session,
    format: Format,
    timing: bool,
    sinks: Vec<Query>,
    /// Set by Ctrl-C at the prompt: what runs is to end.
    cancelled: Arc<AtomicBool>,
}

/// What to do after a command.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

impl Shell {
    /// Executes statements that nobody types: Ctrl-C answers from what has been read.
    fn once(&mut self, source: &str, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let session = self.session.clone();
        let _interrupts = Interrupts::listen(move || session.stop())?;
        let failed = Failure::of(source);
        let mut parsed = headwater::sql::parse(text).map_err(&failed)?;
        run::leave_output_to_answers(&mut parsed);
        parsed.iter().try_for_each(|parsed| self.statement(parsed, &failed, out))?;
        self.end()
    }

    /// Stops reading and waits until the sinks have written what was read.
    fn end(&self) -> Result<(), Failure> {
        self.session.stop();
        self.sinks.iter().try_for_each(Query::await_termination).map_err(Failure::of(""))
    }

    /// Executes statements; the first that fails ends it.
    fn statements(&mut self, source: &str, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let failed = Failure::of(source);
        let parsed = headwater::sql::parse(text).map_err(&failed)?;
        parsed.iter().try_for_each(|parsed| self.statement(parsed, &failed, out))
    }

    fn statement(
        &mut self,
        parsed: &Parsed,
        failed: &impl Fn(headwater::Error) -> Failure,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        files::declare(&self.session, std::slice::from_ref(parsed)).map_err(failed)?;
        self.go_on()?;
        let before = self.session.tables();
        let mut rows = None;
        match self.session.execute_one(parsed).map_err(failed)? {
            Outcome::Done(what) => eprintln!("{what}"),
            Outcome::Changed(count) => eprintln!("{count} rows changed"),
            Outcome::Text(text) => writeln!(out, "{text}")?,
            Outcome::Sink(query) => {
                eprintln!("started sink '{}': {}", query.name(), query.promise());
                self.sinks.push(query);
            }
            Outcome::Rows(batch) => rows = Some(batch),
            Outcome::Query(query) => {
                rows = Some(query.collect().map_err(|error| failed(parsed.locate(error)))?);
            }
        }
        run::note_lost(&self.session, &before);
        if let Some(batch) = rows {
            output::write(out, self.format, &batch.schema(), std::slice::from_ref(&batch))?;
            if self.timing {
                eprintln!("{} rows", batch.num_rows());
            }
        }
        if self.timing {
            eprintln!("{:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        }
        out.flush()?;
        self.go_on()
    }

    /// Errors: Ctrl-C was pressed.
    fn go_on(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Acquire) { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Reads statements from the terminal until the end.
    fn converse(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut editor: Editor<Typing, DefaultHistory> = Editor::new().map_err(terminal)?;
        editor.set_helper(Some(Typing { names: Vec::new() }));
        let history = history_file();
        if let Some(file) = &history {
            // There is none before the first session.
            let _ = editor.load_history(file);
        }
        let interrupts = {
            let (session, cancelled) = (self.session.clone(), self.cancelled.clone());
            Interrupts::each(move || {
                cancelled.store(true, Ordering::Release);
                session.cancel();
            })?
        };
        let mut out = Cancellable { out, cancelled: self.cancelled.clone() };
        eprintln!("headwater {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"));
        loop {
            if let Some(typing) = editor.helper_mut() {
                typing.names = self.names();
            }
            let text = match editor.readline("headwater> ") {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(terminal(error)),
            };
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let _ = editor.add_history_entry(text);
            self.cancelled.store(false, Ordering::Release);
            let done = match text.strip_prefix('\\') {
                Some(command) => self.command(command, &mut out),
                None => self.statements("", text, &mut out).map(|()| Next::Go),
            };
            match done {
                Ok(Next::Go) => {}
                Ok(Next::Quit) => break,
                // Behind the ^C that the terminal shows.
                Err(_) if self.go_on().is_err() => {
                    out.flush()?;
                    eprintln!("\ncancelled");
                }
                Err(failure @ Failure::Output(_)) => return Err(failure),
                Err(failure) => eprintln!("{failure}"),
            }
            if let Some(file) = &history
                && let Err(error) = editor.save_history(file)
            {
                eprintln!("note: can't write the history to {}: {error}", file.display());
            }
        }
        drop(interrupts);
        let _interrupts = Interrupts::each(end_at_once)?;
        self.end()
    }

    /// A command of the shell, without its backslash.
    fn command(&mut self, text: &str, out: &mut dyn Write) -> Result<Next, Failure> {
        let text = text.trim_end_matches(';').trim();
        let (name, argument) = text.split_once(char::is_whitespace).map_or((text, ""), |(n, a)| (n, a.trim()));
        match (name, argument) {
            ("q" | "quit", "") => return Ok(Next::Quit),
            ("?" | "h" | "help", "") => write!(out, "{HELP}")?,
            ("d", "") => {
                for statement in ["SHOW TABLES", "SHOW VIEWS", "SHOW SINKS"] {
                    writeln!(out, "{}", statement.to_lowercase().replace("show ", ""))?;
                    self.statements("", statement, out)?;
                }
            }
            ("d", relation) => self.describe(relation, out)?,
            ("i", "") => eprintln!("\\i needs a file"),
            ("i", file) => {
                let (source, text) = run::read(Path::new(file))?;
                self.statements(&source, &text, out)?;
            }
            ("timing", "") => {
                self.timing = !self.timing;
                eprintln!("timing is {}", if self.timing { "on" } else { "off" });
            }
            ("format", format) => match Format::from_str(format, true) {
                Ok(format) => self.format = format,
                Err(_) => eprintln!("\\format takes table, csv or json"),
            },
            _ => eprintln!("there is no command \\{text}; \\? lists those that there are"),
        }
        Ok(Next::Go)
    }

    /// What a table, view or sink looks like, and how it is doing.
    fn describe(&mut self, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let quoted = format!("\"{}\"", name.trim_matches('"').replace('"', "\"\""));
        self.statements("", &format!("DESCRIBE {quoted}"), out)?;
        let plain = name.trim_matches('"');
        if let Some(table) = self.session.tables().into_iter().find(|table| table.name == plain) {
            let counts = table.counts;
            let late = if counts.late > 0 { run::late(&table) } else { String::new() };
            let (rows, rejected) = (counts.rows, counts.rejected);
            writeln!(out, "{}: rows {rows}, rejected {rejected}, late {}{late}", table.state, counts.late)?;
        }
        if let Ok(view) = self.session.view(plain) {
            let status = view.status();
            writeln!(out, "{}: {} bytes stored", status.state, status.state_bytes)?;
            for trouble in status.error.iter().chain(&status.failure) {
                writeln!(out, "{trouble}")?;
            }
        }
        for kind in ["TABLE", "VIEW"] {
            if let Ok(outcomes) = self.session.execute(&format!("SHOW CREATE {kind} {quoted}")) {
                for outcome in outcomes {
                    if let Outcome::Text(text) = outcome {
                        writeln!(out, "{text}")?;
                    }
                }
                break;
            }
        }
        Ok(())
    }

    /// What can be completed: the names there are.
    fn names(&self) -> Vec<String> {
        use headwater::arrow::array::AsArray;
        let mut names = Vec::new();
        for statement in ["SHOW TABLES", "SHOW VIEWS"] {
            for outcome in self.session.execute(statement).unwrap_or_default() {
                if let Outcome::Rows(rows) = outcome
                    && let Some(column) = rows.columns().first().and_then(|c| c.as_string_opt::<i32>())
                {
                    names.extend(column.iter().flatten().map(str::to_owned));
                }
            }
        }
        names
    }
}

/// An output that takes no more once Ctrl-C was pressed.
struct Cancellable<'a> {
    out: &'a mut dyn Write,
    cancelled: Arc<AtomicBool>,
}

impl Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(io::Error::other("cancelled"));
        }
        self.out.write(&bytes[..bytes.len().min(1 << 12)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn terminal(error: ReadlineError) -> Failure {
    Failure::Output(std::io::Error::other(error.to_string()))
}

/// `$HEADWATER_HISTORY`, or a file in the home directory.
fn history_file() -> Option<PathBuf> {
    let own = std::env::var_os("HEADWATER_HISTORY").filter(|path| !path.is_empty());
    own.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".headwater_history")))
}

const KEYWORDS: [&str; 24] = [
    "AS",
    "CREATE",
    "DELETE FROM",
    "DESCRIBE",
    "DROP",
    "EXPLAIN",
    "FROM",
    "GROUP BY",
    "HAVING",
    "INSERT INTO",
    "INTERVAL",
    "JOIN",
    "LIMIT",
    "MATERIALIZED VIEW",
    "ORDER BY",
    "SELECT",
    "SHOW",
    "SINK",
    "TABLE",
    "UPDATE",
    "VALUES",
    "WATERMARK FOR",
    "WHERE",
    "WITH",
];

/// What the line editor knows of statements.
struct Typing {
    names: Vec<String>,
}

impl Helper for Typing {}
impl Highlighter for Typing {}

impl Hinter for Typing {
    type Hint = String;
}

impl Validator for Typing {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let finished = text.trim_start().starts_with('\\') || scan::is_finished(text);
        Ok(if finished { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for Typing {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let head = &line[..position];
        let start = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let word = head[start..].to_lowercase();
        if word.is_empty() {
            return Ok((position, Vec::new()));
        }
        let known = self.names.iter().map(String::as_str).chain(KEYWORDS);
        Ok((start, known.filter(|name| name.to_lowercase().starts_with(&word)).map(str::to_owned).collect()))
    }
}
