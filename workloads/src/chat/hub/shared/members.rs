//! Who becomes a member of a shared channel, and what of the past they are given.

use std::sync::Arc;

use annulus_protocols::centrifuge::ErrorCode;

use super::{Attachment, Reading, State, Waiting};
use crate::chat::broker::{Failure, From, Page};
use crate::chat::config::RecoveryMode;
use crate::chat::hub::{Hub, Ports};
use crate::chat::kept::content_of;
use crate::chat::letters::{Answer, Asker, Join};
use crate::chat::log::Publication;
use crate::chat::stream::{Content, Stored};

impl Hub {
    /// The owner's side: somebody wants to become a member.
    pub(in crate::chat::hub) fn join_shared(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        shard: usize,
        channel: &str,
        join: Join,
    ) {
        if self.common.namespace(channel).is_none() {
            return self.tell(ports, asker, channel, Answer::NotJoined(ErrorCode::UNKNOWN_CHANNEL));
        }
        let channel = self.attach(ports, channel);
        let waiting = Waiting { asker, shard, join, since: now };
        let (is_up, is_shared) = (self.shared.is_up, self.is_shared(&channel));
        let attachment = self.shared.attached.get_mut(&channel).expect("it was just attached");
        attachment.idle_since = None;
        match attachment.state {
            State::Live => self.join_live(ports, now, &channel, waiting),
            _ if is_up => {
                attachment.waiting.push(waiting);
                self.shared.late.push_back((now, channel));
            }
            // Those who are here hear each other all the same.
            _ if !is_shared => self.join_live(ports, now, &channel, waiting),
            _ => self.tell(ports, waiting.asker, &channel, Answer::NotJoined(ErrorCode::INTERNAL)),
        }
    }

    /// Those who waited for a channel become members.
    pub(super) fn let_in(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>) {
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        for waiting in std::mem::take(&mut attachment.waiting) {
            self.join_live(ports, now, channel, waiting);
        }
    }

    /// A member comes to a channel whose copy is live.
    fn join_live(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>, waiting: Waiting) {
        match self.lacks(channel, &waiting.join) {
            Some((from, limit)) => {
                self.ask_broker(ports, channel, from, limit, Reading::Join(channel.clone(), waiting));
            }
            None => {
                let answer = self.join(ports, now, waiting.shard, channel, waiting.join, None);
                self.tell(ports, waiting.asker, channel, answer);
            }
        }
    }

    /// What a member wants that the copy does not have and the broker may.
    fn lacks(&mut self, channel: &str, join: &Join) -> Option<(From, usize)> {
        let common = self.common.clone();
        let namespace = common.config.channels.namespace(channel).filter(|it| it.is_shared(&common.config))?;
        let (offset, epoch) = join.since.as_ref()?;
        let slot = self.channels.open(channel);
        let stream = self.channels.at(slot).stream.as_ref()?;
        let (most, settled) = (common.config.client.recovery_max, stream.settled());
        if !epoch.is_empty() && epoch != stream.epoch() && namespace.recovery_mode == RecoveryMode::Stream {
            return None;
        }
        match namespace.recovery_mode {
            RecoveryMode::Stream => {
                let is_here = *offset >= settled || stream.missed(*offset, epoch, most).is_some();
                (!is_here && settled - offset <= most as u64).then_some((From::After(*offset), most))
            }
            RecoveryMode::Cache => {
                let has_it = *offset == settled && epoch == stream.epoch();
                (settled > 0 && !has_it && stream.at(settled).is_none()).then_some((From::End, 1))
            }
        }
    }

    /// What was read for somebody who recovers.
    pub(super) fn on_recovered(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        channel: &Arc<str>,
        waiting: Waiting,
        outcome: Result<Page, Failure>,
    ) {
        let (known, _) = self.position(channel);
        let attachment = self.shared.attached.get_mut(channel);
        let page = match (outcome, attachment) {
            (Ok(page), Some(Attachment { state: State::Live, .. })) if page.epoch == known => page,
            (Ok(_), Some(attachment)) => {
                // The channel has another life, or will soon be known to: with the others, once it is read.
                attachment.waiting.push(waiting);
                let is_live = attachment.state == State::Live;
                self.shared.late.push_back((now, channel.clone()));
                if is_live {
                    self.begin_sync(ports, channel);
                }
                return;
            }
            _ => return self.tell(ports, waiting.asker, channel, Answer::NotJoined(ErrorCode::INTERNAL)),
        };
        let read = self.stored(now, channel, page);
        let found = self.join_up(channel, &waiting.join, read);
        let answer = self.join(ports, now, waiting.shard, channel, waiting.join, Some(found));
        self.tell(ports, waiting.asker, channel, answer);
    }

    /// What was read and what the copy has, in one piece that ends where the copy does; `None`: there is a gap.
    fn join_up(&mut self, channel: &str, join: &Join, mut read: Vec<Stored>) -> Option<Vec<Stored>> {
        let common = self.common.clone();
        let namespace = common.config.channels.namespace(channel)?;
        let since = join.since.as_ref()?.0;
        let slot = self.channels.open(channel);
        let stream = self.channels.at(slot).stream.as_ref()?;
        if namespace.recovery_mode == RecoveryMode::Cache {
            let latest = stream.latest(None).cloned().or(read.pop());
            return Some(latest.into_iter().collect());
        }
        let (settled, most) = (stream.settled(), common.config.client.recovery_max);
        // What the copy has not heard yet comes as a push.
        read.retain(|stored| stored.offset <= settled);
        let last = read.last().map_or(since, |stored| stored.offset);
        read.extend(stream.missed(last, stream.epoch(), most)?);
        let is_whole = read.iter().zip(since + 1..).all(|(stored, expected)| stored.offset == expected);
        (is_whole && read.len() as u64 == settled - since && read.len() <= most).then_some(read)
    }

    /// Entries as publications, without those that are too old, or that cannot be read.
    pub(super) fn stored(&mut self, now: u64, channel: &str, page: Page) -> Vec<Stored> {
        let common = self.common.clone();
        let ttl_ms = common.config.channels.namespace(channel).map_or(0, |namespace| namespace.history_ttl_ms);
        let mut all = Vec::with_capacity(page.entries.len());
        for (offset, entry) in page.entries {
            if entry.is_empty() {
                all.push(Stored { offset, time_ms: now, content: Arc::new(Content::removed()) });
                continue;
            }
            let read = Publication::of_bytes(&entry)
                .and_then(|read| Some((read.time_ms, content_of(&read, common.sealer.as_deref())?)));
            match read {
                Some((time_ms, _)) if now.saturating_sub(time_ms) > ttl_ms => {}
                Some((time_ms, content)) => all.push(Stored { offset, time_ms, content: Arc::new(content) }),
                None => self.tell_strange(channel, "a publication cannot be read: is its encryption key known here?"),
            }
        }
        all
    }

    /// The broker is away: who waits for it is refused, and tries again.
    pub(super) fn refuse_waiting(&mut self, ports: &mut impl Ports, now: u64) {
        let all: Vec<Arc<str>> = self.shared.attached.keys().cloned().collect();
        for channel in all {
            let is_shared = self.is_shared(&channel);
            let Some(attachment) = self.shared.attached.get_mut(&channel) else { continue };
            for waiting in std::mem::take(&mut attachment.waiting) {
                match is_shared {
                    true => self.tell(ports, waiting.asker, &channel, Answer::NotJoined(ErrorCode::INTERNAL)),
                    false => self.join_live(ports, now, &channel, waiting),
                }
            }
        }
    }
}
