//! Several hubs joined in memory: no socket, no clock, letters delivered in order.

mod events;
mod given;
mod logged;
mod moderation;
mod shared;
mod tenants;

use super::*;
use crate::chat::config::{Rate, Slow};
use crate::chat::evidence::Page;
use crate::chat::log::Told;
use crate::chat::tokens::Settings;
use std::collections::HashSet;

/// What one shard did.
#[derive(Default)]
struct Fake {
    sent: Vec<(ConnId, String)>,
    letters: VecDeque<(usize, Letter)>,
    work: Vec<(ConnId, Work)>,
    closed: Vec<(ConnId, Disconnect)>,
    /// Who has room for nothing more.
    full: HashSet<ConnId>,
    drained: Vec<ConnId>,
    wishes: Vec<Wish>,
    /// How often members were handed a publication.
    handed_over: usize,
    events: Vec<Event>,
}

impl Ports for Fake {
    fn send(&mut self, to: ConnId, dialect: Dialect, message: &[u8]) {
        assert_eq!(dialect.codec(), Codec::Json);
        self.sent.push((to, String::from_utf8(message.to_vec()).unwrap()));
    }

    fn send_all(&mut self, to: &[ConnId], frame: &[u8], full: &mut Vec<ConnId>) {
        // The text behind the frame's header of 2 or 4 bytes.
        let text = &frame[if frame[1] < 126 { 2 } else { 4 }..];
        for &conn in to {
            match self.full.contains(&conn) {
                true => full.push(conn),
                false => self.send(conn, Dialect::default(), text),
            }
        }
    }

    fn ping(&mut self, to: ConnId) {
        self.sent.push((to, "ping".to_owned()));
    }

    fn tell_drained(&mut self, to: ConnId) {
        self.drained.push(to);
    }

    fn resume(&mut self, _to: ConnId) {}

    fn close(&mut self, conn: ConnId, why: Disconnect) {
        self.closed.push((conn, why));
    }

    fn post(&mut self, shard: usize, letter: Letter) {
        self.letters.push_back((shard, letter));
    }

    fn begin(&mut self, conn: ConnId, work: Work) {
        self.work.push((conn, work));
    }

