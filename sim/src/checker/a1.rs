//! A1: nothing happens without the right to it. A command is decided by the users and roles as they are
//! at its place in the log, under the identity that it carries; a read by those of a state that was
//! there while it was under way. Nobody acts in another's name.
//!
//! What an edge alone decides (whose token it is, whether a password is right) is not the log's; such
//! refusals only must have been possible.

use holdfast_core::alarm::AlarmOp;
use holdfast_core::auth::AuthQuery;
use holdfast_core::id::RequestId;
use holdfast_core::membership::MemberChange;
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Identity, Op};

use super::{Checker, Scene, Seen};
use crate::history::{OpId, Outcome, Record};
use crate::model::auth::Users;

/// Needs to remember nothing: the oracle keeps every state of the users.
pub(super) struct Rights;

impl Checker for Rights {
    fn id(&self) -> &'static str {
        "A1"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { id, who, op, .. } => check_identity(scene, (*id, who), op),
            Seen::Returned { op } => {
                let record = scene.history.record(*op);
                check_outcome(scene, *op, record).map_err(|what| {
                    let user = record.user.as_deref().unwrap_or("nobody");
                    format!("request {} of {user} ({:?}): {what}", op.0, record.query)
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a user could read something in a state of the users.
type MayRead<'a> = dyn Fn(&Users, &str) -> bool + 'a;

/// Whether a refusal is about rights.
fn is_about_rights(rejection: Rejection) -> bool {
    matches!(
        rejection,
        Rejection::PermissionDenied | Rejection::UserEmpty | Rejection::AuthOldRevision
    )
}

/// The identity of a command is that of the client who asked, at an auth revision that has been.
fn check_identity(
    scene: &Scene<'_>,
    (id, who): (RequestId, &Identity),
    op: &Op,
) -> Result<(), String> {
    let Some(request) = scene.requests.ops.get(&id) else {
        return match op {
            Op::LeaseRevoke { .. }
            | Op::Publish { .. }
            | Op::Started { .. }
            | Op::ClusterVersion(_)
            | Op::LeaseCheckpoint(_)
            | Op::Audit(_)
            | Op::Member(MemberChange::ForceNew { .. })
            | Op::Alarm(AlarmOp::Raise { automatic: true, .. } | AlarmOp::Clear { .. })
                if who.is_system() =>
            {
                Ok(())
            }
            _ => Err(format!("{op:?} of {who:?} is no client's and not the cluster's own")),
        };
    };
    let record = scene.history.record(*request);
    scene.compared();
    let user = record.user.as_deref().unwrap_or_default();
    let nobody = *who == Identity::default();
    if !nobody && (who.user != user.as_bytes() || who.is_system()) {
        return Err(format!("{op:?} of {user:?} is carried out as {who:?}"));
    }
    let newest = scene.model.users().revision();
    if who.auth_revision > newest {
        return Err(format!("{op:?} is of auth revision {}, {newest} is now", who.auth_revision));
    }
    Ok(())
}

fn check_outcome(scene: &Scene<'_>, op: OpId, record: &Record) -> Result<(), String> {
    if matches!(record.query, Query::Auth(AuthQuery::Authenticate { .. })) {
        return Ok(());
    }
    if let Some(place) = scene.requests.steps.get(&op) {
        scene.compared();
        let verdict = &scene.model.steps()[*place].verdict;
        return match (&record.outcome, verdict) {
            (Outcome::Answered(_), Err(refusal)) if is_about_rights(*refusal) => {
                Err(format!("was carried out, the oracle refuses it: {refusal}"))
            }
            (Outcome::Rejected(refusal), Ok(_)) if is_about_rights(*refusal) => {
                Err(format!("was refused ({refusal}), the oracle allows it"))
            }
            _ => Ok(()),
        };
    }
    let (since, allowed): (usize, Box<MayRead<'_>>) = match &record.query {
        Query::Range(range) => {
            let since = if range.serializable { 0 } else { record.steps_before };
            (since, Box::new(|users, user| users.may_read(user, &range.keys)))
        }
        Query::Txn(txn) if txn.is_read_only() => {
            let since = if txn.is_serializable() { 0 } else { record.steps_before };
            (since, Box::new(|users, user| users.may_read_txn(user, txn)))
        }
        _ => return Ok(()),
    };
    let user = record.user.as_deref().unwrap_or_default();
    let mut states = scene.model.users_since(since);
    match &record.outcome {
        Outcome::Answered(_) => {
            scene.compared();
            let may = states.any(|users| allowed(users, user));
            if may { Ok(()) } else { Err("was read without the right".into()) }
        }
        Outcome::Rejected(Rejection::PermissionDenied | Rejection::UserEmpty) => {
            scene.compared();
            let may_not = states.any(|users| !allowed(users, user));
            if may_not { Ok(()) } else { Err("was refused with the right".into()) }
        }
        Outcome::Rejected(Rejection::AuthOldRevision) => {
            Err("a read is of the newest auth revision there is".into())
        }
        _ => Ok(()),
    }
}
