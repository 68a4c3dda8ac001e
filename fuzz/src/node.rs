//! One node of three whose two peers are the fuzzer: they say whatever the peer codec would let through, lies
//! included, while clients ask, time jumps, and an honest disk completes what was ordered, sooner or later.
//!
//! Left out: snapshots that arrive, which the engine verifies before the node hears of them, and disks that lie.
//!
//! Laws:
//!  1. Nothing panics, and a turn ends. A log entry that apply cannot read halts the node; that is the end.
//!  2. Commit and applied index never go back, and what is applied is committed.
//!  3. Each request gets at most one answer.
//!
//! Worked example: `[4, 200, 5, 6, 2, …]` lets two seconds pass and then says a heartbeat in the name of member 2.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::codec;
use holdfast_core::command::Command;
use holdfast_core::entry::{Entry, EntryKind, HardState};
use holdfast_core::id::{Incarnation, Index, LeaseId, MemberId, Position, RequestId, Term, WalSeq};
use holdfast_core::input::Input;
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::message::{Message, PeerHello, RaftKind, RaftMessage, SnapshotMeta};
use holdfast_core::mvcc::model::MemoryStore;
use holdfast_core::node::{Node, NodeConfig};
use holdfast_core::output::{Effect, Output};
use holdfast_core::raft::Boot;
use holdfast_core::request::{Ask, DeleteRange, Identity, KeyRange, Op, Put, Request};
use holdfast_core::response::Member;
use holdfast_core::store::Store;
use holdfast_core::time::Instant;

const SELF: MemberId = MemberId(1);

/// Steps of one program at most.
const STEPS_MAX: usize = 400;

/// Bytes as choices; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number near `around`, or anywhere.
    fn near(&mut self, around: u64) -> u64 {
        match self.byte() {
            near @ 0..=31 => around.saturating_add(u64::from(near)).saturating_sub(8),
            32..=39 => 0,
            40 => u64::MAX,
            far => u64::from(far) << (self.byte() % 57),
        }
    }
}

/// The node, its store, and what its disk has not done yet.
struct Rig {
    node: Node,
    store: MemoryStore,
    now: Instant,
    log: Vec<Entry>,
    written: VecDeque<WalSeq>,
    flushing: Option<Position>,
    sequence: u64,
    answered: BTreeSet<u64>,
    progress: (Index, Index),
    halted: bool,
}

/// See the module.
pub fn node_inputs(data: &[u8]) {
    let mut choices = Choices(data);
    let mut rig = Rig::new();
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() || rig.halted {
            break;
        }
        rig.step(&mut choices);
    }
}

