//! The replicated state machine: the sole author of everything members must agree on.
//!
//! [`Machine::apply`] takes one command of a committed entry, decides it on the state so far and
//! hands the store its [`Batch`]. It is a pure function of the log: no clock, no randomness, no
//! answer that depends on what this member happens to have in memory. [`Machine::advance`] does the
//! same in slices, for commands that touch very many keys.
//!
//! Leaves out: consensus, who waits for an answer, values. An answer names coordinates, which the
//! edge resolves on the published snapshot ([`crate::mvcc::resolve`]); apply itself reads a value
//! only for a value compare and for ignore_value.
//!
//! Laws:
//!  1. A command that changes keys raises the revision by exactly one; its changes are numbered from
//!     0 in the order of its operations. A command that changes none leaves it.
//!  2. A refused command changes nothing but the applied position.
//!  3. The applied position moves with every entry, in the same batch as its changes. The commands
//!     of one entry, and the slices of one command, share a position: publish only when all of them
//!     are applied.
//!  4. A key's row names its newest record; a life starts with version 1; a tombstone has version 0.
//!  5. A key is listed under a lease exactly if its row is attached to that lease.
//!  6. While an alarm is up, what it forbids is refused before anything else is looked at.
//!  7. Physical compaction changes no read at or above the compacted revision, on no member.
//!  8. No command is carried out but by whom the guard allows it to, on the state just before it.
//!
//! Worked example, on an empty store:
//!
//! ```text
//! 3@1  put a=1           → r2: Write a {r2.0, created r2, version 1}, event r2.0
//! 4@1  txn: del a, put b → r3: Write a tombstone r3.0, Write b {r3.1, ..}, events r3.0 r3.1
//! 5@1  del a             → r3, deleted 0, an empty batch that moves applied to 5@1
//! ```

mod alarm;
mod auth;
mod cluster;
mod compact;
mod delete;
mod draft;
pub mod guard;
mod lease;
mod ledger;
mod member;
pub(crate) mod precheck;
mod put;
pub mod rights;
mod task;
mod txn;

pub use alarm::alarms;
pub use auth::{auth_state, role, user};
pub use cluster::{genesis, initial_members, members};
pub use compact::compaction_cursor;
pub use lease::{
    LeaseRow, attached_from, lease_keys, lease_keys_from, lease_rows, lease_ttl, leases,
    leases_from,
};
pub use ledger::{RECORD_OVERHEAD, applied_digest, stored_bytes};
pub use member::{cluster_version, is_removed, membership, started};

pub(crate) use compact::PROGRESS_KEY;
pub(crate) use task::keys_max;

use crate::alarm::{Raised, crosses};
use crate::auth::TokenChange;
use crate::command::Command;
use crate::id::{Index, LeaseId, Position, Revision};
use crate::limits::Limits;
use crate::machine::compact::Compaction;
use crate::machine::draft::{Draft, Room};
use crate::machine::guard::{Act, Guard};
use crate::machine::ledger::{Delta, Ledger};
use crate::machine::task::Task;
use crate::mutant;
use crate::mvcc::{Budget, ReadError};
use crate::rejection::Rejection;
use crate::request::Op;
use crate::response::{Alarm, Body, Event};
use crate::store::{Batch, Fault, Mark, Store, View};

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer, the same on every member.
    pub result: Result<Body, Rejection>,
    /// The store's revision afterwards, for the response header.
    pub revision: Revision,
    /// What watchers see, in order.
    pub events: Vec<Event>,
    /// What the lessor must know.
    pub leases: Vec<LeaseChange>,
    /// What the keepers of tokens must know.
    pub tokens: Vec<TokenChange>,
}

impl Default for Applied {
    /// A buffer that apply has not filled yet.
    fn default() -> Applied {
        let result = Ok(Body::Publish);
        let (events, leases, tokens) = (Vec::new(), Vec::new(), Vec::new());
        Applied { result, revision: Revision(0), events, leases, tokens }
    }
}

/// A change of the set of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A new lease.
    Granted {
        /// Which.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
        /// The entry that granted it.
        granted: Index,
    },
    /// What is left of it was noted.
    Noted {
        /// Which.
        id: LeaseId,
        /// Seconds; `None` when a note was taken back.
        left: Option<i64>,
    },
    /// The lease and its keys are gone.
    Revoked {
        /// Which.
        id: LeaseId,
    },
}

