//! Batches of updates: the container on the edges of a dataflow.

use timely::bytes::arc::Bytes;
use timely::container::Accountable;
use timely::dataflow::channels::ContainerBytes;

use crate::bytes;
use crate::time::Time;

/// A stream of batches of updates, at event-time timestamps.
pub type UpdateStream<'scope, D> = timely::dataflow::Stream<'scope, Time, Updates<D>>;

/// A batch of records, row-wise or column-wise, that updates carry.
pub trait Payload: Clone + Default + Send + Sync + 'static {
    /// The number of records.
    fn len(&self) -> usize;

    /// Whether there are no records.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records at `indices`, in that order; an index may repeat.
    fn gather(&self, indices: &[u32]) -> Self;

    /// The records of a range of indices.
    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        self.gather(&(range.start as u32..range.end as u32).collect::<Vec<_>>())
    }

    /// The records of all `parts`, one after another. All parts have one layout; empty parts may have none.
    fn concat(parts: &[&Self]) -> Self;

    /// The bytes that [`Payload::encode`] appends.
    fn encoded_len(&self) -> usize {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.len()
    }

    /// Appends a self-contained encoding, for the network. Never a memory layout.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads what [`Payload::encode`] wrote; an error says what is wrong with the bytes.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// A batch of updates: for each record of `data` a time and a diff.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updates<D> {
    /// The records.
    pub data: D,
    /// When each record's change takes effect.
    pub times: Vec<Time>,
    /// How many copies arrive (or leave, when negative); never 0 by convention.
    pub diffs: Vec<i64>,
}

impl<D: Payload> Updates<D> {
    /// A batch of one time and one diff for all of `data`.
    pub fn uniform(data: D, time: Time, diff: i64) -> Self {
        let len = data.len();
        Updates { data, times: vec![time; len], diffs: vec![diff; len] }
    }

    /// The number of updates.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no updates.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The updates at `indices`, in that order.
    pub fn gather(&self, indices: &[u32]) -> Self {
        Updates {
            data: self.data.gather(indices),
            times: indices.iter().map(|&i| self.times[i as usize]).collect(),
            diffs: indices.iter().map(|&i| self.diffs[i as usize]).collect(),
        }
    }

    /// Cuts the updates in two: keeps the first `at`, gives the others.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let data = self.data.slice(at..self.len());
        self.data = self.data.slice(0..at);
        Updates { data, times: self.times.split_off(at), diffs: self.diffs.split_off(at) }
    }

    /// The updates of all `parts`, one after another.
    pub fn concat(parts: &[&Self]) -> Self {
        let data: Vec<&D> = parts.iter().map(|p| &p.data).collect();
        Updates {
            data: D::concat(&data),
            times: parts.iter().flat_map(|p| p.times.iter().copied()).collect(),
            diffs: parts.iter().flat_map(|p| p.diffs.iter().copied()).collect(),
        }
    }
}

impl<D: Payload> Accountable for Updates<D> {
    fn record_count(&self) -> i64 {
        self.times.len() as i64
    }
}

impl<D: Payload> ContainerBytes for Updates<D> {
    fn from_bytes(bytes: Bytes) -> Self {
        let (head, rest) = bytes.split_at(8);
        let len = u64::from_le_bytes(head.try_into().unwrap_or_default()) as usize;
        let words = |at: usize| -> Vec<u64> {
            rest[at..at + 8 * len]
                .chunks_exact(8)
                .map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default()))
                .collect()
        };
        let times = words(0);
        let diffs = words(8 * len).into_iter().map(|d| d as i64).collect();
        match D::decode(&rest[16 * len..]) {
            Ok(data) => Updates { data, times, diffs },
            // A peer sent bytes that it did not encode: the process must end, for progress would be miscounted.
            Err(error) => {
                eprintln!("headwater: corrupt message from another process: {error}");
                std::process::abort()
            }
        }
    }

    fn length_in_bytes(&self) -> usize {
        8 + 16 * self.len() + self.data.encoded_len()
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let mut out = Vec::with_capacity(8 + 16 * self.len());
        out.extend_from_slice(&(self.len() as u64).to_le_bytes());
        bytes::write(&mut out, self.times.iter().map(|time| time.to_le_bytes()));
        bytes::write(&mut out, self.diffs.iter().map(|diff| diff.to_le_bytes()));
        self.data.encode(&mut out);
        if let Err(error) = writer.write_all(&out) {
            eprintln!("headwater: can't write to another process: {error}");
            std::process::abort()
        }
    }
}

impl<T> Payload for Vec<T>
where
    T: Clone + Send + Sync + serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    fn len(&self) -> usize {
        Vec::len(self)
    }
    fn gather(&self, indices: &[u32]) -> Self {
        indices.iter().map(|&i| self[i as usize].clone()).collect()
    }
    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        self[range].to_vec()
    }
    fn concat(parts: &[&Self]) -> Self {
        parts.iter().flat_map(|p| p.iter().cloned()).collect()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        if let Err(error) = bincode::serialize_into(out, self) {
            eprintln!("headwater: can't encode a record: {error}");
            std::process::abort()
        }
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        bincode::deserialize(bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use timely::bytes::arc::BytesMut;

    use super::*;
    use crate::{Keyed, Rows};

    fn random(rng: &mut SmallRng) -> Updates<Keyed<Rows>> {
        let len = rng.random_range(0..50);
        let mut rows = || {
            let mut rows = Rows::default();
            (0..len).for_each(|_| rows.push(&vec![rng.random(); rng.random_range(0..40)]));
            rows
        };
        let (keys, vals) = (rows(), rows());
        let buckets = if rng.random() { (0..len).map(|_| rng.random()).collect() } else { Vec::new() };
        let data = Keyed { buckets, ..Keyed::new(keys, vals) };
        let times = (0..len).map(|_| rng.random()).collect();
        Updates { data, times, diffs: (0..len).map(|_| rng.random()).collect() }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..200 {
            let updates = random(&mut rng);
            let mut bytes = Vec::new();
            updates.into_bytes(&mut bytes);
            assert_eq!(bytes.len(), updates.length_in_bytes());
            assert_eq!(Updates::from_bytes(BytesMut::from(bytes).freeze()), updates);
        }
    }

    #[test]
    fn bytes_that_nobody_wrote_are_refused() {
        let mut rng = SmallRng::seed_from_u64(4);
        for _ in 0..200 {
            let data = random(&mut rng).data;
            let mut bytes = Vec::new();
            data.encode(&mut bytes);
            let cut = rng.random_range(0..bytes.len());
            assert!(Keyed::<Rows>::decode(&bytes[..cut]).is_err());
            // Anything may come of others, but no panic.
            bytes[cut] ^= 1 << rng.random_range(0..8);
            let _ = Keyed::<Rows>::decode(&bytes);
        }
    }
}
