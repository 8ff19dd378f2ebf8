//! A materialized view.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connectors::OutputMode;
use headwater_operators::time::to_micros;

use super::session::{Inner, Reading, Stored};
use super::subscription::Subscription;
use crate::columns::Columns;
use crate::dataframe::DataFrame;
use crate::error::Result;
use crate::sql::Trigger;

/// A maintained view: its content can be read, and its changes followed.
#[derive(Clone)]
pub struct View {
    session: Arc<Inner>,
    name: String,
    stored: Stored,
}

/// How a query is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
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

impl View {
    pub(crate) fn new(session: Arc<Inner>, name: &str, stored: Stored) -> Self {
        View { session, name: name.to_owned(), stored }
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.stored.shared.schema
    }

    /// The whole view at its last closed time; waits for the first.
    ///
    /// Errors: a row on which an expression fails, for as long as it is in the input; the failure of a table.
    pub fn snapshot(&self) -> Result<RecordBatch> {
        let (_, parts) = self.session.peek(&self.stored)?;
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
        self.stored.shared.frontier().map(to_micros)
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.stored.shared.status()
    }

    /// Waits for the last content, if the inputs have an end. Errors: why it can't go on; a row in error.
    pub(crate) fn check(&self) -> Result<()> {
        self.stored.shared.check()
    }

    /// Follows the view: its content at a closed time, then its changes.
    pub fn subscribe(&self, mode: OutputMode, trigger: Trigger) -> Result<Subscription> {
        let query = DataFrame::new(self.session.clone(), self.session.scan(&self.name)?);
        self.session.subscribe(&self.name, &query, mode, trigger, Reading::Live)
    }

    /// Drops the view; queries that read it must be dropped before.
    pub fn drop(self) -> Result<()> {
        self.session.drop_view(&self.name)
    }
}
