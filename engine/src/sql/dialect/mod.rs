//! What SQL means where DataFusion's plans mean something else, or different engines do: said in DataFusion's own words
//! before types are made equal, or refused with what to write instead.

mod arithmetic;
mod casts;
mod intervals;
mod lists;
mod literals;
mod patterns;
mod times;
mod together;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

pub(super) use self::arithmetic::TimesInterval;
pub(super) use self::intervals::by_length;
pub(super) use self::lists::lists_closed;
pub(super) use self::literals::{floats_in_columns, number};
pub(super) use self::patterns::time_pattern;

/// The plan with what SQL means. Once more it changes nothing.
pub(super) fn meant(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        with_expressions(node, |expr, schema| {
            expr.transform_up(|inner| {
                casts::check(&inner, schema)?;
                Ok(match inner {
                    Expr::SimilarTo(like) => Transformed::yes(patterns::similar_to(like)?),
                    Expr::BinaryExpr(binary) => arithmetic::divided(binary, schema),
                    Expr::Cast(cast) => times::in_zone(cast, schema),
                    Expr::ScalarFunction(call) => times::called(call, schema),
                    other => Transformed::no(other),
                })
            })
        })?
        .transform_data(together::of_node)
    })
    .data()
}

/// A node with its expressions changed, each over the columns of the node's inputs and with the name that it has.
fn with_expressions(
    node: LogicalPlan,
    mut change: impl FnMut(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(change(expr, &schema)?.update_data(|expr| name.restore(expr)))
    })
}
