//! One member: its disk, its clock, and, while it lives, the shipped driver and what clients reach
//! it through.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::id::{Incarnation, MemberId, RequestId, Term};
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::membership::Membership;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::node;
use holdfast_core::request::Op;
use holdfast_core::rng::Rng;
use holdfast_core::status::Role;
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
use holdfast_core::watch::HubOptions;
use holdfast_net::call::StreamId;
use holdfast_net::wire::Origin;
use holdfast_server::auth::vault::InlineVault;
use holdfast_server::auth::{AuthOptions, TokenOptions};
use holdfast_server::boot::{BootConfig, boot};
use holdfast_server::driver::Driver;
use holdfast_server::edge::{Edge, EdgeConfig, HashChecks};
use holdfast_server::host::Event;
use holdfast_server::router::MailBounds;
use holdfast_storage::disk::{DiskOp, Token};
use holdfast_storage::engine::EngineOptions;
use holdfast_storage::snapshot::Snapshot;
use holdfast_storage::wal::WalOptions;

use super::edges::{Edges, SimPost};
use super::front::{Direct, Front};
use super::host::{Order, SimHost};
use super::served::{Held, Served, ServedConfig};
use super::tap::LogOf;
use super::{CLUSTER, Happening, World, member_id};
use crate::checker::Seen;
use crate::clock::{Clock, Moment};
use crate::disk::SimDisk;
use crate::swarm::{Stream, Swarm};

/// A running process.
pub(super) struct Life {
    pub driver: Driver<SimHost>,
    pub edges: Edges,
    pub inbox: Vec<Event>,
}

impl Life {
    /// Whether the process was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(&self.edges.first, Front::Served(served) if served.stopping)
    }
}

impl Life {
    /// Whether it has no vote, or is no member.
    pub(super) fn is_learner(&self) -> bool {
        self.driver.host().status.role == Role::Learner
    }
}

/// When an armed crash goes off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub power: bool,
    pub lasts: Duration,
    /// Wait for a snapshot's chunk instead of a disk write.
    pub receiving: bool,
}

/// One member of the world.
pub(super) struct Slot {
    pub number: usize,
    pub disk: Arc<SimDisk>,
    pub clock: Clock,
    pub rate: u64,
    /// It does not come back: it was removed and has stopped, or is lost.
    pub over: bool,
    /// It has lost its data and came back as if it were new.
    pub wiped: bool,
    /// It is the last of its cluster, and starts so until the log says it too.
    pub forced: bool,
    /// By what birth the running process has met each peer first.
    pub met: BTreeMap<usize, u64>,
    /// Whether it was ever started.
    pub started: bool,
    /// Who there is, as far as it knows: whom it talks to.
    pub known: Membership,
    /// Counts lives, so that events of an earlier one are recognised.
    pub life_number: u64,
    pub life: Option<Life>,
    /// It was started, and its process does not run.
    pub is_down: bool,
    /// Until when the process stands still.
    pub paused_until: Moment,
    pub armed: Option<Armed>,
    /// The fault that strikes when it next installs a snapshot.
    pub stalls: Option<usize>,
    /// How long it stands still once it has asked for a read.
    pub stiffens: Option<Duration>,
    /// It was told to campaign at once, in this term, and has not had its turn since.
    pub ordered: Option<Term>,
    /// How often the power goes again during the next attempts to recover.
    pub relapses: u8,
    /// Whether a fault has filled the disk.
    pub full: bool,
    /// The connection each peer greeted on.
    pub greeted: BTreeMap<usize, u64>,
    /// Chunks of snapshots that came since the last install.
    pub chunks: u64,
    ticket: u64,
    turn_at: Moment,
    pub rng: Rng,
    boot_id: u128,
    /// What is panicking or halting more often than it may is left down.
    pub failures: u32,
}

impl Slot {
    pub(super) fn new(
        number: usize,
        disk: Arc<SimDisk>,
        mut clocks: Rng,
        rate: u64,
        seed: u64,
    ) -> Slot {
        let origin = Instant(1 + clocks.below(1 << 50));
        Slot {
            number,
            disk,
            clock: Clock::new(Moment(0), origin, rate),
            rate,
            over: false,
            wiped: false,
            forced: false,
            met: BTreeMap::new(),
            started: false,
            known: Membership::default(),
            life_number: 0,
            life: None,
            is_down: false,
            paused_until: Moment(0),
            armed: None,
            stalls: None,
            stiffens: None,
            ordered: None,
            relapses: 0,
            full: false,
            greeted: BTreeMap::new(),
            chunks: 0,
            ticket: 0,
            turn_at: Moment::NEVER,
            rng: Stream::Members.rng(seed).fork(number as u64),
            boot_id: 1,
            failures: 0,
        }
    }

