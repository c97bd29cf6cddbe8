//! What the people who run the gateway see: its own endpoints, metrics, the access log, identities of requests, and
//! answers that say what went wrong.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_rig::{Gateway, OURS, Upstream, config};
use outside::has;

/// The lines of the access log that contain a text, once there are so many.
fn lines(gateway: &Gateway, with: &str, count: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let log = gateway.log.lock().unwrap().clone();
        let found: Vec<String> = log.lines().filter(|line| line.contains(with)).map(str::to_owned).collect();
        if found.len() >= count || Instant::now() > until {
            assert_eq!(found.len(), count, "{with}: {log}");
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn endpoint(upstream: &Upstream, path: &str, more: &str) -> String {
    format!(
        r#"{{"endpoint": "{path}"{more}, "backend": [{{"host": ["http://{}"], "url_pattern": "/b"}}]}}"#,
        upstream.address
    )
}

#[test]
fn the_gateways_own_paths_come_before_parameters_and_only_read() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"from": "backend"}"#));
    let root = format!(r#", "debug_endpoint": true{OURS}"#);
    let gateway = Gateway::start(&config(&endpoint(&upstream, "/{any}", ""), &root));
    assert!(gateway.get("/x").body.contains("backend"));
    assert_eq!(gateway.get("/__health").body, r#"{"status":"ok"}"#);
    assert_eq!(gateway.get("/__debug/a/b").body, r#"{"message":"pong"}"#);
    let head = "POST /__echo/x?y=1 HTTP/1.1\r\nHost: shop.example\r\nX-A: \"b\"\r\nContent-Length: 3\r\n";
    let echo = gateway.ask(head, b"\"\x01\n").body;
    annulus_protocols::json::validate(echo.as_bytes()).unwrap();
    for part in
        [r#""req_uri":"/__echo/x?y=1""#, r#""req_method":"POST""#, r#""x-a":"\"b\"""#, r#""req_body":"\"\u0001\n""#]
    {
        assert!(echo.contains(part), "{part} in {echo}");
    }
    for path in ["/__health", "/__stats", "/__dashboard"] {
        let answer = gateway.ask(&format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"), b"");
        assert!(answer.status == 405 && answer.has("allow: get, head"), "{path}: {answer:?}");
        let answer = gateway.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n"), b"");
        assert!(answer.status == 200 && answer.body.is_empty(), "{path}: {answer:?}");
    }
    // A name that only looks like one of ours is the backend's.
    assert!(gateway.get("/__healthy").body.contains("backend"));
    gateway.stop();
    let closed = Gateway::start(&config("", OURS).replace(r#""echo_endpoint": true"#, r#""echo_endpoint": false"#));
    assert_eq!((closed.get("/__echo").status, closed.get("/__debug").status), (404, 404));
    closed.stop();
}

/// Reads the exposition format as strictly as Prometheus' own tools: what a sample may be called, and that a family is
/// said once and together.
fn exposition(text: &str) -> HashMap<String, f64> {
    let (mut kinds, mut series, mut closed) = (HashMap::new(), HashMap::new(), HashSet::new());
    let mut family = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if name != family {
                assert!(closed.insert(name.to_owned()), "{name} is scattered");
                family = name.to_owned();
            }
            if what == "TYPE" {
                assert!(matches!(value, "counter" | "gauge" | "histogram"), "{line}");
                assert!(kinds.insert(name.to_owned(), value.to_owned()).is_none(), "{name} has two types");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let kind = kinds.get(&family).unwrap_or_else(|| panic!("{line} comes before its type"));
        let suffix = bare.strip_prefix(&family[..]).unwrap_or_else(|| panic!("{line} is not of {family}"));
        match &kind[..] {
            "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
            "counter" => assert!(suffix.is_empty() && bare.ends_with("_total"), "{line}"),
            _ => assert!(suffix.is_empty() && !bare.ends_with("_total"), "{line}"),
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(series.insert(name.to_owned(), value).is_none(), "{name} comes twice");
    }
    // Buckets grow and end with all.
    let mut last: HashMap<String, f64> = HashMap::new();
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (of, le) = name.rsplit_once("le=\"").unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value >= last.insert(of.to_owned(), value).unwrap_or(0.0), "{line}");
        if le.starts_with("+Inf") {
            let count = of.replacen("_bucket", "_count", 1).trim_end_matches([',', '{']).to_owned();
            let count = if count.contains('{') { count + "}" } else { count };
            assert_eq!(series.get(&count), Some(&value), "{count}");
        }
    }
    series
}

#[test]
fn metrics_are_well_formed_and_do_not_grow_with_what_clients_send() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let quoted = endpoint(
        &upstream,
        "/a",
        r#", "extra_config": {"qos/ratelimit/router": {"max_rate": 2, "capacity": 2, "every": "1h"}}"#,
    );
    let gateway =
        Gateway::start_on(&config(&[quoted, endpoint(&upstream, "/v/{id}", "")].join(","), OURS), "2", "auto");
    // The second shard may begin a moment after the first one listens.
    let patience = Instant::now() + Duration::from_secs(20);
    let first = loop {
        let page = gateway.get("/metrics");
        if page.body.contains("annulus_gateway_requests_in_flight{shard=\"1\"}") || Instant::now() > patience {
            break page;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(first.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{first:?}");
    let before = exposition(&first.body);
    for number in 0..50 {
        gateway
            .ask(&format!("GET /v/{number}?q={number} HTTP/1.1\r\nHost: h{number}\r\nX-Request-Id: {number}\r\n"), b"");
        gateway.get(&format!("/none/{number}"));
        gateway.ask(&format!("M{number} /v/1 HTTP/1.1\r\nHost: a\r\n"), b"");
    }
    let limited = (0..6).filter(|_| gateway.get("/a").status == 503).count();
    assert!(limited >= 2);
    let refused = gateway.get("/a");
    let wait = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().to_owned();
    assert!(refused.status == 503 && wait.parse::<u32>().unwrap() > 60, "{refused:?}");
    let limited = limited + 1;
    let after = exposition(&gateway.get("/metrics").body);
    assert_eq!(before.keys().collect::<HashSet<_>>(), after.keys().collect::<HashSet<_>>(), "no new series");
    let sum = |of: &str, with: &str| -> f64 {
        after.iter().filter(|(name, _)| name.starts_with(of) && name.contains(with)).map(|(_, value)| value).sum()
    };
    assert_eq!(sum("annulus_gateway_endpoint_answers_total", r#"endpoint="GET /v/{id}",status="2xx""#), 50.0);
    assert_eq!(sum("annulus_gateway_endpoint_seconds_count", r#"endpoint="GET /v/{id}""#), 50.0);
    assert_eq!(
        sum("annulus_gateway_backend_calls_total", r#"endpoint="GET /v/{id}",backend="/b",outcome="served""#),
        50.0
    );
    assert_eq!(sum("annulus_gateway_endpoint_limited_total", r#"endpoint="GET /a""#), limited as f64);
    assert_eq!(sum("annulus_gateway_answers_total", r#"status="4xx""#), 100.0);
    // A reload goes on counting.
    gateway.write(&config(&endpoint(&upstream, "/v/{id}", ""), OURS));
    gateway.signal("HUP");
    assert!(gateway.logged("is in force"));
    assert_eq!(gateway.get("/v/1").status, 200);
    let later = exposition(&gateway.get("/metrics").body);
    let total: f64 = later
        .iter()
        .filter(|(name, _)| {
            name.starts_with("annulus_gateway_endpoint_answers_total") && name.contains(r#""GET /v/{id}",status="2xx""#)
        })
        .map(|(_, value)| value)
        .sum();
    assert_eq!(total, 51.0);
    gateway.stop();
}

#[test]
fn the_access_log_has_a_line_for_every_request_also_for_those_refused() {
    let upstream = Upstream::start(|head| match head.contains("/b?") {
        true => String::new(),
        false => Upstream::json(r#"{"a": 1}"#),
    });
    let limit = r#", "extra_config": {"qos/ratelimit/router": {"client_max_rate": 1, "client_capacity": 1, "every": "1h", "strategy": "ip"}}"#;
    let skipped =
        r#", "extra_config": {"annulus": {"compat": "annulus"}, "router": {"logger_skip_paths": ["/__health"]}}"#;
    let gateway = Gateway::start(&config(
        &[endpoint(&upstream, "/ok/{id}", ""), endpoint(&upstream, "/limited", limit)].join(","),
        skipped,
    ));
    let answer = gateway.get("/ok/7?token=secret");
    let line = &lines(&gateway, "/ok/7", 1)[0];
    let columns: Vec<&str> = line.split(' ').collect();
    assert_eq!(columns.len(), 8, "{line}");
    let [time, client, method, path, status, bytes, took, id] = columns[..] else { panic!("{line}") };
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{line}");
    assert_eq!([client, method, path, status], ["127.0.0.1", "GET", "/ok/7", "200"], "{line}");
    assert_eq!(bytes.parse::<usize>().unwrap(), answer.body.len());
    assert!(took.strip_suffix("us").unwrap().parse::<u64>().unwrap() > 0, "{line}");
    assert!(answer.has(&format!("x-request-id: {id}")), "{line}: {answer:?}");
    // Refused for a reason of the client's: it can name its id.
    for (path, status) in [("/none", "404"), ("/limited", "200"), ("/limited", "429")] {
        let answer = gateway.get(path);
        assert_eq!(answer.status.to_string(), status);
        let id = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
        let line = &lines(&gateway, &id, 1)[0];
        assert!(line.contains(&format!(" GET {path} {status} ")), "{line}");
        assert_eq!(status == "429", answer.head.contains("retry-after: "), "{answer:?}");
    }
    // Refused because it is no request.
    assert_eq!(gateway.ask("GET /ok/8 HTTP/1.1\r\nHost : a\r\n", b"").status, 400);
    let line = &lines(&gateway, " 127.0.0.1 - - 400 - 0us - \"", 1)[0];
    assert!(line.ends_with('"'), "{line}");
    assert_eq!(gateway.get("/__health").status, 200);
    assert!(!gateway.log.lock().unwrap().contains("secret"), "queries are not logged");
    lines(&gateway, "/__health", 0);
    gateway.stop();
}

#[test]
fn a_log_is_complete_when_the_gateway_has_ended() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let mut gateway = Gateway::start_on(&config(&endpoint(&upstream, "/ok/{id}", ""), OURS), "2", "auto");
    (0..40).for_each(|number| assert_eq!(gateway.get(&format!("/ok/{number}")).status, 200));
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    lines(&gateway, " GET /ok/", 40);
}

#[test]
fn the_access_log_is_json_where_that_is_asked_for() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let root = r#", "extra_config": {"annulus": {"compat": "annulus", "access_log": "json"}}"#;
    let gateway = Gateway::start(&config(&endpoint(&upstream, "/ok/{id}", ""), root));
    let answer = gateway.get("/ok/7?token=secret");
    let line: serde_json::Value = serde_json::from_str(&lines(&gateway, "/ok/7", 1)[0]).unwrap();
    assert_eq!(
        (&line["client"], &line["method"], &line["path"]),
        (&"127.0.0.1".into(), &"GET".into(), &"/ok/7".into())
    );
    assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &answer.body.len().into()));
    assert!(line["us"].as_u64().unwrap() > 0 && line["why"].is_null(), "{line}");
    assert!(answer.has(&format!("x-request-id: {}", line["id"].as_str().unwrap())), "{line}: {answer:?}");
    assert_eq!(gateway.ask("SSH\r\n", b"").status, 400);
    let line: serde_json::Value = serde_json::from_str(&lines(&gateway, "\"why\"", 1)[0]).unwrap();
    assert_eq!(
        (&line["status"], &line["path"], &line["why"]),
        (&400.into(), &serde_json::Value::Null, &"malformed start line".into())
    );
    gateway.stop();
}

#[test]
fn clients_are_known_by_what_trusted_proxies_say_and_no_one_else() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let trusting = |networks: &str| {
        config(
            &endpoint(&upstream, "/v", r#", "input_headers": ["*"]"#),
            &format!(
                r#", "extra_config": {{"annulus": {{"compat": "annulus"}}, "router": {{"trusted_proxies": [{networks}]}}}}"#
            ),
        )
    };
    let id = "0af7651916cd43dd8448eb211c80319c";
    for (networks, given, expected, keeps_id) in [
        ("", "203.0.113.9", "127.0.0.1", false),
        (r#""127.0.0.0/8""#, "203.0.113.9", "203.0.113.9", true),
        // The left is the client's own word.
        (r#""127.0.0.0/8""#, "8.8.8.8, 203.0.113.9", "203.0.113.9", true),
        (r#""127.0.0.0/8", "203.0.113.0/24""#, "8.8.8.8, 203.0.113.9", "8.8.8.8", true),
        (r#""127.0.0.0/8""#, "2001:db8::1", "2001:db8::1", true),
        (r#""127.0.0.0/8""#, "nonsense", "127.0.0.1", true),
        // A proxy that adds a line of its own, or the port.
        (r#""127.0.0.0/8""#, "8.8.8.8\r\nX-Forwarded-For: 203.0.113.9", "203.0.113.9", true),
        (r#""127.0.0.0/8""#, "8.8.8.8\r\nx-forwarded-for: 203.0.113.9:4711", "203.0.113.9", true),
        (r#""127.0.0.0/8""#, "[2001:db8::1]:4711", "2001:db8::1", true),
    ] {
        let gateway = Gateway::start(&trusting(networks));
        let head = format!(
            "GET /v HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: {given}\r\nX-Forwarded-Host: evil\r\nX-Request-Id: mine-1\r\nTraceparent: 00-{id}-b7ad6b7169203331-01\r\nTracestate: a=b\r\n"
        );
        let answer = gateway.ask(&head, b"");
        assert_eq!(answer.status, 200);
        let seen = upstream.asked().pop().unwrap().to_lowercase();
        let values = |name: &str| -> Vec<String> {
            seen.lines().filter_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned)).collect()
        };
        assert_eq!(values("x-forwarded-for"), [expected], "{networks} {given}");
        assert_eq!(values("x-forwarded-host"), ["shop.example"]);
        lines(&gateway, &format!(" {expected} GET /v 200 "), 1);
        // A trace goes on with a span of our own; a name is taken over from those who are trusted.
        let trace = values("traceparent");
        assert!(
            trace.len() == 1 && trace[0].starts_with(&format!("00-{id}-")) && trace[0].ends_with("-01"),
            "{trace:?}"
        );
        assert!(!trace[0].contains("b7ad6b7169203331"), "{trace:?}");
        assert_eq!(values("tracestate"), ["a=b"]);
        let names = values("x-request-id");
        assert_eq!(names == ["mine-1"], keeps_id, "{networks}: {names:?}");
        assert!(names.len() == 1 && answer.has(&format!("x-request-id: {}", names[0])), "{answer:?}");
        gateway.stop();
    }
}

#[test]
fn a_client_over_ipv4_is_one_also_where_both_are_listened_to() {
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let text =
        config(&endpoint(&upstream, "/v", ""), OURS).replace(r#""listen_ip": "127.0.0.1""#, r#""listen_ip": "::""#);
    let gateway = Gateway::start(&text);
    assert_eq!(gateway.get("/v").status, 200);
    lines(&gateway, " 127.0.0.1 GET /v 200 ", 1);
    assert!(upstream.asked()[0].to_lowercase().contains("x-forwarded-for: 127.0.0.1"));
    gateway.stop();
}

#[test]
fn a_problem_says_which_backend_failed_where_and_after_how_long() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = Upstream::start(|head| match head.split(' ').nth(1).unwrap() {
        "/late" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_owned(),
        "/json" => Upstream::json("{"),
        "/status" => "HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => String::new(),
    });
    let at = |path: &str, host: &str| {
        format!(
            r#"{{"endpoint": "{path}", "timeout": "300ms", "backend": [{{"host": ["{host}"], "url_pattern": "{path}"}}]}}"#
        )
    };
    let host = format!("http://{}", upstream.address);
    let cases = [
        ("/refused", format!("http://{closed}"), 502, "connect"),
        ("/silent", format!("http://{}", deaf.local_addr().unwrap()), 504, "request"),
        ("/late", host.clone(), 504, "body"),
        ("/json", host.clone(), 502, "decode"),
        ("/status", host, 502, "body"),
    ];
    let endpoints: Vec<String> = cases.iter().map(|(path, host, ..)| at(path, host)).collect();
    let gateway = Gateway::start(&config(&endpoints.join(","), OURS));
    for (path, _, status, phase) in &cases {
        let answer = gateway.get(path);
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        assert!(answer.has("content-type: application/problem+json") && answer.has("x-krakend-completed: false"));
        annulus_protocols::json::validate(answer.body.as_bytes()).unwrap();
        assert!(answer.body.contains(&format!(r#""status":{status},"#)), "{answer:?}");
        assert!(
            answer.body.contains(&format!(r#""backend":"{path}","phase":"{phase}","cause":""#)),
            "{path}: {answer:?}"
        );
        let elapsed = answer.body.split(r#""elapsed_ms":"#).nth(1).unwrap();
        let elapsed: u64 = elapsed.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
        assert!(if *status == 504 { (250..2000).contains(&elapsed) } else { elapsed < 300 }, "{path}: {answer:?}");
        assert!(!answer.body.contains("127.0.0.1"), "hosts are not for clients: {answer:?}");
    }
    gateway.stop();
}

#[test]
fn a_head_is_answered_without_a_body_over_both_versions() {
    if !has("curl", "HEAD over HTTP/2 (curl)") {
        return;
    }
    let upstream = Upstream::start(|_| Upstream::json(r#"{"a": 1}"#));
    let passed = endpoint(&upstream, "/p", r#", "output_encoding": "no-op""#)
        .replace("\"url_pattern\": \"/b\"", "\"url_pattern\": \"/b\", \"encoding\": \"no-op\"");
    let text = config(&[endpoint(&upstream, "/v", ""), passed].join(","), &format!(r#", "use_h2c": true{OURS}"#));
    let gateway = Gateway::start(&text);
    for path in ["/v", "/p", "/__health", "/none"] {
        for version in ["--http2-prior-knowledge", "--http1.1"] {
            let url = format!("http://{}{path}", gateway.address);
            // A second request shows that the connection is as it should be. (This curl cannot use one again where HTTP/2
            // was known beforehand, with any server.)
            let again = if version == "--http1.1" { &url[..] } else { "" };
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "5", "--noproxy", "*", version, "--head", &url])
                .args(Some(again).filter(|url| !url.is_empty()))
                .args(["--write-out", "%{http_code} %{size_download} %{num_connects}\n"])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let status = if path == "/none" { "404" } else { "200" };
            assert!(output.status.success() && text.contains(&format!("{status} 0 1")), "{path} {version}: {text}");
            assert_eq!(text.contains(&format!("{status} 0 0")), !again.is_empty(), "{path} {version}: {text}");
        }
    }
    gateway.stop();
}
