//! Rows as flat bytes: one buffer, no allocation per row.

use crate::bytes;
use crate::guard::raise;
use crate::updates::Payload;

/// A sequence of byte strings in one buffer.
///
/// Rows compare as bytes (`memcmp`), so an order-preserving encoding of values gives their order.
///
/// ```
/// use headwater_operators::Rows;
/// let mut rows = Rows::default();
/// rows.push(b"a");
/// rows.push(b"bc");
/// assert_eq!(rows.get(1), b"bc");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where each row ends in `bytes`; a row begins where the one before it ends.
    ends: Vec<u32>,
}

impl Rows {
    /// Room for `rows` rows of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Rows { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(rows) }
    }

    /// Rows from one buffer and the end of each row in it. The last end must be the length of `bytes`.
    pub fn from_parts(bytes: Vec<u8>, ends: Vec<u32>) -> Self {
        debug_assert_eq!(ends.last().copied().unwrap_or(0) as usize, bytes.len());
        Rows { bytes, ends }
    }

    /// The number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Row `index`.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.span(index)]
    }

    /// Where row `index` is in [`Rows::bytes`].
    #[inline]
    pub(crate) fn span(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        start..self.ends[index] as usize
    }

    /// Appends a row. More than 4 GiB in all are a [fault](crate::guard::raise).
    #[inline]
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(end(self.bytes.len()));
    }

    /// Appends the concatenation of two byte strings as one row.
    #[inline]
    pub fn push_pair(&mut self, first: &[u8], second: &[u8]) {
        self.bytes.extend_from_slice(first);
        self.push(second);
    }

    /// Makes room for `rows` more rows of `bytes` bytes in all.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.bytes.reserve(bytes);
        self.ends.reserve(rows);
    }

    /// Appends some of the rows again.
    pub fn extend_from_within(&mut self, rows: std::ops::Range<usize>) {
        let start = if rows.start == 0 { 0 } else { self.ends[rows.start - 1] as usize };
        let end = if rows.end == 0 { 0 } else { self.ends[rows.end - 1] as usize };
        let shift = (self.bytes.len() - start) as u32;
        self.bytes.extend_from_within(start..end);
        check(self.bytes.len());
        self.ends.reserve(rows.len());
        for row in rows {
            self.ends.push(self.ends[row] + shift);
        }
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// All rows' bytes, one after another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each row ends in [`Rows::bytes`].
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Bytes held, spare capacity included.
    pub fn heap_size(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity()
    }

    /// Forgets all rows, keeping the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Where a row ends.
#[inline]
fn end(at: usize) -> u32 {
    check(at);
    at as u32
}

#[inline]
fn check(bytes: usize) {
    if bytes > u32::MAX as usize {
        raise("more than 4 GiB in one batch of rows");
    }
}

impl Payload for Rows {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn gather(&self, indices: &[u32]) -> Self {
        let average = self.bytes.len() / self.len().max(1) + 1;
        let mut out = Rows::with_capacity(indices.len(), indices.len() * average);
        for &index in indices {
            bytes::append(&mut out.bytes, &self.bytes, self.span(index as usize));
            out.ends.push(end(out.bytes.len()));
        }
        out
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let begin = if range.start == 0 { 0 } else { self.ends[range.start - 1] };
        let ends: Vec<u32> = self.ends[range].iter().map(|end| end - begin).collect();
        let len = ends.last().copied().unwrap_or(0) as usize;
        Rows { bytes: self.bytes[begin as usize..begin as usize + len].to_vec(), ends }
    }

    fn concat(parts: &[&Self]) -> Self {
        let mut out =
            Rows::with_capacity(parts.iter().map(|p| p.len()).sum(), parts.iter().map(|p| p.bytes.len()).sum());
        for part in parts {
            let base = out.bytes.len() as u32;
            check(out.bytes.len() + part.bytes.len());
            out.bytes.extend_from_slice(&part.bytes);
            out.ends.extend(part.ends.iter().map(|e| base + e));
        }
        out
    }

    fn encoded_len(&self) -> usize {
        8 + 4 * self.ends.len() + self.bytes.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(&(self.ends.len() as u64).to_le_bytes());
        bytes::write(out, self.ends.iter().map(|end| end.to_le_bytes()));
        out.extend_from_slice(&self.bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = || "a batch of rows ends early".to_string();
        let len = bytes.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(short)? as usize;
        let ends_at = 8usize.checked_add(len.checked_mul(4).ok_or_else(short)?).ok_or_else(short)?;
        let ends: Vec<u32> = bytes
            .get(8..ends_at)
            .ok_or_else(short)?
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap_or_default()))
            .collect();
        let bytes = bytes[ends_at..].to_vec();
        if ends.last().copied().unwrap_or(0) as usize != bytes.len() || !ends.is_sorted() {
            return Err(short());
        }
        Ok(Rows { bytes, ends })
    }
}
