//! Flamegraphs from stack samples.
