//! K1: strict serializability by revision witness. The log gives every write its place and the oracle
//! its result; a read shows in its header which state it saw. Each must be exactly that, and nobody
//! may be told less than anybody was told before the request was sent.
//!
//! Unknown outcomes need no guess: the log says whether the request is in it.

use holdfast_core::auth::{AuthQuery, AuthReply};
use holdfast_core::id::Revision;
use holdfast_core::query::{Answer, AnswerBody, Query};
use holdfast_core::rejection::Rejection;

use super::{Checker, Scene, Seen};
use crate::history::{OpId, Outcome, Record};

/// Needs to remember nothing: floor and log are in the scene.
pub(super) struct Witness;

impl Checker for Witness {
    fn id(&self) -> &'static str {
        "K1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Returned { op } = seen else { return Ok(()) };
        let record = scene.history.record(*op);
        scene.compared();
        let checked = match &record.outcome {
            Outcome::Answered(answer) => check_answer(scene, *op, record, answer),
            Outcome::Rejected(rejection) => check_rejection(scene, *op, record, *rejection),
            Outcome::Pending | Outcome::Unknown => Ok(()),
        };
        checked.map_err(|what| {
            format!("request {} of client {} ({:?}): {what}", op.0, record.client, record.query)
        })
    }
}

fn check_answer(
    scene: &Scene<'_>,
    op: OpId,
    record: &Record,
    answer: &Answer,
) -> Result<(), String> {
    match &record.query {
        Query::Range(range) if range.serializable => Ok(()),
        Query::Txn(txn) if txn.is_serializable() => Ok(()),
        Query::Range(range) => {
            read_at(scene, record, answer)?;
            let expected = scene.model.range(answer.header.revision, range);
            equal(&AnswerBody::Range(expected), &answer.body)
        }
        Query::Txn(txn) if txn.is_read_only() => {
            read_at(scene, record, answer)?;
            let expected = scene.model.read_txn(answer.header.revision, txn);
            equal(&AnswerBody::Txn(expected), &answer.body)
        }
        Query::Put(_)
        | Query::DeleteRange(_)
        | Query::Txn(_)
        | Query::Compact { .. }
        | Query::LeaseGrant { .. }
        | Query::LeaseRevoke { .. }
        | Query::AlarmList
        | Query::Alarm(_)
        | Query::Auth(_) => check_write(scene, op, record, answer),
        Query::LeaseKeepAlive { .. }
        | Query::LeaseTimeToLive { .. }
        | Query::LeaseLeases
        | Query::MemberAdd { .. }
        | Query::MemberChange(_)
        | Query::Downgrade(_)
        | Query::MemberList { .. }
        | Query::HashKv { .. }
        | Query::Hash
        | Query::Defragment
        | Query::MoveLeader { .. }
        | Query::Status => Ok(()),
    }
}

/// The state that a linearizable read saw exists and is no older than what was known before.
fn read_at(scene: &Scene<'_>, record: &Record, answer: &Answer) -> Result<(), String> {
    let revision = answer.header.revision;
    if revision < record.floor {
        return Err(format!("read at {revision}, but {} was known when it was sent", record.floor));
    }
    exists(scene, revision)
}

fn exists(scene: &Scene<'_>, revision: Revision) -> Result<(), String> {
    let newest = scene.model.revision();
    if revision > newest {
        Err(format!("read at {revision}, the log ends at {newest}"))
    } else {
        Ok(())
    }
}

fn check_write(
    scene: &Scene<'_>,
    op: OpId,
    record: &Record,
    answer: &Answer,
) -> Result<(), String> {
    let Some(place) = scene.requests.steps.get(&op) else {
        return Err("answered, but not in the log".into());
    };
    if *place < record.steps_before {
        return Err("took effect before it was asked".into());
    }
    let step = &scene.model.steps()[*place];
    let (revision, body) =
        step.verdict.as_ref().map_err(|rejection| format!("should be refused: {rejection}"))?;
    if answer.header.revision != *revision {
        return Err(format!("answered {}, the oracle {revision}", answer.header.revision));
    }
    if *revision < record.floor {
        return Err(format!("took place at {revision}, {} was known before", record.floor));
    }
    match (body, &answer.body) {
        // The oracle does not know where in the log the token was assigned, and over HTTP/2 nobody is
        // told of which revision it is.
        (AnswerBody::Auth(expected), AnswerBody::Auth(told)) => match (expected, told) {
            (
                AuthReply::Authenticated { revision, .. },
                AuthReply::Authenticated { revision: told, .. },
            ) if revision == told || *told == 0 => Ok(()),
            _ => equal(body, &answer.body),
        },
        _ => equal(body, &answer.body),
    }
}

fn equal(expected: &AnswerBody, told: &AnswerBody) -> Result<(), String> {
    if expected == told { Ok(()) } else { Err(format!("told {told:?}, the oracle {expected:?}")) }
}

/// A refusal must be what the oracle says of the command, or, for reads, have been true of a state
/// between the request and now.
fn check_rejection(
    scene: &Scene<'_>,
    op: OpId,
    record: &Record,
    rejection: Rejection,
) -> Result<(), String> {
    if matches!(record.query, Query::Auth(AuthQuery::Authenticate { .. })) {
        // Whether a password is right is not the log's to say.
        return Ok(());
    }
    if let Some(place) = scene.requests.steps.get(&op) {
        return match &scene.model.steps()[*place].verdict {
            Err(expected) if *expected == rejection => Ok(()),
            verdict => Err(format!("refused with {rejection}, the oracle says {verdict:?}")),
        };
    }
    let Query::Range(range) = &record.query else { return Ok(()) };
    let since = &scene.model.steps()[record.steps_before.saturating_sub(1)..];
    let revisions = since.iter().map(|step| step.revision.0);
    match rejection {
        Rejection::Compacted if range.revision >= scene.model.compacted().0 => {
            Err(format!("refused as compacted, which goes to {}", scene.model.compacted()))
        }
        // A serializable read may look at any older state.
        Rejection::FutureRevision if !range.serializable => match revisions.min() {
            Some(oldest) if range.revision <= oldest => {
                Err(format!("refused as in the future, but {oldest} was there"))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
