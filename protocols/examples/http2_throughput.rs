//! How fast HTTP/2 is without any I/O: a client and a server joined in memory. Nanoseconds per small request with its
//! answer, as a gateway's sub-requests are, for both ends together; gigabytes per second of DATA; and the field
//! compression alone. Absolute numbers mean little on a shared machine; compare two builds in one run.
//!
//! ```text
//! cargo run --release -p annulus-protocols --example http2_throughput
//! ```

use annulus_protocols::Input;
use annulus_protocols::http2::hpack::{Decoder, Encoder, Indexing};
use annulus_protocols::http2::{Connection, Event, Limits, RequestLine};
use std::hint::black_box;
use std::time::Instant;

/// Streams that are open at a time.
const CONCURRENT: usize = 50;
const REQUESTS: usize = 400_000;
const BODY_BYTES: usize = 1024;
const BULK_BYTES: usize = 2 << 30;
/// The measurements are repeated, because neighbours disturb; the best one is nearest to what the code costs.
const ROUNDS: usize = 5;

const ASKED: [(&str, &[u8]); 5] = [
    ("accept", b"application/json"),
    ("user-agent", b"annulus/0.1"),
    ("x-forwarded-for", b"203.0.113.77"),
    ("x-forwarded-host", b"shop.example.com"),
    ("x-request-id", b"0af7651916cd43dd8448eb211c80319c"),
];
const ANSWERED: [(&str, &[u8]); 4] = [
    ("content-type", b"application/json"),
    ("content-length", b"1024"),
    ("date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
    ("server", b"stock/1.4"),
];

/// Two joined ends.
struct Pair {
    client: Connection,
    server: Connection,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    limits: Limits,
}

impl Pair {
    fn new() -> Self {
        let limits = Limits { tiny_frames_max: u32::MAX, ..Limits::DEFAULT };
        let (mut client, mut server) = (Connection::client(&limits), Connection::server(&limits));
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.write_preface(&limits, &mut to_server);
        server.write_preface(&limits, &mut to_client);
        Self { client, server, to_server, to_client, limits }
    }

    /// Lets the server read what was sent, and answer each request with `body`. Returns the body bytes that it took.
    fn serve(&mut self, body: &[u8]) -> usize {
        let (mut input, mut taken) = (Input::new(&mut self.to_server), 0);
        loop {
            match self.server.next_event(&self.limits, 0, &mut input).expect("the client behaves") {
                Event::NeedMore => break,
                Event::Head { stream, end: true, .. } => {
                    assert!(self.server.write_head(&mut self.to_client, stream, 200, ANSWERED, false));
                    let written = self.server.write_data(0, &mut self.to_client, stream, body, true);
                    assert_eq!(written, Some(body.len()));
                }
                Event::Data { stream, bytes, .. } => {
                    taken += black_box(bytes).len();
                    self.server.release(stream, bytes.len() as u32);
                }
                _ => {}
            }
        }
        self.server.write_pending(&mut self.to_client);
        self.to_server.clear();
        taken
    }

    /// Lets the client read what was sent. Returns how many answers were complete.
    fn collect(&mut self) -> usize {
        let (mut input, mut answers) = (Input::new(&mut self.to_client), 0);
        loop {
            match self.client.next_event(&self.limits, 0, &mut input).expect("the server behaves") {
                Event::NeedMore => break,
                Event::Data { stream, bytes, end } => {
                    self.client.release(stream, black_box(bytes).len() as u32);
                    answers += usize::from(end);
                }
                _ => {}
            }
        }
        self.client.write_pending(&mut self.to_server);
        self.to_client.clear();
        answers
    }
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds per request and answer.
fn requests() -> f64 {
    let body = vec![b'x'; BODY_BYTES];
    let mut pair = Pair::new();
    pair.serve(&body);
    pair.collect();
    let started = Instant::now();
    let (mut asked, mut answers) = (0, 0);
    while answers < REQUESTS {
        for _ in 0..CONCURRENT {
            let path = PATHS[asked % PATHS.len()];
            asked += 1;
            let line = RequestLine { method: "GET", scheme: "http", authority: "stock.shop.internal:8080", path };
            pair.client.open(&mut pair.to_server, &line, ASKED, true).expect("there is room");
        }
        pair.serve(&body);
        answers += pair.collect();
    }
    started.elapsed().as_nanos() as f64 / answers as f64
}

const PATHS: [&str; 4] =
    ["/v1/stock/4711", "/v1/stock/4712?warehouse=north", "/v1/price/4711?currency=EUR", "/v1/stock/9"];

/// Gigabytes per second from a client to a server.
fn bulk() -> f64 {
    let mut pair = Pair::new();
    pair.serve(b"");
    pair.collect();
    let line = RequestLine { method: "POST", scheme: "http", authority: "a", path: "/upload" };
    let stream = pair.client.open(&mut pair.to_server, &line, [], false).expect("there is room");
    let chunk = vec![b'x'; 256 << 10];
    let started = Instant::now();
    let mut taken = 0;
    while taken < BULK_BYTES {
        pair.client.write_data(0, &mut pair.to_server, stream, &chunk, false).expect("it is open");
        taken += pair.serve(b"");
        pair.collect();
    }
    taken as f64 / started.elapsed().as_nanos() as f64
}

/// Nanoseconds to encode and to decode the request's fields.
fn compression() -> (f64, f64) {
    let fields: Vec<(&[u8], &[u8], Indexing)> =
        ASKED.iter().map(|(name, value)| (name.as_bytes(), *value, Indexing::of(name))).collect();
    let (mut encoder, mut decoder, mut block) = (Encoder::default(), Decoder::default(), Vec::new());
    let rounds = 200_000;
    let (mut encoding, mut decoding) = (0, 0);
    for _ in 0..rounds / 100 {
        let mut blocks = Vec::new();
        let started = Instant::now();
        for _ in 0..100 {
            block.clear();
            encoder.begin(&mut block);
            for (name, value, indexing) in &fields {
                encoder.field(&mut block, name, value, *indexing);
            }
            blocks.push(block.clone());
        }
        encoding += started.elapsed().as_nanos();
        let started = Instant::now();
        for block in &blocks {
            black_box(decoder.decode(block, 1 << 14, 100).expect("our own block"));
        }
        decoding += started.elapsed().as_nanos();
    }
    (encoding as f64 / f64::from(rounds), decoding as f64 / f64::from(rounds))
}

fn main() {
    println!("{:>8.0} ns for a request and its answer of {BODY_BYTES} bytes, both ends together", best(requests));
    println!("{:>8.2} GB/s of DATA, both ends together", -best(|| -bulk()));
    println!("{:>8.0} ns to encode five fields", best(|| compression().0));
    println!("{:>8.0} ns to decode them", best(|| compression().1));
}
