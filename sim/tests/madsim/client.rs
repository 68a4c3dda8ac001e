//! A gRPC client of our own on the `h2` crate and the simulated network: unary calls and streams.
//!
//! tonic's channel starts its tasks on the real tokio, which a simulation cannot have; the messages
//! are the same generated ones. Independent of the server's HTTP/2, which is not made of `h2`.
//!
//! Laws:
//!  1. A [`Status`] with code `UNAVAILABLE` or `DEADLINE_EXCEEDED` leaves open whether the call was
//!     carried out.
//!  2. [`Duplex::next`] may be dropped and called again; no message is lost by that.
//!  3. When a channel and its streams are gone, so is the connection.
//!
//! Worked example: `Channel::open("10.0.0.1:2379")`, then
//! `unary::<_, PutResponse>("/etcdserverpb.KV/Put", &put, Duration::from_secs(2))`.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use holdfast_server::runtime::Runtime;
use http::{HeaderMap, Request};
use madsim::task::AbortHandle;
use madsim::time::timeout;
use prost::Message;

use crate::runtime::MadsimRuntime;

/// The call ended as the server wanted.
pub const OK: u32 = 0;

/// gRPC's code for a deadline that passed.
pub const DEADLINE_EXCEEDED: u32 = 4;

/// gRPC's code for a connection that broke.
pub const UNAVAILABLE: u32 = 14;

/// Bytes before the messages of gRPC: a flag and a length.
const PREFIX: usize = 5;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(1);

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC's code.
    pub code: u32,
    /// What the server, or this client, says about it.
    pub message: String,
}

impl Status {
    fn unavailable(cause: impl fmt::Display) -> Status {
        Status { code: UNAVAILABLE, message: format!("client: {cause}") }
    }

    fn deadline() -> Status {
        Status { code: DEADLINE_EXCEEDED, message: "client: waited long enough".into() }
    }

    fn of(headers: &HeaderMap) -> Option<Status> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let code = text("grpc-status")?.parse().ok()?;
        Some(Status { code, message: text("grpc-message").unwrap_or_default().to_string() })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}: {}", self.code, self.message)
    }
}

/// Ends the connection's task, and with it the connection, when nobody needs it any more.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to one member.
#[derive(Clone)]
pub struct Channel {
    requests: SendRequest<Bytes>,
    connection: Rc<Connection>,
    authority: String,
}

impl Channel {
    /// Connects to `host:port`.
    pub async fn open(runtime: &MadsimRuntime, address: &str) -> Result<Channel, Status> {
        let connecting = async {
            let stream = runtime.connect(address).await.map_err(Status::unavailable)?;
            h2::client::handshake(stream).await.map_err(Status::unavailable)
        };
        let (requests, connection) =
            timeout(CONNECT, connecting).await.map_err(|_| Status::deadline())??;
        let task = madsim::task::spawn_local(async move {
            // Why it broke, its calls are told.
            drop(connection.await);
        });
        let connection = Rc::new(Connection(task.abort_handle()));
        Ok(Channel { requests, connection, authority: address.to_string() })
    }

    /// Calls `path` with one message and waits no longer than `patience` for the only answer.
    pub async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
        patience: Duration,
    ) -> Result<A, Status> {
        let call = async {
            let mut call = self.stream::<Q, A>(path, Some(patience)).await?;
            call.send(request, true)?;
            let answer = call.next().await?;
            let end = call.next().await.err();
            let end = end.unwrap_or_else(|| Status::unavailable("a second answer to one request"));
            if end.code == OK { Ok(answer) } else { Err(end) }
        };
        timeout(patience, call).await.unwrap_or_else(|_| Err(Status::deadline()))
    }

    /// Begins a call with messages both ways. It asks for a leader, as etcd's clients do.
    pub async fn stream<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        patience: Option<Duration>,
    ) -> Result<Duplex<Q, A>, Status> {
        let mut head = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("hasleader", "true");
        if let Some(patience) = patience {
            head = head.header("grpc-timeout", format!("{}m", patience.as_millis()));
        }
        let head = head.body(()).expect("the head is well formed");
        let mut requests = self.requests.clone().ready().await.map_err(Status::unavailable)?;
        let (response, sender) =
            requests.send_request(head, false).map_err(Status::unavailable)?;
        Ok(Duplex {
            sender,
            receiver: Receiver::Head(response),
            buffer: BytesMut::new(),
            _connection: self.connection.clone(),
            messages: PhantomData,
        })
    }
}

enum Receiver {
    Head(ResponseFuture),
    Body(RecvStream),
}

/// A call with messages both ways.
pub struct Duplex<Q, A> {
    sender: SendStream<Bytes>,
    receiver: Receiver,
    buffer: BytesMut,
    _connection: Rc<Connection>,
    messages: PhantomData<(Q, A)>,
}

impl<Q: Message, A: Message + Default> Duplex<Q, A> {
    /// Sends a message; `last` ends this side of the stream.
    pub fn send(&mut self, message: &Q, last: bool) -> Result<(), Status> {
        let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).expect("messages are small"));
        message.encode(&mut bytes).expect("the buffer grows");
        self.sender.send_data(bytes.freeze(), last).map_err(Status::unavailable)
    }

    /// The next message.
    ///
    /// # Errors
    /// How the call ended, once it has; [`OK`] included.
    pub async fn next(&mut self) -> Result<A, Status> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(message);
            }
            match &mut self.receiver {
                Receiver::Head(response) => {
                    let response = response.await.map_err(Status::unavailable)?;
                    if let Some(status) = Status::of(response.headers()) {
                        return Err(status);
                    }
                    self.receiver = Receiver::Body(response.into_body());
                }
                Receiver::Body(body) => match body.data().await {
                    Some(Ok(data)) => {
                        self.buffer.extend_from_slice(&data);
                        let window = body.flow_control();
                        window.release_capacity(data.len()).map_err(Status::unavailable)?;
                    }
                    Some(Err(error)) => return Err(Status::unavailable(error)),
                    None => {
                        let trailers = body.trailers().await.map_err(Status::unavailable)?;
                        let status = trailers.as_ref().and_then(Status::of);
                        return Err(status.unwrap_or_else(|| Status::unavailable("no status")));
                    }
                },
            }
        }
    }

    fn message(&mut self) -> Result<Option<A>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        assert_eq!(prefix[0], 0, "nobody asked for compression");
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.buffer.len() < PREFIX + len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = A::decode(self.buffer.split_to(len)).map_err(Status::unavailable)?;
        Ok(Some(message))
    }
}
