//! What clients do on their connections: requests, watch streams, and what else an honest client may do
//! to a server; the hostile ones beside them; and how all of it ends.
//!
//! Leaves out bytes ([`crate::caller`]) and their way ([`super::lines`]).

use std::time::Duration;

use bytes::Bytes;
use holdfast_core::query::{Answered, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::watch::WatchRequest;
use holdfast_server::auth::Credential;

use super::doing::Doing;
use super::front::Front;
use super::lines::Who;
use super::{CLUSTER, Happening, Phase, World, member_id};
use crate::caller::{Caller, End, Heard, Kind, Note, Probe, Purpose, timeout};
use crate::checker::Seen;
use crate::clock::Moment;
use crate::history::OpId;
use crate::wire::{Breach, answer, request};

/// The call that carries a watching client's stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watching {
    line: u64,
    call: u32,
    /// The client has ended its side and only listens.
    mute: bool,
}

/// Between two looks whether a member that was told to stop has done so.
const STOP_LOOKS: Duration = Duration::from_millis(150);

/// Which connection it is, to whom, and which run of the member has it.
type Named = (u64, usize, u64);

impl World {
    /// The process that a client lives in; watching clients come after the others.
    fn host_of(&self, client: usize) -> usize {
        let mix = self.mix();
        let watches = client >= self.clients.len();
        if mix.apart && watches { mix.hosts } else { client % mix.hosts }
    }

    fn caller(&mut self, line: u64) -> Option<&mut Caller> {
        match &mut self.lines.all.get_mut(&line)?.who {
            Who::Honest(caller) => Some(caller),
            Who::Hostile(_) => None,
        }
    }

    /// The connection for a client's next call.
    fn line_for(&mut self, client: usize, member: usize) -> u64 {
        let host = self.host_of(client);
        if let Some(line) = self.lines.current.get(&(host, member)).copied()
            && self.caller(line).is_some_and(|caller| caller.may_call())
        {
            return line;
        }
        let line = self.dial_line(host, member, false);
        self.lines.current.insert((host, member), line);
        line
    }

    /// A client sends its request over HTTP/2.
    pub(super) fn call(&mut self, op: OpId, by: &Credential) {
        let record = self.history.record(op);
        let (client, member, query) = (record.client, record.member, record.query.clone());
        let line = self.line_for(client, member);
        let (mix, patience) = (self.mix(), self.swarm.work.patience);
        let (deadline, slow) = (mix.deadline, mix.slow);
        let rng = &mut self.lines.rng;
        let own =
            rng.chance(deadline).then(|| timeout(patience * rng.between(1, 150) as u32 / 100));
        let idle = rng.chance(50);
        let fidgets = self.phase < Phase::Settle && rng.chance(8);
        let rests = self.phase == Phase::Chaos && rng.chance(slow / 8);
        let asking = matches!(query, Query::LeaseKeepAlive { .. });
        let Some(caller) = self.caller(line) else { return };
        let mut more: Vec<(&str, &str)> =
            own.iter().map(|own| ("grpc-timeout", &own[..])).collect();
        more.extend(token_of(by));
        let kind = if asking { Kind::Asking } else { Kind::Unary };
        let call = caller.call(request::path(&query), kind, Purpose::Op(op), &more);
        // A client that asks again and again leaves its side open between two questions.
        caller.say(call, &request::message(&query, op), !asking || idle);
        self.lines.ops.insert(op, (line, call));
        if fidgets {
            self.fidget(line);
        }
        if rests {
            self.rest(line);
        }
        self.said(line);
    }

    /// A client has lost its patience with a request: it cancels it, or forgets it.
    pub(super) fn abandon(&mut self, op: OpId) {
        let cancel = self.mix().cancel;
        let Some((line, call)) = self.lines.ops.get(&op).copied() else { return };
        if self.phase == Phase::Chaos && self.lines.rng.chance(cancel) {
            self.lines.ops.remove(&op);
            if let Some(caller) = self.caller(line) {
                caller.reset(call);
            }
            self.said(line);
        }
    }

