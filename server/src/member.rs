//! A whole member on a runtime: driver, sessions, peers, listeners. The same code serves a real process
//! and a simulated network; they differ in the [`Runtime`], the disk and the [`Gate`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::compactor::AutoCompaction;
use holdfast_core::id::RequestId;
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::machine;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::request::Op;
use holdfast_core::response as core;
use holdfast_core::rng::Rng;
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
use holdfast_core::watch::HubOptions;
use holdfast_net::grpc::{self, GrpcOptions, Http2Options, Services, Sleep, Streams, Timer};
use holdfast_net::sniff::{Sniffed, sniff};
use holdfast_net::wire::{Origin, WireLimits};
use holdfast_storage::disk::Disk;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::Notify;

use crate::auth::AuthOptions;
use crate::auth::vault::Vault;
use crate::boot::{BootConfig, boot};
use crate::driver::Driver;
use crate::edge::{Edge, EdgeConfig, HashChecks};
use crate::edge_worker::{EdgePost, EdgeSeed};
use crate::identity;
use crate::observer::Observer;
use crate::peers::Peers;
use crate::runtime::Runtime;
use crate::session::{Sessions, SessionsConfig};
use crate::worker::{DiskQueue, Worker, WorkerHost};

/// Unsent bytes at which a stream is full.
pub(crate) const STREAM_BYTES_MAX: usize = 4 << 20;

/// Between two attempts to publish the member's attributes. One that a dying leader took with it would
/// otherwise be missed for a whole request timeout.
const PUBLISH_RETRY: Duration = Duration::from_secs(1);

/// What a member needs to know.
#[derive(Clone)]
pub struct MemberConfig {
    /// For the state machine, the log and the engine.
    pub boot: BootConfig,
    /// `--name`
    pub name: String,
    /// `--data-dir`, for what is said about it.
    pub data_dir: String,
    /// Members beside those that its own state lists, as peers told it before its first start.
    pub known: Vec<core::Member>,
    /// `--initial-advertise-peer-urls`
    pub peer_urls: Vec<String>,
    /// `--advertise-client-urls`
    pub client_urls: Vec<String>,
    /// Where to listen for clients, as `host:port`.
    pub listen_clients: Vec<String>,
    /// Where to listen for peers.
    pub listen_peers: Vec<String>,
    /// Bounds and periods of clients' connections.
    pub connections: Http2Options,
    /// `--watch-progress-notify-interval`
    pub progress_interval: Duration,
    /// What Status reports.
    pub quota: i64,
    /// When history is compacted without being asked.
    pub auto_compaction: Option<AutoCompaction>,
    /// Which hashes are compared with other members'.
    pub hash_checks: HashChecks,
    /// Those of the last compactions, for all its edges.
    pub compaction_hashes: CompactionHashes,
    /// Compare with the peers before serving, and do not serve what differs.
    pub initial_corrupt_check: bool,
    /// Passwords and tokens.
    pub auth: AuthOptions,
    /// What answers of all its edges may hold.
    pub answers: AnswerMemory,
    /// Edges beside the one that shares the driver's thread; below [`EDGES_MAX`](holdfast_core::id::EDGES_MAX).
    pub further_edges: usize,
}

/// Gives clients' connections to further edges.
pub trait Spread<IO> {
    /// Takes a connection that speaks HTTP/2, of which `first` has been read, or gives it back: then
    /// it is the first edge's, which has `own` connections now.
    fn give(&self, own: usize, io: IO, first: Bytes) -> Option<(IO, Bytes)>;
}

/// Serves what is not gRPC on a client port.
pub trait Gate<IO> {
    /// Serves one connection, of which `first` has been read.
    fn serve(&self, io: IO, first: Bytes) -> Sleep;
}

