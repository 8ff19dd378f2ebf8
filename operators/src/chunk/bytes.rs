//! Comparing short byte strings, without a call where two integers will do.

use std::cmp::Ordering;

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

#[cfg(test)]
mod tests {
    use super::{compare, equal};

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
