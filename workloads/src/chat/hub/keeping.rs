//! What is forgotten in time, what checkpoints say, and an earlier life out of the log.

use std::collections::HashMap;
use std::sync::Arc;

use annulus_protocols::centrifuge::ErrorCode;

use super::{Hub, Intent, Ports, owner};
use crate::chat::config::{Ack, Config};
use crate::chat::kept::{Place, content_of, with_publication};
use crate::chat::letters::{Answer, Asker, Key};
use crate::chat::log::{self, Record};
use crate::chat::sanctions::{Kind, Sanction, Sanctions};
use crate::chat::seal::Sealer;
use crate::chat::session::ChannelSlot;
use crate::chat::stream::{Epoch, Stored, Stream};

/// Channels that are looked at in one round, at least; all of them in some twenty-five rounds.
const CHANNELS_PER_ROUND: ChannelSlot = 256;
/// Rounds in which all channels are looked at.
const ROUNDS: ChannelSlot = 25;
/// Bytes of a checkpoint that one step adds. The shard does other things between two.
const CHECKPOINT_STEP_BYTES: usize = 64 << 10;
/// Publications of one channel that are looked at in a step, at most.
const PART_MAX: usize = 256;
/// Bytes that may wait for the log's writer before a checkpoint adds to them: publications have the rest.
const CHECKPOINT_WAITING_MAX: u64 = 1 << 20;

/// Where the rounds of keeping are.
#[derive(Default)]
pub(super) struct Round {
    at: ChannelSlot,
    checkpoint: Option<Checkpoint>,
}

/// A checkpoint under way.
struct Checkpoint {
    number: u64,
    at: ChannelSlot,
    /// Of the channel at hand, up to where its history is told.
    part: Option<(Arc<str>, u64)>,
    /// Keys whose publications may have left the history, once all channels are told of.
    keys: Option<Vec<KnownKey>>,
    /// Publications on their way to the broker, likewise.
    intents: Option<Vec<u64>>,
    /// What is forbidden to users of whom the log hears from this shard, likewise.
    sanctions: Option<Vec<Sanction>>,
}

type KnownKey = (Key, Arc<str>, u64, Epoch, u64);

impl Hub {
    /// Forgets what is too old, a part of it with each call; tells who came and went. To be called five times a second.
    pub fn tick(&mut self, ports: &mut impl Ports, now: u64) {
        self.tell_waiting_moves(ports);
        self.tick_shared(ports, now);
        self.keys.expire(now);
        self.sanctions.expire(now / 1000);
        let rate = self.common.config.rates.publishes;
        self.publishers.retain(|_, bucket| !bucket.is_full(rate, now));
        let slots = self.channels.slots();
        for _ in 0..slots.min(CHANNELS_PER_ROUND.max(slots / ROUNDS)) {
            let slot = self.round.at % slots;
            self.round.at = slot + 1;
            self.expire(slot, now);
        }
    }

    fn expire(&mut self, slot: ChannelSlot, now: u64) {
        let channels = &self.common.config.channels;
        let Some(channel) = self.channels.get(slot) else { return };
        let ttl = channels.namespace(&channel.name).map_or(0, |namespace| namespace.history_ttl_ms);
        if let Some(stream) = &mut channel.stream {
            stream.expire(now, ttl);
            self.release(slot, now);
        }
    }

