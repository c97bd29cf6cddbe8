//! What the gateway is asked that it must refuse, or pass on to where it was configured and nowhere else.

use super::super::forge;
use super::super::raw::{self, Reply};
use super::super::stage::{ORIGIN, Stage};
use super::super::tables::{EVIL_ORIGINS, Tried, asked};
use serde_json::json;

pub fn traversal(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let targets = [
        "/files/..",
        "/files/.",
        "/files/%2e%2e",
        "/files/%2E%2E",
        "/files/.%2e",
        "/files/%2e",
        "/files/..%2fsecret",
        "/files/%2e%2e%2fsecret",
        "/files/%2e%2e%2f%2e%2e%2fsecret",
        "/files/a%2f..%2f..%2fsecret",
        "/files/..%5csecret",
        "/files/%252e%252e%252fsecret",
        "/files/..;/secret",
        "/files/a%00b",
        "/files/a%0d%0aX-Injected:%20a",
        "/files/a%20HTTP/1.1%0d%0aX-Injected:a",
        "/files/a%3fadmin=1",
        "/files/a%23b",
        "/files/%c0%ae%c0%ae%c0%afsecret",
        "/files/%",
        "/files/%2",
        "/files/%zz",
        "/files/%ff",
        "/tree/../secret",
        "/tree/a/../../secret",
        "/tree/%2e%2e/secret",
        "/tree/a/%2e%2e/%2e%2e/secret",
        "/tree/..%2fsecret",
        "/tree/a/..",
        "/tree//secret",
        "/tree/./secret",
        "/../secret",
        "/%2e%2e/secret",
        "//secret",
        "/files/../guarded",
        "/spied/../guarded",
        "/files/a\\..\\..\\secret",
    ];
    // Where nobody comes to the backend at all, nobody comes to it by a wrong path.
    let ordinary = ["/files/a", "/tree/a/b"];
    let ask = |target: &str| {
        stage.yard.spy.take();
        let reply = raw::ask(stage.address, &raw::request("GET", target, "", b""))?;
        Ok::<_, String>((reply, stage.yard.spy.take()))
    };
    let mut tried = Vec::new();
    for target in ordinary {
        let (reply, seen) = ask(target)?;
        let holds = reply.status == 200 && matches!(&seen[..], [head] if head.starts_with(&format!("GET {target} ")));
        tried.push(Tried { what: format!("{target}, as it should be"), answer: status(&reply), holds });
    }
    for target in targets {
        let (reply, seen) = ask(target)?;
        let astray = seen.iter().find(|head| is_astray(head));
        let answer = match astray {
            Some(head) => format!("the backend was asked for {}", head.lines().next().unwrap_or_default()),
            None => status(&reply),
        };
        tried.push(Tried { what: target.to_owned(), answer, holds: astray.is_none() });
    }
    Ok(tried)
}

/// Whether a backend reads a path outside of where its endpoint leads, or has a field or parameter that nobody configured.
fn is_astray(head: &str) -> bool {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let (mut depth, mut outside) = (0i32, false);
    for segment in path.split('/').skip(1) {
        // As a backend that decodes before it looks for segments.
        for part in decoded(segment).split('/') {
            depth += match part {
                ".." => -1,
                "" | "." => 0,
                _ => 1,
            };
            outside |= depth < 1;
        }
    }
    let elsewhere = !["/files/", "/tree/", "/spied"].iter().any(|prefix| path.starts_with(prefix));
    outside || elsewhere || target.contains('?') || head.to_lowercase().contains("x-injected:")
}

