//! One seed's world: a heap of events, members that run the shipped driver and edge, and in a quarter of
//! the seeds the shipped sessions and transport, over simulated disks, clocks, links and connections,
//! clients, faults, and checkers that look at everything.
//!
//! Phases: boot and chaos (faults come and go), heal (all faults end, links are calm), settle
//! (clients finish and go quiet, leases expire), final checks, parting (connections end, if there are any).
//!
//! Laws:
//!  1. Events of one instant are ordered by a seeded tiebreak, so that no order is assumed.
//!  2. Nothing survives a member's restart but its disk's image: driver and edge are dropped and
//!     opened again by the code that production uses.
//!  3. The trace hash covers every event; the same seed, mask and build give the same hash.
//!
//! Worked example: `Turn(m1)` drains its inbox, submits a log write; `Disk(m1, wal 7)` comes 300 µs
//! later and schedules the next `Turn(m1)`, which replies.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::{ClusterId, Index, MemberId};
use holdfast_core::message::PeerHello;
use holdfast_core::query::Answered;
use holdfast_core::response::Member;
use holdfast_core::rng::Rng;
use holdfast_core::watch::{WatchRequest, WatchResponse};
use holdfast_server::auth::Credential;
use holdfast_storage::disk::Token;

use crate::checker::{Checkers, Committed, Requests, Scene, Seen, Violation};
use crate::clock::Moment;
use crate::disk::SimDisk;
use crate::history::{History, OpId};
use crate::model::Model;
use crate::nemesis::{Fault, Mask, schedule};
use crate::network::{Link, Network};
use crate::report::{Counts, Report};
use crate::swarm::{Stream, Swarm};
use crate::workload::Client;
use crate::workload::watch::WatchClient;

mod client;
mod doing;
mod edges;
mod fault;
mod front;
mod host;
mod http2;
mod lines;
mod liveness;
mod loss;
mod member;
pub(crate) mod operator;
mod peer;
mod served;
mod stranger;
mod tap;
mod watch;

use doing::Doing;
use lines::Lines;
use liveness::Liveness;
use member::Slot;
use operator::Operator;

/// How a seed is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Which seed.
    pub seed: u64,
    /// Faults left out.
    pub mask: Mask,
    /// Listen to this checker only.
    pub only: Option<&'static str>,
    /// Print what happens.
    pub verbose: bool,
    /// Go on after a law is broken, and note the first violation of each.
    pub all: bool,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A member looks at its inbox.
    Turn { member: usize, ticket: u64 },
    /// A disk order ends.
    Disk { member: usize, life: u64, token: Token },
    /// A message comes to a member.
    Arrive { from: usize, to: usize, connection: u64, frame: Bytes },
    /// Two members try to connect.
    Dial { a: usize, b: usize },
    /// A member learns of a new connection.
    Greet { at: usize, peer: usize, connection: u64, hello: PeerHello },
    /// A member learns that a connection is gone.
    Broken { at: usize, peer: usize, connection: u64 },
    /// A member starts.
    Boot { member: usize, life: u64 },
    /// A member stops, by an ordered crash.
    Crash { member: usize, life: u64, power: bool, lasts: Duration },
    /// A fault begins.
    Begin(usize),
    /// A fault ends.
    End(usize),
    /// A flapping link changes.
    Flap { fault: usize, on: bool },
    /// A request comes to its member.
    Ask { op: OpId, by: Credential },
    /// An answer comes to its client.
    Answer { op: OpId, run: u64, answered: Box<Answered> },
    /// A client thinks of its next request.
    Think { client: usize },
    /// A client has waited long enough.
    Patience { op: OpId },
    /// Requests of a watch stream come to its member.
    WatchAsk { client: usize, stream: u64, open: bool, requests: Vec<WatchRequest> },
    /// A response of a watch stream comes to its client.
    WatchTell { client: usize, stream: u64, response: Box<WatchResponse> },
    /// A client learns that its stream is gone.
    WatchBroken { client: usize, stream: u64 },
    /// A watching client does something.
    WatchAct { client: usize },
    /// A phase begins.
    Phase(Phase),
    /// The world looks whether it has recovered from the faults.
    Probe,
    /// Something about a connection between a client and a member.
    Line(Doing),
    /// The operator looks what there is to do.
    Operate,
}

/// The parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Faults come and go.
    Chaos,
    /// They have stopped.
    Heal,
    /// Clients ask nothing new.
    Settle,
    /// What was asked is over, and connections end, where there are any.
    Parting,
    /// Final checks.
    Over,
}

