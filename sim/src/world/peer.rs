//! Traffic between members: connections, greetings, messages in the real peer codec.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::id::MemberId;
use holdfast_core::membership::Stranger;
use holdfast_core::message::{Message, PeerHello, RaftKind, Transfer};
use holdfast_core::mutant;
use holdfast_net::peer::codec;
use holdfast_net::peer::frame::FrameReader;
use holdfast_server::host::Event;

use super::member::Armed;
use super::{Happening, World, member_id, place_of};
use crate::checker::Seen;
use crate::clock::Moment;
use crate::report::Race;

/// How often an unconnected pair tries.
const REDIAL: Duration = Duration::from_millis(150);

/// Largest frame a member takes.
const FRAME_MAX: usize = 64 << 20;

impl World {
    /// Two members try to connect, and try again for ever.
    pub(super) fn dial(&mut self, a: usize, b: usize) {
        let jitter = Duration::from_micros(self.chance.below(100_000));
        self.after(REDIAL + jitter, Happening::Dial { a, b });
        let up = |world: &World, n: usize| {
            let slot = &world.members[n];
            slot.life.is_some() && slot.paused_until <= world.now
        };
        if up(self, a) && up(self, b) && self.fenced(a, b) {
            return;
        }
        let possible = up(self, a) && up(self, b) && !self.network.is_cut(a, b);
        if self.network.connection(a, b).up || !possible {
            return;
        }
        let connection = self.network.set_connection(a, b, true).number;
        for (at, peer) in [(a, b), (b, a)] {
            let life = self.members[peer].life.as_ref().expect("it is up");
            let hello = life.driver.hello();
            let [arrival, _] = self.network.link(peer, at).send(self.now, 64);
            let when = arrival.unwrap_or(self.now.after(Duration::from_millis(3)));
            self.at(when, Happening::Greet { at, peer, connection, hello });
        }
    }

    /// A member does not talk to one that was removed or has lost its data, and tells it so if it can be
    /// reached: that is the handshake of the shipped peers, at both ends.
    fn fenced(&mut self, a: usize, b: usize) -> bool {
        let mut fenced = false;
        for (at, peer) in [(a, b), (b, a)] {
            let why = match self.objection(at, peer) {
                Some(why @ (Stranger::Removed | Stranger::Reborn)) => why,
                Some(Stranger::Unknown) | None => continue,
            };
            fenced = true;
            let told = !self.network.is_cut(a, b);
            if let Some(life) = self.members[peer].life.as_mut().filter(|_| told) {
                life.inbox.push(Event::Expelled(why));
                self.poke(peer);
            }
        }
        fenced
    }

    fn objection(&mut self, at: usize, peer: usize) -> Option<Stranger> {
        let birth = self.members[peer].life.as_ref()?.driver.engine().birth();
        let slot = &mut self.members[at];
        match slot.known.objection(member_id(peer), birth) {
            Some(why @ (Stranger::Removed | Stranger::Reborn)) => return Some(why),
            Some(Stranger::Unknown) | None => {}
        }
        let met = *slot.met.entry(peer).or_insert(birth);
        (met != birth && !mutant::on(93)).then_some(Stranger::Reborn)
    }

    /// A member's list has changed: it hangs up on those who were removed.
    pub(super) fn part_with_strangers(&mut self, member: usize) {
        for peer in (0..self.members.len()).filter(|peer| *peer != member) {
            if self.members[member].known.removed.contains(&member_id(peer)) {
                self.disconnect(member, peer);
            }
        }
    }

    pub(super) fn greet(&mut self, at: usize, peer: usize, connection: u64, hello: PeerHello) {
        if self.network.connection(at, peer).number != connection {
            return;
        }
        let slot = &mut self.members[at];
        let Some(life) = &mut slot.life else { return };
        slot.greeted.insert(peer, connection);
        life.inbox.push(Event::Connected { peer: member_id(peer), hello });
        self.poke(at);
    }

    pub(super) fn broken(&mut self, at: usize, peer: usize, connection: u64) {
        if self.network.connection(at, peer).number != connection {
            return;
        }
        let slot = &mut self.members[at];
        slot.greeted.remove(&peer);
        let Some(life) = &mut slot.life else { return };
        life.inbox.push(Event::Disconnected { peer: member_id(peer) });
        self.poke(at);
    }