    fn wish(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    fn clock_us(&self) -> u64 {
        42
    }

    fn take_trace(&mut self) -> Trace {
        Trace::NONE
    }

    fn woke(&mut self, _trace: &mut Trace) {}

    fn trace(&mut self, _conn: ConnId, trace: Trace, _kind: &'static trace::Kind) {
        assert!(!trace.is_chosen());
    }

    fn handed_over(&mut self, numbered_us: u64) {
        assert_eq!(numbered_us, 42);
        self.handed_over += 1;
    }

    fn unfit(&mut self, hook: (Kind, &str), unfit: &Unfit) {
        panic!("{hook:?}: {unfit}");
    }

    fn note(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// A client on a shard.
type Place = (usize, u64);

/// The clients of a shard.
#[derive(Default)]
struct Room(Vec<(ConnId, Client)>);

impl Clients for Room {
    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.0.iter_mut().find(|(known, _)| *known == conn).map(|(_, client)| client)
    }

    fn all(&mut self) -> Vec<ConnId> {
        self.0.iter().map(|(conn, _)| *conn).collect()
    }
}

struct World {
    hubs: Vec<Hub>,
    rooms: Vec<Room>,
    /// Messages received, by shard and connection.
    received: Vec<(Place, String)>,
    closed: Vec<(Place, u16)>,
    letters: VecDeque<(usize, Letter)>,
    work: Vec<(Place, Work)>,
    full: HashSet<Place>,
    drained: Vec<Place>,
    wishes: Vec<(usize, Wish)>,
    handed_over: usize,
    events: Vec<Event>,
    now: u64,
}

impl World {
    fn new(shards: usize, config: Config) -> World {
        let common = Arc::new(common(config));
        World {
            hubs: (0..shards).map(|shard| Hub::new(shard, shards, common.clone(), verifiers())).collect(),
            rooms: (0..shards).map(|_| Room::default()).collect(),
            received: Vec::new(),
            closed: Vec::new(),
            letters: VecDeque::new(),
            work: Vec::new(),
            full: HashSet::new(),
            drained: Vec::new(),
            wishes: Vec::new(),
            handed_over: 0,
            events: Vec::new(),
            now: 1000,
        }
    }

    fn fake(&self, shard: usize) -> Fake {
        let full = self.full.iter().filter(|(at, _)| *at == shard).map(|(_, bits)| ConnId::from_bits(*bits));
        Fake { full: full.collect(), ..Fake::default() }
    }

    fn absorb(&mut self, shard: usize, fake: Fake) {
        let place = |conn: ConnId| (shard, conn.to_bits());
        self.received.extend(fake.sent.into_iter().map(|(conn, text)| (place(conn), text)));
        self.letters.extend(fake.letters);
        self.handed_over += fake.handed_over;
        self.events.extend(fake.events);
        self.wishes.extend(fake.wishes.into_iter().map(|wish| (shard, wish)));
        self.work.extend(fake.work.into_iter().map(|(conn, work)| (place(conn), work)));
        self.drained.extend(fake.drained.into_iter().map(place));
        for (conn, why) in fake.closed {
            self.closed.push((place(conn), why.code));
            self.leave(place(conn));
        }
    }

    fn open(&mut self, shard: usize) -> Place {
        let bits = self.rooms[shard].0.len() as u64 + 1;
        self.rooms[shard].0.push((ConnId::from_bits(bits), Client::default()));
        (shard, bits)
    }

    /// Does something to a client with its hub.
    fn with(&mut self, place: Place, act: impl FnOnce(&mut Hub, &mut Fake, u64, ConnId, &mut Client) -> Outcome) {
        let (conn, mut fake) = (ConnId::from_bits(place.1), self.fake(place.0));
        let client = self.rooms[place.0].client(conn).unwrap();
        let outcome = act(&mut self.hubs[place.0], &mut fake, self.now, conn, client);
        self.absorb(place.0, fake);
        if let Outcome::Close(disconnect) = outcome {
            self.closed.push((place, disconnect.code));
            self.leave(place);
        }
    }

    /// A message of a client, without the letters it causes being delivered.
    fn push(&mut self, place: Place, text: &str) {
        self.with(place, |hub, ports, now, conn, client| {
            assert!(client.held.is_none(), "its commands are held back");
            hub.receive(ports, now, conn, client, text.as_bytes())
        });
    }

    /// Delivers letters until there are none, and answers questions about presence.
    fn settle(&mut self) {
        loop {
            while let Some((shard, letter)) = self.letters.pop_front() {
                let mut fake = self.fake(shard);
                self.hubs[shard].on_letter(&mut fake, &mut self.rooms[shard], self.now, letter);
                self.absorb(shard, fake);
            }
            let Some(at) = self.work.iter().position(|(_, work)| matches!(work, Work::Presence { .. })) else { break };
            let (place, work) = self.work.swap_remove(at);
            let Work::Presence { channel, most } = work else { unreachable!("it was just found") };
            let of = |(hub, room): (&mut Hub, &mut Room)| hub.who(room, &channel, most);
            let present = self.hubs.iter_mut().zip(&mut self.rooms).flat_map(of).collect();
            self.found(place, Found::Presence(Some(present)));
        }
    }

    fn found(&mut self, place: Place, found: Found) {
        let letter = Letter::Found { conn: ConnId::from_bits(place.1), found: Box::new(found) };
        self.letters.push_back((place.0, letter));
        self.settle();
    }

    fn say(&mut self, place: Place, text: &str) {
        self.push(place, text);
        self.settle();
    }

    fn connected(&mut self, shard: usize) -> Place {
        let place = self.open(shard);
        self.say(place, &format!("{{\"id\":1,\"connect\":{{\"data\":{{\"user\":\"u{shard}\"}}}}}}"));
        self.heard(place);
        place
    }

    /// What a client received since last asked, message by message.
    fn heard(&mut self, place: Place) -> Vec<String> {
        let (heard, others) = std::mem::take(&mut self.received).into_iter().partition(|(to, _)| *to == place);
        self.received = others;
        let heard: Vec<(Place, String)> = heard;
        heard.into_iter().map(|(_, text)| text).collect()
    }

    fn leave(&mut self, place: Place) {
        self.with(place, |hub, ports, now, conn, client| {
            hub.remove(ports, now, conn, client);
            Outcome::Continue
        });
    }

    fn code(&self, place: Place) -> Option<u16> {
        self.closed.iter().find(|(closed, _)| *closed == place).map(|(_, code)| *code)
    }

    /// Who was slow takes everything that waits for it.
    fn drain(&mut self, place: Place) {
        self.full.remove(&place);
        while let Some(at) = self.drained.iter().position(|drained| *drained == place) {
            self.drained.swap_remove(at);
            self.with(place, |hub, ports, now, conn, client| {
                hub.drained(ports, now, conn, client);
                Outcome::Continue
            });
            self.settle();
        }
    }

    /// The log tells a shard.
    fn log(&mut self, shard: usize, told: Told) {
        self.letters.push_back((shard, Letter::Log(told)));
        self.settle();
    }
}

fn verifiers() -> Arc<Verifiers> {
    let verifier = || Verifier::new(Settings::default()).unwrap();
    Arc::new(Verifiers { connection: verifier(), subscription: verifier() })
}

fn common(config: Config) -> Common {
    Common {
        schemas: config.channels.all().map(|_| None).collect(),
        quotas: config.channels.all().map(Quota::of).collect(),
        sealer: None,
        counted: Counted::new(config.client.user_connection_limit),
        connects: Default::default(),
        fan_outs: Default::default(),
        log: None,
        sessions: Sessions::new().unwrap(),
        config,
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.client.insecure = Some(true);
    config
}

fn with_history(size: usize) -> Config {
    let mut config = config();
    config.channels.default.history_size = size;
    config
}

/// Channels owned by each of `shards` shards.
fn channels_everywhere(shards: usize) -> Vec<String> {
    (0..shards).map(|shard| (0..).map(|n| format!("c{n}")).find(|name| owner(name, shards) == shard).unwrap()).collect()
}

#[test]
fn a_publication_reaches_every_member_on_every_shard_once_and_its_publisher() {
    for channel in channels_everywhere(3) {
        let mut world = World::new(3, config());
        let clients: Vec<_> = [0, 1, 1, 2].map(|shard| world.connected(shard)).into();
        for &client in &clients {
            world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
            assert_eq!(world.heard(client), ["{\"id\":2,\"subscribe\":{}}"]);
        }
        world.say(clients[1], &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":[1]}}}}"));
        for &client in &clients {
            let heard = world.heard(client);
            let pushes = heard.iter().filter(|text| text.contains("\"push\"") && text.contains("\"data\":[1],"));
            assert_eq!((pushes.count(), offsets(&heard)), (1, vec![1]), "{heard:?}");
            assert_eq!(heard.iter().any(|text| text == "{\"id\":3,\"publish\":{}}"), client == clients[1]);
        }
        assert_eq!(world.handed_over, 3, "measured once per shard");
    }
}

#[test]
fn replies_are_batched_and_never_overtaken_by_what_they_announce() {
    let mut world = World::new(1, config());
    let client = world.open(0);
    world.say(client, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}\n{\"id\":4,\"unsubscribe\":{\"channel\":\"a\"}}\n");
    let heard = world.heard(client).join("\n");
    let at = |text: &str| heard.find(text).unwrap_or_else(|| panic!("{text} not in {heard}"));
    assert!(at("{\"id\":1,\"connect\"") < at("{\"id\":2,\"subscribe\""));
    assert!(at("{\"id\":2,\"subscribe\"") < at("\"push\""));
    assert!(at("\"push\"") < at("{\"id\":4,\"unsubscribe\":{}}"));
    assert_eq!(heard.lines().count(), 5);
    assert!(heard.lines().all(|line| annulus_protocols::json::validate(line.as_bytes()).is_ok()));
}

#[test]
fn commands_behind_one_that_waits_are_held_back_and_carried_out_in_order() {
    let channels = channels_everywhere(2);
    let mut world = World::new(2, config());
    let client = world.connected(0);
    let (far, near) = (&channels[1], &channels[0]);
    world.push(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{far}\"}}}}\n{{\"id\":3,\"subscribe\":{{\"channel\":\"{near}\"}}}}\n{{\"id\":4,\"presence_stats\":{{\"channel\":\"{far}\"}}}}\n{{\"id\":5,\"ping\":{{}}}}"));
    assert_eq!(world.heard(client), [""; 0]);
    world.settle();
    let heard = world.heard(client).join("\n");
    let ids: Vec<_> = heard.lines().filter_map(|line| line.strip_prefix("{\"id\":")).map(|line| &line[..1]).collect();
    assert_eq!(ids, ["2", "3", "4", "5"], "{heard}");
    assert!(heard.contains("\"num_clients\":1,\"num_users\":1"));
    assert!(heard.contains("\"code\":108"));
}

#[test]
fn an_answer_to_presence_counts_by_whom_it_names() {
    let mut config = config();
    config.rates.commands = Rate { per_second: 10, burst: 10 };
    let mut world = World::new(1, config);
    let crowd: Vec<_> = (0..64).map(|_| world.connected(0)).collect();
    for &client in &crowd {
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}");
        world.heard(client);
    }
    // Ten at once: to come in, to subscribe, then twice five of a question and of 64 clients, the second time on credit.
    for (id, answered) in [(3, true), (4, true), (5, false)] {
        world.say(crowd[0], &format!("{{\"id\":{id},\"presence\":{{\"channel\":\"room\"}}}}"));
        let heard = world.heard(crowd[0]).concat();
        assert_eq!(heard.contains("\"presence\":{\"presence\""), answered, "{id}: {heard}");
        assert_eq!(heard.contains("\"code\":111"), !answered, "{id}: {heard}");
    }
    world.with(crowd[0], |hub, ports, now, conn, client| {
        client.ping_outstanding = true;
        let outcome = hub.receive(ports, now, conn, client, b"{}");
        assert!(!client.ping_outstanding, "who owes commands answers a ping all the same");
        outcome
    });
    assert!(world.heard(crowd[0]).is_empty());
    world.now += 300;
    world.say(crowd[0], "{\"id\":6,\"presence_stats\":{\"channel\":\"room\"}}");
    let heard = world.heard(crowd[0]).concat();
    assert!(heard.contains("\"num_clients\":64"), "it has filled again: {heard}");
}

