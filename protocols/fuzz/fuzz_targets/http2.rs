//! Any bytes into both ends of an HTTP/2 connection, whole and in pieces: no panic, the same verdict, and windows that
//! add up.
#![no_main]

use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, Event, Limits, RequestLine};
use libfuzzer_sys::fuzz_target;

fn machine(server: bool, limits: &Limits) -> Connection {
    if server {
        return Connection::server(limits);
    }
    let mut machine = Connection::client(limits);
    for method in ["GET", "HEAD", "POST"] {
        let line = RequestLine { method, scheme: "http", authority: "a", path: "/" };
        machine.open(&mut Vec::new(), &line, [], method != "POST").expect("there is room");
    }
    machine
}

/// What came of the bytes: a line per event, and the fault.
fn run(server: bool, limits: &Limits, bytes: &[u8], piece: usize) -> (Vec<String>, usize) {
    let mut machine = machine(server, limits);
    let (mut seen, mut body) = (Vec::new(), 0);
    let mut held = 0u64;
    'all: for part in bytes.to_vec().chunks_mut(piece.max(1)) {
        let mut input = Input::new(part);
        loop {
            match machine.next_event(limits, 0, &mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Data { bytes, end, .. }) => {
                    body += bytes.len();
                    held += bytes.len() as u64;
                    if end {
                        seen.push("end".to_owned());
                    }
                }
                Ok(event) => seen.push(format!("{event:?}")),
                Err(fault) => {
                    seen.push(fault.to_string());
                    break 'all;
                }
            }
        }
        let (may_send, credit, window) = machine.connection_account();
        if !machine.is_closed() {
            // What is announced of a frame under way is not handed out yet.
            assert!(may_send + i64::from(credit) + held as i64 <= i64::from(window));
        }
        machine.write_pending(&mut Vec::new());
    }
    (seen, body)
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (server, piece, bytes) = input;
    let limits = Limits::DEFAULT;
    let mut wire = if server { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec() } else { b"\0\0\0\x04\0\0\0\0\0".to_vec() };
    wire.extend_from_slice(bytes);
    let whole = run(server, &limits, &wire, wire.len());
    assert_eq!(run(server, &limits, &wire, 1), whole);
    assert_eq!(run(server, &limits, &wire, usize::from(piece)), whole);
});
