//! Values written as text: the common ways to write one are read quickly, the others by arrow.

use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::Int64Type;
use chrono::Utc;

/// The text without spaces around it.
#[inline]
pub(crate) fn trimmed(text: &str) -> &str {
    let plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    match plain(text.as_bytes().first()) && plain(text.as_bytes().last()) {
        true => text,
        false => text.trim(),
    }
}

/// A whole number.
#[inline]
pub(crate) fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // So many digits fit in any case.
    if digits.is_empty() || digits.len() > 18 {
        return Int64Type::parse(text);
    }
    let mut value = 0_i64;
    for digit in digits {
        match digit.wrapping_sub(b'0') {
            digit @ 0..=9 => value = value * 10 + i64::from(digit),
            _ => return Int64Type::parse(text),
        }
    }
    Some(if negative { -value } else { value })
}

/// A point in time as microseconds; one written without an offset is UTC.
#[inline]
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    common_timestamp(text.as_bytes())
        .or_else(|| string_to_datetime(&Utc, text).ok().map(|instant| instant.timestamp_micros()))
}

/// One written as `2013-01-31T10:00:00`, with `T` or a space, up to six digits of a second's fraction and a `Z` or not.
#[inline]
fn common_timestamp(text: &[u8]) -> Option<i64> {
    let (whole, rest) = text.split_first_chunk::<19>()?;
    let (date, time) = (whole.first_chunk::<8>()?, whole.last_chunk::<8>()?);
    let (date, time) = (pairs(*date, b"0000-00-")?, pairs(*time, b"00:00:00")?);
    let [day_tens, day_ones] = [whole[8], whole[9]].map(|byte| byte.wrapping_sub(b'0'));
    if !matches!(whole[10], b'T' | b' ') || day_tens > 9 || day_ones > 9 {
        return None;
    }
    let (year, month) = (pair(date, 0) * 100 + pair(date, 2), pair(date, 5));
    let day = i64::from(day_tens) * 10 + i64::from(day_ones);
    let (hour, minute, second) = (pair(time, 0), pair(time, 3), pair(time, 6));
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match rest.strip_suffix(b"Z").unwrap_or(rest) {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
            let mut six = *b"00000000";
            six[2..2 + digits.len()].copy_from_slice(digits);
            let six = pairs(six, b"00000000")?;
            pair(six, 2) * 10_000 + pair(six, 4) * 100 + pair(six, 6)
        }
        _ => return None,
    };
    // Days since 1970, by years that begin in March, so that a leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    let day = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    let seconds = (era * 146_097 + day - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// The numbers that each two characters of eight make, in the byte of the first; `None` unless there is a digit wherever the
/// pattern has a zero, and the pattern's character anywhere else.
#[inline]
fn pairs(eight: [u8; 8], pattern: &[u8; 8]) -> Option<u64> {
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    let values = u64::from_le_bytes(eight) ^ u64::from_le_bytes(*pattern);
    // Added to the largest value that is allowed, this is one less than the highest bit.
    let room = u64::from_le_bytes(pattern.map(|byte| if byte == b'0' { 0x7f - 9 } else { 0x7f }));
    if (values | values.wrapping_add(room)) & HIGHEST != 0 {
        return None;
    }
    Some(values.wrapping_mul(10).wrapping_add(values >> 8))
}

/// One of [`pairs`].
#[inline]
fn pair(pairs: u64, place: usize) -> i64 {
    i64::from(pairs.to_le_bytes()[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowly(text: &str) -> Option<i64> {
        string_to_datetime(&Utc, text).ok().map(|instant| instant.timestamp_micros())
    }

    #[test]
    fn common_times_are_read_as_all_are() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut quick = 0;
        for _ in 0..200_000 {
            let (year, month, day) = (random(10_000), random(14), random(33));
            let (hour, minute, second) = (random(25), random(61), random(61));
            let separator = ["T", " ", "t", "_"][random(4) as usize];
            let fraction = ["", ".5", ".123456", ".1234567", ".", ".00001", ".1x"][random(7) as usize];
            let zone = ["", "Z", "+02:00", "z", " "][random(5) as usize];
            let text =
                format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            if let Some(micros) = common_timestamp(text.as_bytes()) {
                quick += 1;
                assert_eq!(Some(micros), slowly(&text), "{text}");
            }
        }
        assert!(quick > 5_000, "{quick}");
        for text in ["2013-01-31", "2013-01-31T10:00", "x", "", "2013-02-29T00:00:00", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(timestamp(text), slowly(text), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_all_are() {
        for text in [
            "",
            "-",
            "0",
            "-0",
            "+5",
            "12",
            "-12",
            "999999999999999999",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1.5",
            "1e3",
            "1 2",
            "--1",
            "x",
            "007",
        ] {
            assert_eq!(whole(text), Int64Type::parse(text), "{text}");
        }
        for text in ["", " ", "a", " a", "a ", "\u{a0}a\u{a0}", "\ta\r", "é"] {
            assert_eq!(trimmed(text), text.trim());
        }
    }
}
