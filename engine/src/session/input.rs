//! Pushing rows from Rust.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use headwater_connectors::Changes;
use headwater_operators::time::to_micros;

use super::session::Inner;
use crate::error::{Error, Result};
use crate::intake::Run;

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Where rounds are cut by arrival, everything pushed is part of an answer once the view's frontier is at least
    /// this, microseconds since the epoch; `None` when the input is closed.
    pub frontier: Option<i64>,
}

/// A way into a table: a split of its own. Dropping it ends the split.
pub struct Input {
    session: Arc<Inner>,
    run: Arc<Run>,
    split: u32,
    rows: u64,
}

impl Input {
    pub(crate) fn new(session: Arc<Inner>, run: Arc<Run>, split: u32) -> Self {
        let name = format!("input {split}");
        run.lock().add_split(split, name, None);
        Input { session, run, split, rows: 0 }
    }

    /// Pushes rows as plain events, each a change of its own.
    ///
    /// Waits while the engine is behind with what was pushed, but not for what only the caller's next push, or a reader,
    /// would end. Errors: columns that are not the table's; a closed table; a row taken back that is not
    /// there, in a table in memory; that the wait was cancelled.
    pub fn push(&mut self, rows: RecordBatch) -> Result<Pushed> {
        self.change(rows, None, Changes::Each)
    }

    /// Pushes rows that arrive (1) and leave (-1) as one change: no answer ever shows a part of it.
    ///
    /// Errors as [`Input::push`]; a row that leaves a table that was declared `append_only`.
    pub fn push_atomic(&mut self, rows: RecordBatch, diffs: Vec<i64>) -> Result<Pushed> {
        if diffs.len() != rows.num_rows() {
            return Err(Error::user(format!("{} rows with {} diffs", rows.num_rows(), diffs.len())));
        }
        let declaration = &self.run.declaration;
        if declaration.append_only && diffs.iter().any(|diff| *diff < 0) {
            return Err(Error::user(format!("no row can leave the table '{}': it is append_only", declaration.name)));
        }
        self.change(rows, Some(diffs), Changes::One)
    }

    fn change(&mut self, rows: RecordBatch, diffs: Option<Vec<i64>>, changes: Changes) -> Result<Pushed> {
        self.run.check(&rows)?;
        let (news, cancels) = (self.session.news(), self.session.news().cancels());
        self.run.wait_for_room(true, || news.check(cancels))?;
        let _writing = self.run.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let frontier = {
            let mut intake = self.run.lock();
            if intake.frontier().is_none() {
                return Err(Error::user(format!("table '{}' is closed", self.run.declaration.name)));
            }
            intake.count(&rows, diffs.as_deref(), false)?;
            self.rows += rows.num_rows() as u64;
            intake.push(self.split, &rows, diffs, &changes, self.rows)?;
            intake.close_round();
            intake.frontier()
        };
        self.run.lead();
        Ok(Pushed { frontier: frontier.map(to_micros) })
    }

    /// Ends the table: its views become final.
    pub fn close(self) {
        self.run.end();
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut intake = self.run.lock();
        if intake.frontier().is_some() {
            intake.end_split(self.split);
            intake.close_round();
        }
        drop(intake);
        self.run.lead();
    }
}
