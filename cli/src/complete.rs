//! Completion: names, keywords, functions, commands and files.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;

use arrow::array::AsArray;
use headwater::{Outcome, Session};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use crate::commands::COMMANDS;
use crate::files;
use crate::scan::Scan;
use crate::typed::Typed;

const KEYWORDS: [&str; 71] = [
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS JOIN",
    "DELETE FROM",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "IF EXISTS",
    "IF NOT EXISTS",
    "IN",
    "INNER JOIN",
    "INSERT INTO",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "MATERIALIZED VIEW",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "OR REPLACE",
    "ORDER BY",
    "REPLACE",
    "RIGHT JOIN",
    "SELECT",
    "SET",
    "SHOW",
    "SINK",
    "SINKS",
    "TABLE",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "TRY_CAST",
    "UNION",
    "UNION ALL",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WATERMARK FOR",
    "WHEN",
    "WHERE",
    "WITH",
];

/// What the line editor knows of the session and of the statement.
pub struct Completion {
    session: Session,
    typed: Rc<RefCell<Typed>>,
    functions: OnceCell<Vec<String>>,
}

impl Completion {
    /// Completes what is in `session`, in statements that begin with what was typed.
    pub fn new(session: Session, typed: Rc<RefCell<Typed>>) -> Self {
        Completion { session, typed, functions: OnceCell::new() }
    }

    fn functions(&self) -> &[String] {
        self.functions.get_or_init(|| {
            let shown = self.session.execute("SHOW FUNCTIONS").unwrap_or_default().pop();
            let Some(Outcome::Rows(rows)) = shown else { return Vec::new() };
            let names = rows.columns().first().and_then(|column| column.as_string_opt::<i32>());
            names.map(|names| names.iter().flatten().map(|name| format!("{name}(")).collect()).unwrap_or_default()
        })
    }

    fn columns(&self, relation: &str) -> Vec<String> {
        let Ok(table) = self.session.table(relation) else { return Vec::new() };
        table.schema().fields().iter().map(|field| quoted(field.name())).collect()
    }

    /// What can stand at the end of `head`: from which byte on, and what.
    fn candidates(&self, head: &str) -> (usize, Vec<Pair>) {
        let typed = self.typed.borrow();
        if typed.text().trim().is_empty() && head.starts_with(['\\', '.']) {
            return self.of_command(head);
        }
        let mut scan = Scan::default();
        scan.read(typed.text());
        scan.read(head);
        if scan.mark() == '\'' {
            let start = head.rfind('\'').map_or(0, |at| at + 1);
            return (start, paths(&head[start..], true));
        }
        let start = head
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + head[at..].chars().next().map_or(1, char::len_utf8));
        let word = &head[start..];
        let objects = self.session.objects();
        if let Some(qualifier) = head[..start].strip_suffix('.') {
            let from = qualifier.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            return (start, matching(word, self.columns(&qualifier[from..].to_lowercase())));
        }
        if word.is_empty() {
            return (start, Vec::new());
        }
        let statement = format!("{}{head}", typed.text()).to_lowercase();
        let named = |name: &str| statement.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
        let mut names = Vec::new();
        for object in objects {
            if named(&object.name.to_lowercase()) {
                names.extend(self.columns(&object.name));
            }
            names.push(quoted(&object.name));
        }
        names.sort();
        let mut all = matching(word, names);
        let lower = word.chars().all(|c| !c.is_uppercase());
        let keywords =
            KEYWORDS.iter().map(|keyword| if lower { keyword.to_lowercase() } else { (*keyword).to_owned() });
        all.extend(matching(word, keywords));
        all.extend(matching(word, self.functions().iter().cloned()));
        all.dedup_by(|a, b| a.replacement == b.replacement);
        (start, all)
    }

    fn of_command(&self, head: &str) -> (usize, Vec<Pair>) {
        match head.split_once(' ') {
            None => (0, matching(head, COMMANDS.iter().map(|command| (*command).to_owned()))),
            Some((command, path)) if matches!(command, "\\i" | ".read") => (command.len() + 1, paths(path, false)),
            Some((command, name)) => {
                let names = self.session.objects().into_iter().map(|object| object.name);
                (command.len() + 1, matching(name, names))
            }
        }
    }
}

