//! From a folder to an engine: creating the first state, and reading the last durable one.
//!
//! Opening first writes the superblock it chose once more and syncs it. A killed process may have
//! left one that only the system's cache holds; without this, the files of the state before it
//! would be removed while a power cut could still bring that state back.
//!
//! Worked example: copies 0 and 1 hold sequence 7, copies 2 and 3 were being overwritten with 8 and
//! tore: 7 counts, its manifest leads to the files, and the files that 8 would have led to are
//! removed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use holdfast_core::message::SnapshotMeta;
use holdfast_core::mutant;
use holdfast_core::rng::Rng;
use holdfast_core::store::{Batch, Fault, View};

use super::commit::data_file;
use super::files::{DataFile, FOLDER, Files, Kind, PIECE_BYTES};
use super::lane::Lane;
use super::row::{self, KEYS};
use super::state::{State, live_bytes};
use super::{Durable, Engine, EngineIdentity, EngineOptions};
use crate::checkpoint::{FileRef, Frozen, MANIFEST_BYTES_MAX, Manifest, Next, Writing, Written};
use crate::disk::{BLOCK, Disk, DiskOp, FileName};
use crate::segment::Values;
use crate::segment::cache::BlockCache;
use crate::segment::sealed::{Sealed, Source};
use crate::snapshot::Snapshot;
use crate::superblock::{MEMBERS_MAX, Pair, Superblock};
use crate::transfer::{Receiver, Sender};
use crate::tree::Tree;

const OPENING: &str = "cannot open the data of this member; restore it from a snapshot, or remove \
                       the member and add it again";
const CREATING: &str = "cannot create the data of this member";

impl Engine {
    /// Whether a state was ever made here.
    pub fn exists(disk: &dyn Disk) -> Result<bool, Fault> {
        let files = list(disk, OPENING)?;
        Ok(files.iter().any(|(file, _)| *file == Superblock::file()))
    }

    /// Whose state is here.
    pub fn identity(disk: &dyn Disk) -> Result<EngineIdentity, Fault> {
        Superblock::read(disk).map(|(superblock, _)| superblock.identity)
    }

    /// Makes the first state, durably: what `genesis` leads to from nothing, which is what `meta`
    /// stands for. The folder must hold no superblock; what else it holds is removed.
    pub fn create(
        disk: Arc<dyn Disk>,
        identity: EngineIdentity,
        options: EngineOptions,
        genesis: Batch,
        meta: SnapshotMeta,
    ) -> Result<Engine, Fault> {
        let refuse = |cause: &str| Err(Fault::new(CREATING, FOLDER, cause));
        if Engine::exists(&*disk)? {
            return refuse("there is a state already");
        }
        if meta.voters.len() + meta.learners.len() > MEMBERS_MAX {
            return refuse("the cluster has too many members");
        }
        assert_eq!(meta.at, genesis.mark().applied, "a checkpoint is of the state it stands for");
        remove_leftovers(&*disk, &BTreeSet::new())?;
        let mut files = Files::new(name_rng(&options, identity, 0), BTreeSet::new());
        let mut state = State::empty(source(&disk, &options));
        state.absorb(&mut genesis.clone());
        let snapshot = state.publish();
        let frozen = Frozen {
            meta,
            mark: snapshot.mark(),
            cluster: identity.cluster,
            root: snapshot.root().clone(),
            run: snapshot.values().active.clone(),
            sealed: Arc::default(),
            ids: [(); 3].map(|()| files.fresh_id()),
        };
        let written = write_now(&*disk, &Writing::new(frozen), &state.values.source.cache)?;
        let sealed = written.sealed.clone();
        let birth = name_rng(&options, identity, 0).fork(2).next() | 1;
        let durable = first_superblock(&*disk, identity, written, birth)?;
        if let Some((segment, end)) = sealed {
            state.seal(segment, end);
        }
        Ok(Engine::assemble(disk, options, state, files, durable))
    }

