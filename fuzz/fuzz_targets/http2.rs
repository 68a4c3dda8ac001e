//! Any bytes from a client. See [`holdfast_fuzz::http2`].

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::http2(data));

/// Without the fuzzer: runs the inputs in the files that are named.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    holdfast_fuzz::replay(holdfast_fuzz::http2)
}
