//! What a maintained query may not contain, refused with the reason; and which expressions can fail on a row.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    AggregateUDF, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, Volatility,
};

use super::limits::DEEPEST_EXPRESSION;
use crate::logical::{HopNode, is_closed, is_or_null, is_utc};
use crate::plan::exprs::compile;
use crate::plan::lower::AGGREGATES;

/// Refuses operators and functions that have no incremental form here.
pub(super) fn supported(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        operator(node)?;
        node.apply_expressions(|expr| expr.apply(|inner| function(inner).map(|()| TreeNodeRecursion::Continue)))
    })?;
    Ok(())
}

/// Refuses expressions that are nested deeper than any that a statement can hold.
pub(super) fn depth(plan: &LogicalPlan) -> Result<()> {
    fn deeper(expr: &Expr, left: usize) -> Result<()> {
        if left == 0 {
            return Err(DataFusionError::Plan(format!(
                "an expression is nested more than {DEEPEST_EXPRESSION} deep; compute parts of it in columns before"
            )));
        }
        expr.apply_children(|inner| deeper(inner, left - 1).map(|()| TreeNodeRecursion::Continue)).map(|_| ())
    }
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| deeper(expr, DEEPEST_EXPRESSION).map(|()| TreeNodeRecursion::Continue))
    })?;
    Ok(())
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(DataFusionError::NotImplemented(what.into()))
}

/// Why window functions are refused.
pub(super) fn over(name: &str) -> String {
    format!(
        "window functions (OVER), here {name}; supported are GROUP BY with aggregates and ORDER BY .. LIMIT as a top-N"
    )
}

/// Why a scalar function is refused, if its value is no function of its arguments.
pub(super) fn volatile(function: &ScalarUDF) -> Option<String> {
    let name = function.name();
    match function.signature().volatility {
        Volatility::Immutable => None,
        Volatility::Stable => Some(format!(
            "{name}() in a maintained query: its value would depend on when a row is read, not on the data; compare \
             with an event-time column or a constant instead"
        )),
        Volatility::Volatile => Some(format!(
            "{name}() in a maintained query: it gives another value each time, so a row that it made could never be \
             retracted"
        )),
    }
}

/// Why an aggregate is refused, if it has no incremental form here.
pub(super) fn aggregate(function: &AggregateUDF) -> Option<String> {
    let known = || AGGREGATES.iter().map(|(name, _)| *name);
    let refused = !known().any(|name| name == function.name());
    refused.then(|| {
        let known: Vec<_> = known().collect();
        format!("the aggregate {}(); there are {}", function.name(), known.join(", "))
    })
}

fn operator(plan: &LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::Window(window) => {
            let names: Vec<_> = window.window_expr.iter().map(|e| e.schema_name().to_string()).collect();
            refuse(&over(&names.join(", ")))
        }
        LogicalPlan::RecursiveQuery(query) => {
            refuse(&format!("recursive queries (WITH RECURSIVE {}); WITH without recursion is supported", query.name))
        }
        LogicalPlan::Distinct(Distinct::On(_)) => {
            refuse("DISTINCT ON; supported are DISTINCT and GROUP BY with min() or max()")
        }
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) => {
            refuse("GROUPING SETS, CUBE and ROLLUP; supported is UNION ALL of one GROUP BY each")
        }
        LogicalPlan::Repartition(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => refuse(&format!("{} inside a query", plan.display())),
        LogicalPlan::Extension(extension) if !extension.node.as_any().is::<HopNode>() => {
            refuse(&format!("the operator {}", extension.node.name()))
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Extension(_) => Ok(()),
    }
}

fn function(expr: &Expr) -> Result<()> {
    match expr {
        Expr::ScalarFunction(call) => volatile(&call.func).map_or(Ok(()), |message| refuse(&message)),
        Expr::AggregateFunction(call) => aggregate(&call.func).map_or(Ok(()), |message| refuse(&message)),
        Expr::Placeholder(placeholder) => {
            Err(DataFusionError::Plan(format!("there is no value for the placeholder {}", placeholder.id)))
        }
        Expr::ScalarVariable(_, names) => {
            Err(DataFusionError::Plan(format!("there is no variable {}", names.join("."))))
        }
        _ => Ok(()),
    }
}

/// Refuses arithmetic of constants that overflows or divides by zero.
pub(super) fn constant(expr: &Expr) -> Result<()> {
    let Expr::BinaryExpr(binary) = expr else { return Ok(()) };
    let plain = |inner: &Expr| Ok(!matches!(inner, Expr::Literal(..) | Expr::BinaryExpr(_) | Expr::Cast(_)));
    if !matches!(binary.op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
        || expr.exists(plain)?
    {
        return Ok(());
    }
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    match compile(expr, &DFSchema::empty()).map(|compiled| compiled.evaluate(&row)) {
        Ok(Err(DataFusionError::ArrowError(error, _)))
            if matches!(*error, ArrowError::ArithmeticOverflow(_) | ArrowError::DivideByZero) =>
        {
            Err(DataFusionError::ArrowError(error, None))
        }
        _ => Ok(()),
    }
}

/// Functions that give a value or NULL for every argument.
const TOTAL_FUNCTIONS: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_part",
    "ends_with",
    "floor",
    "ceil",
    "get_field",
    "initcap",
    "isnan",
    "left",
    "lower",
    "ltrim",
    "md5",
    "named_struct",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "replace",
    "reverse",
    "right",
    "round",
    "rtrim",
    "sha256",
    "signum",
    "starts_with",
    "strpos",
    "struct",
    "trim",
    "trunc",
    "upper",
    "window",
];