    /// Things that clients do besides.
    fn fidget(&mut self, line: u64) {
        let choice = self.lines.rng.below(8);
        let many = self.lines.rng.between(1, 30);
        let window = [0, 100, 5_000, 65_535, 1 << 20][self.lines.rng.below(5) as usize];
        let calm = self.phase > Phase::Chaos;
        let Some(caller) = self.caller(line) else { return };
        match choice {
            0 => (0..many).for_each(|_| caller.nag()),
            1 => caller.resize(if calm { 65_535 } else { window }),
            2..=4 => (0..many).for_each(|_| probe(caller, Probe::Unknown)),
            5 => probe(caller, Probe::Health),
            6 => probe(caller, Probe::HealthUnknown),
            _ => probe(caller, Probe::HealthWatch),
        }
    }

    /// A slow client reads nothing for a while.
    fn rest(&mut self, line: u64) {
        let lasts = Duration::from_millis(self.lines.rng.between(5, 2_500));
        let until = self.now.after(lasts);
        if let Some(line) = self.lines.all.get_mut(&line) {
            line.rests_until = line.rests_until.max(until);
        }
        self.after(lasts, Doing::Sip { line });
    }

    /// A client that was slow reads, and enlarges its windows.
    pub(super) fn sip(&mut self, line: u64) {
        if let Some(caller) = self.caller(line) {
            caller.ease();
        }
        self.said(line);
        self.listen(line);
    }

    /// What a client has said goes to the checkers and on its way.
    fn said(&mut self, line: u64) {
        let Some(of) = self.lines.all.get_mut(&line) else { return };
        let named = (line, of.member, of.life);
        let Who::Honest(caller) = &mut of.who else { return self.pump(line) };
        let notes = caller.take_notes();
        self.tell(named, &notes, Vec::new());
        self.pump(line);
    }

    /// Bytes came to a client.
    pub(super) fn hear(&mut self, line: u64, bytes: &[u8]) {
        let Some(of) = self.lines.all.get_mut(&line) else { return };
        let named = (line, of.member, of.life);
        let Who::Honest(caller) = &mut of.who else { return };
        let heard = caller.receive(bytes);
        let notes = caller.take_notes();
        let (sparing, done) =
            (caller.is_sparing(), caller.is_leaving() && caller.calls_open() == 0);
        match heard {
            Ok(heard) => self.tell(named, &notes, heard),
            Err(breach) => {
                self.tell(named, &notes, Vec::new());
                self.broke("H2", format!("connection {line} to member {}: {breach}", named.1));
                return self.cut_line(line);
            }
        }
        if sparing {
            let pause = Duration::from_millis(self.lines.rng.between(1, 400));
            self.after(pause, Doing::Sip { line });
        }
        if done {
            // Told to go elsewhere, and nothing is open.
            self.lines.current.retain(|_, current| *current != line);
        }
        self.said(line);
    }

    /// Shows what was said to the checkers, and does what it means.
    pub(super) fn tell(&mut self, named: Named, notes: &[Note], heard: Vec<Heard>) {
        let (connection, member, _) = named;
        for note in notes {
            self.say(|| format!("line {connection} to m{member}: {note:?}"));
            self.see(&Seen::Line { connection, member, note });
        }
        for heard in heard {
            match heard {
                Heard::Message(Purpose::Op(op), message) => {
                    self.answered(named, op, &message);
                    self.end_asking(op);
                }
                Heard::Message(Purpose::Watch { client, stream }, message) => {
                    self.watch_message(named, (client, stream), &message);
                }
                Heard::Message(Purpose::Probe(_), message) => {
                    // SERVING, or the NOT_SERVING of a server that stops.
                    if ![&b"\x08\x01"[..], b"\x08\x02"].contains(&&message[..]) {
                        self.broke("H1", format!("connection {connection} is told of bad health"));
                    }
                }
                Heard::Ended(purpose, message, end) => self.ended(named, purpose, message, &end),
            }
        }
    }

