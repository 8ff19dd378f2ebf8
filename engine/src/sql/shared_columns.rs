//! Joins with `USING` and `NATURAL`: a shared column is there once, before the others. An inner or left join takes it from the left
//! side, a right join from the right one, a full join from whichever side has one.
//!
//! DataFusion takes the left side's always, and keeps both, so that outside of SELECT the name is ambiguous or, worse, that of
//! a query around. Here the other side's column is gone. Where a query names it (`LEFT JOIN r USING (k) WHERE r.k IS NULL`), its
//! table gets it under another name.

use std::ops::ControlFlow;

use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::coalesce;
use datafusion::sql::sqlparser::ast::{
    self, Ident, Join, JoinConstraint, JoinOperator, Select, SelectItem, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::ident;

/// The kind of a join that has such columns, and what it is joined by.
fn shares(join: &Join) -> Option<(JoinType, &JoinConstraint)> {
    let (kind, constraint) = match &join.join_operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinType::Inner, constraint),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (JoinType::Left, constraint),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (JoinType::Right, constraint),
        JoinOperator::FullOuter(constraint) => (JoinType::Full, constraint),
        _ => return None,
    };
    matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural).then_some((kind, constraint))
}

/// Puts each such join and what stands before it into parentheses, so that [`plan`] is asked. The last one of what is in
/// parentheses already stays.
pub(super) fn enclose(from: &mut TableWithJoins, in_parentheses: bool) {
    let mut number = 0;
    while number < from.joins.len() {
        let last = number + 1 == from.joins.len();
        if shares(&from.joins[number]).is_none() || in_parentheses && last {
            number += 1;
            continue;
        }
        let rest = from.joins.split_off(number + 1);
        let inner = Box::new(from.clone());
        *from =
            TableWithJoins { relation: TableFactor::NestedJoin { table_with_joins: inner, alias: None }, joins: rest };
        number = 0;
    }
}

/// Gives tables another name for a shared column that the query takes from the side where it is not. Says which column that is
/// where the query has `*` as well, which would show it.
pub(super) fn keep_named(select: &mut Select) -> std::result::Result<(), String> {
    let mut lost: Vec<(Ident, Ident)> = Vec::new();
    for from in &select.from {
        let mut before = vec![alias(&from.relation)];
        for join in &from.joins {
            let own = alias(&join.relation);
            if let Some((kind, JoinConstraint::Using(names))) = shares(join) {
                let left = before.iter().filter(|_| matches!(kind, JoinType::Right | JoinType::Full));
                let right = (kind != JoinType::Right).then_some(&own);
                for table in left.chain(right).flatten() {
                    let names = names.iter().filter_map(|name| name.0.last()?.as_ident());
                    lost.extend(names.map(|name| (table.clone(), name.clone())));
                }
            }
            before.push(own);
        }
    }
    for (table, column) in lost {
        let mut renames = Rename { table: &table, column: &column, found: false };
        // What is around the tables: a table's own query can't name it.
        let mut from = std::mem::take(&mut select.from);
        let visited = select.visit(&mut renames);
        for from in &mut from {
            for join in &mut from.joins {
                let _: ControlFlow<()> = join.join_operator.visit(&mut renames);
            }
        }
        select.from = from;
        if visited.is_break() || !renames.found {
            continue;
        }
        let star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        if select.projection.iter().any(star) {
            return Err(format!(
                "{table}.{column} beside *: USING ({column}) has one column of that name; name the columns"
            ));
        }
        for from in &mut select.from {
            let joined = from.joins.iter_mut().map(|join| &mut join.relation);
            for relation in std::iter::once(&mut from.relation).chain(joined) {
                if alias(relation).is_some_and(|other| same(&other, &table))
                    && let Some(copy) = with_copy(relation.clone(), &table, &column)
                {
                    *relation = copy;
                }
            }
        }
    }
    Ok(())
}

fn same(one: &Ident, other: &Ident) -> bool {
    ident::name(one.clone()) == ident::name(other.clone())
}

/// The name by which a table's columns are known.
fn alias(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, alias: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

fn copied(column: &Ident) -> Ident {
    Ident::with_quote('"', format!("__own_{}", ident::name(column.clone())))
}

/// `(SELECT *, column AS copy FROM factor) AS table`.
fn with_copy(factor: TableFactor, table: &Ident, column: &Ident) -> Option<TableFactor> {
    let mut query = Parser::new(&GenericDialect {}).try_with_sql("SELECT * FROM t").ok()?.parse_query().ok()?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    select
        .projection
        .push(SelectItem::ExprWithAlias { expr: ast::Expr::Identifier(column.clone()), alias: copied(column) });
    select.from = vec![TableWithJoins { relation: factor, joins: vec![] }];
    let alias = ast::TableAlias { explicit: true, name: table.clone(), columns: vec![], at: None };
    Some(TableFactor::Derived { lateral: false, subquery: query, alias: Some(alias), sample: None })
}

/// Names a column otherwise, in a query and those within it.
struct Rename<'a> {
    table: &'a Ident,
    column: &'a Ident,
    found: bool,
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::CompoundIdentifier(parts) = expr
            && let [table, column] = &mut parts[..]
            && same(table, self.table)
            && same(column, self.column)
        {
            self.found = true;
            let copy = copied(column);
            *column = Ident { span: column.span, ..copy };
        }
        ControlFlow::Continue(())
    }
}

