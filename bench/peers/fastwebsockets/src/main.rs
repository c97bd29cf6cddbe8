//! Peer of annulus-bench: a fair fastwebsockets server on one pinned thread.
//!
//! The upgrade goes through hyper as its documentation shows; afterwards the plain TCP stream is taken back out, so
//! that no boxed stream stands between the library and the socket. Broadcast coalesces: everything queued for a
//! connection is written to one buffer and flushed once.

use fastwebsockets::{FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::io::BufWriter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Bytes gathered before a write to the socket.
const GATHER_BYTES: usize = 64 * 1024;

#[derive(Clone)]
struct Shared {
    kind: OpCode,
    bytes: Bytes,
}

#[derive(Default)]
struct Room {
    next: u64,
    members: HashMap<u64, mpsc::UnboundedSender<Shared>>,
}

async fn echo(ws: WebSocket<TcpStream>) -> Result<(), WebSocketError> {
    let mut ws = FragmentCollector::new(ws);
    loop {
        let frame = ws.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn broadcast(ws: WebSocket<TcpStream>, room: Rc<RefCell<Room>>) -> Result<(), WebSocketError> {
    let (reader, mut writer) = ws.split(|stream| {
        let (read, write) = stream.into_split();
        (read, BufWriter::with_capacity(GATHER_BYTES, write))
    });
    let mut reader = FragmentCollectorRead::new(reader);
    let (sender, mut queue) = mpsc::unbounded_channel::<Shared>();
    let id = {
        let mut room = room.borrow_mut();
        room.next += 1;
        let id = room.next;
        room.members.insert(id, sender);
        id
    };
    tokio::task::spawn_local(async move {
        let mut batch = Vec::with_capacity(256);
        while queue.recv_many(&mut batch, 256).await > 0 {
            for shared in batch.drain(..) {
                let frame = Frame::new(true, shared.kind, None, Payload::Borrowed(&shared.bytes));
                if writer.write_frame(frame).await.is_err() {
                    return;
                }
            }
            if queue.is_empty() && writer.flush().await.is_err() {
                return;
            }
        }
    });
    let result = async {
        loop {
            let frame = reader.read_frame(&mut |_: Frame<'_>| async { Ok::<(), WebSocketError>(()) }).await?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => {
                    let shared = Shared { kind: frame.opcode, bytes: Bytes::copy_from_slice(&frame.payload) };
                    for member in room.borrow().members.values() {
                        let _gone = member.send(shared.clone());
                    }
                }
                _ => {}
            }
        }
    }
    .await;
    room.borrow_mut().members.remove(&id);
    result
}

async fn upgraded(
    mut request: Request<Incoming>,
    room: Option<Rc<RefCell<Room>>>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, pending) = upgrade::upgrade(&mut request)?;
    tokio::task::spawn_local(async move {
        let Ok(ws) = pending.await else { return };
        let Ok(parts) = ws.into_inner().into_inner().downcast::<TokioIo<TcpStream>>() else { return };
        let ws = WebSocket::after_handshake(parts.io.into_inner(), Role::Server);
        let _closed = match room {
            Some(room) => tokio::task::unconstrained(broadcast(ws, room)).await,
            None => tokio::task::unconstrained(echo(ws)).await,
        };
    });
    Ok(response)
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn main() {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let room = (option("--mode", "echo") == "broadcast").then(Rc::default);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(option("--listen", "127.0.0.1:9002")).await.expect("a free address");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _kept = stream.set_nodelay(true);
            let room: Option<Rc<RefCell<Room>>> = room.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(move |request| upgraded(request, room.clone()));
                let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
}
