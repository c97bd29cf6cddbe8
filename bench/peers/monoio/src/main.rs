//! Peer of annulus-bench: a fair monoio server on one pinned thread, on its io_uring driver.
//!
//! WebSocket is monoio-tungstenite, written for monoio's owned-buffer I/O; its messages are reference-counted bytes.
//! Broadcast coalesces: everything queued for a connection is encoded into one buffer and written once. The library
//! cannot split a WebSocket, so broadcast splits the TCP stream below it: one WebSocket reads, the other writes.

use local_sync::mpsc::unbounded;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{BufResult, IoUringDriver, RuntimeBuilder};
use monoio_tungstenite::protocol::Role;
use monoio_tungstenite::{Error, Message, WebSocket, accept};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

/// Entries of the submission ring: more than the sockets of any scenario, so that one enter submits them all.
const ENTRIES: u32 = 4096;
/// Messages encoded before a write.
const BATCH: usize = 256;

#[derive(Default)]
struct Room {
    next: u64,
    members: HashMap<u64, unbounded::Tx<Message>>,
}

/// The reading half; what the library would write here (its own pongs) is dropped, since the writer answers pings.
struct Reading(OwnedReadHalf<TcpStream>);

impl AsyncReadRent for Reading {
    async fn read<T: IoBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        self.0.read(buf).await
    }

    async fn readv<T: IoVecBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        self.0.readv(buf).await
    }
}

impl AsyncWriteRent for Reading {
    async fn write<T: IoBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        (Ok(buf.bytes_init()), buf)
    }

    async fn writev<T: IoVecBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writing half; nothing reads from it.
struct Writing(OwnedWriteHalf<TcpStream>);

impl AsyncReadRent for Writing {
    async fn read<T: IoBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }

    async fn readv<T: IoVecBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }
}

impl AsyncWriteRent for Writing {
    async fn write<T: IoBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        self.0.write(buf).await
    }

    async fn writev<T: IoVecBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        self.0.writev(buf).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

async fn echo(mut ws: WebSocket<TcpStream>) -> Result<(), Error> {
    loop {
        let message = ws.read().await?;
        if message.is_text() || message.is_binary() {
            ws.write(message).await?;
            ws.flush().await?;
        }
    }
}

async fn write_all(mut ws: WebSocket<Writing>, mut queue: unbounded::Rx<Message>) -> Result<(), Error> {
    while let Some(first) = queue.recv().await {
        ws.write(first).await?;
        for _ in 1..BATCH {
            let Ok(message) = queue.try_recv() else { break };
            ws.write(message).await?;
        }
        ws.flush().await?;
    }
    Ok(())
}

async fn broadcast(ws: WebSocket<TcpStream>, room: Rc<RefCell<Room>>) -> Result<(), Error> {
    let (reader, writer) = ws.into_inner().into_split();
    let mut reader = WebSocket::from_raw_socket(Reading(reader), Role::Server, None);
    let writer = WebSocket::from_raw_socket(Writing(writer), Role::Server, None);
    let (sender, queue) = unbounded::channel();
    let id = {
        let mut room = room.borrow_mut();
        room.next += 1;
        let id = room.next;
        room.members.insert(id, sender.clone());
        id
    };
    monoio::spawn(async move {
        let _closed = write_all(writer, queue).await;
    });
    let result = async {
        loop {
            match reader.read().await? {
                Message::Ping(data) => {
                    let _gone = sender.send(Message::Pong(data));
                }
                Message::Close(_) => return Ok(()),
                message @ (Message::Text(_) | Message::Binary(_)) => {
                    for member in room.borrow().members.values() {
                        let _gone = member.send(message.clone());
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

async fn serve(stream: TcpStream, room: Option<Rc<RefCell<Room>>>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let ws = accept(stream).await?;
    match room {
        Some(room) => broadcast(ws, room).await,
        None => echo(ws).await,
    }
}

async fn listen(address: String, room: Option<Rc<RefCell<Room>>>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let room = room.clone();
        monoio::spawn(async move {
            let _closed = serve(stream, room).await;
        });
    }
}

fn option(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).find(|pair| pair[0] == name).map_or_else(|| default.to_owned(), |pair| pair[1].clone())
}

fn main() -> ExitCode {
    let core = option("--pin", "0").parse().expect("--pin takes a core number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let room: Option<Rc<RefCell<Room>>> = (option("--mode", "echo") == "broadcast").then(Rc::default);
    let mut ring = io_uring::IoUring::builder();
    // Completions are picked up when this thread enters the kernel, without interrupting it.
    ring.setup_coop_taskrun().setup_single_issuer();
    let runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring).build();
    let result = runtime.and_then(|mut runtime| runtime.block_on(listen(option("--listen", "127.0.0.1:9004"), room)));
    if let Err(error) = result {
        eprintln!("monoio cannot run here: {error} (is io_uring allowed, and ulimit -l large enough?)");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
