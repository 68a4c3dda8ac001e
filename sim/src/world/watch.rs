//! Watch streams between clients and the edges' hubs.

use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_core::watch::{WatchRequest, WatchResponse, WatchStreamId};

use holdfast_server::auth::Credential;

use super::front::{Direct, Front};
use super::{Happening, Phase, World};
use crate::checker::Seen;
use crate::clock::Moment;
use crate::workload::Told;

/// Responses under way on one stream at most; beyond that the member must wait, as it does for a
/// slow client.
const WINDOW: u32 = 4;

/// The way back of a watching client's present stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamState {
    in_flight: u32,
    latest: Moment,
    /// When the last thing that its client has said arrives.
    latest_up: Moment,
    /// The stream that has lost a message.
    dead: Option<u64>,
}

impl World {
    /// A watching client opens a stream, asks something, or leaves its member.
    pub(super) fn watch_act(&mut self, client: usize) {
        if self.phase > Phase::Settle {
            return;
        }
        if self.phase > Phase::Chaos && self.is_mute(client) {
            self.leave_watch(client);
            self.watchers[client].lost();
        }
        if self.phase > Phase::Heal && self.watchers[client].stream.is_some() {
            self.after(Duration::from_secs(1), Happening::WatchAct { client });
            let mut requests = self.watchers[client].revive();
            requests.push(WatchRequest::Progress);
            self.watch_send(client, false, requests);
            return;
        }
        let pause = Duration::from_millis(100 + self.chance.below(900));
        self.after(pause, Happening::WatchAct { client });
        if self.watchers[client].stream.is_none() {
            let requests = self.watchers[client].open(self.members.len());
            self.borrow_account(client);
            self.watchers[client].member = self.in_use(self.watchers[client].member);
            self.streams[client] = StreamState::default();
            return self.watch_send(client, true, requests);
        }
        let told = Told { revision: self.model.revision().0, compacted: self.model.compacted().0 };
        match self.watchers[client].act(told) {
            Some(requests) => self.watch_send(client, false, requests),
            None => {
                self.leave_watch(client);
                self.watchers[client].lost();
            }
        }
    }

    fn watch_send(&mut self, client: usize, open: bool, requests: Vec<WatchRequest>) {
        let Some(stream) = self.watchers[client].stream else { return };
        for request in &requests {
            if let WatchRequest::Create(create) = request {
                let watcher = &self.watchers[client];
                let (spec, member) = (watcher.spec(create.id).clone(), watcher.member);
                let user = watcher.user.clone();
                self.see(&Seen::WatchAsked { spec: &spec, stream, member, user: user.as_deref() });
            }
        }
        if self.swarm.transport.is_some() {
            return self.watch_send_http2(client, (open, stream), &requests);
        }
        let member = self.watchers[client].member;
        let (now, link) = (self.now, self.clients.len() + client);
        let [first, _] = self.client_link(link, member, false).send(now, 100);
        let state = &mut self.streams[client];
        match first.filter(|_| state.dead != Some(stream)) {
            Some(when) => {
                let when = when.max(state.latest_up.after(Duration::from_nanos(1)));
                state.latest_up = when;
                self.at(when, Happening::WatchAsk { client, stream, open, requests });
            }
            // A stream that loses a message is broken: nothing after it is heard.
            None => {
                state.dead = Some(stream);
                self.after(Duration::from_secs(1), Happening::WatchBroken { client, stream });
            }
        }
    }

    /// A watching client has the token that one of the others has now.
    fn borrow_account(&mut self, client: usize) {
        let lender = (client + 1) % self.clients.len();
        let Some(account) = &self.clients[lender].account else { return };
        let by = account.credential();
        let watcher = &mut self.watchers[client];
        watcher.user = (by != Credential::None).then(|| account.name.clone());
        watcher.by = by;
    }

    pub(super) fn watch_asked(
        &mut self,
        client: usize,
        stream: u64,
        open: bool,
        requests: Vec<WatchRequest>,
    ) {
        if self.watchers[client].stream != Some(stream) {
            return;
        }
        let member = self.watchers[client].member;
        let id = WatchStreamId((client as u64) << 32 | stream);
        let life = self.members[member].life.as_mut().filter(|life| !life.is_learner());
        let place = life.as_ref().map_or(0, |life| life.edges.place_of(client + stream as usize));
        match life.map(|life| life.edges.front(place)) {
            Some(Front::Direct(direct)) if open || direct.streams.contains_key(&id) => {
                direct.streams.insert(id, (client, stream));
                direct.watch_asks.push((id, open, requests));
                self.poke_edge(member, place);
            }
            // The member restarted, or has not seen the opening: it resets the stream.
            _ => self.after(Duration::from_millis(2), Happening::WatchBroken { client, stream }),
        }
    }

