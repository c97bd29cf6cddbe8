//! See `annulus_pixels::fuzzing::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| annulus_pixels::fuzzing::head(input));
