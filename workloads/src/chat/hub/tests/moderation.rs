//! What is forbidden to users, and publications that are removed: on several hubs, and over the log.

use super::logged::{later, logged};
use super::*;
use crate::chat::config::Ack;
use crate::chat::letters::{CallTicket, Order, Reply};
use crate::chat::log::{self, Lsn};
use crate::chat::sanctions::{FOREVER, Kind, Sanction};

fn sanction(kind: Kind, channel: &str, until: u64) -> Sanction {
    Sanction { kind, user: "u1".into(), channel: channel.into(), until }
}

/// What was answered, if it was.
fn now_or_never<T>(reply: &mut annulus_engine::compute::Reply<T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(reply).poll(&mut cx) {
        std::task::Poll::Ready(answer) => Some(answer.expect("an answer")),
        std::task::Poll::Pending => None,
    }
}

impl World {
    /// Gives every shard an order; what the last of them answers, once it does.
    fn order(&mut self, order: Order) -> annulus_engine::compute::Reply<Result<usize, ErrorCode>> {
        let order = Arc::new(order);
        let mut last = None;
        for shard in 0..self.hubs.len() {
            let (ticket, reply) = annulus_engine::compute::ticket();
            self.letters.push_back((shard, Letter::Order { order: order.clone(), reply: Reply(ticket) }));
            last = Some(reply);
        }
        self.settle();
        last.unwrap()
    }

    fn forbid(&mut self, sanction: Sanction) {
        let told = now_or_never(&mut self.order(Order::Sanction(sanction)));
        assert!(matches!(told, Some(Ok(_))), "{told:?}");
    }

    /// Asks a channel's owner; what it answers, once it does.
    fn ask(&mut self, channel: &str, ask: Ask) -> annulus_engine::compute::Reply<Answer> {
        let (ticket, reply) = annulus_engine::compute::ticket();
        let owner = owner(channel, self.hubs.len());
        let letter = Letter::Ask { asker: Asker::Call(CallTicket(ticket)), shard: 0, channel: channel.into(), ask };
        self.letters.push_back((owner, letter));
        self.settle();
        reply
    }
}

fn remove(offset: u64) -> Ask {
    Ask::Remove { offset, epoch: String::new() }
}

#[test]
fn who_is_muted_hears_and_is_not_heard() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(9));
        let (other, muted) = (world.connected(0), world.connected(1));
        for client in [other, muted] {
            world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
            world.heard(client);
        }
        world.forbid(sanction(Kind::Mute, &channel, 40));
        let publish = format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":1}}}}");
        world.say(muted, &publish);
        assert_eq!(world.heard(muted), ["{\"id\":3,\"error\":{\"code\":120,\"message\":\"muted: 39 s to go\"}}"]);
        world.say(other, &publish);
        assert_eq!((offsets(&world.heard(muted)), offsets(&world.heard(other))), (vec![1], vec![1]));
        world.say(muted, "{\"id\":4,\"publish\":{\"channel\":\"elsewhere\",\"data\":1}}");
        assert_eq!(world.heard(muted), ["{\"id\":4,\"publish\":{}}"]);
        world.forbid(sanction(Kind::Mute, "", FOREVER));
        world.say(muted, "{\"id\":5,\"publish\":{\"channel\":\"elsewhere\",\"data\":1}}");
        assert!(world.heard(muted)[0].contains("\"code\":120,\"message\":\"muted\""));
        world.forbid(sanction(Kind::Mute, "", 0));
        world.now = 40_000;
        world.say(muted, &publish);
        assert!(world.heard(muted).join("").contains("\"publish\":{}"), "its time is over");
        assert_eq!(world.hubs[1].counts.sanctioned, 2);
    }
}

