//! Random queries that mean the same to us and to SQLite, and random changes of the tables that they read.
//!
//! Where the judges write something in another way, a text has all: `{ours¦SQLite's}`, or `{ours¦SQLite's¦DuckDB's}`. Arithmetic stays small, division is guarded,
//! decimals and doubles are halves and quarters, so that every answer is exact on both sides.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::oracle::{Row, one_of};

/// What a value is, as far as queries must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SMALLINT`, `INT` or `BIGINT`, small enough to compute with.
    Int,
    /// A `BIGINT` of any size.
    Wide,
    /// `DOUBLE` or `DECIMAL`.
    Real,
    Text,
    Bool,
}

use Kind::{Bool, Int, Real, Text, Wide};

/// A table's columns: name, type in SQL, type in SQLite, kind, values (`-` for NULL).
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, &'static str, &'static str, Kind, &'static [&'static str])],
}

const SMALL: &[&str] = &["-", "-1", "0", "1", "2", "3"];
const WIDE: &[&str] = &["-", "-9223372036854775808", "9223372036854775807", "0", "1", "4294967296"];
const TEXTS: &[&str] = &["-", "", "a", "b", "ab", "B", "a%"];
const REALS: &[&str] = &["-", "-0.5", "0", "0.25", "1", "2", "3.75"];
const BOOLS: &[&str] = &["-", "true", "false"];

/// All of them.
pub const TABLES: [Table; 4] = [
    Table {
        name: "a",
        columns: &[
            ("k", "BIGINT", "INTEGER", Int, SMALL),
            ("x", "INT", "INTEGER", Int, SMALL),
            ("d", "DOUBLE", "REAL", Real, REALS),
            ("s", "TEXT", "TEXT", Text, TEXTS),
            ("p", "BOOLEAN", "INTEGER", Bool, BOOLS),
        ],
    },
    Table {
        name: "b",
        columns: &[
            ("k", "INT", "INTEGER", Int, SMALL),
            ("y", "BIGINT", "INTEGER", Int, SMALL),
            ("c", "DECIMAL(10, 2)", "REAL", Real, REALS),
            ("t", "TEXT", "TEXT", Text, TEXTS),
        ],
    },
    Table {
        name: "c",
        columns: &[
            ("k", "BIGINT", "INTEGER", Int, SMALL),
            ("x", "SMALLINT", "INTEGER", Int, SMALL),
            ("s", "TEXT", "TEXT", Text, TEXTS),
            ("e", "BIGINT", "INTEGER", Wide, WIDE),
            ("q", "BOOLEAN", "INTEGER", Bool, BOOLS),
        ],
    },
    // One that mostly has no row.
    Table { name: "z", columns: &[("k", "BIGINT", "INTEGER", Int, SMALL), ("x", "BIGINT", "INTEGER", Int, SMALL)] },
];

/// Rows that come and go in one table at one time.
pub struct Change {
    pub table: usize,
    pub rows: Vec<Row>,
    pub diffs: Vec<i64>,
}

/// So many changes, of which four in ten rows take back an earlier one; at last all rows go.
pub fn changes(random: &mut SmallRng, count: usize) -> Vec<Change> {
    let mut contents: [Vec<Row>; 4] = Default::default();
    let mut changes = Vec::new();
    for _ in 0..count {
        let table = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3][random.random_range(0..10)];
        let (mut rows, mut diffs) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..6) {
            let there = contents[table].len();
            if there > 0 && random.random_bool(0.4) {
                rows.push(contents[table].swap_remove(random.random_range(0..there)));
                diffs.push(-1);
            } else {
                let row: Row = TABLES[table].columns.iter().map(|(.., values)| one_of(random, values)).collect();
                contents[table].push(row.clone());
                rows.push(row);
                diffs.push(1);
            }
        }
        changes.push(Change { table, rows, diffs });
    }
    for (table, rows) in contents.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        changes.push(Change { table, diffs: vec![-1; rows.len()], rows });
    }
    changes
}

