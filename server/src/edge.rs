//! Between sessions and the driver: typed queries in, complete answers out. Synchronous and pure: the
//! simulator's clients speak to it alone in most seeds, and through sessions and transport in the others.
//!
//! Writes go to the driver and come back as coordinates, which are read here from the published
//! snapshot. Linearizable reads that arrive together share one read index. Serializable reads are
//! answered at once. Watch streams live in the [`Hub`], which this owns.
//!
//! Laws:
//!  1. Every query gets exactly one answer, unless its call is cancelled first.
//!  2. An answer is read from a snapshot at least as new as the reply that allowed it.
//!  3. The keys of a lease are read from a snapshot at least as new as the leader's word on it.
//!  4. Nothing waits for ever, and no more than a bounded number: the driver answers every request by
//!     its deadline (law 2 of the node); what it does not, the edge refuses an election timeout later.
//!     Requests and reads are each at most as many as the limits allow commands to be pending; more
//!     are refused. Reads wait no longer than that for memory either (law 5 of [`reads`]). Only a compaction that is to be carried out waits as long as that takes.
//!  5. Between two turns of the driver, whose thread this shares, all calls and watches together read no
//!     more than the limits say, and an eighth more while hashes are compared; what is over by then is at
//!     most one value, or one revision for a watcher, of each kind of work.
//!
//! Leaves out: bytes and connections.

mod access;
#[cfg(test)]
mod auth_tests;
mod compaction;
mod downgrade;
mod inspection;
mod login;
mod maintenance;
mod parked;
mod reads;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use holdfast_core::alarm::AlarmOp;
use holdfast_core::ascending::Ascending;
use holdfast_core::compactor::{AutoCompaction, Compactor};
use holdfast_core::fact::Fact;
use holdfast_core::id::{Incarnation, Index, LeaseId, MemberId, RequestId, Revision};
use holdfast_core::inspector::CompactionHashes;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::machine::guard::Act;
use holdfast_core::membership::MemberChange;
use holdfast_core::memory::AnswerMemory;
use holdfast_core::mvcc::Budget;
use holdfast_core::mvcc::resolve::{self, Resolved};
use holdfast_core::query::{Answer, AnswerBody, Answered, Header, Query, StatusAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Ask, Identity, Op, Request};
use holdfast_core::response::{Alarm, Body, Response};
use holdfast_core::rng::Rng;
use holdfast_core::status::Status;
use holdfast_core::store::{Fault, View};
use holdfast_core::time::Instant;
use holdfast_core::watch::{Hub, HubOptions, WatchResponse, WatchStreamId};
use holdfast_net::call::StreamId;
use holdfast_storage::snapshot::Snapshot;

use crate::auth::vault::Vault;
use crate::auth::{AuthOptions, Credential};
use crate::host::{Event, Publication};
use access::Access;
pub use inspection::HashChecks;
use inspection::Inspection;
use login::{Checked, Jobs};
use parked::Parked;
use reads::{Asking, Lease, Read, Reads, Source};
use slice::Slice;

/// Who an edge answers for, and its bounds.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// This member.
    pub member: MemberId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The first request number minus one: edges of one run number disjointly.
    pub sequence_base: u64,
    /// Bounds and periods.
    pub limits: Limits,
    /// Bounds of the watch hub.
    pub hub: HubOptions,
    /// Seeds the lease ids it chooses.
    pub seed: u64,
    /// What Status reports as the quota, in bytes.
    pub quota: i64,
    /// When to compact without being asked.
    pub auto_compaction: Option<AutoCompaction>,
    /// Which hashes to compare with other members'.
    pub hash_checks: HashChecks,
    /// Those of the member's last compactions.
    pub compaction_hashes: CompactionHashes,
    /// Passwords and tokens.
    pub auth: AuthOptions,
    /// What answers of all the member's edges may hold.
    pub answers: AnswerMemory,
    /// The id of a member that comes with these peer URLs now.
    pub member_id: fn(&[String]) -> MemberId,
}

