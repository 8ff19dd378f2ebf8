//! The analysis and optimizer rules, picked one by one.
//!
//! Left out of DataFusion's list, and why:
//! - `FilterNullJoinKeys`: lowering filters NULL keys where SQL wants it;
//! - `PushDownLimit`: a limit here is a top-N of its whole input, and pushing it below a join changes which rows those are;
//! - `PushDownFilter`: replaced by one that leaves predicates that can fail behind their guards;
//! - `CommonSubexprEliminate`, `ExtractLeafExpressions`, `PushDownLeafProjections`: they move expressions below filters
//!   and joins, where they may fail on rows that never reached them;
//! - `UnionsToFilter`: it merges branches by their text, for scans that cost more than ours;
//! - `EliminateGroupByConstant`: a group without keys is the global group, which has a row even without input.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::datatypes::FieldRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};

use super::or_null::null_where_it_fails;
use super::pushdown::PushDownSafeFilter;
use super::timed::{Timed, within};
use super::unnest::{map_subquery, outer_mapped, unnest};
use super::window::place_windows;
use super::{check, dialect};
use crate::plan::OnError;

/// `count(DISTINCT x)` as a count over distinct rows, where no other aggregate stands beside it: DataFusion would split
/// a `sum` beside it into sums of sums, and a float sum of sums is not the exactly rounded sum.
#[derive(Debug)]
struct OnlyDistinctToGroupBy {
    inner: SingleDistinctToGroupBy,
}

impl OptimizerRule for OnlyDistinctToGroupBy {
    fn name(&self) -> &str {
        "only_distinct_to_group_by"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let distinct = |expr: &Expr| matches!(expr, Expr::AggregateFunction(call) if call.params.distinct);
        match &plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().all(distinct) => {
                self.inner.rewrite(plan, config)
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// Equalities of a join's condition become its keys. DataFusion would make keys of `IS NOT DISTINCT FROM` as well, and say of the
/// whole join that NULL matches NULL, which other rules forget or give to further keys: lowering makes keys of these.
#[derive(Debug)]
struct StrictKeys {
    inner: ExtractEquijoinPredicate,
}

impl OptimizerRule for StrictKeys {
    fn name(&self) -> &str {
        "strict_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else { return self.inner.rewrite(plan, config) };
        if join.null_equality == NullEquality::NullEqualsNull {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let null_safe = |expr: &Expr| matches!(expr, Expr::BinaryExpr(test) if test.op == Operator::IsNotDistinctFrom);
        let conditions = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
        let (safe, strict): (Vec<_>, Vec<_>) = conditions.into_iter().partition(null_safe);
        if safe.is_empty() {
            return self.inner.rewrite(LogicalPlan::Join(join), config);
        }
        join.filter = conjunction(strict);
        self.inner.rewrite(LogicalPlan::Join(join), config)?.map_data(|plan| match plan {
            LogicalPlan::Join(mut join) => {
                join.filter = conjunction(join.filter.into_iter().chain(safe));
                Ok(LogicalPlan::Join(join))
            }
            other => Err(DataFusionError::Internal(format!("a join became {}", other.display()))),
        })
    }
}

/// DataFusion folds constants with arithmetic that wraps around: what would overflow is an error here.
#[derive(Debug)]
struct CheckedSimplify {
    inner: SimplifyExpressions,
}

impl OptimizerRule for CheckedSimplify {
    fn name(&self) -> &str {
        "checked_simplify"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.apply_expressions(|expr| {
            expr.apply(|inner| {
                check::constant(inner)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        self.inner.rewrite(plan, config)
    }
}

/// The plan with types made equal.
pub(super) fn coerced(plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
    let plan = dialect::meant(plan)?;
    let mut plan = TypeCoercion::new().analyze(plan, options)?;
    // What a subquery knows of the rows around it may have got another type, which may change what stands there.
    while let Some(retyped) = retyped(&plan)? {
        plan = TypeCoercion::new().analyze(retyped, options)?;
    }
    Ok(plan)
}

/// The plan with each column of the rows around a subquery of the type that it has there; `None` if all are.
fn retyped(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let changes = Cell::new(false);
    let plan = plan.clone().transform_down_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let change = |field: FieldRef, column: &Column| {
            let now = schema.field_from_column(column).ok()?;
            let changed = now.data_type() != field.data_type();
            changes.set(changes.get() || changed);
            changed.then(|| Expr::OuterReferenceColumn(now.clone(), column.clone()))
        };
        node.map_expressions(|expr| {
            expr.transform_down(|inner| map_subquery(inner, |plan| outer_mapped(plan, &DFSchema::empty(), &change)))
        })
    })?;
    Ok(changes.get().then_some(plan.data))
}

/// The plan with types made equal, windows placed and subqueries as joins: ready for [`optimize`].
fn analyze(plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
    dialect::lists_closed(dialect::by_length(unnest(place_windows(coerced(plan, options)?)?)?)?)
}

/// The optimised plan of a supported query, made within `most`.
pub(super) fn optimize(
    plan: LogicalPlan,
    on_error: OnError,
    options: &Arc<ConfigOptions>,
    most: Duration,
) -> Result<LogicalPlan> {
    static OPTIMIZER: OnceLock<Optimizer> = OnceLock::new();
    let optimizer = OPTIMIZER.get_or_init(|| {
        Optimizer::with_rules(vec![
            Arc::new(Timed(OptimizeUnions::new())),
            Arc::new(Timed(CheckedSimplify { inner: SimplifyExpressions::new() })),
            Arc::new(Timed(ReplaceDistinctWithAggregate::new())),
            Arc::new(Timed(EliminateJoin::new())),
            Arc::new(Timed(DecorrelateLateralJoin::new())),
            Arc::new(Timed(StrictKeys { inner: ExtractEquijoinPredicate::new() })),
            Arc::new(Timed(EliminateDuplicatedExpr::new())),
            Arc::new(Timed(EliminateFilter::new())),
            Arc::new(Timed(EliminateCrossJoin::new())),
            Arc::new(Timed(EliminateLimit::new())),
            Arc::new(Timed(PropagateEmptyRelation::new())),
            Arc::new(Timed(EliminateOuterJoin::new())),
            Arc::new(Timed(PushDownSafeFilter::new())),
            Arc::new(Timed(OnlyDistinctToGroupBy { inner: SingleDistinctToGroupBy::new() })),
            Arc::new(Timed(OptimizeProjections::new())),
        ])
    });
    check::supported(&plan)?;
    let plan = analyze(plan, options)?;
    let plan = match on_error {
        OnError::Null => null_where_it_fails(plan)?,
        OnError::Fail | OnError::DeadLetter => plan,
    };
    // Without a start time `now()` is never folded into a constant; the check has refused it anyway.
    let context = OptimizerContext::new_with_config_options(options.clone()).without_query_execution_start_time();
    within(most, || optimizer.optimize(plan, &context, |_, _| {}))
}
