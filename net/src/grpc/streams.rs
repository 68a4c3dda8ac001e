//! Which call belongs to which connection: the services' way back.
//!
//! One [`Streams`] serves all connections of a worker. A reply finds its connection by an index in
//! its [`StreamId`] and is written into the connection's output at once; the connection's task is
//! woken once for all replies that come before it runs. Leaves out HTTP/2.
//!
//! ```text
//!  StreamId   worker : 8 | use : 36 | entry : 20    entry in the table; use counts up by call
//! ```
//!
//! Laws: (1) an id is never given twice by one process: workers have different numbers, and `use`
//! does not come round while a process lives; (2) a reply to a call that is over changes nothing;
//! (3) a call that is over for the services (last reply given, or cancelled) is told nothing more.
//!
//! The price of the layout: at most 1,048,576 open calls a worker; more are refused.
//!
//! Worked example: the driver answers 16 puts of a connection. The first reply wakes the task, each
//! writes its frames, and the task writes the output to the socket once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use bytes::Bytes;
use holdfast_core::arena::Arena;
use holdfast_core::time::Instant;

use crate::call::{FromClient, Reply, StreamId};
use crate::http2::{Connection, Http2Options, Names, Taken};

const ENTRY_BITS: u32 = 20;
const USE_BITS: u32 = 36;

/// Bytes read from a socket at once; one buffer serves all connections of a worker.
const READ_BYTES: usize = 64 << 10;

/// A connection, as its task and the services share it.
pub(super) struct Post {
    pub(super) connection: RefCell<Connection>,
    /// Set by [`Streams::drain`].
    pub(super) draining: Cell<bool>,
    rung: Cell<bool>,
    awake: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Post {
    /// The task runs, and is this one.
    pub(super) fn wake_up(&self, task: &Waker) {
        let mut known = self.task.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
        self.awake.set(true);
    }

    /// Whether there was news since the last question.
    pub(super) fn take_ring(&self) -> bool {
        self.rung.replace(false)
    }

    /// The task waits for its next wake-up.
    pub(super) fn sleep(&self) {
        self.awake.set(false);
    }

    /// There is news: the task runs soon, or again.
    fn ring(&self) {
        if !self.rung.replace(true)
            && !self.awake.get()
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

struct Entry {
    id: StreamId,
    owner: Option<(Rc<Post>, u32)>,
}

/// The open calls of a worker.
pub struct Streams {
    worker: u8,
    stream_bytes_max: usize,
    table: RefCell<Table>,
    pub(super) read_buffer: RefCell<Vec<u8>>,
    /// Where requests are kept until they are proposed or read.
    messages: RefCell<Arena>,
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
    uses: u64,
    open: usize,
    posts: Vec<Rc<Post>>,
    draining: bool,
}

impl StreamId {
    /// Its entry in its worker's table: no two open calls of a worker share one, and they are dense.
    pub fn place(self) -> usize {
        (self.0 & ((1 << ENTRY_BITS) - 1)) as usize
    }
}

impl Table {
    fn find(&mut self, id: StreamId) -> Option<(u32, &mut Entry)> {
        let index = id.place();
        let entry = self.entries.get_mut(index)?;
        (entry.id == id && entry.owner.is_some()).then_some((index as u32, entry))
    }

    fn remove(&mut self, id: StreamId) -> Option<(Rc<Post>, u32)> {
        let (index, entry) = self.find(id)?;
        let owner = entry.owner.take();
        self.free.push(index);
        self.open -= 1;
        owner
    }
}

impl Streams {
    /// The table of one worker thread; `worker` differs between those of a process. A stream whose
    /// client reads slowly is full at `stream_bytes_max` unsent bytes.
    pub fn new(worker: u8, stream_bytes_max: usize) -> Streams {
        Streams {
            worker,
            stream_bytes_max,
            table: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BYTES]),
            messages: RefCell::default(),
        }
    }

    /// Gives a reply to its connection; it leaves when the connection's task next runs.
    pub fn reply(&self, reply: Reply) -> Taken {
        let (stream, last) = match &reply {
            Reply::Message { stream, last, .. } => (*stream, *last),
            Reply::End { stream, .. } => (*stream, true),
        };
        let mut table = self.table.borrow_mut();
        let owner = if last {
            table.remove(stream)
        } else {
            table.find(stream).and_then(|(_, entry)| entry.owner.clone())
        };
        drop(table);
        let Some((post, slot)) = owner else { return Taken::Gone };
        let taken = post.connection.borrow_mut().reply(slot, reply);
        post.ring();
        taken
    }

    /// How many calls wait for their last reply.
    pub fn open(&self) -> usize {
        self.table.borrow().open
    }

    /// How many connections are served.
    pub fn connections(&self) -> usize {
        self.table.borrow().posts.len()
    }

    /// Shutting down: all connections, also those to come, tell their clients to go elsewhere,
    /// finish their open calls, and end.
    pub fn drain(&self) {
        let posts = {
            let mut table = self.table.borrow_mut();
            table.draining = true;
            table.posts.clone()
        };
        for post in posts {
            post.draining.set(true);
            post.ring();
        }
    }

    /// A new connection.
    pub(super) fn join(&self, mut options: Http2Options, now: Instant) -> Rc<Post> {
        options.stream_bytes_max = self.stream_bytes_max;
        let mut table = self.table.borrow_mut();
        let post = Rc::new(Post {
            connection: RefCell::new(Connection::new(options, now)),
            draining: Cell::new(table.draining),
            rung: Cell::new(false),
            awake: Cell::new(false),
            task: RefCell::new(None),
        });
        table.posts.push(post.clone());
        post
    }

    /// A connection is gone. All its calls were cancelled ([`Streams::is_news`]).
    pub(super) fn leave(&self, post: &Rc<Post>) {
        self.table.borrow_mut().posts.retain(|other| !Rc::ptr_eq(other, post));
    }

    /// A new call in a connection's slot; `None` when the table is full.
    fn add(&self, post: &Rc<Post>, slot: u32) -> Option<StreamId> {
        let mut table = self.table.borrow_mut();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.entries.len() < 1 << ENTRY_BITS => {
                let index = table.entries.len() as u32;
                table.entries.push(Entry { id: StreamId(0), owner: None });
                index
            }
            None => return None,
        };
        table.uses += 1;
        let used = (table.uses & ((1 << USE_BITS) - 1)) << ENTRY_BITS;
        let worker = u64::from(self.worker) << (ENTRY_BITS + USE_BITS);
        let id = StreamId(worker | used | u64::from(index));
        table.entries[index as usize] = Entry { id, owner: Some((post.clone(), slot)) };
        table.open += 1;
        Some(id)
    }