/// One call's query, and who asks it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Named in the answer.
    pub call: StreamId,
    /// What.
    pub query: Query,
    /// Who, by its own word.
    pub by: Credential,
}

/// What an answer of the driver is for.
#[derive(Clone, Debug)]
enum Waiting {
    /// The answer's body is the call's.
    Write(StreamId),
    /// Every one of these may read now.
    Reads(Vec<Asking>),
    /// A renewal of this lease.
    KeepAlive(StreamId, LeaseId),
    /// A look at this lease, with its keys for this caller or without.
    TimeToLive(StreamId, LeaseId, Option<Credential>),
    /// A user whose password was right gets a token.
    Login(Box<Checked>),
    /// A compaction that nobody asked for.
    Compaction,
    /// A read index of the inspector.
    Inspection,
    /// A compaction that is answered when it has been carried out here.
    Physical(StreamId, Revision),
}

/// A look at a lease that waits until this member has applied as much as the leader had.
#[derive(Clone, Debug)]
struct Lagging {
    call: StreamId,
    by: Credential,
    lease: Lease,
    applied: Index,
    deadline: Instant,
}

/// See the module.
pub struct Edge {
    config: EdgeConfig,
    rng: Rng,
    /// Where reads read now.
    source: Source,
    status: Status,
    hub: Hub,
    next_sequence: u64,
    /// Requests that the driver has not answered, with their deadlines, by number.
    waiting: Ascending<(Instant, Waiting)>,
    /// Looks at leases of which the leader has said more than this member has applied.
    lagging: Vec<Lagging>,
    gathering: Vec<Asking>,
    access: Access,
    jobs: Jobs,
    /// Calls whose callers cannot be judged yet.
    parked: Vec<Parked>,
    /// For the driver, and come up when there was no inbox at hand.
    outgoing: Vec<Event>,
    /// The latest time that the edge was told.
    now: Instant,
    /// Reads that wait for their read index.
    indexing: usize,
    /// Calls that ended before they were answered: a mark goes when what was asked comes up.
    cancelled: BTreeSet<StreamId>,
    reads: Reads,
    /// Compactions that are decided and not yet carried out here.
    physical: Vec<(Revision, StreamId, Header)>,
    compacted: Revision,
    /// Calls that wait until this member leads.
    moving: Vec<maintenance::Move>,
    /// There is one from the first turn on, if history is to be compacted without being asked.
    compactor: Option<Compactor>,
    inspection: Inspection,
}

impl Edge {
    /// An edge that starts from the state as published.
    pub fn new(config: EdgeConfig, snapshot: Snapshot, vault: Box<dyn Vault>) -> Edge {
        let slice = Budget::new(config.limits.edge_slice_keys, config.limits.edge_slice_bytes);
        let header = Header { revision: snapshot.mark().revision, ..Header::default() };
        let (answers, patience) = (config.answers.clone(), config.limits.request_timeout);
        Edge {
            rng: Rng::new(config.seed),
            hub: Hub::new(config.hub.clone(), snapshot.mark()),
            status: Status::default(),
            next_sequence: config.sequence_base,
            waiting: Ascending::default(),
            lagging: Vec::new(),
            gathering: Vec::new(),
            access: Access::new(&config.auth, &snapshot, vault),
            jobs: Jobs::default(),
            parked: Vec::new(),
            outgoing: Vec::new(),
            now: Instant(0),
            indexing: 0,
            cancelled: BTreeSet::new(),
            reads: Reads::new(Slice::new(slice), answers, patience),
            physical: Vec::new(),
            compacted: snapshot.mark().compacted,
            moving: Vec::new(),
            compactor: None,
            inspection: Inspection::new(&config),
            source: Source { header, snapshot },
            config,
        }
    }

    /// Takes a query. What has to go to the driver is added to `inbox`; linearizable reads gather until
    /// [`Edge::flush`].
    pub fn ask(&mut self, now: Instant, asked: Asked, inbox: &mut Vec<Event>) {
        self.tick(now);
        if let Some(asked) = self.park(asked) {
            self.ask_now(now, asked, inbox);
        }
    }

