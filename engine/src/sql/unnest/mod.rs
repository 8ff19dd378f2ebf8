//! Subqueries as joins, whatever they depend on.
//!
//! A subquery's value is a column that is joined to the rows around it: a semi, anti or mark join for `EXISTS`, `IN`, `ANY` and
//! `ALL`, a left join for a value. What it is joined by is found in two ways:
//!
//! - *Pulled up.* Where all that depends on the row around are conditions which an inner query's filters hold, they become the
//!   join's, and what an aggregate gives over no rows is put in behind the join.
//! - *Over the domain* otherwise (Neumann and Kemper, "Unnesting Arbitrary Queries", BTW 2015): the distinct values of the columns
//!   that the subquery uses are a relation, over which the subquery is computed once for each; columns of the domain go up
//!   through every operator, and an aggregate without `GROUP BY` has a row for each. Then it is joined on them.
//!
//! It goes from the outside in, so that what an inner query knows of the rows around it is a column by then.

mod build;
mod domain;
mod free;
mod pulled;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, DataFusionError, JoinType, NullEquality, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, Sort, Subquery, SubqueryAlias,
    lit, not, when,
};

pub(super) use self::build::named;
use self::build::{Names, binary, filtered, is_null, join, nothing, refuse, renamed, restored, with_true};
use self::domain::over_domain;
use self::free::{equality, has_subquery, own_expressions, used};
pub(super) use self::free::{map_subquery, outer_mapped};
use self::pulled::pulled;

/// The plan without subqueries. Types are equal already where values are compared.
pub(super) fn unnest(plan: LogicalPlan) -> Result<LogicalPlan> {
    Unnest { names: Names::default() }.plan(plan)
}

struct Unnest {
    names: Names,
}

/// A subquery ready to be joined: its value and what it is joined by are columns without a relation.
struct Right {
    plan: LogicalPlan,
    /// An expression over the rows around, and the name of the column that is equal to it.
    keys: Vec<(Expr, String)>,
    /// Whether keys are equal where both are NULL.
    null_safe: bool,
    /// Further conditions; columns without a relation are the subquery's.
    residual: Vec<Expr>,
    /// The name of the first column.
    value: String,
    /// The value where there is no row, if that isn't NULL.
    empty: Option<Expr>,
}

impl Unnest {
    fn plan(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = if own_expressions(&plan)?.iter().any(has_subquery) { self.node(plan)? } else { plan };
        plan.map_children(|child| self.plan(child).map(Transformed::yes)).data()
    }

