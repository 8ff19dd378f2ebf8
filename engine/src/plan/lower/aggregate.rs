//! `GROUP BY` and aggregates.

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction as Call;
use std::sync::Arc;

use super::{Flow, Lowering, output_schema, place, unsupported};
use crate::error::Result;
use crate::plan::exprs::{self, PExpr};
use crate::plan::{Aggregate, AggregateFunction, OnError};

/// The aggregates that are kept incrementally, by the names that DataFusion's functions have.
pub const AGGREGATES: &[(&str, AggregateFunction)] = &[
    ("count", AggregateFunction::Count),
    ("sum", AggregateFunction::Sum),
    ("avg", AggregateFunction::Avg),
    ("min", AggregateFunction::Min),
    ("max", AggregateFunction::Max),
    ("var", AggregateFunction::VarSample),
    ("var_pop", AggregateFunction::VarPopulation),
    ("stddev", AggregateFunction::StddevSample),
    ("stddev_pop", AggregateFunction::StddevPopulation),
    ("bool_and", AggregateFunction::BoolAnd),
    ("bool_or", AggregateFunction::BoolOr),
];

/// An aggregate with its argument and filter still as expressions over the input.
struct Pending {
    function: AggregateFunction,
    argument: Option<PExpr>,
    filter: Option<PExpr>,
    distinct: bool,
    name: String,
}

impl Lowering {
    pub(super) fn aggregate(
        &mut self,
        aggregate: &datafusion::logical_expr::Aggregate,
        schema: &SchemaRef,
    ) -> Result<Flow> {
        let input_schema = aggregate.input.schema();
        let keys = super::compile_all(&aggregate.group_expr, input_schema)?;
        let mut pending = Vec::new();
        for expr in &aggregate.aggr_expr {
            pending.push(self.pending(expr, input_schema)?);
        }
        let uses: Vec<PExpr> =
            keys.iter().chain(pending.iter().flat_map(|p| p.argument.iter().chain(&p.filter))).cloned().collect();
        let flow = self.plan(&aggregate.input)?;
        let mut flow = self.ready(flow, &uses, &output_schema(&aggregate.input))?;
        flow.order.clear();

        // The operator's input: the keys, then what the aggregates need, each expression once.
        let over = std::mem::take(&mut flow.exprs);
        let mut fields = Vec::new();
        let mut column = |expr: &PExpr, name: String, flow: &mut Flow| -> Result<usize> {
            let before = flow.exprs.len();
            let index = place(&mut flow.exprs, exprs::substitute(expr, &over)?);
            if index == before {
                fields.push(arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Null, true));
            }
            Ok(index)
        };
        let mut key_columns = Vec::new();
        for (expr, field) in keys.iter().zip(schema.fields()) {
            key_columns.push(column(expr, field.name().clone(), &mut flow)?);
        }
        let mut aggregates = Vec::new();
        for (p, field) in pending.iter().zip(&schema.fields()[keys.len()..]) {
            let argument = p.argument.as_ref().map(|e| column(e, e.to_string(), &mut flow)).transpose()?;
            let filter = p.filter.as_ref().map(|e| column(e, e.to_string(), &mut flow)).transpose()?;
            let aggregate = Aggregate {
                function: p.function,
                argument,
                filter,
                distinct: p.distinct,
                output: field.data_type().clone(),
                name: p.name.clone(),
                or_null: false,
            };
            let or_null = self.on_error == OnError::Null && aggregate.can_fail();
            aggregates.push(Aggregate { or_null, ..aggregate });
        }
        let names: SchemaRef = Arc::new(Schema::new(fields));
        let input = self.node(&flow, &names)?;
        if aggregates.is_empty() && !key_columns.is_empty() {
            let node = self.builder.distinct(input);
            let mut flow = self.all(node);
            flow.exprs = key_columns.iter().map(|key| flow.exprs[*key].clone()).collect();
            return Ok(flow);
        }
        // Two equal keys are one key that is given twice.
        let mut distinct_keys: Vec<usize> = Vec::new();
        let given: Vec<usize> = key_columns
            .iter()
            .map(|key| match distinct_keys.iter().position(|k| k == key) {
                Some(index) => index,
                None => {
                    distinct_keys.push(*key);
                    distinct_keys.len() - 1
                }
            })
            .collect();
        let below = self.builder.schema(input).clone();
        let mut output: Vec<_> = distinct_keys.iter().map(|key| below.field(*key).clone()).collect();
        output.extend(schema.fields()[keys.len()..].iter().map(|field| field.as_ref().clone()));
        let width = distinct_keys.len();
        let node = self.builder.reduce(input, distinct_keys, aggregates, Arc::new(Schema::new(output)));
        let all = exprs::columns(self.builder.schema(node));
        let mut flow = self.all(node);
        flow.exprs = given.iter().map(|key| all[*key].clone()).chain(all[width..].iter().cloned()).collect();
        Ok(flow)
    }

    fn pending(&self, expr: &Expr, schema: &datafusion::common::DFSchema) -> Result<Pending> {
        let name = expr.schema_name().to_string();
        let mut inner = expr;
        while let Expr::Alias(alias) = inner {
            inner = &alias.expr;
        }
        let Expr::AggregateFunction(Call { func, params }) = inner else {
            return Err(unsupported(&format!("the aggregate {name}")));
        };
        let Some((_, function)) = AGGREGATES.iter().find(|(known, _)| *known == func.name()) else {
            return Err(unsupported(&format!("the aggregate {}()", func.name())));
        };
        let argument = match &params.args[..] {
            // `count(*)` is `count(1)`.
            [Expr::Literal(value, _)]
                if *function == AggregateFunction::Count && !params.distinct && !value.is_null() =>
            {
                None
            }
            [argument] => Some(exprs::compile(argument, schema)?),
            [] if *function == AggregateFunction::Count => None,
            _ => return Err(unsupported(&format!("{name}: {}() of several columns", func.name()))),
        };
        if params.null_treatment.is_some() {
            return Err(unsupported(&format!("{name}: IGNORE NULLS or RESPECT NULLS")));
        }
        // NULL is no true: a filter that is never NULL-safe needs no more than this.
        let filter = params.filter.as_ref().map(|filter| exprs::compile(filter, schema)).transpose()?;
        let idempotent = matches!(
            function,
            AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::BoolAnd | AggregateFunction::BoolOr
        );
        let distinct = params.distinct && !idempotent;
        Ok(Pending { function: *function, argument, filter, distinct, name })
    }
}
