//! Overflow pages: the tail of a long key, or a long value, as a chain of resident frames. Who owns a
//! chain (always exactly one entry) is decided by the callers.
//!
//! Laws:
//!  1. Every page of a chain but the last is full.
//!  2. The chain holds exactly `Tail::len` bytes, at least one.
//!
//! Worked example: a key of 5,000 bytes keeps 256 in its leaf; 4,744 follow in a chain of two.

use std::cmp::Ordering;

use super::frame::{Frame, Frames, View};
use super::page::{HEADER, Image, Kind, SIZE, Tail, field, get_u16, get_u32, put_u16, put_u32};

/// Data bytes in one overflow page.
pub(super) const ROOM: usize = SIZE - HEADER;

/// The reference of the last page of a chain to the next.
pub(super) const END: u32 = u32::MAX;

/// The bytes an overflow page carries.
pub(super) fn data(image: &Image) -> &[u8] {
    &image[HEADER..HEADER + get_u16(image, field::COUNT)]
}

/// The page after this one.
pub(super) fn next(image: &Image) -> Option<Frame> {
    let next = get_u32(image, field::NEXT);
    (next != END).then_some(Frame(next))
}

/// Stores `bytes`, which are not empty, in a new chain.
pub(super) fn store(frames: &mut Frames, bytes: &[u8]) -> Tail {
    let len = u32::try_from(bytes.len()).expect("keys and values are far below 4 GiB");
    let mut following = Frame(END);
    for part in bytes.chunks(ROOM).rev() {
        let frame = frames.take();
        let image = frames.image_mut(frame);
        image.fill(0);
        image[field::KIND] = Kind::Overflow as u8;
        put_u16(image, field::COUNT, part.len());
        put_u32(image, field::NEXT, following.0);
        image[HEADER..HEADER + part.len()].copy_from_slice(part);
        following = frame;
    }
    Tail { first: following, len }
}

/// Takes back the frames of a chain.
pub(super) fn retire(frames: &mut Frames, tail: Tail) {
    let mut at = Some(tail.first);
    while let Some(frame) = at {
        at = next(frames.view().image(frame));
        frames.retire(frame);
    }
}

/// The frames of a chain, in order.
pub(super) fn frames_of(view: View<'_>, tail: Tail) -> impl Iterator<Item = Frame> {
    std::iter::successors(Some(tail.first), move |frame| next(view.image(*frame)))
}

/// Appends the bytes of a chain.
pub(super) fn append(view: View<'_>, tail: Tail, out: &mut Vec<u8>) {
    out.reserve(tail.len as usize);
    for frame in frames_of(view, tail) {
        out.extend_from_slice(data(view.image(frame)));
    }
}

/// How the bytes of a chain compare with `other`.
pub(super) fn compare(view: View<'_>, tail: Tail, mut other: &[u8]) -> Ordering {
    for frame in frames_of(view, tail) {
        let part = data(view.image(frame));
        let common = part.len().min(other.len());
        let order = part[..common].cmp(&other[..common]);
        if order != Ordering::Equal {
            return order;
        }
        if common < part.len() {
            return Ordering::Greater;
        }
        other = &other[common..];
    }
    if other.is_empty() { Ordering::Equal } else { Ordering::Less }
}
