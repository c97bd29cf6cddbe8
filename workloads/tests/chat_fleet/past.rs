//! Histories that reach behind what Redis keeps, into the PostgreSQL that the nodes share.

use super::rig::{Fleet, publish};
use crate::chat_rig::{Chat, until};
use crate::outside::postgres::Postgres;
use crate::outside::redis::{Durability, Redis};

/// The numbers of a page.
fn page(chat: &Chat, which: &str) -> Vec<u64> {
    let answer = chat.call("history", &format!(r#"{{"channel":"past:room",{which}}}"#));
    let list = answer["result"]["publications"].as_array().unwrap_or_else(|| panic!("{answer}"));
    list.iter().map(|publication| publication["data"]["number"].as_u64().unwrap()).collect()
}

const ALL: &str = r#""limit":100,"since":{"offset":0,"epoch":""}"#;
const REVERSE: &str = r#""limit":100,"reverse":true"#;

#[test]
fn pages_behind_the_window_come_from_the_database_that_the_nodes_share() {
    let group = "history of several nodes out of PostgreSQL";
    let (Some(redis), Some(postgres)) = (Redis::start(Durability::None), Postgres::start(group)) else { return };
    let namespace = "[[chat.namespaces]]\nname = \"past\"\nhistory_size = 3\nhistory_from_database = true\n";
    let fleet = Fleet::start(2, &redis.url(), &format!("database.postgres = \"{}\"\n{namespace}", postgres.url()));
    for number in 1..=10 {
        assert_eq!(publish(fleet.node(number as usize % 2), "past:room", number).0, number);
    }
    let is = |offsets: &str| format!("channel = 'past:room' AND \"offset\" {offsets}");
    let count = format!("SELECT count(*) FROM annulus_publications WHERE {}", is("> 0"));
    until("both have filled it", || postgres.sql(&count).trim() == "10");
    for node in [fleet.node(0), fleet.node(1)] {
        assert_eq!(page(node, ALL), (1..=10).collect::<Vec<_>>());
        assert_eq!(page(node, REVERSE), (1..=10).rev().collect::<Vec<_>>());
        assert_eq!(page(node, r#""limit":4,"since":{"offset":2,"epoch":""}"#), [3, 4, 5, 6]);
        assert_eq!(page(node, r#""limit":2,"reverse":true,"since":{"offset":9,"epoch":""}"#), [8, 7]);
        assert_eq!(page(node, r#""limit":100"#), [8, 9, 10], "without a position it begins with the window");
    }

    // What is missing may be on its way from the other node, for as long as what follows it is young.
    postgres.sql(&format!("DELETE FROM annulus_publications WHERE {}", is("= 5")));
    assert_eq!(page(fleet.node(0), ALL), [1, 2, 3, 4]);
    assert_eq!(page(fleet.node(1), REVERSE), [10, 9, 8, 7, 6]);
    let hour = "UPDATE annulus_publications SET time_ms = time_ms - 3600000 WHERE";
    postgres.sql(&format!("{hour} {}", is("= 6")));
    assert_eq!(page(fleet.node(0), ALL), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
    assert_eq!(page(fleet.node(1), REVERSE), [10, 9, 8, 7, 6, 4, 3, 2, 1]);

    // One that only the database has, and one of the window: no node shows them.
    for (node, offset) in [(0, 4), (1, 9)] {
        let body = format!(r#"{{"channel":"past:room","offset":{offset}}}"#);
        let removed = fleet.node(node).call("publication_remove", &body);
        assert!(removed["error"].is_null(), "{removed}");
    }
    let noted = "SELECT \"offset\" FROM annulus_removed WHERE channel = 'past:room' ORDER BY 1";
    assert_eq!(postgres.sql(noted).split_whitespace().collect::<Vec<_>>(), ["4", "9"]);
    for node in [fleet.node(0), fleet.node(1)] {
        assert_eq!(page(node, ALL), [1, 2, 3, 6, 7, 8, 10]);
        assert_eq!(page(node, REVERSE), [10, 8, 7, 6, 3, 2, 1]);
    }

    let removed = fleet.node(0).call("history_remove", r#"{"channel":"past:room"}"#);
    assert!(removed["error"].is_null(), "{removed}");
    for node in [fleet.node(0), fleet.node(1)] {
        assert!(page(node, ALL).is_empty() && page(node, REVERSE).is_empty());
    }
    assert_eq!(publish(fleet.node(1), "past:room", 11).0, 11);
    assert_eq!(page(fleet.node(0), ALL), [11]);
    fleet.stop();
}
