//! Filter push-down that keeps guards. DataFusion moves any predicate as low as it can, so that `a / b > 1` may be
//! evaluated on rows that a join or an earlier predicate would have kept from it. Errors are data here, so predicates
//! that can fail stay where they were written; all others are left to DataFusion's rule.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::check::can_fail;

#[derive(Debug)]
pub(super) struct PushDownSafeFilter {
    inner: PushDownFilter,
}

impl PushDownSafeFilter {
    pub(super) fn new() -> Self {
        PushDownSafeFilter { inner: PushDownFilter::new() }
    }
}

impl OptimizerRule for PushDownSafeFilter {
    fn name(&self) -> &str {
        "push_down_safe_filter"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) => self.filter(filter, config),
            LogicalPlan::Join(mut join) => {
                let schema = join.left.schema().join(join.right.schema())?;
                let conjuncts = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
                let (pinned, free): (Vec<_>, Vec<_>) = conjuncts.into_iter().partition(|e| can_fail(e, &schema));
                if pinned.is_empty() {
                    return self.inner.rewrite(LogicalPlan::Join(join), config);
                }
                let original = join.clone();
                join.filter = conjunction(free.clone());
                let done = self.inner.rewrite(LogicalPlan::Join(join), config)?;
                match done.data {
                    LogicalPlan::Join(mut join) => {
                        join.filter = conjunction(join.filter.into_iter().chain(pinned));
                        Ok(Transformed::new_transformed(LogicalPlan::Join(join), done.transformed))
                    }
                    _ => Ok(Transformed::no(LogicalPlan::Join(original))),
                }
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl PushDownSafeFilter {
    fn filter(&self, filter: Filter, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        // The innermost filter's predicates come first: they guard the others.
        let mut merged = false;
        let mut layers = vec![filter.predicate.clone()];
        let mut input = filter.input.clone();
        while let LogicalPlan::Filter(below) = input.as_ref() {
            merged = true;
            layers.push(below.predicate.clone());
            input = below.input.clone();
        }
        let mut conjuncts: Vec<Expr> = Vec::new();
        for predicate in layers.into_iter().rev().flat_map(split_conjunction_owned) {
            if !conjuncts.contains(&predicate) {
                conjuncts.push(predicate);
            }
        }
        // An aggregate without GROUP BY has a row also where no row passes, so nothing may go below it.
        if matches!(input.as_ref(), LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty()) {
            return over(conjuncts, input).map(|plan| Transformed::new_transformed(plan, merged));
        }
        let before = conjuncts.clone();
        let (pinned, free): (Vec<_>, Vec<_>) = conjuncts.into_iter().partition(|e| can_fail(e, input.schema()));
        let Some(predicate) = conjunction(free.clone()) else {
            return over(pinned, input).map(|plan| Transformed::new_transformed(plan, merged));
        };
        let rule_input = LogicalPlan::Filter(Filter::try_new(predicate, input)?);
        let done = self.inner.rewrite(rule_input, config)?;
        if pinned.is_empty() {
            return Ok(Transformed::new_transformed(done.data, done.transformed || merged));
        }
        let (kept, input) = match done.data {
            LogicalPlan::Filter(kept) => (split_conjunction_owned(kept.predicate), kept.input),
            other => (vec![], Arc::new(other)),
        };
        let after: Vec<_> = kept.into_iter().chain(pinned).collect();
        let changed = done.transformed || merged || after != before;
        over(after, input).map(|plan| Transformed::new_transformed(plan, changed))
    }
}

fn over(conjuncts: Vec<Expr>, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    match conjunction(conjuncts) {
        Some(predicate) => Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)),
        None => Ok(Arc::unwrap_or_clone(input)),
    }
}
