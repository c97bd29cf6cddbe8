//! Redis, as all services here use it: a client of our own on the engine, one connection per shard and purpose.
//!
//! ```text
//!   Redis ─► lane.rs      a connection that is kept, and the calls on it     pipeline.rs   which wait, which are sent
//!            link.rs      name, TCP, TLS, logging in, who the server is      facts.rs      what its word is worth
//!            resp.rs      bytes into replies, with limits                    value.rs      answers
//!            script.rs    Lua by its SHA-1       trouble.rs   was it done?   meters.rs, herald.rs   what is told
//!   Subscriber ─► subscriber.rs   channels on a connection of their own      settings.rs   URLs
//! ```
//!
//! # What holds
//!
//! - **Calls are carried out in the order in which they are made** through one handle, and each is sent once. (Where a cluster
//!   sends a call elsewhere, its place in the order is lost.)
//! - **Who gets no answer learns whether the call may have been carried out** ([`Trouble`]). Nothing is tried again on its own:
//!   only the caller knows whether twice is the same as once.
//! - **Calls never wait for a connection.** Without one they are told at once; `up` waits for it.
//! - Everything that a server or a caller can grow has a limit: replies ([`REPLY_BYTES_MAX`]), calls without answers
//!   ([`CALLS_MAX`], [`CALL_BYTES_MAX`]), messages that nobody takes ([`subscriber`]).
//!
//! A call that waits at the server (`BLOCK`) holds up those behind it, so it needs a handle of its own, with settings whose
//! longest answer ([`Settings::with_answer_max`]) is longer than it waits.

mod facts;
mod herald;
mod lane;
mod link;
mod meters;
mod parts;
mod pipeline;
mod resp;
mod script;
mod settings;
mod subscriber;
mod trouble;
mod value;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use annulus_engine::Shard;

pub use facts::{Durability, ServerFacts};
pub use parts::Parts;
pub use pipeline::{BYTES_MAX as CALL_BYTES_MAX, CALLS_MAX};
pub use resp::REPLY_BYTES_MAX;
pub use script::Script;
pub use settings::{Place, Settings};
pub use subscriber::{Event, Events, Subscriber};
pub use trouble::Trouble;
pub use value::Value;

use self::lane::Lane;
use self::link::Dialer;
use self::meters::Meters;
use self::pipeline::Call;

/// A shard's way to Redis. Clones share one connection; it is closed when the last of them is gone and all calls are answered.
#[derive(Clone)]
pub struct Redis {
    inner: Rc<Inner>,
}

struct Inner {
    lane: Rc<Lane>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lane.give_up();
    }
}

impl Redis {
    /// Begins to connect, and connects again whenever the connection breaks. `purpose` is a word for the log, the metrics, and
    /// the server's `CLIENT LIST`.
    pub fn start(shard: &Shard, settings: &Settings, purpose: &str) -> Redis {
        let dialer = Rc::new(Dialer::new(shard, settings, purpose));
        let meters = Rc::new(Meters::new(shard, purpose));
        let lane = Lane::start(&dialer, &settings.places[0], purpose, &meters);
        Redis { inner: Rc::new(Inner { lane }) }
    }

    /// Makes a call: it is in the queue when this returns, whether or not anybody awaits the answer.
    ///
    /// # Errors
    /// Of the answer: [`Trouble`].
    pub fn call(&self, parts: impl Parts) -> Answer {
        Answer(Coming::Here(self.inner.lane.call(Call::command(parts::write(&parts)))))
    }

    /// Runs a script, which is sent whole to a connection once. It is in the queue when this returns.
    ///
    /// # Errors
    /// Of the answer: [`Trouble`].
    pub fn script(&self, script: &'static Script, keys: &[&[u8]], args: &[&[u8]]) -> Answer {
        Answer(Coming::Here(self.inner.lane.call(Call::script(script, keys, args))))
    }

    /// Sends a message to who is subscribed now. That it was taken does not say that anybody got it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn publish(&self, channel: &[u8], payload: &[u8]) -> Result<(), Trouble> {
        self.call([&b"PUBLISH"[..], channel, payload]).await.map(|_receivers| ())
    }

    /// Whether calls are taken now.
    pub fn is_up(&self) -> bool {
        self.inner.lane.server().is_some()
    }

    /// Waits until calls are taken.
    pub async fn up(&self) {
        self.inner.lane.up().await;
    }

    /// The server that a call about `key` goes to, if there is a connection to it now.
    pub fn server_of(&self, _key: &[u8]) -> Option<Rc<ServerFacts>> {
        self.inner.lane.server()
    }

    /// The server, if there is a connection to it now.
    pub fn server(&self) -> Option<Rc<ServerFacts>> {
        self.inner.lane.server()
    }
}

/// An answer that comes. Dropped, it does not take its call back.
#[must_use = "an answer may be a refusal"]
pub struct Answer(Coming);

enum Coming {
    Here(pipeline::Answer),
}

impl Future for Answer {
    type Output = Result<Value, Trouble>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Coming::Here(answer) => Pin::new(answer).poll(cx),
        }
    }
}
