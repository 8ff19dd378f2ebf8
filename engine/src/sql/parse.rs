//! Text to statements. Queries and expressions are parsed by DataFusion's sqlparser; the statements around them are
//! Flink's more than any dialect's, so they have their own small parser on the same tokens.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};
use headwater_connectors::OutputMode;

use super::advice;
use super::ddl::{self, Declared};
use super::ident;
use super::interval::interval_micros;
use super::limits;
use super::sqlparser::{offset, tidy};
use super::statement::*;
use crate::error::{Error, Result};
use crate::plan::OnError;
use crate::shield;

static DIALECT: GenericDialect = GenericDialect {};

/// The statements of a text, in order. An error points at its line and column.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    shield::ample(|| statements(text))
}

fn statements(text: &str) -> Result<Vec<Parsed>> {
    let source: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
    let tokens = Tokenizer::new(&DIALECT, &source).tokenize_with_location().map_err(|error| {
        Error::user(error.message.clone()).at(&source, error.location.line as usize, error.location.column as usize)
    })?;
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| token.token == Token::SemiColon) {
        let mut tokens: Vec<_> =
            tokens.iter().skip_while(|t| matches!(t.token, Token::Whitespace(_) | Token::EOF)).cloned().collect();
        while tokens.last().is_some_and(|t| matches!(t.token, Token::Whitespace(_) | Token::EOF)) {
            tokens.pop();
        }
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { continue };
        let (start, end) = (first.span.start, last.span.end);
        let text = source[offset(&source, start)..offset(&source, end)].to_string();
        let mut parser = StatementParser::new(tokens, source.clone())?;
        let statement = parser.statement()?;
        parser.end()?;
        let (line, column) = (start.line as usize, start.column as usize);
        statements.push(Parsed { statement, text, line, column, source: source.clone() });
    }
    Ok(statements)
}

/// The one query that `text` is.
pub fn parse_query(text: &str) -> Result<Query> {
    let mut parsed = parse(text)?;
    match (parsed.pop(), parsed.is_empty()) {
        (Some(Parsed { statement: Statement::Query(query), .. }), true) => Ok(query),
        (Some(other), true) => Err(Error::user("this is no query; a query starts with SELECT, WITH or VALUES").at(
            &other.source,
            other.line,
            other.column,
        )),
        (Some(last), false) => {
            Err(Error::user("give one query, not several statements").at(&last.source, last.line, last.column))
        }
        (None, _) => Err(Error::user("there is no query here")),
    }
}

/// One expression.
pub fn parse_scalar(text: &str) -> Result<(Scalar, Option<String>)> {
    shield::ample(|| scalar(text))
}

fn scalar(text: &str) -> Result<(Scalar, Option<String>)> {
    let source: Arc<str> = text.into();
    let tokens = Tokenizer::new(&DIALECT, &source).tokenize_with_location().map_err(|error| {
        Error::user(error.message.clone()).at(&source, error.location.line as usize, error.location.column as usize)
    })?;
    let mut parser = StatementParser::new(tokens, source)?;
    let mut ast = parser.with(|p| p.parse_expr_with_alias())?;
    limits::flatten(&mut ast.expr);
    parser.end()?;
    let alias = ast.alias.map(ident::name);
    Ok((Scalar { ast: ast.expr, source: parser.source }, alias))
}

/// A table or view that is read whole, or the part of it that is called so.
struct Relation {
    name: String,
    part: Option<String>,
    span: Span,
}

impl Relation {
    /// Its name, if all of it is meant.
    fn whole(self) -> Option<String> {
        self.part.is_none().then_some(self.name)
    }
}

/// The parser of one statement's tokens.
struct StatementParser {
    parser: Parser<'static>,
    tokens: Vec<TokenWithSpan>,
    source: Arc<str>,
}

impl StatementParser {
    /// Errors: a statement that goes deeper than the limits.
    fn new(tokens: Vec<TokenWithSpan>, source: Arc<str>) -> Result<Self> {
        let beyond = limits::beyond(&tokens);
        let parser =
            Parser::new(&DIALECT).with_recursion_limit(limits::DEEPEST).with_tokens_with_locations(tokens.clone());
        let parser = StatementParser { parser, tokens, source };
        match beyond {
            Some((place, message)) => Err(parser.error_at(place, message)),
            None => Ok(parser),
        }
    }

