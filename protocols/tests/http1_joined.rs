//! Client and server joined in memory: what one writes the other reads, for every framing; and answers that no client may
//! accept.

mod support;

use annulus_protocols::Input;
use annulus_protocols::http1::{
    BodyLength, Client, Event, Exchange, Fault, Limits, RequestBody, Server, write_chunk, write_continue,
    write_request_head, write_response_head,
};
use support::http::{Heard, client_hears, every_way, listen, server_hears};

/// The exchange of a request, as a server sees it.
fn exchange(wire: &str) -> Exchange {
    let mut wire = wire.as_bytes().to_vec();
    let mut input = Input::new(&mut wire);
    match Server::new().next_event(&Limits::DEFAULT, 0, &mut input) {
        Ok(Event::Head(head)) => head.exchange(),
        other => panic!("{other:?}"),
    }
}

fn get() -> Exchange {
    exchange("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn response(status: u16, fields: &[(&str, &str)], persists: bool) -> Heard {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Heard::Response { status, fields, persists }
}

/// Writes an answer with a body in these parts, and returns it with whether it closes.
fn answer(exchange: Exchange, status: u16, length: BodyLength, parts: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut body = write_response_head(&mut out, &exchange, status, &[("x", "y")], length);
    for part in parts {
        body.write_data(&mut out, part);
    }
    let must_close = body.write_end(&mut out);
    (out, must_close)
}

#[test]
fn requests_in_every_framing() {
    let mut wire = Vec::new();
    write_request_head(&mut wire, "GET", "/a?b=c", "h:8", &[("accept", "*/*")], RequestBody::None);
    write_request_head(&mut wire, "PUT", "/d", "h:8", &[], RequestBody::Known(3));
    wire.extend_from_slice(b"abc");
    write_request_head(&mut wire, "POST", "/e", "h:8", &[], RequestBody::Chunked);
    write_chunk(&mut wire, &[b'z'; 300]);
    write_chunk(&mut wire, b"");
    let heard = server_hears(&wire);
    let bodies: Vec<_> = heard.iter().filter(|heard| matches!(heard, Heard::Body(_))).cloned().collect();
    assert_eq!(bodies, [Heard::Body(b"abc".to_vec()), Heard::Body(vec![b'z'; 300])]);
    assert_eq!(heard.iter().filter(|heard| **heard == Heard::End).count(), 3);
}

#[test]
fn answers_in_every_framing() {
    let (known, closes) = answer(get(), 200, BodyLength::Known(5), &[b"hel", b"lo"]);
    assert!(!closes);
    let (chunked, closes) = answer(get(), 200, BodyLength::Unknown, &[b"hel", b"", b"lo"]);
    assert!(!closes);
    let (nothing, closes) = answer(get(), 204, BodyLength::None, &[b"must not appear"]);
    assert!(!closes);
    let wire = [known, chunked, nothing].concat();
    let expected = [
        response(200, &[("x", "y"), ("content-length", "5")], true),
        Heard::Body(b"hello".to_vec()),
        Heard::End,
        response(200, &[("x", "y"), ("transfer-encoding", "chunked")], true),
        Heard::Body(b"hello".to_vec()),
        Heard::End,
        response(204, &[("x", "y")], true),
        Heard::End,
    ];
    assert_eq!(client_hears(&["GET", "GET", "GET"], &wire), expected);
}

#[test]
fn heads_without_bodies() {
    let head = exchange("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.is_head());
    let (wire, closes) = answer(head, 200, BodyLength::Known(5), &[b"hello"]);
    assert!(!closes && wire.ends_with(b"\r\n\r\n"));
    let expected = [response(200, &[("x", "y"), ("content-length", "5")], true), Heard::End];
    assert_eq!(client_hears(&["HEAD"], &wire), expected);
    let (wire, _) = answer(get(), 304, BodyLength::Known(5), &[b"hello"]);
    let expected = [response(304, &[("x", "y"), ("content-length", "5")], true), Heard::End];
    assert_eq!(client_hears(&["GET"], &wire), expected);
}

#[test]
fn an_old_client_is_closed_on_or_kept_by_request() {
    let (wire, closes) = answer(exchange("GET / HTTP/1.0\r\n\r\n"), 200, BodyLength::Unknown, &[b"all of it"]);
    assert!(closes);
    let expected = [response(200, &[("x", "y"), ("connection", "close")], false), Heard::Body(b"all of it".to_vec())];
    assert_eq!(client_hears(&["GET"], &wire), expected);

    // Ended by the connection, by choice.
    let (wire, closes) = answer(get(), 200, BodyLength::UntilClose, &[b"all ", b"of it"]);
    assert!(closes);
    assert_eq!(client_hears(&["GET"], &wire), expected);

    let kept = exchange("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (wire, closes) = answer(kept, 200, BodyLength::Known(2), &[b"ok"]);
    assert!(!closes);
    assert!(String::from_utf8_lossy(&wire).contains("connection: keep-alive\r\n"));
    let (wire, closes) = answer(get().closing(), 200, BodyLength::Known(2), &[b"ok"]);
    assert!(closes);
    assert!(String::from_utf8_lossy(&wire).contains("connection: close\r\n"));
}

#[test]
fn a_body_shorter_than_announced_closes() {
    let (_, closes) = answer(get(), 200, BodyLength::Known(5), &[b"hel"]);
    assert!(closes);
}

#[test]
fn values_cannot_add_lines() {
    let mut wire = Vec::new();
    let fields = [("x", "a\r\nSet-Cookie: b\0")];
    let _ = write_response_head(&mut wire, &get(), 204, &fields, BodyLength::None);
    assert_eq!(client_hears(&["GET"], &wire)[0], response(204, &[("x", "a  Set-Cookie: b")], true));
    let mut wire = Vec::new();
    write_request_head(&mut wire, "GET", "/a b\r\nX: y", "h", &[], RequestBody::None);
    let Heard::Request { target, .. } = &server_hears(&wire)[0] else { panic!("must be accepted") };
    assert_eq!(target, "/a%20b%20%20X:%20y");
}

#[test]
fn interim_answers() {
    let mut wire = Vec::new();
    write_continue(&mut wire);
    wire.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    wire.extend_from_slice(&answer(get(), 200, BodyLength::Known(2), &[b"ok"]).0);
    let heard = client_hears(&["PUT"], &wire);
    assert_eq!(heard[..2], [Heard::Interim(100), Heard::Interim(103)]);
    assert_eq!(heard[3..], [Heard::Body(b"ok".to_vec()), Heard::End]);
    let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    assert_eq!(client_hears(&["PUT"], &flood).last(), Some(&Heard::Fault(Fault::TooManyInterim)));
}

#[test]
fn answers_that_no_client_may_accept() {
    let refused = |wire: &str| match client_hears(&["GET"], wire.as_bytes()).last() {
        Some(Heard::Fault(fault)) => *fault,
        other => panic!("{wire:?}: {other:?}"),
    };
    assert_eq!(refused("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"), Fault::BareLineFeed);
    assert_eq!(refused("\r\nHTTP/1.1 200 OK\r\n\r\n"), Fault::StartLine);
    assert_eq!(refused("HTTP/1.1 099 Low\r\n\r\n"), Fault::StartLine);
    assert_eq!(refused("HTTP/2.0 200 OK\r\n\r\n"), Fault::Version);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), Fault::Field);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), Fault::Field);
    let lengths = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(lengths), Fault::TwoLengths);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n"), Fault::ContentLength);
    assert_eq!(refused("HTTP/1.1 204 No\r\nContent-Length: x\r\n\r\n"), Fault::ContentLength);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore"), Fault::Unsolicited);
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2 << 10));
    let limits = Limits { body_bytes_max: 1 << 10, ..Limits::DEFAULT };
    let heard = every_way(endless.as_bytes(), |pieces| listen(&limits, &["GET"], pieces));
    assert_eq!(heard[1..], [Heard::Body(vec![b'x'; 1 << 10]), Heard::Fault(Fault::BodyTooLarge)]);
}

