//! The clients: writers, a reader, one watch over everything, one lease that is kept alive.
//!
//! Each is a node of its own with one connection, which it replaces when a call on it fails. While
//! the world gathers them somewhere, they connect there; else a failure takes them to the next
//! member.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::rng::Rng;
use holdfast_core::time::Instant;
use holdfast_net::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, TxnRequest, TxnResponse, request_op,
};
use holdfast_sim::clock::{Clock, RATE_TRUE};
use madsim::runtime::Handle;

use crate::client::{Channel, Status};
use crate::runtime::{MadsimRuntime, truth};
use crate::shared::{MEMBERS, Phase, Shared, client_address};

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after something failed.
const PAUSE: Duration = Duration::from_millis(50);

/// All keys are in `PREFIX..PREFIX_END`.
pub const PREFIX: &[u8] = b"k/";

/// The end of the prefix.
pub const PREFIX_END: &[u8] = b"k0";

/// Keys of one writer.
const KEYS: u64 = 6;

/// A client and where it is.
pub struct Client {
    /// What it shares with the world.
    pub shared: Arc<Shared>,
    /// Its choices.
    pub rng: Rng,
    name: String,
    runtime: MadsimRuntime,
    channel: Option<(usize, Channel)>,
    next: usize,
}

impl Client {
    /// Starts a client on a node of its own; `run` is what it does.
    pub fn start<F: Future<Output = ()> + 'static>(
        shared: &Arc<Shared>,
        (number, name): (u8, &str),
        rng: &Rng,
        run: impl Fn(Client) -> F + Send + Sync + 'static,
    ) {
        let (shared, rng, name) = (shared.clone(), rng.fork(u64::from(number)), name.to_string());
        shared.board().clients += 1;
        let handle = Handle::current();
        let node = handle.create_node().name(name.clone());
        let client = move || {
            let (mut rng, shared) = (rng.clone(), shared.clone());
            let next = rng.below(MEMBERS as u64) as usize;
            let runtime = MadsimRuntime::new(Clock::new(truth(), Instant(1), RATE_TRUE));
            let client = Client {
                shared: shared.clone(),
                rng,
                name: name.clone(),
                runtime,
                channel: None,
                next,
            };
            let life = run(client);
            async move {
                life.await;
                shared.board().clients -= 1;
            }
        };
        node.ip(IpAddr::from([10, 0, 1, number])).init(client).build();
    }

    /// Whether it is still time for this.
    pub fn is(&self, phase: Phase) -> bool {
        self.shared.board().phase <= phase
    }

    /// Writes down what happened.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.shared.note(&self.name, what);
    }

    /// A connection, and to which member.
    pub async fn channel(&mut self) -> Result<(usize, Channel), Status> {
        let wanted = self.shared.board().gather_at;
        if let Some((at, channel)) = &self.channel
            && wanted.is_none_or(|wanted| wanted == *at)
        {
            return Ok((*at, channel.clone()));
        }
        let at = wanted.unwrap_or(self.next % MEMBERS);
        self.channel = None;
        let channel = Channel::open(&self.runtime, &client_address(at)).await;
        let channel = channel.inspect_err(|_| self.next = at + 1)?;
        self.channel = Some((at, channel.clone()));
        Ok((at, channel))
    }

    /// Whether the world wants this client elsewhere.
    pub fn is_misplaced(&self) -> bool {
        let wanted = self.shared.board().gather_at;
        let at = self.channel.as_ref().map(|(at, _)| *at);
        wanted.is_some() && at.is_some() && wanted != at
    }

    /// The next call is to this member, unless the world gathers its clients.
    pub fn move_to(&mut self, n: usize) {
        if self.channel.as_ref().is_some_and(|(at, _)| *at != n) {
            self.channel = None;
        }
        self.next = n;
    }

    /// The connection is of no use; the next is to another member.
    pub async fn give_up(&mut self, why: &Status) {
        self.note(why);
        if let Some((at, _)) = self.channel.take() {
            self.next = at + 1;
        }
        madsim::time::sleep(PAUSE).await;
    }

    /// The same, if the call failed.
    pub async fn done<T>(&mut self, result: Result<T, Status>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(status) => {
                self.give_up(&status).await;
                None
            }
        }
    }

    async fn think(&mut self) {
        let pause = Duration::from_millis(self.rng.below(60));
        madsim::time::sleep(pause).await;
    }
}

