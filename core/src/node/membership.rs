//! Membership changes on their way through a node: checked where they were asked, proposed by the
//! leader one at a time, effective when applied; and the end of a member that was removed.
//!
//! A change that was asked elsewhere than at the leader is forwarded as a proposal. The leader keeps
//! it until no other is pending, because the raft crate would put an empty entry in its place. Only
//! the leader knows how far a learner has come: what it refuses, it tells the member that asked.
//!
//! A leader that shall remove itself hands over first and lets its successor propose that. One that
//! finds its removal in the log it was elected with resigns when it applies it.
//!
//! A removed member goes on for some election timeouts before it halts. Until then it answers, so that
//! a member that does not know yet that the removal is committed can still reach the majority of
//! before: the removed one's vote may be needed for that.
//!
//! Laws:
//!  1. Whom raft counts is exactly whom the replicated table lists.
//!  2. After a change the commit index is written down at once: a restart must not need the votes of
//!     members that have left since.
//!  3. A removed member's messages are dropped.
//!
//! Worked example: n2 is asked to promote n4: `Propose [promote n4]` to the leader n1, which has
//! matched 95 of 100 entries of n4 and proposes; had it been 80, n2 would have got `ChangeRefused`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::codec;
use crate::command::Command;
use crate::entry::{Append, Entry};
use crate::fact::Fact;
use crate::id::{Index, MemberId, Position, RequestId};
use crate::machine::{self, Applied};
use crate::membership::{MemberChange, Membership};
use crate::message::{ChangeRefused, Message};
use crate::mutant;
use crate::output::{Effect, Output};
use crate::rejection::Rejection;
use crate::request::{Identity, Op};
use crate::response::Member;
use crate::status::Role;
use crate::store::{Fault, Store, View};
use crate::time::Instant;

use super::apply::Held;
use super::{Appended, Node};

/// How long a member must have been connected to count as healthy (etcd's health interval).
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// Between two attempts to tell of oneself, or to decide the cluster's version.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Election timeouts that a removed member goes on for: a follower that knows nothing of the removal's
/// commit waits up to two before it asks for votes, and then wants its entry acknowledged.
const LINGER_TIMEOUTS: u32 = 3;

/// A change that is not proposed yet.
#[derive(Debug)]
struct Waiting {
    command: Command,
    change: MemberChange,
    deadline: Instant,
    /// Another member was asked, and has forwarded it.
    forwarded: bool,
    checked: bool,
}

/// A node's part in membership.
#[derive(Debug, Default)]
pub(super) struct Members {
    changes: VecDeque<Waiting>,
    removed: BTreeSet<MemberId>,
    /// Who is connected, since when.
    connected: BTreeMap<MemberId, Instant>,
    /// This member was removed, and halts then.
    leaving: Option<Instant>,
    /// What the state says of this member's start is what it is.
    told: bool,
    next_told: Instant,
    /// This turn changed who is who.
    changed: bool,
    /// The commit index is to be written down.
    save_commit: bool,
    /// The entry by which an operator has forced a new cluster; not written yet.
    forced: Option<Entry>,
}

/// What came of an attempt to propose.
enum Offer {
    Made,
    Later,
    Refused(Rejection, String),
}

impl Members {
    pub(super) fn load(view: &dyn View, forced: Option<Entry>) -> Members {
        let removed = machine::membership(view).removed;
        Members { removed, forced, ..Members::default() }
    }

    pub(super) fn connect(&mut self, peer: MemberId, now: Instant) {
        self.connected.insert(peer, now);
    }

    pub(super) fn disconnect(&mut self, peer: MemberId) {
        self.connected.remove(&peer);
    }

    pub(super) fn is_connected(&self, peer: MemberId) -> bool {
        self.connected.contains_key(&peer)
    }

    /// Whether a peer's messages are dropped.
    pub(super) fn is_fenced(&self, peer: MemberId) -> bool {
        self.removed.contains(&peer) && !mutant::on(16)
    }

    /// Forgets changes whose time is over; `waits` says which of this member's requests still wait.
    pub(super) fn expire(&mut self, now: Instant, waits: impl Fn(u64) -> bool) {
        self.changes.retain(|waiting| match waiting.forwarded {
            true => waiting.deadline > now,
            false => waits(waiting.command.id.sequence),
        });
    }

    fn connected_since(&self, peer: MemberId, now: Instant) -> bool {
        self.connected.get(&peer).is_some_and(|since| now.since(*since) > HEALTHY_AFTER)
    }

