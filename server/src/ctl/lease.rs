//! lease grant, revoke, timetolive, list and keep-alive.
//!
//! Ids are hexadecimal. Leaves out how answers look (print.rs, print_json.rs). Laws: 1. keep-alive
//! renews at a third of the time that the server granted, and tells each renewal; 2. it opens a broken
//! stream again for as long as the lease can still be alive, and ends when it cannot.
//!
//! Worked example: `lease keep-alive 70f3` prints a line every third of the lease's TTL, and after
//! somebody revoked it `lease 00000000000070f3 expired or revoked.`

use std::time::Duration;

use holdfast_net::proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use super::client::{Client, Format, Settings, error_text, failed};
use super::json::Json;
use super::{Exit, Session, go, print, print_json};

/// Runs `lease grant`.
pub async fn grant(mut session: Session) -> Result<(), Exit> {
    let ttl = grant_ttl(session.operands())?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut lease = client.lease();
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let call =
        async { lease.lease_grant(request).await.map_err(|status| refused("grant", &status)) };
    let answer = settings.bounded(call).await?.into_inner();
    client.show(|| print::grant(&answer).into_bytes(), print_json::grant(&answer).into())
}

/// The TTL among the operands of a grant.
pub fn grant_ttl(operands: &[Vec<u8>]) -> Result<i64, Exit> {
    let [ttl] = operands else {
        return Err(Exit::new(Exit::BAD_ARGS, "lease grant command needs TTL argument"));
    };
    go::parse_int(&String::from_utf8_lossy(ttl), 10)
        .map_err(|reason| Exit::new(Exit::BAD_ARGS, format!("bad TTL ({reason})")))
}

fn refused(what: &str, status: &Status) -> Exit {
    Exit::new(Exit::ERROR, format!("failed to {what} lease ({})", error_text(status)))
}

/// Runs `lease revoke`.
pub async fn revoke(mut session: Session) -> Result<(), Exit> {
    let id = lease_id(session.operands(), "lease revoke command needs 1 argument")?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut lease = client.lease();
    let request = pb::LeaseRevokeRequest { id };
    let call =
        async { lease.lease_revoke(request).await.map_err(|status| refused("revoke", &status)) };
    let answer = settings.bounded(call).await?.into_inner();
    client.show(|| print::revoke(id).into_bytes(), print_json::revoke(&answer).into())
}

/// Runs `lease timetolive`.
pub async fn time_to_live(mut session: Session) -> Result<(), Exit> {
    let needs = "lease timetolive command needs lease ID as argument";
    let id = lease_id(session.operands(), needs)?;
    let keys = session.invocation.flags.switch("keys");
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut lease = client.lease();
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let call = async { lease.lease_time_to_live(request).await.map_err(disconnected) };
    let answer = settings.bounded(call).await?.into_inner();
    client.show(|| print::time_to_live(&answer, keys), print_json::time_to_live(&answer).into())
}

/// Runs `lease list`.
pub async fn list(mut session: Session) -> Result<(), Exit> {
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut lease = client.lease();
    let call = async { lease.lease_leases(pb::LeaseLeasesRequest {}).await.map_err(disconnected) };
    let answer = settings.bounded(call).await?.into_inner();
    client.show(|| print::leases(&answer).into_bytes(), print_json::leases(&answer).into())
}

fn disconnected(status: Status) -> Exit {
    Exit { code: Exit::BAD_CONNECTION, ..failed(status) }
}

/// The lease among the operands; `needs` is what to say if there is not exactly one.
pub fn lease_id(operands: &[Vec<u8>], needs: &str) -> Result<i64, Exit> {
    let [id] = operands else { return Err(Exit::new(Exit::BAD_ARGS, needs)) };
    go::parse_int(&String::from_utf8_lossy(id), 16).map_err(|reason| {
        Exit::new(Exit::BAD_ARGS, format!("bad lease ID arg ({reason}), expecting ID in Hex"))
    })
}

