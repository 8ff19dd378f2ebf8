//! Executing statements.

use std::sync::Arc;

use arrow::array::RecordBatch;
use headwater_operators::time::to_micros;

use super::dataframe::DataFrame;
use super::session::{Inner, Session};
use super::sinks::Query;
use crate::catalog::Kind;
use crate::error::Result;
use crate::intake::{IntakeCounts, Run};
use crate::sql::{self, CreateSink, CreateTable, CreateView, DropKind, Parsed, Show, Statement};

/// What a statement did.
pub enum Outcome {
    /// Something was created, dropped or set; a sentence says what.
    Done(String),
    /// Rows of an in-memory table changed.
    Changed(u64),
    /// Rows to show: of `SHOW` and `DESCRIBE`.
    Rows(RecordBatch),
    /// Text to show: of `EXPLAIN` and `SHOW CREATE`.
    Text(String),
    /// A query to be run as the caller likes.
    Query(Box<DataFrame>),
    /// A sink that is running.
    Sink(Query),
}

/// How a table is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life: `starting`, `running`, `draining`, `stopped`, `failed` or `ended`.
    pub state: &'static str,
    /// Rows taken in, late, rejected.
    pub counts: IntakeCounts,
    /// Late rows by split, the most first; of the first hundred splits that had some.
    pub late_splits: Vec<(String, u64)>,
    /// How far its source is.
    pub progress: headwater_connectors::Progress,
    /// All times before this one, microseconds since the epoch, are closed; `None` when the table has ended.
    pub frontier: Option<i64>,
}

impl TableStatus {
    pub(super) fn of(run: &Run) -> Self {
        TableStatus {
            name: run.declaration.name.clone(),
            state: run.node.state().word(),
            counts: run.counts(),
            late_splits: run.late_splits(),
            progress: run.progress(),
            frontier: run.frontier().map(to_micros),
        }
    }

    /// How late its late rows are and where most of them came from; empty where none are.
    pub fn lateness(&self) -> String {
        const SHOWN: usize = 3;
        if self.counts.late == 0 {
            return String::new();
        }
        let behind = self.counts.behind_us as f64 / 1e6;
        let from: Vec<_> =
            self.late_splits.iter().take(SHOWN).map(|(split, rows)| format!("{rows} of {split}")).collect();
        let from = match self.late_splits.len() {
            0 => String::new(),
            splits if splits <= SHOWN => format!(" ({})", from.join(", ")),
            splits => format!(" ({}, and of {} more)", from.join(", "), splits - SHOWN),
        };
        format!("up to {behind} s behind{from}")
    }
}

impl Session {
    /// Executes statements one after another. A bare query is given back, not run.
    ///
    /// Errors point at the statement and the place in `text`; statements before it stay done.
    pub fn execute(&self, text: &str) -> Result<Vec<Outcome>> {
        let parsed = sql::parse(text)?;
        parsed.iter().map(|statement| self.execute_one(statement)).collect()
    }

    /// Executes a parsed statement.
    pub fn execute_one(&self, parsed: &Parsed) -> Result<Outcome> {
        self.0.execute(parsed).map_err(|error| parsed.locate(error))
    }

    /// How the tables are doing.
    pub fn tables(&self) -> Vec<TableStatus> {
        self.0.runs().iter().map(|run| TableStatus::of(run)).collect()
    }
}

impl Inner {
    fn execute(self: &Arc<Self>, parsed: &Parsed) -> Result<Outcome> {
        let text = parsed.text.as_str();
        match &parsed.statement {
            Statement::CreateTable(create) => self.create_table_statement(create, text),
            Statement::CreateView(create) => self.create_view_statement(create, text),
            Statement::CreateSink(create) => self.create_sink_statement(create, text),
            Statement::Insert(insert) => self.apply(&insert.table, |p| p.insert(insert)).map(Outcome::Changed),
            Statement::Delete(delete) => self.apply(&delete.table, |p| p.delete(delete)).map(Outcome::Changed),
            Statement::Update(update) => self.apply(&update.table, |p| p.update(update)).map(Outcome::Changed),
            Statement::Explain(explain) => {
                let planner = self.planner();
                let logical = planner.logical(&explain.query)?;
                Ok(Outcome::Text(planner.explain(&logical, explain.kind, self.settings().on_error)?))
            }
            Statement::Show(show) => self.show(show),
            Statement::Describe(name) => self.show(&Show::Columns(name.clone())),
            Statement::Drop(drop) => self.drop_statement(drop),
            Statement::Set { key, value } => self.set(key, value).map(Outcome::Done),
            Statement::Query(query) => {
                let plan = self.planner().logical(query)?;
                let query = DataFrame::new(self.clone(), plan).on_error(self.settings().on_error);
                Ok(Outcome::Query(Box::new(query)))
            }
        }
    }

    fn create_table_statement(&self, create: &CreateTable, text: &str) -> Result<Outcome> {
        let name = &create.name;
        Ok(Outcome::Done(match self.create_table(create, text)? {
            true => format!("created table '{name}'"),
            false => format!("table '{name}' exists already"),
        }))
    }

    fn create_view_statement(self: &Arc<Self>, create: &CreateView, text: &str) -> Result<Outcome> {
        let name = &create.name;
        Ok(Outcome::Done(match (self.create_view_as(create, text)?, create.materialized) {
            (false, _) => format!("view '{name}' exists already"),
            (true, true) => format!("created materialized view '{name}'"),
            (true, false) => format!("created view '{name}'"),
        }))
    }

    fn create_sink_statement(self: &Arc<Self>, create: &CreateSink, text: &str) -> Result<Outcome> {
        Ok(match self.create_sink_as(create, text)? {
            Some(query) => Outcome::Sink(query),
            None => Outcome::Done(format!("sink '{}' exists already", create.name)),
        })
    }

    fn drop_statement(&self, drop: &sql::Drop) -> Result<Outcome> {
        let (word, kind) = match drop.kind {
            DropKind::Table => ("table", Kind::Table),
            DropKind::View => ("view", Kind::View),
            DropKind::Sink => ("sink", Kind::Sink),
        };
        let name = &drop.name;
        let dropped = self.drop_node(kind, name, drop.cascade, drop.if_exists)?;
        Ok(Outcome::Done(match dropped.as_slice() {
            [] => format!("there is no {word} '{name}'"),
            more => format!("dropped {}", more.join(", ")),
        }))
    }
}
