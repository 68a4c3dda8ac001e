//! Snapshots from one engine to another over a link that loses, doubles and reorders.

use bytes::Bytes;
use holdfast_core::id::{Index, MemberId, Position, Term};
use holdfast_core::message::{SnapshotMeta, Transfer};
use holdfast_core::rng::Rng;
use holdfast_core::store::{Store, View};
use holdfast_storage::engine::EngineEvent;

use super::rig::{Rig, meta};
use super::twin::Twin;

const SENDER: MemberId = MemberId(1);
const RECEIVER: MemberId = MemberId(2);

/// Two engines and what is on its way between them.
struct Pair {
    rigs: [Rig; 2],
    link: Vec<(MemberId, Transfer)>,
    /// Percent of the messages that are lost, and that are doubled.
    faults: (u64, u64),
    chunks: u64,
    /// This piece, counted in the order of first arrival, is damaged whenever it arrives.
    victim: Option<usize>,
    places: Vec<(u32, u64)>,
    staged: Option<SnapshotMeta>,
    shipped: Option<bool>,
}

impl Pair {
    fn new(rng: &mut Rng) -> Pair {
        let sender = Rig::lived(60, 10, rng);
        let receiver = Rig::empty(2, rng.next());
        Pair {
            rigs: [sender, receiver],
            link: Vec::new(),
            faults: (0, 0),
            chunks: 0,
            victim: None,
            places: Vec::new(),
            staged: None,
            shipped: None,
        }
    }

    fn meta(&self) -> SnapshotMeta {
        meta(self.rigs[0].durable.mark.applied)
    }

    fn ship(&mut self, term: u64) {
        let meta = self.meta();
        let engine = &mut self.rigs[0].engine;
        assert!(engine.ship(RECEIVER, &meta, Term(term), &mut self.link));
    }

