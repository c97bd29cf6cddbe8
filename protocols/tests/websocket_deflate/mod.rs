//! What the scenarios of compression share: an agreement, frames made by hand, and feeding in every split. No assertions
//! of its own but that all splits agree.
#![allow(dead_code, reason = "each scenario uses its part")]

use super::support::{Rng, Seen, feed};
use annulus_protocols::Input;
use annulus_protocols::http1::{Event, Limits as HttpLimits, RequestHead, Server};
use annulus_protocols::websocket::deflate::{Agreement, CompressOptions, Compressor, WINDOW_BITS_MIN};
use annulus_protocols::websocket::frame::FrameHeader;
use annulus_protocols::websocket::handshake::{Upgrade, write_request};
use annulus_protocols::websocket::{Limits, MessageKind, Role, WebSocket, apply_mask};

pub const MASK: [u8; 4] = [0x9d, 0x41, 0x02, 0xe7];

/// The head of a request that offers these extensions.
pub fn request(offer: &str) -> RequestHead<'static> {
    let mut wire = Vec::new();
    write_request(&mut wire, "/", "h", [7; 16], &[], &[("sec-websocket-extensions", offer)]);
    let mut input = Input::new(&mut wire);
    match Server::new().next_event(&HttpLimits::DEFAULT, 0, &mut input) {
        Ok(Event::Head(head)) => head.into_owned(),
        other => panic!("{other:?}"),
    }
}

pub fn agreement(offer: &str) -> Agreement {
    let head = request(offer);
    let upgrade = Upgrade::check(&head).expect("our own request");
    upgrade.deflate(WINDOW_BITS_MIN).expect("well written").expect("usable")
}

/// A machine that agreed on compression.
pub fn machine(role: Role) -> WebSocket {
    WebSocket::with_deflate(role, agreement("permessage-deflate"))
}

/// A compressor that also takes the shortest messages.
pub fn compressor(level: u8, window_bits: u8) -> Compressor {
    Compressor::new(CompressOptions { level, window_bits, bytes_min: 0 })
}

/// The compressed form of a payload that can be compressed.
pub fn packed(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    assert!(compressor(6, 15).write_message(&mut frame, MessageKind::Binary, payload, None), "it shrinks");
    let (_, len) = FrameHeader::parse(&frame, Role::Client, true).expect("a good frame").expect("a whole one");
    frame.split_off(len)
}

/// A frame with this first byte, masked as a client's when `role` is the server.
pub fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = (role == Role::Server).then_some(MASK);
    let opcode = annulus_protocols::websocket::frame::Opcode::from_bits(first & 0x0f).expect("a known opcode");
    let header = FrameHeader { fin: false, compressed: false, opcode, len: payload.len() as u64, mask };
    let mut wire = header.encode().as_bytes().to_vec();
    wire[0] = first;
    let at = wire.len();
    wire.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut wire[at..], mask);
    }
    wire
}

/// A compressed message in fragments that end at `cuts`.
pub fn fragments(role: Role, kind: u8, payload: &[u8], cuts: &[usize]) -> Vec<u8> {
    let ends = cuts.iter().copied().chain([payload.len()]);
    let (mut wire, mut begin) = (Vec::new(), 0);
    for (index, end) in ends.enumerate() {
        let opcode = if index == 0 { 0x40 | kind } else { 0 };
        let fin = if index == cuts.len() { 0x80 } else { 0 };
        wire.extend(frame(role, fin | opcode, &payload[begin..end]));
        begin = end;
    }
    wire
}

/// Feeds `wire` to a fresh machine whole, byte by byte, and in random splits; all must report the same. Returns it.
pub fn feed_every_way(role: Role, limits: &Limits, wire: &[u8]) -> Vec<Seen> {
    let fed = |pieces: Vec<Vec<u8>>| {
        let mut machine = machine(role);
        let seen = feed(&mut machine, limits, pieces);
        assert!(machine.is_partial() || machine.heap_bytes() == 0, "nothing is held between messages");
        seen
    };
    let whole = fed(vec![wire.to_vec()]);
    assert!(whole == fed(wire.iter().map(|byte| vec![*byte]).collect()), "byte by byte differs from {whole:?}");
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ wire.len() as u64);
    for piece_max in [2, 3, 7, 16, 64, 1000, 5000, 20_000] {
        assert!(whole == fed(rng.split(wire, piece_max)), "a split differs from {whole:?}");
    }
    whole
}
