//! Asserts the invariants of [`Tree`](super::Tree), by their numbers, over the whole tree, and the
//! layout of single pages. It changes nothing and repairs nothing.
//!
//! Worked example: a branch entry that says 3 live entries over a leaf with 2 gives
//! `invariant 3: frame 9: child 4 counts 2 live, its entry says 3`.

use super::frame::{Frame, View};
use super::page::{
    CHILD, HEADER, Image, KEY_HEAD, KEY_INLINE_MAX, KEY_LONG, Kind, PREFIX_MAX, Page, SIZE, SLOT,
    TAIL, Tail, VALUE_INLINE_MAX, VALUE_LONG, field, get_u16,
};
use super::search::push_key;
use super::{Tree, chain};

/// All invariants of a tree.
pub(super) fn tree(tree: &Tree) -> Result<(), String> {
    let view = tree.view();
    let mut walk = Walk { view, seen: vec![false; tree.frames.ever()], keys: 0, reached: 0 };
    let root = Page(view.image(tree.top.root));
    if !root.is_leaf() && root.count() < 2 {
        return Err(format!("invariant 4: root branch with {} children", root.count()));
    }
    let live = walk.page(tree.top.root, root.level(), &Bounds::default())?;
    if (walk.keys, live) != (tree.top.keys, tree.top.live) {
        let (keys, told) = (walk.keys, (tree.top.keys, tree.top.live));
        return Err(format!("invariant 3: found {keys} keys, {live} live; the tree says {told:?}"));
    }
    if walk.reached != tree.frames.current() {
        let (reached, current) = (walk.reached, tree.frames.current());
        return Err(format!("invariant 6: {reached} frames reached, {current} in use"));
    }
    Ok(())
}

#[derive(Clone, Default)]
struct Bounds {
    from: Option<Vec<u8>>,
    below: Option<Vec<u8>>,
}

impl Bounds {
    fn hold(&self, key: &[u8]) -> bool {
        self.from.as_deref().is_none_or(|from| from <= key)
            && self.below.as_deref().is_none_or(|below| key < below)
    }
}

struct Walk<'a> {
    view: View<'a>,
    seen: Vec<bool>,
    keys: u64,
    reached: usize,
}

