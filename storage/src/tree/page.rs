//! The packed page: a header, the prefix all its keys share, sorted slots, and a heap of entries
//! that grows down from the end. Leaves and branches have the same shape; a branch's values are
//! child references. Frames, chains and the order of keys between pages are not known here.
//!
//! ```text
//! 0        40         40+p            40+p+6n              heap                4096
//! | header | prefix p | n slots of 6  |  free              | entries, any order |
//! ```
//!
//! A slot holds the first four bytes of the key's suffix (what follows the prefix), zero-padded, and
//! the offset of its entry; the entry does not repeat these bytes. Two suffixes compare as the
//! triple (padded head, remaining bytes, length).
//!
//! Laws:
//!  1. `slots end <= heap <= 4096`, and entries plus garbage fill `heap .. 4096` exactly.
//!  2. Slots ascend strictly, as far as the keys' parts in the page can tell.
//!  3. `live` is the sum over the entries: flags in a leaf, child counts in a branch.
//!
//! Worked example: the keys `/a/x1` and `/a/x2` give prefix `/a/x`, heads `1\0\0\0` and `2\0\0\0`,
//! and entries without any key byte.

use crate::disk::BLOCK;

use super::frame::Frame;

/// Bytes of a page.
pub(super) const SIZE: usize = BLOCK;

/// The bytes of a page.
pub(super) type Image = [u8; SIZE];

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf = 1,
    Branch = 2,
    Overflow = 3,
}

/// The entry counts in `count_live`.
pub(super) const LIVE: u8 = 1;
/// The key goes on in overflow pages; a [`Tail`] follows the value.
pub(super) const KEY_LONG: u8 = 2;
/// The value is in overflow pages; the entry's value is a [`Tail`].
pub(super) const VALUE_LONG: u8 = 4;
/// Lengths are two bytes each.
const WIDE: u8 = 8;

/// Keys up to this length are whole in the page.
pub(super) const KEY_INLINE_MAX: usize = 512;
/// The part of a longer key that is in the page.
pub(super) const KEY_HEAD: usize = 256;
/// The longest prefix a page takes out of its keys: four bytes of every long key's part in the page
/// stay for the slot's head.
pub(super) const PREFIX_MAX: usize = KEY_HEAD - 4;
/// Values up to this length are in the page.
pub(super) const VALUE_INLINE_MAX: usize = 512;

/// Bytes of the header.
pub(super) const HEADER: usize = 40;
/// Bytes of a slot.
pub(super) const SLOT: usize = 6;
/// Bytes of a [`Tail`].
pub(super) const TAIL: usize = 12;
/// Bytes of a [`Child`].
pub(super) const CHILD: usize = 16;

pub(super) mod field {
    //! Offsets in the header. What is marked "disk" is zero in memory.
    pub const CRC: usize = 0; // disk
    pub const NUMBER: usize = 4; // disk
    pub const KIND: usize = 8;
    pub const LEVEL: usize = 9;
    pub const COUNT: usize = 10;
    pub const PREFIX: usize = 12;
    pub const HEAP: usize = 14;
    pub const NEXT: usize = 16; // overflow pages: the reference of the following page
    pub const GARBAGE: usize = 16; // leaves and branches
    pub const LIVE: usize = 24;
    pub const LOW: usize = 32; // disk
}

/// The part of `key` that a page holds.
pub(super) fn inline_key(key: &[u8]) -> &[u8] {
    if key.len() > KEY_INLINE_MAX { &key[..KEY_HEAD] } else { key }
}

pub(super) fn get_u16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("callers stay within the page"))
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("callers stay within the page"))
}

pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).expect("offsets and lengths in a page are below 4097");
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The first four bytes of a suffix, zero-padded, as a number that compares as they do.
pub(super) fn head_of(suffix: &[u8]) -> u32 {
    if let Some(head) = suffix.first_chunk::<4>() {
        return u32::from_be_bytes(*head);
    }
    let mut head = [0; 4];
    head[..suffix.len()].copy_from_slice(suffix);
    u32::from_be_bytes(head)
}

/// Where the rest of a long key or value is: a chain of overflow pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) first: Frame,
    pub(super) len: u32,
}

impl Tail {
    pub(super) fn parse(bytes: &[u8]) -> Tail {
        Tail { first: Frame(get_u32(bytes, 0)), len: get_u32(bytes, 8) }
    }

