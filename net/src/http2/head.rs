//! A request's header list: what is called, until when, and the metadata etcd reads; or a refusal in
//! the words of etcd's gRPC library; or that no HTTP/2 request looks so.
//!
//! Leaves out single fields' rules ([`super::field`]) and the message. Laws: (1) a pseudo-header comes
//! once and before all others, and none is missing (RFC 9113, 8.3); (2) only what is kept of a request
//! is allocated, so one without metadata allocates nothing.
//!
//! Worked example: `:path /etcdserverpb.KV/Lock` is refused with Unimplemented `unknown method Lock
//! for service etcdserverpb.KV`, at HTTP status 200, as gRPC does.

use std::time::Duration;

use super::field::Tag;
use super::hpack::Field;
use crate::call::{Code, GrpcStatus, Metadata, Method};

/// What a header field costs beyond its bytes (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Most of a client's text that an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

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
    pub(super) encoding: Option<Box<str>>,
    /// How many bytes the client will send, if it says so.
    pub(super) content_length: Option<u64>,
}

impl Head {
    /// What it holds of the client's text.
    fn heap_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let Metadata { token, client_api_version, require_leader: _ } = &self.metadata;
        let version = match client_api_version {
            Some(Ok(version)) => version.capacity(),
            Some(Err(())) | None => 0,
        };
        text(token) + version + self.encoding.as_ref().map_or(0, |name| name.len())
    }
}

/// What a header list came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A call.
    Call(Head),
    /// A call that is not taken: the answer is this `:status` and this outcome, at once.
    Refused(u16, GrpcStatus),
    /// A request, but not of gRPC.
    Foreign(Foreign),
    /// No request of HTTP/2.
    Malformed,
    /// Larger than allowed.
    TooLarge,
}

impl Request {
    /// What a stream that waits for the rest of it keeps in memory for it.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Request::Call(head) => head.heap_bytes(),
            Request::Foreign(foreign) => size_of::<Foreign>() + foreign.status.message.capacity(),
            Request::Refused(..) | Request::Malformed | Request::TooLarge => 0,
        }
    }
}

/// A request that is not gRPC's. Its answer comes after its end, with the text as body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// `:status`
    pub(super) http: u16,
    /// What gRPC would call it.
    pub(super) status: GrpcStatus,
    /// How many bytes the client will send, if it says so.
    pub(super) content_length: Option<u64>,
}

/// `:path`, as far as it matters.
#[derive(Debug, Default)]
enum Path {
    #[default]
    None,
    Served(Method),
    Other(String),
}

/// Gathers the fields of one request; cleared for each.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    size: usize,
    malformed: bool,
    regular: bool,
    authority: bool,
    scheme: bool,
    post: bool,
    other_method: Option<String>,
    path: Path,
    grpc: bool,
    content_type: Option<String>,
    content_length: Option<u64>,
    timeout: Option<Duration>,
    bad_timeout: Option<String>,
    encoding: Option<Box<str>>,
    has_leader: Option<bool>,
    token: Option<String>,
    authorization: Option<String>,
    client_api_version: Option<Result<String, ()>>,
}

impl HeadReader {
    /// The next field; `size_max` bounds the list.
    #[inline]
    pub(super) fn take(&mut self, field: Field<'_>, size_max: usize) {
        self.size += field.name.len() + field.value.len() + FIELD_OVERHEAD;
        if self.size > size_max {
            return;
        }
        if field.tag.is_pseudo() {
            self.malformed |= self.regular;
            self.take_pseudo(field);
        } else {
            self.regular = true;
            self.take_regular(field);
        }
    }

    fn take_pseudo(&mut self, field: Field<'_>) {
        let again = match field.tag {
            Tag::MethodPost => {
                let again = self.post || self.other_method.is_some();
                self.post = true;
                again
            }
            Tag::MethodOther => {
                self.other_method.replace(shown(field.value)).is_some() || self.post
            }
            Tag::Scheme => std::mem::replace(&mut self.scheme, true),
            Tag::Authority => std::mem::replace(&mut self.authority, true),
            Tag::Path(method) => self.set_path(Path::Served(method)),
            _ => self.set_path(Path::Other(shown(field.value))),
        };
        self.malformed |= again;
    }

    fn set_path(&mut self, path: Path) -> bool {
        !matches!(std::mem::replace(&mut self.path, path), Path::None)
    }