/// One run.
pub(crate) struct World {
    options: RunOptions,
    swarm: Swarm,
    phase: Phase,
    now: Moment,
    heap: BTreeMap<(Moment, u64, u64), Happening>,
    sequence: u64,
    ties: Rng,
    /// For the instants of the world's own doing.
    chance: Rng,
    members: Vec<Slot>,
    genesis: Vec<Member>,
    network: Network,
    client_links: Vec<Link>,
    faults: Vec<Fault>,
    active: BTreeMap<usize, fault::Active>,
    clients: Vec<Client>,
    watchers: Vec<WatchClient>,
    operator: Operator,
    streams: Vec<watch::StreamState>,
    lines: Lines,
    history: History,
    model: Model,
    log: Vec<Committed>,
    requests: Requests,
    checkers: Checkers,
    liveness: Liveness,
    counts: Counts,
    trace: u64,
    violation: Option<Violation>,
}

/// Runs a seed in a thread of its own, so that nothing of another run is left in thread-locals.
pub fn run(options: RunOptions) -> Report {
    run_with(options, || ())
}

/// Like [`run`], with something to be done first in the seed's thread.
pub fn run_with(options: RunOptions, prepare: impl FnOnce() + Send) -> Report {
    std::thread::scope(|scope| {
        let seed = std::thread::Builder::new().name(format!("seed-{}", options.seed));
        let thread = seed.stack_size(16 << 20).spawn_scoped(scope, || {
            prepare();
            World::new(options).run()
        });
        thread
            .expect("a thread can be started")
            .join()
            .expect("panics of members are caught inside")
    })
}

impl World {
    fn new(options: RunOptions) -> World {
        let seed = options.seed;
        let swarm = Swarm::draw(seed);
        let faults = schedule(&swarm);
        let disks = Stream::Disks.rng(seed);
        let clocks = Stream::Clocks.rng(seed).fork(1);
        let links = Stream::ClientLinks.rng(seed);
        let places = swarm.members + swarm.spares;
        let members = (0..places).map(|n| {
            let (rng, latency) = (disks.fork(n as u64), swarm.latency.clone());
            let disk = Arc::new(SimDisk::new(rng, latency, swarm.storage.capacity));
            Slot::new(n, disk, clocks.fork(n as u64), swarm.rates[n], seed)
        });
        let genesis = (0..swarm.members).map(|n| Member {
            id: member_id(n),
            name: format!("m{n}"),
            peer_urls: vec![format!("http://m{n}:2380")],
            client_urls: Vec::new(),
            is_learner: false,
        });
        let genesis: Vec<Member> = genesis.collect();
        // The operator comes last.
        let client_count = swarm.work.clients + swarm.work.watchers + 1;
        let link = |n: usize| Link::new(links.fork(n as u64), swarm.clients.clone());
        World {
            phase: Phase::Chaos,
            now: Moment(0),
            heap: BTreeMap::new(),
            sequence: 0,
            ties: Stream::Ties.rng(seed),
            chance: Stream::Ties.rng(seed).fork(1),
            members: members.collect(),
            model: Model::with_members(&genesis),
            genesis,
            network: Network::new(places, &Stream::Links.rng(seed), &swarm.peers),
            client_links: (0..client_count * places * 2).map(link).collect(),
            faults,
            active: BTreeMap::new(),
            clients: (0..swarm.work.clients).map(|n| Client::new(&swarm, n)).collect(),
            watchers: (0..swarm.work.watchers).map(|n| WatchClient::new(&swarm, n)).collect(),
            operator: Operator::new(Stream::Membership.rng(seed).fork(1)),
            streams: vec![watch::StreamState::default(); swarm.work.watchers],
            lines: Lines::new(seed),
            history: History::default(),
            log: Vec::new(),
            requests: Requests::default(),
            checkers: Checkers::new(options.only).going_on(options.all),
            liveness: Liveness::default(),
            counts: Counts { over_http2: swarm.transport.is_some().into(), ..Counts::default() },
            trace: 0xcbf2_9ce4_8422_2325,
            violation: None,
            swarm,
            options,
        }
    }

    fn run(mut self) -> Report {
        self.prepare();
        while self.phase != Phase::Over && self.violation.is_none() {
            let Some((key, happening)) = self.heap.pop_first() else { break };
            self.now = key.0;
            self.counts.events += 1;
            self.handle(happening);
        }
        self.finish()
    }

