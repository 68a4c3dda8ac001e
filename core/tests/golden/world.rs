//! One machine on a memory store, driven by a script's commands; prints what came of each.

use std::ops::ControlFlow;

use holdfast_core::codec;
use holdfast_core::command::Command;
use holdfast_core::hash::state_hash;
use holdfast_core::id::{LeaseId, MemberId, Position, RequestId};
use holdfast_core::kv::KeyValue;
use holdfast_core::limits::Limits;
use holdfast_core::machine::guard::{Act, Guard};
use holdfast_core::machine::{self, Applied, LeaseChange, Machine};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::mvcc::range::range;
use holdfast_core::mvcc::resolve::{read_txn, resolve};
use holdfast_core::query::{AnswerBody, OpAnswer, RangeAnswer, TxnAnswer};
use holdfast_core::request::{Identity, KeyRange, Op, RangeEnd};
use holdfast_core::response::{Body, Member};
use holdfast_core::store::{Store, View};

use crate::golden::auth;
use crate::golden::parse::{self, Words};
use crate::runner::Printed;

pub struct World {
    machine: Machine,
    store: MemoryStore,
    index: u64,
    limits: Limits,
    /// Who asks.
    who: Identity,
}

impl World {
    pub fn new() -> World {
        let mut store = MemoryStore::default();
        let members = [1, 2].map(|id| Member {
            id: MemberId(id),
            peer_urls: vec![format!("http://n{id}:2380")],
            ..Member::default()
        });
        store.absorb(&mut machine::genesis(&members));
        let limits = Limits { compaction_batch: 2, ..Limits::default() };
        let who = Identity::default();
        World { machine: Machine::load(&limits, &store), store, index: 0, limits, who }
    }

    pub fn command(&mut self, line: &str) -> Printed {
        if let Some(line) = line.strip_prefix("as ") {
            let (user, line) = line.split_once(' ').ok_or("as whom, and what")?;
            self.who = auth::identity(&self.store, user)?;
            let printed = self.command(line);
            self.who = Identity::default();
            return printed;
        }
        let mut words = Words::new(line);
        let word = words.next()?;
        if let Some(op) = parse::op(word, &mut words)? {
            words.end()?;
            return self.replicated(op);
        }
        match word {
            "range" => self.read(&mut words),
            "renew" => {
                let act = Act::LeaseKeepAlive(LeaseId(words.number()?));
                Ok(vec![self.permit(act).err().unwrap_or("allowed".to_owned())])
            }
            "lease-keys" => {
                let id = LeaseId(words.number()?);
                Ok(vec![self.list_keys(id).err().unwrap_or("allowed".to_owned())])
            }
            "codec" => codec_bytes(&mut words),
            "slice" => self.slice(),
            "skip" => {
                let at = self.next_position();
                self.machine.skip(at, &mut self.store);
                Ok(vec![self.mark()])
            }
            "restart" => {
                self.machine = Machine::load(&self.limits, &self.store);
                Ok(vec![self.mark()])
            }
            "reclaim" => {
                let before = self.store.record_count();
                self.store.reclaim();
                Ok(vec![format!("records {before} → {}", self.store.record_count())])
            }
            "lease" => self.lease(&mut words),
            "leases" => Ok(self.leases()),
            "rows" => Ok(self.rows()),
            "bytes" => Ok(vec![format!("{} bytes stored", self.machine.stored_bytes())]),
            "members" => Ok(machine::members(&self.store).iter().map(show_member).collect()),
            "known" => Ok(self.known()),
            _ => Err(format!("command `{word}`")),
        }
    }

