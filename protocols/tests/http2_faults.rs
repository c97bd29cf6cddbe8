//! What a peer may not do, and what is done about it: each breach of RFC 9113 and each known attack, by its code.

use annulus_protocols::Input;
use annulus_protocols::http2::hpack::{Encoder, Indexing};
use annulus_protocols::http2::{Connection, ErrorCode, Event, Fault, Head, Limits, RequestLine};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for (name, value) in fields {
        encoder.field(&mut out, name.as_bytes(), value.as_bytes(), Indexing::Literal);
    }
    out
}

fn get() -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
}

/// What a machine made of bytes: heads, body bytes, resets, and the fault if there was one.
#[derive(Debug, Default)]
struct Seen {
    heads: Vec<u32>,
    body: usize,
    resets: Vec<(u32, ErrorCode, bool)>,
    go_aways: Vec<u32>,
    fault: Option<Fault>,
}

impl Seen {
    fn code(&self) -> Option<ErrorCode> {
        self.fault.map(|fault| fault.code)
    }
}

fn feed(machine: &mut Connection, limits: &Limits, mut wire: Vec<u8>) -> Seen {
    let mut seen = Seen::default();
    let mut input = Input::new(&mut wire);
    loop {
        match machine.next_event(limits, 0, &mut input) {
            Ok(Event::NeedMore) => break,
            Ok(Event::Head { stream, .. }) => seen.heads.push(stream),
            Ok(Event::Data { stream, bytes, .. }) => {
                seen.body += bytes.len();
                machine.release(stream, bytes.len() as u32);
            }
            Ok(Event::Reset { stream, code, unprocessed, .. }) => seen.resets.push((stream, code, unprocessed)),
            Ok(Event::GoAway { last, .. }) => seen.go_aways.push(last),
            Ok(Event::Trailers { .. } | Event::Writable | Event::Pong(_)) => {}
            Err(fault) => {
                seen.fault = Some(fault);
                // Nothing that follows is looked at.
                assert!(matches!(machine.next_event(limits, 0, &mut input), Ok(Event::NeedMore)));
                assert!(input.is_empty() && machine.is_closed());
                break;
            }
        }
    }
    seen
}

fn greeted() -> Vec<u8> {
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    wire.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
    wire
}

/// A server that was greeted and then received `wire`; also byte by byte, which must make no difference.
fn server(wire: &[u8]) -> Seen {
    server_with(&Limits::DEFAULT, wire)
}

fn server_with(limits: &Limits, wire: &[u8]) -> Seen {
    let wire = [greeted(), wire.to_vec()].concat();
    let mut machine = Connection::server(limits);
    let whole = feed(&mut machine, limits, wire.clone());
    let mut machine = Connection::server(limits);
    let mut bytewise = Seen::default();
    for byte in wire {
        let seen = feed(&mut machine, limits, vec![byte]);
        bytewise.heads.extend(seen.heads);
        bytewise.body += seen.body;
        bytewise.resets.extend(seen.resets);
        bytewise.fault = bytewise.fault.or(seen.fault);
    }
    assert_eq!((&whole.heads, whole.body, &whole.resets), (&bytewise.heads, bytewise.body, &bytewise.resets));
    assert_eq!(whole.fault, bytewise.fault);
    whole
}

/// A client with one GET under way on stream 1 that received `wire`.
fn client(wire: &[u8]) -> Seen {
    client_asking("GET", wire)
}

fn client_asking(method: &str, wire: &[u8]) -> Seen {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::client(&limits);
    let line = RequestLine { method, scheme: "http", authority: "a", path: "/" };
    machine.open(&mut Vec::new(), &line, [], true).expect("nothing is open");
    feed(&mut machine, &limits, [frame(SETTINGS, 0, 0, &[]), wire.to_vec()].concat())
}

