//! What is forbidden to users, and what is removed, on several nodes: all of them know, also those that come later.

use serde_json::json;

use super::rig::{Fleet, publish};
use crate::chat_rig::frames::Raw;
use crate::chat_rig::{Chat, until};
use crate::outside::redis::{Cluster, Durability, Redis};

fn total(chat: &Chat) -> u64 {
    chat.call("sanctions", "{}")["result"]["total"].as_u64().unwrap_or(0)
}

fn living(chat: &Chat) -> usize {
    chat.call("info", "{}")["result"]["nodes"].as_array().unwrap().len()
}

/// What the history has. A node that has just started may not have all its connections yet: that is a temporary error.
fn offsets(chat: &Chat) -> Vec<u64> {
    let ask = || chat.call("history", r#"{"channel":"room","limit":100}"#);
    until("it is connected", || ask()["error"]["code"] != 100);
    let answer = ask();
    let list = answer["result"]["publications"].as_array().unwrap_or_else(|| panic!("{answer}"));
    list.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
}

#[test]
fn all_nodes_know_who_is_banned_also_one_that_comes_later() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let mut fleet = Fleet::prepare(3, &redis.url(), "");
    (0..2).for_each(|node| fleet.start_again(node));
    (0..2).for_each(|node| until("both see each other", || living(fleet.node(node)) == 2));
    let mut ann = Raw::connect(fleet.node(1).address, "ann");
    let done = json!({"result": {}});
    assert_eq!(fleet.node(0).call("ban", r#"{"user":"ann"}"#), done);
    ann.ends_with(3520);
    assert_eq!(fleet.node(1).call("mute", r#"{"user":"bob","channel":"room","seconds":3600}"#), done);
    assert_eq!((total(fleet.node(0)), total(fleet.node(1))), (2, 2));

    // One that was not there asks those that were, and keeps it over its own end and theirs.
    fleet.start_again(2);
    until("it has learnt it", || total(fleet.node(2)) == 2);
    (0..3).for_each(|node| until("all see each other", || living(fleet.node(node)) == 3));
    assert_eq!(fleet.node(2).call("unban", r#"{"user":"ann"}"#), done);
    (0..3).for_each(|node| assert_eq!(total(fleet.node(node)), 1));
    (0..3).for_each(|node| fleet.kill(node));
    fleet.start_again(2);
    assert_eq!(total(fleet.node(2)), 1);
    let mut bob = Raw::connect(fleet.node(2).address, "bob");
    bob.say(r#"{"id":2,"publish":{"channel":"room","data":1}}"#);
    assert!(bob.hear().contains(r#""code":120"#));
    fleet.stop();
}

fn a_removed_publication_is_gone(fleet: &mut Fleet) {
    let mut member = fleet.client(1);
    member.subscribe("room");
    for number in 1..=5 {
        publish(fleet.node(number as usize % 2), "room", number);
    }
    member.hear_up_to(5);
    let body = |offset: u64| format!(r#"{{"channel":"room","offset":{offset},"epoch":"{}"}}"#, member.epoch);
    for (node, offset) in [(0, 2), (1, 5)] {
        let answer = fleet.node(node).call("publication_remove", &body(offset));
        assert_eq!(answer, json!({"result": {}}));
    }
    for node in 0..2 {
        assert_eq!(offsets(fleet.node(node)), [1, 3, 4]);
        // The copy for those who recover hears of it through the channel.
        until("nobody who recovers is given it", || {
            let mut raw = Raw::connect(fleet.node(node).address, "late");
            let epoch = &member.epoch;
            raw.say(&format!(
                r#"{{"id":2,"subscribe":{{"channel":"room","recover":true,"offset":1,"epoch":"{epoch}"}}}}"#
            ));
            let reply: serde_json::Value = serde_json::from_str(&raw.hear_of(r#"{"id":2,"#)).unwrap();
            assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
            let missed = reply["subscribe"]["publications"].as_array().unwrap();
            missed.iter().map(|publication| publication["offset"].as_u64().unwrap()).eq([3, 4])
        });
    }
    let code = |body: &str| fleet.node(0).call("publication_remove", body)["error"]["code"].as_u64();
    assert_eq!(code(r#"{"channel":"room","offset":6}"#), Some(107));
    assert_eq!(code(r#"{"channel":"room","offset":1,"epoch":"zzzz"}"#), Some(112));
    assert_eq!(publish(fleet.node(0), "room", 6).0, 6);
    member.hear_up_to(6);
    // A node that knew nothing reads it without them, and one that has forgotten everything by order, too.
    fleet.kill(1);
    fleet.start_again(1);
    assert_eq!(offsets(fleet.node(1)), [1, 3, 4, 6]);
    assert_eq!(fleet.node(1).call("history_remove", r#"{"channel":"room"}"#), json!({"result": {}}));
    assert_eq!(publish(fleet.node(1), "room", 7).0, 7);
    assert_eq!(offsets(fleet.node(0)), [7]);
}

#[test]
fn what_was_removed_is_gone_on_all_nodes() {
    let Some(redis) = Redis::start(Durability::Always) else { return };
    let mut fleet = Fleet::start(2, &redis.url(), "");
    a_removed_publication_is_gone(&mut fleet);
    let fields = redis.cli(&["HKEYS", "annulus.meta.{room}"]);
    assert!(!fields.lines().any(|field| field.starts_with('x')), "nothing is left of it in {fields:?}");
    fleet.stop();
}

#[test]
fn over_a_cluster_of_redis_that_is_the_same() {
    let Some(cluster) = Cluster::start(3, Durability::Always) else { return };
    let mut fleet = Fleet::start(2, &cluster.url(), "");
    a_removed_publication_is_gone(&mut fleet);
    fleet.stop();
}
