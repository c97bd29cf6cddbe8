//! Requests that are good: heads, bodies by length and in chunks, pipelining, persistence, expectations.

mod support;

use annulus_protocols::Input;
use annulus_protocols::http1::{BodyFraming, Event, Limits, Server, Version};
use support::http::{Heard, serve, server_hears};

fn request(method: &str, target: &str, fields: &[(&str, &str)], persists: bool) -> Heard {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Heard::Request { method: method.to_owned(), target: target.to_owned(), fields, persists }
}

/// Whether the only request on the wire leaves the connection open.
fn persists(wire: &str) -> bool {
    match &server_hears(wire.as_bytes())[..] {
        [Heard::Request { persists, .. }, Heard::End] => *persists,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_the_rfc() {
    // RFC 9112 section 3.
    let wire = b"GET /where?q=now HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
    let expected = [request("GET", "/where?q=now", &[("Host", "www.example.com")], true), Heard::End];
    assert_eq!(server_hears(wire), expected);
}

#[test]
fn a_body_by_length_and_a_pipelined_request() {
    let wire = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
        GET /b HTTP/1.1\r\nhost:h\r\nX-Empty:\r\nX-Tab: a\tb \r\n\r\n\
        \r\n\r\nPUT /c HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    let expected = [
        request("POST", "/a", &[("Host", "h"), ("Content-Length", "5")], true),
        Heard::Body(b"hello".to_vec()),
        Heard::End,
        request("GET", "/b", &[("host", "h"), ("X-Empty", ""), ("X-Tab", "a\tb")], true),
        Heard::End,
        request("PUT", "/c", &[("Host", "h"), ("Content-Length", "0")], true),
        Heard::End,
    ];
    assert_eq!(server_hears(wire), expected);
}

#[test]
fn chunks_extensions_and_trailers() {
    let fields = [("Host", "h"), ("Transfer-Encoding", "Chunked")];
    let wire = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4\r\nWiki\r\n006;name=\"va lue\";x\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nDigest: abc\r\nX: y\r\n\r\n\
        POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n000\r\n\r\n";
    let expected = [
        request("POST", "/", &fields, true),
        Heard::Body(b"Wikipedia in \r\n\r\nchunks.".to_vec()),
        Heard::Trailers(vec![("Digest".to_owned(), "abc".to_owned()), ("X".to_owned(), "y".to_owned())]),
        Heard::End,
        request("POST", "/", &fields, true),
        Heard::End,
    ];
    assert_eq!(server_hears(wire), expected);
}

#[test]
fn persistence_by_version_and_option() {
    assert!(persists("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(!persists("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    assert!(!persists("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n"));
    assert!(!persists("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"));
    assert!(!persists("GET / HTTP/1.0\r\n\r\n"));
    assert!(persists("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

#[test]
fn nothing_is_read_after_the_last_request() {
    let wire = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut server = Server::new();
    let heard = serve(&mut server, &Limits::DEFAULT, [wire.to_vec()]);
    assert_eq!(heard.len(), 2);
    assert!(server.is_closed());
}

#[test]
fn any_number_of_empty_lines_before_a_request() {
    let wire = ["\r\n".repeat(20_000), "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()].concat();
    let expected = [request("GET", "/", &[("Host", "h")], true), Heard::End];
    assert_eq!(server_hears(wire.as_bytes()), expected);
    // The first half of an empty line, then all the rest at once.
    let pieces = [wire.as_bytes()[..1].to_vec(), wire.as_bytes()[1..].to_vec()];
    assert_eq!(serve(&mut Server::new(), &Limits::DEFAULT, pieces), expected);
}

#[test]
fn every_form_of_target() {
    let parts = |wire: &str| {
        let mut wire = wire.as_bytes().to_vec();
        let mut input = Input::new(&mut wire);
        let Ok(Event::Head(head)) = Server::new().next_event(&Limits::DEFAULT, 0, &mut input) else {
            panic!("must be accepted")
        };
        (head.path().to_owned(), head.query().map(str::to_owned))
    };
    let expect = |path: &str, query: Option<&str>| (path.to_owned(), query.map(str::to_owned));
    assert_eq!(parts("GET /a/b?c=d?e HTTP/1.1\r\nHost: h\r\n\r\n"), expect("/a/b", Some("c=d?e")));
    assert_eq!(parts("GET /?u=http://x/y HTTP/1.1\r\nHost: h\r\n\r\n"), expect("/", Some("u=http://x/y")));
    assert_eq!(parts("GET http://H:80/p?q HTTP/1.1\r\nHost: h:80\r\n\r\n"), expect("/p", Some("q")));
    assert_eq!(parts("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), expect("*", None));
    assert_eq!(parts("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), expect("", None));
}

#[test]
fn a_head_that_lies_in_the_buffer_knows_its_request() {
    let mut wire = b"PUT /x HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 7\r\n\r\npart".to_vec();
    let (mut server, mut input) = (Server::new(), Input::new(&mut wire));
    let Ok(Event::Head(head)) = server.next_event(&Limits::DEFAULT, 0, &mut input) else { panic!("a head is there") };
    assert_eq!((head.version(), head.framing()), (Version::Http11, BodyFraming::Length(7)));
    assert!(head.exchange().expects_continue() && head.exchange().persists() && !head.exchange().is_head());
    assert_eq!(input.rest(), b"part");
    assert_eq!(head.into_owned().fields().get("host"), Some(&b"h"[..]));
}

#[test]
fn a_slow_head_is_seen() {
    let limits = Limits { head_ms_max: 100, ..Limits::DEFAULT };
    let mut server = Server::new();
    let mut feed = |now: u64, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let mut input = Input::new(&mut bytes);
        while !matches!(server.next_event(&limits, now, &mut input), Ok(Event::NeedMore)) {}
        (server.is_idle(), server.is_overdue(&limits, now + 100), server.is_overdue(&limits, 1101))
    };
    assert_eq!(feed(1000, b"G"), (false, false, true));
    assert_eq!(feed(1050, b"ET / HTTP/1.1\r\n"), (false, true, true));
    assert_eq!(feed(1060, b"Host: h\r\n\r\n"), (true, false, false));
}