    /// Whether the process with this number runs.
    pub(super) fn lives(&self, life: u64) -> bool {
        self.life.is_some() && self.life_number == life
    }

    /// What all its edges hold, where clients have connections.
    pub(super) fn held(&self) -> Option<Held> {
        let mut sum = (0, 0, 0);
        for (_, front) in self.life.as_ref()?.edges.fronts() {
            let Front::Served(served) = front else { return None };
            let held = served.held();
            sum = (sum.0 + held.0, sum.1 + held.1, sum.2 + held.2);
        }
        Some(sum)
    }

    fn config(&mut self, swarm: &Swarm, genesis: &[holdfast_core::response::Member]) -> BootConfig {
        let storage = &swarm.storage;
        BootConfig {
            cluster: CLUSTER,
            member: member_id(self.number),
            incarnation: Incarnation(self.rng.next() | 1),
            boot: self.boot_id,
            limits: Limits { quota_bytes: swarm.quotas[self.number], ..swarm.limits.clone() },
            seed: self.rng.next(),
            genesis: genesis.to_vec(),
            wal: WalOptions {
                segment_bytes: storage.segment_bytes,
                depth: swarm.limits.batches_in_flight_max,
            },
            engine: EngineOptions {
                cache_bytes: 1 << 20,
                chunk_bytes: storage.chunk_bytes,
                seed: self.rng.next(),
            },
            force_new: self.forced,
        }
    }
}

impl World {
    /// Sees to it that a member looks at its inbox at `when` or before.
    pub(super) fn wake(&mut self, member: usize, when: Moment) {
        let slot = &mut self.members[member];
        if slot.life.is_none() {
            return;
        }
        let when = when.max(slot.paused_until).max(self.now);
        if slot.turn_at <= when {
            return;
        }
        slot.turn_at = when;
        slot.ticket += 1;
        let ticket = slot.ticket;
        self.at(when, Happening::Turn { member, ticket });
    }

    /// Something came for a member: it will look after a little while, and find what else has come.
    pub(super) fn poke(&mut self, member: usize) {
        let delay = Duration::from_nanos(5_000 + self.members[member].rng.below(60_000));
        self.wake(member, self.now.after(delay));
    }

    /// The process starts and recovers.
    pub(super) fn boot(&mut self, member: usize, life: u64) {
        let slot = &mut self.members[member];
        if slot.life.is_some() || slot.life_number != life || slot.over {
            return;
        }
        slot.started = true;
        let config = slot.config(&self.swarm, &self.genesis);
        if slot.relapses > 0 {
            slot.relapses -= 1;
            slot.disk.cut_after(slot.rng.between(1, 40));
        }
        let now = slot.clock.read(self.now);
        let disk = slot.disk.clone();
        let booted = catch_unwind(AssertUnwindSafe(|| boot(disk, &config, now)));
        match booted {
            Ok(Ok(booted)) => {
                let state = booted.engine.snapshot();
                slot.known = machine::membership(&state);
                let (edges, inbox) = self.edges(member, now, (&config, &state));
                let host = SimHost { now, ..SimHost::default() };
                let driver = Driver::new(booted, host);
                self.born(member, Life { driver, edges, inbox });
            }
            Ok(Err(fault)) => self.stillborn(member, &fault),
            Err(panic) => {
                self.broke(
                    "P0",
                    format!("member {member} panics in recovery: {}", text_of(&*panic)),
                );
                self.fail(member);
            }
        }
    }

    /// A member's edges, and what it asks first.
    fn edges(
        &self,
        member: usize,
        now: Instant,
        (config, state): (&BootConfig, &Snapshot),
    ) -> (Edges, Vec<Event>) {
        let answers = AnswerMemory::new(config.limits.answer_bytes_max);
        let hashes = CompactionHashes::default();
        let edge_config = |place: usize| EdgeConfig {
            hash_checks: if place == 0 { self.swarm.hash_checks } else { HashChecks::default() },
            compaction_hashes: hashes.clone(),
            ..edge_config(config, place, &answers)
        };
        let edge = |place: usize| {
            let vault = Box::new(InlineVault::new(config.seed ^ 3 ^ (place as u64) << 8));
            Edge::new(edge_config(place), state.clone(), vault)
        };
        let (mut first, mut inbox) = (edge(0), Vec::new());
        first.propose(now, OWN, publish(member), &mut inbox);
        let further = (1..self.swarm.edges[member]).map(|place| {
            let post = SimPost::new(MailBounds::of(&edge_config(place)));
            let own = (member, place, Some(post.clone()));
            (self.front(own, now, edge(place)), post)
        });
        let further = further.collect();
        (Edges::new(self.front((member, 0, None), now, first), further), inbox)
    }

