//! Directories and disks that are not as they should be: a member refuses to start with a sentence that
//! helps, or starts and says what it had to give up; acknowledged writes are never among it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tonic::Code;

use crate::member::{Layout, Member};
use crate::proto::etcdserverpb as pb;
use crate::rig::{Scratch, Server, binary, delete, get, has_all, put, range, says};

/// A block of the log: batches begin at multiples of it.
const BLOCK: usize = 4096;

/// What every batch begins with.
const BATCH: &[u8] = b"HFWB";

/// A member that was killed after 40 acknowledged puts, a pause long enough for its log to be sealed in
/// between.
async fn killed(name: &str) -> Server {
    let mut server = Server::start(name, &[]).await;
    let mut kv = server.kv().await;
    for number in 0..40 {
        kv.put(put(&format!("key-{number:02}"), "value")).await.expect("is put");
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    server.kill();
    server
}

fn flip(file: &Path, offset: usize) {
    let file = File::options().read(true).write(true).open(file).expect("is opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).expect("is read");
    byte[0] ^= 0x10;
    file.write_all_at(&byte, offset as u64).expect("is written");
}

/// The log's segment that has batches, and where they begin.
fn batches(server: &Server) -> (PathBuf, Vec<usize>) {
    for segment in server.segments() {
        let bytes = fs::read(&segment).expect("is read");
        // Descriptors are in the directory's blocks, headers at the start of blocks behind it.
        let blocks = bytes.chunks(BLOCK).enumerate();
        let found = blocks.filter(|(_, block)| block.starts_with(BATCH)).map(|(at, _)| at * BLOCK);
        let found: Vec<usize> = found.filter(|at| is_header(&bytes, *at)).collect();
        if !found.is_empty() {
            return (segment, found);
        }
    }
    panic!("no segment has batches");
}

/// A header says which block it is in (FORMAT.md); a descriptor is the copy of one elsewhere.
fn is_header(bytes: &[u8], at: usize) -> bool {
    let block = bytes[at + 28..at + 32].try_into().expect("4 bytes");
    u32::from_le_bytes(block) as usize * BLOCK == at
}

fn place(server: &Server, segment: &Path) -> String {
    let name = segment.file_name().expect("a file").to_string_lossy();
    assert!(server.segments().iter().any(|other| other == segment));
    format!("wal/{name}")
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_durable_is_refused() {
    let mut server = killed("rot").await;
    let (segment, batches) = batches(&server);
    let at = batches[batches.len() / 2];
    flip(&segment, at + 140);
    let said = server.refuses();
    let place = place(&server, &segment);
    has_all(&said, &[&place, &at.to_string(), "is damaged now", "lost", "restore"]);
    flip(&segment, at + 140);
    server.restart().await;
    let answer = server.kv().await.range(range("key-", "key.")).await.expect("is read");
    assert_eq!(answer.into_inner().count, 40, "refusing has changed nothing");
}

#[tokio::test]
async fn a_truncated_log_is_refused() {
    let mut server = killed("truncated").await;
    let (segment, batches) = batches(&server);
    let at = batches[batches.len() / 2];
    let file = File::options().write(true).open(&segment).expect("is opened");
    file.set_len(at as u64).expect("is cut");
    let said = server.refuses();
    let place = place(&server, &segment);
    has_all(&said, &[&place, "lost", "restore"]);
}

#[tokio::test]
async fn a_torn_last_batch_is_cut_loudly() {
    let mut server = killed("torn").await;
    let (segment, batches) = batches(&server);
    let last = *batches.last().expect("there are batches");
    flip(&segment, last + 64);
    server.restart().await;
    let line = server.line("the log was cut before batch").await;
    has_all(&line, &[r#""level":"warn""#, &place(&server, &segment)]);
    let answer = server.kv().await.range(range("key-", "key.")).await.expect("is read");
    assert_eq!(answer.into_inner().count, 40, "what was acknowledged lies before the last batch");
}

#[tokio::test]
async fn a_directory_has_one_user() {
    let mut server = Server::start("one-user", &[]).await;
    let scratch = Scratch::new("one-user-second");
    let mut second = Layout::local(binary(), &scratch.0, 1).expect("ports are free");
    let data = server.layout.data_dir(0).display().to_string();
    second.flags = vec!["--data-dir".to_owned(), data];
    let mut other = Member::start(&second, 0).expect("the binary runs");
    let status = other.wait(Duration::from_secs(20)).expect("it gives up");
    let said = second.last_lines(0, 100);
    assert_eq!(status.code(), Some(1), "{said}");
    let data = server.layout.data_dir(0).display().to_string();
    has_all(&said, &[&data, "in use by another process: stop it or choose another"]);
    server.kv().await.put(put("a", "1")).await.expect("the first goes on");
    assert!(server.member.as_mut().is_some_and(|member| member.ended().is_none()));
}

#[tokio::test]
async fn a_directory_of_another_member_is_refused() {
    let scratch = Scratch::new("swapped");
    let layout = Layout::local(binary(), &scratch.0, 2).expect("ports are free");
    let members = [0, 1].map(|at| Member::start(&layout, at).expect("the binary runs"));
    for at in [0, 1] {
        says(&layout, at, "ready to serve").await;
    }
    members.into_iter().for_each(Member::kill);
    fs::remove_dir_all(layout.data_dir(0)).expect("is removed");
    fs::rename(layout.data_dir(1), layout.data_dir(0)).expect("is moved");
    fs::remove_file(layout.log(0)).expect("is removed");
    let mut member = Member::start(&layout, 0).expect("the binary runs");
    let status = member.wait(Duration::from_secs(20)).expect("it gives up");
    let said = layout.last_lines(0, 100);
    assert_eq!(status.code(), Some(1), "{said}");
    let data = layout.data_dir(0).display().to_string();
    let wrong =
        format!("--data-dir {data} holds the data of another member, m2, and this one is m1");
    let remedy = "start it with --name m2 or give m1 the --data-dir that is its own";
    has_all(&said, &[&wrong, remedy]);
    assert!(layout.data_dir(0).join("holdfast/wal").exists(), "it is left as it was");
}

#[tokio::test]
async fn a_member_of_an_existing_cluster_does_not_start_over() {
    let mut server = Server::prepare("existing", &["--initial-cluster-state=existing"]);
    let data = server.layout.data_dir(0).display().to_string();
    has_all(
        &server.refuses(),
        &[&data, "cannot fetch cluster info from peer urls", "check that a member"],
    );
    server.layout.flags.clear();
    server.restart().await;
    server.kv().await.put(put("a", "1")).await.expect("is put");
    server.kill();
    server.layout.flags = vec!["--initial-cluster-state=existing".to_owned()];
    server.restart().await;
    let answer = server.kv().await.range(get("a")).await.expect("is read").into_inner();
    assert_eq!(answer.count, 1, "with data the flag is ignored, as by etcd");
}

#[tokio::test]
async fn a_directory_of_real_etcd_is_refused_and_left_alone() {
    let mut server = Server::prepare("real-etcd", &[]);
    let snap = server.layout.data_dir(0).join("member/snap");
    fs::create_dir_all(&snap).expect("is made");
    fs::write(snap.join("db"), b"bbolt").expect("is written");
    let said = server.refuses();
    let data = server.layout.data_dir(0).display().to_string();
    has_all(&said, &[&data, "holds the data of a real etcd member", "make-mirror"]);
    let left = fs::read_dir(server.layout.data_dir(0)).expect("is read").count();
    assert_eq!(left, 1, "only what was there before");
}

/// A small file system, unmounted again.
struct Small(PathBuf);

impl Small {
    /// Without the right to mount one there is nothing to test with.
    fn mount(at: &Path, mebibytes: u32) -> Option<Small> {
        fs::create_dir_all(at).expect("is made");
        let size = format!("size={mebibytes}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Small(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_nothing_else() {
    let mut server = Server::prepare("full", &[]);
    // Room for two segments of the log and a checkpoint, not for a third segment.
    let Some(_small) = Small::mount(&server.layout.data_dir(0), 150) else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    server.restart().await;
    let mut kv = server.kv().await;
    let large = pb::PutRequest { value: vec![1; 1 << 20].into(), ..put("large", "") };
    let mut acknowledged = 0;
    let status = loop {
        let key = format!("large-{acknowledged:03}").into();
        match kv.put(pb::PutRequest { key, ..large.clone() }).await {
            Ok(_) => acknowledged += 1,
            Err(status) => break status,
        }
        assert!(acknowledged < 150, "150 MiB do not fit");
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
    assert!(acknowledged > 0, "something fits");
    let counted = pb::RangeRequest { count_only: true, ..range("large-", "large.") };
    let answer = kv.range(counted.clone()).await.expect("reads go on").into_inner();
    assert_eq!(answer.count, acknowledged);
    for _ in 0..20 {
        let answer = kv.delete_range(delete("large-000")).await.expect("deletes go on");
        assert!(answer.into_inner().deleted <= 1);
    }
    server.kill();
    server.restart().await;
    let mut kv = server.kv().await;
    let answer = kv.range(counted).await.expect("reads go on").into_inner();
    assert_eq!(answer.count, acknowledged - 1, "nothing acknowledged is lost");
    let answer = kv.range(get("large-001")).await.expect("reads go on").into_inner();
    assert_eq!(answer.kvs[0].value.len(), 1 << 20);
}
