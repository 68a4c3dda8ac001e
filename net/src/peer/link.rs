//! One connection between two members: the handshake both ways, then messages.
//!
//! Leaves out sockets, time and dialling again: the owner feeds what it read, writes what
//! [`Link::take_output`] gives, and closes the connection after [`LinkEvent::Closed`] (writing the
//! last output first, so that the other side learns the reason too).
//!
//! Laws: (1) `Opened` comes before every message and at most once; (2) `Closed` is the last event;
//! (3) what one side refuses, the other is told, so both operators read a sentence that names both
//! sides; (4) a message whose sender or receiver is not one of the two ends closes the link.
//!
//! ```text
//!  dialler            acceptor
//!   Hello   ────────►  checks it       or  ◄──────── Refuse(why), close
//!   checks  ◄────────  Hello           or  Refuse(why) ────────►, close
//!   Opened             Opened          (the acceptor opens as soon as it has answered)
//! ```

use std::fmt;

use bytes::{BufMut, BytesMut};
use holdfast_core::id::{ClusterId, Incarnation, MemberId};
use holdfast_core::message::{Message, PeerHello, RaftKind, RaftMessage};
use holdfast_core::mutant;

use super::codec::{self, Fields};
use super::frame::{Frame, FrameError, FrameReader, Kind, Seen, write_frame};
use super::roster::{Roster, put_texts, take_texts};
use super::{FRAME_BYTES_MAX, PROTOCOLS};

/// Which end a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection; speaks first.
    Dialer,
    /// Accepted it; answers.
    Acceptor,
}

/// What this side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its id.
    pub member: MemberId,
    /// See [`PeerHello`].
    pub hello: PeerHello,
    /// Where it can be dialled: the other may not have it in its list yet.
    pub urls: Vec<String>,
}

/// What a link tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both sides agree: messages may be sent.
    Opened {
        /// Who the other side is.
        peer: MemberId,
        /// What it said of itself.
        hello: PeerHello,
        /// Where it can be dialled.
        urls: Vec<String>,
    },
    /// Somebody wants to join and asks who is here: answer with [`Link::tell_roster`], then close.
    Inquired,
    /// A message.
    Message(Message),
    /// A ping, which is answered already, or the answer to one: the other side is alive.
    Alive,
    /// Write what is left and close the connection.
    Closed(LinkError),
}

/// Why one side will not talk to the other. The numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The refusing side is of this cluster.
    Cluster(ClusterId),
    /// The refusing side is this member, and not the one that was wanted.
    Member(MemberId),
    /// The refusing side speaks these protocols, oldest and newest.
    Protocol(u16, u16),
    /// The refusing side does not know the other as a member.
    Unknown,
    /// Both sides have the same member id.
    Twin,
    /// The refusing side is shutting down.
    Stopping,
    /// The other was removed from the cluster, for ever.
    Removed,
    /// The other has not the data directory that the cluster knows the member by.
    Reborn,
}

impl Refusal {
    /// The reason as a sentence about `who`, the refusing side.
    fn of(self, who: &str) -> String {
        match self {
            Refusal::Cluster(cluster) => format!(
                "{who} belongs to cluster {cluster}; check --initial-cluster and \
                 --initial-cluster-token on both"
            ),
            Refusal::Member(member) => {
                format!("{who} is member {member} and not the one dialled; check the peer URLs")
            }
            Refusal::Protocol(oldest, newest) => format!(
                "{who} speaks peer protocols {oldest} to {newest}; upgrade the older member first"
            ),
            Refusal::Unknown => format!("{who} does not have the other in its member list"),
            Refusal::Twin => {
                "both ends have the same member id; a member dialled itself, or a data \
                              directory was copied"
                    .to_string()
            }
            Refusal::Stopping => format!("{who} is shutting down"),
            Refusal::Removed => {
                format!("{who} says that the other has been permanently removed from the cluster")
            }
            Refusal::Reborn => format!(
                "{who} knows the other's member id with another data directory; a member that has lost \
                 its data must be removed and added anew"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("it"))
    }
}

/// Why a link is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The bytes are not the peer protocol, or damaged.
    Frame(FrameError),
    /// The other side refused this one.
    RefusedBy(Refusal),
    /// This side refused the other, which said that it is this member of this cluster.
    Refused {
        /// Why.
        why: Refusal,
        /// The cluster it named.
        cluster: ClusterId,
        /// The member it named.
        peer: MemberId,
    },
    /// A message before the handshake's end, or a handshake after it.
    OutOfOrder(Kind),
    /// A message between other members than the two ends.
    Misaddressed {
        /// Sender in the message.
        from: MemberId,
        /// Receiver in the message.
        to: MemberId,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Frame(error) => error.fmt(f),
            LinkError::RefusedBy(why) => {
                write!(f, "the peer refused this member: {}", why.of("the peer"))
            }
            LinkError::Refused { why, cluster, peer } => {
                let why = why.of("this member");
                write!(f, "refused member {peer} of cluster {cluster}: {why}")
            }
            LinkError::OutOfOrder(kind) => {
                write!(f, "peer frame {kind:?} at the wrong time of the handshake")
            }
            LinkError::Misaddressed { from, to } => {
                write!(f, "the peer sent a raft message from {from} to {to} over this connection")
            }
        }
    }
}

