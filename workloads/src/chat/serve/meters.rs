//! What the chat counts for the outside. The names are documented in `workloads/docs/chat.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, Unit};

use crate::chat::admin::OfShard;
use crate::chat::dialect::Carrier;
use crate::chat::hub::{Common, Counts, Hub};
use crate::chat::quota::{Kind, Quota};
use crate::chat::store::FeedState;

/// A shard's meters.
pub(super) struct Meters {
    pub(super) clients: Arc<Gauge>,
    pub(super) users: Arc<Gauge>,
    pub(super) channels: Arc<Gauge>,
    pub(super) subscriptions: Arc<Gauge>,
    unsettled: Arc<Gauge>,
    waiting: Arc<Gauge>,
    waiting_max: Arc<Gauge>,
    commands: Arc<Counter>,
    refused: Arc<Counter>,
    publications: Arc<Counter>,
    repeated: Arc<Counter>,
    deliveries: Arc<Counter>,
    slow: Arc<Counter>,
    fallen_off: Arc<Counter>,
    dropped: Arc<Counter>,
    attached: Arc<Gauge>,
    resynced: Arc<Counter>,
    begun_anew: Arc<Counter>,
    given_up: Arc<Counter>,
    sanctions: Arc<Gauge>,
    sanctioned: Arc<Counter>,
    removed: Arc<Counter>,
    turned_away: Arc<Counter>,
    /// Sessions, and how many have begun, by carrier.
    sessions: [(Arc<Gauge>, Arc<Counter>); Carrier::ALL.len()],
    emulated: Arc<Counter>,
    emulated_forwarded: Arc<Counter>,
    emulated_unknown: Arc<Counter>,
    /// See [`Sockets`](super::world::Sockets), which records it.
    pub(super) delivery: Arc<Histogram>,
    closed: Vec<(u16, Arc<Counter>)>,
    others: Arc<Counter>,
}

/// Close codes that are counted by themselves; all others together.
const CODES: [u16; 15] = [1000, 1001, 1002, 1007, 1009, 3001, 3005, 3008, 3010, 3012, 3500, 3501, 3502, 3503, 3520];

const DELIVERY: &str = "From a publication's number to its hand-over to members, once per shard and 1024 of them.";

impl Meters {
    pub(super) fn of(shard: &Shard, index: usize) -> Meters {
        let metrics = &shard.all_metrics()[index];
        let counter = |name, help| metrics.counter(name, help);
        let closed = |code: &str| {
            let help = "Connections that the server closed, by close code.";
            metrics.counter_with("annulus_chat_closed_total", help, &[("code", code)])
        };
        let emulated = |result: &str| {
            let help = "Messages of clients that came as requests of their own, by what became of them.";
            metrics.counter_with("annulus_chat_emulated_total", help, &[("result", result)])
        };
        Meters {
            clients: metrics.gauge("annulus_chat_clients", "Connected clients."),
            users: metrics.gauge("annulus_chat_users", "Users with connected clients, per shard."),
            channels: metrics.gauge("annulus_chat_channels", "Channels known, per shard."),
            subscriptions: metrics.gauge("annulus_chat_subscriptions", "Subscriptions of connected clients."),
            unsettled: metrics.gauge("annulus_chat_unsettled", "Publications that wait for what was promised."),
            waiting: metrics.gauge("annulus_chat_outbound_bytes", "Bytes that wait for clients."),
            waiting_max: metrics.gauge("annulus_chat_outbound_budget_bytes", "What may wait for clients; 0: no limit."),
            commands: counter("annulus_chat_commands_total", "Commands of clients."),
            refused: counter("annulus_chat_commands_refused_total", "Commands that were answered with an error."),
            publications: counter("annulus_chat_publications_total", "Publications numbered."),
            repeated: counter("annulus_chat_publications_repeated_total", "Publications whose key was known."),
            deliveries: counter("annulus_chat_deliveries_total", "Publications handed to subscribers."),
            slow: counter("annulus_chat_slow_clients_total", "Times that a subscriber was too slow for a publication."),
            fallen_off: counter("annulus_chat_fallen_off_total", "Slow subscribers that had to begin anew."),
            dropped: counter("annulus_chat_dropped_total", "Publications that slow subscribers were not given."),
            turned_away: counter("annulus_chat_turned_away_total", "WebSockets and streams that were not opened."),
            sessions: Carrier::ALL.map(|carrier| {
                let labels = [("transport", carrier.name())];
                let help = "Clients' connections, by what carries them.";
                let sessions = metrics.gauge_with("annulus_chat_sessions", help, &labels);
                let help = "Clients' connections that have begun, by what carries them.";
                (sessions, metrics.counter_with("annulus_chat_sessions_total", help, &labels))
            }),
            emulated: emulated("sent"),
            emulated_forwarded: emulated("forwarded"),
            emulated_unknown: emulated("unknown"),
            attached: metrics.gauge("annulus_chat_broker_channels", "Channels that are listened to at the broker."),
            resynced: counter("annulus_chat_broker_gaps_total", "Times that something was not heard, and was read."),
            begun_anew: counter("annulus_chat_broker_begun_anew_total", "Channels whose members had to begin anew."),
            given_up: counter(
                "annulus_chat_broker_given_up_total",
                "Logged publications not given to the broker in time.",
            ),
            sanctions: metrics.gauge("annulus_chat_sanctions", "Mutes and bans in force; every shard has all of them."),
            sanctioned: counter("annulus_chat_sanctioned_total", "Times that a mute or a ban forbade something."),
            removed: counter("annulus_chat_publications_removed_total", "Publications removed by order."),
            delivery: metrics.histogram("annulus_chat_delivery_seconds", DELIVERY, Unit::Micros),
            closed: CODES.iter().map(|code| (*code, closed(&code.to_string()))).collect(),
            others: closed("other"),
        }
    }

