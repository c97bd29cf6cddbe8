//! `annulus fetch` against servers that do wrong: the exit status is 1, standard output holds nothing that was not
//! received whole, and standard error says what the server did.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::Command;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What a server does after it has read a request.
enum Then {
    /// It ends the connection.
    Closes,
    /// It says nothing more.
    Waits,
}

/// Fetches, for so many seconds at most, from a server that answers the first bytes of every connection with `wire`. Exit
/// status, output, errors.
fn fetch(version: &str, seconds: &str, wire: Vec<u8>, then: Then) -> (Option<i32>, String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _asked = stream.read(&mut request);
            let _answered = stream.write_all(&wire);
            if matches!(then, Then::Closes) {
                let _ended = stream.shutdown(Shutdown::Write);
            }
            // Until the client has gone: an early end would take the answer from it.
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            while matches!(stream.read(&mut request), Ok(1..)) {}
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    command.arg("fetch").args(version.split(' ')).args(["--seconds", seconds, &url]);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn says(version: &str, wire: Vec<u8>, then: Then, what: &str) {
    says_within("20", version, wire, then, what);
}

fn says_within(seconds: &str, version: &str, wire: Vec<u8>, then: Then, what: &str) {
    let (status, out, error) = fetch(version, seconds, wire, then);
    assert_eq!(status, Some(1), "{what}: {error}");
    // Above it, the engine may have said that a busy machine let it wait.
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("annulus fetch: http://127.0.0.1:") && last.contains(what), "{what}: {error}");
    assert_eq!(out, "", "{what}");
}

#[test]
fn a_bad_status_is_an_answer_unless_it_was_to_be_a_failure() {
    for (words, status, expected) in [
        ("--http1", "503 Service Unavailable", 0),
        ("--http1 --fail", "503 Service Unavailable", 1),
        ("--http1 -f", "400 Bad Request", 1),
        ("--http1 --fail", "399 Odd", 0),
        ("--http1 --fail", "200 OK", 0),
    ] {
        let wire = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody").into_bytes();
        let (exit, out, error) = fetch(words, "20", wire, Then::Waits);
        assert_eq!((exit, &out[..]), (Some(expected), "body"), "{words} {status}: {error}");
        assert_eq!(error.contains("status "), expected == 1, "{words} {status}: {error}");
    }
}

#[test]
fn a_server_that_breaks_http2_is_told_on() {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let after = |wire: Vec<u8>| [settings(), wire].concat();
    // `:status: 200` is entry 8 of the static table; content-length is 28, written out.
    let ok = |flags| frame(HEADERS, END_HEADERS | flags, 1, &[0x88]);
    let promised = frame(HEADERS, END_HEADERS, 1, &[0x88, 0x0f, 0x0d, 0x01, b'9']);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "answers in HTTP/1 what was asked in HTTP/2 (PROTOCOL_ERROR)"),
        (frame(PING, 0, 0, &[0; 8]), "does not begin with its settings (PROTOCOL_ERROR)"),
        (after(frame(DATA, 0, 1, b"x")), "sent data before the answer's head"),
        (after(frame(HEADERS, END_HEADERS, 1, &[])), "has no status"),
        (after(frame(HEADERS, END_HEADERS, 1, &[0xff; 6])), "cannot be decoded (COMPRESSION_ERROR)"),
        (after(frame(HEADERS, END_HEADERS, 3, &[0x88])), "answered a stream that was never opened (PROTOCOL_ERROR)"),
        (after(frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8])), "pushes, which was switched off (PROTOCOL_ERROR)"),
        (after(frame(CONTINUATION, 0, 1, &[])), "continued no field block (PROTOCOL_ERROR)"),
        (after(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])), "made a window overflow (FLOW_CONTROL_ERROR)"),
        (after([ok(0), frame(DATA, 0, 0, b"x")].concat()), "sent data on a stream that does not exist"),
        (after([promised.clone(), frame(DATA, END_STREAM, 1, b"short")].concat()), "not as long as it said"),
        (after([promised, frame(DATA, 0, 1, b"longer than that")].concat()), "not as long as it said"),
        (after(frame(PING, 0, 0, &[0; 8]).repeat(2000)), "(ENHANCE_YOUR_CALM)"),
        (after(frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])), "reset the stream: INTERNAL_ERROR"),
    ];
    for (wire, what) in cases {
        says("--h2c", wire, Then::Waits, what);
    }
    let farewell = frame(GOAWAY, 0, 0, &[&[0, 0, 0, 1, 0, 0, 0, 2][..], b"out of order"].concat());
    says("--h2c", after([farewell, ok(0)].concat()), Then::Closes, "after a GOAWAY: INTERNAL_ERROR");
    says("--h2c", after([ok(0), frame(DATA, 0, 1, b"half")].concat()), Then::Closes, "closed the connection");
    says_within("1", "--h2c", after(ok(0)), Then::Waits, "no answer within 1s");
}

#[test]
fn a_server_that_breaks_http1_is_told_on() {
    for (wire, what) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "unsupported HTTP version"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "malformed or repeated Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "both Content-Length and Transfer-Encoding",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n", "malformed chunk"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "connection ended inside a message"),
    ] {
        says("--http1", wire.as_bytes().to_vec(), Then::Closes, what);
    }
}

#[test]
fn a_host_of_ones_own_replaces_the_urls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let len = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8(request[..len].to_vec()).unwrap().to_lowercase()
    });
    let arguments = ["fetch", "--http1", "-H", "Host: shop.example", "-H", "Accept: text/plain", &url];
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let request = server.join().unwrap();
    let hosts: Vec<&str> = request.lines().filter(|line| line.starts_with("host:")).collect();
    assert_eq!(hosts, ["host: shop.example"]);
    assert!(request.contains("accept: text/plain\r\n") && !request.contains("*/*"), "{request}");
}
