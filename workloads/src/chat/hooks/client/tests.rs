//! Hooks and documents against a server that answers well, slowly, wrongly, too much and not at all, on io_uring and
//! epoll.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use annulus_engine::{DriverChoice, Engine};

use super::super::wire;
use super::*;
use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::fetching::{client_config, system_resolver};

/// How long `/slow` takes to answer.
const SLOW: Duration = Duration::from_millis(600);
/// How long `/hold` does.
const HOLD: Duration = Duration::from_millis(150);

/// What the backend has seen, and how it is.
#[derive(Default)]
struct Seen {
    /// Head and body of each request.
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    held: AtomicUsize,
    held_most: AtomicUsize,
    is_ill: AtomicBool,
    stops: AtomicBool,
}

impl Seen {
    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn last(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

struct Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Backend {
    fn start() -> Backend {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let told = seen.clone();
        // Threads of the backend end with their connections, which end with the engine.
        thread::spawn(move || {
            for stream in listener.incoming() {
                if told.stops.load(Ordering::Relaxed) {
                    return;
                }
                told.connections.fetch_add(1, Ordering::Relaxed);
                let seen = told.clone();
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while let Some(path) = request(&mut stream, &seen)
                        && answer(&mut stream, &path, &seen)
                    {}
                });
            }
        });
        Backend { address, seen }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.seen.stops.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Reads a request; its path.
fn request(stream: &mut TcpStream, seen: &Seen) -> Option<String> {
    let (mut bytes, mut one) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).ok()?;
        bytes.push(one[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    seen.requests.lock().unwrap().push(head + std::str::from_utf8(&body).unwrap());
    Some(path)
}

const WELL: &str = "{\"result\":{\"user\":\"56\"}}";

/// Answers; whether the connection goes on.
fn answer(stream: &mut TcpStream, path: &str, seen: &Seen) -> bool {
    let whole = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let text = match path {
        "/slow" => {
            thread::sleep(SLOW);
            whole("200 OK", WELL)
        }
        "/hold" => {
            let held = seen.held.fetch_add(1, Ordering::Relaxed) + 1;
            seen.held_most.fetch_max(held, Ordering::Relaxed);
            thread::sleep(HOLD);
            seen.held.fetch_sub(1, Ordering::Relaxed);
            whole("200 OK", WELL)
        }
        "/ill" if seen.is_ill.load(Ordering::Relaxed) => whole("503 Service Unavailable", "later"),
        "/201" => whole("201 Created", WELL),
        "/403" => whole("403 Forbidden", "no"),
        "/410" => whole("410 Gone", "gone"),
        "/500" => whole("500 Internal Server Error", &"trouble ".repeat(1000)),
        "/302" => "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/html" => whole("200 OK", "<html>"),
        "/empty" => whole("200 OK", ""),
        "/garbage" => "what?\r\n\r\n".to_owned(),
        "/closes" => return false,
        // One answer per connection, which it does not say: what comes next on it is not answered.
        "/once" => {
            return stream.write_all(whole("200 OK", WELL).as_bytes()).is_ok() && request(stream, seen).is_none();
        }
        "/cut" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"result\"");
            return false;
        }
        "/large" | "/endless" => {
            let chunked = path == "/endless";
            let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 10000000" };
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
            let piece = if chunked { format!("2710\r\n{}\r\n", " ".repeat(10_000)) } else { " ".repeat(10_000) };
            // Whoever has enough closes, and that ends it.
            return stream.write_all(head.as_bytes()).is_ok()
                && (0..1000).all(|_| stream.write_all(piece.as_bytes()).is_ok());
        }
        _ => whole("200 OK", WELL),
    };
    stream.write_all(text.as_bytes()).is_ok()
}

fn outbound(shard: &Shard) -> Rc<Outbound> {
    let tls = ClientTls {
        allow_insecure_connections: false,
        ca_certs: Vec::new(),
        system_ca_pool: false,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        client_certs: Vec::new(),
    };
    let resolver = system_resolver(shard, &[], Duration::from_secs(60));
    Outbound::new(shard, resolver, &client_config(&tls).unwrap())
}

fn settings(address: SocketAddr, path: &str) -> Settings {
    let endpoint = Endpoint::read(&format!("http://{address}{path}")).unwrap();
    Settings { timeout: Duration::from_secs(5), ..Settings::new(Kind::Publish, path, endpoint) }
}

/// Runs `test` on a shard, on each kind of driver, with a backend of its own.
fn on_each_driver<T: Future<Output = ()> + 'static>(
    test: impl Fn(Shard, SocketAddr, Arc<Seen>) -> T + Copy + Send + Sync + 'static,
) {
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        let backend = Backend::start();
        let (address, seen) = (backend.address, backend.seen.clone());
        let main = move |shard: Shard| test(shard, address, seen.clone());
        Engine::builder().shards(1).oversubscribed().driver(driver).run(main).unwrap();
    }
}

