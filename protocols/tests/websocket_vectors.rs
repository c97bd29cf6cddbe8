//! The examples of RFC 6455 section 5.7, as they stand there.

mod support;

use annulus_protocols::websocket::{Limits, MessageKind, Role, message_header, write_message, write_ping, write_pong};
use support::{Seen, feed_every_way};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn hello() -> Seen {
    Seen::Text("Hello".to_owned())
}

#[test]
fn single_frame_unmasked_text() {
    let wire = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &wire), [hello()]);
    let mut written = Vec::new();
    write_message(&mut written, MessageKind::Text, b"Hello", None);
    assert_eq!(written, wire);
    assert_eq!(message_header(MessageKind::Text, 5).as_bytes(), &wire[..2]);
}

#[test]
fn single_frame_masked_text() {
    let wire = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(feed_every_way(Role::Server, &Limits::DEFAULT, &wire), [hello()]);
    let mut written = Vec::new();
    write_message(&mut written, MessageKind::Text, b"Hello", Some(MASK));
    assert_eq!(written, wire);
}

#[test]
fn fragmented_unmasked_text() {
    let wire = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &wire), [hello()]);
}

#[test]
fn ping_and_masked_pong() {
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &ping), [Seen::Ping(b"Hello".to_vec())]);
    assert_eq!(feed_every_way(Role::Server, &Limits::DEFAULT, &pong), [Seen::Pong(b"Hello".to_vec())]);
    let mut written = Vec::new();
    write_ping(&mut written, b"Hello", None);
    assert_eq!(written, ping);
    written.clear();
    write_pong(&mut written, b"Hello", Some(MASK));
    assert_eq!(written, pong);
}

#[test]
fn medium_and_long_binary_headers() {
    let mut medium = vec![0x82, 0x7e, 0x01, 0x00];
    medium.extend_from_slice(&[7; 256]);
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &medium), [Seen::Binary(vec![7; 256])]);
    assert_eq!(message_header(MessageKind::Binary, 256).as_bytes(), &medium[..4]);
    let mut long = vec![0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
    long.extend_from_slice(&[9; 65_536]);
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &long), [Seen::Binary(vec![9; 65_536])]);
    assert_eq!(message_header(MessageKind::Binary, 65_536).as_bytes(), &long[..10]);
}
