//! etcd's command line and environment, turned into one checked [`Config`].
//!
//! Pure: arguments and variables come in, a [`Command`] or a [`ConfigError`] comes out. Nothing is
//! printed, opened or resolved here.
//!
//! Leaves out: configuration files, TLS, discovery, and etcd's detection of the machine's own address
//! for `0.0.0.0`: advertise URLs are taken as they are given. Host names are compared as text;
//! `localhost` and `127.0.0.1` are the same.
//!
//! Laws:
//!  1. Syntax is Go's: one dash or two, `=` or a space, the last of a repeated flag wins.
//!  2. A flag and its `ETCD_*` variable exclude each other; an empty variable is not set.
//!  3. No flag is silently without effect: it is served, or named in a warning, or refused.
//!  4. Exit code 2 is for a flag that cannot be understood, 1 for values that do not fit together.
//!
//! Worked example: `-name m1 --heartbeat-interval=50 --pre-vote=false` gives a member `m1` with data
//! in `m1.etcd`, the initial cluster `m1=http://localhost:2380`, a heartbeat of 50 ms and one warning,
//! since pre-vote cannot be switched off yet.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_core::compactor::AutoCompaction;
use holdfast_core::limits::Limits;
use holdfast_net::grpc::{Http2Options, KeepaliveOptions};

use crate::disk_driver::DiskDriver;
use crate::edge::HashChecks;
use crate::edge_threads::EDGE_THREADS_MAX;
use crate::logging::{Level, Output};

mod auth;
mod checks;
mod cluster;
mod flags;
mod gates;
mod scan;
#[cfg(test)]
mod tests;
mod text;
mod url;
mod value;

pub use auth::{AuthFlags, TokenFlag};
pub use cluster::{ClusterState, InitialMember};
pub use gates::{FeatureGates, GATES};
pub use text::{ETCD_VERSION, GIT_SHA, version};
pub use url::HttpUrl;

use scan::{Scanned, Values};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a member.
    Run(Box<Config>),
    /// Print this and leave with exit code 0.
    Help(String),
    /// Print this and leave with exit code 0.
    Version(String),
}

/// Why there is nothing to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, where, and what to do.
    pub message: String,
    /// The process's exit code: 2 for a flag that cannot be understood, 1 for values that do not fit.
    pub exit_code: u8,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// A flag that cannot be understood.
    fn usage(message: impl Into<String>) -> ConfigError {
        ConfigError { message: message.into(), exit_code: 2 }
    }

    /// Values that do not fit; etcd logs these under the same words.
    fn unfit(message: impl std::fmt::Display) -> ConfigError {
        ConfigError { message: format!("failed to verify flags: {message}"), exit_code: 1 }
    }
}

