//! Integers of few bytes, for what is saved: seven bits a byte, the lowest first; the last byte is below 128. Signed ones
//! are folded first, so that those near 0 are short on either side.

/// Appends an integer.
#[inline]
pub fn put(out: &mut Vec<u8>, value: u64) {
    put_wide(out, u128::from(value));
}

/// Reads an integer and moves `bytes` past it; none where there is none, or a larger one.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(take_wide(bytes)?).ok()
}

/// Appends a signed integer.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// Reads a signed integer.
#[inline]
pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Appends a wide integer.
pub fn put_wide(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a wide integer.
pub fn take_wide(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0;
    for shift in (0..128).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends a wide signed integer.
pub fn put_wide_signed(out: &mut Vec<u8>, value: i128) {
    put_wide(out, (value << 1 ^ value >> 127) as u128);
}

/// Reads a wide signed integer.
pub fn take_wide_signed(bytes: &mut &[u8]) -> Option<i128> {
    let value = take_wide(bytes)?;
    Some((value >> 1) as i128 ^ -((value & 1) as i128))
}

/// Appends bytes behind their number.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads bytes behind their number.
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (own, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let edges = [0, 1, 2, 63, 64, 127, 128, 16_383, 16_384, i128::from(i64::MAX), i128::MAX / 3, i128::MAX];
        for value in edges.into_iter().flat_map(|edge| [edge, -edge, -edge - 1]) {
            let mut out = Vec::new();
            put_wide_signed(&mut out, value);
            if let Ok(short) = i64::try_from(value) {
                put_signed(&mut out, short);
                put(&mut out, short as u64);
            }
            put_bytes(&mut out, b"end");
            let mut bytes = &out[..];
            assert_eq!(take_wide_signed(&mut bytes), Some(value));
            if let Ok(short) = i64::try_from(value) {
                assert_eq!(take_signed(&mut bytes), Some(short));
                assert_eq!(take(&mut bytes), Some(short as u64));
            }
            assert_eq!((take_bytes(&mut bytes), bytes), (Some(&b"end"[..]), &[][..]));
            assert_eq!(take_bytes(&mut &out[out.len() - 2..]), None);
        }
        assert_eq!(take(&mut &[0xff; 3][..]), None);
        let mut out = Vec::new();
        [0, -1, 1, -64, 64].iter().for_each(|value| put_signed(&mut out, *value));
        assert_eq!(out, [0, 1, 2, 127, 128, 1]);
    }
}