    /// A node whose own expressions have subqueries, with joins below it in their place.
    fn node(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let schema = plan.schema().clone();
        match plan {
            LogicalPlan::Filter(filter) => {
                let mut input = Arc::unwrap_or_clone(filter.input);
                let mut plain = Vec::new();
                for test in split_conjunction_owned(filter.predicate) {
                    if !has_subquery(&test) {
                        plain.push(test);
                        continue;
                    }
                    // What stands before a subquery guards it.
                    input = filtered(input, std::mem::take(&mut plain))?;
                    input = self.test(input, test)?;
                }
                restored(filtered(input, plain)?, &schema)
            }
            LogicalPlan::Projection(projection) => {
                let (mut input, mut exprs) = (Arc::unwrap_or_clone(projection.input), Vec::new());
                for expr in projection.expr {
                    exprs.push(self.renamed(&mut input, expr)?);
                }
                Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut input = Arc::unwrap_or_clone(aggregate.input);
                let mut all = |this: &mut Self, exprs: Vec<Expr>| {
                    exprs.into_iter().map(|expr| this.replaced(&mut input, expr)).collect::<Result<Vec<_>>>()
                };
                let (keys, aggregates) = (all(self, aggregate.group_expr)?, all(self, aggregate.aggr_expr)?);
                let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, aggregates)?);
                let columns: Vec<Column> = plan.schema().columns();
                renamed(plan, columns.into_iter().map(Expr::Column), &schema)
            }
            LogicalPlan::Sort(sort) => {
                let mut input = Arc::unwrap_or_clone(sort.input);
                let mut keys = Vec::new();
                for mut key in sort.expr {
                    key.expr = self.replaced(&mut input, key.expr)?;
                    keys.push(key);
                }
                restored(LogicalPlan::Sort(Sort { expr: keys, input: Arc::new(input), fetch: sort.fetch }), &schema)
            }
            LogicalPlan::Join(join) => self.in_join(join, &schema),
            other => refuse(&format!("a subquery in {}", other.display())),
        }
    }

    /// A join with subqueries in its condition.
    fn in_join(&mut self, mut join: Join, schema: &DFSchemaRef) -> Result<LogicalPlan> {
        let mut conditions: Vec<Expr> = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
        if join.null_equality == NullEquality::NullEqualsNothing {
            let keys = std::mem::take(&mut join.on);
            let (with, without): (Vec<_>, Vec<_>) =
                keys.into_iter().partition(|(left, right)| has_subquery(left) || has_subquery(right));
            join.on = without;
            conditions.extend(with.into_iter().map(|(left, right)| left.eq(right)));
        }
        if join.join_type == JoinType::Inner {
            let (with, without): (Vec<_>, Vec<_>) = conditions.into_iter().partition(has_subquery);
            join.filter = conjunction(without);
            return self.node(filtered(LogicalPlan::Join(join), with)?);
        }
        let (mut left, mut right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        let mut kept = Vec::new();
        for condition in conditions {
            if !has_subquery(&condition) {
                kept.push(condition);
                continue;
            }
            let uses = used(&condition)?;
            let side =
                [&mut left, &mut right].into_iter().find(|side| uses.iter().all(|c| side.schema().has_column(c)));
            let Some(side) = side else {
                return refuse(
                    "a subquery in the ON of an outer join that depends on columns of both sides; compute it in a \
                     subquery of one side",
                );
            };
            kept.push(self.replaced(side, condition)?);
        }
        let plan = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            join.on,
            conjunction(kept),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        restored(LogicalPlan::Join(plan), schema)
    }

    /// The rows of `input` for which a test with subqueries is true; with further columns, maybe.
    fn test(&mut self, mut input: LogicalPlan, test: Expr) -> Result<LogicalPlan> {
        match test {
            Expr::Not(inner) => match *inner {
                Expr::Exists(Exists { subquery, negated }) => {
                    self.test(input, Expr::Exists(Exists { subquery, negated: !negated }))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    self.test(input, Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }))
                }
                other => {
                    let test = self.replaced(&mut input, not(other))?;
                    filtered(input, vec![test])
                }
            },
            Expr::Exists(Exists { subquery, negated }) => {
                let right = self.exists(&input, &subquery)?;
                let kind = if negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
                Ok(self.joined(input, &right, vec![], kind)?.0)
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let value = self.replaced(&mut input, *expr)?;
                let right = self.right(&input, &subquery.subquery, false)?;
                if !negated {
                    return Ok(self.joined(input, &right, vec![Match::Equal(value)], JoinType::LeftSemi)?.0);
                }
                if right.keys.is_empty() && right.residual.is_empty() {
                    return self.not_in(input, &right, value);
                }
                // True where no row is equal, none is NULL, and if the value is NULL there is no row at all.
                for unknown in unknowns(&input, &right, &value)? {
                    input = self.joined(input, &right, vec![unknown], JoinType::LeftAnti)?.0;
                }
                Ok(self.joined(input, &right, vec![Match::Equal(value)], JoinType::LeftAnti)?.0)
            }
            other => {
                let test = self.replaced_if_true(&mut input, other)?;
                filtered(input, vec![test])
            }
        }
    }

    /// The rows of `input` whose value is none of a subquery that depends on nothing.
    fn not_in(&mut self, input: LogicalPlan, right: &Right, value: Expr) -> Result<LogicalPlan> {
        let (plan, _) = self.joined(input, right, vec![Match::Equal(value)], JoinType::LeftAnti)?;
        Ok(match plan {
            LogicalPlan::Join(join) => LogicalPlan::Join(Join { null_aware: true, ..join }),
            other => other,
        })
    }

    /// A test without subqueries that is true where the test is; where it isn't, false and NULL are all the same.
    fn replaced_if_true(&mut self, input: &mut LogicalPlan, test: Expr) -> Result<Expr> {
        match test {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let left = self.replaced_if_true(input, *left)?;
                Ok(binary(left, op, self.replaced_if_true(input, *right)?))
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated: false }) => {
                let value = self.replaced(input, *expr)?;
                let right = self.right(input, &subquery.subquery, false)?;
                self.marked(input, &right, vec![Match::Equal(value)])
            }
            other => self.replaced(input, other),
        }
    }

    /// An expression without subqueries that keeps its name.
    fn renamed(&mut self, input: &mut LogicalPlan, expr: Expr) -> Result<Expr> {
        let name = NamePreserver::new_for_projection().save(&expr);
        Ok(name.restore(self.replaced(input, expr)?))
    }

    /// An expression without subqueries: `input` gets their values as columns.
    fn replaced(&mut self, input: &mut LogicalPlan, expr: Expr) -> Result<Expr> {
        expr.transform_down(|inner| {
            let replaced = match inner {
                Expr::Exists(Exists { subquery, negated }) => {
                    let right = self.exists(input, &subquery)?;
                    let mark = self.marked(input, &right, vec![])?;
                    if negated { not(mark) } else { mark }
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let value = self.replaced(input, *expr)?;
                    let right = self.right(input, &subquery.subquery, false)?;
                    let any = self.any(input, &right, value, Operator::Eq)?;
                    if negated { not(any) } else { any }
                }
                Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                    let value = self.replaced(input, *expr)?;
                    let right = self.right(input, &subquery.subquery, false)?;
                    match quantifier {
                        SetQuantifier::Any => self.any(input, &right, value, op)?,
                        SetQuantifier::All => {
                            let Some(op) = op.negate() else { return refuse(&format!("{op} ALL (subquery)")) };
                            not(self.any(input, &right, value, op)?)
                        }
                    }
                }
                Expr::ScalarSubquery(subquery) => self.value(input, &subquery)?,
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::new(replaced, true, TreeNodeRecursion::Jump))
        })
        .data()
    }

    fn exists(&mut self, input: &LogicalPlan, subquery: &Subquery) -> Result<Right> {
        // How many of the rows there are is all the same.
        let mut inner = subquery.subquery.as_ref();
        while let LogicalPlan::Limit(limit) = inner
            && matches!(limit.get_skip_type()?, datafusion::logical_expr::SkipType::Literal(0))
            && matches!(limit.get_fetch_type()?, datafusion::logical_expr::FetchType::Literal(rows) if rows != Some(0))
        {
            inner = &limit.input;
        }
        self.right(input, inner, false)
    }

    /// Whether `value op` some row of the subquery, in SQL's three values.
    fn any(&mut self, input: &mut LogicalPlan, right: &Right, value: Expr, op: Operator) -> Result<Expr> {
        let unknown = unknowns(input, right, &value)?;
        let found = match op {
            Operator::Eq => Match::Equal(value),
            _ => Match::Compared(value, op),
        };
        let found = self.marked(input, right, vec![found])?;
        let null = lit(ScalarValue::Boolean(None));
        let mut case = Case::new(None, vec![(Box::new(found), Box::new(lit(true)))], Some(Box::new(lit(false))));
        for unknown in unknown {
            let mark = self.marked(input, right, vec![unknown])?;
            case.when_then_expr.push((Box::new(mark), Box::new(null.clone())));
        }
        Ok(match case.when_then_expr.len() {
            1 => *case.when_then_expr.remove(0).0,
            _ => Expr::Case(case),
        })
    }

    /// The value of a subquery of at most one row.
    fn value(&mut self, input: &mut LogicalPlan, subquery: &Subquery) -> Result<Expr> {
        let inner = subquery.subquery.as_ref();
        if !one_row(inner) {
            return Err(DataFusionError::Plan(
                "a subquery in the place of a value must give one row: use an aggregate without GROUP BY, or LIMIT 1"
                    .into(),
            ));
        }
        let mut right = self.right(input, inner, true)?;
        let there = self.names.name("there");
        if right.empty.is_some() {
            right.plan = with_true(right.plan, &there)?;
        }
        let always = right.keys.is_empty() && right.residual.is_empty() && one_row_always(inner);
        let kind = if always { JoinType::Inner } else { JoinType::Left };
        let (plan, alias) = self.joined(std::mem::replace(input, nothing()), &right, vec![], kind)?;
        *input = plan;
        let value = Expr::Column(Column::new(Some(alias.clone()), &right.value));
        match right.empty {
            Some(empty) => when(Expr::Column(Column::new(Some(alias), there)).is_null(), empty).otherwise(value),
            None => Ok(value),
        }
    }

    /// `input` with a column that says whether a row has a match.
    fn marked(&mut self, input: &mut LogicalPlan, right: &Right, matches: Vec<Match>) -> Result<Expr> {
        let (plan, alias) = self.joined(std::mem::replace(input, nothing()), right, matches, JoinType::LeftMark)?;
        *input = plan;
        Ok(Expr::Column(Column::new(Some(alias), "mark")))
    }

    /// Joins a subquery; gives the relation's name that its columns have.
    fn joined(
        &mut self,
        input: LogicalPlan,
        right: &Right,
        matches: Vec<Match>,
        kind: JoinType,
    ) -> Result<(LogicalPlan, String)> {
        let alias = self.names.name("sq");
        let column = |name: &str| Expr::Column(Column::new(Some(alias.clone()), name));
        let (mut plan, mut on, mut residual) = (right.plan.clone(), Vec::new(), Vec::new());
        let value = Expr::Column(Column::new_unqualified(&right.value));
        for test in matches {
            match test {
                Match::Equal(expr) => {
                    on.push((expr, column(&right.value)));
                }
                Match::Compared(expr, op) => residual.push(binary(expr, op, column(&right.value))),
                Match::NullValue => plan = filtered(plan, vec![value.clone().is_null()])?,
                Match::NullHere(expr) => {
                    let yes = self.names.name("yes");
                    plan = with_true(plan, &yes)?;
                    on.push((expr.is_null(), Expr::Column(Column::new(Some(alias.clone()), yes))));
                }
            }
        }
        let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.as_str())?);
        for (outer, name) in &right.keys {
            match right.null_safe {
                true => residual.push(binary(outer.clone(), Operator::IsNotDistinctFrom, column(name))),
                false => on.push((outer.clone(), column(name))),
            }
        }
        for test in &right.residual {
            let qualified = test.clone().transform(|inner| {
                Ok(match inner {
                    Expr::Column(Column { relation: None, name, .. })
                        if plan.schema().has_column(&Column::new(Some(alias.clone()), &name)) =>
                    {
                        Transformed::yes(column(&name))
                    }
                    other => Transformed::no(other),
                })
            });
            residual.push(qualified.data()?);
        }
        let join = join(input, plan, on, conjunction(residual), kind)?;
        Ok((join, alias))
    }

    /// A subquery of `input`'s rows as something to join.
    fn right(&mut self, input: &LogicalPlan, subquery: &LogicalPlan, value: bool) -> Result<Right> {
        let first = subquery.schema().columns().into_iter().next();
        let Some(first) = first else { return refuse("a subquery without columns") };
        let name = self.names.name("v");
        let Some(pulled) = pulled(&mut self.names, subquery, value)? else {
            let (plan, keys) = over_domain(&mut self.names, input, subquery, &name)?;
            return Ok(Right { plan, keys, null_safe: true, residual: Vec::new(), value: name, empty: None });
        };
        let mut exprs = vec![Expr::Column(first).alias(&name)];
        let mut keys = Vec::new();
        for (outer, column) in &pulled.keys {
            let name = self.names.name("k");
            exprs.push(Expr::Column(column.clone()).alias(&name));
            keys.push((outer.clone(), name));
        }
        exprs.extend(pulled.carried.iter().map(|c| Expr::Column(c.clone()).alias(&c.name)));
        let empty = pulled.empty.and_then(|columns| columns.into_iter().next()).filter(|expr| !is_null(expr));
        Ok(Right {
            plan: LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?),
            keys,
            null_safe: false,
            residual: pulled.residual,
            value: name,
            empty,
        })
    }
}

