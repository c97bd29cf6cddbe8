//! Request heads: tokenised by `httparse`, then held to our rules about lengths, hosts and targets.

use super::limits::FIELDS_CAPACITY;
use super::{Exchange, Fault, Fields, Limits};
use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no persistence unless asked for.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunked transfer coding; the length is not known in advance.
    Chunked,
    /// Everything until the connection ends; answers only.
    UntilClose,
}

/// A checked request head. Its bytes lie in the receive buffer, or are owned when they arrived in pieces.
#[derive(Clone)]
pub struct RequestHead<'a> {
    bytes: Cow<'a, [u8]>,
    method: Range<usize>,
    target: Range<usize>,
    /// Where the fields start.
    fields_at: usize,
    framing: BodyFraming,
    exchange: Exchange,
}

impl RequestHead<'_> {
    /// The method as sent; methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// The request target as sent: ASCII without spaces and control characters, percent-encoding untouched.
    pub fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// The target's path, without scheme, authority and query. Empty for the authority form.
    pub fn path(&self) -> &str {
        split_target(self.target()).0
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&str> {
        split_target(self.target()).1
    }

    /// The fields.
    pub fn fields(&self) -> Fields<'_> {
        Fields::from_checked(&self.bytes[self.fields_at..])
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        self.exchange.version()
    }

    /// How the end of the request's body is known.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// What the answer to this request has to know about it. Keep it until the answer is written.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// The head with bytes of its own.
    pub fn into_owned(self) -> RequestHead<'static> {
        RequestHead { bytes: Cow::Owned(self.bytes.into_owned()), ..self }
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).expect("checked to be ASCII when parsed")
    }
}

/// Shows method and length only: targets and fields may hold credentials.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHead({} , {} bytes)", self.method(), self.bytes.len())
    }
}

/// Parses a whole head, from its request line to its empty line.
pub(super) fn parse_request<'a>(bytes: Cow<'a, [u8]>, limits: &Limits) -> Result<RequestHead<'a>, Fault> {
    let mut space = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(&bytes, &mut space).map_err(fault_of)?;
    let complete = parsed == httparse::Status::Complete(bytes.len());
    let (Some(method), Some(target), Some(minor), true) = (request.method, request.path, request.version, complete)
    else {
        return Err(Fault::StartLine);
    };
    if request.headers.len() > limits.fields_max {
        return Err(Fault::TooManyFields);
    }
    if target.len() > limits.target_bytes_max {
        return Err(Fault::TargetTooLong);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let known = KnownFields::gather(request.headers)?;
    check_target(method, target)?;
    known.check_host(version, target)?;
    let framing = known.framing(version, limits)?;
    let exchange = Exchange::new(version, method == "HEAD", known.persists(version), known.expects_continue(version)?);
    // One space each lies between method, target and version; httparse accepts no more.
    let method = 0..method.len();
    let target = method.end + 1..method.end + 1 + target.len();
    let fields_at = target.end + " HTTP/1.1\r\n".len();
    Ok(RequestHead { bytes, method, target, fields_at, framing, exchange })
}

pub(super) fn fault_of(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Version => Fault::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine => Fault::Field,
        httparse::Error::Token | httparse::Error::Status => Fault::StartLine,
    }
}

/// The fields that say where the message ends and where it goes, gathered in one pass.
#[derive(Default)]
pub(super) struct KnownFields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
}

impl<'a> KnownFields<'a> {
    pub(super) fn gather(headers: &[httparse::Header<'a>]) -> Result<Self, Fault> {
        let mut known = Self::default();
        for header in headers {
            let once = match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => (&mut known.host, Fault::Host),
                6 if header.name.eq_ignore_ascii_case("expect") => (&mut known.expect, Fault::Expectation),
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    known.gather_connection(header.value);
                    continue;
                }
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    (&mut known.content_length, Fault::ContentLength)
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    (&mut known.transfer_encoding, Fault::TransferEncoding)
                }
                _ => continue,
            };
            // Stricter than RFC 9110 section 8.6, which lets a recipient merge equal lengths.
            if once.0.replace(header.value.trim_ascii()).is_some() {
                return Err(once.1);
            }
        }
        Ok(known)
    }

    fn gather_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 9.3.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn expects_continue(&self, version: Version) -> Result<bool, Fault> {
        match self.expect {
            None => Ok(false),
            // RFC 9110 section 10.1.1: in HTTP/1.0 it is ignored.
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(version == Version::Http11),
            Some(_) => Err(Fault::Expectation),
        }
    }

    /// RFC 9112 section 3.2: exactly one `Host` in HTTP/1.1. Stricter: it must not differ from an absolute target's
    /// authority.
    fn check_host(&self, version: Version, target: &str) -> Result<(), Fault> {
        let Some(host) = self.host else {
            return if version == Version::Http11 { Err(Fault::Host) } else { Ok(()) };
        };
        let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
        if !host.iter().all(is_host_byte) {
            return Err(Fault::Host);
        }
        match authority_of(target) {
            Some(authority) if !authority.as_bytes().eq_ignore_ascii_case(host) => Err(Fault::Host),
            _ => Ok(()),
        }
    }

    /// Whether the message says how long its body is.
    pub(super) fn has_length(&self) -> bool {
        self.content_length.is_some() || self.transfer_encoding.is_some()
    }

    /// RFC 9112 section 6.3, with every ambiguity refused.
    pub(super) fn framing(&self, version: Version, limits: &Limits) -> Result<BodyFraming, Fault> {
        match (self.transfer_encoding, self.content_length) {
            (None, None) => Ok(BodyFraming::None),
            (Some(_), Some(_)) => Err(Fault::TwoLengths),
            (Some(_), None) if version == Version::Http10 => Err(Fault::TransferEncoding),
            (Some(value), None) => check_chunked(value).map(|()| BodyFraming::Chunked),
            (None, Some(value)) => match parse_length(value)? {
                0 => Ok(BodyFraming::None),
                length if length > limits.body_bytes_max => Err(Fault::BodyTooLarge),
                length => Ok(BodyFraming::Length(length)),
            },
        }
    }
}

/// Exactly `chunked`. Another coding before it is one that we lack (501); everything else is malformed.
fn check_chunked(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let last_is_chunked = codings.next_back().is_some_and(is_chunked);
    if last_is_chunked && codings.all(|coding| !coding.is_empty() && !is_chunked(coding)) {
        return Err(Fault::TransferCoding);
    }
    Err(Fault::TransferEncoding)
}

/// One plain decimal number: no sign, no list, no white space inside.
fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    // Nineteen digits always fit.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::ContentLength);
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// RFC 9112 section 3.2: the form must fit the method. A fragment has no place in a request.
fn check_target(method: &str, target: &str) -> Result<(), Fault> {
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let form = match method {
        "CONNECT" => !target.starts_with('/') && !target.contains(['/', '?', '@']),
        "OPTIONS" if target == "*" => true,
        _ => target.starts_with('/') || authority_of(target).is_some_and(|authority| !authority.is_empty()),
    };
    if visible && form { Ok(()) } else { Err(Fault::Target) }
}

/// The authority of an absolute-form target.
fn authority_of(target: &str) -> Option<&str> {
    // Nearly every target has the origin form, which needs no search.
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    Some(rest.split(['/', '?']).next().unwrap_or(rest))
}

/// Path and query of a target in any form.
fn split_target(target: &str) -> (&str, Option<&str>) {
    let local = match authority_of(target) {
        Some(authority) => &target[target.find("://").map_or(0, |at| at + 3) + authority.len()..],
        None if target.starts_with('/') || target == "*" => target,
        None => "",
    };
    match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    }
}
