//! HTTP on the chat port: what is asked, who may ask, and the answers.

use annulus_protocols::http1::{BodyLength, Exchange, RequestHead, write_response_head};
use annulus_protocols::websocket::handshake::Upgrade;

/// Where clients connect.
pub const WEBSOCKET_PATH: &str = "/connection/websocket";
/// The page at `/`, in the binary.
const PAGE: &str = include_str!("page.html");
/// The page needs its own script and style, and connections to where it came from; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A WebSocket.
    Connect,
    /// The page.
    Page,
    /// `/health`
    Health,
    /// `/metrics`
    Metrics,
    /// `POST /api/<method>`
    Api(String),
    /// Something that is there, by another method.
    NotAllowed(&'static str),
    /// Nothing.
    NotFound,
}

/// Chooses by method and path.
pub fn route(method: &str, path: &str) -> Route {
    let reads = matches!(method, "GET" | "HEAD");
    match path {
        WEBSOCKET_PATH => Route::Connect,
        "/" | "/health" | "/metrics" if !reads => Route::NotAllowed("GET, HEAD"),
        "/" => Route::Page,
        "/health" => Route::Health,
        "/metrics" => Route::Metrics,
        _ => match path.strip_prefix("/api/") {
            Some(_) if method != "POST" => Route::NotAllowed("POST"),
            Some(method) => Route::Api(method.to_owned()),
            None => Route::NotFound,
        },
    }
}

/// Whether the key in `X-API-Key`, or in `?api_key=`, is the configured one. Compared without telling by time how much
/// of it was right.
pub fn has_key(head: &RequestHead<'_>, key: &str) -> bool {
    let query = head.query().unwrap_or_default();
    let in_query = || query.split('&').find_map(|pair| pair.strip_prefix("api_key=")).map(str::as_bytes);
    let Some(offered) = head.fields().get("x-api-key").or_else(in_query) else { return false };
    let differing = offered.iter().zip(key.as_bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    offered.len() == key.len() && differing == 0
}

/// Whether a page of this origin may connect: none is told (not a browser), it is where the request goes (our own page),
/// or it matches a pattern of the configuration, `*` standing for anything but a slash.
pub fn is_origin_allowed(upgrade: &Upgrade<'_>, head: &RequestHead<'_>, allowed: &[String]) -> bool {
    let Some(origin) = upgrade.origin() else { return true };
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let host = head.fields().get("host").and_then(|host| std::str::from_utf8(host).ok());
    let same = host.is_some_and(|host| {
        let after = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        after.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    same || allowed.iter().any(|pattern| matches_glob(pattern.as_bytes(), origin.to_ascii_lowercase().as_bytes()))
}

fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            let reach = text.iter().position(|&byte| byte == b'/').unwrap_or(text.len());
            (0..=reach).any(|taken| matches_glob(rest, &text[taken..]))
        }
        Some((literal, rest)) => text
            .split_first()
            .is_some_and(|(byte, text)| byte == &literal.to_ascii_lowercase() && matches_glob(rest, text)),
    }
}

/// Appends a whole answer; whether the connection must close after it.
pub fn answer(out: &mut Vec<u8>, exchange: &Exchange, status: u16, fields: &[(&str, &str)], body: &[u8]) -> bool {
    let mut writer = write_response_head(out, exchange, status, fields, BodyLength::Known(body.len() as u64));
    writer.write_data(out, body);
    writer.write_end(out)
}

/// Appends an answer of JSON.
pub fn answer_json(out: &mut Vec<u8>, exchange: &Exchange, status: u16, body: &[u8]) -> bool {
    answer(out, exchange, status, &[("content-type", "application/json")], body)
}

/// Appends a problem document (RFC 9457).
pub fn answer_problem(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    status: u16,
    title: &str,
    fields: &[(&str, &str)],
) -> bool {
    let mut body = b"{\"title\":".to_vec();
    annulus_protocols::json::write_string(&mut body, title);
    body.extend_from_slice(format!(",\"status\":{status}}}\n").as_bytes());
    let fields = [&[("content-type", "application/problem+json")], fields].concat();
    answer(out, exchange, status, &fields, &body)
}

/// Appends the page.
pub fn answer_page(out: &mut Vec<u8>, exchange: &Exchange) -> bool {
    let fields = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", PAGE_POLICY),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    answer(out, exchange, 200, &fields, PAGE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_know_their_methods() {
        assert_eq!(route("GET", "/"), Route::Page);
        assert_eq!(route("POST", "/"), Route::NotAllowed("GET, HEAD"));
        assert_eq!(route("GET", WEBSOCKET_PATH), Route::Connect);
        assert_eq!(route("POST", "/api/publish"), Route::Api("publish".into()));
        assert_eq!(route("GET", "/api/publish"), Route::NotAllowed("POST"));
        assert_eq!(route("GET", "/api"), Route::NotFound);
        assert_eq!(route("HEAD", "/health"), Route::Health);
    }

    #[test]
    fn patterns_of_origins() {
        let matches = |pattern: &str, origin: &str| matches_glob(pattern.as_bytes(), origin.as_bytes());
        assert!(matches("https://example.com", "https://example.com"));
        assert!(matches("https://*.example.com", "https://chat.example.com"));
        assert!(matches("https://Example.com:*", "https://example.com:8443"));
        assert!(!matches("https://*.example.com", "https://example.com"));
        assert!(!matches("https://*.example.com", "https://evil.com/.example.com"));
        assert!(!matches("https://example.com", "https://example.com.evil.org"));
    }
}
