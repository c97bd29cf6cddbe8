//! Feeding the HTTP/1 machines in a given split. No assertions of its own but that all splits agree.

use super::Rng;
use annulus_protocols::Input;
use annulus_protocols::http1::{Client, ClientEvent, Event, Fault, Fields, Limits, Server};

/// An HTTP event with bytes of its own; neighbouring body parts are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Request { method: String, target: String, fields: Vec<(String, String)>, persists: bool },
    Interim(u16),
    Response { status: u16, fields: Vec<(String, String)>, persists: bool },
    Body(Vec<u8>),
    Trailers(Vec<(String, String)>),
    End,
    Fault(Fault),
}

fn pairs(fields: Fields<'_>) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    fields.into_iter().map(|field| (field.name.to_owned(), text(field.value))).collect()
}

fn push(heard: &mut Vec<Heard>, event: Heard) {
    match (heard.last_mut(), event) {
        (Some(Heard::Body(before)), Heard::Body(part)) => before.extend_from_slice(&part),
        (_, event) => heard.push(event),
    }
}

/// Feeds a server with `pieces`.
pub fn serve(server: &mut Server, limits: &Limits, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Heard> {
    let mut heard = Vec::new();
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            let event = match server.next_event(limits, 0, &mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Head(head)) => Heard::Request {
                    method: head.method().to_owned(),
                    target: head.target().to_owned(),
                    fields: pairs(head.fields()),
                    persists: head.exchange().persists(),
                },
                Ok(Event::Body(part)) => Heard::Body(part.to_vec()),
                Ok(Event::Trailers(trailers)) => Heard::Trailers(pairs(trailers.fields())),
                Ok(Event::End) => Heard::End,
                Err(fault) => Heard::Fault(fault),
            };
            push(&mut heard, event);
        }
        assert!(input.is_empty(), "NeedMore leaves nothing behind");
    }
    heard
}

/// Feeds a client that sent `methods`, one request after the other, with `pieces`.
pub fn listen(limits: &Limits, methods: &[&str], pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Heard> {
    let (mut client, mut methods) = (Client::new(), methods.iter());
    let mut heard = Vec::new();
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            if let Some(method) = methods.as_slice().first().filter(|_| client.is_idle()) {
                assert!(client.on_request(method));
                methods.next();
            }
            let event = match client.next_event(limits, 0, &mut input) {
                Ok(ClientEvent::NeedMore) => break,
                Ok(ClientEvent::Interim(head)) => Heard::Interim(head.status()),
                Ok(ClientEvent::Head(head)) => {
                    Heard::Response { status: head.status(), fields: pairs(head.fields()), persists: head.persists() }
                }
                Ok(ClientEvent::Body(part)) => Heard::Body(part.to_vec()),
                Ok(ClientEvent::Trailers(trailers)) => Heard::Trailers(pairs(trailers.fields())),
                Ok(ClientEvent::End) => Heard::End,
                Err(fault) => Heard::Fault(fault),
            };
            push(&mut heard, event);
        }
        assert!(input.is_empty(), "NeedMore leaves nothing behind");
    }
    heard
}

/// Runs `feed` with `wire` whole, byte by byte and in random splits; all must agree. Returns what was heard.
pub fn every_way(wire: &[u8], mut feed: impl FnMut(Vec<Vec<u8>>) -> Vec<Heard>) -> Vec<Heard> {
    let whole = feed(vec![wire.to_vec()]);
    let single = feed(wire.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(whole, single, "byte by byte differs from whole");
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ wire.len() as u64);
    for piece_max in [2, 3, 7, 16, 64, 1000] {
        assert_eq!(whole, feed(rng.split(wire, piece_max)), "split differs from whole");
    }
    whole
}

/// What a fresh server hears, every way.
pub fn server_hears(wire: &[u8]) -> Vec<Heard> {
    every_way(wire, |pieces| serve(&mut Server::new(), &Limits::DEFAULT, pieces))
}

/// What a client hears that sent these requests, every way.
pub fn client_hears(methods: &[&str], wire: &[u8]) -> Vec<Heard> {
    every_way(wire, |pieces| listen(&Limits::DEFAULT, methods, pieces))
}
