//! What goes wrong with a store, in a sentence: what was done, to what, what the store said, and what to do.

use super::xml::Node;
use crate::gateway::fetching::Failure;
use crate::image::store::StoreError;

/// Longest word of a store that is repeated in a sentence, in bytes.
const SAID_MAX: usize = 200;

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The store said so.
    Refused {
        /// The answer's status.
        status: u16,
        /// S3's word for it, such as `NoSuchKey`; empty where there was none.
        code: String,
        /// The store's sentence.
        message: String,
    },
    /// There was no answer, or none that can be understood; whether it was done is unknown.
    Unheard(String),
}

impl Trouble {
    /// What an answer of failure says.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Trouble {
        let error = std::str::from_utf8(body).ok().and_then(Node::parse).filter(|node| node.name == "Error");
        let said = |name| error.as_ref().and_then(|error| error.text(name)).map(plain).unwrap_or_default();
        Trouble::Refused { status, code: said("Code"), message: said("Message") }
    }

    /// A call that failed on its way.
    pub(super) fn of_failure(failure: &Failure) -> Trouble {
        Trouble::Unheard(format!("{}: {}", failure.phase.name(), failure.cause))
    }

    /// Whether the same call may go well a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Trouble::Unheard(_) => true,
            Trouble::Refused { status: 408 | 429 | 500 | 502 | 503 | 504, .. } => true,
            // The client's bytes did not come in time; another writer was at the same key.
            Trouble::Refused { code, .. } => {
                matches!(&code[..], "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted")
            }
        }
    }

    /// Whether there is no such object, or upload.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Trouble::Refused { status: 404, code, .. } if code != "NoSuchBucket")
    }

    /// Whether a condition did not hold: something is there already.
    pub(super) fn is_precondition(&self) -> bool {
        matches!(self, Trouble::Refused { status: 412, .. })
    }

    /// Whether the store does not offer the call, or not with these fields.
    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Trouble::Refused { status: 405 | 501, .. } => true,
            Trouble::Refused { code, .. } => matches!(&code[..], "NotImplemented" | "InvalidArgument"),
            Trouble::Unheard(_) => false,
        }
    }

    /// The sentence. `doing` is what was done, `at` to what and where.
    pub(super) fn told(&self, doing: &str, at: &str) -> StoreError {
        match self {
            Trouble::Unheard(why) => StoreError::Io(format!(
                "{doing} {at}: {why}. Fix: see that the store runs and can be reached from here (image.s3.endpoint)."
            )),
            Trouble::Refused { status, code, message } => {
                let said = [&code[..], &message[..]].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
                let said = if said.is_empty() { "nothing more".to_owned() } else { said.join(": ") };
                let sentence =
                    format!("{doing} {at}: the store answered {status} ({said}). Fix: {}", fix(*status, code));
                match is_full(*status, code) {
                    true => StoreError::Full(sentence),
                    false => StoreError::Io(sentence),
                }
            }
        }
    }
}

fn is_full(status: u16, code: &str) -> bool {
    status == 507 || matches!(code, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "StorageFull")
}

/// What a person can do about it.
fn fix(status: u16, code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => "make the bucket, or correct image.s3.bucket.",
        "InvalidAccessKeyId" => "correct access_key (AWS_ACCESS_KEY_ID); the store knows no such key.",
        "SignatureDoesNotMatch" => {
            "correct secret_key (AWS_SECRET_ACCESS_KEY); behind a proxy, see that it leaves Host and path as they are."
        }
        "ExpiredToken" | "InvalidToken" => "get new temporary keys, and start again with them.",
        "RequestTimeTooSkewed" | "AccessDeniedExpired" => "set this machine's clock: it is too far from the store's.",
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "PermanentRedirect" => {
            "correct image.s3.region and endpoint: the bucket is elsewhere."
        }
        "SlowDown" | "ServiceUnavailable" | "Throttling" => {
            "wait; if it goes on, ask for more of the store or send less."
        }
        "MethodNotAllowed" | "NotImplemented" => "the store lacks something that annulus needs: use another.",
        _ if is_full(status, code) => "make room in the store, or raise its quota.",
        _ => match status {
            300..=399 => "correct image.s3.endpoint, region and style: the store sends elsewhere.",
            401 | 403 => {
                "let this key get, put, delete and list objects of the bucket, and list and abort multipart uploads."
            }
            404 => "see that image.s3.bucket and endpoint are right.",
            500.. => "wait; the trouble is the store's own.",
            _ => "look at the store's own log.",
        },
    }
}

/// A stranger's text, cut and without what would break a log's line.
fn plain(text: &str) -> String {
    let cut = text.char_indices().map(|(at, _)| at).find(|at| *at >= SAID_MAX).unwrap_or(text.len());
    text[..cut].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let body =
            b"<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no\nmatch</Message></Error>";
        let trouble = Trouble::of_answer(403, body);
        let error = trouble.told("storing", "objects/a in bucket b at http://c").to_string();
        assert_eq!(
            error,
            "storing objects/a in bucket b at http://c: the store answered 403 (SignatureDoesNotMatch: no match). Fix: \
             correct secret_key (AWS_SECRET_ACCESS_KEY); behind a proxy, see that it leaves Host and path as they are."
        );
        assert!(!trouble.is_passing());
        assert!(matches!(Trouble::of_answer(507, b"").told("a", "b"), StoreError::Full(_)));
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        let error = |code: &str| format!("<Error><Code>{code}</Code></Error>").into_bytes();
        for (status, code, passing) in [
            (503, "SlowDown", true),
            (500, "InternalError", true),
            (400, "RequestTimeout", true),
            (409, "ConditionalRequestConflict", true),
            (412, "PreconditionFailed", false),
            (404, "NoSuchKey", false),
            (403, "AccessDenied", false),
        ] {
            assert_eq!(Trouble::of_answer(status, &error(code)).is_passing(), passing, "{code}");
        }
        assert!(Trouble::of_answer(404, b"").is_missing());
        assert!(!Trouble::of_answer(404, &error("NoSuchBucket")).is_missing());
    }
}
