//! A snapshot crosses a lossy, lying link. See [`holdfast_fuzz::transfer`].

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::transfer(data));

/// Without the fuzzer: runs the inputs in the files that are named.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    holdfast_fuzz::replay(holdfast_fuzz::transfer)
}
