//! The `h2` crate as the other end: random calls, sizes, metadata, windows, frame and table sizes, and
//! a pipe of random width, so that frames arrive cut anywhere. Every call must come out as its method
//! says, and nothing may be left behind.
//!
//! Leaves out clients that break rules, which the scripts of `tests/scripts/http2` and `hostile` have.

use bytes::Bytes;
use h2::client::SendRequest;
use holdfast_net::call::Code;
use proptest::prelude::*;
use tokio::io::DuplexStream;

use crate::world::*;

/// What a client does in one call.
#[derive(Clone, Debug)]
enum Plan {
    /// `Put` echoes this many bytes.
    Echo(usize),
    /// `Compact` fails.
    Fail,
    /// No such method.
    Unknown,
    /// A keepalive stream echoes messages of these sizes, until the client says goodbye.
    Talk(Vec<usize>),
    /// A keepalive stream that is given up after its first answer.
    GiveUp,
    /// `Range`, which is never answered, until its deadline.
    Late,
}

/// The client's side of the connection.
#[derive(Clone, Debug)]
struct Client {
    pipe: usize,
    window: u32,
    connection_window: u32,
    frame: u32,
    table: u32,
}

fn plans() -> impl Strategy<Value = Plan> {
    let size = prop_oneof![3 => 0_usize..300, 1 => 0_usize..40_000];
    prop_oneof![
        4 => size.clone().prop_map(Plan::Echo),
        1 => Just(Plan::Fail),
        1 => Just(Plan::Unknown),
        2 => proptest::collection::vec(size, 0..6).prop_map(Plan::Talk),
        1 => Just(Plan::GiveUp),
        1 => Just(Plan::Late),
    ]
}

fn clients() -> impl Strategy<Value = Client> {
    let table = prop_oneof![Just(4096_u32), 0_u32..300];
    (1_usize..3000, 1000_u32..70_000, 65_535_u32..200_000, 16_384_u32..60_000, table).prop_map(
        |(pipe, window, connection_window, frame, table)| Client {
            pipe,
            window,
            connection_window,
            frame,
            table,
        },
    )
}

/// Metadata that repeats now and then, so that both tables fill and forget.
fn metadata(seed: usize) -> Vec<(String, String)> {
    let value = |n: usize| "x~ é0".repeat(n % 40).trim().to_string() + &(n % 7).to_string();
    (0..seed % 5).map(|n| (format!("name-{}", (seed + n) % 11), value(seed * 31 + n))).collect()
}

async fn connect(client: &Client, io: DuplexStream) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_max_send_streams(1000)
        .data_frame_budget(64 << 20)
        .initial_window_size(client.window)
        .initial_connection_window_size(client.connection_window)
        .max_frame_size(client.frame)
        .header_table_size(client.table)
        .handshake(io)
        .await
        .expect("the server speaks HTTP/2");
    tokio::task::spawn_local(async move {
        connection.await.expect("the server keeps the rules");
    });
    sender.ready().await.expect("the connection is open")
}

fn message(size: usize) -> Vec<u8> {
    (0..size).map(|at| at as u8).collect()
}

async fn follow(mut sender: SendRequest<Bytes>, number: usize, plan: Plan) {
    let metadata = metadata(number);
    let mut headers: Vec<(&str, &str)> =
        metadata.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let put = "/etcdserverpb.KV/Put";
    match plan {
        Plan::Echo(size) => {
            let answer = unary(&mut sender, put, &headers, &message(size)).await;
            assert_eq!((answer.code, answer.body), (0, framed(&message(size)).to_vec()));
        }
        Plan::Fail => {
            let answer = unary(&mut sender, "/etcdserverpb.KV/Compact", &headers, b"x").await;
            assert_eq!((answer.code, &answer.message[..]), (11, "50%25 %C3%A9"));
        }
        Plan::Unknown => {
            let answer = unary(&mut sender, "/etcdserverpb.KV/Nope", &headers, b"x").await;
            assert_eq!(answer.code, Code::Unimplemented as i32);
        }
        Plan::Late => {
            headers.push(("grpc-timeout", "1S"));
            let answer = unary(&mut sender, "/etcdserverpb.KV/Range", &headers, b"x").await;
            assert_eq!(answer.code, Code::DeadlineExceeded as i32);
        }
        Plan::Talk(sizes) => talk(&mut sender, &headers, &sizes).await,
        Plan::GiveUp => {
            let path = "/etcdserverpb.Lease/LeaseKeepAlive";
            let (response, mut send) = open(&mut sender, path, &headers);
            send.send_data(framed(b"x"), false).expect("the stream is open");
            let mut recv = response.await.expect("the head comes").into_body();
            next_data(&mut recv).await.expect("the echo comes");
            send.send_reset(h2::Reason::CANCEL);
        }
    }
}

async fn talk(sender: &mut SendRequest<Bytes>, headers: &[(&str, &str)], sizes: &[usize]) {
    let (response, mut send) = open(sender, "/etcdserverpb.Lease/LeaseKeepAlive", headers);
    let mut expected = Vec::new();
    for size in sizes {
        send.send_data(framed(&message(*size)), false).expect("the stream is open");
        expected.extend_from_slice(&framed(&message(*size)));
    }
    send.send_data(framed(b"bye"), true).expect("the stream is open");
    let answer = answer(response).await;
    assert_eq!((answer.code, answer.body), (0, expected));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_call_comes_out_as_its_method_says(
        client in clients(),
        plans in proptest::collection::vec(plans(), 1..40),
    ) {
        run(async move {
            let (world, io) = start_wide(client.pipe, |_| {});
            let sender = connect(&client, io).await;
            let calls: Vec<_> = plans
                .into_iter()
                .enumerate()
                .map(|(number, plan)| {
                    tokio::task::spawn_local(follow(sender.clone(), number, plan))
                })
                .collect();
            for call in calls {
                call.await.expect("the call comes out as planned");
            }
            settle().await;
            assert_eq!(world.streams.open(), 0);
            drop(sender);
            world.server.await.expect("no panic").expect("the client left in order");
            assert_eq!(world.streams.connections(), 0);
        });
    }
}
