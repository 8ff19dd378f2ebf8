//! Numbers as they are written, to the last digit.

use std::fmt::Write;

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{Float32Type, Float64Type, i256};

/// A number in decimal digits, with a point and an exponent or without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact<'a> {
    pub(crate) negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
    /// Whether it has neither point nor exponent.
    pub(crate) plain: bool,
}

impl<'a> Exact<'a> {
    /// What a text says, if that is a number.
    #[inline]
    pub(crate) fn of(text: &'a str) -> Option<Exact<'a>> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        let (whole, rest) = digits(rest);
        let plain = rest.is_empty();
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Exact { negative, whole, fraction, exponent, plain })
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> + Clone + use<'a> {
        self.whole.iter().chain(self.fraction).map(|digit| digit - b'0')
    }

    /// The first digit's place if it is not a zero, and the number of digits from there to the last that is none: of 120.50
    /// that is 2 and 4. `None` is zero.
    fn significant(&self) -> Option<(i64, usize)> {
        let before = self.digits().take_while(|digit| *digit == 0).count();
        let behind = self.digits().rev().take_while(|digit| *digit == 0).count();
        let all = self.whole.len() + self.fraction.len();
        (before < all).then(|| {
            let place = self.whole.len() as i64 - 1 - before as i64 + i64::from(self.exponent);
            (place, all - before - behind)
        })
    }

    /// How many digits it has before the point, and how many behind it up to the last that is no zero.
    pub(crate) fn extent(&self) -> (u64, u64) {
        match self.significant() {
            None => (1, 0),
            Some((place, count)) => {
                let last = place + 1 - count as i64;
                ((place + 1).max(1).unsigned_abs(), (-last).max(0).unsigned_abs())
            }
        }
    }

    /// It times ten to the `scale`, if that is a whole number of up to 38 digits.
    #[inline]
    pub(crate) fn scaled(&self, scale: i32) -> Option<i128> {
        let shift = self.exponent.saturating_add(scale).saturating_sub(i32::try_from(self.fraction.len()).ok()?);
        let all = self.whole.len() + self.fraction.len();
        let kept = if shift < 0 { all.saturating_sub(shift.unsigned_abs() as usize) } else { all };
        let (mut value, mut count) = (0_i128, 0_u32);
        for (place, digit) in self.digits().enumerate() {
            if place >= kept {
                if digit != 0 {
                    return None;
                }
                continue;
            }
            count += u32::from(count > 0 || digit != 0);
            if count > 38 {
                return None;
            }
            value = value * 10 + i128::from(digit);
        }
        if shift > 0 && value != 0 {
            let shift = shift.unsigned_abs();
            if count + shift > 38 {
                return None;
            }
            value *= 10_i128.pow(shift);
        }
        Some(if self.negative { -value } else { value })
    }

    /// The whole number of microseconds (or another part, ten to the `scale` of them) that it holds; what is finer is cut.
    pub(crate) fn floor(&self, scale: i32) -> Option<i64> {
        let fraction = self.fraction.len().min(usize::try_from((scale + self.exponent).max(0)).ok()?);
        let cut = Exact { fraction: &self.fraction[..fraction], ..*self };
        let value = i64::try_from(cut.scaled(scale)?).ok()?;
        let rest = self.negative && self.fraction[fraction..].iter().any(|digit| *digit != b'0');
        value.checked_sub(i64::from(rest))
    }

    /// Whether a DOUBLE keeps it: written with as many digits, the nearest one is the same.
    pub(crate) fn kept_by_double(&self, text: &str) -> bool {
        // No double has more digits.
        const MOST: usize = 800;
        let Some((place, count)) = self.significant() else { return true };
        let Ok(double) = text.parse::<f64>() else { return false };
        if count <= 15 && double.is_normal() {
            return true;
        }
        if count > MOST || !double.is_finite() || double == 0.0 {
            return false;
        }
        let mut written = String::with_capacity(count + 8);
        if write!(written, "{:.*e}", count - 1, double.abs()).is_err() {
            return false;
        }
        let Some((digits, exponent)) = written.split_once('e') else { return false };
        let same = digits.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0');
        exponent.parse() == Ok(place) && same.eq(self.digits().skip_while(|digit| *digit == 0).take(count))
    }
}

#[inline]
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

fn exponent(text: &[u8]) -> Option<i32> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if rest.is_empty() || !rest.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // So large that it is out of any type's range, and no sum with it overflows.
    let add = |value: i32, digit: &u8| (value * 10 + i32::from(digit - b'0')).min(10_000_000);
    let value = rest.iter().fold(0, add);
    Some(if negative { -value } else { value })
}

/// A whole number that is not written as one: `1.0`, `1e3`.
#[cold]
pub(crate) fn uncommon_whole<T: TryFrom<i128>>(text: &str) -> Option<T> {
    Exact::of(text)?.scaled(0).and_then(|value| T::try_from(value).ok())
}

/// A value of DECIMAL(precision, scale), if not a digit of the number is lost in it.
#[inline]
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let value = Exact::of(text)?.scaled(i32::from(scale))?;
    (value.unsigned_abs() < 10_u128.pow(u32::from(precision))).then_some(value)
}

