//! Who closes first, who answers, and what is still looked at, with both machines joined in memory.

mod support;

use annulus_protocols::websocket::{CloseCode, Fault, Limits, MessageKind, Role, WebSocket, write_message, write_ping};
use support::{Seen, feed};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn receive(machine: &mut WebSocket, wire: Vec<u8>) -> Vec<Seen> {
    feed(machine, &Limits::DEFAULT, [wire])
}

#[test]
fn the_client_closes_and_the_server_answers() {
    let (mut client, mut server) = (WebSocket::new(Role::Client), WebSocket::new(Role::Server));
    let mut wire = Vec::new();
    assert!(client.write_close(&mut wire, Some(CloseCode::NORMAL), "done", MASK));
    assert!(!client.is_open() && !client.is_closed());
    assert_eq!(receive(&mut server, wire), [Seen::Close(Some(1000), "done".to_owned())]);
    assert!(!server.is_open() && !server.is_closed());
    let mut answer = Vec::new();
    assert!(server.write_close(&mut answer, Some(CloseCode::NORMAL), "", None));
    assert!(server.is_closed());
    assert_eq!(answer, b"\x88\x02\x03\xe8");
    assert_eq!(receive(&mut client, answer), [Seen::Close(Some(1000), String::new())]);
    assert!(client.is_closed());
}

#[test]
fn both_close_at_once() {
    let (mut client, mut server) = (WebSocket::new(Role::Client), WebSocket::new(Role::Server));
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.write_close(&mut to_server, Some(CloseCode::GOING_AWAY), "", MASK);
    server.write_close(&mut to_client, Some(CloseCode::SERVICE_RESTART), "", None);
    assert_eq!(receive(&mut server, to_server), [Seen::Close(Some(1001), String::new())]);
    assert_eq!(receive(&mut client, to_client), [Seen::Close(Some(1012), String::new())]);
    assert!(server.is_closed() && client.is_closed());
}

#[test]
fn a_second_close_writes_nothing() {
    let mut server = WebSocket::new(Role::Server);
    let mut out = Vec::new();
    assert!(server.write_close(&mut out, None, "left out without a code", None));
    assert!(!server.write_close(&mut out, Some(CloseCode::NORMAL), "", None));
    assert_eq!(out, [0x88, 0x00]);
}

#[test]
fn data_after_our_close_is_skipped_but_the_peers_close_is_seen() {
    // Whole frames, frames under way when we close, and a message of which a fragment was here.
    let mut data = Vec::new();
    write_message(&mut data, MessageKind::Text, &[b'x'; 3000], MASK);
    write_ping(&mut data, b"late", MASK);
    write_message(&mut data, MessageKind::Text, b"short \xff", MASK);
    let mut close = Vec::new();
    WebSocket::new(Role::Client).write_close(&mut close, Some(CloseCode::NORMAL), "", MASK);
    for before in [0, 1, 5, 8, 100, 3004] {
        let mut server = WebSocket::new(Role::Server);
        assert_eq!(receive(&mut server, data[..before].to_vec()), []);
        let mut out = Vec::new();
        assert!(server.write_close(&mut out, Some(CloseCode::POLICY), "enough", None));
        assert!(server.heap_bytes() < 1000, "the message is forgotten");
        let rest = [&data[before..], &close].concat();
        assert_eq!(receive(&mut server, rest), [Seen::Close(Some(1000), String::new())]);
        assert!(server.is_closed() && !server.is_partial());
    }
}

#[test]
fn a_fault_is_answered_once_and_ends_the_connection() {
    let mut server = WebSocket::new(Role::Server);
    assert_eq!(receive(&mut server, vec![0x83, 0x80]), [Seen::Fault(Fault::ReservedOpcode)]);
    assert!(!server.is_open() && !server.is_closed());
    let mut out = Vec::new();
    let fault = Fault::ReservedOpcode;
    assert!(server.write_close(&mut out, Some(fault.close_code()), fault.reason(), None));
    assert_eq!(&out[..4], [0x88, 17, 0x03, 0xea]);
    assert!(server.is_closed());
    assert!(!server.write_close(&mut out, Some(fault.close_code()), "", None));
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let reason = "ß".repeat(100);
    let mut out = Vec::new();
    WebSocket::new(Role::Server).write_close(&mut out, Some(CloseCode::NORMAL), &reason, None);
    assert_eq!(out[..2], [0x88, 124]);
    let seen = receive(&mut WebSocket::new(Role::Client), out);
    assert_eq!(seen, [Seen::Close(Some(1000), "ß".repeat(61))]);
}
