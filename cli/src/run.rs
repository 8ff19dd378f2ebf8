//! `headwater run`: a file of statements, until its inputs close or Ctrl-C.

use std::io::Write;

use headwater::sql::Statement;
use headwater::{Outcome, RuntimeMode};

use crate::args::Run;
use crate::failure::Failure;
use crate::files;
use crate::interrupt::Interrupts;
use crate::look::Look;
use crate::notes::{counted, note_lost, say};
use crate::progress::Progress;
use crate::script::{leave_output_to_answers, prints, read};

/// Runs the file; answers go to `out` alone.
pub fn run(args: &Run, out: &mut dyn Write) -> Result<(), Failure> {
    let (source, text) = read(&args.file)?;
    let failed = Failure::of(&source);
    let mode = match (args.batch, args.stream) {
        (true, _) => RuntimeMode::Batch,
        (_, true) => RuntimeMode::Streaming,
        _ => RuntimeMode::Declared,
    };
    let mut parsed = headwater::sql::parse(&text).map_err(&failed)?;
    leave_output_to_answers(&mut parsed);
    let session = args.common.session().runtime_mode(mode).build().map_err(&failed)?;
    files::declare(&session, &parsed).map_err(&failed)?;
    let interrupts = {
        let session = session.clone();
        Interrupts::listen(move || {
            say("\nstopping: working through what has been read (Ctrl-C again ends at once)");
            session.stop();
        })?
    };
    let mut script = session.run_parsed(&parsed).map_err(&failed)?;
    let look = Look::whole(args.common.format);
    for shown in &script.shown {
        match shown {
            Outcome::Done(what) => say(what),
            Outcome::Changed(rows) => say(format_args!("{} changed", counted(*rows))),
            // Nobody can be told that standard error is gone.
            Outcome::Rows(rows) => drop(look.show(&mut std::io::stderr(), rows)),
            Outcome::Text(text) => say(text),
            Outcome::Query(_) | Outcome::Sink(_) => {}
        }
    }
    for sink in script.sinks() {
        say(format_args!("started sink '{}': {}", sink.name(), sink.promise()));
    }
    if !parsed.iter().any(|p| matches!(p.statement, Statement::Query(_) | Statement::CreateSink(_))) {
        say(format_args!("note: {source} has no SELECT and no CREATE SINK, so there is nothing to wait for"));
        return Ok(());
    }
    // A sink that draws on the terminal is progress enough.
    let progress = (!parsed.iter().any(prints)).then(|| Progress::show(&session, interrupts.handle()));
    let answers = script.answers().map_err(&failed)?;
    script.await_termination().map_err(&failed)?;
    let views = script.check_views();
    drop(progress);
    note_lost(&session, &[]);
    for answer in answers {
        look.show(out, &answer)?;
    }
    out.flush()?;
    views.map_err(&failed)
}