#[test]
fn who_is_banned_leaves_and_does_not_come_back() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(9));
        let (other, banned) = (world.connected(0), world.connected(1));
        let subscribe = format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}");
        for client in [other, banned] {
            world.say(client, &subscribe);
            world.heard(client);
        }
        // One that is just coming leaves, too.
        let coming = world.connected(1);
        world.push(coming, &subscribe);
        world.forbid(sanction(Kind::Ban, &channel, 40));
        assert!(world.heard(banned)[0].contains("\"unsubscribe\":{\"code\":2020,\"reason\":\"banned\"}"));
        let told = world.heard(coming).join("");
        assert!(told.contains("\"code\":121") || told.contains("\"code\":2020"), "{told}");
        for (command, id) in [("subscribe", 5), ("history", 6), ("presence", 7), ("presence_stats", 8)] {
            world.say(banned, &format!("{{\"id\":{id},\"{command}\":{{\"channel\":\"{channel}\"}}}}"));
            let heard = world.heard(banned).join("");
            assert!(heard.contains("\"code\":121,\"message\":\"banned: 39 s to go\""), "{command}: {heard}");
        }
        world.say(banned, &format!("{{\"id\":9,\"publish\":{{\"channel\":\"{channel}\",\"data\":1}}}}"));
        assert!(world.heard(banned)[0].contains("\"code\":121"));
        let granted = crate::chat::letters::Granted { channel: channel.clone(), ..Default::default() };
        let target = crate::chat::letters::Target { user: "u1".to_owned(), ..Default::default() };
        drop(world.order(Order::Subscribe { target, subscription: granted, since: None }));
        assert!(world.heard(banned).is_empty(), "nor does the server bring it back");
        assert!(world.heard(other).is_empty() && world.closed.is_empty());
        // From everything.
        world.forbid(sanction(Kind::Ban, "", 40));
        assert_eq!((world.code(banned), world.code(coming), world.code(other)), (Some(3520), Some(3520), None));
        let again = world.open(0);
        world.say(again, "{\"id\":1,\"connect\":{\"data\":{\"user\":\"u1\"}}}");
        assert_eq!(world.code(again), Some(3520));
        world.now = 40_000;
        let later = world.connected(1);
        world.say(later, &subscribe);
        assert!(world.heard(later)[0].contains("\"subscribe\":{"));
    }
}

#[test]
fn what_is_forbidden_is_durably_so_before_that_is_said() {
    let mut world = logged(Ack::Wal);
    let mut told = world.order(Order::Sanction(sanction(Kind::Ban, "", 90)));
    assert_eq!(now_or_never(&mut told), None);
    world.log(0, Told::Durable { last: 1, end: Lsn(1) });
    assert_eq!(now_or_never(&mut told), Some(Ok(0)));
    let mut again = world.order(Order::Sanction(sanction(Kind::Ban, "", 90)));
    assert_eq!(now_or_never(&mut again), Some(Ok(0)), "the log has it");
    drop(world.order(Order::Sanction(sanction(Kind::Mute, "c", 80))));
    drop(world.order(Order::Sanction(sanction(Kind::Mute, "d", 70))));
    drop(world.order(Order::Sanction(sanction(Kind::Mute, "d", 0))));
    let said = world.hubs[0].take_append().unwrap().bytes;
    // A checkpoint says what is in force then, and nothing else is needed.
    world.log(0, Told::Checkpoint { number: 1 });
    while world.hubs[0].go_on_with_checkpoint(1000) {}
    let checkpoint = world.hubs[0].take_append().unwrap().bytes;
    for bytes in [said, checkpoint] {
        for shards in [1, 2] {
            let later = later(&config(), shards, log::split_hand_over(&bytes).unwrap().into_iter(), false);
            for hub in &later.hubs {
                let mut all: Vec<_> = hub.sanctions.of(None).map(|one| (one.kind, one.channel, one.until)).collect();
                all.sort();
                assert_eq!(all, [(Kind::Mute, "c".into(), 80), (Kind::Ban, "".into(), 90)], "of {shards}");
            }
        }
    }
    let mut told = world.order(Order::Sanction(sanction(Kind::Mute, "e", 70)));
    world.log(0, Told::Failed("the disk is gone".to_owned()));
    assert_eq!(now_or_never(&mut told), Some(Err(ErrorCode::INTERNAL)));
    let mut none_begun = world.order(Order::Sanction(sanction(Kind::Mute, "e", 70)));
    assert_eq!(now_or_never(&mut none_begun), Some(Err(ErrorCode::INTERNAL)));
}