impl std::error::Error for LinkError {}

/// Why [`Link::send`] did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The handshake is not over, or the link is closed.
    NotOpen,
    /// The other side speaks a protocol without this message.
    TooOld,
    /// The frame would be over the bound, and the other side would close the connection.
    TooLarge,
}

/// Largest frame of somebody who has not said who it is.
const GREETING_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the other side's Hello.
    Greeting,
    /// Messages flow to and from this member.
    Open(MemberId),
    /// `Closed` was given.
    Closed,
}

/// One end of a connection; see the head of this file.
#[derive(Debug)]
pub struct Link {
    role: Role,
    local: LocalPeer,
    expect: Option<MemberId>,
    phase: Phase,
    met: Option<MemberId>,
    reader: FrameReader,
    output: BytesMut,
    frame_max: usize,
    /// The newest that both sides know.
    protocol: u16,
}

impl Link {
    /// A new connection. A dialler gives whom it expects to find; an acceptor mostly expects anyone
    /// and, on `Opened`, looks the peer up in its member list, or else calls [`Link::refuse`].
    pub fn new(role: Role, local: LocalPeer, expect: Option<MemberId>) -> Link {
        Link::with_frame_max(role, local, expect, FRAME_BYTES_MAX)
    }

    /// Same, with another bound on frames; all members should use the same.
    pub fn with_frame_max(
        role: Role,
        local: LocalPeer,
        expect: Option<MemberId>,
        frame_max: usize,
    ) -> Link {
        let reader = FrameReader::new(frame_max.min(GREETING_BYTES_MAX));
        let phase = Phase::Greeting;
        let mut link = Link {
            role,
            local,
            expect,
            phase,
            met: None,
            reader,
            output: BytesMut::new(),
            frame_max,
            protocol: PROTOCOLS.0,
        };
        if role == Role::Dialer {
            link.greet(expect.unwrap_or_default());
        }
        link
    }

    /// The peer, once the link is open.
    pub fn peer(&self) -> Option<MemberId> {
        match self.phase {
            Phase::Open(peer) => Some(peer),
            Phase::Greeting | Phase::Closed => None,
        }
    }

    /// Whom the link was opened with; it stays known after the link's end.
    pub fn met(&self) -> Option<MemberId> {
        self.met
    }

