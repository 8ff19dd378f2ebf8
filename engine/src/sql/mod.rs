//! SQL: text to statements ([`parse`]), queries to DataFusion's logical plans and on to ours ([`Planner`]).

pub(crate) mod advice;
mod check;
mod ddl;
mod dialect;
mod dml;
mod functions;
#[cfg(test)]
pub(crate) mod golden;
mod guarded;
mod ident;
mod interval;
pub(crate) mod limits;
#[cfg(test)]
mod naive;
mod normalize;
mod optimize;
mod or_null;
mod parse;
mod planner;
mod precedence;
mod pushdown;
mod shared_columns;
mod sqlparser;
mod statement;
mod timed;
mod types;
mod unnest;
mod window;

#[cfg(test)]
mod tests;

pub use crate::logical::{HopNode, parse_duration, window_expr, window_udf};
pub use ddl::{output_mode, trigger};
pub use parse::{parse, parse_query, parse_scalar};
pub use planner::{Changes, Planner};
pub(crate) use planner::{MAX_PLANNING_TIME, scanned};
pub use statement::*;
