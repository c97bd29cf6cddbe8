//! gRPC calls, passed on: what of the protocol is HTTP (the gRPC over HTTP/2 specification of the gRPC authors). Messages
//! are not looked into.

use std::time::Duration;

use annulus_protocols::http2::ErrorCode;

use super::message::{Cause, Failure, FieldList};
use super::part::member;
use super::problem;
use super::request::{Reply, ReplyBody};

/// A status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

#[allow(missing_docs)] // The specification says what they are.
impl Status {
    pub const CANCELLED: Status = Status(1);
    pub const UNKNOWN: Status = Status(2);
    pub const INVALID_ARGUMENT: Status = Status(3);
    pub const DEADLINE_EXCEEDED: Status = Status(4);
    pub const PERMISSION_DENIED: Status = Status(7);
    pub const RESOURCE_EXHAUSTED: Status = Status(8);
    pub const UNIMPLEMENTED: Status = Status(12);
    pub const INTERNAL: Status = Status(13);
    pub const UNAVAILABLE: Status = Status(14);
    pub const UNAUTHENTICATED: Status = Status(16);
}

/// Whether a request with these fields is a call. gRPC-Web is not: it lives on HTTP/1.1 and has its trailers in its body.
pub fn is_call(fields: &FieldList) -> bool {
    let kind = fields.text("content-type").unwrap_or_default();
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// Fields of the protocol itself, which go on whatever `input_headers` says.
pub const PROTOCOL_FIELDS: [&str; 3] = ["content-type", "grpc-encoding", "grpc-accept-encoding"];

/// How long a call may take from its beginning; nothing if its client does not say.
///
/// # Errors
/// What it says is no time.
pub fn timeout(fields: &FieldList) -> Result<Option<Duration>, ()> {
    let Some(text) = fields.get("grpc-timeout") else { return Ok(None) };
    let (unit, digits) = text.split_last().ok_or(())?;
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number = digits.iter().filter(|_| is_number).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let duration = match unit {
        _ if !is_number => return Err(()),
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(()),
    };
    Ok(Some(duration))
}

/// What is left of it, for the backend: in the finest unit that eight digits hold.
pub fn write_timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let units = [(left.as_micros(), 'u'), (left.as_millis(), 'm'), (left.as_secs().into(), 'S')];
    let fitting = units.into_iter().find(|(number, _)| *number <= MOST);
    let (number, unit) = fitting.unwrap_or_else(|| ((u128::from(left.as_secs()) / 3600).min(MOST), 'H'));
    format!("{number}{unit}")
}

/// The end of a call that we end, as trailers.
pub fn trailers(status: Status, message: &str) -> FieldList {
    let mut fields = FieldList::new();
    fields.push("grpc-status", status.0.to_string().as_bytes());
    fields.push("grpc-message", escaped(message).as_bytes());
    fields
}

