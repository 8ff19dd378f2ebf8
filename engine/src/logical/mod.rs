//! What queries hold beyond DataFusion's own words, below both the text that says it and the plan that does it: windows,
//! lengths of time, and the marks of what is NULL where it fails and of what is read through a view.

mod calendar;
mod duration;
mod in_list;
mod interval;
mod or_null;
mod through;
mod window;

pub(crate) use calendar::{date_bin, date_trunc, is_utc};
pub use duration::parse_duration;
pub(crate) use in_list::{closed, is_closed};
pub(crate) use interval::{interval_of_parts, interval_parts, is_justified, justified};
pub(crate) use or_null::{is_or_null, or_null};
pub(crate) use through::Through;
pub(crate) use window::{HOP_PLACE, WINDOW, as_window, window_size};
pub use window::{HopNode, window_expr, window_udf};
