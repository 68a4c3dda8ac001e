//! HEADERS, CONTINUATION and DATA: how calls begin, speak and end their side.
//!
//! Leaves out the lists of fields ([`super::super::head`]) and answers. Laws: (1) every header block
//! is decoded, also of streams that are refused, since the table goes on; (2) a stream's error ends the
//! stream, and the connection only where RFC 9113 says so.
//!
//! Worked example: HEADERS for `Put`, then DATA with the message and the end of the stream: at the end
//! the call is named and told, with its message, in one event.

use super::super::frame::{END_HEADERS, END_STREAM, Head, PRIORITY, Reason, number_31, unpadded};
use super::super::head::{self, Request};
use super::super::hpack::{Field, HpackError};
use super::super::inbox::{Keep, MessageRules};
use super::super::slab::{Closed, STREAM_BYTES};
use super::*;
use crate::call::Call;

/// A header block may be this many times the header list's bound, and so may the list that is read
/// of it: what is too large is its stream's error, and what is larger than this the connection's.
const BLOCK_FACTOR: usize = 4;

/// Bytes of a stream that are looked at in one go after it was full.
const RESUMED_BYTES: usize = 64 << 10;

/// What a call is told that finds `unfinished_bytes_max` reached.
const UNFINISHED: &str = "too many bytes of unfinished requests on this connection";

/// A header block under way.
#[derive(Debug, Default)]
pub(super) struct Block {
    stream: u32,
    end_stream: bool,
    /// It depends on itself (RFC 7540, 5.3.1).
    tangled: bool,
    bytes: Vec<u8>,
}

impl Block {
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.stream != 0
    }

    pub(super) fn is_of(&self, head: &Head) -> bool {
        self.stream == head.stream
    }
}

