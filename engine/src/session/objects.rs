//! What a session holds by name: what each is, how it was made and how it is.

use arrow::datatypes::SchemaRef;
use headwater_connectors::sql_name;

use super::running::Body;
use super::session::{Inner, Session};
use super::statements::TableStatus;
use crate::catalog::{Kind, Node};
use crate::error::{Error, Result};
use crate::intake::{Declaration, Origin, Run};
use crate::sql::{self, Statement, Trigger};

/// A table, view or sink.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// `table`, `view`, `materialized view` or `sink`.
    pub kind: &'static str,
    /// Where its rows come from or go to: a connector, `memory`, `channel`, `query`.
    pub made: String,
    /// Where it is in its life: `starting`, `running`, `draining`, `stopped`, `failed` or `ended`.
    pub state: &'static str,
    /// Why it can't go on, if it can't; an error row that it holds.
    pub trouble: Option<String>,
    /// How many rows; what that counts is in the text. Empty where that is not known.
    pub rows: String,
    /// Bytes of its stored output, of a materialized view.
    pub bytes: Option<usize>,
    /// The columns; of a sink, none.
    pub schema: Option<SchemaRef>,
    /// The statement that makes it as it is, with the columns and settings that are in force; empty if it was made in Rust.
    pub create: String,
    /// The statement that made it, as it was written.
    pub written: String,
}

impl Session {
    /// The tables, views and sinks, by name.
    pub fn objects(&self) -> Vec<Object> {
        self.0.catalog.named().iter().map(|(node, body)| self.0.object(node, body)).collect()
    }

    /// The table, view or sink called `name`.
    pub fn object(&self, name: &str) -> Option<Object> {
        self.0.catalog.find(name).map(|(node, body)| self.0.object(&node, &body))
    }

    /// How far the tables are that are being read for single answers alone.
    pub fn reading(&self) -> Vec<TableStatus> {
        let all = self.0.catalog.all();
        let answers = all.iter().filter(|(node, _)| node.kind == Kind::Answer);
        let runs = answers.filter_map(|(_, body)| match body {
            Body::Query(running) => Some(running.private()),
            Body::Table(_) | Body::Plain | Body::Sink(_) => None,
        });
        runs.flatten().map(|run| TableStatus::of(&run)).collect()
    }
}

impl Inner {
    fn object(&self, node: &Node, body: &Body) -> Object {
        let written = self.catalog.text(&node.name).unwrap_or_default();
        let mut object = Object {
            name: node.name.clone(),
            kind: if node.kind == Kind::MaterializedView { "materialized view" } else { node.kind.word() },
            made: "query".to_owned(),
            state: node.state().word(),
            trouble: node.failure().map(|error| error.to_string()),
            rows: String::new(),
            bytes: None,
            schema: self.scan(&node.name).ok().map(|plan| plan.schema().inner().clone()),
            create: written.clone(),
            written,
        };
        match body {
            Body::Table(run) => {
                object.made = made(&run.declaration);
                object.rows = rows(run);
                object.schema = Some(run.declaration.schema.clone());
                object.create = create(&run.declaration);
            }
            Body::Plain => {}
            Body::Query(running) => {
                object.bytes = Some(running.published.state_bytes());
                let error = running.published.error().map(crate::worker::describe);
                object.trouble = running.published.failure().map(|error| error.to_string()).or(error);
            }
            Body::Sink(query) => {
                object.schema = None;
                object.rows = format!("{} written", query.rows_written());
                if let Some(Statement::CreateSink(sink)) = statement(&object.written) {
                    object.made = sink.connector.clone().unwrap_or_default();
                    object.create = create_sink(&sink, &object.written);
                }
            }
        }
        object
    }

    /// The statement that makes `name` as it is.
    pub fn create_text(&self, name: &str) -> Result<String> {
        let (node, body) =
            self.catalog.find(name).ok_or_else(|| Error::user(format!("there is no table, view or sink '{name}'")))?;
        Ok(self.object(&node, &body).create)
    }
}

fn statement(text: &str) -> Option<Statement> {
    sql::parse(text).ok()?.pop().map(|parsed| parsed.statement)
}

fn made(declaration: &Declaration) -> String {
    let reading = if declaration.is_static { "batch" } else { "stream" };
    match &declaration.origin {
        Origin::Memory => "memory".to_owned(),
        Origin::Channel => "channel".to_owned(),
        Origin::Connector(connector, _) => format!("{}, {reading}", connector.name()),
    }
}

fn rows(run: &Run) -> String {
    match run.held() {
        Some(rows) => rows.to_string(),
        None => format!("{} read", run.counts().rows),
    }
}

/// The modes and triggers that stand in no statement stand behind it.
fn create_sink(sink: &sql::CreateSink, written: &str) -> String {
    let mode = format!("{:?}", sink.mode).to_lowercase();
    let trigger = match sink.trigger {
        Trigger::Continuous => "continuous".to_owned(),
        Trigger::Within(length) => duration(length.as_micros()),
        Trigger::Every(length) => format!("interval {}", duration(length.as_micros())),
        Trigger::AvailableNow => "available-now".to_owned(),
    };
    format!("{written}\n-- in force: mode = '{mode}', trigger = '{trigger}'")
}

