//! From a plan to a query on the workers, as a transaction: it is there whole, or nothing of it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use datafusion::logical_expr::LogicalPlan;
use headwater_operators::stamp::SessionTime;
use headwater_operators::time::{SINCE_EVER, Time};

use super::attach::Attach;
use super::running::{Body, Running};
use super::session::Inner;
use crate::catalog::{Claim, Entry, New, Node, Refused, Reserved};
use crate::error::{Error, Result};
use crate::intake::{Reading, Run};
use crate::plan::{OnError, Plan, Purpose, Relation};
use crate::render::codec::Codec;
use crate::sql::{Planner, Query, scanned};
use crate::worker::{Command, Contents, Hold, Outbox, Published, describe};

/// How a planned query is to run.
pub(super) struct How {
    pub reading: Reading,
    /// Whether its output is stored.
    pub store: bool,
    /// Where its output goes, if somebody reads it as it comes.
    pub output: Option<Arc<Outbox>>,
    /// Whether streams are read from here on only.
    pub from_now: bool,
    /// The session's cancels when the call began.
    pub cancels: u64,
}

impl Inner {
    /// Claims a name, after what other statements are making under it; `None` where something has it and is kept. Errors as
    /// [`Catalog::claim`], and that it was cancelled.
    ///
    /// [`Catalog::claim`]: crate::catalog::Catalog::claim
    pub(super) fn claim(&self, new: &New<'_>) -> Result<Option<Reserved<Body>>> {
        self.once_unread(|| match self.catalog.claim(new) {
            Ok(Claim::Busy) => None,
            Ok(Claim::Mine(reserved)) => Some(Ok(Some(reserved))),
            Ok(Claim::Kept) => Some(Ok(None)),
            Err(refused) => Some(Err(refused)),
        })
    }

    /// Does what is refused while others read what it is about, and waits for a moment while those are only such that go by
    /// themselves; and for as long as it takes where there is nothing to be said yet. Errors: it was cancelled.
    pub(super) fn once_unread<T>(&self, mut attempt: impl FnMut() -> Option<Result<T, Refused>>) -> Result<T> {
        const MOMENT: Duration = Duration::from_secs(1);
        let (cancels, since) = (self.news().cancels(), Instant::now());
        self.news().wait(cancels, || match attempt() {
            Some(Err(refused)) if refused.passes && since.elapsed() < MOMENT => None,
            outcome => outcome.map(|done| done.map_err(|refused| refused.error)),
        })?
    }

    /// Has a reserved node read what its plan reads; the plan was made from `logical`. Errors as [`Catalog::bind`].
    ///
    /// [`Catalog::bind`]: crate::catalog::Catalog::bind
    pub(super) fn bind(&self, reserved: &Reserved<Body>, logical: &LogicalPlan, plan: &Plan) -> Result<()> {
        let relations = plan.relations();
        let scanned = scanned(logical)?;
        let is_read = |name: &str| relations.iter().any(|relation| relation.name() == name);
        let read = scanned.iter().filter(|read| read.through || is_read(&read.name));
        self.catalog.bind(reserved, &read.map(|read| (read.name.as_str(), read.id)).collect::<Vec<_>>())
    }

    /// Plans a statement's query for a reserved node and binds that, anew as long as what it reads has come to be something
    /// else meanwhile.
    pub(super) fn plan_for(
        &self,
        reserved: &Reserved<Body>,
        query: &Query,
        purpose: Purpose,
        on_error: OnError,
    ) -> Result<(LogicalPlan, Plan)> {
        loop {
            let (logical, plan) = {
                let planner = self.planner();
                let logical = planner.logical(query)?;
                let plan = planner.physical(&logical, purpose, on_error)?;
                (logical, plan)
            };
            match self.bind(reserved, &logical, &plan) {
                Err(_) if !self.planner().is_current_plan(&logical)? => {}
                bound => return bound.map(|()| (logical, plan)),
            }
        }
    }

    fn relation(&self, relation: &Relation) -> Result<(Arc<Node>, Body)> {
        let name = relation.name();
        self.catalog.find(name).ok_or_else(|| Error::user(format!("there is no table or view '{name}'")))
    }