#[test]
fn a_removed_publication_is_given_to_nobody_and_leaves_no_gap() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, with_history(9));
        let (author, reader) = (world.connected(0), world.connected(1));
        for n in 1..=4 {
            world.say(author, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"{channel}\",\"data\":\"t{n}\"}}}}"));
        }
        world.heard(author);
        let told = now_or_never(&mut world.ask(&channel, remove(3)));
        let Some(Answer::Removed(Some(epoch))) = told else { panic!("{told:?}") };
        let epoch = crate::chat::stream::epoch_text(&epoch).to_owned();
        world.say(reader, &format!("{{\"id\":4,\"history\":{{\"channel\":\"{channel}\",\"limit\":9}}}}"));
        let page = world.heard(reader).join("");
        assert!(page.contains("t2") && !page.contains("t3") && page.contains("t4") && page.contains("\"offset\":4"));
        world.say(reader, &format!("{{\"id\":5,\"subscribe\":{{\"channel\":\"{channel}\",\"recover\":true,\"offset\":1,\"epoch\":\"{epoch}\"}}}}"));
        let reply = world.heard(reader).join("");
        assert!(reply.contains("\"recovered\":true") && reply.contains("t2") && reply.contains("t4"), "{reply}");
        assert!(!reply.contains("t3") && !reply.contains("\"data\":null"), "{reply}");
        for (offset, epoch, code) in [(5, "", 107), (2, "zzzz", 112)] {
            let ask = Ask::Remove { offset, epoch: epoch.to_owned() };
            let told = now_or_never(&mut world.ask(&channel, ask));
            assert!(matches!(&told, Some(Answer::Refused(error)) if error.code == code), "{told:?}");
        }
    }
    let mut world = World::new(1, with_history(0));
    let told = now_or_never(&mut world.ask("c", remove(1)));
    assert!(matches!(told, Some(Answer::Refused(error)) if error == ErrorCode::NOT_AVAILABLE));
}

#[test]
fn a_slow_member_is_led_over_what_was_removed() {
    let mut world = World::new(1, with_history(500));
    let (slow, author) = (world.connected(0), world.connected(0));
    world.say(slow, "{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}");
    world.heard(slow);
    world.full.insert(slow);
    for n in 1..=5 {
        world.say(author, &format!("{{\"id\":3,\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}"));
    }
    for offset in [2, 5] {
        assert!(matches!(now_or_never(&mut world.ask("c", remove(offset))), Some(Answer::Removed(Some(_)))));
    }
    world.drain(slow);
    assert_eq!(offsets(&world.heard(slow)), [1, 3, 4]);
    world.say(author, "{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":6}}");
    assert_eq!(offsets(&world.heard(slow)), [6], "it is among the others again");
}

#[test]
fn what_is_said_to_be_removed_is_durably_gone() {
    let mut world = logged(Ack::Wal);
    let client = world.connected(0);
    for n in 1..=3 {
        world.say(client, &format!("{{\"id\":2,\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}"));
    }
    let mut too_early = world.ask("c", remove(2));
    assert!(matches!(now_or_never(&mut too_early), Some(Answer::Refused(error)) if error == ErrorCode::BAD_REQUEST));
    world.log(0, Told::Durable { last: 3, end: Lsn(3) });
    let mut told = world.ask("c", remove(2));
    assert!(now_or_never(&mut told).is_none());
    world.log(0, Told::Durable { last: 4, end: Lsn(4) });
    assert!(matches!(now_or_never(&mut told), Some(Answer::Removed(Some(_)))));
    let said = world.hubs[0].take_append().unwrap().bytes;
    world.log(0, Told::Checkpoint { number: 1 });
    while world.hubs[0].go_on_with_checkpoint(1000) {}
    let checkpoint = world.hubs[0].take_append().unwrap().bytes;
    for bytes in [said, checkpoint] {
        let mut later = later(&with_history(100), 1, log::split_hand_over(&bytes).unwrap().into_iter(), false);
        let slot = later.hubs[0].channels.find("c").unwrap();
        let stream = later.hubs[0].channels.at(slot).stream.as_ref().unwrap();
        let page: Vec<u64> = stream.page(None, false, 9).iter().map(|stored| stored.offset).collect();
        assert_eq!((stream.top(), stream.all().count(), page), (3, 3, vec![1, 3]));
    }
    let mut told = world.ask("c", remove(1));
    world.log(0, Told::Failed("the disk is gone".to_owned()));
    assert!(matches!(now_or_never(&mut told), Some(Answer::Refused(error)) if error == ErrorCode::INTERNAL));
}
