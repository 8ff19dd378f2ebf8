//! Files as tables: `SELECT .. FROM 'flights.csv'`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use headwater::datafusion::sql::sqlparser::ast::{ObjectName, visit_relations};
use headwater::sql::{Parsed, Statement};
use headwater::{Result, Session};

/// Declares a table for each file that the statements name in quotes. One that was declared so before is declared anew,
/// unless something reads it: the file may have other columns by now.
///
/// Errors: a file that is not there, or of no known format, at the statement that names it.
pub fn declare(session: &Session, statements: &[Parsed]) -> Result<()> {
    let known: BTreeSet<String> = session.tables().into_iter().map(|table| table.name).collect();
    for parsed in statements {
        let mut paths = BTreeSet::new();
        let query = match &parsed.statement {
            Statement::Query(query) => Some(query),
            Statement::CreateView(create) => Some(&create.query),
            Statement::CreateSink(create) => Some(&create.query),
            Statement::Explain(explain) => Some(&explain.query),
            Statement::Insert(insert) => Some(&insert.source),
            Statement::Describe(name) => {
                paths.insert(name.clone());
                None
            }
            _ => None,
        };
        if let Some(query) = query {
            let _ = visit_relations(&query.ast, |name| {
                paths.extend(path(name));
                ControlFlow::<()>::Continue(())
            });
        }
        for path in &paths {
            let Some(format) = format(path) else { continue };
            let quoted = (path.replace('"', "\"\""), path.replace('\'', "''"));
            let create = format!(
                "CREATE OR REPLACE TABLE \"{}\" WITH (connector = 'filesystem', path = '{}', format = '{format}')",
                quoted.0, quoted.1
            );
            let is_known = known.contains(path);
            if is_known && session.object(path).is_some_and(|table| table.written != create) {
                continue;
            }
            match session.execute(&create) {
                Ok(_) => {}
                // It stays as it is for those who read it.
                Err(_) if is_known => {}
                Err(error) => {
                    return Err(headwater::Error::user(error.message()).at(&parsed.source, parsed.line, parsed.column));
                }
            }
        }
    }
    Ok(())
}

/// The path that a relation's name is, if it is written in single quotes.
fn path(name: &ObjectName) -> Option<String> {
    let [part] = name.0.as_slice() else { return None };
    let ident = part.as_ident()?;
    (ident.quote_style == Some('\'')).then(|| ident.value.clone())
}

/// The format that a file's name says it has.
pub fn format(path: &str) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let path = path.strip_suffix(".gz").or_else(|| path.strip_suffix(".zst")).unwrap_or(&path);
    let (_, extension) = path.rsplit_once('.')?;
    match extension {
        "csv" => Some("csv"),
        "json" | "jsonl" | "ndjson" => Some("json"),
        "parquet" => Some("parquet"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn names_tell_formats() {
        assert_eq!(format("a/Flights.CSV.gz"), Some("csv"));
        assert_eq!(format("x.*.jsonl"), Some("json"));
        assert_eq!(format("part-0.parquet"), Some("parquet"));
        assert_eq!(format("flights"), None);
        assert_eq!(format("notes.txt"), None);
    }
}