/// A running member.
pub struct Member<R: Runtime> {
    /// Its services.
    pub sessions: Rc<RefCell<Sessions>>,
    /// Its open calls.
    pub streams: Rc<Streams>,
    /// Its peers.
    pub peers: Rc<Peers>,
    /// The fault that stopped it, once one has.
    pub fault: Rc<Cell<Option<Fault>>>,
    /// Rung when it has stopped.
    pub stopped: Rc<Notify>,
    /// What its further edges are made of, for whoever runs them.
    seeds: Cell<Vec<EdgeSeed>>,
    runtime: R,
    config: Rc<MemberConfig>,
    observer: Rc<dyn Observer>,
}

/// The disk of a member: its blocking form for recovery, its queued form for running.
pub struct Disks {
    /// For recovery and cold reads.
    pub disk: Arc<dyn Disk>,
    /// For everything while it runs.
    pub queue: Rc<dyn DiskQueue>,
    /// Rung by the queue when an order has ended.
    pub wake: Arc<Notify>,
}

impl<R: Runtime> Member<R> {
    /// Recovers the member and starts its driver and its peer connections; clients are served by
    /// [`Member::serve_clients`].
    ///
    /// # Errors
    /// What recovery refuses, and addresses that cannot be listened on.
    pub async fn start(
        runtime: R,
        disks: Disks,
        vault: Box<dyn Vault>,
        config: MemberConfig,
        observer: Rc<dyn Observer>,
    ) -> Result<Member<R>, Fault> {
        let booted = boot(disks.disk.clone(), &config.boot, runtime.now())?;
        for note in &booted.notes {
            observer.warn(&note.to_string());
        }
        let state = booted.engine.snapshot();
        let members = machine::members(&state);
        check_name(&members, &config)?;
        let wake = disks.wake.clone();
        let ring: Rc<dyn Fn()> = Rc::new(move || wake.notify_one());
        let peers = Peers::new(
            (config.boot.cluster, config.boot.member),
            config.peer_urls.clone(),
            machine::initial_members(&state).unwrap_or_default(),
            ring.clone(),
            observer.clone(),
        );
        let streams = Rc::new(Streams::new(0, STREAM_BYTES_MAX));
        let edge = Edge::new(edge_config(&config, 0), booted.engine.snapshot(), vault);
        let seeds = (1..=config.further_edges).map(|number| {
            EdgeSeed::new(number, &config, booted.engine.snapshot(), disks.wake.clone())
        });
        let seeds: Vec<EdgeSeed> = seeds.collect();
        let further = seeds.iter().map(|seed| seed.post.clone()).collect();
        let sessions = Rc::new(RefCell::new(Sessions::new(
            edge,
            sessions_config(&config, &runtime, streams.clone(), ring),
        )));
        let member = Member {
            sessions,
            streams,
            peers,
            fault: Rc::new(Cell::new(None)),
            stopped: Rc::new(Notify::new()),
            seeds: Cell::new(seeds),
            runtime,
            config: Rc::new(config),
            observer,
        };
        member.listen_to_peers().await?;
        let host =
            WorkerHost::new(member.runtime.clone(), disks.queue.clone(), member.peers.clone());
        let driver = Driver::new(booted, host);
        member.peers.set_hello(driver.hello());
        let mut membership = machine::membership(&state);
        for known in &member.config.known {
            membership.members.entry(known.id).or_insert_with(|| known.clone());
        }
        member.peers.update(&member.runtime, membership);
        member.run(driver, &disks, further);
        Ok(member)
    }

    /// What the further edges are made of; whoever asks first runs them.
    pub fn take_further(&self) -> Vec<EdgeSeed> {
        self.seeds.take()
    }

    fn run(&self, driver: Driver<WorkerHost<R>>, disks: &Disks, further: Vec<Arc<EdgePost>>) {
        let worker = Worker {
            sessions: self.sessions.clone(),
            further,
            peers: self.peers.clone(),
            disk: disks.queue.clone(),
            wake: disks.wake.clone(),
            observer: self.observer.clone(),
            runtime: self.runtime.clone(),
        };
        let (fault, stopped) = (self.fault.clone(), self.stopped.clone());
        self.runtime.spawn(async move {
            fault.set(Some(worker.run(driver).await));
            stopped.notify_one();
        });
    }

