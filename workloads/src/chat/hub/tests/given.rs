//! Members who get differences, and members who want publications with certain tags only.

use super::*;
use crate::chat::letters::{CallTicket, Publish};
use crate::chat::stream::Content;
use annulus_protocols::centrifuge::patch;
use annulus_protocols::json::Value;

/// What a client that gets differences makes of them.
#[derive(Default)]
struct Reader {
    last: Option<Vec<u8>>,
    /// Offsets, and the data behind each.
    read: Vec<(u64, String)>,
    differences: usize,
}

impl Reader {
    fn take(&mut self, publication: Value<'_>) {
        let text =
            publication.member("data").and_then(Value::string).expect("data is a text").into_owned().into_bytes();
        let is_difference = publication.member("delta").and_then(Value::boolean).unwrap_or_default();
        let data = match is_difference {
            false => text,
            true => {
                self.differences += 1;
                patch(self.last.as_deref().expect("there is one before"), &text, 1 << 20)
                    .expect("it fits the one before")
            }
        };
        let offset = publication.member("offset").and_then(Value::unsigned).unwrap_or_default();
        self.read.push((offset, String::from_utf8(data.clone()).unwrap()));
        self.last = Some(data);
    }

    /// Takes what a client has heard: pushes, and what was recovered.
    fn hear(&mut self, heard: &[String]) {
        for line in heard.iter().flat_map(|text| text.lines()) {
            let reply = Value::of(line.as_bytes());
            if let Some(publication) = reply.member("push").and_then(|push| push.member("pub")) {
                self.take(publication);
            }
            let recovered = reply.member("subscribe").and_then(|result| result.member("publications"));
            recovered.and_then(Value::elements).into_iter().flatten().for_each(|publication| self.take(publication));
        }
    }
}

const SUBSCRIBE: &str = "{\"id\":2,\"subscribe\":{\"channel\":\"c\",\"delta\":\"fossil\"}}";

fn state(n: u32) -> String {
    format!(
        "{{\"match\":\"somebody against somebody else\",\"minute\":{n},\"place\":\"\u{20ac} caf\u{e9}\",\"score\":{}}}",
        n / 7
    )
}

impl World {
    /// The server publishes.
    fn publish(&mut self, channel: &str, data: &str, tags: &[(&'static str, &'static str)], skip_history: bool) {
        let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let content = Content { data: data.as_bytes().into(), binary: false, author: None, tags };
        let publish = Publish { content: Arc::new(content), key: None, skip_history };
        let (ticket, _reply) = annulus_engine::compute::ticket();
        let ask = Ask::Publish(publish);
        let letter = Letter::Ask { asker: Asker::Call(CallTicket(ticket)), shard: 0, channel: channel.into(), ask };
        self.letters.push_back((owner(channel, self.hubs.len()), letter));
        self.settle();
    }
}

#[test]
fn who_asks_for_differences_gets_the_first_publication_whole() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, config());
        let (early, late, other) = (world.connected(0), world.connected(1), world.connected(1));
        let subscribe = SUBSCRIBE.replace("\"c\"", &format!("\"{channel}\""));
        world.say(early, &subscribe);
        assert_eq!(world.heard(early), ["{\"id\":2,\"subscribe\":{\"delta\":true}}"]);
        world.say(other, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        assert_eq!(world.heard(other), ["{\"id\":2,\"subscribe\":{}}"], "it did not ask");
        world.publish(&channel, &state(1), &[], false);
        world.publish(&channel, &state(2), &[], false);
        world.say(late, &subscribe);
        world.publish(&channel, &state(3), &[], false);
        world.publish(&channel, &state(4), &[], false);
        let (mut first, mut second) = (Reader::default(), Reader::default());
        first.hear(&world.heard(early));
        second.hear(&world.heard(late));
        let all: Vec<_> = (1..=4).map(|n| (u64::from(n), state(n))).collect();
        assert_eq!((first.read, first.differences), (all.clone(), 3));
        assert_eq!((second.read, second.differences), (all[2..].to_vec(), 1));
        assert!(world.heard(other).iter().all(|text| text.contains("\"data\":{\"match\"")));
        for client in [early, late, other] {
            world.leave(client);
        }
        world.settle();
        assert!(world.hubs.iter().all(|hub| hub.channels.iter().all(|channel| channel.rare.is_none())));
    }
}

#[test]
fn where_differences_are_not_offered_publications_come_as_they_are() {
    let mut closed = config();
    closed.channels.default.allow_deltas = false;
    let mut binary = config();
    binary.channels.default.publication_data_format = crate::chat::config::DataFormat::Binary;
    for config in [closed, binary] {
        let mut world = World::new(1, config);
        let client = world.connected(0);
        world.say(client, SUBSCRIBE);
        assert_eq!(world.heard(client), ["{\"id\":2,\"subscribe\":{}}"]);
        world.publish("c", "{\"a\":1}", &[], false);
        assert!(world.heard(client)[0].contains("\"data\":{\"a\":1}"));
    }
}

