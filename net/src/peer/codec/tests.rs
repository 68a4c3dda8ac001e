//! Messages come back as they were; nothing else comes back at all.

use super::super::frame::FrameReader;
use super::*;
use holdfast_core::id::Revision;
use holdfast_core::message::HashAsk;
use holdfast_core::mvcc::hash::KvHash;
use proptest::collection::vec;
use proptest::prelude::*;

fn data() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        1 => (16_000usize..17_000, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len])),
    ]
}

fn position() -> impl Strategy<Value = Position> {
    (0..u64::MAX / 2, 0..u64::MAX / 2).prop_map(|(index, term)| Position::new(index, term))
}

fn meta() -> impl Strategy<Value = SnapshotMeta> {
    let members = || vec(any::<u64>().prop_map(MemberId), 0..5);
    (position(), members(), members()).prop_map(|(at, voters, learners)| SnapshotMeta {
        at,
        voters,
        learners,
    })
}

fn entries_after(log: Position) -> impl Strategy<Value = Vec<Entry>> {
    let kinds = prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::ConfChange),
        Just(EntryKind::ConfChangeV2)
    ];
    vec((0u64..2, kinds, data()), 0..6).prop_map(move |parts| {
        let mut before = log;
        let follow = |(newer, kind, data)| {
            before = Position::new(before.index.0 + 1, before.term.0 + newer);
            Entry { at: before, kind, data }
        };
        parts.into_iter().map(follow).collect()
    })
}

fn raft() -> impl Strategy<Value = RaftMessage> {
    let kind = (1u8..=14).prop_map(|n| RaftKind::from_wire(n).expect("1 to 14 are all kinds"));
    let log = position().prop_flat_map(|log| (Just(log), entries_after(log)));
    let numbers = any::<[u64; 7]>();
    let snapshot = proptest::option::of(meta());
    (kind, log, numbers, any::<(bool, i64)>(), snapshot, data()).prop_map(
        |(kind, (log, entries), numbers, (reject, priority), snapshot, context)| RaftMessage {
            kind,
            from: MemberId(numbers[0]),
            to: MemberId(numbers[1]),
            term: Term(numbers[2]),
            log,
            entries,
            commit: Index(numbers[3]),
            commit_term: Term(numbers[4]),
            reject,
            reject_hint: Index(numbers[5]),
            request_snapshot: Index(numbers[6]),
            snapshot,
            context,
            priority,
        },
    )
}

fn refused() -> impl Strategy<Value = ChangeRefused> {
    (any::<(u64, u64)>(), 0..ChangeRefused::REASONS.len()).prop_map(|((sequence, run), why)| {
        let (incarnation, why) = (Incarnation(run), ChangeRefused::REASONS[why]);
        ChangeRefused { sequence, incarnation, why }
    })
}

fn outcome() -> impl Strategy<Value = LeaseOutcome> {
    prop_oneof![
        any::<(i64, i64, u64)>().prop_map(|(ttl, granted, applied)| {
            LeaseOutcome::Alive { ttl, granted, applied: Index(applied) }
        }),
        Just(LeaseOutcome::Missing),
        Just(LeaseOutcome::NotLeader),
    ]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let files = vec(("[a-z0-9.é]{0,12}", any::<u64>()), 0..4);
    prop_oneof![
        (any::<[u64; 2]>(), meta(), files).prop_map(|([number, term], meta, files)| {
            Transfer::Offer { number, meta, term: Term(term), files }
        }),
        (any::<(u64, u32, u64)>(), data()).prop_map(|((number, file, offset), data)| {
            Transfer::Chunk { number, file, offset, data }
        }),
        any::<(u64, u32, u64)>().prop_map(|(number, file, offset)| Transfer::Have {
            number,
            file,
            offset
        }),
        any::<u64>().prop_map(|number| Transfer::Stop { number }),
    ]
}

fn hash_outcome() -> impl Strategy<Value = HashOutcome> {
    prop_oneof![
        any::<(u32, i64, i64)>().prop_map(|(hash, compacted, revision)| {
            let (compacted, revision) = (Revision(compacted), Revision(revision));
            HashOutcome::Hash(KvHash { hash, compacted, revision })
        }),
        Just(HashOutcome::Compacted),
        Just(HashOutcome::Future),
        Just(HashOutcome::Unreadable),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => raft().prop_map(Message::Raft),
        1 => refused().prop_map(Message::ChangeRefused),
        1 => any::<(u64, i64, i64)>().prop_map(|(number, revision, compacted)| {
            let (revision, compacted) = (Revision(revision), Revision(compacted));
            Message::HashAsk(HashAsk { number, revision, compacted })
        }),
        1 => (any::<(u64, i64)>(), hash_outcome()).prop_map(|((number, revision), outcome)| {
            Message::HashAnswer(HashAnswer { number, revision: Revision(revision), outcome })
        }),
        1 => any::<(u64, i64, bool)>().prop_map(|(number, id, renew)| {
            Message::LeaseAsk(LeaseAsk { number, id: LeaseId(id), renew })
        }),
        1 => (any::<u64>(), outcome())
            .prop_map(|(number, outcome)| Message::LeaseAnswer(LeaseAnswer { number, outcome })),
        2 => transfer().prop_map(Message::Transfer),
    ]
}

fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_frame(message, &mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Message, FrameError> {
    let mut reader = FrameReader::new(1 << 20);
    reader.push(bytes);
    let frame = reader.pop()?.expect("the test gives whole frames");
    decode(&frame)
}

proptest! {
    #[test]
    fn messages_come_back(message in message()) {
        let bytes = encoded(&message);
        prop_assert_eq!(bytes.len(), frame_len(&message));
        prop_assert_eq!(decoded(&bytes), Ok(message));
    }

    #[test]
    fn a_damaged_frame_is_an_error(message in message(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decoded(&bytes).is_err());
    }

    /// Damage under a right checksum, as a broken or hostile member would send it.
    #[test]
    fn a_damaged_payload_is_an_error_or_another_message(
        message in message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = encoded(&message).split_off(HEADER);
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        payload.truncate(payload.len() - cut.index(payload.len()).min(3));
        let kinds = [
            Kind::Raft,
            Kind::LeaseAsk,
            Kind::LeaseAnswer,
            Kind::Transfer,
            Kind::HashAsk,
            Kind::HashAnswer,
        ];
        for kind in kinds {
            let frame = Frame { kind, payload: payload.clone().freeze() };
            if let Ok(message) = decode(&frame) {
                prop_assert_eq!(&encoded(&message)[HEADER..], &frame.payload[..]);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in vec(any::<u8>(), 0..300), kind in 0u8..20) {
        super::super::fuzz_peer_frame(&bytes);
        if let (Some(kind), false) = (Kind::from_wire(kind), bytes.is_empty()) {
            let cut = bytes.remove(0);
            let mut framed = BytesMut::from(&[cut][..]);
            write_frame(kind, &mut framed, |out| out.put_slice(&bytes));
            super::super::fuzz_peer_frame(&framed);
        }
    }
}

fn append(log: Position, at: Position) -> Message {
    let entry = Entry { at, kind: EntryKind::Normal, data: Bytes::from_static(b"x") };
    let plain = RaftMessage::new(RaftKind::Append, MemberId(1), MemberId(2), Term(9));
    Message::Raft(RaftMessage { log, entries: vec![entry], ..plain })
}

#[test]
fn an_append_must_follow_its_position() {
    let log = Position::new(10, 4);
    assert!(decoded(&encoded(&append(log, Position::new(11, 4)))).is_ok());
    for at in [Position::new(12, 4), Position::new(10, 4), Position::new(11, 3)] {
        let error = decoded(&encoded(&append(log, at)));
        assert!(
            matches!(error, Err(FrameError::Malformed { what: "sequence of entries", .. })),
            "{at}"
        );
    }
    let last = Position::new(u64::MAX, 4);
    assert!(
        decoded(&encoded(&append(last, Position::new(0, 4)))).is_err(),
        "an index wraps nowhere"
    );
}

#[test]
fn a_count_without_bytes_allocates_nothing() {
    let mut payload = encoded(&append(Position::new(1, 1), Position::new(2, 1))).split_off(HEADER);
    payload[82..86].copy_from_slice(&u32::MAX.to_le_bytes());
    let frame = Frame { kind: Kind::Raft, payload: payload.freeze() };
    assert!(matches!(decode(&frame), Err(FrameError::Malformed { .. })));
}

#[test]
fn only_large_data_shares_the_received_buffer() {
    for (length, shared) in [(SHARED_BYTES_MIN - 1, false), (SHARED_BYTES_MIN, true)] {
        let data = Bytes::from(vec![7; length]);
        let chunk = Message::Transfer(Transfer::Chunk { number: 1, file: 0, offset: 0, data });
        let mut payload = encoded(&chunk);
        payload.advance(HEADER);
        let payload = payload.freeze();
        let within = payload.as_ptr_range();
        let frame = Frame { kind: Kind::Transfer, payload };
        let Ok(Message::Transfer(Transfer::Chunk { data, .. })) = decode(&frame) else {
            panic!("a chunk comes back")
        };
        assert_eq!(within.contains(&data.as_ptr()), shared, "{length} bytes");
    }
}
