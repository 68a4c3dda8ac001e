//! What one seed is like: sizes, limits, rates and weights, each drawn from a stream of its own.
//!
//! A run with everything on at once tests little: faults mask each other. So each seed switches some
//! features on and leaves others off (swarm testing), and draws every size anew.
//!
//! Laws:
//!  1. Every draw has a purpose and its own generator ([`Stream`]), so that adding a draw in one
//!     place leaves every other choice of every seed as it was.
//!  2. The drawn limits pass [`Limits::validate`].

use std::fmt;
use std::time::Duration;

use holdfast_core::limits::Limits;
use holdfast_core::rng::Rng;
use holdfast_server::edge::HashChecks;

use crate::clock::RATE_TRUE;
use crate::disk::Latency;
use crate::network::Quality;

pub mod transport;

use transport::TransportMix;

/// What a generator is for. Streams are keyed by this, never by the order of draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Sizes and limits.
    Limits = 1,
    /// Link qualities.
    Quality,
    /// Disk latencies.
    Latency,
    /// Clock rates and origins.
    Clocks,
    /// Which faults, when.
    Faults,
    /// What clients do.
    Workload,
    /// What happens to messages between members.
    Links,
    /// What happens to messages of clients.
    ClientLinks,
    /// What happens on disks.
    Disks,
    /// The members' own generators.
    Members,
    /// The order of events of one instant.
    Ties,
    /// How much an edge reads in one turn.
    Slices,
    /// How clients reach their members.
    Transport,
    /// Whether clients are users, and what these do.
    Users,
    /// Changes of the set of members.
    Membership,
    /// Quotas, and what clients do about alarms.
    Space,
    /// How many edges members have.
    Edges,
    /// How much a member applies in one turn.
    Apply,
    /// What answers may hold.
    Memory,
    /// Which hashes members compare.
    Hashes,
}

impl Stream {
    /// The generator of this purpose for a seed.
    pub fn rng(self, seed: u64) -> Rng {
        Rng::new(seed).fork(self as u64)
    }
}

/// How faults are mixed. Weights are relative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// The mean time between two faults.
    pub every: Duration,
    /// Crashes of one member, with the power or only the process going.
    pub crash: u64,
    /// Crashes of all members.
    pub power_cut: u64,
    /// Pauses of a process.
    pub pause: u64,
    /// Partitions and cut links.
    pub cut: u64,
    /// Slow or full disks.
    pub disk: u64,
    /// Changes of a clock's rate.
    pub clock: u64,
    /// Connection resets.
    pub reset: u64,
    /// Scripts for combinations that dice hardly ever throw.
    pub recipe: u64,
    /// Changes of the set of members.
    pub members: u64,
}

/// How clients behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkMix {
    /// Clients that send one request after the other.
    pub clients: usize,
    /// Clients that hold watch streams.
    pub watchers: usize,
    /// Mean pause between an answer and the next request.
    pub think: Duration,
    /// When a client gives up on a request.
    pub patience: Duration,
    /// Plain keys in use.
    pub keys: u64,
    /// Largest value, in bytes.
    pub value_bytes_max: u64,
    /// Shortest and longest lease asked for, in seconds.
    pub lease_ttl: (i64, i64),
    /// Whether compaction happens.
    pub compaction: bool,
    /// How much of the work is on register keys, in percent.
    pub registers: u64,
    /// Whether clients raise and clear alarms.
    pub alarms: bool,
    /// Whether clients are users whose rights change.
    pub users: bool,
    /// Members that there may be.
    pub places: usize,
}

/// What the log and the engine are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageMix {
    /// Bytes of one log segment.
    pub segment_bytes: u64,
    /// Bytes of one piece of a snapshot.
    pub chunk_bytes: usize,
    /// Bytes of a disk.
    pub capacity: u64,
}