/// A message as trailers can have it: what is not printable ASCII is percent-encoded, and so is the percent sign.
fn escaped(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// An answer that is nothing but the end of a call.
pub fn refusal(status: Status, message: &str) -> Reply {
    let mut reply = Reply::empty(200);
    reply.fields.push("content-type", b"application/grpc");
    for (name, value) in trailers(status, message).iter() {
        reply.fields.push(name, value);
    }
    reply
}

/// An answer of our own, as gRPC's clients understand it. What comes from a backend stays as it is.
pub fn told(reply: Reply) -> Reply {
    let ReplyBody::Whole(body) = &reply.body else { return reply };
    if reply.fields.get("grpc-status").is_some() {
        return reply;
    }
    told_as(of_status(reply.status), &reply, &detail(body))
}

/// An answer of our own as this status, with what its problem document says.
pub fn told_with(status: Status, reply: &Reply) -> Reply {
    match &reply.body {
        ReplyBody::Whole(body) => told_as(status, reply, &detail(body)),
        ReplyBody::Streamed(_) | ReplyBody::Tunnel(_) => refusal(status, ""),
    }
}

fn told_as(status: Status, reply: &Reply, message: &str) -> Reply {
    let mut told = Reply { last: reply.last, ..refusal(status, message) };
    // Clients that try again wait for so long (gRPC's proposal A6).
    if let Some(seconds) = reply.fields.text("retry-after").and_then(|text| text.parse::<u32>().ok()) {
        told.fields.push("grpc-retry-pushback-ms", (u64::from(seconds) * 1000).to_string().as_bytes());
    }
    for (name, value) in reply.fields.iter().filter(|(name, _)| *name == "x-request-id" || *name == "location") {
        told.fields.push(name, value);
    }
    told
}

/// The sentence of a problem document.
fn detail(body: &crate::serve::pieces::Pieces) -> String {
    let mut text = Vec::new();
    body.copy_to(&mut text);
    if annulus_protocols::json::validate(&text).is_err() {
        return String::new();
    }
    let detail = member(&text, "detail").and_then(annulus_protocols::json::Value::string);
    detail.map(|detail| detail.to_string()).unwrap_or_default()
}

/// What stands for an HTTP status of ours.
fn of_status(status: u16) -> Status {
    match status {
        400 | 413 => Status::INVALID_ARGUMENT,
        401 => Status::UNAUTHENTICATED,
        403 => Status::PERMISSION_DENIED,
        404 | 405 | 426 | 501 => Status::UNIMPLEMENTED,
        429 => Status::RESOURCE_EXHAUSTED,
        502 | 503 => Status::UNAVAILABLE,
        504 => Status::DEADLINE_EXCEEDED,
        500..=599 => Status::INTERNAL,
        _ => Status::UNKNOWN,
    }
}

/// Why a call failed.
pub fn of_failure(failure: &Failure) -> Status {
    match &failure.cause {
        Cause::Timeout => Status::DEADLINE_EXCEEDED,
        Cause::Refused(_) | Cause::Unresolved(..) | Cause::Transport(_) => Status::UNAVAILABLE,
        Cause::Reset(code) => of_reset(*code),
        Cause::Protocol(_) | Cause::TooLarge(_) | Cause::Status(_) | Cause::Malformed(_) => Status::INTERNAL,
    }
}

/// What a reset stands for, where no answer had begun.
fn of_reset(code: ErrorCode) -> Status {
    match code {
        ErrorCode::REFUSED_STREAM => Status::UNAVAILABLE,
        ErrorCode::CANCEL => Status::CANCELLED,
        ErrorCode::ENHANCE_YOUR_CALM => Status::RESOURCE_EXHAUSTED,
        ErrorCode::INADEQUATE_SECURITY => Status::PERMISSION_DENIED,
        _ => Status::INTERNAL,
    }
}

/// The end of a call that failed on its way.
pub fn failed(failure: &Failure) -> (Status, String) {
    (of_failure(failure), format!("{}: {}", failure.phase.name(), failure.cause))
}

/// What an answer that is nothing but an end says about its backend, as an HTTP status: a failing backend is told from one
/// that does its part.
pub fn standing(status: u16, fields: &FieldList) -> u16 {
    match fields.text("grpc-status").and_then(|text| text.parse::<u8>().ok()).map(Status) {
        None => status,
        Some(Status::UNAVAILABLE) => 503,
        Some(Status::DEADLINE_EXCEEDED) => 504,
        Some(Status::RESOURCE_EXHAUSTED) => 429,
        Some(Status::INTERNAL | Status(15)) => 500,
        Some(_) => status,
    }
}

/// A call for which nobody is here.
pub fn unimplemented() -> Reply {
    let problem = problem::problem(501, "this endpoint passes no gRPC on: its output_encoding has to be no-op");
    told(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> FieldList {
        let mut fields = FieldList::new();
        pairs.iter().for_each(|(name, value)| fields.push(name, value.as_bytes()));
        fields
    }

    #[test]
    fn calls_are_told_by_their_type() {
        for (kind, is_one) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(&fields(&[("content-type", kind)])), is_one, "{kind}");
        }
        assert!(!is_call(&FieldList::new()));
    }

    #[test]
    fn timeouts_are_read_and_written() {
        let read = |text: &str| timeout(&fields(&[("grpc-timeout", text)]));
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("1u", Duration::from_micros(1)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Ok(Some(expected)), "{text}");
        }
        for text in ["", "1", "S", "123456789S", "-1S", "1s", "1.5S", "1 S"] {
            assert_eq!(read(text), Err(()), "{text}");
        }
        assert_eq!(timeout(&FieldList::new()), Ok(None));
        for (left, expected) in [
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(200_000), "200000S"),
            (Duration::from_secs(99_999_999 * 3600), "99999999H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(write_timeout(left), expected);
        }
    }

    #[test]
    fn our_own_words_become_the_end_of_a_call() {
        let reply = problem::problem(429, "too often: 100 %, naïve").with("retry-after", "3");
        let told = told(reply);
        assert_eq!(told.status, 200);
        let field = |name: &str| told.fields.text(name).unwrap_or_default();
        assert_eq!((field("grpc-status"), field("grpc-retry-pushback-ms")), ("8", "3000"));
        assert_eq!(field("grpc-message"), "too often: 100 %25, na%C3%AFve");
        assert!(matches!(told.body, ReplyBody::Whole(body) if body.is_empty()));
        assert_eq!(told_with(Status::UNAVAILABLE, &problem::problem(503, "x")).fields.text("grpc-status"), Some("14"));
    }

    #[test]
    fn a_backend_whose_calls_fail_fails() {
        assert_eq!(standing(200, &fields(&[("grpc-status", "14")])), 503);
        assert_eq!(standing(200, &fields(&[("grpc-status", "5")])), 200);
        assert_eq!(standing(502, &FieldList::new()), 502);
    }
}
