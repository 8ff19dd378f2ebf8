//! Values written as text: the common ways to write one are read quickly, the others by arrow.

use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::{Date32Type, Int64Type};
use chrono::Utc;

use crate::format::numbers::Exact;

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

/// `true`, `t`, `yes`, `1` and their opposites.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let any = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (any(&["true", "t", "yes", "1"]), any(&["false", "f", "no", "0"])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Bytes written in hexadecimal digits, with `\x` or `0x` before them or not.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x").or_else(|| text.strip_prefix("0x")).unwrap_or(text).as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// A day, also written as the point in time at which it begins.
#[inline]
pub(crate) fn date(text: &str) -> Option<i32> {
    match text.len() > 10 {
        true => long_date(text),
        false => Date32Type::parse(text),
    }
}

#[cold]
fn long_date(text: &str) -> Option<i32> {
    const DAY: i64 = 86_400_000_000;
    if text.starts_with(['+', '-']) && !text.contains(':') {
        return Date32Type::parse(text);
    }
    let micros = timestamp(text)?;
    if micros % DAY == 0 { i32::try_from(micros / DAY).ok() } else { None }
}

/// Nanoseconds since midnight.
pub(crate) fn time_of_day(text: &str) -> Option<i64> {
    string_to_time_nanoseconds(text).ok().filter(|nanos| (0..86_400_000_000_000).contains(nanos))
}

/// A point in time as nanoseconds, as [`timestamp`].
pub(crate) fn nanos(text: &str) -> Option<i64> {
    string_to_datetime(&Utc, text).ok()?.timestamp_nanos_opt()
}

/// What a plain number is where a point in time should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// Nothing: whether it counts seconds or milliseconds is anybody's guess.
    #[default]
    Refused,
    /// Seconds since 1970, with a fraction or without.
    Seconds,
    Millis,
    Micros,
}

impl Epoch {
    /// Ten to this are a second.
    fn digits(self) -> Option<i32> {
        match self {
            Epoch::Refused => None,
            Epoch::Seconds => Some(0),
            Epoch::Millis => Some(3),
            Epoch::Micros => Some(6),
        }
    }

    pub(crate) fn micros(self, text: &str) -> Option<i64> {
        Exact::of(text)?.floor(6 - self.digits()?)
    }

    pub(crate) fn nanos(self, text: &str) -> Option<i64> {
        Exact::of(text)?.floor(9 - self.digits()?)
    }

    /// What to do about a text that is no point in time.
    pub(crate) fn advice(self, text: &str) -> Option<String> {
        if self != Epoch::Refused {
            return None;
        }
        let (digits, _) = Exact::of(text)?.extent();
        let (unit, format) = match digits {
            ..=11 => ("seconds", "epoch-seconds"),
            12..=14 => ("milliseconds", "epoch-millis"),
            _ => ("microseconds", "epoch-micros"),
        };
        Some(format!(": if a number counts {unit} since 1970, set timestamp-format = '{format}'"))
    }
}

/// A point in time as microseconds; one written without an offset is UTC.
#[inline]
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    Timestamps::default().read(text)
}

/// Reads points in time one after another: most are of the same minute as the one before.
#[derive(Default)]
pub(crate) struct Timestamps {
    /// A minute as it is written, and when it begins.
    minute: Option<([u8; 16], i64)>,
}

impl Timestamps {
    /// As [`timestamp`].
    #[inline]
    pub fn read(&mut self, text: &str) -> Option<i64> {
        let text_minute = text.as_bytes().split_first_chunk::<16>();
        if let (Some((minute, begin)), Some((of_text, rest))) = (&self.minute, text_minute)
            && minute == of_text
            && let Some(within) = within_minute(rest)
        {
            return Some(begin + within);
        }
        let Some(common) = Calendar::common(text.as_bytes()) else { return uncommon_timestamp(text) };
        let micros = common.micros();
        let begin = micros - i64::from(common.second * 1_000_000 + common.micros);
        self.minute = text_minute.map(|(minute, _)| (*minute, begin));
        Some(micros)
    }
}

/// Microseconds since a minute began, of what stands behind it: `:05.25` or the like.
#[inline]
fn within_minute(text: &[u8]) -> Option<i64> {
    let ([colon, tens, ones], rest) = text.split_first_chunk()?;
    let [tens, ones] = [tens, ones].map(|byte| byte.wrapping_sub(b'0'));
    let seconds = (*colon == b':' && tens < 6 && ones < 10).then(|| i64::from(tens * 10 + ones))?;
    Some(seconds * 1_000_000 + i64::from(fraction(rest)?))
}

/// Microseconds, of what stands behind a second: up to six digits and a `Z` or not.
#[inline]
fn fraction(text: &[u8]) -> Option<u32> {
    match text.strip_suffix(b"Z").unwrap_or(text) {
        [] => Some(0),
        [b'.', a, b, c, d, e, f] => six(&[*a, *b, *c, *d, *e, *f]),
        [b'.', digits @ ..] if (1..=5).contains(&digits.len()) => {
            let mut padded = *b"000000";
            padded[..digits.len()].copy_from_slice(digits);
            six(&padded)
        }
        _ => None,
    }
}

