//! Executing statements.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_connectors::{Changes, Options, OutputMode, TableSpec};

use super::intake::IntakeCounts;
use super::session::{Inner, Reading, Session, ViewEntry};
use super::settings::RuntimeMode;
use super::sinks::{Query, SinkEntry};
use super::subscription::Subscription;
use super::table::{Declaration, EventTime, Origin};
use crate::dataframe::DataFrame;
use crate::error::{Error, Result};
use crate::plan::catalog::ViewMeta;
use crate::plan::{OnError, Plan, Purpose};
use crate::sql::{self, CreateSink, CreateTable, CreateView, DropKind, Parsed, Show, Statement, Trigger};

/// What a statement did.
pub enum Outcome {
    /// Something was created, dropped or set; a sentence says what.
    Done(String),
    /// Rows of an in-memory table changed.
    Changed(u64),
    /// Rows to show: of `SHOW` and `DESCRIBE`.
    Rows(RecordBatch),
    /// Text to show: of `EXPLAIN` and `SHOW CREATE`.
    Text(String),
    /// A query to be run as the caller likes.
    Query(Box<DataFrame>),
    /// A sink that is running.
    Sink(Query),
}

/// A script whose tables all start together.
pub struct Script {
    session: Session,
    sinks: Vec<Query>,
    /// The statements of the sinks.
    created: Vec<Parsed>,
    /// The bare queries and their statements.
    selects: Vec<(Subscription, Parsed)>,
    /// The materialized views and their statements.
    views: Vec<(String, Parsed)>,
    /// What to show for statements that are not queries, in order.
    pub shown: Vec<Outcome>,
}

impl Script {
    /// The sinks that it started.
    pub fn sinks(&self) -> &[Query] {
        &self.sinks
    }

    /// The answers of its bare queries, in order; waits until the inputs have ended or the session was stopped.
    pub fn answers(&mut self) -> Result<Vec<RecordBatch>> {
        let selects = std::mem::take(&mut self.selects).into_iter();
        selects.map(|(select, statement)| select.finish().map_err(|error| statement.locate(error))).collect()
    }

    /// Waits for all sinks. Errors: the first that failed.
    pub fn await_termination(&self) -> Result<()> {
        self.sinks
            .iter()
            .zip(&self.created)
            .try_for_each(|(sink, statement)| sink.await_termination().map_err(|error| statement.locate(error)))
    }

    /// Looks after the materialized views, whether or not something reads them, and waits for those whose inputs have an
    /// end. Errors: the first that can't go on or is in error.
    pub fn check_views(&self) -> Result<()> {
        self.views.iter().try_for_each(|(name, statement)| match self.session.view(name) {
            Ok(view) => view.check().map_err(|error| statement.locate(error)),
            // The script has dropped it again.
            Err(_) => Ok(()),
        })
    }

    /// The session that it runs in.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// How a table is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// Its name.
    pub name: String,
    /// Rows taken in, late, rejected.
    pub counts: IntakeCounts,
    /// How far its source is.
    pub progress: headwater_connectors::Progress,
    /// All times before this one, microseconds since the epoch, are closed; `None` when the table has ended.
    pub frontier: Option<i64>,
}

impl Session {
    /// Executes statements one after another. A bare query is given back, not run.
    ///
    /// Errors point at the statement and the place in `text`; statements before it stay done.
    pub fn execute(&self, text: &str) -> Result<Vec<Outcome>> {
        let parsed = sql::parse(text)?;
        parsed.iter().map(|statement| self.execute_one(statement)).collect()
    }

    /// Executes a parsed statement.
    pub fn execute_one(&self, parsed: &Parsed) -> Result<Outcome> {
        self.0.execute(parsed).map_err(|error| parsed.locate(error))
    }

    /// Executes all statements and then starts all tables together, so that every query sees them from the beginning.
    /// Tables in memory are closed at the end: a script pushes nothing more.
    pub fn run_script(&self, text: &str) -> Result<Script> {
        self.run_parsed(&sql::parse(text)?)
    }