    fn replicated(&mut self, op: Op) -> Printed {
        if let Op::Txn(txn) = &op
            && txn.is_read_only()
        {
            if let Err(refused) = self.permit(Act::Txn(txn)) {
                return Ok(vec![refused]);
            }
            let answer = match read_txn(&self.store, txn) {
                Ok(answer) => show_txn(&answer, ""),
                Err(error) => vec![format!("error: {error}")],
            };
            return Ok([vec!["read-only".to_owned()], answer].concat());
        }
        let command = Command { id: RequestId::default(), identity: self.who.clone(), op };
        let mut out = Applied::default();
        let at = self.next_position();
        let before = state_hash(&self.store).map_err(|fault| fault.to_string())?;
        let applied = self.machine.apply(at, &command, &mut self.store, &mut out);
        applied.map_err(|fault| fault.to_string())?;
        assert_eq!(self.store.mark().applied, at, "every command moves the applied position");
        let after = state_hash(&self.store).map_err(|fault| fault.to_string())?;
        self.machine.end_entry(at, &mut self.store);
        assert_eq!(machine::stored_bytes(&self.store), self.machine.stored_bytes());
        let mut lines = match out.result {
            Err(rejection) => {
                assert_eq!(before, after, "a refused command changes nothing");
                vec![format!("error: {rejection}")]
            }
            Ok(body) => self.answer(out.revision, body)?,
        };
        lines.extend(out.events.iter().map(|event| {
            let kv = show_pair(&event.kv);
            let kind = if event.delete { "delete" } else { "put" };
            let prev = event.prev.map_or(String::new(), |prev| format!(" was {prev}"));
            format!("  event {} {kind} {kv}{prev}", event.at)
        }));
        lines.extend(out.leases.iter().map(|change| match change {
            LeaseChange::Granted { id, ttl, .. } => format!("  lease {id} granted for {ttl}s"),
            LeaseChange::Noted { id, left: Some(left) } => format!("  lease {id} has {left}s left"),
            LeaseChange::Noted { id, left: None } => format!("  lease {id} has its time again"),
            LeaseChange::Revoked { id } => format!("  lease {id} revoked"),
        }));
        lines.extend(out.tokens.iter().map(auth::show_change));
        Ok(lines)
    }

    fn answer(&self, revision: holdfast_core::id::Revision, body: Body) -> Printed {
        let answer = resolve(&self.store, body).map_err(|fault| fault.to_string())?;
        let mut lines = vec![format!("ok {revision}")];
        match answer {
            Some(AnswerBody::Put(prev)) => {
                lines.extend(prev.iter().map(|kv| format!("  prev {}", show_pair(kv))));
            }
            Some(AnswerBody::DeleteRange(answer)) => {
                lines[0].push_str(&format!(" deleted {}", answer.deleted));
                lines.extend(answer.prev_kvs.iter().map(|kv| format!("  prev {}", show_pair(kv))));
            }
            Some(AnswerBody::Txn(answer)) => lines.extend(show_txn(&answer, "  ")),
            Some(AnswerBody::Auth(reply)) => lines.extend(auth::show(&reply)),
            Some(AnswerBody::MemberAdd { members, .. } | AnswerBody::Members(members)) => {
                lines.extend(members.iter().map(show_member));
            }
            Some(AnswerBody::Alarms(alarms)) => {
                lines[0].push_str(&format!(" {} alarms", alarms.len()));
                lines.extend(alarms.iter().map(|alarm| format!("  {alarm}")));
            }
            _ => {}
        }
        Ok(lines)
    }

    fn read(&mut self, words: &mut Words<'_>) -> Printed {
        let asked = parse::range(words)?;
        words.end()?;
        if let Err(refused) = self.permit(Act::Range(&asked.keys)) {
            return Ok(vec![refused]);
        }
        Ok(match range(&self.store, &asked, None) {
            Ok(answer) => show_range(&answer, ""),
            Err(error) => vec![format!("error: {error}")],
        })
    }

    /// Whether the present asker may do what does not go through the log.
    fn permit(&self, act: Act<'_>) -> Result<(), String> {
        let permitted = Guard::load(&self.store).permit(&self.store, &self.who, act);
        permitted.map_err(|rejection| format!("error: {rejection}"))
    }

    fn list_keys(&self, id: LeaseId) -> Result<(), String> {
        self.permit(Act::Identified)?;
        let reader = Guard::load(&self.store).reader(&self.store, &self.who);
        let mut decision = Ok(());
        machine::lease_keys(&self.store, id, &mut |key| {
            if let Some(reader) = &reader {
                decision = decision.and_then(|()| reader.permit(key));
            }
            ControlFlow::Continue(())
        });
        decision.map_err(|rejection| format!("error: {rejection}"))
    }

    fn slice(&mut self) -> Printed {
        let before = state_hash(&self.store).map_err(|fault| fault.to_string())?;
        let pending = self.machine.compaction_pending();
        let finished = self.machine.compact_slice(&mut self.store);
        let after = state_hash(&self.store).map_err(|fault| fault.to_string())?;
        assert_eq!(before, after, "a physical compaction cannot be seen");
        Ok(vec![match finished.map_err(|fault| fault.to_string())? {
            Some(revision) => format!("compacted to {revision}"),
            None if pending => "more to do".to_owned(),
            None => "nothing to do".to_owned(),
        }])
    }

    fn lease(&self, words: &mut Words<'_>) -> Printed {
        let id = LeaseId(words.number()?);
        let mut keys = Vec::new();
        machine::lease_keys(&self.store, id, &mut |key| {
            keys.push(String::from_utf8_lossy(key).into_owned());
            ControlFlow::Continue(())
        });
        Ok(vec![match machine::lease_ttl(&self.store, id) {
            Some(ttl) => format!("{id} {ttl}s [{}]", keys.join(" ")),
            None => format!("no lease {id}, keys [{}]", keys.join(" ")),
        }])
    }

