//! Small buffers cut from larger ones: many short byte strings for one allocation.
//!
//! What is cut from a chunk keeps the whole chunk alive, so an arena is for bytes that come and go
//! together: the messages of one read, the records of one stretch of revisions. What would fill a
//! good part of a chunk gets memory of its own.
//!
//! Law: a piece holds at most one chunk, and an arena at most one that has room left.
//!
//! Price: up to [`CHUNK_BYTES`] that one forgotten small piece holds.
//!
//! Worked example: with chunks of 16 KiB, forty puts of 300 bytes share one allocation, and a value of
//! 10 KiB has its own.

use bytes::{Bytes, BytesMut};

/// Bytes that are allocated at once.
pub const CHUNK_BYTES: usize = 16 << 10;

/// From this length on a piece is allocated alone.
const ALONE_BYTES: usize = CHUNK_BYTES / 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Arena {
    chunk: BytesMut,
    scratch: Vec<u8>,
}

impl Arena {
    /// A copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() >= ALONE_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        if self.chunk.capacity() < bytes.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }

    /// What `write` appends to the empty buffer that it is lent.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write(&mut scratch);
        if scratch.len() >= ALONE_BYTES {
            return scratch.into();
        }
        let piece = self.copy(&scratch);
        self.scratch = scratch;
        piece
    }
}

/// A copy has a chunk of its own.
impl Clone for Arena {
    fn clone(&self) -> Arena {
        Arena::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_was_given_and_share_chunks() {
        let mut arena = Arena::default();
        let lens = [0, 1, 300, ALONE_BYTES - 1, ALONE_BYTES, CHUNK_BYTES, 7];
        let pieces: Vec<(Bytes, Vec<u8>)> = (0..700)
            .map(|i| {
                let bytes = vec![i as u8; lens[i % lens.len()]];
                let piece = match i % 2 {
                    0 => arena.copy(&bytes),
                    _ => arena.write(|out| out.extend_from_slice(&bytes)),
                };
                (piece, bytes)
            })
            .collect();
        for (piece, bytes) in pieces {
            assert_eq!(piece, bytes);
        }
        let (one, two) = (arena.copy(b"one"), arena.copy(b"two"));
        assert_eq!(two.as_ptr() as usize - one.as_ptr() as usize, 3, "neighbours in one chunk");
    }
}
