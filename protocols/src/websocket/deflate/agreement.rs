//! Negotiation: what a client offers, what a server answers (RFC 7692 sections 5 and 7.1).
//!
//! Syntax is RFC 6455 section 9.1. A field that breaks it is an error; an offer that is well written but holds something
//! we do not know is passed over, and the next one is looked at (RFC 7692 section 7: such an offer must be declined).

use super::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use std::borrow::Cow;
use std::num::NonZero;

const NAME: &[u8] = b"permessage-deflate";
const NO_TAKEOVER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What our client offers: the value of its `Sec-WebSocket-Extensions`. It asks for no window of a certain size, so the
/// server may not choose ours (RFC 7692 section 7.1.2.2).
pub const OFFER: &str = NO_TAKEOVER;

/// Proof that both ends agreed on permessage-deflate, neither of them taking context over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    window_bits: NonZero<u8>,
    /// Whether the client named a window, so that the answer has to (RFC 7692 section 7.1.2.1).
    names_window: bool,
}

/// A field that breaks the grammar of RFC 6455 section 9.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Malformed;

impl Agreement {
    /// Takes the first usable offer of a client. Clients may ask that the server compress with a small window; an offer
    /// that asks for less than `window_bits_min` is passed over. `fields` are the values of all fields of that name.
    ///
    /// # Errors
    ///
    /// When any of the fields is malformed.
    pub(in super::super) fn of_offers<'f>(
        fields: impl Iterator<Item = &'f [u8]>,
        window_bits_min: u8,
    ) -> Result<Option<Self>, Malformed> {
        let mut agreement = None;
        for field in fields {
            // The rest is read too: a malformed field is one wherever the fault lies.
            for extension in extensions(field)? {
                agreement = agreement.or_else(|| Self::of_offer(&extension, window_bits_min));
            }
        }
        Ok(agreement)
    }

    fn of_offer(offer: &Extension<'_>, window_bits_min: u8) -> Option<Self> {
        let parameters = Parameters::read(offer)?;
        // What the client says about its own window needs no answer: an inflater takes every window.
        let window_bits = parameters.server_window_bits.unwrap_or(WINDOW_BITS_MAX);
        let is_usable = window_bits >= window_bits_min.max(WINDOW_BITS_MIN);
        is_usable.then_some(Self {
            window_bits: NonZero::new(window_bits)?,
            names_window: parameters.server_window_bits.is_some(),
        })
    }

    /// Checks a server's answer to [`OFFER`]; `None` when the server declined.
    ///
    /// # Errors
    ///
    /// When the answer is malformed, is not one answer, or agrees to something that was not offered: the connection has
    /// to be given up (RFC 7692 section 7).
    pub(in super::super) fn of_answer<'f>(fields: impl Iterator<Item = &'f [u8]>) -> Result<Option<Self>, Malformed> {
        let mut answers = Vec::new();
        for field in fields {
            answers.extend(extensions(field)?);
        }
        let answer = match &answers[..] {
            [] => return Ok(None),
            [answer] => Parameters::read(answer).ok_or(Malformed)?,
            _ => return Err(Malformed),
        };
        // The offer asks for the one and leaves no room for the other (sections 7.1.1.1 and 7.1.2.2).
        if !answer.server_no_takeover || answer.client_window_bits.is_some() {
            return Err(Malformed);
        }
        let window_bits = NonZero::new(WINDOW_BITS_MAX).ok_or(Malformed)?;
        Ok(Some(Self { window_bits, names_window: false }))
    }

    /// The largest window, as a power of two, that this end may compress with: 9 to 15. A message of at most so many
    /// bytes may be sent as compressed with any window, for no distance in it reaches further back.
    pub const fn window_bits(self) -> u8 {
        self.window_bits.get()
    }

    /// Whether this end may send a message of `payload_len` bytes that was compressed with `window_bits`.
    pub const fn allows(self, window_bits: u8, payload_len: usize) -> bool {
        window_bits <= self.window_bits.get() || payload_len <= 1 << self.window_bits.get()
    }

    /// The server's answer: the value of its `Sec-WebSocket-Extensions`.
    pub(in super::super) fn answer(self) -> Cow<'static, str> {
        if self.names_window {
            format!("{NO_TAKEOVER}; server_max_window_bits={}", self.window_bits).into()
        } else {
            NO_TAKEOVER.into()
        }
    }
}

