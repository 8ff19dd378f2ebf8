//! `INSERT`, `DELETE` and `UPDATE` as queries for the rows that leave and the rows that come.

use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use super::Planner;
use super::statement::{Delete, Insert, Scalar, Update};
use crate::error::{Error, Result};

/// What a statement does to a table: rows as the table has them, in its columns and types.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The rows that leave.
    pub retract: Option<LogicalPlan>,
    /// The rows that come.
    pub insert: Option<LogicalPlan>,
}

impl Planner {
    fn columns(&self, table: &str) -> Result<SchemaRef> {
        match self.table(table) {
            Some(meta) => Ok(meta.schema.clone()),
            None => Err(Error::user(format!("there is no table '{table}'"))),
        }
    }

    /// The rows of `INSERT INTO`: columns not given are NULL.
    pub fn insert(&self, insert: &Insert) -> Result<Changes> {
        let schema = self.columns(&insert.table)?;
        let source = self.logical(&insert.source)?;
        let names: Vec<&str> = match insert.columns.is_empty() {
            true => schema.fields().iter().map(|field| field.name().as_str()).collect(),
            false => insert.columns.iter().map(String::as_str).collect(),
        };
        let given = source.schema().columns();
        if names.len() != given.len() {
            return Err(Error::user(format!(
                "INSERT INTO {} takes {} columns ({}), but {} are given",
                insert.table,
                names.len(),
                names.join(", "),
                given.len()
            )));
        }
        for (i, name) in names.iter().enumerate() {
            if schema.column_with_name(name).is_none() {
                return Err(Error::user(format!("the table '{}' has no column '{name}'", insert.table)));
            }
            if names[..i].contains(name) {
                return Err(Error::user(format!("the column '{name}' is given twice")));
            }
        }
        let mut exprs = Vec::new();
        for field in schema.fields() {
            let value = match names.iter().position(|name| name == field.name()) {
                Some(i) => Expr::Column(given[i].clone()),
                None if !field.is_nullable() => {
                    return Err(Error::user(format!("the column '{}' is NOT NULL and must be given", field.name())));
                }
                None => Expr::Literal(ScalarValue::Null, None),
            };
            exprs.push(value.cast_to(field.data_type(), source.schema())?.alias(field.name()));
        }
        let insert = LogicalPlanBuilder::from(source).project(exprs)?.build()?;
        Ok(Changes { retract: None, insert: Some(insert) })
    }

    /// The rows of `DELETE FROM`.
    pub fn delete(&self, delete: &Delete) -> Result<Changes> {
        let retract = self.matching(&delete.table, delete.filter.as_ref())?;
        Ok(Changes { retract: Some(retract), insert: None })
    }

    /// The rows of `UPDATE`, as they were and as they become.
    pub fn update(&self, update: &Update) -> Result<Changes> {
        let schema = self.columns(&update.table)?;
        let retract = self.matching(&update.table, update.filter.as_ref())?;
        for (i, (column, _)) in update.assignments.iter().enumerate() {
            if schema.column_with_name(column).is_none() {
                return Err(Error::user(format!("the table '{}' has no column '{column}'", update.table)));
            }
            if update.assignments[..i].iter().any(|(other, _)| other == column) {
                return Err(Error::user(format!("the column '{column}' is set twice")));
            }
        }
        let mut exprs = Vec::new();
        for field in schema.fields() {
            let value = match update.assignments.iter().find(|(column, _)| column == field.name()) {
                Some((_, value)) => self.expr(value, retract.schema())?.cast_to(field.data_type(), retract.schema())?,
                None => Expr::Column(Column::new(Some(TableReference::bare(update.table.as_str())), field.name())),
            };
            exprs.push(value.alias(field.name()));
        }
        let insert = LogicalPlanBuilder::from(retract.clone()).project(exprs)?.build()?;
        Ok(Changes { retract: Some(retract), insert: Some(insert) })
    }

    fn matching(&self, table: &str, filter: Option<&Scalar>) -> Result<LogicalPlan> {
        self.columns(table)?;
        let scan = self.table_scan(table)?;
        Ok(match filter {
            Some(filter) => {
                let predicate = self.expr(filter, scan.schema())?;
                scan.filter(predicate)?.build()?
            }
            None => scan.build()?,
        })
    }
}
