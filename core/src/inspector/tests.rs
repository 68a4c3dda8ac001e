//! The inspector against members that are drawn, and the worked examples.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const EVERY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);
const REPEAT: Duration = Duration::from_secs(1);

fn rules() -> InspectorRules {
    let every = Some(EVERY);
    InspectorRules {
        member: MemberId(1),
        every,
        compactions_every: every,
        patience: PATIENCE,
        repeat: REPEAT,
    }
}

fn hash(hash: u32, revision: i64, compacted: i64) -> KvHash {
    KvHash { hash, revision: Revision(revision), compacted: Revision(compacted) }
}

/// What a peer does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Silent,
    /// It says so many times that it is behind, then its hash.
    Late(u32, u32),
    Compacted,
    /// It is compacted at another revision.
    Other(u32),
}

/// A cluster of which member 1 has an inspector.
struct Rig {
    inspector: Inspector,
    scene: Scene,
    own: KvHash,
    peers: Vec<Peer>,
    now: Instant,
    asked: usize,
    accused: Vec<MemberId>,
    concluded: Option<Result<(), String>>,
}

impl Rig {
    fn new(own: u32, peers: &[Peer]) -> Rig {
        let members = (1..=1 + peers.len() as u64).map(MemberId).collect();
        let now = Instant(0) + EVERY;
        let mut inspector = Inspector::new(rules(), Instant(0));
        inspector.next_compactions = Instant::NEVER;
        Rig {
            inspector,
            scene: Scene { leads: true, members, compactions: Vec::new() },
            own: hash(own, 9, 4),
            peers: peers.to_vec(),
            now,
            asked: 0,
            accused: Vec::new(),
            concluded: None,
        }
    }

    /// The check of compactions in place of the periodic one.
    fn check_compactions(&mut self, compactions: Vec<KvHash>) {
        self.scene.compactions = compactions;
        self.inspector.next = Instant::NEVER;
        self.inspector.next_compactions = self.now;
    }

    /// Turns as long as a round is under way, and carries its orders out.
    fn run(&mut self) {
        let mut orders = Vec::new();
        self.inspector.turn(self.now, &self.scene, &mut orders);
        for _ in 0..100 {
            for order in std::mem::take(&mut orders) {
                self.obey(order, &mut orders);
            }
            if orders.is_empty() {
                if self.inspector.round.is_none() {
                    return;
                }
                self.now = self.inspector.deadline();
                self.inspector.turn(self.now, &self.scene, &mut orders);
            }
        }
        panic!("a round has no end: {:?}", self.inspector.round);
    }

    fn obey(&mut self, order: InspectorOrder, orders: &mut Vec<InspectorOrder>) {
        let leads = self.scene.leads;
        match order {
            InspectorOrder::Hash => {
                self.inspector.hashed(self.now, (leads, Some(self.own)), orders);
            }
            InspectorOrder::Confirm => self.inspector.confirmed(self.now, true, orders),
            InspectorOrder::Accuse(accusation) => self.accused.push(accusation.member),
            InspectorOrder::Concluded(result) => self.concluded = Some(result),
            InspectorOrder::Warn(_) => {}
            InspectorOrder::Ask { to, ask } => {
                self.asked += 1;
                let peer = &mut self.peers[to.0 as usize - 2];
                let known = |value| HashOutcome::Hash(hash(value, ask.revision.0, ask.compacted.0));
                let outcome = match peer {
                    Peer::Silent => return,
                    Peer::Late(value, 0) => known(*value),
                    Peer::Late(_, times) => {
                        *times -= 1;
                        HashOutcome::Future
                    }
                    Peer::Compacted => HashOutcome::Compacted,
                    Peer::Other(value) => HashOutcome::Hash(hash(*value, ask.revision.0, 2)),
                };
                let answer = HashAnswer { number: ask.number, revision: Revision(9), outcome };
                self.inspector.answered(self.now, leads, (to, answer), orders);
            }
        }
    }

    /// The hashes that may be compared where each peer is asked so often, by member.
    fn comparable(&self, asks: u32) -> Vec<(MemberId, u32)> {
        let mut all = vec![(MemberId(1), self.own.hash)];
        for (place, peer) in self.peers.iter().enumerate() {
            match peer {
                Peer::Late(value, times) if *times < asks => {
                    all.push((MemberId(place as u64 + 2), *value));
                }
                _ => {}
            }
        }
        all
    }
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        1 => Just(Peer::Silent),
        4 => (7u32..9, prop_oneof![0u32..7, 28u32..33]).prop_map(|(hash, late)| Peer::Late(hash, late)),
        1 => Just(Peer::Compacted),
        1 => (7u32..9).prop_map(Peer::Other),
    ]
}

