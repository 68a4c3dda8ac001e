//! Every flag of etcd 3.7, and our own: what it takes, and how we stand to it.

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// Go's booleans; the value needs `=`.
    Switch,
    /// A number that is not negative.
    Count,
    /// A number.
    Signed,
    /// Go's durations.
    Duration,
    /// A comma-separated list of URLs.
    Urls,
    /// `new` or `existing`.
    State,
}

/// How we stand to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its effect.
    Served,
    /// It is taken with a warning: its effect comes later, `help` says what holds until then.
    Accepted,
    /// It has no effect in etcd either.
    Ignored,
    /// It is refused until its effect exists.
    Later,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// How we stand to it.
    pub standing: Standing,
    /// Its value when it is not given.
    pub default: &'static str,
    /// For `--help`, or for the warning.
    pub help: &'static str,
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The flag of this variable: `ETCD_DATA_DIR` is `data-dir`.
pub fn find_variable(variable: &str) -> Option<&'static Flag> {
    let name = variable.strip_prefix("ETCD_")?;
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    find(&name.to_ascii_lowercase().replace('_', "-"))
}

/// When etcd removed a flag, and what to do instead.
pub fn removed_in(name: &str) -> Option<(&'static str, String)> {
    if let Some(renamed) = name.strip_prefix("experimental-") {
        if RENAMED.contains(&renamed) {
            return Some(("3.7", format!("use --{renamed}")));
        }
        if GATED.contains(&renamed) {
            return Some(("3.7", "it became a feature gate, see --feature-gates".to_owned()));
        }
    }
    let (_, version) = REMOVED.iter().find(|(removed, _)| *removed == name)?;
    Some((version, "remove it".to_owned()))
}

const fn flag(
    name: &'static str,
    kind: Kind,
    standing: Standing,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, standing, default, help }
}

const fn later(name: &'static str) -> Flag {
    flag(name, Kind::Text, Standing::Later, "", "")
}

const fn ignored(name: &'static str) -> Flag {
    // etcd's are switches, so that no argument is swallowed.
    flag(name, Kind::Switch, Standing::Ignored, "false", "")
}

use Kind::{Count, Duration, Signed, State, Switch, Text, Urls};
use Standing::{Accepted, Served};

