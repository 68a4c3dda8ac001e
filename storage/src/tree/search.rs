//! Reading one root: the way down to a key, a lookup, the rank of a key among the live ones, and a
//! scan. Nothing here writes.
//!
//! Laws:
//!  1. In a branch the child to follow is the last whose separator is at most the key, and the first
//!     child for keys below every separator.
//!  2. `rank(k)` is the number of live entries with keys below `k`; a count is a difference of ranks.
//!
//! Worked example: separators ``, `f`, `m` and the key `g`: the second child; its rank adds the live
//! count of the first child and goes on below.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hint::black_box;
use std::ops::{ControlFlow, Deref};

use super::frame::{Frame, View};
use super::page::{Entry, KEY_LONG, Page, SLOT, Tail, head_of};
use super::{Top, Value, Visit, chain};

/// The slot of `key`, or the slot where it would be inserted.
pub(super) fn find(view: View<'_>, page: Page<'_>, key: &[u8]) -> Result<usize, usize> {
    let prefix = page.prefix();
    let common = prefix.len().min(key.len());
    match key[..common].cmp(&prefix[..common]) {
        Ordering::Less => return Err(0),
        Ordering::Greater => return Err(page.count()),
        Ordering::Equal if common < prefix.len() => return Err(0),
        Ordering::Equal => {}
    }
    let suffix = &key[common..];
    let wanted = head_of(suffix);
    let slots = page.slots();
    let (mut low, mut high) = (0, page.count());
    while low < high {
        let middle = (low + high) / 2;
        let head = slots[middle * SLOT..].first_chunk().expect("slots have six bytes");
        let order = match u32::from_be_bytes(*head).cmp(&wanted) {
            Ordering::Equal => compare(view, page, middle, suffix),
            order => order,
        };
        match order {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// How an entry compares with a suffix whose padded head is the same.
fn compare(view: View<'_>, page: Page<'_>, index: usize, suffix: &[u8]) -> Ordering {
    let (flags, suffix_len, inside) = page.key_rest(index);
    let rest = suffix.get(4..).unwrap_or(&[]);
    if flags & KEY_LONG == 0 {
        return inside.cmp(rest).then(suffix_len.cmp(&suffix.len()));
    }
    // At least four bytes of a long key's suffix are in the page (`PREFIX_MAX`), so the heads compared
    // were not padded on this side.
    if suffix.len() < suffix_len {
        return inside.cmp(rest).then(Ordering::Greater);
    }
    let (part, beyond) = rest.split_at(inside.len());
    let tail = Tail::parse(page.entry(index).tail);
    inside.cmp(part).then_with(|| chain::compare(view, tail, beyond))
}

/// The child of a branch to follow for `key` (law 1).
pub(super) fn child_slot(view: View<'_>, page: Page<'_>, key: &[u8]) -> usize {
    match find(view, page, key) {
        Ok(at) => at,
        Err(at) => at.saturating_sub(1),
    }
}

/// The value of `key`.
pub(super) fn get<'a>(view: View<'a>, top: Top, key: &[u8]) -> Option<Value<'a>> {
    let mut page = Page(view.image(top.root));
    while !page.is_leaf() {
        let at = child_slot(view, page, key);
        page = Page(view.image(page.child(at).frame));
    }
    let at = find(view, page, key).ok()?;
    Some(Value(value_of(view, &page.entry(at))))
}

/// Visits the values of some keys, in their order. The ways down are taken side by side: what a lookup waits for is
/// the memory of its pages, and for those of several it can be waited at the same time.
pub(super) fn get_each<K: Deref<Target = [u8]>>(
    view: View<'_>,
    top: Top,
    keys: &[K],
    visit: &mut dyn FnMut(Option<Value<'_>>),
) {
    for keys in keys.chunks(TOGETHER) {
        for (key, frame) in keys.iter().zip(leaves(view, top, keys)) {
            let page = Page(view.image(frame));
            let at = find(view, page, key).ok();
            visit(at.map(|at| Value(value_of(view, &page.entry(at)))));
        }
    }
}

/// The leaves of some keys, at most [`TOGETHER`]; their heads are on the way into the cache.
fn leaves<K: Deref<Target = [u8]>>(view: View<'_>, top: Top, keys: &[K]) -> [Frame; TOGETHER] {
    let mut frames = [top.root; TOGETHER];
    while !Page(view.image(frames[0])).is_leaf() {
        for (key, frame) in keys.iter().zip(&mut frames) {
            let page = Page(view.image(*frame));
            *frame = page.child(child_slot(view, page, key)).frame;
            touch(view.image(*frame));
        }
    }
    frames
}

/// Ways down that are taken side by side.
const TOGETHER: usize = 16;

/// Loads the head of a page into the cache, where its search begins. A load whose value nothing waits for
/// does not hold up those that follow.
fn touch(page: &[u8]) {
    let lines = page.chunks(64).take(8);
    black_box(lines.fold(0, |sum, line| sum ^ line[0]));
}

/// The whole value of an entry.
pub(super) fn value_of<'a>(view: View<'a>, entry: &Entry<'a>) -> Cow<'a, [u8]> {
    match entry.value_tail() {
        None => Cow::Borrowed(entry.value),
        Some(tail) => {
            let mut value = Vec::new();
            chain::append(view, tail, &mut value);
            Cow::Owned(value)
        }
    }
}

/// The number of live entries in `from .. below`.
pub(super) fn count_live(view: View<'_>, top: Top, from: &[u8], below: Option<&[u8]>) -> u64 {
    let end = below.map_or(top.live, |below| rank(view, top, below));
    if end == 0 { 0 } else { end.saturating_sub(rank(view, top, from)) }
}

/// The number of live entries below `key` (law 2).
fn rank(view: View<'_>, top: Top, key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let mut page = Page(view.image(top.root));
    let mut rank = 0;
    while !page.is_leaf() {
        let at = child_slot(view, page, key);
        rank += sum(page, at, |index| page.child(index).live);
        page = Page(view.image(page.child(at).frame));
    }
    let at = match find(view, page, key) {
        Ok(at) | Err(at) => at,
    };
    rank + sum(page, at, |index| u64::from(page.entry_is_live(index)))
}

/// The sum over the entries before `at`, taken from the shorter side.
fn sum(page: Page<'_>, at: usize, live: impl Fn(usize) -> u64) -> u64 {
    if at * 2 <= page.count() {
        (0..at).map(live).sum()
    } else {
        page.live() - (at..page.count()).map(live).sum::<u64>()
    }
}

/// The keys a scan is to visit.
#[derive(Clone, Copy)]
struct Bounds<'k> {
    from: Option<&'k [u8]>,
    below: Option<&'k [u8]>,
}

/// Visits the entries in `from .. below` in order, until `visit` breaks.
pub(super) fn scan(
    view: View<'_>,
    top: Top,
    from: &[u8],
    below: Option<&[u8]>,
    visit: &mut Visit<'_>,
) {
    let bounds = Bounds { from: Some(from), below };
    let mut key = Vec::with_capacity(256);
    let _ = walk(view, top.root, bounds, &mut key, visit);
}

fn walk(
    view: View<'_>,
    frame: Frame,
    bounds: Bounds<'_>,
    key: &mut Vec<u8>,
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    let page = Page(view.image(frame));
    if page.is_leaf() {
        return walk_leaf(view, page, bounds, key, visit);
    }
    let first = bounds.from.map_or(0, |from| child_slot(view, page, from));
    let last = bounds.below.map_or(page.count() - 1, |below| child_slot(view, page, below));
    for index in first..=last {
        let part = Bounds {
            from: bounds.from.filter(|_| index == first),
            below: bounds.below.filter(|_| index == last),
        };
        walk(view, page.child(index).frame, part, key, visit)?;
    }
    ControlFlow::Continue(())
}

fn walk_leaf(
    view: View<'_>,
    page: Page<'_>,
    bounds: Bounds<'_>,
    key: &mut Vec<u8>,
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    let slot = |key: &[u8]| find(view, page, key).unwrap_or_else(|at| at);
    let first = bounds.from.map_or(0, slot);
    let last = bounds.below.map_or(page.count(), slot);
    key.clear();
    key.extend_from_slice(page.prefix());
    for index in first..last {
        let entry = page.entry(index);
        key.truncate(page.prefix_len());
        entry.push_suffix(key);
        if let Some(tail) = entry.key_tail() {
            chain::append(view, tail, key);
        }
        visit(key, &value_of(view, &entry))?;
    }
    ControlFlow::Continue(())
}

/// Appends the whole key of an entry.
pub(super) fn push_key(view: View<'_>, page: Page<'_>, index: usize, key: &mut Vec<u8>) {
    let entry = page.entry(index);
    key.extend_from_slice(page.prefix());
    entry.push_suffix(key);
    if let Some(tail) = entry.key_tail() {
        chain::append(view, tail, key);
    }
}

/// The chains an entry owns.
pub(super) fn tails(entry: &Entry<'_>) -> impl Iterator<Item = Tail> {
    entry.key_tail().into_iter().chain(entry.value_tail())
}

/// One page on the way down, and the slot taken or found there.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) frame: Frame,
    pub(super) at: usize,
}

