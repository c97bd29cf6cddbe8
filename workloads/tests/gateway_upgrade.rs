//! A gateway that is replaced while it works: three upgrades, with other numbers of shards and another configuration each time, cost
//! no request, over HTTP/1.1 with connections that are kept and with new ones, and over HTTP/2; a successor that cannot start
//! changes nothing, and nobody else gets the sockets.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gateway_rig::{Gateway, OURS, Upstream, config, eventually};
use outside::{clients, has};

const GROUP: &str = "upgrading the gateway under load over HTTP/2";

struct Place {
    port: u16,
    socket: PathBuf,
}

impl Place {
    fn new(name: &str) -> Place {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = std::env::temp_dir().join(format!("annulus-upgrade-{}-{name}", std::process::id()));
        Place { port, socket }
    }

    fn start(&self, config: &str, shards: &str, driver: &str) -> Gateway {
        let socket = self.socket.display().to_string();
        Gateway::start_at(self.port, config, &["--shards", shards, "--driver", driver, "--handover", &socket], &[])
    }

    fn is_offered(&self, gateway: &Gateway) {
        eventually("its socket is offered", || self.socket.exists());
        assert!(!gateway.log.lock().unwrap().contains("upgrade:"));
    }
}

fn text(upstream: &Upstream, pattern: &str) -> String {
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "{pattern}"}}], "extra_config": {{"annulus": {{"priority": "critical"}}}}}}"#,
        upstream.address
    );
    config(&endpoint, &format!(r#", "use_h2c": true, "max_shutdown_wait_time": "5s"{OURS}"#))
}

/// Asks without pause until told to stop: each on a connection of its own, or all on one for as long as that lasts. How often.
fn load(address: SocketAddr, keeps: bool, over: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut count, mut kept) = (0, None);
        while !over.load(Ordering::Relaxed) {
            let mut stream = kept.take().unwrap_or_else(|| {
                let stream = TcpStream::connect(address).expect("nobody is refused");
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                BufReader::new(stream)
            });
            let connection = if keeps { "keep-alive" } else { "close" };
            let head = format!("GET /v HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            stream.get_mut().write_all(head.as_bytes()).expect("a connection that was kept is there");
            let (mut head, mut length, mut is_last) = (String::new(), 0, false);
            loop {
                let mut line = String::new();
                let read = stream.read_line(&mut line).expect("each request is answered");
                assert!(read > 0, "an end without an answer after {count}: {head:?}");
                let small = line.trim_end().to_lowercase();
                length = small.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
                is_last |= small == "connection: close";
                head += &line;
                if small.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            // On a machine where others compile, a shard may refuse because it comes too late. That is no upgrade's doing.
            let is_shed = head.starts_with("HTTP/1.1 503 ") && body.ends_with(b"the gateway has too much to do\"}\n");
            assert!(
                is_shed || head.starts_with("HTTP/1.1 200 ") && body == br#"{"ok":1}"#,
                "{head}{:?}",
                String::from_utf8_lossy(&body)
            );
            kept = (keeps && !is_last).then_some(stream);
            count += u64::from(!is_shed);
            std::thread::sleep(Duration::from_millis(3));
        }
        count
    })
}

