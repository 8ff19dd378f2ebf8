//! A number for a collection: the same operators over the same relations, whatever their columns are called. It names
//! operators in what lasts, so it is a hash that is frozen of a text that is ours.

use headwater_operators::keyed;

use crate::plan::{Node, Op, canonical};

/// The fingerprint of `op` over the nodes before it.
pub(crate) fn of(op: &Op, nodes: &[Node]) -> u64 {
    let text = canonical::op(op, |input| format!("{:016x}", nodes[input].fingerprint));
    keyed::hash(text.as_bytes())
}
