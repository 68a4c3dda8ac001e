//! alarm list, alarm disarm, defrag, move-leader, snapshot save and endpoint hashkv.
//!
//! Laws: 1. disarm clears, one by one, exactly the alarms that are up; 2. a snapshot stands under its
//! name only when it is whole and its hash right; 3. one endpoint that fails does not hide the others,
//! but makes the exit code 1.
//!
//! Worked example: `snapshot save f` writes `f.part`, checks its last 32 bytes against the SHA-256 of the
//! rest, renames it to `f` and prints `Snapshot saved at f`.

use std::io::Write;
use std::path::{Path, PathBuf};

use holdfast_net::proto::etcdserverpb as pb;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Streaming;

use super::client::{Client, Format, Settings, error_text, failed};
use super::cluster::endpoints;
use super::{Exit, Session, go, print_json};

/// Runs `alarm list`.
pub async fn alarm_list(mut session: Session) -> Result<(), Exit> {
    nothing(&session, "alarm list command accepts no arguments")?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let answer = settings.bounded(ask(&client, pb::AlarmRequest::default())).await?;
    client.show(|| alarm_lines(&answer).into_bytes(), print_json::alarms(&answer).into())
}

/// Runs `alarm disarm`.
pub async fn alarm_disarm(mut session: Session) -> Result<(), Exit> {
    nothing(&session, "alarm disarm command accepts no arguments")?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let disarm = async {
        let up = ask(&client, pb::AlarmRequest::default()).await?;
        let mut all = pb::AlarmResponse::default();
        for pb::AlarmMember { member_id, alarm } in up.alarms {
            let action = pb::alarm_request::AlarmAction::Deactivate.into();
            let request = pb::AlarmRequest { action, member_id, alarm };
            all.alarms.extend(ask(&client, request).await?.alarms);
        }
        Ok(all)
    };
    let answer = settings.bounded(disarm).await?;
    client.show(|| alarm_lines(&answer).into_bytes(), print_json::alarms(&answer).into())
}

