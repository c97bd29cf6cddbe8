//! JSON without a tree (RFC 8259): is it one value, and where in it is what.
//!
//! [`validate`] looks at every byte once; [`Members`] then walks an object that was validated and gives spans of the
//! caller's text. Nothing here allocates but [`Value::string`] of a text with escapes. It builds no values, does not
//! convert numbers beyond [`Value::integer`], and leaves duplicate names to the caller, who sees them in order.

mod members;
mod validate;
mod write;

pub use members::{Members, Value};
pub use validate::{DEPTH_MAX, Fault, Kind, validate};
pub use write::{write_string, write_without_line_ends};
