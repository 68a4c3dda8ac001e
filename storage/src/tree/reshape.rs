//! The shape of the writer's root: pages that lack room, and pages that became small.
//!
//! Laws:
//!  1. A page that lacks room first shares with a neighbour, then splits: two full pages become
//!     three. An ascending load fills pages completely instead.
//!  2. A page under a quarter full joins a neighbour when both fit in one page. No page but a lone
//!     root is empty, and a root with one child gives way to it.
//!  3. Nothing here changes an entry or a live count of a whole subtree, so the counts above the
//!     branch whose children are replaced stay true.
//!  4. A chain belongs to one entry. Separators are copied with their chains, never shared.
//!
//! Worked example: inserting into a full leaf between two roomy ones lays the leaf, its emptier
//! neighbour and the new entry out over two pages and replaces one separator in the parent.

use std::ops::Range;

use super::frame::Frame;
use super::loose::{Loose, common};
use super::page::{CHILD, Child, Item, KEY_LONG, SIZE, Tail, inline_key};
use super::search::{Path, Step};
use super::{Tree, chain};

/// A new child for a branch, with the separator to its left.
struct Sprout {
    separator: Vec<u8>,
    child: Child,
}

/// Neighbours whose entries are laid out anew.
struct Group<'a> {
    /// Which children of their branch.
    kids: Range<usize>,
    loose: &'a Loose,
    ends: &'a [usize],
}

impl Tree {
    /// Brings `pending` into the page at `depth`, at the slot of the path, where it does not fit:
    /// writes the page anew, or it and a neighbour, over as many pages as are needed (law 1).
    pub(super) fn make_room(&mut self, path: &mut Path, depth: usize, pending: &Loose) {
        let step = path[depth];
        let mut loose = std::mem::take(&mut self.scratch);
        loose.clear();
        self.gather(&mut loose, step.frame, Some((step.at, pending)));
        if loose.fill(CAP_ALONE).len() == 1 {
            let level = self.page(step.frame).level();
            loose.build(0..loose.len(), level, self.frames.image_mut(step.frame));
            self.scratch = loose;
            return;
        }
        let depth = self.ensure_parent(path, depth);
        let parent = path[depth - 1];
        let mut kids = parent.at..parent.at + 1;
        let ends = if self.is_rightmost(path, depth) && step.at == self.page(step.frame).count() {
            let mut ends = loose.fill(SIZE);
            let before = loose.len() - pending.len();
            if ends.len() == 1 || pending.len() == 1 {
                ends = vec![before, loose.len()];
            }
            ends
        } else {
            if let Some(neighbour) = self.neighbour(parent.frame, parent.at) {
                kids = neighbour.min(parent.at)..neighbour.max(parent.at) + 1;
                loose.clear();
                self.gather_kids(&mut loose, parent, kids.start, Some((step.at, pending)));
            }
            loose.layout(CAP_TOGETHER)
        };
        let group = Group { kids, loose: &loose, ends: &ends };
        self.lay_out(path, depth - 1, group);
        self.scratch = loose;
    }

    /// Appends the entries of the children `first` and `first + 1` of a branch, with `extra` before a
    /// slot of the one that the path takes.
    fn gather_kids(
        &self,
        loose: &mut Loose,
        parent: Step,
        first: usize,
        extra: Option<(usize, &Loose)>,
    ) {
        let branch = self.page(parent.frame);
        let extra_in = |kid: usize| extra.filter(|_| kid == parent.at);
        self.gather(loose, branch.child(first).frame, extra_in(first));
        let middle = loose.len();
        self.gather(loose, branch.child(first + 1).frame, extra_in(first + 1));
        if branch.level() > 1 {
            // The first separator of a branch page bounds nothing, and after a removal it may be
            // above keys below it. Inside a page it must bound: the parent's separator does.
            let mut key = branch.prefix().to_vec();
            let entry = branch.entry(first + 1);
            entry.push_suffix(&mut key);
            loose.set_key(middle, &key, entry.flags & KEY_LONG, entry.tail);
        }
    }

    /// Appends the entries of a page, with `extra` before the given slot.
    fn gather(&self, loose: &mut Loose, frame: Frame, extra: Option<(usize, &Loose)>) {
        let page = self.page(frame);
        let split = extra.map_or(page.count(), |(at, _)| at);
        loose.push_page(page, 0..split);
        if let Some((_, extra)) = extra {
            for index in 0..extra.len() {
                loose.push(&extra.item(index));
            }
        }
        loose.push_page(page, split..page.count());
    }