    fn ended(&mut self, named: Named, purpose: Purpose, message: Option<Bytes>, end: &End) {
        match purpose {
            Purpose::Op(op) => {
                self.lines.ops.remove(&op);
                self.counts.calls += u64::from(matches!(end, End::Status(..)));
                match (message, end) {
                    (Some(message), End::Status(0, _)) => self.answered(named, op, &message),
                    (_, End::Status(code, text)) => {
                        let rejection = answer::rejection(text);
                        if rejection.is_none() && ![0, 4, 8].contains(code) {
                            let what = format!("request {} ends with {code}: {text}", op.0);
                            self.broke("H1", what);
                        }
                        // What a text of the transport says is that nobody knows.
                        self.refused(named, op, rejection.unwrap_or(Rejection::Timeout));
                    }
                    _ => self.refused(named, op, Rejection::Stopped),
                }
            }
            Purpose::Watch { client, stream } => {
                self.lines.watches.remove(&client);
                self.watch_broken(client, stream);
            }
            Purpose::Probe(probe) => {
                let right = match (probe, message, end) {
                    (_, _, End::Reset(7) | End::Ignored | End::Lost) => true,
                    (Probe::Unknown, None, End::Status(12, text)) => {
                        text == "unknown method Nope for service etcdserverpb.KV"
                    }
                    (Probe::Health, Some(message), End::Status(0, _)) => {
                        &message[..] == b"\x08\x01"
                    }
                    (Probe::HealthUnknown, None, End::Status(5, text)) => text == "unknown service",
                    (_, None, End::Status(9, text)) => {
                        answer::rejection(text) == Some(Rejection::NotSupportedForLearner)
                            && self.may_learn(named.1)
                    }
                    (_, _, End::Status(8, _)) => true,
                    (_, _, End::Status(14, text)) => text == "etcdserver: server stopped",
                    _ => false,
                };
                if !right {
                    self.broke(
                        "H1",
                        format!("connection {}: {probe:?} ends with {end:?}", named.0),
                    );
                }
            }
        }
    }

    /// Whether a member may have been a learner, or none, when it was asked.
    fn may_learn(&self, member: usize) -> bool {
        member >= self.swarm.members || self.model.removed().contains(&member_id(member))
    }

    /// An answer to a request, or what it means that it cannot be read.
    fn answered(&mut self, (line, member, run): Named, op: OpId, message: &[u8]) {
        let query = &self.history.record(op).query;
        match answer::answer(query, (CLUSTER, member_id(member)), message) {
            Ok(answer) => self.answer_arrives(op, run, Ok(answer)),
            Err(breach) => {
                let what = format!("connection {line}: the answer to {query:?}: {breach}");
                self.broke("H1", what);
            }
        }
    }

    fn refused(&mut self, (_, _, run): Named, op: OpId, rejection: Rejection) {
        let answered: Answered = Err(rejection);
        self.answer_arrives(op, run, answered);
    }

    /// A stream of questions whose one question is answered is ended, in one way or the other.
    fn end_asking(&mut self, op: OpId) {
        let Some((line, call)) = self.lines.ops.get(&op).copied() else { return };
        let politely = self.lines.rng.chance(60);
        let Some(caller) = self.caller(line) else { return };
        if politely {
            caller.half_close(call);
        } else {
            caller.reset(call);
        }
    }

