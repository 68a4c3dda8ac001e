//! Carries out the steps of errands and sends snapshots: calls that are more than one question.
//!
//! Laws:
//!  1. What an errand asks goes to the edge as a call of the process's own; its watch is a stream of the
//!     member's hub like a client's. Both end with the errand.
//!  2. A stream that can take no more is not given more: its errand or snapshot goes on when there is
//!     room. What a watch has told is sent all the same, since the hub does not take it back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_core::query::{Answered, Query};
use holdfast_core::watch::{WatchCreate, WatchRequest, WatchResponse, WatchStreamId};
use holdfast_net::call::{GrpcStatus, Method, StreamId};
use holdfast_net::wire;

use super::{Open, Sessions};
use crate::auth::Credential;
use crate::backup::Backup;
use crate::edge::Asked;
use crate::errand::{Errand, Step};

/// Calls under way that take several requests.
#[derive(Default)]
pub(super) struct Errands {
    /// Each with who is asking: what it asks is asked in the caller's name.
    open: BTreeMap<StreamId, (Errand, Credential)>,
    /// Whose errand a call of the process's own belongs to.
    asked: BTreeMap<StreamId, StreamId>,
    /// Whose errand a watch of the process's own belongs to, and the other way round.
    watches: BTreeMap<StreamId, StreamId>,
    watching: BTreeMap<StreamId, StreamId>,
    /// Errands that go on once their stream has room.
    paused: BTreeSet<StreamId>,
    /// Snapshots under way.
    backups: BTreeMap<StreamId, Backup>,
}

impl Sessions {
    /// A call that is an errand begins.
    pub(super) fn begin_errand(
        &mut self,
        (stream, by): (StreamId, Credential),
        (method, message): (Method, &Bytes),
    ) {
        match Errand::begin((method, message), self.origin, &self.limits) {
            Err(status) => self.end(stream, status),
            Ok((errand, step)) => {
                self.calls.insert(stream, Open::new(method, false));
                self.errands.open.insert(stream, (errand, by));
                self.carry_out(stream, step);
            }
        }
    }

    /// A snapshot is asked for.
    pub(super) fn begin_backup(&mut self, (stream, by): (StreamId, Credential), message: &Bytes) {
        if let Err(rejection) = self.edge.permit_admin(&by) {
            return self.end(stream, wire::status_of(rejection));
        }
        use holdfast_net::proto::etcdserverpb::SnapshotRequest;
        match wire::decode_message::<SnapshotRequest>(message) {
            Err(status) => self.end(stream, status),
            Ok(_) => {
                self.calls.insert(stream, Open::new(Method::Snapshot, false));
                let backup = Backup::new(self.edge.snapshot().clone());
                self.errands.backups.insert(stream, backup);
                (self.wake)();
            }
        }
    }

    /// Takes an answer, if it is an errand's.
    pub(super) fn errand_answered(
        &mut self,
        call: StreamId,
        answered: Answered,
    ) -> Option<Answered> {
        let Some(owner) = self.errands.asked.remove(&call) else { return Some(answered) };
        if let Some((errand, _)) = self.errands.open.get_mut(&owner) {
            let step = errand.answered(answered);
            self.carry_out(owner, step);
        }
        None
    }

    /// Takes what a watch says, if it is an errand's.
    pub(super) fn errand_watched(&mut self, watch: StreamId) -> bool {
        let Some(owner) = self.errands.watches.get(&watch).copied() else { return false };
        let mut responses = std::mem::take(&mut self.scratch);
        let read = self.edge.poll_watch(WatchStreamId(watch.0), &mut responses);
        if read.is_err() {
            self.end(owner, wire::status_of(holdfast_core::rejection::Rejection::Corrupt));
        }
        for response in responses.drain(..) {
            // A step may have ended this watch: what it has said beyond is of no interest.
            if self.errands.watching.get(&owner) == Some(&watch) {
                self.tell_errand(owner, &response);
            }
        }
        self.scratch = responses;
        true
    }

    fn tell_errand(&mut self, owner: StreamId, response: &WatchResponse) {
        if let Some((errand, _)) = self.errands.open.get_mut(&owner) {
            let step = errand.watched(response);
            self.carry_out(owner, step);
        }
    }

    /// A stream has room again.
    pub(super) fn resume_errand(&mut self, stream: StreamId) {
        if !self.errands.paused.remove(&stream) {
            return;
        }
        if let Some((errand, _)) = self.errands.open.get_mut(&stream) {
            let step = errand.sent();
            self.carry_out(stream, step);
        }
    }

