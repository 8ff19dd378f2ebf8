//! Filters and computes columns, a batch at a time.
//!
//! Predicates are evaluated in order, each on the rows that passed those before it, then the output columns on the rows
//! that passed all. A row's outcome is what it would be in a batch of its own (semantics 22): when an expression fails on
//! a batch, the batch is cut in two until the rows that fail stand alone; each becomes a [`RowError`] with the row's time
//! and diff, so that its retraction retracts the error, and all others go on.
//!
//! Integer arithmetic fails on overflow: DataFusion's default wraps, so [`checked`] rewrites the expressions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, NullArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{FilterBuilder, FilterPredicate, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, NegativeExpr};
use datafusion::physical_expr::utils::collect_columns;
use headwater_operators::Updates;

use super::RowError;
use super::chain::{Errors, Step, slice};
use crate::columns::{Columns, FULL, sound};
use crate::plan::can_fail;
use crate::plan::evaluate::{evaluate, is_deep};
use crate::shield;

/// Filter, map and project in one step; see the module.
pub(crate) struct Mfp {
    predicates: Vec<Stage>,
    /// Nothing to compute: an output column is an input column.
    outputs: Vec<Output>,
    /// Evaluates the output columns; columns that none of them reads are typed NULL.
    output_schema: SchemaRef,
    /// The input, for messages.
    input: SchemaRef,
    fallible: bool,
    /// Whether some expression is nested deeply.
    deep: bool,
}

struct Stage {
    expr: Arc<dyn PhysicalExpr>,
    /// What the batch looks like here: columns that no later expression reads are typed NULL.
    schema: SchemaRef,
}

enum Output {
    Column(usize),
    Computed(Arc<dyn PhysicalExpr>),
}

/// Which expression failed and how.
struct Failure {
    expression: String,
    message: String,
}

impl Mfp {
    pub(crate) fn new(
        input: &SchemaRef,
        predicates: &[Arc<dyn PhysicalExpr>],
        exprs: &[Arc<dyn PhysicalExpr>],
    ) -> Self {
        match predicates.iter().chain(exprs).any(is_deep) {
            true => shield::ample(|| Mfp { deep: true, ..Mfp::of(input, predicates, exprs) }),
            false => Mfp::of(input, predicates, exprs),
        }
    }

    fn of(input: &SchemaRef, predicates: &[Arc<dyn PhysicalExpr>], exprs: &[Arc<dyn PhysicalExpr>]) -> Self {
        let predicates: Vec<_> = predicates.iter().map(|e| checked(e.clone(), input)).collect();
        let exprs: Vec<_> = exprs.iter().map(|e| checked(e.clone(), input)).collect();
        let fallible = predicates.iter().chain(&exprs).any(|e| can_fail(e, input));
        let mut needed = vec![false; input.fields().len()];
        let need = |expr: &Arc<dyn PhysicalExpr>, needed: &mut Vec<bool>| {
            collect_columns(expr).iter().for_each(|c| needed[c.index()] = true);
        };
        exprs.iter().for_each(|e| need(e, &mut needed));
        let output_schema = narrowed(input, &needed);
        // Backwards, for a stage needs what all later ones need.
        let mut stages: Vec<Stage> = Vec::with_capacity(predicates.len());
        for expr in predicates.into_iter().rev() {
            need(&expr, &mut needed);
            stages.push(Stage { expr, schema: narrowed(input, &needed) });
        }
        stages.reverse();
        let outputs = exprs
            .into_iter()
            .map(|expr| match expr.downcast_ref::<Column>() {
                Some(column) => Output::Column(column.index()),
                None => Output::Computed(expr),
            })
            .collect();
        Mfp { predicates: stages, outputs, output_schema, input: input.clone(), fallible, deep: false }
    }

    /// The step that keeps the columns of `projection`.
    pub(crate) fn projection(input: &SchemaRef, projection: &[usize]) -> Self {
        Mfp {
            predicates: Vec::new(),
            outputs: projection.iter().map(|&c| Output::Column(c)).collect(),
            output_schema: input.clone(),
            input: input.clone(),
            fallible: false,
            deep: false,
        }
    }