    /// A watching client opens its stream or says something on it.
    pub(super) fn watch_send_http2(
        &mut self,
        client: usize,
        (open, stream): (bool, u64),
        requests: &[WatchRequest],
    ) {
        if open {
            let (member, of) = (self.watchers[client].member, self.clients.len() + client);
            let by = self.watchers[client].by.clone();
            let line = self.line_for(of, member);
            let leader = self.lines.rng.chance(20);
            let Some(caller) = self.caller(line) else { return };
            let mut more = Vec::new();
            more.extend(leader.then_some(("hasleader", "true")));
            more.extend(token_of(&by));
            let purpose = Purpose::Watch { client, stream };
            let call = caller.call("/etcdserverpb.Watch/Watch", Kind::Lasting, purpose, &more);
            self.lines.watches.insert(client, Watching { line, call, mute: false });
        }
        let Some(Watching { line, call, mute: false }) = self.lines.watches.get(&client).copied()
        else {
            return;
        };
        let ends = self.phase == Phase::Chaos && self.lines.rng.chance(2);
        let Some(caller) = self.caller(line) else { return };
        for request in requests {
            caller.say(call, &request::watch(request), false);
        }
        if ends {
            caller.half_close(call);
            self.lines.watches.insert(client, Watching { line, call, mute: true });
        }
        self.said(line);
    }

    /// Whether a watching client can only listen.
    pub(super) fn is_mute(&self, client: usize) -> bool {
        self.lines.watches.get(&client).is_some_and(|watching| watching.mute)
    }

    /// A watching client gives its stream up.
    pub(super) fn leave_watch(&mut self, client: usize) {
        let Some(Watching { line, call, .. }) = self.lines.watches.remove(&client) else { return };
        if let Some(caller) = self.caller(line) {
            caller.reset(call);
        }
        self.said(line);
    }

    fn watch_message(&mut self, named: Named, (client, stream): (usize, u64), message: &[u8]) {
        let (line, member, _) = named;
        match answer::watch((CLUSTER, member_id(member)), message) {
            Ok(response) => {
                self.counts.watch_events_http2 += response.events.len() as u64;
                self.watch_heard(client, stream, &response);
            }
            Err(breach) => self.unreadable(line, client, &breach),
        }
    }

    fn unreadable(&mut self, line: u64, client: usize, breach: &Breach) {
        self.broke("V6", format!("connection {line}, watching client {client}: {breach}"));
    }

    /// Now and then an honest client asks whether its server is there; those that have nothing open do
    /// not.
    pub(super) fn keep_alive(&mut self) {
        if self.phase > Phase::Heal {
            return;
        }
        self.after(Duration::from_secs(11), Doing::KeepAlive);
        for line in self.lines.all.keys().copied().collect::<Vec<_>>() {
            if let Some(caller) = self.caller(line)
                && caller.calls_open() > 0
            {
                caller.ping();
                self.said(line);
            }
        }
    }

    /// A hostile client comes.
    pub(super) fn provoke(&mut self) {
        let Some(every) = self.mix().hostile.filter(|_| self.phase < Phase::Settle) else { return };
        let pause = every * self.lines.rng.between(20, 180) as u32 / 100;
        self.after(pause, Doing::Provoke);
        let member = self.lines.rng.below(self.members.len() as u64) as usize;
        let line = self.dial_line(0, member, true);
        self.after(Duration::from_millis(1), Doing::Prank { line, first: true });
        self.counts.hostile += 1;
    }

    /// A hostile client does the next thing.
    pub(super) fn prank(&mut self, line: u64, first: bool) {
        let pause = Duration::from_millis(self.lines.rng.between(1, 300));
        let Some(of) = self.lines.all.get_mut(&line) else { return };
        let Who::Hostile(hostile) = &mut of.who else { return };
        match hostile.step(first) {
            Some(bytes) => {
                of.push(&bytes);
                self.pump(line);
                self.after(pause, Doing::Prank { line, first: false });
            }
            None => self.cut_line(line),
        }
    }

    /// Faults have ended: from now on clients read, and enlarge their windows.
    pub(super) fn calm_lines(&mut self) {
        for line in self.lines.all.keys().copied().collect::<Vec<_>>() {
            if let Some(of) = self.lines.all.get_mut(&line) {
                of.rests_until = Moment(0);
            }
            if let Some(caller) = self.caller(line) {
                caller.calm();
            }
            self.said(line);
            self.listen(line);
        }
    }

