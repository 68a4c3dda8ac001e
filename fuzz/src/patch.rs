//! Damage as bytes: what an input does to good files.
//!
//! A patch is six bytes: file, offset (three, little-endian), what, with. Both are taken modulo what
//! there is, so every input means something.
//!
//! ```text
//! what  0 xor the byte with `with` (or 1)       3 cut the file off there
//!       1 set it                                4 copy its 4 KiB block over the block `with`
//!       2 zero its 4 KiB block                  5 set the four bytes to `with`, little-endian
//! ```

/// Bytes of one patch.
const PATCH: usize = 6;

/// More patches than this say nothing new.
const PATCHES_MAX: usize = 64;

const BLOCK: usize = 4096;

/// Damages `files` as `patches` says.
pub fn patched(files: &mut [Vec<u8>], patches: &[u8]) {
    for patch in patches.as_chunks::<PATCH>().0.iter().take(PATCHES_MAX) {
        apply(files, patch);
    }
}

fn apply(files: &mut [Vec<u8>], &[file, low, mid, high, what, with]: &[u8; PATCH]) {
    if files.is_empty() {
        return;
    }
    let nth = usize::from(file) % files.len();
    let file = &mut files[nth];
    if file.is_empty() {
        return;
    }
    let at = u32::from_le_bytes([low, mid, high, 0]) as usize % file.len();
    let block = at / BLOCK * BLOCK..((at / BLOCK + 1) * BLOCK).min(file.len());
    match what % 6 {
        0 => file[at] ^= with.max(1),
        1 => file[at] = with,
        2 => file[block].fill(0),
        3 => file.truncate(at),
        4 => {
            let to = usize::from(with) * BLOCK % file.len() / BLOCK * BLOCK;
            if block.len() == BLOCK && to + BLOCK <= file.len() {
                file.copy_within(block, to);
            }
        }
        _ => {
            let end = (at + 4).min(file.len());
            file[at..end].copy_from_slice(&u32::from(with).to_le_bytes()[..end - at]);
        }
    }
}
