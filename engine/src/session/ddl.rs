//! Views, sinks and readers: made and dropped.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use headwater_connectors::{Connector, Guarantee, Options, OutputMode, Sink, SinkGuarantee, TableSpec};

use super::dataframe::DataFrame;
use super::install::How;
use super::running::Body;
use super::session::Inner;
use super::sinks::{Query, promise};
use super::subscription::Subscription;
use super::view::View;
use crate::catalog::{Kind, New, Node};
use crate::error::{Error, Result};
use crate::intake::{Origin, Reading};
use crate::output::{Emitter, Reader, Shape};
use crate::plan::catalog::ViewMeta;
use crate::plan::{OnError, Plan, Purpose};
use crate::sql::{CreateSink, CreateView, Trigger};
use crate::worker::Outbox;

impl Inner {
    /// `CREATE VIEW`: whether it is there now, and was not before.
    pub fn create_view_as(self: &Arc<Self>, create: &CreateView, text: &str) -> Result<bool> {
        let kind = if create.materialized { Kind::MaterializedView } else { Kind::View };
        let new = New { kind, name: &create.name, text, replace: create.or_replace };
        self.make_way(new.name)?;
        if create.if_not_exists && self.catalog.find(new.name).is_some() {
            return Ok(false);
        }
        self.catalog.check_name(&new)?;
        let plan = self.planner().logical(&create.query)?;
        if create.materialized {
            let mut query = DataFrame::new(self.clone(), plan);
            query.on_error = create.on_error.unwrap_or_else(|| self.settings().on_error);
            query.from_now = create.from_now;
            self.create_view(new.name, &query, text, new.replace)?;
            return Ok(true);
        }
        // What fails in a plain view is for the query that reads it to say. It is planned now, so that a query that can't
        // be maintained is refused where it is written.
        let physical = self.planner().physical(&plan, Purpose::View, OnError::Fail)?;
        let reserved = self.reserve(&new, None, &physical)?;
        let properties = physical.nodes[physical.root].properties.clone();
        let meta = ViewMeta {
            id: reserved.node.id,
            name: create.name.clone(),
            schema: self.planner().view_schema(&plan, &physical)?,
            bounded: properties.is_static,
            properties,
            errors: None,
            definition: Some(plan),
        };
        reserved.node.begin();
        self.commit(reserved, Body::Plain)?;
        self.planner_mut().register_view(meta);
        Ok(true)
    }

    /// Starts to maintain a query under a name, in the place of a view of that name if it `replaces` it.
    pub fn create_view(self: &Arc<Self>, name: &str, query: &DataFrame, text: &str, replaces: bool) -> Result<View> {
        let cancels = self.news().cancels();
        let physical = self.planner().physical(&query.plan, Purpose::View, query.on_error)?;
        let new = New { kind: Kind::MaterializedView, name, text, replace: replaces };
        let reserved = self.reserve(&new, Some(&query.plan), &physical)?;
        let properties = physical.nodes[physical.root].properties.clone();
        let meta = ViewMeta {
            id: reserved.node.id,
            name: name.to_owned(),
            schema: self.planner().view_schema(&query.plan, &physical)?,
            bounded: properties.is_static,
            properties,
            errors: (query.on_error == OnError::DeadLetter).then(|| physical.errors()),
            definition: None,
        };
        let (reading, from_now) = (Reading::Live, query.from_now);
        let how = How { reading, store: true, output: None, from_now, cancels };
        let running = self.render(&reserved.node, physical, how)?;
        self.commit(reserved, Body::Query(running.clone()))?;
        self.planner_mut().register_view(meta);
        Ok(View::new(self.clone(), name, running))
    }

