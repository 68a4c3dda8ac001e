//! A lone member within the bench: the shipped driver and edge, over a real folder, turned by hand.
//!
//! Disk orders are carried out between the turns. How much processor time the pieces of a turn take is
//! noted, since each of them holds up everything else of the member; the time by the clock would mostly
//! tell what else the machine does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::id::{ClusterId, Incarnation, MemberId, RequestId};
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::membership::Membership;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::message::Message;
use holdfast_core::query::{Answered, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::response::{Member, Response};
use holdfast_core::status::{Role, Status};
use holdfast_core::time::Instant;
use holdfast_core::watch::{HubOptions, WatchResponse, WatchStreamId};
use holdfast_net::call::StreamId;
use holdfast_server::auth::vault::InlineVault;
use holdfast_server::auth::{AuthOptions, Credential};
use holdfast_server::boot::{BootConfig, boot};
use holdfast_server::driver::Driver;
use holdfast_server::edge::{Asked, Edge, EdgeConfig, HashChecks};
use holdfast_server::host::{Event, Host, Publication};
use holdfast_storage::disk::{Completion, Disk, DiskOp, FileDisk, Token};
use holdfast_storage::engine::EngineOptions;
use holdfast_storage::wal::WalOptions;

/// How long something took, each time.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// Median, 99th percentile, longest, and how many there were.
    pub fn show(&mut self) -> String {
        self.0.sort_unstable();
        let at =
            |share: usize| self.0.get((self.0.len() * share / 1000).min(self.0.len().max(1) - 1));
        let ms = |share| at(share).map_or(0.0, |took| took.as_secs_f64() * 1e3);
        let (median, most, longest) = (ms(500), ms(990), ms(1000));
        format!("{median:.2} / {most:.2} / {longest:.2} ms ({} times)", self.0.len())
    }
}

/// The processor time of this thread so far.
pub fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The pieces of a turn.
#[derive(Default)]
pub struct Pieces {
    /// The driver's.
    pub turn: Times,
    /// Taking over a publication: the hub's announcement, and letting go of the state before.
    pub announce: Times,
    /// Answers and reads.
    pub answer: Times,
    /// What watches are told.
    pub watch: Times,
}

impl Pieces {
    pub fn clear(&mut self) {
        for times in [&mut self.turn, &mut self.announce, &mut self.answer, &mut self.watch] {
            times.clear();
        }
    }

    pub fn show(&mut self, what: &str) {
        println!("  {what}: median / p99 / longest");
        println!("    driver   {}", self.turn.show());
        println!("    announce {}", self.announce.show());
        println!("    answers  {}", self.answer.show());
        println!("    watches  {}", self.watch.show());
    }
}

enum Order {
    Submit(Token, DiskOp),
    Publish(Publication),
    Reply(RequestId, Result<Response, Rejection>),
}

/// Collects a turn's orders.
struct Collecting {
    began: std::time::Instant,
    orders: Vec<Order>,
    facts: Vec<Fact>,
    status: Status,
}

impl Host for Collecting {
    fn now(&self) -> Instant {
        Instant(self.began.elapsed().as_nanos() as u64)
    }

    fn submit(&mut self, token: Token, op: DiskOp) {
        self.orders.push(Order::Submit(token, op));
    }

    fn send(&mut self, _to: MemberId, _message: Message) {}

    fn publish(&mut self, publication: Publication) {
        self.orders.push(Order::Publish(publication));
    }

    fn reply(&mut self, id: RequestId, result: Result<Response, Rejection>) {
        self.orders.push(Order::Reply(id, result));
    }

    fn membership(&mut self, _membership: Membership) {}

    fn warn(&mut self, message: &str) {
        println!("{message}");
    }

    fn turned(&mut self, status: Status, facts: &[Fact]) {
        self.status = status;
        self.facts.extend_from_slice(facts);
    }
}

pub struct Rig {
    driver: Driver<Collecting>,
    pub edge: Edge,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    inbox: Vec<Event>,
    calls: u64,
    /// Answers that were not taken.
    pub answers: BTreeMap<StreamId, Answered>,
    /// What watches were told in this turn.
    told: Vec<WatchResponse>,
    pub pieces: Pieces,
}