    /// Makes a reserved node one to be seen, by the planner too, and takes apart what it replaces.
    pub(super) fn commit(
        &self,
        mut reserved: Reserved<Body>,
        body: Body,
        known: impl FnOnce(&mut Planner),
    ) -> Result<()> {
        let mut known = Some(known);
        let replaced = self.once_unread(|| {
            let mut planner = self.planner_mut();
            let replaced = self.catalog.commit(&mut reserved, body.clone());
            if replaced.is_ok()
                && let Some(known) = known.take()
            {
                known(&mut planner);
            }
            Some(replaced)
        })?;
        match replaced {
            Some(old) => self.take_apart(old).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Ends what is no longer in the catalog; gives what a sink failed of in its last write. Errors: it was cancelled.
    pub(super) fn take_apart(&self, entry: Entry<Body>) -> Result<Option<Error>> {
        match entry.body {
            Some(Body::Table(run)) => run.stop(),
            Some(Body::Query(running)) => {
                if entry.node.state().is_living() && !matches!(entry.node.kind, crate::catalog::Kind::MaterializedView)
                {
                    entry.node.fail(Error::user("what it reads was dropped"));
                }
                running.retire();
            }
            Some(Body::Sink(sink)) => return sink.end(),
            Some(Body::Plain) | None => {}
        }
        Ok(None)
    }

    /// The run of a table, a new one where the last has failed.
    fn live_run(&self, node: &Arc<Node>, run: Arc<Run>) -> Arc<Run> {
        if node.failure().is_none() {
            return run;
        }
        let _one = self.restarting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if node.failure().is_none() {
            // Somebody else was faster.
            return match self.catalog.body(node.id) {
                Some(Body::Table(run)) => run,
                _ => run,
            };
        }
        let again = Run::new(run.declaration.clone(), node.clone(), &self.fabric.context);
        node.again();
        self.catalog.exchange(node.id, Body::Table(again.clone()));
        again
    }

    /// Renders a plan for a node on all workers and connects it to its relations. Dropped, it leaves the workers.
    pub(super) fn render(self: &Arc<Self>, node: &Arc<Node>, plan: Plan, how: How) -> Result<Arc<Running>> {
        let schema = plan.schema.clone();
        let (mut upstream, mut views, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        for relation in plan.relations() {
            let gone = || Error::user(format!("there is no table or view '{}'", relation.name()));
            match self.relation(relation)? {
                (_, Body::Query(running)) => {
                    views.push((relation.clone(), running.published.clone()));
                    upstream.push(running);
                }
                (table, Body::Table(run)) => tables.push((relation.clone(), self.live_run(&table, run))),
                (_, Body::Plain | Body::Sink(_)) => return Err(gone()),
            }
        }
        let runs = tables.iter().map(|(_, run)| run.clone()).collect();
        let store = how.store.then(|| Codec::verbatim(schema.fields().iter().map(|f| f.data_type().clone())));
        let store = store.transpose()?.map(Arc::new);
        let below = views.iter().map(|(_, published)| published.clone()).collect();
        let published = Published::new(node.clone(), schema, self.workers, how.output, below);
        let running = Running::new(published.clone(), runs, upstream, self.fabric.clone());
        let weak = Arc::downgrade(&running);
        node.when_failed(move |error| {
            if let Some(running) = weak.upgrade() {
                if let Some(output) = &running.published.output {
                    output.fail(error.clone());
                }
                running.retire();
            }
        });
        if how.reading == Reading::AvailableNow {
            node.forgo_end();
            let caught_up = || {
                let failed = running.published.upstream.iter().find_map(|view| view.failure());
                let caught_up = running.upstream_caught_up();
                (failed.is_some() || caught_up).then_some(())
            };
            self.news().wait(how.cancels, caught_up)?;
        }
        let (views_at, holds) = self.hold_all(running.upstream(), how.reading == Reading::Live, how.cancels)?;
        let attach = Attach {
            running: running.clone(),
            plan,
            reading: how.reading,
            from_now: how.from_now,
            store,
            tables,
            views,
            views_at,
            holds,
            session: SessionTime::default(),
        };
        attach.run(self)?;
        if how.reading == Reading::Live {
            running.accompany();
        }
        node.begin();
        Ok(running)
    }

    /// Reads a stored view at its last closed time.
    pub(super) fn peek(&self, view: &Arc<Running>) -> Result<(Time, Contents)> {
        let cancels = self.news().cancels();
        let (as_of, _hold) = self.hold_all(std::slice::from_ref(view), false, cancels)?;
        // What is closed now has been worked through, and its errors are known.
        let errors = view.published.error().map(|error| Error::data(describe(error)));
        if let Some(error) = errors.or_else(|| view.published.failure()) {
            return Err(error);
        }
        let Some(as_of) = as_of else { return Ok((SINCE_EVER, Vec::new())) };
        let (sender, receiver) = unbounded();
        let query = view.published.id();
        self.fabric.context.sequencer.lock().command(|| Command::Peek { query, as_of, reply: sender.clone() });
        drop(sender);
        let mut rows = Vec::new();
        for _ in 0..self.workers {
            let part = receiver.recv().map_err(|_| Error::internal("a worker is gone"))?;
            rows.extend(part?);
        }
        Ok((as_of, rows))
    }

    /// A time at which all views can be read, held in each of them; `None` when nothing is closed yet.
    ///
    /// Everything that is closed in the views' tables now is seen: it waits until the views have worked that through. The
    /// time is the last that is closed in all of them. Views that have ended are read at the largest time, or, by a query
    /// that goes on (`live`), from the earliest time on that they still tell apart.
    fn hold_all(&self, views: &[Arc<Running>], live: bool, cancels: u64) -> Result<(Option<Time>, Vec<Hold>)> {
        // Before its as-of a view has no answer.
        let begun = |view: &Arc<Running>, goal: Time| match view.published.as_of() {
            SINCE_EVER => goal,
            as_of => goal.max(as_of + 1),
        };
        let goals: Vec<_> = views.iter().map(|view| view.reachable().map(|goal| begun(view, goal))).collect();
        let since = Instant::now();
        loop {
            for view in views {
                if let Some(failure) = view.published.failure() {
                    return Err(failure);
                }
                if view.is_retired() {
                    return Err(Error::user(format!("the view '{}' was dropped", view.published.node.name)));
                }
            }
            let frontiers: Vec<_> = views.iter().map(|view| view.published.frontier()).collect();
            let behind = |(frontier, goal): (&Option<Time>, &Option<Time>)| match (frontier, goal) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(frontier), Some(goal)) => frontier < goal,
            };
            if frontiers.iter().zip(&goals).any(behind) {
                self.news().check(cancels)?;
                // Short waits are met early, long ones cost nothing.
                let slept = since.elapsed() / 8;
                std::thread::sleep(slept.clamp(Duration::from_micros(50), Duration::from_millis(5)));
                continue;
            }
            let time = match frontiers.into_iter().flatten().min() {
                Some(frontier) => frontier.checked_sub(1),
                None if live => views.iter().map(|view| view.published.since()).max(),
                None => Some(Time::MAX - 1),
            };
            let Some(time) = time else { return Ok((None, Vec::new())) };
            if let Some(holds) = views.iter().map(|view| view.published.hold_at(time)).collect() {
                return Ok((Some(time), holds));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::catalog::Kind;
    use crate::plan::Op;

    /// A fault of ours in one plan is an error of that query: the workers and what else they do go on.
    #[test]
    fn what_no_worker_can_build_fails_alone() {
        for workers in [1, 2] {
            let session = Session::builder().workers(workers).build().unwrap();
            session.execute("CREATE TABLE t (k BIGINT); INSERT INTO t VALUES (1), (1), (2)").unwrap();
            let query = session.sql("SELECT k, count(*) AS n FROM t GROUP BY k").unwrap();
            let inner = &session.0;
            let mut plan = inner.planner().physical(&query.plan, Purpose::View, query.on_error).unwrap();
            let reserved = inner.catalog.reserve(Kind::Subscription, "broken");
            inner.bind(&reserved, &query.plan, &plan).unwrap();
            for node in &mut plan.nodes {
                if let Op::Reduce { keys, .. } = &mut node.op {
                    keys[0] = 99;
                }
            }
            let cancels = inner.news().cancels();
            let how = How { reading: Reading::Live, store: true, output: None, from_now: false, cancels };
            let running = inner.render(&reserved.node, plan, how).unwrap();
            let failed = inner.news().wait(cancels, || reserved.node.failure()).unwrap();
            assert!(failed.to_string().contains("subscription 'broken' can't be run"), "{failed}");
            drop((running, reserved));
            let view = query.create_view("v").unwrap();
            session.execute("INSERT INTO t VALUES (3)").unwrap();
            assert_eq!(view.snapshot().unwrap().num_rows(), 3);
        }
    }
}
