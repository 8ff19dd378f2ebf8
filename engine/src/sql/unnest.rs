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

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, DataFusionError, JoinConstraint, JoinType, NullEquality, Result, ScalarValue,
};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Projection, Sort,
    Subquery, SubqueryAlias, Union, lit, not, when,
};

/// The plan without subqueries. Types are equal already where values are compared.
pub(super) fn unnest(plan: LogicalPlan) -> Result<LogicalPlan> {
    Unnest { made: 0 }.plan(plan)
}

struct Unnest {
    /// How many names were made.
    made: usize,
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

/// A query without what depends on the rows around it.
struct Pulled {
    plan: LogicalPlan,
    /// An expression over the rows around, and the column that must be equal to it.
    keys: Vec<(Expr, Column)>,
    /// Other conditions over both. Columns of the query that they use are among `carried`, renamed.
    residual: Vec<Expr>,
    /// Columns that `residual` uses, beside the query's own.
    carried: Vec<Column>,
    /// What the query's columns would be over no rows, where an aggregate without `GROUP BY` became one by the keys.
    empty: Option<Vec<Expr>>,
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

/// The values of the columns of the rows around that a query uses.
struct Domain {
    columns: Vec<Column>,
    plan: LogicalPlan,
    names: Vec<String>,
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(DataFusionError::NotImplemented(what.into()))
}

impl Unnest {
    fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("__{what}{}", self.made)
    }

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
            Expr::Not(inner) if matches!(*inner, Expr::Exists(_) | Expr::InSubquery(_)) => match *inner {
                Expr::Exists(Exists { subquery, negated }) => {
                    self.test(input, Expr::Exists(Exists { subquery, negated: !negated }))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    self.test(input, Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }))
                }
                other => self.test(input, not(other)),
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
        let there = self.name("there");
        if right.empty.is_some() {
            let mut exprs = right.plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
            exprs.push(lit(true).alias(&there));
            right.plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(right.plan))?);
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
        let alias = self.name("sq");
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
                    let yes = self.name("yes");
                    let mut exprs = plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
                    exprs.push(lit(true).alias(&yes));
                    plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
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
        let name = self.name("v");
        let Some(pulled) = self.pulled(subquery, value)? else {
            return self.over_domain(input, subquery, name);
        };
        let mut exprs = vec![Expr::Column(first).alias(&name)];
        let mut keys = Vec::new();
        for (outer, column) in &pulled.keys {
            let name = self.name("k");
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

    /// A query without what depends on the rows around it, if that is in filters alone which can go up. `value` if at most a
    /// row for each key is wanted.
    fn pulled(&mut self, plan: &LogicalPlan, value: bool) -> Result<Option<Pulled>> {
        if free(plan)?.is_empty() {
            return Ok(Some(Pulled::all_of(plan.clone())));
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                let Some(below) = self.pulled(&filter.input, value)? else { return Ok(None) };
                if below.empty.is_some() {
                    return Ok(None);
                }
                self.conditions(below, split_conjunction_owned(filter.predicate.clone()))
            }
            LogicalPlan::Projection(projection) => {
                for expr in &projection.expr {
                    if !free_in(expr, projection.input.schema())?.is_empty() {
                        return Ok(None);
                    }
                }
                let Some(mut below) = self.pulled(&projection.input, value)? else { return Ok(None) };
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
                let Some(mut below) = self.pulled(&alias.input, value)? else { return Ok(None) };
                let moved = |column: &Column| Column::new(Some(alias.alias.clone()), &column.name);
                below.keys.iter_mut().for_each(|(_, column)| *column = moved(column));
                below.carried.iter_mut().for_each(|column| *column = moved(column));
                below.plan =
                    LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(below.plan), alias.alias.clone())?);
                Ok(Some(below))
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Some(mut below) = self.pulled(input, value)? else { return Ok(None) };
                if !below.residual.is_empty() {
                    return Ok(None);
                }
                below.plan = LogicalPlan::Distinct(Distinct::All(Arc::new(below.plan)));
                Ok(Some(below))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.pulled(&sort.input, value),
            LogicalPlan::Aggregate(aggregate) => {
                let exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
                for expr in exprs {
                    if !free_in(expr, aggregate.input.schema())?.is_empty() {
                        return Ok(None);
                    }
                }
                let Some(mut below) = self.pulled(&aggregate.input, value)? else { return Ok(None) };
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
                let exprs = plan_columns(plan.schema.as_ref());
                below.plan = LogicalPlan::Aggregate(plan);
                // The query's own columns first.
                let own = aggregate.schema.columns().into_iter().map(Expr::Column);
                let rest: Vec<Expr> = below
                    .further()
                    .filter(|key| !aggregate.schema.columns().iter().any(|c| Expr::Column(c.clone()) == *key))
                    .collect();
                debug_assert!(rest.iter().all(|key| exprs.contains(key)));
                let exprs = own.chain(rest).collect();
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
                let on: Vec<Expr> = join.on.iter().flat_map(|(left, right)| [left.clone(), right.clone()]).collect();
                let mut depend = Vec::new();
                let mut plain = Vec::new();
                for condition in conditions {
                    match free_in(&condition, &schema)?.is_empty() {
                        true => plain.push(condition),
                        false => depend.push(condition),
                    }
                }
                for expr in &on {
                    if !free_in(expr, &schema)?.is_empty() {
                        return Ok(None);
                    }
                }
                if !inner && !depend.is_empty() {
                    return Ok(None);
                }
                let (left, right) = (self.pulled(&join.left, value)?, self.pulled(&join.right, value)?);
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
                self.conditions(below, depend)
            }
            _ => Ok(None),
        }
    }

    /// More conditions over a query, of which some depend on the rows around it.
    fn conditions(&mut self, mut below: Pulled, conditions: Vec<Expr>) -> Result<Option<Pulled>> {
        let (mut plain, mut further) = (Vec::new(), Vec::new());
        for condition in conditions {
            if free_in(&condition, below.plan.schema())?.is_empty() {
                plain.push(condition);
                continue;
            }
            if has_subquery(&condition) {
                return Ok(None);
            }
            if let Some((outer, inner)) = equality(&condition) {
                let name = self.name("e");
                further.push(inner.alias(&name));
                below.keys.push((outer_as_columns(outer)?, Column::new_unqualified(name)));
                continue;
            }
            let mut names: BTreeMap<Column, String> = BTreeMap::new();
            let residual = condition.transform(|inner| {
                Ok(match inner {
                    Expr::Column(column) => {
                        let name = names.entry(column).or_insert_with(|| self.name("r"));
                        Transformed::yes(Expr::Column(Column::new_unqualified(name.as_str())))
                    }
                    Expr::OuterReferenceColumn(_, column) => {
                        Transformed::new(Expr::Column(column), true, TreeNodeRecursion::Jump)
                    }
                    other => Transformed::no(other),
                })
            });
            below.residual.push(residual.data()?);
            for (column, name) in names {
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

    /// A subquery computed for each of the values that it uses of `input`'s rows.
    fn over_domain(&mut self, input: &LogicalPlan, subquery: &LogicalPlan, value: String) -> Result<Right> {
        let mut columns: Vec<Column> = free(subquery)?;
        columns.retain(|column| input.schema().has_column(column));
        let names: Vec<String> = columns.iter().map(|_| self.name("d")).collect();
        let exprs = columns.iter().zip(&names).map(|(column, name)| Expr::Column(column.clone()).alias(name)).collect();
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.clone()))?);
        let domain = Domain { columns, plan: LogicalPlan::Distinct(Distinct::All(Arc::new(plan))), names };
        let (plan, keys) = self.dependent(subquery, &domain)?;
        let Some(first) = subquery.schema().columns().into_iter().next() else {
            return refuse("a subquery without columns");
        };
        let mut exprs = vec![Expr::Column(first).alias(&value)];
        exprs.extend(keys.iter().zip(&domain.names).map(|(column, name)| Expr::Column(column.clone()).alias(name)));
        Ok(Right {
            plan: LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?),
            keys: domain.columns.into_iter().map(Expr::Column).zip(domain.names).collect(),
            null_safe: true,
            residual: Vec::new(),
            value,
            empty: None,
        })
    }

    /// A query over each row of the domain; gives the domain's columns in it.
    fn dependent(&mut self, plan: &LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        if !free(plan)?.iter().any(|column| domain.columns.contains(column)) {
            let (relation, columns) = self.relation(domain)?;
            if let LogicalPlan::EmptyRelation(empty) = plan
                && empty.produce_one_row
                && empty.schema.fields().is_empty()
            {
                return Ok((relation, columns));
            }
            return Ok((cross(relation, plan.clone())?, columns));
        }
        let domain_of =
            |expr: &Expr, columns: &[Column], schema: &DFSchema| within(expr.clone(), domain, columns, schema);
        match plan {
            LogicalPlan::Filter(filter) => {
                let (input, columns) = self.dependent(&filter.input, domain)?;
                let test = domain_of(&filter.predicate, &columns, filter.input.schema())?;
                Ok((filtered(input, vec![test])?, columns))
            }
            LogicalPlan::Projection(projection) => {
                let (input, columns) = self.dependent(&projection.input, domain)?;
                let mut exprs: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
                for expr in &projection.expr {
                    let name = NamePreserver::new_for_projection().save(expr);
                    exprs.push(name.restore(domain_of(expr, &columns, projection.input.schema())?));
                }
                Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), columns))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (input, columns) = self.dependent(&alias.input, domain)?;
                let plan = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                let columns = columns.iter().map(|c| Column::new(Some(alias.alias.clone()), &c.name)).collect();
                Ok((LogicalPlan::SubqueryAlias(plan), columns))
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (input, columns) = self.dependent(input, domain)?;
                Ok((LogicalPlan::Distinct(Distinct::All(Arc::new(input))), columns))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.dependent(&sort.input, domain),
            LogicalPlan::Aggregate(aggregate) => self.dependent_aggregate(aggregate, domain),
            LogicalPlan::Union(union) => {
                let mut inputs = Vec::new();
                for input in &union.inputs {
                    let (plan, columns) = self.dependent(input, domain)?;
                    let own = input.schema().columns();
                    let exprs = columns.into_iter().chain(own).map(Expr::Column).collect();
                    inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)));
                }
                let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
                let all = plan.schema().columns();
                let (columns, own) = all.split_at(domain.columns.len());
                let mut exprs: Vec<Expr> =
                    columns.iter().zip(&domain.names).map(|(c, name)| Expr::Column(c.clone()).alias(name)).collect();
                exprs.extend(own.iter().zip(union.schema.iter()).map(|(column, (relation, field))| {
                    Expr::Column(column.clone()).alias_qualified(relation.cloned(), field.name())
                }));
                let columns = domain.names.iter().map(Column::new_unqualified).collect();
                Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?), columns))
            }
            LogicalPlan::Join(join) if !lateral(&join.right) => self.dependent_join(join, domain),
            other => refuse(&format!(
                "{} in a subquery that depends on the row around it",
                match other {
                    LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => "LIMIT".to_owned(),
                    other => other.display().to_string(),
                }
            )),
        }
    }

    fn dependent_aggregate(&mut self, aggregate: &Aggregate, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let (input, columns) = self.dependent(&aggregate.input, domain)?;
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
        renamed.extend(all[width..].iter().zip(aggregate.schema.iter()).map(|(column, (relation, field))| {
            Expr::Column(column.clone()).alias_qualified(relation.cloned(), field.name())
        }));
        let plan = LogicalPlan::Projection(Projection::try_new(renamed, Arc::new(plan))?);
        if !aggregate.group_expr.is_empty() {
            return Ok((plan, columns));
        }
        // There is a row for each of the domain.
        let (relation, every) = self.relation(domain)?;
        let alias = self.name("agg");
        let there = self.name("there");
        let mut inner: Vec<Expr> =
            columns.iter().zip(&domain.names).map(|(c, name)| Expr::Column(c.clone()).alias(name)).collect();
        let fields: Vec<String> = aggregate.schema.fields().iter().map(|_| self.name("a")).collect();
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

    fn dependent_join(&mut self, of: &Join, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let depends = |plan: &LogicalPlan| -> Result<bool> {
            Ok(free(plan)?.iter().any(|column| domain.columns.contains(column)))
        };
        let (in_left, in_right) = (depends(&of.left)?, depends(&of.right)?);
        let schema = of.left.schema().join(of.right.schema())?;
        // The side whose rows are all kept must have the domain.
        let keeps_right = matches!(of.join_type, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
        let full = of.join_type == JoinType::Full;
        let inner = of.join_type == JoinType::Inner;
        let with_left = in_left || full || !keeps_right && !inner || inner && !in_right;
        let with_right = in_right || full || keeps_right;
        let side = |this: &mut Self, plan: &LogicalPlan, with: bool| -> Result<(LogicalPlan, Vec<Column>)> {
            match with {
                true => this.dependent(plan, domain),
                false => Ok((plan.clone(), Vec::new())),
            }
        };
        let (left, left_columns) = side(self, &of.left, with_left)?;
        let (mut right, mut right_columns) = side(self, &of.right, with_right)?;
        if with_left && with_right {
            // Names of its own, so that a row can tell the two apart.
            let mut exprs = plan_columns(of.right.schema());
            let names: Vec<String> = right_columns.iter().map(|_| self.name("o")).collect();
            exprs.extend(right_columns.iter().zip(&names).map(|(c, name)| Expr::Column(c.clone()).alias(name)));
            right = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(right))?);
            right_columns = names.into_iter().map(Column::new_unqualified).collect();
        }
        let known = if with_left && !(keeps_right && with_right) { &left_columns } else { &right_columns };
        let mut conditions = Vec::new();
        for (one, two) in &of.on {
            let (one, two) =
                (within(one.clone(), domain, known, &schema)?, within(two.clone(), domain, known, &schema)?);
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
    fn relation(&mut self, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let alias = self.name("domain");
        let plan = SubqueryAlias::try_new(Arc::new(domain.plan.clone()), alias.as_str())?;
        let columns = domain.names.iter().map(|name| Column::new(Some(alias.clone()), name)).collect();
        Ok((LogicalPlan::SubqueryAlias(plan), columns))
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

/// Something to leave where a plan is taken.
fn nothing() -> LogicalPlan {
    LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(DFSchema::empty()),
    })
}

/// A join whose keys match nothing where they are NULL. Those that do are conditions `IS NOT DISTINCT FROM`, for DataFusion's
/// rules mix the two.
fn join(
    left: LogicalPlan,
    right: LogicalPlan,
    on: Vec<(Expr, Expr)>,
    filter: Option<Expr>,
    kind: JoinType,
) -> Result<LogicalPlan> {
    let (left, right) = (Arc::new(left), Arc::new(right));
    let nulls = NullEquality::NullEqualsNothing;
    Ok(LogicalPlan::Join(Join::try_new(left, right, on, filter, kind, JoinConstraint::On, nulls, false)?))
}

fn cross(left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
    join(left, right, Vec::new(), None, JoinType::Inner)
}

fn filtered(input: LogicalPlan, tests: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(tests) {
        Some(test) => Ok(LogicalPlan::Filter(Filter::try_new(test, Arc::new(input))?)),
        None => Ok(input),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn plan_columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// The plan with the columns of `schema` alone.
fn restored(plan: LogicalPlan, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(plan_columns(schema), Arc::new(plan))?))
}

/// The plan with its columns named as those of `schema`.
fn renamed(plan: LogicalPlan, exprs: impl Iterator<Item = Expr>, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    let named = exprs.zip(schema.iter()).map(|(expr, (relation, field))| match &expr {
        Expr::Column(column) if column.relation.as_ref() == relation && column.name == *field.name() => expr,
        _ => expr.alias_qualified(relation.cloned(), field.name()),
    });
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(plan))?))
}