    pub(super) fn encode(self) -> [u8; TAIL] {
        let mut bytes = [0; TAIL];
        put_u32(&mut bytes, 0, self.first.0);
        put_u32(&mut bytes, 8, self.len);
        bytes
    }
}

/// A branch entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) frame: Frame,
    pub(super) live: u64,
}

impl Child {
    pub(super) fn parse(bytes: &[u8]) -> Child {
        Child { frame: Frame(get_u32(bytes, 0)), live: get_u64(bytes, 8) }
    }

    pub(super) fn encode(self) -> [u8; CHILD] {
        let mut bytes = [0; CHILD];
        put_u32(&mut bytes, 0, self.frame.0);
        put_u64(&mut bytes, 8, self.live);
        bytes
    }
}

/// An entry to be put into a page. `key` is the part that belongs in a page, prefix included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) flags: u8,
    pub(super) value: &'a [u8],
    /// Twelve bytes of [`Tail`], or nothing.
    pub(super) tail: &'a [u8],
}

impl Item<'_> {
    /// Heap bytes it takes in a page whose prefix is `prefix` bytes long.
    pub(super) fn heap_bytes(&self, prefix: usize) -> usize {
        heap_bytes(self.key.len() - prefix, self.value.len(), self.tail.len())
    }
}

/// Heap bytes of an entry with these lengths.
pub(super) fn heap_bytes(suffix: usize, value: usize, tail: usize) -> usize {
    let lengths = if suffix > 255 || value > 255 { 4 } else { 2 };
    1 + lengths + suffix.saturating_sub(4) + value + tail
}

/// An entry as it is in a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) head: [u8; 4],
    /// Bytes of the suffix in the page, of which the first four are `head`.
    pub(super) suffix_len: usize,
    pub(super) rest: &'a [u8],
    pub(super) flags: u8,
    pub(super) value: &'a [u8],
    pub(super) tail: &'a [u8],
}

impl Entry<'_> {
    /// Appends the suffix.
    pub(super) fn push_suffix(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.head[..self.suffix_len.min(4)]);
        key.extend_from_slice(self.rest);
    }

    pub(super) fn key_tail(&self) -> Option<Tail> {
        (self.flags & KEY_LONG != 0).then(|| Tail::parse(self.tail))
    }

    pub(super) fn value_tail(&self) -> Option<Tail> {
        (self.flags & VALUE_LONG != 0).then(|| Tail::parse(self.value))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(self.suffix_len, self.value.len(), self.tail.len())
    }
}

/// A leaf or branch that is read.
#[derive(Clone, Copy)]
pub(super) struct Page<'a>(pub(super) &'a Image);

impl<'a> Page<'a> {
    pub(super) fn is_leaf(self) -> bool {
        self.0[field::KIND] == Kind::Leaf as u8
    }

    pub(super) fn level(self) -> u8 {
        self.0[field::LEVEL]
    }

    pub(super) fn count(self) -> usize {
        get_u16(self.0, field::COUNT)
    }

    pub(super) fn live(self) -> u64 {
        get_u64(self.0, field::LIVE)
    }

