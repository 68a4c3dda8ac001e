//! From a disk to a member that is ready to run: create what is new, recover what is there.
//!
//! Used alike by the process and by the simulator, so that every simulated restart is a real recovery.

use std::sync::Arc;

use holdfast_core::id::{ClusterId, Incarnation, MemberId, Position};
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::membership::{Started, Version};
use holdfast_core::message::SnapshotMeta;
use holdfast_core::node::{self, Node, NodeConfig};
use holdfast_core::raft::Boot;
use holdfast_core::response::Member;
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
use holdfast_storage::disk::Disk;
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};
use holdfast_storage::wal::{RecoveredLog, RecoveryNote, Wal, WalIdentity, WalOptions};

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct BootConfig {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Who it is.
    pub member: MemberId,
    /// This run.
    pub incarnation: Incarnation,
    /// The kernel's boot id: tells a killed process from a power cut.
    pub boot: u128,
    /// Bounds and periods.
    pub limits: Limits,
    /// Seeds the node and the engine.
    pub seed: u64,
    /// The members a new cluster starts with; ignored when there is data.
    pub genesis: Vec<Member>,
    /// The log's shape.
    pub wal: WalOptions,
    /// The engine's shape.
    pub engine: EngineOptions,
    /// `--force-new-cluster`: this member gives all others up.
    pub force_new: bool,
}

/// A member, opened.
pub struct Booted {
    /// Its state machine.
    pub node: Node,
    /// Its log.
    pub wal: Wal,
    /// Its state.
    pub engine: Engine,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Who it is.
    pub member: MemberId,
    /// This run.
    pub incarnation: Incarnation,
    /// What recovery had to cut.
    pub notes: Vec<RecoveryNote>,
}

/// Opens a member's disk, creating a new member when it is empty.
///
/// # Errors
/// Data of another member or cluster, and damage that only peers could repair; each says what, where
/// and what to do.
pub fn boot(disk: Arc<dyn Disk>, config: &BootConfig, now: Instant) -> Result<Booted, Fault> {
    let identity = EngineIdentity { cluster: config.cluster, member: config.member };
    let is_new = !Engine::exists(&*disk)?;
    if is_new {
        refuse_orphans(&*disk)?;
    }
    let mut engine = match is_new {
        true => create(disk.clone(), identity, config)?,
        false => Engine::open(disk.clone(), identity, config.engine.clone())?,
    };
    if machine::is_removed(&engine.snapshot(), config.member) {
        return Err(node::removed(config.member));
    }
    let (checkpoint, _) = engine.checkpoint();
    let wal_identity = WalIdentity {
        cluster: config.cluster,
        member: config.member,
        incarnation: config.incarnation,
        boot: config.boot,
    };
    let (wal, recovered) = match is_new {
        true => (Wal::create(&*disk, wal_identity, config.wal)?, RecoveredLog::default()),
        // Also where a first start was cut short before it had made a log.
        false => Wal::recover(&*disk, wal_identity, config.wal, checkpoint.at)?,
    };
    let boot = Boot {
        checkpoint,
        hard_state: recovered.hard_state,
        entries: recovered.entries,
        last_seq: recovered.last_seq,
        force_new: config.force_new,
    };
    let node = NodeConfig {
        member: config.member,
        incarnation: config.incarnation,
        limits: config.limits.clone(),
        seed: config.seed,
        started: Some(engine.birth())
            .filter(|birth| *birth != 0)
            .map(|birth| Started { birth, version: Version::OWN }),
    };
    engine.publish();
    let node = Node::new(node, boot, &engine, now)?;
    let (incarnation, notes) = (config.incarnation, recovered.notes);
    let member = config.member;
    Ok(Booted { node, wal, engine, disk, member, incarnation, notes })
}

/// A log without a superblock is no new member: its superblock was lost, and making a new one would
/// throw away what the log belongs to. A first start that was cut short has made no log.
fn refuse_orphans(disk: &dyn Disk) -> Result<(), Fault> {
    let files = disk.list("wal").map_err(|error| Fault::new("listing the log", "wal", error))?;
    match files.iter().find(|(file, _)| file.name().ends_with(".seg")) {
        None => Ok(()),
        Some((file, _)) => Err(Fault::new(
            "starting a new member",
            file.to_string(),
            "there is a log, but data/superblock is missing; restore it, or remove the data directory \
             to let the member start over",
        )),
    }
}

fn create(
    disk: Arc<dyn Disk>,
    identity: EngineIdentity,
    config: &BootConfig,
) -> Result<Engine, Fault> {
    let ids = |learner| {
        let members = config.genesis.iter().filter(move |member| member.is_learner == learner);
        members.map(|member| member.id).collect()
    };
    let meta = SnapshotMeta { at: Position::default(), voters: ids(false), learners: ids(true) };
    let genesis = machine::genesis(&config.genesis);
    Engine::create(disk, identity, config.engine.clone(), genesis, meta)
}