/// `CREATE TABLE` with all columns and with the settings in force.
fn create(declaration: &Declaration) -> String {
    let mut elements: Vec<String> = Vec::new();
    for field in declaration.schema.fields() {
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        elements.push(format!("{} {}{null}", name(field.name()), sql_name(field.data_type())));
    }
    let mut options: Vec<(String, String)> = Vec::new();
    match &declaration.origin {
        Origin::Memory => {}
        Origin::Channel => options.push(("connector".to_owned(), "channel".to_owned())),
        Origin::Connector(connector, spec) => {
            options.push(("connector".to_owned(), connector.name().to_owned()));
            options.extend(spec.options.0.iter().map(|(name, value)| (name.clone(), value.clone())));
            let mode = if declaration.is_static { "batch" } else { "stream" };
            options.push(("mode".to_owned(), mode.to_owned()));
        }
    }
    if let Some(event) = &declaration.event_time {
        let column = name(declaration.schema.field(event.column).name());
        let config = declaration.config(event);
        let delay = duration(u128::from(config.delay));
        elements.push(format!("WATERMARK FOR {column} AS {column} - INTERVAL '{delay}'"));
        options.push(("resolution".to_owned(), duration(u128::from(config.resolution))));
        let lengths = [("max_ahead", event.max_ahead), ("idle_timeout", event.idle_timeout)];
        for (option, length) in lengths {
            options.extend(length.map(|length| (option.to_owned(), duration(length.as_micros()))));
        }
        let cut = if event.by_data { "data" } else { "round" };
        options.push(("cut".to_owned(), cut.to_owned()));
    }
    if declaration.by_clock {
        options.push(("time".to_owned(), "clock".to_owned()));
    }
    if declaration.append_only {
        options.push(("append_only".to_owned(), "true".to_owned()));
    }
    let options: Vec<String> = options
        .iter()
        .map(|(key, value)| format!("'{}' = '{}'", key.replace('\'', "''"), value.replace('\'', "''")))
        .collect();
    let with = match options.is_empty() {
        true => String::new(),
        false => format!(" WITH (\n  {}\n)", options.join(",\n  ")),
    };
    format!("CREATE TABLE {} (\n  {}\n){with}", name(&declaration.name), elements.join(",\n  "))
}

/// A name as a statement must have it.
fn name(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !matches!(name, "watermark" | "primary" | "constraint");
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A length of time in the largest unit that it is a whole number of.
fn duration(micros: u128) -> String {
    const UNITS: [(u128, &str); 5] = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "ms"),
    ];
    let whole = UNITS.iter().find(|(unit, _)| micros > 0 && micros.is_multiple_of(*unit));
    match whole {
        Some((unit, word @ "ms")) => format!("{} {word}", micros / unit),
        Some((unit, word)) if micros == *unit => format!("1 {word}"),
        Some((unit, word)) => format!("{} {word}s", micros / unit),
        None if micros == 0 => "0 seconds".to_owned(),
        None => format!("{micros} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_makes_the_same_again() {
        let texts = [
            "CREATE TABLE t (k INT NOT NULL, \"Odd \"\"name\" VARCHAR, l DOUBLE[], s STRUCT<a INT, b TIMESTAMP_LTZ>)",
            "CREATE TABLE t (k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '90' SECOND) WITH (connector = \
             'datagen', 'number-of-rows' = '3', max_ahead = '1500 us', cut = 'data', resolution = '2 s')",
            "CREATE TABLE t (d DECIMAL(10, 2), x TIMESTAMP(9)) WITH (connector = 'channel', append_only = 'true')",
        ];
        for text in texts {
            let session = Session::new().unwrap();
            session.execute(text).unwrap();
            let first = session.object("t").unwrap();
            session.execute("DROP TABLE t").unwrap();
            session.execute(&first.create).unwrap_or_else(|error| panic!("{}: {error}", first.create));
            let second = session.object("t").unwrap();
            assert_eq!((&first.create, &first.schema), (&second.create, &second.schema));
        }
    }

    #[test]
    fn rows_are_those_that_a_table_holds() {
        let session = Session::new().unwrap();
        session.execute("CREATE TABLE t (k INT); INSERT INTO t VALUES (1), (2), (3)").unwrap();
        session.execute("UPDATE t SET k = k + 1; DELETE FROM t WHERE k = 2").unwrap();
        let table = session.object("t").unwrap();
        assert_eq!((table.rows.as_str(), table.kind, table.made.as_str()), ("2", "table", "memory"));
        session
            .execute("CREATE MATERIALIZED VIEW v AS SELECT 1 / k AS x FROM t; CREATE VIEW w AS SELECT * FROM v")
            .unwrap();
        session.execute("CREATE SINK s FROM v WITH (connector = 'blackhole', mode = 'changelog')").unwrap();
        let all: Vec<_> = session.objects().into_iter().map(|o| (o.name, o.kind, o.made)).collect();
        let wanted = [
            ("s", "sink", "blackhole"),
            ("t", "table", "memory"),
            ("v", "materialized view", "query"),
            ("w", "view", "query"),
        ];
        assert_eq!(all, wanted.map(|(name, kind, made)| (name.to_owned(), kind, made.to_owned())));
        assert!(session.object("s").unwrap().create.ends_with("mode = 'changelog', trigger = 'continuous'"));
        assert!(session.object("x").is_none());
    }
}
