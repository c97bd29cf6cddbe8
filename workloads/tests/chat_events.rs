//! What the backend is told happened, by the real binary: signed, in order, again where it is not taken, and never at a client's
//! expense. The backend fails, is silent, refuses, redirects, and is killed.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod hook_rig;
mod outside;

use std::collections::{BTreeMap, HashSet};

use chat_rig::frames::Raw;
use chat_rig::{Chat, Folder, Setup, free_port, until};
use hook_rig::{Backend, Delivery, Mood};
use serde_json::Value;

const SECRET: &str = "a secret of thirty-two bytes ....";

/// The user of its first event.
fn user_of(delivery: &Delivery) -> String {
    delivery.events()[0]["user"].as_str().unwrap().to_owned()
}

/// What a backend has to check.
fn check(delivery: &Delivery) {
    assert!(delivery.line.starts_with("POST /events HTTP/1.1"), "{delivery:?}");
    assert!(delivery.is_signed_with(SECRET) && delivery.authorization == "Bearer b", "{delivery:?}");
    let body = delivery.body();
    let (node, first) = (body["node"].as_str().unwrap(), &body["events"][0]["number"]);
    assert_eq!(delivery.id, format!("{node}:{}:{first}", body["shard"]));
    assert_eq!(node.len(), 36, "{body}");
}

/// All events of all deliveries, each delivery counted once.
fn events_of(deliveries: &[Delivery]) -> Vec<Value> {
    let mut known = HashSet::new();
    deliveries.iter().filter(|delivery| known.insert(delivery.id.clone())).flat_map(Delivery::events).collect()
}

/// Numbers of events by shard, as they came.
fn numbers_of(deliveries: &[Delivery]) -> BTreeMap<u64, Vec<u64>> {
    let (mut known, mut numbers) = (HashSet::new(), BTreeMap::<u64, Vec<u64>>::new());
    for delivery in deliveries.iter().filter(|delivery| known.insert(delivery.id.clone())) {
        let of = numbers.entry(delivery.body()["shard"].as_u64().unwrap()).or_default();
        of.extend(delivery.events().iter().map(|event| event["number"].as_u64().unwrap()));
    }
    numbers
}

fn start(folder: &Folder, shards: &str, port: u16, more: &str) -> Chat {
    start_with("shutdown_timeout = \"5s\"", folder, shards, port, more)
}

/// With `first` in `[chat]`.
fn start_with(first: &str, folder: &Folder, shards: &str, port: u16, more: &str) -> Chat {
    let config = format!(
        "log.enabled = false\n{first}\n[[chat.namespaces]]\nname = \"quiet\"\n[chat.events]\n\
         endpoint = \"http://127.0.0.1:{port}/events\"\nsecret = \"{SECRET}\"\nnamespaces = [\"\"]\n\
         allow_private = [\"127.0.0.1\"]\nstatic_headers = {{ Authorization = \"Bearer b\" }}\n{more}\n"
    );
    Setup { shards, ..Setup::ours(&config) }.start(folder)
}

fn ended(chat: &Chat) -> [f64; 3] {
    ["taken", "dead_letter", "dropped"]
        .map(|outcome| chat.figure_with("annulus_chat_events_total", &format!("outcome=\"{outcome}\"")))
}

/// Waits until the chat has said something: its words come by another way than its figures.
fn says(chat: &Chat, what: &str) {
    until(what, || chat.logged().contains(what));
}