impl Rig {
    fn new() -> Rig {
        let ids: Vec<MemberId> = (1..=3).map(MemberId).collect();
        let member = |id: &MemberId| Member { id: *id, name: id.to_string(), ..Member::default() };
        let members: Vec<Member> = ids.iter().map(member).collect();
        let mut store = MemoryStore::default();
        store.absorb(&mut machine::genesis(&members));
        let config = NodeConfig {
            member: SELF,
            incarnation: Incarnation(1),
            limits: Limits::default(),
            seed: 7,
            started: None,
        };
        let boot = Boot {
            checkpoint: SnapshotMeta { voters: ids, ..SnapshotMeta::default() },
            hard_state: HardState::default(),
            entries: Vec::new(),
            last_seq: WalSeq(0),
            force_new: false,
        };
        let node = Node::new(config, boot, &store, Instant(0)).expect("an empty log starts one");
        Rig {
            node,
            store,
            now: Instant(0),
            log: Vec::new(),
            written: VecDeque::new(),
            flushing: None,
            sequence: 0,
            answered: BTreeSet::new(),
            progress: (Index(0), Index(0)),
            halted: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 12 {
            0..=2 => self.say(choices),
            3 => self.request(choices),
            4 => {
                self.now = self.now + Duration::from_millis(10 * u64::from(choices.byte()));
                self.give(Input::Wake);
            }
            5 => {
                let count = usize::from(choices.byte()).min(self.written.len());
                let synced = self.written.drain(..count).next_back();
                if let Some(seq) = synced {
                    self.give(Input::Synced { seq });
                }
            }
            6 => {
                if let Some(at) = self.flushing.take() {
                    self.give(Input::Flushed { at });
                }
            }
            7 => {
                let hello = PeerHello {
                    incarnation: Incarnation(u64::from(choices.byte())),
                    last: Position::new(choices.near(self.last().index.0), choices.near(1)),
                    birth: u64::from(choices.byte()),
                };
                self.give(Input::Connected { peer: peer(choices), hello });
            }
            8 => self.give(Input::Disconnected { peer: peer(choices) }),
            9 => self.give(Input::Space { full: choices.byte() % 2 == 1 }),
            _ => {}
        }
        self.turn();
    }

    fn last(&self) -> Position {
        self.log.last().map_or(Position::default(), |entry| entry.at)
    }

    fn give(&mut self, input: Input) {
        let mut out = Output::default();
        self.node.step(self.now, input, &mut self.store, &mut out);
        self.act(out);
    }

    fn request(&mut self, choices: &mut Choices<'_>) {
        self.sequence += 1;
        let id = RequestId { member: SELF, incarnation: Incarnation(1), sequence: self.sequence };
        let ask = match choices.byte() % 5 {
            0 => Ask::ReadIndex,
            1 => Ask::LeaseKeepAlive { id: LeaseId(i64::from(choices.byte())) },
            2 => Ask::MoveLeader { to: peer(choices) },
            3 => {
                Ask::Propose(Op::LeaseGrant { id: LeaseId(i64::from(choices.byte()) + 1), ttl: 2 })
            }
            _ => Ask::Propose(op(choices)),
        };
        let deadline = self.now + Duration::from_secs(5);
        self.give(Input::Request(Request { id, identity: Identity::default(), ask, deadline }));
    }

    /// A peer says something of raft.
    fn say(&mut self, choices: &mut Choices<'_>) {
        let kind = RaftKind::from_wire(choices.byte() % 14 + 1).expect("they are numbered from 1");
        let (from, term) = (peer(choices), Term(choices.near(self.node.status().term.0)));
        let from_named = if choices.byte() % 16 == 15 { peer(choices) } else { from };
        let mut message = RaftMessage::new(kind, from_named, SELF, term);
        let last = self.last();
        message.log = Position::new(choices.near(last.index.0), choices.near(last.term.0));
        message.commit = Index(choices.near(last.index.0));
        message.commit_term = Term(choices.near(last.term.0));
        message.reject = choices.byte() % 4 == 3;
        message.reject_hint = Index(choices.near(last.index.0));
        message.request_snapshot = Index(if choices.byte() % 8 == 7 { choices.near(0) } else { 0 });
        message.priority = i64::from((choices.byte() as i8) / 64);
        message.context =
            Bytes::copy_from_slice(&[choices.byte()][..usize::from(choices.byte() % 2)]);
        let mut before = message.log;
        for _ in 0..choices.byte() % 4 {
            // What the codec lets through: an Append's entries are consecutive, and their terms do not go down.
            let Some(index) = before.index.0.checked_add(1) else { break };
            let at =
                Position::new(index, before.term.0.saturating_add(u64::from(choices.byte() % 2)));
            message.entries.push(Entry { at, ..entry(choices) });
            before = at;
        }
        self.give(Input::Message { from, message: Message::Raft(message) });
    }

    fn turn(&mut self) {
        self.give(Input::Drained);
        let status = self.node.status();
        let progress = (status.commit, status.applied.index);
        assert!(progress.0 >= self.progress.0 && progress.1 >= self.progress.1, "law 2: backwards");
        assert!(progress.1 <= progress.0, "law 2: applied beyond what is committed");
        self.progress = progress;
    }

    fn act(&mut self, out: Output) {
        for effect in out.effects {
            match effect {
                Effect::Append(append) => {
                    if let Some(first) = append.entries.first() {
                        self.log.retain(|entry| entry.at.index < first.at.index);
                    }
                    self.log.extend(append.entries);
                    self.written.push_back(append.seq);
                }
                Effect::Flush { meta } => self.flushing = Some(meta.at),
                Effect::Fetch { number, from, below, .. } => {
                    let wanted = |entry: &&Entry| (from..below).contains(&entry.at.index);
                    let entries = self.log.iter().filter(wanted).cloned().collect();
                    self.give(Input::Fetched { number, entries });
                }
                Effect::Ship { to, .. } => self.give(Input::Shipped { to, complete: false }),
                Effect::Reply { id, .. } => {
                    assert!(self.answered.insert(id.sequence), "law 3: {id:?} is answered twice");
                }
                Effect::Halt(_) => self.halted = true,
                _ => {}
            }
        }
    }
}

/// A member, mostly one of the two peers.
fn peer(choices: &mut Choices<'_>) -> MemberId {
    match choices.byte() {
        any @ 250.. => MemberId(u64::from(any) - 250),
        other => MemberId(2 + u64::from(other % 2)),
    }
}

fn op(choices: &mut Choices<'_>) -> Op {
    let key = Bytes::copy_from_slice(&[b'a' + choices.byte() % 3]);
    match choices.byte() % 4 {
        0 => Op::DeleteRange(DeleteRange { keys: KeyRange::single(key), prev_kv: false }),
        _ => Op::Put(Put {
            key,
            value: Bytes::from_static(b"v"),
            lease: LeaseId(i64::from(choices.byte() % 3)),
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }),
    }
}

/// An entry of a command, of nothing, or of bytes that are none.
fn entry(choices: &mut Choices<'_>) -> Entry {
    let kind = match choices.byte() % 16 {
        14 => EntryKind::ConfChange,
        15 => EntryKind::ConfChangeV2,
        _ => EntryKind::Normal,
    };
    let data = match choices.byte() % 8 {
        0 => Bytes::new(),
        1 => Bytes::copy_from_slice(&[choices.byte(), choices.byte(), choices.byte()]),
        _ => {
            let id = RequestId {
                member: peer(choices),
                incarnation: Incarnation(1),
                sequence: u64::from(choices.byte()),
            };
            codec::encode_entry(&[Command { id, identity: Identity::default(), op: op(choices) }])
        }
    };
    Entry { at: Position::default(), kind, data }
}
