//! Reading the pages of a checkpoint back into frames, believing nothing: checksums, numbers, the
//! checksums that parents hold, layout, levels, counts, order and bounds of keys are all verified.
//!
//! Because children come directly before their parents (see `write`), the pages nobody has referred
//! to yet form a stack, and the references of a page are exactly the top of it, in order.
//!
//! Laws:
//!  1. Any bytes give a tree whose invariants hold, or a [`Fault`] that names page and cause.
//!  2. Memory grows by one frame and one stack item for each page read, no more.
//!
//! Worked example: pages 0 and 1 are leaves; page 2 is a branch that refers to pages 0 and 1 with
//! their checksums: the stack goes `0`, `0 1`, `2`, and page 2 is the root.

use holdfast_core::store::Fault;

use super::check::inspect;
use super::frame::{Frame, Frames, View};
use super::page::{
    HEADER, Image, KEY_HEAD, KEY_INLINE_MAX, KEY_LONG, Kind, LIVE, Page, SIZE, VALUE_INLINE_MAX,
    VALUE_LONG, field, get_u16, get_u32, get_u64, put_u32,
};
use super::search::{LEVELS_MAX, push_key};
use super::write::{low_head, places};
use super::{PageRef, Top, Tree, chain};

/// Where the pages come from: fills the buffer and answers true, or answers false at the end.
pub(super) type NextPage<'n> = dyn FnMut(&mut Image) -> Result<bool, Fault> + 'n;

/// Reads the pages `0 ..= root.page`.
pub(super) fn load(next: &mut NextPage<'_>, root: PageRef, place: &str) -> Result<Tree, Fault> {
    let mut loader = Loader { frames: Frames::new(), stack: Vec::new() };
    let last = u32::try_from(root.page).ok().filter(|last| *last < chain::END);
    let last = last.ok_or_else(|| fault(place, root.page, "the root's number is impossible"))?;
    let mut image = [0; SIZE];
    for number in 0..=last {
        if !next(&mut image)? {
            let cause = format!("the pages end here, but the root is page {last}");
            return Err(fault(place, u64::from(number), cause));
        }
        let page = loader.page(&mut image, number, number == last);
        page.map_err(|cause| fault(place, u64::from(number), cause))?;
    }
    loader.finish(root).map_err(|cause| fault(place, root.page, cause))
}

fn fault(place: &str, page: u64, cause: impl std::fmt::Display) -> Fault {
    Fault::new("the key index cannot be loaded", format!("{place}, page {page}"), cause)
}

struct Loader {
    frames: Frames,
    stack: Vec<Part>,
}

/// A page that no page has referred to yet, with all below it.
struct Part {
    number: u32,
    crc: u32,
    frame: Frame,
    what: What,
}

enum What {
    /// A chain of so many bytes.
    Chain(u64),
    Subtree {
        level: u8,
        keys: u64,
        live: u64,
    },
}

impl Loader {
    fn page(&mut self, image: &mut Image, number: u32, last: bool) -> Result<(), String> {
        let crc = crc32fast::hash(&image[field::NUMBER..]);
        if get_u32(image, field::CRC) != crc {
            return Err(format!("checksum is {crc:08x}, header says {:08x}", get_u32(image, 0)));
        }
        if get_u32(image, field::NUMBER) != number {
            return Err(format!("header says page {}", get_u32(image, field::NUMBER)));
        }
        let what = if image[field::KIND] == Kind::Overflow as u8 {
            self.link(image)?
        } else {
            self.adopt(image, last)?
        };
        let frame = self.frames.take();
        *self.frames.image_mut(frame) = *image;
        self.stack.push(Part { number, crc, frame, what });
        match self.stack.last().map(|part| &part.what) {
            Some(What::Subtree { .. }) => self.order(frame),
            _ => Ok(()),
        }
    }

    /// An overflow page: goes in front of the chain it refers to.
    fn link(&mut self, image: &mut Image) -> Result<What, String> {
        let bytes = get_u16(image, field::COUNT);
        if image[field::LEVEL] != 0 || bytes == 0 || bytes > chain::ROOM {
            return Err(format!("overflow page of {bytes} bytes"));
        }
        if image[HEADER + bytes..].iter().any(|byte| *byte != 0) {
            return Err("overflow page with bytes after its end".into());
        }
        if get_u32(image, field::NEXT) == chain::END {
            return Ok(What::Chain(bytes as u64));
        }
        let part = self.stack.pop().ok_or("refers to a page that is not there")?;
        let What::Chain(len) = part.what else {
            return Err(format!("goes on in page {}, which is not an overflow page", part.number));
        };
        claim(image, field::NEXT, &part)?;
        if bytes != chain::ROOM {
            return Err("a chain goes on after a page that is not full".into());
        }
        Ok(What::Chain(bytes as u64 + len))
    }

    /// A leaf or branch: takes over everything it refers to from the stack.
    fn adopt(&mut self, image: &mut Image, last: bool) -> Result<What, String> {
        inspect(image)?;
        let page = Page(image);
        let (level, count) = (page.level(), page.count());
        if usize::from(level) >= LEVELS_MAX / 2 {
            return Err(format!("level {level} is higher than a tree can grow"));
        }
        let fewest = if last { 2 * usize::from(level > 0) } else { 1 };
        if count < fewest || page.garbage() > 0 || image[field::LOW..HEADER] != low_head(page) {
            return Err(format!("{count} entries, or a low key that is not the header's"));
        }
        let wanted = (0..count).map(|index| references(page, index)).sum::<usize>();
        if wanted == 0 {
            let live = (0..count).filter(|index| page.entry_is_live(*index)).count() as u64;
            return whole(image, What::Subtree { level, keys: count as u64, live });
        }
        let from =
            self.stack.len().checked_sub(wanted).ok_or("refers to pages that are not there")?;
        let mut parts = self.stack.split_off(from).into_iter();
        let (mut keys, mut live) = (0, 0);
        for index in 0..count {
            let (more_keys, more_live) = adopt_entry(image, index, &mut parts)?;
            keys += more_keys;
            live += more_live;
        }
        whole(image, What::Subtree { level, keys, live })
    }

