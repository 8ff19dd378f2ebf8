//! `INSERT`, `UPDATE` and `DELETE`: a statement is one change, in one order with what is pushed.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use headwater_connectors::Changes;

use super::dataframe::DataFrame;
use super::session::Inner;
use crate::error::{Error, Result};
use crate::intake::{Origin, Run};
use crate::sql;

impl Inner {
    /// Applies a statement: the number of rows that left or came, the larger of the two. Waits, as a push does, while the
    /// engine is behind with what the table was given.
    pub fn apply(
        self: &Arc<Self>,
        table: &str,
        changes: impl Fn(&sql::Planner) -> Result<sql::Changes>,
    ) -> Result<u64> {
        loop {
            let run = self.memory_table(table)?;
            match self.apply_to(&run, table, &changes) {
                // Its name has come to mean another table meanwhile.
                Err(_) if self.run(table).is_ok_and(|now| !Arc::ptr_eq(&now, &run)) => {}
                applied => return applied,
            }
        }
    }

    fn apply_to(
        self: &Arc<Self>,
        run: &Run,
        table: &str,
        changes: impl Fn(&sql::Planner) -> Result<sql::Changes>,
    ) -> Result<u64> {
        let (news, cancels) = (self.news(), self.news().cancels());
        run.wait_for_room(true, || news.check(cancels))?;
        // What it reads is what it changes: no push comes between.
        let _writing = run.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = changes(&self.planner())?;
        let schema = &run.declaration.schema;
        let rows = |plan: Option<LogicalPlan>| match plan {
            Some(plan) => fit(&DataFrame::new(self.clone(), plan).collect()?, schema, table),
            None => Ok(RecordBatch::new_empty(schema.clone())),
        };
        let (leave, come) = (rows(changes.retract)?, rows(changes.insert)?);
        if !std::ptr::eq(Arc::as_ptr(&self.run(table)?), run) {
            return Err(Error::user(format!("table '{table}' was replaced meanwhile")));
        }
        let batch = arrow::compute::concat_batches(schema, [&leave, &come])?;
        let diffs = [vec![-1; leave.num_rows()], vec![1; come.num_rows()]].concat();
        change(run, &batch, diffs)?;
        Ok(leave.num_rows().max(come.num_rows()) as u64)
    }

    fn memory_table(&self, name: &str) -> Result<Arc<Run>> {
        let run = self.run(name)?;
        if matches!(run.declaration.origin, Origin::Memory) {
            return Ok(run);
        }
        Err(Error::user(format!("table '{name}' is read by a connector: only tables in memory can be changed")))
    }
}

/// Applies an atomic change to a table in memory.
fn change(run: &Run, batch: &RecordBatch, diffs: Vec<i64>) -> Result<()> {
    const STATEMENTS: u32 = u32::MAX;
    if batch.num_rows() == 0 {
        return Ok(());
    }
    {
        let mut intake = run.lock();
        if intake.frontier().is_none() {
            return Err(Error::user(format!("table '{}' is closed", run.declaration.name)));
        }
        intake.count(batch, Some(&diffs), true)?;
        intake.add_split(STATEMENTS, "statements".to_owned(), None);
        let offset = intake.counts.rows + batch.num_rows() as u64;
        intake.push(STATEMENTS, batch, Some(diffs), &Changes::One, offset)?;
        // It has said what it had to say, and holds nobody back.
        intake.end_split(STATEMENTS);
        intake.close_round();
    }
    run.lead();
    Ok(())
}

/// Rows as their table has them; a NULL where there must be none is an error.
fn fit(rows: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    for (array, field) in rows.columns().iter().zip(schema.fields()) {
        if !field.is_nullable() && array.null_count() > 0 {
            let column = field.name();
            return Err(Error::data(format!("table '{table}', column '{column}' is NOT NULL, but a NULL is given")));
        }
    }
    Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?)
}