    /// Of fields that are repeated, the first counts, as in etcd's gRPC library.
    fn take_regular(&mut self, field: Field<'_>) {
        let value = field.value;
        match field.tag {
            Tag::Ordinary => {}
            Tag::ContentTypeGrpc => self.grpc |= self.content_type.is_none(),
            Tag::ContentTypeOther if self.grpc => {}
            Tag::ContentTypeOther => keep(&mut self.content_type, || shown(value)),
            Tag::ContentLength(length) => {
                self.malformed |= self.content_length.is_some_and(|before| before != length);
                self.content_length = Some(length);
            }
            Tag::Timeout(timeout) => self.timeout = self.timeout.or(Some(timeout)),
            Tag::TimeoutMalformed => keep(&mut self.bad_timeout, || shown(value)),
            Tag::Encoding => keep(&mut self.encoding, || shown(value).into()),
            Tag::HasLeader(yes) => self.has_leader = self.has_leader.or(Some(yes)),
            Tag::Token => keep(&mut self.token, || lossy(value)),
            Tag::Authorization => keep(&mut self.authorization, || lossy(value)),
            Tag::ClientApiVersion => keep(&mut self.client_api_version, || {
                std::str::from_utf8(value).map(String::from).map_err(|_| ())
            }),
            _ => self.malformed = true,
        }
    }

    /// The list is complete.
    pub(super) fn finish(&mut self, size_max: usize) -> Request {
        let head = std::mem::take(self);
        if head.size > size_max { Request::TooLarge } else { head.request() }
    }

    fn request(self) -> Request {
        let connect = self.other_method.as_deref() == Some("CONNECT");
        let named = !matches!(self.path, Path::None) && self.scheme;
        if self.malformed || !(self.post || self.other_method.is_some()) || connect == named {
            return Request::Malformed;
        }
        if !self.grpc {
            let shown = self.content_type.unwrap_or_default();
            let text = format!("invalid gRPC request content-type {shown:?}");
            return foreign(415, self.content_length, status(Code::InvalidArgument, text));
        }
        if let Some(shown) = self.bad_timeout {
            return refused(400, Code::Internal, format!("malformed grpc-timeout: {shown:?}"));
        }
        if let Some(method) = self.other_method {
            let text =
                format!("Received a HEADERS frame with :method {method:?} which should be POST");
            return foreign(405, self.content_length, status(Code::Internal, text));
        }
        let method = match self.path {
            Path::Served(method) => method,
            Path::Other(path) => return refused(200, Code::Unimplemented, unknown(&path)),
            Path::None => return Request::Malformed,
        };
        let token = self.token.or_else(|| self.authorization.map(without_bearer));
        let metadata = Metadata {
            require_leader: self.has_leader == Some(true),
            token,
            client_api_version: self.client_api_version,
        };
        Request::Call(Head {
            method,
            metadata,
            timeout: self.timeout,
            encoding: self.encoding,
            content_length: self.content_length,
        })
    }
}

fn refused(http: u16, code: Code, message: String) -> Request {
    Request::Refused(http, status(code, message))
}

fn foreign(http: u16, content_length: Option<u64>, status: GrpcStatus) -> Request {
    Request::Foreign(Foreign { http, status, content_length })
}

fn status(code: Code, message: String) -> GrpcStatus {
    GrpcStatus { code, message }
}

