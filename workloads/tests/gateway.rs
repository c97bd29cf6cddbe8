//! The gateway as its users meet it: the real binary on a real KrakenD file, in front of upstreams over real sockets,
//! asked by curl-like clients, on one shard and two, with io_uring and with epoll.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "gateway/cache.rs"]
mod cache;
#[path = "gateway/cancelled.rs"]
mod cancelled;
#[path = "gateway/compression.rs"]
mod compression;
#[path = "gateway/concurrent.rs"]
mod concurrent;
#[path = "gateway/discovery.rs"]
mod discovery;
#[path = "gateway/flatmap.rs"]
mod flatmap;
#[path = "gateway/forms.rs"]
mod forms;
#[path = "gateway/guards.rs"]
mod guards;
#[path = "gateway/health.rs"]
mod health;
#[path = "gateway/hedging.rs"]
mod hedging;
#[path = "gateway/logging.rs"]
mod logging;
#[path = "gateway/names.rs"]
mod names;
#[path = "gateway/quota.rs"]
mod quota;
#[path = "gateway/shadow.rs"]
mod shadow;
#[path = "gateway/slashes.rs"]
mod slashes;
#[path = "gateway/telemetry.rs"]
mod telemetry;

use gateway_rig::{Answer, Gateway, OURS, Upstream, config, eventually};

#[test]
fn answers_are_merged_filtered_and_grouped_on_every_driver() {
    let upstream = Upstream::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        Upstream::json(match path {
            p if p.starts_with("/user/") => {
                r#"{"id": 7, "name": "Ann", "secret": "x", "address": {"city": "Ulm", "zip": "1"}}"#
            }
            "/orders?limit=3&page=2" => r#"[{"o": 1}, {"o": 2}]"#,
            _ => r#"{"data": {"a": 1, "b": 2}}"#,
        })
    });
    let host = upstream.address;
    let text = config(
        &format!(
            r#"{{"endpoint": "/u/{{id}}", "input_query_strings": ["page", "limit"], "input_headers": ["X-Lang"], "cache_ttl": "60s", "backend": [
                {{"host": ["http://{host}"], "url_pattern": "/user/{{id}}", "deny": ["secret", "address.zip"]}},
                {{"host": ["http://{host}"], "url_pattern": "/orders", "is_collection": true, "mapping": {{"collection": "orders"}}}},
                {{"host": ["http://{host}"], "url_pattern": "/misc", "target": "data", "allow": ["b"], "group": "misc"}}]}}"#
        ),
        OURS,
    );
    for (shards, driver) in [("1", "auto"), ("2", "auto"), ("1", "epoll")] {
        let gateway = Gateway::start_on(&text, shards, driver);
        let head =
            "GET /u/a%20b?page=2&hidden=1&limit=3 HTTP/1.1\r\nHost: shop.example\r\nX-Lang: de\r\nX-Other: no\r\n";
        let answer = gateway.ask(head, b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected =
            r#"{"id":7,"name":"Ann","address":{"city": "Ulm"},"orders":[{"o": 1}, {"o": 2}],"misc":{"b":2}}"#;
        assert_eq!(answer.body, expected);
        assert!(answer.has("x-krakend-completed: true") && answer.has("cache-control: public, max-age=60"));
        let heads = upstream.asked();
        let user = heads.iter().rfind(|head| head.starts_with("GET /user/")).unwrap().to_lowercase();
        assert!(user.starts_with("get /user/a%20b?limit=3&page=2 http/1.1"), "{user}");
        assert!(user.contains("x-lang: de") && !user.contains("x-other"), "{user}");
        for field in
            ["x-forwarded-for: 127.0.0.1", "x-forwarded-host: shop.example", "user-agent: annulus/", "traceparent: 00-"]
        {
            assert!(user.contains(field), "{field} in {user}");
        }
        gateway.stop();
    }
}