#[test]
fn presence_names_members_of_all_shards() {
    let mut world = World::new(2, config());
    let (a, b) = (world.connected(0), world.connected(1));
    for client in [a, b] {
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}");
        world.heard(client);
    }
    world.say(a, "{\"id\":3,\"presence\":{\"channel\":\"room\"}}");
    let heard = world.heard(a).join("");
    assert!(heard.contains("\"user\":\"u0\"") && heard.contains("\"user\":\"u1\""), "{heard}");
    world.leave(b);
    world.settle();
    world.say(a, "{\"id\":4,\"presence_stats\":{\"channel\":\"room\"}}");
    assert_eq!(world.heard(a), ["{\"id\":4,\"presence_stats\":{\"num_clients\":1,\"num_users\":1}}"]);
}

#[test]
fn joins_and_leaves_are_told_to_those_who_asked() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, config());
        let (a, b) = (world.connected(0), world.connected(1));
        world.say(a, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"join_leave\":true}}}}"));
        assert!(world.heard(a)[1].contains("\"join\""), "its own join");
        world.say(b, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        assert!(world.heard(a)[0].contains("\"join\":{\"info\":{\"user\":\"u1\""));
        world.say(b, &format!("{{\"id\":3,\"unsubscribe\":{{\"channel\":\"{channel}\"}}}}"));
        assert!(world.heard(a)[0].contains("\"leave\":{\"info\":{\"user\":\"u1\""));
        assert_eq!(world.heard(b).len(), 2, "it asked for nothing");
    }
}

