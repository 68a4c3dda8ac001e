//! What etcd's surface says a store does, as naively as it can be written: a whole copy of all pairs
//! for each revision, leases found by searching, transactions run on one more copy. Shares nothing
//! with the machine but the request and answer types.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_core::id::{LeaseId, Revision};
use holdfast_core::kv::KeyValue;
use holdfast_core::query::{AnswerBody, DeleteAnswer, OpAnswer, RangeAnswer, TxnAnswer};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, KeyRange, Op, Put, Range, RangeEnd, SortOrder,
    SortTarget, Txn, TxnOp,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    create: i64,
    modified: i64,
    version: i64,
    value: Bytes,
    pub lease: i64,
}

pub type Pairs = BTreeMap<Bytes, Pair>;

/// Key, encoded pair, whether it is a deletion, encoded previous pair.
pub type Change = (Bytes, Bytes, bool, Option<Bytes>);

/// What came of one operation: answer, header revision, events.
pub type Outcome = (Result<AnswerBody, Rejection>, i64, Vec<Change>);

pub struct Model {
    /// All pairs as of each revision; there is none at 0 and nothing in 1.
    pub history: Vec<Pairs>,
    pub compacted: i64,
    pub leases: BTreeMap<i64, i64>,
}

impl Default for Model {
    fn default() -> Model {
        let history = vec![Pairs::new(), Pairs::new()];
        Model { history, compacted: -1, leases: BTreeMap::new() }
    }
}

impl Model {
    pub fn revision(&self) -> i64 {
        self.history.len() as i64 - 1
    }

    pub fn now(&self) -> &Pairs {
        self.history.last().expect("there is always a first state")
    }

    pub fn apply(&mut self, op: &Op) -> Outcome {
        let mut work = Work::on(self);
        let answer = match op {
            Op::Put(put) => self.put(put, &mut work),
            Op::DeleteRange(delete) => {
                let answer = work.delete(&delete.keys, delete.prev_kv);
                Ok(AnswerBody::DeleteRange(answer))
            }
            Op::Txn(txn) => self.txn(txn, &mut work),
            Op::Compact { revision } => self.compact(revision.0),
            Op::LeaseGrant { id, ttl } => self.grant(id.0, *ttl),
            Op::LeaseRevoke { id } => match self.leases.remove(&id.0) {
                None => Err(Rejection::LeaseNotFound),
                Some(_) => {
                    work.revoke(id.0);
                    Ok(AnswerBody::LeaseRevoke)
                }
            },
            Op::AlarmList => Ok(AnswerBody::Alarms(Vec::new())),
            Op::Auth(_) => panic!("users have a model of their own, in auth_properties"),
            Op::Alarm(_)
            | Op::LeaseCheckpoint(_)
            | Op::Audit(_)
            | Op::Publish { .. }
            | Op::Member(_)
            | Op::Started { .. }
            | Op::ClusterVersion(_) => {
                panic!("the model knows no members")
            }
        };
        if work.changed && answer.is_ok() {
            self.history.push(work.pairs);
        }
        let events = if answer.is_ok() { work.events } else { Vec::new() };
        (answer, self.revision(), events)
    }

    pub fn range(&self, range: &Range) -> Result<RangeAnswer, Rejection> {
        let revision = if range.revision <= 0 { self.revision() } else { range.revision };
        if revision > self.revision() {
            return Err(Rejection::FutureRevision);
        }
        if revision < self.compacted {
            return Err(Rejection::Compacted);
        }
        Ok(answer(&self.history[revision as usize], range))
    }

    fn put(&self, put: &Put, work: &mut Work) -> Result<AnswerBody, Rejection> {
        self.check_lease(put)?;
        self.check_key(put)?;
        Ok(AnswerBody::Put(work.put(put)))
    }

    fn check_lease(&self, put: &Put) -> Result<(), Rejection> {
        match put.lease.0 {
            0 => Ok(()),
            id if self.leases.contains_key(&id) => Ok(()),
            _ => Err(Rejection::LeaseNotFound),
        }
    }

