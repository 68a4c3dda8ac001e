//! Behaviour that is asserted rather than told, in the same small world.

use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, MemberId, Revision, Term};
use holdfast_core::input::Input;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::message::{Message, RaftKind, RaftMessage};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Op, Put};
use holdfast_core::response::{Body, Response};
use holdfast_core::status::{Role, Status};
use holdfast_core::store::View;

use super::world::World;

struct Cluster(World);

impl Cluster {
    fn new(members: u64) -> Cluster {
        let mut world = World::new(members, Limits::default(), false);
        world.run(Duration::from_secs(5));
        Cluster(world)
    }

    fn status(&self, id: MemberId) -> Status {
        let slot = &self.0.slots[&id];
        slot.node.as_ref().expect("nobody crashes here").status()
    }

    fn others(&self, id: MemberId) -> Vec<MemberId> {
        self.0.slots.keys().copied().filter(|other| *other != id).collect()
    }

    /// A member is isolated when its links to all others are cut.
    fn is_isolated(&self, id: MemberId) -> bool {
        let others = self.others(id);
        !others.is_empty() && others.iter().all(|other| self.0.is_cut(id, *other))
    }

    fn isolate(&mut self, id: MemberId) {
        for other in self.others(id) {
            self.0.cut(id, other);
        }
    }

    fn leader(&self) -> MemberId {
        let all = self.0.slots.keys().copied();
        let leads = |id: &MemberId| self.status(*id).role == Role::Leader && !self.is_isolated(*id);
        let leaders: Vec<MemberId> = all.filter(leads).collect();
        assert_eq!(leaders.len(), 1, "one leader: {leaders:?}");
        leaders[0]
    }

    fn follower(&self) -> MemberId {
        let others = self.others(self.leader());
        others.into_iter().find(|id| !self.is_isolated(*id)).expect("a cluster of several")
    }

    fn ask(&mut self, member: MemberId, ask: Ask) -> Result<Response, Rejection> {
        let id = self.0.ask(member, vec![ask])[0];
        for _ in 0..80 {
            if let Some(at) = self.0.answers.iter().position(|(answered, _)| *answered == id) {
                return self.0.answers.remove(at).1;
            }
            self.0.run(Duration::from_millis(100));
        }
        panic!("{id} was never answered");
    }

    fn put(&mut self, member: MemberId, key: &'static str) -> Result<Response, Rejection> {
        self.put_value(member, key, "v".into())
    }

    fn put_value(
        &mut self,
        member: MemberId,
        key: &'static str,
        value: Bytes,
    ) -> Result<Response, Rejection> {
        let put = Put {
            key: key.into(),
            value,
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
fn a_member_that_is_about_to_stop_saves_what_a_start_would_have_to_replay() {
    let mut cluster = Cluster::new(1);
    let member = MemberId(1);
    cluster.put(member, "a").expect("a lone member can put");
    cluster.ask(member, Ask::TransferLeadership).expect("it is asked");
    cluster.0.run(Duration::from_secs(1));
    let little = cluster.status(member);
    assert!(
        little.is_saved() && little.unsaved_bytes > 0,
        "a checkpoint is not worth it: {little:?}"
    );
    cluster.put_value(member, "a", vec![b'v'; 1 << 20].into()).expect("it fits");
    assert!(!cluster.status(member).is_saved());
    cluster.ask(member, Ask::TransferLeadership).expect("it is asked");
    cluster.0.run(Duration::from_secs(1));
    let saved = cluster.status(member);
    assert!(saved.is_saved() && saved.unsaved_bytes == 0, "{saved:?}");
}

#[test]
fn a_followers_put_is_applied_everywhere_and_read_anywhere() {
    let mut cluster = Cluster::new(3);
    let follower = cluster.follower();
    assert!(cluster.put(follower, "a").is_ok());
    assert!(cluster.ask(follower, Ask::ReadIndex).is_ok());
    cluster.0.run(Duration::from_secs(1));
    for slot in cluster.0.slots.values() {
        assert_eq!(slot.store.mark().revision, Revision(2));
    }
}

#[test]
fn an_isolated_leader_confirms_nothing_and_its_successor_does() {
    let mut cluster = Cluster::new(3);
    let old = cluster.leader();
    cluster.isolate(old);
    cluster.0.run(Duration::from_secs(5));
    let new = cluster.leader();
    assert_ne!(new, old);
    assert!(cluster.put(new, "a").is_ok());
    let stale = cluster.ask(old, Ask::ReadIndex);
    assert!(stale.is_err(), "{stale:?}");
    cluster.0.heal();
    cluster.0.run(Duration::from_secs(2));
    assert!(cluster.ask(old, Ask::ReadIndex).is_ok());
    assert_eq!(cluster.0.slots[&old].store.mark().revision, Revision(2));
}

#[test]
fn a_lease_is_renewed_through_a_follower_and_expires_without_renewal() {
    let mut cluster = Cluster::new(3);
    let follower = cluster.follower();
    let id = LeaseId(77);
    let grant = cluster.ask(follower, Ask::Propose(Op::LeaseGrant { id, ttl: 3 }));
    assert!(grant.is_ok());
    for _ in 0..5 {
        cluster.0.run(Duration::from_secs(2));
        let renewed = cluster.ask(follower, Ask::LeaseKeepAlive { id }).expect("it lives");
        assert_eq!(renewed.body, Body::LeaseKeepAlive { ttl: 3 });
    }
    cluster.0.run(Duration::from_secs(5));
    let gone = cluster.ask(follower, Ask::LeaseKeepAlive { id }).expect("an answer, not an error");
    assert_eq!(gone.body, Body::LeaseKeepAlive { ttl: 0 });
    assert!(machine::leases(&cluster.0.slots[&follower].store).is_empty());
}

#[test]
fn a_message_in_anothers_name_is_ignored() {
    let mut cluster = Cluster::new(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let term = cluster.status(leader).term;
    let forged = RaftMessage::new(RaftKind::Heartbeat, leader, follower, Term(term.0 + 100));
    cluster.0.give(follower, Input::Message { from: follower, message: Message::Raft(forged) });
    cluster.0.run(Duration::from_secs(1));
    assert_eq!(cluster.status(leader).term, term);
}