    /// Takes in what was read.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<LinkEvent>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.reader.push(bytes);
        loop {
            let step = match self.reader.pop() {
                Ok(Some(frame)) => self.take(&frame),
                Ok(None) => return,
                Err(error) => Err(self.garbage(error)),
            };
            match step {
                Ok(event) => out.push(event),
                Err(error) => {
                    self.phase = Phase::Closed;
                    out.push(LinkEvent::Closed(error));
                    return;
                }
            }
        }
    }

    /// Queues a message for [`Link::take_output`].
    pub fn send(&mut self, message: &Message) -> Result<(), SendError> {
        if self.peer().is_none() {
            return Err(SendError::NotOpen);
        }
        if self.protocol < protocol_of(message) {
            return Err(SendError::TooOld);
        }
        if codec::frame_len(message) > self.frame_max {
            return Err(SendError::TooLarge);
        }
        codec::encode_frame(message, &mut self.output);
        Ok(())
    }

    /// Asks the other side for a sign of life; nothing happens before the link is open.
    pub fn ping(&mut self) {
        if self.peer().is_some() {
            write_frame(Kind::Ping, &mut self.output, |_| {});
        }
    }

    /// Bytes that [`Link::take_output`] would give; the owner bounds its queue by it.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// What must be written, in order; empty when there is nothing.
    pub fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// Ends the link for a reason that the other side is told. No event follows.
    pub fn refuse(&mut self, why: Refusal) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            put_refusal(why, &mut self.output);
        }
    }

    /// Answers an inquiry; the link is at its end.
    pub fn tell_roster(&mut self, roster: &Roster) {
        self.phase = Phase::Closed;
        roster.write(&mut self.output);
    }

    fn greet(&mut self, to: MemberId) {
        let local = &self.local;
        write_frame(Kind::Hello, &mut self.output, |out| {
            out.put_u16_le(PROTOCOLS.0);
            out.put_u16_le(PROTOCOLS.1);
            out.put_u64_le(local.cluster.0);
            out.put_u64_le(local.member.0);
            out.put_u64_le(to.0);
            out.put_u64_le(local.hello.incarnation.0);
            codec::put_position(local.hello.last, out);
            out.put_u64_le(local.hello.birth);
            put_texts(&local.urls, out);
        });
    }

    fn take(&mut self, frame: &Frame) -> Result<LinkEvent, LinkError> {
        match (frame.kind, self.phase) {
            (Kind::Refuse, _) => Err(LinkError::RefusedBy(take_refusal(frame)?)),
            (Kind::Hello, Phase::Greeting) => self.meet(Greeting::read(frame)?),
            (Kind::Inquire, Phase::Greeting) if self.role == Role::Acceptor => {
                Ok(LinkEvent::Inquired)
            }
            (Kind::Ping | Kind::Pong, Phase::Open(_)) => self.alive(frame),
            (_, Phase::Open(peer)) if frame.kind != Kind::Hello => {
                let message = codec::decode(frame)?;
                if let Message::Raft(raft) = &message {
                    self.check_address(raft, peer)?;
                }
                Ok(LinkEvent::Message(message))
            }
            (kind, _) => Err(LinkError::OutOfOrder(kind)),
        }
    }

    fn alive(&mut self, frame: &Frame) -> Result<LinkEvent, LinkError> {
        Fields::of(frame).end()?;
        if frame.kind == Kind::Ping {
            write_frame(Kind::Pong, &mut self.output, |_| {});
        }
        Ok(LinkEvent::Alive)
    }

    fn meet(&mut self, greeting: Greeting) -> Result<LinkEvent, LinkError> {
        if let Some(why) = self.objection(&greeting) {
            put_refusal(why, &mut self.output);
            return Err(LinkError::Refused { why, cluster: greeting.cluster, peer: greeting.from });
        }
        if self.role == Role::Acceptor {
            self.greet(greeting.from);
        }
        self.phase = Phase::Open(greeting.from);
        self.met = Some(greeting.from);
        self.protocol = greeting.newest.min(PROTOCOLS.1);
        self.reader.set_max(self.frame_max);
        let Greeting { from: peer, hello, urls, .. } = greeting;
        Ok(LinkEvent::Opened { peer, hello, urls })
    }

    fn objection(&self, greeting: &Greeting) -> Option<Refusal> {
        let (oldest, newest) = PROTOCOLS;
        if greeting.oldest > newest || greeting.newest < oldest {
            return Some(Refusal::Protocol(oldest, newest));
        }
        if greeting.cluster != self.local.cluster && !mutant::on(18) {
            return Some(Refusal::Cluster(self.local.cluster));
        }
        if greeting.from == self.local.member {
            return Some(Refusal::Twin);
        }
        if greeting.to != self.local.member && greeting.to != MemberId::default() {
            return Some(Refusal::Member(self.local.member));
        }
        let expected = self.expect.unwrap_or(greeting.from);
        // The same id as nobody's stands for "whoever you are" in a Hello, so nobody may have it.
        if greeting.from != expected || greeting.from == MemberId::default() {
            return Some(Refusal::Unknown);
        }
        None
    }

    /// Raft trusts `from`, so the sender may only speak for itself. One exception: a follower
    /// passes a transfer request on to the leader in the name of the member that shall lead.
    fn check_address(&self, raft: &RaftMessage, peer: MemberId) -> Result<(), LinkError> {
        let from_peer = raft.from == peer || raft.kind == RaftKind::TransferLeader;
        if raft.to == self.local.member && from_peer {
            Ok(())
        } else {
            Err(LinkError::Misaddressed { from: raft.from, to: raft.to })
        }
    }

    /// An HTTP client gets a sentence that its operator can read.
    fn garbage(&mut self, error: FrameError) -> LinkError {
        let greeting = self.phase == Phase::Greeting && self.role == Role::Acceptor;
        if let FrameError::NotPeer(Seen::Http(_)) = error
            && greeting
        {
            let text = "this port speaks Holdfast's peer protocol, not HTTP: members of etcd \
                        cannot join, and clients belong on the client URL\n";
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                text.len()
            );
            self.output.put_slice(head.as_bytes());
            self.output.put_slice(text.as_bytes());
        }
        LinkError::Frame(error)
    }
}

