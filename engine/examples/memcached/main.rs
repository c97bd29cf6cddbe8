//! A cache that memcached's clients talk to: its text protocol's `get`, `gets`, `set`, `add`, `replace`, `cas`, `delete`,
//! `incr`, `decr`, `touch`, `flush_all`, `version`, `verbosity` and `quit`, without slabs, `stats` and the meta commands.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example memcached -- 127.0.0.1:11211
//!   printf 'set a 0 0 5\r\nhello\r\nget a\r\nquit\r\n' | nc 127.0.0.1 11211
//!
//!   connection ─► text.rs ─► whose key is it? ─► here: store.rs
//!                                             └► post to its shard ─► store.rs there ─► ticket ─► back
//! ```
//!
//! Every key belongs to one shard, which alone knows it: no locks, and a connection on any shard reaches all keys. A value
//! is copied once, when it comes in; what leaves is a frame around the very bytes in the store, whoever's store it is.

#[path = "../common/mod.rs"]
mod common;
mod store;
mod text;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::OnceLock;

use annulus_engine::compute::{Ticket, ticket};
use annulus_engine::{Engine, Frame, Listener, Shard, Stream};
use store::{Change, Outcome, Store};
use text::{Command, Parsed};
pub use text::{KEY_BYTES_MAX, LINE_BYTES_MAX};

/// What the items of a shard may take in bytes.
const STORE_BYTES_MAX: usize = 64 << 20;
const INBOX: &str = "changes";

#[allow(dead_code)] // Its tests have a main of their own.
fn main() -> ExitCode {
    common::serve_on(Engine::builder(), "127.0.0.1:11211", serve)
}

/// Something that is asked of the shard that has the key.
struct Errand {
    key: Vec<u8>,
    change: Change,
    reply: Ticket<Outcome>,
}

/// What the connections of a shard share.
struct Cache {
    shard: Shard,
    store: RefCell<Store>,
}

/// Serves until the engine drains.
pub async fn serve(shard: Shard, listener: Listener) {
    let cache = Rc::new(Cache { shard: shard.clone(), store: RefCell::new(Store::new(STORE_BYTES_MAX)) });
    let (own, mut inbox) = (cache.clone(), shard.inbox::<Errand>(INBOX));
    drop(shard.spawn(async move {
        loop {
            let Errand { key, change, reply } = inbox.recv().await;
            reply.answer(own.store.borrow_mut().apply(&key, change));
        }
    }));
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        let cache = cache.clone();
        drop(shard.spawn(async move { cache.shard.until_drained(cache.converse(stream)).await }));
    }
}

impl Cache {
    async fn converse(&self, mut stream: Stream) -> io::Result<()> {
        let mut received = Vec::new();
        while let Some(chunk) = stream.recv().await? {
            received.extend_from_slice(&chunk);
            let mut used = 0;
            loop {
                match text::parse(&received[used..]) {
                    Parsed::NeedMore => break,
                    Parsed::Command { command, length } => {
                        used += length;
                        if matches!(command, Command::Quit) {
                            return stream.flush().await;
                        }
                        self.obey(command, &mut stream).await?;
                    }
                    Parsed::Refused { answer, length } => {
                        used += length;
                        stream.send_copy(&[answer.as_bytes()]).await?;
                    }
                    Parsed::Lost { answer } => {
                        stream.send_copy(&[answer.as_bytes()]).await?;
                        return stream.flush().await;
                    }
                }
            }
            received.drain(..used);
        }
        Ok(())
    }

    async fn obey(&self, command: Command, stream: &mut Stream) -> io::Result<()> {
        match command {
            Command::Get { keys, with_unique } => {
                for key in keys {
                    match self.ask(key.clone(), Change::Look).await {
                        Outcome::Found { flags, unique, value } => {
                            let unique = if with_unique { format!(" {unique}") } else { String::new() };
                            let head = format!(" {flags} {}{unique}\r\n", value.len());
                            stream.send_copy(&[b"VALUE ", &key, head.as_bytes()]).await?;
                            // An empty value has no frame to send.
                            if !value.is_empty() {
                                stream.send(&Frame::shared(value)).await?;
                            }
                            stream.send_copy(&[b"\r\n"]).await?;
                        }
                        Outcome::Refused(why) => return stream.send_copy(&[why.as_bytes()]).await,
                        _ => {}
                    }
                }
                stream.send_copy(&[b"END\r\n"]).await
            }
            Command::Change { key, change, quiet } => {
                let answer = match self.ask(key, change).await {
                    Outcome::Number(number) => format!("{number}\r\n"),
                    Outcome::Said(words) | Outcome::Refused(words) => words.to_owned(),
                    Outcome::Found { .. } => unreachable!("a change finds nothing"),
                };
                if quiet { Ok(()) } else { stream.send_copy(&[answer.as_bytes()]).await }
            }
            Command::FlushAll { quiet } => {
                for shard in 0..self.shard.count() {
                    if let Outcome::Refused(why) = self.ask_at(shard, Vec::new(), Change::Flush).await {
                        return stream.send_copy(&[why.as_bytes()]).await;
                    }
                }
                if quiet { Ok(()) } else { stream.send_copy(&[b"OK\r\n"]).await }
            }
            Command::Version => {
                stream.send_copy(&[b"VERSION annulus ", env!("CARGO_PKG_VERSION").as_bytes(), b"\r\n"]).await
            }
            Command::Verbosity { quiet } => {
                if quiet {
                    Ok(())
                } else {
                    stream.send_copy(&[b"OK\r\n"]).await
                }
            }
            Command::Quit => Ok(()),
        }
    }

    /// Asks the shard that has the key.
    async fn ask(&self, key: Vec<u8>, change: Change) -> Outcome {
        // The same on every shard, and not to be guessed by who would fill one of them.
        static SEED: OnceLock<RandomState> = OnceLock::new();
        let owner = SEED.get_or_init(RandomState::new).hash_one(&key) as usize % self.shard.count();
        self.ask_at(owner, key, change).await
    }

    async fn ask_at(&self, owner: usize, key: Vec<u8>, change: Change) -> Outcome {
        if owner == self.shard.index() {
            return self.store.borrow_mut().apply(&key, change);
        }
        let (reply, answer) = ticket();
        match self.shard.post(owner, INBOX, Errand { key, change, reply }) {
            // The ticket is lost when that shard ends, which ours then does, too.
            Ok(()) => answer.await.unwrap_or(Outcome::Refused("SERVER_ERROR shutting down\r\n")),
            Err(_) => Outcome::Refused("SERVER_ERROR too busy\r\n"),
        }
    }
}
