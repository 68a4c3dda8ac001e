//! The members: each a madsim node with a disk that survives its process and a clock that drifts.
//!
//! Every start is a full recovery from the disk's image. Nothing else survives a process: a life of
//! a member makes its runtime, queue, driver, sessions and peers anew.
//!
//! Faults: a process is killed (what it had written stays written, orders under way are torn), the
//! power goes (unsynced sectors are kept or lost, one by one), a member is cut from its peers while
//! its clients still reach it, a member is cut from everybody.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::fact::Fact;
use holdfast_core::id::{ClusterId, Incarnation, MemberId};
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::response;
use holdfast_core::rng::Rng;
use holdfast_core::status::{Role, Status};
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
use holdfast_net::grpc::{Http2Options, Sleep};
use holdfast_server::auth::AuthOptions;
use holdfast_server::auth::vault::InlineVault;
use holdfast_server::boot::BootConfig;
use holdfast_server::edge::HashChecks;
use holdfast_server::edge_worker::{Counted, EdgePost, EdgeSeed, EdgeWorker};
use holdfast_server::member::{Disks, Gate, Member, MemberConfig, Spread};
use holdfast_server::observer::Observer;
use holdfast_server::router::least_loaded;
use holdfast_server::runtime::Runtime;
use holdfast_sim::clock::{Clock, RATE_TRUE};
use holdfast_sim::disk::{Latency, Loss, SimDisk};
use holdfast_storage::engine::EngineOptions;
use holdfast_storage::wal::WalOptions;
use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::sync::Notify;

use crate::disk::SimQueue;
use crate::runtime::{MadsimRuntime, Stream, truth};
use crate::shared::{MEMBERS, Shared, client_address, host, peer_address};

/// The most by which a clock is fast, in parts of a million; another may be slow by as much.
pub const DRIFT_PPM: u64 = 20_000;

/// Bytes of a disk.
const CAPACITY: u64 = 256 << 20;

/// What one seed's members are like.
pub struct Shape {
    /// Their limits.
    pub limits: Limits,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Bytes of one piece of a snapshot.
    pub chunk_bytes: usize,
    /// Each member's clock rate.
    pub rates: [u64; MEMBERS],
    /// Edges of each member beside the first.
    pub further_edges: [usize; MEMBERS],
}

impl Shape {
    /// Draws one.
    pub fn draw(mut rng: Rng) -> Shape {
        let mut pick = |from: &[u64]| from[rng.below(from.len() as u64) as usize];
        let heartbeat = Duration::from_millis(pick(&[50, 100, 100]));
        let limits = Limits {
            heartbeat,
            election_timeout: heartbeat * 10,
            checkpoint_entries: pick(&[30, 60, 120, 10_000]),
            catchup_entries: pick(&[5, 10, 20, 50]),
            batches_in_flight_max: pick(&[1, 2, 2, 4]) as usize,
            ..Limits::default()
        };
        limits.validate().expect("the ranges above lie within what is valid");
        Shape {
            limits,
            segment_bytes: pick(&[64 << 10, 128 << 10, 256 << 10]),
            chunk_bytes: pick(&[4 << 10, 16 << 10]) as usize,
            rates: std::array::from_fn(|_| RATE_TRUE - DRIFT_PPM + rng.below(2 * DRIFT_PPM + 1)),
            further_edges: std::array::from_fn(|_| rng.below(3) as usize),
        }
    }
}

/// What stays of a member when its process is gone.
struct Seat {
    number: usize,
    shape: Arc<Shape>,
    disk: Arc<SimDisk>,
    rng: Rng,
    lives: AtomicU64,
    boots: AtomicU64,
    shared: Arc<Shared>,
}

/// The members, for whoever makes faults.
pub struct Cluster {
    seats: Vec<Arc<Seat>>,
    nodes: Vec<NodeId>,
    shared: Arc<Shared>,
}

impl Cluster {
    /// Makes the nodes and starts every member on an empty disk.
    pub fn start(shape: Shape, rng: &Rng, shared: &Arc<Shared>) -> Cluster {
        let shape = Arc::new(shape);
        let seat = |number: usize| {
            let own = rng.fork(number as u64);
            Arc::new(Seat {
                number,
                shape: shape.clone(),
                disk: Arc::new(SimDisk::new(own.fork(1), Latency::default(), CAPACITY)),
                rng: own.fork(2),
                lives: AtomicU64::new(0),
                boots: AtomicU64::new(1),
                shared: shared.clone(),
            })
        };
        let seats: Vec<Arc<Seat>> = (0..MEMBERS).map(seat).collect();
        let node = |seat: &Arc<Seat>| {
            let (seat, ip) = (seat.clone(), host(seat.number).parse::<IpAddr>());
            let handle = Handle::current();
            let node = handle.create_node().name(seat.name());
            let node = node.ip(ip.expect("it is an address"));
            node.init(move || seat.clone().live()).build().id()
        };
        let nodes = seats.iter().map(node).collect();
        shared.board().is_up = [true; MEMBERS];
        Cluster { seats, nodes, shared: shared.clone() }
    }

