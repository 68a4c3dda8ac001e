//! Connections to the other members. Each member dials every other and sends on what it dialled, so
//! two members have two connections, one for each direction.
//!
//! Messages may be lost, never reordered within one connection: a full queue, a peer that is away and
//! a broken connection drop them, and raft repeats what matters. A dialler pings once a second, and
//! either end gives up a connection on which the other has been silent: one that died without a reset
//! would otherwise be written to for as long as the system retransmits.
//!
//! Who there is changes while the member runs ([`Peers::update`]). A peer that this member's state does
//! not list (yet) is talked to as well, at the URLs that it tells: after a long absence all the others
//! may be new. One that was removed is not, nor one that has lost its data; each is told so and stops.

mod registry;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use holdfast_core::id::{ClusterId, MemberId};
use holdfast_core::membership::{Membership, Stranger};
use holdfast_core::message::{Message, PeerHello};
use holdfast_core::response::Member;
use holdfast_core::time::Instant;
use holdfast_net::peer::{Link, LinkError, LinkEvent, LocalPeer, Refusal, Role, SendError};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::host::Event;
use crate::observer::Observer;
use crate::runtime::Runtime;

/// Bytes queued for one peer beyond which messages are dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Pauses between attempts to reach a peer.
const RETRY: Duration = Duration::from_millis(100);

/// A connection whose other end gives no sign of life for so long is dead (etcd: 5 s without a byte).
/// Also the most that a handshake, or a write without progress, may take.
const SILENCE: Duration = Duration::from_secs(5);

/// Pings on a connection that this member dialled.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Accepted connections whose other end has not said who it is. They have [`SILENCE`] for it.
const STRANGERS_MAX: usize = 64;

/// Accepted connections of members, for each: a broken one may linger beside its successors.
const ACCEPTED_EACH: usize = 8;

/// As many complaints of accepted connections at once as seconds in this.
const COMPLAINTS_BURST: Duration = Duration::from_secs(10);

/// Bytes written to a peer at one time: each piece may take [`SILENCE`].
const WRITE_BYTES: usize = 256 << 10;

const ONE_TOO_MANY: &str = "one connection too many was closed";

const FELL_SILENT: &str = "no sign of life for 5 s; the connection is given up";

/// Bytes read from a peer at one time.
const READ_BYTES: usize = 256 << 10;

/// What is queued for one peer.
#[derive(Default)]
struct Queue {
    messages: RefCell<Vec<Message>>,
    bytes: Cell<usize>,
    connected: Cell<bool>,
    ring: Notify,
    /// Where to dial, as `host:port`, one after the other.
    addresses: RefCell<Vec<String>>,
    /// The present connection is of no more use: dial again.
    moved: Cell<bool>,
    /// The peer was removed.
    gone: Cell<bool>,
}

/// The peers of one member.
pub struct Peers {
    local: RefCell<LocalPeer>,
    queues: RefCell<BTreeMap<MemberId, Rc<Queue>>>,
    known: RefCell<Membership>,
    /// The births that peers have told in this run.
    births: RefCell<BTreeMap<MemberId, u64>>,
    /// Who the cluster began with, for those who join.
    genesis: Vec<Member>,
    inbox: RefCell<Vec<Event>>,
    /// Accepted connections of members, and those whose other end has not said who it is.
    accepted: Cell<usize>,
    strangers: Cell<usize>,
    wake: Rc<dyn Fn()>,
    observer: Rc<dyn Observer>,
    /// The last complaint about each peer.
    complained: RefCell<BTreeMap<MemberId, String>>,
    /// Until when complaints of accepted connections have been spent, one a second.
    next_complaint: Cell<Instant>,
}

impl Peers {
    /// Nobody yet, see [`Peers::update`]. `wake` is called when the inbox has something; the observer
    /// gets a sentence when a connection is refused or damaged.
    pub fn new(
        (cluster, member): (ClusterId, MemberId),
        urls: Vec<String>,
        genesis: Vec<Member>,
        wake: Rc<dyn Fn()>,
        observer: Rc<dyn Observer>,
    ) -> Rc<Peers> {
        let hello = PeerHello::default();
        Rc::new(Peers {
            local: RefCell::new(LocalPeer { cluster, member, hello, urls }),
            queues: RefCell::default(),
            known: RefCell::default(),
            births: RefCell::default(),
            genesis,
            inbox: RefCell::new(Vec::new()),
            accepted: Cell::new(0),
            strangers: Cell::new(0),
            wake,
            observer,
            complained: RefCell::new(BTreeMap::new()),
            next_complaint: Cell::new(Instant(0)),
        })
    }

    /// What this member says of itself from now on.
    pub fn set_hello(&self, hello: PeerHello) {
        self.local.borrow_mut().hello = hello;
    }

    /// Queues a message; drops it when the peer is unknown, away or too far behind.
    pub fn send(&self, to: MemberId, message: Message) {
        let queues = self.queues.borrow();
        let Some(queue) = queues.get(&to) else { return };
        let bytes = weight(&message);
        if !queue.connected.get() || queue.bytes.get() + bytes > QUEUE_BYTES_MAX {
            return;
        }
        queue.bytes.set(queue.bytes.get() + bytes);
        queue.messages.borrow_mut().push(message);
        queue.ring.notify_one();
    }

