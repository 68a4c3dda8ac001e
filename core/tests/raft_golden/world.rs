//! Several nodes with instant links, a clock each, and disks that may be held back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use holdfast_core::hash::state_hash;
use holdfast_core::id::{Incarnation, MemberId, RequestId, Term};
use holdfast_core::input::Input;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::membership::{Started, Version};
use holdfast_core::message::{PeerHello, SnapshotMeta};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::node::{Node, NodeConfig};
use holdfast_core::output::{Effect, Output};
use holdfast_core::raft::Boot;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Request};
use holdfast_core::response::{Member, Response};
use holdfast_core::status::{Role, Status};
use holdfast_core::store::Store;
use holdfast_core::time::Instant;

use super::disk::{Disk, Saved, Ship};
use super::show;

/// How far the clocks move at a time.
const STEP: Duration = Duration::from_millis(10);
/// Turns of one member at one time; more means that the cluster never comes to rest.
const ROUNDS_MAX: usize = 1000;

pub struct Slot {
    /// `None` after a crash.
    pub node: Option<Node>,
    pub store: MemoryStore,
    /// The state as last published: what readers and checkpoints see.
    pub published: MemoryStore,
    /// It has turns only for what comes, or when a script gives it some.
    pub hold_wake: bool,
    pub disk: Disk,
    now: Instant,
    run: u64,
    inbox: VecDeque<Input>,
    /// Which data directory it has.
    birth: u64,
}

/// An answered request.
pub type Answer = (RequestId, Result<Response, Rejection>);

pub struct World {
    pub slots: BTreeMap<MemberId, Slot>,
    pub answers: Vec<Answer>,
    pub trace: bool,
    /// What happened, in the scripts' words.
    pub lines: Vec<String>,
    limits: Limits,
    cut: BTreeSet<(MemberId, MemberId)>,
    leaders: BTreeMap<Term, MemberId>,
    sequence: u64,
    genesis: Saved,
    /// Members tell of their start.
    pub tells: bool,
    /// Who starts as the only member next.
    pub force_new: Option<MemberId>,
}

impl World {
    pub fn new(members: u64, limits: Limits, tells: bool) -> World {
        let ids: Vec<MemberId> = (1..=members).map(MemberId).collect();
        let genesis: Vec<Member> = ids
            .iter()
            .map(|id| Member { id: *id, name: id.to_string(), ..Member::default() })
            .collect();
        let mut store = MemoryStore::default();
        store.absorb(&mut machine::genesis(&genesis));
        let meta = SnapshotMeta { voters: ids.clone(), ..SnapshotMeta::default() };
        let genesis = Saved { meta, store };
        let slots = ids.iter().map(|id| (*id, Slot::fresh(&genesis, Instant(0), id.0)));
        let mut world = World {
            slots: slots.collect(),
            answers: Vec::new(),
            trace: false,
            lines: Vec::new(),
            limits,
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            sequence: 0,
            genesis: genesis.clone(),
            tells,
            force_new: None,
        };
        for id in ids {
            world.start(id);
        }
        world
    }

    /// Time passes everywhere.
    pub fn run(&mut self, duration: Duration) {
        self.run_some(duration, |_| true);
    }

    /// Time passes on some members only.
    pub fn run_some(&mut self, duration: Duration, some: impl Fn(MemberId) -> bool) {
        let mut left = duration;
        while !left.is_zero() {
            for (_, slot) in self.slots.iter_mut().filter(|(id, _)| some(**id)) {
                slot.now = slot.now + STEP;
            }
            self.settle();
            left = left.saturating_sub(STEP);
        }
    }

