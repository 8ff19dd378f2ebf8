//! Lists of `IN`, kept from rules that forget NULL.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use crate::logical::closed;

/// The analysed plan with its lists closed wherever it matters that a test is NULL.
pub(in crate::sql) fn lists_closed(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let filters = matches!(node, LogicalPlan::Filter(_));
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = if filters { in_predicate(expr, &schema) } else { everywhere(expr, &schema) };
            Ok(expr?.update_data(|expr| name.restore(expr)))
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
