//! Publications are checked, numbered, logged, and settled.
//!
//! ```text
//!   client's shard: may it? does the payload fit? ─► owner: known key? ─► number ─► log ─┐
//!                                                                                         ▼
//!   reply, fan-out ◄── settle ◄── in order, when the namespace's promise holds ◄── Told::Written | Durable, stored
//! ```

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use annulus_engine::trace::{Stage, Trace};
use annulus_protocols::centrifuge::{Codec, ErrorCode, Payload, write_rpc};
use annulus_protocols::json::{Kind, Value, validate};

use super::deliver::FAN_OUTS_MAX;
use super::{Hub, Ports, Step, Turn, UNANSWERED_MAX};
use crate::chat::config::{Ack, DataFormat, Namespace};
use crate::chat::evidence::Checked;
use crate::chat::hooks::wire::{self, Question};
use crate::chat::hooks::{self, Verdict};
use crate::chat::kept::{Place, with_publication};
use crate::chat::letters::{Answer, Ask, Asker, Key, Publish, Work};
use crate::chat::log::{self, Told};
use crate::chat::rules;
use crate::chat::sanctions::Kind as Forbidden;
use crate::chat::session::{ChannelSlot, Waits};
use crate::chat::stream::{Content, Epoch, epoch_text};

/// Publications of one shard that have not settled. Beyond, error 111: the disk does not keep up.
pub const UNSETTLED_MAX: usize = 65_536;
/// Their bytes.
pub const UNSETTLED_BYTES_MAX: usize = 64 << 20;
/// Idempotency keys that one shard remembers. Beyond, the oldest are forgotten before their time.
pub const KEYS_MAX: usize = 1 << 20;
/// Bytes of a payload that is checked against its schema in the shard's turn. A longer one goes to a compute thread.
pub const CHECK_INLINE_BYTES: usize = 512;

/// A publication that has its number and not yet its promise.
struct Unsettled {
    /// The last of the shard's records that it needs.
    record: u64,
    slot: ChannelSlot,
    offset: u64,
    /// When it got its number, by [`Ports::clock_us`].
    numbered_us: u64,
    content: Arc<Content>,
    /// Who is to be told: one, and whoever repeated it meanwhile.
    askers: Vec<Asker>,
}

/// Publications that have not settled, by what they wait for, oldest first.
#[derive(Default)]
pub(super) struct Pending {
    page: VecDeque<Unsettled>,
    wal: VecDeque<Unsettled>,
    db: VecDeque<Unsettled>,
    /// In the log, and waiting for the database to reach this place of it.
    stored: VecDeque<(u64, Unsettled)>,
    bytes: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.page.len() + self.wal.len() + self.db.len() + self.stored.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= UNSETTLED_MAX || self.bytes >= UNSETTLED_BYTES_MAX
    }

    fn push(&mut self, ack: Ack, unsettled: Unsettled) {
        self.bytes += unsettled.content.data.len();
        match ack {
            Ack::Mem | Ack::Page => self.page.push_back(unsettled),
            // Of the broker there is none here: what it numbers does not come this way.
            Ack::Wal | Ack::Redis => self.wal.push_back(unsettled),
            Ack::Db => self.db.push_back(unsettled),
        }
    }

    /// The one of that number, for somebody else who wants to be told of it.
    fn find(&mut self, slot: ChannelSlot, offset: u64) -> Option<&mut Unsettled> {
        let stored = self.stored.iter_mut().map(|(_, unsettled)| unsettled);
        let mut all = self.page.iter_mut().chain(&mut self.wal).chain(&mut self.db).chain(stored);
        all.find(|unsettled| unsettled.slot == slot && unsettled.offset == offset)
    }
}

/// What a client may publish.
#[derive(Default)]
struct Permitted<'d> {
    data: Cow<'d, [u8]>,
    binary: bool,
    skip_history: bool,
    tags: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    key: String,
}

/// The next of a queue, if it needs no record behind `last`.
fn settled_by(queue: &mut VecDeque<Unsettled>, last: u64) -> Option<Unsettled> {
    queue.pop_front_if(|first| first.record <= last)
}