    fn check_key(&self, put: &Put) -> Result<(), Rejection> {
        if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
            return Err(Rejection::KeyNotFound);
        }
        Ok(())
    }

    fn compact(&mut self, revision: i64) -> Result<AnswerBody, Rejection> {
        if revision <= self.compacted {
            return Err(Rejection::Compacted);
        }
        if revision > self.revision() {
            return Err(Rejection::FutureRevision);
        }
        self.compacted = revision;
        Ok(AnswerBody::Compact)
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<AnswerBody, Rejection> {
        if id == 0 {
            return Err(Rejection::LeaseNotFound);
        }
        if self.leases.contains_key(&id) {
            return Err(Rejection::LeaseExists);
        }
        self.leases.insert(id, ttl);
        Ok(AnswerBody::LeaseGrant { id: LeaseId(id), ttl })
    }

    pub fn txn(&self, txn: &Txn, work: &mut Work) -> Result<AnswerBody, Rejection> {
        let mut path = Vec::new();
        self.decide(txn, &mut path);
        self.check(txn, &mut path.iter())?;
        Ok(AnswerBody::Txn(self.run(txn, &mut path.iter(), work)))
    }

    /// The branch of each transaction on the way, in the order they are come to.
    fn decide(&self, txn: &Txn, path: &mut Vec<bool>) {
        let succeeded = txn.compares.iter().all(|compare| holds(self.now(), compare));
        path.push(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            if let TxnOp::Txn(child) = op {
                self.decide(child, path);
            }
        }
    }

    fn check(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>) -> Result<(), Rejection> {
        for op in branch(txn, path).1 {
            match op {
                TxnOp::Range(Range { revision: 0, .. }) | TxnOp::DeleteRange(_) => {}
                TxnOp::Range(range) if range.revision > self.revision() => {
                    return Err(Rejection::FutureRevision);
                }
                TxnOp::Range(range) if range.revision < self.compacted => {
                    return Err(Rejection::Compacted);
                }
                TxnOp::Range(_) => {}
                TxnOp::Put(put) => {
                    self.check_key(put)?;
                    self.check_lease(put)?;
                }
                TxnOp::Txn(child) => self.check(child, path)?,
            }
        }
        Ok(())
    }

    fn run(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>, work: &mut Work) -> TxnAnswer {
        let (succeeded, branch) = branch(txn, path);
        let mut ops = Vec::new();
        for op in branch {
            ops.push(match op {
                TxnOp::Range(range) => {
                    let past = range.revision > 0;
                    let pairs =
                        if past { &self.history[range.revision as usize] } else { &work.pairs };
                    OpAnswer::Range(work.revision(), answer(pairs, range))
                }
                TxnOp::Put(put) => {
                    let prev = work.put(put);
                    OpAnswer::Put(work.revision(), prev)
                }
                TxnOp::DeleteRange(delete) => {
                    let answer = work.delete(&delete.keys, delete.prev_kv);
                    OpAnswer::DeleteRange(work.revision(), answer)
                }
                TxnOp::Txn(child) => OpAnswer::Txn(self.run(child, path, work)),
            });
        }
        TxnAnswer { succeeded, ops }
    }
}

fn branch<'a>(txn: &'a Txn, path: &mut std::slice::Iter<'_, bool>) -> (bool, &'a [TxnOp]) {
    let succeeded = *path.next().expect("decided before");
    (succeeded, if succeeded { &txn.success } else { &txn.failure })
}

/// The state a command makes.
pub struct Work {
    pairs: Pairs,
    next: i64,
    changed: bool,
    events: Vec<Change>,
}

impl Work {
    pub fn on(model: &Model) -> Work {
        let next = model.revision() + 1;
        Work { pairs: model.now().clone(), next, changed: false, events: Vec::new() }
    }

    fn revision(&self) -> Revision {
        Revision(if self.changed { self.next } else { self.next - 1 })
    }

    fn put(&mut self, put: &Put) -> Option<Bytes> {
        let old = self.pairs.get(&put.key).cloned();
        let mut new = Pair {
            create: old.as_ref().map_or(self.next, |old| old.create),
            modified: self.next,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            value: put.value.clone(),
            lease: put.lease.0,
        };
        if let Some(old) = &old {
            if put.ignore_value {
                new.value = old.value.clone();
            }
            if put.ignore_lease {
                new.lease = old.lease;
            }
        }
        let prev = old.map(|old| encode(&put.key, &old));
        self.events.push((put.key.clone(), encode(&put.key, &new), false, prev.clone()));
        self.pairs.insert(put.key.clone(), new);
        self.changed = true;
        prev.filter(|_| put.prev_kv)
    }

    fn delete(&mut self, keys: &KeyRange, prev_kv: bool) -> DeleteAnswer {
        let doomed: Vec<Bytes> =
            self.pairs.keys().filter(|key| within(keys, key)).cloned().collect();
        let prev_kvs: Vec<Bytes> = doomed.iter().map(|key| self.remove(key)).collect();
        let deleted = doomed.len() as i64;
        DeleteAnswer { deleted, prev_kvs: if prev_kv { prev_kvs } else { Vec::new() } }
    }