#[test]
fn one_failing_backend_leaves_the_rest_and_a_required_one_does_not() {
    let upstream = Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/good" => Upstream::json(r#"{"good": true}"#),
        "/broken" => Upstream::json(r#"{"broken": "#),
        "/two" => Upstream::json(r#"{"a": 1}{"b": 2}"#),
        "/error" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{".to_owned(),
        "/garbage" => "HELLO\r\n\r\nConnection: close".to_owned(),
        _ => String::new(),
    });
    let host = upstream.address;
    let endpoint = |name: &str, more: &str| {
        format!(
            r#"{{"endpoint": "/{name}", "timeout": "600ms", "backend": [
                {{"host": ["http://{host}"], "url_pattern": "/good"}},
                {{"host": ["http://{host}"], "url_pattern": "/{name}"{more}}}]}}"#
        )
    };
    let names = ["broken", "two", "error", "cut", "garbage", "silent"];
    let mut endpoints: Vec<String> = names.iter().map(|name| endpoint(name, "")).collect();
    let required = r#", "extra_config": {"annulus": {"optional": false}}"#;
    endpoints.push(endpoint("error", required).replace(r#""endpoint": "/error""#, r#""endpoint": "/required""#));
    endpoints.push(endpoint("silent", required).replace(r#""endpoint": "/silent""#, r#""endpoint": "/late""#));
    let details = r#", "extra_config": {"backend/http": {"return_error_details": "x"}}"#;
    endpoints.push(endpoint("error", details).replace(r#""endpoint": "/error""#, r#""endpoint": "/details""#));
    let gateway = Gateway::start(&config(&endpoints.join(","), OURS));
    for name in names {
        let began = Instant::now();
        let answer = gateway.get(&format!("/{name}"));
        assert_eq!((answer.status, &answer.body[..]), (200, r#"{"good": true}"#), "{name}");
        assert!(answer.has("x-krakend-completed: false"), "{name}: {answer:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{name}");
    }
    let answer = gateway.get("/required");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.has("content-type: application/problem+json"));
    assert!(
        answer.body.contains(r#""backend":"/error","phase":"body","cause":"answered with status 503""#),
        "{answer:?}"
    );
    let answer = gateway.get("/late");
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.body.contains(r#""cause":"took too long""#), "{answer:?}");
    let answer = gateway.get("/details");
    assert_eq!(answer.body, r#"{"good":true,"error_x":{"http_status_code":503,"http_body":"busy"}}"#);
    gateway.stop();
}

#[test]
fn krakend_answers_where_nothing_else_is_asked_for() {
    let upstream = Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/html" => Upstream::json("{\"z\": \"<b>\", \"a\": [1.0, \"&\"]}"),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let host = upstream.address;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/html", "backend": [{{"host": ["http://{host}"], "url_pattern": "/html"}}]}},
               {{"endpoint": "/gone", "backend": [{{"host": ["http://{host}"], "url_pattern": "/gone"}}]}},
               {{"endpoint": "/code", "backend": [{{"host": ["http://{host}"], "url_pattern": "/gone", "extra_config": {{"backend/http": {{"return_error_code": true}}}}}}]}}"#
        ),
        "",
    ));
    assert_eq!(gateway.get("/html").body, r#"{"a":[1.0,"\u0026"],"z":"\u003cb\u003e"}"#);
    let answer = gateway.get("/gone");
    assert_eq!((answer.status, &answer.body[..]), (500, ""), "{answer:?}");
    assert!(answer.has("x-krakend-completed: false"));
    assert_eq!(gateway.get("/code").status, 404);
    gateway.stop();
}

#[test]
fn a_sequence_uses_earlier_answers_and_encodes_them() {
    let upstream = Upstream::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        match path {
            "/first" => Upstream::json(r#"{"user": {"id": "a/../b?c", "tags": [1, 2]}}"#),
            p if p.starts_with("/second/") => Upstream::json(&format!(r#"{{"path": "{p}"}}"#)),
            _ => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    });
    let host = upstream.address;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/s", "extra_config": {{"proxy": {{"sequential": true}}}}, "backend": [
                {{"host": ["http://{host}"], "url_pattern": "/first"}},
                {{"host": ["http://{host}"], "url_pattern": "/second/{{resp0_user.id}}?t={{resp0_user.tags}}"}},
                {{"host": ["http://{host}"], "url_pattern": "/third"}}]}}"#
        ),
        OURS,
    ));
    let answer = gateway.get("/s");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains(r#""path":"/second/a%2F..%2Fb%3Fc?t=1%2C2""#)
            || answer.body.contains(r#""path": "/second/a%2F..%2Fb%3Fc?t=1%2C2""#),
        "{answer:?}"
    );
    assert!(answer.has("x-krakend-completed: false"), "the third failed");
    gateway.stop();
}

#[test]
fn an_answer_is_passed_on_as_it_is() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 203 Fine\r\nContent-Type: text/x\r\nX-Own: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            .to_owned()
    });
    let host = upstream.address;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/p", "method": "POST", "output_encoding": "no-op", "input_headers": ["Content-Type"], "backend": [{{"host": ["http://{host}"], "url_pattern": "/p", "method": "POST", "encoding": "no-op"}}]}}"#
        ),
        OURS,
    ));
    let answer = gateway.ask("POST /p HTTP/1.1\r\nHost: a\r\nContent-Type: text/y\r\nContent-Length: 5\r\n", b"hello");
    assert_eq!((answer.status, &answer.body[..]), (203, "abcde"), "{answer:?}");
    assert!(answer.has("content-type: text/x") && answer.has("x-own: 1"));
    let asked = upstream.asked().pop().unwrap();
    assert!(asked.ends_with("hello") && asked.to_lowercase().contains("content-type: text/y"), "{asked}");
    gateway.stop();
}

