//! Two links back to back: they open, or both learn why not.

use super::*;
use holdfast_core::id::{LeaseId, Position, Revision, Term};
use holdfast_core::message::{HashAsk, LeaseAsk};

fn member(cluster: u64, member: u64) -> LocalPeer {
    let hello = PeerHello {
        incarnation: Incarnation(member * 100),
        last: Position::new(member, 1),
        birth: member,
    };
    LocalPeer {
        cluster: ClusterId(cluster),
        member: MemberId(member),
        hello,
        urls: vec![format!("http://n{member}:1")],
    }
}

/// Carries bytes between the two until both are silent, at most `size` at a time.
fn exchange(dialer: &mut Link, acceptor: &mut Link, size: usize) -> [Vec<LinkEvent>; 2] {
    let mut events = [Vec::new(), Vec::new()];
    loop {
        let there = dialer.take_output();
        there.chunks(size).for_each(|chunk| acceptor.receive(chunk, &mut events[1]));
        let back = acceptor.take_output();
        back.chunks(size).for_each(|chunk| dialer.receive(chunk, &mut events[0]));
        if there.is_empty() && back.is_empty() {
            return events;
        }
    }
}

fn ask(number: u64) -> Message {
    Message::LeaseAsk(LeaseAsk { number, id: LeaseId(5), renew: true })
}

#[test]
fn two_members_meet_and_talk() {
    for size in [1, 7, 4096] {
        let mut dialer = Link::new(Role::Dialer, member(1, 1), Some(MemberId(2)));
        let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
        assert_eq!(dialer.send(&ask(0)), Err(SendError::NotOpen));
        let [at_dialer, at_acceptor] = exchange(&mut dialer, &mut acceptor, size);
        let opened = |of: LocalPeer| {
            vec![LinkEvent::Opened { peer: of.member, hello: of.hello, urls: of.urls }]
        };
        assert_eq!(at_dialer, opened(member(1, 2)));
        assert_eq!(at_acceptor, opened(member(1, 1)));
        dialer.send(&ask(1)).expect("the link is open");
        acceptor.send(&ask(2)).expect("the link is open");
        let [at_dialer, at_acceptor] = exchange(&mut dialer, &mut acceptor, size);
        assert_eq!(at_dialer, [LinkEvent::Message(ask(2))]);
        assert_eq!(at_acceptor, [LinkEvent::Message(ask(1))]);
    }
}

#[test]
fn a_ping_is_answered_and_both_know_that_the_other_lives() {
    let mut dialer = Link::new(Role::Dialer, member(1, 1), Some(MemberId(2)));
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    dialer.ping();
    exchange(&mut dialer, &mut acceptor, 4096);
    dialer.ping();
    let [at_dialer, at_acceptor] = exchange(&mut dialer, &mut acceptor, 5);
    assert_eq!(at_dialer, [LinkEvent::Alive]);
    assert_eq!(at_acceptor, [LinkEvent::Alive]);
}

#[test]
fn a_stranger_may_not_send_much() {
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    let mut bytes = BytesMut::new();
    write_frame(Kind::Hello, &mut bytes, |out| out.put_bytes(0, GREETING_BYTES_MAX));
    let mut events = Vec::new();
    acceptor.receive(&bytes[..16], &mut events);
    let [LinkEvent::Closed(LinkError::Frame(FrameError::TooLarge { .. }))] = events[..] else {
        panic!("its head is enough: {events:?}")
    };
}

fn refusal(local: LocalPeer, remote: LocalPeer, expect: Option<MemberId>) -> Refusal {
    let mut dialer = Link::new(Role::Dialer, local.clone(), expect);
    let mut acceptor = Link::new(Role::Acceptor, remote, None);
    let [at_dialer, at_acceptor] = exchange(&mut dialer, &mut acceptor, 4096);
    let [LinkEvent::Closed(LinkError::RefusedBy(told))] = at_dialer[..] else {
        panic!("the dialler is told: {at_dialer:?}")
    };
    let [LinkEvent::Closed(LinkError::Refused { why, peer, .. })] = at_acceptor[..] else {
        panic!("the acceptor knows: {at_acceptor:?}")
    };
    assert_eq!((told, peer), (why, local.member));
    assert_eq!(dialer.send(&ask(1)), Err(SendError::NotOpen));
    why
}

#[test]
fn both_sides_learn_the_reason() {
    let two = Some(MemberId(2));
    assert_eq!(refusal(member(8, 1), member(9, 2), two), Refusal::Cluster(ClusterId(9)));
    assert_eq!(refusal(member(8, 1), member(8, 3), two), Refusal::Member(MemberId(3)));
    assert_eq!(refusal(member(8, 1), member(8, 1), None), Refusal::Twin);
    assert_eq!(refusal(member(8, 0), member(8, 2), two), Refusal::Unknown);
}

#[test]
fn the_sentences_name_both_sides() {
    let why = Refusal::Cluster(ClusterId(9));
    let here = LinkError::Refused { why, cluster: ClusterId(8), peer: MemberId(1) };
    assert_eq!(
        here.to_string(),
        "refused member n1 of cluster c8: this member belongs to cluster c9; check \
         --initial-cluster and --initial-cluster-token on both"
    );
    let there = LinkError::RefusedBy(why).to_string();
    assert!(there.starts_with("the peer refused this member: the peer belongs to cluster c9"));
}