#[cold]
fn uncommon_timestamp(text: &str) -> Option<i64> {
    if text.starts_with(['+', '-']) {
        return far_timestamp(text);
    }
    string_to_datetime(&Utc, text).ok().map(|instant| instant.timestamp_micros())
}

/// A point in time of a year with a sign, as those before 0 and after 9999 are written.
fn far_timestamp(text: &str) -> Option<i64> {
    const FOUR_CENTURIES: i64 = 146_097 * 86_400_000_000;
    let (year, rest) = text.split_at(text.get(1..)?.find('-')? + 1);
    let digits = &year[1..];
    if !(4..=6).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Every four centuries have the same days.
    let year: i64 = year.parse().ok()?;
    let near = string_to_datetime(&Utc, &format!("{}{rest}", 2000 + year.rem_euclid(400))).ok()?.timestamp_micros();
    (year.div_euclid(400) - 5).checked_mul(FOUR_CENTURIES)?.checked_add(near)
}

/// A point in time as it is written.
struct Calendar {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
}

impl Calendar {
    /// One written as `2013-01-31T10:00:00`, with `T` or a space, up to six digits of a second's fraction and a `Z` or not.
    #[inline]
    fn common(text: &[u8]) -> Option<Calendar> {
        let (whole, rest) = text.split_first_chunk::<19>()?;
        let (date, time) = (whole.first_chunk::<8>()?, whole.last_chunk::<8>()?);
        let (date, time) = (pairs(*date, b"0000-00-")?, pairs(*time, b"00:00:00")?);
        let [day_tens, day_ones] = [whole[8], whole[9]].map(|byte| u32::from(byte.wrapping_sub(b'0')));
        if !matches!(whole[10], b'T' | b' ') || day_tens > 9 || day_ones > 9 {
            return None;
        }
        let (year, month, day) = (pair(date, 0) * 100 + pair(date, 2), pair(date, 5), day_tens * 10 + day_ones);
        let (hour, minute, second) = (pair(time, 0), pair(time, 3), pair(time, 6));
        if hour > 23 || minute > 59 || second > 59 || month == 0 || month > 12 || day == 0 {
            return None;
        }
        if day > 28 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let days = match month {
                4 | 6 | 9 | 11 => 30,
                2 => 28 + u32::from(leap),
                _ => 31,
            };
            if day > days {
                return None;
            }
        }
        Some(Calendar { year, month, day, hour, minute, second, micros: fraction(rest)? })
    }

    #[inline]
    fn micros(&self) -> i64 {
        // Days since 1970, by years that begin in March of the year 0 or the one before, so that a leap day is the last of its
        // year; of the latter there is one more cycle of 400 years.
        let year = self.year + 400 - u32::from(self.month <= 2);
        let (cycle, of_cycle, month) = (year / 400, year % 400, (self.month + 9) % 12);
        let day = of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + (153 * month + 2) / 5 + self.day - 1;
        let days = i64::from(cycle * 146_097 + day) - 146_097 - 719_468;
        let seconds = days * 86_400 + i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        seconds * 1_000_000 + i64::from(self.micros)
    }
}

/// The number that six digits are.
#[inline]
fn six(digits: &[u8; 6]) -> Option<u32> {
    let [a, b, c, d, e, f] = *digits;
    let pairs = pairs([b'0', b'0', a, b, c, d, e, f], b"00000000")?;
    Some(pair(pairs, 2) * 10_000 + pair(pairs, 4) * 100 + pair(pairs, 6))
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
fn pair(pairs: u64, place: usize) -> u32 {
    u32::from(pairs.to_le_bytes()[place])
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
        let (mut quick, mut times) = (0, Timestamps::default());
        for _ in 0..200_000 {
            let (year, month, day) = (random(10_000), random(14), random(33));
            let (hour, minute, second) = (random(25), random(61), random(61));
            let separator = ["T", " ", "t", "_"][random(4) as usize];
            let fraction = ["", ".5", ".123456", ".1234567", ".", ".00001", ".1x"][random(7) as usize];
            let zone = ["", "Z", "+02:00", "z", " "][random(5) as usize];
            let text =
                format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            if let Some(common) = Calendar::common(text.as_bytes()) {
                quick += 1;
                assert_eq!(Some(common.micros()), slowly(&text), "{text}");
            }
            // What follows is of the same minute, or nearly.
            let behind = [":00", ":59", ":60", ":5", " 05", ":3x", ""][random(7) as usize];
            let next = format!("{}{behind}{fraction}{zone}", &text[..16]);
            for text in [&text, &next] {
                assert_eq!(times.read(text), timestamp(text), "{text}");
            }
        }
        assert!(quick > 5_000, "{quick}");
        for text in [
            "0000-01-01T00:00:00",
            "0000-03-01T00:00:00",
            "2013-01-31",
            "2013-01-31T10:00",
            "x",
            "",
            "2013-02-29T00:00:00",
            "1969-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(timestamp(text), slowly(text), "{text}");
            assert_eq!(Timestamps::default().read(text), slowly(text), "{text}");
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