    /// Forgets a channel's history; its numbers go on. Where the log keeps it, whoever asked is told once that is durable:
    /// what was said to be gone must not come back.
    pub(super) fn clear(&mut self, ports: &mut impl Ports, asker: Asker, channel: &str) {
        let common = self.common.clone();
        let Some((_, namespace)) = common.namespace(channel) else {
            return self.tell(ports, asker, channel, Answer::Refused(ErrorCode::UNKNOWN_CHANNEL));
        };
        if !namespace.has_history() {
            return self.tell(ports, asker, channel, Answer::Refused(ErrorCode::NOT_AVAILABLE));
        }
        let stream = self.channels.find(channel).and_then(|slot| self.channels.at(slot).stream.as_ref());
        let Some(stream) = stream else { return self.tell(ports, asker, channel, Answer::Cleared(None)) };
        let (upto, epoch) = (stream.settled(), stream.epoch);
        let cleared = Answer::Cleared(Some((upto, epoch)));
        let is_logged = common.log.is_some() && namespace.ack(&common.config) > Ack::Mem;
        let record = match is_logged {
            false => Ok(None),
            true if self.has_log_failed() => Err(ErrorCode::INTERNAL),
            true => {
                let record = Record::Cleared(log::Cleared { channel, epoch, upto });
                self.log.write(&record).map(Some).map_err(|_| ErrorCode::INTERNAL)
            }
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => return self.tell(ports, asker, channel, Answer::Refused(error)),
        };
        let slot = self.channels.open(channel);
        self.channels.stream(slot, || epoch).clear(upto);
        match record {
            None => self.tell(ports, asker, channel, cleared),
            Some(record) => self.clearing.push_back((record, asker, channel.into(), cleared)),
        }
    }

    /// Removes one publication; its place stays. Who asked is told as with [`Hub::clear`].
    pub(super) fn remove_publication(
        &mut self,
        ports: &mut impl Ports,
        asker: Asker,
        channel: &str,
        offset: u64,
        epoch: &str,
    ) {
        let outcome = self.begin_to_remove(channel, offset, epoch);
        match outcome {
            Ok((None, removed)) => self.tell(ports, asker, channel, Answer::Removed(removed)),
            Ok((Some(record), removed)) => {
                self.clearing.push_back((record, asker, channel.into(), Answer::Removed(removed)));
            }
            Err(error) => self.tell(ports, asker, channel, Answer::Refused(error)),
        }
    }

