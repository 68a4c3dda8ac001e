//! The key index: an ordered map from byte keys to small values, as a copy-on-write B+tree of 4 KiB
//! pages that is wholly resident in anonymous memory. Where values of keys are stored, what a row
//! means and when to write a checkpoint are not known here.
//!
//! [`Tree`] is the writer's private root. [`Root`] is a published one that never changes: any thread
//! may read it while the writer goes on. A page is copied only when a root that somebody still holds
//! may see it; a lone writer changes its pages in place.
//!
//! ```text
//!  Tree ── top ──► branch ──► leaf   ◄── written in place while no root sees them
//!    │ publish        ▲         ▲
//!    ▼                │         │
//!  Root ── top ──► branch'──► leaf'  ◄── shared until the writer changes them, then kept
//! ```
//!
//! The price of copying: the first change of a key after a publication costs one page copy per
//! level (about 150 ns each); further changes in the same batch share the upper copies.
//!
//! Worked example: insert `a`, `b` (live) and `c` (not live); `count_live("a", None)` is 2. Publish;
//! remove `b`: the tree counts 1, the root still 2.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use holdfast_core::store::Fault;

mod chain;
mod check;
mod edit;
mod frame;
mod load;
mod loose;
mod page;
mod reshape;
mod search;
mod write;

pub use write::{PageRef, PageWriter};

use frame::{Frame, Frames, Pinned, View};
use loose::Loose;
use page::{PageMut, SIZE};
use search::Path;

/// The writer's root.
///
/// Invariants, asserted by [`Tree::check`] under the same numbers:
///  1. Keys ascend strictly; in a branch, keys of child `i` are at least separator `i` (for `i > 0`)
///     and below separator `i + 1`.
///  2. All leaves have level 0, and a child is one level below its parent.
///  3. The live count of a page is the sum over its entries, and a branch entry's that of its child;
///     the tree's counts of keys and live entries are those of its leaves.
///  4. No page but a lone root leaf is empty, and a root branch has at least two children.
///  5. Every page is laid out as its module says.
///  6. Every frame in use is reached once, or waits for a root that can still see it.
pub struct Tree {
    frames: Frames,
    top: Top,
    scratch: Loose,
    /// The way that was gone last: who looks at a key often writes it next.
    memo: RefCell<Memo>,
}

/// The way to a key, while nothing has changed since.
#[derive(Default)]
struct Memo {
    key: Vec<u8>,
    path: Option<Path>,
}

/// A published root: immutable, cheap to clone, readable from any thread.
#[derive(Clone)]
pub struct Root(Arc<Pinned>);

/// The value of a key; put together from overflow pages if it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a>(Cow<'a, [u8]>);

impl Value<'_> {
    /// The bytes, owned.
    pub fn into_vec(self) -> Vec<u8> {
        self.0.into_owned()
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What a scan calls with each key and value; it ends early when this breaks.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// What a tree consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeStats {
    /// Entries.
    pub keys: u64,
    /// Live entries.
    pub live: u64,
    /// Pages of this root, overflow pages included.
    pub pages: u64,
    /// Bytes of frames in use; of a [`Tree`] with the older versions that published roots may see.
    pub bytes: u64,
}

/// The root page of one version, and what is known about all of it.
#[derive(Clone, Copy)]
struct Top {
    root: Frame,
    keys: u64,
    live: u64,
    pages: u64,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Tree {
        let mut frames = Frames::new();
        let root = frames.take();
        PageMut(frames.image_mut(root)).format(0, &[]);
        let top = Top { root, keys: 0, live: 0, pages: 1 };
        Tree::of(frames, top)
    }