    /// Whether the services are to be told (law 3). A call that is cancelled is over hereby.
    pub(super) fn is_news(&self, event: &FromClient) -> bool {
        let mut table = self.table.borrow_mut();
        match event {
            FromClient::Call(_) => true,
            FromClient::Message { stream, .. }
            | FromClient::HalfClosed { stream }
            | FromClient::Writable { stream } => table.find(*stream).is_some(),
            FromClient::Cancelled { stream } => table.remove(*stream).is_some(),
        }
    }
}

/// Names the calls of one connection.
pub(super) struct Naming<'a> {
    pub(super) streams: &'a Streams,
    pub(super) post: &'a Rc<Post>,
}

impl Names for Naming<'_> {
    fn name(&mut self, slot: u32) -> Option<StreamId> {
        self.streams.add(self.post, slot)
    }

    fn keep(&mut self, message: &[u8]) -> Bytes {
        self.streams.messages.borrow_mut().copy(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(stream: StreamId) -> Reply {
        Reply::Message { stream, message: "x".into(), last: true }
    }

    #[test]
    fn an_id_is_used_once_though_its_entry_is_used_again() {
        let streams = Streams::new(3, 100);
        let post = streams.join(Http2Options::default(), Instant(0));
        let first = streams.add(&post, 0).expect("there is room");
        assert_eq!(streams.open(), 1);
        assert!(streams.is_news(&FromClient::HalfClosed { stream: first }));
        assert!(streams.is_news(&FromClient::Cancelled { stream: first }));
        assert!(!streams.is_news(&FromClient::HalfClosed { stream: first }));
        assert_eq!((streams.open(), streams.reply(last(first))), (0, Taken::Gone));
        let second = streams.add(&post, 0).expect("there is room");
        assert_ne!(first, second);
        assert_eq!(first.0 & 0xFFFFF, second.0 & 0xFFFFF, "the same entry");
        assert_eq!(first.0 >> 56, 3);
        assert!(!streams.is_news(&FromClient::Cancelled { stream: first }));
        assert_eq!(streams.open(), 1, "an old name removes nothing");
    }

    #[test]
    fn a_connection_that_comes_late_drains_too() {
        let streams = Streams::new(0, 100);
        let early = streams.join(Http2Options::default(), Instant(0));
        streams.drain();
        let late = streams.join(Http2Options::default(), Instant(0));
        assert!(early.draining.get() && late.draining.get());
        streams.leave(&early);
        assert_eq!(streams.connections(), 1);
    }

    #[test]
    fn a_ring_wakes_a_sleeper_once_and_keeps_a_runner_awake() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        use std::task::Wake;

        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }

        let count = Arc::new(Count::default());
        let post = Streams::new(0, 100).join(Http2Options::default(), Instant(0));
        post.wake_up(&Waker::from(count.clone()));
        post.ring();
        assert_eq!((count.0.load(SeqCst), post.take_ring(), post.take_ring()), (0, true, false));
        post.sleep();
        post.ring();
        post.ring();
        assert_eq!(count.0.load(SeqCst), 1);
    }
}
