//! gRPC through the gateway: the client and the server for Node (`@grpc/grpc-js`), all four kinds of calls, in the clear and
//! with TLS, and how calls end that do not end well.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use gateway_rig::{Gateway, OURS, config, eventually};
use outside::certificates::{Authority, Certified};
use outside::{clients, has, not_run, passes};

/// Whether the scripts can run here; if not, the group is reported.
fn has_grpc(group: &str) -> bool {
    let installed = clients().join("node_modules/@grpc/grpc-js").exists();
    if !installed {
        not_run(group, "make setup-test could not install the JavaScript packages");
    }
    installed && has("node", group)
}

/// A server of the script, ended with the test.
struct Server {
    process: Child,
    _input: ChildStdin,
    port: u16,
}

impl Server {
    fn start(secure: Option<&Certified>) -> Server {
        let mut command = Command::new("node");
        command.arg("grpc-server.mjs").current_dir(clients()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(certified) = secure {
            command.args([&certified.key, &certified.chain]);
        }
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let _input = process.stdin.take().unwrap();
        Server { process, _input, port: line.trim().parse().unwrap_or_else(|_| panic!("it says {line:?}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// An endpoint for all methods of the service. `more` is added to the endpoint, `extra` to its namespaces.
fn endpoint(host: &str, protocol: &str, more: &str, extra: &str) -> String {
    format!(
        r#"{{"endpoint": "/talk.Talk/*", "method": "POST", "output_encoding": "no-op", "input_headers": ["x-let"]{more},
            "backend": [{{"host": ["{host}"], "url_pattern": "/talk.Talk/{{wildcard}}",
                          "extra_config": {{"annulus": {{"protocol": "{protocol}"}}}}}}],
            "extra_config": {{"annulus": {{"priority": "critical"}}{extra}}}}}"#
    )
}

fn h2c(root: &str) -> String {
    format!(r#", "use_h2c": true{root}"#)
}

fn scene(gateway: &Gateway, scene: &str) {
    passes(Path::new("node"), "grpc-client.mjs", &[&gateway.address.to_string(), scene]);
}

#[test]
fn all_kinds_of_calls() {
    if !has_grpc("gRPC through the gateway (@grpc/grpc-js)") {
        return;
    }
    let server = Server::start(None);
    let text = config(&endpoint(&format!("http://127.0.0.1:{}", server.port), "h2c", "", ""), &h2c(OURS));
    for (shards, driver) in [("2", "auto"), ("1", "epoll")] {
        let gateway = Gateway::start_on(&text, shards, driver);
        for name in ["unary", "asked", "streams", "early", "deadlines", "unread"] {
            scene(&gateway, name);
        }
        assert!(gateway.logged("POST /talk.Talk/Echo 200 - "), "{}", gateway.log.lock().unwrap());
        gateway.stop();
    }
    // It counts what was cancelled.
    scene(&Gateway::start(&text), "cancelled");
}

#[test]
fn calls_with_tls_on_both_sides() {
    const GROUP: &str = "gRPC through the gateway with TLS";
    if !has_grpc(GROUP) {
        return;
    }
    let Some(authority) = Authority::new(GROUP) else { return };
    let certified = authority.issue("localhost");
    let server = Server::start(Some(&certified));
    let (chain, key, ca) = (certified.chain.display(), certified.key.display(), authority.certificate());
    let root = format!(
        r#", "tls": {{"keys": [{{"public_key": "{chain}", "private_key": "{key}"}}]}},
           "client_tls": {{"ca_certs": ["{}"]}}"#,
        ca.display()
    );
    for protocol in ["auto", "h2"] {
        let host = format!("https://localhost:{}", server.port);
        let gateway = Gateway::start(&config(&endpoint(&host, protocol, "", ""), &root));
        let address = format!("localhost:{}", gateway.address.port());
        for name in ["unary", "streams"] {
            passes(Path::new("node"), "grpc-client.mjs", &[&address, name, ca.to_str().unwrap()]);
        }
        gateway.stop();
    }
}

#[test]
fn a_backend_that_dies_is_unavailable() {
    if !has_grpc("gRPC and a backend that dies") {
        return;
    }
    for compat in ["", OURS] {
        let server = Server::start(None);
        let host = format!("http://127.0.0.1:{}", server.port);
        let gateway = Gateway::start(&config(&endpoint(&host, "h2c", "", ""), &h2c(compat)));
        scene(&gateway, "killed");
    }
}

#[test]
fn our_own_refusals_are_grpcs() {
    if !has_grpc("refusals of gRPC calls") {
        return;
    }
    let server = Server::start(None);
    let host = format!("http://127.0.0.1:{}", server.port);
    let keys = std::env::temp_dir().join(format!("annulus-grpc-keys-{}.json", std::process::id()));
    std::fs::write(&keys, r#"{"keys": [{"kty": "oct", "alg": "HS256", "kid": "one", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw"}]}"#).unwrap();
    let token = format!(r#", "auth/validator": {{"alg": "HS256", "jwk_local_path": "{}"}}"#, keys.display());
    scene(&Gateway::start(&config(&endpoint(&host, "h2c", "", &token), &h2c(OURS))), "refusals");
    for limit in [r#""max_rate": 1, "every": "1h""#, r#""client_max_rate": 1, "every": "1h", "strategy": "ip""#] {
        let limit = format!(r#", "qos/ratelimit/router": {{{limit}}}"#);
        scene(&Gateway::start(&config(&endpoint(&host, "h2c", "", &limit), &h2c(OURS))), "limited");
    }
    // Nobody here, an endpoint that would read it, and a backend that speaks HTTP/1.1.
    let elsewhere = endpoint(&host, "h2c", "", "").replace("/talk.Talk/*", "/talk.Other/*");
    let reading = endpoint(&host, "h2c", "", "").replace("no-op", "json");
    for endpoint in [elsewhere, reading] {
        scene(&Gateway::start(&config(&endpoint, &h2c(OURS))), "unimplemented");
    }
    let _removed = std::fs::remove_file(&keys);
}

#[test]
fn calls_under_way_end_before_the_gateway_does() {
    if !has_grpc("gRPC calls and a gateway that stops") {
        return;
    }
    let server = Server::start(None);
    let host = format!("http://127.0.0.1:{}", server.port);
    let mut gateway = Gateway::start(&config(&endpoint(&host, "h2c", "", ""), &h2c(OURS)));
    let client = Command::new("node")
        .args(["grpc-client.mjs", &gateway.address.to_string(), "stopped"])
        .current_dir(clients())
        .stdout(Stdio::piped())
        .spawn();
    let mut client = client.unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "under way");
    gateway.signal("TERM");
    assert_eq!(lines.next().unwrap().unwrap(), "stopped: ok");
    assert!(client.wait().unwrap().success());
    eventually("it ends", || gateway.process.try_wait().unwrap().is_some());
    assert!(gateway.ended().success());
}
