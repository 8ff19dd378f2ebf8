//! Errors: whose fault, where, and what to do.

use std::fmt;

use datafusion::common::{DataFusionError, SchemaError};

use crate::sql::advice;

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The statement, option or call is wrong: the message says what and what would do.
    #[error("{message}{}", Place(position))]
    User {
        /// What is wrong.
        message: String,
        /// Where in the text of the statements.
        position: Option<Box<Position>>,
    },
    /// The data does not fit what was declared.
    #[error("{message}{}", Place(position))]
    Data {
        /// What does not fit, and where it was read.
        message: String,
        /// Where in the text of the statements.
        position: Option<Box<Position>>,
    },
    /// The outside world failed: a disk, a network, a server.
    #[error("{message}{}", Place(position))]
    External {
        /// What failed, on what.
        message: String,
        /// Where in the text of the statements.
        position: Option<Box<Position>>,
        /// Whether the same call may go through later.
        retry: bool,
    },
    /// A fault of this library.
    #[error("internal error: {message}; please report it")]
    Internal {
        /// What was found.
        message: String,
    },
    /// The caller no longer waits for the answer.
    #[error("cancelled")]
    Cancelled,
}

/// A place in a text of statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
}

struct Place<'a>(&'a Option<Box<Position>>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(position) = self.0 else { return Ok(()) };
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands under its character whatever their width.
        let indent: String =
            position.text.chars().take(position.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "\n{margin}--> line {}, column {}\n", position.line, position.column)?;
        write!(f, "{margin} |\n{number} | {}\n{margin} | {indent}^", position.text)
    }
}

impl Error {
    /// The caller's mistake.
    pub fn user(message: impl Into<String>) -> Self {
        Error::User { message: message.into(), position: None }
    }

    /// Data that does not fit.
    pub fn data(message: impl Into<String>) -> Self {
        Error::Data { message: message.into(), position: None }
    }

    /// A failure outside.
    pub fn external(message: impl Into<String>, retry: bool) -> Self {
        Error::External { message: message.into(), position: None, retry }
    }

    /// A fault of this library.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal { message: message.into() }
    }

    /// The same error, pointing at `line` and `column` (both from 1) of `source`. A place that is known already stays.
    #[must_use]
    pub fn at(mut self, source: &str, line: usize, column: usize) -> Self {
        if let Error::User { position, .. } | Error::Data { position, .. } | Error::External { position, .. } =
            &mut self
            && position.is_none()
        {
            let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_string();
            *position = Some(Box::new(Position { line: line.max(1), column: column.max(1), text }));
        }
        self
    }

    /// The same error, saying first what it was met in.
    #[must_use]
    pub fn within(mut self, what: &str) -> Self {
        if let Error::User { message, .. }
        | Error::Data { message, .. }
        | Error::External { message, .. }
        | Error::Internal { message } = &mut self
        {
            *message = format!("{what}: {message}");
        }
        self
    }

    /// The message without the place.
    pub fn message(&self) -> &str {
        match self {
            Error::User { message, .. }
            | Error::Data { message, .. }
            | Error::External { message, .. }
            | Error::Internal { message } => message,
            Error::Cancelled => "cancelled",
        }
    }

    /// Where in the statements, if known.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Error::User { position, .. } | Error::Data { position, .. } | Error::External { position, .. } => {
                position.as_deref()
            }
            Error::Internal { .. } | Error::Cancelled => None,
        }
    }

    /// An error of DataFusion whose spans, if it has any, are of `source`.
    pub fn from_datafusion(error: &DataFusionError, source: &str) -> Self {
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let own = classify(error);
        match span {
            Some(span) => own.at(source, span.start.line as usize, span.start.column as usize),
            None => own,
        }
    }
}

/// The kind and the message of DataFusion's innermost error.
fn classify(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => classify(inner),
        DataFusionError::Shared(inner) => classify(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => classify(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::SchemaError(inner, _) => Error::user(schema_message(inner)),
        DataFusionError::SQL(inner, _) => Error::user(clean(&inner.to_string())),
        DataFusionError::Plan(message) => Error::user(clean(message)),
        DataFusionError::Configuration(message) => Error::user(clean(message)),
        DataFusionError::NotImplemented(message) => {
            let message = clean(message);
            let message = message.strip_prefix("Unsupported ").unwrap_or(&message);
            if let Some(operator) = message.strip_prefix("JOIN operator ")
                && let Some(advice) = advice::join(operator.split(['(', ' ', '{']).next().unwrap_or_default())
            {
                return Error::user(advice);
            }
            // A syntax tree that is printed as it is tells nobody more than its first word.
            let message = message.split(" { ").next().unwrap_or(message).trim_start_matches("ast node ");
            Error::user(format!("not supported: {message}"))
        }
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => Error::external(inner.to_string(), false),
        },
        DataFusionError::IoError(inner) => Error::external(inner.to_string(), false),
        DataFusionError::ResourcesExhausted(message) => Error::external(clean(message), true),
        DataFusionError::Execution(message) => Error::data(clean(message)),
        DataFusionError::ArrowError(inner, _) => Error::from(inner.as_ref()),
        DataFusionError::Internal(message) => Error::internal(clean(message)),
        other => Error::data(clean(&other.strip_backtrace())),
    }
}

