//! The gateway's dashboard in a browser, under load, and who may see its figures.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_rig::{Gateway, OURS, Upstream, config};
use outside::{Browser, passes};

fn gateway(upstream: &Upstream) -> Gateway {
    let host = upstream.address;
    let breaker = r#""extra_config": {"qos/circuit-breaker": {"interval": 60, "timeout": 60, "max_errors": 2}}"#;
    let limit = r#""extra_config": {"qos/ratelimit/proxy": {"max_rate": 6, "capacity": 6}}"#;
    let text = config(
        &format!(
            r#"{{"endpoint": "/mixed", "extra_config": {{"qos/ratelimit/router": {{"max_rate": 1000, "capacity": 1000}}}}, "backend": [
                {{"host": ["http://{host}"], "url_pattern": "/good"}},
                {{"host": ["http://{host}"], "url_pattern": "/bad", {breaker}}},
                {{"host": ["http://{host}"], "url_pattern": "/scarce", {limit}, "group": "scarce"}}]}},
               {{"endpoint": "/plain", "backend": [{{"host": ["http://{host}"], "url_pattern": "/good"}}]}}"#
        ),
        OURS,
    );
    Gateway::start_with(&text, "2", "auto", &[("ANNULUS_ADMIN_TOKEN", "secret")])
}

fn upstream() -> Upstream {
    Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/bad" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => Upstream::json("{}"),
    })
}

#[test]
fn the_page_shows_what_happens() {
    let Some(browser) = Browser::start("the gateway's dashboard in a browser") else { return };
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(gateway.get("/mixed").status, 200);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let page = format!("http://{}/__dashboard", gateway.address);
        let pictures = std::env::var("ANNULUS_PICTURES").unwrap_or_default();
        let outcome = std::panic::catch_unwind(|| {
            passes(Path::new("node"), "dashboard.mjs", &[&page, &browser.devtools, &pictures]);
        });
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    gateway.stop();
}

#[test]
fn figures_are_for_those_who_know_the_token() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let with = |field: &str| gateway.ask(&format!("GET /__stats HTTP/1.1\r\nHost: a\r\n{field}"), b"");
    for field in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer secre\r\n",
        "Authorization: Bearer secret2\r\n",
        "Authorization: Basic secret\r\n",
    ] {
        let answer = with(field);
        assert!(answer.status == 401 && answer.has("www-authenticate: bearer"), "{field}: {answer:?}");
        assert!(!answer.body.contains("shards"), "{answer:?}");
    }
    let answer = with("Authorization: Bearer secret\r\n");
    assert!(answer.status == 200 && answer.has("cache-control: no-store"), "{answer:?}");
    let page = gateway.get("/__dashboard");
    let policy = page.head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.has("x-content-type-options: nosniff"));
    assert!(
        !page.body.contains("//") || page.body.matches("//").count() == 1,
        "only the icon's namespace: {}",
        page.body
    );
    assert_eq!(gateway.ask("DELETE /__stats HTTP/1.1\r\nHost: a\r\n", b"").status, 405);
    gateway.stop();
    // An empty token is no token: nobody shows it.
    let text = config("", OURS);
    let gateway = Gateway::start_with(&text, "1", "auto", &[("ANNULUS_ADMIN_TOKEN", "")]);
    assert_eq!(gateway.ask("GET /__stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \r\n", b"").status, 401);
    gateway.stop();
    // None set: from the same machine, unless it passes on what others ask.
    let gateway = Gateway::start(&text);
    assert_eq!(gateway.get("/__stats").status, 200);
    // Nor to a page of another site, whose name was pointed at this machine.
    for host in ["rebound.example", "rebound.example:8080"] {
        assert_eq!(gateway.ask(&format!("GET /__stats HTTP/1.1\r\nHost: {host}\r\n"), b"").status, 401, "{host}");
    }
    for field in
        ["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "Via: 1.1 proxy", "Origin: https://evil.example"]
    {
        let head = format!("GET /__stats HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        assert_eq!(gateway.ask(&head, b"").status, 401, "{field}");
    }
    gateway.stop();
}