    /// Starts a query whose output is read as it comes.
    pub fn subscribe(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        mode: OutputMode,
        trigger: Trigger,
        reading: Reading,
    ) -> Result<Subscription> {
        let cancels = self.news().cancels();
        let purpose = match reading {
            Reading::Bounded => Purpose::Answer,
            Reading::Live | Reading::AvailableNow => Purpose::Output(mode),
        };
        let physical = self.planner().physical(&query.plan, purpose, query.on_error)?;
        let kind = if reading == Reading::Bounded { Kind::Answer } else { Kind::Subscription };
        let new = New { kind, name, text: "", replace: false };
        let reserved = self.reserve(&new, Some(&query.plan), &physical)?;
        let outbox = match reading {
            // An answer is taken as it comes, by a reader that waits for its end.
            Reading::Bounded => Outbox::awaited(),
            Reading::Live | Reading::AvailableNow => Outbox::bounded(self.settings().max_unread),
        };
        let outbox = Arc::new(outbox);
        let shape = Shape::of(&physical);
        let reading = if trigger == Trigger::AvailableNow { Reading::AvailableNow } else { reading };
        let how = How { reading, store: false, output: Some(outbox.clone()), from_now: query.from_now, cancels };
        let mut emitter = Emitter::new(mode, shape, self.workers)?;
        let running = self.render(&reserved.node, physical, how)?;
        emitter.begin(running.published.as_of());
        let published = running.published.clone();
        let live = reading == Reading::Live;
        let news = self.news().clone();
        let interval = interval(trigger);
        let reader = Reader::new(published, outbox, emitter, interval, live, news, cancels, self.workers);
        self.commit(reserved, Body::Query(running.clone()))?;
        Ok(Subscription::new(self.clone(), reader, running))
    }

    /// `CREATE SINK`; `None` where it is there already.
    pub fn create_sink_as(self: &Arc<Self>, create: &CreateSink, text: &str) -> Result<Option<Query>> {
        let new = New { kind: Kind::Sink, name: &create.name, text, replace: create.or_replace };
        self.make_way(new.name)?;
        if create.if_not_exists && self.catalog.find(new.name).is_some() {
            return Ok(None);
        }
        self.catalog.check_name(&new)?;
        let connector = create.connector.as_deref().ok_or_else(|| {
            Error::user(format!(
                "sink '{}' needs WITH (connector = '..'), for example 'print' or 'filesystem'",
                new.name
            ))
        })?;
        let mut query = DataFrame::new(self.clone(), self.planner().logical(&create.query)?);
        query.on_error = create.on_error.unwrap_or_else(|| self.settings().on_error);
        let physical = self.planner().physical(&query.plan, Purpose::Output(create.mode), query.on_error)?;
        self.start_planned_sink(&new, &query, physical, connector, &create.options, create.mode, create.trigger)
            .map(Some)
    }

    /// Starts a query that writes to a connector.
    pub fn start_sink(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        connector: &str,
        options: &Options,
        mode: OutputMode,
        trigger: Trigger,
    ) -> Result<Query> {
        let physical = self.planner().physical(&query.plan, Purpose::Output(mode), query.on_error)?;
        // Its name is for messages: several can have it.
        let new = New { kind: Kind::Subscription, name, text: "", replace: false };
        self.start_planned_sink(&new, query, physical, connector, options, mode, trigger)
    }

    #[expect(clippy::too_many_arguments, reason = "what a sink is")]
    fn start_planned_sink(
        self: &Arc<Self>,
        new: &New<'_>,
        query: &DataFrame,
        physical: Plan,
        connector: &str,
        options: &Options,
        mode: OutputMode,
        trigger: Trigger,
    ) -> Result<Query> {
        let connector: Arc<dyn Connector> = self.registry.get(connector)?.clone();
        let spec = sink_spec(new.name, options.clone(), &physical);
        spec.checked(&*connector)?;
        let open = || Ok(connector.sink(&spec, mode)?);
        let guarantee = connector.sink_guarantee(&spec, mode);
        self.start_writing(new, &query.plan, physical, query.from_now, mode, trigger, guarantee, open)
    }

    /// Starts a query that writes to a sink made in Rust.
    pub fn start_into(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        mode: OutputMode,
        trigger: Trigger,
        sink: Box<dyn Sink>,
    ) -> Result<Query> {
        let physical = self.planner().physical(&query.plan, Purpose::Output(mode), query.on_error)?;
        let new = New { kind: Kind::Subscription, name, text: "", replace: false };
        let (guarantee, mut sink) = (SinkGuarantee::AtLeastOnce, Some(sink));
        let open = move || sink.take().ok_or_else(|| Error::internal("a sink is opened twice"));
        self.start_writing(&new, &query.plan, physical, query.from_now, mode, trigger, guarantee, open)
    }

