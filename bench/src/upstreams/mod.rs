//! The shop's fake microservices on one process: what a gateway is tested and measured against.
//!
//! ```text
//!   base port      all services by path: /svc/{name}/...   /s/{number}?bytes=N&delay_ms=D&fresh_s=S   GET, POST /control
//!   base + 1 + n   service number n, any path (and the paths above)
//! ```
//!
//! A path that ends in `/list` is answered with an array, every other one with an object. It must cost much less than
//! the gateway it loads, so answers are written once at start and sent in place.

pub mod behaviour;
pub mod body;
pub mod control;
pub mod distribution;
mod door;
#[cfg(test)]
pub(crate) mod fixture;
mod floor;
mod http1;
mod http2;
pub mod service;

use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{Engine, Running, Shard};
use behaviour::Behaviour;
use control::Shared;
use floor::Floor;
use service::SERVICES;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// How to run them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port of all services; theirs follow it.
    pub listen: SocketAddr,
    /// Shards.
    pub shards: usize,
    /// Cores for the shards; the first ones when empty.
    pub pin: Vec<usize>,
    /// How all services behave.
    pub behaviour: Behaviour,
    /// How some differ: `SERVICE:NAME=VALUE,...`.
    pub overrides: Vec<String>,
    /// Makes chances repeatable.
    pub seed: u64,
}

/// The port of one service.
pub fn port_of(base: u16, service: usize) -> u16 {
    base + 1 + service as u16
}

