//! The JSON codec: fields by name, one message on one line.

use std::borrow::Cow;

use memchr::memchr2;

use super::form::{Form, Message, Source};
use super::schema::Field;
use super::{Malformed, Payload};
use crate::json::{Value, write_base64, write_string, write_without_line_ends};

impl<'a> Source<'a> for Value<'a> {
    fn fields<F: Field>(self, mut each: impl FnMut(F, Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        for (name, value) in self.members().ok_or(Malformed::Field)? {
            // Later versions of the SDKs keep adding fields; what we do not know does not concern us.
            if let Some(field) = F::named(&name).filter(|_| !value.is_null()) {
                each(field, value)?;
            }
        }
        Ok(())
    }

    fn entries(
        self,
        mut each: impl FnMut(Cow<'a, str>, Option<Self>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut members = self.members().ok_or(Malformed::Field)?;
        members.try_for_each(|(key, value)| each(key, Some(value).filter(|value| !value.is_null())))
    }

    fn items(self, mut each: impl FnMut(Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        self.elements().ok_or(Malformed::Field)?.filter(|value| !value.is_null()).try_for_each(&mut each)
    }

    fn text(self) -> Result<Cow<'a, str>, Malformed> {
        self.string().ok_or(Malformed::Field)
    }

    fn payload(self) -> Result<Option<&'a [u8]>, Malformed> {
        Ok(Some(self.raw()))
    }

    fn boolean(self) -> Result<bool, Malformed> {
        Value::boolean(self).ok_or(Malformed::Field)
    }

    fn u32(self) -> Result<u32, Malformed> {
        self.unsigned().and_then(|number| u32::try_from(number).ok()).ok_or(Malformed::Field)
    }

    fn u64(self) -> Result<u64, Malformed> {
        self.unsigned().ok_or(Malformed::Field)
    }

    fn i32(self) -> Result<i32, Malformed> {
        self.integer().and_then(|number| i32::try_from(number).ok()).ok_or(Malformed::Field)
    }
}

/// Writes one line.
pub(super) struct Json<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Json<'o> {
    /// Appends `message` as a line of its own.
    pub(super) fn write(out: &'o mut Vec<u8>, message: impl Message) {
        if !out.is_empty() {
            out.push(b'\n');
        }
        Json { out }.object(message);
    }

    fn object(&mut self, message: impl Message) {
        self.out.push(b'{');
        message.write(self);
        self.out.push(b'}');
    }

    /// What separates this from the one before. No value ends in an opening bracket.
    fn comma(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    fn key(&mut self, field: impl Field) {
        self.comma();
        self.out.extend_from_slice(field.key().as_bytes());
    }
}

impl Form for Json<'_> {
    fn text(&mut self, field: impl Field, text: &str) {
        if !text.is_empty() {
            self.text_or_empty(field, text);
        }
    }

    fn text_or_empty(&mut self, field: impl Field, text: &str) {
        self.key(field);
        write_string(self.out, text);
    }

    fn number(&mut self, field: impl Field, number: u64) {
        if number != 0 {
            self.number_or_zero(field, number);
        }
    }

    fn number_or_zero(&mut self, field: impl Field, number: u64) {
        self.key(field);
        write_number(self.out, number);
    }

    fn boolean(&mut self, field: impl Field, value: bool) {
        if value {
            self.key(field);
            self.out.extend_from_slice(b"true");
        }
    }

    fn payload(&mut self, field: impl Field, payload: Payload<'_>) {
        match payload {
            Payload::Json([]) | Payload::Binary([]) => {}
            Payload::Json(value) => {
                self.key(field);
                write_value(self.out, value);
            }
            Payload::Binary(bytes) => {
                self.key(field);
                write_base64(self.out, bytes);
            }
            Payload::Quoted(text) => {
                self.key(field);
                write_string(self.out, text);
            }
        }
    }

    fn message(&mut self, field: impl Field, message: impl Message) {
        self.key(field);
        self.object(message);
    }

    fn list(&mut self, field: impl Field, messages: impl Iterator<Item = impl Message>) {
        self.key(field);
        self.out.push(b'[');
        for message in messages {
            self.comma();
            self.object(message);
        }
        self.out.push(b']');
    }

    fn map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, impl Message)>) {
        self.key(field);
        self.out.push(b'{');
        for (key, message) in entries {
            self.comma();
            write_string(self.out, key);
            self.out.push(b':');
            self.object(message);
        }
        self.out.push(b'}');
    }

    fn text_map<'k>(&mut self, field: impl Field, entries: impl Iterator<Item = (&'k str, &'k str)>) {
        self.key(field);
        self.out.push(b'{');
        for (key, text) in entries {
            self.comma();
            write_string(self.out, key);
            self.out.push(b':');
            write_string(self.out, text);
        }
        self.out.push(b'}');
    }
}

/// A validated value, which stays on its line.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    match memchr2(b'\n', b'\r', value) {
        None => out.extend_from_slice(value),
        Some(_) => write_without_line_ends(out, value),
    }
}

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break out.extend_from_slice(&digits[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 99, 100, 1_234_567_890, u64::MAX] {
            assert_eq!(written(|out| write_number(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert_eq!(written(|out| write_value(out, b"{\"a\": 1}")), "{\"a\": 1}");
        assert_eq!(written(|out| write_value(out, b"{\r\n\"a\":\n1}")), "{\"a\":1}");
    }
}