    /// The order of the keys in a page, and in a branch of the keys below it.
    fn order(&self, frame: Frame) -> Result<(), String> {
        let view = self.frames.view();
        let page = Page(view.image(frame));
        let (mut before, mut key) = (Vec::new(), Vec::new());
        for index in 1..page.count() {
            // Heads that ascend decide; whole keys are put together only where they are equal.
            if page.is_leaf() && page.head(index - 1) < page.head(index) {
                continue;
            }
            before.clear();
            key.clear();
            push_key(view, page, index - 1, &mut before);
            push_key(view, page, index, &mut key);
            if before >= key {
                return Err(format!("key {index} is not above the one before"));
            }
            if !page.is_leaf() {
                let below = edge_key(view, page.child(index - 1).frame, Edge::High);
                if below >= key || edge_key(view, page.child(index).frame, Edge::Low) < key {
                    return Err(format!("separator {index} does not separate its neighbours"));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, root: PageRef) -> Result<Tree, String> {
        let part = self.stack.pop().ok_or("no page")?;
        if !self.stack.is_empty() {
            return Err(format!("{} pages before it belong to nothing", self.stack.len()));
        }
        if part.crc != root.crc {
            return Err(format!("checksum is {:08x}, expected {:08x}", part.crc, root.crc));
        }
        let What::Subtree { keys, live, .. } = part.what else {
            return Err("the root is an overflow page".into());
        };
        let pages = self.frames.current() as u64;
        let top = Top { root: part.frame, keys, live, pages };
        Ok(Tree::of(self.frames, top))
    }
}

/// The page as a part, if its header counts what was found.
fn whole(image: &Image, what: What) -> Result<What, String> {
    let told = get_u64(image, field::LIVE);
    match what {
        What::Subtree { live, .. } if live != told => {
            Err(format!("{live} live, header says {told}"))
        }
        what => Ok(what),
    }
}

/// How many pages an entry refers to.
fn references(page: Page<'_>, index: usize) -> usize {
    let flags = page.flags(index);
    let chains = u32::count_ones(u32::from(flags & (KEY_LONG | VALUE_LONG))) as usize;
    chains + usize::from(!page.is_leaf())
}

/// Turns the references of an entry into frames; its keys and live entries.
fn adopt_entry(
    image: &mut Image,
    index: usize,
    parts: &mut impl Iterator<Item = Part>,
) -> Result<(u64, u64), String> {
    let page = Page(image);
    let (leaf, level, flags) = (page.is_leaf(), page.level(), page.entry(index).flags);
    let value = page.value_at(index);
    let counted = if leaf { 0 } else { page.child(index).live };
    let mut places = places(page, index).collect::<Vec<_>>().into_iter();
    if flags & KEY_LONG != 0 {
        let at = places.next().expect("a long key has a reference");
        adopt_chain(image, at, parts, KEY_INLINE_MAX - KEY_HEAD)?;
    }
    if let Some(at) = places.next() {
        adopt_chain(image, at, parts, VALUE_INLINE_MAX)?;
    }
    if leaf {
        return Ok((1, u64::from(flags & LIVE)));
    }
    let part = parts.next().ok_or("refers to pages that are not there")?;
    claim(image, value, &part)?;
    match part.what {
        What::Subtree { level: below, keys, live } if below + 1 == level && live == counted => {
            Ok((keys, live))
        }
        _ => Err(format!("page {} is not the child that entry {index} describes", part.number)),
    }
}

fn adopt_chain(
    image: &mut Image,
    at: usize,
    parts: &mut impl Iterator<Item = Part>,
    over: usize,
) -> Result<(), String> {
    let part = parts.next().ok_or("refers to pages that are not there")?;
    let len = u64::from(get_u32(image, at + 8));
    claim(image, at, &part)?;
    match part.what {
        What::Chain(bytes) if bytes == len && bytes > over as u64 => Ok(()),
        _ => Err(format!("page {} is not a chain of {len} bytes", part.number)),
    }
}

/// Checks the reference at `at` against the page that must be meant, and puts its frame there.
fn claim(image: &mut Image, at: usize, part: &Part) -> Result<(), String> {
    let (number, crc) = (get_u32(image, at), get_u32(image, at + 4));
    if (number, crc) != (part.number, part.crc) {
        let (there, found) = (part.number, part.crc);
        return Err(format!(
            "refers to page {number} with checksum {crc:08x}, but page {there} has {found:08x}"
        ));
    }
    put_u32(image, at, part.frame.0);
    put_u32(image, at + 4, 0);
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Low,
    High,
}

/// The lowest or highest key below a page.
fn edge_key(view: View<'_>, mut frame: Frame, edge: Edge) -> Vec<u8> {
    loop {
        let page = Page(view.image(frame));
        let index = if edge == Edge::Low { 0 } else { page.count() - 1 };
        if page.is_leaf() {
            let mut key = Vec::new();
            push_key(view, page, index, &mut key);
            return key;
        }
        frame = page.child(index).frame;
    }
}
