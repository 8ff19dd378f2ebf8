//! A plain view's query where another query reads the view. It does nothing, and is gone before a plan is optimised: by it is
//! known that the query reads by the view's name.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, DataFusionError, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

/// The query of a plain view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Through {
    /// Which view of all that ever had the name.
    pub id: u64,
    pub name: String,
    query: Arc<LogicalPlan>,
}

impl Through {
    /// The query of the view `name`, as what reads the view has it.
    pub fn mark(name: &str, id: u64, query: LogicalPlan) -> LogicalPlan {
        let node = Through { id, name: name.to_owned(), query: Arc::new(query) };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    /// The view that a node of a plan is read through, if it is one.
    pub fn of(node: &LogicalPlan) -> Option<&Through> {
        match node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The plan without these nodes.
    pub fn without(plan: LogicalPlan) -> Result<LogicalPlan> {
        let plain = plan.transform_up_with_subqueries(|node| {
            Ok(match Through::of(&node) {
                Some(through) => Transformed::yes(through.query.as_ref().clone()),
                None => Transformed::no(node),
            })
        });
        plain.map(|plain| plain.data)
    }
}

impl PartialOrd for Through {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.id, &self.name, &self.query).partial_cmp(&(other.id, &other.name, &other.query))
    }
}

impl UserDefinedLogicalNodeCore for Through {
    fn name(&self) -> &str {
        "Through"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.query]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.query.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Through: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.into_iter().next() {
            Some(query) => Ok(Through { query: Arc::new(query), ..self.clone() }),
            None => Err(DataFusionError::Internal("a view has one query".into())),
        }
    }
}
