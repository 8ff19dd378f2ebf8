//! Options of a connector, as written in `WITH (..)` or given by `.option(..)`.

use std::collections::BTreeMap;

/// What an option means, for checking and for help.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The option's name, in Flink's words where it has one.
    pub name: &'static str,
    /// What it takes, e.g. `a path`, `true or false`, `rows a second`.
    pub takes: &'static str,
    /// What holds when it is not given; `None` if it must be.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// The options that a statement gives, by lower-case name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);
