//! Edges of three members that compare their hashes, with messages carried by hand.

use holdfast_core::alarm::AlarmOp;
use holdfast_core::fact::Fact;
use holdfast_core::id::Revision;
use holdfast_core::message::{HashAsk, Message};
use holdfast_core::status::{Role, Status};

use super::*;

const EVERY: Duration = Duration::from_secs(60);
const COMPARED: HashChecks = HashChecks { every: Some(EVERY), compactions_every: None };
const REMEMBERED: HashChecks = HashChecks { every: None, compactions_every: Some(EVERY) };

/// Members 1 to 3, of which the first leads.
struct Cluster {
    members: Vec<Rig>,
    /// A member that is not reached.
    away: Option<usize>,
}

impl Cluster {
    fn new(checks: HashChecks) -> Cluster {
        let ids = [1, 2, 3].map(MemberId);
        let member = |first: usize| {
            let mut voters = ids;
            voters.swap(0, first);
            let limits = Limits { edge_slice_keys: 16, ..Limits::default() };
            let mut rig = Rig::among(&voters, limits, checks);
            rig.turn(first == 0, &[]);
            rig
        };
        Cluster { members: (0..3).map(member).collect(), away: None }
    }

    fn apply(&mut self, member: usize, op: Op) {
        self.members[member].apply(op);
        self.members[member].publish();
    }

    fn apply_all(&mut self, op: impl Fn() -> Op) {
        (0..3).for_each(|member| self.apply(member, op()));
    }

    /// A compaction that all have decided and published.
    fn compact(&mut self, before: i64, revision: i64) {
        let (before, revision) = (Revision(before), Revision(revision));
        self.apply_all(|| Op::Compact { revision });
        for (place, rig) in self.members.iter_mut().enumerate() {
            rig.turn(place == 0, &[Fact::Compacted { revision, before }]);
        }
    }

    /// Lets time pass, and carries everything until all wait for more of it; whose alarms the leader proposed.
    fn pass(&mut self, time: Duration) -> Vec<u64> {
        let mut accused = Vec::new();
        self.members.iter_mut().for_each(|rig| rig.now = rig.now + time);
        for _ in 0..1000 {
            let mut told = Vec::new();
            for (place, rig) in self.members.iter_mut().enumerate() {
                rig.edge.flush(rig.now, &mut rig.inbox);
                for event in std::mem::take(&mut rig.inbox) {
                    match event {
                        Event::Tell { to, message } => told.push((place, to, message)),
                        Event::Request(request) => accused.extend(rig.take(request)),
                        event => panic!("unexpected: {event:?}"),
                    }
                }
                rig.taken();
            }
            for (from, to, message) in told {
                let place = to.0 as usize - 1;
                if self.away != Some(from) && self.away != Some(place) {
                    let by = MemberId(from as u64 + 1);
                    let fact = match message {
                        Message::HashAsk(ask) => Fact::HashAsked { by, ask },
                        Message::HashAnswer(answer) => Fact::HashTold { by, answer },
                        message => panic!("unexpected: {message:?}"),
                    };
                    self.members[place].turn(place == 0, &[fact]);
                }
            }
            if self.members.iter().all(|rig| rig.edge.deadline() > rig.now) {
                return accused;
            }
        }
        panic!("it spins");
    }
}

impl Rig {
    fn turn(&mut self, leads: bool, facts: &[Fact]) {
        let role = if leads { Role::Leader } else { Role::Follower };
        self.edge.turned(Status { role, ..Status::default() }, facts);
    }

    /// Answers a read index; applies an alarm, and says whose it is.
    fn take(&mut self, request: Request) -> Option<u64> {
        let (response, whose) = match request.ask {
            Ask::ReadIndex => {
                (Response { revision: Revision(0), term: Term(1), body: Body::Publish }, None)
            }
            Ask::Propose(op @ Op::Alarm(AlarmOp::Raise { member, .. })) => {
                let response = self.apply(op);
                self.publish();
                (response, Some(member.0))
            }
            ask => panic!("unexpected: {ask:?}"),
        };
        self.edge.replied(request.id, Ok(response));
        whose
    }

    fn hash_kv(&mut self, revision: i64) -> Answered {
        self.ask(1, Query::HashKv { revision });
        for _ in 0..100 {
            if let Some((_, answer)) = self.taken().pop() {
                return answer;
            }
        }
        panic!("no answer");
    }
}

fn filled(checks: HashChecks) -> Cluster {
    let mut cluster = Cluster::new(checks);
    for number in 0..50 {
        cluster.apply_all(|| put(number));
    }
    cluster
}