/// One seed's configuration.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Where everything comes from.
    pub seed: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Places for members that come later.
    pub spares: usize,
    /// How long faults go on.
    pub chaos: Duration,
    /// The members' limits.
    pub limits: Limits,
    /// Sizes of the storage.
    pub storage: StorageMix,
    /// Between members, during chaos.
    pub peers: Quality,
    /// Between clients and members, during chaos.
    pub clients: Quality,
    /// Of every disk.
    pub latency: Latency,
    /// Each member's clock rate.
    pub rates: Vec<u64>,
    /// Each member's quota, in bytes.
    pub quotas: Vec<Option<u64>>,
    /// Which faults.
    pub faults: FaultMix,
    /// Which work.
    pub work: WorkMix,
    /// The shipped transport between clients and members, in seeds that have it.
    pub transport: Option<TransportMix>,
    /// How many edges each member has: in half of the seeds one, in the others up to three.
    pub edges: Vec<usize>,
    /// Which hashes members compare, and how often: in half of the seeds none.
    pub hash_checks: HashChecks,
    /// How late the further ones may come to what they were woken for.
    pub edge_delay: Duration,
}

impl Swarm {
    /// The configuration of a seed.
    pub fn draw(seed: u64) -> Swarm {
        let mut rng = Stream::Limits.rng(seed);
        let drawn = *pick(&mut rng, &[3, 3, 3, 3, 3, 3, 3, 5, 5, 1]);
        let mut changes = Stream::Membership.rng(seed);
        // Changes in half of the seeds; some of them, and no others, begin with an even number or seven.
        let transport = transport::draw(Stream::Transport.rng(seed));
        let (members, spares) = match changes.below(20) {
            0 => (7, 1),
            1 | 2 => (4, 2),
            3 => (2, 2),
            4..=9 => (drawn, 3),
            _ => (drawn, 0),
        };
        let chaos = Duration::from_millis(rng.between(52_000, 60_000));
        let strict_reconfig_check = changes.chance(30);
        let limits = draw_slices(&mut Stream::Slices.rng(seed), draw_limits(&mut rng));
        let limits = draw_apply(&mut Stream::Apply.rng(seed), limits);
        let storage = StorageMix {
            segment_bytes: *pick(&mut rng, &[64 << 10, 128 << 10, 256 << 10]),
            chunk_bytes: *pick(&mut rng, &[4 << 10, 4 << 10, 8 << 10, 16 << 10]),
            capacity: 256 << 20,
        };
        let users = Stream::Users.rng(seed).chance(40);
        let mut edge_rng = Stream::Edges.rng(seed);
        let edges = draw_edges(&mut edge_rng, members + spares);
        let mut quality = Stream::Quality.rng(seed);
        let mut work = draw_work(&mut Stream::Workload.rng(seed));
        let quotas = draw_quotas(&mut Stream::Space.rng(seed), members + spares, &mut work);
        Swarm {
            seed,
            members,
            spares,
            chaos,
            limits: Limits {
                strict_reconfig_check,
                answer_bytes_max: draw_memory(&mut Stream::Memory.rng(seed)),
                ..limits
            },
            storage,
            peers: draw_quality(&mut quality, true),
            clients: draw_quality(&mut quality, false),
            latency: draw_latency(&mut Stream::Latency.rng(seed)),
            rates: draw_rates(&mut Stream::Clocks.rng(seed), members + spares),
            faults: FaultMix {
                members: if spares > 0 { 3 } else { 0 },
                ..draw_faults(&mut Stream::Faults.rng(seed), members)
            },
            quotas,
            work: WorkMix {
                users,
                // Some of them will talk to members that are gone, or not there yet; users are refused more
                // often than others.
                clients: work.clients + spares + 2 * usize::from(users),
                places: members + spares,
                ..work
            },
            transport,
            edges,
            hash_checks: draw_hash_checks(&mut Stream::Hashes.rng(seed)),
            edge_delay: Duration::from_micros(*pick(&mut edge_rng, &[100, 2_000, 40_000])),
        }
    }

    /// The largest share by which a clock may be fast or slow of the truth, as a rate: what a lease
    /// may be early by.
    pub fn rate_max(&self) -> u64 {
        RATE_FASTEST
    }
}

