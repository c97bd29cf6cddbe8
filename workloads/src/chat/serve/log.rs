//! The log's writer and the database's feeder on one of the shards, and their end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::{Group, Inbox, MailboxFull, Shard};

use super::session::Session;
use super::{INBOX, Service};
use crate::chat::letters::Letter;
use crate::chat::log::{Told, Writer, WriterHandle};
use crate::chat::node::Node;
use crate::chat::store::{Feed, Mark};

/// How long a shard waits for the writer to be there.
const LOOK: Duration = Duration::from_millis(1);
/// How long a hub that has no room is left before it is told again.
const RETRY: Duration = Duration::from_millis(5);
/// How long publications that have not settled are waited for at the end.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How long the database may take at the end for what the log has. What it does not take then it gets after the next
/// start.
const FEED_MAX: Duration = Duration::from_secs(10);

/// What a shard has to do with the log.
pub(super) enum Keeper {
    /// Nothing: there is none.
    None,
    /// It hands records over.
    Guest,
    /// The writer runs here.
    Host {
        /// The writer.
        writer: WriterHandle,
        /// The feeder, if there is a database.
        feed: Option<Feed>,
    },
}

/// Starts the writer where it belongs, and waits for it elsewhere.
pub(super) async fn start(shard: &Shard, node: &Arc<Node>) -> Result<Keeper, String> {
    if node.common.log.is_none() {
        return Ok(Keeper::None);
    }
    let Some(opened) = node.take_opened(shard.index()) else {
        while !node.has_writer() {
            if shard.is_draining() {
                return Err("chat: the log's writer has not started".to_owned());
            }
            shard.sleep(LOOK).await;
        }
        return Ok(Keeper::Guest);
    };
    let id = opened.id;
    let mark = Mark::new(opened.next.0);
    let (posts, durable) = (Posts::new(shard), mark.clone());
    let writer = Writer::start(shard, opened, move |to, told| {
        if let Told::Durable { end, .. } = &told {
            durable.advance(end.0);
        }
        posts.tell(to, told);
    });
    let feed = node.take_database().start(shard, node, id, &mark)?;
    node.set_writer(writer.meters.clone());
    Ok(Keeper::Host { writer, feed })
}

/// Tells hubs what the writer says. It must arrive, and in order: it is said once, and somebody waits for it. What a shard
/// that lags has no room for waits here.
struct Posts {
    shard: Shard,
    waiting: Rc<RefCell<Vec<VecDeque<Told>>>>,
}

impl Posts {
    fn new(shard: &Shard) -> Posts {
        let waiting = (0..shard.count()).map(|_| VecDeque::new()).collect();
        Posts { shard: shard.clone(), waiting: Rc::new(RefCell::new(waiting)) }
    }

    fn tell(&self, to: usize, told: Told) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting[to].is_empty() {
            return waiting[to].push_back(told);
        }
        if let Err(MailboxFull(Letter::Log(told))) = self.shard.post(to, INBOX, Letter::Log(told)) {
            waiting[to].push_back(told);
            let (shard, waiting) = (self.shard.clone(), self.waiting.clone());
            drop(self.shard.spawn(async move {
                while !go_on_telling(&shard, to, &mut waiting.borrow_mut()[to]) {
                    shard.sleep(RETRY).await;
                }
            }));
        }
    }
}

/// Posts what waits for a hub, as far as there is room. Whether that was all.
fn go_on_telling(shard: &Shard, to: usize, waiting: &mut VecDeque<Told>) -> bool {
    while let Some(told) = waiting.pop_front() {
        if let Err(MailboxFull(Letter::Log(told))) = shard.post(to, INBOX, Letter::Log(told)) {
            waiting.push_front(told);
            return false;
        }
    }
    true
}

impl Keeper {
    /// The end: what was taken settles, then the log and the database are closed.
    pub(super) async fn finish(
        self,
        shard: &Shard,
        node: &Arc<Node>,
        service: &mut Service,
        group: &mut Group<Session>,
        inbox: &mut Inbox<Letter>,
    ) {
        if matches!(self, Keeper::None) {
            return;
        }
        let patience = shard.now() + SETTLE_MAX;
        let mut has_left = false;
        // Others may still hand over what settles for clients of theirs, so the writer's shard goes last.
        loop {
            if service.hub.pending() == 0 && !service.has_more && !has_left {
                has_left = true;
                node.leave_log();
            }
            let is_over = matches!(self, Keeper::Guest) || node.is_log_left(shard.count());
            if has_left && is_over || shard.now() >= patience {
                break;
            }
            let _letter = shard.timeout(LOOK, std::future::poll_fn(|cx| inbox.poll_recv(cx))).await.map(|letter| {
                service.on_letter(group, letter);
            });
            service.turn(group, inbox);
        }
        let Keeper::Host { writer, feed } = self else { return };
        writer.finish().await;
        if let Some(feed) = feed {
            let _stopped = feed.stop(FEED_MAX).await;
        }
        node.close_log();
    }
}
