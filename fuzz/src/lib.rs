//! The bodies of the fuzz targets: every decoder that reads bytes from a disk or a wire, and a node among lying
//! peers.
//!
//! Each takes any bytes and panics only where a law is broken. cargo-fuzz drives them through
//! `fuzz_targets/`; `tests/replay.rs` runs the committed corpus and some thousands of mutations of
//! it in plain `cargo test`. `fuzz/README.md` has the commands.
//!
//! Bytes with checksums are not found by chance. Where the format has them, an input is therefore a
//! list of [`patch`]es to bytes that our own code wrote, and [`page`] makes its checksums right again.
//!
//! Worked example: `wal_replay(&[0, 0, 0, 0x10, 0, 0, 1])` flips a bit of block 1 of the first segment
//! of a good log and recovers it.

mod disk;
mod node;
pub mod patch;
pub mod seeds;
mod transfers;

use bytes::Bytes;
use holdfast_core::codec;
use holdfast_storage::tree::{PageRef, Tree};

pub use disk::{checkpoint, wal_replay};
pub use node::node_inputs;
pub use transfers::transfer;

use patch::patched;

/// Bytes of a tree page.
const PAGE: usize = 4096;

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("wal_replay", wal_replay),
    ("checkpoint", checkpoint),
    ("transfer", transfer),
    ("page", page),
    ("entry_codec", entry_codec),
    ("peer_frame", peer_frame),
    ("wire", wire),
    ("http2", http2),
    ("node_inputs", node_inputs),
];

/// Bytes from a peer: frames, messages and the handshake.
pub fn peer_frame(data: &[u8]) {
    holdfast_net::peer::fuzz_peer_frame(data);
}

/// Bytes from a client: every kind of request.
pub fn wire(data: &[u8]) {
    holdfast_net::wire::fuzz_wire(data);
}

/// A program of frames, replies and time on one HTTP/2 connection.
pub fn http2(data: &[u8]) {
    holdfast_net::http2::fuzz_http2(data);
}

/// The data of a log entry. What is accepted must mean the same when it is written and read again.
pub fn entry_codec(data: &[u8]) {
    let Ok(commands) = codec::decode_entry(&Bytes::copy_from_slice(data)) else { return };
    let again = codec::encode_entry(&commands);
    assert_eq!(codec::decode_entry(&again), Ok(commands), "written and read again");
}

/// Patched pages of a key index, with their checksums made right again, in pages and in what refers
/// to them. What is accepted must pass the tree's own check and be scanned to its end.
pub fn page(data: &[u8]) {
    let Some((base, patches)) = data.split_first() else { return };
    let good = seeds::pages(*base);
    let mut files = vec![good.concat()];
    patched(&mut files, patches);
    let mut pages: Vec<[u8; PAGE]> =
        files[0].as_chunks::<PAGE>().0.iter().take(good.len()).copied().collect();
    for number in 0..pages.len() {
        seal(&mut pages, good, number);
    }
    let Some(last) = pages.last() else { return };
    let root = PageRef { page: pages.len() as u64 - 1, crc: crc_of(last) };
    let mut unread = pages.iter();
    let mut next = |into: &mut [u8; PAGE]| {
        let page = unread.next();
        page.inspect(|page| into.copy_from_slice(*page));
        Ok(page.is_some())
    };
    let Ok(tree) = Tree::load(&mut next, root, "fuzzed pages") else { return };
    assert_eq!(tree.check(), Ok(()), "what is loaded obeys the laws of a tree");
    let mut keys = 0;
    tree.scan(b"", None, &mut |_, _| {
        keys += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(keys, tree.stats().keys, "every key is found");
}

/// Gives page `number` its checksum, and those that refer to it the new one.
fn seal(pages: &mut [[u8; PAGE]], good: &[[u8; PAGE]], number: usize) {
    let crc = crc32fast::hash(&pages[number][4..]).to_le_bytes();
    pages[number][..4].copy_from_slice(&crc);
    let number_bytes = (number as u32).to_le_bytes();
    let old = [&number_bytes[..], &good[number][..4]].concat();
    let new = [&number_bytes[..], &crc[..]].concat();
    for page in &mut pages[number + 1..] {
        if let Some(at) = page.windows(8).position(|window| window == old) {
            page[at..at + 8].copy_from_slice(&new);
        }
    }
}

fn crc_of(page: &[u8; PAGE]) -> u32 {
    u32::from_le_bytes(*page.first_chunk().expect("a page is longer than its checksum"))
}

/// Runs the inputs in the files that the command line names: how a crash is looked at without the
/// fuzzer.
///
/// # Errors
/// A file that cannot be read.
pub fn replay(target: fn(&[u8])) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        target(&std::fs::read(path)?);
    }
    Ok(())
}
