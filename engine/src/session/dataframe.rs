//! Queries built in Rust, in the words of Spark: the same plans as SQL's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr, lit};
use datafusion::prelude::col;
use headwater_connectors::{Options, OutputMode, Sink};

use super::session::{Inner, Session};
use super::sinks::Query;
use super::subscription::Subscription;
use super::view::View;
use crate::error::{Error, Result};
use crate::plan::OnError;
use crate::sql::{ExplainKind, Trigger};

/// A query: a table over time. Nothing runs until it is collected, written, subscribed to or made a view.
#[derive(Clone)]
pub struct DataFrame {
    pub(crate) session: Arc<Inner>,
    pub(crate) plan: LogicalPlan,
    pub(crate) on_error: OnError,
    /// Whether streams are read from the moment on at which the query starts.
    pub(crate) from_now: bool,
}

/// The window `[start, end)` of `size`, one every `slide`, that holds the event time `column`; for grouping.
///
/// Lengths are written as `'5 minutes'`. With `slide` equal to `size`, or `""`, windows do not overlap.
pub fn window(column: &str, size: &str, slide: &str) -> Expr {
    let slide = if slide.is_empty() { size } else { slide };
    crate::logical::window_expr(col(column), size, Some(slide))
}

impl DataFrame {
    pub(crate) fn new(session: Arc<Inner>, plan: LogicalPlan) -> Self {
        DataFrame { session, plan, on_error: OnError::Fail, from_now: false }
    }

    /// What becomes of rows on which an expression fails, in this query as a whole; `Fail` if not given here or by
    /// `SET on_error`.
    #[must_use]
    pub fn on_error(self, on_error: OnError) -> DataFrame {
        DataFrame { on_error, ..self }
    }

    /// Reads streams from the moment on at which the query starts, without what has gone by: for a source that can't be
    /// read again. Batches, and tables in memory without event time, are read whole. The answers hold from that moment
    /// on; [`Status::as_of`](crate::Status) tells it.
    #[must_use]
    pub fn from_now(self) -> DataFrame {
        DataFrame { from_now: true, ..self }
    }

    fn build(
        &self,
        step: impl FnOnce(LogicalPlanBuilder) -> datafusion::error::Result<LogicalPlanBuilder>,
    ) -> Result<DataFrame> {
        let built = step(LogicalPlanBuilder::from(self.plan.clone())).and_then(LogicalPlanBuilder::build);
        let plan = built.map_err(|e| Error::from_datafusion(&e, ""))?;
        let plan = self.session.planner().coerced(plan)?;
        Ok(DataFrame { plan, ..self.clone() })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(self.plan.schema().as_arrow().clone())
    }

    /// Declares how far rows of a stream may be out of order: `delay` behind the latest event time in `column`.
    ///
    /// Errors: on anything but a table that was just read.
    pub fn with_watermark(self, column: &str, delay: Duration) -> Result<DataFrame> {
        let LogicalPlan::TableScan(scan) = &self.plan else {
            return Err(Error::user("a watermark belongs to a table: declare it right after read_stream()..load(..)"));
        };
        let name = scan.table_name.table().to_owned();
        let declaration = self.session.run(&name)?.declaration.clone();
        let redeclared = self.session.redeclare(&declaration, (column.to_owned(), delay))?;
        self.session.add_table(redeclared, true)?;
        let plan = self.session.scan(&name)?;
        Ok(DataFrame { plan, ..self })
    }

    /// Columns computed from each row.
    pub fn select(&self, columns: impl IntoIterator<Item = Expr>) -> Result<DataFrame> {
        let columns: Vec<_> = columns.into_iter().collect();
        self.build(|plan| plan.project(columns))
    }

    /// The rows for which `predicate` is true.
    pub fn filter(&self, predicate: Expr) -> Result<DataFrame> {
        self.build(|plan| plan.filter(predicate))
    }

    /// The same rows with one more column.
    pub fn with_column(&self, name: &str, value: Expr) -> Result<DataFrame> {
        let mut columns: Vec<Expr> =
            self.plan.schema().columns().into_iter().filter(|c| c.name != name).map(Expr::Column).collect();
        columns.push(value.alias(name));
        self.select(columns)
    }

    /// Groups rows; aggregate next.
    pub fn group_by(&self, keys: impl IntoIterator<Item = Expr>) -> Grouped {
        Grouped { frame: self.clone(), keys: keys.into_iter().collect() }
    }