/// All flags, in the order in which `--help` lists those that are served.
pub const FLAGS: &[Flag] = &[
    flag("name", Text, Served, "default", "Human-readable name of this member."),
    flag("data-dir", Text, Served, "", "Directory of the data; ${name}.etcd when empty."),
    flag(
        "listen-client-urls",
        Urls,
        Served,
        "http://localhost:2379",
        "Comma-separated URLs to listen on for clients; IP literals or localhost.",
    ),
    flag(
        "advertise-client-urls",
        Urls,
        Served,
        "http://localhost:2379",
        "URLs that clients are told; required with --listen-client-urls.",
    ),
    flag(
        "listen-peer-urls",
        Urls,
        Served,
        "http://localhost:2380",
        "URLs to listen on for the other members.",
    ),
    flag(
        "initial-advertise-peer-urls",
        Urls,
        Served,
        "http://localhost:2380",
        "URLs that the other members are told.",
    ),
    flag(
        "initial-cluster",
        Text,
        Served,
        "default=http://localhost:2380",
        "Members of a new cluster: name=url,name=url.",
    ),
    flag(
        "initial-cluster-state",
        State,
        Served,
        "new",
        "new, or existing to join a running cluster.",
    ),
    flag(
        "strict-reconfig-check",
        Switch,
        Served,
        "true",
        "Refuse member changes that would lose the quorum of started, connected members.",
    ),
    flag("max-learners", Count, Served, "1", "Learners at the same time."),
    flag(
        "force-new-cluster",
        Switch,
        Served,
        "false",
        "Give all other members up: this one goes on alone with its data.",
    ),
    flag(
        "initial-cluster-token",
        Text,
        Served,
        "etcd-cluster",
        "Tells clusters apart; feeds the cluster's and the members' ids.",
    ),
    flag("heartbeat-interval", Count, Served, "100", "Milliseconds between heartbeats."),
    flag("election-timeout", Count, Served, "1000", "Milliseconds before an election."),
    flag("snapshot-count", Count, Served, "10000", "Entries applied between two checkpoints."),
    flag(
        "snapshot-catchup-entries",
        Count,
        Served,
        "5000",
        "Entries kept behind a checkpoint for slow members.",
    ),
    flag("max-request-bytes", Count, Served, "1572864", "Largest request of a client."),
    flag("max-txn-ops", Count, Served, "128", "Most operations in a transaction."),
    flag(
        "max-concurrent-streams",
        Count,
        Served,
        "4294967295",
        "Most open calls of a client's connection.",
    ),
    flag(
        "grpc-keepalive-min-time",
        Duration,
        Served,
        "5s",
        "A client that pings more often than this is sent away; 0s means 5m.",
    ),
    flag(
        "grpc-keepalive-interval",
        Duration,
        Served,
        "2h0m0s",
        "A client that is silent for so long (1s at least) is pinged; 0s means never.",
    ),
    flag(
        "grpc-keepalive-timeout",
        Duration,
        Served,
        "20s",
        "A client that does not answer a ping for so long is gone; 0s means no ping.",
    ),
    flag(
        "watch-progress-notify-interval",
        Duration,
        Served,
        "0s",
        "Between progress reports of idle watches; 0s means 10m.",
    ),
    flag(
        "compaction-batch-limit",
        Signed,
        Served,
        "0",
        "Revisions per slice of a compaction; 0 means 1000.",
    ),
    flag(
        "quota-backend-bytes",
        Signed,
        Served,
        "0",
        "Bytes of data and history beyond which writes are refused; 0 means 80 % of the file system, \
         less than 0 no limit.",
    ),
    flag(
        "experimental-sticky-nospace-alarm",
        Switch,
        Served,
        "false",
        "A NOSPACE alarm stays until it is disarmed, as etcd's does. Holdfast's own.",
    ),
    flag(
        "auto-compaction-retention",
        Text,
        Served,
        "0",
        "History that is kept: a duration, or hours, or a number of revisions; 0 keeps all.",
    ),
    flag("auto-compaction-mode", Text, Served, "periodic", "periodic or revision."),
    flag(
        "corrupt-check-time",
        Duration,
        Served,
        "0s",
        "Between two comparisons of the members' data by the leader; 0s means never.",
    ),
    flag(
        "compact-hash-check-time",
        Duration,
        Served,
        "1m0s",
        "Between two comparisons of the hashes of compactions; with the gate CompactHashCheck.",
    ),
    flag(
        "experimental-corrupt-check-time",
        Duration,
        Served,
        "0s",
        "What etcd 3.6 called --corrupt-check-time.",
    ),
    flag(
        "experimental-compact-hash-check-time",
        Duration,
        Served,
        "1m0s",
        "What etcd 3.6 called --compact-hash-check-time.",
    ),
    flag(
        "experimental-compact-hash-check-enabled",
        Switch,
        Served,
        "false",
        "What etcd 3.6 had in place of the gate CompactHashCheck.",
    ),
    flag(
        "experimental-initial-corrupt-check",
        Switch,
        Served,
        "false",
        "What etcd 3.6 had in place of the gate InitialCorruptCheck.",
    ),
    flag("feature-gates", Text, Served, "", "etcd's feature gates: Name=bool,Name=bool."),
    flag("unsafe-no-fsync", Switch, Served, "false", "Never sync. Loses data with the power."),
    flag(
        "experimental-disk-driver",
        Text,
        Served,
        "auto",
        "How the log is written: io_uring, pool (threads), or auto: io_uring where the kernel lets it. \
         Holdfast's own.",
    ),
    flag(
        "experimental-edge-threads",
        Text,
        Served,
        "auto",
        "Threads that serve clients beside the one that drives the log: a number, or auto: none on one or two \
         cores, else half of the cores, at most 8. Holdfast's own.",
    ),
    flag(
        "experimental-answer-memory-bytes",
        Text,
        Served,
        "auto",
        "Bytes that large answers may hold until clients have taken them; reads beyond wait, then are refused. \
         A number, or auto: an eighth of the memory, at least 256 MiB. Holdfast's own.",
    ),
    flag("listen-metrics-urls", Urls, Served, "", "More URLs for /metrics and health checks."),
    flag("logger", Text, Served, "zap", "Only zap: JSON lines."),
    flag(
        "log-outputs",
        Text,
        Served,
        "default",
        "default (stderr), stderr, stdout or file paths, comma-separated.",
    ),
    flag("log-level", Text, Served, "info", "debug, info, warn, error, panic or fatal."),
    flag(
        "auth-token",
        Text,
        Served,
        "simple",
        "simple, or jwt,sign-method=..,pub-key=..,priv-key=..,ttl=..; empty for no tokens.",
    ),
    flag("auth-token-ttl", Count, Served, "300", "Seconds that a simple token lives unused."),
    flag("bcrypt-cost", Count, Served, "10", "Work of hashing a password, 4 to 31."),
    flag("version", Switch, Served, "false", "Print the version and exit."),
    flag("pre-vote", Switch, Accepted, "true", "pre-vote is always on"),
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
    later("wal-dir"),
    later("initial-election-tick-advance"),
    later("listen-client-http-urls"),
    later("max-snapshots"),
    later("max-wals"),
    later("backend-bbolt-freelist-type"),
    later("backend-batch-interval"),
    later("backend-batch-limit"),
    later("socket-reuse-port"),
    later("socket-reuse-address"),
    later("raft-read-timeout"),
    later("raft-write-timeout"),
    later("discovery-srv"),
    later("discovery-srv-name"),
    later("discovery-token"),
    later("discovery-endpoints"),
    later("discovery-dial-timeout"),
    later("discovery-request-timeout"),
    later("discovery-keepalive-time"),
    later("discovery-keepalive-timeout"),
    later("discovery-insecure-transport"),
    later("discovery-insecure-skip-tls-verify"),
    later("discovery-cert"),
    later("discovery-key"),
    later("discovery-cacert"),
    later("discovery-user"),
    later("discovery-password"),
    later("discovery-fallback"),
    later("cert-file"),
    later("key-file"),
    later("client-cert-file"),
    later("client-key-file"),
    later("client-cert-auth"),
    later("client-crl-file"),
    later("client-cert-allowed-hostname"),
    later("trusted-ca-file"),
    later("auto-tls"),
    later("peer-cert-file"),
    later("peer-key-file"),
    later("peer-client-cert-file"),
    later("peer-client-key-file"),
    later("peer-client-cert-auth"),
    later("peer-trusted-ca-file"),
    later("peer-auto-tls"),
    later("self-signed-cert-validity"),
    later("peer-crl-file"),
    later("peer-cert-allowed-cn"),
    later("peer-cert-allowed-hostname"),
    later("peer-skip-client-san-verification"),
    later("cipher-suites"),
    later("tls-min-version"),
    later("tls-max-version"),
    later("cors"),
    later("host-whitelist"),
    later("log-format"),
    later("enable-log-rotation"),
    later("log-rotation-config-json"),
    later("compaction-sleep-interval"),
    later("downgrade-check-time"),
    later("warning-apply-duration"),
    later("warning-unary-request-duration"),
    later("bootstrap-defrag-threshold-megabytes"),
    later("enable-pprof"),
    later("metrics"),
    later("enable-distributed-tracing"),
    later("distributed-tracing-address"),
    later("distributed-tracing-service-name"),
    later("distributed-tracing-instance-id"),
    later("distributed-tracing-sampling-rate"),
    later("enable-grpc-gateway"),
    later("memory-mlock"),
    later("config-file"),
    later("v2-deprecation"),
];

/// `experimental-` flags that lost the prefix.
const RENAMED: &[&str] = &[
    "bootstrap-defrag-threshold-megabytes",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "enable-distributed-tracing",
    "downgrade-check-time",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// `experimental-` flags that became feature gates.
const GATED: &[&str] = &[
    "enable-lease-checkpoint",
    "enable-lease-checkpoint-persist",
    "stop-grpc-service-on-defrag",
    "txn-mode-write-with-shared-buffer",
];

/// Flags without a successor, and the version that removed them.
const REMOVED: &[(&str, &str)] = &[
    ("discovery", "3.7"),
    ("discovery-proxy", "3.7"),
    ("enable-v2", "3.6"),
    ("experimental-enable-v2v3", "3.6"),
    ("proxy", "3.6"),
    ("proxy-dial-timeout", "3.6"),
    ("proxy-failure-wait", "3.6"),
    ("proxy-read-timeout", "3.6"),
    ("proxy-refresh-interval", "3.6"),
    ("proxy-write-timeout", "3.6"),
    ("debug", "3.5"),
    ("log-output", "3.5"),
    ("log-package-levels", "3.5"),
];
