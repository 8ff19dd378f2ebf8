//! Columns that identify a row: of two rows that are there at one time, some differ.

use std::any::Any;
use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::watermarks::column_size;
use crate::plan::exprs::column_of;
use crate::plan::{Node, NodeId, Op, Properties};

pub(super) fn of(op: &Op, inputs: &[&Properties], nodes: &[Node]) -> Option<Vec<usize>> {
    let width = |node: usize| nodes[node].schema.fields().len();
    match op {
        Op::Get { .. } | Op::Unnest { .. } | Op::Union { .. } | Op::Negate { .. } => None,
        Op::Constant { rows } => (rows.num_rows() <= 1).then(Vec::new),
        Op::Mfp { input, exprs, .. } => {
            let key = inputs[0].key.as_ref()?;
            let tells =
                |expr, column| column_of(expr) == Some(column) || window_of(expr, *input, nodes) == Some(column);
            key.iter().map(|column| exprs.iter().position(|expr| tells(expr, *column))).collect()
        }
        Op::Hop { input, .. } => inputs[0].key.clone().map(|mut key| {
            key.push(width(*input));
            key
        }),
        Op::Join { left, left_keys, right_keys, .. } => {
            let (left_key, right_key) = (inputs[0].key.as_ref(), inputs[1].key.as_ref());
            let within =
                |key: Option<&Vec<usize>>, joined: &[usize]| key.is_some_and(|k| k.iter().all(|c| joined.contains(c)));
            let shifted = |key: &Vec<usize>| key.iter().map(|column| column + width(*left)).collect::<Vec<_>>();
            // A row of one side meets at most one of the other.
            if within(right_key, right_keys)
                && let Some(key) = left_key
            {
                return Some(key.clone());
            }
            if within(left_key, left_keys)
                && let Some(key) = right_key
            {
                return Some(shifted(key));
            }
            let mut key = left_key?.clone();
            key.extend(shifted(right_key?));
            Some(key)
        }
        Op::Semi { .. } | Op::TopK { .. } | Op::Limit { .. } | Op::EmitFinal { .. } => inputs[0].key.clone(),
        Op::Distinct { input, .. } => Some(inputs[0].key.clone().unwrap_or_else(|| (0..width(*input)).collect())),
        Op::Reduce { keys, .. } => Some((0..keys.len()).collect()),
    }
}

/// The window column whose bound `expr` is: windows of one size are told apart by either bound.
fn window_of(expr: &Arc<dyn PhysicalExpr>, input: NodeId, nodes: &[Node]) -> Option<usize> {
    let any: &dyn Any = expr.as_ref();
    let call = any.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == "get_field")?;
    let column = column_of(call.args().first()?)?;
    column_size(input, column, nodes).map(|_| column)
}
