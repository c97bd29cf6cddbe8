//! WebSocket loads: echoes that come, are lost, swapped or altered, and servers that close or refuse.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use annulus_bench::load::conn::Protocol;
use annulus_bench::load::request::Asked;
use annulus_bench::load::search::Quiet;
use annulus_bench::load::websocket::{Expect, Messages};
use annulus_bench::load::{Settings, run};
use annulus_bench::record::Record;
use annulus_protocols::Input;
use annulus_protocols::websocket::handshake::accept_key;
use annulus_protocols::websocket::{Event, Limits, MessageKind, Role, WebSocket, write_message, write_ping};
use common::{Server, failed, head, open, settings, target};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Accepts the handshake, and gives each message to `answer`, which writes what goes back. False ends the connection.
fn serving(answer: impl Fn(usize, MessageKind, &[u8], &mut Vec<u8>) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |mut stream, _| {
        let Some(request) = head(&mut stream) else { return };
        let field = |name: &str| {
            let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line[name.len()..].trim().to_owned())
        };
        let key = field("sec-websocket-key:").unwrap();
        let protocol = field("sec-websocket-protocol:")
            .map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        assert!(field("sec-websocket-extensions:").is_none(), "compression was offered");
        let accept = String::from_utf8(accept_key(key.as_bytes()).to_vec()).unwrap();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        talk(stream, &answer);
    })
}

fn talk(mut stream: TcpStream, answer: &impl Fn(usize, MessageKind, &[u8], &mut Vec<u8>) -> bool) {
    let (mut machine, mut buffer, mut number) = (WebSocket::new(Role::Server), vec![0; 65_536], 0);
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return;
        }
        let (mut input, mut out) = (Input::new(&mut buffer[..count]), Vec::new());
        let mut goes_on = true;
        loop {
            match machine.next_event(&Limits::DEFAULT, 0, &mut input).expect("the load behaves") {
                Event::NeedMore => break,
                Event::Message(message) => {
                    goes_on &= answer(number, message.kind, &message.payload, &mut out);
                    number += 1;
                }
                _ => {}
            }
        }
        if stream.write_all(&out).is_err() || !goes_on {
            return;
        }
    }
}

fn messages(expect: Expect) -> Settings {
    let mut settings = settings(open(200.0, 0.5), 4);
    let protocols = vec!["chat.v1".to_owned()];
    settings.protocol = Protocol::WebSocket(Messages { size: 300, is_binary: false, expect, protocols });
    settings.timeout = std::time::Duration::from_secs(2);
    settings
}

fn load(server: &Server, expect: Expect) -> Record {
    run(&messages(expect), &[target(&[&server.url("ws", "/socket")], &Asked::default())], &mut Quiet).unwrap()
}

#[test]
fn echoes_are_timed() {
    let server = serving(|_, kind, payload, out| {
        // A ping before each answer, which is answered and disturbs nothing.
        write_ping(out, b"still there", None);
        write_message(out, kind, payload, None);
        true
    });
    let record = load(&server, Expect::Echo);
    let round = &record.sides[0].rounds[0];
    assert_eq!((round.sent, round.completed, failed(&record)), (99, 99, Vec::new()));
    assert_eq!((round.latency.len(), round.opened), (99, 4));
    assert!(record.notes[0].contains("WebSocket"), "{:?}", record.notes);
}

#[test]
fn what_does_not_come_back_as_it_should_is_counted() {
    let lossy = serving(|number, kind, payload, out| {
        match number % 4 {
            0 => {}
            1 => write_message(out, kind, &[payload, b"!"].concat(), None),
            2 => write_message(out, kind, b"0123456789abcdef and so on", None),
            _ => write_message(out, kind, payload, None),
        }
        true
    });
    let record = load(&lossy, Expect::Echo);
    let round = &record.sides[0].rounds[0];
    assert_eq!(round.completed + round.failures(), 99);
    // Of four sockets each: a quarter lost, a quarter altered, a quarter answered with somebody else's (and so lost);
    // the rest came, but behind some that did not.
    assert!(round.failed["altered"] > 15 && round.failed["lost"] > 30, "{:?}", round.failed);
    assert!(round.failed["out of order"] > 15, "{:?}", round.failed);
    assert!(record.notes.iter().any(|note| note.contains("messages of other senders")), "{:?}", record.notes);
}

#[test]
fn any_answer_and_none_are_enough_where_that_is_asked() {
    let greeter = serving(|_, kind, _, out| {
        write_message(out, kind, b"hello", None);
        true
    });
    let record = load(&greeter, Expect::Any);
    assert_eq!((record.sides[0].rounds[0].completed, failed(&record)), (99, Vec::new()));
    let silent = serving(|_, _, _, _| true);
    let record = load(&silent, Expect::Nothing);
    assert_eq!((record.sides[0].rounds[0].completed, failed(&record)), (99, Vec::new()));
}

#[test]
fn sockets_that_close_are_replaced_and_their_messages_failed() {
    let fickle = serving(|number, kind, payload, out| {
        write_message(out, kind, payload, None);
        number < 5
    });
    let record = load(&fickle, Expect::Echo);
    let round = &record.sides[0].rounds[0];
    assert_eq!(round.completed + round.failures(), 99, "{:?}", round.failed);
    assert!(round.completed >= 60 && round.opened > 8, "{} {}", round.completed, round.opened);
}

#[test]
fn a_server_that_refuses_is_a_sentence() {
    let plain = Server::answering(|_| Some(common::GOOD.to_vec()));
    let target = target(&[&plain.url("ws", "/")], &Asked::default());
    let error = run(&messages(Expect::Echo), &[target], &mut Quiet).unwrap_err();
    assert!(error.contains("200 instead of 101"), "{error}");
}
