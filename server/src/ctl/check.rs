//! check perf and check datascale: puts, so many and so fast, and whether the cluster keeps up.
//!
//! Leaves out the progress bar that etcdctl draws on the standard error. Laws: 1. the workloads, what is
//! passed and the lines that say so are etcdctl's; 2. a key prefix that is in use is left alone, and
//! what was written under it is deleted in the end; 3. a put that is due late because every connection
//! is busy is not made up for, one that is late because the clock is coarse is.
//!
//! Worked example: `check perf` puts 150 times a second for a minute over 50 connections, and prints `PASS`
//! if more than 135 a second were answered, none after more than half a second, and their times deviate
//! by at most 100 ms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_core::rng::Rng;
use holdfast_net::proto::etcdserverpb as pb;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use super::client::{Client, DEADLINE, Settings, error_text, failed};
use super::kv::prefix_end;
use super::{Exit, Session, go, say};

/// What `check perf` asks of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Puts a second.
    pub limit: u32,
    /// Connections.
    pub clients: usize,
    /// For how long.
    pub time: Duration,
}

/// What `check datascale` puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Pairs.
    pub limit: u64,
    /// Connections.
    pub clients: usize,
}

/// What came of the puts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Of each that was answered, in seconds.
    pub latencies: Vec<f64>,
    /// The texts of errors, and how often each came.
    pub errors: BTreeMap<String, u64>,
    /// From the first to the last.
    pub total: Duration,
}

/// The workload of a name.
///
/// # Errors
/// No workload has this name.
pub fn rate(name: &str) -> Result<Rate, Exit> {
    let (limit, clients) = of_size(name, [(150, 50), (1000, 200), (8000, 500), (15_000, 1000)])?;
    Ok(Rate { limit, clients, time: Duration::from_secs(60) })
}

/// The workload of a name.
///
/// # Errors
/// No workload has this name.
pub fn scale(name: &str) -> Result<Scale, Exit> {
    let sizes = [(10_000, 50), (100_000, 200), (1_000_000, 500), (3_000_000, 1000)];
    let (limit, clients) = of_size(name, sizes)?;
    Ok(Scale { limit, clients })
}

fn of_size<T: Copy>(name: &str, sizes: [T; 4]) -> Result<T, Exit> {
    match name {
        "s" | "small" => Ok(sizes[0]),
        "m" | "medium" => Ok(sizes[1]),
        "l" | "large" => Ok(sizes[2]),
        "xl" | "xLarge" => Ok(sizes[3]),
        _ => Err(Exit::new(Exit::BAD_FEATURE, format!("unknown load option {name}"))),
    }
}

/// Runs `check perf`.
pub async fn perf(mut session: Session) -> Result<(), Exit> {
    let rate = rate(session.invocation.flags.text("load"))?;
    let settings = Settings::of(&mut session)?;
    let prefix = session.invocation.flags.text("prefix").as_bytes().to_vec();
    let clients = connect(&settings, rate.clients).await?;
    let quoted = String::from_utf8_lossy(&prefix).into_owned();
    unused(&clients[0], &prefix, &format!("'etcdctl del --prefix {quoted}'")).await?;
    let stats = put_at(&clients, &prefix, rate).await;
    // As etcdctl, which has its verdict in spite of it.
    match remove(&clients[0], &prefix).await {
        Ok(revision) => tidy(&session, (&settings, &clients[0]), revision).await?,
        Err(why) => {
            say(format!("FAIL: Cleanup failed during key deletion: ERROR({why})\n").as_bytes())?;
            tidy(&session, (&settings, &clients[0]), None).await?;
        }
    }
    let (lines, passed) = verdict(&stats, rate.limit);
    say(lines.as_bytes())?;
    if passed { Ok(()) } else { Err(Exit::silent(Exit::ERROR)) }
}

