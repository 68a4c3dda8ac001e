//! Good bytes, made by our own code: what patches damage, and the first inputs of each corpus.
//!
//! They are deterministic, so that an input means the same on every machine as long as the formats
//! stay as they are.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use holdfast_core::alarm::AlarmOp;
use holdfast_core::audit::Audit;
use holdfast_core::auth::{AuthOp, Permission};
use holdfast_core::codec;
use holdfast_core::command::Command;
use holdfast_core::entry::{Append, Entry, EntryKind, HardState};
use holdfast_core::id::{
    ClusterId, Incarnation, Index, LeaseId, MemberId, Position, RequestId, RevSub, Term, WalSeq,
};
use holdfast_core::limits::Limits;
use holdfast_core::machine::{Applied, Machine, genesis};
use holdfast_core::message::{
    LeaseAnswer, LeaseAsk, LeaseOutcome, Message, RaftKind, RaftMessage, SnapshotMeta, Transfer,
};
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Identity, KeyRange, LeaseNote, Op, Put,
    Txn, TxnOp,
};
use holdfast_core::response::{AlarmKind, Member};
use holdfast_net::peer::encode_frame;
use holdfast_net::proto::etcdserverpb as pb;
use holdfast_storage::disk::{Disk, DiskOp, Image, MemoryDisk, Token};
use holdfast_storage::engine::{Engine, EngineIdentity, EngineOptions};
use holdfast_storage::tree::Tree;
use holdfast_storage::wal::{Wal, WalIdentity, WalOptions};
use prost::Message as _;

/// Whose data the checkpoints are.
pub const IDENTITY: EngineIdentity = EngineIdentity { cluster: ClusterId(1), member: MemberId(1) };

/// How many variants there are of each kind of good bytes.
const VARIANTS: u8 = 2;

/// The committed seeds of a target, by name.
pub fn corpus(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "wal_replay" => vec![
            ("whole", vec![0]),
            ("whole_two_segments", vec![1]),
            ("flipped_header", vec![0, 0, 0, 0x10, 0, 0, 1]),
            ("flipped_tail", vec![1, 1, 0, 0x40, 0, 0, 0x80]),
            ("lost_block", vec![1, 0, 0, 0x20, 0, 2, 0]),
            ("cut_file", vec![1, 1, 0, 0x30, 0, 3, 0]),
            ("stale_block", vec![1, 0, 0, 0x30, 0, 4, 5]),
            ("raw", vec![crate::disk::RAW, b'H', b'F', 0, 1, 2, 3]),
        ],
        "checkpoint" => vec![
            ("whole", vec![0]),
            ("larger", vec![1]),
            ("flipped_page", vec![1, 1, 0x40, 1, 0, 0, 1]),
            ("flipped_superblock", vec![0, 3, 8, 0, 0, 0, 1]),
            ("cut_values", vec![1, 2, 0, 8, 0, 3, 0]),
        ],
        "transfer" => vec![
            ("whole", vec![0]),
            ("larger", vec![1]),
            ("lossy", vec![1, 0, 2, 0, 1, 0, 2]),
            ("lying", vec![1, 0x13, 0, 0x24, 0, 0x34, 0x14]),
        ],
        "page" => vec![
            ("leaf", vec![0]),
            ("branches", vec![1]),
            ("count", vec![0, 0, 10, 0, 0, 1, 200]),
            ("heap", vec![0, 0, 14, 0, 0, 5, 40]),
            ("level", vec![1, 0, 9, 0, 0, 1, 3]),
        ],
        "entry_codec" => vec![
            ("empty", Vec::new()),
            ("put", codec::encode_entry(&commands()[..1]).to_vec()),
            ("all", codec::encode_entry(&commands()).to_vec()),
        ],
        "peer_frame" => frames(),
        "wire" => requests(),
        "http2" => connections(),
        "node_inputs" => nodes(),
        _ => Vec::new(),
    }
}

