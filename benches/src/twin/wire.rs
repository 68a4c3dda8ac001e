//! Message bytes over gRPC: calls that are awaited, and calls that go on.
//!
//! Nothing is known of messages here. A call that goes on is a task; what it receives is fetched from a queue that
//! is as long as what a server sends, since its scripts are ours.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::schema::Method;

/// What comes along with a call.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    /// The token.
    pub token: Option<String>,
    /// `hasleader: true`
    pub require_leader: bool,
}

impl Ticket {
    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            let token = token.parse().map_err(|_| Status::internal("no token can be so"))?;
            metadata.insert("token", token);
        }
        if self.require_leader {
            metadata.insert("hasleader", "true".parse().expect("it is ASCII"));
        }
        Ok(request)
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn client(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|cause| Status::unavailable(format!("no connection: {cause}")))?;
    Ok(client)
}

fn path(method: &Method) -> PathAndQuery {
    method.path.parse().expect("a method's name is a path")
}

/// A call with one answer.
///
/// # Errors
/// The status that it ended with.
pub async fn call(
    channel: &Channel,
    method: &Method,
    ticket: &Ticket,
    message: Bytes,
) -> Result<Bytes, Status> {
    let request = ticket.request(message)?;
    let answer = client(channel).await?.unary(request, path(method), Raw).await;
    answer.map(Response::into_inner)
}

/// What came on a call that goes on.
#[derive(Debug)]
pub enum Item {
    /// A message.
    Message(Bytes),
    /// The end; None is success.
    End(Option<Status>),
}

/// A call that goes on; dropping it gives it up.
#[derive(Debug)]
pub struct Ongoing {
    /// Whoever else sends a message.
    pub sender: Option<mpsc::UnboundedSender<Bytes>>,
    /// What came.
    pub received: mpsc::UnboundedReceiver<Item>,
    task: tokio::task::JoinHandle<()>,
}

impl Ongoing {
    /// Starts it with its first message. A method that takes one message has said all it has to say with that.
    pub fn start(channel: Channel, method: Method, ticket: Ticket, message: Bytes) -> Ongoing {
        let (sender, messages) = mpsc::unbounded_channel();
        let (items, received) = mpsc::unbounded_channel();
        sender.send(message).expect("the receiver is at hand");
        let task = tokio::spawn(async move {
            let end = follow(&channel, &method, &ticket, (messages, &items)).await;
            // Whoever has given up does not want to know.
            drop(items.send(Item::End(end.err())));
        });
        Ongoing { sender: Some(sender), received, task }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Ends<'a> = (mpsc::UnboundedReceiver<Bytes>, &'a mpsc::UnboundedSender<Item>);

async fn follow(
    channel: &Channel,
    method: &Method,
    ticket: &Ticket,
    (mut messages, items): Ends<'_>,
) -> Result<(), Status> {
    let mut client = client(channel).await?;
    let path = path(method);
    let mut stream: Streaming<Bytes> = if method.takes_stream {
        let messages = Queue(messages);
        client.streaming(ticket.request(messages)?, path, Raw).await?.into_inner()
    } else {
        let first = messages.recv().await.unwrap_or_default();
        if !method.streams {
            let answer = client.unary(ticket.request(first)?, path, Raw).await?;
            drop(items.send(Item::Message(answer.into_inner())));
            return Ok(());
        }
        client.server_streaming(ticket.request(first)?, path, Raw).await?.into_inner()
    };
    while let Some(message) = stream.message().await? {
        drop(items.send(Item::Message(message)));
    }
    Ok(())
}

/// A queue as a stream.
struct Queue(mpsc::UnboundedReceiver<Bytes>);

impl Stream for Queue {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(context)
    }
}