/// The state machine. What it knows is in the store; here is only what saves looking there.
#[derive(Clone, Debug)]
pub struct Machine {
    compaction_batch: usize,
    compaction: Compaction,
    room: Room,
    guard: Guard,
    ledger: Ledger,
    /// The command under way.
    task: Option<Task>,
    /// All alarms that are up, and whether the member concerned raised it itself.
    alarms: Vec<(Alarm, bool)>,
    raised: Raised,
    /// For mutant M69 alone: apply must not know it.
    quota: Option<u64>,
}

impl Machine {
    /// Takes up the state of `view`: after a start, and again after a snapshot install.
    pub fn load(limits: &Limits, view: &dyn View) -> Machine {
        let alarms = alarm::rows(view);
        Machine {
            compaction_batch: limits.compaction_batch,
            compaction: Compaction::load(view),
            room: Room::new(view.mark()),
            guard: Guard::load(view),
            ledger: Ledger::load(view),
            task: None,
            raised: alarm::raised(&alarms),
            alarms,
            quota: limits.quota_bytes,
        }
    }

    /// Bytes of live data and of the history that can still be read, as the quota counts them; the same
    /// number on every member that has applied the same.
    pub fn stored_bytes(&self) -> u64 {
        self.ledger.stored()
    }

    /// The running digest of what was applied; `None` when the state was made before there were
    /// digests.
    pub fn digest(&self) -> Option<u64> {
        self.ledger.digest()
    }

    /// All alarms that are up, and whether the member concerned raised it itself.
    pub fn alarms(&self) -> &[(Alarm, bool)] {
        &self.alarms
    }

    /// Applies one command of the entry at `at` and says in `out` what came of it; what `out` held
    /// before is overwritten. After a fault nothing more may be asked and the node must halt.
    pub fn apply(
        &mut self,
        at: Position,
        command: &Command,
        store: &mut impl Store,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        while !self.advance((at, command), store, out, &mut Budget::unbounded())? {}
        Ok(())
    }

    /// Like [`Machine::apply`], but stops once the budget is spent, and says whether the command is done.
    /// If not, the same call goes on with it, with the same `out`: its events may be taken meanwhile, its
    /// result is there at the end. Until then nothing is to be published.
    ///
    /// A key that is looked at, a value that is compared, a put, each spend one key, and a deletion four, or
    /// eight of a key that hangs on a lease.
    pub fn advance(
        &mut self,
        (at, command): (Position, &Command),
        store: &mut impl Store,
        out: &mut Applied,
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        let mut permitted = Ok(());
        if self.task.is_none() {
            out.events.clear();
            out.leases.clear();
            out.tokens.clear();
            permitted = self.permit(&*store, command);
        }
        let mut task = self.task.take().unwrap_or_else(|| Task::new(&command.op));
        loop {
            let mut draft = Draft::new(&*store, (at, task.next), (&mut self.room, out));
            let stepped = match permitted {
                Ok(()) => task.step(&mut draft, &command.op, budget),
                Err(rejection) => Err(rejection.into()),
            };
            let (next, delta) = draft.close();
            task.next = Some(next);
            task.delta.add(delta);
            let result = match stepped {
                Ok(None) => {
                    self.ledger.note(&self.room.batch);
                    store.absorb(&mut self.room.batch);
                    if budget.is_spent() {
                        self.task = Some(task);
                        return Ok(false);
                    }
                    continue;
                }
                Ok(Some(body)) => Ok(body),
                Err(ReadError::Rejection(rejection)) => Err(rejection),
                Err(ReadError::Fault(fault)) => return Err(fault),
            };
            self.end_command(command, task.delta, result, (store, out));
            return Ok(true);
        }
    }

    /// The last step of a command has been drafted.
    fn end_command(
        &mut self,
        command: &Command,
        delta: Delta,
        result: Result<Body, Rejection>,
        (store, out): (&mut impl Store, &mut Applied),
    ) {
        let batch = &mut self.room.batch;
        let refused_clean = result.is_ok() || batch.changes().is_empty();
        assert!(refused_clean, "a refused command changes nothing (law 2)");
        self.ledger.enter((&*store, batch), delta, &result);
        if mutant::on(54) {
            self.ledger.mix(self.compaction.pending());
        }
        out.result = result;
        out.revision = batch.mark().revision;
        self.compaction.decide(batch.mark().compacted);
        store.absorb(batch);
        if matches!(command.op, Op::Alarm(_)) {
            self.alarms = alarm::rows(store);
            self.raised = alarm::raised(&self.alarms);
        }
        if matches!(command.op, Op::Auth(_)) {
            self.guard.refresh(&*store);
        }
    }

