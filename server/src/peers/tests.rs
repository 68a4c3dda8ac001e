//! Connections that die without a word: on pipes in memory and a clock that runs by itself.

use super::*;
use std::collections::VecDeque;
use std::io;

use holdfast_core::fact::Fact;
use holdfast_core::id::{Incarnation, Position};
use holdfast_core::status::Status;
use tokio::io::DuplexStream;

/// Connections are the pipes that a test laid ready.
#[derive(Clone)]
struct Pipes {
    start: tokio::time::Instant,
    ready: Rc<RefCell<VecDeque<DuplexStream>>>,
}

impl Runtime for Pipes {
    type Stream = DuplexStream;
    type Listener = ();

    fn now(&self) -> Instant {
        Instant(self.start.elapsed().as_nanos() as u64)
    }

    async fn listen(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn accept(&self, (): &mut ()) -> io::Result<DuplexStream> {
        std::future::pending().await
    }

    async fn connect(&self, _: &str) -> io::Result<DuplexStream> {
        let next = self.ready.borrow_mut().pop_front();
        match next {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }
}

#[derive(Default)]
struct Complaints(RefCell<Vec<String>>);

impl Observer for Complaints {
    fn turned(&self, _: &Status, _: &[Fact]) {}
    fn synced(&self, _: u64, _: Duration) {}
    fn warn(&self, message: &str) {
        self.0.borrow_mut().push(message.to_string());
    }
    fn ready(&self, _: &[String]) {}
}

fn local(member: u64) -> LocalPeer {
    let hello =
        PeerHello { incarnation: Incarnation(member), last: Position::default(), birth: member };
    let urls = vec!["other:2380".to_string()];
    LocalPeer { cluster: ClusterId(9), member: MemberId(member), hello, urls }
}

fn peers(member: u64, complaints: &Rc<Complaints>) -> Rc<Peers> {
    let observer: Rc<dyn Observer> = complaints.clone();
    let urls = local(member).urls;
    let who = (ClusterId(9), MemberId(member));
    let peers = Peers::new(who, urls, Vec::new(), Rc::new(|| ()), observer);
    peers.set_hello(local(member).hello);
    peers
}

/// A cluster of these, each at `other:2380`.
fn members(ids: &[u64]) -> Membership {
    let members = ids.iter().map(|id| {
        let peer_urls = vec!["http://other:2380".to_string()];
        (MemberId(*id), Member { id: MemberId(*id), peer_urls, ..Member::default() })
    });
    Membership { members: members.collect(), ..Membership::default() }
}

/// Runs `test` on one thread with a clock that jumps to the next timer when nothing else is to do.
fn on_pipes(test: impl AsyncFnOnce(Pipes)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        test(Pipes { start: tokio::time::Instant::now(), ready: Rc::default() }).await;
    });
}

fn seen(peers: &Peers) -> Vec<&'static str> {
    let mut inbox = Vec::new();
    peers.collect(&mut inbox);
    inbox
        .iter()
        .map(|event| match event {
            Event::Connected { .. } => "connected",
            Event::Disconnected { .. } => "disconnected",
            _ => "other",
        })
        .collect()
}

/// A pipe between a dialler, which gets its end from `pipes`, and whoever holds the other end.
fn lay_pipe(pipes: &Pipes) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    pipes.ready.borrow_mut().push_back(near);
    far
}

/// Member 2's side of the handshake.
async fn greet(far: &mut DuplexStream) {
    let mut link = Link::new(Role::Acceptor, local(2), None);
    let mut hello = [0; 256];
    let read = far.read(&mut hello).await.expect("the dialler greets");
    link.receive(&hello[..read], &mut Vec::new());
    far.write_all(&link.take_output()).await.expect("the dialler listens");
}

#[test]
fn two_members_stay_connected_while_nobody_has_anything_to_say() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let (one, two) = (peers(1, &complaints), peers(2, &complaints));
        let far = lay_pipe(&pipes);
        one.update(&pipes, members(&[1, 2]));
        let own = pipes.clone();
        tokio::task::spawn_local(async move { two.listen_to(&own, far).await });
        pipes.sleep(Duration::from_secs(60)).await;
        assert_eq!(seen(&one), ["connected"]);
        assert!(complaints.0.borrow().is_empty());
    });
}