    /// What a member's clients speak to at one of its edges.
    fn front(
        &self,
        (member, place, post): (usize, usize, Option<Rc<SimPost>>),
        now: Instant,
        edge: Edge,
    ) -> Front {
        let Some(mix) = &self.swarm.transport else {
            return Front::Direct(Box::new(Direct::new(edge)));
        };
        let origin = Origin { cluster: CLUSTER, member: member_id(member) };
        let config = ServedConfig { origin, limits: &self.swarm.limits, mix, place, post };
        Front::Served(Box::new(Served::new(edge, now, &config)))
    }

    fn born(&mut self, member: usize, life: Life) {
        let slot = &mut self.members[member];
        slot.disk.cut_after(u64::MAX);
        slot.turn_at = Moment::NEVER;
        let term = life.driver.node().status().term;
        let snapshot = life.driver.engine().snapshot();
        let terms = LogOf { driver: &life.driver, disk: &slot.disk.clone() };
        self.say(|| {
            format!("m{member} is up at {}", holdfast_core::store::View::mark(&snapshot).applied)
        });
        self.see(&Seen::Booted { member, term, terms: &terms, view: &snapshot });
        self.members[member].life = Some(life);
        self.members[member].is_down = false;
        self.counts.boots += 1;
        self.poke(member);
    }

    fn stillborn(&mut self, member: usize, fault: &Fault) {
        if self.is_over(member, fault) {
            return;
        }
        let slot = &mut self.members[member];
        let (cut, full) = (slot.disk.is_cut(), slot.full);
        self.say(|| format!("m{member} does not start: {fault}"));
        if cut {
            let loss = self.members[member].disk.crash();
            self.counts.bytes_lost += loss.bytes_lost;
            self.counts.recoveries_cut += 1;
        } else if !full {
            let why = fault.to_string();
            self.see(&Seen::BootFailed { member, why: &why });
            self.members[member].failures += 1;
        }
        self.schedule_boot(member, Duration::from_millis(300));
    }

    /// A process that panicked or halted starts again, unless it does so for ever.
    pub(super) fn fail(&mut self, member: usize) {
        self.members[member].failures += 1;
        self.stop(member);
        self.members[member].disk.kill();
        self.schedule_boot(member, Duration::from_millis(500));
    }

    /// A member that was removed stops for good; nobody else may say that of itself.
    fn is_over(&mut self, member: usize, fault: &Fault) -> bool {
        let id = member_id(member);
        if *fault == node::reborn(id) {
            return self.is_lost(member);
        }
        if *fault != node::removed(id) {
            return false;
        }
        if !self.model.removed().contains(&id) {
            self.broke("R10", format!("member {member} stops as if it had been removed"));
        }
        self.counts.members_stopped += 1;
        self.members[member].over = true;
        true
    }

    pub(super) fn schedule_boot(&mut self, member: usize, delay: Duration) {
        let slot = &mut self.members[member];
        if slot.failures > 20 || slot.over || !slot.started {
            return;
        }
        slot.life_number += 1;
        let life = slot.life_number;
        self.after(delay, Happening::Boot { member, life });
    }

    /// The process ends, with the power or without.
    pub(super) fn crash(&mut self, member: usize, power: bool, lasts: Duration) {
        if self.members[member].life.is_none() {
            return;
        }
        let receiving = self.members[member].chunks > 0;
        self.stop(member);
        let slot = &mut self.members[member];
        let loss = if power { slot.disk.crash() } else { slot.disk.kill() };
        if power {
            slot.boot_id += 1;
            let origin = Instant(1 + slot.rng.below(1 << 50));
            slot.clock = Clock::new(self.now, origin, slot.rate);
        }
        self.say(|| format!("m{member} crashes: {loss:?}"));
        self.counts.crashes += 1;
        self.counts.bytes_lost += loss.bytes_lost;
        self.counts.crashes_dirty += u64::from(loss.bytes_lost > 0);
        self.counts.crashes_in_snapshot += u64::from(receiving);
        self.schedule_boot(member, lasts);
    }

