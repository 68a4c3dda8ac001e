//! R3: term and vote never go back, across restarts too: a member that spoke in a term restarts in it
//! or in a later one, and gives its vote in a term to one candidate only.

use std::collections::BTreeMap;

use holdfast_core::id::{MemberId, Term};
use holdfast_core::message::{Message, RaftKind};

use super::{Checker, Scene, Seen};

/// The highest term each member spoke in, and whom it voted for.
#[derive(Default)]
pub(super) struct NoStepBack {
    spoken: BTreeMap<usize, Term>,
    votes: BTreeMap<(usize, Term), MemberId>,
}

impl Checker for NoStepBack {
    fn id(&self) -> &'static str {
        "R3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Booted { member, term, .. } => {
                let Some(spoken) = self.spoken.get(member) else { return Ok(()) };
                scene.compared();
                if spoken > term {
                    return Err(format!("member {member} spoke in {spoken}, restarts in {term}"));
                }
                Ok(())
            }
            Seen::Wiped { member } => {
                // R12: nobody listens to what it says from now on.
                self.spoken.remove(member);
                self.votes.retain(|(voter, _), _| voter != member);
                Ok(())
            }
            Seen::Said { member, to, message: Message::Raft(message) } => {
                // A pre-vote speaks of a term that the member is not in yet.
                if !matches!(
                    message.kind,
                    RaftKind::RequestPreVote | RaftKind::RequestPreVoteResponse
                ) {
                    let spoken = self.spoken.entry(*member).or_default();
                    *spoken = (*spoken).max(message.term);
                }
                if message.kind == RaftKind::RequestVoteResponse && !message.reject {
                    let voted = *self.votes.entry((*member, message.term)).or_insert(*to);
                    if voted != *to {
                        let term = message.term;
                        return Err(format!(
                            "member {member} votes for {voted} and {to} in {term}"
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
