//! A bounded cache of verified blocks, shared by every snapshot of an engine.
//!
//! Second chance: a hit sets a mark; when room is needed the oldest block goes, unless it is
//! marked, in which case it loses the mark and becomes the youngest. One mutex guards it, held for
//! a map operation and never over a read of the disk.
//!
//! Law: the bytes held never exceed the budget.
//!
//! Worked example: a budget of two blocks, `a` and `b` held, `a` used since: inserting `c` removes
//! `b`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use super::block::Block;

/// A block's place: segment id and block number.
pub(crate) type Key = (u64, u32);

/// The cache.
#[derive(Debug)]
pub(crate) struct BlockCache {
    budget: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: BTreeMap<Key, Entry>,
    order: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    block: Block,
    used: bool,
}

impl BlockCache {
    /// A cache that holds at most `budget` bytes.
    pub(crate) fn new(budget: usize) -> BlockCache {
        BlockCache { budget, state: Mutex::default() }
    }

    /// The block at `key`, if it is held.
    pub(crate) fn get(&self, key: Key) -> Option<Block> {
        let mut state = self.lock();
        let entry = state.blocks.get_mut(&key)?;
        entry.used = true;
        Some(entry.block.clone())
    }

    /// Holds a block, if it fits at all.
    pub(crate) fn insert(&self, key: Key, block: Block) {
        let size = block.len();
        if size > self.budget {
            return;
        }
        let mut state = self.lock();
        if state.blocks.contains_key(&key) {
            return;
        }
        while state.bytes + size > self.budget {
            state.evict();
        }
        state.bytes += size;
        state.order.push_back(key);
        state.blocks.insert(key, Entry { block, used: false });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no code that holds the cache can panic")
    }
}

impl State {
    fn evict(&mut self) {
        let key = self.order.pop_front().expect("a cache over budget holds a block");
        let entry = self.blocks.get_mut(&key).expect("the order lists the blocks held");
        if std::mem::take(&mut entry.used) {
            self.order.push_back(key);
            return;
        }
        self.bytes -= entry.block.len();
        self.blocks.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_core::id::RevSub;
    use holdfast_core::store::Record;

    use super::super::block::BlockBuilder;
    use super::*;

    fn block(number: u32) -> Block {
        let first = RevSub::new(5, 0);
        let mut builder = BlockBuilder::default();
        let kv = Bytes::from_static(&[7; 100]);
        builder.push(&Record { at: first, prev: None, tombstone: false, kv });
        builder.finish(1, number)
    }

    #[test]
    fn stays_within_its_budget_and_keeps_what_is_used() {
        let size = block(0).len();
        let cache = BlockCache::new(size * 4);
        for number in 0..50 {
            cache.insert((1, number), block(number));
            assert!(cache.get((1, 0)).is_some(), "block 0 is used all the time");
            assert!(cache.lock().bytes <= size * 4);
        }
        assert!(cache.get((1, 20)).is_none());
        assert_eq!(cache.lock().blocks.len(), 4);
        BlockCache::new(size - 1).insert((1, 0), block(0));
    }
}
