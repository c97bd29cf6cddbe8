//! Publications on their way to the broker, which numbers them.
//!
//! ```text
//!   publish ─► intent logged ─► durable ─► Wish::Add ─► News::Added ─► publication logged ─► written ─► reply   (redis)
//!                 │                           ▲   │                         └─► durable, stored ─► reply         (db)
//!                 └── after a crash, again ───┘   └─ not taken: dropped logged, error
//! ```
//!
//! Invariants:
//! * **What was logged as an intent is given to the broker under one key until it is known what became of it**: so a crash
//!   between any two steps loses nothing, and makes nothing twice. An intent older than its key is remembered is given up,
//!   counted and said.
//! * **The reply leaves after the place is in the log**, from where the database gets it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_engine::trace::Stage;
use annulus_protocols::centrifuge::ErrorCode;
use bytes::Bytes;

use crate::chat::broker::{Add, Added, Failure, Keep, Wish};
use crate::chat::config::{Ack, Namespace};
use crate::chat::hub::publish::{UNSETTLED_BYTES_MAX, UNSETTLED_MAX};
use crate::chat::hub::{Hub, Ports};
use crate::chat::kept::{Place, with_publication};
use crate::chat::letters::{Answer, Asker, Key, Publish};
use crate::chat::log::{Dropped, Publication, Record};
use crate::chat::stream::{Content, Epoch, epoch_text};

/// A publication that an earlier life meant to make.
#[derive(Debug)]
pub struct Intent {
    /// Where.
    pub channel: Arc<str>,
    /// By which it is known.
    pub key: Key,
    /// When it was meant, in milliseconds of the Unix clock.
    pub time_ms: u64,
    /// What.
    pub content: Arc<Content>,
}

/// One on its way.
struct Flight {
    /// Who is to be told; `None`: was told already, or is gone.
    asker: Option<Asker>,
    intent: Intent,
    ack: Ack,
    /// It has a record in the log, and needs another that ends it.
    is_logged: bool,
    place: Option<(Epoch, u64)>,
}

/// All of a shard's.
#[derive(Default)]
pub(in crate::chat::hub) struct Flights {
    last: u64,
    all: HashMap<u64, Flight>,
    bytes: usize,
    /// For how many somebody waits.
    waiting: usize,
    /// Whose intents are not durable, by their records.
    intents: VecDeque<(u64, u64)>,
    /// Whose places are not written.
    placed: VecDeque<(u64, u64)>,
    /// Whose places are not durable, because the database is to have them.
    kept: VecDeque<(u64, u64)>,
    /// Whose places the database is to reach, by their ends in the log.
    stored: VecDeque<(u64, u64)>,
}

impl Flights {
    /// For how many somebody waits.
    pub(in crate::chat::hub) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether there are as many as may be.
    pub(in crate::chat::hub) fn is_full(&self) -> bool {
        self.all.len() >= UNSETTLED_MAX || self.bytes >= UNSETTLED_BYTES_MAX
    }

    /// Those that a checkpoint must tell of: their end is not in the log.
    pub(in crate::chat::hub) fn open(&self) -> Vec<u64> {
        self.all.iter().filter(|(_, flight)| flight.is_logged && flight.place.is_none()).map(|(id, _)| *id).collect()
    }

    fn add(&mut self, flight: Flight) -> u64 {
        self.last += 1;
        self.bytes += flight.intent.content.data.len();
        self.waiting += usize::from(flight.asker.is_some());
        self.all.insert(self.last, flight);
        self.last
    }

    fn remove(&mut self, id: u64) -> Option<Flight> {
        let flight = self.all.remove(&id)?;
        self.bytes -= flight.intent.content.data.len();
        self.waiting -= usize::from(flight.asker.is_some());
        Some(flight)
    }

    /// Takes who waits for one, and where it was to be published: they are told something before its end is known.
    fn take_asker(&mut self, id: u64) -> Option<(Asker, Arc<str>)> {
        let flight = self.all.get_mut(&id)?;
        let asker = flight.asker.take()?;
        self.waiting -= 1;
        Some((asker, flight.intent.channel.clone()))
    }
}

/// The next of a queue, if what it waits for is not behind `last`.
fn reached(queue: &mut VecDeque<(u64, u64)>, last: u64) -> Option<u64> {
    queue.pop_front_if(|(record, _)| *record <= last).map(|(_, id)| id)
}

