//! What members say to each other, as bytes: framed, checksummed, versioned and bounded.
//!
//! [`frame`] finds frames in a byte stream, [`codec`] gives messages their bytes, [`link`] runs the
//! handshake of one connection. All three are state machines without I/O: the server feeds them
//! from sockets, the simulator from its network. Leaves out: sockets, dialling again, queues, and
//! who is a member. `net/PEER.md` draws every byte.
//!
//! ```text
//!  0        4   5    6      8        12       16              16 + length
//!  | magic  | v | k  | head | length | crc    | payload ...   |     integers are little-endian
//!  F5 'HFP'   1   1..  u16    u32      u32
//!
//!  head   low half of crc32(bytes 0..6, bytes 8..12): a damaged length is not believed
//!  crc    crc32(bytes 0..12, payload)
//! ```
//!
//! Laws: (1) any bytes give frames or one typed error, never a panic; (2) no allocation is larger
//! than the bytes that have arrived justify; (3) after an error a reader or link stays in it; (4) a
//! message leaves a link only after both sides checked each other's cluster, member and version.
//!
//! Worked example: member `n1` dials `n2`. `n1` sends Hello{cluster, from n1, to n2}; `n2` checks
//! it and answers with its own; each link then gives `Opened`, and from there on every frame is a
//! message. Had `n2` been of another cluster it would have sent Refuse{wrong cluster, c9}, and both
//! logs would say so.

pub mod codec;
pub mod frame;
pub mod link;
pub mod roster;

use bytes::BytesMut;
use holdfast_core::id::{ClusterId, Incarnation, MemberId, Position};
use holdfast_core::message::PeerHello;

pub use codec::encode_frame;
pub use frame::{FrameError, FrameReader, Seen};
pub use link::{Link, LinkError, LinkEvent, LocalPeer, Refusal, Role, SendError};
pub use roster::{Inquiry, Roster};

/// The oldest and the newest protocol that this build speaks. Protocol 2 has questions for hashes.
pub const PROTOCOLS: (u16, u16) = (1, 2);

/// Largest frame accepted unless configured otherwise.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Feeds any bytes to the frame reader, the codec and both ends of a link; for fuzzing.
///
/// The first byte says how the rest is cut into reads. Frames that decode must encode to
/// themselves.
pub fn fuzz_peer_frame(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let size = usize::from(*cut).max(1);
    let mut reader = FrameReader::new(1 << 20);
    for chunk in bytes.chunks(size) {
        reader.push(chunk);
        while let Ok(Some(frame)) = reader.pop() {
            let Ok(message) = codec::decode(&frame) else { continue };
            let mut again = BytesMut::new();
            encode_frame(&message, &mut again);
            assert_eq!(again[frame::HEADER..], frame.payload[..], "one message has one encoding");
        }
    }
    let hello = PeerHello { incarnation: Incarnation(7), last: Position::new(3, 2), birth: 9 };
    let urls = vec!["http://a:1".to_string()];
    let local = LocalPeer { cluster: ClusterId(1), member: MemberId(1), hello, urls };
    for role in [Role::Dialer, Role::Acceptor] {
        let mut link = Link::new(role, local.clone(), None);
        let mut events = Vec::new();
        for chunk in bytes.chunks(size) {
            link.receive(chunk, &mut events);
        }
        let closings = events.iter().filter(|event| matches!(event, LinkEvent::Closed(_))).count();
        assert!(closings <= 1, "a link closes once");
    }
    let mut inquiry = Inquiry::default();
    for chunk in bytes.chunks(size) {
        if let Ok(Some(roster)) = inquiry.receive(chunk) {
            let mut again = BytesMut::new();
            roster.write(&mut again);
            let answer = Inquiry::default().receive(&again);
            assert_eq!(answer, Ok(Some(roster)), "a roster comes back as it was");
        }
    }
}