async fn ask(client: &Client, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Exit> {
    Ok(client.maintenance().alarm(request).await.map_err(failed)?.into_inner())
}

/// A line for each alarm, as Go prints its message.
pub fn alarm_lines(answer: &pb::AlarmResponse) -> String {
    let line = |alarm: &pb::AlarmMember| {
        let id = match alarm.member_id {
            0 => String::new(),
            id => format!("memberID:{id} "),
        };
        match pb::AlarmType::try_from(alarm.alarm) {
            Ok(kind) => format!("{id}alarm:{}\n", kind.as_str_name()),
            Err(_) => format!("{id}alarm:{}\n", alarm.alarm),
        }
    };
    answer.alarms.iter().map(line).collect()
}

/// Runs `defrag`.
pub async fn defrag(mut session: Session) -> Result<(), Exit> {
    let settings = Settings::of(&mut session)?;
    let mut failures = 0;
    for endpoint in endpoints(&session, &settings).await? {
        let one = settings.with_endpoint(&endpoint).from_now(&session);
        let start = Instant::now();
        let call = async {
            let client = one.connect().await?;
            client.maintenance().defragment(pb::DefragmentRequest {}).await.map_err(failed)
        };
        let result = one.bounded(call).await;
        let took = go::duration(start.elapsed());
        match result {
            Ok(_) => {
                let line = format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n");
                super::say(line.as_bytes())?;
            }
            Err(exit) => {
                failures += 1;
                let why = exit.sentence();
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({why})");
            }
        }
    }
    if failures == 0 { Ok(()) } else { Err(Exit::silent(Exit::ERROR)) }
}

/// Runs `move-leader`.
pub async fn move_leader(mut session: Session) -> Result<(), Exit> {
    let target_id = transferee(session.operands())?;
    let settings = Settings::of(&mut session)?;
    let work = async {
        for endpoint in &settings.endpoints {
            let client = settings.with_endpoint(endpoint).connect().await?;
            let status = client.maintenance().status(pb::StatusRequest {}).await.map_err(failed)?;
            let status = status.into_inner();
            let leader = status.header.as_ref().map_or(0, |header| header.member_id);
            if leader == status.leader {
                return Ok((client, leader));
            }
        }
        let given = settings.endpoints.join(" ");
        Err(Exit::new(Exit::BAD_ARGS, format!("no leader endpoint given at [{given}]")))
    };
    let (client, leader) = settings.bounded(work).await?;
    let mut maintenance = client.maintenance();
    let request = pb::MoveLeaderRequest { target_id };
    let call = async { maintenance.move_leader(request).await.map_err(failed) };
    settings.bounded(call).await?;
    match settings.format {
        Format::Simple => {
            let line = format!("Leadership transferred from {leader:x} to {target_id:x}\n");
            super::say(line.as_bytes())
        }
        Format::Json => {
            Err(Exit::new(Exit::BAD_FEATURE, "move-leader not supported as output format"))
        }
    }
}

/// The member among the operands of `move-leader`.
///
/// # Errors
/// No operand, more than one, or no hexadecimal number.
pub fn transferee(operands: &[Vec<u8>]) -> Result<u64, Exit> {
    let [id] = operands else {
        return Err(Exit::new(Exit::BAD_ARGS, "move-leader command needs 1 argument"));
    };
    let text = String::from_utf8_lossy(id);
    u64::from_str_radix(&text, 16).map_err(|_| {
        let text = go::quote(&text);
        Exit::new(Exit::BAD_ARGS, format!("strconv.ParseUint: parsing {text}: invalid syntax"))
    })
}

/// Runs `snapshot save`.
pub async fn snapshot_save(mut session: Session) -> Result<(), Exit> {
    let path = match session.operands() {
        [path] => PathBuf::from(String::from_utf8_lossy(path).into_owned()),
        _ => return Err(Exit::new(Exit::BAD_ARGS, "snapshot save expects one argument")),
    };
    let settings = Settings::of(&mut session)?;
    if settings.endpoints.len() != 1 {
        let given = settings.endpoints.join(" ");
        let text =
            format!("snapshot must be requested to one selected node, not multiple [{given}]");
        return Err(Exit::new(Exit::BAD_ARGS, text));
    }
    let client = settings.bounded(settings.connect()).await?;
    let stream = client.maintenance().snapshot(pb::SnapshotRequest {}).await.map_err(failed)?;
    let part = PathBuf::from(format!("{}.part", path.display()));
    let saved = match receive(stream.into_inner(), &part).await {
        Ok(version) => {
            std::fs::rename(&part, &path).map_err(|cause| io(&path, cause)).map(|()| version)
        }
        Err(exit) => Err(exit),
    };
    let version = saved.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    let version = match version.as_str() {
        "" => String::new(),
        version => format!("Server version {version}\n"),
    };
    super::say(format!("Snapshot saved at {}\n{version}", path.display()).as_bytes())
}

/// Writes what comes and checks it; gives the server's version.
async fn receive(mut stream: Streaming<pb::SnapshotResponse>, part: &Path) -> Result<String, Exit> {
    let mut file = std::fs::File::create(part).map_err(|cause| io(part, cause))?;
    let (mut hash, mut held, mut bytes) = (Sha256::new(), Vec::new(), 0_u64);
    let mut version = String::new();
    while let Some(piece) = stream.message().await.map_err(failed)? {
        version = piece.version;
        bytes += piece.blob.len() as u64;
        file.write_all(&piece.blob).map_err(|cause| io(part, cause))?;
        // The last 32 bytes are the hash of what is before them.
        held.extend_from_slice(&piece.blob);
        let known = held.len().saturating_sub(HASH_BYTES);
        hash.update(&held[..known]);
        held.drain(..known);
    }
    file.sync_all().map_err(|cause| io(part, cause))?;
    if bytes % 512 != HASH_BYTES as u64 {
        let text = format!("sha256 checksum not found [bytes: {bytes}]");
        return Err(Exit::new(Exit::ERROR, text));
    }
    let expected = hash.finalize();
    if held[..] != expected[..] {
        return Err(Exit::new(Exit::ERROR, "expected sha256 differs from that of the snapshot"));
    }
    Ok(version)
}

const HASH_BYTES: usize = 32;

fn io(path: &Path, cause: std::io::Error) -> Exit {
    Exit::new(Exit::ERROR, format!("could not write {} ({cause})", path.display()))
}

/// What an endpoint says its keys hash to.
#[derive(Clone, Debug)]
pub struct Hash {
    /// Which one.
    pub endpoint: String,
    /// Its answer.
    pub answer: pb::HashKvResponse,
}

/// Runs `endpoint hashkv`.
pub async fn hash_kv(mut session: Session) -> Result<(), Exit> {
    let revision = session.invocation.flags.number("rev");
    let settings = Settings::of(&mut session)?;
    let (mut answers, mut failures) = (Vec::new(), 0);
    for endpoint in endpoints(&session, &settings).await? {
        let one = settings.with_endpoint(&endpoint).from_now(&session);
        let call = async {
            let client = one.connect().await?;
            let request = pb::HashKvRequest { revision };
            client
                .maintenance()
                .hash_kv(request)
                .await
                .map_err(|status| Exit::new(Exit::ERROR, error_text(&status)))
        };
        match one.bounded(call).await {
            Ok(answer) => answers.push(Hash { endpoint, answer: answer.into_inner() }),
            Err(exit) => {
                failures += 1;
                let why = exit.sentence();
                eprintln!("Failed to get the hash of endpoint {endpoint} ({why})");
            }
        }
    }
    let text = match settings.format {
        Format::Simple => hash_lines(&answers),
        Format::Json => format!("{}\n", print_json::hashes(&answers)),
    };
    super::say(text.as_bytes())?;
    if failures == 0 { Ok(()) } else { Err(Exit::silent(Exit::ERROR)) }
}

/// A line for each endpoint.
pub fn hash_lines(answers: &[Hash]) -> String {
    let line =
        |of: &Hash| format!("{}, {}, {}\n", of.endpoint, of.answer.hash, of.answer.hash_revision);
    answers.iter().map(line).collect()
}

fn nothing(session: &Session, text: &str) -> Result<(), Exit> {
    match session.operands() {
        [] => Ok(()),
        _ => Err(Exit::new(Exit::BAD_ARGS, text)),
    }
}
