//! TLS in front of the group: a task per connection turns records into bytes and back, over a pair of streams.
//!
//! ```text
//!   client ═TLS═ task ── pair ── group
//! ```
//!
//! The group knows nothing of it. The price is one more copy each way, two more descriptors and some tens of KiB per
//! connection: where clients come by the hundred thousand, end TLS in front of annulus instead.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::{Chunk, Listener, Shard, Stream};

use crate::chat::node::Node;

/// How long a client may take for the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Connections that a shard accepts before it pauses; others wait in the listener's queue. A handshake costs a signature, and
/// a crowd must not hold up those who are connected; nor may a crowd that says nothing hold up those who do.
const CROWD: usize = 16;
/// That pause.
const CROWD_PAUSE: Duration = Duration::from_millis(5);
/// How long what other shards have accepted may take to arrive at the end.
const SETTLE_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Waiting {
    streams: RefCell<VecDeque<(Stream, IpAddr)>>,
    waker: Cell<Option<Waker>>,
}

/// Where connections wait for the group that have shaken hands.
#[derive(Default)]
pub(super) struct Doorway {
    waiting: Rc<Waiting>,
    accepting: Option<annulus_engine::JoinHandle<()>>,
}

impl Doorway {
    /// Accepts, shakes hands, and lets in.
    pub(super) fn secure(shard: &Shard, node: &Arc<Node>, listener: Listener) -> Doorway {
        let waiting: Rc<Waiting> = Rc::default();
        let (owned, node, inside) = (shard.clone(), node.clone(), waiting.clone());
        let accepting = shard.spawn(async move {
            let (mut since, mut came) = (owned.now(), 0);
            while let Some(stream) = owned.until_drained(listener.accept()).await {
                came += 1;
                if came > CROWD {
                    if owned.now() - since < CROWD_PAUSE {
                        owned.sleep(CROWD_PAUSE).await;
                    }
                    (since, came) = (owned.now(), 1);
                }
                let task = guard(owned.clone(), node.clone(), stream, inside.clone());
                drop(owned.spawn(task));
            }
            listener.stop();
            while let Ok(Some(stream)) = owned.timeout(SETTLE_MAX, listener.last()).await {
                drop(owned.spawn(guard(owned.clone(), node.clone(), stream, inside.clone())));
            }
        });
        Doorway { waiting, accepting: Some(accepting) }
    }

    /// The next connection, and where it comes from.
    pub(super) fn take(&self) -> Option<(Stream, IpAddr)> {
        self.waiting.streams.borrow_mut().pop_front()
    }

    /// Whether one waits; if not, the task is woken when one does.
    pub(super) fn poll_waiting(&self, cx: &mut Context<'_>) -> bool {
        if self.accepting.is_none() {
            return false;
        }
        self.waiting.waker.set(Some(cx.waker().clone()));
        !self.waiting.streams.borrow().is_empty()
    }
}

/// One connection.
async fn guard(shard: Shard, node: Arc<Node>, stream: Stream, waiting: Rc<Waiting>) {
    let peer = super::address_of(stream.peer().ok());
    let shaken = match node.server_tls() {
        Some(config) => shard.timeout(HANDSHAKE_MAX, TlsStream::accept(stream, config)).await.ok(),
        None => None,
    };
    // A client that cannot agree on anything is told by the end of its connection.
    let Some(Ok(tls)) = shaken else { return };
    let Ok((outside, inside)) = shard.pair() else { return };
    let unknown = IpAddr::from([0, 0, 0, 0]);
    waiting.streams.borrow_mut().push_back((inside, peer.unwrap_or(unknown)));
    if let Some(waker) = waiting.waker.take() {
        waker.wake();
    }
    // Either side may end it; how it ended, the other side sees.
    let _ended = relay(tls, outside).await;
}

/// What came from one of the two.
enum Came {
    Plain(Option<Chunk>),
    Records(Option<Vec<u8>>),
}

/// Moves bytes both ways until one side ends.
async fn relay(mut tls: TlsStream, mut inside: Stream) -> io::Result<()> {
    loop {
        let came = {
            let mut records = std::pin::pin!(tls.recv());
            std::future::poll_fn(|cx| {
                if let Poll::Ready(chunk) = inside.poll_recv(cx) {
                    return Poll::Ready(chunk.map(Came::Plain));
                }
                records.as_mut().poll(cx).map(|bytes| bytes.map(Came::Records))
            })
            .await?
        };
        match came {
            Came::Plain(Some(chunk)) => tls.send(&chunk.into_vec()).await?,
            Came::Records(Some(bytes)) => inside.send_copy(&[&bytes]).await?,
            Came::Plain(None) => return tls.finish().await,
            Came::Records(None) => {
                inside.finish().await?;
                // What the service still says to it is the answer to its farewell.
                while let Some(chunk) = inside.recv().await? {
                    tls.send(&chunk.into_vec()).await?;
                }
                return tls.finish().await;
            }
        }
    }
}