    /// Aggregates over all rows.
    pub fn agg(&self, aggregates: impl IntoIterator<Item = Expr>) -> Result<DataFrame> {
        self.group_by([]).agg(aggregates)
    }

    /// Joins on columns that are equal.
    pub fn join(&self, right: &DataFrame, kind: JoinType, left_on: &[&str], right_on: &[&str]) -> Result<DataFrame> {
        let keys = (left_on.to_vec(), right_on.to_vec());
        self.build(|plan| plan.join(right.plan.clone(), kind, keys, None))
    }

    /// Joins where `condition` is true.
    pub fn join_on(&self, right: &DataFrame, kind: JoinType, condition: Expr) -> Result<DataFrame> {
        self.build(|plan| plan.join_on(right.plan.clone(), kind, [condition]))
    }

    /// The same query under a name, to tell its columns from another's.
    pub fn alias(&self, name: &str) -> Result<DataFrame> {
        self.build(|plan| plan.alias(name))
    }

    /// The rows of both.
    pub fn union_all(&self, other: &DataFrame) -> Result<DataFrame> {
        self.build(|plan| plan.union(other.plan.clone()))
    }

    /// Each row once.
    pub fn distinct(&self) -> Result<DataFrame> {
        self.build(LogicalPlanBuilder::distinct)
    }

    /// An order, for [`DataFrame::limit`] and for showing.
    pub fn sort(&self, order: impl IntoIterator<Item = SortExpr>) -> Result<DataFrame> {
        let order: Vec<_> = order.into_iter().collect();
        self.build(|plan| plan.sort(order))
    }

    /// `count` rows after `offset`, in the order before.
    pub fn limit(&self, offset: usize, count: usize) -> Result<DataFrame> {
        self.build(|plan| plan.limit(offset, Some(count)))
    }

    /// The plans, as text.
    pub fn explain(&self) -> Result<String> {
        self.session.planner().explain(&self.plan, ExplainKind::Both, self.on_error)
    }

    /// The final answer over all that there is now, computed by the dataflow, in the query's order.
    ///
    /// Waits for the end of its inputs: an endless source gives none.
    pub fn collect(&self) -> Result<RecordBatch> {
        self.session.answer(self)
    }

    /// Maintains the query under a name.
    pub fn create_view(&self, name: &str) -> Result<View> {
        Session(self.session.clone()).create_view(name, self)
    }

    /// Writes the query's output, now and as it changes.
    pub fn write_stream(&self) -> StreamWriter {
        StreamWriter {
            frame: self.clone(),
            name: None,
            mode: OutputMode::default(),
            trigger: Trigger::default(),
            format: None,
            options: Options::default(),
        }
    }
}

/// Rows grouped by keys.
pub struct Grouped {
    frame: DataFrame,
    keys: Vec<Expr>,
}

impl Grouped {
    /// Aggregates of each group, after its keys.
    pub fn agg(&self, aggregates: impl IntoIterator<Item = Expr>) -> Result<DataFrame> {
        let aggregates: Vec<_> = aggregates.into_iter().collect();
        self.frame.build(|plan| plan.aggregate(self.keys.clone(), aggregates))
    }

    /// The number of rows of each group, as `count`.
    pub fn count(&self) -> Result<DataFrame> {
        self.agg([datafusion::functions_aggregate::expr_fn::count(lit(1i64)).alias("count")])
    }

    fn each(&self, columns: &[&str], function: fn(Expr) -> Expr, name: &str) -> Result<DataFrame> {
        self.agg(columns.iter().map(|c| function(col(*c)).alias(format!("{name}({c})"))))
    }

    /// The sum of each column.
    pub fn sum(&self, columns: &[&str]) -> Result<DataFrame> {
        self.each(columns, datafusion::functions_aggregate::expr_fn::sum, "sum")
    }

    /// The mean of each column.
    pub fn avg(&self, columns: &[&str]) -> Result<DataFrame> {
        self.each(columns, datafusion::functions_aggregate::expr_fn::avg, "avg")
    }

    /// The least of each column.
    pub fn min(&self, columns: &[&str]) -> Result<DataFrame> {
        self.each(columns, datafusion::functions_aggregate::expr_fn::min, "min")
    }

    /// The greatest of each column.
    pub fn max(&self, columns: &[&str]) -> Result<DataFrame> {
        self.each(columns, datafusion::functions_aggregate::expr_fn::max, "max")
    }
}

