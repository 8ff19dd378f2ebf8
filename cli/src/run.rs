//! `headwater run`: a file of statements, until its inputs close or Ctrl-C.

use std::io::{Read, Write};
use std::path::Path;

use headwater::sql::{Parsed, Statement};
use headwater::{Outcome, RuntimeMode, Session, TableStatus};

use crate::args::Run;
use crate::failure::Failure;
use crate::files;
use crate::interrupt::Interrupts;
use crate::look::Look;
use crate::progress::Progress;
use crate::shell::{counted, say};

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

/// Says how many rows of which tables were late or rejected since the counts were as in `before`.
pub fn note_lost(session: &Session, before: &[TableStatus]) {
    for table in session.tables() {
        let earlier = before.iter().find(|b| b.name == table.name).map(|b| b.counts).unwrap_or_default();
        for (count, earlier, what) in [
            (table.counts.late, earlier.late, "late"),
            (table.counts.rejected, earlier.rejected, "rejected (broken, without event time, or too far ahead)"),
        ] {
            if count > 0 && count != earlier {
                let more = if what == "late" { late(&table) } else { String::new() };
                say(format_args!("note: table '{}': {} {what}{more}", table.name, counted(count)));
            }
        }
    }
}

/// How late the late rows of a table are, where most of them came from, and what can be done.
pub fn late(table: &TableStatus) -> String {
    format!(
        ", {}: left out where state goes by the watermark, and kept in \"{}\".late; a wider WATERMARK takes them in, for files \
         that end also 'scan.order' = 'event-time'",
        table.lateness(),
        table.name
    )
}

/// Where there is a bare `SELECT`, sinks that print do so on standard error, unless they say where.
pub fn leave_output_to_answers(statements: &mut [Parsed]) {
    if !statements.iter().any(|parsed| matches!(parsed.statement, Statement::Query(_))) {
        return;
    }
    for parsed in statements.iter_mut().filter(|parsed| prints(parsed)) {
        if let Statement::CreateSink(sink) = &mut parsed.statement {
            sink.options.0.entry("standard-error".into()).or_insert_with(|| "true".into());
        }
    }
}

/// Whether it makes a sink that prints.
pub fn prints(parsed: &Parsed) -> bool {
    matches!(&parsed.statement, Statement::CreateSink(sink)
        if matches!(sink.connector.as_deref(), Some("print" | "console")))
}

/// The name and the text of a file of statements; `-` is standard input.
pub fn read(file: &Path) -> Result<(String, String), Failure> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|error| Failure::File { path: "standard input".into(), error })?;
        return Ok(("standard input".into(), text));
    }
    let path = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(Failure::File { path, error }),
    }
}
