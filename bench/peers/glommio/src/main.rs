//! Peer of annulus-bench: a fair glommio server on one pinned thread.
//!
//! glommio has no WebSocket of its own; async-tungstenite speaks it over glommio's streams, and its messages are
//! reference-counted bytes. Broadcast coalesces: everything queued for a connection is fed to its sink, which is
//! flushed once.

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, accept_async_with_config};
use futures_util::{SinkExt, StreamExt};
use glommio::channels::local_channel::{LocalSender, new_unbounded};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};
use std::cell::RefCell;
use std::collections::HashMap;
use std::process::ExitCode;
use std::rc::Rc;

/// Messages fed before a flush.
const BATCH: usize = 256;
/// The library zeroes its read buffer before each read, so its default of 128 KiB would cost more than the read.
const READ_BUFFER_BYTES: usize = 4 << 10;

#[derive(Default)]
struct Room {
    next: u64,
    members: HashMap<u64, LocalSender<Message>>,
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

async fn echo(mut ws: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = ws.next().await.transpose()? {
        if is_data(&message) {
            SinkExt::send(&mut ws, message).await?;
        }
    }
    Ok(())
}

async fn broadcast(ws: WebSocketStream<TcpStream>, room: Rc<RefCell<Room>>) -> Result<(), Error> {
    let (mut writer, mut reader) = StreamExt::split(ws);
    let (sender, queue) = new_unbounded();
    let id = {
        let mut room = room.borrow_mut();
        room.next += 1;
        let id = room.next;
        room.members.insert(id, sender);
        id
    };
    spawn_local(async move {
        let mut batch = queue.stream().ready_chunks(BATCH);
        while let Some(messages) = batch.next().await {
            for message in messages {
                if writer.feed(message).await.is_err() {
                    return;
                }
            }
            if writer.flush().await.is_err() {
                return;
            }
        }
    })
    .detach();
    let result = async {
        while let Some(message) = reader.next().await.transpose()? {
            if is_data(&message) {
                for member in room.borrow().members.values() {
                    let _gone = member.try_send(message.clone());
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
    let _kept = stream.set_nodelay(true);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let ws = accept_async_with_config(stream, Some(config)).await?;
    match room {
        Some(room) => broadcast(ws, room).await,
        None => echo(ws).await,
    }
}

async fn listen(address: String, room: Option<Rc<RefCell<Room>>>) -> glommio::Result<(), ()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let Ok(stream) = listener.accept().await else { continue };
        let room = room.clone();
        spawn_local(async move {
            let _closed = serve(stream, room).await;
        })
        .detach();
    }
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn main() -> ExitCode {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    let room: Option<Rc<RefCell<Room>>> = (option("--mode", "echo") == "broadcast").then(Rc::default);
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core)).make();
    let result = executor.and_then(|executor| executor.run(listen(option("--listen", "127.0.0.1:9005"), room)));
    if let Err(error) = result {
        eprintln!("glommio cannot run here: {error} (it needs io_uring and at least 512 KiB of ulimit -l)");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
