//! Files of statements, and where what they print goes.

use std::io::Read;
use std::path::Path;

use headwater::sql::{Parsed, Statement};

use crate::failure::Failure;

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