/// When a row of a subquery is a match.
enum Match {
    /// Its value is equal.
    Equal(Expr),
    /// The comparison with its value is true.
    Compared(Expr, Operator),
    /// Its value is NULL.
    NullValue,
    /// What is compared is NULL.
    NullHere(Expr),
}

/// The ways in which a comparison with a subquery's rows can be NULL.
fn unknowns(input: &LogicalPlan, right: &Right, value: &Expr) -> Result<Vec<Match>> {
    let mut unknown = Vec::new();
    if value.nullable(input.schema())? {
        unknown.push(Match::NullHere(value.clone()));
    }
    if right.plan.schema().field_with_unqualified_name(&right.value)?.is_nullable() {
        unknown.push(Match::NullValue);
    }
    Ok(unknown)
}

/// Whether a query that depends on nothing always gives one row.
fn one_row_always(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => one_row_always(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => one_row_always(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

/// Whether a query gives at most one row for each row around it.
fn one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => one_row(&alias.input),
        LogicalPlan::Filter(filter) => one_row(&filter.input),
        LogicalPlan::Sort(sort) => one_row(&sort.input),
        LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
            // Groups of what is equal to something of the row around.
            let LogicalPlan::Filter(filter) = aggregate.input.as_ref() else { return false };
            let fixed: Vec<Expr> = split_conjunction_owned(filter.predicate.clone())
                .iter()
                .filter_map(|condition| equality(condition).map(|(_, inner)| inner))
                .collect();
            aggregate.group_expr.iter().all(|key| fixed.contains(key))
        }
        LogicalPlan::Aggregate(_) => true,
        other => other.max_rows().is_some_and(|rows| rows <= 1),
    }
}
