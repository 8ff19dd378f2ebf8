//! An embeddable engine for incremental view maintenance, where batch and stream are one.
//!
//! A query in SQL or in the DataFrame API is compiled to a dataflow and its answer is kept up to date by changes that
//! carry event time. A file that is read once is a stream closed at a single time, so the same operators run a
//! historical extract and a live feed, and give the same answer.
//!
//! ```
//! use std::sync::Arc;
//! use headwater::arrow::array::{Int64Array, RecordBatch, StringArray};
//! use headwater::{OutputMode, Session};
//!
//! # fn main() -> headwater::Result<()> {
//! let session = Session::new()?;
//! session.execute("CREATE TABLE sales (shop TEXT, amount BIGINT)")?;
//! let view = session.sql("SELECT shop, sum(amount) AS total FROM sales GROUP BY shop")?.create_view("totals")?;
//! session.execute("INSERT INTO sales VALUES ('north', 3), ('south', 4), ('north', 5)")?;
//! session.execute("DELETE FROM sales WHERE amount = 3")?;
//! # let rows =
//! session.sql("SELECT * FROM totals ORDER BY shop")?.collect()?;
//! # assert_eq!(rows.column(1).as_ref(), &Int64Array::from(vec![5, 4]));
//! # Ok(())
//! # }
//! ```

mod catalog;
pub mod columns;
mod error;
mod intake;
mod logical;
mod output;
pub mod plan;
pub mod render;
mod session;
mod shield;
pub mod sql;
mod worker;

pub use arrow;
pub use datafusion;
pub use headwater_connectors as connectors;
pub use headwater_connectors::{Emission, Op, OutputMode};
pub use headwater_operators as operators;

pub use error::{Error, Position, Result};
pub use intake::IntakeCounts;
pub use output::Event;
pub use plan::OnError;
pub use session::{
    DataFrame, ForEach, Grouped, Input, Object, Outcome, Pushed, Query, Reader, RuntimeMode, Script, Session,
    SessionBuilder, Status, StreamWriter, Subscription, TableStatus, View, op_name, window,
};
pub use sql::Trigger;

/// What most programs need.
pub mod prelude {
    pub use crate::{DataFrame, OnError, OutputMode, Result, Session, Trigger, window};
    pub use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, max, min, stddev, sum};
    pub use datafusion::logical_expr::{JoinType, cast, lit};
    pub use datafusion::prelude::col;
}