    /// Takes it out of memory, and gives the log a record of that, if there is a log.
    fn begin_to_remove(
        &mut self,
        channel: &str,
        offset: u64,
        epoch: &str,
    ) -> Result<(Option<u64>, Option<Epoch>), ErrorCode> {
        let common = self.common.clone();
        let (_, namespace) = common.namespace(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
        if !namespace.has_history() {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        let stream = self.channels.find(channel).and_then(|slot| self.channels.at(slot).stream.as_ref());
        let Some(stream) = stream else { return Ok((None, None)) };
        if !epoch.is_empty() && epoch != stream.epoch() {
            return Err(ErrorCode::UNRECOVERABLE_POSITION);
        }
        if offset == 0 || offset > stream.settled() {
            // Nobody was told of such a number.
            return Err(ErrorCode::BAD_REQUEST);
        }
        let epoch = stream.epoch;
        let record = match common.log.is_some() && namespace.ack(&common.config) > Ack::Mem {
            false => None,
            true if self.has_log_failed() => return Err(ErrorCode::INTERNAL),
            true => {
                let record = Record::Removed(log::Removed { channel, epoch, offset });
                Some(self.log.write(&record).map_err(|_| ErrorCode::INTERNAL)?)
            }
        };
        let slot = self.channels.open(channel);
        self.counts.removed += u64::from(self.channels.at(slot).remove(offset));
        Ok((record, Some(epoch)))
    }

    /// The log has everything up to that record: what was cleared there is gone for good.
    pub(super) fn cleared(&mut self, ports: &mut impl Ports, last: u64) {
        while let Some((_, asker, channel, cleared)) = self.clearing.pop_front_if(|(record, ..)| *record <= last) {
            self.tell(ports, asker, &channel, cleared);
        }
    }

    /// The log wants to know everything again.
    pub(super) fn begin_checkpoint(&mut self, number: u64) {
        self.round.checkpoint =
            Some(Checkpoint { number, at: 0, part: None, keys: None, intents: None, sanctions: None });
    }

    /// Goes on with a checkpoint, for a bounded time. Whether there is more to be done at once: while the writer has enough,
    /// it is gone on with when that is told, or with a tick.
    pub fn go_on_with_checkpoint(&mut self, now: u64) -> bool {
        let waiting = self.common.log.as_ref().map_or(0, |state| state.waiting_bytes());
        if waiting > CHECKPOINT_WAITING_MAX {
            return false;
        }
        let Some(mut checkpoint) = self.round.checkpoint.take() else { return false };
        let enough = self.log.bytes() + CHECKPOINT_STEP_BYTES;
        while self.log.bytes() < enough {
            if checkpoint.at < self.channels.slots() {
                if self.tell_channel(&mut checkpoint, now, enough) {
                    checkpoint.at += 1;
                    checkpoint.part = None;
                }
                continue;
            }
            if let Some(id) = checkpoint.intents.get_or_insert_with(|| self.shared.flights.open()).pop() {
                self.tell_intent(id);
                continue;
            }
            if let Some(sanction) = checkpoint.sanctions.get_or_insert_with(|| self.own_sanctions()).pop() {
                // It may have been changed or lifted since the list was made, and the log has that already.
                if let Some(until) = self.sanctions.end_of(&sanction) {
                    self.tell_log(&Record::Sanction(state_of(&Sanction { until, ..sanction })));
                }
                continue;
            }
            let keys = checkpoint.keys.get_or_insert_with(|| self.keys.all().collect());
            match keys.pop() {
                Some(key) => self.tell_key(key),
                None => {
                    let (shard, shards) = (self.shard as u32, self.shards as u32);
                    self.tell_log(&Record::CheckpointEnd { number: checkpoint.number, shard, shards });
                    return false;
                }
            }
        }
        self.round.checkpoint = Some(checkpoint);
        true
    }

    /// Adds a record of a checkpoint. All of them were short enough once.
    fn tell_log(&mut self, record: &Record<'_>) {
        if let Err(error) = self.log.write(record) {
            crate::warn!("chat: a checkpoint leaves a {} out: {error}", record.name());
        }
    }

    /// Tells of the channel at hand, and of its history until the hand-over has `enough` bytes. Whether that was all of it.
    fn tell_channel(&mut self, checkpoint: &mut Checkpoint, now: u64, enough: usize) -> bool {
        let common = self.common.clone();
        let Some(channel) = self.channels.get(checkpoint.at) else { return true };
        let Some((_, namespace)) = common.namespace(&channel.name) else { return true };
        let meta_ttl = namespace.history_meta_ttl_ms.unwrap_or(common.config.channels.history_meta_ttl_ms);
        let Some(stream) = channel.stream.as_ref().filter(|stream| stream.top() > 0) else { return true };
        if namespace.is_shared(&common.config) {
            // The broker has it; here is a copy.
            return true;
        }
        if namespace.ack(&common.config) == Ack::Mem || stream.is_forgettable(now, meta_ttl) {
            return true;
        }
        let (name, epoch) = (channel.name.clone(), stream.epoch);
        // Another channel may have come to the slot since the last step.
        let part = checkpoint.part.take().filter(|(channel, _)| *channel == name);
        let after = part.as_ref().map_or(0, |(_, offset)| *offset);
        let kept: Vec<Stored> = stream.all().filter(|stored| stored.offset > after).take(PART_MAX).cloned().collect();
        let is_rest = kept.len() < PART_MAX;
        if part.is_none() {
            let state = log::ChannelState { channel: &name, epoch, top: stream.top(), time_ms: stream.touched_ms };
            let record = Record::Channel(state);
            if let Err(error) = self.log.write(&record) {
                crate::warn!("chat: a checkpoint leaves a {} out: {error}", record.name());
            }
        }
        let sealer = common.sealer.as_deref().filter(|_| namespace.encrypt);
        for Stored { offset, time_ms, content } in kept {
            let place = Place { channel: &name, epoch, offset };
            with_publication(place, time_ms, None, &content, sealer, |publication| {
                self.tell_log(&Record::Kept(publication));
            });
            checkpoint.part = Some((name.clone(), offset));
            if self.log.bytes() >= enough {
                return false;
            }
        }
        is_rest
    }

    fn tell_key(&mut self, (key, channel, offset, epoch, until): KnownKey) {
        let window = self.common.namespace(&channel).map_or(0, |(_, namespace)| namespace.idempotency_window_ms);
        let time_ms = until.saturating_sub(window);
        self.tell_log(&Record::Key(log::KeyState { channel: &channel, key, offset, epoch, time_ms }));
    }

    /// Takes over what an earlier life left. With `doubtful`, the machine went down: what was promised less than the disk
    /// may be gone, and the offsets of such channels begin anew. The log is told so, or the next start would not know.
    pub fn adopt(&mut self, restored: Restored, doubtful: bool) {
        let common = self.common.clone();
        for (name, mut stream) in restored.streams {
            let Some((_, namespace)) = common.namespace(&name) else { continue };
            if namespace.is_shared(&common.config) {
                // From before there was a broker, which numbers now.
                continue;
            }
            if doubtful && namespace.ack(&common.config) == Ack::Page {
                stream = Stream::new(self.draw_epoch());
                let state = log::ChannelState { channel: &name, epoch: stream.epoch, top: 0, time_ms: 0 };
                self.tell_log(&Record::Channel(state));
            }
            stream.trim(namespace.history_size);
            let slot = self.channels.open(&name);
            self.channels.at(slot).stream = Some(Box::new(stream));
        }
        for (key, channel, offset, epoch, time_ms) in restored.keys {
            let window = common.namespace(&channel).map_or(0, |(_, namespace)| namespace.idempotency_window_ms);
            self.keys.insert(key, channel, offset, epoch, time_ms + window);
        }
        self.sanctions = restored.sanctions;
        self.doubt = doubtful.then(|| self.log.last());
    }

    /// Sanctions that this shard tells the log of.
    fn own_sanctions(&self) -> Vec<Sanction> {
        self.sanctions.of(None).filter(|sanction| self.owner(&sanction.user) == self.shard).collect()
    }

    /// Whether what [`Hub::adopt`] found in doubt has just been settled; once.
    pub fn take_settled_doubt(&mut self) -> bool {
        self.doubt.take_if(|record| *record <= self.durable).is_some()
    }
}

/// A sanction as the log has it.
pub(super) fn state_of(sanction: &Sanction) -> log::SanctionState<'_> {
    let Sanction { kind, user, channel, until } = sanction;
    log::SanctionState { is_ban: *kind == Kind::Ban, user, channel, until: *until }
}

/// What a shard finds of its channels in the log.
#[derive(Default)]
pub struct Restored {
    streams: HashMap<Arc<str>, Stream>,
    keys: Vec<KnownKey>,
    /// Of all users: every shard keeps them.
    sanctions: Sanctions,
    /// What was meant for the broker and has no end in the log, by its key.
    intents: HashMap<Key, Intent>,
}

impl Restored {
    /// Channels, publications and keys.
    pub fn counts(&self) -> (usize, usize, usize) {
        let publications = self.streams.values().map(|stream| stream.all().count()).sum();
        (self.streams.len(), publications, self.keys.len())
    }

