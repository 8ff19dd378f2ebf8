//! How the program ends when something is wrong.

use std::{fmt, io};

use headwater::connectors::READER_GONE;

/// Why the program can't go on.
#[derive(Debug)]
pub enum Failure {
    /// A statement failed; the text says where.
    Statement {
        /// What the statements stand in.
        source: String,
        /// What is wrong, with the place.
        error: headwater::Error,
    },
    /// A file could not be read.
    File {
        /// Its path.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Standard output is gone or full, or the terminal is.
    Output(io::Error),
    /// Whoever asked no longer waits for the answer.
    Cancelled,
}

impl Failure {
    /// Makes failures of what `source` holds.
    pub fn of(source: &str) -> impl Fn(headwater::Error) -> Failure + use<> {
        let source = source.to_owned();
        move |error| match error {
            headwater::Error::Cancelled => Failure::Cancelled,
            error => Failure::Statement { source: source.clone(), error },
        }
    }

    /// Whether whoever read the output has gone away, as `head` does: no failure of ours.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Failure::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Failure::Statement { error, .. } => error.message().ends_with(READER_GONE),
            Failure::File { .. } | Failure::Cancelled => false,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Statement { source, error } if source.is_empty() => write!(f, "error: {error}"),
            Failure::Statement { source, error } => write!(f, "error in {source}: {error}"),
            Failure::File { path, error } => write!(f, "error: can't read {path}: {error}"),
            Failure::Output(error) => write!(f, "error: can't write: {error}"),
            Failure::Cancelled => write!(f, "cancelled"),
        }
    }
}
