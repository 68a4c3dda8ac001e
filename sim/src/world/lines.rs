//! Connections between clients and members: dialled, carried piece by piece, broken at any byte.
//!
//! Leaves out what is said on them ([`super::http2`]) and the members' side ([`super::served`]).
//!
//! Laws: (1) bytes of one direction arrive in order, whatever the link does to single messages; one
//! that it would lose is sent again, later; (2) either side learns of a break in its own time, and what
//! had arrived before can still be read.
//!
//! Worked example: `dial` makes line 7; its knock comes to the member 300 µs later, and the preface
//! after it; at byte 4,312 it breaks: the member's task is told at its next read, the client 40 ms later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::rng::Rng;
use holdfast_net::sniff::{Sniffed, sniff};

use super::doing::Doing;
use super::front::Front;
use super::{Phase, World};
use crate::caller::{Caller, Habits};
use crate::clock::Moment;
use crate::history::OpId;
use crate::pipe::{Found, Piece, Pipe, Shared, Socket};
use crate::swarm::Stream;
use crate::swarm::transport::TransportMix;
use crate::workload::hostile::Hostile;

/// Who is at the near end.
pub(super) enum Who {
    Honest(Box<Caller>),
    Hostile(Box<Hostile>),
}

/// One connection.
pub(super) struct Line {
    pub host: usize,
    pub member: usize,
    /// The member's run that has taken it.
    pub life: u64,
    /// The edge of it that serves it.
    place: usize,
    pub who: Who,
    up: Shared,
    down: Shared,
    rng: Rng,
    latest: [Moment; 2],
    phase: Taken,
    /// Until then the client reads nothing.
    pub rests_until: Moment,
    /// It breaks after so many more bytes.
    cut_after: Option<usize>,
}

/// How far a member is with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It has not heard of it.
    No,
    /// The system has; the process reads its first bytes to see what it is.
    Sniffed,
    /// It is served.
    Served,
}

/// The connections of a world.
pub(super) struct Lines {
    pub all: BTreeMap<u64, Line>,
    /// The one that a host uses for its next call to a member.
    pub current: BTreeMap<(usize, usize), u64>,
    /// The call of each request that waits for its answer.
    pub ops: BTreeMap<OpId, (u64, u32)>,
    /// The call of each watching client.
    pub watches: BTreeMap<usize, super::http2::Watching>,
    next: u64,
    pub rng: Rng,
}

impl Line {
    /// A hostile client sends something, or as much of it as there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.up.borrow_mut().write(bytes);
    }
}

impl Lines {
    pub(super) fn new(seed: u64) -> Lines {
        Lines {
            all: BTreeMap::new(),
            current: BTreeMap::new(),
            ops: BTreeMap::new(),
            watches: BTreeMap::new(),
            next: 0,
            rng: Stream::Transport.rng(seed).fork(1),
        }
    }
}

impl World {
    /// How this seed's clients reach their members, in a seed where they have connections.
    pub(super) fn mix(&self) -> &TransportMix {
        self.swarm.transport.as_ref().expect("only such seeds have lines")
    }

    /// A new connection of a host to a member.
    pub(super) fn dial_line(&mut self, host: usize, member: usize, hostile: bool) -> u64 {
        self.lines.next += 1;
        let number = self.lines.next;
        let mut rng = self.lines.rng.fork(number);
        let mix = self.swarm.transport.as_ref().expect("only such seeds have lines");
        let calm = self.phase > Phase::Chaos;
        let habits = Habits {
            window: mix.window,
            connection: mix.connection,
            slow: !calm && rng.chance(mix.slow),
            odd: mix.odd,
        };
        let cut = !calm && rng.chance(mix.cut);
        let pipe = || Rc::new(RefCell::new(Pipe::new(mix.pipe_bytes, mix.piece_max)));
        let line = Line {
            host,
            member,
            life: 0,
            place: 0,
            up: pipe(),
            down: pipe(),
            latest: [self.now; 2],
            phase: Taken::No,
            rests_until: Moment(0),
            cut_after: cut.then(|| rng.between(50, 60_000) as usize),
            who: match hostile {
                true => Who::Hostile(Box::new(Hostile::new(rng.fork(1)))),
                false => Who::Honest(Box::new(Caller::new(rng.fork(1), habits))),
            },
            rng: rng.fork(2),
        };
        self.lines.all.insert(number, line);
        self.counts.connections += 1;
        let when = self.travel(number, true, 60);
        self.at(when, Doing::Knock { line: number });
        number
    }