/// The same for more than 38 digits.
pub(crate) fn long_decimal(text: &str, precision: u8, scale: i8) -> Option<i256> {
    let number = Exact::of(text)?;
    if number.significant().is_none() {
        return Some(i256::ZERO);
    }
    let (before, behind) = number.extent();
    let scale = i64::from(scale);
    if before as i64 + scale > i64::from(precision) || behind as i64 > scale {
        return None;
    }
    let shift = i64::from(number.exponent) + scale - number.fraction.len() as i64;
    let mut digits: String = number.digits().map(|digit| char::from(b'0' + digit)).collect();
    match usize::try_from(shift) {
        Ok(shift) => digits.extend(std::iter::repeat_n('0', shift)),
        Err(_) => digits.truncate(digits.len().saturating_sub(shift.unsigned_abs() as usize)),
    }
    let value = i256::from_string(&digits)?;
    Some(if number.negative { value.wrapping_neg() } else { value })
}

/// A DOUBLE. A number out of its range is none; `inf` is.
#[inline]
pub(crate) fn double(text: &str) -> Option<f64> {
    Float64Type::parse(text).filter(|value| value.is_finite() || is_word(text))
}

/// A FLOAT, as [`double`].
#[inline]
pub(crate) fn float(text: &str) -> Option<f32> {
    Float32Type::parse(text).filter(|value| value.is_finite() || is_word(text))
}

/// Whether a text that is read as a float is a word.
#[cold]
fn is_word(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_none() {
        for (text, precision, scale, value) in [
            ("0", 1, 0, Some(0)),
            ("-0.10", 10, 2, Some(-10)),
            ("12345678901234567.89", 20, 2, Some(1_234_567_890_123_456_789)),
            ("0.125", 10, 2, None),
            ("0.120", 10, 2, Some(12)),
            ("1e3", 5, 1, Some(10_000)),
            ("1e3", 4, 1, None),
            ("125e-2", 4, 2, Some(125)),
            ("125e-3", 4, 2, None),
            (".5", 2, 1, Some(5)),
            ("5.", 2, 1, Some(50)),
            ("+7", 2, 0, Some(7)),
            ("00012", 2, 0, Some(12)),
            ("99999999999999999999999999999999999999", 38, 0, Some(10_i128.pow(38) - 1)),
            ("100000000000000000000000000000000000000", 38, 0, None),
            ("0e999999999999", 5, 2, Some(0)),
            ("1e999999999999", 5, 2, None),
            ("1e-999999999999", 5, 2, None),
            ("", 5, 2, None),
            (".", 5, 2, None),
            ("-", 5, 2, None),
            ("1e", 5, 2, None),
            ("1_0", 5, 2, None),
            ("0x1", 5, 2, None),
            ("NaN", 5, 2, None),
            ("1.2.3", 5, 2, None),
            ("--1", 5, 2, None),
        ] {
            assert_eq!(decimal(text, precision, scale), value, "{text}");
            let long = long_decimal(text, precision, scale).and_then(i256::to_i128);
            assert_eq!(long, value, "{text}");
        }
        let long = "-1234567890123456789012345678901234567890123456.7";
        let value = long_decimal(long, 50, 2).expect("a decimal");
        assert_eq!(value.to_string(), "-123456789012345678901234567890123456789012345670");
        assert_eq!(long_decimal(long, 47, 2), None);
    }

    #[test]
    fn what_a_double_keeps() {
        for (text, kept) in [
            ("0.1", true),
            ("-0.0", true),
            ("123456789012345", true),
            ("0.30000000000000004", true),
            ("0.10000000000000001", true),
            ("52.520006600000002", true),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("12345678901234567.89", false),
            ("0.1234567890123456789", false),
            ("1e5", true),
            ("1e400", false),
            ("1e-400", false),
            ("5e-324", true),
            ("1.7976931348623157e308", true),
            ("100000000000000000000000", true),
        ] {
            assert_eq!(Exact::of(text).expect("a number").kept_by_double(text), kept, "{text}");
        }
    }

    #[test]
    fn extents_and_parts() {
        for (text, extent) in [
            ("0", (1, 0)),
            ("0.05", (1, 2)),
            ("120.50", (3, 1)),
            ("1e3", (4, 0)),
            ("1.25e-3", (1, 5)),
            ("12000", (5, 0)),
        ] {
            assert_eq!(Exact::of(text).expect("a number").extent(), extent, "{text}");
        }
        for (text, scale, value) in [
            ("1709294403", 6, Some(1_709_294_403_000_000)),
            ("1709294403.1234567", 6, Some(1_709_294_403_123_456)),
            ("-0.0000001", 6, Some(-1)),
            ("-1.5", 0, Some(-2)),
            ("1.7092944031234e9", 6, Some(1_709_294_403_123_400)),
            ("1709294404123", 3, Some(1_709_294_404_123_000)),
            ("1709294404123.75", 0, Some(1_709_294_404_123)),
            ("99999999999999", 6, None),
        ] {
            assert_eq!(Exact::of(text).expect("a number").floor(scale), value, "{text}");
        }
        assert_eq!(uncommon_whole::<i64>("1.0"), Some(1));
        assert_eq!(uncommon_whole::<i64>("1e3"), Some(1000));
        assert_eq!(uncommon_whole::<i8>("1e3"), None);
        assert_eq!(uncommon_whole::<u8>("-1.0"), None);
        assert_eq!(uncommon_whole::<i64>("9007199254740993.0"), Some(9_007_199_254_740_993));
        assert_eq!(uncommon_whole::<i64>("2.7"), None);
        assert_eq!(double("1e400"), None);
        assert_eq!(double("-inf"), Some(f64::NEG_INFINITY));
        assert!(double("NaN").is_some_and(f64::is_nan));
        assert_eq!(float("1e39"), None);
    }
}
