//! From DataFusion's optimised logical plan to ours.
//!
//! A `Flow` is a node with a filter and a projection still to be applied: consecutive filters and projections are
//! composed into one, which becomes a single `Mfp` when an operator needs its columns.

mod aggregate;
mod builder;
mod join;
mod leaf;

pub use aggregate::AGGREGATES;

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use headwater_connectors::OutputMode;

use super::exprs::{self, PExpr};
use super::{NodeId, OnError, Order, Plan, Purpose};
use crate::error::{Error, Result};
use crate::logical::HopNode;
use builder::Builder;

/// The plan of an optimised query for `purpose`.
pub(crate) fn lower(plan: &LogicalPlan, purpose: Purpose, on_error: OnError) -> Result<Plan> {
    let mut lowering = Lowering { builder: Builder::default(), on_error };
    let flow = lowering.plan(plan)?;
    lowering.finish(flow, output_schema(plan), purpose)
}

/// A query's columns by their names alone.
fn output_schema(plan: &LogicalPlan) -> SchemaRef {
    let fields: Vec<Field> = plan
        .schema()
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), field.data_type().clone(), field.is_nullable()))
        .collect();
    Arc::new(Schema::new(fields))
}

/// A node's rows that pass `predicates` in order, as `exprs`. All expressions are over the node's columns.
#[derive(Clone)]
struct Flow {
    node: NodeId,
    predicates: Vec<PExpr>,
    exprs: Vec<PExpr>,
    /// The order asked for, for a limit or the presentation.
    order: Vec<(PExpr, SortOptions)>,
}

struct Lowering {
    builder: Builder,
    on_error: OnError,
}

impl Lowering {
    /// All rows and columns of a node.
    fn all(&self, node: NodeId) -> Flow {
        let exprs = exprs::columns(self.builder.schema(node));
        Flow { node, predicates: vec![], exprs, order: vec![] }
    }

    /// The flow as a node with its columns first to last, named by `names` as far as they go.
    fn node(&mut self, flow: &Flow, names: &SchemaRef) -> Result<NodeId> {
        self.builder.mfp(flow.node, &flow.predicates, &flow.exprs, names)
    }

    /// The flow ready for expressions that use its columns as `uses` do: materialised first if composing would
    /// compute something costly more than once.
    fn ready(&mut self, flow: Flow, uses: &[PExpr], names: &SchemaRef) -> Result<Flow> {
        let mut counts = vec![0usize; flow.exprs.len()];
        uses.iter().for_each(|expr| {
            exprs::each_column(expr, |index| counts.get_mut(index).into_iter().for_each(|count| *count += 1));
        });
        let costly = flow.exprs.iter().zip(counts).any(|(expr, count)| count > 1 && !exprs::is_cheap(expr));
        match costly && flow.order.is_empty() {
            true => {
                let node = self.node(&flow, names)?;
                Ok(self.all(node))
            }
            false => Ok(flow),
        }
    }

