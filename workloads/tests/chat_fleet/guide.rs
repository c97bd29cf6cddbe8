//! What the operating guide says is enough.

use super::rig::{Fleet, history, publish};
use crate::chat_rig::until;
use crate::outside::redis::{Durability, Redis};

#[test]
fn what_the_guide_lets_a_node_do_at_redis_is_all_that_it_needs() {
    let Some(mut redis) = Redis::start(Durability::None) else { return };
    let url = redis.let_in_only("chat");
    let moves =
        "[[chat.namespaces]]\nname = \"open\"\njoin_leave = true\nforce_push_join_leave = true\nhistory_size = 0\n";
    let fleet = Fleet::start(2, &url, &format!("broker.prefix = \"shop\"\n{moves}"));
    let nodes = || fleet.node(0).call("info", "{}")["result"]["nodes"].as_array().unwrap().len();
    until("they see each other", || nodes() == 2);
    let (mut here, mut there) = (fleet.client(0), fleet.client(1));
    here.subscribe("room");
    there.raw.say(r#"{"id":7,"subscribe":{"channel":"open:room"}}"#);
    there.raw.hear_of(r#""id":7"#);
    here.raw.say(r#"{"id":7,"subscribe":{"channel":"open:room"}}"#);
    assert!(there.raw.hear_of(r#""join""#).contains("open:room"));
    there.subscribe("room");
    for number in 1..=3 {
        publish(fleet.node(number as usize % 2), "room", number);
    }
    there.hear_up_to(3);
    assert_eq!(history(fleet.node(1), "room").0, [1, 2, 3]);
    let stats = fleet.node(1).call("presence_stats", r#"{"channel":"room"}"#);
    assert_eq!(stats["result"]["num_clients"], 2, "{stats}");
    let removed = fleet.node(0).call("history_remove", r#"{"channel":"room"}"#);
    assert!(removed["error"].is_null(), "{removed}");
    assert!(history(fleet.node(1), "room").0.is_empty());
    let ended = fleet.node(0).call("disconnect", r#"{"user":"somebody"}"#);
    assert!(ended["error"].is_null(), "{ended}");
    for node in fleet.nodes.iter().flatten() {
        assert!(!node.logged().contains("NOPERM"), "{}", node.logged());
    }
    fleet.stop();
}