    /// Moves what the peers said into `inbox`.
    pub fn collect(&self, inbox: &mut Vec<Event>) {
        inbox.append(&mut self.inbox.borrow_mut());
    }

    /// How many peers are connected.
    pub fn connected(&self) -> usize {
        self.queues.borrow().values().filter(|queue| queue.connected.get()).count()
    }

    /// Dials a peer, whenever there is no connection, until it is gone.
    fn dial<R: Runtime>(self: &Rc<Peers>, runtime: &R, peer: MemberId, queue: Rc<Queue>) {
        let (peers, runtime) = (self.clone(), runtime.clone());
        runtime.clone().spawn(async move {
            while !queue.gone.get() {
                let addresses = queue.addresses.borrow().clone();
                for address in addresses {
                    queue.moved.set(false);
                    if let Some(Ok(stream)) = within(&runtime, runtime.connect(&address)).await {
                        peers.talk(&runtime, peer, stream, &queue).await;
                        if queue.connected.replace(false) {
                            peers.tell(Event::Disconnected { peer });
                        }
                        queue.messages.borrow_mut().clear();
                        queue.bytes.set(0);
                    }
                }
                runtime.sleep(RETRY).await;
            }
        });
    }

    /// Serves a connection that a peer dialled, until it breaks or falls silent.
    pub async fn listen_to<R: Runtime>(self: &Rc<Peers>, runtime: &R, mut stream: R::Stream) {
        let Some(mut _place) = Place::take(&self.strangers, STRANGERS_MAX) else {
            return self.complain_limited(runtime, None, ONE_TOO_MANY);
        };
        let mut known = false;
        let mut link = Link::new(Role::Acceptor, self.local.borrow().clone(), None);
        let mut events = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut heard = true;
        let mut tick = pin!(runtime.sleep(SILENCE));
        loop {
            let read = tokio::select! {
                biased;
                read = stream.read(&mut buffer) => read,
                () = &mut tick => {
                    if !std::mem::take(&mut heard) || !known {
                        return self.complain_limited(runtime, link.met(), FELL_SILENT);
                    }
                    tick.set(runtime.sleep(SILENCE));
                    continue;
                }
            };
            let Ok(read @ 1..) = read else { return };
            heard = true;
            link.receive(&buffer[..read], &mut events);
            let mut closed = self.heard_from(runtime, &mut link, &mut events);
            if !known && link.peer().is_some() {
                // Members have places of their own, which strangers cannot take.
                known = true;
                match Place::take(&self.accepted, ACCEPTED_EACH * self.queues.borrow().len()) {
                    Some(of_member) => _place = of_member,
                    None => {
                        self.complain_limited(runtime, link.met(), ONE_TOO_MANY);
                        closed = true;
                    }
                }
            }
            if !write(runtime, &mut stream, &link.take_output()).await {
                return;
            }
            if closed {
                // The other side reads the reason before the connection goes.
                drop(within(runtime, stream.shutdown()).await);
                return;
            }
        }
    }

    /// Passes on what came over an accepted connection; says whether it must be closed.
    fn heard_from<R: Runtime>(
        self: &Rc<Peers>,
        runtime: &R,
        link: &mut Link,
        events: &mut Vec<LinkEvent>,
    ) -> bool {
        let mut closed = false;
        for event in events.drain(..) {
            match event {
                LinkEvent::Opened { peer, hello, urls } => {
                    if let Some(why) = self.welcome(runtime, peer, hello.birth, urls) {
                        link.refuse(why);
                        closed = true;
                    }
                }
                LinkEvent::Inquired => {
                    link.tell_roster(&self.roster());
                    closed = true;
                }
                LinkEvent::Alive => {}
                LinkEvent::Message(message) => match link.peer() {
                    Some(from) if self.queues.borrow().contains_key(&from) => {
                        self.tell(Event::Message { from, message });
                    }
                    Some(_) => {
                        link.refuse(Refusal::Removed);
                        closed = true;
                    }
                    None => {}
                },
                LinkEvent::Closed(error) => {
                    self.complain_limited(runtime, link.met(), &error.to_string());
                    closed = true;
                }
            }
        }
        closed
    }