    fn plan(&mut self, plan: &LogicalPlan) -> Result<Flow> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Values(values) => self.values(values, &output_schema(plan)),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty, &output_schema(plan)),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => {
                let flow = self.plan(&projection.input)?;
                let schema = projection.input.schema();
                let compiled = compile_all(&projection.expr, schema)?;
                let mut flow = self.ready(flow, &compiled, &output_schema(&projection.input))?;
                flow.exprs =
                    compiled.iter().map(|expr| exprs::substitute(expr, &flow.exprs)).collect::<Result<Vec<_>>>()?;
                Ok(flow)
            }
            LogicalPlan::Filter(filter) => {
                let flow = self.plan(&filter.input)?;
                let conjuncts: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
                let compiled = compile_all(&conjuncts, filter.input.schema())?;
                self.filtered(flow, &compiled)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, &output_schema(plan)),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let flow = self.plan(input)?;
                let node = self.node(&flow, &output_schema(input))?;
                let node = self.builder.distinct(node);
                Ok(self.all(node))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let schema = output_schema(plan);
                let inputs = union.inputs.iter().map(|input| self.plan(input)).collect::<Result<Vec<_>>>()?;
                self.union(inputs, &schema)
            }
            LogicalPlan::Sort(sort) => {
                let mut flow = self.plan(&sort.input)?;
                let mut order = Vec::new();
                for key in &sort.expr {
                    let compiled = exprs::compile(&key.expr, sort.input.schema())?;
                    let options = SortOptions { descending: !key.asc, nulls_first: key.nulls_first };
                    order.push((exprs::substitute(&compiled, &flow.exprs)?, options));
                }
                flow.order = order;
                match sort.fetch {
                    Some(limit) => self.limit(flow, 0, Some(limit), &output_schema(plan)),
                    None => Ok(flow),
                }
            }
            LogicalPlan::Limit(limit) => {
                let flow = self.plan(&limit.input)?;
                let literal = || Error::user("LIMIT and OFFSET take a constant number");
                let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(literal()) };
                let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(literal()) };
                self.limit(flow, skip, fetch, &output_schema(plan))
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest, &output_schema(plan)),
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<HopNode>() {
                Some(hop) => self.hop(hop, &output_schema(plan)),
                None => Err(unsupported(&format!("the operator {}", extension.node.name()))),
            },
            LogicalPlan::Subquery(_) => Err(unsupported("a subquery that depends on the row in this place")),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    /// The flow's rows that pass more predicates, over its columns.
    fn filtered(&mut self, mut flow: Flow, predicates: &[PExpr]) -> Result<Flow> {
        for predicate in predicates {
            flow.predicates.push(exprs::substitute(predicate, &flow.exprs)?);
        }
        Ok(flow)
    }

    fn union(&mut self, inputs: Vec<Flow>, schema: &SchemaRef) -> Result<Flow> {
        let nodes = inputs.iter().map(|flow| self.node(flow, schema)).collect::<Result<Vec<_>>>()?;
        let node = self.builder.union(nodes)?;
        Ok(self.all(node))
    }

    /// The rows `skip .. skip + fetch` in the flow's order; ties, and a limit without an order, go by the whole row.
    fn limit(&mut self, mut flow: Flow, skip: usize, fetch: Option<usize>, names: &SchemaRef) -> Result<Flow> {
        let width = flow.exprs.len();
        let mut order = Vec::new();
        for (expr, options) in std::mem::take(&mut flow.order) {
            order.push(Order { column: place(&mut flow.exprs, expr), options });
        }
        let input = self.node(&flow, names)?;
        let node = self.builder.top_k(input, order.clone(), skip, fetch);
        let mut flow = self.all(node);
        flow.order = order.iter().map(|order| (flow.exprs[order.column].clone(), order.options)).collect();
        flow.exprs.truncate(width);
        Ok(flow)
    }

    fn hop(&mut self, hop: &HopNode, names: &SchemaRef) -> Result<Flow> {
        let mut flow = self.plan(&hop.input)?;
        let width = flow.exprs.len();
        let time = exprs::substitute(&exprs::compile(&hop.time, hop.input.schema())?, &flow.exprs)?;
        let time = place(&mut flow.exprs, time);
        let input = self.node(&flow, &output_schema(&hop.input))?;
        let window = names.field(width).clone();
        let node = self.builder.hop(input, time, (hop.shape.size, hop.shape.slide, hop.shape.offset), window);
        let mut flow = self.all(node);
        flow.exprs.drain(width..flow.exprs.len() - 1);
        Ok(flow)
    }

    /// The plan of `flow`: its columns, and behind them those that the order or finality needs.
    fn finish(mut self, mut flow: Flow, schema: SchemaRef, purpose: Purpose) -> Result<Plan> {
        if schema.fields().is_empty() {
            return Err(Error::user("the query has no columns: name some, or write SELECT *"));
        }
        let order = std::mem::take(&mut flow.order);
        let mut presentation = Vec::new();
        if matches!(purpose, Purpose::Answer | Purpose::Output(OutputMode::Complete)) {
            for (expr, options) in order {
                presentation.push(Order { column: place(&mut flow.exprs, expr), options });
            }
        }
        let mut root = self.node(&flow, &schema)?;
        let append = purpose == Purpose::Output(OutputMode::Append);
        if append && self.builder.node(root).properties.final_at.is_none() {
            // The column that says when a row is final, where the query does not ask for it.
            if let Some(at) = self.builder.node(flow.node).properties.final_at {
                let column = exprs::column(self.builder.schema(flow.node), at.column);
                place(&mut flow.exprs, column);
                root = self.node(&flow, &schema)?;
            }
        }
        self.builder.finish(root, schema, presentation, purpose, self.on_error)
    }
}

fn compile_all(exprs: &[Expr], schema: &datafusion::common::DFSchema) -> Result<Vec<PExpr>> {
    exprs.iter().map(|expr| exprs::compile(expr, schema)).collect()
}

/// Where `expr` stands in `exprs`; at the end if it had to be added.
fn place(exprs: &mut Vec<PExpr>, expr: PExpr) -> usize {
    match exprs.iter().position(|other| **other == *expr) {
        Some(index) => index,
        None => {
            exprs.push(expr);
            exprs.len() - 1
        }
    }
}

fn unsupported(what: &str) -> Error {
    Error::user(format!("not supported: {what}"))
}
