//! A materialized view.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::OutputMode;
use headwater_operators::time::{SINCE_EVER, to_micros};

use super::dataframe::DataFrame;
use super::running::Running;
use super::session::Inner;
use super::subscription::Subscription;
use crate::catalog::{Kind, Node};
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::sql::Trigger;
use crate::worker::{Published, describe};

/// A maintained view: its content can be read, and its changes followed.
#[derive(Clone)]
pub struct View {
    session: Arc<Inner>,
    name: String,
    running: Arc<Running>,
}

/// How a query is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is in its life: `starting`, `running`, `draining`, `stopped`, `failed` or `ended`.
    pub state: &'static str,
    /// The answers hold from this time on, microseconds since the epoch; `None` where they hold since ever.
    pub as_of: Option<i64>,
    /// All times before this one, microseconds since the epoch, are closed; `None` when the inputs have ended.
    pub frontier: Option<i64>,
    /// An error row that the view holds, with how many there are.
    pub error: Option<String>,
    /// Why the query can't go on, if it can't.
    pub failure: Option<String>,
    /// Rows and groups that are left out now because an expression fails on them (`on_error = 'dead_letter'`).
    pub left_out: u64,
    /// Bytes of its stored output.
    pub state_bytes: usize,
}

impl Status {
    pub(super) fn of(query: &Published) -> Self {
        Status {
            state: query.node.state().word(),
            as_of: Some(query.as_of()).filter(|as_of| *as_of > SINCE_EVER).map(to_micros),
            frontier: query.frontier().map(to_micros),
            error: query.error().map(describe),
            failure: query.failure().map(|error| error.to_string()),
            left_out: query.left_out(),
            state_bytes: query.state_bytes(),
        }
    }

    /// Of a query that is not on the workers yet.
    pub(super) fn starting(node: &Node) -> Self {
        let frontier = Some(to_micros(SINCE_EVER));
        let failure = node.failure().map(|error| error.to_string());
        let state = node.state().word();
        Status { state, as_of: None, frontier, error: None, failure, left_out: 0, state_bytes: 0 }
    }
}

impl View {
    pub(super) fn new(session: Arc<Inner>, name: &str, running: Arc<Running>) -> Self {
        View { session, name: name.to_owned(), running }
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.running.published.schema
    }

    /// The whole view at its last closed time; waits for the first.
    ///
    /// Errors: a row on which an expression fails, for as long as it is in the input; the failure of a table.
    pub fn snapshot(&self) -> Result<RecordBatch> {
        let (_, parts) = self.session.peek(&self.running)?;
        let mut columns = Vec::new();
        for (part, counts) in parts {
            let plain = counts.iter().all(|count| *count == 1);
            columns.push(if plain {
                part
            } else {
                let indices = counts.iter().enumerate();
                let repeated =
                    indices.flat_map(|(i, n)| std::iter::repeat_n(i as u32, usize::try_from(*n).unwrap_or(0)));
                part.pick(&repeated.collect::<Vec<_>>(), self.schema())?
            });
        }
        let all = Columns::answer(&columns.iter().collect::<Vec<_>>(), self.schema())?;
        if all.rows == 0 {
            return Ok(RecordBatch::new_empty(self.schema().clone()));
        }
        Ok(all.to_batch(self.schema())?)
    }

    /// All times before this one, microseconds since the epoch, are closed; `None` when the inputs have ended.
    pub fn frontier(&self) -> Option<i64> {
        self.running.published.frontier().map(to_micros)
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        Status::of(&self.running.published)
    }

    /// Waits for the last content, if the inputs have an end. Errors: why it can't go on; a row in error.
    pub(super) fn check(&self) -> Result<()> {
        self.running.check(self.session.news())
    }

    /// Follows the view: its content at a closed time, then its changes.
    pub fn subscribe(&self, mode: OutputMode, trigger: Trigger) -> Result<Subscription> {
        let query = DataFrame::new(self.session.clone(), self.session.scan(&self.name)?);
        self.session.subscribe(&self.name, &query, mode, trigger)
    }

    /// Drops the view; queries that read it must be dropped before.
    pub fn drop(self) -> Result<()> {
        let current = self.session.catalog.find(&self.name).map(|(node, _)| node.id);
        if current != Some(self.running.published.id()) {
            return Err(Error::user(format!("the view '{}' was dropped already", self.name)));
        }
        self.session.drop_node(Kind::View, &self.name, false, false).map(|_| ())
    }
}