#[test]
fn breaches_that_end_the_connection() {
    use ErrorCode as Code;
    let headers = |stream| frame(HEADERS, END_HEADERS, stream, &get());
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("a frame too large", frame(DATA, 0, 1, &[0; 16_385]), Code::FRAME_SIZE_ERROR),
        ("data on stream 0", frame(DATA, 0, 0, b"x"), Code::PROTOCOL_ERROR),
        ("data on an idle stream", frame(DATA, 0, 1, b"x"), Code::PROTOCOL_ERROR),
        ("fields on stream 0", frame(HEADERS, END_HEADERS, 0, &get()), Code::PROTOCOL_ERROR),
        ("an even stream", headers(2), Code::PROTOCOL_ERROR),
        ("streams backwards", [headers(5), headers(3)].concat(), Code::PROTOCOL_ERROR),
        ("the first stream left out", [headers(3), headers(1)].concat(), Code::PROTOCOL_ERROR),
        ("a priority of a wrong length for an idle stream", frame(PRIORITY, 0, 1, &[0; 4]), Code::FRAME_SIZE_ERROR),
        (
            "an interrupted block",
            [frame(HEADERS, 0, 1, &get()), frame(PING, 0, 0, &[0; 8])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &get()), Code::PROTOCOL_ERROR),
        ("a bad block", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Code::COMPRESSION_ERROR),
        ("padding beyond the frame", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 1, 2]), Code::PROTOCOL_ERROR),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a reset of a wrong length", [headers(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), Code::FRAME_SIZE_ERROR),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[]), Code::PROTOCOL_ERROR),
        ("settings of a wrong length", frame(SETTINGS, 0, 0, &[0; 5]), Code::FRAME_SIZE_ERROR),
        ("an acknowledgement with content", frame(SETTINGS, 1, 0, &[0; 6]), Code::FRAME_SIZE_ERROR),
        ("a window setting too large", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Code::FLOW_CONTROL_ERROR),
        ("a frame size setting too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        ("push is neither on nor off", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), Code::PROTOCOL_ERROR),
        ("a ping of a wrong length", frame(PING, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR),
        ("a farewell that is too short", frame(GOAWAY, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        ("a farewell on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR),
        ("priorities are neither on nor off", frame(SETTINGS, 0, 0, &[0, 9, 0, 0, 0, 2]), Code::PROTOCOL_ERROR),
        ("a priority update of a wrong length", frame(PRIORITY_UPDATE, 0, 0, &[0; 3]), Code::FRAME_SIZE_ERROR),
        ("a priority update of no stream", frame(PRIORITY_UPDATE, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a priority update on a stream", frame(PRIORITY_UPDATE, 0, 1, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        (
            "data on a stream that its client has reset",
            [headers(1), frame(RST_STREAM, 0, 1, &[0; 4]), frame(DATA, 0, 1, b"x")].concat(),
            Code::STREAM_CLOSED,
        ),
        ("data on a stream that was passed over", [headers(3), frame(DATA, 0, 1, b"x")].concat(), Code::STREAM_CLOSED),
        (
            "fields on a stream that its client has reset",
            [headers(1), frame(RST_STREAM, 0, 1, &[0; 4]), headers(1)].concat(),
            Code::STREAM_CLOSED,
        ),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), Code::FLOW_CONTROL_ERROR),
        ("a window of an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8]), Code::PROTOCOL_ERROR),
        ("a priority of no stream", frame(PRIORITY, 0, 0, &[0; 5]), Code::PROTOCOL_ERROR),
        (
            "a stream that depends on itself",
            frame(HEADERS, END_HEADERS | 0x20, 1, &[0, 0, 0, 1, 9]),
            Code::PROTOCOL_ERROR,
        ),
    ];
    for (what, wire, code) in cases {
        assert_eq!(server(&wire).code(), Some(code), "{what}");
    }
    let limits = Limits::DEFAULT;
    let seen = feed(&mut Connection::server(&limits), &limits, b"GET / HTTP/1.1\r\n\r\n".to_vec());
    assert_eq!(seen.code(), Some(Code::PROTOCOL_ERROR), "another protocol");
    let wire = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(PING, 0, 0, &[0; 8])].concat();
    assert_eq!(feed(&mut Connection::server(&limits), &limits, wire).code(), Some(Code::PROTOCOL_ERROR), "no settings");
}

#[test]
fn breaches_that_end_a_stream_only() {
    use ErrorCode as Code;
    let post = |length: &str| {
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), ("content-length", length)];
        frame(HEADERS, END_HEADERS, 1, &block(&fields))
    };
    let good = frame(HEADERS, END_HEADERS | END_STREAM, 3, &get());
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("a malformed request", frame(HEADERS, END_HEADERS, 1, &block(&[(":method", "GET")])), Code::PROTOCOL_ERROR),
        ("a body too long", [post("1"), frame(DATA, 0, 1, b"ab")].concat(), Code::PROTOCOL_ERROR),
        ("a body too short", [post("3"), frame(DATA, END_STREAM, 1, b"ab")].concat(), Code::PROTOCOL_ERROR),
        (
            "data after the end",
            [frame(HEADERS, END_HEADERS | END_STREAM, 1, &get()), frame(DATA, 0, 1, b"x")].concat(),
            Code::STREAM_CLOSED,
        ),
        (
            "trailers without an end",
            [post("0"), frame(HEADERS, END_HEADERS, 1, &block(&[("a", "b")]))].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a window that overflows",
            [post("0"), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        ("a window of nothing", [post("0"), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(), Code::PROTOCOL_ERROR),
        ("a priority of a wrong length", [post("0"), frame(PRIORITY, 0, 1, &[0; 4])].concat(), Code::FRAME_SIZE_ERROR),
    ];
    for (what, wire, code) in cases {
        let seen = server(&[wire, good.clone()].concat());
        assert_eq!(seen.resets.iter().map(|reset| (reset.0, reset.1)).collect::<Vec<_>>(), [(1, code)], "{what}");
        assert!(seen.fault.is_none() && seen.heads.contains(&3), "{what}: the connection goes on: {seen:?}");
    }
}

#[test]
fn windows_bind_the_peer() {
    let limits = Limits { stream_window_bytes: 100_000, connection_window_bytes: 150_000, ..Limits::DEFAULT };
    let data = |stream, flags| frame(DATA, flags, stream, &[0; 16_000]);
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &get());
    // Nothing is released here, unlike in `feed`.
    let run = |wire: Vec<u8>| {
        let mut machine = Connection::server(&limits);
        let mut wire = [greeted(), wire].concat();
        let mut input = Input::new(&mut wire);
        let mut resets = Vec::new();
        loop {
            match machine.next_event(&limits, 0, &mut input) {
                Ok(Event::NeedMore) => return (resets, None),
                Ok(Event::Reset { stream, code, .. }) => resets.push((stream, code)),
                Ok(_) => {}
                Err(fault) => return (resets, Some(fault.code)),
            }
        }
    };
    let of = |stream, frames: usize| [open(stream), data(stream, 0).repeat(frames)].concat();
    assert_eq!(run(of(1, 6)), (vec![], None));
    assert_eq!(run(of(1, 7)), (vec![(1, ErrorCode::FLOW_CONTROL_ERROR)], None));
    assert_eq!(run([of(1, 6), of(3, 4)].concat()), (vec![], Some(ErrorCode::FLOW_CONTROL_ERROR)));
}

#[test]
fn attacks_end_in_calm() {
    let calm = Some(ErrorCode::ENHANCE_YOUR_CALM);
    let limits = Limits { idle_frames_max: 100, tiny_frames_max: 300, resets_max: 50, ..Limits::DEFAULT };
    let attack = |wire: Vec<u8>| server_with(&limits, &wire).code();
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &get());
    assert_eq!(attack(frame(PING, 0, 0, &[0; 8]).repeat(200)), calm, "pings");
    assert_eq!(attack(frame(SETTINGS, 0, 0, &[]).repeat(200)), calm, "settings");
    assert_eq!(attack(frame(PRIORITY, 0, 1, &[0; 5]).repeat(200)), calm, "priorities");
    assert_eq!(attack(frame(0x77, 0, 0, &[]).repeat(200)), calm, "unknown frames");
    assert_eq!(attack([open(1), frame(DATA, 0, 1, &[]).repeat(200)].concat()), calm, "empty data");
    assert_eq!(attack([open(1), frame(DATA, 0, 1, b"x").repeat(400)].concat()), calm, "tiny data");
    let mut padding = [0; 256];
    padding[0] = 255;
    assert_eq!(attack([open(1), frame(DATA, PADDED, 1, &padding).repeat(200)].concat()), calm, "nothing but padding");
    assert_eq!(attack(frame(GOAWAY, 0, 0, &[0; 8]).repeat(200)), calm, "farewells");
    let spoilt = [open(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4]), open(1).repeat(200)].concat();
    assert_eq!(attack(spoilt), calm, "fields on a stream that was given up");
    assert_eq!(attack([open(1), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).repeat(400)].concat()), calm, "windows");
    let rapid = (0..100).flat_map(|at| [open(1 + 2 * at), frame(RST_STREAM, 0, 1 + 2 * at, &[0, 0, 0, 8])].concat());
    assert_eq!(attack(rapid.collect()), calm, "rapid reset");
    let made = (0..100).flat_map(|at| [open(1 + 2 * at), frame(WINDOW_UPDATE, 0, 1 + 2 * at, &[0; 4])].concat());
    assert_eq!(attack(made.collect()), calm, "made you reset");
    let begun = frame(HEADERS, 0, 1, &get());
    assert_eq!(
        attack([begun.clone(), frame(CONTINUATION, 0, 1, &[]).repeat(20)].concat()),
        calm,
        "empty continuations"
    );
    assert_eq!(
        attack([begun, frame(CONTINUATION, 0, 1, &[0; 16_000]).repeat(5)].concat()),
        calm,
        "large continuations"
    );
    let refused = (0..200).flat_map(|at| open(1 + 2 * at));
    assert_eq!(attack(refused.collect()), calm, "streams beyond the limit");
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_cut_off() {
    let limits = Limits { idle_frames_max: 1_000_000, pending_bytes_max: 10_000, ..Limits::DEFAULT };
    let seen = server_with(&limits, &frame(PING, 0, 0, &[0; 8]).repeat(2000));
    assert_eq!(seen.code(), Some(ErrorCode::ENHANCE_YOUR_CALM));
}