    pub(super) fn prefix(self) -> &'a [u8] {
        &self.0[HEADER..HEADER + self.prefix_len()]
    }

    pub(super) fn prefix_len(self) -> usize {
        get_u16(self.0, field::PREFIX)
    }

    /// All slots, six bytes each.
    pub(super) fn slots(self) -> &'a [u8] {
        let start = HEADER + self.prefix_len();
        &self.0[start..start + self.count() * SLOT]
    }

    pub(super) fn entry(self, index: usize) -> Entry<'a> {
        let slot = self.slot_at(index);
        let head = *self.0[slot..].first_chunk().expect("slots are inside the page");
        let at = get_u16(self.0, slot + 4);
        let flags = self.0[at];
        let (suffix_len, value_len, start) = if flags & WIDE == 0 {
            (usize::from(self.0[at + 1]), usize::from(self.0[at + 2]), at + 3)
        } else {
            (get_u16(self.0, at + 1), get_u16(self.0, at + 3), at + 5)
        };
        let value = start + suffix_len.saturating_sub(4);
        let tail = value + value_len;
        let end = if flags & KEY_LONG == 0 { tail } else { tail + TAIL };
        Entry {
            head,
            suffix_len,
            rest: &self.0[start..value],
            flags,
            value: &self.0[value..tail],
            tail: &self.0[tail..end],
        }
    }

    /// The padded head of the suffix.
    pub(super) fn head(self, index: usize) -> u32 {
        let head = self.0[self.slot_at(index)..].first_chunk();
        u32::from_be_bytes(*head.expect("slots are inside the page"))
    }

    /// The flags of an entry, without decoding the rest.
    pub(super) fn flags(self, index: usize) -> u8 {
        self.0[get_u16(self.0, self.slot_at(index) + 4)]
    }

    /// Whether the entry counts as live.
    pub(super) fn entry_is_live(self, index: usize) -> bool {
        self.flags(index) & LIVE != 0
    }

    /// Flags, suffix length and rest of an entry: what a comparison needs.
    #[inline]
    pub(super) fn key_rest(self, index: usize) -> (u8, usize, &'a [u8]) {
        let at = get_u16(self.0, self.slot_at(index) + 4);
        let flags = self.0[at];
        let (suffix_len, start) = if flags & WIDE == 0 {
            (usize::from(self.0[at + 1]), at + 3)
        } else {
            (get_u16(self.0, at + 1), at + 5)
        };
        (flags, suffix_len, &self.0[start..start + suffix_len.saturating_sub(4)])
    }

    /// The child of a branch entry.
    #[inline]
    pub(super) fn child(self, index: usize) -> Child {
        Child::parse(&self.0[self.value_at(index)..])
    }

    /// Where the value of an entry lies in the page.
    #[inline]
    pub(super) fn value_at(self, index: usize) -> usize {
        let at = get_u16(self.0, self.slot_at(index) + 4);
        let (_, _, rest) = self.key_rest(index);
        at + if self.0[at] & WIDE == 0 { 3 } else { 5 } + rest.len()
    }

    /// Bytes that are taken, header and prefix included, garbage not.
    pub(super) fn used(self) -> usize {
        SIZE - self.gap() - get_u16(self.0, field::GARBAGE)
    }

    /// Bytes of the heap that belong to no entry.
    pub(super) fn garbage(self) -> usize {
        get_u16(self.0, field::GARBAGE)
    }

    fn slot_at(self, index: usize) -> usize {
        HEADER + self.prefix_len() + index * SLOT
    }

    fn slots_end(self) -> usize {
        self.slot_at(self.count())
    }

    fn gap(self) -> usize {
        get_u16(self.0, field::HEAP) - self.slots_end()
    }
}

/// A leaf or branch that is changed.
pub(super) struct PageMut<'a>(pub(super) &'a mut Image);

