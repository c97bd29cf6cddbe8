//! HTTP on the chat port: what is asked, who may ask, and the answers.

use annulus_protocols::http1::{BodyLength, Exchange, RequestHead, write_response_head};

use super::admin;
use super::config::Config;
use super::dialect::Carrier;
use crate::serve::visitor::is_local_name;

/// The page at `/`, in the binary.
const PAGE: &str = include_str!("page.html");
/// The page needs its own script and style, and connections to where it came from; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long a browser may go by what it was told of other origins.
const PREFLIGHT_SECONDS: &str = "300";

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A WebSocket.
    Connect,
    /// A stream of messages, by this carrier.
    Stream(Carrier),
    /// A message of a stream's client.
    Emulation,
    /// Whether a page of another origin may ask for either.
    Preflight,
    /// The page.
    Page,
    /// `/health`
    Health,
    /// `/metrics`
    Metrics,
    /// `POST /api/<method>`
    Api(String),
    /// Something of the console's.
    Admin(admin::Ask),
    /// Something that is there, by another method.
    NotAllowed(&'static str),
    /// Nothing.
    NotFound,
}

/// Chooses by method and path.
pub fn route(config: &Config, method: &str, path: &str) -> Route {
    let paths = &config.paths;
    let reads = matches!(method, "GET" | "HEAD");
    if path == paths.websocket {
        return Route::Connect;
    }
    if let Some(route) = emulation_route(config, method, path) {
        return route;
    }
    if let Some(rest) = path.strip_prefix(paths.api.as_str()).and_then(|rest| rest.strip_prefix('/')) {
        return if method == "POST" { Route::Api(rest.to_owned()) } else { Route::NotAllowed("POST") };
    }
    if let Some(ask) = admin::route(method, path) {
        return Route::Admin(ask);
    }
    let route = match path {
        "/" => Route::Page,
        _ if paths.health.as_deref() == Some(path) => Route::Health,
        _ if paths.metrics.as_deref() == Some(path) => Route::Metrics,
        _ => return Route::NotFound,
    };
    if reads { route } else { Route::NotAllowed("GET, HEAD") }
}

/// What a path of clients without a WebSocket is asked for; `None`: it is none of theirs.
fn emulation_route(config: &Config, method: &str, path: &str) -> Option<Route> {
    let paths = &config.paths;
    let (route, allow) = match path {
        _ if config.http_stream && path == paths.http_stream => (Route::Stream(Carrier::HttpStream), "POST, OPTIONS"),
        _ if config.sse && path == paths.sse => (Route::Stream(Carrier::EventStream), "GET, POST, OPTIONS"),
        _ if config.has_emulation() && path == paths.emulation => (Route::Emulation, "POST, OPTIONS"),
        _ => return None,
    };
    Some(match allow.split(", ").any(|allowed| allowed == method) {
        true if method == "OPTIONS" => Route::Preflight,
        true => route,
        false => Route::NotAllowed(allow),
    })
}

/// What a page of another origin may read: what it asks for, if it was let in (Fetch, section 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors(Option<String>);

impl Cors {
    /// Nothing.
    pub const NONE: Cors = Cors(None);

    /// Of a request whose origin was let in.
    pub fn of(head: &RequestHead<'_>) -> Cors {
        let origin = head.fields().get("origin").and_then(|origin| std::str::from_utf8(origin).ok());
        Cors(origin.map(str::to_owned))
    }

    /// The fields that say so.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        match &self.0 {
            None => Vec::new(),
            Some(origin) => vec![
                ("access-control-allow-origin", origin),
                ("access-control-allow-credentials", "true"),
                ("vary", "origin"),
            ],
        }
    }
}

/// Appends the answer to a browser that asks before it lets a page ask. Whether the connection must close after it.
pub fn answer_preflight(out: &mut Vec<u8>, exchange: &Exchange, head: &RequestHead<'_>) -> bool {
    let cors = Cors::of(head);
    let wanted =
        head.fields().get("access-control-request-headers").and_then(|wanted| std::str::from_utf8(wanted).ok());
    let mut fields = cors.fields();
    fields.extend([
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", wanted.unwrap_or("content-type")),
        ("access-control-max-age", PREFLIGHT_SECONDS),
    ]);
    answer(out, exchange, 204, &fields, b"")
}

