//! Compression against an implementation by others: Node's `ws` as client and as server over loopback, with several
//! offers, windows, levels and sizes. What is not installed is reported, not passed over.

mod support;
mod websocket_deflate;

use annulus_protocols::Input;
use annulus_protocols::http1::{Client, ClientEvent, Event as HttpEvent, Limits as HttpLimits, Server};
use annulus_protocols::websocket::deflate::{Agreement, Compressor, OFFER, WINDOW_BITS_MIN};
use annulus_protocols::websocket::handshake::{Upgrade, check_accept_deflate, write_accept_deflate, write_request};
use annulus_protocols::websocket::{CloseCode, Event, Limits, MessageKind, Role, WebSocket, write_pong};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use websocket_deflate::compressor;

/// A peer that is silent for so long has lost something.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folder with `node_modules`: that of the chat's clients, or what `ANNULUS_CLIENTS` names.
fn clients() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/tests/clients");
    std::env::var_os("ANNULUS_CLIENTS").map_or(beside, PathBuf::from)
}

/// Starts the peer, or reports that the group was not run.
fn start(arguments: &[&str]) -> Option<Child> {
    let group = "compression against Node's ws";
    let why = if clients().join("node_modules/ws").exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket_deflate/peer.mjs");
        let mut node = Command::new("node");
        node.arg(script).arg(clients()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        match node.spawn() {
            Ok(child) => return Some(child),
            Err(_) => "node is not installed",
        }
    } else {
        "its package is not installed; make setup-test"
    };
    eprintln!("NOT RUN: {group}: {why}");
    if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).create(true).open(path).expect("the list of groups");
        writeln!(file, "{group}: {why}").expect("the list of groups");
    }
    None
}

/// One end of ours on a socket.
struct End {
    stream: TcpStream,
    machine: WebSocket,
    compressor: Compressor,
    role: Role,
    compressed: usize,
}

impl End {
    fn new(stream: TcpStream, role: Role, agreement: Agreement) -> End {
        let machine = WebSocket::with_deflate(role, agreement);
        End { stream, machine, compressor: compressor(6, agreement.window_bits()), role, compressed: 0 }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        (self.role == Role::Client).then_some([3, 1, 4, 1])
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let (mut out, mask) = (Vec::new(), self.mask());
        self.compressed += usize::from(self.compressor.write_message(&mut out, kind, payload, mask));
        self.stream.write_all(&out).expect("the peer reads");
    }

    /// The next messages, at least one unless the peer closes. Pings are answered.
    fn receive(&mut self) -> Vec<(MessageKind, Vec<u8>)> {
        let (mut buffer, mut out, mut messages) = (vec![0; 10_000], Vec::new(), Vec::new());
        while messages.is_empty() && !self.machine.is_closed() {
            let len = self.stream.read(&mut buffer).expect("the peer goes on");
            assert!(len > 0, "the peer closes properly");
            let mut input = Input::new(&mut buffer[..len]);
            loop {
                match self.machine.next_event(&Limits::DEFAULT, 0, &mut input).expect("the peer behaves") {
                    Event::NeedMore => break,
                    Event::Message(message) => messages.push((message.kind, message.payload.into_vec())),
                    Event::Ping(payload) => write_pong(&mut out, &payload, self.mask()),
                    Event::Close(close) => {
                        let mask = self.mask();
                        self.machine.write_close(&mut out, close.code, "", mask);
                    }
                    Event::Pong(_) => {}
                }
            }
            self.stream.write_all(&out).expect("the peer reads");
            out.clear();
        }
        messages
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// Opens the next connection; what the client offers must be usable.
fn accept(listener: &TcpListener) -> End {
    let mut stream = patient(listener.accept().expect("the client connects").0);
    let (mut server, mut buffer) = (Server::new(), [0; 4096]);
    loop {
        let len = stream.read(&mut buffer).expect("a request");
        let mut input = Input::new(&mut buffer[..len]);
        if let HttpEvent::Head(head) = server.next_event(&HttpLimits::DEFAULT, 0, &mut input).expect("a good request") {
            let upgrade = Upgrade::check(&head).expect("an upgrade");
            let agreement = upgrade.deflate(WINDOW_BITS_MIN).expect("well written");
            let mut out = Vec::new();
            write_accept_deflate(&mut out, &upgrade, None, agreement);
            stream.write_all(&out).expect("the client reads");
            return End::new(stream, Role::Server, agreement.expect("the offer is usable"));
        }
    }
}

#[test]
fn their_client_and_our_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("its address"));
    let Some(child) = start(&["client", &url]) else { return };
    let windows = [15, 15, 9, 12, 15, 15];
    for window_bits in windows {
        let mut end = accept(&listener);
        assert_eq!(end.machine.deflate().expect("agreed").window_bits(), window_bits);
        let mut echoed = 0;
        while !end.machine.is_closed() {
            for (kind, payload) in end.receive() {
                end.send(kind, &payload);
                echoed += 1;
            }
        }
        assert!(echoed == 36 && end.compressed >= 18, "{echoed} messages, {} of them compressed", end.compressed);
    }
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"done\n");
}

#[test]
fn our_client_and_their_server() {
    let Some(mut child) = start(&["server"]) else { return };
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    let port: u16 = port.trim().parse().expect("a port");
    let mut stream = patient(TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
    let (nonce, mut out) = (*b"any sixteen byte", Vec::new());
    write_request(&mut out, "/", "localhost", nonce, &[], &[("sec-websocket-extensions", OFFER)]);
    stream.write_all(&out).expect("it reads");
    let (mut http, mut buffer) = (Client::new(), [0; 4096]);
    assert!(http.on_request("GET"));
    let agreement = loop {
        let len = stream.read(&mut buffer).expect("an answer");
        let mut input = Input::new(&mut buffer[..len]);
        if let ClientEvent::Head(head) = http.next_event(&HttpLimits::DEFAULT, 0, &mut input).expect("a good answer") {
            break check_accept_deflate(&head, nonce, &[]).expect("an upgrade").1.expect("agreed");
        }
    };
    let mut end = End::new(stream, Role::Client, agreement);
    for len in [0, 1, 126, 1000, 4096, 70_000, 1_000_000] {
        let text: String = (0..len / 10).map(|index| format!("größe 水 🍣 {}, ", index * index)).collect();
        end.send(MessageKind::Text, text.as_bytes());
        assert!(end.receive() == [(MessageKind::Text, text.clone().into_bytes())]);
        let noise = support::Rng(len as u64 + 1).bytes(len);
        end.send(MessageKind::Binary, &noise);
        assert!(end.receive() == [(MessageKind::Binary, noise)]);
    }
    assert!(end.compressed >= 5, "{} messages were compressed", end.compressed);
    out.clear();
    assert!(end.machine.write_close(&mut out, Some(CloseCode::NORMAL), "", Some([1; 4])));
    end.stream.write_all(&out).expect("it reads");
    assert!(end.receive().is_empty() && end.machine.is_closed());
    drop(child.stdin.take());
    assert!(child.wait().expect("its end").success());
}
