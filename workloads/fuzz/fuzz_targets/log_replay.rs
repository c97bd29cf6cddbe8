//! See `annulus::chat::log::fuzzing::open_any`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus::chat::log::fuzzing::open_any(input));
