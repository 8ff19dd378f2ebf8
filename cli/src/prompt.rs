//! The prompt: statements typed one after another, read line by line as `psql` does.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater::connectors::{Print, Registry};
use headwater::sql::{Parsed, Statement, Trigger};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::above::Above;
use crate::args::Common;
use crate::commands::Next;
use crate::complete::Completion;
use crate::failure::Failure;
use crate::interrupt::{Interrupts, end_at_once};
use crate::look::Look;
use crate::notes::{note, say};
use crate::script;
use crate::shell::Shell;
use crate::typed::Typed;

/// How often a sink that prints as soon as it can does so at the prompt: more often than anyone can read.
const PRINTS: std::time::Duration = std::time::Duration::from_millis(250);

/// Statements longer than this are not kept in the history.
const LONGEST_REMEMBERED: usize = 1 << 16;

/// Reads statements from the terminal until the end.
pub fn converse(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor: Editor<Completion, DefaultHistory> = Editor::with_config(config).map_err(terminal)?;
    editor.set_max_history_size(10_000).map_err(terminal)?;
    let above = Arc::new(Above::default());
    // Where there is no line to stand above, sinks print as they do elsewhere.
    let is_shared = match editor.create_external_printer() {
        Ok(printer) => above.begin(printer).is_ok(),
        Err(_) => false,
    };
    let mut registry = Registry::standard();
    if is_shared {
        for name in ["print", "console"] {
            registry.register(Arc::new(Print::named(name).on(above.clone())));
        }
    }
    let session = common.session().connectors(registry).build().map_err(Failure::of(""))?;
    let typed = Rc::new(RefCell::new(Typed::default()));
    editor.set_helper(Some(Completion::new(session.clone(), typed.clone())));
    let history = history_file();
    if let Some(file) = &history {
        // There is none before the first session.
        let _ = editor.load_history(file);
    }
    let mut shell = Shell::new(session, Look::of_prompt(common.format));
    let interrupts = {
        let (session, cancelled) = (shell.session.clone(), shell.cancelled.clone());
        Interrupts::each(move || {
            cancelled.store(true, Ordering::Release);
            session.cancel();
        })?
    };
    shell.progress = Some(interrupts.handle().clone());
    let cancelled = shell.cancelled.clone();
    let mut out = Cancellable { out, cancelled };
    say(format_args!("headwater {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION")));
    let mut prompt = Prompt { shell, typed, history, editor };
    loop {
        out.out.flush()?;
        let question = prompt.typed.borrow().prompt();
        above.typing_begins();
        let line = prompt.editor.readline(&question);
        above.typing_ends();
        prompt.shell.cancelled.store(false, Ordering::Release);
        let next = match line {
            // What was pasted can be many lines.
            Ok(lines) => prompt.lines(&lines, &mut out)?,
            Err(ReadlineError::Interrupted) => {
                prompt.typed.take();
                Next::Go
            }
            Err(ReadlineError::Eof) => Next::Quit,
            Err(error) => return Err(terminal(error)),
        };
        if next == Next::Quit {
            break;
        }
    }
    above.end();
    drop(interrupts);
    let _interrupts = Interrupts::each(end_at_once)?;
    prompt.shell.end()
}

struct Prompt {
    shell: Shell,
    typed: Rc<RefCell<Typed>>,
    history: Option<PathBuf>,
    editor: Editor<Completion, DefaultHistory>,
}

impl Prompt {
    /// Does what lines ask for. Errors: nothing can be shown any more.
    fn lines(&mut self, lines: &str, out: &mut Cancellable<'_>) -> Result<Next, Failure> {
        let mut next = Next::Go;
        for line in lines.lines() {
            let done = self.line(line, out);
            match done {
                Ok(Next::Go) => {}
                Ok(Next::Quit) => {
                    next = Next::Quit;
                    break;
                }
                // Behind the ^C that the terminal shows. What stands behind is not done either.
                Err(_) if self.shell.go_on().is_err() => {
                    self.typed.take();
                    out.out.flush()?;
                    say("\ncancelled");
                    break;
                }
                Err(failure @ Failure::Output(_)) => return Err(failure),
                Err(failure) => note(out, failure)?,
            }
        }
        if let Some(file) = &self.history
            && let Err(error) = self.editor.append_history(file)
        {
            say(format_args!("note: can't write the history to {}: {error}", file.display()));
        }
        Ok(next)
    }

    fn line(&mut self, line: &str, out: &mut dyn Write) -> Result<Next, Failure> {
        let (is_empty, is_plain) = {
            let typed = self.typed.borrow();
            (typed.is_empty(), typed.is_plain())
        };
        let word = line.trim();
        if word.is_empty() && is_empty {
            return Ok(Next::Go);
        }
        if let Some(command) = command(word).filter(|_| is_empty || (is_plain && word.starts_with('\\'))) {
            self.remember(word);
            return self.shell.command(command, out);
        }
        if !is_empty && is_plain && matches!(bare(word), "exit" | "quit" | "help") {
            note(out, "a statement is being typed: Ctrl-C clears it, \\q leaves, \\? helps")?;
        }
        let text = self.typed.borrow_mut().line(line);
        match text {
            Some(text) => {
                self.remember(text.trim());
                self.shell.statements("", &text, out).map(|()| Next::Go)
            }
            None => Ok(Next::Go),
        }
    }

    fn remember(&mut self, text: &str) {
        if text.len() <= LONGEST_REMEMBERED {
            let _ = self.editor.add_history_entry(text);
        }
    }
}

impl Shell {
    /// Executes statements that were typed; the first that fails ends them.
    pub fn statements(&mut self, source: &str, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let failed = Failure::of(source);
        let mut parsed = headwater::sql::parse(text).map_err(&failed)?;
        parsed.iter_mut().for_each(pace);
        parsed.iter().try_for_each(|parsed| self.statement(parsed, &failed, out))
    }
}

/// Has a sink that prints as soon as it can gather what it prints, so that one can type beside it.
fn pace(parsed: &mut Parsed) {
    let prints = script::prints(parsed);
    if let Statement::CreateSink(sink) = &mut parsed.statement
        && prints
        && sink.trigger == Trigger::Continuous
    {
        sink.trigger = Trigger::Within(PRINTS);
    }
}

fn bare(word: &str) -> &str {
    word.trim_end_matches(';').trim_end()
}

/// The command of the shell that a line is, without its backslash: also by the words and dots of other shells.
fn command(line: &str) -> Option<&str> {
    match bare(line) {
        "help" | "exit" | "quit" | "?" => Some(bare(line)),
        bare => match bare.strip_prefix('\\') {
            Some(command) => Some(command),
            None => bare.strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic())),
        },
    }
}

/// An output that takes no more once Ctrl-C was pressed.
struct Cancellable<'a> {
    out: &'a mut dyn Write,
    cancelled: Arc<std::sync::atomic::AtomicBool>,
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
    Failure::Output(io::Error::other(error.to_string()))
}

/// `$HEADWATER_HISTORY`, or a file in the home directory.
fn history_file() -> Option<PathBuf> {
    let own = std::env::var_os("HEADWATER_HISTORY").filter(|path| !path.is_empty());
    own.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".headwater_history")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_other_shells_are_commands() {
        for (line, wanted) in [
            ("help", Some("help")),
            ("exit;", Some("exit")),
            ("\\d t;", Some("d t")),
            (".tables", Some("tables")),
            (".5 + 1;", None),
            ("SELECT 1;", None),
            ("exit now", None),
        ] {
            assert_eq!(command(line), wanted, "{line}");
        }
    }
}