    /// Takes a query whose caller can be judged.
    fn ask_now(&mut self, now: Instant, asked: Asked, inbox: &mut Vec<Event>) {
        let Asked { call, query, by } = asked;
        let reading = |read| Asking { call, by: by.clone(), read };
        let (waiting, ask) = match query {
            Query::Range(range) => {
                let local = range.serializable;
                return self.take_read(reading(Read::Range(range)), local);
            }
            Query::Txn(txn) if txn.is_read_only() => {
                let local = txn.is_serializable();
                return self.take_read(reading(Read::Txn(txn)), local);
            }
            Query::MemberList { linearizable } => {
                return self.take_read(reading(Read::Members), !linearizable);
            }
            Query::Downgrade(asked) => {
                return self.take_read(reading(Read::Downgrade(asked)), false);
            }
            Query::LeaseLeases => return self.take_read(reading(Read::Leases), true),
            Query::Status => return self.answer_status(call, &by),
            Query::HashKv { revision } => {
                let known = self.inspection.remembered(revision);
                return self.take_read(reading(Read::HashKv(revision, known)), true);
            }
            Query::Hash => return self.take_read(reading(Read::Hash), true),
            Query::Defragment => return self.answer_defragment(call, &by),
            Query::MoveLeader { to } => return self.move_leader(now, (call, &by, to), inbox),
            Query::LeaseKeepAlive { id } => {
                if !self.may(call, &by, Act::LeaseKeepAlive(id)) {
                    return;
                }
                (Waiting::KeepAlive(call, id), Ask::LeaseKeepAlive { id })
            }
            Query::LeaseTimeToLive { id, keys } => {
                if !self.may(call, &by, Act::Identified) {
                    return;
                }
                let keys = keys.then_some(by.clone());
                (Waiting::TimeToLive(call, id, keys), Ask::LeaseTimeToLive { id })
            }
            Query::Auth(query) => return self.ask_auth(now, (call, by), query, inbox),
            Query::Compact { revision, physical: true } => {
                let revision = Revision(revision);
                (Waiting::Physical(call, revision), Ask::Propose(Op::Compact { revision }))
            }
            write => {
                let op = self.op(write);
                return self.write(now, (call, by), op, inbox);
            }
        };
        self.hand_over(now, by, (waiting, ask), inbox);
    }

    /// Hands an operation to the driver: apply decides whether the caller may.
    fn write(
        &mut self,
        now: Instant,
        (call, by): (StreamId, Credential),
        op: Op,
        inbox: &mut Vec<Event>,
    ) {
        self.hand_over(now, by, (Waiting::Write(call), Ask::Propose(op)), inbox);
    }

    fn hand_over(
        &mut self,
        now: Instant,
        by: Credential,
        (waiting, ask): (Waiting, Ask),
        inbox: &mut Vec<Event>,
    ) {
        // What has been answered and still has to be read counts too.
        let most = self.config.limits.pending_commands_max;
        let waiting_count =
            self.waiting.len() + self.lagging.len() + self.physical.len() + self.moving.len();
        if waiting_count >= most || self.reads.len() >= most || inbox.len() >= most {
            return self.refuse(waiting, Rejection::TooManyRequests);
        }
        match self.access.identify(&by) {
            Ok(identity) => {
                self.send(now, waiting, (identity, ask), inbox);
            }
            Err(rejection) => self.refuse(waiting, rejection),
        }
    }

    /// Whether a caller may do what does not go through the log; it is told if not.
    fn may(&mut self, call: StreamId, by: &Credential, act: Act<'_>) -> bool {
        let permitted = self.access.permit(&self.source.snapshot, by, act);
        permitted.map_err(|rejection| self.reads.answers.push((call, Err(rejection)))).is_ok()
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.access.tick(now);
        self.reads.tick(now);
    }

