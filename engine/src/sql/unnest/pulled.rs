//! A query without what depends on the rows around it, where that is in filters alone which can go up.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, Projection, SubqueryAlias};

use super::build::{Names, filtered, over_no_rows, plan_columns};
use super::free::{equality, free, free_in, has_subquery, lateral, outer_as_columns};

/// A query without what depends on the rows around it.
pub(super) struct Pulled {
    pub(super) plan: LogicalPlan,
    /// An expression over the rows around, and the column that must be equal to it.
    pub(super) keys: Vec<(Expr, Column)>,
    /// Other conditions over both. Columns of the query that they use are among `carried`, renamed.
    pub(super) residual: Vec<Expr>,
    /// Columns that `residual` uses, beside the query's own.
    pub(super) carried: Vec<Column>,
    /// What the query's columns would be over no rows, where an aggregate without `GROUP BY` became one by the keys.
    pub(super) empty: Option<Vec<Expr>>,
}

impl Pulled {
    fn all_of(plan: LogicalPlan) -> Self {
        Pulled { plan, keys: Vec::new(), residual: Vec::new(), carried: Vec::new(), empty: None }
    }

    /// The columns that the query does not give itself.
    fn further(&self) -> impl Iterator<Item = Expr> {
        self.keys.iter().map(|(_, column)| column).chain(&self.carried).cloned().map(Expr::Column)
    }
}

/// A query without what depends on the rows around it, if that is in filters alone which can go up. `value` if at most a
/// row for each key is wanted.
pub(super) fn pulled(names: &mut Names, plan: &LogicalPlan, value: bool) -> Result<Option<Pulled>> {
    if free(plan)?.is_empty() {
        return Ok(Some(Pulled::all_of(plan.clone())));
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            let Some(below) = pulled(names, &filter.input, value)? else { return Ok(None) };
            if below.empty.is_some() {
                return Ok(None);
            }
            with_conditions(names, below, split_conjunction_owned(filter.predicate.clone()))
        }
        LogicalPlan::Projection(projection) => {
            if depend(&projection.expr, projection.input.schema())? {
                return Ok(None);
            }
            let Some(mut below) = pulled(names, &projection.input, value)? else { return Ok(None) };
            if let Some(empty) = &below.empty {
                let columns = projection.input.schema().columns();
                let values: BTreeMap<_, _> = columns.iter().zip(empty).collect();
                let over_nothing = |expr: &Expr| {
                    let value = expr.clone().transform(|inner| {
                        Ok(match inner {
                            Expr::Column(column) => match values.get(&column) {
                                Some(value) => Transformed::new((*value).clone(), true, TreeNodeRecursion::Jump),
                                None => Transformed::no(Expr::Column(column)),
                            },
                            other => Transformed::no(other),
                        })
                    });
                    value.data().map(Expr::unalias)
                };
                if projection.expr.iter().any(has_subquery) {
                    return Ok(None);
                }
                below.empty = Some(projection.expr.iter().map(over_nothing).collect::<Result<_>>()?);
            }
            let exprs = projection.expr.iter().cloned().chain(below.further()).collect();
            below.plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below.plan))?);
            Ok(Some(below))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(mut below) = pulled(names, &alias.input, value)? else { return Ok(None) };
            let moved = |column: &Column| Column::new(Some(alias.alias.clone()), &column.name);
            below.keys.iter_mut().for_each(|(_, column)| *column = moved(column));
            below.carried.iter_mut().for_each(|column| *column = moved(column));
            below.plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(below.plan), alias.alias.clone())?);
            Ok(Some(below))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let Some(mut below) = pulled(names, input, value)? else { return Ok(None) };
            if !below.residual.is_empty() {
                return Ok(None);
            }
            below.plan = LogicalPlan::Distinct(Distinct::All(Arc::new(below.plan)));
            Ok(Some(below))
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => pulled(names, &sort.input, value),
        LogicalPlan::Aggregate(aggregate) => {
            if depend(aggregate.group_expr.iter().chain(&aggregate.aggr_expr), aggregate.input.schema())? {
                return Ok(None);
            }
            let Some(mut below) = pulled(names, &aggregate.input, value)? else { return Ok(None) };
            let total = aggregate.group_expr.is_empty();
            if !below.residual.is_empty() || below.empty.is_some() || total && !value {
                return Ok(None);
            }
            if total {
                below.empty =
                    Some(aggregate.aggr_expr.iter().map(|e| over_no_rows(e, aggregate)).collect::<Result<_>>()?);
            }
            // The keys come last among the groups, so they may be there already.
            let mut groups = aggregate.group_expr.clone();
            groups.extend(below.further().filter(|key| !aggregate.group_expr.contains(key)));
            let input = Arc::new(below.plan);
            let plan = Aggregate::try_new(input, groups, aggregate.aggr_expr.clone())?;
            below.plan = LogicalPlan::Aggregate(plan);
            // The query's own columns first.
            let mut exprs = plan_columns(&aggregate.schema);
            let rest: Vec<Expr> = below.further().filter(|key| !exprs.contains(key)).collect();
            exprs.extend(rest);
            below.plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below.plan))?);
            Ok(Some(below))
        }
        LogicalPlan::Join(join) => {
            let inner = join.join_type == JoinType::Inner;
            let outer = matches!(join.join_type, JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
            let kept = inner || outer && free(&join.right)?.is_empty();
            if !kept || lateral(&join.right) {
                return Ok(None);
            }
            let schema = join.left.schema().join(join.right.schema())?;
            let conditions = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
            let (mut dependent, mut plain) = (Vec::new(), Vec::new());
            for condition in conditions {
                match depend([&condition], &schema)? {
                    true => dependent.push(condition),
                    false => plain.push(condition),
                }
            }
            if depend(join.on.iter().flat_map(|(left, right)| [left, right]), &schema)?
                || !inner && !dependent.is_empty()
            {
                return Ok(None);
            }
            let (left, right) = (pulled(names, &join.left, value)?, pulled(names, &join.right, value)?);
            let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
            if left.empty.is_some() || right.empty.is_some() {
                return Ok(None);
            }
            let joined = Join::try_new(
                Arc::new(left.plan),
                Arc::new(right.plan),
                join.on.clone(),
                conjunction(plain),
                join.join_type,
                join.join_constraint,
                join.null_equality,
                join.null_aware,
            )?;
            let concat = |mut one: Vec<_>, two: Vec<_>| {
                one.extend(two);
                one
            };
            let below = Pulled {
                plan: LogicalPlan::Join(joined),
                keys: left.keys.into_iter().chain(right.keys).collect(),
                residual: concat(left.residual, right.residual),
                carried: left.carried.into_iter().chain(right.carried).collect(),
                empty: None,
            };
            with_conditions(names, below, dependent)
        }
        _ => Ok(None),
    }
}