/// How a query is written.
pub struct StreamWriter {
    frame: DataFrame,
    name: Option<String>,
    mode: OutputMode,
    trigger: Trigger,
    format: Option<String>,
    options: Options,
}

impl StreamWriter {
    /// The query's name, for status and messages.
    #[must_use]
    pub fn query_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// What is written of the changes; append if not given.
    #[must_use]
    pub fn output_mode(mut self, mode: OutputMode) -> Self {
        self.mode = mode;
        self
    }

    /// When it is written; continuously if not given.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// The connector, or a file format for the connector `filesystem`.
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        self.format = Some(format.to_owned());
        self
    }

    /// An option of the connector.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.0.insert(name.to_ascii_lowercase(), value.to_string());
        self
    }

    fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| "query".to_owned())
    }

    /// Starts writing to the connector.
    ///
    /// Errors: a query whose rows are never final in append mode; an unknown connector or option.
    pub fn start(self) -> Result<Query> {
        let format = self.format.clone().ok_or_else(|| {
            Error::user(
                "write_stream() needs .format(\"..\"): 'console', 'csv', 'json', 'parquet', 'blackhole' or a connector",
            )
        })?;
        let (connector, options) = connector_of(&format, self.options.clone());
        let (name, frame) = (self.name(), &self.frame);
        frame.session.start_sink(&name, frame, &connector, &options, self.mode, self.trigger)
    }

    /// Starts writing to a path, in a file format.
    pub fn start_at(self, path: &str) -> Result<Query> {
        self.option("path", path).start()
    }

    /// Starts writing to a sink made in Rust.
    pub fn start_into(self, sink: Box<dyn Sink>) -> Result<Query> {
        let frame = &self.frame;
        frame.session.start_into(&self.name(), frame, self.mode, self.trigger, sink)
    }

    /// Starts the query and gives its output as it comes.
    pub fn subscribe(self) -> Result<Subscription> {
        let name = self.name();
        self.subscribe_as(&name)
    }

    fn subscribe_as(self, name: &str) -> Result<Subscription> {
        let frame = &self.frame;
        frame.session.subscribe(name, frame, self.mode, self.trigger)
    }
}

/// A connector and its options for a format's name: Spark names files by their format.
fn connector_of(format: &str, mut options: Options) -> (String, Options) {
    match format {
        "csv" | "json" | "parquet" => {
            options.0.entry("format".to_owned()).or_insert_with(|| format.to_owned());
            ("filesystem".to_owned(), options)
        }
        "console" => ("print".to_owned(), options),
        other => (other.to_owned(), options),
    }
}

/// How a table is read.
pub struct Reader {
    session: Session,
    stream: bool,
    format: Option<String>,
    schema: Option<SchemaRef>,
    options: BTreeMap<String, String>,
}

impl Session {
    /// Reads a table once: a batch.
    pub fn read(&self) -> Reader {
        Reader { session: self.clone(), stream: false, format: None, schema: None, options: BTreeMap::new() }
    }

    /// Reads a table as a stream.
    pub fn read_stream(&self) -> Reader {
        Reader { stream: true, ..self.read() }
    }
}

impl Reader {
    /// A file format, or a connector.
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        self.format = Some(format.to_owned());
        self
    }

    /// The columns; inferred if not given.
    #[must_use]
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    /// An option of the connector or of the table.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.insert(name.to_ascii_lowercase(), value.to_string());
        self
    }

    /// The table: a path for file formats, the table's name for `channel`.
    ///
    /// Errors: a missing file, an unknown option, columns that can't be inferred.
    pub fn load(mut self, path: &str) -> Result<DataFrame> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let format = self.format.clone().ok_or_else(|| Error::user("read() needs .format(\"..\")"))?;
        let name = if format == "channel" {
            path.to_owned()
        } else {
            self.options.insert("path".to_owned(), path.to_owned());
            format!("{format}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
        };
        self.table(&name, &format)
    }

    /// The table, for connectors that need no path; `name` is what statements can call it.
    pub fn table(mut self, name: &str, format: &str) -> Result<DataFrame> {
        if format != "channel" {
            let mode = if self.stream { "stream" } else { "batch" };
            self.options.entry("mode".to_owned()).or_insert_with(|| mode.to_owned());
        }
        let (connector, options) = connector_of(format, Options(self.options));
        let session = &self.session.0;
        let declaration = session.declare(name, Some(&connector), options, self.schema, None, "")?;
        session.add_table(declaration, false)?;
        self.session.table(name)
    }
}
