//! Who is in a cluster, told to somebody who wants to join it: one question, one answer, no handshake.
//!
//! Leaves out what the asker makes of it. The answer holds nothing that a client could not list.
//!
//! ```text
//! asker              member
//!  Inquire  ───────►
//!           ◄───────  Roster, close      (or Refuse, close)
//! ```
//!
//! Worked example: an `Inquiry` sends 16 bytes, a frame without payload, and gets back cluster `c9`
//! with two members now and the one that it began with.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_core::id::{ClusterId, MemberId};
use holdfast_core::response::Member;

use super::codec::{Fields, put_bytes, put_len};
use super::frame::{FrameError, FrameReader, Kind, write_frame};

/// Largest answer: four hundred members with long URLs.
const ROSTER_BYTES_MAX: usize = 1 << 20;

/// Fewest bytes of a member: id, flag, name, and two lists.
const MEMBER_BYTES: usize = 8 + 1 + 4 + 4 + 4;

/// A cluster's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Who is in it, as the answering member knows.
    pub members: Vec<Member>,
    /// Who it began with: the state that every member starts from.
    pub genesis: Vec<Member>,
}

impl Roster {
    /// Appends it as a frame.
    pub fn write(&self, out: &mut BytesMut) {
        write_frame(Kind::Roster, out, |out| {
            out.put_u64_le(self.cluster.0);
            put_members(&self.members, out);
            put_members(&self.genesis, out);
        });
    }

    fn read(fields: &mut Fields) -> Result<Roster, FrameError> {
        let cluster = ClusterId(fields.u64()?);
        let roster =
            Roster { cluster, members: take_members(fields)?, genesis: take_members(fields)? };
        fields.end()?;
        Ok(roster)
    }
}

/// The asker's side.
#[derive(Debug)]
pub struct Inquiry {
    reader: FrameReader,
}

impl Default for Inquiry {
    fn default() -> Inquiry {
        Inquiry { reader: FrameReader::new(ROSTER_BYTES_MAX) }
    }
}

impl Inquiry {
    /// What to send.
    pub fn question() -> Bytes {
        let mut out = BytesMut::new();
        write_frame(Kind::Inquire, &mut out, |_| {});
        out.freeze()
    }

    /// Takes in what was read; the roster, once it is there.
    ///
    /// # Errors
    /// Bytes that are no roster; another kind of frame counts as one of them.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Roster>, FrameError> {
        self.reader.push(bytes);
        let Some(frame) = self.reader.pop()? else { return Ok(None) };
        let mut fields = Fields::of(&frame);
        match frame.kind {
            Kind::Roster => Roster::read(&mut fields).map(Some),
            _ => Err(fields.bad("place: a roster was asked for")),
        }
    }
}

fn put_members(members: &[Member], out: &mut BytesMut) {
    put_len(members.len(), out);
    for member in members {
        out.put_u64_le(member.id.0);
        out.put_u8(u8::from(member.is_learner));
        put_bytes(member.name.as_bytes(), out);
        put_texts(&member.peer_urls, out);
        put_texts(&member.client_urls, out);
    }
}

fn take_members(fields: &mut Fields) -> Result<Vec<Member>, FrameError> {
    let count = fields.count(MEMBER_BYTES)?;
    (0..count).map(|_| take_member(fields)).collect()
}

fn take_member(fields: &mut Fields) -> Result<Member, FrameError> {
    let id = MemberId(fields.u64()?);
    let is_learner = match fields.u8()? {
        0 => false,
        1 => true,
        _ => return Err(fields.bad("flag")),
    };
    let (name, peer_urls) = (take_text(fields)?, take_texts(fields)?);
    Ok(Member { id, name, peer_urls, client_urls: take_texts(fields)?, is_learner })
}

/// Appends a list of texts.
pub(super) fn put_texts(texts: &[String], out: &mut BytesMut) {
    put_len(texts.len(), out);
    texts.iter().for_each(|text| put_bytes(text.as_bytes(), out));
}

/// Reads a list of texts.
pub(super) fn take_texts(fields: &mut Fields) -> Result<Vec<String>, FrameError> {
    let count = fields.count(4)?;
    (0..count).map(|_| take_text(fields)).collect()
}

fn take_text(fields: &mut Fields) -> Result<String, FrameError> {
    let bytes = fields.bytes()?;
    str::from_utf8(&bytes).map(str::to_owned).map_err(|_| fields.bad("text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Link, LinkEvent, LocalPeer, Role};
    use holdfast_core::message::PeerHello;

    fn member(id: u64) -> Member {
        Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![format!("http://m{id}:2380"), "http://é:1".into()],
            client_urls: Vec::new(),
            is_learner: id % 2 == 0,
        }
    }

    #[test]
    fn a_stranger_asks_and_is_told_piece_by_piece() {
        let roster =
            Roster { cluster: ClusterId(9), members: vec![member(1), member(2)], genesis: vec![] };
        let local = LocalPeer {
            cluster: ClusterId(9),
            member: MemberId(1),
            hello: PeerHello::default(),
            urls: Vec::new(),
        };
        let mut link = Link::new(Role::Acceptor, local, None);
        let mut events = Vec::new();
        link.receive(&Inquiry::question(), &mut events);
        assert_eq!(events, [LinkEvent::Inquired]);
        link.tell_roster(&roster);
        let mut inquiry = Inquiry::default();
        let answer = link.take_output();
        let (last, before) = answer.split_last().expect("an answer has bytes");
        for byte in before {
            assert_eq!(inquiry.receive(&[*byte]), Ok(None));
        }
        assert_eq!(inquiry.receive(&[*last]), Ok(Some(roster)));
    }

    #[test]
    fn anything_else_is_no_roster() {
        let mut hello = BytesMut::new();
        write_frame(Kind::Hello, &mut hello, |_| {});
        assert!(Inquiry::default().receive(&hello).is_err());
        assert!(Inquiry::default().receive(b"HTTP/1.1 400 Bad Request\r\n").is_err());
        let mut cut = BytesMut::new();
        write_frame(Kind::Roster, &mut cut, |out| out.put_u64_le(9));
        assert!(Inquiry::default().receive(&cut).is_err());
    }
}
