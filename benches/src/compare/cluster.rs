//! Servers of one side, started as an operator would: processes with etcd's flags on a disk of their own.
//!
//! Dropping a cluster ends its processes and removes its data.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::loadgen;

/// How long servers may take until they answer, and until they end.
const READY: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(60);

/// Whom we compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The reference.
    Etcd,
    /// Ours.
    Holdfast,
}

impl Side {
    /// How tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Etcd => "etcd",
            Side::Holdfast => "holdfast",
        }
    }
}

struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
}

/// See the module.
pub struct Cluster {
    side: Side,
    binary: PathBuf,
    folder: PathBuf,
    members: Vec<Member>,
    /// More flags of each, which win over the usual ones.
    flags: Vec<String>,
    /// Clients' addresses, the leader's first.
    endpoints: Vec<SocketAddr>,
}

impl Cluster {
    /// Starts `count` new members with empty folders below `data`, and waits until they answer.
    ///
    /// # Errors
    /// A binary that does not start, or servers that do not answer.
    pub fn start(side: Side, binary: &Path, data: &Path, count: usize) -> Result<Cluster, String> {
        Cluster::start_with(side, binary, (data, count), Vec::new())
    }

    /// The same with more flags.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(
        side: Side,
        binary: &Path,
        (data, count): (&Path, usize),
        flags: Vec<String>,
    ) -> Result<Cluster, String> {
        let folder = data.join(side.name());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| in_file(&folder, &error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| in_file(&folder, &error))?;
        let addresses = free_addresses(2 * count)?;
        let members = addresses.chunks(2).enumerate().map(|(nth, pair)| Member {
            name: format!("m{}", nth + 1),
            client: pair[0],
            peer: pair[1],
            child: None,
        });
        let mut cluster = Cluster {
            side,
            binary: binary.to_owned(),
            folder,
            members: members.collect(),
            flags,
            endpoints: Vec::new(),
        };
        cluster.restart()?;
        Ok(cluster)
    }

    /// Starts the processes on the data that is there; returns the time from the first one's start to the
    /// first linearizable read of each.
    ///
    /// # Errors
    /// A binary that does not start, or servers that do not answer.
    pub fn restart(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        let peers =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer));
        let peers = peers.collect::<Vec<_>>().join(",");
        for member in &mut self.members {
            member.child = Some(spawn((&self.binary, &self.folder), member, &peers, &self.flags)?);
        }
        for member in &self.members {
            let ready = loadgen::wait_ready(member.client, READY);
            ready.map_err(|what| format!("{} {}: {what}", self.side.name(), member.name))?;
        }
        let took = begun.elapsed();
        self.check_alive()?;
        self.find_leader()?;
        Ok(took)
    }

    /// Clients' addresses, the leader's first.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// Where the data is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The servers' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| Some(member.child.as_ref()?.id())).collect()
    }

    /// Whether every server still runs.
    ///
    /// # Errors
    /// Which has ended, how, and its last words.
    pub fn check_alive(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            let Some(child) = &mut member.child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                let (side, name) = (self.side.name(), &member.name);
                let words = last_words(&self.folder.join(format!("{name}.log")));
                return Err(format!("{side} {name} died: {status}; {words}"));
            }
        }
        Ok(())
    }

    /// Ends the processes: TERM asks, KILL does not.
    ///
    /// # Errors
    /// A process that does not end.
    pub fn stop(&mut self, signal: Signal) -> Result<(), String> {
        for member in &self.members {
            let Some(child) = &member.child else { continue };
            let pid =
                Pid::from_raw(child.id().cast_signed()).ok_or("a process without a number")?;
            kill_process(pid, signal).map_err(|error| format!("kill: {error}"))?;
        }
        let begun = Instant::now();
        for member in &mut self.members {
            let Some(child) = &mut member.child else { continue };
            while !matches!(child.try_wait(), Ok(Some(_))) {
                if begun.elapsed() > END {
                    return Err(format!("{} does not end after {END:?}", member.name));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            member.child = None;
        }
        Ok(())
    }

    fn find_leader(&mut self) -> Result<(), String> {
        self.endpoints = self.members.iter().map(|member| member.client).collect();
        for nth in 0..self.endpoints.len() {
            let (member, leader) = loadgen::leader_of(self.endpoints[nth])?;
            if member == leader {
                self.endpoints.rotate_left(nth);
                return Ok(());
            }
        }
        Err(format!("no member of {} says that it leads", self.side.name()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // It may have ended by itself; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(
    (binary, folder): (&Path, &Path),
    member: &Member,
    peers: &str,
    flags: &[String],
) -> Result<Child, String> {
    let (client, peer) = (format!("http://{}", member.client), format!("http://{}", member.peer));
    let log = folder.join(format!("{}.log", member.name));
    let log = OpenOptions::new().create(true).append(true).open(&log);
    let log: File = log.map_err(|error| in_file(folder, &error))?;
    Command::new(binary)
        .arg("--data-dir")
        .arg(folder.join(&member.name))
        .args(["--name", &member.name, "--log-level", "error"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", peers])
        .args(["--quota-backend-bytes", "8589934592"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| in_file(binary, &error))
}

/// Addresses that nobody listens on at the moment.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, String> {
    let free = |_| TcpListener::bind("127.0.0.1:0");
    // All are held at once, so that no two are the same.
    let held: Result<Vec<_>, _> = (0..count).map(free).collect();
    let held = held.map_err(|error| format!("no free port: {error}"))?;
    let addresses: Result<Vec<_>, _> = held.iter().map(TcpListener::local_addr).collect();
    addresses.map_err(|error| format!("no free port: {error}"))
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("its last words: {}", line.chars().take(300).collect::<String>()),
        None => "it said nothing".to_owned(),
    }
}

fn in_file(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
