//! What sqlparser reads and DataFusion's planner does not: rewritten where it has a meaning, refused where DataFusion
//! would read over it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, Expr, JoinConstraint, JoinOperator, SetExpr, SetOperator, SetQuantifier, Spanned, Value,
    VisitMut, VisitorMut,
};

use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::{precedence, shared_columns};
use crate::error::{Error, Result};

/// A function as called in the text.
pub(super) struct Call {
    pub name: String,
    pub place: Location,
    /// Whether it is followed by `OVER`.
    pub over: bool,
}

/// Makes a query or expression plain; `source` is the text that it was parsed from. Gives the functions that it calls.
pub(super) fn normalize<T: VisitMut>(tree: &mut T, source: &str) -> Result<Vec<Call>> {
    let mut visitor = Normalize { source, calls: vec![] };
    match tree.visit(&mut visitor) {
        ControlFlow::Continue(()) => Ok(visitor.calls),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Normalize<'a> {
    source: &'a str,
    calls: Vec<Call>,
}

impl VisitorMut for Normalize<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        match sets(&query.body) {
            Some((operator, span)) => {
                let error = Error::user(format!("not supported: {operator} ALL; {operator} without ALL is supported"));
                ControlFlow::Break(error.at(self.source, span.start.line as usize, span.start.column as usize))
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        // `FROM t` is `SELECT * FROM t`.
        if select.flavor == ast::SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            select.projection.push(ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default()));
        }
        select.from.iter_mut().flat_map(|from| &mut from.joins).for_each(|join| sided(&mut join.join_operator));
        if let Err(message) = shared_columns::keep_named(select) {
            let start = select.span().start;
            return ControlFlow::Break(Error::user(message).at(
                self.source,
                start.line as usize,
                start.column as usize,
            ));
        }
        select.from.iter_mut().for_each(|from| shared_columns::enclose(from, false));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
        if let ast::TableFactor::NestedJoin { table_with_joins, alias } = factor {
            shared_columns::enclose(table_with_joins, alias.is_none());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        precedence::mend(expr);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Function(function) = expr
            && let [.., last] = &function.name.0[..]
            && let Some(ident) = last.as_ident()
        {
            let name = super::ident::name(ident.clone());
            self.calls.push(Call { name, place: ident.span.start, over: function.over.is_some() });
        }
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            // `f(x).start` is a field of what the function gives, as `f(x)['start']` is.
            let mut names = matches!(root.as_ref(), Expr::Identifier(_));
            for access in access_chain {
                match access {
                    AccessExpr::Dot(Expr::Identifier(_)) if names => {}
                    AccessExpr::Dot(field) => {
                        if let Expr::Identifier(ident) = field {
                            let name = super::ident::name(ident.clone());
                            *field = Expr::Value(Value::SingleQuotedString(name).with_span(ident.span));
                        }
                    }
                    AccessExpr::Subscript(_) => names = false,
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// `SEMI JOIN` and `ANTI JOIN` keep rows of the left side, as they do where it is said.
fn sided(operator: &mut JoinOperator) {
    let on = |constraint: &mut JoinConstraint| std::mem::replace(constraint, JoinConstraint::None);
    match operator {
        JoinOperator::Semi(constraint) => *operator = JoinOperator::LeftSemi(on(constraint)),
        JoinOperator::Anti(constraint) => *operator = JoinOperator::LeftAnti(on(constraint)),
        _ => {}
    }
}

/// The first `INTERSECT ALL` or `EXCEPT ALL`, which DataFusion plans as if it were no multiset operation.
fn sets(body: &SetExpr) -> Option<(SetOperator, Span)> {
    match body {
        SetExpr::SetOperation { op, set_quantifier, left, right } => {
            let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
            match op {
                SetOperator::Intersect | SetOperator::Except | SetOperator::Minus if all => Some((*op, body.span())),
                _ => sets(left).or_else(|| sets(right)),
            }
        }
        _ => None,
    }
}