/// Keeps asking over HTTP/2 until it is waited for, which ends its standard input, or for so long.
fn http2(address: SocketAddr, duration: Duration) -> Option<Child> {
    has("node", GROUP).then(|| {
        let mut node = Command::new("node");
        node.arg("steady.mjs").args([format!("http://{address}/v"), duration.as_millis().to_string()]);
        node.current_dir(clients()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    })
}

#[test]
fn three_upgrades_cost_no_request() {
    for driver in ["auto", "epoll"] {
        let upstream = Upstream::start(|_| {
            std::thread::sleep(Duration::from_millis(20));
            Upstream::json(r#"{"ok":1}"#)
        });
        let place = Place::new(driver);
        let mut gateway = place.start(&text(&upstream, "/0"), "2", driver);
        place.is_offered(&gateway);
        let over: Arc<AtomicBool> = Arc::default();
        let loads = [true, true, true, false, false, false].map(|keeps| load(gateway.address, keeps, over.clone()));
        let load2 = http2(gateway.address, Duration::from_secs(120));
        for (number, shards) in ["1", "2", "2"].into_iter().enumerate() {
            std::thread::sleep(Duration::from_millis(900));
            let successor = place.start(&text(&upstream, &format!("/{}", number + 1)), shards, driver);
            assert!(successor.logged("upgrade: taken over"), "{}", successor.log.lock().unwrap());
            let mut before = std::mem::replace(&mut gateway, successor);
            assert!(before.ended().success());
            let log = before.log.lock().unwrap().clone();
            assert!(log.contains("takes over") && !log.contains("cut off"), "{log}");
        }
        std::thread::sleep(Duration::from_millis(500));
        let output = load2.map(|load2| load2.wait_with_output().unwrap());
        over.store(true, Ordering::Relaxed);
        let counts = loads.map(|load| load.join().unwrap());
        assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
        if let Some(output) = output {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{driver}: HTTP/2: {}", said.trim());
            assert!(said.contains(r#""failed":[]"#), "{said}");
            let of = |name: &str| said.split(name).nth(1).unwrap().split(',').next().unwrap().parse::<u32>().unwrap();
            assert!(of(r#""ok":"#) > 100 && of(r#""connections":"#) >= 4, "{said}");
        }
        println!("{driver}: requests by connection, the first three kept: {counts:?}, none failed");
        for number in 0..4 {
            let pattern = format!(" /{number} ");
            assert!(
                upstream.asked().iter().any(|head| head.contains(&pattern)),
                "nobody was served by number {number}"
            );
        }
        gateway.stop();
        assert!(!place.socket.exists(), "a server that ends takes its socket along");
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok":1}"#));
    let place = Place::new("wrong");
    let gateway = place.start(&text(&upstream, "/v"), "2", "auto");
    place.is_offered(&gateway);
    let over: Arc<AtomicBool> = Arc::default();
    let load = load(gateway.address, false, over.clone());
    let file = std::env::temp_dir().join(format!("annulus-upgrade-wrong-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"version": 3, "endpoints": [{"endpoint": "/v"}]}"#).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_annulus"))
        .args(["gateway", "--handover"])
        .arg(&place.socket)
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    std::fs::remove_file(file).unwrap();
    assert!(gateway.logged("could not start, and this one goes on"), "{}", gateway.log.lock().unwrap());
    assert!(gateway.log.lock().unwrap().contains("backend"), "it says why");
    // One that is killed, or goes away, before it is ready.
    drop(greet(&place.socket, "annulus 1 gateway 77\n").0);
    assert!(gateway.logged("process 77 ended before it was ready, and this one goes on"));
    // Others.
    for (greeting, says) in [
        ("annulus 1 chat 77\n", "refused this is annulus gateway"),
        ("annulus 9 gateway 77\n", "refused this release speaks otherwise"),
        ("GET / HTTP/1.1\n", "refused this release speaks otherwise"),
    ] {
        let (_, said) = greet(&place.socket, greeting);
        assert!(said.starts_with(says), "{greeting:?}: {said:?}");
    }
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 10);
    // And then it is taken over all the same.
    let successor = place.start(&text(&upstream, "/v"), "1", "auto");
    assert!(successor.logged("upgrade: taken over"));
    assert_eq!(successor.get("/v").status, 200);
    let mut gateway = gateway;
    assert!(gateway.ended().success());
    successor.stop();
}

/// Says something to a server at its socket; the connection, and the first line that it says.
fn greet(socket: &Path, greeting: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(greeting.as_bytes()).unwrap();
    let mut said = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut said).unwrap();
    (stream, said)
}

#[test]
fn the_socket_is_open_to_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::start(|_| Upstream::json("{}"));
    let place = Place::new("mode");
    let gateway = place.start(&text(&upstream, "/v"), "1", "auto");
    place.is_offered(&gateway);
    let mode = std::fs::metadata(&place.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    gateway.stop();
}
