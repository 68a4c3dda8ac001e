//! Replies of the services to frames, within the client's windows and the room of the output.
//!
//! A reply that may leave is written into the output at once and never waits anywhere. One that may
//! not is kept as its stream's piece; streams that can send take turns, a frame each.
//!
//! Leaves out what replies mean. Laws: (1) a stream's bytes leave in the order in which they were
//! given; (2) no stream waits for another stream's window; (3) a stream that is full is told when it
//! is not, once. What the services give a stream that is full is still taken: its client's requests are
//! held back, so it is what one request, or one revision of a watch, had to say.
//!
//! Worked example: a watch gets 20 KiB and the client's window has room for 16 KiB: one frame leaves,
//! 4 KiB stay, and leave with the next WINDOW_UPDATE.

use super::super::head::Foreign;
use super::super::inbox::Inbox;
use super::super::piece::{PREFIX, Piece};
use super::super::slab::Stream;
use super::*;
use crate::call::Reply;
use crate::payload::Payload;
use holdfast_core::mutant;

const OK: GrpcStatus = GrpcStatus { code: Code::Ok, message: String::new() };

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It will be sent.
    Yes,
    /// It will be sent, and the stream wants no more until `FromClient::Writable`.
    Full,
    /// The call is over; the reply was dropped.
    Gone,
}

impl Connection {
    /// Takes a reply to the call in a slot.
    pub fn reply(&mut self, slot: u32, reply: Reply) -> Taken {
        let taken = match reply {
            Reply::Message { stream, message, last } => {
                if self.wanted(slot, stream).is_none() {
                    return Taken::Gone;
                }
                if last { self.last_message(slot, message) } else { self.message(slot, message) }
            }
            Reply::End { stream, status } => {
                if self.wanted(slot, stream).is_none() {
                    return Taken::Gone;
                }
                self.stop_hearing(slot);
                let Some(stream) = self.slab.get(slot) else { return Taken::Gone };
                if stream.is_waiting() {
                    stream.ending = Some(status);
                } else {
                    self.conclude(slot, &status);
                }
                Taken::Yes
            }
        };
        self.settle();
        taken
    }

    /// The stream in a slot, if it is that call and waits for replies.
    #[inline]
    fn wanted(&mut self, slot: u32, name: StreamId) -> Option<&mut Stream> {
        self.slab.get(slot).filter(|stream| stream.name == Some(name) && !stream.answered)
    }

    /// The services gave their last reply: what the client said and nobody heard is dropped, and what
    /// it still says only returns its window.
    #[inline]
    fn stop_hearing(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        stream.answered = true;
        if stream.client_stream {
            stream.inbox = Inbox::default();
            self.unfinished -= std::mem::take(&mut stream.counted);
            let held = std::mem::take(&mut stream.held).len() as u32;
            self.recv_unreturned += held;
            self.return_window(slot, held);
        }
    }

    fn last_message(&mut self, slot: u32, mut message: Payload) -> Taken {
        self.stop_hearing(slot);
        if self.write_at_once(slot, &mut message) {
            self.conclude(slot, &OK);
            return Taken::Yes;
        }
        if let Some(stream) = self.slab.get(slot) {
            stream.ending = Some(OK);
        }
        self.queue(slot, message);
        Taken::Yes
    }

    fn message(&mut self, slot: u32, mut message: Payload) -> Taken {
        if self.write_at_once(slot, &mut message) {
            return Taken::Yes;
        }
        self.queue(slot, message);
        let Some(stream) = self.slab.get(slot) else { return Taken::Gone };
        let bound = self.options.stream_bytes_max;
        let crowded = self.unsent >= self.options.unsent_bytes_max && stream.queued > 0;
        if stream.queued < bound && !crowded && !stream.full {
            return Taken::Yes;
        }
        stream.full = true;
        Taken::Full
    }

    /// Takes a message that fits into one frame, the windows and the output; false if it does not.
    #[inline]
    fn write_at_once(&mut self, slot: u32, message: &mut Payload) -> bool {
        let length = PREFIX + message.len();
        let Some(stream) = self.slab.get(slot) else { return false };
        let window = self.send_window.min(stream.send_window);
        let fits = length <= self.frame_max && length as i64 <= window && self.out.has_room();
        if !fits || stream.is_waiting() {
            return false;
        }
        stream.send_window -= length as i64;
        self.send_window -= length as i64;
        let id = if mutant::on(75) { self.last_id } else { stream.id };
        if !std::mem::replace(&mut stream.head_sent, true) {
            self.out.head(id);
        }
        self.out.message(id, message);
        self.pings.forgive();
        true
    }

