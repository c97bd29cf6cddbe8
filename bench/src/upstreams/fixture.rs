//! For tests: the services in this process.

use super::behaviour::Behaviour;
use super::service::SERVICES;
use super::{Options, port_of, start};
use annulus_engine::Running;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A shop of its own, drained when dropped.
pub struct Shop {
    pub base: u16,
    running: Option<Running<Result<(), String>>>,
}

impl Shop {
    pub fn open(settings: &[(&str, &str)]) -> Shop {
        let mut behaviour = Behaviour::default();
        let fast = [("latency", "0"), ("sizes", "1KB")];
        fast.iter().chain(settings).for_each(|(name, value)| behaviour.set(name, value).unwrap());
        let base = free_ports();
        let listen = SocketAddr::from(([127, 0, 0, 1], base));
        let options = Options { listen, shards: 1, pin: Vec::new(), behaviour, overrides: Vec::new(), seed: 1 };
        let shop = Shop { base, running: Some(start(&options).unwrap()) };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port_of(base, SERVICES.len() - 1))).is_err() {
            assert!(since.elapsed() < Duration::from_secs(10), "the last port does not accept");
            std::thread::sleep(Duration::from_millis(5));
        }
        shop
    }

    pub fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// One exchange on a connection of its own: everything that came until the end.
    pub fn ask(&self, port: u16, request: &str, body: &str) -> String {
        let mut stream = self.connect(port);
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn control(&self) -> Value {
        body_of(&self.ask(self.base, "GET /control", ""))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.engine().drain();
            assert_eq!(running.wait().unwrap(), [Ok(())]);
        }
    }
}

/// The first of as many ports in a row as a shop needs.
fn free_ports() -> u16 {
    let free = |base: u16| {
        let held: Vec<_> =
            (0..=SERVICES.len() as u16).map(|number| TcpListener::bind(("127.0.0.1", base + number))).collect();
        held.iter().all(Result::is_ok)
    };
    // Different tests of one run begin at different places.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 200) as u16 * 40;
    let mut bases = std::iter::repeat_with(|| start + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 32);
    bases.by_ref().take(100).find(|&base| free(base)).unwrap()
}

pub fn body_of(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head} {body}"))
}
