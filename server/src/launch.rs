//! From checked configuration to a running process, and from its end to an exit code.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::fact::Fact;
use holdfast_core::id::{ClusterId, MemberId};
use holdfast_core::status::Status;
use holdfast_core::store::Fault;
use holdfast_net::grpc::Sleep;
use holdfast_storage::disk::{FileDisk, FileOptions};
use holdfast_storage::engine::{Engine, EngineOptions};
use holdfast_storage::wal::WalOptions;
use tokio::net::TcpStream;
use tracing::{error, info, warn};

use crate::boot::BootConfig;
use crate::config::Config;
use crate::identity;
use crate::member::{Gate, MemberConfig};
use crate::observer::Observer;
use crate::process::{self, Ended};

/// Runs the server that `config` describes. Returns how it ended.
///
/// # Errors
/// What prevents it from starting.
pub fn serve(config: &Config) -> Result<Ended, Fault> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let directory = config.data_dir.join("holdfast");
    let disk = open_disk(&directory, config.unsafe_no_fsync)?;
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
    process::run(disk, member, Rc::new(Log), Box::new(|_| Rc::new(Closed)))
}

fn open_disk(directory: &Path, no_fsync: bool) -> Result<Arc<FileDisk>, Fault> {
    let opened = FileDisk::open_with(directory, FileOptions { no_fsync });
    opened.map(Arc::new).map_err(|error| {
        Fault::new("opening the data directory", directory.display().to_string(), error)
    })
}

fn member_config(config: &Config, disk: &FileDisk) -> Result<MemberConfig, Fault> {
    let entropy = |error| Fault::new("drawing random numbers", "/dev/urandom", error);
    let (member, cluster) = whose(config, disk)?;
    let seed = identity::random().map_err(entropy)?;
    let addresses = |urls: &[crate::config::HttpUrl]| -> Vec<String> {
        urls.iter().map(|url| url.address().to_string()).collect()
    };
    Ok(MemberConfig {
        boot: BootConfig {
            cluster,
            member,
            incarnation: identity::incarnation().map_err(entropy)?,
            boot: identity::boot_id(),
            limits: config.limits.clone(),
            seed,
            genesis: identity::initial_members(config),
            wal: WalOptions::default(),
            engine: EngineOptions { seed, ..EngineOptions::default() },
        },
        name: config.name.clone(),
        client_urls: config.advertise_client.iter().map(|url| url.to_string()).collect(),
        listen_clients: addresses(&config.listen_client),
        listen_peers: addresses(&config.listen_peer),
        progress_interval: config.watch_progress_interval,
        quota: 0,
    })
}

/// Data that is there says whose it is; without any, the flags do (surface 8.1: the initial flags are
/// ignored once there is a log).
fn whose(config: &Config, disk: &FileDisk) -> Result<(MemberId, ClusterId), Fault> {
    if Engine::exists(disk)? {
        let found = Engine::identity(disk)?;
        return Ok((found.member, found.cluster));
    }
    Ok(identity::of(config))
}

/// Facts and warnings as log lines.
struct Log;

impl Observer for Log {
    fn turned(&self, _status: &Status, facts: &[Fact]) {
        for fact in facts {
            match fact {
                Fact::Applied { .. } | Fact::Committed { .. } | Fact::LeaseRenewed { .. } => {}
                fact => info!("{fact}"),
            }
        }
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

/// Serves nothing but gRPC.
struct Closed;

impl Gate<TcpStream> for Closed {
    fn serve(&self, _stream: TcpStream, _first: Bytes) -> Sleep {
        Box::pin(async {})
    }
}

/// What a fault looks like to the operator, and the exit code it gives.
pub fn report(fault: &Fault) -> i32 {
    error!(error = fault.cause, place = fault.place, "{}", fault.what);
    1
}