#[test]
fn an_answer_that_ends_with_its_head_is_no_answer() {
    let upstream = Upstream::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n".to_owned());
    let host = upstream.address;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/p", "output_encoding": "no-op", "backend": [{{"host": ["http://{host}"], "url_pattern": "/p", "encoding": "no-op"}}]}}"#
        ),
        OURS,
    ));
    let answer = gateway.get("/p");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.has("content-type: application/problem+json"), "{answer:?}");
    gateway.stop();
}

#[test]
fn a_breaker_opens_and_limits_hold() {
    let upstream = Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/bad" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => Upstream::json("{}"),
    });
    let host = upstream.address;
    let breaker = r#""extra_config": {"qos/circuit-breaker": {"interval": 60, "timeout": 60, "max_errors": 2, "log_status_change": true}}"#;
    let limit = r#""extra_config": {"qos/ratelimit/router": {"client_max_rate": 2, "client_capacity": 2, "every": "1h", "strategy": "header", "key": "X-Key"}}"#;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/bad", "backend": [{{"host": ["http://{host}"], "url_pattern": "/bad", {breaker}}}]}},
               {{"endpoint": "/limited", {limit}, "backend": [{{"host": ["http://{host}"], "url_pattern": "/x"}}]}}"#
        ),
        OURS,
    ));
    (0..5).for_each(|_| assert_eq!(gateway.get("/bad").status, 502));
    let answer = gateway.get("/bad");
    assert!(answer.body.contains("its circuit breaker is open"), "{answer:?}");
    assert_eq!(upstream.asked().iter().filter(|head| head.starts_with("GET /bad")).count(), 3);
    assert!(gateway.logged("is open"));
    let keyed = |key: &str| gateway.ask(&format!("GET /limited HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n"), b"");
    assert_eq!([keyed("a").status, keyed("a").status, keyed("b").status], [200, 200, 200]);
    let refused = keyed("a");
    assert!(refused.status == 429 && refused.head.contains("retry-after: "), "{refused:?}");
    gateway.stop();
}