/// Whether one of the expressions depends on the row around.
fn depend<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> Result<bool> {
    for expr in exprs {
        if !free_in(expr, schema)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// More conditions over a query, of which some depend on the rows around it.
fn with_conditions(names: &mut Names, mut below: Pulled, conditions: Vec<Expr>) -> Result<Option<Pulled>> {
    let (mut plain, mut further) = (Vec::new(), Vec::new());
    for condition in conditions {
        if !depend([&condition], below.plan.schema())? {
            plain.push(condition);
            continue;
        }
        if has_subquery(&condition) {
            return Ok(None);
        }
        if let Some((outer, inner)) = equality(&condition) {
            let name = names.name("e");
            further.push(inner.alias(&name));
            below.keys.push((outer_as_columns(outer)?, Column::new_unqualified(name)));
            continue;
        }
        let mut renamed: BTreeMap<Column, String> = BTreeMap::new();
        let residual = condition.transform(|inner| {
            Ok(match inner {
                Expr::Column(column) => {
                    let name = renamed.entry(column).or_insert_with(|| names.name("r"));
                    Transformed::yes(Expr::Column(Column::new_unqualified(name.as_str())))
                }
                Expr::OuterReferenceColumn(_, column) => {
                    Transformed::new(Expr::Column(column), true, TreeNodeRecursion::Jump)
                }
                other => Transformed::no(other),
            })
        });
        below.residual.push(residual.data()?);
        for (column, name) in renamed {
            further.push(Expr::Column(column).alias(&name));
            below.carried.push(Column::new_unqualified(name));
        }
    }
    below.plan = filtered(below.plan, plain)?;
    if !further.is_empty() {
        let exprs = plan_columns(below.plan.schema()).into_iter().chain(further).collect();
        below.plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below.plan))?);
    }
    Ok(Some(below))
}
