//! A session that executes statements one after another and shows what they answer.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use headwater::sql::Parsed;
use headwater::{Outcome, Query, Session};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::look::Look;
use crate::notes::{counted, note, note_lost};
use crate::progress::Progress;
use crate::{files, script};

/// A session with how its answers are shown.
pub struct Shell {
    /// What statements are executed in.
    pub session: Session,
    /// How answers are shown.
    pub look: Look,
    /// Whether to say how long each statement takes.
    pub timing: bool,
    /// Where progress is drawn from, if someone looks on.
    pub progress: Option<Handle>,
    /// Set by Ctrl-C at the prompt: what runs is to end.
    pub cancelled: Arc<AtomicBool>,
    sinks: Vec<Query>,
}

impl Shell {
    /// A shell for nobody in particular.
    pub fn new(session: Session, look: Look) -> Self {
        Shell { session, look, timing: false, progress: None, cancelled: Arc::default(), sinks: Vec::new() }
    }

    /// Executes statements that nobody types: Ctrl-C answers from what has been read.
    pub fn once(&mut self, source: &str, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let session = self.session.clone();
        let _interrupts = Interrupts::listen(move || session.stop())?;
        let failed = Failure::of(source);
        let mut parsed = headwater::sql::parse(text).map_err(&failed)?;
        script::leave_output_to_answers(&mut parsed);
        parsed.iter().try_for_each(|parsed| self.statement(parsed, &failed, out))?;
        self.end()
    }

    /// Stops reading and waits until the sinks have written what was read.
    pub fn end(&self) -> Result<(), Failure> {
        self.session.stop();
        self.sinks.iter().try_for_each(Query::await_termination).map_err(Failure::of(""))
    }

    /// Executes a parsed statement and shows what it answers.
    pub fn statement(
        &mut self,
        parsed: &Parsed,
        failed: &impl Fn(headwater::Error) -> Failure,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        files::declare(&self.session, std::slice::from_ref(parsed)).map_err(failed)?;
        self.go_on()?;
        let before = self.session.tables();
        let progress = self.progress.as_ref().map(|handle| Progress::of_answers(&self.session, handle));
        let mut rows = None;
        match self.session.execute_one(parsed).map_err(failed)? {
            Outcome::Done(what) => note(out, what)?,
            Outcome::Changed(count) => note(out, format_args!("{} changed", counted(count)))?,
            Outcome::Text(text) => writeln!(out, "{text}")?,
            Outcome::Sink(query) => {
                note(out, format_args!("started sink '{}': {}", query.name(), query.promise()))?;
                self.sinks.push(query);
            }
            Outcome::Rows(batch) => rows = Some(batch),
            Outcome::Query(query) => {
                rows = Some(query.collect().map_err(|error| failed(parsed.locate(error)))?);
            }
        }
        drop(progress);
        let took = started.elapsed();
        note_lost(&self.session, &before);
        if let Some(batch) = rows {
            self.look.show(out, &batch)?;
        }
        if self.timing {
            note(out, format_args!("Time: {:.1} ms", took.as_secs_f64() * 1e3))?;
        }
        out.flush()?;
        self.go_on()
    }

    /// Errors: Ctrl-C was pressed.
    pub fn go_on(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Acquire) { Err(Failure::Cancelled) } else { Ok(()) }
    }
}
