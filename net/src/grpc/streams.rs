//! Which call belongs to which connection: the services' way back.
//!
//! One [`Streams`] serves all connections of a worker. A reply finds its connection by an index in
//! its [`StreamId`], waits there with the others, and the connection's task is woken once for all
//! of them. Leaves out HTTP/2.
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

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::bell::Bell;
use super::piece::PREFIX;
use crate::call::{Reply, StreamId};

const ENTRY_BITS: u32 = 20;
const USE_BITS: u32 = 36;

/// A stream that was told to be full and yet gets this many times its bound is cut off: its client
/// asks without reading the answers.
const OVERRUN_FACTOR: usize = 4;

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It will be sent.
    Yes,
    /// It will be sent, and the stream wants no more until `FromClient::Writable`.
    Full,
    /// The call is over; the reply was dropped.
    Gone,
}

/// A connection's side of the table.
#[derive(Default)]
pub(super) struct Post {
    /// Wakes its task.
    pub(super) bell: Arc<Bell>,
    /// Replies with the connection's slot, in the order in which they were given.
    pub(super) replies: RefCell<Vec<(u32, Reply)>>,
    /// Set by [`Streams::drain`].
    pub(super) draining: Cell<bool>,
}

struct Entry {
    id: StreamId,
    owner: Option<(Rc<Post>, u32)>,
    queued: usize,
    full: bool,
}

/// The open calls of a worker.
pub struct Streams {
    worker: u8,
    stream_bytes_max: usize,
    table: RefCell<Table>,
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

impl Table {
    fn find(&mut self, id: StreamId) -> Option<(u32, &mut Entry)> {
        let index = (id.0 & ((1 << ENTRY_BITS) - 1)) as u32;
        let entry = self.entries.get_mut(index as usize)?;
        (entry.id == id && entry.owner.is_some()).then_some((index, entry))
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
        Streams { worker, stream_bytes_max, table: RefCell::default() }
    }

    /// Gives a reply to its connection; it leaves when the connection's task next runs.
    pub fn reply(&self, reply: Reply) -> Taken {
        let (stream, bytes, last) = match &reply {
            Reply::Message { stream, message, last } => (*stream, PREFIX + message.len(), *last),
            Reply::End { stream, .. } => (*stream, 0, true),
        };
        let mut table = self.table.borrow_mut();
        if last {
            let Some((post, slot)) = table.remove(stream) else { return Taken::Gone };
            drop(table);
            Streams::deliver(&post, slot, reply);
            return Taken::Yes;
        }
        let Some((_, entry)) = table.find(stream) else { return Taken::Gone };
        entry.queued += bytes;
        let full = entry.queued >= self.stream_bytes_max;
        entry.full |= full;
        let (post, slot) = entry.owner.clone().expect("find gives entries with an owner only");
        drop(table);
        Streams::deliver(&post, slot, reply);
        if full { Taken::Full } else { Taken::Yes }
    }

    fn deliver(post: &Post, slot: u32, reply: Reply) {
        let mut replies = post.replies.borrow_mut();
        replies.push((slot, reply));
        if replies.len() == 1 {
            post.bell.ring();
        }
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
            post.bell.ring();
        }
    }

    /// A new connection.
    pub(super) fn join(&self) -> Rc<Post> {
        let mut table = self.table.borrow_mut();
        let post = Rc::new(Post::default());
        post.draining.set(table.draining);
        table.posts.push(post.clone());
        post
    }

    /// A connection is gone. All its calls were [removed](Streams::remove).
    pub(super) fn leave(&self, post: &Rc<Post>) {
        self.table.borrow_mut().posts.retain(|other| !Rc::ptr_eq(other, post));
    }

