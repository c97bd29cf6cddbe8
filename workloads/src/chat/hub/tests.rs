//! Several hubs joined in memory: no socket, no clock, letters delivered in order.

use super::*;
use std::collections::VecDeque;

/// What one shard did.
#[derive(Default)]
struct Fake {
    sent: Vec<(ConnId, String)>,
    letters: VecDeque<(usize, Letter)>,
}

impl Ports for Fake {
    fn send(&mut self, to: ConnId, text: &[u8]) {
        self.sent.push((to, String::from_utf8(text.to_vec()).unwrap()));
    }

    fn send_all(&mut self, to: &[ConnId], frame: &[u8]) {
        // The text behind the frame's header of 2 or 4 bytes.
        let text = &frame[if frame[1] < 126 { 2 } else { 4 }..];
        to.iter().for_each(|&conn| self.send(conn, text));
    }

    fn post(&mut self, shard: usize, letter: Letter) {
        self.letters.push_back((shard, letter));
    }
}

/// A client on a shard.
type Place = (usize, u64);

struct World {
    hubs: Vec<Hub>,
    clients: Vec<Vec<(ConnId, Client)>>,
    /// Messages received, by shard and connection.
    received: Vec<(Place, String)>,
    closed: Vec<(Place, u16)>,
    letters: VecDeque<(usize, Letter)>,
    now: u64,
}

impl World {
    fn new(shards: usize, options: Options) -> World {
        World {
            hubs: (0..shards).map(|shard| Hub::new(shard, shards, options.clone())).collect(),
            clients: (0..shards).map(|_| Vec::new()).collect(),
            received: Vec::new(),
            closed: Vec::new(),
            letters: VecDeque::new(),
            now: 1000,
        }
    }

    fn absorb(&mut self, shard: usize, fake: Fake) {
        self.received.extend(fake.sent.into_iter().map(|(conn, text)| ((shard, conn.to_bits()), text)));
        self.letters.extend(fake.letters);
    }

    fn open(&mut self, shard: usize) -> Place {
        let bits = self.clients[shard].len() as u64 + 1;
        self.clients[shard].push((ConnId::from_bits(bits), Client::default()));
        (shard, bits)
    }

    fn finish(&mut self, place: Place, mut fake: Fake, mut out: Vec<u8>, outcome: Outcome) {
        flush(&mut fake, ConnId::from_bits(place.1), &mut out);
        self.absorb(place.0, fake);
        if let Outcome::Close(disconnect) = outcome {
            self.closed.push((place, disconnect.code));
            self.leave(place);
        }
    }

    fn take(&mut self, place: Place) -> (ConnId, Client) {
        let at = self.clients[place.0].iter().position(|(conn, _)| conn.to_bits() == place.1).unwrap();
        let conn = self.clients[place.0][at].0;
        (conn, std::mem::take(&mut self.clients[place.0][at].1))
    }

    fn put(&mut self, place: Place, client: Client) {
        let at = self.clients[place.0].iter().position(|(conn, _)| conn.to_bits() == place.1).unwrap();
        self.clients[place.0][at].1 = client;
    }

    /// A message of a client, without the letters it causes being delivered.
    fn push(&mut self, place: Place, text: &str) {
        let (conn, mut client) = self.take(place);
        assert!(client.waiting.is_none(), "its commands are held back");
        let (mut fake, mut out) = (Fake::default(), Vec::new());
        let outcome = self.hubs[place.0].receive(&mut fake, self.now, conn, &mut client, text.as_bytes(), &mut out);
        self.put(place, client);
        self.finish(place, fake, out, outcome);
    }

    /// Delivers letters until there are none.
    fn settle(&mut self) {
        while let Some((shard, letter)) = self.letters.pop_front() {
            let mut fake = Fake::default();
            let clients = &self.clients[shard];
            let of = |conn: ConnId| clients.iter().find(|(other, _)| *other == conn).map(|(_, client)| client);
            let woken = self.hubs[shard].on_letter(&mut fake, self.now, letter, of);
            self.absorb(shard, fake);
            let Some(woken) = woken else { continue };
            let place = (shard, woken.asker().conn.to_bits());
            let (mut fake, mut out) = (Fake::default(), Vec::new());
            if self.closed.iter().any(|(closed, _)| *closed == place) {
                self.hubs[shard].orphan(&mut fake, woken);
                self.absorb(shard, fake);
                continue;
            }
            let (_, mut client) = self.take(place);
            let outcome = self.hubs[shard].wake(&mut fake, self.now, &mut client, woken, &mut out);
            self.put(place, client);
            self.finish(place, fake, out, outcome);
        }
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
        let (conn, mut client) = self.take(place);
        let mut fake = Fake::default();
        self.hubs[place.0].remove(&mut fake, conn, &mut client);
        self.put(place, client);
        self.absorb(place.0, fake);
    }

    fn code(&self, place: Place) -> Option<u16> {
        self.closed.iter().find(|(closed, _)| *closed == place).map(|(_, code)| *code)
    }
}

fn options() -> Options {
    Options { insecure: true, ..Options::default() }
}

/// Channels owned by each of `shards` shards.
fn channels_everywhere(shards: usize) -> Vec<String> {
    let hub = Hub::new(0, shards, options());
    (0..shards).map(|shard| (0..).map(|n| format!("c{n}")).find(|name| hub.owner(name) == shard).unwrap()).collect()
}