    fn of(frames: Frames, top: Top) -> Tree {
        Tree { frames, top, scratch: Loose::default(), memo: RefCell::default() }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        let path = search::locate(self.view(), self.top, key);
        let (found, leaf) = (path.found, path.leaf());
        let mut memo = self.memo.borrow_mut();
        memo.key.clear();
        memo.key.extend_from_slice(key);
        memo.path = Some(path);
        found.then(|| Value(search::value_of(self.view(), &self.page(leaf.frame).entry(leaf.at))))
    }

    /// The way to `key`, to change something there.
    fn way(&mut self, key: &[u8]) -> Path {
        let memo = self.memo.get_mut();
        let known = memo.path.take().filter(|_| memo.key == key);
        known.unwrap_or_else(|| search::locate(self.frames.view(), self.top, key))
    }

    /// Stores `value` under `key`, replacing what was there. Only `live` entries are counted.
    pub fn insert(&mut self, key: &[u8], value: &[u8], live: bool) {
        self.replace(key, value, live, &mut |_| {});
    }

    /// The same, and shows `before` the value that was there.
    pub fn replace(&mut self, key: &[u8], value: &[u8], live: bool, before: &mut dyn FnMut(&[u8])) {
        self.put(key, value, live, before);
    }

    /// Removes `key`; whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take_out(key)
    }

    /// Visits the entries with keys in `from .. below` in order, until `visit` breaks.
    pub fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) {
        search::scan(self.view(), self.top, from, below, visit);
    }

    /// The number of live entries with keys in `from .. below`, in O(log n).
    pub fn count_live(&self, from: &[u8], below: Option<&[u8]>) -> u64 {
        search::count_live(self.view(), self.top, from, below)
    }

    /// The present state as a root of its own. Costs the same whatever the size: nothing is copied
    /// before the next change.
    pub fn publish(&mut self) -> Root {
        self.top.pages = self.frames.current() as u64;
        Root(self.frames.publish(self.top))
    }

    /// Reads back what [`Root::write_pages`] emitted: `next_page` fills its buffer with page 0, 1, …
    /// and answers false when there is none. `place` is named in faults.
    pub fn load(
        next_page: &mut dyn FnMut(&mut [u8; SIZE]) -> Result<bool, Fault>,
        root: PageRef,
        place: &str,
    ) -> Result<Tree, Fault> {
        load::load(next_page, root, place)
    }

    /// What the tree consists of.
    pub fn stats(&self) -> TreeStats {
        TreeStats {
            keys: self.top.keys,
            live: self.top.live,
            pages: self.frames.current() as u64,
            bytes: (self.frames.in_use() * SIZE) as u64,
        }
    }

    /// Bytes of the pages that a root published now would consist of.
    pub fn image_bytes(&self) -> u64 {
        (self.frames.current() * SIZE) as u64
    }

    /// Asserts the invariants; the error names the first that does not hold, and where.
    pub fn check(&self) -> Result<(), String> {
        check::tree(self)
    }

    fn view(&self) -> View<'_> {
        self.frames.view()
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Root {
    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        search::get(self.0.view(), self.0.top(), key)
    }

    /// Visits the values of some keys, in their order: faster than one after the other.
    pub fn get_each<K: Deref<Target = [u8]>>(
        &self,
        keys: &[K],
        visit: &mut dyn FnMut(Option<Value<'_>>),
    ) {
        search::get_each(self.0.view(), self.0.top(), keys, visit);
    }

    /// Visits the entries with keys in `from .. below` in order, until `visit` breaks.
    pub fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) {
        search::scan(self.0.view(), self.0.top(), from, below, visit);
    }

    /// The number of live entries with keys in `from .. below`, in O(log n).
    pub fn count_live(&self, from: &[u8], below: Option<&[u8]>) -> u64 {
        search::count_live(self.0.view(), self.0.top(), from, below)
    }

    /// What this root consists of.
    pub fn stats(&self) -> TreeStats {
        let top = self.0.top();
        let bytes = top.pages * SIZE as u64;
        TreeStats { keys: top.keys, live: top.live, pages: top.pages, bytes }
    }
}
