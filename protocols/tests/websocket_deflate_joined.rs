//! Client and server of our own with compression: the handshake between them with every outcome, then messages of many
//! sizes both ways, in several splits.

mod support;
mod websocket_deflate;

use annulus_protocols::Input;
use annulus_protocols::http1::{Client, ClientEvent, Limits as HttpLimits, ResponseHead};
use annulus_protocols::websocket::deflate::{Agreement, OFFER, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use annulus_protocols::websocket::handshake::{
    Refusal, Rejection, Upgrade, check_accept, check_accept_deflate, write_accept, write_accept_deflate,
};
use annulus_protocols::websocket::{Limits, MessageKind, Role, WebSocket};
use support::{Rng, Seen, feed};
use websocket_deflate::{compressor, request};

/// The nonce of `websocket_deflate::request`.
const NONCE: [u8; 16] = [7; 16];

fn response(mut wire: Vec<u8>) -> ResponseHead<'static> {
    let (mut client, mut input) = (Client::new(), Input::new(&mut wire));
    assert!(client.on_request("GET"));
    match client.next_event(&HttpLimits::DEFAULT, 0, &mut input) {
        Ok(ClientEvent::Head(head)) => head.into_owned(),
        other => panic!("{other:?}"),
    }
}

/// What a server that takes windows from `window_bits_min` up agrees to, and its answer.
fn answer(offer: &str, window_bits_min: u8) -> Result<(Option<Agreement>, Vec<u8>), Refusal> {
    let head = request(offer);
    let upgrade = Upgrade::check(&head).expect("our own request");
    let agreement = upgrade.deflate(window_bits_min)?;
    let mut wire = Vec::new();
    write_accept_deflate(&mut wire, &upgrade, None, agreement);
    Ok((agreement, wire))
}

#[test]
fn our_client_and_our_server_agree() {
    let (server, wire) = answer(OFFER, WINDOW_BITS_MAX).expect("well written");
    let head = response(wire);
    let (protocol, client) = check_accept_deflate(&head, NONCE, &[]).expect("a good answer");
    assert_eq!(protocol, None);
    assert_eq!(server.expect("agreed").window_bits(), 15);
    assert_eq!(client.expect("agreed").window_bits(), 15);
    // To who offered nothing, the same answer is a fault.
    assert_eq!(check_accept(&head, NONCE, &[]), Err(Rejection::Extension));
    assert_eq!(check_accept_deflate(&head, [8; 16], &[]), Err(Rejection::AcceptKey));
}

#[test]
fn a_declined_offer_opens_a_plain_connection() {
    for offer in ["", "permessage-bzip2", "permessage-deflate; server_max_window_bits=10"] {
        let (server, wire) = answer(offer, WINDOW_BITS_MAX).expect("well written");
        assert_eq!(server, None);
        let head = response(wire);
        assert_eq!(check_accept_deflate(&head, NONCE, &[]), Ok((None, None)));
        assert_eq!(check_accept(&head, NONCE, &[]), Ok(None));
    }
    // A server that does not ask.
    let head = request(OFFER);
    let mut wire = Vec::new();
    write_accept(&mut wire, &Upgrade::check(&head).expect("our own request"), None);
    assert!(!String::from_utf8_lossy(&wire).contains("extensions"));
}

#[test]
fn a_malformed_offer_is_refused() {
    let refusal = answer("permessage-deflate; =", WINDOW_BITS_MIN).expect_err("malformed");
    assert_eq!((refusal, refusal.status()), (Refusal::Extensions, 400));
}

#[test]
fn a_small_window_is_named_in_the_answer() {
    let (server, wire) = answer("permessage-deflate; server_max_window_bits=10", 10).expect("well written");
    assert_eq!(server.expect("agreed").window_bits(), 10);
    let text = String::from_utf8(wire).expect("ASCII");
    let field = "\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
        client_no_context_takeover; server_max_window_bits=10\r\n";
    assert!(text.contains(field), "{text}");
}

#[test]
fn messages_of_many_sizes_both_ways() {
    let agreement = answer(OFFER, WINDOW_BITS_MAX).expect("well written").0.expect("agreed");
    let mut rng = Rng(77);
    let (mut at_client, mut at_server) = (compressor(6, 15), compressor(4, 15));
    for len in [0, 1, 2, 100, 126, 300, 4095, 4096, 4097, 20_000, 65_536, 300_000, 2 << 20] {
        let word = ["tick", "price", "ä水🍣", "volume", "\n"];
        let mut text = String::new();
        while text.len() < len {
            text.push_str(word[rng.below(5)]);
        }
        for piece_max in [7, 1000, 1 << 22] {
            let mut server = WebSocket::with_deflate(Role::Server, agreement);
            let mut client = WebSocket::with_deflate(Role::Client, agreement);
            let mut to_server = Vec::new();
            let shrank = at_client.write_message(&mut to_server, MessageKind::Text, text.as_bytes(), Some(rng.mask()));
            assert!(shrank || len <= 126, "{len} bytes");
            let seen = feed(&mut server, &Limits::DEFAULT, rng.split(&to_server, piece_max));
            assert!(seen == [Seen::Text(text.clone())], "{len} bytes in pieces of {piece_max}");
            let mut to_client = Vec::new();
            at_server.write_message(&mut to_client, MessageKind::Binary, text.as_bytes(), None);
            let seen = feed(&mut client, &Limits::DEFAULT, rng.split(&to_client, piece_max));
            assert!(seen == [Seen::Binary(text.clone().into_bytes())], "{len} bytes in pieces of {piece_max}");
            assert_eq!((server.heap_bytes(), client.heap_bytes()), (0, 0));
        }
    }
}
