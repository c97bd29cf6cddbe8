//! Hubs with a log, which the test plays: what a promise holds back, what a checkpoint tells, and what comes back.

use super::*;
use crate::chat::config::Ack;
use crate::chat::log::{self, Lsn};

/// A world whose channels promise what `ack` says; the test plays the log.
pub(super) fn logged(ack: Ack) -> World {
    let mut config = with_history(100);
    let directory = tempfile();
    config.log.directory = Some(directory.clone());
    config.channels.default.ack = Some(ack);
    config.channels.default.idempotency_field = Some("id".to_owned());
    let opened = log::Log::open(&log::Options::new(&directory), &mut |_, _| {}).unwrap();
    let common = Common { log: Some(opened.state.clone()), ..common(config) };
    std::fs::remove_dir_all(directory).unwrap();
    let mut world = World::new(1, Config::default());
    world.hubs = vec![Hub::new(0, 1, Arc::new(common), verifiers())];
    world
}

pub(super) fn tempfile() -> std::path::PathBuf {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("annulus-hub-{}-{count}", std::process::id()))
}

#[test]
fn nobody_hears_of_a_publication_before_its_promise_holds() {
    for ack in [Ack::Page, Ack::Wal, Ack::Db] {
        let mut world = logged(ack);
        let client = world.connected(0);
        world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
        world.heard(client);
        for n in 1..=3 {
            world.say(client, &format!("{{\"id\":{},\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}", n + 2));
        }
        assert!(world.heard(client).is_empty() && world.hubs[0].pending() == 3);
        assert_eq!(world.hubs[0].take_append().unwrap().last, 3);
        world.log(0, Told::Written { last: 2, end: Lsn(20) });
        assert_eq!(offsets(&world.heard(client)).len(), if ack == Ack::Page { 2 } else { 0 });
        world.log(0, Told::Durable { last: 2, end: Lsn(20) });
        let heard = world.heard(client);
        assert_eq!(offsets(&heard).len(), if ack == Ack::Wal { 2 } else { 0 });
        world.log(0, Told::Durable { last: 3, end: Lsn(30) });
        world.letters.push_back((0, Letter::Stored(29)));
        world.settle();
        let heard = [heard, world.heard(client)].concat();
        match ack {
            Ack::Page => assert_eq!(offsets(&heard), [3]),
            Ack::Wal => assert_eq!(offsets(&heard), [1, 2, 3]),
            _ => assert_eq!(offsets(&heard), [1, 2]),
        }
        world.letters.push_back((0, Letter::Stored(30)));
        world.settle();
        assert_eq!(world.hubs[0].pending(), 0);
        assert!(world.heard(client).join("\n").contains("\"publish\":{}") || ack != Ack::Db);
    }
}

#[test]
fn other_commands_wait_for_publications_before_them() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    world.say(client, "{\"id\":2,\"publish\":{\"channel\":\"c\",\"data\":1}}\n{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":2}}\n{\"id\":4,\"history\":{\"channel\":\"c\",\"limit\":-1}}");
    assert!(world.heard(client).is_empty());
    world.log(0, Told::Durable { last: 1, end: Lsn(1) });
    assert_eq!(world.heard(client), ["{\"id\":2,\"publish\":{}}"]);
    world.log(0, Told::Durable { last: 2, end: Lsn(2) });
    let heard = world.heard(client);
    assert_eq!(heard[0], "{\"id\":3,\"publish\":{}}");
    assert!(heard[1].contains("\"data\":1,") && heard[1].contains("\"data\":2,"), "{heard:?}");
}

#[test]
fn a_publication_that_is_repeated_is_answered_and_not_made_again() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    world.say(client, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
    world.heard(client);
    let publish = |world: &mut World, id: u32, data: &str| {
        world.say(client, &format!("{{\"id\":{id},\"publish\":{{\"channel\":\"c\",\"data\":{data}}}}}"));
    };
    publish(&mut world, 3, "{\"id\":\"k\",\"n\":1}");
    publish(&mut world, 4, "{\"id\":\"k\",\"n\":1}");
    assert!(world.heard(client).is_empty(), "neither is promised yet");
    world.log(0, Told::Durable { last: 1, end: Lsn(1) });
    let heard = world.heard(client);
    assert_eq!(offsets(&heard), [1]);
    assert!(
        ["{\"id\":3,\"publish\":{}}", "{\"id\":4,\"publish\":{}}"].iter().all(|reply| heard.iter().any(|h| h == reply))
    );
    publish(&mut world, 5, "{\"id\":\"k\",\"n\":1}");
    assert_eq!(world.heard(client), ["{\"id\":5,\"publish\":{}}"]);
    publish(&mut world, 6, "{\"id\":\"k\",\"n\":2}");
    assert!(world.heard(client)[0].contains("\"code\":107"), "the same key with another payload");
    assert_eq!(world.hubs[0].counts.publications, 1);
}