fn keep<T>(place: &mut Option<T>, value: impl FnOnce() -> T) {
    if place.is_none() {
        *place = Some(value());
    }
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn shown(value: &[u8]) -> String {
    lossy(&value[..value.len().min(SHOWN_BYTES_MAX)])
}

fn without_bearer(value: String) -> String {
    value.strip_prefix("Bearer ").map(String::from).unwrap_or(value)
}

fn unknown(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let parts = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
    match parts {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if Method::is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1000;

    fn parse(fields: &[(&str, &[u8])]) -> Request {
        let mut reader = HeadReader::default();
        for (name, value) in fields {
            let name = name.as_bytes();
            reader.take(Field { name, value, tag: Tag::of(name, value) }, MAX);
        }
        reader.finish(MAX)
    }

    fn call(path: &str, more: &[(&str, &[u8])]) -> Request {
        let mut fields: Vec<(&str, &[u8])> =
            vec![(":method", b"POST"), (":scheme", b"http"), (":path", path.as_bytes())];
        fields.push(("content-type", b"application/grpc+proto"));
        fields.extend_from_slice(more);
        parse(&fields)
    }

    const PUT: &str = "/etcdserverpb.KV/Put";

    #[test]
    fn a_good_call_is_read() {
        let Request::Call(head) = call(
            PUT,
            &[
                ("te", b"trailers"),
                ("hasleader", b"true"),
                ("authorization", b"Bearer abc"),
                ("grpc-timeout", b"250m"),
                ("client-api-version", b"3.5"),
                ("content-length", b"7"),
            ],
        ) else {
            panic!("a good call")
        };
        assert_eq!((head.method, head.timeout), (Method::Put, Some(Duration::from_millis(250))));
        let metadata = Metadata {
            require_leader: true,
            token: Some("abc".into()),
            client_api_version: Some(Ok("3.5".into())),
        };
        assert_eq!((head.metadata, head.content_length), (metadata, Some(7)));
    }

    #[test]
    fn the_first_token_wins_and_a_bad_version_is_told() {
        let more: [(&str, &[u8]); 4] = [
            ("authorization", b"other"),
            ("token", b"first"),
            ("token", b"second"),
            ("client-api-version", b"\xff"),
        ];
        let Request::Call(head) = call(PUT, &more) else { panic!("a good call") };
        assert_eq!(head.metadata.token.as_deref(), Some("first"));
        assert_eq!(head.metadata.client_api_version, Some(Err(())));
        assert!(!head.metadata.require_leader);
    }

    #[test]
    fn unknown_paths_have_grpcs_words() {
        for (path, text) in [
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/etcdserverpb.Nope/Put", "unknown service etcdserverpb.Nope"),
            ("/a/b/Put", "unknown service a/b"),
            ("/Put", "malformed method name: \"/Put\""),
        ] {
            assert_eq!(call(path, &[]), refused(200, Code::Unimplemented, text.into()));
        }
    }

    fn http_of(request: &Request) -> Option<u16> {
        match request {
            Request::Foreign(foreign) => Some(foreign.http),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_grpc_is_refused_in_http() {
        let post: (&str, &[u8]) = (":method", b"POST");
        let place: [(&str, &[u8]); 2] = [(":scheme", b"http"), (":path", PUT.as_bytes())];
        let grpc: (&str, &[u8]) = ("content-type", b"application/grpc");
        let get = "Received a HEADERS frame with :method \"GET\" which should be POST";
        let request = [(":method", &b"GET"[..]), place[0], place[1], grpc];
        assert_eq!(parse(&request), foreign(405, None, status(Code::Internal, get.into())));
        for kind in [&b"application/json"[..], b"application/grpcx", b""] {
            let request = parse(&[post, place[0], place[1], ("content-type", kind)]);
            assert_eq!(http_of(&request), Some(415), "{request:?}");
        }
        assert_eq!(http_of(&parse(&[post, place[0], place[1]])), Some(415));
        assert!(matches!(call(PUT, &[("grpc-timeout", b"5")]), Request::Refused(400, _)));
        assert_eq!(http_of(&parse(&[(":method", b"CONNECT"), grpc])), Some(405));
    }

    #[test]
    fn lists_that_are_no_request() {
        let good: [(&str, &[u8]); 4] = [
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", PUT.as_bytes()),
            ("content-type", b"application/grpc"),
        ];
        for missing in 0..3 {
            let rest: Vec<_> = (0..4).filter(|at| *at != missing).map(|at| good[at]).collect();
            assert_eq!(parse(&rest), Request::Malformed, "without {}", good[missing].0);
        }
        for twice in 0..3 {
            let more = [&good[..3], &good[twice..=twice], &good[3..]].concat();
            assert_eq!(parse(&more), Request::Malformed, "{} twice", good[twice].0);
        }
        assert_eq!(parse(&[good[3], good[0], good[1], good[2]]), Request::Malformed);
        for field in [("connection", &b"close"[..]), ("te", b"gzip"), ("X", b"y"), (":x", b"y")] {
            assert_eq!(call(PUT, &[field]), Request::Malformed, "{}", field.0);
        }
        let lengths: [(&str, &[u8]); 2] = [("content-length", b"1"), ("content-length", b"2")];
        assert_eq!(call(PUT, &lengths), Request::Malformed);
    }

    #[test]
    fn a_large_list_is_known_and_forgotten() {
        let long = vec![b'x'; MAX];
        assert_eq!(call(PUT, &[("x", &long)]), Request::TooLarge);
        let mut reader = HeadReader::default();
        reader.take(Field { name: b"x", value: &long, tag: Tag::Ordinary }, MAX);
        assert_eq!(reader.finish(MAX), Request::TooLarge);
        assert_eq!(reader.size, 0);
    }
}