    /// Kills the process of a member, and takes its power if `power` says so.
    pub fn crash(&self, n: usize, power: bool) {
        Handle::current().kill(self.nodes[n]);
        let seat = &self.seats[n];
        let loss = if power { seat.disk.crash() } else { seat.disk.kill() };
        seat.boots.fetch_add(u64::from(power), Ordering::Relaxed);
        let Loss { bytes_lost, torn, .. } = loss;
        self.shared.note(&seat.name(), format!("crash, {torn} torn, {bytes_lost} bytes lost"));
        let mut board = self.shared.board();
        board.is_up[n] = false;
        board.is_ready[n] = false;
        board.counts.crashes += 1;
        board.counts.bytes_lost += bytes_lost;
    }

    /// Whether a member's disk has work under way, which a crash would tear.
    pub fn is_writing(&self, n: usize) -> bool {
        self.seats[n].disk.is_writing()
    }

    /// Starts the process of a member again.
    pub fn restart(&self, n: usize) {
        self.shared.board().is_up[n] = true;
        Handle::current().restart(self.nodes[n]);
    }

    /// Cuts a member from its peers, and from its clients too if `clients` says so.
    pub fn cut(&self, n: usize, clients: bool) {
        self.shared.note(&self.seats[n].name(), format!("cut, clients {clients}"));
        self.shared.count(|counts| counts.partitions += 1);
        let net = NetSim::current();
        if clients {
            return net.clog_node(self.nodes[n]);
        }
        for peer in self.nodes.iter().filter(|node| **node != self.nodes[n]) {
            net.clog_link(self.nodes[n], *peer);
            net.clog_link(*peer, self.nodes[n]);
        }
    }

    /// Ends every cut.
    pub fn mend(&self) {
        let net = NetSim::current();
        for node in &self.nodes {
            net.unclog_node(*node);
            for peer in &self.nodes {
                net.unclog_link(*node, *peer);
            }
        }
        self.shared.note("net", "mended");
    }

    /// Writes down a checksum of every disk.
    pub fn note_disks(&self) {
        for seat in &self.seats {
            self.shared.note(&seat.name(), format!("disk {:08x}", seat.disk.digest()));
        }
    }
}

impl Seat {
    fn name(&self) -> String {
        format!("n{}", self.number + 1)
    }

    /// One life: recovery, service, and at last a kill.
    async fn live(self: Arc<Seat>) {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let mut rng = self.rng.fork(life);
        self.shared.note(&self.name(), format!("life {life}"));
        // A monotonic clock starts anywhere.
        let clock =
            Clock::new(truth(), Instant(1 + rng.below(1 << 50)), self.shape.rates[self.number]);
        let wake = Arc::new(Notify::new());
        let queue = Rc::new(SimQueue::new(self.disk.clone(), wake.clone()));
        let disks = Disks { disk: self.disk.clone(), queue, wake };
        let observer = Rc::new(Watcher { seat: self.clone() });
        let config = self.config(&mut rng);
        let vault = Box::new(InlineVault::new(config.boot.seed));
        let runtime = MadsimRuntime::new(clock);
        let seed = config.boot.seed;
        let member = Member::start(runtime.clone(), disks, vault, config, observer).await;
        let member = member.unwrap_or_else(|fault| self.halt(&fault));
        let neighbours = Neighbours::start(member.take_further(), seed, runtime);
        let serve = async {
            let served = member.serve_clients(Rc::new(NoGate), Rc::new(neighbours)).await;
            served.unwrap_or_else(|fault| self.halt(&fault));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = member.stopped.notified() => {}
            () = serve => {}
        }
        let fault = member.fault.take().expect("the driver leaves its fault before it rings");
        self.halt(&fault);
    }

    fn halt(&self, fault: &Fault) -> ! {
        panic!("{} halts: {fault}", self.name());
    }

