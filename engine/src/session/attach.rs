//! Connecting a query to what it reads: the feeds of tables, what they had before, stored views, and arrangements that
//! other queries share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use arrow::datatypes::DataType;
use headwater_connectors::Guarantee;
use headwater_operators::Updates;
use headwater_operators::stamp::SessionTime;
use headwater_operators::time::{SINCE_EVER, Time};

use super::running::Running;
use super::session::Inner;
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::intake::{FeedKind, Intake, Origin, Reading, Run, share_out};
use crate::plan::{OnError, Plan, Relation};
use crate::render::codec::Codec;
use crate::render::{ArrangementId, Sharing};
use crate::worker::{Building, Command, FeedId, Hold, Local, Published, QuerySpec, RelationFeeds, Stores};

/// An arrangement that a running query shares.
pub(crate) struct Offered {
    owner: Arc<Published>,
    /// What that query reads: something else can have the name later.
    sources: Vec<(Relation, u64)>,
}

/// The arrangements that there are on the workers, for queries to share.
#[derive(Default)]
pub(crate) struct Arrangements(HashMap<ArrangementId, Offered>);

impl Arrangements {
    /// Forgets those of a query that is dropped.
    pub fn forget(&mut self, query: u64) {
        self.0.retain(|_, offered| offered.owner.id() != query);
    }
}

/// A query on its way to the workers.
pub(super) struct Attach {
    pub running: Arc<Running>,
    pub plan: Plan,
    pub reading: Reading,
    /// Whether streams are read from here on only.
    pub from_now: bool,
    pub store: Option<Arc<Codec>>,
    pub tables: Vec<(Relation, Arc<Run>)>,
    pub views: Vec<(Relation, Arc<Published>)>,
    /// The time at which the views are read, if something is closed in them.
    pub views_at: Option<Time>,
    /// Keeps that time readable.
    pub holds: Vec<Hold>,
    /// The event time of what is read for this query alone.
    pub session: SessionTime,
}

/// How the tables of a query are connected.
struct Connected {
    as_of: Time,
    tables: Vec<RelationFeeds>,
    /// What tables keep of their past, each part a feed that ends.
    histories: Vec<(FeedId, Vec<Updates<Columns>>)>,
    /// Runs that read again what has gone by.
    replays: HashMap<String, Arc<Run>>,
    /// Runs to start once the query is there.
    start: Vec<(Arc<Run>, Reading)>,
}

impl Attach {
    /// Connects the query and has it rendered.
    pub fn run(mut self, session: &Inner) -> Result<()> {
        if self.reading == Reading::Live {
            let node = &self.running.published.node;
            self.views.iter().for_each(|(_, view)| node.run_end().reads(view.node.run_end()));
        }
        let mut arrangements = session.fabric.arrangements();
        let mut live: BTreeMap<(bool, String), Arc<Run>> = BTreeMap::new();
        for (_, run) in &self.tables {
            let declaration = &run.declaration;
            live.insert((declaration.event_time.is_none(), declaration.name.clone()), run.clone());
        }
        let mut intakes: HashMap<String, MutexGuard<'_, Intake>> = HashMap::new();
        for ((_, name), run) in &live {
            intakes.insert(name.clone(), run.lock());
        }
        let tables = self.tables.iter().map(|(relation, _)| (relation.clone(), intakes[relation.name()].feed));
        let views = self.views.iter().map(|(relation, view)| (relation.clone(), view.id()));
        let own: Vec<(Relation, u64)> = tables.chain(views).collect();

        let offers = self.reading == Reading::Live && !self.from_now;
        let (sharing, since) = self.share(&arrangements, &own, offers);
        let mut connected = Connected {
            as_of: self.views_at.filter(|_| self.reading == Reading::Live).unwrap_or(SINCE_EVER).max(since),
            tables: Vec::new(),
            histories: Vec::new(),
            replays: HashMap::new(),
            start: Vec::new(),
        };
        for (relation, run) in self.tables.iter().filter(|(relation, _)| sharing.relations.contains(relation)) {
            let Some(intake) = intakes.get_mut(relation.name()) else { continue };
            self.connect(session, relation, run, intake, &mut connected)?;
        }
        let Connected { as_of, tables, histories, start, .. } = connected;
        let texts = Arc::new(Codec::verbatim(vec![DataType::Utf8; 3])?);
        let stores = |does: bool| (does && self.store.is_some()).then(|| texts.clone());
        let errors = stores(self.plan.on_error == OnError::DeadLetter);
        let faults = stores(self.plan.nodes[self.plan.root].properties.fails);
        let stores = self.store.map(|rows| Stores { rows, errors, faults });
        let published = self.running.published.clone();
        published.begin(as_of);
        let last = self.views.iter().map(|(_, view)| view.last_frontier().saturating_sub(1)).max();
        let once = self.views_at.zip(last).filter(|_| self.reading != Reading::Live);
        let spec = Arc::new(QuerySpec {
            id: published.id(),
            name: published.node.name.clone(),
            plan: self.plan,
            tables,
            views: self.views.iter().map(|(relation, view)| (relation.clone(), view.id())).collect(),
            as_of,
            views_at: self.views_at,
            shown_at: once.map_or(SINCE_EVER, |(at, last)| at.min(last)),
            imports: sharing.imports,
            offers,
            once: self.reading != Reading::Live,
        });
        let sequencer = &session.fabric.context.sequencer;
        let local = Arc::new(Local {
            published: published.clone(),
            building: Building::new(session.workers),
            _holds: self.holds,
            stores,
        });
        sequencer.lock().command(|| Command::AddQuery { spec: spec.clone(), local: local.clone() });
        drop(local);
        if offers {
            for id in sharing.offers {
                arrangements.0.insert(id, Offered { owner: published.clone(), sources: own.clone() });
            }
        }
        // What is in memory anyway lets nobody wait.
        let from_memory = Arc::default();
        for (feed, history) in histories {
            let mut turn = 0;
            history.into_iter().for_each(|updates| share_out(sequencer, feed, updates, &mut turn, &from_memory));
            sequencer.lock().frontier(feed, None);
        }
        drop((intakes, arrangements));
        let deferred = self.reading == Reading::Live && session.deferred.load(Ordering::Acquire) > 0;
        // Replays are never deferred: only the session's own runs wait for the end of the script.
        let mut now = start.iter().filter(|(run, _)| !deferred || run.is_replay());
        now.try_for_each(|(run, reading)| run.start(*reading))
    }

