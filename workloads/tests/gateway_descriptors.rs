//! A gateway with more clients than it may have descriptors: who cannot be served is told at once and does not wait, and when the
//! crowd has gone everybody is served again.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_rig;
mod outside;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gateway_rig::{Upstream, config};

const DESCRIPTORS: usize = 128;
const CROWD: usize = 300;

#[test]
fn who_cannot_be_served_is_told_at_once() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let endpoint = format!(
        r#"{{"endpoint": "/v", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#,
        upstream.address
    );
    for driver in ["auto", "epoll"] {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let name = format!("annulus-crowd-{}-{driver}.json", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, config(&endpoint, "").replace("PORT", &address.port().to_string())).unwrap();
        // Before it starts: what an io_uring accepts goes by the limit of when it began to.
        let script = format!("ulimit -n {DESCRIPTORS} && exec \"$@\"");
        let mut gateway = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_annulus"), "gateway", "--driver", driver, "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(is_served_within(address, Duration::from_secs(30)), "{driver}");
        let crowd: Vec<TcpStream> = (0..CROWD).filter_map(|_| TcpStream::connect(address).ok()).collect();
        let turned_away = || CROWD - crowd.iter().filter(|stream| is_open(stream)).count();
        let began = Instant::now();
        while turned_away() < CROWD - DESCRIPTORS && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(turned_away() >= CROWD - DESCRIPTORS, "{driver}: {} of {CROWD}", turned_away());
        drop(crowd);
        assert!(is_served_within(address, Duration::from_secs(10)), "{driver}: the crowd has gone");
        assert!(Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status().unwrap().success());
        assert!(gateway.wait().unwrap().success(), "{driver}");
        std::fs::remove_file(&file).unwrap();
    }
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn is_served_within(address: SocketAddr, time: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < time {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut answer = String::new();
            let asked = stream.write_all(b"GET /v HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            if asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("200 OK") {
                return true;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