#[test]
fn a_publication_reaches_every_member_on_every_shard_once_and_its_publisher() {
    for channel in channels_everywhere(3) {
        let mut world = World::new(3, options());
        let clients: Vec<_> = [0, 1, 1, 2].map(|shard| world.connected(shard)).into();
        for &client in &clients {
            world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
            assert_eq!(world.heard(client), ["{\"id\":2,\"subscribe\":{}}"]);
        }
        world.say(clients[1], &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":[1]}}}}"));
        for &client in &clients {
            let heard = world.heard(client);
            let pushes =
                heard.iter().filter(|text| text.contains("\"push\"") && text.contains("\"data\":[1],\"offset\":1"));
            assert_eq!(pushes.count(), 1, "{heard:?}");
            assert_eq!(heard.iter().any(|text| text == "{\"id\":3,\"publish\":{}}"), client == clients[1]);
        }
    }
}

#[test]
fn replies_are_batched_and_never_overtaken_by_what_they_announce() {
    let mut world = World::new(1, options());
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
    let mut world = World::new(2, options());
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
fn presence_names_members_of_all_shards() {
    let mut world = World::new(2, options());
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
        let mut world = World::new(2, options());
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
        let mut world = World::new(2, Options { history_size: 3, ..options() });
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
        assert!(all.contains("\"offset\":2,\"recovered\":true,\"was_recovering\":true"), "{all}");
        assert_eq!(all.matches("\"data\":").count(), 3);
        let none = recover(5, "", 0);
        assert!(none.contains("\"recovered\":true") && !none.contains("publications"), "{none}");
        for lost in [recover(1, &epoch, 0), recover(2, "zzzz", 0), recover(0, "_", 0)] {
            assert!(lost.contains("\"offset\":5,\"was_recovering\":true") && !lost.contains("\"recovered\""), "{lost}");
        }
        assert!(recover(1, &epoch, 2).contains("\"code\":112"));
    }
}

#[test]
fn history_pages_and_its_errors() {
    let mut world = World::new(1, Options { history_size: 10, ..options() });
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
    assert_eq!(ask(",\"limit\":2,\"since\":{\"offset\":1}").matches("\"offset\":2,").count(), 1);
    assert!(ask(",\"limit\":1,\"reverse\":true").contains("\"data\":4"));
    assert!(ask(",\"limit\":1,\"reverse\":true,\"since\":{\"offset\":0}").contains("\"code\":107"));
    assert!(ask(",\"limit\":1,\"since\":{\"offset\":1,\"epoch\":\"nope\"}").contains("\"code\":112"));
    let mut off = World::new(1, Options { history_size: 0, ..options() });
    let client = off.connected(0);
    off.say(client, "{\"id\":7,\"history\":{\"channel\":\"c\",\"limit\":1}}");
    assert!(off.heard(client)[0].contains("\"code\":108"));
}

#[test]
fn wrong_commands_get_their_codes() {
    let closes = |text: &str| {
        let mut world = World::new(1, options());
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
        let mut world = World::new(1, options());
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
    let first = |options: Options, text: &str| {
        let mut world = World::new(1, options);
        let client = world.open(0);
        world.say(client, text);
        world.code(client)
    };
    assert_eq!(first(options(), "{\"id\":1,\"connect\":{}}"), None);
    assert_eq!(first(options(), "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}"), Some(3501));
    assert_eq!(first(options(), "{\"id\":1,\"connect\":{\"token\":\"a.b.c\"}}"), Some(3500));
    assert_eq!(first(Options::default(), "{\"id\":1,\"connect\":{}}"), Some(3501));
}

#[test]
fn too_many_channels_are_refused() {
    let mut world = World::new(1, options());
    let client = world.connected(0);
    for n in 0..CHANNELS_PER_CLIENT_MAX {
        world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"c{n}\"}}}}"));
    }
    world.heard(client);
    world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"one more\"}}");
    assert!(world.heard(client)[0].contains("\"code\":106"));
}

#[test]
fn nothing_is_left_when_all_have_gone() {
    let mut world = World::new(3, Options { history_size: 0, ..options() });
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
    let mut world = World::new(2, Options { history_size: 0, ..options() });
    let client = world.connected(0);
    world.push(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{}\"}}}}", channels[1]));
    world.closed.push((client, 0));
    world.leave(client);
    world.settle();
    assert!(world.hubs.iter().all(|hub| hub.channels() == 0));
}

#[test]
fn pings_are_sent_answered_and_missed() {
    let mut world = World::new(1, options());
    let client = world.connected(0);
    let visit = |world: &mut World| {
        let (conn, mut state) = world.take(client);
        let mut fake = Fake::default();
        let outcome = world.hubs[0].visit(&mut fake, conn, &mut state);
        world.put(client, state);
        world.finish(client, fake, Vec::new(), outcome);
        world.heard(client)
    };
    let until_ping = |world: &mut World| (1..=5).find(|_| visit(world) == ["{}"]).expect("a ping within 25 seconds");
    assert!(until_ping(&mut world) >= 2);
    world.say(client, "{}");
    assert_eq!(until_ping(&mut world), 5);
    visit(&mut world);
    assert_eq!(world.code(client), None);
    visit(&mut world);
    assert_eq!(world.code(client), Some(3012));
    let silent = world.open(0);
    for _ in 0..STALE_VISITS {
        let (conn, mut state) = world.take(silent);
        let outcome = world.hubs[0].visit(&mut Fake::default(), conn, &mut state);
        world.put(silent, state);
        world.finish(silent, Fake::default(), Vec::new(), outcome);
    }
    assert_eq!(world.code(silent), Some(3502));
}
