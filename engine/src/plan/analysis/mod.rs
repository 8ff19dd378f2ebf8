//! What is known of a node's output, an analysis a file. Each looks at the operator and at what is known of its inputs.

mod failures;
mod finality;
pub(crate) mod fingerprint;
mod keys;
mod retracts;
pub(crate) mod watermarks;

pub(crate) use failures::{can_fail, op_fails};

use super::{Node, Op, Properties};

/// The properties of `op` over the nodes before it. Those of a `Get` come from the catalog.
pub(crate) fn properties(op: &Op, nodes: &[Node]) -> Properties {
    let inputs: Vec<&Properties> = op.inputs().into_iter().map(|input| &nodes[input].properties).collect();
    let is_static = inputs.iter().all(|input| input.is_static);
    Properties {
        retracts: retracts::of(op, &inputs, is_static),
        taken_back: inputs.iter().any(|input| input.taken_back) && !matches!(op, Op::EmitFinal { .. }),
        watermarks: watermarks::of(op, &inputs, nodes),
        final_at: finality::of(op, &inputs, nodes),
        is_static,
        late_rows: inputs.iter().any(|input| input.late_rows),
        key: keys::of(op, &inputs, nodes),
        fails: failures::of(op, &inputs, nodes),
    }
}