    /// When something that is sent now arrives, in order.
    fn travel(&mut self, number: u64, up: bool, bytes: usize) -> Moment {
        let line = &self.lines.all[&number];
        let (host, member, now) = (line.host, line.member, self.now);
        let [first, _] = self.client_link(host, member, !up).send(now, bytes);
        let line = self.lines.all.get_mut(&number).expect("it is looked up above");
        let again = Duration::from_millis(200 + line.rng.below(400));
        let latest = &mut line.latest[usize::from(up)];
        let when = first.unwrap_or(now.after(again)).max(latest.after(Duration::from_nanos(1)));
        *latest = when;
        when
    }

    /// A client's first packet comes to a member's system.
    pub(super) fn knock(&mut self, number: u64) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        let slot = &mut self.members[line.member];
        let open = matches!(&slot.life, Some(life) if !life.is_stopping());
        if !open || line.phase != Taken::No {
            // Nobody listens. The client's library tries for a while before it says so.
            let patience = Duration::from_millis(line.rng.between(20, 300));
            return self.after(patience, Doing::Severed { line: number });
        }
        line.life = slot.life_number;
        // Who says nothing is found out by the transport's own patience.
        let silent = matches!(line.who, Who::Hostile(_)) && line.rng.chance(50);
        line.phase = Taken::Sniffed;
        if silent {
            self.take_line(number, Bytes::new());
        }
        self.pump(number);
    }

    /// A member's process serves a connection, of which it has read `first`.
    fn take_line(&mut self, number: u64, first: Bytes) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        line.phase = Taken::Served;
        let member = line.member;
        let socket = Socket { up: line.up.clone(), down: line.down.clone() };
        let Some(life) = &mut self.members[member].life else { return };
        let place = life.edges.place_of_connection();
        line.place = place;
        if let Front::Served(served) = life.edges.front(place) {
            served.accept(number, socket, first);
            self.poke_edge(member, place);
        }
    }

    /// Moves what both ends have to say on its way.
    pub(super) fn pump(&mut self, number: u64) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        if line.phase == Taken::No {
            return;
        }
        if let Who::Honest(caller) = &mut line.who {
            let taken = line.up.borrow_mut().write(caller.out());
            caller.out().drain(..taken);
        }
        for up in [true, false] {
            loop {
                let Some(line) = self.lines.all.get_mut(&number) else { return };
                let pipe = if up { &line.up } else { &line.down };
                let Some(piece) = pipe.borrow_mut().depart(&mut line.rng) else { break };
                let bytes = match &piece {
                    Piece::Bytes(bytes) => bytes.len(),
                    Piece::End => 0,
                };
                let chaos = self.phase == Phase::Chaos;
                let breaks = match &mut line.cut_after {
                    Some(left) if chaos && *left < bytes => true,
                    Some(left) => {
                        *left -= bytes.min(*left);
                        false
                    }
                    None => false,
                };
                let left = line.cut_after.unwrap_or(0);
                let when = self.travel(number, up, bytes.max(40));
                if !breaks {
                    self.at(when, Doing::Carry { line: number, up, piece });
                    continue;
                }
                // It breaks in the middle of this piece.
                if let Piece::Bytes(bytes) = piece {
                    let piece = Piece::Bytes(bytes.slice(..left));
                    self.at(when, Doing::Carry { line: number, up, piece });
                }
                return self.cut_line(number);
            }
        }
    }

    /// A piece arrives.
    pub(super) fn carry(&mut self, number: u64, up: bool, piece: &Piece) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        if !up {
            line.down.borrow_mut().arrive(piece);
            return self.listen(number);
        }
        let first = match piece {
            Piece::Bytes(bytes) if line.phase == Taken::Sniffed => bytes.clone(),
            _ => Bytes::new(),
        };
        line.up.borrow_mut().arrive(piece);
        let (member, life) = (line.member, line.life);
        if line.phase == Taken::Sniffed && self.members[member].lives(life) {
            // The process has read the piece from the socket to look at it, or has it before it.
            let sniffed = !first.is_empty() && sniff(&first) == Sniffed::Http2;
            let first = if sniffed { first } else { Bytes::new() };
            if !first.is_empty() {
                let line = &self.lines.all[&number];
                line.up.borrow_mut().read(&mut vec![0; first.len()]);
            }
            self.take_line(number, first);
        }
        self.poke_woken(member);
        self.pump(number);
    }

    /// A task was woken: its member looks at it soon.
    pub(super) fn poke_woken(&mut self, member: usize) {
        let Some(life) = &self.members[member].life else { return };
        let woken = life.edges.fronts().filter(|(_, front)| front.is_woken());
        for place in woken.map(|(place, _)| place).collect::<Vec<_>>() {
            self.poke_edge(member, place);
        }
    }

    /// A client reads what has come.
    pub(super) fn listen(&mut self, number: u64) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        if self.now < line.rests_until {
            return;
        }
        if let Who::Hostile(hostile) = &line.who
            && !hostile.reads()
        {
            return;
        }
        let all = line.down.borrow_mut().read_all();
        let found = line.down.borrow_mut().read(&mut []);
        let member = line.member;
        if !all.is_empty() {
            self.hear(number, &all);
        }
        if found == Found::End {
            self.severed(number);
        }
        self.poke_woken(member);
        self.pump(number);
    }

    /// The client learns that its connection is over, and forgets it.
    pub(super) fn severed(&mut self, number: u64) {
        let Some(mut line) = self.lines.all.remove(&number) else { return };
        self.lines.current.retain(|_, current| *current != number);
        let mut pipes = [line.up.borrow_mut(), line.down.borrow_mut()];
        pipes.iter_mut().for_each(|pipe| pipe.break_off());
        drop(pipes);
        self.poke_woken(line.member);
        if let Who::Honest(caller) = &mut line.who {
            let heard = caller.lose();
            let notes = caller.take_notes();
            self.tell((number, line.member, line.life), &notes, heard);
        }
    }

    /// A connection breaks; its ends learn of it in their own time.
    pub(super) fn cut_line(&mut self, number: u64) {
        let Some(line) = self.lines.all.get_mut(&number) else { return };
        line.up.borrow_mut().break_off();
        line.down.borrow_mut().break_off();
        let member = line.member;
        let delay = Duration::from_micros(1 + line.rng.below(200_000));
        self.poke_woken(member);
        self.after(delay, Doing::Severed { line: number });
        self.counts.connections_broken += 1;
    }

    /// All connections of a member break.
    pub(super) fn cut_lines(&mut self, member: usize) {
        let lines = self.lines.all.iter().filter(|(_, line)| line.member == member);
        for number in lines.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.cut_line(number);
        }
    }

    /// What a member's turn has made its connections say, and end.
    pub(super) fn pump_member(&mut self, member: usize) {
        let Some(life) = &mut self.members[member].life else { return };
        let (mut ended, mut polled) = (Vec::new(), Vec::new());
        for (_, front) in life.edges.fronts_mut() {
            if let Front::Served(served) = front {
                ended.append(&mut served.take_ended());
                polled.extend(served.take_polled());
            }
        }
        for (line, result) in ended {
            if let Err(error) = result {
                self.say(|| format!("m{member} ends connection {line}: {error}"));
            }
        }
        for number in polled {
            self.pump(number);
        }
    }
}
