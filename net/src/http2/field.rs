//! What a header field of a request means to this server: its [`Tag`], made once when the field's
//! bytes arrive and kept with the table entry that remembers it.
//!
//! Here are also HTTP/2's rules for single fields (RFC 9113, 8.2): which bytes a name and a value may
//! have, and which fields of HTTP/1 have no place. A field that breaks one has the tag `Malformed`.
//!
//! Leaves out rules for fields together ([`super::head`]).
//!
//! Worked example: `te: trailers` is `Ordinary`, `te: gzip` and `Te: trailers` are `Malformed`.

use std::time::Duration;

use crate::call::Method;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// No request may have it.
    Malformed,
    /// `:method: POST`
    MethodPost,
    /// Another `:method`.
    MethodOther,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path` of a method that is served.
    Path(Method),
    /// Another `:path`.
    PathOther,
    /// `content-type: application/grpc`, alone or with a suffix.
    ContentTypeGrpc,
    /// Another `content-type`.
    ContentTypeOther,
    /// `content-length`
    ContentLength(u64),
    /// `grpc-timeout`
    Timeout(Duration),
    /// A `grpc-timeout` that is none.
    TimeoutMalformed,
    /// `grpc-encoding`
    Encoding,
    /// `hasleader`, and whether it is `true`.
    HasLeader(bool),
    /// `token`
    Token,
    /// `authorization`
    Authorization,
    /// `client-api-version`
    ClientApiVersion,
    /// A field that means nothing here.
    Ordinary,
}

impl Tag {
    /// The tag of a field.
    #[cfg(test)]
    pub(super) fn of(name: &[u8], value: &[u8]) -> Tag {
        Tag::of_named(name, is_name(name), value)
    }

    /// The tag of a field of whose name is known whether it is good ([`is_name`]).
    pub(super) fn of_named(name: &[u8], name_good: bool, value: &[u8]) -> Tag {
        if !is_value(value) {
            return Tag::Malformed;
        }
        match name {
            b":method" if value == b"POST" => Tag::MethodPost,
            b":method" if is_token(value) => Tag::MethodOther,
            b":scheme" => Tag::Scheme,
            b":authority" => Tag::Authority,
            b":path" if value.is_empty() => Tag::Malformed,
            b":path" => std::str::from_utf8(value)
                .ok()
                .and_then(Method::from_path)
                .map_or(Tag::PathOther, Tag::Path),
            b"content-type" if is_grpc(value) => Tag::ContentTypeGrpc,
            b"content-type" => Tag::ContentTypeOther,
            b"content-length" => number(value).map_or(Tag::Malformed, Tag::ContentLength),
            b"grpc-timeout" => timeout(value).map_or(Tag::TimeoutMalformed, Tag::Timeout),
            b"grpc-encoding" => Tag::Encoding,
            b"hasleader" => Tag::HasLeader(value == b"true"),
            b"token" => Tag::Token,
            b"authorization" => Tag::Authorization,
            b"client-api-version" => Tag::ClientApiVersion,
            b"te" if value != b"trailers" => Tag::Malformed,
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => Tag::Malformed,
            _ if name_good => Tag::Ordinary,
            _ => Tag::Malformed,
        }
    }

    /// The tag of an entry of the static table, by its index.
    #[inline]
    pub(super) fn of_static(index: usize) -> Tag {
        match index {
            1 => Tag::Authority,
            2 => Tag::MethodOther,
            3 => Tag::MethodPost,
            4 | 5 => Tag::PathOther,
            6 | 7 => Tag::Scheme,
            // `:status` in a request, `content-length` without a number, `transfer-encoding`.
            8..=14 | 28 | 57 => Tag::Malformed,
            23 => Tag::Authorization,
            31 => Tag::ContentTypeOther,
            _ => Tag::Ordinary,
        }
    }

    /// Whether it is one of `:method`, `:scheme`, `:authority` and `:path`.
    #[inline]
    pub(super) fn is_pseudo(self) -> bool {
        match self {
            Tag::MethodPost
            | Tag::MethodOther
            | Tag::Scheme
            | Tag::Authority
            | Tag::Path(_)
            | Tag::PathOther => true,
            Tag::Malformed
            | Tag::ContentTypeGrpc
            | Tag::ContentTypeOther
            | Tag::ContentLength(_)
            | Tag::Timeout(_)
            | Tag::TimeoutMalformed
            | Tag::Encoding
            | Tag::HasLeader(_)
            | Tag::Token
            | Tag::Authorization
            | Tag::ClientApiVersion
            | Tag::Ordinary => false,
        }
    }
}

/// A name's bytes are visible, not upper case, and no colon (8.2.1).
pub(super) fn is_name(name: &[u8]) -> bool {
    let good = |byte: &u8| matches!(byte, b'!'..=b'~') && !byte.is_ascii_uppercase();
    !name.is_empty() && name.iter().all(|byte| good(byte) && *byte != b':')
}

/// A value neither holds a line's end or NUL nor has blanks around it (8.2.1).
fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let broken = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
    !blank(value.first()) && !blank(value.last()) && !value.iter().any(broken)
}

fn is_token(value: &[u8]) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !value.is_empty() && value.iter().all(good)
}

/// `application/grpc`, alone or with a suffix.
fn is_grpc(content_type: &[u8]) -> bool {
    const BASE: &[u8] = b"application/grpc";
    let Some((base, rest)) = content_type.split_at_checked(BASE.len()) else { return false };
    base.eq_ignore_ascii_case(BASE) && matches!(rest.first(), None | Some(b'+' | b';'))
}

fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Up to eight digits and a unit.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let number = number(digits).filter(|_| digits.len() <= 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::hpack::STATIC;
    use super::*;

    #[test]
    fn static_entries_mean_what_their_bytes_mean() {
        for (at, (name, value)) in STATIC.iter().enumerate() {
            let tag = Tag::of(name.as_bytes(), value.as_bytes());
            assert_eq!(Tag::of_static(at + 1), tag, "{name}: {value}");
        }
    }

    #[test]
    fn fields_that_no_request_may_have() {
        for (name, value) in [
            ("Te", "trailers"),
            ("te", "gzip"),
            ("connection", "close"),
            ("upgrade", "h2c"),
            (":status", "200"),
            (":nope", "x"),
            ("", "x"),
            ("a b", "x"),
            ("a\u{7f}", "x"),
            ("é", "x"),
            ("x", " y"),
            ("x", "y\t"),
            ("x", "a\nb"),
            ("x", "a\0b"),
            (":path", ""),
            (":method", "GE T"),
            ("content-length", "+1"),
            ("content-length", "-"),
        ] {
            assert_eq!(
                Tag::of(name.as_bytes(), value.as_bytes()),
                Tag::Malformed,
                "{name}: {value}"
            );
        }
        assert_eq!(Tag::of(b"te", b"trailers"), Tag::Ordinary);
        assert_eq!(Tag::of(b"x", b"\xff \xfe"), Tag::Ordinary);
        assert_eq!(Tag::of(b"content-length", b"007"), Tag::ContentLength(7));
    }

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        for (value, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1x", None),
            ("", None),
        ] {
            let tag = Tag::of(b"grpc-timeout", value.as_bytes());
            assert_eq!(tag, expected.map_or(Tag::TimeoutMalformed, Tag::Timeout), "{value}");
        }
    }
}
