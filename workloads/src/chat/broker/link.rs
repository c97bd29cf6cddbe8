//! A shard's two connections to the broker: wishes go one way, news comes back as letters to the shard's hub.
//!
//! What was carried out, or may have been, is known here: a publication whose answer did not come is given again under the
//! same key, so that it is there once. While that goes on its hub is told so ([`Failure::Doubtful`]), and again at the end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use bytes::Bytes;

use super::scripts::{ADD, CLEAR, READ, REMOVE};
use super::{Add, Added, Failure, From, News, Page, Read, Wish};
use crate::chat::config::Broker;
use crate::chat::letters::Letter;
use crate::chat::serve::INBOX;
use crate::chat::stream::Epoch;
use crate::hex;
use crate::redis::{Durability, Event, Events, Redis, Script, ServerFacts, Settings, Subscriber, Trouble, Value};

/// How often it is looked whether the broker answers.
const LOOK: Duration = Duration::from_millis(100);
/// Between two attempts with one publication.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a publication that somebody waits for is tried before they are told that it is in doubt.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// See the module's description.
pub struct Link {
    shard: Shard,
    redis: Redis,
    subscriber: Subscriber,
    prefix: String,
    /// What publishes within a script: in a cluster, to the servers of a slot only.
    publish: &'static str,
    /// For epochs: letters that nobody can foretell are not needed, but different ones are.
    drawn: Cell<u64>,
    /// Refusals so far that waiting does not cure.
    refusals: Cell<u64>,
    /// Milliseconds of the Unix clock when the shard's was at zero.
    epoch_ms: u64,
}

/// A channel's names in Redis.
struct Names<'a> {
    prefix: &'a str,
    channel: &'a str,
}

impl Names<'_> {
    fn of(&self, what: &str) -> Vec<u8> {
        format!("{}.{what}.{{{}}}", self.prefix, self.channel).into_bytes()
    }

    fn key(&self, digest: &[u8; 16]) -> Vec<u8> {
        let mut name = format!("{}.key.{{{}}}.", self.prefix, self.channel);
        hex::encode_into(&mut name, digest);
        name.into_bytes()
    }
}

