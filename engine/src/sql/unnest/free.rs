//! What a query knows of the rows around it.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Subquery};

pub(super) fn own_expressions(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let mut all = Vec::new();
    plan.apply_expressions(|expr| {
        all.push(expr.clone());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    let seen = expr.apply(|inner| {
        found = subquery_of(inner).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || seen.is_err()
}

/// Whether the right side of a join depends on the left one.
pub(super) fn lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => lateral(&alias.input),
        _ => false,
    }
}

/// The columns of the rows around that a query uses, each once.
pub(super) fn free(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut all = Vec::new();
    plan.apply(|node| {
        if !lateral_join(node) {
            let schema = merge_schema(&node.inputs());
            for expr in own_expressions(node)? {
                all.extend(free_in(&expr, &schema)?);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut once = Vec::new();
    all.into_iter().for_each(|column| {
        if !once.contains(&column) {
            once.push(column)
        }
    });
    Ok(once)
}

pub(super) fn lateral_join(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if lateral(&join.right))
}

/// The columns of the rows around a query that an expression of it uses, over columns of `schema`.
pub(super) fn free_in(expr: &Expr, schema: &DFSchema) -> Result<Vec<Column>> {
    let mut all = Vec::new();
    expr.apply(|inner| {
        if let Expr::OuterReferenceColumn(_, column) = inner {
            all.push(column.clone());
        }
        if let Some(subquery) = subquery_of(inner) {
            // What is in reach there is of this query; the nearest counts.
            all.extend(free(&subquery.subquery)?.into_iter().filter(|column| !schema.has_column(column)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

/// The columns that an expression uses, its subqueries' among them.
pub(super) fn used(expr: &Expr) -> Result<Vec<Column>> {
    let mut all = Vec::new();
    expr.apply(|inner| {
        if let Expr::Column(column) = inner {
            all.push(column.clone());
        }
        if let Some(subquery) = subquery_of(inner) {
            all.extend(free(&subquery.subquery)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

/// `outer = inner`, the one over columns of the rows around alone, the other over the query's own.
pub(super) fn equality(condition: &Expr) -> Option<(&Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let outer = |expr: &Expr| expr.contains_outer() && !expr.any_column_refs();
    match (outer(left), outer(right)) {
        (true, false) if !right.contains_outer() => Some((left, right.as_ref().clone())),
        (false, true) if !left.contains_outer() => Some((right, left.as_ref().clone())),
        _ => None,
    }
}

/// An expression over the rows around, seen from there.
pub(super) fn outer_as_columns(expr: &Expr) -> Result<Expr> {
    let columns = expr.clone().transform(|inner| {
        Ok(match inner {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    });
    columns.data()
}

/// An expression with its subquery changed, if it is one.
pub(in crate::sql) fn map_subquery(
    expr: Expr,
    change: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<Transformed<Expr>> {
    let changed = |subquery: Subquery| -> Result<Subquery> {
        Ok(Subquery { subquery: Arc::new(change(Arc::unwrap_or_clone(subquery.subquery))?), ..subquery })
    };
    Ok(Transformed::yes(match expr {
        Expr::Exists(exists) => Expr::Exists(Exists { subquery: changed(exists.subquery)?, ..exists }),
        Expr::InSubquery(test) => Expr::InSubquery(InSubquery { subquery: changed(test.subquery)?, ..test }),
        Expr::SetComparison(test) => Expr::SetComparison(SetComparison { subquery: changed(test.subquery)?, ..test }),
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(changed(subquery)?),
        other => return Ok(Transformed::no(other)),
    }))
}

/// A query with what it knows of the rows around it changed, where `change` says so. Columns of `hidden`, which are nearer, stay.
pub(in crate::sql) fn outer_mapped(
    plan: LogicalPlan,
    hidden: &DFSchema,
    change: &dyn Fn(FieldRef, &Column) -> Option<Expr>,
) -> Result<LogicalPlan> {
    plan.transform_down(|node| {
        let mut nearer = hidden.clone();
        nearer.merge(&merge_schema(&node.inputs()));
        let preserver = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = preserver.save(&expr);
            let expr = expr.transform_down(|inner| match inner {
                Expr::OuterReferenceColumn(field, column) if !hidden.has_column(&column) => {
                    Ok(match change(field.clone(), &column) {
                        Some(changed) => Transformed::new(changed, true, TreeNodeRecursion::Jump),
                        None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                    })
                }
                other => map_subquery(other, |plan| outer_mapped(plan, &nearer, change)),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}