    /// Runs sqlparser, turning its errors into ours.
    fn with<T>(&mut self, f: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>) -> Result<T> {
        f(&mut self.parser).map_err(|error| self.located(&error))
    }

    fn located(&self, error: &ParserError) -> Error {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
            ParserError::RecursionLimitExceeded => {
                let most = limits::DEEPEST;
                let message = format!("this is nested too deeply: at most {most} levels of parentheses are read");
                return self.error_at(self.place(), message);
            }
        };
        let split = message.rsplit_once(" at Line: ");
        if let Some(advice) = advice::syntax(message, self.word(0).or_else(|| self.word_before()).as_deref()) {
            return self.error_at(self.place(), advice);
        }
        let Some((message, place)) = split else {
            let end = self.tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end);
            return self.error_at(end, tidy(message));
        };
        let mut numbers = place.split(", Column: ").map(|n| n.trim().parse::<u64>().unwrap_or(1));
        let (line, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        self.error_at(Location { line, column }, tidy(message))
    }

    fn error_at(&self, place: Location, message: impl Into<String>) -> Error {
        Error::user(message).at(&self.source, place.line as usize, place.column as usize)
    }

    /// An error at the next token, or at the end of the last one.
    fn error(&self, message: impl Into<String>) -> Error {
        self.error_at(self.place(), message)
    }

    fn place(&self) -> Location {
        let token = self.parser.peek_token();
        match token.token {
            Token::EOF => self.tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end),
            _ => token.span.start,
        }
    }

    fn found(&self) -> String {
        match self.parser.peek_token().token {
            Token::EOF => "the end of the statement".into(),
            token => format!("'{token}'"),
        }
    }

    fn expected(&self, what: &str) -> Error {
        self.error(format!("expected {what}, found {}", self.found()))
    }

    fn end(&self) -> Result<()> {
        match self.parser.peek_token().token {
            Token::EOF => Ok(()),
            _ => Err(self.expected("the end of the statement (';')")),
        }
    }

    /// The word `ahead` tokens on, in upper case; `None` for anything else and for quoted words.
    fn word(&self, ahead: usize) -> Option<String> {
        match self.parser.peek_nth_token(ahead).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// The word that was taken last, in upper case.
    fn word_before(&self) -> Option<String> {
        let before = self.parser.index().checked_sub(1).and_then(|at| self.tokens.get(at))?;
        match &before.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Takes these words if they come next.
    fn eat(&mut self, words: &[&str]) -> bool {
        let there = words.iter().enumerate().all(|(i, word)| self.word(i).as_deref() == Some(word));
        if there {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        there
    }

    fn expect(&mut self, words: &[&str]) -> Result<()> {
        match self.eat(words) {
            true => Ok(()),
            false => Err(self.expected(&words.join(" "))),
        }
    }

    fn name(&mut self) -> Result<String> {
        let place = self.place();
        let ident = self.with(|p| p.parse_identifier())?;
        if self.parser.peek_token().token != Token::Period {
            return Ok(ident::name(ident));
        }
        let mut last = ident;
        while self.parser.consume_token(&Token::Period) {
            last = self.with(|p| p.parse_identifier())?;
        }
        Err(self.error_at(place, format!("names have one part, for there are no schemas or catalogs: write {last}")))
    }

    /// The name of what is read whole: of a table or view, or its `.late`, `.rejected` or `.errors`.
    fn relation(&mut self) -> Result<Relation> {
        let span = self.parser.peek_token().span;
        let dotted = self.parser.peek_nth_token(1).token == Token::Period;
        let part = self.word(2).filter(|part| dotted && matches!(part.as_str(), "LATE" | "REJECTED" | "ERRORS"));
        let Some(part) = part else { return Ok(Relation { name: self.name()?, part: None, span }) };
        let ident = self.with(|p| p.parse_identifier())?;
        self.parser.advance_token();
        self.parser.advance_token();
        Ok(Relation { name: ident::name(ident), part: Some(part.to_lowercase()), span })
    }

    fn query(&mut self) -> Result<Query> {
        let place = self.parser.peek_token().span.start;
        let mut ast = self.with(|p| p.parse_query())?;
        limits::flatten(&mut ast);
        if !ast.locks.is_empty() {
            return Err(self.error_at(place, "FOR UPDATE and FOR SHARE are not supported: reads take no locks"));
        }
        Ok(Query { ast, source: self.source.clone() })
    }

    /// `SELECT * FROM name`, with the place of the name.
    fn select_from(&self, relation: &Relation) -> Result<Query> {
        let span = relation.span;
        let part = relation.part.as_ref().map(|part| format!(".{part}")).unwrap_or_default();
        let quoted = format!("\"{}\"{part}", relation.name.replace('"', "\"\""));
        let mut tokens = Tokenizer::new(&DIALECT, "SELECT * FROM").tokenize_with_location().unwrap_or_default();
        tokens.push(TokenWithSpan { token: Token::Whitespace(Whitespace::Space), span });
        let mut name = Tokenizer::new(&DIALECT, &quoted).tokenize_with_location().unwrap_or_default();
        name.iter_mut().for_each(|token| token.span = span);
        tokens.append(&mut name);
        let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens);
        let ast = parser.parse_query().map_err(|error| self.located(&error))?;
        Ok(Query { ast, source: self.source.clone() })
    }

    fn statement(&mut self) -> Result<Statement> {
        let first = self.word(0);
        Ok(match first.as_deref() {
            Some("SELECT" | "WITH" | "VALUES" | "FROM") => Statement::Query(self.query()?),
            None if self.parser.peek_token().token == Token::LParen => Statement::Query(self.query()?),
            Some("CREATE") => self.create()?,
            Some("INSERT") => self.insert()?,
            Some("DELETE") => self.delete()?,
            Some("UPDATE") => self.update()?,
            Some("EXPLAIN") => self.explain()?,
            Some("SHOW") => self.show()?,
            Some("DESCRIBE" | "DESC") => {
                self.parser.advance_token();
                self.eat(&["TABLE"]);
                let Relation { name, part, .. } = self.relation()?;
                Statement::Describe(part.map(|part| format!("{name}.{part}")).unwrap_or(name))
            }
            Some("DROP") => self.drop()?,
            Some("SET") => self.set()?,
            Some(word) if advice::statement(word).is_some() => {
                let advice = advice::statement(word).unwrap_or_default();
                return Err(self.error(format!("there is no {word} here: {advice}")));
            }
            _ => {
                return Err(self.expected(
                    "a statement (SELECT, CREATE TABLE, CREATE VIEW, CREATE SINK, INSERT, UPDATE, DELETE, EXPLAIN, \
                     SHOW, DESCRIBE, DROP or SET)",
                ));
            }
        })
    }

    fn create(&mut self) -> Result<Statement> {
        self.expect(&["CREATE"])?;
        let or_replace = self.eat(&["OR", "REPLACE"]);
        if self.eat(&["EXTERNAL", "TABLE"]) {
            self.parser.prev_token();
            return Err(self.error("write CREATE TABLE name (..) WITH ('connector' = '..', ..)"));
        }
        if self.eat(&["TABLE"]) {
            let if_not_exists = self.if_not_exists(or_replace)?;
            return self.create_table(or_replace, if_not_exists);
        }
        let materialized = self.eat(&["MATERIALIZED"]);
        if self.eat(&["VIEW"]) {
            let if_not_exists = self.if_not_exists(or_replace)?;
            return self.create_view(or_replace, if_not_exists, materialized);
        }
        if !materialized && self.eat(&["SINK"]) {
            let if_not_exists = self.if_not_exists(or_replace)?;
            return self.create_sink(or_replace, if_not_exists);
        }
        let word = self.word(0).unwrap_or_default();
        match advice::create(&word) {
            Some(advice) => Err(self.error(format!("there is no CREATE {word} here: {advice}"))),
            None => Err(self.expected("TABLE, VIEW, MATERIALIZED VIEW or SINK")),
        }
    }

    fn if_not_exists(&mut self, or_replace: bool) -> Result<bool> {
        let place = self.place();
        let given = self.eat(&["IF", "NOT", "EXISTS"]);
        match given && or_replace {
            true => Err(self.error_at(place, "OR REPLACE and IF NOT EXISTS exclude each other")),
            false => Ok(given),
        }
    }

    fn create_table(&mut self, or_replace: bool, if_not_exists: bool) -> Result<Statement> {
        let name = self.name()?;
        let mut declared = Declared::default();
        if self.parser.consume_token(&Token::LParen) && !self.parser.consume_token(&Token::RParen) {
            loop {
                self.table_element(&mut declared)?;
                if self.parser.consume_token(&Token::RParen) {
                    break;
                }
                if !self.parser.consume_token(&Token::Comma) {
                    return Err(self.expected("',' or ')' after a column"));
                }
            }
        }
        if self.word(0).as_deref() == Some("AS") {
            return Err(self.error("CREATE TABLE .. AS is not supported; use CREATE VIEW .. AS, or INSERT INTO"));
        }
        let mut options = self.options()?;
        let connector = options.0.remove("connector");
        let schema = ddl::schema(&declared, &self.source)?;
        for (column, place) in declared.named() {
            let known = schema.as_ref().is_none_or(|s| s.column_with_name(column).is_some());
            if !known {
                return Err(self.error_at(place, format!("the table has no column '{column}'")));
            }
        }
        let watermark = declared.watermark.map(|(watermark, _)| watermark);
        let primary_key = declared.primary_key.into_iter().map(|(column, _)| column).collect();
        Ok(Statement::CreateTable(CreateTable {
            name,
            or_replace,
            if_not_exists,
            schema,
            watermark,
            primary_key,
            connector,
            options,
        }))
    }

    fn table_element(&mut self, declared: &mut Declared) -> Result<()> {
        if self.word(0).as_deref() == Some("WATERMARK") && self.word(1).as_deref() == Some("FOR") {
            let place = self.place();
            if declared.watermark.is_some() {
                return Err(self.error("a table has one watermark"));
            }
            let watermark = self.watermark()?;
            declared.watermark = Some((watermark, place));
            return Ok(());
        }
        self.eat(&["CONSTRAINT"]).then(|| self.name()).transpose()?;
        if self.eat(&["PRIMARY", "KEY"]) {
            self.with(|p| p.expect_token(&Token::LParen))?;
            loop {
                let place = self.place();
                declared.primary_key.push((self.name()?, place));
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.with(|p| p.expect_token(&Token::RParen))?;
            self.eat(&["NOT", "ENFORCED"]);
            return Ok(());
        }
        let place = self.place();
        let name = self.with(|p| p.parse_identifier())?;
        let type_place = self.place();
        let data_type = self.with(|p| p.parse_data_type())?;
        let mut nullable = true;
        loop {
            if self.eat(&["NOT", "NULL"]) {
                nullable = false;
            } else if self.eat(&["PRIMARY", "KEY"]) {
                self.eat(&["NOT", "ENFORCED"]);
                declared.primary_key.push((ident::name(name.clone()), place));
            } else if !self.eat(&["NULL"]) {
                break;
            }
        }
        match self.parser.peek_token().token {
            Token::Comma | Token::RParen => {}
            _ => return Err(self.expected("',' or ')' after the column's type (or NOT NULL)")),
        }
        declared.columns.push(ddl::Column { name: ident::name(name), data_type, nullable, place: type_place });
        Ok(())
    }

    fn watermark(&mut self) -> Result<WatermarkClause> {
        self.expect(&["WATERMARK", "FOR"])?;
        let column = ident::name(self.with(|p| p.parse_identifier())?);
        self.expect(&["AS"])?;
        let place = self.place();
        let wrong = format!("write WATERMARK FOR {column} AS {column} - INTERVAL '10' SECOND, or AS {column}");
        let is_column = |expr: &ast::Expr| matches!(expr, ast::Expr::Identifier(i) if ident::name(i.clone()) == column);
        let delay = match self.with(|p| p.parse_expr())? {
            expr if is_column(&expr) => 0,
            ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Minus, right } if is_column(&left) => {
                interval_micros(&right).map_err(|error| self.error_at(place, error.message()))?
            }
            _ => return Err(self.error_at(place, wrong)),
        };
        let delay_us =
            u64::try_from(delay).map_err(|_| self.error_at(place, "the delay of a watermark can't be negative"))?;
        Ok(WatermarkClause { column, delay_us })
    }

    fn create_view(&mut self, or_replace: bool, if_not_exists: bool, materialized: bool) -> Result<Statement> {
        let name = self.name()?;
        let place = self.place();
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            columns = self.with(|p| p.parse_comma_separated(Parser::parse_identifier))?;
            self.with(|p| p.expect_token(&Token::RParen))?;
        }
        let with = self.place();
        let mut options = self.options()?;
        let on_error = self.on_error(&mut options, with)?;
        if let Some(option) = options.0.keys().next() {
            return Err(self.error_at(with, format!("a view has no option '{option}'; there is 'on_error'")));
        }
        if on_error.is_some() && !materialized {
            let message = "a plain view is a part of the queries that read it, and theirs is on_error: write CREATE \
                           MATERIALIZED VIEW, or give on_error to what reads the view";
            return Err(self.error_at(with, message));
        }
        let place_of_now = self.place();
        let from_now = self.word(0).as_deref() == Some("FROM");
        if from_now {
            self.expect(&["FROM", "NOW"])?;
            if !materialized {
                let message = "FROM NOW says when a view begins to be kept: write CREATE MATERIALIZED VIEW";
                return Err(self.error_at(place_of_now, message));
            }
        }
        self.expect(&["AS"])?;
        let mut query = self.query()?;
        if !columns.is_empty() {
            query.ast = renamed(query.ast, &name, columns).map_err(|error| self.error_at(place, error.message()))?;
        }
        let create = CreateView { name, or_replace, if_not_exists, materialized, on_error, from_now, query };
        Ok(Statement::CreateView(create))
    }

    fn create_sink(&mut self, or_replace: bool, if_not_exists: bool) -> Result<Statement> {
        let name = self.name()?;
        let mut place = self.place();
        let mut options = self.options()?;
        let (query, from) = match self.word(0).as_deref() {
            Some("AS") => {
                self.parser.advance_token();
                (self.query_before_with()?, None)
            }
            Some("FROM") => {
                self.parser.advance_token();
                match self.parser.peek_token().token {
                    Token::LParen => (self.query_before_with()?, None),
                    _ => {
                        let from = self.relation()?;
                        (self.select_from(&from)?, from.whole())
                    }
                }
            }
            _ => return Err(self.expected("FROM view, FROM (query) or AS query")),
        };
        if options.0.is_empty() {
            place = self.place();
            options = self.options()?;
        }
        let connector = options.0.remove("connector");
        let mode = match options.0.remove("mode") {
            Some(text) => ddl::output_mode(&text).map_err(|error| self.error_at(place, error.message()))?,
            None => OutputMode::default(),
        };
        let trigger = match options.0.remove("trigger") {
            Some(text) => ddl::trigger(&text).map_err(|error| self.error_at(place, error.message()))?,
            None => Trigger::default(),
        };
        let on_error = self.on_error(&mut options, place)?;
        Ok(Statement::CreateSink(CreateSink {
            name,
            or_replace,
            if_not_exists,
            query,
            from,
            connector,
            mode,
            trigger,
            on_error,
            options,
        }))
    }

    /// Takes `on_error` from options that begin at `place`.
    fn on_error(&self, options: &mut headwater_connectors::Options, place: Location) -> Result<Option<OnError>> {
        let given = options.0.remove("on_error").map(|text| text.parse());
        given.transpose().map_err(|error: Error| self.error_at(place, error.message()))
    }

    /// A query that ends before the options: sqlparser would take `FROM t WITH (..)` for hints on `t`.
    fn query_before_with(&mut self) -> Result<Query> {
        let start = self.parser.index();
        let mut depth = 0usize;
        let mut end = self.tokens.len();
        for (i, token) in self.tokens.iter().enumerate().skip(start) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) if word.keyword == Keyword::WITH && depth == 0 => {
                    let next = self.tokens[i + 1..].iter().find(|t| !matches!(t.token, Token::Whitespace(_)));
                    if next.is_some_and(|t| t.token == Token::LParen) {
                        end = i;
                    }
                }
                _ => {}
            }
        }
        let mut inner = StatementParser::new(self.tokens[start..end].to_vec(), self.source.clone())?;
        let query = inner.query()?;
        inner.end()?;
        while self.parser.index() < end {
            self.parser.next_token_no_skip();
        }
        Ok(query)
    }

    fn options(&mut self) -> Result<headwater_connectors::Options> {
        let mut options = headwater_connectors::Options::default();
        if !self.eat(&["WITH"]) {
            return Ok(options);
        }
        self.with(|p| p.expect_token(&Token::LParen))?;
        if self.parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let place = self.place();
            let key = self.key()?;
            self.with(|p| p.expect_token(&Token::Eq))?;
            let value = self.value()?;
            if options.0.insert(key.clone(), value).is_some() {
                return Err(self.error_at(place, format!("the option '{key}' is given twice")));
            }
            if self.parser.consume_token(&Token::RParen) {
                return Ok(options);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Err(self.expected("',' or ')' after an option"));
            }
        }
    }

    /// An option's or setting's name: quoted, or words joined by `.` and `-`. Lower case.
    fn key(&mut self) -> Result<String> {
        if let Token::SingleQuotedString(text) = self.parser.peek_token().token {
            self.parser.advance_token();
            return Ok(text.to_lowercase());
        }
        let mut key = String::new();
        loop {
            match self.parser.peek_token().token {
                Token::Word(word) => key.push_str(&word.value.to_lowercase()),
                _ => return Err(self.expected("an option's name, as in 'path' = '..'")),
            }
            self.parser.advance_token();
            match self.parser.peek_token().token {
                Token::Period => key.push('.'),
                Token::Minus => key.push('-'),
                _ => return Ok(key),
            }
            self.parser.advance_token();
        }
    }

    /// A string, number, word or signed number as text.
    fn value(&mut self) -> Result<String> {
        let negative = self.parser.consume_token(&Token::Minus);
        let text = match self.parser.peek_token().token {
            Token::Number(number, _) => number,
            Token::SingleQuotedString(text) if !negative => text,
            Token::DollarQuotedString(text) if !negative => text.value,
            Token::EscapedStringLiteral(text) if !negative => text,
            Token::Word(word) if !negative => word.value,
            _ => return Err(self.expected("a value: a string, a number, true or false")),
        };
        self.parser.advance_token();
        Ok(if negative { format!("-{text}") } else { text })
    }

    fn insert(&mut self) -> Result<Statement> {
        self.expect(&["INSERT", "INTO"])?;
        self.eat(&["TABLE"]);
        let table = self.name()?;
        let mut columns = Vec::new();
        let is_list = self.parser.peek_token().token == Token::LParen
            && !matches!(self.word(1).as_deref(), Some("SELECT" | "WITH" | "VALUES"));
        if is_list {
            self.parser.advance_token();
            columns = self
                .with(|p| p.parse_comma_separated(Parser::parse_identifier))?
                .into_iter()
                .map(ident::name)
                .collect();
            self.with(|p| p.expect_token(&Token::RParen))?;
        }
        match self.word(0).as_deref() {
            Some("VALUES" | "SELECT" | "WITH") => {}
            _ if self.parser.peek_token().token == Token::LParen => {}
            _ => return Err(self.expected("VALUES (..) or a query")),
        }
        let source = self.query()?;
        Ok(Statement::Insert(Insert { table, columns, source }))
    }

    fn filter(&mut self) -> Result<Option<Scalar>> {
        match self.eat(&["WHERE"]) {
            true => Ok(Some(self.scalar()?)),
            false => Ok(None),
        }
    }

    fn scalar(&mut self) -> Result<Scalar> {
        let mut ast = self.with(|p| p.parse_expr())?;
        limits::flatten(&mut ast);
        Ok(Scalar { ast, source: self.source.clone() })
    }

    fn delete(&mut self) -> Result<Statement> {
        self.expect(&["DELETE", "FROM"])?;
        let table = self.name()?;
        let filter = self.filter()?;
        Ok(Statement::Delete(Delete { table, filter }))
    }

    fn update(&mut self) -> Result<Statement> {
        self.expect(&["UPDATE"])?;
        let table = self.name()?;
        self.expect(&["SET"])?;
        let mut assignments = Vec::new();
        loop {
            let column = self.name()?;
            self.with(|p| p.expect_token(&Token::Eq))?;
            assignments.push((column, self.scalar()?));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        let filter = self.filter()?;
        Ok(Statement::Update(Update { table, assignments, filter }))
    }

    fn explain(&mut self) -> Result<Statement> {
        self.expect(&["EXPLAIN"])?;
        let kind = match self.word(0).as_deref() {
            Some("LOGICAL") => ExplainKind::Logical,
            Some("PHYSICAL") => ExplainKind::Physical,
            Some("ANALYZE") => return Err(self.error("EXPLAIN ANALYZE is not supported; use EXPLAIN")),
            _ => ExplainKind::Both,
        };
        if kind != ExplainKind::Both {
            self.parser.advance_token();
        }
        self.eat(&["PLAN", "FOR"]);
        let is_query = matches!(self.word(0).as_deref(), Some("SELECT" | "WITH" | "VALUES" | "FROM"))
            || self.parser.peek_token().token == Token::LParen;
        if is_query {
            return Ok(Statement::Explain(Explain { kind, query: self.query()?, view: None }));
        }
        self.eat(&["VIEW"]);
        if self.parser.peek_token().token == Token::EOF {
            return Err(self.expected("a query or the name of a view"));
        }
        let view = self.relation()?;
        let query = self.select_from(&view)?;
        Ok(Statement::Explain(Explain { kind, query, view: view.whole() }))
    }

    fn show(&mut self) -> Result<Statement> {
        self.expect(&["SHOW"])?;
        let show = if self.eat(&["TABLES"]) {
            Show::Tables
        } else if self.eat(&["VIEWS"]) || self.eat(&["MATERIALIZED", "VIEWS"]) {
            Show::Views
        } else if self.eat(&["SINKS"]) {
            Show::Sinks
        } else if self.eat(&["FUNCTIONS"]) {
            Show::Functions
        } else if self.eat(&["ALL"]) {
            Show::All
        } else if self.eat(&["CREATE"]) {
            let _ = self.eat(&["MATERIALIZED"]);
            if !(self.eat(&["TABLE"]) || self.eat(&["VIEW"]) || self.eat(&["SINK"])) {
                return Err(self.expected("TABLE, VIEW or SINK"));
            }
            Show::Create(self.name()?)
        } else if self.eat(&["COLUMNS"]) {
            if !(self.eat(&["FROM"]) || self.eat(&["IN"])) {
                return Err(self.expected("FROM"));
            }
            Show::Columns(self.name()?)
        } else if self.parser.peek_token().token == Token::EOF {
            return Err(self.expected("TABLES, VIEWS, SINKS, FUNCTIONS, CREATE TABLE, COLUMNS FROM, ALL or a setting"));
        } else {
            let word = self.word(0).unwrap_or_default();
            if let Some(advice) = advice::show(&word) {
                return Err(self.error(format!("there is no SHOW {word} here: {advice}")));
            }
            Show::Setting(self.key()?)
        };
        if self.word(0).as_deref() == Some("LIKE") {
            return Err(self.error("SHOW takes no LIKE: it shows all, by name"));
        }
        Ok(Statement::Show(show))
    }

    fn drop(&mut self) -> Result<Statement> {
        self.expect(&["DROP"])?;
        let kind = if self.eat(&["TABLE"]) {
            DropKind::Table
        } else if self.eat(&["MATERIALIZED", "VIEW"]) || self.eat(&["VIEW"]) {
            DropKind::View
        } else if self.eat(&["SINK"]) {
            DropKind::Sink
        } else {
            return Err(self.expected("TABLE, VIEW or SINK"));
        };
        let if_exists = self.eat(&["IF", "EXISTS"]);
        let name = self.name()?;
        let cascade = self.eat(&["CASCADE"]);
        if !cascade {
            self.eat(&["RESTRICT"]);
        }
        Ok(Statement::Drop(Drop { kind, name, if_exists, cascade }))
    }

    fn set(&mut self) -> Result<Statement> {
        self.expect(&["SET"])?;
        let key = self.key()?;
        if !self.parser.consume_token(&Token::Eq) && !self.eat(&["TO"]) {
            return Err(self.expected("="));
        }
        // A word with dashes, as in `available-now`, needs no quotes.
        let mut value = self.value()?;
        while self.parser.consume_token(&Token::Minus) {
            value = format!("{value}-{}", self.value()?);
        }
        Ok(Statement::Set { key, value })
    }
}

/// `SELECT * FROM (query) AS name (columns)`.
fn renamed(query: Box<ast::Query>, name: &str, columns: Vec<ast::Ident>) -> Result<Box<ast::Query>> {
    let template = parse_query("SELECT * FROM (SELECT 1) AS v")?;
    let mut outer = template.ast;
    let ast::SetExpr::Select(select) = outer.body.as_mut() else {
        return Err(Error::internal("a SELECT is no SELECT"));
    };
    let Some(ast::TableFactor::Derived { subquery, alias: Some(alias), .. }) =
        select.from.first_mut().map(|from| &mut from.relation)
    else {
        return Err(Error::internal("a subquery is no subquery"));
    };
    *subquery = query;
    alias.name = ast::Ident::with_quote('"', name);
    alias.columns = columns.into_iter().map(|name| ast::TableAliasColumnDef { name, data_type: None }).collect();
    Ok(outer)
}