#[test]
fn a_bomb_of_references_is_not_unpacked() {
    // One entry of 3,000 bytes, then referred to 10,000 times: 30 MB from 10 KB.
    let mut fields = vec![0x40, 1, b'a', 0x7f, 0xb9, 0x16];
    fields.extend_from_slice(&[b'x'; 3000]);
    fields.extend_from_slice(&[0xbe; 10_000]);
    let seen = server(&[frame(HEADERS, END_HEADERS, 1, &fields), frame(HEADERS, END_HEADERS, 3, &get())].concat());
    assert_eq!(seen.resets, [(1, ErrorCode::ENHANCE_YOUR_CALM, false)]);
    assert_eq!(seen.heads, [3], "the tables stay in step");
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_rest_served() {
    let limits = Limits { streams_max: 2, ..Limits::DEFAULT };
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &get());
    let mut machine = Connection::server(&limits);
    let seen = feed(&mut machine, &limits, [greeted(), open(1), open(3), open(5)].concat());
    assert_eq!((seen.heads, seen.fault), (vec![1, 3], None));
    let mut out = Vec::new();
    machine.write_pending(&mut out);
    let refusal = frame(RST_STREAM, 0, 5, &ErrorCode::REFUSED_STREAM.0.to_be_bytes());
    assert!(out.windows(refusal.len()).any(|window| window == refusal));
}

