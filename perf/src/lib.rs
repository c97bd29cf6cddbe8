//! Where time goes: flamegraphs from samples, and the stages of slow messages.

pub mod attribution;
