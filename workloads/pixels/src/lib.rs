//! What becomes of an image's bytes: bytes in, bytes out, no file, no clock, no thread.
//!
//! ```text
//!   bytes ─► sniff, header: what is it, how large ─┐
//!   words ─► options ─► recipe: what is wanted ────┴─► pipeline: decode, turn, crop, resize, adjust, encode ─► bytes
//! ```
//!
//! `format`, `header`, `recipe` and `fault` are the vocabulary, which whoever serves images shares. A crate of its own, because
//! nothing here may know of a shard, a queue or a store; and so that pixels are optimised where tests of services are not.

pub mod fault;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod header;
pub mod options;
pub mod pipeline;
pub mod recipe;
pub mod sniff;
