//! Connections to the other members. Each member dials every other and sends on what it dialled, so
//! two members have two connections, one for each direction.
//!
//! Messages may be lost, never reordered within one connection: a full queue, a peer that is away and
//! a broken connection drop them, and raft repeats what matters.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use holdfast_core::id::{ClusterId, MemberId};
use holdfast_core::message::{Message, PeerHello};
use holdfast_net::peer::{Link, LinkEvent, LocalPeer, Refusal, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::host::Event;
use crate::observer::Observer;
use crate::runtime::Runtime;

/// Bytes queued for one peer beyond which messages are dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Pauses between attempts to reach a peer.
const RETRY: Duration = Duration::from_millis(100);

/// Bytes read from a peer at one time.
const READ_BYTES: usize = 256 << 10;

/// What is queued for one peer.
#[derive(Default)]
struct Queue {
    messages: RefCell<Vec<Message>>,
    bytes: Cell<usize>,
    connected: Cell<bool>,
    ring: Notify,
}

/// The peers of one member.
pub struct Peers {
    local: Cell<LocalPeer>,
    queues: BTreeMap<MemberId, (String, Rc<Queue>)>,
    inbox: RefCell<Vec<Event>>,
    wake: Rc<dyn Fn()>,
    observer: Rc<dyn Observer>,
    /// The last complaint about each peer.
    complained: RefCell<BTreeMap<MemberId, String>>,
}

impl Peers {
    /// Peers by member and address (`host:port`). `wake` is called when the inbox has something;
    /// the observer gets a sentence when a connection is refused or damaged.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        addresses: BTreeMap<MemberId, String>,
        wake: Rc<dyn Fn()>,
        observer: Rc<dyn Observer>,
    ) -> Rc<Peers> {
        let queues = addresses
            .into_iter()
            .map(|(peer, address)| (peer, (address, Rc::new(Queue::default()))));
        Rc::new(Peers {
            local: Cell::new(LocalPeer { cluster, member, hello: PeerHello::default() }),
            queues: queues.collect(),
            inbox: RefCell::new(Vec::new()),
            wake,
            observer,
            complained: RefCell::new(BTreeMap::new()),
        })
    }

    /// What this member says of itself from now on.
    pub fn set_hello(&self, hello: PeerHello) {
        self.local.set(LocalPeer { hello, ..self.local.get() });
    }

    /// Queues a message; drops it when the peer is unknown, away or too far behind.
    pub fn send(&self, to: MemberId, message: Message) {
        let Some((_, queue)) = self.queues.get(&to) else { return };
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
        self.queues.values().filter(|(_, queue)| queue.connected.get()).count()
    }

    /// Starts dialling everybody.
    pub fn dial<R: Runtime>(self: &Rc<Peers>, runtime: &R) {
        for (peer, (address, queue)) in &self.queues {
            let (peers, runtime) = (self.clone(), runtime.clone());
            let (peer, address, queue) = (*peer, address.clone(), queue.clone());
            runtime.clone().spawn(async move {
                loop {
                    if let Ok(stream) = runtime.connect(&address).await {
                        peers.talk(peer, stream, &queue).await;
                        if queue.connected.replace(false) {
                            peers.tell(Event::Disconnected { peer });
                        }
                        queue.messages.borrow_mut().clear();
                        queue.bytes.set(0);
                    }
                    runtime.sleep(RETRY).await;
                }
            });
        }
    }

    /// Serves a connection that a peer dialled.
    pub async fn listen_to(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut link = Link::new(Role::Acceptor, self.local.get(), None);
        let mut events = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
            link.receive(&buffer[..read], &mut events);
            let mut closed = false;
            for event in events.drain(..) {
                match event {
                    LinkEvent::Opened { peer, .. } if !self.queues.contains_key(&peer) => {
                        link.refuse(Refusal::Unknown);
                        closed = true;
                    }
                    LinkEvent::Opened { .. } => {}
                    LinkEvent::Message(message) => {
                        if let Some(from) = link.peer() {
                            self.tell(Event::Message { from, message });
                        }
                    }
                    LinkEvent::Closed(error) => {
                        self.complain(link.peer().unwrap_or_default(), &error.to_string());
                        closed = true;
                    }
                }
            }
            let output = link.take_output();
            if !output.is_empty() && stream.write_all(&output).await.is_err() {
                return;
            }
            if closed {
                // The other side reads the reason before the connection goes.
                drop(stream.shutdown().await);
                return;
            }
        }
    }

    /// Talks on a connection that this member dialled, until it breaks.
    async fn talk(
        &self,
        peer: MemberId,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        queue: &Queue,
    ) {
        let mut link = Link::new(Role::Dialer, self.local.get(), Some(peer));
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut events = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            for message in queue.messages.borrow_mut().drain(..) {
                if link.send(&message).is_err() {
                    self.complain(peer, "a message larger than a frame may be was dropped");
                }
            }
            queue.bytes.set(0);
            let output = link.take_output();
            if !output.is_empty() && writer.write_all(&output).await.is_err() {
                return;
            }
            if !queue.messages.borrow().is_empty() {
                continue;
            }
            let read = tokio::select! {
                biased;
                read = reader.read(&mut buffer) => read,
                () = queue.ring.notified() => continue,
            };
            let Ok(read @ 1..) = read else { return };
            link.receive(&buffer[..read], &mut events);
            for event in events.drain(..) {
                match event {
                    LinkEvent::Opened { peer, hello } => {
                        queue.connected.set(true);
                        self.tell(Event::Connected { peer, hello });
                    }
                    LinkEvent::Message(_) => {} // a peer speaks on the connections it dialled
                    LinkEvent::Closed(error) => {
                        return self.complain(peer, &error.to_string());
                    }
                }
            }
        }
    }

    /// Said once for each reason: a refused connection is tried again all the time.
    fn complain(&self, peer: MemberId, why: &str) {
        let before = self.complained.borrow_mut().insert(peer, why.to_string());
        if before.is_some_and(|before| before == why) {
            return;
        }
        self.observer.warn(&format!("connection with peer {peer}: {why}"));
    }

    fn tell(&self, event: Event) {
        self.inbox.borrow_mut().push(event);
        (self.wake)();
    }
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