fn hook_of(outbound: &Rc<Outbound>, settings: Settings) -> Hook {
    Hook::new(outbound, settings).unwrap()
}

async fn asked(hook: &Hook) -> Result<Vec<u8>, HookError> {
    hook.call(b"{}".to_vec(), &Headers::NONE).await
}

#[test]
fn an_answer_comes_back_and_fields_go_along() {
    on_each_driver(|shard, address, seen| async move {
        let mut settings = settings(address, "/centrifugo/connect?a=b");
        settings.http_headers = ["Cookie", "X-Real-Ip", "Connection", "x-both"].map(str::to_owned).to_vec();
        settings.emulated_headers = ["Authorization", "x-both", "x-evil"].map(str::to_owned).to_vec();
        settings.static_headers = [("X-Fixed", "1"), ("Authorization", "fixed"), ("Cookie", "fixed"), ("Host", "evil")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let hook = hook_of(&outbound(&shard), settings);
        let (mut sent, mut emulated) = (FieldList::new(), FieldList::new());
        for (name, value) in
            [("cookie", "a=1"), ("cookie", "b=2"), ("connection", "upgrade"), ("x-both", "sent"), ("x-other", "no")]
        {
            sent.push(name, value.as_bytes());
        }
        let evil = "a\r\nx-injected: 1";
        for (name, value) in
            [("authorization", "Bearer t"), ("x-both", "emulated"), ("x-evil", evil), ("x-real-ip", "1.2.3.4")]
        {
            emulated.push(name, value.as_bytes());
        }
        let headers = Headers { sent: &sent, emulated: &emulated };
        for _ in 0..3 {
            assert_eq!(hook.call(b"{\"client\":\"c\"}".to_vec(), &headers).await.unwrap(), WELL.as_bytes());
        }
        let expected = format!(
            "POST /centrifugo/connect?a=b HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nx-fixed: 1\r\n\
             authorization: Bearer t\r\ncookie: a=1\r\ncookie: b=2\r\nx-both: sent\r\nuser-agent: annulus/{}\r\ncontent-length: 14\r\n\r\n{{\"client\":\"c\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(seen.last(), expected);
        assert_eq!((seen.requests(), seen.connections.load(Ordering::Relaxed)), (3, 1));
        assert_eq!((hook.meters.ended("answered"), hook.meters.latency.snapshot().count()), (3, 3));
        assert_eq!((hook.meters.in_flight.get(), hook.meters.waiting.get()), (0, 0));
    });
}

#[test]
fn what_goes_wrong_has_a_name() {
    on_each_driver(|shard, address, _| async move {
        let outbound = outbound(&shard);
        for (path, outcome, says) in [
            ("/201", "status", "it answered with status 201"),
            ("/302", "status", "it answered with status 302"),
            ("/500", "status", "it answered with status 500"),
            ("/403", "status", "it answered with status 403"),
            ("/garbage", "failed", "the upstream broke the protocol"),
            ("/closes", "failed", "closed before the answer (request)"),
            ("/cut", "failed", "(body)"),
            ("/large", "too_large", "more than 1048576 bytes"),
            ("/endless", "too_large", "more than 1048576 bytes"),
            ("/slow", "late", "too long"),
        ] {
            let timeout = if path == "/slow" { SLOW / 4 } else { Duration::from_secs(5) };
            let settings = Settings { timeout, ..settings(address, path) };
            let hook = hook_of(&outbound, settings);
            let began = Instant::now();
            let error = asked(&hook).await.unwrap_err();
            assert!(error.to_string().contains(says), "{path}: {error}");
            assert!(path != "/slow" || began.elapsed() < SLOW, "{path} took {:?}", began.elapsed());
            assert_eq!(hook.meters.ended(outcome), 1, "{path}");
            assert_eq!(hook.gate.taken(), 0, "{path}");
            let verdict: Verdict<'_, ()> = error.verdict(Kind::Publish);
            assert_eq!(verdict, Verdict::Error(ErrorCode::INTERNAL.into()));
        }
        // A port on which nobody listens.
        let nobody = Settings::new(Kind::Rpc, "nobody", Endpoint::read("http://127.0.0.1:1").unwrap());
        let error = asked(&hook_of(&outbound, nobody)).await.unwrap_err();
        assert!(matches!(&error, HookError::Failed(failure) if failure.phase == Phase::Connect), "{error}");
        for path in ["/html", "/empty"] {
            let hook = hook_of(&outbound, settings(address, path));
            let answer = asked(&hook).await.unwrap();
            hook.on_unfit(&wire::read_connect(&answer).unwrap_err());
            assert_eq!((hook.meters.unfit.get(), hook.meters.ended("answered")), (1, 1));
        }
    });
}

#[test]
fn calls_under_way_and_calls_that_wait_are_limited() {
    on_each_driver(|shard, address, seen| async move {
        let settings = Settings { concurrency_max: 2, queue_max: 3, ..settings(address, "/hold") };
        let hook = Rc::new(hook_of(&outbound(&shard), settings));
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let hook = hook.clone();
                shard.spawn(async move { asked(&hook).await })
            })
            .collect();
        shard.sleep(HOLD / 4).await;
        assert_eq!((hook.meters.in_flight.get(), hook.meters.waiting.get()), (2, 3));
        let (mut answered, mut busy) = (0, 0);
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => answered += 1,
                Err(HookError::Busy) => busy += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((answered, busy, seen.requests()), (5, 3, 5));
        assert_eq!(seen.held_most.load(Ordering::Relaxed), 2);
        assert_eq!((hook.meters.ended("answered"), hook.meters.ended("busy")), (5, 3));
        let refused = ErrorCode::TOO_MANY_REQUESTS.into();
        assert_eq!(HookError::Busy.verdict::<()>(Kind::Rpc), Verdict::Error(refused));
        assert_eq!(HookError::Busy.verdict::<()>(Kind::Connect), Verdict::Error(ErrorCode::INTERNAL.into()));
    });
}

