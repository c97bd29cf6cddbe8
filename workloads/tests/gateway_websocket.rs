//! WebSockets through the gateway: the `ws` client and server for Node, Centrifuge's client in front of our own chat, and
//! bare sockets for what no library does.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod gateway_rig;
mod outside;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chat_rig::{Folder, Setup, has_node};
use gateway_rig::{Answer, Gateway, OURS, config, eventually};
use outside::certificates::{Authority, Certified};
use outside::{clients, passes};

/// A server of the script, ended with the test.
struct Server {
    process: Child,
    _input: ChildStdin,
    port: u16,
}

impl Server {
    fn start(secure: Option<&Certified>) -> Server {
        let mut command = Command::new("node");
        command.arg("websocket-server.mjs").current_dir(clients()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(certified) = secure {
            command.args([&certified.key, &certified.chain]);
        }
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let _input = process.stdin.take().unwrap();
        Server { process, _input, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// An endpoint whose backend is `host`. `more` is added to the endpoint, `extra` to its namespaces, `websocket` to that one.
fn endpoint(path: &str, pattern: &str, host: &str, [more, extra, websocket]: [&str; 3]) -> String {
    format!(
        r#"{{"endpoint": "{path}"{more}, "timeout": "10s",
            "backend": [{{"host": ["{host}"], "url_pattern": "{pattern}"}}],
            "extra_config": {{"websocket": {{"enable_direct_communication": true{websocket}}}{extra}}}}}"#
    )
}

fn plain(path: &str, host: &str) -> String {
    endpoint(path, path, host, [""; 3])
}

fn scene(gateway: &Gateway, scene: &str) {
    passes(Path::new("node"), "websocket-client.mjs", &[&format!("ws://{}", gateway.address), scene]);
}

/// A metric of the gateway's, of all shards together; behind a space one label's value, in quotes.
fn metric(gateway: &Gateway, what: &str) -> u64 {
    let (name, label) = what.split_once(' ').unwrap_or((what, ""));
    let text = gateway.get("/metrics").body;
    let is_it =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label);
    let values = text.lines().filter(is_it).map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<f64>().unwrap() as u64).sum()
}

const HELLO: &str = "GET /socket HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A backend of bare sockets: each connection is for `serve`, once its request's head is here.
fn bare(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || {
                read_head(&mut stream);
                serve(stream);
            });
        }
    });
    address
}

/// Reads until the empty line and no further.
fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

fn knock(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(HELLO.as_bytes()).unwrap();
    stream
}

fn socket(backend: SocketAddr, extras: [&str; 3], root: &str) -> Gateway {
    Gateway::start(&config(&endpoint("/socket", "/", &format!("ws://{backend}"), extras), root))
}

