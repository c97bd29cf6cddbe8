//! Tenants: clients that keep to some namespaces, and what a namespace's channels may take together.

use super::*;
use crate::chat::config::Rate;
use crate::chat::quota;
use crate::chat::tokens::ConnectionClaims;

fn tenants(change: impl Fn(&mut Namespace)) -> Config {
    let mut config = config();
    config.channels.namespaces = ["acme", "globex"]
        .map(|name| {
            let mut namespace = Namespace { name: name.to_owned(), ..Namespace::default() };
            change(&mut namespace);
            namespace
        })
        .into();
    config
}

fn subscribe(channel: &str) -> String {
    format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}")
}

fn unsubscribe(channel: &str) -> String {
    format!("{{\"id\":3,\"unsubscribe\":{{\"channel\":\"{channel}\"}}}}")
}

impl World {
    /// The code of the error that a command is answered with; 0: none.
    fn error(&mut self, place: Place, command: &str) -> u32 {
        self.say(place, command);
        let heard = self.heard(place);
        let reply = heard.iter().find(|text| text.starts_with("{\"id\":")).expect("a reply");
        let code =
            reply.split("\"error\":{\"code\":").nth(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap());
        code.unwrap_or(0)
    }

    fn quota(&self, name: &str) -> &quota::Quota {
        let common = &self.hubs[0].common;
        common.quota(&format!("{name}:")).unwrap()
    }
}

#[test]
fn a_client_keeps_to_the_namespaces_that_its_token_names() {
    let mut world = World::new(2, tenants(|_| {}));
    let client = world.open(0);
    world.with(client, |hub, ports, now, conn, client| {
        let claims = ConnectionClaims {
            user: "ann".to_owned(),
            namespaces: Some(vec!["acme".to_owned()]),
            channels: vec!["globex:all".to_owned()],
            ..ConnectionClaims::default()
        };
        let connect = b"{\"id\":1,\"connect\":{\"token\":\"t\"}}";
        let mut held = Held { commands: connect.to_vec(), evidence: Evidence::default(), waits: Waits::Found };
        held.evidence.connection = Some(Ok(claims));
        client.held = Some(Box::new(held));
        hub.go_on(ports, now, conn, client);
        Outcome::Continue
    });
    world.settle();
    let connected = world.heard(client).join("");
    assert!(connected.contains("\"globex:all\""), "what the token grants itself is granted: {connected}");
    assert_eq!(world.error(client, &subscribe("acme:a")), 0);
    let elsewhere = [
        subscribe("globex:a"),
        subscribe("a"),
        "{\"id\":2,\"publish\":{\"channel\":\"globex:a\",\"data\":1}}".to_owned(),
        "{\"id\":2,\"history\":{\"channel\":\"globex:a\"}}".to_owned(),
        "{\"id\":2,\"presence\":{\"channel\":\"globex:a\"}}".to_owned(),
        "{\"id\":2,\"presence_stats\":{\"channel\":\"a\"}}".to_owned(),
    ];
    for command in elsewhere {
        assert_eq!(world.error(client, &command), 103, "{command}");
    }
    assert_eq!(world.error(client, "{\"id\":2,\"publish\":{\"channel\":\"acme:a\",\"data\":1}}"), 0);
    let other = world.connected(1);
    assert_eq!(world.error(other, &subscribe("globex:a")), 0, "whose token names none may go anywhere");
}

#[test]
fn subscriptions_of_a_namespace_are_counted_over_all_shards() {
    let mut world = World::new(2, tenants(|namespace| namespace.subscriptions_max = 3));
    let clients: Vec<_> = (0..4).map(|n| world.connected(n % 2)).collect();
    let codes: Vec<_> = clients.iter().map(|client| world.error(*client, &subscribe("acme:a"))).collect();
    assert_eq!(codes, [0, 0, 0, 106]);
    assert_eq!(world.error(clients[3], &subscribe("globex:a")), 0, "another tenant's are its own");
    assert_eq!(world.error(clients[3], &subscribe("a")), 0);
    world.say(clients[0], &unsubscribe("acme:a"));
    world.heard(clients[0]);
    assert_eq!(world.error(clients[3], &subscribe("acme:b")), 0);
    assert_eq!((world.quota("acme").subscriptions(), world.quota("acme").refused(quota::Kind::Subscriptions)), (3, 1));
    for client in clients {
        world.leave(client);
    }
    world.settle();
    assert_eq!((world.quota("acme").subscriptions(), world.quota("globex").subscriptions()), (0, 0));
    let nothing = |hub: &Hub| hub.channels.iter().all(|channel| channel.count() == 0 && channel.arriving == 0);
    assert!(world.hubs.iter().all(nothing));
}

#[test]
fn channels_of_a_namespace_are_counted_where_they_are_owned() {
    let mut world = World::new(2, tenants(|namespace| namespace.channels_max = 2));
    let (one, other) = (world.connected(0), world.connected(1));
    assert_eq!(world.error(one, &subscribe("acme:a")), 0);
    assert_eq!(world.error(one, &subscribe("acme:b")), 0);
    assert_eq!(world.error(one, &subscribe("acme:c")), 106);
    assert_eq!(world.error(other, &subscribe("acme:a")), 0, "it is there already");
    world.say(one, &unsubscribe("acme:a"));
    world.say(one, &unsubscribe("acme:b"));
    world.heard(one);
    assert_eq!(world.quota("acme").channels(), 1);
    assert_eq!(world.error(one, &subscribe("acme:c")), 0);
    world.leave(one);
    world.leave(other);
    world.settle();
    assert_eq!(world.quota("acme").channels(), 0);
}

#[test]
fn publications_of_a_namespace_share_a_rate() {
    let rate = Rate { per_second: 2, burst: 4 };
    let mut world = World::new(2, tenants(|namespace| namespace.publications = rate));
    let clients = [world.connected(0), world.connected(1)];
    let publish = "{\"id\":2,\"publish\":{\"channel\":\"acme:a\",\"data\":1}}";
    let codes: Vec<_> = (0..6).map(|n| world.error(clients[n % 2], publish)).collect();
    assert_eq!(codes, [0, 0, 0, 0, 111, 111]);
    assert_eq!(world.error(clients[0], &publish.replace("acme", "globex")), 0);
    world.now += 500;
    assert_eq!(world.error(clients[1], publish), 0);
    assert_eq!(world.error(clients[0], publish), 111);
    assert_eq!(world.quota("acme").refused(quota::Kind::Publications), 3);
}
