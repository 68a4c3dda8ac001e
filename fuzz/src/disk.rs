//! Damaged files of a member: the log and the data folder.

use std::ops::ControlFlow;
use std::sync::Arc;

use holdfast_core::id::RevSub;
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::store::View;
use holdfast_storage::disk::{FileName, Image, MemoryDisk};
use holdfast_storage::engine::{Engine, EngineOptions};
use holdfast_storage::wal::fuzz_recover;

use crate::patch::patched;
use crate::seeds;

/// First byte of an input that is no patch list but the bytes of one segment.
pub(crate) const RAW: u8 = 255;

/// Damages the segments of a good log, or takes the bytes themselves as a segment, and recovers. What
/// is accepted must be accepted again, and be the same.
pub fn wal_replay(data: &[u8]) {
    let Some((base, rest)) = data.split_first() else { return };
    if *base == RAW {
        return fuzz_recover(&[rest.to_vec()]);
    }
    let mut files: Vec<Vec<u8>> = seeds::log(*base).values().cloned().collect();
    patched(&mut files, rest);
    fuzz_recover(&files);
}

/// Damages the files of a good checkpoint, superblock included, and opens it. What is accepted must
/// be readable to its end, or name a fault.
pub fn checkpoint(data: &[u8]) {
    let Some((base, patches)) = data.split_first() else { return };
    let good = seeds::checkpoint(*base);
    let names: Vec<FileName> = good.keys().cloned().collect();
    let mut files: Vec<Vec<u8>> = good.values().cloned().collect();
    patched(&mut files, patches);
    let image: Image = names.into_iter().zip(files).collect();
    let disk = Arc::new(MemoryDisk::from_image(image));
    let options = EngineOptions { cache_bytes: 64 << 10, ..EngineOptions::default() };
    let Ok(engine) = Engine::open(disk.clone(), seeds::IDENTITY, options.clone()) else { return };
    read_all(&engine);
    let mark = engine.mark();
    drop(engine);
    let again = Engine::open(disk, seeds::IDENTITY, options);
    assert_eq!(again.map(|engine| engine.mark()), Ok(mark), "opened once, opened again");
}

/// Reads everything that a view shows; damage in values is found only then.
pub(crate) fn read_all(view: &impl View) {
    let all = KeyRange { start: Default::default(), end: RangeEnd::Open };
    let mut rows = Vec::new();
    view.scan(&all, &mut |_, row| {
        rows.push(*row);
        ControlFlow::Continue(())
    });
    for row in &rows {
        if let Ok(record) = view.record(row.modified) {
            assert_eq!(record.at, row.modified, "a row finds its own record");
        }
    }
    // A fault is a fine answer; a panic is not.
    let _ = view.records(RevSub::new(0, 0), &mut |_| ControlFlow::Continue(()));
}
