//! Clients that ask for much and take little: they are held to their share of the memory and ended in the end, and nobody
//! else notices. A client that is merely slow gets everything.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod gateway_frames;
mod gateway_rig;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gateway_frames::{DATA, END_HEADERS, GOAWAY, HEADERS, Peer, RST_STREAM};
use gateway_rig::{Gateway, Upstream, config};

const MB: usize = 1 << 20;
/// What the gateway may hold.
const BUDGET: usize = 48 * MB;
/// Hostile connections over HTTP/2: with a megabyte each, memory is short.
const HOSTILE: usize = 16;

/// Held by each test: what honest clients feel is not to be another test's doing.
static ALONE: Mutex<()> = Mutex::new(());

/// An upstream whose answers are as long as the path's last part says, in MB.
fn upstream() -> Upstream {
    Upstream::start(|head| {
        let target = head.split(' ').nth(1).unwrap();
        let bytes = match target.rsplit('/').next().unwrap() {
            "small" => 100,
            number => number.parse::<usize>().unwrap() * MB,
        };
        Upstream::json(&format!("{{\"a\":\"{}\"}}", "x".repeat(bytes)))
    })
}

fn gateway(upstream: &Upstream) -> Gateway {
    let endpoints = ["/small", "/1", "/2", "/6"].map(|path| {
        format!(
            r#"{{"endpoint": "{path}", "timeout": "20s", "backend": [{{"host": ["http://{}"], "url_pattern": "{path}"}}]}}"#,
            upstream.address
        )
    });
    let root = format!(
        r#", "use_h2c": true, "extra_config": {{"annulus": {{"compat": "annulus", "memory_bytes_max": {BUDGET}}}}}"#
    );
    Gateway::start(&config(&endpoints.join(","), &root))
}

fn asked(upstream: &Upstream, path: &str) -> usize {
    upstream.asked().iter().filter(|head| head.starts_with(&format!("GET {path} "))).count()
}

/// Honest requests for a while, each on its own connection; how many were not answered in full.
fn bother(gateway: &Gateway, duration: Duration) -> (usize, usize) {
    let (until, mut all, mut failed) = (Instant::now() + duration, 0, 0);
    while Instant::now() < until {
        for (path, bytes) in [("/small", 100), ("/1", MB)] {
            let answer = gateway.get(path);
            failed += usize::from(answer.status != 200 || answer.body.len() < bytes);
            all += 1;
        }
    }
    (all, failed)
}

/// Reads 32 KB eight times a second. What it got until the end.
fn read_slowly(address: SocketAddr, path: &'static str) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 32 << 10]);
        loop {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return bytes,
                Ok(len) => bytes.extend_from_slice(&piece[..len]),
            }
            std::thread::sleep(Duration::from_millis(125));
        }
    })
}

/// The same over HTTP/2, whose windows it opens by what it has taken.
fn take_slowly(address: SocketAddr, path: &'static str) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut peer = Peer::client(address, 65_535);
        peer.get(1, path);
        let mut bytes = Vec::new();
        while let Some(frame) = peer.next(Duration::from_secs(8)) {
            match frame.kind {
                DATA => {
                    bytes.extend_from_slice(&frame.payload);
                    if frame.ends() {
                        return bytes;
                    }
                    std::thread::sleep(Duration::from_secs_f64(frame.payload.len() as f64 / (256.0 * 1024.0)));
                    let granted = frame.payload.len() as u32;
                    if granted > 0 {
                        peer.grant(0, granted);
                        peer.grant(1, granted);
                    }
                }
                GOAWAY | RST_STREAM => return bytes,
                _ => {}
            }
        }
        bytes
    })
}

