//! Publications, history and recovery of several nodes.

use std::time::Duration;

use super::rig::{Client, Fleet, history, publish};
use crate::chat_rig::{offline, until};
use crate::outside::redis::{Cluster, Durability, Redis};

#[test]
fn everybody_hears_everything_once_whichever_node_it_came_by_and_a_node_that_is_killed_takes_nothing_along() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let mut fleet = Fleet::start(3, &redis.url(), "");
    let mut clients: Vec<Client> = (0..6).map(|n| fleet.client(n % 3)).collect();
    for client in &mut clients {
        client.subscribe("room");
    }
    for number in 1..=30 {
        assert_eq!(publish(fleet.node(number as usize % 3), "room", number).0, number);
    }
    // A key is one publication wherever it comes in.
    assert_eq!(publish(fleet.node(0), "room", 29).0, 29);
    for client in &mut clients {
        client.hear_up_to(30);
        assert_eq!(client.numbers, (1..=30).collect::<Vec<u64>>());
    }
    fleet.kill(1);
    for number in 31..=40 {
        publish(fleet.node(0), "room", number);
    }
    // Its clients come back to another node, and then to itself.
    for (client, node) in [(1, 2), (4, 1)] {
        if node == 1 {
            fleet.start_again(1);
        }
        let before = std::mem::replace(&mut clients[client], fleet.client(node));
        (clients[client].offset, clients[client].epoch) = (before.offset, before.epoch);
        clients[client].numbers = before.numbers;
        let reply = clients[client].subscribe("room");
        assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    }
    for number in 41..=50 {
        publish(fleet.node(number as usize % 3), "room", number);
    }
    for client in &mut clients {
        client.hear_up_to(50);
        assert_eq!(client.numbers, (1..=50).collect::<Vec<u64>>());
    }
    for node in 0..3 {
        assert_eq!(history(fleet.node(node), "room").0, (1..=50).collect::<Vec<u64>>());
    }
    let folders = std::mem::take(&mut fleet.folders);
    fleet.stop();
    for folder in folders {
        let said = offline("verify-log", &folder.log());
        assert!(said.contains("the log is whole"), "{said}");
    }
}

