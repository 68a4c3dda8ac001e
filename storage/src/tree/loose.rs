//! Entries taken out of their pages, to be laid out anew over one or more pages.
//!
//! Laws:
//!  1. Items ascend; they are the concatenation of what was pushed.
//!  2. A layout is a list of ends: page `j` gets the items `ends[j - 1] .. ends[j]`, at least one.
//!  3. A page's prefix is what its first and last key share, which all between share too.
//!
//! Worked example: 90 entries of two full pages and one more: with a cap of 90 % three pages are
//! needed, so `layout` answers something like `[31, 61, 91]`.

use std::ops::Range;

use super::page::{HEADER, Image, Item, KEY_LONG, PREFIX_MAX, Page, PageMut, SLOT, TAIL};

/// The list. Bytes of keys and values lie in one buffer, which keeps its memory when cleared.
#[derive(Default)]
pub(super) struct Loose {
    bytes: Vec<u8>,
    items: Vec<Place>,
}

struct Place {
    key: Range<usize>,
    value: Range<usize>,
    tail: [u8; TAIL],
    has_tail: bool,
    flags: u8,
    /// What the key shares with the one before.
    shared: usize,
}

impl Loose {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn item(&self, index: usize) -> Item<'_> {
        let place = &self.items[index];
        Item {
            key: &self.bytes[place.key.clone()],
            flags: place.flags,
            value: &self.bytes[place.value.clone()],
            tail: if place.has_tail { &place.tail } else { &[] },
        }
    }

    pub(super) fn push(&mut self, item: &Item<'_>) {
        let key = self.bytes.len();
        self.bytes.extend_from_slice(item.key);
        self.finish(key, item.flags, item.value, item.tail);
    }

    /// The items from `at` on, in a list of their own.
    pub(super) fn from(&self, at: usize) -> Loose {
        let mut rest = Loose::default();
        for index in at..self.len() {
            rest.push(&self.item(index));
        }
        rest
    }

    /// Pushes the entries `range` of a page.
    pub(super) fn push_page(&mut self, page: Page<'_>, range: Range<usize>) {
        for index in range {
            let entry = page.entry(index);
            let key = self.bytes.len();
            self.bytes.extend_from_slice(page.prefix());
            entry.push_suffix(&mut self.bytes);
            self.finish(key, entry.flags, entry.value, entry.tail);
        }
    }

    /// Gives the item at `index`, not the first, another key.
    pub(super) fn set_key(&mut self, index: usize, key: &[u8], long: u8, tail: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let place = &mut self.items[index];
        place.key = start..self.bytes.len();
        place.flags = place.flags & !KEY_LONG | long;
        place.has_tail = !tail.is_empty();
        place.tail[..tail.len()].copy_from_slice(tail);
        for at in index..(index + 2).min(self.items.len()) {
            self.items[at].shared = common(self.item(at - 1).key, self.item(at).key);
        }
    }

    fn finish(&mut self, key: usize, flags: u8, value: &[u8], tail: &[u8]) {
        let end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let shared = self
            .items
            .last()
            .map_or(0, |before| common(&self.bytes[before.key.clone()], &self.bytes[key..end]));
        let mut bytes = [0; TAIL];
        bytes[..tail.len()].copy_from_slice(tail);
        self.items.push(Place {
            key: key..end,
            value: end..self.bytes.len(),
            tail: bytes,
            has_tail: !tail.is_empty(),
            flags,
            shared,
        });
    }

    /// The fewest pages of at most `cap` bytes each, filled from the left.
    pub(super) fn fill(&self, cap: usize) -> Vec<usize> {
        let mut ends = Vec::with_capacity(4);
        let mut start = 0;
        while start < self.len() {
            start = self.fill_page(start, cap);
            ends.push(start);
        }
        ends
    }

    /// The layout into as many pages as a cap of `cap` bytes needs, evenly filled.
    pub(super) fn layout(&self, cap: usize) -> Vec<usize> {
        let fewest = self.fill(cap);
        if fewest.len() == 1 {
            return fewest;
        }
        let total: usize = (0..fewest.len())
            .map(|page| self.page_bytes(fewest[..page].last().map_or(0, |end| *end)..fewest[page]))
            .sum();
        let mut even = total / fewest.len();
        while even < cap {
            let ends = self.fill(even);
            if ends.len() <= fewest.len() {
                return ends;
            }
            even += cap / 32;
        }
        fewest
    }

    /// Writes the items `range` into a page of this level.
    pub(super) fn build(&self, range: Range<usize>, level: u8, image: &mut Image) {
        let prefix = self.prefix(&range);
        let mut page = PageMut(image);
        page.format(level, &self.item(range.start).key[..prefix]);
        for (slot, index) in range.enumerate() {
            let fits = page.insert(slot, &self.item(index));
            assert!(fits, "a layout keeps every page within its cap");
        }
    }

    /// The end of a page that starts at `start`; it takes one item whatever its size.
    fn fill_page(&self, start: usize, cap: usize) -> usize {
        let mut prefix = PREFIX_MAX;
        let mut bytes = self.page_bytes(start..start + 1);
        let mut end = start + 1;
        while end < self.len() {
            let shared = self.items[end].shared.min(prefix);
            if shared < prefix {
                prefix = shared;
                bytes = self.bytes_with(start..end, prefix);
            }
            bytes += SLOT + self.item(end).heap_bytes(prefix);
            if bytes > cap {
                break;
            }
            end += 1;
        }
        end
    }

    fn page_bytes(&self, range: Range<usize>) -> usize {
        let prefix = self.prefix(&range);
        self.bytes_with(range, prefix)
    }

    fn bytes_with(&self, range: Range<usize>, prefix: usize) -> usize {
        let heap: usize = range.map(|index| SLOT + self.item(index).heap_bytes(prefix)).sum();
        HEADER + prefix + heap
    }

    /// The prefix of a page of these items (law 3). A lone item keeps its key whole, so that the next
    /// one finds room beside it.
    fn prefix(&self, range: &Range<usize>) -> usize {
        let shared = self.items[range.start + 1..range.end].iter().map(|item| item.shared).min();
        shared.unwrap_or(0).min(PREFIX_MAX)
    }
}

/// Bytes that two keys share at their start.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(x), Some(y)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}