/// A name as a query must have it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_lowercase() || c == '_')
        && name.chars().all(|c| c.is_lowercase() || c.is_numeric() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Those that begin with `word`, in whatever case, quoted or not.
fn matching(word: &str, names: impl IntoIterator<Item = String>) -> Vec<Pair> {
    let word = word.to_lowercase();
    let fits = |name: &String| name.trim_start_matches('"').to_lowercase().starts_with(&word);
    names.into_iter().filter(fits).map(|name| Pair { display: name.clone(), replacement: name }).collect()
}

/// The files and folders that `start` can become; of files, those that can be asked if they are to be `tables`.
fn paths(start: &str, tables: bool) -> Vec<Pair> {
    let (folder, name) = start.rsplit_once('/').map_or(("", start), |(folder, name)| (&start[..=folder.len()], name));
    let Ok(entries) = std::fs::read_dir(if folder.is_empty() { Path::new(".") } else { Path::new(folder) }) else {
        return Vec::new();
    };
    let mut all: Vec<Pair> = entries
        .flatten()
        .filter_map(|entry| {
            let found = entry.file_name().into_string().ok()?;
            let is_folder = entry.path().is_dir();
            let wanted = found.starts_with(name)
                && (!found.starts_with('.') || name.starts_with('.'))
                && (is_folder || !tables || files::format(&found).is_some());
            let end = if is_folder {
                "/"
            } else if tables {
                "'"
            } else {
                ""
            };
            wanted.then(|| Pair {
                display: format!("{found}{}", end.trim_matches('\'')),
                replacement: format!("{folder}{found}{end}"),
            })
        })
        .collect();
    all.sort_by(|a, b| a.display.cmp(&b.display));
    all
}

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Validator for Completion {}

impl Hinter for Completion {
    type Hint = String;
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.candidates(&line[..position]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> Completion {
        let session = Session::new().unwrap();
        session
            .execute("CREATE TABLE orders (item VARCHAR, \"Amount\" BIGINT); CREATE VIEW old AS SELECT item AS was FROM orders")
            .unwrap();
        Completion::new(session, Rc::default())
    }

    fn offered(completion: &Completion, head: &str) -> Vec<String> {
        completion.candidates(head).1.into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn names_columns_keywords_and_functions() {
        let completion = completion();
        assert_eq!(offered(&completion, "select * from o")[..2], ["old", "orders"]);
        assert_eq!(offered(&completion, "SELECT i FROM orders WHERE it"), ["item"]);
        assert_eq!(offered(&completion, "SELECT o FROM orders WHERE am"), ["\"Amount\""]);
        assert_eq!(offered(&completion, "SELECT old.w"), ["was"]);
        assert_eq!(offered(&completion, "sele"), ["select"]);
        assert_eq!(offered(&completion, "SELE"), ["SELECT"]);
        assert!(offered(&completion, "select date_tr").contains(&"date_trunc(".to_owned()));
        assert_eq!(offered(&completion, "select 'x' "), [""; 0]);
    }

    #[test]
    fn commands_and_files() {
        let completion = completion();
        assert_eq!(offered(&completion, "\\t"), ["\\timing"]);
        assert_eq!(offered(&completion, "\\d ord"), ["orders"]);
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.csv", "a.parquet", "a.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("abc")).unwrap();
        let at = folder.path().display();
        let wanted = ["a.csv'", "a.parquet'", "abc/"].map(|name| format!("{at}/{name}"));
        assert_eq!(offered(&completion, &format!("FROM '{at}/a")), wanted);
        assert_eq!(offered(&completion, &format!("\\i {at}/a.t")), [format!("{at}/a.txt")]);
    }
}
