//! The console's requests: see [`crate::chat::admin`].

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use annulus_engine::metrics::Snapshot;
use annulus_protocols::http1::{Exchange, RequestHead};

use super::Service;
use super::call::VERSION;
use super::meters::Meters;
use super::session::Purpose;
use crate::chat::admin::{Ask, Measured, OfDatabase, OfLog, OfShard, ROOT, Recent, Refusal, State, Times};
use crate::chat::http;
use crate::chat::node::Node;
use crate::chat::store::FeedState;

/// Nobody keeps what is true for a second.
const NO_STORE: [(&str, &str); 2] = [("content-type", "application/json"), ("cache-control", "no-store")];

impl Service {
    /// A request to the console: what it is for, if its body is to come.
    ///
    /// # Errors
    /// It is answered; whether the connection is to close.
    pub(super) fn admin(
        &mut self,
        ask: Ask,
        exchange: &Exchange,
        head: &RequestHead<'_>,
        peer: Option<IpAddr>,
    ) -> Result<Purpose, bool> {
        let node = self.node.clone();
        if node.admin.door.is_off() {
            return Err(http::answer_problem(&mut self.out, &exchange.closing(), 404, "there is nothing here", &[]));
        }
        if let Err(refusal) = node.admin.admit(ask, head, self.now() / 1000) {
            return Err(self.refuse(&exchange.closing(), &refusal));
        }
        Err(match ask {
            Ask::Login => return Ok(Purpose::Login(peer)),
            Ask::Publish => return Ok(Purpose::Call("publish".to_owned())),
            Ask::Page(part) => http::answer(&mut self.out, exchange, 200, &part.fields(), part.text.as_bytes()),
            Ask::Slash => http::answer(&mut self.out, exchange, 308, &[("location", ROOT)], b""),
            Ask::State => {
                let state = self.state();
                http::answer(&mut self.out, exchange, 200, &NO_STORE, &state)
            }
            Ask::NotAllowed(allow) => {
                let fields = [("allow", allow)];
                http::answer_problem(&mut self.out, &exchange.closing(), 405, "method not allowed", &fields)
            }
        })
    }

    /// Answers a login; whether the connection is to close.
    pub(super) fn login(&mut self, exchange: &Exchange, body: &[u8], from: Option<IpAddr>) -> bool {
        match self.node.admin.door.login(body, from, self.now()) {
            // A token needs no escapes.
            Ok(token) => {
                let body = format!("{{\"token\":\"{token}\"}}");
                http::answer(&mut self.out, exchange, 200, &NO_STORE, body.as_bytes())
            }
            Err(refusal) => self.refuse(exchange, &refusal),
        }
    }

    fn refuse(&mut self, exchange: &Exchange, refusal: &Refusal) -> bool {
        http::answer_problem(&mut self.out, exchange, refusal.status, refusal.title, refusal.fields)
    }

    fn state(&mut self) -> Vec<u8> {
        self.meters.show(&self.hub);
        let (node, now_ms) = (self.node.clone(), self.now());
        let shard = &self.sockets.shard;
        let metrics = shard.all_metrics();
        let feed = node.feed();
        let name = node.name();
        let mut shards: Vec<OfShard> = (0..shard.count()).map(|index| Meters::figures(shard, index)).collect();
        let mut deliveries = Snapshot::default();
        for index in 0..shard.count() {
            deliveries.merge(&Meters::of(shard, index).delivery.snapshot());
        }
        let state = node.admin.measured(|measured: &mut Measured| {
            measured.turns.resize_with(shards.len(), Recent::default);
            for ((shown, turns), metrics) in shards.iter_mut().zip(&mut measured.turns).zip(metrics) {
                shown.turn = turns.look(now_ms, metrics.turn_us.snapshot());
            }
            State {
                now_ms,
                uptime_s: node.uptime(),
                name: &name,
                version: VERSION,
                metrics: node.common.config.paths.metrics.as_deref(),
                shards,
                delivery: measured.delivery.look(now_ms, deliveries),
                log: of_log(&node, |sync| measured.sync.look(now_ms, sync)),
                database: feed.as_deref().map(of_database),
            }
        });
        state.write()
    }
}

/// The log's figures, if there is one; `recent` tells of the `fdatasync`s of the last seconds.
fn of_log(node: &Node, recent: impl FnOnce(Snapshot) -> Option<Times>) -> Option<OfLog<'_>> {
    let state = node.common.log.as_ref()?;
    Some(OfLog {
        used_bytes: state.used_bytes(),
        bytes_max: node.common.config.log.bytes_max,
        waiting_bytes: state.waiting_bytes(),
        sync: node.log_meters().and_then(|meters| recent(meters.sync.snapshot())),
        is_full: state.is_full(),
        failure: state.failure(),
    })
}

fn of_database(feed: &FeedState) -> OfDatabase {
    let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
    // The rows' times are of this clock, too.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    OfDatabase {
        lag_bytes: feed.lag_bytes(),
        lag_ms: feed.lag_ms(now_ms),
        rows: total(&feed.rows),
        repeated: total(&feed.repeated),
        retries: total(&feed.retries),
        dead_letters: total(&feed.dead_letters),
        connected: total(&feed.connected),
        last_error: feed.last_error(),
    }
}
