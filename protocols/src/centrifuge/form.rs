//! What a codec has to offer: a way to read a message's fields, and a way to write them.
//!
//! ```text
//! bytes --> Source: json, protobuf --> Command            reading is written once, in command
//! Message: results, publications, pushes --> Form: json, protobuf --> bytes   and writing once, in reply
//! ```

use std::borrow::Cow;

use super::schema::Field;
use super::{Malformed, Payload};

/// A value as it was received: a field's content, or a whole message. Absent values, and what JSON calls null, are never
/// handed out.
pub(super) trait Source<'a>: Copy {
    /// Hands out the fields of a message that are known, in the order in which they came.
    fn fields<F: Field>(self, each: impl FnMut(F, Self) -> Result<(), Malformed>) -> Result<(), Malformed>;

    /// Hands out entries of a map. A map may come in several values; of equal keys the last counts.
    fn entries(self, each: impl FnMut(Cow<'a, str>, Option<Self>) -> Result<(), Malformed>) -> Result<(), Malformed>;

    /// Hands out the values of a list. A list may come in several values, each of them one or more of its own.
    fn items(self, each: impl FnMut(Self) -> Result<(), Malformed>) -> Result<(), Malformed>;

    /// Text.
    fn text(self) -> Result<Cow<'a, str>, Malformed>;

    /// What is the application's: in JSON any value, in Protobuf bytes, which are absent if there are none.
    fn payload(self) -> Result<Option<&'a [u8]>, Malformed>;

    fn boolean(self) -> Result<bool, Malformed>;

    fn u32(self) -> Result<u32, Malformed>;

    fn u64(self) -> Result<u64, Malformed>;

    fn i32(self) -> Result<i32, Malformed>;
}

/// Where a message is written to. Zeros are left out; what clients look at all the same has methods of its own, which
/// write zeros in JSON. (In Protobuf a zero and an absent value are the same.)
pub(super) trait Form {
    fn text(&mut self, field: impl Field, text: &str);

    fn text_or_empty(&mut self, field: impl Field, text: &str);

    fn number(&mut self, field: impl Field, number: u64);

    fn number_or_zero(&mut self, field: impl Field, number: u64);

    fn boolean(&mut self, field: impl Field, value: bool);

    fn payload(&mut self, field: impl Field, payload: Payload<'_>);

    fn message(&mut self, field: impl Field, message: impl Message);

    /// A list of messages, empty or not.
    fn list(&mut self, field: impl Field, messages: impl Iterator<Item = impl Message>);

    /// A map of messages, empty or not.
    fn map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, impl Message)>);

    /// A map of texts, empty or not.
    fn text_map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, &'k str)>);
}

/// What can be written.
pub(super) trait Message {
    /// Writes the fields, in the order of their numbers, as official encoders do.
    fn write(self, form: &mut impl Form);
}

/// A message without fields.
pub(super) struct Nothing;

impl Message for Nothing {
    fn write(self, _form: &mut impl Form) {}
}
