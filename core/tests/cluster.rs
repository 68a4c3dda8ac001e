//! Several nodes in one test, with instant disks and links: the smallest world a node runs in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdfast_core::entry::HardState;
use holdfast_core::id::{Incarnation, LeaseId, MemberId, RequestId, Revision, WalSeq};
use holdfast_core::input::Input;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::message::{Message, SnapshotMeta};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::node::{Node, NodeConfig};
use holdfast_core::output::{Effect, Output};
use holdfast_core::raft::Boot;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Op, Put, Request};
use holdfast_core::response::{Body, Member, Response};
use holdfast_core::status::Role;
use holdfast_core::store::{Store, View};
use holdfast_core::time::Instant;

struct Slot {
    node: Node,
    store: MemoryStore,
    inbox: VecDeque<Input>,
}

/// Instant disks, instant links, one clock.
struct Cluster {
    now: Instant,
    slots: BTreeMap<MemberId, Slot>,
    answers: Vec<(RequestId, Result<Response, Rejection>)>,
    cut: Vec<MemberId>,
    sequence: u64,
}

impl Cluster {
    fn new(members: u64) -> Cluster {
        let ids: Vec<MemberId> = (1..=members).map(MemberId).collect();
        let genesis: Vec<Member> =
            ids.iter().map(|id| Member { id: *id, ..Member::default() }).collect();
        let slots = ids.iter().map(|id| {
            let mut store = MemoryStore::default();
            store.absorb(machine::genesis(&genesis));
            let boot = Boot {
                checkpoint: SnapshotMeta { voters: ids.clone(), ..SnapshotMeta::default() },
                hard_state: HardState::default(),
                entries: Vec::new(),
                last_seq: WalSeq(0),
            };
            let config = NodeConfig {
                member: *id,
                incarnation: Incarnation(id.0),
                limits: Limits::default(),
                seed: 7,
            };
            let node = Node::new(config, boot, &store, Instant(0)).expect("an empty log starts");
            (*id, Slot { node, store, inbox: VecDeque::new() })
        });
        let slots = slots.collect();
        let mut cluster =
            Cluster { now: Instant(0), slots, answers: Vec::new(), cut: Vec::new(), sequence: 0 };
        cluster.run(Duration::from_secs(5));
        cluster
    }