/// Whether the page that a request comes from may do that: there is none (not a browser), it is where the request goes
/// (our own page), or it matches a pattern of the configuration, `*` standing for anything but a slash.
pub fn is_page_allowed(head: &RequestHead<'_>, config: &Config) -> bool {
    let Some(origin) = head.fields().get("origin") else { return true };
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let same = config.allow_own_origin && is_own_origin(origin, head) && may_be_own(head, config);
    let origin = origin.to_ascii_lowercase();
    same || config.allowed_origins.iter().any(|pattern| matches_glob(pattern.as_bytes(), origin.as_bytes()))
}

/// Whether a page may claim to be ours. Where everybody on this machine may do everything, only under a name that is always
/// this machine's: any other can be pointed here by a page that wants to act as its visitor.
fn may_be_own(head: &RequestHead<'_>, config: &Config) -> bool {
    let is_open_here = config.listen.ip().is_loopback() && (config.is_insecure() || config.is_api_open());
    let host = head.fields().get("host").and_then(|host| std::str::from_utf8(host).ok());
    !is_open_here || host.is_some_and(is_local_name)
}

/// Whether an origin is where the request goes.
pub fn is_own_origin(origin: &str, head: &RequestHead<'_>) -> bool {
    let host = head.fields().get("host").and_then(|host| std::str::from_utf8(host).ok());
    let after = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.zip(after).is_some_and(|(host, authority)| authority.eq_ignore_ascii_case(host))
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
    use annulus_protocols::Input;
    use annulus_protocols::http1::{Event, Limits, Server};

    use super::*;
    use crate::chat::config::Secret;

    #[test]
    fn routes_know_their_methods() {
        let mut config = Config::default();
        assert_eq!(route(&config, "POST", "/connection/http_stream"), Route::NotFound, "off unless it is switched on");
        assert_eq!(route(&config, "POST", "/emulation"), Route::NotFound);
        config.sse = true;
        assert_eq!(route(&config, "POST", "/connection/http_stream"), Route::NotFound);
        assert_eq!(route(&config, "GET", "/connection/sse"), Route::Stream(Carrier::EventStream));
        config.http_stream = true;
        let route = |method, path| route(&config, method, path);
        assert_eq!(route("POST", "/connection/http_stream"), Route::Stream(Carrier::HttpStream));
        assert_eq!(route("GET", "/connection/http_stream"), Route::NotAllowed("POST, OPTIONS"));
        assert_eq!(route("OPTIONS", "/emulation"), Route::Preflight);
        assert_eq!(route("POST", "/emulation"), Route::Emulation);
        assert_eq!(route("GET", "/"), Route::Page);
        assert_eq!(route("POST", "/"), Route::NotAllowed("GET, HEAD"));
        assert_eq!(route("GET", "/connection/websocket"), Route::Connect);
        assert_eq!(route("POST", "/api/publish"), Route::Api("publish".into()));
        assert_eq!(route("GET", "/api/publish"), Route::NotAllowed("POST"));
        assert_eq!(route("GET", "/api"), Route::NotFound);
        assert_eq!(route("HEAD", "/health"), Route::Health);
        assert_eq!(route("POST", "/admin/login"), Route::Admin(admin::Ask::Login));
        assert_eq!(route("GET", "/admin/nothing"), Route::NotFound);
    }

    #[test]
    fn an_open_node_believes_its_own_pages_under_its_own_names_only() {
        let mut closed = Config::default();
        closed.client.insecure = Some(false);
        closed.api.keys.push(Secret::new("k"));
        let open = Config::default();
        let is_allowed = |config: &Config, host: &str, origin: &str| {
            let mut bytes = format!("GET / HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\n\r\n").into_bytes();
            let mut input = Input::new(&mut bytes);
            let mut server = Server::new();
            let Event::Head(head) = server.next_event(&Limits::DEFAULT, 0, &mut input).unwrap() else {
                panic!("a head")
            };
            is_page_allowed(&head, config)
        };
        assert!(is_allowed(&open, "localhost:8000", "http://localhost:8000"));
        assert!(is_allowed(&open, "127.0.0.1:8000", "http://127.0.0.1:8000"));
        assert!(!is_allowed(&open, "rebound.example", "http://rebound.example"));
        assert!(is_allowed(&closed, "chat.example", "https://chat.example"), "tokens tell who may");
        assert!(!is_allowed(&closed, "chat.example", "https://other.example"));
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