/// Programs for one node, in the notation of its target.
fn nodes() -> Vec<(&'static str, Vec<u8>)> {
    let wait = [4, 200, 4, 200];
    // Kind, sender, term, name, log, commit, its term, reject, hint, snapshot, priority, context, entries.
    let vote =
        |kind: u8| [&[0, kind, 0, 8, 0, 32, 32, 32, 32, 0, 32, 0, 0, 0, 0][..], &[0]].concat();
    let heartbeat = |commit: u8| [0, 6, 0, 9, 0, 32, 32, commit, 32, 0, 32, 0, 0, 0, 0, 0].to_vec();
    let append = [0, 1, 0, 9, 0, 32, 32, 9, 32, 0, 32, 0, 0, 0, 0, 1, 1, 0, 3, 2, 0, 5, 1, 1, 1];
    let put = [3, 4, 1, 1, 1];
    let elected = [&wait[..], &vote(12), &[5, 9], &vote(4), &[5, 9]].concat();
    vec![
        ("campaign", [&elected[..], &put, &put, &[5, 9], &wait].concat()),
        ("follower", [&heartbeat(32)[..], &append, &[5, 9], &heartbeat(9), &[6, 0]].concat()),
        ("lying_heartbeat", [&heartbeat(32)[..], &append, &[5, 9], &heartbeat(31)].concat()),
        ("connections", [&[7, 1, 9, 9, 1, 0][..], &put, &[8, 0], &wait, &[9, 1], &put].concat()),
    ]
}

/// Programs for one HTTP/2 connection, in the notation of its target.
fn connections() -> Vec<(&'static str, Vec<u8>)> {
    let put = |stream| [0, stream, 0, 0, 1, stream, 9, 1];
    let puts = [put(1), put(3), put(5)].concat();
    let answers = [4, 0, 1, 4, 0, 200, 4, 0, 0];
    let watch = [0, 1, 1, 0, 1, 1, 5, 0, 5, 0, 90, 5, 0, 90, 1, 1, 5, 1];
    let reset = [2, 3, 0, 1, 4, 0, 0, 0, 8];
    vec![
        ("puts", [&puts[..], &answers].concat()),
        ("watch", [&watch[..], &[7, 2, 1, 7, 1, 90, 7, 3, 200], &reset].concat()),
        ("small_windows", [&[7, 3, 0][..], &watch, &[5, 0, 30, 7, 2, 49, 7, 3, 90]].concat()),
        ("deadline", vec![0, 1, 0, 0x40, 1, 1, 3, 1, 6, 4, 6, 2]),
        ("drain", [&puts[..], &[7, 0, 0], &answers, &[6, 60, 6, 60]].concat()),
        ("continuation", vec![2, 1, 1, 1, 1, 0x83, 2, 9, 0, 1, 1, 0x86, 2, 9, 4, 1, 1, 0x84]),
        ("table", vec![2, 1, 5, 1, 8, 0x20, 0x40, 1, 97, 1, 98, 0xbe, 0x83]),
        ("ping_goaway", vec![2, 6, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 7, 0, 0, 8, 0, 0, 0, 0, 0]),
    ]
}

/// The files of a log: one segment, or several.
pub fn log(variant: u8) -> &'static Image {
    static LOGS: [OnceLock<Image>; VARIANTS as usize] = [OnceLock::new(), OnceLock::new()];
    let variant = usize::from(variant % VARIANTS);
    LOGS[variant].get_or_init(|| make_log([5, 14][variant]))
}

fn make_log(batches: u64) -> Image {
    let disk = MemoryDisk::new();
    let identity = WalIdentity {
        cluster: ClusterId(1),
        member: MemberId(1),
        incarnation: Incarnation(7),
        boot: 1,
    };
    let options = WalOptions { segment_bytes: 64 << 10, depth: 2 };
    let mut wal = Wal::create(&disk, identity, options).expect("an empty disk takes a log");
    let mut ops = Vec::new();
    for seq in 1..=batches {
        let entry = |index| Entry {
            at: Position::new(index, 1 + seq / 4),
            kind: EntryKind::Normal,
            data: Bytes::from(vec![seq as u8; 2000]),
        };
        let entries = (2 * seq - 1..=2 * seq).map(entry).collect();
        let hard_state = HardState {
            term: Term(1 + seq / 4),
            vote: Some(MemberId(1)),
            commit: Index(2 * seq - 2),
        };
        wal.append(Append { seq: WalSeq(seq), hard_state, entries }, &mut ops);
        while let Some((token, op)) = (!ops.is_empty()).then(|| ops.remove(0)) {
            wal.completed(token.number, disk.perform(op), &mut ops).expect("a memory disk works");
        }
    }
    disk.image()
}

