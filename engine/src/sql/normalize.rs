//! What sqlparser reads and DataFusion's planner does not: rewritten where it has a meaning, refused where DataFusion
//! would read over it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinConstraint,
    JoinOperator, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::{dialect, precedence, shared_columns};
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

impl Normalize<'_> {
    fn error(&self, message: String, span: Span) -> Error {
        Error::user(message).at(self.source, span.start.line as usize, span.start.column as usize)
    }
}

/// Makes an expression, not those in it, say what SQL means. Errors: what is wrong, and where.
fn meant(expr: &mut Expr) -> Result<(), (String, Span)> {
    match expr {
        Expr::Value(value) => {
            let span = value.span;
            if let Some(number) = dialect::number(value).map_err(|message| (message, span))? {
                *expr = number;
            }
        }
        Expr::BinaryOp { op: BinaryOperator::BitwiseXor, left, right } => {
            let span = left.span().union(&right.span());
            let message = format!(
                "^ is power in Postgres and exclusive or in Spark: write power({left}, {right}), or {left} XOR {right} for bits"
            );
            return Err((message, span));
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            if !matches!(name.as_str(), "date_format" | "to_char") {
                return Ok(());
            }
            let span = function.name.span();
            let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
            let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))] = &mut list.args[..] else { return Ok(()) };
            let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(pattern), .. }) = pattern else {
                let message = format!("the pattern of {name} must be a constant text");
                return Err((message, span));
            };
            *pattern = dialect::time_pattern(&name, pattern).map_err(|message| (message, span))?;
        }
        _ => {}
    }
    Ok(())
}

impl VisitorMut for Normalize<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        if let SetExpr::Values(values) = query.body.as_mut() {
            dialect::floats_in_columns(values);
        }
        match sets(&query.body) {
            Some((operator, span)) => {
                let message = format!("not supported: {operator} ALL; {operator} without ALL is supported");
                ControlFlow::Break(self.error(message, span))
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        // `FROM t` is `SELECT * FROM t`.
        if select.flavor == ast::SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            select.projection.push(ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default()));
        }
        name_as_written(&mut select.projection);
        select.from.iter_mut().flat_map(|from| &mut from.joins).for_each(|join| sided(&mut join.join_operator));
        if let Err(message) = shared_columns::keep_named(select) {
            return ControlFlow::Break(self.error(message, select.span()));
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
        if let Err((message, span)) = meant(expr) {
            return ControlFlow::Break(self.error(message, span));
        }
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

/// Names each column that is computed and has no name by what it is written as, once.
fn name_as_written(items: &mut [SelectItem]) {
    let mut names = Vec::new();
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let name = expr.to_string();
        if names.contains(&name) {
            continue;
        }
        let alias = Ident::with_quote('"', name.clone());
        names.push(name);
        let expr = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
        *item = SelectItem::ExprWithAlias { expr, alias };
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
