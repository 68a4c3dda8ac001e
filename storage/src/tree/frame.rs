//! The memory of the tree: 4 KiB frames in anonymous maps, the epochs that guard them, and the pins
//! of published roots. It knows nothing of keys or of what a page holds.
//!
//! Time is counted in epochs: the writer works in epoch `e`, a publication pins `e` and moves the
//! writer to `e + 1`. A frame is *born* in the epoch in which it is handed out. Each pin keeps the
//! list of frames that the writer gave up while that pin was the newest; when the pin goes, a frame
//! of its list passes to the next older pin if that one can still see it, and is free otherwise.
//!
//! Laws:
//!  1. A frame is written only while `birth > sealed`, where `sealed` is the epoch of the newest
//!     pin: no pinned root was published since the frame was handed out.
//!  2. A retired frame is handed out again only when no pin lies in `birth .. death`.
//!  3. A frame that is retired is not reachable from any root published later. The tree keeps this
//!     one (its `check` counts every frame); the other laws are enforced here.
//!  4. Maps are never moved and never unmapped while a pin or the writer exists.
//!
//! From 1 to 4 follows what readers on other threads rely on: while a pin of epoch `p` exists, no
//! byte of a frame reachable from its root is written. Such a frame was handed out at or before `p`,
//! so `birth <= p <= sealed` forbids writes (1), and it is not handed out anew (2, 3).
//!
//! Worked example: frame 7 is born in epoch 4; `publish` pins 4. A change of page 7 in epoch 5 takes
//! frame 9, copies, and retires 7 onto the list of pin 4. When the reader drops its root, 7 is free.
#![expect(unsafe_code, reason = "owns the maps and hands out references into them; proofs below")]

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_core::mutant;
use memmap2::{Advice, MmapMut, MmapRaw};

use super::Top;
use super::page::{Image, SIZE};

/// The number of a frame. It comes from `Frames` or out of a page that is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frame(pub(super) u32);

/// The maps, by address. Readers keep the list that was current when their root was published.
struct Chunks {
    bases: Vec<*mut u8>,
    maps: Vec<Arc<MmapRaw>>,
}

// SAFETY: the pointers are the bases of `maps`, which live as long as this value and are never
// moved or unmapped before (law 4). They are turned into references only by `Chunks::image`, under
// its contract; holding or sharing the addresses themselves touches no memory.
unsafe impl Send for Chunks {}
// SAFETY: as above; nothing here changes through a shared reference.
unsafe impl Sync for Chunks {}

impl Chunks {
    fn address(&self, frame: Frame) -> *mut u8 {
        let base = self.bases[frame.0 as usize / CHUNK_FRAMES];
        // SAFETY: every map is CHUNK_FRAMES * SIZE bytes long, so the offset stays inside it.
        unsafe { base.add(frame.0 as usize % CHUNK_FRAMES * SIZE) }
    }

    /// # Safety
    /// For as long as the result lives, no byte of the frame may be written.
    unsafe fn image(&self, frame: Frame) -> &Image {
        // SAFETY: the address is inside a live map (law 4: `self` holds it), anonymous memory is
        // initialised, `Image` is a byte array of alignment 1 and SIZE long. The caller promises
        // that nobody writes.
        unsafe { &*self.address(frame).cast::<Image>() }
    }
}

/// What a published root keeps alive.
pub(super) struct Pinned {
    epoch: u64,
    chunks: Arc<Chunks>,
    top: Top,
}

impl Pinned {
    pub(super) fn top(&self) -> Top {
        self.top
    }

    pub(super) fn view(&self) -> View<'_> {
        View { chunks: &self.chunks }
    }
}

/// Reads the pages of one root: the writer's, for as long as it is borrowed, or a pinned one.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    chunks: &'a Chunks,
}

