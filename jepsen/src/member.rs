//! A cluster of real processes: starts the binary, kills, pauses and wakes it, keeps what it said.
//!
//! Leaves out clients and any judgement. The command line is written in one place,
//! [`Layout::arguments`].
//!
//! Laws:
//!  1. No process outlives its [`Member`]; [`kill_all`] is for panics, after which nothing is dropped.
//!  2. A member keeps its directory, its ports and its log file over all its lives.
//!  3. What a member says is appended to `<dir>/<name>.log` as it says it.
//!
//! Worked example: `Layout::local(binary, dir, 3)` gives three members on free ports;
//! `Member::start(&layout, 0)` runs the first, `kill()` ends it as `kill -9` does, and a second
//! `Member::start(&layout, 0)` takes it up from its directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where the members of a cluster live.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The program.
    pub binary: PathBuf,
    /// Holds a directory and a log file for each member.
    pub dir: PathBuf,
    /// Client and peer port of each member.
    pub ports: Vec<(u16, u16)>,
    /// More flags, for every member.
    pub flags: Vec<String>,
}

impl Layout {
    /// `members` members on free ports of this machine.
    ///
    /// # Errors
    /// The directory cannot be made, or no port is free.
    pub fn local(binary: &Path, dir: &Path, members: usize) -> io::Result<Layout> {
        fs::create_dir_all(dir)?;
        let ports = (0..members).map(|_| Ok((free_port()?, free_port()?)));
        let ports = ports.collect::<io::Result<Vec<_>>>()?;
        let (binary, dir) = (fs::canonicalize(binary)?, fs::canonicalize(dir)?);
        Ok(Layout { binary, dir, ports, flags: Vec::new() })
    }

    /// The name of a member.
    pub fn name(&self, at: usize) -> String {
        format!("m{}", at + 1)
    }

    /// The data directory of a member.
    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.dir.join(self.name(at))
    }

    /// Where a member says what it does.
    pub fn log(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.log", self.name(at)))
    }

    /// Where clients reach a member.
    pub fn client_url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[at].0)
    }

    fn peer_url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[at].1)
    }

    /// The command line of a member.
    pub fn arguments(&self, at: usize) -> Vec<String> {
        let members = 0..self.ports.len();
        let cluster = members.map(|at| format!("{}={}", self.name(at), self.peer_url(at)));
        let cluster = cluster.collect::<Vec<_>>().join(",");
        let flags = [
            ("--name", self.name(at)),
            ("--data-dir", self.data_dir(at).display().to_string()),
            ("--listen-client-urls", self.client_url(at)),
            ("--advertise-client-urls", self.client_url(at)),
            ("--listen-peer-urls", self.peer_url(at)),
            ("--initial-advertise-peer-urls", self.peer_url(at)),
            ("--initial-cluster", cluster),
            ("--initial-cluster-state", "new".to_owned()),
            ("--initial-cluster-token", "kill".to_owned()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags.chain(self.flags.iter().cloned()).collect()
    }

    /// What a member said when it panicked: a trace would push it out of the last lines.
    pub fn panics(&self, at: usize) -> String {
        let text = fs::read(self.log(at)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let panics = lines.windows(2).filter(|pair| pair[0].contains("panicked"));
        panics.map(|pair| format!("{}\n{}\n", pair[0], pair[1])).collect()
    }

    /// The last lines that a member has said.
    pub fn last_lines(&self, at: usize, count: usize) -> String {
        let text = fs::read(self.log(at)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A running member.
pub struct Member {
    child: Child,
    pid: Pid,
}

impl Member {
    /// Starts a member; whether it serves is for its clients to see.
    ///
    /// # Errors
    /// The program cannot be run, or its log file not be written.
    pub fn start(layout: &Layout, at: usize) -> io::Result<Member> {
        Member::start_as(layout, at, Command::new(&layout.binary).args(layout.arguments(at)))
    }

    /// As [`Member::start`], by a command of the caller's.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(layout: &Layout, at: usize, command: &mut Command) -> io::Result<Member> {
        let log = File::options().create(true).append(true).open(layout.log(at))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.current_dir(&layout.dir).spawn()?;
        let pid = Pid::from_child(&child);
        running().insert(pid.as_raw_nonzero().get());
        Ok(Member { child, pid })
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Kills it and does not wait.
    pub fn signal_kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How it has ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // An error means that the child was reaped elsewhere, which nobody does.
        self.child.try_wait().ok().flatten()
    }

    /// Waits at most so long for its end.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn signal(&self, signal: Signal) {
        // A process that has ended already is as good as signalled: the caller looks at `ended`.
        let _ = kill_process(self.pid, signal);
    }

    fn end(&mut self) {
        // Both fail only for a child that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().remove(&self.pid.as_raw_nonzero().get());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends every member that this process has started: for a panic hook, where aborting drops nothing.
pub fn kill_all() {
    for pid in std::mem::take(&mut *running()) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: one of
/// these could take it while its member is down.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    let start = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + (start + next) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port from 10000 to 29999 is free"))
}
