//! Options of a connector, as written in `WITH (..)` or given by `.option(..)`, and the one place that checks them.
//!
//! A connector lists its options as [`OptionSpec`]s and reads them through [`Checked`], which has refused by then
//! whatever is not in the list. Names are compared without case.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};

/// What an option means, for checking and for help.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The option's name, in Flink's words where it has one, in lower case. A part in angle brackets stands for any
    /// name, e.g. `fields.<column>.kind`.
    pub name: &'static str,
    /// Other names for it, e.g. Spark's, in lower case.
    pub aliases: &'static [&'static str],
    /// What it takes, e.g. `a path`, `true or false`, `rows a second`.
    pub takes: &'static str,
    /// What holds when it is not given; `None` if it must be. An empty text: nothing in particular.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

impl OptionSpec {
    /// Whether `name` (in lower case) means this option.
    pub fn matches(&self, name: &str) -> bool {
        matches_pattern(self.name, name) || self.aliases.iter().any(|alias| matches_pattern(alias, name))
    }
}

/// Whether `name` is `pattern`, where `<..>` in the pattern stands for one or more characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('<') else { return pattern == name };
    let Some((_, after)) = rest.split_once('>') else { return pattern == name };
    name.len() > before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
}

/// The options that a statement gives, by lower-case name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

impl Options {
    /// Sets an option; names are kept in lower case.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl ToString) {
        self.0.insert(name.as_ref().to_lowercase(), value.to_string());
    }

    /// The option as written; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Checks the names against `specs`: an unknown one, one given twice under two names, or a missing one is an error
    /// that says what `subject` (e.g. `connector 'datagen'`) takes.
    pub fn check<'a>(&'a self, subject: &str, specs: &'a [OptionSpec]) -> Result<Checked<'a>> {
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for name in self.0.keys() {
            let Some(spec) = specs.iter().find(|spec| spec.matches(name)) else {
                return Err(unknown(subject, name, specs));
            };
            if !spec.name.contains('<')
                && let Some(before) = given.insert(spec.name, name)
            {
                return Err(Error::User(format!(
                    "options '{before}' and '{name}' of {subject} mean the same; give one"
                )));
            }
        }
        if let Some(spec) = specs.iter().find(|spec| spec.default.is_none() && !given.contains_key(spec.name)) {
            return Err(Error::User(format!(
                "{subject} needs the option '{}' ({}): {}",
                spec.name, spec.takes, spec.help
            )));
        }
        Ok(Checked { subject: subject.to_string(), options: self, specs })
    }
}

impl<K: AsRef<str>, V: ToString> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut options = Options::default();
        for (name, value) in pairs {
            options.set(name, value);
        }
        options
    }
}

fn unknown(subject: &str, name: &str, specs: &[OptionSpec]) -> Error {
    let mut names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    names.sort_unstable();
    let all = specs.iter().flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
    let meant = match nearest(name, all) {
        Some(near) => format!("; did you mean '{near}'?"),
        None => String::new(),
    };
    let known = match names.is_empty() {
        true => "it takes none".to_string(),
        false => format!("it takes {}", names.join(", ")),
    };
    Error::User(format!("{subject} has no option '{name}'{meant} ({known})"))
}

/// Options whose names are all known, to be read by type. The getters take a name of the specs.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    subject: String,
    options: &'a Options,
    specs: &'a [OptionSpec],
}

impl Checked<'_> {
    /// The text given under this name or one of its aliases.
    pub fn given(&self, name: &str) -> Option<&str> {
        if let Some(value) = self.options.get(name) {
            return Some(value);
        }
        let spec = self.specs.iter().find(|spec| spec.name == name)?;
        spec.aliases.iter().find_map(|alias| self.options.get(alias))
    }

    /// The text given, or the default; `None` if there is neither.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given(name).or_else(|| {
            let spec = self.specs.iter().find(|spec| spec.matches(name))?;
            spec.default.filter(|default| !default.is_empty())
        })
    }

    /// The value as `read` understands it, or the default; an error says what the option takes.
    pub fn value<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match read(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(name)),
        }
    }

    /// The value; an error if there is none.
    pub fn required<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.value(name, read)?.ok_or_else(|| Error::User(format!("{} needs the option '{name}'", self.subject)))
    }

    /// `true` or `false`; without a default, false.
    pub fn bool(&self, name: &str) -> Result<bool> {
        Ok(self.value(name, parse_bool)?.unwrap_or(false))
    }

    /// A whole number, 0 or more; `_` may group digits.
    pub fn count(&self, name: &str) -> Result<Option<u64>> {
        self.value(name, parse_count)
    }

    /// A duration such as `10 s`, `100 ms`, `5 minutes`.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        self.value(name, parse_duration)
    }

    /// A size such as `128 MB`, in bytes.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        self.value(name, parse_size)
    }

    /// One character.
    pub fn char(&self, name: &str) -> Result<Option<u8>> {
        // Not through `value`: a blank or a tab is a fine delimiter, so nothing is trimmed.
        let Some(text) = self.text(name) else { return Ok(None) };
        match text {
            "\\t" | "tab" => Ok(Some(b'\t')),
            _ if text.len() == 1 && text != "\n" && text != "\r" => Ok(text.bytes().next()),
            _ => Err(self.wrong(name)),
        }
    }

    /// One of `choices`: its position.
    pub fn choice(&self, name: &str, choices: &[&str]) -> Result<Option<usize>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match choices.iter().position(|choice| choice.eq_ignore_ascii_case(text.trim())) {
            Some(position) => Ok(Some(position)),
            None => {
                let meant = nearest(text, choices.iter().copied()).map(|near| format!("; did you mean '{near}'?"));
                let Error::User(message) = self.wrong(name) else { return Err(self.wrong(name)) };
                Err(Error::User(message + &meant.unwrap_or_default()))
            }
        }
    }

    /// The error for a value that does not fit: names the option, the value and what it takes.
    pub fn wrong(&self, name: &str) -> Error {
        let value = self.text(name).unwrap_or_default();
        let takes = self.specs.iter().find(|spec| spec.matches(name)).map_or("something else", |spec| spec.takes);
        Error::User(format!("option '{name}' of {} takes {takes}, not '{value}'", self.subject))
    }

    /// What the options belong to, e.g. `table 't' (connector 'datagen')`.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// `true`, `yes`, `on`, `1` and their opposites.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A whole number, 0 or more, e.g. `10_000`.
