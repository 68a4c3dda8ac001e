//! R11: majorities of configurations that follow each other meet. A leader counts an entry as committed
//! only when a majority of the voters of its applied configuration has it on disk, itself included; a
//! change is committed by the configuration before it; and a leader proposes the next change only when it
//! has applied the last (thesis 4.1).

use std::collections::BTreeMap;

use holdfast_core::entry::EntryKind;
use holdfast_core::id::{Index, MemberId, Term};
use holdfast_core::message::{Message, RaftKind, RaftMessage};

use super::config::{Configs, Voters, is_quorum};
use super::{Checker, Scene, Seen};
use crate::world::member_id;

/// What each leader was told, and how far it has committed.
#[derive(Default)]
pub(super) struct QuorumsMeet {
    configs: Configs,
    /// The last entry that a member has acknowledged to a leader of a term.
    told: BTreeMap<(MemberId, Term), BTreeMap<MemberId, Index>>,
    committed: BTreeMap<usize, Index>,
    /// The last change that a leader has proposed in its term.
    proposed: BTreeMap<(usize, Term), Index>,
}

impl Checker for QuorumsMeet {
    fn id(&self) -> &'static str {
        "R11"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        self.configs.see(scene, seen);
        match seen {
            Seen::Said { member, to, message: Message::Raft(message) } => match message.kind {
                RaftKind::AppendResponse if !message.reject => {
                    let told = self.told.entry((*to, message.term)).or_default();
                    let last = told.entry(member_id(*member)).or_default();
                    *last = (*last).max(message.log.index);
                    Ok(())
                }
                RaftKind::Append => self.proposes(scene, *member, message),
                _ => Ok(()),
            },
            Seen::Leads { member, term, commit, durable, terms } => {
                let before = self.committed.insert(*member, *commit).unwrap_or_default();
                if *commit <= before || terms.term_at(*commit) != Some(*term) {
                    return Ok(());
                }
                self.commits(scene, (*member, *term), (before, *commit), *durable)
            }
            Seen::Booted { member, .. } => {
                self.committed.remove(member);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl QuorumsMeet {
    fn commits(
        &self,
        scene: &Scene<'_>,
        (member, term): (usize, Term),
        (before, commit): (Index, Index),
        durable: Index,
    ) -> Result<(), String> {
        scene.compared();
        let own = member_id(member);
        let told = self.told.get(&(own, term));
        let count = |voters: &Voters, index: Index| {
            is_quorum(voters, |id| {
                let acknowledged = told.and_then(|told| told.get(&id)).copied();
                let last = if id == own { Some(durable) } else { acknowledged };
                last.is_some_and(|last| last >= index)
            })
        };
        let either = self.configs.of(scene, member);
        if !either.iter().any(|voters| count(voters, commit)) {
            return Err(format!(
                "member {member} commits {commit} in {term} with {told:?} of {:?}",
                either[1]
            ));
        }
        for change in self.configs.changes(before, commit) {
            let voters = self.configs.at(Index(change.0 - 1));
            if !count(voters, change) {
                return Err(format!(
                    "member {member} commits the change at {change} in {term} with {told:?} of \
                     {voters:?}, who were the voters before it"
                ));
            }
        }
        Ok(())
    }

    fn proposes(
        &mut self,
        scene: &Scene<'_>,
        member: usize,
        message: &RaftMessage,
    ) -> Result<(), String> {
        let changes = message
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::ConfChange && entry.at.term == message.term);
        for index in changes.map(|entry| entry.at.index) {
            let last = self.proposed.entry((member, message.term)).or_insert(index);
            if index <= *last {
                continue;
            }
            scene.compared();
            let (applied, earlier) = (self.configs.applied(member), std::mem::replace(last, index));
            if applied < earlier {
                return Err(format!(
                    "member {member} proposes the change at {index} and has applied {applied}, but \
                     not the change at {earlier}"
                ));
            }
        }
        Ok(())
    }
}
