//! A checkpoint: one state as sealed files, written piece by piece in the background.
//!
//! Freezing takes a published root and the records not yet in files; nothing pauses. Then, one
//! disk order at a time: the value segment (if there are records for one), the pages of the tree,
//! the manifest. The superblock that makes it the member's state is written by the engine, last.
//! Until then nothing refers to the new files, so abandoning one means removing them. What is written is made
//! where it is written, on the disk's thread: nothing of it depends on what happens meanwhile.
//!
//! ```text
//! manifest   magic "HFMANIFS" | format u32 = 1 | segments u32 | id u64 | cluster u64
//!            | mark: index u64, term u64, revision i64, compacted i64
//!            | root: page u64, crc32 u32 | pages: id u64, length u64, crc32 u32
//!            | per segment: id u64, length u64, footer crc32 u32
//!            | zeros | crc32 u32        the length is a multiple of 4096
//! ```
//!
//! The manifest's crc is over all that precedes it. The pages' crc is over their whole file, a
//! segment's is that of its footer; so the manifest's crc names the content of the whole state.
//!
//! Worked example: nothing but table rows changed since the last one: no value segment, a page
//! file, a manifest that lists the same segments as before.

use std::sync::{Arc, Mutex, MutexGuard};

use holdfast_core::id::ClusterId;
use holdfast_core::message::SnapshotMeta;
use holdfast_core::mutant;
use holdfast_core::store::Mark;

use crate::disk::{BLOCK, Buffer, DiskOp, FileName, Job};
use crate::engine::files::{DataFile, Kind, PIECE_BYTES};
use crate::engine::numbers::{Reader, put_u32, put_u64};
use crate::segment::active::Run;
use crate::segment::block::BLOCK_BYTES;
use crate::segment::cache::BlockCache;
use crate::segment::sealed::Sealed;
use crate::segment::writer::SegmentWriter;
use crate::superblock::{ManifestRef, put_mark, put_page, take_mark, take_page};
use crate::tree::PageRef;

mod pages;

use pages::PageFile;

/// A manifest longer than this is not ours: two million segments.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

const MAGIC: &[u8; 8] = b"HFMANIFS";
const FORMAT: u32 = 1;

/// The files of a state, and what they must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) id: u64,
    pub(crate) cluster: ClusterId,
    pub(crate) mark: Mark,
    pub(crate) root: PageRef,
    pub(crate) pages: FileRef,
    pub(crate) segments: Vec<FileRef>,
}

/// A file and the crc that names its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRef {
    pub(crate) id: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl FileRef {
    /// The reference to a sealed segment.
    pub(crate) fn of(segment: &Sealed) -> FileRef {
        FileRef { id: segment.footer.segment, len: segment.file.len, crc: segment.crc }
    }

    fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        put_u64(out, self.len);
        put_u32(out, self.crc);
    }

    fn take(reader: &mut Reader<'_>) -> Option<FileRef> {
        Some(FileRef { id: reader.u64()?, len: reader.u64()?, crc: reader.u32()? })
    }
}

impl Manifest {
    /// Its bytes, and how the superblock refers to it.
    pub(crate) fn encode(&self) -> (Vec<u8>, ManifestRef) {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, FORMAT);
        put_u32(&mut out, self.segments.len() as u32);
        put_u64(&mut out, self.id);
        put_u64(&mut out, self.cluster.0);
        put_mark(&mut out, &self.mark);
        put_page(&mut out, self.root);
        self.pages.put(&mut out);
        self.segments.iter().for_each(|segment| segment.put(&mut out));
        out.resize((out.len() + 4).next_multiple_of(BLOCK) - 4, 0);
        let crc = crc32fast::hash(&out);
        put_u32(&mut out, crc);
        let len = out.len() as u64;
        (out, ManifestRef { id: self.id, len, crc })
    }

    /// Reads what [`Manifest::encode`] made, and the crc at its end.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Manifest, u32), String> {
        let (covered, stated) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
        let mut reader = Reader::new(covered);
        if reader.take(8) != Some(MAGIC) {
            return Err("it is not a manifest".into());
        }
        let crc = crc32fast::hash(covered);
        if crc != u32::from_le_bytes(*stated) {
            return Err("its checksum does not match".into());
        }
        let format = reader.u32().ok_or("it is too short")?;
        if format != FORMAT {
            return Err(format!("its format is {format}; this program reads format {FORMAT}"));
        }
        let manifest = Manifest::fields(&mut reader).ok_or("it is too short")?;
        Ok((manifest, crc))
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Manifest> {
        let segments = reader.u32()?;
        let (id, cluster) = (reader.u64()?, ClusterId(reader.u64()?));
        let mark = take_mark(reader)?;
        let root = take_page(reader)?;
        let pages = FileRef::take(reader)?;
        let segments = (0..segments).map(|_| FileRef::take(reader)).collect::<Option<_>>()?;
        Some(Manifest { id, cluster, mark, root, pages, segments })
    }

    /// Every file of the state but the manifest itself, in the order in which they are sent.
    pub(crate) fn files(&self) -> impl Iterator<Item = DataFile> + '_ {
        let segments = self.segments.iter().map(|file| (Kind::Values, *file));
        let all = segments.chain([(Kind::Pages, self.pages)]);
        all.map(|(kind, file)| DataFile { name: kind.file(file.id), len: file.len })
    }
}

