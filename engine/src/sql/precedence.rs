//! What sqlparser binds otherwise than SQL does.
//!
//! It takes all that follows `IS [NOT] DISTINCT FROM` for its right side, `AND` and `OR` among it. Parentheses are nodes of the
//! tree, so an operator that stands below one that binds more tightly, without parentheses, is where that happened.

use std::mem;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

/// How tightly `IS` binds.
const IS: u8 = 5;

/// How tightly a node binds its left operand, if less tightly than comparisons.
fn binds(expr: &Expr) -> Option<u8> {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or, .. } => Some(1),
        Expr::BinaryOp { op: BinaryOperator::Xor, .. } => Some(2),
        Expr::BinaryOp { op: BinaryOperator::And, .. } => Some(3),
        Expr::UnaryOp { op: UnaryOperator::Not, .. } => Some(4),
        Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_) => Some(IS),
        _ => None,
    }
}

/// A node's left operand, or that of an operator behind it.
fn left(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::BinaryOp { left, .. } => Some(left),
        Expr::IsDistinctFrom(inner, _)
        | Expr::IsNotDistinctFrom(inner, _)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => Some(inner),
        _ => None,
    }
}

/// The right operand of a node that binds less tightly than comparisons.
fn right(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::Xor | BinaryOperator::And, right, .. } => Some(right),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Some(expr),
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => Some(right),
        _ => None,
    }
}

/// As far down on the left as nothing binds more tightly than `loosest`.
fn leftmost(expr: &mut Expr, loosest: u8) -> &mut Expr {
    let deeper = binds(expr).is_some_and(|other| other <= loosest) && left(expr).is_some();
    match deeper {
        true => match left(expr) {
            Some(below) => leftmost(below, loosest),
            None => unreachable!("a left operand was there"),
        },
        false => expr,
    }
}

fn nothing() -> Expr {
    Expr::Value(Value::Null.into())
}

/// Gives a node whose operands are in order its own right operand; what binds less tightly goes above it.
pub(super) fn mend(expr: &mut Expr) {
    let Some(own) = binds(expr) else { return };
    let Some(operand) = right(expr) else { return };
    // `AND` and `OR` of equals may be in any order: a long chain is balanced.
    let loosest = if matches!(own, IS) { own } else { own - 1 };
    if binds(operand).is_none_or(|other| other > loosest) {
        return;
    }
    let mut whole = mem::replace(operand, nothing());
    let place = leftmost(&mut whole, loosest);
    let first = mem::replace(place, nothing());
    if let Some(operand) = right(expr) {
        *operand = first;
    }
    *place = mem::replace(expr, nothing());
    *expr = whole;
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::{VisitMut, VisitorMut};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    struct Mend;

    impl VisitorMut for Mend {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            mend(expr);
            ControlFlow::Continue(())
        }
    }

    fn parsed(text: &str) -> Expr {
        let mut expr = Parser::new(&GenericDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap();
        assert!(expr.visit(&mut Mend).is_continue());
        expr
    }

    /// The same without parentheses.
    fn bare(mut expr: Expr) -> Expr {
        struct Bare;
        impl VisitorMut for Bare {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                if let Expr::Nested(inner) = expr {
                    *expr = mem::replace(inner, nothing());
                }
                ControlFlow::Continue(())
            }
        }
        assert!(expr.visit(&mut Bare).is_continue());
        expr
    }

    #[test]
    fn is_distinct_from_takes_one_operand() {
        for (text, meant) in [
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c", "(a IS NOT DISTINCT FROM b) OR c"),
            ("x AND a IS DISTINCT FROM b OR c", "(x AND (a IS DISTINCT FROM b)) OR c"),
            ("x OR a IS DISTINCT FROM b AND c", "x OR ((a IS DISTINCT FROM b) AND c)"),
            ("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c"),
            ("x AND NOT a IS DISTINCT FROM b OR c AND d", "(x AND (NOT (a IS DISTINCT FROM b))) OR (c AND d)"),
            ("a IS DISTINCT FROM b = c", "a IS DISTINCT FROM (b = c)"),
            ("a IS DISTINCT FROM b + 1 AND c", "(a IS DISTINCT FROM (b + 1)) AND c"),
            ("a IS DISTINCT FROM b IS NULL", "(a IS DISTINCT FROM b) IS NULL"),
            ("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)"),
            ("a IS DISTINCT FROM NOT b AND c", "(a IS DISTINCT FROM (NOT b)) AND c"),
            (
                "a IS DISTINCT FROM b AND c IS DISTINCT FROM d AND e",
                "(a IS DISTINCT FROM b) AND ((c IS DISTINCT FROM d) AND e)",
            ),
            (
                "a IS DISTINCT FROM b OR c IS NOT DISTINCT FROM d AND e",
                "(a IS DISTINCT FROM b) OR ((c IS NOT DISTINCT FROM d) AND e)",
            ),
            ("a AND b OR c AND NOT d OR e", "((a AND b) OR (c AND (NOT d))) OR e"),
        ] {
            assert_eq!(bare(parsed(text)).to_string(), bare(parsed(meant)).to_string(), "{text}");
            assert_eq!(bare(parsed(text)), bare(parsed(meant)), "{text}");
        }
    }
}
