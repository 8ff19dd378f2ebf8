//! Byte strings kept in large chunks, addressed by a `u32`.

use crate::bytes;
use crate::guard::raise;

/// The address that no string has.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Strings begin at multiples of this many bytes.
const UNIT: usize = 4;
/// A chunk's bytes; a longer string has a chunk of its own.
const CHUNK: usize = 1 << 20;
/// As many chunks can be addressed.
const MAX_CHUNKS: usize = 1 << (32 - UNIT_BITS);
/// The bits of an address that count units within a chunk.
const UNIT_BITS: u32 = (CHUNK / UNIT).trailing_zeros();

/// Byte strings in chunks of 1 MiB: appending never moves what is there. Each is stored with its length (one byte up
/// to 127 bytes) and padded to 4 bytes, so an address reaches 16 GiB.
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// Bytes of strings that are no longer wanted.
    dead: usize,
    /// Bytes of all strings.
    used: usize,
}

impl Arena {
    /// Appends a string and gives its address.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> u32 {
        let index = self.chunks.len().wrapping_sub(1);
        if let Some(chunk) = self.chunks.last_mut()
            && chunk.len() < CHUNK
            && let Some((at, record)) = bytes::push_record::<UNIT>(chunk, bytes)
        {
            self.used += record;
            return address(index, at);
        }
        self.push_long(bytes)
    }

    /// The same for a long one, and where there is little room.
    #[inline(never)]
    fn push_long(&mut self, bytes: &[u8]) -> u32 {
        let record = record(bytes.len());
        self.used += record;
        if self.chunks.last().is_none_or(|c| c.len() + record > CHUNK) {
            // The first chunk grows as needed, so that a small table stays small.
            let room = if self.chunks.is_empty() { record } else { record.max(CHUNK) };
            if self.chunks.len() + 1 >= MAX_CHUNKS {
                raise(
                    "more than 16 GiB of keys or values in one operator of one worker: use more workers or fewer columns",
                );
            }
            self.chunks.push(Vec::with_capacity(room));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let at = chunk.len();
        if chunk.capacity() < at + record {
            chunk.reserve_exact((at + record).next_power_of_two().clamp(64, CHUNK.max(at + record)) - at);
        }
        let mut length = bytes.len();
        while length >= 0x80 {
            chunk.push(length as u8 | 0x80);
            length >>= 7;
        }
        chunk.push(length as u8);
        bytes::push(chunk, bytes);
        while chunk.len() < at + record {
            chunk.push(0);
        }
        address(index, at)
    }

    /// The string at an address.
    #[inline]
    pub(crate) fn get(&self, address: u32) -> &[u8] {
        let tail = self.tail(address);
        let first = tail[0] as usize;
        if first < 0x80 {
            return &tail[1..1 + first];
        }
        let mut length = first & 0x7f;
        let mut at = 1;
        loop {
            let byte = tail[at] as usize;
            length |= (byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                return &tail[at..at + length];
            }
        }
    }

    /// The first byte stored at an address: reading it early brings the string into the cache.
    #[inline]
    pub(crate) fn touch(&self, address: u32) -> u8 {
        self.tail(address)[0]
    }

    #[inline]
    fn tail(&self, address: u32) -> &[u8] {
        &self.chunks[(address >> UNIT_BITS) as usize][(address as usize & ((1 << UNIT_BITS) - 1)) * UNIT..]
    }

    /// Notes that the string at an address is no longer wanted.
    pub(crate) fn forget(&mut self, address: u32) {
        self.dead += record(self.get(address).len());
    }

    /// Whether most bytes are of forgotten strings, so that the owner should copy the others to a new arena.
    pub(crate) fn wasteful(&self) -> bool {
        self.dead > 4096 && self.dead * 2 > self.used
    }

    /// Bytes of the strings that are wanted.
    pub(crate) fn used(&self) -> usize {
        self.used - self.dead
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() + self.chunks.capacity() * size_of::<Vec<u8>>()
    }
}

/// The address of what begins at a byte of a chunk.
#[inline]
fn address(chunk: usize, at: usize) -> u32 {
    ((chunk as u32) << UNIT_BITS) | (at / UNIT) as u32
}

/// The bytes that a string of a length takes.
fn record(length: usize) -> usize {
    let mut prefix = 1;
    let mut rest = length >> 7;
    while rest > 0 {
        prefix += 1;
        rest >>= 7;
    }
    (prefix + length).next_multiple_of(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_lengths_stay_where_they_are() {
        let mut arena = Arena::default();
        let lengths = [0, 1, 3, 126, 127, 128, 129, 16_383, 16_384, 1 << 20, (1 << 20) + 7, 5, 3 << 20, 0, 40];
        let strings: Vec<Vec<u8>> =
            lengths.iter().cycle().take(60).enumerate().map(|(i, &n)| vec![i as u8 + 1; n]).collect();
        let addresses: Vec<u32> = strings.iter().map(|s| arena.push(s)).collect();
        for (string, &address) in strings.iter().zip(&addresses) {
            assert!(arena.get(address) == &string[..]);
        }
        assert!(!arena.wasteful());
        addresses.iter().for_each(|&a| arena.forget(a));
        assert!(arena.wasteful());
    }
}
