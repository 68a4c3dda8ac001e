//! From checked configuration to a running process, and from its end to an exit code.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::fact::Fact;
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::status::Status;
use holdfast_core::store::Fault;
use holdfast_storage::disk::{FileDisk, FileOptions};
use holdfast_storage::engine::{Engine, EngineOptions};
use holdfast_storage::wal::WalOptions;
use tracing::{debug, error, info, warn};

use crate::boot::BootConfig;
use crate::config::{ClusterState, Config, HttpUrl};
use crate::datadir::DataDir;
use crate::edge_threads::{chosen, cores};
use crate::identity;
use crate::join::{self, Joined};
use crate::member::MemberConfig;
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::process::{self, Ended, ProcessConfig};

/// Runs the server that `config` describes. Returns how it ended.
///
/// # Errors
/// What prevents it from starting.
pub fn serve(config: &Config) -> Result<Ended, Fault> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let disk = open_disk(config)?;
    let member = member_config(config, &disk)?;
    info!(
        name = config.name,
        member_id = %identity::Hex(member.boot.member.0),
        cluster_id = %identity::Hex(member.boot.cluster.0),
        data_dir = %config.data_dir.display(),
        listen_client_urls = ?member.listen_clients,
        listen_peer_urls = ?member.listen_peers,
        "starting a holdfast member",
    );
    let metrics = Rc::new(Metrics::new(member.boot.member));
    let log = Rc::new(Log { metrics: metrics.clone() });
    let listen_metrics = addresses(&config.listen_metrics);
    let disk_driver = config.disk_driver;
    let process = ProcessConfig { member, disk_driver, listen_metrics };
    process::run(disk, process, log, metrics)
}

fn open_disk(config: &Config) -> Result<Arc<FileDisk>, Fault> {
    let place = config.data_dir.display().to_string();
    let refused = |cause: String| Fault::new("opening the data directory", place.clone(), cause);
    let directory = DataDir::prepare(&config.data_dir).map_err(refused)?;
    for warning in &directory.warnings {
        warn!("{warning}");
    }
    let disk = directory.open(FileOptions { no_fsync: config.unsafe_no_fsync }).map_err(refused)?;
    Ok(Arc::new(disk))
}

fn member_config(config: &Config, disk: &FileDisk) -> Result<MemberConfig, Fault> {
    let entropy = |error| Fault::new("drawing random numbers", "/dev/urandom", error);
    let Joined { member, cluster, genesis, members } = whose(config, disk)?;
    if config.force_new_cluster {
        info!(member_id = %identity::Hex(member.0), "forcing restart member");
    }
    let seed = identity::random().map_err(entropy)?;
    let (quota_bytes, quota_shown) = quota(config)?;
    let limits =
        Limits { quota_bytes, answer_bytes_max: answer_bytes(config), ..config.limits.clone() };
    Ok(MemberConfig {
        answers: AnswerMemory::new(limits.answer_bytes_max),
        boot: BootConfig {
            cluster,
            member,
            incarnation: identity::incarnation().map_err(entropy)?,
            boot: identity::boot_id(),
            limits,
            seed,
            genesis,
            force_new: config.force_new_cluster,
            wal: WalOptions::default(),
            engine: EngineOptions { seed, ..EngineOptions::default() },
        },
        name: config.name.clone(),
        data_dir: config.data_dir.display().to_string(),
        known: members,
        peer_urls: own_peer_urls(config),
        client_urls: config.advertise_client.iter().map(|url| url.to_string()).collect(),
        listen_clients: addresses(&config.listen_client),
        listen_peers: addresses(&config.listen_peer),
        connections: config.connections.clone(),
        progress_interval: config.watch_progress_interval,
        quota: quota_shown,
        auto_compaction: config.auto_compaction,
        hash_checks: config.hash_checks,
        compaction_hashes: CompactionHashes::default(),
        initial_corrupt_check: config.feature_gates.is_on("InitialCorruptCheck")
            && Engine::exists(disk)?,
        auth: config.auth.options().map_err(|cause| {
            Fault::new("reading the keys of --auth-token", "the command line", cause)
        })?,
        further_edges: config.edge_threads.unwrap_or_else(|| chosen(cores())),
    })
}

