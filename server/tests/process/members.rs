//! Members come and go: real processes, as an operator handles them.
//!
//! What is checked before the log, and every refusal of apply, is told in the core's scripts; here is
//! what only processes show: joining, leaving, coming back where one must not, and going on alone.

use std::process::Command;
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use crate::client;
use crate::member::{Layout, Member};
use crate::proto::etcdserverpb as pb;
use crate::rig::{Scratch, binary, get, has_all, http_get, put, says};
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;

const PATIENCE: Duration = Duration::from_secs(40);

/// Places for members; the first ones begin the cluster.
struct Cluster {
    layout: Layout,
    members: Vec<Option<Member>>,
    _scratch: Scratch,
}

impl Cluster {
    fn new(name: &str, places: usize, first: usize) -> Cluster {
        let scratch = Scratch::new(name);
        let layout = Layout::local(binary(), &scratch.0, places).expect("ports are free");
        let mut cluster =
            Cluster { layout, members: (0..places).map(|_| None).collect(), _scratch: scratch };
        let all: Vec<usize> = (0..first).collect();
        all.iter().for_each(|at| cluster.start(*at, &all, "new", &[]));
        cluster
    }

    fn peer_url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.layout.ports[at].1)
    }

    fn start(&mut self, at: usize, all: &[usize], state: &str, more: &[&str]) {
        let pairs =
            all.iter().map(|of| format!("{}={}", self.layout.name(*of), self.peer_url(*of)));
        let list = pairs.collect::<Vec<_>>().join(",");
        let mut arguments = self.layout.arguments(at);
        // The last of two wins.
        arguments.extend(["--initial-cluster".into(), list, "--initial-cluster-state".into()]);
        arguments.push(state.into());
        arguments
            .extend(["--strict-reconfig-check=false", "--election-timeout=1000"].map(Into::into));
        arguments.extend(more.iter().map(ToString::to_string));
        let command = &mut Command::new(&self.layout.binary);
        let member = Member::start_as(&self.layout, at, command.args(arguments));
        self.members[at] = Some(member.expect("the binary runs"));
    }

    async fn channel(&self, at: usize) -> Channel {
        let start = Instant::now();
        loop {
            if let Ok(channel) = client::channel(&self.layout.client_url(at)).await {
                return channel;
            }
            let said = self.layout.last_lines(at, 20);
            assert!(start.elapsed() < PATIENCE, "{at} does not listen: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn put(&self, at: usize, key: &str) {
        let mut kv = KvClient::new(self.channel(at).await);
        let start = Instant::now();
        while let Err(status) = kv.put(put(key, "v")).await {
            assert!(start.elapsed() < PATIENCE, "no put: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn has(&self, at: usize, key: &str) -> bool {
        let mut kv = KvClient::new(self.channel(at).await);
        let request = pb::RangeRequest { serializable: true, ..get(key) };
        kv.range(request).await.is_ok_and(|answer| answer.into_inner().count == 1)
    }

    async fn members(&self, at: usize) -> Vec<pb::Member> {
        let mut cluster = ClusterClient::new(self.channel(at).await);
        let request = pb::MemberListRequest { linearizable: true };
        cluster.member_list(request).await.expect("it lists").into_inner().members
    }

    async fn id(&self, at: usize) -> u64 {
        let mut maintenance = MaintenanceClient::new(self.channel(at).await);
        let status = maintenance.status(pb::StatusRequest {}).await.expect("it answers");
        status.into_inner().header.expect("a status has a header").member_id
    }

    async fn leader(&self, asked: usize) -> u64 {
        let start = Instant::now();
        loop {
            let mut maintenance = MaintenanceClient::new(self.channel(asked).await);
            let status = maintenance.status(pb::StatusRequest {}).await.expect("it answers");
            match status.into_inner().leader {
                0 => assert!(start.elapsed() < PATIENCE, "no leader"),
                leader => return leader,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `holdfast ctl` at a member; what it prints, and whether it went well.
    fn ctl(&self, at: usize, args: &[&str]) -> (String, bool) {
        let mut command = Command::new(&self.layout.binary);
        command.arg("ctl").args(args).args(["--endpoints", &self.layout.client_url(at)]);
        command.args(["--command-timeout", "20s"]);
        let output = command.output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// A change, asked for until it is made: a busy machine elects now and then, and what was asked of a
    /// leader that is no more is lost. `made` is what the second answer to a change that was made says.
    fn change(&self, at: usize, args: &[&str], made: &str) -> String {
        let start = Instant::now();
        loop {
            let (said, well) = self.ctl(at, args);
            if well || said.contains(made) {
                return said;
            }
            assert!(start.elapsed() < PATIENCE, "{args:?}: {said}");
        }
    }

    /// Waits for a process to end by itself; what it said.
    fn ends(&mut self, at: usize) -> String {
        let mut member = self.members[at].take().expect("it was started");
        let status = member.wait(PATIENCE);
        let said = self.layout.last_lines(at, 1000);
        let status = status.unwrap_or_else(|| panic!("it goes on: {said}"));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}

#[tokio::test]
async fn a_learner_joins_is_promoted_and_the_old_leader_goes_for_good() {
    let mut cluster = Cluster::new("members", 3, 2);
    cluster.put(0, "before").await;
    let url = cluster.peer_url(2);
    let add = ["member", "add", "m3", "--learner", "--peer-urls", &url];
    let taken = "Peer URLs already exists";
    let said = cluster.change(0, &add, taken);
    if !said.contains(taken) {
        has_all(&said, &[" added as learner to cluster ", "ETCD_NAME=\"m3\"", "m3=http://"]);
    }
    cluster.start(2, &[0, 1, 2], "existing", &[]);
    says(&cluster.layout, 2, "ready to serve client requests").await;
    assert!(cluster.has(2, "before").await, "a learner serves what it has");
    let mut kv = KvClient::new(cluster.channel(2).await);
    let refused = kv.range(get("before")).await.expect_err("a linearizable read");
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    let (said, _) = cluster.ctl(2, &["member", "list"]);
    has_all(&said, &["rpc not supported for learner"]);

    let joined = format!("{:x}", cluster.id(2).await);
    cluster.change(1, &["member", "promote", &joined], "can only promote a learner member\n");
    cluster.put(2, "after").await;
    let (start, decided) = (Instant::now(), r#""etcdcluster":"3.7.0""#);
    while !http_get(cluster.layout.ports[0].0, "/version").contains(decided) {
        assert!(start.elapsed() < PATIENCE, "the cluster's version is not decided");
    }

    // The leader goes; it is asked itself where it leads.
    let leader = cluster.leader(0).await;
    let old = if cluster.id(0).await == leader { 0 } else { 1 };
    let (old, stays) = if cluster.id(2).await == leader { (2, 0) } else { (old, 1 - old) };
    cluster.change(stays, &["member", "remove", &format!("{leader:x}")], "member not found");
    let said = cluster.ends(old);
    has_all(&said, &["the member has been permanently removed from the cluster"]);
    cluster.put(stays, "without").await;
    assert_eq!(cluster.members(stays).await.len(), 2);

    // It must not come back, neither with its data nor without.
    cluster.start(old, &[0, 1, 2], "new", &[]);
    has_all(&cluster.ends(old), &["permanently removed"]);
    cluster.put(stays, "still").await;
}

#[tokio::test]
async fn a_member_that_lost_its_data_does_not_come_back_under_its_id() {
    let mut cluster = Cluster::new("lost-data", 3, 3);
    cluster.put(0, "a").await;
    for at in 0..3 {
        says(&cluster.layout, at, "ready to serve client requests").await;
    }
    cluster.members[2].take().expect("it runs").kill();
    std::fs::remove_dir_all(cluster.layout.data_dir(2)).expect("its data can be removed");
    for state in ["new", "existing"] {
        cluster.start(2, &[0, 1, 2], state, &[]);
        // Its peers say so before it starts; if none answered in time, when it connects.
        let said = cluster.ends(2);
        let told = ["has already been bootstrapped", "is not the one the cluster knows it by"];
        assert!(told.iter().any(|told| said.contains(told)), "{said}");
        drop(std::fs::remove_dir_all(cluster.layout.data_dir(2)));
    }
    // The one that was killed may have led: what is sent to it until it is missed is lost, as with etcd.
    let update = ["member", "update", "77", "--peer-urls=http://h:1"];
    let unknown = "etcdserver: member not found";
    let said = cluster.change(0, &update, unknown);
    assert!(said.contains(unknown), "{said}");
}

#[tokio::test]
async fn one_of_three_is_forced_to_go_on_alone() {
    let mut cluster = Cluster::new("force-new", 3, 3);
    cluster.put(0, "kept").await;
    let start = Instant::now();
    while !cluster.has(2, "kept").await {
        assert!(start.elapsed() < PATIENCE, "it does not catch up");
    }
    let before = cluster.id(2).await;
    cluster.members.iter_mut().for_each(|member| member.take().expect("it runs").kill());
    cluster.start(2, &[0, 1, 2], "new", &["--force-new-cluster"]);
    cluster.put(2, "alone").await;
    assert!(cluster.has(2, "kept").await);
    let members = cluster.members(2).await;
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [before]);
    // Once is enough; and those who were given up stay out.
    cluster.members[2].take().expect("it runs").kill();
    cluster.start(2, &[0, 1, 2], "new", &[]);
    cluster.put(2, "again").await;
    cluster.start(0, &[0, 1, 2], "new", &[]);
    has_all(&cluster.ends(0), &["permanently removed"]);
    let (said, well) = cluster.ctl(2, &["member", "list", "-w", "json"]);
    assert!(well && said.contains(r#""members":[{"ID":"#), "{said}");
}

/// Members that agree compare everything there is to compare: a compacted revision is still answered for, no
/// alarm is raised, and a member that starts again serves.
#[tokio::test]
async fn members_compare_their_hashes_and_find_nothing() {
    let mut cluster = Cluster::new("hashes", 3, 0);
    let checks = [
        "--corrupt-check-time=1s",
        "--experimental-compact-hash-check-time=1s",
        "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true",
    ];
    (0..3).for_each(|at| cluster.start(at, &[0, 1, 2], "new", &checks));
    for key in ["a", "b", "a", "c"] {
        cluster.put(0, key).await;
    }
    let before = cluster.hash_kv(0, 3, -1).await;
    for revision in ["3", "4"] {
        cluster.change(0, &["compaction", revision], "required revision has been compacted");
    }
    for at in 0..3 {
        assert_eq!(cluster.hash_kv(at, 3, -1).await, before, "of member {at}");
    }
    cluster.members[2].take().expect("it runs").kill();
    cluster.start(2, &[0, 1, 2], "new", &checks);
    cluster.put(2, "d").await;
    // Some rounds of both checks go by.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (said, well) = cluster.ctl(0, &["alarm", "list"]);
    assert!(well && said.trim().is_empty(), "{said}");
    for at in 0..3 {
        let said = cluster.layout.last_lines(at, 1000);
        assert!(!said.contains("corrupt:"), "{said}");
    }
}

impl Cluster {
    /// The hash at a revision that was made under this compacted one; a compaction's is there after a while.
    async fn hash_kv(&self, at: usize, revision: i64, compacted: i64) -> u32 {
        let start = Instant::now();
        loop {
            let mut maintenance = MaintenanceClient::new(self.channel(at).await);
            let answer = maintenance.hash_kv(pb::HashKvRequest { revision }).await;
            let found = answer.map(|answer| {
                let answer = answer.into_inner();
                (answer.hash_revision, answer.compact_revision, answer.hash)
            });
            match found {
                Ok((at, before, hash)) if (at, before) == (revision, compacted) => return hash,
                found => assert!(start.elapsed() < PATIENCE, "no hash: {found:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