    async fn listen_to_peers(&self) -> Result<(), Fault> {
        for address in &self.config.listen_peers {
            let mut listener = self.listen(address, "--listen-peer-urls").await?;
            let (runtime, peers) = (self.runtime.clone(), self.peers.clone());
            self.runtime.spawn(async move {
                loop {
                    match runtime.accept(&mut listener).await {
                        Ok(stream) => {
                            let (peers, own) = (peers.clone(), runtime.clone());
                            runtime.spawn(async move { peers.listen_to(&own, stream).await });
                        }
                        Err(_) => runtime.sleep(Duration::from_millis(50)).await,
                    }
                }
            });
        }
        Ok(())
    }

    /// Publishes the member's attributes through the log, which needs a quorum; then listens.
    /// `gate` serves what is not gRPC, and `spread` gives some of the rest to further edges.
    ///
    /// # Errors
    /// Addresses that cannot be listened on, and data that differ from the peers' where that is looked at.
    pub async fn serve_clients(
        &self,
        gate: Rc<dyn Gate<R::Stream>>,
        spread: Rc<dyn Spread<R::Stream>>,
    ) -> Result<(), Fault> {
        let mut listeners = Vec::new();
        for address in &self.config.listen_clients {
            listeners.push(self.listen(address, "--listen-client-urls").await?);
        }
        if self.config.initial_corrupt_check {
            self.compare_with_peers().await?;
        }
        self.publish().await;
        for listener in listeners {
            self.accept_clients(listener, gate.clone(), spread.clone());
        }
        self.observer.ready(&self.config.listen_clients);
        Ok(())
    }

