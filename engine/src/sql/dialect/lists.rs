//! Lists of `IN`, kept from rules that forget NULL.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use super::with_expressions;
use crate::logical::closed;

/// The analysed plan with its lists closed wherever it matters that a test is NULL.
pub(in crate::sql) fn lists_closed(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up(|node| {
        let filters = matches!(node, LogicalPlan::Filter(_));
        with_expressions(node, |expr, schema| match filters {
            true => in_predicate(expr, schema),
            false => everywhere(expr, schema),
        })
    })
    .data()
}

/// Where a test of a conjunction is NULL, the row is left out as where it is false.
fn in_predicate(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(_) => Ok(Transformed::no(expr)),
        Expr::BinaryExpr(ref binary) if binary.op == Operator::And => {
            expr.map_children(|child| in_predicate(child, schema))
        }
        _ => everywhere(expr, schema),
    }
}

fn everywhere(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|inner| {
        Ok(match inner {
            Expr::InList(test) if may_be_null(&test, schema) => Transformed::yes(closed(test)),
            other => Transformed::no(other),
        })
    })
}

fn may_be_null(test: &InList, schema: &DFSchema) -> bool {
    std::iter::once(test.expr.as_ref()).chain(&test.list).any(|expr| expr.nullable(schema).unwrap_or(true))
}