/// Runs `check datascale`.
pub async fn datascale(mut session: Session) -> Result<(), Exit> {
    let Scale { limit, clients } = scale(session.invocation.flags.text("load"))?;
    let settings = Settings::of(&mut session)?;
    let prefix = session.invocation.flags.text("prefix").as_bytes().to_vec();
    let clients = connect(&settings, clients).await?;
    let quoted = String::from_utf8_lossy(&prefix).into_owned();
    unused(&clients[0], &prefix, &format!("etcdctl del --prefix {quoted}")).await?;
    let endpoint = settings.endpoints.first().cloned().unwrap_or_default();
    let before = resident(&endpoint, "before").await?;
    let told = format!(
        "Start data scale check for work load [{limit} key-value pairs, {PAIR_BYTES} bytes per \
         key-value, {} concurrent clients].\n",
        clients.len()
    );
    say(told.as_bytes())?;
    let stats = measure(&clients, &prefix, (Pace::all(limit), SCALE)).await;
    let after = resident(&endpoint, "after").await?;
    let revision = remove(&clients[0], &prefix).await.map_err(|why| Exit::new(Exit::ERROR, why))?;
    tidy(&session, (&settings, &clients[0]), revision).await?;
    if !stats.errors.is_empty() {
        say(failures(&stats).as_bytes())?;
        return Err(Exit::silent(Exit::ERROR));
    }
    let used = (after - before) / (1 << 20) as f64;
    say(format!("PASS: Approximate system memory used : {used:.2} MB.\n").as_bytes())
}

/// The lines that say what was passed, and whether all was.
pub fn verdict(stats: &Stats, limit: u32) -> (String, bool) {
    let count = stats.latencies.len() as f64;
    let per_second = count / stats.total.as_secs_f64();
    let mean = stats.latencies.iter().sum::<f64>() / count;
    let slowest = stats.latencies.iter().copied().fold(0.0, f64::max);
    let squares = stats.latencies.iter().map(|latency| (latency - mean) * (latency - mean));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let shown = per_second as u64 + 1;
    let (mut lines, mut passed) = (failures(stats), stats.errors.is_empty());
    let mut judge = |holds: bool, good: String, bad: String| {
        lines.push_str(if holds { &good } else { &bad });
        passed &= holds;
    };
    judge(
        per_second / f64::from(limit) > 0.9,
        format!("PASS: Throughput is {shown} writes/s\n"),
        format!("FAIL: Throughput too low: {shown} writes/s\n"),
    );
    judge(
        slowest <= 0.5,
        format!("PASS: Slowest request took {slowest:.6}s\n"),
        format!("Slowest request took too long: {slowest:.6}s\n"),
    );
    // Nothing deviates where nothing was answered: Go prints NaN, and passes it.
    judge(
        deviation.is_nan() || deviation <= 0.1,
        format!("PASS: Stddev is {deviation:.6}s\n"),
        format!("Stddev too high: {deviation:.6}s\n"),
    );
    lines.push_str(if passed { "PASS\n" } else { "FAIL\n" });
    (lines, passed)
}

fn failures(stats: &Stats) -> String {
    if stats.errors.is_empty() {
        return String::new();
    }
    let line = |(text, count): (&String, &u64)| format!("FAIL: ERROR({text}) -> {count}\n");
    let lines: String = stats.errors.iter().map(line).collect();
    format!("FAIL: too many errors\n{lines}")
}

async fn connect(settings: &Settings, count: usize) -> Result<Vec<Client>, Exit> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(settings.bounded(settings.connect()).await?);
    }
    Ok(clients)
}

/// Whether nothing is under the prefix.
async fn unused(client: &Client, prefix: &[u8], remedy: &str) -> Result<(), Exit> {
    let (key, range_end) = under(prefix);
    let request = pb::RangeRequest { key, range_end, limit: 1, ..Default::default() };
    let mut kv = client.kv();
    let call = async { kv.range(request).await.map_err(failed) };
    let found = client.settings.bounded(call).await?.into_inner();
    if found.kvs.is_empty() {
        return Ok(());
    }
    let prefix = go::quote_bytes(prefix);
    let text = format!("prefix {prefix} has keys. Delete with {remedy} first");
    Err(Exit::new(Exit::INVALID_INPUT, text))
}

