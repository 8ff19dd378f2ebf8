//! Values of different types that share a column or are compared: the type that they have together, where DataFusion would
//! take one that loses something. Decimals beside floats are floats, as in arithmetic, for decimals of them would lose digits;
//! dates, other timestamps, and texts that are compared are timestamps beside timestamps, in their own unit, for nanoseconds
//! end in 2262.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Projection, Union, cast, lit};

use super::intervals::compares;
use super::with_expressions;

/// A node with such values cast.
pub(super) fn of_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Union(union) = plan {
        return of_union(union);
    }
    with_expressions(plan, |expr, schema| expr.transform_up(|inner| Ok(of_expr(inner, schema))))
}

/// The type of values of these types, where DataFusion would take another that loses something.
fn together<'a>(types: impl Iterator<Item = &'a DataType> + Clone, compared: bool) -> Option<DataType> {
    let any = |of: fn(&DataType) -> bool| types.clone().any(of);
    if any(DataType::is_floating) && any(DataType::is_decimal) {
        return Some(DataType::Float64);
    }
    let mut stamps =
        types.clone().filter_map(|of| if let DataType::Timestamp(unit, zone) = of { Some((unit, zone)) } else { None });
    let differ = stamps.clone().zip(stamps.clone().skip(1)).any(|(one, next)| one != next);
    if !(any(is_date) || differ || compared && any(is_text)) {
        return None;
    }
    let unit = stamps.clone().map(|(unit, _)| *unit).max()?.max(TimeUnit::Microsecond);
    // Times without a zone are of the other's.
    let zone: Option<Arc<str>> = stamps.find_map(|(_, zone)| zone.clone());
    Some(DataType::Timestamp(unit, zone))
}

/// Whether a value of a type is to be cast to that of [`together`].
fn is_other(of: &DataType, together: &DataType) -> bool {
    match together {
        DataType::Float64 => of.is_decimal(),
        _ => of != together && (is_date(of) || is_text(of) || matches!(of, DataType::Timestamp(..))),
    }
}

pub(super) fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_date(of: &DataType) -> bool {
    matches!(of, DataType::Date32 | DataType::Date64)
}

/// An expression that gives one of several values, or compares them.
fn of_expr(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let mut changed = false;
    let mut cast_all = |values: Vec<&mut Expr>, compared: bool| {
        let types: Vec<DataType> = values.iter().flat_map(|value| value.get_type(schema)).collect();
        let Some(to) = together(types.iter(), compared).filter(|_| types.len() == values.len()) else { return };
        for (value, _) in values.into_iter().zip(&types).filter(|(_, of)| is_other(of, &to)) {
            let other = std::mem::replace(value, lit(ScalarValue::Null));
            *value = cast(other, to.clone());
            changed = true;
        }
    };
    match &mut expr {
        Expr::Case(case) => {
            let (mut whens, mut thens): (Vec<&mut Expr>, Vec<&mut Expr>) =
                case.when_then_expr.iter_mut().map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
            thens.extend(case.else_expr.iter_mut().map(AsMut::as_mut));
            cast_all(thens, false);
            if let Some(operand) = &mut case.expr {
                whens.push(operand);
                cast_all(whens, true);
            }
        }
        Expr::ScalarFunction(call) if ["coalesce", "nvl", "greatest", "least"].contains(&call.func.name()) => {
            cast_all(call.args.iter_mut().collect(), false);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => cast_all(vec![left, right], true),
        Expr::Between(between) => cast_all(vec![&mut between.expr, &mut between.low, &mut between.high], true),
        Expr::InList(test) => {
            let mut values: Vec<&mut Expr> = test.list.iter_mut().collect();
            values.push(&mut test.expr);
            cast_all(values, true);
        }
        _ => {}
    }
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn of_union(union: Union) -> Result<Transformed<LogicalPlan>> {
    let types = |column: usize| union.inputs.iter().map(move |input| input.schema().field(column).data_type());
    let to: Vec<Option<DataType>> =
        (0..union.schema.fields().len()).map(|column| together(types(column), false)).collect();
    if to.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let mut inputs = Vec::new();
    for input in union.inputs {
        let columns = input.schema().iter().zip(&to).map(|((relation, field), to)| {
            let column = Expr::Column(Column::new(relation.cloned(), field.name()));
            match to {
                Some(to) if is_other(field.data_type(), to) => {
                    cast(column, to.clone()).alias_qualified(relation.cloned(), field.name())
                }
                _ => column,
            }
        });
        let columns = columns.collect();
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)));
    }
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}