impl Hub {
    /// The owner's side: a publication that the broker is to number.
    pub(in crate::chat::hub) fn publish_shared(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        channel: &str,
        publish: Publish,
    ) {
        let common = self.common.clone();
        let Some((_, namespace)) = common.namespace(channel) else {
            return self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::UNKNOWN_CHANNEL));
        };
        let ack = namespace.ack(&common.config);
        let may = match (self.shared.is_up, self.shared.flights.is_full()) {
            (false, _) => Err(ErrorCode::INTERNAL),
            (true, true) => Err(ErrorCode::TOO_MANY_REQUESTS),
            (true, false) => self.may_log(ack),
        };
        if let Err(error) = may {
            return self.tell(ports, asker, channel, Answer::NotPublished(error));
        }
        let key = publish.key.unwrap_or_else(|| self.draw_key());
        let mut asker = asker;
        asker.mark(Stage::Work);
        let is_logged = common.log.is_some() && ack > Ack::Mem;
        let intent = Intent { channel: channel.into(), key, time_ms: now, content: publish.content };
        let record = match is_logged {
            true => self.log_intent(namespace, &intent).map(Some),
            false => Ok(None),
        };
        let Ok(record) = record else {
            return self.tell(ports, asker, channel, Answer::NotPublished(ErrorCode::LIMIT_EXCEEDED));
        };
        let id = self.shared.flights.add(Flight { asker: Some(asker), intent, ack, is_logged, place: None });
        match record {
            Some(record) => self.shared.flights.intents.push_back((record, id)),
            None => self.send(ports, id, false),
        }
    }

    /// A key for a publication that came without one: nobody else has it.
    fn draw_key(&mut self) -> Key {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&self.draw().to_le_bytes());
        digest[8..].copy_from_slice(&self.draw().to_le_bytes());
        Key { digest, payload: 0 }
    }

    fn with_intent<R>(&self, namespace: &Namespace, intent: &Intent, with: impl FnOnce(Publication<'_>) -> R) -> R {
        let sealer = self.common.sealer.as_deref().filter(|_| namespace.encrypt);
        let place = Place::none(&intent.channel);
        with_publication(place, intent.time_ms, Some(intent.key), &intent.content, sealer, with)
    }

    fn log_intent(&mut self, namespace: &Namespace, intent: &Intent) -> Result<u64, crate::chat::log::RecordTooLong> {
        let mut log = std::mem::take(&mut self.log);
        let record = self.with_intent(namespace, intent, |publication| log.write(&Record::Intent(publication)));
        self.log = log;
        record
    }

    /// Gives it to the broker.
    fn send(&mut self, ports: &mut impl Ports, id: u64, is_patient: bool) {
        let common = self.common.clone();
        let Some(flight) = self.shared.flights.all.get(&id) else { return };
        let intent = &flight.intent;
        let Some(namespace) = common.config.channels.namespace(&intent.channel) else { return };
        let keep = Keep {
            size: namespace.history_size,
            ttl_ms: namespace.history_ttl_ms,
            meta_ttl_ms: self.meta_ttl_ms(namespace),
            key_ttl_ms: namespace.idempotency_window_ms,
        };
        ports.wish(Wish::Add(Box::new(Add {
            id,
            channel: intent.channel.clone(),
            key: intent.key,
            entry: self.with_intent(namespace, intent, |publication| Bytes::from(publication.to_bytes())),
            keep,
            until: intent.time_ms + namespace.idempotency_window_ms,
            is_patient,
        })));
    }

    /// What the broker made of it.
    pub(super) fn on_added(&mut self, ports: &mut impl Ports, now: u64, id: u64, outcome: Result<Added, Failure>) {
        match outcome {
            Ok(added) => self.on_numbered_by_broker(ports, id, &added),
            Err(Failure::Doubtful) => {
                // Whoever waits is told to try again; what becomes of it is heard later.
                if let Some((asker, channel)) = self.shared.flights.take_asker(id) {
                    self.tell(ports, asker, &channel, Answer::NotPublished(ErrorCode::INTERNAL));
                }
            }
            Err(failure) => {
                if failure == Failure::TooOld {
                    self.tell_given_up(now, id);
                }
                self.drop_flight(ports, id, ErrorCode::INTERNAL);
            }
        }
    }

    fn tell_given_up(&mut self, now: u64, id: u64) {
        self.counts.given_up += 1;
        if let Some(Flight { intent, .. }) = self.shared.flights.all.get(&id) {
            crate::warn!(
                "chat: a publication to {:?} of {} s ago was in the log and could not be given to the broker in time: it \
                 is given up, because its key may be forgotten there and it might come twice",
                intent.channel,
                now.saturating_sub(intent.time_ms) / 1000
            );
        }
    }

    /// It is not published, and will not be.
    fn drop_flight(&mut self, ports: &mut impl Ports, id: u64, error: ErrorCode) {
        let Some(Flight { asker, intent, is_logged, .. }) = self.shared.flights.remove(id) else { return };
        if is_logged && !self.has_log_failed() {
            let record = Record::Dropped(Dropped { channel: &intent.channel, key: intent.key });
            // A record without a payload fits; nobody waits for it.
            let _number = self.log.write(&record);
        }
        if let Some(asker) = asker {
            self.tell(ports, asker, &intent.channel, Answer::NotPublished(error));
        }
    }

    fn on_numbered_by_broker(&mut self, ports: &mut impl Ports, id: u64, added: &Added) {
        let common = self.common.clone();
        let Some(flight) = self.shared.flights.all.get_mut(&id) else { return };
        if added.payload != flight.intent.key.payload {
            return self.drop_flight(ports, id, ErrorCode::BAD_REQUEST);
        }
        match added.is_repeat {
            true => self.counts.repeated += 1,
            false => self.counts.publications += 1,
        }
        flight.place = Some((added.epoch, added.offset));
        match (flight.is_logged, self.has_log_failed()) {
            (false, _) => return self.arrived(ports, id),
            // It is published, and that it is in the log or in the database cannot be promised any more.
            (true, true) => return self.drop_flight(ports, id, ErrorCode::INTERNAL),
            (true, false) => {}
        }
        let Some(flight) = self.shared.flights.all.get(&id) else { return };
        let intent = &flight.intent;
        let sealer = common.config.channels.namespace(&intent.channel).filter(|namespace| namespace.encrypt);
        let sealer = sealer.and(common.sealer.as_deref());
        let place = Place { channel: &intent.channel, epoch: added.epoch, offset: added.offset };
        // A repeat, too: this node may have made it in an earlier life, and not have got so far. The database knows it by
        // its place.
        let record =
            with_publication(place, intent.time_ms, Some(intent.key), &intent.content, sealer, |publication| {
                self.log.write(&Record::Publication(publication))
            });
        match (record, flight.ack) {
            (Ok(record), Ack::Db) => self.shared.flights.kept.push_back((record, id)),
            (Ok(record), _) => {
                self.log.promise_written();
                self.shared.flights.placed.push_back((record, id));
            }
            (Err(error), _) => {
                // Its intent fitted, and its place is some bytes longer: it is published, and the database lacks it.
                crate::warn!("chat: a publication to {:?} is not in the log: {error}", intent.channel);
                self.drop_flight(ports, id, ErrorCode::INTERNAL);
            }
        }
    }

    /// Its promise holds.
    fn arrived(&mut self, ports: &mut impl Ports, id: u64) {
        let Some(Flight { asker, intent, place, .. }) = self.shared.flights.remove(id) else { return };
        let (Some(mut asker), Some((epoch, offset))) = (asker, place) else { return };
        if let Asker::Client { trace, .. } = &mut asker {
            ports.woke(trace);
        }
        let epoch = epoch_text(&epoch).to_owned();
        self.tell(ports, asker, &intent.channel, Answer::Published { offset, epoch });
    }

    /// The log has written this shard's records up to that one.
    pub(in crate::chat::hub) fn flights_written(&mut self, ports: &mut impl Ports, last: u64) {
        while let Some(id) = reached(&mut self.shared.flights.placed, last) {
            self.arrived(ports, id);
        }
    }

    /// It has them on stable storage, up to that place of the log.
    pub(in crate::chat::hub) fn flights_durable(&mut self, ports: &mut impl Ports, last: u64, end: u64) {
        while let Some(id) = reached(&mut self.shared.flights.intents, last) {
            self.send(ports, id, false);
        }
        self.flights_written(ports, last);
        while let Some(id) = reached(&mut self.shared.flights.kept, last) {
            self.shared.flights.stored.push_back((end, id));
        }
    }

    /// The database has everything up to that place of the log.
    pub(in crate::chat::hub) fn flights_stored(&mut self, ports: &mut impl Ports, lsn: u64) {
        while let Some(id) = reached(&mut self.shared.flights.stored, lsn) {
            self.arrived(ports, id);
        }
    }

    /// The log is lost: what waits for it gets no promise. What the broker has been given it may have.
    pub(in crate::chat::hub) fn flights_failed(&mut self, ports: &mut impl Ports) {
        let Flights { intents, placed, kept, .. } = &mut self.shared.flights;
        let lost: Vec<u64> =
            intents.drain(..).chain(placed.drain(..)).chain(kept.drain(..)).map(|(_, id)| id).collect();
        for id in lost {
            self.drop_flight(ports, id, ErrorCode::INTERNAL);
        }
    }

    /// A checkpoint's word on an intent, if it is still one.
    pub(in crate::chat::hub) fn tell_intent(&mut self, id: u64) {
        let common = self.common.clone();
        let Some(flight) = self.shared.flights.all.remove(&id) else { return };
        let namespace = common.config.channels.namespace(&flight.intent.channel);
        if let Some(namespace) = namespace.filter(|_| flight.place.is_none())
            && let Err(error) = self.log_intent(namespace, &flight.intent)
        {
            crate::warn!("chat: a checkpoint leaves an intent out: {error}");
        }
        self.shared.flights.all.insert(id, flight);
    }

    /// Goes on with what an earlier life meant to publish.
    pub fn resume_intents(&mut self, ports: &mut impl Ports, intents: Vec<Intent>) {
        let common = self.common.clone();
        for intent in intents {
            let namespace = common.config.channels.namespace(&intent.channel);
            let is_shared = namespace.is_some_and(|namespace| namespace.is_shared(&common.config));
            let ack = namespace.map_or(Ack::Mem, |namespace| namespace.ack(&common.config));
            let flight = Flight { asker: None, intent, ack, is_logged: true, place: None };
            let id = self.shared.flights.add(flight);
            match is_shared {
                true => self.send(ports, id, true),
                // There is no broker any more that could take it.
                false => {
                    self.counts.given_up += 1;
                    self.drop_flight(ports, id, ErrorCode::INTERNAL);
                }
            }
        }
    }
}
