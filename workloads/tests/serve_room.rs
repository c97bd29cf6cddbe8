//! The HTTP room alone, with a service of the test's: bodies pulled and not pulled, answers in pieces, time-outs, and the
//! end. On io_uring and on epoll.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "../examples/http_hello.rs"]
mod http_hello;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use annulus::serve::door::Door;
use annulus::serve::reply::Local;
use annulus::serve::{Body, Pieces, Reply, ReplyBody, Request, Service, Settings};
use annulus_engine::trace::Kind;
use annulus_engine::{Address, DriverChoice, Engine, ListenOptions, Shard};

struct Trial;

/// `count` pieces of `len` bytes, then the end, or a break.
struct Letters {
    count: usize,
    len: usize,
    breaks: bool,
}

impl Pieces for Letters {
    fn next(&mut self) -> Local<'_, std::io::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            if self.count == 0 {
                return if self.breaks { Err(std::io::Error::other("broken")) } else { Ok(None) };
            }
            self.count -= 1;
            Ok(Some(vec![b'a' + (self.count % 26) as u8; self.len]))
        })
    }
}

fn streamed(len: Option<u64>, letters: Letters) -> Reply {
    Reply { status: 200, fields: Vec::new(), body: ReplyBody::Streamed { len, pieces: Box::new(letters) } }
}

impl Service for Trial {
    const TRACED: &'static Kind = &Kind { name: "trial", about: "A request of this test.", away: "the test" };

    async fn answer(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        match request.path() {
            "/count" => {
                let mut count = 0;
                loop {
                    match body.next().await {
                        Ok(Some(piece)) => count += piece.len(),
                        Ok(None) => return Reply::bytes(200, "text/plain", count.to_string().into_bytes()),
                        Err(broken) => return annulus::serve::Problem::from(broken).into(),
                    }
                }
            }
            "/chunked" => streamed(None, Letters { count: 3, len: 5, breaks: false }),
            "/sized" => streamed(Some(2_000_000), Letters { count: 20, len: 100_000, breaks: false }),
            "/short" => streamed(Some(100), Letters { count: 1, len: 50, breaks: false }),
            "/long" => streamed(Some(10), Letters { count: 1, len: 50, breaks: false }),
            "/broken" => streamed(None, Letters { count: 2, len: 5, breaks: true }),
            "/endless" => streamed(None, Letters { count: usize::MAX, len: 60_000, breaks: false }),
            "/empty" => Reply::empty(204),
            _ => Reply::fixed("text/plain", "hello"),
        }
    }

    fn on_refused(&self, status: u16) {
        assert!((400..600).contains(&status));
    }
}

/// Receive buffers: so few that who keeps one is missed.
const BUFFERS: usize = 16;

