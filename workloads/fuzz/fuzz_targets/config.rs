//! See `annulus::fuzzing::config::read_any`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus::fuzzing::config::read_any(input));
