//! A bounded cache of verified blocks, shared by every snapshot of an engine.
//!
//! Blocks that a checkpoint has just made come young, and go if nobody has used them when a quarter of the budget is
//! full of young ones. A young block that was used grows old instead, and one that was read from the disk is old at
//! once, for somebody uses it. Among the old, second chance decides: when room is needed the oldest goes, unless it
//! was used since, in which case it becomes the youngest of them. So what is written and never read holds no more
//! than a quarter of the budget. One mutex guards it all, held for a map operation and never over a read of the disk.
//!
//! Law: the bytes of young blocks never exceed a quarter of the budget, nor those of old ones the rest.
//!
//! Worked example: a budget of eight blocks, `a` and `b` just made, `a` used since: when `c` is made, `a` grows old,
//! and when `d` is made, `b` is gone.

use std::collections::{HashMap, VecDeque};
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
    blocks: HashMap<Key, Entry>,
    young: Queue,
    old: Queue,
}

/// Blocks in the order in which they came, and their bytes.
#[derive(Debug, Default)]
struct Queue {
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

    /// Holds a block that was read, if it fits at all.
    pub(crate) fn insert(&self, key: Key, block: Block) {
        let (size, part) = (block.len(), self.budget - self.budget / 4);
        let mut state = self.lock();
        if size > part || state.blocks.contains_key(&key) {
            return;
        }
        state.make_room(size, part);
        state.old.push(key, size);
        state.blocks.insert(key, Entry { block, used: false });
    }

    /// Holds a block that was made, if it fits at all.
    pub(crate) fn insert_made(&self, key: Key, block: Block) {
        let (size, part) = (block.len(), self.budget / 4);
        let mut state = self.lock();
        if size > part || state.blocks.contains_key(&key) {
            return;
        }
        while state.young.bytes + size > part {
            state.grow_old(self.budget - part);
        }
        state.young.push(key, size);
        state.blocks.insert(key, Entry { block, used: false });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no code that holds the cache can panic")
    }
}

impl Queue {
    fn push(&mut self, key: Key, size: usize) {
        self.bytes += size;
        self.order.push_back(key);
    }
}

impl State {
    /// The first of the young grows old if it was used, else it goes. The old keep within their part.
    fn grow_old(&mut self, part: usize) {
        let key = self.young.order.pop_front().expect("a queue over its part holds a block");
        let entry = self.blocks.get_mut(&key).expect("the queues list the blocks held");
        let size = entry.block.len();
        self.young.bytes -= size;
        if !std::mem::take(&mut entry.used) {
            self.blocks.remove(&key);
            return;
        }
        self.make_room(size, part);
        self.old.push(key, size);
    }

    fn make_room(&mut self, size: usize, part: usize) {
        while self.old.bytes + size > part {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let key = self.old.order.pop_front().expect("a queue over its part holds a block");
        let entry = self.blocks.get_mut(&key).expect("the queues list the blocks held");
        if std::mem::take(&mut entry.used) {
            self.old.order.push_back(key);
            return;
        }
        self.old.bytes -= entry.block.len();
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
    fn what_is_made_and_not_used_holds_a_quarter() {
        let size = block(0).len();
        let cache = BlockCache::new(size * 8);
        for number in 0..50 {
            cache.insert_made((1, number), block(number));
            assert!(cache.get((1, 0)).is_some(), "block 0 is used all the time");
            let state = cache.lock();
            assert!(state.young.bytes <= size * 2 && state.old.bytes <= size * 6);
        }
        assert!(cache.get((1, 20)).is_none());
        assert_eq!(cache.lock().blocks.len(), 3, "two young ones and the one that is used");
        BlockCache::new(size - 1).insert((1, 0), block(0));
    }

    #[test]
    fn what_was_read_has_the_rest_and_what_is_read_again_stays() {
        let size = block(0).len();
        let cache = BlockCache::new(size * 8);
        for number in 0..20 {
            cache.insert((1, number), block(number));
            assert!(cache.get((1, 3)).is_some() || number < 3, "block 3 again and again");
            assert!(cache.lock().old.bytes <= size * 6);
        }
        assert!((16..20).all(|number| cache.get((1, number)).is_some()), "the last ones");
        assert_eq!(cache.lock().blocks.len(), 6);
    }
}
