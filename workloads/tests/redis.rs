//! The Redis client with real servers: order, doubt and certainty, what a killed, frozen, demoted or foreign server does, and
//! channels that are heard again.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use annulus::redis::{Durability as Promise, Event, Events, Redis, Script, Settings, Subscriber, Trouble, Value};
use annulus_engine::{Engine, Shard};
use outside::certificates::Authority;
use outside::redis::{Cluster, Durability, Redis as Server};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('APPEND', KEYS[1], ARGV[1])"));

/// Runs a scenario on a shard.
fn on_a_shard<F: Future<Output = ()> + 'static>(scenario: impl Fn(Shard) -> F + Send + Sync + Clone + 'static) {
    Engine::builder().shards(1).oversubscribed().run(scenario).unwrap();
}

fn settings(url: &str) -> Settings {
    Settings::parse(url).unwrap()
}

/// A connection that is up.
async fn connected(shard: &Shard, url: &str) -> Redis {
    let redis = Redis::start(shard, &settings(url), "tests");
    shard.timeout(PATIENCE, redis.up()).await.expect("Redis lets us in");
    redis
}

/// Waits until something is so.
async fn until(shard: &Shard, what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            shard.sleep(Duration::from_millis(2)).await;
        }
    };
    shard.timeout(PATIENCE, waiting).await.unwrap_or_else(|_elapsed| panic!("{what}"));
}

async fn heard(shard: &Shard, events: &mut Events) -> Event {
    shard.timeout(PATIENCE, events.next()).await.expect("an event")
}

