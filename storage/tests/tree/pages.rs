//! Pages written and read back: the same tree, the same bytes again; and for anything else a fault
//! that names the page, never a panic.

use holdfast_core::store::Fault;
use holdfast_storage::tree::{PageRef, Tree};
use proptest::prelude::*;

use super::{Op, Twin, apply, assert_empty, assert_same, key, op};

type Pages = Vec<[u8; 4096]>;

fn build(ops: Vec<Op>) -> (Tree, Twin) {
    let (mut tree, mut twin) = (Tree::new(), Twin::new());
    ops.into_iter().for_each(|op| apply(op, &mut tree, &mut twin));
    (tree, twin)
}

fn write(tree: &mut Tree) -> (Pages, PageRef) {
    let mut pages = Pages::new();
    let root = tree.publish().write_pages(&mut |page| {
        pages.push(*page);
        Ok(())
    });
    (pages, root.expect("nothing failed"))
}

fn load(pages: &[[u8; 4096]], root: PageRef) -> Result<Tree, Fault> {
    let mut pages = pages.iter();
    let mut next = |into: &mut [u8; 4096]| Ok(pages.next().map(|page| *into = *page).is_some());
    Tree::load(&mut next, root, "tree/1")
}

/// Gives every page the checksum of its bytes, and parents the checksums of their children, so that
/// what lies behind the checksums is reached.
fn reseal(pages: &mut Pages, root: &mut PageRef) {
    for index in 0..pages.len() {
        let crc = crc32fast::hash(&pages[index][4..]).to_le_bytes();
        let reference = [&(index as u32).to_le_bytes()[..], &pages[index][..4]].concat();
        pages[index][..4].copy_from_slice(&crc);
        for page in &mut pages[index + 1..] {
            if let Some(at) = page.windows(8).position(|bytes| bytes == reference) {
                page[at + 4..at + 8].copy_from_slice(&crc);
            }
        }
        if index as u64 == root.page {
            root.crc = u32::from_le_bytes(crc);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_loads(
        ops in prop::collection::vec(op(), 0..600),
        probes in prop::collection::vec(key(), 1..20),
    ) {
        let (mut tree, mut twin) = build(ops);
        let (pages, root) = write(&mut tree);
        prop_assert_eq!(pages.len() as u64, tree.stats().pages);
        let mut loaded = load(&pages, root).expect("as written");
        loaded.check().expect("invariants hold");
        prop_assert_eq!(loaded.stats(), tree.stats());
        assert_same(&loaded, &twin, &probes);
        prop_assert!(write(&mut loaded) == (pages, root), "written again, other bytes");
        for key in &probes {
            loaded.insert(key, b"after", true);
            twin.insert(key.clone(), (b"after".to_vec(), true));
        }
        assert_same(&loaded, &twin, &probes);
        for key in twin.keys() {
            prop_assert!(loaded.remove(key));
        }
        assert_empty(loaded);
    }

    #[test]
    fn a_changed_byte_is_a_fault(
        ops in prop::collection::vec(op(), 0..300),
        page: prop::sample::Index, at in 0usize..4096, flip in 1u8..,
    ) {
        let (mut pages, root) = write(&mut build(ops).0);
        let page = page.index(pages.len());
        pages[page][at] ^= flip;
        let fault = load(&pages, root).err().expect("a checksum is wrong");
        prop_assert_eq!(fault.place, format!("tree/1, page {page}"));
    }

    #[test]
    fn behind_the_checksums_nothing_is_believed(
        ops in prop::collection::vec(op(), 0..300),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![0usize..64, 0usize..4096], any::<u8>()), 1..4),
        probes in prop::collection::vec(key(), 1..40),
    ) {
        let (mut pages, mut root) = write(&mut build(ops).0);
        for (page, at, byte) in changes {
            let page = page.index(pages.len());
            pages[page][at] = byte;
        }
        reseal(&mut pages, &mut root);
        if let Ok(mut tree) = load(&pages, root) {
            tree.check().expect("what loads is sound");
            for key in &probes {
                tree.insert(key, b"after", true);
            }
            tree.check().expect("and stays so");
        }
    }
}

