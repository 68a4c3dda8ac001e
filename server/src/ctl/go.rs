//! Go's notations, where scripts see them: numbers, spans of time, quoted text, rounded sizes.
//!
//! Pure functions. Errors are the sentences that Go's `strconv` and `time` make of the same input.
//! Left out: underscores in numbers, and spans beyond what `Duration` of Go holds are out of range.
//!
//! Worked example: [`parse_duration`] reads `1m30s` as ninety seconds, [`duration`] writes it
//! `1m30s`; [`parse_int`] of `x` answers `strconv.ParseInt: parsing "x": invalid syntax`.

use std::time::Duration;

/// A truth value.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// A signed number. Base 0 takes the base from the prefix `0x`, `0o`, `0b` or `0`.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let fail = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", quote(text));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = if base == 0 { base_of(digits) } else { (base, digits) };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(fail("invalid syntax"));
    }
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    i64::from_str_radix(&signed, base).map_err(|_| fail("value out of range"))
}

fn base_of(digits: &str) -> (u32, &str) {
    let Some(rest) = digits.strip_prefix('0').filter(|rest| !rest.is_empty()) else {
        return (10, digits);
    };
    match rest.as_bytes()[0] {
        b'x' | b'X' => (16, &rest[1..]),
        b'b' | b'B' => (2, &rest[1..]),
        b'o' | b'O' => (8, &rest[1..]),
        _ => (8, rest),
    }
}

/// A span of time: decimal numbers with units, as in `1h2m3.5s`. Negative ones count as none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let negative = text.starts_with('-');
    let mut left = text.strip_prefix(['-', '+']).unwrap_or(text);
    if left == "0" {
        return Ok(Duration::ZERO);
    }
    if left.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0.0_f64;
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let number: f64 = left[..digits].parse().map_err(|_| invalid())?;
        left = &left[digits..];
        let letters = left.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(left.len());
        let unit = &left[..letters];
        nanos += number * nanos_of(unit, text)?;
        left = &left[letters..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanos as u64) })
}

fn nanos_of(unit: &str, whole: &str) -> Result<f64, String> {
    Ok(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "" => return Err(format!("time: missing unit in duration {}", quote(whole))),
        _ => {
            return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(whole)));
        }
    })
}

/// A span of time: `11.968062ms`, `1.5s`, `1h0m3s`.
pub fn duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    let scaled = |unit: u128, name: &str| format!("{}{name}", decimal(nanos, unit));
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => {
            let (seconds, minutes) = (nanos % MINUTE, nanos / MINUTE);
            let seconds = format!("{}s", decimal(seconds, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

const MINUTE: u128 = 60_000_000_000;

/// `value / unit`, exactly, without trailing zeros; the unit is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A size to two digits in powers of a thousand: `20 kB`, `2.1 GB`.
pub fn size(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog10() / 3) as usize;
    let scaled = bytes as f64 / 1000_f64.powi(power as i32);
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 {
        format!("{rounded:.1} {}", NAMES[power])
    } else {
        format!("{rounded:.0} {}", NAMES[power])
    }
}

/// Text in double quotes, as `%q` writes it.
pub fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

/// Bytes in double quotes; what is not UTF-8 as `\x..`.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| quote_char(letter, &mut out));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn quote_char(letter: char, out: &mut String) {
    match letter {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        control if (control as u32) < 0x20 || control as u32 == 0x7f => {
            out.push_str(&format!("\\x{:02x}", control as u32));
        }
        control if control.is_control() => out.push_str(&format!("\\u{:04x}", control as u32)),
        plain => out.push(plain),
    }
}

/// The bytes of a quoted text (`"..."` with escapes, or raw between backquotes) at the start of
/// `text`, and what follows it.
pub fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match text {
        [b'`', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b'`')?;
            Some((rest[..end].to_vec(), &rest[end + 1..]))
        }
        [b'"', rest @ ..] => unquote_double(rest),
        _ => None,
    }
}

fn unquote_double(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    loop {
        match text {
            [b'"', rest @ ..] => return Some((out, rest)),
            [b'\\', escape, rest @ ..] => text = unescape(*escape, rest, &mut out)?,
            [b'\n', ..] | [] => return None,
            [byte, rest @ ..] => {
                out.push(*byte);
                text = rest;
            }
        }
    }
}

fn unescape<'a>(escape: u8, rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let simple = match escape {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' => escape,
        b'x' => {
            let (value, rest) = number(rest, 2, 16)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (value, rest) = number(rest, if escape == b'u' { 4 } else { 8 }, 16)?;
            let letter = char::from_u32(value)?;
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (value, rest) = number(rest, 2, 8)?;
            out.push(u8::try_from(u32::from(escape - b'0') * 64 + value).ok()?);
            return Some(rest);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

fn number(text: &[u8], digits: usize, base: u32) -> Option<(u32, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let mut value = 0_u32;
    for byte in head {
        value = value.checked_mul(base)?.checked_add(char::from(*byte).to_digit(base)?)?;
    }
    Some((value, rest))
}

/// Splits a line into words as a txn or watch line is split: blanks separate, quotes hold together.
pub fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let taken = match rest[0] {
            b'"' => match quoted_len(rest) {
                Some(len) => {
                    let (word, _) = unquote(&rest[..len]).ok_or("invalid syntax")?;
                    words.push(word);
                    len
                }
                None => 1,
            },
            b'\'' => match rest[1..].iter().position(|byte| *byte == b'\'') {
                Some(end) => {
                    words.push(rest[1..=end].to_vec());
                    end + 2
                }
                None => 1,
            },
            byte if byte.is_ascii_whitespace() => 1,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_vec());
                end
            }
        };
        at += taken;
    }
    Ok(words)
}

/// How long the double-quoted text at the start is, quotes included.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
