//! The physical incremental plan: every decision made, so that rendering is a straight walk.

mod analysis;
mod canonical;
pub mod catalog;
pub(crate) mod evaluate;
pub mod explain;
pub(crate) mod exprs;
mod float_division;
pub mod lower;
mod one_zero;
mod or_null;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use headwater_connectors::OutputMode;

use crate::error::{Error, Result};

pub(crate) use analysis::can_fail;
pub(crate) use analysis::watermarks::column_size;

/// The number of a node in its [`Plan`]: a node's inputs have smaller numbers.
pub type NodeId = usize;

/// A query as a graph of operators over columns; nodes may be used more than once.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operators, inputs before users.
    pub nodes: Vec<Node>,
    /// The node that is the answer.
    pub root: NodeId,
    /// The columns of the answer, by the names of the query: the first ones of the root. Further columns of the root
    /// are there for `presentation` and finality only; the answer is the root's rows without them, consolidated again.
    pub schema: SchemaRef,
    /// How to show a final answer: `ORDER BY` of the outermost query. A maintained view is a multiset.
    pub presentation: Vec<Order>,
    /// Whether every relation that is read ends.
    pub bounded: bool,
    /// What becomes of rows on which an expression fails. Expressions that are NULL then say so themselves.
    pub on_error: OnError,
    /// Where any rows will do: which of those that come are the answer.
    pub any: Option<AnyRows>,
}

/// An answer of which any rows will do: `LIMIT` without an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyRows {
    /// How many rows are left out.
    pub offset: usize,
    /// How many rows are kept at most.
    pub limit: usize,
}

/// What becomes of a row on which an expression fails, and of a group whose result can't be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The query is in error while the row is there.
    #[default]
    Fail,
    /// The column is NULL; a predicate is not true.
    Null,
    /// The row is left out and counted. A materialized view `v` has these rows as `v.errors`.
    DeadLetter,
}

impl OnError {
    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            OnError::Fail => "fail",
            OnError::Null => "null",
            OnError::DeadLetter => "dead_letter",
        }
    }
}

impl std::str::FromStr for OnError {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [OnError::Fail, OnError::Null, OnError::DeadLetter];
        all.into_iter().find(|mode| mode.name() == text.to_ascii_lowercase()).ok_or_else(|| {
            Error::user(format!("on_error can't be '{text}'; there are 'fail', 'null' and 'dead_letter'"))
        })
    }
}

impl Plan {
    /// The answer's number of columns; the root may have more.
    pub fn visible(&self) -> usize {
        self.schema.fields().len()
    }

    /// How many rows of the answer are enough: once so many have come, whatever else would come is not wanted.
    pub fn enough(&self) -> Option<usize> {
        self.any.map(|any| any.offset.saturating_add(any.limit))
    }

    /// Whether some operator releases state behind the watermark, so that tables are read without their late rows.
    pub fn releases(&self) -> bool {
        self.nodes.iter().any(|node| node.op.retain().is_some())
    }

    /// What is known of the rows in error.
    pub(crate) fn errors(&self) -> Properties {
        let mut failing = self.nodes.iter().filter(|node| analysis::op_fails(&node.op, &self.nodes));
        let retracts = failing.find_map(|node| node.properties.retracts.clone());
        Properties { retracts, is_static: self.nodes[self.root].properties.is_static, ..Properties::default() }
    }

    /// The relations that are read, each once.
    pub fn relations(&self) -> Vec<&Relation> {
        let mut relations: Vec<&Relation> = Vec::new();
        for node in &self.nodes {
            if let Op::Get { relation, .. } = &node.op
                && !relations.contains(&relation)
            {
                relations.push(relation);
            }
        }
        relations
    }