/// What answers may hold: an eighth of the memory that this process can have, unless somebody says so.
fn answer_bytes(config: &Config) -> usize {
    let read = |place: &str| std::fs::read_to_string(place).unwrap_or_default();
    let chosen = || chosen_answer_bytes(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max"));
    let bytes = config.answer_memory_bytes.unwrap_or_else(chosen);
    info!(bytes, "memory for answers");
    bytes
}

/// From what the kernel says of the machine's memory and of the process's group. Where it says nothing of
/// them, the machine is taken for a small one.
fn chosen_answer_bytes(meminfo: &str, group: &str) -> usize {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    let machine = kib.unwrap_or(0).saturating_mul(1024);
    let memory = group.trim().parse().map_or(machine, |bytes: usize| bytes.min(machine));
    (memory / 8).max(ANSWER_BYTES_MIN)
}

/// The least that is chosen.
const ANSWER_BYTES_MIN: usize = 256 << 20;

/// The quota in force, if there is one, and as Status shows it. Unset it leaves a fifth of the file system
/// to the log, to what compaction has not removed yet, and to others.
fn quota(config: &Config) -> Result<(Option<u64>, i64), Fault> {
    let given = config.quota_backend_bytes;
    if given != 0 {
        return Ok((u64::try_from(given).ok(), given));
    }
    let stat = rustix::fs::statvfs(&config.data_dir).map_err(|error| {
        Fault::new(
            "asking for the size of the file system",
            config.data_dir.display().to_string(),
            error,
        )
    })?;
    let quota = (stat.f_blocks.saturating_mul(stat.f_frsize) / 5).saturating_mul(4);
    Ok((Some(quota), i64::try_from(quota).unwrap_or(i64::MAX)))
}

fn own_peer_urls(config: &Config) -> Vec<String> {
    let own = config.initial_cluster.iter().find(|member| member.name == config.name);
    let urls = own.into_iter().flat_map(|own| &own.peer_urls);
    urls.map(ToString::to_string).collect()
}

fn addresses(urls: &[HttpUrl]) -> Vec<String> {
    urls.iter().map(|url| url.address().to_string()).collect()
}

/// Data that is there says whose it is; without any, the flags do (surface 8.1: the initial flags are
/// ignored once there is a log).
fn whose(config: &Config, disk: &FileDisk) -> Result<Joined, Fault> {
    if Engine::exists(disk)? {
        let found = Engine::identity(disk)?;
        let (member, cluster) = (found.member, found.cluster);
        return Ok(Joined { member, cluster, genesis: Vec::new(), members: Vec::new() });
    }
    let found = match config.initial_cluster_state {
        ClusterState::New => join::begin(config),
        ClusterState::Existing => join::join(config),
    };
    let place = config.data_dir.display().to_string();
    found.map_err(|cause| Fault::new("starting a new member", place, cause))
}

/// Facts and warnings as log lines and metrics.
struct Log {
    metrics: Rc<Metrics>,
}

impl Observer for Log {
    fn turned(&self, status: &Status, facts: &[Fact]) {
        self.metrics.observe(status, facts);
        facts.iter().for_each(log);
    }

    fn synced(&self, bytes: u64, took: Duration) {
        self.metrics.wal_synced(bytes, took);
    }

    fn warn(&self, message: &str) {
        warn!("{message}");
    }

    fn ready(&self, addresses: &[String]) {
        for address in addresses {
            info!("ready to serve client requests");
            info!(
                traffic = "grpc+http",
                address, "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
    }
}

/// Facts that an operator follows; where tools wait for etcd's sentence, it is etcd's.
fn log(fact: &Fact) {
    match fact {
        Fact::Applied { .. } | Fact::Committed { .. } | Fact::LeaseRenewed { .. } => {}
        Fact::CheckpointSaved { at } => {
            info!(snapshot_index = at.index.0, snapshot_term = at.term.0, "saved snapshot");
        }
        Fact::CompactionFinished { revision } => {
            info!(compact_revision = revision.0, "finished scheduled compaction");
        }
        Fact::LeaderChanged { leader: Some(leader), term } => {
            info!(leader_id = %identity::Hex(leader.0), term = term.0, "elected leader");
        }
        Fact::LeaderChanged { leader: None, term } => {
            warn!(term = term.0, "lost leader");
        }
        Fact::AlarmRaised { member, kind, .. } => {
            warn!(member_id = %identity::Hex(member.0), alarm = kind.name(), "alarm raised");
        }
        Fact::AlarmCleared { member, kind, .. } => {
            info!(member_id = %identity::Hex(member.0), alarm = kind.name(), "alarm cleared");
        }
        Fact::Parted { from, at } => error!(
            peer_id = %identity::Hex(from.0),
            entry = at.0,
            "this member's data differ from a peer's since this entry; one of the two is corrupt"
        ),
        Fact::LeaseExpired { id } => debug!(lease_id = id.0, "lease expired"),
        Fact::HashAsked { .. } | Fact::HashTold { .. } | Fact::Compacted { .. } => {
            debug!("{fact}");
        }
        Fact::ProposalsFailed { .. }
        | Fact::LeadershipOffered { .. }
        | Fact::ChangeRefused { .. }
        | Fact::Removed
        | Fact::MatchedLowered { .. } => warn!("{fact}"),
        Fact::BecameRole { .. } | Fact::MembersChanged { .. } | Fact::SnapshotInstalled { .. } => {
            info!("{fact}")
        }
    }
}

/// What a fault looks like to the operator, and the exit code it gives.
pub fn report(fault: &Fault) -> i32 {
    error!(error = fault.cause, place = fault.place, "{}", fault.what);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_answers_is_an_eighth_of_what_there_is() {
        let machine = "MemFree: 1 kB\nMemTotal:       16777216 kB\n";
        assert_eq!(chosen_answer_bytes(machine, ""), 2 << 30);
        assert_eq!(chosen_answer_bytes(machine, "max\n"), 2 << 30);
        assert_eq!(chosen_answer_bytes(machine, "8589934592\n"), 1 << 30);
        assert_eq!(chosen_answer_bytes(machine, "1073741824\n"), ANSWER_BYTES_MIN);
        assert_eq!(chosen_answer_bytes("", ""), ANSWER_BYTES_MIN);
    }
}