/// Starts them; they serve until the engine is drained.
///
/// # Errors
/// A sentence: an override is wrong, there are not enough ports, or the engine could not start.
pub fn start(options: &Options) -> Result<Running<Result<(), String>>, String> {
    let last = options.listen.port().checked_add(SERVICES.len() as u16);
    if options.listen.port() == 0 || last.is_none() {
        return Err(format!("{}: the {} ports behind it must exist too", options.listen, SERVICES.len()));
    }
    let shared = Arc::new(Shared::new(&options.behaviour, &options.overrides)?);
    // On loopback the kernel copies a zero-copy send all the same, and then reports it.
    let engine = Engine::builder().shards(options.shards).cores(options.pin.clone()).zero_copy_bytes_min(usize::MAX);
    let (listen, seed) = (options.listen, options.seed);
    let running = engine.start(move |shard| serve(shard, listen, shared.clone(), seed));
    running.map_err(|error| format!("the engine could not start: {error}"))
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// As [`start`]; or a port is taken.
pub fn run(options: &Options) -> Result<(), String> {
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let running = start(options)?;
    let handle = running.engine().clone();
    let listening = signals.listen(move |signal| {
        if signal == Signal::Drain {
            handle.drain();
        }
    });
    listening.map_err(|error| format!("the thread for signals cannot start: {error}"))?;
    let (listen, count) = (options.listen, SERVICES.len());
    let (first, last) = (port_of(listen.port(), 0), port_of(listen.port(), count - 1));
    println!("all services   http://{listen}/svc/NAME/...   settings and counts: http://{listen}/control");
    println!("each of {count}     http://{}:{first}..{last}", listen.ip());
    let ended = running.wait().map_err(|error| format!("a shard failed: {error}"))?;
    ended.into_iter().collect()
}

async fn serve(shard: Shard, listen: SocketAddr, shared: Arc<Shared>, seed: u64) -> Result<(), String> {
    let floor = Rc::new(RefCell::new(Floor::new(shared, seed + shard.index() as u64)));
    let services = (0..SERVICES.len()).map(|number| (port_of(listen.port(), number), Some(number)));
    let doors: Vec<_> = std::iter::once((listen.port(), None))
        .chain(services)
        .map(|(port, service)| {
            let (shard, floor, address) = (shard.clone(), floor.clone(), SocketAddr::new(listen.ip(), port));
            shard.clone().spawn(async move {
                let served = door::serve(shard.clone(), address, service, floor).await;
                if served.is_err() {
                    // One port that cannot be had is the end of all: a shop with a hole would look like a fault.
                    shard.drain();
                }
                served
            })
        })
        .collect();
    let mut outcome = Ok(());
    for door in doors {
        let served = door.await.unwrap_or_else(|_ended| Err("a port's task ended by a panic".to_owned()));
        outcome = outcome.and(served);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::fixture::{Shop, body_of};
    use super::*;
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    #[test]
    fn services_answer_on_their_port_and_by_path() {
        let shop = Shop::open(&[]);
        let stock = service::number_of("stock").unwrap();
        let answer = shop.ask(port_of(shop.base, stock), "GET /items/5", "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nx-service-ms: 0."), "{answer}");
        assert!(body_of(&answer)["warehouse"].is_string());
        let by_path = body_of(&shop.ask(shop.base, "GET /svc/stock/items/5", ""));
        assert_eq!(body_of(&answer)["items"], by_path["items"]);
        assert!(body_of(&shop.ask(shop.base, "GET /svc/reviews/list", ""))[0]["author"].is_string());
        let exact = shop.ask(shop.base, "GET /s/7?bytes=5000&delay_ms=30", "");
        assert_eq!(exact.split_once("\r\n\r\n").unwrap().1.len(), 5000);
        let took = body_of(&exact)["service_us"].as_u64().unwrap();
        assert!((30_000..2_000_000).contains(&took), "{took}");
        assert!(shop.ask(shop.base, "GET /nobody", "").starts_with("HTTP/1.1 404"));
        assert!(shop.ask(shop.base, "GET /s/1?bytes=x", "").starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn requests_sent_ahead_are_answered_in_order() {
        let shop = Shop::open(&[]);
        let mut stream = shop.connect(shop.base);
        let request = |bytes: usize, delay: usize, close: &str| {
            format!("GET /s/1?bytes={bytes}&delay_ms={delay} HTTP/1.1\r\nHost: shop\r\n{close}\r\n")
        };
        let ahead = [request(200, 40, ""), request(300, 0, ""), request(400, 5, "Connection: close\r\n")].concat();
        stream.write_all(ahead.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let lengths: Vec<&str> = answers.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
        assert_eq!(lengths, ["200", "300", "400"]);
    }

    #[test]
    fn faults_are_switched_on_while_it_runs() {
        let shop = Shop::open(&[]);
        let port = port_of(shop.base, service::number_of("cart").unwrap());
        let set = |change: &str| shop.ask(shop.base, "POST /control", change);
        assert!(set(r#"{"service": "cart", "errors": 1}"#).starts_with("HTTP/1.1 200"));
        assert!(shop.ask(port, "GET /", "").starts_with("HTTP/1.1 500"));
        set(r#"{"service": "cart", "errors": 0, "resets": 1}"#);
        let broken = shop.ask(port, "GET /", "");
        let (head, body) = broken.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 1024") && (100..1024).contains(&body.len()), "{broken}");
        set(r#"{"service": "cart", "resets": 0, "refused": 1}"#);
        let mut stream = shop.connect(port);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
        set(r#"{"service": "cart", "refused": 0, "stalls": 1}"#);
        let mut stream = shop.connect(port);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read(&mut [0; 16]).is_err(), "a stalled service says nothing");
        assert!(shop.ask(shop.base, "GET /svc/stock/", "").starts_with("HTTP/1.1 200"), "the others are well");
        assert!(set(r#"{"service": "cart", "stalls": 2}"#).starts_with("HTTP/1.1 400"));
        let counts = &shop.control()["services"]["cart"]["counts"];
        let count = |name: &str| counts[name].as_u64().unwrap();
        assert_eq!(["errors", "reset", "refused", "stalled"].map(count), [1, 1, 1, 1], "{counts}");
    }

    #[test]
    fn connections_retire_and_marks_are_seen_twice() {
        let shop = Shop::open(&[("goaway_every", "2")]);
        let twice = |method: &str| {
            let request = format!(
                "{method} /svc/tax/ HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nX-Bench-Mark: {method}\r\n\r\n"
            );
            let mut stream = shop.connect(shop.base);
            stream.write_all(request.repeat(2).as_bytes()).unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
            assert_eq!(answers.matches("connection: close").count(), 1);
        };
        twice("GET");
        assert_eq!(shop.control()["repeated"], 0, "asking again is no harm");
        twice("POST");
        assert_eq!(shop.control()["repeated"], 1);
    }

    #[test]
    fn a_client_that_leaves_is_forgotten() {
        let shop = Shop::open(&[]);
        let mut stream = shop.connect(shop.base);
        stream.write_all(b"GET /s/0?delay_ms=50 HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        drop(stream);
        let since = Instant::now();
        while shop.control()["services"]["catalog"]["counts"]["abandoned"] != 1 {
            assert!(since.elapsed() < Duration::from_secs(5), "{}", shop.control());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_stream_that_is_given_up_is_counted() {
        use annulus_protocols::http2::{Connection, ErrorCode, Limits, RequestLine};
        let shop = Shop::open(&[]);
        let (mut stream, mut out) = (shop.connect(shop.base), Vec::new());
        let mut client = Connection::client(&Limits::DEFAULT);
        client.write_preface(&Limits::DEFAULT, &mut out);
        let line = RequestLine { method: "GET", scheme: "http", authority: "shop", path: "/s/0?delay_ms=50" };
        let asked = client.open(&mut out, &line, [], true).unwrap();
        client.reset(asked, ErrorCode::CANCEL);
        client.write_pending(&mut out);
        stream.write_all(&out).unwrap();
        let since = Instant::now();
        while shop.control()["services"]["catalog"]["counts"]["abandoned"] != 1 {
            assert!(since.elapsed() < Duration::from_secs(5), "{}", shop.control());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_example_configuration_asks_services_that_exist() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/examples/shop.json");
        let shop: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let endpoints = shop["endpoints"].as_array().unwrap();
        let backends: Vec<_> = endpoints.iter().flat_map(|endpoint| endpoint["backend"].as_array().unwrap()).collect();
        assert!(endpoints.len() >= 10 && backends.len() >= 50);
        let ports: Vec<String> =
            (0..SERVICES.len()).map(|service| format!("http://127.0.0.1:{}", port_of(9100, service))).collect();
        let asked = |port: &String| backends.iter().any(|backend| backend["host"][0] == **port);
        assert!(ports.iter().all(asked), "a service that nobody asks");
        for backend in &backends {
            assert!(ports.iter().any(|port| backend["host"][0] == **port), "nobody is at {}", backend["host"]);
            let path = backend["url_pattern"].as_str().unwrap();
            // An array needs `is_collection`, and an object must not have it: a gateway counts either as a failure.
            assert_eq!(path.ends_with("/list"), backend["is_collection"] == true, "{path}");
        }
    }
}
