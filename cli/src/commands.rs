//! The commands of the prompt that are not SQL.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use clap::ValueEnum;
use headwater::Object;

use crate::args::Format;
use crate::failure::Failure;
use crate::look::Expanded;
use crate::notes::{late, note};
use crate::script;
use crate::shell::Shell;

const HELP: &str = "\
Statements end with a semicolon and may take several lines.

  \\d             the tables, views and sinks
  \\d NAME        one of them: its columns, how it is doing, and the statement that makes it
  \\df            the functions
  \\i FILE        run a file of statements
  \\x [on|off|auto]        a line a column; auto: where a table is wider than the screen
  \\rows N|all    how many rows are shown on a terminal
  \\pager [on|off]         whether answers go through $PAGER, whole
  \\format table|csv|json  how answers are written
  \\timing [on|off]        show how long each statement takes
  \\?, help       this help
  \\q, exit       leave (as does Ctrl-D)

Tab completes names. Ctrl-C cancels the statement that runs, or clears what is being typed.

  CREATE TABLE t (a INT, b TEXT);
  CREATE MATERIALIZED VIEW v AS SELECT b, sum(a) AS total FROM t GROUP BY b;
  INSERT INTO t VALUES (1, 'x'), (2, 'x');
  SELECT * FROM v;
  FROM 'some.csv' LIMIT 10;
";

/// The commands, for completion.
pub const COMMANDS: [&str; 11] =
    ["\\d", "\\df", "\\format", "\\i", "\\pager", "\\q", "\\rows", "\\timing", "\\x", "\\?", "\\help"];

/// What to do after a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for more.
    Go,
    /// Leave.
    Quit,
}

impl Shell {
    /// Does what a command asks for; it has no backslash.
    pub fn command(&mut self, text: &str, out: &mut dyn Write) -> Result<Next, Failure> {
        let text = text.trim_end_matches(';').trim();
        let (name, argument) = text.split_once(char::is_whitespace).map_or((text, ""), |(n, a)| (n, a.trim()));
        // psql's `+` asks for more; there is no more.
        let name = if name.starts_with('d') { name.trim_end_matches('+') } else { name };
        match (name, argument) {
            ("q" | "quit" | "exit", _) => return Ok(Next::Quit),
            ("?" | "h" | "help", _) => write!(out, "{HELP}")?,
            ("d" | "dt" | "dv" | "dm" | "l" | "list" | "tables" | "schema", "") => self.list(name, out)?,
            ("d" | "dt" | "dv" | "dm" | "schema", name) => self.describe(name, out)?,
            ("df", _) => self.statements("", "SHOW FUNCTIONS", out)?,
            ("i" | "read", "") => note(out, format_args!("\\{name} needs a file"))?,
            ("i" | "read", file) => {
                let (source, text) = script::read(Path::new(file.trim_matches('\'')))?;
                self.statements(&source, &text, out)?;
            }
            ("timing" | "timer", argument) => match switched(argument, self.timing) {
                Some(timing) => {
                    self.timing = timing;
                    note(out, format_args!("timing is {}", on_or_off(timing)))?;
                }
                None => note(out, "\\timing takes on or off")?,
            },
            ("x", argument) => self.expand(argument, out)?,
            ("rows" | "maxrows", argument) => self.limit(argument, out)?,
            ("pager", argument) => match switched(argument, self.look.pager) {
                Some(pager) => {
                    self.look.pager = pager;
                    note(out, format_args!("the pager is {}", on_or_off(pager)))?;
                }
                None => note(out, "\\pager takes on or off; which one is in $PAGER")?,
            },
            ("format" | "mode", format) => match Format::from_str(format, true) {
                Ok(format) => self.look.format = format,
                Err(_) => note(out, format_args!("\\{name} takes table, csv or json"))?,
            },
            ("c" | "connect" | "dn", _) => {
                note(out, "there is one database, without schemas: \\d shows what is in it")?
            }
            _ => note(out, format_args!("there is no command \\{text}; \\? lists those that there are"))?,
        }
        Ok(Next::Go)
    }

    fn expand(&mut self, argument: &str, out: &mut dyn Write) -> io::Result<()> {
        let expanded = match argument {
            "auto" => Some(Expanded::Auto),
            _ => switched(argument, self.look.expanded == Expanded::On).map(|on| match on {
                true => Expanded::On,
                false => Expanded::Off,
            }),
        };
        let Some(expanded) = expanded else { return note(out, "\\x takes on, off or auto") };
        self.look.expanded = expanded;
        note(
            out,
            match expanded {
                Expanded::Off => "rows are shown as tables",
                Expanded::On => "rows are shown as records, a line a column",
                Expanded::Auto => "rows are shown as records where a table is wider than the screen",
            },
        )
    }

    fn limit(&mut self, argument: &str, out: &mut dyn Write) -> io::Result<()> {
        match argument {
            "" => {}
            "all" | "0" => self.look.rows = None,
            _ => match argument.parse() {
                Ok(rows) => self.look.rows = Some(rows),
                Err(_) => return note(out, "\\rows takes a number, or all"),
            },
        }
        match self.look.rows {
            Some(rows) => note(out, format_args!("at most {rows} rows are shown on a terminal")),
            None => note(out, "all rows are shown"),
        }
    }