/// Runs `lease keep-alive`.
pub async fn keep_alive(mut session: Session) -> Result<(), Exit> {
    let needs = "lease keep-alive command needs lease ID as argument";
    let id = lease_id(session.operands(), needs)?;
    let once = session.invocation.flags.switch("once");
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    if once {
        let call = async {
            let mut renewals = Renewals::open(&client, id).await.map_err(disconnected)?;
            renewals.next().await.map_err(disconnected)
        };
        return match settings.bounded(call).await? {
            answer if answer.ttl > 0 => show(&client, &answer),
            _ => Err(Exit::new(Exit::BAD_CONNECTION, "etcdserver: requested lease not found")),
        };
    }
    keep(&client, id).await?;
    match client.settings.format {
        Format::Simple => super::say(print::lost(id).as_bytes()),
        Format::Json => Ok(()),
    }
}

fn show(client: &Client, answer: &pb::LeaseKeepAliveResponse) -> Result<(), Exit> {
    client
        .show(|| print::keep_alive(answer).into_bytes(), Json::from(print_json::keep_alive(answer)))
}

/// Renews, without telling, until the lease is gone.
pub async fn renew_quietly(client: &Client, id: i64) {
    let mut alive_until = Instant::now() + FIRST_DEADLINE;
    let mut stream = None;
    while Instant::now() < alive_until {
        match tokio::time::timeout_at(alive_until, renew(client, id, &mut stream)).await {
            Ok(Ok(answer)) if answer.ttl > 0 => {
                let ttl = Duration::from_secs(answer.ttl.unsigned_abs()).min(TTL_MAX);
                alive_until = Instant::now() + ttl;
                tokio::time::sleep(ttl / 3).await;
            }
            Ok(Err(_)) => {
                stream = None;
                tokio::time::sleep(RETRY).await;
            }
            Ok(Ok(_)) | Err(_) => return,
        }
    }
}

/// Renews until the lease is gone.
async fn keep(client: &Client, id: i64) -> Result<(), Exit> {
    let mut alive_until = Instant::now() + FIRST_DEADLINE;
    let mut stream = None;
    while Instant::now() < alive_until {
        let renewed = tokio::time::timeout_at(alive_until, renew(client, id, &mut stream)).await;
        match renewed {
            Ok(Ok(answer)) if answer.ttl <= 0 => break,
            Ok(Ok(answer)) => {
                show(client, &answer)?;
                let ttl = Duration::from_secs(answer.ttl.unsigned_abs()).min(TTL_MAX);
                alive_until = Instant::now() + ttl;
                tokio::time::sleep(ttl / 3).await;
            }
            Ok(Err(_)) => {
                stream = None;
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => break,
        }
    }
    Ok(())
}

async fn renew(
    client: &Client,
    id: i64,
    stream: &mut Option<Renewals>,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    if let Some(renewals) = stream {
        renewals.ask().await?;
        return renewals.next().await;
    }
    stream.insert(Renewals::open(client, id).await?).next().await
}

/// A stream of renewals of one lease.
struct Renewals {
    request: pb::LeaseKeepAliveRequest,
    asks: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: tonic::Streaming<pb::LeaseKeepAliveResponse>,
}

impl Renewals {
    /// Opens a stream with a first renewal in it.
    async fn open(client: &Client, id: i64) -> Result<Renewals, Status> {
        let request = pb::LeaseKeepAliveRequest { id };
        let (asks, asked) = mpsc::channel(1);
        asks.try_send(request).expect("the queue has room for one and is new");
        let answers = client.lease().lease_keep_alive(Queue(asked)).await?.into_inner();
        Ok(Renewals { request, asks, answers })
    }

    async fn ask(&self) -> Result<(), Status> {
        self.asks.send(self.request).await.map_err(|_| Status::unavailable("the stream has ended"))
    }

    async fn next(&mut self) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let answer = self.answers.message().await?;
        answer.ok_or_else(|| Status::unavailable("the stream has ended"))
    }
}

/// What is sent into a channel, as the stream of requests that a stub takes.
pub struct Queue<T>(pub mpsc::Receiver<T>);

impl<T> Stream for Queue<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

/// How long to try before the lease's TTL is known.
const FIRST_DEADLINE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);
/// Far beyond any lease, short enough to be added to a clock.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
