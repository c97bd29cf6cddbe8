//! What goes to all nodes: who lives, who is where, orders, and commands that come to the wrong node. A node is killed; Redis is
//! away and comes back.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::rig::Fleet;
use crate::chat_rig::frames::Raw;
use crate::chat_rig::streams::{Kind, Stream, post};
use crate::chat_rig::{Chat, until};
use crate::outside::redis::{Cluster, Durability, Redis};

const CONFIG: &str = r#"
http_stream = true
sse = true
log.enabled = false
[[chat.namespaces]]
name = "plain"
history_size = 0
"#;

/// The names of the living, as a node tells them.
fn living(chat: &Chat) -> Vec<String> {
    let answer = chat.call("info", "{}");
    let nodes = answer["result"]["nodes"].as_array().unwrap();
    let mut names: Vec<String> = nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn all_see_each_other(fleet: &Fleet) {
    let names: Vec<String> = (0..fleet.nodes.len()).map(|node| format!("node-{node}")).collect();
    for chat in fleet.nodes.iter().flatten() {
        until("all nodes see each other", || living(chat) == names);
    }
}

fn present(chat: &Chat, channel: &str) -> Vec<String> {
    let answer = chat.call("presence", &format!(r#"{{"channel":"{channel}"}}"#));
    let clients = answer["result"]["presence"].as_object().unwrap_or_else(|| panic!("{answer}"));
    let mut users: Vec<String> = clients.values().map(|one| one["user"].as_str().unwrap().to_owned()).collect();
    users.sort();
    users
}

fn stats(chat: &Chat, channel: &str) -> (u64, u64) {
    let answer = chat.call("presence_stats", &format!(r#"{{"channel":"{channel}"}}"#));
    let number = |name: &str| answer["result"][name].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (number("num_clients"), number("num_users"))
}

fn member(chat: &Chat, user: &str, channel: &str) -> Raw {
    let mut raw = Raw::connect(chat.address, user);
    raw.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    raw.hear_of(r#""subscribe":{"#);
    raw
}

#[test]
fn nodes_know_who_lives_and_who_is_where_and_carry_orders_out_together() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let fleet = Fleet::start(3, &redis.url(), CONFIG);
    all_see_each_other(&fleet);
    let mut members: Vec<Raw> =
        (0..3).map(|node| member(fleet.node(node), ["ann", "bob", "ann"][node], "room")).collect();
    let other = member(fleet.node(1), "cid", "elsewhere");
    for node in 0..3 {
        assert_eq!(present(fleet.node(node), "room"), ["ann", "ann", "bob"], "node {node}");
        assert_eq!(stats(fleet.node(node), "room"), (3, 2));
        let answer = fleet.node(node).call("channels", r#"{"pattern":"*"}"#);
        let clients = |channel: &str| answer["result"]["channels"][channel]["num_clients"].as_u64();
        assert_eq!((clients("room"), clients("elsewhere")), (Some(3), Some(1)), "{answer}");
    }
    // Clients are told the same.
    members[1].say(r#"{"id":3,"presence_stats":{"channel":"room"}}"#);
    assert!(members[1].hear_of(r#""id":3"#).contains(r#""num_clients":3,"num_users":2"#));
    members[1].say(r#"{"id":4,"presence":{"channel":"room"}}"#);
    assert_eq!(members[1].hear_of(r#""id":4"#).matches(r#""user":"ann""#).count(), 2);

    // Orders to ann reach both of hers, whichever node is told, and nobody else's.
    let done: Value = serde_json::json!({"result": {}});
    assert_eq!(fleet.node(1).call("subscribe", r#"{"user":"ann","channel":"more"}"#), done);
    members[0].hear_of(r#""channel":"more","subscribe""#);
    members[2].hear_of(r#""channel":"more","subscribe""#);
    assert_eq!(present(fleet.node(0), "more"), ["ann", "ann"]);
    assert_eq!(fleet.node(1).call("unsubscribe", r#"{"user":"ann","channel":"room"}"#), done);
    members[0].hear_of(r#""unsubscribe":{"code":2000"#);
    members[2].hear_of(r#""unsubscribe":{"code":2000"#);
    assert_eq!(present(fleet.node(2), "room"), ["bob"]);
    assert_eq!(fleet.node(0).call("refresh", r#"{"user":"bob","expired":true}"#), done);
    members[1].ends_with(3005);
    assert_eq!(fleet.node(1).call("disconnect", r#"{"user":"ann"}"#), done);
    members[0].ends_with(3503);
    members[2].ends_with(3503);
    assert_eq!(present(fleet.node(0), "elsewhere"), ["cid"]);
    drop(other);

    // A node of another release: what it says is not guessed at, and what it does not say is named.
    const STRANGER: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    redis.cli(&["PUBLISH", "annulus.control", &format!("\u{9}{}", "a".repeat(60))]);
    until("it is said", || fleet.node(0).logged().contains("speaks version 9"));
    redis.cli(&["HSET", "annulus.nodes", STRANGER, "99999999999999:9"]);
    let missing = || fleet.node(0).call("presence", r#"{"channel":"elsewhere"}"#)["result"]["missing"].clone();
    until("it is missed", || missing() == serde_json::json!([STRANGER]));
    redis.cli(&["HDEL", "annulus.nodes", STRANGER]);
    until("it is gone", || missing().is_null());

    // In the long run each node writes its lease once a second, however many clients there are.
    let crowd: Vec<Raw> =
        (0..60).map(|number| member(fleet.node(number % 3), &format!("u{number}"), "crowd")).collect();
    assert_eq!(stats(fleet.node(2), "crowd"), (60, 60));
    let writes = || {
        let stats = redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hset:calls=")).unwrap_or("0,").to_owned();
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let (before, began) = (writes(), Instant::now());
    std::thread::sleep(Duration::from_millis(1100));
    let each_second = (writes() - before) as f64 / began.elapsed().as_secs_f64();
    assert!((1.0..6.0).contains(&each_second), "{each_second} writes a second of three nodes");
    drop(crowd);
    fleet.stop();
    assert_eq!(redis.cli(&["HLEN", "annulus.nodes"]), "0", "who ends well takes its lease back");
}

#[test]
fn commands_that_come_to_another_node_find_their_session() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let fleet = Fleet::start(2, &redis.url(), CONFIG);
    all_see_each_other(&fleet);
    let (home, away) = (fleet.node(1), fleet.node(0));
    for kind in Kind::ALL {
        let mut stream = Stream::connect(home.address, kind, "ann");
        assert_eq!(stream.say(away.address, r#"{"id":2,"subscribe":{"channel":"room"}}"#), 204);
        assert!(stream.hear().contains(r#""id":2,"subscribe":{"#));
        for number in 0..20 {
            let text = format!(r#"{{"id":9,"publish":{{"channel":"room","data":{number}}}}}"#);
            // By turns here and there.
            let chat = [home, away][number % 2];
            assert_eq!(stream.say(chat.address, &text), 204);
            assert!(stream.hear_of(r#""pub":{"#).contains(&format!(r#""data":{number}"#)));
        }
        // A session that nobody has, of a node that lives; and of one that does not.
        let forged = format!(r#"{{"session":"{}","node":"{}","data":"{{}}"}}"#, "ab".repeat(41), stream.node);
        assert_eq!(post(away.address, "/emulation", "", forged.as_bytes()).0, 204, "only its node could tell");
        let nowhere = r#"{"session":"a","node":"00010203-0405-0607-0809-0a0b0c0d0e0f","data":"{}"}"#;
        assert_eq!(post(away.address, "/emulation", "", nowhere.as_bytes()).0, 404);
        assert_eq!(post(away.address, "/emulation", "", stream.request(&"x".repeat(70_000)).as_bytes()).0, 413);
        assert_eq!(stream.say(away.address, "garbage"), 204);
        assert_eq!(stream.end(), Some(3501));
    }
    fleet.stop();
}

#[test]
fn over_a_cluster_of_redis_all_of_that_is_the_same() {
    let Some(cluster) = Cluster::start(3, Durability::None) else { return };
    let fleet = Fleet::start(2, &cluster.url(), CONFIG);
    all_see_each_other(&fleet);
    let members = [member(fleet.node(0), "ann", "plain:room"), member(fleet.node(1), "bob", "plain:room")];
    until("both are there", || present(fleet.node(0), "plain:room") == ["ann", "bob"]);
    let mut stream = Stream::connect(fleet.node(1).address, Kind::Http, "cid");
    assert_eq!(stream.say(fleet.node(0).address, r#"{"id":2,"rpc":{"method":"x"}}"#), 204);
    assert!(stream.hear().contains("108"));
    assert_eq!(fleet.node(0).call("disconnect", r#"{"user":"cid"}"#), serde_json::json!({"result": {}}));
    assert_eq!(stream.end(), Some(3503));
    drop((members, stream));
    fleet.stop();
}

#[test]
fn a_killed_node_takes_presence_with_it_and_without_redis_each_answers_for_itself() {
    let Some(mut redis) = Redis::start(Durability::None) else { return };
    let mut fleet = Fleet::start(3, &redis.url(), CONFIG);
    all_see_each_other(&fleet);
    let members: Vec<Raw> = ["ann", "bob", "cid"]
        .iter()
        .enumerate()
        .map(|(node, user)| member(fleet.node(node), user, "plain:room"))
        .collect();
    let lost = Stream::connect(fleet.node(2).address, Kind::Http, "dan");
    assert_eq!(present(fleet.node(0), "plain:room"), ["ann", "bob", "cid"]);
    fleet.kill(2);
    // Until its lease ends it is missed, and that is said.
    let answer = fleet.node(0).call("presence", r#"{"channel":"plain:room"}"#);
    assert_eq!(answer["result"]["presence"].as_object().unwrap().len(), 2, "{answer}");
    assert_eq!(answer["result"]["missing"], serde_json::json!(["node-2"]));
    let answer = fleet.node(0).call("disconnect", r#"{"user":"cid"}"#);
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("node-2"), "{answer}");
    until("its lease ends", || living(fleet.node(0)) == ["node-0", "node-1"]);
    let answer = fleet.node(0).call("presence", r#"{"channel":"plain:room"}"#);
    assert!(answer["result"]["missing"].is_null(), "{answer}");
    assert_eq!(lost.say(fleet.node(0).address, "{}"), 404, "its client connects again");

    let mut stream = Stream::connect(fleet.node(0).address, Kind::Http, "eve");
    redis.kill();
    until("leases end by themselves", || living(fleet.node(0)) == ["node-0"]);
    for (method, body) in [("presence", r#"{"channel":"plain:room"}"#), ("info", "{}")] {
        let answer = fleet.node(0).call(method, body);
        assert!(answer["result"]["missing"][0].as_str().unwrap().contains("Redis is away"), "{answer}");
    }
    assert_eq!(present(fleet.node(0), "plain:room"), ["ann"]);
    assert_eq!(stream.say(fleet.node(0).address, r#"{"id":2,"rpc":{"method":"x"}}"#), 204, "here it is at home");
    assert!(stream.hear().contains("108"));
    assert!(matches!(stream.say(fleet.node(1).address, "{}"), 404 | 503));
    redis.start_again();
    fleet.start_again(2);
    all_see_each_other(&fleet);
    until("everybody is there again", || present(fleet.node(2), "plain:room") == ["ann", "bob"]);
    let answer = fleet.node(0).call("presence_stats", r#"{"channel":"plain:room"}"#);
    assert!(answer["result"]["missing"].is_null(), "{answer}");
    assert_eq!(stream.say(fleet.node(1).address, r#"{"id":3,"rpc":{"method":"x"}}"#), 204);
    assert!(stream.hear_of(r#""id":3"#).contains("108"));
    drop((members, stream));
    fleet.stop();
}
