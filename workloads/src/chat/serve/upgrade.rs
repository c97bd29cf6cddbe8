//! The door: who may open a WebSocket or a stream, and how it will be spoken.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use annulus_protocols::centrifuge::Codec;
use annulus_protocols::http1::RequestHead;
use annulus_protocols::websocket::deflate::WINDOW_BITS_MAX;
use annulus_protocols::websocket::handshake::{Upgrade, write_accept_deflate};
use annulus_protocols::websocket::{Role, WebSocket};

use crate::chat::admin::network;
use crate::chat::bucket::Bucket;
use crate::chat::config::{Config, Rate};
use crate::chat::dialect::Dialect;
use crate::chat::http::{self, Cors};
use crate::chat::node::Node;
use crate::chat::session::Client;

/// The subprotocols that a client may ask for; the usual one asks for none.
const JSON: &str = "centrifuge-json";
const PROTOBUF: &str = "centrifuge-protobuf";
/// Networks whose handshakes are counted, an IPv4 address each or 64 bits of an IPv6 address. Beyond, all are forgotten,
/// and counted anew.
const ADDRESSES_MAX: usize = 65_536;
/// Bytes of a field of the upgrade request that hooks are told. A longer one is left out.
const FIELD_BYTES_MAX: usize = crate::chat::hooks::client::VALUE_BYTES_MAX;

/// What came of a wish to open a WebSocket. The answer is written.
pub(super) enum Opened {
    /// It is open.
    Chat {
        /// Its machine.
        websocket: WebSocket,
        /// Its client.
        client: Client,
    },
    /// It is not.
    Refused,
}

/// Counts who comes.
pub(super) struct Door {
    all: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
    /// A shard's share of what the node lets in, and of what it lets in from one address.
    accepts: Rate,
    handshakes: Rate,
}

impl Door {
    pub(super) fn new(node: &Node, shards: usize) -> Door {
        let rates = &node.common.config.rates;
        let share = |count: u32| count.div_ceil(shards as u32);
        let of = |rate: Rate| Rate { per_second: share(rate.per_second), burst: share(rate.burst) };
        let (accepts, handshakes) = (of(rates.accepts), of(rates.handshakes));
        Door { all: Bucket::default(), by_address: HashMap::new(), accepts, handshakes }
    }

    /// Forgets addresses that have all their permissions back.
    pub(super) fn tick(&mut self, now: u64) {
        let rate = self.handshakes;
        self.by_address.retain(|_, bucket| !bucket.is_full(rate, now));
    }

    /// Answers a request for a WebSocket.
    pub(super) fn open(
        &mut self,
        node: &Node,
        head: &RequestHead<'_>,
        peer: Option<IpAddr>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Opened {
        let exchange = head.exchange().closing();
        let config = &node.common.config;
        let refuse = |out: &mut Vec<u8>, status: u16, title: &str, fields: &[(&str, &str)]| {
            http::answer_problem(out, &exchange, status, title, fields);
            Opened::Refused
        };
        if let Some((status, title)) = self.turn_away(node, peer, now) {
            return refuse(out, status, title, &[("retry-after", "1")]);
        }
        let upgrade = match Upgrade::check(head) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refuse(out, refusal.status(), &refusal.to_string(), refusal.fields()),
        };
        if !http::is_page_allowed(head, config) {
            let title = "this origin may not connect: add it to chat.allowed_origins";
            return refuse(out, 403, title, &[]);
        }
        let deflate = match config.compression.as_ref().map(|_| upgrade.deflate(WINDOW_BITS_MAX)).transpose() {
            Ok(deflate) => deflate.flatten(),
            Err(refusal) => return refuse(out, refusal.status(), &refusal.to_string(), refusal.fields()),
        };
        let subprotocol = upgrade.protocols().find(|name| matches!(*name, JSON | PROTOBUF));
        let query = head.query().unwrap_or_default();
        let says_protobuf = has(query, "format", "protobuf") || has(query, "cf_protocol", "protobuf");
        let codec = match subprotocol {
            Some(PROTOBUF) => Codec::Protobuf,
            None if says_protobuf => Codec::Protobuf,
            _ => Codec::Json,
        };
        write_accept_deflate(out, &upgrade, subprotocol, deflate);
        let websocket = match deflate {
            Some(agreement) => WebSocket::with_deflate(Role::Server, agreement),
            None => WebSocket::new(Role::Server),
        };
        let mut client = Client { dialect: Dialect::new(codec, deflate.is_some()), ..Client::default() };
        client.native_ping = has(query, "cf_ws_frame_ping_pong", "true");
        take_fields(config, head, &mut client);
        Opened::Chat { websocket, client }
    }

