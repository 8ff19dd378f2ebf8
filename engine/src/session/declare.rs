//! Tables from their statements and options.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use headwater_connectors::{Options, Reach, TableSpec};

use super::running::Body;
use super::session::Inner;
use super::settings::RuntimeMode;
use crate::catalog::{Existing, Kind, New, Reserved};
use crate::error::{Error, Result};
use crate::intake::{Declaration, EventTime, Origin, Run, split};
use crate::sql::CreateTable;

/// What a statement does with what has its name.
pub(super) fn existing(or_replace: bool, if_not_exists: bool) -> Existing {
    match (or_replace, if_not_exists) {
        (true, _) => Existing::Replace,
        (false, true) => Existing::Keep,
        (false, false) => Existing::Refuse,
    }
}

impl Inner {
    /// `CREATE TABLE`: whether it is there now, and was not before.
    pub fn create_table(&self, create: &CreateTable, text: &str) -> Result<bool> {
        let existing = existing(create.or_replace, create.if_not_exists);
        let new = New { kind: Kind::Table, name: &create.name, text, existing };
        let Some(reserved) = self.claim(&new)? else { return Ok(false) };
        if !create.primary_key.is_empty() {
            return Err(Error::user(
                "PRIMARY KEY is not supported yet: a table is a multiset of rows, and nothing would keep the key. Leave it \
                 out, and remove doubles with SELECT DISTINCT or row_number()",
            ));
        }
        let watermark = create.watermark.as_ref().map(|w| (w.column.clone(), Duration::from_micros(w.delay_us)));
        let (connector, options) = (create.connector.as_deref(), create.options.clone());
        let declaration = self.declare(new.name, connector, options, create.schema.clone(), watermark, text)?;
        self.add(reserved, declaration)?;
        Ok(true)
    }

    /// Adds a declared table, in the place of one of its name if it `replaces` it; it is read once a query needs it.
    pub fn add_table(&self, declaration: Declaration, replaces: bool) -> Result<()> {
        let (name, text) = (&declaration.name, &declaration.text);
        match self.claim(&New { kind: Kind::Table, name, text, existing: existing(replaces, false) })? {
            Some(reserved) => self.add(reserved, declaration),
            None => Ok(()),
        }
    }

    fn add(&self, reserved: Reserved<Body>, declaration: Declaration) -> Result<()> {
        let declaration = Arc::new(declaration);
        let run = Run::new(declaration.clone(), reserved.node.clone(), &self.fabric.context);
        if !matches!(declaration.origin, Origin::Connector(..)) {
            reserved.node.begin();
        }
        let meta = declaration.meta(reserved.node.id);
        self.commit(reserved, Body::Table(run), |planner| planner.register_table(meta))
    }

    /// A declaration of a table from its options; infers the columns where none are given.
    pub fn declare(
        &self,
        name: &str,
        connector: Option<&str>,
        options: Options,
        schema: Option<arrow::datatypes::SchemaRef>,
        watermark: Option<(String, Duration)>,
        text: &str,
    ) -> Result<Declaration> {
        let (own, rest) = split(options)?;
        let without = |what: &str| {
            Error::user(format!("table '{name}' needs its columns declared: {what} has none to infer them from"))
        };
        // A table with event time is a stream, unless it or the session says otherwise.
        let is_stream = |otherwise: bool| match (self.settings().mode, watermark.is_some()) {
            (RuntimeMode::Batch, _) => false,
            (RuntimeMode::Streaming, true) => true,
            (_, timed) => own.stream.unwrap_or(timed || otherwise),
        };
        let (origin, schema, is_stream) = match connector {
            None if !rest.0.is_empty() => {
                let option = rest.0.keys().next().map_or("", String::as_str);
                return Err(Error::user(format!(
                    "table '{name}' has the option '{option}' but no connector: add connector = 'filesystem' or another"
                )));
            }
            None | Some("channel") if own.idle_timeout.is_some() => {
                return Err(Error::user(format!(
                    "table '{name}': idle_timeout is for tables that a connector reads; rows that are pushed hold nothing \
                     back once their Input is dropped"
                )));
            }
            None => (Origin::Memory, schema.ok_or_else(|| without("a table in memory"))?, true),
            Some("channel") => {
                if let Some(option) = rest.0.keys().next() {
                    return Err(Error::user(format!("the connector 'channel' has no option '{option}'")));
                }
                (Origin::Channel, schema.ok_or_else(|| without("a channel"))?, true)
            }
            Some(connector) => {
                let connector = self.registry.get(connector)?.clone();
                let mut spec = TableSpec { name: name.to_owned(), options: rest, schema, ..TableSpec::default() };
                let is_stream = is_stream(connector.is_stream(&spec));
                if !(is_stream && connector.is_stream(&spec)) {
                    spec.reach = Reach::Once { growing: false };
                }
                let schema = connector.schema(&spec)?;
                spec.schema = Some(schema.clone());
                (Origin::Connector(connector, spec), schema, is_stream)
            }
        };
        if own.append_only.is_some() && !matches!(origin, Origin::Channel) {
            return Err(Error::user(format!("table '{name}': 'append_only' is an option of the connector 'channel'")));
        }
        let event_time = watermark.map(|(column, delay)| {
            let (index, field) = schema.column_with_name(&column).ok_or_else(|| {
                let known: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::user(format!("WATERMARK FOR {column}: table '{name}' has no such column; it has {}", known.join(", ")))
            })?;
            if !matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
                return Err(Error::user(format!(
                    "WATERMARK FOR {column}: the column is of type {}, not a timestamp; declare it TIMESTAMP, or convert it",
                    field.data_type()
                )));
            }
            let bounded_file = matches!(&origin, Origin::Connector(c, spec) if !c.is_stream(spec));
            Ok(EventTime {
                column: index,
                delay,
                resolution: own.resolution,
                max_ahead: own.max_ahead,
                idle_timeout: own.idle_timeout,
                by_data: own.cut_by_data.unwrap_or(bounded_file),
            })
        });
        let event_time = event_time.transpose()?;
        if let (Origin::Connector(_, spec), None) = (&origin, &event_time)
            && let Some(order) = spec.options.get("scan.order")
        {
            return Err(Error::user(format!(
                "table '{name}' has no event time to be read by, so scan.order = '{order}' can't be: declare WATERMARK FOR \
                 the column that has it, or leave the option out"
            )));
        }
        let text = text.to_owned();
        Ok(Declaration {
            name: name.to_owned(),
            schema,
            origin,
            event_time,
            is_static: !is_stream,
            by_clock: own.by_clock,
            append_only: own.append_only.unwrap_or(false),
            text,
            read: Arc::default(),
        })
    }

    /// The same table with another watermark.
    pub fn redeclare(&self, declaration: &Declaration, watermark: (String, Duration)) -> Result<Declaration> {
        let (connector, options) = match &declaration.origin {
            Origin::Memory => (None, Options::default()),
            Origin::Channel => (Some("channel"), Options::default()),
            Origin::Connector(connector, spec) => (Some(connector.name()), spec.options.clone()),
        };
        let mut options = options;
        let mode = if declaration.is_static { "batch" } else { "stream" };
        if matches!(declaration.origin, Origin::Connector(..)) {
            options.0.insert("mode".to_owned(), mode.to_owned());
        }
        let schema = Some(declaration.schema.clone());
        self.declare(&declaration.name, connector, options, schema, Some(watermark), &declaration.text)
    }
}
