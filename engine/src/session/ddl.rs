//! Views, sinks and readers: made and dropped.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use headwater_connectors::{Connector, Guarantee, Options, OutputMode, Sink, SinkGuarantee, TableSpec};

use super::dataframe::DataFrame;
use super::declare::existing;
use super::install::How;
use super::running::{Body, Running};
use super::session::Inner;
use super::sinks::{Query, promise};
use super::subscription::Subscription;
use super::view::View;
use crate::catalog::{Existing, Kind, New, Node, Reserved};
use crate::error::{Error, Result};
use crate::intake::{Origin, Reading};
use crate::output::{Emitter, Pace, Reader, Shape};
use crate::plan::catalog::ViewMeta;
use crate::plan::{OnError, Plan, Purpose};
use crate::render;
use crate::sql::{CreateSink, CreateView, Planner, Trigger};
use crate::worker::Outbox;

/// A query whose output is written somewhere.
struct Output {
    reserved: Reserved<Body>,
    physical: Plan,
    /// Whether streams are read from here on only.
    from_now: bool,
    mode: OutputMode,
    trigger: Trigger,
}

impl Inner {
    /// `CREATE VIEW`: whether it is there now, and was not before.
    pub fn create_view_as(self: &Arc<Self>, create: &CreateView, text: &str) -> Result<bool> {
        let kind = if create.materialized { Kind::MaterializedView } else { Kind::View };
        let existing = existing(create.or_replace, create.if_not_exists);
        let Some(reserved) = self.claim(&New { kind, name: &create.name, text, existing })? else { return Ok(false) };
        // What fails in a plain view is for the query that reads it to say. It is planned now, so that a query that can't
        // be maintained is refused where it is written.
        let on_error = match create.materialized {
            true => create.on_error.unwrap_or_else(|| self.settings().on_error),
            false => OnError::Fail,
        };
        let (logical, physical) = self.plan_for(&reserved, &create.query, Purpose::View, on_error)?;
        let mut meta = self.view_meta(&reserved, &logical, &physical, on_error)?;
        if create.materialized {
            self.install_view(reserved, physical, meta, create.from_now)?;
            return Ok(true);
        }
        meta.definition = Some(logical);
        reserved.node.begin();
        self.commit(reserved, Body::Plain, |planner| planner.register_view(meta))?;
        Ok(true)
    }

    /// Starts to maintain a query under a name.
    pub fn create_view(self: &Arc<Self>, name: &str, query: &DataFrame) -> Result<View> {
        let new = New { kind: Kind::MaterializedView, name, text: "", existing: Existing::Refuse };
        let reserved = self.claim(&new)?.ok_or_else(|| Error::internal("a name is kept that was to be taken"))?;
        let physical = self.planner().physical(&query.plan, Purpose::View, query.on_error)?;
        self.bind(&reserved, &query.plan, &physical)?;
        let meta = self.view_meta(&reserved, &query.plan, &physical, query.on_error)?;
        let running = self.install_view(reserved, physical, meta, query.from_now)?;
        Ok(View::new(self.clone(), name, running))
    }

    fn view_meta(
        &self,
        reserved: &Reserved<Body>,
        logical: &LogicalPlan,
        physical: &Plan,
        on_error: OnError,
    ) -> Result<ViewMeta> {
        let properties = physical.nodes[physical.root].properties.clone();
        Ok(ViewMeta {
            id: reserved.node.id,
            name: reserved.node.name.clone(),
            schema: self.planner().view_schema(logical, physical)?,
            bounded: properties.is_static,
            properties,
            errors: (on_error == OnError::DeadLetter).then(|| physical.errors()),
            definition: None,
        })
    }

    fn install_view(
        self: &Arc<Self>,
        reserved: Reserved<Body>,
        physical: Plan,
        meta: ViewMeta,
        from_now: bool,
    ) -> Result<Arc<Running>> {
        let cancels = self.news().cancels();
        let how = How { reading: Reading::Live, store: true, output: None, from_now, cancels };
        let running = self.render(&reserved.node, physical, how)?;
        self.commit(reserved, Body::Query(running.clone()), |planner| planner.register_view(meta))?;
        Ok(running)
    }