/// The files of a data folder after a checkpoint: of a few keys, or of some thousands.
pub fn checkpoint(variant: u8) -> Image {
    static IMAGES: [OnceLock<Image>; VARIANTS as usize] = [OnceLock::new(), OnceLock::new()];
    let variant = usize::from(variant % VARIANTS);
    IMAGES[variant].get_or_init(|| make_checkpoint([3, 600][variant])).clone()
}

/// The files of a data folder without a key, of member 2.
pub fn empty() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let disk = Arc::new(MemoryDisk::new());
        drop(engine(disk.clone(), MemberId(2)));
        disk.image()
    })
}

fn engine(disk: Arc<MemoryDisk>, member: MemberId) -> Engine {
    let members = [1, 2].map(|id| Member { id: MemberId(id), ..Member::default() });
    let identity = EngineIdentity { member, ..IDENTITY };
    let options = EngineOptions { seed: 5, ..EngineOptions::default() };
    Engine::create(disk, identity, options, genesis(&members), meta(Position::default()))
        .expect("an empty disk takes an engine")
}

fn make_checkpoint(keys: u64) -> Image {
    let disk = Arc::new(MemoryDisk::new());
    let mut engine = engine(disk.clone(), MemberId(1));
    let mut machine = Machine::load(&Limits::default(), &engine);
    for n in 1..=keys {
        let op = Op::Put(put(format!("/seed/{:03}", n * 7 % 400).into(), vec![n as u8; 40].into()));
        let command = Command { id: RequestId::default(), identity: Identity::default(), op };
        let mut applied = Applied::default();
        machine
            .apply(Position::new(n, 1), &command, &mut engine, &mut applied)
            .expect("a memory disk works");
    }
    drop(engine.publish());
    let mut ops = Vec::new();
    assert!(engine.begin_checkpoint(meta(Position::new(keys, 1)), &mut ops), "nothing else runs");
    let mut orders: VecDeque<(Token, DiskOp)> = ops.into();
    while let Some((token, op)) = orders.pop_front() {
        let mut ops = Vec::new();
        engine.completed(token.number, disk.perform(op), &mut ops);
        orders.extend(ops);
    }
    disk.image()
}

fn meta(at: Position) -> SnapshotMeta {
    SnapshotMeta { at, voters: vec![MemberId(1), MemberId(2)], learners: Vec::new() }
}

/// The pages of a tree: one leaf, or a branch over several with long keys and values.
pub fn pages(variant: u8) -> &'static [[u8; 4096]] {
    static PAGES: [OnceLock<Vec<[u8; 4096]>>; VARIANTS as usize] =
        [OnceLock::new(), OnceLock::new()];
    let variant = usize::from(variant % VARIANTS);
    PAGES[variant].get_or_init(|| make_pages([20, 400][variant]))
}

fn make_pages(keys: u32) -> Vec<[u8; 4096]> {
    let mut tree = Tree::new();
    for n in 0..keys {
        let mut key = format!("/page/{n:04}").into_bytes();
        let mut value = vec![n as u8; 20];
        if n % 100 == 99 {
            key.resize(700, b'k');
            value.resize(6000, 7);
        }
        tree.insert(&key, &value, n % 3 != 0);
    }
    let mut pages = Vec::new();
    let root = tree.publish().write_pages(&mut |page| {
        pages.push(*page);
        Ok(())
    });
    root.expect("collecting pages cannot fail");
    pages
}