/// Whose way to write a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ours,
    Sqlite,
    Duckdb,
}

/// A text as one side writes it. DuckDB mostly writes as we do.
pub fn written(text: &str, side: Side) -> String {
    let mut out = text.to_owned();
    // Innermost first.
    while let Some(end) = out.find('}') {
        let begin = out[..end].rfind('{').unwrap();
        let all: Vec<&str> = out[begin + 1..end].split('¦').collect();
        let kept = match side {
            Side::Ours => all[0],
            Side::Sqlite => all[1],
            Side::Duckdb => all.get(2).unwrap_or(&all[0]),
        };
        let kept = kept.to_owned();
        out.replace_range(begin..=end, &kept);
    }
    out
}

/// A column that an expression can name.
#[derive(Clone)]
struct Column {
    text: String,
    kind: Kind,
}

/// What an expression may use: columns, and those of the queries around it.
#[derive(Clone, Default)]
struct Scope {
    columns: Vec<Column>,
    outer: Vec<Column>,
}

/// A query and the kinds of its columns, which are called `c0`, `c1`, ..
pub struct Query {
    pub text: String,
    pub kinds: Vec<Kind>,
}

/// Makes queries.
pub struct Generator<'a> {
    pub random: &'a mut SmallRng,
    /// Views that queries may read besides the tables: name and kinds of `c0`, `c1`, ..
    pub views: Vec<(String, Vec<Kind>)>,
    aliases: usize,
}

impl<'a> Generator<'a> {
    pub fn new(random: &'a mut SmallRng) -> Self {
        Generator { random, views: Vec::new(), aliases: 0 }
    }

    fn chance(&mut self, p: f64) -> bool {
        self.random.random_bool(p)
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    fn kind(&mut self) -> Kind {
        self.pick(&[Int, Int, Int, Real, Text, Text, Bool, Wide])
    }

    /// A query of any columns.
    pub fn query(&mut self, depth: usize) -> Query {
        let kinds: Vec<Kind> = (0..1 + self.below(3)).map(|_| self.kind()).collect();
        let text = self.select(&kinds, depth, &[]);
        Query { text, kinds }
    }

    /// A query of these columns.
    fn select(&mut self, kinds: &[Kind], depth: usize, outer: &[Column]) -> String {
        if depth > 0 && self.chance(0.12) {
            return self.set_operation(kinds, depth - 1);
        }
        if depth > 0 && self.chance(0.1) {
            return self.top(kinds, depth - 1);
        }
        if depth > 0 && outer.is_empty() && self.chance(0.08) {
            // The same below a filter.
            let inner = self.select(kinds, depth - 1, &[]);
            let alias = self.alias();
            let columns = named(&alias, kinds);
            let filter = self.predicate(&Scope { columns, outer: Vec::new() }, 1);
            return format!("SELECT * FROM ({inner}) AS {alias} WHERE {filter}");
        }
        let (from, mut columns) = self.from(depth);
        let mut text = from;
        let scope = Scope { columns: columns.clone(), outer: outer.to_vec() };
        if self.chance(0.5) {
            text += &format!(" WHERE {}", self.predicate(&scope, depth.min(2)));
        }
        let grouped = self.chance(0.35);
        let mut having = String::new();
        let mut total = false;
        if grouped {
            let count = self.pick(&[0, 0, 1, 1, 1, 2]);
            let mut keys = Vec::new();
            for _ in 0..count {
                let kind = self.kind();
                let key = if self.chance(0.7) {
                    self.column(&columns, kind)
                } else {
                    let of = Scope { columns: columns.clone(), outer: Vec::new() };
                    Some(self.expr(&of, kind, 1)).filter(|text| columns.iter().any(|c| text.contains(&c.text)))
                };
                keys.extend(key.map(|text| Column { text, kind }));
            }
            if count == 0 || !keys.is_empty() {
                let aggregates: Vec<Column> = (0..2 + self.below(3)).map(|_| self.aggregate(&columns)).collect();
                if !keys.is_empty() {
                    let keys: Vec<_> = keys.iter().map(|key| key.text.as_str()).collect();
                    text += &format!(" GROUP BY {}", keys.join(", "));
                }
                total = keys.is_empty();
                // Columns outside of aggregates are keys.
                columns = keys.into_iter().chain(aggregates).collect();
                if self.chance(0.4) {
                    let of = Scope { columns: columns.clone(), outer: Vec::new() };
                    having = format!(" HAVING {}", self.predicate(&of, 1));
                }
            }
        }
        let scope = Scope { columns, outer: outer.to_vec() };
        let mut items: Vec<String> = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| {
                let depth = if grouped { 1 } else { 1 + self.below(2) };
                format!("{} AS c{i}", self.expr(&scope, *kind, depth))
            })
            .collect();
        if total && !items.iter().any(|item| scope.columns.iter().any(|column| item.contains(&column.text))) {
            // Without an aggregate it would be a query of each row.
            let first = self.expr(&scope, kinds[0], 0);
            items[0] = format!("CASE WHEN count(*) >= 0 THEN {first} END AS c0");
        }
        let distinct = if !grouped && self.chance(0.15) { "DISTINCT " } else { "" };
        format!("SELECT {distinct}{} FROM {text}{having}", items.join(", "))
    }