    /// Proposes something on the member's own behalf.
    pub fn propose(&mut self, now: Instant, call: StreamId, op: Op, inbox: &mut Vec<Event>) {
        let (waiting, ask) = (Waiting::Write(call), Ask::Propose(op));
        self.send(now, waiting, (Identity::SYSTEM, ask), inbox);
    }

    /// Asks the node to hand leadership over and to save what it applied; nobody waits for the answer.
    pub fn transfer_leadership(&mut self, now: Instant, inbox: &mut Vec<Event>) {
        let waiting = Waiting::Reads(Vec::new());
        let ask = Ask::TransferLeadership;
        self.send(now, waiting, (Identity::default(), ask), inbox);
    }

    /// Nobody waits any more for this call, which has asked one query and has not been given its
    /// answer. It costs nothing to look for it: whatever it asked is dropped when it comes up.
    pub fn cancel(&mut self, call: StreamId) {
        self.cancelled.insert(call);
    }

    /// Asks one read index for all reads that have gathered, and goes on with what the vault has done.
    pub fn flush(&mut self, now: Instant, inbox: &mut Vec<Event>) {
        self.tick(now);
        self.compact_by_itself(now, inbox);
        self.inspect(now, inbox);
        inbox.append(&mut self.outgoing);
        self.reap(now, inbox);
        if !self.cancelled.is_empty() {
            self.gathering.retain(|asking| !self.cancelled.remove(&asking.call));
        }
        if !self.gathering.is_empty() {
            let reads = std::mem::take(&mut self.gathering);
            self.indexing += reads.len();
            let waiting = Waiting::Reads(reads);
            self.send(now, waiting, (Identity::default(), Ask::ReadIndex), inbox);
        }
    }

    /// The driver has published a new state.
    pub fn published(&mut self, now: Instant, publication: Publication) {
        self.tick(now);
        self.reads.answer_points(&self.source);
        let mark = publication.snapshot.mark();
        let Publication { snapshot, tokens, restored, .. } = &publication;
        self.access.published(snapshot, tokens, *restored);
        self.source.header.revision = mark.revision;
        self.source.snapshot = publication.snapshot;
        if publication.restored {
            self.hub.restored(now, &self.source.snapshot);
        } else {
            self.hub.published(now, publication.events, mark);
        }
        let lagging = std::mem::take(&mut self.lagging);
        lagging.into_iter().for_each(|look| self.read_lease(look));
        self.judge_parked(now);
    }

    /// The driver has answered a request of this edge.
    pub fn replied(&mut self, id: RequestId, result: Result<Response, Rejection>) {
        let Some((deadline, waiting)) = self.waiting.remove(id.sequence) else { return };
        if let Waiting::Compaction = waiting {
            return self.compacted_by_itself(self.now, &result);
        }
        if let Waiting::Inspection = waiting {
            return self.confirmed(result.is_ok());
        }
        match (waiting, result) {
            (Waiting::Reads(reads), Ok(_)) => {
                self.indexing -= reads.len();
                for asking in reads {
                    self.read(asking);
                }
            }
            (Waiting::Write(call), Ok(response)) => self.answer_write(call, response),
            (Waiting::Physical(call, revision), Ok(response)) => {
                let header = Header { revision: response.revision, term: response.term };
                self.physical.push((revision, call, header));
                self.answer_physical();
            }
            (Waiting::KeepAlive(call, id), Ok(response)) => self.answer_renewal(call, id, response),
            (Waiting::TimeToLive(call, id, keys), Ok(response)) => {
                self.answer_time_to_live((call, keys, deadline), id, response);
            }
            (Waiting::Compaction | Waiting::Inspection, Ok(_)) => {}
            (Waiting::Login(checked), result) => self.logged_in(*checked, result),
            (waiting, Err(rejection)) => self.refuse(waiting, rejection),
        }
    }

    /// The end of the driver's turn.
    pub fn turned(&mut self, status: Status, facts: &[Fact]) {
        self.status = status;
        self.source.header.term = status.term;
        self.answer_moved();
        for fact in facts {
            if let Fact::CompactionFinished { revision } = fact {
                self.compacted = *revision;
                self.answer_physical();
            }
            self.inspect_fact(fact);
        }
    }

