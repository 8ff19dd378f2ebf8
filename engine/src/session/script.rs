//! Scripts: statements whose tables all start together.

use arrow::array::RecordBatch;
use headwater_connectors::OutputMode;

use super::session::{Inner, Session};
use super::sinks::Query;
use super::statements::Outcome;
use super::subscription::Subscription;
use crate::error::Result;
use crate::sql::{self, Parsed, Statement, Trigger};

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

/// Holds back the start of tables; dropped, they start.
struct Deferred<'a>(&'a Inner);

impl Deferred<'_> {
    fn begin(self) -> Result<()> {
        let started = self.0.begin();
        std::mem::forget(self);
        started
    }
}

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        // The script has failed; what it did stays done, and runs.
        let _ = self.0.begin();
    }
}

impl Session {
    /// Executes all statements and then starts all tables together, so that every query sees them from the beginning.
    /// Tables in memory are closed at the end: a script pushes nothing more.
    ///
    /// Errors point at the statement and the place in `text`; statements before it stay done.
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
        let deferred = Deferred(&self.0);
        for statement in statements {
            match self.execute_one(statement)? {
                Outcome::Sink(query) => {
                    script.sinks.push(query);
                    script.created.push(statement.clone());
                }
                Outcome::Query(query) => {
                    let (mode, trigger) = (OutputMode::Complete, Trigger::Continuous);
                    let select = self.0.subscribe("select", &query, mode, trigger);
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
        deferred.begin()?;
        self.0.close_memory();
        Ok(script)
    }
}