/// Whether evaluating `expr` can fail for some row. Such an expression must not be moved before what guards it.
pub(super) fn can_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let mut fails = false;
    let seen = expr.apply(|node| {
        if matches!(node, Expr::ScalarFunction(call) if is_or_null(&call.func)) {
            return Ok(TreeNodeRecursion::Jump);
        }
        fails = fails_itself(node, schema);
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails || seen.is_err()
}

fn fails_itself(expr: &Expr, schema: &DFSchema) -> bool {
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    match expr {
        Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::TryCast(_)
        | Expr::InList(_)
        | Expr::Like(_) => false,
        Expr::SimilarTo(like) => !matches!(like.pattern.as_ref(), Expr::Literal(..)),
        Expr::Negative(inner) => !type_of(inner).is_some_and(|t| t.is_floating()),
        Expr::Cast(cast) => match type_of(&cast.expr) {
            Some(from) => !cast_is_total(&from, cast.field.data_type()),
            None => true,
        },
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::Plus | Operator::Minus | Operator::Multiply => {
                !(type_of(&binary.left).is_some_and(|t| t.is_floating())
                    && type_of(&binary.right).is_some_and(|t| t.is_floating()))
            }
            Operator::Divide | Operator::Modulo => {
                let divisor = match binary.right.as_ref() {
                    Expr::Literal(value, _) => value.to_string().parse::<f64>().is_ok_and(|n| n > 0.0),
                    _ => false,
                };
                let plain = type_of(&binary.left).is_some_and(|t| t.is_floating() || t.is_integer());
                !(plain && divisor)
            }
            // A pattern may be none.
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
                !matches!(binary.right.as_ref(), Expr::Literal(..))
            }
            _ => false,
        },
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            // A length or place below one is refused on the row.
            let positive =
                |arg: &Expr| matches!(arg, Expr::Literal(n, _) if n.to_string().parse::<i64>().is_ok_and(|n| n > 0));
            let total = match func.name() {
                "substr" => args[1..].iter().all(positive),
                "split_part" => args.last().is_some_and(positive),
                "date_trunc" => match args.get(1).and_then(type_of) {
                    Some(DataType::Timestamp(_, zone)) => zone.is_none_or(|zone| is_utc(&zone)),
                    _ => false,
                },
                name => TOTAL_FUNCTIONS.contains(&name) || is_closed(func).is_some(),
            };
            let float = func.name() == "abs" && args.first().and_then(type_of).is_some_and(|t| t.is_floating());
            !(total || float)
        }
        _ => true,
    }
}

fn cast_is_total(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    if from == to || *from == Null || (from.is_integer() || *from == Boolean) && to.is_floating() {
        return true;
    }
    let digits = |t: &DataType| match t {
        Int8 | UInt8 => Some(3),
        Int16 | UInt16 => Some(5),
        Int32 | UInt32 => Some(10),
        Int64 => Some(19),
        UInt64 => Some(20),
        _ => None,
    };
    let decimal = |t: &DataType| match t {
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => Some((i16::from(*p), i16::from(*s))),
        _ => None,
    };
    match (from, to) {
        (Int8 | Int16 | Int32, Int64) | (Int8 | Int16, Int32) | (Int8, Int16) => true,
        (UInt8 | UInt16 | UInt32, UInt64 | Int64) | (UInt8 | UInt16, UInt32 | Int32) | (UInt8, UInt16 | Int16) => true,
        (Float16 | Float32, Float64) | (Float16, Float32) => true,
        // A wall clock's time may not be there in a zone, and a finer unit may not reach as far.
        (Timestamp(unit, zone), Timestamp(finer, other)) => {
            finer <= unit && (zone.is_some() || other.as_ref().is_none_or(|zone| is_utc(zone)))
        }
        (Date32 | Date64, Timestamp(unit, zone)) => *unit < TimeUnit::Nanosecond && zone.is_none(),
        (Timestamp(..), Date32 | Date64) | (Date32 | Date64, Date64) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Dictionary(_, value), to) => cast_is_total(value, to),
        (from, Utf8 | LargeUtf8 | Utf8View) => from.is_primitive() || *from == Boolean,
        (from, to) if decimal(to).is_some() => {
            let (precision, scale) = decimal(to).unwrap_or_default();
            match (digits(from), decimal(from)) {
                (Some(digits), _) => precision - scale >= digits,
                (_, Some((p, s))) => precision - scale >= p - s && scale >= s,
                _ => false,
            }
        }
        (from, to) => decimal(from).is_some() && to.is_floating(),
    }
}