    /// Answers a request for a stream, if it is refused; otherwise its client, whose answer begins later.
    pub(super) fn open_stream(
        &mut self,
        node: &Node,
        head: &RequestHead<'_>,
        peer: Option<IpAddr>,
        now: u64,
        dialect: Dialect,
        out: &mut Vec<u8>,
    ) -> Option<Client> {
        let exchange = head.exchange().closing();
        let config = &node.common.config;
        if !http::is_page_allowed(head, config) {
            let title = "this origin may not connect: add it to chat.allowed_origins";
            http::answer_problem(out, &exchange, 403, title, &[]);
            return None;
        }
        if let Some((status, title)) = self.turn_away(node, peer, now) {
            let cors = Cors::of(head);
            let fields = [&[("retry-after", "1")], &*cors.fields()].concat();
            http::answer_problem(out, &exchange, status, title, &fields);
            return None;
        }
        let mut client = Client { dialect, ..Client::default() };
        take_fields(config, head, &mut client);
        Some(client)
    }

    /// Whether too many are here, or come at once; with which status and why.
    fn turn_away(&mut self, node: &Node, peer: Option<IpAddr>, now: u64) -> Option<(u16, &'static str)> {
        if node.is_crowded() {
            return Some((503, "as many clients are connected as may be (chat.connections_max)"));
        }
        if self.accepts.is_on() && !self.all.take(self.accepts, now) {
            return Some((503, "too many clients come at once: try again in a moment"));
        }
        let peer = network(peer.filter(|_| self.handshakes.is_on())?);
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&peer) {
            self.by_address.clear();
        }
        let granted = self.by_address.entry(peer).or_default().take(self.handshakes, now);
        (!granted).then_some((429, "too many connections from this address: try again in a moment"))
    }
}

/// Whether a query has a member with that value.
fn has(query: &str, name: &str, value: &str) -> bool {
    query.split('&').filter_map(|pair| pair.split_once('=')).any(|pair| pair == (name, value))
}

/// Keeps of the request what hooks are told, and who the user is if a proxy says so. A field that cannot be passed on is
/// passed on empty: what the client says of it in `connect` must not take its place.
fn take_fields(config: &Config, head: &RequestHead<'_>, client: &mut Client) {
    let text = |value: &[u8]| {
        let value = std::str::from_utf8(value).ok().filter(|value| value.len() <= FIELD_BYTES_MAX);
        value.unwrap_or_default().to_owned()
    };
    let user = config.client.user_id_header.as_deref().and_then(|name| head.fields().get(name)).map(text);
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        client.extra_mut().user = Some(user);
    }
    let mut taken = HashSet::new();
    for name in config.hooks.all().flat_map(|(_, _, hook)| &hook.http_headers).filter(|name| taken.insert(*name)) {
        for value in head.fields().get_all(name) {
            client.extra_mut().sent.push((name.clone(), text(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_protocols::Input;
    use annulus_protocols::http1::{Event, Limits, Server};

    use super::*;
    use crate::chat::config::hooks::Hook;

    fn taken(fields: &str) -> Client {
        let mut config = Config::default();
        config.client.user_id_header = Some("x-user".to_owned());
        let http_headers = vec!["cookie".to_owned(), "x-real-ip".to_owned()];
        config.hooks.connect = Some(Hook { http_headers: http_headers.clone(), ..Hook::default() });
        config.hooks.refresh = Some(Hook { http_headers, ..Hook::default() });
        let mut bytes = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").into_bytes();
        let mut input = Input::new(&mut bytes);
        let mut server = Server::new();
        let Event::Head(head) = server.next_event(&Limits::DEFAULT, 0, &mut input).unwrap() else { panic!("a head") };
        let mut client = Client::default();
        take_fields(&config, &head, &mut client);
        client
    }

    #[test]
    fn what_is_kept_of_a_request_is_what_a_proxy_says() {
        let client = taken("Cookie: a\r\nx-other: b\r\ncookie: c\r\nX-User: ann\r\n");
        let extra = client.extra.unwrap();
        let texts: Vec<_> = extra.sent.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(texts, [("cookie", "a"), ("cookie", "c")], "each once, though two hooks want it");
        assert_eq!(extra.user.as_deref(), Some("ann"));
        assert!(taken("x-user:\r\n").extra.is_none(), "a user without a name is none");
        let long = format!("x-real-ip: {}\r\n", "1".repeat(FIELD_BYTES_MAX + 1));
        assert_eq!(taken(&long).extra.unwrap().sent, [("x-real-ip".to_owned(), String::new())]);
    }
}
