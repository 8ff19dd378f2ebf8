//! Tables as declared.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use headwater_connectors::{Connector, Guarantee, TableSpec};
use headwater_operators::stamp::{Cuts, Follow, Follower, SessionTime, StampConfig, Stamper};

use super::stamping::{IntakeCounts, Stamping, stamp_config};
use crate::plan::catalog::{self, TableMeta};

/// Where a table's rows come from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// `INSERT`, `UPDATE`, `DELETE` and pushes; the table keeps what it has.
    Memory,
    /// Pushes from Rust, not kept.
    Channel,
    /// A connector.
    Connector(Arc<dyn Connector>, TableSpec),
}

/// The event-time column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventTime {
    /// The column.
    pub column: usize,
    /// Declared disorder.
    pub delay: Duration,
    /// Width of a segment, if declared.
    pub resolution: Option<Duration>,
    /// How far ahead of the clock a row may be.
    pub max_ahead: Option<Duration>,
    /// After how long a silent split holds nothing back.
    pub idle_timeout: Option<Duration>,
    /// Whether rounds are cut by the data alone.
    pub by_data: bool,
}

/// A table as declared.
#[derive(Clone)]
pub(crate) struct Declaration {
    pub name: String,
    pub schema: SchemaRef,
    pub origin: Origin,
    /// How it is stamped as a stream; `None` where it has no event time.
    pub event_time: Option<EventTime>,
    /// Whether it is a batch: every row at the smallest time.
    pub is_static: bool,
    /// Whether a table without event time goes by the wall clock instead of the session's event time.
    pub by_clock: bool,
    /// Whether rows that were pushed into a channel can't be taken back.
    pub append_only: bool,
    /// The statement that declared it, for `SHOW CREATE`.
    pub text: String,
    /// What the last reading for a single answer has counted.
    pub read: Arc<Mutex<IntakeCounts>>,
}

impl Declaration {
    pub(super) fn follow(&self, session: &SessionTime) -> Follow {
        if self.by_clock { Follow::Clock(Arc::new(*super::clock())) } else { Follow::Session(session.clone()) }
    }

    /// How rows of these columns, or of all, are stamped.
    pub(super) fn stamping(&self, session: &SessionTime, columns: Option<&[usize]>) -> Stamping {
        let place = |column| columns.and_then(|columns| columns.binary_search(&column).ok()).unwrap_or(column);
        match (&self.event_time, self.is_static) {
            (_, true) => Stamping::Static,
            (Some(event), false) => Stamping::Event {
                column: place(event.column),
                stamper: Box::new(Stamper::new(self.config(event))),
                cuts: Cuts::default(),
            },
            (None, false) => Stamping::Follow {
                follower: Box::new(Follower::new(self.follow(session), self.is_replayed())),
                cuts: Cuts::default(),
            },
        }
    }

    pub fn config(&self, event: &EventTime) -> StampConfig {
        let config = stamp_config(event.delay, event.resolution, event.max_ahead, event.idle_timeout, event.by_data);
        StampConfig { record: self.is_replayed(), ..config }
    }

    /// Whether later queries read the source again, by the recorded cuts.
    fn is_replayed(&self) -> bool {
        matches!(&self.origin, Origin::Connector(connector, _) if connector.guarantee() != Guarantee::Once)
    }

    /// What is to be read for a query that wants these columns, in their order; `None` if that is all.
    pub(super) fn needed(&self, mut columns: Vec<usize>) -> Option<Vec<usize>> {
        columns.extend(self.read_by());
        columns.sort_unstable();
        columns.dedup();
        (columns.len() < self.schema.fields().len()).then_some(columns)
    }

    /// The column by whose event time a source is to be read. Rows of a static table are there since ever: their order is
    /// nobody's concern.
    pub(super) fn read_by(&self) -> Option<usize> {
        self.event_time.as_ref().filter(|_| !self.is_static).map(|event| event.column)
    }

    /// What the planner must know of it as the node `id`.
    pub fn meta(&self, id: u64) -> TableMeta {
        let (bounded, reading_order) = match &self.origin {
            Origin::Memory | Origin::Channel => (false, None),
            Origin::Connector(connector, spec) => {
                let spec = TableSpec { event_time: self.read_by(), ..spec.clone() };
                (spec.reach.is_bounded(), connector.reading_order(&spec))
            }
        };
        TableMeta {
            id,
            name: self.name.clone(),
            schema: self.schema.clone(),
            event_time: self.event_time.as_ref().map(|event| {
                let config = self.config(event);
                catalog::EventTime { column: event.column, delay_us: config.delay, resolution_us: config.resolution }
            }),
            bounded,
            reading_order,
            is_static: self.is_static,
            append_only: !matches!(self.origin, Origin::Memory),
            taken_back: matches!(self.origin, Origin::Channel) && !self.append_only,
        }
    }
}
