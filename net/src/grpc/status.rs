//! A call's outcome as HTTP/2 headers.
//!
//! Worked example: NotFound `50% gone` is `grpc-status: 5`, `grpc-message: 50%25 gone`.

use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::call::{Code, GrpcStatus};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The head of an answer with messages.
pub(super) fn response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", CONTENT_TYPE);
    response
}

/// An answer that is only an outcome ("Trailers-Only").
pub(super) fn outcome_only(http: StatusCode, status: &GrpcStatus) -> Response<()> {
    let mut response = response();
    *response.status_mut() = http;
    add(status, response.headers_mut());
    response
}

/// What follows the last message.
pub(super) fn trailers(status: &GrpcStatus) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    add(status, &mut trailers);
    trailers
}

/// What follows the last message when all went well.
pub(super) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn add(status: &GrpcStatus, headers: &mut HeaderMap) {
    headers.insert("grpc-status", HeaderValue::from(status.code as u16));
    if status.code != Code::Ok || !status.message.is_empty() {
        headers.insert("grpc-message", encode(&status.message));
    }
}

/// gRPC's percent-encoding: printable ASCII but `%` stays.
fn encode(text: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    HeaderValue::from_bytes(&out).expect("printable ASCII is a legal header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        for (text, encoded) in [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("50% gone", "50%25 gone"),
            ("a\nb", "a%0Ab"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }

    #[test]
    fn an_outcome_alone_names_its_code() {
        let status = GrpcStatus { code: Code::Unauthenticated, message: "no".into() };
        let response = outcome_only(StatusCode::OK, &status);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(trailers(&status)["grpc-message"], "no");
        assert_eq!(ok()["grpc-status"], "0");
    }
}