    fn stop(&mut self, member: usize) {
        self.see(&Seen::Stopped { member });
        let slot = &mut self.members[member];
        let Some(life) = slot.life.take() else { return };
        slot.is_down = true;
        slot.armed = None;
        slot.ordered = None;
        slot.paused_until = Moment(0);
        slot.turn_at = Moment::NEVER;
        slot.greeted.clear();
        slot.met.clear();
        slot.chunks = 0;
        slot.life_number += 1;
        let streams = life.edges.fronts().flat_map(|(_, front)| match front {
            Front::Direct(direct) => direct.streams.values().copied().collect(),
            Front::Served(_) => Vec::new(),
        });
        let streams: Vec<(usize, u64)> = streams.collect();
        drop(life);
        self.disconnect_all(member);
        self.cut_lines(member);
        for (client, stream) in streams {
            let delay = Duration::from_millis(1 + self.chance.below(200));
            self.after(delay, Happening::WatchBroken { client, stream });
        }
    }

    /// A member looks at its inbox and acts.
    pub(super) fn turn(&mut self, member: usize, ticket: u64) {
        let slot = &mut self.members[member];
        if slot.ticket != ticket || slot.turn_at != self.now {
            return;
        }
        slot.turn_at = Moment::NEVER;
        if self.now < slot.paused_until {
            let until = slot.paused_until;
            return self.wake(member, until);
        }
        let now = slot.clock.read(self.now);
        let Some(mut life) = slot.life.take() else { return };
        life.driver.host_mut().now = now;
        let mut inbox = std::mem::take(&mut life.inbox);
        let requests = &mut self.requests;
        let turned = catch_unwind(AssertUnwindSafe(|| {
            life.edges.first.collect(now, &mut inbox, requests);
            life.edges.collect_offered(&mut inbox);
            life.driver.turn(&mut inbox)
        }));
        inbox.clear();
        life.inbox = inbox;
        match turned {
            Ok(Ok(())) => {
                let acted = catch_unwind(AssertUnwindSafe(|| self.act(member, &mut life, now)));
                if acted.is_ok() {
                    self.run_edges(member, &mut life, now);
                }
                let mut deadline = life.driver.deadline().min(life.edges.first.deadline());
                if life.edges.first.is_woken() || life.edges.has_offered() {
                    deadline = now;
                }
                let due = life.edges.next_due();
                self.members[member].life = Some(life);
                if let Err(panic) = acted {
                    self.broke("P0", format!("member {member} panics: {}", text_of(&*panic)));
                    return self.fail(member);
                }
                let slot = &mut self.members[member];
                let when = slot.clock.when(deadline);
                // Connections have their turn between two of the driver's, and what they bring comes then.
                let busy = if slot.rng.chance(10) { slot.rng.below(3_000_000) } else { 0 };
                let pause = Duration::from_nanos(20_000 + busy);
                self.wake(member, when.max(self.now.after(pause)));
                self.wake(member, due);
                self.pump_member(member);
            }
            Ok(Err(fault)) => {
                self.members[member].life = Some(life);
                self.halted(member, &fault);
            }
            Err(panic) => {
                self.members[member].life = Some(life);
                self.broke("P0", format!("member {member} panics: {}", text_of(&*panic)));
                self.fail(member);
            }
        }
    }

    fn halted(&mut self, member: usize, fault: &Fault) {
        self.say(|| format!("m{member} halts: {fault}"));
        if self.is_over(member, fault) {
            self.stop(member);
            self.members[member].disk.kill();
            return;
        }
        if !self.members[member].full {
            self.broke("P1", format!("member {member} halts: {fault}"));
        }
        self.counts.halts += 1;
        self.fail(member);
    }

