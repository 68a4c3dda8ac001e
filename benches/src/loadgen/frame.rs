//! Frames of HTTP/2, and the methods that the generator calls. Shared by the client and the null server.
//!
//! Leaves out push and priorities: they are skipped, not answered.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 32;

/// What a client's connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Bytes before a gRPC message.
pub(super) const PREFIX: usize = 5;
/// Largest frame either side sends.
pub(super) const FRAME_MAX: usize = 16 << 10;
/// The windows of HTTP/2 before any SETTINGS.
pub(super) const WINDOW: i64 = 65_535;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Put,
    Range,
    Txn,
    DeleteRange,
    Compact,
    LeaseGrant,
    LeaseKeepAlive,
    Watch,
    Status,
    Snapshot,
    Defragment,
}

impl Call {
    const ALL: [Call; 11] = [
        Call::Put,
        Call::Range,
        Call::Txn,
        Call::DeleteRange,
        Call::Compact,
        Call::LeaseGrant,
        Call::LeaseKeepAlive,
        Call::Watch,
        Call::Status,
        Call::Snapshot,
        Call::Defragment,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Call::Put => "/etcdserverpb.KV/Put",
            Call::Range => "/etcdserverpb.KV/Range",
            Call::Txn => "/etcdserverpb.KV/Txn",
            Call::DeleteRange => "/etcdserverpb.KV/DeleteRange",
            Call::Compact => "/etcdserverpb.KV/Compact",
            Call::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Call::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Call::Watch => "/etcdserverpb.Watch/Watch",
            Call::Status => "/etcdserverpb.Maintenance/Status",
            Call::Snapshot => "/etcdserverpb.Maintenance/Snapshot",
            Call::Defragment => "/etcdserverpb.Maintenance/Defragment",
        }
    }

    pub fn of(path: &[u8]) -> Option<Call> {
        Call::ALL.into_iter().find(|call| call.path().as_bytes() == path)
    }
}

/// A frame that was read: its kind, its flags, its stream and its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes the next whole frame off `rest`; None when the rest of it has not arrived.
pub(super) fn next_frame<'a>(rest: &mut &'a [u8]) -> Result<Option<Frame<'a>>, String> {
    let Some((head, body)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if length > FRAME_MAX {
        return Err(format!("a frame of {length} bytes, which is too large"));
    }
    let Some((payload, after)) = body.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    let stream = number(&head[5..]) & 0x7fff_ffff;
    Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
}

/// Appends the head of a frame.
pub(super) fn frame(out: &mut Vec<u8>, length: usize, (kind, flags): (u8, u8), stream: u32) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Sets the length of the frame whose head is at `head`, when its payload has been written.
pub(super) fn close_frame(out: &mut [u8], head: usize) {
    let length = (out.len() - head - HEAD) as u32;
    out[head..head + 3].copy_from_slice(&length.to_be_bytes()[1..]);
}

/// Appends a gRPC message that `fill` writes.
pub(super) fn put_grpc(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let prefix = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    fill(out);
    let length = (out.len() - prefix - PREFIX) as u32;
    out[prefix + 1..prefix + PREFIX].copy_from_slice(&length.to_be_bytes());
}

/// Takes the next whole gRPC message off `rest`; None when the rest of it has not arrived.
pub(super) fn next_message<'a>(
    rest: &mut &'a [u8],
    length_max: usize,
) -> Result<Option<&'a [u8]>, String> {
    let Some((prefix, body)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = number(&prefix[1..]) as usize;
    if prefix[0] != 0 || length > length_max {
        return Err(format!("a message of {length} bytes that is compressed or too large"));
    }
    let Some((message, after)) = body.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    Ok(Some(message))
}

/// The four bytes at the front; a shorter payload counts as zero.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// The payload without its padding.
pub(super) fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], String> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or("bad padding")?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or("bad padding")?;
    Ok(&rest[..length])
}

/// The header block of a HEADERS frame, or as much of it as the frame has.
pub(super) fn block_of<'a>(frame: &Frame<'a>) -> Result<&'a [u8], String> {
    let block = unpadded(frame.payload, frame.flags)?;
    let skipped = if frame.is(PRIORITY) { 5 } else { 0 };
    block.get(skipped..).ok_or_else(|| "a short HEADERS frame".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_it_is_whole() {
        let mut out = Vec::new();
        frame(&mut out, 0, (DATA, END_STREAM), 7);
        put_grpc(&mut out, |out| out.extend_from_slice(b"abc"));
        close_frame(&mut out, 0);
        let mut cut = &out[..out.len() - 1];
        assert!(next_frame(&mut cut).expect("a prefix of a good frame").is_none());
        let mut rest = out.as_slice();
        let frame = next_frame(&mut rest).expect("good").expect("whole");
        assert_eq!((frame.kind, frame.stream, frame.is(END_STREAM)), (DATA, 7, true));
        let mut payload = frame.payload;
        assert_eq!(next_message(&mut payload, 3), Ok(Some(b"abc".as_slice())));
        assert!(rest.is_empty() && payload.is_empty());
        let mut payload = frame.payload;
        assert!(next_message(&mut payload, 2).is_err(), "larger than allowed");
    }

    #[test]
    fn padding_and_priority_are_cut_off() {
        let payload = [2, 0, 0, 0, 0, 0, 0x88, 9, 9];
        let padded =
            Frame { kind: HEADERS, flags: PADDED | PRIORITY, stream: 1, payload: &payload };
        assert_eq!(block_of(&padded), Ok([0x88].as_slice()));
        assert!(unpadded(&[3, 1], PADDED).is_err());
    }
}