    /// Starts a query whose output is read as it comes.
    pub fn subscribe(
        self: &Arc<Self>,
        name: &str,
        query: &DataFrame,
        mode: OutputMode,
        trigger: Trigger,
    ) -> Result<Subscription> {
        let cancels = self.news().cancels();
        self.start_reading(self.output(name, query, mode, trigger)?, Reading::Live, cancels)
    }

    /// A query's whole answer over all that there is now.
    pub fn answer(self: &Arc<Self>, query: &DataFrame) -> Result<RecordBatch> {
        let cancels = self.news().cancels();
        let physical = self.planner().physical(&query.plan, Purpose::Answer, query.on_error)?;
        if let Some(answer) = render::constant(&physical) {
            return answer;
        }
        let reserved = self.catalog.reserve(Kind::Answer, "collect");
        self.bind(&reserved, &query.plan, &physical)?;
        let (mode, trigger) = (OutputMode::Complete, Trigger::Continuous);
        let output = Output { reserved, physical, from_now: query.from_now, mode, trigger };
        self.start_reading(output, Reading::Bounded, cancels)?.finish()
    }

    fn start_reading(self: &Arc<Self>, output: Output, reading: Reading, cancels: u64) -> Result<Subscription> {
        let Output { reserved, physical, from_now, mode, trigger } = output;
        let outbox = match reading {
            // An answer is taken as it comes, by a reader that waits for its end.
            Reading::Bounded => Outbox::awaited(),
            Reading::Live | Reading::AvailableNow => Outbox::bounded(self.settings().max_unread),
        };
        let outbox = Arc::new(outbox);
        let shape = Shape::of(&physical);
        let reading = if trigger == Trigger::AvailableNow { Reading::AvailableNow } else { reading };
        let how = How { reading, store: false, output: Some(outbox.clone()), from_now, cancels };
        let mut emitter = Emitter::new(mode, shape, self.workers)?;
        let running = self.render(&reserved.node, physical, how)?;
        emitter.begin(running.published.as_of());
        let published = running.published.clone();
        let live = reading == Reading::Live;
        let news = self.news().clone();
        let pace = pace(trigger, mode);
        let reader = Reader::new(published, outbox, emitter, pace, live, news, cancels, self.workers);
        self.commit(reserved, Body::Query(running.clone()), |_| {})?;
        Ok(Subscription::new(self.clone(), reader, running))
    }

    /// `CREATE SINK`; `None` where it is there already.
    pub fn create_sink_as(self: &Arc<Self>, create: &CreateSink, text: &str) -> Result<Option<Query>> {
        let existing = existing(create.or_replace, create.if_not_exists);
        let new = New { kind: Kind::Sink, name: &create.name, text, existing };
        let Some(reserved) = self.claim(&new)? else { return Ok(None) };
        let connector = create.connector.as_deref().ok_or_else(|| {
            Error::user(format!(
                "sink '{}' needs WITH (connector = '..'), for example 'print' or 'filesystem'",
                new.name
            ))
        })?;
        let on_error = create.on_error.unwrap_or_else(|| self.settings().on_error);
        let (_, physical) = self.plan_for(&reserved, &create.query, Purpose::Output(create.mode), on_error)?;
        let output = Output { reserved, physical, from_now: false, mode: create.mode, trigger: create.trigger };
        self.start_connector(output, connector, &create.options).map(Some)
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
        self.start_connector(self.output(name, query, mode, trigger)?, connector, options)
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
        let mut sink = Some(sink);
        let open = move || sink.take().ok_or_else(|| Error::internal("a sink is opened twice"));
        self.start_writing(self.output(name, query, mode, trigger)?, SinkGuarantee::AtLeastOnce, open)
    }

    /// An output that is no object of the session: its name is for messages, and several can have it.
    fn output(&self, name: &str, query: &DataFrame, mode: OutputMode, trigger: Trigger) -> Result<Output> {
        let physical = self.planner().physical(&query.plan, Purpose::Output(mode), query.on_error)?;
        let reserved = self.catalog.reserve(Kind::Subscription, name);
        self.bind(&reserved, &query.plan, &physical)?;
        Ok(Output { reserved, physical, from_now: query.from_now, mode, trigger })
    }

