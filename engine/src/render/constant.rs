//! The answer of a plan that reads nothing, without a dataflow: the rows of an `INSERT`, `SELECT 1 + 1`.

use arrow::array::RecordBatch;
use headwater_operators::time::SINCE_EVER;
use headwater_operators::{Payload, Updates};

use super::chain::{Errors, Step};
use super::mfp::Mfp;
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::plan::{NodeId, OnError, Op, Plan};
use crate::shield;

/// The whole answer, if the plan is but filters and computations over constants, in no order. Errors: a row in error.
pub(crate) fn constant(plan: &Plan) -> Option<Result<RecordBatch>> {
    let plain = plan.presentation.is_empty() && plan.any.is_none() && plan.on_error != OnError::DeadLetter;
    if !plain || !is_constant(plan, plan.root) {
        return None;
    }
    let answer = shield::caught(|| answer(plan));
    Some(answer.unwrap_or_else(|message| Err(Error::internal(format!("evaluating a constant failed: {message}")))))
}

fn is_constant(plan: &Plan, id: NodeId) -> bool {
    match &plan.nodes[id].op {
        Op::Constant { .. } => true,
        Op::Mfp { input, .. } => is_constant(plan, *input),
        _ => false,
    }
}

fn answer(plan: &Plan) -> Result<RecordBatch> {
    let mut errors = Errors(Updates::default());
    let parts = rows(plan, plan.root, &mut errors);
    if let Some(error) = errors.0.data.iter().min() {
        return Err(Error::data(error.to_string()));
    }
    let schema = &plan.nodes[plan.root].schema;
    let mut all = Columns::answer(&parts.iter().map(|part| &part.data).collect::<Vec<_>>(), schema)?;
    all.arrays.truncate(plan.visible());
    match all.is_empty() {
        true => Ok(RecordBatch::new_empty(plan.schema.clone())),
        false => Ok(all.to_batch(&plan.schema)?),
    }
}

fn rows(plan: &Plan, id: NodeId, errors: &mut Errors) -> Vec<Updates<Columns>> {
    match &plan.nodes[id].op {
        Op::Constant { rows } => {
            let (times, diffs) = (vec![SINCE_EVER; rows.num_rows()], vec![1; rows.num_rows()]);
            vec![Updates { data: Columns::from_batch(rows), times, diffs }]
        }
        Op::Mfp { input, predicates, exprs } => {
            let mut mfp = Mfp::new(&plan.nodes[*input].schema, predicates, exprs);
            let mut out = Vec::new();
            let parts = rows(plan, *input, errors).into_iter().filter(|part| part.data.rows > 0);
            parts.for_each(|part| mfp.apply(part, errors, &mut out));
            out
        }
        _ => Vec::new(),
    }
}