#[test]
fn an_owner_refuses_a_stranger() {
    let mut dialer = Link::new(Role::Dialer, member(1, 7), Some(MemberId(2)));
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    let mut events = Vec::new();
    acceptor.receive(&dialer.take_output(), &mut events);
    acceptor.refuse(Refusal::Unknown);
    let [at_dialer, _] = exchange(&mut dialer, &mut acceptor, 4096);
    let told = LinkEvent::Closed(LinkError::RefusedBy(Refusal::Unknown));
    assert_eq!(at_dialer.last(), Some(&told));
}

#[test]
fn another_protocol_is_refused_with_what_is_spoken() {
    let mut hello = BytesMut::new();
    write_frame(Kind::Hello, &mut hello, |out| {
        out.put_u16_le(7);
        out.put_u16_le(9);
        out.put_bytes(0, 60);
    });
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    let mut events = Vec::new();
    acceptor.receive(&hello, &mut events);
    let why = Refusal::Protocol(PROTOCOLS.0, PROTOCOLS.1);
    assert!(
        matches!(events[..], [LinkEvent::Closed(LinkError::Refused { why: said, .. })] if said == why)
    );
    let mut dialer = Link::new(Role::Dialer, member(1, 1), None);
    let mut told = Vec::new();
    dialer.receive(&acceptor.take_output(), &mut told);
    assert_eq!(told, [LinkEvent::Closed(LinkError::RefusedBy(why))]);
}

#[test]
fn nobody_speaks_before_the_handshake_or_for_others() {
    let mut frame = BytesMut::new();
    codec::encode_frame(&ask(1), &mut frame);
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    let mut events = Vec::new();
    acceptor.receive(&frame, &mut events);
    assert_eq!(events, [LinkEvent::Closed(LinkError::OutOfOrder(Kind::LeaseAsk))]);
    events.clear();
    acceptor.receive(&frame, &mut events);
    assert_eq!(events, [], "closed is the last event");

    for (kind, from, to, good) in [
        (RaftKind::Heartbeat, 1, 2, true),
        (RaftKind::Heartbeat, 3, 2, false),
        (RaftKind::Heartbeat, 1, 3, false),
        (RaftKind::TransferLeader, 3, 2, true),
    ] {
        let mut dialer = Link::new(Role::Dialer, member(1, 1), None);
        let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
        exchange(&mut dialer, &mut acceptor, 4096);
        dialer.send(&raft(kind, from, to)).expect("the link is open");
        let [_, events] = exchange(&mut dialer, &mut acceptor, 4096);
        assert_eq!(matches!(events[..], [LinkEvent::Message(_)]), good, "{kind:?} {from} to {to}");
    }
}

fn raft(kind: RaftKind, from: u64, to: u64) -> Message {
    Message::Raft(RaftMessage::new(kind, MemberId(from), MemberId(to), Term(1)))
}

#[test]
fn an_http_client_gets_an_answer_and_the_log_a_name() {
    let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
    let mut events = Vec::new();
    acceptor.receive(b"GET /raft/probing HTTP/1.1\r\n\r\n", &mut events);
    let [LinkEvent::Closed(error)] = &events[..] else { panic!("{events:?}") };
    assert!(error.to_string().contains("GET /raft/probing"), "{error}");
    assert!(acceptor.take_output().starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn a_message_over_the_bound_is_not_sent() {
    let mut dialer = Link::with_frame_max(Role::Dialer, member(1, 1), None, 100);
    let mut acceptor = Link::with_frame_max(Role::Acceptor, member(1, 2), None, 100);
    exchange(&mut dialer, &mut acceptor, 4096);
    assert_eq!(dialer.send(&raft(RaftKind::Heartbeat, 1, 2)), Err(SendError::TooLarge));
    assert_eq!(dialer.output_len(), 0);
}

#[test]
fn a_message_of_protocol_2_does_not_go_to_a_member_of_protocol_1() {
    let hash =
        Message::HashAsk(HashAsk { number: 1, revision: Revision(9), compacted: Revision(-1) });
    for (newest, taken) in [(1, Err(SendError::TooOld)), (2, Ok(())), (3, Ok(()))] {
        let mut hello = BytesMut::new();
        write_frame(Kind::Hello, &mut hello, |out| {
            out.put_u16_le(1);
            out.put_u16_le(newest);
            [1, 1, 2, 100].into_iter().for_each(|number| out.put_u64_le(number));
            codec::put_position(Position::new(1, 1), out);
            out.put_u64_le(1);
            put_texts(&[], out);
        });
        let mut acceptor = Link::new(Role::Acceptor, member(1, 2), None);
        let mut events = Vec::new();
        acceptor.receive(&hello, &mut events);
        assert!(matches!(events[..], [LinkEvent::Opened { .. }]), "{events:?}");
        assert_eq!(acceptor.send(&hash), taken, "protocol {newest}");
        assert_eq!(acceptor.send(&ask(1)), Ok(()));
    }
}
