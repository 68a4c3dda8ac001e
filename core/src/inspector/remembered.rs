//! The hashes of a member's last compactions, in memory: all its edges answer HashKV from them.
//!
//! Laws: (1) at most [`CompactionHashes::MAX`] are kept, those of the highest revisions; (2) one is found by
//! its revision, and by what it was compacted at before, if the asker says so. They end with the process, as
//! etcd's do.
//!
//! Worked example: compactions to r5 and r9 leave two hashes: at r5 compacted at r-1, and at r9 compacted at
//! r5. HashKV at r5 answers the first, though r5 can no longer be read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Revision;
use crate::mvcc::hash::KvHash;

/// See the module; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct CompactionHashes(Arc<Mutex<VecDeque<KvHash>>>);

impl CompactionHashes {
    /// Most that are kept (etcd's number).
    pub const MAX: usize = 10;

    /// Remembers one.
    pub fn remember(&self, hash: KvHash) {
        let mut hashes = self.lock();
        let place = hashes.partition_point(|known| known.revision < hash.revision);
        hashes.insert(place, hash);
        if hashes.len() > CompactionHashes::MAX {
            hashes.pop_front();
        }
    }

    /// That of the compaction to a revision.
    pub fn find(&self, revision: Revision, compacted: Option<Revision>) -> Option<KvHash> {
        let fits = |hash: &&KvHash| {
            hash.revision == revision && compacted.is_none_or(|before| before == hash.compacted)
        };
        self.lock().iter().find(fits).copied()
    }

    /// All of them, ascending.
    pub fn all(&self) -> Vec<KvHash> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<KvHash>> {
        // No panic can leave it half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(revision: i64, compacted: i64) -> KvHash {
        KvHash { hash: 7, compacted: Revision(compacted), revision: Revision(revision) }
    }

    #[test]
    fn ten_are_kept_and_found_by_what_they_were_compacted_at() {
        let hashes = CompactionHashes::default();
        (1..=12).for_each(|at| hashes.clone().remember(hash(at * 10, at * 10 - 10)));
        assert_eq!(hashes.all().len(), CompactionHashes::MAX);
        assert_eq!(hashes.find(Revision(20), None), None);
        assert_eq!(hashes.find(Revision(30), None), Some(hash(30, 20)));
        assert_eq!(hashes.find(Revision(30), Some(Revision(20))), Some(hash(30, 20)));
        assert_eq!(hashes.find(Revision(30), Some(Revision(10))), None);
        assert_eq!(hashes.find(Revision(31), None), None);
    }
}
