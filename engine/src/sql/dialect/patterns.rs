//! Patterns: `SIMILAR TO`, and those by which times are written.

use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator, lit};

/// `SIMILAR TO` as a regular expression over the whole text.
pub(super) fn similar_to(like: Like) -> Result<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(pattern)) | ScalarValue::Utf8View(Some(pattern)), _) =
        like.pattern.as_ref()
    else {
        return Err(DataFusionError::NotImplemented(
            "SIMILAR TO with a pattern that is no constant; x ~ pattern takes a regular expression from a column"
                .into(),
        ));
    };
    let regex = regex_of(pattern, like.escape_char.unwrap_or('\\'))
        .map_err(|message| DataFusionError::Plan(format!("the pattern '{pattern}' of SIMILAR TO: {message}")))?;
    let op = if like.negated { Operator::RegexNotMatch } else { Operator::RegexMatch };
    Ok(Expr::BinaryExpr(BinaryExpr::new(like.expr, op, Box::new(lit(regex)))))
}

/// The regular expression of a pattern of SQL, for whole texts.
fn regex_of(pattern: &str, escape: char) -> Result<String, &'static str> {
    let mut regex = String::from("(?s)^(?:");
    let mut chars = pattern.chars().peekable();
    let mut depth = 0u32;
    let literal = |regex: &mut String, c: char| {
        if r".+*?()|[]{}^$\#&-~".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    };
    while let Some(c) = chars.next() {
        match c {
            _ if c == escape => literal(&mut regex, chars.next().ok_or("it ends with the escape character")?),
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '|' | '*' | '+' | '?' | '{' | '}' => regex.push(c),
            '(' => {
                depth += 1;
                regex.push_str("(?:");
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("a ) without its (")?;
                regex.push(')');
            }
            '[' => {
                regex.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    regex.push('^');
                }
                let mut first = true;
                loop {
                    match chars.next().ok_or("a [ without its ]")? {
                        ']' if !first => break,
                        // A class such as [:alpha:].
                        '[' if chars.peek() == Some(&':') => {
                            regex.push('[');
                            for c in chars.by_ref() {
                                regex.push(c);
                                if c == ']' {
                                    break;
                                }
                            }
                        }
                        '-' => regex.push('-'),
                        c => literal(&mut regex, c),
                    }
                    first = false;
                }
                regex.push(']');
            }
            other => literal(&mut regex, other),
        }
    }
    if depth > 0 {
        return Err("a ( without its )");
    }
    regex.push_str(")$");
    Ok(regex)
}

/// Letters of a pattern and what stands for them in `strftime`'s; `None` where there is nothing for them.
type Letters = fn(&str) -> Option<&'static str>;

/// A pattern by which the function `name` writes times, in the words of `strftime`: Spark's for `date_format`, Postgres's for
/// `to_char`; with `%` it is one of `strftime` itself. Errors: what is wrong with it.
pub(in crate::sql) fn time_pattern(name: &str, pattern: &str) -> Result<String, String> {
    if pattern.contains('%') {
        return Ok(pattern.to_owned());
    }
    let (spark, letters): (bool, Letters) = match name {
        "date_format" => (true, spark_letters),
        _ => (false, postgres_letters),
    };
    let mut strftime = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let quote = if spark { '\'' } else { '"' };
        if c == quote {
            let Some((text, after)) = rest[1..].split_once(quote) else {
                return Err(format!("the pattern '{pattern}' has a {quote} without an end"));
            };
            // Two quotes are one.
            strftime.push_str(if text.is_empty() { "'" } else { text });
            rest = after;
            continue;
        }
        if !c.is_ascii_alphabetic() {
            strftime.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let length = match spark {
            true => rest.bytes().take_while(|b| *b == c as u8).count(),
            // The longest word of those that Postgres knows.
            false => (1..=rest.len().min(5))
                .rev()
                .find(|n| rest.get(..*n).is_some_and(|w| letters(w).is_some()))
                .unwrap_or(1),
        };
        let Some(word) = letters(&rest[..length]) else {
            let other =
                if spark { "to_char(t, 'YYYY-MM-DD HH24:MI:SS')" } else { "date_format(t, 'yyyy-MM-dd HH:mm:ss')" };
            return Err(format!(
                "'{}' in the pattern '{pattern}' of {name}: it is not known here; known are those of {}, or write strftime's, as \
                 in '%Y-%m-%d', or {other}",
                &rest[..length],
                if spark {
                    "Spark: yyyy yy MM M MMM MMMM dd d DDD D HH H hh h mm m ss s SSS SSSSSS a E EEEE"
                } else {
                    "Postgres: YYYY YY MM Mon DD DDD HH24 HH12 HH MI SS MS US AM PM Dy IW IYYY"
                },
            ));
        };
        strftime.push_str(word);
        rest = &rest[length..];
    }
    Ok(strftime)
}

