//! Commands of a client whose transport goes one way only: they come in requests of their own, each of which names the session
//! that it belongs to.

use std::borrow::Cow;

use super::commands::Malformed;
use super::form::Source;
use super::protobuf::Protobuf;
use super::{Codec, schema};
use crate::json::{Kind, Value, validate};

/// Such a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulation<'a> {
    /// The session, as the reply to `connect` has named it.
    pub session: Cow<'a, str>,
    /// The node that said so.
    pub node: Cow<'a, str>,
    /// One message of the client, in the codec of its session: in JSON it is a text within the request.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Emulation<'a> {
    /// Reads the body of a request: a JSON object, or a Protobuf message without its length.
    ///
    /// # Errors
    /// If it is neither, or a field is not what it should be.
    pub fn read(codec: Codec, body: &'a [u8]) -> Result<Emulation<'a>, Malformed> {
        let mut request = Emulation::default();
        match codec {
            Codec::Json if validate(body) != Ok(Kind::Object) => Err(Malformed::NotAnObject),
            Codec::Json => request.take(Value::of(body), |value| match value.text()? {
                Cow::Borrowed(text) => Ok(Cow::Borrowed(text.as_bytes())),
                Cow::Owned(text) => Ok(Cow::Owned(text.into_bytes())),
            }),
            Codec::Protobuf => {
                request.take(Protobuf::message(body), |value| Ok(Cow::Borrowed(value.payload()?.unwrap_or_default())))
            }
        }?;
        Ok(request)
    }

    fn take<S: Source<'a>>(
        &mut self,
        source: S,
        data: impl Fn(S) -> Result<Cow<'a, [u8]>, Malformed>,
    ) -> Result<(), Malformed> {
        source.fields(|field, value| {
            match field {
                schema::EmulationRequest::Node => self.node = value.text()?,
                schema::EmulationRequest::Session => self.session = value.text()?,
                schema::EmulationRequest::Data => self.data = data(value)?,
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json = br#"{"session":"s","node":"n","data":"{\"id\":1}\n{\"id\":2}","more":[1]}"#;
        let read = Emulation::read(Codec::Json, json).unwrap();
        assert_eq!((&*read.session, &*read.node, &*read.data), ("s", "n", &b"{\"id\":1}\n{\"id\":2}"[..]));
        let protobuf = b"\x0a\x01n\x12\x01s\x1a\x02\xff\x00\x22\x01?";
        let read = Emulation::read(Codec::Protobuf, protobuf).unwrap();
        assert_eq!((&*read.session, &*read.node, &*read.data), ("s", "n", &b"\xff\x00"[..]));
        assert_eq!(Emulation::read(Codec::Protobuf, b"").unwrap(), Emulation::default());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [&b""[..], b"[]", b"{", br#"{"session":1}"#, br#"{"data":{}}"#, b"\xff", b"{\"data\":\"\xff\"}"] {
            assert!(Emulation::read(Codec::Json, body).is_err(), "{body:?}");
        }
        for body in [&b"\x0a"[..], b"\x0a\x05n", b"\x08\x01", b"\x0a\x01\xff", b"\x0b"] {
            assert!(Emulation::read(Codec::Protobuf, body).is_err(), "{body:?}");
        }
    }
}
