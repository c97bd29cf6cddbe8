//! A request as a service sees it: its head, taken apart, and who sent it.

use std::net::IpAddr;
use std::time::Duration;

use annulus_protocols::http1::{Fields, RequestHead};

use crate::percent;

/// A request's head and where it came from.
#[derive(Debug)]
pub struct Request {
    head: RequestHead<'static>,
    /// Who is on the other end of the connection.
    pub peer: IpAddr,
    /// When its head was here, on the shard's clock.
    pub began: Duration,
}

impl Request {
    pub(super) fn new(head: RequestHead<'static>, peer: IpAddr, began: Duration) -> Request {
        Request { head, peer, began }
    }

    /// The method as sent.
    pub fn method(&self) -> &str {
        self.head.method()
    }

    /// Whether it only reads: GET or HEAD.
    pub fn reads(&self) -> bool {
        matches!(self.method(), "GET" | "HEAD")
    }

    /// The target's path, percent-encoding untouched.
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// The path's segments, percent-encoding untouched; those of `/a/b` are `a` and `b`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let path = self.path();
        path.strip_prefix('/').unwrap_or(path).split('/')
    }

    /// The query's pairs, decoded, in their order. What is not UTF-8 after decoding is left out.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.head.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
    }

    /// The first value of that name in the query.
    pub fn query_value(&self, wanted: &str) -> Option<String> {
        self.query().find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    /// The fields.
    pub fn fields(&self) -> Fields<'_> {
        self.head.fields()
    }

    /// The first value of a field, if it is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields().get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// How long the body is, as far as the head says; 0 for none, `None` if it is not known before its end.
    pub fn body_len(&self) -> Option<u64> {
        match self.head.framing() {
            annulus_protocols::http1::BodyFraming::None => Some(0),
            annulus_protocols::http1::BodyFraming::Length(len) => Some(len),
            _ => None,
        }
    }

    /// The credential in `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, credential) = self.field("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
    }
}

/// Percent-decoding, and `+` for a space, as forms write queries.
fn decode(text: &str) -> Option<String> {
    percent::decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decode("a+b%20c%2Bd").as_deref(), Some("a b c+d"));
        assert_eq!(decode("%C3%A4").as_deref(), Some("ä"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