#[test]
fn a_peer_that_falls_silent_after_the_handshake_is_given_up() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let one = peers(1, &complaints);
        let mut far = lay_pipe(&pipes);
        one.update(&pipes, members(&[1, 2]));
        greet(&mut far).await;
        pipes.sleep(Duration::from_secs(4)).await;
        assert_eq!(seen(&one), ["connected"]);
        pipes.sleep(Duration::from_secs(4)).await;
        assert_eq!(seen(&one), ["disconnected"]);
        assert!(complaints.0.borrow()[0].contains("no sign of life"));
    });
}

#[test]
fn a_listener_that_never_greets_is_given_up_and_dialled_again() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let one = peers(1, &complaints);
        let (_silent, _next) = (lay_pipe(&pipes), lay_pipe(&pipes));
        one.update(&pipes, members(&[1, 2]));
        pipes.sleep(Duration::from_secs(4)).await;
        assert_eq!(pipes.ready.borrow().len(), 1);
        pipes.sleep(Duration::from_secs(4)).await;
        assert_eq!(pipes.ready.borrow().len(), 0);
    });
}

#[test]
fn a_full_pipe_without_a_reader_is_given_up() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let one = peers(1, &complaints);
        let mut far = lay_pipe(&pipes);
        one.update(&pipes, members(&[1, 2]));
        greet(&mut far).await;
        pipes.sleep(Duration::from_millis(10)).await;
        let data = vec![0; 1 << 20].into();
        let chunk = holdfast_core::message::Transfer::Chunk { number: 1, file: 0, offset: 0, data };
        one.send(MemberId(2), Message::Transfer(chunk));
        pipes.sleep(Duration::from_secs(4)).await;
        assert_eq!(seen(&one), ["connected"]);
        pipes.sleep(Duration::from_secs(2)).await;
        assert_eq!(seen(&one), ["disconnected"]);
    });
}

#[test]
fn strangers_who_do_not_say_who_they_are_are_sent_away_and_are_not_many() {
    on_pipes(async |pipes| {
        let complaints: Rc<Complaints> = Rc::default();
        let one = peers(1, &complaints);
        one.update(&pipes, members(&[1, 2]));
        let mut held = Vec::new();
        for number in 0..STRANGERS_MAX + 1 {
            let (near, far) = tokio::io::duplex(64);
            let (one, own) = (one.clone(), pipes.clone());
            tokio::task::spawn_local(async move { one.listen_to(&own, far).await });
            held.push(near);
            if number % 2 == 0 {
                // Half a greeting, a byte at a time, is no greeting.
                let mut near = held.pop().expect("it was pushed just now");
                let own = pipes.clone();
                tokio::task::spawn_local(async move {
                    for byte in [0xF5, b'H', b'F', b'P', 1, 1] {
                        let _ = near.write_all(&[byte]).await;
                        own.sleep(Duration::from_secs(2)).await;
                    }
                });
            }
        }
        pipes.sleep(Duration::from_secs(1)).await;
        assert_eq!(one.strangers.get(), STRANGERS_MAX);
        assert!(complaints.0.borrow()[0].contains("one connection too many"));
        let (mut near, far) = tokio::io::duplex(1 << 12);
        let (other, own) = (one.clone(), pipes.clone());
        pipes.sleep(Duration::from_secs(5)).await;
        assert_eq!(one.strangers.get(), 0);
        // A member that says so has a place of its own.
        tokio::task::spawn_local(async move { other.listen_to(&own, far).await });
        let mut link = Link::new(Role::Dialer, local(2), Some(MemberId(1)));
        near.write_all(&link.take_output()).await.expect("it listens");
        pipes.sleep(Duration::from_secs(1)).await;
        assert_eq!((one.strangers.get(), one.accepted.get()), (0, 1));
        // Complaints are few, however many there are to complain of.
        assert!(complaints.0.borrow().len() <= 20, "{:?}", complaints.0.borrow());
    });
}

