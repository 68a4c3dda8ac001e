//! One member of the built binary in a directory of its own, and what tests ask it.
//!
//! Worked example: `Server::start("puts", &[]).await` has made an empty directory, started a member on
//! free ports and seen it answer; dropping it ends the process and removes the directory, unless the
//! test has failed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::client;
use crate::member::{Layout, Member};
use crate::proto::etcdserverpb as pb;
use pb::kv_client::KvClient;

/// How long a member may take to answer, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(30);

/// A directory that is removed again.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let name = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("the target folder can be written");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}

/// The path of the binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_holdfast"))
}

/// See the head of this file.
pub struct Server {
    pub layout: Layout,
    pub member: Option<Member>,
    _scratch: Scratch,
}

impl Server {
    pub async fn start(name: &str, flags: &[&str]) -> Server {
        let mut server = Server::prepare(name, flags);
        server.restart().await;
        server
    }

    /// The layout of a member that has not been started.
    pub fn prepare(name: &str, flags: &[&str]) -> Server {
        let scratch = Scratch::new(name);
        let mut layout = Layout::local(binary(), &scratch.0, 1).expect("ports are free");
        layout.flags = flags.iter().map(|flag| flag.to_string()).collect();
        Server { layout, member: None, _scratch: scratch }
    }

    /// Starts it again, and waits until it answers.
    pub async fn restart(&mut self) {
        self.member = None;
        self.member = Some(Member::start(&self.layout, 0).expect("the binary runs"));
        self.answers().await;
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.member.take().expect("it runs").kill();
    }

    /// Starts it in the expectation that it refuses to; gives what it said, which must be soon.
    pub fn refuses(&mut self) -> String {
        self.member = None;
        drop(std::fs::remove_file(self.layout.log(0)));
        let mut member = Member::start(&self.layout, 0).expect("the binary runs");
        let status = member.wait(START_MAX);
        let said = self.said();
        let status = status.unwrap_or_else(|| panic!("it goes on and on: {said}"));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.layout.last_lines(0, 10_000)
    }

    /// Waits until it has said `text`, which it may do after it has answered; gives all it has said.
    pub async fn says(&self, text: &str) -> String {
        says(&self.layout, 0, text).await
    }

    /// The first line that has `text`, once there is one.
    pub async fn line(&self, text: &str) -> String {
        let said = self.says(text).await;
        said.lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
    }

    /// Where its log's segments are, in the order of their names.
    pub fn segments(&self) -> Vec<PathBuf> {
        let folder = self.layout.data_dir(0).join("holdfast/wal");
        let files = std::fs::read_dir(folder).expect("a member has a log");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("is read").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
        files.sort();
        files
    }

    pub async fn channel(&self) -> Channel {
        client::channel(&self.layout.client_url(0)).await.expect("it listens")
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    async fn answers(&mut self) {
        let start = Instant::now();
        loop {
            if let Ok(channel) = client::channel(&self.layout.client_url(0)).await {
                let mut kv = KvClient::new(channel);
                if kv.range(get("ready")).await.is_ok() {
                    return;
                }
            }
            let ended = self.member.as_mut().and_then(Member::ended);
            assert!(ended.is_none(), "it has ended: {ended:?}\n{}", self.said());
            assert!(start.elapsed() < START_MAX, "it does not answer\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Waits until a member has said `text`; gives all it has said.
pub async fn says(layout: &Layout, at: usize, text: &str) -> String {
    let start = Instant::now();
    loop {
        let said = layout.last_lines(at, 10_000);
        if said.contains(text) {
            return said;
        }
        assert!(start.elapsed() < START_MAX, "it does not say {text:?}: {said}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asserts that a text has every one of these parts.
pub fn has_all(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// What an HTTP/1.1 GET is answered, head and body.
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(START_MAX)).expect("a timeout above 0");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    answer
}

/// A put of two texts.
pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

/// A linearizable read of one key.
pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// A linearizable read from `from` up to, not including, `to`.
pub fn range(from: &str, to: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: to.to_owned().into(), ..get(from) }
}

/// A removal of one key.
pub fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// Asserts how a call was refused.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (code, text));
}
