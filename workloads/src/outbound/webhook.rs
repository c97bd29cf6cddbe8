//! A webhook: documents that another server is told, signed so that it knows whose they are.
//!
//! ```text
//!   POST endpoint
//!   X-Annulus-Delivery: names what is told, the same in every attempt
//!   X-Annulus-Signature: t=UNIX SECONDS,v1=HMAC-SHA256(key, "UNIX SECONDS.BODY") in hexadecimal digits
//! ```
//!
//! With several keys there is a `v1` of each, so that the other side may know one of them only while they are changed. What is
//! told, and when it is told again, is for its owner to say. A redirect is a refusal: where it goes is the configuration's to
//! say.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;

use super::{Endpoint, Outbound, post_json};
use crate::gateway::fetching::Upstream;
use crate::hex;

/// Bytes of a key, at least: as many as the hash gives (RFC 2104 section 3).
pub const KEY_BYTES_MIN: usize = 32;
/// Bytes of an answer. A longer one is left unread, and its connection is not used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What has become of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The other side has it.
    Taken,
    /// It may take it later.
    Later(String),
    /// It will not.
    Refused(String),
}

/// Where documents are told, and what they are signed with.
pub struct Webhook {
    outbound: Rc<Outbound>,
    /// Keeps idle connections for as long as there is a webhook.
    _upstream: Rc<Upstream>,
    endpoint: Endpoint,
    keys: Vec<hmac::Key>,
    fields: Vec<(String, String)>,
    timeout: Duration,
}

impl Webhook {
    /// To an endpoint, signed with each of these keys, with fields that are always sent, which are in lower case. An answer may
    /// take as long as `timeout`.
    pub fn new(
        outbound: &Rc<Outbound>,
        endpoint: Endpoint,
        keys: &[&str],
        fields: Vec<(String, String)>,
        timeout: Duration,
    ) -> Webhook {
        let keys = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())).collect();
        let upstream = outbound.upstream(&endpoint);
        Webhook { outbound: outbound.clone(), _upstream: upstream, endpoint, keys, fields, timeout }
    }

    /// Where that is, for messages.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One attempt, signed with the time that it is now.
    pub async fn tell(&self, delivery: &str, body: &[u8]) -> Outcome {
        // The machine's clock as it is: the other side compares it with its own.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = signature(&self.keys, seconds, body);
        let own = [("x-annulus-delivery", delivery), ("x-annulus-signature", &signature[..])];
        let chosen = self.fields.iter().map(|(name, value)| (&name[..], &value[..]));
        let fields: Vec<(&str, &[u8])> =
            own.into_iter().chain(chosen).map(|(name, value)| (name, value.as_bytes())).collect();
        let posted = post_json(&self.outbound, &self.endpoint, &fields, body, ANSWER_BYTES_MAX, self.timeout).await;
        posted.map_or_else(Outcome::Later, |status| outcome_of(&self.endpoint, status))
    }
}

/// What a status means: what is wrong with a request will be wrong with it the next time, too.
fn outcome_of(endpoint: &Endpoint, status: u16) -> Outcome {
    let says = || format!("{endpoint} answered with status {status}");
    match status {
        200..300 => Outcome::Taken,
        // Too slowly (RFC 9110 section 15.5.9), too early (RFC 8470 section 5.2), too many (RFC 6585 section 4).
        408 | 425 | 429 => Outcome::Later(says()),
        300..500 => Outcome::Refused(says()),
        _ => Outcome::Later(says()),
    }
}

/// The value of `X-Annulus-Signature`.
fn signature(keys: &[hmac::Key], seconds: u64, body: &[u8]) -> String {
    let mut value = format!("t={seconds}");
    for key in keys {
        let mut context = hmac::Context::with_key(key);
        context.update(format!("{seconds}.").as_bytes());
        context.update(body);
        value += ",v1=";
        value += &hex::encode(context.sign().as_ref());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_request_is_not_told_again_and_what_passes_is() {
        let endpoint = Endpoint::read("https://a.b/c?key=hush").unwrap();
        for status in [200, 201, 204, 299] {
            assert_eq!(outcome_of(&endpoint, status), Outcome::Taken, "{status}");
        }
        for status in [301, 302, 308, 400, 401, 403, 404, 410, 413, 422] {
            let says = format!("https://a.b/c answered with status {status}");
            assert_eq!(outcome_of(&endpoint, status), Outcome::Refused(says));
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 999] {
            assert!(matches!(outcome_of(&endpoint, status), Outcome::Later(_)), "{status}");
        }
    }

    /// The digits are those of `printf '1700000000.{}' | openssl dgst -sha256 -hmac Jefe`.
    #[test]
    fn a_signature_is_of_the_time_and_the_body_with_each_key() {
        let key = |key: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, key);
        let digits = "d3793e2b4103edfbd98cc19591832f5fad701d413db9fcae0ae7dab8184ed207";
        let signed = |seconds, body: &[u8]| signature(&[key(b"Jefe")], seconds, body);
        assert_eq!(signed(1_700_000_000, b"{}"), format!("t=1700000000,v1={digits}"));
        assert!(!signed(1_700_000_001, b"{}").ends_with(digits));
        assert!(!signed(1_700_000_000, b"[]").ends_with(digits));
        let both = signature(&[key(b"new"), key(b"Jefe")], 1_700_000_000, b"{}");
        let parts: Vec<&str> = both.split(',').collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (3, "t=1700000000", &format!("v1={digits}")[..]));
        assert!(parts[1].starts_with("v1=") && parts[1] != parts[2]);
    }
}
