//! The loop that connects core and storage: step everything that happened, then act.
//!
//! [`Driver::turn`] is synchronous and has no ordering rule of its own: the node decides what waits for
//! the disk, the driver carries its orders out in sequence. The same turn runs in production and in
//! the simulator; only the shell that collects the inbox differs.
//!
//! Worked example, a put on one member: turn 1 steps `Request` and `Drained` and submits the log write;
//! turn 2 steps `Synced` and `Drained`, publishes the snapshot and replies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::id::{Incarnation, MemberId};
use holdfast_core::input::Input;
use holdfast_core::membership::Stranger;
use holdfast_core::message::{Message, PeerHello, SnapshotMeta, Transfer};
use holdfast_core::node::{self, Node};
use holdfast_core::output::{Effect, Output};
use holdfast_core::store::Fault;
use holdfast_core::time::Instant;
use holdfast_storage::disk::{Completion, Disk, DiskOp, Owner, Token};
use holdfast_storage::engine::{Engine, EngineEvent};
use holdfast_storage::wal::Wal;

use crate::boot::Booted;
use crate::host::{Event, Host, Publication};

/// How often a snapshot transfer looks for lost pieces, and a full disk for room.
const RETRY: Duration = Duration::from_millis(500);

/// One member: node, log, engine, and the world they run in.
pub struct Driver<H: Host> {
    node: Node,
    wal: Wal,
    engine: Engine,
    disk: Arc<dyn Disk>,
    member: MemberId,
    incarnation: Incarnation,
    host: H,
    output: Output,
    ops: Vec<(Token, DiskOp)>,
    transfers: Vec<(MemberId, Transfer)>,
    /// Facts that the next turn learns first: answers to orders that ended at once.
    known: VecDeque<Input>,
    /// A snapshot that is being installed, and the log's batch that must be durable before.
    installing: Option<(SnapshotMeta, u64)>,
    restored: bool,
    full: bool,
    next_retry: Instant,
}

impl<H: Host> Driver<H> {
    /// Takes over what [`boot`](crate::boot::boot) opened.
    pub fn new(booted: Booted, host: H) -> Driver<H> {
        let Booted { node, wal, engine, disk, member, incarnation, .. } = booted;
        let next_retry = host.now() + RETRY;
        Driver {
            node,
            wal,
            engine,
            disk,
            member,
            incarnation,
            host,
            output: Output::default(),
            ops: Vec::new(),
            transfers: Vec::new(),
            known: VecDeque::new(),
            installing: None,
            restored: false,
            full: false,
            next_retry,
        }
    }

    /// Steps everything in the inbox, then carries out what the node orders.
    ///
    /// # Errors
    /// The first fault of disk or state, after which the driver must be dropped: nothing it would do
    /// can be trusted.
    pub fn turn(&mut self, inbox: &mut Vec<Event>) -> Result<(), Fault> {
        let now = self.host.now();
        while let Some(input) = self.known.pop_front() {
            self.step(now, input);
        }
        for event in inbox.drain(..) {
            self.take(now, event)?;
        }
        if now >= self.next_retry {
            self.next_retry = now + RETRY;
            let events = self.engine.retry_transfers(&mut self.transfers);
            self.learn(now, events)?;
            self.tend_log();
        }
        self.observe_space(now);
        self.step(now, Input::Drained);
        self.act()?;
        self.host.turned(self.output.status, &self.output.facts);
        self.output.clear();
        Ok(())
    }

    /// When the next turn is due, whatever happens.
    pub fn deadline(&self) -> Instant {
        if self.known.is_empty() { self.node.deadline().min(self.next_retry) } else { Instant(0) }
    }

    /// What this member says of itself when a connection to a peer opens.
    pub fn hello(&self) -> PeerHello {
        PeerHello {
            incarnation: self.incarnation,
            last: self.node.durable_last(),
            birth: self.engine.birth(),
        }
    }