    /// How many of the voters have been connected for long enough, this member among them.
    fn healthy(&self, own: MemberId, known: &Membership, now: Instant) -> usize {
        let healthy = |member: &&Member| member.id == own || self.connected_since(member.id, now);
        known.voters().filter(healthy).count()
    }
}

impl Node {
    /// Keeps a change that a client of this member asks for.
    pub(super) fn admit_change(&mut self, deadline: Instant, command: Command) {
        self.keep_change(deadline, command, false);
    }

    /// Keeps a change that a follower has forwarded.
    pub(super) fn forwarded_change(&mut self, now: Instant, entry: &Entry) {
        if self.members.changes.len() >= self.config.limits.pending_commands_max {
            return;
        }
        if let Ok(command) = codec::decode_change(&entry.data) {
            let deadline = now + self.config.limits.request_timeout;
            self.keep_change(deadline, command, true);
        }
    }

    fn keep_change(&mut self, deadline: Instant, command: Command, forwarded: bool) {
        let Op::Member(change) = &command.op else { return };
        // Nobody but an operator at the machine itself may give the others up.
        if matches!(change, MemberChange::ForceNew { .. }) {
            return;
        }
        let (change, checked) = (change.clone(), forwarded);
        self.members.changes.push_back(Waiting { command, change, deadline, forwarded, checked });
    }

    /// Checks and proposes what has gathered, as far as it can be now.
    pub(super) fn propose_changes(&mut self, now: Instant, store: &impl Store, out: &mut Output) {
        while let Some(mut next) = self.members.changes.pop_front() {
            // Who may not ask is told so by apply, and not what the checks would have said.
            let permitted = self.machine.permits(&next.command, store);
            let checked = match next.checked || !permitted {
                true => Ok(()),
                false => self.check_change(now, &next.change, store),
            };
            next.checked = true;
            let offer = match checked {
                Ok(()) => self.offer_change(&next, permitted, store),
                Err((rejection, reason)) => Offer::Refused(rejection, reason),
            };
            match offer {
                Offer::Made => {}
                Offer::Later => return self.members.changes.push_front(next),
                Offer::Refused(rejection, reason) => {
                    self.refuse_change(next, rejection, reason, out)
                }
            }
        }
    }

    fn refuse_change(
        &mut self,
        waiting: Waiting,
        why: Rejection,
        reason: String,
        out: &mut Output,
    ) {
        out.facts.push(Fact::ChangeRefused { change: waiting.change, reason });
        let RequestId { member: to, sequence, incarnation } = waiting.command.id;
        match waiting.forwarded {
            false => self.answer(waiting.command.id, Err(why)),
            true => {
                let message = Message::ChangeRefused(ChangeRefused { sequence, incarnation, why });
                out.effects.push(Effect::Send { to, message });
            }
        }
    }

    /// The leader will not propose what this member has forwarded.
    pub(super) fn change_refused(&mut self, refused: ChangeRefused) {
        let ChangeRefused { sequence, incarnation, why } = refused;
        self.answer(RequestId { member: self.config.member, incarnation, sequence }, Err(why));
    }

    fn offer_change(&mut self, waiting: &Waiting, permitted: bool, store: &impl Store) -> Offer {
        if self.raft.is_installing() || self.dropped {
            return Offer::Later;
        }
        if self.raft.role() == Role::Leader {
            if self.raft.change_pending() {
                return Offer::Later;
            }
            if permitted
                && let MemberChange::Promote { id } = waiting.change
                && let Err((rejection, reason)) = self.check_promotion(id, store)
            {
                return Offer::Refused(rejection, reason);
            }
            let own = MemberChange::Remove { id: self.config.member };
            if permitted && waiting.change == own && self.raft.voters().len() > 1 {
                if !self.raft.is_handing_over() {
                    self.raft.transfer_leadership(Index(0));
                }
                return Offer::Later;
            }
        } else if self.raft.leader().is_none() {
            return Offer::Later;
        }
        let data = codec::encode_entry(std::slice::from_ref(&waiting.command));
        self.dropped = !self.raft.propose_change(data);
        if self.dropped { Offer::Later } else { Offer::Made }
    }

    /// etcd's strict checks, made by the member that was asked.
    fn check_change(
        &self,
        now: Instant,
        change: &MemberChange,
        store: &impl Store,
    ) -> Result<(), (Rejection, String)> {
        if !self.config.limits.strict_reconfig_check {
            return Ok(());
        }
        let known = machine::membership(store);
        match change {
            MemberChange::Add { is_learner, .. } => self.check_add(now, &known, *is_learner),
            MemberChange::Remove { id } => self.check_remove(now, &known, *id),
            MemberChange::Promote { .. }
            | MemberChange::Update { .. }
            | MemberChange::ForceNew { .. } => Ok(()),
        }
    }