/// The fastest clock there is, in any seed.
pub const RATE_FASTEST: u64 = RATE_TRUE * 6 / 5;

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.below(from.len() as u64) as usize]
}

fn draw_limits(rng: &mut Rng) -> Limits {
    let heartbeat = Duration::from_millis(*pick(rng, &[50, 100, 100, 150]));
    let election_timeout = heartbeat * (*pick(rng, &[10, 10, 8, 6]));
    let limits = Limits {
        heartbeat,
        election_timeout,
        request_timeout: Duration::from_secs(5) + election_timeout * 2,
        entry_bytes_max: *pick(rng, &[1 << 20, 64 << 10, 4 << 10]),
        entry_commands_max: *pick(rng, &[1024, 16, 3, 1]),
        batches_in_flight_max: *pick(rng, &[2, 2, 1, 4]),
        checkpoint_entries: *pick(rng, &[20, 50, 50, 120, 250, 500]),
        catchup_entries: *pick(rng, &[5, 10, 20, 50, 100]),
        log_cache_bytes: *pick(rng, &[64 << 20, 256 << 10, 16 << 10]),
        compaction_batch: *pick(rng, &[1000, 100, 7, 1]),
        lease_revoke_batch: *pick(rng, &[500, 10, 1]),
        ..Limits::default()
    };
    limits.validate().expect("the ranges above lie within what is valid");
    limits
}

/// A generator of its own: what was drawn for a seed before there were slices stays so.
fn draw_slices(rng: &mut Rng, limits: Limits) -> Limits {
    let limits = Limits {
        edge_slice_keys: *pick(rng, &[2048, 256, 64, 16]),
        edge_slice_bytes: *pick(rng, &[1 << 20, 64 << 10, 4 << 10]),
        ..limits
    };
    limits.validate().expect("the values above are valid");
    limits
}

/// Many seeds note what is left of leases; most seeds cut removals and revocations of a few keys into several slices, and hand on fewer events
/// than these make.
fn draw_apply(rng: &mut Rng, limits: Limits) -> Limits {
    let limits = Limits {
        apply_slice_keys: *pick(rng, &[4096, 64, 8, 5, 1, 1]),
        apply_slice_bytes: *pick(rng, &[4 << 20, 4 << 20, 2_000, 1]),
        publication_events_max: *pick(rng, &[4096, 4096, 8, 1]),
        lease_checkpoint_interval: [None, Some(500), Some(500), Some(2_000)][rng.below(4) as usize]
            .map(Duration::from_millis),
        lease_checkpoint_batch: *pick(rng, &[1000, 2]),
        ..limits
    };
    limits.validate().expect("the values above are valid");
    limits
}

/// Often enough that checks meet crashes, compactions and changes of the leader.
fn draw_hash_checks(rng: &mut Rng) -> HashChecks {
    let periods = [None, None, Some(1_000), Some(5_000)];
    let mut period = || pick(rng, &periods).map(Duration::from_millis);
    HashChecks { every: period(), compactions_every: period() }
}

/// Little enough, in half of all seeds, that lists wait for each other.
fn draw_memory(rng: &mut Rng) -> usize {
    *pick(rng, &[256 << 20, 256 << 20, 256 << 20, 16 << 10, 4 << 10, 1 << 10])
}

fn draw_quality(rng: &mut Rng, peers: bool) -> Quality {
    let mut quality = Quality {
        delay: Duration::from_micros(rng.between(50, 2_000)),
        jitter: Duration::from_micros(rng.between(50, 3_000)),
        ordered: rng.chance(50),
        bytes_per_ms: *pick(rng, &[100_000, 10_000, 2_000]),
        ..Quality::calm()
    };
    if rng.chance(50) {
        quality.loss = if peers { rng.between(1, 500) } else { rng.between(1, 200) };
    }
    if rng.chance(50) && peers {
        quality.duplicate = rng.between(1, 500);
    }
    if rng.chance(60) {
        quality.tail = rng.between(1, 300);
        quality.tail_delay = Duration::from_millis(rng.between(10, 3_000));
    }
    quality
}

