//! One seed: a cluster, its clients, faults in rounds, and what must be true afterwards.
//!
//! A round gathers the clients at the leader, waits until a put, a renewal and the watch are under
//! way there, and takes the leader away. The others must serve again within [`SERVE_AGAIN`]; then
//! the fault ends, and every member must serve within [`HEAL`].
//!
//! A seed that had too little of what it is for fails, too: see [`Outcome::check`].

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::rng::Rng;
use holdfast_net::proto::etcdserverpb::{RangeRequest, RangeResponse};
use holdfast_net::proto::mvccpb::KeyValue;
use holdfast_sim::clock::{Moment, RATE_TRUE};
use madsim::Config;
use madsim::runtime::Runtime;

use crate::client::Status;
use crate::cluster::{Cluster, DRIFT_PPM, Shape};
use crate::history::History;
use crate::runtime::truth;
use crate::shared::{Counts, MEMBERS, Phase, Shared, wait_until};
use crate::streams::{keep_alive, watch};
use crate::workload::{Client, everything, range, read, read_once, revision, write};

/// Within this, a majority serves writes after its leader was lost: a client's patience, an
/// election timeout or two, split votes.
const SERVE_AGAIN: Duration = Duration::from_secs(12);

/// Within this, every member serves after a fault has ended. madsim's connections look only every
/// ten seconds whether a long partition is over.
const HEAL: Duration = Duration::from_secs(20);

/// Simulated time that a seed works at least.
const WORK_MIN: Duration = Duration::from_secs(60);

/// How long a round waits for its clients to gather.
const GATHER: Duration = Duration::from_secs(15);

/// A seed that lasts longer is stuck.
const STUCK: Duration = Duration::from_secs(600);

/// How a leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Its process is killed.
    Kill,
    /// Its power goes.
    PowerCut,
    /// Its peers cannot reach it; its clients can.
    Cut,
    /// Nobody can reach it.
    Isolation,
    /// The power of all members goes.
    Blackout,
}

impl Loss {
    const ALL: [Loss; 5] = [Loss::Kill, Loss::PowerCut, Loss::Cut, Loss::Isolation, Loss::Blackout];
}

/// What came of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Says in one number what happened.
    pub hash: u32,
    /// How many things happened.
    pub lines: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Writes tried.
    pub writes: usize,
    /// Writes acknowledged.
    pub acknowledged: usize,
    /// Linearizable reads of everything.
    pub reads: usize,
    /// Events that the watch saw.
    pub events: usize,
    /// The rest.
    pub counts: Counts,
}

impl Outcome {
    /// Fails a seed that tried too little to prove anything. Whether a crash takes bytes is left to
    /// the disk; of all seeds together the gate asks for some.
    fn check(&self) {
        let Outcome { acknowledged, reads, counts, simulated, .. } = self;
        assert!(acknowledged + reads >= 200, "only {acknowledged} writes and {reads} reads");
        assert!(*reads >= 20, "only {reads} reads");
        assert!(counts.leaders_lost >= 2, "only {} leaders lost under load", counts.leaders_lost);
        assert!(counts.elections >= 2, "only {} elections", counts.elections);
        assert!(counts.crashes >= 1, "no member crashed");
        assert!(counts.watches >= 3, "the watch was opened only {} times", counts.watches);
        assert!(counts.renewals >= 10, "only {} renewals", counts.renewals);
        assert!(*simulated >= WORK_MIN, "only {simulated:?} were simulated");
    }
}

/// Runs a seed on a thread of its own, whose thread-locals no other seed has touched.
///
/// # Errors
/// What went wrong, and the last of what happened.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let shared = Shared::new(History::new(RATE_TRUE + DRIFT_PPM));
    let inside = shared.clone();
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    let thread = thread.spawn(move || simulate(seed, &inside)).expect("a thread can be started");
    thread.join().map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
        let tail: Vec<String> = shared.trace().tail().cloned().collect();
        format!("seed {seed}: {}\n{}", text.unwrap_or_default(), tail.join("\n"))
    })
}