#[test]
fn a_log_that_fails_makes_the_node_read_only() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    world.say(client, "{\"id\":2,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    world.log(0, Told::Failed("the disk is gone".to_owned()));
    assert!(world.heard(client)[0].contains("\"code\":100,"));
    world.say(client, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    assert!(world.heard(client)[0].contains("\"code\":100,"));
    world.say(client, "{\"id\":4,\"history\":{\"channel\":\"c\",\"limit\":-1}}");
    assert!(world.heard(client)[0].contains("\"publications\":[]"), "what was not promised is not shown");
}

#[test]
fn an_earlier_life_comes_back_with_any_number_of_shards() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    for n in 1..=4 {
        world.say(client, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"c{}\",\"data\":{{\"id\":{n}}}}}}}", n % 2));
    }
    world.log(0, Told::Durable { last: 4, end: Lsn(1) });
    world.hubs[0].begin_checkpoint(1);
    assert!(!world.hubs[0].go_on_with_checkpoint(world.now));
    let append = world.hubs[0].take_append().unwrap();
    let records = log::split_hand_over(&append.bytes).unwrap();
    let whole = records.len();
    for from in [0, 4] {
        // All of it, and the checkpoint alone: the same.
        let mut config = with_history(100);
        config.channels.default.idempotency_field = Some("id".to_owned());
        let mut restorer = Restorer::new(&config, None, 3);
        records[from..whole].iter().cloned().for_each(|record| restorer.apply(record));
        let mut later = World::new(3, config.clone());
        for (hub, restored) in later.hubs.iter_mut().zip(restorer.finish()) {
            hub.adopt(restored, false);
        }
        later.now = world.now;
        let reader = later.connected(2);
        later.say(reader, "{\"id\":7,\"history\":{\"channel\":\"c1\",\"limit\":-1}}");
        let heard = later.heard(reader).join("");
        assert!(heard.contains("\"data\":{\"id\":1},") && heard.contains("\"data\":{\"id\":3},"), "{heard}");
        assert!(heard.contains("\"offset\":1}") && heard.contains("\"offset\":2}"), "{heard}");
        assert!(heard.contains("\"user\":\"u0\""), "{heard}");
        let epoch = |world: &World| {
            let mut all = world.hubs.iter().flat_map(|hub| hub.channels.iter());
            all.find(|channel| &*channel.name == "c1").and_then(|channel| Some(channel.stream.as_ref()?.epoch)).unwrap()
        };
        assert_eq!(epoch(&later), epoch(&world));
    }
}

/// Another world of as many shards, with what records leave of an earlier one.
pub(super) fn later<'r>(
    config: &Config,
    shards: usize,
    records: impl Iterator<Item = log::Record<'r>>,
    doubtful: bool,
) -> World {
    let mut restorer = Restorer::new(config, None, shards);
    records.for_each(|record| restorer.apply(record));
    let mut later = World::new(shards, config.clone());
    for (hub, restored) in later.hubs.iter_mut().zip(restorer.finish()) {
        hub.adopt(restored, doubtful);
    }
    later
}

#[test]
fn a_checkpoint_tells_of_a_long_history_in_parts_while_life_goes_on() {
    const KEPT: u64 = 700;
    let mut world = logged(Ack::Wal);
    let mut common = common(with_history(KEPT as usize * 2));
    common.log = world.hubs[0].common.log.clone();
    common.config.log.directory = world.hubs[0].common.config.log.directory.clone();
    common.config.channels.default.ack = Some(Ack::Wal);
    let config = common.config.clone();
    world.hubs = vec![Hub::new(0, 1, Arc::new(common), verifiers())];
    let client = world.connected(0);
    let publish = |world: &mut World, n: u64| {
        let text = "x".repeat(300);
        world.say(client, &format!("{{\"id\":{n},\"publish\":{{\"channel\":\"c\",\"data\":\"{text}\"}}}}"));
        world.log(0, Told::Durable { last: u64::MAX, end: Lsn(n) });
    };
    (1..=KEPT).for_each(|n| publish(&mut world, n));
    world.hubs[0].take_append().unwrap();
    world.hubs[0].begin_checkpoint(1);
    let (mut parts, mut bytes) = (0, Vec::new());
    loop {
        let more = world.hubs[0].go_on_with_checkpoint(world.now);
        parts += 1;
        publish(&mut world, KEPT + parts);
        let append = world.hubs[0].take_append().unwrap();
        assert!(append.bytes.len() < 2 * (64 << 10), "a part has {} bytes", append.bytes.len());
        bytes.extend(append.bytes);
        if !more {
            break;
        }
    }
    assert!(parts > 3, "{parts}");
    let records = log::split_hand_over(&bytes).unwrap();
    let mut later = later(&config, 1, records.into_iter(), false);
    let slot = later.hubs[0].channels.find("c").unwrap();
    let stream = later.hubs[0].channels.at(slot).stream.as_ref().unwrap();
    let offsets: Vec<u64> = stream.all().map(|stored| stored.offset).collect();
    assert_eq!(offsets, (1..=KEPT + parts).collect::<Vec<_>>());
}

