//! Lengths of time as people write them: `10 s`, `5 minutes`, `1h30m`, `INTERVAL '10' SECOND`.

use crate::error::{Error, Result};

/// The microseconds of one unit. Months and years have no fixed length.
fn unit(name: &str) -> Option<i64> {
    Some(match name {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "w" | "week" | "weeks" => 604_800_000_000,
        _ => return None,
    })
}

/// Microseconds of a text such as `5 minutes`, `1 h 30 min`, `100ms`, `-8 hours`. A leading `interval` is fine.
pub fn parse_duration(text: &str) -> Result<i64> {
    let wrong = |why: &str| {
        Error::user(format!("'{text}' is not a length of time{why}; write a number and a unit, as in '10 seconds'"))
    };
    let lower = text.trim().to_lowercase();
    let mut rest = lower.strip_prefix("interval").unwrap_or(&lower).trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(wrong(""));
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(end);
        rest = tail.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let scale = match unit(name) {
            Some(scale) => scale,
            None if matches!(name, "month" | "months" | "mon" | "year" | "years" | "quarter" | "quarters") => {
                return Err(wrong(&format!(" here: a {name} has no fixed length")));
            }
            None => return Err(wrong("")),
        };
        total = scaled(number, scale).and_then(|n| total.checked_add(n)).ok_or_else(|| wrong(""))?;
    }
    Ok(total)
}

/// `number` times `scale`, exactly: a fraction must come out at whole microseconds.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let whole: i64 = if matches!(whole, "" | "-" | "+") && !fraction.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok()?;
        let part = i128::from(fraction.parse::<u64>().ok()?) * i128::from(scale);
        let base = 10i128.checked_pow(digits)?;
        if part % base != 0 {
            return None;
        }
        total = total.checked_add(sign * i64::try_from(part / base).ok()?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units() {
        for (text, micros) in [
            ("5 minutes", 300_000_000),
            ("100ms", 100_000),
            ("1h30m", 5_400_000_000),
            ("1 hour 30 min", 5_400_000_000),
            ("interval 1 s", 1_000_000),
            ("-8 hours", -28_800_000_000),
            ("1.5 s", 1_500_000),
            ("-0.5 s", -500_000),
            (".25 s", 250_000),
            ("10 SECOND", 10_000_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), micros, "{text}");
        }
        for text in ["", "5", "minutes", "1 month", "5 parsecs", "1.0000001 s", "99999999999999 weeks"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