#[test]
fn redis_that_keeps_everything_comes_back_with_everything() {
    let Some(mut redis) = Redis::start(Durability::Always) else { return };
    let fleet = Fleet::start(2, &redis.url(), "");
    let mut client = fleet.client(1);
    client.subscribe("room");
    let (_, epoch) = publish(fleet.node(0), "room", 1);
    for round in 1..=3 {
        redis.kill();
        // What has no history goes on; what has is refused for now.
        let refused = fleet.node(0).call("publish", r#"{"channel":"room","data":{"number":0}}"#);
        assert_eq!(refused["error"]["code"], 100, "{refused}");
        let said = fleet.node(0).call("publish", r#"{"channel":"room","data":{"number":0},"skip_history":true}"#);
        assert!(said["error"].is_null(), "{said}");
        redis.start_again();
        let number = round + 1;
        assert_eq!(publish(fleet.node(0), "room", number), (number, epoch.clone()));
        client.hear_up_to(number);
    }
    assert_eq!(client.numbers, [1, 2, 3, 4]);
    assert_eq!(history(fleet.node(1), "room"), (vec![1, 2, 3, 4], 4, epoch));
    fleet.stop();
}

#[test]
fn redis_that_has_lost_something_means_a_new_epoch_and_no_silently_wrong_history() {
    for durability in [Durability::None, Durability::EverySecond] {
        let Some(mut redis) = Redis::start(durability) else { return };
        let fleet = Fleet::start(2, &redis.url(), "");
        let mut client = fleet.client(1);
        client.subscribe("room");
        let (_, epoch) = publish(fleet.node(0), "room", 1);
        client.hear_up_to(1);
        redis.kill();
        redis.start_again();
        let (offset, next) = publish(fleet.node(0), "room", 2);
        assert_ne!(next, epoch, "{durability:?}");
        client.begins_anew();
        let reply = client.subscribe("room");
        assert_ne!(reply["subscribe"]["recovered"], true, "{reply}");
        // It may not have been heard there yet.
        client.hear_up_to(offset);
        assert_eq!((client.offset, &client.epoch), (offset, &next));
        let refused = r#"{"id":9,"history":{"channel":"room","limit":9,"since":{"offset":1,"epoch":"EPOCH"}}}"#;
        client.raw.say(&refused.replace("EPOCH", &epoch));
        assert!(client.raw.hear_of("\"id\":9").contains("\"code\":112"));
        fleet.stop();
    }
}

#[test]
fn what_was_on_its_way_when_a_node_was_killed_is_made_once() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let mut fleet = Fleet::start(2, &redis.url(), "");
    publish(fleet.node(0), "room", 1);
    // Redis hangs: the intent is in the log, and nobody knows whether Redis has the publication.
    redis.freeze();
    let address = fleet.node(0).address;
    let hanging = std::thread::spawn(move || {
        let mut client = Client::connect(address);
        client.raw.say(r#"{"id":3,"publish":{"channel":"room","data":{"number":2}}}"#);
        client.raw.end()
    });
    let log = fleet.folders[0].log();
    until("the intent is in the log", || {
        // One that is renamed meanwhile is found next time.
        let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.unwrap().path()).unwrap_or_default();
        let segments = std::fs::read_dir(&log).unwrap().map(read);
        let found = |bytes: Vec<u8>| bytes.windows(12).any(|window| window == br#"{"number":2}"#);
        segments.into_iter().any(found)
    });
    fleet.kill(0);
    hanging.join().unwrap();
    redis.thaw();
    fleet.start_again(0);
    until("it is published", || history(fleet.node(1), "room").0.len() >= 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(history(fleet.node(1), "room").0, [1, 2]);
    assert_eq!(publish(fleet.node(0), "room", 3).0, 3);
    fleet.stop();
}

#[test]
fn a_redis_that_hangs_refuses_and_heals() {
    let Some(redis) = Redis::start(Durability::None) else { return };
    let url = format!("{}?answer_ms=300", redis.url());
    let fleet = Fleet::start(2, &url, "");
    let mut client = fleet.client(1);
    client.subscribe("room");
    publish(fleet.node(0), "room", 1);
    redis.freeze();
    let refused = r#"{"channel":"room","data":{"number":0}}"#;
    until("it is refused", || fleet.node(0).call("history", refused)["error"]["code"] == 100);
    redis.thaw();
    publish(fleet.node(0), "room", 2);
    client.hear_up_to(2);
    assert_eq!(client.numbers, [1, 2]);
    fleet.stop();
}

#[test]
fn a_cluster_shares_channels_among_its_servers() {
    let Some(cluster) = Cluster::start(3, Durability::None) else { return };
    let fleet = Fleet::start(2, &cluster.url(), "");
    let rooms: Vec<String> = (0..8).map(|room| format!("room-{room}")).collect();
    let mut clients: Vec<Client> = rooms.iter().map(|_| fleet.client(1)).collect();
    for (client, room) in clients.iter_mut().zip(&rooms) {
        client.subscribe(room);
    }
    for number in 1..=5 {
        for room in &rooms {
            assert_eq!(publish(fleet.node(0), room, number).0, number);
        }
    }
    for (client, room) in clients.iter_mut().zip(&rooms) {
        client.hear_up_to(5);
        assert_eq!(client.numbers, [1, 2, 3, 4, 5]);
        assert_eq!(history(fleet.node(1), room).0, [1, 2, 3, 4, 5]);
    }
    let used = cluster.nodes.iter().filter(|node| node.cli(&["DBSIZE"]) != "0").count();
    assert_eq!(used, 3, "every server has some of them");
    fleet.stop();
}