/// Lets the other end of a pipe speak as somebody; why it is refused, if it is.
async fn speak_as(pipes: &Pipes, one: &Rc<Peers>, as_whom: LocalPeer) -> Option<Refusal> {
    let (mut near, far) = tokio::io::duplex(1 << 12);
    let (other, own) = (one.clone(), pipes.clone());
    tokio::task::spawn_local(async move { other.listen_to(&own, far).await });
    let mut link = Link::new(Role::Dialer, as_whom, Some(MemberId(1)));
    near.write_all(&link.take_output()).await.expect("it listens");
    let (mut answer, mut events) = ([0; 512], Vec::new());
    let read = near.read(&mut answer).await.expect("it answers");
    link.receive(&answer[..read], &mut events);
    match events.pop() {
        Some(LinkEvent::Closed(LinkError::RefusedBy(why))) => Some(why),
        Some(LinkEvent::Opened { .. }) => None,
        other => panic!("an answer to a greeting: {other:?}"),
    }
}

#[test]
fn the_removed_and_the_reborn_are_told_so_and_the_unknown_is_taken_in() {
    on_pipes(async |pipes| {
        let complaints: Rc<Complaints> = Rc::default();
        let one = peers(1, &complaints);
        let mut known = members(&[1, 2]);
        known.removed.insert(MemberId(3));
        known.births.insert(MemberId(2), 2);
        one.update(&pipes, known.clone());
        assert_eq!(speak_as(&pipes, &one, local(3)).await, Some(Refusal::Removed));
        let mut reborn = local(2);
        reborn.hello.birth = 77;
        assert_eq!(speak_as(&pipes, &one, reborn).await, Some(Refusal::Reborn));
        assert_eq!(speak_as(&pipes, &one, local(2)).await, None);
        // One that the state does not list is dialled back at the URLs that it told.
        let before = pipes.ready.borrow().len();
        let _far = lay_pipe(&pipes);
        assert_eq!(speak_as(&pipes, &one, local(4)).await, None);
        pipes.sleep(Duration::from_millis(300)).await;
        assert_eq!(pipes.ready.borrow().len(), before);
        // Its birth is remembered, though the state does not have it yet.
        let mut reborn = local(4);
        reborn.hello.birth = 78;
        assert_eq!(speak_as(&pipes, &one, reborn).await, Some(Refusal::Reborn));
        known.removed.insert(MemberId(4));
        one.update(&pipes, known);
        assert_eq!(speak_as(&pipes, &one, local(4)).await, Some(Refusal::Removed));
    });
}

#[test]
fn a_member_that_moves_is_dialled_where_it_went() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let one = peers(1, &complaints);
        let mut far = lay_pipe(&pipes);
        one.update(&pipes, members(&[1, 2]));
        greet(&mut far).await;
        pipes.sleep(Duration::from_secs(1)).await;
        assert_eq!(seen(&one), ["connected"]);
        let mut moved = members(&[1, 2]);
        let two = moved.members.get_mut(&MemberId(2)).expect("it was made so");
        two.peer_urls = vec!["http://elsewhere:2380".into()];
        let mut next = lay_pipe(&pipes);
        one.update(&pipes, moved);
        greet(&mut next).await;
        pipes.sleep(Duration::from_secs(1)).await;
        assert_eq!(seen(&one), ["disconnected", "connected"]);
        let mut gone = members(&[1]);
        gone.removed.insert(MemberId(2));
        one.update(&pipes, gone);
        pipes.sleep(Duration::from_secs(1)).await;
        assert_eq!((seen(&one), one.connected()), (vec!["disconnected"], 0));
    });
}

#[test]
fn a_peer_that_says_removed_ends_this_member() {
    on_pipes(async |pipes| {
        let complaints = Rc::default();
        let one = peers(1, &complaints);
        let mut far = lay_pipe(&pipes);
        one.update(&pipes, members(&[1, 2]));
        let mut link = Link::new(Role::Acceptor, local(2), None);
        let mut hello = [0; 256];
        let read = far.read(&mut hello).await.expect("the dialler greets");
        link.receive(&hello[..read], &mut Vec::new());
        drop(link.take_output());
        link = Link::new(Role::Acceptor, local(2), None);
        link.refuse(Refusal::Removed);
        far.write_all(&link.take_output()).await.expect("the dialler listens");
        pipes.sleep(Duration::from_secs(1)).await;
        let mut inbox = Vec::new();
        one.collect(&mut inbox);
        assert!(matches!(inbox[..], [Event::Expelled(Stranger::Removed)]), "{inbox:?}");
    });
}