/// Plans what is in parentheses and ends with such a join.
pub(super) fn plan(relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
    let (from, join) = match relation {
        TableFactor::NestedJoin { mut table_with_joins, alias: None }
            if table_with_joins.joins.last().and_then(shares).is_some() =>
        {
            match table_with_joins.joins.pop() {
                Some(join) => (*table_with_joins, join),
                None => return Err(DataFusionError::Internal("a join is gone".into())),
            }
        }
        other => return Ok(RelationPlanning::Original(Box::new(other))),
    };
    let Some((kind, constraint)) = shares(&join) else {
        return Err(DataFusionError::Internal("another join is here".into()));
    };
    let left = match from.joins.is_empty() {
        true => from.relation,
        false => TableFactor::NestedJoin { table_with_joins: Box::new(from), alias: None },
    };
    let (left, right) = (context.plan(left)?, context.plan(join.relation.clone())?);
    let names: Vec<String> = match constraint {
        JoinConstraint::Using(names) => {
            let last = |name: &ast::ObjectName| {
                let ident = name.0.last().and_then(|part| part.as_ident()).cloned();
                ident.map(|ident| context.normalize_ident(ident))
            };
            names.iter().filter_map(last).collect()
        }
        _ => {
            let there = |name: &str| right.schema().fields().iter().any(|field| field.name() == name);
            let mut names: Vec<String> = Vec::new();
            for field in left.schema().fields() {
                if there(field.name()) && !names.contains(field.name()) {
                    names.push(field.name().clone());
                }
            }
            names
        }
    };
    let (left, mut left_shared, left_rest) = apart(left, &names, "left")?;
    let (right, mut right_shared, right_rest) = apart(right, &names, "right")?;
    let side = |side: &str, name: &str| Expr::Column(Column::new_unqualified(reserved(side, name)));
    let equal = names.iter().map(|name| side("left", name).eq(side("right", name)));
    let on: Vec<Expr> = if names.is_empty() { vec![lit(true)] } else { equal.collect() };
    let shared = names.iter().enumerate().map(|(i, name)| {
        let (left, right) = (side("left", name), side("right", name));
        match kind {
            JoinType::Full => coalesce(vec![left, right]).alias(name),
            JoinType::Right => named(right, &mut right_shared[i]),
            _ => named(left, &mut left_shared[i]),
        }
    });
    let all: Vec<Expr> = shared.chain(left_rest).chain(right_rest).collect();
    let plan = LogicalPlanBuilder::from(left).join_on(right, kind, on)?.project(all)?.build()?;
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
}

fn named(expr: Expr, column: &mut Column) -> Expr {
    expr.alias_qualified(column.relation.take(), column.name.clone())
}

fn reserved(side: &str, name: &str) -> String {
    format!("__{side}_{name}")
}

/// A side with the shared columns under names of their own, these columns, and its others.
fn apart(plan: LogicalPlan, names: &[String], side: &str) -> Result<(LogicalPlan, Vec<Column>, Vec<Expr>)> {
    let shared = names.iter().map(|name| found(plan.schema(), name, side)).collect::<Result<Vec<_>>>()?;
    let rest: Vec<Expr> =
        plan.schema().columns().into_iter().filter(|column| !shared.contains(column)).map(Expr::Column).collect();
    let renamed =
        shared.iter().zip(names).map(|(column, name)| Expr::Column(column.clone()).alias(reserved(side, name)));
    let plan = LogicalPlanBuilder::from(plan).project(renamed.chain(rest.iter().cloned()))?.build()?;
    Ok((plan, shared, rest))
}

fn found(schema: &DFSchema, name: &str, side: &str) -> Result<Column> {
    let all: Vec<Column> = schema.columns().into_iter().filter(|column| column.name == name).collect();
    match &all[..] {
        [column] => Ok(column.clone()),
        [] => Err(DataFusionError::Plan(format!("the {side} side of the join has no column '{name}'"))),
        _ => Err(DataFusionError::Plan(format!("the {side} side of the join has more than one column '{name}'"))),
    }
}
