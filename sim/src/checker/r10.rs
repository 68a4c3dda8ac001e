//! R10: who votes. Learners and members that were removed are asked for no vote, win no election and
//! count in none; an id that was removed does not come back (thesis 4.2, etcd's removed members).

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::fact::Fact;
use holdfast_core::id::{MemberId, Term};
use holdfast_core::membership::MemberChange;
use holdfast_core::message::{Message, RaftKind};

use super::config::{Configs, is_quorum};
use super::{Checker, Scene, Seen};
use crate::world::member_id;

/// The votes that were given, and the ids that are gone.
#[derive(Default)]
pub(super) struct WhoVotes {
    configs: Configs,
    votes: BTreeMap<(MemberId, Term), BTreeSet<MemberId>>,
    removed: BTreeMap<usize, BTreeSet<MemberId>>,
}

impl Checker for WhoVotes {
    fn id(&self) -> &'static str {
        "R10"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        self.configs.see(scene, seen);
        match seen {
            Seen::Said { member, to, message: Message::Raft(message) } => match message.kind {
                RaftKind::RequestVote => self.asked(scene, *member, *to),
                RaftKind::RequestVoteResponse if !message.reject => {
                    let votes = self.votes.entry((*to, message.term)).or_default();
                    votes.insert(member_id(*member));
                    Ok(())
                }
                _ => Ok(()),
            },
            Seen::Elected { member, term, .. } => self.elected(scene, *member, *term),
            Seen::Fact { member, fact: Fact::MembersChanged { change, .. } } => {
                self.changed(scene, *member, change)
            }
            Seen::Booted { member, .. } => {
                self.removed.remove(member); // it replays the changes
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl WhoVotes {
    fn asked(&self, scene: &Scene<'_>, member: usize, to: MemberId) -> Result<(), String> {
        scene.compared();
        match self.configs.of(scene, member).iter().any(|voters| voters.contains(&to)) {
            true => Ok(()),
            false => Err(format!("member {member} asks {to} for its vote, which has none")),
        }
    }

    fn elected(&self, scene: &Scene<'_>, member: usize, term: Term) -> Result<(), String> {
        scene.compared();
        let own = member_id(member);
        let given = self.votes.get(&(own, term));
        let has = |id| id == own || given.is_some_and(|given| given.contains(&id));
        let configs = self.configs.of(scene, member);
        if configs.iter().any(|voters| voters.contains(&own) && is_quorum(voters, has)) {
            return Ok(());
        }
        let voters = configs[1];
        Err(format!("member {member} leads in {term} by the votes of {given:?} of {voters:?}"))
    }

    fn changed(
        &mut self,
        scene: &Scene<'_>,
        member: usize,
        change: &MemberChange,
    ) -> Result<(), String> {
        let removed = self.removed.entry(member).or_default();
        match change {
            MemberChange::Remove { id } => {
                removed.insert(*id);
                Ok(())
            }
            MemberChange::Add { id, .. } => {
                scene.compared();
                match removed.contains(id) {
                    true => Err(format!("member {member} takes {id} back, which was removed")),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
