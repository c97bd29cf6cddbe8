//! A WebSocket echo server on blocking sockets and threads: the smallest whole use of the HTTP/1 and WebSocket machines,
//! and a target for conformance suites. The engine's own examples do the same without a thread per connection.
//!
//! ```text
//! cargo run --release -p annulus-protocols --example blocking_echo -- 127.0.0.1:9001
//! ```

use annulus_protocols::Input;
use annulus_protocols::http1::{self, BodyLength, Exchange, Server, write_response_head};
use annulus_protocols::websocket::handshake::{Upgrade, write_accept};
use annulus_protocols::websocket::{Event, Limits, Role, WebSocket, write_message, write_pong};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

const LIMITS: Limits = Limits::DEFAULT;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("echo on ws://{address}");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("connection ended: {error}");
            }
        });
    }
    Ok(())
}

/// One connection, from the first byte to the last.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut outbox) = (vec![0; 64 << 10], Vec::new());
    let mut server = Server::new();
    let mut websocket = WebSocket::new(Role::Server);
    let mut is_upgraded = false;
    while !websocket.is_closed() {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let mut input = Input::new(&mut buffer[..len]);
        if !is_upgraded {
            match open(&mut server, &mut input, &mut outbox) {
                Opening::NeedMore => continue,
                Opening::Refused => {
                    stream.write_all(&outbox)?;
                    return stream.shutdown(Shutdown::Write);
                }
                Opening::Upgraded => is_upgraded = true,
            }
        }
        echo(&mut websocket, &mut input, &mut outbox);
        stream.write_all(&outbox)?;
        outbox.clear();
    }
    stream.shutdown(Shutdown::Write)
}

enum Opening {
    NeedMore,
    Refused,
    Upgraded,
}

/// The handshake. What follows it in the input already belongs to the WebSocket.
fn open(server: &mut Server, input: &mut Input<'_>, outbox: &mut Vec<u8>) -> Opening {
    let refuse = |outbox: &mut Vec<u8>, status: u16, fields: &[(&str, &str)], why: &str| {
        let length = BodyLength::Known(why.len() as u64);
        let mut body = write_response_head(outbox, &Exchange::REFUSED, status, fields, length);
        body.write_data(outbox, why.as_bytes());
        body.write_end(outbox);
        Opening::Refused
    };
    match server.next_event(&http1::Limits::DEFAULT, 0, input) {
        Err(fault) => refuse(outbox, fault.status(), &[], fault.reason()),
        Ok(http1::Event::Head(head)) => match Upgrade::check(&head) {
            Err(refusal) => refuse(outbox, refusal.status(), refusal.fields(), &refusal.to_string()),
            Ok(upgrade) => {
                write_accept(outbox, &upgrade, None);
                Opening::Upgraded
            }
        },
        Ok(_) => Opening::NeedMore,
    }
}

/// Everything that lies in the input.
fn echo(websocket: &mut WebSocket, input: &mut Input<'_>, outbox: &mut Vec<u8>) {
    loop {
        match websocket.next_event(&LIMITS, 0, input) {
            Ok(Event::NeedMore) => return,
            Ok(Event::Message(message)) => write_message(outbox, message.kind, &message.payload, None),
            Ok(Event::Ping(payload)) => write_pong(outbox, &payload, None),
            Ok(Event::Pong(_)) => {}
            Ok(Event::Close(close)) => {
                websocket.write_close(outbox, close.code, "", None);
            }
            Err(fault) => {
                websocket.write_close(outbox, Some(fault.close_code()), fault.reason(), None);
            }
        }
    }
}
