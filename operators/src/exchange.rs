//! Moving keyed updates to the worker that owns their key.

use std::sync::Arc;

use timely::bytes::arc::Bytes;
use timely::communication::Push;
use timely::container::{Accountable, CapacityContainerBuilder};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::dataflow::operators::generic::Operator;

use crate::guard::Guard;
use crate::hash::{owned, owner};
use crate::keyed::Keyed;
use crate::time::Time;
use crate::updates::{Payload, UpdateStream, Updates};

/// Among at most so many workers a batch is looked through once for each.
const FEW: usize = 12;

/// Finds the rows of each owner.
struct Owners {
    peers: usize,
    rows: Vec<u32>,
    lists: Vec<Vec<u32>>,
}

impl Owners {
    fn new(peers: usize) -> Self {
        Owners { peers, rows: Vec::new(), lists: vec![Vec::new(); peers] }
    }

    /// Calls `logic` for each worker that owns some of the hashes, with their places, ascending.
    fn each(&mut self, hashes: &[u64], mut logic: impl FnMut(usize, &[u32])) {
        let Owners { peers, rows, lists } = self;
        if *peers > FEW {
            (0..).zip(hashes).for_each(|(row, hash)| lists[owner(*hash, *peers)].push(row));
            for (worker, list) in lists.iter_mut().enumerate().filter(|(_, list)| !list.is_empty()) {
                logic(worker, list);
                list.clear();
            }
            return;
        }
        rows.resize(hashes.len() + 1, 0);
        for worker in 0..*peers {
            // Whose a row is can't be foreseen, so it must not decide about a jump, nor where the next read is from.
            let (first, last) = owned(worker, *peers);
            let mut found = 0;
            for (row, hash) in (0..).zip(hashes) {
                rows[found] = row;
                found += usize::from(hash.wrapping_sub(first) <= last - first);
            }
            if found > 0 {
                logic(worker, &rows[..found]);
            }
        }
    }
}

/// Routes each update to the worker that owns its key's hash, one gather per worker and batch.
pub struct ByHash(Owners);

/// A pact that sends each keyed update to the [`owner`] of its hash.
pub fn by_hash() -> DistributorPact<impl FnOnce(usize) -> ByHash> {
    DistributorPact(|peers| ByHash(Owners::new(peers)))
}

impl<V: Payload> Distributor<Updates<Keyed<V>>> for ByHash {
    fn partition<T: Clone, P: Push<Message<T, Updates<Keyed<V>>>>>(
        &mut self,
        container: &mut Updates<Keyed<V>>,
        time: &T,
        pushers: &mut [P],
    ) {
        let all = std::mem::take(container);
        let (times, diffs) = (Lane::of(&all.times), Lane::of(&all.diffs));
        self.0.each(&all.data.hashes, |worker, rows| {
            let mut part =
                Updates { data: all.data.gather(rows), times: times.gather(rows), diffs: diffs.gather(rows) };
            Message::push_at(&mut part, time.clone(), &mut pushers[worker]);
        });
    }

    fn flush<T: Clone, P: Push<Message<T, Updates<Keyed<V>>>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// A worker's share of a batch: in one process nothing is copied.
#[derive(Clone)]
pub enum Share<D> {
    /// All of it.
    Whole(Updates<D>),
    /// Some of its rows, ascending; others have the rest.
    Part(Arc<Updates<D>>, Vec<u32>),
}

impl<D: Default> Default for Share<D> {
    fn default() -> Self {
        Share::Whole(Updates::default())
    }
}

impl<D: Payload> Share<D> {
    /// The batch, and which of its rows; `None` for all.
    pub fn parts(&self) -> (&Updates<D>, Option<&[u32]>) {
        match self {
            Share::Whole(updates) => (updates, None),
            Share::Part(updates, rows) => (updates, Some(rows)),
        }
    }

    fn on_its_own(&self) -> std::borrow::Cow<'_, Updates<D>> {
        match self {
            Share::Whole(updates) => std::borrow::Cow::Borrowed(updates),
            Share::Part(updates, rows) => std::borrow::Cow::Owned(updates.gather(rows)),
        }
    }
}

impl<D: Payload> Accountable for Share<D> {
    fn record_count(&self) -> i64 {
        match self.parts() {
            (_, Some(rows)) => rows.len() as i64,
            (all, None) => all.len() as i64,
        }
    }
}

impl<D: Payload> ContainerBytes for Share<D> {
    fn from_bytes(bytes: Bytes) -> Self {
        Share::Whole(Updates::from_bytes(bytes))
    }

    fn length_in_bytes(&self) -> usize {
        self.on_its_own().length_in_bytes()
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        self.on_its_own().into_bytes(writer);
    }
}

/// Batches of which workers can have shares.
pub type ShareStream<'scope, D> = Stream<'scope, Time, Share<D>>;

/// The batches of a stream, for [`by_owner`].
pub fn shares<'scope, D: Payload>(stream: UpdateStream<'scope, D>) -> ShareStream<'scope, D> {
    stream.unary::<CapacityContainerBuilder<Share<D>>, _, _, _>(Pipeline, "Share", |_, _| {
        let guard = Guard::new("Share");
        move |input, output| {
            input.for_each(|capability, batch| {
                guard.message(capability, |capability| {
                    output.session(capability).give_container(&mut Share::Whole(std::mem::take(batch)));
                });
            });
        }
    })
}

