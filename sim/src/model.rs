//! The oracle: what etcd would do, in the dumbest way that can be right.
//!
//! It is fed the committed log, command by command, and says what each must have answered and what
//! every state since the beginning looked like. It shares nothing with the system but the types of
//! requests and answers; every version of every key is kept for ever in plain lists.
//!
//! Leaves out everything that is not replicated (watch streams, time, each member's quota).
//!
//! Laws:
//!  1. State `n` is the state after `n` commands; it never changes once it exists.
//!  2. Compaction removes nothing here: it only moves the mark below which reads are refused.
//!
//! Worked example: after `put a`, `delete a`, `put a` the versions of `a` are r2 (put), r3
//! (tombstone), r4 (put, created at r4, version 1).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, MemberId, RevSub, Revision};
use holdfast_core::query::{AnswerBody, DeleteAnswer, RangeAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{Identity, KeyRange, Op, Range, RangeEnd};
use holdfast_core::response::{Alarm, Member};

pub mod auth;
mod members;
mod range;
pub mod space;
mod txn;

/// One version of a key, as the oracle keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Which change made it.
    pub at: RevSub,
    /// When the key's life began; 0 for a tombstone.
    pub created: i64,
    /// Puts since then; 0 for a tombstone.
    pub version: i64,
    /// The lease.
    pub lease: i64,
    /// The value; `None` for a tombstone.
    pub value: Option<Bytes>,
}

/// What a command answers: the header's revision and the rest.
pub type Verdict = Result<(Revision, AnswerBody), Rejection>;

/// One command of the log and what came of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was asked.
    pub op: Op,
    /// What must be answered.
    pub verdict: Verdict,
    /// The revision afterwards.
    pub revision: Revision,
    /// The compaction mark afterwards.
    pub compacted: Revision,
    /// Bytes that can be read afterwards.
    pub stored: u64,
}

/// One change, as the oracle would tell a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which change.
    pub at: RevSub,
    /// The key.
    pub key: Bytes,
    /// Whether it was deleted.
    pub delete: bool,
    /// The encoded pair.
    pub kv: Bytes,
    /// The encoded previous pair.
    pub prev: Option<Bytes>,
}

/// The whole history.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    revision: Revision,
    compacted: Revision,
    alarms: BTreeSet<Alarm>,
    /// Bytes that can be read.
    stored: u64,
    /// Granted leases and their TTL.
    leases: BTreeMap<i64, i64>,
    steps: Vec<Step>,
    /// The step that made each revision, from r2 on.
    by_revision: Vec<usize>,
    changes: Vec<Change>,
    users: auth::Users,
    /// Every state of the users that has been, with the number of commands after which it was there.
    users_were: Vec<(usize, auth::Users)>,
    members: members::Members,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            keys: BTreeMap::new(),
            revision: Revision::EMPTY,
            compacted: Revision(-1),
            alarms: BTreeSet::new(),
            stored: 0,
            leases: BTreeMap::new(),
            steps: Vec::new(),
            by_revision: Vec::new(),
            changes: Vec::new(),
            users: auth::Users::default(),
            users_were: vec![(0, auth::Users::default())],
            members: members::Members::default(),
        }
    }
}

impl Model {
    /// A cluster that begins with these members.
    pub fn with_members(members: &[Member]) -> Model {
        let mut model = Model::default();
        model.members.all = members.iter().map(|member| (member.id, member.clone())).collect();
        model
    }

