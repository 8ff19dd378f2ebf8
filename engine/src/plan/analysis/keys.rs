//! Columns that identify a row: of two rows that are there at one time, some differ.

use std::any::Any;

use datafusion::physical_expr::expressions::Column;

use crate::plan::{Node, Op, Properties};

pub(super) fn of(op: &Op, inputs: &[&Properties], nodes: &[Node]) -> Option<Vec<usize>> {
    let width = |node: usize| nodes[node].schema.fields().len();
    match op {
        Op::Get { .. } | Op::Unnest { .. } | Op::Union { .. } | Op::Negate { .. } => None,
        Op::Constant { rows } => (rows.num_rows() <= 1).then(Vec::new),
        Op::Mfp { exprs, .. } => {
            let key = inputs[0].key.as_ref()?;
            let place = |column: &usize| exprs.iter().position(|e| column_of(e) == Some(*column));
            key.iter().map(place).collect()
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
            if within(right_key, right_keys) {
                if let Some(key) = left_key {
                    return Some(key.clone());
                }
            }
            if within(left_key, left_keys) {
                if let Some(key) = right_key {
                    return Some(shifted(key));
                }
            }
            let mut key = left_key?.clone();
            key.extend(shifted(right_key?));
            Some(key)
        }
        Op::Semi { .. } | Op::TopK { .. } => inputs[0].key.clone(),
        Op::Distinct { input, .. } => Some(inputs[0].key.clone().unwrap_or_else(|| (0..width(*input)).collect())),
        Op::Reduce { keys, .. } => Some((0..keys.len()).collect()),
    }
}

/// The column that `expr` is.
pub(crate) fn column_of(expr: &std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>) -> Option<usize> {
    let expr: &dyn Any = expr.as_ref();
    expr.downcast_ref::<Column>().map(Column::index)
}