#[test]
fn the_end_of_the_stream_completes_or_truncates() {
    let end = |wire: &str| {
        let mut client = Client::new();
        assert!(client.on_request("GET") && !client.on_request("GET"));
        let mut wire = wire.as_bytes().to_vec();
        let mut input = Input::new(&mut wire);
        while !input.is_empty() {
            let _ = client.next_event(&Limits::DEFAULT, 0, &mut input).expect("a good answer");
        }
        client.on_end_of_stream()
    };
    assert_eq!(end("HTTP/1.1 200 OK\r\n\r\nsome"), Ok(true));
    assert_eq!(end("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"), Err(Fault::Truncated));
    assert_eq!(end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"), Err(Fault::Truncated));
    assert_eq!(end("HTTP/1.1 20"), Err(Fault::Truncated));
    assert_eq!(Client::new().on_end_of_stream(), Ok(false));
}

#[test]
fn an_upgrade_leaves_the_rest_to_the_new_protocol() {
    let mut wire = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nnew bytes".to_vec();
    let mut client = Client::new();
    assert!(client.on_request("GET"));
    let mut input = Input::new(&mut wire);
    let _ = client.next_event(&Limits::DEFAULT, 0, &mut input).expect("the head");
    let _ = client.next_event(&Limits::DEFAULT, 0, &mut input).expect("the end");
    assert_eq!(input.rest(), b"new bytes");
    assert!(client.is_closed());
    every_way(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", |pieces| listen(&Limits::DEFAULT, &["GET"], pieces));
}
