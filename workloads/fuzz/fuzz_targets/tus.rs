//! See `annulus::image::tus::fuzzing::uploads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus::image::tus::fuzzing::uploads(input));
