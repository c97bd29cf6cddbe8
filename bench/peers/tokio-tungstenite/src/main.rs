//! Peer of annulus-bench: a fair tokio-tungstenite server on one pinned thread.
//!
//! Messages are reference-counted bytes in this library, so echo and broadcast hand them on without a copy of ours.
//! Broadcast coalesces: everything queued for a connection is fed to its sink, which is flushed once.

use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

/// Messages taken from a queue at a time.
const BATCH: usize = 256;
/// The library zeroes its read buffer before each read, so its default of 128 KiB would cost more than the read.
const READ_BUFFER_BYTES: usize = 4 << 10;

#[derive(Default)]
struct Room {
    next: u64,
    members: HashMap<u64, mpsc::UnboundedSender<Message>>,
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

async fn echo(mut ws: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = ws.next().await.transpose()? {
        if is_data(&message) {
            ws.send(message).await?;
        }
    }
    Ok(())
}

async fn broadcast(ws: WebSocketStream<TcpStream>, room: Rc<RefCell<Room>>) -> Result<(), Error> {
    let (mut writer, mut reader) = ws.split();
    let (sender, mut queue) = mpsc::unbounded_channel();
    let id = {
        let mut room = room.borrow_mut();
        room.next += 1;
        let id = room.next;
        room.members.insert(id, sender);
        id
    };
    tokio::task::spawn_local(tokio::task::unconstrained(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            for message in batch.drain(..) {
                if writer.feed(message).await.is_err() {
                    return;
                }
            }
            if queue.is_empty() && writer.flush().await.is_err() {
                return;
            }
        }
    }));
    let result = async {
        while let Some(message) = reader.next().await.transpose()? {
            if is_data(&message) {
                for member in room.borrow().members.values() {
                    let _gone = member.send(message.clone());
                }
            }
        }
        Ok(())
    }
    .await;
    room.borrow_mut().members.remove(&id);
    result
}

async fn serve(stream: TcpStream, room: Option<Rc<RefCell<Room>>>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let ws = accept_async_with_config(stream, Some(config)).await?;
    match room {
        Some(room) => broadcast(ws, room).await,
        None => echo(ws).await,
    }
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn main() {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let room: Option<Rc<RefCell<Room>>> = (option("--mode", "echo") == "broadcast").then(Rc::default);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(option("--listen", "127.0.0.1:9003")).await.expect("a free address");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let room = room.clone();
            tokio::task::spawn_local(tokio::task::unconstrained(async move {
                let _closed = serve(stream, room).await;
            }));
        }
    });
}