fn draw_latency(rng: &mut Rng) -> Latency {
    Latency {
        base: Duration::from_micros(rng.between(20, 1_000)),
        spread: Duration::from_micros(rng.between(50, 10_000)),
        stalls: if rng.chance(40) { rng.between(1, 60) } else { 0 },
        stall: Duration::from_millis(rng.between(20, 3_000)),
    }
}

fn draw_rates(rng: &mut Rng, members: usize) -> Vec<u64> {
    // A third of the seeds has perfect clocks, a third quartz, a third broken ones.
    let spread = *pick(rng, &[0, 100, RATE_TRUE / 6]);
    (0..members).map(|_| rng.between(RATE_TRUE - spread, RATE_TRUE + spread)).collect()
}

fn draw_faults(rng: &mut Rng, members: usize) -> FaultMix {
    let mut weight = |percent: u64| if rng.chance(percent) { 1 } else { 0 };
    let cluster = u64::from(members > 1);
    FaultMix {
        crash: 2 + weight(50),
        power_cut: weight(40),
        pause: weight(60),
        cut: 2 * weight(70) * cluster,
        disk: weight(40),
        clock: weight(50),
        reset: weight(50) * cluster,
        recipe: (1 + weight(60)) * cluster,
        members: 0,
        every: Duration::from_millis(rng.between(1_500, 5_000)),
    }
}

fn draw_work(rng: &mut Rng) -> WorkMix {
    let heavy = rng.chance(33);
    WorkMix {
        clients: rng.between(3, 8) as usize,
        watchers: rng.between(1, 4) as usize,
        think: Duration::from_millis(rng.between(20, 120)),
        patience: Duration::from_millis(*pick(rng, &[800, 2_000, 5_000])),
        keys: rng.between(5, 40),
        value_bytes_max: if heavy { 6_000 } else { *pick(rng, &[8, 40, 300]) },
        lease_ttl: (1, rng.between(2, 8) as i64),
        compaction: rng.chance(70),
        registers: rng.between(20, 60),
        alarms: false,
        users: false,
        places: 0,
    }
}

fn draw_edges(rng: &mut Rng, members: usize) -> Vec<usize> {
    let several = rng.chance(50);
    (0..members).map(|_| if several { rng.between(1, 3) as usize } else { 1 }).collect()
}

/// A third of the seeds that compact has quotas that are too small, not the same for every member.
fn draw_quotas(rng: &mut Rng, members: usize, work: &mut WorkMix) -> Vec<Option<u64>> {
    let some = rng.chance(35) && work.compaction;
    work.alarms = some;
    let large = work.value_bytes_max * 20;
    let draw = |rng: &mut Rng| {
        (some && rng.chance(80)).then(|| rng.between(20_000, 60_000) + rng.below(large + 1))
    };
    (0..members).map(|_| draw(rng)).collect()
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = &self.limits;
        write!(
            f,
            "{} members (+{}), {}s chaos, heartbeat {}ms, election {}ms, checkpoint {}, catch-up {}, \
             segment {}K, chunk {}K, {} clients, {} watchers, values to {}, fault every {}ms{}{}, edges {:?}",
            self.members,
            self.spares,
            self.chaos.as_secs(),
            limits.heartbeat.as_millis(),
            limits.election_timeout.as_millis(),
            limits.checkpoint_entries,
            limits.catchup_entries,
            self.storage.segment_bytes >> 10,
            self.storage.chunk_bytes >> 10,
            self.work.clients,
            self.work.watchers,
            self.work.value_bytes_max,
            self.faults.every.as_millis(),
            if self.transport.is_some() { ", over HTTP/2" } else { "" },
            if self.work.users { ", users" } else { "" },
            self.edges,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_draws_limits_that_work_and_seeds_differ() {
        let drawn: Vec<_> = (0..200).map(|seed| Swarm::draw(seed).to_string()).collect();
        let mut distinct = drawn.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 190, "only {} of 200 seeds are distinct", distinct.len());
        assert_eq!(drawn[7], Swarm::draw(7).to_string());
    }
}
