//! One open call on its connection: request messages in, reply messages out within flow control.
//!
//! Leaves out whose call it is and when it must end. Laws: (1) bytes are given to HTTP/2 only as
//! the client's window and HTTP/2's own buffer have room, so what a slow client costs is bounded by
//! the stream's bound; the one exception is a unary answer, which is there anyway; (2) what was
//! read is taken out of the window at once, but nothing is read while the stream is full.
//!
//! Worked example: a watch queues 20 KiB and the client's window has room for 16 KiB: `write` gives
//! these, answers `Bytes(16384)`, and the slot's waker rings when the window opens.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;

use super::head::Head;
use super::inbox::Inbox;
use super::piece::Piece;
use super::status;
use crate::call::{Code, GrpcStatus, StreamId};
use holdfast_core::time::Instant;

/// Messages of one stream handed over in one go, so that a flood of tiny ones delays nobody.
const MESSAGES_MAX: usize = 128;

/// The sending half, before and after the response's head.
enum Out {
    Head(SendResponse<Piece>),
    Body(SendStream<Piece>),
}

/// What reading gave.
pub(super) enum Read {
    /// The next message.
    Message(Bytes),
    /// The client will send no more.
    End,
    /// Nothing now; the slot's waker will tell.
    Wait,
    /// The messages break gRPC's rules: the call ends with this.
    Refuse(GrpcStatus),
    /// The client, or its connection, gave up.
    Gone,
}

/// What writing came to.
pub(super) enum Wrote {
    /// This many bytes; the rest waits for the client.
    Bytes(usize),
    /// Everything, and the call's outcome: it is over.
    Over,
    /// The client, or its connection, gave up.
    Gone,
}

/// One call.
pub(super) struct Open {
    /// Its name among the services, once they know it.
    pub(super) id: Option<StreamId>,
    /// What is called, until the services know it.
    pub(super) head: Option<Head>,
    /// When it is over.
    pub(super) deadline: Option<Instant>,
    /// A unary call's message, until the client's end of stream confirms that it is the only one.
    pub(super) message: Option<Bytes>,
    recv: Option<RecvStream>,
    inbox: Inbox,
    out: Out,
    queue: VecDeque<Piece>,
    ending: Option<GrpcStatus>,
}

impl Open {
    /// A call whose head was read.
    pub(super) fn new(
        mut head: Head,
        recv: RecvStream,
        respond: SendResponse<Piece>,
        message_max: usize,
    ) -> Open {
        Open {
            id: None,
            deadline: None,
            message: None,
            recv: Some(recv),
            inbox: Inbox::new(message_max, head.encoding.take()),
            head: Some(head),
            out: Out::Head(respond),
            queue: VecDeque::new(),
            ending: None,
        }
    }

    /// At most this many [`Open::read`]s before the others get their turn.
    pub(super) fn reads_max() -> usize {
        MESSAGES_MAX
    }

    /// The next thing the client says.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Read {
        loop {
            let Some(recv) = &mut self.recv else { return Read::Wait };
            match self.inbox.next() {
                Ok(Some(message)) => return Read::Message(message),
                Ok(None) => {}
                Err(status) => return Read::Refuse(status),
            }
            if recv.is_end_stream() {
                return self.read_end();
            }
            match recv.poll_data(cx) {
                Poll::Pending => return Read::Wait,
                Poll::Ready(None) => return self.read_end(),
                Poll::Ready(Some(Err(_))) => return Read::Gone,
                Poll::Ready(Some(Ok(data))) => {
                    // Refused only when the stream is gone, which the next poll tells.
                    let _ = recv.flow_control().release_capacity(data.len());
                    self.inbox.push(data);
                }
            }
        }
    }

    fn read_end(&mut self) -> Read {
        self.recv = None;
        if self.inbox.is_cut() {
            let message = "unexpected EOF".to_string();
            return Read::Refuse(GrpcStatus { code: Code::Internal, message });
        }
        Read::End
    }

    /// Whether the client has given up.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let reset = match &mut self.out {
            Out::Head(respond) => respond.poll_reset(cx),
            Out::Body(body) => body.poll_reset(cx),
        };
        reset.is_ready()
    }

    /// A message for the client, and whether the call ends well with it.
    pub(super) fn queue(&mut self, message: Bytes, last: bool) {
        self.queue.push_back(Piece::message(message));
        if last {
            self.ending = Some(GrpcStatus { code: Code::Ok, message: String::new() });
        }
    }

    /// The outcome, after what is queued.
    pub(super) fn end(&mut self, status: GrpcStatus) {
        self.ending = Some(status);
    }

    /// The outcome now; what is queued is dropped.
    pub(super) fn fail(&mut self, status: GrpcStatus) {
        self.queue.clear();
        self.ending = Some(status);
    }

    /// Ends it without an outcome.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.out {
            Out::Head(respond) => respond.send_reset(reason),
            Out::Body(body) => body.send_reset(reason),
        }
    }

    /// Gives HTTP/2 what it has room for.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Wrote {
        if let (Out::Head(respond), Some(ending)) = (&mut self.out, &self.ending) {
            match self.queue.len() {
                0 => {
                    let response = status::outcome_only(StatusCode::OK, ending);
                    let sent = respond.send_response(response, true);
                    return if sent.is_ok() { Wrote::Over } else { Wrote::Gone };
                }
                1 if ending.code == Code::Ok => return self.write_unary(),
                _ => {}
            }
        }
        let mut total = 0;
        while let Some(piece) = self.queue.front_mut() {
            let body = match &mut self.out {
                Out::Body(body) => body,
                Out::Head(respond) => match respond.send_response(status::response(), false) {
                    Ok(body) => {
                        self.out = Out::Body(body);
                        continue;
                    }
                    Err(_) => return Wrote::Gone,
                },
            };
            let room = match room(body, piece.remaining(), cx) {
                Poll::Pending => return Wrote::Bytes(total),
                Poll::Ready(None) => return Wrote::Gone,
                Poll::Ready(Some(room)) => room.min(piece.remaining()),
            };
            let part = piece.split_to(room);
            if !piece.has_remaining() {
                self.queue.pop_front();
            }
            if body.send_data(part, false).is_err() {
                return Wrote::Gone;
            }
            total += room;
        }
        let (Out::Body(body), Some(ending)) = (&mut self.out, &self.ending) else {
            return Wrote::Bytes(total);
        };
        let sent = body.send_trailers(status::trailers(ending));
        if sent.is_ok() { Wrote::Over } else { Wrote::Gone }
    }

    fn write_unary(&mut self) -> Wrote {
        let (Out::Head(respond), Some(piece)) = (&mut self.out, self.queue.pop_front()) else {
            return Wrote::Gone;
        };
        let sent = respond.send_response(status::response(), false).and_then(|mut body| {
            body.send_data(piece, false)?;
            body.send_trailers(status::ok())
        });
        if sent.is_ok() { Wrote::Over } else { Wrote::Gone }
    }
}

/// Room for at least one byte, or the reason why there will be none.
fn room(body: &mut SendStream<Piece>, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    body.reserve_capacity(wanted);
    loop {
        if body.capacity() > 0 {
            return Poll::Ready(Some(body.capacity()));
        }
        // HTTP/2 reports only changes here, and a change may still be to nothing.
        match body.poll_capacity(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(None),
        }
    }
}
