//! Expressions over a node's columns: compiled by DataFusion, composed and moved here.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, IsNotNullExpr, IsNullExpr, Literal, in_list};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};

use super::or_null::OrNull;
use super::{float_division, one_zero};
use crate::error::{Error, Result};
use crate::logical::{is_closed, is_or_null};

/// An expression over a node's columns.
pub(crate) type PExpr = Arc<dyn PhysicalExpr>;

/// `expr` over the columns of `schema`. Integer and decimal arithmetic fails on overflow.
pub(crate) fn compile(expr: &Expr, schema: &DFSchema) -> Result<PExpr> {
    let nested = expr.exists(|inner| {
        Ok(matches!(inner, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    })?;
    if nested {
        return Err(Error::user(format!(
            "not supported: this subquery in this place ({}); join with it instead",
            expr.schema_name()
        )));
    }
    let compiled = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let checked = compiled.transform_up(|inner| {
        let any: &dyn Any = inner.as_ref();
        Ok(match any.downcast_ref::<BinaryExpr>() {
            Some(b) if matches!(b.op(), Operator::Plus | Operator::Minus | Operator::Multiply) => {
                let checked = BinaryExpr::new(b.left().clone(), *b.op(), b.right().clone()).with_fail_on_overflow(true);
                Transformed::yes(Arc::new(checked) as PExpr)
            }
            _ => match any.downcast_ref::<ScalarFunctionExpr>() {
                Some(call) if is_or_null(call.fun()) => Transformed::yes(Arc::new(OrNull(call.args()[0].clone()))),
                Some(call) if let (Some(negated), [expr, list @ ..]) = (is_closed(call.fun()), call.args()) => {
                    let test = in_list(expr.clone(), list.to_vec(), &negated, schema.as_arrow())?;
                    Transformed::yes(one_zero::compared(test, schema.as_arrow())?)
                }
                _ => {
                    let inner = one_zero::compared(inner, schema.as_arrow())?;
                    Transformed::yes(float_division::divided(inner, schema.as_arrow())?)
                }
            },
        })
    })?;
    Ok(checked.data)
}

/// Column `index` of `schema`.
pub(crate) fn column(schema: &SchemaRef, index: usize) -> PExpr {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// All columns of `schema`.
pub(crate) fn columns(schema: &SchemaRef) -> Vec<PExpr> {
    (0..schema.fields().len()).map(|index| column(schema, index)).collect()
}

/// The NULL of a type.
pub(crate) fn null(field: &Field) -> Result<PExpr> {
    Ok(Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?)))
}

/// A boolean constant.
pub(crate) fn boolean(value: Option<bool>) -> PExpr {
    Arc::new(Literal::new(ScalarValue::Boolean(value)))
}

/// Whether `expr` has a value.
pub(crate) fn is_not_null(expr: PExpr) -> PExpr {
    Arc::new(IsNotNullExpr::new(expr))
}

/// Whether `expr` is NULL.
pub(crate) fn is_null(expr: PExpr) -> PExpr {
    Arc::new(IsNullExpr::new(expr))
}

/// `expr` with column `i` replaced by `by[i]`.
pub(crate) fn substitute(expr: &PExpr, by: &[PExpr]) -> Result<PExpr> {
    rewrite_columns(expr, |index| by.get(index).cloned())
}

/// `expr` with its columns moved.
pub(crate) fn remap(expr: &PExpr, schema: &SchemaRef, place: impl Fn(usize) -> usize) -> Result<PExpr> {
    rewrite_columns(expr, |index| Some(column(schema, place(index))))
}

fn rewrite_columns(expr: &PExpr, replace: impl Fn(usize) -> Option<PExpr>) -> Result<PExpr> {
    let mut missing = None;
    // Downwards, so that what was put in is not looked at again.
    let done = expr.clone().transform_down(|inner| {
        Ok(match column_of(&inner) {
            Some(index) => match replace(index) {
                Some(by) => Transformed::new(by, true, TreeNodeRecursion::Jump),
                None => {
                    missing = Some(index);
                    Transformed::no(inner)
                }
            },
            None => Transformed::no(inner),
        })
    })?;
    match missing {
        Some(index) => Err(Error::internal(format!("the expression {expr} uses column {index}, which is not there"))),
        None => Ok(done.data),
    }
}

/// The column that `expr` is.
pub(crate) fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let expr: &dyn Any = expr.as_ref();
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Calls `f` with each use of a column.
pub(crate) fn each_column(expr: &PExpr, mut f: impl FnMut(usize)) {
    // The closure never fails.
    let _ = expr.apply(|inner| {
        if let Some(index) = column_of(inner) {
            f(index);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Whether computing `expr` twice costs next to nothing: a column, a constant or a field of one.
pub(crate) fn is_cheap(expr: &PExpr) -> bool {
    let any: &dyn Any = expr.as_ref();
    let field = any.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == "get_field");
    any.is::<Column>() || any.is::<Literal>() || field.is_some_and(|call| call.args().iter().all(is_cheap))
}
