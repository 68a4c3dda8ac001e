//! Whom each member may count, computed from the committed log and from how far each has applied it:
//! what R10 and R11 compare votes and acknowledgements with.
//!
//! Leaves out what members themselves believe of their configuration.
//!
//! A turn of a member is seen as a whole, so that what it said may have been said before or after the
//! changes which it applied in the same turn: both configurations count for what is seen at that moment.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::fact::Fact;
use holdfast_core::id::{Index, MemberId};
use holdfast_core::membership::MemberChange;
use holdfast_core::request::Op;

use super::{Scene, Seen};
use crate::clock::Moment;
use crate::world::member_id;

/// Members with a vote.
pub(super) type Voters = BTreeSet<MemberId>;

/// The configurations of a run.
#[derive(Default)]
pub(super) struct Configs {
    /// After each change, by its entry; the first is the cluster's beginning.
    all: BTreeMap<Index, Voters>,
    /// The entry by which a member has given all others up; no majority of theirs stands behind what was
    /// before it.
    forced: Index,
    /// How far each member has applied, and how far it had when the present moment began.
    applied: BTreeMap<usize, (Moment, Index, Index)>,
}

impl Configs {
    /// Takes in what changes configurations.
    pub fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) {
        if self.all.is_empty() {
            let first = (0..scene.swarm.members).map(member_id).collect();
            self.all.insert(Index(0), first);
        }
        match seen {
            Seen::Committed { op: Op::Member(change), .. } => {
                let Some(entry) = scene.log.last() else { return };
                if matches!(change, MemberChange::ForceNew { .. }) {
                    self.forced = entry.at.index;
                }
                let voters = scene.model.members().values().filter(|member| !member.is_learner);
                let voters: Voters = voters.map(|member| member.id).collect();
                self.all.insert(entry.at.index, voters);
            }
            Seen::Booted { member, view, .. } => {
                let applied = view.mark().applied.index;
                self.applied.insert(*member, (scene.now, applied, applied));
            }
            Seen::Fact { member, fact: Fact::Applied { at, .. } }
            | Seen::Fact { member, fact: Fact::SnapshotInstalled { at } } => {
                let known = self.applied.entry(*member).or_insert((scene.now, Index(0), Index(0)));
                if known.0 < scene.now {
                    *known = (scene.now, known.2, known.2);
                }
                known.2 = at.index;
            }
            _ => {}
        }
    }

    /// What a member may count at this moment: as of before its turn, and after.
    pub fn of(&self, scene: &Scene<'_>, member: usize) -> [&Voters; 2] {
        let (since, before, now) =
            self.applied.get(&member).copied().unwrap_or((scene.now, Index(0), Index(0)));
        let before = if since < scene.now { now } else { before };
        [self.at(before), self.at(now)]
    }

    /// How far a member has applied.
    pub fn applied(&self, member: usize) -> Index {
        self.applied.get(&member).map_or(Index(0), |known| known.2)
    }

    /// The configuration after everything up to an entry.
    pub fn at(&self, index: Index) -> &Voters {
        let last = self.all.range(..=index).next_back();
        last.expect("the first configuration is at 0").1
    }

    /// Entries of accepted or refused changes in (`from`, `upto`].
    pub fn changes(&self, from: Index, upto: Index) -> impl Iterator<Item = Index> + '_ {
        let from = from.max(self.forced).min(upto);
        self.all.range(from.next()..=upto).map(|(index, _)| *index)
    }
}

/// Whether `having` is a majority of `voters`.
pub(super) fn is_quorum(voters: &Voters, having: impl Fn(MemberId) -> bool) -> bool {
    voters.iter().filter(|id| having(**id)).count() > voters.len() / 2
}
