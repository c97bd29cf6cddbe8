//! What the backend is still told at the end: that the last clients went, and which channels they left behind.

use std::future::poll_fn;
use std::time::Duration;

use annulus_engine::{Group, Inbox};

use super::Service;
use super::session::Session;
use crate::chat::letters::Letter;

/// How long the backend is given at the end, once nothing more comes.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// The longest pause between two looks at what is left.
const LOOK: Duration = Duration::from_millis(5);

impl Service {
    /// Tells the rest, once the clients of all shards are gone: a channel's owner may be the last to hear of it.
    pub(super) async fn tell_the_rest(&mut self, group: &mut Group<Session>, inbox: &mut Inbox<Letter>) {
        let Some(sender) = self.works.events.clone() else { return };
        let shard = self.sockets.shard.clone();
        // Clients of other shards may take as long to go as they are given.
        let farewell_max = Duration::from_millis(self.node.common.config.shutdown_ms_max);
        let mut patience = shard.now() + farewell_max + FINISH_MAX;
        let mut are_all_gone = false;
        sender.hurry();
        self.turn(group, inbox);
        self.node.count_farewell();
        loop {
            // In this order: what a shard's clients have left was posted before that shard said so.
            if !are_all_gone && self.node.have_all_said_farewell(shard.count()) {
                are_all_gone = true;
                patience = patience.min(shard.now() + FINISH_MAX);
            }
            while let Some(letter) = inbox.try_recv() {
                self.on_letter(group, letter);
            }
            self.turn(group, inbox);
            if are_all_gone && sender.is_done() || shard.now() >= patience {
                break;
            }
            let _letter = shard.timeout(LOOK, poll_fn(|cx| inbox.poll_recv(cx))).await.map(|letter| {
                self.on_letter(group, letter);
            });
        }
        if !are_all_gone {
            crate::warn!(
                "chat: events: shard {} waits no longer for clients of others: what they leave behind may not be told",
                shard.index()
            );
        }
    }

    /// Gives up what the backend has not taken, once nothing more is put into the queue.
    pub(super) fn give_up_events(&self) {
        if let Some(sender) = &self.works.events {
            sender.give_up();
        }
    }
}