impl Walk<'_> {
    /// Checks a page and all below; its live count.
    fn page(&mut self, frame: Frame, level: u8, bounds: &Bounds) -> Result<u64, String> {
        self.reach(frame)?;
        let image = self.view.image(frame);
        inspect(image).map_err(|cause| format!("invariant 5: frame {}: {cause}", frame.0))?;
        let page = Page(image);
        if page.level() != level {
            return Err(format!("invariant 2: frame {}: level {}", frame.0, page.level()));
        }
        let keys = self.keys(frame, page, bounds)?;
        let mut live = 0;
        for index in 0..page.count() {
            if page.is_leaf() {
                live += u64::from(page.entry_is_live(index));
            } else {
                live += self.child(frame, index, &keys, bounds)?;
            }
        }
        if live != page.live() {
            return Err(format!(
                "invariant 3: frame {}: {live} live, header says {}",
                frame.0,
                page.live()
            ));
        }
        if page.is_leaf() {
            self.keys += page.count() as u64;
        }
        Ok(live)
    }

    /// The keys of a page, whole, in order and within bounds.
    fn keys(
        &mut self,
        frame: Frame,
        page: Page<'_>,
        bounds: &Bounds,
    ) -> Result<Vec<Vec<u8>>, String> {
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(page.count());
        for index in 0..page.count() {
            for tail in super::search::tails(&page.entry(index)) {
                self.chain(tail)?;
            }
            let mut key = Vec::new();
            push_key(self.view, page, index, &mut key);
            let bound = page.is_leaf() || index > 0;
            if keys.last().is_some_and(|before| *before >= key) || bound && !bounds.hold(&key) {
                return Err(format!("invariant 1: frame {}: key {index} is out of order", frame.0));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn child(
        &mut self,
        frame: Frame,
        index: usize,
        keys: &[Vec<u8>],
        bounds: &Bounds,
    ) -> Result<u64, String> {
        let page = Page(self.view.image(frame));
        let child = page.child(index);
        let within = Bounds {
            from: if index == 0 { bounds.from.clone() } else { Some(keys[index].clone()) },
            below: keys.get(index + 1).cloned().or_else(|| bounds.below.clone()),
        };
        if Page(self.view.image(child.frame)).count() == 0 {
            return Err(format!("invariant 4: frame {} is empty", child.frame.0));
        }
        let live = self.page(child.frame, page.level() - 1, &within)?;
        if live != child.live {
            let (at, child, told) = (frame.0, child.frame.0, child.live);
            return Err(format!(
                "invariant 3: frame {at}: child {child} counts {live} live, its entry says {told}"
            ));
        }
        Ok(live)
    }

    fn chain(&mut self, tail: Tail) -> Result<(), String> {
        let mut len = 0;
        for frame in chain::frames_of(self.view, tail) {
            self.reach(frame)?;
            len += chain::data(self.view.image(frame)).len();
        }
        if len != tail.len as usize {
            return Err(format!("invariant 5: chain at {} has {len} bytes", tail.first.0));
        }
        Ok(())
    }

    fn reach(&mut self, frame: Frame) -> Result<(), String> {
        if std::mem::replace(&mut self.seen[frame.0 as usize], true) {
            return Err(format!("invariant 6: frame {} is reached twice", frame.0));
        }
        self.reached += 1;
        Ok(())
    }
}

/// The layout of a leaf or branch: everything that reading and changing the page relies on, for any
/// bytes whatever. References are not followed, and whole keys not compared.
pub(super) fn inspect(image: &Image) -> Result<(), String> {
    let (kind, level) = (image[field::KIND], image[field::LEVEL]);
    if !(kind == Kind::Leaf as u8 && level == 0 || kind == Kind::Branch as u8 && level > 0) {
        return Err(format!("kind {kind} at level {level}"));
    }
    let (count, prefix) = (get_u16(image, field::COUNT), get_u16(image, field::PREFIX));
    let (heap, garbage) = (get_u16(image, field::HEAP), get_u16(image, field::GARBAGE));
    if prefix > PREFIX_MAX || heap > SIZE || HEADER + prefix + count * SLOT > heap {
        return Err(format!("{count} slots, prefix {prefix}, heap at {heap} do not fit"));
    }
    let mut places = Vec::with_capacity(count);
    for index in 0..count {
        let slot = HEADER + prefix + index * SLOT;
        let at = get_u16(image, slot + 4);
        let (suffix, len) = entry_bytes(image, at, heap, prefix)
            .ok_or_else(|| format!("entry {index} at {at} is malformed"))?;
        if image[slot + suffix.min(4)..slot + 4].iter().any(|byte| *byte != 0) {
            return Err(format!("the head of slot {index} is longer than its suffix"));
        }
        places.push((at, len));
    }
    let bytes: usize = places.iter().map(|(_, len)| len).sum();
    if bytes + garbage != SIZE - heap {
        return Err(format!("{bytes} bytes of entries and {garbage} of garbage from {heap} on"));
    }
    // In slot order downwards, as pages are written to disk, is the order that needs no sorting.
    let from_the_end = |pair: &[(usize, usize)]| pair[1].0 + pair[1].1 == pair[0].0;
    if places.windows(2).all(from_the_end) {
        return Ok(());
    }
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
        Some(pair) => Err(format!("entries at {} and {} overlap", pair[0].0, pair[1].0)),
        None => Ok(()),
    }
}

/// The lengths of the suffix and of the entry at `at`, if it is well formed and lies between `heap` and the end.
fn entry_bytes(image: &Image, at: usize, heap: usize, prefix: usize) -> Option<(usize, usize)> {
    if at < heap {
        return None;
    }
    let flags = *image.get(at)?;
    let wide = flags & 8 != 0;
    let lengths = image.get(at + 1..at + if wide { 5 } else { 3 })?;
    let (suffix, value) = if wide {
        (get_u16(lengths, 0), get_u16(lengths, 2))
    } else {
        (usize::from(lengths[0]), usize::from(lengths[1]))
    };
    let long_key = flags & KEY_LONG != 0;
    let leaf = image[field::LEVEL] == 0;
    let key = prefix + suffix;
    let sound = flags < 16
        && wide == (suffix > 255 || value > 255)
        && if long_key { key == KEY_HEAD } else { key <= KEY_INLINE_MAX }
        && if leaf {
            value <= VALUE_INLINE_MAX
        } else {
            value == CHILD && flags & !(KEY_LONG | 8) == 0
        }
        && (flags & VALUE_LONG == 0 || value == TAIL);
    let tail = if long_key { TAIL } else { 0 };
    let len = 1 + lengths.len() + suffix.saturating_sub(4) + value + tail;
    (sound && at + len <= SIZE).then_some((suffix, len))
}