    fn config(&self, rng: &mut Rng) -> MemberConfig {
        let genesis = |n: usize| response::Member {
            id: MemberId(n as u64 + 1),
            peer_urls: vec![format!("http://{}", peer_address(n))],
            ..response::Member::default()
        };
        let boot = BootConfig {
            cluster: ClusterId(0xc1),
            member: MemberId(self.number as u64 + 1),
            incarnation: Incarnation(rng.next() | 1),
            boot: u128::from(self.boots.load(Ordering::Relaxed)),
            limits: self.shape.limits.clone(),
            seed: rng.next(),
            genesis: (0..MEMBERS).map(genesis).collect(),
            wal: WalOptions {
                segment_bytes: self.shape.segment_bytes,
                depth: self.shape.limits.batches_in_flight_max,
            },
            engine: EngineOptions {
                cache_bytes: 1 << 20,
                chunk_bytes: self.shape.chunk_bytes,
                seed: rng.next(),
            },
            force_new: false,
        };
        MemberConfig {
            answers: AnswerMemory::new(self.shape.limits.answer_bytes_max),
            boot,
            known: Vec::new(),
            peer_urls: vec![format!("http://{}", peer_address(self.number))],
            name: self.name(),
            data_dir: self.name(),
            client_urls: vec![format!("http://{}", client_address(self.number))],
            listen_clients: vec![client_address(self.number)],
            listen_peers: vec![peer_address(self.number)],
            connections: Http2Options {
                recv_bytes_max: self.shape.limits.request_bytes_max + (512 << 10),
                ..Http2Options::default()
            },
            progress_interval: Duration::from_secs(5),
            quota: 0,
            auto_compaction: None,
            hash_checks: HashChecks::default(),
            compaction_hashes: CompactionHashes::default(),
            initial_corrupt_check: false,
            auth: AuthOptions::default(),
            further_edges: self.shape.further_edges[self.number],
        }
    }
}

/// Writes down what a member says of itself.
struct Watcher {
    seat: Arc<Seat>,
}

impl Observer for Watcher {
    fn turned(&self, status: &Status, facts: &[Fact]) {
        let shared = &self.seat.shared;
        shared.board().statuses[self.seat.number] = *status;
        for fact in facts {
            shared.note(&self.seat.name(), fact);
            match fact {
                Fact::Applied { revision, .. } => {
                    shared.history().applied(revision.0, truth());
                }
                Fact::BecameRole { role: Role::Leader, .. } => {
                    shared.count(|counts| counts.elections += 1);
                }
                Fact::SnapshotInstalled { .. } => shared.count(|counts| counts.installs += 1),
                Fact::CheckpointSaved { .. } => shared.count(|counts| counts.checkpoints += 1),
                _ => {}
            }
        }
    }

    fn synced(&self, _: u64, _: Duration) {}

    fn warn(&self, message: &str) {
        self.seat.shared.note(&self.seat.name(), message);
    }

    fn ready(&self, _: &[String]) {
        self.seat.shared.note(&self.seat.name(), "ready");
        self.seat.shared.board().is_ready[self.seat.number] = true;
    }
}

/// The workers of further edges, as tasks beside the driver's.
struct Neighbours {
    workers: Vec<(Arc<EdgePost>, Rc<EdgeWorker<MadsimRuntime>>)>,
    runtime: MadsimRuntime,
}

impl Neighbours {
    fn start(seeds: Vec<EdgeSeed>, seed: u64, runtime: MadsimRuntime) -> Neighbours {
        let workers = seeds.into_iter().map(|own| {
            let vault = Box::new(InlineVault::new(seed ^ own.number as u64));
            let post = own.post.clone();
            let worker = EdgeWorker::new(own, runtime.clone(), vault);
            let running = worker.clone();
            runtime.spawn(async move { running.run().await });
            (post, worker)
        });
        Neighbours { workers: workers.collect(), runtime }
    }
}

impl Spread<Stream> for Neighbours {
    fn give(&self, own: usize, io: Stream, first: Bytes) -> Option<(Stream, Bytes)> {
        let counts = self.workers.iter().map(|(post, _)| post.connections());
        let place = least_loaded(std::iter::once(own).chain(counts));
        let Some((post, worker)) = place.checked_sub(1).map(|place| &self.workers[place]) else {
            return Some((io, first));
        };
        let (counted, worker) = (Counted::new(post), worker.clone());
        self.runtime.spawn(async move {
            worker.serve(io, first).await;
            drop(counted);
        });
        None
    }
}

/// These members serve nothing but gRPC.
struct NoGate;

impl Gate<Stream> for NoGate {
    fn serve(&self, _: Stream, _: Bytes) -> Sleep {
        Box::pin(async {})
    }
}