#[test]
fn the_time_is_of_the_queue_too_and_who_leaves_makes_room() {
    on_each_driver(|shard, address, seen| async move {
        let settings = Settings { concurrency_max: 1, timeout: SLOW / 3, ..settings(address, "/slow") };
        let hook = Rc::new(hook_of(&outbound(&shard), settings));
        let first = {
            let hook = hook.clone();
            shard.spawn(async move { asked(&hook).await })
        };
        shard.yield_now().await;
        // It is given up while it waits.
        assert!(shard.timeout(SLOW / 30, asked(&hook)).await.is_err());
        assert_eq!((hook.meters.ended("abandoned"), hook.meters.waiting.get()), (1, 0));
        shard.sleep(SLOW / 6).await;
        let second = {
            let hook = hook.clone();
            shard.spawn(async move { asked(&hook).await })
        };
        assert_eq!(first.await.unwrap(), Err(HookError::Late));
        assert_eq!(second.await.unwrap(), Err(HookError::Late), "it was let in when the first had ended");
        assert_eq!((seen.requests(), hook.gate.taken(), hook.gate.waiting()), (2, 0, 0));
        // It is given up while it is under way.
        assert!(shard.timeout(SLOW / 30, asked(&hook)).await.is_err());
        assert_eq!((hook.meters.ended("abandoned"), hook.gate.taken()), (2, 0));
    });
}

