//! `on_error = 'null'` as a query: each expression that may fail on a row becomes `or_null(..)` of itself, before anything
//! is moved or merged. So a column is NULL, and a predicate not true, exactly where it fails as written.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use super::check::can_fail;
use crate::logical::or_null;

/// The analysed plan with NULL for whatever fails.
pub(super) fn null_where_it_fails(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let predicate = match &plan {
            LogicalPlan::Filter(filter) => Some(filter.predicate.clone()),
            LogicalPlan::Join(join) => join.filter.clone(),
            _ => None,
        };
        let plan = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let guarded = match predicate.as_ref() == Some(&expr) {
                true => conjuncts(expr, &schema),
                false => guard(expr, &schema),
            };
            Ok(guarded?.update_data(|expr| name.restore(expr)))
        })?;
        // A subquery below may have become nullable.
        plan.map_data(LogicalPlan::recompute_schema)
    })
    .data()
}

/// Each predicate of a conjunction on its own: what fails is not true, whatever the others say.
fn conjuncts(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match &expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::And => expr.map_children(|side| conjuncts(side, schema)),
        _ => guard(expr, schema),
    }
}

fn guard(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let inside = match &expr {
        Expr::Alias(_) | Expr::AggregateFunction(_) => true,
        // NULL compares to NULL, so the sides may stay visible: as the keys of a join, say.
        Expr::BinaryExpr(binary) => matches!(
            binary.op,
            Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
        ),
        _ => false,
    };
    if inside || has_subquery(&expr)? {
        return expr.map_children(|child| guard(child, schema));
    }
    Ok(match can_fail(&expr, schema) {
        true => Transformed::yes(or_null(expr)),
        false => Transformed::no(expr),
    })
}

fn has_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|inner| {
        Ok(matches!(inner, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    })
}
