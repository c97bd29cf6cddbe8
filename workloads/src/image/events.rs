//! Jobs' changes as server-sent events (HTML standard, section 9.2).
//!
//! ```text
//!   id: 3                          the document's revision, for Last-Event-ID; not where several jobs are followed
//!   event: leased                  the job's state
//!   data: {"id": ...}              the whole document
//!
//!   : still here                   a comment now and then, so that nobody in between takes the silence for the end
//! ```
//!
//! The stream ends when every job has ended, when the client leaves, and when the server stops; a client that comes back
//! gets what it has not seen, because documents are whole.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Gauge;

use super::api::{Api, name_of, told};
use super::job::{Document, JobId, Tenant};
use super::queue::{Answer, Queue, QueueError};
use crate::serve::reply::Local;
use crate::serve::{Pieces, Reply, ReplyBody};

/// Jobs that one stream follows. Beyond: 400.
pub const FOLLOWED_MAX: usize = 100;
/// Silence before a comment.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 2000;

/// A job, and the revision that its follower knows.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// Which.
    pub id: JobId,
    /// What came after this is told.
    pub seen: u64,
}

/// The answer that follows these jobs.
pub(super) fn stream(api: &Api, tenant: &Tenant, followed: Vec<Followed>) -> Reply {
    let with_ids = followed.len() == 1;
    let gauge = api.meters.event_streams.clone();
    gauge.add(1);
    let pieces = Events {
        shard: api.shard.clone(),
        queue: api.desk.queue.clone(),
        tenant: tenant.clone(),
        followed: followed.into_iter().map(|job| (job, None)).collect(),
        ready: VecDeque::from([format!("retry: {RETRY_MS}\n\n").into_bytes()]),
        with_ids,
        _counted: Rc::new(Counted(gauge)),
    };
    let fields = vec![
        ("content-type", "text/event-stream".to_owned()),
        ("cache-control", "no-store".to_owned()),
        // Proxies of nginx's kind collect answers otherwise.
        ("x-accel-buffering", "no".to_owned()),
    ];
    Reply { status: 200, fields, body: ReplyBody::Streamed { len: None, pieces: Box::new(pieces) } }
}

struct Events {
    shard: Shard,
    queue: Arc<dyn Queue>,
    tenant: Tenant,
    /// Jobs that have not ended, each with the answer that is waited for.
    followed: Vec<(Followed, Option<Answer<Option<Document>>>)>,
    ready: VecDeque<Vec<u8>>,
    with_ids: bool,
    _counted: Rc<Counted>,
}

/// A stream that is open.
struct Counted(Arc<Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl Pieces for Events {
    fn next(&mut self) -> Local<'_, io::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            loop {
                if let Some(event) = self.ready.pop_front() {
                    return Ok(Some(event));
                }
                if self.followed.is_empty() {
                    return Ok(None);
                }
                let shard = self.shard.clone();
                match shard.until_drained(shard.timeout(HEARTBEAT, self.change())).await {
                    // The server stops: a client comes back to the next one.
                    None => return Ok(None),
                    Some(Err(_silence)) => return Ok(Some(b": still here\n\n".to_vec())),
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => return Err(io::Error::other(error)),
                }
            }
        })
    }
}

impl Events {
    /// Waits until at least one job has changed.
    async fn change(&mut self) -> Result<(), QueueError> {
        std::future::poll_fn(|cx| {
            let mut at = 0;
            while at < self.followed.len() {
                let (job, waiting) = &mut self.followed[at];
                let answer = waiting.get_or_insert_with(|| self.queue.follow(&self.tenant, job.id, job.seen));
                let Poll::Ready(answer) = Pin::new(answer).poll(cx) else {
                    at += 1;
                    continue;
                };
                *waiting = None;
                match answer {
                    Err(error) => return Poll::Ready(Err(error)),
                    // Nobody's job, or another tenant's, or forgotten meanwhile.
                    Ok(None) => {
                        self.ready.push_back(format!("event: gone\ndata: {{\"id\":\"{}\"}}\n\n", job.id).into_bytes());
                        self.followed.swap_remove(at);
                    }
                    Ok(Some(document)) => {
                        job.seen = document.revision;
                        self.ready.push_back(event(&document, self.with_ids));
                        match document.state.is_final() {
                            true => drop(self.followed.swap_remove(at)),
                            // Asked again at once, so that its next change wakes us.
                            false => continue,
                        }
                    }
                }
            }
            if self.ready.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }
}

fn event(document: &Document, with_id: bool) -> Vec<u8> {
    let mut event = String::new();
    if with_id {
        event += &format!("id: {}\n", document.revision);
    }
    // A document has no line end outside of its texts, where JSON writes them as \n.
    event += &format!("event: {}\ndata: {}\n\n", name_of(document.state), told(document));
    event.into_bytes()
}
