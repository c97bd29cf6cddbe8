//! The Protobuf codec: fields by number, one message with its length in front. Of the wire format only what the
//! protocol's messages are made of is understood; everything else can be skipped, or is refused.
//!
//! ```text
//! message  tag value tag value ...        tag = number << 3 | type, a varint
//! value    type 0: a varint               type 2: a length as a varint, and as many bytes
//!          type 1: 8 bytes                type 5: 4 bytes
//! varint   7 bits a byte, the lowest first, with the high bit set in all bytes but the last
//! ```

use std::borrow::Cow;

use super::form::{Form, Message, Source};
use super::schema::{Field, MapEntry};
use super::{Malformed, Payload};

/// The longest varint: 64 bits, seven in a byte.
const VARINT_BYTES_MAX: usize = 10;

/// The largest number of a field.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED_32: u32 = 5;

/// A value as it was received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protobuf<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a type that no field of ours has.
    Other,
}

/// A message, its length in front of it, and what follows; `None` if the length is none or the message is not all there.
pub(super) fn split_delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = split_varint(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The last byte has room for one bit; we refuse more, where others drop them.
        if at + 1 == VARINT_BYTES_MAX && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

fn split_field(bytes: &[u8]) -> Option<(u32, Protobuf<'_>, &[u8])> {
    let (tag, rest) = split_varint(bytes)?;
    let number = Some(tag >> 3).filter(|number| (1..=FIELD_NUMBER_MAX).contains(number))? as u32;
    let (value, rest) = match (tag & 7) as u32 {
        VARINT => split_varint(rest).map(|(value, rest)| (Protobuf::Varint(value), rest))?,
        LENGTH => split_delimited(rest).map(|(bytes, rest)| (Protobuf::Bytes(bytes), rest))?,
        FIXED_64 => (Protobuf::Other, rest.get(8..)?),
        FIXED_32 => (Protobuf::Other, rest.get(4..)?),
        // Groups, which no message of this protocol has, and types that do not exist.
        _ => return None,
    };
    Some((number, value, rest))
}

impl<'a> Protobuf<'a> {
    /// A message from its content.
    pub(super) fn message(content: &'a [u8]) -> Protobuf<'a> {
        Protobuf::Bytes(content)
    }

    fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Protobuf::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed::Field) }
    }
}

impl<'a> Source<'a> for Protobuf<'a> {
    fn fields<F: Field>(self, mut each: impl FnMut(F, Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut content = self.bytes()?;
        while !content.is_empty() {
            let (number, value, rest) = split_field(content).ok_or(Malformed::NotAMessage)?;
            if let Some(field) = F::numbered(number) {
                each(field, value)?;
            }
            content = rest;
        }
        Ok(())
    }

    fn entries(
        self,
        mut each: impl FnMut(Cow<'a, str>, Option<Self>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let (mut key, mut value) = (Cow::Borrowed(""), None);
        self.fields(|field, content: Self| {
            match field {
                MapEntry::Key => key = content.text()?,
                MapEntry::Value => value = Some(content),
            }
            Ok(())
        })?;
        each(key, value)
    }

    fn items(self, mut each: impl FnMut(Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        each(self)
    }

    fn text(self) -> Result<Cow<'a, str>, Malformed> {
        simdutf8::basic::from_utf8(self.bytes()?).map(Cow::Borrowed).map_err(|_| Malformed::Field)
    }

    fn payload(self) -> Result<Option<&'a [u8]>, Malformed> {
        self.bytes().map(|bytes| Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn boolean(self) -> Result<bool, Malformed> {
        self.u64().map(|number| number != 0)
    }

    /// As the format has it, what does not fit is cut off.
    fn u32(self) -> Result<u32, Malformed> {
        self.u64().map(|number| number as u32)
    }

    fn u64(self) -> Result<u64, Malformed> {
        if let Protobuf::Varint(number) = self { Ok(number) } else { Err(Malformed::Field) }
    }

    fn i32(self) -> Result<i32, Malformed> {
        self.u64().map(|number| number as i32)
    }
}

/// Writes one message.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// Appends `message` with its length in front.
    pub(super) fn write(out: &'o mut Vec<u8>, message: impl Message) {
        Writer { out }.delimited(|form| message.write(form));
    }

    /// Writes `content` with its length in front. The last byte of the length, which mostly is the only one, has its place
    /// from the beginning; others are turned in before it.
    fn delimited(&mut self, content: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.out.push(0);
        content(self);
        let end = self.out.len();
        self.out[at] = self.varint_begun((end - at - 1) as u64);
        let begun = self.out.len() - end;
        self.out[at..].rotate_right(begun);
    }

    /// Appends all bytes of a varint but the last, and returns that.
    fn varint_begun(&mut self, mut number: u64) -> u8 {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        number as u8
    }

    fn varint(&mut self, number: u64) {
        let last = self.varint_begun(number);
        self.out.push(last);
    }

    fn tag(&mut self, field: impl Field, wire_type: u32) {
        self.varint(u64::from(field.number() << 3 | wire_type));
    }

    fn bytes(&mut self, field: impl Field, bytes: &[u8]) {
        self.tag(field, LENGTH);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }
}

impl Form for Writer<'_> {
    fn text(&mut self, field: impl Field, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn text_or_empty(&mut self, field: impl Field, text: &str) {
        self.text(field, text);
    }

    fn number(&mut self, field: impl Field, number: u64) {
        if number != 0 {
            self.tag(field, VARINT);
            self.varint(number);
        }
    }

    fn number_or_zero(&mut self, field: impl Field, number: u64) {
        self.number(field, number);
    }

    fn boolean(&mut self, field: impl Field, value: bool) {
        self.number(field, value.into());
    }

    fn payload(&mut self, field: impl Field, payload: Payload<'_>) {
        let bytes = payload.bytes();
        if !bytes.is_empty() {
            self.bytes(field, bytes);
        }
    }

    fn message(&mut self, field: impl Field, message: impl Message) {
        self.tag(field, LENGTH);
        self.delimited(|form| message.write(form));
    }

    fn list(&mut self, field: impl Field, messages: impl Iterator<Item = impl Message>) {
        messages.for_each(|message| self.message(field, message));
    }

    fn map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, impl Message)>) {
        for (key, message) in entries {
            self.tag(field, LENGTH);
            self.delimited(|form| {
                form.bytes(MapEntry::Key, key.as_bytes());
                form.message(MapEntry::Value, message);
            });
        }
    }

    fn text_map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, &'k str)>) {
        for (key, text) in entries {
            self.tag(field, LENGTH);
            self.delimited(|form| {
                form.bytes(MapEntry::Key, key.as_bytes());
                form.bytes(MapEntry::Value, text.as_bytes());
            });
        }
    }
}
