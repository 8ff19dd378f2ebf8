//! Whether rows may leave a collection, and which operator is why.

use crate::plan::{Op, Properties};

pub(super) fn of(op: &Op, inputs: &[&Properties], is_static: bool) -> Option<String> {
    if is_static {
        // Every row is there since ever and stays.
        return None;
    }
    let inherited = inputs.iter().find_map(|input| input.retracts.clone());
    match op {
        Op::Get { .. } | Op::Constant { .. } | Op::EmitFinal { .. } => None,
        Op::Mfp { .. } | Op::Hop { .. } | Op::Unnest { .. } | Op::Union { .. } | Op::Limit { .. } => inherited,
        Op::Join { .. } | Op::Distinct { .. } | Op::Negate { .. } => inherited,
        Op::Semi { anti: false, .. } => inherited,
        Op::Semi { anti: true, .. } => {
            inherited.or_else(|| (!inputs[1].is_static).then(|| "NOT EXISTS / NOT IN (anti join)".to_string()))
        }
        Op::Reduce { global: true, .. } => Some("the aggregate without GROUP BY".into()),
        Op::Reduce { .. } => Some("GROUP BY (aggregate)".into()),
        Op::TopK { .. } => Some("ORDER BY .. LIMIT (top-N)".into()),
    }
}
