//! endpoint health, endpoint status and member list.
//!
//! An endpoint command asks each endpoint over a connection of its own. Laws: 1. an endpoint is healthy
//! when a linearizable read of the key `health` succeeds (or is merely forbidden) and its list of
//! alarms can be read and is empty; 2. one endpoint that fails does not hide the others, but makes the
//! exit code 1.
//!
//! Worked example: with one of three members down, `endpoint health` prints two lines to the standard
//! output, one to the standard error, `Error: unhealthy cluster`, and ends with 1.

use holdfast_net::proto::etcdserverpb as pb;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Client, Format, Settings, failed};
use super::{Exit, Session, go, kv, print, print_json};

/// How an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Which one.
    pub endpoint: String,
    /// Whether it can commit and raises no alarm.
    pub healthy: bool,
    /// How long the read took.
    pub took: String,
    /// Why it is not healthy.
    pub error: String,
}

/// What an endpoint says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which one.
    pub endpoint: String,
    /// Its answer.
    pub answer: pb::StatusResponse,
}

/// Runs `endpoint health`.
pub async fn health(mut session: Session) -> Result<(), Exit> {
    let settings = Settings::of(&mut session)?;
    let mut asked = JoinSet::new();
    for endpoint in endpoints(&session, &settings).await? {
        let one = settings.with_endpoint(&endpoint);
        asked.spawn(health_of(one, endpoint));
    }
    let all = asked.join_all().await;
    match settings.format {
        Format::Json => super::say(format!("{}\n", print_json::health(&all)).as_bytes())?,
        Format::Simple => all.iter().try_for_each(|health| match health.error.as_str() {
            "" => super::say(healthy_line(health).as_bytes()),
            error => {
                let endpoint = &health.endpoint;
                eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                Ok(())
            }
        })?,
    }
    match all.iter().all(|health| health.error.is_empty()) {
        true => Ok(()),
        false => Err(Exit::new(Exit::ERROR, "unhealthy cluster")),
    }
}

/// The line of an endpoint that is well.
pub fn healthy_line(health: &Health) -> String {
    let Health { endpoint, took, .. } = health;
    format!("{endpoint} is healthy: successfully committed proposal: took = {took}\n")
}

async fn health_of(settings: Settings, endpoint: String) -> Health {
    let start = Instant::now();
    let client = settings.bounded(settings.connect()).await;
    let read = match &client {
        Ok(client) => settings.bounded(read_health(client)).await,
        Err(exit) => Err(exit.clone()),
    };
    let took = go::duration(start.elapsed());
    let error = match (client, read) {
        (Ok(client), Ok(())) => {
            let alarms = settings.bounded(alarms(&client)).await;
            alarms.unwrap_or_else(|_| "Unable to fetch the alarm list".to_owned())
        }
        (_, Err(exit)) | (Err(exit), _) => exit.sentence().to_owned(),
    };
    Health { endpoint, healthy: error.is_empty(), took, error }
}

/// A permission that is denied was decided through the log too: the member is well.
async fn read_health(client: &Client) -> Result<(), Exit> {
    let request = pb::RangeRequest { key: "health".into(), ..pb::RangeRequest::default() };
    match client.kv().range(request).await {
        Err(status) if status.code() != tonic::Code::PermissionDenied => Err(failed(status)),
        _ => Ok(()),
    }
}

/// What to say about the alarms that are raised; nothing if there are none.
async fn alarms(client: &Client) -> Result<String, Exit> {
    let answer = client.maintenance().alarm(pb::AlarmRequest::default()).await.map_err(failed)?;
    Ok(alarm_text(&answer.into_inner().alarms))
}

/// The sentence about raised alarms; nothing if there are none.
pub fn alarm_text(alarms: &[pb::AlarmMember]) -> String {
    let name = |alarm: &pb::AlarmMember| match pb::AlarmType::try_from(alarm.alarm) {
        Ok(pb::AlarmType::Nospace) => "NOSPACE ",
        Ok(pb::AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    let names: String = alarms.iter().map(name).collect();
    if names.is_empty() { names } else { format!("Active Alarm(s): {names}") }
}

/// Runs `endpoint status`.
pub async fn status(mut session: Session) -> Result<(), Exit> {
    let settings = Settings::of(&mut session)?;
    let mut answers = Vec::new();
    let mut failures = 0;
    for endpoint in endpoints(&session, &settings).await? {
        let one = settings.with_endpoint(&endpoint).from_now(&session);
        match one.bounded(status_of(&one)).await {
            Ok(answer) => answers.push(Status { endpoint, answer }),
            Err(exit) => {
                failures += 1;
                let why = exit.sentence();
                eprintln!("Failed to get the status of endpoint {endpoint} ({why})");
            }
        }
    }
    let text = match settings.format {
        Format::Simple => print::status(&answers),
        Format::Json => format!("{}\n", print_json::status(&answers)),
    };
    super::say(text.as_bytes())?;
    if failures == 0 { Ok(()) } else { Err(Exit::silent(Exit::ERROR)) }
}

async fn status_of(settings: &Settings) -> Result<pb::StatusResponse, Exit> {
    let client = settings.connect().await?;
    let answer = client.maintenance().status(pb::StatusRequest {}).await;
    Ok(answer.map_err(failed)?.into_inner())
}

/// The endpoints to ask: those given, or those of all members.
pub async fn endpoints(session: &Session, settings: &Settings) -> Result<Vec<String>, Exit> {
    if !session.invocation.flags.switch("cluster") {
        return Ok(settings.endpoints.clone());
    }
    let list = async {
        let client = settings.connect().await?;
        let request = pb::MemberListRequest { linearizable: true };
        let answer = client.cluster().member_list(request).await.map_err(failed)?;
        let members = answer.into_inner().members;
        Ok(members.into_iter().flat_map(|member| member.client_ur_ls).collect())
    };
    settings.bounded(list).await.map_err(|exit: Exit| {
        let why = exit.sentence();
        let text = format!("failed to fetch endpoints from etcd cluster member list: {why}");
        Exit::new(Exit::ERROR, text)
    })
}

/// Runs `member list`.
pub async fn members(mut session: Session) -> Result<(), Exit> {
    let serializable = kv::is_serializable(session.invocation.flags.text("consistency"))?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let request = pb::MemberListRequest { linearizable: !serializable };
    let mut cluster = client.cluster();
    let call = async { cluster.member_list(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    let json = print_json::members(&answer, settings.pairs.hex);
    client.show(|| print::members(&answer).into_bytes(), json.into())
}
