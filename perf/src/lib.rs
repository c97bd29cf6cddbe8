//! Where time goes: flamegraphs from stack samples, of any Linux process from outside and of this one from within, and the
//! stages of slow messages.
//!
//! ```text
//!          events ─► record ─┐
//! kernel ►                   ├─► space ─► frame ─► symbols ─► folded ─► text, SVG
//!          events ─► sampler ┘   unwind   intern   names
//! ```
//!
//! [`command`] is what `annulus perf` does. [`sampler`] watches threads of the process that it is part of, all the time
//! and cheaply. Both need nothing of the program but its unwind tables, which every program has; for names, its symbols.
//!
//! [`attribution`] tells what makes a tail of latencies, from times that a program measured itself.
//!
//! Nothing here changes the process that is looked at, stops it, or reads its memory: the kernel copies the stacks.

pub mod attribution;
pub mod command;
pub mod events;
pub mod folded;
pub mod frame;
pub mod module;
pub mod own;
pub mod record;
pub mod refusal;
pub mod sampler;
pub mod short;
pub mod space;
pub mod symbols;
pub mod target;
