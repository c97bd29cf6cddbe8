//! Any bytes, in any split, as requests and as answers: no panic, the same events whole and split, and heads that hold
//! what the parser promises.
//!
//! Input: one byte of options, one byte that seeds the split, then the wire.
#![no_main]

use annulus_protocols::Input;
use annulus_protocols::http1::{BodyFraming, Client, ClientEvent, Event, Fields, Limits, Server};
use annulus_protocols::websocket::handshake::{Upgrade, check_accept, write_accept};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits =
    Limits { head_bytes_max: 600, fields_max: 10, target_bytes_max: 100, body_bytes_max: 300, ..Limits::DEFAULT };

fuzz_target!(|data: &[u8]| {
    let [options, seed, wire @ ..] = data else { return };
    let run = match options % 3 {
        0 => requests,
        1 => |pieces: Vec<Vec<u8>>| answers("GET", pieces),
        _ => |pieces: Vec<Vec<u8>>| answers("HEAD", pieces),
    };
    let whole = run(vec![wire.to_vec()]);
    assert_eq!(whole, run(wire.iter().map(|byte| vec![*byte]).collect()));
    assert_eq!(whole, run(split(wire, *seed)));
});

fn split(wire: &[u8], seed: u8) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), wire, usize::from(seed) | 1);
    while !rest.is_empty() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let (piece, tail) = rest.split_at((1 + (state >> 33) % 24).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}

/// Joins neighbouring body parts, whose borders depend on the split.
fn push(seen: &mut Vec<String>, event: String) {
    match seen.last_mut() {
        Some(last) if last.starts_with("body") && event.starts_with("body") => last.push_str(&event[4..]),
        _ => seen.push(event),
    }
}

fn body(part: &[u8]) -> String {
    part.iter().fold("body".to_owned(), |text, byte| text + &format!(" {byte}"))
}

fn check_fields(fields: Fields<'_>) -> String {
    let mut text = String::new();
    for field in fields {
        assert!(!field.name.is_empty() && field.name.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        text += &format!("{} {:?};", field.name, field.value);
    }
    text
}

fn requests(pieces: Vec<Vec<u8>>) -> Vec<String> {
    let (mut server, mut seen) = (Server::new(), Vec::new());
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            let event = match server.next_event(&LIMITS, 0, &mut input) {
                Ok(Event::NeedMore) => break assert!(input.is_empty()),
                Ok(Event::Head(head)) => {
                    assert!(head.framing() != BodyFraming::UntilClose);
                    assert!(head.target().len() <= LIMITS.target_bytes_max);
                    assert!(head.fields().get_all("host").count() <= 1);
                    if let Ok(upgrade) = Upgrade::check(&head) {
                        let _ = (upgrade.origin(), upgrade.protocols().count());
                        write_accept(&mut Vec::new(), &upgrade, None);
                    }
                    let (path, query) = (head.path(), head.query());
                    format!("{} {} {path} {query:?} {}", head.method(), head.target(), check_fields(head.fields()))
                }
                Ok(Event::Body(part)) => body(part),
                Ok(Event::Trailers(trailers)) => check_fields(trailers.fields()),
                Ok(Event::End) => "end".to_owned(),
                Err(fault) => format!("{fault:?} {}", fault.status()),
            };
            push(&mut seen, event);
        }
    }
    seen
}

fn answers(method: &str, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let (mut client, mut seen) = (Client::new(), Vec::new());
    assert!(client.on_request(method));
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            let event = match client.next_event(&LIMITS, 0, &mut input) {
                Ok(ClientEvent::NeedMore) => break assert!(input.is_empty()),
                Ok(ClientEvent::Interim(head)) => format!("{} {}", head.status(), check_fields(head.fields())),
                Ok(ClientEvent::Head(head)) => {
                    let _ = check_accept(&head, [0; 16], &["a"]);
                    format!("{} {:?} {}", head.status(), head.framing(), check_fields(head.fields()))
                }
                Ok(ClientEvent::Body(part)) => body(part),
                Ok(ClientEvent::Trailers(trailers)) => check_fields(trailers.fields()),
                Ok(ClientEvent::End) => "end".to_owned(),
                Err(fault) => format!("{fault:?}"),
            };
            push(&mut seen, event);
        }
    }
    push(&mut seen, format!("{:?}", client.on_end_of_stream()));
    seen
}
