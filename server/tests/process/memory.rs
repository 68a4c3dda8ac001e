//! Clients that ask for much and take little: what the member holds for them stays bounded.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Endpoint;

use crate::rig::{Server, get, http_get, put, range};

/// Lists that are asked for at the same time.
const LISTS: usize = 48;

/// Values of each, in sum.
const LIST_BYTES: usize = VALUES * VALUE_BYTES;

const VALUES: usize = 512;
const VALUE_BYTES: usize = 8 << 10;

const BUDGET_BYTES: u64 = 16 << 20;

/// What a member may come to hold meanwhile besides: socket buffers, small calls, pages of the allocator.
const SLACK_BYTES: u64 = 40 << 20;

/// Longest wait for a small call.
const PATIENCE: Duration = Duration::from_secs(4);

fn resident(server: &Server) -> u64 {
    let metrics = http_get(server.layout.ports[0].0, "/metrics");
    let value =
        metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    value.and_then(|value| value.trim().parse::<f64>().ok()).expect("it is measured") as u64
}

/// Asks for the list on a connection of its own, with small windows: the answer once its head is there, of
/// whose body nothing is taken.
async fn ask(url: String) -> http::Response<Body> {
    let endpoint = Endpoint::from_shared(url.clone()).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(16 << 10);
    let mut channel = endpoint.connect().await.expect("it listens");
    let message = range("fill/", "fill0").encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    let request = http::Request::post(format!("{url}/etcdserverpb.KV/Range"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::<Bytes>::new(frame.freeze())))
        .expect("a request");
    poll_fn(|context| channel.poll_ready(context)).await.expect("it is connected");
    channel.call(request).await.expect("it is answered")
}

#[tokio::test]
async fn lists_that_nobody_takes_wait_and_are_refused_and_others_pass() {
    let budget = format!("--experimental-answer-memory-bytes={BUDGET_BYTES}");
    let flags = [&budget, "--heartbeat-interval=50", "--election-timeout=500"];
    let server = Server::start("memory", &flags).await;
    let mut kv = server.kv().await;
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..VALUES {
        kv.put(put(&format!("fill/{number:05}"), &value)).await.expect("is put");
    }
    kv.range(range("fill/", "fill0")).await.expect("one list is served");
    let before = resident(&server);
    let mut asked = JoinSet::new();
    for _ in 0..LISTS {
        asked.spawn(ask(server.layout.client_url(0)));
    }
    let (mut answers, mut grown) = (Vec::new(), 0);
    let start = Instant::now();
    while answers.len() < LISTS {
        assert!(start.elapsed() < Duration::from_secs(60), "{} are answered", answers.len());
        timeout(PATIENCE, kv.put(put("a", "1"))).await.expect("at once").expect("is put");
        timeout(PATIENCE, kv.range(get("a"))).await.expect("at once").expect("is read");
        assert!(http_get(server.layout.ports[0].0, "/health").contains(r#""health":"true""#));
        grown = grown.max(resident(&server).saturating_sub(before));
        let pause = Duration::from_millis(50);
        while let Ok(Some(answer)) = timeout(pause, asked.join_next()).await {
            answers.push(answer.expect("the task does not fail"));
        }
    }
    assert!(grown <= BUDGET_BYTES + SLACK_BYTES, "{grown} bytes for {LISTS} lists");
    let status = |answer: &http::Response<Body>| answer.headers().get("grpc-status").cloned();
    let (refused, served): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| status(answer).is_some());
    assert!(!served.is_empty() && refused.len() > LISTS / 2, "{} are refused", refused.len());
    for answer in &refused {
        let (code, text) = (status(answer), answer.headers().get("grpc-message"));
        assert!(code.is_some_and(|code| code == "8"), "{code:?} {text:?}", code = status(answer));
    }
    for answer in served {
        let body = answer.into_body().collect().await.expect("all of it comes").to_bytes();
        assert!(body.len() > LIST_BYTES);
    }
    let whole = kv.range(range("fill/", "fill0")).await.expect("there is memory again");
    assert_eq!(whole.into_inner().kvs.len(), VALUES);
}