    /// Reads the last durable state and removes what does not belong to it.
    pub fn open(
        disk: Arc<dyn Disk>,
        identity: EngineIdentity,
        options: EngineOptions,
    ) -> Result<Engine, Fault> {
        let (superblock, pair) = Superblock::read(&*disk)?;
        check_identity(superblock.identity, identity)?;
        let manifest = read_manifest(&*disk, &superblock)?;
        let segments = open_segments(&*disk, &manifest)?;
        let (tree, live_bytes) = load_tree(&*disk, &manifest)?;
        perform(&*disk, superblock.write(Superblock::file(), pair), OPENING)?;
        let values = Values::sealed(source(&disk, &options), segments);
        let durable = Durable {
            manifest: data_file(Kind::Manifest, superblock.manifest.id, superblock.manifest.len),
            pages: data_file(Kind::Pages, manifest.pages.id, manifest.pages.len),
            segments: values.sealed.clone(),
            superblock,
            pair,
        };
        let keep = durable.files();
        remove_leftovers(&*disk, &keep.iter().map(|file| file.name.clone()).collect())?;
        let rng = name_rng(&options, identity, durable.superblock.sequence);
        let files = Files::new(rng, keep.iter().filter_map(|file| file.id()).collect());
        let mark = if mutant::on(36) { durable.superblock.mark } else { manifest.mark };
        let state = State::new(tree, live_bytes, values, mark).mutated();
        Ok(Engine::assemble(disk, options, state, files, durable))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        options: EngineOptions,
        mut state: State,
        files: Files,
        durable: Durable,
    ) -> Engine {
        let published: Snapshot = state.publish();
        let identity = durable.superblock.identity;
        let numbers = name_rng(&options, identity, durable.superblock.sequence).fork(1);
        Engine {
            disk,
            identity,
            state,
            published,
            sequence: durable.superblock.sequence,
            durable,
            writing: None,
            committing: None,
            installing: None,
            limbo: Vec::new(),
            files,
            lane: Lane::default(),
            sender: Sender::new(options.chunk_bytes, numbers),
            receiver: Receiver::default(),
            outbox: Vec::new(),
            events: Vec::new(),
            fault: OnceLock::new(),
        }
    }
}

/// Loads the tree of a manifest, and counts the bytes its rows stand for as live. Everything is
/// checked: the whole file against its checksum, every row against what this program understands.
pub(crate) fn load_tree(disk: &dyn Disk, manifest: &Manifest) -> Result<(Tree, i64), Fault> {
    let file = Kind::Pages.file(manifest.pages.id);
    let damaged = |cause: String| Fault::new(OPENING, file.to_string(), cause);
    let mut pages = PageReader::new(disk, &file, manifest.pages.len);
    let tree = Tree::load(&mut |page| pages.next(page), manifest.root, &file.0)?;
    let mut rest = [0; BLOCK];
    while pages.next(&mut rest)? {}
    if pages.crc.finalize() != manifest.pages.crc {
        return Err(damaged("the checksum of the pages does not match".into()));
    }
    let (mut live, mut bad) = (0, false);
    tree.scan(&[], None, &mut |key, value| {
        if !row::is_valid(key, value) {
            bad = true;
            return ControlFlow::Break(());
        }
        if key[0] == KEYS {
            live += live_bytes(&key[1..], &row::decode(value));
        }
        ControlFlow::Continue(())
    });
    match bad {
        true => Err(damaged("a row is of a format that this program does not know".into())),
        false => Ok((tree, live)),
    }
}

/// Reads a page file from front to back.
struct PageReader<'a> {
    disk: &'a dyn Disk,
    file: &'a FileName,
    len: u64,
    read: u64,
    piece: Vec<u8>,
    used: usize,
    crc: crc32fast::Hasher,
}

impl<'a> PageReader<'a> {
    fn new(disk: &'a dyn Disk, file: &'a FileName, len: u64) -> PageReader<'a> {
        let crc = crc32fast::Hasher::new();
        PageReader { disk, file, len, read: 0, piece: Vec::new(), used: 0, crc }
    }

    /// Fills `page` with the next page; false after the last.
    fn next(&mut self, page: &mut [u8; BLOCK]) -> Result<bool, Fault> {
        if self.used == self.piece.len() && !self.refill()? {
            return Ok(false);
        }
        page.copy_from_slice(&self.piece[self.used..self.used + BLOCK]);
        self.used += BLOCK;
        Ok(true)
    }

    fn refill(&mut self) -> Result<bool, Fault> {
        let len = (self.len - self.read).min(PIECE_BYTES as u64) / BLOCK as u64 * BLOCK as u64;
        self.piece.resize(len as usize, 0);
        self.used = 0;
        self.disk
            .read(self.file, self.read, &mut self.piece)
            .map_err(|error| Fault::new(OPENING, self.file.to_string(), error))?;
        self.crc.update(&self.piece);
        self.read += len;
        Ok(len > 0)
    }
}

fn check_identity(found: EngineIdentity, wanted: EngineIdentity) -> Result<(), Fault> {
    if found == wanted {
        return Ok(());
    }
    let cause = format!(
        "it holds the data of member {} of cluster {}, and this is member {} of cluster {}; check \
         --data-dir, --name and --initial-cluster",
        found.member, found.cluster, wanted.member, wanted.cluster
    );
    let what = "refuses to use the data of another member";
    Err(Fault::new(what, Superblock::file().to_string(), cause))
}

fn read_manifest(disk: &dyn Disk, superblock: &Superblock) -> Result<Manifest, Fault> {
    let reference = superblock.manifest;
    let file = Kind::Manifest.file(reference.id);
    let damaged = |cause: String| Fault::new(OPENING, file.to_string(), cause);
    let (manifest, crc) =
        load_manifest(disk, &data_file(Kind::Manifest, reference.id, reference.len))?;
    if crc != reference.crc || manifest.id != reference.id {
        return Err(damaged("it is another manifest than the superblock names".into()));
    }
    let other = manifest.mark != superblock.mark && !mutant::on(36);
    if other || manifest.root != superblock.root {
        return Err(damaged("it and the superblock disagree about the state".into()));
    }
    Ok(manifest)
}

