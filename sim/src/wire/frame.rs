//! HTTP/2's frames (RFC 9113, 4 and 6) as a client writes and reads them.
//!
//! Leaves out what a frame does to a connection. Law: whatever a server may not send to a client that
//! has offered nothing is a breach: padding, priorities, promises, unknown flags and types, a frame
//! above 16,384 bytes, a header block with something in between.
//!
//! Worked example: `00 00 04 08 00 00 00 00 05 00 00 01 00` enlarges stream 5's window by 256.

use bytes::Bytes;

use super::Breach;
use super::hpack::{Decoder, Field};

/// What every client begins with.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The windows before anybody says otherwise, and the longest frame.
pub const WINDOW: i64 = 65_535;
/// See [`WINDOW`].
pub const PAYLOAD_MAX: usize = 16_384;

const HEAD: usize = 9;

/// Frame types.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
/// See [`END_STREAM`].
pub const ACK: u8 = 1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 4;
/// See [`END_STREAM`].
pub const PADDED: u8 = 8;

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub const SETTING_WINDOW: u16 = 4;
/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub const SETTING_STREAMS: u16 = 3;

/// The reason of a stream that was not looked at.
pub const REFUSED_STREAM: u32 = 7;
/// The reason of a stream that is not wanted any more.
pub const CANCEL: u32 = 8;

/// Something a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Head or trailers of an answer.
    Headers {
        /// Whose.
        stream: u32,
        /// In order.
        fields: Vec<Field>,
        /// Nothing follows.
        end: bool,
    },
    /// A part of an answer.
    Data {
        /// Whose.
        stream: u32,
        /// Which.
        bytes: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// The stream is over.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        reason: u32,
    },
    /// What the server wishes.
    Settings(Vec<(u16, u32)>),
    /// It does what the client wished.
    SettingsAck,
    /// It asks whether the client is there.
    Ping([u8; 8]),
    /// It is there.
    Pong([u8; 8]),
    /// No stream above `last` is looked at.
    Goaway {
        /// The highest stream.
        last: u32,
        /// Why.
        reason: u32,
        /// In words.
        text: String,
    },
    /// The client may send more; stream 0 is the connection.
    Window {
        /// Where.
        stream: u32,
        /// How much more.
        by: u32,
    },
}

/// Reads what a server sends.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
    decoder: Decoder,
    /// A header block without its end: stream, end of stream, bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    begun: bool,
}

