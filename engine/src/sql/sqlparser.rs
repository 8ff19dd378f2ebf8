//! What sqlparser says, in our words, and its places as bytes.

use datafusion::sql::sqlparser::tokenizer::Location;

/// The byte at which `place` is; the end of the text if it lies behind.
pub(super) fn offset(source: &str, place: Location) -> usize {
    let mut lines = place.line.saturating_sub(1);
    let mut start = 0;
    while lines > 0 {
        match source[start..].find('\n') {
            Some(length) => start += length + 1,
            None => return source.len(),
        }
        lines -= 1;
    }
    let columns = place.column.saturating_sub(1) as usize;
    source[start..].char_indices().nth(columns).map_or(source.len(), |(byte, _)| start + byte)
}

/// sqlparser's words in ours.
pub(super) fn tidy(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let message = message.replace("found: EOF", "found: the end of the statement");
    match message.strip_prefix("Expected: ") {
        Some(rest) => match rest.split_once(", found: ") {
            Some((expected, found)) if found == "the end of the statement" => {
                format!("expected {expected}, found {found}")
            }
            Some((expected, found)) => format!("expected {expected}, found '{found}'"),
            None => format!("expected {rest}"),
        },
        None => message,
    }
}