#[test]
fn answers_are_held_to_the_rules() {
    use ErrorCode as Code;
    let answer = |fields: &[(&str, &str)], flags| frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
    let ok = answer(&[(":status", "200")], 0);
    let reset = |wire: Vec<u8>| client(&wire).resets.iter().map(|reset| reset.1).collect::<Vec<_>>();
    assert_eq!(reset(answer(&[], 0)), [Code::PROTOCOL_ERROR], "no status");
    assert_eq!(reset(frame(DATA, 0, 1, b"x")), [Code::PROTOCOL_ERROR], "data first");
    assert_eq!(reset(answer(&[(":status", "101")], 0)), [Code::PROTOCOL_ERROR], "an upgrade");
    assert_eq!(reset(answer(&[(":status", "103")], 0).repeat(20)), [Code::PROTOCOL_ERROR], "interim answers for ever");
    assert_eq!(reset(answer(&[(":status", "200"), ("content-length", "5")], END_STREAM)), [Code::PROTOCOL_ERROR]);
    assert_eq!(
        client(&frame(HEADERS, END_HEADERS, 3, &block(&[(":status", "200")]))).code(),
        Some(Code::PROTOCOL_ERROR)
    );
    assert_eq!(
        client(&frame(HEADERS, END_HEADERS, 2, &block(&[(":status", "200")]))).code(),
        Some(Code::PROTOCOL_ERROR)
    );
    assert_eq!(client(&frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1])).code(), Some(Code::PROTOCOL_ERROR), "push is on");
    let interim = [answer(&[(":status", "103"), ("link", "x")], 0), ok, frame(DATA, END_STREAM, 1, b"body")].concat();
    let seen = client(&interim);
    assert_eq!((seen.heads.len(), seen.body, seen.resets.len(), seen.fault), (1, 4, 0, None));
    let head = client_asking("HEAD", &answer(&[(":status", "200"), ("content-length", "5")], END_STREAM));
    assert_eq!((head.heads.len(), head.resets.len()), (1, 0), "an answer to HEAD has a length and no body");
}