fn under(prefix: &[u8]) -> (bytes::Bytes, bytes::Bytes) {
    match prefix {
        [] => (vec![0].into(), vec![0].into()),
        _ => (prefix.to_vec().into(), prefix_end(prefix).into()),
    }
}

/// Puts at a rate until the time is up or the user has enough.
pub async fn put_at(clients: &[Client], prefix: &[u8], rate: Rate) -> Stats {
    measure(clients, prefix, (Pace::paced(rate.limit, rate.time), RATE)).await
}

/// Lengths of keys behind the prefix, and of values.
type Sizes = (usize, usize);

const RATE: Sizes = (256, 1024);
const SCALE: Sizes = (512, 512);

/// What is said of a pair.
const PAIR_BYTES: usize = SCALE.0 + SCALE.1;

/// When the next put is due.
#[derive(Debug)]
struct Pace {
    next: Instant,
    interval: Duration,
    end: Option<Instant>,
    left: u64,
    rng: Rng,
}

impl Pace {
    fn paced(limit: u32, time: Duration) -> Pace {
        let interval = Duration::from_secs(1) / limit;
        let pace = Pace::all(u64::MAX);
        Pace { interval, end: Some(pace.next + time), ..pace }
    }

    fn all(count: u64) -> Pace {
        let mut seed = [0; 8];
        // Keys of two runs may be the same: nothing is there that they could meet.
        let _ = SystemRandom::new().fill(&mut seed);
        let (next, interval) = (Instant::now(), Duration::ZERO);
        Pace { next, interval, end: None, left: count, rng: Rng::new(u64::from_be_bytes(seed)) }
    }

    /// When the next is due, and a number for its key; `None` when there is none.
    fn take(&mut self) -> Option<(Instant, u64)> {
        let due = self.next.max(Instant::now() - COARSE);
        let over = self.end.is_some_and(|end| due >= end);
        if over || self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.next = due + self.interval;
        Some((due, self.rng.next() >> 1))
    }
}

/// How late a timer may be.
const COARSE: Duration = Duration::from_millis(10);

async fn measure(clients: &[Client], prefix: &[u8], (pace, sizes): (Pace, Sizes)) -> Stats {
    let (start, paced) = (Instant::now(), pace.end.is_some());
    let pace = Arc::new(Mutex::new(pace));
    let mut workers = JoinSet::new();
    for client in clients {
        workers.spawn(work(client.clone(), prefix.to_vec(), (pace.clone(), sizes)));
    }
    let mut stats = Stats::default();
    loop {
        tokio::select! {
            biased;
            // Ends the puts; what is there is judged and removed.
            Ok(()) = tokio::signal::ctrl_c(), if paced => lock(&pace).left = 0,
            ended = workers.join_next() => match ended {
                Some(Ok(one)) => {
                    stats.latencies.extend(one.latencies);
                    for (text, count) in one.errors {
                        *stats.errors.entry(text).or_default() += count;
                    }
                }
                Some(Err(cause)) => *stats.errors.entry(cause.to_string()).or_default() += 1,
                None => break,
            },
        }
    }
    stats.total = start.elapsed();
    stats
}