/// The way from the root to the leaf where a key is or would be.
pub(super) struct Path {
    steps: [Step; LEVELS_MAX],
    len: usize,
    /// Whether the leaf has the key.
    pub(super) found: bool,
}

impl Path {
    pub(super) fn leaf(&self) -> Step {
        self.steps[self.len - 1]
    }

    /// The depth of the leaf; the root has depth 0.
    pub(super) fn depth(&self) -> usize {
        self.len - 1
    }

    /// Puts a new root above the others.
    pub(super) fn raise(&mut self, frame: Frame) {
        self.steps.copy_within(..self.len, 1);
        self.steps[0] = Step { frame, at: 0 };
        self.len += 1;
    }
}

impl std::ops::Index<usize> for Path {
    type Output = Step;

    fn index(&self, depth: usize) -> &Step {
        &self.steps[depth]
    }
}

impl std::ops::IndexMut<usize> for Path {
    fn index_mut(&mut self, depth: usize) -> &mut Step {
        &mut self.steps[depth]
    }
}

/// The way to `key`.
pub(super) fn locate(view: View<'_>, top: Top, key: &[u8]) -> Path {
    let mut path =
        Path { steps: [Step { frame: top.root, at: 0 }; LEVELS_MAX], len: 0, found: false };
    let mut frame = top.root;
    loop {
        let page = Page(view.image(frame));
        let leaf = page.is_leaf();
        let at = if leaf {
            let found = find(view, page, key);
            path.found = found.is_ok();
            found.unwrap_or_else(|at| at)
        } else {
            child_slot(view, page, key)
        };
        path.steps[path.len] = Step { frame, at };
        path.len += 1;
        if leaf {
            return path;
        }
        frame = page.child(at).frame;
    }
}

/// More levels than pages can fill: a split leaves at least two children to a branch, so a root of
/// level 31 would stand on 2^31 pages, 8 TiB.
pub(super) const LEVELS_MAX: usize = 32;
