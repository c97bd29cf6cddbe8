//! A client and a server of HTTP/2 joined in memory: random requests, bodies, splits, resets and pauses, byte-exact at
//! the end and with every window as it was.

use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Limits, Refusal, RequestLine};
use std::collections::HashMap;

/// A small deterministic generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

fn body_of(tag: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + tag * 13) as u8).collect()
}

/// One end: its machine, what it still sends per stream, what it has received per stream.
struct End {
    machine: Connection,
    out: Vec<u8>,
    sending: HashMap<u32, (Vec<u8>, usize)>,
    received: HashMap<u32, Vec<u8>>,
    ended: Vec<u32>,
    reset: Vec<u32>,
    /// Bytes handed out that the application has not used up yet.
    held: Vec<(u32, u32)>,
}

impl End {
    fn new(machine: Connection) -> End {
        End {
            machine,
            out: Vec::new(),
            sending: HashMap::new(),
            received: HashMap::new(),
            ended: Vec::new(),
            reset: Vec::new(),
            held: Vec::new(),
        }
    }

    fn pump(&mut self) {
        self.sending.retain(|&id, (body, at)| {
            match self.machine.write_data(0, &mut self.out, id, &body[*at..], true) {
                None => false,
                Some(taken) => {
                    *at += taken;
                    *at < body.len()
                }
            }
        });
        self.machine.write_pending(&mut self.out);
    }

    /// Feeds what came, in random pieces; requests that came.
    fn feed(&mut self, random: &mut Random, limits: &Limits, wire: &mut [u8]) -> Vec<(u32, String)> {
        let mut requests = Vec::new();
        let mut at = 0;
        while at < wire.len() {
            let len = (1 + random.below(5000)).min(wire.len() - at);
            let len = if random.below(4) == 0 { 1 } else { len };
            let mut input = Input::new(&mut wire[at..at + len]);
            at += len;
            loop {
                match self.machine.next_event(limits, 0, &mut input).expect("both ends behave") {
                    Event::NeedMore => break,
                    Event::Head { stream, head, end } => {
                        if let Head::Request { path, .. } = head {
                            requests.push((stream, path));
                        }
                        self.received.insert(stream, Vec::new());
                        if end {
                            self.ended.push(stream);
                        }
                    }
                    Event::Data { stream, bytes, end } => {
                        self.received.get_mut(&stream).expect("a head came first").extend_from_slice(bytes);
                        self.held.push((stream, bytes.len() as u32));
                        if end {
                            self.ended.push(stream);
                        }
                    }
                    Event::Trailers { stream, fields } => {
                        assert_eq!(fields.get(b"x-end"), Some(&b"yes"[..]));
                        self.ended.push(stream);
                    }
                    Event::Reset { stream, .. } => self.reset.push(stream),
                    Event::GoAway { .. } | Event::Writable | Event::Pong(_) => {}
                }
            }
            assert!(input.is_empty());
        }
        requests
    }

    fn release_some(&mut self, random: &mut Random, all: bool) {
        while let Some((id, len)) = self.held.pop() {
            self.machine.release(id, len);
            if !all && random.below(3) == 0 {
                break;
            }
        }
    }
}

