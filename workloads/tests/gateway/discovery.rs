//! Upstreams that are found by name: hosts by their addresses, services by SRV records.

use std::net::TcpListener;

use super::names::Names;
use super::*;

/// The root's part of a configuration: our answers, and our name server.
fn asking(names: &str, more: &str) -> String {
    format!(r#", {more} "extra_config": {{"annulus": {{"compat": "annulus", "name_servers": ["{names}"]}}}}"#)
}

#[test]
fn a_name_that_cannot_be_looked_up_is_told_with_its_phase_and_why() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"found": true}"#));
    let names = Names::start();
    let port = upstream.address.port();
    let endpoint = |name: &str, host: &str| {
        format!(
            r#"{{"endpoint": "/{name}", "timeout": "500ms", "backend": [{{"host": ["{host}"], "url_pattern": "/x"}}]}}"#
        )
    };
    let endpoints = [endpoint("found", &format!("http://cart.here:{port}")), endpoint("gone", "http://cart.gone")];
    let gateway = Gateway::start(&config(&endpoints.join(","), &asking(&names.address.to_string(), "")));
    assert_eq!(gateway.get("/found").body, r#"{"found": true}"#);
    let answer = gateway.get("/gone");
    assert_eq!(answer.status, 502, "{answer:?}");
    let why = r#""backend":"/x","phase":"dns","cause":"cart.gone could not be looked up: the name servers know no such name""#;
    assert!(answer.body.contains(why), "{answer:?}");
    gateway.stop();
    // A server that says nothing: the deadline comes first, over HTTP/1.1 and over HTTP/2.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let h2c = endpoint("h2c", "http://cart.here:1")
        .replace(r#""/x"}"#, r#""/x", "extra_config": {"annulus": {"protocol": "h2c"}}}"#);
    let endpoints = [endpoint("slow", "http://cart.here:1"), h2c];
    let gateway = Gateway::start(&config(&endpoints.join(","), &asking(&silent.local_addr().unwrap().to_string(), "")));
    for path in ["/slow", "/h2c"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(answer.body.contains(r#""phase":"dns","cause":"took too long""#), "{answer:?}");
    }
    gateway.stop();
}

/// An upstream that says which one it is.
fn called(name: &'static str) -> Upstream {
    Upstream::start(move |_| Upstream::json(&format!(r#"{{"at": "{name}"}}"#)))
}

/// An endpoint `/who` whose backend is the service `_who._tcp.test`.
fn who(sd: &str, more: &str) -> String {
    format!(
        r#"{{"endpoint": "/who", "backend": [{{"host": ["_who._tcp.test"], "sd": "{sd}", "url_pattern": "/x"{more}}}]}}"#
    )
}

const WHO: &str = "_who._tcp.test";

/// How many of `times` answers came from each.
fn count(gateway: &Gateway, times: usize) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    (0..times).for_each(|_| *counts.entry(gateway.get("/who").body).or_default() += 1);
    counts
}

/// Asks until the answer is as wanted, for as long as a time to live and some patience last.
fn wait_for(gateway: &Gateway, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = gateway.get("/who");
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < until, "{answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_service_s_weights_are_kept_and_its_moves_are_followed() {
    let (a, b, c) = (called("a"), called("b"), called("c"));
    let port = |upstream: &Upstream| upstream.address.port();
    for (shards, driver) in [("1", "auto"), ("1", "epoll")] {
        let names = Names::start();
        names.tell(WHO, &[(2, 9, port(&c), "c.here"), (1, 60, port(&a), "a.here"), (1, 40, port(&b), "b.here")]);
        let text = config(&who("dns", ""), &asking(&names.address.to_string(), ""));
        let gateway = Gateway::start_on(&text, shards, driver);
        let counts = count(&gateway, 100);
        assert_eq!((counts[r#"{"at": "a"}"#], counts[r#"{"at": "b"}"#], counts.len()), (60, 40, 2));
        let head = a.asked().pop().unwrap().to_lowercase();
        assert!(head.contains(&format!("host: a.here:{}", port(&a))), "{head}");
        // It moves away altogether, then is gone, then comes back.
        names.tell(WHO, &[(1, 0, port(&c), "c.here")]);
        wait_for(&gateway, |answer| answer.body.contains(r#""c""#));
        assert_eq!(count(&gateway, 10)[r#"{"at": "c"}"#], 10);
        names.tell(WHO, &[]);
        let answer = wait_for(&gateway, |answer| answer.status != 200);
        let why =
            r#""phase":"dns","cause":"_who._tcp.test could not be looked up: the name servers know no such name""#;
        assert!(answer.status == 502 && answer.body.contains(why), "{answer:?}");
        assert!(gateway.logged("gateway: _who._tcp.test has no targets: the name servers know no such name"));
        names.tell(WHO, &[(1, 0, port(&b), "b.here")]);
        wait_for(&gateway, |answer| answer.body.contains(r#""b""#));
        assert!(gateway.logged("_who._tcp.test is found again, with 1 targets"));
        // The name server goes away: who was there is asked further.
        drop(names);
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(count(&gateway, 10)[r#"{"at": "b"}"#], 10);
        gateway.stop();
    }
}

#[test]
fn the_next_priority_serves_while_the_first_cannot_be_reached() {
    let backup = called("backup");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let names = Names::start();
    names.tell(WHO, &[(5, 1, closed, "a.here"), (7, 1, backup.address.port(), "b.here")]);
    let server = names.address.to_string();
    let gateway = Gateway::start(&config(&who("dns", ""), &asking(&server, "")));
    let statuses: Vec<u16> = (0..20).map(|_| gateway.get("/who").status).collect();
    assert_eq!(statuses[..5], [502; 5], "five in a row say that it cannot be reached");
    assert_eq!(statuses[5..], [200; 15]);
    gateway.stop();
    // The file's own words count instead, and a retry hides even the first failure.
    let ours = r#", "extra_config": {"annulus": {
        "outlier": {"consecutive_errors": 1, "ejected_max": 0.5}, "retry": {"attempts": 1}}}"#;
    let gateway = Gateway::start(&config(&who("dns", ours), &asking(&server, "")));
    assert_eq!(count(&gateway, 10)[r#"{"at": "backup"}"#], 10);
    gateway.stop();
}

#[test]
fn backends_of_the_same_service_share_its_lookup() {
    let upstream = called("a");
    let names = Names::start();
    names.tell(WHO, &[(1, 1, upstream.address.port(), "a.here")]);
    let backend = |group: &str| {
        format!(
            r#"{{"host": ["{WHO}"], "sd": "dns-shared", "sd_scheme": "http", "url_pattern": "/x", "group": "{group}"}}"#
        )
    };
    let backends: Vec<String> = (0..8).map(|index| backend(&format!("g{index}"))).collect();
    let endpoint = format!(r#"{{"endpoint": "/who", "backend": [{}]}}"#, backends.join(","));
    let gateway = Gateway::start(&config(&endpoint, &asking(&names.address.to_string(), "")));
    let began = Instant::now();
    let answer = gateway.get("/who");
    assert!(answer.has("x-krakend-completed: true") && answer.body.matches(r#""at""#).count() == 8, "{answer:?}");
    let asked = names.asked(WHO);
    assert!(asked <= 1 + began.elapsed().as_secs() as usize, "eight backends asked {asked} times");
    gateway.stop();
}

#[test]
fn what_a_reload_replaces_asks_and_connects_no_more() {
    let names = Names::start();
    let behind = Gateway::start(&config("", r#", "use_h2c": true, "name": "behind""#));
    names.tell(WHO, &[(1, 1, behind.address.port(), "a.here")]);
    let before = who("dns", r#", "extra_config": {"annulus": {"protocol": "h2c"}}"#).replace("/x", "/__echo/old");
    let after = before.replace("/__echo/old", "/__echo/new").replace(r#""sd": "dns", "#, "");
    let after = after.replace(WHO, &format!("http://a.here:{}", behind.address.port()));
    let root = asking(&names.address.to_string(), "");
    let gateway = Gateway::start(&config(&before, &root));
    // The one that asks for them is a connection too.
    let connections = || {
        let metrics = behind.get("/metrics").body;
        let values = metrics.lines().filter_map(|line| line.strip_prefix("annulus_connections{")?.split(' ').nth(1));
        values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>() - 1.0
    };
    assert!(gateway.get("/who").body.contains("/__echo/old"));
    let one = connections();
    let text = config(&after, &root).replace("PORT", &gateway.address.port().to_string());
    std::fs::write(&gateway.file, text).unwrap();
    assert!(gateway.logged("is in force"));
    wait_for(&gateway, |answer| answer.body.contains("/__echo/new"));
    std::thread::sleep(Duration::from_millis(2500));
    let asked = names.asked(WHO);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!((names.asked(WHO), connections()), (asked, one), "lookups, connections");
    gateway.stop();
    behind.stop();
}