impl<'a> View<'a> {
    /// The bytes of a frame that is reachable from the root this view belongs to.
    pub(super) fn image(self, frame: Frame) -> &'a Image {
        // SAFETY: a view borrows either `Frames` (shared, so `image_mut` cannot be called until it
        // ends) or a `Pinned`, whose reachable frames are not written while it exists (module head).
        // Frame numbers come from the root's top or from a page read through this view, hence are
        // reachable; `load` checks them before any page is used.
        unsafe { self.chunks.image(frame) }
    }
}

struct Pin {
    root: Arc<Pinned>,
    /// Retired while this pin was the newest, or handed down by a newer one.
    dead: Vec<Frame>,
}

/// The writer's side: hands out frames, tells which may be written, takes them back.
pub(super) struct Frames {
    chunks: Arc<Chunks>,
    births: Vec<u64>,
    free: Vec<Frame>,
    epoch: u64,
    sealed: u64,
    pins: VecDeque<Pin>,
    dead: usize,
    touched: usize,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            chunks: Arc::new(Chunks { bases: Vec::new(), maps: Vec::new() }),
            births: Vec::new(),
            free: Vec::new(),
            epoch: 1,
            sealed: 0,
            pins: VecDeque::new(),
            dead: 0,
            touched: 0,
        }
    }

    /// Frames of the writer's own root.
    pub(super) fn current(&self) -> usize {
        self.in_use() - self.dead
    }

    /// Frames that are not free: the writer's, and older versions that pinned roots may see.
    pub(super) fn in_use(&self) -> usize {
        self.births.len() - self.free.len()
    }

    /// Frames that were ever handed out: all numbers are below.
    pub(super) fn ever(&self) -> usize {
        self.births.len()
    }

    pub(super) fn view(&self) -> View<'_> {
        View { chunks: &self.chunks }
    }

    /// A frame to fill. It holds whatever was there before.
    pub(super) fn take(&mut self) -> Frame {
        if let Some(frame) = self.free.pop() {
            self.births[frame.0 as usize] = self.epoch;
            return frame;
        }
        if self.births.len() == self.touched {
            self.touch_ahead();
        }
        let number =
            u32::try_from(self.births.len()).expect("16 TiB of frames do not fit in memory");
        self.births.push(self.epoch);
        Frame(number)
    }

    /// The frame itself if it may be written, else a copy that may; the original is then retired.
    pub(super) fn own(&mut self, frame: Frame) -> Frame {
        if self.writable(frame) {
            return frame;
        }
        let copy = self.take();
        let from: *const u8 = self.chunks.address(frame);
        let to = self.chunks.address(copy);
        // SAFETY: both are whole frames inside live maps, and different ones: `frame` is in use and
        // `take` returns only frames that are not. No reference into `copy` exists: it was free, so
        // no root reaches it (laws 2, 3), and `&mut self` excludes views of the writer.
        unsafe { std::ptr::copy_nonoverlapping(from, to, SIZE) };
        self.retire(frame);
        copy
    }

    /// Like [`own`](Frames::own), for a page that will be written anew: nothing is copied.
    pub(super) fn own_blank(&mut self, frame: Frame) -> Frame {
        if self.writable(frame) {
            return frame;
        }
        let fresh = self.take();
        self.retire(frame);
        fresh
    }

    /// The bytes of a frame that [`take`](Frames::take) or [`own`](Frames::own) returned since the
    /// last publication.
    pub(super) fn image_mut(&mut self, frame: Frame) -> &mut Image {
        let birth = self.births[frame.0 as usize];
        assert!(birth > self.sealed, "frame {} is visible to a published root", frame.0);
        // SAFETY: the address is inside a live map and the bytes are initialised, as in `image`. No
        // other reference to this frame exists: views of the writer borrow `self`, which is borrowed
        // exclusively here; and no pinned root reaches it, since it was born after the newest pin
        // (law 1, just asserted).
        unsafe { &mut *self.chunks.address(frame).cast::<Image>() }
    }

    /// Takes back a frame that the writer's root does not reach any more.
    pub(super) fn retire(&mut self, frame: Frame) {
        let given_up = mutant::on(35) && frame.0.is_multiple_of(3);
        if self.births[frame.0 as usize] > self.sealed || given_up {
            self.free.push(frame);
            return;
        }
        let newest = self.pins.back_mut().expect("sealed is the epoch of the newest pin");
        newest.dead.push(frame);
        self.dead += 1;
    }

    /// Pins the writer's root as it is now.
    pub(super) fn publish(&mut self, top: Top) -> Arc<Pinned> {
        self.sweep();
        let root = Arc::new(Pinned { epoch: self.epoch, chunks: self.chunks.clone(), top });
        self.pins.push_back(Pin { root: root.clone(), dead: Vec::new() });
        self.sealed = self.epoch;
        self.epoch += 1;
        root
    }

    /// Drops the pins that nobody but this list holds. Costs one look per pin, and a step for each
    /// frame that a dropped pin had kept.
    fn sweep(&mut self) {
        for index in (0..self.pins.len()).rev() {
            self.release(index);
        }
    }

    fn writable(&mut self, frame: Frame) -> bool {
        let birth = self.births[frame.0 as usize];
        while birth <= self.sealed {
            // Some pin exists, since `sealed` is the newest one's epoch and births start at 1.
            if !self.release(self.pins.len() - 1) {
                return false;
            }
        }
        true
    }

    /// Drops a pin if nobody else holds it. What it had kept passes to the pin before it, if that one
    /// can see it, and is free otherwise.
    fn release(&mut self, index: usize) -> bool {
        // `get_mut` succeeds only when ours is the last reference, and synchronises with the drop of
        // the others: what those readers did happened before what we do next. No new reference can
        // appear, since they are cloned from existing ones.
        if Arc::get_mut(&mut self.pins[index].root).is_none() {
            return false;
        }
        let pin = self.pins.remove(index).expect("indexed just now");
        for frame in pin.dead {
            let birth = self.births[frame.0 as usize];
            match index.checked_sub(1).map(|older| &mut self.pins[older]) {
                Some(older) if older.root.epoch >= birth => older.dead.push(frame),
                _ => {
                    self.dead -= 1;
                    self.free.push(frame);
                }
            }
        }
        self.sealed = self.pins.back().map_or(0, |pin| pin.root.epoch);
        true
    }

    /// Makes the next frames resident, a bounded number of them at once, mapping when needed.
    fn touch_ahead(&mut self) {
        let chunk = self.touched / CHUNK_FRAMES;
        if chunk == self.chunks.maps.len() {
            self.grow();
        }
        let offset = self.touched % CHUNK_FRAMES * SIZE;
        // Where the kernel does not know this advice (before 5.14) the first write touches instead.
        let _ = self.chunks.maps[chunk].advise_range(
            Advice::PopulateWrite,
            offset,
            TOUCH_FRAMES * SIZE,
        );
        self.touched += TOUCH_FRAMES;
    }

    /// Adds a map. Published roots keep the shorter list, which has all they reach.
    fn grow(&mut self) {
        let map = MmapMut::map_anon(CHUNK_FRAMES * SIZE).expect("anonymous memory can be mapped");
        // Small trees stay on small pages. Without huge pages everything works, only slower.
        let from = if self.chunks.maps.is_empty() { HUGE_BYTES } else { 0 };
        let _ = map.advise_range(Advice::HugePage, from, CHUNK_FRAMES * SIZE - from);
        let map = Arc::new(MmapRaw::from(map));
        let mut bases = self.chunks.bases.clone();
        let mut maps = self.chunks.maps.clone();
        bases.push(map.as_mut_ptr());
        maps.push(map);
        self.chunks = Arc::new(Chunks { bases, maps });
    }
}

/// Frames in one map: 16 MiB of addresses, of which only what is touched becomes memory.
const CHUNK_FRAMES: usize = 4096;

/// Frames made resident at once: 64 KiB, or one huge page where the kernel has them.
const TOUCH_FRAMES: usize = 16;

/// The part of the first map that is kept on small pages.
const HUGE_BYTES: usize = 2 << 20;
