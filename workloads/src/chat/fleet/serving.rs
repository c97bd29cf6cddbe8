//! What other nodes ask and order, carried out on all shards of this one.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use annulus_engine::compute::ticket;

use super::captain::Captain;
use super::wire::{Found, Head, Message, Question};
use crate::chat::evidence::Present;
use crate::chat::letters::{Letter, Order, Reply};
use crate::chat::serve;

/// Questions and orders of other nodes that are seen to at once. Beyond, who asks is told so.
const SERVING_MAX: usize = 1024;

/// Something that is being seen to, counted out also when it ends by a panic.
struct Serving(Rc<Captain>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.set(self.0.serving.get() - 1);
    }
}

impl Captain {
    fn begin(self: &Rc<Self>, head: Head) -> Option<Serving> {
        if self.serving.get() >= SERVING_MAX {
            self.answer(head, Message::Busy);
            return None;
        }
        self.serving.set(self.serving.get() + 1);
        Some(Serving(self.clone()))
    }

    pub(super) fn serve_question(self: &Rc<Self>, head: Head, question: Question) {
        let Some(serving) = self.begin(head) else { return };
        drop(self.shard.spawn(async move {
            let found = serving.0.find(&question).await;
            serving.0.answer(head, found.map_or(Message::Busy, Message::Found));
        }));
    }

    async fn find(&self, question: &Question) -> Option<Found> {
        match question {
            Question::Presence { channel, most } => {
                let channel: Arc<str> = channel.as_str().into();
                let most = *most as usize;
                let of_shards = self.each_shard(|reply| Letter::Who { channel: channel.clone(), most, reply }).await?;
                let present: Vec<Present> = of_shards.into_iter().flatten().collect();
                Some(match most {
                    0 => Found { counted: counted(&present), ..Found::default() },
                    most => Found { present: present.into_iter().take(most).collect(), ..Found::default() },
                })
            }
            Question::Channels { pattern } => {
                let of_shards = self.each_shard(|reply| Letter::Channels { pattern: pattern.clone(), reply }).await?;
                let mut channels: HashMap<Arc<str>, u64> = HashMap::new();
                for (name, members) in of_shards.into_iter().flatten() {
                    *channels.entry(name).or_default() += members as u64;
                }
                Some(Found { channels: channels.into_iter().collect(), ..Found::default() })
            }
            Question::Sanctions => {
                // Every shard has all of them.
                let (ticket, reply) = ticket();
                let letter = Letter::Sanctions { user: String::new(), most: usize::MAX, reply: Reply(ticket) };
                self.shard.post(self.shard.index(), serve::INBOX, letter).ok()?;
                Some(Found { sanctions: reply.await?.0, ..Found::default() })
            }
        }
    }

    pub(super) fn serve_order(self: &Rc<Self>, head: Head, order: Order) {
        let Some(serving) = self.begin(head) else { return };
        drop(self.shard.spawn(async move {
            let order = Arc::new(order);
            let done = serving.0.each_shard(|reply| Letter::Order { order: order.clone(), reply }).await;
            let is_done = done.is_some_and(|shards| shards.iter().all(Result::is_ok));
            serving.0.answer(head, if is_done { Message::Done } else { Message::Busy });
        }));
    }

    /// A client's message came to another node. What is no session of ours has ended, or never was.
    pub(super) fn serve_emulated(&self, session: &str, message: Vec<u8>) {
        let common = &self.node.common;
        let Some(place) = common.sessions.find(session) else { return };
        if message.len() > common.config.message_bytes_max {
            return;
        }
        let letter = Letter::Emulated { conn: place.conn, message };
        // A shard that has no room for it is overloaded: the client's command times out, and it comes again.
        let _full = self.shard.post(place.shard, serve::INBOX, letter);
    }

    /// Asks every shard; `None`: one of them could not be asked.
    async fn each_shard<T: Send + 'static>(&self, letter: impl Fn(Reply<T>) -> Letter) -> Option<Vec<T>> {
        let mut replies = Vec::new();
        for shard in 0..self.shard.count() {
            let (ticket, reply) = ticket();
            self.shard.post(shard, serve::INBOX, letter(Reply(ticket))).ok()?;
            replies.push(reply);
        }
        let mut answers = Vec::new();
        for reply in replies {
            answers.push(reply.await?);
        }
        Some(answers)
    }
}

/// Clients by the hashes of their users, which are the same on every node.
fn counted(present: &[Present]) -> Vec<(u64, u64)> {
    let mut users: HashMap<u64, u64> = HashMap::new();
    for hash in present.iter().filter_map(|one| one.user.parse().ok()) {
        *users.entry(hash).or_default() += 1;
    }
    users.into_iter().collect()
}