/// A checkpoint whose files are all durable.
pub(crate) struct Written {
    pub(crate) meta: SnapshotMeta,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_ref: ManifestRef,
    pub(crate) sealed: Option<SealedRun>,
}

/// A new segment, and the ordinal after its last record.
pub(crate) type SealedRun = (Arc<Sealed>, u64);

impl Written {
    /// The files that only this checkpoint refers to.
    pub(crate) fn files(&self) -> impl Iterator<Item = DataFile> + '_ {
        let ManifestRef { id, len, .. } = self.manifest_ref;
        let manifest = DataFile { name: Kind::Manifest.file(id), len };
        let FileRef { id, len, .. } = self.manifest.pages;
        let pages = DataFile { name: Kind::Pages.file(id), len };
        let sealed = self.sealed.iter().map(|(segment, _)| DataFile::clone(&segment.file));
        [manifest, pages].into_iter().chain(sealed)
    }
}

/// What a checkpoint is made of.
pub(crate) struct Frozen {
    pub(crate) meta: SnapshotMeta,
    pub(crate) mark: Mark,
    pub(crate) cluster: ClusterId,
    pub(crate) root: crate::tree::Root,
    pub(crate) run: Run,
    pub(crate) sealed: Arc<Vec<Arc<Sealed>>>,
    /// Ids for the segment, the pages and the manifest.
    pub(crate) ids: [u64; 3],
}

/// A checkpoint under way.
pub(crate) struct Writing {
    id: u64,
    state: Arc<Mutex<State>>,
}

/// What is shared with the thread that makes a piece. One order is under way at a time, so nobody waits for
/// it but who abandons the checkpoint.
struct State {
    frozen: Frozen,
    phase: Phase,
    output: Output,
    /// The last piece's memory, for the next one: fresh memory costs a page fault for each 4 KiB.
    spare: Option<Buffer>,
    created: Vec<FileName>,
    sealed: Option<SealedRun>,
}

enum Phase {
    Values(Box<SegmentWriter>),
    Pages(Box<PageFile>),
    Manifest(Box<Manifest>, ManifestRef),
    Over,
}

/// What comes next.
pub(crate) enum Next {
    /// This order; ask again when it has completed.
    Order(DiskOp),
    /// All files are durable.
    Written(Box<Written>),
}

impl Writing {
    /// Freezes; no order is given yet.
    pub(crate) fn new(frozen: Frozen) -> Writing {
        let [values, pages, id] = frozen.ids;
        let (phase, output) = match frozen.run.len() {
            0 => (Phase::pages(&frozen), Output::new(Kind::Pages.file(pages))),
            _ => {
                let writer = SegmentWriter::new(values, frozen.run.clone());
                (Phase::Values(Box::new(writer)), Output::new(Kind::Values.file(values)))
            }
        };
        let (spare, created, sealed) = (None, Vec::new(), None);
        let state = State { frozen, phase, output, spare, created, sealed };
        Writing { id, state: Arc::new(Mutex::new(state)) }
    }

