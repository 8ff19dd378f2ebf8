//! Comparing and copying short byte strings, without a call where a few words will do.

use std::cmp::Ordering;
use std::ops::Range;

/// The first eight bytes and the last eight of a string of 8 to 16 bytes: they overlap, and their order is its order
/// among strings of one length.
#[inline]
fn words(bytes: &[u8]) -> Option<(u64, u64)> {
    let (first, last) = (bytes.first_chunk()?, bytes.last_chunk()?);
    (bytes.len() <= 16).then(|| (u64::from_be_bytes(*first), u64::from_be_bytes(*last)))
}

/// Whether two byte strings are equal.
#[inline]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (words(a), words(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The order of two byte strings.
#[inline]
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (words(a), words(b)) {
        (Some(one), Some(two)) if a.len() == b.len() => one.cmp(&two),
        _ => a.cmp(b),
    }
}

/// Appends a string. A short one is two chunks that overlap.
#[inline]
pub(crate) fn push(to: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        8..16 => overlapping::<8>(to, bytes),
        16..=32 => overlapping::<16>(to, bytes),
        _ => to.extend_from_slice(bytes),
    }
}

#[inline]
fn overlapping<const N: usize>(to: &mut Vec<u8>, bytes: &[u8]) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) {
        let end = to.len() + bytes.len();
        to.extend_from_slice(first);
        to.truncate(end - N);
        to.extend_from_slice(last);
    }
}

/// As many bytes are copied at once.
const SHORT: usize = 32;

/// Appends a range of `buffer`. Where it is short and there is room, more is copied than is kept.
#[inline]
pub(crate) fn append(to: &mut Vec<u8>, buffer: &[u8], range: Range<usize>) {
    match buffer[range.start..].first_chunk::<SHORT>() {
        Some(chunk) if range.len() <= SHORT && to.capacity() - to.len() >= SHORT => {
            let end = to.len() + range.len();
            to.extend_from_slice(chunk);
            to.truncate(end);
        }
        _ => to.extend_from_slice(&buffer[range]),
    }
}

/// Appends a string with its length in the byte before it, and zeros up to a multiple of `UNIT` bytes, if it is short and there
/// is room for [`SHORT`] bytes: where it begins, and how many bytes it takes.
#[inline]
pub(crate) fn push_record<const UNIT: usize>(to: &mut Vec<u8>, bytes: &[u8]) -> Option<(usize, usize)> {
    let (at, len) = (to.len(), bytes.len());
    if len >= SHORT || to.capacity() - at < SHORT {
        return None;
    }
    to.extend_from_slice(&[0; SHORT]);
    let record: &mut [u8; SHORT] = to[at..].first_chunk_mut()?;
    record[0] = len as u8;
    // Two chunks that overlap.
    match (bytes.first_chunk::<16>(), bytes.last_chunk::<16>(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last), ..) => {
            record[1..17].copy_from_slice(first);
            record[len - 15..=len].copy_from_slice(last);
        }
        (_, _, Some(first), Some(last)) => {
            record[1..9].copy_from_slice(first);
            record[len - 7..=len].copy_from_slice(last);
        }
        _ => record[1..].iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte),
    }
    let taken = (1 + len).next_multiple_of(UNIT);
    to.truncate(at + taken);
    Some((at, taken))
}

/// Appends integers, given as their bytes.
#[inline]
pub(crate) fn write<const N: usize>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = [u8; N]>) {
    let at = out.len();
    out.resize(at + N * words.len(), 0);
    out[at..].chunks_exact_mut(N).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
}

#[cfg(test)]
mod tests {
    use super::{append, compare, equal, push};

    #[test]
    fn appends_like_slices() {
        let buffer: Vec<u8> = (0..100).collect();
        for room in [0, 20, 64] {
            for start in 0..=buffer.len() {
                for end in start..=buffer.len() {
                    let mut to = Vec::with_capacity(room);
                    to.push(255);
                    append(&mut to, &buffer, start..end);
                    assert_eq!((to[0], &to[1..]), (255, &buffer[start..end]));
                    to.truncate(1);
                    push(&mut to, &buffer[start..end]);
                    assert_eq!((to[0], &to[1..]), (255, &buffer[start..end]));
                }
            }
        }
    }

    #[test]
    fn compares_like_slices() {
        let strings: Vec<Vec<u8>> = (0..20)
            .flat_map(|len| (0..len.max(1)).map(move |at| (0..len).map(|i| if i == at { 200 } else { 7 }).collect()))
            .collect();
        for a in &strings {
            for b in &strings {
                assert_eq!(compare(a, b), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(equal(a, b), a == b);
            }
        }
    }
}