    /// Talks on a connection that this member dialled, until it breaks or a ping is not answered.
    async fn talk<R: Runtime>(
        &self,
        runtime: &R,
        peer: MemberId,
        stream: R::Stream,
        queue: &Queue,
    ) {
        let mut link = Link::new(Role::Dialer, self.local.borrow().clone(), Some(peer));
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buffer = vec![0; 16 << 10];
        // Since when the other side owes a sign of life: first the handshake, then answers to pings.
        let (mut asked, mut pinged) = (Some(runtime.now()), false);
        let mut tick = pin!(runtime.sleep(PING_EVERY));
        loop {
            for message in queue.messages.borrow_mut().drain(..) {
                match link.send(&message) {
                    // To compare hashes with an old peer is like comparing them with one that is away.
                    Ok(()) | Err(SendError::TooOld) => {}
                    Err(SendError::TooLarge | SendError::NotOpen) => {
                        self.complain(peer, "a message larger than a frame may be was dropped");
                    }
                }
            }
            queue.bytes.set(0);
            let output = link.take_output();
            if !write(runtime, &mut writer, &output).await || queue.gone.get() || queue.moved.get()
            {
                return;
            }
            if std::mem::take(&mut pinged) {
                asked.get_or_insert(runtime.now());
            }
            if output.len() >= WRITE_BYTES && asked.is_some() {
                // A pong stands behind what the socket holds; that it took so much is a sign, too.
                asked = Some(runtime.now());
            }
            if !queue.messages.borrow().is_empty() {
                continue;
            }
            let read = tokio::select! {
                biased;
                read = reader.read(&mut buffer) => read,
                () = queue.ring.notified() => continue,
                () = &mut tick => {
                    if asked.is_some_and(|since| runtime.now().since(since) >= SILENCE) {
                        return self.complain(peer, FELL_SILENT);
                    }
                    tick.set(runtime.sleep(PING_EVERY));
                    link.ping();
                    pinged = true;
                    continue;
                }
            };
            let Ok(read @ 1..) = read else { return };
            asked = None;
            if let Err(error) = self.answered(&mut link, &buffer[..read], queue) {
                return self.complain(peer, &error.to_string());
            }
        }
    }

    /// Takes what came back on a dialled connection.
    fn answered(&self, link: &mut Link, bytes: &[u8], queue: &Queue) -> Result<(), LinkError> {
        let mut events = Vec::new();
        link.receive(bytes, &mut events);
        for event in events {
            match event {
                LinkEvent::Opened { peer, hello, .. } => {
                    if let Some(why) = self.objection(peer, hello.birth) {
                        let cluster = self.local.borrow().cluster;
                        return Err(LinkError::Refused { why, cluster, peer });
                    }
                    queue.connected.set(true);
                    self.complained.borrow_mut().remove(&peer);
                    self.tell(Event::Connected { peer, hello });
                }
                // A peer speaks on the connections it dialled.
                LinkEvent::Message(_) | LinkEvent::Alive | LinkEvent::Inquired => {}
                LinkEvent::Closed(error) => {
                    match error {
                        LinkError::RefusedBy(Refusal::Removed) => {
                            self.tell(Event::Expelled(Stranger::Removed));
                        }
                        LinkError::RefusedBy(Refusal::Reborn) => {
                            self.tell(Event::Expelled(Stranger::Reborn));
                        }
                        _ => {}
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Said once for each reason: a refused connection is tried again all the time.
    fn complain(&self, peer: MemberId, why: &str) {
        let before = self.complained.borrow_mut().insert(peer, why.to_string());
        if before.is_some_and(|before| before == why) {
            return;
        }
        self.observer.warn(&format!("connection with peer {peer}: {why}"));
    }

    /// Complains of an accepted connection: once a second, and a few at once, for whoever reaches the
    /// port can make reasons without end. `peer` is who the other end says it is.
    fn complain_limited<R: Runtime>(&self, runtime: &R, peer: Option<MemberId>, why: &str) {
        let now = runtime.now();
        let due = self.next_complaint.get().max(now);
        if due.since(now) >= COMPLAINTS_BURST {
            return;
        }
        self.next_complaint.set(due + Duration::from_secs(1));
        match peer.filter(|peer| self.queues.borrow().contains_key(peer)) {
            Some(peer) => self.observer.warn(&format!("connection from peer {peer}: {why}")),
            None => self
                .observer
                .warn(&format!("connection at the peer port from an unknown peer: {why}")),
        }
    }

    fn tell(&self, event: Event) {
        self.inbox.borrow_mut().push(event);
        (self.wake)();
    }
}

/// A place among the accepted connections, given back on drop.
struct Place<'a>(&'a Cell<usize>);

impl Place<'_> {
    fn take(taken: &Cell<usize>, max: usize) -> Option<Place<'_>> {
        (taken.get() < max).then(|| {
            taken.set(taken.get() + 1);
            Place(taken)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Waits for `work`, but no longer than [`SILENCE`].
async fn within<R: Runtime, T>(runtime: &R, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = runtime.sleep(SILENCE) => None,
    }
}

/// Writes everything; says whether the connection lives.
async fn write<R: Runtime>(
    runtime: &R,
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> bool {
    for piece in bytes.chunks(WRITE_BYTES) {
        if !matches!(within(runtime, writer.write_all(piece)).await, Some(Ok(()))) {
            return false;
        }
    }
    true
}

/// About how many bytes a message keeps in memory while it waits.
fn weight(message: &Message) -> usize {
    let payload = match message {
        Message::Raft(raft) => raft.entries.iter().map(|entry| entry.data.len() + 64).sum(),
        Message::Transfer(holdfast_core::message::Transfer::Chunk { data, .. }) => data.len(),
        _ => 0,
    };
    payload + 128
}

#[cfg(test)]
mod tests;