impl Rig {
    /// A new member that leads.
    pub fn new(name: &str, limits: Limits) -> Rig {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Left by a run that was interrupted.
        let _ = std::fs::remove_dir_all(&folder);
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&folder).expect("a folder of our own"));
        let config = BootConfig {
            cluster: ClusterId(1),
            member: MemberId(1),
            incarnation: Incarnation(1),
            boot: 1,
            limits: limits.clone(),
            seed: 1,
            genesis: vec![Member { id: MemberId(1), ..Member::default() }],
            wal: WalOptions::default(),
            engine: EngineOptions::default(),
            force_new: false,
        };
        let booted = boot(disk.clone(), &config, Instant(0)).expect("an empty folder");
        let edge = EdgeConfig {
            member: config.member,
            incarnation: config.incarnation,
            sequence_base: 0,
            hub: HubOptions::default(),
            seed: 2,
            quota: 0,
            auto_compaction: None,
            hash_checks: HashChecks::default(),
            compaction_hashes: CompactionHashes::default(),
            auth: AuthOptions::default(),
            answers: AnswerMemory::new(limits.answer_bytes_max),
            limits,
            member_id: |_| MemberId(2),
        };
        let edge = Edge::new(edge, booted.engine.snapshot(), Box::new(InlineVault::new(3)));
        let host = Collecting {
            began: std::time::Instant::now(),
            orders: Vec::new(),
            facts: Vec::new(),
            status: Status::default(),
        };
        let mut rig = Rig {
            driver: Driver::new(booted, host),
            edge,
            disk,
            folder,
            inbox: Vec::new(),
            calls: 0,
            answers: BTreeMap::new(),
            told: Vec::new(),
            pieces: Pieces::default(),
        };
        while rig.driver.host().status.role != Role::Leader {
            rig.turn();
        }
        rig
    }

    pub fn now(&self) -> Instant {
        self.driver.host().now()
    }

    /// What has happened since the last call.
    pub fn facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.driver.host_mut().facts)
    }

    pub fn ask(&mut self, query: Query) -> StreamId {
        self.calls += 1;
        let call = StreamId(self.calls);
        let (now, by) = (self.now(), Credential::default());
        self.edge.ask(now, Asked { call, query, by }, &mut self.inbox);
        call
    }

    /// Turns until a call is answered.
    pub fn wait(&mut self, call: StreamId) -> Answered {
        loop {
            if let Some(answered) = self.answers.remove(&call) {
                return answered;
            }
            self.turn();
        }
    }

    /// One turn and what follows it, until the edge has nothing more to do at once.
    pub fn turn(&mut self) {
        let now = self.now();
        self.edge.flush(now, &mut self.inbox);
        let begun = cpu();
        self.driver.turn(&mut self.inbox).expect("the disk works");
        self.pieces.turn.push(cpu() - begun);
        self.deliver(now);
    }

    /// Whether the driver wants its next turn at once.
    pub fn is_busy(&self) -> bool {
        !self.inbox.is_empty() || self.driver.deadline() <= self.now()
    }

    fn deliver(&mut self, now: Instant) {
        for order in std::mem::take(&mut self.driver.host_mut().orders) {
            match order {
                Order::Submit(token, op) => {
                    let result = self.disk.perform(op);
                    self.inbox.push(Event::Completed(Completion { token, result }));
                }
                Order::Publish(publication) => {
                    let begun = cpu();
                    self.edge.published(now, publication);
                    self.pieces.announce.push(cpu() - begun);
                }
                Order::Reply(id, result) => self.edge.replied(id, result),
            }
        }
        let status = self.driver.host().status;
        self.edge.turned(status, &[]);
        let begun = cpu();
        let mut answers = Vec::new();
        self.edge.take_answers(now, &mut answers);
        self.answers.extend(answers);
        self.pieces.answer.push(cpu() - begun);
        let begun = cpu();
        while let Some(stream) = self.edge.next_watch() {
            self.edge.poll_watch(stream, &mut self.told).expect("the disk works");
        }
        self.pieces.watch.push(cpu() - begun);
        self.told.clear();
    }

    /// A watch stream, to be asked for watchers.
    pub fn open(&mut self, stream: WatchStreamId) {
        let now = self.now();
        self.edge.watches().0.open(stream, now);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
