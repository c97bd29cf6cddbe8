//! Answer heads: the same tokeniser and the same strictness as for requests, because a proxy that misreads where an
//! answer ends gives one user's answer to another.

use super::head::{KnownFields, fault_of};
use super::limits::FIELDS_CAPACITY;
use super::{BodyFraming, Fault, Fields, Limits, Version};
use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

/// A checked answer head. Its bytes lie in the receive buffer, or are owned when they arrived in pieces.
#[derive(Clone)]
pub struct ResponseHead<'a> {
    bytes: Cow<'a, [u8]>,
    status: u16,
    version: Version,
    framing: BodyFraming,
    persists: bool,
    /// Where the fields start.
    fields_at: usize,
}

impl ResponseHead<'_> {
    /// The status, 100-999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the end of the answer's body is known.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the connection can take another request once this answer is complete.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The fields.
    pub fn fields(&self) -> Fields<'_> {
        Fields::from_checked(&self.bytes[self.fields_at..])
    }

    /// The head with bytes of its own.
    pub fn into_owned(self) -> ResponseHead<'static> {
        ResponseHead { bytes: Cow::Owned(self.bytes.into_owned()), ..self }
    }
}

/// Shows status and length only: fields may hold credentials.
impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseHead({}, {} bytes)", self.status, self.bytes.len())
    }
}

/// Parses a whole head, from its status line to its empty line. `bodiless` says that the request was a HEAD.
pub(super) fn parse_response<'a>(
    bytes: Cow<'a, [u8]>,
    bodiless: bool,
    limits: &Limits,
) -> Result<ResponseHead<'a>, Fault> {
    let mut space = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, &bytes, &mut space)
        .map_err(fault_of)?;
    let complete = parsed == httparse::Status::Complete(bytes.len());
    let (Some(status @ 100..), Some(minor), true) = (response.code, response.version, complete) else {
        return Err(Fault::StartLine);
    };
    if response.headers.len() > limits.fields_max {
        return Err(Fault::TooManyFields);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let known = KnownFields::gather(response.headers)?;
    // The lengths are held to the rules even where there is no body: two of them are a sign of an attack.
    let declared = known.framing(version, limits);
    let framing = match declared {
        // RFC 9112 section 6.3: whatever the fields say. A HEAD's answer may name a length that we would not take.
        Ok(_) | Err(Fault::BodyTooLarge) if bodiless || matches!(status, 100..=199 | 204 | 304) => BodyFraming::None,
        Ok(BodyFraming::None) if !known.has_length() => BodyFraming::UntilClose,
        declared => declared?,
    };
    let persists = known.persists(version) && framing != BodyFraming::UntilClose;
    let fields_at = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |line_feed| line_feed + 1);
    Ok(ResponseHead { bytes, status, version, framing, persists, fields_at })
}