    /// The watches' part of a turn, as far as its share goes: a stream that has more to say is named
    /// again.
    pub(super) fn serve_watches(&mut self, member: usize, direct: &mut Direct, now: Instant) {
        self.take_watch_asks(direct, now);
        while let Some(id) = direct.edge.next_watch() {
            let Some((client, stream)) = direct.streams.get(&id).copied() else { continue };
            if self.streams[client].in_flight >= WINDOW {
                direct.blocked.insert(id);
                continue;
            }
            let mut responses = Vec::new();
            if let Err(fault) = direct.edge.poll_watch(id, &mut responses) {
                let violation = format!("member {member} cannot read for a watcher: {fault}");
                return self.broke("P1", violation);
            }
            self.watch_tell(member, client, stream, responses);
        }
    }

    /// What has happened to streams since the last turn: requests, progress due, clients that have
    /// left, and clients that can take more now.
    fn take_watch_asks(&mut self, direct: &mut Direct, now: Instant) {
        for (id, open, requests) in direct.watch_asks.drain(..) {
            if open {
                direct.edge.watches().0.open(id, now);
            }
            let by = &self.watchers[direct.streams[&id].0].by;
            for request in requests {
                direct.edge.watch(now, id, (request, by));
            }
        }
        let hub = direct.edge.watches().0;
        hub.tick(now);
        let watchers = &self.watchers;
        direct.streams.retain(|id, (client, stream)| {
            let alive = watchers[*client].stream == Some(*stream);
            if !alive {
                hub.close(*id);
            }
            alive
        });
        for id in std::mem::take(&mut direct.blocked) {
            hub.resume(id);
        }
    }

    fn watch_tell(
        &mut self,
        member: usize,
        client: usize,
        stream: u64,
        responses: Vec<WatchResponse>,
    ) {
        let (now, link) = (self.now, self.clients.len() + client);
        for response in responses {
            let [first, _] = self.client_link(link, member, true).send(now, 200);
            let state = &mut self.streams[client];
            let Some(when) = first.filter(|_| state.dead != Some(stream)) else {
                // A stream that loses a message is broken: nothing after it may be seen.
                state.dead = Some(stream);
                let delay = Duration::from_millis(5);
                return self.after(delay, Happening::WatchBroken { client, stream });
            };
            // A stream keeps its order, whatever the link does.
            let when = when.max(state.latest.after(Duration::from_nanos(1)));
            state.latest = when;
            state.in_flight += 1;
            self.at(when, Happening::WatchTell { client, stream, response: Box::new(response) });
        }
    }

    pub(super) fn watch_told(&mut self, client: usize, stream: u64, response: &WatchResponse) {
        if self.watchers[client].stream != Some(stream) {
            return;
        }
        self.streams[client].in_flight -= 1;
        if self.streams[client].in_flight + 1 == WINDOW {
            let member = self.watchers[client].member;
            let life = self.members[member].life.as_ref();
            let place = life.map_or(0, |life| life.edges.place_of(client + stream as usize));
            self.poke_edge(member, place);
        }
        if self.streams[client].dead != Some(stream) {
            self.watch_heard(client, stream, response);
        }
    }

    /// A client takes a response of its stream.
    pub(super) fn watch_heard(&mut self, client: usize, stream: u64, response: &WatchResponse) {
        if self.watchers[client].stream != Some(stream) {
            return;
        }
        let mut notices = Vec::new();
        if let Err(breach) = self.watchers[client].receive(response, &mut notices) {
            self.broke("W0", breach);
        }
        for (spec, notice) in &notices {
            self.see(&Seen::Noticed { spec, notice });
        }
        self.counts.watch_events += response.events.len() as u64;
        let highest = notices.iter().filter_map(|(_, notice)| match notice {
            crate::workload::watch::Notice::Events(events) => {
                events.iter().map(|event| event.revision).max()
            }
            _ => None,
        });
        if let Some(revision) = highest.max() {
            self.history.raise_floor(revision);
        }
    }

    pub(super) fn watch_broken(&mut self, client: usize, stream: u64) {
        if self.watchers[client].stream == Some(stream) {
            self.watchers[client].lost();
        }
    }
}
