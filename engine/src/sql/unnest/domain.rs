//! A query computed for each of the values that it uses of the rows around it.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, Operator, Projection, SubqueryAlias, Union, lit, when,
};

use super::build::{Names, binary, cross, filtered, is_null, join, named, over_no_rows, plan_columns, refuse};
use super::free::{free, lateral, map_subquery, outer_mapped};

/// The values of the columns of the rows around that a query uses.
struct Domain {
    columns: Vec<Column>,
    plan: LogicalPlan,
    names: Vec<String>,
}

/// A subquery over the values that it uses of `input`'s rows: a column `value`, its first, and for each of the columns that it
/// uses one that is equal, also where both are NULL.
pub(super) fn over_domain(
    names: &mut Names,
    input: &LogicalPlan,
    subquery: &LogicalPlan,
    value: &str,
) -> Result<(LogicalPlan, Vec<(Expr, String)>)> {
    let mut columns: Vec<Column> = free(subquery)?;
    columns.retain(|column| input.schema().has_column(column));
    let own: Vec<String> = columns.iter().map(|_| names.name("d")).collect();
    let exprs = columns.iter().zip(&own).map(|(column, name)| Expr::Column(column.clone()).alias(name)).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.clone()))?);
    let domain = Domain { columns, plan: LogicalPlan::Distinct(Distinct::All(Arc::new(plan))), names: own };
    let (plan, keys) = dependent(names, subquery, &domain)?;
    let Some(first) = subquery.schema().columns().into_iter().next() else {
        return refuse("a subquery without columns");
    };
    let mut exprs = vec![Expr::Column(first).alias(value)];
    exprs.extend(keys.iter().zip(&domain.names).map(|(column, name)| Expr::Column(column.clone()).alias(name)));
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    Ok((plan, domain.columns.into_iter().map(Expr::Column).zip(domain.names).collect()))
}

/// A query over each row of the domain; gives the domain's columns in it.
fn dependent(names: &mut Names, plan: &LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
    if !free(plan)?.iter().any(|column| domain.columns.contains(column)) {
        let (relation, columns) = relation(names, domain)?;
        if let LogicalPlan::EmptyRelation(empty) = plan
            && empty.produce_one_row
            && empty.schema.fields().is_empty()
        {
            return Ok((relation, columns));
        }
        return Ok((cross(relation, plan.clone())?, columns));
    }
    let domain_of = |expr: &Expr, columns: &[Column], schema: &DFSchema| within(expr.clone(), domain, columns, schema);
    match plan {
        LogicalPlan::Filter(filter) => {
            let (input, columns) = dependent(names, &filter.input, domain)?;
            let test = domain_of(&filter.predicate, &columns, filter.input.schema())?;
            Ok((filtered(input, vec![test])?, columns))
        }
        LogicalPlan::Projection(projection) => {
            let (input, columns) = dependent(names, &projection.input, domain)?;
            let mut exprs: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
            for expr in &projection.expr {
                let name = NamePreserver::new_for_projection().save(expr);
                exprs.push(name.restore(domain_of(expr, &columns, projection.input.schema())?));
            }
            Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), columns))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, columns) = dependent(names, &alias.input, domain)?;
            let plan = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            let columns = columns.iter().map(|c| Column::new(Some(alias.alias.clone()), &c.name)).collect();
            Ok((LogicalPlan::SubqueryAlias(plan), columns))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let (input, columns) = dependent(names, input, domain)?;
            Ok((LogicalPlan::Distinct(Distinct::All(Arc::new(input))), columns))
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => dependent(names, &sort.input, domain),
        LogicalPlan::Aggregate(aggregate) => dependent_aggregate(names, aggregate, domain),
        LogicalPlan::Union(union) => {
            let mut inputs = Vec::new();
            for input in &union.inputs {
                let (plan, columns) = dependent(names, input, domain)?;
                let own = input.schema().columns();
                let exprs = columns.into_iter().chain(own).map(Expr::Column).collect();
                inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)));
            }
            let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
            let all = plan.schema().columns();
            let (columns, own) = all.split_at(domain.columns.len());
            let mut exprs: Vec<Expr> =
                columns.iter().zip(&domain.names).map(|(c, name)| Expr::Column(c.clone()).alias(name)).collect();
            exprs.extend(named(own.iter().cloned().map(Expr::Column), &union.schema));
            let columns = domain.names.iter().map(Column::new_unqualified).collect();
            Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?), columns))
        }
        LogicalPlan::Join(join) if !lateral(&join.right) => dependent_join(names, join, domain),
        other => refuse(&format!(
            "{} in a subquery that depends on the row around it",
            match other {
                LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => "LIMIT".to_owned(),
                other => other.display().to_string(),
            }
        )),
    }
}