/// The value of a metric of the shard.
fn metric(shard: &Shard, name: &str) -> u64 {
    let text = annulus_engine::metrics::render(shard.all_metrics());
    let line = text.lines().find(|line| line.starts_with(name) && line.contains("for=\"tests\"")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

fn event(kind: &str, channel: &'static str, payload: &'static str) -> Event {
    let channel = channel.into();
    match kind {
        "subscribed" => Event::Subscribed { channel },
        _ => Event::Message { channel, payload: payload.into() },
    }
}

#[test]
fn calls_are_carried_out_in_order_and_share_sends() {
    let Some(server) = Server::start(Durability::None) else { return };
    let url = server.url();
    on_a_shard(move |shard| {
        let url = url.clone();
        async move {
            let redis = connected(&shard, &url).await;
            let before = metric(&shard, "annulus_redis_sends_total");
            let answers: Vec<_> = (0..5_000).map(|_| redis.call(["INCR", "counter"])).collect();
            for (answer, number) in answers.into_iter().zip(1..) {
                assert_eq!(answer.await, Ok(Value::Int(number)));
            }
            let sends = metric(&shard, "annulus_redis_sends_total") - before;
            assert!(sends <= 5, "calls of one turn leave together, not in {sends} sends");

            // Tasks beside each other, whose calls come one after the other and meet.
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let redis = redis.clone();
                    shard.spawn(async move {
                        for _ in 0..40 {
                            redis.call(["INCR", "counter"]).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let shared = metric(&shard, "annulus_redis_sends_total") - before - sends;
            assert!(shared <= 1_000, "2,000 calls of 50 tasks in {shared} sends");
            assert_eq!(redis.call(["GET", "counter"]).await.unwrap().as_int(), Some(7_000));

            // Everything that an answer can be.
            redis.call(["HSET", "hash", "a", "1", "b", ""]).await.unwrap();
            let pairs = redis.call(["HGETALL", "hash"]).await.unwrap().into_pairs().unwrap();
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| (key.as_str().unwrap(), value.as_str().unwrap())).collect();
            assert_eq!(pairs, [("a", "1"), ("b", "")]);
            assert_eq!(redis.call(["GET", "nothing"]).await, Ok(Value::Nil));
            assert_eq!(redis.call(["SET", "blob", &"x".repeat(3 << 20)]).await.unwrap().as_str(), Some("OK"));
            assert_eq!(redis.call(["GET", "blob"]).await.unwrap().into_bytes().unwrap().len(), 3 << 20);
            assert!(redis.call(["LPUSH", "hash", "x"]).await.unwrap_err().is("WRONGTYPE"));
            assert!(redis.call(["NOSUCH"]).await.unwrap_err().is("ERR"));
        }
    });
}

#[test]
fn scripts_keep_their_order_when_the_server_forgets_them() {
    let Some(server) = Server::start(Durability::None) else { return };
    let url = server.url();
    on_a_shard(move |shard| {
        let url = url.clone();
        async move {
            let redis = connected(&shard, &url).await;
            let mut answers = Vec::new();
            for letter in b'a'..=b'z' {
                answers.push(redis.script(&APPEND, &[b"text"], &[&[letter]]));
                if letter % 5 == 0 {
                    drop(redis.call(["SCRIPT", "FLUSH"]));
                }
                if letter % 7 == 0 {
                    shard.sleep(Duration::from_millis(2)).await;
                }
            }
            for (answer, length) in answers.into_iter().zip(1..) {
                assert_eq!(answer.await, Ok(Value::Int(length)));
            }
            assert_eq!(redis.call(["GET", "text"]).await.unwrap().as_str(), Some("abcdefghijklmnopqrstuvwxyz"));
            let wrong = redis.script(&APPEND, &[b"text"], &[]).await.unwrap_err();
            assert!(matches!(wrong, Trouble::Refused { .. }), "{wrong}");
        }
    });
}

#[test]
fn a_killed_server_leaves_doubt_only_where_something_was_sent() {
    let Some(server) = Server::start(Durability::Always) else { return };
    let server = Arc::new(std::sync::Mutex::new(server));
    on_a_shard(move |shard| {
        let server = server.clone();
        async move {
            let url = server.lock().unwrap().url();
            let redis = connected(&shard, &url).await;
            let facts = redis.server().unwrap();
            assert_eq!((facts.durability, facts.is_promoted), (Promise::Always, false));
            assert_eq!(redis.call(["INCR", "counter"]).await, Ok(Value::Int(1)));

            server.lock().unwrap().freeze();
            let sent = redis.call(["INCR", "counter"]);
            shard.sleep(Duration::from_millis(20)).await;
            server.lock().unwrap().kill();
            assert!(matches!(sent.await, Err(Trouble::Doubtful(_))));
            assert!(matches!(redis.call(["INCR", "counter"]).await, Err(Trouble::Away(_))));
            assert!(!redis.is_up() && redis.server().is_none());

            server.lock().unwrap().start_again();
            shard.timeout(PATIENCE, redis.up()).await.expect("it connects by itself");
            assert_ne!(redis.server().unwrap().run_id, facts.run_id, "another run of the server");
            let counter = redis.call(["GET", "counter"]).await.unwrap().as_int();
            assert_eq!(counter, Some(1), "what was acknowledged is there, what was sent to a dead server is not");
        }
    });
}

#[test]
fn what_was_said_of_calls_is_true_whenever_the_server_dies() {
    let Some(server) = Server::start(Durability::Always) else { return };
    let server = Arc::new(std::sync::Mutex::new(server));
    on_a_shard(move |shard| {
        let server = server.clone();
        async move {
            let url = server.lock().unwrap().url();
            let redis = connected(&shard, &url).await;
            let stop = std::rc::Rc::new(std::cell::Cell::new(false));
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let (redis, stop, own) = (redis.clone(), stop.clone(), shard.clone());
                    shard.spawn(async move {
                        let (mut done, mut doubtful, mut undone) = (0, 0, 0);
                        while !stop.get() {
                            match redis.call(["INCR", "counter"]).await {
                                Ok(_) => done += 1,
                                Err(Trouble::Doubtful(_)) => doubtful += 1,
                                Err(_) => {
                                    undone += 1;
                                    own.sleep(Duration::from_millis(1)).await;
                                }
                            }
                        }
                        (done, doubtful, undone)
                    })
                })
                .collect();
            for _ in 0..5 {
                shard.sleep(Duration::from_millis(30)).await;
                server.lock().unwrap().kill();
                until(&shard, "it is noticed", || !redis.is_up()).await;
                shard.sleep(Duration::from_millis(5)).await;
                server.lock().unwrap().start_again();
                shard.timeout(PATIENCE, redis.up()).await.expect("it connects by itself");
            }
            stop.set(true);
            let mut sums = (0, 0, 0);
            for task in tasks {
                let (done, doubtful, undone) = task.await.unwrap();
                sums = (sums.0 + done, sums.1 + doubtful, sums.2 + undone);
            }
            let (done, doubtful, undone) = sums;
            let counter = redis.call(["GET", "counter"]).await.unwrap().as_int().unwrap();
            assert!((done..=done + doubtful).contains(&counter), "{counter}: {done} done, {doubtful} in doubt");
            assert!(done > 0 && doubtful > 0 && undone > 0, "{done} done, {doubtful} in doubt, {undone} not");
        }
    });
}

#[test]
fn a_frozen_server_is_given_up() {
    let Some(server) = Server::start(Durability::None) else { return };
    on_a_shard({
        let server = Arc::new(server);
        move |shard| {
            let server = server.clone();
            async move {
                let url = format!("{}?answer_ms=150&connect_ms=150", server.url());
                let redis = connected(&shard, &url).await;
                let (subscriber, mut events) = Subscriber::start(&shard, &settings(&url), "tests");
                subscriber.subscribe("news");
                assert_eq!(heard(&shard, &mut events).await, event("subscribed", "news", ""));
                server.freeze();
                let Err(Trouble::Doubtful(why)) = redis.call(["PING"]).await else { panic!("it is frozen") };
                assert!(why.contains("no answer within 150ms"), "{why}");
                assert_eq!(heard(&shard, &mut events).await, Event::Lost);
                shard.sleep(Duration::from_millis(300)).await;
                let Err(Trouble::Away(why)) = redis.call(["PING"]).await else { panic!("it is frozen") };
                assert!(why.contains("did not let us in"), "{why}");
                server.thaw();
                shard.timeout(PATIENCE, redis.up()).await.expect("it lets us in again");
                assert_eq!(heard(&shard, &mut events).await, event("subscribed", "news", ""));
            }
        }
    });
}

#[test]
fn channels_are_heard_again_after_a_loss() {
    let Some(server) = Server::start(Durability::None) else { return };
    let server = Arc::new(std::sync::Mutex::new(server));
    on_a_shard(move |shard| {
        let server = server.clone();
        async move {
            let url = server.lock().unwrap().url();
            let redis = connected(&shard, &url).await;
            let (subscriber, mut events) = Subscriber::start(&shard, &settings(&url), "tests");
            subscriber.subscribe("a");
            subscriber.subscribe("b");
            subscriber.subscribe("a");
            for channel in ["a", "b"] {
                assert_eq!(heard(&shard, &mut events).await, event("subscribed", channel, ""));
            }
            redis.publish(b"a", b"one").await.unwrap();
            redis.publish(b"c", b"nobody listens").await.unwrap();
            redis.publish(b"b", b"two").await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("message", "a", "one"));
            assert_eq!(heard(&shard, &mut events).await, event("message", "b", "two"));

            // What was overtaken says nothing: one confirmation, that of the last subscription.
            subscriber.unsubscribe("b");
            for _ in 0..3 {
                subscriber.subscribe("c");
                subscriber.unsubscribe("c");
            }
            subscriber.subscribe("c");
            assert_eq!(heard(&shard, &mut events).await, event("subscribed", "c", ""));
            redis.publish(b"b", b"not heard").await.unwrap();
            redis.publish(b"c", b"three").await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("message", "c", "three"));

            server.lock().unwrap().kill();
            assert_eq!(heard(&shard, &mut events).await, Event::Lost);
            subscriber.subscribe("d");
            server.lock().unwrap().start_again();
            for channel in ["a", "c", "d"] {
                assert_eq!(heard(&shard, &mut events).await, event("subscribed", channel, ""));
            }
            shard.timeout(PATIENCE, redis.up()).await.unwrap();
            redis.publish(b"d", b"four").await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("message", "d", "four"));

            // Ended, it leaves the server.
            drop(subscriber);
            drop(events);
            let clients = |server: &Server| server.cli(&["CLIENT", "LIST"]);
            until(&shard, "the subscriber has left", || !clients(&server.lock().unwrap()).contains("sub=3")).await;
            assert!(clients(&server.lock().unwrap()).contains("name=annulus-tests "));
            drop(redis);
            until(&shard, "all have left", || !clients(&server.lock().unwrap()).contains("annulus")).await;
        }
    });
}