/// Members come, go, are slow and recover, publications are removed or not kept, in an order drawn from a seed: what is read
/// out of differences is what was published.
#[test]
fn differences_bring_back_what_was_published_whatever_happens() {
    let mut differences = 0;
    for seed in 1..=60_u64 {
        let history = [0, 1, 5, 100][seed as usize % 4];
        let mut config = with_history(history);
        config.channels.default.slow = [Slow::KeepLatest, Slow::DropOldest][seed as usize % 2];
        let mut world = World::new(2, config);
        let channel = &channels_everywhere(2)[seed as usize % 2];
        let subscribe = |recover: Option<u64>| {
            let recover = recover.map_or(String::new(), |offset| format!(",\"recover\":true,\"offset\":{offset}"));
            format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"delta\":\"fossil\"{recover}}}}}")
        };
        let members: Vec<Place> = (0..4).map(|n| world.connected(n % 2)).collect();
        let mut readers: Vec<Reader> = members.iter().map(|_| Reader::default()).collect();
        let mut is_there = [false; 4];
        let mut published = Vec::new();
        let mut draws = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut draw = |below: u64| {
            draws ^= draws << 13;
            draws ^= draws >> 7;
            draws ^= draws << 17;
            draws % below
        };
        for n in 0..150 {
            let who = draw(4) as usize;
            match draw(12) {
                0 if is_there[who] && !world.full.contains(&members[who]) => {
                    world.say(members[who], &format!("{{\"id\":3,\"unsubscribe\":{{\"channel\":\"{channel}\"}}}}"));
                    is_there[who] = false;
                }
                0 | 1 if !is_there[who] => {
                    let last = readers[who].read.iter().map(|(offset, _)| *offset).max();
                    world.say(members[who], &subscribe(last.filter(|_| history > 0)));
                    is_there[who] = true;
                }
                2 => drop(world.full.insert(members[who])),
                3 => world.drain(members[who]),
                4 if !published.is_empty() => {
                    let offset = 1 + draw(published.len() as u64);
                    let (ticket, _reply) = annulus_engine::compute::ticket();
                    let ask = Ask::Remove { offset, epoch: String::new() };
                    let asker = Asker::Call(CallTicket(ticket));
                    let letter = Letter::Ask { asker, shard: 0, channel: channel.as_str().into(), ask };
                    world.letters.push_back((owner(channel, 2), letter));
                    world.settle();
                }
                5 => world.publish(channel, &state(1000 + n), &[], true),
                _ => {
                    world.publish(channel, &state(n), &[], false);
                    published.push(state(n));
                }
            }
            for (at, &member) in members.iter().enumerate() {
                let heard = world.heard(member);
                // Who has fallen off begins anew.
                is_there[at] &= !heard.iter().any(|text| text.contains("\"unsubscribe\":{\"code\":2500"));
                readers[at].hear(&heard);
            }
        }
        for reader in &readers {
            for (offset, data) in &reader.read {
                match offset {
                    0 => assert!(history == 0 && published.contains(data) || data.contains("\"minute\":1"), "{data}"),
                    _ => assert_eq!(*data, published[*offset as usize - 1], "seed {seed}"),
                }
            }
            differences += reader.differences;
        }
    }
    assert!(differences > 1000, "{differences} differences in all");
}

#[test]
fn who_filters_gets_what_the_filter_lets_through_live_late_and_recovered() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(100));
        let (client, other) = (world.connected(0), world.connected(0));
        let filter = "{\"op\":\"and\",\"nodes\":[{\"key\":\"kind\",\"cmp\":\"eq\",\"val\":\"goal\"},\
                      {\"key\":\"minute\",\"cmp\":\"gte\",\"val\":\"45\"}]}";
        let subscribe = |recover: &str| {
            format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"tf\":{filter}{recover}}}}}")
        };
        world.say(client, &subscribe(",\"recoverable\":true"));
        assert!(!world.heard(client)[0].contains("error"));
        world.say(other, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        let publish = |world: &mut World| {
            world.publish(&channel, "1", &[("kind", "goal"), ("minute", "44")], false);
            world.publish(&channel, "2", &[("kind", "goal"), ("minute", "45")], false);
            world.publish(&channel, "3", &[], false);
            world.publish(&channel, "4", &[("minute", "90"), ("kind", "goal")], false);
        };
        publish(&mut world);
        assert_eq!(offsets(&world.heard(client)), [2, 4]);
        assert_eq!(offsets(&world.heard(other)), [1, 2, 3, 4], "who does not filter gets everything");
        world.full.insert(client);
        publish(&mut world);
        world.drain(client);
        assert_eq!(offsets(&world.heard(client)), [6, 8], "out of the history, too");
        world.say(client, &format!("{{\"id\":3,\"unsubscribe\":{{\"channel\":\"{channel}\"}}}}"));
        publish(&mut world);
        world.heard(client);
        world.say(client, &subscribe(",\"recover\":true,\"offset\":8"));
        let heard = world.heard(client);
        assert!(heard[0].contains("\"recovered\":true") && heard[0].matches("\"tags\"").count() == 2, "{heard:?}");
        world.leave(client);
        world.leave(other);
        world.settle();
        assert!(world.hubs.iter().all(|hub| hub.channels.iter().all(|channel| channel.rare.is_none())));
    }
}

#[test]
fn filters_that_make_no_sense_or_are_not_offered_are_refused() {
    let refusal = |config: Config, filter: &str| {
        let mut world = World::new(1, config);
        let client = world.connected(0);
        world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"c\",\"tf\":{filter}}}}}"));
        (world.code(client), world.heard(client))
    };
    let refused = (None, vec!["{\"id\":2,\"error\":{\"code\":107,\"message\":\"bad request\"}}".to_owned()]);
    assert_eq!(refusal(config(), "{\"key\":\"a\",\"cmp\":\"like\",\"val\":\"b\"}"), refused);
    let mut closed = config();
    closed.channels.default.allow_tags_filter = false;
    assert_eq!(refusal(closed, "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"b\"}"), refused);
    let deep = format!("{}{{}}{}", "{\"op\":\"not\",\"nodes\":[".repeat(16), "]}".repeat(16));
    assert_eq!(refusal(config(), &deep), (Some(3501), Vec::new()));
}
