//! Sends back whatever comes: a task for each connection, and every byte in place, from the receive buffer that the kernel
//! filled to the socket.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example echo -- 127.0.0.1:7007
//!   nc 127.0.0.1 7007
//! ```

mod common;

use std::io;
use std::process::ExitCode;

use annulus_engine::{Engine, Listener, Shard, Stream};

#[allow(dead_code)] // Its tests have a main of their own.
fn main() -> ExitCode {
    common::serve_on(Engine::builder(), "127.0.0.1:7007", serve)
}

/// Serves until the engine drains.
pub async fn serve(shard: Shard, listener: Listener) {
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        let own = shard.clone();
        let task = shard.spawn(async move { own.until_drained(echo(stream)).await });
        // It goes on by itself, and a connection that broke concerns nobody else.
        drop(task);
    }
}

async fn echo(mut stream: Stream) -> io::Result<()> {
    while let Some(chunk) = stream.recv().await? {
        stream.send(&chunk.into_frame()).await?;
    }
    Ok(())
}