    /// Moves the answers that are complete, in the order in which they became so, to `out`, which is
    /// empty. Reads under way go on; called once in each turn, after [`Edge::turned`], and before watches
    /// are polled.
    pub fn take_answers(&mut self, now: Instant, out: &mut Vec<(StreamId, Answered)>) {
        self.tick(now);
        self.expire(now);
        self.reads.work(&self.source, &mut self.access, &mut self.cancelled);
        self.make_hashes(now);
        // The two vectors change places: one that begins with nothing is moved as it grows.
        std::mem::swap(&mut self.reads.answers, out);
        if !self.cancelled.is_empty() {
            out.retain(|(call, _)| !self.cancelled.remove(call));
        }
    }

    /// Answers that are complete and were not taken.
    pub fn answers_waiting(&self) -> usize {
        self.reads.answers.len()
    }

    /// The next watch stream that has something to say, in turn, while this turn's share lasts.
    pub fn next_watch(&mut self) -> Option<WatchStreamId> {
        let budget = self.reads.watches();
        if budget.is_spent() {
            return None;
        }
        // A state that cannot be read is met again, and told, by whoever reads history.
        if self.hub.announce(&self.source.snapshot, budget).is_err() {
            self.hub.restored(self.now, &self.source.snapshot);
        }
        self.hub.next_ready()
    }

    /// Appends to `out` what a watch stream has to say, as far as this turn's share allows.
    ///
    /// # Errors
    /// This member cannot read its own state.
    pub fn poll_watch(
        &mut self,
        stream: WatchStreamId,
        out: &mut Vec<WatchResponse>,
    ) -> Result<(), Fault> {
        self.hub.poll(stream, &self.source.snapshot, self.reads.watches(), out)
    }

    /// What watches, and whoever else reads for a stream, may still read in this turn.
    pub fn spare(&mut self) -> &mut Budget {
        self.reads.watches()
    }

    /// When the edge has something to do without a turn of the driver: at once while reads or watches
    /// wait for their next piece.
    pub fn deadline(&self) -> Instant {
        if self.reads.is_busy() || !self.outgoing.is_empty() {
            return Instant(0);
        }
        let compaction = self.compactor.as_ref().map_or(Instant::NEVER, Compactor::deadline);
        let reads = self.reads.deadline().min(compaction).min(self.inspection.deadline());
        self.hub.deadline().min(self.access.vault.deadline()).min(reads)
    }

    /// The call that a request of this edge was made for, while it is not answered.
    pub fn asker(&self, id: RequestId) -> Option<StreamId> {
        match &self.waiting.get(id.sequence)?.1 {
            Waiting::Write(call)
            | Waiting::Physical(call, _)
            | Waiting::KeepAlive(call, _)
            | Waiting::TimeToLive(call, _, _) => Some(*call),
            Waiting::Login(checked) => Some(checked.call()),
            Waiting::Reads(_) | Waiting::Compaction | Waiting::Inspection => None,
        }
    }

    /// The newest request that was made of what was asked; its sequence is [`EdgeConfig`]'s base while
    /// there is none.
    pub fn last_request(&self) -> RequestId {
        let (member, incarnation) = (self.config.member, self.config.incarnation);
        RequestId { member, incarnation, sequence: self.next_sequence }
    }

    /// The state as last published.
    pub fn snapshot(&self) -> &Snapshot {
        &self.source.snapshot
    }

    /// Whether a new state may give this edge something to do: somebody watches, or waits for a state.
    pub fn is_attentive(&self) -> bool {
        self.hub.is_open() || !self.lagging.is_empty() || !self.parked.is_empty()
    }

    /// The quota as Status shows it.
    pub fn quota(&self) -> i64 {
        self.config.quota
    }

    /// What the node last said of itself.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The watch streams, with the snapshot they read from.
    pub fn watches(&mut self) -> (&mut Hub, &Snapshot) {
        (&mut self.hub, &self.source.snapshot)
    }