    /// Takes what was meant for the broker and did not get there, or not back, oldest first.
    pub fn take_intents(&mut self) -> Vec<Intent> {
        let mut intents: Vec<Intent> = self.intents.drain().map(|(_, intent)| intent).collect();
        intents.sort_by_key(|intent| intent.time_ms);
        intents
    }

    fn stream(&mut self, channel: &str, epoch: Epoch) -> &mut Stream {
        if !self.streams.contains_key(channel) {
            self.streams.insert(channel.into(), Stream::new(epoch));
        }
        let stream = self.streams.get_mut(channel).expect("it was just made");
        if stream.epoch != epoch {
            // What comes later in the log is of a later life.
            *stream = Stream::new(epoch);
        }
        stream
    }
}

/// Puts an earlier life together, record by record, for any number of shards.
pub struct Restorer<'c> {
    config: &'c Config,
    sealer: Option<&'c Sealer>,
    shards: Vec<Restored>,
    /// Publications whose payloads could not be decrypted: they are left out of the histories.
    pub unreadable: u64,
}

impl<'c> Restorer<'c> {
    /// For so many shards.
    pub fn new(config: &'c Config, sealer: Option<&'c Sealer>, shards: usize) -> Restorer<'c> {
        let restored = (0..shards).map(|_| Restored::default()).collect();
        Restorer { config, sealer, shards: restored, unreadable: 0 }
    }

    /// Takes the next record.
    pub fn apply(&mut self, record: Record<'_>) {
        match record {
            Record::Publication(publication) => self.restore(&publication),
            Record::Kept(publication) => self.restore(&publication),
            Record::Channel(state) => {
                let stream = self.of(state.channel).stream(state.channel, state.epoch);
                stream.restore_top(state.top);
                stream.touched_ms = stream.touched_ms.max(state.time_ms);
            }
            Record::Cleared(cleared) => {
                self.of(cleared.channel).stream(cleared.channel, cleared.epoch).clear(cleared.upto);
            }
            Record::Removed(removed) => {
                // If it is not there, it has left the history.
                let _was_there = self.of(removed.channel).stream(removed.channel, removed.epoch).remove(removed.offset);
            }
            Record::Sanction(state) => self.restore_sanction(&state),
            Record::Key(state) => {
                let key = (state.key, Arc::from(state.channel), state.offset, state.epoch, state.time_ms);
                self.of(state.channel).keys.push(key);
            }
            Record::Intent(publication) => self.restore_intent(&publication),
            Record::Dropped(dropped) => drop(self.of(dropped.channel).intents.remove(&dropped.key)),
            Record::CheckpointBegin { .. } | Record::CheckpointEnd { .. } => {}
        }
    }

    /// What each shard gets.
    pub fn finish(self) -> Vec<Restored> {
        self.shards
    }

    fn of(&mut self, channel: &str) -> &mut Restored {
        let owner = owner(channel, self.shards.len());
        &mut self.shards[owner]
    }

    fn restore(&mut self, publication: &log::Publication<'_>) {
        let (channel, epoch, offset) = (publication.channel, publication.epoch, publication.offset);
        if let Some(key) = &publication.key {
            self.of(channel).intents.remove(key);
        }
        if self.config.channels.namespace(channel).is_some_and(|namespace| namespace.is_shared(self.config)) {
            return;
        }
        let size = self.config.channels.namespace(channel).map_or(0, |namespace| namespace.history_size);
        let content = content_of(publication, self.sealer);
        self.unreadable += u64::from(content.is_none());
        let restored = self.of(channel);
        if let Some(key) = publication.key {
            restored.keys.push((key, channel.into(), offset, epoch, publication.time_ms));
        }
        let stream = restored.stream(channel, epoch);
        stream.restore_top(offset);
        if let Some(content) = content {
            stream.restore(Stored { offset, time_ms: publication.time_ms, content: Arc::new(content) });
        }
        stream.trim(size);
    }

    fn restore_sanction(&mut self, state: &log::SanctionState<'_>) {
        let kind = if state.is_ban { Kind::Ban } else { Kind::Mute };
        let sanction = Sanction { kind, user: state.user.into(), channel: state.channel.into(), until: state.until };
        self.shards.iter_mut().for_each(|shard| shard.sanctions.put(&sanction));
    }

    fn restore_intent(&mut self, publication: &log::Publication<'_>) {
        let Some(key) = publication.key else { return };
        let content = content_of(publication, self.sealer);
        self.unreadable += u64::from(content.is_none());
        let Some(content) = content.map(Arc::new) else { return };
        let channel: Arc<str> = publication.channel.into();
        let intent = Intent { channel, key, time_ms: publication.time_ms, content };
        self.of(publication.channel).intents.insert(key, intent);
    }
}