/// The four parameters of RFC 7692 section 7.1.
#[derive(Debug, Default)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window_bits: Option<u8>,
    /// The inner value may be missing: the client then only says that it knows the parameter.
    client_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` for another extension, and when a parameter is unknown, repeated, or has a value that it must not have
    /// (section 7.1): the offer is to be declined, the answer to be refused.
    fn read(extension: &Extension<'_>) -> Option<Self> {
        if extension.name != NAME {
            return None;
        }
        let mut read = Self::default();
        for Parameter { name, value } in &extension.parameters {
            let is_first = match *name {
                b"server_no_context_takeover" => {
                    value.is_none() && !std::mem::replace(&mut read.server_no_takeover, true)
                }
                b"client_no_context_takeover" => {
                    value.is_none() && !std::mem::replace(&mut read.client_no_takeover, true)
                }
                b"server_max_window_bits" => {
                    let bits = window_bits(value.as_deref()?)?;
                    read.server_window_bits.replace(bits).is_none()
                }
                b"client_max_window_bits" => {
                    let bits = match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    };
                    read.client_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !is_first {
                return None;
            }
        }
        Some(read)
    }
}

/// A decimal number from 8 to 15 without leading zeroes (section 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// One element of the field: a name and its parameters.
#[derive(Debug)]
struct Extension<'f> {
    name: &'f [u8],
    parameters: Vec<Parameter<'f>>,
}

#[derive(Debug)]
struct Parameter<'f> {
    name: &'f [u8],
    value: Option<Cow<'f, [u8]>>,
}

/// Reads a field: a list of extensions, in which elements may be empty (RFC 9110 section 5.6.1).
fn extensions(field: &[u8]) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut cursor = Cursor { rest: field };
    let mut all = Vec::new();
    loop {
        if let Some(name) = cursor.token() {
            let mut parameters = Vec::new();
            while cursor.eat(b';') {
                let name = cursor.token().ok_or(Malformed)?;
                let value = if cursor.eat(b'=') { Some(cursor.value().ok_or(Malformed)?) } else { None };
                parameters.push(Parameter { name, value });
            }
            all.push(Extension { name, parameters });
        }
        if !cursor.eat(b',') {
            return if cursor.rest.is_empty() { Ok(all) } else { Err(Malformed) };
        }
    }
}

/// Walks a field; white space may surround every element.
struct Cursor<'f> {
    rest: &'f [u8],
}

impl<'f> Cursor<'f> {
    fn eat(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'f [u8]> {
        self.rest = self.rest.trim_ascii_start();
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest.trim_ascii_start();
        (len > 0).then_some(token)
    }

    /// A token, or one in quotes: what is in them must be a token once backslashes are taken off (RFC 6455 section 9.1).
    fn value(&mut self) -> Option<Cow<'f, [u8]>> {
        if !self.eat(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = Vec::new();
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let byte = match byte {
                b'"' => break,
                b'\\' => {
                    let (escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    escaped
                }
                byte => byte,
            };
            value.push(*byte);
        }
        self.rest = self.rest.trim_ascii_start();
        let is_token = !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte));
        is_token.then_some(Cow::Owned(value))
    }
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(fields: &[&str]) -> Result<Option<String>, Malformed> {
        let agreement = Agreement::of_offers(fields.iter().map(|field| field.as_bytes()), WINDOW_BITS_MIN)?;
        Ok(agreement.map(|agreement| agreement.answer().strip_prefix(NO_TAKEOVER).expect("always").to_owned()))
    }

    #[test]
    fn offers_that_are_taken() {
        for (fields, window) in [
            (&["permessage-deflate"][..], ""),
            (&["permessage-deflate; client_max_window_bits"], ""),
            (&["permessage-deflate;client_max_window_bits=8"], ""),
            (&["permessage-deflate; client_max_window_bits=\"1\\0\""], ""),
            (&["permessage-deflate ; server_no_context_takeover ;\tclient_no_context_takeover"], ""),
            (&["permessage-deflate; server_max_window_bits=15"], "; server_max_window_bits=15"),
            (&["permessage-deflate; server_max_window_bits = \"10\""], "; server_max_window_bits=10"),
            (&["permessage-deflate; server_max_window_bits=9"], "; server_max_window_bits=9"),
            // Several offers, in order of preference; the first that is usable is taken.
            (&["permessage-deflate; server_max_window_bits=12, permessage-deflate"], "; server_max_window_bits=12"),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], ""),
            (&["permessage-deflate; mode=\"fast\", permessage-deflate; client_max_window_bits"], ""),
            (&["x-webkit-deflate-frame, permessage-bzip2; level=9", "permessage-deflate"], ""),
            (&[", ,permessage-deflate,,"], ""),
        ] {
            assert_eq!(accept(fields), Ok(Some(window.to_owned())), "{fields:?}");
        }
    }

    #[test]
    fn offers_that_are_declined() {
        for offer in [
            "",
            ",",
            "permessage-bzip2",
            "permessage-deflate2",
            "permessage-deflate; level",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=\"true\"",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=100",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=x",
        ] {
            assert_eq!(accept(&[offer]), Ok(None), "{offer:?}");
        }
        let small = [&b"permessage-deflate; server_max_window_bits=14"[..]];
        assert_eq!(Agreement::of_offers(small.into_iter(), WINDOW_BITS_MAX), Ok(None));
    }

    #[test]
    fn fields_that_are_malformed() {
        for field in [
            ";",
            "permessage-deflate;",
            "permessage-deflate; ; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=\"10\\",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"1 0\"",
            "permessage-deflate; client_max_window_bits=\"10\"0",
            "permessage-deflate; =10",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, (",
            "\"permessage-deflate\"",
        ] {
            assert_eq!(accept(&[field]), Err(Malformed), "{field:?}");
            assert_eq!(accept(&["permessage-deflate", field]), Err(Malformed), "{field:?}");
        }
    }

    #[test]
    fn answers() {
        let check = |fields: &[&'static str]| {
            let agreement = Agreement::of_answer(fields.iter().map(|field| field.as_bytes()))?;
            Ok(agreement.map(Agreement::window_bits))
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&["permessage-deflate; server_no_context_takeover"]), Ok(Some(15)));
        assert_eq!(check(&[OFFER]), Ok(Some(15)));
        assert_eq!(check(&["permessage-deflate; server_max_window_bits=9; server_no_context_takeover"]), Ok(Some(15)));
        for bad in [
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; level=1",
            "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
            "permessage-bzip2",
            "permessage-deflate; server_no_context_takeover;",
        ] {
            assert_eq!(check(&[bad]), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_small_window_takes_short_messages_of_any_window() {
        let offer = [&b"permessage-deflate; server_max_window_bits=9"[..]];
        let agreement = Agreement::of_offers(offer.into_iter(), 9).expect("well written").expect("usable");
        assert!(agreement.allows(15, 512) && !agreement.allows(15, 513) && agreement.allows(9, 1 << 20));
    }
}
