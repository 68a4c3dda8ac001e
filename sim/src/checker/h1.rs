//! H1: each call over HTTP/2 gets one answer or end, on its own stream, in the form that gRPC gives it:
//! a head, whole messages, trailers with a status; a unary call that went well has exactly one message.
//! (That a call gets one at all is H3.)

use std::collections::BTreeMap;

use super::{Checker, Scene, Seen};
use crate::caller::{Kind, Note};
use crate::wire::frame::{self, Frame};
use crate::wire::hpack::Field;

/// The streams of each connection, and how far their answers are.
#[derive(Default)]
pub(super) struct OneAnswer(BTreeMap<u64, BTreeMap<u32, Stream>>);

struct Stream {
    kind: Kind,
    /// The client wants no answer any more.
    given_up: bool,
    head: bool,
    over: bool,
    bytes: Vec<u8>,
    messages: u64,
}

impl Checker for OneAnswer {
    fn id(&self) -> &'static str {
        "H1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Line { connection, note, .. } = seen else { return Ok(()) };
        if **note == Note::Closed {
            self.0.remove(connection);
            return Ok(());
        }
        let streams = self.0.entry(*connection).or_default();
        match note {
            Note::Opened(stream, kind) => {
                streams.insert(*stream, Stream::new(*kind));
            }
            Note::Reset(stream) => {
                if let Some(stream) = streams.get_mut(stream) {
                    stream.given_up = true;
                }
            }
            Note::Heard(
                frame @ (Frame::Headers { stream, .. }
                | Frame::Data { stream, .. }
                | Frame::Reset { stream, .. }),
            ) => {
                let Some(answer) = streams.get_mut(stream) else {
                    return Err(format!("stream {stream} was never opened, and gets {frame:?}"));
                };
                let was_over = answer.over;
                let taken = answer.take(frame);
                taken.map_err(|what| format!("stream {stream} of {connection}: {what}"))?;
                if answer.over && !was_over {
                    scene.compared();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Stream {
    fn new(kind: Kind) -> Stream {
        Stream { kind, given_up: false, head: false, over: false, bytes: Vec::new(), messages: 0 }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), String> {
        match frame {
            // What is left to say after an end is that the client need not say the rest.
            Frame::Reset { reason: 0, .. } if self.over => Ok(()),
            _ if self.over => Err(format!("its answer is over, and then comes {frame:?}")),
            Frame::Reset { reason: frame::REFUSED_STREAM, .. } if !self.head => {
                self.over = true;
                Ok(())
            }
            Frame::Reset { reason, .. } if !self.given_up => {
                Err(format!("it is reset, and the client has done nothing wrong: {reason}"))
            }
            Frame::Reset { .. } => {
                self.over = true;
                Ok(())
            }
            Frame::Headers { fields, end, .. } => self.headers(fields, *end),
            Frame::Data { end: true, .. } => Err("its answer ends without trailers".into()),
            Frame::Data { bytes, .. } => {
                if !self.head {
                    return Err("a message comes before the head".into());
                }
                self.bytes.extend_from_slice(bytes);
                while frame::take_message(&mut self.bytes)?.is_some() {
                    self.messages += 1;
                }
                if self.kind == Kind::Unary && self.messages > 1 {
                    return Err("a unary call gets a second message".into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn headers(&mut self, fields: &[Field], end: bool) -> Result<(), String> {
        let one = |name: &str| {
            let mut all = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
            (all.next().map(String::as_str), all.next().is_some())
        };
        let wrong = |what: &str| Err(format!("{what}: {fields:?}"));
        let pseudo = fields.iter().filter(|(name, _)| name.starts_with(':')).count();
        if !self.head {
            if one(":status") != (Some("200"), false) || pseudo != 1 || fields[0].0 != ":status" {
                return wrong("a head without the status 200");
            }
            if one("content-type") != (Some("application/grpc"), false) {
                return wrong("a head that is not gRPC's");
            }
        } else if pseudo > 0 || !end {
            return wrong("no trailers, and not a head either");
        }
        self.head = true;
        let (status, twice) = one("grpc-status");
        if !end {
            return if status.is_some() { wrong("a status before the end") } else { Ok(()) };
        }
        self.over = true;
        let code = status.and_then(|text| text.parse::<u32>().ok());
        let Some(code) = code.filter(|code| *code <= 16 && !twice) else {
            return wrong("an end without a status");
        };
        if code == 0 && !self.bytes.is_empty() {
            return wrong("the status is OK and the last message is not whole");
        }
        if code == 0 && self.kind == Kind::Unary && self.messages != 1 {
            return wrong(&format!("the status is OK and there are {} messages", self.messages));
        }
        Ok(())
    }
}