    /// A member whose data are not those of its peers does not serve them. Peers that cannot be reached are
    /// given up after a request's time.
    async fn compare_with_peers(&self) -> Result<(), Fault> {
        let checked = self.sessions.borrow_mut().check_initially();
        let place = &self.config.data_dir;
        match checked.await {
            Ok(Err(cause)) => {
                let cause = format!(
                    "{cause}; if this member is the one that is wrong, remove it from the cluster, and add \
                     it again with an empty --data-dir"
                );
                Err(Fault::new("comparing the data with the peers'", place.clone(), cause))
            }
            // Whoever stops before has another reason to give.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    async fn publish(&self) {
        loop {
            let op = Op::Publish {
                member: self.config.boot.member,
                name: self.config.name.clone(),
                client_urls: self.config.client_urls.clone(),
            };
            let mut answer = self.sessions.borrow_mut().propose(op);
            let pause = self.runtime.sleep(PUBLISH_RETRY);
            tokio::pin!(pause);
            tokio::select! {
                biased;
                Ok(Ok(_)) = &mut answer => return,
                () = &mut pause => {}
            }
        }
    }

    fn accept_clients(
        &self,
        mut listener: R::Listener,
        gate: Rc<dyn Gate<R::Stream>>,
        spread: Rc<dyn Spread<R::Stream>>,
    ) {
        let runtime = self.runtime.clone();
        let services: Rc<RefCell<dyn Services>> = self.sessions.clone();
        let streams = self.streams.clone();
        let mut options = GrpcOptions::new(Rc::new(RuntimeTimer(runtime.clone())));
        *options = self.config.connections.clone();
        self.runtime.spawn(async move {
            loop {
                let Ok(stream) = runtime.accept(&mut listener).await else {
                    // Out of descriptors, or one connection that went away: the next may be fine.
                    runtime.sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let (services, streams) = (services.clone(), streams.clone());
                let (gate, options, timer) = (gate.clone(), options.clone(), runtime.clone());
                let spread = spread.clone();
                runtime.spawn(async move {
                    let Some((stream, first, kind)) = identify(stream, &timer).await else {
                        return;
                    };
                    if kind != Sniffed::Http2 {
                        return gate.serve(stream, first).await;
                    }
                    let own = streams.connections();
                    if let Some((stream, first)) = spread.give(own, stream, first) {
                        drop(grpc::serve(stream, first, services, streams, options).await);
                    }
                });
            }
        });
    }

    async fn listen(&self, address: &str, flag: &str) -> Result<R::Listener, Fault> {
        let cause = |error: io::Error| {
            Fault::new(format!("listening, as {flag} wants"), address.to_string(), error)
        };
        self.runtime.listen(address).await.map_err(cause)
    }
}

/// A member's data may have been started with other addresses, never under another name.
fn check_name(members: &[core::Member], config: &MemberConfig) -> Result<(), Fault> {
    let MemberConfig { name, data_dir, boot, .. } = config;
    let refused =
        |cause: String| Err(Fault::new("opening the data directory", data_dir.clone(), cause));
    match members.iter().find(|member| member.id == boot.member) {
        Some(own) if own.name.is_empty() || own.name == *name => Ok(()),
        Some(own) => refused(format!(
            "--data-dir {data_dir} holds the data of another member, {}, and this one is {name}: \
             start it with --name {} or give {name} the --data-dir that is its own",
            own.name, own.name
        )),
        // Added later than its state reaches: it learns of itself from the log.
        None => Ok(()),
    }
}

/// Reads the first bytes of a client connection to tell gRPC from HTTP/1; garbage and silence end it.
async fn identify<IO: AsyncRead + AsyncWrite + Unpin, R: Runtime>(
    mut stream: IO,
    runtime: &R,
) -> Option<(IO, Bytes, Sniffed)> {
    let mut first = BytesMut::with_capacity(4096);
    let patience = runtime.sleep(Duration::from_secs(10));
    tokio::pin!(patience);
    loop {
        match sniff(&first) {
            Sniffed::More => {}
            Sniffed::Garbage => return None,
            kind => return Some((stream, first.freeze(), kind)),
        }
        tokio::select! {
            biased;
            read = stream.read_buf(&mut first) => {
                if !matches!(read, Ok(1..)) {
                    return None;
                }
            }
            () = &mut patience => return None,
        }
    }
}

/// Of edge `number`. What a member does once, it does on its first.
pub(crate) fn edge_config(config: &MemberConfig, number: usize) -> EdgeConfig {
    let limits = config.boot.limits.clone();
    let own_seed =
        Rng::new(config.boot.seed ^ config.boot.incarnation.0).fork(number as u64).next();
    EdgeConfig {
        member: config.boot.member,
        incarnation: config.boot.incarnation,
        sequence_base: RequestId::first_of(number),
        hub: HubOptions {
            progress_interval: config.progress_interval,
            fragment_bytes: limits.request_bytes_max + (512 << 10),
            seed: config.boot.seed ^ number as u64,
            ..HubOptions::default()
        },
        limits,
        seed: own_seed,
        quota: config.quota,
        auto_compaction: config.auto_compaction.filter(|_| number == 0),
        hash_checks: if number == 0 { config.hash_checks } else { HashChecks::default() },
        compaction_hashes: config.compaction_hashes.clone(),
        auth: config.auth.clone(),
        answers: config.answers.clone(),
        member_id: identity::added_member_id,
    }
}

pub(crate) fn sessions_config<R: Runtime>(
    config: &MemberConfig,
    runtime: &R,
    streams: Rc<Streams>,
    wake: Rc<dyn Fn()>,
) -> SessionsConfig {
    let clock = runtime.clone();
    SessionsConfig {
        origin: Origin { cluster: config.boot.cluster, member: config.boot.member },
        limits: WireLimits {
            txn_ops_max: config.boot.limits.txn_ops_max,
            request_bytes_max: config.boot.limits.request_bytes_max,
        },
        election_timeout: config.boot.limits.election_timeout,
        streams,
        clock: Rc::new(move || clock.now()),
        wake,
    }
}

/// The transport's clock on a [`Runtime`].
pub(crate) struct RuntimeTimer<R>(pub(crate) R);

impl<R: Runtime> Timer for RuntimeTimer<R> {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(self.0.sleep(duration))
    }
}