    /// Executes a parsed script, as [`Session::run_script`].
    pub fn run_parsed(&self, statements: &[Parsed]) -> Result<Script> {
        let mut script = Script {
            session: self.clone(),
            sinks: Vec::new(),
            created: Vec::new(),
            selects: Vec::new(),
            views: Vec::new(),
            shown: Vec::new(),
        };
        self.0.defer();
        for statement in statements {
            match self.execute_one(statement)? {
                Outcome::Sink(query) => {
                    script.sinks.push(query);
                    script.created.push(statement.clone());
                }
                Outcome::Query(query) => {
                    let (mode, trigger) = (OutputMode::Complete, Trigger::Continuous);
                    let select = self.0.subscribe("select", &query, mode, trigger, Reading::Live);
                    let select = select.map_err(|error| statement.locate(error))?;
                    script.selects.push((select, statement.clone()));
                }
                shown => {
                    if let Statement::CreateView(view) = &statement.statement
                        && view.materialized
                    {
                        script.views.push((view.name.clone(), statement.clone()));
                    }
                    script.shown.push(shown);
                }
            }
        }
        self.0.begin()?;
        self.0.close_memory();
        Ok(script)
    }

    /// How the tables are doing.
    pub fn tables(&self) -> Vec<TableStatus> {
        let runs: Vec<_> = self.0.catalog().tables.values().cloned().collect();
        let status = |run: &Arc<super::table::Run>| {
            let (counts, progress) = (run.counts(), run.progress());
            let intake = run.lock();
            TableStatus {
                name: run.declaration.name.clone(),
                counts,
                progress,
                frontier: intake.frontier().map(headwater_operators::time::to_micros),
            }
        };
        runs.iter().map(status).collect()
    }
}

impl Inner {
    fn execute(self: &Arc<Self>, parsed: &Parsed) -> Result<Outcome> {
        let text = parsed.text.as_str();
        match &parsed.statement {
            Statement::CreateTable(create) => self.create_table(create, text),
            Statement::CreateView(create) => self.create_view_statement(create, text),
            Statement::CreateSink(create) => self.create_sink(create, text),
            Statement::Insert(insert) => self.apply(&insert.table, |p| p.insert(insert)).map(Outcome::Changed),
            Statement::Delete(delete) => self.apply(&delete.table, |p| p.delete(delete)).map(Outcome::Changed),
            Statement::Update(update) => self.apply(&update.table, |p| p.update(update)).map(Outcome::Changed),
            Statement::Explain(explain) => {
                let planner = self.planner();
                let logical = planner.logical(&explain.query)?;
                Ok(Outcome::Text(planner.explain(&logical, explain.kind, self.on_error())?))
            }
            Statement::Show(show) => self.show(show),
            Statement::Describe(name) => self.show(&Show::Columns(name.clone())),
            Statement::Drop(drop) => self.drop_statement(drop),
            Statement::Set { key, value } => self.set(key, value),
            Statement::Query(query) => {
                let plan = self.planner().logical(query)?;
                let query = DataFrame::new(self.clone(), plan).on_error(self.on_error());
                Ok(Outcome::Query(Box::new(query)))
            }
        }
    }

    fn create_table(&self, create: &CreateTable, text: &str) -> Result<Outcome> {
        let name = &create.name;
        if self.exists("table", name, create.if_not_exists, create.or_replace)? {
            return Ok(Outcome::Done(format!("table '{name}' exists already")));
        }
        let watermark = create.watermark.as_ref().map(|w| (w.column.clone(), Duration::from_micros(w.delay_us)));
        let declaration = self.declare(
            name,
            create.connector.as_deref(),
            create.options.clone(),
            create.schema.clone(),
            watermark,
            text,
        )?;
        if create.or_replace {
            self.drop_table(name, true)?;
        }
        self.add_table(declaration)?;
        Ok(Outcome::Done(format!("created table '{name}'")))
    }