#[test]
fn a_backend_that_fails_is_left_alone_for_a_while() {
    on_each_driver(|shard, address, seen| async move {
        let rest = Duration::from_millis(300);
        let settings = Settings { failures_max: 2, rest, ..settings(address, "/ill") };
        let hook = hook_of(&outbound(&shard), settings);
        seen.is_ill.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(asked(&hook).await, Err(HookError::Status(503)));
        }
        for _ in 0..5 {
            assert_eq!(asked(&hook).await, Err(HookError::Resting));
        }
        assert_eq!((seen.requests(), hook.meters.ended("resting")), (3, 5));
        shard.sleep(rest * 4 / 3).await;
        assert_eq!(asked(&hook).await, Err(HookError::Status(503)), "one call tries");
        assert_eq!(asked(&hook).await, Err(HookError::Resting));
        seen.is_ill.store(false, Ordering::Relaxed);
        shard.sleep(rest * 4 / 3).await;
        for _ in 0..5 {
            assert!(asked(&hook).await.is_ok());
        }
        assert_eq!(seen.requests(), 9);
    });
}

#[test]
fn refusals_are_no_failures() {
    on_each_driver(|shard, address, seen| async move {
        let hook = hook_of(&outbound(&shard), Settings { failures_max: 0, ..settings(address, "/403") });
        for _ in 0..5 {
            assert_eq!(asked(&hook).await, Err(HookError::Status(403)));
        }
        assert_eq!((seen.requests(), seen.connections.load(Ordering::Relaxed)), (5, 1));
    });
}

#[test]
fn a_connection_that_broke_is_replaced_where_that_does_no_harm() {
    on_each_driver(|shard, address, seen| async move {
        let outbound = outbound(&shard);
        let hook = hook_of(&outbound, Settings { kind: Kind::Connect, ..settings(address, "/once") });
        assert!(asked(&hook).await.is_ok());
        assert!(asked(&hook).await.is_ok());
        assert_eq!((seen.requests(), seen.connections.load(Ordering::Relaxed)), (3, 2));
        let hook = hook_of(&outbound, settings(address, "/once"));
        let outcomes = [asked(&hook).await, asked(&hook).await];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
        assert_eq!(seen.requests(), 5);
    });
}

#[test]
fn documents_are_fetched() {
    on_each_driver(|shard, address, seen| async move {
        let outbound = outbound(&shard);
        let url = |path: &str| format!("http://{address}{path}");
        let second = Duration::from_secs(1);
        assert_eq!(
            crate::outbound::get(&outbound, &url("/jwks.json?a=b"), WELL.len(), second).await.unwrap(),
            WELL.as_bytes()
        );
        assert!(seen.last().starts_with("GET /jwks.json?a=b HTTP/1.1\r\n"), "{}", seen.last());
        for (url, bytes_max, timeout, says) in [
            (
                url("/jwks.json?secret=1"),
                WELL.len() - 1,
                second,
                "/jwks.json: the answer is larger than 23 bytes (body)",
            ),
            (url("/large"), 1 << 20, second, "larger than 1048576 bytes"),
            (url("/403"), 100, second, "/403 answered with status 403"),
            (url("/302"), 100, second, "status 302"),
            (url("/slow"), 100, SLOW / 4, "no answer within 150ms (request)"),
            (url("/closes"), 100, second, "closed before the answer"),
            ("keys.json".to_owned(), 100, second, "no scheme"),
        ] {
            let error = crate::outbound::get(&outbound, &url, bytes_max, timeout).await.unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    });
}

#[test]
fn what_could_not_go_along_is_refused_at_the_start() {
    on_each_driver(|shard, address, _| async move {
        let outbound = outbound(&shard);
        let fixed = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (http_headers, static_headers, says) in [
            (vec!["a b".to_owned()], vec![], "\"a b\" is no name"),
            (vec![String::new()], vec![], "\"\" is no name"),
            (vec![], fixed("x:y", ""), "\"x:y\" is no name"),
            (vec![], fixed("X-Key", "a\r\nx-injected: 1"), "x-key has control characters"),
        ] {
            let settings = Settings { http_headers, static_headers, ..settings(address, "/") };
            let error = Hook::new(&outbound, settings).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
    });
}