/// Reads a manifest, and its checksum.
pub(crate) fn load_manifest(disk: &dyn Disk, file: &DataFile) -> Result<(Manifest, u32), Fault> {
    let damaged = |cause: String| Fault::new(OPENING, file.name.to_string(), cause);
    if file.len > MANIFEST_BYTES_MAX {
        return Err(damaged(format!("a manifest of {} bytes is not ours", file.len)));
    }
    let mut bytes = vec![0; file.len as usize];
    disk.read(&file.name, 0, &mut bytes).map_err(|error| damaged(error.to_string()))?;
    Manifest::decode(&bytes).map_err(damaged)
}

fn open_segments(disk: &dyn Disk, manifest: &Manifest) -> Result<Vec<Arc<Sealed>>, Fault> {
    let mut segments: Vec<Arc<Sealed>> = Vec::with_capacity(manifest.segments.len());
    for reference in &manifest.segments {
        let segment = open_segment(disk, *reference, segments.last().map(|segment| &**segment))?;
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

/// Opens the segment of a manifest that follows `before`.
pub(crate) fn open_segment(
    disk: &dyn Disk,
    reference: FileRef,
    before: Option<&Sealed>,
) -> Result<Sealed, Fault> {
    let file = data_file(Kind::Values, reference.id, reference.len);
    let damaged = |cause| Fault::new(OPENING, Kind::Values.file(reference.id).to_string(), cause);
    let segment = Sealed::open(disk, file)?;
    if FileRef::of(&segment) != reference {
        return Err(damaged("it is another segment than the manifest names"));
    }
    match before.is_some_and(|before| before.last() >= segment.first()) {
        true => Err(damaged("its revisions overlap those of the segment before it")),
        false => Ok(segment),
    }
}

fn write_now(
    disk: &dyn Disk,
    writing: &Writing,
    cache: &Arc<BlockCache>,
) -> Result<Box<Written>, Fault> {
    loop {
        match writing.next(cache) {
            Next::Order(op) => perform(disk, op, CREATING)?,
            Next::Written(written) => return Ok(written),
        }
    }
}

fn first_superblock(
    disk: &dyn Disk,
    identity: EngineIdentity,
    written: Box<Written>,
    birth: u64,
) -> Result<Durable, Fault> {
    let superblock = Superblock {
        sequence: 1,
        identity,
        mark: written.manifest.mark,
        meta: written.meta.clone(),
        manifest: written.manifest_ref,
        root: written.manifest.root,
        log_restart: Default::default(),
        birth,
    };
    let (file, pair) = (Superblock::file_unfinished(), Pair::Low);
    perform(disk, DiskOp::Create { file: file.clone(), len: Superblock::FILE_BYTES }, CREATING)?;
    perform(disk, superblock.write(file.clone(), pair), CREATING)?;
    perform(disk, DiskOp::Rename { from: file, to: Superblock::file() }, CREATING)?;
    let (manifest, pages) = (written.manifest_ref, written.manifest.pages);
    Ok(Durable {
        superblock,
        pair,
        manifest: data_file(Kind::Manifest, manifest.id, manifest.len),
        pages: data_file(Kind::Pages, pages.id, pages.len),
        segments: Arc::new(written.sealed.into_iter().map(|(segment, _)| segment).collect()),
    })
}

/// Removes the files of our own making but the superblock and those to keep.
fn remove_leftovers(disk: &dyn Disk, keep: &BTreeSet<FileName>) -> Result<(), Fault> {
    for (file, _) in list(disk, OPENING)? {
        let ours = Kind::parse(file.name()).is_some() || file == Superblock::file_unfinished();
        if ours && !keep.contains(&file) {
            perform(disk, DiskOp::Remove { file }, OPENING)?;
        }
    }
    Ok(())
}

fn list(disk: &dyn Disk, what: &str) -> Result<Vec<(FileName, u64)>, Fault> {
    disk.list(FOLDER).map_err(|error| Fault::new(what, FOLDER, error))
}

fn perform(disk: &dyn Disk, op: DiskOp, what: &str) -> Result<(), Fault> {
    let op = op.made();
    let place = op.file().map(FileName::to_string).unwrap_or_default();
    disk.perform(op).map(drop).map_err(|error| Fault::new(what, place, error))
}

fn source(disk: &Arc<dyn Disk>, options: &EngineOptions) -> Source {
    Source { disk: disk.clone(), cache: Arc::new(BlockCache::new(options.cache_bytes)) }
}

/// File names depend on the seed, the member and how far it got, so that equal seeds do not give
/// equal names to different files.
fn name_rng(options: &EngineOptions, identity: EngineIdentity, sequence: u64) -> Rng {
    Rng::new(options.seed).fork(identity.member.0).fork(identity.cluster.0).fork(sequence)
}