    fn revoke(&mut self, lease: i64) {
        let attached = self.pairs.iter().filter(|(_, pair)| pair.lease == lease);
        let doomed: Vec<Bytes> = attached.map(|(key, _)| key.clone()).collect();
        doomed.iter().for_each(|key| drop(self.remove(key)));
    }

    fn remove(&mut self, key: &Bytes) -> Bytes {
        let old = self.pairs.remove(key).expect("chosen from the pairs");
        let prev = encode(key, &old);
        let gone = Pair { modified: self.next, ..Pair::default() };
        self.events.push((key.clone(), encode(key, &gone), true, Some(prev.clone())));
        self.changed = true;
        prev
    }
}

fn within(keys: &KeyRange, key: &Bytes) -> bool {
    match &keys.end {
        RangeEnd::Single => *key == keys.start,
        RangeEnd::Before(end) => (&keys.start..end).contains(&key) && keys.start < *end,
        RangeEnd::Open => *key >= keys.start,
    }
}

fn holds(pairs: &Pairs, compare: &Compare) -> bool {
    let mut found: Vec<Pair> = pairs
        .iter()
        .filter(|(key, _)| within(&compare.keys, key))
        .map(|(_, p)| p.clone())
        .collect();
    if found.is_empty() {
        if matches!(compare.target, CompareTarget::Value(_)) {
            return false;
        }
        found.push(Pair::default());
    }
    found.iter().all(|pair| {
        let order = match &compare.target {
            CompareTarget::Version(operand) => pair.version.cmp(operand),
            CompareTarget::Create(operand) => pair.create.cmp(operand),
            CompareTarget::Mod(operand) => pair.modified.cmp(operand),
            CompareTarget::Lease(operand) => pair.lease.cmp(operand),
            CompareTarget::Value(operand) => pair.value.cmp(operand),
            CompareTarget::Unknown => std::cmp::Ordering::Equal,
        } as i8;
        match compare.result {
            CompareResult::Equal => order == 0,
            CompareResult::Greater => order > 0,
            CompareResult::Less => order < 0,
            CompareResult::NotEqual => order != 0,
            CompareResult::Unknown => true,
        }
    })
}

fn answer(pairs: &Pairs, range: &Range) -> RangeAnswer {
    let mut found: Vec<(&Bytes, &Pair)> =
        pairs.iter().filter(|(key, _)| within(&range.keys, key)).collect();
    let count = found.len() as i64;
    if range.count_only {
        return RangeAnswer { count, ..RangeAnswer::default() };
    }
    let limit = range.limit.max(0) as usize;
    let filters = [range.mod_min, range.mod_max, range.create_min, range.create_max];
    let early = range.order == SortOrder::None && filters == [0; 4] && limit > 0;
    if early {
        found.truncate(limit + 1);
    }
    if range.mod_max != 0 {
        found.retain(|(_, pair)| pair.modified <= range.mod_max);
    }
    if range.mod_min != 0 {
        found.retain(|(_, pair)| pair.modified >= range.mod_min);
    }
    if range.create_max != 0 {
        found.retain(|(_, pair)| pair.create <= range.create_max);
    }
    if range.create_min != 0 {
        found.retain(|(_, pair)| pair.create >= range.create_min);
    }
    let rank = |pair: &Pair| match range.target {
        SortTarget::Key => (0, Bytes::new()),
        SortTarget::Version => (pair.version, Bytes::new()),
        SortTarget::Create => (pair.create, Bytes::new()),
        SortTarget::Mod => (pair.modified, Bytes::new()),
        SortTarget::Value => (0, pair.value.clone()),
    };
    match (range.order, range.target) {
        (SortOrder::Descend, SortTarget::Key) => found.sort_by_key(|(key, _)| Reverse(*key)),
        (SortOrder::Descend, _) => found.sort_by_key(|(key, pair)| (Reverse(rank(pair)), *key)),
        _ => found.sort_by_key(|(key, pair)| (rank(pair), *key)),
    }
    let more = limit > 0 && found.len() > limit;
    if more {
        found.truncate(limit);
    }
    let kvs = found.into_iter().map(|(key, pair)| {
        let mut pair = pair.clone();
        if range.keys_only {
            pair.value = Bytes::new();
            if range.target != SortTarget::Value {
                pair.lease = 0;
            }
        }
        encode(key, &pair)
    });
    RangeAnswer { kvs: kvs.collect(), more, count }
}

fn encode(key: &[u8], pair: &Pair) -> Bytes {
    KeyValue {
        key,
        create_revision: Revision(pair.create),
        mod_revision: Revision(pair.modified),
        version: pair.version,
        value: &pair.value,
        lease: LeaseId(pair.lease),
    }
    .encode()
}
