//! JSON text (RFC 8259), looked through once: where its values are, or what is wrong and at which character.
//!
//! Nothing is read into numbers or text here, so nothing is lost: a value is the place that it has in the text.

use std::borrow::Cow;

use memchr::memchr2;

/// How deep objects and lists may be in one another.
const DEEPEST: usize = 128;

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`, or not there.
    #[default]
    Null,
    /// A number, `true` or `false`.
    Bare,
    /// A string without escapes; its place is between the quotes.
    Text,
    /// A string with escapes.
    Escaped,
    List,
    Object,
}

/// A value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) kind: Kind,
}

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) what: Cow<'static, str>,
}

type Result<T> = std::result::Result<T, Fault>;

/// A place in JSON text.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// The text from `start` to `end`; places are counted from the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], start: usize, end: usize) -> Scanner<'a> {
        Scanner { bytes: &bytes[..end], at: start, depth: 0 }
    }

    fn fault<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        Err(Fault { at: self.at, what: what.into() })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// There must be nothing more.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault("something follows the value"),
        }
    }

    /// The value that begins here, and moves on behind it.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Cell> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(self.cell(start, Kind::Bare))
            }
            Some(b'{') => {
                self.object(|scanner, _| scanner.value().map(drop))?;
                Ok(self.cell(start, Kind::Object))
            }
            Some(b'[') => {
                self.list(|_| {})?;
                Ok(self.cell(start, Kind::List))
            }
            Some(b't') => self.word(b"true", Kind::Bare),
            Some(b'f') => self.word(b"false", Kind::Bare),
            Some(b'n') => self.word(b"null", Kind::Null),
            Some(_) => self.fault("a value is expected"),
            None => self.fault("it ends before a value does"),
        }
    }

    #[inline]
    fn cell(&self, start: usize, kind: Kind) -> Cell {
        Cell { start: start as u32, end: self.at as u32, kind }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Cell> {
        let start = self.at;
        if !self.bytes[self.at..].starts_with(word) {
            return self.fault("a value is expected");
        }
        self.at += word.len();
        Ok(self.cell(start, kind))
    }

    fn digits(&mut self) -> Result<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fault("a digit is expected");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let start = self.at;
        self.digits()?;
        if zero && self.at > start + 1 {
            self.at = start;
            return self.fault("a number begins with a zero; write it as text, in quotes");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// A string; its cell is between the quotes.
    #[inline]
    fn string(&mut self) -> Result<Cell> {
        let start = self.at + 1;
        let mut kind = Kind::Text;
        let mut at = start;
        loop {
            let Some(found) = memchr2(b'"', b'\\', &self.bytes[at..]) else {
                self.at = self.bytes.len();
                return self.fault("a string is not closed");
            };
            at += found;
            if self.bytes[at] == b'"' {
                break;
            }
            kind = Kind::Escaped;
            self.at = at;
            at = self.escape()?.1;
        }
        if let Some(control) = self.bytes[start..at].iter().position(|byte| *byte < 0x20) {
            self.at = start + control;
            return self.fault("a string holds a control character as it is; write \\t, \\n or \\u00..");
        }
        self.at = at + 1;
        Ok(Cell { start: start as u32, end: at as u32, kind })
    }

    /// The character that an escape means, and where it ends.
    fn escape(&self) -> Result<(char, usize)> {
        let at = self.at + 1;
        let character = match self.bytes.get(at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(at + 1),
            _ => return self.fault("an escape that JSON does not have"),
        };
        Ok((character, at + 1))
    }

    fn unicode(&self, at: usize) -> Result<(char, usize)> {
        let unit = |at: usize| -> Option<u32> {
            let four = self.bytes.get(at..at + 4)?;
            four.iter().try_fold(0, |value, byte| Some(value * 16 + char::from(*byte).to_digit(16)?))
        };
        let Some(first) = unit(at) else { return self.fault("\\u needs four hexadecimal digits") };
        if let Some(character) = char::from_u32(first) {
            return Ok((character, at + 4));
        }
        let second = self.bytes[at + 4..].starts_with(b"\\u").then(|| unit(at + 6)).flatten();
        let whole = second.filter(|second| first < 0xdc00 && (0xdc00..0xe000).contains(second));
        match whole.and_then(|second| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))) {
            Some(character) => Ok((character, at + 10)),
            None => self.fault(format!("\\u{first:04x} is half of a character (a lone surrogate)")),
        }
    }

    fn deeper(&mut self) -> Result<()> {
        if self.depth == DEEPEST {
            return self.fault(format!("objects and lists are more than {DEEPEST} deep in one another"));
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Behind an entry of an object or list: whether another one follows.
    #[inline]
    fn more(&mut self, close: u8) -> Result<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(_) => self.fault(format!("a comma or {} is expected", char::from(close))),
            None => self.fault(format!("it ends before its {}", char::from(close))),
        }
    }

    /// The object that begins here: calls `each` with the key of each entry, to move on behind its value.
    pub(crate) fn object(&mut self, mut each: impl FnMut(&mut Self, Cell) -> Result<()>) -> Result<()> {
        self.deeper()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            match self.peek() {
                Some(b'"') => {}
                Some(_) => return self.fault("a name in double quotes is expected"),
                None => return self.fault("it ends before its }"),
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.fault("a colon is expected");
            }
            self.at += 1;
            each(self, key)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// The list that begins here, each value of it.
    pub(crate) fn list(&mut self, mut each: impl FnMut(Cell)) -> Result<()> {
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            each(self.value()?);
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }
}

/// The text of a string with escapes, which was looked through before.
pub(crate) fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut scanner, mut from) = (Scanner::new(text.as_bytes(), 0, text.len()), 0);
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[from..]) {
        plain.push_str(&text[from..from + found]);
        scanner.at = from + found;
        let Ok((character, behind)) = scanner.escape() else { break };
        plain.push(character);
        from = behind;
    }
    plain.push_str(&text[from..]);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> std::result::Result<Kind, (usize, String)> {
        let mut scanner = Scanner::new(text.as_bytes(), 0, text.len());
        let whole = scanner.value().and_then(|cell| scanner.end().map(|()| cell.kind));
        whole.map_err(|fault| (fault.at, fault.what.into_owned()))
    }

    /// What is JSON here is JSON for serde_json, and the other way round.
    #[test]
    fn the_grammar_is_that_of_json() {
        for text in [
            "null",
            "true",
            "false",
            "tru",
            "nul",
            "0",
            "-0",
            "-",
            "01",
            "-01",
            "1.",
            ".5",
            "1.5",
            "1e5",
            "1E+5",
            "1e",
            "1e+",
            "+1",
            "0x10",
            "1_000",
            "NaN",
            "Infinity",
            "\"\"",
            "\"a\"",
            "\"a",
            "\"\\",
            "\"\\n\\/\\b\\f\\r\\t\"",
            "\"\\x\"",
            "\"\\u00e9\"",
            "\"\\u00g0\"",
            "\"\\u12\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "\"\t\"",
            "[]",
            "[1]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2",
            "[",
            "]",
            "{}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\" :\t1 , \"b\":[{}]}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1",
            "{",
            " 1 ",
            "1 2",
            "{} {}",
            "",
            " ",
            "\u{feff}1",
            "\"é\"",
            "1,",
            "[[]]",
        ] {
            let other = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(look(text).is_ok(), other.is_ok(), "{text:?}: {:?} {other:?}", look(text));
            if let Ok(serde_json::Value::String(other)) = other {
                assert_eq!(unescaped(&text[1..text.len() - 1]), other);
            }
        }
        // Any cut through a value, and any byte of it changed.
        let text = r#"{"a":[1.5e-3,-2,true,null],"b":{"cé":"x\n\ud83d\ude00"},"d":"e"}"#;
        for cut in 0..text.len() {
            if text.is_char_boundary(cut) {
                assert!(look(&text[..cut]).is_err(), "{}", &text[..cut]);
            }
            for byte in b"{}[],:\"\\0e-.tn x" {
                let mut changed = text.as_bytes().to_vec();
                changed[cut] = *byte;
                let Ok(changed) = String::from_utf8(changed) else { continue };
                let other = serde_json::from_str::<serde_json::Value>(&changed);
                // Its numbers have a range.
                let known = other.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
                assert!(known || look(&changed).is_ok() == other.is_ok(), "{changed}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, at, what) in [
            ("{\"a\":007}", 5, "begins with a zero"),
            ("{\"a\":\"x\ty\"}", 7, "control character"),
            ("{\"a\":\"\\ud83d\"}", 6, "\\ud83d is half"),
            ("{\"a\":1 \"b\":2}", 7, "a comma or }"),
            ("{\"a\":1} {", 8, "something follows"),
        ] {
            let (place, said) = look(text).expect_err("a fault");
            assert!(place == at && said.contains(what), "{text}: {place} {said}");
        }
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(look(&deep(128)).is_ok());
        assert!(look(&deep(129)).is_err_and(|(_, what)| what.contains("more than 128 deep")));
        assert!(look(&"[{\"a\":".repeat(100_000)).is_err());
    }
}