    /// Whether a command would be allowed now; apply decides again, on the state of then.
    pub fn permits(&mut self, command: &Command, view: &dyn View) -> bool {
        self.guard.permit(view, &command.identity, Act::Op(&command.op)).is_ok()
    }

    /// Alarms refuse before rights do; but who grants or revokes a lease says first who he is, as etcd has it.
    fn permit(&mut self, view: &dyn View, command: &Command) -> Result<(), Rejection> {
        if matches!(command.op, Op::LeaseGrant { .. } | Op::LeaseRevoke { .. }) {
            self.guard.permit(view, &command.identity, Act::Identified)?;
        }
        match self.refusal(&command.op) {
            None => self.guard.permit(view, &command.identity, Act::Op(&command.op)),
            Some(rejection) => Err(rejection),
        }
    }

    fn refusal(&self, op: &Op) -> Option<Rejection> {
        if mutant::on(69) && crosses(op, self.stored_bytes(), self.quota) {
            return Some(Rejection::NoSpace);
        }
        self.raised.refusal(op)
    }

    /// Mutant M68: an alarm that only this member knows of.
    pub(crate) fn raise_here(&mut self) {
        self.raised.no_space = true;
    }

    /// All commands of the entry at `at` were applied: what was counted is stored.
    pub fn end_entry(&mut self, at: Position, store: &mut impl Store) {
        let mut batch = Batch::new(Mark { applied: at, ..store.mark() });
        batch.push(self.ledger.row());
        store.absorb(&mut batch);
    }

    /// Moves the applied position over an entry without commands: a new leader's first one, or a
    /// membership change.
    pub fn skip(&mut self, at: Position, store: &mut impl Store) {
        let mark = Mark { applied: at, ..store.mark() };
        store.absorb(&mut Batch::new(mark));
    }

    /// Whether [`Machine::compact_slice`] has work.
    pub fn compaction_pending(&self) -> bool {
        self.compaction.pending()
    }

    /// Does one slice of the physical compaction: looks at up to `compaction_batch` records and
    /// forgets the tombstones that no read can meet any more. Gives the compacted revision when this
    /// slice was the last. Progress is part of the batch, so a restart goes on where it was.
    ///
    /// To be called when everything applied so far has been published (law 1 of
    /// [`crate::mvcc::resolve`]), not between the commands of an entry.
    pub fn compact_slice(&mut self, store: &mut impl Store) -> Result<Option<Revision>, Fault> {
        if !self.compaction.pending() {
            return Ok(None);
        }
        let mut slice = self.compaction.slice(&*store, self.compaction_batch)?;
        store.absorb(&mut slice);
        Ok((!self.compaction.pending()).then(|| store.mark().compacted))
    }
}

/// What is one step.
fn decide(draft: &mut Draft<'_>, op: &Op, budget: &mut Budget) -> Result<Body, ReadError> {
    budget.spend(1, 0);
    Ok(match op {
        Op::Put(request) => {
            budget.spend(0, request.value.len());
            precheck::check_plain_put(draft.view(), request)?;
            Body::Put(put::put(draft, request)?)
        }
        Op::DeleteRange(_) | Op::Txn(_) | Op::LeaseRevoke { .. } => {
            unreachable!("a task has steps for these")
        }
        Op::Compact { revision } => {
            compact::compact(draft, *revision)?;
            Body::Compact
        }
        Op::LeaseGrant { id, ttl } => {
            lease::grant(draft, *id, *ttl)?;
            Body::LeaseGrant { id: *id, ttl: *ttl }
        }
        Op::LeaseCheckpoint(notes) => {
            budget.spend(notes.len(), 0);
            lease::checkpoint(draft, notes);
            Body::Publish
        }
        Op::AlarmList => Body::Alarms(alarms(draft.view())),
        Op::Alarm(op) => alarm::perform(draft, *op),
        // The node compares; the state is not concerned.
        Op::Audit(_) => Body::Publish,
        Op::Publish { member, name, client_urls } => {
            cluster::publish(draft, *member, name, client_urls);
            Body::Publish
        }
        Op::Auth(op) => Body::Auth(auth::perform(draft, op)?),
        Op::Member(change) => member::change(draft, change)?,
        Op::Started { member, started } => {
            member::start(draft, *member, *started);
            Body::Publish
        }
        Op::ClusterVersion(version) => {
            member::decide_version(draft, *version);
            Body::Publish
        }
    })
}