    /// The columns that are read of a table, late rows or not, in their order.
    pub(crate) fn columns_of(&self, table: &str) -> Vec<usize> {
        let mut columns = Vec::new();
        for node in &self.nodes {
            if let Op::Get { relation: relation @ (Relation::Table { .. } | Relation::Late { .. }), projection } =
                &node.op
                && relation.name() == table
            {
                columns.extend(projection);
            }
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A view that is kept up to date.
    View,
    /// The final answer of a query, shown in the order that it asks for.
    Answer,
    /// A sink or subscription of this mode.
    Output(OutputMode),
}

impl Properties {
    /// Whether no row ever leaves, whatever happens.
    pub fn stays(&self) -> bool {
        self.retracts.is_none() && !self.taken_back
    }
}

impl Plan {
    /// Whether the changes of the answer at one time never hold a row twice: where operators that give consolidated
    /// changes are followed only by projections that keep all their columns.
    pub fn root_is_consolidated(&self) -> bool {
        let mut node = self.root;
        loop {
            match &self.nodes[node].op {
                // `Distinct` doesn't wait for the end of a time: a row may come and leave in it.
                Op::Reduce { .. } | Op::TopK { .. } | Op::EmitFinal { .. } => return true,
                Op::Mfp { input, exprs, .. } => {
                    let kept: std::collections::BTreeSet<usize> = exprs
                        .iter()
                        .filter_map(|e| e.downcast_ref::<datafusion::physical_expr::expressions::Column>())
                        .map(|column| column.index())
                        .collect();
                    if kept.len() < self.nodes[*input].schema.fields().len() {
                        return false;
                    }
                    node = *input;
                }
                _ => return false,
            }
        }
    }
}

impl Relation {
    /// The table's or view's name.
    pub fn name(&self) -> &str {
        match self {
            Relation::Table { name, .. }
            | Relation::Late { name }
            | Relation::Rejected { name }
            | Relation::View { name }
            | Relation::Errors { name } => name,
        }
    }

    /// Whether it is a table's, not a view's.
    pub fn is_of_table(&self) -> bool {
        matches!(self, Relation::Table { .. } | Relation::Late { .. } | Relation::Rejected { .. })
    }
}

/// An operator with what is known of its output.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The columns it gives.
    pub schema: SchemaRef,
    /// What is known of its output.
    pub properties: Properties,
    /// Identifies the collection: equal fingerprints are equal collections (same operators over the same relations).
    pub fingerprint: u64,
}

/// What is known of a collection.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// Why rows may be retracted: the operator's name; `None` when no row ever leaves.
    pub retracts: Option<String>,
    /// Whether rows that are events may be taken back by whoever pushed them: what keeps state follows, and output mode
    /// append ends with an error if it happens.
    pub taken_back: bool,
    /// Columns whose value is never further behind a row's time than a delay: event-time columns.
    pub watermarks: Vec<Watermark>,
    /// When a row can no longer change: behind this window end. Set where state is released.
    pub final_at: Option<Watermark>,
    /// Whether all rows are at the smallest time and the input is closed.
    pub is_static: bool,
    /// Whether late rows of a table with a watermark are among the rows.
    pub late_rows: bool,
    /// Columns that identify a row, if any are known (the keys of a reduction).
    pub key: Option<Vec<usize>>,
    /// Whether rows may be missing that failed on the way here: whoever takes the rows must take the errors, too.
    pub fails: bool,
}

/// A column that follows event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The column: a timestamp, a date (its midnight), or a window (a struct of `start` and `end`), whose `end` counts.
    pub column: usize,
    /// Declared disorder plus the width of a segment, microseconds: a value `v` is behind the watermark once the
    /// frontier reaches `v + delay`.
    pub delay: u64,
}

/// A sort column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The column.
    pub column: usize,
    /// Direction and place of NULL.
    pub options: SortOptions,
}

/// What a node reads from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// A table's rows as stamped by its intake, without the late ones if `drop_late`.
    Table {
        /// The table.
        name: String,
        /// Whether late rows are left out: only where state is released by the watermark.
        drop_late: bool,
    },
    /// The late rows of a table.
    Late {
        /// The table.
        name: String,
    },
    /// The pieces of input that became no rows of a table.
    Rejected {
        /// The table.
        name: String,
    },
    /// A materialized view's output.
    View {
        /// The view.
        name: String,
    },
    /// The rows that a materialized view left out because an expression failed on them.
    Errors {
        /// The view.
        name: String,
    },
}

