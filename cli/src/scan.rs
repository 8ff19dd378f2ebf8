//! Where a statement being typed ends.

/// Whether `text` holds at least one statement and nothing unfinished: its last meaningful character is a semicolon
/// outside quotes and comments. Text without anything meaningful is finished too.
pub fn is_finished(text: &str) -> bool {
    let mut rest = text;
    let mut finished = true;
    while let Some(first) = rest.chars().next() {
        let (consumed, closed) = if rest.starts_with("--") {
            (rest.find('\n').unwrap_or(rest.len()), true)
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if first == '\'' || first == '"' {
            finished = false;
            match rest[1..].find(first) {
                // A doubled quote reads as the end of one string and the start of the next, which comes to the same.
                Some(end) => (end + 2, true),
                None => (rest.len(), false),
            }
        } else if let Some(tag) = dollar_tag(rest) {
            finished = false;
            match rest[tag.len()..].find(tag) {
                Some(end) => (end + 2 * tag.len(), true),
                None => (rest.len(), false),
            }
        } else {
            if !first.is_whitespace() {
                finished = first == ';';
            }
            (first.len_utf8(), true)
        };
        if !closed {
            return false;
        }
        rest = &rest[consumed..];
    }
    finished
}

/// The length of the block comment that `text` starts with, which may hold others, and whether it ends.
fn comment(text: &str) -> (usize, bool) {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (at, true);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    (at, false)
}

/// The `$tag$` that `text` starts with.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')? + 2;
    let name = &text[1..end - 1];
    let sound = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    sound.then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::is_finished;

    #[test]
    fn a_semicolon_ends_a_statement() {
        for text in ["", "  \n", "-- nothing", "SELECT 1;", "SELECT 1; -- done\n", "SELECT ';';", "SELECT 1; /* a */"] {
            assert!(is_finished(text), "{text}");
        }
    }

    #[test]
    fn a_semicolon_inside_something_does_not() {
        for text in [
            "SELECT 1",
            "SELECT ';",
            "SELECT ';'",
            "SELECT 'it''s;",
            "SELECT \";",
            "SELECT 1 -- ;",
            "SELECT 1 /* ; */",
            "/* /* ; */ ;",
            "SELECT $$ ; $$",
            "SELECT $a$ ; $$ ;",
            "SELECT 1; SELECT 2",
        ] {
            assert!(!is_finished(text), "{text}");
        }
        assert!(
            is_finished("SELECT $a$ ; $$ ; $a$;") && is_finished("SELECT 'ü''';") && is_finished("/* /* é */ */ ;")
        );
    }
}