fn put(key: Bytes, value: Bytes) -> Put {
    Put {
        key,
        value,
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn commands() -> Vec<Command> {
    let txn = Txn {
        compares: vec![Compare {
            keys: KeyRange::single("a"),
            result: CompareResult::Greater,
            target: CompareTarget::Mod(3),
        }],
        success: vec![TxnOp::Put(put("a".into(), "2".into())), TxnOp::Txn(Box::default())],
        failure: vec![TxnOp::DeleteRange(DeleteRange {
            keys: KeyRange::from_wire("a".into(), "\0".into()),
            prev_kv: true,
        })],
    };
    let ops = [
        Op::Put(put("a".into(), "1".into())),
        Op::Txn(txn),
        Op::LeaseGrant { id: LeaseId(7), ttl: 60 },
        Op::LeaseRevoke { id: LeaseId(7) },
        Op::Compact { revision: RevSub::new(4, 0).main },
        Op::AlarmList,
        Op::Alarm(AlarmOp::Raise {
            member: MemberId(1),
            kind: AlarmKind::NoSpace,
            automatic: true,
        }),
        Op::LeaseCheckpoint(vec![LeaseNote { id: LeaseId(7), granted: Index(3), left: 40 }]),
        Op::Audit(Audit { from: Index(7), digests: vec![1, 2] }),
        Op::Auth(AuthOp::UserAdd { name: "bob".into(), password: "h".into(), no_password: false }),
        Op::Auth(AuthOp::RoleGrantPermission {
            role: "r".into(),
            permission: Some(Permission { key: "a".into(), ..Permission::default() }),
        }),
        Op::Auth(AuthOp::Authenticate { user: "bob".into(), token: "t".into(), checked: 7 }),
        Op::Publish {
            member: MemberId(1),
            name: "n1".into(),
            client_urls: vec!["http://localhost:2379".into()],
        },
    ];
    let id = |n| RequestId { member: MemberId(1), incarnation: Incarnation(2), sequence: n };
    let command = |(n, op)| Command { id: id(n), identity: Identity::default(), op };
    (1..).zip(ops).map(command).collect()
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let append = RaftMessage {
        log: Position::new(9, 4),
        entries: vec![Entry {
            at: Position::new(10, 4),
            kind: EntryKind::Normal,
            data: codec::encode_entry(&commands()),
        }],
        commit: Index(9),
        commit_term: Term(4),
        snapshot: Some(meta(Position::new(8, 3))),
        context: Bytes::from_static(b"context"),
        ..RaftMessage::new(RaftKind::Append, MemberId(1), MemberId(2), Term(4))
    };
    let files = vec![("data/manifest".to_owned(), 4096), ("data/pages".to_owned(), 1 << 20)];
    let messages = [
        ("append", Message::Raft(append)),
        ("lease_ask", Message::LeaseAsk(LeaseAsk { number: 1, id: LeaseId(7), renew: true })),
        (
            "lease_answer",
            Message::LeaseAnswer(LeaseAnswer {
                number: 1,
                outcome: LeaseOutcome::Alive { ttl: 5, granted: 9, applied: Index(7) },
            }),
        ),
        (
            "offer",
            Message::Transfer(Transfer::Offer {
                number: 3,
                meta: meta(Position::new(8, 3)),
                term: Term(4),
                files,
            }),
        ),
        (
            "chunk",
            Message::Transfer(Transfer::Chunk {
                number: 3,
                file: 1,
                offset: 4096,
                data: Bytes::from_static(&[5; 64]),
            }),
        ),
    ];
    let framed = |(name, message): (&'static str, Message)| {
        let mut bytes = BytesMut::from(&[32][..]);
        encode_frame(&message, &mut bytes);
        (name, bytes.to_vec())
    };
    messages.into_iter().map(framed).collect()
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 10,
        revision: 3,
        min_mod_revision: 2,
        ..Default::default()
    };
    let put = pb::PutRequest { key: "a".into(), value: "1".into(), lease: 7, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    let request = |request| pb::RequestOp { request: Some(request) };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare { key: "a".into(), ..Default::default() }],
        success: vec![request(pb::request_op::Request::RequestPut(put.clone()))],
        failure: vec![request(pb::request_op::Request::RequestRange(range.clone()))],
    };
    let create =
        pb::WatchCreateRequest { key: "a".into(), start_revision: 4, ..Default::default() };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    vec![
        ("range", range.encode_to_vec()),
        ("put", put.encode_to_vec()),
        ("delete", delete.encode_to_vec()),
        ("txn", txn.encode_to_vec()),
        ("watch", watch.encode_to_vec()),
        ("lease", pb::LeaseGrantRequest { ttl: 60, id: 7 }.encode_to_vec()),
    ]
}
