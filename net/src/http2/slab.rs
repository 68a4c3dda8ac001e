//! The open streams of a connection, by slot and by HTTP/2's id, and what is remembered of those that
//! are closed.
//!
//! A slot is used again by the streams that follow each other, with the buffers it has, so that a call
//! allocates nothing here. Leaves out what a stream does.
//!
//! Laws: (1) an id is in the index exactly while its stream is open; (2) of closed streams the last
//! [`RECENT`] are known by id, of the others only that they are closed (RFC 9113, 5.1.1); (3) walking
//! the open streams costs what they are, not what they once were, and when none is open a slab that
//! was large gives its memory back.
//!
//! Worked example: streams 1 and 3 open in slots 0 and 1; 1 closes; 5 opens in slot 0.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::head::{Foreign, Head};
use super::inbox::Inbox;
use super::piece::Piece;
use crate::call::{GrpcStatus, StreamId};

/// Closed streams that are remembered.
const RECENT: usize = 64;

/// Slots up to this many are kept when none is used.
const SLOTS_KEPT: usize = 256;

/// What an open stream costs beside what it holds: its slot, and its places in the index and the lists.
pub(super) const STREAM_BYTES: usize = 400;

/// One call.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// HTTP/2's id; 0 when the slot is free.
    pub(super) id: u32,
    /// Its name among the services, once they know it.
    pub(super) name: Option<StreamId>,
    /// Whether the services gave their last reply.
    pub(super) answered: bool,
    /// Whether the client may send more than one message.
    pub(super) client_stream: bool,
    /// What is called, until the services know it.
    pub(super) head: Option<Head>,
    /// How the client compresses.
    pub(super) encoding: Option<Box<str>>,
    /// The answer to a request that is not gRPC's, when the request has ended.
    pub(super) foreign: Option<Box<Foreign>>,

    /// The client has ended its side.
    pub(super) recv_ended: bool,
    /// What the client may still send before it gets more window.
    pub(super) recv_window: i64,
    /// What was read since the window was last enlarged.
    pub(super) recv_unreturned: u32,
    /// Bytes that the client said it would send and has not.
    pub(super) recv_promised: Option<u64>,
    /// The bytes of a message that is not whole.
    pub(super) inbox: Inbox,
    /// A unary call's message, until the client's end of stream confirms that it is the only one.
    pub(super) message: Option<bytes::Bytes>,
    /// Bytes that nobody looks at while the stream is full.
    pub(super) held: Vec<u8>,
    /// Bytes of its message, counted in the connection's sum of unfinished requests until it is told.
    pub(super) counted: usize,
    /// Bytes of its head and its slot, counted in the same sum until its end.
    pub(super) kept: usize,

    /// What the client lets us send.
    pub(super) send_window: i64,
    /// The answer's head is sent.
    pub(super) head_sent: bool,
    /// Messages that wait for a window or for the connection's buffer.
    pub(super) queue: VecDeque<Piece>,
    /// Their bytes.
    pub(super) queued: usize,
    /// Too many of them: the services wait for `Writable`.
    pub(super) full: bool,
    /// What follows them.
    pub(super) ending: Option<GrpcStatus>,
    /// Whether the slot is in the list of those that can send.
    pub(super) listed: bool,
    /// The slot's place in the slab's list of open ones.
    place: u32,
}

impl Stream {
    /// Whether something waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Empties the slot. Large buffers are given back, small ones are kept.
    fn clear(&mut self) {
        self.id = 0;
        self.name = None;
        self.answered = false;
        self.head = None;
        self.encoding = None;
        self.foreign = None;
        self.recv_ended = false;
        self.recv_unreturned = 0;
        self.recv_promised = None;
        self.inbox = Inbox::default();
        self.message = None;
        self.held = Vec::new();
        self.counted = 0;
        self.kept = 0;
        self.head_sent = false;
        self.queue.clear();
        if self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        self.queued = 0;
        self.full = false;
        self.ending = None;
        // `listed` stays: the list still has the slot.
    }
}

/// Spreads ids that a client counts up by two.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    #[inline]
    fn write_u32(&mut self, id: u32) {
        let product = u128::from(self.0 ^ u64::from(id)) * 0x9e37_79b9_7f4a_7c15_f39c_c060;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// How a stream that is not open came to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The client may still be sending: frames that come are ignored.
    ByUs,
    /// The client knows that it is closed.
    Known,
    /// So long ago that nobody knows.
    Forgotten,
}

/// A stream that was closed lately.
struct Recent {
    id: u32,
    by_us: bool,
    /// What came late for it was counted.
    charged: bool,
}

/// All streams of a connection.
#[derive(Default)]
pub(super) struct Slab {
    streams: Vec<Stream>,
    free: Vec<u32>,
    /// The slots in use; the last takes the place of one that is closed.
    open: Vec<u32>,
    index: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
    recent: VecDeque<Recent>,
}