fn simulate(seed: u64, shared: &Arc<Shared>) -> Outcome {
    let rng = Rng::new(seed);
    let mut draws = rng.fork(1);
    let mut config = Config::default();
    config.net.packet_loss_rate = draws.below(8) as f64 / 1000.0;
    let latency = Duration::from_micros(draws.between(100, 3_000));
    config.net.send_latency = latency..latency * 3;
    let mut runtime = Runtime::with_seed_and_config(seed, config);
    runtime.set_time_limit(STUCK);
    runtime.block_on(async {
        let cluster = Cluster::start(Shape::draw(rng.fork(2)), &rng.fork(3), shared);
        start_clients(cluster, shared, &rng.fork(4));
        while shared.board().clients > 0 {
            madsim::time::sleep(Duration::from_millis(10)).await;
        }
        let (history, trace) = (shared.history(), shared.trace());
        history.finish();
        let (writes, acknowledged) = history.writes();
        let outcome = Outcome {
            seed,
            hash: trace.hash(),
            lines: trace.lines(),
            simulated: truth().since(Moment(0)),
            writes,
            acknowledged,
            reads: history.reads(),
            events: history.events(),
            counts: shared.board().counts,
        };
        outcome.check();
        outcome
    })
}

fn start_clients(cluster: Cluster, shared: &Arc<Shared>, rng: &Rng) {
    for writer in 0..3 {
        let number = 1 + writer as u8;
        Client::start(shared, (number, &format!("w{writer}")), rng, move |c| write(c, writer));
    }
    Client::start(shared, (10, "reader"), rng, read);
    Client::start(shared, (11, "watch"), rng, watch);
    let ttl = 2 + rng.fork(0).below(5) as i64;
    Client::start(shared, (12, "lease"), rng, move |client| keep_alive(client, ttl));
    let cluster = Arc::new(cluster);
    Client::start(shared, (13, "world"), rng, move |client| {
        let world = World { client, cluster: cluster.clone(), ttl };
        world.conduct()
    });
}

/// Makes the faults, and judges.
struct World {
    client: Client,
    cluster: Arc<Cluster>,
    ttl: i64,
}

impl World {
    async fn conduct(mut self) {
        self.wait_for_all(HEAL, "the cluster forms").await;
        let mut losses = vec![Loss::Kill, Loss::PowerCut, Loss::Cut, Loss::Isolation];
        while !losses.is_empty() || truth() < Moment(0).after(WORK_MIN) {
            let choices = if losses.is_empty() { Loss::ALL.len() } else { losses.len() };
            let choice = self.client.rng.below(choices as u64) as usize;
            let loss = if losses.is_empty() { Loss::ALL[choice] } else { losses.remove(choice) };
            self.round(loss).await;
            self.pause(200, 2_000).await;
        }
        self.finale().await;
    }