pub fn parse_count(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.parse().ok()
}

/// A number and a unit, e.g. `10 s`, `100 ms`, `5 minutes`, `1.5 hours`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit.as_str() {
        "us" | "micros" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millis" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 7.0 * 86_400.0,
        "" if number == 0.0 => 0.0,
        _ => return None,
    };
    let micros = (number * seconds * 1e6).round();
    (micros <= 1e18).then(|| Duration::from_micros(micros as u64))
}

/// A number and a unit, e.g. `128 MB`, `64 KiB`, `1000 bytes`; without a unit, bytes. 1 KB is 1024 bytes, as in Flink.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let bytes = match unit.as_str() {
        "" | "b" | "byte" | "bytes" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = (number * bytes).round();
    (bytes <= 1e18).then_some(bytes as u64)
}

fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// The candidate nearest to `word`, if one is near enough to be a slip of the pen.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters to insert, delete, replace or swap with their neighbour to make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec { name: "path", aliases: &[], takes: "a path", default: None, help: "where the files are" },
        OptionSpec {
            name: "csv.field-delimiter",
            aliases: &["delimiter", "sep"],
            takes: "one character",
            default: Some(","),
            help: "between two fields",
        },
        OptionSpec {
            name: "wait",
            aliases: &[],
            takes: "a duration such as '10 s'",
            default: Some("1 s"),
            help: "how long",
        },
        OptionSpec {
            name: "fields.<column>.kind",
            aliases: &[],
            takes: "'random' or 'sequence'",
            default: Some("random"),
            help: "how values are made",
        },
    ];

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("should be refused").to_string()
    }

    #[test]
    fn names_are_checked() {
        let options: Options = [("path", "x"), ("delimter", ";")].into_iter().collect();
        let message_ = message(options.check("connector 'filesystem'", SPECS));
        assert_eq!(
            message_,
            "connector 'filesystem' has no option 'delimter'; did you mean 'delimiter'? \
             (it takes csv.field-delimiter, fields.<column>.kind, path, wait)"
        );
        let options: Options = [("sep", ";")].into_iter().collect();
        assert_eq!(message(options.check("c", SPECS)), "c needs the option 'path' (a path): where the files are");
        let options: Options = [("path", "p"), ("sep", ";"), ("delimiter", ";")].into_iter().collect();
        assert_eq!(message(options.check("c", SPECS)), "options 'delimiter' and 'sep' of c mean the same; give one");
    }

    #[test]
    fn values_are_typed() {
        let options: Options =
            [("PATH", "p"), ("Sep", "\\t"), ("wait", "10"), ("fields.a.b.kind", "rnadom")].into_iter().collect();
        let checked = options.check("c", SPECS).expect("known");
        assert_eq!(checked.char("csv.field-delimiter").expect("a character"), Some(b'\t'));
        assert_eq!(message(checked.duration("wait")), "option 'wait' of c takes a duration such as '10 s', not '10'");
        assert_eq!(
            message(checked.choice("fields.a.b.kind", &["random", "sequence"])),
            "option 'fields.a.b.kind' of c takes 'random' or 'sequence', not 'rnadom'; did you mean 'random'?"
        );
        let defaults: Options = [("path", "p")].into_iter().collect();
        let checked = defaults.check("c", SPECS).expect("known");
        assert_eq!(checked.duration("wait").expect("a duration"), Some(Duration::from_secs(1)));
        assert_eq!(checked.choice("fields.x.kind", &["random", "sequence"]).expect("a choice"), Some(0));
    }

    #[test]
    fn durations_and_sizes() {
        for (text, micros) in [
            ("10 s", 10_000_000),
            ("100ms", 100_000),
            ("5 minutes", 300_000_000),
            ("1.5 h", 5_400_000_000),
            ("0", 0),
            ("2 days", 172_800_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "10", "s", "-1 s", "1 parsec", "1e3 s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_size("128 MB"), Some(128 << 20));
        assert_eq!(parse_size("1_000"), Some(1000));
        assert_eq!(parse_size("1 furlong"), None);
        assert_eq!(nearest("hedaer", ["header", "path"]), Some("header"));
        assert_eq!(nearest("zzz", ["header", "path"]), None);
    }
}
