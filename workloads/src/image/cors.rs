//! Pages of other sites: which of them may ask the API from a browser (the CORS protocol of the Fetch standard).
//!
//! Nothing here is a leave: a page shows an API key like everybody else. A browser is told whether a page may read the answer.

use crate::config::{Value, expected, list, string};
use crate::serve::{Reply, Request};

/// Origins, at most.
const ORIGINS_MAX: usize = 100;
/// What a page may send.
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
/// And with which fields.
const FIELDS: &str = "authorization, x-api-key, content-type, idempotency-key, prefer, if-match, if-none-match, if-range, range, \
                      last-event-id, x-requested-with, x-request-id, x-http-method-override, tus-resumable, upload-length, \
                      upload-offset, upload-metadata, upload-checksum, upload-defer-length, upload-concat";
/// What of an answer it may read beside what it always may.
const EXPOSED: &str = "location, content-location, content-range, etag, retry-after, idempotency-replayed, preference-applied, \
                       tus-resumable, tus-version, tus-extension, tus-max-size, tus-checksum-algorithm, upload-offset, \
                       upload-length, upload-metadata, upload-expires, x-annulus-job, x-annulus-job-location";
/// How long a browser may remember that, in seconds: the longest that any of them does.
const REMEMBERED: &str = "7200";

/// Sites whose pages may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    origins: Vec<String>,
}

impl Origins {
    /// Reads a list of origins, or of `*`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(value: &Value<'_>) -> Result<Origins, String> {
        const WHAT: &str = "a list of origins such as [\"https://shop.example.com\"], or [\"*\"]";
        let mut read = Origins::default();
        for origin in list(value, WHAT)? {
            let origin = string(origin, WHAT)?;
            if read.origins.len() == ORIGINS_MAX {
                return Err(format!("more than {ORIGINS_MAX} origins"));
            }
            match origin {
                "*" => read.all = true,
                _ if is_origin(origin) => read.origins.push(origin.to_ascii_lowercase()),
                _ => return expected(WHAT),
            }
        }
        Ok(read)
    }

    /// Whether no page of another site may ask.
    pub fn is_empty(&self) -> bool {
        !self.all && self.origins.is_empty()
    }

    /// The origin that asks, if it may.
    fn of<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let origin = request.field("origin")?;
        let is_one = self.all || self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
        is_one.then_some(origin)
    }

    /// The answer to a browser that asks what a page may send.
    pub(super) fn preflight(&self, request: &Request) -> Option<Reply> {
        let is_one = request.method() == "OPTIONS" && request.field("access-control-request-method").is_some();
        (is_one && self.of(request).is_some()).then(|| Reply::empty(204))
    }

    /// The answer with what a browser is to know of who may read it.
    pub(super) fn mark(&self, request: &Request, reply: Reply) -> Reply {
        if self.is_empty() {
            return reply;
        }
        let reply = reply.with("vary", "Origin");
        let Some(origin) = self.of(request) else { return reply };
        let reply = reply.with("access-control-allow-origin", origin).with("access-control-expose-headers", EXPOSED);
        match request.method() {
            "OPTIONS" => reply
                .with("access-control-allow-methods", METHODS)
                .with("access-control-allow-headers", FIELDS)
                .with("access-control-max-age", REMEMBERED),
            _ => reply,
        }
    }
}

/// Whether a text is what a browser sends as `Origin`: scheme, host, perhaps a port, and nothing after it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    matches!(scheme, "http" | "https")
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path() {
        for origin in ["https://shop.example.com", "http://localhost:3000", "http://[::1]:80"] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in
            ["", "null", "shop.example.com", "https://", "https://a/", "https://a b", "ftp://a", "https://*.a,b"]
        {
            assert!(!is_origin(text), "{text}");
        }
    }
}
