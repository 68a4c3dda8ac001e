//! Entries in and out of the writer's root. Pages that a published root may see are copied on the way
//! down; the others change in place. What happens to pages that become too full or too empty is in
//! `reshape`.
//!
//! Laws:
//!  1. Live counts along the path are settled before the shape changes, so that every page written
//!     anew finds right counts below and leaves the counts above as they are.
//!  2. An entry's chains go when the entry goes; an overwritten one keeps its key's chain.
//!
//! Worked example: replacing a live value by one of the same length copies the path if a root was
//! published since, then writes the value bytes; no count changes.

use super::frame::Frame;
use super::loose::Loose;
use super::page::{
    Item, KEY_INLINE_MAX, KEY_LONG, LIVE, Page, PageMut, TAIL, Tail, VALUE_INLINE_MAX, VALUE_LONG,
    inline_key,
};
use super::search::{self, Path};
use super::{Tree, chain};

/// What an insertion stores: flags, and the value as it is in the page.
struct Stored<'a> {
    flags: u8,
    value: &'a [u8],
    tail: [u8; TAIL],
}

impl Stored<'_> {
    fn bytes(&self) -> &[u8] {
        if self.flags & VALUE_LONG == 0 { self.value } else { &self.tail }
    }
}

impl Tree {
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        live: bool,
        before: &mut dyn FnMut(&[u8]),
    ) {
        let mut path = self.way(key);
        self.own(&mut path);
        if path.found {
            let leaf = path.leaf();
            before(&search::value_of(self.frames.view(), &self.page(leaf.frame).entry(leaf.at)));
        }
        let mut stored = Stored { flags: if live { LIVE } else { 0 }, value, tail: [0; TAIL] };
        if value.len() > VALUE_INLINE_MAX {
            stored.flags |= VALUE_LONG;
            stored.tail = chain::store(&mut self.frames, value).encode();
        }
        if path.found {
            self.overwrite(&mut path, key, &stored);
        } else {
            self.add(&mut path, key, &stored);
        }
    }

    pub(super) fn take_out(&mut self, key: &[u8]) -> bool {
        let mut path = self.way(key);
        if !path.found {
            return false;
        }
        self.own(&mut path);
        let leaf = path.leaf();
        let entry = self.page(leaf.frame).entry(leaf.at);
        let live = entry.flags & LIVE != 0;
        let tails: Vec<Tail> = search::tails(&entry).collect();
        for tail in tails {
            chain::retire(&mut self.frames, tail);
        }
        self.settle(&path, -i64::from(live));
        self.page_mut(leaf.frame).remove(leaf.at);
        self.top.keys -= 1;
        self.shrink(&mut path);
        true
    }

    pub(super) fn page(&self, frame: Frame) -> Page<'_> {
        Page(self.frames.view().image(frame))
    }

    pub(super) fn page_mut(&mut self, frame: Frame) -> PageMut<'_> {
        PageMut(self.frames.image_mut(frame))
    }

    /// Makes every page of the path writable.
    fn own(&mut self, path: &mut Path) {
        for depth in 0..=path.depth() {
            let frame = path[depth].frame;
            let owned = self.frames.own(frame);
            if owned == frame {
                continue;
            }
            path[depth].frame = owned;
            match depth.checked_sub(1) {
                None => self.top.root = owned,
                Some(above) => {
                    let parent = path[above];
                    self.page_mut(parent.frame).set_child(parent.at, owned);
                }
            }
        }
    }

    /// Adds to the live counts of the branches on the path (law 1).
    fn settle(&mut self, path: &Path, delta: i64) {
        self.top.live = self.top.live.wrapping_add_signed(delta);
        if delta == 0 {
            return;
        }
        for depth in 0..path.depth() {
            let step = path[depth];
            self.page_mut(step.frame).bump_child(step.at, delta);
        }
    }

    fn overwrite(&mut self, path: &mut Path, key: &[u8], stored: &Stored<'_>) {
        let leaf = path.leaf();
        let entry = self.page(leaf.frame).entry(leaf.at);
        let was_live = entry.flags & LIVE != 0;
        let same_size = entry.value.len() == stored.bytes().len();
        let (old_value, key_tail) = (entry.value_tail(), entry.key_tail());
        self.retire_chain(old_value);
        self.settle(path, i64::from(stored.flags & LIVE != 0) - i64::from(was_live));
        if same_size {
            self.page_mut(leaf.frame).overwrite(leaf.at, stored.flags, stored.bytes());
        } else {
            self.page_mut(leaf.frame).remove(leaf.at);
            self.insert_item(path, key, stored, key_tail);
        }
    }

    fn add(&mut self, path: &mut Path, key: &[u8], stored: &Stored<'_>) {
        let tail = (key.len() > KEY_INLINE_MAX)
            .then(|| chain::store(&mut self.frames, &key[inline_key(key).len()..]));
        self.settle(path, i64::from(stored.flags & LIVE != 0));
        self.top.keys += 1;
        self.insert_item(path, key, stored, tail);
    }

    fn insert_item(&mut self, path: &mut Path, key: &[u8], stored: &Stored, tail: Option<Tail>) {
        let leaf = path.leaf();
        let long = if tail.is_some() { KEY_LONG } else { 0 };
        let encoded = tail.map(Tail::encode);
        let item = Item {
            key: inline_key(key),
            flags: stored.flags | long,
            value: stored.bytes(),
            tail: encoded.as_ref().map_or(&[], |tail| &tail[..]),
        };
        if !self.page_mut(leaf.frame).insert(leaf.at, &item) {
            let mut pending = Loose::default();
            pending.push(&item);
            let depth = path.depth();
            self.make_room(path, depth, &pending);
        }
    }
}