    /// What is taken from other queries, kept readable, and the earliest time at which all of that can be read.
    fn share(&mut self, there: &Arrangements, own: &[(Relation, u64)], allowed: bool) -> (Sharing, Time) {
        let is_own = |source: &(Relation, u64)| own.iter().any(|other| other == source);
        let offered =
            |id: &ArrangementId| there.0.get(id).filter(|offered| allowed && offered.owner.failure().is_none());
        let sharing = Sharing::of(&self.plan, &mut |id| {
            // The same operators over the same relations: of the owner's sources all that the collection needs are here.
            offered(id).is_some_and(|offered| {
                let named = |relation: &Relation| own.iter().any(|(other, _)| other == relation);
                offered.sources.iter().filter(|(relation, _)| named(relation)).all(is_own)
            })
        });
        let mut since = SINCE_EVER;
        for owner in sharing.imports.iter().filter_map(offered).map(|offered| &offered.owner) {
            let hold = loop {
                let from = owner.since().max(since);
                if let Some(hold) = owner.hold_from(from) {
                    since = from;
                    break hold;
                }
            };
            self.holds.push(hold);
            self.running.published.node.run_end().reads(owner.node.run_end());
        }
        (sharing, since)
    }

    /// Connects one relation of a table.
    fn connect(
        &self,
        session: &Inner,
        relation: &Relation,
        run: &Arc<Run>,
        intake: &mut Intake,
        connected: &mut Connected,
    ) -> Result<()> {
        let (name, declaration) = (relation.name(), &run.declaration);
        let (node, context) = (&self.running.published.node, &session.fabric.context);
        let kinds: &[FeedKind] = match relation {
            Relation::Table { drop_late: true, .. } => &[FeedKind::OnTime],
            Relation::Table { drop_late: false, .. } => &[FeedKind::OnTime, FeedKind::Late],
            Relation::Late { .. } => &[FeedKind::Late],
            Relation::Rejected { .. } => &[FeedKind::Rejected],
            Relation::View { .. } | Relation::Errors { .. } => return Ok(()),
        };
        let goes_on = self.reading == Reading::Live && !declaration.is_static;
        let untouched = !run.has_started() && intake.counts.rows == 0;
        let is_stream = declaration.event_time.is_some() || !matches!(declaration.origin, Origin::Memory);
        let from_now = self.from_now && goes_on && is_stream && !untouched;
        let (mut feeds, mut columns) = (Vec::new(), None);
        let first = untouched && (self.reading == Reading::Live || run.guarantee() == Guarantee::Once);
        if goes_on || (first && matches!(declaration.origin, Origin::Connector(..))) {
            feeds.extend(intake.feeds(kinds));
        }
        match &declaration.origin {
            _ if from_now => {
                let closed = intake.frontier().and_then(|frontier| frontier.checked_sub(1));
                connected.as_of = connected.as_of.max(closed.unwrap_or(SINCE_EVER));
            }
            Origin::Memory => {
                let feed = context.sequencer.number();
                if let Some(history) = intake.history.as_ref().filter(|history| !history.is_empty()) {
                    connected.as_of = connected.as_of.max(history.since());
                    feeds.push((feed, Some(SINCE_EVER)));
                    connected.histories.push((feed, history.updates(|kind| kinds.contains(&kind))));
                }
            }
            Origin::Channel if goes_on && intake.counts.rows == 0 => {}
            Origin::Channel => return Err(past_is_gone(name)),
            Origin::Connector(..) if first => connected.start.push((run.clone(), Reading::Live)),
            Origin::Connector(..) if run.guarantee() == Guarantee::Once => return Err(past_is_gone(name)),
            Origin::Connector(..) => {
                let again = connected.replays.entry(name.to_owned()).or_insert_with(|| {
                    if goes_on {
                        let (cuts, limit) = (intake.cuts(), intake.positions.clone());
                        Run::replay(declaration.clone(), node.clone(), cuts, limit, context)
                    } else {
                        let columns = self.plan.columns_of(name);
                        Run::private(declaration.clone(), node.clone(), context, &self.session, columns)
                    }
                });
                self.running.owns(again.clone());
                // What was rejected has columns of its own.
                columns = again.columns.clone().filter(|_| !matches!(relation, Relation::Rejected { .. }));
                feeds.extend(again.lock().feeds(kinds));
                connected.start.push((again.clone(), self.reading));
            }
        }
        // What is in memory is there whole.
        let has_times = !declaration.is_static && (goes_on || matches!(declaration.origin, Origin::Connector(..)));
        connected.tables.push(RelationFeeds { relation: relation.clone(), feeds, has_times, columns });
        Ok(())
    }
}

fn past_is_gone(table: &str) -> Error {
    Error::user(format!(
        "table '{table}' has already been read and its source can't be read again: create the query before rows \
         arrive, or a view FROM NOW"
    ))
}