#[test]
fn recovery_brings_exactly_what_was_missed() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(3));
        let (a, b) = (world.connected(0), world.connected(1));
        world.say(a, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"recoverable\":true}}}}"));
        let reply = world.heard(a).join("");
        let epoch = reply.split("\"epoch\":\"").nth(1).unwrap()[..4].to_owned();
        for n in 1..=5 {
            world.say(b, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":{n}}}}}"));
        }
        let mut recover = |offset: u64, epoch: &str, flag: u32| {
            let client = world.connected(1);
            world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"recover\":true,\"offset\":{offset},\"epoch\":\"{epoch}\",\"flag\":{flag}}}}}"));
            let heard = world.heard(client).join("");
            world.leave(client);
            world.settle();
            heard
        };
        let all = recover(2, &epoch, 0);
        assert!(all.contains("\"recovered\":true,\"offset\":2,\"positioned\":true,\"was_recovering\":true"), "{all}");
        assert_eq!(all.matches("\"data\":").count(), 3);
        let none = recover(5, "", 0);
        assert!(none.contains("\"recovered\":true") && !none.contains("publications"), "{none}");
        for lost in [recover(1, &epoch, 0), recover(2, "zzzz", 0), recover(0, "_", 0)] {
            assert!(lost.contains("\"offset\":5,\"positioned\":true,\"was_recovering\":true"), "{lost}");
            assert!(!lost.contains("\"recovered\""), "{lost}");
        }
        assert!(recover(1, &epoch, 2).contains("\"code\":112"));
    }
}