    /// Its consensus and state machine, to look at.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its log, to look at.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The state as last published.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The world it runs in.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The world it runs in, to collect what it was told.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    fn step(&mut self, now: Instant, input: Input) {
        self.node.step(now, input, &mut self.engine, &mut self.output);
    }

    fn take(&mut self, now: Instant, event: Event) -> Result<(), Fault> {
        match event {
            Event::Request(request) => self.step(now, Input::Request(request)),
            Event::Message { from, message: Message::Transfer(transfer) } => {
                let (ops, out) = (&mut self.ops, &mut self.transfers);
                let events = self.engine.transfer(from, transfer, ops, out);
                self.learn(now, events)?;
            }
            Event::Message { from, message } => self.step(now, Input::Message { from, message }),
            Event::Connected { peer, hello } => self.step(now, Input::Connected { peer, hello }),
            Event::Disconnected { peer } => self.step(now, Input::Disconnected { peer }),
            Event::Tell { to, message } => self.host.send(to, message),
            Event::Completed(completion) => self.complete(now, completion)?,
            Event::Expelled(why) => self.expelled(why)?,
        }
        Ok(())
    }

    fn expelled(&self, why: Stranger) -> Result<(), Fault> {
        match why {
            Stranger::Removed => Err(node::removed(self.member)),
            Stranger::Reborn => Err(node::reborn(self.member)),
            Stranger::Unknown => Ok(()), // not yet
        }
    }

    fn complete(&mut self, now: Instant, completion: Completion) -> Result<(), Fault> {
        let Completion { token, result } = completion;
        match token.owner {
            Owner::Wal => {
                if let Some(seq) = self.wal.completed(token.number, result, &mut self.ops)? {
                    self.step(now, Input::Synced { seq });
                }
                self.install();
            }
            Owner::Engine => {
                let events = self.engine.completed(token.number, result, &mut self.ops);
                self.engine.outgoing(&mut self.transfers);
                self.learn(now, events)?;
            }
        }
        Ok(())
    }

    /// What the engine says becomes what the node learns.
    fn learn(&mut self, now: Instant, events: Vec<EngineEvent>) -> Result<(), Fault> {
        for event in events {
            match event {
                EngineEvent::Flushed { at } => self.step(now, Input::Flushed { at }),
                EngineEvent::CheckpointFailed { cause } => {
                    self.host.warn(&format!("no checkpoint could be made: {cause}"));
                    self.step(now, Input::FlushFailed);
                }
                EngineEvent::Staged { from, term, meta } => {
                    self.step(now, Input::Staged { from, term, meta });
                }
                EngineEvent::Installed { meta, .. } => {
                    self.restored = true;
                    self.step(now, Input::Installed { meta });
                }
                EngineEvent::Shipped { to, complete } => {
                    self.step(now, Input::Shipped { to, complete });
                }
                EngineEvent::Poisoned(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Puts a staged snapshot to use once the log says that it goes on behind it: a log that says so too
    /// early is undone by recovery, a checkpoint that the log does not reach could not be.
    fn install(&mut self) {
        let durable = self.wal.durable();
        if let Some((meta, _)) = self.installing.take_if(|(_, number)| *number <= durable) {
            self.engine.install(&meta, &mut self.ops);
        }
    }

    /// What the log wants now and then: another attempt at a segment that did not fit, and a seal.
    fn tend_log(&mut self) {
        self.wal.retry(&mut self.ops);
        if self.installing.is_none() {
            // An idle log proves once that its last batch was durable. Not between a restart mark and
            // its superblock: recovery takes a batch behind the mark as proof of the superblock.
            self.wal.seal(&mut self.ops);
        }
    }

    /// Tells the node when the log cannot grow, and when it can again: writes that need room are then
    /// refused before they are proposed. At once, since what is left of the present segment is for
    /// deletes, and fast writers fill it within a fraction of a second.
    fn observe_space(&mut self, now: Instant) {
        while let Some(event) = self.wal.take_event() {
            self.host.warn(&event.to_string());
        }
        let full = self.wal.is_full();
        if full != self.full {
            self.full = full;
            self.step(now, Input::Space { full });
        }
    }

    fn act(&mut self) -> Result<(), Fault> {
        let mut effects = std::mem::take(&mut self.output.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Append(append) => self.wal.append(append, &mut self.ops),
                Effect::Send { to, message } => {
                    self.start_disk();
                    self.host.send(to, message);
                }
                Effect::Publish { events, tokens } => {
                    let snapshot = self.engine.publish();
                    let restored = std::mem::take(&mut self.restored);
                    self.host.publish(Publication { snapshot, events, tokens, restored });
                }
                Effect::Reply { id, result } => self.host.reply(id, result),
                effect => self.housekeep(effect)?,
            }
        }
        self.output.effects = effects;
        self.start_disk();
        for (to, transfer) in self.transfers.drain(..) {
            self.host.send(to, Message::Transfer(transfer));
        }
        Ok(())
    }

    fn housekeep(&mut self, effect: Effect) -> Result<(), Fault> {
        match effect {
            Effect::Flush { meta } => {
                if !self.engine.begin_checkpoint(meta, &mut self.ops) {
                    self.known.push_back(Input::FlushFailed);
                }
            }
            Effect::Purge { upto } => self.wal.purge(upto, &mut self.ops),
            Effect::Fetch { number, from, below, bytes_max } => {
                let entries = self.wal.entries(&*self.disk, from, below, bytes_max)?;
                self.known.push_back(Input::Fetched { number, entries });
            }
            Effect::Ship { to, meta, term } => {
                if !self.engine.ship(to, &meta, term, &mut self.transfers) {
                    self.known.push_back(Input::Shipped { to, complete: false });
                }
            }
            Effect::Install { meta, hard_state } => {
                let number = self.wal.restart_at(meta.at, hard_state, &mut self.ops);
                self.installing = Some((meta, number));
            }
            Effect::Discard { at } => self.engine.discard(at, &mut self.ops),
            Effect::Membership(membership) => self.host.membership(membership),
            Effect::Halt(fault) => return Err(fault),
            Effect::Append(_)
            | Effect::Send { .. }
            | Effect::Publish { .. }
            | Effect::Reply { .. } => {
                unreachable!("carried out by the caller")
            }
        }
        Ok(())
    }

    /// Gives the disk what has gathered: before anything else is done, so that it works meanwhile.
    fn start_disk(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        for (token, op) in self.ops.drain(..) {
            self.host.submit(token, op);
        }
        self.host.kick();
    }
}
