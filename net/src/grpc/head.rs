//! A call's request headers: what is called, until when, and the metadata etcd reads; or a refusal
//! in the words of etcd's gRPC library.
//!
//! Leaves out the message. Worked example: `:path /etcdserverpb.KV/Lock` is refused with
//! Unimplemented `unknown method Lock for service etcdserverpb.KV`, at HTTP status 200, as gRPC
//! does.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, request};

use crate::call::{Code, GrpcStatus, Metadata, Method};

/// A call that may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What is called.
    pub(super) method: Method,
    /// What etcd reads.
    pub(super) metadata: Metadata,
    /// How long the client waits.
    pub(super) timeout: Option<Duration>,
    /// How the client compresses, for the error text.
    pub(super) encoding: Option<String>,
}

/// A call that may not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The answer's `:status`.
    pub(super) http: StatusCode,
    /// The answer's gRPC status.
    pub(super) status: GrpcStatus,
}

/// Reads the headers of a request.
pub(super) fn parse(request: &request::Parts) -> Result<Head, Refused> {
    let headers = &request.headers;
    let refuse = |http, code, message| Err(Refused { http, status: GrpcStatus { code, message } });
    let content_type = headers.get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
    if !is_grpc(content_type) {
        let shown = String::from_utf8_lossy(content_type);
        let text = format!("invalid gRPC request content-type {shown:?}");
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text);
    }
    let timeout = match headers.get("grpc-timeout") {
        None => None,
        Some(value) => match parse_timeout(value.as_bytes()) {
            Some(timeout) => Some(timeout),
            None => {
                let shown = String::from_utf8_lossy(value.as_bytes());
                let text = format!("malformed grpc-timeout: {shown:?}");
                return refuse(StatusCode::BAD_REQUEST, Code::Internal, text);
            }
        },
    };
    if request.method != HttpMethod::POST {
        let method = request.method.as_str();
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        return refuse(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text);
    }
    let path = request.uri.path();
    let Some(method) = Method::from_path(path) else {
        return refuse(StatusCode::OK, Code::Unimplemented, unknown(path));
    };
    let encoding = headers.get("grpc-encoding");
    let encoding = encoding.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Ok(Head { method, metadata: metadata(headers), timeout, encoding })
}

/// `application/grpc`, alone or with a suffix.
fn is_grpc(content_type: &[u8]) -> bool {
    const BASE: &[u8] = b"application/grpc";
    let Some((base, rest)) = content_type.split_at_checked(BASE.len()) else { return false };
    base.eq_ignore_ascii_case(BASE) && matches!(rest.first(), None | Some(b'+' | b';'))
}

fn unknown(path: &str) -> String {
    let parts = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
    match parts {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if Method::is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

/// Up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
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

fn metadata(headers: &HeaderMap) -> Metadata {
    let lossy = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let token = headers.get("token").map(lossy).or_else(|| {
        let value = lossy(headers.get("authorization")?);
        Some(value.strip_prefix("Bearer ").map(String::from).unwrap_or(value))
    });
    let version = |value: &HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes());
        text.map(String::from).map_err(|_| ())
    };
    Metadata {
        require_leader: headers.get("hasleader").is_some_and(|value| value.as_bytes() == b"true"),
        token,
        client_api_version: headers.get("client-api-version").map(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, path: &str, headers: &[(&str, &[u8])]) -> request::Parts {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value).expect("a legal value");
            request = request.header(*name, value);
        }
        request.body(()).expect("a legal request").into_parts().0
    }

    const GRPC: (&str, &[u8]) = ("content-type", b"application/grpc+proto");

    #[test]
    fn a_good_call_is_read() {
        let headers: [(&str, &[u8]); 5] = [
            GRPC,
            ("hasleader", b"true"),
            ("authorization", b"Bearer abc"),
            ("grpc-timeout", b"250m"),
            ("client-api-version", b"3.5"),
        ];
        let head = parse(&parts("POST", "/etcdserverpb.KV/Put", &headers)).expect("a good call");
        assert_eq!((head.method, head.timeout), (Method::Put, Some(Duration::from_millis(250))));
        let metadata = Metadata {
            require_leader: true,
            token: Some("abc".into()),
            client_api_version: Some(Ok("3.5".into())),
        };
        assert_eq!(head.metadata, metadata);
    }

    #[test]
    fn token_wins_and_a_bad_version_is_told() {
        let headers: [(&str, &[u8]); 5] = [
            GRPC,
            ("token", b"first"),
            ("token", b"second"),
            ("authorization", b"other"),
            ("client-api-version", b"\xff"),
        ];
        let head = parse(&parts("POST", "/etcdserverpb.KV/Put", &headers)).expect("a good call");
        assert_eq!(head.metadata.token.as_deref(), Some("first"));
        assert_eq!(head.metadata.client_api_version, Some(Err(())));
        assert!(!head.metadata.require_leader);
    }

    fn refusal(method: &str, path: &str, headers: &[(&str, &[u8])]) -> (u16, Code, String) {
        let refused = parse(&parts(method, path, headers)).expect_err("a bad call");
        (refused.http.as_u16(), refused.status.code, refused.status.message)
    }

    #[test]
    fn unknown_paths_have_grpcs_words() {
        for (path, text) in [
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/etcdserverpb.Nope/Put", "unknown service etcdserverpb.Nope"),
            ("/a/b/Put", "unknown service a/b"),
            ("/Put", "malformed method name: \"/Put\""),
        ] {
            assert_eq!(refusal("POST", path, &[GRPC]), (200, Code::Unimplemented, text.into()));
        }
    }

    #[test]
    fn what_is_not_grpc_is_refused_in_http() {
        let put = "/etcdserverpb.KV/Put";
        let get = "Received a HEADERS frame with :method \"GET\" which should be POST";
        assert_eq!(refusal("GET", put, &[GRPC]), (405, Code::Internal, get.into()));
        for kind in [&b"application/json"[..], b"application/grpcx", b""] {
            assert_eq!(refusal("POST", put, &[("content-type", kind)]).0, 415);
        }
        for timeout in [&b"5"[..], b"S", b"123456789S", b"-1S", b"1x", b""] {
            assert_eq!(refusal("POST", put, &[GRPC, ("grpc-timeout", timeout)]).0, 400);
        }
    }
}