    /// Puts a branch above the root if `depth` is the root's; the depth of the same page then.
    fn ensure_parent(&mut self, path: &mut Path, depth: usize) -> usize {
        if depth > 0 {
            return depth;
        }
        let old = self.page(self.top.root);
        let (level, live) = (old.level(), old.live());
        let child = Child { frame: self.top.root, live }.encode();
        let root = self.frames.take();
        let mut page = self.page_mut(root);
        page.format(level + 1, &[]);
        let fits = page.insert(0, &Item { key: &[], flags: 0, value: &child, tail: &[] });
        assert!(fits, "an empty page holds one child");
        self.top.root = root;
        path.raise(root);
        1
    }

    fn is_rightmost(&self, path: &Path, depth: usize) -> bool {
        (0..depth).all(|above| path[above].at + 1 == self.page(path[above].frame).count())
    }

    /// The emptier of the children beside `at`.
    fn neighbour(&self, parent: Frame, at: usize) -> Option<usize> {
        let page = self.page(parent);
        let used = |index: &usize| self.page(page.child(*index).frame).used();
        let left = at.checked_sub(1);
        let right = Some(at + 1).filter(|right| *right < page.count());
        left.into_iter().chain(right).min_by_key(used)
    }

    /// Writes a group over its children of the branch at `depth`, giving frames back or taking more,
    /// and replaces their entries in that branch.
    fn lay_out(&mut self, path: &mut Path, depth: usize, group: Group<'_>) {
        let Group { kids, loose, ends } = group;
        self.drop_separators(path[depth].frame, kids.clone());
        let branch = self.page(path[depth].frame);
        let level = branch.level() - 1;
        let mut frames: Vec<Frame> = kids.clone().map(|index| branch.child(index).frame).collect();
        for frame in frames.drain(ends.len().min(frames.len())..).collect::<Vec<_>>() {
            self.frames.retire(frame);
        }
        let mut sprouts = Vec::with_capacity(ends.len());
        let mut start = 0;
        for (page, &end) in ends.iter().enumerate() {
            let frame = match frames.get(page) {
                Some(frame) => self.frames.own_blank(*frame),
                None => self.frames.take(),
            };
            loose.build(start..end, level, self.frames.image_mut(frame));
            let separator =
                if page == 0 { Vec::new() } else { self.separator(loose, start, level) };
            let live = self.page(frame).live();
            sprouts.push(Sprout { separator, child: Child { frame, live } });
            start = end;
        }
        self.replace_children(path, depth, kids, sprouts);
    }

    /// Takes back the chains of the separators that a new layout of `kids` does not use: the parent's
    /// between leaves; between branches the child's own first one, which the parent's replaces.
    fn drop_separators(&mut self, parent: Frame, kids: Range<usize>) {
        for index in kids.start + 1..kids.end {
            let branch = self.page(parent);
            let tail = if branch.level() == 1 {
                branch.entry(index).key_tail()
            } else {
                self.page(branch.child(index).frame).entry(0).key_tail()
            };
            self.retire_chain(tail);
        }
    }

    pub(super) fn retire_chain(&mut self, tail: Option<Tail>) {
        if let Some(tail) = tail {
            chain::retire(&mut self.frames, tail);
        }
    }

    /// The separator before item `at`: for leaves the shortest key that is above the item before and
    /// not above this one; for branches the separator that the item has already.
    fn separator(&self, loose: &Loose, at: usize, level: u8) -> Vec<u8> {
        let (before, after) = (loose.item(at - 1), loose.item(at));
        let shared = common(before.key, after.key);
        let before_ends = shared == before.key.len() && before.flags & KEY_LONG != 0;
        if level == 0 && shared < after.key.len() && !before_ends {
            return after.key[..=shared].to_vec();
        }
        let after = self.whole_key(&after);
        if level > 0 {
            return after;
        }
        let shared = common(&self.whole_key(&before), &after);
        after[..=shared].to_vec()
    }

    fn whole_key(&self, item: &Item<'_>) -> Vec<u8> {
        let mut key = item.key.to_vec();
        if item.flags & KEY_LONG != 0 {
            chain::append(self.frames.view(), Tail::parse(item.tail), &mut key);
        }
        key
    }