/// A shard's records on their way to the log.
#[derive(Default)]
pub(super) struct LogEnd {
    bytes: Vec<u8>,
    last: u64,
    /// Some of them promise that they are written, and no more.
    has_page: bool,
    has_failed: bool,
}

impl LogEnd {
    /// Adds a record; its number on this shard.
    pub(super) fn write(&mut self, record: &log::Record<'_>) -> Result<u64, log::RecordTooLong> {
        log::write_record(&mut self.bytes, record)?;
        self.last += 1;
        Ok(self.last)
    }

    /// Whoever waits for the last record is told when it is written, before it is on stable storage.
    pub(super) fn promise_written(&mut self) {
        self.has_page = true;
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Bytes that are not handed over yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What was published with a key.
struct Known {
    payload: u64,
    channel: Arc<str>,
    offset: u64,
    epoch: Epoch,
    until: u64,
}

/// The idempotency keys that a shard remembers.
#[derive(Default)]
pub(super) struct Keys {
    known: HashMap<[u8; 16], Known>,
    /// Oldest first, roughly: namespaces may remember for different times.
    ends: VecDeque<(u64, [u8; 16])>,
}

impl Keys {
    /// Remembers a key until a time.
    pub(super) fn insert(&mut self, key: Key, channel: Arc<str>, offset: u64, epoch: Epoch, until: u64) {
        if self.ends.len() >= KEYS_MAX
            && let Some((end, oldest)) = self.ends.pop_front()
        {
            // Unless it was published anew since: then another end is that key's.
            if self.known.get(&oldest).is_some_and(|known| known.until == end) {
                self.known.remove(&oldest);
            }
        }
        self.ends.push_back((until, key.digest));
        self.known.insert(key.digest, Known { payload: key.payload, channel, offset, epoch, until });
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some((_, digest)) = self.ends.pop_front_if(|(until, _)| *until <= now) {
            if self.known.get(&digest).is_some_and(|known| known.until <= now) {
                self.known.remove(&digest);
            }
        }
    }

    /// All keys: with what was published, where, and until when each is remembered.
    pub(super) fn all(&self) -> impl Iterator<Item = (Key, Arc<str>, u64, Epoch, u64)> {
        self.known.iter().map(|(digest, known)| {
            let key = Key { digest: *digest, payload: known.payload };
            (key, known.channel.clone(), known.offset, known.epoch, known.until)
        })
    }
}

/// The key of a publication: the same for the same key of the same user in the same channel.
pub fn key_of(channel: &str, user: &str, key: &[u8], data: &[u8]) -> Key {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [channel.as_bytes(), user.as_bytes(), key] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let payload = ring::digest::digest(&ring::digest::SHA256, data);
    Key {
        digest: digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"),
        payload: u64::from_le_bytes(payload.as_ref()[..8].try_into().expect("SHA-256 has 32 bytes")),
    }
}

/// The text, number or truth value at `path` (names with dots between) of a JSON object, as it is written.
fn field_at<'a>(data: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut value = Value::of(data);
    for name in path.split('.') {
        value = value.members()?.find(|(member, _)| *member == *name)?.1;
    }
    (!value.is_null() && value.members().is_none()).then(|| value.raw())
}

/// What a payload is, if its namespace takes it.
fn check_format(codec: Codec, data: Option<&[u8]>, format: DataFormat) -> Result<(&[u8], bool), ErrorCode> {
    let kind = match (codec, data) {
        (_, None) if format == DataFormat::Binary => return Ok((&[], true)),
        (_, None) => return Err(ErrorCode::BAD_REQUEST),
        (Codec::Json, Some(data)) => Ok(Value::of(data).kind()),
        (Codec::Protobuf, Some(data)) => validate(data),
    };
    match (kind, format) {
        (Ok(Kind::Object), _) | (Ok(_), DataFormat::Any | DataFormat::Json | DataFormat::Binary) => {
            Ok((data.unwrap_or_default(), false))
        }
        (Err(_), DataFormat::Binary) => Ok((data.unwrap_or_default(), true)),
        (Ok(_) | Err(_), _) => Err(ErrorCode::BAD_REQUEST),
    }
}

impl Hub {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_, impl Ports>, channel: &str, data: Option<&[u8]>) -> Step {
        let common = self.common.clone();
        if let Err(error) = self.namespace_for(turn.client, channel) {
            return turn.refuse(error);
        }
        let Some((at, namespace)) = common.namespace(channel) else {
            return turn.refuse(ErrorCode::UNKNOWN_CHANNEL);
        };
        match turn.evidence.trace.is_chosen() {
            true => turn.ports.woke(&mut turn.evidence.trace),
            false => turn.evidence.trace = turn.ports.take_trace(),
        }
        if turn.client.unanswered >= UNANSWERED_MAX {
            turn.evidence.trace.mark(Stage::Work);
            return Step::Again(Waits::Room);
        }
        for kind in [Forbidden::Mute, Forbidden::Ban] {
            if let Some(error) = self.forbidden(turn.now, kind, turn.client, channel) {
                return turn.refuse(error);
            }
        }
        let is_new = turn.evidence.hook.is_none() && turn.evidence.checked.is_none();
        if is_new && !(self.may_publish_now(turn) && common.quotas[at].publish(turn.now)) {
            return turn.refuse(ErrorCode::TOO_MANY_REQUESTS);
        }
        let (data, binary) = match check_format(turn.codec(), data, namespace.publication_data_format) {
            Ok(checked) => checked,
            Err(error) => return turn.refuse(error),
        };
        let permitted = match self.permit(turn, namespace, channel, data, binary) {
            Ok(permitted) => permitted,
            Err(step) => return step,
        };
        let Permitted { data, binary, skip_history, tags, key } = permitted;
        if let Some(step) = self.check_payload(turn, at, &data) {
            return step;
        }
        let user = self.users.name(turn.client.user);
        let field = namespace.idempotency_field.as_deref().filter(|_| !binary);
        let key = match key.is_empty() {
            true => field.and_then(|path| field_at(&data, path)),
            false => Some(key.as_bytes()),
        };
        let key = key.map(|key| key_of(channel, user, key, &data));
        let author = self.author(turn.client, self.channels.find(channel));
        let content = Content { data: data.into(), binary, author: Some(author), tags };
        let publish = Publish { content: Arc::new(content), key, skip_history };
        turn.client.unanswered += 1;
        // Replies written so far must not be overtaken by the publication.
        turn.flush();
        let trace = std::mem::take(&mut turn.evidence.trace);
        let asker = Asker::Client { shard: self.shard, conn: turn.conn, id: turn.id, trace };
        self.ask(turn.ports, turn.now, asker, channel, Ask::Publish(publish));
        Step::Replied
    }