#[test]
fn what_was_not_acted_upon_is_told() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::client(&limits);
    let line = RequestLine { method: "POST", scheme: "http", authority: "a", path: "/" };
    for _ in 0..4 {
        machine.open(&mut Vec::new(), &line, [], true).expect("there is room");
    }
    let refused = frame(RST_STREAM, 0, 1, &ErrorCode::REFUSED_STREAM.0.to_be_bytes());
    let broken = frame(RST_STREAM, 0, 3, &ErrorCode::INTERNAL_ERROR.0.to_be_bytes());
    let farewell = frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]);
    let seen = feed(&mut machine, &limits, [frame(SETTINGS, 0, 0, &[]), refused, broken, farewell].concat());
    let expected = [
        (1, ErrorCode::REFUSED_STREAM, true),
        (3, ErrorCode::INTERNAL_ERROR, false),
        (7, ErrorCode::REFUSED_STREAM, true),
    ];
    assert_eq!((seen.resets, seen.go_aways), (expected.to_vec(), vec![5]));
    assert_eq!((machine.streams_open(), machine.can_open(), machine.is_closing()), (1, 0, true));
    // The one that is left is answered all the same.
    let answer = frame(HEADERS, END_HEADERS | END_STREAM, 5, &block(&[(":status", "204")]));
    assert_eq!(feed(&mut machine, &limits, answer).heads, [5]);
}

#[test]
fn what_was_under_way_on_a_stream_that_was_given_up_is_granted_back_and_no_more_is_let_through() {
    let limits = Limits { stream_window_bytes: 100_000, connection_window_bytes: 1 << 20, ..Limits::DEFAULT };
    let mut machine = Connection::server(&limits);
    let post = frame(HEADERS, END_HEADERS, 1, &get());
    // A body with padding, of which the application takes nothing before it gives the stream up.
    let padded = [&[9][..], &[0; 9_999]].concat();
    assert_eq!(feed(&mut machine, &limits, [greeted(), post, frame(DATA, PADDED, 1, &padded)].concat()).body, 9_990);
    assert!(machine.reset(1, ErrorCode::CANCEL));
    let late = [frame(DATA, PADDED, 1, &padded).repeat(9), frame(RST_STREAM, 0, 1, &[0; 4])].concat();
    let seen = feed(&mut machine, &limits, late);
    assert_eq!((seen.body, seen.fault), (0, None));
    let (window, credit, whole) = machine.connection_account();
    assert_eq!(window + i64::from(credit), i64::from(whole), "every credit is back");
    let seen = feed(&mut machine, &limits, frame(DATA, 0, 1, &[0; 16_000]));
    assert_eq!(seen.code(), Some(ErrorCode::STREAM_CLOSED), "its window was used up");
}

#[test]
fn settings_bind_streams_from_their_acknowledgement() {
    let limits = Limits { stream_window_bytes: 1000, ..Limits::DEFAULT };
    let mut machine = Connection::server(&limits);
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &get());
    let data = |stream, len| frame(DATA, 0, stream, &vec![0; len]);
    // Before it the peer goes by 65,535 bytes.
    let before = [greeted(), open(1), data(1, 5000)].concat();
    assert_eq!(feed(&mut machine, &limits, before).body, 5000);
    let after = [frame(SETTINGS, 1, 0, &[]), open(3), data(3, 1000), open(5), data(5, 1001), data(1, 1)].concat();
    let seen = feed(&mut machine, &limits, after);
    // Stream 1 was granted what it sent, and lost the difference.
    let resets: Vec<_> = seen.resets.iter().map(|reset| (reset.0, reset.1)).collect();
    assert_eq!((resets, seen.body, seen.fault), (vec![(5, ErrorCode::FLOW_CONTROL_ERROR)], 1001, None));
}