    /// A connection dies; its ends learn of it one after the other.
    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        if !self.network.connection(a, b).up {
            return;
        }
        let connection = self.network.set_connection(a, b, false).number;
        for (at, peer) in [(a, b), (b, a)] {
            let delay = Duration::from_micros(500 + self.chance.below(50_000));
            self.after(delay, Happening::Broken { at, peer, connection });
        }
    }

    pub(super) fn disconnect_all(&mut self, member: usize) {
        for peer in (0..self.members.len()).filter(|peer| *peer != member) {
            self.disconnect(member, peer);
        }
    }

    /// A member gives a message to the network.
    pub(super) fn send(&mut self, from: usize, to: MemberId, message: &Message) {
        self.see(&Seen::Said { member: from, to, message });
        if asks_for_a_read(message)
            && let Some(lasts) = self.members[from].stiffens.take()
        {
            self.pause(from, self.now.after(lasts));
        }
        let Some(place) = place_of(to).filter(|place| *place < self.members.len()) else {
            return self.broke("P2", format!("member {from} sends to {to}, which does not exist"));
        };
        let connection = self.network.connection(from, place);
        if !connection.up {
            return;
        }
        let mut frame = BytesMut::new();
        codec::encode_frame(message, &mut frame);
        let frame = frame.freeze();
        self.counts.messages += 1;
        if matches!(message, Message::Raft(raft) if raft.kind == RaftKind::TimeoutNow) {
            self.race(Race::Transfer);
        }
        // A connection never repeats what it carries, and a forwarded proposal is not sent again: a
        // second copy of one would be a second request. Raft must bear copies of everything else.
        let once = matches!(message, Message::Raft(raft) if raft.kind == RaftKind::Propose);
        let [first, again] = self.network.link(from, place).send(self.now, frame.len());
        for when in [first, again.filter(|_| !once)].into_iter().flatten() {
            let (connection, frame) = (connection.number, frame.clone());
            self.at(when, Happening::Arrive { from, to: place, connection, frame });
        }
    }

    /// A message comes to a member that has been greeted on the connection it was sent on.
    pub(super) fn arrive(&mut self, from: usize, to: usize, connection: u64, frame: &Bytes) {
        let current = self.network.connection(from, to);
        let slot = &mut self.members[to];
        let greeted = slot.greeted.get(&from) == Some(&connection);
        let Some(life) = slot.life.as_mut().filter(|_| current.up && greeted) else { return };
        let Some(message) = decode(frame) else {
            return self.broke("P2", format!("what member {from} sent cannot be read"));
        };
        if let Message::Raft(raft) = &message
            && raft.kind == RaftKind::TimeoutNow
            && raft.term == life.driver.host().status.term
        {
            slot.ordered = Some(raft.term);
        }
        if self.members[from].wiped {
            self.see(&Seen::Heeded { member: to, from });
        }
        let slot = &mut self.members[to];
        let Some(life) = slot.life.as_mut() else { return };
        let chunk = matches!(&message, Message::Transfer(Transfer::Chunk { .. }));
        life.inbox.push(Event::Message { from: member_id(from), message });
        if chunk {
            slot.chunks += 1;
            let number = slot.life_number;
            if let Some(Armed { power, lasts, .. }) = slot.armed.filter(|armed| armed.receiving) {
                slot.armed = None;
                let happening = Happening::Crash { member: to, life: number, power, lasts };
                let delay = Duration::from_micros(self.chance.below(20_000));
                self.after(delay, happening);
            }
        }
        self.poke(to);
    }

    /// The last moment at which anything may still be under way to a member.
    pub(super) fn pause(&mut self, member: usize, until: Moment) {
        let slot = &mut self.members[member];
        slot.paused_until = slot.paused_until.max(until);
        self.wake(member, until);
    }
}

/// Whether others shall confirm a read.
fn asks_for_a_read(message: &Message) -> bool {
    let Message::Raft(raft) = message else { return false };
    let round = raft.kind == RaftKind::Heartbeat && !raft.context.is_empty();
    raft.kind == RaftKind::ReadIndex || round
}

fn decode(frame: &[u8]) -> Option<Message> {
    let mut reader = FrameReader::new(FRAME_MAX);
    reader.push(frame);
    let frame = reader.pop().ok()??;
    codec::decode(&frame).ok()
}

/// A message, for people.
pub(super) fn describe(frame: &[u8]) -> String {
    match decode(frame) {
        Some(Message::Raft(m)) => format!(
            "{:?} {} log {} +{} commit {} {}",
            m.kind,
            m.term,
            m.log,
            m.entries.len(),
            m.commit,
            if m.reject { "no" } else { "" }
        ),
        Some(Message::Transfer(Transfer::Chunk { number, file, offset, data })) => {
            format!("Chunk {number} file {file} {offset}+{}", data.len())
        }
        Some(other) => format!("{other:?}"),
        None => format!("{} bytes that cannot be read", frame.len()),
    }
}