#[test]
fn what_is_said_to_be_cleared_is_durably_gone() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    world.say(client, "{\"id\":2,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    world.log(0, Told::Durable { last: 1, end: Lsn(1) });
    let clear = |world: &mut World| {
        let (ticket, mut reply) = annulus_engine::compute::ticket();
        let asker = Asker::Call(crate::chat::letters::CallTicket(ticket));
        world.letters.push_back((0, Letter::Ask { asker, shard: 0, channel: "c".into(), ask: Ask::Clear }));
        world.settle();
        move || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            match std::pin::Pin::new(&mut reply).poll(&mut cx) {
                std::task::Poll::Ready(answer) => Some(answer.expect("an answer")),
                std::task::Poll::Pending => None,
            }
        }
    };
    let mut told = clear(&mut world);
    assert!(told().is_none());
    world.log(0, Told::Durable { last: 2, end: Lsn(2) });
    assert!(matches!(told(), Some(Answer::Cleared(Some(_)))));
    let records = world.hubs[0].take_append().unwrap().bytes;
    let mut later = later(&with_history(100), 1, log::split_hand_over(&records).unwrap().into_iter(), false);
    let slot = later.hubs[0].channels.find("c").unwrap();
    let stream = later.hubs[0].channels.at(slot).stream.as_ref().unwrap();
    assert_eq!((stream.top(), stream.all().count()), (1, 0), "its numbers go on");

    let mut told = clear(&mut world);
    world.log(0, Told::Failed("the disk is gone".to_owned()));
    assert!(matches!(told(), Some(Answer::Refused(error)) if error == ErrorCode::INTERNAL));
    let mut none_begun = clear(&mut world);
    assert!(matches!(none_begun(), Some(Answer::Refused(error)) if error == ErrorCode::INTERNAL));
}

#[test]
fn a_key_whose_time_is_over_publishes_anew_though_a_longer_one_is_before_it() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    let epoch = world.hubs[0].draw_epoch();
    world.hubs[0].keys.insert(log::Key { digest: [1; 16], payload: 0 }, "other".into(), 1, epoch, u64::MAX);
    let window = world.hubs[0].common.config.channels.default.idempotency_window_ms;
    for (after, publications) in [(0, 1), (window - 1, 1), (window, 2)] {
        world.now = 1000 + after;
        world.say(client, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":{\"id\":\"k\"}}}");
        world.log(0, Told::Durable { last: publications, end: Lsn(publications) });
        assert_eq!(world.hubs[0].counts.publications, publications, "after {after} ms");
    }
}

#[test]
fn channels_that_a_loss_of_power_left_in_doubt_begin_anew_for_good() {
    let mut world = logged(Ack::Page);
    let config = world.hubs[0].common.config.clone();
    let client = world.connected(0);
    world.say(client, "{\"id\":2,\"publish\":{\"channel\":\"c\",\"data\":1}}");
    let before = world.hubs[0].take_append().unwrap().bytes;
    let mut records = log::split_hand_over(&before).unwrap();
    let epoch = |hub: &Hub| hub.channels.iter().find_map(|channel| Some(channel.stream.as_ref()?.epoch)).unwrap();

    let mut second = later(&config, 1, records.iter().cloned(), true);
    assert_ne!(epoch(&second.hubs[0]), epoch(&world.hubs[0]));
    let said = second.hubs[0].take_append().expect("the log is told").bytes;
    assert!(!second.hubs[0].take_settled_doubt(), "not before the log has it");
    second.log(0, Told::Durable { last: 1, end: Lsn(1) });
    assert!(second.hubs[0].take_settled_doubt() && !second.hubs[0].take_settled_doubt());

    records.extend(log::split_hand_over(&said).unwrap());
    let third = later(&config, 1, records.into_iter(), false);
    assert_eq!(epoch(&third.hubs[0]), epoch(&second.hubs[0]), "what was promised since counts on it");
}