#[test]
fn the_ws_client_talks_to_the_ws_server() {
    if !has_node("ws (npm) through the gateway") {
        return;
    }
    let server = Server::start(None);
    let host = format!("ws://127.0.0.1:{}", server.port);
    let asked = endpoint(
        "/asked/{user}",
        "/asked?user={user}",
        &host,
        [
            r#", "input_query_strings": ["room"], "input_headers": ["X-Let", "Cookie"]"#,
            "",
            r#", "subprotocols": ["one", "two"], "input_headers": ["X-Let"]"#,
        ],
    );
    let limit = r#", "qos/ratelimit/router": {"client_max_rate": 1, "every": "1h", "strategy": "ip"}"#;
    let folder = Folder::new();
    let keys = folder.file("keys.json", r#"{"keys": [{"kty": "oct", "alg": "HS256", "kid": "one", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw"}]}"#);
    let token = format!(r#", "auth/validator": {{"alg": "HS256", "jwk_local_path": "{}"}}"#, keys.display());
    let endpoints = [
        plain("/echo", &host),
        plain("/close", &host),
        plain("/refused", &host),
        asked,
        endpoint("/limited", "/echo", &host, ["", limit, ""]),
        endpoint("/token", "/echo", &host, ["", &token, ""]),
    ];
    // What one client may ask counts on each shard: the limit is looked at on one.
    let scenes = ["talk", "asked", "refusals"];
    for (shards, driver, scenes, opened) in [("2", "auto", &scenes[..2], 4), ("1", "epoll", &scenes[..], 6)] {
        let gateway = Gateway::start_on(&config(&endpoints.join(","), OURS), shards, driver);
        scenes.iter().for_each(|name| scene(&gateway, name));
        eventually("all tunnels have ended", || metric(&gateway, "annulus_gateway_tunnels_open") == 0);
        assert_eq!(metric(&gateway, "annulus_gateway_tunnels_opened_total"), opened);
        assert_eq!(metric(&gateway, "annulus_gateway_tunnels_ended_total"), opened);
        assert!(metric(&gateway, r#"annulus_gateway_tunnel_bytes_total to="backend""#) > 3_000_000);
        assert!(gateway.logged("GET /echo 101 - "), "{}", gateway.log.lock().unwrap());
        gateway.stop();
    }
}

#[test]
fn tls_on_both_sides() {
    const GROUP: &str = "WebSockets through the gateway with TLS";
    if !has_node(GROUP) {
        return;
    }
    let Some(authority) = Authority::new(GROUP) else { return };
    let certified = authority.issue("localhost");
    let server = Server::start(Some(&certified));
    let host = format!("wss://localhost:{}", server.port);
    let (chain, key, ca) = (certified.chain.display(), certified.key.display(), authority.certificate());
    let root = format!(
        r#", "tls": {{"keys": [{{"public_key": "{chain}", "private_key": "{key}"}}]}},
           "client_tls": {{"ca_certs": ["{}"]}}"#,
        ca.display()
    );
    let gateway = Gateway::start(&config(&[plain("/echo", &host), plain("/close", &host)].join(","), &root));
    let url = format!("wss://localhost:{}", gateway.address.port());
    passes(Path::new("node"), "websocket-client.mjs", &[&url, "talk", ca.to_str().unwrap()]);
    gateway.stop();
}

#[test]
fn the_chat_behind_the_gateway() {
    if !has_node("centrifuge (npm) through the gateway") {
        return;
    }
    let folder = Folder::new();
    let chat = Setup::ours("history_size = 300").start(&folder);
    let path = "/connection/websocket";
    let gateway = Gateway::start(&config(&plain(path, &format!("ws://{}", chat.address)), ""));
    let url = format!("ws://{}{path}", gateway.address);
    for form in ["json", "protobuf"] {
        passes(Path::new("node"), "sdks.mjs", &[&url, form]);
    }
    assert!(metric(&gateway, "annulus_gateway_tunnels_opened_total") > 0);
    gateway.stop();
    chat.stop();
}

#[test]
fn pages_of_other_origins_and_those_without_a_place_are_refused() {
    if !has_node("refused WebSockets") {
        return;
    }
    let server = Server::start(None);
    let host = format!("ws://127.0.0.1:{}", server.port);
    let cors = r#", "extra_config": {"security/cors": {"allow_origins": ["https://good.example"]}}"#;
    scene(&Gateway::start(&config(&plain("/echo", &host), cors)), "foreign");
    let one = r#", "annulus": {"tunnels_max": 1}"#;
    let gateway = Gateway::start_on(&config(&endpoint("/echo", "/echo", &host, ["", one, ""]), ""), "2", "auto");
    scene(&gateway, "places");
    assert!(metric(&gateway, "annulus_gateway_tunnels_refused_total") > 0);
    let all = r#", "extra_config": {"annulus": {"tunnels_max": 1}}"#;
    scene(&Gateway::start_on(&config(&plain("/echo", &host), all), "2", "auto"), "places");
}

#[test]
fn a_backend_that_dies_and_a_gateway_that_stops() {
    if !has_node("ends of WebSockets") {
        return;
    }
    let server = Server::start(None);
    let host = format!("ws://127.0.0.1:{}", server.port);
    let mut gateway = Gateway::start(&config(&[plain("/exit", &host), plain("/echo", &host)].join(","), OURS));
    let client = Command::new("node")
        .args(["websocket-client.mjs", &format!("ws://{}", gateway.address), "stopped"])
        .current_dir(clients())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = client;
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "open");
    gateway.signal("TERM");
    assert_eq!(lines.next().unwrap().unwrap(), "stopped: ok");
    assert!(client.wait().unwrap().success());
    assert!(gateway.ended().success());
    assert!(!gateway.log.lock().unwrap().contains("cut off"), "a tunnel held the gateway up");
    let gateway = Gateway::start(&config(&plain("/exit", &host), OURS));
    scene(&gateway, "killed");
}

#[test]
fn who_does_not_read_stops_who_sends() {
    const ALL: usize = 256 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let backend = bare(move |mut stream| {
        stream.write_all(AGREED.as_bytes()).unwrap();
        let piece: Vec<u8> = (0..64 << 10).map(|at| (at % 251) as u8).collect();
        while counted.fetch_add(piece.len(), Ordering::SeqCst) < ALL {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let gateway = socket(backend, [""; 3], "");
    let before = resident(&gateway);
    let mut client = knock(&gateway);
    assert!(read_head(&mut client).starts_with("http/1.1 101"));
    // What the kernel takes on both ways is some megabytes; then the sender stands still.
    let mut seen = 0;
    eventually("the sender stands still", || {
        std::thread::sleep(Duration::from_millis(500));
        seen == std::mem::replace(&mut seen, sent.load(Ordering::SeqCst)) && seen > 0
    });
    assert!(seen < ALL / 2, "{seen} bytes were taken for somebody who reads nothing");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes wait in the gateway");
    let (mut all, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        match client.read(&mut piece).unwrap() {
            0 => break,
            len => {
                let is_right = |(at, byte): (usize, &u8)| *byte == ((all + at) % (64 << 10) % 251) as u8;
                assert!(piece[..len].iter().enumerate().all(is_right), "other bytes from {all} on");
                all += len;
            }
        }
    }
    assert_eq!(all, ALL);
}

fn resident(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn halves_end_one_by_one() {
    // Answers only when it has heard all, with what it has heard.
    let backend = bare(|mut stream| {
        stream.write_all(AGREED.as_bytes()).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
    });
    let gateway = socket(backend, [""; 3], "");
    let mut client = knock(&gateway);
    // Before the answer, and behind it.
    client.write_all(b"early ").unwrap();
    assert!(read_head(&mut client).starts_with("http/1.1 101"));
    client.write_all(b"and late").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert_eq!(all, "early and late");
    eventually("it is counted", || metric(&gateway, r#"annulus_gateway_tunnels_ended_total why="client""#) == 1);
}

#[test]
fn a_tunnel_on_which_nothing_moves_ends() {
    let backend = bare(|mut stream| {
        stream.write_all(AGREED.as_bytes()).unwrap();
        let _until_the_end = stream.read(&mut [0]);
    });
    let gateway = socket(backend, ["", "", r#", "timeout": "300ms""#], "");
    let mut client = knock(&gateway);
    read_head(&mut client);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    eventually("it is counted", || metric(&gateway, r#"annulus_gateway_tunnels_ended_total why="idle""#) == 1);
}

#[test]
fn what_is_no_agreement_is_none() {
    let answers = [
        AGREED.replace("s3pP", "S3PP"),
        AGREED.replace("Upgrade: websocket", "Upgrade: h2c"),
        AGREED.replace("Upgrade: websocket\r\n", ""),
        "\0\u{1}garbage\r\n\r\n".to_owned(),
        String::new(),
    ];
    for answer in answers {
        let told = answer.clone();
        let backend = bare(move |mut stream| drop(stream.write_all(told.as_bytes())));
        let gateway = socket(backend, [""; 3], OURS);
        let mut client = knock(&gateway);
        let head = read_head(&mut client);
        assert!(head.starts_with("http/1.1 502"), "{answer:?}: {head}");
        assert!(!head.contains("upgrade"), "{head}");
        assert_eq!(metric(&gateway, "annulus_gateway_tunnels_open"), 0);
        gateway.stop();
    }
}

#[test]
fn garbage_goes_through_and_hurts_nobody() {
    let backend = bare(|mut stream| {
        stream.write_all(AGREED.as_bytes()).unwrap();
        let mut piece = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut piece) {
            if stream.write_all(&piece[..len]).is_err() {
                return;
            }
        }
    });
    let gateway = socket(backend, [""; 3], r#", "max_shutdown_wait_time": "2s""#);
    let mut client = knock(&gateway);
    read_head(&mut client);
    let garbage: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut writer, sent) = (client.try_clone().unwrap(), garbage.clone());
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut heard = vec![0; garbage.len()];
    client.read_exact(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == garbage, "other bytes came back");
    // Frames of it may have no end: the gateway stops all the same.
    gateway.stop();
}

#[test]
fn who_asks_wrongly_is_told_and_others_are_served_where_the_file_says_so() {
    let backend = bare(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain").unwrap();
    });
    let gateway = socket(backend, [""; 3], OURS);
    let answer = gateway.get("/socket");
    assert_eq!(answer.status, 426);
    assert!(answer.has("upgrade: websocket") && answer.has("sec-websocket-version: 13"), "{}", answer.head);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(HELLO.replace("Version: 13", "Version: 8").as_bytes()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("http/1.1 400") && head.contains("sec-websocket-version: 13"), "{head}");
    let gateway = socket(backend, [r#", "output_encoding": "no-op""#, "", ""], OURS);
    let Answer { status, body, .. } = gateway.get("/socket");
    assert_eq!((status, &body[..]), (200, "plain"));
}
