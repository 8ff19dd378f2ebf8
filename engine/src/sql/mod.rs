//! SQL: text to statements ([`parse`]), queries to DataFusion's logical plans and on to ours ([`Planner`]).

mod check;
mod ddl;
mod dml;
mod duration;
mod functions;
mod normalize;
mod optimize;
mod or_null;
mod parse;
mod planner;
mod pushdown;
mod statement;
mod window;

#[cfg(test)]
mod tests;

pub use ddl::{output_mode, trigger};
pub use duration::parse_duration;
pub(crate) use or_null::is_or_null;
pub use parse::{parse, parse_query, parse_scalar};
pub use planner::{Changes, Planner};
pub use statement::*;
pub use window::{HopNode, window_expr, window_udf};
pub(crate) use window::{WINDOW, window_size};
