//! Moving keyed updates to the worker that owns their key.

use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;

use crate::keyed::{Keyed, owner};
use crate::updates::{Payload, Updates};

/// Routes each update to the worker that owns its key's hash, one gather per worker and batch.
pub struct ByHash {
    peers: usize,
    targets: Vec<Vec<u32>>,
}

/// A pact that sends each keyed update to the [`owner`] of its hash.
pub fn by_hash() -> DistributorPact<impl FnOnce(usize) -> ByHash> {
    DistributorPact(|peers| ByHash { peers, targets: vec![Vec::new(); peers] })
}

impl<V: Payload> Distributor<Updates<Keyed<V>>> for ByHash {
    fn partition<T: Clone, P: Push<Message<T, Updates<Keyed<V>>>>>(
        &mut self,
        container: &mut Updates<Keyed<V>>,
        time: &T,
        pushers: &mut [P],
    ) {
        for (index, &hash) in container.data.hashes.iter().enumerate() {
            self.targets[owner(hash, self.peers)].push(index as u32);
        }
        for (target, pusher) in self.targets.iter_mut().zip(pushers) {
            if !target.is_empty() {
                Message::push_at(&mut container.gather(target), time.clone(), pusher);
                target.clear();
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Updates<Keyed<V>>>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}