    /// Whether the user's allowance has a publication left.
    fn may_publish_now<P>(&mut self, turn: &Turn<'_, P>) -> bool {
        let rate = self.common.config.rates.publishes;
        let anonymous = turn.client.user == crate::chat::users::ANONYMOUS;
        let who = match anonymous {
            true => turn.conn.to_bits() | 1 << 63,
            false => u64::from(turn.client.user),
        };
        !rate.is_on() || self.publishers.entry(who).or_default().take(rate, turn.now)
    }

    /// Whether the client may publish; with what, if the backend changes it.
    fn permit<'d>(
        &mut self,
        turn: &mut Turn<'_, impl Ports>,
        namespace: &Namespace,
        channel: &str,
        data: &'d [u8],
        binary: bool,
    ) -> Result<Permitted<'d>, Step> {
        let Some(hook) = &namespace.publish_hook else {
            return match rules::may_publish(namespace, &self.asking(turn.client, channel)) {
                true => Ok(Permitted { data: Cow::Borrowed(data), binary, ..Permitted::default() }),
                false => Err(turn.refuse(ErrorCode::PERMISSION_DENIED)),
            };
        };
        let Some(answer) = turn.evidence.hook.clone() else {
            return Err(self.ask_backend(turn, hook, &Question::Publish { channel, data }));
        };
        let verdict = self.verdict(turn.ports, (hooks::Kind::Publish, hook), &answer, wire::read_publish);
        match verdict {
            Verdict::Error(refusal) => Err(turn.refuse(refusal.into())),
            Verdict::Disconnect(close) => Err(Step::Close(close.into())),
            Verdict::Result(published) => {
                let published = published.unwrap_or_default();
                let (data, binary) = match published.data {
                    Some(data) => (Cow::Owned(data.bytes.into_owned()), data.kind.is_none()),
                    None => (Cow::Borrowed(data), binary),
                };
                let tags = published.tags.into_iter();
                let tags = tags.map(|(name, value)| (name.into_owned().into(), value.into_owned().into()));
                let (skip_history, key) = (published.skip_history, published.idempotency_key.into_owned());
                Ok(Permitted { data, binary, skip_history, tags: tags.collect(), key })
            }
        }
    }

    /// Whether the payload fits its namespace's schema; `None`: it does.
    fn check_payload(&mut self, turn: &mut Turn<'_, impl Ports>, namespace: usize, data: &[u8]) -> Option<Step> {
        let common = self.common.clone();
        let schema = common.schemas[namespace].as_ref()?;
        let checked = match turn.evidence.checked.take() {
            Some(checked) => checked,
            None if data.len() > CHECK_INLINE_BYTES => {
                return Some(turn.work(Work::Check { namespace, data: data.to_vec() }));
            }
            None => Checked::of(schema.check(data)),
        };
        match checked {
            Checked::Fits => None,
            Checked::Misfits(_) => Some(turn.refuse(ErrorCode::BAD_REQUEST)),
            Checked::Busy => Some(turn.refuse(ErrorCode::TOO_MANY_REQUESTS)),
        }
    }

    /// The owner's side: gives a publication its number, and to the log what its namespace promises.
    pub(super) fn number(&mut self, ports: &mut impl Ports, now: u64, asker: Asker, channel: &str, publish: Publish) {
        let common = self.common.clone();
        let Some((_, namespace)) = common.namespace(channel) else {
            return self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::UNKNOWN_CHANNEL));
        };
        if namespace.is_shared(&common.config) && !publish.skip_history {
            return self.publish_shared(ports, now, asker, channel, publish);
        }
        let (slot, epoch) = (self.channels.open(channel), self.draw_epoch());
        self.channels.stream(slot, || epoch);
        if publish.skip_history {
            return self.say(ports, now, asker, slot, publish.content);
        }
        let asker = match publish.key {
            Some(key) => match self.repeat(ports, now, asker, channel, key) {
                Some(asker) => asker,
                None => return,
            },
            None => asker,
        };
        let ack = match &common.log {
            Some(_) => namespace.ack(&common.config),
            None => Ack::Mem,
        };
        if let Err(error) = self.may_log(ack) {
            self.release(slot, now);
            return self.tell(ports, asker, channel, Answer::NotPublished(error));
        }
        let stream = self.channels.stream(slot, || epoch);
        stream.expire(now, namespace.history_ttl_ms);
        let (offset, epoch) = (stream.number(now, publish.content.clone()), stream.epoch);
        let content = publish.content;
        let record = match ack {
            Ack::Mem => Ok(0),
            _ => self.record(now, namespace, channel, epoch, offset, publish.key, &content),
        };
        // Synced at that level, too, for the database and a loss of power; the reply does not wait for it.
        self.log.has_page |= ack == Ack::Page;
        let Ok(record) = record else {
            // Longer than the log's records may be: it was never published.
            self.channels.stream(slot, || epoch).withdraw();
            self.release(slot, now);
            return self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::LIMIT_EXCEEDED));
        };
        self.counts.publications += 1;
        if let Some(key) = publish.key {
            let (name, until) = (self.channels.at(slot).name.clone(), now + namespace.idempotency_window_ms);
            self.keys.insert(key, name, offset, epoch, until);
        }
        let numbered_us = ports.clock_us();
        let mut asker = asker;
        asker.mark(Stage::Work);
        let unsettled = Unsettled { record, slot, offset, numbered_us, content, askers: vec![asker] };
        match ack {
            Ack::Mem => self.settle(ports, now, unsettled),
            _ => self.pending.push(ack, unsettled),
        }
    }

    /// A publication for those who are here now.
    fn say(&mut self, ports: &mut impl Ports, now: u64, asker: Asker, slot: ChannelSlot, content: Arc<Content>) {
        let channel = self.channels.at(slot).name.clone();
        self.counts.publications += 1;
        let numbered_us = ports.clock_us();
        self.fan_out_publication(ports, slot, 0, numbered_us, &content, asker.trace());
        self.say_elsewhere(ports, now, &channel, &content);
        self.release(slot, now);
        self.tell(ports, asker, &channel, Answer::Published { offset: 0, epoch: String::new() });
    }

    /// If a key is known, answers as when it was new; otherwise gives the asker back.
    fn repeat(&mut self, ports: &mut impl Ports, now: u64, asker: Asker, channel: &str, key: Key) -> Option<Asker> {
        self.keys.expire(now);
        // One whose time is over may still be here, behind one that is remembered for longer.
        let known = self.keys.known.get(&key.digest).filter(|known| known.until > now);
        let Some(known) = known else { return Some(asker) };
        let (offset, epoch) = (known.offset, known.epoch);
        if known.payload != key.payload {
            self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::BAD_REQUEST));
            return None;
        }
        self.counts.repeated += 1;
        let slot = self.channels.open(channel);
        let is_unsettled = self.channels.stream(slot, || epoch).is_unsettled(&epoch, offset);
        match self.pending.find(slot, offset).filter(|_| is_unsettled) {
            Some(unsettled) => unsettled.askers.push(asker),
            // It was on its way to the log when that failed: nobody knows whether it is there.
            None if is_unsettled => self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::INTERNAL)),
            None => {
                let namespace = self.common.config.channels.namespace(channel);
                let answer = match namespace.is_some_and(Namespace::has_history) {
                    true => Answer::Published { offset, epoch: epoch_text(&epoch).to_owned() },
                    false => Answer::Published { offset: 0, epoch: String::new() },
                };
                self.tell(ports, asker, channel, answer);
            }
        }
        None
    }

    pub(super) fn has_log_failed(&self) -> bool {
        self.log.has_failed || self.common.log.as_ref().is_some_and(|state| state.failure().is_some())
    }

    /// Whether rooms and the log take a publication.
    pub(super) fn may_log(&self, ack: Ack) -> Result<(), ErrorCode> {
        if self.common.fan_outs.load(Ordering::Relaxed) >= FAN_OUTS_MAX {
            return Err(ErrorCode::TOO_MANY_REQUESTS);
        }
        let Some(state) = self.common.log.as_ref().filter(|_| ack > Ack::Mem) else { return Ok(()) };
        if self.has_log_failed() {
            return Err(ErrorCode::INTERNAL);
        }
        match state.is_full() || self.pending.is_full() {
            true => Err(ErrorCode::TOO_MANY_REQUESTS),
            false => Ok(()),
        }
    }

    #[allow(clippy::too_many_arguments)] // A record's parts.
    fn record(
        &mut self,
        now: u64,
        namespace: &Namespace,
        channel: &str,
        epoch: Epoch,
        offset: u64,
        key: Option<Key>,
        content: &Content,
    ) -> Result<u64, log::RecordTooLong> {
        let sealer = self.common.sealer.clone().filter(|_| namespace.encrypt);
        let place = Place { channel, epoch, offset };
        with_publication(place, now, key, content, sealer.as_deref(), |publication| {
            self.log.write(&log::Record::Publication(publication))
        })
    }

    /// A publication's promise holds: it may be seen, goes to everybody, and its publisher is told.
    fn settle(&mut self, ports: &mut impl Ports, now: u64, unsettled: Unsettled) {
        let Unsettled { slot, offset, numbered_us, content, mut askers, .. } = unsettled;
        let first = askers.first_mut();
        let trace = first.map_or(Trace::NONE, |asker| {
            if let Asker::Client { trace, .. } = asker {
                ports.woke(trace);
            }
            asker.trace()
        });
        let channel = self.channels.at(slot).name.clone();
        let common = self.common.clone();
        let history = common.config.channels.namespace(&channel).filter(|namespace| namespace.has_history());
        let size = history.map_or(0, |namespace| namespace.history_size);
        let stream = self.channels.stream(slot, || *b"none");
        stream.settle(offset, size);
        let told = if history.is_some() { offset } else { 0 };
        let epoch = if history.is_some() { stream.epoch().to_owned() } else { String::new() };
        self.fan_out_publication(ports, slot, told, numbered_us, &content, trace);
        self.say_elsewhere(ports, now, &channel, &content);
        self.release(slot, now);
        for asker in askers {
            self.tell(ports, asker, &channel, Answer::Published { offset: told, epoch: epoch.clone() });
        }
    }

    fn settle_pending(&mut self, ports: &mut impl Ports, now: u64, unsettled: Unsettled) {
        self.pending.bytes -= unsettled.content.data.len();
        self.settle(ports, now, unsettled);
    }

    /// Hears from the log's writer.
    pub(super) fn on_log(&mut self, ports: &mut impl Ports, now: u64, told: Told) {
        match told {
            Told::Written { last, .. } => {
                while let Some(unsettled) = settled_by(&mut self.pending.page, last) {
                    self.settle_pending(ports, now, unsettled);
                }
                self.flights_written(ports, last);
            }
            Told::Durable { last, end } => {
                self.durable = last;
                self.cleared(ports, last);
                self.sanctioned(last);
                self.flights_durable(ports, last, end.0);
                while let Some(unsettled) = settled_by(&mut self.pending.page, last) {
                    self.settle_pending(ports, now, unsettled);
                }
                while let Some(unsettled) = settled_by(&mut self.pending.wal, last) {
                    self.settle_pending(ports, now, unsettled);
                }
                while let Some(unsettled) = settled_by(&mut self.pending.db, last) {
                    self.pending.stored.push_back((end.0, unsettled));
                }
            }
            Told::Checkpoint { number } => self.begin_checkpoint(number),
            Told::Failed(_) => self.fail(ports),
        }
    }

    /// Hears that the database has everything up to a place of the log.
    pub(super) fn on_stored(&mut self, ports: &mut impl Ports, now: u64, lsn: u64) {
        while let Some((_, unsettled)) = self.pending.stored.pop_front_if(|(end, _)| *end <= lsn) {
            self.settle_pending(ports, now, unsettled);
        }
        self.flights_stored(ports, lsn);
    }

    /// The log is lost: what had no promise yet will not get one, and nothing is published any more.
    fn fail(&mut self, ports: &mut impl Ports) {
        self.log.has_failed = true;
        for (_, asker, channel, _) in std::mem::take(&mut self.clearing) {
            self.tell(ports, asker, &channel, Answer::Refused(ErrorCode::INTERNAL));
        }
        self.sanctions_failed();
        self.flights_failed(ports);
        // What is in the log already still gets to the database.
        let Pending { page, wal, db, .. } = &mut self.pending;
        let lost: Vec<Unsettled> = page.drain(..).chain(wal.drain(..)).chain(db.drain(..)).collect();
        for unsettled in lost {
            self.pending.bytes -= unsettled.content.data.len();
            let channel = self.channels.at(unsettled.slot).name.clone();
            for asker in unsettled.askers {
                self.tell(ports, asker, &channel, Answer::NotPublished(ErrorCode::INTERNAL));
            }
        }
    }

    /// The shard's records for the log since the last call, if there are any.
    pub fn take_append(&mut self) -> Option<log::Append> {
        if self.log.bytes.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.log.bytes);
        let tells_written = std::mem::take(&mut self.log.has_page);
        Some(log::Append { shard: self.shard, last: self.log.last, sync: true, tells_written, bytes })
    }

    /// Takes back what could not be handed over.
    pub fn give_append_back(&mut self, mut append: log::Append) {
        append.bytes.append(&mut self.log.bytes);
        self.log.bytes = append.bytes;
        self.log.has_page |= append.tells_written;
    }

    pub(super) fn rpc(&mut self, turn: &mut Turn<'_, impl Ports>, method: &str, data: Option<&[u8]>) -> Step {
        let common = self.common.clone();
        let configured = &common.config.hooks;
        let Some(hook) = configured.name_of_method(method) else {
            let offers_some = configured.rpc.is_some() || !configured.rpc_namespaces.is_empty();
            return turn.refuse(if offers_some { ErrorCode::METHOD_NOT_FOUND } else { ErrorCode::NOT_AVAILABLE });
        };
        let Some(answer) = turn.evidence.hook.take() else {
            return self.ask_backend(turn, hook, &Question::Rpc { method, data: data.unwrap_or_default() });
        };
        let verdict = self.verdict(turn.ports, (hooks::Kind::Rpc, hook), &answer, wire::read_rpc);
        match verdict {
            Verdict::Error(refusal) => turn.refuse(refusal.into()),
            Verdict::Disconnect(close) => Step::Close(close.into()),
            Verdict::Result(returned) => {
                let data = returned.and_then(|returned| returned.data);
                write_rpc(turn.codec(), turn.out, turn.id, data.as_ref().map(|data| Payload::of(&data.bytes)));
                Step::Replied
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_path() {
        let data = br#"{"id":"a1","meta":{"id":7,"x":{}},"n":null}"#;
        assert_eq!(field_at(data, "id"), Some(&b"\"a1\""[..]));
        assert_eq!(field_at(data, "meta.id"), Some(&b"7"[..]));
        for absent in ["n", "meta", "meta.x", "id.a", "other", ""] {
            assert_eq!(field_at(data, absent), None, "{absent}");
        }
        assert_eq!(field_at(b"[1]", "id"), None);
    }

    #[test]
    fn keys_differ_by_channel_user_and_key_and_not_by_where_they_are_cut() {
        let key = key_of("a", "u", b"k", b"1");
        assert_eq!(key, key_of("a", "u", b"k", b"1"));
        for other in [key_of("b", "u", b"k", b"1"), key_of("a", "uk", b"", b"1"), key_of("a", "", b"uk", b"1")] {
            assert_ne!(other.digest, key.digest);
        }
        let changed = key_of("a", "u", b"k", b"2");
        assert!(changed.digest == key.digest && changed.payload != key.payload);
    }

    #[test]
    fn keys_are_forgotten_in_time_and_beyond_their_number() {
        let mut keys = Keys::default();
        let key = |n: u8| Key { digest: [n; 16], payload: 0 };
        keys.insert(key(1), "a".into(), 1, *b"abcd", 100);
        keys.insert(key(2), "a".into(), 2, *b"abcd", 200);
        keys.expire(100);
        assert_eq!(keys.all().map(|(_, _, offset, ..)| offset).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn payloads_are_what_their_namespace_takes() {
        let json = |data: &'static [u8], format| check_format(Codec::Json, Some(data), format);
        let protobuf = |data: &'static [u8], format| check_format(Codec::Protobuf, Some(data), format);
        assert_eq!(json(b"1", DataFormat::Any), Ok((&b"1"[..], false)));
        assert!(json(b"1", DataFormat::JsonObject).is_err() && json(b"{}", DataFormat::JsonObject).is_ok());
        assert_eq!(protobuf(b"{}", DataFormat::Any), Ok((&b"{}"[..], false)));
        assert!(protobuf(b"\xff", DataFormat::Any).is_err() && protobuf(b"\xff", DataFormat::Json).is_err());
        assert_eq!(protobuf(b"\xff", DataFormat::Binary), Ok((&b"\xff"[..], true)));
        assert!(check_format(Codec::Protobuf, None, DataFormat::Any).is_err());
        assert_eq!(check_format(Codec::Protobuf, None, DataFormat::Binary), Ok((&b""[..], true)));
    }
}