    /// Turns until nobody has anything to do at this time.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let busy: Vec<MemberId> =
                self.slots.iter().filter(|(_, slot)| slot.is_due()).map(|(id, _)| *id).collect();
            if busy.is_empty() {
                return;
            }
            for id in busy {
                self.turn(id);
            }
        }
        panic!("the cluster does not come to rest: {:#?}", self.lines);
    }

    /// Gives one member some turns.
    pub fn turns(&mut self, id: MemberId, count: u64) {
        for _ in 0..count {
            self.turn(id);
        }
        self.settle();
    }

    /// Asks, and lets the cluster work without letting time pass.
    pub fn ask(&mut self, member: MemberId, asks: Vec<Ask>) -> Vec<RequestId> {
        let slot = self.slots.get_mut(&member).expect("a member of the cluster");
        let mut ids = Vec::new();
        for ask in asks {
            self.sequence += 1;
            let incarnation = Incarnation(slot.run);
            let id = RequestId { member, incarnation, sequence: self.sequence };
            let deadline = slot.now + self.limits.request_timeout;
            let identity = Identity::default();
            slot.inbox.push_back(Input::Request(Request { id, identity, ask, deadline }));
            ids.push(id);
        }
        self.settle();
        ids
    }

    /// The node begins a new run from what is durable, and greets everybody.
    /// A member's disk has no room for its log to grow, or has again.
    pub fn tell_space(&mut self, id: MemberId, full: bool) {
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        slot.inbox.push_back(Input::Space { full });
        self.settle();
    }

    pub fn start(&mut self, id: MemberId) {
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        slot.run += 1;
        slot.store = slot.disk.checkpoint.store.clone();
        slot.published = slot.store.clone();
        let config = NodeConfig {
            member: id,
            incarnation: Incarnation(slot.run),
            limits: self.limits.clone(),
            seed: 7,
            started: self.tells.then_some(Started { birth: slot.birth, version: Version::OWN }),
        };
        let force_new = self.force_new.take_if(|forced| *forced == id).is_some();
        let boot = Boot { force_new, ..slot.disk.boot() };
        let node = Node::new(config, boot, &slot.store, slot.now);
        slot.node = Some(node.expect("a log that was written by a node starts one"));
        for peer in self.slots.keys().copied().collect::<Vec<_>>() {
            self.greet(id, peer);
            self.greet(peer, id);
        }
        self.settle();
    }

    /// A new member, or an old one with a new disk, begins where the cluster began.
    pub fn join(&mut self, id: MemberId, birth: u64) {
        let now = self.slots.values().map(|slot| slot.now).max().unwrap_or(Instant(0));
        let run = self.slots.get(&id).map_or(0, |slot| slot.run);
        self.slots.insert(id, Slot { run, ..Slot::fresh(&self.genesis, now, birth) });
        self.start(id);
    }

    pub fn crash(&mut self, id: MemberId) -> usize {
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        slot.node = None;
        slot.hold_wake = false;
        slot.inbox.clear();
        let lost = slot.disk.crash();
        self.disconnected(id);
        lost
    }

    pub fn cut(&mut self, a: MemberId, b: MemberId) {
        self.cut.extend([(a, b), (b, a)]);
        self.give(a, Input::Disconnected { peer: b });
        self.give(b, Input::Disconnected { peer: a });
        self.settle();
    }

    pub fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            self.greet(a, b);
        }
        self.settle();
    }

    pub fn is_cut(&self, a: MemberId, b: MemberId) -> bool {
        self.cut.contains(&(a, b))
    }

    pub fn statuses(&self) -> Vec<(MemberId, Option<Status>)> {
        let status = |slot: &Slot| slot.node.as_ref().map(|node| node.status());
        self.slots.iter().map(|(id, slot)| (*id, status(slot))).collect()
    }

    /// Members that have applied the same entries hold the same state.
    pub fn assert_equal_states(&self) {
        let mut seen = BTreeMap::new();
        for slot in self.slots.values().filter(|slot| slot.node.is_some()) {
            use holdfast_core::store::View;
            let applied = slot.published.mark().applied;
            let hash = state_hash(&slot.published).expect("a memory store has no faults");
            let first = *seen.entry(applied).or_insert(hash);
            assert_eq!(first, hash, "states differ at {applied}");
            let told = slot.node.as_ref().map(|node| node.status().applied);
            assert_eq!(told, Some(applied), "a node says that it is where its published state is");
        }
    }

    pub fn give(&mut self, to: MemberId, input: Input) {
        let Some(slot) = self.slots.get_mut(&to) else { return };
        if slot.node.is_some() {
            slot.inbox.push_back(input);
        }
    }

    /// `to` learns what `from` says of itself when a connection opens.
    fn greet(&mut self, from: MemberId, to: MemberId) {
        let slot = &self.slots[&from];
        if let (Some(node), true) = (&slot.node, from != to && !self.is_cut(from, to)) {
            let incarnation = Incarnation(slot.run);
            let hello = PeerHello { incarnation, last: node.durable_last(), birth: slot.birth };
            self.give(to, Input::Connected { peer: from, hello });
        }
    }

    fn disconnected(&mut self, gone: MemberId) {
        self.gone(gone);
        self.settle();
    }

    fn gone(&mut self, gone: MemberId) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.give(id, Input::Disconnected { peer: gone });
        }
    }

    fn turn(&mut self, id: MemberId) {
        let mut out = Output::default();
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        let Some(node) = slot.node.as_mut() else { return };
        while let Some(input) = slot.inbox.pop_front() {
            node.step(slot.now, input, &mut slot.store, &mut out);
        }
        node.step(slot.now, Input::Drained, &mut slot.store, &mut out);
        if out.status.role == Role::Leader {
            let leader = *self.leaders.entry(out.status.term).or_insert(id);
            assert_eq!(leader, id, "two leaders of {}", out.status.term);
        }
        let facts = out.facts.iter().filter(|fact| show::is_told(fact));
        self.lines.extend(facts.map(|fact| format!("{id} {fact}")));
        let mut replied = false;
        for effect in out.effects {
            assert!(!(replied && matches!(effect, Effect::Publish { .. })), "publish, then reply");
            replied |= matches!(effect, Effect::Reply { .. });
            if let Some(line) = show::effect(id, &effect, self.trace) {
                self.lines.push(line);
            }
            self.act(id, effect);
        }
    }

    fn act(&mut self, id: MemberId, effect: Effect) {
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        match effect {
            Effect::Append(append) => {
                slot.disk.write(append);
                self.sync(id);
            }
            Effect::Send { to, message } => {
                if !self.is_cut(id, to) {
                    self.give(to, Input::Message { from: id, message });
                }
            }
            Effect::Publish { .. } => slot.published = slot.store.clone(),
            Effect::Reply { id, result } => self.answers.push((id, result)),
            Effect::Flush { meta } => {
                let (at, store) = (meta.at, slot.published.clone());
                assert_eq!(at, holdfast_core::store::View::mark(&store).applied);
                slot.disk.checkpoint = Saved { meta, store };
                self.give(id, Input::Flushed { at });
            }
            Effect::Purge { upto } => slot.disk.purge(upto),
            Effect::Fetch { number, from, below, .. } => {
                let entries = slot.disk.fetch(from, below);
                self.give(id, Input::Fetched { number, entries });
            }
            Effect::Ship { to, meta, term } => {
                let saved = slot.disk.checkpoint.clone();
                assert_eq!(saved.meta.at, meta.at, "the durable checkpoint is what is shipped");
                slot.disk.held_ships.push(Ship { to, term, saved });
                self.ship(id);
            }
            Effect::Install { meta, hard_state } => {
                slot.disk.held_install = Some((meta, hard_state));
                self.install(id);
            }
            Effect::Discard { at } => slot.disk.discard(at),
            Effect::Membership(_) => {}
            Effect::Halt(_) => {
                slot.node = None;
                slot.inbox.clear();
                self.gone(id);
            }
        }
    }

    /// Flushes what is written, unless that is held back.
    pub fn sync(&mut self, id: MemberId) {
        let disk = &mut self.slots.get_mut(&id).expect("a member of the cluster").disk;
        if !disk.hold_sync
            && let Some(seq) = disk.sync()
        {
            if self.trace {
                self.lines.push(format!("{id} synced {seq}"));
            }
            self.give(id, Input::Synced { seq });
        }
    }

    /// Ends the transfers under way, unless they are held back.
    pub fn ship(&mut self, id: MemberId) {
        let disk = &mut self.slots.get_mut(&id).expect("a member of the cluster").disk;
        if disk.hold_ship {
            return;
        }
        for Ship { to, term, saved } in std::mem::take(&mut disk.held_ships) {
            let there = self.slots.get(&to).is_some_and(|slot| slot.node.is_some());
            let complete = !self.is_cut(id, to) && there;
            if complete {
                let meta = saved.meta.clone();
                self.slots.get_mut(&to).expect("a member of the cluster").disk.stage(saved);
                self.give(to, Input::Staged { from: id, term, meta });
            }
            self.give(id, Input::Shipped { to, complete });
        }
    }

    /// The transfers that are held back end without success.
    pub fn fail_ships(&mut self, id: MemberId) {
        let disk = &mut self.slots.get_mut(&id).expect("a member of the cluster").disk;
        for Ship { to, .. } in std::mem::take(&mut disk.held_ships) {
            self.give(id, Input::Shipped { to, complete: false });
        }
    }

    /// Makes a staged snapshot the state, unless that is held back.
    pub fn install(&mut self, id: MemberId) {
        let slot = self.slots.get_mut(&id).expect("a member of the cluster");
        if slot.disk.hold_install {
            return;
        }
        if let Some((meta, hard_state)) = slot.disk.held_install.take() {
            slot.store = slot.disk.install(&meta, hard_state);
            self.give(id, Input::Installed { meta });
        }
    }
}

impl Slot {
    fn fresh(genesis: &Saved, now: Instant, birth: u64) -> Slot {
        Slot {
            node: None,
            store: genesis.store.clone(),
            published: genesis.store.clone(),
            hold_wake: false,
            disk: Disk::new(genesis.clone()),
            now,
            run: 0,
            inbox: VecDeque::new(),
            birth,
        }
    }

    fn is_due(&self) -> bool {
        let wakes = |node: &Node| !self.hold_wake && node.deadline() <= self.now;
        let due = |node: &Node| !self.inbox.is_empty() || wakes(node);
        self.node.as_ref().is_some_and(due)
    }
}
