//! What the backend is told: who came and went in which order, and when a channel is in use, on several hubs.

use super::*;
use crate::chat::config::events::Events;
use crate::chat::events::{Kind, What};
use crate::chat::sanctions::{FOREVER, Kind as Forbidden, Sanction};

fn told(mut config: Config, events: Events) -> Config {
    config.events = Some(events);
    config
}

impl World {
    /// What was noted since last asked, in a word each: of a client with its user, of a channel with its name.
    fn noted(&mut self) -> Vec<String> {
        let word = |Event { time_ms, what }: Event| {
            assert_eq!(time_ms, self.now);
            let kind = what.kind().name();
            match what {
                What::Connected(who) | What::Disconnected(who) => format!("{kind} {}", who.user),
                What::Joined(who, channel) | What::Left(who, channel) => format!("{kind} {} {channel}", who.user),
                What::Occupied(channel) | What::Vacated(channel) => format!("{kind} {channel}"),
            }
        };
        std::mem::take(&mut self.events).into_iter().map(word).collect()
    }

    fn subscribe(&mut self, client: Place, channel: &str) {
        self.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
    }

    fn unsubscribe(&mut self, client: Place, channel: &str) {
        self.say(client, &format!("{{\"id\":3,\"unsubscribe\":{{\"channel\":\"{channel}\"}}}}"));
    }
}

#[test]
fn who_comes_and_goes_is_noted_and_a_channel_once_for_all_its_members() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, told(config(), Events::default()));
        let clients = [world.connected(0), world.connected(1), world.connected(1)];
        assert_eq!(world.noted(), ["connected u0", "connected u1", "connected u1"]);
        world.subscribe(clients[0], &channel);
        assert_eq!(world.noted(), [format!("occupied {channel}"), format!("joined u0 {channel}")]);
        world.subscribe(clients[1], &channel);
        world.subscribe(clients[1], &channel);
        world.subscribe(clients[2], &channel);
        assert_eq!(world.noted(), [format!("joined u1 {channel}"), format!("joined u1 {channel}")]);
        world.unsubscribe(clients[0], &channel);
        world.unsubscribe(clients[0], &channel);
        world.leave(clients[1]);
        world.settle();
        let left = [format!("left u0 {channel}"), format!("left u1 {channel}"), "disconnected u1".to_owned()];
        assert_eq!(world.noted(), left);
        world.leave(clients[2]);
        world.settle();
        let mut last = world.noted();
        // The owner hears of it at once, or by a letter.
        last.sort();
        assert_eq!(last, ["disconnected u1".to_owned(), format!("left u1 {channel}"), format!("vacated {channel}")]);
        world.leave(clients[2]);
        world.subscribe(clients[0], &channel);
        assert_eq!(world.noted(), [format!("occupied {channel}"), format!("joined u0 {channel}")], "and anew");
    }
}

#[test]
fn nothing_is_noted_where_nobody_asks_and_of_the_rest_only_what_is_asked_for() {
    let mut world = World::new(1, config());
    let client = world.connected(0);
    world.subscribe(client, "a");
    world.leave(client);
    assert_eq!(world.noted(), [""; 0]);

    let mut config = config();
    config.channels.namespaces = vec![Namespace { name: "news".to_owned(), ..Namespace::default() }];
    let (kinds, namespaces) = (vec![Kind::Connected, Kind::Left, Kind::Vacated], Some(vec!["news".to_owned()]));
    let mut world = World::new(1, told(config, Events { kinds, namespaces, ..Events::default() }));
    let client = world.connected(0);
    for channel in ["a", "news:a"] {
        world.subscribe(client, channel);
        world.unsubscribe(client, channel);
    }
    world.leave(client);
    assert_eq!(world.noted(), ["connected u0", "left u0 news:a", "vacated news:a"]);
}

#[test]
fn who_does_not_come_in_is_not_noted_and_leaves_nothing() {
    for channel in channels_everywhere(2) {
        let mut world = World::new(2, told(with_history(9), Events::default()));
        let client = world.connected(0);
        world.noted();
        // A position that cannot be recovered, where that is to be an error: nobody came.
        let since = "\"recover\":true,\"recoverable\":true,\"epoch\":\"none\",\"offset\":3,\"flag\":2";
        world.say(client, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",{since}}}}}"));
        assert!(world.heard(client)[0].contains("\"code\":112"));
        assert_eq!(world.noted(), [""; 0]);
        let stranger = world.open(1);
        world.say(stranger, "{\"id\":1,\"connect\":{\"token\":\"none\"}}");
        assert!(world.code(stranger).is_some());
        assert_eq!(world.noted(), [""; 0]);
        // Who left before the owner answered was never there; the channel was, for a moment.
        let brief = world.connected(1);
        world.noted();
        world.push(brief, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        world.leave(brief);
        world.settle();
        let mut noted = world.noted();
        noted.sort();
        assert_eq!(noted, ["disconnected u1".to_owned(), format!("occupied {channel}"), format!("vacated {channel}")]);
    }
}

#[test]
fn who_is_sent_away_is_noted_as_who_goes() {
    let mut world = World::new(1, told(config(), Events::default()));
    let client = world.connected(0);
    world.subscribe(client, "a");
    world.noted();
    for (channel, noted) in [("a", &["left u0 a", "vacated a"][..]), ("", &["disconnected u0"])] {
        let sanction = Sanction { kind: Forbidden::Ban, user: "u0".into(), channel: channel.into(), until: FOREVER };
        let (ticket, _reply) = annulus_engine::compute::ticket();
        let order = Arc::new(crate::chat::letters::Order::Sanction(sanction));
        world.letters.push_back((0, Letter::Order { order, reply: Reply(ticket) }));
        world.settle();
        assert_eq!(world.noted(), noted);
    }
}
