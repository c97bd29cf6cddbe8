//! See `annulus::image::queue::fuzzing::damaged`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus::image::queue::fuzzing::damaged(input));
