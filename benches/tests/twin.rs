//! What a real etcd answered, as recorded in `benches/twin/*.txt`, is what Holdfast answers; neither etcd nor Go is
//! needed. Members run within this process, with flags, listeners and disks as in one of their own.
//!
//! `twin --record --script FILE` asks a real etcd again.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_benches::twin::FLAGS;
use holdfast_benches::twin::run::replay;
use holdfast_benches::twin::schema::Schema;
use holdfast_benches::twin::side::Side;
use holdfast_benches::twin::table::Table;
use holdfast_server::config::{Command, Config};
use holdfast_server::launch;

fn tables() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("twin");
    let files = std::fs::read_dir(folder).expect("there are tables");
    let files = files.map(|file| file.expect("the folder can be listed").path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|is| is == "txt")).collect();
    files.sort();
    files
}

fn free_address() -> SocketAddr {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    held.local_addr().expect("it has an address")
}

/// Starts a member on a thread of its own, which ends with the process.
fn start(name: &str, flags: &[String]) -> SocketAddr {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("twin-{name}"));
    drop(std::fs::remove_dir_all(&data));
    let (client, peer) = (free_address(), free_address());
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let own = [
        "--name=m1".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--quota-backend-bytes=8589934592".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=m1={peer_url}"),
    ];
    let usual = FLAGS.iter().map(|flag| (*flag).to_owned());
    let args: Vec<String> = own.into_iter().chain(usual).chain(flags.to_vec()).collect();
    let Ok(Command::Run(config)) = Config::parse(&args, &[]) else { panic!("flags: {args:?}") };
    std::thread::spawn(move || {
        let ended = launch::serve(&config);
        panic!("a member ended: {ended:?}");
    });
    client
}

async fn differences(path: &Path) -> Vec<String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let table = Table::load(path).unwrap_or_else(|what| panic!("{what}"));
    assert!(table.entries.iter().any(|entry| !entry.lines.is_empty()), "{name} is not recorded");
    let member = start(&name, &table.setting.flags);
    let side = Side::connect("holdfast", &[member]).await;
    let mut side = side.unwrap_or_else(|what| panic!("{name}: {what}"));
    let outcome = replay(&mut side, &table).await.unwrap_or_else(|what| panic!("{name}: {what}"));
    outcome.differences.iter().map(|found| format!("{name}: {}", found.text())).collect()
}

#[test]
fn what_etcd_answered_is_what_holdfast_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    let mut found = Vec::new();
    runtime.block_on(async {
        for path in tables() {
            found.extend(differences(&path).await);
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Every call is recorded with an answer, and nearly every one with a refusal.
#[test]
fn every_call_is_recorded() {
    let mut called = std::collections::BTreeSet::new();
    for path in tables() {
        let table = Table::load(&path).unwrap_or_else(|what| panic!("{what}"));
        called.extend(
            table.entries.iter().filter_map(|entry| entry.step.method()).map(str::to_owned),
        );
    }
    let schema = Schema::new();
    let missing: Vec<_> = schema.names().filter(|name| !called.contains(*name)).collect();
    assert!(missing.is_empty(), "not in benches/twin: {missing:?}");
}