    fn set_operation(&mut self, kinds: &[Kind], depth: usize) -> String {
        let operator = self.pick(&["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        let one = self.select(kinds, depth, &[]);
        let two = self.select(kinds, depth, &[]);
        let (a, b) = (self.alias(), self.alias());
        format!("SELECT * FROM ({one}) AS {a} {operator} SELECT * FROM ({two}) AS {b}")
    }

    /// The first rows in an order in which none are equal but for their copies.
    fn top(&mut self, kinds: &[Kind], depth: usize) -> String {
        let inner = self.select(kinds, depth, &[]);
        let alias = self.alias();
        let order: Vec<String> = (0..kinds.len())
            .map(|i| {
                let direction = self.pick(&["ASC", "DESC"]);
                let nulls = self.pick(&["FIRST", "LAST"]);
                format!("c{i} {direction} NULLS {nulls}")
            })
            .collect();
        let offset = if self.chance(0.3) { format!(" OFFSET {}", self.below(3)) } else { String::new() };
        format!("SELECT * FROM ({inner}) AS {alias} ORDER BY {} LIMIT {}{offset}", order.join(", "), 1 + self.below(4))
    }

    /// A table, a view or a query, with its columns' names, types and kinds.
    fn relation(&mut self, depth: usize) -> (String, Vec<(String, Kind)>, bool) {
        if depth > 0 && self.chance(0.2) {
            let kinds: Vec<Kind> = (0..1 + self.below(3)).map(|_| self.kind()).collect();
            let text = self.select(&kinds, depth - 1, &[]);
            return (format!("({text})"), numbered(&kinds), false);
        }
        if !self.views.is_empty() && self.chance(0.25) {
            let number = self.below(self.views.len());
            let (name, kinds) = self.views[number].clone();
            return (name, numbered(&kinds), false);
        }
        if self.chance(0.06) {
            let rows: Vec<String> = (0..1 + self.below(3))
                .map(|_| format!("SELECT {} AS c0, {} AS c1", self.literal(Int), self.literal(Text)))
                .collect();
            return (format!("({})", rows.join(" UNION ALL ")), numbered(&[Int, Text]), false);
        }
        let table = self.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 3]);
        let table = &TABLES[table];
        let columns = table.columns.iter().map(|(name, _, _, kind, _)| ((*name).to_owned(), *kind)).collect();
        (table.name.to_owned(), columns, true)
    }

