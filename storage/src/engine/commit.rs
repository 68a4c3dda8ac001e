//! The engine's side of a checkpoint: freeze, write, commit, and clean up behind either outcome.
//!
//! Worked example: records `r8.0` and `r9.0` are active, a checkpoint at `r9` begins, `r10.0` is
//! written. When the superblock is durable, `r10.0` alone is active; had the disk been full, all
//! three were.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use holdfast_core::message::SnapshotMeta;
use holdfast_core::mutant;
use holdfast_core::store::{Fault, View};

use super::files::{DataFile, Kind};
use super::lane::Step;
use super::{Durable, Engine, EngineEvent};
use crate::checkpoint::{Frozen, Next, Writing, Written};
use crate::disk::{DiskOp, Done, FileName, Token};
use crate::snapshot::Snapshot;
use crate::superblock::{MEMBERS_MAX, Superblock};

impl Engine {
    /// Starts a checkpoint of the last published state, which is what `meta` stands for. False
    /// while one is under way, while a snapshot is installed, and once the engine is poisoned.
    pub fn begin_checkpoint(&mut self, meta: SnapshotMeta, ops: &mut Vec<(Token, DiskOp)>) -> bool {
        let busy = self.writing.is_some() || self.committing.is_some() || self.installing.is_some();
        if busy || self.fault.get().is_some() {
            return false;
        }
        let mark = self.published.mark();
        assert_eq!(meta.at, mark.applied, "a checkpoint is of the published state");
        if mutant::on(28) {
            self.events.push(EngineEvent::Flushed { at: meta.at });
        }
        self.writing = Some(Writing::new(Frozen {
            meta,
            mark,
            cluster: self.identity.cluster,
            root: self.published.root().clone(),
            run: self.published.values().active.clone(),
            sealed: self.state.values.sealed.clone(),
            ids: [(); 3].map(|()| self.files.fresh_id()),
        }));
        self.advance_checkpoint();
        self.pump(ops);
        true
    }

    fn advance_checkpoint(&mut self) {
        let Some(writing) = &self.writing else { return };
        match writing.next(&self.state.values.source.cache) {
            Next::Order(op) => self.lane.push(Step::Checkpoint(writing.id()), op),
            Next::Written(written) => {
                self.writing = None;
                self.commit(written);
            }
        }
    }

    /// An order for a file of checkpoint `id` has completed.
    pub(super) fn checkpoint_step(&mut self, id: u64, result: io::Result<Done>) {
        let Some(writing) = self.writing.as_ref().filter(|writing| writing.id() == id) else {
            return;
        };
        match result {
            Ok(done) => {
                writing.reuse(done.buffers);
                self.advance_checkpoint();
            }
            Err(error) => {
                let place = writing.place();
                self.abandon_checkpoint(Fault::new(CHECKPOINT, place, error));
            }
        }
    }

    /// Gives the checkpoint up, if one is being written, and removes its files.
    pub(super) fn abandon_checkpoint(&mut self, cause: Fault) {
        let Some(writing) = self.writing.take() else { return };
        for file in writing.into_created() {
            self.lane.push(Step::Remove, DiskOp::Remove { file });
        }
        self.events.push(EngineEvent::CheckpointFailed { cause });
    }

    fn commit(&mut self, written: Box<Written>) {
        let members = written.meta.voters.len() + written.meta.learners.len();
        if members > MEMBERS_MAX {
            let cause = format!("{members} members do not fit; the limit is {MEMBERS_MAX}");
            self.forget_written(*written);
            let cause = Fault::new(CHECKPOINT, Superblock::file().to_string(), cause);
            self.events.push(EngineEvent::CheckpointFailed { cause });
            return;
        }
        self.sequence += 1;
        let mut mark = written.manifest.mark;
        if mutant::on(36) {
            mark = self.state.mark();
        }
        let superblock = Superblock {
            sequence: self.sequence,
            identity: self.identity,
            mark,
            meta: SnapshotMeta { at: mark.applied, ..written.meta.clone() },
            manifest: written.manifest_ref,
            root: written.manifest.root,
            log_restart: self.durable.superblock.log_restart,
            birth: self.durable.superblock.birth,
        };
        let order = superblock.write(Superblock::file(), self.durable.pair.other());
        self.committing = Some((superblock, written));
        self.lane.push(Step::Commit, order);
    }

    /// The superblock of a checkpoint was written, or not.
    pub(super) fn committed(&mut self, result: io::Result<Done>) {
        let Some((superblock, written)) = self.committing.take() else { return };
        match result {
            Ok(_) => self.adopt(superblock, *written),
            Err(error) => self.commit_failed(error, *written),
        }
        self.start_install();
    }

    fn adopt(&mut self, superblock: Superblock, mut written: Written) {
        if let Some((segment, end)) = written.sealed.take() {
            self.state.seal(segment.clone(), end);
            let mut values = self.published.values().clone();
            drop(values.seal(segment, end));
            let (mark, root) = (self.published.mark(), self.published.root().clone());
            self.published = Snapshot::new(mark, root, values, self.published.bytes());
        }
        let at = written.meta.at;
        let durable = Durable {
            pair: self.durable.pair.other(),
            manifest: data_file(Kind::Manifest, superblock.manifest.id, superblock.manifest.len),
            pages: data_file(Kind::Pages, written.manifest.pages.id, written.manifest.pages.len),
            segments: self.state.values.sealed.clone(),
            superblock,
        };
        let old = std::mem::replace(&mut self.durable, durable);
        self.retire(old.files());
        if !mutant::on(28) {
            self.events.push(EngineEvent::Flushed { at });
        }
    }

    /// Dooms those of `files`, and of the files in limbo, that the durable state does not use.
    pub(super) fn retire(&mut self, files: Vec<Arc<DataFile>>) {
        let used: BTreeSet<FileName> =
            self.durable.files().iter().map(|f| f.name.clone()).collect();
        for file in files.into_iter().chain(self.limbo.drain(..)) {
            if !used.contains(&file.name) {
                self.files.doom(file);
            }
        }
    }

    /// Whether the new superblock reached the disk is unknown, so the files of both states stay
    /// until a later one is durable. The next attempt writes the same pair of copies.
    fn commit_failed(&mut self, error: io::Error, written: Written) {
        let cause = Fault::new(CHECKPOINT, Superblock::file().to_string(), &error);
        if !is_full(&error) {
            return self.poison(cause);
        }
        self.limbo.extend(written.files().map(Arc::new));
        self.events.push(EngineEvent::CheckpointFailed { cause });
    }

    /// Removes the files of a checkpoint whose superblock was never written.
    fn forget_written(&mut self, written: Written) {
        for file in written.files() {
            self.lane.push(Step::Remove, DiskOp::Remove { file: file.name });
        }
    }
}

/// A file of the durable state.
pub(super) fn data_file(kind: Kind, id: u64, len: u64) -> Arc<DataFile> {
    let name: FileName = kind.file(id);
    Arc::new(DataFile { name, len })
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) const CHECKPOINT: &str = "cannot write a checkpoint";