    /// What there is, of the kind that psql's command means.
    fn list(&self, command: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let wanted = |object: &Object| match command {
            "dt" => object.kind == "table",
            "dv" => object.kind == "view",
            "dm" => object.kind == "materialized view",
            _ => true,
        };
        let objects: Vec<Object> = self.session.objects().into_iter().filter(wanted).collect();
        let column = |value: fn(&Object) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(objects.iter().map(value)))
        };
        let columns = [
            ("name", column(|object| &object.name)),
            ("kind", column(|object| object.kind)),
            ("made by", column(|object| &object.made)),
            ("state", column(|object| object.state)),
            ("rows", column(|object| &object.rows)),
        ];
        let rows = RecordBatch::try_from_iter(columns).map_err(io::Error::other)?;
        Ok(self.look.list(out, &rows)?)
    }

    /// A table, view or sink: its columns, how it is doing, the statement that makes it.
    fn describe(&self, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let plain = name.trim_matches('"');
        let found = self.session.object(plain).or_else(|| self.session.object(&plain.to_lowercase()));
        let Some(object) = found else {
            let error = headwater::Error::user(format!("there is no table, view or sink '{plain}'; \\d lists them"));
            return Err(Failure::of("")(error));
        };
        if let Some(schema) = &object.schema {
            let fields = schema.fields();
            let texts = |texts: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
            let types = fields.iter().map(|field| headwater::connectors::sql_name(field.data_type()));
            let nulls = fields.iter().map(|field| if field.is_nullable() { "yes" } else { "no" }.to_owned());
            let columns = [
                ("column", texts(fields.iter().map(|field| field.name().clone()).collect())),
                ("type", texts(types.collect())),
                ("null", texts(nulls.collect())),
            ];
            self.look.list(out, &RecordBatch::try_from_iter(columns).map_err(io::Error::other)?)?;
        }
        let mut about = format!("{} '{}' ({}): {}", object.kind, object.name, object.made, object.state);
        if !object.rows.is_empty() {
            let unit = if object.rows.contains(' ') { "" } else { " held" };
            about.push_str(&format!(", rows: {}{unit}", object.rows));
        }
        if let Some(bytes) = object.bytes {
            about.push_str(&format!(", {bytes} bytes stored"));
        }
        if let Some(table) = self.session.tables().into_iter().find(|table| table.name == object.name) {
            let counts = table.counts;
            if counts.rejected > 0 {
                about.push_str(&format!(", {} rejected", counts.rejected));
            }
            if counts.late > 0 {
                about.push_str(&format!(", {} late{}", counts.late, late(&table)));
            }
        }
        writeln!(out, "{about}")?;
        if let Some(trouble) = &object.trouble {
            writeln!(out, "{trouble}")?;
        }
        match object.create.as_str() {
            "" => {}
            create if create.contains("\n-- ") => writeln!(out, "{create}")?,
            create => writeln!(out, "{create};")?,
        }
        Ok(())
    }
}

/// `on` or `off`; the other one of `now` if nothing is said.
fn switched(argument: &str, now: bool) -> Option<bool> {
    match argument {
        "" => Some(!now),
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::Look;
    use headwater::Session;

    fn shell() -> Shell {
        let mut shell = Shell::new(Session::new().unwrap(), Look::whole(Format::Table));
        shell
            .statements(
                "",
                "CREATE TABLE t (k INT, v VARCHAR); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
                &mut io::sink(),
            )
            .unwrap();
        shell
    }

    fn said(shell: &mut Shell, command: &str) -> String {
        let mut out = Vec::new();
        assert_eq!(shell.command(command, &mut out).unwrap(), Next::Go);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_there_is_is_listed_with_what_it_is() {
        let mut shell = shell();
        shell
            .statements(
                "",
                "CREATE MATERIALIZED VIEW m AS SELECT sum(k) AS n FROM t; UPDATE t SET v = 'x' WHERE k = 1",
                &mut io::sink(),
            )
            .unwrap();
        let text = said(&mut shell, "d");
        let row = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap().to_owned();
        let cells = |name: &str| row(name).split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(cells("t")[1..6], ["t", "table", "memory", "running", "3"]);
        assert_eq!(cells("m")[1..4], ["m", "materialized view", "query"]);
        assert!(!said(&mut shell, "dt").contains("| m "), "{text}");
        assert_eq!(text, said(&mut shell, "d+"));
    }

    #[test]
    fn one_is_described_in_order_and_at_once() {
        let mut shell = shell();
        let text = said(&mut shell, "d t");
        let places: Vec<_> = [
            "| k      | INT     |",
            "2 rows",
            "table 't' (memory): running, rows: 3 held",
            "CREATE TABLE t (\n  k INT,\n  v VARCHAR\n);\n",
        ]
        .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} in {text}")))
        .into();
        assert!(places.is_sorted(), "{text}");
        let error = shell.command("d nowhere", &mut io::sink()).unwrap_err().to_string();
        assert!(error.contains("'nowhere'"), "{error}");
    }

    #[test]
    fn settings_switch() {
        let mut shell = shell();
        for (command, expanded) in
            [("x", Expanded::On), ("x", Expanded::Off), ("x auto", Expanded::Auto), ("x off", Expanded::Off)]
        {
            said(&mut shell, command);
            assert_eq!(shell.look.expanded, expanded, "{command}");
        }
        said(&mut shell, "rows 7");
        assert_eq!(shell.look.rows, Some(7));
        said(&mut shell, "maxrows all");
        assert_eq!(shell.look.rows, None);
        said(&mut shell, "timer on");
        assert!(shell.timing);
        said(&mut shell, "mode json");
        assert_eq!(shell.look.format, Format::Json);
        assert_eq!(shell.command("exit", &mut io::sink()).unwrap(), Next::Quit);
    }
}