    fn start_connector(self: &Arc<Self>, output: Output, connector: &str, options: &Options) -> Result<Query> {
        let connector: Arc<dyn Connector> = self.registry.get(connector)?.clone();
        let mode = output.mode;
        let spec = sink_spec(&output.reserved.node.name, options.clone(), &output.physical);
        spec.checked(&*connector)?;
        let guarantee = connector.sink_guarantee(&spec, mode);
        self.start_writing(output, guarantee, || Ok(connector.sink(&spec, mode)?))
    }

    fn start_writing(
        self: &Arc<Self>,
        output: Output,
        guarantee: SinkGuarantee,
        mut open: impl FnMut() -> Result<Box<dyn Sink>>,
    ) -> Result<Query> {
        let Output { reserved, physical, from_now, mode, trigger } = output;
        let cancels = self.news().cancels();
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
            let (live, pace) = (reading == Reading::Live, pace(trigger, mode));
            Ok(Reader::new(published, outbox, emitter, pace, live, news, cancels, session.workers))
        };
        // What is replaced goes only once all is there, or where it keeps the place for itself.
        let (replaces, name) = (reserved.replaces, reserved.node.name.clone());
        let mut opened = || match (open(), self.catalog.find(&name)) {
            (Err(_), Some((_, Body::Sink(old)))) if replaces => old.end().and_then(|_| open()),
            (opened, _) => opened,
        };
        if waits {
            let sink = opened()?;
            self.commit(reserved, Body::Sink(query.clone()), |_| {})?;
            query.write(self.clone(), start, sink)?;
        } else {
            let reader = start(&query)?;
            let sink = opened()?;
            self.commit(reserved, Body::Sink(query.clone()), |_| {})?;
            query.write(self.clone(), |_| Ok(reader), sink)?;
        }
        Ok(query)
    }

    /// The tables below a node whose rows can't be read again.
    fn read_once(&self, node: &Arc<Node>) -> Vec<String> {
        let (mut below, mut names) = (node.reads().to_vec(), Vec::new());
        while let Some(node) = below.pop() {
            below.extend(node.reads().iter().cloned());
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
        let dropped = self.once_unread(|| {
            let mut planner = self.planner_mut();
            let dropped = match self.catalog.remove_named(kind, name, cascade) {
                Ok(None) if self.catalog.is_being_made(name) => return None,
                dropped => dropped,
            };
            for entry in dropped.iter().flatten().flatten() {
                // Its name can be another's by now.
                if planner.is_current(&entry.node.name, entry.node.id) {
                    Planner::drop(&mut planner, &entry.node.name);
                }
            }
            Some(dropped)
        })?;
        let Some(dropped) = dropped else {
            return match if_exists {
                true => Ok(Vec::new()),
                false => Err(Error::user(match self.catalog.find(name) {
                    Some((node, _)) => format!("{} is no {}: write DROP {} {name}", node.title(), kind.word(), {
                        node.kind.word().to_uppercase()
                    }),
                    None => format!("there is no {} '{name}'", kind.word()),
                })),
            };
        };
        let mut titles = Vec::new();
        let mut outcome = Ok(());
        for entry in dropped {
            let title = entry.node.title();
            match self.take_apart(entry) {
                Ok(None) => titles.push(title),
                Ok(Some(error)) => titles.push(format!("{title} (its last write failed: {})", error.message())),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| titles)
    }
}

/// When a trigger gives out what is closed: what is available now is one result where results are whole.
fn pace(trigger: Trigger, mode: OutputMode) -> Pace {
    match (trigger, mode) {
        (Trigger::Within(interval) | Trigger::Every(interval), _) => Pace::Every(interval),
        (Trigger::AvailableNow, OutputMode::Complete) => Pace::AtEnd,
        (Trigger::Continuous | Trigger::AvailableNow, _) => Pace::AtOnce,
    }
}

/// What a connector must know to open a sink for a query.
fn sink_spec(name: &str, options: Options, physical: &Plan) -> TableSpec {
    let key = physical.nodes[physical.root].properties.key.clone().unwrap_or_default();
    let key = if key.iter().all(|column| *column < physical.visible()) { key } else { Vec::new() };
    let (name, schema) = (name.to_owned(), Some(physical.schema.clone()));
    TableSpec { name, options, schema, key, ..TableSpec::default() }
}