    /// What comes next. Not to be asked again after [`Next::Written`].
    pub(crate) fn next(&self, cache: &Arc<BlockCache>) -> Next {
        let mut state = lock(&self.state);
        loop {
            if !state.output.created {
                let file = state.output.file.clone();
                state.created.push(file);
                return Next::Order(state.output.create());
            }
            if !state.output.finished {
                let (state, cache) = (self.state.clone(), cache.clone());
                return Next::Order(DiskOp::Make(Job::new(move || lock(&state).piece(&cache))));
            }
            if let Some(written) = state.end_phase() {
                return Next::Written(written);
            }
        }
    }

    /// Takes the memory of a piece that was written.
    pub(crate) fn reuse(&self, buffers: Vec<Buffer>) {
        lock(&self.state).spare = buffers.into_iter().next();
    }

    /// What it is told apart by.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The file it is at.
    pub(crate) fn place(&self) -> String {
        lock(&self.state).output.file.to_string()
    }

    /// The files it may have made, to be removed when it is abandoned.
    pub(crate) fn into_created(self) -> Vec<FileName> {
        std::mem::take(&mut lock(&self.state).created)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("what makes a piece does not panic")
}

impl State {
    fn piece(&mut self, cache: &BlockCache) -> DiskOp {
        // The last block of values goes over the piece.
        let fresh = || Buffer::with_capacity(PIECE_BYTES + BLOCK_BYTES + BLOCK);
        let mut buffer = self.spare.take().unwrap_or_else(fresh);
        buffer.clear();
        let last = match &mut self.phase {
            Phase::Values(writer) => writer.next(cache, &mut buffer),
            Phase::Pages(pages) => pages.next(&mut buffer),
            Phase::Manifest(manifest, _) => {
                buffer.extend(&manifest.encode().0);
                true
            }
            Phase::Over => unreachable!("the last phase has given its only piece"),
        };
        self.output.write(buffer, last)
    }

    /// The file at hand is complete: on to the next, or done.
    fn end_phase(&mut self) -> Option<Box<Written>> {
        let [_, pages_id, manifest_id] = self.frozen.ids;
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Values(writer) => {
                let end = writer.end();
                let name = self.output.file.clone();
                self.sealed = Some((Arc::new(writer.finish(name)), end));
                self.phase = Phase::pages(&self.frozen);
                self.output = Output::new(Kind::Pages.file(pages_id));
                None
            }
            Phase::Pages(pages) => {
                let (root, pages) = pages.finish(pages_id, self.output.offset);
                let manifest = self.frozen.manifest(root, pages, self.sealed.as_ref());
                let (_, reference) = manifest.encode();
                self.phase = Phase::Manifest(Box::new(manifest), reference);
                self.output = Output::new(Kind::Manifest.file(manifest_id));
                None
            }
            Phase::Manifest(manifest, manifest_ref) => {
                let (meta, sealed) = (self.frozen.meta.clone(), self.sealed.take());
                Some(Box::new(Written { meta, manifest: *manifest, manifest_ref, sealed }))
            }
            Phase::Over => unreachable!("it is not asked again after its end"),
        }
    }
}

impl Phase {
    fn pages(frozen: &Frozen) -> Phase {
        Phase::Pages(Box::new(PageFile::new(&frozen.root)))
    }
}

impl Frozen {
    fn manifest(&self, root: PageRef, pages: FileRef, new: Option<&SealedRun>) -> Manifest {
        let new = new.map(|(segment, _)| segment);
        Manifest {
            id: self.ids[2],
            cluster: self.cluster,
            mark: self.mark,
            root,
            pages,
            segments: self.sealed.iter().chain(new).map(|segment| FileRef::of(segment)).collect(),
        }
    }
}

/// A file being written from front to back.
struct Output {
    file: FileName,
    created: bool,
    finished: bool,
    offset: u64,
}

impl Output {
    fn new(file: FileName) -> Output {
        Output { file, created: false, finished: false, offset: 0 }
    }

    fn create(&mut self) -> DiskOp {
        self.created = true;
        DiskOp::Create { file: self.file.clone(), len: 0 }
    }

    fn write(&mut self, buffer: Buffer, last: bool) -> DiskOp {
        let offset = self.offset;
        self.offset += buffer.len() as u64;
        self.finished = last;
        let sync = last && !mutant::on(65);
        DiskOp::Write { file: self.file.clone(), parts: vec![(offset, buffer)], sync }
    }
}