    fn prepare(&mut self) {
        for member in 0..self.members.len() {
            if member < self.swarm.members {
                let delay = Duration::from_micros(self.chance.below(300_000));
                self.after(delay, Happening::Boot { member, life: 0 });
            }
            for b in member + 1..self.members.len() {
                self.after(Duration::from_millis(5), Happening::Dial { a: member, b });
            }
        }
        for client in 0..self.clients.len() {
            let delay = Duration::from_micros(500_000 + self.chance.below(500_000));
            self.after(delay, Happening::Think { client });
        }
        for client in 0..self.watchers.len() {
            let delay = Duration::from_micros(500_000 + self.chance.below(1_500_000));
            self.after(delay, Happening::WatchAct { client });
        }
        self.after(Duration::from_secs(2), Happening::Operate);
        for (place, fault) in self.faults.clone().iter().enumerate() {
            if !self.options.mask.0.contains(&fault.ordinal) {
                self.at(fault.at, Happening::Begin(place));
            }
        }
        if let Some(mix) = &self.swarm.transport {
            let first = mix.hostile.map(|every| every + Duration::from_secs(1));
            self.after(Duration::from_secs(5), Doing::KeepAlive);
            if let Some(first) = first {
                self.after(first, Doing::Provoke);
            }
        }
        self.after(self.swarm.chaos, Happening::Phase(Phase::Heal));
    }

    fn handle(&mut self, happening: Happening) {
        self.note(&happening);
        match happening {
            Happening::Turn { member, ticket } => self.turn(member, ticket),
            Happening::Disk { member, life, token } => self.disk_done(member, life, token),
            Happening::Arrive { from, to, connection, frame } => {
                self.arrive(from, to, connection, &frame);
            }
            Happening::Dial { a, b } => self.dial(a, b),
            Happening::Greet { at, peer, connection, hello } => {
                self.greet(at, peer, connection, hello);
            }
            Happening::Broken { at, peer, connection } => self.broken(at, peer, connection),
            Happening::Boot { member, life } => self.boot(member, life),
            Happening::Crash { member, life, power, lasts } => {
                if self.members[member].lives(life) {
                    self.crash(member, power, lasts);
                }
            }
            Happening::Begin(fault) => self.begin_fault(fault),
            Happening::End(fault) => self.end_fault(fault),
            Happening::Flap { fault, on } => self.flap(fault, on),
            Happening::Ask { op, by } => self.ask_arrives(op, by),
            Happening::Answer { op, run, answered } => self.answer_arrives(op, run, *answered),
            Happening::Think { client } => self.think(client),
            Happening::Patience { op } => self.patience_ends(op),
            Happening::WatchAsk { client, stream, open, requests } => {
                self.watch_asked(client, stream, open, requests);
            }
            Happening::WatchTell { client, stream, response } => {
                self.watch_told(client, stream, &response);
            }
            Happening::WatchBroken { client, stream } => self.watch_broken(client, stream),
            Happening::WatchAct { client } => self.watch_act(client),
            Happening::Phase(phase) => self.enter(phase),
            Happening::Probe => self.probe(),
            Happening::Line(doing) => self.do_on_line(doing),
            Happening::Operate => self.operate(),
        }
    }

    fn at(&mut self, when: Moment, happening: impl Into<Happening>) {
        if when == Moment::NEVER {
            return;
        }
        self.sequence += 1;
        let tie = self.ties.next();
        self.heap.insert((when.max(self.now), tie, self.sequence), happening.into());
    }

    fn after(&mut self, delay: Duration, happening: impl Into<Happening>) {
        self.at(self.now.after(delay), happening);
    }

