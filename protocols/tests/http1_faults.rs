//! Requests that no server may accept, each with its status, in any split. Most of them are ways to smuggle a request
//! past one of two parsers.

mod support;

use annulus_protocols::http1::{Fault, Limits, Server};
use support::Rng;
use support::http::{Heard, every_way, serve, server_hears};

fn assert_refused(wire: &str, fault: Fault, status: u16) {
    let heard = server_hears(wire.as_bytes());
    assert_eq!(heard.last(), Some(&Heard::Fault(fault)), "{wire:?}");
    assert_eq!(fault.status(), status);
}

/// A request whose head has these lines besides its `Host`.
fn assert_lines_refused(lines: &str, fault: Fault) {
    assert_refused(&format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n"), fault, 400);
}

fn assert_chunks_refused(chunks: &str, fault: Fault) {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_refused(&format!("{head}{chunks}"), fault, fault.status());
}

#[test]
fn lengths() {
    for value in ["+5", "-5", "0x5", "5a", "5, 5", "5,6", "5 5", "", "1e1", "5;", "18446744073709551616", "5\t6"] {
        assert_lines_refused(&format!("Content-Length: {value}"), Fault::ContentLength);
    }
    assert_lines_refused("Content-Length: 5\r\nContent-Length: 6", Fault::ContentLength);
    assert_lines_refused("Content-Length: 5\r\ncontent-length: 5", Fault::ContentLength);
    assert_lines_refused("Content-Length: 5\r\nTransfer-Encoding: chunked", Fault::TwoLengths);
    assert_lines_refused("Transfer-Encoding: chunked\r\nContent-Length: 0", Fault::TwoLengths);
}

#[test]
fn transfer_encodings() {
    for value in
        ["identity", "chunked, chunked", "chunked, gzip", "xchunked", "chunked;q=1", "\"chunked\"", "", ",chunked"]
    {
        assert_lines_refused(&format!("Transfer-Encoding: {value}"), Fault::TransferEncoding);
    }
    assert_lines_refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Fault::TransferEncoding);
    assert_lines_refused("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Fault::TransferEncoding);
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_refused(head, Fault::TransferCoding, 501);
    assert_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding, 400);
}

