//! Who is in the cluster, as etcd's rules have it: a map, a set, and the checks in etcd's order.
//!
//! Leaves out the checks before the log (strict reconfiguration, how far a learner has come).

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::id::MemberId;
use holdfast_core::membership::MemberChange;
use holdfast_core::query::AnswerBody;
use holdfast_core::rejection::Rejection;
use holdfast_core::response::Member;

/// The members of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pub all: BTreeMap<MemberId, Member>,
    pub removed: BTreeSet<MemberId>,
}

impl Members {
    pub fn publish(&mut self, id: MemberId, name: &str, urls: &[String]) {
        if let Some(member) = self.all.get_mut(&id) {
            member.name = name.to_string();
            member.client_urls = urls.to_vec();
        }
    }

    pub fn change(&mut self, change: &MemberChange) -> Result<AnswerBody, Rejection> {
        let id = change.id();
        if self.removed.contains(&id) {
            return Err(Rejection::MemberNotFound);
        }
        let known = self.all.get(&id).cloned();
        if let MemberChange::Add { peer_urls, is_learner, learners_max, .. } = change {
            return self.add(id, peer_urls, (*is_learner, *learners_max));
        }
        let Some(mut member) = known else { return Err(Rejection::MemberNotFound) };
        match change {
            MemberChange::Promote { .. } if !member.is_learner => {
                return Err(Rejection::MemberNotLearner);
            }
            MemberChange::Promote { .. } => member.is_learner = false,
            MemberChange::ForceNew { .. } => {
                member.is_learner = false;
                self.removed.extend(self.all.keys().filter(|other| **other != id));
                self.all.clear();
            }
            MemberChange::Update { peer_urls, .. } => {
                if self.taken(id, peer_urls) {
                    return Err(Rejection::PeerUrlExists);
                }
                member.peer_urls = peer_urls.clone();
            }
            _ => {
                let others = self.all.values().filter(|other| other.id != id);
                if !member.is_learner && others.filter(|other| !other.is_learner).count() == 0 {
                    return Err(Rejection::NotEnoughStarted);
                }
                self.all.remove(&id);
                self.removed.insert(id);
                return Ok(self.list());
            }
        }
        self.all.insert(id, member);
        Ok(self.list())
    }

    fn add(
        &mut self,
        id: MemberId,
        urls: &[String],
        (is_learner, most): (bool, u64),
    ) -> Result<AnswerBody, Rejection> {
        if self.all.contains_key(&id) {
            return Err(Rejection::MemberExists);
        }
        if self.taken(id, urls) {
            return Err(Rejection::PeerUrlExists);
        }
        let learners = self.all.values().filter(|member| member.is_learner).count() as u64;
        if is_learner && learners + 1 > most {
            return Err(Rejection::TooManyLearners);
        }
        let member = Member { id, peer_urls: urls.to_vec(), is_learner, ..Member::default() };
        self.all.insert(id, member.clone());
        Ok(AnswerBody::MemberAdd { member, members: self.all.values().cloned().collect() })
    }

    fn taken(&self, id: MemberId, urls: &[String]) -> bool {
        let mut others = self.all.values().filter(|member| member.id != id);
        others.any(|other| other.peer_urls.iter().any(|url| urls.contains(url)))
    }

    fn list(&self) -> AnswerBody {
        AnswerBody::Members(self.all.values().cloned().collect())
    }
}
