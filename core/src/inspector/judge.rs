//! Who is named when hashes differ.
//!
//! Laws:
//!  1. Answers are compared only with hashes of the same revision under the same compacted revision.
//!  2. Where more than half of all members have the same hash, the others are named.
//!  3. Where no hash has a majority, the periodic check believes the leader, as etcd's does; that of
//!     compactions names nobody by name: the alarm is of member 0, and concerns the whole cluster.
//!  4. A peer without an answer is never named.
//!
//! Differs from etcd in one thing: its periodic check names the first follower that differs from the leader,
//! even where the leader is alone against all others.
//!
//! Worked example, n1 to n3 with hashes 7, 8, 8 at r5: n1 is named, though it leads.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::MemberId;
use crate::message::{HashAnswer, HashOutcome};
use crate::mvcc::hash::KvHash;

/// A member whose data are not those of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// Whose; 0 if it cannot be said.
    pub member: MemberId,
    /// What was found, for the operator.
    pub why: String,
}

/// What came of a compaction's hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub accused: Vec<Accusation>,
    /// All members were compared, and agree.
    pub is_complete: bool,
}

type Answers = BTreeMap<MemberId, HashAnswer>;

/// The periodic check: the leader's hash before and after its peers gave theirs.
pub(super) fn periodic(
    leader: MemberId,
    (own, again): (KvHash, KvHash),
    answers: &Answers,
    others: &BTreeSet<MemberId>,
) -> Vec<Accusation> {
    let mut accused = BTreeMap::new();
    let same = (own.revision, own.compacted) == (again.revision, again.compacted);
    if same && own.hash != again.hash {
        let why = format!(
            "its own hash at {} was {:08x} and is {:08x}",
            own.revision, own.hash, again.hash
        );
        accused.insert(leader, why);
    }
    for (peer, answer) in answers {
        let HashOutcome::Hash(hash) = answer.outcome else { continue };
        if answer.revision > again.revision {
            let why = format!("it is at {}, and the leader at {}", answer.revision, again.revision);
            accused.entry(*peer).or_insert(why);
        }
        if hash.compacted > again.compacted {
            let why = format!(
                "it is compacted at {}, and the leader at {}",
                hash.compacted, again.compacted
            );
            accused.entry(*peer).or_insert(why);
        }
    }
    let groups = groups(leader, own, answers);
    let right = majority(&groups, others).unwrap_or(own.hash);
    for (member, why) in unlike(right, own, &groups) {
        accused.entry(member).or_insert(why);
    }
    accused.into_iter().map(|(member, why)| Accusation { member, why }).collect()
}

/// The check of a compaction that the leader remembers.
pub(super) fn compaction(
    leader: MemberId,
    own: KvHash,
    answers: &Answers,
    others: &BTreeSet<MemberId>,
) -> Found {
    let groups = groups(leader, own, answers);
    if groups.len() == 1 {
        let compared: usize = groups.values().map(Vec::len).sum();
        return Found { accused: Vec::new(), is_complete: compared == others.len() + 1 };
    }
    let accused = match majority(&groups, others) {
        Some(right) => {
            let unlike = unlike(right, own, &groups).into_iter();
            unlike.map(|(member, why)| Accusation { member, why }).collect()
        }
        None => {
            let each = groups.iter().map(|(hash, members)| format!("{hash:08x} of {members:?}"));
            let each: Vec<String> = each.collect();
            let why = format!(
                "no majority has the same hash at the compaction to {}: {}",
                own.revision,
                each.join(", ")
            );
            vec![Accusation { member: MemberId(0), why }]
        }
    };
    Found { accused, is_complete: false }
}

/// The check of a starting member.
///
/// # Errors
/// A peer's data differ from its own; says which.
pub(super) fn initial(own: KvHash, answers: &Answers) -> Result<(), String> {
    let hashes = answers.iter().filter_map(|(peer, answer)| Some((peer, comparable(own, answer)?)));
    let unlike = hashes.filter(|(_, hash)| *hash != own.hash);
    let unlike: Vec<String> =
        unlike.map(|(peer, hash)| format!("{hash:08x} of peer {peer}")).collect();
    if unlike.is_empty() {
        return Ok(());
    }
    Err(format!(
        "found data inconsistency with peers: the hash at {}, compacted at {}, is {:08x} here, and {}",
        own.revision,
        own.compacted,
        own.hash,
        unlike.join(", ")
    ))
}

/// A peer's hash, where it may be compared (law 1).
fn comparable(own: KvHash, answer: &HashAnswer) -> Option<u32> {
    match answer.outcome {
        HashOutcome::Hash(hash)
            if (hash.revision, hash.compacted) == (own.revision, own.compacted) =>
        {
            Some(hash.hash)
        }
        _ => None,
    }
}

/// The members by their hash.
fn groups(leader: MemberId, own: KvHash, answers: &Answers) -> BTreeMap<u32, Vec<MemberId>> {
    let mut groups = BTreeMap::from([(own.hash, vec![leader])]);
    for (peer, answer) in answers {
        if let Some(hash) = comparable(own, answer) {
            groups.entry(hash).or_default().push(*peer);
        }
    }
    groups
}

/// The hash that more than half of all members have.
fn majority(groups: &BTreeMap<u32, Vec<MemberId>>, others: &BTreeSet<MemberId>) -> Option<u32> {
    let quorum = others.len().div_ceil(2) + 1;
    groups.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash)
}

/// The members with another hash than the right one.
fn unlike(
    right: u32,
    own: KvHash,
    groups: &BTreeMap<u32, Vec<MemberId>>,
) -> Vec<(MemberId, String)> {
    let wrong = groups.iter().filter(|(hash, _)| **hash != right);
    let told = wrong.flat_map(|(hash, members)| {
        members.iter().map(move |member| {
            let why = format!(
                "its hash at {}, compacted at {}, is {hash:08x} and not {right:08x}",
                own.revision, own.compacted
            );
            (*member, why)
        })
    });
    told.collect()
}
