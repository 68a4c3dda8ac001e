//! The same engine over a real directory.

use std::sync::Arc;

use holdfast_core::message::SnapshotMeta;
use holdfast_core::rng::Rng;
use holdfast_core::store::Store;
use holdfast_storage::disk::{Disk, FileDisk};
use holdfast_storage::engine::{Engine, EngineEvent};

use super::rig::{identity, meta, options};
use super::twin::Twin;

fn checkpoint(engine: &mut Engine, disk: &dyn Disk, meta: SnapshotMeta) {
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    drop(engine.publish());
    assert!(engine.begin_checkpoint(meta, &mut ops));
    while let Some((token, op)) = ops.pop() {
        events.extend(engine.completed(token.number, disk.perform(op), &mut ops));
    }
    assert!(matches!(events[..], [EngineEvent::Flushed { .. }]), "{events:?}");
}

#[test]
fn a_real_directory_keeps_the_state() {
    let dir = std::env::temp_dir().join(format!("holdfast-engine-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let rng = &mut Rng::new(1);
    let mut twin = Twin::new();
    {
        let disk = Arc::new(FileDisk::open(&dir).expect("the temporary directory can be written"));
        let genesis = twin.batch(rng);
        let at = meta(twin.mark.applied);
        let mut engine = Engine::create(disk.clone(), identity(1), options(1), genesis, at)
            .expect("an empty directory takes a new engine");
        for _ in 0..3 {
            (0..20).for_each(|_| engine.absorb(&mut twin.batch(rng)));
            checkpoint(&mut engine, &*disk, meta(twin.mark.applied));
            twin.assert_equal(&engine);
        }
    }
    let disk = Arc::new(FileDisk::open(&dir).expect("the directory is free again"));
    twin.assert_equal(&Engine::open(disk.clone(), identity(1), options(2)).expect("it opens"));
    let files = disk.list("data").expect("the folder is there");
    assert_eq!(files.len(), 3 + 4, "superblock, manifest, pages and four segments: {files:?}");
    let _ = std::fs::remove_dir_all(&dir);
}
