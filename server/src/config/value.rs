//! Single values in Go's notation: switches, numbers, durations. The errors are the words that Go's
//! `flag` package uses.
//!
//! Worked example: `0x10` is the number 16, `1h30m` is 5,400 s, `T` is on.

/// On or off.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(MALFORMED.into()),
    }
}

/// A number that is not negative, with Go's prefixes and underscores.
pub fn count(text: &str) -> Result<u64, String> {
    let (base, digits) = radix(text);
    let digits = strip_underscores(digits, base != 10).ok_or(MALFORMED)?;
    if digits.is_empty() || !digits.bytes().all(|byte| (byte as char).is_digit(base)) {
        return Err(MALFORMED.into());
    }
    u64::from_str_radix(&digits, base).map_err(|_| OUT_OF_RANGE.into())
}

/// A number with an optional sign.
pub fn signed(text: &str) -> Result<i64, String> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(count(magnitude)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| OUT_OF_RANGE.into())
}

/// A duration in nanoseconds: `300ms`, `1.5h`, `-2m3s`, `0`.
pub fn duration_ns(text: &str) -> Result<i64, String> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(MALFORMED.into());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (part, after) = duration_part(rest).ok_or(MALFORMED)?;
        total = total.saturating_add(part);
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| MALFORMED.into())
}

/// One number with its unit, and what follows.
fn duration_part(text: &str) -> Option<(i128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Longer numbers are beyond an i64 of nanoseconds in any unit, and would overflow here.
    if whole.len() > 19 || fraction.len() > 18 {
        return None;
    }
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(fraction.len() as u32);
    Some((whole * unit + part * unit / scale, rest))
}

fn radix(text: &str) -> (u32, &str) {
    let Some(rest) = text.strip_prefix('0') else { return (10, text) };
    match rest.as_bytes().first() {
        None => (10, text),
        Some(b'x' | b'X') => (16, &rest[1..]),
        Some(b'o' | b'O') => (8, &rest[1..]),
        Some(b'b' | b'B') => (2, &rest[1..]),
        Some(_) => (8, rest),
    }
}

/// Go allows `_` only between digits, and between a prefix and a digit; without a prefix not at all
/// in a plain decimal's first place.
fn strip_underscores(digits: &str, after_prefix: bool) -> Option<String> {
    let bad_start = digits.starts_with('_') && !after_prefix;
    if bad_start || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    Some(digits.replace('_', ""))
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const MALFORMED: &str = "parse error";
const OUT_OF_RANGE: &str = "value out of range";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let cases = [
            ("0", 0),
            ("10m", 600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("2.s", 2_000_000_000),
            ("-2m3s", -123_000_000_000),
            ("+7ns", 7),
            ("3us4µs5μs", 12_000),
        ];
        for (text, ns) in cases {
            assert_eq!(duration_ns(text), Ok(ns), "{text}");
        }
        for text in ["", "-", "5", "s", ".s", "1..2s", "1x", "1 s", "99999999999h", "1h-2m", "1é"]
        {
            assert_eq!(duration_ns(text), Err("parse error".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_go_s() {
        let good =
            [("0", 0), ("100", 100), ("0x10", 16), ("017", 15), ("0b101", 5), ("1_000", 1000)];
        for (text, value) in good {
            assert_eq!(count(text), Ok(value), "{text}");
        }
        assert_eq!(count("0x_ff"), Ok(255));
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(count("18446744073709551616"), Err("value out of range".to_owned()));
        for text in ["", "-1", "+1", "1s", "_1", "1_", "1__0", "0x", "08", "é"] {
            assert_eq!(count(text), Err("parse error".to_owned()), "{text:?}");
        }
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(signed("9223372036854775808"), Err("value out of range".to_owned()));
        assert_eq!(signed("--1"), Err("parse error".to_owned()));
    }

    #[test]
    fn switches_are_go_s() {
        assert_eq!(switch("T"), Ok(true));
        assert_eq!(switch("False"), Ok(false));
        assert_eq!(switch("yes"), Err("parse error".to_owned()));
    }
}
