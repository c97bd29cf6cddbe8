//! Backends that get copies, and whose answers nobody gets. Where a copy is waited for, requests are made until there is one: a
//! gateway that has too much to do makes none.

use super::*;

const SHADOW: &str = r#", "extra_config": {"proxy": {"shadow": true, "shadow_timeout": "60s"}}"#;

fn backend(upstream: &Upstream, more: &str) -> String {
    format!(r#"{{"host": ["http://{}"], "method": "POST"{more}}}"#, upstream.address)
}

fn endpoint(path: &str, more: &str, backends: &[String]) -> String {
    format!(
        r#"{{"endpoint": "{path}", "method": "POST", "timeout": "60s", "input_headers": ["X-Lang"], "input_query_strings": ["q"]{more},
            "backend": [{}]}}"#,
        backends.join(",")
    )
}

fn post(gateway: &Gateway, target: &str) -> Answer {
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nX-Lang: de\r\nContent-Length: 5\r\n");
    Answer::parse(&gateway.ask_until_served(&head, b"hello"))
}

#[test]
fn a_shadow_gets_what_the_others_get_and_answers_nobody() {
    let upstream = Upstream::start(|head| {
        Upstream::json(if head.starts_with("POST /two") { r#"{"two":2}"# } else { r#"{"one":1}"# })
    });
    let shadow = Upstream::start(|_| Upstream::json(r#"{"shadow":true}"#));
    let copy = backend(&shadow, &format!(r#", "url_pattern": "/copy/{{id}}"{SHADOW}"#));
    let one = backend(&upstream, r#", "url_pattern": "/one/{id}""#);
    // The shadow has no number: the first answer is still `resp0`.
    let two = backend(&upstream, r#", "url_pattern": "/two/{resp0_one}""#);
    let sequential = r#", "extra_config": {"proxy": {"sequential": true}}"#;
    let gateway = Gateway::start(&config(
        &[
            endpoint("/a/{id}", sequential, &[copy.clone(), one.clone(), two]),
            endpoint("/raw/{id}", r#", "output_encoding": "no-op""#, &[one, copy]),
        ]
        .join(","),
        OURS,
    ));
    let copied = |begin: &str| shadow.asked().into_iter().find(|copy| copy.starts_with(begin));
    eventually("there is a copy of a merged one", || {
        let answer = post(&gateway, "/a/7?q=x&hidden=1");
        assert_eq!((answer.status, &answer.body[..]), (200, r#"{"one":1,"two":2}"#), "{answer:?}");
        assert!(answer.has("x-krakend-completed: true"), "{answer:?}");
        copied("POST /copy/7?q=x HTTP/1.1").is_some()
    });
    let copy = copied("POST /copy/7?q=x HTTP/1.1").unwrap().to_lowercase();
    assert!(copy.contains("x-lang: de") && copy.ends_with("hello"), "{copy}");
    eventually("there is a copy of one that is passed on", || {
        assert_eq!(post(&gateway, "/raw/8").body, r#"{"one":1}"#);
        copied("POST /copy/8 HTTP/1.1").is_some()
    });
    assert!(upstream.asked().iter().any(|head| head.starts_with("POST /two/1?q=x ")), "{:?}", upstream.asked());
    eventually("figures tell", || gateway.get("/__stats").body.contains(r#""shadow":true"#));
    gateway.stop();
}

#[test]
fn a_shadow_that_is_silent_holds_nobody_up_and_has_so_many_copies_at_most() {
    const REQUESTS: usize = 80;
    // As src/gateway/shadow.rs has it, for the one shard.
    const UNDER_WAY_MAX: usize = 64;
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let shadow = Upstream::start(|_| String::new());
    let backends = [
        backend(&upstream, r#", "url_pattern": "/b""#),
        backend(&shadow, &format!(r#", "url_pattern": "/copy"{SHADOW}"#)),
    ];
    let gateway = Gateway::start(&config(&endpoint("/a", "", &backends), OURS));
    for _ in 0..REQUESTS {
        let answer = post(&gateway, "/a");
        assert_eq!((answer.status, &answer.body[..]), (200, r#"{"ok":true}"#), "{answer:?}");
    }
    let skipped = || -> usize {
        let metrics = gateway.get("/metrics").body;
        let name = "annulus_gateway_shadow_skipped_total{shard=\"0\",endpoint=\"POST /a\",backend=\"/copy\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    };
    eventually("each has a copy or none", || shadow.asked().len() + skipped() == REQUESTS);
    assert!(shadow.asked().len() <= UNDER_WAY_MAX && skipped() >= REQUESTS - UNDER_WAY_MAX);
    gateway.stop();
}

#[test]
fn a_shadow_that_fails_or_is_not_there_changes_nothing() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok":true}"#));
    let failing = Upstream::start(|_| "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let shadow = format!(r#", "url_pattern": "/copy"{SHADOW}"#);
    let gone = format!(r#"{{"host": ["http://{nobody}"], "url_pattern": "/gone"{SHADOW}}}"#);
    let backends = [backend(&failing, &shadow), gone, backend(&upstream, r#", "url_pattern": "/b""#)];
    let gateway = Gateway::start(&config(&endpoint("/a", "", &backends), OURS));
    for backend in ["/copy", "/gone"] {
        let name = format!(
            "annulus_gateway_backend_calls_total{{shard=\"0\",endpoint=\"POST /a\",backend=\"{backend}\",outcome=\"failed\"}} "
        );
        eventually("its failure is counted", || {
            let answer = post(&gateway, "/a");
            assert_eq!((answer.status, &answer.body[..]), (200, r#"{"ok":true}"#), "{answer:?}");
            assert!(answer.has("x-krakend-completed: true"), "{answer:?}");
            let metrics = gateway.get("/metrics").body;
            metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap() != "0"
        });
    }
    gateway.stop();
}