    /// Carries out what a turn ordered. The log comes first: answers are checked against it.
    fn act(&mut self, member: usize, life: &mut Life, now: Instant) {
        let facts = std::mem::take(&mut life.driver.host_mut().facts);
        let orders = std::mem::take(&mut life.driver.host_mut().orders);
        self.learn(member, life, &facts);
        self.observe_leader(member, life);
        if life.driver.node().is_installing()
            && let Some(fault) = self.members[member].stalls.take()
        {
            self.stall(member, fault);
        }
        if let Some(term) = self.members[member].ordered.take() {
            self.check_order(member, (life, term), &facts);
        }
        for order in orders {
            match order {
                Order::Submit(token, op) => self.submit(member, token, op),
                Order::Send(to, message) => self.send(member, to, &message),
                Order::Publish(publication) => {
                    let view = publication.snapshot.clone();
                    let restored = publication.restored;
                    let Edges { first, router, .. } = &mut life.edges;
                    first.with_edge(|edge| router.published(now, publication, edge));
                    self.see(&Seen::Published { member, view: &view, restored });
                }
                Order::Membership(membership) => {
                    self.members[member].known = membership;
                    self.part_with_strangers(member);
                }
                Order::Reply(id, result) => {
                    let acknowledged = result.is_ok();
                    let Edges { first, router, .. } = &mut life.edges;
                    first.with_edge(|edge| router.replied((id, result), edge));
                    self.replied(id, acknowledged);
                }
            }
        }
        let (status, Edges { first, router, .. }) = (life.driver.host().status, &mut life.edges);
        let mut warnings = Vec::new();
        first.with_edge(|edge| {
            router.turned(status, &facts, edge);
            warnings = edge.take_warnings();
        });
        for text in warnings {
            self.see(&Seen::Warned { member, text: &text });
        }
        self.deliver(member, first, now);
    }

    fn replied(&mut self, id: RequestId, acknowledged: bool) {
        let Some(op) = self.requests.ops.get(&id).copied() else { return };
        let writes = super::client::is_write(&self.history.record(op).query);
        if acknowledged && writes {
            self.see(&Seen::Replied { op });
        }
    }

    fn submit(&mut self, member: usize, token: Token, op: DiskOp) {
        let slot = &mut self.members[member];
        let writes = !matches!(op, DiskOp::Read { .. });
        let takes = slot.disk.begin(token, op);
        let life = slot.life_number;
        if let Some(armed) = slot.armed.filter(|armed| writes && !armed.receiving) {
            slot.armed = None;
            let share = slot.rng.below(takes.as_nanos() as u64 + 1);
            let Armed { power, lasts, .. } = armed;
            self.after(
                Duration::from_nanos(share),
                Happening::Crash { member, life, power, lasts },
            );
        }
        self.after(takes, Happening::Disk { member, life, token });
    }

    pub(super) fn disk_done(&mut self, member: usize, life: u64, token: Token) {
        let slot = &mut self.members[member];
        if !slot.lives(life) {
            return;
        }
        let Some(completion) = slot.disk.finish(token) else { return };
        let living = slot.life.as_mut().expect("it lives");
        living.inbox.push(Event::Completed(completion));
        self.poke(member);
    }
}

/// The call of a member's own publication.
pub(super) const OWN: StreamId = StreamId(u64::MAX);

fn publish(member: usize) -> Op {
    Op::Publish {
        member: member_id(member),
        name: format!("m{member}"),
        client_urls: vec![format!("http://m{member}:2379")],
    }
}

/// The id of a new member is that of the place its URL names: the same URL is the same id.
fn id_of_urls(urls: &[String]) -> MemberId {
    let place =
        urls.first().and_then(|url| url.strip_prefix("http://m")?.split(':').next()?.parse().ok());
    member_id(place.unwrap_or(usize::from(u16::MAX)))
}

fn edge_config(config: &BootConfig, place: usize, answers: &AnswerMemory) -> EdgeConfig {
    // The first edge has the seeds that it would have alone.
    let own = (place as u64) << 32;
    EdgeConfig {
        member: config.member,
        incarnation: config.incarnation,
        sequence_base: RequestId::first_of(place),
        limits: config.limits.clone(),
        hub: HubOptions {
            progress_interval: Duration::from_secs(2),
            catchup_revisions: 20,
            catchup_bytes: 8 << 10,
            log_bytes: 16 << 10,
            catchup_watchers: 2,
            fragment_bytes: 400,
            stream_responses_max: 4,
            queue_runs_max: 8,
            seed: config.seed ^ 1 ^ own,
        },
        seed: config.seed ^ 2 ^ own,
        quota: 0,
        auto_compaction: None,
        hash_checks: HashChecks::default(),
        compaction_hashes: CompactionHashes::default(),
        auth: AuthOptions {
            // Tokens end while they are in use, and of too many some.
            tokens: TokenOptions::Simple { ttl: Duration::from_secs(10) },
            tokens_max: 8,
            hashes_max: 4,
            ..AuthOptions::default()
        },
        answers: answers.clone(),
        member_id: id_of_urls,
    }
}

/// The message of a panic.
pub(super) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_string()
}
