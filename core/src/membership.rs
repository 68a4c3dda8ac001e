//! Changes of the set of members, as types: what clients ask, what stands in the log, and what every
//! member knows of the others.
//!
//! Leaves out: deciding a change ([`crate::machine`]), and when one may be proposed
//! ([`crate::node`]).
//!
//! Laws:
//!  1. A change is the only command of its entry, and the entry's kind is
//!     [`ConfChange`](crate::entry::EntryKind::ConfChange) exactly if it carries one.
//!  2. Each change adds, promotes or removes one voter at most, so that the majorities before and
//!     after it meet (thesis 4.1). [`MemberChange::ForceNew`] is the exception: an operator gives the
//!     others up.
//!
//! Worked example: replacing n3 by n4 is `Add n4 (learner)`, `Promote n4`, `Remove n3`: three
//! entries, each committed by the members that the one before it left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::MemberId;
use crate::mutant;
use crate::response::Member;

/// One change of the set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Cluster.MemberAdd; the id was fixed at the edge.
    Add {
        /// Who comes.
        id: MemberId,
        /// Where its peers will reach it; at least one.
        peer_urls: Vec<String>,
        /// Without a vote at first.
        is_learner: bool,
        /// `--max-learners` of the member that was asked.
        learners_max: u64,
    },
    /// Cluster.MemberPromote: a learner gets its vote.
    Promote {
        /// Who.
        id: MemberId,
    },
    /// Cluster.MemberUpdate: other peer URLs; nothing else changes.
    Update {
        /// Who.
        id: MemberId,
        /// All its peer URLs from now on.
        peer_urls: Vec<String>,
    },
    /// Cluster.MemberRemove
    Remove {
        /// Who.
        id: MemberId,
    },
    /// `--force-new-cluster`: `id` is the only member from now on, and has a vote.
    ForceNew {
        /// Who stays.
        id: MemberId,
    },
}

impl MemberChange {
    /// Whom it is about.
    pub fn id(&self) -> MemberId {
        match self {
            MemberChange::Add { id, .. }
            | MemberChange::Promote { id }
            | MemberChange::Update { id, .. }
            | MemberChange::Remove { id }
            | MemberChange::ForceNew { id } => *id,
        }
    }
}

impl fmt::Display for MemberChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberChange::Add { id, is_learner: true, .. } => write!(f, "add learner {id}"),
            MemberChange::Add { id, .. } => write!(f, "add {id}"),
            MemberChange::Promote { id } => write!(f, "promote {id}"),
            MemberChange::Update { id, .. } => write!(f, "update {id}"),
            MemberChange::Remove { id } => write!(f, "remove {id}"),
            MemberChange::ForceNew { id } => write!(f, "force a new cluster of {id}"),
        }
    }
}

/// A version of the cluster: what all members understand. `Display` is etcd's text, `3.7.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u8,
    /// Minor number.
    pub minor: u8,
}

impl Version {
    /// What this program is.
    pub const OWN: Version = Version { major: 3, minor: 7 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// What a started member tells the cluster of itself, beside its name and client URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Drawn at random when its data directory was made, kept there, never 0: a member that comes
    /// back with another one has lost what it promised.
    pub birth: u64,
    /// What it understands.
    pub version: Version,
}

/// Everybody, as one member's state has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// By id.
    pub members: BTreeMap<MemberId, Member>,
    /// Who may never come back.
    pub removed: BTreeSet<MemberId>,
    /// The births that started members have told.
    pub births: BTreeMap<MemberId, u64>,
}

impl Membership {
    /// Members with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_learner)
    }

    /// Why a peer with this id and birth must not be talked to; `None` if it may.
    pub fn objection(&self, peer: MemberId, birth: u64) -> Option<Stranger> {
        if self.removed.contains(&peer) {
            return Some(Stranger::Removed);
        }
        if !self.members.contains_key(&peer) {
            return Some(Stranger::Unknown);
        }
        let known = self.births.get(&peer);
        let is_reborn = known.is_some_and(|known| *known != birth) && !mutant::on(93);
        is_reborn.then_some(Stranger::Reborn)
    }
}

/// Why somebody is not a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Not in the list (yet).
    Unknown,
    /// Removed for ever.
    Removed,
    /// A member's id with another data directory than the one that made the member's promises.
    Reborn,
}