#[test]
fn a_demoted_server_is_left_and_a_promoted_one_is_told() {
    let (Some(server), Some(other)) = (Server::start(Durability::EverySecond), Server::start(Durability::None)) else {
        return;
    };
    let servers = Arc::new((server, other));
    on_a_shard(move |shard| {
        let servers = servers.clone();
        async move {
            let (server, other) = &*servers;
            let redis = connected(&shard, &server.url()).await;
            assert_eq!(redis.server().unwrap().durability, Promise::EverySecond);
            server.cli(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
            let refused = redis.call(["SET", "a", "1"]).await.unwrap_err();
            assert!(refused.is_passing() && matches!(refused, Trouble::Refused { .. }), "{refused}");
            until(&shard, "a replica is not used", || !redis.is_up()).await;
            let is_linked = || server.cli(&["INFO", "replication"]).contains("master_link_status:up");
            until(&shard, "it follows the other", is_linked).await;
            let Err(Trouble::Away(why)) = redis.call(["SET", "a", "1"]).await else { panic!("it is a replica") };
            assert!(why.contains("replica of 127.0.0.1") || why.contains("READONLY"), "{why}");
            server.cli(&["REPLICAOF", "NO", "ONE"]);
            shard.timeout(PATIENCE, redis.up()).await.expect("it takes writes again");
            assert!(redis.server().unwrap().is_promoted);
            assert_eq!(redis.call(["SET", "a", "1"]).await.unwrap().as_str(), Some("OK"));
        }
    });
}

#[test]
fn users_passwords_databases_and_old_versions() {
    let options = ["--user", "chat", "on", ">geheim", "~*", "&*", "+@all", "-config", "--user", "default", "off"];
    let Some(mut server) = Server::start_with(Durability::None, &options) else { return };
    server.login = ["--user", "chat", "--pass", "geheim"].map(str::to_owned).into();
    // Servers before 6 do not know HELLO.
    let Some(old) = Server::start_with(Durability::None, &["--rename-command", "HELLO", "", "--requirepass", "alt"])
    else {
        return;
    };
    let ports = (server.port, old.port);
    on_a_shard(move |shard| async move {
        let redis = connected(&shard, &format!("redis://chat:geheim@127.0.0.1:{}/5", ports.0)).await;
        assert_eq!(redis.server().unwrap().durability, Promise::No, "INFO says so where CONFIG is refused");
        redis.call(["SET", "where", "five"]).await.unwrap();
        let elsewhere = connected(&shard, &format!("redis://chat:geheim@127.0.0.1:{}", ports.0)).await;
        assert_eq!(elsewhere.call(["GET", "where"]).await, Ok(Value::Nil));

        for (url, says) in [
            (format!("redis://chat:wrong@127.0.0.1:{}", ports.0), "WRONGPASS"),
            (format!("redis://127.0.0.1:{}", ports.0), "NOAUTH"),
            (format!("redis://127.0.0.1:{}", ports.1), "NOAUTH"),
            (format!("redis://chat:geheim@127.0.0.1:{}/99", ports.0), "out of range"),
        ] {
            let refused = Redis::start(&shard, &settings(&url), "tests");
            let says_so =
                || async { matches!(refused.call(["PING"]).await, Err(Trouble::Away(why)) if why.contains(says)) };
            let waiting = async {
                while !says_so().await {
                    shard.sleep(Duration::from_millis(2)).await;
                }
            };
            shard.timeout(PATIENCE, waiting).await.unwrap_or_else(|_elapsed| panic!("{url} says {says}"));
        }

        let url = format!("redis://:alt@127.0.0.1:{}", ports.1);
        let redis = connected(&shard, &url).await;
        assert_eq!(redis.call(["HSET", "hash", "a", "1"]).await, Ok(Value::Int(1)));
        let all = redis.call(["HGETALL", "hash"]).await.unwrap();
        assert!(matches!(all, Value::List(_)), "RESP2 has no maps");
        assert_eq!(all.into_pairs().unwrap().len(), 1);
        let (subscriber, mut events) = Subscriber::start(&shard, &settings(&format!("{url}?answer_ms=50")), "tests");
        subscriber.subscribe("old");
        assert_eq!(heard(&shard, &mut events).await, event("subscribed", "old", ""));
        // Longer than it may be silent: the sign of life is understood in RESP2, too.
        shard.sleep(Duration::from_millis(250)).await;
        redis.publish(b"old", b"message").await.unwrap();
        assert_eq!(heard(&shard, &mut events).await, event("message", "old", "message"));
    });
}

#[test]
fn tls_believes_whom_it_should() {
    let Some(authority) = Authority::new("Redis over TLS") else { return };
    let Some(server) = Server::start_tls(Durability::None, &authority) else { return };
    let server = Arc::new(server);
    on_a_shard(move |shard| {
        let server = server.clone();
        async move {
            let redis = connected(&shard, &server.url()).await;
            redis.call(["SET", "blob", &"x".repeat(1 << 20)]).await.unwrap();
            assert_eq!(redis.call(["STRLEN", "blob"]).await, Ok(Value::Int(1 << 20)));
            let stranger = Redis::start(&shard, &settings(&format!("rediss://localhost:{}", server.port)), "tests");
            let trusting = connected(&shard, &format!("rediss://localhost:{}?insecure=1", server.port)).await;
            assert_eq!(trusting.call(["STRLEN", "blob"]).await, Ok(Value::Int(1 << 20)));
            let Err(Trouble::Away(why)) = stranger.call(["PING"]).await else {
                panic!("its certificate proves nothing")
            };
            assert!(why.contains("certificate") || why.contains("not connected"), "{why}");
            let (subscriber, mut events) = Subscriber::start(&shard, &settings(&server.url()), "tests");
            subscriber.subscribe("a");
            assert_eq!(heard(&shard, &mut events).await, event("subscribed", "a", ""));
        }
    });
}

#[test]
fn a_full_server_is_waited_for() {
    let Some(server) = Server::start_with(Durability::None, &["--maxclients", "1"]) else { return };
    let url = server.url();
    on_a_shard(move |shard| {
        let url = url.clone();
        async move {
            let first = connected(&shard, &url).await;
            let second = Redis::start(&shard, &settings(&url), "tests");
            let says_so = async {
                while !matches!(second.call(["PING"]).await, Err(Trouble::Away(why)) if why.contains("maxclients")) {
                    shard.sleep(Duration::from_millis(2)).await;
                }
            };
            shard.timeout(PATIENCE, says_so).await.expect("it says that it is full");
            drop(first);
            shard.timeout(PATIENCE, second.up()).await.expect("there is room");
        }
    });
}

/// A server that greets well and then answers with what it is given.
fn stranger(wire: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            let _hello = stream.read(&mut asked);
            let _greeted = stream.write_all(b"%0\r\n");
            let _looked = stream.read(&mut asked);
            let _answered = stream.write_all(&b"+OK\r\n".repeat(7));
            let _called = stream.read(&mut asked);
            let _wrong = stream.write_all(wire);
            // Until the client has gone.
            while matches!(stream.read(&mut asked), Ok(1..)) {}
        }
    });
    port
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let deep: &[u8] =
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n";
    let cases: [(&'static [u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "begins with byte 0x48"),
        (b"$999999999\r\n", "67108864 bytes"),
        (b"*999999999\r\n", "values"),
        (b"+PONG\r\n+PONG\r\n", ""),
        (deep, "16 deep"),
    ];
    let cases = cases.map(|(wire, says)| (stranger(wire), says));
    on_a_shard(move |shard| async move {
        for (port, says) in cases {
            let redis = connected(&shard, &format!("redis://127.0.0.1:{port}")).await;
            match redis.call(["PING"]).await {
                Err(Trouble::Doubtful(why)) => assert!(!says.is_empty() && why.contains(says), "{says}: {why}"),
                other => assert!(says.is_empty() && other.is_ok(), "{says}: {other:?}"),
            }
            until(&shard, "it is left", || !redis.is_up()).await;
        }
    });
}