impl Link {
    /// Connects a shard's hub to the broker. `epoch_ms` is the Unix clock when the shard's was at zero.
    ///
    /// # Errors
    /// The URL cannot be read: a sentence.
    pub fn start(shard: &Shard, broker: &Broker, epoch_ms: u64) -> Result<Rc<Link>, String> {
        let settings = Settings::parse(broker.redis.reveal()).map_err(|error| format!("chat.broker.redis: {error}"))?;
        let redis = Redis::start(shard, &settings, "chat");
        let (subscriber, events) = Subscriber::start(shard, &settings, "chat");
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), shard.index());
        let link = Rc::new(Link {
            shard: shard.clone(),
            redis,
            subscriber,
            prefix: broker.prefix.clone(),
            publish: if settings.is_cluster() { "SPUBLISH" } else { "PUBLISH" },
            drawn: Cell::new(seed),
            refusals: Cell::new(0),
            epoch_ms,
        });
        drop(shard.spawn(link.clone().look()));
        drop(shard.spawn(link.clone().listen(events)));
        Ok(link)
    }

    /// Does what a hub wishes, now or in a while.
    pub fn wish(self: &Rc<Self>, wish: Wish) {
        let link = self.clone();
        match wish {
            Wish::Attach(channel) => self.subscriber.subscribe(self.names(&channel).of("chan")),
            Wish::Detach(channel) => self.subscriber.unsubscribe(self.names(&channel).of("chan")),
            Wish::Add(add) => drop(self.shard.spawn(async move { link.add(*add).await })),
            Wish::Read(read) => drop(self.shard.spawn(async move { link.read(read).await })),
            Wish::Clear { id, channel, meta_ttl_ms } => {
                drop(self.shard.spawn(async move { link.clear(id, channel, meta_ttl_ms).await }));
            }
            Wish::Remove { id, channel, offset, epoch, meta_ttl_ms } => {
                drop(self.shard.spawn(async move { link.remove(id, channel, offset, epoch, meta_ttl_ms).await }));
            }
            Wish::Say { channel, message } => drop(self.shard.spawn(async move {
                let to = link.names(&channel).of("chan");
                // Promised to nobody.
                let _heard = link.redis.publish(&to, &message).await;
            })),
        }
    }

    /// The server that answers for the chat now, if one does.
    pub fn server(&self) -> Option<Rc<ServerFacts>> {
        self.redis.server()
    }

    fn names<'a>(&'a self, channel: &'a str) -> Names<'a> {
        Names { prefix: &self.prefix, channel }
    }

    /// Milliseconds of the Unix clock.
    fn now(&self) -> u64 {
        self.epoch_ms + self.shard.now().as_millis() as u64
    }

    /// Four letters that no other epoch is likely to have.
    fn draw_epoch(&self) -> Epoch {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        self.drawn.set(self.drawn.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut bits = self.drawn.get();
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        std::array::from_fn(|at| LETTERS[((bits >> (at * 16) & 0xffff) % 62) as usize])
    }

    /// Tells this shard's hub.
    fn tell(&self, news: News) {
        let told = self.shard.post(self.shard.index(), INBOX, Letter::Broker(news));
        debug_assert!(told.is_ok(), "a letter to oneself always fits");
    }

    /// Tells whether the broker answers, for as long as the shard runs.
    async fn look(self: Rc<Self>) {
        let mut was_up = false;
        loop {
            let is_up = self.redis.is_up();
            if is_up != was_up {
                was_up = is_up;
                self.tell(News::Up(is_up));
            }
            match is_up {
                true => self.shard.sleep(LOOK).await,
                false => self.redis.up().await,
            }
        }
    }

    async fn listen(self: Rc<Self>, mut events: Events) {
        loop {
            match events.next().await {
                Event::Subscribed { channel } => {
                    if let Some(channel) = self.channel_of(&channel) {
                        self.tell(News::Attached(channel));
                    }
                }
                Event::Message { channel, payload } => {
                    if let Some(channel) = self.channel_of(&channel) {
                        self.tell(News::Heard { channel, message: payload });
                    }
                }
                Event::Lost => self.tell(News::Lost),
            }
        }
    }

    /// `PREFIX.chan.{CHANNEL}`: the channel.
    fn channel_of(&self, name: &[u8]) -> Option<Arc<str>> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b".chan.{")?.strip_suffix(b"}")?;
        Some(std::str::from_utf8(rest).ok()?.into())
    }

    /// Calls a script with what each of them begins with.
    async fn run(&self, script: &'static Script, keys: &[Vec<u8>], rest: &[&[u8]]) -> Result<Value, Trouble> {
        let Some(server) = self.redis.server_of(&keys[0]) else {
            return Err(Trouble::Away("there is no connection".to_owned()));
        };
        let may_lose = server.durability != Durability::Always || server.is_promoted;
        let epoch = self.draw_epoch();
        let mut args: Vec<&[u8]> = vec![server.run_id.as_bytes(), if may_lose { b"1" } else { b"0" }, &epoch];
        args.extend_from_slice(rest);
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        self.redis.script(script, &keys, &args).await
    }

    /// Gives a publication to the broker until it is known what became of it.
    async fn add(self: Rc<Self>, add: Add) {
        let began = self.shard.now();
        let mut told_doubt = false;
        let mut is_in_doubt = false;
        let outcome = loop {
            // Before each attempt: a key that is forgotten would let it in twice.
            if self.now() >= add.until {
                break Err(Failure::TooOld);
            }
            match self.try_add(&add).await {
                Ok(added) => break Ok(added),
                // It may be there from an earlier attempt, so this one's not arriving says nothing.
                Err(Trouble::Doubtful(_)) => is_in_doubt = true,
                Err(trouble) if trouble.is_passing() && !is_in_doubt && !add.is_patient => break Err(Failure::Away),
                Err(trouble) if trouble.is_passing() => {}
                Err(trouble) => break Err(self.refused(&add.channel, &trouble)),
            }
            if !told_doubt && self.shard.now() >= began + DOUBT_AFTER {
                told_doubt = true;
                self.tell(News::Added { id: add.id, outcome: Err(Failure::Doubtful) });
            }
            let wait = if told_doubt || add.is_patient { LOOK * 10 } else { AGAIN };
            let _up = self.shard.timeout(wait, self.redis.up()).await;
            self.shard.sleep(AGAIN).await;
        };
        self.tell(News::Added { id: add.id, outcome });
    }

    async fn try_add(&self, add: &Add) -> Result<Added, Trouble> {
        let names = self.names(&add.channel);
        let keys = [names.of("meta"), names.of("stream"), names.key(&add.key.digest), names.of("chan")];
        let keep = &add.keep;
        let (size, ttl, meta_ttl) = (keep.size.to_string(), keep.ttl_ms.to_string(), keep.meta_ttl_ms.to_string());
        let (payload, key_ttl) = (format!("{:016x}", add.key.payload), keep.key_ttl_ms.to_string());
        let rest: [&[u8]; 7] = [
            &add.entry,
            size.as_bytes(),
            ttl.as_bytes(),
            meta_ttl.as_bytes(),
            payload.as_bytes(),
            key_ttl.as_bytes(),
            self.publish.as_bytes(),
        ];
        let answer = self.run(&ADD, &keys, &rest).await?;
        read_added(&answer).ok_or_else(|| strange("a publication", &answer))
    }

    async fn read(self: Rc<Self>, read: Read) {
        let names = self.names(&read.channel);
        let (direction, number) = match read.from {
            From::After(number) => ("after", number),
            From::Before(number) => ("before", number),
            From::End => ("end", 0),
        };
        let (meta_ttl, number, limit) = (read.meta_ttl_ms.to_string(), number.to_string(), read.limit.to_string());
        let rest = [meta_ttl.as_bytes(), direction.as_bytes(), number.as_bytes(), limit.as_bytes()];
        let answer = self.run(&READ, &[names.of("meta"), names.of("stream")], &rest).await;
        let outcome = match answer {
            Ok(answer) => {
                read_page(answer).ok_or_else(|| self.failure(&read.channel, &strange("a history", &Value::Nil)))
            }
            Err(trouble) => Err(self.failure(&read.channel, &trouble)),
        };
        self.tell(News::Read { id: read.id, outcome });
    }

    /// What a trouble comes to for whoever only asked.
    fn failure(&self, channel: &str, trouble: &Trouble) -> Failure {
        match trouble {
            Trouble::Doubtful(_) => Failure::Doubtful,
            trouble if trouble.is_passing() => Failure::Away,
            trouble => self.refused(channel, trouble),
        }
    }

    /// A refusal that waiting does not cure: said the first time, and each thousandth.
    fn refused(&self, channel: &str, trouble: &Trouble) -> Failure {
        let before = self.refusals.replace(self.refusals.get() + 1);
        if before.is_multiple_of(1000) {
            crate::warn!("chat: the broker refuses what is about {channel:?}: {trouble} ({before} refusals before)");
        }
        Failure::Refused
    }

    async fn clear(self: Rc<Self>, id: u64, channel: Arc<str>, meta_ttl_ms: u64) {
        let names = self.names(&channel);
        let keys = [names.of("meta"), names.of("stream"), names.of("chan")];
        let meta_ttl = meta_ttl_ms.to_string();
        let answer = self.run(&CLEAR, &keys, &[meta_ttl.as_bytes(), self.publish.as_bytes()]).await;
        let answer = answer.and_then(|answer| {
            read_position(&answer).ok_or_else(|| strange("a history that it is to forget", &answer))
        });
        let outcome = answer.map_err(|trouble| self.failure(&channel, &trouble));
        self.tell(News::Cleared { id, outcome });
    }

    async fn remove(self: Rc<Self>, id: u64, channel: Arc<str>, offset: u64, epoch: String, meta_ttl_ms: u64) {
        let names = self.names(&channel);
        let keys = [names.of("meta"), names.of("stream"), names.of("chan")];
        let (meta_ttl, offset) = (meta_ttl_ms.to_string(), offset.to_string());
        let rest = [meta_ttl.as_bytes(), self.publish.as_bytes(), offset.as_bytes(), epoch.as_bytes()];
        let answer = self.run(&REMOVE, &keys, &rest).await.and_then(|answer| {
            let read = read_position(&answer).filter(|(_, was_given)| *was_given <= 1);
            read.ok_or_else(|| strange("a publication that it is to remove", &answer))
        });
        let outcome = answer.map(|(epoch, was_given)| (epoch, was_given == 1));
        let outcome = outcome.map_err(|trouble| self.failure(&channel, &trouble));
        self.tell(News::Removed { id, outcome });
    }
}