/// A member's configuration, checked.
///
/// Laws:
///  1. Every list of URLs but `listen_metrics` has at least one.
///  2. `initial_cluster` contains `name`, with the URLs of `initial_advertise_peer`, and no URL twice.
///  3. `limits` is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `--name`: the member's human name.
    pub name: String,
    /// `--data-dir`; `${name}.etcd` unless given.
    pub data_dir: PathBuf,
    /// `--listen-client-urls`, without duplicates, sorted.
    pub listen_client: Vec<HttpUrl>,
    /// `--advertise-client-urls`, without duplicates, sorted.
    pub advertise_client: Vec<HttpUrl>,
    /// `--listen-peer-urls`, without duplicates, sorted.
    pub listen_peer: Vec<HttpUrl>,
    /// `--initial-advertise-peer-urls`, without duplicates, sorted.
    pub initial_advertise_peer: Vec<HttpUrl>,
    /// `--listen-metrics-urls`; may be empty.
    pub listen_metrics: Vec<HttpUrl>,
    /// `--initial-cluster`, in name order.
    pub initial_cluster: Vec<InitialMember>,
    /// `--force-new-cluster`
    pub force_new_cluster: bool,
    /// `--initial-cluster-state`: meaningful only while there is no data.
    pub initial_cluster_state: ClusterState,
    /// `--initial-cluster-token`: part of what member ids are derived from.
    pub initial_cluster_token: String,
    /// The core's bounds and periods, from their flags.
    pub limits: Limits,
    /// Bounds and periods of clients' connections; from flags are the most streams and the keepalives.
    pub connections: Http2Options,
    /// `--watch-progress-notify-interval`, 0 replaced and short ones raised as etcd does.
    pub watch_progress_interval: Duration,
    /// `--unsafe-no-fsync`: an acknowledged write may be lost with the machine's power.
    pub unsafe_no_fsync: bool,
    /// `--quota-backend-bytes`: 0 means a share of the file system, a negative number no limit.
    pub quota_backend_bytes: i64,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`; `None` keeps all history.
    pub auto_compaction: Option<AutoCompaction>,
    /// `--corrupt-check-time`, `--compact-hash-check-time`: what the leader compares, and how often.
    pub hash_checks: HashChecks,
    /// `--feature-gates`, and the flags that some of them have replaced.
    pub feature_gates: FeatureGates,
    /// `--experimental-disk-driver`.
    pub disk_driver: DiskDriver,
    /// `--experimental-edge-threads`; `None` lets the machine's cores decide.
    pub edge_threads: Option<usize>,
    /// `--experimental-answer-memory-bytes`; `None` lets the machine's memory decide.
    pub answer_memory_bytes: Option<usize>,
    /// `--auth-token`, `--auth-token-ttl`, `--bcrypt-cost`.
    pub auth: AuthFlags,
    /// `--log-level`.
    pub log_level: Level,
    /// `--log-outputs`; at least one.
    pub log_outputs: Vec<Output>,
    /// What the operator should know: one line each, for the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the arguments (without the program's name) and the environment.
    ///
    /// # Errors
    /// A flag that is unknown, removed, not served yet or malformed; a variable that contradicts a flag;
    /// values that do not fit together.
    pub fn parse(args: &[String], env: &[(String, String)]) -> Result<Command, ConfigError> {
        match scan::scan(args, env)? {
            Scanned::Help => Ok(Command::Help(text::help())),
            Scanned::Version => Ok(Command::Version(text::version())),
            Scanned::Values(values) => Ok(Command::Run(Box::new(build(values)?))),
        }
    }
}

/// The process's own arguments and environment.
///
/// # Errors
/// See [`Config::parse`]; also text that is not UTF-8, in an argument or an `ETCD_*` variable.
pub fn from_process() -> Result<Command, ConfigError> {
    let args = std::env::args_os().skip(1).map(|arg| utf8(arg, "an argument"));
    let args = args.collect::<Result<Vec<_>, _>>()?;
    let ours = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("ETCD_"));
    let env = ours.map(|(name, value)| utf8(value, &name).map(|value| (name, value)));
    Config::parse(&args, &env.collect::<Result<Vec<_>, _>>()?)
}

fn utf8(text: std::ffi::OsString, what: &str) -> Result<String, ConfigError> {
    text.into_string().map_err(|text| {
        ConfigError::usage(format!("{what} is not UTF-8: {}", text.to_string_lossy()))
    })
}

fn build(values: Values) -> Result<Config, ConfigError> {
    let name = values.text("name").to_owned();
    if name.is_empty() {
        return Err(ConfigError::unfit("--name must not be empty"));
    }
    let listen_peer = bindable(values.urls("listen-peer-urls"))?;
    let listen_client = bindable(values.urls("listen-client-urls"))?;
    let listen_metrics = bindable(values.urls("listen-metrics-urls"))?;
    let initial_advertise_peer = advertised(&values, "initial-advertise-peer-urls")?;
    let advertise_client = advertised(&values, "advertise-client-urls")?;
    let limits = limits(&values)?;
    if values.is_given("listen-client-urls") && !values.is_given("advertise-client-urls") {
        return Err(ConfigError::unfit(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    let initial_cluster = if values.is_given("initial-cluster") || name == "default" {
        cluster::parse(values.text("initial-cluster"))
    } else {
        Ok(vec![InitialMember { name: name.clone(), peer_urls: initial_advertise_peer.clone() }])
    };
    let initial_cluster = initial_cluster
        .and_then(|members| cluster::check(members, &name, &initial_advertise_peer))
        .map_err(ConfigError::unfit)?;
    let mut feature_gates = FeatureGates::parse(values.text("feature-gates"))
        .map_err(|error| ConfigError::usage(format!("--feature-gates: {error}")))?;
    let mut warnings = values.warnings.clone();
    checks::replaced_gates(&values, &mut feature_gates)?;
    let hash_checks = checks::read(&values, &feature_gates)?;
    warnings.extend(feature_gates.warnings());
    warn_of_values(&values, &limits, &mut warnings);
    let auth = auth::read(&values, &mut warnings)?;
    Ok(Config {
        data_dir: data_dir(&values, &name),
        name,
        listen_client,
        advertise_client,
        listen_peer,
        initial_advertise_peer,
        listen_metrics,
        initial_cluster,
        initial_cluster_state: cluster::state(values.text("initial-cluster-state")),
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        connections: connections(&values, &limits)?,
        limits,
        force_new_cluster: values.switch("force-new-cluster"),
        watch_progress_interval: progress_interval(&values),
        quota_backend_bytes: values.signed("quota-backend-bytes"),
        auto_compaction: auto_compaction(&values)?,
        hash_checks,
        feature_gates,
        unsafe_no_fsync: values.switch("unsafe-no-fsync"),
        disk_driver: disk_driver(&values)?,
        edge_threads: edge_threads(&values)?,
        answer_memory_bytes: answer_memory_bytes(&values)?,
        auth,
        log_level: log_level(&values)?,
        log_outputs: log_outputs(&values)?,
        warnings,
    })
}

/// A whole number counts hours or revisions, anything else is a duration, whose nanoseconds etcd takes
/// for revisions when the mode says so.
fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, ConfigError> {
    let (mode, text) =
        (values.text("auto-compaction-mode"), values.text("auto-compaction-retention"));
    if !["", "periodic", "revision"].contains(&mode) {
        return Err(ConfigError::unfit(format!("unknown auto-compaction-mode {mode:?}")));
    }
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
    let kept = match (number, mode) {
        (Some(_), "") => return Err(ConfigError::unfit("--auto-compaction-mode is undefined")),
        (Some(number), "periodic") => number.saturating_mul(3_600_000_000_000),
        (Some(number), _) => number,
        (None, _) => value::duration_ns(text).map_err(|error| {
            ConfigError::unfit(format!("error parsing CompactionRetention: {error}"))
        })?,
    };
    let kept = u64::try_from(kept).map_err(|_| {
        ConfigError::unfit(format!("--auto-compaction-retention must not be negative: {text:?}"))
    })?;
    Ok(match (kept, mode) {
        (0, _) => None,
        (kept, "revision") => Some(AutoCompaction::Revisions(kept as i64)),
        (kept, _) => Some(AutoCompaction::Periodic(Duration::from_nanos(kept))),
    })
}

fn disk_driver(values: &Values) -> Result<DiskDriver, ConfigError> {
    let name = values.text("experimental-disk-driver");
    DiskDriver::parse(name).ok_or_else(|| {
        ConfigError::unfit(format!(
            "--experimental-disk-driver {name:?} is none of auto, io_uring, pool"
        ))
    })
}

fn edge_threads(values: &Values) -> Result<Option<usize>, ConfigError> {
    match values.text("experimental-edge-threads") {
        "auto" => Ok(None),
        given => match given.parse() {
            Ok(threads) if threads <= EDGE_THREADS_MAX => Ok(Some(threads)),
            _ => Err(ConfigError::unfit(format!(
                "--experimental-edge-threads {given:?} is neither auto nor a number up to \
                 {EDGE_THREADS_MAX}"
            ))),
        },
    }
}

fn answer_memory_bytes(values: &Values) -> Result<Option<usize>, ConfigError> {
    match values.text("experimental-answer-memory-bytes") {
        "auto" => Ok(None),
        given => match given.parse() {
            Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
            _ => Err(ConfigError::unfit(format!(
                "--experimental-answer-memory-bytes {given:?} is neither auto nor a number of at least 1"
            ))),
        },
    }
}

fn data_dir(values: &Values, name: &str) -> PathBuf {
    match values.text("data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        given => PathBuf::from(given),
    }
}

fn bindable(urls: Vec<HttpUrl>) -> Result<Vec<HttpUrl>, ConfigError> {
    match urls.iter().find(|url| !url.is_bindable()) {
        None => Ok(urls),
        Some(url) => Err(ConfigError::unfit(format!("expected IP in URL for binding ({url})"))),
    }
}

fn advertised(values: &Values, flag: &str) -> Result<Vec<HttpUrl>, ConfigError> {
    let urls = values.urls(flag);
    match urls.iter().find(|url| url.host().is_empty()) {
        None => Ok(urls),
        Some(url) => Err(ConfigError::unfit(format!(
            "--{flag} {:?} must be \"host:port\" (unexpected empty host ({url}))",
            values.text(flag)
        ))),
    }
}

fn limits(values: &Values) -> Result<Limits, ConfigError> {
    let election_timeout = Duration::from_millis(values.count("election-timeout"));
    let compaction_batch = match values.signed("compaction-batch-limit") {
        0 => Limits::default().compaction_batch,
        given => usize::try_from(given).map_err(|_| {
            ConfigError::unfit(format!(
                "--compaction-batch-limit must not be negative (set to {given}); 0 means {}",
                Limits::default().compaction_batch
            ))
        })?,
    };
    let limits = Limits {
        heartbeat: Duration::from_millis(values.count("heartbeat-interval")),
        election_timeout,
        request_timeout: Duration::from_secs(5) + election_timeout * 2,
        request_bytes_max: values.size("max-request-bytes"),
        txn_ops_max: values.size("max-txn-ops"),
        checkpoint_entries: values.count("snapshot-count"),
        catchup_entries: values.count("snapshot-catchup-entries"),
        compaction_batch,
        sticky_no_space: values.switch("experimental-sticky-nospace-alarm"),
        strict_reconfig_check: values.switch("strict-reconfig-check"),
        learners_max: values.count("max-learners"),
        ..Limits::default()
    };
    limits.validate().map_err(ConfigError::unfit)?;
    if limits.request_bytes_max > REQUEST_BYTES_CEILING {
        return Err(ConfigError::unfit(format!(
            "--max-request-bytes must be at most {REQUEST_BYTES_CEILING} (set to {}): \
             a batch of the log and a message between members must hold a request",
            limits.request_bytes_max
        )));
    }
    Ok(limits)
}

fn connections(values: &Values, limits: &Limits) -> Result<Http2Options, ConfigError> {
    let streams = values.count("max-concurrent-streams");
    let streams = u32::try_from(streams).map_err(|_| {
        ConfigError::unfit(format!(
            "--max-concurrent-streams must be at most {} (set to {streams})",
            u32::MAX
        ))
    })?;
    let interval = period(values, "grpc-keepalive-interval")?;
    let timeout = period(values, "grpc-keepalive-timeout")?;
    let pings = !interval.is_zero() && !timeout.is_zero();
    let interval = interval.max(PING_INTERVAL_MIN);
    Ok(Http2Options {
        recv_bytes_max: limits.request_bytes_max + GRPC_OVERHEAD_BYTES,
        // As in gRPC for Go, none at all means no limit.
        concurrent_streams_max: if streams == 0 { u32::MAX } else { streams },
        keepalive: pings.then_some(KeepaliveOptions { interval, timeout }),
        keepalive_min: match period(values, "grpc-keepalive-min-time")? {
            Duration::ZERO => PING_POLICY,
            given => given,
        },
        ..Http2Options::default()
    })
}

fn period(values: &Values, flag: &str) -> Result<Duration, ConfigError> {
    let given = values.duration_ns(flag);
    let period = u64::try_from(given).map(Duration::from_nanos);
    period.map_err(|_| {
        ConfigError::unfit(format!("--{flag} must not be negative (set to {})", values.text(flag)))
    })
}

fn progress_interval(values: &Values) -> Duration {
    match values.duration_ns("watch-progress-notify-interval") {
        0 => Duration::from_secs(600),
        given => Duration::from_nanos(u64::try_from(given).unwrap_or(0)).max(PROGRESS_MIN),
    }
}

fn log_level(values: &Values) -> Result<Level, ConfigError> {
    let given = values.text("log-level");
    given.parse().map_err(|()| {
        ConfigError::unfit(format!(
            "unknown --log-level {given:?}: use debug, info, warn, error, panic or fatal"
        ))
    })
}

fn log_outputs(values: &Values) -> Result<Vec<Output>, ConfigError> {
    if values.text("logger") != "zap" {
        let given = values.text("logger");
        return Err(ConfigError::unfit(format!("unknown logger option {given:?}: use zap")));
    }
    let mut names: Vec<&str> = values.text("log-outputs").split(',').map(str::trim).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(vec![Output::Stderr]);
    }
    if names.len() > 1 && names.contains(&"default") {
        return Err(ConfigError::unfit("multi logoutput for \"default\" is not supported yet"));
    }
    names.into_iter().map(log_output).collect()
}

fn log_output(name: &str) -> Result<Output, ConfigError> {
    match name {
        "default" | "stderr" => Ok(Output::Stderr),
        "stdout" => Ok(Output::Stdout),
        "systemd/journal" => Err(ConfigError::unfit(
            "--log-outputs systemd/journal is not served yet: \
             use stderr, which systemd takes into the journal by itself",
        )),
        path => Ok(Output::File(PathBuf::from(path))),
    }
}

/// Values that work, and that an operator may not have meant.
fn warn_of_values(values: &Values, limits: &Limits, warnings: &mut Vec<String>) {
    if limits.request_bytes_max > REQUEST_BYTES_ADVISED {
        warnings.push(format!(
            "--max-request-bytes {} exceeds the recommended limit of {REQUEST_BYTES_ADVISED}",
            limits.request_bytes_max
        ));
    }
    let interval = values.duration_ns("watch-progress-notify-interval");
    if interval != 0 && interval < PROGRESS_MIN.as_nanos() as i64 {
        warnings.push("--watch-progress-notify-interval is raised to 100ms".to_owned());
    }
    if values.signed("quota-backend-bytes") < 0 {
        warnings
            .push("--quota-backend-bytes is negative: the data may grow without a limit".into());
    }
    if values.switch("unsafe-no-fsync") {
        warnings.push(
            "--unsafe-no-fsync: acknowledged writes are lost when the machine loses power".into(),
        );
    }
    if values.text("listen-peer-urls").contains("//0.0.0.0:")
        && !values.is_given("initial-advertise-peer-urls")
    {
        warnings.push(
            "peers are told to use http://localhost:2380: \
             set --initial-advertise-peer-urls to an address that they can reach"
                .into(),
        );
    }
}

/// Above this etcd warns.
const REQUEST_BYTES_ADVISED: usize = 10 << 20;

/// Half a segment of the log and half a peer frame, both 64 MiB, so that an entry fits with what is
/// around it.
const REQUEST_BYTES_CEILING: usize = 32 << 20;

/// What etcd lets a message have beyond the largest request.
const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// gRPC for Go raises shorter intervals to this.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// What gRPC for Go lets clients do when no policy is given.
const PING_POLICY: Duration = Duration::from_secs(5 * 60);

/// etcd raises shorter periods to this.
const PROGRESS_MIN: Duration = Duration::from_millis(100);