    /// Shows what the hub has counted.
    pub(super) fn show(&self, hub: &Hub) {
        let Counts { commands, refused, publications, repeated, deliveries, slow, fallen_off, dropped, .. } =
            hub.counts;
        let Counts { resynced, begun_anew, given_up, sanctioned, removed, .. } = hub.counts;
        self.sanctions.set(hub.sanctions() as u64);
        self.sanctioned.set(sanctioned);
        self.removed.set(removed);
        self.clients.set(hub.clients() as u64);
        self.users.set(hub.users() as u64);
        self.channels.set(hub.channels() as u64);
        self.subscriptions.set(hub.subscriptions() as u64);
        self.unsettled.set(hub.pending() as u64);
        self.commands.set(commands);
        self.refused.set(refused);
        self.publications.set(publications);
        self.repeated.set(repeated);
        self.deliveries.set(deliveries);
        self.slow.set(slow);
        self.fallen_off.set(fallen_off);
        self.dropped.set(dropped);
        self.attached.set(hub.attached() as u64);
        self.resynced.set(resynced);
        self.begun_anew.set(begun_anew);
        self.given_up.set(given_up);
    }

    /// What the console is told of a shard, but for what it compares with earlier.
    pub(super) fn figures(shard: &Shard, index: usize) -> OfShard {
        let (meters, engine) = (Meters::of(shard, index), &shard.all_metrics()[index]);
        let closed = meters.closed.iter().map(|(code, counter)| (code.to_string(), counter.get()));
        let closed = closed.chain([("other".to_owned(), meters.others.get())]).filter(|(_, count)| *count > 0);
        OfShard {
            clients: meters.clients.get(),
            users: meters.users.get(),
            channels: meters.channels.get(),
            subscriptions: meters.subscriptions.get(),
            unsettled: meters.unsettled.get(),
            outbound_bytes: meters.waiting.get(),
            commands: meters.commands.get(),
            refused: meters.refused.get(),
            publications: meters.publications.get(),
            repeated: meters.repeated.get(),
            deliveries: meters.deliveries.get(),
            slow: meters.slow.get(),
            fallen_off: meters.fallen_off.get(),
            dropped: meters.dropped.get(),
            turned_away: meters.turned_away.get(),
            closed: closed.collect(),
            connections: engine.connections.get(),
            received_bytes: engine.bytes_received.get(),
            sent_bytes: engine.bytes_sent.get(),
            turns: engine.turns.get(),
            busy_us: engine.turn_us.snapshot().sum(),
            turn: None,
            stalls: engine.stalls.get(),
            mailbox_full: engine.mailbox_full.get(),
        }
    }

    /// Shows what is looked at from time to time.
    pub(super) fn show_waiting(&self, bytes: usize) {
        self.waiting.set(bytes as u64);
    }

    /// Shows what may wait for this shard's clients; `None`: there is no limit.
    pub(super) fn show_waiting_max(&self, bytes: Option<usize>) {
        self.waiting_max.set(bytes.unwrap_or(0) as u64);
    }

    /// Counts a close by the server.
    pub(super) fn closed(&self, code: u16) {
        let known = self.closed.iter().find(|(known, _)| *known == code);
        known.map_or(&self.others, |(_, counter)| counter).add(1);
    }

    /// Counts a client's connection that begins.
    pub(super) fn opened(&self, carrier: Carrier) {
        let (sessions, total) = &self.sessions[carrier.index()];
        sessions.add(1);
        total.add(1);
    }

    /// Counts a client's connection that has ended.
    pub(super) fn ended(&self, carrier: Carrier) {
        self.sessions[carrier.index()].0.sub(1);
    }

    /// Counts a message that came as a request of its own and is on its way to its session.
    pub(super) fn emulated(&self) {
        self.emulated.add(1);
    }

