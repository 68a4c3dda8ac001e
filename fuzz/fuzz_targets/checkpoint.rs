//! A damaged data folder is opened or refused. See [`holdfast_fuzz::checkpoint`].

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::checkpoint(data));

/// Without the fuzzer: runs the inputs in the files that are named.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    holdfast_fuzz::replay(holdfast_fuzz::checkpoint)
}