    /// Makes a request and adds it to `inbox`, behind those that were made without one: the node takes
    /// numbers in ascending order.
    fn send(
        &mut self,
        now: Instant,
        waiting: Waiting,
        (identity, ask): (Identity, Ask),
        inbox: &mut Vec<Event>,
    ) {
        inbox.append(&mut self.outgoing);
        self.next_sequence += 1;
        let deadline = now + self.config.limits.request_timeout;
        self.waiting.push(self.next_sequence, (deadline, waiting));
        let id = self.last_request();
        inbox.push(Event::Request(Request { id, identity, ask, deadline }));
    }

    /// A read comes: a local one is read from what is there, others gather for a read index.
    fn take_read(&mut self, asking: Asking, local: bool) {
        let held = self.gathering.len() + self.indexing + self.lagging.len() + self.reads.len();
        if held >= self.config.limits.pending_commands_max {
            self.reads.answers.push((asking.call, Err(Rejection::TooManyRequests)));
        } else if local {
            self.read(asking);
        } else {
            self.gathering.push(asking);
        }
    }

    fn refuse(&mut self, waiting: Waiting, rejection: Rejection) {
        let answers = &mut self.reads.answers;
        match waiting {
            Waiting::Reads(reads) => {
                self.indexing -= reads.len();
                answers.extend(reads.into_iter().map(|asking| (asking.call, Err(rejection))));
            }
            Waiting::Compaction => {}
            Waiting::Inspection => self.confirmed(false),
            Waiting::Login(checked) => answers.push((checked.call(), Err(rejection))),
            Waiting::Write(call)
            | Waiting::Physical(call, _)
            | Waiting::KeepAlive(call, _)
            | Waiting::TimeToLive(call, _, _) => answers.push((call, Err(rejection))),
        }
    }

    /// Refuses what has waited too long (law 4). Deadlines ascend with the requests' numbers, since a
    /// member's clock does not go back.
    fn expire(&mut self, now: Instant) {
        let grace = self.config.limits.election_timeout;
        let late = |(deadline, _): &(Instant, Waiting)| *deadline + grace <= now;
        while let Some((sequence, _)) = self.waiting.first().filter(|(_, first)| late(first)) {
            if let Some((_, waiting)) = self.waiting.remove(sequence) {
                self.refuse(waiting, Rejection::Timeout);
            }
        }
        self.expire_parked(now);
        self.expire_moves(now);
        let answers = &mut self.reads.answers;
        self.lagging.retain(|look| {
            let late = look.deadline <= now;
            if late {
                answers.push((look.call, Err(Rejection::Timeout)));
            }
            !late
        });
    }

    /// What is chosen at the edge, before the log: lease ids and raised TTLs.
    fn op(&mut self, query: Query) -> Op {
        match query {
            Query::Put(put) => Op::Put(put),
            Query::DeleteRange(delete) => Op::DeleteRange(delete),
            Query::Txn(txn) => Op::Txn(txn),
            Query::Compact { revision, .. } => Op::Compact { revision: Revision(revision) },
            Query::LeaseGrant { id, ttl } => {
                let chosen = LeaseId((self.rng.next() >> 1).max(1) as i64);
                let id = if id == LeaseId::NONE { chosen } else { id };
                Op::LeaseGrant { id, ttl: ttl.max(self.config.limits.lease_ttl_min()) }
            }
            Query::LeaseRevoke { id } => Op::LeaseRevoke { id },
            Query::AlarmList => Op::AlarmList,
            Query::Alarm(op) => Op::Alarm(op),
            Query::MemberAdd { peer_urls, is_learner } => Op::Member(MemberChange::Add {
                id: (self.config.member_id)(&peer_urls),
                peer_urls,
                is_learner,
                learners_max: self.config.limits.learners_max,
            }),
            Query::MemberChange(change) => Op::Member(change),
            Query::Range(_)
            | Query::MemberList { .. }
            | Query::Downgrade(_)
            | Query::Status
            | Query::HashKv { .. }
            | Query::Hash
            | Query::Defragment
            | Query::MoveLeader { .. }
            | Query::LeaseLeases
            | Query::LeaseKeepAlive { .. }
            | Query::LeaseTimeToLive { .. }
            | Query::Auth(_) => unreachable!("answered without a proposal, or made into one"),
        }
    }