impl PageMut<'_> {
    /// Makes it an empty page.
    pub(super) fn format(&mut self, level: u8, prefix: &[u8]) {
        self.0[..HEADER].fill(0);
        self.0[field::KIND] = if level == 0 { Kind::Leaf as u8 } else { Kind::Branch as u8 };
        self.0[field::LEVEL] = level;
        put_u16(self.0, field::PREFIX, prefix.len());
        put_u16(self.0, field::HEAP, SIZE);
        self.0[HEADER..HEADER + prefix.len()].copy_from_slice(prefix);
    }

    pub(super) fn page(&self) -> Page<'_> {
        Page(self.0)
    }

    /// Puts `item` in at `index`. False, and nothing changed, if its key does not start with the
    /// prefix or there is no room even after squeezing.
    pub(super) fn insert(&mut self, index: usize, item: &Item<'_>) -> bool {
        let page = self.page();
        if !item.key.starts_with(page.prefix()) {
            return false;
        }
        let prefix = page.prefix_len();
        let bytes = item.heap_bytes(prefix);
        if SIZE - page.used() < bytes + SLOT {
            return false;
        }
        if page.gap() < bytes + SLOT {
            self.squeeze();
        }
        let at = get_u16(self.0, field::HEAP) - bytes;
        self.write_entry(at, &item.key[prefix..], item);
        put_u16(self.0, field::HEAP, at);
        self.open_slot(index, head_of(&item.key[prefix..]), at);
        self.add_live(live_of(self.page(), item.flags, item.value) as i64);
        true
    }

    /// Takes out the entry at `index`. What its references lead to is the caller's.
    pub(super) fn remove(&mut self, index: usize) {
        let page = self.page();
        let entry = page.entry(index);
        let live = live_of(page, entry.flags, entry.value);
        let (bytes, count, garbage) = (entry.heap_bytes(), page.count(), page.garbage());
        let (slot, end) = (page.slot_at(index), page.slots_end());
        self.0.copy_within(slot + SLOT..end, slot);
        put_u16(self.0, field::COUNT, count - 1);
        put_u16(self.0, field::GARBAGE, garbage + bytes);
        self.add_live(-(live as i64));
    }

    /// Gives the entry at `index` other flags and a value of the same length.
    pub(super) fn overwrite(&mut self, index: usize, flags: u8, value: &[u8]) {
        let page = self.page();
        let before = live_of(page, page.entry(index).flags, page.entry(index).value);
        let at = page.value_at(index);
        let header = get_u16(self.0, page.slot_at(index) + 4);
        self.0[at..at + value.len()].copy_from_slice(value);
        self.0[header] = flags | (self.0[header] & (WIDE | KEY_LONG));
        let after = live_of(self.page(), flags, value);
        self.add_live(after as i64 - before as i64);
    }

    /// Points a branch entry at another frame.
    pub(super) fn set_child(&mut self, index: usize, frame: Frame) {
        let at = self.page().value_at(index);
        put_u32(self.0, at, frame.0);
    }

    /// Adds to the live count of a branch entry, and of the page.
    pub(super) fn bump_child(&mut self, index: usize, delta: i64) {
        let at = self.page().value_at(index);
        let live = get_u64(self.0, at + 8).wrapping_add_signed(delta);
        put_u64(self.0, at + 8, live);
        self.add_live(delta);
    }

    /// Makes it a copy of `from` that shows no trace of how that page came about: entries in slot
    /// order, zeroes between.
    pub(super) fn copy_canonical(&mut self, from: Page<'_>) {
        let end = from.slots_end();
        self.0[..end].copy_from_slice(&from.0[..end]);
        self.pack(from);
        let heap = get_u16(self.0, field::HEAP);
        self.0[end..heap].fill(0);
    }

    /// Packs the heap, so that all free bytes are between slots and heap.
    fn squeeze(&mut self) {
        let old = *self.0;
        self.pack(Page(&old));
    }

    /// Fills the heap with the entries of `from`, of which the slots are here already.
    fn pack(&mut self, from: Page<'_>) {
        let mut heap = SIZE;
        for index in 0..from.count() {
            let slot = from.slot_at(index);
            let at = get_u16(from.0, slot + 4);
            let bytes = from.entry(index).heap_bytes();
            heap -= bytes;
            self.0[heap..heap + bytes].copy_from_slice(&from.0[at..at + bytes]);
            put_u16(self.0, slot + 4, heap);
        }
        put_u16(self.0, field::HEAP, heap);
        put_u16(self.0, field::GARBAGE, 0);
    }

    fn write_entry(&mut self, at: usize, suffix: &[u8], item: &Item<'_>) {
        let wide = suffix.len() > 255 || item.value.len() > 255;
        self.0[at] = item.flags & !WIDE | if wide { WIDE } else { 0 };
        let start = if wide {
            put_u16(self.0, at + 1, suffix.len());
            put_u16(self.0, at + 3, item.value.len());
            at + 5
        } else {
            self.0[at + 1] = suffix.len() as u8;
            self.0[at + 2] = item.value.len() as u8;
            at + 3
        };
        let rest = suffix.get(4..).unwrap_or(&[]);
        let value = start + rest.len();
        let tail = value + item.value.len();
        self.0[start..value].copy_from_slice(rest);
        self.0[value..tail].copy_from_slice(item.value);
        self.0[tail..tail + item.tail.len()].copy_from_slice(item.tail);
    }

    fn open_slot(&mut self, index: usize, head: u32, at: usize) {
        let (slot, end, count) = {
            let page = self.page();
            (page.slot_at(index), page.slots_end(), page.count())
        };
        self.0.copy_within(slot..end, slot + SLOT);
        self.0[slot..slot + 4].copy_from_slice(&head.to_be_bytes());
        put_u16(self.0, slot + 4, at);
        put_u16(self.0, field::COUNT, count + 1);
    }

    fn add_live(&mut self, delta: i64) {
        let live = get_u64(self.0, field::LIVE).wrapping_add_signed(delta);
        put_u64(self.0, field::LIVE, live);
    }
}

/// What an entry adds to the page's live count.
fn live_of(page: Page<'_>, flags: u8, value: &[u8]) -> u64 {
    if page.is_leaf() { u64::from(flags & LIVE) } else { Child::parse(value).live }
}