#[test]
fn the_periodic_check_names_who_differs_and_is_silent_otherwise() {
    let mut cluster = filled(COMPARED);
    assert_eq!(cluster.pass(Duration::ZERO), [0; 0]);
    for _ in 0..3 {
        assert_eq!(cluster.pass(EVERY), [0; 0], "all are equal");
    }
    cluster.apply(0, put(1));
    cluster.apply(1, put(1));
    cluster.apply(2, put(2));
    assert_eq!(cluster.pass(EVERY), [3]);
    let warnings = cluster.members[0].edge.take_warnings();
    assert!(warnings[0].contains("its hash at r52"), "{warnings:?}");
    assert_eq!(cluster.pass(EVERY), [0; 0], "its alarm is up");
}

#[test]
fn a_peer_that_is_away_or_behind_is_not_named_and_holds_nobody_up_for_ever() {
    let mut cluster = filled(COMPARED);
    cluster.pass(Duration::ZERO);
    cluster.apply(0, put(1));
    cluster.apply(1, put(2));
    cluster.away = Some(2);
    assert_eq!(cluster.pass(EVERY), [0; 0], "two have answered, and the third is waited for");
    assert_eq!(cluster.pass(EVERY / 2), [2], "no majority: the leader is believed");
    // The third is behind; when it has caught up it is asked again.
    let mut cluster = filled(COMPARED);
    cluster.pass(Duration::ZERO);
    cluster.apply(0, put(1));
    cluster.apply(1, put(1));
    assert_eq!(cluster.pass(EVERY), [0; 0]);
    cluster.apply(2, put(2));
    assert_eq!(cluster.pass(Duration::from_secs(1)), [3]);
}

#[test]
fn compactions_are_remembered_compared_and_answered() {
    let mut cluster = filled(REMEMBERED);
    cluster.pass(Duration::ZERO);
    let before = cluster.members[0].hash_kv(30).expect("it can be read");
    cluster.compact(-1, 30);
    cluster.pass(Duration::ZERO);
    cluster.compact(30, 40);
    assert_eq!(cluster.pass(Duration::ZERO), [0; 0]);
    let after = cluster.members[0].hash_kv(30).expect("it is remembered");
    assert_eq!(after.body, before.body);
    assert_eq!(cluster.members[0].hash_kv(31), Err(Rejection::Compacted));
    assert_eq!(cluster.pass(EVERY), [0; 0], "all are equal");
    cluster.apply(0, put(1));
    cluster.apply(1, put(2));
    cluster.apply(2, put(2));
    cluster.compact(40, 52);
    cluster.pass(Duration::ZERO);
    assert_eq!(cluster.pass(EVERY), [1], "the majority is right, though the other leads");
}

#[test]
fn without_the_gate_nothing_is_remembered() {
    let mut cluster = filled(COMPARED);
    cluster.compact(-1, 30);
    cluster.compact(30, 40);
    cluster.pass(Duration::ZERO);
    assert_eq!(cluster.members[0].hash_kv(30), Err(Rejection::Compacted));
}

#[test]
fn a_starting_member_learns_that_it_differs() {
    for (number, differs) in [(1, false), (2, true)] {
        let mut cluster = filled(HashChecks::default());
        cluster.apply(0, put(1));
        cluster.apply(1, put(1));
        cluster.apply(2, put(number));
        cluster.members[2].edge.check_initially();
        assert_eq!(cluster.pass(Duration::ZERO), [0; 0]);
        let found = cluster.members[2].edge.take_conclusion().expect("all have answered");
        assert_eq!(found.is_err(), differs, "{found:?}");
    }
    let mut cluster = filled(HashChecks::default());
    cluster.away = Some(2);
    cluster.members[2].edge.check_initially();
    cluster.pass(Duration::ZERO);
    assert_eq!(cluster.members[2].edge.take_conclusion(), None);
    cluster.pass(Limits::default().request_timeout);
    assert_eq!(cluster.members[2].edge.take_conclusion(), Some(Ok(())), "nobody was reached");
}

#[test]
fn many_questions_of_one_peer_keep_one_hash() {
    let mut cluster = filled(COMPARED);
    let rig = &mut cluster.members[1];
    for number in 0..100 {
        let ask = HashAsk { number: number / 2, revision: Revision(40), compacted: Revision(-1) };
        rig.turn(false, &[Fact::HashAsked { by: MemberId(1), ask }]);
    }
    assert_eq!(rig.edge.inspection.jobs.len(), 1);
    for revision in [i64::MIN, -1, 0, 1] {
        let ask = HashAsk { number: 77, revision: Revision(revision), compacted: Revision(-1) };
        rig.turn(false, &[Fact::HashAsked { by: MemberId(1), ask }]);
    }
    for revision in 2..40 {
        let (revision, before) = (Revision(revision), Revision(revision - 1));
        rig.turn(false, &[Fact::Compacted { revision, before }]);
    }
    assert_eq!(rig.edge.inspection.jobs.len(), 1, "nothing is remembered here");
}
