//! Redis, as all services here use it: a client of our own on the engine, one connection per shard and purpose.
//!
//! ```text
//!   Redis ─► lane.rs      a connection that is kept, and the calls on it     pipeline.rs   which wait, which are sent
//!            link.rs      name, TCP, TLS, logging in, who the server is      facts.rs      what its word is worth
//!            cluster.rs   the owner of each key, and topology.rs, who that is
//!            resp.rs      bytes into replies, with limits                    value.rs      answers
//!            script.rs    Lua by its SHA-1       trouble.rs   was it done?   meters.rs, herald.rs   what is told
//!   Subscriber ─► subscriber.rs   channels on connections of their own, ear.rs       settings.rs   URLs
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
//!   ([`CALLS_MAX`], [`CALL_BYTES_MAX`]), messages that nobody takes (`subscriber.rs`).
//!
//! A call that waits at the server (`BLOCK`) holds up those behind it, so it needs a handle of its own, with settings whose
//! longest answer ([`Settings::with_answer_max`]) is longer than it waits.

mod cluster;
mod ear;
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
mod topology;
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

use self::cluster::Cluster;
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
    route: Route,
}

enum Route {
    One(Rc<Lane>),
    Cluster(Rc<Cluster>),
}

impl Drop for Inner {
    fn drop(&mut self) {
        match &self.route {
            Route::One(lane) => lane.give_up(),
            Route::Cluster(cluster) => cluster.give_up(),
        }
    }
}

impl Redis {
    /// Begins to connect, and connects again whenever the connection breaks. `purpose` is a word for the log, the metrics, and
    /// the server's `CLIENT LIST`.
    pub fn start(shard: &Shard, settings: &Settings, purpose: &str) -> Redis {
        let dialer = Rc::new(Dialer::new(shard, settings, purpose));
        let meters = Rc::new(Meters::new(shard, purpose));
        let route = match settings.is_cluster {
            false => Route::One(Lane::start(&dialer, &settings.places[0], purpose, &meters, &Rc::default(), None)),
            true => Route::Cluster(Cluster::start(&dialer, purpose, &meters)),
        };
        Redis { inner: Rc::new(Inner { route }) }
    }

    /// Makes a call: it is in the queue when this returns, whether or not anybody awaits the answer. In a cluster it goes to
    /// the owner of its first key; what has no key (`PING`, `SCRIPT FLUSH`) goes to any one node.
    ///
    /// # Errors
    /// Of the answer: [`Trouble`].
    pub fn call(&self, parts: impl Parts) -> Answer {
        let call = Call::command(parts::write(&parts));
        Answer(match &self.inner.route {
            Route::One(lane) => lane.call(call),
            Route::Cluster(cluster) => cluster.call(cluster::key_of(&parts), call),
        })
    }

    /// Runs a script, which is sent whole to a connection once. It is in the queue when this returns. In a cluster all keys
    /// have to be in one slot: give them the same `{tag}`.
    ///
    /// # Errors
    /// Of the answer: [`Trouble`].
    pub fn script(&self, script: &'static Script, keys: &[&[u8]], args: &[&[u8]]) -> Answer {
        let call = Call::script(script, keys, args);
        Answer(match &self.inner.route {
            Route::One(lane) => lane.call(call),
            Route::Cluster(cluster) => cluster.call(keys.first().copied(), call),
        })
    }

    /// Sends a message to who is subscribed now. That it was taken does not say that anybody got it. In a cluster it is
    /// published at the channel's owner only (`SPUBLISH`), which is where a [`Subscriber`] listens; a script that publishes
    /// itself has to do the same there.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn publish(&self, channel: &[u8], payload: &[u8]) -> Result<(), Trouble> {
        let command: &[u8] = if self.is_cluster() { b"SPUBLISH" } else { b"PUBLISH" };
        self.call([command, channel, payload]).await.map(|_receivers| ())
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.route, Route::Cluster(_))
    }

    /// Whether calls are taken now; in a cluster, calls about any key.
    pub fn is_up(&self) -> bool {
        match &self.inner.route {
            Route::One(lane) => lane.server().is_some(),
            Route::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Waits until calls are taken; in a cluster, calls about any key.
    pub async fn up(&self) {
        match &self.inner.route {
            Route::One(lane) => lane.up().await,
            Route::Cluster(cluster) => cluster.up().await,
        }
    }

    /// The server that a call about `key` goes to, if there is a connection to it now.
    pub fn server_of(&self, key: &[u8]) -> Option<Rc<ServerFacts>> {
        match &self.inner.route {
            Route::One(lane) => lane.server(),
            Route::Cluster(cluster) => cluster.server_of(key),
        }
    }

    /// The server, if there is a connection to it now; in a cluster, one of them.
    pub fn server(&self) -> Option<Rc<ServerFacts>> {
        match &self.inner.route {
            Route::One(lane) => lane.server(),
            Route::Cluster(cluster) => cluster.server(),
        }
    }
}

/// An answer that comes. Dropped, it does not take its call back.
#[must_use = "an answer may be a refusal"]
pub struct Answer(pipeline::Answer);

impl Future for Answer {
    type Output = Result<Value, Trouble>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
