//! Problem documents (RFC 9457): what went wrong, for the one who asked.

use annulus_protocols::http1::reason_phrase;
use annulus_protocols::json::write_string;

use super::message::Failure;
use super::request::Reply;

/// The media type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A backend that failed, as told to clients.
pub struct Failed<'a> {
    /// The backend: its pattern, which names no host.
    pub backend: &'a str,
    /// Where and why.
    pub failure: &'a Failure,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A problem with a sentence about it.
pub fn problem(status: u16, detail: &str) -> Reply {
    with_backends(status, detail, &[])
}

/// A problem that backends have caused.
pub fn with_backends(status: u16, detail: &str, failed: &[Failed<'_>]) -> Reply {
    let mut body = b"{\"title\":".to_vec();
    write_string(&mut body, reason_phrase(status));
    body.extend_from_slice(format!(",\"status\":{status},\"detail\":").as_bytes());
    write_string(&mut body, detail);
    if !failed.is_empty() {
        body.extend_from_slice(b",\"backends\":[");
        for (index, one) in failed.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"backend\":");
            write_string(&mut body, one.backend);
            body.extend_from_slice(format!(",\"phase\":\"{}\",\"cause\":", one.failure.phase.name()).as_bytes());
            write_string(&mut body, &one.failure.cause.to_string());
            body.extend_from_slice(format!(",\"elapsed_ms\":{}}}", one.elapsed_ms).as_bytes());
        }
        body.push(b']');
    }
    body.extend_from_slice(b"}\n");
    Reply::new(status, CONTENT_TYPE, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::message::{Cause, Phase};
    use crate::gateway::request::ReplyBody;

    #[test]
    fn a_problem_is_json_and_names_the_backend() {
        let failure = Failure { phase: Phase::Body, cause: Cause::TooLarge(10), unprocessed: false };
        let failed = Failed { backend: "/a/\"{id}\"", failure: &failure, elapsed_ms: 7 };
        let reply = with_backends(502, "no luck", &[failed]);
        let ReplyBody::Whole(pieces) = reply.body else { panic!("a problem is whole") };
        let mut body = Vec::new();
        pieces.copy_to(&mut body);
        annulus_protocols::json::validate(&body).unwrap();
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(r#""title":"Bad Gateway","status":502"#), "{text}");
        assert!(
            text.contains(r#""phase":"body","cause":"the answer is larger than 10 bytes","elapsed_ms":7"#),
            "{text}"
        );
    }
}
