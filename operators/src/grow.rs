//! How arrays by group grow: small ones by doubling, large ones by a quarter.
//!
//! A table of many keys has a handful of such arrays. While one grows its old and its new form are both there, and
//! afterwards it has room to spare; a quarter keeps either small, for some more copying of memory, in order, which is a few
//! nanoseconds a group in all.

/// Arrays below this length double.
const SMALL: usize = 1 << 16;

/// Makes room for `more` elements.
#[inline]
pub fn reserve<T>(array: &mut Vec<T>, more: usize) {
    let wanted = array.len() + more;
    if wanted > array.capacity() && wanted > SMALL {
        array.reserve_exact(more.max(array.len() / 4));
    }
}

/// Lengthens an array to `length`, unless it is that long.
#[inline]
pub fn extend<T: Clone>(array: &mut Vec<T>, length: usize, value: T) {
    if array.len() < length {
        reserve(array, length - array.len());
        array.resize(length, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_arrays_have_little_room_to_spare() {
        let mut array = Vec::new();
        let mut moves = 0;
        for length in 1..1_000_000 {
            let before = array.capacity();
            extend(&mut array, length, 0u8);
            moves += usize::from(array.capacity() != before && length > SMALL);
            assert!(array.len() == length && (length < 2 * SMALL || array.capacity() <= length * 5 / 4 + 1));
        }
        assert!(moves < 16, "{moves} moves");
    }
}