#[test]
fn history_pages_and_its_errors() {
    let mut world = World::new(1, with_history(10));
    let client = world.connected(0);
    for n in 1..=4 {
        world.say(client, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}"));
    }
    world.heard(client);
    let mut ask = |params: &str| {
        world.say(client, &format!("{{\"id\":7,\"history\":{{\"channel\":\"c\"{params}}}}}"));
        world.heard(client).join("")
    };
    assert!(ask("").contains("\"publications\":[],") && ask("").contains("\"offset\":4"));
    assert_eq!(ask(",\"limit\":-1").matches("\"data\":").count(), 4);
    assert_eq!(ask(",\"limit\":2,\"since\":{\"offset\":1}").matches("\"offset\":2}").count(), 1);
    assert!(ask(",\"limit\":1,\"reverse\":true").contains("\"data\":4"));
    assert!(ask(",\"limit\":1,\"reverse\":true,\"since\":{\"offset\":0}").contains("\"code\":107"));
    assert!(ask(",\"limit\":1,\"since\":{\"offset\":1,\"epoch\":\"nope\"}").contains("\"code\":112"));
    let mut off = World::new(1, with_history(0));
    let client = off.connected(0);
    off.say(client, "{\"id\":7,\"history\":{\"channel\":\"c\",\"limit\":1}}");
    assert!(off.heard(client)[0].contains("\"code\":108"));
}