    /// Counts a message that came as a request of its own and is sent on to another node.
    pub(super) fn emulated_forwarded(&self) {
        self.emulated_forwarded.add(1);
    }

    /// Counts a message that came as a request of its own for a session that nobody knows.
    pub(super) fn emulated_unknown(&self) {
        self.emulated_unknown.add(1);
    }

    /// Counts a WebSocket or stream that was not opened.
    pub(super) fn refused(&self) {
        self.turned_away.add(1);
    }
}

/// What is told of namespaces with limits of their own, on one shard for all.
pub(super) struct QuotaMeters(Vec<QuotaMeter>);

struct QuotaMeter {
    /// Which of [`Common::quotas`].
    at: usize,
    subscriptions: Arc<Gauge>,
    channels: Arc<Gauge>,
    refused: [(Kind, Arc<Counter>); Kind::ALL.len()],
}

impl QuotaMeters {
    pub(super) fn new(shard: &Shard, common: &Common) -> QuotaMeters {
        let metrics = shard.metrics();
        let limited = common.config.channels.all().enumerate().filter(|(at, _)| common.quotas[*at].is_on());
        let meters = limited.map(|(at, namespace)| {
            let name = if at == 0 { "default" } else { &namespace.name };
            let labels = [("namespace", name)];
            let help = "Subscriptions to channels of a namespace, where they are limited.";
            let subscriptions = metrics.gauge_with("annulus_chat_namespace_subscriptions", help, &labels);
            let help = "Channels of a namespace with subscribers, where they are limited.";
            let channels = metrics.gauge_with("annulus_chat_namespace_channels", help, &labels);
            let refused = Kind::ALL.map(|kind| {
                let labels = [("namespace", name), ("quota", kind.name())];
                let help = "Times that what a namespace's channels may take together had run out.";
                (kind, metrics.counter_with("annulus_chat_namespace_refused_total", help, &labels))
            });
            QuotaMeter { at, subscriptions, channels, refused }
        });
        QuotaMeters(meters.collect())
    }

    pub(super) fn show(&self, quotas: &[Quota]) {
        for meter in &self.0 {
            let quota = &quotas[meter.at];
            meter.subscriptions.set(quota.subscriptions());
            meter.channels.set(quota.channels());
            for (kind, counter) in &meter.refused {
                counter.set(quota.refused(*kind));
            }
        }
    }
}

/// What is told of the database, on the shard that feeds it.
pub(super) struct DatabaseMeters {
    rows: Arc<Gauge>,
    lag_bytes: Arc<Gauge>,
    lag_ms: Arc<Gauge>,
    retries: Arc<Gauge>,
    dead_letters: Arc<Gauge>,
    connections: Arc<Gauge>,
}

impl DatabaseMeters {
    pub(super) fn new(shard: &Shard) -> DatabaseMeters {
        let gauge = |name, help| shard.metrics().gauge(name, help);
        DatabaseMeters {
            rows: gauge("annulus_chat_database_rows", "Rows that the database has confirmed since the start."),
            lag_bytes: gauge("annulus_chat_database_lag_bytes", "Bytes of the log that are durable and not stored."),
            lag_ms: gauge("annulus_chat_database_lag_ms", "How long the oldest row that is not stored has waited."),
            retries: gauge("annulus_chat_database_retries", "Attempts that failed, since the start."),
            dead_letters: gauge("annulus_chat_database_dead_letters", "Rows that the database refuses, set aside."),
            connections: gauge("annulus_chat_database_connections", "Connections that are open; 1 for SQLite."),
        }
    }

    /// Shows how far it is, at a moment in milliseconds of the Unix clock.
    pub(super) fn show(&self, feed: &FeedState, now: u64) {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        self.rows.set(of(&feed.rows));
        self.lag_bytes.set(feed.lag_bytes());
        self.lag_ms.set(feed.lag_ms(now));
        self.retries.set(of(&feed.retries));
        self.dead_letters.set(of(&feed.dead_letters));
        self.connections.set(of(&feed.connected));
    }
}

/// Sums over all shards.
pub(super) struct Sums {
    pub(super) clients: u64,
    pub(super) users: u64,
    pub(super) channels: u64,
    pub(super) subscriptions: u64,
}

impl Sums {
    pub(super) fn of(shard: &Shard) -> Sums {
        let all: Vec<Meters> = (0..shard.count()).map(|index| Meters::of(shard, index)).collect();
        let sum = |of: &dyn Fn(&Meters) -> u64| all.iter().map(of).sum();
        Sums {
            clients: sum(&|meters| meters.clients.get()),
            users: sum(&|meters| meters.users.get()),
            channels: sum(&|meters| meters.channels.get()),
            subscriptions: sum(&|meters| meters.subscriptions.get()),
        }
    }
}