    async fn pause(&mut self, ms_min: u64, ms_max: u64) {
        let ms = self.client.rng.between(ms_min, ms_max);
        madsim::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn round(&mut self, loss: Loss) {
        let leader = self.leader().await;
        let shared = self.client.shared.clone();
        shared.board().gather_at = Some(leader);
        // Cutting a cable needs no write to tear.
        let crashes = !matches!(loss, Loss::Cut | Loss::Isolation);
        let armed = wait_until(GATHER, || {
            shared.board().is_armed(leader) && (!crashes || self.cluster.is_writing(leader))
        });
        let armed = armed.await;
        shared.board().gather_at = None;
        self.client.note(format!("lose n{} by {loss:?}, armed {armed}", leader + 1));
        let is_leader = shared.board().leader() == Some(leader);
        shared.count(|counts| counts.leaders_lost += u64::from(armed && is_leader));
        let lost = truth();
        self.lose(leader, loss);
        if loss != Loss::Blackout {
            let served = wait_until(SERVE_AGAIN, || shared.history().has_written_since(lost)).await;
            assert!(served, "no write came through within {SERVE_AGAIN:?} of losing the leader");
        }
        self.pause(500, 5_000).await;
        self.heal(leader, loss);
        self.wait_for_all(HEAL, "a fault ended").await;
    }

    async fn leader(&mut self) -> usize {
        let shared = self.client.shared.clone();
        let mut leader = None;
        let found = wait_until(SERVE_AGAIN, || {
            leader = shared.board().leader();
            leader.is_some()
        });
        assert!(found.await, "no leader within {SERVE_AGAIN:?}");
        leader.expect("it was found")
    }

    fn lose(&self, leader: usize, loss: Loss) {
        match loss {
            Loss::Kill => self.cluster.crash(leader, false),
            Loss::PowerCut => self.cluster.crash(leader, true),
            Loss::Cut => self.cluster.cut(leader, false),
            Loss::Isolation => self.cluster.cut(leader, true),
            Loss::Blackout => (0..MEMBERS).for_each(|n| self.cluster.crash(n, true)),
        }
    }

    fn heal(&self, leader: usize, loss: Loss) {
        match loss {
            Loss::Kill | Loss::PowerCut => self.cluster.restart(leader),
            Loss::Cut | Loss::Isolation => self.cluster.mend(),
            Loss::Blackout => (0..MEMBERS).for_each(|n| self.cluster.restart(n)),
        }
    }

    /// Every member answers a linearizable read.
    async fn wait_for_all(&mut self, patience: Duration, since: &str) {
        let begin = truth();
        for n in 0..MEMBERS {
            self.client.move_to(n);
            loop {
                let result = read_once(&mut self.client).await;
                if result.is_ok() {
                    break;
                }
                let waited = truth().since(begin);
                assert!(
                    waited < patience,
                    "n{} does not serve {waited:?} after {since}: {result:?}",
                    n + 1
                );
                self.client.move_to(n);
                madsim::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let waited = truth().since(begin);
        self.client.note(format!("all serve {waited:?} after {since}"));
    }

    /// No more faults: everything that was promised is looked at.
    async fn finale(&mut self) {
        let shared = self.client.shared.clone();
        shared.board().phase = Phase::NoWrites;
        // What stays: the watch, the lease and the world.
        let calm = wait_until(HEAL, || shared.board().clients <= 3).await;
        assert!(calm, "clients do not finish");
        let last = self.converge().await;
        let caught_up = wait_until(HEAL, || shared.history().seen() >= last).await;
        assert!(caught_up, "the watch is at r{}, not r{last}", shared.history().seen());
        self.compare(last).await;
        self.look_up().await;
        self.expire().await;
        self.cluster.note_disks();
        shared.board().phase = Phase::Over;
    }

    /// The revision that every member has reached.
    async fn converge(&mut self) -> i64 {
        let last = revision(&self.read_at(0, everything()).await);
        let shared = self.client.shared.clone();
        for n in 0..MEMBERS {
            let begin = truth();
            while revision(&self.read_at(n, local(everything())).await) < last {
                assert!(truth().since(begin) < HEAL, "n{} stays behind r{last}", n + 1);
                madsim::time::sleep(Duration::from_millis(50)).await;
            }
        }
        shared.note("world", format!("all are at r{last}"));
        last
    }

    /// Every member has the same contents at `last`, and they are what the watch saw.
    async fn compare(&mut self, last: i64) {
        let expected = self.client.shared.history().state_at(last);
        let expected: Vec<KeyValue> = expected.into_values().collect();
        for n in 0..MEMBERS {
            let request = RangeRequest { revision: last, ..local(everything()) };
            let found = self.read_at(n, request).await;
            assert_eq!(found.kvs, expected, "n{} at r{last} differs from the watch", n + 1);
            assert_eq!(found.count, expected.len() as i64, "the count of n{}", n + 1);
        }
    }

    /// Every acknowledged put can be read at its revision, from one member or another.
    async fn look_up(&mut self) {
        let puts = self.client.shared.history().acknowledged();
        for n in 0..MEMBERS {
            for (key, value, at) in puts.iter().skip(n).step_by(MEMBERS) {
                let request = RangeRequest { key: key.clone(), revision: *at, ..local(one()) };
                let found = self.read_at(n, request).await;
                let found = found.kvs.first().map(|kv| (&kv.value, kv.mod_revision));
                assert_eq!(found, Some((value, *at)), "{key:?} at r{at} on n{}", n + 1);
            }
        }
    }

    /// The lease that is no longer renewed ends.
    async fn expire(&mut self) {
        let shared = self.client.shared.clone();
        let lease = shared.board().lease;
        shared.board().phase = Phase::NoRenewals;
        let Some(lease) = lease else { panic!("no lease was ever granted") };
        let patience = Duration::from_secs(2 * self.ttl.unsigned_abs() + 5);
        let ended = wait_until(patience, || shared.history().has_ended(lease)).await;
        assert!(ended, "lease {lease:x} lives {patience:?} after its renewals ended");
    }

    async fn read_at(&mut self, n: usize, request: RangeRequest) -> RangeResponse {
        let begin = truth();
        loop {
            self.client.move_to(n);
            match self.try_read(request.clone()).await {
                Ok(response) => return response,
                Err(status) => {
                    assert!(truth().since(begin) < HEAL, "n{} does not serve: {status}", n + 1);
                    self.client.give_up(&status).await;
                }
            }
        }
    }

    async fn try_read(&mut self, request: RangeRequest) -> Result<RangeResponse, Status> {
        let (_, channel) = self.client.channel().await?;
        range(&channel, request).await
    }
}

fn one() -> RangeRequest {
    RangeRequest::default()
}

fn local(request: RangeRequest) -> RangeRequest {
    RangeRequest { serializable: true, ..request }
}