    /// What stands after FROM, and the columns that it has.
    fn from(&mut self, depth: usize) -> (String, Vec<Column>) {
        let (relation, named, plain) = self.relation(depth);
        let alias = self.alias();
        let mut text = format!("{relation} AS {alias}");
        let qualified = |alias: &str, named: &[(String, Kind)]| -> Vec<Column> {
            named.iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind: *kind }).collect()
        };
        let mut columns = qualified(&alias, &named);
        let joins = self.pick(&[0, 0, 0, 1, 1, 1, 2]);
        for join in 0..joins {
            let (relation, others, other_plain) = self.relation(depth.saturating_sub(1));
            let other = self.alias();
            let kind = self.pick(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
            let right = qualified(&other, &others);
            if kind == "CROSS JOIN" {
                text += &format!(" CROSS JOIN {relation} AS {other}");
                columns.extend(right);
                continue;
            }
            // Columns of one name and kind, which are then one column.
            let shared: Vec<(String, Kind)> = named.iter().filter(|column| others.contains(column)).cloned().collect();
            let clash = named.iter().any(|(name, kind)| others.iter().any(|(n, k)| n == name && k != kind));
            if joins == 1 && join == 0 && plain && other_plain && !shared.is_empty() && !clash && self.chance(0.3) {
                let natural = self.chance(0.4);
                let keys = if natural { shared.clone() } else { vec![shared[self.below(shared.len())].clone()] };
                let names: Vec<_> = keys.iter().map(|(name, _)| name.clone()).collect();
                text += &match natural {
                    true => format!(" NATURAL {kind} {relation} AS {other}"),
                    false => format!(" {kind} {relation} AS {other} USING ({})", names.join(", ")),
                };
                columns.extend(right);
                // Each side's own can still be named.
                if natural || self.chance(0.7) {
                    columns.retain(|column| !names.iter().any(|name| column.text.ends_with(&format!(".{name}"))));
                }
                columns.extend(keys.into_iter().map(|(text, kind)| Column { text, kind }));
                return (text, columns);
            }
            let mut all = columns.clone();
            all.extend(right.iter().cloned());
            let mut on = Vec::new();
            if self.chance(0.85) {
                let of = self.pick(&[Int, Int, Int, Text, Real, Bool]);
                if let (Some(left), Some(right)) = (self.column(&columns, of), self.column(&right, of)) {
                    on.push(match self.chance(0.1) {
                        true => format!("{left} IS NOT DISTINCT FROM {right}"),
                        false => format!("{left} = {right}"),
                    });
                }
            }
            if on.is_empty() || self.chance(0.25) {
                on.push(self.predicate(&Scope { columns: all.clone(), outer: Vec::new() }, 1));
            }
            text += &format!(" {kind} {relation} AS {other} ON {}", on.join(" AND "));
            columns = all;
        }
        (text, columns)
    }

    fn column(&mut self, columns: &[Column], kind: Kind) -> Option<String> {
        let fitting: Vec<&Column> = columns.iter().filter(|column| column.kind == kind).collect();
        (!fitting.is_empty()).then(|| fitting[self.below(fitting.len())].text.clone())
    }

    fn literal(&mut self, kind: Kind) -> String {
        if self.chance(0.12) {
            return match kind {
                Int | Wide => "CAST(NULL AS {BIGINT¦INTEGER})",
                Real => "CAST(NULL AS {DOUBLE¦REAL})",
                Text => "CAST(NULL AS TEXT)",
                Bool => "CAST(NULL AS {BOOLEAN¦INTEGER})",
            }
            .to_owned();
        }
        match kind {
            Int => self.pick(&["-1", "0", "1", "2", "3"]),
            Wide => self.pick(&["0", "9223372036854775807", "-9223372036854775807", "4294967296"]),
            Real => self.pick(&["-0.5", "0.25", "1.0", "2.5"]),
            Text => self.pick(&["''", "'a'", "'b'", "'ab'", "'%'"]),
            Bool => self.pick(&["true", "false"]),
        }
        .to_owned()
    }

    /// An aggregate of columns.
    fn aggregate(&mut self, columns: &[Column]) -> Column {
        let scope = Scope { columns: columns.to_vec(), outer: Vec::new() };
        let filter = match self.chance(0.15) {
            true => format!(" FILTER (WHERE {})", self.predicate(&scope, 1)),
            false => String::new(),
        };
        let distinct = if self.chance(0.2) { "DISTINCT " } else { "" };
        let (text, kind) = match self.below(10) {
            0 | 1 => ("count(*)".to_owned(), Int),
            2 => {
                let kind = self.kind();
                (format!("count({distinct}{})", self.expr(&scope, kind, 1)), Int)
            }
            3 | 4 => (format!("sum({distinct}{})", self.expr(&scope, Int, 1)), Int),
            5 => (format!("sum({distinct}{})", self.expr(&scope, Real, 0)), Real),
            6 => (format!("avg({})", self.expr(&scope, Int, 0)), Real),
            7 => (format!("{{bool_or¦max}}({})", self.expr(&scope, Bool, 1)), Bool),
            _ => {
                let kind = self.pick(&[Int, Wide, Real, Text]);
                let function = self.pick(&["min", "max"]);
                (format!("{function}({})", self.expr(&scope, kind, 1)), kind)
            }
        };
        Column { text: text + &filter, kind }
    }

    fn predicate(&mut self, scope: &Scope, depth: usize) -> String {
        self.expr(scope, Bool, depth.max(1))
    }

    /// An expression of a kind.
    fn expr(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        let leaf = depth == 0 || self.chance(0.35);
        if leaf && kind != Bool || depth == 0 {
            if !scope.outer.is_empty()
                && self.chance(0.3)
                && let Some(column) = self.column(&scope.outer, kind)
            {
                return column;
            }
            return match self.column(&scope.columns, kind) {
                Some(column) if self.chance(0.85) => column,
                _ => self.literal(kind),
            };
        }
        let below = depth - 1;
        // What every kind has.
        match self.below(if kind == Bool { 24 } else { 12 }) {
            0 => {
                let (condition, one, two) =
                    (self.predicate(scope, below), self.expr(scope, kind, below), self.expr(scope, kind, below));
                return match self.chance(0.8) {
                    true => format!("CASE WHEN {condition} THEN {one} ELSE {two} END"),
                    false => format!("CASE WHEN {condition} THEN {one} END"),
                };
            }
            1 => {
                return format!("coalesce({}, {})", self.expr(scope, kind, below), self.expr(scope, kind, below));
            }
            2 => return format!("nullif({}, {})", self.expr(scope, kind, below), self.expr(scope, kind, below)),
            3 if depth > 1 => return self.scalar_subquery(scope, kind),
            _ => {}
        }
        match kind {
            Int => match self.below(6) {
                0 => format!("({} + {})", self.expr(scope, Int, below), self.expr(scope, Int, below)),
                1 => format!("({} - {})", self.expr(scope, Int, below), self.expr(scope, Int, below)),
                2 => format!("({} * {})", self.expr(scope, Int, below), self.expr(scope, Int, 0)),
                3 => {
                    let (one, two) = (self.expr(scope, Int, below), self.expr(scope, Int, 0));
                    let operator = self.pick(&["{/¦/¦//}", "%"]);
                    format!("CASE WHEN {two} <> 0 THEN {one} {operator} {two} END")
                }
                4 => format!("length({})", self.expr(scope, Text, below)),
                _ => format!("abs({})", self.expr(scope, Int, below)),
            },
            Wide => self.expr(scope, Wide, 0),
            Real => match self.below(4) {
                0 => format!("({} + {})", self.expr(scope, Real, below), self.expr(scope, Real, 0)),
                1 => format!("({} - {})", self.expr(scope, Real, 0), self.expr(scope, Real, 0)),
                2 => format!("({} * {})", self.expr(scope, Real, 0), self.expr(scope, Int, 0)),
                _ => format!("CAST({} AS {{DOUBLE¦REAL}})", self.expr(scope, Int, below)),
            },
            Text => match self.below(5) {
                0 => format!("({} || {})", self.expr(scope, Text, below), self.expr(scope, Text, 0)),
                1 => format!("upper({})", self.expr(scope, Text, below)),
                2 => format!("lower({})", self.expr(scope, Text, below)),
                3 => format!("substr({}, 1, 1)", self.expr(scope, Text, below)),
                _ => format!("CAST({} AS TEXT)", self.expr(scope, Int, below)),
            },
            Bool => self.condition(scope, below),
        }
    }

    fn condition(&mut self, scope: &Scope, below: usize) -> String {
        let compared = self.pick(&[Int, Int, Int, Real, Text, Wide, Bool]);
        let operator = self.pick(&["=", "<>", "<", "<=", ">", ">="]);
        match self.below(20) {
            0 | 1 => format!("({} AND {})", self.predicate(scope, below), self.predicate(scope, below)),
            2 | 3 => format!("({} OR {})", self.predicate(scope, below), self.predicate(scope, below)),
            4 => format!("(NOT {})", self.predicate(scope, below)),
            5 => {
                let not = self.pick(&["", "NOT "]);
                format!("({} IS {not}NULL)", self.expr(scope, compared, below))
            }
            6 => {
                let not = self.pick(&["", "NOT "]);
                format!(
                    "({} IS {not}DISTINCT FROM {})",
                    self.expr(scope, compared, below),
                    self.expr(scope, compared, below)
                )
            }
            7 => {
                let (not, what) = (self.pick(&["", "NOT "]), self.pick(&["TRUE", "FALSE"]));
                format!("({} IS {not}{what})", self.predicate(scope, below))
            }
            8 => {
                let not = self.pick(&["", "NOT "]);
                format!(
                    "({} {not}BETWEEN {} AND {})",
                    self.expr(scope, Int, below),
                    self.expr(scope, Int, 0),
                    self.expr(scope, Int, 0)
                )
            }
            9 => {
                let not = self.pick(&["", "NOT "]);
                let values: Vec<String> = (0..1 + self.below(3)).map(|_| self.literal(compared)).collect();
                format!("({} {not}IN ({}))", self.expr(scope, compared, below), values.join(", "))
            }
            10 => {
                let not = self.pick(&["", "NOT "]);
                let pattern = self.pick(&["'a%'", "'%b'", "'_'", "'%'", "''", "'a'"]);
                format!("({} {not}LIKE {pattern})", self.expr(scope, Text, below))
            }
            11 | 12 if below > 0 || self.chance(0.3) => {
                let not = self.pick(&["", "NOT "]);
                let value = self.expr(scope, compared, 0);
                let query = self.subquery(scope, &[compared]);
                format!("({value} {not}IN ({query}))")
            }
            13 | 14 if below > 0 || self.chance(0.3) => {
                let not = self.pick(&["", "NOT "]);
                let query = self.subquery(scope, &[Int]);
                format!("({not}EXISTS ({query}))")
            }
            15 if below > 0 || self.chance(0.2) => {
                let value = self.expr(scope, compared, 0);
                let query = self.subquery(scope, &[compared]);
                let alias = self.alias();
                // SQLite has neither; what they are by definition.
                let (quantifier, found, other, truth) = self.pick(&[("ANY", "1", "0", ""), ("ALL", "0", "1", "NOT ")]);
                let test = format!("({value} {operator} {alias}.c0)");
                let exists = |test: &str| format!("EXISTS (SELECT 1 FROM ({query}) AS {alias} WHERE {test})");
                format!(
                    "({{{value} {operator} {quantifier} ({query})¦CASE WHEN {} THEN {found} WHEN {} THEN NULL ELSE \
                     {other} END}})",
                    exists(&format!("{truth}{test}")),
                    exists(&format!("{test} IS NULL"))
                )
            }
            _ => format!("({} {operator} {})", self.expr(scope, compared, below), self.expr(scope, compared, below)),
        }
    }

    /// A query within an expression, which may use the columns around it.
    fn subquery(&mut self, scope: &Scope, kinds: &[Kind]) -> String {
        let outer = if self.chance(0.6) { around(scope) } else { Vec::new() };
        let depth = self.below(2);
        let (from, columns) = self.from(0);
        let inner = Scope { columns: columns.clone(), outer: outer.clone() };
        let mut tests = Vec::new();
        if !outer.is_empty() {
            let kind = self.pick(&[Int, Int, Text]);
            if let (Some(here), Some(there)) = (self.column(&columns, kind), self.column(&outer, kind)) {
                let operator = self.pick(&["=", "=", "=", "=", "<", "<>"]);
                tests.push(format!("{here} {operator} {there}"));
            }
        }
        if self.chance(0.3) {
            tests.push(self.predicate(&inner, depth.min(1)));
        }
        let wheres = if tests.is_empty() { String::new() } else { format!(" WHERE {}", tests.join(" AND ")) };
        let of = Scope { columns, outer: Vec::new() };
        let (mut items, mut group) = (Vec::new(), String::new());
        let aggregate = self.chance(0.25);
        for (i, kind) in kinds.iter().enumerate() {
            let text = match (aggregate, kind) {
                (true, Int) => self.pick(&["count(*)", "count(*) + 1"]).to_owned(),
                (true, Bool) => "count(*) > 1".to_owned(),
                (true, kind) => format!("max({})", self.expr(&of, *kind, 0)),
                (false, kind) => self.expr(&of, *kind, 1),
            };
            items.push(format!("{text} AS c{i}"));
        }
        if aggregate
            && self.chance(0.3)
            && let Some(key) = self.column(&of.columns, Int)
        {
            group = format!(" GROUP BY {key}");
        }
        format!("SELECT {} FROM {from}{wheres}{group}", items.join(", "))
    }

    /// A query of one row.
    fn scalar_subquery(&mut self, scope: &Scope, kind: Kind) -> String {
        let outer = if self.chance(0.7) { around(scope) } else { Vec::new() };
        let (from, columns) = self.from(0);
        let of = Scope { columns: columns.clone(), outer: Vec::new() };
        let value = match kind {
            Int => self.pick(&["count(*)", "0 - count(*)"]).to_owned(),
            Bool => format!("{{bool_and¦min}}({})", self.expr(&of, Bool, 0)),
            Real => format!("sum({})", self.expr(&of, Real, 0)),
            kind => {
                let function = self.pick(&["min", "max"]);
                format!("{function}({})", self.expr(&of, kind, 0))
            }
        };
        let by = self.pick(&[Int, Text]);
        let wheres = match (self.column(&columns, by), self.column(&outer, by)) {
            (Some(here), Some(there)) => format!(" WHERE {here} = {there}"),
            _ => String::new(),
        };
        format!("(SELECT {value} FROM {from}{wheres})")
    }
}

/// What a subquery may use: no aggregates, which no engine here takes in WHERE, also where they are of the query around.
fn around(scope: &Scope) -> Vec<Column> {
    scope.columns.iter().filter(|column| !column.text.contains('(')).cloned().collect()
}

fn numbered(kinds: &[Kind]) -> Vec<(String, Kind)> {
    kinds.iter().enumerate().map(|(i, kind)| (format!("c{i}"), *kind)).collect()
}

fn named(alias: &str, kinds: &[Kind]) -> Vec<Column> {
    numbered(kinds).into_iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind }).collect()
}
