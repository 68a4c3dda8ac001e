//! H2: a server keeps HTTP/2's rules: it never sends more than a window lets it, by connection and by
//! stream; it says nothing on a stream that is closed or was never begun; it confirms what it was
//! asked; and it does not tell a client that keeps the rules that it has broken them. (That a frame is
//! well formed is looked at where it is read, and told under the same name.)

use std::collections::{BTreeMap, VecDeque};

use super::{Checker, Scene, Seen};
use crate::caller::Note;
use crate::wire::frame::{self, Frame};

/// The connections, as their clients may expect them.
#[derive(Default)]
pub(super) struct Rules(BTreeMap<u64, Line>);

/// What the client has sent of which the server's confirmation is awaited.
enum Awaited {
    Settings(Option<u32>),
    Ping([u8; 8]),
}

struct Line {
    allowed: i64,
    /// The confirmed initial window, and those that the server may know already.
    window: i64,
    awaited: VecDeque<Awaited>,
    /// Confirmations asked for, and heard.
    asked: u64,
    confirmed: u64,
    streams: BTreeMap<u32, Stream>,
    last: u32,
}

#[derive(Default)]
struct Stream {
    /// Without the initial window.
    allowed: i64,
    ended: bool,
    reset: bool,
    /// The client reset it before it asked for so many confirmations.
    given_up: Option<u64>,
}

impl Checker for Rules {
    fn id(&self) -> &'static str {
        "H2"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Line { connection, member, note } = seen else { return Ok(()) };
        if **note == Note::Closed {
            self.0.remove(connection);
            return Ok(());
        }
        let line = self.0.entry(*connection).or_insert_with(Line::new);
        let seen = match note {
            Note::Heard(frame) => {
                scene.compared();
                line.heard(frame)
            }
            said => {
                line.said(said);
                Ok(())
            }
        };
        seen.map_err(|what| format!("connection {connection} to member {member}: {what}"))
    }
}

impl Line {
    fn new() -> Line {
        Line {
            allowed: frame::WINDOW,
            window: frame::WINDOW,
            awaited: VecDeque::new(),
            asked: 0,
            confirmed: 0,
            streams: BTreeMap::new(),
            last: 0,
        }
    }

    fn said(&mut self, note: &Note) {
        match note {
            Note::Opened(stream, _) => {
                self.last = *stream;
                self.streams.insert(*stream, Stream::default());
            }
            Note::Reset(stream) => {
                // It is over for the server once it has confirmed something that was said later.
                let asked = self.asked;
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.given_up = Some(asked);
                }
            }
            Note::Settings(window) => {
                self.asked += 1;
                self.awaited.push_back(Awaited::Settings(*window));
            }
            Note::Ping(data) => {
                self.asked += 1;
                self.awaited.push_back(Awaited::Ping(*data));
            }
            Note::Window(0, by) => self.allowed += i64::from(*by),
            Note::Window(stream, by) => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.allowed += i64::from(*by);
                }
            }
            Note::HalfClosed(_) | Note::Heard(_) | Note::Closed => {}
        }
    }

    fn heard(&mut self, frame: &Frame) -> Result<(), String> {
        match frame {
            Frame::SettingsAck => match self.awaited.pop_front() {
                Some(Awaited::Settings(window)) => {
                    self.window = window.map_or(self.window, i64::from);
                    self.confirmed += 1;
                    Ok(())
                }
                _ => Err("SETTINGS are confirmed that were not sent next".into()),
            },
            Frame::Pong(data) => match self.awaited.pop_front() {
                Some(Awaited::Ping(sent)) if sent == *data => {
                    self.confirmed += 1;
                    Ok(())
                }
                _ => Err("a ping is answered that was not sent next".into()),
            },
            Frame::Goaway { reason, text, .. } => match (reason, &text[..]) {
                // Pauses and delays may push pings together that were sent apart.
                (0, _) | (11, "too_many_pings") => Ok(()),
                _ => Err(format!("its client keeps the rules and is told {reason}: {text}")),
            },
            Frame::Data { stream, bytes, .. } => {
                self.allowed -= bytes.len() as i64;
                let (allowed, initial) = (self.allowed, self.most_initial());
                let of = self.on(*stream)?;
                of.allowed -= bytes.len() as i64;
                if !bytes.is_empty() && (allowed < 0 || of.allowed + initial < 0) {
                    let over = of.allowed + initial;
                    return Err(format!(
                        "{} bytes on stream {stream} leave its window at {over} and the \
                         connection's at {allowed}",
                        bytes.len()
                    ));
                }
                Ok(())
            }
            Frame::Headers { stream, end, .. } => {
                self.on(*stream)?.ended |= *end;
                Ok(())
            }
            Frame::Reset { stream, .. } => self.reset(*stream),
            Frame::Window { stream, .. } if *stream > self.last => {
                Err(format!("a window of stream {stream}, which was never begun"))
            }
            _ => Ok(()),
        }
    }

    fn reset(&mut self, id: u32) -> Result<(), String> {
        let stream = self.streams.get_mut(&id).ok_or(format!("stream {id} was never begun"))?;
        if std::mem::replace(&mut stream.reset, true) {
            return Err(format!("stream {id} is reset twice"));
        }
        Ok(())
    }

    /// The largest initial window that the server may go by.
    fn most_initial(&self) -> i64 {
        let awaited = self.awaited.iter().filter_map(|awaited| match awaited {
            Awaited::Settings(window) => window.map(i64::from),
            Awaited::Ping(_) => None,
        });
        awaited.fold(self.window, i64::max)
    }

    /// A stream on which something is said.
    fn on(&mut self, id: u32) -> Result<&mut Stream, String> {
        let confirmed = self.confirmed;
        let stream = self.streams.get_mut(&id);
        let stream = stream.ok_or(format!("stream {id} was never begun"))?;
        if stream.ended || stream.reset {
            return Err(format!("something is said on stream {id}, which the server had closed"));
        }
        if stream.given_up.is_some_and(|asked| confirmed > asked) {
            return Err(format!("something is said on stream {id}, which the client had reset"));
        }
        Ok(stream)
    }
}
