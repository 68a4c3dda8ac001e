//! A growable run of bytes in page-aligned anonymous memory, so that it can be written with O_DIRECT.

use std::fmt;

use memmap2::MmapMut;

use super::BLOCK;

/// Like a `Vec<u8>`, but aligned to [`BLOCK`] and given back for reuse by the disk.
pub struct Buffer {
    memory: MmapMut,
    len: usize,
}

impl Buffer {
    /// An empty buffer with room for `capacity` bytes, rounded up to whole blocks.
    pub fn with_capacity(capacity: usize) -> Buffer {
        let size = capacity.max(1).next_multiple_of(BLOCK);
        let memory = MmapMut::map_anon(size).expect("anonymous memory can be mapped");
        Buffer { memory, len: 0 }
    }

    /// A buffer holding `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    /// Adds bytes at the end, growing when needed.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.reserve(end);
        self.memory[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// Adds zero bytes up to the next multiple of `unit`.
    pub fn pad_to(&mut self, unit: usize) {
        let end = self.len.next_multiple_of(unit);
        self.reserve(end);
        self.memory[self.len..end].fill(0);
        self.len = end;
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Bytes it can hold without growing.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    fn reserve(&mut self, end: usize) {
        if end > self.memory.len() {
            let mut larger = Buffer::with_capacity(end.max(self.memory.len() * 2));
            larger.memory[..self.len].copy_from_slice(&self.memory[..self.len]);
            self.memory = larger.memory;
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from_slice(self)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}