    #[expect(clippy::too_many_arguments, reason = "what a sink is")]
    fn start_writing(
        self: &Arc<Self>,
        new: &New<'_>,
        logical: &LogicalPlan,
        physical: Plan,
        from_now: bool,
        mode: OutputMode,
        trigger: Trigger,
        guarantee: SinkGuarantee,
        mut open: impl FnMut() -> Result<Box<dyn Sink>>,
    ) -> Result<Query> {
        let cancels = self.news().cancels();
        let reserved = self.reserve(new, Some(logical), &physical)?;
        let node = reserved.node.clone();
        let outbox = Arc::new(Outbox::awaited());
        let reading = if trigger == Trigger::AvailableNow { Reading::AvailableNow } else { Reading::Live };
        let mut emitter = Emitter::new(mode, Shape::of(&physical), self.workers)?;
        // What there is now in a view is known once its tables have been read as far as they go: the writer waits for
        // that, not the statement, for tables may start only after it.
        let waits = reading == Reading::AvailableNow && !physical.relations().iter().all(|r| r.is_of_table());
        let how = How { reading, store: false, output: Some(outbox.clone()), from_now, cancels };
        let promise = promise(guarantee, &self.read_once(&node));
        let query = Query::new(node.clone(), self.news().clone(), &promise);
        let session = self.clone();
        let start = move |query: &Query| -> Result<Reader> {
            let running = session.render(&node, physical, how)?;
            emitter.begin(running.published.as_of());
            query.runs(running.clone());
            let (published, news) = (running.published.clone(), session.news().clone());
            let live = reading == Reading::Live;
            let interval = interval(trigger);
            Ok(Reader::new(published, outbox, emitter, interval, live, news, cancels, session.workers))
        };
        // What is replaced goes only once all is there, or where it keeps the place for itself.
        let mut opened = || match (open(), self.catalog.find(new.name)) {
            (Err(_), Some((_, Body::Sink(old)))) if new.replace => old.end().and_then(|_| open()),
            (opened, _) => opened,
        };
        if waits {
            let sink = opened()?;
            self.commit(reserved, Body::Sink(query.clone()))?;
            query.write(self.clone(), start, sink)?;
        } else {
            let reader = start(&query)?;
            let sink = opened()?;
            self.commit(reserved, Body::Sink(query.clone()))?;
            query.write(self.clone(), |_| Ok(reader), sink)?;
        }
        Ok(query)
    }

    /// The tables below a node whose rows can't be read again.
    fn read_once(&self, node: &Arc<Node>) -> Vec<String> {
        let (mut below, mut names) = (node.reads.clone(), Vec::new());
        while let Some(node) = below.pop() {
            below.extend(node.reads.iter().cloned());
            if let Some(Body::Table(run)) = self.catalog.body(node.id)
                && (run.guarantee() == Guarantee::Once || matches!(run.declaration.origin, Origin::Memory))
            {
                names.push(format!("'{}'", node.name));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Drops what is called `name`, and with `cascade` what reads it: their titles, in order. None, if there is nothing
    /// of the kind and that is fine.
    pub fn drop_node(&self, kind: Kind, name: &str, cascade: bool, if_exists: bool) -> Result<Vec<String>> {
        self.make_way(name)?;
        let Some(dropped) = self.catalog.remove_named(kind, name, cascade)? else {
            return match if_exists {
                true => Ok(Vec::new()),
                false => Err(Error::user(format!("there is no {} '{name}'", kind.word()))),
            };
        };
        let mut titles = Vec::new();
        let mut outcome = Ok(());
        for entry in dropped {
            let title = entry.node.title();
            if matches!(entry.node.kind, Kind::Table | Kind::View | Kind::MaterializedView) {
                let mut planner = self.planner_mut();
                // Its name can be another's by now.
                if planner.is_current(&entry.node.name, entry.node.id) {
                    crate::sql::Planner::drop(&mut planner, &entry.node.name);
                }
            }
            match self.take_apart(entry) {
                Ok(None) => titles.push(title),
                Ok(Some(error)) => titles.push(format!("{title} (its last write failed: {})", error.message())),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| titles)
    }
}

fn interval(trigger: Trigger) -> Option<std::time::Duration> {
    match trigger {
        Trigger::Continuous | Trigger::AvailableNow => None,
        Trigger::Within(interval) | Trigger::Every(interval) => Some(interval),
    }
}

/// What a connector must know to open a sink for a query.
fn sink_spec(name: &str, options: Options, physical: &Plan) -> TableSpec {
    let key = physical.nodes[physical.root].properties.key.clone().unwrap_or_default();
    let key = if key.iter().all(|column| *column < physical.visible()) { key } else { Vec::new() };
    let (name, schema) = (name.to_owned(), Some(physical.schema.clone()));
    TableSpec { name, options, schema, key, ..TableSpec::default() }
}
