//! Changes of the set of members, decided in the order of the log.
//!
//! ```text
//! Table::Removed  member id (8 bytes big-endian)             → nothing
//! Table::Meta     "birth/" member id (8 bytes big-endian)    → birth (u64 big-endian) major minor
//! Table::Meta     "cluster version"                          → major minor
//! ```
//!
//! Laws:
//!  1. An id that was removed never comes back.
//!  2. The last voter stays.
//!  3. A member's first birth counts; a later one changes nothing.
//!  4. The cluster's version never falls.
//!
//! Worked example: `Add n4` when n4 was removed once is refused with "member not found", as etcd
//! words it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::cluster::{encode, key_of, members};
use super::draft::Draft;
use crate::id::MemberId;
use crate::membership::{MemberChange, Membership, Started, Version};
use crate::mutant;
use crate::rejection::Rejection;
use crate::response::{Body, Member};
use crate::store::{Table, View};

const BIRTH: &[u8] = b"birth/";
const CLUSTER_VERSION: &[u8] = b"cluster version";

/// Everybody, as this state has it.
pub fn membership(view: &dyn View) -> Membership {
    let mut known = Membership {
        members: members(view).into_iter().map(|member| (member.id, member)).collect(),
        ..Membership::default()
    };
    view.table_scan(Table::Removed, b"", &mut |key, _| {
        known.removed.extend(id_of(key));
        ControlFlow::Continue(())
    });
    let births = started(view).into_iter().map(|(id, started)| (id, started.birth));
    known.births = births.collect();
    known
}

/// What started members have told of themselves.
pub fn started(view: &dyn View) -> BTreeMap<MemberId, Started> {
    let mut found = BTreeMap::new();
    view.table_scan(Table::Meta, BIRTH, &mut |key, value| {
        let Some(rest) = key.strip_prefix(BIRTH) else { return ControlFlow::Break(()) };
        found.extend(id_of(rest).zip(started_of(value)));
        ControlFlow::Continue(())
    });
    found
}

/// The cluster's version, once it is decided.
pub fn cluster_version(view: &dyn View) -> Option<Version> {
    version_of(&view.table(Table::Meta, CLUSTER_VERSION)?)
}

/// Whether a member was removed.
pub fn is_removed(view: &dyn View, id: MemberId) -> bool {
    view.table(Table::Removed, &key_of(id)).is_some()
}

/// Decides a change.
pub(super) fn change(draft: &mut Draft<'_>, change: &MemberChange) -> Result<Body, Rejection> {
    let view = draft.view();
    let mut all: BTreeMap<MemberId, Member> =
        members(view).into_iter().map(|member| (member.id, member)).collect();
    let id = change.id();
    if is_removed(view, id) && !mutant::on(67) {
        return Err(Rejection::MemberNotFound);
    }
    match change {
        MemberChange::Add { peer_urls, is_learner, learners_max, .. } => {
            check_add(&all, change, *learners_max)?;
            let member = Member {
                id,
                peer_urls: peer_urls.clone(),
                is_learner: *is_learner,
                ..Member::default()
            };
            set(draft, &member);
            all.insert(id, member.clone());
            return Ok(Body::MemberAdd { member, members: all.into_values().collect() });
        }
        MemberChange::Promote { .. } => {
            let member = all.get_mut(&id).ok_or(Rejection::MemberNotFound)?;
            if !member.is_learner {
                return Err(Rejection::MemberNotLearner);
            }
            member.is_learner = false;
            set(draft, member);
        }
        MemberChange::Update { peer_urls, .. } => {
            if !all.contains_key(&id) {
                return Err(Rejection::MemberNotFound);
            }
            refuse_taken(&all, id, peer_urls)?;
            let member = all.get_mut(&id).expect("it was just found");
            member.peer_urls.clone_from(peer_urls);
            set(draft, member);
        }
        MemberChange::Remove { .. } => {
            let member = all.remove(&id).ok_or(Rejection::MemberNotFound)?;
            if !member.is_learner && all.values().all(|other| other.is_learner) {
                return Err(Rejection::NotEnoughStarted);
            }
            clear(draft, id);
        }
        MemberChange::ForceNew { .. } => {
            let mut own = all.remove(&id).ok_or(Rejection::MemberNotFound)?;
            own.is_learner = false;
            set(draft, &own);
            all.into_keys().for_each(|other| clear(draft, other));
            all = BTreeMap::from([(id, own)]);
        }
    }
    Ok(Body::Members(all.into_values().collect()))
}

/// Notes a member's birth and version. One that was removed meanwhile is not brought back.
pub(super) fn start(draft: &mut Draft<'_>, id: MemberId, told: Started) {
    let view = draft.view();
    let known = started(view).get(&id).copied();
    let is_member = view.table(Table::Members, &key_of(id)).is_some();
    if is_member && known.is_none_or(|known| known.birth == told.birth) {
        let Version { major, minor } = told.version;
        let value = [&told.birth.to_be_bytes()[..], &[major, minor]].concat();
        draft.set(Table::Meta, birth_key(id), value.into());
    }
}

/// Decides the cluster's version.
pub(super) fn decide_version(draft: &mut Draft<'_>, version: Version) {
    if cluster_version(draft.view()).is_none_or(|before| before < version) {
        let value = Bytes::copy_from_slice(&[version.major, version.minor]);
        draft.set(Table::Meta, Bytes::from_static(CLUSTER_VERSION), value);
    }
}

fn check_add(
    all: &BTreeMap<MemberId, Member>,
    change: &MemberChange,
    learners_max: u64,
) -> Result<(), Rejection> {
    let MemberChange::Add { id, peer_urls, is_learner, .. } = change else { return Ok(()) };
    if all.contains_key(id) {
        return Err(Rejection::MemberExists);
    }
    refuse_taken(all, *id, peer_urls)?;
    let learners = all.values().filter(|member| member.is_learner).count() as u64;
    if *is_learner && learners >= learners_max {
        return Err(Rejection::TooManyLearners);
    }
    Ok(())
}

fn refuse_taken(
    all: &BTreeMap<MemberId, Member>,
    id: MemberId,
    urls: &[String],
) -> Result<(), Rejection> {
    let mut others = all.values().filter(|member| member.id != id);
    match others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url))) {
        true => Err(Rejection::PeerUrlExists),
        false => Ok(()),
    }
}

fn set(draft: &mut Draft<'_>, member: &Member) {
    draft.set(Table::Members, key_of(member.id), encode(member));
}

fn clear(draft: &mut Draft<'_>, id: MemberId) {
    draft.clear(Table::Members, key_of(id));
    draft.clear(Table::Meta, birth_key(id));
    draft.set(Table::Removed, key_of(id), Bytes::new());
}

fn birth_key(id: MemberId) -> Bytes {
    [BIRTH, &id.0.to_be_bytes()].concat().into()
}

fn id_of(key: &[u8]) -> Option<MemberId> {
    Some(MemberId(u64::from_be_bytes(key.try_into().ok()?)))
}

fn started_of(value: &[u8]) -> Option<Started> {
    let (birth, rest) = value.split_first_chunk()?;
    Some(Started { birth: u64::from_be_bytes(*birth), version: version_of(rest)? })
}

fn version_of(value: &[u8]) -> Option<Version> {
    let [major, minor] = value else { return None };
    Some(Version { major: *major, minor: *minor })
}
