//! Frames in a byte stream: the header of `net/PEER.md`, a bounded reader, and what the reader says
//! of bytes that are no frame.
//!
//! Leaves out what a payload means. Laws: a length is believed only after its own check and the
//! bound; a payload is given out only after the checksum over everything; the first error is the
//! last word.
//!
//! Worked example: `GET /metrics HTTP/1.1` on the peer port fails at its first byte, which is not
//! F5, with [`FrameError::NotPeer`] and [`Seen::Http`].

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The first bytes of every frame. F5 begins neither text nor TLS nor HTTP/2.
pub const MAGIC: [u8; 4] = [0xF5, b'H', b'F', b'P'];

/// The framing drawn here; what payloads mean is versioned by the handshake.
pub const FRAMING: u8 = 1;

/// Bytes before the payload.
pub const HEADER: usize = 16;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first frame each way. Its layout is the same in all protocol versions.
    Hello = 1,
    /// The last frame of a side that will not talk to the other. Same layout for ever, too.
    Refuse = 2,
    /// Instead of a Hello: who is in this cluster? From somebody who wants to join it.
    Inquire = 3,
    /// The answer to an inquiry, and the last frame.
    Roster = 4,
    /// `Message::Raft`
    Raft = 16,
    /// `Message::LeaseAsk`
    LeaseAsk = 17,
    /// `Message::LeaseAnswer`
    LeaseAnswer = 18,
    /// `Message::Transfer`
    Transfer = 19,
    /// Asks for a sign of life; no payload.
    Ping = 20,
    /// Answers a ping; no payload.
    Pong = 21,
    /// `Message::ChangeRefused`
    ChangeRefused = 22,
    /// `Message::HashAsk`, from protocol 2 on
    HashAsk = 23,
    /// `Message::HashAnswer`, from protocol 2 on
    HashAnswer = 24,
}