impl Reader {
    /// Bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.at));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame that is whole.
    ///
    /// # Errors
    /// What came is not what a server may send.
    pub fn pop(&mut self) -> Result<Option<Frame>, Breach> {
        loop {
            let rest = &self.bytes[self.at..];
            let Some([a, b, c, kind, flags, stream @ ..]) = rest.first_chunk::<HEAD>() else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (kind, flags, stream) = (*kind, *flags, u32::from_be_bytes(*stream));
            if length > PAYLOAD_MAX {
                return Err(format!("a frame of {length} bytes"));
            }
            let Some(payload) = rest.get(HEAD..HEAD + length) else { return Ok(None) };
            let payload = Bytes::copy_from_slice(payload);
            self.at += HEAD + length;
            if let Some(frame) = self.frame(kind, flags, stream, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: Bytes,
    ) -> Result<Option<Frame>, Breach> {
        let odd = |what: &str| Err(format!("{what}: type {kind}, flags {flags}, stream {stream}"));
        if !std::mem::replace(&mut self.begun, true) && (kind != SETTINGS || flags != 0) {
            return odd("the first frame is not SETTINGS");
        }
        if self.block.is_some() && kind != CONTINUATION {
            return odd("a header block is interrupted");
        }
        let of_stream = matches!(kind, DATA | HEADERS | RST_STREAM | CONTINUATION);
        if kind != WINDOW_UPDATE && of_stream == (stream == 0) || stream > i32::MAX as u32 {
            return odd("a frame where it does not belong");
        }
        let flags_known = match kind {
            DATA => END_STREAM,
            HEADERS => END_STREAM | END_HEADERS,
            CONTINUATION => END_HEADERS,
            SETTINGS | PING => ACK,
            _ => 0,
        };
        if flags & !flags_known != 0 {
            return odd("unknown flags");
        }
        match kind {
            HEADERS => {
                self.block = Some((stream, flags & END_STREAM != 0, Vec::new()));
                self.headers(flags, stream, &payload)
            }
            CONTINUATION => self.headers(flags, stream, &payload),
            DATA => {
                let end = flags & END_STREAM != 0;
                Ok(Some(Frame::Data { stream, bytes: payload, end }))
            }
            _ => control(kind, flags, stream, &payload).map(Some),
        }
    }

    fn headers(&mut self, flags: u8, of: u32, payload: &[u8]) -> Result<Option<Frame>, Breach> {
        let Some((stream, end, mut bytes)) = self.block.take().filter(|block| block.0 == of) else {
            return Err("CONTINUATION without HEADERS of its stream".into());
        };
        bytes.extend_from_slice(payload);
        if flags & END_HEADERS == 0 {
            self.block = Some((stream, end, bytes));
            return Ok(None);
        }
        let fields = self.decoder.block(&bytes)?;
        Ok(Some(Frame::Headers { stream, fields, end }))
    }
}

fn control(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, Breach> {
    let wrong = || format!("a frame of type {kind} with {} bytes", payload.len());
    let number = |bytes: &[u8]| {
        let number = bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        number.ok_or_else(wrong)
    };
    match (kind, payload.len()) {
        (RST_STREAM, 4) => Ok(Frame::Reset { stream, reason: number(payload)? }),
        (SETTINGS, 0) if flags & ACK != 0 => Ok(Frame::SettingsAck),
        (SETTINGS, length) if flags == 0 && length.is_multiple_of(6) => {
            let settings = payload.chunks_exact(6).map(|setting| {
                let name = u16::from_be_bytes([setting[0], setting[1]]);
                Ok((name, number(&setting[2..])?))
            });
            Ok(Frame::Settings(settings.collect::<Result<_, Breach>>()?))
        }
        (PING, 8) => {
            let data = payload.try_into().map_err(|_| wrong())?;
            Ok(if flags & ACK != 0 { Frame::Pong(data) } else { Frame::Ping(data) })
        }
        (GOAWAY, 8..) => Ok(Frame::Goaway {
            last: number(payload)?,
            reason: number(&payload[4..])?,
            text: String::from_utf8_lossy(&payload[8..]).into_owned(),
        }),
        (WINDOW_UPDATE, 4) => match number(payload)? {
            by @ 1..=0x7fff_ffff => Ok(Frame::Window { stream, by }),
            by => Err(format!("a window that is enlarged by {by}")),
        },
        _ => Err(wrong()),
    }
}

/// Appends a frame.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, (stream, payload): (u32, &[u8])) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, SETTINGS, 0, (0, &payload));
}

/// gRPC's prefix and a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// Takes the first whole message out of what has come of an answer.
///
/// # Errors
/// It is said to be compressed, which nobody asked for.
pub fn take_message(bytes: &mut Vec<u8>) -> Result<Option<Bytes>, Breach> {
    let Some([flag, length @ ..]) = bytes.first_chunk::<5>() else { return Ok(None) };
    if *flag != 0 {
        return Err(format!("a message with the flag {flag}"));
    }
    let length = 5 + u32::from_be_bytes(*length) as usize;
    if bytes.len() < length {
        return Ok(None);
    }
    let rest = bytes.split_off(length);
    let message = Bytes::from(std::mem::replace(bytes, rest)).split_off(5);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Frame>, Breach> {
        let mut reader = Reader::default();
        let mut frames = Vec::new();
        for byte in bytes {
            reader.push(&[*byte]);
            frames.extend(reader.pop()?);
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_read_byte_by_byte_and_nothing_comes_before_settings() {
        let mut bytes = Vec::new();
        put_settings(&mut bytes, &[(SETTING_WINDOW, 70)]);
        put(&mut bytes, HEADERS, 0, (1, &[0x88]));
        put(&mut bytes, CONTINUATION, END_HEADERS, (1, &[0x88]));
        put(&mut bytes, DATA, END_STREAM, (1, b"ab"));
        let frames = read(&bytes).expect("they are well formed");
        assert_eq!(frames.len(), 3, "{frames:?}");
        assert!(matches!(&frames[1], Frame::Headers { fields, .. } if fields.len() == 2));
        assert!(read(&bytes[15..]).is_err(), "HEADERS come first");
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        let mut hello = Vec::new();
        put_settings(&mut hello, &[]);
        let bad = [
            (DATA, 0, 0, &b""[..]),
            (DATA, PADDED, 1, b"\0"),
            (PING, 0, 0, b"seven b"),
            (5, END_HEADERS, 1, b"\0\0\0\x02"),
            (2, 0, 1, b"\0\0\0\0\0"),
            (WINDOW_UPDATE, 0, 1, b"\0\0\0\0"),
            (CONTINUATION, END_HEADERS, 1, b""),
        ];
        for (kind, flags, stream, payload) in bad {
            let mut bytes = hello.clone();
            put(&mut bytes, kind, flags, (stream, payload));
            assert!(read(&bytes).is_err(), "type {kind}");
        }
    }

    #[test]
    fn messages_come_out_whole() {
        let mut bytes = framed(b"one");
        bytes.extend(framed(b""));
        bytes.extend(&framed(b"three")[..7]);
        assert_eq!(take_message(&mut bytes).expect("well formed"), Some("one".into()));
        assert_eq!(take_message(&mut bytes).expect("well formed"), Some(Bytes::new()));
        assert_eq!(take_message(&mut bytes).expect("well formed"), None);
    }
}