    fn check_add(
        &self,
        now: Instant,
        known: &Membership,
        is_learner: bool,
    ) -> Result<(), (Rejection, String)> {
        let voters = known.voters().count();
        let started = known.voters().filter(|member| is_started(member)).count();
        let quorum = quorum(voters + 1);
        // The only member may always get company, to restore a cluster from it.
        let alone = started == 1 && voters == 1;
        if !is_learner && !alone && started < quorum {
            return Err(not_enough_started(started, quorum));
        }
        let healthy = self.members.healthy(self.config.member, known, now);
        if voters != 1 && healthy < quorum {
            return Err(unhealthy(healthy, quorum));
        }
        Ok(())
    }

    fn check_remove(
        &self,
        now: Instant,
        known: &Membership,
        id: MemberId,
    ) -> Result<(), (Rejection, String)> {
        if known.members.get(&id).is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        let left = || known.voters().filter(|member| member.id != id);
        let started = left().filter(|member| is_started(member)).count();
        let needed = quorum(left().count());
        if started < needed {
            return Err(not_enough_started(started, needed));
        }
        let own = self.config.member;
        if id != own && !self.members.is_connected(id) {
            return Ok(()); // it is no part of the quorum that works
        }
        let healthy = self.members.healthy(own, known, now);
        let needed = quorum(known.voters().count().saturating_sub(1));
        if healthy.saturating_sub(1) < needed {
            return Err(unhealthy(healthy.saturating_sub(1), needed));
        }
        Ok(())
    }

    /// What only a leader can say: a learner is ready when it has nine tenths of the leader's log.
    fn check_promotion(&self, id: MemberId, store: &impl Store) -> Result<(), (Rejection, String)> {
        let Some(learner) = self.raft.matched(id) else {
            return Err((Rejection::MemberNotFound, format!("{id} is not a member")));
        };
        let own = self.raft.matched(self.config.member).unwrap_or(Index(0));
        if u128::from(learner.0) * 10 < u128::from(own.0) * 9 {
            let reason = format!("{id} has {learner} of {own} entries, nine tenths are needed");
            return Err((Rejection::LearnerNotReady, reason));
        }
        if !self.config.limits.strict_reconfig_check {
            return Ok(());
        }
        let known = machine::membership(store);
        let started = known.voters().filter(|member| is_started(member)).count() + 1;
        let needed = quorum(known.voters().count() + 1);
        if started < needed { Err(not_enough_started(started, needed)) } else { Ok(()) }
    }

    /// Applies the entry of a change.
    ///
    /// # Errors
    /// An entry that this version cannot read, or a store that cannot.
    pub(super) fn apply_change(
        &mut self,
        now: Instant,
        entry: &Entry,
        store: &mut impl Store,
        (held, out): (&mut Held, &mut Output),
    ) -> Result<(), Fault> {
        let command = codec::decode_change(&entry.data)
            .map_err(|error| Fault::new("reading a log entry", entry.at.to_string(), error))?;
        let mut applied = Applied::default();
        self.machine.apply(entry.at, &command, store, &mut applied)?;
        if let (Op::Member(change), Ok(_)) = (&command.op, &applied.result) {
            if !mutant::on(13) {
                self.raft.apply_change(change);
            }
            self.members.save_commit = true;
            self.members_changed(now, entry.at, store);
            let (at, change) = (entry.at, change.clone());
            out.facts.push(Fact::MembersChanged { at, change });
        }
        self.conclude(command.id, &mut applied, held);
        Ok(())
    }

    /// The table of members is another: by an entry, or by a snapshot.
    pub(super) fn members_changed(&mut self, now: Instant, at: Position, store: &impl Store) {
        let known = machine::membership(store);
        let ids = |learner: bool| {
            let members = known.members.values().filter(move |one| one.is_learner == learner);
            members.map(|member| member.id).collect::<Vec<_>>()
        };
        let counted = (self.raft.voters(), self.raft.learners());
        let is_mutant = [13, 14, 16].into_iter().any(mutant::on);
        assert!(is_mutant || counted == (ids(false), ids(true)), "law 1 of the members");
        if known.removed.contains(&self.config.member) && self.members.leaving.is_none() {
            let linger = self.config.limits.election_timeout * LINGER_TIMEOUTS;
            self.members.leaving = Some(now + linger);
            if self.raft.role() == Role::Leader {
                self.raft.resign(at.index);
            }
        }
        self.members.removed = known.removed;
        self.members.changed = true;
    }