    /// A member is told to stop, as its operator would do it.
    pub(super) fn leave(&mut self, member: usize, lasts: Duration) {
        let slot = &mut self.members[member];
        let (now, life, asked) = (slot.clock.read(self.now), slot.life_number, self.now);
        let Some(living) = &mut slot.life else { return };
        for (_, front) in living.edges.fronts_mut() {
            let Front::Served(served) = front else { return };
            served.stop(now);
        }
        let edges = living.edges.fronts().count();
        self.counts.stops += 1;
        (0..edges).for_each(|place| self.poke_edge(member, place));
        self.after(STOP_LOOKS, Doing::Left { member, life, asked, lasts });
    }

    /// On the slowest clock: the draining, what is left to write, and the last word of the client.
    fn stopped_within(&self) -> Duration {
        (self.mix().options.drain_timeout + Duration::from_secs(3)) * 2
    }

    /// A member that was told to stop ends when all its connections have, or has had its time.
    pub(super) fn left(&mut self, member: usize, life: u64, asked: Moment, lasts: Duration) {
        let slot = &self.members[member];
        let Some((_, _, connections)) = slot.held() else { return };
        if !slot.lives(life) {
            return;
        }
        let paused = slot.paused_until > asked;
        let over = self.now >= asked.after(self.stopped_within());
        if connections > 0 && !over {
            return self.after(STOP_LOOKS, Doing::Left { member, life, asked, lasts });
        }
        if !paused {
            self.emptied(member, true);
        }
        if self.phase < Phase::Parting {
            self.crash(member, false, lasts);
        }
    }

    fn emptied(&mut self, member: usize, stopped: bool) {
        let Some((calls, watches, connections)) = self.members[member].held() else { return };
        let connections = if stopped { connections } else { 0 };
        self.see(&Seen::Emptied { member, calls, watches, connections });
    }

    /// How the connections end: they are asked once more, then all calls end, then all members stop.
    pub(super) fn farewell(&mut self, stage: u8) {
        match stage {
            0 => {
                for line in self.lines.all.keys().copied().collect::<Vec<_>>() {
                    if let Some(caller) = self.caller(line) {
                        caller.ping();
                        probe(caller, Probe::Health);
                    }
                    self.said(line);
                }
            }
            1 => {
                for line in self.lines.all.keys().copied().collect::<Vec<_>>() {
                    match self.caller(line) {
                        Some(caller) => caller.reset_all(),
                        None => self.cut_line(line),
                    }
                    self.said(line);
                }
                self.after(Duration::from_secs(3), Doing::Farewell { stage: 2 });
            }
            _ => {
                for member in 0..self.members.len() {
                    self.emptied(member, false);
                    self.leave(member, Duration::ZERO);
                }
                let over = self.stopped_within() + STOP_LOOKS * 2;
                self.after(over, Happening::Phase(Phase::Over));
            }
        }
    }
}

/// How a token travels.
fn token_of(by: &Credential) -> Option<(&str, &str)> {
    match by {
        Credential::Token(token) => Some(("token", &token.0)),
        Credential::None | Credential::System => None,
    }
}

fn probe(caller: &mut Caller, probe: Probe) {
    if !caller.may_call() {
        return;
    }
    let (path, kind, message): (_, _, &[u8]) = match probe {
        Probe::Unknown => ("/etcdserverpb.KV/Nope", Kind::Unary, b""),
        Probe::Health => ("/grpc.health.v1.Health/Check", Kind::Unary, b""),
        Probe::HealthUnknown => ("/grpc.health.v1.Health/Check", Kind::Unary, b"\x0a\x01x"),
        Probe::HealthWatch => ("/grpc.health.v1.Health/Watch", Kind::Lasting, b""),
    };
    let call = caller.call(path, kind, Purpose::Probe(probe), &[]);
    caller.say(call, message, true);
}
