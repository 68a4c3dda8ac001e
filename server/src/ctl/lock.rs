//! lock and elect: held, or led, until a signal, the end of the command that was given, or the end of the
//! lease.
//!
//! Laws: 1. the lease is renewed all the while; when it ends, so does the command, with an error; 2. what
//! was taken is given back before the end, and the lease revoked.
//!
//! Worked example: `lock door ls` waits for the lock `door`, runs `ls` with ETCD_LOCK_KEY and
//! ETCD_LOCK_REV in its environment, unlocks, and ends with the exit code of `ls`.

use std::future::Future;

use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::{v3electionpb as epb, v3lockpb as lpb};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, Settings, failed};
use super::{Exit, Session, lease, print_json};

/// Seconds that a candidacy outlives its candidate (etcd's value).
const ELECT_TTL: i64 = 60;

/// Runs `lock`.
pub async fn lock(mut session: Session) -> Result<(), Exit> {
    let (name, command) = match session.operands() {
        [name, command @ ..] => (name.clone(), command.to_vec()),
        [] => {
            let text = "lock takes one lock name argument and an optional command to execute";
            return Err(Exit::new(Exit::BAD_ARGS, text));
        }
    };
    let ttl = session.invocation.flags.number("ttl");
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let id = grant(&client, ttl).await?;
    let work = async {
        let request = lpb::LockRequest { name: name.into(), lease: id };
        let held = client.lock().lock(request).await.map_err(failed)?.into_inner();
        let result = match command.split_first() {
            Some((program, args)) => execute(&client, &held, (program, args)).await,
            None => show_until_signal(&client, &held.key, "lock lost on init").await,
        };
        let unlock = lpb::UnlockRequest { key: held.key };
        client.lock().unlock(unlock).await.map_err(failed)?;
        result
    };
    hold(&client, id, "session expired", work).await
}

/// Runs `elect`.
pub async fn elect(mut session: Session) -> Result<(), Exit> {
    let listen = session.invocation.flags.switch("listen");
    let (name, proposal) = election(session.operands(), listen)?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let Some(value) = proposal else { return observe(&client, name).await };
    let id = grant(&client, ELECT_TTL).await?;
    let work = async {
        let request = epb::CampaignRequest { name: name.into(), lease: id, value: value.into() };
        let won = client.election().campaign(request).await.map_err(failed)?.into_inner();
        let leader = won.leader.unwrap_or_default();
        show_until_signal(&client, &leader.key, "elect: lost on init").await?;
        let request = epb::ResignRequest { leader: Some(leader) };
        client.election().resign(request).await.map_err(failed)?;
        Ok(())
    };
    hold(&client, id, "elect: session expired", work).await
}

/// The election's name, and what is proposed unless the command only listens.
///
/// # Errors
/// Operands that do not fit.
pub fn election(operands: &[Vec<u8>], listen: bool) -> Result<(Vec<u8>, Option<Vec<u8>>), Exit> {
    let bad = |text: &str| Err(Exit::new(Exit::BAD_ARGS, text));
    match (operands, listen) {
        ([name], true) => Ok((name.clone(), None)),
        ([name, proposal], false) => Ok((name.clone(), Some(proposal.clone()))),
        ([_], false) => bad("no proposal argument but -l not set"),
        ([_, _], true) => bad("proposal given but -l is set"),
        _ => bad("elect takes one election name argument and an optional proposal argument"),
    }
}

async fn observe(client: &Client, name: Vec<u8>) -> Result<(), Exit> {
    let request = epb::LeaderRequest { name: name.into() };
    let watch = async {
        let stream = client.election().observe(request).await.map_err(failed)?;
        let mut stream = stream.into_inner();
        while let Some(told) = stream.message().await.map_err(failed)? {
            let kvs = told.kv.into_iter().collect();
            show(client, &pb::RangeResponse { header: told.header, kvs, ..Default::default() })?;
        }
        Err(Exit::new(Exit::ERROR, "elect: observer lost"))
    };
    tokio::select! {
        biased;
        result = watch => result,
        result = stopped() => result,
    }
}

async fn grant(client: &Client, ttl: i64) -> Result<i64, Exit> {
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let mut leases = client.lease();
    let call = async { leases.lease_grant(request).await.map_err(failed) };
    Ok(client.settings.bounded(call).await?.into_inner().id)
}

/// Does the work while the lease lives, and revokes it afterwards.
async fn hold(
    client: &Client,
    id: i64,
    lost: &str,
    work: impl Future<Output = Result<(), Exit>>,
) -> Result<(), Exit> {
    let result = tokio::select! {
        biased;
        result = work => result,
        () = lease::renew_quietly(client, id) => return Err(Exit::new(Exit::ERROR, lost)),
        result = stopped() => result,
    };
    // The keys go with it, also those of a wait that a signal has ended.
    drop(client.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await);
    result
}

/// Shows the key that was taken, then waits for a signal.
async fn show_until_signal(client: &Client, key: &[u8], lost: &str) -> Result<(), Exit> {
    let request = pb::RangeRequest { key: key.to_vec().into(), ..Default::default() };
    let answer = client.kv().range(request).await.map_err(failed)?.into_inner();
    if answer.kvs.is_empty() {
        return Err(Exit::new(Exit::ERROR, lost));
    }
    show(client, &answer)?;
    stopped().await
}

fn show(client: &Client, answer: &pb::RangeResponse) -> Result<(), Exit> {
    let pairs = client.settings.pairs;
    let simple = || {
        let mut out = Vec::new();
        pairs.get(answer, &mut out);
        out
    };
    client.show(simple, print_json::get(answer).into())
}

async fn execute(
    client: &Client,
    held: &lpb::LockResponse,
    (program, args): (&Vec<u8>, &[Vec<u8>]),
) -> Result<(), Exit> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let revision = held.header.as_ref().map_or(0, |header| header.revision);
    let mut command = std::process::Command::new(text(program));
    command
        .args(args.iter().map(text))
        .env("ETCD_LOCK_KEY", String::from_utf8_lossy(&held.key).into_owned())
        .env("ETCD_LOCK_REV", revision.to_string());
    // It may take as long as it likes: the lease is renewed meanwhile.
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    let ended = ended.map_err(std::io::Error::other).and_then(|status| status);
    let ended = ended.map_err(|cause| Exit::new(Exit::ERROR, cause));
    let unlock = lpb::UnlockRequest { key: held.key.clone() };
    match ended?.code() {
        Some(0) => Ok(()),
        code => {
            client.lock().unlock(unlock).await.map_err(failed)?;
            Err(Exit::silent(code.unwrap_or(Exit::ERROR)))
        }
    }
}

/// A signal that ends the program.
async fn stopped() -> Result<(), Exit> {
    let broken = |cause| Exit::new(Exit::ERROR, format!("listening for signals: {cause}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