impl Slab {
    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The slots of all open streams, in an order that what was opened and closed decides.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.open.clone()
    }

    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.index.get(&id).copied()
    }

    /// A slot's stream, if it is open.
    #[inline]
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Stream> {
        self.streams.get_mut(slot as usize).filter(|stream| stream.id != 0)
    }

    /// The list of those that can send has the slot no more; true if its stream is open.
    pub(super) fn unlist(&mut self, slot: u32) -> bool {
        let Some(stream) = self.streams.get_mut(slot as usize) else { return false };
        stream.listed = false;
        stream.id != 0
    }

    /// Opens a stream; its windows are for the caller to set.
    pub(super) fn insert(&mut self, id: u32) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.streams.push(Stream::default());
            self.streams.len() as u32 - 1
        });
        let stream = &mut self.streams[slot as usize];
        stream.id = id;
        stream.place = self.open.len() as u32;
        self.open.push(slot);
        self.index.insert(id, slot);
        slot
    }

    /// Closes a slot's stream; `by_us` when the client may not know yet.
    pub(super) fn remove(&mut self, slot: u32, by_us: bool) {
        let Some(stream) = self.get(slot) else { return };
        let (id, place) = (stream.id, stream.place);
        stream.clear();
        self.open.swap_remove(place as usize);
        if let Some(moved) = self.open.get(place as usize) {
            self.streams[*moved as usize].place = place;
        }
        self.index.remove(&id);
        self.free.push(slot);
        self.remember(id, by_us);
    }

    /// Gives back the memory of a slab that was large and is empty; true if it did. Whoever keeps
    /// slots in a list must forget them then.
    pub(super) fn shrink(&mut self) -> bool {
        let large = self.open.is_empty() && self.streams.len() > SLOTS_KEPT;
        if large {
            *self = Slab { recent: std::mem::take(&mut self.recent), ..Slab::default() };
        }
        large
    }

    /// A stream was closed, perhaps without ever having been open.
    pub(super) fn remember(&mut self, id: u32, by_us: bool) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { id, by_us, charged: false });
    }

    /// What is known of a stream that is not open any more.
    pub(super) fn closed(&self, id: u32) -> Closed {
        match self.recent.iter().rev().find(|recent| recent.id == id).map(|recent| recent.by_us) {
            Some(true) => Closed::ByUs,
            Some(false) => Closed::Known,
            None => Closed::Forgotten,
        }
    }

    /// Something came late for a stream that is not open; true if it is the first.
    pub(super) fn charge(&mut self, id: u32) -> bool {
        let recent = self.recent.iter_mut().rev().find(|recent| recent.id == id);
        recent.is_none_or(|recent| !std::mem::replace(&mut recent.charged, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_an_id_is_not_found_twice() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert(1), slab.insert(3)), (0, 1));
        slab.get(0).expect("it is open").queued = 7;
        slab.remove(0, false);
        slab.remove(0, false);
        assert_eq!((slab.find(1), slab.open()), (None, 1));
        assert_eq!(slab.insert(5), 0);
        assert_eq!(slab.get(0).expect("it is open").queued, 0);
        assert_eq!((slab.find(5), slab.find(3), slab.open()), (Some(0), Some(1), 2));
    }

    #[test]
    fn what_was_open_once_is_not_walked_nor_kept() {
        let mut slab = Slab::default();
        let ids = (0..1000).map(|number| 2 * number + 1);
        let slots: Vec<u32> = ids.map(|id| slab.insert(id)).collect();
        // In an order that moves places about; 500 and 7 stay.
        let (left, right) = slots.split_at(500);
        for slot in left.iter().rev().chain(&right[1..]).filter(|slot| **slot != 7) {
            slab.remove(*slot, true);
            assert!(!slab.shrink());
        }
        assert_eq!(slab.slots(), [500, 7]);
        slab.remove(7, true);
        slab.remove(500, true);
        assert!(slab.shrink() && !slab.shrink());
        let kept = slab.streams.capacity() + slab.free.capacity() + slab.index.capacity();
        assert_eq!((kept, slab.open(), slab.closed(1001)), (0, 0, Closed::ByUs));
        assert_eq!((slab.insert(2001), slab.find(2001)), (0, Some(0)));
    }

    #[test]
    fn a_stream_costs_about_what_is_counted_for_it() {
        let size = size_of::<Stream>();
        assert!((STREAM_BYTES * 3 / 4..=STREAM_BYTES).contains(&size), "{size}");
    }

    #[test]
    fn recent_ends_are_remembered() {
        let mut slab = Slab::default();
        for id in 0..RECENT as u32 + 1 {
            let slot = slab.insert(2 * id + 1);
            slab.remove(slot, id % 2 == 0);
        }
        assert_eq!(slab.closed(1), Closed::Forgotten);
        assert_eq!((slab.closed(3), slab.closed(5)), (Closed::Known, Closed::ByUs));
    }
}
