//! A query as a worker has it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headwater_operators::arrange::Arrangement;

use super::message::FeedId;
use super::published::Published;
use super::store::Store;
use crate::plan::Relation;
use crate::render::ArrangementId;

/// How often state is measured, of the times that it is looked after.
const MEASURED: u8 = 10;

/// An arrangement that queries share: of one collection, by some of its columns. The session knows which there are.
pub(super) struct Shared {
    /// The query whose dataflow keeps it.
    pub owner: u64,
    pub arrangement: Arrangement,
}

pub(super) type SharedArrangements = HashMap<ArrangementId, Shared>;

/// A query that was rendered here.
pub(super) struct Installed {
    pub published: Arc<Published>,
    /// The number of its dataflow on this worker.
    pub dataflow: usize,
    /// The feeds that it reads.
    pub feeds: Vec<FeedId>,
    pub store: Option<Store>,
    /// Rows that are left out because an expression fails on them.
    pub errors: Option<Store>,
    /// The errors that the query is in.
    pub faults: Option<Store>,
    /// Queries whose arrangements it reads.
    pub uses: HashSet<u64>,
    /// How many queries use its arrangements.
    pub users: usize,
    pub offers: Vec<ArrangementId>,
    /// Whether nobody wants its output any more.
    pub dropped: bool,
    /// How often it is still to be looked after since its frontier moved.
    pub settling: u8,
}

impl Installed {
    /// The store that holds a relation of this query.
    pub fn stored(&mut self, relation: &Relation) -> Option<&mut Store> {
        match relation {
            Relation::Errors { .. } => self.errors.as_mut(),
            Relation::View { .. } | Relation::Table { .. } | Relation::Late { .. } | Relation::Rejected { .. } => {
                self.store.as_mut()
            }
        }
    }

    /// Lets what the query stores and offers forget what nobody can read any more, and measures it.
    pub fn look_after(&mut self, shared: &mut SharedArrangements, index: usize) {
        let compaction = self.published.compaction();
        for offer in &self.offers {
            if let Some(shared) = shared.get_mut(offer) {
                shared.arrangement.allow_compaction(compaction);
            }
        }
        let stores = self.store.iter_mut().chain(&mut self.errors).chain(&mut self.faults);
        stores.for_each(|store| store.arrangement.allow_compaction(compaction));
        // To measure takes a walk over all chunks.
        if self.store.is_some() && self.settling.is_multiple_of(MEASURED) {
            let stores = self.store.iter().chain(&self.errors).chain(&self.faults);
            self.published.publish_state(index, stores.map(|store| store.arrangement.state_bytes()).sum());
        }
    }
}
