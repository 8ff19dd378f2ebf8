//! A number for a collection: the same operators over the same relations, whatever their columns are called. It names
//! operators in checkpoints, so it must not depend on the machine, the run or the version of a hash function: FNV-1a.

use std::any::Any;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::plan::{Node, Op, Relation};

/// The fingerprint of `op` over the nodes before it.
pub(crate) fn of(op: &Op, nodes: &[Node]) -> u64 {
    let mut text = Fnv(0xcbf2_9ce4_8422_2325);
    // Writing into a hash can't fail.
    let _ = write_op(op, nodes, &mut text);
    text.0
}

struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

fn write_op(op: &Op, nodes: &[Node], f: &mut Fnv) -> std::fmt::Result {
    for input in op.inputs() {
        write!(f, "{:016x} ", nodes[input].fingerprint)?;
    }
    match op {
        Op::Get { relation, projection } => match relation {
            Relation::Table { name, drop_late } => write!(f, "table {name:?} {drop_late} {projection:?}"),
            Relation::Late { name } => write!(f, "late {name:?} {projection:?}"),
            Relation::View { name } => write!(f, "view {name:?} {projection:?}"),
            Relation::Errors { name } => write!(f, "errors {name:?} {projection:?}"),
        },
        Op::Constant { rows } => write!(f, "constant {} {:?}", rows.num_rows(), rows.columns()),
        Op::Mfp { predicates, exprs, .. } => {
            write!(f, "mfp")?;
            predicates.iter().try_for_each(|e| write!(f, " filter {:?}", nameless(e)))?;
            exprs.iter().try_for_each(|e| write!(f, " map {:?}", nameless(e)))
        }
        Op::Hop { time, size, slide, offset, .. } => write!(f, "hop {time} {size} {slide} {offset}"),
        Op::Unnest { column, .. } => write!(f, "unnest {column}"),
        Op::Join { left_keys, right_keys, .. } => write!(f, "join {left_keys:?} {right_keys:?}"),
        Op::Semi { left_keys, right_keys, anti, .. } => write!(f, "semi {left_keys:?} {right_keys:?} {anti}"),
        Op::Distinct { retain, .. } => write!(f, "distinct {retain:?}"),
        Op::Reduce { keys, aggregates, retain, global, .. } => {
            write!(f, "reduce {keys:?} {retain:?} {global}")?;
            aggregates.iter().try_for_each(|a| {
                write!(f, " {:?} {:?} {:?} {} {}", a.function, a.argument, a.filter, a.distinct, a.output)?;
                if a.or_null { write!(f, " or null") } else { Ok(()) }
            })
        }
        Op::TopK { group, order, offset, limit, .. } => write!(f, "topk {group:?} {order:?} {offset} {limit:?}"),
        Op::Union { .. } => write!(f, "union"),
        Op::Negate { .. } => write!(f, "negate"),
    }
}

/// The expression with its columns known by place alone.
fn nameless(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    let renamed = expr.clone().transform_up(|inner| {
        let any: &dyn Any = inner.as_ref();
        Ok(match any.downcast_ref::<Column>() {
            Some(column) => Transformed::yes(Arc::new(Column::new("", column.index())) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(inner),
        })
    });
    renamed.map_or_else(|_| expr.clone(), |done| done.data)
}
