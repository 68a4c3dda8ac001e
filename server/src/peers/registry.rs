//! Who the peers are, as far as this member knows, while that changes.
//!
//! Leaves out the connections themselves.
//!
//! Laws:
//!  1. A member of the state has a queue and is dialled at its peer URLs; one that was removed has none.
//!  2. A peer that the state does not list is dialled at the URLs it told, up to [`REMOTES_MAX`] of
//!     them, until the state says that it was removed.
//!  3. A member is not talked to with another birth than the state has, or than it told before in
//!     this run.
//!
//! Worked example: n4 was added while n3 was down. n3 starts, knows nothing of n4, accepts its
//! connection and dials back; when n3 has caught up, n4 is a member like the others.

use std::rc::Rc;

use holdfast_core::id::MemberId;
use holdfast_core::membership::{Membership, Stranger};
use holdfast_net::peer::{Refusal, Roster};

use super::{Peers, Queue};
use crate::runtime::Runtime;

/// Peers that the state does not list, at the same time.
const REMOTES_MAX: usize = 16;

impl Peers {
    /// Talks to these members from now on, and to no removed ones.
    pub fn update<R: Runtime>(self: &Rc<Peers>, runtime: &R, membership: Membership) {
        let own = self.local.borrow().member;
        for member in membership.members.values().filter(|member| member.id != own) {
            self.dial_at(runtime, member.id, &member.peer_urls);
        }
        self.queues.borrow_mut().retain(|peer, queue| {
            let gone = membership.removed.contains(peer);
            if gone {
                queue.gone.set(true);
                queue.ring.notify_one();
            }
            !gone
        });
        *self.known.borrow_mut() = membership;
    }

    /// Why a peer must not be talked to.
    pub(super) fn objection(&self, peer: MemberId, birth: u64) -> Option<Refusal> {
        match self.known.borrow().objection(peer, birth) {
            Some(Stranger::Removed) => return Some(Refusal::Removed),
            Some(Stranger::Reborn) => return Some(Refusal::Reborn),
            Some(Stranger::Unknown) | None => {}
        }
        let before = *self.births.borrow_mut().entry(peer).or_insert(birth);
        (before != birth).then_some(Refusal::Reborn)
    }

    /// A peer has connected; says why it is not welcome, if it is not.
    pub(super) fn welcome<R: Runtime>(
        self: &Rc<Peers>,
        runtime: &R,
        peer: MemberId,
        birth: u64,
        urls: Vec<String>,
    ) -> Option<Refusal> {
        let objection = self.objection(peer, birth);
        if objection.is_some() || self.queues.borrow().contains_key(&peer) {
            return objection;
        }
        let listed = self.known.borrow().members.len();
        if urls.is_empty() || self.queues.borrow().len() >= listed + REMOTES_MAX {
            return Some(Refusal::Unknown);
        }
        self.dial_at(runtime, peer, &urls);
        None
    }

    /// What somebody who wants to join is told.
    pub(super) fn roster(&self) -> Roster {
        Roster {
            cluster: self.local.borrow().cluster,
            members: self.known.borrow().members.values().cloned().collect(),
            genesis: self.genesis.clone(),
        }
    }

    fn dial_at<R: Runtime>(self: &Rc<Peers>, runtime: &R, peer: MemberId, urls: &[String]) {
        let addresses: Vec<String> = urls.iter().map(|url| address_of(url)).collect();
        let known = self.queues.borrow().get(&peer).cloned();
        let Some(queue) = known else {
            let queue = Rc::new(Queue::default());
            *queue.addresses.borrow_mut() = addresses;
            self.queues.borrow_mut().insert(peer, queue.clone());
            return self.dial(runtime, peer, queue);
        };
        if *queue.addresses.borrow() != addresses {
            *queue.addresses.borrow_mut() = addresses;
            queue.moved.set(true);
            queue.ring.notify_one();
        }
    }
}

/// `host:port` of a peer URL.
pub(crate) fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_string()
}