#[test]
fn a_page_behind_memory_waits_for_the_database_and_holds_back_what_follows() {
    let mut config = with_history(2);
    config.channels.default.history_from_database = true;
    for shards in [1, 2] {
        let mut world = World::new(shards, config.clone());
        let client = world.connected(0);
        let channels = channels_everywhere(shards);
        for channel in &channels {
            for offset in 1..=5 {
                world.say(client, &format!(r#"{{"id":{offset},"publish":{{"channel":"{channel}","data":{offset}}}}}"#));
            }
            // What memory has needs nobody; a page that ends within it neither.
            for page in [r#""since":{"offset":3,"epoch":""},"limit":9"#, r#""limit":9"#, r#""reverse":true,"limit":2"#]
            {
                world.say(client, &format!(r#"{{"id":9,"history":{{"channel":"{channel}",{page}}}}}"#));
                assert!(world.work.is_empty(), "{page}");
            }
            world.heard(client);
            let history = format!(r#"{{"channel":"{channel}","since":{{"offset":1,"epoch":""}},"limit":9}}"#);
            world.say(
                client,
                &format!("{{\"id\":20,\"history\":{history}}}\n{{\"id\":21,\"presence\":{{\"channel\":\"x\"}}}}"),
            );
            assert!(world.heard(client).is_empty(), "nothing is said before the page is whole");
            let (place, work) = world.work.pop().unwrap();
            let Work::Past { id: 20, channel: of, partial } = work else { panic!("the database was to be asked") };
            assert_eq!((place, &*of, partial.top, partial.recent.len()), (client, channel.as_str(), 5, 2));
            assert_eq!((partial.span.after, partial.span.before, partial.span.most), (1, 4, 9));
            let page = Page { publications: partial.recent, top: partial.top, epoch: partial.epoch };
            world.found(client, Found::Page(20, Ok(page)));
            let heard = world.heard(client);
            assert!(heard[0].contains(r#""id":20"#) && heard[0].contains(r#""offset":4"#), "{heard:?}");
            assert!(heard.iter().any(|reply| reply.contains(r#""id":21"#)), "{heard:?}");
            // It may be that there is none; and who has left is told nothing.
            world.say(client, &format!("{{\"id\":22,\"history\":{history}}}"));
            world.work.clear();
            world.found(client, Found::Page(22, Err(ErrorCode::INTERNAL)));
            assert!(world.heard(client)[0].contains(r#""code":100"#));
        }
        let history = format!(r#"{{"channel":"{}","reverse":true,"limit":9,"since":{{"offset":3}}}}"#, channels[0]);
        world.say(client, &format!("{{\"id\":23,\"history\":{history}}}"));
        assert_eq!(world.work.len(), 1);
        world.leave(client);
        world.work.clear();
        world.found(client, Found::Page(23, Err(ErrorCode::INTERNAL)));
    }
}

#[test]
fn wrong_commands_get_their_codes() {
    let closes = |text: &str| {
        let mut world = World::new(1, config());
        let client = world.connected(0);
        world.say(client, text);
        world.code(client)
    };
    for text in [
        "",
        "x",
        "{}",
        "{\"id\":2,\"connect\":{}}",
        "{\"id\":2}",
        "{\"id\":2,\"subscribe\":{}}",
        "{\"id\":2,\"refresh\":{}}",
    ] {
        assert_eq!(closes(text), Some(3501), "{text}");
    }
    assert_eq!(closes("{\"send\":{\"data\":1}}"), Some(3508));
    let errors = |text: &str| {
        let mut world = World::new(1, config());
        let client = world.connected(0);
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"mine\"}}");
        world.heard(client);
        world.say(client, text);
        let heard = world.heard(client).join("");
        assert_eq!(world.code(client), None);
        heard.split("\"code\":").nth(1).map(|code| code[..3].to_owned())
    };
    let long = "x".repeat(256);
    for (text, code) in [
        ("{\"id\":3,\"subscribe\":{\"channel\":\"mine\"}}", "105"),
        ("{\"id\":3,\"subscribe\":{\"channel\":\"$private\"}}", "103"),
        ("{\"id\":3,\"subscribe\":{\"channel\":\"a#other\"}}", "103"),
        ("{\"id\":3,\"subscribe\":{\"channel\":\"a\",\"type\":4}}", "108"),
        ("{\"id\":3,\"subscribe\":{\"channel\":\"a\",\"tf\":{}}}", "107"),
        (&format!("{{\"id\":3,\"subscribe\":{{\"channel\":\"{long}\"}}}}"), "107"),
        ("{\"id\":3,\"publish\":{\"channel\":\"a\"}}", "107"),
        ("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":null}}", "107"),
        ("{\"id\":3,\"rpc\":{\"method\":\"m\"}}", "108"),
        ("{\"id\":3,\"ping\":{}}", "108"),
    ] {
        assert_eq!(errors(text).as_deref(), Some(code), "{text}");
    }
    assert_eq!(errors("{\"id\":3,\"subscribe\":{\"channel\":\"a#x,u0\"}}"), None);
    assert_eq!(errors("{\"id\":3,\"unsubscribe\":{\"channel\":\"never\"}}"), None);
}

#[test]
fn a_session_begins_with_connect_and_tokens_are_not_ignored() {
    let first = |config: Config, text: &str| {
        let mut world = World::new(1, config);
        let client = world.open(0);
        world.say(client, text);
        world.code(client)
    };
    assert_eq!(first(config(), "{\"id\":1,\"connect\":{}}"), None);
    assert_eq!(first(config(), "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}"), Some(3501));
    assert_eq!(first(config(), "{\"id\":1,\"connect\":{\"token\":\"a.b.c\"}}"), Some(3500));
    assert_eq!(
        first(
            Config {
                client: crate::chat::config::Client { insecure: Some(false), ..Default::default() },
                ..Config::default()
            },
            "{\"id\":1,\"connect\":{}}"
        ),
        Some(3501)
    );
}

#[test]
fn too_many_channels_are_refused() {
    let mut world = World::new(1, config());
    let client = world.connected(0);
    for n in 0..128 {
        world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"c{n}\"}}}}"));
    }
    world.heard(client);
    world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"one more\"}}");
    assert!(world.heard(client)[0].contains("\"code\":106"));
}

#[test]
fn nothing_is_left_when_all_have_gone() {
    let mut world = World::new(3, with_history(0));
    let clients: Vec<_> = (0..30).map(|n| world.connected(n % 3)).collect();
    for (n, &client) in clients.iter().enumerate() {
        for channel in 0..4 {
            world.push(
                client,
                &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"c{}\",\"join_leave\":true}}}}", (n + channel) % 7),
            );
            world.settle();
        }
    }
    assert!(world.hubs.iter().map(Hub::channels).sum::<usize>() > 0);
    for &client in &clients {
        world.leave(client);
    }
    world.settle();
    for hub in &world.hubs {
        assert_eq!((hub.clients(), hub.users(), hub.channels()), (0, 0, 0));
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let channels = channels_everywhere(2);
    let mut world = World::new(2, with_history(0));
    let client = world.connected(0);
    world.push(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{}\"}}}}", channels[1]));
    world.closed.push((client, 0));
    world.leave(client);
    world.settle();
    assert!(world.hubs.iter().all(|hub| hub.channels() == 0));
}

#[test]
fn pings_are_sent_answered_and_missed() {
    let mut world = World::new(1, config());
    let client = world.connected(0);
    let visit = |world: &mut World, place: Place| {
        world.with(place, |hub, ports, now, conn, client| hub.visit(ports, now, conn, client));
        world.heard(place)
    };
    let until_ping =
        |world: &mut World| (1..=5).find(|_| visit(world, client) == ["{}"]).expect("a ping within 25 seconds");
    assert!(until_ping(&mut world) >= 2);
    world.say(client, "{}");
    assert_eq!(until_ping(&mut world), 5);
    visit(&mut world, client);
    assert_eq!(world.code(client), None);
    visit(&mut world, client);
    assert_eq!(world.code(client), Some(3012));
    let silent = world.open(0);
    for _ in 0..3 {
        visit(&mut world, silent);
    }
    assert_eq!(world.code(silent), Some(3502));
}

/// The publications among messages: their offsets.
fn offsets(heard: &[String]) -> Vec<u64> {
    let lines = heard.iter().flat_map(|text| text.lines()).filter(|line| line.contains("\"pub\""));
    let offset = |line: &str| {
        let digits = line.split("\"offset\":").nth(1).unwrap();
        digits.split(|byte: char| !byte.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    lines.map(offset).collect()
}

#[test]
fn a_slow_member_keeps_a_place_in_the_history_and_catches_up_in_order() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(500));
        let (slow, quick) = (world.connected(0), world.connected(1));
        for client in [slow, quick] {
            world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
            world.heard(client);
        }
        let publish = |world: &mut World, count: u32| {
            for n in 0..count {
                world.say(quick, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":{n}}}}}"));
            }
        };
        publish(&mut world, 3);
        world.full.insert(slow);
        publish(&mut world, 300);
        assert_eq!(offsets(&world.heard(slow)), [1, 2, 3]);
        world.drain(slow);
        publish(&mut world, 2);
        assert_eq!(offsets(&world.heard(slow)), (4..=305).collect::<Vec<_>>());
        assert_eq!(offsets(&world.heard(quick)), (1..=305).collect::<Vec<_>>());
        assert!(world.hubs.iter().all(|hub| hub.channels.iter().all(|channel| channel.rare.is_none())));
    }
}

#[test]
fn a_slow_member_that_the_history_has_left_behind_begins_anew() {
    let mut world = World::new(1, with_history(5));
    let (slow, quick) = (world.connected(0), world.connected(0));
    for client in [slow, quick] {
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
        world.heard(client);
    }
    world.full.insert(slow);
    for n in 0..10 {
        world.say(quick, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}"));
    }
    world.drain(slow);
    let heard = world.heard(slow).join("");
    assert!(heard.contains("\"unsubscribe\":{\"code\":2500,\"reason\":\"insufficient state\"}"), "{heard}");
    world.say(slow, "{\"id\":4,\"subscribe\":{\"channel\":\"c\",\"recover\":true,\"offset\":7}}");
    assert!(world.heard(slow)[0].contains("\"recovered\":true"));
}

#[test]
fn who_comes_while_something_is_published_gets_exactly_what_follows_its_position() {
    for channel in channels_everywhere(2) {
        for before in 0..3 {
            let mut world = World::new(2, with_history(100));
            let (new, publisher) = (world.connected(0), world.connected(1));
            let publish = |world: &mut World| {
                world.push(publisher, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":1}}}}"));
            };
            // All of it before any letter has arrived.
            (0..before).for_each(|_| publish(&mut world));
            let wish = format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"recoverable\":true}}}}");
            world.push(new, &wish);
            (before..3).for_each(|_| publish(&mut world));
            world.settle();
            let heard = world.heard(new);
            let told = heard[0].split("\"offset\":").nth(1).map_or(0, |rest| rest[..1].parse().unwrap());
            assert_eq!(offsets(&heard), (told + 1..=3).collect::<Vec<u64>>(), "{heard:?}");
        }
    }
}

#[test]
fn a_channel_that_is_granted_twice_is_one_subscription() {
    let mut world = World::new(1, with_history(100));
    let client = world.connected(0);
    // The client and the server at the same time.
    let subscription = crate::chat::letters::Granted { channel: "c".to_owned(), ..Default::default() };
    let target = crate::chat::letters::Target { user: "u0".to_owned(), ..Default::default() };
    let order = Arc::new(crate::chat::letters::Order::Subscribe { target, subscription, since: None });
    let (ticket, _reply) = annulus_engine::compute::ticket();
    world.letters.push_back((0, Letter::Order { order, reply: crate::chat::letters::Reply(ticket) }));
    world.push(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
    world.settle();
    world.heard(client);
    world.say(client, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    assert_eq!(offsets(&world.heard(client)), [1]);
    world.leave(client);
    world.settle();
    assert!(world.hubs[0].channels.iter().all(|channel| channel.count() == 0 && channel.arriving == 0));
}

#[test]
fn without_history_a_slow_member_is_closed_or_gets_what_the_namespace_says() {
    let run = |slow: Slow| {
        let mut config = with_history(0);
        config.channels.default.slow = slow;
        let mut world = World::new(1, config);
        let (late, quick) = (world.connected(0), world.connected(0));
        for client in [late, quick] {
            world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
            world.heard(client);
        }
        world.full.insert(late);
        for n in 0..100 {
            world.say(quick, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}"));
        }
        if world.code(late).is_none() {
            world.drain(late);
        }
        let heard = world.heard(late);
        let data =
            |text: &String| text.split("\"data\":").nth(1).map(|rest| rest.split(',').next().unwrap().to_owned());
        (world.code(late), heard.iter().filter_map(data).collect::<Vec<_>>())
    };
    assert_eq!(run(Slow::Disconnect), (Some(3008), Vec::new()));
    let (code, latest) = run(Slow::KeepLatest);
    assert_eq!((code, latest), (None, vec!["99".to_owned()]));
    let (code, last) = run(Slow::DropOldest);
    assert_eq!((code, last.len(), last.last().map(String::as_str)), (None, 64, Some("99")));
}

#[test]
fn a_large_room_is_told_in_turns_and_nobody_misses_or_repeats_anything() {
    let mut world = World::new(1, with_history(100));
    let members: Vec<_> = (0..deliver::FAN_OUT_AT_ONCE + 500).map(|_| world.connected(0)).collect();
    for &client in &members {
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
    }
    world.received.clear();
    let (first, last) = (members[0], members[members.len() - 1]);
    world.say(first, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    world.say(first, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":2}}");
    assert_eq!(offsets(&world.heard(first)), [1], "what follows waits for the rest of the room");
    // One leaves, one comes back, and one comes anew while the fan-out is under way.
    let gone = members[members.len() - 2];
    world.say(gone, "{\"id\":4,\"unsubscribe\":{\"channel\":\"c\"}}");
    world.say(last, "{\"id\":4,\"unsubscribe\":{\"channel\":\"c\"}}\n{\"id\":5,\"subscribe\":{\"channel\":\"c\"}}");
    let new = world.connected(0);
    world.say(new, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
    world.say(first, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":3}}");
    loop {
        let mut fake = world.fake(0);
        let more = world.hubs[0].go_on_fanning(&mut fake);
        world.absorb(0, fake);
        if !more {
            break;
        }
    }
    assert_eq!(offsets(&world.heard(first)), [2, 3]);
    assert_eq!(offsets(&world.heard(members[1])), [1, 2, 3]);
    assert_eq!(world.handed_over, 3 * 2, "each in two pieces");
    assert_eq!(offsets(&world.heard(members[members.len() - 3])), [1, 2, 3]);
    assert_eq!(offsets(&world.heard(gone)), [0u64; 0]);
    assert_eq!(offsets(&world.heard(last)), [3], "it was told of 2 when it came back");
    assert_eq!(offsets(&world.heard(new)), [3]);
    assert!(world.hubs[0].channels.iter().all(|channel| channel.rare.is_none()));
}
