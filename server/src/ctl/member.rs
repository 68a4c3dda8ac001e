//! member add, remove, update and promote; `member list` is in `cluster`.
//!
//! Leaves out what may be changed: the server decides, and its sentence is shown.
//!
//! Worked example: `member add b --peer-urls=http://h:2` prints `Member 1f added to cluster 9`, an empty
//! line, and the four variables with which the new member is to be started.

use holdfast_net::proto::etcdserverpb as pb;

use super::client::{Client, Settings, failed};
use super::{Exit, Session, print_json};

/// Runs `member add`.
pub async fn add(mut session: Session) -> Result<(), Exit> {
    let name = name_of(session.operands())?;
    let urls = urls_of(&session)?;
    let is_learner = session.invocation.flags.switch("learner");
    let (settings, client) = connect(&mut session).await?;
    let request = pb::MemberAddRequest {
        peer_ur_ls: urls.split(',').map(str::to_owned).collect(),
        is_learner,
    };
    let mut cluster = client.cluster();
    let call = async { cluster.member_add(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    let json = print_json::member_add(&answer);
    let text = || {
        let mut text = added(&answer);
        text.push_str(&variables(&answer, &name, &urls));
        text
    };
    client.show(|| text().into_bytes(), json.into())
}

/// Runs `member remove`.
pub async fn remove(mut session: Session) -> Result<(), Exit> {
    let id = id_of(session.operands())?;
    let (settings, client) = connect(&mut session).await?;
    let mut cluster = client.cluster();
    let request = pb::MemberRemoveRequest { id };
    let call = async { cluster.member_remove(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    done(&client, (id, "removed from"), answer.header, &answer.members)
}

/// Runs `member update`.
pub async fn update(mut session: Session) -> Result<(), Exit> {
    let id = id_of(session.operands())?;
    let urls = urls_of(&session)?;
    let (settings, client) = connect(&mut session).await?;
    let mut cluster = client.cluster();
    let peer_ur_ls = urls.split(',').map(str::to_owned).collect();
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    let call = async { cluster.member_update(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    done(&client, (id, "updated in"), answer.header, &answer.members)
}

/// Runs `member promote`.
pub async fn promote(mut session: Session) -> Result<(), Exit> {
    let id = id_of(session.operands())?;
    let (settings, client) = connect(&mut session).await?;
    let mut cluster = client.cluster();
    let request = pb::MemberPromoteRequest { id };
    let call = async { cluster.member_promote(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    done(&client, (id, "promoted in"), answer.header, &answer.members)
}

async fn connect(session: &mut Session) -> Result<(Settings, Client), Exit> {
    let settings = Settings::of(session)?;
    let client = settings.bounded(settings.connect()).await?;
    Ok((settings, client))
}

fn done(
    client: &Client,
    (id, what): (u64, &str),
    header: Option<pb::ResponseHeader>,
    members: &[pb::Member],
) -> Result<(), Exit> {
    let cluster = header.as_ref().map_or(0, |header| header.cluster_id);
    let json = print_json::member_change(header.as_ref(), members);
    let text = || format!("Member {id:16x} {what} cluster {cluster:16x}\n").into_bytes();
    client.show(text, json.into())
}

/// The line about a new member.
pub fn added(answer: &pb::MemberAddResponse) -> String {
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let (id, is_learner) =
        answer.member.as_ref().map_or((0, false), |member| (member.id, member.is_learner));
    let how = if is_learner { " as learner " } else { " " };
    format!("Member {id:16x} added{how}to cluster {cluster:16x}\n")
}

/// What the new member's environment has to be; scripts read these lines.
pub fn variables(answer: &pb::MemberAddResponse, name: &str, urls: &str) -> String {
    let new = answer.member.as_ref().map_or(0, |member| member.id);
    let pairs = answer.members.iter().flat_map(|member| {
        let named = if member.id == new { name } else { member.name.as_str() };
        member.peer_ur_ls.iter().map(move |url| format!("{named}={url}"))
    });
    let list = pairs.collect::<Vec<_>>().join(",");
    format!(
        "\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER={list:?}\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS={urls:?}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
    )
}

/// The name of a new member.
///
/// # Errors
/// None, or more than one operand.
pub fn name_of(operands: &[Vec<u8>]) -> Result<String, Exit> {
    match operands {
        [] => Err(Exit::new(Exit::BAD_ARGS, "member name not provided")),
        [name] => Ok(String::from_utf8_lossy(name).into_owned()),
        several => {
            let mut why = "too many arguments".to_owned();
            for operand in several.iter().map(|operand| String::from_utf8_lossy(operand)) {
                if operand.to_lowercase().starts_with("http") {
                    why.push_str(&format!(", did you mean --peer-urls={operand}"));
                }
            }
            Err(Exit::new(Exit::BAD_ARGS, why))
        }
    }
}

/// A member's id, in hexadecimal.
///
/// # Errors
/// Anything else.
pub fn id_of(operands: &[Vec<u8>]) -> Result<u64, Exit> {
    let [operand] = operands else {
        return Err(Exit::new(Exit::BAD_ARGS, "member ID is not provided"));
    };
    let text = String::from_utf8_lossy(operand);
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let why = match u64::from_str_radix(&text, 16) {
        Ok(id) if digits => return Ok(id),
        Err(_) if digits => "value out of range",
        _ => "invalid syntax",
    };
    let why = format!(
        "bad member ID arg (strconv.ParseUint: parsing {text:?}: {why}), expecting ID in Hex"
    );
    Err(Exit::new(Exit::BAD_ARGS, why))
}

fn urls_of(session: &Session) -> Result<String, Exit> {
    let urls = session.invocation.flags.text("peer-urls").to_owned();
    match urls.is_empty() {
        true => Err(Exit::new(Exit::BAD_ARGS, "member peer urls not provided")),
        false => Ok(urls),
    }
}