/// The operators. Expressions are over the input's columns, evaluated batch-wise by DataFusion.
#[derive(Clone, Debug)]
pub enum Op {
    /// Reads a relation, keeping only the columns of `projection`.
    Get {
        /// What to read.
        relation: Relation,
        /// The columns kept, in order.
        projection: Vec<usize>,
    },
    /// Rows that are there since ever.
    Constant {
        /// The rows.
        rows: RecordBatch,
    },
    /// Keeps the rows that pass every predicate (in order), then computes the output columns.
    Mfp {
        /// The input.
        input: NodeId,
        /// Each must be true, not NULL.
        predicates: Vec<Arc<dyn PhysicalExpr>>,
        /// The output columns.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
    },
    /// Appends a window column (a struct of `start` and `end`), one output row for each window that holds `time`.
    /// A row whose time is NULL is in no window.
    Hop {
        /// The input.
        input: NodeId,
        /// The event-time column.
        time: usize,
        /// Width, microseconds.
        size: i64,
        /// From one start to the next, microseconds; equal to `size` for tumbling windows.
        slide: i64,
        /// Starts are at `offset` plus multiples of `slide` since the epoch, microseconds.
        offset: i64,
    },
    /// Unnests a list column in place, one row for each element; none for NULL or an empty list.
    Unnest {
        /// The input.
        input: NodeId,
        /// The list column.
        column: usize,
    },
    /// Inner equijoin; a cross join without keys. Gives the left columns, then the right ones. Keys compare as
    /// values with NULL equal to NULL (the planner filters NULL keys where SQL wants it).
    Join {
        /// The left input.
        left: NodeId,
        /// The right input.
        right: NodeId,
        /// Key columns of the left input.
        left_keys: Vec<usize>,
        /// Key columns of the right input, of the same types.
        right_keys: Vec<usize>,
    },
    /// The left rows whose key is (or, when `anti`, is not) among the right rows' keys.
    Semi {
        /// The left input.
        left: NodeId,
        /// The right input.
        right: NodeId,
        /// Key columns of the left input.
        left_keys: Vec<usize>,
        /// Key columns of the right input, of the same types.
        right_keys: Vec<usize>,
        /// Whether to keep those without a match.
        anti: bool,
    },
    /// Each row once.
    Distinct {
        /// The input.
        input: NodeId,
        /// Where state is released behind the watermark: a column of the input.
        retain: Option<Watermark>,
    },
    /// Groups by key columns and aggregates. Gives the key columns, then the aggregates.
    Reduce {
        /// The input.
        input: NodeId,
        /// The key columns.
        keys: Vec<usize>,
        /// The aggregates.
        aggregates: Vec<Aggregate>,
        /// Where state is released behind the watermark: a key column of the input.
        retain: Option<Watermark>,
        /// Without `GROUP BY`: one row even when there are no rows.
        global: bool,
    },
    /// Of each group the rows `offset .. offset + limit` in order; ties are broken by the whole row.
    TopK {
        /// The input.
        input: NodeId,
        /// The group's columns; none for one group.
        group: Vec<usize>,
        /// The order.
        order: Vec<Order>,
        /// How many rows are skipped.
        offset: usize,
        /// How many rows are kept at most; `None` for all.
        limit: Option<usize>,
    },
    /// Up to so many rows on each worker, whichever come first; the answer keeps [`Plan::any`] of them. For answers over
    /// what is never retracted only: a maintained view must be a function of its input.
    Limit {
        /// The input.
        input: NodeId,
        /// How many rows.
        rows: usize,
    },
    /// The rows of all inputs.
    Union {
        /// The inputs, of one schema.
        inputs: Vec<NodeId>,
    },
    /// The input's rows, each once, when they can't be retracted any more: what output mode append gives. With
    /// `final_at` a row is final behind the watermark; all are when every input is closed, and none when the query is
    /// stopped before.
    EmitFinal {
        /// The input.
        input: NodeId,
        /// When a row is final: a column of the input. `None` where only the end makes it so.
        final_at: Option<Watermark>,
    },
    /// The input with its diffs negated; only below a union that makes it whole.
    Negate {
        /// The input.
        input: NodeId,
    },
}

impl Op {
    /// The nodes that it reads.
    pub fn inputs(&self) -> Vec<NodeId> {
        match self {
            Op::Get { .. } | Op::Constant { .. } => vec![],
            Op::Mfp { input, .. }
            | Op::Hop { input, .. }
            | Op::Unnest { input, .. }
            | Op::Distinct { input, .. }
            | Op::Reduce { input, .. }
            | Op::TopK { input, .. }
            | Op::Limit { input, .. }
            | Op::EmitFinal { input, .. }
            | Op::Negate { input } => vec![*input],
            Op::Join { left, right, .. } | Op::Semi { left, right, .. } => vec![*left, *right],
            Op::Union { inputs } => inputs.clone(),
        }
    }

    /// Where its state is released behind the watermark: a column of its input.
    pub fn retain(&self) -> Option<Watermark> {
        match self {
            Op::Distinct { retain, .. } | Op::Reduce { retain, .. } => *retain,
            _ => None,
        }
    }
}

/// One aggregate of a [`Op::Reduce`].
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// What it computes.
    pub function: AggregateFunction,
    /// The argument column of the input; none for `count(*)`.
    pub argument: Option<usize>,
    /// A boolean column of the input that a row must have true.
    pub filter: Option<usize>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// The type of the result.
    pub output: DataType,
    /// As written, for messages.
    pub name: String,
    /// Whether it is NULL where it can't be computed.
    pub or_null: bool,
}

impl Aggregate {
    /// Whether its result may be out of the range of its type.
    pub fn can_fail(&self) -> bool {
        let sum = matches!(self.function, AggregateFunction::Sum | AggregateFunction::Avg);
        sum && !self.output.is_floating() && !self.or_null
    }
}

/// The aggregates that are kept incrementally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// Rows, or non-NULL arguments.
    Count,
    /// The exact sum, range-checked on output; NULL when there is no argument.
    Sum,
    /// The exact mean.
    Avg,
    /// The least argument.
    Min,
    /// The greatest argument.
    Max,
    /// Sample variance.
    VarSample,
    /// Population variance.
    VarPopulation,
    /// Sample standard deviation.
    StddevSample,
    /// Population standard deviation.
    StddevPopulation,
    /// Whether all are true.
    BoolAnd,
    /// Whether any is true.
    BoolOr,
}