    fn leases(&self) -> Vec<String> {
        let leases = machine::leases(&self.store);
        leases.iter().map(|(id, ttl)| format!("{id} {ttl}s")).collect()
    }

    fn known(&self) -> Vec<String> {
        let known = machine::membership(&self.store);
        let removed: Vec<String> = known.removed.iter().map(ToString::to_string).collect();
        let births = known.births.iter().map(|(id, birth)| format!("{id} born {birth}"));
        let version = machine::cluster_version(&self.store);
        let version = version.map_or("no version".to_owned(), |version| format!("{version}"));
        let first = machine::initial_members(&self.store).expect("a genesis is on record");
        let first: Vec<String> = first.iter().map(|member| member.id.to_string()).collect();
        let head = format!("began {}, removed [{}], {version}", first.join(" "), removed.join(" "));
        std::iter::once(head).chain(births).collect()
    }

    fn rows(&self) -> Vec<String> {
        let mut lines = vec![self.mark()];
        let all = KeyRange { start: Default::default(), end: RangeEnd::Open };
        self.store.scan(&all, &mut |key, row| {
            let key = String::from_utf8_lossy(key);
            lines.push(match row.is_tombstone() {
                true => format!("{key} deleted at {}", row.modified),
                false => format!("{key} {} created {}", row.modified, row.created),
            });
            ControlFlow::Continue(())
        });
        lines
    }

    fn mark(&self) -> String {
        let mark = self.store.mark();
        format!("applied {} at {}, compacted {}", mark.applied, mark.revision, mark.compacted)
    }

    fn next_position(&mut self) -> Position {
        self.index += 1;
        Position::new(self.index, 1)
    }
}

fn codec_bytes(words: &mut Words<'_>) -> Printed {
    let word = words.next()?;
    let op = parse::op(word, words)?.ok_or("not a replicated operation")?;
    words.end()?;
    let command = Command { id: RequestId::default(), identity: Identity::default(), op };
    let data = codec::encode_entry(std::slice::from_ref(&command));
    assert_eq!(codec::decode_entry(&data), Ok(vec![command]), "the codec is its own inverse");
    // Version, count, and the sixteen zero bytes of the request id are left out.
    let hex: Vec<String> = data[18..].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![hex.join(" ")])
}

fn show_txn(answer: &TxnAnswer, indent: &str) -> Vec<String> {
    let mut lines = vec![format!("{indent}{}", if answer.succeeded { "then" } else { "else" })];
    for op in &answer.ops {
        match op {
            OpAnswer::Range(revision, answer) => {
                lines.push(format!("{indent}  {revision} range"));
                lines.extend(show_range(answer, &format!("{indent}    ")));
            }
            OpAnswer::Put(revision, prev) => {
                let prev =
                    prev.as_deref().map_or(String::new(), |kv| format!(" prev {}", show_pair(kv)));
                lines.push(format!("{indent}  {revision} put{prev}"));
            }
            OpAnswer::DeleteRange(revision, answer) => {
                lines.push(format!("{indent}  {revision} deleted {}", answer.deleted));
                let prev = answer.prev_kvs.iter();
                lines.extend(prev.map(|kv| format!("{indent}    prev {}", show_pair(kv))));
            }
            OpAnswer::Txn(answer) => lines.extend(show_txn(answer, &format!("{indent}  "))),
        }
    }
    lines
}

fn show_range(answer: &RangeAnswer, indent: &str) -> Vec<String> {
    let more = if answer.more { ", more" } else { "" };
    let mut lines: Vec<String> =
        answer.kvs.iter().map(|kv| format!("{indent}{}", show_pair(kv))).collect();
    lines.push(format!("{indent}count {}{more}", answer.count));
    lines
}

fn show_pair(kv: &[u8]) -> String {
    let kv = KeyValue::decode(kv).expect("the machine writes nothing else");
    let key = String::from_utf8_lossy(kv.key);
    let value = String::from_utf8_lossy(kv.value);
    let (created, modified, version) = (kv.create_revision.0, kv.mod_revision.0, kv.version);
    format!("{key}={value:?} c{created} m{modified} v{version} l{}", kv.lease.0)
}

fn show_member(member: &Member) -> String {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    let kind = if *is_learner { "learner" } else { "voter" };
    format!("{id} {kind} name {name:?} peers {peer_urls:?} clients {client_urls:?}")
}