    /// A snapshot has replaced the state.
    pub(super) fn members_installed(&mut self, now: Instant, at: Position, store: &impl Store) {
        self.members.told = false;
        self.members_changed(now, at, store);
    }

    /// Once per heartbeat: what started members tell.
    ///
    /// # Errors
    /// The cluster knows this member by another data directory: whatever it had promised is lost.
    pub(super) fn tend_members(&mut self, now: Instant, store: &impl Store) -> Result<(), Fault> {
        let Some(own) = self.config.started else { return Ok(()) };
        let idle = self.raft.is_installing() || !self.raft.is_member();
        if idle || now < self.members.next_told || self.raft.leader().is_none() {
            return Ok(());
        }
        self.members.next_told = now + TELL_EVERY;
        let member = self.config.member;
        if !self.members.told {
            match machine::started(store).get(&member) {
                Some(known) if known.birth != own.birth => return Err(reborn(member)),
                Some(known) if known.version == own.version => self.members.told = true,
                _ => self.announce(Op::Started { member, started: own }),
            }
        }
        if self.raft.role() == Role::Leader {
            let least = machine::started(store).into_values().map(|told| told.version).min();
            let decided = machine::cluster_version(store);
            if let Some(version) = least.filter(|least| decided.is_none_or(|known| known < *least))
            {
                self.announce(Op::ClusterVersion(version));
            }
        }
        Ok(())
    }

    /// Proposes on the member's own behalf; nobody waits for the answer, and it may be lost.
    fn announce(&mut self, op: Op) {
        let (member, incarnation) = (self.config.member, self.config.incarnation);
        let id = RequestId { member, incarnation, sequence: 0 };
        let command = Command { id, identity: Identity::SYSTEM, op };
        self.raft.propose(codec::encode_entry(&[command]));
    }

    /// The end of a turn: who may be talked to, what must be written, and whether this was the end.
    pub(super) fn finish_members(&mut self, now: Instant, store: &impl Store, out: &mut Output) {
        if std::mem::take(&mut self.members.changed) {
            out.effects.push(Effect::Membership(machine::membership(store)));
        }
        let forced = self.members.forced.take();
        let save = std::mem::take(&mut self.members.save_commit) && !self.raft.is_installing();
        if save || forced.is_some() {
            self.write_down(now, forced, out);
        }
        if self.members.leaving.is_some_and(|until| until <= now) {
            out.facts.push(Fact::Removed);
            out.effects.push(Effect::Halt(removed(self.config.member)));
        }
    }

    /// A batch of the node's own: law 2, and the entry of a forced new cluster.
    fn write_down(&mut self, now: Instant, forced: Option<Entry>, out: &mut Output) {
        let seq = self.next_seq;
        let before = self.appended.back().map_or(self.durable, |appended| appended.last);
        let last = forced.as_ref().map_or(before, |entry| entry.at);
        let hard_state = self.raft.hard_state();
        let entries = forced.into_iter().collect();
        out.effects.push(Effect::Append(Append { seq, hard_state, entries }));
        self.appended.push_back(Appended { seq, last, since: now });
        self.next_seq = seq.next();
    }
}

/// What a member that was removed says at its end, however it learnt of it.
pub fn removed(member: MemberId) -> Fault {
    Fault::new(
        "the member has been permanently removed from the cluster",
        member.to_string(),
        "it must not come back under this id: remove its data directory, and add a new member if \
         there shall be one",
    )
}

/// What a member says that comes back without the data its promises were kept in.
pub fn reborn(member: MemberId) -> Fault {
    Fault::new(
        "this member's data directory is not the one the cluster knows it by",
        member.to_string(),
        "what it had promised is lost with its data: remove the member from the cluster and add a \
         new one, with an empty data directory",
    )
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn is_started(member: &Member) -> bool {
    !member.name.is_empty()
}

fn not_enough_started(started: usize, needed: usize) -> (Rejection, String) {
    let reason = format!("{started} started members would be left, {needed} are needed");
    (Rejection::NotEnoughStarted, reason)
}

fn unhealthy(healthy: usize, needed: usize) -> (Rejection, String) {
    let seconds = HEALTHY_AFTER.as_secs();
    let reason = format!(
        "{healthy} members would be connected for {seconds} s and more, {needed} are needed"
    );
    (Rejection::Unhealthy, reason)
}
