//! JSON without a tree (RFC 8259): is it one value, where in it is what, and several texts as one.
//!
//! ```text
//! pieces of a text --> Validator --> text --> Shape::apply --> Answer --+--> merge  --> bytes
//!                      one value?             spans of it       others --+--> gather --> slices, not copied
//! ```
//!
//! [`validate`] or a [`Validator`] looks at every byte once, and everything else here takes only what has passed it.
//! [`Members`] walks an object and gives spans of the caller's text; [`Shape`], [`merge`] and [`gather`] put spans
//! together, so that what a gateway passes on is the bytes that it got. [`canonical`] rewrites a text in Go's form, and
//! [`flatmap`] moves values across levels. No values are built, and no numbers converted beyond [`Value::integer`].

mod automaton;
mod block;
mod canonical;
mod flatmap;
mod lanes;
mod lookup;
mod members;
mod merge;
mod shape;
mod skip;
mod unique;
mod validate;
mod write;

pub use canonical::canonical;
pub use flatmap::{BadOperation, Operation, Path, Route, flatmap};
pub use lookup::lookup;
pub use members::{Elements, Members, Name, Value};
pub use merge::{COPIED_BYTES_MAX, Gathered, gather, merge};
pub use shape::{Answer, Misfit, Root, Rules, Shape};
pub use validate::{DEPTH_MAX, Fault, Kind, Validator, validate};
pub use write::{write_base64, write_string, write_without_line_ends};
