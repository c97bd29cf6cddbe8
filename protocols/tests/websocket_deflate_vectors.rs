//! The examples of RFC 7692 section 7.2.3, as they stand there.

mod support;
mod websocket_deflate;

use annulus_protocols::websocket::{Fault, Limits, Role};
use support::Seen;
use websocket_deflate::{feed_every_way, fragments, frame};

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn hello() -> Seen {
    Seen::Text("Hello".to_owned())
}

/// What both roles make of a compressed text with this payload.
fn text(payload: &[u8]) -> Vec<Seen> {
    let seen = feed_every_way(Role::Client, &Limits::DEFAULT, &frame(Role::Client, 0xc1, payload));
    assert_eq!(seen, feed_every_way(Role::Server, &Limits::DEFAULT, &frame(Role::Server, 0xc1, payload)));
    seen
}

#[test]
fn one_compressed_block() {
    // Section 7.2.3.1, whole and in two fragments.
    let wire = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &wire), [hello()]);
    let wire = [0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &wire), [hello()]);
    assert_eq!(text(&HELLO), [hello()]);
}

#[test]
fn every_cut_into_three_fragments() {
    for first in 0..=HELLO.len() {
        for second in first..=HELLO.len() {
            let wire = fragments(Role::Server, 1, &HELLO, &[first, second]);
            assert_eq!(feed_every_way(Role::Server, &Limits::DEFAULT, &wire), [hello()]);
        }
    }
}

#[test]
fn the_window_of_an_earlier_message_is_gone() {
    // Section 7.2.3.2: twice the same is good; a reference into the first message needs a takeover that nobody agreed to.
    let twice = [frame(Role::Client, 0xc1, &HELLO), frame(Role::Client, 0xc1, &HELLO)].concat();
    assert_eq!(feed_every_way(Role::Client, &Limits::DEFAULT, &twice), [hello(), hello()]);
    let shared =
        [frame(Role::Client, 0xc1, &HELLO), frame(Role::Client, 0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    let seen = feed_every_way(Role::Client, &Limits::DEFAULT, &shared);
    assert_eq!(seen, [hello(), Seen::Fault(Fault::BrokenDeflate)]);
}

#[test]
fn a_stored_block() {
    // Section 7.2.3.3.
    assert_eq!(text(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]), [hello()]);
}

#[test]
fn a_final_block() {
    // Section 7.2.3.4.
    assert_eq!(text(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]), [hello()]);
    // What follows a final block may refer to what is before it (section 7.2.1): here, to the whole of it.
    let both = [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    assert_eq!(text(&both), [Seen::Text("HelloHello".to_owned())]);
}

#[test]
fn two_blocks() {
    // Section 7.2.3.5.
    let payload = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(text(&payload), [hello()]);
}

#[test]
fn an_empty_message() {
    // Section 7.2.3.6.
    assert_eq!(text(&[0x00]), [Seen::Text(String::new())]);
}

#[test]
fn plain_messages_stay_allowed() {
    let wire = [frame(Role::Server, 0x81, b"Hello"), frame(Role::Server, 0xc1, &HELLO), frame(Role::Server, 0x82, b"")];
    let seen = feed_every_way(Role::Server, &Limits::DEFAULT, &wire.concat());
    assert_eq!(seen, [hello(), hello(), Seen::Binary(Vec::new())]);
}
