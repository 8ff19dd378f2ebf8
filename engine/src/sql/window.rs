//! Where calls of `window` go: a tumbling one stays a function of the row, a hopping one becomes a node below.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Projection,
};

use crate::logical::{HOP_PLACE, HopNode, as_window};

/// Replaces the calls of `window` in an analysed plan: rows without a time are filtered, hops become nodes.
pub(super) fn place_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut hops = 0;
    plan.transform_up_with_subqueries(|plan| place(plan, &mut hops)).map(|done| done.data)
}

fn place(plan: LogicalPlan, hops: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let mut found: Vec<Expr> = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|inner| {
            if as_window(inner).is_some() && !found.contains(inner) {
                found.push(inner.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if found.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let may_hop = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_));
    let mut replacements: Vec<(Expr, Expr)> = Vec::new();
    let mut input: Option<Arc<LogicalPlan>> = plan.inputs().first().map(|input| Arc::new((*input).clone()));
    for call in found {
        let Some((time, shape)) = as_window(&call) else { continue };
        let shape = shape?;
        if !may_hop {
            if shape.tumbles() {
                continue;
            }
            return Err(DataFusionError::Plan(HOP_PLACE.into()));
        }
        let Some(below) = input.take() else {
            return Err(DataFusionError::Plan(HOP_PLACE.into()));
        };
        input = Some(if shape.tumbles() {
            match time.nullable(below.schema())? {
                true => Arc::new(LogicalPlan::Filter(Filter::try_new(time.clone().is_not_null(), below)?)),
                false => below,
            }
        } else {
            *hops += 1;
            let column = format!("__hop_{hops}");
            let node = HopNode::try_new(below, time.clone(), shape, column.clone())?;
            replacements.push((call.clone(), Expr::Column(Column::new_unqualified(column))));
            Arc::new(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
        });
    }
    let (true, Some(input)) = (may_hop, input) else { return Ok(Transformed::no(plan)) };
    replaced(plan, input, &replacements).map(Transformed::yes)
}

/// `plan` over `input`, its expressions rewritten under their old names.
fn replaced(plan: LogicalPlan, input: Arc<LogicalPlan>, replacements: &[(Expr, Expr)]) -> Result<LogicalPlan> {
    let rewrite = |expr: Expr, keep_name: bool| -> Result<Expr> {
        let (qualifier, name) = expr.qualified_name();
        let rewritten = expr.transform_down(|inner| {
            Ok(match replacements.iter().find(|(call, _)| *call == inner) {
                Some((_, column)) => Transformed::yes(column.clone()),
                None => Transformed::no(inner),
            })
        })?;
        Ok(match (rewritten.transformed, keep_name, rewritten.data) {
            (true, true, data @ Expr::Alias(_)) => data,
            (true, true, data) => data.alias_qualified(qualifier, name),
            (_, _, data) => data,
        })
    };
    match plan {
        LogicalPlan::Projection(projection) => {
            let exprs = projection.expr.into_iter().map(|e| rewrite(e, true)).collect::<Result<Vec<_>>>()?;
            Ok(LogicalPlan::Projection(Projection::try_new_with_schema(exprs, input, projection.schema)?))
        }
        LogicalPlan::Aggregate(aggregate) => {
            // A group expression can't be renamed in place: compute the names above.
            let Aggregate { group_expr, aggr_expr, schema, .. } = aggregate;
            let group_expr = group_expr.into_iter().map(|e| rewrite(e, false)).collect::<Result<Vec<_>>>()?;
            let aggr_expr = aggr_expr.into_iter().map(|e| rewrite(e, true)).collect::<Result<Vec<_>>>()?;
            let inner = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?);
            if inner.schema().as_ref() == schema.as_ref() {
                return Ok(inner);
            }
            let columns = inner.schema().columns();
            let names = schema.iter().zip(columns).map(|((qualifier, field), column)| {
                Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
            });
            LogicalPlanBuilder::from(inner.clone()).project(names.collect::<Vec<_>>())?.build()
        }
        other => Err(DataFusionError::Internal(format!("no window belongs in {}", other.display()))),
    }
}