    /// Mixes an event into the trace.
    fn note(&mut self, happening: &Happening) {
        let (kind, a, b) = happening.key();
        for number in [self.now.0, kind, a, b] {
            self.trace = (self.trace ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        if self.options.verbose {
            println!("{} {}", self.now, happening.line());
        }
    }

    /// Prints a line when asked to.
    fn say(&self, line: impl FnOnce() -> String) {
        if self.options.verbose {
            println!("{} {}", self.now, line());
        }
    }

    /// Shows something to the checkers.
    fn see(&mut self, seen: &Seen<'_>) {
        let scene = Scene {
            now: self.now,
            swarm: &self.swarm,
            model: &self.model,
            log: &self.log,
            history: &self.history,
            requests: &self.requests,
            comparisons: Cell::new(0),
        };
        if let Err(violation) = self.checkers.see(&scene, seen) {
            self.violation.get_or_insert(violation);
        }
    }

    /// A law that the world itself watches over is broken.
    fn broke(&mut self, checker: &'static str, what: impl Into<String>) {
        if self.checkers.listens_to(checker) {
            let violation = Violation { checker, at: self.now, what: what.into() };
            match self.options.all {
                true => drop(self.checkers.broken.entry(checker).or_insert(violation)),
                false => drop(self.violation.get_or_insert(violation)),
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        match phase {
            Phase::Chaos => {}
            Phase::Heal => self.heal(),
            Phase::Settle => {
                if self.swarm.transport.is_some() {
                    self.after(SETTLE / 2, Doing::Farewell { stage: 0 });
                }
                self.after(SETTLE, Happening::Phase(Phase::Parting));
            }
            Phase::Parting => {
                self.final_checks();
                self.see(&Seen::Settled);
                match self.swarm.transport.is_some() {
                    true => self.farewell(1),
                    false => self.phase = Phase::Over,
                }
            }
            Phase::Over => {}
        }
    }

    fn finish(mut self) -> Report {
        self.counts.operations = self.history.completed() as u64;
        self.counts.simulated = self.now.since(Moment(0));
        if let Ok(searched) = crate::checker::k1b::search_all(&self.history) {
            self.counts.windows = searched.windows;
            self.counts.windows_undecided = searched.undecided;
        }
        self.counts.revisions = self.model.revision().0 as u64;
        self.counts.entries = self.log.len() as u64;
        self.counts.compared = self.checkers.compared();
        Report {
            seed: self.options.seed,
            members: self.swarm.members,
            mask: self.options.mask,
            faults: self.faults.len() as u32,
            swarm: self.swarm.to_string(),
            trace: self.trace,
            counts: self.counts,
            violation: self.violation,
            broken: self.checkers.broken,
        }
    }
}

/// How long the cluster may go on after clients have stopped asking: longer than any lease lives on
/// the slowest clock.
const SETTLE: Duration = Duration::from_secs(16);

/// The cluster every world has.
const CLUSTER: ClusterId = ClusterId(0x0c1a_57e5);

/// The id of the member at a place.
pub(crate) fn member_id(place: usize) -> MemberId {
    MemberId(0x10 + place as u64)
}

/// The place of a member.
fn place_of(id: MemberId) -> Option<usize> {
    id.0.checked_sub(0x10).map(|place| place as usize)
}

/// The place in the log of an index.
fn log_place(index: Index) -> Option<usize> {
    index.0.checked_sub(1).map(|place| place as usize)
}

impl Happening {
    /// What of it goes into the trace.
    fn key(&self) -> (u64, u64, u64) {
        let pair = |a: usize, b: usize| (a as u64) << 32 | b as u64;
        match self {
            Happening::Turn { member, ticket } => (1, *member as u64, *ticket),
            Happening::Disk { member, token, .. } => (2, *member as u64, token.number),
            Happening::Arrive { from, to, frame, .. } => {
                (3, pair(*from, *to), u64::from(crc32fast::hash(frame)))
            }
            Happening::Dial { a, b } => (4, pair(*a, *b), 0),
            Happening::Greet { at, peer, hello, .. } => (5, pair(*at, *peer), hello.last.index.0),
            Happening::Broken { at, peer, connection } => (6, pair(*at, *peer), *connection),
            Happening::Boot { member, life } => (7, *member as u64, *life),
            Happening::Crash { member, life, .. } => (8, *member as u64, *life),
            Happening::Begin(fault) => (9, *fault as u64, 0),
            Happening::End(fault) => (10, *fault as u64, 0),
            Happening::Flap { fault, on } => (11, *fault as u64, u64::from(*on)),
            Happening::Ask { op, .. } => (12, op.0 as u64, 0),
            Happening::Answer { op, answered, .. } => {
                let revision = answered.as_ref().as_ref().map_or(-1, |a| a.header.revision.0);
                (13, op.0 as u64, revision as u64)
            }
            Happening::Think { client } => (14, *client as u64, 0),
            Happening::Patience { op } => (15, op.0 as u64, 0),
            Happening::WatchAsk { client, stream, requests, .. } => {
                (16, pair(*client, requests.len()), *stream)
            }
            Happening::WatchTell { client, response, .. } => {
                (17, pair(*client, response.events.len()), response.revision.0 as u64)
            }
            Happening::WatchBroken { client, stream } => (18, *client as u64, *stream),
            Happening::WatchAct { client } => (19, *client as u64, 0),
            Happening::Phase(phase) => (20, *phase as u64, 0),
            Happening::Probe => (21, 0, 0),
            Happening::Line(doing) => doing.key(),
            Happening::Operate => (40, 0, 0),
        }
    }

    fn line(&self) -> String {
        match self {
            Happening::Arrive { from, to, frame, .. } => {
                format!("m{from} → m{to}: {}", peer::describe(frame))
            }
            Happening::Line(doing) => doing.line(),
            other => format!("{other:?}"),
        }
    }
}