#[test]
fn streams_that_nobody_reads_take_their_connections_share_and_no_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let upstream = upstream();
    let gateway = gateway(&upstream);
    assert_eq!(gateway.get("/small").status, 200);
    let stop = Arc::new(AtomicBool::new(false));
    // Windows of one byte, opened by another byte now and then: each looks alive.
    let mut hostile: Vec<JoinHandle<Option<u32>>> = Vec::new();
    for _ in 0..HOSTILE {
        let (address, stopped) = (gateway.address, stop.clone());
        hostile.push(std::thread::spawn(move || {
            let mut peer = Peer::client(address, 1);
            (0..100).for_each(|number| assert!(peer.get(2 * number + 1, "/1")));
            let mut turn = 0;
            while !stopped.load(Ordering::Relaxed) {
                turn += 1;
                peer.grant(2 * (turn % 20) + 1, 1);
                if let Some(frame) = peer.next(Duration::from_millis(20))
                    && frame.kind == GOAWAY
                {
                    return Some(frame.code());
                }
            }
            None
        }));
    }
    std::thread::sleep(Duration::from_millis(500));
    let slow = [read_slowly(gateway.address, "/2"), take_slowly(gateway.address, "/2")];
    let (all, failed) = bother(&gateway, Duration::from_secs(3));
    assert_eq!(failed, 0, "of {all} honest requests");
    // Of 1,600 megabytes a part of the budget is here: as many requests were made, and most of them were not begun.
    let begun = asked(&upstream, "/1") - all / 2;
    assert!((HOSTILE..=BUDGET / MB).contains(&begun), "{begun} requests were begun");
    for (slow, spoken) in slow.into_iter().zip(["HTTP/1.1", "HTTP/2"]) {
        let bytes = slow.join().unwrap();
        let (len, start) = (bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(500)]));
        assert!(len > 2 * MB, "over {spoken} {len} bytes arrived: {start}");
    }
    // They are shown the door, one after the other, until memory is no longer short; the others have more patience to expect.
    let until = Instant::now() + Duration::from_secs(15);
    while hostile.iter().filter(|thread| thread.is_finished()).count() < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    let codes: Vec<u32> = hostile.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    assert!(codes.len() >= 2 && codes.iter().all(|code| *code == 11), "ENHANCE_YOUR_CALM: {codes:?}");
    assert!(gateway.logged("takes its answers too slowly"));
    gateway.stop();
}

#[test]
fn connections_that_take_a_byte_a_second_are_ended() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let upstream = upstream();
    let gateway = gateway(&upstream);
    // More than the budget, if all were let; kernels take some megabytes of each.
    let mut hostile: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).unwrap();
            stream.write_all(b"GET /6 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let slow = read_slowly(gateway.address, "/2");
    let (all, failed) = bother(&gateway, Duration::from_secs(3));
    assert_eq!(failed, 0, "of {all} honest requests");
    assert!(slow.join().unwrap().len() > 2 * MB);
    // A byte a second until memory is no longer short.
    let until = Instant::now() + Duration::from_secs(20);
    let mut first = [0; 12];
    let mut served = 0;
    for stream in &mut hostile {
        stream.read_exact(&mut first).unwrap();
        served += usize::from(first.ends_with(b"200"));
    }
    assert!(served > 0);
    // A quarter of the budget is what two of them take: from there on memory is not short, and patience is longer.
    let ended = || gateway.log.lock().unwrap().matches("too slowly").count();
    while Instant::now() < until && ended() < served - 2 {
        for stream in &mut hostile {
            // What was ended is what this waits for.
            let _may_be_over = stream.read(&mut [0; 1]);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(ended() >= served - 2 && ended() > 1, "{} of {served}", ended());
    drop(hostile);
    let (all, failed) = bother(&gateway, Duration::from_millis(500));
    assert_eq!(failed, 0, "of {all} honest requests afterwards");
    gateway.stop();
}

#[test]
fn a_request_that_arrives_too_slowly_is_answered_without_its_end() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let upstream = upstream();
    let endpoint = format!(
        r#"{{"endpoint": "/post", "method": "POST", "backend": [{{"host": ["http://{}"], "url_pattern": "/small", "method": "POST"}}]}}"#,
        upstream.address
    );
    let gateway = Gateway::start(&config(&endpoint, r#", "use_h2c": true, "read_timeout": "1s""#));
    let mut slow = Peer::client(gateway.address, 65_535);
    let block = b"\x83\x86\x04\x05/post\x01\x01a";
    assert!(slow.send(HEADERS, END_HEADERS, 1, block));
    let (began, mut answer) = (Instant::now(), None);
    while answer.is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "a body in small pieces is waited for");
        slow.send(DATA, 0, 1, b"a");
        let frame = slow.next(Duration::from_millis(200));
        answer = frame.filter(|frame| frame.stream == 1 && frame.kind == HEADERS);
    }
    // The status is a field of its own: 408 is in no table.
    let payload = answer.unwrap().payload;
    assert!(payload.windows(3).any(|part| part == b"408") || payload.starts_with(&[0x08]), "{payload:?}");
    assert_eq!(slow.wait_for(RST_STREAM).code(), 0, "what is still to come is not wanted");
    assert!(upstream.asked().is_empty());
    gateway.stop();
}