fn strange(what: &str, answer: &Value) -> Trouble {
    Trouble::Refused {
        code: "STRANGE".to_owned(),
        message: format!("it answers {answer:?} about {what}: does somebody else use the same prefix?"),
    }
}

fn read_epoch(value: &Value) -> Option<Epoch> {
    value.as_bytes()?.try_into().ok()
}

fn read_number(value: &Value) -> Option<u64> {
    value.as_int()?.try_into().ok()
}

fn read_added(answer: &Value) -> Option<Added> {
    let [epoch, offset, is_repeat, payload] = answer.as_list()? else { return None };
    Some(Added {
        epoch: read_epoch(epoch)?,
        offset: read_number(offset)?,
        is_repeat: is_repeat.as_int()? == 1,
        payload: u64::from_str_radix(payload.as_str()?, 16).ok()?,
    })
}

/// A channel's life and a number: its last, or whether something is so.
fn read_position(answer: &Value) -> Option<(Epoch, u64)> {
    let [epoch, top] = answer.as_list()? else { return None };
    Some((read_epoch(epoch)?, read_number(top)?))
}

fn read_page(answer: Value) -> Option<Page> {
    let [epoch, top, entries]: [Value; 3] = answer.into_list()?.try_into().ok()?;
    let entries = entries.into_list()?.into_iter().map(read_entry).collect::<Option<Vec<_>>>()?;
    Some(Page { epoch: read_epoch(&epoch)?, top: read_number(&top)?, entries })
}