fn own_expressions(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let mut all = Vec::new();
    plan.apply_expressions(|expr| {
        all.push(expr.clone());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    let seen = expr.apply(|inner| {
        found = subquery_of(inner).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || seen.is_err()
}

/// Whether the right side of a join depends on the left one.
fn lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => lateral(&alias.input),
        _ => false,
    }
}

/// The columns of the rows around that a query uses, each once.
fn free(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut all = Vec::new();
    plan.apply(|node| {
        let mut schema = DFSchema::empty();
        node.inputs().iter().for_each(|input| schema.merge(input.schema()));
        if !lateral_join(node) {
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

fn lateral_join(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if lateral(&join.right))
}

/// The columns of the rows around a query that an expression of it uses, over columns of `schema`.
fn free_in(expr: &Expr, schema: &DFSchema) -> Result<Vec<Column>> {
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
fn used(expr: &Expr) -> Result<Vec<Column>> {
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
fn equality(condition: &Expr) -> Option<(&Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let outer = |expr: &Expr| expr.contains_outer() && !expr.any_column_refs();
    match (outer(left), outer(right)) {
        (true, false) if !right.contains_outer() => Some((left, right.as_ref().clone())),
        (false, true) if !left.contains_outer() => Some((right, left.as_ref().clone())),
        _ => None,
    }
}

/// An expression over the rows around, seen from there.
fn outer_as_columns(expr: &Expr) -> Result<Expr> {
    let columns = expr.clone().transform(|inner| {
        Ok(match inner {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    });
    columns.data()
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

/// An expression with its subquery changed, if it is one.
pub(super) fn map_subquery(
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
pub(super) fn outer_mapped(
    plan: LogicalPlan,
    hidden: &DFSchema,
    change: &dyn Fn(FieldRef, &Column) -> Option<Expr>,
) -> Result<LogicalPlan> {
    plan.transform_down(|node| {
        let mut nearer = hidden.clone();
        node.inputs().iter().for_each(|input| nearer.merge(input.schema()));
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

/// What an aggregate gives over no rows.
fn over_no_rows(expr: &Expr, aggregate: &Aggregate) -> Result<Expr> {
    let mut inner = expr;
    while let Expr::Alias(alias) = inner {
        inner = &alias.expr;
    }
    let data_type = expr.get_type(aggregate.input.schema())?;
    Ok(lit(match inner {
        Expr::AggregateFunction(call) if call.func.name() == "count" => ScalarValue::new_zero(&data_type)?,
        _ => ScalarValue::try_from(&data_type)?,
    }))
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