/// Subscribes somebody to a channel, where they say something and hear it.
fn talk(client: &mut Raw, channel: &str) {
    client.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    client.hear_of(r#""subscribe":{"#);
    client.say(&format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":1}}}}"#));
    client.hear_of(r#""publish":{}"#);
}

#[test]
fn who_comes_and_goes_is_told_in_order_and_signed() {
    for shards in ["1", "2"] {
        let backend = Backend::start(&[]);
        let folder = Folder::new();
        let chat = start(&folder, shards, backend.port, "");
        let mut ann = Raw::connect(chat.address, "ann");
        talk(&mut ann, "quiet:room");
        talk(&mut ann, "room");
        ann.say(r#"{"id":4,"unsubscribe":{"channel":"room"}}"#);
        ann.hear_of(r#""unsubscribe":{}"#);
        drop(ann);
        until("all is told", || events_of(&backend.came()).len() >= 6);
        let events = events_of(&backend.came());
        let of = |which: &[&str]| -> Vec<String> {
            let kinds = events.iter().map(|event| event["type"].as_str().unwrap().to_owned());
            kinds.filter(|kind| which.contains(&kind.as_str())).collect()
        };
        let of_client = ["connected", "joined", "left", "disconnected"];
        assert_eq!(of(&of_client), of_client);
        assert_eq!(of(&["occupied", "vacated"]), ["occupied", "vacated"]);
        let client = events.iter().find(|event| event["type"] == "connected").unwrap()["client"].clone();
        for event in &events {
            match event["type"].as_str().unwrap() {
                "occupied" | "vacated" => assert!(event["user"].is_null() && event["channel"] == "room", "{event}"),
                "joined" | "left" => assert!(event["client"] == client && event["channel"] == "room", "{event}"),
                _ => assert!(
                    event["client"] == client && event["user"] == "ann" && event["channel"].is_null(),
                    "{event}"
                ),
            }
            assert!(event["time_ms"].as_u64().unwrap() > 1_700_000_000_000, "{event}");
        }
        // Who is there at the end is told of, too, and what they leave behind, whichever shard has it.
        let mut others: Vec<Raw> = (0..8).map(|number| Raw::connect(chat.address, &format!("u{number}"))).collect();
        for (number, other) in others.iter_mut().enumerate() {
            talk(other, &format!("room-{number}"));
        }
        chat.stop();
        let came = backend.came();
        came.iter().for_each(check);
        let events = events_of(&came);
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        let kinds = ["connected", "disconnected", "joined", "left", "occupied", "vacated"];
        assert_eq!(kinds.map(count), [9; 6], "{events:?}");
        for numbers in numbers_of(&came).into_values() {
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "in order, and without a gap");
        }
    }
}

#[test]
fn what_fails_is_told_again_and_what_is_refused_is_a_dead_letter() {
    let backend = Backend::start(&[
        Mood::Answers(503),
        Mood::Cuts,
        Mood::Answers(429),
        Mood::Answers(204),
        Mood::Answers(302),
        Mood::Answers(400),
    ]);
    let folder = Folder::new();
    let chat = start(&folder, "1", backend.port, "types = [\"connected\"]\nbatch_max = 1");
    let users = ["ann", "bob", "cid", "dan"];
    let _clients: Vec<Raw> = users.iter().map(|user| Raw::connect(chat.address, user)).collect();
    until("the last is told", || backend.came().len() >= 7);
    let came = backend.came();
    came.iter().for_each(check);
    let told: Vec<String> = came.iter().map(user_of).collect();
    assert_eq!(told, ["ann", "ann", "ann", "ann", "bob", "cid", "dan"], "in their order");
    assert!(came[..4].iter().all(|delivery| delivery.id == came[0].id && delivery.body == came[0].body), "{came:?}");
    until("it is counted", || ended(&chat) == [2.0, 2.0, 0.0]);
    assert_eq!(chat.figure("annulus_chat_event_requests_total"), 7.0);
    assert_eq!(chat.figure("annulus_chat_event_requests_failed_total"), 5.0);
    assert_eq!(chat.figure("annulus_chat_events_waiting"), 0.0);
    says(&chat, "answered with status 503. They are told again");
    // Of two within a moment one is said, and the other is counted.
    says(
        &chat,
        &format!("events: 1, number 2 to 2 of shard 0, are given up (delivery {}): http://127.0.0.1:", came[4].id),
    );
    says(&chat, "/events answered with status 302");
    chat.stop();
}

#[test]
fn what_fails_for_too_long_is_a_dead_letter() {
    let backend = Backend::start(&[Mood::Answers(500)]);
    let folder = Folder::new();
    let chat = start(&folder, "1", backend.port, "types = [\"connected\"]\nbatch_max = 1\ngive_up_after = 0");
    let _clients = ["ann", "bob"].map(|user| Raw::connect(chat.address, user));
    until("both are told", || ended(&chat) == [1.0, 1.0, 0.0]);
    assert_eq!(backend.came().iter().map(user_of).collect::<Vec<_>>(), ["ann", "bob"]);
    says(&chat, "are given up (delivery ");
    chat.stop();
}

#[test]
fn a_slow_backend_is_told_again_and_no_client_waits_for_it() {
    let backend = Backend::start(&[Mood::Silent]);
    let folder = Folder::new();
    let mut chat = start(&folder, "2", backend.port, "timeout = \"300ms\"\ntypes = [\"connected\"]");
    let ann = Raw::connect(chat.address, "ann");
    until("it is told again", || backend.came().len() >= 2 && ended(&chat)[0] >= 1.0);
    assert!(backend.came().iter().all(|delivery| delivery.id == backend.came()[0].id));
    says(&chat, "no answer within 300ms");
    drop(ann);
    chat.signal("-TERM");
    assert!(chat.process.wait().unwrap().success(), "{}", chat.logged());

    // It says nothing for as long as this test lasts, and clients do everything nevertheless.
    let folder = Folder::new();
    let mut chat = start(&folder, "2", backend.port, "timeout = \"1h\"");
    (0..20).for_each(|_| backend.expect(Mood::Silent));
    let mut clients: Vec<Raw> = (0..20).map(|number| Raw::connect(chat.address, &format!("u{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        talk(client, &format!("room-{number}"));
    }
    drop(clients);
    until("they are gone", || chat.figure("annulus_chat_clients") == 0.0);
    until("all waits", || chat.figure("annulus_chat_events_waiting") == 120.0);
    assert_eq!(ended(&chat), [0.0; 3]);
    // Nor does the end wait for it for ever.
    chat.signal("-TERM");
    assert!(chat.process.wait().unwrap().success(), "{}", chat.logged());
    says(&chat, "had no time for them at the end");
}

#[test]
fn a_backend_that_is_killed_is_told_when_it_is_back() {
    let backend = Backend::start(&[Mood::Answers(204), Mood::Silent]);
    let (folder, port) = (Folder::new(), backend.port);
    let chat = start(&folder, "1", port, "types = [\"connected\", \"disconnected\"]");
    let _ann = Raw::connect(chat.address, "ann");
    until("ann is told of", || ended(&chat)[0] == 1.0);
    let bob = Raw::connect(chat.address, "bob");
    until("bob's request is there", || backend.came().len() == 2);
    let mut came = backend.kill();
    // Nobody notices but the queue.
    let mut cid = Raw::connect(chat.address, "cid");
    talk(&mut cid, "room");
    drop(bob);
    until("the chat has noticed", || chat.figure("annulus_chat_event_requests_failed_total") >= 2.0);
    assert_eq!(ended(&chat), [1.0, 0.0, 0.0]);

    let backend = Backend::start_at(port, &[]);
    until("all is told", || ended(&chat)[0] == 4.0);
    let again = backend.came();
    assert_eq!(again[0].id, came[1].id, "under the same name");
    came.extend(again);
    came.iter().for_each(check);
    // A request that nobody answered may have grown no further: the rest comes behind it.
    assert_eq!(numbers_of(&came)[&0], [1, 2, 3, 4]);
    let users: Vec<Value> = events_of(&came).iter().map(|event| event["user"].clone()).collect();
    assert_eq!(users, ["ann", "bob", "cid", "bob"]);
    chat.stop();
}

#[test]
fn a_client_that_does_not_go_keeps_no_event_of_other_shards_back() {
    let (folder, port) = (Folder::new(), free_port());
    let first = "shutdown_timeout = \"10s\"\noutbox_bytes_max = 67108864\nclient.ping_interval = 0";
    let chat = start_with(first, &folder, "2", port, "types = [\"connected\"]");
    let mut clients: Vec<Raw> = (0..16).map(|number| Raw::connect(chat.address, &format!("u{number}"))).collect();
    // More than the kernel takes for one who reads nothing.
    let mut stays = clients.pop().unwrap();
    stays.say(r#"{"id":2,"subscribe":{"channel":"quiet:room"}}"#);
    stays.hear_of(r#""subscribe":{"#);
    let padding = "x".repeat(50_000);
    (0..400).for_each(|_| drop(chat.call("publish", &format!(r#"{{"channel":"quiet:room","data":"{padding}"}}"#))));
    until("much waits for it", || chat.figure("annulus_chat_outbound_bytes") > 1e6);
    // So often that both shards pause for longer than the backend is given at the end.
    until("all waits", || chat.figure("annulus_chat_events_waiting") == 16.0);
    until("pauses are long", || chat.figure("annulus_chat_event_requests_failed_total") >= 10.0);
    let backend = Backend::start_at(port, &[]);
    // One shard waits for somebody who takes nothing, and the other one for nobody.
    drop(clients);
    chat.stop();
    let mut users: Vec<String> =
        events_of(&backend.came()).iter().map(|event| event["user"].as_str().unwrap().to_owned()).collect();
    users.sort();
    let mut expected: Vec<String> = (0..16).map(|number| format!("u{number}")).collect();
    expected.sort();
    assert_eq!(users, expected);
}

#[test]
fn what_has_no_room_is_counted_said_and_a_gap() {
    let (folder, port) = (Folder::new(), free_port());
    let chat = start(&folder, "1", port, "types = [\"connected\"]\nwaiting_max = 10\nbatch_max = 4");
    let clients: Vec<Raw> = (0..30).map(|number| Raw::connect(chat.address, &format!("u{number}"))).collect();
    until("those that have no room are counted", || ended(&chat) == [0.0, 0.0, 20.0]);
    assert_eq!(chat.figure("annulus_chat_events_waiting"), 10.0);
    says(&chat, "newer ones are dropped. Fix: answer sooner");
    let backend = Backend::start_at(port, &[]);
    until("what waited is told", || ended(&chat)[0] == 10.0);
    let _last = Raw::connect(chat.address, "last");
    until("the last is told", || ended(&chat)[0] == 11.0);
    let numbers = numbers_of(&backend.came());
    assert_eq!(numbers[&0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 31]);
    assert!(backend.came().iter().all(|delivery| delivery.events().len() <= 4));
    drop(clients);
    chat.stop();
}

#[test]
fn what_is_wrong_with_the_configuration_is_told() {
    for (section, says) in [
        ("", "chat.events.endpoint: there is nowhere to send events to"),
        ("endpoint = \"http://a/b\"\nsecret = \"hush\"", "chat.events.secret: requests are signed with it"),
        (
            "endpoint = \"http://127.0.0.1/b\"",
            "127.0.0.1 is not an address of the public network. Set allow_private = ",
        ),
        ("endpoint = \"http://a/b\"\ntypes = [\"join\"]", "a list of some of connected, disconnected, joined"),
    ] {
        let folder = Folder::new();
        let said = Setup::ours(&format!("[chat.events]\n{section}\n")).refused(&folder);
        assert!(said.contains(says) && !said.contains("hush"), "{section}: {said}");
    }
}