impl Connection {
    pub(super) fn headers(
        &mut self,
        head: Head,
        payload: &[u8],
        names: &mut dyn Names,
    ) -> Result<(), Broken> {
        if head.stream.is_multiple_of(2) {
            return Err(protocol("HEADERS on a stream that is not a client's"));
        }
        let unpadded = unpadded(&head, payload);
        let mut bytes = unpadded.ok_or(protocol("HEADERS with more padding than bytes"))?;
        let mut tangled = false;
        if head.has(PRIORITY) {
            let priority = number_31(bytes).and_then(|(on, rest)| Some((on, rest.get(1..)?)));
            let (on, rest) = priority.ok_or(frame_size("HEADERS too short for their priority"))?;
            tangled = on == head.stream;
            bytes = rest;
        }
        let block = Block {
            stream: head.stream,
            end_stream: head.has(END_STREAM),
            tangled,
            bytes: Vec::new(),
        };
        if head.has(END_HEADERS) {
            return self.block(&block, bytes, names);
        }
        self.block = block;
        self.block.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        names: &mut dyn Names,
    ) -> Result<(), Broken> {
        if !self.block.is_open() {
            return Err(protocol("CONTINUATION without HEADERS"));
        }
        self.block.bytes.extend_from_slice(payload);
        if self.block.bytes.len() > self.options.header_bytes_max as usize * BLOCK_FACTOR {
            return Err(calm("a header block is far too large"));
        }
        if payload.is_empty() {
            self.idle_frame()?;
        }
        if !head.has(END_HEADERS) {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        self.block(&block, &block.bytes, names)
    }

    /// A header block is complete.
    fn block(&mut self, block: &Block, bytes: &[u8], names: &mut dyn Names) -> Result<(), Broken> {
        if let Some(slot) = self.slab.find(block.stream) {
            return self.trailers(slot, block, bytes, names);
        }
        if block.stream <= self.last_id {
            return self.block_on_closed(block.stream, bytes);
        }
        self.last_id = block.stream;
        let (size_max, reader) = (self.options.header_bytes_max as usize, &mut self.reader);
        let take = |field: Field<'_>| reader.take(field, size_max);
        let decoded = self.decoder.decode(bytes, size_max * BLOCK_FACTOR, take);
        let request = self.reader.finish(size_max);
        decoded.map_err(compression)?;
        if self.clock.is_drained() {
            // The client was told that this stream is not looked at.
            self.slab.remember(block.stream, true);
            return Ok(());
        }
        if self.slab.open() >= (self.options.concurrent_streams_max as usize).min(STREAMS_MAX) {
            return self.refuse(block.stream, Reason::RefusedStream);
        }
        let kept = STREAM_BYTES + request.heap_bytes();
        match request {
            _ if block.tangled => self.refuse(block.stream, Reason::Protocol),
            Request::Malformed => self.refuse(block.stream, Reason::Protocol),
            Request::TooLarge => self.refuse(block.stream, Reason::FrameSize),
            Request::Refused(http, status) => self.answer_at_once(block, http, &status),
            _ if self.unsent >= self.options.unsent_bytes_max => {
                let text = "the client of this connection does not read its answers";
                self.answer_at_once(block, 200, &status(Code::ResourceExhausted, text))
            }
            _ if self.unfinished + kept > self.options.unfinished_bytes_max => {
                self.answer_at_once(block, 200, &status(Code::ResourceExhausted, UNFINISHED))
            }
            Request::Foreign(foreign) => {
                let slot = self.open(block.stream, kept);
                let stream = self.slab.get(slot).expect("it was opened above");
                stream.recv_promised = foreign.content_length;
                stream.foreign = Some(Box::new(foreign));
                if block.end_stream { self.end_of_stream(slot, names) } else { Ok(()) }
            }
            Request::Call(head) => {
                let slot = self.open(block.stream, kept);
                self.begin(slot, block, head, names)
            }
        }
    }

    /// An answer to a stream that is not opened. It costs the client less than us, so it is counted.
    fn answer_at_once(
        &mut self,
        block: &Block,
        http: u16,
        status: &GrpcStatus,
    ) -> Result<(), Broken> {
        self.out.outcome_only(block.stream, http, status);
        self.pings.forgive();
        if !block.end_stream {
            frame::put_reset(&mut self.out.bytes, block.stream, Reason::NoError);
        }
        self.slab.remember(block.stream, !block.end_stream);
        self.count_cancel()
    }

    fn begin(
        &mut self,
        slot: u32,
        block: &Block,
        mut head: head::Head,
        names: &mut dyn Names,
    ) -> Result<(), Broken> {
        let stream = self.slab.get(slot).expect("it was opened above");
        stream.recv_promised = head.content_length;
        stream.client_stream = head.method.is_client_stream();
        stream.encoding = head.encoding.take();
        let introduced = stream.client_stream;
        let timeout = head.timeout;
        stream.head = Some(head);
        if let Some(timeout) = timeout {
            self.expire_at(self.now + timeout, slot, block.stream);
        }
        if introduced {
            self.introduce(slot, Bytes::new(), names);
        }
        if block.end_stream { self.end_of_stream(slot, names) } else { Ok(()) }
    }

    /// A new stream in the slab, with its windows, and the bytes that are counted until its end.
    fn open(&mut self, id: u32, kept: usize) -> u32 {
        let slot = self.slab.insert(id);
        let stream = self.slab.get(slot).expect("it was opened above");
        stream.send_window = self.send_window_initial;
        stream.recv_window = i64::from(self.options.stream_window);
        stream.client_stream = false;
        stream.kept = kept;
        self.unfinished += kept;
        slot
    }

    /// HEADERS on a stream that was closed, or skipped (5.1 and 5.1.1).
    fn block_on_closed(&mut self, stream: u32, bytes: &[u8]) -> Result<(), Broken> {
        match self.slab.closed(stream) {
            Closed::ByUs => {
                self.idle_frame()?;
                let size_max = self.options.header_bytes_max as usize * BLOCK_FACTOR;
                self.decoder.decode(bytes, size_max, |_| {}).map_err(compression)
            }
            Closed::Known => Err(broken(Reason::StreamClosed, "HEADERS on a closed stream")),
            Closed::Forgotten => Err(protocol("HEADERS on a stream that is below the last")),
        }
    }

    fn trailers(
        &mut self,
        slot: u32,
        block: &Block,
        bytes: &[u8],
        names: &mut dyn Names,
    ) -> Result<(), Broken> {
        let (size_max, mut size, mut malformed) =
            (self.options.header_bytes_max as usize, 0, false);
        self.decoder
            .decode(bytes, size_max * BLOCK_FACTOR, |field| {
                size += field.name.len() + field.value.len() + 32;
                malformed |=
                    field.tag == super::super::field::Tag::Malformed || field.tag.is_pseudo();
            })
            .map_err(compression)?;
        let Some(stream) = self.slab.get(slot) else { return Ok(()) };
        if stream.recv_ended {
            return self.reset(slot, Reason::StreamClosed);
        }
        if malformed || block.tangled || !block.end_stream || size > size_max {
            return self.reset(slot, Reason::Protocol);
        }
        self.end_of_stream(slot, names)
    }

    pub(super) fn data(
        &mut self,
        head: Head,
        payload: &[u8],
        names: &mut dyn Names,
    ) -> Result<(), Broken> {
        self.recv_window -= payload.len() as i64;
        if self.recv_window < 0 {
            return Err(broken(Reason::FlowControl, "more DATA than the connection's window"));
        }
        // Nobody holds it yet; what a full stream holds is taken off again.
        self.recv_unreturned += payload.len() as u32;
        let data = unpadded(&head, payload);
        let data = data.ok_or(protocol("DATA with more padding than bytes"))?;
        self.check_begun(head.stream)?;
        let Some(slot) = self.slab.find(head.stream) else {
            return self.data_on_closed(head.stream, data);
        };
        let Some(stream) = self.slab.get(slot) else { return Ok(()) };
        stream.recv_window -= payload.len() as i64;
        if stream.recv_ended {
            return self.reset(slot, Reason::StreamClosed);
        }
        if stream.recv_window < 0 {
            return self.reset(slot, Reason::FlowControl);
        }
        if let Some(promised) = &mut stream.recv_promised {
            let Some(left) = promised.checked_sub(data.len() as u64) else {
                return self.reset(slot, Reason::Protocol);
            };
            *promised = left;
        }
        if data.is_empty() && !head.has(END_STREAM) {
            self.idle_frame()?;
        }
        self.hear(slot, data, payload.len() as u32, (head.has(END_STREAM), names));
        if head.has(END_STREAM) { self.end_of_stream(slot, names) } else { Ok(()) }
    }

    /// DATA behind the end of a stream. What a client had on its way when we ended it counts once,
    /// however much it is: skipping it costs us less than sending it, and all of it returns to the
    /// connection's window.
    fn data_on_closed(&mut self, stream: u32, data: &[u8]) -> Result<(), Broken> {
        if self.slab.closed(stream) == Closed::ByUs {
            return match self.slab.charge(stream) {
                true => self.count_cancel(),
                false if data.is_empty() => self.idle_frame(),
                false => Ok(()),
            };
        }
        self.refuse(stream, Reason::StreamClosed)?;
        self.slab.charge(stream);
        Ok(())
    }

    /// Bytes of a call; `length` counts their padding too.
    #[inline]
    fn hear(
        &mut self,
        slot: u32,
        data: &[u8],
        length: u32,
        (ended, names): (bool, &mut dyn Names),
    ) {
        let Some(stream) = self.slab.get(slot) else { return };
        if stream.foreign.is_some() || stream.answered {
            return self.return_window(slot, length);
        }
        if stream.full || !stream.held.is_empty() {
            stream.held.extend_from_slice(data);
            self.recv_unreturned -= data.len() as u32;
            return self.return_window(slot, length - data.len() as u32);
        }
        // What waits for more of its call, or stays long, must not hold memory that others share.
        let brief = ended && stream.head.as_ref().is_some_and(|head| head.method.is_brief());
        match brief {
            true => self.messages(slot, data, &mut |message| names.keep(message)),
            false => self.messages(slot, data, &mut Bytes::copy_from_slice),
        }
        self.return_window(slot, length);
    }

    /// Gives a stream the window back that nobody needs any more.
    #[inline]
    pub(super) fn return_window(&mut self, slot: u32, by: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        stream.recv_unreturned += by;
        if stream.recv_unreturned >= self.options.stream_window / 2 && !stream.recv_ended {
            let by = std::mem::take(&mut stream.recv_unreturned);
            stream.recv_window += i64::from(by);
            frame::put_window(&mut self.out.bytes, stream.id, by);
        }
    }

    #[inline]
    fn messages(&mut self, slot: u32, mut data: &[u8], keep: &mut Keep<'_>) {
        let bytes_max = self.options.recv_bytes_max;
        while let Some(stream) = self.slab.get(slot) {
            let rules = MessageRules { bytes_max, encoding: stream.encoding.as_deref() };
            match (stream.inbox.next(&mut data, rules, keep), stream.name) {
                (Ok(None), _) => return self.count_unfinished(slot),
                (Ok(Some(message)), Some(stream)) => {
                    self.events.push(FromClient::Message { stream, message });
                }
                (Ok(Some(message)), None) => {
                    if stream.message.replace(message).is_some() {
                        let text = "more than one message in a unary call";
                        return self.fail(slot, status(Code::Internal, text));
                    }
                }
                (Err(status), _) => return self.fail(slot, status),
            }
        }
    }

    /// Keeps the sum of what waits for the rest of its request.
    #[inline]
    fn count_unfinished(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        let count = stream.inbox.held() + stream.message.as_ref().map_or(0, Bytes::len);
        self.unfinished = self.unfinished - stream.counted + count;
        stream.counted = count;
        if self.unfinished > self.options.unfinished_bytes_max {
            self.fail(slot, status(Code::ResourceExhausted, UNFINISHED));
        }
    }

    /// The client has ended its side.
    fn end_of_stream(&mut self, slot: u32, names: &mut dyn Names) -> Result<(), Broken> {
        let Some(stream) = self.slab.get(slot) else { return Ok(()) };
        stream.recv_ended = true;
        if stream.recv_promised.is_some_and(|left| left > 0) {
            return self.reset(slot, Reason::Protocol);
        }
        if let Some(foreign) = stream.foreign.take() {
            self.answer_foreign(slot, *foreign);
            return Ok(());
        }
        if stream.client_stream {
            if stream.held.is_empty() {
                self.half_close(slot);
            }
            return Ok(());
        }
        let message = stream.message.take();
        match message {
            _ if stream.inbox.is_cut() => self.fail(slot, status(Code::Internal, "unexpected EOF")),
            Some(message) => self.introduce(slot, message, names),
            None => self.fail(slot, status(Code::Internal, "no message in a unary call")),
        }
        Ok(())
    }

    /// Everything that the client of a client stream said was heard.
    fn half_close(&mut self, slot: u32) {
        let Some(stream) = self.slab.get(slot) else { return };
        if stream.answered {
            return;
        }
        if stream.inbox.is_cut() {
            return self.fail(slot, status(Code::Internal, "unexpected EOF"));
        }
        if let Some(stream) = stream.name {
            self.events.push(FromClient::HalfClosed { stream });
        }
    }

    /// Tells the services of a call.
    #[inline]
    fn introduce(&mut self, slot: u32, message: Bytes, names: &mut dyn Names) {
        let Some(stream) = self.slab.get(slot) else { return };
        let Some(head) = stream.head.take() else { return };
        self.unfinished -= std::mem::take(&mut stream.counted);
        let Some(name) = names.name(slot) else {
            let text = "too many open calls on this server";
            return self.fail(slot, status(Code::ResourceExhausted, text));
        };
        stream.name = Some(name);
        self.events.push(FromClient::Call(Call {
            stream: name,
            method: head.method,
            metadata: head.metadata,
            timeout: head.timeout,
            message,
        }));
    }

    /// Goes on with the streams that were full.
    pub(super) fn resume_streams(&mut self) {
        for slot in std::mem::take(&mut self.resumable) {
            let Some(stream) = self.slab.get(slot) else { continue };
            if stream.full || stream.held.is_empty() {
                continue;
            }
            let rest = stream.held.split_off(stream.held.len().min(RESUMED_BYTES));
            let data = std::mem::replace(&mut stream.held, rest);
            let (more, ended) = (!stream.held.is_empty(), stream.recv_ended);
            self.recv_unreturned += data.len() as u32;
            self.messages(slot, &data, &mut Bytes::copy_from_slice);
            self.return_window(slot, data.len() as u32);
            if more {
                self.resumable.push(slot);
            } else if ended {
                self.half_close(slot);
            }
        }
    }
}

fn compression(error: HpackError) -> Broken {
    if error == HpackError::TooLarge {
        return calm(error.text());
    }
    broken(Reason::Compression, error.text())
}