    /// Something happens: a message arrives, an order completes, or a period passes.
    fn step(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0..5 if !self.link.is_empty() => {
                let (to, message) =
                    self.link.swap_remove(rng.below(self.link.len() as u64) as usize);
                if rng.chance(self.faults.1) {
                    self.link.push((to, message.clone()));
                }
                if !rng.chance(self.faults.0) {
                    self.deliver(to, message);
                }
            }
            5..9 => self.complete(rng.below(2) as usize),
            _ => {
                let mut events = Vec::new();
                for rig in &mut self.rigs {
                    events.extend(rig.engine.retry_transfers(&mut self.link));
                }
                self.note(events);
            }
        }
    }

    fn complete(&mut self, which: usize) {
        let events = self.rigs[which].complete_one();
        self.rigs[which].engine.outgoing(&mut self.link);
        self.note(events);
    }

    fn deliver(&mut self, to: MemberId, mut message: Transfer) {
        if let Transfer::Chunk { file, offset, data, .. } = &mut message {
            self.chunks += 1;
            let place = (*file, *offset);
            let known = self.places.iter().position(|known| *known == place);
            let index = known.unwrap_or(self.places.len());
            if known.is_none() {
                self.places.push(place);
            }
            if self.victim == Some(index) {
                *data = flipped(data);
            }
        }
        let (rig, from) = match to {
            SENDER => (&mut self.rigs[0], RECEIVER),
            _ => (&mut self.rigs[1], SENDER),
        };
        let mut ops = Vec::new();
        let events = rig.engine.transfer(from, message, &mut ops, &mut self.link);
        rig.ops.extend(ops);
        self.note(events);
    }

    fn note(&mut self, events: Vec<EngineEvent>) {
        for event in events {
            match event {
                EngineEvent::Staged { from, meta, .. } => {
                    assert_eq!((from, &meta), (SENDER, &self.meta()));
                    self.staged = Some(meta);
                }
                EngineEvent::Shipped { to, complete } => {
                    assert_eq!(to, RECEIVER);
                    self.shipped = Some(complete);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn run_until_staged(&mut self, rng: &mut Rng) {
        for _ in 0..100_000 {
            if self.staged.is_some() && self.shipped.is_some() {
                return;
            }
            self.step(rng);
        }
        panic!("the transfer does not end: {:?} {:?}", self.staged, self.shipped);
    }

    /// Installs what is staged, at once.
    fn install(&mut self) {
        let meta = self.staged.take().expect("a snapshot is staged");
        let mark = self.rigs[0].durable.mark;
        let receiver = &mut self.rigs[1];
        let mut ops = Vec::new();
        receiver.engine.install(&meta, &mut ops);
        receiver.ops.extend(ops);
        let events = receiver.settle();
        assert!(events.contains(&EngineEvent::Installed { meta, mark }), "{events:?}");
        self.receiver_is(self.rigs[0].durable.clone());
    }

    fn receiver_is(&mut self, twin: Twin) {
        let receiver = &mut self.rigs[1];
        receiver.twin = twin.clone();
        receiver.published = twin.clone();
        receiver.durable = twin;
        receiver.assert_equal();
        receiver.assert_no_leftovers();
        assert_eq!(receiver.engine.log_restart(), receiver.durable.mark.applied);
    }
}

#[test]
fn a_snapshot_arrives_over_a_bad_link() {
    let mut chunks = 0;
    for seed in 0..30 {
        let rng = &mut Rng::new(seed);
        let mut pair = Pair::new(rng);
        pair.faults = (rng.below(30), rng.below(30));
        pair.ship(5);
        let shipped = pair.rigs[0].durable.clone();
        pair.run_until_staged(rng);
        assert_eq!(pair.shipped, Some(true));
        chunks += pair.chunks;
        pair.install();
        shipped.assert_equal(&pair.rigs[1].engine);
        pair.rigs[1].reopen(seed);
        pair.rigs[1].absorb(rng);
        pair.rigs[1].checkpoint();
        pair.rigs[1].reopen(seed + 1);
        assert_eq!(pair.rigs[1].engine.log_restart(), shipped.mark.applied, "it is kept");
    }
    assert!(chunks > 30 * 8, "{chunks} pieces");
}

#[test]
fn the_sender_keeps_the_files_it_sends_and_not_longer() {
    let rng = &mut Rng::new(50);
    let mut pair = Pair::new(rng);
    let shipped = pair.rigs[0].durable.clone();
    let meta = pair.meta();
    pair.ship(5);
    for _ in 0..3 {
        pair.rigs[0].absorb(rng);
        pair.rigs[0].checkpoint();
    }
    let manifests = |pair: &Pair| {
        pair.rigs[0].disk.names().iter().filter(|name| name.ends_with("manifest")).count()
    };
    assert_eq!(manifests(&pair), 2, "the present one and the one on its way");
    assert!(!pair.rigs[0].engine.ship(RECEIVER, &meta, Term(5), &mut Vec::new()), "it is gone");
    while pair.rigs[1].engine.mark() != shipped.mark {
        match pair.link.pop() {
            Some((to, message)) => {
                let mut ops = Vec::new();
                let which = usize::from(to == RECEIVER);
                let from = [RECEIVER, SENDER][which];
                let rig = &mut pair.rigs[which];
                let events = rig.engine.transfer(from, message, &mut ops, &mut pair.link);
                for event in events {
                    if let EngineEvent::Staged { meta, .. } = event {
                        rig.engine.install(&meta, &mut ops);
                    }
                }
                rig.ops.extend(ops);
            }
            None => {
                for rig in &mut pair.rigs {
                    for event in rig.complete_one() {
                        if let EngineEvent::Staged { meta, .. } = event {
                            let mut ops = Vec::new();
                            rig.engine.install(&meta, &mut ops);
                            rig.ops.extend(ops);
                        }
                    }
                    rig.engine.outgoing(&mut pair.link);
                }
            }
        }
    }
    shipped.assert_equal(&pair.rigs[1].engine);
    while let Some((to, message)) = pair.link.pop() {
        if to == SENDER {
            pair.deliver(to, message);
        }
    }
    pair.rigs[0].settle();
    pair.rigs[0].checkpoint();
    assert_eq!(manifests(&pair), 1);
}

#[test]
fn a_broken_transfer_goes_on_where_it_was_and_shared_segments_are_not_sent() {
    let rng = &mut Rng::new(51);
    let mut pair = Pair::new(rng);
    pair.ship(5);
    pair.run_until_staged(rng);
    let all = std::mem::take(&mut pair.chunks);
    pair.install();
    // Only what is new has to travel.
    pair.rigs[0].absorb(rng);
    pair.rigs[0].checkpoint();
    (pair.staged, pair.shipped) = (None, None);
    pair.ship(5);
    while pair.chunks < 2 {
        pair.step(rng);
    }
    // The link breaks; another leader's term offers the same checkpoint.
    pair.link.clear();
    pair.ship(6);
    pair.run_until_staged(rng);
    assert_eq!(pair.shipped, Some(true));
    assert!(pair.chunks < all, "{} pieces after {all}", pair.chunks);
    pair.install();
}

#[test]
fn a_crash_at_any_moment_leaves_the_old_or_the_new_state() {
    let mut outcomes = [0, 0];
    for seed in 0..60 {
        let rng = &mut Rng::new(1000 + seed);
        let mut pair = Pair::new(rng);
        pair.rigs[1].checkpoint();
        pair.ship(5);
        if seed % 3 == 0 {
            for _ in 0..rng.below(300) {
                pair.step(rng);
            }
            pair.rigs[1].crash(rng);
            outcomes[0] += 1;
            continue;
        }
        pair.run_until_staged(rng);
        let meta = pair.staged.clone().expect("it is staged");
        let receiver = &mut pair.rigs[1];
        receiver.absorb(rng);
        receiver.publish();
        if receiver.begin_checkpoint() {
            for _ in 0..rng.below(4) {
                receiver.complete_one();
            }
        }
        let mut ops = Vec::new();
        receiver.engine.install(&meta, &mut ops);
        receiver.ops.extend(ops);
        for _ in 0..rng.below(8) {
            receiver.complete_one();
        }
        let under_way = receiver.ops.drain(..).map(|(_, op)| op).collect();
        receiver.disk = std::sync::Arc::new(receiver.disk.crash(under_way, rng));
        let installed = pair.rigs[0].durable.clone();
        let engine = pair.rigs[1].open(seed);
        let new = engine.mark() == installed.mark;
        outcomes[usize::from(new)] += 1;
        pair.rigs[1].engine = engine;
        match new {
            true => pair.receiver_is(installed),
            false => pair.rigs[1].reopen(seed),
        }
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
}

#[test]
fn a_discarded_snapshot_leaves_nothing() {
    let rng = &mut Rng::new(52);
    let mut pair = Pair::new(rng);
    pair.ship(5);
    pair.run_until_staged(rng);
    let receiver = &mut pair.rigs[1];
    assert!(receiver.disk.names().len() > 5);
    let mut ops = Vec::new();
    receiver.engine.discard(pair.staged.as_ref().expect("staged").at, &mut ops);
    receiver.ops.extend(ops);
    receiver.settle();
    receiver.assert_no_leftovers();
    receiver.twin.assert_equal(&receiver.engine);
}

#[test]
fn damaged_pieces_are_found_before_anything_is_staged() {
    let mut caught = 0;
    for seed in 0..40 {
        let rng = &mut Rng::new(seed);
        let mut pair = Pair::new(rng);
        pair.ship(5);
        let victim = rng.below(40) as usize;
        pair.victim = Some(victim);
        while pair.shipped.is_none() {
            pair.step(rng);
        }
        if pair.places.len() > victim {
            caught += 1;
            assert_eq!((&pair.staged, pair.shipped), (&None, Some(false)), "seed {seed}");
            pair.rigs[1].settle();
            pair.rigs[1].assert_no_leftovers();
        }
        assert_eq!(pair.rigs[1].engine.fault(), None);
    }
    assert!(caught > 20, "{caught} transfers were damaged");
}

/// The bytes with one bit changed; which one depends on what they are.
fn flipped(data: &Bytes) -> Bytes {
    let mut bytes = data.to_vec();
    let bit = digest(data) as usize % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

fn digest(data: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    Rng::new(data.iter().fold(0, mix)).next()
}

#[test]
fn nonsense_from_a_peer_is_refused_and_harms_nothing() {
    let rng = &mut Rng::new(53);
    let mut rig = Rig::new(1, rng);
    let own: Vec<String> =
        rig.disk.names().iter().map(|name| name.trim_start_matches("data/").to_string()).collect();
    let applied = rig.engine.mark().applied.index;
    for round in 0..3000 {
        let names = [own[rng.below(own.len() as u64) as usize].clone(), nonsense_name(rng)];
        let last = ("00000000000000aa.pages".to_string(), 4096 * rng.below(3));
        let files = (0..rng.below(5))
            .map(|_| (names[rng.below(2) as usize].clone(), rng.next() >> rng.below(64)))
            .chain([last])
            .collect();
        let message = match rng.below(5) {
            0 => Transfer::Offer {
                number: rng.below(3),
                meta: meta(Position::new(rng.next() >> rng.below(64), 9)),
                term: Term(rng.below(3)),
                files,
            },
            1 | 2 => Transfer::Chunk {
                number: rng.below(3),
                file: rng.below(4) as u32,
                offset: rng.below(3) * 4096,
                data: vec![rng.next() as u8; rng.below(10_000) as usize].into(),
            },
            3 => {
                Transfer::Have { number: rng.below(3), file: rng.next() as u32, offset: rng.next() }
            }
            _ => Transfer::Stop { number: rng.below(3) },
        };
        let (mut ops, mut out) = (Vec::new(), Vec::new());
        let from = MemberId(rng.between(2, 3));
        let events = rig.engine.transfer(from, message, &mut ops, &mut out);
        // What this member is past is there, whatever the files were.
        let old = |event: &EngineEvent| matches!(event, EngineEvent::Staged { meta, .. } if meta.at.index <= applied);
        assert!(events.iter().all(old), "{events:?} in round {round}");
        rig.ops.extend(ops);
        assert!(rig.complete_one().is_empty());
    }
    rig.settle();
    rig.assert_equal();
    rig.absorb(rng);
    rig.checkpoint();
    rig.reopen(1);
}

fn nonsense_name(rng: &mut Rng) -> String {
    const NAMES: [&str; 7] = [
        "superblock",
        "../wal/0000000000000001.values",
        "",
        "00000000000000aa.manifest",
        "00000000000000ab.values",
        "00000000000000aa.values/x",
        "00000000000000AA.values",
    ];
    NAMES[rng.below(7) as usize].to_string()
}

/// A leader that believes its follower to be further behind than it is offers what the follower has;
/// merely refused, it would do so for ever (seed 8600).
#[test]
fn an_offer_of_what_is_there_is_refused_and_told() {
    let rng = &mut Rng::new(57);
    let mut rig = Rig::lived(20, 10, rng);
    let applied = rig.engine.mark().applied;
    let other_term = Position { term: Term(applied.term.0 + 1), ..applied };
    let before = Position { index: Index(applied.index.0 - 1), ..applied };
    let files: Vec<(String, u64)> = [".manifest", ".values", ".pages"]
        .map(|kind| (format!("00000000000000aa{kind}"), 4096))
        .to_vec();
    for (at, told) in [(applied, true), (before, true), (other_term, false)] {
        let (mut ops, mut out) = (Vec::new(), Vec::new());
        let (from, term, meta) = (RECEIVER, Term(9), meta(at));
        let files = files.clone();
        let offer = Transfer::Offer { number: 1, meta: meta.clone(), term, files };
        let events = rig.engine.transfer(from, offer, &mut ops, &mut out);
        let staged = told.then_some(EngineEvent::Staged { from, term, meta });
        assert_eq!(events, staged.into_iter().collect::<Vec<_>>(), "{at}");
        assert_eq!(out.last(), Some(&(RECEIVER, Transfer::Stop { number: 1 })));
        assert!(ops.is_empty(), "nothing is written for it");
    }
}

#[test]
fn an_offer_of_names_that_this_member_uses_harms_none_of_them() {
    let rng = &mut Rng::new(55);
    let mut rig = Rig::new(1, rng);
    rig.absorb(rng);
    rig.checkpoint();
    let before = rig.disk.names();
    for suffix in [".manifest", ".values", ".pages"] {
        let own = rig.disk.find(suffix).name().to_string();
        let fresh = |kind: &str| format!("00000000000000aa{kind}");
        let names = match suffix {
            ".manifest" => [own, fresh(".values"), fresh(".pages")],
            ".values" => [fresh(".manifest"), own, fresh(".pages")],
            _ => [fresh(".manifest"), fresh(".values"), own],
        };
        let files = names.map(|name| (name, 0)).to_vec();
        let meta = meta(Position::new(1000, 9));
        let offer = Transfer::Offer { number: 1, meta, term: Term(9), files };
        let (mut ops, mut out) = (Vec::new(), Vec::new());
        rig.engine.transfer(RECEIVER, offer, &mut ops, &mut out);
        rig.ops.extend(ops);
        assert!(rig.settle().is_empty());
        rig.engine.outgoing(&mut out);
        assert_eq!(out.last(), Some(&(RECEIVER, Transfer::Stop { number: 1 })));
        assert_eq!(rig.disk.names(), before);
    }
    rig.reopen(1);
}

#[test]
fn a_doubled_answer_is_not_answered_twice() {
    let rng = &mut Rng::new(56);
    let mut pair = Pair::new(rng);
    pair.ship(5);
    let Some((_, Transfer::Offer { number, .. })) = pair.link.pop() else {
        panic!("a transfer starts with an offer");
    };
    let have = Transfer::Have { number, file: 0, offset: 0 };
    pair.deliver(SENDER, have.clone());
    pair.rigs[0].settle();
    pair.rigs[0].engine.outgoing(&mut pair.link);
    assert!(matches!(pair.link.pop(), Some((_, Transfer::Chunk { file: 0, offset: 0, .. }))));
    pair.deliver(SENDER, have);
    assert!(pair.link.is_empty() && pair.rigs[0].ops.is_empty());
    pair.deliver(SENDER, Transfer::Have { number, file: 1, offset: 0 });
    assert_eq!(pair.rigs[0].ops.len(), 1, "news are answered");
}

#[test]
fn a_silent_peer_ends_the_transfer() {
    let rng = &mut Rng::new(54);
    let mut pair = Pair::new(rng);
    pair.ship(5);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        events.extend(pair.rigs[0].engine.retry_transfers(&mut out));
    }
    assert_eq!(events, [EngineEvent::Shipped { to: RECEIVER, complete: false }]);
    assert!(out.len() > 3 && out.iter().all(|(_, m)| matches!(m, Transfer::Offer { .. })));
}
