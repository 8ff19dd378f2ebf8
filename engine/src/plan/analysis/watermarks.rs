//! Columns that follow event time: at a time `t` no row comes or goes whose value lies further behind `t` than a delay.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::logical::{WINDOW, parse_duration, window_size};
use crate::plan::exprs::column_of;
use crate::plan::or_null::OrNull;
use crate::plan::{Node, NodeId, Op, Properties, Watermark};

pub(super) fn of(op: &Op, inputs: &[&Properties], nodes: &[Node]) -> Vec<Watermark> {
    match op {
        Op::Get { .. } | Op::Constant { .. } => vec![],
        Op::Mfp { input, exprs, .. } => {
            let found = exprs.iter().enumerate().filter_map(|(column, expr)| {
                let delay = delay_of(expr, &inputs[0].watermarks, *input, nodes)?;
                Some(Watermark { column, delay })
            });
            found.collect()
        }
        Op::Hop { input, time, .. } => {
            let mut watermarks = inputs[0].watermarks.clone();
            if let Some(of_time) = find(&watermarks, *time) {
                // A window's end lies behind each time that it holds.
                watermarks.push(Watermark { column: nodes[*input].schema.fields().len(), delay: of_time.delay });
            }
            watermarks
        }
        Op::Unnest { column, .. } => inputs[0].watermarks.iter().filter(|w| w.column != *column).copied().collect(),
        Op::Negate { .. } | Op::Distinct { .. } | Op::Limit { .. } => inputs[0].watermarks.clone(),
        Op::Reduce { keys, .. } => keys
            .iter()
            .enumerate()
            .filter_map(|(column, key)| Some(Watermark { column, delay: find(&inputs[0].watermarks, *key)?.delay }))
            .collect(),
        // A row comes out when it is final, long after it came.
        Op::EmitFinal { final_at, .. } => final_at.iter().copied().collect(),
        // A row may come back when another of its group leaves; the group's own columns say how late that may be.
        Op::TopK { group, .. } => inputs[0].watermarks.iter().filter(|w| group.contains(&w.column)).copied().collect(),
        Op::Join { left, left_keys, right_keys, .. } => {
            let width = nodes[*left].schema.fields().len();
            let mut watermarks = one_side(inputs[0], inputs[1], left_keys, right_keys);
            let right = one_side(inputs[1], inputs[0], right_keys, left_keys);
            watermarks.extend(right.iter().map(|w| Watermark { column: w.column + width, delay: w.delay }));
            watermarks
        }
        Op::Semi { left_keys, right_keys, .. } => one_side(inputs[0], inputs[1], left_keys, right_keys),
        Op::Union { .. } => {
            // Rows that are there since ever hold nothing back.
            let mut moving = inputs.iter().filter(|input| !input.is_static);
            let Some(first) = moving.next() else { return vec![] };
            let mut watermarks = first.watermarks.clone();
            for other in moving {
                watermarks.retain_mut(|w| match find(&other.watermarks, w.column) {
                    Some(same) => {
                        w.delay = w.delay.max(same.delay);
                        true
                    }
                    None => false,
                });
            }
            watermarks
        }
    }
}

/// The columns of one side of a join that still follow time: all if the other side never changes; those that equal a
/// column of the other side that does too.
fn one_side(own: &Properties, other: &Properties, keys: &[usize], other_keys: &[usize]) -> Vec<Watermark> {
    if other.is_static {
        return own.watermarks.clone();
    }
    let paired = own.watermarks.iter().filter_map(|w| {
        let pair = keys.iter().position(|key| *key == w.column)?;
        let same = find(&other.watermarks, other_keys[pair])?;
        Some(Watermark { column: w.column, delay: w.delay.max(same.delay) })
    });
    paired.collect()
}

/// The watermark of a column.
pub(crate) fn find(watermarks: &[Watermark], column: usize) -> Option<Watermark> {
    watermarks.iter().find(|w| w.column == column).copied()
}

/// The one of `columns` that is released first.
pub(crate) fn earliest(watermarks: &[Watermark], columns: &[usize]) -> Option<Watermark> {
    watermarks.iter().filter(|w| columns.contains(&w.column)).min_by_key(|w| w.delay).copied()
}

/// How far an expression over node `input` may lie behind, if it follows one of `watermarks`.
pub(super) fn delay_of(
    expr: &Arc<dyn PhysicalExpr>,
    watermarks: &[Watermark],
    input: NodeId,
    nodes: &[Node],
) -> Option<u64> {
    let schema = &nodes[input].schema;
    let any: &dyn Any = expr.as_ref();
    if let Some(column) = any.downcast_ref::<Column>() {
        return find(watermarks, column.index()).map(|w| w.delay);
    }
    if let Some(cast) = any.downcast_ref::<CastExpr>() {
        let inner = delay_of(cast.expr(), watermarks, input, nodes)?;
        return match (cast.expr().data_type(schema).ok()?, expr.data_type(schema).ok()?) {
            // A coarser unit cuts off less than one of itself.
            (DataType::Timestamp(..), DataType::Timestamp(to, _)) => Some(inner.saturating_add(unit_us(to))),
            (DataType::Timestamp(..), DataType::Date32) => Some(inner.saturating_add(DAY_US)),
            _ => None,
        };
    }
    if let Some(or_null) = any.downcast_ref::<OrNull>() {
        return delay_of(&or_null.0, watermarks, input, nodes);
    }
    if let Some(binary) = any.downcast_ref::<BinaryExpr>() {
        let inner = delay_of(binary.left(), watermarks, input, nodes)?;
        let right: &dyn Any = binary.right().as_ref();
        let shift = fixed_micros(right.downcast_ref::<Literal>()?.value())?;
        return match binary.op() {
            Operator::Plus if shift >= 0 => Some(inner.saturating_sub(shift.unsigned_abs())),
            Operator::Plus | Operator::Minus if (shift >= 0) == (*binary.op() == Operator::Minus) => {
                Some(inner.saturating_add(shift.unsigned_abs()))
            }
            Operator::Minus => Some(inner.saturating_sub(shift.unsigned_abs())),
            _ => None,
        };
    }
    function_delay(any.downcast_ref::<ScalarFunctionExpr>()?, watermarks, input, nodes)
}

