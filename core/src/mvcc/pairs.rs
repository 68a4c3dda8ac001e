//! The encoded pairs of an answer, one behind the other, as the answer's message holds them.
//!
//! A pair is copied once, from where its record lies into a chunk; whoever sends the answer sends the
//! chunks. Large pairs are not copied: their bytes are shared with the store. Leaves out the rest of the
//! message.
//!
//! ```text
//!  chunk   12 len pair | 12 len pair | … | 12 len        field 2 of etcdserverpb.RangeResponse
//!  chunk   pair                                          a large one, alone and shared
//! ```
//!
//! Laws: (1) the chunks behind each other are the field, once for each pair; (2) a pair lies in the chunk
//! of its length, unless that ends there: then it is the whole next chunk.
//!
//! Worked example: a pair of 3 bytes and one of 1 MiB: the chunks are `12 03 …  12 80 80 40` and the
//! 1 MiB as the record has it.

use std::fmt;

use bytes::Bytes;

use crate::kv::{put_varint, take_varint, varint_len};
use crate::memory::Sealed;
use crate::store::Pair;

/// Field 2, length-delimited.
const TAG: u8 = 2 << 3 | 2;

/// A chunk is closed before it would grow beyond this: small enough for the allocator's heap, which gives
/// memory that was touched before.
const CHUNK_BYTES: usize = 64 << 10;

/// Pairs of at least this many bytes are shared.
const SHARED_BYTES: usize = 16 << 10;

/// The most that follows the chunks of an answer that is complete.
const REST_BYTES_MAX: usize = 4 << 10;

/// See the module.
#[derive(Clone, Default)]
pub struct Pairs {
    chunks: Vec<Bytes>,
    last: Vec<u8>,
    count: usize,
    bytes: usize,
}

impl Pairs {
    /// Adds a pair; about `more` others of its size will follow.
    pub fn push(&mut self, pair: Pair<'_>, more: usize) {
        let shared = pair.len() >= SHARED_BYTES;
        let here = 1 + varint_len(pair.len() as u64) + if shared { 0 } else { pair.len() };
        if self.last.is_empty() {
            let most = here.max(CHUNK_BYTES);
            self.last.reserve_exact(here.saturating_mul(more.saturating_add(1)).min(most));
        } else if self.last.len() + here > CHUNK_BYTES {
            self.close();
            self.last.reserve_exact(here.saturating_mul(more.saturating_add(1)).min(CHUNK_BYTES));
        }
        self.last.push(TAG);
        put_varint(&mut self.last, pair.len() as u64);
        if shared {
            self.close();
            self.chunks.push(pair.share());
            self.bytes += pair.len();
        } else {
            self.last.extend_from_slice(&pair);
        }
        self.bytes += here;
        self.count += 1;
    }

    /// All were added: what would be dear to copy once more becomes a chunk.
    pub fn finish(&mut self) {
        if self.last.len() >= REST_BYTES_MAX {
            self.close();
        }
    }

    /// Each chunk keeps its part of what the answer holds, until its last user is done with it. Chunks that
    /// are small do not.
    pub fn attach(&mut self, held: &mut Sealed) {
        let large = |chunk: &&mut Bytes| chunk.len() >= REST_BYTES_MAX;
        for chunk in self.chunks.iter_mut().filter(large) {
            let part = held.split(chunk.len());
            if part.bytes() > 0 {
                let bytes = std::mem::take(chunk);
                *chunk = Bytes::from_owner(Held { bytes, _part: part });
            }
        }
    }

    fn close(&mut self) {
        self.chunks.push(std::mem::take(&mut self.last).into());
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the field: of all chunks and the rest.
    pub fn encoded_len(&self) -> usize {
        self.bytes
    }

    /// Each pair.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut chunks = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.last[..]]);
        let mut rest: &[u8] = &[];
        std::iter::from_fn(move || {
            while rest.is_empty() {
                rest = chunks.next()?;
            }
            let (&tag, after) = rest.split_first().expect("it is not empty");
            assert!(tag == TAG, "law 1: each pair begins with its tag");
            rest = after;
            let len = take_varint(&mut rest).expect("law 2: the length is whole") as usize;
            if rest.len() < len {
                assert!(rest.is_empty(), "law 2: a pair is not cut");
                return chunks.next();
            }
            let pair;
            (pair, rest) = rest.split_at(len);
            Some(pair)
        })
    }

    /// The chunks that are complete.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// What follows them.
    pub fn rest(&self) -> &[u8] {
        &self.last
    }
}

/// A chunk and what it holds.
struct Held {
    bytes: Bytes,
    _part: Sealed,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Into<Bytes>> FromIterator<B> for Pairs {
    fn from_iter<I: IntoIterator<Item = B>>(pairs: I) -> Pairs {
        let mut all = Pairs::default();
        pairs.into_iter().for_each(|pair| all.push(Pair::whole(&pair.into()), 0));
        all
    }
}

impl PartialEq for Pairs {
    fn eq(&self, other: &Pairs) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Pairs {}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Bytes::copy_from_slice)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The dumb twin: everything in one buffer.
    fn joined(pairs: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        for pair in pairs {
            out.push(TAG);
            put_varint(&mut out, pair.len() as u64);
            out.extend_from_slice(pair);
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunks_are_the_pairs_behind_each_other(
            lengths in vec(prop_oneof![8 => 0..600usize, 1 => 16_000..17_000usize, 1 => 60_000..70_000usize], 0..400),
            more in 0..500usize,
        ) {
            let pair = |(nth, len)| Bytes::from(vec![nth as u8; len]);
            let list: Vec<Bytes> = lengths.into_iter().enumerate().map(pair).collect();
            let mut pairs = Pairs::default();
            list.iter().for_each(|pair| pairs.push(Pair::whole(pair), more));
            prop_assert!(pairs.iter().eq(list.iter()));
            prop_assert_eq!(pairs.len(), list.len());
            prop_assert_eq!(pairs.encoded_len(), joined(&list).len());
            prop_assert_eq!(&pairs, &list.iter().cloned().collect::<Pairs>());
            let copied = |chunk: &Bytes| chunk.len() <= CHUNK_BYTES || list.contains(chunk);
            prop_assert!(pairs.chunks().iter().all(copied) && pairs.rest().len() <= CHUNK_BYTES);
            prop_assert_eq!([&pairs.chunks().concat(), pairs.rest()].concat(), joined(&list));
        }
    }
}