/// A number is taken out of it or changed: a panic elsewhere leaves it right.
fn lock(pace: &Mutex<Pace>) -> std::sync::MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(client: Client, prefix: Vec<u8>, (pace, sizes): (Arc<Mutex<Pace>>, Sizes)) -> Stats {
    let (mut kv, mut stats) = (client.kv(), Stats::default());
    let value = bytes::Bytes::from(vec![0; sizes.1]);
    loop {
        let taken = lock(&pace).take();
        let Some((due, number)) = taken else { return stats };
        sleep_until(due).await;
        let (key, value) = (key(&prefix, number, sizes.0).into(), value.clone());
        let start = Instant::now();
        match kv.put(pb::PutRequest { key, value, ..Default::default() }).await {
            Ok(_) => stats.latencies.push(start.elapsed().as_secs_f64()),
            Err(status) => *stats.errors.entry(error_text(&status)).or_default() += 1,
        }
    }
}

/// Zeros behind the prefix, with the number at their front.
fn key(prefix: &[u8], number: u64, len: usize) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key.resize(prefix.len() + len, 0);
    key
}

/// Removes what is under the prefix; gives the revision.
async fn remove(client: &Client, prefix: &[u8]) -> Result<Option<i64>, String> {
    let (key, range_end) = under(prefix);
    let request = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
    let mut kv = client.kv();
    let answer = within(kv.delete_range(request)).await?.into_inner();
    Ok(answer.header.map(|header| header.revision))
}

/// How long each step after the puts may take.
const TIDY_MAX: Duration = Duration::from_secs(30);

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
    match timeout(TIDY_MAX, call).await {
        Ok(result) => result.map_err(|status| error_text(&status)),
        Err(_) => Err(DEADLINE.to_owned()),
    }
}

/// Compacts and defragments, where the flags say so.
async fn tidy(
    session: &Session,
    (settings, client): (&Settings, &Client),
    revision: Option<i64>,
) -> Result<(), Exit> {
    let failed = |why: String| Exit::new(Exit::ERROR, why);
    if let Some(revision) = revision.filter(|_| session.invocation.flags.switch("auto-compact")) {
        say(format!("Compacting with revision {revision}\n").as_bytes())?;
        let request = pb::CompactionRequest { revision, physical: true };
        within(client.kv().compact(request)).await.map_err(failed)?;
        say(format!("Compacted with revision {revision}\n").as_bytes())?;
    }
    if session.invocation.flags.switch("auto-defrag") {
        for endpoint in &settings.endpoints {
            let name = go::quote(endpoint);
            say(format!("Defragmenting {name}\n").as_bytes())?;
            let one = settings.with_endpoint(endpoint).from_now(session);
            let mut maintenance = one.bounded(one.connect()).await?.maintenance();
            let call = maintenance.defragment(pb::DefragmentRequest {});
            within(call).await.map_err(failed)?;
            say(format!("Defragmented {name}\n").as_bytes())?;
        }
    }
    Ok(())
}

/// The resident memory of an endpoint's process in bytes, which its metrics tell.
async fn resident(endpoint: &str, when: &str) -> Result<f64, Exit> {
    match timeout(TIDY_MAX, metrics(endpoint)).await.unwrap_or(Err(DEADLINE.to_owned())) {
        Ok(metrics) => match resident_of(&metrics) {
            Some(bytes) => return Ok(bytes),
            None => say(format!("could not find: {RESIDENT}\n").as_bytes())?,
        },
        Err(why) => say(format!("fetch error: {why}\n").as_bytes())?,
    }
    let text = format!("FAIL: Could not read {RESIDENT} {when} the put operations.\n");
    say(text.as_bytes())?;
    Err(Exit::silent(Exit::ERROR))
}

const RESIDENT: &str = "process_resident_memory_bytes";

/// What the metrics say of the resident memory, if that is more than nothing.
pub fn resident_of(metrics: &str) -> Option<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(RESIDENT))?;
    value.trim().parse().ok().filter(|bytes| *bytes > 0.0)
}

/// The page of metrics. In HTTP/1.0, in which it comes in one piece.
async fn metrics(endpoint: &str) -> Result<String, String> {
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(METRICS_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    work.await.map_err(|cause| cause.to_string())
}

/// Longer than any page of metrics.
const METRICS_BYTES_MAX: u64 = 16 << 20;
