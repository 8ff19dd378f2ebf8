//! Planning that ends in time: between two nodes that a rule rewrites, the clock is looked at.

use std::cell::Cell;
use std::time::{Duration, Instant};

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

thread_local! {
    /// Until when the plan on this thread must be made, and how long that was.
    static UNTIL: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Makes a plan whose rules are [`Timed`] within `most`.
pub(super) fn within<R>(most: Duration, plan: impl FnOnce() -> R) -> R {
    struct Restore(Option<(Instant, Duration)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            UNTIL.set(self.0);
        }
    }
    let _restore = Restore(UNTIL.replace(Instant::now().checked_add(most).map(|until| (until, most))));
    plan()
}

/// A rule that is given up when the time for planning is over.
#[derive(Debug)]
pub(super) struct Timed<R>(pub R);

impl<R: OptimizerRule> OptimizerRule for Timed<R> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let Some((until, most)) = UNTIL.get()
            && Instant::now() > until
        {
            return Err(DataFusionError::Plan(format!(
                "planning takes longer than {most:?}; split the statement with views, or allow more by SET max_planning_time"
            )));
        }
        self.0.rewrite(plan, config)
    }
}
