//! What a node asks the others when it comes, or comes back: what they have been told to forbid users meanwhile.
//!
//! Orders are told once, to the nodes that live. So one that starts, or that Redis was away from, asks all others for what is
//! in force there and takes it over; where the two differ the others are right. What was lifted meanwhile stays in force
//! here: who lifted it was told that this node has not confirmed it.

use std::rc::Rc;
use std::sync::Arc;

use annulus_engine::compute::ticket;

use super::captain::Captain;
use super::wire::{Message, Question};
use crate::chat::letters::{Letter, Order, Reply};
use crate::chat::sanctions::Sanction;
use crate::chat::serve;

/// How often the others are asked again, a beat after each other, where not all of them have answered.
pub(super) const TRIES_MAX: u32 = 10;
/// Taken over at once: the log writes so many together.
const AT_ONCE: usize = 256;

impl Captain {
    /// It may be that orders were not heard here.
    pub(super) fn has_missed_orders(&self) {
        self.tries.set(TRIES_MAX);
    }

    /// Asks the others, if there is something to be learnt and somebody to ask.
    pub(super) fn learn_if_need_be(self: &Rc<Self>) {
        let tries = self.tries.get();
        if tries == 0 {
            return;
        }
        if self.roster_len() == 0 {
            // Alone: nobody knows more.
            return self.tries.set(0);
        }
        self.tries.set(tries - 1);
        let captain = self.clone();
        drop(self.shard.spawn(async move {
            if captain.learn().await {
                captain.tries.set(0);
            }
        }));
    }

    /// Whether all is known now.
    async fn learn(&self) -> bool {
        let survey = self.ask_all(Message::Question(Question::Sanctions)).await;
        let sanctions: Vec<Sanction> = survey.found.into_iter().flat_map(|found| found.sanctions).collect();
        let mut is_whole = survey.missing.is_empty();
        for some in sanctions.chunks(AT_ONCE) {
            is_whole &= self.take_over(some).await;
        }
        is_whole
    }

    async fn take_over(&self, sanctions: &[Sanction]) -> bool {
        let mut replies = Vec::new();
        for sanction in sanctions {
            let order = Arc::new(Order::Sanction(sanction.clone()));
            for shard in 0..self.shard.count() {
                let (ticket, reply) = ticket();
                let letter = Letter::Order { order: order.clone(), reply: Reply(ticket) };
                if self.shard.post(shard, serve::INBOX, letter).is_err() {
                    // It lags: with the next beat.
                    return false;
                }
                replies.push(reply);
            }
        }
        let mut all_done = true;
        for reply in replies {
            all_done &= reply.await.is_some_and(|done| done.is_ok());
        }
        all_done
    }
}
