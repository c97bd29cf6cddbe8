//! What the gateway answers by itself: health, an echo, a fake upstream, the dashboard and its figures.

use std::rc::Rc;

use annulus_protocols::json::write_string;

use super::live::Live;
use super::problem;
use super::request::{Reply, Request};
use crate::secret::is_same;
use crate::serve::visitor::is_foreign;

/// The dashboard: the page, its style and its script.
const PAGE: [(&str, &str, &str); 3] = [
    ("/__dashboard", "text/html; charset=utf-8", include_str!("dashboard/page.html")),
    ("/__dashboard/page.css", "text/css; charset=utf-8", include_str!("dashboard/page.css")),
    ("/__dashboard/page.js", "text/javascript; charset=utf-8", include_str!("dashboard/page.js")),
];
/// The page needs its own script and style, and figures from where it came from; nothing else, and nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Prometheus' path. It is not reserved: a configured endpoint of this name has it.
const METRICS: &str = "/metrics";

/// The answer, if the path is reserved for us: before configured endpoints, whose parameters would match it too.
pub fn answer(live: &Rc<Live>, request: &Request) -> Option<Reply> {
    let path = &request.path[..];
    let is_health = live.gateway.router.health_path.as_deref() == Some(path);
    if !is_health && !path.starts_with("/__") {
        return None;
    }
    if let Some(reply) = for_tests(live, request) {
        return Some(reply);
    }
    let is_page = PAGE.iter().any(|(of_page, ..)| *of_page == path);
    if !is_health && !is_page && path != "/__stats" {
        return None;
    }
    if let Some(refusal) = unless_reading(request) {
        return Some(refusal);
    }
    Some(match path {
        _ if is_health => health(live),
        "/__stats" => stats(live, request),
        _ => page(path),
    })
}

/// All shards' metrics, if that is what is asked and no endpoint is.
pub fn metrics(live: &Rc<Live>, request: &Request) -> Option<Reply> {
    if request.path != METRICS {
        return None;
    }
    Some(unless_reading(request).unwrap_or_else(|| {
        let text = annulus_engine::metrics::render(live.shard.all_metrics());
        Reply::new(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
    }))
}

/// The refusal of a method that would change something.
fn unless_reading(request: &Request) -> Option<Reply> {
    let reads = matches!(&request.method[..], "GET" | "HEAD");
    (!reads).then(|| problem::problem(405, "this path can only be read").with("allow", "GET, HEAD"))
}

/// The fake upstream and the echo, where they are switched on. They take any method.
fn for_tests(live: &Live, request: &Request) -> Option<Reply> {
    let below =
        |root: &str| request.path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if live.gateway.debug_endpoint && below("/__debug") {
        return Some(Reply::new(200, "application/json", b"{\"message\":\"pong\"}".to_vec()));
    }
    (live.gateway.echo_endpoint && below("/__echo")).then(|| echo(request))
}

fn stats(live: &Live, request: &Request) -> Reply {
    if !is_admin(live, request) {
        let how = "show the token in `Authorization: Bearer`, or ask from the same machine where none is set";
        return problem::problem(401, how).with("www-authenticate", "Bearer").with("cache-control", "no-store");
    }
    Reply::new(200, "application/json", live.figures.all(&live.shard)).with("cache-control", "no-store")
}

fn page(path: &str) -> Reply {
    let (_, kind, text) = PAGE.into_iter().find(|(of_page, ..)| *of_page == path).unwrap_or(PAGE[0]);
    Reply::new(200, kind, text.as_bytes().to_vec())
        .with("content-security-policy", PAGE_POLICY)
        .with("cache-control", "no-cache")
        .with("referrer-policy", "no-referrer")
        .with("x-content-type-options", "nosniff")
}

/// Fields that say that somebody else is asking.
const PASSED_ON: [&str; 3] = ["x-forwarded-for", "forwarded", "via"];

fn is_admin(live: &Live, request: &Request) -> bool {
    match std::env::var("ANNULUS_ADMIN_TOKEN") {
        Ok(token) => {
            let shown = request.fields.text("authorization").and_then(|value| value.strip_prefix("Bearer "));
            is_same(shown.unwrap_or_default().as_bytes(), &token)
        }
        // A proxy on this machine asks for others, and a browser for pages of others.
        Err(_) => {
            let is_passed_on = PASSED_ON.iter().any(|name| request.fields.get(name).is_some());
            let field = |name: &str| match name {
                "host" => Some(&request.authority[..]),
                _ => request.fields.text(name),
            };
            let is_near = request.peer.to_canonical().is_loopback() && live.gateway.listen.ip.is_loopback();
            is_near && !is_passed_on && !is_foreign(field, false)
        }
    }
}

fn health(live: &Live) -> Reply {
    match live.shard.is_draining() {
        false => Reply::new(200, "application/json", b"{\"status\":\"ok\"}".to_vec()),
        true => Reply::new(503, "application/json", b"{\"status\":\"draining\"}".to_vec()),
    }
}

/// What was asked, as an upstream would see it.
fn echo(request: &Request) -> Reply {
    let mut body = b"{\"req_uri\":".to_vec();
    let uri = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    write_string(&mut body, &uri);
    body.extend_from_slice(b",\"req_method\":");
    write_string(&mut body, &request.method);
    body.extend_from_slice(b",\"req_host\":");
    write_string(&mut body, &request.authority);
    body.extend_from_slice(b",\"req_headers\":{");
    for (index, (name, value)) in request.fields.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_string(&mut body, name);
        body.push(b':');
        write_string(&mut body, &String::from_utf8_lossy(value));
    }
    body.extend_from_slice(b"},\"req_body\":");
    write_string(&mut body, &String::from_utf8_lossy(&request.body));
    body.push(b'}');
    Reply::new(200, "application/json", body)
}