/// A prefix that DataFusion puts before the column that is not grouped by.
const WILDCARD: &str = "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, ";

/// DataFusion's words without its prefixes, backtraces and advice to its own users.
fn clean(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let message = message.split("\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(message);
    // What went wrong in a function's own check says more than the candidates that DataFusion lists after it.
    let message = message.split_once("coercion failed with: ").map_or(message, |(_, inner)| inner);
    let message = message.split(" No function matches").next().unwrap_or(message);
    if message.contains("Substring without for/from") {
        return "substr() takes a text, where to begin and how much: substr(s, 1, 3)".to_owned();
    }
    if let Some((function, wanted)) = message.split_once(" failed to match any signature, errors: ") {
        let function = plain(function);
        if let Some((_, given)) = wanted.split_once("(DataType: ") {
            let end = given.find(").").or_else(|| given.rfind(')')).unwrap_or(given.len());
            // The parenthesis of a type with arguments is its own.
            let end = if given[..end].matches('(').count() > given[..end].matches(')').count() { end + 1 } else { end };
            let given = advice::sql_types(given[..end.min(given.len())].trim_end_matches('.'));
            return format!("{function} does not take {given}");
        }
        // Each of its forms says the same of the number of arguments.
        let first = wanted.split(",Error during planning: ").next().unwrap_or(wanted);
        return plain(first).trim_end_matches('.').to_owned();
    }
    if let Some(name) = message.trim_start_matches("Error during planning: ").strip_prefix("Invalid function '") {
        let (name, hint) = name.split_once("'.").unwrap_or((name, ""));
        return advice::function(name, hint.split('\'').nth(1));
    }
    let mut message = message.trim().trim_end_matches('.');
    loop {
        let before = message;
        for prefix in [
            "Error during planning: ",
            "Schema error: ",
            "SQL error: ",
            "sql parser error: ",
            "Execution error: ",
            WILDCARD,
        ] {
            message = message.strip_prefix(prefix).unwrap_or(message);
        }
        if before == message {
            let types = message.contains("coerce") || message.contains(" expects ");
            return if types { advice::sql_types(message) } else { message.to_string() };
        }
    }
}

/// Without the words that DataFusion begins with.
fn plain(message: &str) -> &str {
    message.trim_start_matches("Internal error: ").trim_start_matches("Error during planning: ")
}

fn schema_message(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<_> = valid_fields.iter().map(|column| column.flat_name()).collect();
            advice::column(&field.flat_name(), &known)
        }
        SchemaError::AmbiguousReference { field } => {
            format!("'{}' is ambiguous: put the table's name before it", field.flat_name())
        }
        other => clean(&other.to_string()),
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        classify(&error)
    }
}

impl From<&arrow::error::ArrowError> for Error {
    fn from(error: &arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError;
        match error {
            ArrowError::IoError(message, _) => Error::external(message.clone(), false),
            ArrowError::DivideByZero => Error::data("division by zero"),
            ArrowError::CastError(m)
            | ArrowError::ComputeError(m)
            | ArrowError::ParseError(m)
            | ArrowError::CsvError(m)
            | ArrowError::JsonError(m)
            | ArrowError::ArithmeticOverflow(m) => Error::data(m.clone()),
            other => Error::data(other.to_string()),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::from(&error)
    }
}

impl From<headwater_connectors::Error> for Error {
    fn from(error: headwater_connectors::Error) -> Self {
        use headwater_connectors::Error as Connector;
        match error {
            Connector::User(message) => Error::user(message),
            Connector::Data(message) => Error::data(message),
            Connector::External { message, retry } => Error::external(message, retry),
            Connector::Internal(message) => Error::internal(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let error = Error::user("no").at("a\n\tbcd", 2, 3);
        assert_eq!(error.to_string(), "no\n --> line 2, column 3\n  |\n2 | \tbcd\n  | \t ^");
    }

    #[test]
    fn messages_lose_their_prefixes() {
        let error = DataFusionError::Plan("x".into()).context("rule");
        assert_eq!(Error::from(error).to_string(), "x");
    }
}
