//! The opening handshake between our own ends, with every refusal.

mod support;

use annulus_protocols::Input;
use annulus_protocols::http1::{Client, ClientEvent, Event, Limits, RequestHead, ResponseHead, Server};
use annulus_protocols::websocket::handshake::{Refusal, Rejection, Upgrade, check_accept, write_accept, write_request};

const NONCE: [u8; 16] = *b"the sample nonce";

fn request(wire: &[u8]) -> RequestHead<'static> {
    let mut wire = wire.to_vec();
    let mut input = Input::new(&mut wire);
    match Server::new().next_event(&Limits::DEFAULT, 0, &mut input) {
        Ok(Event::Head(head)) => head.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn response(wire: &[u8]) -> ResponseHead<'static> {
    let mut wire = wire.to_vec();
    let (mut client, mut input) = (Client::new(), Input::new(&mut wire));
    assert!(client.on_request("GET"));
    match client.next_event(&Limits::DEFAULT, 0, &mut input) {
        Ok(ClientEvent::Head(head)) => head.into_owned(),
        other => panic!("{other:?}"),
    }
}

/// The request of RFC 6455 section 1.3 with one line replaced or removed.
fn sample(line: &str, by: &str) -> String {
    let good = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert!(good.contains(line));
    good.replace(line, by)
}

#[test]
fn the_example_of_the_rfc() {
    let head = request(sample("", "").as_bytes());
    let upgrade = Upgrade::check(&head).expect("a good request");
    assert_eq!(upgrade.origin(), Some(&b"http://example.com"[..]));
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    let mut answer = Vec::new();
    write_accept(&mut answer, &upgrade, Some("chat"));
    let answer = String::from_utf8(answer).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    assert!(answer.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(answer.contains("\r\nsec-websocket-protocol: chat\r\n") && answer.ends_with("\r\n\r\n"));
}

#[test]
fn spellings_that_are_in_use() {
    for (line, by) in [
        ("Upgrade: websocket", "Upgrade: WebSocket"),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Origin: http://example.com\r\n", ""),
        ("25jZQ==", "25jZR=="),
    ] {
        assert!(Upgrade::check(&request(sample(line, by).as_bytes())).is_ok(), "{by:?}");
    }
}

#[test]
fn an_empty_offer_of_subprotocols_is_none() {
    for by in ["Sec-WebSocket-Protocol:\r\n", "Sec-WebSocket-Protocol: \r\n", "Sec-WebSocket-Protocol: ,\r\n", ""] {
        let head = request(sample("Sec-WebSocket-Protocol: chat, superchat\r\n", by).as_bytes());
        let upgrade = Upgrade::check(&head).expect("accepted");
        assert_eq!(upgrade.protocols().count(), 0);
    }
}

#[test]
fn every_refusal_has_its_status() {
    for (line, by, refusal, status) in [
        ("GET /chat", "POST /chat", Refusal::Method, 405),
        ("Upgrade: websocket\r\n", "", Refusal::NotAnUpgrade, 426),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", Refusal::NotAnUpgrade, 426),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n", Refusal::NotAnUpgrade, 426),
        ("HTTP/1.1", "HTTP/1.0", Refusal::Http, 400),
        ("Origin:", "Content-Length: 3\r\nOrigin:", Refusal::Http, 400),
        ("Version: 13", "Version: 8", Refusal::Version, 400),
        ("Version: 13", "Version: 013", Refusal::Version, 400),
        ("Sec-WebSocket-Version: 13\r\n", "", Refusal::Version, 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Refusal::Key, 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "", Refusal::Key, 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", Refusal::Key, 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j*Q==", Refusal::Key, 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: a", Refusal::Key, 400),
        ("Origin: http://example.com", "Origin: a\r\nOrigin: b", Refusal::Origin, 400),
    ] {
        let head = request(sample(line, by).as_bytes());
        let refused = Upgrade::check(&head).expect_err(by);
        assert_eq!((refused, refused.status()), (refusal, status), "{by:?}");
        assert!(refused.fields().contains(&("sec-websocket-version", "13")));
    }
}

#[test]
fn our_client_and_our_server_agree() {
    let mut wire = Vec::new();
    let protocols = ["centrifuge-json", "centrifuge-protobuf"];
    write_request(&mut wire, "/connection/websocket?a=b", "h:8000", NONCE, &protocols, &[("origin", "http://h")]);
    let head = request(&wire);
    let upgrade = Upgrade::check(&head).expect("our own request");
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), protocols);
    for chosen in [None, Some("centrifuge-json")] {
        let mut answer = Vec::new();
        write_accept(&mut answer, &upgrade, chosen);
        assert_eq!(check_accept(&response(&answer), NONCE, &protocols), Ok(chosen));
        assert_eq!(check_accept(&response(&answer), *b"another 16 bytes", &protocols), Err(Rejection::AcceptKey));
    }
    let mut answer = Vec::new();
    write_accept(&mut answer, &upgrade, Some("other"));
    assert_eq!(check_accept(&response(&answer), NONCE, &protocols), Err(Rejection::Protocol));
}

#[test]
fn answers_that_do_not_open() {
    let head = {
        let mut wire = Vec::new();
        write_request(&mut wire, "/", "h", NONCE, &[], &[]);
        request(&wire)
    };
    let mut good = Vec::new();
    write_accept(&mut good, &Upgrade::check(&head).expect("our own request"), None);
    let good = String::from_utf8(good).expect("ASCII");
    let verdict = |from: &str, to: &str| check_accept(&response(good.replace(from, to).as_bytes()), NONCE, &[]);
    assert_eq!(verdict("", ""), Ok(None));
    assert_eq!(verdict("101 Switching Protocols", "403 Forbidden"), Err(Rejection::Status(403)));
    assert_eq!(verdict("upgrade: websocket\r\n", ""), Err(Rejection::NotAnUpgrade));
    assert_eq!(verdict("connection: Upgrade\r\n", ""), Err(Rejection::NotAnUpgrade));
    assert_eq!(verdict("sec-websocket-accept", "x"), Err(Rejection::AcceptKey));
    let extension = "sec-websocket-extensions: permessage-deflate\r\nupgrade";
    assert_eq!(verdict("upgrade", extension), Err(Rejection::Extension));
}
