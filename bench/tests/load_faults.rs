//! HTTP/1.1 servers that pause, break off, lie, are slow or fall silent: what the load says of each.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use annulus_bench::load::request::Asked;
use annulus_bench::load::run;
use annulus_bench::load::search::{Bound, Quiet};
use annulus_bench::load::tally::Expected;
use annulus_bench::load::{Task, round::Pace};
use common::{GOOD, Server, failed, free_port, head, load, open, settings, target};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The server does nothing for a fifth of each second. A client that counts from actual sending sees that once a second,
/// of 200 requests: not at its 99th percentile. Users see it a fifth of the time.
#[test]
fn a_pause_is_charged_to_all_that_should_have_been_sent_meanwhile() {
    let began = Instant::now();
    let server = Server::answering(move |_| {
        let into = began.elapsed().as_millis() % 1000;
        if into < 200 {
            std::thread::sleep(Duration::from_millis(200 - into as u64));
        }
        Some(GOOD.to_vec())
    });
    let record = load(&settings(open(200.0, 4.0), 1), &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, round.failures()), (799, 0));
    let (corrected, uncorrected) = (round.latency.value_at_quantile(0.99), round.uncorrected.value_at_quantile(0.99));
    assert!(corrected > 150_000_000, "users waited, but p99 is {corrected} ns");
    assert!(uncorrected < 100_000_000, "the uncorrected p99 shows the pause after all: {uncorrected} ns");
    // A pause is never the generator's lateness.
    assert!(round.lateness.value_at_quantile(0.5) < 50_000_000);
    assert_eq!(round.intervals.iter().map(|interval| interval.completed).sum::<u64>(), 799);
}

/// Half a second's requests at a server that always answers like this: the failures by reason, of 49 requests.
fn reasons(answer: &'static [u8]) -> Vec<(String, u64)> {
    let server = Server::answering(move |_| Some(answer.to_vec()));
    reasons_of(&server)
}