    /// Who is a member.
    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members.all
    }

    /// Who was one.
    pub fn removed(&self) -> &BTreeSet<MemberId> {
        &self.members.removed
    }

    /// Applies the next command of the log, as the cluster's own.
    pub fn apply(&mut self, op: &Op) -> &Step {
        self.apply_by(&Identity::SYSTEM, op)
    }

    /// Applies the next command of the log under the identity that it carries.
    pub fn apply_by(&mut self, who: &Identity, op: &Op) -> &Step {
        let (before, changes) = (self.revision, self.changes.len());
        let named = self.users.may_begin(who, op);
        let permitted = named.and_then(|()| match space::refusal(&self.alarms, op) {
            Some(rejection) => Err(rejection),
            None => self.users.may(who, op, &|id| self.lease_keys(id)),
        });
        let verdict = permitted.and_then(|()| self.perform(op));
        self.count(changes, matches!(op, Op::Compact { .. }));
        if self.revision != before {
            self.by_revision.push(self.steps.len());
        }
        let (revision, compacted, stored) = (self.revision, self.compacted, self.stored);
        self.steps.push(Step { op: op.clone(), verdict, revision, compacted, stored });
        if self.users_were.last().is_none_or(|(_, users)| *users != self.users) {
            self.users_were.push((self.steps.len(), self.users.clone()));
        }
        self.steps.last().expect("one was pushed")
    }

    /// The users now.
    pub fn users(&self) -> &auth::Users {
        &self.users
    }

    /// Every state of the users that was there after this many commands, or later.
    pub fn users_since(&self, steps: usize) -> impl Iterator<Item = &auth::Users> {
        let later = self.users_were.partition_point(|(since, _)| *since <= steps);
        self.users_were[later.saturating_sub(1)..].iter().map(|(_, users)| users)
    }

    /// The states of the users that were there after `first` commands, after `last`, and in between.
    pub fn users_between(&self, first: usize, last: usize) -> impl Iterator<Item = &auth::Users> {
        let later = self.users_were.partition_point(|(since, _)| *since <= first);
        let among = self.users_were[later.saturating_sub(1)..].iter();
        among.take_while(move |(since, _)| *since <= last).map(|(_, users)| users)
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The compaction mark; -1 before the first.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// All commands so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The command that made a revision.
    pub fn step_of(&self, revision: Revision) -> Option<&Step> {
        let place = usize::try_from(revision.0 - 2).ok()?;
        self.by_revision.get(place).map(|step| &self.steps[*step])
    }

    /// All changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes from a revision on.
    pub fn changes_from(&self, revision: Revision) -> &[Change] {
        let start = self.changes.partition_point(|change| change.at.main < revision);
        &self.changes[start..]
    }

    /// Leases that live now, and their TTL.
    pub fn leases(&self) -> &BTreeMap<i64, i64> {
        &self.leases
    }

    /// Alarms that are up now.
    pub fn alarms(&self) -> &BTreeSet<Alarm> {
        &self.alarms
    }

    /// The live keys attached to a lease now.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let attached = |versions: &[Version]| {
            versions.last().is_some_and(|last| last.value.is_some() && last.lease == id)
        };
        self.keys.iter().filter(|(_, v)| attached(v)).map(|(key, _)| key.clone()).collect()
    }

    /// The newest version of every key, tombstones included.
    pub fn newest(&self) -> impl Iterator<Item = (&Bytes, &Version)> {
        self.keys.iter().map(|(key, v)| (key, v.last().expect("a key has versions")))
    }

    /// What `range` reads when the newest revision is `current`.
    pub fn range(&self, current: Revision, range: &Range) -> RangeAnswer {
        let revision = if range.revision > 0 { Revision(range.revision) } else { current };
        range::evaluate(self, revision.after(), range)
    }

    /// The live versions of a range strictly below a bound, in key order.
    fn live(&self, keys: &KeyRange, below: RevSub) -> Vec<(&Bytes, &Version)> {
        let low = Bound::Included(keys.start.clone());
        let high = match &keys.end {
            RangeEnd::Single => Bound::Included(keys.start.clone()),
            RangeEnd::Before(end) if *end <= keys.start => return Vec::new(),
            RangeEnd::Before(end) => Bound::Excluded(end.clone()),
            RangeEnd::Open => Bound::Unbounded,
        };
        let newest = |versions: &'_ [Version]| versions.partition_point(|v| v.at < below);
        let found = self.keys.range((low, high)).filter_map(|(key, versions)| {
            let version = &versions[newest(versions).checked_sub(1)?];
            version.value.is_some().then_some((key, version))
        });
        found.collect()
    }

    fn perform(&mut self, op: &Op) -> Verdict {
        match op {
            Op::Put(put) => self.put_alone(put),
            Op::DeleteRange(delete) => {
                let at = RevSub { main: self.revision.next(), sub: 0 };
                let (answer, removed) = self.delete(&delete.keys, delete.prev_kv, at);
                self.revision.0 += i64::from(removed > 0);
                Ok((self.revision, AnswerBody::DeleteRange(answer)))
            }
            Op::Txn(txn) => txn::perform(self, txn),
            Op::Compact { revision } => {
                if *revision <= self.compacted {
                    return Err(Rejection::Compacted);
                }
                if *revision > self.revision {
                    return Err(Rejection::FutureRevision);
                }
                self.compacted = *revision;
                Ok((self.revision, AnswerBody::Compact))
            }
            Op::LeaseGrant { id, ttl } => {
                if self.leases.contains_key(&id.0) {
                    return Err(Rejection::LeaseExists);
                }
                self.leases.insert(id.0, *ttl);
                Ok((self.revision, AnswerBody::LeaseGrant { id: *id, ttl: *ttl }))
            }
            Op::LeaseRevoke { id } => self.revoke(id.0),
            Op::AlarmList => {
                let all = self.alarms.iter().copied().collect();
                Ok((self.revision, AnswerBody::Alarms(all)))
            }
            Op::Alarm(op) => Ok((self.revision, AnswerBody::Alarms(self.alarm(*op)))),
            Op::Auth(op) => {
                let reply = self.users.call(op)?;
                Ok((self.revision, AnswerBody::Auth(reply)))
            }
            Op::Member(change) => {
                let answer = self.members.change(change)?;
                Ok((self.revision, answer))
            }
            Op::Publish { member, name, client_urls } => {
                self.members.publish(*member, name, client_urls);
                Ok((self.revision, AnswerBody::Compact))
            }
            // What members tell of their own starts and states is not modelled; no client is answered.
            Op::Started { .. } | Op::ClusterVersion(_) | Op::Audit(_) | Op::LeaseCheckpoint(_) => {
                Ok((self.revision, AnswerBody::Compact))
            }
        }
    }

    fn put_alone(&mut self, put: &holdfast_core::request::Put) -> Verdict {
        if put.lease != LeaseId::NONE && !self.leases.contains_key(&put.lease.0) {
            return Err(Rejection::LeaseNotFound);
        }
        let at = RevSub { main: self.revision.next(), sub: 0 };
        if (put.ignore_value || put.ignore_lease) && self.current(&put.key, at).is_none() {
            return Err(Rejection::KeyNotFound);
        }
        let prev = self.put(put, at);
        self.revision = at.main;
        Ok((self.revision, AnswerBody::Put(prev)))
    }

    fn revoke(&mut self, id: i64) -> Verdict {
        if self.leases.remove(&id).is_none() {
            return Err(Rejection::LeaseNotFound);
        }
        let keys = self.lease_keys(id);
        for (sub, key) in keys.iter().enumerate() {
            self.bury(key, RevSub { main: self.revision.next(), sub: sub as u32 });
        }
        self.revision.0 += i64::from(!keys.is_empty());
        Ok((self.revision, AnswerBody::LeaseRevoke))
    }

    /// The live version of a key strictly below `below`.
    fn current(&self, key: &[u8], below: RevSub) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        let version = versions.iter().rev().find(|version| version.at < below)?;
        version.value.is_some().then_some(version)
    }

    /// Writes one key at `at` and gives the previous pair back if it was asked for.
    fn put(&mut self, put: &holdfast_core::request::Put, at: RevSub) -> Option<Bytes> {
        let old = self.current(&put.key, at).cloned();
        let old_value = old.as_ref().and_then(|old| old.value.clone());
        let old_lease = old.as_ref().map_or(0, |old| old.lease);
        let version = Version {
            at,
            created: old.as_ref().map_or(at.main.0, |old| old.created),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: if put.ignore_lease { old_lease } else { put.lease.0 },
            value: Some(if put.ignore_value {
                old_value.unwrap_or_default()
            } else {
                put.value.clone()
            }),
        };
        let prev = old.map(|old| encode(&put.key, &old));
        self.changes.push(Change {
            at,
            key: put.key.clone(),
            delete: false,
            kv: encode(&put.key, &version),
            prev: prev.clone(),
        });
        self.keys.entry(put.key.clone()).or_default().push(version);
        prev.filter(|_| put.prev_kv)
    }

    /// Removes the live keys of a range, the first at `at`, each at the next sub-revision.
    fn delete(&mut self, keys: &KeyRange, prev_kv: bool, at: RevSub) -> (DeleteAnswer, u32) {
        let live = self.live(keys, at);
        let prev_kvs = live.iter().map(|(key, version)| encode(key, version)).collect();
        let doomed: Vec<Bytes> = live.iter().map(|(key, _)| (*key).clone()).collect();
        for (n, key) in doomed.iter().enumerate() {
            self.bury(key, RevSub { main: at.main, sub: at.sub + n as u32 });
        }
        let answer = DeleteAnswer {
            deleted: doomed.len() as i64,
            prev_kvs: if prev_kv { prev_kvs } else { Vec::new() },
        };
        (answer, doomed.len() as u32)
    }

    fn bury(&mut self, key: &Bytes, at: RevSub) {
        let prev = self.current(key, at).map(|old| encode(key, old));
        let tombstone = Version { at, created: 0, version: 0, lease: 0, value: None };
        self.changes.push(Change {
            at,
            key: key.clone(),
            delete: true,
            kv: encode(key, &Version { created: 0, ..tombstone.clone() }),
            prev,
        });
        self.keys.entry(key.clone()).or_default().push(tombstone);
    }
}

/// The bytes of an `mvccpb.KeyValue`: fields in order, zeros left out. A tombstone shows its key and
/// the revision of the deletion.
pub fn encode(key: &[u8], version: &Version) -> Bytes {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, key);
    put_number(&mut out, 2, version.created);
    put_number(&mut out, 3, version.at.main.0);
    put_number(&mut out, 4, version.version);
    put_bytes(&mut out, 5, version.value.as_deref().unwrap_or_default());
    put_number(&mut out, 6, version.lease);
    out.into()
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, field << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, field: u64, number: i64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number as u64);
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests;
