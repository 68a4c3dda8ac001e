//! HTTP/1 beside gRPC: health, readiness, version, metrics.
//!
//! A connection arrives with the bytes that told it from HTTP/2; what it asks is answered through a
//! [`Probe`], so that nothing here knows how a member works.
//!
//! Leaves out the JSON gateway, the debug pages and compression: an answer is never gzipped, which every
//! client must accept.
//!
//! Laws:
//!  1. Paths, methods, status codes, bodies and content types are etcd's; other paths are 404.
//!  2. A connection holds a bounded head ([`HEAD_BYTES_MAX`]), and lives without a whole request no
//!     longer than its [`HttpOptions`] say.
//!  3. Metrics URLs serve neither `/version` nor CORS headers, as etcd's do not.
//!
//! Worked example: `GET /readyz?verbose` on a learner is 503 with `[-]non_learner failed: not supported
//! for learner` among its lines; `GET /readyz?exclude=non_learner` may be 200 with `ok`.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::response::AlarmKind;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::ETCD_VERSION;
use crate::metrics::Check;

mod health;
mod io;
mod query;

use io::{Prefixed, Reads};
use query::Query;

/// What the answers are made of; given by whoever knows the member.
#[expect(async_fn_in_trait, reason = "everything runs on one thread")]
pub trait Probe {
    /// Reads one key, allowed to do so, after a read index unless `serializable`. Gives up by itself
    /// when the request timeout has passed.
    ///
    /// # Errors
    /// The refusal's text.
    async fn range(&self, serializable: bool) -> Result<(), String>;

    /// Whether a leader is known.
    fn has_leader(&self) -> bool;

    /// Whether this member has no vote.
    fn is_learner(&self) -> bool;

    /// The alarms of all members.
    fn alarms(&self) -> Vec<AlarmKind>;

    /// The versions beside our own.
    fn versions(&self) -> Versions;

    /// The page of metrics.
    async fn metrics(&self) -> String;

    /// A check was answered, or failed for this reason: it is counted and, when it failed, logged.
    fn checked(&self, check: Check, failure: Option<&str>);
}

/// For `/version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The cluster's version, such as `3.7.0`, once it is decided.
    pub cluster: Option<String>,
    /// The storage's version, such as `3.7.0`, once it is known.
    pub storage: Option<String>,
}

/// Which listener a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// `--listen-client-urls`.
    Client,
    /// `--listen-metrics-urls`.
    Metrics,
}

/// A wait.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// How connections are served.
pub struct HttpOptions {
    /// Which paths.
    pub surface: Surface,
    /// A request's head must be whole within two of these.
    pub head_timeout: Duration,
    /// A connection without any request for so many head timeouts is closed.
    pub idle_head_timeouts: u32,
    /// Waits.
    pub sleep: Box<dyn Fn(Duration) -> Sleep>,
}

impl HttpOptions {
    /// Usual bounds: 10 s for a head, five minutes of idleness (scrapers come once a minute).
    pub fn new(surface: Surface, sleep: impl Fn(Duration) -> Sleep + 'static) -> HttpOptions {
        HttpOptions {
            surface,
            head_timeout: Duration::from_secs(10),
            idle_head_timeouts: 30,
            sleep: Box::new(sleep),
        }
    }
}

/// The largest head of a request; hyper answers 431 to a larger one.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most header fields of a request; hyper answers 431 to more.
const HEADERS_MAX: usize = 100;

/// Serves one connection until its end. `first_bytes` have been read from it already.
pub async fn serve<T, P>(io: T, first_bytes: Bytes, probe: Rc<P>, options: Rc<HttpOptions>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Probe + 'static,
{
    let reads = Rc::new(Reads::default());
    let requests = Rc::new(Cell::new(0));
    let service = {
        let (reads, requests, surface) = (reads.clone(), requests.clone(), options.surface);
        service_fn(move |request: Request<Incoming>| {
            let (probe, reads, requests) = (probe.clone(), reads.clone(), requests.clone());
            async move {
                let response = respond(&request, &*probe, surface).await;
                requests.set(requests.get() + 1);
                reads.clear();
                Ok::<_, Infallible>(response)
            }
        })
    };
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(Prefixed::new(io, first_bytes, reads.clone()), service);
    tokio::select! {
        biased;
        // A broken connection concerns nobody but its client.
        _ = pin!(connection) => {}
        () = watch(&requests, &reads, &options) => {}
    }
}

/// Returns when the connection has been without a whole request for too long (law 2).
async fn watch(requests: &Cell<u64>, reads: &Reads, options: &HttpOptions) {
    let mut idle = 0;
    loop {
        let (before, was_partial) = (requests.get(), reads.is_some());
        (options.sleep)(options.head_timeout).await;
        if requests.get() != before {
            idle = 0;
            continue;
        }
        idle += 1;
        // Bytes that were there a whole period ago are still no request.
        if was_partial || idle >= options.idle_head_timeouts {
            return;
        }
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond<P: Probe, B>(request: &Request<B>, probe: &P, surface: Surface) -> Reply {
    let client = surface == Surface::Client;
    let mut reply = match request.uri().path() {
        _ if client && request.method() == Method::OPTIONS => Reply::default(),
        "/metrics" => metrics(probe).await,
        "/version" if client => only_get(request).unwrap_or_else(|| version(probe)),
        path => match health::Endpoint::of(path) {
            None => error(StatusCode::NOT_FOUND, "404 page not found"),
            Some(endpoint) => match only_get(request) {
                Some(refusal) => refusal,
                None => endpoint.answer(probe, &Query::parse(request.uri().query())).await,
            },
        },
    };
    if client {
        allow_origins(&mut reply);
    }
    reply
}

async fn metrics(probe: &impl Probe) -> Reply {
    typed(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        probe.metrics().await,
    )
}

fn version(probe: &impl Probe) -> Reply {
    let Versions { cluster, storage } = probe.versions();
    let body = format!(
        "{{\"etcdserver\":{},\"etcdcluster\":{},\"storage\":{}}}",
        json(ETCD_VERSION),
        json(cluster.as_deref().unwrap_or("not_decided")),
        json(storage.as_deref().unwrap_or("unknown")),
    );
    typed(StatusCode::OK, "application/json", body)
}

/// The refusal of another method than GET.
fn only_get<B>(request: &Request<B>) -> Option<Reply> {
    if request.method() == Method::GET {
        return None;
    }
    let mut refusal = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    Some(refusal)
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Plain text that browsers must not guess about.
fn plain(status: StatusCode, body: String) -> Reply {
    let mut reply = typed(status, PLAIN, body);
    let nosniff = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

/// An error as Go's HTTP library writes it: with a line feed.
fn error(status: StatusCode, text: &str) -> Reply {
    plain(status, format!("{text}\n"))
}

/// CORS as with `--cors *`, which is the default.
fn allow_origins(reply: &mut Reply) {
    let fields = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
    ];
    for (name, value) in fields {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