/// The tag of keys and channels in a slot of the first, second or third primary; found by the server's own word.
fn tag_of(cluster: &Cluster, primary: usize) -> (&'static str, usize) {
    let tags = ["{a}", "{b}", "{c}", "{d}", "{e}", "{f}", "{g}", "{h}"];
    let slots = tags.map(|tag| cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", tag]).parse::<usize>().unwrap());
    let at = slots.iter().position(|slot| slot * 3 / 16_384 == primary).expect("eight letters are enough");
    (tags[at], slots[at])
}

#[test]
fn a_cluster_is_one_while_slots_move_and_a_primary_dies() {
    let Some(cluster) = Cluster::start_with_replicas(3, &[2], Durability::None) else { return };
    let replica = 3;
    let tags: Vec<(&'static str, usize)> = (0..3).map(|primary| tag_of(&cluster, primary)).collect();
    let cluster = Arc::new(std::sync::Mutex::new(cluster));
    on_a_shard(move |shard| {
        let (cluster, tags) = (cluster.clone(), tags.clone());
        async move {
            let url = cluster.lock().unwrap().url();
            let redis = connected(&shard, &url).await;

            // Keys are spread, and every call finds its own.
            let answers: Vec<_> = (0..300).map(|key| redis.call(["SET", &format!("key{key}"), "x"])).collect();
            for answer in answers {
                assert_eq!(answer.await.unwrap().as_str(), Some("OK"));
            }
            let sizes =
                [0, 1, 2].map(|node| cluster.lock().unwrap().nodes[node].cli(&["DBSIZE"]).parse::<i64>().unwrap());
            assert!(sizes.iter().sum::<i64>() == 300 && sizes.iter().all(|size| *size > 50), "{sizes:?}");
            let mut runs: Vec<_> =
                tags.iter().map(|tag| redis.server_of(tag.0.as_bytes()).unwrap().run_id.clone()).collect();
            runs.sort();
            runs.dedup();
            assert_eq!(runs.len(), 3, "three servers");
            assert!(redis.call(["MSET", "{a}1", "x", "{b}1", "x"]).await.unwrap_err().is("CROSSSLOT"));

            // Channels are where their slots are.
            let (subscriber, mut events) = Subscriber::start(&shard, &settings(&url), "tests");
            tags.iter().for_each(|tag| subscriber.subscribe(tag.0));
            let mut heard_of = Vec::new();
            for _ in 0..3 {
                heard_of.push(heard(&shard, &mut events).await);
            }
            for (tag, _) in &tags {
                assert!(heard_of.contains(&event("subscribed", tag, "")));
                redis.publish(tag.as_bytes(), b"one").await.unwrap();
                assert_eq!(heard(&shard, &mut events).await, event("message", tag, "one"));
            }

            // A slot moves under calls that go on: every one is carried out, once.
            let (tag, slot) = tags[0];
            let stop = std::rc::Rc::new(std::cell::Cell::new(false));
            let tasks: Vec<_> = (0..8)
                .map(|number| {
                    let (redis, stop, shard, key) =
                        (redis.clone(), stop.clone(), shard.clone(), format!("{tag}{number}"));
                    shard.clone().spawn(async move {
                        let mut count = 0;
                        while !stop.get() {
                            match count % 2 {
                                0 => redis.call(["APPEND", &key, "x"]).await.unwrap(),
                                _ => redis.script(&APPEND, &[key.as_bytes()], &[b"x"]).await.unwrap(),
                            };
                            count += 1;
                            shard.sleep(Duration::from_millis(1)).await;
                        }
                        (key, count)
                    })
                })
                .collect();
            let moving = {
                let cluster = cluster.clone();
                std::thread::spawn(move || {
                    let pause = || std::thread::sleep(Duration::from_millis(100));
                    pause();
                    cluster.lock().unwrap().migrate(slot, 0, 1, pause);
                    pause();
                })
            };
            until(&shard, "the slot has moved", || moving.is_finished()).await;
            moving.join().unwrap();
            stop.set(true);
            for task in tasks {
                let (key, count) = task.await.unwrap();
                assert_eq!(redis.call(["STRLEN", &key]).await, Ok(Value::Int(count)), "{key}");
            }
            assert_eq!(heard(&shard, &mut events).await, event("subscribed", tag, ""), "it is heard at its new owner");
            redis.publish(tag.as_bytes(), b"two").await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("message", tag, "two"));

            // A primary dies, and its replica takes over.
            let tag = tags[2].0;
            cluster.lock().unwrap().nodes[2].kill();
            assert_eq!(heard(&shard, &mut events).await, Event::Lost);
            let mut again = [heard(&shard, &mut events).await, heard(&shard, &mut events).await];
            again.sort_by_key(|event| format!("{event:?}"));
            let mut others = [event("subscribed", tags[0].0, ""), event("subscribed", tags[1].0, "")];
            others.sort_by_key(|event| format!("{event:?}"));
            assert_eq!(again, others, "the other servers are there");
            until(&shard, "it is away", || redis.server_of(tag.as_bytes()).is_none()).await;
            assert!(!redis.is_up());
            assert!(matches!(redis.call(["GET", tag]).await, Err(Trouble::Away(_))));
            redis.call(["GET", tags[1].0]).await.expect("the others serve");
            assert_eq!(cluster.lock().unwrap().nodes[replica].cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
            shard.timeout(PATIENCE, redis.up()).await.expect("the replica serves");
            assert!(redis.server_of(tag.as_bytes()).unwrap().is_promoted);
            redis.call(["SET", tag, "x"]).await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("subscribed", tag, ""));
            redis.publish(tag.as_bytes(), b"three").await.unwrap();
            assert_eq!(heard(&shard, &mut events).await, event("message", tag, "three"));
        }
    });
}