fn reasons_of(server: &Server) -> Vec<(String, u64)> {
    let mut settings = settings(open(100.0, 0.5), 4);
    settings.timeout = Duration::from_secs(3);
    let record = load(&settings, &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    assert_eq!(round.completed + round.failures(), 49, "every request has one verdict: {:?}", round.failed);
    failed(&record).into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn all(reason: &str) -> Vec<(String, u64)> {
    vec![(reason.to_owned(), 49)]
}

#[test]
fn answers_that_are_none_fail_by_their_reason() {
    assert_eq!(reasons(GOOD), []);
    assert_eq!(reasons(b"HTTP/1.1 302 There\r\nContent-Length: 0\r\n\r\n"), []);
    assert_eq!(reasons(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), all("status 5xx"));
    assert_eq!(reasons(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), all("status 4xx"));
    assert_eq!(reasons(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"), all("more bytes than announced"));
    assert_eq!(reasons(b"nonsense\r\n\r\n"), all("malformed head"));
    assert_eq!(reasons(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n"), all("malformed chunk"));
}

#[test]
fn connections_that_end_fail_by_how_they_do() {
    let cut = Server::start(|mut stream, _| {
        if head(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").unwrap();
        }
    });
    assert_eq!(reasons_of(&cut), all("closed in the middle of an answer"));
    let reset = Server::start(|mut stream, _| {
        if head(&mut stream).is_some() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    assert_eq!(reasons_of(&reset), all("reset"));
    // An end that is the framing is no failure, and each such answer costs a connection.
    let framed = Server::start(|mut stream, _| {
        if head(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
        }
    });
    assert_eq!(reasons_of(&framed), []);
    assert!(framed.accepted.load(Ordering::Relaxed) >= 49);
}

#[test]
fn silence_ends_with_patience() {
    let server = Server::start(|mut stream, _| while head(&mut stream).is_some() {});
    let mut settings = settings(open(100.0, 0.3), 2);
    settings.timeout = Duration::from_millis(600);
    let began = Instant::now();
    let record = load(&settings, &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, round.failures()), (0, 29));
    assert!(round.failed.keys().all(|reason| reason.starts_with("timeout")), "{:?}", round.failed);
    // A connection whose answer did not come is of no more use.
    assert!(round.opened > 2 && began.elapsed() < Duration::from_secs(10), "{}", round.opened);
}

/// What waits for a connection waits on the server's account, and is not the generator's lateness.
#[test]
fn a_slow_server_is_charged_for_the_queue_before_it() {
    let server = Server::answering(|_| {
        std::thread::sleep(Duration::from_millis(50));
        Some(GOOD.to_vec())
    });
    let record = load(&settings(open(40.0, 1.0), 1), &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    // Twenty a second are served of forty: the last waits for about a second.
    assert_eq!(round.completed, 39);
    assert!(round.latency.max() > 700_000_000, "{}", round.latency.max());
    assert!(round.uncorrected.value_at_quantile(0.5) < round.latency.value_at_quantile(0.5) / 2);
}

#[test]
fn a_connection_closed_while_a_request_is_under_way_is_tried_again_once() {
    // The connection answers twice, and closes instead of answering the third.
    let server = Server::answering(|number| (number < 2).then(|| GOOD.to_vec()));
    let record = load(&settings(open(100.0, 0.5), 1), &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, failed(&record)), (49, Vec::new()));
    assert!(record.notes.iter().any(|note| note.contains("sent again")), "{:?}", record.notes);
    // A POST must not come twice.
    let asked = Asked { body: Some(b"x".to_vec()), ..Asked::default() };
    let server = Server::start(|mut stream, _| {
        for _ in 0..2 {
            if head(&mut stream).is_none() {
                return;
            }
            std::io::Read::read_exact(&mut stream, &mut [0]).unwrap();
            stream.write_all(GOOD).unwrap();
        }
        head(&mut stream);
    });
    let record =
        run(&settings(open(100.0, 0.5), 2), &[target(&[&server.url("http", "/")], &asked)], &mut Quiet).unwrap();
    assert!(record.sides[0].rounds[0].failures() > 5, "{:?}", failed(&record));
}

#[test]
fn a_server_that_goes_away_leaves_failures_and_what_came_before() {
    let count = Arc::new(AtomicUsize::new(0));
    let (stopped, counted) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Arc::clone(&count));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, door) = (Arc::clone(&stopped), listener.try_clone().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = door.accept().unwrap();
        drop(door);
        while counted.fetch_add(1, Ordering::Relaxed) < 20 && head(&mut stream).is_some() {
            stream.write_all(GOOD).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(listener);
    let record = load(&settings(open(100.0, 0.6), 1), &format!("http://{address}/"));
    let round = &record.sides[0].rounds[0];
    assert!(stopped.load(Ordering::Relaxed));
    assert_eq!((round.completed, round.failures()), (20, 39), "{:?}", round.failed);
    assert!(round.failed["refused"] >= 30, "{:?}", round.failed);
}

#[test]
fn nobody_there_is_a_sentence() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let error = run(&settings(open(10.0, 0.1), 2), &[target(&[&url], &Asked::default())], &mut Quiet).unwrap_err();
    assert!(error.contains("nobody listens") && error.contains("127.0.0.1"), "{error}");
    let shut = Server::start(|stream, _| drop(stream));
    let url = shut.url("http", "/");
    let record = run(&settings(open(50.0, 0.2), 1), &[target(&[&url], &Asked::default())], &mut Quiet);
    // Whether the end is seen before the first request or behind it, nothing is completed.
    match record {
        Ok(record) => assert_eq!(record.sides[0].rounds[0].completed, 0),
        Err(error) => assert!(error.contains("closed"), "{error}"),
    }
}

#[test]
fn statuses_can_be_what_one_expects() {
    let server = Server::answering(|_| Some(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let mut settings = settings(open(100.0, 0.3), 2);
    settings.expected = Expected::Only(vec![404]);
    let record = load(&settings, &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.completed, round.failures(), round.statuses[&404]), (29, 0, 29));
}

/// Two connections of 10 ms each carry 200 a second at most.
#[test]
fn a_search_ends_below_what_the_server_can_carry() {
    let server = Server::answering(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Some(GOOD.to_vec())
    });
    let bound = Bound { percentile: 90.0, seconds: 0.1 };
    let mut settings = settings(open(20.0, 0.6), 2);
    settings.task = Task::Search(open(20.0, 0.6), bound);
    let record = load(&settings, &server.url("http", "/"));
    let tried: Vec<f64> =
        record.rows.iter().filter(|row| row.name.starts_with("search")).filter_map(|row| row.measured).collect();
    assert!(tried.len() > 3, "{:?}", record.rows);
    let rows = &record.rows;
    let found = rows.iter().find(|row| row.name.starts_with("highest rate")).unwrap();
    // On a busy machine none may hold; one that is beyond what can be carried never does.
    assert!(found.measured.is_none_or(|rate| rate < 260.0), "{found:?}");
}

#[test]
fn a_closed_loop_keeps_each_connection_busy() {
    let server = Server::answering(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Some(GOOD.to_vec())
    });
    let Pace::Open(course) = open(0.0, 0.5) else { return };
    let record = load(&settings(Pace::Closed(course), 5), &server.url("http", "/"));
    let round = &record.sides[0].rounds[0];
    // Five at a time, of 20 ms or more each.
    assert!((5..=130).contains(&round.completed), "{}", round.completed);
    assert_eq!((round.opened, round.offered_per_s, round.lateness.len()), (5, 0.0, 0));
}