#[test]
fn line_ends() {
    assert_refused("GET / HTTP/1.1\nHost: h\r\n\r\n", Fault::BareLineFeed, 400);
    assert_refused("GET / HTTP/1.1\r\nHost: h\n\r\n", Fault::BareLineFeed, 400);
    assert_refused("GET / HTTP/1.1\r\nHost: h\r\n\n", Fault::BareLineFeed, 400);
    assert_refused("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine, 400);
    assert_refused("\r\n\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine, 400);
    assert_lines_refused("A: b\rc", Fault::Field);
    assert_lines_refused("A\r: b", Fault::Field);
    assert_lines_refused("A: b\r\r", Fault::Field);
    assert_refused("GET /\rx HTTP/1.1\r\nHost: h\r\n\r\n", Fault::StartLine, 400);
    assert_refused("GET / HTTP/1.1\r \r\nHost: h\r\n\r\n", Fault::Field, 400);
}

#[test]
fn fields() {
    assert_lines_refused("A: b\r\n folded", Fault::Field);
    assert_lines_refused("A: b\r\n\tfolded", Fault::Field);
    assert_lines_refused(" A: b", Fault::Field);
    assert_lines_refused("A : b", Fault::Field);
    assert_lines_refused("A\t: b", Fault::Field);
    assert_lines_refused("no colon", Fault::Field);
    assert_lines_refused(": no name", Fault::Field);
    assert_lines_refused("A: b\0c", Fault::Field);
    assert_lines_refused("A\0: b", Fault::Field);
    assert_lines_refused("A: \x01", Fault::Field);
    assert_lines_refused("A: \x7f", Fault::Field);
    assert_lines_refused("Ä: b", Fault::Field);
    assert_lines_refused("A(: b", Fault::Field);
    assert_refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n", Fault::Field, 400);
}

#[test]
fn hosts() {
    assert_refused("GET / HTTP/1.1\r\n\r\n", Fault::Host, 400);
    assert_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Fault::Host, 400);
    assert_refused("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Fault::Host, 400);
    for host in ["a b", "a/b", "a@b", "a?b", "a#b", "a,b", "a\\b", "ä"] {
        assert_refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Fault::Host, 400);
    }
    assert_refused("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Fault::Host, 400);
    assert_refused("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", Fault::Host, 400);
}

#[test]
fn start_lines() {
    for line in
        ["GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", "G@T / HTTP/1.1", "GET / HTTP/1.1 ", "GET"]
    {
        let heard = server_hears(format!("{line}\r\nHost: h\r\n\r\n").as_bytes());
        let [Heard::Fault(fault)] = &heard[..] else { panic!("{line:?} was accepted: {heard:?}") };
        assert!(matches!(fault.status(), 400 | 505), "{line:?}: {fault:?}");
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/11", "HTTPS/1.1"] {
        let heard = server_hears(format!("GET / {version}\r\nHost: h\r\n\r\n").as_bytes());
        let [Heard::Fault(fault)] = &heard[..] else { panic!("{version:?} was accepted: {heard:?}") };
        assert!(matches!(fault.status(), 400 | 505), "{version:?}: {fault:?}");
    }
    assert_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version, 505);
    for target in ["nowhere", "*", "ftp://h/", "http:///x", "/a#b", "/ä", "//\u{7f}"] {
        let heard = server_hears(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let [Heard::Fault(fault)] = &heard[..] else { panic!("{target:?} was accepted: {heard:?}") };
        assert_eq!(fault.status(), 400, "{target:?}: {fault:?}");
    }
    assert_refused("\x16\x03\x01\x02", Fault::StartLine, 400);
    assert_refused("GET / HTTP/1.1\r\nHost: h\r\nExpect: a miracle\r\n\r\n", Fault::Expectation, 417);
}

#[test]
fn chunks() {
    for chunks in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\t;a\r\n",
        ";a\r\n",
        "1\n",
        "1\r1",
        "1;a\n",
        "1;a\rb",
        "1;\0\r\n",
        "00000000000000001\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\r\r",
        "1\r\n\r\n0",
    ] {
        // The last one is a chunk whose data is a line end, so it is cut where a line end is missing.
        assert_chunks_refused(chunks, Fault::Chunk);
    }
    assert_chunks_refused("fffffffffffffff0\r\n", Fault::BodyTooLarge);
    assert_chunks_refused("1\r\na\r\nffffffffffffffff\r\n", Fault::BodyTooLarge);
    assert_chunks_refused("0\r\nA: b\n\r\n", Fault::BareLineFeed);
    assert_chunks_refused("0\r\nA : b\r\n\r\n", Fault::Trailer);
    assert_chunks_refused("0\r\nnonsense\r\n\r\n", Fault::Trailer);
    assert_chunks_refused("0\r\nA: b\r\n c\r\n\r\n", Fault::Trailer);
    assert_chunks_refused("0\r\nContent-Length: 5\r\n\r\n", Fault::Trailer);
    assert_chunks_refused("0\r\ntransfer-encoding: chunked\r\n\r\n", Fault::Trailer);
}

#[test]
fn endless_extensions_tiny_chunks_and_long_trailers() {
    assert_chunks_refused(&format!("1;{}", "x".repeat(17 << 10)), Fault::Chunk);
    assert_chunks_refused(&"1\r\na\r\n".repeat(10_000), Fault::Chunk);
    assert_chunks_refused(&format!("0\r\n{}", "A: b\r\n".repeat(1000)), Fault::TrailersTooLarge);
    let enough = format!("0\r\n{}\r\n", "A: b\r\n".repeat(101));
    assert_chunks_refused(&enough, Fault::Trailer);
}

#[test]
fn limits_have_their_status() {
    let long = "a".repeat(9000);
    assert_refused(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), Fault::TargetTooLong, 414);
    assert_refused(&format!("GET /{long}"), Fault::TargetTooLong, 414);
    let exact = "a".repeat(8191);
    assert_eq!(server_hears(format!("GET /{exact} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).len(), 2);
    assert_refused(&format!("GET /{exact}a HTTP/1.1\r\nHost: h\r\n\r\n"), Fault::TargetTooLong, 414);

    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(server_hears(lines(99).as_bytes()).len(), 2);
    assert_refused(&lines(100), Fault::TooManyFields, 431);
    assert_refused(&lines(200), Fault::TooManyFields, 431);
    let large = "a".repeat(17 << 10);
    assert_refused(&format!("GET / HTTP/1.1\r\nHost: h\r\nA: {large}"), Fault::HeadTooLarge, 431);
    assert_refused(&format!("GET / HTTP/1.1\r\nHost: h\r\nA: {large}\r\n\r\n"), Fault::HeadTooLarge, 431);

    assert_refused("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", Fault::BodyTooLarge, 413);
}

#[test]
fn random_bytes_never_panic_and_split_alike() {
    let seeds = [
        "GET /a?b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    ];
    let alphabet = b"\r\n\t :;,/aZ019fHTP.\0\x80";
    let mut rng = Rng(99);
    for round in 0..3000 {
        let mut wire = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(wire.len());
            wire[at] = alphabet[rng.below(alphabet.len())];
        }
        every_way(&wire, |pieces| serve(&mut Server::new(), &Limits::DEFAULT, pieces));
    }
}