    /// Lets time pass in steps of 10 ms.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            for _ in 0..20 {
                for id in self.slots.keys().copied().collect::<Vec<_>>() {
                    self.turn(id);
                }
            }
        }
    }

    fn turn(&mut self, id: MemberId) {
        let mut out = Output::default();
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        while let Some(input) = slot.inbox.pop_front() {
            slot.node.step(self.now, input, &mut slot.store, &mut out);
        }
        slot.node.step(self.now, Input::Drained, &mut slot.store, &mut out);
        for effect in out.effects {
            match effect {
                Effect::Append(append) => self.give(id, Input::Synced { seq: append.seq }),
                Effect::Send { to, message } => {
                    if !self.cut.contains(&id) && !self.cut.contains(&to) {
                        self.give(to, Input::Message { from: id, message });
                    }
                }
                Effect::Reply { id, result } => self.answers.push((id, result)),
                Effect::Publish { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn give(&mut self, to: MemberId, input: Input) {
        self.slots.get_mut(&to).expect("a member of the cluster").inbox.push_back(input);
    }

    fn leader(&self) -> MemberId {
        let leads = |slot: &Slot| slot.node.status(&slot.store).role == Role::Leader;
        let leaders = self.slots.iter().filter(|(id, slot)| leads(slot) && !self.cut.contains(id));
        let leaders: Vec<MemberId> = leaders.map(|(id, _)| *id).collect();
        assert_eq!(leaders.len(), 1, "one leader: {leaders:?}");
        leaders[0]
    }

    fn follower(&self) -> MemberId {
        let leader = self.leader();
        let others = self.slots.keys().find(|id| **id != leader && !self.cut.contains(id));
        *others.expect("a cluster of several")
    }

    fn ask(&mut self, member: MemberId, ask: Ask) -> Result<Response, Rejection> {
        self.sequence += 1;
        let incarnation = Incarnation(member.0);
        let id = RequestId { member, incarnation, sequence: self.sequence };
        let deadline = self.now + Duration::from_secs(7);
        let request = Request { id, identity: Identity::default(), ask, deadline };
        self.give(member, Input::Request(request));
        for _ in 0..80 {
            self.run(Duration::from_millis(100));
            if let Some(at) = self.answers.iter().position(|(answered, _)| *answered == id) {
                return self.answers.remove(at).1;
            }
        }
        panic!("{id} was never answered");
    }

    fn put(&mut self, member: MemberId, key: &'static str) -> Result<Response, Rejection> {
        let put = Put {
            key: key.into(),
            value: "v".into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        self.ask(member, Ask::Propose(Op::Put(put)))
    }
}

#[test]
fn a_lone_member_leads_and_answers() {
    let mut cluster = Cluster::new(1);
    let response = cluster.put(MemberId(1), "a").expect("a lone member can put");
    assert_eq!(response.revision, Revision(2));
    assert!(cluster.ask(MemberId(1), Ask::ReadIndex).is_ok());
}

#[test]
fn a_followers_put_is_applied_everywhere_and_read_anywhere() {
    let mut cluster = Cluster::new(3);
    let follower = cluster.follower();
    assert!(cluster.put(follower, "a").is_ok());
    assert!(cluster.ask(follower, Ask::ReadIndex).is_ok());
    cluster.run(Duration::from_secs(1));
    for slot in cluster.slots.values() {
        assert_eq!(slot.store.mark().revision, Revision(2));
    }
}

#[test]
fn an_isolated_leader_confirms_nothing_and_its_successor_does() {
    let mut cluster = Cluster::new(3);
    let old = cluster.leader();
    cluster.cut.push(old);
    cluster.run(Duration::from_secs(5));
    let new = cluster.leader();
    assert_ne!(new, old);
    assert!(cluster.put(new, "a").is_ok());
    let stale = cluster.ask(old, Ask::ReadIndex);
    assert!(stale.is_err(), "{stale:?}");
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
    assert!(cluster.ask(old, Ask::ReadIndex).is_ok());
    assert_eq!(cluster.slots[&old].store.mark().revision, Revision(2));
}

#[test]
fn a_lease_is_renewed_through_a_follower_and_expires_without_renewal() {
    let mut cluster = Cluster::new(3);
    let follower = cluster.follower();
    let id = LeaseId(77);
    let grant = cluster.ask(follower, Ask::Propose(Op::LeaseGrant { id, ttl: 3 }));
    assert!(grant.is_ok());
    for _ in 0..5 {
        cluster.run(Duration::from_secs(2));
        let renewed = cluster.ask(follower, Ask::LeaseKeepAlive { id }).expect("it lives");
        assert_eq!(renewed.body, Body::LeaseKeepAlive { ttl: 3 });
    }
    cluster.run(Duration::from_secs(5));
    let gone = cluster.ask(follower, Ask::LeaseKeepAlive { id }).expect("an answer, not an error");
    assert_eq!(gone.body, Body::LeaseKeepAlive { ttl: 0 });
    assert!(machine::leases(&cluster.slots[&follower].store).is_empty());
}

#[test]
fn a_message_in_anothers_name_is_ignored() {
    let mut cluster = Cluster::new(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let term = cluster.slots[&leader].node.status(&cluster.slots[&leader].store).term;
    let forged = holdfast_core::message::RaftMessage {
        kind: holdfast_core::message::RaftKind::Heartbeat,
        from: leader,
        to: follower,
        term: holdfast_core::id::Term(term.0 + 100),
        log: holdfast_core::id::Position::default(),
        entries: Vec::new(),
        commit: holdfast_core::id::Index(0),
        commit_term: holdfast_core::id::Term(0),
        reject: false,
        reject_hint: holdfast_core::id::Index(0),
        request_snapshot: holdfast_core::id::Index(0),
        snapshot: None,
        context: bytes::Bytes::new(),
        priority: 0,
    };
    cluster.give(follower, Input::Message { from: follower, message: Message::Raft(forged) });
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.slots[&leader].node.status(&cluster.slots[&leader].store).term, term);
}
