//! How deep a statement may be: what would become a tree that is deeper than stacks and planning time allow is refused
//! by its tokens, before there is a tree.
//!
//! Lists (of columns, values, rows, `IN (..)`) are as long as one likes. Parentheses are counted by the parser
//! ([`DEEPEST`]); what is chained by operators without them becomes a tree as deep as the chain is long. Chains of `AND`
//! and `OR` are made trees that are as flat as can be ([`flatten`]), so they may be longer.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// How deep parentheses, subqueries and the like may be nested.
pub(super) const DEEPEST: usize = 100;

/// How many operators may follow each other without parentheses.
const LONGEST: usize = 1_000;

/// How many `AND` and `OR` may follow each other without parentheses.
const MOST_CONDITIONS: usize = 5_000;

/// How many `JOIN`, and how many `UNION` and the like, may follow each other in one query.
const MOST_RELATIONS: usize = 200;

/// The levels of an expression that no statement reaches: for those that are built in Rust.
pub(crate) const DEEPEST_EXPRESSION: usize = 2 * LONGEST;

/// What was counted since the chain began.
#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    conditions: usize,
    joins: usize,
    sets: usize,
}

/// The first place where the tokens of a statement go beyond a limit, and what is wrong there.
pub(super) fn beyond(tokens: &[TokenWithSpan]) -> Option<(Location, String)> {
    let mut above: Vec<Level> = Vec::new();
    let mut level = Level::default();
    // Types such as ARRAY<ARRAY<..>>.
    let mut types = 0;
    let mut before = None;
    for token in tokens {
        let place = token.span.start;
        let too_long = |what: &str, most: usize, do_this: &str| {
            Some((place, format!("more than {most} {what} follow each other here; {do_this}")))
        };
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => above.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket | Token::RBrace => level = above.pop().unwrap_or_default(),
            Token::Comma => (level.operators, level.conditions) = (0, 0),
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR => {
                    level.operators = 0;
                    level.conditions += 1;
                }
                Keyword::JOIN => {
                    level.joins += 1;
                    (level.operators, level.conditions) = (0, 0);
                }
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    level = Level { sets: level.sets + 1, ..Level::default() };
                }
                Keyword::NOT | Keyword::IS | Keyword::COLLATE => level.operators += 1,
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::ORDER
                | Keyword::ON
                | Keyword::CASE
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE
                | Keyword::SET => (level.operators, level.conditions) = (0, 0),
                _ => {}
            },
            Token::Lt if matches!(before, Some(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)) => types += 1,
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::SemiColon
            | Token::EOF => {}
            _ => level.operators += 1,
        }
        before = match &token.token {
            Token::Word(word) => Some(word.keyword),
            _ => None,
        };
        if types > DEEPEST {
            return Some((place, format!("types are nested more than {DEEPEST} deep here")));
        }
        if above.len() > LONGEST {
            return Some((
                place,
                format!("this is nested too deeply: at most {DEEPEST} levels of parentheses are read"),
            ));
        }
        if level.operators > LONGEST {
            return too_long("operators", LONGEST, "put parentheses around parts, or compute parts in a subquery");
        }
        if level.conditions > MOST_CONDITIONS {
            return too_long("AND and OR", MOST_CONDITIONS, "use IN (..), or join with a table of the values");
        }
        if level.joins > MOST_RELATIONS {
            return too_long("JOINs", MOST_RELATIONS, "join parts in views");
        }
        if level.sets > MOST_RELATIONS {
            return too_long("set operations", MOST_RELATIONS, "unite parts in views, or in one table");
        }
    }
    None
}

/// A chain that is at most this long stays as it was read.
const SHORT: usize = 16;

/// Makes long chains of `AND` and of `OR` trees of little depth, in the same order.
pub(super) fn flatten<T: VisitMut>(tree: &mut T) {
    let _ = tree.visit(&mut Flatten);
}

struct Flatten;

impl VisitorMut for Flatten {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::BinaryOp { op, .. } = expr else { return ControlFlow::Continue(()) };
        let op = op.clone();
        if !matches!(op, BinaryOperator::And | BinaryOperator::Or) || chain(expr, &op) <= SHORT {
            return ControlFlow::Continue(());
        }
        let mut parts = Vec::new();
        let mut rest = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        loop {
            match rest {
                Expr::BinaryOp { left, op: other, right } if other == op => {
                    parts.push(*right);
                    rest = *left;
                }
                first => {
                    parts.push(first);
                    break;
                }
            }
        }
        parts.reverse();
        while parts.len() > 1 {
            let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
            let mut single = parts.into_iter();
            while let Some(left) = single.next() {
                pairs.push(match single.next() {
                    Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                    None => left,
                });
            }
            parts = pairs;
        }
        if let Some(whole) = parts.pop() {
            *expr = whole;
        }
        ControlFlow::Continue(())
    }
}

/// How many operators `op` the left spine of an expression has.
fn chain(expr: &Expr, op: &BinaryOperator) -> usize {
    let (mut length, mut inner) = (0, expr);
    while let Expr::BinaryOp { left, op: other, .. } = inner
        && other == op
    {
        length += 1;
        inner = left;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().message().to_string()
    }

    #[test]
    fn what_is_chained_or_nested_has_a_limit() {
        let chain = |operator: &str, n: usize| format!("SELECT 1{} FROM t", format!(" {operator} 1").repeat(n));
        assert!(parse(&chain("+", 999)).is_ok());
        assert!(refused(&chain("+", 3_000)).starts_with("more than 1000 operators follow each other here"));
        assert!(parse(&chain("AND", 4_999)).is_ok());
        assert!(refused(&chain("OR", 6_000)).starts_with("more than 5000 AND and OR"));
        let nested = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nested(40)).is_ok());
        assert!(refused(&nested(200)).contains("nested too deeply"));
        assert!(refused(&nested(100_000)).contains("nested too deeply"));
        assert!(refused(&format!("SELECT {}1", "- ".repeat(900))).contains("nested too deeply"));
        assert!(refused(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(300))).contains("set operations"));
        let types = format!("CREATE TABLE t (a {}INT{})", "ARRAY<".repeat(5_000), ">".repeat(5_000));
        assert!(refused(&types).contains("nested"));
        // Lists are not chains.
        let list = vec!["-1 + 2"; 10_000].join(", ");
        assert!(parse(&format!("SELECT a IN ({list}) FROM t")).is_ok());
        assert!(parse(&format!("INSERT INTO t VALUES {}", vec!["(1, -2, 'a')"; 10_000].join(", "))).is_ok());
    }
}
