//! Updates with a key: what stateful operators take.

use crate::bytes;
pub use crate::hash::{HASH_ID, hash, owner};
use crate::rows::Rows;
use crate::updates::Payload;

/// The bucket of state that is never released by a watermark.
pub const KEEP: u64 = u64::MAX;

/// Records with a flat-bytes key, its hash, a bucket, and any payload as value.
///
/// `buckets` says when the state of a key is released: the first [`crate::time::Time`] at which the watermark makes it
/// final (a window's end plus the declared disorder plus the width of a segment), or [`KEEP`]. An operator drops a bucket
/// when its frontier reaches it, without retractions, and ignores updates whose own time has reached their bucket. One
/// key always has one bucket. Empty `buckets` mean [`KEEP`] for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyed<V> {
    /// [`hash`] of each key.
    pub hashes: Vec<u64>,
    /// The keys. Equal keys are equal bytes.
    pub keys: Rows,
    /// When each key's state can be released; empty for never.
    pub buckets: Vec<u64>,
    /// The values, one a record; a payload without columns may be `()`.
    pub vals: V,
}

impl<V> Keyed<V> {
    /// Keyed records that keep their state; hashes the keys.
    pub fn new(keys: Rows, vals: V) -> Self {
        let hashes = keys.iter().map(hash).collect();
        Keyed { hashes, keys, buckets: Vec::new(), vals }
    }

    /// The bucket of record `index`.
    #[inline]
    pub fn bucket(&self, index: usize) -> u64 {
        self.buckets.get(index).copied().unwrap_or(KEEP)
    }
}

impl<V: Payload> Payload for Keyed<V> {
    fn len(&self) -> usize {
        self.hashes.len()
    }

    fn gather(&self, indices: &[u32]) -> Self {
        Keyed {
            hashes: indices.iter().map(|&i| self.hashes[i as usize]).collect(),
            keys: self.keys.gather(indices),
            buckets: if self.buckets.is_empty() {
                Vec::new()
            } else {
                indices.iter().map(|&i| self.buckets[i as usize]).collect()
            },
            vals: self.vals.gather(indices),
        }
    }

    fn concat(parts: &[&Self]) -> Self {
        let bucketed = parts.iter().any(|p| !p.buckets.is_empty());
        Keyed {
            hashes: parts.iter().flat_map(|p| p.hashes.iter().copied()).collect(),
            keys: Rows::concat(&parts.iter().map(|p| &p.keys).collect::<Vec<_>>()),
            buckets: if bucketed {
                parts.iter().flat_map(|p| (0..p.len()).map(|i| p.bucket(i))).collect()
            } else {
                Vec::new()
            },
            vals: V::concat(&parts.iter().map(|p| &p.vals).collect::<Vec<_>>()),
        }
    }

    fn encoded_len(&self) -> usize {
        16 + self.keys.encoded_len() + 8 * self.buckets.len() + self.vals.encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.keys.encoded_len() as u64).to_le_bytes());
        self.keys.encode(out);
        out.extend_from_slice(&(self.buckets.len() as u64).to_le_bytes());
        bytes::write(out, self.buckets.iter().map(|bucket| bucket.to_le_bytes()));
        self.vals.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        fn split(bytes: &[u8], width: usize) -> Result<(&[u8], &[u8]), String> {
            let short = || "a batch of keyed records ends early".to_string();
            let head = bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            let len = (u64::from_le_bytes(head) as usize).checked_mul(width).ok_or_else(short)?;
            bytes[8..].split_at_checked(len).ok_or_else(short)
        }
        let (keys, rest) = split(bytes, 1)?;
        let (buckets, vals) = split(rest, 8)?;
        let keyed = Keyed::new(Rows::decode(keys)?, V::decode(vals)?);
        let buckets = buckets.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default())).collect();
        Ok(Keyed { buckets, ..keyed })
    }
}

/// Records without a value, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoValue(pub usize);

impl Payload for NoValue {
    fn len(&self) -> usize {
        self.0
    }
    fn gather(&self, indices: &[u32]) -> Self {
        NoValue(indices.len())
    }
    fn concat(parts: &[&Self]) -> Self {
        NoValue(parts.iter().map(|p| p.0).sum())
    }
    fn encoded_len(&self) -> usize {
        8
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0 as u64).to_le_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let head = bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or("a count ends early")?;
        Ok(NoValue(u64::from_le_bytes(head) as usize))
    }
}
