//! Calls whose token names a log entry that this member has not applied: they wait for it.
//!
//! Laws:
//!  1. A call waits no longer than a request may; then its token is judged as it is.
//!  2. The requests of one watch stream keep their order: while one waits, so do those behind it.
//!  3. Only a bounded number waits, for each may hold as much as a request; others are judged at once.
//!
//! Worked example: a client logs in on member 1 and asks member 3, which is behind. What it asks is
//! taken up with the publication that brings its entry.

use holdfast_core::id::Index;
use holdfast_core::machine::guard::Act;
use holdfast_core::mutant;
use holdfast_core::rejection::Rejection;
use holdfast_core::store::View;
use holdfast_core::time::Instant;
use holdfast_core::watch::{WatchRequest, WatchStreamId};
use holdfast_net::wire;

use super::{Asked, Edge};
use crate::auth::Credential;

/// See the module.
#[derive(Debug)]
pub(super) struct Parked {
    index: Index,
    deadline: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Ask(Box<Asked>),
    Watch(WatchStreamId, WatchRequest, Credential),
}

impl Edge {
    /// The client of a watch stream asks something; a watcher it creates must be its to read.
    pub fn watch(
        &mut self,
        now: Instant,
        stream: WatchStreamId,
        (request, by): (WatchRequest, &Credential),
    ) {
        self.tick(now);
        let behind = self.parked.iter().find_map(|parked| match &parked.what {
            What::Watch(waiting, ..) if *waiting == stream => Some(parked.index),
            _ => None,
        });
        match behind.or_else(|| self.must_wait(by)) {
            Some(index) => self.park_until(index, What::Watch(stream, request, by.clone())),
            None => self.watch_now(now, stream, (request, by)),
        }
    }

    /// Gives the query back unless it waits now.
    pub(super) fn park(&mut self, asked: Asked) -> Option<Asked> {
        match self.must_wait(&asked.by) {
            Some(index) => {
                self.park_until(index, What::Ask(Box::new(asked)));
                None
            }
            None => Some(asked),
        }
    }

    /// Takes up what can be judged now.
    pub(super) fn judge_parked(&mut self, now: Instant) {
        if self.parked.is_empty() {
            return;
        }
        let applied = self.source.snapshot.mark().applied.index;
        self.take_up(now, |parked| parked.index <= applied);
    }

    /// Law 1.
    pub(super) fn expire_parked(&mut self, now: Instant) {
        if self.parked.first().is_some_and(|oldest| oldest.deadline <= now) {
            self.take_up(now, |parked| parked.deadline <= now);
        }
    }

    fn take_up(&mut self, now: Instant, ready: impl Fn(&Parked) -> bool) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        for parked in std::mem::take(&mut self.parked) {
            if !ready(&parked) {
                self.parked.push(parked);
                continue;
            }
            match parked.what {
                What::Ask(asked) => self.ask_now(now, *asked, &mut outgoing),
                What::Watch(stream, request, by) => {
                    self.watch_now(now, stream, (request, &by));
                }
            }
        }
        self.outgoing = outgoing;
    }

    fn must_wait(&self, by: &Credential) -> Option<Index> {
        let applied = self.source.snapshot.mark().applied.index;
        let index = self.access.waits_for(by).filter(|index| *index > applied)?;
        (self.parked.len() < self.config.auth.waiting_max).then_some(index)
    }

    fn park_until(&mut self, index: Index, what: What) {
        let deadline = self.now + self.config.limits.request_timeout;
        self.parked.push(Parked { index, deadline, what });
    }

    /// A start that is negative is refused before rights are asked for, everything else after (surface
    /// 1.10 rows 3 to 6).
    fn watch_now(
        &mut self,
        now: Instant,
        stream: WatchStreamId,
        (request, by): (WatchRequest, &Credential),
    ) {
        let permitted = match &request {
            WatchRequest::Create(create) if create.start >= 0 && !mutant::on(92) => {
                self.access.permit(&self.source.snapshot, by, Act::Range(&create.keys))
            }
            _ => Ok(()),
        };
        match permitted {
            Ok(()) => self.hub.request(now, stream, request, &self.source.snapshot),
            Err(rejection) => {
                self.hub.refuse(stream, &rendered(rejection), &self.source.snapshot);
            }
        }
    }
}

/// How gRPC for Go prints a status, which is what etcd tells a watcher (surface 1.10 row 6).
fn rendered(rejection: Rejection) -> String {
    let status = wire::status_of(rejection);
    format!("rpc error: code = {:?} desc = {}", status.code, status.message)
}
