//! The sealed files of a data folder: their names, who still needs them, and when they go.
//!
//! A file's name is a random 64-bit id and a kind: `data/0123456789abcdef.values`. Ids are unique
//! across members, so a file that travels keeps its name. Whoever reads a file holds its
//! [`DataFile`]; a file that no checkpoint refers to any more is *doomed* and removed once nobody
//! holds it.
//!
//! Law: a doomed file is removed only when the superblock that no longer refers to it is durable.
//!
//! Worked example: a checkpoint replaces `…01.pages` while it is sent to a peer: it is doomed at
//! once and removed when the transfer ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_core::rng::Rng;

use crate::disk::{DiskOp, FileName};

/// The folder of the superblock and of every sealed file.
pub(crate) const FOLDER: &str = "data";

/// Bytes that background work handles in one go.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// What a sealed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A value segment.
    Values,
    /// The pages of the key tree.
    Pages,
    /// A manifest.
    Manifest,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Values, Kind::Pages, Kind::Manifest];

    fn suffix(self) -> &'static str {
        match self {
            Kind::Values => "values",
            Kind::Pages => "pages",
            Kind::Manifest => "manifest",
        }
    }

    /// The file of this kind with an id.
    pub(crate) fn file(self, id: u64) -> FileName {
        FileName::new(FOLDER, &format!("{id:016x}.{}", self.suffix()))
    }

    /// Kind and id of a name without its folder, if it is one that this program makes.
    pub(crate) fn parse(name: &str) -> Option<(Kind, u64)> {
        let (id, suffix) = name.split_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        let id = u64::from_str_radix(id, 16).ok()?;
        (kind.file(id).name() == name).then_some((kind, id))
    }
}

/// A sealed file; held by everyone who may still read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    pub(crate) name: FileName,
    pub(crate) len: u64,
}

impl DataFile {
    /// The id in its name.
    pub(crate) fn id(&self) -> Option<u64> {
        Kind::parse(self.name.name()).map(|(_, id)| id)
    }
}

/// Gives out names and removes files.
#[derive(Debug)]
pub(crate) struct Files {
    rng: Rng,
    taken: BTreeSet<u64>,
    doomed: Vec<Arc<DataFile>>,
}

impl Files {
    /// Draws names from `rng`, never one of the ids in `taken`.
    pub(crate) fn new(rng: Rng, taken: BTreeSet<u64>) -> Files {
        Files { rng, taken, doomed: Vec::new() }
    }

    /// An id that no file here has.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        loop {
            let id = self.rng.next();
            if self.taken.insert(id) {
                return id;
            }
        }
    }

    /// From now on the file exists.
    pub(crate) fn take(&mut self, file: &DataFile) {
        self.taken.extend(file.id());
    }

    /// The durable state does not need the file any more.
    pub(crate) fn doom(&mut self, file: Arc<DataFile>) {
        self.doomed.push(file);
    }

    /// Orders for the doomed files that nobody else holds.
    pub(crate) fn sweep(&mut self) -> Vec<DiskOp> {
        let (free, held): (Vec<_>, Vec<_>) =
            self.doomed.drain(..).partition(|file| Arc::strong_count(file) == 1);
        self.doomed = held;
        free.into_iter()
            .map(|file| {
                if let Some(id) = file.id() {
                    self.taken.remove(&id);
                }
                DiskOp::Remove { file: file.name.clone() }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_recognised() {
        let name = Kind::Pages.file(0xabc);
        assert_eq!(&*name.0, "data/0000000000000abc.pages");
        assert_eq!(Kind::parse(name.name()), Some((Kind::Pages, 0xabc)));
        for name in [
            "",
            ".",
            "superblock",
            "abc.pages",
            "0000000000000ABC.pages",
            "+000000000000abc.pages",
            "0000000000000abc.page",
            "../0000000000000abc.pages",
            "0000000000000abc.pages.x",
            "00000000000000abc.pages",
        ] {
            assert_eq!(Kind::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_doomed_file_waits_for_its_readers() {
        let mut files = Files::new(Rng::new(1), BTreeSet::new());
        let file = Arc::new(DataFile { name: Kind::Values.file(7), len: 0 });
        let reader = file.clone();
        files.doom(file);
        assert!(files.sweep().is_empty());
        drop(reader);
        assert_eq!((files.sweep().len(), files.sweep().len()), (1, 0));
    }
}