    fn queue(&mut self, slot: u32, mut message: Payload) {
        let Some(stream) = self.slab.get(slot) else { return };
        let length = PREFIX + message.len();
        message.detach();
        stream.queue.push_back(Piece::new(message));
        stream.queued += length;
        self.unsent += length;
        if !std::mem::replace(&mut stream.head_sent, true) {
            // The client hears at once that there is an answer, whatever its window.
            let id = stream.id;
            self.out.head(id);
            self.pings.forgive();
        }
        self.list(slot);
        self.pump();
    }

    /// Tells a client that does not speak gRPC so, in words that a person can read.
    pub(super) fn answer_foreign(&mut self, slot: u32, foreign: Foreign) {
        let Foreign { http, status, .. } = foreign;
        let Some(stream) = self.slab.get(slot) else { return };
        let text = bytes::Bytes::from(format!("{}\n", status.message));
        stream.queued += text.len();
        self.unsent += text.len();
        stream.queue.push_back(Piece::raw(text.into()));
        stream.ending = Some(status);
        stream.head_sent = true;
        self.out.foreign_head(stream.id, http);
        self.pings.forgive();
        self.list(slot);
        self.pump();
    }

    /// Notes that a stream can send, if it can.
    pub(super) fn list(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        if stream.is_waiting() && stream.send_window > 0 && !stream.listed {
            stream.listed = true;
            self.ready.push_back(slot);
        }
    }

    /// Writes what waits, a frame a stream and turn, while there is room.
    pub(super) fn pump(&mut self) {
        while self.send_window > 0
            && self.out.has_room()
            && self.end.is_none()
            && let Some(slot) = self.ready.pop_front()
        {
            if self.slab.unlist(slot) {
                self.send_frame(slot);
                self.list(slot);
            }
        }
    }

    fn send_frame(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        let own = if mutant::on(72) { self.send_window } else { stream.send_window };
        let window = self.send_window.min(own).max(0) as usize;
        let count = stream.queued.min(window).min(self.frame_max);
        if count == 0 {
            return;
        }
        self.out.data(stream.id, count);
        let mut left = count;
        while let Some(piece) = stream.queue.front_mut() {
            let part = piece.left().min(left);
            piece.write(part, &mut self.out);
            left -= part;
            if piece.left() > 0 {
                break;
            }
            stream.queue.pop_front();
        }
        stream.queued -= count;
        stream.send_window -= count as i64;
        self.send_window -= count as i64;
        self.unsent -= count;
        self.pings.forgive();
        if !stream.is_waiting()
            && let Some(status) = stream.ending.take()
        {
            return self.conclude(slot, &status);
        }
        self.relieve(slot);
    }

    /// A stream that was full and is not any more is told so.
    fn relieve(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        let crowded = self.unsent >= self.options.unsent_bytes_max;
        let relieved = stream.queued <= self.options.stream_bytes_max / 2 && !crowded;
        if !stream.full || !(relieved || stream.queued == 0) {
            return;
        }
        stream.full = false;
        if let (Some(stream), false) = (stream.name, stream.answered || mutant::on(76)) {
            self.events.push(FromClient::Writable { stream });
        }
        if !stream.held.is_empty() {
            self.resumable.push(slot);
        }
    }

    /// Ends an answer of which nothing waits.
    fn conclude(&mut self, slot: u32, status: &GrpcStatus) {
        let Some(stream) = self.slab.get(slot) else { return };
        let (id, ended) = (stream.id, stream.recv_ended);
        if stream.head_sent {
            self.out.trailers(id, status);
        } else {
            self.out.outcome_only(id, 200, status);
        }
        self.pings.forgive();
        if !ended {
            // The client need not send the rest (RFC 9113, 8.1).
            frame::put_reset(&mut self.out.bytes, id, Reason::NoError);
        }
        self.close(slot, !ended);
    }

    /// Ends a call with a status of the transport's own; what waits is dropped.
    pub(super) fn fail(&mut self, slot: u32, status: GrpcStatus) {
        let Some(stream) = self.slab.get(slot) else { return };
        if let (Some(stream), false) = (stream.name, stream.answered) {
            self.events.push(FromClient::Cancelled { stream });
        }
        self.conclude(slot, &status);
    }
}
