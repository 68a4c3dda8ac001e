//! Durable puts against a real server: starts `holdfast` in a fresh folder on a real disk, and drives
//! it with 1, 64 (8 connections × 8 streams) and 256 (16 × 16) clients in closed loops.
//!
//! ```sh
//! cargo build --release -p holdfast-server
//! cargo run --release -p holdfast-benches --bin bench-put
//! ```
//!
//! Options: `--server PATH`, `--folder PATH` (on the disk to be measured), `--duration SECONDS`,
//! `--val-size BYTES`. Each line has puts a second, quantiles, and the server's CPU time for a put.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use holdfast_benches::loadgen::{self, Config, Op};

/// Connections and streams on each.
const CLIENTS: [(u16, u16); 3] = [(1, 1), (8, 8), (16, 16)];

/// How long a server may take to accept connections.
const START: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(name = "bench-put", about = "Durable puts against a server of its own")]
struct Options {
    /// The server's binary.
    #[arg(long, default_value = "target/release/holdfast")]
    server: PathBuf,
    /// Where its data goes; removed afterwards.
    #[arg(long, default_value = "target/bench-put.etcd")]
    folder: PathBuf,
    /// Seconds that each size is measured.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    val_size: usize,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("bench-put: {cause}");
            ExitCode::from(2)
        }
    }
}

/// Whether every answer was right.
fn measure(options: &Options) -> Result<bool, String> {
    if options.folder.exists() {
        let folder = options.folder.display();
        return Err(format!("{folder} exists; remove it, or name another with --folder"));
    }
    let server = Server::start(&options.server, &options.folder)?;
    let mut good = true;
    for (conns, inflight) in CLIENTS {
        let mut config = Config::new(Op::Put, &[server.client]);
        (config.conns, config.inflight) = (conns, inflight);
        (config.duration, config.val_size) = (options.duration, options.val_size);
        config.pids = vec![server.child.id()];
        let report = loadgen::run(&config)?;
        println!("{report}");
        good &= report.errors() == 0;
    }
    Ok(good)
}

/// A running server; dropping it ends it and removes its folder.
struct Server {
    child: Child,
    client: SocketAddr,
    folder: PathBuf,
}

impl Server {
    fn start(binary: &Path, folder: &Path) -> Result<Server, String> {
        let (client, peer) = (free_address()?, free_address()?);
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(binary)
            .arg("--data-dir")
            .arg(folder)
            .args(["--name", "bench", "--log-level", "error"])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("bench={peer_url}")])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}; build it first", binary.display()))?;
        let mut server = Server { child, client, folder: folder.to_owned() };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended: {status}"));
            }
            if TcpStream::connect(self.client).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the server does not listen on {} after {START:?}", self.client))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An address that nobody listens on at the moment.
fn free_address() -> Result<SocketAddr, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.map_err(|error| format!("no free port: {error}"))
}
