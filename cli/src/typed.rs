//! What is being typed: lines that become statements.

use crate::scan::Scan;

/// What was typed of a statement that has not ended.
#[derive(Default)]
pub struct Typed {
    text: String,
    scan: Scan,
}

impl Typed {
    /// The beginning of the statement.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing of a statement is there.
    pub fn is_empty(&self) -> bool {
        self.scan.is_between()
    }

    /// Whether the end of the text stands in no quotes and no comment.
    pub fn is_plain(&self) -> bool {
        self.scan.is_plain()
    }

    /// Takes a line: the statements that it ends, as one text.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if self.is_empty() && self.text.trim().is_empty() {
            // Places in errors are those in what was typed.
            self.text.clear();
        }
        let start = self.text.len();
        self.text.push_str(line);
        self.text.push('\n');
        let end = start + self.scan.read(&self.text[start..])?;
        let rest = self.text.split_off(end);
        Some(std::mem::replace(&mut self.text, rest))
    }

    /// What stands before the next line.
    pub fn prompt(&self) -> String {
        if self.is_empty() { "headwater> ".to_owned() } else { format!("headwater{}> ", self.scan.mark()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_statements() {
        let mut typed = Typed::default();
        let mut prompts = Vec::new();
        let mut done = Vec::new();
        for line in ["SELECT 1; SELECT", " 'a;", "b';  -- ;", "SELECT 2;"] {
            prompts.push(typed.prompt());
            done.extend(typed.line(line));
        }
        assert_eq!(done, ["SELECT 1;", " SELECT\n 'a;\nb';", "  -- ;\nSELECT 2;"]);
        assert_eq!(typed.line("SELECT 3;").unwrap(), "SELECT 3;");
        assert_eq!(prompts, ["headwater> ", "headwater-> ", "headwater'> ", "headwater> "]);
    }
}