proptest! {
    /// Counted by hand: the majority of all names the others; without one, the leader does in the periodic
    /// check, and nobody in that of compactions; a silent member is never named.
    #[test]
    fn whoever_differs_is_named_and_nobody_else(
        own in 7u32..9, peers in vec(peer(), 0..6), compactions in any::<bool>(),
    ) {
        let mut rig = Rig::new(own, &peers);
        let all = rig.comparable(if compactions { 5 } else { 30 });
        if compactions {
            rig.check_compactions(vec![rig.own]);
        }
        rig.run();
        let most = |value: u32| 2 * all.iter().filter(|(_, hash)| *hash == value).count() > peers.len() + 1;
        let right = [7, 8].into_iter().find(|value| most(*value));
        let differ = all.iter().any(|(_, hash)| *hash != own);
        let unlike = |value: u32| -> Vec<MemberId> {
            all.iter().filter(|(_, hash)| *hash != value).map(|(member, _)| *member).collect()
        };
        let expected = match (differ, right) {
            (false, _) => Vec::new(),
            (true, Some(value)) => unlike(value),
            (true, None) if compactions => vec![MemberId(0)],
            (true, None) => unlike(own),
        };
        prop_assert_eq!(&rig.accused, &expected);
        let agreed = if compactions && !differ && all.len() == peers.len() + 1 && !peers.is_empty() { 9 } else { 0 };
        prop_assert_eq!(rig.inspector.agreed, Revision(agreed));
    }

    #[test]
    fn a_starting_member_stops_if_any_peer_differs(own in 7u32..9, peers in vec(peer(), 0..6)) {
        let mut rig = Rig::new(own, &peers);
        let differ = rig.comparable(5).iter().any(|(_, hash)| *hash != own);
        rig.scene.leads = false;
        rig.inspector.begin_initial();
        rig.run();
        prop_assert_eq!(rig.concluded.map(|result| result.is_err()), Some(differ));
        prop_assert_eq!(rig.accused, vec![]);
    }
}

#[test]
fn the_worked_examples() {
    let mut rig = Rig::new(7, &[Peer::Late(7, 0), Peer::Late(8, 0)]);
    rig.run();
    assert_eq!((rig.accused, rig.asked), (vec![MemberId(3)], 2));
    let mut rig = Rig::new(7, &[Peer::Late(8, 0), Peer::Late(8, 1)]);
    rig.run();
    assert_eq!((rig.accused, rig.asked), (vec![MemberId(1)], 3));
}

#[test]
fn a_peer_ahead_of_the_second_hash_is_named() {
    let own = hash(7, 9, 4);
    let answer = |revision, compacted| HashAnswer {
        number: 1,
        revision: Revision(revision),
        outcome: HashOutcome::Hash(hash(7, 9, compacted)),
    };
    let others = BTreeSet::from([MemberId(2), MemberId(3)]);
    let answers = BTreeMap::from([(MemberId(2), answer(10, 4)), (MemberId(3), answer(12, 6))]);
    let named = |again| -> Vec<u64> {
        let found = judge::periodic(MemberId(1), (own, again), &answers, &others);
        found.into_iter().map(|accusation| accusation.member.0).collect()
    };
    assert_eq!(named(hash(9, 12, 6)), [0; 0]);
    assert_eq!(named(hash(9, 11, 6)), [3]);
    assert_eq!(named(hash(9, 12, 4)), [3]);
    assert_eq!(named(hash(8, 9, 4)), [1, 2, 3], "the own hash has changed, too");
}

#[test]
fn of_compactions_the_newest_that_all_know_is_compared_once() {
    let mut rig = Rig::new(7, &[Peer::Late(7, 0), Peer::Compacted]);
    rig.check_compactions(vec![hash(7, 5, -1), hash(7, 8, 5)]);
    rig.run();
    assert_eq!(rig.asked, 2 * 2, "an older one is compared if not all know the newer");
    rig.peers = vec![Peer::Late(7, 0); 2];
    rig.now = rig.inspector.deadline();
    rig.run();
    assert_eq!((rig.asked, rig.inspector.agreed), (2 * 2 + 2, Revision(8)));
    rig.now = rig.inspector.deadline();
    rig.run();
    assert_eq!(rig.asked, 2 * 2 + 2, "that is done");
    assert_eq!(rig.accused, []);
}

#[test]
fn a_follower_begins_nothing_and_a_deposed_leader_ends() {
    let mut rig = Rig::new(7, &[Peer::Silent]);
    rig.scene.leads = false;
    rig.run();
    assert_eq!((rig.asked, rig.inspector.deadline()), (0, rig.now + EVERY));
    let mut rig = Rig::new(7, &[Peer::Late(8, 5)]);
    let mut orders = Vec::new();
    rig.inspector.turn(rig.now, &rig.scene, &mut orders);
    rig.inspector.hashed(rig.now, (true, Some(rig.own)), &mut orders);
    rig.scene.leads = false;
    rig.run();
    assert_eq!((rig.accused, rig.inspector.deadline()), (vec![], rig.now + EVERY));
}
