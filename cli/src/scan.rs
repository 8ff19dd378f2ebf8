//! Where statements that are being typed end.

/// What the text so far ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Inside {
    /// Nothing that must be closed.
    #[default]
    Plain,
    /// A text or a name in quotes.
    Quotes(char),
    /// Comments, so many within each other.
    Comment(usize),
    /// A text between two of these.
    Dollars(String),
}

/// Reads text as it comes, each part once; a part ends where a line does.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    inside: Inside,
    /// Whether a statement has begun.
    begun: bool,
}

impl Scan {
    /// Reads on: the byte of `text` behind the last semicolon that ends a statement, if one does.
    pub fn read(&mut self, text: &str) -> Option<usize> {
        let (mut at, mut end) = (0, None);
        while at < text.len() {
            let rest = &text[at..];
            let first = rest.chars().next().unwrap_or_default();
            at += match &mut self.inside {
                // A doubled quote reads as the end of one string and the start of the next, which comes to the same.
                Inside::Quotes(quote) => match rest.find(*quote) {
                    Some(length) => {
                        self.inside = Inside::Plain;
                        length + 1
                    }
                    None => rest.len(),
                },
                Inside::Dollars(tag) => match rest.find(tag.as_str()) {
                    Some(length) => {
                        let length = length + tag.len();
                        self.inside = Inside::Plain;
                        length
                    }
                    None => rest.len(),
                },
                Inside::Comment(depth) => {
                    if rest.starts_with("/*") {
                        *depth += 1;
                        2
                    } else if rest.starts_with("*/") {
                        *depth -= 1;
                        if *depth == 0 {
                            self.inside = Inside::Plain;
                        }
                        2
                    } else {
                        first.len_utf8()
                    }
                }
                Inside::Plain if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
                Inside::Plain if rest.starts_with("/*") => {
                    self.inside = Inside::Comment(1);
                    2
                }
                Inside::Plain if first == '\'' || first == '"' => {
                    (self.inside, self.begun) = (Inside::Quotes(first), true);
                    1
                }
                Inside::Plain => match dollar_tag(rest) {
                    Some(tag) => {
                        (self.inside, self.begun) = (Inside::Dollars(tag.to_owned()), true);
                        tag.len()
                    }
                    None => {
                        if first == ';' {
                            self.begun = false;
                            end = Some(at + 1);
                        } else if !first.is_whitespace() {
                            self.begun = true;
                        }
                        first.len_utf8()
                    }
                },
            };
        }
        end
    }

    /// Whether nothing has begun that is not finished.
    pub fn is_between(&self) -> bool {
        !self.begun && self.inside == Inside::Plain
    }

    /// Whether what comes next is not part of a text, name or comment.
    pub fn is_plain(&self) -> bool {
        self.inside == Inside::Plain
    }

    /// What stands in a prompt for what the text so far ends in, as in `psql`.
    pub fn mark(&self) -> char {
        match self.inside {
            Inside::Plain => '-',
            Inside::Quotes(quote) => quote,
            Inside::Comment(_) => '*',
            Inside::Dollars(_) => '$',
        }
    }
}

/// The `$tag$` that `text` starts with.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find(|c: char| !(c.is_alphanumeric() || c == '_'))? + 1;
    let sound = text[end..].starts_with('$') && !text[1..].starts_with(|c: char| c.is_numeric());
    sound.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::Scan;

    fn read(text: &str) -> (Option<usize>, bool) {
        let mut scan = Scan::default();
        let end = scan.read(text);
        (end, scan.is_between())
    }

    #[test]
    fn a_semicolon_ends_a_statement() {
        for text in ["SELECT 1;", "SELECT 1; -- done\n", "SELECT ';';", "SELECT 1; /* a */", "SELECT $a$ ; $$ ; $a$;"] {
            let (end, between) = read(text);
            assert!(end.is_some() && between, "{text}");
        }
        for text in ["", "  \n", "-- nothing; at all", "/* ; */"] {
            assert_eq!(read(text), (None, true), "{text}");
        }
        assert_eq!(read("SELECT 'ü''';"), (Some(14), true));
        assert_eq!(read("SELECT 1; SELECT 2; SELECT"), (Some(19), false));
    }

    #[test]
    fn a_semicolon_inside_something_does_not() {
        for (text, mark) in [
            ("SELECT 1", '-'),
            ("SELECT ';", '\''),
            ("SELECT ';'", '-'),
            ("SELECT 'it''s;", '\''),
            ("SELECT \";", '"'),
            ("SELECT 1 -- ;", '-'),
            ("SELECT 1 /* ; */", '-'),
            ("/* /* ; */ ;", '*'),
            ("SELECT $$ ; $$", '-'),
            ("SELECT $a$ ; $$ ;", '$'),
            ("SELECT $1", '-'),
        ] {
            let mut scan = Scan::default();
            assert_eq!((scan.read(text), scan.is_between(), scan.mark()), (None, false, mark), "{text}");
        }
    }

    #[test]
    fn it_reads_on_where_it_stopped() {
        let text = "SELECT 'a;\n''b' /* ;\n; */ || $x$\n;$x$ AS \"n\n;\" -- ;\n\n;\nSELECT 2";
        let mut scan = Scan::default();
        let ends: Vec<_> = text.split_inclusive('\n').map(|line| scan.read(line)).collect();
        assert_eq!(ends, [None, None, None, None, None, None, Some(1), None]);
        assert!(!scan.is_between());
    }
}