    /// Whether something of this name is there and shall stay, when something of a kind is to be created.
    fn exists(&self, created: &str, name: &str, if_not_exists: bool, or_replace: bool) -> Result<bool> {
        let catalog = self.catalog();
        let kind = if catalog.tables.contains_key(name) {
            "table"
        } else if catalog.views.contains_key(name) {
            "view"
        } else if catalog.sinks.contains_key(name) {
            "sink"
        } else {
            return Ok(false);
        };
        match (if_not_exists, or_replace) {
            (true, _) => Ok(true),
            (false, true) if kind == created => Ok(false),
            (false, true) => Err(Error::user(format!(
                "'{name}' is a {kind}, not a {created} to replace: choose another name, or drop it first"
            ))),
            (false, false) => Err(Error::user(format!(
                "there is already a {kind} '{name}': choose another name, drop it, or write IF NOT EXISTS"
            ))),
        }
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
        let (own, rest) = super::options::split(options)?;
        let without = |what: &str| {
            Error::user(format!("table '{name}' needs its columns declared: {what} has none to infer them from"))
        };
        // A table with event time is a stream, unless it or the session says otherwise.
        let is_stream = |otherwise: bool| match (self.mode(), watermark.is_some()) {
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
            None => (Origin::Memory, schema.ok_or_else(|| without("a table in memory"))?, true),
            Some("channel") => {
                if let Some(option) = rest.0.keys().next() {
                    return Err(Error::user(format!("the connector 'channel' has no option '{option}'")));
                }
                (Origin::Channel, schema.ok_or_else(|| without("a channel"))?, true)
            }
            Some(connector) => {
                let connector = self.registry.get(connector)?.clone();
                let (name, key) = (name.to_owned(), Vec::new());
                let mut spec = TableSpec { name, options: rest, schema, bounded: false, growing: true, key };
                let is_stream = is_stream(connector.is_stream(&spec));
                spec.growing = is_stream && connector.is_stream(&spec);
                spec.bounded = !spec.growing;
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

    fn create_view_statement(self: &Arc<Self>, create: &CreateView, text: &str) -> Result<Outcome> {
        let name = &create.name;
        if self.exists("view", name, create.if_not_exists, create.or_replace)? {
            return Ok(Outcome::Done(format!("view '{name}' exists already")));
        }
        let plan = self.planner().logical(&create.query)?;
        // What fails in a plain view is for the query that reads it to say.
        let on_error = match create.materialized {
            true => create.on_error.unwrap_or_else(|| self.on_error()),
            false => OnError::Fail,
        };
        // Planned now, so that a query that can't be maintained is refused where it is written, and leaves an old view.
        let physical = self.planner().physical(&plan, Purpose::View, on_error)?;
        if create.or_replace && self.catalog().views.contains_key(name) {
            if super::session::relations(&physical).iter().any(|read| read.name() == name) {
                return Err(Error::user(format!("the new view '{name}' can't read the one that it replaces")));
            }
            self.drop_view(name)?;
        }
        if create.materialized {
            let mut query = DataFrame::new(self.clone(), plan).on_error(on_error);
            query.from_now = create.from_now;
            self.create_planned_view(name, &query, physical, true, text.to_owned())?;
            return Ok(Outcome::Done(format!("created materialized view '{name}'")));
        }
        let reads = super::session::relations(&physical).into_iter().map(|r| r.name().to_owned()).collect();
        let root = &physical.nodes[physical.root];
        let (schema, properties) = (self.planner().view_schema(&plan, &physical)?, root.properties.clone());
        let bounded = properties.is_static;
        let meta = ViewMeta { name: name.clone(), schema, properties, bounded, errors: None, definition: Some(plan) };
        self.planner_mut().register_view(meta);
        let entry = ViewEntry { text: text.to_owned(), query: None, reads };
        self.catalog().views.insert(name.clone(), entry);
        Ok(Outcome::Done(format!("created view '{name}'")))
    }

    fn create_sink(self: &Arc<Self>, create: &CreateSink, text: &str) -> Result<Outcome> {
        let name = &create.name;
        if self.exists("sink", name, create.if_not_exists, create.or_replace)? {
            return Ok(Outcome::Done(format!("sink '{name}' exists already")));
        }
        let connector = create.connector.as_deref().ok_or_else(|| {
            Error::user(format!("sink '{name}' needs WITH (connector = '..'), for example 'print' or 'filesystem'"))
        })?;
        let plan = self.planner().logical(&create.query)?;
        let on_error = create.on_error.unwrap_or_else(|| self.on_error());
        let physical = self.planner().physical(&plan, Purpose::Output(create.mode), on_error)?;
        let reads = super::session::relations(&physical).into_iter().map(|r| r.name().to_owned()).collect();
        if create.or_replace {
            // The old one goes only once the new one is known to be possible, but for what opening it finds.
            let spec = sink_spec(name, create.options.clone(), &physical);
            spec.checked(&**self.registry.get(connector)?)?;
            self.drop_sink(name, true)?;
        }
        let frame = DataFrame::new(self.clone(), plan).on_error(on_error);
        let query = self.start_sink(name, &frame, connector, create.options.clone(), create.mode, create.trigger)?;
        let entry = SinkEntry { text: text.to_owned(), query: query.clone(), reads };
        self.catalog().sinks.insert(name.clone(), entry);
        Ok(Outcome::Sink(query))
    }

    /// Starts a query that writes to a connector.
    pub fn start_sink(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        connector: &str,
        options: Options,
        mode: OutputMode,
        trigger: Trigger,
    ) -> Result<Query> {
        let connector = self.registry.get(connector)?.clone();
        let physical = self.planner().physical(&query.plan, Purpose::Output(mode), query.on_error)?;
        let sink = connector.sink(&sink_spec(name, options, &physical), mode)?;
        Query::start(self.subscribe_plan(name, physical, mode, trigger, Reading::Live, query.from_now)?, sink)
    }

    fn drop_statement(&self, drop: &sql::Drop) -> Result<Outcome> {
        let name = &drop.name;
        let (kind, there) = {
            let catalog = self.catalog();
            match drop.kind {
                DropKind::Table => ("table", catalog.tables.contains_key(name)),
                DropKind::View => ("view", catalog.views.contains_key(name)),
                DropKind::Sink => ("sink", catalog.sinks.contains_key(name)),
            }
        };
        match (there, drop.if_exists) {
            (false, true) => return Ok(Outcome::Done(format!("there is no {kind} '{name}'"))),
            (false, false) => return Err(Error::user(format!("there is no {kind} '{name}'"))),
            (true, _) => {}
        }
        match drop.kind {
            DropKind::Table => self.drop_table(name, false)?,
            DropKind::View => self.drop_view(name)?,
            DropKind::Sink => self.drop_sink(name, false)?,
        }
        Ok(Outcome::Done(format!("dropped {kind} '{name}'")))
    }

    fn drop_table(&self, name: &str, if_exists: bool) -> Result<()> {
        self.check_unread(name)?;
        let Some(run) = self.catalog().tables.remove(name) else {
            return if if_exists { Ok(()) } else { Err(Error::user(format!("there is no table '{name}'"))) };
        };
        run.stop();
        sql::Planner::drop(&mut self.planner_mut(), name);
        Ok(())
    }

    /// Stops maintaining a view.
    pub fn drop_view(&self, name: &str) -> Result<()> {
        self.check_unread(name)?;
        let Some(entry) = self.catalog().views.remove(name) else {
            return Err(Error::user(format!("there is no view '{name}'")));
        };
        if let Some(stored) = entry.query {
            self.drop_query(stored.shared.id);
        }
        sql::Planner::drop(&mut self.planner_mut(), name);
        Ok(())
    }

    fn drop_sink(&self, name: &str, if_exists: bool) -> Result<()> {
        let Some(entry) = self.catalog().sinks.remove(name) else {
            return if if_exists { Ok(()) } else { Err(Error::user(format!("there is no sink '{name}'"))) };
        };
        entry.query.stop()
    }

    /// Nothing that is dropped may still be read.
    fn check_unread(&self, name: &str) -> Result<()> {
        let catalog = self.catalog();
        let views =
            catalog.views.iter().filter(|(_, view)| view.reads.contains(name)).map(|(n, _)| format!("view '{n}'"));
        let sinks = catalog
            .sinks
            .iter()
            .filter(|(_, sink)| sink.reads.contains(name) && !sink.query.has_ended())
            .map(|(n, _)| format!("sink '{n}'"));
        let readers: Vec<_> = views.chain(sinks).collect();
        if readers.is_empty() {
            return Ok(());
        }
        Err(Error::user(format!("'{name}' is still read by {}: drop what reads it first", readers.join(", "))))
    }

    fn set(&self, key: &str, value: &str) -> Result<Outcome> {
        match key {
            RUNTIME_MODE | "runtime-mode" | "runtime_mode" => {
                self.set_mode(value.parse().map_err(Error::user)?);
                Ok(Outcome::Done(format!("tables declared from here on are read as '{value}'")))
            }
            ON_ERROR | "on-error" | "on_error" => {
                self.set_on_error(value.parse()?);
                Ok(Outcome::Done(format!("queries from here on have on_error = '{value}' unless they say otherwise")))
            }
            _ => Err(no_setting(key)),
        }
    }

    fn settings(&self, keys: &[&str]) -> Result<RecordBatch> {
        let value = |key: &&str| match (*key, self.mode()) {
            (ON_ERROR, _) => self.on_error().name(),
            (_, RuntimeMode::Declared) => "declared",
            (_, RuntimeMode::Batch) => "batch",
            (_, RuntimeMode::Streaming) => "streaming",
        };
        let values = keys.iter().map(|key| value(key).to_owned()).collect();
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        text_table(&[("setting", keys), ("value", values)])
    }

    fn show(&self, show: &Show) -> Result<Outcome> {
        let catalog = self.catalog();
        let names = |names: Vec<(String, String)>| {
            let (names, kinds): (Vec<_>, Vec<_>) = names.into_iter().unzip();
            text_table(&[("name", names), ("kind", kinds)]).map(Outcome::Rows)
        };
        match show {
            Show::Tables => names(
                catalog
                    .tables
                    .iter()
                    .map(|(name, run)| {
                        let kind = if run.declaration.is_static { "batch" } else { "stream" };
                        (name.clone(), kind.to_owned())
                    })
                    .collect(),
            ),
            Show::Views => names(
                catalog
                    .views
                    .iter()
                    .map(|(name, view)| {
                        let kind = if view.query.is_some() { "materialized" } else { "view" };
                        (name.clone(), kind.to_owned())
                    })
                    .collect(),
            ),
            Show::Sinks => names(
                catalog
                    .sinks
                    .iter()
                    .map(|(name, sink)| {
                        let state = if sink.query.has_ended() { "ended" } else { "running" };
                        (name.clone(), state.to_owned())
                    })
                    .collect(),
            ),
            Show::Functions => {
                let functions = self.planner().functions();
                text_table(&[("name", functions)]).map(Outcome::Rows)
            }
            Show::Create(name) => {
                let table = catalog.tables.get(name).map(|run| run.declaration.text.clone());
                let view = || catalog.views.get(name).map(|view| view.text.clone());
                let sink = || catalog.sinks.get(name).map(|sink| sink.text.clone());
                let text = table.or_else(view).or_else(sink);
                text.map(Outcome::Text).ok_or_else(|| Error::user(format!("there is no table, view or sink '{name}'")))
            }
            Show::Columns(name) => {
                drop(catalog);
                let plan = self.scan(name)?;
                let fields = plan.schema().fields().iter();
                let columns: Vec<(String, String)> =
                    fields.map(|f| (f.name().clone(), f.data_type().to_string())).collect();
                let (names, types): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
                text_table(&[("column", names), ("type", types)]).map(Outcome::Rows)
            }
            Show::All => self.settings(&[RUNTIME_MODE, ON_ERROR]).map(Outcome::Rows),
            Show::Setting(key) if [RUNTIME_MODE, ON_ERROR].contains(&key.as_str()) => {
                self.settings(&[key]).map(Outcome::Rows)
            }
            Show::Setting(key) => Err(no_setting(key)),
        }
    }

    /// Applies `INSERT`, `DELETE` or `UPDATE`: the number of rows that left or came, the larger of the two.
    fn apply(
        self: &Arc<Self>,
        table: &str,
        changes: impl FnOnce(&sql::Planner) -> Result<sql::Changes>,
    ) -> Result<u64> {
        let run = self.memory_table(table)?;
        let _changing = self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changes = changes(&self.planner())?;
        let schema = &run.declaration.schema;
        let rows = |plan: Option<datafusion::logical_expr::LogicalPlan>| match plan {
            Some(plan) => fit(&DataFrame::new(self.clone(), plan).collect()?, schema, table),
            None => Ok(RecordBatch::new_empty(schema.clone())),
        };
        let (leave, come) = (rows(changes.retract)?, rows(changes.insert)?);
        let batch = arrow::compute::concat_batches(schema, [&leave, &come])?;
        let diffs = [vec![-1; leave.num_rows()], vec![1; come.num_rows()]].concat();
        self.change(&run, &batch, diffs)?;
        Ok(leave.num_rows().max(come.num_rows()) as u64)
    }

    fn memory_table(&self, name: &str) -> Result<Arc<super::table::Run>> {
        let run = self.run(name)?;
        if matches!(run.declaration.origin, Origin::Memory) {
            return Ok(run);
        }
        Err(Error::user(format!("table '{name}' is read by a connector: only tables in memory can be changed")))
    }

    /// Applies an atomic change to a table in memory.
    fn change(&self, run: &super::table::Run, batch: &RecordBatch, diffs: Vec<i64>) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        {
            const STATEMENTS: u32 = u32::MAX;
            let mut intake = run.lock();
            if intake.frontier().is_none() {
                return Err(Error::user(format!("table '{}' is closed", run.declaration.name)));
            }
            intake.add_split(STATEMENTS, "statements".to_owned());
            let offset = intake.counts.rows + batch.num_rows() as u64;
            intake.push(STATEMENTS, batch, Some(diffs), &Changes::One, offset)?;
            intake.close_round();
        }
        self.context().followers.follow();
        Ok(())
    }
}

/// Rows as their table has them; a NULL where there must be none is an error.
fn fit(rows: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    for (array, field) in rows.columns().iter().zip(schema.fields()) {
        if !field.is_nullable() && array.null_count() > 0 {
            let column = field.name();
            return Err(Error::data(format!("table '{table}', column '{column}' is NOT NULL, but a NULL is given")));
        }
    }
    Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?)
}

const RUNTIME_MODE: &str = "execution.runtime-mode";
const ON_ERROR: &str = "execution.on-error";

fn no_setting(key: &str) -> Error {
    Error::user(format!("there is no setting '{key}'; there are '{RUNTIME_MODE}' and '{ON_ERROR}'"))
}

fn text_table(columns: &[(&str, Vec<String>)]) -> Result<RecordBatch> {
    let fields: Vec<_> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// What a connector must know to open a sink for a query.
fn sink_spec(name: &str, options: Options, physical: &Plan) -> TableSpec {
    let key = physical.nodes[physical.root].properties.key.clone().unwrap_or_default();
    let key = if key.iter().all(|column| *column < physical.visible()) { key } else { Vec::new() };
    let (name, schema) = (name.to_owned(), Some(physical.schema.clone()));
    TableSpec { name, options, schema, bounded: true, growing: false, key }
}
