//! What the rules of unnesting build plans with.

use std::sync::Arc;

use datafusion::common::{
    DFSchema, DFSchemaRef, DataFusionError, JoinConstraint, JoinType, NullEquality, Result, ScalarValue,
};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Projection, lit,
};

/// Makes names that no query has.
#[derive(Default)]
pub(super) struct Names {
    made: usize,
}

impl Names {
    pub(super) fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("__{what}{}", self.made)
    }
}

pub(super) fn refuse<T>(what: &str) -> Result<T> {
    Err(DataFusionError::NotImplemented(what.into()))
}

/// Something to leave where a plan is taken.
pub(super) fn nothing() -> LogicalPlan {
    LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(DFSchema::empty()),
    })
}

/// A join whose keys match nothing where they are NULL. Those that do are conditions `IS NOT DISTINCT FROM`, for DataFusion's
/// rules mix the two.
pub(super) fn join(
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

pub(super) fn cross(left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
    join(left, right, Vec::new(), None, JoinType::Inner)
}

pub(super) fn filtered(input: LogicalPlan, tests: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(tests) {
        Some(test) => Ok(LogicalPlan::Filter(Filter::try_new(test, Arc::new(input))?)),
        None => Ok(input),
    }
}

pub(super) fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

pub(super) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

pub(super) fn plan_columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// The plan with a further column that is true in every row.
pub(super) fn with_true(plan: LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let mut exprs = plan_columns(plan.schema());
    exprs.push(lit(true).alias(name));
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// The plan with the columns of `schema` alone.
pub(super) fn restored(plan: LogicalPlan, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(plan_columns(schema), Arc::new(plan))?))
}

/// The plan with its columns named as those of `schema`.
pub(super) fn renamed(
    plan: LogicalPlan,
    exprs: impl Iterator<Item = Expr>,
    schema: &DFSchemaRef,
) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(named(exprs, schema).collect(), Arc::new(plan))?))
}

/// Expressions named as the columns of `schema`.
pub(in crate::sql) fn named(exprs: impl Iterator<Item = Expr>, schema: &DFSchemaRef) -> impl Iterator<Item = Expr> {
    exprs.zip(schema.iter()).map(|(expr, (relation, field))| match &expr {
        Expr::Column(column) if column.relation.as_ref() == relation && column.name == *field.name() => expr,
        _ => expr.alias_qualified(relation.cloned(), field.name()),
    })
}

/// What an aggregate gives over no rows.
pub(super) fn over_no_rows(expr: &Expr, aggregate: &Aggregate) -> Result<Expr> {
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
