//! Hosts that are asked whether they are well.

use super::*;
use std::sync::atomic::AtomicBool;

/// A host that answers with its number, and its check as it is told to.
fn host(number: usize, is_well: bool) -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(is_well));
    let says = is_well.clone();
    let upstream = Upstream::start(move |head| match head.split(' ').nth(1).unwrap() {
        "/health" if says.load(Ordering::SeqCst) => Upstream::json("{}"),
        "/health" => "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => Upstream::json(&format!("{{\"n\":{number}}}")),
    });
    (upstream, is_well)
}

fn endpoints(paths: &[&str], hosts: &[&Upstream]) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| format!("\"http://{}\"", host.address)).collect();
    let health = r#"{"path": "/health", "interval": "1s", "unhealthy_after": 2, "healthy_after": 1}"#;
    let endpoint = |path: &&str| {
        format!(
            r#"{{"endpoint": "{path}", "timeout": "10s", "backend": [{{"host": [{}], "url_pattern": "/b", "extra_config": {{"annulus":
                {{"health": {health}}}}}}}]}}"#,
            hosts.join(",")
        )
    };
    config(&paths.iter().map(endpoint).collect::<Vec<_>>().join(","), OURS)
}

/// Who answers some requests in a row.
fn who(gateway: &Gateway) -> Vec<String> {
    let mut all: Vec<String> = (0..8)
        .map(|_| {
            let answer = gateway.get_until_served("/a");
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Questions but those of checks.
fn calls(upstream: &Upstream) -> usize {
    upstream.asked().iter().filter(|head| !head.starts_with("GET /health")).count()
}

#[test]
fn a_host_that_fails_its_check_is_passed_over_until_it_passes() {
    let ((good, _), (other, is_well)) = (host(0, true), host(1, true));
    let gateway = Gateway::start_on(&endpoints(&["/a"], &[&good, &other]), "2", "auto");
    eventually("both are asked", || who(&gateway).len() == 2);
    is_well.store(false, Ordering::SeqCst);
    eventually("one is passed over", || who(&gateway) == [r#"{"n":0}"#]);
    assert!(gateway.logged("is not well: its check at /health says: answered with status 503"));
    eventually("figures say so", || gateway.get("/__stats").body.contains(r#""unwell":1"#));
    let unwell = |metrics: &str| -> usize {
        let gauges = metrics.lines().filter(|line| line.starts_with("annulus_gateway_hosts_unwell{"));
        gauges.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    assert_eq!(unwell(&gateway.get("/metrics").body), 1);
    // A new configuration knows what the one before has found out.
    let before = calls(&other);
    gateway.write(&endpoints(&["/a", "/new"], &[&good, &other]));
    eventually("the new file is in force", || gateway.get("/new").status == 200);
    (0..4).for_each(|_| assert_eq!(who(&gateway), [r#"{"n":0}"#]));
    assert_eq!(calls(&other), before);
    is_well.store(true, Ordering::SeqCst);
    eventually("it is asked again", || who(&gateway).len() == 2);
    assert!(gateway.logged("is well again"));
    eventually("it is not counted any more", || unwell(&gateway.get("/metrics").body) == 0);
    gateway.stop();
}

#[test]
fn where_no_host_is_well_all_are_asked() {
    let ((one, _), (other, _)) = (host(0, false), host(1, false));
    let gateway = Gateway::start(&endpoints(&["/a"], &[&one, &other]));
    eventually("none is well", || gateway.get("/__stats").body.contains(r#""unwell":2"#));
    assert_eq!(who(&gateway), [r#"{"n":0}"#, r#"{"n":1}"#]);
    gateway.stop();
}

#[test]
fn one_shard_asks_for_all_shards_and_backends() {
    let (upstream, _) = host(0, true);
    let gateway = Gateway::start_on(&endpoints(&["/a", "/b"], &[&upstream]), "2", "auto");
    // Of each shard, whatever came of them.
    let counted = || {
        let metrics = gateway.get("/metrics").body;
        ["0", "1"].map(|shard| -> usize {
            let name = format!("annulus_gateway_health_checks_total{{shard=\"{shard}\"");
            let lines = metrics.lines().filter(|line| line.starts_with(&name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
        })
    };
    eventually("it was asked several times", || counted().iter().any(|count| *count >= 3));
    let checks = upstream.asked().iter().filter(|head| head.starts_with("GET /health")).count();
    let counted = counted();
    assert!(counted.contains(&0), "by one shard: {counted:?}");
    assert!(checks <= counted[0] + counted[1] + 1, "once for both backends: {checks}, {counted:?}");
    gateway.stop();
}
