//! A member of another cluster that was made of a copy of one of ours: the same ids, the same birth, and
//! another cluster id. It dials a member, and says what it has to say if the shipped handshake lets it.
//!
//! Leaves out what else it does: nothing of it is ever answered.
//!
//! Worked example: m1's copy greets m0 as m1 of cluster `bad`; m0's end of the link refuses.

use holdfast_core::codec;
use holdfast_core::command::Command;
use holdfast_core::entry::{Entry, EntryKind};
use holdfast_core::id::{ClusterId, Incarnation, LeaseId, Position, RequestId, Term};
use holdfast_core::message::{Message, PeerHello, RaftKind, RaftMessage};
use holdfast_core::request::{Identity, Op, Put};
use holdfast_net::peer::link::{Link, LinkEvent, LocalPeer, Role};
use holdfast_server::host::Event;

use super::{CLUSTER, World, member_id};

/// The other cluster.
const OTHER: ClusterId = ClusterId(0x0bad_c1a5);

impl World {
    /// A copy of a member dials another member.
    pub(super) fn stranger(&mut self, at: usize, copy: usize) {
        let (own, peer) = (member_id(at), member_id(copy));
        let Some(life) = &self.members[at].life else { return };
        let Some(birth) = self.members[at].known.births.get(&peer).copied() else { return };
        if own == peer {
            return;
        }
        let last = life.driver.hello().last;
        let told = PeerHello { incarnation: Incarnation(self.chance.next() | 1), last, birth };
        let urls = Vec::new;
        let local =
            LocalPeer { cluster: CLUSTER, member: own, hello: life.driver.hello(), urls: urls() };
        let mut here = Link::new(Role::Acceptor, local, None);
        let local = LocalPeer { cluster: OTHER, member: peer, hello: told, urls: urls() };
        let mut there = Link::new(Role::Dialer, local, Some(own));
        let (mut heard, mut ignored) = (Vec::new(), Vec::new());
        here.receive(&there.take_output(), &mut heard);
        there.receive(&here.take_output(), &mut ignored);
        let refused = there.send(&self.foreign_put(at, copy)).is_err();
        self.counts.strangers_refused += u64::from(refused);
        here.receive(&there.take_output(), &mut heard);
        let objection = self.members[at].known.objection(peer, birth);
        let Some(life) = self.members[at].life.as_mut().filter(|_| objection.is_none()) else {
            return;
        };
        for event in heard {
            if let LinkEvent::Message(message) = event {
                life.inbox.push(Event::Message { from: peer, message });
            }
        }
        self.poke(at);
    }

    /// What a client of the other cluster has asked there.
    fn foreign_put(&mut self, at: usize, copy: usize) -> Message {
        let (from, to) = (member_id(copy), member_id(at));
        let (incarnation, sequence) = (Incarnation(self.chance.next() | 1), 1);
        let put = Put {
            key: "k/of-another-cluster".into(),
            value: "x".into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        let id = RequestId { member: from, incarnation, sequence };
        let command = Command { id, identity: Identity::default(), op: Op::Put(put) };
        let data = codec::encode_entry(&[command]);
        let entries = vec![Entry { at: Position::default(), kind: EntryKind::Normal, data }];
        let plain = RaftMessage::new(RaftKind::Propose, from, to, Term(0));
        Message::Raft(RaftMessage { entries, ..plain })
    }
}