    fn read(&mut self, asking: Asking) {
        match asking.read {
            Read::Login(login) => self.check_password(self.now, login),
            _ => self.reads.read(asking, &self.source, &mut self.access),
        }
    }

    fn answer_write(&mut self, call: StreamId, response: Response) {
        let header = Header { revision: response.revision, term: response.term };
        let body = match resolve::begin(response.body) {
            Resolved::Complete(body) => body,
            // Only the member's own requests have no body of an answer; their askers want none.
            Resolved::Nothing => AnswerBody::Compact,
            Resolved::Reading(resolution) => {
                let source = Source { header, snapshot: self.source.snapshot.clone() };
                return self.reads.resolve(call, source, *resolution);
            }
        };
        self.reads.answers.push((call, Ok(Answer { header, body })));
    }

    fn answer_renewal(&mut self, call: StreamId, id: LeaseId, response: Response) {
        let ttl = match response.body {
            Body::LeaseKeepAlive { ttl } => ttl,
            _ => 0,
        };
        let header = Header { revision: response.revision, term: response.term };
        let body = AnswerBody::LeaseKeepAlive { id, ttl };
        self.reads.answers.push((call, Ok(Answer { header, body })));
    }

    fn answer_time_to_live(
        &mut self,
        (call, keys, deadline): (StreamId, Option<Credential>, Instant),
        id: LeaseId,
        response: Response,
    ) {
        let (ttl, granted, applied) = match response.body {
            Body::LeaseTimeToLive { ttl, granted, applied } => (ttl, granted, applied),
            _ => (-1, 0, Index(0)),
        };
        if let Some(by) = keys.filter(|_| ttl >= 0) {
            let lease = Lease { id, ttl, granted };
            return self.read_lease(Lagging { call, by, lease, applied, deadline });
        }
        let header = Header { revision: response.revision, term: response.term };
        let body = AnswerBody::LeaseTimeToLive { id, ttl, granted, keys: Vec::new() };
        self.reads.answers.push((call, Ok(Answer { header, body })));
    }

    /// Reads the keys of a lease, now or once there is a snapshot to read them from (law 3).
    fn read_lease(&mut self, look: Lagging) {
        if self.source.snapshot.mark().applied.index < look.applied {
            self.lagging.push(look);
        } else {
            let Lagging { call, by, lease, .. } = look;
            self.read(Asking { call, by, read: Read::LeaseKeys(lease) });
        }
    }

    fn answer_status(&mut self, call: StreamId, by: &Credential) {
        if !self.may(call, by, Act::Identified) {
            return;
        }
        let snapshot = &self.source.snapshot;
        let stored = i64::try_from(machine::stored_bytes(snapshot)).unwrap_or(i64::MAX);
        let mut errors = match self.status.leader {
            Some(_) => Vec::new(),
            None => vec![Rejection::NoLeader.text().to_string()],
        };
        errors.extend(machine::alarms(snapshot).iter().map(Alarm::to_string));
        let status = StatusAnswer {
            status: self.status,
            db_size: stored,
            // What compaction frees is free at once: there is nothing that only a defragmentation returns.
            db_size_in_use: stored,
            quota: self.config.quota,
            errors,
        };
        let (header, body) = (self.source.header, AnswerBody::Status(status));
        self.reads.answers.push((call, Ok(Answer { header, body })));
    }

    fn answer_physical(&mut self) {
        let done = self.compacted;
        let answers = &mut self.reads.answers;
        self.physical.retain(|(revision, call, header)| {
            let finished = *revision <= done;
            if finished {
                answers.push((*call, Ok(Answer { header: *header, body: AnswerBody::Compact })));
            }
            !finished
        });
    }
}