    /// The call is over, or nobody waits for it any more.
    pub(super) fn forget_errand(&mut self, stream: StreamId, abandoned: bool) {
        self.unwatch(stream);
        self.errands.paused.remove(&stream);
        self.errands.backups.remove(&stream);
        let Some((errand, by)) = self.errands.open.remove(&stream) else { return };
        if let Some(query) = errand.abandoned().filter(|_| abandoned) {
            // Nobody hears of the answer.
            self.ask_for((stream, by), query);
        }
    }

    /// Sends pieces of snapshots, as far as this turn's share and the streams allow.
    pub(super) fn send_backups(&mut self) {
        let streams: Vec<StreamId> = self.errands.backups.keys().copied().collect();
        for stream in streams {
            self.send_backup(stream);
        }
    }

    /// Whether something is to be sent without a turn of the driver.
    pub(super) fn backups_wait(&self) -> bool {
        self.errands.backups.keys().any(|stream| !self.full.contains(stream))
    }

    fn send_backup(&mut self, stream: StreamId) {
        while !self.full.contains(&stream) && !self.edge.spare().is_spent() {
            let Some(mut backup) = self.errands.backups.remove(&stream) else { return };
            match backup.next(self.edge.spare()) {
                Ok(Some((message, last))) => {
                    if !last {
                        self.errands.backups.insert(stream, backup);
                    }
                    self.send(stream, message, last);
                    if last {
                        self.calls.remove(stream);
                    }
                }
                Ok(None) => {
                    self.errands.backups.insert(stream, backup);
                }
                Err(rejection) => self.end(stream, wire::status_of(rejection)),
            }
        }
    }

    fn carry_out(&mut self, stream: StreamId, step: Step) {
        if !matches!(step, Step::Wait | Step::Tell(..)) {
            self.unwatch(stream);
        }
        match step {
            Step::Ask(query) => {
                if let Some((_, by)) = self.errands.open.get(&stream) {
                    let by = by.clone();
                    self.ask_for((stream, by), query);
                }
            }
            Step::Watch(keys, from) => self.watch_for(stream, keys, from),
            Step::Wait => {}
            Step::Send(message) => {
                self.errands.paused.insert(stream);
                self.send(stream, message, false);
                if !self.full.contains(&stream) {
                    self.resume_errand(stream);
                }
            }
            Step::Tell(messages, then) => {
                messages.into_iter().for_each(|message| self.send(stream, message, false));
                if self.errands.open.contains_key(&stream) {
                    self.carry_out(stream, *then);
                }
            }
            Step::Done(message) => {
                self.finish_errand(stream);
                self.send(stream, message, true);
            }
            Step::End(status) => self.fail_errand(stream, status),
        }
    }

    fn fail_errand(&mut self, stream: StreamId, status: GrpcStatus) {
        self.finish_errand(stream);
        self.end(stream, status);
    }

    fn finish_errand(&mut self, stream: StreamId) {
        self.forget_errand(stream, false);
        self.calls.remove(stream);
    }

    fn ask_for(&mut self, (owner, by): (StreamId, Credential), query: Query) {
        self.next_internal += 1;
        let call = StreamId(self.next_internal);
        self.errands.asked.insert(call, owner);
        let now = (self.clock)();
        self.edge.ask(now, Asked { call, query, by }, &mut self.inbox);
        (self.wake)();
    }

    fn watch_for(&mut self, owner: StreamId, keys: holdfast_core::request::KeyRange, start: i64) {
        let Some((_, by)) = self.errands.open.get(&owner) else { return };
        let by = by.clone();
        self.next_internal += 1;
        let watch = StreamId(self.next_internal);
        self.errands.watches.insert(watch, owner);
        self.errands.watching.insert(owner, watch);
        let now = (self.clock)();
        let create = WatchCreate {
            id: 0,
            keys,
            start,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            prev_kv: false,
            fragment: false,
        };
        let id = WatchStreamId(watch.0);
        self.edge.watches().0.open(id, now);
        self.edge.watch(now, id, (WatchRequest::Create(create), &by));
        (self.wake)();
    }

    fn unwatch(&mut self, owner: StreamId) {
        if let Some(watch) = self.errands.watching.remove(&owner) {
            self.errands.watches.remove(&watch);
            self.edge.watches().0.close(WatchStreamId(watch.0));
        }
    }
}
