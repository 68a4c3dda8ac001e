//! The binary `holdfast`.

use bytes::Bytes;
use holdfast_core::{fact::Fact, id::*, limits::Limits, response::Member, status::Status};
use holdfast_net::grpc::Sleep;
use holdfast_server::{boot::BootConfig, member::*, observer::Observer, process::*};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

struct Quiet;
impl Observer for Quiet {
    fn turned(&self, _: &Status, facts: &[Fact]) {
        for f in facts {
            if !matches!(f, Fact::Applied { .. } | Fact::Committed { .. }) {
                eprintln!("{f}");
            }
        }
    }
    fn warn(&self, m: &str) {
        eprintln!("{m}");
    }
    fn ready(&self, a: &[String]) {
        eprintln!("ready to serve client requests {a:?}");
    }
}
struct NoGate;
impl Gate<TcpStream> for NoGate {
    fn serve(&self, _: TcpStream, _: Bytes) -> Sleep {
        Box::pin(async {})
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let dir = a.get(1).cloned().unwrap_or("/tmp/hf".into());
    let me: u64 = a.get(2).map_or(1, |s| s.parse().unwrap());
    let n: u64 = a.get(3).map_or(1, |s| s.parse().unwrap());
    let port = |i: u64| 20000 + i * 10;
    let genesis = (1..=n)
        .map(|i| Member { id: MemberId(i), name: format!("m{i}"), ..Default::default() })
        .collect();
    let boot = BootConfig {
        cluster: ClusterId(7),
        member: MemberId(me),
        incarnation: Incarnation(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
                as u64,
        ),
        boot: 1,
        limits: Limits::default(),
        seed: me,
        genesis,
        wal: Default::default(),
        engine: Default::default(),
    };
    let config = MemberConfig {
        boot,
        name: format!("m{me}"),
        client_urls: vec![],
        peers: (1..=n)
            .filter(|i| *i != me)
            .map(|i| (MemberId(i), format!("127.0.0.1:{}", port(i) + 1)))
            .collect(),
        listen_clients: vec![format!("127.0.0.1:{}", port(me))],
        listen_peers: vec![format!("127.0.0.1:{}", port(me) + 1)],
        progress_interval: Duration::from_secs(600),
        quota: 0,
    };
    let r = run(
        std::path::Path::new(&dir),
        ProcessConfig { member: config, no_fsync: false },
        Rc::new(Quiet),
        Box::new(|_| Rc::new(NoGate)),
    );
    eprintln!("{r:?}");
}
