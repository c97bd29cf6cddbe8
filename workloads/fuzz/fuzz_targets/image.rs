//! See `annulus_pixels::fuzzing::image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus_pixels::fuzzing::image(input));
