//! What can be asked, and the bytes that ask it.

use super::Config;
use super::conn::Says;
use super::frame::Call;
use super::pb;
use super::tally::Kind;
use super::values::{Pattern, Random, name_key, prefix_end};

/// Keys of a page of a list, and of a page while revisions are learned.
pub(super) const PAGE: u64 = 500;
const LEARN_PAGE: u64 = 10_000;

/// One request. Keys are numbers here; [`Source`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Put {
        key: u64,
    },
    Range {
        key: u64,
    },
    Page {
        key: u64,
    },
    /// If the key has this revision, put it; otherwise read it.
    Swap {
        key: u64,
        revision: i64,
    },
    /// The same for a key of the slot's own, which is created when the revision is 0 and removed if not.
    Churn {
        slot: u64,
        revision: i64,
    },
    Delete {
        key: u64,
    },
    Load {
        batch: u64,
    },
    Grant,
    KeepAlive {
        lease: i64,
    },
    Compact,
    Defragment,
    Snapshot,
    Learn,
    Watch,
}

impl Request {
    pub fn kind(self) -> Kind {
        match self {
            Request::Put { .. } => Kind::Put,
            Request::Range { .. } => Kind::Range,
            Request::Page { .. } => Kind::List,
            Request::Swap { .. } => Kind::Swap,
            Request::Churn { revision: 0, .. } => Kind::Create,
            Request::Churn { .. } => Kind::Remove,
            Request::Delete { .. } => Kind::Delete,
            Request::Load { .. } => Kind::Load,
            Request::Grant => Kind::Grant,
            Request::KeepAlive { .. } => Kind::KeepAlive,
            Request::Compact => Kind::Compact,
            Request::Defragment => Kind::Defragment,
            Request::Snapshot => Kind::Snapshot,
            Request::Learn => Kind::Learn,
            Request::Watch => Kind::Watch,
        }
    }

    pub fn call(self) -> (Call, Says) {
        match self {
            Request::Put { .. } => (Call::Put, Says::Once),
            Request::Range { .. } | Request::Page { .. } | Request::Learn => {
                (Call::Range, Says::Once)
            }
            Request::Swap { .. } | Request::Churn { .. } | Request::Load { .. } => {
                (Call::Txn, Says::Once)
            }
            Request::Delete { .. } => (Call::DeleteRange, Says::Once),
            Request::Grant => (Call::LeaseGrant, Says::Once),
            Request::KeepAlive { .. } => (Call::LeaseKeepAlive, Says::More),
            Request::Compact => (Call::Compact, Says::Once),
            Request::Defragment => (Call::Defragment, Says::Once),
            Request::Snapshot => (Call::Snapshot, Says::Once),
            Request::Watch => (Call::Watch, Says::More),
        }
    }
}

/// Writes requests, with keys and values from its own dice.
pub(super) struct Source<'a> {
    config: &'a Config,
    pattern: &'a Pattern,
    pub random: Random,
    thread: (u64, u64),
    key: Vec<u8>,
    /// Where the next page of keys begins while revisions are learned.
    pub learn_from: Vec<u8>,
}