    /// The output columns, and which rows passed unless all did.
    fn evaluate(&self, input: &Columns) -> Result<(Columns, Option<Vec<u32>>), Failure> {
        let mut data = input.clone();
        let mut kept: Option<Vec<u32>> = None;
        for stage in &self.predicates {
            let batch = batch(&data, &stage.schema);
            let fails = |error| Failure::new(&stage.expr, &error);
            let mask = match evaluate(&stage.expr, &batch).map_err(fails)? {
                ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => continue,
                ColumnarValue::Scalar(_) => return Ok((Columns::default(), Some(Vec::new()))),
                ColumnarValue::Array(mask) => mask,
            };
            let mask = mask.as_boolean();
            let mask = if mask.null_count() > 0 { &prep_null_mask_filter(mask) } else { mask };
            let passing = mask.true_count();
            if passing == data.rows {
                continue;
            }
            if passing == 0 {
                return Ok((Columns::default(), Some(Vec::new())));
            }
            kept = Some(match &kept {
                None => mask.values().set_indices().map(|i| i as u32).collect(),
                Some(kept) => mask.values().set_indices().map(|i| kept[i]).collect(),
            });
            data = filter(&batch, &narrow(mask), passing);
        }
        let mut evaluated = None;
        let arrays = self
            .outputs
            .iter()
            .map(|output| match output {
                Output::Column(column) => Ok(data.arrays[*column].clone()),
                Output::Computed(expr) => {
                    let batch = evaluated.get_or_insert_with(|| batch(&data, &self.output_schema));
                    let value = evaluate(expr, batch).and_then(|v| v.into_array(data.rows));
                    value.map_err(|error| Failure::new(expr, &error))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((Columns { arrays, rows: data.rows }, kept))
    }

    fn bisect(&self, updates: Updates<Columns>, out: &mut Vec<Updates<Columns>>, errors: &mut Errors) {
        match self.evaluate(&updates.data) {
            Ok((data, None)) => out.push(Updates { data, ..updates }),
            Ok((data, Some(kept))) => {
                let times = kept.iter().map(|&i| updates.times[i as usize]).collect();
                let diffs = kept.iter().map(|&i| updates.diffs[i as usize]).collect();
                out.push(Updates { data, times, diffs });
            }
            Err(Failure { expression, message }) if updates.len() == 1 => {
                let row = describe(&updates.data, &self.input, 0);
                errors.push(RowError { row, expression, message, negative: false }, updates.times[0], updates.diffs[0]);
            }
            Err(_) => {
                let middle = updates.len() / 2;
                self.bisect(slice(&updates, 0..middle), out, errors);
                self.bisect(slice(&updates, middle..updates.len()), out, errors);
            }
        }
    }
}

impl Step for Mfp {
    fn apply(&mut self, updates: Updates<Columns>, errors: &mut Errors, out: &mut Vec<Updates<Columns>>) {
        let unchanged = |(place, output): (usize, &Output)| matches!(output, Output::Column(c) if *c == place);
        if self.predicates.is_empty()
            && self.outputs.len() == updates.data.arrays.len()
            && self.outputs.iter().enumerate().all(unchanged)
        {
            return out.push(updates);
        }
        if self.predicates.is_empty() && self.outputs.iter().all(|o| matches!(o, Output::Column(_))) {
            let arrays = self.outputs.iter().filter_map(|output| match output {
                Output::Column(column) => Some(updates.data.arrays[*column].clone()),
                Output::Computed(_) => None,
            });
            return out
                .push(Updates { data: Columns { arrays: arrays.collect(), rows: updates.data.rows }, ..updates });
        }
        let before = out.len();
        match self.deep {
            true => shield::ample(|| self.bisect(updates, out, errors)),
            false => self.bisect(updates, out, errors),
        }
        // The pieces of a batch on which a row failed are one batch again, if they fit one.
        if out.len() > before + 1 && out[before..].iter().map(|part| part.data.weight()).sum::<usize>() <= FULL {
            let pieces = out.split_off(before);
            out.push(Updates::concat(&pieces.iter().collect::<Vec<_>>()));
        }
    }

    fn fallible(&self) -> bool {
        self.fallible
    }
}

impl Failure {
    fn new(expr: &Arc<dyn PhysicalExpr>, error: &DataFusionError) -> Self {
        Failure { expression: expr.to_string(), message: message(error) }
    }
}

/// What went wrong, without the layers it went through.
pub(crate) fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        error => error.strip_backtrace(),
    };
    let text = text.trim();
    let plain = ["Execution error: ", "Compute error: ", "Arithmetic overflow: ", "Cast error: ", "Parser error: "];
    plain.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text).to_string()
}

/// A row for people: `column = value, ..`.
pub(crate) fn describe(data: &Columns, schema: &SchemaRef, row: usize) -> String {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let values = data.arrays.iter().zip(schema.fields()).map(|(array, field)| {
        let value = ArrayFormatter::try_new(array.as_ref(), &options).map(|f| f.value(row).to_string());
        format!("{} = {}", field.name(), value.unwrap_or_else(|e| e.to_string()))
    });
    values.collect::<Vec<_>>().join(", ")
}

/// The schema with typed NULL for the columns that aren't needed, so that they need no filtering. All columns may be
/// NULL: the batches were checked by whoever made them.
fn narrowed(schema: &SchemaRef, needed: &[bool]) -> SchemaRef {
    let fields = schema.fields().iter().zip(needed).map(|(field, &needed)| {
        Field::new(field.name(), if needed { field.data_type().clone() } else { DataType::Null }, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn batch(data: &Columns, schema: &SchemaRef) -> RecordBatch {
    let arrays = data.arrays.iter().zip(schema.fields()).map(|(array, field)| match field.data_type() {
        DataType::Null if array.data_type() != &DataType::Null => Arc::new(NullArray::new(data.rows)) as ArrayRef,
        _ => array.clone(),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(data.rows));
    sound(RecordBatch::try_new_with_options(schema.clone(), arrays.collect(), &options))
}

fn narrow(mask: &BooleanArray) -> FilterPredicate {
    FilterBuilder::new(mask).optimize().build()
}

fn filter(batch: &RecordBatch, mask: &FilterPredicate, rows: usize) -> Columns {
    let arrays = batch.columns().iter().map(|array| match array.data_type() {
        DataType::Null => Arc::new(NullArray::new(rows)) as ArrayRef,
        _ => sound(mask.filter(array.as_ref())),
    });
    Columns { arrays: arrays.collect(), rows }
}

/// The expression with arithmetic that fails on overflow instead of wrapping.
fn checked(expr: Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Arc<dyn PhysicalExpr> {
    let rewritten = expr.clone().transform_up(|expr| {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
        {
            let (left, op, right) = (binary.left().clone(), *binary.op(), binary.right().clone());
            let binary = BinaryExpr::new(left, op, right).with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(binary) as Arc<dyn PhysicalExpr>));
        }
        if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema)?;
            if data_type.is_signed_integer() {
                let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, negative.arg().clone()).with_fail_on_overflow(true);
                return Ok(Transformed::yes(Arc::new(minus) as Arc<dyn PhysicalExpr>));
            }
        }
        Ok(Transformed::no(expr))
    });
    // A tree that can't be rewritten fails on evaluation as well, with the row that shows it.
    rewritten.data().unwrap_or(expr)
}
