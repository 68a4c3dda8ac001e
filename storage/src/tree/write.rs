//! Writing a root out as a sequence of sealed pages, children before parents. Where the sequence goes
//! and how fast is the caller's; the page format is drawn in FORMAT.md, "Tree pages".
//!
//! Laws:
//!  1. Every page is emitted after all pages it refers to, and the root last.
//!  2. The pages a page refers to (chains by their first page) were emitted, with all below them and
//!     nothing else, directly before it, in the order of its references.
//!  3. The bytes depend only on the shape and content of the tree: free bytes are zero, entries lie
//!     in slot order, no frame number remains.
//!
//! Worked example: a root with two leaves, the second with a long key, gives: 0 first leaf, 1
//! overflow page, 2 second leaf, 3 root; `PageRef { page: 3, .. }`.

use holdfast_core::store::Fault;

use super::frame::{Frame, View};
use super::page::{
    Image, KEY_LONG, Page, PageMut, SIZE, Tail, VALUE_LONG, field, put_u32, put_u64,
};
use super::search::tails;
use super::{Root, chain};

/// The address of a page within the sequence that holds it, and the checksum it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Its number in the sequence, from 0.
    pub page: u64,
    /// Its crc32.
    pub crc: u32,
}

/// Emits the pages of a root one by one, so that a caller can work in slices.
pub struct PageWriter {
    root: Root,
    open: Vec<Open>,
    rope: Option<Rope>,
    emitted: u32,
}

/// A page whose references are being resolved.
struct Open {
    image: Box<Image>,
    /// References still to resolve, the first last.
    jobs: Vec<Job>,
    /// Where the reference goes that is being resolved.
    at: usize,
}

struct Job {
    at: usize,
    to: To,
}

enum To {
    Child(Frame),
    Chain(Tail),
}

/// A chain, emitted from its last page to its first.
struct Rope {
    frames: Vec<Frame>,
    next: Option<PageRef>,
}

impl Root {
    /// Emits all pages and returns the address of the root page.
    pub fn write_pages(
        &self,
        emit: &mut dyn FnMut(&[u8; SIZE]) -> Result<(), Fault>,
    ) -> Result<PageRef, Fault> {
        let mut writer = self.page_writer();
        let mut page = [0; SIZE];
        let mut last = PageRef { page: 0, crc: 0 };
        while let Some(at) = writer.next(&mut page) {
            emit(&page)?;
            last = at;
        }
        Ok(last)
    }

    /// A writer of this root's pages. It holds the root until it is dropped.
    pub fn page_writer(&self) -> PageWriter {
        let open = vec![Open::new(self.0.view(), self.0.top().root)];
        PageWriter { root: self.clone(), open, rope: None, emitted: 0 }
    }
}

impl PageWriter {
    /// Fills `page` with the next page and returns its address; `None` after the root page.
    pub fn next(&mut self, page: &mut [u8; SIZE]) -> Option<PageRef> {
        loop {
            if self.rope.is_some() {
                return Some(self.next_of_rope(page));
            }
            let view = self.root.0.view();
            let open = self.open.last_mut()?;
            let Some(job) = open.jobs.pop() else {
                let open = self.open.pop().expect("looked at just now");
                *page = *open.image;
                let at = self.seal(page);
                self.resolve(at);
                return Some(at);
            };
            open.at = job.at;
            match job.to {
                To::Child(frame) => self.open.push(Open::new(view, frame)),
                To::Chain(tail) => {
                    let frames = chain::frames_of(view, tail).collect();
                    self.rope = Some(Rope { frames, next: None });
                }
            }
        }
    }

    fn next_of_rope(&mut self, page: &mut Image) -> PageRef {
        let rope = self.rope.as_mut().expect("the caller looked");
        let frame = rope.frames.pop().expect("a rope ends with its last frame");
        *page = *self.root.0.view().image(frame);
        put_u64(page, field::NEXT, u64::from(chain::END));
        if let Some(next) = rope.next {
            put_reference(page, field::NEXT, next);
        }
        let done = rope.frames.is_empty();
        let at = self.seal(page);
        if done {
            self.rope = None;
            self.resolve(at);
        } else if let Some(rope) = self.rope.as_mut() {
            rope.next = Some(at);
        }
        at
    }

    /// Stores the address of a page or chain in the page that waits for it.
    fn resolve(&mut self, to: PageRef) {
        if let Some(open) = self.open.last_mut() {
            put_reference(&mut open.image[..], open.at, to);
        }
    }

    /// Gives a page its number and checksum.
    fn seal(&mut self, page: &mut Image) -> PageRef {
        put_u32(page, field::NUMBER, self.emitted);
        let crc = crc32fast::hash(&page[field::NUMBER..]);
        put_u32(page, field::CRC, crc);
        let at = PageRef { page: u64::from(self.emitted), crc };
        self.emitted += 1;
        at
    }
}

impl Open {
    fn new(view: View<'_>, frame: Frame) -> Open {
        let mut image = Box::new([0; SIZE]);
        let from = Page(view.image(frame));
        PageMut(&mut image).copy_canonical(from);
        image[field::LOW..field::LOW + 8].copy_from_slice(&low_head(from));
        let jobs = jobs(Page(&image));
        Open { image, jobs, at: 0 }
    }
}

/// The references of a page, the first last.
fn jobs(page: Page<'_>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for index in 0..page.count() {
        if page.flags(index) & (KEY_LONG | VALUE_LONG) != 0 {
            let entry = page.entry(index);
            let places = places(page, index);
            jobs.extend(
                tails(&entry).zip(places).map(|(tail, at)| Job { at, to: To::Chain(tail) }),
            );
        }
        if !page.is_leaf() {
            let at = page.value_at(index);
            jobs.push(Job { at, to: To::Child(page.child(index).frame) });
        }
    }
    jobs.reverse();
    jobs
}

/// Where the chain references of an entry lie in its page, in the order of
/// [`tails`](super::search::tails).
pub(super) fn places(page: Page<'_>, index: usize) -> impl Iterator<Item = usize> {
    let entry = page.entry(index);
    let value = page.value_at(index);
    let key = (entry.flags & KEY_LONG != 0).then_some(value + entry.value.len());
    key.into_iter().chain((entry.flags & VALUE_LONG != 0).then_some(value))
}

/// The first eight bytes of the lowest key, zero-padded.
pub(super) fn low_head(page: Page<'_>) -> [u8; 8] {
    let mut low = [0; 8];
    if page.count() > 0 {
        let mut key = page.prefix().to_vec();
        page.entry(0).push_suffix(&mut key);
        let len = key.len().min(8);
        low[..len].copy_from_slice(&key[..len]);
    }
    low
}

fn put_reference(bytes: &mut [u8], at: usize, to: PageRef) {
    let number = u32::try_from(to.page).expect("there are as many pages as frames, below 2^32");
    put_u32(bytes, at, number);
    put_u32(bytes, at + 4, to.crc);
}
