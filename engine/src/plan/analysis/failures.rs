//! Where rows can fail: an expression that can't be evaluated on a row, a result out of range, a multiplicity below zero.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

use crate::plan::one_zero::OneZero;
use crate::plan::or_null::OrNull;
use crate::plan::{Node, Op, Properties};

pub(super) fn of(op: &Op, inputs: &[&Properties], nodes: &[Node]) -> bool {
    // These find multiplicities below zero.
    let counts = matches!(op, Op::Distinct { .. } | Op::Reduce { .. } | Op::TopK { .. } | Op::EmitFinal { .. });
    counts || op_fails(op, nodes) || inputs.iter().any(|input| input.fails)
}

/// Whether evaluating something in this operator itself may fail.
pub(crate) fn op_fails(op: &Op, nodes: &[Node]) -> bool {
    match op {
        Op::Mfp { input, predicates, exprs } => {
            predicates.iter().chain(exprs).any(|expr| can_fail(expr, &nodes[*input].schema))
        }
        Op::Reduce { aggregates, .. } => aggregates.iter().any(|aggregate| aggregate.can_fail()),
        Op::Get { .. }
        | Op::Constant { .. }
        | Op::Hop { .. }
        | Op::Unnest { .. }
        | Op::Join { .. }
        | Op::Semi { .. }
        | Op::Distinct { .. }
        | Op::TopK { .. }
        | Op::Limit { .. }
        | Op::EmitFinal { .. }
        | Op::Union { .. }
        | Op::Negate { .. } => false,
    }
}

/// Whether evaluating may fail on some row; errs on the side of yes.
pub(crate) fn can_fail(expr: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    if expr.is::<OrNull>() {
        return false;
    }
    let itself = if expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<NotExpr>()
        || expr.is::<CaseExpr>()
        || expr.is::<InListExpr>()
        || expr.is::<LikeExpr>()
        || expr.is::<OneZero>()
    {
        false
    } else if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        !matches!(
            binary.op(),
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::And
                | Operator::Or
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
                | Operator::StringConcat
        )
    } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let from = cast.expr().data_type(schema);
        !from.is_ok_and(|from| {
            &from == cast.cast_type()
                || CastExpr::check_bigger_cast(cast.cast_type(), &from)
                || (from.is_integer() && cast.cast_type().is_floating())
                || (text(cast.cast_type()) && (text(&from) || from.is_numeric()))
        })
    } else {
        true
    };
    itself || expr.children().into_iter().any(|child| can_fail(child, schema))
}
