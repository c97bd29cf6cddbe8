//! Compression: any bytes as offers, as an answer, as what a peer sends, in any split: no panic, the same events whole and
//! split, text that is UTF-8, bounded memory, nothing held once nothing is partial. And what our compressor writes is
//! inflated to what it was given.
//!
//! Input: one byte of options, one byte that seeds the split, then an offer's length and the offer, then the wire.
#![no_main]

use annulus_protocols::Input;
use annulus_protocols::http1::{self, Client, ClientEvent, RequestHead, Server};
use annulus_protocols::websocket::deflate::{Agreement, CompressOptions, Compressor, OFFER, WINDOW_BITS_MIN};
use annulus_protocols::websocket::handshake::{
    Upgrade, accept_key, check_accept_deflate, write_accept_deflate, write_request,
};
use annulus_protocols::websocket::{Event, Limits, MessageKind, Role, WebSocket};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const LIMITS: Limits = Limits {
    message_bytes_max: 20_000,
    inflated_ratio_max: 20,
    inflated_bytes_free: 500,
    fragments_max: 64,
    fragments_free: 8,
    fragment_bytes_mean_min: 4,
    assembly_ms_max: 1000,
};
/// An inflater, what is gathered for it, and twice what the message may have.
const HEAP_BYTES_MAX: usize = 100_000;

/// What most inputs begin with is not worth their time.
static AGREEMENT: LazyLock<Agreement> = LazyLock::new(|| offered(OFFER.as_bytes()).expect("our own offer is usable"));

fuzz_target!(|data: &[u8]| {
    let [options, seed, offer_len, rest @ ..] = data else { return };
    let (offer, wire) = rest.split_at(usize::from(*offer_len).min(rest.len()));
    let agreement = offered(offer).unwrap_or(*AGREEMENT);
    assert!((9..=15).contains(&agreement.window_bits()));
    answered(offer);
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let whole = events(role, agreement, wire, usize::MAX, 0);
    assert_eq!(whole, events(role, agreement, wire, 1, 0));
    assert_eq!(whole, events(role, agreement, wire, 16, *seed));
    round_trip(*options, agreement, wire);
});

/// What a server makes of these offers, if the bytes are a field at all.
fn offered(offer: &[u8]) -> Option<Agreement> {
    let head = request(offer)?;
    let upgrade = Upgrade::check(&head).ok()?;
    let agreement = upgrade.deflate(WINDOW_BITS_MIN).ok()??;
    // Our own client takes every answer to an offer that names no window.
    let mut wire = Vec::new();
    write_accept_deflate(&mut wire, &upgrade, None, Some(agreement));
    let (protocol, _) = check(wire).expect("the answer is well written");
    assert_eq!(protocol, None);
    Some(agreement)
}

fn request(offer: &[u8]) -> Option<RequestHead<'static>> {
    let mut wire = Vec::new();
    write_request(&mut wire, "/", "h", [7; 16], &[], &[]);
    wire.truncate(wire.len() - 2);
    let is_field = offer.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..));
    if !is_field {
        return None;
    }
    wire.extend_from_slice(b"sec-websocket-extensions: ");
    wire.extend_from_slice(offer);
    wire.extend_from_slice(b"\r\n\r\n");
    match Server::new().next_event(&http1::Limits::DEFAULT, 0, &mut Input::new(&mut wire)) {
        Ok(http1::Event::Head(head)) => Some(head.into_owned()),
        _ => None,
    }
}

/// The same bytes as a server's answer.
fn answered(answer: &[u8]) {
    let mut wire = b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ".to_vec();
    wire.extend_from_slice(&accept_key(b"BwcHBwcHBwcHBwcHBwcHBw=="));
    wire.extend_from_slice(b"\r\nsec-websocket-extensions: ");
    wire.extend_from_slice(answer);
    wire.extend_from_slice(b"\r\n\r\n");
    if let Some((_, Some(agreement))) = check(wire) {
        assert_eq!(agreement.window_bits(), 15);
    }
}

fn check(mut wire: Vec<u8>) -> Option<(Option<&'static str>, Option<Agreement>)> {
    let mut client = Client::new();
    assert!(client.on_request("GET"));
    match client.next_event(&http1::Limits::DEFAULT, 0, &mut Input::new(&mut wire)) {
        Ok(ClientEvent::Head(head)) => check_accept_deflate(&head, [7; 16], &[]).ok(),
        _ => None,
    }
}

/// What the machine reports when it is fed pieces of 1 to `piece_max` bytes.
fn events(role: Role, agreement: Agreement, wire: &[u8], piece_max: usize, seed: u8) -> Vec<String> {
    let mut machine = WebSocket::with_deflate(role, agreement);
    let (mut seen, mut rest, mut state) = (Vec::new(), wire.to_vec(), usize::from(seed) | 1);
    let mut rest = rest.as_mut_slice();
    while !rest.is_empty() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let len = 1 + (state >> 33) % piece_max.min(rest.len());
        let len = if piece_max == usize::MAX { rest.len() } else { len };
        let (piece, tail) = rest.split_at_mut(len);
        drain(&mut machine, piece, &mut seen);
        assert!(machine.heap_bytes() < HEAP_BYTES_MAX);
        assert!(machine.is_partial() || machine.heap_bytes() == 0);
        rest = tail;
    }
    seen
}

fn drain(machine: &mut WebSocket, piece: &mut [u8], seen: &mut Vec<String>) {
    let mut input = Input::new(piece);
    loop {
        match machine.next_event(&LIMITS, 0, &mut input) {
            Ok(Event::NeedMore) => break assert!(input.is_empty()),
            Ok(Event::Message(message)) => {
                assert!(message.payload.len() as u64 <= LIMITS.message_bytes_max);
                if message.kind == MessageKind::Text {
                    assert!(std::str::from_utf8(&message.payload).is_ok());
                }
                seen.push(format!("{:?} {:?}", message.kind, &message.payload[..]));
            }
            Ok(Event::Ping(payload)) => seen.push(format!("ping {:?}", &payload[..])),
            Ok(Event::Pong(payload)) => seen.push(format!("pong {:?}", &payload[..])),
            Ok(Event::Close(close)) => seen.push(format!("{close:?}")),
            Err(fault) => seen.push(format!("{fault:?}")),
        }
    }
}

/// The same bytes as a message of ours.
fn round_trip(options: u8, agreement: Agreement, payload: &[u8]) {
    let level = options >> 1 & 0x0f;
    let options = CompressOptions { level, window_bits: agreement.window_bits(), bytes_min: 0 };
    let mut frame = Vec::new();
    let shrank = Compressor::new(options).write_message(&mut frame, MessageKind::Binary, payload, None);
    assert_eq!(frame[0], if shrank { 0xc2 } else { 0x82 });
    let mut machine = WebSocket::with_deflate(Role::Client, agreement);
    let limits = Limits { inflated_ratio_max: 2000, ..Limits::DEFAULT };
    match machine.next_event(&limits, 0, &mut Input::new(&mut frame)) {
        Ok(Event::Message(message)) => assert!(message.payload[..] == *payload),
        other => panic!("{other:?}"),
    }
}