fn decoded(segment: &str) -> String {
    let (bytes, mut out, mut at) = (segment.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub fn forgery(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let secret = stage.yard.secret.address;
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let host = "Host: 127.0.0.1\r\n";
    let requests = vec![
        ("a backend's redirect", head("GET /redirect", host)),
        ("a whole URL as the target", head(&format!("GET http://{secret}/secret"), host)),
        ("a whole URL, its own host", head(&format!("GET http://{secret}/spied"), &format!("Host: {secret}\r\n"))),
        ("two slashes", head(&format!("GET //{secret}/secret"), host)),
        ("an at sign", head(&format!("GET /spied@{secret}/"), host)),
        ("Host", head("GET /spied", &format!("Host: {secret}\r\n"))),
        ("X-Forwarded-Host", head("GET /spied", &format!("{host}X-Forwarded-Host: {secret}\r\n"))),
        ("Forwarded", head("GET /spied", &format!("{host}Forwarded: host={secret}\r\n"))),
        ("X-Original-URL", head("GET /spied", &format!("{host}X-Original-URL: http://{secret}/\r\n"))),
        ("X-Rewrite-URL", head("GET /spied", &format!("{host}X-Rewrite-URL: /guarded\r\n"))),
        ("CONNECT", head(&format!("CONNECT {secret}"), &format!("Host: {secret}\r\n"))),
        ("a file as the target", head("GET file:///etc/passwd", host)),
        ("the answer to OPTIONS *", head("OPTIONS *", host)),
    ];
    // A backend that nobody is led to at all would look the same.
    stage.yard.spy.take();
    let reply = raw::ask(stage.address, &head("GET /spied", host))?;
    let holds = reply.status == 200 && stage.yard.spy.take().len() == 1;
    let ordinary = Tried { what: "the backend that it was configured for".to_owned(), answer: status(&reply), holds };
    let others = requests.into_iter().map(|(what, bytes)| {
        let reply = raw::ask(stage.address, &bytes)?;
        let reached = !stage.yard.secret.take().is_empty();
        let guarded = stage.yard.spy.take().iter().any(|head| head.contains("/guarded") || head.contains("secret"));
        let answer = if reached || guarded { "led elsewhere".to_owned() } else { status(&reply) };
        Ok(Tried { what: what.to_owned(), answer, holds: !reached && !guarded })
    });
    std::iter::once(Ok(ordinary)).chain(others).collect()
}

fn status(reply: &Reply) -> String {
    if reply.status == 0 { "closed".to_owned() } else { reply.status.to_string() }
}

pub fn tokens(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let claims = json!({ "sub": "ann", "exp": forge::EXPIRES });
    let keys = &stage.yard.keys;
    let good = keys.ed(&json!({ "alg": "EdDSA", "kid": forge::KID }), &claims);
    let mut tried = Vec::new();
    let cases = [("the good one", good.clone())].into_iter().chain(keys.forged_ed(&claims)?);
    for (what, token) in cases {
        stage.yard.spy.take();
        let reply = raw::ask(
            stage.address,
            &raw::request("GET", "/guarded", &format!("Authorization: Bearer {token}\r\n"), b""),
        )?;
        let asked = !stage.yard.spy.take().is_empty();
        let expected = if what == "the good one" { (200, true) } else { (401, false) };
        let answer = if asked && !expected.1 { "let in".to_owned() } else { status(&reply) };
        tried.push(Tried { what: what.to_owned(), answer, holds: (reply.status, asked) == expected });
    }
    for (what, fields) in [
        ("no token", String::new()),
        ("another scheme", format!("Authorization: Basic {good}\r\n")),
        ("two tokens, the good one last", format!("Authorization: Bearer x\r\nAuthorization: Bearer {good}\r\n")),
    ] {
        tried.push(asked(stage, what, &raw::request("GET", "/guarded", &fields, b""), &[400, 401])?);
    }
    Ok(tried)
}

pub fn origins(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    let mut tried = Vec::new();
    for (origin, may) in EVIL_ORIGINS.iter().map(|origin| (*origin, false)).chain([(ORIGIN, true)]) {
        let preflight = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        for (method, fields) in [("OPTIONS", preflight.as_str()), ("GET", &format!("Origin: {origin}\r\n"))] {
            let reply = raw::ask(stage.address, &raw::request(method, "/spied", fields, b""))?;
            let allowed = reply.field("access-control-allow-origin");
            let is_let_in = allowed.is_some_and(|allowed| allowed == origin || allowed == "*");
            let answer = if is_let_in { "let in" } else { "not let in" };
            tried.push(Tried {
                what: format!("{method} of {origin:?}"),
                answer: answer.to_owned(),
                holds: is_let_in == may,
            });
        }
    }
    Ok(tried)
}

/// Backends that answer with more than they seem to.
pub fn bombs(stage: &Stage<'_>) -> Result<Vec<Tried>, String> {
    ["/huge", "/deep", "/packed-bomb", "/bomb"]
        .into_iter()
        .map(|path| asked(stage, path, &raw::request("GET", path, "Connection: close\r\n", b""), &[500, 502, 503]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_astray_where_a_backend_would_leave_its_folder() {
        let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        for inside in ["/files/a", "/files/%252e%252e", "/tree/a/b", "/files/a%20b", "/files/..a"] {
            assert!(!is_astray(&head(inside)), "{inside}");
        }
        for outside in ["/files/..", "/files/%2e%2e/b", "/files/a%2f..%2f..%2fb", "/secret", "/files/a?b=c"] {
            assert!(is_astray(&head(outside)), "{outside}");
        }
        assert!(is_astray("GET /files/a HTTP/1.1\r\nX-Injected: a\r\n\r\n"));
    }
}