fn dependent_aggregate(
    names: &mut Names,
    aggregate: &Aggregate,
    domain: &Domain,
) -> Result<(LogicalPlan, Vec<Column>)> {
    let (input, columns) = dependent(names, &aggregate.input, domain)?;
    let schema = aggregate.input.schema();
    let mut groups: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
    for expr in &aggregate.group_expr {
        groups.push(within(expr.clone(), domain, &columns, schema)?);
    }
    let exprs = aggregate.aggr_expr.iter().map(|expr| within(expr.clone(), domain, &columns, schema));
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, exprs)?);
    // What depends on the domain has another name now.
    let all = plan.schema().columns();
    let width = columns.len();
    let mut renamed: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
    renamed.extend(named(all[width..].iter().cloned().map(Expr::Column), &aggregate.schema));
    let plan = LogicalPlan::Projection(Projection::try_new(renamed, Arc::new(plan))?);
    if !aggregate.group_expr.is_empty() {
        return Ok((plan, columns));
    }
    // There is a row for each of the domain.
    let (relation, every) = relation(names, domain)?;
    let alias = names.name("agg");
    let there = names.name("there");
    let mut inner: Vec<Expr> =
        columns.iter().zip(&domain.names).map(|(c, name)| Expr::Column(c.clone()).alias(name)).collect();
    let fields: Vec<String> = aggregate.schema.fields().iter().map(|_| names.name("a")).collect();
    inner.extend(
        aggregate.schema.columns().into_iter().zip(&fields).map(|(column, name)| Expr::Column(column).alias(name)),
    );
    inner.push(lit(true).alias(&there));
    let inner = LogicalPlan::Projection(Projection::try_new(inner, Arc::new(plan))?);
    let inner = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(inner), alias.as_str())?);
    let column = |name: &str| Expr::Column(Column::new(Some(alias.clone()), name));
    let same = every
        .iter()
        .zip(&domain.names)
        .map(|(outer, name)| binary(Expr::Column(outer.clone()), Operator::IsNotDistinctFrom, column(name)));
    let joined = join(relation, inner, Vec::new(), conjunction(same), JoinType::Left)?;
    let mut exprs: Vec<Expr> = every.iter().cloned().map(Expr::Column).collect();
    for ((expr, name), (relation, field)) in aggregate.aggr_expr.iter().zip(&fields).zip(aggregate.schema.iter()) {
        let empty = over_no_rows(expr, aggregate)?;
        let value = match is_null(&empty) {
            true => column(name),
            false => when(column(&there).is_null(), empty).otherwise(column(name))?,
        };
        exprs.push(value.alias_qualified(relation.cloned(), field.name()));
    }
    Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?), every))
}

