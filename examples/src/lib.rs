//! What the examples share.

use std::error::Error;

use arrow::array::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

/// What `main` of an example returns: any error, with its message.
pub type Done = Result<(), Box<dyn Error>>;

/// The part of a file of statements after the line `-- The queries.`: what reads the tables, however they are declared.
///
/// Errors: a file without that line.
pub fn queries(text: &str) -> Result<&str, String> {
    let (_, queries) = text.split_once("-- The queries.").ok_or("the file has no line '-- The queries.'")?;
    Ok(queries)
}

/// The statements of `text` that create something, without the bare queries after them.
pub fn definitions(text: &str) -> String {
    let is_definition = |statement: &&str| {
        let first = statement.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("--"));
        first.is_some_and(|line| line.to_uppercase().starts_with("CREATE"))
    };
    text.split_inclusive(';').filter(is_definition).collect()
}

/// A batch as a table of text.
///
/// Errors: a type that can't be shown.
pub fn table(batch: &RecordBatch) -> Result<String, Box<dyn Error>> {
    let options = FormatOptions::default().with_null("");
    Ok(pretty_format_batches_with_options(std::slice::from_ref(batch), &options)?.to_string())
}

/// The rows of a batch as text, in a fixed order: equal for equal multisets of rows.
///
/// Errors: a type that can't be shown.
pub fn rows(batch: &RecordBatch) -> Result<Vec<String>, Box<dyn Error>> {
    let text = table(batch)?;
    let mut rows: Vec<String> = text.lines().filter(|line| line.starts_with('|')).skip(1).map(str::to_owned).collect();
    rows.sort_unstable();
    Ok(rows)
}