    /// Puts `sprouts` in the place of the children `kids`. The first keeps the separator of the first.
    fn replace_children(
        &mut self,
        path: &mut Path,
        depth: usize,
        kids: Range<usize>,
        sprouts: Vec<Sprout>,
    ) {
        let frame = path[depth].frame;
        for index in (kids.start + 1..kids.end).rev() {
            self.page_mut(frame).remove(index);
        }
        self.page_mut(frame).overwrite(kids.start, 0, &sprouts[0].child.encode());
        let mut pending = Loose::default();
        for sprout in &sprouts[1..] {
            self.push_child(&mut pending, sprout);
        }
        for index in 0..pending.len() {
            let at = kids.start + 1 + index;
            if !self.page_mut(frame).insert(at, &pending.item(index)) {
                let rest = pending.from(index);
                path[depth].at = at;
                self.make_room(path, depth, &rest);
                return;
            }
        }
    }

    fn push_child(&mut self, into: &mut Loose, sprout: &Sprout) {
        let key = &sprout.separator[..];
        let inline = inline_key(key);
        let tail = (inline.len() < key.len())
            .then(|| chain::store(&mut self.frames, &key[inline.len()..]).encode());
        let value: [u8; CHILD] = sprout.child.encode();
        into.push(&Item {
            key: inline,
            flags: if tail.is_some() { KEY_LONG } else { 0 },
            value: &value,
            tail: tail.as_ref().map_or(&[], |tail| &tail[..]),
        });
    }

    /// Joins pages that have become small, from the leaf up (law 2).
    pub(super) fn shrink(&mut self, path: &mut Path) {
        for depth in (1..=path.depth()).rev() {
            let frame = path[depth].frame;
            let page = self.page(frame);
            if page.used() >= SMALL && page.count() > 0 {
                break;
            }
            let parent = path[depth - 1];
            let empty = page.count() == 0;
            match self.neighbour(parent.frame, parent.at) {
                Some(neighbour) => {
                    if !self.join(path, depth - 1, neighbour) {
                        break;
                    }
                }
                None if empty => {
                    let tail = self.page(parent.frame).entry(parent.at).key_tail();
                    self.retire_chain(tail);
                    self.frames.retire(frame);
                    self.page_mut(parent.frame).remove(parent.at);
                }
                None => break,
            }
        }
        self.lower_root();
    }

    /// Joins the child on the path with `neighbour` if one page can hold both.
    fn join(&mut self, path: &mut Path, depth: usize, neighbour: usize) -> bool {
        let parent = path[depth];
        let first = neighbour.min(parent.at);
        let page = self.page(parent.frame);
        let (left, right) = (page.child(first), page.child(first + 1));
        if self.page(left.frame).count() == 0 {
            self.drop_second(parent.frame, first, right, left.frame);
            return true;
        }
        if self.page(right.frame).count() == 0 {
            self.drop_second(parent.frame, first, left, right.frame);
            return true;
        }
        if self.page(left.frame).used() + self.page(right.frame).used() > SIZE + SIZE / 8 {
            return false;
        }
        let mut loose = std::mem::take(&mut self.scratch);
        loose.clear();
        self.gather_kids(&mut loose, parent, first, None);
        let ends = loose.fill(CAP_TOGETHER);
        let joined = ends.len() == 1;
        if joined {
            let group = Group { kids: first..first + 2, loose: &loose, ends: &ends };
            self.lay_out(path, depth, group);
        }
        self.scratch = loose;
        joined
    }

    /// Replaces the children `first` and `first + 1`, of which `empty` is one, by the other.
    fn drop_second(&mut self, parent: Frame, first: usize, kept: Child, empty: Frame) {
        let tail = self.page(parent).entry(first + 1).key_tail();
        self.retire_chain(tail);
        let mut page = self.page_mut(parent);
        page.remove(first + 1);
        page.overwrite(first, 0, &kept.encode());
        self.frames.retire(empty);
    }

    fn lower_root(&mut self) {
        loop {
            let root = self.top.root;
            let page = self.page(root);
            if page.is_leaf() || page.count() > 1 {
                return;
            }
            if page.count() == 0 {
                self.page_mut(root).format(0, &[]);
                return;
            }
            let (child, tail) = (page.child(0).frame, page.entry(0).key_tail());
            self.retire_chain(tail);
            self.frames.retire(root);
            self.top.root = child;
        }
    }
}

/// A page is written anew in place when this much suffices: below a full page, so that the work is
/// not repeated at the next insertion.
const CAP_ALONE: usize = SIZE - SIZE / 16;

/// How full neighbours are left; what is over needs one page more.
const CAP_TOGETHER: usize = SIZE - SIZE / 10;

/// A page below this looks for a neighbour to join.
const SMALL: usize = SIZE / 4;
