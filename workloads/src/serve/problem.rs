//! Problem documents (RFC 9457): what went wrong, and what to do about it, for the one who asked.

use annulus_protocols::http1::reason_phrase;
use annulus_protocols::json::write_string;

use super::reply::{Reply, ReplyBody};

/// The media type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A refusal, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: u16,
    /// The problem's type: a URI reference that does not change (RFC 9457 section 3.1.1), or nothing for `about:blank`.
    pub kind: Option<&'static str>,
    /// What it is called, in a few words.
    pub title: &'static str,
    /// A sentence: what happened, to what, and what to do.
    pub detail: String,
    /// Further fields of the answer.
    pub fields: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem that the status says all about, but for the detail.
    pub fn new(status: u16, detail: impl Into<String>) -> Problem {
        Problem { status, kind: None, title: reason_phrase(status), detail: detail.into(), fields: Vec::new() }
    }

    /// The problem with a type and a title of its own.
    pub fn of_kind(self, kind: &'static str, title: &'static str) -> Problem {
        Problem { kind: Some(kind), title, ..self }
    }

    /// The problem with one more field of the answer.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Problem {
        self.fields.push((name, value.into()));
        self
    }

    /// The document.
    pub fn document(&self) -> Vec<u8> {
        let mut body = b"{\"type\":".to_vec();
        write_string(&mut body, self.kind.unwrap_or("about:blank"));
        body.extend_from_slice(b",\"title\":");
        write_string(&mut body, self.title);
        body.extend_from_slice(format!(",\"status\":{},\"detail\":", self.status).as_bytes());
        write_string(&mut body, &self.detail);
        body.extend_from_slice(b"}\n");
        body
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Reply {
        let body = ReplyBody::Bytes(problem.document());
        let mut fields = vec![("content-type", CONTENT_TYPE.to_owned()), ("cache-control", "no-store".to_owned())];
        fields.extend(problem.fields);
        Reply { status: problem.status, fields, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_with_its_four_members() {
        let problem =
            Problem::new(429, "Wait \"a\" bit.").of_kind("/problems/full", "Too busy").with("retry-after", "3");
        let text = String::from_utf8(problem.document()).unwrap();
        annulus_protocols::json::validate(text.trim().as_bytes()).unwrap();
        let expected = r#"{"type":"/problems/full","title":"Too busy","status":429,"detail":"Wait \"a\" bit."}"#;
        assert_eq!(text.trim(), expected);
        let reply = Reply::from(problem);
        assert!(reply.status == 429 && reply.fields.contains(&("retry-after", "3".to_owned())));
        assert!(String::from_utf8(Problem::new(404, "x").document()).unwrap().contains("about:blank"));
    }
}