    /// A new call in a connection's slot; `None` when the table is full.
    pub(super) fn add(&self, post: &Rc<Post>, slot: u32) -> Option<StreamId> {
        let mut table = self.table.borrow_mut();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.entries.len() < 1 << ENTRY_BITS => {
                let index = table.entries.len() as u32;
                table.entries.push(Entry { id: StreamId(0), owner: None, queued: 0, full: false });
                index
            }
            None => return None,
        };
        table.uses += 1;
        let used = (table.uses & ((1 << USE_BITS) - 1)) << ENTRY_BITS;
        let worker = u64::from(self.worker) << (ENTRY_BITS + USE_BITS);
        let id = StreamId(worker | used | u64::from(index));
        let owner = Some((post.clone(), slot));
        table.entries[index as usize] = Entry { id, owner, queued: 0, full: false };
        table.open += 1;
        Some(id)
    }

    /// A call is over for the services; false if it was already.
    pub(super) fn remove(&self, id: StreamId) -> bool {
        self.table.borrow_mut().remove(id).is_some()
    }

    /// Bytes of a stream's messages were given to HTTP/2; true when it had been full and now wants
    /// more.
    pub(super) fn sent(&self, id: StreamId, bytes: usize) -> bool {
        let mut table = self.table.borrow_mut();
        let Some((_, entry)) = table.find(id) else { return false };
        entry.queued = entry.queued.saturating_sub(bytes);
        let writable = entry.full && entry.queued <= self.stream_bytes_max / 2;
        entry.full &= !writable;
        writable
    }

    /// Whether the stream wants no more replies, and so no more requests.
    pub(super) fn is_full(&self, id: StreamId) -> bool {
        self.table.borrow_mut().find(id).is_some_and(|(_, entry)| entry.full)
    }

    /// Whether the services went on although the stream was full for long.
    pub(super) fn is_overrun(&self, id: StreamId) -> bool {
        let bound = self.stream_bytes_max.saturating_mul(OVERRUN_FACTOR);
        self.table.borrow_mut().find(id).is_some_and(|(_, entry)| entry.queued > bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(stream: StreamId, bytes: usize, last: bool) -> Reply {
        Reply::Message { stream, message: Bytes::from(vec![0; bytes]), last }
    }

    #[test]
    fn an_id_is_used_once_though_its_entry_is_used_again() {
        let streams = Streams::new(3, 100);
        let post = streams.join();
        let first = streams.add(&post, 0).expect("there is room");
        assert_eq!(streams.reply(message(first, 1, true)), Taken::Yes);
        assert_eq!(streams.reply(message(first, 1, true)), Taken::Gone);
        let second = streams.add(&post, 0).expect("there is room");
        assert_ne!(first, second);
        assert_eq!(first.0 & 0xFFFFF, second.0 & 0xFFFFF, "the same entry");
        assert_eq!(first.0 >> 56, 3);
        assert_eq!(streams.reply(message(first, 1, false)), Taken::Gone);
        assert_eq!(streams.open(), 1);
        assert!(streams.remove(second) && !streams.remove(second));
        assert_eq!(streams.open(), 0);
        assert_eq!(post.replies.borrow().len(), 1);
    }

    #[test]
    fn a_stream_is_full_until_half_is_sent() {
        let streams = Streams::new(0, 100);
        let post = streams.join();
        let id = streams.add(&post, 0).expect("there is room");
        assert_eq!(streams.reply(message(id, 60, false)), Taken::Yes);
        assert_eq!(streams.reply(message(id, 60, false)), Taken::Full);
        assert!(streams.is_full(id) && !streams.is_overrun(id));
        assert!(!streams.sent(id, 60));
        assert!(streams.sent(id, 10 + 2 * PREFIX));
        assert!(!streams.is_full(id));
        streams.reply(message(id, 400, false));
        assert!(streams.is_overrun(id));
    }

    #[test]
    fn a_connection_that_comes_late_drains_too() {
        let streams = Streams::new(0, 100);
        let early = streams.join();
        streams.drain();
        let late = streams.join();
        assert!(early.draining.get() && late.draining.get());
        streams.leave(&early);
        assert_eq!(streams.connections(), 1);
    }
}