impl Kind {
    /// The kind numbered `number`, if there is one.
    pub fn from_wire(number: u8) -> Option<Kind> {
        use Kind::*;
        [
            Hello,
            Refuse,
            Inquire,
            Roster,
            Raft,
            LeaseAsk,
            LeaseAnswer,
            Transfer,
            Ping,
            Pong,
            ChangeRefused,
            HashAsk,
            HashAnswer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A frame whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How to read `payload`.
    pub kind: Kind,
    /// Everything after the header.
    pub payload: Bytes,
}

/// What bytes that are no frame look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An HTTP/1 request line, cut short: a browser, a probe, or a member of etcd itself.
    Http(String),
    /// The preface of HTTP/2: a gRPC client.
    Http2,
    /// A TLS handshake.
    Tls,
    /// None of these; the first bytes.
    Other(Bytes),
}

impl Seen {
    /// Guesses from the first bytes of a stream.
    pub fn of(bytes: &[u8]) -> Seen {
        const METHODS: [&[u8]; 7] =
            [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH "];
        let starts = |known: &[u8]| {
            let common = known.len().min(bytes.len());
            common > 0 && bytes[..common] == known[..common]
        };
        if bytes.len() > 2 && starts(b"PRI * HTTP/2.0") {
            return Seen::Http2;
        }
        if METHODS.into_iter().any(starts) {
            let line = bytes.split(|byte| *byte < b' ').next().unwrap_or_default();
            let short = &line[..line.len().min(80)];
            return Seen::Http(String::from_utf8_lossy(short).into_owned());
        }
        match bytes {
            [0x16, 0x03, ..] => Seen::Tls,
            _ => Seen::Other(Bytes::copy_from_slice(&bytes[..bytes.len().min(16)])),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Http(line) => write!(
                f,
                "an HTTP request ({line:?}); etcd members and HTTP clients cannot use this port, \
                 and clients belong on the client URL"
            ),
            Seen::Http2 => {
                f.write_str("HTTP/2, as gRPC clients speak it; point the client at the client URL")
            }
            Seen::Tls => f.write_str(
                "a TLS handshake; the peer URL of one side says https and that of the other http",
            ),
            Seen::Other(bytes) => write!(f, "unknown bytes {:02x?}", &bytes[..]),
        }
    }
}

/// Why a byte stream is not one of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The magic is missing.
    NotPeer(Seen),
    /// Another framing.
    Framing(u8),
    /// The header contradicts its own check.
    Header {
        /// How many bytes of frames came before it.
        at: u64,
    },
    /// Longer than this side accepts.
    TooLarge {
        /// Bytes of the whole frame.
        length: u64,
        /// The bound.
        max: u64,
    },
    /// The payload, or the header, was damaged.
    Checksum {
        /// How many bytes of frames came before it.
        at: u64,
        /// What the frame says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A whole frame of an unknown kind.
    UnknownKind(u8),
    /// A payload that is none of its kind.
    Malformed {
        /// The kind.
        kind: Kind,
        /// Which part.
        what: &'static str,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotPeer(seen) => write!(f, "not the peer protocol but {seen}"),
            FrameError::Framing(got) => write!(
                f,
                "peer framing {got}, where this build knows {FRAMING}; upgrade the older member"
            ),
            FrameError::Header { at } => {
                write!(f, "damaged header of the peer frame at byte {at} of the connection")
            }
            FrameError::TooLarge { length, max } => {
                write!(f, "peer frame of {length} bytes, where at most {max} are accepted")
            }
            FrameError::Checksum { at, stored, computed } => write!(
                f,
                "damaged peer frame at byte {at} of the connection: it says crc {stored:08x}, its \
                 bytes give {computed:08x}; suspect the network between the members"
            ),
            FrameError::UnknownKind(kind) => {
                write!(f, "peer frame of unknown kind {kind}; upgrade the older member")
            }
            FrameError::Malformed { kind, what } => {
                write!(f, "peer frame {kind:?} with a malformed {what}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Writes a frame around what `fill` appends.
pub fn write_frame(kind: Kind, out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u8(FRAMING);
    out.put_u8(kind as u8);
    out.put_bytes(0, HEADER - 6);
    fill(out);
    let length = u32::try_from(out.len() - start - HEADER)
        .expect("links refuse messages over the frame bound, which is below 4 GiB");
    let header = &mut out[start..start + HEADER];
    header[8..12].copy_from_slice(&length.to_le_bytes());
    let check = head_check(header);
    header[6..8].copy_from_slice(&check.to_le_bytes());
    let crc = checksum(&out[start..start + 12], &out[start + HEADER..]);
    out[start + 12..start + HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// Finds frames in bytes as they arrive.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    frame_max: usize,
    consumed: u64,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// A reader that refuses frames, header included, over `frame_max` bytes.
    pub fn new(frame_max: usize) -> FrameReader {
        FrameReader { buffer: BytesMut::new(), frame_max, consumed: 0, failed: None }
    }

    /// Accepts frames up to another bound from here on.
    pub fn set_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// Adds bytes that arrived; dropped after an error. Call [`pop`](FrameReader::pop) until it has
    /// no more before adding again: then the buffer stays below one frame and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, if it is there.
    pub fn pop(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = self.find();
        if let Err(error) = &found {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        }
        found
    }

    fn find(&mut self) -> Result<Option<Frame>, FrameError> {
        let known = self.buffer.len().min(MAGIC.len());
        if self.buffer[..known] != MAGIC[..known] {
            return Err(FrameError::NotPeer(Seen::of(&self.buffer)));
        }
        if self.buffer.len() < HEADER {
            return Ok(None);
        }
        let header: [u8; HEADER] =
            self.buffer[..HEADER].try_into().expect("the length was checked above");
        let length = self.length(&header)?;
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut payload = self.buffer.split_to(length).freeze();
        payload.advance(HEADER);
        let stored = u32::from_le_bytes(header[12..].try_into().expect("four bytes"));
        let computed = checksum(&header[..12], &payload);
        if stored != computed {
            return Err(FrameError::Checksum { at: self.consumed, stored, computed });
        }
        self.consumed += length as u64;
        let kind = Kind::from_wire(header[5]).ok_or(FrameError::UnknownKind(header[5]))?;
        Ok(Some(Frame { kind, payload }))
    }

    /// The whole frame's length, if the header may be believed.
    fn length(&self, header: &[u8; HEADER]) -> Result<usize, FrameError> {
        if header[4] != FRAMING {
            return Err(FrameError::Framing(header[4]));
        }
        if head_check(header) != u16::from_le_bytes([header[6], header[7]]) {
            return Err(FrameError::Header { at: self.consumed });
        }
        let payload = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
        let length = u64::from(payload) + HEADER as u64;
        let max = self.frame_max as u64;
        if length > max {
            return Err(FrameError::TooLarge { length, max });
        }
        Ok(length as usize)
    }
}

fn head_check(header: &[u8]) -> u16 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&header[..6]);
    hash.update(&header[8..12]);
    hash.finalize() as u16
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(head);
    hash.update(payload);
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        write_frame(Kind::LeaseAsk, &mut bytes, |out| out.put_slice(payload));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut reader = FrameReader::new(1024);
        reader.push(bytes);
        reader.pop()
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let mut bytes = frame(b"first");
        bytes.extend_from_slice(&frame(b""));
        bytes.extend_from_slice(&frame(b"third one"));
        for split in 0..=bytes.len() {
            let mut reader = FrameReader::new(1024);
            let mut seen = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                reader.push(part);
                while let Some(frame) = reader.pop().expect("these frames are good") {
                    seen.push(frame.payload);
                }
            }
            assert_eq!(seen, [&b"first"[..], b"", b"third one"], "split at {split}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = frame(b"payload");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_length_is_refused_before_its_payload_arrives() {
        let mut bad = frame(b"payload");
        bad[9] ^= 1;
        assert_eq!(read(&bad[..HEADER]), Err(FrameError::Header { at: 0 }));
    }

    #[test]
    fn the_bound_holds_for_the_whole_frame() {
        assert!(read(&frame(&[7; 1024 - HEADER])).is_ok_and(|frame| frame.is_some()));
        let error = read(&frame(&[7; 1025 - HEADER])[..HEADER]);
        assert_eq!(error, Err(FrameError::TooLarge { length: 1025, max: 1024 }));
    }

    #[test]
    fn strangers_are_named() {
        let http = read(b"GET /raft/stream/message/1 HTTP/1.1\r\nHost: x\r\n");
        let line = "GET /raft/stream/message/1 HTTP/1.1".to_string();
        assert_eq!(http, Err(FrameError::NotPeer(Seen::Http(line))));
        assert_eq!(read(b"PRI * HTTP/2.0\r\n"), Err(FrameError::NotPeer(Seen::Http2)));
        assert_eq!(read(&[0x16, 3, 1, 2]), Err(FrameError::NotPeer(Seen::Tls)));
        assert!(matches!(read(b"\0"), Err(FrameError::NotPeer(Seen::Other(_)))));
    }

    #[test]
    fn an_error_is_the_last_word() {
        let mut reader = FrameReader::new(1024);
        reader.push(b"junk");
        let error = reader.pop();
        assert!(error.is_err());
        reader.push(&frame(b"good"));
        assert_eq!(reader.pop(), error);
    }
}