/// Gives each worker the rows of a batch whose hashes it owns.
pub struct ByOwner(Owners);

/// A pact that gives each worker its share: what it is the [`owner`] of.
pub fn by_owner() -> DistributorPact<impl FnOnce(usize) -> ByOwner> {
    DistributorPact(|peers| ByOwner(Owners::new(peers)))
}

impl<V: Payload> Distributor<Share<Keyed<V>>> for ByOwner {
    fn partition<T: Clone, P: Push<Message<T, Share<Keyed<V>>>>>(
        &mut self,
        container: &mut Share<Keyed<V>>,
        time: &T,
        pushers: &mut [P],
    ) {
        let all = match std::mem::take(container) {
            Share::Whole(all) => Arc::new(all),
            Share::Part(all, rows) => Arc::new(all.gather(&rows)),
        };
        self.0.each(&all.data.hashes, |worker, rows| {
            Message::push_at(&mut Share::Part(all.clone(), rows.to_vec()), time.clone(), &mut pushers[worker]);
        });
    }

    fn flush<T: Clone, P: Push<Message<T, Share<Keyed<V>>>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// The times or the diffs of a batch, which are often all the same.
enum Lane<'a, N> {
    Same(N),
    Each(&'a [N]),
}

impl<'a, N: Copy + PartialEq> Lane<'a, N> {
    fn of(all: &'a [N]) -> Self {
        match all {
            // By pieces, each without a branch.
            [first, ..] if all.chunks(64).all(|piece| piece.iter().fold(true, |same, n| same & (n == first))) => {
                Lane::Same(*first)
            }
            _ => Lane::Each(all),
        }
    }

    fn gather(&self, rows: &[u32]) -> Vec<N> {
        match self {
            Lane::Same(one) => vec![*one; rows.len()],
            Lane::Each(all) => rows.iter().map(|&row| all[row as usize]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::rows::Rows;

    type Batch = Updates<Keyed<Vec<u64>>>;

    /// What a worker gets.
    struct Inbox<C>(Vec<C>);

    impl<C> Push<Message<u64, C>> for Inbox<C> {
        fn push(&mut self, element: &mut Option<Message<u64, C>>) {
            self.0.extend(element.take().map(|message| message.data));
        }
    }

    /// What each worker gets of a batch.
    fn sent<C>(peers: usize, mut all: C, pact: &mut impl Distributor<C>) -> Vec<Vec<C>> {
        let mut inboxes: Vec<_> = (0..peers).map(|_| Inbox(Vec::new())).collect();
        pact.partition(&mut all, &0, &mut inboxes);
        inboxes.into_iter().map(|inbox| inbox.0).collect()
    }

    #[test]
    fn each_update_goes_whole_and_in_order_to_its_owner() {
        let mut rng = SmallRng::seed_from_u64(5);
        for peers in [2, 3, 12, 13] {
            let (mut copied, mut shared) = (ByHash(Owners::new(peers)), ByOwner(Owners::new(peers)));
            for round in 0..60u64 {
                let (len, keys) = (rng.random_range(0..200u64), [1, 40][round as usize % 2]);
                let mut rows = Rows::default();
                (0..len).for_each(|_| rows.push(&vec![7; rng.random_range(0..keys)]));
                let same = rng.random_bool(0.5);
                let mut numbers =
                    || (0..len).map(|_| if same { 4 } else { rng.random_range(0..5) }).collect::<Vec<_>>();
                let (times, buckets) = (numbers(), numbers());
                let diffs = numbers().into_iter().map(|n| n as i64 - 9).collect();
                let buckets = if same { Vec::new() } else { buckets };
                let data = Keyed { buckets, ..Keyed::new(rows, (0..len).collect()) };
                let all = Updates { data, times, diffs };
                let copies: Vec<Vec<Batch>> = sent(peers, all.clone(), &mut copied);
                let shares = sent(peers, Share::Whole(all.clone()), &mut shared);
                for (worker, (copies, shares)) in copies.into_iter().zip(shares).enumerate() {
                    let rows = (0..len as u32).filter(|row| owner(all.data.hashes[*row as usize], peers) == worker);
                    let rows: Vec<u32> = rows.collect();
                    let expected = Vec::from_iter((!rows.is_empty()).then(|| all.gather(&rows)));
                    assert_eq!(copies, expected, "of {peers} workers, {worker}");
                    let counts: Vec<_> = shares.iter().map(Accountable::record_count).collect();
                    assert_eq!(counts, expected.iter().map(|part| part.len() as i64).collect::<Vec<_>>());
                    let read = |share: &Share<_>| {
                        let mut bytes = Vec::new();
                        share.into_bytes(&mut bytes);
                        assert_eq!(bytes.len(), share.length_in_bytes());
                        Share::from_bytes(timely::bytes::arc::BytesMut::from(bytes).freeze()).on_its_own().into_owned()
                    };
                    assert_eq!(shares.iter().map(read).collect::<Vec<Batch>>(), expected);
                }
            }
        }
    }
}