fn two_levels() -> (Pages, PageRef) {
    let mut tree = Tree::new();
    for n in 0..900u32 {
        tree.insert(format!("key-{n:05}").as_bytes(), &n.to_le_bytes(), true);
    }
    write(&mut tree)
}

fn cause(pages: &[[u8; 4096]], root: PageRef) -> String {
    load(pages, root).err().expect("it must not load").cause
}

#[test]
fn pages_of_another_place_are_faults() {
    let (pages, root) = two_levels();
    assert!(pages.len() > 3);
    let mut swapped = pages.clone();
    swapped.swap(1, 2);
    assert_eq!(cause(&swapped, root), "header says page 2");

    let short = &pages[..pages.len() - 1];
    assert!(cause(short, root).starts_with("the pages end here, but the root is page"));
    assert!(cause(&pages, PageRef { page: u64::MAX, ..root }).contains("impossible"));
    let wrong = PageRef { crc: root.crc ^ 1, ..root };
    assert!(cause(&pages, wrong).contains("expected"));
    let early = PageRef { page: 1, crc: root.crc };
    assert_eq!(cause(&pages, early), "1 pages before it belong to nothing");
}

/// The slot of entry `index` of a page, and where its value begins (one-byte lengths only).
fn slot_and_value(page: &[u8; 4096], index: usize) -> (usize, usize) {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
    let slot = 40 + u16_at(12) + index * 6;
    let entry = u16_at(slot + 4);
    (slot, entry + 3 + usize::from(page[entry + 1]).saturating_sub(4))
}

#[test]
fn a_separator_that_does_not_separate_is_a_fault() {
    for change in [1, -1] {
        let (mut pages, mut root) = two_levels();
        let last = pages.last_mut().expect("the root");
        let (_, value) = slot_and_value(last, 1);
        assert!(last[value - 1].is_ascii_digit(), "the separator's last byte is in the heap");
        last[value - 1] = last[value - 1].wrapping_add_signed(change);
        reseal(&mut pages, &mut root);
        assert_eq!(cause(&pages, root), "separator 1 does not separate its neighbours");
    }
}

#[test]
fn a_wrong_live_count_is_a_fault() {
    let (mut pages, mut root) = two_levels();
    let last = pages.last_mut().expect("the root");
    let (_, value) = slot_and_value(last, 0);
    last[value + 8] += 1;
    reseal(&mut pages, &mut root);
    assert_eq!(cause(&pages, root), "page 0 is not the child that entry 0 describes");

    let (mut pages, mut root) = two_levels();
    pages[0][24] += 1;
    reseal(&mut pages, &mut root);
    assert!(cause(&pages, root).contains(" live, header says "));
}

#[test]
fn a_whole_page_of_an_older_checkpoint_is_a_fault() {
    let (pages, root) = two_levels();
    let mut tree = Tree::new();
    for n in 0..900u32 {
        tree.insert(format!("key-{n:05}").as_bytes(), &(n + 1).to_le_bytes(), true);
    }
    let (older, _) = write(&mut tree);
    let mut mixed = pages;
    mixed[0] = older[0];
    assert!(cause(&mixed, root).starts_with("refers to page 0 with checksum"));
}

#[test]
fn a_writer_works_in_slices_while_the_tree_changes() {
    let mut tree = Tree::new();
    for n in 0..2000u32 {
        tree.insert(format!("key-{n:05}").as_bytes(), &n.to_le_bytes(), n % 3 == 0);
    }
    let (whole, root) = write(&mut tree);
    let mut writer = tree.publish().page_writer();
    let (mut pages, mut last, mut page) = (Pages::new(), None, [0; 4096]);
    while let Some(at) = writer.next(&mut page) {
        pages.push(page);
        last = Some(at);
        tree.insert(format!("key-{:05}", pages.len() * 7).as_bytes(), b"changed", true);
    }
    assert_eq!(last, Some(root));
    assert!(pages == whole);
}