#[test]
fn a_large_download_is_no_flood_however_its_windows_are_opened() {
    let limits = Limits { tiny_frames_max: 100, idle_frames_max: 100, ..Limits::DEFAULT };
    let mut machine = Connection::server(&limits);
    let wide = frame(WINDOW_UPDATE, 0, 0, &[0x10, 0, 0, 0]);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get());
    feed(&mut machine, &limits, [greeted(), wide, request].concat());
    assert!(machine.write_head(&mut Vec::new(), 1, 200, [], false));
    // A client that opens both windows for each frame that it has read, and measures the way by a ping.
    for _ in 0..1000 {
        assert_eq!(machine.write_data(0, &mut Vec::new(), 1, &[0; 16_384], false), Some(16_384));
        let open = |stream| frame(WINDOW_UPDATE, 0, stream, &16_384u32.to_be_bytes());
        let seen = feed(&mut machine, &limits, [open(0), open(1), frame(PING, 0, 0, &[0; 8])].concat());
        assert_eq!(seen.fault, None);
        machine.write_pending(&mut Vec::new());
    }
}

#[test]
fn a_stream_that_is_let_through_is_not_stalled() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    feed(&mut machine, &limits, [greeted(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &get())].concat());
    let (mut out, body) = (Vec::new(), vec![0; 1 << 20]);
    machine.write_head(&mut out, 1, 200, [], false);
    assert_eq!(machine.write_data(100, &mut out, 1, &body, true), Some(65_535));
    assert_eq!(machine.blocked_since(1), Some(100));
    assert_eq!(machine.write_data(200, &mut out, 1, &body, true), Some(0));
    assert_eq!(machine.blocked_since(1), Some(100), "nothing went through");
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0xff, 0xff]);
    feed(&mut machine, &limits, [settings, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0x40, 0])].concat());
    assert_eq!(machine.write_data(300, &mut out, 1, &body, true), Some(16_384));
    assert_eq!(machine.blocked_since(1), Some(300));
}

#[test]
fn bodies_of_ignored_streams_do_no_harm_and_a_fault_is_told_after_a_farewell() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    let open = |stream, flags| frame(HEADERS, END_HEADERS | flags, stream, &get());
    feed(&mut machine, &limits, [greeted(), open(1, END_STREAM)].concat());
    machine.go_away(ErrorCode::NO_ERROR, "bye");
    machine.go_away(ErrorCode::NO_ERROR, "bye again");
    let under_way = [
        open(3, 0),
        frame(DATA, 0, 3, &[0; 16_384]).repeat(4),
        frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]),
        frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]),
        open(5, END_STREAM),
    ];
    let seen = feed(&mut machine, &limits, under_way.concat());
    assert_eq!((seen.heads.len(), seen.body, seen.fault), (0, 0, None));
    let (window, credit, whole) = machine.connection_account();
    assert_eq!(window + i64::from(credit), i64::from(whole), "every credit is back");
    let mut out = Vec::new();
    assert!(machine.write_head(&mut out, 1, 200, [], true), "what was accepted is answered");

    assert!(feed(&mut machine, &limits, frame(PING, 0, 1, &[0; 8])).fault.is_some());
    machine.write_pending(&mut out);
    assert_eq!(farewells(&out), [(1, ErrorCode::NO_ERROR), (1, ErrorCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_clients_farewell_ends_nothing_and_a_closed_stream_can_be_reset() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    let open = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
    let wire = [greeted(), open(1), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0xff, 0xff, 0, 0])].concat();
    assert_eq!(feed(&mut machine, &limits, wire).go_aways, [0]);
    assert!(!machine.is_closing(), "it may still ask");
    assert!(machine.write_head(&mut Vec::new(), 1, 200, [], true));
    let seen = feed(&mut machine, &limits, [frame(PRIORITY, 0, 1, &[0; 4]), open(3)].concat());
    assert_eq!((seen.heads, seen.resets.len(), seen.fault), (vec![3], 0, None));
    let mut out = Vec::new();
    machine.write_pending(&mut out);
    let reset = ErrorCode::FRAME_SIZE_ERROR.0.to_be_bytes();
    assert_eq!(frames(&out), [(RST_STREAM, 0, &reset[..])]);
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

/// Kind, flags and payload of each frame in `wire`.
fn frames(mut wire: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut found = Vec::new();
    while !wire.is_empty() {
        let len = (word(wire) >> 8) as usize;
        found.push((wire[3], wire[4], &wire[9..9 + len]));
        wire = &wire[9 + len..];
    }
    found
}

/// Last stream and code of each GOAWAY in `wire`.
fn farewells(wire: &[u8]) -> Vec<(u32, ErrorCode)> {
    let farewells = frames(wire).into_iter().filter(|frame| frame.0 == GOAWAY);
    farewells.map(|(.., payload)| (word(payload), ErrorCode(word(&payload[4..])))).collect()
}

#[test]
fn settings_are_acknowledged_before_use_is_made_of_them() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    feed(&mut machine, &limits, [greeted(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &get())].concat());
    machine.write_pending(&mut Vec::new());
    let kinds = |out: &[u8]| frames(out).iter().map(|frame| (frame.0, frame.1 & ACK)).collect::<Vec<_>>();
    let mut out = Vec::new();
    feed(&mut machine, &limits, frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    machine.write_head(&mut out, 1, 200, [("server", &b"x"[..])], false);
    assert_eq!(kinds(&out), [(SETTINGS, ACK), (HEADERS, 0)]);
    out.clear();
    feed(&mut machine, &limits, frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]));
    machine.write_data(0, &mut out, 1, b"body", false);
    assert_eq!(kinds(&out), [(SETTINGS, ACK), (DATA, 0)]);
}