impl<'a> Source<'a> {
    pub fn new(config: &'a Config, pattern: &'a Pattern, thread: (u64, u64)) -> Source<'a> {
        Source {
            config,
            pattern,
            random: Random(config.seed.wrapping_mul(1000).wrapping_add(thread.0 + 1)),
            thread,
            key: Vec::new(),
            learn_from: config.prefix.clone().into_bytes(),
        }
    }

    /// Appends the message of a request that is sent at `now`.
    pub fn write(&mut self, out: &mut Vec<u8>, request: Request, now: u64) {
        match request {
            Request::Put { key } => {
                self.name(key);
                pb::put_bytes(out, 1, &self.key);
                self.put_value(out, 2, now);
            }
            Request::Range { key } => self.range(out, key),
            Request::Page { key } => {
                self.name(key);
                pb::put_bytes(out, 1, &self.key);
                pb::put_bytes(out, 2, &prefix_end(&self.config.prefix));
                pb::put_number(out, 3, PAGE);
            }
            Request::Swap { key, revision } => {
                self.name(key);
                self.swap(out, revision, Some(now));
            }
            Request::Churn { slot, revision } => {
                self.key = format!("{}churn/{}-{slot}-", self.config.prefix, self.thread.0).into();
                self.swap(out, revision, (revision == 0).then_some(now));
            }
            Request::Delete { key } => {
                self.name(key);
                pb::put_bytes(out, 1, &self.key);
            }
            Request::Load { batch } => self.load(out, batch, now),
            Request::Grant => pb::put_number(out, 1, self.config.ttl),
            Request::KeepAlive { lease } => pb::put_number(out, 1, lease as u64),
            Request::Compact => {
                pb::put_number(out, 1, self.config.revision as u64);
                pb::put_number(out, 2, u64::from(self.config.physical));
            }
            Request::Defragment | Request::Snapshot => {}
            Request::Learn => self.learn(out),
            Request::Watch => self.watch(out),
        }
    }

    fn name(&mut self, number: u64) {
        name_key(&mut self.key, self.config, number);
    }

    fn put_value(&mut self, out: &mut Vec<u8>, field: u32, now: u64) {
        let (least, most) = (self.config.val_size, self.config.val_max);
        let more = match most.checked_sub(least) {
            Some(more @ 1..) => self.random.below(more as u64 + 1) as usize,
            _ => 0,
        };
        let random = self.random.next();
        self.pattern.put(out, (field, least + more), random, now);
    }

    fn range(&mut self, out: &mut Vec<u8>, key: u64) {
        let config = self.config;
        self.name(key);
        pb::put_bytes(out, 1, &self.key);
        if config.span > 1 {
            self.name(key + config.span);
            pb::put_bytes(out, 2, &self.key);
        }
        if config.op == super::Op::RangeSerializable {
            pb::put_number(out, 7, 1);
        }
        if config.count_only {
            pb::put_number(out, 9, 1);
        }
    }

    /// If the key's revision is `revision` then put (or delete) it, otherwise read it.
    fn swap(&mut self, out: &mut Vec<u8>, revision: i64, put: Option<u64>) {
        let key = std::mem::take(&mut self.key);
        pb::put_message(out, 1, |out| {
            pb::put_number(out, 2, 2); // the target: the key's last revision
            pb::put_bytes(out, 3, &key);
            pb::put_number(out, 6, revision as u64);
        });
        pb::put_message(out, 2, |out| match put {
            Some(now) => pb::put_message(out, 2, |out| {
                pb::put_bytes(out, 1, &key);
                self.put_value(out, 2, now);
            }),
            None => pb::put_message(out, 3, |out| pb::put_bytes(out, 1, &key)),
        });
        pb::put_message(out, 3, |out| {
            pb::put_message(out, 1, |out| pb::put_bytes(out, 1, &key));
        });
        self.key = key;
    }

    /// The keys of this thread's nth batch.
    pub fn batch(&self, nth: u64) -> std::ops::Range<u64> {
        let (thread, threads) = self.thread;
        let from = (nth * threads + thread) * self.config.batch;
        from..(from + self.config.batch).min(self.config.keys).max(from)
    }

    fn load(&mut self, out: &mut Vec<u8>, batch: u64, now: u64) {
        for number in self.batch(batch) {
            self.name(number);
            pb::put_message(out, 2, |out| {
                pb::put_message(out, 2, |out| {
                    pb::put_bytes(out, 1, &self.key);
                    self.put_value(out, 2, now);
                });
            });
        }
    }

    fn learn(&mut self, out: &mut Vec<u8>) {
        pb::put_bytes(out, 1, &self.learn_from);
        pb::put_bytes(out, 2, &prefix_end(&self.config.prefix));
        pb::put_number(out, 3, LEARN_PAGE);
        pb::put_number(out, 8, 1); // keys only
    }

    fn watch(&mut self, out: &mut Vec<u8>) {
        let prefix = self.config.watch_prefix.as_ref().unwrap_or(&self.config.prefix);
        pb::put_message(out, 1, |out| {
            pb::put_bytes(out, 1, prefix.as_bytes());
            pb::put_bytes(out, 2, &prefix_end(prefix));
            if self.config.prev_kv {
                pb::put_number(out, 6, 1);
            }
        });
    }
}