fn dependent_join(names: &mut Names, of: &Join, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
    let depends =
        |plan: &LogicalPlan| -> Result<bool> { Ok(free(plan)?.iter().any(|column| domain.columns.contains(column))) };
    let (in_left, in_right) = (depends(&of.left)?, depends(&of.right)?);
    let schema = of.left.schema().join(of.right.schema())?;
    // The side whose rows are all kept must have the domain.
    let keeps_right = matches!(of.join_type, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
    let full = of.join_type == JoinType::Full;
    let inner = of.join_type == JoinType::Inner;
    let with_left = in_left || full || !keeps_right && !inner || inner && !in_right;
    let with_right = in_right || full || keeps_right;
    let mut side = |plan: &LogicalPlan, with: bool| -> Result<(LogicalPlan, Vec<Column>)> {
        match with {
            true => dependent(names, plan, domain),
            false => Ok((plan.clone(), Vec::new())),
        }
    };
    let (left, left_columns) = side(&of.left, with_left)?;
    let (mut right, mut right_columns) = side(&of.right, with_right)?;
    if with_left && with_right {
        // Names of its own, so that a row can tell the two apart.
        let mut exprs = plan_columns(of.right.schema());
        let names: Vec<String> = right_columns.iter().map(|_| names.name("o")).collect();
        exprs.extend(right_columns.iter().zip(&names).map(|(c, name)| Expr::Column(c.clone()).alias(name)));
        right = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(right))?);
        right_columns = names.into_iter().map(Column::new_unqualified).collect();
    }
    let known = if with_left && !(keeps_right && with_right) { &left_columns } else { &right_columns };
    let mut conditions = Vec::new();
    for (one, two) in &of.on {
        let (one, two) = (within(one.clone(), domain, known, &schema)?, within(two.clone(), domain, known, &schema)?);
        let op = match of.null_equality {
            NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
            NullEquality::NullEqualsNothing => Operator::Eq,
        };
        conditions.push(binary(one, op, two));
    }
    for condition in of.filter.clone().map(split_conjunction_owned).unwrap_or_default() {
        conditions.push(within(condition, domain, known, &schema)?);
    }
    if of.null_aware {
        return refuse("NOT IN in a subquery that depends on the row around it");
    }
    if with_left && with_right {
        conditions.extend(left_columns.iter().zip(&right_columns).map(|(left, right)| {
            binary(Expr::Column(left.clone()), Operator::IsNotDistinctFrom, Expr::Column(right.clone()))
        }));
    }
    let joined = join(left, right, Vec::new(), conjunction(conditions), of.join_type)?;
    // The domain once, then the join's own columns.
    let exprs = domain.names.iter().enumerate().map(|(i, name)| {
        let column = |columns: &[Column]| columns.get(i).cloned().map(Expr::Column);
        let expr = match (column(&left_columns), column(&right_columns)) {
            (Some(left), Some(right)) if full => when(left.clone().is_null(), right).otherwise(left)?,
            (Some(_), Some(right)) if keeps_right => right,
            (Some(left), _) => left,
            (None, Some(right)) => right,
            (None, None) => return refuse("a subquery over no column"),
        };
        Ok(expr.alias(name))
    });
    let mut exprs = exprs.collect::<Result<Vec<_>>>()?;
    exprs.extend(plan_columns(of.schema.as_ref()));
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
    Ok((plan, domain.names.iter().map(Column::new_unqualified).collect()))
}

/// The domain as a relation of its own name.
fn relation(names: &mut Names, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
    let alias = names.name("domain");
    let plan = SubqueryAlias::try_new(Arc::new(domain.plan.clone()), alias.as_str())?;
    let columns = domain.names.iter().map(|name| Column::new(Some(alias.clone()), name)).collect();
    Ok((LogicalPlan::SubqueryAlias(plan), columns))
}

/// An expression of a query with the domain's columns for those of the rows around; the query's own are of `schema`.
fn within(expr: Expr, domain: &Domain, columns: &[Column], schema: &DFSchema) -> Result<Expr> {
    expr.transform_down(|inner| {
        let place = |column: &Column| domain.columns.iter().position(|other| other == column);
        Ok(match inner {
            Expr::OuterReferenceColumn(field, column) => match place(&column) {
                Some(at) => Transformed::new(Expr::Column(columns[at].clone()), true, TreeNodeRecursion::Jump),
                None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
            },
            other => {
                let moved = |field: FieldRef, column: &Column| {
                    place(column).map(|at| Expr::OuterReferenceColumn(field, columns[at].clone()))
                };
                map_subquery(other, |plan| outer_mapped(plan, schema, &moved))?
            }
        })
    })
    .data()
}
