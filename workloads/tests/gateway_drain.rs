//! Stopping and reloading under load: clients notice neither, over HTTP/1.1 and HTTP/2.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_rig::{Gateway, OURS, Upstream, config};
use outside::{clients, has};

const GROUP: &str = "stopping and reloading the gateway under load";

/// Clients that keep requests under way.
fn load(gateway: &Gateway, spoken: &str, duration: Duration) -> Child {
    Command::new("node")
        .arg("load.mjs")
        .args([&format!("http://{}/v", gateway.address), spoken, &duration.as_millis().to_string()])
        .current_dir(clients())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What came of them: nothing but success, and much of it.
fn succeeded(load: Child, farewells: u32) {
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(r#""failed":[]"#), "{text}");
    assert!(text.contains(&format!(r#""farewells":{farewells}}}"#)), "{text}");
    let ok: u32 = text.split(r#""ok":"#).nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(ok >= 50, "{text}");
}

fn slow_upstream() -> Upstream {
    Upstream::start(|_| {
        std::thread::sleep(Duration::from_millis(40));
        Upstream::json(r#"{"ok": 1}"#)
    })
}

fn text(upstream: &Upstream, pattern: &str) -> String {
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "{pattern}"}}]}}"#,
        upstream.address
    );
    config(&endpoint, &format!(r#", "use_h2c": true, "max_shutdown_wait_time": "5s"{OURS}"#))
}

#[test]
fn requests_under_way_are_answered_when_the_gateway_stops() {
    if !has("node", GROUP) {
        return;
    }
    let upstream = slow_upstream();
    // The farewells: a first GOAWAY, after which a good client leaves by itself; one for each of eight connections.
    for (spoken, farewells) in [("h2c", 1), ("http1", 8)] {
        for driver in ["auto", "epoll"] {
            let mut gateway = Gateway::start_on(&text(&upstream, "/v"), "2", driver);
            let load = load(&gateway, spoken, Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1500));
            let began = Instant::now();
            gateway.signal("TERM");
            let ended = gateway.ended();
            assert!(ended.success(), "{spoken} {driver}: {ended}");
            assert!(began.elapsed() < Duration::from_secs(4), "{spoken} {driver}: {:?}", began.elapsed());
            succeeded(load, farewells);
            assert!(!gateway.log.lock().unwrap().contains("cut off"), "{spoken} {driver}");
        }
    }
}

#[test]
fn what_takes_longer_than_it_may_is_cut_off_and_told() {
    let upstream = Upstream::start(|_| String::new());
    let slow = text(&upstream, "/v")
        .replace("\"5s\"", "\"400ms\"")
        .replace("\"endpoint\": \"/v\"", "\"endpoint\": \"/v\", \"timeout\": \"20s\"");
    let mut gateway = Gateway::start(&slow);
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /v HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(gateway.logged("1 connections were cut off"));
}

#[test]
fn a_reload_costs_no_request_and_a_wrong_file_is_told() {
    if !has("node", GROUP) {
        return;
    }
    let upstream = slow_upstream();
    let gateway = Gateway::start_on(&text(&upstream, "/one"), "2", "auto");
    let loads: Vec<Child> = ["h2c", "http1"].map(|spoken| load(&gateway, spoken, Duration::from_secs(6))).into();
    std::thread::sleep(Duration::from_millis(800));
    let asked = |pattern: &str| upstream.asked().iter().filter(|head| head.contains(pattern)).count();
    gateway.write(&text(&upstream, "/two"));
    gateway.signal("HUP");
    assert!(gateway.logged("is in force"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(asked("/two") > 0);
    let one = asked("/one");
    for wrong in ["{\"version\": 3,\n  \"endpoints\": [{\"endpoint\": \"/v\"}]}", "no JSON", ""] {
        let told = gateway.log.lock().unwrap().matches("stays as it is").count();
        gateway.write(wrong);
        gateway.signal("HUP");
        let until = Instant::now() + Duration::from_secs(5);
        while gateway.log.lock().unwrap().matches("stays as it is").count() <= told {
            assert!(Instant::now() < until, "{wrong:?} was not refused");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let log = gateway.log.lock().unwrap().clone();
    assert!(log.contains(":2:") && log.contains("backend"), "the place and what is missing: {log}");
    // Another port is not taken, which is told.
    gateway.write(&text(&upstream, "/three").replace("PORT", "1"));
    gateway.signal("HUP");
    loads.into_iter().for_each(|load| succeeded(load, 0));
    assert!(gateway.logged("needs a restart"));
    assert!(asked("/three") > 0 && asked("/one") == one, "nothing asks as it did before");
    gateway.stop();
}