#[test]
fn after_our_farewell_new_streams_are_ignored_and_old_ones_served() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    let open = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
    assert_eq!(feed(&mut machine, &limits, [greeted(), open(1)].concat()).heads, [1]);
    machine.go_away(ErrorCode::NO_ERROR, "bye");
    let seen = feed(&mut machine, &limits, open(3));
    assert!(seen.heads.is_empty() && seen.fault.is_none());
    assert!(machine.write_head(&mut Vec::new(), 1, 200, [], true));
    assert_eq!(machine.streams_open(), 0);
}

#[test]
fn a_head_is_what_was_sent() {
    let limits = Limits::DEFAULT;
    let mut machine = Connection::server(&limits);
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), ("host", "h"), ("cookie", "c")];
    let mut wire = [greeted(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))].concat();
    let mut input = Input::new(&mut wire);
    loop {
        match machine.next_event(&limits, 0, &mut input).expect("it behaves") {
            Event::Head { head: Head::Request { scheme, authority, path, fields, .. }, end, .. } => {
                assert_eq!((&scheme[..], &authority[..], &path[..], end), ("https", "h", "/a?b", true));
                assert_eq!(fields.get(b"cookie"), Some(&b"c"[..]));
                return;
            }
            Event::NeedMore => panic!("there was a request"),
            _ => {}
        }
    }
}

#[test]
fn settings_are_acknowledged_in_time_or_the_connection_ends() {
    let limits = Limits::DEFAULT;
    let overdue = limits.ack_ms_max + 1;
    for make in [Connection::client, Connection::server] {
        let (mut machine, mut out) = (make(&limits), Vec::new());
        machine.write_preface(&limits, &mut out);
        assert_eq!((machine.on_clock(&limits, 5), machine.on_clock(&limits, 5 + limits.ack_ms_max)), (Ok(()), Ok(())));
        let fault = machine.on_clock(&limits, 5 + overdue).unwrap_err();
        assert_eq!(fault.code, ErrorCode::SETTINGS_TIMEOUT);
        out.clear();
        machine.write_pending(&mut out);
        assert_eq!((out[3], out[16]), (GOAWAY, 4), "the peer is told");
        assert!(machine.is_closed() && machine.on_clock(&limits, 10 * overdue).is_ok(), "once");
    }
    // Whoever has acknowledged them is left alone.
    let mut client = Connection::client(&limits);
    assert_eq!(client.on_clock(&limits, 0), Ok(()));
    let greeting = [frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat();
    assert!(feed(&mut client, &limits, greeting).fault.is_none());
    assert_eq!(client.on_clock(&limits, 10 * overdue), Ok(()));
}