/// The first protocol that has a message.
fn protocol_of(message: &Message) -> u16 {
    match message {
        Message::Raft(_)
        | Message::LeaseAsk(_)
        | Message::LeaseAnswer(_)
        | Message::Transfer(_)
        | Message::ChangeRefused(_) => 1,
        Message::HashAsk(_) | Message::HashAnswer(_) => 2,
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> LinkError {
        LinkError::Frame(error)
    }
}

/// A Hello's fields.
struct Greeting {
    oldest: u16,
    newest: u16,
    cluster: ClusterId,
    from: MemberId,
    to: MemberId,
    hello: PeerHello,
    urls: Vec<String>,
}

impl Greeting {
    /// Later protocols may append fields, so what follows the known ones is not an error.
    fn read(frame: &Frame) -> Result<Greeting, FrameError> {
        let mut fields = Fields::of(frame);
        Ok(Greeting {
            oldest: fields.u16()?,
            newest: fields.u16()?,
            cluster: ClusterId(fields.u64()?),
            from: MemberId(fields.u64()?),
            to: MemberId(fields.u64()?),
            hello: PeerHello {
                incarnation: Incarnation(fields.u64()?),
                last: fields.position()?,
                birth: fields.u64()?,
            },
            urls: take_texts(&mut fields)?,
        })
    }
}

fn put_refusal(why: Refusal, out: &mut BytesMut) {
    let (code, first, second) = match why {
        Refusal::Cluster(cluster) => (1, cluster.0, 0),
        Refusal::Member(member) => (2, member.0, 0),
        Refusal::Protocol(oldest, newest) => (3, u64::from(oldest), u64::from(newest)),
        Refusal::Unknown => (4, 0, 0),
        Refusal::Twin => (5, 0, 0),
        Refusal::Stopping => (6, 0, 0),
        Refusal::Removed => (7, 0, 0),
        Refusal::Reborn => (8, 0, 0),
    };
    write_frame(Kind::Refuse, out, |out| {
        out.put_u16_le(code);
        out.put_u64_le(first);
        out.put_u64_le(second);
    });
}

fn take_refusal(frame: &Frame) -> Result<Refusal, FrameError> {
    let mut fields = Fields::of(frame);
    let (code, first, second) = (fields.u16()?, fields.u64()?, fields.u64()?);
    Ok(match code {
        1 => Refusal::Cluster(ClusterId(first)),
        2 => Refusal::Member(MemberId(first)),
        3 => Refusal::Protocol(first as u16, second as u16),
        4 => Refusal::Unknown,
        5 => Refusal::Twin,
        6 => Refusal::Stopping,
        7 => Refusal::Removed,
        8 => Refusal::Reborn,
        _ => return Err(fields.bad("reason")),
    })
}

#[cfg(test)]
mod tests;
