//! Relations, constants and unnesting.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{EmptyRelation, TableScan, Unnest, Values};

use super::{Flow, Lowering, compile_all, unsupported};
use crate::error::{Error, Result};
use crate::plan::catalog::RelationSource;
use crate::plan::exprs;

impl Lowering {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Flow> {
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Err(unsupported(&format!("the foreign table {}", scan.table_name)));
        };
        let all: Vec<usize> = (0..source.schema.fields().len()).collect();
        let node = self.builder.get(source, all.clone());
        let mut flow = self.all(node);
        let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source.schema)?;
        let filters = compile_all(&scan.filters, &schema)?;
        flow = self.filtered(flow, &filters)?;
        let projection = scan.projection.as_ref().unwrap_or(&all);
        flow.exprs = projection.iter().map(|column| flow.exprs[*column].clone()).collect();
        match scan.fetch {
            Some(limit) => self.limit(flow, 0, Some(limit), &Arc::new(scan.projected_schema.as_arrow().clone())),
            None => Ok(flow),
        }
    }

    pub(super) fn values(&mut self, values: &Values, schema: &SchemaRef) -> Result<Flow> {
        let row = one_row()?;
        let mut columns: Vec<Vec<ArrayRef>> = vec![vec![]; schema.fields().len()];
        for exprs in &values.values {
            for ((column, expr), field) in columns.iter_mut().zip(exprs).zip(schema.fields()) {
                let value = exprs::compile(expr, &DFSchema::empty())?.evaluate(&row)?.into_array(1)?;
                column.push(match value.data_type() == field.data_type() {
                    true => value,
                    false => arrow::compute::cast(&value, field.data_type())?,
                });
            }
        }
        let mut arrays = Vec::new();
        for column in &columns {
            let parts: Vec<_> = column.iter().map(|array| array.as_ref()).collect();
            arrays.push(arrow::compute::concat(&parts)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.values.len()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
        let node = self.builder.constant(rows);
        Ok(self.all(node))
    }

    pub(super) fn empty(&mut self, empty: &EmptyRelation, schema: &SchemaRef) -> Result<Flow> {
        let rows = match empty.produce_one_row {
            true if schema.fields().is_empty() => one_row()?,
            true => return Err(Error::internal("a row without values")),
            false => RecordBatch::new_empty(schema.clone()),
        };
        let node = self.builder.constant(rows);
        Ok(self.all(node))
    }

    pub(super) fn unnest(&mut self, unnest: &Unnest, schema: &SchemaRef) -> Result<Flow> {
        let [(column, list)] = &unnest.list_type_columns[..] else {
            return Err(unsupported("unnest() of several columns at once, or of a struct; unnest one list at a time"));
        };
        if !unnest.struct_type_columns.is_empty() || list.depth != 1 || unnest.options.preserve_nulls() {
            return Err(unsupported("unnest() of structs, of nested lists at once, or keeping NULL lists"));
        }
        let flow = self.plan(&unnest.input)?;
        let input = self.node(&flow, &super::output_schema(&unnest.input))?;
        let node = self.builder.unnest(input, *column, schema.clone());
        Ok(self.all(node))
    }
}

/// One row without columns, to evaluate constants on.
fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?)
}