/// Runs `client` against the service, on each kind of driver that is there, and sees that it stops in time.
fn on_each_driver(settings: Settings, client: impl Fn(SocketAddr)) {
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        let (tell, told) = mpsc::channel();
        let settings = settings.clone();
        let main = move |shard: Shard| {
            let (tell, settings) = (tell.clone(), settings.clone());
            async move {
                let listen = ([127, 0, 0, 1], 0).into();
                let door = Door::open(&shard, listen, settings, None, Rc::new(Trial)).unwrap();
                tell.send(door.address()).unwrap();
                door.serve().await
            }
        };
        let running = Engine::builder().shards(1).oversubscribed().driver(driver).buffers(BUFFERS).start(main).unwrap();
        let address = told.recv().unwrap().parse().unwrap();
        client(address);
        let began = Instant::now();
        running.engine().drain();
        assert_eq!(running.wait().unwrap(), [0], "connections were cut off");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends these bytes and reads to the connection's end.
fn says(address: SocketAddr, wire: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(wire).unwrap();
    let mut text = Vec::new();
    let _reset_at_the_end = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn bodies_are_pulled_however_they_come() {
    on_each_driver(Settings::DEFAULT, |address| {
        let whole = "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(body_of(&says(address, whole.as_bytes())), "5");
        let chunked = "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let mut stream = connect(address);
        for byte in chunked.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(body_of(&text), "5");
        // More than any buffer holds.
        let mut stream = connect(address);
        stream
            .write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n")
            .unwrap();
        (0..9).for_each(|_| stream.write_all(&[b'x'; 100_000]).unwrap());
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(body_of(&text), "900000");
        // Asked for, and only once.
        let mut stream = connect(address);
        stream.write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n").unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"ab").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && body_of(&text) == "2", "{text}");
    });
}

#[test]
fn a_body_that_nobody_pulls_never_becomes_a_request() {
    on_each_driver(Settings::DEFAULT, |address| {
        // All of it is here: the connection goes on.
        let small = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET".to_owned() + &get("/empty");
        let text = says(address, small.as_bytes());
        assert!(text.contains("200 OK") && text.contains("204 No Content"), "{text}");
        // Only a part is: it ends, and the client that goes on sending is not cut off before it has heard.
        let mut stream = connect(address);
        stream.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n").unwrap();
        (0..9).for_each(|_| stream.write_all(&[b'x'; 100_000]).unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("connection: close") && text.ends_with("hello"), "{text}");
        // One that waits to be asked is told at once.
        let expecting = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        let text = says(address, expecting.as_bytes());
        assert!(!text.contains("100 Continue") && text.contains("connection: close"), "{text}");
    });
}

#[test]
fn answers_in_pieces_say_where_they_end() {
    on_each_driver(Settings::DEFAULT, |address| {
        let text = says(address, get("/chunked").as_bytes());
        assert_eq!(body_of(&text), "5\r\nccccc\r\n5\r\nbbbbb\r\n5\r\naaaaa\r\n0\r\n\r\n");
        let old = says(address, b"GET /chunked HTTP/1.0\r\n\r\n");
        assert_eq!(body_of(&old), "cccccbbbbbaaaaa");
        let text = says(address, get("/sized").as_bytes());
        assert!(text.contains("content-length: 2000000") && body_of(&text).len() == 2_000_000);
        // What breaks off does not look complete, and what is too long does not become the next answer.
        assert_eq!(body_of(&says(address, get("/short").as_bytes())).len(), 50);
        assert_eq!(body_of(&says(address, get("/long").as_bytes())).len(), 10);
        assert!(!says(address, get("/broken").as_bytes()).ends_with("0\r\n\r\n"));
        let head = says(address, b"HEAD /sized HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(head.contains("content-length: 2000000") && body_of(&head).is_empty(), "{head}");
        let dated = says(address, get("/empty").as_bytes());
        assert!(
            dated.contains("\r\ndate: ") && dated.contains(" GMT\r\n") && !dated.contains("content-length"),
            "{dated}"
        );
    });
}

#[test]
fn who_leaves_or_takes_nothing_is_let_go() {
    let settings = Settings { take_pause_max: Duration::from_millis(300), ..Settings::DEFAULT };
    on_each_driver(settings, |address| {
        let mut stream = connect(address);
        stream.write_all(get("/endless").as_bytes()).unwrap();
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
        let mut stream = connect(address);
        stream.write_all(get("/endless").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(800));
        // It was cut off: what had been on its way is still read, and then the end.
        let mut text = Vec::new();
        let _reset = stream.read_to_end(&mut text);
        assert!(!text.is_empty() && !text.ends_with(b"0\r\n\r\n"));
    });
}

#[test]
fn who_waits_keeps_no_receive_buffer() {
    on_each_driver(Settings::DEFAULT, |address| {
        let answered = |stream: &mut TcpStream| {
            let mut answer = [0; 8192];
            let len = stream.read(&mut answer).unwrap();
            assert!(answer[..len].starts_with(b"HTTP/1.1 200 "));
        };
        // Some have had an answer and are idle, some have sent half of the next request, some wait with two that were sent early.
        let mut all: Vec<TcpStream> = (0..3 * BUFFERS).map(|_| connect(address)).collect();
        for (at, stream) in all.iter_mut().enumerate() {
            let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            match at % 3 {
                0 => stream.write_all(request.as_bytes()).unwrap(),
                1 => stream.write_all(format!("{request}GET / HT").as_bytes()).unwrap(),
                _ => {
                    let endless = request.replace("/ ", "/endless ");
                    stream.write_all(format!("{endless}{request}{request}").as_bytes()).unwrap();
                }
            }
            answered(stream);
        }
        assert!(says(address, get("/").as_bytes()).ends_with("hello"));
        let mut first = &all[0];
        first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        answered(&mut all[0]);
    });
}

#[test]
fn time_is_limited() {
    let mut settings = Settings::DEFAULT;
    settings.http.head_ms_max = 200;
    (settings.idle_max, settings.body_pause_max) = (Duration::from_millis(300), Duration::from_millis(200));
    on_each_driver(settings.clone(), |address| {
        assert_eq!(says(address, b""), "");
        assert!(says(address, b"GET / HT").contains("408 Request Timeout"));
        let part = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
        let text = says(address, part.as_bytes());
        assert!(text.contains("408 Request Timeout") && text.contains("too slowly"), "{text}");
        assert!(says(address, b"nonsense\r\n\r\n").contains("400 Bad Request"));
    });
    // Slow all along, without a pause that is too long.
    settings = Settings::DEFAULT;
    (settings.body_grace, settings.body_bytes_per_second_min) = (Duration::from_millis(300), 1000);
    on_each_driver(settings, |address| {
        let mut stream = connect(address);
        stream.write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) && stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut text = String::new();
        let _ended = stream.read_to_string(&mut text);
        assert!(text.contains("408 Request Timeout"), "{text}");
    });
}

#[test]
fn requests_under_way_are_answered_at_the_end() {
    let (tell, told) = mpsc::channel();
    on_each_driver(Settings::DEFAULT, |address| {
        let mut idle = connect(address);
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut some = [0; 64];
        assert!(idle.read(&mut some).unwrap() > 0);
        let mut busy = connect(address);
        busy.write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").unwrap();
        let tell = tell.clone();
        std::thread::spawn(move || {
            // An idle connection stays open while the service stops, which does not wait for it.
            let _idle = idle;
            std::thread::sleep(Duration::from_millis(300));
            busy.write_all(b"cd").unwrap();
            let mut text = String::new();
            busy.read_to_string(&mut text).unwrap();
            tell.send(text).unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
    });
    for _ in 0..2 {
        let text = told.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(text.contains("connection: close") && body_of(&text) == "4", "{text}");
    }
}

#[test]
fn the_example_of_the_same_parts_is_a_server() {
    let (tell, told) = mpsc::channel();
    let main = move |shard: Shard| {
        let listener = shard.listen(&Address::Ip(([127, 0, 0, 1], 0).into()), &ListenOptions::default()).unwrap();
        tell.send(listener.address().clone()).unwrap();
        http_hello::serve(shard, listener)
    };
    let running = Engine::builder().shards(1).oversubscribed().start(main).unwrap();
    let Address::Ip(address) = told.recv().unwrap() else { panic!("an IP address was asked for") };
    assert_eq!(body_of(&says(address, get("/").as_bytes())), "hello\n");
    assert!(says(address, get("/other").as_bytes()).starts_with("HTTP/1.1 404 "));
    // Three requests at once, the last with a body; then what is no HTTP.
    let many = "GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiSSH-2.0\r\n\r\n";
    let answers = says(address, many.as_bytes());
    assert_eq!((answers.matches("HTTP/1.1 200 ").count(), answers.matches("hello\n").count()), (3, 2), "{answers}");
    assert!(answers.contains("HTTP/1.1 400 ") && answers.ends_with("malformed start line\n"), "{answers}");
    running.engine().drain();
    running.wait().unwrap();
}
