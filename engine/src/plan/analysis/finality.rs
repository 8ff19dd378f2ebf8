//! When a row can no longer change: once its window is behind the watermark.

use super::watermarks::delay_of;
use crate::plan::{Node, Op, Properties, Watermark};

pub(super) fn of(op: &Op, inputs: &[&Properties], nodes: &[Node]) -> Option<Watermark> {
    match op {
        // What comes out of a final emission never changes.
        Op::Get { .. } | Op::Constant { .. } | Op::EmitFinal { .. } => None,
        Op::Mfp { input, exprs, .. } => {
            let at = inputs[0].final_at?;
            let follows = |(column, expr)| Some(Watermark { column, delay: delay_of(expr, &[at], *input, nodes)? });
            exprs.iter().enumerate().filter_map(follows).min_by_key(|w| w.delay)
        }
        Op::Hop { .. } | Op::Unnest { .. } | Op::Limit { .. } | Op::Negate { .. } => inputs[0].final_at,
        Op::Reduce { keys, retain, .. } => moved((*retain)?, |column| keys.iter().position(|key| *key == column)),
        // A row is there as soon as one of its kind is, and leaves only when its kind leaves the input.
        Op::Distinct { retain, .. } => inputs[0].retracts.as_ref().and(retain.or(inputs[0].final_at)),
        Op::TopK { group, .. } => inputs[0].final_at.filter(|at| group.contains(&at.column)),
        Op::Join { left_keys, right_keys, .. } => paired(inputs, left_keys, right_keys),
        Op::Semi { left_keys, right_keys, .. } => paired(inputs, left_keys, right_keys),
        Op::Union { .. } => {
            let mut at: Option<Watermark> = None;
            for input in inputs.iter().filter(|input| !input.is_static) {
                let own = input.final_at?;
                at = Some(match at {
                    None => own,
                    Some(other) if other.column == own.column => {
                        Watermark { column: own.column, delay: own.delay.max(other.delay) }
                    }
                    Some(_) => return None,
                });
            }
            at
        }
    }
}

/// A join's row is final when both of its rows are: they say so of one time, or one of them is there since ever.
fn paired(inputs: &[&Properties], left_keys: &[usize], right_keys: &[usize]) -> Option<Watermark> {
    let (left, right) = (inputs[0], inputs[1]);
    if right.is_static {
        return left.final_at;
    }
    let (l, r) = (left.final_at?, right.final_at?);
    let same = left_keys.iter().zip(right_keys).any(|(a, b)| *a == l.column && *b == r.column);
    same.then_some(Watermark { column: l.column, delay: l.delay.max(r.delay) })
}

fn moved(at: Watermark, place: impl Fn(usize) -> Option<usize>) -> Option<Watermark> {
    place(at.column).map(|column| Watermark { column, delay: at.delay })
}
