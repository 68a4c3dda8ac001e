//! HTTP/2's frames (RFC 9113, 4.1 and 6): from bytes to a head and a payload, and the frames that
//! this server writes.
//!
//! Leaves out what a frame does. Laws: (1) a frame longer than what was offered is known from its
//! head; (2) padding is taken off or refused before anybody looks at the payload.
//!
//! Worked example: `00 00 08 06 00 00 00 00 00` is the head of a PING with eight bytes.

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;

/// The largest payload taken: SETTINGS_MAX_FRAME_SIZE is never offered larger.
pub(super) const PAYLOAD_MAX: usize = 16_384;

/// Highest stream id and largest window.
pub(super) const MAX_31: u32 = 0x7fff_ffff;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// A frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    Goaway,
    WindowUpdate,
    Continuation,
    /// To be ignored (4.1).
    Unknown,
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::RstStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::Goaway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Headers => 1,
            Kind::Priority => 2,
            Kind::RstStream => 3,
            Kind::Settings => 4,
            Kind::PushPromise => 5,
            Kind::Ping => 6,
            Kind::Goaway => 7,
            Kind::WindowUpdate => 8,
            Kind::Continuation => 9,
            Kind::Unknown => 0xff,
        }
    }
}

/// Error codes (7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Nothing is wrong.
    NoError = 0,
    /// The protocol was broken.
    Protocol = 1,
    /// More was sent than the window allows, or a window grew too large.
    FlowControl = 3,
    /// A frame on a stream that is closed for it.
    StreamClosed = 5,
    /// A frame of the wrong size.
    FrameSize = 6,
    /// The stream was not looked at; it may be tried again.
    RefusedStream = 7,
    /// The stream is not needed any more.
    Cancel = 8,
    /// A header block cannot be read.
    Compression = 9,
    /// The other side asks for too much.
    EnhanceYourCalm = 11,
}

/// A frame's first nine bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    #[inline]
    pub(super) fn read(bytes: &[u8; HEAD]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes(stream) & MAX_31,
        }
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The payload without its padding; `None` when the padding is longer than the payload (6.1).
#[inline]
pub(super) fn unpadded<'a>(head: &Head, payload: &'a [u8]) -> Option<&'a [u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// A 31-bit number at the front, and what follows it.
#[inline]
pub(super) fn number_31(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = payload.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number) & MAX_31, rest))
}

/// Writes a frame's head.
#[inline]
pub(super) fn put_head(out: &mut Vec<u8>, kind: Kind, flags: u8, place: (u32, usize)) {
    let (stream, length) = place;
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind.byte(), flags, d, e, f, g]);
}

/// Writes the length of the frame whose head begins at `at` and whose payload ends at `out`'s end.
#[inline]
pub(super) fn close(out: &mut [u8], at: usize) {
    let [_, length @ ..] = ((out.len() - at - HEAD) as u32).to_be_bytes();
    out[at..at + 3].copy_from_slice(&length);
}

/// RST_STREAM
pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put_head(out, Kind::RstStream, 0, (stream, 4));
    out.extend_from_slice(&(reason as u32).to_be_bytes());
}

/// WINDOW_UPDATE
pub(super) fn put_window(out: &mut Vec<u8>, stream: u32, by: u32) {
    put_head(out, Kind::WindowUpdate, 0, (stream, 4));
    out.extend_from_slice(&by.to_be_bytes());
}

/// PING
pub(super) fn put_ping(out: &mut Vec<u8>, flags: u8, data: [u8; 8]) {
    put_head(out, Kind::Ping, flags, (0, 8));
    out.extend_from_slice(&data);
}

/// GOAWAY
pub(super) fn put_goaway(out: &mut Vec<u8>, last: u32, reason: Reason, text: &str) {
    put_head(out, Kind::Goaway, 0, (0, 8 + text.len()));
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(reason as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// SETTINGS with these parameters.
pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, Kind::Settings, 0, (0, settings.len() * 6));
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back() {
        for byte in 0..=10 {
            let mut out = Vec::new();
            put_head(&mut out, Kind::of(byte), 5, (MAX_31, 0x01_02_03));
            let head = Head::read(out.first_chunk().expect("nine bytes"));
            let kind = Kind::of(byte);
            assert_eq!(head, Head { length: 0x01_02_03, kind, flags: 5, stream: MAX_31 });
        }
        // The reserved bit before the stream is ignored.
        assert_eq!(Head::read(&[0, 0, 0, 9, 0, 0xff, 0xff, 0xff, 0xff]).stream, MAX_31);
    }

    #[test]
    fn padding_is_taken_off_or_refused() {
        let head = |flags| Head { length: 0, kind: Kind::Data, flags, stream: 1 };
        assert_eq!(unpadded(&head(0), &[9, 1]), Some(&[9, 1][..]));
        assert_eq!(unpadded(&head(PADDED), &[2, 7, 0, 0]), Some(&[7][..]));
        assert_eq!(unpadded(&head(PADDED), &[3, 0, 0, 0]), Some(&[][..]));
        assert_eq!(unpadded(&head(PADDED), &[4, 0, 0, 0]), None);
        assert_eq!(unpadded(&head(PADDED), &[]), None);
    }

    #[test]
    fn a_closed_frame_has_its_length() {
        let mut out = b"before".to_vec();
        put_head(&mut out, Kind::Headers, END_HEADERS, (3, 0));
        out.extend_from_slice(&[1; 300]);
        close(&mut out, 6);
        assert_eq!(out[6..9], [0, 1, 44]);
    }
}
