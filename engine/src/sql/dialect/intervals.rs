//! Intervals by their length: a day is 24 hours and a month 30 days wherever they are compared, ordered or grouped. Arrow
//! compares months, then days, then the rest.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection,
};

use super::with_expressions;
use crate::logical::{interval_of_parts, interval_parts, is_justified, justified};
use crate::sql::unnest::named;

/// The analysed plan, without subqueries, with intervals compared by length, and their sums part by part.
pub(in crate::sql) fn by_length(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up(|node| {
        let schema = merge_schema(&node.inputs());
        let node = with_expressions(node, |expr, schema| expr.transform_up(|inner| compared(inner, schema)))?;
        node.transform_data(|node| match node {
            LogicalPlan::Aggregate(aggregate) => grouped(aggregate, &schema),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let columns = input.schema().columns().into_iter().map(Expr::Column);
                let Some(keys) = named_keys(columns, input.schema())? else {
                    return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
                };
                let input = LogicalPlan::Projection(Projection::try_new(keys, input)?);
                Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
            }
            LogicalPlan::Sort(mut sort) => {
                for key in &mut sort.expr {
                    key.expr = key_of(key.expr.clone(), &schema);
                }
                Ok(Transformed::yes(LogicalPlan::Sort(sort)))
            }
            LogicalPlan::Join(mut join) => {
                for (left, right) in &mut join.on {
                    *left = key_of(left.clone(), &schema);
                    *right = key_of(right.clone(), &schema);
                }
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            other => Ok(Transformed::no(other)),
        })
    })
    .data()
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| matches!(of, DataType::Interval(_)))
}

/// An expression as something to compare.
fn key_of(expr: Expr, schema: &DFSchema) -> Expr {
    let to_do = is_interval(&expr, schema) && !is_justified(&expr);
    if to_do { justified(expr) } else { expr }
}

/// Expressions as something to compare, with their names; `None` where none is an interval.
fn named_keys(exprs: impl Iterator<Item = Expr> + Clone, schema: &DFSchema) -> Result<Option<Vec<Expr>>> {
    if !exprs.clone().any(|expr| is_interval(&expr, schema)) {
        return Ok(None);
    }
    let key = |expr: Expr| {
        if !is_interval(&expr, schema) {
            return expr;
        }
        let (relation, name) = expr.qualified_name();
        justified(expr).alias_qualified(relation, name)
    };
    Ok(Some(exprs.map(key).collect()))
}

/// An expression that compares, with its operands so.
fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let key = |expr: Box<Expr>| Box::new(key_of(*expr, schema));
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: key(left), op, right: key(right) }))
        }
        Expr::Between(mut between) => {
            between.expr = key(between.expr);
            between.low = key(between.low);
            between.high = key(between.high);
            Transformed::yes(Expr::Between(between))
        }
        Expr::InList(mut test) => {
            test.expr = key(test.expr);
            test.list = test.list.into_iter().map(|expr| key_of(expr, schema)).collect();
            Transformed::yes(Expr::InList(test))
        }
        Expr::Case(mut case) => {
            if let Some(operand) = case.expr.take() {
                case.expr = Some(key(operand));
                for (when, _) in &mut case.when_then_expr {
                    **when = key_of(when.as_ref().clone(), schema);
                }
            }
            Transformed::yes(Expr::Case(case))
        }
        Expr::ScalarFunction(mut call) if ["nullif", "greatest", "least"].contains(&call.func.name()) => {
            call.args = call.args.into_iter().map(|expr| key_of(expr, schema)).collect();
            Transformed::yes(Expr::ScalarFunction(call))
        }
        other => Transformed::no(other),
    })
}

pub(super) fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// An aggregate whose groups, extremes and distinct values go by length, with sums of intervals as sums of their parts.
fn grouped(aggregate: Aggregate, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let calls = || aggregate.aggr_expr.iter().filter_map(call_of);
    let over_intervals = calls().any(|call| call.params.args.iter().any(|expr| is_interval(expr, schema)));
    let keys = named_keys(aggregate.group_expr.iter().cloned(), schema)?;
    if keys.is_none() && !over_intervals {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let groups = keys.unwrap_or_else(|| aggregate.group_expr.clone());
    let width = groups.len();
    // What the aggregate computes, and where each of its columns comes from.
    let (mut exprs, mut columns) = (Vec::new(), Vec::new());
    for expr in &aggregate.aggr_expr {
        let argument = call_of(expr).and_then(|call| Some((call, call.params.args.first()?)));
        let Some((call, argument)) = argument.filter(|(_, argument)| is_interval(argument, schema)) else {
            columns.push(vec![exprs.len()]);
            exprs.push(expr.clone());
            continue;
        };
        let of = |argument: Expr, name: String| {
            let mut call = call.clone();
            call.params.args = vec![argument];
            Expr::AggregateFunction(call).alias(name)
        };
        let name = expr.schema_name().to_string();
        match call.func.name() {
            "sum" if !call.params.distinct => {
                let parts = interval_parts(argument);
                columns.push((exprs.len()..exprs.len() + parts.len()).collect());
                exprs.extend(
                    parts
                        .into_iter()
                        .zip(["months", "days", "nanoseconds"])
                        .map(|(part, what)| of(part, format!("{name} {what}"))),
                );
            }
            "min" | "max" => {
                columns.push(vec![exprs.len()]);
                exprs.push(of(key_of(argument.clone(), schema), name));
            }
            "count" => {
                let argument = if call.params.distinct { key_of(argument.clone(), schema) } else { argument.clone() };
                columns.push(vec![exprs.len()]);
                exprs.push(of(argument, name));
            }
            other => {
                let distinct = if call.params.distinct { "DISTINCT " } else { "" };
                return Err(DataFusionError::NotImplemented(format!(
                    "{other}({distinct}{argument}) of intervals; there are count, min, max and sum"
                )));
            }
        }
    }
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input.clone(), groups, exprs)?);
    let below = plan.schema().columns();
    let column = |at: usize| Expr::Column(below[width + at].clone());
    let groups = below[..width].iter().cloned().map(Expr::Column);
    let values = columns.iter().map(|columns| match columns[..] {
        [months, days, nanos] => interval_of_parts([column(months), column(days), column(nanos)]),
        _ => column(columns[0]),
    });
    let exprs = named(groups.chain(values), &aggregate.schema).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)))
}

fn call_of(expr: &Expr) -> Option<&AggregateFunction> {
    let mut inner = expr;
    while let Expr::Alias(alias) = inner {
        inner = &alias.expr;
    }
    match inner {
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}