const DAY_US: u64 = 86_400_000_000;

fn function_delay(call: &ScalarFunctionExpr, watermarks: &[Watermark], input: NodeId, nodes: &[Node]) -> Option<u64> {
    let args = call.args();
    let literal = |i: usize| constant(args.get(i)?);
    match call.fun().name() {
        // The end of the window lies behind the time.
        WINDOW => delay_of(args.first()?, watermarks, input, nodes),
        "get_field" => {
            let inner = delay_of(args.first()?, watermarks, input, nodes)?;
            match literal(1)?.try_as_str()?? {
                "end" => Some(inner),
                "start" => {
                    let most = *expr_sizes(args.first()?, input, nodes)?.end();
                    Some(inner.saturating_add(u64::try_from(most).ok()?))
                }
                _ => None,
            }
        }
        "date_trunc" => {
            let inner = delay_of(args.get(1)?, watermarks, input, nodes)?;
            let longest = match literal(0)?.try_as_str()??.to_lowercase().as_str() {
                "month" => "31 days".to_string(),
                "quarter" => "92 days".to_string(),
                "year" => "366 days".to_string(),
                unit => format!("1 {unit}"),
            };
            Some(inner.saturating_add(u64::try_from(parse_duration(&longest).ok()?).ok()?))
        }
        "date_bin" => {
            let inner = delay_of(args.get(1)?, watermarks, input, nodes)?;
            Some(inner.saturating_add(u64::try_from(fixed_micros(&literal(0)?)?).ok()?))
        }
        _ => None,
    }
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

/// The sizes of the windows that an expression over node `input` gives: the least and the most.
fn expr_sizes(expr: &Arc<dyn PhysicalExpr>, input: NodeId, nodes: &[Node]) -> Option<RangeInclusive<i64>> {
    if let Some(column) = column_of(expr) {
        return column_sizes(input, column, nodes);
    }
    let any: &dyn Any = expr.as_ref();
    if let Some(or_null) = any.downcast_ref::<OrNull>() {
        return expr_sizes(&or_null.0, input, nodes);
    }
    let call = any.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == WINDOW)?;
    let size = window_size(&call.args()[1..].iter().map(constant).collect::<Option<Vec<_>>>()?)?;
    Some(size..=size)
}

/// The size of the windows in a column of a node, where all that are not NULL are windows of one size.
pub(crate) fn column_size(node: NodeId, column: usize, nodes: &[Node]) -> Option<i64> {
    let sizes = column_sizes(node, column, nodes)?;
    (sizes.start() == sizes.end()).then_some(*sizes.start())
}

/// The sizes of the windows in a column of a node, by where they come from.
fn column_sizes(node: NodeId, column: usize, nodes: &[Node]) -> Option<RangeInclusive<i64>> {
    let width = |node: NodeId| nodes[node].schema.fields().len();
    match &nodes[node].op {
        Op::Get { .. } | Op::Constant { .. } => None,
        Op::Mfp { input, exprs, .. } => expr_sizes(exprs.get(column)?, *input, nodes),
        Op::Hop { input, size, .. } if column == width(*input) => Some(*size..=*size),
        Op::Hop { input, .. }
        | Op::Unnest { input, .. }
        | Op::Distinct { input, .. }
        | Op::TopK { input, .. }
        | Op::Limit { input, .. }
        | Op::EmitFinal { input, .. }
        | Op::Negate { input } => column_sizes(*input, column, nodes),
        Op::Reduce { input, keys, .. } => column_sizes(*input, *keys.get(column)?, nodes),
        Op::Semi { left, .. } => column_sizes(*left, column, nodes),
        Op::Join { left, right, .. } => match column.checked_sub(width(*left)) {
            Some(column) => column_sizes(*right, column, nodes),
            None => column_sizes(*left, column, nodes),
        },
        Op::Union { inputs } => {
            let sizes = inputs.iter().map(|input| column_sizes(*input, column, nodes));
            sizes.reduce(|all, own| {
                let (all, own) = (all?, own?);
                Some(*all.start().min(own.start())..=*all.end().max(own.end()))
            })?
        }
    }
}

fn unit_us(unit: arrow::datatypes::TimeUnit) -> u64 {
    use arrow::datatypes::TimeUnit;
    match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1,
        TimeUnit::Nanosecond => 0,
    }
}

/// The microseconds of an interval without months.
fn fixed_micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let nanos = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
            i64::try_from(nanos / 1_000).ok()
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Some(i64::from(interval.days) * 86_400_000_000 + i64::from(interval.milliseconds) * 1_000)
        }
        _ => None,
    }
}
