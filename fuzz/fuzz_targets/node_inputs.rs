//! Any inputs of a node, lying peers among them. See [`holdfast_fuzz::node_inputs`].

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::node_inputs(data));

/// Without the fuzzer: runs the inputs in the files that are named.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    holdfast_fuzz::replay(holdfast_fuzz::node_inputs)
}