#[test]
fn a_retry_is_made_where_it_is_safe_and_connections_are_used_again() {
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    let upstream = Upstream::start(move |head| {
        if head.contains("/flaky") && counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        Upstream::json(r#"{"ok": 1}"#)
    });
    let host = upstream.address;
    let retry = r#""extra_config": {"annulus": {"retry": {"attempts": 1, "on": ["503"], "budget": 1.0}}}"#;
    let endpoint = |path: &str, method: &str| {
        format!(
            r#"{{"endpoint": "{path}", "method": "{method}", "backend": [{{"host": ["http://{host}"], "url_pattern": "/flaky", "method": "{method}", {retry}}}]}}"#
        )
    };
    let gateway = Gateway::start(&config(&[endpoint("/get", "GET"), endpoint("/post", "POST")].join(","), OURS));
    (0..10).for_each(|_| assert_eq!(gateway.get("/get").status, 200));
    assert_eq!(failures.load(Ordering::SeqCst), 20);
    assert_eq!(gateway.ask("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", b"").status, 502);
    assert_eq!(failures.load(Ordering::SeqCst), 21, "a POST is not made twice");
    assert!(upstream.connections.load(Ordering::SeqCst) <= 2, "twenty calls, one connection");
    gateway.stop();
}

#[test]
fn requests_that_could_mean_two_things_are_refused() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let host = upstream.address;
    let gateway = Gateway::start(&config(
        &format!(
            r#"{{"endpoint": "/a/{{x}}", "backend": [{{"host": ["http://{host}"], "url_pattern": "/b/{{x}}"}}]}}"#
        ),
        OURS,
    ));
    let status = |head: &str| gateway.ask(head, b"").status;
    for (head, expected) in [
        ("GET /a/1 HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET /a/%2e%2e HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a/x%2Fy HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /b HTTP/1.1\r\nHost: a\r\n", 404),
        ("PUT /a/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 405),
        ("GET /a/1 HTTP/1.1\r\n", 400),
        ("GET /a/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /a/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        ("GET /a/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n", 400),
        ("GET /a/1 HTTP/1.1\r\nHost : a\r\n", 400),
        ("GARBAGE\r\n", 400),
    ] {
        assert_eq!(status(head), expected, "{head:?}");
    }
    assert_eq!(gateway.get("/__health").status, 200);
    assert!(gateway.get("/__echo/x?y=1").body.contains(r#""req_uri":"/__echo/x?y=1""#));
    assert_eq!(gateway.get("/__stats").status, 200);
    assert!(gateway.get("/metrics").body.contains("annulus_gateway_answers_total"));
    gateway.stop();
}

#[test]
fn a_new_configuration_takes_over_and_a_wrong_one_does_not() {
    let upstream =
        Upstream::start(|head| Upstream::json(&format!(r#"{{"at": "{}"}}"#, head.split(' ').nth(1).unwrap())));
    let host = upstream.address;
    let text = |pattern: &str| {
        config(
            &format!(r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{host}"], "url_pattern": "{pattern}"}}]}}"#),
            OURS,
        )
    };
    let gateway = Gateway::start_on(&text("/old"), "2", "auto");
    // One connection that lives through it all.
    let mut kept = TcpStream::connect(gateway.address).unwrap();
    let mut ask_kept = || {
        kept.write_all(b"GET /v HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut text = [0; 1000];
        let len = kept.read(&mut text).unwrap();
        Answer::parse(&text[..len]).body
    };
    assert!(ask_kept().contains("/old"));
    let port = gateway.address.port().to_string();
    std::fs::write(&gateway.file, text("/new").replace("PORT", &port)).unwrap();
    assert!(gateway.logged("is in force"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(ask_kept().contains("/new") && gateway.get("/v").body.contains("/new"));
    std::fs::write(&gateway.file, "{\"version\": 2}").unwrap();
    assert!(gateway.logged("stays as it is"));
    assert!(ask_kept().contains("/new"));
    gateway.stop();
}

#[test]
fn a_wrong_file_is_told_with_its_place_and_nothing_starts() {
    let file = std::env::temp_dir().join(format!("annulus-wrong-{}.json", std::process::id()));
    std::fs::write(&file, "{\n  \"version\": 3,\n  \"endpoint\": []\n}").unwrap();
    for command in [&["check"][..], &["gateway", "--config"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(command).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(":3:3:") && text.contains("endpoints"), "{text}");
    }
    let _removed = std::fs::remove_file(&file);
}