/// One schedule. Small windows make waiting for them usual.
fn schedule(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let limits = Limits {
        streams_max: 1 + random.below(20) as u32,
        stream_window_bytes: 1000 + random.below(100_000) as u32,
        connection_window_bytes: 65_535 + random.below(100_000) as u32,
        resets_max: 10_000,
        tiny_frames_max: 1_000_000,
        idle_frames_max: 1_000_000,
        ..Limits::DEFAULT
    };
    let (mut client, mut server) = (End::new(Connection::client(&limits)), End::new(Connection::server(&limits)));
    client.machine.write_preface(&limits, &mut client.out);
    server.machine.write_preface(&limits, &mut server.out);
    let goal = 1 + random.below(60);
    let (mut opened, mut asked, mut given_up) = (0, HashMap::new(), Vec::new());
    for round in 0..100_000 {
        if opened < goal && random.below(2) == 0 {
            let len = [0, 1, 100, 20_000, 200_000][random.below(5)];
            let path = format!("/{opened}/{}", [0, 1, 30_000, 150_000][random.below(4)]);
            let line = RequestLine { method: "POST", scheme: "http", authority: "a.example", path: &path };
            let fields = [("x-tag", path.as_bytes()), ("accept", &b"*/*"[..])];
            match client.machine.open(&mut client.out, &line, fields, len == 0) {
                Ok(id) => {
                    if len > 0 {
                        client.sending.insert(id, (body_of(opened, len), 0));
                    }
                    asked.insert(id, (opened, len, path));
                    opened += 1;
                }
                Err(refusal) => assert_eq!(refusal, Refusal::Full),
            }
        }
        if random.below(40) == 0
            && let Some(&id) = asked.keys().find(|id| !client.ended.contains(id) && !client.reset.contains(id))
            && client.machine.reset(id, ErrorCode::CANCEL)
        {
            given_up.push(id);
        }
        if random.below(3) > 0 {
            client.pump();
        }
        let mut wire = std::mem::take(&mut client.out);
        for (id, path) in server.feed(&mut random, &limits, &mut wire) {
            let (tag, len) = path[1..].split_once('/').expect("both are in the path");
            let body = body_of(tag.parse().expect("a number"), len.parse().expect("a number"));
            let length = len.as_bytes();
            // It may have been given up by what came right behind it.
            if !server.machine.write_head(&mut server.out, id, 200, [("content-length", length)], body.is_empty()) {
                continue;
            }
            if !body.is_empty() {
                server.sending.insert(id, (body, 0));
            }
        }
        if random.below(3) > 0 {
            server.pump();
        }
        let mut wire = std::mem::take(&mut server.out);
        client.feed(&mut random, &limits, &mut wire);
        server.release_some(&mut random, false);
        client.release_some(&mut random, false);
        let over =
            asked.keys().all(|id| client.ended.contains(id) || client.reset.contains(id) || given_up.contains(id));
        if opened == goal && over && server.sending.is_empty() && client.sending.is_empty() && round > 10 {
            break;
        }
        assert!(round < 99_999, "seed {seed}: the schedule does not end");
    }
    for (id, (tag, len, path)) in asked {
        if given_up.contains(&id) || client.reset.contains(&id) {
            continue;
        }
        assert_eq!(server.received[&id], body_of(tag, len), "seed {seed}: the request's body on {id}");
        let expected: usize = path.rsplit('/').next().and_then(|len| len.parse().ok()).expect("a number");
        assert_eq!(client.received[&id], body_of(tag, expected), "seed {seed}: the answer's body on {id}");
    }
    // What is still on its way arrives, everything is used up: then every window is whole again.
    for _ in 0..10 {
        client.pump();
        let mut wire = std::mem::take(&mut client.out);
        server.feed(&mut random, &limits, &mut wire);
        server.release_some(&mut random, true);
        server.pump();
        let mut wire = std::mem::take(&mut server.out);
        client.feed(&mut random, &limits, &mut wire);
        client.release_some(&mut random, true);
    }
    for end in [&client, &server] {
        let (may_send, credit, window) = end.machine.connection_account();
        assert_eq!(may_send + i64::from(credit), i64::from(window), "seed {seed}: credit was lost");
        assert_eq!(end.machine.streams_open(), 0, "seed {seed}: a stream was left");
    }
}

#[test]
fn any_schedule_delivers_every_byte_and_gives_every_credit_back() {
    (0..400).for_each(schedule);
}

#[test]
fn trailers_end_a_message() {
    let limits = Limits::DEFAULT;
    let (mut client, mut server) = (End::new(Connection::client(&limits)), End::new(Connection::server(&limits)));
    client.machine.write_preface(&limits, &mut client.out);
    server.machine.write_preface(&limits, &mut server.out);
    let line = RequestLine { method: "GET", scheme: "http", authority: "a", path: "/" };
    let id = client.machine.open(&mut client.out, &line, [], true).unwrap();
    let mut random = Random(1);
    server.feed(&mut random, &limits, &mut std::mem::take(&mut client.out));
    assert!(server.machine.write_head(&mut server.out, id, 200, [], false));
    assert_eq!(server.machine.write_data(0, &mut server.out, id, b"body", false), Some(4));
    assert!(server.machine.write_trailers(&mut server.out, id, [("x-end", &b"yes"[..])]));
    client.feed(&mut random, &limits, &mut std::mem::take(&mut server.out));
    assert_eq!((&client.received[&id][..], &client.ended[..]), (&b"body"[..], &[id][..]));
}