/// An entry of a stream: its id, `NUMBER-0`, and its fields.
fn read_entry(entry: Value) -> Option<(u64, Bytes)> {
    let [id, fields]: [Value; 2] = entry.into_list()?.try_into().ok()?;
    let number = id.as_str()?.split_once('-')?.0.parse().ok()?;
    let [_, publication]: [Value; 2] = fields.into_list()?.try_into().ok()?;
    Some((number, publication.into_bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn answers_are_read_or_refused() {
        let added = Value::List(vec![text("abcd"), Value::Int(7), Value::Int(1), text("00000000000000ff")]);
        assert_eq!(read_added(&added), Some(Added { epoch: *b"abcd", offset: 7, is_repeat: true, payload: 255 }));
        let entry = Value::List(vec![text("9-0"), Value::List(vec![text("p"), text("x")])]);
        let page = Value::List(vec![text("abcd"), Value::Int(9), Value::List(vec![entry])]);
        let entries = vec![(9, Bytes::from_static(b"x"))];
        assert_eq!(read_page(page), Some(Page { epoch: *b"abcd", top: 9, entries }));
        for strange in [
            Value::Nil,
            Value::List(vec![]),
            Value::List(vec![text("abc"), Value::Int(7), Value::Int(1), text("ff")]),
            Value::List(vec![text("abcd"), Value::Int(-7), Value::Int(1), text("ff")]),
            Value::List(vec![text("abcd"), Value::Int(7), Value::Int(1), text("xy")]),
        ] {
            assert_eq!(read_added(&strange), None, "{strange:?}");
            assert_eq!(read_page(strange), None);
        }
    }

    #[test]
    fn all_names_of_a_channel_have_one_hash_tag() {
        let names = Names { prefix: "p", channel: "a:b" };
        assert_eq!(names.of("meta"), b"p.meta.{a:b}");
        assert_eq!(names.key(&[0xab; 16]), format!("p.key.{{a:b}}.{}", "ab".repeat(16)).as_bytes());
    }
}
