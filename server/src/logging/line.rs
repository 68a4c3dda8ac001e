//! One event as one line of JSON.
//!
//! Worked example: `warn!(error = %e, "slow")` is
//! `{"level":"warn","ts":"…","caller":"server/x.rs:1","msg":"slow","error":"…"}` and a line feed.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The line of an event, with its line feed.
pub fn of(event: &Event<'_>, at: SystemTime) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    };
    let caller = caller(metadata.file().unwrap_or("unknown"), metadata.line().unwrap_or(0));
    let message = if fields.message.is_empty() { metadata.name() } else { &fields.message };
    compose(
        &[("level", level), ("ts", &timestamp(at)), ("caller", &caller), ("msg", message)],
        &fields.json,
    )
}

/// The line that owns up to lines that were not written.
pub fn of_dropped(count: u64, at: SystemTime) -> Vec<u8> {
    let caller = caller(file!(), line!());
    let head = [
        ("level", "warn"),
        ("ts", &timestamp(at)),
        ("caller", &caller),
        ("msg", "log lines were dropped: the log's output is too slow"),
    ];
    compose(&head, &format!(",\"count\":{count}"))
}

/// A duration as etcd's logs show it, in Go's notation: `1.5s`, `2m3s`, `150ms`, `7.2µs`.
pub fn took(duration: Duration) -> impl fmt::Display {
    Took(duration)
}

struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        if seconds < 60 {
            // The same notation up to here.
            return write!(f, "{:?}", self.0);
        }
        if seconds >= 3600 {
            write!(f, "{}h", seconds / 3600)?;
        }
        let rest = Duration::new(seconds % 60, self.0.subsec_nanos());
        write!(f, "{}m", seconds / 60 % 60)?;
        let fraction = format!("{:09}", rest.subsec_nanos());
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{point}{fraction}s", rest.as_secs())
    }
}

fn compose(head: &[(&str, &str)], fields: &str) -> Vec<u8> {
    let mut line = String::with_capacity(160 + fields.len());
    for (at, (key, value)) in head.iter().enumerate() {
        line.push(if at == 0 { '{' } else { ',' });
        push_string(&mut line, key);
        line.push(':');
        push_string(&mut line, value);
    }
    line.push_str(fields);
    line.push_str("}\n");
    line.into_bytes()
}

/// The last two parts of a source path, `src` left out, and the line.
fn caller(file: &str, line: u32) -> String {
    let parts: Vec<&str> = file.split('/').filter(|part| *part != "src").collect();
    format!("{}:{line}", parts[parts.len().saturating_sub(2)..].join("/"))
}

/// UTC with microseconds.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// Year, month and day of a number of days after 1970-01-01. Years are counted from March within
/// 400-year eras, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Gathers an event's fields as `,"key":value…`.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
}

impl Fields {
    fn key(&mut self, field: &Field) {
        self.json.push(',');
        let name = field.name();
        // Law 1 of the log: the first four keys occur once.
        let taken = matches!(name, "level" | "ts" | "caller" | "msg");
        let name = if taken { format!("field.{name}") } else { name.to_owned() };
        push_string(&mut self.json, &name);
        self.json.push(':');
    }

    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.json, "{value}");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return clipped(value).clone_into(&mut self.message);
        }
        self.key(field);
        push_string(&mut self.json, clipped(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause.filter(|_| text.len() < VALUE_BYTES_MAX) {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.record_str(field, &text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.raw(field, value) } else { self.record_debug(field, &value) }
    }
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(json, "\\u{:04x}", c as u32);
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

/// Longer values are cut: a line must not carry a client's megabytes.
const VALUE_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let at = |seconds, micros: u32| UNIX_EPOCH + Duration::new(seconds, micros * 1000);
        let cases = [
            (at(0, 0), "1970-01-01T00:00:00.000000Z"),
            (at(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z"),
            (at(951_782_400, 0), "2000-02-29T00:00:00.000000Z"),
            (at(951_868_800, 0), "2000-03-01T00:00:00.000000Z"),
            (at(1_795_532_645, 123_456), "2026-11-24T15:04:05.123456Z"),
            (at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z"),
            (at(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z"),
            (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00.000000Z"),
        ];
        for (at, text) in cases {
            assert_eq!(timestamp(at), text);
        }
    }

    #[test]
    fn durations_are_go_s() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_micros(7), "7µs"),
            (Duration::from_micros(150_500), "150.5ms"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_millis(123_250), "2m3.25s"),
            (Duration::from_secs(3601), "1h0m1s"),
        ];
        for (duration, text) in cases {
            assert_eq!(took(duration).to_string(), text);
        }
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(caller("server/src/worker.rs", 42), "server/worker.rs:42");
        assert_eq!(caller("server/src/config/url.rs", 1), "config/url.rs:1");
        assert_eq!(
            caller("/opt/registry/src/index/h2-0.4.1/src/frame.rs", 9),
            "h2-0.4.1/frame.rs:9"
        );
        assert_eq!(caller("main.rs", 3), "main.rs:3");
    }

    #[test]
    fn strings_are_escaped() {
        let text = "a\"b\\c\nd\u{1}é\u{2028}\u{7f}";
        let mut json = String::new();
        push_string(&mut json, text);
        assert_eq!(serde_json::from_str::<String>(&json).expect("is JSON"), text);
        assert!(!json.contains('\n'));
    }
}
