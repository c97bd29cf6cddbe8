//! A node that is cut off from the others and from Redis.

use std::time::Duration;

use super::cable::Network;
use super::rig::{Fleet, history, publish};
use crate::chat_rig::until;
use crate::outside::redis::{Durability, Redis};

#[test]
fn a_node_that_is_cut_off_goes_on_by_itself_and_has_missed_nothing_when_it_is_back() {
    let Some(network) = Network::new("a network that is cut") else { return };
    let (near, far) = (&network.near, &network.far);
    let open = ["--bind", Network::NEAR, "127.0.0.1", "--protected-mode", "no"];
    let Some(redis) = near.within(|| Redis::start_with(Durability::None, &open)) else { return };
    let url = format!("redis://{}:{}?answer_ms=500&connect_ms=500", Network::NEAR, redis.port);
    let mut fleet = Fleet::prepare(2, &url, "");
    near.within(|| fleet.start_again(0));
    far.within(|| fleet.start_again(1));
    let nodes = || near.within(|| fleet.node(0).call("info", "{}"))["result"]["nodes"].as_array().unwrap().len();
    until("they see each other", || nodes() == 2);

    let mut here = near.within(|| fleet.client(0));
    let mut there = far.within(|| fleet.client(1));
    here.subscribe("room");
    there.subscribe("room");
    assert_eq!(near.within(|| publish(fleet.node(0), "room", 1)).0, 1);
    there.hear_up_to(1);

    network.cut();
    let refused = r#"{"channel":"room","data":{"number":0}}"#;
    until("it is refused", || far.within(|| fleet.node(1).call("history", refused))["error"]["code"] == 100);
    let mut begun = far.within(|| fleet.client(1));
    // Members there still hear each other, where no history is promised.
    let said = r#"{"channel":"room","data":{"number":0},"skip_history":true}"#;
    let said = far.within(|| fleet.node(1).call("publish", said));
    assert!(said["error"].is_null(), "{said}");
    assert!(there.raw.hear_of("\"number\":0").contains("\"pub\""));
    for number in 2..=20 {
        assert_eq!(near.within(|| publish(fleet.node(0), "room", number)).0, number);
    }
    until("its lease has ended", || nodes() == 1);
    // Whoever publishes there goes on trying, with a key, and whoever comes there goes on trying to subscribe.
    std::thread::scope(|scope| {
        let (fleet, there, begun) = (&fleet, &mut there, &mut begun);
        let publisher = scope.spawn(move || far.within(|| publish(fleet.node(1), "room", 21)).0);
        let subscriber = scope.spawn(move || begun.subscribe("room"));
        std::thread::sleep(Duration::from_secs(2));
        assert!(!publisher.is_finished() && !subscriber.is_finished(), "the cable is cut");
        network.mend();
        assert_eq!(publisher.join().unwrap(), 21);
        assert!(subscriber.join().unwrap()["error"].is_null());
        there.hear_up_to(21);
    });
    here.hear_up_to(21);
    assert_eq!(there.numbers, (1..=21).collect::<Vec<u64>>());
    assert_eq!(here.numbers, there.numbers);
    assert_eq!(far.within(|| history(fleet.node(1), "room")).0, there.numbers);
    until("they see each other again", || nodes() == 2);
    assert_eq!(far.within(|| publish(fleet.node(1), "room", 22)).0, 22);
    for client in [&mut here, &mut there, &mut begun] {
        client.hear_up_to(22);
    }
    fleet.stop();
}
