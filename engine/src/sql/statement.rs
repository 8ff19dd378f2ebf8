//! The statements of the language, as parsed.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast;
use headwater_connectors::{Options, OutputMode};

use crate::error::Error;
use crate::plan::OnError;

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its text, without the semicolon.
    pub text: String,
    /// The line of its first word, from 1.
    pub line: usize,
    /// The column of its first word in characters, from 1.
    pub column: usize,
    /// The whole text that was parsed: spans are places in it.
    pub source: Arc<str>,
}

impl Parsed {
    /// The error, pointing at this statement unless it points at a place already.
    pub fn locate(&self, error: Error) -> Error {
        error.at(&self.source, self.line, self.column)
    }
}

/// What a statement asks for.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE [MATERIALIZED] VIEW`.
    CreateView(CreateView),
    /// `CREATE SINK`.
    CreateSink(CreateSink),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `DELETE FROM`.
    Delete(Delete),
    /// `UPDATE`.
    Update(Update),
    /// `EXPLAIN`.
    Explain(Explain),
    /// `SHOW`.
    Show(Show),
    /// `DESCRIBE`: the columns of a table or view.
    Describe(String),
    /// `DROP`.
    Drop(Drop),
    /// `SET key = value`; the key in lower case.
    Set {
        /// What to set.
        key: String,
        /// The value, without quotes.
        value: String,
    },
    /// A query.
    Query(Query),
}

/// A query with the text that its spans are places in.
#[derive(Clone, Debug)]
pub struct Query {
    /// The syntax tree.
    pub ast: Box<ast::Query>,
    /// The whole text that it was parsed from.
    pub source: Arc<str>,
}

/// An expression with the text that its spans are places in.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The syntax tree.
    pub ast: ast::Expr,
    /// The whole text that it was parsed from.
    pub source: Arc<str>,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// The name.
    pub name: String,
    /// Whether a table of this name is replaced.
    pub or_replace: bool,
    /// Whether a table of this name is left as it is.
    pub if_not_exists: bool,
    /// The columns, if declared.
    pub schema: Option<SchemaRef>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkClause>,
    /// `PRIMARY KEY (..) NOT ENFORCED`: column names; empty without.
    pub primary_key: Vec<String>,
    /// `connector = '..'`, if given.
    pub connector: Option<String>,
    /// The other options.
    pub options: Options,
}

/// `WATERMARK FOR ts AS ts - INTERVAL '10' SECOND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkClause {
    /// The event-time column.
    pub column: String,
    /// Declared disorder, microseconds.
    pub delay_us: u64,
}

/// `CREATE [MATERIALIZED] VIEW`.
#[derive(Clone, Debug)]
pub struct CreateView {
    /// The name.
    pub name: String,
    /// Whether a view of this name is replaced.
    pub or_replace: bool,
    /// Whether a view of this name is left as it is.
    pub if_not_exists: bool,
    /// Whether `MATERIALIZED` was written.
    pub materialized: bool,
    /// `on_error = '..'`, if given.
    pub on_error: Option<OnError>,
    /// Whether `FROM NOW` was written.
    pub from_now: bool,
    /// The view's query; a list of column names after the view's name is already part of it.
    pub query: Query,
}

/// `CREATE SINK`.
#[derive(Clone, Debug)]
pub struct CreateSink {
    /// The name.
    pub name: String,
    /// Whether a sink of this name is replaced.
    pub or_replace: bool,
    /// Whether a sink of this name is left as it is.
    pub if_not_exists: bool,
    /// What is written: `FROM v` is `SELECT * FROM v`.
    pub query: Query,
    /// The view's name, if it was `FROM v`.
    pub from: Option<String>,
    /// `connector = '..'`, if given.
    pub connector: Option<String>,
    /// `mode = '..'`; append if not given.
    pub mode: OutputMode,
    /// `trigger = '..'`; continuous if not given.
    pub trigger: Trigger,
    /// `on_error = '..'`, if given.
    pub on_error: Option<OnError>,
    /// The other options.
    pub options: Options,
}

/// When rounds close and emissions happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// As soon as possible.
    #[default]
    Continuous,
    /// As soon as possible, waiting for more rows at most this long.
    Within(Duration),
    /// At every multiple of this length.
    Every(Duration),
    /// All that there is now, then the end.
    AvailableNow,
}

/// `INSERT INTO`.
#[derive(Clone, Debug)]
pub struct Insert {
    /// The table.
    pub table: String,
    /// The columns given, in the source's order; empty for all.
    pub columns: Vec<String>,
    /// The rows.
    pub source: Query,
}

/// `DELETE FROM`.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The table.
    pub table: String,
    /// Which rows; all without.
    pub filter: Option<Scalar>,
}

/// `UPDATE`.
#[derive(Clone, Debug)]
pub struct Update {
    /// The table.
    pub table: String,
    /// Columns and their new values.
    pub assignments: Vec<(String, Scalar)>,
    /// Which rows; all without.
    pub filter: Option<Scalar>,
}

/// `EXPLAIN`.
#[derive(Clone, Debug)]
pub struct Explain {
    /// What to show.
    pub kind: ExplainKind,
    /// Of what: `EXPLAIN v` is `SELECT * FROM v`.
    pub query: Query,
    /// The view's name, if it was `EXPLAIN v`.
    pub view: Option<String>,
}

/// What `EXPLAIN` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExplainKind {
    /// The optimised logical plan and the physical one.
    #[default]
    Both,
    /// The optimised logical plan.
    Logical,
    /// The physical incremental plan.
    Physical,
}

/// `SHOW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// `SHOW TABLES`.
    Tables,
    /// `SHOW VIEWS`.
    Views,
    /// `SHOW SINKS`.
    Sinks,
    /// `SHOW FUNCTIONS`.
    Functions,
    /// `SHOW CREATE TABLE|VIEW|SINK x`.
    Create(String),
    /// `SHOW COLUMNS FROM x`.
    Columns(String),
    /// `SHOW ALL`: the settings.
    All,
    /// `SHOW key`: one setting.
    Setting(String),
}

/// `DROP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// What kind of thing.
    pub kind: DropKind,
    /// Its name.
    pub name: String,
    /// Whether it is fine if there is none.
    pub if_exists: bool,
    /// Whether what reads it is dropped, too: `CASCADE`.
    pub cascade: bool,
}

/// What is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// A table.
    Table,
    /// A view.
    View,
    /// A sink.
    Sink,
}