/// Spark's.
fn spark_letters(word: &str) -> Option<&'static str> {
    Some(match word {
        "yyyy" | "y" | "uuuu" | "u" => "%Y",
        "yy" => "%y",
        "MM" => "%m",
        "M" => "%-m",
        "MMM" => "%b",
        "MMMM" => "%B",
        "dd" => "%d",
        "d" => "%-d",
        "DDD" => "%j",
        "D" => "%-j",
        "HH" => "%H",
        "H" => "%-H",
        "hh" => "%I",
        "h" => "%-I",
        "mm" => "%M",
        "m" => "%-M",
        "ss" => "%S",
        "s" => "%-S",
        "SSS" => "%3f",
        "SSSSSS" => "%6f",
        "a" => "%p",
        "E" | "EE" | "EEE" => "%a",
        "EEEE" => "%A",
        _ => return None,
    })
}

/// Postgres's.
fn postgres_letters(word: &str) -> Option<&'static str> {
    Some(match word {
        "YYYY" | "yyyy" => "%Y",
        "YY" | "yy" => "%y",
        "IYYY" => "%G",
        "IW" => "%V",
        "MM" | "mm" => "%m",
        "Mon" => "%b",
        "DD" | "dd" => "%d",
        "DDD" | "ddd" => "%j",
        "HH24" | "hh24" => "%H",
        "HH12" | "hh12" | "HH" | "hh" => "%I",
        "MI" | "mi" => "%M",
        "SS" | "ss" => "%S",
        "MS" | "ms" => "%3f",
        "US" | "us" => "%6f",
        "AM" | "PM" => "%p",
        "am" | "pm" => "%P",
        "Dy" => "%a",
        "T" => "T",
        "Z" => "Z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let regex = |pattern: &str| regex_of(pattern, '\\');
        assert_eq!(regex("a(b|c)*").unwrap(), "(?s)^(?:a(?:b|c)*)$");
        assert_eq!(regex("a.b_%").unwrap(), r"(?s)^(?:a\.b..*)$");
        assert_eq!(regex(r"50\%[^a-c.]{2,3}").unwrap(), r"(?s)^(?:50%[^a-c\.]{2,3})$");
        assert_eq!(regex("[[:alpha:]x]+").unwrap(), "(?s)^(?:[[:alpha:]x]+)$");
        for wrong in ["a(b", "a)b", "[ab", "a\\"] {
            assert!(regex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_written_by_the_patterns_of_others() {
        let of = |name, pattern| time_pattern(name, pattern).unwrap();
        assert_eq!(of("date_format", "yyyy-MM-dd'T'HH:mm:ss.SSS"), "%Y-%m-%dT%H:%M:%S.%3f");
        assert_eq!(of("date_format", "d MMM yy, h a"), "%-d %b %y, %-I %p");
        assert_eq!(of("to_char", "YYYY-MM-DD HH24:MI:SS.US \"at\" Dy"), "%Y-%m-%d %H:%M:%S.%6f at %a");
        assert_eq!(of("to_char", "%Y/%m"), "%Y/%m");
        assert!(time_pattern("date_format", "YYYY-MM").unwrap_err().contains("'YYYY' in the pattern"));
        assert!(time_pattern("to_char", "Month").unwrap_err().contains("is not known here"));
        assert!(time_pattern("date_format", "yyyy'x").is_err());
    }
}
