//! Requests over HTTP/2 that their client gives up: cancelled in the same breath they ask nobody, and answers that are not
//! taken hold further requests of that client back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Limits, RequestLine};

use super::gateway_rig::{Gateway, OURS, Upstream, config};

fn gateway(upstream: &Upstream) -> Gateway {
    let endpoint = format!(
        r#"{{"endpoint": "/v", "timeout": "10s", "backend": [{{"host": ["http://{}"], "url_pattern": "/v"}}]}}"#,
        upstream.address
    );
    Gateway::start(&config(&endpoint, &format!(r#", "use_h2c": true{OURS}"#)))
}

struct Client {
    stream: TcpStream,
    machine: Connection,
    limits: Limits,
    out: Vec<u8>,
}

impl Client {
    fn connect(gateway: &Gateway, limits: Limits) -> Client {
        let stream = TcpStream::connect(gateway.address).unwrap();
        let (mut machine, mut out) = (Connection::client(&limits), Vec::new());
        machine.write_preface(&limits, &mut out);
        Client { stream, machine, limits, out }
    }

    fn open(&mut self) -> u32 {
        let line = RequestLine { method: "GET", scheme: "http", authority: "x", path: "/v" };
        self.machine.open(&mut self.out, &line, std::iter::empty(), true).unwrap()
    }

    fn send(&mut self) {
        self.machine.write_pending(&mut self.out);
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    /// Reads for a while; how many answers began, and how many ended.
    fn read_for(&mut self, time: Duration) -> (usize, usize) {
        let (until, mut begun, mut ended) = (Instant::now() + time, 0, 0);
        let mut bytes = vec![0; 64 << 10];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).unwrap();
            let Ok(len) = self.stream.read(&mut bytes) else { break };
            let mut input = Input::new(&mut bytes[..len]);
            loop {
                match self.machine.next_event(&self.limits, 0, &mut input).unwrap() {
                    Event::NeedMore => break,
                    Event::Head { .. } => begun += 1,
                    // Nothing is released: the windows stay shut once they are full.
                    Event::Data { end, .. } => ended += usize::from(end),
                    _ => {}
                }
            }
        }
        (begun, ended)
    }
}

#[test]
fn what_is_cancelled_in_the_same_breath_asks_nobody() {
    let upstream = Upstream::start(|_| Upstream::json(r#"{"ok": 1}"#));
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway, Limits::DEFAULT);
    for _ in 0..50 {
        let stream = client.open();
        client.machine.reset(stream, ErrorCode::CANCEL);
    }
    client.open();
    client.send();
    let (begun, ended) = client.read_for(Duration::from_millis(500));
    assert_eq!((begun, ended), (1, 1));
    assert_eq!(upstream.asked().len(), 1, "of 51");
}

#[test]
fn who_takes_no_answers_waits_with_its_further_requests() {
    let answer = Upstream::json(&format!(r#"{{"text": "{}"}}"#, "x".repeat(1 << 20)));
    let upstream = Upstream::start(move |_| answer.clone());
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway, Limits::DEFAULT);
    // One after the other, so that each finds the answers of those before it.
    for _ in 0..20 {
        client.open();
        client.send();
        client.read_for(Duration::from_millis(50));
    }
    let asked = upstream.asked().len();
    assert!((4..=8).contains(&asked), "{asked} MB of answers wait for a client that takes none");
    assert_eq!(gateway.get("/v").status, 200, "others are answered");
}