/// Writes unique values under a few keys of its own, alone or two in a transaction.
pub async fn write(mut client: Client, writer: u64) {
    let mut number = 0;
    while client.is(Phase::Work) {
        number += 1;
        let result = write_once(&mut client, writer, number).await;
        client.done(result).await;
        client.think().await;
    }
}

async fn write_once(client: &mut Client, writer: u64, number: u64) -> Result<(), Status> {
    let (at, channel) = client.channel().await?;
    let first = client.rng.below(KEYS);
    let count = if client.rng.chance(20) { 2 } else { 1 };
    let filler = ".".repeat(client.rng.below(300) as usize);
    let pair = |i: u64| {
        let key = format!("k/w{writer}/{}", (first + i) % KEYS);
        (Bytes::from(key), Bytes::from(format!("w{writer}-{number}.{i}{filler}")))
    };
    let pairs: Vec<(Bytes, Bytes)> = (0..count).map(pair).collect();
    let attempt = client.shared.history().begin(pairs.clone(), truth());
    client.shared.board().puts_at[at] += 1;
    let told = put(&channel, &pairs, 0).await;
    client.shared.board().puts_at[at] -= 1;
    let revision = told?;
    client.note(format!("wrote {number} at r{revision}"));
    client.shared.history().acknowledge(attempt, revision);
    Ok(())
}

/// Puts one pair, or several in a transaction; says at which revision.
async fn put(channel: &Channel, pairs: &[(Bytes, Bytes)], lease: i64) -> Result<i64, Status> {
    let request = |(key, value): &(Bytes, Bytes)| PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..PutRequest::default()
    };
    let header = if let [pair] = pairs {
        let path = "/etcdserverpb.KV/Put";
        let response: PutResponse = channel.unary(path, &request(pair), PATIENCE).await?;
        response.header
    } else {
        let op = |pair| RequestOp { request: Some(request_op::Request::RequestPut(request(pair))) };
        let txn = TxnRequest { success: pairs.iter().map(op).collect(), ..TxnRequest::default() };
        let path = "/etcdserverpb.KV/Txn";
        let response: TxnResponse = channel.unary(path, &txn, PATIENCE).await?;
        assert!(response.succeeded, "a transaction without conditions succeeds");
        response.header
    };
    Ok(header.expect("every answer has a header").revision)
}

/// Reads everything, linearizably.
pub async fn read(mut client: Client) {
    while client.is(Phase::Work) {
        let result = read_once(&mut client).await;
        client.done(result).await;
        client.think().await;
    }
}

/// One linearizable read of everything.
pub async fn read_once(client: &mut Client) -> Result<(), Status> {
    let (_, channel) = client.channel().await?;
    let floor = client.shared.history().floor();
    let response = range(&channel, everything()).await?;
    client.note(format!("read at r{}", revision(&response)));
    client.shared.history().read(floor, response);
    Ok(())
}

/// The request for all keys.
pub fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(PREFIX),
        range_end: Bytes::from_static(PREFIX_END),
        ..RangeRequest::default()
    }
}

/// A range.
pub async fn range(channel: &Channel, request: RangeRequest) -> Result<RangeResponse, Status> {
    channel.unary("/etcdserverpb.KV/Range", &request, PATIENCE).await
}

/// The revision in a range's header.
pub fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Grants a lease with one key; `None` when that failed.
pub async fn grant(client: &mut Client, number: u64, ttl: i64) -> Result<i64, Status> {
    let (_, channel) = client.channel().await?;
    let sent = truth();
    let request = LeaseGrantRequest { ttl, id: 0 };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let granted: LeaseGrantResponse = channel.unary(path, &request, PATIENCE).await?;
    let key = Bytes::from(format!("k/lease/{number}"));
    let ttl = Duration::from_secs(granted.ttl.unsigned_abs());
    client.shared.history().granted(granted.id, ttl, key.clone(), sent);
    client.note(format!("granted lease {number} for {}s", granted.ttl));
    let pairs = vec![(key, Bytes::from(format!("lease-{number}")))];
    let attempt = client.shared.history().begin(pairs.clone(), truth());
    let revision = put(&channel, &pairs, granted.id).await?;
    client.shared.history().acknowledge(attempt, revision);
    Ok(granted.id)
}
